//! Spans of edges: those that come one by one in the order of their arrival, in chunks, so that growing moves nothing, and
//! those of a state edge by edge, where the state has them if they are most of what lies there.
//!
//! In a state the spans of each edge are halved: the median, the upper one if there are two, stands in the middle (at half
//! the length), none before it is longer and none behind it is shorter. The median of several such pieces lies between their
//! medians, and the little that does too is all that is looked at one by one when the pieces come together.

use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::ArrowNativeType;

use super::super::slices::{held, kept};

/// Spans of a chunk.
const CHUNK: usize = if cfg!(test) { 4 } else { 1 << 14 };
/// Spans of a state that are better taken one by one.
const FEW: usize = if cfg!(test) { 2 } else { 1 << 10 };

/// Spans, each of an edge that has a number.
#[derive(Debug)]
pub(super) struct Arrivals<T: ArrowNativeType> {
    runs: Vec<Run<T>>,
    chunks: Vec<Chunk<T>>,
    last: Chunk<T>,
}

/// Spans in the order of their arrival, each with its edge.
#[derive(Debug)]
struct Chunk<T> {
    edges: Vec<u32>,
    spans: Vec<T>,
}

/// Spans edge by edge.
#[derive(Debug)]
struct Run<T: ArrowNativeType> {
    edges: Vec<u32>,
    /// Where those of each edge end.
    ends: Vec<usize>,
    spans: ScalarBuffer<T>,
}

impl<T> Default for Chunk<T> {
    fn default() -> Self {
        Self { edges: Vec::new(), spans: Vec::new() }
    }
}

impl<T: ArrowNativeType> Default for Arrivals<T> {
    fn default() -> Self {
        Self { runs: Vec::new(), chunks: Vec::new(), last: Chunk::default() }
    }
}

impl<T: ArrowNativeType> Run<T> {
    /// Each edge and where its spans lie.
    fn each(&self) -> impl Iterator<Item = (u32, usize, usize)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.edges.iter().zip(starts.zip(&self.ends)).map(|(edge, (start, end))| (*edge, start, *end))
    }
}

impl<T: ArrowNativeType> Arrivals<T> {
    /// Adds a span of an edge.
    #[inline]
    pub(super) fn push(&mut self, edge: u32, span: T) {
        self.last.edges.push(edge);
        self.last.spans.push(span);
        if self.last.spans.len() == CHUNK {
            self.end_chunk();
        }
    }

    #[cold]
    fn end_chunk(&mut self) {
        let next = Chunk { edges: Vec::with_capacity(CHUNK), spans: Vec::with_capacity(CHUNK) };
        self.chunks.push(std::mem::replace(&mut self.last, next));
    }

