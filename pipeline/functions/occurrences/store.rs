//! Rows of many groups in the order in which they arrive, and the way out: grouped, each group in order.

use std::ops::Range;

use datafusion::logical_expr::EmitTo;

use super::Occurrence;

/// Rows of many groups.
#[derive(Debug, Default)]
pub(super) struct Store {
    rows: Vec<Occurrence>,
    group_count: usize,
}

/// Rows grouped: group `i` owns the rows from `ends[i - 1]`, or 0, to `ends[i]`.
#[derive(Debug)]
pub(super) struct Grouped {
    pub rows: Vec<Occurrence>,
    pub ends: Vec<usize>,
}

impl Store {
    /// Makes known how many groups there are; some may have no rows.
    pub(super) fn grow_groups(&mut self, group_count: usize) {
        self.group_count = self.group_count.max(group_count);
    }

    /// Appends up to `most` rows: `write` fills a buffer of that length and returns how many it filled.
    pub(super) fn append(&mut self, most: usize, write: impl FnOnce(&mut [Occurrence]) -> usize) {
        let start = self.rows.len();
        self.rows.resize(start + most, Occurrence::new(0, 0, 0));
        let written = write(&mut self.rows[start..]);
        self.rows.truncate(start + written);
    }

    /// Removes groups from the front and returns their rows, in the order of arrival; the other groups move up.
    pub(super) fn take(&mut self, emit_to: EmitTo) -> Grouped {
        let taken = match emit_to {
            EmitTo::All => self.group_count,
            EmitTo::First(groups) => groups,
        };
        let is_grouped = self.rows.is_sorted_by_key(|row| row.group);
        let grouped = if is_grouped { self.cut(taken) } else { self.count_into_groups(taken) };
        for row in &mut self.rows {
            row.group -= taken as u32;
        }
        self.group_count = self.group_count.saturating_sub(taken);
        grouped
    }

    /// The rows of the only group, in order; they stay.
    pub(super) fn peek_single(&mut self) -> &[Occurrence] {
        sort(&mut self.rows);
        &self.rows
    }

    /// Bytes on the heap.
    pub(super) fn size(&self) -> usize {
        self.rows.capacity() * size_of::<Occurrence>()
    }

    /// The first groups where rows lie group after group, as they do when the input is sorted by group.
    fn cut(&mut self, taken: usize) -> Grouped {
        let end = self.rows.partition_point(|row| (row.group as usize) < taken);
        let kept = self.rows.split_off(end);
        let rows = std::mem::replace(&mut self.rows, kept);
        let ends = ends_of_groups(&rows, taken);
        Grouped { rows, ends }
    }

    /// A counting sort by group; rows of one group keep their order.
    fn count_into_groups(&mut self, taken: usize) -> Grouped {
        let ends = ends_of_groups(&self.rows, taken);
        let mut next = Vec::with_capacity(taken);
        next.push(0);
        next.extend_from_slice(&ends[..taken.saturating_sub(1)]);

        let mut rows = vec![Occurrence::new(0, 0, 0); ends.last().copied().unwrap_or(0)];
        self.rows.retain(|row| {
            let Some(next) = next[..taken].get_mut(row.group as usize) else {
                return true;
            };
            rows[*next] = *row;
            *next += 1;
            false
        });
        if self.rows.is_empty() {
            self.rows = Vec::new();
        }
        Grouped { rows, ends }
    }
}

impl Grouped {
    /// The rows of each group, in order.
    pub(super) fn for_each_sorted<E>(mut self, mut take: impl FnMut(&[Occurrence]) -> Result<(), E>) -> Result<(), E> {
        let mut start = 0;
        for end in &self.ends {
            let group = &mut self.rows[Range { start, end: *end }];
            sort(group);
            take(group)?;
            start = *end;
        }
        Ok(())
    }
}

/// Where each of the first groups ends, if their rows were laid one after another.
fn ends_of_groups(rows: &[Occurrence], groups: usize) -> Vec<usize> {
    let mut ends = vec![0; groups];
    for row in rows {
        if let Some(count) = ends.get_mut(row.group as usize) {
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

/// Sorts rows of one group unless they are in order, as they are when they arrive in time.
fn sort(rows: &mut [Occurrence]) {
    if !rows.is_sorted_by_key(Occurrence::key) {
        // Stable, since it is the one that makes use of runs: a group is mostly a few sorted states.
        rows.sort_by_key(Occurrence::key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(rows: &[(i64, u32, u32)], groups: usize) -> Store {
        let mut store = Store::default();
        store.grow_groups(groups);
        store.append(rows.len() + 3, |buffer| {
            for (slot, (time, conditions, group)) in buffer.iter_mut().zip(rows) {
                *slot = Occurrence::new(*time, *conditions, *group);
            }
            rows.len()
        });
        store
    }

    fn groups(store: &mut Store, emit_to: EmitTo) -> Vec<Vec<(i64, u32)>> {
        let mut groups = vec![];
        let taken: Result<(), ()> = store.take(emit_to).for_each_sorted(|group| {
            groups.push(group.iter().map(Occurrence::key).collect());
            Ok(())
        });
        taken.unwrap();
        groups
    }

    #[test]
    fn a_row_takes_sixteen_bytes() {
        assert_eq!(size_of::<Occurrence>(), 16);
    }

    #[test]
    fn groups_come_out_in_order_whether_or_not_they_lie_interleaved() {
        let interleaved = [(5, 1, 2), (3, 2, 0), (1, 1, 2), (3, 1, 0)];
        let grouped = [(3, 2, 0), (3, 1, 0), (5, 1, 2), (1, 1, 2)];
        for rows in [interleaved, grouped] {
            let mut store = store(&rows, 4);
            let expected = [vec![(3, 1), (3, 2)], vec![], vec![(1, 1), (5, 1)], vec![]];
            assert_eq!(groups(&mut store, EmitTo::All), expected);
            assert_eq!((store.size(), store.group_count), (0, 0));
        }
    }

    #[test]
    fn groups_taken_first_leave_the_others() {
        for rows in [[(1, 1, 1), (2, 1, 0), (3, 1, 2)], [(2, 1, 0), (1, 1, 1), (3, 1, 2)]] {
            let mut store = store(&rows, 3);
            assert_eq!(groups(&mut store, EmitTo::First(0)), [[(0, 0); 0]; 0]);
            assert_eq!(groups(&mut store, EmitTo::First(1)), [[(2, 1)]]);
            assert_eq!(groups(&mut store, EmitTo::First(2)), [[(1, 1)], [(3, 1)]]);
        }
    }

    #[test]
    fn no_groups_and_no_rows_are_fine() {
        assert!(groups(&mut Store::default(), EmitTo::All).is_empty());
        assert_eq!(groups(&mut store(&[], 2), EmitTo::All), [[(0, 0); 0]; 2]);
    }
}
