//! A column of a row group: its pages, row by row.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef};
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::serialized_reader::SerializedPageReader;

use super::bits;
use super::content::Content;
use super::hybrid::Hybrid;
use super::shape::Shape;
use super::starts::Starts;
use super::values::{Decoder, Dictionary, Kind, Values};

/// Levels that are decoded at a time.
const LEVELS: usize = 1024;

/// Reads a column from its first row to its last.
pub struct Column {
    field: FieldRef,
    shape: Shape,
    kind: Kind,
    pages: SerializedPageReader<Content>,
    /// Levels that are still to come, by the file's footer.
    left: usize,
    dictionary: Option<Dictionary>,
    /// Those of the row group's lists.
    starts: Starts,
    page: Option<OpenPage>,
    levels: Levels,
}

/// A page under way.
struct OpenPage {
    /// Levels, one per value, null and empty list.
    count: usize,
    /// Places of the levels that begin a list, of which those up to `next_start` are taken.
    starts: Arc<[u32]>,
    next_start: usize,
    /// `None`: all values are there.
    definitions: Option<Hybrid>,
    values: Decoder,
}

/// Levels of the page, by place: those up to `at` are taken, those up to `end` are decoded.
#[derive(Default)]
struct Levels {
    at: usize,
    end: usize,
    /// Of the decoded ones from `first` on; empty where all values are there.
    definitions: Vec<u8>,
    first: usize,
}

/// Rows of a column as they are read.
struct Rows {
    count: usize,
    /// Where the elements of each row begin.
    offsets: Vec<i32>,
    /// Whether each row is a list; empty while all are.
    is_list: Vec<bool>,
    /// Whether each element has a value; empty while all have.
    is_valid: Vec<bool>,
    values: Values,
}

impl Column {
    /// The column whose `pages` have so many `levels`, as an array of the type of `field`. `starts` is of its row group.
    pub fn new(
        field: FieldRef,
        shape: Shape,
        kind: Kind,
        pages: SerializedPageReader<Content>,
        levels: usize,
        starts: Starts,
    ) -> Self {
        let levels_taken = Levels::default();
        Self { field, shape, kind, pages, left: levels, dictionary: None, starts, page: None, levels: levels_taken }
    }

    /// The next `count` rows. `elements` is how many elements they are likely to have.
    pub fn take(&mut self, count: usize, elements: usize) -> Result<ArrayRef> {
        let mut rows = Rows {
            count: 0,
            offsets: Vec::with_capacity(if self.shape.is_list { count + 1 } else { 0 }),
            is_list: vec![],
            is_valid: vec![],
            values: Values::with_capacity(self.kind, elements),
        };
        while self.has_levels()? {
            let end = self.end_of(count - rows.count);
            self.take_levels(end, &mut rows)?;
            if end < self.levels.end {
                break;
            }
        }
        if rows.count < count {
            return Err(bits::cut_short());
        }
        self.finish(rows)
    }

    /// Takes the decoded levels up to `end`, and their values.
    fn take_levels(&mut self, end: usize, rows: &mut Rows) -> Result<()> {
        let Some(page) = &mut self.page else { return Ok(()) };
        let levels = &mut self.levels;
        let first = rows.values.len();
        let begins =
            !self.shape.is_list || page.starts.get(page.next_start).is_some_and(|at| *at as usize == levels.at);
        if rows.count == 0 && end > levels.at && !begins {
            return Err(ParquetError::General("a value that goes on with a list before the first".to_owned()));
        }
        if levels.definitions.is_empty() {
            let count = end - levels.at;
            offset(first + count)?;
            if self.shape.is_list {
                let starts = &page.starts[page.next_start..];
                let starts = &starts[..starts.partition_point(|start| (*start as usize) < end)];
                rows.offsets.extend(starts.iter().map(|start| (first + *start as usize - levels.at) as i32));
                rows.count += starts.len();
                page.next_start += starts.len();
                if !rows.is_list.is_empty() {
                    rows.is_list.resize(rows.count, true);
                }
            } else {
                rows.count += count;
            }
            page.values.take(count, &mut rows.values)?;
            if !rows.is_valid.is_empty() {
                rows.is_valid.resize(rows.values.len(), true);
            }
        } else {
            rows.is_valid.resize(first, true);
            for level in levels.at..end {
                let definition = levels.definitions[level - levels.first];
                if !self.shape.is_list {
                    rows.count += 1;
                } else if page.starts.get(page.next_start).is_some_and(|start| *start as usize == level) {
                    rows.start(self.shape.is_null_list(definition))?;
                    page.next_start += 1;
                }
                if self.shape.is_element(definition) {
                    rows.is_valid.push(self.shape.is_value(definition));
                }
            }
            let is_valid = &rows.is_valid[first..];
            let count = is_valid.iter().filter(|is_valid| **is_valid).count();
            page.values.take(count, &mut rows.values)?;
            if count < is_valid.len() {
                rows.values.spread(first, is_valid);
            }
        }
        levels.at = end;
        Ok(())
    }

    /// Where the levels of the next `rows` rows end, or the decoded ones do.
    fn end_of(&self, rows: usize) -> usize {
        let end = match (self.shape.is_list, &self.page) {
            (true, Some(page)) => page.starts.get(page.next_start + rows).map(|start| *start as usize),
            _ => Some(self.levels.at + rows),
        };
        end.map_or(self.levels.end, |end| end.min(self.levels.end))
    }

