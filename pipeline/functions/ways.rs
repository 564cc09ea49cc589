//! For the tests of groups accumulators: the ways of a batch into the final one. None may show in a result.

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use proptest::prelude::*;

/// The way of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// By itself.
    Update,
    /// As states of groups, the first of which leave before the others.
    State { first: usize },
    /// As states of rows.
    ConvertToState,
}

/// Any way, of so many groups.
pub(super) fn way(groups: usize) -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Update), (0..=groups).prop_map(|first| Way::State { first }), Just(Way::ConvertToState)]
}

impl Way {
    /// Adds rows, each of a group of so many, to an accumulator; `new` makes one for a part.
    pub(super) fn add<G: GroupsAccumulator>(
        self,
        total: &mut G,
        new: impl FnOnce() -> G,
        values: &[ArrayRef],
        of_rows: &[usize],
        filter: &BooleanArray,
        groups: usize,
    ) {
        match self {
            Way::Update => total.update_batch(values, of_rows, Some(filter), groups).unwrap(),
            Way::ConvertToState => {
                let state = total.convert_to_state(values, Some(filter)).unwrap();
                total.merge_batch(&state, of_rows, groups).unwrap();
            }
            Way::State { first } => {
                let mut part = new();
                part.update_batch(values, of_rows, Some(filter), groups).unwrap();
                let all: Vec<usize> = (0..groups).collect();
                let state = part.state(EmitTo::First(first)).unwrap();
                total.merge_batch(&state, &all[..first], groups).unwrap();
                let state = part.state(EmitTo::All).unwrap();
                total.merge_batch(&state, &all[first..], groups).unwrap();
            }
        }
    }
}
