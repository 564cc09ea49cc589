//! The switches of one journey after another, one column per field; channels by number.

use datafusion::arrow::array::{Array, BooleanArray};
use hashbrown::HashMap;

use super::super::changes::Runs;
use super::super::elements::{Optionals, seconds_between};

/// Whether the two touches of a switch are of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// Nothing tells, or a time is null.
    Unknown,
    Within,
    Between,
}

impl Scope {
    const COUNT: usize = 3;
}

/// The switches of all journeys so far.
#[derive(Debug)]
pub(super) struct Switches {
    runs: Runs,
    /// The second touches of the switches of the journey at hand.
    touches: Vec<u32>,
    kinds: Kinds,
    pub positions: Vec<i64>,
    pub from: Vec<u32>,
    pub to: Vec<u32>,
    pub switched_at: Optionals<i64>,
    pub seconds: Optionals<f64>,
    pub is_last: Vec<bool>,
    pub scopes: Vec<Scope>,
    pub is_new: Vec<bool>,
}

impl Switches {
    /// Room for `switches` between `channels` whose numbers begin with 0.
    pub(super) fn with_capacity(switches: usize, channels: usize) -> Self {
        Self {
            runs: Runs::default(),
            touches: vec![],
            kinds: Kinds::of_channels(channels),
            positions: Vec::with_capacity(switches),
            from: Vec::with_capacity(switches),
            to: Vec::with_capacity(switches),
            switched_at: Optionals::with_capacity(switches),
            seconds: Optionals::with_capacity(switches),
            is_last: Vec::with_capacity(switches),
            scopes: Vec::with_capacity(switches),
            is_new: Vec::with_capacity(switches),
        }
    }

    /// Adds the switches of a journey and returns their second touches. `time` tells the time of a touch, `scope` what
    /// the touch is to the one before it; a change after more than the timeout is no switch.
    pub(super) fn of_journey(
        &mut self,
        channels: &[u32],
        time: impl Fn(usize) -> Option<i64>,
        timeout: Option<i64>,
        scope: impl Fn(usize) -> Scope,
    ) -> &[u32] {
        let changes = self.runs.find(channels.len(), |touch| channels[touch - 1] != channels[touch]);
        let changes = changes.get(1..).unwrap_or_default();
        self.touches.clear();
        match timeout {
            None => self.touches.extend_from_slice(changes),
            Some(timeout) => {
                let is_late = |touch: usize| gap(&time, touch).is_some_and(|gap| gap > timeout);
                self.touches.extend(changes.iter().filter(|touch| !is_late(**touch as usize)));
            }
        }
        let switches = self.touches.iter().map(|touch| *touch as usize);
        self.positions.extend(switches.clone().map(|touch| touch as i64 + 1));
        self.from.extend(switches.clone().map(|touch| channels[touch - 1]));
        self.to.extend(switches.clone().map(|touch| channels[touch]));
        self.switched_at.extend(switches.clone().map(&time));
        self.seconds.extend(switches.clone().map(|touch| seconds_between(time(touch - 1), time(touch))));
        self.is_last.extend(switches.clone().map(|touch| touch + 1 == channels.len()));
        let first = self.scopes.len();
        self.scopes.extend(switches.map(scope));
        self.kinds.next_journey();
        for switch in first..self.scopes.len() {
            self.is_new.push(self.kinds.insert(self.from[switch], self.to[switch], self.scopes[switch]));
        }
        &self.touches
    }
}

/// The time from the touch before to a touch; unknown when one of them is.
pub(super) fn gap(time: impl Fn(usize) -> Option<i64>, touch: usize) -> Option<i64> {
    Some(time(touch)?.saturating_sub(time(touch - 1)?))
}

/// The kinds of switches that the journey at hand has had: those that bear its number.
#[derive(Debug)]
struct Kinds {
    journey: u32,
    channels: usize,
    /// The last journey that had a kind; none where channels are so many that few kinds are in use.
    table: Vec<u32>,
    others: HashMap<(u32, u32, Scope), u32>,
}

impl Kinds {
    /// The table has at most 256 KiB.
    const TABLE: usize = 1 << 16;

    fn of_channels(channels: usize) -> Self {
        let kinds = channels.saturating_mul(channels).saturating_mul(Scope::COUNT);
        let table = if kinds <= Self::TABLE { vec![0; kinds] } else { vec![] };
        Self { journey: 0, channels, table, others: HashMap::new() }
    }

