//! The nodes of many groups: of each row its time, its group, and one number for its value and what it meets.

use std::cmp::Ordering;
use std::hash::BuildHasher;

use datafusion::common::{Result, resources_err};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::super::grouped_rows::{GroupedRows, Row};
use super::question::Met;

/// A row: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Node {
    pub time: i64,
    /// Its kind, a number of [`Kinds`].
    pub kind: u32,
    pub group: u32,
}

impl Row for Node {
    #[inline]
    fn group(&self) -> u32 {
        self.group
    }

    #[inline]
    fn set_group(&mut self, group: u32) {
        self.group = group;
    }
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

    /// Bytes on the heap.
    fn size(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.met.capacity() * size_of::<Met>()
            + self.numbers.allocation_size()
    }
}

/// The nodes of many groups, in the order in which they arrive, and their kinds.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    pub rows: GroupedRows<Node>,
    pub kinds: Kinds,
}

impl Nodes {
    /// Forgets the kinds that no row has, once they are many: those of groups that have left.
    pub(super) fn forget_kinds(&mut self) -> Result<()> {
        const FEW: usize = 1024;
        if self.rows.is_empty() {
            self.kinds = Kinds::default();
            return Ok(());
        }
        if self.kinds.ends.len() <= 2 * self.rows.len() + FEW {
            return Ok(());
        }
        let mut kinds = Kinds::default();
        for row in self.rows.rows_mut() {
            row.kind = kinds.number(self.kinds.value(row.kind), self.kinds.met(row.kind))?;
        }
        self.kinds = kinds;
        Ok(())
    }

    /// Bytes on the heap.
    pub(super) fn size(&self) -> usize {
        self.rows.size() + self.kinds.size()
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