    /// Adds the spans of a state: of each of these edges so many, one edge behind the other.
    pub(super) fn add(&mut self, edges: &[u32], counts: &[u64], spans: ScalarBuffer<T>) {
        let mut start = 0;
        let each = edges.iter().zip(counts).filter(|(_, count)| **count > 0).map(|(edge, count)| {
            start += *count as usize;
            (*edge, start - *count as usize, start)
        });
        if spans.len() < FEW {
            for (edge, start, end) in each {
                spans[start..end].iter().for_each(|span| self.push(edge, *span));
            }
        } else {
            let (edges, ends) = each.map(|(edge, _, end)| (edge, end)).unzip();
            self.runs.push(Run { edges, ends, spans: kept(spans) });
        }
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk<T>> + Clone {
        self.chunks.iter().chain([&self.last])
    }

    /// The spans of edges one edge behind the other, those of each halved, and where these end. `place` tells where an edge
    /// comes among so many; those of an edge that has no place are left out.
    pub(super) fn halved(&self, count: usize, place: impl Fn(u32) -> Option<usize>) -> (Vec<usize>, Vec<T>)
    where
        T: Ord,
    {
        let (ends, mut spans) = in_order(&self.runs, self.chunks(), count, place);
        let mut rest = &mut spans[..];
        let mut start = 0;
        for end in &ends {
            let (of_edge, others) = rest.split_at_mut(end - start);
            if !of_edge.is_empty() {
                of_edge.select_nth_unstable(of_edge.len() / 2);
            }
            (start, rest) = (*end, others);
        }
        (ends, spans)
    }

    /// The spans of each of so many edges. Those of states stay where they are.
    pub(super) fn by_edge(&self, count: usize) -> ByEdge<T> {
        let mut own = None;
        if self.chunks().any(|chunk| !chunk.edges.is_empty()) {
            let (ends, spans) = in_order(&[], self.chunks(), count, |edge| Some(edge as usize));
            own = Some(Run { edges: (0..count as u32).collect(), ends, spans: spans.into() });
        }
        let (mut runs, mut pieces) = (Vec::new(), Vec::new());
        for run in self.runs.iter().chain(&own) {
            let there = run.each().filter(|(_, start, end)| start < end);
            pieces.extend(there.map(|(edge, start, end)| (edge, Piece { run: runs.len(), start, end })));
            runs.push(run.spans.clone());
        }
        pieces.sort_by_key(|(edge, _)| *edge);
        let ends = (0..count as u32).map(|edge| pieces.partition_point(|(other, _)| *other <= edge)).collect();
        let pieces = pieces.into_iter().map(|(_, piece)| piece).collect();
        ByEdge { runs, halved: self.runs.len(), pieces, ends }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let of_run = |run: &Run<T>| {
            held(&run.spans) + run.edges.capacity() * size_of::<u32>() + run.ends.capacity() * size_of::<usize>()
        };
        let of_chunk =
            |chunk: &Chunk<T>| chunk.edges.capacity() * size_of::<u32>() + chunk.spans.capacity() * size_of::<T>();
        self.runs.iter().map(of_run).sum::<usize>()
            + self.runs.capacity() * size_of::<Run<T>>()
            + self.chunks().map(of_chunk).sum::<usize>()
            + self.chunks.capacity() * size_of::<Chunk<T>>()
    }
}

/// The spans of runs and chunks in the order that `place` tells.
fn in_order<'a, T: ArrowNativeType>(
    runs: &[Run<T>],
    chunks: impl Iterator<Item = &'a Chunk<T>> + Clone,
    count: usize,
    place: impl Fn(u32) -> Option<usize>,
) -> (Vec<usize>, Vec<T>) {
    let mut ends = vec![0; count];
    for (edge, start, end) in runs.iter().flat_map(Run::each) {
        if let Some(place) = place(edge) {
            ends[place] += end - start;
        }
    }
    for edge in chunks.clone().flat_map(|chunk| &chunk.edges) {
        if let Some(place) = place(*edge) {
            ends[place] += 1;
        }
    }
    let mut all = 0;
    for end in &mut ends {
        // Where the next span of the edge comes: in the end, where the last has come.
        all += std::mem::replace(end, all);
    }
    let mut spans = vec![T::default(); all];
    for run in runs {
        for (edge, start, end) in run.each() {
            if let Some(place) = place(edge) {
                let next = &mut ends[place];
                spans[*next..][..end - start].copy_from_slice(&run.spans[start..end]);
                *next += end - start;
            }
        }
    }
    for chunk in chunks {
        for (edge, span) in chunk.edges.iter().zip(&chunk.spans) {
            if let Some(place) = place(*edge) {
                let next = &mut ends[place];
                spans[*next] = *span;
                *next += 1;
            }
        }
    }
    (ends, spans)
}

/// Spans edge by edge, in pieces.
#[derive(Debug)]
pub(super) struct ByEdge<T: ArrowNativeType> {
    runs: Vec<ScalarBuffer<T>>,
    /// How many runs, from the first on, have halved spans.
    halved: usize,
    pieces: Vec<Piece>,
    /// Where the pieces of each edge end.
    ends: Vec<usize>,
}

/// Where spans of an edge lie.
#[derive(Debug)]
struct Piece {
    run: usize,
    start: usize,
    end: usize,
}

impl<T: ArrowNativeType> ByEdge<T> {
    fn pieces(&self, edge: usize) -> &[Piece] {
        let first = edge.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.pieces[first..self.ends[edge]]
    }

