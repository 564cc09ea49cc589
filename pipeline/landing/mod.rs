//! Landing: batches of events, exactly once.
//!
//! A batch goes through fixed steps, each safe to be the last: its manifest is written before a file is read; the
//! tables' snapshots are loaded; records are read, mapped and written as data files under names that are never used
//! twice; the ledger entry is written; dead letters are committed, then events, each with the batch's number as
//! application transaction on the snapshot that was checked. A batch that was cut short is read again from its manifest
//! and gives the same rows; what of it is committed already is left alone.

mod batch;
mod columns;
mod dead_letters;
/// One event per id.
pub mod deduplicate;
pub mod events;
pub mod ledger;
mod mapping;
mod plan;
/// Times as sources write them.
pub mod time;
/// Rows as Parquet files by day.
pub mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::logical_expr::{col, lit};
use futures::TryStreamExt;
use uuid::Uuid;

use self::batch::{Staged, stage};
use self::deduplicate::Deduplicator;
use self::events::{DEAD_LETTER_SCHEMA, DEAD_LETTERS, EVENT_SCHEMA, EVENTS, PARTITION};
use self::ledger::{Counts, Entry, Manifest};
use self::plan::{Listed, list_source, next_files, taken};
use crate::config::Source;
use crate::delta::{self, Change, Part, Table};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
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
}

impl Landed {
    /// Counts over all sources.
    pub fn total(&self) -> Counts {
        self.sources.values().fold(Counts::default(), |mut total, counts| {
            total.add(counts);
            total
        })
    }
}

/// The last batch whose events are committed; 0 before the first.
pub async fn last_batch(workspace: &Workspace) -> Result<i64> {
    match Table::open(&workspace.lake, EVENTS).await? {
        Some(table) => Ok(table.transaction(APPLICATION).await?.unwrap_or(0)),
        None => Ok(0),
    }
}

/// Lands everything that is new, batch by batch, first what an earlier run left unfinished. `landed` tells what was
/// landed, also when an error ends it; `progress` is told bytes done and bytes in all of each batch.
pub async fn land(workspace: &Workspace, landed: &mut Landed, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
    let last = last_batch(workspace).await?;
    let mut entries = Entry::load_all(&workspace.lake, last).await?;
    let mut listed = Vec::new();
    for source in &workspace.project.config.sources {
        let listing = list_source(&workspace.project, source).await?;
        for (path, reason, detail) in &listing.refused {
            tracing::warn!(source = source.name, path, reason, detail, "file passed over");
            landed.refused_files.push((path.clone(), (*reason).to_string(), detail.clone()));
        }
        listed.push((Arc::new(source.clone()), listing));
    }
    let mut number = last + 1;
    loop {
        failpoint("land.plan");
        let Some(manifest) = next_manifest(workspace, &listed, &entries, number).await? else { return Ok(()) };
        failpoint("land.manifest");
        let entry = land_batch(workspace, &listed, &manifest, progress).await?;
        tracing::info!(batch = number, files = manifest.files.len(), "landed");
        landed.batches.push(number);
        for (source, counts) in &entry.sources {
            landed.sources.entry(source.clone()).or_default().add(counts);
        }
        entries.push(entry);
        number += 1;
    }
}

/// The manifest of batch `number`: that of an unfinished attempt if its files are still what they were, else a new one.
async fn next_manifest(
    workspace: &Workspace,
    listed: &[(Arc<Source>, Listed)],
    entries: &[Entry],
    number: i64,
) -> Result<Option<Manifest>> {
    if let Some(manifest) = Manifest::load(&workspace.lake, number).await? {
        let changed = manifest.files.iter().find(|planned| {
            let listing = listed.iter().find(|(source, _)| source.name == planned.source).map(|(_, listing)| listing);
            let now = listing.and_then(|listing| listing.files.get(&planned.path));
            now.is_none_or(|file| !Listed::planned(&planned.source, &planned.path, file).looks_like(planned))
        });
        let Some(changed) = changed else { return Ok(Some(manifest)) };
        let letters = Table::open(&workspace.lake, DEAD_LETTERS).await?;
        let is_half_committed = match &letters {
            Some(table) => table.transaction(APPLICATION).await?.is_some_and(|last| last >= number),
            None => false,
        };
        if is_half_committed {
            return Err(Error::invalid(format!(
                "{} changed or went away while batch {number} was landing",
                changed.path
            ))
            .hint("restore the file as it was and run again; the batch then ends where it was cut short"));
        }
        // Nothing of the batch is committed, so it may be planned anew.
        manifest.discard(&workspace.lake).await?;
    }
    let files = next_files(&workspace.project, listed, &taken(entries)).await?;
    if files.is_empty() {
        return Ok(None);
    }
    let planned_at = chrono::Utc::now().timestamp_micros();
    let manifest = Manifest { format: 1, batch: number, planned_at, files };
    if !manifest.save_new(&workspace.lake).await? {
        return Err(Error::conflict(format!("batch {number} was planned by another run")).hint("run again"));
    }
    Ok(Some(manifest))
}

