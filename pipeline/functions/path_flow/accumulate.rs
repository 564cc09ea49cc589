//! The accumulator of `path_flow`.
//!
//! State of a group: the touchpoints that it has (`touchpoints`), its edges, whose ends are places in that list, with
//! what is counted of each (`edges`), and the spans of one edge after another (`spans`).

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, UInt32Array, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Fields, Int64Type, UInt32Type, UInt64Type};
use datafusion::common::Result;

use super::super::arguments::{Lists, TextColumn, item_field, to_times};
use super::super::counted_groups::{Counted, CountedGroups};
use super::super::elements::{Names, Optionals, Rows, integers, record_fields, seconds, time_at};
use super::super::journey_paths::JourneyPaths;
use super::super::path_edges::{EXIT, REST, START};
use super::super::symbols::{OwnNumbers, Symbols};
use super::NAME;
use super::tally::{Counts, Edge, Tally};

/// The fields of an edge in a state.
pub(super) fn state_fields() -> Fields {
    record_fields([
        ("position", DataType::UInt32),
        ("from", DataType::UInt32),
        ("to", DataType::UInt32),
        ("journeys", DataType::UInt64),
        ("converted", DataType::UInt64),
        ("spans", DataType::UInt32),
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
                let symbol = |node: &u32| symbols[numbers_of_row[*node as usize] as usize];
                let last = behind.first().map_or((exit, None), |node| (rest, time(*node)));
                let steps = nodes.iter().map(|node| (symbol(node), time(*node))).chain([last]);
                for (position, (to, time)) in steps.enumerate() {
                    let edge = tally.add(Edge { group: group as u32, position: position as u32, from, to }, counts);
                    if let Some((reached_at, time)) = Option::zip(reached_at, time) {
                        tally.add_span(edge, time.saturating_sub(reached_at));
                    }
                    (from, reached_at) = (to, time);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn merge_states(&mut self, states: &[ArrayRef], group_indices: impl Iterator<Item = usize>) -> Result<()> {
        let touchpoints = Lists::of_array(NAME, &states[0])?;
        let edges = Lists::of_array(NAME, &states[1])?;
        let spans = Lists::of_array(NAME, &states[2])?;
        let texts = TextColumn::of_array(NAME, &touchpoints.values)?;
        let columns = edges.values.as_struct().columns();
        let [positions, from, to, lengths] =
            [0, 1, 2, 5].map(|column: usize| columns[column].as_primitive::<UInt32Type>().values());
        let [journeys, converted] = [3, 4].map(|column: usize| columns[column].as_primitive::<UInt64Type>().values());
        let span_values = spans.values.as_primitive::<Int64Type>().values();
        let mut symbols = Vec::new();
        for (row, group) in group_indices.enumerate() {
            let (Some(touchpoints), Some(edges), Some(spans)) =
                (touchpoints.range(row), edges.range(row), spans.range(row))
            else {
                continue;
            };
            symbols.clear();
            symbols.extend(touchpoints.map(|position| self.symbols.number(texts.get(position))));
            let mut rest = &span_values[spans];
            for edge in edges {
                let [from, to] = [from[edge], to[edge]].map(|place| symbols[place as usize]);
                let counts = Counts { journeys: journeys[edge], converted: converted[edge] };
                let number = self.tally.add(Edge { group: group as u32, position: positions[edge], from, to }, counts);
                let (own, others) = rest.split_at(lengths[edge] as usize);
                self.tally.add_spans(number, own);
                rest = others;
            }
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
            self.tally.add_spans(kept, spans.of(number));
        }
        Ok(())
    }

    /// The state of the first `groups` groups.
    fn states(&self, groups: usize) -> Result<Vec<ArrayRef>> {
        let (edges, ends) = self.tally.by_group(groups);
        let spans = self.tally.spans();
        let mut own = OwnNumbers::of(&self.symbols);
        let (mut texts, mut span_values): (Vec<Option<&str>>, Vec<i64>) = (Vec::new(), Vec::new());
        let (mut from, mut to) = (Vec::with_capacity(edges.len()), Vec::with_capacity(edges.len()));
        let (mut text_rows, mut edge_rows, mut span_rows) =
            (Rows::with_capacity(groups), Rows::with_capacity(groups), Rows::with_capacity(groups));
        let mut start = 0;
        for end in ends {
            for number in &edges[start..end] {
                let edge = self.tally.edge(*number as usize);
                from.push(own.number(edge.from));
                to.push(own.number(edge.to));
                span_values.extend_from_slice(spans.of(*number as usize));
            }
            texts.extend(own.end_group().map(|symbol| self.symbols.text(symbol)));
            text_rows.end(NAME, texts.len())?;
            edge_rows.end(NAME, end)?;
            span_rows.end(NAME, span_values.len())?;
            start = end;
        }
        let each = || edges.iter().map(|number| *number as usize);
        let counts = |count: fn(Counts) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(each().map(|number| count(self.tally.counts(number)))))
        };
        let small =
            |number: &dyn Fn(usize) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(each().map(number))) };
        let columns: Vec<ArrayRef> = vec![
            small(&|number| self.tally.edge(number).position),
            Arc::new(UInt32Array::from(from)),
            Arc::new(UInt32Array::from(to)),
            counts(|counts| counts.journeys),
            counts(|counts| counts.converted),
            small(&|number| spans.of(number).len() as u32),
        ];
        Ok(vec![
            text_rows.finish(item_field(DataType::Utf8), Arc::new(StringArray::from(texts)))?,
            edge_rows.finish_records(state_fields(), columns)?,
            span_rows.finish(item_field(DataType::Int64), Arc::new(Int64Array::from(span_values)))?,
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

#[cfg(test)]
mod tests;
