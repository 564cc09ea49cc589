//! What is read here is what the library reads.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use proptest::prelude::*;

use super::PageSource;

const FILE: &str = "file.parquet";

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn list_of(item: DataType, item_is_nullable: bool) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, item_is_nullable)))
}

/// Reads a file, in memory and on this machine alike, with the columns of `schema`, in batches of `batch_size`.
async fn read_here(
    file: Vec<u8>,
    schema: &SchemaRef,
    batch_size: usize,
) -> datafusion::common::Result<Vec<RecordBatch>> {
    let whole = (0, file.len() as i64);
    read_ranges(file, schema, batch_size, &[whole]).await
}

/// The same of parts of it, one after another.
async fn read_ranges(
    file: Vec<u8>,
    schema: &SchemaRef,
    batch_size: usize,
    ranges: &[(i64, i64)],
) -> datafusion::common::Result<Vec<RecordBatch>> {
    let folder = tempfile::tempdir()?;
    let in_memory = read_from(InMemory::new(), file.clone(), schema, batch_size, ranges).await;
    let local = read_from(LocalFileSystem::new_with_prefix(folder.path())?, file, schema, batch_size, ranges).await;
    match (&in_memory, &local) {
        (Ok(in_memory), Ok(local)) => assert_eq!(in_memory, local),
        (Err(_), Err(_)) => {}
        _ => panic!("from memory {in_memory:?}, from a file {local:?}"),
    }
    local
}

async fn read_from(
    store: impl ObjectStore,
    file: Vec<u8>,
    schema: &SchemaRef,
    batch_size: usize,
    ranges: &[(i64, i64)],
) -> datafusion::common::Result<Vec<RecordBatch>> {
    let size = file.len() as u64;
    store.put(&Path::from(FILE), file.into()).await?;
    let ctx =
        SessionContext::new_with_config(SessionConfig::new().with_batch_size(batch_size).with_target_partitions(1));
    let url = ObjectStoreUrl::parse("memory://").unwrap();
    ctx.register_object_store(url.as_ref(), Arc::new(store));
    let parts = ranges.iter().map(|(start, end)| PartitionedFile::new(FILE, size).with_range(*start, *end));
    let config = FileScanConfigBuilder::new(url, Arc::new(PageSource::new(schema.clone())))
        .with_file_groups(vec![FileGroup::new(parts.collect())])
        .build();
    collect(DataSourceExec::from_data_source(config), ctx.task_ctx()).await
}

/// The same by the library's reader, cast to the types of `schema`.
fn read_by_library(file: Vec<u8>, schema: &SchemaRef) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let stored = batches.first().map_or_else(|| schema.clone(), RecordBatch::schema);
    let whole = concat_batches(&stored, &batches).unwrap();
    let columns = schema
        .fields()
        .iter()
        .map(|field| cast(whole.column_by_name(field.name()).unwrap(), field.data_type()).unwrap());
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// How a file is written.
#[derive(Debug, Clone)]
struct Written {
    version: WriterVersion,
    compression: Compression,
    page_rows: usize,
    group_rows: usize,
    has_dictionaries: bool,
    has_steps: bool,
    has_arrow_schema: bool,
}

fn write(batch: &RecordBatch, how: &Written) -> Vec<u8> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(how.version)
        .set_compression(how.compression)
        .set_data_page_row_count_limit(how.page_rows)
        .set_write_batch_size(how.page_rows.min(64))
        .set_max_row_group_row_count(Some(how.group_rows))
        .set_dictionary_enabled(how.has_dictionaries)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    if how.has_steps {
        for column in ["times", "numbers"] {
            for path in [vec![column.to_owned()], vec![column.to_owned(), "list".to_owned(), "item".to_owned()]] {
                let path = ColumnPath::new(path);
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
        }
    }
    let options =
        ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(!how.has_arrow_schema);
    let mut file = vec![];
    let mut writer = ArrowWriter::try_new_with_options(&mut file, batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    file
}

/// A row: null, or a list of elements, null or a number from which all columns make their values.
type Row = Option<Vec<Option<i64>>>;

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let element = prop_oneof![9 => (0_i64..7).prop_map(Some), 3 => any::<i64>().prop_map(Some), 1 => Just(None)];
    // Whole files without nulls take ways of their own.
    let has_nulls = any::<bool>();
    (
        proptest::collection::vec(
            prop_oneof![1 => Just(None), 9 => proptest::collection::vec(element, 0..12).prop_map(Some)],
            0..300,
        ),
        has_nulls,
    )
        .prop_map(|(rows, has_nulls)| match has_nulls {
            true => rows,
            false => rows
                .into_iter()
                .map(|row| Some(row.unwrap_or_default().into_iter().flatten().map(Some).collect()))
                .collect(),
        })
}

fn how() -> impl Strategy<Value = Written> {
    let version = prop_oneof![Just(WriterVersion::PARQUET_1_0), Just(WriterVersion::PARQUET_2_0)];
    let compression = prop_oneof![Just(Compression::UNCOMPRESSED), Just(Compression::SNAPPY)];
    (version, compression, 1_usize..200, 1_usize..250, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(version, compression, page_rows, group_rows, has_dictionaries, has_steps, has_arrow_schema)| Written {
            version,
            compression,
            page_rows,
            group_rows,
            has_dictionaries,
            has_steps,
            has_arrow_schema,
        },
    )
}

