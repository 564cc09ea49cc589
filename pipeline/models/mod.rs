//! Models: SQL files that become tables, ordered by what they read and built when they are stale.

mod additive;
pub mod checks;
pub mod column_lineage;
mod difference;
mod digests;
pub mod given;
pub mod graph;
pub mod header;
mod merge;
pub mod settings;
pub mod update;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use chrono::{DateTime, SecondsFormat, Utc};
use datafusion::prelude::{DataFrame, SessionContext};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

pub use self::difference::{Exchanged, RowCount};
use self::graph::{Graph, Model};
use self::header::{Build, Publish};
use crate::delta::Pages;
use crate::derived::changes::Changes;
use crate::derived::{self, Built, BuiltFrom, Derived, Prints, Stale};
use crate::engine;
use crate::error::{Error, Result};
use crate::workspace::Workspace;

/// What became of a model or check in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Built, published or resolved.
    Success,
    /// A check passed.
    Pass,
    /// A check found offending rows.
    Fail,
    /// It could not be done.
    Error,
    /// Not tried, since something that it reads failed.
    Skipped,
}

impl Status {
    /// Whether what was to be done is done, or what was asked is so.
    pub fn is_well(self) -> bool {
        matches!(self, Self::Success | Self::Pass)
    }
}

/// One line of the run report; the keys are those of dbt's `run_results.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeResult {
    /// `model.wayline.sessions`, `test.wayline.sessions_do_not_overlap`, …
    pub unique_id: String,
    /// What became of it.
    pub status: Status,
    /// Seconds that it took.
    pub execution_time: f64,
    /// Whether the failure may go away by itself: a store out of reach.
    #[serde(skip)]
    pub is_temporary: bool,
    /// When it was done.
    #[serde(default)]
    pub timing: Vec<Timing>,
    /// Why it was done, or what went wrong.
    pub message: String,
    /// Offending rows of a failed check.
    pub failures: Option<usize>,
    /// Rows written.
    pub rows: Option<usize>,
    /// Bytes written.
    pub bytes: Option<u64>,
}

/// When a part of the work was done, RFC 3339.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Timing {
    /// `execute`: dbt's word for all of it.
    pub name: String,
    /// Its beginning.
    pub started_at: String,
    /// Its end.
    pub completed_at: String,
}

/// A model and what the run will do with it.
#[derive(Debug)]
pub struct Planned {
    /// The model.
    pub model: Model,
    /// Why it is built; `None` leaves it as it is.
    pub reason: Option<Stale>,
    built_from: BuiltFrom,
    table: Option<Derived>,
    /// Fingerprint of what the table was built from, once it was changed.
    before: Option<String>,
}

/// The state of the models in a run: results, fingerprints, and which models may be published.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Report lines in order.
    pub results: Vec<NodeResult>,
    /// Models whose rows are in place and whose checks passed.
    pub sound: BTreeSet<String>,
    /// Models that could not be built, and those that read them.
    pub missing: BTreeSet<String>,
    /// Models that failed a check, and those built from them.
    pub failed: BTreeSet<String>,
    /// Checks that could not be run, since they compare tables of which one is outdated or missing.
    pub skipped_checks: Vec<String>,
    /// Checks that were put off, since they would read models whole of which some rows were changed.
    pub put_off_checks: Vec<String>,
    /// Fingerprint of every table as it is.
    pub fingerprints: BTreeMap<String, String>,
    /// Models whose rows were changed and not built whole, and published views whose changed rows are known.
    pub changed: BTreeMap<String, Changed>,
    /// Models that were built whole.
    pub built_whole: BTreeSet<String>,
    /// Customers whose rows were made anew, where models were changed and not built whole.
    pub touched_customers: Option<usize>,
}

/// Where a model was changed.
#[derive(Debug, Default)]
pub struct Changed {
    /// Its fingerprint before.
    pub before: String,
    /// Rows that are gone and new; `None` where all were made, or nobody looked which were there.
    pub rows: Option<RowCount>,
    /// By column of dates: the days of these rows, and those that were asked for.
    pub days: BTreeMap<String, BTreeMap<Option<i32>, RowCount>>,
    /// The rows themselves; `None` where these are not known to be all, or days were asked for.
    pub exchanged: Option<Exchanged>,
}

