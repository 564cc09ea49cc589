//! The funnel's algorithm: one pass over the touches of one journey. It knows nothing of Arrow.
//!
//! Level `k` is reached when touches e1 < e2 < … < ek of the journey serve steps 1 to k in this order and
//! `time(ek) - time(e1) <= window`. A touch is offered to the steps from the last down to the first, so that it serves
//! one step of a chain only:
//! - step 1 always opens a newer chain; the former chain of level 1 is forgotten;
//! - step `i` extends the chain of level `i - 1` if the window, counted from that chain's first touch, allows it, and
//!   replaces the chain of level `i`.
//!
//! Chains of a level only ever start later, never earlier, so a replaced chain could not have got further than its
//! successor: the depth is exact (the argument of ClickHouse's `windowFunnel`, default mode). The one thing that could
//! spoil it, a time that falls, does not occur: touches come in journey order.
//!
//! Most touches match no step or step 1 only. So they are laid out as the bits of words, without a branch; only those of a
//! later step are looked at one by one, and the newest entry before one is the highest bit below its own.
//!
//! Memory: 8 bytes per served step from the second on if touches are kept, used again for the next journey.

use super::outcome::Outcome;

/// The most steps that a funnel can have: one bit of a [`u32`] each.
pub(super) const MOST_STEPS: usize = 32;

/// A touch in a chain that serves a step from the second on.
#[derive(Debug, Clone, Copy)]
struct Link {
    touch: u32,
    /// Index of the link before; in a link of step 2 the number of the entry.
    before: u32,
}

/// The newest chain of one level from the second on: when it began and its last link.
#[derive(Debug, Clone, Copy, Default)]
struct Chain {
    started_at: i64,
    last: u32,
}

/// The chains of one journey under one funnel.
#[derive(Debug)]
pub(super) struct Chains {
    window: i64,
    /// `newest[i]` is the newest chain of level `i + 1`, if one was made.
    newest: [Chain; MOST_STEPS],
    /// Whether the touches of chains are kept.
    keeps_links: bool,
    links: Vec<Link>,
    /// 0 when no touch matched step 1.
    furthest: usize,
    /// The first and the newest touch that opened a chain.
    entries: Option<(u32, u32)>,
    /// The last link of the chain that first reached the furthest level, if that is not the first.
    witness: u32,
}

/// Touches that are looked through at once: a bit of a word each.
const WORD: usize = u64::BITS as usize;

impl Chains {
    pub(super) fn new(keeps_links: bool) -> Self {
        Self {
            window: 0,
            newest: [Chain::default(); MOST_STEPS],
            keeps_links,
            links: Vec::new(),
            furthest: 0,
            entries: None,
            witness: 0,
        }
    }

    /// Takes a journey through a funnel of `step_count` steps (1 to [`MOST_STEPS`]) and a window in the unit of the
    /// times. `steps_of` gives the steps that a touch matches by its number, from 0 (bit `i` is step `i + 1`), 0 for one
    /// that does not count. Ends with the touch that serves the last step.
    #[inline]
    pub(super) fn pass(&mut self, step_count: usize, window: i64, times: &[i64], steps_of: impl Fn(usize) -> u32) {
        debug_assert!((1..=MOST_STEPS).contains(&step_count));
        self.window = window;
        self.links.clear();
        self.furthest = 0;
        self.entries = None;
        // Bit `i`: there is a chain that step `i + 1` can extend.
        let mut open = 0;
        for first in (0..times.len()).step_by(WORD) {
            // Bit `i`: touch `first + i` enters, or matches a later step. Each comes in at the top and moves down as others do.
            let count = WORD.min(times.len() - first);
            let (mut entering, mut later) = (0_u64, 0_u64);
            for place in 0..count {
                let steps = steps_of(first + place);
                entering = entering >> 1 | u64::from(steps & 1) << (WORD - 1);
                later = later >> 1 | u64::from(steps > 1) << (WORD - 1);
            }
            let (entering, mut later) = (entering >> (WORD - count), later >> (WORD - count));
            let last_of = |entering: u64| entering.checked_ilog2().map(|place| first as u32 + place);
            let entries_before = self.entries;
            let entries_with = |entering: u64| {
                let last = last_of(entering)?;
                let earliest = entries_before.map(|(earliest, _)| earliest);
                Some((earliest.unwrap_or(first as u32 + entering.trailing_zeros()), last))
            };
            if step_count == 1 && entering != 0 {
                self.furthest = 1;
                self.entries = entries_with(entering & entering.wrapping_neg());
                return;
            }
            while later != 0 {
                let place = later.trailing_zeros();
                later &= later - 1;
                let before = entering & ((1 << place) - 1);
                let Some(entry) = last_of(before).or(entries_before.map(|(_, last)| last)) else { continue };
                open |= 0b10;
                let number = first + place as usize;
                let serves = steps_of(number) & open;
                if serves == 0 {
                    continue;
                }
                open |= self.serve(serves, number as u32, entry, times) << 1;
                if self.furthest == step_count {
                    self.entries = entries_with(entering & (u64::MAX >> (WORD as u32 - 1 - place))).or(entries_before);
                    return;
                }
            }
            self.entries = entries_with(entering).or(entries_before);
        }
        self.furthest = self.furthest.max(usize::from(self.entries.is_some()));
    }

