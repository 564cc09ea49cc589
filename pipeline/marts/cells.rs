//! Cells of a published file that become others while its rows stay where they are. A column without such cells is copied as it
//! is stored, neither decoded nor encoded; the others are decoded and encoded each by itself, on several threads. The file is, to the
//! last byte, the one that encoding all its rows gives.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::row::{OwnedRow, Row, RowConverter, Rows};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use rayon::prelude::*;

use super::files::{BATCH_ROWS, Encoder, without_idle_nulls};
use crate::delta::CREATED_BY;
use crate::error::{Error, Result};

/// Rows before and after, in the order of the file, whose keys are the same.
pub struct Cells<'a> {
    converter: &'a RowConverter,
    /// Places of the columns of the keys.
    keyed: &'a [usize],
    keys: &'a Rows,
    before: &'a RecordBatch,
    after: &'a RecordBatch,
    /// Places of the columns in which rows differ.
    changed: Vec<usize>,
}

/// Where the rows that change lie in a batch of the file.
struct Places {
    /// Rows of the batch.
    count: usize,
    rows: UInt32Array,
    /// The first of them among the rows that change.
    first: usize,
}

/// A column that changes, while the file is gone through.
struct Column {
    at: usize,
    reader: ParquetRecordBatchReader,
    /// Its next cells.
    next: RecordBatch,
}

impl<'a> Cells<'a> {
    /// The cells that differ between `before` and `after`. `keys` are those of either, in the columns at `keyed`.
    pub fn new(
        converter: &'a RowConverter,
        keyed: &'a [usize],
        keys: &'a Rows,
        before: &'a RecordBatch,
        after: &'a RecordBatch,
    ) -> Self {
        let differ = |column: &usize| before.column(*column) != after.column(*column);
        let changed = (0..before.num_columns()).filter(differ).collect();
        Self { converter, keyed, keys, before, after, changed }
    }

    /// The file that `content` becomes, and its rows, written as by `encoder`; `None` where all its rows must be written. An
    /// error if a key, or a cell that changes, is not what it was.
    pub fn apply(&self, content: &Bytes, encoder: &Encoder) -> Result<Option<(Vec<u8>, usize)>> {
        let options = ArrowReaderOptions::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_encoding_stats_as_mask(false);
        let file = ArrowReaderMetadata::load(content, options)?;
        let metadata = file.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let has_indexes = metadata.column_index().is_some() && metadata.offset_index().is_some();
        let has_no_nested = schema.num_columns() == self.after.num_columns();
        // What one version stores otherwise is told by the layout of a mart too; the version is a second look.
        let is_of_this_version = metadata.file_metadata().created_by() == Some(CREATED_BY);
        let can_be_copied = has_indexes && has_no_nested && is_of_this_version && metadata.num_row_groups() == 1;
        if self.changed.is_empty() || !can_be_copied {
            return Ok(None);
        }
        let reader = |columns: &[usize]| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(content.clone(), file.clone())
                .with_projection(ProjectionMask::roots(schema, columns.iter().copied()))
                .with_batch_size(BATCH_ROWS)
                .build()
        };
        let mut keyed = self.keyed.to_vec();
        keyed.sort_unstable();
        let Some(places) = self.places(reader(&keyed)?, &keyed)? else { return Ok(None) };
        let Some((first, others)) = places.split_first() else { return Ok(None) };
        // Each column is read, changed and encoded by itself.
        let open = |at: &usize| {
            let mut reader = reader(&[*at])?;
            let next = self.next_cells(*at, &mut reader, first)?;
            Ok(Column { at: *at, reader, next })
        };
        let columns: Vec<Column> = self.changed.par_iter().map(open).collect::<Result<_>>()?;
        let schema = Arc::new(self.after.schema().project(&self.changed)?);
        let cells = columns.iter().map(|column| column.next.column(0).clone()).collect();
        let (mut writer, factory) = encoder.by_column(&RecordBatch::try_new(schema, cells)?)?;
        let writers = factory.create_column_writers(0)?.into_iter().enumerate();
        let is_changed = |(at, writer)| self.changed.contains(&at).then_some(writer);
        let writers: Vec<_> = writers.filter_map(is_changed).collect();
        let encode = |(mut column, mut writer): (Column, ArrowColumnWriter)| {
            let mut others = others.iter();
            loop {
                for leaf in compute_leaves(column.next.schema_ref().field(0), column.next.column(0))? {
                    writer.write(&leaf)?;
                }
                let Some(places) = others.next() else { return Ok(writer.close()?) };
                column.next = self.next_cells(column.at, &mut column.reader, places)?;
            }
        };
        let encoded: Vec<_> = columns.into_par_iter().zip(writers).map(encode).collect::<Result<_>>()?;
        let (mut group, mut encoded) = (writer.next_row_group()?, encoded.into_iter());
        for at in 0..self.after.num_columns() {
            if self.changed.contains(&at) {
                let column = encoded.next().ok_or_else(|| Error::internal("a column was not encoded"))?;
                column.append_to_row_group(&mut group)?;
            } else {
                group.append_column(content, stored(metadata, at)?)?;
            }
        }
        group.close()?;
        Ok(Some((writer.into_inner()?, metadata.file_metadata().num_rows() as usize)))
    }

    /// Where the rows that change lie, batch by batch; `reader` reads the columns of the keys, in the order of the file. `None`
    /// where keys are not in order, or one comes twice.
    fn places(&self, reader: ParquetRecordBatchReader, keyed: &[usize]) -> Result<Option<Vec<Places>>> {
        let (mut all, mut next, mut last) = (Vec::new(), 0, None::<OwnedRow>);
        for batch in reader {
            let batch = batch?;
            let column = |at: &usize| batch.column(keyed.partition_point(|column| column < at)).clone();
            let keys: Vec<ArrayRef> = self.keyed.iter().map(column).collect();
            let keys = self.converter.convert_columns(&keys)?;
            let goes_on = last.as_ref().is_none_or(|last| last.row() < keys.row(0));
            if !goes_on || !keys.iter().zip(keys.iter().skip(1)).all(|(one, other)| one < other) {
                return Ok(None);
            }
            last = Some(keys.row(keys.num_rows() - 1).owned());
            let (first, mut rows) = (next, Vec::new());
            while next < self.keys.num_rows() {
                let key = self.keys.row(next);
                let place = lower_bound(&keys, rows.last().map_or(0, |place| *place as usize + 1), key);
                if place == keys.num_rows() {
                    break;
                }
                if keys.row(place) != key {
                    return Err(missing());
                }
                rows.push(place as u32);
                next += 1;
            }
            all.push(Places { count: batch.num_rows(), rows: rows.into(), first });
        }
        match next == self.keys.num_rows() {
            true => Ok(Some(all)),
            false => Err(missing()),
        }
    }

    /// The next cells of a column, as they are afterwards.
    fn next_cells(&self, at: usize, reader: &mut ParquetRecordBatchReader, places: &Places) -> Result<RecordBatch> {
        let found = reader.next().ok_or_else(missing)??;
        let (found, Places { count, rows, first }) = (found.column(0), places);
        if found.len() != *count || take(found, rows, None)? != self.before.column(at).slice(*first, rows.len()) {
            return Err(missing());
        }
        let cells = if rows.is_empty() {
            found.clone()
        } else {
            let mut sources: Vec<(usize, usize)> = (0..found.len()).map(|row| (0, row)).collect();
            rows.values().iter().zip(*first..).for_each(|(row, other)| sources[*row as usize] = (1, other));
            interleave(&[found.as_ref(), self.after.column(at).as_ref()], &sources)?
        };
        let schema = Arc::new(self.after.schema().project(&[at])?);
        without_idle_nulls(&RecordBatch::try_new(schema, vec![cells])?)
    }
}

