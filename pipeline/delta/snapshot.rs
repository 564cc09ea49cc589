//! A fixed set of Parquet files as a DataFusion table.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileGroupPartitioner, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::prelude::ident;
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
    /// Columns of the files, and behind them those whose values go with a file.
    table_schema: TableSchema,
    /// What readers see of them: the first columns.
    schema: SchemaRef,
    files: Vec<PartitionedFile>,
    /// Which rows of the files are rows of the table; all without it.
    condition: Option<Expr>,
    /// Filters that cannot fail and are true of few rows, so that they are asked before the condition. Others come after it, as they
    /// might fail of what is no row of the table; where filters are not pushed down, they may be asked of it all the same.
    comes_first: fn(&Expr) -> bool,
    /// Whether it is a table by partitions, into which other programs may write.
    is_partitioned: bool,
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
        Self::of(lake, schema, partition_by, parts.into_iter().map(|part| (folder, part)).collect())
    }

    /// Layers of files that lie one over the other, each with its folder: those rows of which the condition is true that is given
    /// for the column that tells the number of a row's layer, from 0 up; all without one. Filters that `comes_first` names are
    /// asked before it.
    pub fn layered(
        lake: &Lake,
        schema: &Schema,
        layers: Vec<(&str, Vec<Part>)>,
        condition: impl FnOnce(Expr) -> Option<Expr>,
        comes_first: fn(&Expr) -> bool,
    ) -> Result<Self> {
        let mut parts = Vec::new();
        for ((folder, of_layer), number) in layers.into_iter().zip(0u32..) {
            for part in of_layer {
                if !part.partition.is_empty() {
                    return Err(Error::internal(format!("{folder}: changes lie over no table by partitions")));
                }
                parts.push((folder, Part { partition: vec![(LAYER.into(), number.to_string())], ..part }));
            }
        }
        let layer = Arc::new(Field::new(LAYER, DataType::UInt32, false));
        let fields: Vec<FieldRef> = schema.fields().iter().cloned().chain([layer]).collect();
        let all = Self::of(lake, &Schema::new(fields), &[LAYER.to_string()], parts)?;
        let condition = condition(ident(LAYER));
        Ok(Self {
            schema: all.table_schema.file_schema().clone(),
            rows: if condition.is_some() { all.rows.to_inexact() } else { all.rows },
            condition,
            comes_first,
            is_partitioned: false,
            ..all
        })
    }

    /// Files, each with its folder.
    fn of(lake: &Lake, schema: &Schema, partition_by: &[String], parts: Vec<(&str, Part)>) -> Result<Self> {
        let is_partition = |field: &&FieldRef| partition_by.iter().any(|name| name == field.name());
        let file_fields: Vec<FieldRef> = schema.fields().iter().filter(|f| !is_partition(f)).map(as_read).collect();
        let partition_fields: Vec<FieldRef> = partition_by
            .iter()
            .filter_map(|name| schema.fields().iter().find(|field| field.name() == name).cloned())
            .collect();
        let batch_column = file_fields.iter().position(|field| field.name() == BATCH);
        let mut files = Vec::with_capacity(parts.len());
        let rows = Precision::Exact(parts.iter().map(|(_, part)| part.rows).sum());
        let bytes = parts.iter().map(|(_, part)| part.size).sum();
        for (folder, part) in parts {
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
        Ok(Self {
            store_url,
            schema: table_schema.table_schema().clone(),
            table_schema,
            files,
            condition: None,
            comes_first: |_| false,
            is_partitioned: !partition_by.is_empty(),
            rows,
            bytes,
        })
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
        let schema = self.table_schema.table_schema();
        let pruning = PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(predicate.clone());
        // An expression may fail for the batches of a file and for none of its rows: then the rows tell.
        let Ok(may_hold) = pruning.and_then(|pruning| pruning.prune(&PrunableStatistics::new(told, schema.clone())))
        else {
            return files;
        };
        let mut may_hold = may_hold.into_iter();
        files.retain(|file| file.statistics.is_none() || may_hold.next().unwrap_or(true));
        files
    }

    /// Statistics, which tell nothing of any of so many columns.
    fn told(&self, columns: usize) -> Statistics {
        Statistics {
            num_rows: self.rows,
            total_byte_size: Precision::Inexact(usize::try_from(self.bytes).unwrap_or(usize::MAX)),
            column_statistics: vec![ColumnStatistics::new_unknown(); columns],
        }
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

/// Column of the number of a row's layer; no column of a table is named so.
const LAYER: &str = "wayline layer";

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

/// Files in at most as many groups as there are partitions, of much the same size. A plan divides large files itself where it
/// sees a gain, which it does not where a filter is a part of the scan.
fn divided(mut files: Vec<PartitionedFile>, state: &dyn Session) -> Vec<FileGroup> {
    let (partitions, optimizer) = (state.config().target_partitions().max(1), &state.config_options().optimizer);
    files.sort_by_key(|file| Reverse(file.object_meta.size));
    let mut groups: Vec<(u64, Vec<PartitionedFile>)> = (0..partitions.min(files.len())).map(|_| (0, vec![])).collect();
    for file in files {
        if let Some((bytes, group)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += file.object_meta.size;
            group.push(file);
        }
    }
    let all: u64 = groups.iter().map(|(bytes, _)| bytes).sum();
    let most = groups.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0);
    let groups: Vec<FileGroup> = groups.into_iter().map(|(_, files)| FileGroup::new(files)).collect();
    // A group is more than half again the share of a partition, since files are few or one is large: they are read in pieces.
    let pieces = if optimizer.repartition_file_scans && 2 * most * partitions as u64 > 3 * all {
        FileGroupPartitioner::new()
            .with_target_partitions(partitions)
            .with_repartition_file_min_size(optimizer.repartition_file_min_size)
            .repartition_file_groups(&groups)
    } else {
        None
    };
    pieces.unwrap_or(groups)
}

/// The rows of a scan of which a predicate over columns of a table is true, with the first so many columns: as the planner
/// filters.
fn filtered(
    state: &dyn Session,
    scan: Arc<dyn ExecutionPlan>,
    predicate: Arc<dyn PhysicalExpr>,
    columns: usize,
) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let schema = scan.schema();
    let wanted = (columns < schema.fields().len()).then(|| (0..columns).collect());
    let filter = FilterExecBuilder::new(reassign_expr_columns(predicate, &schema)?, scan)
        .with_batch_size(state.config().batch_size())
        .with_default_selectivity(state.config_options().optimizer.default_filter_selectivity)
        .apply_projection(wanted)?;
    Ok(Arc::new(filter.build()?))
}

