//! The accumulator of `path_flow`.
//!
//! State of a group: the touchpoints that it has (`touchpoints`), its edges, whose ends are places in that list, with
//! what is counted of each (`edges`), and their spans, short and long, edge by edge (`short_spans`, `long_spans`), of which
//! each edge tells how many it has.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, StringArray, UInt32Array, UInt64Array,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, Fields, Int64Type, UInt32Type, UInt64Type};
use datafusion::common::Result;

use super::super::arguments::{Lists, TextColumn, item_field, to_times};
use super::super::counted_groups::{Counted, CountedGroups};
use super::super::elements::{Names, Optionals, Rows, integers, record_fields, seconds, time_at};
use super::super::journey_paths::JourneyPaths;
use super::super::path_edges::{EXIT, REST, START};
use super::super::symbols::{OwnNumbers, Symbols};
use super::NAME;
use super::arrivals::Arrivals;
use super::tally::{Counts, Edge, Tally};

/// The fields of an edge in a state.
pub(super) fn state_fields() -> Fields {
    record_fields([
        ("position", DataType::UInt32),
        ("from", DataType::UInt32),
        ("to", DataType::UInt32),
        ("journeys", DataType::UInt64),
        ("converted", DataType::UInt64),
        ("short_spans", DataType::UInt64),
        ("long_spans", DataType::UInt64),
    ])
}

/// The fields of an edge in a result.
pub(super) fn result_fields() -> Fields {
    record_fields([
        ("position", DataType::Int64),
        ("from_touchpoint", DataType::Utf8View),
        ("to_touchpoint", DataType::Utf8View),
        ("journeys", DataType::Int64),
        ("converted", DataType::Int64),
        ("median_seconds", DataType::Float64),
    ])
}

/// The accumulator.
pub(super) type PathFlowAccumulator = CountedGroups<Flows>;

/// The edges of many groups.
#[derive(Debug)]
pub(super) struct Flows {
    limit: usize,
    symbols: Symbols,
    tally: Tally,
}

impl PathFlowAccumulator {
    /// Without paths.
    pub(super) fn new(limit: usize) -> Self {
        Self::of(Flows { limit, symbols: Symbols::default(), tally: Tally::default() })
    }
}

impl Counted for Flows {
    fn empty(&self) -> Self {
        Self { limit: self.limit, symbols: Symbols::default(), tally: Tally::default() }
    }

    fn heap_size(&self) -> usize {
        self.symbols.size() + self.tally.size()
    }

