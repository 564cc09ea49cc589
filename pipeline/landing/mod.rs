//! Landing: batches of events, exactly once.
//!
//! A batch goes through fixed steps, each safe to be the last: its manifest is written before a file is read; the
//! tables' snapshots are loaded; records are read, mapped and written as data files under names that are never used
//! twice; the ledger entry is written; dead letters are committed, then events, each with the batch's number as
//! application transaction on the snapshot that was checked. A batch that was cut short is read again from its manifest
//! and gives the same rows; what of it is committed already is left alone.

mod batch;
pub mod batches;
mod clean;
mod columns;
mod commit;
mod dead_letters;
/// One event per id.
pub mod deduplicate;
pub mod events;
pub mod folded;
pub mod id_hashes;
pub mod ledger;
mod letters;
mod mapping;
mod plan;
pub mod reasons;
/// Dead letters taken up again.
pub mod replay;
/// Times as sources write them.
pub mod time;
/// A source mapped without landing.
pub mod trial;
mod values;
/// Rows as Parquet files by day.
pub mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::logical_expr::{col, lit};
use futures::TryStreamExt;
use uuid::Uuid;

pub use self::batch::spec;
use self::batch::{Staged, Unsettled, stage};
pub use self::columns::paths_read;
use self::commit::{Letters, commit_events, commit_letters, write_letters};
use self::deduplicate::Deduplicator;
use self::events::{DEAD_LETTERS, EVENTS};
use self::id_hashes::Hashes;
use self::ledger::{Counts, Entry, Manifest};
use self::mapping::Mapping;
use self::plan::{Known, next_files};
pub use self::plan::{Listed, list_source};
use self::replay::Verdict;
use crate::config::Source;
use crate::delta::Table;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::functions::content_id;
use crate::workspace::Workspace;

/// Application of the commits that land batches; its number is the batch.
pub const APPLICATION: &str = "wayline.landing";

/// What a landing came to.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Landed {
    /// Numbers of the batches that were landed.
    pub batches: Vec<i64>,
    /// Counts by source over these batches.
    pub sources: BTreeMap<String, Counts>,
    /// Files that were passed over: path, reason, detail.
    pub refused_files: Vec<(String, String, String)>,
    /// Whether files were left for the next run, since this one landed as many batches as it may.
    #[serde(default)]
    pub has_more: bool,
}

impl Landed {
    /// Counts over all sources.
    pub fn total(&self) -> Counts {
        self.sources.values().fold(Counts::default(), |mut total, counts| {
            total.add(counts);
            total
        })
    }

    fn refuse(&mut self, source: &Source, path: &str, reason: &str, detail: &str) {
        tracing::warn!(source = source.name, path, reason, detail, "file passed over");
        self.refused_files.push((path.to_string(), reason.to_string(), detail.to_string()));
    }
}

/// The last batch whose events are committed; 0 before the first.
pub async fn last_batch(workspace: &Workspace) -> Result<i64> {
    // A batch that is forgotten would be landed again.
    match Table::open_by_list(&workspace.lake, EVENTS).await? {
        Some(table) => Ok(table.transaction(APPLICATION).await?.unwrap_or(0)),
        None => Ok(0),
    }
}

/// Sources with their files.
type Listings = Vec<(Arc<Source>, Listed)>;

/// Lands everything that is new, batch by batch up to `[landing] max_batches`, first what an earlier run left unfinished.
/// `landed` tells what was landed, also when an error ends it; `progress` is told bytes done and bytes in all of each
/// batch.
pub async fn land(workspace: &Workspace, landed: &mut Landed, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
    let last = last_batch(workspace).await?;
    let mut known = Known::of(&Entry::load_all(&workspace.lake, last).await?);
    let sources = list_sources(workspace).await?;
    for (source, listing) in &sources {
        for (path, reason, detail) in &listing.refused {
            landed.refuse(source, path, reason, detail);
        }
        if listing.files.is_empty() && listing.refused.is_empty() && !known.has_taken_from(&source.name) {
            tracing::warn!(source = source.name, path = source.path, "no file matches");
        }
    }
    let mut number = last + 1;
    let max_batches = workspace.project.config.landing.max_batches.map_or(usize::MAX, usize::from);
    while landed.batches.len() < max_batches {
        failpoint("land.plan");
        let Some(planned) = next_batch(workspace, &sources, &mut known, number).await? else { return Ok(()) };
        failpoint("land.manifest");
        let Landing { entry, unsettled, .. } = land_batch(workspace, &sources, &planned, &mut known, progress).await?;
        for (file, reason, detail) in unsettled {
            known.pass_over(&file.source, &file.path);
            if let Some((source, _)) = sources.iter().find(|(source, _)| source.name == file.source) {
                landed.refuse(source, &file.path, reason, &detail);
            }
        }
        let Some(entry) = entry else { continue };
        tracing::info!(batch = number, files = entry.files.len(), "landed");
        landed.batches.push(number);
        for (source, counts) in &entry.sources {
            landed.sources.entry(source.clone()).or_default().add(counts);
        }
        known.add(&entry);
        number += 1;
    }
    // What is wrong with the rest is for the run that lands it.
    let rest = next_files(&workspace.project, &sources, &mut known).await;
    landed.has_more = rest.map_or(true, |files| !files.is_empty());
    Ok(())
}