/// Tables whose logs are read at a time.
const TABLES_AT_ONCE: usize = 8;

/// Folder of a model's table in the lake.
pub fn folder(model: &str) -> String {
    format!("models/{model}")
}

/// Finds out which models are stale, given the prints of landed, identity and settings tables. With a selection, others are left
/// as they are.
pub async fn plan(
    workspace: &Workspace,
    graph: &Graph,
    changes: &Changes,
    prints: &Prints,
    selected: Option<&BTreeSet<String>>,
) -> Result<Vec<Planned>> {
    let mut prints = prints.clone();
    let backfills = changes.backfills();
    let needed = selected.map(|selected| graph.with_upstream(selected));
    let is_needed = |model: &Model| needed.as_ref().is_none_or(|needed| needed.contains(&model.name));
    let kept = graph.models.iter().filter(|model| model.header.build.is_table() && is_needed(model));
    let mut tables = open_tables(workspace, changes, kept).await?;
    let mut planned = Vec::with_capacity(graph.models.len());
    for model in &graph.models {
        let mut built_from = built_from(model, &prints, &backfills);
        let mut reason = None;
        let mut table = None;
        if !is_needed(model) {
            prints.add(&model.name, &built_from);
            continue;
        }
        if model.header.build.is_table() {
            table = tables.remove(&model.name);
            let before = derived::built_from(table.as_ref())?;
            reason = built_from.why_stale(before.as_ref(), settings::is_setting);
            if selected.is_some_and(|selected| !selected.contains(&model.name)) {
                // What is not selected is read as it is, and so it must be there.
                built_from = before.ok_or_else(|| {
                    Error::invalid(format!("model `{}` was never built and is not selected", model.name))
                        .hint("select a model with all that it reads: -s +NAME")
                })?;
                reason = None;
            }
        }
        prints.add(&model.name, &built_from);
        planned.push(Planned { model: model.clone(), reason, built_from, table, before: None });
    }
    Ok(planned)
}

