//! Watching: the main job in micro-batches until it is told to stop.
//!
//! A cycle is one run. It lands one batch, unless `[landing] max_batches` says otherwise, so that what is in hand stays
//! bounded however much is waiting; while more is waiting, cycles follow each other at once. A fault that should pass is
//! waited for with growing pauses. A model or check that fails is told and watched on: it may be mended while we watch,
//! and so may the text of a model that is wrong, which keeps nothing from being landed. What no waiting mends ends
//! the watch: configuration that is wrong, data that is damaged.
//!
//! The lock is held throughout, and the configuration is read once. Every point is safe to be the last.

mod answers;
mod board;
pub mod health;
mod schedule;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::Utc;

use self::board::Board;
use self::health::{Condition, Health, LastRun};
use self::schedule::{BackOff, Schedule, chance};
use crate::config::Project;
use crate::derived::fold::Which;
use crate::error::{Error, Kind, Result};
use crate::lake::Lock;
use crate::landing;
use crate::landing::ledger::Entry;
use crate::listener::Listener;
use crate::maintain;
use crate::models::checks::Scope;
use crate::models::graph::Graph;
use crate::run::report::instant;
use crate::run::{self, Progress, Report, RunStatus};
use crate::table_sizes;
use crate::workspace::Workspace;

/// Tables are measured at most as often as this, since all their logs are read for it.
const MEASURE_EVERY: Duration = Duration::from_secs(60);

/// Checks of whole tables, which take as long as the tables are large, are made this often; between, only rows that were
/// made anew are checked.
const CHECK_EVERY: Duration = Duration::from_secs(3600);

/// The lake is maintained this often, when nothing waits.
const MAINTAIN_EVERY: Duration = Duration::from_secs(3600);
/// After so long it is maintained whatever waits: a lake that is left alone would only make cycles longer.
const MAINTAIN_AT_LATEST: Duration = Duration::from_secs(2 * 3600);

fn maintenance_is_due(since_last: Duration, has_more: bool) -> bool {
    since_last >= if has_more { MAINTAIN_AT_LATEST } else { MAINTAIN_EVERY }
}

/// How to watch.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time from the start of a cycle to that of the next.
    pub every: Duration,
    /// Logical time in microseconds since 1970; by default the newest event.
    pub as_of: Option<i64>,
    /// File that holds the metrics.
    pub metrics_file: Option<PathBuf>,
    /// Address at which metrics and health are asked for.
    pub metrics_listen: Option<SocketAddr>,
    /// File that holds the health.
    pub health_file: Option<PathBuf>,
    /// Cycles to come to their end; by default as many as there is time for.
    pub max_batches: Option<u64>,
    /// How long what was replaced stays readable when the lake is maintained.
    pub retain: Duration,
}

/// Receives what a person watching may want to see.
pub trait Witness: Progress {
    /// Metrics and health are asked for at this address.
    fn listens(&mut self, address: SocketAddr);
    /// A run came to its end.
    fn ran(&mut self, report: &Report);
    /// Something is wrong with models, which are left as they are until it is mended.
    fn left_models(&mut self, error: &Error);
    /// A fault ended a cycle, which is tried again after a time.
    fn waits(&mut self, error: &Error, wait: Duration);
}

/// Watches until `stop` turns true, after which the batch in hand is finished, or until the given cycles are done. Returns
/// how many were.
///
/// Errors: what no waiting mends.
pub async fn watch(
    project: Project,
    options: Options,
    mut stop: tokio::sync::watch::Receiver<bool>,
    witness: &mut dyn Witness,
) -> Result<u64> {
    let mut watch = Watch::begin(project, options)?;
    let listener = match watch.options.metrics_listen {
        Some(address) => Some(Listener::start(address, watch.board.clone()).await?),
        None => None,
    };
    if let Some(listener) = &listener {
        witness.listens(listener.address);
    }
    let mut schedule = Schedule::new(watch.options.every, Instant::now());
    loop {
        let wait = match watch.cycle(witness).await {
            Ok(Cycle { has_more: true }) => Duration::ZERO,
            Ok(Cycle { has_more: false }) => schedule.wait(Instant::now()),
            Err(error) if error.may_pass() => watch.wait_for(&error, witness),
            Err(error) => {
                watch.end(Some(&error));
                return Err(error);
            }
        };
        let is_done = watch.options.max_batches.is_some_and(|most| watch.cycles() >= most);
        if is_done || stops_within(&mut stop, wait, &watch.board).await {
            watch.end(None);
            return Ok(watch.cycles());
        }
    }
}

/// Waits for the next cycle; says whether it was told to stop before.
async fn stops_within(stop: &mut tokio::sync::watch::Receiver<bool>, wait: Duration, board: &Board) -> bool {
    if !wait.is_zero() {
        let start = Utc::now() + wait;
        board.state().health.next_cycle_at = Some(instant(start.timestamp_micros()));
    }
    write_or_warn(board.write());
    tokio::select! {
        biased;
        Ok(_) = stop.wait_for(|is_told| *is_told) => true,
        () = tokio::time::sleep(wait) => false,
    }
}

