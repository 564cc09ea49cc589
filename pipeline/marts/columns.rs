//! Rows of a published file exchanged column by column: each column is decoded, changed and encoded by itself, on several
//! threads. Where all rows stay and only cells change, those of keys among them, what is stored of a column without such cells is
//! copied, neither decoded nor encoded. The file is, to the last byte, the one that encoding all its rows gives.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_empty_array};
use arrow::compute::{concat, take};
use arrow::datatypes::FieldRef;
use arrow::row::{OwnedRow, Row, RowConverter, Rows};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use rayon::prelude::*;

use super::files::{BATCH_ROWS, Encoder, ROWS_PER_GROUP, without_idle_nulls};
use crate::delta::CREATED_BY;
use crate::error::{Error, Result};

/// Batches of a row group.
const BATCHES_PER_GROUP: usize = ROWS_PER_GROUP / BATCH_ROWS;

/// Rows that leave a file or come into it, in its order, with their keys.
pub type Side<'a> = (&'a Rows, &'a RecordBatch);

/// Rows of a file that are exchanged, column by column.
pub struct Columns<'a> {
    converter: &'a RowConverter,
    /// Places of the columns of the keys.
    keyed: &'a [usize],
    removed: Side<'a>,
    added: Side<'a>,
}

/// Where rows leave and come.
struct Places {
    /// Rows of the file.
    rows: usize,
    /// The row of the file that each row is that leaves.
    removed: Vec<usize>,
    /// The row of the file before which each row comes.
    added: Vec<usize>,
}

/// Some rows of the new file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Of the file.
    Kept(Range<usize>),
    /// Of those that come.
    Added(Range<usize>),
}

impl<'a> Columns<'a> {
    /// Rows that leave and come; `converter` makes their keys of the columns at `keyed`.
    pub fn new(converter: &'a RowConverter, keyed: &'a [usize], removed: Side<'a>, added: Side<'a>) -> Self {
        Self { converter, keyed, removed, added }
    }

    /// The file that `content` becomes, and its rows, written as by `encoder`. `None` where it is to be merged row by row, or
    /// written from its rows: where keys do not tell rows apart, nothing differs of a file that could be copied, it is laid out as no
    /// mart is, or there is nothing before or afterwards. An error if a row that leaves is not there; of rows that only change, if
    /// their keys or the cells that change are not.
    pub fn apply(&self, content: &Bytes, encoder: &Encoder) -> Result<Option<(Vec<u8>, usize)>> {
        let options = ArrowReaderOptions::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_encoding_stats_as_mask(false);
        let file = ArrowReaderMetadata::load(content, options)?;
        let (stored, count) = (Stored { content, file: &file }, self.added.1.num_columns());
        if !stored.is_as_we_write(count) {
            return Ok(None);
        }
        let Some(places) = self.places(&stored)? else { return Ok(None) };
        let batches = places.batches();
        if places.rows == 0 || batches.is_empty() {
            return Ok(None);
        }
        let changed = self.changed(&places, stored.can_be_copied());
        let mut at_work: Vec<usize> = (0..count).filter(|at| changed.iter().any(|of_group| of_group[*at])).collect();
        if at_work.is_empty() {
            return Ok(None);
        }
        let open = |at: usize, groups: Range<usize>| Column::open(&stored, at, groups, self, &places);
        // How a column is encoded is told by its first rows.
        let first = |at: &usize| open(*at, stored.groups())?.batch(&batches[0]);
        let first: Vec<ArrayRef> = at_work.par_iter().map(first).collect::<Result<_>>()?;
        let schema = Arc::new(self.added.1.schema().project(&at_work)?);
        let (mut writer, factory) = encoder.by_column(&RecordBatch::try_new(schema, first)?)?;
        at_work.sort_by_key(|at| Reverse(stored.bytes(*at)));
        let (all_stay, groups) = (places.all_stay(), batches.chunks(BATCHES_PER_GROUP));
        let last = groups.len() - 1;
        let mut columns = Vec::new();
        for (number, of_group) in groups.enumerate() {
            // Where all rows stay, a row group is made of the one that was there, and some of its columns are not read.
            if all_stay || number == 0 {
                let read = if all_stay { number..number + 1 } else { stored.groups() };
                columns = at_work.iter().map(|at| open(*at, read.clone())).collect::<Result<_>>()?;
            }
            let is_changed = |at: usize| changed.get(number).is_none_or(|columns| columns[at]);
            let writers = factory.create_column_writers(number)?;
            let encode = |column: &mut Column, writer| column.encode(of_group, writer, all_stay || number == last);
            let mut encoded = encode_group(&mut columns, writers, is_changed, encode)?;
            let mut group = writer.next_row_group()?;
            for at in 0..count {
                match encoded.remove(&at) {
                    Some(column) => column.append_to_row_group(&mut group)?,
                    None => group.append_column(content, stored.column(number, at)?)?,
                }
            }
            group.close()?;
        }
        Ok(Some((writer.into_inner()?, places.rows - places.removed.len() + places.added.len())))
    }

