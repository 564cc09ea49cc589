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
use super::fetched::Fetched;
use super::hybrid::Hybrid;
use super::shape::Shape;
use super::values::{Decoder, Dictionary, Kind, Values};

/// Levels that are decoded at a time.
const LEVELS: usize = 1024;

/// Reads a column from its first row to its last.
pub struct Column {
    field: FieldRef,
    shape: Shape,
    kind: Kind,
    pages: SerializedPageReader<Fetched>,
    dictionary: Option<Dictionary>,
    page: Option<OpenPage>,
    levels: Levels,
}

/// A page under way.
struct OpenPage {
    /// Levels that are not decoded yet.
    left: usize,
    /// `None`: no value is repeated.
    repetitions: Option<Hybrid>,
    /// `None`: all values are there.
    definitions: Option<Hybrid>,
    values: Decoder,
}

/// Decoded levels, of which those up to `at` are taken.
#[derive(Default)]
struct Levels {
    at: usize,
    count: usize,
    /// Places of the levels that begin a row, of which those up to `next_start` are taken.
    starts: Vec<usize>,
    next_start: usize,
    /// Empty where all values are there.
    definitions: Vec<u8>,
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
    /// The column whose pages are `pages`, as an array of the type of `field`.
    pub fn new(field: FieldRef, shape: Shape, kind: Kind, pages: SerializedPageReader<Fetched>) -> Self {
        Self { field, shape, kind, pages, dictionary: None, page: None, levels: Levels::default() }
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
        loop {
            if self.levels.at == self.levels.count && !self.next_levels()? {
                break;
            }
            let end = self.levels.end_of(count - rows.count, self.shape.is_list);
            self.take_levels(end, &mut rows)?;
            if end < self.levels.count {
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
        if levels.definitions.is_empty() {
            let count = end - levels.at;
            if self.shape.is_list {
                let starts = &levels.starts[levels.next_start..];
                let starts = &starts[..starts.partition_point(|start| *start < end)];
                offset(first + count)?;
                rows.offsets.extend(starts.iter().map(|start| (first + start - levels.at) as i32));
                rows.count += starts.len();
                levels.next_start += starts.len();
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
                let definition = levels.definitions[level];
                if !self.shape.is_list {
                    rows.count += 1;
                } else if levels.starts.get(levels.next_start) == Some(&level) {
                    rows.offsets.push(offset(rows.is_valid.len())?);
                    if rows.is_list.is_empty() && self.shape.is_null_list(definition) {
                        rows.is_list.resize(rows.count, true);
                        rows.is_list.push(false);
                    } else if !rows.is_list.is_empty() {
                        rows.is_list.push(!self.shape.is_null_list(definition));
                    }
                    rows.count += 1;
                    levels.next_start += 1;
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

    /// Decodes the next levels; false where there are none.
    fn next_levels(&mut self) -> Result<bool> {
        while self.page.as_ref().is_none_or(|page| page.left == 0) {
            match self.next_page()? {
                Some(page) => self.page = Some(page),
                None => return Ok(false),
            }
        }
        let Some(page) = &mut self.page else { return Ok(false) };
        let count = page.left.min(LEVELS);
        page.left -= count;
        self.levels.decode(count, page, &self.shape)?;
        Ok(true)
    }

    fn next_page(&mut self) -> Result<Option<OpenPage>> {
        while let Some(page) = self.pages.get_next_page()? {
            let (left, encoding, repetitions, definitions, values) = match page {
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
                Page::DataPageV2 { mut buf, num_values, encoding, rep_levels_byte_len, def_levels_byte_len, .. } => {
                    let (repetitions, definitions) = (rep_levels_byte_len as usize, def_levels_byte_len as usize);
                    if repetitions + definitions > buf.len() {
                        return Err(bits::cut_short());
                    }
                    let (repetitions, definitions) = (buf.split_to(repetitions), buf.split_to(definitions));
                    (num_values, encoding, repetitions, definitions, buf)
                }
            };
            return Ok(Some(OpenPage {
                left: left as usize,
                repetitions: if self.shape.is_list { Some(Hybrid::new(repetitions, 1)?) } else { None },
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
    /// Decodes the next `count` levels of a page.
    fn decode(&mut self, count: usize, page: &mut OpenPage, shape: &Shape) -> Result<()> {
        (self.at, self.count, self.next_start) = (0, count, 0);
        self.definitions.clear();
        if let Some(definitions) = &mut page.definitions {
            match definitions.take_same(count)? {
                Some(definition) if definition == u32::from(shape.max_definition) => {}
                Some(definition) => self.definitions.resize(count, definition as u8),
                None => definitions.take(count, &mut self.definitions, |definition| definition as u8)?,
            }
        }
        if let Some(repetitions) = &mut page.repetitions {
            self.starts.clear();
            repetitions.take_zeros(count, 0, &mut self.starts)?;
        }
        Ok(())
    }

    /// Where the levels of the next `rows` rows end, or the decoded ones do.
    fn end_of(&self, rows: usize, is_list: bool) -> usize {
        match is_list {
            true => self.starts.get(self.next_start + rows).map_or(self.count, |start| *start),
            false => self.count.min(self.at + rows),
        }
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
