//! The books of landing: a manifest per batch, written before a file of it is read, and a ledger entry per batch with
//! what came of each file and source.
//!
//! Both are JSON under `landing/batches/`. An entry counts only when the events table has the batch's transaction.
//! Maintenance puts the entries of old batches together ([`super::folded`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::folded;
use crate::error::{Context, Error, Kind, Result};
use crate::lake::Lake;

/// Folder of the books.
pub const BATCHES: &str = "landing/batches";
/// Entries that are read at once.
const READS: usize = 16;

/// A file as it was seen when its batch was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Source that lists it.
    pub source: String,
    /// Path below the source's root.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// When it was written last, RFC 3339.
    pub last_modified: String,
    /// The store's version of it.
    pub e_tag: Option<String>,
}

impl PlannedFile {
    /// Whether a listed file still is the one that was planned, as far as the store tells without reading it.
    pub fn looks_like(&self, other: &Self) -> bool {
        self.size == other.size && self.last_modified == other.last_modified && self.e_tag == other.e_tag
    }
}

/// The write-ahead record of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this document's shape.
    pub format: u32,
    /// Number of the batch.
    pub batch: i64,
    /// Time of the batch in microseconds since 1970: `received_at` of events that bring none.
    pub planned_at: i64,
    /// Hash of the configuration that decides what becomes of a record.
    #[serde(default)]
    pub configuration: String,
    /// Files in the order in which they are read.
    pub files: Vec<PlannedFile>,
    /// The dead letters that the batch takes up again, if it does that; then the files are those that they are read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

/// Which dead letters a batch takes up again: those that no batch has taken up before and that all of this fits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Their reason.
    pub reason: Option<String>,
    /// Their source.
    pub source: Option<String>,
    /// First and last batch that they came with.
    pub batches: (i64, i64),
}

/// What came of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenFile {
    /// The file as planned.
    #[serde(flatten)]
    pub file: PlannedFile,
    /// SHA-256 of its bytes; none for a file that was refused whole.
    pub sha256: Option<String>,
    /// Oddities that refused nothing, with their counts.
    #[serde(default)]
    pub flags: BTreeMap<String, u64>,
    /// The header of a file of CSV that has dead letters, by which they can be read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// Counts of one source in one batch. Always: `rows_in = landed + duplicates + dead_letters`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Files taken.
    pub files: u64,
    /// Bytes of them, as stored.
    pub bytes: u64,
    /// Records read; a file refused whole counts as one.
    pub rows_in: u64,
    /// Events landed.
    pub landed: u64,
    /// Records whose event id was known.
    pub duplicates: u64,
    /// Records refused.
    pub dead_letters: u64,
    /// Events landed that were received more than a day after they occurred.
    #[serde(default)]
    pub late: u64,
}

impl Counts {
    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.rows_in += other.rows_in;
        self.landed += other.landed;
        self.duplicates += other.duplicates;
        self.dead_letters += other.dead_letters;
        self.late += other.late;
    }
}

/// The entry of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of this document's shape.
    pub format: u32,
    /// Number of the batch.
    pub batch: i64,
    /// Time of the batch in microseconds since 1970.
    pub planned_at: i64,
    /// Files taken.
    pub files: Vec<TakenFile>,
    /// Files of earlier batches that have another time or version since and still the same content.
    #[serde(default)]
    pub touched: Vec<TakenFile>,
    /// Counts by source.
    pub sources: BTreeMap<String, Counts>,
    /// Newest `occurred_at` landed that is in the future neither of its `received_at` nor of `planned_at`;
    /// microseconds since 1970.
    pub newest_occurred_at: Option<i64>,
    /// The dead letters that the batch took up again, if it did that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

fn manifest_path(batch: i64) -> String {
    format!("{BATCHES}/{batch:012}.json")
}

fn entry_path(batch: i64) -> String {
    format!("{BATCHES}/{batch:012}.ledger.json")
}

async fn load<T: DeserializeOwned>(lake: &Lake, path: &str) -> Result<Option<T>> {
    match lake.get(path).await? {
        Some(bytes) => Ok(Some(serde_json::from_slice(&bytes).context(path)?)),
        None => Ok(None),
    }
}