    /// Offers a touch to steps from the second on, whose chains to extend exist; `entry` is the newest touch of step 1 before
    /// it. Returns those that it serves.
    fn serve(&mut self, steps: u32, number: u32, entry: u32, times: &[i64]) -> u32 {
        let time = times[number as usize];
        let mut left = steps;
        let mut served = 0;
        while left != 0 {
            let step = left.ilog2() as usize;
            left ^= 1 << step;
            let (started_at, before) = match step {
                1 => (times[entry as usize], entry),
                _ => (self.newest[step - 1].started_at, self.newest[step - 1].last),
            };
            if time.saturating_sub(started_at) > self.window {
                continue;
            }
            let last = self.links.len() as u32;
            if self.keeps_links {
                self.links.push(Link { touch: number, before });
            }
            self.newest[step] = Chain { started_at, last };
            served |= 1 << step;
            if step >= self.furthest {
                self.furthest = step + 1;
                self.witness = last;
            }
        }
        served
    }

    /// Writes what became of the journey.
    #[inline]
    pub(super) fn write(&self, outcome: &mut Outcome) {
        if !self.keeps_links {
            return outcome.set_furthest(self.furthest);
        }
        outcome.clear();
        if let Some((_, last_entry)) = self.entries {
            outcome.set_served(self.witness().map(Some));
            outcome.end_attempt(self.furthest, last_entry);
        }
    }

