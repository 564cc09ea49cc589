//! States of many paths, of which only the most taken are brought together.
//!
//! That is exact. Of `n` states, one has the last path to show `least` times or more often; so `count` paths have that, and
//! none that has less is shown. A path that has it in all has an `n`th of it in one of them at least. These paths are
//! looked for in all states; of the others, mostly many, nothing is kept.

use std::cmp::Reverse;
use std::ops::Range;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::{UInt32Type, UInt64Type};
use datafusion::common::Result;

use super::super::arguments::{Lists, TextColumn};
use super::super::slices::{held, kept};
use super::super::symbols::Symbols;
use super::NAME;
use super::tally::{Counts, Entry, Key, Tally};

/// The states of a batch.
pub(super) struct States {
    touchpoints: Lists,
    texts: TextColumn,
    places: Lists,
    paths: Lists,
    columns: [ScalarBuffer<u64>; 5],
    /// The numbers of the touchpoints of the state in hand.
    symbols: Vec<u32>,
}

/// Where the parts of a state lie.
pub(super) struct Place {
    touchpoints: Range<usize>,
    places: Range<usize>,
    paths: Range<usize>,
}

impl Place {
    /// How many paths it has.
    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }
}

impl States {
    pub(super) fn of_arrays(states: &[ArrayRef]) -> Result<Self> {
        let list = |state: usize| Lists::of_array(NAME, &states[state]);
        let (touchpoints, places, paths) = (list(0)?, list(1)?, list(2)?);
        let texts = TextColumn::of_array(NAME, &touchpoints.values)?;
        let columns = paths.values.as_struct().columns();
        let columns = std::array::from_fn(|column| columns[column].as_primitive::<UInt64Type>().values().clone());
        Ok(Self { touchpoints, texts, places, paths, columns, symbols: Vec::new() })
    }

    /// Where the state of a row lies; `None` where it is null.
    pub(super) fn place(&self, row: usize) -> Option<Place> {
        Some(Place {
            touchpoints: self.touchpoints.range(row)?,
            places: self.places.range(row)?,
            paths: self.paths.range(row)?,
        })
    }

    fn own_places(&self) -> &ScalarBuffer<u32> {
        self.places.values.as_primitive::<UInt32Type>().values()
    }

    /// Counts the paths of a state for a group.
    pub(super) fn count(&mut self, place: Place, group: u32, symbols: &mut Symbols, tally: &mut Tally) {
        self.symbols.clear();
        self.symbols.extend(place.touchpoints.map(|position| symbols.number(self.texts.get(position))));
        let paths = Paths {
            symbols: &self.symbols,
            places: &self.own_places()[place.places],
            columns: self.columns.each_ref().map(|column| &column[place.paths.clone()]),
        };
        paths.count(group, tally);
    }

    /// Keeps a state, which is one of a group.
    pub(super) fn keep(&self, place: Place, group: u32, symbols: &mut Symbols) -> LargeState {
        let Place { touchpoints, places, paths } = place;
        LargeState {
            group,
            symbols: touchpoints.map(|position| symbols.number(self.texts.get(position))).collect(),
            places: kept(self.own_places().slice(places.start, places.len())),
            columns: self.columns.each_ref().map(|column| kept(column.slice(paths.start, paths.len()))),
        }
    }
}

/// A state of a group.
#[derive(Debug)]
pub(super) struct LargeState {
    pub group: u32,
    /// The number of each of its touchpoints.
    symbols: Vec<u32>,
    places: ScalarBuffer<u32>,
    columns: [ScalarBuffer<u64>; 5],
}

impl LargeState {
    fn paths(&self) -> Paths<'_> {
        let columns = self.columns.each_ref().map(|column| column.as_ref());
        Paths { symbols: &self.symbols, places: &self.places, columns }
    }

    /// Counts its paths.
    pub(super) fn count(&self, tally: &mut Tally) {
        self.paths().count(self.group, tally);
    }

    /// Makes it one of a group as many groups before, with the numbers that touchpoints have now; false if it is gone.
    pub(super) fn moves_down(&mut self, groups: u32, number: impl FnMut(u32) -> u32) -> bool {
        let Some(group) = self.group.checked_sub(groups) else {
            return false;
        };
        self.group = group;
        self.symbols = std::mem::take(&mut self.symbols).into_iter().map(number).collect();
        true
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let columns: usize = self.columns.iter().map(held).sum();
        size_of::<Self>() + self.symbols.capacity() * size_of::<u32>() + held(&self.places) + columns
    }
}

/// The paths of a state.
struct Paths<'a> {
    symbols: &'a [u32],
    places: &'a [u32],
    /// The two words of each path, then what is counted of it: journeys, longer ones, converted ones.
    columns: [&'a [u64]; 5],
}

impl<'a> Paths<'a> {
    fn len(&self) -> usize {
        self.columns[0].len()
    }

    /// How many journeys take each path.
    fn journeys(&self) -> &'a [u64] {
        self.columns[2]
    }

    fn count(&self, group: u32, tally: &mut Tally) {
        self.for_each(|path, counts| tally.add(group, path.iter().copied(), counts));
    }

    /// Gives each path to `take`.
    fn for_each(&self, mut take: impl FnMut(&[u32], Counts)) {
        let [_, _, journeys, longer, converted] = self.columns;
        let mut path = Vec::new();
        for place in 0..self.len() {
            self.path(place, &mut path);
            take(&path, Counts { journeys: journeys[place], longer: longer[place], converted: converted[place] });
        }
    }

    #[inline]
    fn path(&self, place: usize, path: &mut Vec<u32>) {
        let key = Key([self.columns[0][place], self.columns[1][place]]);
        let symbol = |own: u32| self.symbols[own as usize - 1];
        path.clear();
        match key.as_aside() {
            None => path.extend(key.numbers().map(symbol)),
            Some(at) => {
                let (start, length) = (at as u32 as usize, (at >> 32) as usize);
                path.extend(self.places[start..start + length].iter().copied().map(symbol));
            }
        }
    }
}

