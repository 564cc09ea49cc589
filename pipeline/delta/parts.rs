//! Data files of tables: written under names that are never used twice, encoded alike.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use object_store::ObjectStoreExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

use super::encodings;
use crate::error::{Context, Result};
use crate::lake::Lake;

/// A data file is closed when it has about this many bytes.
pub(super) const TARGET_FILE_BYTES: usize = 128 << 20;
/// Rows of a row group, the piece of a file that a thread reads.
const ROW_GROUP_ROWS: usize = 128 << 10;
/// Rows of a small page.
const SMALL_PAGE_ROWS: usize = 512;

/// A data file that was written and is not yet in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Path relative to the table.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: usize,
    /// Values of the partition columns as Delta text.
    pub partition: Vec<(String, String)>,
    /// First and last batch that its rows came with, where that is known.
    pub batches: Option<(i64, i64)>,
}

/// How large the pages of files are, the pieces of a column that are fetched and decoded apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// As large as the library makes them: for those who read all rows.
    Large,
    /// Of few rows: for those who look some up here and there. To read all takes some percent longer.
    Small,
}

/// What files say of the program that wrote them.
pub const CREATED_BY: &str = concat!("wayline ", env!("CARGO_PKG_VERSION"));

/// Properties of the Parquet files that are kept or published: small first.
pub fn writer_properties() -> WriterProperties {
    properties(small())
}

fn small() -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(1).expect("level 1 exists"))
}

fn properties(compression: Compression) -> WriterProperties {
    WriterProperties::builder()
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(CREATED_BY.to_string())
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
    file_writer(schema, writer_properties(), Vec::new())
}

/// A writer of one Parquet file for readers outside, given the first rows of those of its columns that are to be encoded: with
/// a page index, by which they skip pages within a file, and with key-value metadata. It fills `memory`, which is empty.
pub fn published_writer(
    schema: &SchemaRef,
    first: &RecordBatch,
    metadata: Vec<(String, String)>,
    memory: Vec<u8>,
) -> Result<ArrowWriter<Vec<u8>>> {
    let metadata = metadata.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
    let properties = writer_properties()
        .into_builder()
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(metadata));
    file_writer(schema, encodings::that_fit(properties, small(), first)?.build(), memory)
}

fn file_writer(schema: &SchemaRef, properties: WriterProperties, memory: Vec<u8>) -> Result<ArrowWriter<Vec<u8>>> {
    let properties = with_times_as_steps(properties, schema);
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    Ok(ArrowWriter::try_new_with_options(memory, schema.clone(), options)?)
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
    Ok(Part { path, size, rows, partition, batches: None })
}

/// Writes one stream of batches as a row of files of bounded size.
pub struct PartWriter {
    lake: Lake,
    folder: String,
    name: String,
    schema: SchemaRef,
    compression: Compression,
    pages: Pages,
    open: Option<ArrowWriter<Vec<u8>>>,
    rows: usize,
    parts: Vec<Part>,
}

impl PartWriter {
    /// A writer of files `name-0.parquet`, `name-1.parquet`, … in a table's folder.
    pub fn new(lake: Lake, folder: String, name: String, schema: SchemaRef) -> Self {
        // Derived tables are written and read within one run, time and again: fast first.
        let compression = Compression::SNAPPY;
        Self { lake, folder, name, schema, compression, pages: Pages::Large, open: None, rows: 0, parts: Vec::new() }
    }

    /// Small first.
    pub fn small(self) -> Self {
        Self { compression: small(), ..self }
    }

    /// With such pages.
    pub fn with_pages(self, pages: Pages) -> Self {
        Self { pages, ..self }
    }

    /// Adds rows; a file that has grown large is closed and uploaded.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut writer = match self.open.take() {
            Some(writer) => writer,
            None => {
                let properties = properties(self.compression).into_builder();
                let properties = properties.set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
                let properties = match self.pages {
                    Pages::Large => properties,
                    // Whether a page is full is asked once per batch that is written.
                    Pages::Small => {
                        properties.set_data_page_row_count_limit(SMALL_PAGE_ROWS).set_write_batch_size(SMALL_PAGE_ROWS)
                    }
                };
                let properties = encodings::that_fit(properties, self.compression, batch)?.build();
                file_writer(&self.schema, properties, Vec::new())?
            }
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
