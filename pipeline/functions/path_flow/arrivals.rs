//! Spans of edges in the order of their arrival, in chunks: growing moves nothing, and those of a state stay where it has
//! them if they are most of what lies there.

use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::ArrowNativeType;

use super::super::slices::{held, kept};

/// Spans of a chunk that is made here.
const CHUNK: usize = 1 << 14;
/// Spans of a state that are better copied.
const FEW: usize = if cfg!(test) { 2 } else { 1 << 10 };

/// Spans, each with the number of its edge.
#[derive(Debug)]
pub(super) struct Arrivals<T: ArrowNativeType> {
    chunks: Vec<Chunk<T>>,
    edges: Vec<u32>,
    spans: Vec<T>,
}

/// Spans that came together.
#[derive(Debug)]
struct Chunk<T: ArrowNativeType> {
    edges: ScalarBuffer<u32>,
    spans: ScalarBuffer<T>,
    /// What the numbers of edges stand for, if they are those of a state.
    numbers: Option<Vec<u32>>,
}

impl<T: ArrowNativeType> Default for Arrivals<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), edges: Vec::new(), spans: Vec::new() }
    }
}

impl<T: ArrowNativeType> Arrivals<T> {
    /// Adds a span of an edge.
    #[inline]
    pub(super) fn push(&mut self, edge: u32, span: T) {
        self.edges.push(edge);
        self.spans.push(span);
        if self.spans.len() == CHUNK {
            self.end_chunk();
        }
    }

    #[cold]
    fn end_chunk(&mut self) {
        let edges = std::mem::replace(&mut self.edges, Vec::with_capacity(CHUNK)).into();
        let spans = std::mem::replace(&mut self.spans, Vec::with_capacity(CHUNK)).into();
        self.chunks.push(Chunk { edges, spans, numbers: None });
    }

    /// Adds the spans of a state, whose edges have the `numbers` here.
    pub(super) fn add(&mut self, edges: ScalarBuffer<u32>, spans: ScalarBuffer<T>, numbers: &[u32]) {
        if spans.len() >= FEW {
            let (edges, spans) = (kept(edges), kept(spans));
            return self.chunks.push(Chunk { edges, spans, numbers: Some(numbers.to_vec()) });
        }
        edges.iter().zip(spans.iter()).for_each(|(edge, span)| self.push(numbers[*edge as usize], *span));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.spans.len()).sum::<usize>() + self.spans.len()
    }

    /// Gives each edge and span to `take`, in one order always.
    #[inline]
    pub(super) fn for_each(&self, mut take: impl FnMut(u32, T)) {
        for Chunk { edges, spans, numbers } in &self.chunks {
            let each = edges.iter().zip(spans.iter());
            match numbers {
                None => each.for_each(|(edge, span)| take(*edge, *span)),
                Some(numbers) => each.for_each(|(edge, span)| take(numbers[*edge as usize], *span)),
            }
        }
        self.edges.iter().zip(&self.spans).for_each(|(edge, span)| take(*edge, *span));
    }

    /// The spans of each of so many edges.
    pub(super) fn by_edge(&self, edges: usize) -> ByEdge<T> {
        let mut ends = vec![0; edges + 1];
        self.for_each(|edge, _| ends[edge as usize + 1] += 1);
        for edge in 0..edges {
            ends[edge + 1] += ends[edge];
        }
        let mut next = ends.clone();
        let mut spans = vec![T::default(); ends[edges]];
        self.for_each(|edge, span| {
            let place = &mut next[edge as usize];
            spans[*place] = span;
            *place += 1;
        });
        ByEdge { spans, ends }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let of_chunk = |chunk: &Chunk<T>| {
            held(&chunk.edges)
                + held(&chunk.spans)
                + chunk.numbers.as_ref().map_or(0, |numbers| numbers.capacity() * size_of::<u32>())
        };
        self.chunks.iter().map(of_chunk).sum::<usize>()
            + self.chunks.capacity() * size_of::<Chunk<T>>()
            + self.edges.capacity() * size_of::<u32>()
            + self.spans.capacity() * size_of::<T>()
    }
}

/// Spans edge by edge.
#[derive(Debug)]
pub(super) struct ByEdge<T> {
    spans: Vec<T>,
    /// Where the spans of each edge begin, and where the last end.
    ends: Vec<usize>,
}

impl<T> ByEdge<T> {
    /// The spans of an edge.
    pub(super) fn of(&self, edge: usize) -> &[T] {
        &self.spans[self.ends[edge]..self.ends[edge + 1]]
    }

    /// The same, to be moved about.
    pub(super) fn of_mut(&mut self, edge: usize) -> &mut [T] {
        &mut self.spans[self.ends[edge]..self.ends[edge + 1]]
    }
}