    /// The spans of an edge, some at a time, none of them empty, in no order.
    pub(super) fn of(&self, edge: usize) -> impl Iterator<Item = &[T]> + Clone {
        self.pieces(edge).iter().map(|piece| &self.runs[piece.run][piece.start..piece.end])
    }

    /// The middle two of an edge's spans, of an odd number of them the middle one twice; `None` without spans. Those that are
    /// looked at one by one are put into `scratch`.
    pub(super) fn middle(&self, edge: usize, scratch: &mut Vec<T>) -> Option<[T; 2]>
    where
        T: Ord,
    {
        scratch.clear();
        if self.pieces(edge).iter().any(|piece| piece.run >= self.halved) {
            self.of(edge).for_each(|spans| scratch.extend_from_slice(spans));
            return middle(scratch);
        }
        let halves = || self.of(edge).map(|spans| spans.split_at(spans.len() / 2));
        let medians = || halves().map(|(_, upper)| upper[0]);
        let (least, most) = (medians().min()?, medians().max()?);
        let (mut count, mut before) = (0, 0);
        for (lower, upper) in halves() {
            let known = scratch.len();
            scratch.extend(lower.iter().filter(|span| **span >= least));
            before += lower.len() - (scratch.len() - known);
            scratch.extend(upper.iter().filter(|span| **span <= most));
            count += lower.len() + upper.len();
        }
        // At most half of all spans are below the least median, and more than half are not above the greatest.
        let at = count / 2 - before;
        let (below, upper, _) = scratch.select_nth_unstable(at);
        let upper = *upper;
        let lower = match count.is_multiple_of(2) {
            false => upper,
            true => match below.iter().max() {
                Some(lower) => *lower,
                None => halves().flat_map(|(lower, _)| lower).filter(|span| **span < least).max().copied()?,
            },
        };
        Some([lower, upper])
    }
}

/// The middle two of numbers, of an odd number of them the middle one twice.
pub(super) fn middle<T: Ord + Copy>(numbers: &mut [T]) -> Option<[T; 2]> {
    if numbers.is_empty() {
        return None;
    }
    let middle = numbers.len() / 2;
    let is_even = numbers.len().is_multiple_of(2);
    let (below, upper, _) = numbers.select_nth_unstable(middle);
    let upper = *upper;
    let lower = below.iter().max().filter(|_| is_even).copied();
    Some([lower.unwrap_or(upper), upper])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_middle_of_states_is_that_of_all_their_spans(
            states in prop::collection::vec(prop::collection::vec((0u32..3, 0i64..20), 0..40), 1..6),
            one_by_one in prop::collection::vec((0u32..3, 0i64..20), 0..4),
        ) {
            let mut total = Arrivals::default();
            for state in &states {
                let mut own = Arrivals::default();
                state.iter().for_each(|(edge, span)| own.push(*edge, *span));
                let (ends, spans) = own.halved(3, |edge| Some(edge as usize));
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let counts: Vec<u64> = starts.zip(&ends).map(|(start, end)| (end - start) as u64).collect();
                // Told in another order than that of their numbers.
                total.add(&[1, 2, 0], &counts, spans.into());
            }
            one_by_one.iter().for_each(|(edge, span)| total.push(*edge, *span));
            let by_edge = total.by_edge(3);
            for edge in 0..3 {
                let of_states = states.iter().flatten().filter(|(told, _)| [1, 2, 0][*told as usize] == edge);
                let own = one_by_one.iter().filter(|(told, _)| *told == edge);
                let mut all: Vec<i64> = of_states.chain(own).map(|(_, span)| *span).collect();
                all.sort_unstable();
                let mut found: Vec<i64> = by_edge.of(edge as usize).flatten().copied().collect();
                found.sort_unstable();
                prop_assert_eq!(&found, &all);
                let expected = all.len().checked_sub(1).map(|last| [all[last / 2], all[all.len() / 2]]);
                prop_assert_eq!(by_edge.middle(edge as usize, &mut vec![]), expected);
            }
        }
    }
}
