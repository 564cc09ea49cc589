//! The nodes of many groups: of each row its time, its group, and one number for its value and what it meets.

use std::cmp::Ordering;
use std::hash::BuildHasher;

use datafusion::common::{Result, resources_err};
use datafusion::logical_expr::EmitTo;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::question::Met;

/// A row: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    pub time: i64,
    /// Its kind, a number of [`Kinds`].
    pub kind: u32,
    pub group: u32,
}

/// The distinct pairs of a value and what a row meets, numbered from 0 as they are first seen.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    bytes: Vec<u8>,
    /// Where each value ends in `bytes`.
    ends: Vec<usize>,
    met: Vec<Met>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// The value of a kind.
fn value<'a>(bytes: &'a [u8], ends: &[usize], kind: u32) -> &'a [u8] {
    let kind = kind as usize;
    let start = kind.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start..ends[kind]]
}

impl Kinds {
    /// The number of a pair, a new one if the pair is new.
    pub(super) fn number(&mut self, text: &str, met: Met) -> Result<u32> {
        let Self { bytes, ends, met: met_of, numbers, hasher } = self;
        let hash = hasher.hash_one((text.as_bytes(), met));
        let is_same = |kind: &u32| met_of[*kind as usize] == met && value(bytes, ends, *kind) == text.as_bytes();
        if let Some(kind) = numbers.find(hash, is_same) {
            return Ok(*kind);
        }
        let Some(kind) = u32::try_from(ends.len()).ok().filter(|kind| *kind < i32::MAX as u32) else {
            return resources_err!("sequence_next_node: more than 2 billion distinct values; raise target_partitions");
        };
        bytes.extend_from_slice(text.as_bytes());
        ends.push(bytes.len());
        met_of.push(met);
        numbers.insert_unique(hash, kind, |kind| hasher.hash_one((value(bytes, ends, *kind), met_of[*kind as usize])));
        Ok(kind)
    }

    pub(super) fn value(&self, kind: u32) -> &str {
        str::from_utf8(value(&self.bytes, &self.ends, kind)).expect("it came as text")
    }

    pub(super) fn met(&self, kind: u32) -> Met {
        self.met[kind as usize]
    }

    /// The number of kinds.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The order of two kinds: by value, then by what they meet.
    fn compare(&self, left: u32, right: u32) -> Ordering {
        let value = |kind| value(&self.bytes, &self.ends, kind);
        match left == right {
            true => Ordering::Equal,
            false => value(left).cmp(value(right)).then_with(|| self.met(left).cmp(&self.met(right))),
        }
    }

    fn size(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.met.capacity() * size_of::<Met>()
            + self.numbers.allocation_size()
    }
}

/// The nodes of many groups, in the order in which they arrive.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    rows: Vec<Node>,
    kinds: Kinds,
    group_count: usize,
}

/// Nodes grouped: group `i` owns the rows from `ends[i - 1]`, or 0, to `ends[i]`.
pub(super) struct Grouped {
    pub rows: Vec<Node>,
    pub ends: Vec<usize>,
}

impl Nodes {
    /// Makes known how many groups there are; some may have no rows.
    pub(super) fn grow_groups(&mut self, group_count: usize) {
        self.group_count = self.group_count.max(group_count);
    }

    /// Where to append rows, and the kinds that they may have.
    pub(super) fn parts(&mut self) -> (&mut Vec<Node>, &mut Kinds) {
        (&mut self.rows, &mut self.kinds)
    }

    pub(super) fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Removes groups from the front and returns their rows in the order of arrival; the other groups move up.
    pub(super) fn take(&mut self, emit_to: EmitTo) -> Grouped {
        let taken = match emit_to {
            EmitTo::All => self.group_count,
            EmitTo::First(groups) => groups,
        };
        let ends = self.ends(taken);
        let is_grouped = self.rows.is_sorted_by_key(|row| row.group);
        let rows = if is_grouped { self.cut(&ends) } else { self.count_into_groups(&ends) };
        for row in &mut self.rows {
            row.group -= taken as u32;
        }
        self.group_count = self.group_count.saturating_sub(taken);
        Grouped { rows, ends }
    }

    /// Forgets the kinds that no row has, once they are many: those of groups that have left.
    pub(super) fn forget_kinds(&mut self) -> Result<()> {
        const FEW: usize = 1024;
        if self.rows.is_empty() {
            (self.rows, self.kinds) = (Vec::new(), Kinds::default());
            return Ok(());
        }
        if self.kinds.ends.len() <= 2 * self.rows.len() + FEW {
            return Ok(());
        }
        let mut kinds = Kinds::default();
        for row in &mut self.rows {
            row.kind = kinds.number(self.kinds.value(row.kind), self.kinds.met(row.kind))?;
        }
        self.kinds = kinds;
        Ok(())
    }

    /// The rows of the only group, in order, and their kinds; they stay.
    pub(super) fn single(&mut self) -> (&[Node], &Kinds) {
        self.kinds.sort(&mut self.rows);
        (&self.rows, &self.kinds)
    }

    /// Bytes allocated.
    pub(super) fn size(&self) -> usize {
        self.rows.capacity() * size_of::<Node>() + self.kinds.size()
    }

    /// Where each of the first groups ends, if their rows were laid one after another.
    fn ends(&self, groups: usize) -> Vec<usize> {
        let mut ends = vec![0; groups];
        for row in &self.rows {
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

    /// The first rows, where rows lie group after group, as they do when the input is sorted by group.
    fn cut(&mut self, ends: &[usize]) -> Vec<Node> {
        let kept = self.rows.split_off(ends.last().copied().unwrap_or(0));
        std::mem::replace(&mut self.rows, kept)
    }

    /// A counting sort by group; rows of one group keep their order.
    fn count_into_groups(&mut self, ends: &[usize]) -> Vec<Node> {
        let mut next: Vec<usize> =
            (0..ends.len()).map(|group| group.checked_sub(1).map_or(0, |before| ends[before])).collect();
        let mut rows = vec![Node { time: 0, kind: 0, group: 0 }; ends.last().copied().unwrap_or(0)];
        self.rows.retain(|row| {
            let Some(next) = next.get_mut(row.group as usize) else {
                return true;
            };
            rows[*next] = *row;
            *next += 1;
            false
        });
        rows
    }
}

impl Kinds {
    /// Sorts rows of one group by (time, value, what they meet), unless they are in order.
    pub(super) fn sort(&self, rows: &mut [Node]) {
        let compare =
            |left: &Node, right: &Node| left.time.cmp(&right.time).then_with(|| self.compare(left.kind, right.kind));
        if !rows.is_sorted_by(|left, right| compare(left, right).is_le()) {
            // Stable, since it is the one that makes use of runs: a group is mostly a few sorted states.
            rows.sort_by(compare);
        }
    }
}