/// Reads the mappings of all sources, so that what is wrong with one is known before anything is landed, and lists them.
async fn list_sources(workspace: &Workspace) -> Result<Listings> {
    let config = &workspace.project.config;
    for source in &config.sources {
        Mapping::new(source, &config.privacy.pseudonymize, workspace.pseudonymiser.clone())?;
    }
    let mut sources = Vec::new();
    for source in &config.sources {
        sources.push((Arc::new(source.clone()), list_source(workspace, source).await?));
    }
    Ok(sources)
}

/// A batch that is to be landed.
struct Planned {
    manifest: Manifest,
    /// Its dead letters are committed and its events are not: it must end with the very rows with which it began.
    is_half_committed: bool,
}

/// The batch `number`: that of an unfinished attempt if files and configuration are still what they were, else a new one.
async fn next_batch(
    workspace: &Workspace,
    sources: &Listings,
    known: &mut Known,
    number: i64,
) -> Result<Option<Planned>> {
    let configuration = configuration(workspace)?;
    if let Some(manifest) = Manifest::load(&workspace.lake, number).await? {
        if last_letters(workspace).await? >= number {
            let manifest = half_committed(workspace, sources, manifest, &configuration).await?;
            return Ok(Some(Planned { manifest, is_half_committed: true }));
        }
        let is_as_planned = manifest.configuration == configuration && manifest.replay.is_none();
        if is_as_planned && changed_file(sources, &manifest, None).await?.is_none() {
            return Ok(Some(Planned { manifest, is_half_committed: false }));
        }
        // Nothing of the batch is committed, so it may be planned anew.
        manifest.discard(&workspace.lake).await?;
    }
    let files = next_files(&workspace.project, sources, known).await?;
    if files.is_empty() {
        return Ok(None);
    }
    let planned_at = chrono::Utc::now().timestamp_micros();
    let manifest = Manifest { format: 1, batch: number, planned_at, configuration, files, replay: None };
    if !manifest.save_new(&workspace.lake).await? {
        return Err(Error::conflict(format!("batch {number} was planned by another run")).hint("run again"));
    }
    Ok(Some(Planned { manifest, is_half_committed: false }))
}

/// The last batch whose dead letters are committed, of those that have any; 0 before the first.
async fn last_letters(workspace: &Workspace) -> Result<i64> {
    match Table::open(&workspace.lake, DEAD_LETTERS).await? {
        Some(table) => Ok(table.transaction(APPLICATION).await?.unwrap_or(0)),
        None => Ok(0),
    }
}

/// The manifest of a batch whose dead letters are committed, with the files that these came from.
async fn half_committed(
    workspace: &Workspace,
    sources: &Listings,
    mut manifest: Manifest,
    configuration: &str,
) -> Result<Manifest> {
    let number = manifest.batch;
    let entry = Entry::load(&workspace.lake, number).await?;
    let entry = entry.ok_or_else(|| Error::corrupt(format!("batch {number} has dead letters and no ledger entry")))?;
    manifest.files.retain(|planned| entry.files.iter().any(|taken| taken.file == *planned));
    if manifest.configuration != configuration {
        return Err(Error::invalid(format!("the configuration of sources changed while batch {number} was landing"))
            .hint("restore it and run again, the batch then ends where it was cut short; then change it"));
    }
    match changed_file(sources, &manifest, Some(&entry)).await? {
        None => Ok(manifest),
        Some(path) => Err(Error::invalid(format!("{path} changed or went away while batch {number} was landing"))
            .hint("restore the file as it was and run again; the batch then ends where it was cut short")),
    }
}