    /// The numbers of the touches of the witness: the chain as it stood when the furthest level was first reached.
    fn witness(&self) -> impl Iterator<Item = u32> {
        let mut touches = [0; MOST_STEPS];
        if let Some((first_entry, _)) = self.entries {
            touches[0] = first_entry;
        }
        let mut link = self.witness;
        for step in (1..self.furthest).rev() {
            touches[step] = self.links[link as usize].touch;
            link = self.links[link as usize].before;
            touches[0] = link;
        }
        touches.into_iter().take(self.furthest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Touches written as in `{A,B}1 C2`: the letters of the steps matched (`X` matches none), then the second.
    fn parse(stream: &str) -> Vec<(u32, i64)> {
        let touch = |text: &str| {
            let digits = text.find(|character: char| character.is_ascii_digit()).unwrap();
            let steps = text[..digits].chars().filter(|letter| ('A'..='H').contains(letter));
            (steps.map(|letter| 1 << (letter as u32 - 'A' as u32)).sum(), text[digits..].parse().unwrap())
        };
        stream.split_whitespace().map(touch).collect()
    }

    fn chains(touches: &[(u32, i64)], step_count: usize, window: i64) -> Chains {
        let times: Vec<i64> = touches.iter().map(|(_, time)| *time).collect();
        let mut chains = Chains::new(true);
        chains.pass(step_count, window, &times, |number| touches[number].0);
        let mut without_links = Chains::new(false);
        without_links.pass(step_count, window, &times, |number| touches[number].0);
        assert_eq!(without_links.furthest, chains.furthest);
        chains
    }

    /// Furthest step and the numbers (from 1) of the witness's touches.
    fn run(touches: &[(u32, i64)], step_count: usize, window: i64) -> (usize, Vec<u32>) {
        let chains = chains(touches, step_count, window);
        (chains.furthest, chains.witness().map(|touch| touch + 1).collect())
    }

    /// The funnel A→B→C within ten seconds.
    fn abc(stream: &str) -> (usize, Vec<u32>) {
        run(&parse(stream), 3, 10)
    }

    #[test]
    fn reaches_what_the_default_of_clickhouse_reaches() {
        for (stream, furthest, witness) in [
            ("A1 B2 C3", 3, vec![1, 2, 3]),
            ("A1 X2 B3 C4", 3, vec![1, 3, 4]),
            ("A1 C2 B3 C4", 3, vec![1, 3, 4]),
            ("A1 B2 B3 C4", 3, vec![1, 3, 4]),
            ("A1 A2 B3 B4 C5", 3, vec![2, 4, 5]),
            ("A1 X2 A3 B4 C5", 3, vec![3, 4, 5]),
            ("A1 C2 A3 B4 C5", 3, vec![3, 4, 5]),
            ("A1 A8 B12 C15", 3, vec![2, 3, 4]),
            ("A1 B11 C12", 2, vec![1, 2]),
            ("A1 A2 B2 C3", 3, vec![2, 3, 4]),
            ("A1 B2 A3 B4 C5", 3, vec![3, 4, 5]),
        ] {
            assert_eq!(abc(stream), (furthest, witness), "{stream}");
        }
    }

    /// ClickHouse sorts equal times by step number and answers 3; we keep the journey's own order, in which C and B
    /// come before the A that they would have to follow. (`strict_increase` answers 1 too.)
    #[test]
    fn touches_of_equal_time_are_taken_in_journey_order() {
        assert_eq!(abc("C1 B1 A1"), (1, vec![3]));
        assert_eq!(abc("A1 B1 C1"), (3, vec![1, 2, 3]));
    }

    /// ClickHouse stores such a row twice and answers 3; ours is the answer of its `strict_once`.
    #[test]
    fn one_touch_serves_one_step_of_a_chain() {
        assert_eq!(abc("AB1 C2"), (1, vec![1]));
        assert_eq!(abc("AB1 AB2 C3"), (3, vec![1, 2, 3]));
        assert_eq!(abc("ABC1 ABC2 ABC3"), (3, vec![1, 2, 3]));
    }

    #[test]
    fn the_end_of_the_window_is_included() {
        assert_eq!(abc("A1 B2 C11").0, 3);
        assert_eq!(abc("A1 B2 C12").0, 2);
        assert_eq!(run(&parse("A1 B1 C2"), 3, 0), (2, vec![1, 2]));
    }

    #[test]
    fn a_journey_without_step_one_reaches_nothing() {
        assert_eq!(abc(""), (0, vec![]));
        assert_eq!(abc("X1 B2 C3"), (0, vec![]));
    }

    #[test]
    fn the_witness_is_the_first_arrival_and_of_those_the_latest_entry() {
        // The chain from A2 arrives at B3 first; A4 B5 arrives later and changes nothing.
        assert_eq!(abc("A1 A2 B3 A4 B5"), (2, vec![2, 3]));
    }

    #[test]
    fn the_last_entry_is_the_newest_touch_of_step_one() {
        let last_entry = |stream: &str| chains(&parse(stream), 3, 10).entries.map(|(_, last)| last + 1);
        assert_eq!(last_entry("A1 A8"), Some(2));
        assert_eq!(last_entry("A1 B2 A20 X21"), Some(3));
        assert_eq!(last_entry("A1 B2 ABC3 A4"), Some(3));
        assert_eq!(last_entry("X1 B2"), None);
    }

    #[test]
    fn the_last_step_ends_the_pass() {
        for (touches, step_count, last_entry) in [("A1 B2 A3", 2, 1), ("A1 AB2 A3", 2, 2), ("X1 A2 A3", 1, 2)] {
            let chains = chains(&parse(touches), step_count, 10);
            assert_eq!(chains.furthest, step_count, "{touches}");
            assert_eq!(chains.entries.map(|(_, last)| last + 1), Some(last_entry), "{touches}");
        }
    }

    #[test]
    fn thirty_two_steps_fit() {
        let touches: Vec<(u32, i64)> = (0..32).map(|step| (1 << step, i64::from(step))).collect();
        assert_eq!(run(&touches, 32, 31), (32, (1..=32).collect()));
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        assert_eq!(run(&[(0b01, i64::MIN), (0b10, i64::MAX)], 2, 10).0, 1);
    }

    /// Every chain there is, told apart by the definition alone.
    fn every_chain(touches: &[(u32, i64)], step_count: usize, window: i64) -> Vec<Vec<u32>> {
        let mut chains: Vec<Vec<u32>> = vec![vec![]];
        let mut complete = vec![];
        while let Some(chain) = chains.pop() {
            if chain.len() < step_count {
                let after = chain.last().map_or(0, |number| *number as usize);
                for number in after..touches.len() {
                    let (steps, time) = touches[number];
                    let in_time = chain.first().is_none_or(|first| time - touches[*first as usize - 1].1 <= window);
                    if steps >> chain.len() & 1 == 1 && in_time {
                        chains.push(chain.iter().copied().chain([number as u32 + 1]).collect());
                    }
                }
            }
            complete.push(chain);
        }
        complete
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn agrees_with_trying_every_chain(
            touches in prop::collection::vec((0u32..16, 0i64..4), 0..9),
            step_count in 1usize..=4,
            window in 0i64..9,
            gaps in prop::collection::vec(prop_oneof![Just(0_usize), 0_usize..4, 50_usize..150], 9),
        ) {
            let mut now = 0;
            let touches: Vec<(u32, i64)> = touches
                .into_iter()
                .map(|(steps, gap)| {
                    now += gap;
                    (steps, now)
                })
                .collect();
            let (furthest, witness) = run(&touches, step_count, window);
            // With touches between that match nothing, the same touches lie in several words.
            let spread: Vec<(u32, i64)> = (touches.iter().zip(&gaps))
                .flat_map(|(touch, gap)| std::iter::repeat_n((0, touch.1), *gap).chain([*touch]))
                .collect();
            let matching: Vec<u32> = (1..).zip(&spread).filter(|(_, touch)| touch.0 != 0).map(|(number, _)| number).collect();
            let numbers: Vec<u32> = (1..).zip(&touches).filter(|(_, touch)| touch.0 != 0).map(|(number, _)| number).collect();
            let moved = |number: &u32| matching[numbers.iter().position(|other| other == number).expect("it matches")];
            let entries = |chains: Chains| chains.entries.map(|(first, last)| [first + 1, last + 1]);
            let expected = entries(chains(&touches, step_count, window)).map(|ends| ends.map(|number| moved(&number)));
            prop_assert_eq!(run(&spread, step_count, window), (furthest, witness.iter().map(moved).collect()));
            prop_assert_eq!(entries(chains(&spread, step_count, window)), expected);

            let every = every_chain(&touches, step_count, window);
            prop_assert_eq!(furthest, every.iter().map(Vec::len).max().unwrap());

            // First arrival; of those that arrive with this touch, the latest entry.
            let deepest: Vec<&Vec<u32>> = every.iter().filter(|chain| chain.len() == furthest).collect();
            prop_assert!(deepest.contains(&&witness), "{:?} is no chain", witness);
            let arrival = deepest.iter().filter_map(|chain| chain.last()).min();
            let entry = deepest.iter().filter(|chain| chain.last() == arrival).filter_map(|chain| chain.first()).max();
            prop_assert_eq!(witness.last(), arrival);
            if let (Some(entered), Some(latest)) = (witness.first(), entry) {
                let time = |number: &u32| touches[*number as usize - 1].1;
                prop_assert_eq!(time(entered), time(latest));
                prop_assert_eq!(entered, latest);
            }
        }
    }
}