    fn count_rows(
        &mut self,
        arguments: &[ArrayRef],
        group_indices: impl Iterator<Item = usize>,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let touchpoints = Lists::of_array(NAME, &arguments[0])?;
        let time_lists = Lists::of_array(NAME, &arguments[1])?;
        touchpoints.expect_parallel(NAME, &time_lists, ("touchpoints", "times"))?;
        let times = to_times(NAME, &time_lists.values)?;
        let mut journeys = JourneyPaths::new(NAME, &touchpoints, arguments.get(3), arguments.get(4))?;
        let mut names = Names::new();
        let numbers = names.numbers(NAME, &touchpoints.values)?;
        let symbols: Vec<u32> = names.texts().iter().map(|text| self.symbols.number(*text)).collect();
        let [start, exit, rest] = [START, EXIT, REST].map(|text| self.symbols.number(Some(text)));
        let Self { limit, tally, .. } = self;
        for (row, group) in group_indices.enumerate() {
            let passes = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            let Some(first_time) = time_lists.range(row).filter(|_| passes).map(|span| span.start) else {
                continue;
            };
            let numbers_of_row = &numbers[touchpoints.span(row)];
            let time = |node: u32| time_at(&times, first_time + node as usize);
            journeys.of_row(row, &numbers, |path| {
                let counts = Counts { journeys: 1, converted: u64::from(path.is_converted) };
                let (nodes, behind) = path.nodes.split_at(path.nodes.len().min(*limit));
                let (mut from, mut reached_at) = (start, None);
                let mut step = |position: usize, to: u32, time: Option<i64>| {
                    let edge = tally.add(Edge { group: group as u32, position: position as u32, from, to }, counts);
                    if let Some((reached_at, time)) = Option::zip(reached_at, time) {
                        tally.add_span(edge, time.saturating_sub(reached_at));
                    }
                    (from, reached_at) = (to, time);
                };
                for (position, node) in nodes.iter().enumerate() {
                    step(position, symbols[numbers_of_row[*node as usize] as usize], time(*node));
                }
                let (last, reached_at) = behind.first().map_or((exit, None), |node| (rest, time(*node)));
                step(nodes.len(), last, reached_at);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn merge_states(&mut self, states: &[ArrayRef], group_indices: impl Iterator<Item = usize>) -> Result<()> {
        let touchpoints = Lists::of_array(NAME, &states[0])?;
        let edges = Lists::of_array(NAME, &states[1])?;
        let (short_spans, long_spans) = (Lists::of_array(NAME, &states[2])?, Lists::of_array(NAME, &states[3])?);
        let texts = TextColumn::of_array(NAME, &touchpoints.values)?;
        let columns = edges.values.as_struct().columns();
        let [positions, from, to] =
            [0, 1, 2].map(|column: usize| columns[column].as_primitive::<UInt32Type>().values());
        let [journeys, converted, short_counts, long_counts] =
            [3, 4, 5, 6].map(|column: usize| columns[column].as_primitive::<UInt64Type>().values());
        let (mut symbols, mut numbers) = (Vec::new(), Vec::new());
        for (row, group) in group_indices.enumerate() {
            let (Some(touchpoints), Some(edges)) = (touchpoints.range(row), edges.range(row)) else {
                continue;
            };
            symbols.clear();
            symbols.extend(touchpoints.map(|position| self.symbols.number(texts.get(position))));
            numbers.clear();
            for edge in edges.clone() {
                let [from, to] = [from[edge], to[edge]].map(|place| symbols[place as usize]);
                let counts = Counts { journeys: journeys[edge], converted: converted[edge] };
                let edge = Edge { group: group as u32, position: positions[edge], from, to };
                numbers.push(self.tally.add(edge, counts));
            }
            let Tally { short, long, .. } = &mut self.tally;
            short.add(&numbers, &short_counts[edges.clone()], of_row::<UInt32Type>(&short_spans, row));
            long.add(&numbers, &long_counts[edges], of_row::<Int64Type>(&long_spans, row));
        }
        Ok(())
    }

    /// Forgets the first `groups` groups, and touchpoints that no other group has; the others move down by as many.
    fn forget(&mut self, groups: usize, left: usize) -> Result<()> {
        let (symbols, tally) = (std::mem::take(&mut self.symbols), std::mem::take(&mut self.tally));
        if left == 0 {
            return Ok(());
        }
        let spans = tally.spans();
        for number in 0..tally.len() {
            let Edge { group, position, from, to } = tally.edge(number);
            let Some(group) = group.checked_sub(groups as u32) else {
                continue;
            };
            let [from, to] = [from, to].map(|symbol| self.symbols.number(symbols.text(symbol)));
            let kept = self.tally.add(Edge { group, position, from, to }, tally.counts(number));
            spans.of(number).for_each(|span| self.tally.add_span(kept, span));
        }
        Ok(())
    }

    /// The state of the first `groups` groups.
    fn states(&self, groups: usize) -> Result<Vec<ArrayRef>> {
        let (edges, ends) = self.tally.by_group(groups);
        let mut own = OwnNumbers::of(&self.symbols);
        let mut texts: Vec<Option<&str>> = Vec::new();
        let (mut from, mut to) = (Vec::with_capacity(edges.len()), Vec::with_capacity(edges.len()));
        let (mut text_rows, mut edge_rows) = (Rows::with_capacity(groups), Rows::with_capacity(groups));
        let mut start = 0;
        for end in &ends {
            for number in &edges[start..*end] {
                let edge = self.tally.edge(*number as usize);
                from.push(own.number(edge.from));
                to.push(own.number(edge.to));
            }
            texts.extend(own.end_group().map(|symbol| self.symbols.text(symbol)));
            text_rows.end(NAME, texts.len())?;
            edge_rows.end(NAME, *end)?;
            start = *end;
        }
        let each = || edges.iter().map(|number| *number as usize);
        let counts = |count: fn(Counts) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(each().map(|number| count(self.tally.counts(number)))))
        };
        let positions = UInt32Array::from_iter_values(each().map(|number| self.tally.edge(number).position));
        let mut places = vec![None; self.tally.len()];
        each().zip(0..).for_each(|(number, place)| places[number] = Some(place));
        let (short_counts, short_spans) = spans_by_group::<UInt32Type>(&self.tally.short, &places, &ends)?;
        let (long_counts, long_spans) = spans_by_group::<Int64Type>(&self.tally.long, &places, &ends)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(positions),
            Arc::new(UInt32Array::from(from)),
            Arc::new(UInt32Array::from(to)),
            counts(|counts| counts.journeys),
            counts(|counts| counts.converted),
            short_counts,
            long_counts,
        ];
        Ok(vec![
            text_rows.finish(item_field(DataType::Utf8), Arc::new(StringArray::from(texts)))?,
            edge_rows.finish_records(state_fields(), columns)?,
            short_spans,
            long_spans,
        ])
    }

    /// The result of the first `groups` groups: edges by position, then by the texts of their ends.
    fn results(&self, groups: usize) -> Result<ArrayRef> {
        let (mut edges, ends) = self.tally.by_group(groups);
        let mut spans = self.tally.spans();
        let mut rank_of = vec![0; self.symbols.end() as usize];
        self.symbols.by_text().iter().zip(0u32..).for_each(|(symbol, rank)| rank_of[*symbol as usize] = rank);
        let mut start = 0;
        let mut rows = Rows::with_capacity(groups);
        for end in ends {
            edges[start..end].sort_unstable_by_key(|number| {
                let edge = self.tally.edge(*number as usize);
                (edge.position, rank_of[edge.from as usize], rank_of[edge.to as usize])
            });
            rows.end(NAME, end)?;
            start = end;
        }
        let mut names = Names::new();
        let mut text = |symbol: u32| self.symbols.text(symbol).map_or(Names::NULL, |text| names.number(text));
        let (mut from, mut to) = (Vec::with_capacity(edges.len()), Vec::with_capacity(edges.len()));
        let mut medians = Optionals::with_capacity(edges.len());
        for number in &edges {
            let edge = self.tally.edge(*number as usize);
            from.push(text(edge.from));
            to.push(text(edge.to));
            medians.push(spans.median(*number as usize).map(|microseconds| microseconds / 1e6));
        }
        let whole = |number: &dyn Fn(usize) -> i64| integers(edges.iter().map(|edge| number(*edge as usize)).collect());
        let columns = vec![
            whole(&|number| i64::from(self.tally.edge(number).position)),
            names.array(from)?,
            names.array(to)?,
            whole(&|number| self.tally.counts(number).journeys as i64),
            whole(&|number| self.tally.counts(number).converted as i64),
            seconds(medians),
        ];
        rows.finish_records(result_fields(), columns)
    }
}

/// The elements of a row.
fn of_row<T: ArrowPrimitiveType>(lists: &Lists, row: usize) -> ScalarBuffer<T::Native> {
    let span = lists.range(row).unwrap_or(0..0);
    lists.values.as_primitive::<T>().values().slice(span.start, span.len())
}

/// How many spans edges have, and the spans as a list per group. `places` tells where an edge stands among those of all groups
/// that are asked for, `ends` where the edges of each group end.
fn spans_by_group<T: ArrowPrimitiveType>(
    arrivals: &Arrivals<T::Native>,
    places: &[Option<usize>],
    ends: &[usize],
) -> Result<(ArrayRef, ArrayRef)>
where
    T::Native: Ord,
{
    let edges = ends.last().copied().unwrap_or(0);
    let (span_ends, spans) = arrivals.halved(edges, |edge| places[edge as usize]);
    let starts = std::iter::once(0).chain(span_ends.iter().copied());
    let counts = UInt64Array::from_iter_values(starts.zip(&span_ends).map(|(start, end)| (end - start) as u64));
    let mut rows = Rows::with_capacity(ends.len());
    for end in ends {
        rows.end(NAME, end.checked_sub(1).map_or(0, |last| span_ends[last]))?;
    }
    let spans = PrimitiveArray::<T>::new(spans.into(), None);
    Ok((Arc::new(counts), rows.finish(item_field(T::DATA_TYPE), Arc::new(spans))?))
}

#[cfg(test)]
mod tests;
