//! How a watch is, as a document of JSON for people and for what watches the watch.

use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::run::Report;
use crate::run::report::instant;

/// How a watch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// No cycle has ended yet.
    Starting,
    /// The last cycle did all that was due.
    Ok,
    /// In the last cycle a model, check or mart failed; the rest is done.
    Failed,
    /// A fault that should pass ended the last cycle, which will be tried again.
    Waiting,
    /// Told to stop, or stopped.
    Stopped,
}

/// The document. Times are RFC 3339.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// How it is.
    pub condition: Condition,
    /// Id of its process.
    pub process: u32,
    /// Version of wayline.
    pub version: &'static str,
    /// When it was started.
    pub started_at: String,
    /// Seconds from the start of a cycle to that of the next.
    pub every_seconds: f64,
    /// When this was written.
    pub updated_at: String,
    /// The stage under way, if one is.
    pub stage: Option<String>,
    /// Cycles that came to their end.
    pub cycles: u64,
    /// When the last of them ended.
    pub last_cycle_at: Option<String>,
    /// When everything that was due was last done.
    pub last_success_at: Option<String>,
    /// When the next starts, while none is under way.
    pub next_cycle_at: Option<String>,
    /// Faults in a row.
    pub faults: u32,
    /// What went wrong in the last cycle.
    pub error: Option<String>,
    /// How to mend it, if that is known.
    pub hint: Option<String>,
    /// The last run that did something.
    pub last_run: Option<LastRun>,
    /// Batches landed in the lake.
    pub batches: u64,
    /// When the newest event occurred.
    pub newest_occurred_at: Option<String>,
    /// From there to when this was written.
    pub freshness_seconds: Option<f64>,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct LastRun {
    /// Its id: the name of its report under `runs/`.
    pub run_id: String,
    /// How it ended.
    pub status: &'static str,
    /// Seconds that it took.
    pub seconds: f64,
    /// Models, checks and marts that did not end well.
    pub not_well: Vec<String>,
}

impl Health {
    /// At `now`, before the first cycle.
    pub fn starting(now: i64, every: Duration) -> Self {
        Self {
            condition: Condition::Starting,
            process: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            started_at: instant(now),
            every_seconds: every.as_secs_f64(),
            updated_at: instant(now),
            stage: None,
            cycles: 0,
            last_cycle_at: None,
            last_success_at: None,
            next_cycle_at: None,
            faults: 0,
            error: None,
            hint: None,
            last_run: None,
            batches: 0,
            newest_occurred_at: None,
            freshness_seconds: None,
        }
    }

    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        matches!(self.condition, Condition::Starting | Condition::Ok)
    }

    /// Keeps what went wrong, or that nothing did.
    pub fn keep_error(&mut self, error: Option<&Error>) {
        self.error = error.map(ToString::to_string);
        self.hint = error.and_then(Error::remedy).map(str::to_string);
    }
}

impl LastRun {
    /// Of a report.
    pub fn of(report: &Report) -> Self {
        let not_well = report.results.iter().filter(|line| !line.is_well());
        Self {
            run_id: report.metadata.invocation_id.clone(),
            status: report.status.as_str(),
            seconds: report.elapsed_time,
            not_well: not_well.map(|line| line.unique_id.clone()).collect(),
        }
    }
}