/// The paths of a group of which `count` are the most taken, from what is counted of it and from its states.
pub(super) fn most_taken(tally: &Tally, entries: &[&Entry], states: &[&LargeState], count: usize) -> Tally {
    let mut journeys: Vec<u64> = entries.iter().map(|entry| entry.counts.journeys).collect();
    let mut least = taken_by_last(&mut journeys, count);
    let states: Vec<Paths<'_>> = states.iter().map(|state| state.paths()).collect();
    for state in &states {
        journeys.clear();
        journeys.extend_from_slice(state.journeys());
        least = least.max(taken_by_last(&mut journeys, count));
    }
    let enough = least.div_ceil(states.len() as u64 + 1);

    let mut most_taken = Tally::default();
    let mut path = Vec::new();
    let is_enough = |journeys: u64| journeys >= enough;
    for entry in entries.iter().filter(|entry| is_enough(entry.counts.journeys)) {
        path.clear();
        tally.path(entry, &mut path);
        most_taken.add(0, path.iter().copied(), Counts::default());
    }
    for state in &states {
        for place in (0..state.len()).filter(|place| is_enough(state.journeys()[*place])) {
            state.path(place, &mut path);
            most_taken.add(0, path.iter().copied(), Counts::default());
        }
    }
    most_taken.settle();

    let mut count = |path: &[u32], counts: Counts| {
        if let Some(sum) = most_taken.counts_mut(0, path.iter().copied()) {
            sum.add(counts);
        }
    };
    for entry in entries {
        path.clear();
        tally.path(entry, &mut path);
        count(&path, entry.counts);
    }
    states.iter().for_each(|state| state.for_each(&mut count));
    most_taken
}

/// How often the last of `count` paths to show is taken; 0 if there are fewer.
fn taken_by_last(journeys: &mut [u64], count: usize) -> u64 {
    match journeys.len() >= count {
        true => *journeys.select_nth_unstable_by_key(count - 1, |journeys| Reverse(*journeys)).1,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Paths of two touchpoints, short and long, by a number.
    fn path(number: u32) -> Vec<u32> {
        (0..1 + number % 11).map(|place| 1 + (number >> place) % 2).collect()
    }

    fn state(counted: &[(u32, u64)]) -> LargeState {
        let (mut words, mut places) = (Vec::new(), Vec::new());
        for (number, _) in counted {
            let path = path(*number);
            words.push(Key::packed(path.iter().copied()).unwrap_or_else(|| {
                let key = Key::aside(places.len() as u64 | (path.len() as u64) << 32);
                places.extend_from_slice(&path);
                key
            }));
        }
        let journeys: ScalarBuffer<u64> = counted.iter().map(|(_, journeys)| *journeys).collect();
        LargeState {
            group: 0,
            // The other way round than in what is counted.
            symbols: vec![2, 1],
            places: places.into(),
            columns: [
                words.iter().map(|key| key.0[0]).collect(),
                words.iter().map(|key| key.0[1]).collect(),
                journeys.clone(),
                journeys.clone(),
                journeys,
            ],
        }
    }

    fn counts(journeys: u64) -> Counts {
        Counts { journeys, longer: journeys, converted: journeys }
    }

    fn all(tally: &Tally) -> Vec<(u64, Vec<u32>)> {
        let (entries, _) = tally.by_group(1);
        let read = |entry: &&Entry| {
            let mut path = Vec::new();
            tally.path(entry, &mut path);
            assert_eq!(entry.counts, counts(entry.counts.journeys));
            (entry.counts.journeys, path)
        };
        let mut all: Vec<_> = entries.iter().map(read).collect();
        all.sort_by_key(|(journeys, path)| (Reverse(*journeys), path.clone()));
        all
    }

    proptest! {
        /// Few paths are taken by most, as journeys do.
        #[test]
        fn the_most_taken_of_all_are_among_them_with_all_their_counts(
            own in prop::collection::btree_map(0u32..40, 1u64..9, 0..20),
            others in prop::collection::vec(prop::collection::btree_map(0u32..40, 1u64..200, 0..40), 1..4),
            count in 1usize..12,
        ) {
            let mut tally = Tally::default();
            own.iter().for_each(|(number, journeys)| tally.add(0, path(*number).into_iter(), counts(*journeys)));
            tally.settle();
            let states: Vec<LargeState> = others
                .iter()
                .map(|other| {
                    // A state has a path once.
                    let mut seen = std::collections::BTreeSet::new();
                    let other: Vec<(u32, u64)> = other
                        .iter()
                        .filter(|(number, _)| seen.insert(path(**number)))
                        .map(|(number, journeys)| (*number, *journeys))
                        .collect();
                    state(&other)
                })
                .collect();
            let (entries, _) = tally.by_group(1);
            let found = most_taken(&tally, &entries, &states.iter().collect::<Vec<_>>(), count);
            let found: Vec<_> = all(&found).into_iter().take(count).collect();
            let mut expected = Tally::default();
            own.iter().for_each(|(number, journeys)| expected.add(0, path(*number).into_iter(), counts(*journeys)));
            states.iter().for_each(|state| state.count(&mut expected));
            expected.settle();
            let expected: Vec<_> = all(&expected).into_iter().take(count).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
