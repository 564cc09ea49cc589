//! PostHog's pass over a group: the newest entry wins, an event serves one step of a chain, and the strict form starts
//! again after an interruption.
//!
//! Source: PostHog `funnel-udf/src/steps.rs` without exclusions, optional steps and break-downs.

use super::super::conditions::MOST_CONDITIONS;
use super::super::occurrences::Occurrence;
use super::chains::{Chains, is_within, steps_of};

/// Takes a group through the funnel.
pub(super) fn pass(chains: &mut Chains, is_strict: bool, step_count: usize, window: i64, rows: &[Occurrence]) {
    chains.clear();
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|row| row.time == first.time).count();
        let (instant, later) = rest.split_at(length);
        rest = later;
        // Rows of an instant are sorted by their conditions.
        if first.conditions == instant[length - 1].conditions {
            alike(chains, is_strict, window, instant);
        } else {
            unlike(chains, window, instant);
        }
        if chains.get(step_count - 1).is_some() {
            return;
        }
    }
}

/// Extends the chain before `step`, unless one that began when it did stands at `step` already.
fn extend(chains: &mut Chains, window: i64, step: usize, time: i64) -> bool {
    let start = match step {
        0 => Some(time),
        _ => chains.before(step).map(|chain| chain.start),
    };
    let Some(start) = start else {
        return false;
    };
    let is_reached = chains.get(step).is_some_and(|chain| chain.start == start);
    if is_reached || !is_within(start, time, window) {
        return false;
    }
    chains.put(step, step, start, time);
    true
}

/// Rows of one instant that match the same steps, one after another; each from its last step to its first, so that it
/// serves a chain once.
fn alike(chains: &mut Chains, is_strict: bool, window: i64, instant: &[Occurrence]) {
    for row in instant {
        let mut steps = row.conditions;
        while steps != 0 {
            let step = steps.ilog2() as usize;
            steps ^= 1 << step;
            extend(chains, window, step, row.time);
        }
        if is_strict {
            chains.keep(row.conditions);
        }
    }
}

/// Rows of one instant that match different steps: step after step, whatever lies between; a row serves one step of a
/// chain. Rows that match the same step are tried in the order of what else they match, fewer and earlier steps first.
fn unlike(chains: &mut Chains, window: i64, instant: &[Occurrence]) {
    let every = instant.iter().fold(0, |every, row| every | row.conditions);
    // Which row met each step at this instant.
    let mut served: [Option<usize>; MOST_CONDITIONS] = [None; MOST_CONDITIONS];
    for step in steps_of(every) {
        let used_by_chain = |row: usize| served[..step].iter().rev().map_while(|by| *by).any(|by| by == row);
        let unused = (0..instant.len()).find(|row| instant[*row].conditions >> step & 1 == 1 && !used_by_chain(*row));
        if let Some(row) = unused
            && extend(chains, window, step, instant[row].time)
        {
            served[step] = Some(row);
        }
    }
}
