//! A published file brought up to date: what changed of its rows is known, so the table need not be read for the others. Where
//! keys tell its rows apart that is done column by column ([`columns`](super::columns)), and otherwise row by row.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Date32Type, SchemaRef};
use arrow::row::{OwnedRow, Row, RowConverter, Rows, SortField};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::columns::{Columns, lower_bound, missing};
use super::files::{BATCH_ROWS, Encoder};
use crate::error::{Error, Result};
use crate::models::Exchanged;

/// Rows that leave a file and rows that come into it, in the schema of the file.
#[derive(Debug)]
pub struct Patch {
    removed: RecordBatch,
    added: RecordBatch,
}

impl Patch {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.removed.num_rows() + self.added.num_rows() == 0
    }

    /// The patch of the only file of a mart whose rows are of `schema`.
    pub fn of_file(schema: &SchemaRef, exchanged: &Exchanged) -> Result<Self> {
        Ok(Self { removed: joined(schema, &exchanged.removed)?, added: joined(schema, &exchanged.added)? })
    }

    /// The patches of the files of a mart by the days in a column, which the files do not hold.
    pub fn by_day(schema: &SchemaRef, exchanged: &Exchanged, day: &str) -> Result<BTreeMap<Option<i32>, Self>> {
        let Self { removed, added } = Self::of_file(schema, exchanged)?;
        let at = schema.index_of(day)?;
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|column| *column != at).collect();
        let mut days: BTreeMap<Option<i32>, [Vec<u32>; 2]> = BTreeMap::new();
        for (side, rows) in [&removed, &added].into_iter().enumerate() {
            for (row, day) in (0u32..).zip(rows.column(at).as_primitive::<Date32Type>()) {
                days.entry(day).or_default()[side].push(row);
            }
        }
        let (removed, added) = (removed.project(&kept)?, added.project(&kept)?);
        let of_day = |(day, [gone, new]): (Option<i32>, [Vec<u32>; 2])| {
            let removed = take_record_batch(&removed, &UInt32Array::from(gone))?;
            Ok((day, Self { removed, added: take_record_batch(&added, &UInt32Array::from(new))? }))
        };
        days.into_iter().map(of_day).collect()
    }

    /// The file that `before` becomes, encoded by `encoder`, and its rows; `before` has the columns of the patch and is
    /// sorted by `keys`. An error if a row that leaves is not there; of rows that only change, if their keys or the cells that
    /// change are not.
    pub fn apply(&self, before: Option<Bytes>, keys: &[String], encoder: Encoder) -> Result<(Vec<u8>, usize)> {
        let mut merge = Merge::new(self, keys, encoder.of_about(before.as_ref().map_or(0, Bytes::len)))?;
        if let Some(before) = before {
            if let Some(file) = merge.columns().apply(&before, &merge.encoder)? {
                return Ok(file);
            }
            let reader = ParquetRecordBatchReaderBuilder::try_new(before)?.with_batch_size(BATCH_ROWS).build()?;
            for batch in reader {
                merge.take(&RecordBatch::try_new(self.added.schema(), batch?.columns().to_vec())?)?;
            }
        }
        merge.finish()
    }
}

/// Rows as one batch, which must have exactly these columns.
fn joined(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<RecordBatch> {
    let columns = |rows: &RecordBatch| {
        let is_same = |(a, b): (&arrow::datatypes::FieldRef, &arrow::datatypes::FieldRef)| {
            a.name() == b.name() && a.data_type() == b.data_type()
        };
        let (found, expected) = (rows.schema(), schema.fields());
        match found.fields().len() == expected.len() && found.fields().iter().zip(expected).all(is_same) {
            true => Ok(RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?),
            false => Err(Error::internal(format!("rows have the columns {found}, expected {schema}"))),
        }
    };
    let rows = rows.iter().map(columns).collect::<Result<Vec<_>>>()?;
    Ok(concat_batches(schema, &rows)?)
}

/// Rows of a patch in the order of the file.
struct Side {
    rows: RecordBatch,
    keys: Rows,
    next: usize,
}

impl Side {
    fn new(rows: &RecordBatch, columns: &[usize], converter: &RowConverter, whole: &RowConverter) -> Result<Self> {
        let keys = converter.convert_columns(rows.project(columns)?.columns())?;
        let all = whole.convert_columns(rows.columns())?;
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        let place = |row: &u32| (keys.row(*row as usize), all.row(*row as usize));
        order.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        let rows = take_record_batch(rows, &UInt32Array::from(order))?;
        let keys = converter.convert_columns(rows.project(columns)?.columns())?;
        Ok(Self { rows, keys, next: 0 })
    }

    fn key(&self) -> Option<Row<'_>> {
        (self.next < self.keys.num_rows()).then(|| self.keys.row(self.next))
    }
}

