//! The edges of a group of paths: how many journeys take each, and the spans of time between its ends.
//!
//! Edges are few, however many the journeys; spans are many, so each is kept as a number of its edge and a whole number of
//! microseconds, in the order of arrival, and brought to its edge once ([`arrivals`](super::arrivals)): when the state is asked
//! for, so that each thread does it for its own, or the answer.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::arrivals::{Arrivals, ByEdge, middle};

/// An edge of a group. Touchpoints are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Edge {
    pub group: u32,
    pub position: u32,
    pub from: u32,
    pub to: u32,
}

/// What is counted of an edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub journeys: u64,
    pub converted: u64,
}

/// Edges of groups.
#[derive(Debug, Default)]
pub(super) struct Tally {
    index: HashTable<(Edge, u32)>,
    /// The numbers of the edges of the first group that have a slot; empty while edges are few.
    slots: Vec<u32>,
    edges: Vec<Edge>,
    counts: Vec<Counts>,
    /// Spans that a word of four bytes holds.
    pub short: Arrivals<u32>,
    /// Others, those below 0 too.
    pub long: Arrivals<i64>,
}

/// Edges that are found well enough without slots.
const FEW: usize = 512;
/// Positions and touchpoints of edges that have a slot.
const POSITIONS: u32 = 16;
const TOUCHPOINTS: u32 = 64;
/// In a slot whose edge has no number.
const NONE: u32 = u32::MAX;

impl Edge {
    #[inline]
    fn slot(self) -> Option<usize> {
        let has_slot = self.group == 0 && self.position < POSITIONS && self.from < TOUCHPOINTS && self.to < TOUCHPOINTS;
        has_slot.then_some(((self.position * TOUCHPOINTS + self.from) * TOUCHPOINTS + self.to) as usize)
    }
}

#[inline]
fn hash(edge: &Edge) -> u64 {
    foldhash::fast::FixedState::default().hash_one((
        u64::from(edge.group) << 32 | u64::from(edge.position),
        u64::from(edge.from) << 32 | u64::from(edge.to),
    ))
}

impl Tally {
    /// The number of edges of all groups.
    pub(super) fn len(&self) -> usize {
        self.edges.len()
    }

    /// The number of an edge, after adding to its counts.
    #[inline]
    pub(super) fn add(&mut self, edge: Edge, counts: Counts) -> u32 {
        let number = match edge.slot().and_then(|slot| self.slots.get(slot)) {
            Some(number) => Some(*number).filter(|number| *number != NONE),
            None => self.index.find(hash(&edge), |(known, _)| *known == edge).map(|(_, number)| *number),
        };
        let number = number.unwrap_or_else(|| self.insert(edge));
        let sum = &mut self.counts[number as usize];
        sum.journeys += counts.journeys;
        sum.converted += counts.converted;
        number
    }

    #[cold]
    fn insert(&mut self, edge: Edge) -> u32 {
        let number = self.edges.len() as u32;
        self.index.insert_unique(hash(&edge), (edge, number), |(known, _)| hash(known));
        self.edges.push(edge);
        self.counts.push(Counts::default());
        if self.edges.len() == FEW {
            self.slots.resize((POSITIONS * TOUCHPOINTS * TOUCHPOINTS) as usize, NONE);
            for (edge, number) in self.edges.iter().zip(0..) {
                if let Some(slot) = edge.slot() {
                    self.slots[slot] = number;
                }
            }
        } else if let Some(slot) = edge.slot().and_then(|slot| self.slots.get_mut(slot)) {
            *slot = number;
        }
        number
    }

    /// Adds a span in microseconds to an edge.
    #[inline]
    pub(super) fn add_span(&mut self, number: u32, span: i64) {
        match u32::try_from(span) {
            Ok(span) => self.short.push(number, span),
            Err(_) => self.long.push(number, span),
        }
    }

    /// The counts of an edge.
    pub(super) fn counts(&self, number: usize) -> Counts {
        self.counts[number]
    }

    /// An edge.
    pub(super) fn edge(&self, number: usize) -> Edge {
        self.edges[number]
    }

    /// The edges of each of the first `groups` groups, and where each group ends.
    pub(super) fn by_group(&self, groups: usize) -> (Vec<u32>, Vec<usize>) {
        let group = |number: &u32| self.edges[*number as usize].group as usize;
        let mut numbers: Vec<u32> = (0..self.edges.len() as u32).filter(|number| group(number) < groups).collect();
        if groups > 1 {
            numbers.sort_by_key(group);
        }
        let ends = (0..groups).map(|last| numbers.partition_point(|number| group(number) <= last)).collect();
        (numbers, ends)
    }

