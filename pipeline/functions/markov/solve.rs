//! Removal effects of a chain.
//!
//! `h`, the share of walks from a state that convert, and two shares of the walks from a state that convert, for a
//! channel `c`: `v` of those that touch `c` on their way, `x` of those that do not (those that still convert when every
//! way into `c` leads to null). `v + x = h`, and from the start `h = P`, so the removal effect of `c` is
//! `1 - x/P = v/P = v/(v + x)`. The last form takes no difference of nearly equal numbers.
//!
//! Two ways of solving, neither with a subtraction, so that rounding stays rounding:
//! - elimination of states, the last first, with the share that leaves a state summed from the ways out (Grassmann,
//!   Taksar and Heyman 1985): for small chains, and for those on which the other is slow;
//! - Gauss-Seidel sweeps, the last state first: `v` and `x` grow towards the answer from below. As `P` is known exactly
//!   (the chain converts as often as the paths it was made of), `P - v - x` bounds the error of both.
//!
//! Both go through states and ways in the order of names, so the same paths give the same bits.

use super::chain::Chain;

/// Multiplications of an elimination, over all channels, that are let pass: some 20 seconds. It bounds the states, to
/// 3 900 for one channel, and so the memory: the matrix of a system takes 8 bytes per pair of states, 125 MB at most.
const ELIMINATION_BUDGET: f64 = 4e10;
/// Ways passed by sweeps, over all blocks of channels, that are let pass: some 60 seconds.
const SWEEP_BUDGET: u64 = 10_000_000_000;
/// Sweeps that a chain needs for each touch of its mean walk: `-ln PRECISION`.
const SWEEPS_PER_TOUCH: f64 = 30.0;
/// The error of `v + x`, as a share of `P`, at which the sweeps for a channel are done.
const PRECISION: f64 = 1e-13;
/// The error that is let pass where rounding keeps the sweeps from going on.
const ROUNDING: f64 = 1e-10;
/// A growth that is lost in rounding.
const STANDSTILL: f64 = 2.0 * f64::EPSILON;
/// Channels that sweep together: their shares of a state fill two cache lines.
const LANES: usize = 8;

/// A chain that needs more than the budget: too many states that are left too slowly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

/// The removal effect of each channel; `converting` is the share of all journeys that convert, above 0.
pub(super) fn removal_effects(chain: &Chain, converting: f64) -> Result<Vec<f64>, TooSlow> {
    let multiplications = multiplications(chain.len(), chain.channel_count);
    let blocks = 1.0 + chain.channel_count.div_ceil(LANES) as f64;
    let passed = SWEEPS_PER_TOUCH * chain.mean_length * chain.targets.len() as f64 * blocks * LANES as f64;
    if multiplications <= passed.min(ELIMINATION_BUDGET) {
        return Ok(by_elimination(chain));
    }
    match by_sweeps(chain, converting, SWEEP_BUDGET) {
        Err(TooSlow) if multiplications <= ELIMINATION_BUDGET => Ok(by_elimination(chain)),
        effects => effects,
    }
}

/// Multiplications of an elimination over all channels.
fn multiplications(states: usize, channels: usize) -> f64 {
    (states as f64).powi(3) / 3.0 * (channels as f64 + 1.0)
}

/// Bytes that [`removal_effects`] takes at most, of a chain of up to so many states: the matrix of the largest elimination that
/// is let pass, which is that of a single channel, or what sweeps keep of each state.
pub(super) fn bytes_of_effects(states: usize) -> usize {
    let most_eliminated = (ELIMINATION_BUDGET / multiplications(1, 1)).cbrt() as usize;
    let eliminated = states.min(most_eliminated);
    let matrix = eliminated * eliminated * size_of::<f64>();
    let per_state = size_of::<Shares>() + 2 * size_of::<f64>();
    matrix.max(states * per_state)
}

/// The share of the converting walks that touch a channel, from the shares of all walks that convert with and without.
fn share(with: f64, without: f64) -> f64 {
    if with == 0.0 { 0.0 } else { with / (with + without) }
}

