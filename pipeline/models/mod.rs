//! Models: SQL files that become tables, ordered by what they read and built when they are stale.

pub mod build;
pub mod graph;
pub mod header;
pub mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::TableProvider;
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use self::graph::{Graph, Model};
use self::header::Build;
use crate::delta::Table;
use crate::derived::{self, Built, BuiltFrom, Stale};
use crate::error::{Error, Result};
use crate::workspace::Workspace;

/// Where the checks that passed are kept, with what they were run on.
const CHECKED: &str = "models/checked.json";
/// Offending rows shown of a failed check.
const EXAMPLES: usize = 3;

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

/// One line of the run report; the keys are those of dbt's `run_results.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeResult {
    /// `model.wayline.sessions`, `test.wayline.sessions_do_not_overlap`, …
    pub unique_id: String,
    /// What became of it.
    pub status: Status,
    /// Seconds that it took.
    pub execution_time: f64,
    /// Why it was done, or what went wrong.
    pub message: String,
    /// Offending rows of a failed check.
    pub failures: Option<usize>,
    /// Rows written.
    pub rows: Option<usize>,
    /// Bytes written.
    pub bytes: Option<u64>,
}

/// A model and what the run will do with it.
#[derive(Debug)]
pub struct Planned {
    /// The model.
    pub model: Model,
    /// Why it is built; `None` leaves it as it is.
    pub reason: Option<Stale>,
    built_from: BuiltFrom,
    table: Option<Table>,
}

/// The state of the models after a run: results, fingerprints, and which models may be published.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Report lines in order.
    pub results: Vec<NodeResult>,
    /// Models whose rows are in place and whose checks passed.
    pub sound: BTreeSet<String>,
    /// Models that could not be built, and those that read them.
    pub missing: BTreeSet<String>,
    /// Fingerprint of every table.
    pub fingerprints: BTreeMap<String, String>,
}

/// Folder of a model's table in the lake.
pub fn folder(model: &str) -> String {
    format!("models/{model}")
}

/// Finds out which models are stale. `fingerprints` holds those of landed, identity and settings tables; `settings`
/// names the last ones. With a selection, others are left as they are.
pub async fn plan(
    workspace: &Workspace,
    graph: &Graph,
    fingerprints: &BTreeMap<String, String>,
    settings: &BTreeSet<String>,
    selected: Option<&BTreeSet<String>>,
) -> Result<Vec<Planned>> {
    let mut fingerprints = fingerprints.clone();
    let needed = selected.map(|selected| graph.with_upstream(selected));
    let mut planned = Vec::with_capacity(graph.models.len());
    for model in &graph.models {
        for read in &model.reads {
            if !fingerprints.contains_key(read) {
                return Err(Error::invalid(format!("{}: reads `{read}`, which is no table or model", model.origin)));
            }
        }
        let mut built_from = BuiltFrom::now(&model.sql, &model.reads, &fingerprints);
        let mut reason = None;
        let mut table = None;
        if needed.as_ref().is_some_and(|needed| !needed.contains(&model.name)) {
            fingerprints.insert(model.name.clone(), built_from.fingerprint());
            continue;
        }
        if model.header.build == Build::Full {
            table = Table::open(&workspace.lake, &folder(&model.name)).await?;
            let before = derived::built_from(table.as_ref())?;
            reason = built_from.why_stale(before.as_ref(), |name| settings.contains(name));
            if selected.is_some_and(|selected| !selected.contains(&model.name)) {
                // What is not selected is read as it is, and so it must be there.
                built_from = before.ok_or_else(|| {
                    Error::invalid(format!("model `{}` was never built and is not selected", model.name))
                        .hint("select a model with all that it reads: -s +NAME")
                })?;
                reason = None;
            }
        }
        fingerprints.insert(model.name.clone(), built_from.fingerprint());
        planned.push(Planned { model: model.clone(), reason, built_from, table });
    }
    Ok(planned)
}

/// Names of the models that a selector picks ([`Graph::select`]); asks which are modified only if the selector does.
pub async fn select(
    workspace: &Workspace,
    graph: &Graph,
    fingerprints: &BTreeMap<String, String>,
    settings: &BTreeSet<String>,
    selector: &str,
) -> Result<BTreeSet<String>> {
    let mut modified = BTreeSet::new();
    if selector.contains(graph::MODIFIED) {
        let planned = plan(workspace, graph, fingerprints, settings, None).await?.into_iter();
        let is_modified = |step: &Planned| step.reason.as_ref().is_some_and(Stale::is_modified);
        modified.extend(planned.filter(is_modified).map(|step| step.model.name));
    }
    graph.select(selector, &modified)
}

