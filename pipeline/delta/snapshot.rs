//! A fixed set of Parquet files as a DataFusion table.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, DataFusionError, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileGroupPartitioner, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::BATCH;
use super::few_rows::ByPage;
use super::parts::Part;
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::pages::{FOOTER, PageSource};

/// A fixed set of Parquet files with partition values, scanned without any declared order.
pub struct Snapshot {
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
    /// The files `parts` of a folder of the lake, which hold the columns of `schema` but for those of `partition_by`, whose
    /// values the parts tell.
    pub fn new(lake: &Lake, folder: &str, schema: &Schema, partition_by: &[String], parts: Vec<Part>) -> Result<Self> {
        let is_partition = |field: &&FieldRef| partition_by.iter().any(|name| name == field.name());
        let file_fields: Vec<FieldRef> = schema.fields().iter().filter(|f| !is_partition(f)).map(as_read).collect();
        let partition_fields: Vec<FieldRef> = partition_by
            .iter()
            .filter_map(|name| schema.fields().iter().find(|field| field.name() == name).cloned())
            .collect();
        let batch_column = file_fields.iter().position(|field| field.name() == BATCH);
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
            if let (Some(batches), Some(column)) = (part.batches, batch_column) {
                let is_nullable = file_fields[column].is_nullable();
                file.statistics = Some(Arc::new(told_by_batches(schema.fields().len(), column, is_nullable, batches)));
            }
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

    /// The same files, some of which do not tell how many rows they have.
    pub fn with_unknown_rows(self) -> Self {
        Self { rows: Precision::Absent, ..self }
    }
}

impl Snapshot {
    /// The files that may hold rows of which the predicate is true, by the batches that they tell of; those that tell of none
    /// may. A scan leaves the others out too, but has read their footers by then.
    fn of_batches(&self, mut files: Vec<PartitionedFile>, predicate: &Arc<dyn PhysicalExpr>) -> Vec<PartitionedFile> {
        let told: Vec<Arc<Statistics>> = files.iter().filter_map(|file| file.statistics.clone()).collect();
        if told.is_empty() {
            return files;
        }
        let schema = self.schema();
        let pruning = PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(predicate.clone());
        // An expression may fail for the batches of a file and for none of its rows: then the rows tell.
        let Ok(may_hold) = pruning.and_then(|pruning| pruning.prune(&PrunableStatistics::new(told, schema))) else {
            return files;
        };
        let mut may_hold = may_hold.into_iter();
        files.retain(|file| file.statistics.is_none() || may_hold.next().unwrap_or(true));
        files
    }