// ---------------------------------------------------------------------------------------------------------------
// Elimination
// ---------------------------------------------------------------------------------------------------------------

/// A dense system `x = A x + reward`, for two rewards at once.
struct System {
    states: usize,
    /// The share of the walks at a state that go to another, by rows.
    ways: Vec<f64>,
    /// What a walk at a state earns by leaving the states for good.
    rewards: Vec<[f64; 2]>,
    /// The share of the walks at a state that leave the states for good.
    leaving: Vec<f64>,
}

impl System {
    fn new(states: usize) -> Self {
        let zeros = || vec![0.0; states];
        Self { states, ways: vec![0.0; states * states], rewards: vec![[0.0; 2]; states], leaving: zeros() }
    }

    /// Leads every way past all states but the first. Afterwards the row of a state holds its ways to those before it.
    fn eliminate(&mut self) {
        let states = self.states;
        for last in (1..states).rev() {
            let (before, row) = self.ways.split_at_mut(last * states);
            let row = &mut row[..last];
            let out: f64 = row.iter().sum::<f64>() + self.leaving[last];
            if out == 0.0 {
                continue;
            }
            row.iter_mut().for_each(|way| *way /= out);
            self.leaving[last] /= out;
            self.rewards[last] = self.rewards[last].map(|reward| reward / out);
            for state in 0..last {
                let share = before[state * states + last];
                if share == 0.0 {
                    continue;
                }
                let ways = &mut before[state * states..state * states + last];
                ways.iter_mut().zip(row.iter()).for_each(|(way, onward)| *way += share * onward);
                self.leaving[state] += share * self.leaving[last];
                for reward in 0..2 {
                    self.rewards[state][reward] += share * self.rewards[last][reward];
                }
            }
        }
    }

    /// The first reward of a walk from each state, after [`System::eliminate`].
    fn solve(&self) -> Vec<f64> {
        let mut solution = vec![0.0; self.states];
        for state in 0..self.states {
            let row = &self.ways[state * self.states..state * self.states + state];
            let onward: f64 = row.iter().zip(&solution).map(|(way, reward)| way * reward).sum();
            let out = if state == 0 { self.leaving[0] } else { 1.0 };
            if out > 0.0 {
                solution[state] = (self.rewards[state][0] + onward) / out;
            }
        }
        solution
    }
}

fn by_elimination(chain: &Chain) -> Vec<f64> {
    let converting = conversions_by_elimination(chain);
    (1..=chain.channel_count as u32).map(|channel| effect_by_elimination(chain, channel, &converting)).collect()
}

/// The share of the walks from each state that convert.
fn conversions_by_elimination(chain: &Chain) -> Vec<f64> {
    let mut system = System::new(chain.len());
    for state in 0..chain.len() {
        for (target, probability) in chain.ways(state) {
            system.ways[state * chain.len() + target] = probability;
        }
        system.rewards[state][0] = chain.conversions[state];
        system.leaving[state] = chain.conversions[state] + chain.nulls[state];
    }
    system.eliminate();
    system.solve()
}

fn effect_by_elimination(chain: &Chain, removed: u32, converting: &[f64]) -> f64 {
    let kept: Vec<usize> = (0..chain.len()).filter(|state| chain.channels[*state] != removed).collect();
    let mut place = vec![usize::MAX; chain.len()];
    for (position, state) in kept.iter().enumerate() {
        place[*state] = position;
    }
    let mut system = System::new(kept.len());
    for (position, state) in kept.iter().enumerate() {
        let mut leaving = chain.conversions[*state] + chain.nulls[*state];
        let mut touching = 0.0;
        for (target, probability) in chain.ways(*state) {
            if chain.channels[target] == removed {
                leaving += probability;
                touching += probability * converting[target];
            } else {
                system.ways[position * kept.len() + place[target]] = probability;
            }
        }
        system.leaving[position] = leaving;
        system.rewards[position] = [touching, chain.conversions[*state]];
    }
    system.eliminate();
    let [with, without] = system.rewards[0];
    share(with, without)
}