/// The columns of rows: each kind of values, in lists and alone, and some that are not decoded here.
fn columns(rows: &[Row]) -> RecordBatch {
    let is_list = NullBuffer::from(rows.iter().map(Option::is_some).collect::<Vec<_>>());
    let lists: Vec<&[Option<i64>]> = rows.iter().map(|row| row.as_deref().unwrap_or_default()).collect();
    let elements: Vec<Option<i64>> = lists.concat();
    let first: Vec<Option<i64>> = lists.iter().map(|list| list.first().copied().flatten()).collect();
    let values = |numbers: &[Option<i64>]| -> Vec<(&str, ArrayRef)> {
        let text = |number: i64| format!("text {}", number.rem_euclid(11));
        vec![
            ("texts", Arc::new(numbers.iter().map(|number| number.map(text)).collect::<StringArray>())),
            ("times", Arc::new(numbers.iter().copied().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))),
            ("numbers", Arc::new(numbers.iter().copied().collect::<Int64Array>())),
            (
                "floats",
                Arc::new(
                    numbers.iter().map(|number| number.map(|number| number as f64 / 3.0)).collect::<Float64Array>(),
                ),
            ),
            (
                "flags",
                Arc::new(numbers.iter().map(|number| number.map(|number| number % 3 == 0)).collect::<BooleanArray>()),
            ),
            (
                "small",
                Arc::new(numbers.iter().map(|number| number.map(|number| number as i32)).collect::<Int32Array>()),
            ),
        ]
    };
    let mut columns: Vec<(String, ArrayRef)> = vec![];
    for (name, elements) in values(&elements) {
        // Lists without nulls may be declared so.
        let is_nullable = elements.null_count() > 0 || name == "times";
        let item = Arc::new(Field::new("item", elements.data_type().clone(), is_nullable));
        let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.len()));
        columns.push((name.to_owned(), Arc::new(ListArray::new(item, offsets, elements, Some(is_list.clone())))));
    }
    for (name, values) in values(&first) {
        columns.push((format!("first_{name}"), values));
    }
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| {
            let is_nullable = column.null_count() > 0 || name.contains("numbers");
            Field::new(name, column.data_type().clone(), is_nullable)
        })
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect())
        .unwrap()
}

/// The schema that is asked for: texts as dictionaries.
fn coded(schema: &Schema) -> SchemaRef {
    let coded = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::Utf8 => dictionary(),
            DataType::List(item) if item.data_type() == &DataType::Utf8 => list_of(dictionary(), item.is_nullable()),
            other => other.clone(),
        };
        Field::new(field.name(), data_type, field.is_nullable())
    };
    Arc::new(Schema::new(schema.fields().iter().map(coded).collect::<Vec<_>>()))
}

fn plain(batch: &RecordBatch, schema: &Schema) -> Vec<ArrayRef> {
    let columns = batch.columns().iter().zip(schema.fields());
    columns.map(|(column, field)| cast(column, field.data_type()).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_column_reads_as_by_the_library(rows in rows(), how in how(), batch_size in 1_usize..400) {
        let batch = columns(&rows);
        let file = write(&batch, &how);
        let schema = coded(&batch.schema());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batches = runtime.block_on(read_here(file.clone(), &schema, batch_size)).unwrap();
        prop_assert!(batches.iter().all(|batch| batch.num_rows() <= batch_size));
        let here = concat_batches(&schema, &batches).unwrap();
        let library = read_by_library(file, &schema);
        prop_assert_eq!(plain(&here, &batch.schema()), plain(&library, &batch.schema()));
        prop_assert_eq!(plain(&here, &batch.schema()), batch.columns().to_vec());
    }

    #[test]
    fn every_row_group_is_in_one_range_of_a_file(rows in rows(), how in how(), cuts in proptest::collection::vec(any::<u16>(), 0..4)) {
        let batch = columns(&rows);
        let file = write(&batch, &how);
        let schema = coded(&batch.schema());
        let size = file.len() as i64;
        let mut cuts: Vec<i64> = cuts.into_iter().map(|cut| i64::from(cut) % (size + 1)).chain([0, size]).collect();
        cuts.sort_unstable();
        let ranges: Vec<(i64, i64)> = cuts.windows(2).map(|ends| (ends[0], ends[1])).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batches = runtime.block_on(read_ranges(file, &schema, 100, &ranges)).unwrap();
        let here = concat_batches(&schema, &batches).unwrap();
        prop_assert_eq!(plain(&here, &batch.schema()), batch.columns().to_vec());
    }

    /// Damaged bytes give an error or other values, and no panic.
    #[test]
    fn damage_is_an_error_at_worst(rows in rows(), how in how(), damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        let batch = columns(&rows);
        // Plain texts are left to the library.
        let mut file = write(&batch, &Written { has_dictionaries: true, ..how });
        let pages = file.len() - 8 - u32::from_le_bytes(file[file.len() - 8..][..4].try_into().unwrap()) as usize;
        for (place, byte) in damage {
            file[4 + usize::from(place) % (pages - 4).max(1)] = byte;
        }
        let schema = coded(&batch.schema());
        let decoded_here: Vec<usize> = (0..schema.fields().len()).filter(|at| !schema.field(*at).name().contains("small")).collect();
        let schema = Arc::new(schema.project(&decoded_here).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(read_here(file, &schema, 64));
    }
}

#[tokio::test]
async fn a_column_that_a_file_does_not_have_is_null() {
    let batch = columns(&[Some(vec![Some(1), None]), None]);
    let how = Written {
        version: WriterVersion::PARQUET_1_0,
        compression: Compression::UNCOMPRESSED,
        page_rows: 10,
        group_rows: 10,
        has_dictionaries: true,
        has_steps: false,
        has_arrow_schema: false,
    };
    let schema = Arc::new(Schema::new(vec![
        Field::new("later", list_of(dictionary(), true), true),
        Field::new("texts", list_of(dictionary(), true), true),
    ]));
    let batches = read_here(write(&batch, &how), &schema, 10).await.unwrap();
    assert_eq!(batches[0].column(0).null_count(), 2);
    assert_eq!(batches[0].column(1).null_count(), 1);
}
