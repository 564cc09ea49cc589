//! What each command does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use tokio::sync::watch::Receiver;

use super::messages::Messages;
use super::output::Output;
use super::progress::Shown;
use super::{
    Command, GenerateArgs, Global, RunFiles, backfill, dashboard, docs, doctor, explain, export, identity, init,
    maintain, manual, replay, serve, sql, summary, watch,
};
use crate::config::Project;
use crate::derived::fold::Which;
use crate::error::{Error, Result};
use crate::generate;
use crate::lake::Lock;
use crate::landing;
use crate::metrics::{Metrics, last_success_in};
use crate::models::Status;
use crate::models::checks::{Checked, Scope};
use crate::replace::replace;
use crate::run::{self, Options, Progress, Report, RunStatus};
use crate::workspace::Workspace;

/// A step or a check failed.
pub const FAILED: u8 = 1;
/// Nothing failed but what a store out of reach made fail.
const TEMPORARY: u8 = 75;

/// Does what the command says; the exit code tells a scheduler what to do next. `stop` turns true when a command that can
/// be told to stop is told so.
pub async fn dispatch(command: Command, global: &Global, stop: Receiver<bool>) -> Result<ExitCode> {
    let job_of = |command: &str, land, build| Options {
        command: command.into(),
        as_of: global.as_of,
        select: None,
        land,
        build,
        checks: Scope::All,
        backfill: None,
    };
    match command {
        Command::Run(args) => {
            let checks = args.checks();
            job(global, Options { checks, ..job_of("run", true, true) }, args.dry_run, &args.files).await
        }
        Command::Watch(args) => watch::watch(project(global)?, args, global, stop).await,
        Command::Build { select, run } => {
            let checks = run.checks();
            let options = Options { select, checks, ..job_of("build", false, true) };
            job(global, options, run.dry_run, &run.files).await
        }
        Command::Land(args) => job(global, job_of("land", true, false), args.dry_run, &args.files).await,
        Command::Backfill(args) => backfill::backfill(args, global).await,
        Command::Check => check(global).await,
        Command::Sql(args) => sql::sql(global, args).await,
        Command::Dashboard(args) => dashboard::write(args, global).await,
        Command::Serve(args) => serve::serve(args, global).await,
        Command::Status => status(global).await,
        Command::Replay(args) => replay::run(args, global).await,
        Command::Docs(args) => docs::docs(args, global).await,
        Command::Export(args) => export::export(args, global).await,
        Command::Identity { command } => identity::dispatch(command, global).await,
        Command::Maintain { dry_run, retain } => {
            maintain::run(global, crate::maintain::Options { dry_run, retain, fold: Which::All }).await
        }
        Command::Fsck => maintain::check(global).await,
        Command::Doctor => doctor::doctor(global).await,
        Command::Explain { name } => explain::explain(global, &name).await,
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { output } => manual::pages(output),
        Command::Schema => manual::schema(),
        Command::Init(args) => init::init(args, global).await,
        Command::Generate(args) => generate_files(global, args).await,
        Command::Demo { events, seed, folder } => {
            refuse_project(global)?;
            let options = generate::Options { events, seed, ..generate::Options::default() };
            make(global, options, folder.clone()).await?;
            let global = Global { project: Some(folder), ..global.clone() };
            job(&global, job_of("demo", true, true), false, &RunFiles::default()).await
        }
    }
}

pub fn project(global: &Global) -> Result<Project> {
    Project::load(global.project.as_deref().unwrap_or(Path::new(".")))
}

pub fn open(global: &Global) -> Result<Workspace> {
    Workspace::open(project(global)?)
}

pub fn open_to_read(global: &Global) -> Result<Workspace> {
    Workspace::open_to_read(project(global)?)
}

/// Does blocking work beside the task that listens to signals.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error.to_string()))?
}

/// Commands that make a project take its folder as their argument.
fn refuse_project(global: &Global) -> Result<()> {
    match &global.project {
        Some(_) => Err(Error::invalid("--project says nothing here").hint("the new folder is the argument itself")),
        None => Ok(()),
    }
}