/// Builds what is stale: in waves of models that do not read each other, as many at a time as there are threads.
/// `progress` is told each name.
pub async fn build(
    workspace: &Workspace,
    planned: Vec<Planned>,
    outcome: &mut Outcome,
    mut progress: impl FnMut(&str),
) -> Result<()> {
    let threads = workspace.project.config.engine.thread_count();
    let mut waiting = planned;
    while !waiting.is_empty() {
        let names: BTreeSet<String> = waiting.iter().map(|step| step.model.name.clone()).collect();
        let (ready, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|step| !step.model.reads.iter().any(|read| names.contains(read)));
        waiting = rest;
        let mut wave = Vec::with_capacity(ready.len());
        for step in ready {
            match step.model.reads.iter().find(|read| outcome.missing.contains(*read)) {
                Some(read) if step.reason.is_some() || step.model.header.build == Build::View => {
                    if step.reason.is_some() {
                        let message = format!("reads {read}, which could not be built");
                        outcome.results.push(result(
                            "model",
                            &step.model.name,
                            Status::Skipped,
                            Instant::now(),
                            message,
                        ));
                    }
                    outcome.missing.insert(step.model.name);
                }
                _ => wave.push(step),
            }
        }
        let mut placed = futures::stream::iter(wave)
            .map(|step| {
                progress(&step.model.name);
                let workspace = workspace.clone();
                tokio::spawn(async move {
                    let started = Instant::now();
                    let built = place(&workspace, &step).await;
                    let mut line = result("model", &step.model.name, Status::Success, started, String::new());
                    (line.rows, line.bytes) = match &built {
                        Ok(Some(built)) => (Some(built.rows), Some(built.bytes)),
                        _ => (None, None),
                    };
                    (step, built.map(|built| built.is_some()), line)
                })
            })
            .buffered(threads);
        while let Some(done) = placed.next().await {
            let (step, built, mut line) = done.map_err(|error| Error::internal(format!("a build stopped: {error}")))?;
            let name = step.model.name;
            outcome.fingerprints.insert(name.clone(), step.built_from.fingerprint());
            match built {
                Ok(is_built) => {
                    if is_built {
                        line.message = step.reason.map(|reason| reason.to_string()).unwrap_or_default();
                        tracing::info!(model = name, rows = line.rows, seconds = line.execution_time, "built");
                        outcome.results.push(line);
                    }
                    outcome.sound.insert(name);
                }
                Err(error) => {
                    (line.status, line.message) = (Status::Error, error.to_string());
                    outcome.results.push(line);
                    outcome.missing.insert(name);
                }
            }
        }
    }
    Ok(())
}

/// Makes a model's rows available to those that read it; says what was built.
async fn place(workspace: &Workspace, step: &Planned) -> Result<Option<Built>> {
    let ctx = &workspace.ctx;
    let name = step.model.name.as_str();
    ctx.deregister_table(name)?;
    if step.model.header.build == Build::View {
        let view =
            ctx.sql(&step.model.sql).await.map_err(Error::from).map_err(|error| error.context(&step.model.origin))?;
        ctx.register_table(name, view.into_view())?;
        return Ok(None);
    }
    let folder = folder(name);
    let mut built = None;
    if step.reason.is_some() {
        let frame =
            ctx.sql(&step.model.sql).await.map_err(Error::from).map_err(|error| error.context(&step.model.origin))?;
        let rows = build::build(&workspace.lake, &folder, step.table.as_ref(), frame, &step.built_from).await;
        built = Some(rows.map_err(|error| error.context(&step.model.origin))?);
    }
    if let Some(provider) = provider(workspace, name).await? {
        ctx.register_table(name, provider)?;
    } else {
        return Err(Error::invalid(format!("model `{name}` was never built")).hint(format!("build it with -s +{name}")));
    }
    Ok(built)
}

/// The newest version of a model's table.
pub async fn provider(workspace: &Workspace, model: &str) -> Result<Option<std::sync::Arc<dyn TableProvider>>> {
    let folder = folder(model);
    match Table::open(&workspace.lake, &folder).await? {
        Some(table) => Ok(Some(table.provider(&workspace.lake, &folder)?)),
        None => Ok(None),
    }
}

