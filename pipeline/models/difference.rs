//! What is different between the rows that a table had for some keys and those that it is to have.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Date32Type, SchemaRef};
use hashbrown::{HashMap, HashSet};

use super::digests::{Digest, Digests};
use crate::derived::keys::as_text;
use crate::derived::storage::is_flat;
use crate::error::{Error, Result};

/// The keys whose rows are different, and the days on which these rows lie.
#[derive(Debug, Default)]
pub struct Difference {
    /// Keys of which some row is new, gone or another.
    pub keys: BTreeSet<String>,
    /// Rows that are gone and new in all; one that is another is both.
    pub rows: RowCount,
    /// By column of dates: the days of these rows, with how many there are; `None` is a row without a day.
    pub days: BTreeMap<String, BTreeMap<Option<i32>, RowCount>>,
    /// Of each batch before: which rows are gone.
    pub removed: Vec<BooleanArray>,
    /// Of each batch after: which rows are new.
    pub added: Vec<BooleanArray>,
    /// These rows.
    pub exchanged: Exchanged,
}

/// Rows that are gone and rows that are new, without their nested columns.
#[derive(Debug, Clone, Default)]
pub struct Exchanged {
    /// Rows that were there before.
    pub removed: Vec<RecordBatch>,
    /// Rows that are there now.
    pub added: Vec<RecordBatch>,
}

/// Rows that are gone and rows that are new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCount {
    /// Rows that were there before.
    pub removed: usize,
    /// Rows that are there now.
    pub added: usize,
}

/// Compares rows before and after, both in `schema`, as multisets: their order says nothing.
///
/// Memory: about 40 bytes per row beside the rows.
pub fn difference(schema: &SchemaRef, key: &str, before: &[RecordBatch], after: &[RecordBatch]) -> Result<Difference> {
    let digests = Digests::new();
    let mut counts: HashMap<Digest, i64> = HashMap::new();
    let (before_rows, after_rows) = (digests.of(before)?, digests.of(after)?);
    for digest in after_rows.iter().flatten() {
        *counts.entry(*digest).or_default() += 1;
    }
    for digest in before_rows.iter().flatten() {
        *counts.entry(*digest).or_default() -= 1;
    }
    counts.retain(|_, count| *count != 0);
    let mut difference = Difference::default();
    let days: Vec<&str> = schema
        .fields()
        .iter()
        .filter(|field| *field.data_type() == DataType::Date32)
        .map(|field| field.name().as_str())
        .collect();
    for name in &days {
        difference.days.insert((*name).to_string(), BTreeMap::new());
    }
    // Of equal rows as many are gone or new as there are fewer or more of them.
    for (sides, is_new) in [((before, &before_rows), false), ((after, &after_rows), true)] {
        let step = if is_new { -1 } else { 1 };
        for (batch, digests) in sides.0.iter().zip(sides.1) {
            let keys = keys_of(batch, key)?;
            let mut is_other = vec![false; digests.len()];
            for (row, digest) in digests.iter().enumerate() {
                let Some(count) = counts.get_mut(digest).filter(|count| count.signum() == -step) else { continue };
                *count += step;
                is_other[row] = true;
                if !difference.keys.contains(keys.value(row)) {
                    difference.keys.insert(keys.value(row).to_string());
                }
                difference.rows.count(is_new);
                for name in &days {
                    let dates = batch.column_by_name(name).expect("it is of the schema").as_primitive::<Date32Type>();
                    let day = dates.is_valid(row).then(|| dates.value(row));
                    difference.days.get_mut(*name).expect("it was made").entry(day).or_default().count(is_new);
                }
            }
            let rows = if is_new { &mut difference.added } else { &mut difference.removed };
            rows.push(is_other.into());
        }
    }
    let flat: Vec<usize> = (0..schema.fields().len()).filter(|at| is_flat(schema.field(*at))).collect();
    let flat =
        |batches: &[RecordBatch]| batches.iter().map(|batch| batch.project(&flat)).collect::<Result<Vec<_>, _>>();
    difference.exchanged = Exchanged {
        removed: picked(&flat(before)?, &difference.removed)?,
        added: picked(&flat(after)?, &difference.added)?,
    };
    Ok(difference)
}

