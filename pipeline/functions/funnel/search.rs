//! The furthest step of a journey under options: which entries are tried, what is held, what an exclusion does.
//!
//! Every form comes down to a pass over touches in journey order, by [`Ordered`] or, with steps in any order, by
//! [`Unordered`]: of the chains of every entry, or of one. With `hold` and entry `last` the touches of each value are a
//! pass of their own: what stands between two of them is known from the whole journey.

use super::chain::MOST_STEPS;
use super::options::{Entry, OnExcluded};
use super::ordered::Ordered;
use super::outcome::Outcome;
use super::terms::Terms;
use super::touches::{Exclusions, Touch, Touches};
use super::unordered::Unordered;

/// What chains are looked for in.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub touches: &'a [Touch],
    /// What ends chains, if anything does.
    pub exclusions: Option<&'a Exclusions>,
    pub window: i64,
}

/// A chain that reached a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    /// Its last touch.
    pub arrival: u32,
    /// Its first.
    pub entry: u32,
    /// By which it is found again.
    pub chain: u32,
}

/// The time from one touch to a later one.
#[inline]
pub(super) fn gap(from: Touch, to: Touch) -> i64 {
    to.time.saturating_sub(from.time)
}

/// A step of the work, which tests count.
#[inline]
pub(super) fn take_step() {
    #[cfg(test)]
    tests::STEPS_TAKEN.set(tests::STEPS_TAKEN.get() + 1);
}

#[derive(Debug)]
enum Chains {
    Ordered(Ordered),
    Unordered(Unordered),
}

impl Chains {
    fn entry_steps(&self) -> u32 {
        match self {
            Self::Ordered(_) => 1,
            Self::Unordered(chains) => chains.entry_steps(),
        }
    }

    fn every_entry(&mut self, view: View<'_>) {
        match self {
            Self::Ordered(chains) => chains.every_entry(view),
            Self::Unordered(chains) => chains.every_entry(view),
        }
    }

    fn one_entry(&mut self, view: View<'_>, entry: u32) -> u32 {
        match self {
            Self::Ordered(chains) => chains.one_entry(view, entry),
            Self::Unordered(chains) => chains.one_entry(view, entry),
        }
    }

    fn furthest(&self) -> usize {
        match self {
            Self::Ordered(chains) => chains.furthest(),
            Self::Unordered(chains) => chains.furthest(),
        }
    }

    fn first_arrival(&self, step: usize, is_wanted: impl Fn(u32, u32) -> bool) -> Option<Reached> {
        match self {
            Self::Ordered(chains) => chains.first_arrival(step, is_wanted),
            Self::Unordered(chains) => chains.first_arrival(step, is_wanted),
        }
    }

    fn write(&self, view: View<'_>, reached: Reached, touches: &mut [Option<u32>; MOST_STEPS]) {
        match self {
            Self::Ordered(chains) => chains.write(reached.chain, touches),
            Self::Unordered(chains) => chains.write(view, reached.entry, touches),
        }
    }
}

/// Takes journeys through one funnel.
#[derive(Debug)]
pub(super) struct Search {
    entry: Entry,
    on_excluded: OnExcluded,
    has_hold: bool,
    step_count: usize,
    /// Per step, the columns of touches that are excluded after it.
    excluded: Vec<u32>,
    chains: Chains,
    /// The touch of each step of the chain in hand.
    witness: [Option<u32>; MOST_STEPS],
    /// Where the touches of one value end, value after value.
    ends: Vec<usize>,
}

/// The best chain so far, by positions in the journey.
#[derive(Debug, Clone, Copy)]
struct Found {
    depth: usize,
    arrival: u32,
    entry: u32,
}

impl Found {
    fn is_better_than(self, other: Self) -> bool {
        let order = |found: Self| (std::cmp::Reverse(found.depth), found.arrival, std::cmp::Reverse(found.entry));
        order(self) < order(other)
    }
}

impl Search {
    pub(super) fn new(terms: &Terms) -> Self {
        Self {
            entry: terms.entry,
            on_excluded: terms.on_excluded,
            has_hold: terms.has_hold,
            step_count: terms.step_count,
            excluded: (0..terms.step_count).map(|step| terms.excluded(step, step + 1)).collect(),
            chains: if terms.is_unordered() {
                Chains::Unordered(Unordered::new(terms))
            } else {
                Chains::Ordered(Ordered::new(terms))
            },
            witness: [None; MOST_STEPS],
            ends: vec![],
        }
    }