    /// Which columns of which row groups are to be encoded; where rows leave or come, or nothing can be copied, all are. What the
    /// first rows tell of an encoding holds for all row groups.
    fn changed(&self, places: &Places, can_be_copied: bool) -> Vec<Vec<bool>> {
        let ((_, removed), (_, added)) = (self.removed, self.added);
        let groups = places.rows.div_ceil(ROWS_PER_GROUP);
        let differs = |at: usize, rows: Range<usize>| {
            let exchanged = places.removed_in(rows);
            let cells = |rows: &RecordBatch| rows.column(at).slice(exchanged.start, exchanged.len());
            !can_be_copied || cells(removed) != cells(added)
        };
        let of_group = |group: usize| {
            let rows = group * ROWS_PER_GROUP..(group + 1) * ROWS_PER_GROUP;
            (0..added.num_columns()).map(|at| differs(at, 0..BATCH_ROWS) || differs(at, rows.clone())).collect()
        };
        match places.all_stay() {
            true => (0..groups).map(of_group).collect(),
            false => vec![vec![true; added.num_columns()]; groups],
        }
    }

    /// Where the rows leave and come in a file; `None` where a key comes twice, or not in order.
    fn places(&self, stored: &Stored) -> Result<Option<Places>> {
        let (removed, added) = (self.removed.0, self.added.0);
        if !is_strictly_ordered(removed) || !is_strictly_ordered(added) {
            return Ok(None);
        }
        let mut keyed = self.keyed.to_vec();
        keyed.sort_unstable();
        let mut places = Places { rows: 0, removed: Vec::new(), added: Vec::new() };
        let mut last: Option<OwnedRow> = None;
        for batch in stored.reader(&keyed, stored.groups())? {
            let batch = batch?;
            let column = |at: &usize| batch.column(keyed.partition_point(|column| column < at)).clone();
            let columns: Vec<ArrayRef> = self.keyed.iter().map(column).collect();
            let rows = |range: Range<usize>| {
                let columns: Vec<ArrayRef> =
                    columns.iter().map(|column| column.slice(range.start, range.len())).collect();
                self.converter.convert_columns(&columns)
            };
            let (begin, count) = (places.rows, batch.num_rows());
            let (first, end) = (rows(0..1)?, rows(count - 1..count)?);
            if last.as_ref().is_some_and(|last| last.row() >= first.row(0)) {
                return Ok(None);
            }
            last = Some(end.row(0).owned());
            places.rows += count;
            let lies_here = |keys: &Rows, next: usize| next < keys.num_rows() && keys.row(next) <= end.row(0);
            if !lies_here(removed, places.removed.len()) && !lies_here(added, places.added.len()) {
                continue;
            }
            let keys = rows(0..count)?;
            if !is_strictly_ordered(&keys) {
                return Ok(None);
            }
            let mut from = 0;
            while lies_here(removed, places.removed.len()) {
                let key = removed.row(places.removed.len());
                from = lower_bound(&keys, from, key);
                if keys.row(from) != key {
                    return Err(missing());
                }
                places.removed.push(begin + from);
            }
            from = 0;
            while lies_here(added, places.added.len()) {
                let key = added.row(places.added.len());
                from = lower_bound(&keys, from, key);
                let stays = keys.row(from) == key && places.removed.binary_search(&(begin + from)).is_err();
                if stays {
                    return Ok(None);
                }
                places.added.push(begin + from);
            }
        }
        if places.removed.len() < removed.num_rows() {
            return Err(missing());
        }
        places.added.resize(added.num_rows(), places.rows);
        Ok(Some(places))
    }
}

