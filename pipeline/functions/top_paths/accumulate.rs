//! The accumulator of `top_paths`.
//!
//! State of a group: the touchpoints that it has (`touchpoints`), and for each path its two words and what is counted of it
//! (`paths`). A path is written in places of the list of touchpoints, from 1: packed into the words, or in `places`, where
//! the first word tells where it begins, and how long it is in its upper half. A state of many paths is put off and only
//! looked through ([`large`](super::large)).

use std::cmp::Reverse;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, StringArray, UInt32Array, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::Result;

use super::super::arguments::{Lists, item_field, list_type};
use super::super::counted_groups::{Counted, CountedGroups};
use super::super::elements::{Names, Rows, record_fields};
use super::super::journey_paths::JourneyPaths;
use super::super::symbols::{OwnNumbers, Symbols};
use super::large::{LargeState, States, most_taken};
use super::tally::{Counts, Entry, Key, Tally};
use super::{NAME, Parameters};

/// The fields of a path in a state.
pub(super) fn state_fields() -> Fields {
    record_fields([
        ("first", DataType::UInt64),
        ("second", DataType::UInt64),
        ("journeys", DataType::UInt64),
        ("longer", DataType::UInt64),
        ("converted", DataType::UInt64),
    ])
}

/// The fields of a path in a result.
pub(super) fn result_fields() -> Fields {
    record_fields([
        ("rank", DataType::Int64),
        ("path", list_type(DataType::Utf8View)),
        ("journeys", DataType::Int64),
        ("longer", DataType::Int64),
        ("converted", DataType::Int64),
    ])
}

/// The accumulator.
pub(super) type TopPathsAccumulator = CountedGroups<Paths>;

/// The paths of many groups.
#[derive(Debug)]
pub(super) struct Paths {
    parameters: Parameters,
    symbols: Symbols,
    tally: Tally,
    /// States that were put off.
    large: Vec<LargeState>,
}

/// Paths from which on a state is put off.
const MANY: usize = if cfg!(test) { 3 } else { 2048 };
/// States that are put off at most.
const MOST_LARGE: usize = if cfg!(test) { 3 } else { 16 };

impl TopPathsAccumulator {
    /// Without paths.
    pub(super) fn new(parameters: Parameters) -> Self {
        Self::of(Paths::of(parameters))
    }
}

impl Paths {
    fn of(parameters: Parameters) -> Self {
        Self { parameters, symbols: Symbols::default(), tally: Tally::default(), large: Vec::new() }
    }
}

impl Counted for Paths {
    fn empty(&self) -> Self {
        Self::of(self.parameters)
    }

    fn heap_size(&self) -> usize {
        self.symbols.size() + self.tally.size() + self.large.iter().map(LargeState::size).sum::<usize>()
    }