/// What a file says of a column of its only row group, which is to be copied.
fn stored(metadata: &ParquetMetaData, at: usize) -> Result<ColumnCloseResult> {
    let mut chunk = metadata.row_group(0).column(at).clone();
    // Readers do not tell that the least and the greatest value stand in the fields of old too.
    if let Some(statistics) = chunk.statistics().cloned()
        && chunk.column_descr().sort_order().is_signed()
    {
        chunk = chunk.into_builder().set_statistics(with_fields_of_old(statistics)).build()?;
    }
    let column_index = metadata.column_index().map(|groups| groups[0][at].clone());
    Ok(ColumnCloseResult {
        bytes_written: chunk.compressed_size() as u64,
        rows_written: metadata.file_metadata().num_rows() as u64,
        metadata: chunk,
        bloom_filter: None,
        column_index: column_index.filter(|index| !matches!(index, ColumnIndexMetaData::NONE)),
        offset_index: metadata.offset_index().map(|groups| groups[0][at].clone()),
    })
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
    use arrow::compute::concat_batches;
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

    fn apply(content: &Bytes, before: &RecordBatch, after: &RecordBatch) -> Result<Option<(Vec<u8>, usize)>> {
        let converter = RowConverter::new(vec![SortField::new(arrow::datatypes::DataType::Utf8)]).unwrap();
        let keys = converter.convert_columns(&[before.column(0).clone()]).unwrap();
        let encoder = Encoder::new(&before.schema(), &metadata());
        Cells::new(&converter, &[0], &keys, before, after).apply(content, &encoder)
    }

    #[test]
    fn a_file_whose_cells_change_is_the_file_of_all_its_rows_to_the_last_byte() {
        for (count, step) in [(1, 1), (500, 7), (20_000, 1), (20_000, 997), (20_000, 19_999), (8192 * 2, 8191)] {
            for columns in [&[1][..], &[2], &[3, 4], &[5, 6], &[7, 9], &[1, 2, 3, 4, 5, 6, 7, 9]] {
                let before = rows(count, |row| row);
                let other = rows(count, |row| if row % step == 0 { row * 3 + 1 } else { row });
                let after = mixed(&before, &other, columns);
                let touched = UInt32Array::from_iter_values((0..count as u32).step_by(step as usize));
                let of = |rows: &RecordBatch| arrow::compute::take_record_batch(rows, &touched).unwrap();
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
    }

    #[test]
    fn a_file_of_another_version_is_left_to_a_merge() {
        let all = rows(10, |row| row);
        let properties = parquet::file::properties::WriterProperties::builder().set_created_by("another".to_owned());
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(Vec::new(), all.schema(), Some(properties.build())).unwrap();
        writer.write(&all).unwrap();
        let content = writer.into_inner().unwrap().into();
        let other = mixed(&all, &rows(10, |row| row + 1), &[1]);
        assert!(apply(&content, &all.slice(5, 1), &other.slice(5, 1)).unwrap().is_none());
        assert!(apply(&file(&all), &all.slice(5, 1), &other.slice(5, 1)).unwrap().is_some());
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
        // Nor is anything copied where nothing differs.
        assert!(apply(&file(&all), &all.slice(5, 1), &all.slice(5, 1)).unwrap().is_none());
    }
}
