//! The Markov chain of a set of paths, made to be solved: states in order, probabilities without self-loops.

use super::super::path_counts::{Entries, RANK_OF_END};

/// No channel: the last place of a state that no touch has reached.
const NO_CHANNEL: u32 = 0;

/// A chain over the last `order` places of a path. State 0 is the start.
///
/// A state that follows itself is left sooner or later, and to where does not depend on how long that takes; so
/// self-loops are left out, and the other ways out of a state add up to 1.
#[derive(Debug)]
pub(super) struct Chain {
    /// Where the ways of each state begin in `targets` and `probabilities`.
    pub starts: Vec<usize>,
    /// The state that a way leads to.
    pub targets: Vec<u32>,
    /// The share of the walks that take a way, of those that leave its state.
    pub probabilities: Vec<f64>,
    /// The share that converts, of the walks that leave a state.
    pub conversions: Vec<f64>,
    /// The share that ends without conversion.
    pub nulls: Vec<f64>,
    /// The channel that a walk touches when it enters a state, from 1; 0 for the start.
    pub channels: Vec<u32>,
    /// The number of channels.
    pub channel_count: usize,
    /// How often a walk changes its state, in the mean.
    pub mean_length: f64,
}

impl Chain {
    /// The chain of windows of `order + 1` places, which are those of so many journeys.
    pub(super) fn of_windows(order: usize, windows: &Entries, journeys: u128) -> Self {
        // Windows are sorted, so those of one state are neighbours, and states come out sorted. Every state is left
        // in the end, so every state is the head of a window.
        let mut states: Vec<usize> = Vec::new();
        let head = |position: usize| &windows.key(position)[..order];
        for position in 0..windows.len() {
            if states.last().is_none_or(|last| head(*last) != head(position)) {
                states.push(position);
            }
        }
        let mut chain = Self {
            starts: vec![0],
            targets: Vec::with_capacity(windows.len()),
            probabilities: Vec::with_capacity(windows.len()),
            conversions: Vec::with_capacity(states.len()),
            nulls: Vec::with_capacity(states.len()),
            channels: states.iter().map(|position| head(*position).last().copied().unwrap_or(NO_CHANNEL)).collect(),
            channel_count: windows.channels(),
            mean_length: 0.0,
        };
        let mut changes = 0.0;
        for (state, first) in states.iter().enumerate() {
            let last = states.get(state + 1).copied().unwrap_or(windows.len());
            let (mut leaving, mut converting, mut ending) = (0u128, 0u128, 0u128);
            let first_way = chain.targets.len();
            for position in *first..last {
                let (key, counts) = (windows.key(position), windows.counts(position));
                if key[order] == RANK_OF_END {
                    leaving += counts.journeys();
                    converting = u128::from(counts.conversions);
                    ending = u128::from(counts.nulls);
                    continue;
                }
                let target = states.binary_search_by(|other| head(*other).cmp(&key[1..]));
                let target = target.expect("every state is left in the end");
                if target == state {
                    continue;
                }
                leaving += counts.journeys();
                chain.targets.push(target as u32);
                chain.probabilities.push(counts.journeys() as f64);
            }
            let leaving = leaving as f64;
            changes += leaving;
            chain.probabilities[first_way..].iter_mut().for_each(|count| *count /= leaving);
            chain.conversions.push(converting as f64 / leaving);
            chain.nulls.push(ending as f64 / leaving);
            chain.starts.push(chain.targets.len());
        }
        chain.mean_length = changes / (journeys as f64).max(1.0);
        chain
    }

    /// Bytes that a chain takes while it is made of so many windows.
    pub(super) fn size(windows: usize, states: usize) -> usize {
        let per_window = size_of::<u32>() + size_of::<f64>();
        let per_state = 2 * size_of::<usize>() + 2 * size_of::<f64>() + size_of::<u32>();
        windows * per_window + states * per_state
    }

    /// The number of states.
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// The ways out of a state: where they lead, and how likely they are.
    #[inline]
    pub(super) fn ways(&self, state: usize) -> impl Iterator<Item = (usize, f64)> {
        let span = self.starts[state]..self.starts[state + 1];
        let targets = self.targets[span.clone()].iter().map(|target| *target as usize);
        targets.zip(self.probabilities[span].iter().copied())
    }
}
