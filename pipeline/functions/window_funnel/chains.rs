//! The chains of one group: at each level the one that stands there, and the furthest level that any reached.

use super::super::conditions::MOST_CONDITIONS;

/// The chain that stands at a level.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chain {
    /// The time of its step 1.
    pub start: i64,
    /// The time of its last step.
    pub last: i64,
}

/// Which chain's times are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Witness {
    /// None: only levels are asked for.
    None,
    /// The chain that first reached the furthest level.
    First,
    /// The chain that last reached the furthest level.
    Last,
}

/// The chains of a group. Levels and steps count from 0: the chain at level `i` has met the steps 0 to `i`.
#[derive(Debug)]
pub(super) struct Chains {
    /// Bit `i`: a chain stands at level `i`.
    open: u32,
    chains: [Chain; MOST_CONDITIONS],
    /// The number of levels that have been reached.
    furthest: usize,
    wanted: Witness,
    /// The times of each chain's steps, level after level, and those of the witness at the end; empty if not wanted.
    times: Vec<i64>,
}

/// Where the times of the witness stand among those of the chains.
const WITNESS: usize = MOST_CONDITIONS * MOST_CONDITIONS;

impl Chains {
    /// None yet.
    pub(super) fn new(wanted: Witness) -> Self {
        let times = if wanted == Witness::None { vec![] } else { vec![0; WITNESS + MOST_CONDITIONS] };
        Self { open: 0, chains: [Chain::default(); MOST_CONDITIONS], furthest: 0, wanted, times }
    }

    /// Forgets the group before.
    pub(super) fn clear(&mut self) {
        self.open = 0;
        self.furthest = 0;
    }

    /// The chain at a level.
    #[inline]
    pub(super) fn get(&self, level: usize) -> Option<Chain> {
        (self.open >> level & 1 == 1).then(|| self.chains[level])
    }

    /// The chain that step `step` can extend.
    #[inline]
    pub(super) fn before(&self, step: usize) -> Option<Chain> {
        step.checked_sub(1).and_then(|level| self.get(level))
    }

    /// How many levels have been reached.
    #[inline]
    pub(super) fn furthest(&self) -> usize {
        self.furthest
    }

    /// A new chain of step 0 alone.
    #[inline]
    pub(super) fn start(&mut self, time: i64) {
        self.put(0, 0, time, time);
    }

    /// A chain that met the steps before `from` already, as the chain at level `from - 1` has, meets those from `from`
    /// to `to` at one time; it began at `start`.
    #[inline]
    pub(super) fn put(&mut self, from: usize, to: usize, start: i64, time: i64) {
        self.chains[to] = Chain { start, last: time };
        self.open |= 1 << to;
        if self.wanted != Witness::None {
            self.put_times(from, to, time);
        }
        self.furthest = self.furthest.max(to + 1);
    }

    fn put_times(&mut self, from: usize, to: usize, time: i64) {
        if let Some(level) = from.checked_sub(1) {
            let before = level * MOST_CONDITIONS;
            self.times.copy_within(before..before + from, to * MOST_CONDITIONS);
        }
        let chain = to * MOST_CONDITIONS;
        self.times[chain + from..=chain + to].fill(time);
        let is_first = to >= self.furthest;
        if is_first || (self.wanted == Witness::Last && to + 1 == self.furthest) {
            self.times.copy_within(chain..=chain + to, WITNESS);
        }
    }

    /// Removes the chains at all levels but those of `kept`, a bit each.
    #[inline]
    pub(super) fn keep(&mut self, kept: u32) {
        self.open &= kept;
    }

    /// The times of the steps of the chain that is wanted.
    pub(super) fn witness(&self) -> &[i64] {
        &self.times[WITNESS..][..self.furthest]
    }

    /// Bytes on the heap.
    pub(super) fn size(&self) -> usize {
        self.times.capacity() * size_of::<i64>()
    }
}

/// The steps that a set of conditions meets, in ascending order.
#[inline]
pub(super) fn steps_of(mut conditions: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let step = (conditions != 0).then(|| conditions.trailing_zeros() as usize)?;
        conditions &= conditions - 1;
        Some(step)
    })
}

/// Whether `time` lies in a window that begins at `start`; its end is included.
#[inline]
pub(super) fn is_within(start: i64, time: i64, window: i64) -> bool {
    time.saturating_sub(start) <= window
}
