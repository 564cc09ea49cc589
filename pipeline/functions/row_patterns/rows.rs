//! The rows of all groups, as they came, until their groups are complete.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::common::Result;
use datafusion::logical_expr::EmitTo;

/// The column that holds the position of a row in its partition.
pub(super) const POSITION: usize = 0;

/// Columns of rows in the order of their arrival, and the group of each row.
#[derive(Debug, Default, Clone)]
pub(super) struct Rows {
    batches: Vec<Vec<ArrayRef>>,
    groups: Vec<u32>,
    bytes: usize,
    /// The number of groups that were seen.
    group_count: usize,
}

/// Rows ordered by group and position.
pub(super) struct Ordered {
    pub(super) columns: Vec<ArrayRef>,
    /// Where each group begins, and the end of the last.
    pub(super) offsets: Vec<usize>,
}

impl Rows {
    /// Adds rows of the given groups.
    pub(super) fn append(&mut self, columns: Vec<ArrayRef>, groups: impl Iterator<Item = usize>, group_count: usize) {
        self.group_count = self.group_count.max(group_count);
        if columns[POSITION].is_empty() {
            return;
        }
        self.groups.extend(groups.map(|group| group as u32));
        self.bytes += columns.iter().map(bytes_of).sum::<usize>();
        self.batches.push(columns);
    }

    /// Takes out the rows of groups that are complete. `None` for the columns when there was never a row.
    pub(super) fn take(&mut self, emit_to: EmitTo) -> Result<(Option<Vec<ArrayRef>>, Vec<usize>)> {
        let count = match emit_to {
            EmitTo::All => self.group_count,
            EmitTo::First(count) => count,
        };
        let Some(Ordered { columns, offsets }) = self.ordered(count)? else {
            self.group_count = self.group_count.saturating_sub(count);
            return Ok((None, vec![0; count + 1]));
        };
        let (taken, all) = (offsets[count], columns[POSITION].len());
        let groups = std::mem::take(self).groups;
        if taken < all {
            let mut left: Vec<u32> = groups.into_iter().filter(|group| *group as usize >= count).collect();
            left.sort_unstable();
            let rest = UInt32Array::from_iter_values(taken as u32..all as u32);
            // Copied, lest a few rows keep the memory of all.
            let rest = columns.iter().map(|column| Ok(take(column, &rest, None)?)).collect::<Result<Vec<_>>>()?;
            self.append(rest, left.iter().map(|group| *group as usize - count), 0);
        }
        self.group_count = offsets.len() - 1 - count;
        let columns = columns.iter().map(|column| column.slice(0, taken)).collect();
        Ok((Some(columns), offsets[..=count].to_vec()))
    }

    /// All rows by group and position; at least so many groups have an offset.
    fn ordered(&self, count: usize) -> Result<Option<Ordered>> {
        let Some(first) = self.batches.first() else {
            return Ok(None);
        };
        let columns = (0..first.len()).map(|column| {
            let parts: Vec<&dyn Array> = self.batches.iter().map(|batch| batch[column].as_ref()).collect();
            match parts.as_slice() {
                [_] => Ok(first[column].clone()),
                parts => Ok(concat(parts)?),
            }
        });
        let mut columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let positions = columns[POSITION].as_primitive::<UInt64Type>().values();
        let key = |row: u32| (self.groups[row as usize], positions[row as usize]);
        let rows = self.groups.len() as u32;
        if !(1..rows).all(|row| key(row - 1) <= key(row)) {
            let mut order: Vec<u32> = (0..rows).collect();
            order.sort_unstable_by_key(|row| key(*row));
            let order = UInt32Array::from(order);
            columns = columns.iter().map(|column| Ok(take(column, &order, None)?)).collect::<Result<_>>()?;
        }
        let mut offsets = vec![0; self.group_count.max(count) + 1];
        for group in &self.groups {
            offsets[*group as usize + 1] += 1;
        }
        for group in 1..offsets.len() {
            offsets[group] += offsets[group - 1];
        }
        Ok(Some(Ordered { columns, offsets }))
    }

    /// The memory that is held, in bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes + self.groups.capacity() * size_of::<u32>()
    }
}

fn bytes_of(column: &ArrayRef) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
}
