//! Cells of a published file that become others while its rows stay where they are. A column without such cells is copied as it
//! is stored, neither decoded nor encoded; the file is, to the last byte, the one that encoding all its rows gives.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::row::{RowConverter, Rows};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;

use super::files::{BATCH_ROWS, Encoder, without_idle_nulls};
use super::patch::{lower_bound, missing};
use crate::delta::CREATED_BY;
use crate::error::Result;

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

/// What is read of a file: the columns of the keys and those that change, by their places in the file.
struct Reading {
    columns: Vec<usize>,
}

impl Reading {
    fn column<'a>(&self, batch: &'a RecordBatch, at: usize) -> &'a ArrayRef {
        batch.column(self.columns.partition_point(|column| *column < at))
    }
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
    /// error if a row is not what it was.
    pub fn apply(&self, content: &Bytes, encoder: &Encoder) -> Result<Option<(Vec<u8>, usize)>> {
        let options = ArrowReaderOptions::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_encoding_stats_as_mask(false);
        let file = ArrowReaderMetadata::load(content, options)?;
        let metadata = file.metadata();
        let has_indexes = metadata.column_index().is_some() && metadata.offset_index().is_some();
        let is_flat = metadata.file_metadata().schema_descr().num_columns() == self.after.num_columns();
        // Of another version a column may be stored otherwise.
        let is_of_this_version = metadata.file_metadata().created_by() == Some(CREATED_BY);
        let can_be_copied = has_indexes && is_flat && is_of_this_version && metadata.num_row_groups() == 1;
        if self.changed.is_empty() || !can_be_copied {
            return Ok(None);
        }
        let mut columns: Vec<usize> = self.keyed.iter().chain(&self.changed).copied().collect();
        columns.sort_unstable();
        columns.dedup();
        let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), columns.iter().copied());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(content.clone(), file.clone())
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()?;
        let Some(batches) = self.changed_columns(&Reading { columns }, reader)? else { return Ok(None) };
        let Some(first) = batches.first() else { return Ok(None) };
        let (mut writer, factory) = encoder.by_column(first)?;
        let writers = factory.create_column_writers(0)?;
        let mut group = writer.next_row_group()?;
        for (at, column) in writers.into_iter().enumerate() {
            match self.changed.binary_search(&at) {
                Ok(place) => encoded(column, place, &batches)?.close()?.append_to_row_group(&mut group)?,
                Err(_) => group.append_column(content, stored(metadata, at)?)?,
            }
        }
        group.close()?;
        Ok(Some((writer.into_inner()?, metadata.file_metadata().num_rows() as usize)))
    }

    /// The columns that change as they are afterwards; `None` where keys are not in order, or one comes twice.
    fn changed_columns(
        &self,
        reading: &Reading,
        batches: impl Iterator<Item = std::result::Result<RecordBatch, arrow::error::ArrowError>>,
    ) -> Result<Option<Vec<RecordBatch>>> {
        let after = self.after.project(&self.changed)?;
        let (mut changed, mut next, mut last) = (Vec::new(), 0, None);
        for batch in batches {
            let batch = batch?;
            let keys: Vec<ArrayRef> = self.keyed.iter().map(|at| reading.column(&batch, *at).clone()).collect();
            let keys = self.converter.convert_columns(&keys)?;
            let is_rising = last.as_ref().is_none_or(|last: &arrow::row::OwnedRow| last.row() < keys.row(0));
            if !is_rising || !keys.iter().zip(keys.iter().skip(1)).all(|(one, other)| one < other) {
                return Ok(None);
            }
            last = Some(keys.row(keys.num_rows() - 1).owned());
            let (first, mut places) = (next, Vec::new());
            while next < self.keys.num_rows() {
                let key = self.keys.row(next);
                let place = lower_bound(&keys, places.last().map_or(0, |place| *place as usize + 1), key);
                if place == keys.num_rows() {
                    break;
                }
                if keys.row(place) != key {
                    return Err(missing());
                }
                places.push(place as u32);
                next += 1;
            }
            let at = UInt32Array::from(places);
            let cells = |column: (usize, &usize)| {
                let (place, column) = column;
                let found = reading.column(&batch, *column);
                if take(found, &at, None)? != self.before.column(*column).slice(first, at.len()) {
                    return Err(missing());
                }
                let mut sources: Vec<(usize, usize)> = (0..batch.num_rows()).map(|row| (0, row)).collect();
                at.values().iter().zip(first..).for_each(|(row, other)| sources[*row as usize] = (1, other));
                Ok(interleave(&[found.as_ref(), after.column(place).as_ref()], &sources)?)
            };
            let columns = self.changed.iter().enumerate().map(cells).collect::<Result<Vec<_>>>()?;
            changed.push(without_idle_nulls(&RecordBatch::try_new(after.schema(), columns)?)?);
        }
        if next < self.keys.num_rows() {
            return Err(missing());
        }
        Ok(Some(changed))
    }
}

/// A column of rows, encoded.
fn encoded(mut writer: ArrowColumnWriter, column: usize, batches: &[RecordBatch]) -> Result<ArrowColumnWriter> {
    for batch in batches {
        for leaf in compute_leaves(batch.schema_ref().field(column), batch.column(column))? {
            writer.write(&leaf)?;
        }
    }
    Ok(writer)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
        // Another cell there, and rows that are not there: behind the last, and between.
        assert!(fails(&other.slice(3, 1), &all.slice(3, 1)));
        assert!(fails(&other.slice(11, 1), &rows(12, |row| row).slice(11, 1)));
        let gap = file(&concat_batches(&all.schema(), [&all.slice(0, 3), &all.slice(4, 6)]).unwrap());
        assert!(apply(&gap, &all.slice(3, 1), &other.slice(3, 1)).is_err());
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
        // Nor is anything copied where nothing differs.
        assert!(apply(&file(&all), &all.slice(5, 1), &all.slice(5, 1)).unwrap().is_none());
    }
}