    fn next_journey(&mut self) {
        self.journey += 1;
    }

    /// Whether the journey had no switch of the kind so far.
    #[inline]
    fn insert(&mut self, from: u32, to: u32, scope: Scope) -> bool {
        let last = if self.table.is_empty() {
            self.others.insert((from, to, scope), self.journey).unwrap_or_default()
        } else {
            let kind = (from as usize * self.channels + to as usize) * Scope::COUNT + scope as usize;
            std::mem::replace(&mut self.table[kind], self.journey)
        };
        last != self.journey
    }
}

/// The places of the goals among all touches of a batch, asked for from the first to the last.
#[derive(Debug)]
pub(super) struct Goals {
    places: Vec<usize>,
    /// The first goal that was not passed yet.
    next: usize,
}

impl Goals {
    /// A null is no goal.
    pub(super) fn new(flags: &BooleanArray) -> Self {
        let places = match flags.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => flags.values().set_indices().collect(),
            Some(nulls) => (flags.values() & nulls.inner()).set_indices().collect(),
        };
        Self { places, next: 0 }
    }

    /// The first goal at a place or behind it, and before `end`. Places must not go back.
    #[inline]
    pub(super) fn at_or_after(&mut self, place: usize, end: usize) -> Option<usize> {
        while self.places.get(self.next).is_some_and(|goal| *goal < place) {
            self.next += 1;
        }
        self.places.get(self.next).copied().filter(|goal| *goal < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The switches of a journey whose channels are letters and whose touch i happens at i² seconds.
    fn switches(channels: &str, timeout: Option<i64>) -> Switches {
        let numbers: Vec<u32> = channels.bytes().map(u32::from).collect();
        let mut switches = Switches::with_capacity(0, 256);
        let time = |touch: usize| Some((touch * touch) as i64 * 1_000_000);
        switches.of_journey(&numbers, time, timeout, |_| Scope::Unknown);
        switches
    }

    #[test]
    fn a_switch_happens_at_its_second_touch() {
        let found = switches("wwsw", None);
        assert_eq!(found.positions, [3, 4]);
        assert_eq!(found.from, [b'w', b's'].map(u32::from));
        assert_eq!(found.to, [b's', b'w'].map(u32::from));
        assert_eq!(found.switched_at.to_vec(), [Some(4_000_000), Some(9_000_000)]);
        assert_eq!(found.seconds.to_vec(), [Some(3.0), Some(5.0)]);
        assert_eq!(found.is_last, [false, true]);
    }

    #[test]
    fn a_journey_on_one_channel_has_no_switch() {
        for channels in ["", "w", "www"] {
            assert!(switches(channels, None).positions.is_empty(), "{channels}");
        }
    }

    #[test]
    fn a_change_at_the_timeout_is_a_switch_and_a_later_one_is_not() {
        assert_eq!(switches("wwsw", Some(3_000_000)).positions, [3]);
        assert_eq!(switches("wwsw", Some(2_999_999)).positions, [0; 0]);
    }

    #[test]
    fn a_kind_is_new_once_in_each_journey_however_many_channels_there_are() {
        for channels in [5, 100_000] {
            let mut switches = Switches::with_capacity(0, channels);
            for journey in [&[1, 2, 1, 2][..], &[1, 2, 4], &[]] {
                switches.of_journey(
                    journey,
                    |_| None,
                    None,
                    |touch| if touch == 3 { Scope::Within } else { Scope::Between },
                );
            }
            assert_eq!(switches.is_new, [true, true, true, true, true], "{channels}");
            switches.of_journey(&[1, 2, 1, 2, 1, 2], |_| None, None, |_| Scope::Between);
            assert_eq!(switches.is_new[5..], [true, true, false, false, false], "{channels}");
        }
    }

    #[test]
    fn a_goal_is_found_at_its_place_and_before() {
        let flags = [Some(false), Some(true), None, Some(false), Some(true), Some(false)];
        let mut goals = Goals::new(&BooleanArray::from(flags.to_vec()));
        let found: Vec<_> = (0..6).map(|place| goals.at_or_after(place, 5)).collect();
        assert_eq!(found, [Some(1), Some(1), Some(4), Some(4), Some(4), None]);
        assert_eq!(Goals::new(&BooleanArray::from(flags.to_vec())).at_or_after(2, 4), None);
    }
}
