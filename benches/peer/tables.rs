//! Folders of Parquet files as tables: text of few values stays a dictionary from the file to the function, and files that
//! are sorted by customer are declared as such.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use wayline::pages::PageSource;

/// The columns whose texts are few.
const CODED: [&str; 4] = ["channel", "touchpoint", "channels", "touchpoints"];

/// Parquet files of one schema.
#[derive(Debug)]
pub struct Files {
    schema: SchemaRef,
    files: Vec<PartitionedFile>,
    order: Vec<&'static str>,
}

impl Files {
    /// The files of a folder and of its folders, by name, or one file. `order` names the columns by which each file is sorted; files
    /// then hold the ranges of the first of them, one after another, and no value of it lies in two files.
    pub fn open(folder: &Path, order: &[&'static str]) -> std::io::Result<Self> {
        let mut paths = Vec::new();
        if folder.is_file() {
            paths.push(folder.to_path_buf());
        } else {
            list(folder, &mut paths)?;
        }
        paths.sort();
        let first = paths.first().ok_or_else(|| std::io::Error::other(format!("{}: no files", folder.display())))?;
        let stored = ArrowReaderMetadata::load(&std::fs::File::open(first)?, ArrowReaderOptions::new())?;
        let fields: Vec<FieldRef> = stored.schema().fields().iter().map(coded).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let file = |path: &PathBuf| {
            let size = path.metadata()?.len();
            let mut file = PartitionedFile::new(path.to_string_lossy(), size).with_arrow_schema(Arc::clone(&schema));
            if !order.is_empty() {
                // Without ranges, an order that files are declared to have is not believed.
                file = file.with_statistics(Arc::new(ranges(path, order, &schema)?));
            }
            Ok(file)
        };
        let files = paths.iter().map(file).collect::<std::io::Result<_>>()?;
        Ok(Self { schema, files, order: order.to_vec() })
    }
}

/// The smallest and the largest value that a file has of the columns by which it is sorted; an error where the file only tells
/// a bound of them, as of texts that were cut short.
fn ranges(path: &Path, order: &[&'static str], schema: &Schema) -> std::io::Result<Statistics> {
    let file = ArrowReaderMetadata::load(&std::fs::File::open(path)?, ArrowReaderOptions::new())?;
    let mut statistics = Statistics::new_unknown(schema);
    for name in order {
        let column = schema.index_of(name).map_err(std::io::Error::other)?;
        let converter = StatisticsConverter::try_new(name, file.schema(), file.parquet_schema())?;
        let values = |array: ArrayRef| -> Result<Vec<ScalarValue>> {
            (0..array.len()).map(|place| ScalarValue::try_from_array(&array, place)).collect()
        };
        let groups = file.metadata().row_groups();
        let are_exact = |flags: BooleanArray| flags.iter().all(|flag| flag == Some(true));
        let is_exact = schema.field(column).data_type().is_primitive()
            || are_exact(converter.row_group_is_min_value_exact(groups)?)
                && are_exact(converter.row_group_is_max_value_exact(groups)?);
        if !is_exact {
            return Err(std::io::Error::other(format!("{}: the range of {name} is not exact", path.display())));
        }
        let smallest = values(converter.row_group_mins(groups)?)?.into_iter();
        let largest = values(converter.row_group_maxes(groups)?)?.into_iter();
        let exact = |value: Option<ScalarValue>| value.map_or(Precision::Absent, Precision::Exact);
        let ranges = &mut statistics.column_statistics[column];
        ranges.min_value = exact(smallest.reduce(|one, other| if other < one { other } else { one }));
        ranges.max_value = exact(largest.reduce(|one, other| if other > one { other } else { one }));
    }
    Ok(statistics)
}

fn list(folder: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            paths.push(path);
        }
    }
    Ok(())
}

/// A column as it is read: few texts as a dictionary, alone or in a list, and others as views.
fn coded(field: &FieldRef) -> FieldRef {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let is_coded = CODED.contains(&field.name().as_str());
    let data_type = match field.data_type() {
        DataType::Utf8 if is_coded => dictionary,
        DataType::Utf8 => DataType::Utf8View,
        DataType::List(item) if is_coded => {
            DataType::List(Arc::new(Field::new(item.name(), dictionary, item.is_nullable())))
        }
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

#[async_trait]
impl TableProvider for Files {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let source = PageSource::new(Arc::clone(&self.schema));
        let groups = FileGroup::new(self.files.clone()).split_files(state.config().target_partitions());
        let partitions = groups.len();
        let mut config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit);
        let sorted = |name: &&'static str| Ok(PhysicalSortExpr::new_default(col(name, &self.schema)?).asc());
        let order = self.order.iter().map(sorted).collect::<Result<Vec<_>>>()?;
        if let Some(order) = LexOrdering::new(order) {
            // A customer lies in one file: what the exchange of a grouping by customer would bring about.
            let by_customer = Partitioning::Hash(vec![col(self.order[0], &self.schema)?], partitions);
            config = config.with_output_ordering(vec![order]).with_output_partitioning(Some(by_customer));
        }
        Ok(DataSourceExec::from_data_source(config.build()))
    }
}
