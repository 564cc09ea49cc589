//! Delta tables: open, scan, and commits whose outcome is known.
//!
//! The library stores an application transaction but does not refuse a replay, and its post-commit hooks may fail
//! after the commit landed. So a commit here is made on the very snapshot that was checked, hooks are off, and an error
//! is *unknown* until the log has been read again. Data files are never removed here: what a failed commit leaves
//! behind is swept by maintenance.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DataFusionError, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, MetadataExt, StructType, Transaction, new_metadata};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableBuilder};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::error::{Context, Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;

/// Attempts of a commit after the first, each checked against what others committed meanwhile: the library's default.
const RETRIES: usize = 15;
/// A data file is closed when it has about this many bytes.
const TARGET_FILE_BYTES: usize = 128 << 20;

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

/// A data file that was written and is not yet in a log.
#[derive(Debug, Clone)]
pub struct Part {
    /// Path relative to the table.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: usize,
    /// Values of the partition columns as Delta text.
    pub partition: Vec<(String, String)>,
}

/// What a commit does to a table.
#[derive(Debug)]
pub struct Change {
    /// Application transaction: id and a number that only grows.
    pub transaction: (String, i64),
    /// Columns; creates the table where there is none, and replaces the schema when `replace` is set.
    pub schema: SchemaRef,
    /// Partition columns, in order.
    pub partition_by: Vec<String>,
    /// Table properties to set (creation and replacement only).
    pub properties: Vec<(String, String)>,
    /// Whether all present files leave the table.
    pub replace: bool,
    /// Files to add.
    pub parts: Vec<Part>,
    /// Prefix of the fail points around the commit.
    pub failpoint: &'static str,
}

impl Table {
    /// Opens the newest version of the table in a folder of the lake; `None` when there is none.
    pub async fn open(lake: &Lake, folder: &str) -> Result<Option<Self>> {
        // Asked first, since the library logs an error for a table that is not there.
        let log = lake.path(&format!("{folder}/_delta_log"));
        if lake.store().list(Some(&log)).next().await.is_none() {
            return Ok(None);
        }
        let mut delta = handle(lake, folder)?;
        delta.load().await.context(folder)?;
        Ok(Some(Self { delta }))
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
            })
            .collect())
    }

    /// Rows of the snapshot, from the log.
    pub fn rows(&self) -> Result<usize> {
        Ok(self.files()?.iter().map(|file| file.rows).sum())
    }

    /// This snapshot as a DataFusion table.
    pub fn provider(&self, lake: &Lake, folder: &str) -> Result<Arc<dyn TableProvider>> {
        let partition_columns = self.delta.snapshot()?.metadata().partition_columns().to_vec();
        let schema = self.schema()?;
        let is_counted = self.delta.snapshot()?.log_data().iter().all(|file| file.num_records().is_some());
        let mut snapshot = Snapshot::new(lake, folder, &schema, &partition_columns, self.files()?)?;
        if !is_counted {
            snapshot.rows = Precision::Absent;
        }
        Ok(Arc::new(snapshot))
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
        Some(table) if change.replace => {
            let snapshot = table.delta.snapshot()?;
            let metadata = metadata
                .with_table_id(snapshot.metadata().id().to_string())
                .map_err(|error| Error::internal(format!("{folder}: {error}")))?;
            actions.push(Action::Metadata(metadata));
            actions.extend(snapshot.log_data().iter().map(|file| Action::Remove(file.remove_action(true))));
        }
        Some(_) => {}
    }
    actions.extend(change.parts.iter().map(|part| Action::Add(add(part))));

    let mode = if change.replace { SaveMode::Overwrite } else { SaveMode::Append };
    let operation = DeltaOperation::Write { mode, partition_by: Some(change.partition_by), predicate: None };
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
    Add {
        path: part.path.clone(),
        partition_values: part.partition.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
        size: part.size.cast_signed(),
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
        // Row counts only: minima and maxima of columns would carry personal data into the log.
        stats: Some(format!("{{\"numRecords\":{}}}", part.rows)),
        ..Add::default()
    }
}

/// Properties of the Parquet files that are kept or published: small first.
pub fn writer_properties() -> WriterProperties {
    properties(Compression::ZSTD(ZstdLevel::try_new(1).expect("level 1 exists")))
}