// ---------------------------------------------------------------------------------------------------------------
// Sweeps
// ---------------------------------------------------------------------------------------------------------------

fn by_sweeps(chain: &Chain, converting: f64, budget: u64) -> Result<Vec<f64>, TooSlow> {
    let mut budget = Budget { left: budget, per_sweep: (chain.targets.len() + chain.len()) as u64 };
    let from_state = conversions_by_sweeps(chain, &mut budget)?;
    let mut effects = Vec::with_capacity(chain.channel_count);
    for first in (1..=chain.channel_count as u32).step_by(LANES) {
        let lanes = LANES.min(chain.channel_count + 1 - first as usize);
        effects.extend(&effects_by_sweeps(chain, first, &from_state, converting, &mut budget)?[..lanes]);
    }
    Ok(effects)
}

struct Budget {
    left: u64,
    per_sweep: u64,
}

impl Budget {
    fn spend_a_sweep(&mut self) -> Result<(), TooSlow> {
        self.left = self.left.checked_sub(self.per_sweep).ok_or(TooSlow)?;
        Ok(())
    }
}

/// The share of the walks from each state that convert.
fn conversions_by_sweeps(chain: &Chain, budget: &mut Budget) -> Result<Vec<f64>, TooSlow> {
    let mut converting = vec![0.0; chain.len()];
    loop {
        budget.spend_a_sweep()?;
        let mut is_still = true;
        for state in (0..chain.len()).rev() {
            let mut sum = chain.conversions[state];
            for (target, probability) in chain.ways(state) {
                sum += probability * converting[target];
            }
            is_still &= sum - converting[state] <= STANDSTILL * sum;
            converting[state] = sum;
        }
        if is_still {
            return Ok(converting);
        }
    }
}

/// Of the walks from a state, those that convert and touch a channel, and those that convert and do not; for the
/// channels of a block.
#[derive(Clone, Copy)]
struct Shares {
    with: [f64; LANES],
    without: [f64; LANES],
}