/// Those columns of a row group that change, encoded, by their places; the columns come with the largest first, whose work is
/// begun first. There is a writer for each column of the file.
fn encode_group<'a>(
    columns: &mut [Column<'a>],
    writers: Vec<ArrowColumnWriter>,
    is_changed: impl Fn(usize) -> bool,
    encode: impl Fn(&mut Column<'a>, ArrowColumnWriter) -> Result<ArrowColumnChunk> + Sync,
) -> Result<BTreeMap<usize, ArrowColumnChunk>> {
    let mut writers: BTreeMap<usize, ArrowColumnWriter> = writers.into_iter().enumerate().collect();
    let changed = columns.iter_mut().filter(|column| is_changed(column.at));
    let work: Vec<_> = changed.filter_map(|column| Some((writers.remove(&column.at)?, column))).collect();
    let encode = |(writer, column): (ArrowColumnWriter, &mut Column<'a>)| Ok((column.at, encode(column, writer)?));
    // One at a time to a thread, so that no two large ones wait for each other.
    work.into_par_iter().with_max_len(1).map(encode).collect()
}

fn is_strictly_ordered(keys: &Rows) -> bool {
    keys.iter().zip(keys.iter().skip(1)).all(|(one, other)| one < other)
}

impl Places {
    /// Whether each row that leaves makes room for one that comes.
    fn all_stay(&self) -> bool {
        self.removed == self.added
    }

    /// Which of the rows that leave are among these of the file.
    fn removed_in(&self, rows: Range<usize>) -> Range<usize> {
        let [begin, end] = [rows.start, rows.end].map(|row| self.removed.partition_point(|place| *place < row));
        begin..end
    }

    /// The rows of the new file, as many at a time as are encoded.
    fn batches(&self) -> Vec<Vec<Piece>> {
        let (mut batches, mut open, mut room) = (Vec::new(), Vec::new(), BATCH_ROWS);
        let mut push = |mut rows: Range<usize>, piece: fn(Range<usize>) -> Piece| {
            while !rows.is_empty() {
                let end = rows.end.min(rows.start + room);
                match (open.last_mut(), piece(rows.start..end)) {
                    (Some(Piece::Added(last)), Piece::Added(next)) if last.end == next.start => last.end = next.end,
                    (_, next) => open.push(next),
                }
                room -= end - rows.start;
                rows.start = end;
                if room == 0 {
                    batches.push(std::mem::take(&mut open));
                    room = BATCH_ROWS;
                }
            }
        };
        let (mut at, mut removed, mut added) = (0, self.removed.iter().peekable(), 0);
        loop {
            let next = |place: Option<&usize>| place.copied().unwrap_or(self.rows);
            let stop = next(removed.peek().copied()).min(next(self.added.get(added)));
            push(at..stop, Piece::Kept);
            at = stop;
            let come = self.added[added..].iter().take_while(|place| **place == stop).count();
            push(added..added + come, Piece::Added);
            added += come;
            match removed.next_if(|place| **place == stop) {
                Some(_) => at += 1,
                None if stop == self.rows => break,
                None => {}
            }
        }
        if !open.is_empty() {
            batches.push(open);
        }
        batches
    }
}

/// A file as it is stored.
struct Stored<'a> {
    content: &'a Bytes,
    file: &'a ArrowReaderMetadata,
}

/// A column that changes, while the file is gone through.
struct Column<'a> {
    at: usize,
    field: FieldRef,
    reader: ParquetRecordBatchReader,
    /// Cells of the file.
    found: ArrayRef,
    /// The row of the file at which they begin.
    first: usize,
    removed: &'a ArrayRef,
    added: &'a ArrayRef,
    places: &'a Places,
}

impl<'a> Column<'a> {
    /// A column of some row groups of a file, all of them full but for the last of the file.
    fn open(
        stored: &Stored,
        at: usize,
        groups: Range<usize>,
        columns: &Columns<'a>,
        places: &'a Places,
    ) -> Result<Self> {
        let (removed, added) = (columns.removed.1.column(at), columns.added.1.column(at));
        let field = columns.added.1.schema_ref().field(at).clone().into();
        let (found, first) = (new_empty_array(added.data_type()), groups.start * ROWS_PER_GROUP);
        Ok(Self { at, field, reader: stored.reader(&[at], groups)?, found, first, removed, added, places })
    }

