//! Rows of many groups in the order in which they arrive, and the way out: group after group.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ListArray, StructArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::Fields;
use datafusion::common::{Result, resources_err};
use datafusion::logical_expr::EmitTo;

use super::arguments::item_field;

/// What is kept of a row, of a fixed size.
pub(super) trait Row: Copy + Default {
    /// The group of the row.
    fn group(&self) -> u32;

    /// Moves the row to another group.
    fn set_group(&mut self, group: u32);
}

/// Rows of many groups.
#[derive(Debug)]
pub(super) struct GroupedRows<R> {
    rows: Vec<R>,
    group_count: usize,
}

/// Rows on their way out: group `i` owns the rows from `ends[i - 1]`, or 0, to `ends[i]`.
#[derive(Debug)]
pub(super) struct Taken<R> {
    pub rows: Vec<R>,
    pub ends: Vec<usize>,
}

impl<R> Default for GroupedRows<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), group_count: 0 }
    }
}

impl<R: Row> GroupedRows<R> {
    /// Makes known how many groups there are; some may have no rows.
    pub(super) fn grow_groups(&mut self, group_count: usize) {
        self.group_count = self.group_count.max(group_count);
    }

    /// Appends up to `most` rows: `write` fills a buffer of that length and returns how many it filled.
    pub(super) fn append(&mut self, most: usize, write: impl FnOnce(&mut [R]) -> usize) {
        let start = self.rows.len();
        self.rows.resize(start + most, R::default());
        let written = write(&mut self.rows[start..]);
        self.rows.truncate(start + written);
    }

    /// Makes room for more rows.
    pub(super) fn reserve(&mut self, more: usize) {
        self.rows.reserve(more);
    }

    /// Appends rows.
    pub(super) fn extend(&mut self, rows: impl Iterator<Item = R>) {
        self.rows.extend(rows);
    }

    /// Appends a row.
    #[inline]
    pub(super) fn push(&mut self, row: R) {
        self.rows.push(row);
    }

    /// All rows, of which all may change but the group.
    pub(super) fn rows_mut(&mut self) -> &mut [R] {
        &mut self.rows
    }

    /// Whether there are no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Removes groups from the front and returns their rows, in the order of arrival; the other groups move up.
    pub(super) fn take(&mut self, emit_to: EmitTo) -> Taken<R> {
        let taken = match emit_to {
            EmitTo::All => self.group_count,
            EmitTo::First(groups) => groups,
        };
        let is_grouped = self.rows.is_sorted_by_key(Row::group);
        let grouped = if is_grouped { self.cut(taken) } else { self.count_into_groups(taken) };
        for row in &mut self.rows {
            row.set_group(row.group() - taken as u32);
        }
        self.group_count = self.group_count.saturating_sub(taken);
        grouped
    }

    /// Bytes on the heap.
    pub(super) fn size(&self) -> usize {
        self.rows.capacity() * size_of::<R>()
    }

    /// The first groups where rows lie group after group, as they do when the input is sorted by group.
    fn cut(&mut self, taken: usize) -> Taken<R> {
        let end = self.rows.partition_point(|row| (row.group() as usize) < taken);
        let kept = self.rows.split_off(end);
        let rows = std::mem::replace(&mut self.rows, kept);
        let ends = ends_of_groups(&rows, taken);
        Taken { rows, ends }
    }

    /// A counting sort by group; rows of one group keep their order.
    fn count_into_groups(&mut self, taken: usize) -> Taken<R> {
        let ends = ends_of_groups(&self.rows, taken);
        let mut next = Vec::with_capacity(taken);
        next.push(0);
        next.extend_from_slice(&ends[..taken.saturating_sub(1)]);

        let mut rows = vec![R::default(); ends.last().copied().unwrap_or(0)];
        self.rows.retain(|row| {
            let Some(next) = next[..taken].get_mut(row.group() as usize) else {
                return true;
            };
            rows[*next] = *row;
            *next += 1;
            false
        });
        if self.rows.is_empty() {
            self.rows = Vec::new();
        }
        Taken { rows, ends }
    }
}

