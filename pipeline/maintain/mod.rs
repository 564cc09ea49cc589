//! Maintenance: keeps files few, logs short and folders free of what nobody needs.
//!
//! A job of its own under the project's lock, never a part of a commit: what fails here fails no run. Each step is safe to
//! be the last, and the next job ends it: a merge is one commit, a checkpoint is checked before a commit that it covers is
//! removed, and what is removed is what no kept version names.

pub mod compact;
pub mod fsck;
pub mod vacuum;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::compact::{Compacted, LAYOUTS, Sizes, compact, worth_merging};
use self::vacuum::Removed;
use crate::delta::Table;
use crate::delta::compact as merges;
use crate::delta::log::Log;
use crate::derived;
use crate::derived::changes::Changes;
use crate::derived::fold::{Which, fold};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;
use crate::landing::folded::{self, Folded};
use crate::landing::{self, last_batch};
use crate::marts::{Catalog, STAGING};
use crate::run::report::{RUNS, report_path};
use crate::workspace::Workspace;

/// Stages whose folders hold tables.
const STAGES: [&str; 3] = ["landing", "identity", "models"];
/// Folders below the stages that are no tables.
const KEPT: [&str; 2] = [landing::ledger::BATCHES, "identity/rulings"];
/// Commits since the last checkpoint from which the next is due: what readers read one by one. Delta's own default.
const COMMITS_PER_CHECKPOINT: usize = 10;
/// Run reports that are kept; `run_results` reads each of them.
pub const RUN_REPORTS: usize = 1_000;
/// How far the clock here and that of the store may be apart. Ages are told by both.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// What the last job may have removed, for those who look for what is missing.
const MAINTAINED: &str = "landing/maintained.json";

/// The record of jobs.
#[derive(Debug, Serialize, Deserialize)]
struct Maintained {
    /// Versions that were replaced before this time may have lost their files, RFC 3339.
    cutoff: DateTime<Utc>,
}

impl Maintained {
    /// Says, before anything is removed, what may be from now on.
    async fn record(lake: &Lake, cutoff: DateTime<Utc>) -> Result<()> {
        let before = Self::cutoff(lake).await?;
        if before.is_some_and(|before| before >= cutoff) {
            return Ok(());
        }
        lake.put(MAINTAINED, serde_json::to_vec(&Self { cutoff })?.into()).await
    }

    /// The latest cutoff of all jobs.
    async fn cutoff(lake: &Lake) -> Result<Option<DateTime<Utc>>> {
        match lake.get(MAINTAINED).await? {
            Some(content) => Ok(serde_json::from_slice::<Self>(&content).ok().map(|record| record.cutoff)),
            None => Ok(None),
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether to only say what would be done.
    pub dry_run: bool,
    /// How long versions that were replaced stay readable, and files that nobody names stay untouched.
    pub retain: Duration,
    /// Tables to write anew with the changes that lie over them.
    pub fold: Which,
}

/// What was done, or would be.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Folders of derived tables that were written anew with the changes that lay over them.
    pub folded: Vec<String>,
    /// Each table by its folder.
    pub tables: BTreeMap<String, TableReport>,
    /// Ledger entries that were put together.
    pub ledger: Folded,
    /// Run reports beyond those that are kept.
    pub run_reports: Removed,
    /// Replaced documents of changes to derived tables, and files that no other one names.
    pub changes: Removed,
    /// Files that were staged and never moved to their place.
    pub staged: Removed,
    /// What the store of a local disk left half-written.
    pub debris: Removed,
    /// Seconds of the whole job.
    pub elapsed_time: f64,
}

/// What was done to a table.
#[derive(Debug, Default, Serialize)]
pub struct TableReport {
    /// As it was.
    pub before: State,
    /// As it is.
    pub after: State,
    /// Small files that became large ones. Of a dry run: those that would, and nothing that is written.
    pub compacted: Compacted,
    /// Whether a checkpoint was written.
    pub checkpoint: bool,
    /// Commits and checkpoints that were removed.
    pub log: Removed,
    /// Data files that were removed.
    pub vacuumed: Removed,
}

/// A table in figures.
#[derive(Debug, Default, Serialize)]
pub struct State {
    /// Rows.
    pub rows: usize,
    /// Files of the newest version.
    pub files: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// Commits in the log.
    pub commits: usize,
    /// Commits since the last checkpoint.
    pub since_checkpoint: usize,
}

/// Does it, or says what it would do.
///
/// Errors: what should pass ends the job at once; a damaged table is told when all others are maintained.
pub async fn maintain(workspace: &Workspace, options: Options) -> Result<Report> {
    let started = Instant::now();
    let lake = &workspace.lake;
    let mut report = Report { dry_run: options.dry_run, ..Report::default() };
    let now = Utc::now();
    if !options.dry_run {
        check_clock(now, clock_of_store(lake).await?)?;
    }
    let cutoff = match options.retain.is_zero() {
        true => None,
        false => {
            Some(TimeDelta::from_std(options.retain).ok().and_then(|span| now.checked_sub_signed(span)).ok_or_else(
                || Error::invalid("retention is longer than the calendar").hint("--retain takes a time such as 7d"),
            )?)
        }
    };
    // What is wrong with one table is no reason to let the others grow.
    let mut wrong = Wrong::default();
    let mut changes = Changes::load(lake).await?;
    if options.dry_run {
        report.folded = changes.tables.keys().cloned().collect();
    } else {
        let folded = wrong.unless_temporary(fold(&workspace.ctx, lake, &mut changes, options.fold).await)?;
        report.folded = folded.into_iter().flatten().map(|(folder, _)| folder).collect();
    }
    for folder in folders(lake).await? {
        let done = wrong.unless_temporary(maintain_table(workspace, &folder, cutoff, options).await)?;
        report.tables.extend(done.flatten().map(|done| (folder, done)));
    }
    wrong.unless_temporary(maintain_others(workspace, cutoff, options, &mut report).await)?;
    report.elapsed_time = started.elapsed().as_secs_f64();
    wrong.0.map_or(Ok(report), Err)
}

/// The first error that ended a part of the job and not the others.
#[derive(Default)]
struct Wrong(Option<Error>);

impl Wrong {
    /// What a part came to; nothing where it was ended by an error that will not pass, which is kept.
    fn unless_temporary<T>(&mut self, part: Result<T>) -> Result<Option<T>> {
        match part {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.is_temporary() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "is not maintained");
                self.0.get_or_insert(error);
                Ok(None)
            }
        }
    }
}