    fn count_rows(
        &mut self,
        arguments: &[ArrayRef],
        group_indices: impl Iterator<Item = usize>,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let limit = self.parameters.limit;
        let touchpoints = Lists::of_array(NAME, &arguments[1])?;
        let mut journeys = JourneyPaths::new(NAME, &touchpoints, arguments.get(3), arguments.get(4))?;
        let mut names = Names::new();
        let numbers = names.numbers(NAME, &touchpoints.values)?;
        let symbols: Vec<u32> = names.texts().iter().map(|text| self.symbols.number(*text)).collect();
        for (row, group) in group_indices.enumerate() {
            if !filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                continue;
            }
            let numbers_of_row = &numbers[touchpoints.span(row)];
            journeys.of_row(row, &numbers, |path| {
                let shown = path.nodes.iter().take(limit).map(|node| symbols[numbers_of_row[*node as usize] as usize]);
                let counts = Counts {
                    journeys: 1,
                    longer: u64::from(path.nodes.len() > limit),
                    converted: u64::from(path.is_converted),
                };
                self.tally.add(group as u32, shown, counts);
                Ok(())
            })?;
        }
        self.tally.settle();
        Ok(())
    }

    fn merge_states(&mut self, states: &[ArrayRef], group_indices: impl Iterator<Item = usize>) -> Result<()> {
        let mut states = States::of_arrays(states)?;
        for (row, group) in group_indices.enumerate() {
            let Some(place) = states.place(row) else {
                continue;
            };
            match place.len() {
                0..MANY => states.count(place, group as u32, &mut self.symbols, &mut self.tally),
                _ => self.large.push(states.keep(place, group as u32, &mut self.symbols)),
            }
            if self.large.len() > MOST_LARGE {
                self.settle();
            }
        }
        self.tally.settle();
        Ok(())
    }

    fn settle(&mut self) {
        self.large.drain(..).for_each(|state| state.count(&mut self.tally));
        self.tally.settle();
    }

    /// Forgets the first `groups` groups, and touchpoints that no other group has; the others move down by as many.
    fn forget(&mut self, groups: usize, _left: usize) -> Result<()> {
        let (symbols, tally) = (std::mem::take(&mut self.symbols), std::mem::take(&mut self.tally));
        let mut numbers = Vec::new();
        for entry in tally.behind(groups) {
            numbers.clear();
            tally.path(entry, &mut numbers);
            numbers.iter_mut().for_each(|number| *number = self.symbols.number(symbols.text(*number)));
            self.tally.add(entry.group - groups as u32, numbers.iter().copied(), entry.counts);
        }
        self.tally.settle();
        self.large
            .retain_mut(|state| state.moves_down(groups as u32, |number| self.symbols.number(symbols.text(number))));
        Ok(())
    }

    /// The state of the first `groups` groups.
    fn states(&self, groups: usize) -> Result<Vec<ArrayRef>> {
        let (entries, ends) = self.tally.by_group(groups);
        let mut own = OwnNumbers::of(&self.symbols);
        let mut texts: Vec<Option<&str>> = Vec::new();
        let (mut places, mut path): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        let (mut first, mut second) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        let (mut text_rows, mut place_rows, mut path_rows) =
            (Rows::with_capacity(groups), Rows::with_capacity(groups), Rows::with_capacity(groups));
        let mut start = 0;
        for end in ends {
            let begin = places.len();
            for entry in &entries[start..end] {
                path.clear();
                self.tally.path(entry, &mut path);
                path.iter_mut().for_each(|number| *number = own.number(*number) + 1);
                let Key(words) = Key::packed(path.iter().copied()).unwrap_or_else(|| {
                    let key = Key::aside((places.len() - begin) as u64 | (path.len() as u64) << 32);
                    places.extend_from_slice(&path);
                    key
                });
                first.push(words[0]);
                second.push(words[1]);
            }
            texts.extend(own.end_group().map(|symbol| self.symbols.text(symbol)));
            text_rows.end(NAME, texts.len())?;
            place_rows.end(NAME, places.len())?;
            path_rows.end(NAME, end)?;
            start = end;
        }
        let counts = |count: fn(&Counts) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(entries.iter().map(|entry| count(&entry.counts))))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(first)),
            Arc::new(UInt64Array::from(second)),
            counts(|counts| counts.journeys),
            counts(|counts| counts.longer),
            counts(|counts| counts.converted),
        ];
        Ok(vec![
            text_rows.finish(item_field(DataType::Utf8), Arc::new(StringArray::from(texts)))?,
            place_rows.finish(item_field(DataType::UInt32), Arc::new(UInt32Array::from(places)))?,
            path_rows.finish_records(state_fields(), columns)?,
        ])
    }

    /// The result of the first `groups` groups.
    fn results(&self, groups: usize) -> Result<ArrayRef> {
        let (entries, ends) = self.tally.by_group(groups);
        let by_rank = self.symbols.by_text();
        let mut rank_of = vec![0; self.symbols.end() as usize];
        by_rank.iter().zip(0..).for_each(|(symbol, rank)| rank_of[*symbol as usize] = rank);
        let mut names = Names::new();
        let name_of: Vec<u32> = by_rank
            .iter()
            .map(|symbol| self.symbols.text(*symbol).map_or(Names::NULL, |text| names.number(text)))
            .collect();

        let mut top = Top::default();
        let mut shown: Vec<u32> = Vec::new();
        let (mut ranks, mut counts): (Vec<i64>, Vec<Counts>) = (Vec::new(), Vec::new());
        let (mut rows, mut path_rows) = (Rows::with_capacity(groups), Rows::with_capacity(entries.len()));
        let count = self.parameters.count;
        let mut start = 0;
        for (group, end) in ends.into_iter().enumerate() {
            let own = &entries[start..end];
            let large: Vec<&LargeState> = self.large.iter().filter(|state| state.group == group as u32).collect();
            if large.is_empty() {
                top.choose(&self.tally, own, count, &rank_of);
            } else {
                let most_taken = most_taken(&self.tally, own, &large, count);
                top.choose(&most_taken, &most_taken.by_group(1).0, count, &rank_of);
            }
            for (place, path) in top.chosen.iter().enumerate() {
                shown.extend(top.ranks[path.start..path.end].iter().map(|rank| name_of[*rank as usize]));
                path_rows.end(NAME, shown.len())?;
                ranks.push(place as i64 + 1);
                counts.push(path.counts);
            }
            rows.end(NAME, counts.len())?;
            start = end;
        }
        let whole = |count: fn(&Counts) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(counts.iter().map(|counts| count(counts) as i64)))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(ranks)),
            path_rows.finish(item_field(DataType::Utf8View), names.array(shown)?)?,
            whole(|counts| counts.journeys),
            whole(|counts| counts.longer),
            whole(|counts| counts.converted),
        ];
        rows.finish_records(result_fields(), columns)
    }
}

/// The paths of a group that are taken most.
#[derive(Default)]
struct Top {
    chosen: Vec<Chosen>,
    /// The paths of all of them, as the ranks of their touchpoints.
    ranks: Vec<u32>,
    numbers: Vec<u32>,
    journeys: Vec<u64>,
}

struct Chosen {
    counts: Counts,
    start: usize,
    end: usize,
}

impl Top {
    /// Chooses `count` paths, the most taken first, of those taken as often the ones with the smallest touchpoints.
    fn choose(&mut self, tally: &Tally, entries: &[&Entry], count: usize, rank_of: &[u32]) {
        self.journeys.clear();
        self.journeys.extend(entries.iter().map(|entry| entry.counts.journeys));
        // Paths that are taken less than the last one to show need no look at their touchpoints.
        let least = match entries.len() > count {
            true => *self.journeys.select_nth_unstable_by_key(count - 1, |journeys| Reverse(*journeys)).1,
            false => 0,
        };
        self.chosen.clear();
        self.ranks.clear();
        for entry in entries.iter().filter(|entry| entry.counts.journeys >= least) {
            self.numbers.clear();
            tally.path(entry, &mut self.numbers);
            let start = self.ranks.len();
            self.ranks.extend(self.numbers.iter().map(|number| rank_of[*number as usize]));
            self.chosen.push(Chosen { counts: entry.counts, start, end: self.ranks.len() });
        }
        let ranks = &self.ranks;
        self.chosen.sort_unstable_by(|left, right| {
            let by_journeys = right.counts.journeys.cmp(&left.counts.journeys);
            by_journeys.then_with(|| ranks[left.start..left.end].cmp(&ranks[right.start..right.end]))
        });
        self.chosen.truncate(count);
    }
}

#[cfg(test)]
mod tests;
