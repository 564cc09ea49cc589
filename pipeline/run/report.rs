//! The report of a run, kept as `runs/<run_id>.json`.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Options;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::identity::stage::Resolved;
use crate::lake::Lake;
use crate::landing::Landed;
use crate::marts::Restatement;
use crate::models::{NodeResult, Status};

/// Folder of the run reports in the lake.
pub const RUNS: &str = "runs";

/// What a run did. `metadata`, `args`, `elapsed_time` and `results` are as in dbt's `run_results.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Who wrote the report, and when.
    pub metadata: Metadata,
    /// What was asked for.
    pub args: Options,
    /// Seconds of the whole run.
    pub elapsed_time: f64,
    /// How it ended.
    pub status: RunStatus,
    /// The error that ended it, if one did.
    pub error: Option<String>,
    /// Logical time, RFC 3339.
    pub as_of: Option<String>,
    /// What was landed.
    pub landed: Landed,
    /// What was resolved, if identities were.
    pub identity: Option<Resolved>,
    /// Seconds by stage.
    pub stages: BTreeMap<String, f64>,
    /// Peak memory of the process in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Models, checks and marts.
    pub results: Vec<NodeResult>,
    /// Checks that compare tables of which one is outdated or missing, and so were not run.
    #[serde(default)]
    pub skipped_checks: Vec<String>,
    /// Checks that were put off to the next run that checks all, since some rows of what they read were changed.
    #[serde(default)]
    pub put_off_checks: Vec<String>,
    /// Customers whose rows were made anew; none where models were built whole.
    #[serde(default)]
    pub touched_customers: Option<usize>,
    /// Published files that are others than before.
    #[serde(default)]
    pub restatements: Vec<Restatement>,
}

/// What tables tell of a run: of the steps of its report, which are most of it, no more than how they ended.
#[derive(Debug, Clone, Deserialize)]
pub struct Told {
    /// As in the report, and so are the others.
    pub metadata: Metadata,
    /// Seconds of the whole run.
    pub elapsed_time: f64,
    /// How it ended.
    pub status: RunStatus,
    /// Logical time, RFC 3339.
    pub as_of: Option<String>,
    /// What was landed.
    pub landed: Landed,
    /// How models, checks and marts ended.
    pub results: Vec<Ended>,
    /// Published files that are others than before.
    #[serde(default)]
    pub restatements: Vec<Restatement>,
}

/// How a step ended.
#[derive(Debug, Clone, Deserialize)]
pub struct Ended {
    /// `model.wayline.sessions`, …
    pub unique_id: String,
    /// What became of it.
    pub status: Status,
}

impl From<Report> for Told {
    fn from(report: Report) -> Self {
        let Report { metadata, elapsed_time, status, as_of, landed, results, restatements, .. } = report;
        let results = results.into_iter().map(|line| Ended { unique_id: line.unique_id, status: line.status });
        Self { metadata, elapsed_time, status, as_of, landed, results: results.collect(), restatements }
    }
}

impl Told {
    /// As [`Report::outcomes`].
    pub fn outcomes(&self, kind: &str) -> (usize, usize) {
        outcomes(kind, self.results.iter().map(|line| (line.unique_id.as_str(), line.status)))
    }
}

/// Of the steps of a kind, by their ids, how many ended well and how many did not.
fn outcomes<'a>(kind: &str, steps: impl Iterator<Item = (&'a str, Status)>) -> (usize, usize) {
    let (mut well, mut not_well) = (0, 0);
    for (_, status) in steps.filter(|(id, _)| id.split('.').next() == Some(kind)) {
        match status.is_well() {
            true => well += 1,
            false => not_well += 1,
        }
    }
    (well, not_well)
}

/// Head of a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of the report's shape.
    pub format: u32,
    /// Version of wayline.
    pub wayline_version: String,
    /// Id of the run.
    pub invocation_id: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// When it ended, RFC 3339.
    pub generated_at: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Everything that was due is done.
    Success,
    /// Nothing was due.
    NothingNew,
    /// A model, check or mart failed; the others are done.
    Failed,
    /// An error ended the run before its end.
    Error,
}

impl RunStatus {
    /// As in a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::NothingNew => "nothing_new",
            Self::Failed => "failed",
            Self::Error => "error",
        }
    }
}

impl Report {
    /// Models, checks or marts of a kind (`model`, `test`, `mart`) that ended well, and those that did not.
    pub fn outcomes(&self, kind: &str) -> (usize, usize) {
        outcomes(kind, self.results.iter().map(|line| (line.unique_id.as_str(), line.status)))
    }