/// What is no table: the books of landing, run reports, changes, and what was left over.
async fn maintain_others(
    workspace: &Workspace,
    cutoff: Option<DateTime<Utc>>,
    options: Options,
    report: &mut Report,
) -> Result<()> {
    let lake = &workspace.lake;
    let last = last_batch(workspace).await?;
    report.ledger = match options.dry_run {
        false => folded::fold(lake, last).await?,
        true if folded::is_due(lake, last).await? => {
            let entries = last - folded::last_folded(lake).await?;
            Folded { entries: usize::try_from(entries).unwrap_or_default(), removed: 0 }
        }
        true => Folded::default(),
    };
    // Ids of runs begin with their time.
    let mut reports = lake.list(RUNS).await?;
    reports.truncate(reports.len().saturating_sub(RUN_REPORTS));
    // Without its report, what the catalog says that a run restated would count as never told.
    let told = report_path(&Catalog::load(lake).await?.run_id);
    reports.retain(|report| lake.relative(&report.location).is_none_or(|path| path != told));
    let changes = vacuum::changes(lake, cutoff).await?;
    let staged = vacuum::staged(lake, STAGING, cutoff).await?;
    let debris = vacuum::debris(lake, cutoff)?;
    if options.dry_run {
        (report.run_reports, report.staged) = (Removed::of(&reports), Removed::of(&staged));
        report.changes = Removed::of(&changes);
    } else {
        report.run_reports = vacuum::remove(lake, &reports, "maintain.vacuum").await?;
        report.changes = vacuum::remove(lake, &changes, "maintain.vacuum").await?;
        report.staged = vacuum::remove(lake, &staged, "maintain.vacuum").await?;
        for (path, _) in &debris {
            failpoint("maintain.vacuum");
            std::fs::remove_file(path)?;
        }
    }
    report.debris = Removed { files: debris.len(), bytes: debris.iter().map(|(_, bytes)| bytes).sum() };
    Ok(())
}

/// Folders of tables, and of files of tables that were never committed.
pub(crate) async fn folders(lake: &Lake) -> Result<Vec<String>> {
    let mut folders = Vec::new();
    for stage in STAGES {
        let listed = lake.store().list_with_delimiter(Some(&lake.path(stage))).await?;
        folders.extend(listed.common_prefixes.iter().filter_map(|path| lake.relative(path)));
    }
    folders.retain(|folder| !KEPT.contains(&folder.as_str()));
    folders.sort();
    Ok(folders)
}