/// Goes through a file in its order with both sides of a patch.
struct Merge {
    keyed: Vec<usize>,
    converter: RowConverter,
    whole: RowConverter,
    removed: Side,
    added: Side,
    last: Option<OwnedRow>,
    encoder: Encoder,
}

impl Merge {
    fn new(patch: &Patch, keys: &[String], encoder: Encoder) -> Result<Self> {
        let schema = patch.added.schema();
        let keyed = keys.iter().map(|key| schema.index_of(key)).collect::<Result<Vec<_>, _>>()?;
        let field = |at: usize| SortField::new(schema.field(at).data_type().clone());
        let converter = RowConverter::new(keyed.iter().map(|at| field(*at)).collect())?;
        let whole = RowConverter::new((0..schema.fields().len()).map(field).collect())?;
        let removed = Side::new(&patch.removed, &keyed, &converter, &whole)?;
        let added = Side::new(&patch.added, &keyed, &converter, &whole)?;
        Ok(Self { keyed, converter, whole, removed, added, last: None, encoder })
    }

    /// The same, to be done column by column.
    fn columns(&self) -> Columns<'_> {
        let [removed, added] = [&self.removed, &self.added].map(|side| (&side.keys, &side.rows));
        Columns::new(&self.converter, &self.keyed, removed, added)
    }

    fn keys(&self, rows: &RecordBatch) -> Result<Rows> {
        Ok(self.converter.convert_columns(rows.project(&self.keyed)?.columns())?)
    }

    /// Takes the next rows of the file.
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let ends = self.keys(&batch.slice(rows - 1, 1))?;
        let is_beyond = |key: Option<Row<'_>>| key.is_none_or(|key| key > ends.row(0));
        if is_beyond(self.removed.key()) && is_beyond(self.added.key()) {
            self.last = Some(ends.row(0).owned());
            return self.encoder.push(batch.clone());
        }
        let keys = self.keys(batch)?;
        if self.last.as_ref().is_some_and(|last| last.row() > keys.row(0)) {
            return Err(Error::corrupt("its rows are not in order"));
        }
        let mut begin = 0;
        loop {
            // Where both come to one place, the new row stands before.
            let is_new = match (self.removed.key(), self.added.key()) {
                (Some(removed), Some(added)) => added <= removed,
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (None, None) => break,
            };
            let side = if is_new { &self.added } else { &self.removed };
            let key = side.key().expect("it was looked at");
            let mut place = lower_bound(&keys, begin, key);
            if place == rows {
                break;
            }
            if !is_new {
                let gone = self.whole.convert_columns(side.rows.slice(side.next, 1).columns())?;
                while place < rows && keys.row(place) == key && !self.is_row(batch, place, gone.row(0))? {
                    place += 1;
                }
                if place == rows || keys.row(place) != key {
                    return Err(missing());
                }
            }
            self.encoder.push(batch.slice(begin, place - begin))?;
            begin = place;
            if is_new {
                self.push_added(1)?;
            } else {
                begin += 1;
                self.removed.next += 1;
            }
        }
        self.last = Some(keys.row(rows - 1).owned());
        self.encoder.push(batch.slice(begin, rows - begin))
    }

    fn is_row(&self, batch: &RecordBatch, at: usize, row: Row<'_>) -> Result<bool> {
        Ok(self.whole.convert_columns(batch.slice(at, 1).columns())?.row(0) == row)
    }

    fn push_added(&mut self, count: usize) -> Result<()> {
        let rows = self.added.rows.slice(self.added.next, count);
        self.added.next += count;
        self.encoder.push(rows)
    }

    fn finish(mut self) -> Result<(Vec<u8>, usize)> {
        if self.removed.key().is_some() {
            return Err(missing());
        }
        self.push_added(self.added.rows.num_rows() - self.added.next)?;
        self.encoder.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    /// Rows of a name, a number and a day.
    type Line = (String, i64, Option<i32>);

    fn schema() -> SchemaRef {
        let text = Field::new("name", DataType::Utf8, true);
        Arc::new(Schema::new(vec![
            text,
            Field::new("number", DataType::Int64, true),
            Field::new("day", DataType::Date32, true),
        ]))
    }

    fn batch(lines: &[Line]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(lines.iter().map(|line| &line.0))),
            Arc::new(Int64Array::from_iter_values(lines.iter().map(|line| line.1))),
            Arc::new(Date32Array::from_iter(lines.iter().map(|line| line.2))),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    }

    fn encoded(lines: &[Line]) -> Vec<u8> {
        let mut sorted = lines.to_vec();
        sorted.sort();
        let mut encoder = Encoder::new(&schema(), &[]);
        // However the rows come.
        for piece in sorted.chunks(1000) {
            encoder.push(batch(piece)).unwrap();
        }
        encoder.finish().unwrap().0
    }

    fn exchanged(removed: &[Line], added: &[Line]) -> Exchanged {
        Exchanged { removed: vec![batch(removed)], added: vec![batch(&[]), batch(added)] }
    }

    fn line(number: u64) -> Line {
        // Spread, so that neighbours are no neighbours.
        (format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), (number % 7).cast_signed(), None)
    }

    #[test]
    fn a_patched_file_is_the_file_of_all_its_rows_to_the_last_byte() {
        let keys = ["name".to_string()];
        for (count, step) in [(0, 1), (1, 1), (20_000, 3), (20_000, 997), (30_000, 29_999)] {
            let before: Vec<Line> = (0..count).map(line).collect();
            // Of some the number is another, some are gone, some are new.
            let removed: Vec<Line> = before.iter().step_by(step).cloned().collect();
            let mut added: Vec<Line> =
                removed.iter().step_by(2).map(|(name, number, day)| (name.clone(), number + 1, *day)).collect();
            added.extend((count..count + count / step as u64 + 2).map(line));
            let mut after: Vec<Line> = before.iter().filter(|line| !removed.contains(line)).cloned().collect();
            after.extend(added.iter().cloned());
            let patch = Patch::of_file(&schema(), &exchanged(&removed, &added)).unwrap();
            let merge = Merge::new(&patch, &keys, Encoder::new(&schema(), &[])).unwrap();
            let by_column = merge.columns().apply(&encoded(&before).into(), &merge.encoder).unwrap();
            assert_eq!(by_column.is_some(), !before.is_empty());
            let (content, rows) =
                patch.apply(Some(encoded(&before).into()), &keys, Encoder::new(&schema(), &[])).unwrap();
            assert_eq!(rows, after.len());
            assert!(content == encoded(&after), "{count} rows, every {step}th");
        }
    }

    #[test]
    fn a_patched_file_of_the_same_rows_is_the_file_of_their_new_cells_to_the_last_byte() {
        let keys = ["name".to_string()];
        for (count, step) in [(1, 1), (20_000, 3), (20_000, 997)] {
            let before: Vec<Line> = (0..count).map(line).collect();
            let removed: Vec<Line> = before.iter().step_by(step).cloned().collect();
            let changed = |(name, number, day): &Line| (name.clone(), number + 1, *day);
            let added: Vec<Line> = removed.iter().map(changed).collect();
            let after: Vec<Line> = (before.iter().enumerate())
                .map(|(at, line)| if at % step == 0 { changed(line) } else { line.clone() })
                .collect();
            let patch = Patch::of_file(&schema(), &exchanged(&removed, &added)).unwrap();
            let merge = Merge::new(&patch, &keys, Encoder::new(&schema(), &[])).unwrap();
            let by_column = merge.columns().apply(&encoded(&before).into(), &merge.encoder).unwrap();
            assert_eq!(by_column.is_some(), !before.is_empty());
            let (content, rows) =
                patch.apply(Some(encoded(&before).into()), &keys, Encoder::new(&schema(), &[])).unwrap();
            assert_eq!(rows, after.len());
            assert!(content == encoded(&after), "{count} rows, every {step}th");
        }
    }

    #[test]
    fn rows_with_one_key_are_told_apart_by_all_their_columns() {
        let row = |number: i64| ("a".to_string(), number, None);
        let before = [row(1), row(2), row(3)];
        let patch = Patch::of_file(&schema(), &exchanged(&[row(2)], &[])).unwrap();
        let apply = |patch: &Patch| {
            patch.apply(Some(encoded(&before).into()), &["name".to_string()], Encoder::new(&schema(), &[]))
        };
        assert!(apply(&patch).unwrap().0 == encoded(&[row(1), row(3)]));
        for gone in [row(4), ("b".to_string(), 1, None), ("A".to_string(), 1, None)] {
            let patch = Patch::of_file(&schema(), &exchanged(&[gone], &[])).unwrap();
            assert!(apply(&patch).unwrap_err().to_string().contains("is not in it"));
        }
    }

    #[test]
    fn rows_go_to_the_files_of_their_days() {
        let row = |name: &str, day| (name.to_string(), 1, day);
        let exchanged = exchanged(&[row("a", Some(1)), row("b", None)], &[row("a", Some(2)), row("c", Some(1))]);
        let patches = Patch::by_day(&schema(), &exchanged, "day").unwrap();
        let counts: Vec<_> =
            patches.iter().map(|(day, patch)| (*day, patch.removed.num_rows(), patch.added.num_rows())).collect();
        assert_eq!(counts, [(None, 1, 0), (Some(1), 1, 1), (Some(2), 0, 1)]);
        assert_eq!(patches[&None].removed.schema().fields().len(), 2);
        let other = Schema::new(vec![Field::new("name", DataType::Utf8, true)]);
        assert!(Patch::of_file(&Arc::new(other), &exchanged).is_err());
    }
}