/// What cannot be told is no reason to stop.
fn write_or_warn(outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "could not write metrics or health");
    }
}

/// What a cycle came to.
struct Cycle {
    /// Files are waiting to be landed.
    has_more: bool,
}

struct Watch {
    workspace: Workspace,
    options: Options,
    board: Board,
    lock: Option<Lock>,
    back_off: BackOff,
    /// The last batch that is counted; none before the books are read.
    counted: Option<i64>,
    /// Whether the books may hold batches that are not counted, since a run ended early.
    has_uncounted: bool,
    /// When batches were planned that are landed and not published yet.
    unpublished: Vec<i64>,
    measured_at: Option<Instant>,
    /// When whole tables were checked last.
    checked_at: Option<Instant>,
    /// When the lake was maintained last, or the watch began.
    maintained_at: Instant,
    /// Whether a run may have changed a table since.
    is_changed: bool,
}

impl Watch {
    fn begin(mut project: Project, options: Options) -> Result<Self> {
        project.config.landing.max_batches.get_or_insert(NonZeroUsize::MIN);
        let workspace = Workspace::open(project)?;
        let health = Health::starting(Utc::now().timestamp_micros(), options.every);
        let board = Board::new(health, options.metrics_file.clone(), options.health_file.clone());
        // A path that cannot be written is told before anything is done.
        board.write()?;
        Ok(Self {
            workspace,
            options,
            board,
            lock: None,
            back_off: BackOff::default(),
            counted: None,
            has_uncounted: false,
            unpublished: Vec::new(),
            measured_at: None,
            checked_at: None,
            maintained_at: Instant::now(),
            is_changed: true,
        })
    }

    fn cycles(&self) -> u64 {
        self.board.state().health.cycles
    }

    /// One run, and what is to be told of it.
    async fn cycle(&mut self, witness: &mut dyn Witness) -> Result<Cycle> {
        self.board.state().health.next_cycle_at = None;
        if self.lock.is_none() {
            self.lock = Some(Lock::take(&self.workspace.project.folder, &self.workspace.lake)?);
        }
        if self.counted.is_none() {
            // What others have landed before was published, or not, at times that are not known.
            self.count_batches(landing::last_batch(&self.workspace).await?).await?;
            self.unpublished.clear();
        }
        let workspace = self.workspace.renewed()?;
        let (outcome, wrong) = self.run(&workspace, witness).await;
        self.board.state().health.stage = None;
        // Of two runs only the second reports.
        self.has_uncounted |= wrong.is_some();
        self.count_new(&workspace, &outcome).await;
        let report = match outcome {
            Ok(report) => report,
            Err(error) => {
                self.board.state().metrics.count_error();
                self.is_changed = true;
                return Err(error);
            }
        };
        self.keep(&report, wrong.as_ref());
        witness.ran(&report);
        if let Some(error) = &wrong {
            witness.left_models(error);
        } else if report.has_failed_for_now() {
            let first = report.results.iter().find(|line| line.is_temporary);
            let what = first.map_or_else(String::new, |line| format!("{}: {}", line.unique_id, line.message));
            return Err(Error::unavailable(what));
        }
        if maintenance_is_due(self.maintained_at.elapsed(), report.landed.has_more) {
            self.maintain(&workspace).await;
        }
        self.measure(&workspace, &report).await;
        self.back_off.reset();
        self.end_cycle(&report, wrong.as_ref());
        Ok(Cycle { has_more: report.landed.has_more })
    }

    /// Maintains the lake: the lock that a job of its own would need is held here. What fails of it is told and tried again
    /// the next time. Tables with few changes over them are left to the runs, which fold them when it pays.
    async fn maintain(&mut self, workspace: &Workspace) {
        self.maintained_at = Instant::now();
        self.is_changed = true;
        let options = maintain::Options { dry_run: false, retain: self.options.retain, fold: Which::Due(u64::MAX) };
        match maintain::maintain(workspace, options).await {
            Ok(done) => {
                tracing::info!(seconds = done.elapsed_time, "maintained");
                self.board.state().metrics.maintained_at(Utc::now().timestamp_micros());
            }
            Err(error) => tracing::warn!(%error, "could not maintain"),
        }
    }

    /// Runs the main job. What is wrong with models ends the first cycle; later on they are left as they are until it is
    /// mended, and what is new is landed all the same. Returns what was wrong beside the report.
    async fn run(&mut self, workspace: &Workspace, witness: &mut dyn Witness) -> (Result<Report>, Option<Error>) {
        let checks = match self.checked_at {
            Some(checked_at) if checked_at.elapsed() < CHECK_EVERY => Scope::Touched,
            _ => Scope::All,
        };
        let as_of = self.options.as_of;
        let options = |build| run::Options {
            command: "watch".into(),
            checks,
            as_of,
            land: true,
            build,
            ..run::Options::default()
        };
        let mut stages = Stages { board: &self.board, witness };
        let begun = Instant::now();
        let outcome = run::run(workspace, options(true), &mut stages).await;
        if checks == Scope::All && outcome.as_ref().is_ok_and(|report| !report.has_failed_for_now()) {
            self.checked_at = Some(begun);
        }
        match outcome {
            Err(error) if error.kind() == Kind::Invalid && self.cycles() > 0 => {
                // The models may be mended by now, so they cannot tell any more. Landing can: it is wrong here or there.
                match run::run(workspace, options(false), &mut stages).await {
                    Err(other) if other.kind() == Kind::Invalid => (Err(other), None),
                    landed => (landed, Some(error)),
                }
            }
            outcome => (outcome, None),
        }
    }

