//! The main job: land, resolve, build, check, publish. Safe to repeat at any time; without news it writes nothing.

mod advance;
pub mod backfill;
pub mod dbt;
mod lineage;
pub mod report;
mod restatements;
mod run_results;
pub mod tables;
mod told_by_reports;
mod touched;

use std::collections::BTreeSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use self::advance::{Advance, advance};
use self::backfill::Backfill;
use self::report::{Job, instant};
pub use self::report::{Report, RunStatus};
use self::tables::{LAST_FAILED, load_graph, models_of_runs, register_run_results, register_tables, with_run_results};
pub use self::tables::{Tables, register_everything};
use crate::derived::Prints;
use crate::derived::changes::Changes;
use crate::derived::fold::{Which, fold, sweep};
use crate::derived::window::Window;
use crate::error::Result;
use crate::identity::stage as identity;
use crate::landing;
use crate::marts::{self, Ahead, Edition, Published};
use crate::models::checks::{self, Checked, Scope};
use crate::models::graph::{Graph, Model};
use crate::models::update::{News, Told, update};
use crate::models::{self, Outcome, Planned};
use crate::workspace::Workspace;

/// Bytes of tables that a run folds. Tables get their changes together, and would all be written anew by the same run
/// while new events wait.
const FOLDED_AT_ONCE: u64 = 64 << 20;

/// What to do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// What is checked of models that were changed and not built whole.
    #[serde(default)]
    pub checks: Scope,
    /// Window whose rows are made anew, whether anything has changed or not.
    #[serde(default)]
    pub backfill: Option<Window>,
}

/// Receives what a person watching may want to see.
pub trait Progress {
    /// A stage begins.
    fn stage(&mut self, name: &str);
    /// A step of the stage begins.
    fn step(&mut self, name: &str);
    /// `done` of the `total` bytes of a batch's files are read.
    fn read(&mut self, done: u64, total: u64);
}

/// Runs a job. Its report is written if something was done, also when an error ended it.
pub async fn run(workspace: &Workspace, options: Options, progress: &mut dyn Progress) -> Result<Report> {
    let (report, outcome) = attempt(workspace, options, progress).await;
    outcome.map(|()| report)
}

/// Runs a job as [`run`] does, and gives the report also of one that an error ended.
pub async fn attempt(workspace: &Workspace, options: Options, progress: &mut dyn Progress) -> (Report, Result<()>) {
    let mut job = Job::begin(options);
    let mut outcome = stages(workspace, &mut job, progress).await;
    let report = job.report(outcome.as_ref().err());
    if !job.is_idle() {
        let saved = keep(workspace, &report).await;
        // The error that ended the run says more than one of writing that down.
        outcome = outcome.and(saved);
        lineage::tell(workspace, &report).await;
    }
    (report, outcome)
}

async fn keep(workspace: &Workspace, report: &Report) -> Result<()> {
    report.save(&workspace.lake).await?;
    match report.status {
        RunStatus::Failed | RunStatus::Error => {
            workspace.lake.put(LAST_FAILED, report.metadata.invocation_id.clone().into()).await
        }
        RunStatus::Success | RunStatus::NothingNew => Ok(()),
    }
}

async fn stages(workspace: &Workspace, job: &mut Job, progress: &mut dyn Progress) -> Result<()> {
    // What is wrong with models or the selector is told before anything is done.
    let graph = job.options.build.then(|| load_graph_to_build(workspace)).transpose()?;
    if let (Some(graph), Some(selector)) = (&graph, &job.options.select) {
        graph.select(selector, &BTreeSet::new())?;
    }
    if job.options.land {
        let begun = Instant::now();
        progress.stage("land");
        let landed = landing::land(workspace, &mut job.landed, &mut |done, total| progress.read(done, total)).await;
        job.spent("land", begun);
        landed?;
    }
    match graph {
        Some(graph) => build(workspace, &graph, job, progress).await,
        None => Ok(()),
    }
}

/// The models and checks of a project; one that reads what is not there is an error.
fn load_graph_to_build(workspace: &Workspace) -> Result<Graph> {
    let graph = load_graph(workspace)?;
    graph.expect_reads()?;
    marts::expect_known(&workspace.project.config.marts, &graph)?;
    Ok(graph)
}