/// Opens the tables of models, several at a time, since each is a matter of waiting for its log.
async fn open_tables<'a>(
    workspace: &Workspace,
    changes: &Changes,
    models: impl Iterator<Item = &'a Model>,
) -> Result<BTreeMap<String, Derived>> {
    let opened = futures::stream::iter(models)
        .map(|model| async move {
            let table = Derived::open(&workspace.lake, changes, &folder(&model.name)).await?;
            Ok::<_, Error>(table.map(|table| (model.name.clone(), table)))
        })
        .buffered(TABLES_AT_ONCE);
    Ok(opened.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
}

/// What a model would be built from now, given the prints of all tables that it reads and the last backfill of each model.
fn built_from(model: &Model, prints: &Prints, backfills: &BTreeMap<String, String>) -> BuiltFrom {
    // A view keeps no rows that could be of a backfill, also where it was a table before.
    let backfill = backfills.get(&model.name).filter(|_| model.header.build.is_table());
    let now = BuiltFrom::now(&model.definition(), &model.reads, &prints.fingerprints);
    now.defined_by(&prints.definitions).with_backfill(backfill)
}

/// The prints that every table would have if all models were up to date, given those of the others and the last backfill of each
/// model.
pub fn up_to_date(graph: &Graph, prints: &Prints, backfills: &BTreeMap<String, String>) -> Prints {
    let mut prints = prints.clone();
    for model in &graph.models {
        let built_from = built_from(model, &prints, backfills);
        prints.add(&model.name, &built_from);
    }
    prints
}

/// Fingerprint that every table has, given the prints of the tables that are no models; none of models that were never
/// built, and of views that read such.
pub async fn as_built(
    workspace: &Workspace,
    graph: &Graph,
    changes: &Changes,
    prints: &Prints,
) -> Result<BTreeMap<String, String>> {
    let mut prints = prints.clone();
    for model in &graph.models {
        let built_from = if model.header.build.is_table() {
            derived::built_from(Derived::open(&workspace.lake, changes, &folder(&model.name)).await?.as_ref())?
        } else if model.reads.iter().all(|read| prints.fingerprints.contains_key(read)) {
            Some(built_from(model, &prints, &BTreeMap::new()))
        } else {
            None
        };
        if let Some(built_from) = built_from {
            prints.add(&model.name, &built_from);
        }
    }
    Ok(prints.fingerprints)
}

/// Names of the models that a selector picks ([`Graph::select`]); asks which are modified only if the selector does.
pub async fn select(
    workspace: &Workspace,
    graph: &Graph,
    changes: &Changes,
    prints: &Prints,
    selector: &str,
) -> Result<BTreeSet<String>> {
    let mut modified = BTreeSet::new();
    if selector.contains(graph::MODIFIED) {
        let planned = plan(workspace, graph, changes, prints, None).await?.into_iter();
        let is_modified = |step: &Planned| step.reason.as_ref().is_some_and(Stale::is_modified);
        modified.extend(planned.filter(is_modified).map(|step| step.model.name));
    }
    graph.select(selector, &modified)
}

/// Builds what is stale, each model as soon as those that it reads are in place, as many at a time as there are threads.
/// `progress` is told each name.
pub async fn build(
    workspace: &Workspace,
    planned: Vec<Planned>,
    outcome: &mut Outcome,
    mut progress: impl FnMut(&str),
) -> Result<()> {
    let threads = workspace.project.config.engine.thread_count();
    let mut open: BTreeSet<String> = planned.iter().map(|step| step.model.name.clone()).collect();
    let mut waiting: Vec<(usize, Planned)> = planned.into_iter().enumerate().collect();
    let mut lines = Vec::new();
    let mut at_work = JoinSet::new();
    while !open.is_empty() {
        let mut at = 0;
        while at < waiting.len() && at_work.len() < threads {
            if waiting[at].1.model.reads.iter().any(|read| open.contains(read)) {
                at += 1;
                continue;
            }
            let (number, step) = waiting.remove(at);
            if let Some(line) = why_not(&step, &outcome.missing) {
                lines.extend(line.map(|line| (number, line)));
                open.remove(&step.model.name);
                outcome.missing.insert(step.model.name);
                at = 0;
                continue;
            }
            progress(&step.model.name);
            let workspace = workspace.clone();
            at_work.spawn(async move {
                let started = Instant::now();
                let built = place(&workspace, &step).await;
                let line = result("model", &step.model.name, Status::Success, started, String::new());
                (number, step, built, line)
            });
        }
        let Some(done) = at_work.join_next().await else { continue };
        let (number, step, built, mut line) =
            done.map_err(|error| Error::internal(format!("a build stopped: {error}")))?;
        let name = step.model.name;
        open.remove(&name);
        outcome.fingerprints.insert(name.clone(), step.built_from.fingerprint());
        match built {
            Ok(built) => {
                if let Some(built) = built {
                    outcome.built_whole.insert(name.clone());
                    (line.rows, line.bytes) = (Some(built.rows), Some(built.bytes));
                    line.message = step.reason.map(|reason| reason.to_string()).unwrap_or_default();
                    tracing::info!(model = name, rows = line.rows, seconds = line.execution_time, "built");
                    lines.push((number, line));
                }
                outcome.sound.insert(name);
            }
            Err(error) => {
                line.fail(&error);
                lines.push((number, line));
                outcome.missing.insert(name);
            }
        }
    }
    lines.sort_by_key(|(number, _)| *number);
    outcome.results.extend(lines.into_iter().map(|(_, line)| line));
    Ok(())
}

/// Whether a step cannot be taken, since it reads what is missing; with the report line of one that was to be built.
fn why_not(step: &Planned, missing: &BTreeSet<String>) -> Option<Option<NodeResult>> {
    let read = step.model.reads.iter().find(|read| missing.contains(*read))?;
    let message = format!("reads {read}, which could not be built");
    match (&step.reason, &step.model.header.build) {
        (Some(_), _) => Some(Some(result("model", &step.model.name, Status::Skipped, Instant::now(), message))),
        (None, Build::View) => Some(None),
        (None, _) => None,
    }
}

/// Makes a model's rows available to those that read it; says what was built.
async fn place(workspace: &Workspace, step: &Planned) -> Result<Option<Built>> {
    let Planned { model, reason, built_from, table, .. } = step;
    let in_its_place = |error: Error| error.context(&model.origin);
    let mut built = None;
    let mut table = table.clone();
    if model.header.build.is_table() && reason.is_some() {
        let folder = &folder(&model.name);
        let before = table.as_ref().map(|table| &table.table);
        // Nobody outside reads all of it, and each batch looks up the rows of touched customers.
        let is_looked_up = model.header.publish == Publish::No && matches!(model.header.build, Build::ByCustomer(_));
        let pages = if is_looked_up { Pages::Small } else { Pages::Large };
        let build = |ctx: SessionContext| async move {
            let frame = table_rows(&ctx, model).await?;
            derived::build::build(&workspace.lake, folder, before, frame, built_from, pages).await
        };
        built = Some(engine::within_memory(&workspace.ctx, build).await.map_err(in_its_place)?);
        // What was built whole has nothing over it.
        table = Derived::open(&workspace.lake, &Changes::default(), folder).await?;
    }
    if !register_model(&workspace.ctx, model, table.as_ref()).await.map_err(in_its_place)? {
        let name = &model.name;
        let never = Error::invalid(format!("model `{name}` was never built"));
        return Err(never.hint(format!("build it with -s +{name}")));
    }
    Ok(built)
}

/// The rows of a model, made of the tables of a session.
async fn table_rows(ctx: &SessionContext, model: &Model) -> Result<DataFrame> {
    let frame = engine::query(ctx, &model.sql).await?;
    match &model.header.build {
        Build::BySum(count) => additive::summed(frame, &model.header.grain, count),
        _ => Ok(frame),
    }
}

/// Registers a model as it stands: its table, or a view over what it reads. Says whether it is there: a table that was
/// never built is not.
async fn register_model(ctx: &SessionContext, model: &Model, table: Option<&Derived>) -> Result<bool> {
    let provider = match (&model.header.build, table) {
        (Build::View, _) => engine::query(ctx, &model.sql).await.map(|query| Some(query.into_view())),
        (_, Some(table)) => table.provider(ctx).await.map(Some),
        (_, None) => Ok(None),
    };
    // Others may ask for it meanwhile.
    ctx.deregister_table(model.name.as_str())?;
    let Some(provider) = provider? else { return Ok(false) };
    ctx.register_table(model.name.as_str(), provider)?;
    Ok(true)
}

/// Registers a model that may be missing: a view over what was never built is left out as well.
async fn register_if_there(ctx: &SessionContext, model: &Model, table: Option<&Derived>) -> Result<()> {
    match register_model(ctx, model, table).await {
        Err(error) if model.header.build.is_table() => Err(error),
        _ => Ok(()),
    }
}

/// Registers all models for reading: tables as they were built last, views over them. What was never built, or reads
/// such, is left out.
pub async fn register(workspace: &Workspace, graph: &Graph, changes: &Changes) -> Result<()> {
    let mut tables = Vec::with_capacity(graph.models.len());
    for model in &graph.models {
        tables.push(match model.header.build.is_table() {
            true => Derived::open(&workspace.lake, changes, &folder(&model.name)).await?,
            false => None,
        });
    }
    derived::make_ready(&workspace.ctx, tables.iter().flatten()).await?;
    for (model, table) in graph.models.iter().zip(&tables) {
        register_if_there(&workspace.ctx, model, table.as_ref()).await?;
    }
    Ok(())
}

impl NodeResult {
    /// Says that it ended with an error.
    pub fn fail(&mut self, error: &Error) {
        (self.status, self.message) = (Status::Error, error.to_string());
        self.is_temporary = error.is_temporary();
    }
}

/// A report line.
pub fn result(kind: &str, name: &str, status: Status, started: Instant, message: String) -> NodeResult {
    let (took, completed_at) = (started.elapsed(), Utc::now());
    let instant = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    NodeResult {
        unique_id: format!("{kind}.wayline.{name}"),
        status,
        execution_time: took.as_secs_f64(),
        is_temporary: false,
        timing: vec![Timing {
            name: "execute".into(),
            started_at: instant(completed_at - took),
            completed_at: instant(completed_at),
        }],
        message,
        failures: None,
        rows: None,
        bytes: None,
    }
}
