//! What each command does.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use serde_json::json;

use super::progress::Shown;
use super::{Command, GenerateArgs, Global, RunArgs, sql, summary};
use crate::config::Project;
use crate::error::{Context, Error, Result};
use crate::generate::{self, LANDING_ZONE};
use crate::lake::Lock;
use crate::models;
use crate::models::graph::Graph;
use crate::run::{self, Options};
use crate::workspace::Workspace;
use crate::{landing, models::Status};

/// A step or a check failed.
const FAILED: u8 = 1;

/// Does what the command says; the exit code tells a scheduler what to do next.
pub async fn dispatch(command: Command, global: &Global) -> Result<ExitCode> {
    match command {
        Command::Run(args) => job(global, options("run", &args, None, true, true), args.dry_run).await,
        Command::Build { select, run } => job(global, options("build", &run, select, false, true), run.dry_run).await,
        Command::Land { dry_run } => {
            job(global, Options { command: "land".into(), land: true, ..Options::default() }, dry_run).await
        }
        Command::Check => check(global).await,
        Command::Sql { command, file, format } => {
            let query = match (command, file) {
                (Some(query), _) => query,
                (None, Some(file)) => std::fs::read_to_string(&file).context(file.display())?,
                (None, None) => {
                    let mut query = String::new();
                    std::io::stdin().read_to_string(&mut query)?;
                    query
                }
            };
            query_project(global, &query, format).await
        }
        Command::Status => status(global).await,
        Command::Generate(args) => generate_files(global, &args),
        Command::Demo { events, seed, folder } => {
            let project = generate::Options { events, seed, ..generate::Options::default() };
            generate::project(&folder, &project)?;
            eprintln!("generate");
            generate::generate(&project, &folder.join(LANDING_ZONE), |_| {})?;
            let global = Global { project: folder, json: global.json, log_format: global.log_format };
            let options = Options { command: "demo".into(), land: true, build: true, ..Options::default() };
            job(&global, options, false).await
        }
    }
}

fn options(command: &str, args: &RunArgs, select: Option<String>, land: bool, build: bool) -> Options {
    Options { command: command.into(), as_of: args.as_of, select, land, build }
}

fn open(global: &Global) -> Result<Workspace> {
    Workspace::open(Project::load(&global.project)?)
}

async fn job(global: &Global, options: Options, dry_run: bool) -> Result<ExitCode> {
    let workspace = open(global)?;
    if dry_run {
        let steps = run::dry_run(&workspace, &options).await?;
        let mut out = std::io::stdout().lock();
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
    let _lock = Lock::take(&workspace.project.folder)?;
    let report = {
        let mut progress = Shown::new();
        run::run(&workspace, options, &mut progress).await?
    };
    for line in
        report.results.iter().filter(|line| matches!(line.status, Status::Fail | Status::Error | Status::Skipped))
    {
        eprintln!("{:?} {}: {}", line.status, line.unique_id, line.message);
    }
    let mut out = std::io::stdout().lock();
    if global.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        summary::print(&workspace, &report, &mut out).await?;
    }
    Ok(if report.has_failed() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// Checks configuration, sources and data; runs every check again, whatever passed before, and writes nothing.
async fn check(global: &Global) -> Result<ExitCode> {
    let workspace = open(global)?;
    let mut out = std::io::stdout().lock();
    let sources = landing::check(&workspace).await?;
    run::register_everything(&workspace, None).await?;
    let graph = Graph::load(&workspace.ctx, &workspace.project.folder.join("queries"))?;
    let results = models::run_all_checks(&workspace, &graph).await?;
    let failed: Vec<_> = results.iter().filter(|line| line.status != Status::Pass).collect();
    if global.json {
        let sources: Vec<_> = sources.iter().map(|(name, files)| json!({"source": name, "files": files})).collect();
        writeln!(out, "{}", json!({"sources": sources, "results": results}))?;
    } else {
        for (name, files) in &sources {
            writeln!(out, "source {name}: {files} files")?;
        }
        for line in &failed {
            writeln!(out, "{:?} {}: {}", line.status, line.unique_id, line.message)?;
        }
        writeln!(out, "{} models, {} checks run, {} failed", graph.models.len(), results.len(), failed.len())?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn query_project(global: &Global, query: &str, format: Option<sql::Format>) -> Result<ExitCode> {
    let workspace = open(global)?;
    run::register_everything(&workspace, None).await?;
    let is_terminal = std::io::stdout().is_terminal();
    let format = format.unwrap_or(if is_terminal { sql::Format::Table } else { sql::Format::Csv });
    if format == sql::Format::Parquet && is_terminal {
        return Err(
            Error::invalid("a Parquet file does not belong on a terminal").hint("redirect it: > result.parquet")
        );
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    sql::query(&workspace.ctx, query, format, &mut out).await?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

async fn status(global: &Global) -> Result<ExitCode> {
    let workspace = open(global)?;
    let tables = run::register_everything(&workspace, None).await?;
    let mut out = std::io::stdout().lock();
    summary::status(&workspace, &tables, global.json, &mut out).await?;
    Ok(ExitCode::SUCCESS)
}

fn generate_files(global: &Global, args: &GenerateArgs) -> Result<ExitCode> {
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
    generate::project(&args.folder, &options)?;
    let made = generate::generate(&options, &args.folder.join(LANDING_ZONE), |_| {})?;
    let mut out = std::io::stdout().lock();
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
