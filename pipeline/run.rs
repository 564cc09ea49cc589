//! The main job: land, resolve, build, check, publish. Safe to repeat at any time; without news it writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use chrono::{DateTime, SecondsFormat, Utc};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::datasource::empty::EmptyTable;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::delta::Table;
use crate::error::{Context, Result};
use crate::identity::stage as identity;
use crate::landing::events::{DEAD_LETTER_SCHEMA, DEAD_LETTERS, EVENT_SCHEMA, EVENTS};
use crate::landing::ledger::Entry;
use crate::landing::{self, Landed};
use crate::marts::{self, Edition};
use crate::models::graph::Graph;
use crate::models::{self, NodeResult, Outcome, Planned, Status, settings};
use crate::workspace::Workspace;

/// Folder of the run reports in the lake.
const RUNS: &str = "runs";
/// The table of run reports; it alone would never be up to date, so it is rebuilt when something else is.
const RUN_RESULTS: &str = "run_results";

/// What to do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Options {
    /// Name of the command, for the report.
    pub command: String,
    /// Logical time in microseconds since 1970; by default the newest event.
    pub as_of: Option<i64>,
    /// Models to build, as a selector; by default all.
    pub select: Option<String>,
    /// Whether to land.
    pub land: bool,
    /// Whether to resolve, build, check and publish.
    pub build: bool,
}

/// What a run did; kept as `runs/<run_id>.json`. `metadata`, `args`, `elapsed_time` and `results` are as in dbt's
/// `run_results.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Who wrote the report, and when.
    pub metadata: Metadata,
    /// What was asked for.
    pub args: Options,
    /// Seconds of the whole run.
    pub elapsed_time: f64,
    /// `success` or `failed`; `nothing_new` when nothing was done.
    pub status: &'static str,
    /// Logical time, RFC 3339.
    pub as_of: Option<String>,
    /// What was landed.
    pub landed: Landed,
    /// What was resolved, if identities were.
    pub identity: Option<identity::Resolved>,
    /// Seconds by stage.
    pub stages: BTreeMap<&'static str, f64>,
    /// Peak memory of the process in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Models, checks and marts.
    pub results: Vec<NodeResult>,
}

/// Head of a report.
#[derive(Debug, Clone, Serialize)]
pub struct Metadata {
    /// Version of the report's shape.
    pub format: u32,
    /// Version of wayline.
    pub wayline_version: &'static str,
    /// Id of the run.
    pub invocation_id: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// When it ended, RFC 3339.
    pub generated_at: String,
}

impl Report {
    /// Whether a step or check failed.
    pub fn has_failed(&self) -> bool {
        self.status == "failed"
    }
}

/// Receives what a person watching may want to see.
pub trait Progress {
    /// A stage begins.
    fn stage(&mut self, name: &str);
    /// A step of the stage begins.
    fn step(&mut self, name: &str);
    /// So many bytes of source files are done.
    fn bytes(&mut self, bytes: u64);
}

/// What is known of the registered tables.
pub struct Tables {
    /// Fingerprint by table.
    pub fingerprints: BTreeMap<String, String>,
    /// Names of the settings tables.
    pub settings: BTreeSet<String>,
    /// Logical time.
    pub as_of: Option<i64>,
}

