//! Rows as (time, conditions): what the aggregates over ordered conditions share.
//!
//! An aggregate over a time and up to 32 conditions keeps of a row its time, which conditions it meets, and its group:
//! 16 bytes, in one flat buffer for all groups. [`Occurrences`] collects them, whatever the order of rows, batches and
//! partial states, and hands each group to a [`GroupFunction`] in the order of (time, conditions): an order of the
//! values alone, so that what a function makes of it cannot depend on how rows arrived.
//!
//! - Rows whose time is null are skipped; a null condition does not hold.
//! - Rows that meet no condition are skipped unless the function keeps them.
//! - Times are moments: microseconds for timestamps and dates, whole numbers as they are.
//! - A state is a list of structs, one per row, in the order of arrival.
//! - Memory: 16 bytes per row kept; twice that for the groups on their way out if groups are interleaved, and 12 more for
//!   those that leave as a state, which is a copy.

mod accumulate;
mod lists;

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::utils::format_state_name;

pub(super) use self::accumulate::Occurrences;
pub(super) use self::lists::TimeLists;
use super::arguments::list_type;
use super::conditions::{MOST_CONDITIONS, coerce_condition};
use super::grouped_rows::Row;
use super::moments::coerce_moment;

/// What is kept of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Occurrence {
    /// The moment of the row.
    pub time: i64,
    /// Bit `k`: condition `k + 1` holds.
    pub conditions: u32,
    group: u32,
}

impl Occurrence {
    /// A row of a group.
    #[inline]
    pub(super) fn new(time: i64, conditions: u32, group: u32) -> Self {
        Self { time, conditions, group }
    }

    /// The order in which a function meets the rows of a group.
    #[inline]
    fn key(&self) -> (i64, u32) {
        (self.time, self.conditions)
    }
}

impl Row for Occurrence {
    #[inline]
    fn group(&self) -> u32 {
        self.group
    }

    #[inline]
    fn set_group(&mut self, group: u32) {
        self.group = group;
    }
}

/// Sorts rows of one group unless they are in order, as they are when they arrive in time.
fn sort(rows: &mut [Occurrence]) {
    if !rows.is_sorted_by_key(Occurrence::key) {
        // Stable, since it is the one that makes use of runs: a group is mostly a few sorted states.
        rows.sort_by_key(Occurrence::key);
    }
}

/// What an aggregate makes of each group.
pub(super) trait GroupFunction: Debug + Send + Sync + 'static {
    /// The name of the SQL function, for messages.
    fn name(&self) -> &'static str;

    /// Whether rows that meet no condition count.
    fn keeps_unmatched(&self) -> bool {
        false
    }

    /// Takes the rows of the next group, in the order of (time, conditions). There may be none.
    fn group(&mut self, occurrences: &[Occurrence]) -> Result<()>;

    /// The results of the groups taken since the last call, one element per group, in their order.
    fn finish(&mut self) -> Result<ArrayRef>;

    /// Bytes on the heap.
    fn size(&self) -> usize;
}

/// Coerces a time and the 1 to 32 conditions after it.
pub(super) fn coerce_rows(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let Some((time, conditions)) = types.split_first() else {
        return plan_err!("{function}: expected a time and 1 to {MOST_CONDITIONS} conditions after it");
    };
    let mut coerced = vec![coerce_moment(function, "the time", time)?];
    if conditions.is_empty() || conditions.len() > MOST_CONDITIONS {
        return plan_err!(
            "{function}: expected 1 to {MOST_CONDITIONS} conditions after the time, got {}",
            conditions.len()
        );
    }
    for (position, condition) in conditions.iter().enumerate() {
        coerced.push(coerce_condition(function, &format!("condition {}", position + 1), condition)?);
    }
    Ok(coerced)
}

/// The fields of a row in a state.
fn state_row_fields() -> Fields {
    Fields::from(vec![Field::new("time", DataType::Int64, true), Field::new("conditions", DataType::UInt32, true)])
}

/// The state of an aggregate over occurrences, for a call of the given name.
pub(super) fn state_fields(name: &str) -> Vec<FieldRef> {
    let rows = list_type(DataType::Struct(state_row_fields()));
    vec![Arc::new(Field::new(format_state_name(name, "occurrences"), rows, true))]
}

#[cfg(test)]
mod tests {
    use super::super::arguments::time_type;
    use super::*;

    #[test]
    fn a_row_takes_sixteen_bytes() {
        assert_eq!(size_of::<Occurrence>(), 16);
    }

    #[test]
    fn times_and_conditions_are_coerced() {
        for (time, coerced) in [(DataType::UInt16, DataType::Int64), (DataType::Null, time_type())] {
            let types = coerce_rows("f", &[time, DataType::Boolean, DataType::Null]).unwrap();
            assert_eq!(types, [coerced, DataType::Boolean, DataType::Boolean]);
        }
        let many = |count: usize| vec![DataType::Boolean; count];
        assert!(coerce_rows("f", &[vec![DataType::Int8], many(32)].concat()).is_ok());
        for (types, expected) in [
            (vec![], "f: expected a time and 1 to 32 conditions"),
            (vec![DataType::Int8], "f: expected 1 to 32 conditions after the time, got 0"),
            ([vec![DataType::Int8], many(33)].concat(), "f: expected 1 to 32 conditions after the time, got 33"),
            (
                vec![DataType::Utf8, DataType::Boolean],
                "f: expected the time to be a timestamp, a date or a whole number, got Utf8",
            ),
            (
                vec![DataType::Int8, DataType::Boolean, DataType::Int8],
                "f: expected condition 2 to be boolean, got Int8",
            ),
        ] {
            let error = coerce_rows("f", &types).unwrap_err().strip_backtrace();
            assert!(error.contains(expected), "{error}");
        }
    }
}
