//! Digests of rows: 128 bits each, by which rows are held to be equal.
//!
//! Values are hashed where they lie, lists element by element: no row is laid out in memory for it. Seeded anew in every process, so
//! nobody can write rows that collide.

use std::hash::{BuildHasher, Hasher};

use arrow::array::{Array, AsArray, RecordBatch, downcast_primitive};
use arrow::datatypes::{DataType, ToByteSlice};
use arrow::row::{RowConverter, SortField};
use foldhash::quality::RandomState;

use crate::error::Result;

/// A digest of a row.
pub type Digest = (u64, u64);

type State = <RandomState as BuildHasher>::Hasher;
/// Adds the value in a place to a digest.
type Feed<'a> = Box<dyn Fn(usize, &mut State) + 'a>;

/// What digests are comparable under.
pub struct Digests {
    seeds: [RandomState; 2],
}

impl Digests {
    pub fn new() -> Self {
        Self { seeds: std::array::from_fn(|_| RandomState::default()) }
    }

    /// The digest of each row, by batch.
    pub fn of(&self, batches: &[RecordBatch]) -> Result<Vec<Vec<Digest>>> {
        batches.iter().map(|batch| self.of_batch(batch)).collect()
    }

    fn of_batch(&self, batch: &RecordBatch) -> Result<Vec<Digest>> {
        let columns = batch.columns().iter().map(|column| feed(column)).collect::<Result<Vec<_>>>()?;
        let digest = |row: usize| {
            let [one, other] = &self.seeds;
            let (mut one, mut other) = (one.build_hasher(), other.build_hasher());
            for column in &columns {
                column(row, &mut one);
                column(row, &mut other);
            }
            (one.finish(), other.finish())
        };
        Ok((0..batch.num_rows()).map(digest).collect())
    }
}

/// What adds the values of a column: whether there is one, then the value, with its length where that is its own.
fn feed(column: &dyn Array) -> Result<Feed<'_>> {
    let values = feed_values(column)?;
    Ok(match column.nulls() {
        None => Box::new(move |row, state| {
            state.write_u8(1);
            values(row, state);
        }),
        Some(nulls) => Box::new(move |row, state| {
            state.write_u8(u8::from(nulls.is_valid(row)));
            if nulls.is_valid(row) {
                values(row, state);
            }
        }),
    })
}

fn feed_values(column: &dyn Array) -> Result<Feed<'_>> {
    macro_rules! primitive {
        ($type:ty) => {{
            let values = column.as_primitive::<$type>().values();
            Box::new(move |row, state: &mut State| state.write(values[row].to_byte_slice()))
        }};
    }
    Ok(downcast_primitive! {
        column.data_type() => (primitive),
        DataType::Boolean => {
            let values = column.as_boolean().values();
            Box::new(move |row, state| state.write_u8(u8::from(values.value(row))))
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            Box::new(move |row, state| {
                let text = values.value(row).as_bytes();
                state.write_usize(text.len());
                state.write(text);
            })
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let (offsets, elements) = (lists.value_offsets(), feed(lists.values())?);
            Box::new(move |row, state| {
                let (begin, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                state.write_usize(end - begin);
                for element in begin..end {
                    elements(element, state);
                }
            })
        }
        // Of what is rare in tables the form in which rows are sorted, which tells all values apart.
        other => {
            let converter = RowConverter::new(vec![SortField::new(other.clone())])?;
            let rows = converter.convert_columns(&[arrow::array::make_array(column.to_data())])?;
            Box::new(move |row, state| {
                let row = rows.row(row);
                state.write_usize(row.as_ref().len());
                state.write(row.as_ref());
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListBuilder, StringArray, StringBuilder,
        StructArray,
    };
    use arrow::datatypes::{Field, Int64Type};

    use super::*;

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|column| ("column", column, true))).unwrap()
    }

    fn texts(lists: &[Option<&[Option<&str>]>]) -> ArrayRef {
        let mut builder = ListBuilder::new(StringBuilder::new());
        for list in lists {
            match list {
                Some(elements) => builder.append_value(elements.iter().copied()),
                None => builder.append_null(),
            }
        }
        Arc::new(builder.finish())
    }

    /// Rows none of which equals another, of all kinds of columns.
    fn different() -> Vec<RecordBatch> {
        let numbers = |numbers: Vec<Option<i64>>| Arc::new(Int64Array::from(numbers)) as ArrayRef;
        let fields = vec![(Arc::new(Field::new("n", DataType::Int64, true)), numbers(vec![Some(1), Some(2), None]))];
        let of_numbers = arrow::array::ListArray::from_iter_primitive::<Int64Type, _, _>([
            None,
            Some(vec![]),
            Some(vec![None]),
            Some(vec![Some(0)]),
            Some(vec![Some(0), None]),
            Some(vec![Some(1), Some(2)]),
            Some(vec![Some(2), Some(1)]),
        ]);
        vec![
            batch(vec![numbers(vec![Some(0), Some(1), None, Some(-1), Some(1 << 32)])]),
            batch(vec![Arc::new(Float64Array::from(vec![0.0, -0.0, 1.0, f64::NAN]))]),
            batch(vec![Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))]),
            batch(vec![Arc::new(StringArray::from(vec![Some(""), Some("a"), Some("\0"), Some("a\0"), None]))]),
            batch(vec![Arc::new(Decimal128Array::from(vec![Some(0), Some(1), Some(1 << 64), None]))]),
            // What belongs to one column is no part of the next.
            batch(vec![
                Arc::new(StringArray::from(vec![Some("ab"), Some("a"), Some("abc"), None, Some("")])),
                Arc::new(StringArray::from(vec![Some("c"), Some("bc"), Some(""), Some(""), None])),
            ]),
            batch(vec![texts(&[
                None,
                Some(&[]),
                Some(&[None]),
                Some(&[Some("")]),
                Some(&[Some("a"), Some("b")]),
                Some(&[Some("b"), Some("a")]),
                Some(&[Some("ab")]),
                Some(&[Some("a"), None, Some("b")]),
            ])]),
            batch(vec![Arc::new(of_numbers)]),
            batch(vec![Arc::new(StructArray::from(fields))]),
        ]
    }

    #[test]
    fn rows_that_differ_have_other_digests_and_equal_ones_the_same() {
        let digests = Digests::new();
        for rows in different() {
            let found = digests.of(std::slice::from_ref(&rows)).unwrap().remove(0);
            for (one, digest) in found.iter().enumerate() {
                assert!(!found[..one].contains(digest), "{rows:?}: row {one}");
            }
            // However they lie: cut, after others, and where no value is missing.
            let twice = arrow::compute::concat_batches(&rows.schema(), [&rows, &rows]).unwrap();
            let all = digests.of(&[twice.slice(0, 1), twice.slice(1, twice.num_rows() - 1)]).unwrap().concat();
            assert_eq!(all, [found.clone(), found.clone()].concat());
            for (row, digest) in found.iter().enumerate() {
                let alone =
                    arrow::compute::take_record_batch(&rows, &arrow::array::UInt32Array::from(vec![row as u32]));
                assert_eq!(digests.of(&[alone.unwrap()]).unwrap(), [[*digest]]);
            }
        }
    }
}