/// Runs a job. The report is written only if something was done.
pub async fn run(workspace: &Workspace, options: Options, progress: &mut dyn Progress) -> Result<Report> {
    let started = Instant::now();
    let started_at = Utc::now();
    let run_id = format!("{}-{}", started_at.format("%Y%m%dT%H%M%SZ"), &Uuid::new_v4().simple().to_string()[..8]);
    let mut stages = BTreeMap::new();

    let mut landed = Landed::default();
    if options.land {
        let begun = Instant::now();
        progress.stage("land");
        landed = landing::land(workspace, &mut |bytes| progress.bytes(bytes)).await?;
        stages.insert("land", begun.elapsed().as_secs_f64());
    }

    let mut resolved = None;
    let mut results = Vec::new();
    let mut as_of = None;
    if options.build {
        let tables = register_tables(workspace, options.as_of).await?;
        as_of = tables.as_of;
        let events = tables.fingerprints["events"].clone();
        if let Some(reason) = identity::why_stale(workspace, &events).await? {
            let begun = Instant::now();
            progress.stage("resolve");
            let summary = identity::run(workspace, &events, reason).await?;
            identity::register(workspace).await?;
            stages.insert("resolve", begun.elapsed().as_secs_f64());
            resolved = Some(summary);
        }
        let graph = Graph::load(&workspace.ctx, &workspace.project.folder.join("queries"))?;
        let fingerprints = with_run_results(tables.fingerprints, &graph);
        let selected = options.select.as_deref().map(|selector| graph.select(selector)).transpose()?;
        let (late, early): (Vec<Planned>, Vec<Planned>) =
            models::plan(workspace, &graph, &fingerprints, &tables.settings, selected.as_ref())
                .await?
                .into_iter()
                .partition(|step| step.model.reads.iter().any(|read| read == RUN_RESULTS));

        let begun = Instant::now();
        progress.stage("build");
        let mut outcome = models::build(workspace, early, &fingerprints, |name| progress.step(name)).await?;
        if late.iter().any(|step| step.reason.is_some()) {
            let row = run_row(&run_id, started_at, started, as_of, &landed, &outcome.results);
            register_run_results(workspace, &[row]).await?;
        }
        outcome
            .extend(models::build(workspace, late, &outcome.fingerprints.clone(), |name| progress.step(name)).await?);
        stages.insert("build", begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        progress.stage("check");
        models::check(workspace, &graph, &mut outcome, |name| progress.step(name)).await?;
        stages.insert("check", begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        progress.stage("publish");
        let edition = Edition { run_id: run_id.clone(), as_of: as_of.map(instant) };
        let published = marts::publish(workspace, &graph, &outcome, &edition, |name| progress.step(name)).await?;
        stages.insert("publish", begun.elapsed().as_secs_f64());
        results = std::mem::take(&mut outcome.results);
        results.extend(published);
    }

    let is_idle = landed.batches.is_empty() && resolved.is_none() && results.is_empty();
    let has_failed = results.iter().any(|line| !matches!(line.status, Status::Success | Status::Pass));
    let report = Report {
        metadata: Metadata {
            format: 1,
            wayline_version: env!("CARGO_PKG_VERSION"),
            invocation_id: run_id.clone(),
            started_at: started_at.to_rfc3339_opts(SecondsFormat::Micros, true),
            generated_at: Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
        },
        args: options,
        elapsed_time: started.elapsed().as_secs_f64(),
        status: match (has_failed, is_idle) {
            (true, _) => "failed",
            (false, true) => "nothing_new",
            (false, false) => "success",
        },
        as_of: as_of.map(instant),
        landed,
        identity: resolved,
        stages,
        peak_memory_bytes: peak_memory(),
        results,
    };
    if !is_idle {
        workspace.lake.put(&format!("{RUNS}/{run_id}.json"), serde_json::to_vec_pretty(&report)?.into()).await?;
    }
    Ok(report)
}

/// What a run would do: files to land by source, and each stale model with its reason. Nothing is written.
pub async fn dry_run(workspace: &Workspace, options: &Options) -> Result<Vec<(String, String, String)>> {
    let mut steps = Vec::new();
    let mut tables = register_tables(workspace, options.as_of).await?;
    if options.land {
        for (source, path, bytes) in landing::pending(workspace).await? {
            steps.push(("land".to_string(), format!("{source}: {path}"), format!("{bytes} bytes")));
        }
        if !steps.is_empty() {
            for table in ["events", "dead_letters", "batches"] {
                tables.fingerprints.insert(table.into(), "after landing".into());
            }
            tables.fingerprints.extend(identity::fingerprints(workspace, "after landing")?);
        }
    }
    if options.build {
        let events = tables.fingerprints["events"].clone();
        if let Some(reason) = identity::why_stale(workspace, &events).await? {
            steps.push(("resolve".into(), "identity".into(), reason));
        }
        let graph = Graph::load(&workspace.ctx, &workspace.project.folder.join("queries"))?;
        let fingerprints = with_run_results(tables.fingerprints, &graph);
        let selected = options.select.as_deref().map(|selector| graph.select(selector)).transpose()?;
        let planned = models::plan(workspace, &graph, &fingerprints, &tables.settings, selected.as_ref()).await?;
        for step in planned {
            if let Some(reason) = step.reason {
                steps.push(("build".into(), step.model.name, reason));
            }
        }
    }
    Ok(steps)
}

/// Registers landed, identity, settings and system tables, and returns their fingerprints.
pub async fn register_tables(workspace: &Workspace, as_of: Option<i64>) -> Result<Tables> {
    let last = landing::last_batch(workspace).await?;
    let entries = Entry::load_all(&workspace.lake, last).await?;
    let newest = entries.iter().filter_map(|entry| entry.newest_occurred_at).max();
    let as_of = as_of.or(newest);

    register_delta(workspace, "events", EVENTS, &EVENT_SCHEMA).await?;
    register_delta(workspace, "dead_letters", DEAD_LETTERS, &DEAD_LETTER_SCHEMA).await?;
    register_batch(workspace, "batches", batches(&entries)?)?;
    register_run_results(workspace, &[]).await?;
    let mut fingerprints = settings::register(&workspace.ctx, &workspace.project.config, as_of)?;
    let settings = fingerprints.keys().cloned().collect();
    let landed = format!("batch {last}");
    for table in ["events", "dead_letters", "batches"] {
        fingerprints.insert(table.into(), landed.clone());
    }
    fingerprints.extend(identity::fingerprints(workspace, &landed)?);
    identity::register(workspace).await?;
    Ok(Tables { fingerprints, settings, as_of })
}

/// Registers every table and model for reading; models that were never built are left out.
pub async fn register_everything(workspace: &Workspace, as_of: Option<i64>) -> Result<Tables> {
    let tables = register_tables(workspace, as_of).await?;
    let graph = Graph::load(&workspace.ctx, &workspace.project.folder.join("queries"))?;
    models::register(workspace, &graph).await?;
    Ok(tables)
}

async fn register_delta(workspace: &Workspace, name: &str, folder: &str, schema: &SchemaRef) -> Result<()> {
    let provider: Arc<dyn TableProvider> = match Table::open(&workspace.lake, folder).await? {
        Some(table) => table.provider(&workspace.lake, folder)?,
        None => Arc::new(EmptyTable::new(schema.clone())),
    };
    workspace.ctx.deregister_table(name)?;
    workspace.ctx.register_table(name, provider)?;
    Ok(())
}

fn register_batch(workspace: &Workspace, name: &str, batch: RecordBatch) -> Result<()> {
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    workspace.ctx.deregister_table(name)?;
    workspace.ctx.register_table(name, Arc::new(table))?;
    Ok(())
}

/// One row per batch and source.
fn batches(entries: &[Entry]) -> Result<RecordBatch> {
    let rows: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.sources.iter().map(move |(name, counts)| (entry, name, counts)))
        .collect();
    let numbers = |pick: fn(&landing::ledger::Counts) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, _, counts)| pick(counts).cast_signed())))
    };
    let planned = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(entry, _, _)| entry.planned_at));
    Ok(RecordBatch::try_from_iter([
        ("batch", Arc::new(Int64Array::from_iter_values(rows.iter().map(|(entry, _, _)| entry.batch))) as ArrayRef),
        ("source", Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, name, _)| name)))),
        ("planned_at", Arc::new(planned.with_timezone("UTC"))),
        ("files", numbers(|counts| counts.files)),
        ("bytes", numbers(|counts| counts.bytes)),
        ("rows_in", numbers(|counts| counts.rows_in)),
        ("landed", numbers(|counts| counts.landed)),
        ("duplicates", numbers(|counts| counts.duplicates)),
        ("dead_letters", numbers(|counts| counts.dead_letters)),
    ])?)
}

