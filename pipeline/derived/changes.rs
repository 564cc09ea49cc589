//! Changes that lie over tables: the rows of some keys replaced, without writing a table again.
//!
//! `changes/states/<number>.json` names every change that is in force and is put under a number of its own, so one put makes all
//! tables of a step visible at once. A change of a table is a file of keys and files of rows: whatever rows lie below
//! with one of these keys are gone, and the rows of the change are there instead. Tools that read the Delta tables
//! never see changes: they see each table as it was written last, until its changes are folded into it.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::BuiltFrom;
use super::window::Window;
use crate::delta::{Pages, Part, PartWriter};
use crate::error::{Context, Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;

/// Folder of the documents in the lake.
pub const DOCUMENTS: &str = "changes/states";
/// Folder of all that belongs to changes.
pub const CHANGES: &str = "changes";
/// Folder of the files that they name.
pub const FILES: &str = "changes/files";
/// States that are remembered: a table that has not been built for longer is built whole.
const STATES: usize = 16;
/// Documents that are kept: who has listed one reads it before so many others are put.
pub const DOCUMENTS_KEPT: u64 = 16;

/// All changes in force, and the states that tables have been in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Version of this document's shape.
    pub format: u32,
    /// Number of this document; 0 before the first.
    pub number: u64,
    /// What lies over each table, by its folder.
    pub tables: BTreeMap<String, Over>,
    /// The last states, oldest first.
    pub states: Vec<State>,
}

/// What lies over one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// Id and version of the Delta table that the layers were made for; over another they mean nothing.
    pub table: (String, u64),
    /// Column that tells whose rows are replaced.
    pub key: String,
    /// What the rows, changes included, were built from.
    pub built_from: BuiltFrom,
    /// Whether every row of the Delta table is gone.
    pub replaces_all: bool,
    /// Set where layers are no rows instead of others, but rows whose sums are added to those below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums: Option<Sums>,
    /// Changes, oldest first.
    pub layers: Vec<Layer>,
}

/// How the rows of a table of sums add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Columns by which they are summed; all others are.
    pub keys: Vec<String>,
    /// Column that is 0 where there is no row.
    pub count: String,
}

/// One change of one table; paths are relative to [`FILES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// File of keys, as text in a column `key`.
    pub keys: Option<Part>,
    /// Files of rows.
    pub parts: Vec<Part>,
    /// Files of rows whose sums are taken off, in a table of sums.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Part>,
}

impl Over {
    /// Bytes of the rows that lie lowest, given those of the Delta table, and of the changes over these.
    pub fn bytes(&self, of_table: u64) -> (u64, u64) {
        let mut layers = self.layers.iter().map(|layer| layer.files().map(|part| part.size).sum());
        let below = if self.replaces_all { layers.next().unwrap_or_default() } else { of_table };
        (below, layers.sum())
    }
}

impl Layer {
    /// All of its files.
    pub fn files(&self) -> impl Iterator<Item = &Part> {
        self.keys.iter().chain(self.rows())
    }

    /// Its files that hold rows.
    pub fn rows(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().chain(&self.removed)
    }
}

/// What everything is built from once a run has come to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Fingerprint of every table, models as if they were up to date.
    pub fingerprints: BTreeMap<String, String>,
    /// Logical time, in microseconds.
    pub as_of: Option<i64>,
    /// Ages of an event, in microseconds, at which its customer's rows may change.
    #[serde(default)]
    pub ages: BTreeSet<i64>,
    /// Last batch of events.
    pub batch: i64,
    /// File of the customers whose rows may be others than in the state before; without it any may.
    pub touched: Option<Part>,
    /// Days whose rows are made anew on the way from the state before, whether anything changed or not.
    #[serde(default)]
    pub backfill: Option<Window>,
    /// Id of the last backfill of each model that ever had one.
    #[serde(default)]
    pub backfills: BTreeMap<String, String>,
}

impl State {
    /// Whether what a model's table was built from is what there was in this state.
    pub fn holds(&self, model: &str, built_from: &BuiltFrom) -> bool {
        self.backfills.get(model) == built_from.backfill.as_ref()
            && built_from.reads.iter().all(|(read, print)| self.fingerprints.get(read) == Some(print))
    }
}

impl Changes {
    /// The newest document; an empty one when there is none.
    pub async fn load(lake: &Lake) -> Result<Self> {
        let newest =
            lake.list(DOCUMENTS).await?.iter().filter_map(|object| number_of(&lake.relative(&object.location)?)).max();
        let Some(number) = newest else { return Ok(Self { format: 1, ..Self::default() }) };
        let path = path_of(number);
        let bytes = lake.get(&path).await?;
        // A fold may have removed it since it was listed, and then there is a newer one.
        let bytes = bytes.ok_or_else(|| Error::conflict(format!("{path} is gone")).hint("run again"))?;
        serde_json::from_slice(&bytes).context(path)
    }