    /// Reads on; what leaves must be what it was.
    fn read(&mut self) -> Result<bool> {
        self.first += self.found.len();
        let Some(found) = self.reader.next() else {
            self.found = new_empty_array(self.added.data_type());
            return Ok(false);
        };
        self.found = found?.column(0).clone();
        let leave = self.places.removed_in(self.first..self.first + self.found.len());
        let known = self.removed.slice(leave.start, leave.len());
        let places = self.places.removed[leave].iter().map(|place| (place - self.first) as u32);
        match take(&self.found, &UInt32Array::from_iter_values(places), None)? == known {
            true => Ok(true),
            false => Err(missing()),
        }
    }

    /// The next cells of the new file.
    fn batch(&mut self, pieces: &[Piece]) -> Result<ArrayRef> {
        let mut cells: Vec<ArrayRef> = Vec::with_capacity(pieces.len() + 1);
        for piece in pieces {
            match piece {
                Piece::Added(rows) => cells.push(self.added.slice(rows.start, rows.len())),
                Piece::Kept(rows) => {
                    let mut begin = rows.start;
                    while begin < rows.end {
                        let found = self.first + self.found.len();
                        if begin >= found {
                            if !self.read()? {
                                return Err(missing());
                            }
                            continue;
                        }
                        let end = rows.end.min(found);
                        cells.push(self.found.slice(begin - self.first, end - begin));
                        begin = end;
                    }
                }
            }
        }
        let cells = match &cells[..] {
            [cells] => cells.clone(),
            _ => concat(&cells.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
        };
        without_idle_nulls(&cells)
    }

    /// Encodes the next cells of a row group of the new file, behind which a reader may end.
    fn encode(
        &mut self,
        batches: &[Vec<Piece>],
        mut writer: ArrowColumnWriter,
        is_end: bool,
    ) -> Result<ArrowColumnChunk> {
        for batch in batches {
            let cells = self.batch(batch)?;
            for leaf in compute_leaves(&self.field, &cells)? {
                writer.write(&leaf)?;
            }
        }
        // What is left leaves.
        while is_end && self.read()? {}
        Ok(writer.close()?)
    }
}

impl Stored<'_> {
    /// All row groups.
    fn groups(&self) -> Range<usize> {
        0..self.file.metadata().num_row_groups()
    }

    /// Reads columns of some row groups.
    fn reader(&self, columns: &[usize], groups: Range<usize>) -> Result<ParquetRecordBatchReader> {
        let schema = self.file.metadata().file_metadata().schema_descr();
        Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(self.content.clone(), self.file.clone())
            .with_projection(ProjectionMask::roots(schema, columns.iter().copied()))
            .with_row_groups(groups.collect())
            .with_batch_size(BATCH_ROWS)
            .build()?)
    }

    /// Whether it has so many columns, none of them nested, and row groups that are full but for the last.
    fn is_as_we_write(&self, columns: usize) -> bool {
        let metadata = self.file.metadata();
        let fields = metadata.file_metadata().schema_descr().root_schema().get_fields();
        let is_flat = fields.len() == columns && fields.iter().all(|field| field.is_primitive());
        let mut rows = metadata.row_groups().iter().map(|group| group.num_rows() as usize);
        let of_last = rows.next_back().unwrap_or(0);
        is_flat && of_last <= ROWS_PER_GROUP && rows.all(|rows| rows == ROWS_PER_GROUP)
    }

    /// Bytes that a column takes.
    fn bytes(&self, at: usize) -> i64 {
        self.file.metadata().row_groups().iter().map(|group| group.column(at).compressed_size()).sum()
    }

    /// Whether what is stored is what encoding it anew gives.
    fn can_be_copied(&self) -> bool {
        let metadata = self.file.metadata();
        let has_indexes = metadata.column_index().is_some() && metadata.offset_index().is_some();
        // What one version stores otherwise is told by the layout of a mart too; the version is a second look.
        let is_of_this_version = metadata.file_metadata().created_by() == Some(CREATED_BY);
        has_indexes && is_of_this_version
    }

    /// What the file says of a column of a row group, which is to be copied.
    fn column(&self, group: usize, at: usize) -> Result<ColumnCloseResult> {
        let metadata = self.file.metadata();
        let mut chunk = metadata.row_group(group).column(at).clone();
        // Readers do not tell that the least and the greatest value stand in the fields of old too.
        if let Some(statistics) = chunk.statistics().cloned()
            && chunk.column_descr().sort_order().is_signed()
        {
            chunk = chunk.into_builder().set_statistics(with_fields_of_old(statistics)).build()?;
        }
        let column_index = metadata.column_index().map(|groups| groups[group][at].clone());
        Ok(ColumnCloseResult {
            bytes_written: chunk.compressed_size() as u64,
            rows_written: metadata.row_group(group).num_rows() as u64,
            metadata: chunk,
            bloom_filter: None,
            column_index: column_index.filter(|index| !matches!(index, ColumnIndexMetaData::NONE)),
            offset_index: metadata.offset_index().map(|groups| groups[group][at].clone()),
        })
    }
}