    /// Finds what becomes of a journey. The touches may come out in another order.
    pub(super) fn journey(&mut self, touches: &mut Touches, window: i64, outcome: &mut Outcome) {
        outcome.clear();
        let Touches { touches, exclusions, .. } = touches;
        if self.entry == Entry::Every {
            return self.attempts(View { touches, exclusions: Some(exclusions), window }, outcome);
        }
        self.ends.clear();
        if self.has_hold && self.entry == Entry::Last {
            touches.sort_unstable_by_key(|touch| (touch.held, touch.position));
            let last_of_value = |pair: &[Touch]| pair[0].held != pair[1].held;
            let starts = touches.windows(2).enumerate().filter(|(_, pair)| last_of_value(pair));
            self.ends.extend(starts.map(|(number, _)| number + 1));
        }
        self.ends.push(touches.len());

        let wanted = if self.on_excluded == OnExcluded::Remove && !exclusions.is_empty() {
            // As far as the journey gets with exclusions left out of account it has to get without them.
            match self.best(View { touches, exclusions: None, window }, None, outcome) {
                Some(found) => Some(found.depth),
                None => return,
            }
        } else {
            None
        };
        let Some(found) = self.best(View { touches, exclusions: Some(exclusions), window }, wanted, outcome) else {
            outcome.clear();
            return;
        };
        let last_entry = match self.entry {
            Entry::First | Entry::Every => found.entry,
            Entry::Last => {
                let until = if found.depth == self.step_count { found.arrival } else { u32::MAX };
                let entries = touches.iter().filter(|touch| touch.steps & self.chains.entry_steps() != 0);
                entries.map(|touch| touch.position).filter(|position| *position <= until).max().unwrap_or(found.entry)
            }
        };
        outcome.end_attempt(found.depth, last_entry);
    }

    /// The best chain of all values, or the best that is wanted: `depth` steps, and no exclusion after the last. Its
    /// steps are left in the outcome.
    fn best(&mut self, whole: View<'_>, depth: Option<usize>, outcome: &mut Outcome) -> Option<Found> {
        let mut best: Option<Found> = None;
        let mut start = 0;
        for value in 0..self.ends.len() {
            let end = self.ends[value];
            let view = View { touches: &whole.touches[start..end], ..whole };
            start = end;
            match self.entry {
                Entry::Last => self.chains.every_entry(view),
                Entry::First | Entry::Every => {
                    self.chains.one_entry(view, self.next_entry(view, 0)?);
                }
            }
            let depth_here = depth.unwrap_or(self.chains.furthest());
            let position = |touch: u32| view.touches[touch as usize].position;
            let is_wanted = |arrival, entry| depth.is_none() || self.stays_clean(view, depth_here, arrival, entry);
            let Some(reached) = self.chains.first_arrival(depth_here, is_wanted) else { continue };
            let found = Found { depth: depth_here, arrival: position(reached.arrival), entry: position(reached.entry) };
            if best.is_none_or(|best| found.is_better_than(best)) {
                best = Some(found);
                self.chains.write(view, reached, &mut self.witness);
                outcome.set_steps(self.witness.map(|touch| touch.map(position)));
            }
        }
        best
    }

    /// Whether nothing that is excluded after the last step of a chain comes while its window is open.
    fn stays_clean(&self, view: View<'_>, depth: usize, arrival: u32, entry: u32) -> bool {
        let (arrival, entry) = (view.touches[arrival as usize], view.touches[entry as usize]);
        let columns = if depth == self.step_count { 0 } else { self.excluded[depth - 1] };
        let excluded = view.exclusions.and_then(|exclusions| exclusions.first_after(columns, arrival.position));
        excluded.is_none_or(|(_, time)| time.saturating_sub(entry.time) > view.window)
    }

    /// The first touch from `from` on that enters the funnel.
    fn next_entry(&self, view: View<'_>, from: u32) -> Option<u32> {
        let steps = self.chains.entry_steps();
        (from..)
            .zip(&view.touches[from as usize..])
            .find(|(_, touch)| touch.steps & steps != 0)
            .map(|(number, _)| number)
    }

