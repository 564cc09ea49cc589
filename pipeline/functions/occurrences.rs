//! Rows as (time, conditions): what the aggregates over ordered conditions share.
//!
//! An aggregate over a time and up to 32 conditions keeps of a row its time, which conditions it meets, and its group:
//! 16 bytes, in one flat buffer for all groups. [`Occurrences`] collects them, whatever the order of rows, batches and
//! partial states, and hands each group to a [`GroupFunction`] in the order of (time, conditions): an order of the
//! values alone, so that what a function makes of it cannot depend on how rows arrived.
//!
//! - Rows whose time is null are skipped; a null condition does not hold.
//! - Rows that meet no condition are skipped unless the function keeps them.
//! - Times of timestamps and dates are microseconds, integers stay what they are.
//! - A state is a list of structs, one per row, in the order of arrival.
//! - Memory: 16 bytes per row kept; twice that for the groups on their way out if groups are interleaved.

mod accumulate;
mod arguments;
mod lists;
mod store;

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::Result;
use datafusion::logical_expr::utils::format_state_name;

pub(super) use self::accumulate::{Occurrences, SingleOccurrences};
pub(super) use self::arguments::{
    MOST_CONDITIONS, coerce_constant_span, coerce_rows, constant, constant_span, constant_text, counted_unit,
    logical_constant, returned_time_type,
};
pub(super) use self::lists::TimeLists;

use super::arguments::list_type;

/// What is kept of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occurrence {
    /// Microseconds for timestamps and dates, the number itself for integers.
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

/// The fields of a row in a state.
fn state_row_fields() -> Fields {
    Fields::from(vec![Field::new("time", DataType::Int64, true), Field::new("conditions", DataType::UInt32, true)])
}

/// The state of an aggregate over occurrences, for a call of the given name.
pub(super) fn state_fields(name: &str) -> Vec<FieldRef> {
    let rows = list_type(DataType::Struct(state_row_fields()));
    vec![Arc::new(Field::new(format_state_name(name, "occurrences"), rows, true))]
}
