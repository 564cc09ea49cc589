//! Mixpanel's pass over a group: one attempt, that of the first entry; each step at the first later match.
//!
//! Source: Mixpanel, "Funnels: advanced", unique counting without re-entry, its two-second grace left out.

use super::super::occurrences::Occurrence;
use super::chains::{Chains, is_within};

/// Takes a group through the funnel.
pub(super) fn pass(chains: &mut Chains, step_count: usize, window: i64, rows: &[Occurrence]) {
    chains.clear();
    let Some(entry) = rows.iter().position(|row| row.conditions & 1 == 1) else {
        return;
    };
    let start = rows[entry].time;
    chains.start(start);
    let mut last = start;
    for row in &rows[entry + 1..] {
        let step = chains.furthest();
        if step == step_count || !is_within(start, row.time, window) {
            return;
        }
        if row.conditions >> step & 1 == 1 && row.time > last {
            chains.put(step, step, start, row.time);
            last = row.time;
        }
    }
}