fn with_fields_of_old(statistics: Statistics) -> Statistics {
    match statistics {
        Statistics::Boolean(values) => values.with_backwards_compatible_min_max(true).into(),
        Statistics::Int32(values) => values.with_backwards_compatible_min_max(true).into(),
        Statistics::Int64(values) => values.with_backwards_compatible_min_max(true).into(),
        Statistics::Float(values) => values.with_backwards_compatible_min_max(true).into(),
        Statistics::Double(values) => values.with_backwards_compatible_min_max(true).into(),
        Statistics::Int96(values) => values.with_backwards_compatible_min_max(true).into(),
        Statistics::ByteArray(values) => values.with_backwards_compatible_min_max(true).into(),
        Statistics::FixedLenByteArray(values) => {
            Statistics::FixedLenByteArray(values.with_backwards_compatible_min_max(true))
        }
    }
}

/// The first row from `begin` on whose key is not below.
pub fn lower_bound(keys: &Rows, begin: usize, key: Row<'_>) -> usize {
    let (mut low, mut high) = (begin, keys.num_rows());
    while low < high {
        let middle = low.midpoint(high);
        if keys.row(middle) < key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

pub fn missing() -> Error {
    Error::corrupt("a row that changed is not in it")
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };
    use arrow::compute::{concat_batches, interleave_record_batch};
    use arrow::row::SortField;

    use super::*;

    /// Rows in the order of their ids, which are unique; texts of few values and of many, longer than statistics have them, and
    /// nulls. `number` makes of a row's place what the row has.
    fn rows(count: u64, number: impl Fn(u64) -> u64) -> RecordBatch {
        let numbers = || (0..count).map(&number);
        let signed = |number: u64| number.cast_signed();
        let values = Decimal128Array::from_iter_values(numbers().map(|n| i128::from(n) * 5 - 7));
        let columns: [(&str, ArrayRef); 10] = [
            ("id", Arc::new(StringArray::from_iter_values((0..count).map(|row| format!("{row:08x}"))))),
            ("channel", Arc::new(StringArray::from_iter_values(numbers().map(|n| format!("channel {}", n % 5))))),
            ("note", Arc::new(StringArray::from_iter(numbers().map(|n| (n % 3 > 0).then(|| format!("{n:080}")))))),
            ("touches", Arc::new(Int64Array::from_iter(numbers().map(|n| (n % 7 > 0).then_some(signed(n)))))),
            ("value", Arc::new(values.with_precision_and_scale(38, 4).unwrap())),
            ("day", Arc::new(Date32Array::from_iter_values(numbers().map(|n| n as i32 % 90)))),
            ("share", Arc::new(Float64Array::from_iter_values(numbers().map(|n| n as f64 / 8.0)))),
            ("is_converted", Arc::new(BooleanArray::from_iter(numbers().map(|n| Some(n.is_multiple_of(2)))))),
            ("campaign", arrow::array::new_null_array(&arrow::datatypes::DataType::Utf8, count as usize)),
            ("ended_at", Arc::new(TimestampMicrosecondArray::from_iter_values(numbers().map(|n| signed(n * 997))))),
        ];
        let all = RecordBatch::try_from_iter(columns.map(|(name, column)| (name, column))).unwrap();
        let nullable: Vec<_> =
            all.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(nullable)), all.columns().to_vec()).unwrap()
    }

    /// Some columns of one set of rows, the others of another.
    fn mixed(one: &RecordBatch, other: &RecordBatch, columns: &[usize]) -> RecordBatch {
        let source = |at: usize| if columns.contains(&at) { other } else { one };
        let columns = (0..one.num_columns()).map(|at| source(at).column(at).clone()).collect();
        RecordBatch::try_new(one.schema(), columns).unwrap()
    }

    fn metadata() -> Vec<(String, String)> {
        vec![("description".to_owned(), "rows of a test".to_owned())]
    }

    fn file(rows: &RecordBatch) -> Bytes {
        let mut encoder = Encoder::new(&rows.schema(), &metadata());
        encoder.push(rows.clone()).unwrap();
        encoder.finish().unwrap().0.into()
    }

    /// `content` without the rows `removed`, and with the rows `added`.
    fn apply(content: &Bytes, removed: &RecordBatch, added: &RecordBatch) -> Result<Option<(Vec<u8>, usize)>> {
        let converter = RowConverter::new(vec![SortField::new(arrow::datatypes::DataType::Utf8)]).unwrap();
        let [of_removed, of_added] =
            [removed, added].map(|rows| converter.convert_columns(&[rows.column(0).clone()]).unwrap());
        let encoder = Encoder::new(&removed.schema(), &metadata());
        Columns::new(&converter, &[0], (&of_removed, removed), (&of_added, added)).apply(content, &encoder)
    }

    /// Rows at some places.
    fn at(rows: &RecordBatch, places: impl IntoIterator<Item = usize>) -> RecordBatch {
        let places = UInt32Array::from_iter_values(places.into_iter().map(|place| place as u32));
        arrow::compute::take_record_batch(rows, &places).unwrap()
    }

    #[test]
    fn a_file_some_of_whose_rows_leave_and_others_come_is_the_file_of_its_rows_to_the_last_byte() {
        const COUNT: usize = 20_000;
        let (all, other) = (rows(COUNT as u64, |row| row), rows(COUNT as u64, |row| row * 3 + 1));
        type Which = fn(usize) -> bool;
        // Rows that are there before, and of those that are there afterwards, those that are others than before.
        let cases: [(Which, Which, Which); 7] = [
            (|row| row % 3 > 0, |row| row % 5 > 0, |row| row.is_multiple_of(7)),
            (|row| row > 0, |row| row < COUNT - 1, |_| false),
            (|row| row != BATCH_ROWS, |row| row != BATCH_ROWS - 1, |_| false),
            (|row| row < 5, |_| true, |_| false),
            (|_| true, |row| row < 5, |row| row == 4),
            (|row| row < COUNT / 2, |row| row >= COUNT / 2, |_| false),
            (|_| true, |row| row != 17, |row| row >= BATCH_ROWS),
        ];
        for (number, (is_before, is_after, is_other)) in cases.into_iter().enumerate() {
            let before = at(&all, (0..COUNT).filter(|row| is_before(*row)));
            let stays = |row: usize| is_before(row) && is_after(row) && !is_other(row);
            let removed = at(&all, (0..COUNT).filter(|row| is_before(*row) && !stays(*row)));
            let sources = [all.clone(), other.clone()];
            let rows_of = |is_wanted: &dyn Fn(usize) -> bool| {
                let places = (0..COUNT).filter(|row| is_wanted(*row)).map(|row| (usize::from(is_other(row)), row));
                let sources: Vec<&RecordBatch> = sources.iter().collect();
                interleave_record_batch(&sources, &places.collect::<Vec<_>>()).unwrap()
            };
            let (after, added) = (rows_of(&is_after), rows_of(&|row| is_after(row) && !stays(row)));
            let (content, found) = apply(&file(&before), &removed, &added).unwrap().unwrap();
            assert_eq!(found, after.num_rows());
            assert!(content == file(&after), "case {number}");
        }
    }

    #[test]
    fn a_file_of_several_row_groups_is_the_file_of_its_rows_to_the_last_byte() {
        const COUNT: usize = 2 * ROWS_PER_GROUP + 3 * BATCH_ROWS + 7;
        const SECOND: usize = ROWS_PER_GROUP + 5;
        const LAST: [usize; 2] = [COUNT - 8, COUNT - 1];
        // In the first row group of one column, in the second of the other, in the third of both.
        let rows = |is_other: bool| {
            let number = |row: usize, own: usize| row + usize::from(is_other && (row == own || LAST.contains(&row)));
            let columns: [ArrayRef; 3] = [
                Arc::new(StringArray::from_iter_values((0..COUNT).map(|row| format!("{row:08x}")))),
                Arc::new(StringArray::from_iter_values((0..COUNT).map(|row| (number(row, 9) % 5).to_string()))),
                Arc::new(Int64Array::from_iter_values((0..COUNT).map(|row| number(row, SECOND) as i64))),
            ];
            RecordBatch::try_from_iter(["id", "channel", "touches"].into_iter().zip(columns)).unwrap()
        };
        let (all, other) = (rows(false), rows(true));
        let changed = [9, SECOND, LAST[0], LAST[1]];
        let (before, expected) = (file(&all), file(&other));
        assert!(before != expected);
        let (removed, added) = (at(&all, changed), at(&other, changed));
        assert!(apply(&before, &removed, &added).unwrap().unwrap().0 == expected, "all rows stay");
        // With the first row gone every row group begins elsewhere.
        let expected = file(&other.slice(1, COUNT - 1));
        let removed = at(&all, [0].into_iter().chain(changed));
        assert!(apply(&before, &removed, &added).unwrap().unwrap().0 == expected, "one leaves");
        // In the second row group another row comes where one leaves, so that all others stay where they are.
        let named: ArrayRef = Arc::new(StringArray::from(vec![format!("{:08x}'", SECOND - 1)]));
        let gone = all.slice(SECOND, 1);
        let come = RecordBatch::try_new(all.schema(), [&[named], &gone.columns()[1..]].concat()).unwrap();
        let after = [all.slice(0, SECOND), come.clone(), all.slice(SECOND + 1, COUNT - SECOND - 1)];
        let expected = file(&concat_batches(&all.schema(), &after).unwrap());
        assert!(apply(&before, &gone, &come).unwrap().unwrap().0 == expected, "another row");
        // A row group more, and one less.
        let [full, more] = [ROWS_PER_GROUP, ROWS_PER_GROUP + 1].map(|count| all.slice(0, count));
        let (first, none) = (all.slice(0, 1), all.slice(0, 0));
        let but_first = more.slice(1, ROWS_PER_GROUP);
        assert!(apply(&file(&but_first), &none, &first).unwrap().unwrap().0 == file(&more));
        assert!(apply(&file(&more), &more.slice(ROWS_PER_GROUP, 1), &none).unwrap().unwrap().0 == file(&full));
        // One more of the values at its beginning is another, so that a column has no dictionary any more, in any row group.
        let texts = |distinct: usize| {
            let number = |row: usize| if row < 1024 { row.min(distinct) } else { row % 100 };
            let texts = StringArray::from_iter_values((0..COUNT).map(|row| number(row).to_string()));
            let columns = [all.column(0).clone(), Arc::new(texts) as ArrayRef];
            RecordBatch::try_from_iter(["id", "channel"].into_iter().zip(columns)).unwrap()
        };
        let (few, many) = (texts(510), texts(530));
        let [removed, added] = [&few, &many].map(|rows| rows.slice(511, 1024 - 511));
        let has_dictionary = |content: &Bytes| {
            let file = ArrowReaderMetadata::load(content, ArrowReaderOptions::new()).unwrap();
            file.metadata().row_group(1).column(1).dictionary_page_offset().is_some()
        };
        assert!(has_dictionary(&file(&few)) && !has_dictionary(&file(&many)));
        assert!(apply(&file(&few), &removed, &added).unwrap().unwrap().0 == file(&many));
    }

    #[test]
    fn a_file_whose_cells_change_is_the_file_of_all_its_rows_to_the_last_byte() {
        for (count, step) in [(1, 1), (500, 7), (20_000, 1), (20_000, 997), (20_000, 19_999), (8192 * 2, 8191)] {
            for columns in [&[1][..], &[2], &[3, 4], &[5, 6], &[7, 9], &[1, 2, 3, 4, 5, 6, 7, 9]] {
                let before = rows(count, |row| row);
                let other = rows(count, |row| if row % step == 0 { row * 3 + 1 } else { row });
                let after = mixed(&before, &other, columns);
                let of = |rows: &RecordBatch| at(rows, (0..count as usize).step_by(step as usize));
                let (content, found) = apply(&file(&before), &of(&before), &of(&after)).unwrap().unwrap();
                assert_eq!(found, count as usize);
                assert!(content == file(&after), "{count} rows, every {step}th, columns {columns:?}");
            }
        }
    }

    #[test]
    fn a_row_that_is_not_what_it_was_is_an_error() {
        let all = rows(10, |row| row);
        let content = file(&all);
        let other = rows(12, |row| row + 100);
        let fails = |before: &RecordBatch, after: &RecordBatch| {
            apply(&content, before, after).unwrap_err().to_string().contains("is not in it")
        };
        // Another cell in a later batch.
        let many = rows(BATCH_ROWS as u64 + 10, |row| row);
        let (later, others) = (many.slice(BATCH_ROWS + 3, 1), rows(BATCH_ROWS as u64 + 10, |row| row + 100));
        let error = apply(&file(&many), &others.slice(BATCH_ROWS + 3, 1), &later).unwrap_err();
        assert!(error.to_string().contains("is not in it"));
        // Another cell there, and rows that are not there: behind the last, and between.
        assert!(fails(&other.slice(3, 1), &all.slice(3, 1)));
        assert!(fails(&other.slice(11, 1), &rows(12, |row| row).slice(11, 1)));
        let gap = file(&concat_batches(&all.schema(), [&all.slice(0, 3), &all.slice(4, 6)]).unwrap());
        let error = apply(&gap, &all.slice(3, 1), &other.slice(3, 1)).unwrap_err();
        assert!(error.to_string().contains("is not in it"));
        // The last row, which leaves, was another.
        assert!(fails(&other.slice(9, 1), &all.slice(0, 0)));
    }

    #[test]
    fn keys_of_several_columns_stand_in_any_order() {
        let all = rows(20_000, |row| row % 9000);
        // By the number first, which stands behind the text.
        let sorted = |rows: &RecordBatch| {
            let columns: Vec<arrow::compute::SortColumn> =
                [3, 0].map(|at| arrow::compute::SortColumn { values: rows.column(at).clone(), options: None }).into();
            let places = arrow::compute::lexsort_to_indices(&columns, None).unwrap();
            arrow::compute::take_record_batch(rows, &places).unwrap()
        };
        let other = rows(20_000, |row| row % 9000 + u64::from(row.is_multiple_of(50)));
        let [removed, added] = [&all, &other].map(|rows| sorted(&at(rows, (0..20_000).step_by(50))));
        let field = |at: usize| SortField::new(all.schema().field(at).data_type().clone());
        let converter = RowConverter::new(vec![field(3), field(0)]).unwrap();
        let keys =
            |rows: &RecordBatch| converter.convert_columns(&[rows.column(3).clone(), rows.column(0).clone()]).unwrap();
        let (of_removed, of_added) = (keys(&removed), keys(&added));
        let columns = Columns::new(&converter, &[3, 0], (&of_removed, &removed), (&of_added, &added));
        let encoder = Encoder::new(&all.schema(), &metadata());
        let (content, _) = columns.apply(&file(&sorted(&all)), &encoder).unwrap().unwrap();
        assert!(content == file(&sorted(&other)));
    }

    #[test]
    fn nothing_is_copied_of_a_file_of_another_version() {
        let all = rows(10, |row| row);
        let properties = parquet::file::properties::WriterProperties::builder().set_created_by("another".to_owned());
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(Vec::new(), all.schema(), Some(properties.build())).unwrap();
        writer.write(&all).unwrap();
        let content = writer.into_inner().unwrap().into();
        let other = mixed(&all, &rows(10, |row| row + 1), &[1]);
        let expected = concat_batches(&all.schema(), [&all.slice(0, 5), &other.slice(5, 1), &all.slice(6, 4)]).unwrap();
        assert!(apply(&content, &all.slice(5, 1), &other.slice(5, 1)).unwrap().unwrap().0 == file(&expected));
    }

    #[test]
    fn rows_that_keys_do_not_tell_apart_are_left_to_a_merge() {
        let all = rows(10, |row| row);
        let twice = concat_batches(&all.schema(), [&all.slice(0, 4), &all.slice(3, 7)]).unwrap();
        assert!(apply(&file(&twice), &all.slice(5, 1), &rows(10, |_| 1).slice(5, 1)).unwrap().is_none());
        // Nor where the two are parted by the end of a batch.
        let many = rows(BATCH_ROWS as u64 + 10, |row| row);
        let (front, back) = (many.slice(0, BATCH_ROWS), many.slice(BATCH_ROWS - 1, 11));
        let twice = concat_batches(&many.schema(), [&front, &back]).unwrap();
        let other = rows(BATCH_ROWS as u64 + 10, |_| 1);
        assert!(apply(&file(&twice), &many.slice(5, 1), &other.slice(5, 1)).unwrap().is_none());
        // Nor where a row comes that cannot be told from one that stays, or nothing differs.
        assert!(apply(&file(&all), &all.slice(5, 1), &rows(10, |_| 1).slice(6, 1)).unwrap().is_none());
        assert!(apply(&file(&all), &all.slice(5, 1), &all.slice(5, 1)).unwrap().is_none());
    }
}
