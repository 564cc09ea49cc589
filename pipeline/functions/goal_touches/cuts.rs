//! The touches of each goal, as positions of elements.
//!
//! Time: a row in the order of its times is cut by two pointers, in time that grows with its elements and the touches
//! found. One that is not has its candidates sorted by time and searched for those that stand before the goal in the list:
//! some steps that grow with the logarithm of the elements for each element, and as many for each touch found.

/// Goals and touches of a batch, by the positions of their flags among those of the batch.
#[derive(Default)]
pub(in crate::functions) struct Cuts {
    pub goals: Vec<u32>,
    pub touches: Vec<u32>,
    /// Where the touches of each goal end.
    pub touch_ends: Vec<i32>,
    /// The elements of the row in hand that may be touches.
    candidates: Vec<Candidate>,
    /// The candidates of a row out of order, by time.
    firsts: Firsts,
}

/// An element that is no goal and whose time is known.
#[derive(Clone, Copy)]
struct Candidate {
    position: u32,
    time: i64,
}

impl Candidate {
    fn is_recent(&self, goal: i64, look_back: i64) -> bool {
        goal.saturating_sub(self.time) <= look_back
    }
}

/// More touches than a list can hold.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::functions) struct TooMany;

impl Cuts {
    /// Forgets the goals and touches so far.
    pub(in crate::functions) fn clear(&mut self) {
        self.goals.clear();
        self.touches.clear();
        self.touch_ends.clear();
    }

    /// Adds the goals of a row, whose first flag is at `first`, and their touches.
    pub(in crate::functions) fn add_row(
        &mut self,
        first: usize,
        times: impl Iterator<Item = Option<i64>> + Clone,
        is_goal: impl Fn(usize) -> bool,
        look_back: i64,
    ) -> Result<(), TooMany> {
        self.candidates.clear();
        match times.clone().flatten().is_sorted() {
            true => self.add_ordered(first, times, is_goal, look_back),
            false => self.add_unordered(first, times, is_goal, look_back),
        }
    }

    fn add_ordered(
        &mut self,
        first: usize,
        times: impl Iterator<Item = Option<i64>>,
        is_goal: impl Fn(usize) -> bool,
        look_back: i64,
    ) -> Result<(), TooMany> {
        // The first candidate that is not too old for the goal before; with times in order, for the next one neither.
        let mut oldest = 0;
        for (position, time) in (first..).zip(times) {
            if !is_goal(position) {
                self.candidates.extend(time.map(|time| Candidate { position: position as u32, time }));
                continue;
            }
            if let Some(goal) = time {
                let candidates = self.candidates[oldest..].iter();
                oldest += candidates.take_while(|candidate| !candidate.is_recent(goal, look_back)).count();
                self.touches.extend(self.candidates[oldest..].iter().map(|candidate| candidate.position));
            }
            self.end_goal(position)?;
        }
        Ok(())
    }

    fn add_unordered(
        &mut self,
        first: usize,
        times: impl Iterator<Item = Option<i64>> + Clone,
        is_goal: impl Fn(usize) -> bool,
        look_back: i64,
    ) -> Result<(), TooMany> {
        for (position, time) in (first..).zip(times.clone()).filter(|(position, _)| !is_goal(*position)) {
            self.candidates.extend(time.map(|time| Candidate { position: position as u32, time }));
        }
        self.candidates.sort_unstable_by_key(|candidate| (candidate.time, candidate.position));
        self.firsts.fill(self.candidates.iter().map(|candidate| candidate.position));
        for (position, time) in (first..).zip(times).filter(|(position, _)| is_goal(*position)) {
            if let Some(goal) = time {
                let oldest = self.candidates.partition_point(|candidate| !candidate.is_recent(goal, look_back));
                let end = self.candidates.partition_point(|candidate| candidate.time <= goal);
                let start = self.touches.len();
                self.firsts.below(oldest, end, position as u32, &mut self.touches);
                self.touches[start..].sort_unstable();
            }
            self.end_goal(position)?;
        }
        Ok(())
    }

    fn end_goal(&mut self, position: usize) -> Result<(), TooMany> {
        self.goals.push(position as u32);
        self.touch_ends.push(i32::try_from(self.touches.len()).map_err(|_| TooMany)?);
        Ok(())
    }
}

/// Numbers, and the smallest of each run of them: those of a range that lie below a limit are found without a look at the
/// others.
#[derive(Default)]
struct Firsts {
    /// A tree in one buffer: node `n` is over the nodes `2 n` and `2 n + 1`, the root is 1, and the last half are the
    /// numbers.
    smallest: Vec<u32>,
    /// Nodes that are still to be looked at.
    waiting: Vec<usize>,
}

impl Firsts {
    fn fill(&mut self, numbers: impl ExactSizeIterator<Item = u32>) {
        let count = numbers.len();
        self.smallest.clear();
        self.smallest.resize(count, u32::MAX);
        self.smallest.extend(numbers);
        for node in (1..count).rev() {
            self.smallest[node] = self.smallest[2 * node].min(self.smallest[2 * node + 1]);
        }
    }

