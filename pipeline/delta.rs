//! Delta tables: open, scan, and commits whose outcome is known.
//!
//! The library stores an application transaction but does not refuse a replay, and its post-commit hooks may fail
//! after the commit landed. So a commit here is made on the very snapshot that was checked, hooks are off, and an error
//! is *unknown* until the log has been read again. Data files are never removed here: what a failed commit leaves
//! behind is swept by maintenance.

mod encodings;
mod few_rows;
mod parts;
mod snapshot;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, MetadataExt, StructType, Transaction, new_metadata};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableBuilder};
use object_store::ObjectMeta;

pub use self::parts::{
    CREATED_BY, Pages, Part, PartWriter, encode, published_writer, with_times_as_steps, write_part, writer_properties,
};
pub use self::snapshot::Snapshot;
use crate::error::{Context, Error, Result};
use crate::failpoint::failpoint;
use crate::lake::{Lake, loaded};

/// Files of a table put in the place of others.
pub mod compact;
/// The log of a table as files.
pub mod log;

/// Attempts of a commit after the first, each checked against what others committed meanwhile: the library's default.
const RETRIES: usize = 15;

/// A loaded Delta table: one snapshot, used for the check and for the commit alike.
#[derive(Debug, Clone)]
pub struct Table {
    delta: DeltaTable,
}

/// What became of a commit.
#[derive(Debug)]
pub enum Outcome {
    /// The version is in the log.
    Committed(u64),
    /// Nothing is in the log.
    NotCommitted(Error),
    /// The log could not be read again; a later run finds out by the transaction.
    Unknown(Error),
}

impl Outcome {
    /// The version, or the error; an unknown outcome is [`crate::error::Kind::Unavailable`], safe to run again.
    pub fn version(self) -> Result<u64> {
        match self {
            Self::Committed(version) => Ok(version),
            Self::NotCommitted(error) => Err(error.context("nothing was committed")),
            Self::Unknown(error) => Err(Error::unavailable(format!("outcome of the commit is unknown: {error}"))
                .hint("run again: the log tells whether it landed")),
        }
    }
}

/// Which of the files that are there a commit takes out of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replace {
    /// None: it adds.
    Nothing,
    /// Those of these paths; the added ones hold their rows anew.
    Files(BTreeSet<String>),
    /// All of them, and the schema is that of the change.
    All,
}

/// What a commit does to a table.
#[derive(Debug)]
pub struct Change {
    /// Application transaction: id and a number that only grows.
    pub transaction: (String, i64),
    /// Columns; creates the table where there is none, and replaces the schema when all files are replaced.
    pub schema: SchemaRef,
    /// Partition columns, in order.
    pub partition_by: Vec<String>,
    /// Table properties to set (creation and replacement only).
    pub properties: Vec<(String, String)>,
    /// Files that leave the table.
    pub replace: Replace,
    /// Files to add.
    pub parts: Vec<Part>,
    /// Prefix of the fail points around the commit.
    pub failpoint: &'static str,
}

/// Whether an object is what it was. What a store tells of versions in one answer it may leave out of another.
fn is_same(then: Option<&ObjectMeta>, now: Option<&ObjectMeta>) -> bool {
    match (then, now) {
        (Some(then), Some(now)) if then.e_tag.is_some() && now.e_tag.is_some() => then.e_tag == now.e_tag,
        (Some(then), Some(now)) => (then.size, then.last_modified) == (now.size, now.last_modified),
        (then, now) => then.is_none() && now.is_none(),
    }
}

impl Table {
    /// Opens the newest version of the table in a folder of the lake; `None` when there is none.
    pub async fn open(lake: &Lake, folder: &str) -> Result<Option<Self>> {
        match Self::unchanged(lake, folder).await? {
            Some(unchanged) => Ok(Some(unchanged)),
            None => Self::open_by_list(lake, folder).await,
        }
    }