    /// Counts the batches that a run landed. What cannot be counted now is counted after the next.
    async fn count_new(&mut self, workspace: &Workspace, outcome: &Result<Report>) {
        let newest = match outcome {
            Ok(report) if !self.has_uncounted => Ok(report.landed.batches.last().copied()),
            _ => landing::last_batch(workspace).await.map(Some),
        };
        let counted = match newest {
            Ok(Some(last)) => self.count_batches(last).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.has_uncounted = counted.is_err();
        if let Err(error) = counted {
            tracing::warn!(%error, "could not count batches");
        }
    }

    /// Counts the batches after the last one counted.
    async fn count_batches(&mut self, last: i64) -> Result<()> {
        for entry in Entry::load_after(&self.workspace.lake, self.counted.unwrap_or(0), last).await? {
            self.board.state().metrics.count_batch(&entry);
            self.unpublished.push(entry.planned_at);
            self.counted = Some(entry.batch);
        }
        self.counted.get_or_insert(last);
        Ok(())
    }

    /// Counts a run, and the batches that it published.
    fn keep(&mut self, report: &Report, wrong: Option<&Error>) {
        let is_well = wrong.is_none() && matches!(report.status, RunStatus::Success | RunStatus::NothingNew);
        let mut state = self.board.state();
        let published = if is_well { std::mem::take(&mut self.unpublished) } else { Vec::new() };
        state.metrics.count_run(report, &published);
        if is_well {
            state.metrics.succeeded_at(Utc::now().timestamp_micros());
        }
        if report.status != RunStatus::NothingNew {
            state.health.last_run = Some(LastRun::of(report));
            self.is_changed = true;
        }
    }

    fn end_cycle(&mut self, report: &Report, wrong: Option<&Error>) {
        let health = &mut self.board.state().health;
        health.cycles += 1;
        health.last_cycle_at = Some(instant(Utc::now().timestamp_micros()));
        health.faults = 0;
        health.keep_error(wrong);
        let has_failed = wrong.is_some() || report.status == RunStatus::Failed;
        health.condition = if has_failed { Condition::Failed } else { Condition::Ok };
    }

    /// Measures the tables if they changed and were not measured just before.
    async fn measure(&mut self, workspace: &Workspace, report: &Report) {
        let is_recent = self.measured_at.is_some_and(|at| at.elapsed() < MEASURE_EVERY);
        if !self.is_changed || is_recent || report.landed.has_more {
            return;
        }
        let graph = match Graph::load(&workspace.ctx, &workspace.project.folder.join("queries")) {
            Ok(graph) => graph,
            Err(_) => return,
        };
        match table_sizes::of_lake(workspace, &graph).await {
            Ok(sizes) => {
                self.board.state().metrics.measured(sizes);
                (self.measured_at, self.is_changed) = (Some(Instant::now()), false);
            }
            Err(error) => tracing::warn!(%error, "could not measure the tables"),
        }
    }

    /// Tells of a fault; returns how long to wait.
    fn wait_for(&mut self, error: &Error, witness: &mut dyn Witness) -> Duration {
        let wait = self.back_off.wait(chance());
        let mut state = self.board.state();
        state.metrics.count_retry();
        state.health.condition = Condition::Waiting;
        state.health.faults = self.back_off.faults();
        state.health.keep_error(Some(error));
        drop(state);
        witness.waits(error, wait);
        wait
    }

    /// Tells that the watch is over.
    fn end(&self, error: Option<&Error>) {
        let mut state = self.board.state();
        state.health.condition = Condition::Stopped;
        state.health.next_cycle_at = None;
        if error.is_some() {
            state.health.keep_error(error);
        }
        drop(state);
        write_or_warn(self.board.write());
    }
}

/// Tells the stage under way to those who ask, beside the witness.
struct Stages<'a> {
    board: &'a Board,
    witness: &'a mut dyn Witness,
}

impl Progress for Stages<'_> {
    fn stage(&mut self, name: &str) {
        self.board.state().health.stage = Some(name.to_string());
        write_or_warn(self.board.write_health());
        self.witness.stage(name);
    }

    fn step(&mut self, name: &str) {
        self.witness.step(name);
    }

    fn read(&mut self, done: u64, total: u64) {
        self.witness.read(done, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maintenance_waits_for_a_pause_and_not_for_ever() {
        let hours = |hours: f64| Duration::from_secs_f64(hours * 3600.0);
        let due = [0.9, 1.0, 1.9, 2.0].map(|at| [false, true].map(|has_more| maintenance_is_due(hours(at), has_more)));
        assert_eq!(due, [[false, false], [true, false], [true, false], [true, true]]);
    }
}