    /// Adds the numbers at the places from `start` to `end` that are below a limit, in any order.
    fn below(&mut self, start: usize, end: usize, limit: u32, found: &mut Vec<u32>) {
        let count = self.smallest.len() / 2;
        // The fewest nodes that are over just these places, from the numbers upwards.
        let (mut left, mut right) = (start + count, end + count);
        while left < right {
            if left % 2 == 1 {
                self.waiting.push(left);
                left += 1;
            }
            if right % 2 == 1 {
                right -= 1;
                self.waiting.push(right);
            }
            (left, right) = (left / 2, right / 2);
        }
        while let Some(node) = self.waiting.pop() {
            if self.smallest[node] >= limit {
                continue;
            }
            match node < count {
                true => self.waiting.extend([2 * node, 2 * node + 1]),
                false => found.push(self.smallest[node]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn touches_are_those_of_a_naive_search(
            rows in prop::collection::vec((
                prop::collection::vec((prop::option::weighted(0.9, 0i64..30), any::<bool>()), 0..40), any::<bool>(),
            ), 1..4),
            look_back in 0i64..12,
        ) {
            let mut cuts = Cuts::default();
            let (mut goals, mut touches, mut ends) = (vec![], vec![], vec![]);
            let mut first = 7;
            for (mut events, is_sorted) in rows {
                if is_sorted {
                    events.sort_by_key(|(time, _)| *time);
                }
                let times = events.iter().map(|(time, _)| *time);
                cuts.add_row(first, times, |position| events[position - first].1, look_back).unwrap();
                for (goal, (at, is_goal)) in events.iter().enumerate() {
                    if !is_goal {
                        continue;
                    }
                    for (touch, (time, is_goal)) in events[..goal].iter().enumerate() {
                        if let (Some(at), Some(time), false) = (at, time, is_goal)
                            && (0..=look_back).contains(&(at - time))
                        {
                            touches.push((first + touch) as u32);
                        }
                    }
                    goals.push((first + goal) as u32);
                    ends.push(touches.len() as i32);
                }
                first += events.len();
            }
            prop_assert_eq!(cuts.goals, goals);
            prop_assert_eq!(cuts.touches, touches);
            prop_assert_eq!(cuts.touch_ends, ends);
        }
    }

    /// A customer of 400 000 events, every second one a goal, all within the look-back or none: with a search per goal
    /// this takes minutes.
    #[test]
    fn many_goals_are_cut_in_one_pass() {
        const EVENTS: usize = 400_000;
        for (look_back, touches_of_a_goal) in [(0, 0), (1, 1), (3, 2)] {
            let mut cuts = Cuts::default();
            let times = (0..EVENTS as i64).map(Some);
            cuts.add_row(0, times, |position| position % 2 == 1, look_back).unwrap();
            assert_eq!(cuts.goals.len(), EVENTS / 2);
            assert!(cuts.touches.len() + 2 >= EVENTS / 2 * touches_of_a_goal);
            assert_eq!(cuts.touches.len(), cuts.touch_ends[EVENTS / 2 - 1] as usize);
        }
        let mut cuts = Cuts::default();
        cuts.add_row(0, (0..EVENTS as i64).map(Some), |_| true, i64::MAX).unwrap();
        assert_eq!((cuts.goals.len(), cuts.touches.len()), (EVENTS, 0));
    }

    /// Out of order, with few touches: times shuffled and a short look-back; all goals before all touches, and all touches
    /// in reach of all goals but for their place in the list. With a look at each candidate, either takes 10 billion steps.
    #[test]
    fn many_goals_out_of_order_cost_what_they_find() {
        const EVENTS: usize = 200_000;
        let begun = Instant::now();
        // Every time comes once: a step that shares no factor with the number of events.
        let shuffled = |position: usize| (position * 77_777 % EVENTS) as i64;
        let mut cuts = Cuts::default();
        cuts.add_row(0, (0..EVENTS).map(|position| Some(shuffled(position))), |position| position % 2 == 1, 3).unwrap();
        let mut positions = vec![0; EVENTS];
        (0..EVENTS).for_each(|position| positions[shuffled(position) as usize] = position);
        let mut start = 0;
        for (goal, end) in cuts.goals.iter().zip(&cuts.touch_ends) {
            let time = shuffled(*goal as usize) as usize;
            let earlier = positions[time.saturating_sub(3)..time].iter();
            let mut expected: Vec<u32> = earlier.map(|position| *position as u32).collect();
            expected.retain(|position| position % 2 == 0 && position < goal);
            expected.sort();
            assert_eq!(cuts.touches[start..*end as usize], expected);
            start = *end as usize;
        }
        assert_eq!((cuts.goals.len(), start), (EVENTS / 2, cuts.touches.len()));

        let mut cuts = Cuts::default();
        let times = (0..EVENTS as i64).rev().map(Some);
        cuts.add_row(0, times, |position| position < EVENTS / 2, i64::MAX).unwrap();
        assert_eq!((cuts.goals.len(), cuts.touches.len()), (EVENTS / 2, 0));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        let times = [Some(i64::MAX), Some(i64::MIN), Some(0), Some(i64::MAX)];
        let touches = |look_back| {
            let mut cuts = Cuts::default();
            cuts.add_row(0, times.into_iter(), |position| position == 3, look_back).unwrap();
            cuts.touches
        };
        assert_eq!(touches(0), [0]);
        assert_eq!(touches(i64::MAX - 1), [0]);
    }
}