/// Everything after landing.
async fn build(workspace: &Workspace, graph: &Graph, job: &mut Job, progress: &mut dyn Progress) -> Result<()> {
    let mut changes = Changes::load(&workspace.lake).await?;
    let tables = register_tables(workspace, &changes, job.options.as_of).await?;
    job.as_of = tables.as_of;
    let last_batch = tables.last_batch;
    let backfill = Backfill::find(workspace, graph, &changes, &tables, &job.options, &job.run_id).await?;
    if job.options.backfill.is_some() && backfill.is_none() {
        return Ok(());
    }
    let begun = Instant::now();
    let stage = || progress.stage("resolve");
    let step = advance(workspace, graph, &tables, &mut changes, backfill.as_ref(), stage);
    let Advance { resolved, news } = step.await?;
    if resolved.is_some() {
        job.identity = resolved;
        job.spent("resolve", begun);
    }

    // Models that tell of runs are built last, so that they can tell of this one.
    let news = News { checks: job.options.checks, ..news };
    let scope = job.options.checks;
    let of_runs = models_of_runs(graph);
    let planned = plan(workspace, graph, &changes, tables, job.options.select.as_deref()).await?;
    let up_to_date = models::up_to_date(graph, &planned.prints, &changes.backfills());
    let mut outcome = Outcome { fingerprints: planned.prints.fingerprints, ..Outcome::default() };
    let (late, early): (Vec<Planned>, Vec<Planned>) =
        planned.steps.into_iter().partition(|step| of_runs.contains(&step.model.name));
    let begun = Instant::now();
    progress.stage("build");
    let mut ahead = Ahead::begin(workspace).await?;
    let tell = |model: &Model, told: Told<'_>| match told {
        Told::Begun => progress.step(&model.name),
        Told::Changed(outcome, fingerprint) => ahead.make(graph, model, outcome, &fingerprint),
    };
    let early = update(workspace, graph, early, &mut changes, news, &mut outcome, tell).await?;
    job.touched_customers = outcome.touched_customers;
    job.spent("build", begun);
    for (steps, is_late) in [(early, false), (late, true)] {
        if is_late && steps.iter().any(|step| step.reason.is_some()) {
            let mut row = job.report(None);
            if row.status == RunStatus::NothingNew {
                // It builds what tells of it at least.
                row.status = RunStatus::Success;
            }
            register_run_results(workspace, Some(row))?;
        }
        let begun = Instant::now();
        let built = models::build(workspace, steps, &mut outcome, |name| progress.step(name)).await;
        job.results.clone_from(&outcome.results);
        job.spent("build", begun);
        built?;

        let begun = Instant::now();
        if !is_late {
            progress.stage("check");
        }
        let is_due = |reads: &[String]| reads.iter().any(|read| of_runs.contains(read)) == is_late;
        let checked =
            checks::run_due(workspace, graph, &mut outcome, &up_to_date, scope, is_due, |name| progress.step(name))
                .await;
        job.results.clone_from(&outcome.results);
        job.skipped_checks.clone_from(&outcome.skipped_checks);
        job.put_off_checks.clone_from(&outcome.put_off_checks);
        job.spent("check", begun);
        checked?;
    }

    let begun = Instant::now();
    progress.stage("publish");
    let edition = Edition {
        run_id: job.run_id.clone(),
        as_of: job.as_of.map(instant),
        batch: last_batch,
        // What tells of runs is another after each.
        untold: restatements::untold(&workspace.lake, ahead.catalog(), |mart| !of_runs.contains(mart)).await?,
    };
    let Published { results, mut restatements } =
        marts::publish(workspace, graph, &outcome, ahead, &edition, |name| progress.step(name)).await?;
    job.results.extend(results);
    restatements.retain(|restated| !of_runs.contains(&restated.mart));
    // They are told also when their events cannot be counted.
    job.restatements = restatements;
    restatements::with_events(workspace, &mut job.restatements).await?;
    job.spent("publish", begun);

    // What readers wait for is there; what is left makes the next runs cheaper.
    let begun = Instant::now();
    let folded = fold(&workspace.ctx, &workspace.lake, &mut changes, Which::Due(FOLDED_AT_ONCE)).await?;
    if !folded.is_empty() {
        sweep(&workspace.lake).await?;
        job.spent("fold", begun);
    }
    Ok(())
}

/// What a run would do: files to land by source, and each stale model with its reason. Nothing is written.
pub async fn dry_run(workspace: &Workspace, options: &Options) -> Result<Vec<(String, String, String)>> {
    let mut steps = Vec::new();
    let changes = Changes::load(&workspace.lake).await?;
    let mut tables = register_tables(workspace, &changes, options.as_of).await?;
    if options.land {
        for (source, path, bytes) in landing::pending(workspace).await? {
            steps.push(("land".to_string(), format!("{source}: {path}"), format!("{bytes} bytes")));
        }
        if !steps.is_empty() {
            for table in ["events", "dead_letters", "batches"] {
                tables.prints.fingerprints.insert(table.into(), "after landing".into());
            }
            identity::add_prints(workspace, "after landing", &mut tables.prints).await?;
        }
    }
    if options.build {
        let events = tables.prints.fingerprints["events"].clone();
        if let Some(reason) = identity::standing(workspace, &changes, &events).await?.stale {
            steps.push(("resolve".into(), "identity".into(), reason));
        }
        let graph = load_graph_to_build(workspace)?;
        for step in plan(workspace, &graph, &changes, tables, options.select.as_deref()).await?.steps {
            if let Some(reason) = step.reason {
                steps.push(("build".into(), step.model.name, reason.to_string()));
            }
        }
    }
    Ok(steps)
}

/// Runs the checks of all models as they are, whatever passed before, and writes nothing. Tables are registered by this.
pub async fn check(workspace: &Workspace, as_of: Option<i64>) -> Result<(Graph, Checked)> {
    let (tables, graph) = register_everything(workspace, as_of).await?;
    graph.expect_reads()?;
    let prints = with_run_results(tables, &graph, &models_of_runs(&graph)).prints;
    let changes = Changes::load(&workspace.lake).await?;
    let as_built = models::as_built(workspace, &graph, &changes, &prints).await?;
    let up_to_date = models::up_to_date(&graph, &prints, &changes.backfills());
    let checked = checks::run_all(workspace, &graph, &as_built, &up_to_date.fingerprints).await?;
    Ok((graph, checked))
}

/// What a run will build.
struct Plan {
    steps: Vec<Planned>,
    /// Prints of the tables that are there before anything is built.
    prints: Prints,
}

async fn plan(
    workspace: &Workspace,
    graph: &Graph,
    changes: &Changes,
    tables: Tables,
    selector: Option<&str>,
) -> Result<Plan> {
    let prints = with_run_results(tables, graph, &models_of_runs(graph)).prints;
    let selected = match selector {
        Some(selector) => Some(models::select(workspace, graph, changes, &prints, selector).await?),
        None => None,
    };
    let steps = models::plan(workspace, graph, changes, &prints, selected.as_ref()).await?;
    Ok(Plan { steps, prints })
}

#[cfg(test)]
mod tests_of_faults;
#[cfg(test)]
mod tests_of_power_loss;
#[cfg(test)]
pub(crate) mod trial;