impl Manifest {
    /// The manifest of a batch, if one was planned.
    pub async fn load(lake: &Lake, batch: i64) -> Result<Option<Self>> {
        load(lake, &manifest_path(batch)).await
    }

    /// Writes the manifest unless there is one; says whether it did.
    pub async fn save_new(&self, lake: &Lake) -> Result<bool> {
        lake.put_new(&manifest_path(self.batch), Bytes::from(serde_json::to_vec_pretty(self)?)).await
    }

    /// Forgets a batch of which nothing was committed.
    pub async fn discard(&self, lake: &Lake) -> Result<()> {
        lake.delete(&manifest_path(self.batch)).await
    }
}

impl Entry {
    /// Entries of batches 1 to `last`, in order. One that is missing is an error: it is written before the commit.
    pub async fn load_all(lake: &Lake, last: i64) -> Result<Vec<Arc<Self>>> {
        Self::load_after(lake, 0, last).await
    }

    /// The same of the batches after `after` alone.
    pub async fn load_after(lake: &Lake, after: i64, last: i64) -> Result<Vec<Arc<Self>>> {
        match Self::load_as_listed(lake, after, last).await {
            // Maintenance may have put entries into a fold since the folds were listed: those that are missing are there now.
            Err(error) if error.kind() == Kind::Corrupt => match Self::load_as_listed(lake, after, last).await {
                Err(again) if again.to_string() != error.to_string() => {
                    Err(Error::conflict("the books were put together while they were read").hint("try again"))
                }
                loaded => loaded,
            },
            loaded => loaded,
        }
    }

    async fn load_as_listed(lake: &Lake, after: i64, last: i64) -> Result<Vec<Arc<Self>>> {
        let mut entries = folded::load(lake, after, last).await?;
        let loose = after + entries.len() as i64 + 1..=last;
        // To list them all takes longer than to read a few.
        let listed = if loose.clone().count() > READS { Self::listed(lake).await? } else { HashMap::new() };
        let load = |batch| {
            let path = entry_path(batch);
            let listed = listed.get(&lake.path(&path));
            async move {
                let entry = match listed {
                    Some(document) => lake.read_once(document, |bytes| Ok(serde_json::from_slice(bytes)?)).await?,
                    None => Self::load(lake, batch).await?.map(Arc::new),
                };
                entry.ok_or_else(|| Error::corrupt(format!("{path} is missing although the batch was committed")))
            }
        };
        let loose: Vec<_> = futures::stream::iter(loose.map(load)).buffered(READS).try_collect().await?;
        entries.extend(loose);
        Ok(entries)
    }

    /// What the store tells of the documents of the books, by their paths.
    async fn listed(lake: &Lake) -> Result<HashMap<Path, ObjectMeta>> {
        let listed = lake.list_documents(BATCHES).await?;
        Ok(listed.into_iter().map(|document| (document.location.clone(), document)).collect())
    }

    /// The entry of a batch that is in no fold, also of one that is not committed whole.
    pub async fn load(lake: &Lake, batch: i64) -> Result<Option<Self>> {
        load(lake, &entry_path(batch)).await
    }

    /// Writes the entry, replacing that of an earlier attempt.
    pub async fn save(&self, lake: &Lake) -> Result<()> {
        lake.put(&entry_path(self.batch), Bytes::from(serde_json::to_vec_pretty(self)?)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manifest_is_planned_once_and_entries_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        let manifest = Manifest {
            format: 1,
            batch: 1,
            planned_at: 5,
            configuration: String::new(),
            files: Vec::new(),
            replay: None,
        };
        assert!(manifest.save_new(&lake).await.unwrap());
        assert!(!manifest.save_new(&lake).await.unwrap());
        assert_eq!(Manifest::load(&lake, 1).await.unwrap(), Some(manifest));
        let entry = Entry {
            format: 1,
            batch: 1,
            planned_at: 5,
            files: Vec::new(),
            touched: Vec::new(),
            sources: BTreeMap::new(),
            newest_occurred_at: None,
            replay: None,
        };
        entry.save(&lake).await.unwrap();
        assert_eq!(Entry::load_all(&lake, 1).await.unwrap(), [Arc::new(entry)]);
        assert!(Entry::load_all(&lake, 2).await.is_err());
    }
}