/// The removal effects of the channels from `first` on; of those behind the last channel they mean nothing.
fn effects_by_sweeps(
    chain: &Chain,
    first: u32,
    converting: &[f64],
    all_converting: f64,
    budget: &mut Budget,
) -> Result<[f64; LANES], TooSlow> {
    // A walk that enters the channel has touched it.
    let enter = |state: usize, shares: &mut Shares| {
        if let Some(lane) = chain.channels[state].checked_sub(first).filter(|lane| (*lane as usize) < LANES) {
            shares.with[lane as usize] = converting[state];
            shares.without[lane as usize] = 0.0;
        }
    };
    let mut shares = vec![Shares { with: [0.0; LANES], without: [0.0; LANES] }; chain.len()];
    (0..chain.len()).for_each(|state| enter(state, &mut shares[state]));
    loop {
        budget.spend_a_sweep()?;
        let mut is_still = true;
        for state in (0..chain.len()).rev() {
            let mut sums = Shares { with: [0.0; LANES], without: [chain.conversions[state]; LANES] };
            for (target, probability) in chain.ways(state) {
                let onward = &shares[target];
                for lane in 0..LANES {
                    sums.with[lane] += probability * onward.with[lane];
                    sums.without[lane] += probability * onward.without[lane];
                }
            }
            enter(state, &mut sums);
            let before = &mut shares[state];
            for lane in 0..LANES {
                is_still &= sums.with[lane] - before.with[lane] <= STANDSTILL * sums.with[lane];
                is_still &= sums.without[lane] - before.without[lane] <= STANDSTILL * sums.without[lane];
            }
            *before = sums;
        }
        let Shares { with, without } = shares[0];
        let missing = (0..LANES).map(|lane| all_converting - (with[lane] + without[lane])).fold(0.0, f64::max);
        if missing <= PRECISION * all_converting || (is_still && missing <= ROUNDING * all_converting) {
            return Ok(std::array::from_fn(|lane| share(with[lane], without[lane])));
        }
        if is_still {
            return Err(TooSlow);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::super::path_counts::Keys;
    use super::super::super::path_counts::testing::{Path, entries_of, path, paths};
    use super::*;

    /// A state of the oracles: the last touches, none at the start.
    type State = Vec<&'static str>;

    /// Where the walks at a state go, in numbers of journeys: to a state, to conversion (true) or to null (false).
    type Ways = BTreeMap<State, BTreeMap<Result<State, bool>, f64>>;

    /// The chain in the words of ChannelAttribution: from the start to the first `order` touches at once (to the whole
    /// path if it is shorter), then on by one touch.
    fn ways(order: usize, paths: &[Path]) -> Ways {
        let mut ways = Ways::new();
        for path in paths {
            let journeys = (path.conversions + path.nulls) as f64;
            let mut state = State::new();
            let touches = &path.channels;
            for last in order.min(touches.len())..=touches.len() {
                if last == 0 {
                    break;
                }
                let next = touches[last.saturating_sub(order)..last].to_vec();
                *ways.entry(state).or_default().entry(Ok(next.clone())).or_default() += journeys;
                state = next;
            }
            let ends = ways.entry(state).or_default();
            *ends.entry(Err(true)).or_default() += path.conversions as f64;
            *ends.entry(Err(false)).or_default() += path.nulls as f64;
        }
        ways
    }

    /// Solves `matrix x = right` by elimination with pivots, with no thought of chains.
    fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
        let size = right.len();
        for column in 0..size {
            let best = |one: &usize, other: &usize| matrix[*one][column].abs().total_cmp(&matrix[*other][column].abs());
            let pivot = (column..size).max_by(best).unwrap();
            matrix.swap(column, pivot);
            right.swap(column, pivot);
            for row in (0..size).filter(|row| *row != column) {
                let factor = matrix[row][column] / matrix[column][column];
                let pivots = matrix[column].clone();
                matrix[row].iter_mut().zip(&pivots).for_each(|(cell, pivot)| *cell -= factor * pivot);
                right[row] -= factor * right[column];
            }
        }
        (0..size).map(|row| right[row] / matrix[row][row]).collect()
    }

    /// The probability to convert from the start when every way into a state that holds `removed` leads to null.
    fn conversion(ways: &Ways, removed: Option<&str>) -> f64 {
        let states: Vec<&State> = ways.keys().collect();
        let mut matrix = vec![vec![0.0; states.len()]; states.len()];
        let mut right = vec![0.0; states.len()];
        for (row, state) in states.iter().enumerate() {
            matrix[row][row] += 1.0;
            let all: f64 = ways[*state].values().sum();
            for (next, count) in &ways[*state] {
                match next {
                    Err(is_conversion) => right[row] += if *is_conversion { count / all } else { 0.0 },
                    Ok(next) if removed.is_some_and(|removed| next.contains(&removed)) => {}
                    Ok(next) => matrix[row][states.binary_search(&next).unwrap()] -= count / all,
                }
            }
        }
        solve(matrix, right)[states.binary_search(&&State::new()).unwrap()]
    }

    /// The share of the converting walks that touch a channel, from a chain whose states remember whether they did.
    fn touching(ways: &Ways, channel: &str) -> f64 {
        let states: Vec<(&State, bool)> = ways.keys().flat_map(|state| [(state, false), (state, true)]).collect();
        let mut matrix = vec![vec![0.0; states.len()]; states.len()];
        let mut right = vec![0.0; states.len()];
        for (row, (state, has_touched)) in states.iter().enumerate() {
            matrix[row][row] += 1.0;
            let all: f64 = ways[*state].values().sum();
            for (next, count) in &ways[*state] {
                match next {
                    Err(is_conversion) => right[row] += if *is_conversion && *has_touched { count / all } else { 0.0 },
                    Ok(next) => {
                        let next = (next, *has_touched || next.contains(&channel));
                        matrix[row][states.binary_search(&next).unwrap()] -= count / all;
                    }
                }
            }
        }
        let start = State::new();
        solve(matrix, right)[states.binary_search(&(&start, false)).unwrap()] / conversion(ways, None)
    }

    /// The same by going every walk of a chain without loops to its end.
    fn touching_by_walking(ways: &Ways, channel: &str) -> f64 {
        fn walk(ways: &Ways, channel: &str, state: &State, has_touched: bool, probability: f64, sums: &mut [f64; 2]) {
            let all: f64 = ways[state].values().sum();
            for (next, count) in &ways[state] {
                let probability = probability * count / all;
                match next {
                    Err(true) => sums[usize::from(has_touched)] += probability,
                    Err(false) => {}
                    Ok(next) => {
                        walk(ways, channel, next, has_touched || next.contains(&channel), probability, sums);
                    }
                }
            }
        }
        let mut sums = [0.0; 2];
        walk(ways, channel, &State::new(), false, 1.0, &mut sums);
        sums[1] / (sums[0] + sums[1])
    }

    fn chain_of(order: usize, paths: &[Path]) -> (Chain, Vec<String>, f64) {
        let (windows, names) = entries_of(Keys::Windows { order }, paths);
        let ends = windows.ends().unwrap();
        let converting = ends.conversions as f64 / ends.journeys() as f64;
        (Chain::of_windows(order, &windows, ends.journeys()), names, converting)
    }

    fn effects(order: usize, paths: &[Path]) -> Vec<(String, f64)> {
        let (chain, names, converting) = chain_of(order, paths);
        names.into_iter().zip(removal_effects(&chain, converting).unwrap()).collect()
    }

    fn assert_close(found: f64, expected: f64, what: &str) {
        assert!((found - expected).abs() <= 1e-9, "{what}: {found} instead of {expected}");
    }

    #[test]
    fn published_examples_come_out() {
        // analyzecore.com/2016/08/03/attribution-model-r-part-1, and the tests of npm markovattribution.
        let found = effects(1, &[path("C1 > C2 > C3", 1, 0), path("C1", 0, 1), path("C2 > C3", 0, 1)]);
        assert_eq!(found, [("C1".to_owned(), 0.5), ("C2".to_owned(), 1.0), ("C3".to_owned(), 1.0)]);
        // serhiipuzyrov.com/2019/07/markov-chain-attribution-simple-explanation-of-removal-effect: of 0.8 without
        // removal, 0.2 stays without google ads, 0.4 without mailing.
        let paths = [
            path("google > ads", 0, 0),
            path("google ads", 2, 1),
            path("mailing", 1, 0),
            path("google ads > mailing", 1, 0),
        ];
        let found = effects(1, &paths[1..]);
        assert_close(found[0].1, 0.75, "google ads");
        assert_close(found[1].1, 0.5, "mailing");
    }

    #[test]
    fn without_nulls_the_effect_is_the_share_of_converting_walks_that_touch() {
        // One half of the walks goes a > b, one quarter each a and b.
        let found = effects(1, &[path("a > b", 2, 0), path("a", 1, 0), path("b", 1, 0)]);
        assert_eq!(found, [("a".to_owned(), 0.75), ("b".to_owned(), 0.75)]);
    }

    #[test]
    fn the_order_matters() {
        // Behind b, a converts and c does not; order 1 forgets which of them came before b.
        let paths = [path("a > b", 4, 0), path("c > b", 0, 4), path("c", 1, 1)];
        let of = |order| effects(order, &paths)[2].1;
        assert_close(of(1), 3.0 / 5.0, "c by order 1");
        assert_close(of(2), 1.0 / 5.0, "c by order 2");
    }

    #[test]
    fn a_channel_that_never_leads_to_conversion_has_no_effect() {
        let found = effects(2, &[path("a > b", 1, 1), path("a > b > d", 0, 3), path("d > d", 0, 1)]);
        assert_eq!(found[2], ("d".to_owned(), 0.0));
    }

    #[test]
    fn loops_do_not_matter_to_order_one_but_states_that_repeat_do_not_either() {
        let plain = effects(1, &[path("a > b", 2, 1), path("b", 1, 3), path("c > a", 1, 0)]);
        let looped = effects(1, &[path("a > a > a > b > b", 2, 1), path("b > b", 1, 3), path("c > a", 1, 0)]);
        for ((name, expected), (_, found)) in plain.iter().zip(&looped) {
            assert_close(*found, *expected, name);
        }
    }

    #[test]
    fn sweeps_out_of_budget_are_told() {
        let (chain, _, converting) = chain_of(1, &[path("a > b > a > b", 1, 1), path("b > a", 2, 0)]);
        assert_eq!(by_sweeps(&chain, converting, 10), Err(TooSlow));
    }

    #[test]
    fn long_walks_over_many_states_come_out_by_either_way() {
        // Walks of some thousand touches, made by a small generator.
        let mut seed = 7u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let names = ["a", "b", "c", "d", "e", "f"];
        let paths: Vec<Path> = (0..20)
            .map(|_| {
                let length = 500 + next(2000) as usize;
                let channels = (0..length).map(|_| names[next(6) as usize]).collect();
                Path { channels, conversions: next(2), nulls: 1, value: 0 }
            })
            .collect();
        let (chain, _, converting) = chain_of(3, &paths);
        assert!(chain.len() > 200, "{} states", chain.len());
        let swept = by_sweeps(&chain, converting, u64::MAX).unwrap();
        for (swept, eliminated) in swept.iter().zip(by_elimination(&chain)) {
            assert_close(*swept, eliminated, "a long walk");
        }
    }

    proptest! {
        #[test]
        fn effects_are_those_of_a_naive_solution_and_of_the_walks_that_touch(order in 1usize..=4, paths in paths(7)) {
            let (chain, names, converting) = chain_of(order, &paths);
            prop_assume!(converting > 0.0);
            let ways = ways(order, &paths);
            assert_close(conversion(&ways, None), converting, "the chain converts as often as its paths");
            let swept = by_sweeps(&chain, converting, u64::MAX).unwrap();
            let eliminated = by_elimination(&chain);
            let chosen = removal_effects(&chain, converting).unwrap();
            for (rank, name) in names.iter().enumerate() {
                let expected = 1.0 - conversion(&ways, Some(name)) / converting;
                assert_close(eliminated[rank], expected, name);
                assert_close(swept[rank], expected, name);
                assert_close(chosen[rank], expected, name);
                assert_close(touching(&ways, name), expected, name);
                prop_assert!((swept[rank] - eliminated[rank]).abs() <= 1e-12);
            }
        }

        #[test]
        fn without_loops_effects_are_those_of_walking_every_walk(order in 1usize..=4, paths in paths(6)) {
            let mut paths = paths;
            for path in &mut paths {
                // Each channel once, by name: no walk comes back.
                path.channels = path.channels.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
            }
            let (chain, names, converting) = chain_of(order, &paths);
            prop_assume!(converting > 0.0);
            let ways = ways(order, &paths);
            for (name, found) in names.iter().zip(removal_effects(&chain, converting).unwrap()) {
                assert_close(found, touching_by_walking(&ways, name), name);
            }
        }

        #[test]
        fn the_order_of_paths_does_not_change_a_bit(order in 1usize..=4, paths in paths(7), turn in 0usize..25) {
            let (_, _, converting) = chain_of(order, &paths);
            prop_assume!(converting > 0.0);
            let mut turned = paths.clone();
            turned.rotate_left(turn % paths.len());
            turned.swap(0, paths.len() - 1);
            let bits = |paths: &[Path]| -> Vec<(String, u64)> {
                effects(order, paths).into_iter().map(|(name, effect)| (name, effect.to_bits())).collect()
            };
            prop_assert_eq!(bits(&turned), bits(&paths));
        }
    }
}
