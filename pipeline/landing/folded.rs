//! Ledger entries of old batches in few files, so that a lake of many small batches is not read object by object.
//!
//! A fold holds the entries of a row of batches, `landing/batches/folded/<first>-<last>.json`, and is written once. It
//! grows by a new one that begins where it does; one that holds enough is followed by the next. Entries and manifests
//! that it covers are removed after it is written, and so is the fold that it replaces: a job that is cut short leaves
//! the same entries twice, never once less.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use super::ledger::{BATCHES, Entry};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;

/// Folder of the folds.
const FOLDED: &str = "landing/batches/folded";
/// Loose entries from which a fold pays: a fold rewrites the entries of the one that it replaces.
const WORTH_FOLDING: i64 = 100;
/// Entries of a fold that is full: some megabytes, and rather more than a day of batches every ten seconds.
const ENTRIES_PER_FOLD: i64 = 10_000;
/// Objects that are read or removed at once.
const AT_ONCE: usize = 16;

/// What a fold did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Folded {
    /// Entries that were put into a fold.
    pub entries: usize,
    /// Objects that it replaced and that were removed.
    pub removed: usize,
}

/// Range of batches of each fold, in order, without those that another covers.
async fn folds(lake: &Lake) -> Result<Vec<(i64, i64)>> {
    Ok(listed(lake).await?.into_iter().map(|(range, _)| range).collect())
}

/// The same, each with its document.
async fn listed(lake: &Lake) -> Result<Vec<((i64, i64), ObjectMeta)>> {
    let mut longest: BTreeMap<i64, (i64, ObjectMeta)> = BTreeMap::new();
    for fold in lake.list_documents(FOLDED).await? {
        let Some((first, last)) = fold.location.filename().and_then(range) else { continue };
        if longest.get(&first).is_none_or(|(end, _)| *end < last) {
            longest.insert(first, (last, fold));
        }
    }
    Ok(longest.into_iter().map(|(first, (last, fold))| ((first, last), fold)).collect())
}