impl<R> Taken<R> {
    /// Shows the rows of each group.
    pub(super) fn for_each(mut self, mut show: impl FnMut(&mut [R]) -> Result<()>) -> Result<()> {
        let mut start = 0;
        for end in self.ends {
            show(&mut self.rows[start..end])?;
            start = end;
        }
        Ok(())
    }
}

/// Columns of rows as a state: a list of records per group, from where each group ends.
pub(super) fn lists_of_groups(
    function: &str,
    fields: Fields,
    columns: Vec<ArrayRef>,
    ends: &[usize],
) -> Result<ArrayRef> {
    let records = StructArray::try_new(fields, columns, None)?;
    if i32::try_from(records.len()).is_err() {
        return resources_err!("{function}: more than 2 billion rows in one state; raise target_partitions");
    }
    let offsets: Vec<i32> = std::iter::once(0).chain(ends.iter().map(|end| *end as i32)).collect();
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(ListArray::try_new(item_field(records.data_type().clone()), offsets, Arc::new(records), None)?))
}

/// Where each of the first groups ends, if their rows were laid one after another.
pub(super) fn ends_of_groups<R: Row>(rows: &[R], groups: usize) -> Vec<usize> {
    let mut ends = vec![0; groups];
    for row in rows {
        if let Some(count) = ends.get_mut(row.group() as usize) {
            *count += 1;
        }
    }
    let mut end = 0;
    for count in &mut ends {
        end += *count;
        *count = end;
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number and its group.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    struct Number(i64, u32);

    impl Row for Number {
        fn group(&self) -> u32 {
            self.1
        }

        fn set_group(&mut self, group: u32) {
            self.1 = group;
        }
    }

    fn rows(numbers: &[(i64, u32)], groups: usize) -> GroupedRows<Number> {
        let mut rows = GroupedRows::default();
        rows.grow_groups(groups);
        rows.append(numbers.len() + 3, |buffer| {
            for (slot, (number, group)) in buffer.iter_mut().zip(numbers) {
                *slot = Number(*number, *group);
            }
            numbers.len()
        });
        rows
    }

    fn groups(rows: &mut GroupedRows<Number>, emit_to: EmitTo) -> Vec<Vec<i64>> {
        let mut groups = vec![];
        let show = |group: &mut [Number]| {
            groups.push(group.iter().map(|number| number.0).collect());
            Ok(())
        };
        rows.take(emit_to).for_each(show).unwrap();
        groups
    }

    #[test]
    fn groups_come_out_in_order_of_arrival_whether_or_not_they_lie_interleaved() {
        let interleaved = [(5, 2), (3, 0), (1, 2), (2, 0)];
        let grouped = [(3, 0), (2, 0), (5, 2), (1, 2)];
        for numbers in [interleaved, grouped] {
            let mut rows = rows(&numbers, 4);
            assert_eq!(groups(&mut rows, EmitTo::All), [vec![3, 2], vec![], vec![5, 1], vec![]]);
            assert_eq!((rows.size(), rows.group_count), (0, 0));
        }
    }

    #[test]
    fn groups_taken_first_leave_the_others() {
        for numbers in [[(1, 1), (2, 0), (3, 2)], [(2, 0), (1, 1), (3, 2)]] {
            let mut rows = rows(&numbers, 3);
            assert_eq!(groups(&mut rows, EmitTo::First(0)), [[0i64; 0]; 0]);
            assert_eq!(groups(&mut rows, EmitTo::First(1)), [[2]]);
            assert_eq!(groups(&mut rows, EmitTo::First(2)), [[1], [3]]);
        }
    }

    #[test]
    fn no_groups_and_no_rows_are_fine() {
        assert!(groups(&mut GroupedRows::default(), EmitTo::All).is_empty());
        assert_eq!(groups(&mut rows(&[], 2), EmitTo::All), [[0i64; 0]; 2]);
    }
}
