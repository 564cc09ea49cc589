//! ClickHouse's pass over a group where a row serves one step of a chain only (`strict_once`).
//!
//! ClickHouse keeps every candidate chain, with the rows that it used. Here one chain per level is enough: the newest,
//! since a later start lies in every window that an earlier one does, and a row can serve two steps only at its own
//! instant. So what matters of an instant is which runs of steps its rows can serve, each row one step: a matching of
//! steps with rows, grown by augmenting paths. A chain that met the steps before `from` earlier and those from `from` to
//! `to` now exists if the run has such a matching; the earlier the run begins, the newer the start of the chain.
//!
//! Time: one pass, and at an instant of several rows at most as many augmenting paths as there are steps.
//! Memory: at most [`MOST_SERVERS`] rows per step for the instant in hand.

use std::ops::ControlFlow::{self, Break, Continue};

use super::super::conditions::MOST_CONDITIONS;
use super::super::occurrences::Occurrence;
use super::chains::{Chains, is_within, steps_of};
use super::rule::Modes;

/// The rows of an instant that need to be looked at for a step: where a step has as many as there are steps, the others
/// always leave it one (Hall), and a chain without repeated steps fails with at most all rows that it used and one more.
const MOST_SERVERS: usize = MOST_CONDITIONS + 2;

/// Takes a group through the funnel.
pub(super) fn pass(
    chains: &mut Chains,
    servers: &mut Servers,
    modes: Modes,
    step_count: usize,
    window: i64,
    rows: &[Occurrence],
) {
    chains.clear();
    let mut pass = Pass { chains, servers, modes, step_count, window };
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|row| row.time == first.time).count();
        let (instant, later) = rest.split_at(length);
        rest = later;
        if pass.instant(first.time, instant).is_break() {
            return;
        }
    }
}

struct Pass<'a> {
    chains: &'a mut Chains,
    servers: &'a mut Servers,
    modes: Modes,
    step_count: usize,
    window: i64,
}

/// A chain made at an instant: it met the steps before `from` earlier and the others now.
#[derive(Debug, Clone, Copy, Default)]
struct Made {
    from: usize,
    start: i64,
}

impl Pass<'_> {
    fn instant(&mut self, time: i64, instant: &[Occurrence]) -> ControlFlow<()> {
        let Modes { deduplication, order, increase, reentry, .. } = self.modes;
        // A row that matches nothing sorts first.
        if order && instant[0].conditions == 0 && self.chains.furthest() > 0 {
            return Break(());
        }
        let (mut once, mut twice) = (0, 0);
        for row in instant {
            twice |= once & row.conditions;
            once |= row.conditions;
        }
        // Several steps of a chain can be met at one instant by several rows only.
        let is_shared = instant.len() > 1 && !increase;
        if is_shared {
            self.servers.begin(instant, once);
        }

        // The chains of before stay until the instant is over: a chain made now may have used any of its rows.
        let mut reached = self.chains.furthest();
        let mut made = [Made::default(); MOST_CONDITIONS];
        let mut made_levels = 0u32;
        let mut outcome = Continue(());
        for step in steps_of(once) {
            if step > 0 && deduplication && step < reached {
                outcome = Break(());
            } else if step > reached {
                if order && reached > 0 && !reentry {
                    outcome = Break(());
                }
            } else if let Some((chain, is_repeated)) = self.serve(step, time, is_shared, twice) {
                made[step] = chain;
                made_levels |= 1 << step;
                reached = reached.max(step + 1);
                if reached == self.step_count || (step > 0 && deduplication && is_repeated) {
                    outcome = Break(());
                }
            }
            if outcome.is_break() {
                break;
            }
        }
        // From the last level, so that a chain is copied before it is replaced.
        while made_levels != 0 {
            let step = made_levels.ilog2() as usize;
            made_levels ^= 1 << step;
            self.chains.put(made[step].from, step, made[step].start, time);
        }
        outcome
    }

    /// The newest chain whose last step is `step`, met now, and whether more rows that match the step are still to come.
    fn serve(&mut self, step: usize, time: i64, is_shared: bool, twice: u32) -> Option<(Made, bool)> {
        if !is_shared {
            return Some((self.chain_from(step, time)?, twice >> step & 1 == 1));
        }
        if !self.modes.deduplication || step == 0 {
            let from = self.servers.run_to(step);
            return Some((self.chain_from(from, time)?, false));
        }
        // The first row by which there is a chain serves the step; the next would end the pass.
        for number in 0..self.servers.of(step).len() {
            let before = self.servers.run;
            let from = self.servers.run_to_with(step, number);
            if let Some(chain) = self.chain_from(from, time) {
                return Some((chain, number + 1 < self.servers.of(step).len()));
            }
            self.servers.run = before;
        }
        None
    }

    /// The newest chain that met the steps before `from` earlier.
    fn chain_from(&self, from: usize, time: i64) -> Option<Made> {
        let start = match from {
            0 => time,
            _ => self
                .chains
                .before(from)
                .map(|chain| chain.start)
                .filter(|start| is_within(*start, time, self.window))?,
        };
        Some(Made { from, start })
    }
}