/// The table of runs is as fresh as everything else: its fingerprint is made of all others and of all statements.
fn with_run_results(mut fingerprints: BTreeMap<String, String>, graph: &Graph) -> BTreeMap<String, String> {
    let mut hasher = Sha256::new();
    for (name, fingerprint) in &fingerprints {
        hasher.update(format!("{name}={fingerprint}\n"));
    }
    for model in graph.models.iter().filter(|model| !model.reads.iter().any(|read| read == RUN_RESULTS)) {
        hasher.update(&model.sql);
    }
    fingerprints.insert(RUN_RESULTS.into(), hex::encode(&hasher.finalize()[..16]));
    fingerprints
}

/// One row of `run_results`.
#[derive(Debug, Clone, Default)]
pub struct RunRow {
    run_id: String,
    started_at: Option<i64>,
    completed_at: Option<i64>,
    as_of: Option<i64>,
    status: String,
    counts: [i64; 6],
    elapsed_seconds: f64,
}

/// The parts of a report that `run_results` shows.
#[derive(Deserialize)]
struct KeptReport {
    metadata: KeptMetadata,
    elapsed_time: f64,
    status: String,
    as_of: Option<String>,
    landed: KeptLanded,
    results: Vec<NodeResult>,
}

#[derive(Deserialize)]
struct KeptMetadata {
    invocation_id: String,
    started_at: String,
    generated_at: String,
}