    /// The spans of all edges.
    pub(super) fn spans(&self) -> Spans {
        Spans { short: self.short.by_edge(self.len()), long: self.long.by_edge(self.len()), scratch: Vec::new() }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.index.allocation_size()
            + self.edges.capacity() * size_of::<Edge>()
            + self.counts.capacity() * size_of::<Counts>()
            + self.slots.capacity() * size_of::<u32>()
            + self.short.size()
            + self.long.size()
    }
}

/// Spans by edge.
#[derive(Debug)]
pub(super) struct Spans {
    short: ByEdge<u32>,
    long: ByEdge<i64>,
    /// Those of the edge whose median is looked for that are looked at.
    scratch: Vec<u32>,
}

impl Spans {
    /// The spans of an edge.
    pub(super) fn of(&self, number: usize) -> impl Iterator<Item = i64> {
        let short = self.short.of(number).flatten().map(|span| i64::from(*span));
        self.long.of(number).flatten().copied().chain(short)
    }

    /// The median of an edge's spans, of an even number the mean of the middle two; `None` without spans.
    pub(super) fn median(&mut self, number: usize) -> Option<f64> {
        if self.long.of(number).next().is_none() {
            let middle = self.short.middle(number, &mut self.scratch);
            return middle.map(|[lower, upper]| (f64::from(lower) + f64::from(upper)) / 2.0);
        }
        let mut all: Vec<i64> = self.of(number).collect();
        middle(&mut all)
            .map(|[lower, upper]| if lower == upper { lower as f64 } else { (lower as f64 + upper as f64) / 2.0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edge(group: u32, to: u32) -> Edge {
        Edge { group, position: 1, from: 2, to }
    }

    proptest! {
        #[test]
        fn edges_have_their_counts_and_the_medians_of_their_spans(
            rows in prop::collection::vec((0u32..3, 0u32..4, prop::option::of(-50i64..50)), 0..60),
        ) {
            let mut tally = Tally::default();
            for (number, (group, to, span)) in rows.iter().enumerate() {
                let edge = tally.add(edge(*group, *to), Counts { journeys: 1, converted: number as u64 % 2 });
                // Beyond what four bytes hold, now and then.
                if let Some(span) = span {
                    tally.add_span(edge, *span << (number % 2 * 40));
                }
            }
            let (numbers, ends) = tally.by_group(3);
            let mut spans = tally.spans();
            let mut start = 0;
            for (group, end) in ends.into_iter().enumerate() {
                let mut found = Vec::new();
                for number in &numbers[start..end] {
                    let edge = tally.edge(*number as usize);
                    prop_assert_eq!(edge.group as usize, group);
                    found.push((edge.to, tally.counts(*number as usize), spans.median(*number as usize)));
                }
                start = end;
                found.sort_by_key(|(to, ..)| *to);
                let mut expected = Vec::new();
                for to in 0..4 {
                    let own = || rows.iter().enumerate().filter(|(_, row)| (row.0 as usize, row.1) == (group, to));
                    if own().count() == 0 {
                        continue;
                    }
                    let converted = own().map(|(number, _)| number as u64 % 2).sum();
                    let span = |(number, row): (usize, &(u32, u32, Option<i64>))| Some(row.2? << (number % 2 * 40));
                    let mut sorted: Vec<i64> = own().filter_map(span).collect();
                    sorted.sort_unstable();
                    let middle = |place: usize| sorted.get(place).map(|span| *span as f64);
                    let median = match sorted.len() {
                        0 => None,
                        length if length % 2 == 1 => middle(length / 2),
                        length => Some((middle(length / 2 - 1).unwrap() + middle(length / 2).unwrap()) / 2.0),
                    };
                    expected.push((to, Counts { journeys: own().count() as u64, converted }, median));
                }
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn spans_as_long_as_they_get_have_a_median() {
        let mut tally = Tally::default();
        let number = tally.add(edge(0, 0), Counts::default());
        (0..2).for_each(|_| tally.add_span(number, i64::MAX));
        assert_eq!(tally.spans().median(number as usize), Some(i64::MAX as f64));
    }

    #[test]
    fn many_edges_are_told_apart() {
        let mut tally = Tally::default();
        let edges = (0..3 * 18 * 5 * 70).map(|number| Edge {
            group: number % 3,
            position: number / 3 % 18,
            from: number / 54 % 5 * 20,
            to: number / 270,
        });
        for round in 1..=2 {
            for (number, edge) in edges.clone().enumerate() {
                assert_eq!(tally.add(edge, Counts { journeys: 1, converted: 0 }), number as u32);
                assert_eq!(tally.edge(number), edge);
                assert_eq!(tally.counts(number).journeys, round);
            }
        }
    }
}