    /// Sees to it that there are decoded levels; false behind the last.
    fn has_levels(&mut self) -> Result<bool> {
        while self.page.as_ref().is_none_or(|page| self.levels.at == page.count) {
            self.page = self.next_page()?;
            self.levels = Levels { definitions: std::mem::take(&mut self.levels.definitions), ..Levels::default() };
            if self.page.is_none() {
                return Ok(false);
            }
        }
        if let Some(page) = &mut self.page
            && self.levels.at == self.levels.end
        {
            self.levels.decode(page, self.shape.max_definition)?;
        }
        Ok(true)
    }

    fn next_page(&mut self) -> Result<Option<OpenPage>> {
        while let Some(page) = self.pages.get_next_page()? {
            let (count, encoding, repetitions, definitions, values) = match page {
                Page::DictionaryPage { buf, num_values, .. } => {
                    self.dictionary = Some(Dictionary::decode(self.kind, &buf, num_values as usize)?);
                    continue;
                }
                Page::DataPage { mut buf, num_values, encoding, def_level_encoding, rep_level_encoding, .. } => {
                    let mut levels = |is_there: bool, encoding: Encoding| match (is_there, encoding) {
                        (false, _) => Ok(Bytes::new()),
                        (true, Encoding::RLE) => behind_length(&mut buf),
                        (true, other) => Err(ParquetError::NYI(format!("levels stored as {other}"))),
                    };
                    let repetitions = levels(self.shape.is_list, rep_level_encoding)?;
                    let definitions = levels(self.shape.max_definition > 0, def_level_encoding)?;
                    (num_values, encoding, repetitions, definitions, buf)
                }
                Page::DataPageV2 {
                    mut buf, num_values, encoding, rep_levels_byte_len, def_levels_byte_len, ..
                } => {
                    let (repetitions, definitions) = (rep_levels_byte_len as usize, def_levels_byte_len as usize);
                    if repetitions + definitions > buf.len() {
                        return Err(bits::cut_short());
                    }
                    let (repetitions, definitions) = (buf.split_to(repetitions), buf.split_to(definitions));
                    (num_values, encoding, repetitions, definitions, buf)
                }
            };
            self.left = (self.left.checked_sub(count as usize))
                .ok_or_else(|| ParquetError::General("pages of more values than their column has".to_owned()))?;
            return Ok(Some(OpenPage {
                count: count as usize,
                starts: match self.shape.is_list {
                    true => self.starts.of_page(repetitions, count as usize)?,
                    false => Arc::default(),
                },
                next_start: 0,
                definitions: match self.shape.max_definition {
                    0 => None,
                    largest => Some(Hybrid::new(definitions, (8 - largest.leading_zeros()) as usize)?),
                },
                values: Decoder::new(self.kind, encoding, values, self.dictionary.as_ref())?,
            }));
        }
        Ok(None)
    }

    fn finish(&self, rows: Rows) -> Result<ArrayRef> {
        let Rows { mut offsets, is_list, is_valid, values, .. } = rows;
        let nulls = |is_there: Vec<bool>| is_there.contains(&false).then(|| NullBuffer::from(is_there));
        let dictionary = self.dictionary.as_ref();
        match self.field.data_type() {
            DataType::List(item) => {
                offsets.push(offset(values.len())?);
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let values = values.finish(item.data_type(), dictionary, nulls(is_valid))?;
                Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, nulls(is_list))?))
            }
            flat => values.finish(flat, dictionary, nulls(is_valid)),
        }
    }
}

impl Levels {
    /// Decodes the levels of a page that come next.
    fn decode(&mut self, page: &mut OpenPage, max_definition: u8) -> Result<()> {
        let count = (page.count - self.end).min(LEVELS);
        self.first = self.end;
        self.end += count;
        self.definitions.clear();
        let Some(definitions) = &mut page.definitions else { return Ok(()) };
        match definitions.take_same(count)? {
            Some(definition) if definition == u32::from(max_definition) => {}
            Some(definition) => self.definitions.resize(count, definition as u8),
            None => definitions.take(count, &mut self.definitions, |definition| definition as u8)?,
        }
        Ok(())
    }
}

impl Rows {
    /// Begins the next row of lists.
    fn start(&mut self, is_null: bool) -> Result<()> {
        self.offsets.push(offset(self.is_valid.len())?);
        if is_null {
            self.is_list.resize(self.count, true);
        }
        if is_null || !self.is_list.is_empty() {
            self.is_list.push(!is_null);
        }
        self.count += 1;
        Ok(())
    }
}

/// The bytes behind their length, taken.
fn behind_length(bytes: &mut Bytes) -> Result<Bytes> {
    let (length, _) = bytes.split_first_chunk::<4>().ok_or_else(bits::cut_short)?;
    let length = u32::from_le_bytes(*length) as usize;
    if bytes.len() < 4 + length {
        return Err(bits::cut_short());
    }
    let _ = bytes.split_to(4);
    Ok(bytes.split_to(length))
}

fn offset(elements: usize) -> Result<i32> {
    i32::try_from(elements).map_err(|_| ParquetError::General("a batch of more than 2^31 elements".to_owned()))
}