#[async_trait]
impl TableProvider for Snapshot {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// A scan filters by itself, so that its filters stand once in a plan, and in the order in which they are best asked.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(self.told(self.schema.fields().len()))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let all = self.table_schema.table_schema();
        let (first, others): (Vec<&Expr>, Vec<&Expr>) = filters.iter().partition(|filter| (self.comes_first)(filter));
        let in_order = first.into_iter().chain(&self.condition).chain(others).cloned();
        let predicate = datafusion::logical_expr::utils::conjunction(in_order)
            .map(|filter| state.create_physical_expr(filter, &DFSchema::try_from(all.clone())?))
            .transpose()?;
        let mut files = self.of_partitions(state, filters)?;
        if let Some(predicate) = &predicate {
            files = self.of_batches(files, predicate);
        }
        let projected = datafusion::physical_plan::project_schema(&self.schema, projection)?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(projected)));
        }
        let mut columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let wanted = columns.len();
        let asked = predicate.iter().flat_map(collect_columns).map(|column| column.index());
        let asked: BTreeSet<usize> = asked.filter(|column| !columns.contains(column)).collect();
        columns.extend(asked);
        let has_lists = projected.fields().iter().any(|field| matches!(field.data_type(), DataType::List(_)));
        let source: Arc<dyn FileSource> = match &predicate {
            // Pages are decoded here where that pays and nothing can be left out.
            None if has_lists => Arc::new(PageSource::new(self.table_schema.clone())),
            None => Arc::new(ParquetSource::new(self.table_schema.clone())),
            // Where filters are pushed down, the plan makes that over the scan a part of it.
            Some(_) => {
                let mut source = ParquetSource::new(self.table_schema.clone());
                // Others may have begun pages within a list.
                if !self.is_partitioned && state.config_options().execution.parquet.pushdown_filters {
                    let store = state.runtime_env().object_store(&self.store_url)?;
                    let by_page = Arc::new(ByPage::new(store));
                    source = source.with_parquet_file_reader_factory(by_page).with_metadata_size_hint(FOOTER);
                }
                Arc::new(source)
            }
        };
        let config = FileScanConfigBuilder::new(self.store_url.clone(), source)
            .with_file_groups(divided(files, state))
            .with_statistics(self.told(all.fields().len()))
            .with_projection_indices(Some(columns))?
            .with_limit(limit.filter(|_| predicate.is_none()))
            .build();
        let scan = DataSourceExec::from_data_source(config);
        match predicate {
            Some(predicate) => filtered(state, scan, predicate, wanted),
            None => Ok(scan),
        }
    }
}