/// Runs the rules of models, and checks, unless they passed on the same tables before: those for which `is_due` of the
/// models that fail with them. Models that fail one are not sound any more.
pub async fn check(
    workspace: &Workspace,
    graph: &Graph,
    outcome: &mut Outcome,
    is_due: impl Fn(&BTreeSet<String>) -> bool,
    mut progress: impl FnMut(&str),
) -> Result<()> {
    let kept = workspace.lake.get(CHECKED).await?;
    let mut passed: BTreeMap<String, String> =
        kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let before = passed.clone();
    let mut due = Vec::new();
    for model in graph.models.iter().filter(|model| outcome.sound.contains(&model.name)) {
        for rule in &model.header.checks {
            due.push(Due {
                name: format!("{}.{rule}", model.name),
                sql: rule.query(&model.name),
                on: outcome.fingerprints[&model.name].clone(),
                fails: BTreeSet::from([model.name.clone()]),
            });
        }
    }
    let is_there = |read: &String| graph.model(read).is_none() || outcome.sound.contains(read);
    for check in graph.checks.iter().filter(|check| check.reads.iter().all(is_there)) {
        due.push(Due {
            name: check.name.clone(),
            sql: check.sql.clone(),
            on: BuiltFrom::now(&check.sql, &check.reads, &outcome.fingerprints).fingerprint(),
            fails: check.reads.iter().cloned().collect(),
        });
    }
    due.retain(|due| is_due(&due.fails) && passed.get(&due.name) != Some(&due.on));
    let mut failed = BTreeSet::new();
    let threads = workspace.project.config.engine.thread_count();
    let mut lines = futures::stream::iter(due)
        .map(|due| {
            progress(&due.name);
            let workspace = workspace.clone();
            tokio::spawn(async move { (run_check(&workspace, &due.name, &due.sql).await, due) })
        })
        .buffered(threads);
    while let Some(done) = lines.next().await {
        let (line, due) = done.map_err(|error| Error::internal(format!("a check stopped: {error}")))?;
        if line.status == Status::Pass {
            passed.insert(due.name, due.on);
        } else {
            passed.remove(&due.name);
            failed.extend(due.fails);
        }
        outcome.results.push(line);
    }
    drop(lines);
    outcome.sound.retain(|name| !failed.contains(name));
    if passed != before {
        workspace.lake.put(CHECKED, serde_json::to_vec_pretty(&passed)?.into()).await?;
    }
    Ok(())
}

/// A check that must run.
struct Due {
    name: String,
    sql: String,
    /// Fingerprint of what it runs on.
    on: String,
    /// Models that are not sound if it fails.
    fails: BTreeSet<String>,
}

/// Registers all models for reading: tables as they were built last, views over them. What was never built, or reads
/// such, is left out.
pub async fn register(workspace: &Workspace, graph: &Graph) -> Result<()> {
    let ctx = &workspace.ctx;
    for model in &graph.models {
        ctx.deregister_table(model.name.as_str())?;
        if model.header.build == Build::View {
            if let Ok(view) = ctx.sql(&model.sql).await {
                ctx.register_table(model.name.as_str(), view.into_view())?;
            }
        } else if let Some(provider) = provider(workspace, &model.name).await? {
            ctx.register_table(model.name.as_str(), provider)?;
        }
    }
    Ok(())
}

/// Runs every rule and check whose tables are there, and keeps no record of it.
pub async fn run_all_checks(workspace: &Workspace, graph: &Graph) -> Result<Vec<NodeResult>> {
    let ctx = &workspace.ctx;
    let mut results = Vec::new();
    for model in &graph.models {
        if ctx.table_exist(model.name.as_str())? {
            for rule in &model.header.checks {
                results.push(run_check(workspace, &format!("{}.{rule}", model.name), &rule.query(&model.name)).await);
            }
        }
    }
    for check in &graph.checks {
        if check.reads.iter().all(|read| ctx.table_exist(read.as_str()).unwrap_or(false)) {
            results.push(run_check(workspace, &check.name, &check.sql).await);
        }
    }
    Ok(results)
}

/// Runs a query that must return no rows.
pub async fn run_check(workspace: &Workspace, name: &str, sql: &str) -> NodeResult {
    let started = Instant::now();
    let offending = async {
        let frame = workspace.ctx.sql(sql).await?;
        let count = frame.clone().count().await?;
        let examples = if count > 0 { frame.limit(0, Some(EXAMPLES))?.collect().await? } else { Vec::new() };
        Ok::<_, Error>((count, examples))
    };
    match offending.await {
        Ok((0, _)) => result("test", name, Status::Pass, started, String::new()),
        Ok((count, examples)) => {
            let shown = pretty_format_batches(&examples).map(|table| table.to_string()).unwrap_or_default();
            let mut line =
                result("test", name, Status::Fail, started, format!("{count} offending rows, for example\n{shown}"));
            line.failures = Some(count);
            line
        }
        Err(error) => result("test", name, Status::Error, started, error.to_string()),
    }
}

/// A report line.
pub fn result(kind: &str, name: &str, status: Status, started: Instant, message: String) -> NodeResult {
    NodeResult {
        unique_id: format!("{kind}.wayline.{name}"),
        status,
        execution_time: started.elapsed().as_secs_f64(),
        message,
        failures: None,
        rows: None,
        bytes: None,
    }
}