    /// The same, and no entry of its log is empty or gone.
    pub async fn open_by_list(lake: &Lake, folder: &str) -> Result<Option<Self>> {
        // Asked first, since the library logs an error for a table that is not there.
        let log = lake.list(&format!("{folder}/_delta_log")).await?;
        if log.is_empty() {
            return Ok(None);
        }
        let mut newest = None;
        for entry in log.iter().filter(|entry| entry.location.extension() == Some("json")) {
            // The library reads an entry without bytes as one that does nothing: what was committed would be gone unseen.
            if entry.size == 0 {
                let name = entry.location.filename().unwrap_or_default();
                let error = Error::corrupt(format!("{folder}: the entry {name} of its log is empty"));
                return Err(error.hint("restore it from a copy; wayline fsck says what else is damaged"));
            }
            newest = newest.max(loaded::commit(&entry.location));
        }
        let delta = match lake.loaded().get(folder, &log) {
            Some(loaded) if loaded.version() == newest => return Ok(Some(Self { delta: loaded })),
            // The entries since bring it up to date.
            Some(mut loaded) => {
                loaded.load().await.context(folder)?;
                loaded
            }
            None => Self::load(lake, folder).await?.delta,
        };
        // Another may have committed since the log was listed.
        if delta.version() == newest {
            lake.loaded().remember(folder, log, delta.clone());
        }
        Ok(Some(Self { delta }))
    }

    /// The table as it was loaded last, if its log begins and ends as it did, with the same hint of a checkpoint: nothing came
    /// to it and nothing was cut off. A log may be long, and is not listed for that.
    async fn unchanged(lake: &Lake, folder: &str) -> Result<Option<Self>> {
        let Some((log, delta)) = lake.loaded().last(folder) else { return Ok(None) };
        let (Some(version), Some(oldest)) = (delta.version(), log.first()) else { return Ok(None) };
        let oldest = oldest.location.filename().unwrap_or_default().to_string();
        let commit = |version: u64| format!("{version:020}.json");
        let names = [commit(version + 1), commit(version), log::HINT.to_string(), oldest];
        let now = names.iter().map(async |name| lake.head(&format!("{folder}/_delta_log/{name}")).await);
        let now = futures::future::try_join_all(now).await?;
        let then = names.iter().map(|name| log.iter().find(|object| object.location.filename() == Some(name)));
        let is_unchanged = then.zip(&now).all(|(then, now)| is_same(then, now.as_ref()));
        Ok(is_unchanged.then_some(Self { delta }))
    }

    /// Reads the table in a folder from its log, whatever was loaded of it before.
    async fn load(lake: &Lake, folder: &str) -> Result<Self> {
        let mut delta = handle(lake, folder)?;
        delta.load().await.context(folder)?;
        Ok(Self { delta })
    }

    /// Version of the snapshot.
    pub fn version(&self) -> u64 {
        self.delta.version().unwrap_or_default()
    }

    /// Id that the table got when it was created.
    pub fn id(&self) -> Result<String> {
        Ok(self.delta.snapshot()?.metadata().id().to_string())
    }

    /// Number of the last transaction of an application in this snapshot.
    pub async fn transaction(&self, application: &str) -> Result<Option<i64>> {
        Ok(self.delta.snapshot()?.transaction_version(&*self.delta.log_store(), application).await?)
    }

    /// A table property.
    pub fn property(&self, name: &str) -> Result<Option<String>> {
        Ok(self.delta.snapshot()?.metadata().configuration().get(name).cloned())
    }

    /// Columns, partition columns last.
    pub fn schema(&self) -> Result<SchemaRef> {
        Ok(self.delta.snapshot()?.snapshot().arrow_schema())
    }

