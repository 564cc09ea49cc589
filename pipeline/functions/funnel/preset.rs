//! The rules of `window_funnel` over the touches of a journey: same level and same times as over the touches as rows.
//!
//! The rules say at which times the steps of a chain were served. Its touches are those of these times: of several that
//! could serve, the first in journey order, each once where the rule says so. (They need not be in journey order then:
//! the rules take touches of one time step by step.)

use std::ops::Range;

use super::super::occurrences::Occurrence;
use super::super::window_funnel::{Funnel, Rule, Walk};
use super::outcome::Outcome;
use super::touches::{Touch, Touches};

/// What a touch is to a rule: the steps that it matches, and whether the rule sees it at all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub steps: u32,
    pub takes_part: bool,
}

/// Takes journeys through one funnel.
#[derive(Debug)]
pub(super) struct Preset {
    walk: Walk,
    keeps_steps: bool,
    rows: Vec<Occurrence>,
    steps: Vec<Option<u32>>,
}

impl Preset {
    /// Before the first journey; the touches of the steps are found if `keeps_steps`.
    pub(super) fn new(rule: Rule, step_count: usize, keeps_steps: bool) -> Self {
        let walk = Walk::new(Funnel { rule, window: 0, step_count }, keeps_steps);
        Self { walk, keeps_steps, rows: vec![], steps: vec![] }
    }

    /// Finds what becomes of a journey. The touches come out in the order of the rule.
    pub(super) fn journey(&mut self, touches: &mut Touches, window: i64, outcome: &mut Outcome) {
        let touches = &mut touches.touches;
        let order = |touch: &Touch| (touch.time, touch.steps, touch.position);
        if !touches.is_sorted_by_key(order) {
            touches.sort_unstable_by_key(order);
        }
        self.rows.clear();
        self.rows.extend(touches.iter().map(|touch| Occurrence::new(touch.time, touch.steps, 0)));
        self.walk.funnel.window = window;
        self.walk.group(&self.rows);

        if self.keeps_steps {
            self.find_steps(touches, outcome);
        } else {
            outcome.set_furthest(self.walk.level());
        }
    }

    /// Finds the furthest step alone, from the times of a journey's touches and what each is to the rule.
    #[inline]
    pub(super) fn furthest_step(
        &mut self,
        times: &[i64],
        seen: impl Fn(usize) -> Seen,
        window: i64,
        outcome: &mut Outcome,
    ) {
        self.walk.funnel.window = window;
        let taking_part = || taking_part(times.len(), |number| seen(number).takes_part);
        let rows = || taking_part().map(|number| (times[number], seen(number).steps));
        if !(times.is_sorted() && self.walk.in_order(rows())) {
            self.rows.clear();
            self.rows.extend(rows().map(|(time, steps)| Occurrence::new(time, steps, 0)));
            let order = |row: &Occurrence| (row.time, row.conditions);
            if !self.rows.is_sorted_by_key(order) {
                self.rows.sort_unstable_by_key(order);
            }
            self.walk.group(&self.rows);
        }
        outcome.set_furthest(self.walk.level());
    }

    fn find_steps(&mut self, touches: &[Touch], outcome: &mut Outcome) {
        outcome.clear();
        let times = self.walk.times();
        let (Some(entered_at), Some(reached_at)) = (times.first(), times.last()) else {
            return;
        };
        let is_once = match self.walk.funnel.rule {
            Rule::ClickHouse(modes) => modes.once,
            Rule::PostHog { .. } | Rule::Mixpanel => true,
        };
        self.steps.clear();
        while let Some(time) = times.get(self.steps.len()) {
            let from = self.steps.len();
            let to = from + times[from..].iter().take_while(|other| *other == time).count();
            let later = &touches[touches.partition_point(|touch| touch.time < *time)..];
            let instant = &later[..later.partition_point(|touch| touch.time == *time)];
            if is_once && to - from > 1 {
                self.steps.extend(shared_out(instant, from..to).into_iter().map(Some));
            } else {
                self.steps.extend((from..to).map(|step| able(instant, step).min()));
            }
        }
        // With Mixpanel no later entry counts, and once the last step is reached none does.
        let until = match self.walk.funnel.rule {
            Rule::Mixpanel => *entered_at,
            _ if times.len() == self.walk.funnel.step_count => *reached_at,
            _ => i64::MAX,
        };
        let entries = touches.iter().filter(|touch| touch.steps & 1 == 1 && touch.time <= until);
        let last_entry = entries.map(|touch| touch.position).max().expect("a chain has an entry");
        outcome.set_served(self.steps.iter().copied());
        outcome.end_attempt(times.len(), last_entry);
    }
}