async fn maintain_table(
    workspace: &Workspace,
    folder: &str,
    cutoff: Option<DateTime<Utc>>,
    options: Options,
) -> Result<Option<TableReport>> {
    let lake = &workspace.lake;
    let log = Log::list(lake, folder).await?;
    let damage = fsck::check_log(lake, folder, &log).await?.into_iter().find(|found| found.is_needed);
    if let Some(found) = damage {
        let error = Error::corrupt(format!("{}: {}", found.place, found.what));
        return Err(error.hint("wayline fsck tells what is damaged; nothing of this table was touched"));
    }
    if let Some(newest) = log.commits.values().map(|file| file.last_modified).max() {
        // A clock that went back would make files look younger or older than they are.
        let now = Utc::now();
        check_clock(now, newest.max(now))?;
    }
    let table = Table::open(lake, folder).await?;
    let mut report = TableReport { before: state(table.as_ref(), &log)?, ..TableReport::default() };
    let layout = LAYOUTS.into_iter().find(|layout| layout.folder == folder);
    if options.dry_run {
        if let (Some(table), Some(_)) = (&table, layout) {
            let parts = worth_merging(table, Sizes::default())?;
            report.compacted.files = parts.iter().map(Vec::len).sum();
        }
        report.checkpoint = table.is_some() && log.since_checkpoint() > COMMITS_PER_CHECKPOINT;
        report.log = Removed::of(log.expired(cutoff));
        report.vacuumed = Removed::of(&vacuum::unnamed(lake, folder, table.as_ref(), &log, cutoff).await?);
        report.after = state(table.as_ref(), &log)?;
        return Ok((table.is_some() || report.vacuumed.files > 0).then_some(report));
    }
    if let (Some(_), Some(layout)) = (&table, layout) {
        report.compacted = compact(&workspace.ctx, lake, layout, Sizes::default()).await?;
    }
    // What was merged is in the log by now.
    let (table, mut log) = (Table::open(lake, folder).await?, Log::list(lake, folder).await?);
    if let Some(table) = &table {
        if log.since_checkpoint() > COMMITS_PER_CHECKPOINT {
            let applications = [landing::APPLICATION, derived::APPLICATION, merges::APPLICATION];
            table.checkpoint(lake, folder, &applications).await?;
            failpoint("maintain.checkpoint");
            report.checkpoint = true;
            log = Log::list(lake, folder).await?;
        }
        let expired: Vec<_> = log.expired(cutoff).into_iter().cloned().collect();
        report.log = vacuum::remove(lake, &expired, "maintain.checkpoint").await?;
        log = Log::list(lake, folder).await?;
    }
    let unnamed = vacuum::unnamed(lake, folder, table.as_ref(), &log, cutoff).await?;
    if !unnamed.is_empty() {
        Maintained::record(lake, cutoff.unwrap_or_else(Utc::now)).await?;
    }
    report.vacuumed = vacuum::remove(lake, &unnamed, "maintain.vacuum").await?;
    report.after = state(table.as_ref(), &log)?;
    Ok((table.is_some() || report.vacuumed.files > 0).then_some(report))
}

fn state(table: Option<&Table>, log: &Log) -> Result<State> {
    let files = table.map_or_else(|| Ok(Vec::new()), Table::files)?;
    Ok(State {
        rows: files.iter().map(|part| part.rows).sum(),
        files: files.len(),
        bytes: files.iter().map(|part| part.size).sum(),
        commits: log.commits.len(),
        since_checkpoint: log.since_checkpoint(),
    })
}

/// The time of the store: that of an object written just now.
async fn clock_of_store(lake: &Lake) -> Result<DateTime<Utc>> {
    let probe = format!("{STAGING}/clock-{}", Uuid::new_v4().simple());
    lake.put(&probe, "".into()).await?;
    let written = lake.store().head(&lake.path(&probe)).await;
    lake.delete(&probe).await?;
    Ok(written?.last_modified)
}

/// Refuses to judge by age when two clocks disagree.
fn check_clock(here: DateTime<Utc>, there: DateTime<Utc>) -> Result<()> {
    if (here - there).abs() <= CLOCK_TOLERANCE {
        return Ok(());
    }
    Err(Error::unavailable(format!("it is {here} here and {there} in the lake, so no file's age is known"))
        .hint("set the clock, then run again; nothing was removed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_disagree_are_refused() {
        let here = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        for minutes in [-5, 0, 5] {
            check_clock(here, here + TimeDelta::minutes(minutes)).unwrap();
        }
        for minutes in [-365 * 24 * 60, -6, 6, 8 * 24 * 60] {
            let error = check_clock(here, here + TimeDelta::minutes(minutes)).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Unavailable);
        }
    }
}