/// The first file of a manifest that is not what it was, by its looks or, with an entry, by its hash.
async fn changed_file<'m>(
    sources: &Listings,
    manifest: &'m Manifest,
    entry: Option<&Entry>,
) -> Result<Option<&'m str>> {
    for planned in &manifest.files {
        let taken = entry.and_then(|entry| entry.files.iter().find(|taken| taken.file == *planned));
        let sha256 = taken.and_then(|taken| taken.sha256.as_deref());
        let listing = sources.iter().find(|(source, _)| source.name == planned.source).map(|(_, listing)| listing);
        let holds = match listing {
            Some(listing) => listing.still_holds(planned, sha256).await?,
            None => false,
        };
        if !holds {
            return Ok(Some(&planned.path));
        }
    }
    Ok(None)
}

/// A hash of what decides what becomes of a record: sources, limits, pseudonyms and their key.
fn configuration(workspace: &Workspace) -> Result<String> {
    let config = &workspace.project.config;
    let key = workspace.pseudonymiser.as_ref().map(|pseudonymiser| pseudonymiser.content_id("key", ""));
    let decides = (&config.sources, &config.privacy, config.landing.max_record_bytes, key);
    Ok(content_id("configuration", &serde_json::to_string(&decides)?))
}

/// What came of a batch.
#[derive(Default)]
struct Landing {
    /// Its entry; none if there was nothing to land after all.
    entry: Option<Entry>,
    /// Files that were left out.
    unsettled: Vec<Unsettled>,
    /// Dead letters that it took up, with what came of them.
    verdicts: Vec<Verdict>,
}