/// The numbers of those of `count` touches that take part.
#[inline]
fn taking_part(count: usize, takes_part: impl Fn(usize) -> bool) -> impl Iterator<Item = usize> {
    const WORD: usize = u64::BITS as usize;
    // Bit `i`: touch `first + i`, which is still to come, takes part.
    let (mut first, mut end, mut word) = (0, 0, 0_u64);
    std::iter::from_fn(move || {
        while word == 0 {
            if end == count {
                return None;
            }
            (first, end) = (end, count.min(end + WORD));
            // Each comes in at the top and moves down as others do.
            word = (first..end).fold(0, |word, number| word >> 1 | u64::from(takes_part(number)) << (WORD - 1));
            word >>= WORD - (end - first);
        }
        let number = first + word.trailing_zeros() as usize;
        word &= word - 1;
        Some(number)
    })
}

/// The positions of the touches of an instant that match a step.
fn able(instant: &[Touch], step: usize) -> impl Iterator<Item = u32> {
    instant.iter().filter(move |touch| touch.steps >> step & 1 == 1).map(|touch| touch.position)
}

/// The positions of touches of one instant that serve a run of steps, each once: the first that can for the first step,
/// and so on.
fn shared_out(instant: &[Touch], steps: Range<usize>) -> Vec<u32> {
    let count = steps.len();
    let able: Vec<Vec<u32>> = steps
        .map(|step| {
            let mut positions: Vec<u32> = able(instant, step).collect();
            positions.sort_unstable();
            // As many as there are steps always leave one.
            positions.truncate(count);
            positions
        })
        .collect();
    let mut chosen: Vec<u32> = vec![];
    for step in 0..count {
        let is_possible = |position: &u32| {
            let taken: Vec<u32> = chosen.iter().copied().chain([*position]).collect();
            !chosen.contains(position) && can_share(&able[step + 1..], &taken)
        };
        let first = able[step].iter().copied().find(is_possible);
        chosen.push(first.expect("the rule found touches that share out the steps"));
    }
    chosen
}

/// Whether each step can have a touch of its own, none of them `taken`.
fn can_share(able: &[Vec<u32>], taken: &[u32]) -> bool {
    let mut holders: Vec<Option<u32>> = vec![None; able.len()];
    (0..able.len()).all(|step| assign(able, taken, step, &mut holders, &mut vec![false; able.len()]))
}

/// Finds a touch for a step; other steps give way to it where they can. `asked`: those that were asked to.
fn assign(able: &[Vec<u32>], taken: &[u32], step: usize, holders: &mut [Option<u32>], asked: &mut [bool]) -> bool {
    asked[step] = true;
    for position in able[step].iter().filter(|position| !taken.contains(position)) {
        let holder = holders.iter().position(|held| *held == Some(*position));
        let is_free = match holder {
            None => true,
            Some(holder) => !asked[holder] && assign(able, taken, holder, holders, asked),
        };
        if is_free {
            holders[step] = Some(*position);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: [&str; 9] = [
        "",
        "strict_order",
        "strict_order,allow_reentry",
        "strict_deduplication",
        "strict_increase",
        "strict_once",
        "posthog_ordered",
        "posthog_strict",
        "mixpanel",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Touches in any order, some at one time, in one word or in several: the furthest step is that of the same touches as
        /// sorted rows.
        #[test]
        fn the_furthest_step_alone_is_that_of_rows(
            touches in prop_oneof![0_usize..12, 60_usize..200].prop_flat_map(|count| {
                prop::collection::vec((0_i64..4, 0_u32..8, prop::bool::weighted(0.7)), count)
            }),
            is_in_order in any::<bool>(),
            window in 0_i64..40,
            rule in 0..RULES.len(),
        ) {
            let mut times: Vec<i64> = touches.iter().map(|(time, ..)| *time).collect();
            if is_in_order {
                (1..times.len()).for_each(|later| times[later] += times[later - 1]);
            }
            let rule = Rule::parse(RULES[rule]).unwrap();
            let seen = |number: usize| {
                let (_, steps, is_kept) = touches[number];
                Seen { steps, takes_part: steps != 0 || is_kept && rule.keeps_unmatched() }
            };
            let mut outcome = Outcome::default();
            Preset::new(rule, 3, false).furthest_step(&times, seen, window, &mut outcome);

            let of_touch = |number: usize| Occurrence::new(times[number], seen(number).steps, 0);
            let mut rows: Vec<Occurrence> =
                (0..touches.len()).filter(|number| seen(*number).takes_part).map(of_touch).collect();
            rows.sort_by_key(|row| (row.time, row.conditions));
            let mut walk = Walk::new(Funnel { rule, window, step_count: 3 }, false);
            walk.group(&rows);
            prop_assert_eq!(outcome.furthest(), walk.level());
        }
    }
}