#[derive(Deserialize)]
struct KeptLanded {
    sources: BTreeMap<String, landing::ledger::Counts>,
}

fn counts<'a>(sources: impl Iterator<Item = &'a landing::ledger::Counts>, results: &[NodeResult]) -> [i64; 6] {
    let mut total = landing::ledger::Counts::default();
    sources.for_each(|counts| total.add(counts));
    let count = |kind: &str, statuses: &[Status]| {
        results.iter().filter(|line| line.unique_id.starts_with(kind) && statuses.contains(&line.status)).count() as i64
    };
    [
        total.landed.cast_signed(),
        total.duplicates.cast_signed(),
        total.dead_letters.cast_signed(),
        count("model.", &[Status::Success]),
        count("model.", &[Status::Error, Status::Skipped]),
        count("test.", &[Status::Fail, Status::Error]),
    ]
}

fn run_row(
    run_id: &str,
    started_at: DateTime<Utc>,
    started: Instant,
    as_of: Option<i64>,
    landed: &Landed,
    results: &[NodeResult],
) -> RunRow {
    let has_failed = results.iter().any(|line| !matches!(line.status, Status::Success | Status::Pass));
    RunRow {
        run_id: run_id.into(),
        started_at: Some(started_at.timestamp_micros()),
        completed_at: Some(Utc::now().timestamp_micros()),
        as_of,
        status: if has_failed { "failed" } else { "success" }.into(),
        counts: counts(landed.sources.values(), results),
        elapsed_seconds: started.elapsed().as_secs_f64(),
    }
}

fn micros(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
}

/// Registers the kept run reports as a table, and with them runs that are not written yet.
async fn register_run_results(workspace: &Workspace, extra: &[RunRow]) -> Result<()> {
    let mut rows = Vec::new();
    for object in workspace.lake.list(RUNS).await? {
        let Some(path) = workspace.lake.relative(&object.location) else { continue };
        let Some(bytes) = workspace.lake.get(&path).await? else { continue };
        let kept: KeptReport = serde_json::from_slice(&bytes).context(&path)?;
        rows.push(RunRow {
            run_id: kept.metadata.invocation_id,
            started_at: micros(&kept.metadata.started_at),
            completed_at: micros(&kept.metadata.generated_at),
            as_of: kept.as_of.as_deref().and_then(micros),
            status: kept.status,
            counts: counts(kept.landed.sources.values(), &kept.results),
            elapsed_seconds: kept.elapsed_time,
        });
    }
    rows.extend_from_slice(extra);
    let texts =
        |pick: fn(&RunRow) -> &String| Arc::new(StringArray::from_iter_values(rows.iter().map(pick))) as ArrayRef;
    let times = |pick: fn(&RunRow) -> Option<i64>| {
        Arc::new(rows.iter().map(pick).collect::<TimestampMicrosecondArray>().with_timezone("UTC")) as ArrayRef
    };
    let count =
        |index: usize| Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.counts[index]))) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("run_id", texts(|row| &row.run_id)),
        ("started_at", times(|row| row.started_at)),
        ("completed_at", times(|row| row.completed_at)),
        ("as_of", times(|row| row.as_of)),
        ("status", texts(|row| &row.status)),
        ("landed", count(0)),
        ("duplicates", count(1)),
        ("dead_letters", count(2)),
        ("models_built", count(3)),
        ("models_failed", count(4)),
        ("checks_failed", count(5)),
        ("elapsed_seconds", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.elapsed_seconds)))),
    ])?;
    register_batch(workspace, RUN_RESULTS, batch)
}

fn instant(micros: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(micros)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true))
        .unwrap_or_default()
}

/// Peak resident memory of this process, on Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

impl Outcome {
    /// Adds what came of further models.
    fn extend(&mut self, other: Self) {
        self.results.extend(other.results);
        self.sound.extend(other.sound);
        self.missing.extend(other.missing);
        self.fingerprints.extend(other.fingerprints);
    }
}