fn range(name: &str) -> Option<(i64, i64)> {
    let (first, last) = name.strip_suffix(".json")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

fn path(first: i64, last: i64) -> String {
    format!("{FOLDED}/{first:012}-{last:012}.json")
}

/// The last batch whose entry is in a fold; 0 when there is none.
pub async fn last_folded(lake: &Lake) -> Result<i64> {
    Ok(folds(lake).await?.last().map_or(0, |(_, last)| *last))
}

/// Entries of the folds, of the batches after `after` without a gap. `last` is the last batch that is committed: a fold
/// that tells of more belongs to other events than those that are there.
pub(super) async fn load(lake: &Lake, after: i64, last: i64) -> Result<Vec<Arc<Entry>>> {
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    for ((first, end), fold) in listed(lake).await?.into_iter().filter(|((_, end), _)| *end > after) {
        let path = path(first, end);
        if end > last {
            let error = format!("{path} tells of batch {end}, and the last that is landed is {last}");
            return Err(Error::corrupt(error)
                .hint("restore landing/events; or move away landing/batches, if the events are to be landed anew"));
        }
        let read = lake.read_once(&fold, parse).await?;
        let read = read.ok_or_else(|| Error::corrupt(format!("{path} went away")))?;
        entries.extend(read.iter().filter(|entry| entry.batch > after).cloned());
    }
    match entries.iter().zip(after + 1..).find(|(entry, batch)| entry.batch != *batch) {
        None => Ok(entries),
        Some((_, batch)) => Err(Error::corrupt(format!("{FOLDED}: the entry of batch {batch} is missing"))),
    }
}

fn parse(fold: &[u8]) -> Result<Vec<Arc<Entry>>> {
    Ok(serde_json::from_slice::<Vec<Entry>>(fold)?.into_iter().map(Arc::new).collect())
}

/// Whether [`fold`] has something to do.
pub async fn is_due(lake: &Lake, last: i64) -> Result<bool> {
    Ok(last - last_folded(lake).await? >= WORTH_FOLDING)
}

/// Puts the entries of all committed batches into folds, if enough are loose, and removes what folds cover.
pub async fn fold(lake: &Lake, last: i64) -> Result<Folded> {
    let mut done = Folded::default();
    let before = folds(lake).await?;
    let covered = before.last().map_or(0, |(_, end)| *end);
    if last - covered >= WORTH_FOLDING {
        let entries = Entry::load_all(lake, last).await?;
        let mut first = match before.last() {
            Some((first, end)) if end - first + 1 < ENTRIES_PER_FOLD => *first,
            _ => covered + 1,
        };
        while first <= last {
            let end = last.min(first + ENTRIES_PER_FOLD - 1);
            let folded = entries.iter().filter(|entry| (first..=end).contains(&entry.batch)).map(Arc::as_ref);
            let folded: Vec<&Entry> = folded.collect();
            let path = path(first, end);
            let content = Bytes::from(serde_json::to_vec(&folded)?);
            // One that is there is that of a job that was cut short; it must say the same.
            if !lake.put_new(&path, content.clone()).await? && lake.get(&path).await?.as_ref() != Some(&content) {
                return Err(Error::corrupt(format!("{path} says other than the entries that it covers")));
            }
            failpoint("maintain.fold");
            first = end + 1;
        }
        done.entries = usize::try_from(last - covered).unwrap_or_default();
    }
    done.removed = remove_covered(lake).await?;
    Ok(done)
}

/// Removes entries, manifests and folds that a fold covers.
async fn remove_covered(lake: &Lake) -> Result<usize> {
    let folds = folds(lake).await?;
    let covered = folds.last().map_or(0, |(_, end)| *end);
    if covered == 0 {
        return Ok(0);
    }
    let mut superseded = Vec::new();
    for file in lake.list(BATCHES).await? {
        let Some(name) = file.location.filename() else { continue };
        let is_superseded = match range(name) {
            Some(range) => !folds.contains(&range),
            None => name.split('.').next().and_then(|number| number.parse().ok()).is_some_and(|at: i64| at <= covered),
        };
        if is_superseded {
            superseded.extend(lake.relative(&file.location));
        }
    }
    let count = superseded.len();
    futures::stream::iter(superseded)
        .map(|path| async move {
            lake.delete(&path).await?;
            failpoint("maintain.fold");
            Ok::<_, Error>(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::lake::faulty::{Faulty, Kind, Operation};
    use crate::landing::ledger::Manifest;

    async fn add(lake: &Lake, batches: std::ops::RangeInclusive<i64>) {
        for batch in batches {
            let manifest = Manifest {
                format: 1,
                batch,
                planned_at: 0,
                configuration: "c".into(),
                files: Vec::new(),
                replay: None,
            };
            assert!(manifest.save_new(lake).await.unwrap());
            Entry {
                format: 1,
                batch,
                planned_at: batch,
                files: Vec::new(),
                touched: Vec::new(),
                sources: BTreeMap::new(),
                newest_occurred_at: None,
                replay: None,
            }
            .save(lake)
            .await
            .unwrap();
        }
    }

    async fn names(lake: &Lake) -> Vec<String> {
        let files = lake.list(BATCHES).await.unwrap();
        files.iter().map(|file| file.location.filename().unwrap().to_string()).collect()
    }

    #[tokio::test]
    async fn folded_entries_are_read_as_before_from_few_files() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        add(&lake, 1..=99).await;
        assert_eq!(fold(&lake, 99).await.unwrap(), Folded::default());
        add(&lake, 100..=102).await;
        let before = Entry::load_all(&lake, 101).await.unwrap();
        assert!(is_due(&lake, 101).await.unwrap());
        assert_eq!(fold(&lake, 101).await.unwrap(), Folded { entries: 101, removed: 202 });
        assert!(!is_due(&lake, 101).await.unwrap());
        assert_eq!(Entry::load_all(&lake, 101).await.unwrap(), before);
        // Of the batch that is not committed nothing is touched.
        let fold_name = "000000000001-000000000101.json";
        assert_eq!(names(&lake).await, ["000000000102.json", "000000000102.ledger.json", fold_name]);
        add(&lake, 103..=250).await;
        for after in [0, 50, 101, 200, 250] {
            let later = Entry::load_after(&lake, after, 250).await.unwrap();
            assert!(later.iter().map(|entry| entry.batch).eq(after + 1..=250), "after {after}");
        }
        fold(&lake, 250).await.unwrap();
        assert_eq!(names(&lake).await, ["000000000001-000000000250.json"], "a fold grows until it is full");
        let all: Vec<i64> = Entry::load_all(&lake, 250).await.unwrap().iter().map(|entry| entry.batch).collect();
        assert_eq!(all, (1..=250).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn entries_are_read_once_through_a_lake_loose_and_folded() {
        let folder = tempfile::tempdir().unwrap();
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = reads.clone();
        let lake = Lake::open(folder.path(), "lake").unwrap().with_store(|inner| {
            let counted = counted.clone();
            Faulty::wrap(inner, move |operation: &Operation| {
                counted.fetch_add(usize::from(operation.kind == Kind::Get), Ordering::Relaxed);
                None
            })
        });
        add(&lake, 1..=120).await;
        let load = async |last| {
            reads.store(0, Ordering::Relaxed);
            let entries = Entry::load_all(&lake, last).await.unwrap();
            assert!(entries.iter().map(|entry| entry.batch).eq(1..=last));
            reads.load(Ordering::Relaxed)
        };
        assert_eq!((load(110).await, load(110).await, load(120).await), (110, 0, 10));
        fold(&lake, 110).await.unwrap();
        assert_eq!((load(110).await, load(110).await), (1, 0));

        // One that was written anew is read anew.
        add(&lake, 121..=140).await;
        load(140).await;
        let mut entry = Entry::load(&lake, 130).await.unwrap().unwrap();
        entry.planned_at += 1;
        entry.save(&lake).await.unwrap();
        let read = Entry::load_all(&lake, 140).await.unwrap();
        assert_eq!(read[129].planned_at, entry.planned_at);
        // One that is gone is missed.
        lake.delete("landing/batches/000000000135.ledger.json").await.unwrap();
        assert!(Entry::load_all(&lake, 140).await.unwrap_err().to_string().contains("135"));
    }

    #[tokio::test]
    async fn a_fold_of_other_events_or_with_a_gap_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        add(&lake, 1..=100).await;
        fold(&lake, 100).await.unwrap();
        let error = Entry::load_all(&lake, 3).await.unwrap_err();
        assert!(error.to_string().contains("tells of batch 100, and the last that is landed is 3"), "{error}");
        assert!(Entry::load_all(&lake, 101).await.is_err(), "a loose entry must be there");
        let content = lake.get(&path(1, 100)).await.unwrap().unwrap();
        lake.put(&path(2, 101), content).await.unwrap();
        assert!(Entry::load_all(&lake, 101).await.is_err());
    }
}
