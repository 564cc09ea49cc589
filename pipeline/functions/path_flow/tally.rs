//! The edges of a group of paths: how many journeys take each, and the spans of time between its ends.
//!
//! Edges are few, however many the journeys; spans are many, so each is kept as a number of its edge and a whole number of
//! microseconds, in the order of arrival, and brought to its edge once, when the answer is asked for.

use std::hash::BuildHasher;

use hashbrown::HashTable;

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
    edges: Vec<Edge>,
    counts: Vec<Counts>,
    span_edges: Vec<u32>,
    spans: Vec<i64>,
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
        let number = match self.index.find(hash(&edge), |(known, _)| *known == edge) {
            Some((_, number)) => *number,
            None => self.insert(edge),
        };
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
        number
    }

    /// Adds a span in microseconds to an edge.
    #[inline]
    pub(super) fn add_span(&mut self, number: u32, span: i64) {
        self.span_edges.push(number);
        self.spans.push(span);
    }

    /// Adds many spans to an edge.
    pub(super) fn add_spans(&mut self, number: u32, spans: &[i64]) {
        self.span_edges.resize(self.span_edges.len() + spans.len(), number);
        self.spans.extend_from_slice(spans);
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
        let mut ends = vec![0; self.edges.len() + 1];
        for number in &self.span_edges {
            ends[*number as usize + 1] += 1;
        }
        for number in 0..self.edges.len() {
            ends[number + 1] += ends[number];
        }
        let mut next = ends.clone();
        let mut spans = vec![0; self.spans.len()];
        for (number, span) in self.span_edges.iter().zip(&self.spans) {
            let place = &mut next[*number as usize];
            spans[*place] = *span;
            *place += 1;
        }
        Spans { spans, ends }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.index.allocation_size()
            + self.edges.capacity() * size_of::<Edge>()
            + self.counts.capacity() * size_of::<Counts>()
            + self.span_edges.capacity() * size_of::<u32>()
            + self.spans.capacity() * size_of::<i64>()
    }
}

/// Spans by edge.
#[derive(Debug)]
pub(super) struct Spans {
    spans: Vec<i64>,
    /// Where the spans of each edge begin, and where the last end.
    ends: Vec<usize>,
}

impl Spans {
    /// The spans of an edge.
    pub(super) fn of(&self, number: usize) -> &[i64] {
        &self.spans[self.ends[number]..self.ends[number + 1]]
    }

    /// The median of an edge's spans, of an even number the mean of the middle two; `None` without spans.
    pub(super) fn median(&mut self, number: usize) -> Option<f64> {
        let spans = &mut self.spans[self.ends[number]..self.ends[number + 1]];
        if spans.is_empty() {
            return None;
        }
        let middle = spans.len() / 2;
        let is_even = spans.len().is_multiple_of(2);
        let (below, upper, _) = spans.select_nth_unstable(middle);
        let upper = *upper;
        match below.iter().max().filter(|_| is_even) {
            None => Some(upper as f64),
            Some(lower) => Some((*lower as f64 + upper as f64) / 2.0),
        }
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
                match span {
                    Some(span) if number % 3 == 0 => tally.add_spans(edge, &[*span]),
                    Some(span) => tally.add_span(edge, *span),
                    None => {}
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
                    let mut sorted: Vec<i64> = own().filter_map(|(_, row)| row.2).collect();
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
        tally.add_spans(number, &[i64::MAX, i64::MAX]);
        assert_eq!(tally.spans().median(number as usize), Some(i64::MAX as f64));
    }
}
