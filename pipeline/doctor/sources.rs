//! Whether each source has files, and whether the mapping fits the newest of them.

use std::collections::BTreeMap;

use super::Finding;
use crate::config::Source;
use crate::error::Result;
use crate::landing::trial::{Refused, attempt};
use crate::landing::{self, Listed};
use crate::workspace::Workspace;

/// Records that are mapped of a file.
const RECORDS: usize = 1_000;
/// A file from so far in the future was written by a clock that is wrong.
const FUTURE_SECONDS: i64 = 300;

/// A finding for each source, and more where something is odd.
pub async fn all(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &workspace.project.config.sources {
        let check = format!("source {}", source.name);
        match one(workspace, source, &check).await {
            Ok(found) => findings.extend(found),
            Err(error) => {
                findings.push(Finding::of_error(&check, &error, "mend [sources.event], or the access to the files"))
            }
        }
    }
    findings
}

async fn one(workspace: &Workspace, source: &Source, check: &str) -> Result<Vec<Finding>> {
    let listed: Listed = landing::list_source(workspace, source).await?;
    let mut findings = Vec::new();
    if let Some((path, reason, detail)) = listed.refused.first() {
        let message = format!("{} files are passed over, such as {path}: {reason}: {detail}", listed.refused.len());
        findings.push(Finding::warn(check, message, format!("wayline explain {reason}")));
    }
    let newest = listed.files.iter().filter(|(_, file)| file.size > 0).max_by_key(|(_, file)| file.last_modified);
    let Some((path, file)) = newest else {
        let message = match listed.files.len() {
            0 => format!("no file matches {}", source.path),
            count => format!("{count} files match {}, all of them empty", source.path),
        };
        findings.push(Finding::warn(check, message, "check the pattern and whether files have arrived"));
        return Ok(findings);
    };
    let ahead = (file.last_modified - chrono::Utc::now()).num_seconds();
    if ahead > FUTURE_SECONDS {
        let message = format!("{path} was written {ahead} seconds from now");
        findings.push(Finding::warn("clock", message, "synchronise this clock and that of the writer (NTP)"));
    }
    let tried = attempt(workspace, source, &listed, file, RECORDS).await?;
    let records = tried.events.num_rows() + tried.refused.len();
    let begin = if tried.has_more { "the first " } else { "" };
    let seen = format!("{} of {begin}{records} records of the newest, {path}, map", tried.events.num_rows());
    let message = format!("{} files match; {seen}", listed.files.len());
    findings.push(match most_frequent(&tried.refused) {
        None => Finding::ok(check, message),
        Some(refused) => {
            let message = format!("{message}; {}: {}", refused.reason, refused.detail);
            let remedy = format!("wayline explain {}", refused.reason);
            match tried.events.num_rows() {
                0 => Finding::fail(check, message, remedy),
                _ => Finding::warn(check, message, remedy),
            }
        }
    });
    Ok(findings)
}

/// One that was refused for the reason that most were; the first of these.
fn most_frequent(refused: &[Refused]) -> Option<&Refused> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    refused.iter().for_each(|one| *counts.entry(one.reason).or_default() += 1);
    // Of equals the last is taken, so the order is turned round.
    refused.iter().rev().max_by_key(|one| counts[one.reason])
}
