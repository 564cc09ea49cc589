//! What became of a journey in a funnel: the steps that its attempts served, in flat buffers that are used again.

use super::chain::MOST_STEPS;

/// What became of a journey.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    furthest: usize,
    /// The position (from 0) of the touch of each step, attempt after attempt; `None` for a step that was not served.
    steps: Vec<Option<u32>>,
    attempts: Vec<Attempt>,
    /// Index of the first attempt that reached the furthest step.
    best: usize,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    /// Where its steps end.
    end: usize,
    last_entry: u32,
}

impl Outcome {
    /// Forgets the journey before.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.furthest = 0;
        self.steps.clear();
        self.attempts.clear();
        self.best = 0;
    }

    /// The steps of the attempt in hand, up to the last that was served, in place of those that it had.
    pub(super) fn set_steps(&mut self, steps: [Option<u32>; MOST_STEPS]) {
        let served = steps.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.set_served(steps.into_iter().take(served));
    }

    /// The same from as many steps as there are.
    pub(super) fn set_served(&mut self, steps: impl IntoIterator<Item = Option<u32>>) {
        self.steps.truncate(self.attempts.last().map_or(0, |attempt| attempt.end));
        self.steps.extend(steps);
    }

    /// Ends the attempt in hand, which got as far as `depth`; `last_entry` is the position of the touch from which its
    /// window counts.
    pub(super) fn end_attempt(&mut self, depth: usize, last_entry: u32) {
        if depth > self.furthest {
            self.furthest = depth;
            self.best = self.attempts.len();
        }
        self.attempts.push(Attempt { end: self.steps.len(), last_entry });
    }

    /// Sets the furthest step alone, where no more is asked for.
    #[inline]
    pub(super) fn set_furthest(&mut self, furthest: usize) {
        self.clear();
        self.furthest = furthest;
    }

    /// The furthest step, from 1; 0 for a journey that did not enter or was removed.
    pub(super) fn furthest(&self) -> usize {
        self.furthest
    }

    /// The attempts, each as (steps, last entry).
    pub(super) fn attempts(&self) -> impl Iterator<Item = (&[Option<u32>], u32)> {
        (0..self.attempts.len()).map(|number| (self.steps_of(number), self.attempts[number].last_entry))
    }

    /// The steps of the attempt that reached the furthest step first.
    pub(super) fn witness(&self) -> &[Option<u32>] {
        if self.attempts.is_empty() { &[] } else { self.steps_of(self.best) }
    }

    fn steps_of(&self, attempt: usize) -> &[Option<u32>] {
        let start = attempt.checked_sub(1).map_or(0, |before| self.attempts[before].end);
        &self.steps[start..self.attempts[attempt].end]
    }
}
