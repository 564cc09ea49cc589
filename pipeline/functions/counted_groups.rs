//! Groups accumulators of functions that count: rows are counted for their groups, and states and results are made of what
//! was counted, which is then forgotten.

use std::fmt::Debug;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::single_group::FirstGroup;

/// What is counted of many groups.
pub(super) trait Counted: Debug + Send + Sync + Sized + 'static {
    /// The same with nothing counted.
    fn empty(&self) -> Self;

    /// Counts rows, each for its group, but for those that do not pass the filter.
    fn count_rows(
        &mut self,
        arguments: &[ArrayRef],
        group_indices: impl Iterator<Item = usize>,
        filter: Option<&BooleanArray>,
    ) -> Result<()>;

    /// Adds states, each to its group.
    fn merge_states(&mut self, states: &[ArrayRef], group_indices: impl Iterator<Item = usize>) -> Result<()>;

    /// Brings in what it put off of the states that it was given, before it makes states of its own.
    fn settle(&mut self) {}

    /// The states of the first `groups` groups.
    fn states(&self, groups: usize) -> Result<Vec<ArrayRef>>;

    /// The results of the first `groups` groups.
    fn results(&self, groups: usize) -> Result<ArrayRef>;

    /// Forgets the first `groups` groups, and names that no other group has; the `left` others move down by as many.
    fn forget(&mut self, groups: usize, left: usize) -> Result<()>;

    /// Bytes beside its own.
    fn heap_size(&self) -> usize;
}

/// A groups accumulator of what is counted.
#[derive(Debug)]
pub(super) struct CountedGroups<C> {
    /// How many groups there are; some may have no rows.
    pub(super) groups: usize,
    pub(super) counted: C,
}

impl<C: Counted> CountedGroups<C> {
    /// Without groups.
    pub(super) fn of(counted: C) -> Self {
        Self { groups: 0, counted }
    }

    /// Makes something of the groups that go, and forgets them.
    fn emit<T>(&mut self, emit_to: EmitTo, make: impl FnOnce(&C, usize) -> Result<T>) -> Result<T> {
        let groups = match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(groups) => groups,
        };
        let made = make(&self.counted, groups)?;
        self.groups -= groups;
        self.counted.forget(groups, self.groups)?;
        Ok(made)
    }
}

impl<C: Counted> GroupsAccumulator for CountedGroups<C> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = self.groups.max(total_num_groups);
        self.counted.count_rows(values, group_indices.iter().copied(), opt_filter)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.groups = self.groups.max(total_num_groups);
        self.counted.merge_states(values, group_indices.iter().copied())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.emit(emit_to, C::results)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.counted.settle();
        self.emit(emit_to, C::states)
    }

    /// Each row becomes the state of a group of its own.
    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each = self.counted.empty();
        each.count_rows(values, 0..rows, opt_filter)?;
        each.states(rows)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.counted.heap_size()
    }
}

impl<C: Counted> FirstGroup for CountedGroups<C> {
    fn begin(&mut self) {
        self.groups = self.groups.max(1);
    }

    fn peek(&mut self) -> Result<ArrayRef> {
        self.counted.results(1)
    }
}