async fn land_batch(
    workspace: &Workspace,
    listed: &[(Arc<Source>, Listed)],
    manifest: &Manifest,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Entry> {
    let lake = &workspace.lake;
    let events_table = Table::open(lake, EVENTS).await?;
    let letters_table = Table::open(lake, DEAD_LETTERS).await?;
    failpoint("land.snapshot");

    let mut staged = stage(workspace, listed, manifest, progress).await?;
    let (deduplicator, newest) = deduplicate(workspace, events_table.as_ref(), manifest, &mut staged).await?;
    let prefix = format!("{APPLICATION}-{}-{}", manifest.batch, Uuid::new_v4().simple());
    let events = std::mem::take(&mut staged.events).into_iter().map(|(_, batch)| batch).collect();
    let is_duplicate = |batch: usize, row: usize| deduplicator.duplicates(batch)[row];
    let threads = workspace.project.config.engine.thread_count();
    let parts = write::write(lake, events, is_duplicate, &prefix, threads).await?;
    let letters = write_letters(workspace, staged.dead_letters, manifest.batch, &prefix).await?;

    let entry = Entry {
        format: 1,
        batch: manifest.batch,
        planned_at: manifest.planned_at,
        files: staged.files,
        sources: staged.counts,
        newest_occurred_at: newest,
    };
    entry.save(lake).await?;
    failpoint("land.ledger");
    commit_letters(workspace, letters_table.as_ref(), manifest.batch, letters).await?;
    commit_events(workspace, events_table.as_ref(), manifest.batch, parts).await?;
    failpoint("land.ack");
    Ok(entry)
}

/// Finds the duplicates of a batch, moves them from `landed` to `duplicates` in the counts, and tells the newest
/// `occurred_at` that is not in the future.
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
        let provider = table.provider(&workspace.lake, EVENTS)?;
        // A batch that is read again must not find itself.
        let frame = workspace.ctx.read_table(provider)?.filter(col("batch").not_eq(lit(manifest.batch)))?;
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
        }
        newest = newest.max(newest_of(batch, duplicates, tolerance));
    }
    Ok((deduplicator, newest))
}

fn newest_of(batch: &RecordBatch, duplicates: &[bool], tolerance: i64) -> Option<i64> {
    let occurred = batch.column(1).as_primitive::<TimestampMicrosecondType>().values();
    let received = batch.column(2).as_primitive::<TimestampMicrosecondType>().values();
    let rows = occurred.iter().zip(received).zip(duplicates);
    let present = rows.filter(|((occurred, received), is_duplicate)| {
        !**is_duplicate && **occurred <= received.saturating_add(tolerance)
    });
    present.map(|((occurred, _), _)| *occurred).max()
}

async fn write_letters(
    workspace: &Workspace,
    letters: dead_letters::DeadLetters,
    batch: i64,
    prefix: &str,
) -> Result<Vec<Part>> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    let (content, rows) = delta::encode(&DEAD_LETTER_SCHEMA, [letters.finish(batch)?])?;
    let name = format!("{prefix}-dead-letters");
    Ok(vec![delta::write_part(&workspace.lake, DEAD_LETTERS, &name, Vec::new(), content, rows).await?])
}

/// Commits dead letters unless the snapshot has this batch already. A batch without any commits nothing.
async fn commit_letters(workspace: &Workspace, table: Option<&Table>, batch: i64, parts: Vec<Part>) -> Result<()> {
    let last = match table {
        Some(table) => table.transaction(APPLICATION).await?.unwrap_or(0),
        None => 0,
    };
    if parts.is_empty() || last >= batch {
        return Ok(());
    }
    let change = Change {
        transaction: (APPLICATION.into(), batch),
        schema: DEAD_LETTER_SCHEMA.clone(),
        partition_by: Vec::new(),
        properties: Vec::new(),
        replace: false,
        parts,
        failpoint: "land.dlq",
    };
    delta::commit(&workspace.lake, DEAD_LETTERS, table, change).await?.version()?;
    Ok(())
}

/// Commits events, on the snapshot that was loaded before reading; a batch without events still moves the number on.
async fn commit_events(workspace: &Workspace, table: Option<&Table>, batch: i64, parts: Vec<Part>) -> Result<()> {
    if let Some(table) = table
        && table.transaction(APPLICATION).await?.is_some_and(|last| last >= batch)
    {
        return Ok(());
    }
    let change = Change {
        transaction: (APPLICATION.into(), batch),
        schema: EVENT_SCHEMA.clone(),
        partition_by: vec![PARTITION.into()],
        properties: Vec::new(),
        replace: false,
        parts,
        failpoint: "land",
    };
    delta::commit(&workspace.lake, EVENTS, table, change).await?.version()?;
    Ok(())
}

/// The files that the next batch would take, as (source, path, bytes).
pub async fn pending(workspace: &Workspace) -> Result<Vec<(String, String, u64)>> {
    let entries = Entry::load_all(&workspace.lake, last_batch(workspace).await?).await?;
    let mut listed = Vec::new();
    for source in &workspace.project.config.sources {
        listed.push((Arc::new(source.clone()), list_source(&workspace.project, source).await?));
    }
    let files = next_files(&workspace.project, &listed, &taken(&entries)).await?;
    Ok(files.into_iter().map(|file| (file.source, file.path, file.size)).collect())
}

/// Checks sources without taking anything: lists them and plans their mappings. Returns files found by source.
pub async fn check(workspace: &Workspace) -> Result<Vec<(String, usize)>> {
    let mut found = Vec::new();
    let config = &workspace.project.config;
    for source in &config.sources {
        mapping::Mapping::new(source, &config.privacy.pseudonymize, workspace.pseudonymiser.clone())?;
        found.push((source.name.clone(), list_source(&workspace.project, source).await?.files.len()));
    }
    Ok(found)
}