    /// Puts these changes in force under the next number. Those who read before keep what they have loaded.
    pub async fn save(&mut self, lake: &Lake) -> Result<()> {
        self.number += 1;
        let excess = self.states.len().saturating_sub(STATES);
        self.states.drain(..excess);
        failpoint("changes.before");
        if !lake.put_new(&path_of(self.number), serde_json::to_vec(self)?.into()).await? {
            return Err(Error::conflict("another run changed the same tables").hint("run again"));
        }
        failpoint("changes.after");
        match self.number.checked_sub(DOCUMENTS_KEPT) {
            Some(superseded) => lake.delete(&path_of(superseded)).await,
            None => Ok(()),
        }
    }

    /// Id of the last backfill of each model that ever had one.
    pub fn backfills(&self) -> BTreeMap<String, String> {
        self.states.last().map(|state| state.backfills.clone()).unwrap_or_default()
    }

    /// Lays a change over a table, given the id and version of its Delta table. Without a layer no row is another, and only
    /// what they are built from is noted; a layer without keys replaces all rows.
    pub fn lay(&mut self, folder: &str, table: (String, u64), key: &str, built_from: BuiltFrom, layer: Option<Layer>) {
        let replaces_all = layer.as_ref().is_some_and(|layer| layer.keys.is_none());
        let over = self.over(folder, table, built_from, replaces_all);
        over.key = key.to_string();
        over.layers.extend(layer);
    }

    /// Adds the rows of a layer to a table of sums.
    pub fn add(&mut self, folder: &str, table: (String, u64), sums: Sums, built_from: BuiltFrom, layer: Option<Layer>) {
        let over = self.over(folder, table, built_from, false);
        over.sums = Some(sums);
        over.layers.extend(layer);
    }

    /// What lies over a table, with those layers that are still in force.
    fn over(&mut self, folder: &str, table: (String, u64), built_from: BuiltFrom, replaces_all: bool) -> &mut Over {
        let over = self.tables.entry(folder.to_string()).or_insert_with(|| Over {
            table: table.clone(),
            key: String::new(),
            built_from: built_from.clone(),
            replaces_all,
            sums: None,
            layers: Vec::new(),
        });
        if over.table != table || replaces_all {
            (over.table, over.replaces_all, over.sums) = (table, replaces_all, None);
            over.layers.clear();
        }
        over.built_from = built_from;
        over
    }

    /// Paths, relative to the lake, of all files that these changes name.
    pub fn files(&self) -> impl Iterator<Item = String> {
        self.parts().map(|part| format!("{FILES}/{}", part.path))
    }

    /// All files that these changes name, relative to [`FILES`].
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        let of_layers = self.tables.values().flat_map(|over| &over.layers);
        let of_layers = of_layers.flat_map(Layer::files);
        let of_states = self.states.iter().filter_map(|state| state.touched.as_ref());
        of_layers.chain(of_states)
    }
}

/// What was in force and is not any more.
#[derive(Debug)]
pub struct Superseded {
    /// Documents that others followed.
    pub documents: Vec<ObjectMeta>,
    /// Files that only these name, or none.
    pub files: Vec<ObjectMeta>,
}

impl Superseded {
    /// Of `objects`, all that lie in [`CHANGES`], those that were replaced before the cutoff; without one all that are replaced.
    /// An old file may have been in force until now: what counts is which document names it, and only then its age.
    pub async fn of(lake: &Lake, objects: Vec<ObjectMeta>, cutoff: Option<DateTime<Utc>>) -> Result<Self> {
        let is_file = |object: &ObjectMeta| lake.relative(&object.location).is_some_and(|path| path.starts_with(FILES));
        let (mut files, mut documents): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_file);
        let replaced = documents.windows(2).take_while(|pair| is_old(&pair[1], cutoff)).count();
        let mut named = BTreeSet::new();
        for document in &documents[replaced..] {
            let Some(path) = lake.relative(&document.location) else { continue };
            let Some(content) = lake.get(&path).await? else { continue };
            named.extend(serde_json::from_slice::<Changes>(&content).context(path)?.files());
        }
        let is_named = |file: &ObjectMeta| lake.relative(&file.location).is_some_and(|path| named.contains(&path));
        files.retain(|file| !is_named(file) && is_old(file, cutoff));
        documents.truncate(replaced);
        Ok(Self { documents, files })
    }
}

/// Whether an object was written before a cutoff; all were where there is none.
pub fn is_old(object: &ObjectMeta, cutoff: Option<DateTime<Utc>>) -> bool {
    cutoff.is_none_or(|cutoff| object.last_modified < cutoff)
}

/// A writer of the rows of a change, under names that are never used twice. Later changes look some of them up.
pub fn writer(lake: &Lake, name: &str, schema: SchemaRef) -> PartWriter {
    let name = format!("{name}-{}", Uuid::new_v4().simple());
    PartWriter::new(lake.clone(), FILES.into(), name, schema).small().with_pages(Pages::Small)
}

fn path_of(number: u64) -> String {
    format!("{DOCUMENTS}/{number:012}.json")
}

/// The number of a document, told by its path.
fn number_of(path: &str) -> Option<u64> {
    path.strip_prefix(DOCUMENTS)?.strip_prefix('/')?.strip_suffix(".json")?.parse().ok()
}
