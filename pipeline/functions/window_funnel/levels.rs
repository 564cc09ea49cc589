//! ClickHouse's pass over a group where a row may serve several steps: one chain per level, the newest.
//!
//! Rows of one instant are met step by step, as if each were there once per step that it matches: the steps met at the
//! instant, and those met at least twice, say all that there is to know about it.

use std::ops::ControlFlow::{self, Break, Continue};

use super::chains::{Chains, is_within, steps_of};
use super::rule::Modes;

/// Takes a group through the funnel: its rows as (time, conditions), by ascending time.
#[inline]
pub(super) fn pass(
    chains: &mut Chains,
    modes: Modes,
    step_count: usize,
    window: i64,
    mut rows: impl Iterator<Item = (i64, u32)>,
) {
    chains.clear();
    let mut pass = Pass { chains, modes, step_count, window };
    let mut next = rows.next();
    while let Some((time, conditions)) = next {
        let (mut once, mut twice, mut is_blocked) = (conditions, 0, conditions == 0);
        next = rows.next();
        while let Some((_, conditions)) = next.filter(|(later, _)| *later == time) {
            twice |= once & conditions;
            once |= conditions;
            is_blocked |= conditions == 0;
            next = rows.next();
        }
        if pass.instant(time, once, twice, is_blocked).is_break() {
            return;
        }
    }
}

struct Pass<'a> {
    chains: &'a mut Chains,
    modes: Modes,
    step_count: usize,
    window: i64,
}

impl Pass<'_> {
    /// Takes an instant: the steps that some row matches, those that several match, and whether a row matches none.
    #[inline]
    fn instant(&mut self, time: i64, once: u32, twice: u32, is_blocked: bool) -> ControlFlow<()> {
        if self.modes.order && is_blocked && self.chains.furthest() > 0 {
            return Break(());
        }
        for step in steps_of(once) {
            self.step(step, time)?;
            if self.modes.deduplication && twice >> step & 1 == 1 {
                self.step(step, time)?;
            }
        }
        Continue(())
    }

    #[inline]
    fn step(&mut self, step: usize, time: i64) -> ControlFlow<()> {
        let Modes { deduplication, order, increase, reentry, .. } = self.modes;
        let reached = self.chains.furthest();
        if step == 0 {
            self.chains.start(time);
        } else if deduplication && step < reached {
            return Break(());
        } else if let Some(chain) = self.chains.before(step) {
            if is_within(chain.start, time, self.window) && !(increase && chain.last == time) {
                self.chains.put(step, step, chain.start, time);
            }
        } else if order && reached > 0 && !reentry {
            return Break(());
        }
        if self.chains.furthest() == self.step_count { Break(()) } else { Continue(()) }
    }
}