/// Runs a job and tells what came of it, or says what it would do.
pub async fn job(global: &Global, options: Options, dry_run: bool, files: &RunFiles) -> Result<ExitCode> {
    let workspace = open(global)?;
    if dry_run {
        let steps = run::dry_run(&workspace, &options).await?;
        let mut out = Output::stdout();
        if global.json {
            let steps: Vec<_> =
                steps.iter().map(|(stage, what, why)| json!({"stage": stage, "what": what, "why": why})).collect();
            writeln!(out, "{}", json!({ "dry_run": steps }))?;
        } else if steps.is_empty() {
            writeln!(out, "nothing to do")?;
        } else {
            for (stage, what, why) in steps {
                writeln!(out, "{stage:<8} {what:<40} {why}")?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let messages = Messages(global.log_format);
    let _lock = Lock::take(&workspace.project.folder, &workspace.lake)?;
    let (report, outcome) = {
        let mut progress = Shown::new(messages);
        run::attempt(&workspace, options, &mut progress).await
    };
    // What ended the run says more than what could not be told of it.
    let told = files.tell(&workspace, &report).await;
    outcome.and(told)?;
    report.results.iter().filter(|result| !result.is_well()).for_each(|result| messages.not_well(result));
    let mut out = Output::stdout();
    if global.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        summary::print(&workspace, &report, &mut out).await?;
    }
    Ok(match report.status {
        RunStatus::Failed if report.has_failed_for_now() => ExitCode::from(TEMPORARY),
        RunStatus::Failed => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    })
}

impl RunFiles {
    /// Tells of a run that has ended.
    async fn tell(&self, workspace: &Workspace, report: &Report) -> Result<()> {
        if let Some(path) = &self.report {
            replace(path, &serde_json::to_vec_pretty(&run::dbt::run_results(report)?)?)?;
        }
        if let Some(path) = &self.metrics_file {
            let before = std::fs::read_to_string(path).unwrap_or_default();
            let mut metrics = Metrics::of_lake(workspace, last_success_in(&before)).await?;
            let now = chrono::Utc::now().timestamp_micros();
            metrics.ran(report);
            if matches!(report.status, RunStatus::Success | RunStatus::NothingNew) {
                metrics.succeeded_at(now);
            }
            replace(path, metrics.text_of_run(now).as_bytes())?;
        }
        Ok(())
    }
}

/// Checks configuration, sources and data; runs every check again that has up-to-date tables to compare, and writes
/// nothing. A file that a run would pass over is a failure here.
async fn check(global: &Global) -> Result<ExitCode> {
    let workspace = open(global)?;
    let mut out = Output::stdout();
    let sources = landing::check(&workspace).await?;
    let (graph, Checked { results, skipped }) = run::check(&workspace, global.as_of).await?;
    let failed: Vec<_> = results.iter().filter(|line| line.status != Status::Pass).collect();
    if global.json {
        writeln!(out, "{}", json!({"sources": sources, "results": results, "skipped": skipped}))?;
    } else {
        for found in &sources {
            writeln!(out, "source {}: {} files", found.source, found.files)?;
            for (path, reason, detail) in &found.refused {
                writeln!(out, "  passed over {path}: {reason}: {detail}")?;
            }
        }
        for line in &failed {
            writeln!(out, "{:?} {}: {}", line.status, line.unique_id, line.message)?;
        }
        writeln!(out, "{} models, {} checks run, {} failed", graph.models.len(), results.len(), failed.len())?;
        if !skipped.is_empty() {
            writeln!(
                out,
                "{} checks skipped, since models that they compare are outdated: wayline build",
                skipped.len()
            )?;
        }
    }
    let is_well = failed.is_empty() && sources.iter().all(|found| found.refused.is_empty());
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn status(global: &Global) -> Result<ExitCode> {
    let workspace = open_to_read(global)?;
    let (tables, graph) = run::register_everything(&workspace, global.as_of).await?;
    let mut out = Output::stdout();
    summary::status(&workspace, &graph, tables.as_of, global.json, &mut out).await?;
    Ok(ExitCode::SUCCESS)
}

async fn generate_files(global: &Global, args: GenerateArgs) -> Result<ExitCode> {
    refuse_project(global)?;
    let options = generate::Options {
        events: args.events,
        seed: args.seed,
        format: args.format,
        compression: args.compression,
        files: args.files,
        start: args.start,
        days: args.days,
        bad_records: args.bad_records,
        ..generate::Options::default()
    };
    let made = make(global, options, args.folder.clone()).await?;
    let mut out = Output::stdout();
    if global.json {
        let report = json!({
            "files": made.files, "records": made.events, "bytes": made.bytes, "customers": made.customers,
            "duplicates": made.duplicates, "bad_records": made.bad_records,
        });
        writeln!(out, "{report}")?;
    } else {
        let folder = args.folder.display();
        writeln!(
            out,
            "{} records of {} customers in {} files, {} MB",
            made.events,
            made.customers,
            made.files,
            made.bytes / 1_000_000
        )?;
        writeln!(out, "run them with: wayline run --project {folder}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Generates events and then the project around them, so that one cut short can be begun again.
async fn make(global: &Global, options: generate::Options, folder: PathBuf) -> Result<generate::Summary> {
    let mut progress = Shown::new(Messages(global.log_format));
    progress.stage("generate");
    aside(move || {
        let total = options.events;
        generate::project(&folder, &options, |done| progress.done(done, total, "records"))
    })
    .await
}