fn properties(compression: Compression) -> WriterProperties {
    WriterProperties::builder()
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("wayline ", env!("CARGO_PKG_VERSION")).to_string())
        .build()
}

/// Stores lists of times as the steps from one to the next: a quarter fewer bytes than the times themselves, and read in
/// less time (`benches/README.md`).
pub fn with_times_as_steps(properties: WriterProperties, schema: &Schema) -> WriterProperties {
    let times = schema.fields().iter().filter_map(|field| match field.data_type() {
        DataType::List(item) if matches!(item.data_type(), DataType::Timestamp(..)) => {
            Some(ColumnPath::new(vec![field.name().clone(), "list".to_owned(), item.name().clone()]))
        }
        _ => None,
    });
    let as_steps = |properties: WriterPropertiesBuilder, column: ColumnPath| {
        properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
    };
    times.fold(properties.into_builder(), as_steps).build()
}

/// Encodes batches of one schema as a Parquet file in memory.
///
/// The Arrow schema is not embedded: files read the same everywhere, whatever encodings were used in memory.
pub fn encode(schema: &SchemaRef, batches: impl IntoIterator<Item = RecordBatch>) -> Result<(Vec<u8>, usize)> {
    let mut writer = encode_writer(schema)?;
    let mut rows = 0;
    for batch in batches {
        rows += batch.num_rows();
        writer.write(&batch)?;
    }
    Ok((writer.into_inner()?, rows))
}

/// A writer of one Parquet file into memory, with [`writer_properties`].
fn encode_writer(schema: &SchemaRef) -> Result<ArrowWriter<Vec<u8>>> {
    file_writer(schema, writer_properties())
}

/// A writer of one Parquet file for readers outside: with a page index, by which they skip pages within a file.
pub fn published_writer(schema: &SchemaRef) -> Result<ArrowWriter<Vec<u8>>> {
    let properties = writer_properties().into_builder().set_statistics_enabled(EnabledStatistics::Page);
    file_writer(schema, properties.build())
}

fn file_writer(schema: &SchemaRef, properties: WriterProperties) -> Result<ArrowWriter<Vec<u8>>> {
    let properties = with_times_as_steps(properties, schema);
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    Ok(ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options)?)
}

/// Writes an encoded file into a table's folder under a name that is never used twice.
pub async fn write_part(
    lake: &Lake,
    folder: &str,
    name: &str,
    partition: Vec<(String, String)>,
    content: Vec<u8>,
    rows: usize,
) -> Result<Part> {
    let directory: String = partition.iter().map(|(column, value)| format!("{column}={value}/")).collect();
    let path = format!("{directory}{name}.parquet");
    let size = content.len() as u64;
    lake.store().put(&lake.path(&format!("{folder}/{path}")), content.into()).await.context(&path)?;
    Ok(Part { path, size, rows, partition })
}

/// Writes one stream of batches as a row of files of bounded size.
pub struct PartWriter {
    lake: Lake,
    folder: String,
    name: String,
    schema: SchemaRef,
    open: Option<ArrowWriter<Vec<u8>>>,
    rows: usize,
    parts: Vec<Part>,
}

impl PartWriter {
    /// A writer of files `name-0.parquet`, `name-1.parquet`, … in a table's folder.
    pub fn new(lake: Lake, folder: String, name: String, schema: SchemaRef) -> Self {
        Self { lake, folder, name, schema, open: None, rows: 0, parts: Vec::new() }
    }

    /// Adds rows; a file that has grown large is closed and uploaded.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut writer = match self.open.take() {
            Some(writer) => writer,
            // Derived tables are written and read within one run, time and again: fast first.
            None => file_writer(&self.schema, properties(Compression::SNAPPY))?,
        };
        writer.write(batch)?;
        self.rows += batch.num_rows();
        let is_large = writer.bytes_written() + writer.in_progress_size() >= TARGET_FILE_BYTES;
        self.open = Some(writer);
        if is_large {
            self.close_file().await?;
        }
        Ok(())
    }

    /// Closes the last file and returns all of them.
    pub async fn finish(mut self) -> Result<Vec<Part>> {
        self.close_file().await?;
        Ok(self.parts)
    }

    async fn close_file(&mut self) -> Result<()> {
        let Some(writer) = self.open.take() else { return Ok(()) };
        let name = format!("{}-{}", self.name, self.parts.len());
        let rows = std::mem::take(&mut self.rows);
        let part = write_part(&self.lake, &self.folder, &name, Vec::new(), writer.into_inner()?, rows).await?;
        self.parts.push(part);
        Ok(())
    }
}

