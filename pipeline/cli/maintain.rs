//! `maintain` and `fsck`: what they print.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use super::output::Output;
use super::{Global, commands};
use crate::error::Result;
use crate::lake::Lock;
use crate::maintain::fsck::fsck;
use crate::maintain::{Options, RUN_REPORTS, TableReport, maintain};

/// A length of time such as `7d` or `0s`.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a length of time such as 7d, 12h or 0s".to_string())
}

/// Maintains the lake and tells, by table, what came of it.
pub async fn run(global: &Global, options: Options) -> Result<ExitCode> {
    let workspace = commands::open(global)?;
    let _lock = match options.dry_run {
        true => None,
        false => Some(Lock::take(&workspace.project.folder, &workspace.lake)?),
    };
    let report = maintain(&workspace, options).await?;
    let mut out = Output::stdout();
    if global.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let would = if report.dry_run { "would be " } else { "" };
    for folder in &report.folded {
        writeln!(out, "{folder:<28} {would}written anew with the changes that lay over it")?;
    }
    for (folder, table) in &report.tables {
        let TableReport { before, after, compacted, checkpoint, log, vacuumed } = table;
        writeln!(
            out,
            "{folder:<28} {} → {} files, {} → {} KB, {} → {} commits",
            before.files,
            after.files,
            before.bytes / 1000,
            after.bytes / 1000,
            before.commits,
            after.commits
        )?;
        if compacted.files > 0 {
            let into = if report.dry_run { String::new() } else { format!(" into {}", compacted.into) };
            writeln!(out, "  {} small files {would}merged{into}", compacted.files)?;
        }
        if *checkpoint {
            writeln!(out, "  a checkpoint {would}written")?;
        }
        if log.files > 0 {
            writeln!(out, "  {} old files of the log {would}removed", log.files)?;
        }
        if vacuumed.files > 0 {
            writeln!(out, "  {} data files that no version names {would}removed", vacuumed.files)?;
        }
    }
    if report.ledger.entries + report.ledger.removed > 0 {
        writeln!(out, "{} ledger entries {would}put together", report.ledger.entries)?;
    }
    let others = [
        (report.run_reports.files, format!("run reports beyond the newest {RUN_REPORTS}")),
        (report.changes.files, "files of replaced changes".to_string()),
        (report.staged.files, "staged files".to_string()),
        (report.debris.files, "half-written files".to_string()),
    ];
    for (files, what) in others.iter().filter(|(files, _)| *files > 0) {
        writeln!(out, "{files} {what} {would}removed")?;
    }
    writeln!(out, "in {:.2} s", report.elapsed_time)?;
    Ok(ExitCode::SUCCESS)
}

/// Looks for damage; what is found is a failure.
pub async fn check(global: &Global) -> Result<ExitCode> {
    let workspace = commands::open_to_read(global)?;
    let found = fsck(&workspace).await?;
    let mut out = Output::stdout();
    if global.json {
        writeln!(out, "{}", serde_json::to_string(&found)?)?;
    } else {
        for finding in &found.findings {
            writeln!(out, "{}: {}; {}", finding.place, finding.what, finding.remedy)?;
        }
        writeln!(
            out,
            "{} tables, {} batches, {} published files; {} findings",
            found.tables.len(),
            found.batches,
            found.published_files,
            found.findings.len()
        )?;
    }
    Ok(if found.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(commands::FAILED) })
}