    /// Whether it failed, and nothing but what a store out of reach made fail.
    pub fn has_failed_for_now(&self) -> bool {
        let mut not_well = self.results.iter().filter(|line| !line.is_well());
        self.status == RunStatus::Failed && not_well.all(|line| line.is_temporary || line.status == Status::Skipped)
    }

    /// Keeps the report in the lake.
    pub async fn save(&self, lake: &Lake) -> Result<()> {
        failpoint("report.before");
        lake.put(&report_path(&self.metadata.invocation_id), serde_json::to_vec_pretty(self)?.into()).await
    }
}

/// A run under way: what its report will tell.
#[derive(Debug)]
pub struct Job {
    /// Id of the run.
    pub run_id: String,
    /// What was asked for.
    pub options: Options,
    /// Logical time, once it is known.
    pub as_of: Option<i64>,
    /// What was landed so far.
    pub landed: Landed,
    /// What was resolved, if identities were.
    pub identity: Option<Resolved>,
    /// Models, checks and marts so far.
    pub results: Vec<NodeResult>,
    /// Checks that could not be run.
    pub skipped_checks: Vec<String>,
    /// Checks that were put off.
    pub put_off_checks: Vec<String>,
    /// Customers whose rows were made anew.
    pub touched_customers: Option<usize>,
    /// Published files that are others than before.
    pub restatements: Vec<Restatement>,
    stages: BTreeMap<String, f64>,
    started: Instant,
    started_at: DateTime<Utc>,
}

impl Job {
    /// Begins a run.
    pub fn begin(options: Options) -> Self {
        let started_at = Utc::now();
        let random = Uuid::new_v4().simple().to_string();
        Self {
            run_id: format!("{}-{}", started_at.format("%Y%m%dT%H%M%SZ"), &random[..8]),
            options,
            as_of: None,
            landed: Landed::default(),
            identity: None,
            results: Vec::new(),
            skipped_checks: Vec::new(),
            put_off_checks: Vec::new(),
            touched_customers: None,
            restatements: Vec::new(),
            stages: BTreeMap::new(),
            started: Instant::now(),
            started_at,
        }
    }

    /// Counts the time since `begun` as a stage's.
    pub fn spent(&mut self, stage: &str, begun: Instant) {
        *self.stages.entry(stage.to_string()).or_default() += begun.elapsed().as_secs_f64();
    }

    /// Whether nothing was done so far.
    pub fn is_idle(&self) -> bool {
        self.landed.batches.is_empty()
            && self.identity.is_none()
            && self.results.is_empty()
            && self.restatements.is_empty()
    }

    /// What the run came to so far, or what it ended with.
    pub fn report(&self, error: Option<&Error>) -> Report {
        let has_failed = self.results.iter().any(|line| !line.is_well());
        Report {
            metadata: Metadata {
                format: 1,
                wayline_version: env!("CARGO_PKG_VERSION").to_string(),
                invocation_id: self.run_id.clone(),
                started_at: self.started_at.to_rfc3339_opts(SecondsFormat::Micros, true),
                generated_at: Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
            },
            args: self.options.clone(),
            elapsed_time: self.started.elapsed().as_secs_f64(),
            status: match (error, has_failed, self.is_idle()) {
                (Some(_), _, _) => RunStatus::Error,
                (None, true, _) => RunStatus::Failed,
                (None, false, true) => RunStatus::NothingNew,
                (None, false, false) => RunStatus::Success,
            },
            error: error.map(ToString::to_string),
            as_of: self.as_of.map(instant),
            landed: self.landed.clone(),
            identity: self.identity.clone(),
            stages: self.stages.clone(),
            peak_memory_bytes: peak_memory(),
            results: self.results.clone(),
            skipped_checks: self.skipped_checks.clone(),
            put_off_checks: self.put_off_checks.clone(),
            touched_customers: self.touched_customers,
            restatements: self.restatements.clone(),
        }
    }
}

impl NodeResult {
    /// Whether it ended well.
    pub fn is_well(&self) -> bool {
        self.status.is_well()
    }
}

/// Path of the report of a run in the lake.
pub fn report_path(run_id: &str) -> String {
    format!("{RUNS}/{run_id}.json")
}

/// Microseconds since 1970 as RFC 3339.
pub fn instant(micros: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(micros)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        .unwrap_or_default()
}

/// RFC 3339 as microseconds since 1970.
pub fn micros(instant: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(instant).ok().map(|time| time.timestamp_micros())
}

/// Peak resident memory of this process, on Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}