/// The rows of an instant that can serve each step, and the run of steps that they serve together.
#[derive(Debug, Default)]
pub(super) struct Servers {
    /// Rows, step after step.
    rows: Vec<u32>,
    /// Where each step's rows begin and end.
    bounds: [(usize, usize); MOST_CONDITIONS],
    run: Run,
}

/// A run of steps, each served by another row.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Its first step.
    from: usize,
    /// The step after its last.
    to: usize,
    /// The row that serves each step of the run; [`NO_ROW`] while there is none.
    row: [u32; MOST_CONDITIONS],
    /// The only row that may serve a step; [`NO_ROW`] where any may.
    only: [u32; MOST_CONDITIONS],
}

const NO_ROW: u32 = u32::MAX;

impl Run {
    /// A run without steps, whose first will be `step`.
    fn before(step: usize) -> Self {
        Self { from: step, to: step, row: [NO_ROW; MOST_CONDITIONS], only: [NO_ROW; MOST_CONDITIONS] }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self::before(0)
    }
}

impl Servers {
    /// Bytes on the heap.
    pub(super) fn size(&self) -> usize {
        self.rows.capacity() * size_of::<u32>()
    }

    /// Forgets the instant before; `every` is each step that a row of this one matches.
    fn begin(&mut self, instant: &[Occurrence], every: u32) {
        self.rows.clear();
        for step in steps_of(every) {
            let start = self.rows.len();
            let matching = (0u32..).zip(instant).filter(|(_, row)| row.conditions >> step & 1 == 1);
            self.rows.extend(matching.map(|(row, _)| row).take(MOST_SERVERS));
            self.bounds[step] = (start, self.rows.len());
        }
        self.run = Run::default();
    }

    /// The rows that can serve a step.
    fn of(&self, step: usize) -> &[u32] {
        let (start, end) = self.bounds[step];
        &self.rows[start..end]
    }

    /// The first step of the longest run that ends with `step`, which some row serves.
    fn run_to(&mut self, step: usize) -> usize {
        if self.run.to != step {
            self.run = Run::before(step);
        }
        self.extend_run(step)
    }

    /// The same, when the row of the given number among those of `step` is the one that serves it.
    fn run_to_with(&mut self, step: usize, number: usize) -> usize {
        if self.run.to != step {
            self.run = Run::before(step);
        }
        self.run.only[step] = self.of(step)[number];
        self.extend_run(step)
    }

    fn extend_run(&mut self, step: usize) -> usize {
        self.run.to = step + 1;
        while !self.augment(step, &mut (1 << step)) {
            // Frees the row of the run's first step. The last step alone is always served.
            self.run.from += 1;
        }
        self.run.from
    }

    /// Finds a row for a step of the run; other steps give way to it where they can. `asked`: those that were asked to.
    fn augment(&mut self, step: usize, asked: &mut u32) -> bool {
        let only = self.run.only[step];
        let (start, end) = self.bounds[step];
        let end = if only == NO_ROW { end } else { start + 1 };
        for number in start..end {
            let row = if only == NO_ROW { self.rows[number] } else { only };
            let holder = (self.run.from..self.run.to).find(|holder| self.run.row[*holder] == row);
            let is_free = match holder {
                None => true,
                Some(holder) if *asked >> holder & 1 == 1 => false,
                Some(holder) => {
                    *asked |= 1 << holder;
                    self.augment(holder, asked)
                }
            };
            if is_free {
                self.run.row[step] = row;
                return true;
            }
        }
        false
    }
}