    /// Files of the snapshot: path relative to the table, bytes, rows.
    pub fn files(&self) -> Result<Vec<Part>> {
        let snapshot = self.delta.snapshot()?;
        Ok(snapshot
            .log_data()
            .iter()
            .map(|file| Part {
                path: file.object_store_path().to_string(),
                size: file.size().unsigned_abs(),
                rows: file.num_records().unwrap_or_default(),
                partition: file
                    .partition_values_map()
                    .into_iter()
                    .filter_map(|(name, value)| value.map(|value| (name, value)))
                    .collect(),
                batches: file.stats().as_deref().and_then(batches_of),
            })
            .collect())
    }

    /// Rows of the snapshot, from the log.
    pub fn rows(&self) -> Result<usize> {
        Ok(self.files()?.iter().map(|file| file.rows).sum())
    }

    /// Actions that take files out of the table. `is_change`: their rows are not all in the files that come in.
    fn removals(&self, folder: &str, paths: &BTreeSet<String>, is_change: bool) -> Result<Vec<Action>> {
        let snapshot = self.delta.snapshot()?;
        let files = snapshot.log_data().into_iter();
        let removals: Vec<Action> = files
            .filter(|file| paths.contains(file.object_store_path().as_ref()))
            .map(|file| Action::Remove(file.remove_action(is_change)))
            .collect();
        match removals.len() == paths.len() {
            true => Ok(removals),
            false => Err(Error::internal(format!("{folder}: files to replace are not in the snapshot"))),
        }
    }

    /// This snapshot as a DataFusion table.
    pub fn provider(&self, lake: &Lake, folder: &str) -> Result<Arc<dyn TableProvider>> {
        self.provider_of(lake, folder, self.files()?)
    }

    /// Some of the files of this snapshot as a DataFusion table.
    pub fn provider_of(&self, lake: &Lake, folder: &str, files: Vec<Part>) -> Result<Arc<dyn TableProvider>> {
        let table = Snapshot::new(
            lake,
            folder,
            &*self.schema()?,
            self.delta.snapshot()?.metadata().partition_columns(),
            files,
        )?;
        Ok(Arc::new(if self.is_counted()? { table } else { table.with_unknown_rows() }))
    }

    /// Whether the log tells of each file how many rows it has.
    pub fn is_counted(&self) -> Result<bool> {
        Ok(self.delta.snapshot()?.log_data().iter().all(|file| file.num_records().is_some()))
    }
}

fn handle(lake: &Lake, folder: &str) -> Result<DeltaTable> {
    let url = lake.folder_url(folder)?;
    Ok(DeltaTableBuilder::from_url(url.clone())?.with_storage_backend(lake.store().clone(), url).build()?)
}