    /// The files whose partition values meet those filters that read nothing else.
    fn of_partitions(&self, state: &dyn Session, filters: &[Expr]) -> datafusion::error::Result<Vec<PartitionedFile>> {
        let partition_fields = self.table_schema.table_partition_cols();
        let schema = Arc::new(Schema::new(partition_fields.clone()));
        let is_of_partition = |filter: &&Expr| {
            let columns = filter.column_refs();
            !columns.is_empty() && columns.iter().all(|column| schema.field_with_name(&column.name).is_ok())
        };
        let filter = datafusion::logical_expr::utils::conjunction(filters.iter().filter(is_of_partition).cloned());
        let (Some(filter), false) = (filter, self.files.is_empty()) else { return Ok(self.files.clone()) };
        let columns = (0..schema.fields().len())
            .map(|at| ScalarValue::iter_to_array(self.files.iter().map(|file| file.partition_values[at].clone())))
            .collect::<datafusion::error::Result<Vec<_>>>()?;
        let values = RecordBatch::try_new(schema.clone(), columns)?;
        let filter = state.create_physical_expr(filter, &DFSchema::try_from(schema)?)?;
        let meets = filter.evaluate(&values)?.into_array(values.num_rows())?;
        let kept = self.files.iter().zip(meets.as_boolean()).filter(|(_, meets)| *meets == Some(true));
        Ok(kept.map(|(file, _)| file.clone()).collect())
    }
}

/// Statistics of a file of which only the first and the last batch are known.
fn told_by_batches(columns: usize, column: usize, is_nullable: bool, (first, last): (i64, i64)) -> Statistics {
    let mut columns = vec![ColumnStatistics::new_unknown(); columns];
    columns[column].min_value = Precision::Exact(ScalarValue::Int64(Some(first)));
    columns[column].max_value = Precision::Exact(ScalarValue::Int64(Some(last)));
    if !is_nullable {
        columns[column].null_count = Precision::Exact(0);
    }
    Statistics { num_rows: Precision::Absent, total_byte_size: Precision::Absent, column_statistics: columns }
}

fn partition_value(text: Option<&String>, data_type: &DataType) -> Result<ScalarValue> {
    match text {
        Some(text) => Ok(ScalarValue::try_from_string(text.clone(), data_type)?),
        None => Ok(ScalarValue::try_from(data_type)?),
    }
}

/// Lists of few texts, by the names that the contracts give them.
const OF_FEW_TEXTS: [&str; 3] = ["channels", "stages", "touchpoints"];

/// Text columns are read as views, which copy no bytes, and lists of few texts as keys of a dictionary, by which our
/// functions walk them.
fn as_read(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 => DataType::Utf8View,
        DataType::List(item)
            if *item.data_type() == DataType::Utf8 && OF_FEW_TEXTS.contains(&field.name().as_str()) =>
        {
            let keys = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            DataType::List(Arc::new(Field::new(item.name(), keys, item.is_nullable())))
        }
        _ => return field.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// Files in as many groups as there are partitions. A plan divides large files itself where it sees a gain, which it does
/// not where a filter is a part of the scan.
fn divided(files: Vec<PartitionedFile>, state: &dyn Session) -> Vec<FileGroup> {
    let (partitions, optimizer) = (state.config().target_partitions(), &state.config_options().optimizer);
    let is_divisible = optimizer.repartition_file_scans && files.len() < partitions;
    let groups = FileGroup::new(files).split_files(partitions);
    let pieces = FileGroupPartitioner::new()
        .with_target_partitions(partitions)
        .with_repartition_file_min_size(optimizer.repartition_file_min_size);
    let pieces = if is_divisible { pieces.repartition_file_groups(&groups) } else { None };
    pieces.unwrap_or(groups)
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
        let schema = DFSchema::try_from(self.schema())?;
        let predicate = datafusion::logical_expr::utils::conjunction(filters.iter().cloned())
            .map(|filter| state.create_physical_expr(filter, &schema))
            .transpose()?;
        let mut files = self.of_partitions(state, filters)?;
        if let Some(predicate) = &predicate {
            files = self.of_batches(files, predicate);
        }
        let projected = datafusion::physical_plan::project_schema(&self.schema(), projection)?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(projected)));
        }
        let has_lists = projected.fields().iter().any(|field| matches!(field.data_type(), DataType::List(_)));
        let source: Arc<dyn FileSource> = match predicate {
            // Pages are decoded here where that pays and nothing can be left out.
            None if has_lists => Arc::new(PageSource::new(self.table_schema.clone())),
            None => Arc::new(ParquetSource::new(self.table_schema.clone())),
            Some(predicate) => {
                let mut source = ParquetSource::new(self.table_schema.clone()).with_predicate(predicate);
                // Files of a table by partitions, events, may be of others, who may have begun pages within a list.
                let are_ours = self.table_schema.table_partition_cols().is_empty();
                if are_ours && state.config_options().execution.parquet.pushdown_filters {
                    let store = state.runtime_env().object_store(&self.store_url)?;
                    let by_page = Arc::new(ByPage::new(store));
                    source = source.with_parquet_file_reader_factory(by_page).with_metadata_size_hint(FOOTER);
                }
                Arc::new(source)
            }
        };
        let groups = divided(files, state);
        let config = FileScanConfigBuilder::new(self.store_url.clone(), source)
            .with_file_groups(groups)
            .with_statistics(self.statistics().unwrap_or_else(|| Statistics::new_unknown(&self.schema())))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok::<_, DataFusionError>(DataSourceExec::from_data_source(config))
    }
}