    /// One attempt after another.
    fn attempts(&mut self, view: View<'_>, outcome: &mut Outcome) {
        let mut from = 0;
        while let Some(entry) = self.next_entry(view, from) {
            from = self.chains.one_entry(view, entry);
            let depth = self.chains.furthest();
            let reached = self.chains.first_arrival(depth, |_, _| true).expect("an entry serves step 1");
            let position = |touch: u32| view.touches[touch as usize].position;
            self.chains.write(view, reached, &mut self.witness);
            outcome.set_steps(self.witness.map(|touch| touch.map(position)));
            outcome.end_attempt(depth, position(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::functions::funnel::options::{Excluded, Options, Order, Orders};
    use crate::functions::funnel::steps::Steps;

    thread_local! {
        pub(super) static STEPS_TAKEN: Cell<usize> = const { Cell::new(0) };
    }

    /// The time of a touch, the steps that it matches, the value that it holds.
    type Told = (i64, u32, u32);

    /// The furthest step and the number of attempts of a journey; touches that match no step are excluded.
    fn outcome(options: &Options, step_count: usize, window: i64, touches: &[Told]) -> (usize, usize) {
        let names = ["a", "b", "c"].map(Some).into_iter().take(step_count);
        let terms = Terms::new(options, &Steps::parse(names).unwrap(), Some(window)).unwrap();
        let mut gathered = Touches::default();
        for (position, (time, steps, held)) in (0..).zip(touches) {
            let touch = Touch { time: *time, position, steps: *steps, rank: 0, held: *held };
            gathered.push(touch, u32::from(*steps == 0), *steps != 0, false);
        }
        let (mut search, mut outcome) = (Search::new(&terms), Outcome::default());
        search.journey(&mut gathered, window, &mut outcome);
        (outcome.furthest(), outcome.attempts().count())
    }

    #[test]
    fn a_long_journey_is_not_quadratic() {
        const COUNT: i64 = 20_000;
        /// Per touch; the journey has three steps.
        const MOST_STEPS_TAKEN: usize = 8;
        let excluded = || Excluded::Everywhere("x".to_owned());
        let gaps = |gap: i64| vec![None, Some(gap), Some(gap)];
        let cases = [
            Options { entry: Entry::First, ..Options::default() },
            Options { entry: Entry::Every, excluded: excluded(), ..Options::default() },
            Options { min_gaps: Some(gaps(COUNT / 2)), ..Options::default() },
            Options { max_gaps: Some(gaps(COUNT / 2)), ..Options::default() },
            Options { min_gaps: Some(gaps(2)), max_gaps: Some(gaps(2)), entry: Entry::Every, ..Options::default() },
            Options { excluded: excluded(), ..Options::default() },
            Options { excluded: excluded(), on_excluded: OnExcluded::Remove, ..Options::default() },
            Options { optional: vec![2], ..Options::default() },
            Options { has_hold: true, ..Options::default() },
            Options { has_hold: true, entry: Entry::Every, ..Options::default() },
            Options { orders: Orders::All(Order::Next), ..Options::default() },
            Options { orders: Orders::All(Order::Any), ..Options::default() },
            Options {
                orders: Orders::All(Order::Any),
                entry: Entry::Every,
                excluded: excluded(),
                ..Options::default()
            },
        ];
        let journeys: [fn(i64) -> Told; 4] = [
            // Steps one after another, in thirds; all at one time; mixed, with exclusions; each touch holds another
            // value.
            |number| (number, 1 << (3 * number / COUNT), 1),
            |_| (7, 0b011, 1),
            |number| (number, [1, 2, 0, 1, 3, 1, 0][number as usize % 7], 1),
            |number| (number, 0b011, 1 + number as u32),
        ];
        for options in cases {
            for journey in journeys {
                let touches: Vec<Told> = (0..COUNT).map(journey).collect();
                STEPS_TAKEN.set(0);
                let (furthest, attempts) = outcome(&options, 3, i64::MAX, &touches);
                let taken = STEPS_TAKEN.get() / COUNT as usize;
                assert!((1..=MOST_STEPS_TAKEN).contains(&taken), "{taken} steps per touch: {options:?}");
                let is_removed = options.on_excluded == OnExcluded::Remove && attempts == 0;
                assert!(furthest > 0 || is_removed, "{options:?}");
            }
        }
    }

    #[test]
    fn thirty_two_steps_fit() {
        let options = Options { optional: (2..32).collect(), ..Options::default() };
        let all: Vec<Told> = (0..32).map(|step| (step, 1 << step, 1)).collect();
        let steps: Vec<String> = (0..32).map(|step| format!("s{step}")).collect();
        let steps = Steps::parse(steps.iter().map(|step| Some(step.as_str()))).unwrap();
        let terms = Terms::new(&options, &steps, Some(31)).unwrap();
        let mut search = Search::new(&terms);
        for (kept, furthest) in [(u32::MAX, 32), (1 | 1 << 31, 32), (1 << 31, 0), (0b111, 3)] {
            let (mut touches, mut outcome) = (Touches::default(), Outcome::default());
            for (position, (time, steps, held)) in (0..).zip(&all) {
                let touch = Touch { time: *time, position, steps: steps & kept, rank: 0, held: *held };
                touches.push(touch, 0, true, false);
            }
            search.journey(&mut touches, 31, &mut outcome);
            assert_eq!(outcome.furthest(), furthest);
            assert_eq!(outcome.witness().iter().flatten().count(), (kept.count_ones() as usize).min(furthest));
        }
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        let far = [(i64::MIN, 1, 1), (0, 0, 1), (i64::MAX, 2, 1)];
        for entry in [Entry::Last, Entry::First, Entry::Every] {
            let gaps = Some(vec![None, Some(i64::MAX)]);
            let plain = Options { entry, ..Options::default() };
            let gapped = Options { max_gaps: gaps, ..plain.clone() };
            for options in [plain, gapped] {
                assert_eq!(outcome(&options, 2, 10, &far), (1, 1));
            }
        }
    }
}