impl RowCount {
    fn count(&mut self, is_new: bool) {
        match is_new {
            true => self.added += 1,
            false => self.removed += 1,
        }
    }
}

/// The rows of each batch that are picked for it.
pub fn picked(batches: &[RecordBatch], is_picked: &[BooleanArray]) -> Result<Vec<RecordBatch>> {
    let rows = batches.iter().zip(is_picked).filter(|(_, is_picked)| is_picked.true_count() > 0);
    rows.map(|(batch, is_picked)| Ok(filter_record_batch(batch, is_picked)?)).collect()
}

/// The rows that have one of these keys.
pub fn rows_of(batches: &[RecordBatch], key: &str, wanted: &BTreeSet<String>) -> Result<Vec<RecordBatch>> {
    let wanted: HashSet<&str> = wanted.iter().map(String::as_str).collect();
    let mut kept = Vec::with_capacity(batches.len());
    for batch in batches {
        let keys = keys_of(batch, key)?;
        let is_wanted: BooleanArray = keys.iter().map(|key| key.map(|key| wanted.contains(key))).collect();
        kept.push(filter_record_batch(batch, &is_wanted)?);
    }
    Ok(kept)
}

fn keys_of(batch: &RecordBatch, key: &str) -> Result<StringArray> {
    let column = batch.column_by_name(key);
    as_text(column.ok_or_else(|| Error::invalid(format!("there is no column `{key}`")))?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Int64Array};

    use super::*;

    fn rows(rows: &[(&str, i64, Option<i32>)]) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([
            ("key", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))) as ArrayRef, true),
            ("number", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))), true),
            ("day", Arc::new(Date32Array::from_iter(rows.iter().map(|row| row.2))), true),
        ])
        .unwrap()
    }

    #[test]
    fn keys_and_days_of_rows_that_differ_are_told_and_no_others() {
        let before =
            rows(&[("a", 1, Some(1)), ("a", 2, Some(2)), ("b", 1, Some(3)), ("c", 1, None), ("d", 7, Some(9))]);
        let after =
            rows(&[("d", 7, Some(9)), ("a", 2, Some(2)), ("a", 1, Some(1)), ("b", 1, Some(4)), ("e", 1, Some(5))]);
        let one = std::slice::from_ref::<RecordBatch>;
        let found = difference(&before.schema(), "key", one(&before), one(&after)).unwrap();
        assert_eq!(found.keys.iter().map(String::as_str).collect::<Vec<_>>(), ["b", "c", "e"]);
        let count = |removed, added| RowCount { removed, added };
        assert_eq!(found.rows, count(2, 2));
        assert_eq!(
            found.days["day"],
            [(None, count(1, 0)), (Some(3), count(1, 0)), (Some(4), count(0, 1)), (Some(5), count(0, 1))].into()
        );
        let gone = picked(one(&before), &found.removed).unwrap();
        assert_eq!(gone, [rows(&[("b", 1, Some(3)), ("c", 1, None)])]);
        let new = picked(one(&after), &found.added).unwrap();
        assert_eq!(new, [rows(&[("b", 1, Some(4)), ("e", 1, Some(5))])]);
        let kept = rows_of(&[after], "key", &found.keys).unwrap();
        assert_eq!(kept[0], rows(&[("b", 1, Some(4)), ("e", 1, Some(5))]));
        // A row that is there once more is another matter.
        let twice = rows(&[("a", 1, Some(1)), ("a", 1, Some(1))]);
        let once = rows(&[("a", 1, Some(1))]);
        assert_eq!(difference(&once.schema(), "key", one(&once), one(&twice)).unwrap().rows, count(0, 1));
        assert_eq!(difference(&once.schema(), "key", one(&twice), one(&once)).unwrap().rows, count(1, 0));
        assert!(difference(&once.schema(), "key", one(&once), one(&once)).unwrap().keys.is_empty());
    }
}