/// Commits a change on `table`, the snapshot that was checked (`None`: there is no table yet).
pub async fn commit(lake: &Lake, folder: &str, table: Option<&Table>, change: Change) -> Result<Outcome> {
    let (application, number) = change.transaction.clone();
    let delta = match table {
        Some(table) => table.delta.clone(),
        None => handle(lake, folder)?,
    };
    let mut actions = Vec::new();
    let fields: StructType = change.schema.as_ref().try_into_kernel().map_err(|error: arrow::error::ArrowError| {
        Error::invalid(format!("{folder}: a column has a type that Delta cannot hold: {error}"))
    })?;
    let metadata = new_metadata(&fields, &change.partition_by, change.properties)
        .map_err(|error| Error::internal(format!("{folder}: {error}")))?;
    match table {
        None => {
            let protocol = serde_json::json!({"minReaderVersion": 1, "minWriterVersion": 2});
            actions.push(Action::Protocol(serde_json::from_value(protocol)?));
            actions.push(Action::Metadata(metadata));
        }
        Some(table) if change.replace == Replace::All => {
            let snapshot = table.delta.snapshot()?;
            let metadata = metadata
                .with_table_id(snapshot.metadata().id().to_string())
                .map_err(|error| Error::internal(format!("{folder}: {error}")))?;
            actions.push(Action::Metadata(metadata));
            actions.extend(snapshot.log_data().iter().map(|file| Action::Remove(file.remove_action(true))));
        }
        Some(table) => {
            if let Replace::Files(paths) = &change.replace {
                actions.extend(table.removals(folder, paths, true)?);
            }
        }
    }
    actions.extend(change.parts.iter().map(|part| Action::Add(add(part))));

    let write = |mode| DeltaOperation::Write { mode, partition_by: Some(change.partition_by), predicate: None };
    let operation = match change.replace {
        Replace::Nothing => write(SaveMode::Append),
        Replace::Files(_) => DeltaOperation::Update { predicate: None },
        Replace::All => write(SaveMode::Overwrite),
    };
    // Where version 0 is there already, the library would take the newest snapshot, ours or not, as the one that was
    // checked, and append to it. Without retries that is an error, and the log tells who was first.
    let retries = if table.is_some() { RETRIES } else { 0 };
    let properties = CommitProperties::default()
        .with_max_retries(retries)
        .with_application_transaction(Transaction::new(&application, number))
        .with_create_checkpoint(false)
        .with_cleanup_expired_logs(Some(false));
    let state = match table {
        Some(_) => Some(delta.snapshot()?.clone()),
        None => None,
    };
    failpoint(&format!("{}.commit.before", change.failpoint));
    let committed = CommitBuilder::from(properties)
        .with_actions(actions)
        .build(state.as_ref().map(|state| state as _), delta.log_store(), operation)
        .await;
    failpoint(&format!("{}.commit.after_put", change.failpoint));
    let outcome = match committed {
        Ok(finalized) => Outcome::Committed(finalized.version()),
        Err(error) => {
            let ours = change.parts.first().map(|part| part.path.as_str());
            resolve(lake, folder, (&application, number), ours, error.into()).await
        }
    };
    failpoint(&format!("{}.commit.after_ack", change.failpoint));
    Ok(outcome)
}

/// Reads the log again after an error: is our transaction in it? The number alone does not tell, for another run may have
/// committed it; the name of our first file does. A commit without files left nothing to tell apart.
async fn resolve(
    lake: &Lake,
    folder: &str,
    (application, number): (&str, i64),
    ours: Option<&str>,
    error: Error,
) -> Outcome {
    let found = async {
        let Some(table) = Table::open(lake, folder).await? else { return Ok(None) };
        if table.transaction(application).await?.is_none_or(|last| last < number) {
            return Ok(None);
        }
        let is_ours = match ours {
            Some(path) => table.files()?.iter().any(|part| part.path == path),
            None => true,
        };
        Ok::<_, Error>(Some((table.version(), is_ours)))
    };
    match found.await {
        Ok(Some((version, true))) => Outcome::Committed(version),
        Ok(Some((_, false))) => Outcome::NotCommitted(
            Error::conflict(format!("another run committed number {number} of {application}")).hint("run again"),
        ),
        Ok(None) => Outcome::NotCommitted(error),
        Err(reading) => Outcome::Unknown(error.context(reading)),
    }
}

fn add(part: &Part) -> Add {
    // Row counts and batches only: minima and maxima of other columns would carry personal data into the log.
    let mut stats = serde_json::json!({ "numRecords": part.rows });
    if let Some((first, last)) = part.batches {
        stats["minValues"] = serde_json::json!({ BATCH: first });
        stats["maxValues"] = serde_json::json!({ BATCH: last });
    }
    Add {
        path: part.path.clone(),
        partition_values: part.partition.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
        size: part.size.cast_signed(),
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
        stats: Some(stats.to_string()),
        ..Add::default()
    }
}

/// Column of landed tables whose smallest and largest value stand in the log.
const BATCH: &str = "batch";

/// The batches that the statistics of a file tell.
fn batches_of(stats: &str) -> Option<(i64, i64)> {
    let stats: serde_json::Value = serde_json::from_str(stats).ok()?;
    let bound = |bound: &str| stats.get(bound)?.get(BATCH)?.as_i64();
    Some((bound("minValues")?, bound("maxValues")?))
}

#[cfg(test)]
mod tests;
