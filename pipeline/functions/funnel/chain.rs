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
//! Memory: 8 bytes per served step if touches are kept, used again for the next journey.

use super::outcome::Outcome;

/// The most steps that a funnel can have: one bit of a [`u32`] each.
pub(super) const MOST_STEPS: usize = 32;

/// A touch in a chain, and the link that it extends.
#[derive(Debug, Clone, Copy)]
struct Link {
    touch: u32,
    /// Index of the link before; of no meaning in a link of step 1.
    before: u32,
}

/// The newest chain of one level: when it began and its last link.
#[derive(Debug, Clone, Copy, Default)]
struct Chain {
    started_at: i64,
    last: u32,
}

/// The chains of one journey under one funnel.
#[derive(Debug)]
pub(super) struct Chains {
    step_count: usize,
    window: i64,
    /// `newest[i]` is the newest chain of level `i + 1`, if bit `i` of `open` is set.
    newest: [Chain; MOST_STEPS],
    open: u32,
    /// Whether the touches of chains are kept.
    keeps_links: bool,
    links: Vec<Link>,
    /// 0 when no touch matched step 1.
    furthest: usize,
    /// The last link of the chain that first reached the furthest level.
    witness: u32,
}

impl Chains {
    pub(super) fn new(keeps_links: bool) -> Self {
        Self {
            keeps_links,
            step_count: 0,
            window: 0,
            newest: [Chain::default(); MOST_STEPS],
            open: 0,
            links: Vec::new(),
            furthest: 0,
            witness: 0,
        }
    }

    /// Forgets the journey before and begins one under a funnel of `step_count` steps (1 to [`MOST_STEPS`]) and a
    /// window in the unit of the times to come.
    pub(super) fn begin(&mut self, step_count: usize, window: i64) {
        debug_assert!((1..=MOST_STEPS).contains(&step_count));
        self.step_count = step_count;
        self.window = window;
        self.open = 0;
        self.links.clear();
        self.furthest = 0;
    }

    /// Takes the journey's next touch: its number, its time, and the steps that it matches (bit `i` is step `i + 1`).
    /// Returns whether the last step has been reached, so that no later touch can change the answer.
    #[inline]
    pub(super) fn touch(&mut self, number: u32, time: i64, steps: u32) -> bool {
        // What the touch can do is settled by the chains that were there before it.
        let mut serves = steps & (self.open << 1 | 1);
        while serves != 0 {
            let step = (u32::BITS - 1 - serves.leading_zeros()) as usize;
            serves ^= 1 << step;
            self.serve(step, number, time);
        }
        self.furthest == self.step_count
    }

    /// Serves the step of index `step`, whose chain to extend exists.
    fn serve(&mut self, step: usize, number: u32, time: i64) {
        let (started_at, before) = match step.checked_sub(1) {
            None => (time, 0),
            Some(level) => {
                let chain = self.newest[level];
                if time.saturating_sub(chain.started_at) > self.window {
                    return;
                }
                (chain.started_at, chain.last)
            }
        };
        let last = self.links.len() as u32;
        if self.keeps_links {
            self.links.push(Link { touch: number, before });
        }
        self.newest[step] = Chain { started_at, last };
        self.open |= 1 << step;
        if step == self.furthest {
            self.furthest = step + 1;
            self.witness = last;
        }
    }

    /// Writes what became of the journey.
    pub(super) fn write(&self, outcome: &mut Outcome) {
        if !self.keeps_links {
            return outcome.set_furthest(self.furthest);
        }
        outcome.clear();
        if let Some(last_entry) = self.last_entry() {
            outcome.set_served(self.witness().map(Some));
            outcome.end_attempt(self.furthest, last_entry);
        }
    }

    /// The numbers of the touches of the witness: the chain as it stood when the furthest level was first reached.
    fn witness(&self) -> impl Iterator<Item = u32> {
        let mut touches = [0; MOST_STEPS];
        let mut link = self.witness as usize;
        for step in (0..self.furthest).rev() {
            touches[step] = self.links[link].touch;
            link = self.links[link].before as usize;
        }
        touches.into_iter().take(self.furthest)
    }

    /// The number of the newest touch that opened a chain: none that is under way began later.
    fn last_entry(&self) -> Option<u32> {
        (self.open & 1 == 1).then(|| self.links[self.newest[0].last as usize].touch)
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

    /// Furthest step and the numbers (from 1) of the witness's touches.
    fn run(touches: &[(u32, i64)], step_count: usize, window: i64) -> (usize, Vec<u32>) {
        let mut chains = Chains::new(true);
        chains.begin(step_count, window);
        for (number, (steps, time)) in touches.iter().enumerate() {
            if chains.touch(number as u32 + 1, *time, *steps) {
                break;
            }
        }
        (chains.furthest, chains.witness().collect())
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
        let last_entry = |stream: &str| {
            let mut chains = Chains::new(true);
            chains.begin(3, 10);
            for (number, (steps, time)) in parse(stream).into_iter().enumerate() {
                chains.touch(number as u32 + 1, time, steps);
            }
            chains.last_entry()
        };
        assert_eq!(last_entry("A1 A8"), Some(2));
        assert_eq!(last_entry("A1 B2 A20 X21"), Some(3));
        assert_eq!(last_entry("X1 B2"), None);
    }

    #[test]
    fn the_last_step_ends_the_pass() {
        let mut chains = Chains::new(true);
        chains.begin(2, 10);
        assert!(!chains.touch(1, 1, 0b01));
        assert!(chains.touch(2, 2, 0b10));
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
