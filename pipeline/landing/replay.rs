//! Replay: dead letters taken up again, by the configuration as it is now.
//!
//! A replay is a batch of its own, planned, written and committed as any other, whose records come from dead letters. Each
//! becomes the event that it would have become when it came: with the id, the source and the time of receipt that it would
//! have had then. Its dead letter stays and names the batch that took it up. What is refused again stays a dead letter,
//! with its present reason. That of a file refused whole whose like was delivered and landed later names the batch of that.
//!
//! A record is read from the bytes of its letter, or from its file again where these are not all of it (a file refused
//! whole, a line cut short, a row of Parquet) or not what came (identifiers that became pseudonyms), as long as the file is
//! there and what it was.

mod records;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::batch::Staged;
use super::events::DEAD_LETTERS;
use super::ledger::{Counts, Entry, Manifest, Replay};
use super::letters::{Fate, Key, Letter};
use super::plan::Known;
use super::{
    Listings, Planned, configuration, half_committed, land_batch, last_batch, last_letters, letters, list_sources,
};
use crate::delta::Table;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::workspace::Workspace;

/// Reason of a record of which only a part is kept.
const LINE_TOO_LONG: &str = "line_too_long";

/// Which dead letters to take up.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only those of this reason.
    pub reason: Option<String>,
    /// Only those of this source.
    pub source: Option<String>,
    /// Only those that came with this batch.
    pub batch: Option<i64>,
}

/// What a replay came to.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Replayed {
    /// Numbers of the batches that were landed.
    pub batches: Vec<i64>,
    /// Counts by source over these batches.
    pub sources: BTreeMap<String, Counts>,
    /// Dead letters that became events, or duplicates of some, or whose file landed since, by the reason that they had.
    pub taken_up: BTreeMap<String, u64>,
    /// Dead letters that were refused again, by the reason that they have now.
    pub refused: BTreeMap<String, u64>,
    /// Dead letters that could not be read again, by what was missing.
    pub left: BTreeMap<String, u64>,
}

impl Replayed {
    /// Adds what came of a batch.
    fn add(&mut self, batch: i64, entry: Option<&Entry>, verdicts: &[Verdict]) {
        self.batches.extend(entry.map(|_| batch));
        self.count(entry.map_or(&BTreeMap::new(), |entry| &entry.sources), verdicts);
    }

    /// Counts the records and letters of one batch.
    fn count(&mut self, sources: &BTreeMap<String, Counts>, verdicts: &[Verdict]) {
        for (source, counts) in sources {
            self.sources.entry(source.clone()).or_default().add(counts);
        }
        for Verdict { letter, outcome } in verdicts {
            let count = match outcome {
                Outcome::Landed | Outcome::LandedIn(_) => self.taken_up.entry(letter.reason.clone()),
                Outcome::Refused { reason, .. } => self.refused.entry((*reason).to_string()),
                Outcome::Left(why) => self.left.entry((*why).to_string()),
            };
            *count.or_default() += 1;
        }
    }
}