/// Lands a batch.
async fn land_batch(
    workspace: &Workspace,
    sources: &Listings,
    planned: &Planned,
    known: &mut Known,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Landing> {
    let (lake, manifest) = (&workspace.lake, &planned.manifest);
    let events_table = Table::open(lake, EVENTS).await?;
    let letters_table = Table::open(lake, DEAD_LETTERS).await?;
    failpoint("land.snapshot");

    let (mut staged, verdicts) = match (&manifest.replay, &letters_table) {
        (Some(_), Some(letters)) => replay::stage(workspace, sources, planned, letters, progress).await?,
        (Some(_), None) => {
            return Err(Error::corrupt(format!("batch {} takes dead letters up, and there are none", manifest.batch)));
        }
        (None, _) => (stage(workspace, sources, manifest, progress).await?, Vec::new()),
    };
    if let Some((file, reason, detail)) = staged.unsettled.first()
        && planned.is_half_committed
    {
        // Its dead letters are landed, so its events must not be left out.
        return Err(Error::unavailable(format!("{}: {reason}: {detail}", file.path)).hint("run again"));
    }
    let fates = replay::fates(&verdicts, manifest.batch);
    let is_nothing = match manifest.replay {
        Some(_) => fates.is_empty(),
        None => staged.files.is_empty(),
    };
    if is_nothing && !planned.is_half_committed {
        manifest.discard(lake).await?;
        return Ok(Landing { entry: None, unsettled: staged.unsettled, verdicts });
    }
    let (deduplicator, newest) = deduplicate(workspace, events_table.as_ref(), manifest, &mut staged).await?;
    let prefix = format!("{APPLICATION}-{}-{}", manifest.batch, Uuid::new_v4().simple());
    let events = std::mem::take(&mut staged.events).into_iter().map(|(_, batch)| batch).collect();
    let is_duplicate = |batch: usize, row: usize| deduplicator.duplicates(batch)[row];
    let threads = workspace.project.config.engine.thread_count();
    let parts = write::write(lake, events, is_duplicate, manifest.batch, &prefix, threads).await?;
    let mut letters = Letters::default();
    if !planned.is_half_committed {
        if let Some(table) = &letters_table {
            (letters.replaced, letters.parts) = letters::rewrite(workspace, table, &fates, &prefix).await?;
        }
        letters.parts.extend(write_letters(workspace, manifest.batch, staged.dead_letters, &prefix).await?);
    }

    let entry = Entry {
        format: 1,
        batch: manifest.batch,
        planned_at: manifest.planned_at,
        files: staged.files,
        touched: known.take_touched(),
        sources: staged.counts,
        newest_occurred_at: newest,
        replay: manifest.replay.clone(),
    };
    entry.save(lake).await?;
    failpoint("land.ledger");
    commit_letters(workspace, letters_table.as_ref(), manifest.batch, letters).await?;
    commit_events(workspace, events_table.as_ref(), manifest.batch, parts).await?;
    failpoint("land.ack");
    Ok(Landing { entry: Some(entry), unsettled: staged.unsettled, verdicts })
}

/// Finds the duplicates of a batch, moves them from `landed` to `duplicates` in the counts, counts late events, and tells
/// the newest `occurred_at` that is not in the future.
async fn deduplicate(
    workspace: &Workspace,
    landed: Option<&Table>,
    manifest: &Manifest,
    staged: &mut Staged,
) -> Result<(Deduplicator, Option<i64>)> {
    let rows: usize = staged.events.iter().map(|(_, batch)| batch.num_rows()).sum();
    let pieces = staged.events.iter().map(|(_, batch)| (batch.column(0).as_string(), batch.column(2).as_primitive()));
    let mut deduplicator = Deduplicator::new(&pieces.collect::<Vec<_>>());
    if let Some(table) = landed.filter(|_| rows > 0) {
        let (ctx, lake) = (&workspace.ctx, &workspace.lake);
        let ids = staged.events.iter().flat_map(|(_, batch)| batch.column(0).as_string::<i32>().iter().flatten());
        let files = Hashes::of(ids).files(ctx, lake, table.files()?).await?;
        // A batch that is read again must not find itself.
        let frame = ctx.read_table(table.provider_of(lake, EVENTS, files)?)?;
        let frame = frame.filter(col("batch").not_eq(lit(manifest.batch)))?;
        let mut ids = frame.select_columns(&["event_id"])?.execute_stream().await?;
        while let Some(batch) = ids.try_next().await? {
            deduplicator.drop_landed(batch.column(0))?;
        }
    }
    let tolerance = workspace.project.config.landing.future_tolerance.micros();
    let mut newest = None;
    let names: Vec<&str> = workspace.project.config.sources.iter().map(|source| source.name.as_str()).collect();
    for (number, (source, batch)) in staged.events.iter().enumerate() {
        let duplicates = deduplicator.duplicates(number);
        let count = duplicates.iter().filter(|is_duplicate| **is_duplicate).count() as u64;
        if let Some(counts) = staged.counts.get_mut(names[*source]) {
            counts.landed -= count;
            counts.duplicates += count;
            counts.late += late_of(batch, duplicates);
        }
        newest = newest.max(newest_of(batch, duplicates, manifest.planned_at, tolerance));
    }
    Ok((deduplicator, newest))
}

/// Events that were received more than a day after they occurred, as `data_quality` counts them.
fn late_of(batch: &RecordBatch, duplicates: &[bool]) -> u64 {
    const DAY: i64 = 86_400_000_000;
    let occurred = batch.column(1).as_primitive::<TimestampMicrosecondType>().values();
    let received = batch.column(2).as_primitive::<TimestampMicrosecondType>().values();
    let rows = occurred.iter().zip(received).zip(duplicates);
    rows.filter(|((occurred, received), is_duplicate)| !**is_duplicate && received.saturating_sub(**occurred) > DAY)
        .count() as u64
}

/// A source's clock may be as wrong as its events, so `received_at` counts up to the time of the batch only.
fn newest_of(batch: &RecordBatch, duplicates: &[bool], planned_at: i64, tolerance: i64) -> Option<i64> {
    let occurred = batch.column(1).as_primitive::<TimestampMicrosecondType>().values();
    let received = batch.column(2).as_primitive::<TimestampMicrosecondType>().values();
    let rows = occurred.iter().zip(received).zip(duplicates);
    let present = rows.filter(|((occurred, received), is_duplicate)| {
        !**is_duplicate && **occurred <= planned_at.min(**received).saturating_add(tolerance)
    });
    present.map(|((occurred, _), _)| *occurred).max()
}

/// The files that the next batches would take, as (source, path, bytes).
pub async fn pending(workspace: &Workspace) -> Result<Vec<(String, String, u64)>> {
    let mut known = Known::of(&Entry::load_all(&workspace.lake, last_batch(workspace).await?).await?);
    let listed = list_sources(workspace).await?;
    let mut pending = Vec::new();
    loop {
        let files = next_files(&workspace.project, &listed, &mut known).await?;
        if files.is_empty() {
            return Ok(pending);
        }
        for file in files {
            known.pass_over(&file.source, &file.path);
            pending.push((file.source, file.path, file.size));
        }
    }
}

/// What a source holds, as a check finds it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Found {
    /// Name of the source.
    pub source: String,
    /// Files that can be landed.
    pub files: usize,
    /// Files that are passed over: path, reason, detail.
    pub refused: Vec<(String, &'static str, String)>,
}

/// Checks sources without taking anything: reads their mappings and lists them.
pub async fn check(workspace: &Workspace) -> Result<Vec<Found>> {
    let found = |(source, listing): (Arc<Source>, Listed)| Found {
        source: source.name.clone(),
        files: listing.files.len(),
        refused: listing.refused,
    };
    Ok(list_sources(workspace).await?.into_iter().map(found).collect())
}
