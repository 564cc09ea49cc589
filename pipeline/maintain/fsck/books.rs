//! Books: what the ledger, the reports of runs and the tables say of each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{col, lit};

use super::{Finding, Findings, RESTORE, Sound};
use crate::delta::Table;
use crate::derived::changes::CHANGES;
use crate::error::{Kind, Result};
use crate::lake::Lake;
use crate::landing::events::{DEAD_LETTERS, EVENTS};
use crate::landing::ledger::{Counts, Entry, Manifest};
use crate::landing::{APPLICATION, folded};
use crate::models::Status;
use crate::models::checks::PASSED;
use crate::run::Report;
use crate::run::report::RUNS;
use crate::workspace::Workspace;

/// Compares the books with the tables whose logs can be read.
pub async fn check(
    workspace: &Workspace,
    tables: &BTreeMap<String, Sound>,
    reports: &[Report],
    found: &mut Findings,
) -> Result<()> {
    documents(workspace, found).await?;
    let Some(Sound { table: events, .. }) = tables.get(EVENTS) else { return Ok(()) };
    let last = events.transaction(APPLICATION).await?.unwrap_or(0);
    found.batches = last;
    check_reports(workspace, reports, last, found).await?;
    let entries = match Entry::load_all(&workspace.lake, last).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == Kind::Corrupt => {
            found.findings.push(Finding::new("landing/batches", error.to_string(), RESTORE));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let loose = folded::last_folded(&workspace.lake).await? + 1..=last;
    for batch in loose {
        match Manifest::load(&workspace.lake, batch).await {
            Ok(Some(manifest)) if manifest.batch == batch => {}
            Ok(None) => found.findings.push(Finding::new("landing/batches", no_manifest(batch), RESTORE)),
            Ok(Some(_)) => {
                let what = format!("the manifest of batch {batch} is another's");
                found.findings.push(Finding::new("landing/batches", what, RESTORE));
            }
            // It is named among the documents.
            Err(error) if error.kind() == Kind::Corrupt => {}
            Err(error) => return Err(error),
        }
    }
    let letters = match tables.get(DEAD_LETTERS) {
        Some(letters) => Some(rows_by_batch(workspace, DEAD_LETTERS, &letters.table).await?),
        None if found.findings.iter().any(|finding| finding.place.starts_with(DEAD_LETTERS)) => None,
        None => Some(BTreeMap::new()),
    };
    let events = rows_by_batch(workspace, EVENTS, events).await?;
    compare(&entries, EVENTS, &events, |counts| counts.landed, found);
    if let Some(letters) = letters {
        compare(&entries, DEAD_LETTERS, &letters, |counts| counts.dead_letters, found);
    }
    for entry in &entries {
        for (source, counts) in &entry.sources {
            if counts.rows_in != counts.landed + counts.duplicates + counts.dead_letters {
                let what = format!("the counts of {source} in batch {} do not add up", entry.batch);
                found.findings.push(Finding::new("landing/batches", what, RESTORE));
            }
        }
    }
    Ok(())
}

/// The run reports that can be read, oldest first.
pub async fn reports(lake: &Lake) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for file in lake.list(RUNS).await? {
        let Some(path) = lake.relative(&file.location) else { continue };
        let Some(content) = lake.get(&path).await? else { continue };
        reports.extend(serde_json::from_slice::<Report>(&content).ok());
    }
    Ok(reports)
}

fn no_manifest(batch: i64) -> String {
    format!("the manifest of batch {batch} is gone")
}

/// Every JSON document that is kept must be one.
async fn documents(workspace: &Workspace, found: &mut Findings) -> Result<()> {
    for folder in ["landing", "models", "identity", CHANGES, RUNS] {
        for file in workspace.lake.list(folder).await? {
            let Some(path) = workspace.lake.relative(&file.location) else { continue };
            if !path.ends_with(".json") || path.contains("/_delta_log/") {
                continue;
            }
            let Some(content) = workspace.lake.get(&path).await? else { continue };
            if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&content) {
                let remedy = if [RUNS, "models"].contains(&folder) { "remove it" } else { RESTORE };
                found.findings.push(Finding::new(path, format!("no readable JSON: {error}"), remedy));
            }
        }
    }
    Ok(())
}

/// No run can have landed a batch that the events do not have, or passed a check that nobody knows of.
async fn check_reports(workspace: &Workspace, reports: &[Report], last: i64, found: &mut Findings) -> Result<()> {
    let newest = reports.iter().flat_map(|report| &report.landed.batches).copied().max().unwrap_or(0);
    let has_passed = reports.iter().flat_map(|report| &report.results).any(|line| line.status == Status::Pass);
    if newest > last {
        let what = format!("a run landed batch {newest}, and the last that is there is {last}: versions are lost");
        found.findings.push(Finding::new(EVENTS, what, RESTORE));
    }
    if has_passed && workspace.lake.get(PASSED).await?.is_none() {
        found.findings.push(Finding::new(PASSED, "is gone", "wayline run: every check is run again"));
    }
    Ok(())
}

async fn rows_by_batch(workspace: &Workspace, folder: &str, table: &Table) -> Result<BTreeMap<i64, u64>> {
    let frame = workspace.ctx.read_table(table.provider(&workspace.lake, folder)?)?;
    let counted = frame.aggregate(vec![col("batch")], vec![count(lit(1))])?.collect().await?;
    let mut rows = BTreeMap::new();
    for batch in counted {
        let numbers = batch.column(0).as_primitive::<Int64Type>().values();
        let counts = batch.column(1).as_primitive::<Int64Type>().values();
        rows.extend(numbers.iter().copied().zip(counts.iter().map(|count| count.unsigned_abs())));
    }
    Ok(rows)
}

/// Compares the rows of each batch with what its entry says.
fn compare(
    entries: &[Arc<Entry>],
    folder: &str,
    rows: &BTreeMap<i64, u64>,
    said: fn(&Counts) -> u64,
    found: &mut Findings,
) {
    let booked: BTreeMap<i64, u64> =
        entries.iter().map(|entry| (entry.batch, entry.sources.values().map(said).sum())).collect();
    for batch in booked.keys().chain(rows.keys().filter(|batch| !booked.contains_key(batch))) {
        let (said, there) = (booked.get(batch).copied(), rows.get(batch).copied().unwrap_or(0));
        let what = match said {
            Some(said) if said == there => continue,
            Some(said) => format!("batch {batch} has {there} rows, and its ledger entry says {said}"),
            // Dead letters are committed first, and their batch ends with the next run.
            None if folder == DEAD_LETTERS => continue,
            None => format!("batch {batch} has {there} rows and no ledger entry"),
        };
        found.findings.push(Finding::new(folder, what, RESTORE));
    }
}