/// A fixed set of Parquet files with partition values, scanned without any declared order.
struct Snapshot {
    store_url: ObjectStoreUrl,
    table_schema: TableSchema,
    files: Vec<PartitionedFile>,
    /// Absent if a file's count is not in the log.
    rows: Precision<usize>,
    bytes: u64,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("files", &self.files.len()).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Snapshot {
    fn new(lake: &Lake, folder: &str, schema: &Schema, partition_by: &[String], parts: Vec<Part>) -> Result<Self> {
        let is_partition = |field: &&FieldRef| partition_by.iter().any(|name| name == field.name());
        let file_fields: Vec<FieldRef> = schema.fields().iter().filter(|f| !is_partition(f)).map(as_view).collect();
        let partition_fields: Vec<FieldRef> = partition_by
            .iter()
            .filter_map(|name| schema.fields().iter().find(|field| field.name() == name).cloned())
            .collect();
        let mut files = Vec::with_capacity(parts.len());
        let rows = Precision::Exact(parts.iter().map(|part| part.rows).sum());
        let bytes = parts.iter().map(|part| part.size).sum();
        for part in parts {
            let location = Path::parse(format!("{}/{}", lake.path(folder), part.path))
                .map_err(|error| Error::corrupt(format!("{folder}: {error}")))?;
            let values: HashMap<_, _> = part.partition.into_iter().collect();
            let mut file = PartitionedFile::new_from_meta(ObjectMeta {
                location,
                last_modified: chrono::DateTime::UNIX_EPOCH,
                size: part.size,
                e_tag: None,
                version: None,
            });
            file.partition_values = partition_fields
                .iter()
                .map(|field| partition_value(values.get(field.name()), field.data_type()))
                .collect::<Result<_>>()?;
            files.push(file);
        }
        let store_url = ObjectStoreUrl::parse(&lake.url()[..url::Position::BeforePath])?;
        let table_schema = TableSchema::builder(Arc::new(Schema::new(file_fields)))
            .with_table_partition_cols(partition_fields)
            .build();
        Ok(Self { store_url, table_schema, files, rows, bytes })
    }
}

fn partition_value(text: Option<&String>, data_type: &DataType) -> Result<ScalarValue> {
    match text {
        Some(text) => Ok(ScalarValue::try_from_string(text.clone(), data_type)?),
        None => Ok(ScalarValue::try_from(data_type)?),
    }
}

/// Text columns are read as views, which copy no bytes.
fn as_view(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Utf8 => Arc::new(Field::new(field.name(), DataType::Utf8View, field.is_nullable())),
        _ => field.clone(),
    }
}

#[async_trait]
impl TableProvider for Snapshot {
    fn schema(&self) -> SchemaRef {
        self.table_schema.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(Statistics {
            num_rows: self.rows,
            total_byte_size: Precision::Inexact(usize::try_from(self.bytes).unwrap_or(usize::MAX)),
            column_statistics: vec![ColumnStatistics::new_unknown(); self.schema().fields().len()],
        })
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            let schema = datafusion::physical_plan::project_schema(&self.schema(), projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let mut source = ParquetSource::new(self.table_schema.clone());
        let schema = datafusion::common::DFSchema::try_from(self.schema())?;
        let predicate = datafusion::logical_expr::utils::conjunction(filters.iter().cloned())
            .map(|filter| state.create_physical_expr(filter, &schema))
            .transpose()?;
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate);
        }
        let groups = FileGroup::new(self.files.clone()).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(self.statistics().unwrap_or_else(|| Statistics::new_unknown(&self.schema())))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok::<_, DataFusionError>(DataSourceExec::from_data_source(config))
    }
}

#[cfg(test)]
mod tests;
