//! Events of many groups in the order in which they arrive, and the way out: grouped, and in the order of time.

use std::cmp::Ordering;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::{Result, resources_datafusion_err, resources_err};
use datafusion::logical_expr::EmitTo;

use super::columns::{Column, Ids, Primitives, column_of, times_column};

/// The order of the events of a group on their way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// By time, event id where events have one and, for events that share these, the values: the result.
    Time,
    /// As they arrived: a state, sorted where it ends up.
    Arrival,
}

/// Events grouped: group `i` owns the elements from `offsets[i]` to `offsets[i + 1]`.
pub(super) struct Grouped {
    pub offsets: OffsetBuffer<i32>,
    /// Times, event ids where events have them, then the values.
    pub columns: Vec<ArrayRef>,
}

/// Events of many groups.
#[derive(Debug)]
pub(super) struct Events {
    /// The function whose events they are, for its errors.
    function: &'static str,
    times: Primitives<TimestampMicrosecondType>,
    ids: Option<Ids>,
    values: Vec<Box<dyn Column>>,
    /// The group of each event.
    groups: Vec<u32>,
    group_count: usize,
}

impl Events {
    /// No events, with values of the given stored types, and with or without event ids.
    pub(super) fn new<'a>(
        function: &'static str,
        has_ids: bool,
        value_types: impl Iterator<Item = &'a DataType>,
    ) -> Result<Self> {
        Ok(Self {
            function,
            times: times_column(),
            ids: has_ids.then(Ids::default),
            values: value_types.map(|stored| column_of(function, stored)).collect::<Result<_>>()?,
            groups: Vec::new(),
            group_count: 0,
        })
    }

    /// Appends events: `columns` are times and, where events have them, ids, both without nulls, then the values.
    pub(super) fn append(&mut self, columns: &[ArrayRef], groups: impl Iterator<Item = usize>) -> Result<()> {
        let function = self.function;
        self.groups.extend(groups.map(|group| group as u32));
        if u32::try_from(self.groups.len()).is_err() {
            return resources_err!("{function}: more than 4 billion events in one partition; raise target_partitions");
        }
        for (column, array) in self.columns().zip(columns) {
            column.append(function, array)?;
        }
        Ok(())
    }

    /// Makes known how many groups there are; some may have no events.
    pub(super) fn grow_groups(&mut self, group_count: usize) {
        self.group_count = self.group_count.max(group_count);
    }

    /// Removes groups from the front and returns their events; the other groups move up.
    pub(super) fn emit(&mut self, emit_to: EmitTo, order: Order) -> Result<Grouped> {
        let emitted = match emit_to {
            EmitTo::All => self.group_count,
            EmitTo::First(groups) => groups,
        };
        let (rows, offsets) = self.rows_of(emitted, order)?;

        let kept: Vec<u32> = match rows.len() == self.groups.len() {
            true => Vec::new(),
            false => (0..self.groups.len() as u32).filter(|&row| self.groups[row as usize] >= emitted as u32).collect(),
        };
        // Column by column, so that never more than one is held twice.
        let mut columns = Vec::new();
        for column in self.columns() {
            columns.push(column.gather(&rows)?);
            column.keep(&kept);
        }
        self.groups = kept.iter().map(|&row| self.groups[row as usize] - emitted as u32).collect();
        self.group_count -= emitted;
        Ok(Grouped { offsets, columns })
    }

    /// The events of all groups, which stay.
    pub(super) fn peek(&mut self, order: Order) -> Result<Grouped> {
        let (rows, offsets) = self.rows_of(self.group_count, order)?;
        let columns = self.columns().map(|column| column.gather(&rows)).collect::<Result<_>>()?;
        Ok(Grouped { offsets, columns })
    }

    /// Bytes allocated.
    pub(super) fn size(&self) -> usize {
        let values: usize = self.values.iter().map(|column| size_of_val(&**column) + column.size()).sum();
        let ids = self.ids.as_ref().map_or(0, Column::size);
        self.times.size() + ids + values + self.groups.capacity() * size_of::<u32>()
    }

    fn columns(&mut self) -> impl Iterator<Item = &mut (dyn Column + 'static)> {
        let Self { times, ids, values, .. } = self;
        let times: &mut (dyn Column + 'static) = times;
        let ids = ids.iter_mut().map(|ids| ids as &mut (dyn Column + 'static));
        std::iter::once(times).chain(ids).chain(values.iter_mut().map(|column| &mut **column))
    }

    /// The rows of the first groups, group after group, and where each group begins and ends among them.
    fn rows_of(&self, group_count: usize, order: Order) -> Result<(Vec<u32>, OffsetBuffer<i32>)> {
        let (mut rows, offsets) = self.count_into_groups(group_count)?;
        if order == Order::Time {
            self.sort_groups(&mut rows, &offsets);
        }
        let offsets = offsets.into_iter().map(|offset| offset as i32).collect::<Vec<_>>();
        Ok((rows, OffsetBuffer::new(ScalarBuffer::from(offsets))))
    }

    /// A counting sort by group; rows of one group keep their order.
    fn count_into_groups(&self, group_count: usize) -> Result<(Vec<u32>, Vec<u32>)> {
        let mut offsets = vec![0u32; group_count + 1];
        for &group in &self.groups {
            if (group as usize) < group_count {
                offsets[group as usize + 1] += 1;
            }
        }
        for group in 0..group_count {
            offsets[group + 1] += offsets[group];
        }
        let row_count = i32::try_from(offsets[group_count]).map_err(|_| {
            let function = self.function;
            resources_datafusion_err!("{function}: more than 2 billion events in one result; raise target_partitions")
        })?;
        let mut rows = vec![0u32; row_count as usize];
        let mut next = offsets.clone();
        for (row, &group) in self.groups.iter().enumerate() {
            if let Some(next) = next[..group_count].get_mut(group as usize) {
                rows[*next as usize] = row as u32;
                *next += 1;
            }
        }
        Ok((rows, offsets))
    }

    /// Sorts the rows of each group by time unless they are in order, as they are when events arrive in time.
    fn sort_groups(&self, rows: &mut [u32], offsets: &[u32]) {
        let times = self.times.values();
        let mut scratch: Vec<(i64, u32)> = Vec::new();
        for bounds in offsets.windows(2) {
            let rows = &mut rows[bounds[0] as usize..bounds[1] as usize];
            scratch.clear();
            scratch.extend(rows.iter().map(|&row| (times[row as usize], row)));
            if scratch.is_sorted_by(|left, right| self.compare(*left, *right).is_le()) {
                continue;
            }
            // Stable, since it is the one that makes use of runs: a group is mostly a few sorted states.
            scratch.sort_by(|left, right| self.compare(*left, *right));
            for (row, (_, sorted)) in rows.iter_mut().zip(&scratch) {
                *row = *sorted;
            }
        }
    }

    #[inline]
    fn compare(&self, left: (i64, u32), right: (i64, u32)) -> Ordering {
        left.0.cmp(&right.0).then_with(|| self.compare_ties(left.1, right.1))
    }

    /// The order of two events of one time. Ids are unique by contract; if not, the values decide, not the arrival.
    fn compare_ties(&self, left: u32, right: u32) -> Ordering {
        let by_value = || self.values.iter().map(|column| column.compare(left, right)).find(|order| order.is_ne());
        let by_id = self.ids.as_ref().map_or(Ordering::Equal, |ids| ids.compare(left, right));
        by_id.then_with(|| by_value().unwrap_or(Ordering::Equal))
    }
}