/// A dead letter and what came of it.
#[derive(Debug)]
pub(super) struct Verdict {
    letter: Letter,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It is an event, or a duplicate of one; of a file refused whole: it was read.
    Landed,
    /// Its file was refused whole, and this batch took what was delivered under its name later.
    LandedIn(i64),
    Refused {
        reason: &'static str,
        detail: String,
        /// Its bytes, where they were read anew.
        record: Option<Bytes>,
    },
    /// It cannot be read again, for this.
    Left(&'static str),
}

/// What is to be written of letters by the batch that took them up: nothing of those that are as they were.
pub(super) fn fates(verdicts: &[Verdict], batch: i64) -> HashMap<Key, Fate> {
    let fate = |Verdict { letter, outcome }: &Verdict| match outcome {
        Outcome::Landed => Some(Fate::ReplayedIn(batch)),
        Outcome::LandedIn(batch) => Some(Fate::ReplayedIn(*batch)),
        Outcome::Refused { reason, detail, record } => {
            // Whether a file ended within the record cannot be told without the file.
            let is_cut = *reason == "json_syntax" && letter.reason == "json_truncated";
            // Of a line too long a part is kept; here all of it is.
            let is_whole = *reason == LINE_TOO_LONG && letter.reason != LINE_TOO_LONG;
            let is_same = *reason == letter.reason && *detail == letter.detail;
            (!is_cut && !is_whole && !is_same).then(|| Fate::Refused {
                reason,
                detail: detail.clone(),
                record: record.clone(),
            })
        }
        Outcome::Left(_) => None,
    };
    verdicts.iter().filter_map(|verdict| Some((verdict.letter.key(), fate(verdict)?))).collect()
}

/// Reads the dead letters that a batch takes up; of one whose dead letters are committed, those that it took up then.
pub(super) async fn stage(
    workspace: &Workspace,
    sources: &Listings,
    planned: &Planned,
    table: &Table,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Staged, Vec<Verdict>)> {
    let manifest = &planned.manifest;
    let entries = Entry::load_all(&workspace.lake, manifest.batch - 1).await?;
    let replay = manifest.replay.clone().unwrap_or_default();
    let taken_up = planned.is_half_committed.then_some(manifest.batch);
    let plan = records::plan(workspace, sources, &entries, table, &replay, taken_up).await?;
    let total = manifest.files.iter().map(|file| file.size).sum();
    let mut done = 0;
    let mut progress = |bytes| {
        done += bytes;
        progress(done, total);
    };
    plan.stage(workspace, sources, manifest, &mut progress).await
}

/// Takes dead letters up again, batch by batch, after what an earlier job left half landed. `replayed` tells what was
/// done, also when an error ends it.
pub async fn replay(
    workspace: &Workspace,
    selection: &Selection,
    replayed: &mut Replayed,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let sources = list_sources(workspace).await?;
    let mut number = last_batch(workspace).await? + 1;
    let mut known = Known::of(&Entry::load_all(&workspace.lake, number - 1).await?);
    if let Some(manifest) = Manifest::load(&workspace.lake, number).await? {
        if last_letters(workspace).await? >= number {
            let manifest = half_committed(workspace, &sources, manifest, &configuration(workspace)?).await?;
            let planned = Planned { manifest, is_half_committed: true };
            let landing = land_batch(workspace, &sources, &planned, &mut known, progress).await?;
            replayed.add(number, landing.entry.as_ref(), &landing.verdicts);
            number += 1;
        } else {
            // Nothing of it is committed, so it may be planned anew.
            manifest.discard(&workspace.lake).await?;
        }
    }
    let Some(table) = Table::open(&workspace.lake, DEAD_LETTERS).await? else { return Ok(()) };
    let most = workspace.project.config.landing.max_batch_bytes;
    for batches in letters::ranges(workspace, &table, &asked(selection), most).await? {
        failpoint("land.plan");
        let manifest = plan_replay(workspace, &sources, selection, batches, number).await?;
        if !manifest.save_new(&workspace.lake).await? {
            return Err(Error::conflict(format!("batch {number} was planned by another run")).hint("run again"));
        }
        failpoint("land.manifest");
        let planned = Planned { manifest, is_half_committed: false };
        let landing = land_batch(workspace, &sources, &planned, &mut known, progress).await?;
        replayed.add(number, landing.entry.as_ref(), &landing.verdicts);
        if let Some(entry) = landing.entry {
            known.add(&entry);
            number += 1;
        }
    }
    Ok(())
}

/// What a replay would do: nothing is written, and duplicates are not told from events.
pub async fn dry_run(workspace: &Workspace, selection: &Selection) -> Result<Replayed> {
    let mut replayed = Replayed::default();
    let sources = list_sources(workspace).await?;
    let number = last_batch(workspace).await? + 1;
    let Some(table) = Table::open(&workspace.lake, DEAD_LETTERS).await? else { return Ok(replayed) };
    let most = workspace.project.config.landing.max_batch_bytes;
    for batches in letters::ranges(workspace, &table, &asked(selection), most).await? {
        let manifest = plan_replay(workspace, &sources, selection, batches, number).await?;
        let planned = Planned { manifest, is_half_committed: false };
        let (staged, verdicts) = stage(workspace, &sources, &planned, &table, &mut |_, _| {}).await?;
        replayed.count(&staged.counts, &verdicts);
    }
    Ok(replayed)
}

/// All that a selection asks for.
fn asked(selection: &Selection) -> Replay {
    let batches = selection.batch.map_or((0, i64::MAX), |batch| (batch, batch));
    Replay { reason: selection.reason.clone(), source: selection.source.clone(), batches }
}

/// The manifest of a batch that takes up what a selection asks for of some batches.
async fn plan_replay(
    workspace: &Workspace,
    sources: &Listings,
    selection: &Selection,
    batches: (i64, i64),
    number: i64,
) -> Result<Manifest> {
    let table = Table::open(&workspace.lake, DEAD_LETTERS).await?;
    let table = table.ok_or_else(|| Error::corrupt(format!("{DEAD_LETTERS} went away")))?;
    let entries = Entry::load_all(&workspace.lake, number - 1).await?;
    let replay = Replay { batches, ..asked(selection) };
    let plan = records::plan(workspace, sources, &entries, &table, &replay, None).await?;
    Ok(Manifest {
        format: 1,
        batch: number,
        planned_at: chrono::Utc::now().timestamp_micros(),
        configuration: configuration(workspace)?,
        files: plan.files(workspace, sources),
        replay: Some(replay),
    })
}
