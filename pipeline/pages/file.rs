//! A file: its row groups one after another, each in batches.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpenFuture, FileOpener};
use datafusion::physical_plan::metrics::Count;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetResultPayload, ObjectStore};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::async_reader::MetadataFetch;
use parquet::file::metadata::{ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use super::column::Column;
use super::content::{Content, Local};
use super::shape::Shape;
use super::starts::Starts;
use super::values::Kind;

/// Bytes that are read from a file's end at once; most have no longer footer.
pub const FOOTER: usize = 64 * 1024;
/// Elements of a batch, for each row that a batch of flat columns has: with a few columns still in the cache.
const ELEMENTS_PER_ROW: usize = 2;

/// Opens files for one partition of a scan.
pub struct Opener {
    pub store: Arc<dyn ObjectStore>,
    /// Columns that are read.
    pub columns: SchemaRef,
    pub batch_size: usize,
    pub bytes_scanned: Count,
}

impl FileOpener for Opener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let (store, columns, batch_size) = (self.store.clone(), self.columns.clone(), self.batch_size);
        let bytes_scanned = self.bytes_scanned.clone();
        Ok(Box::pin(async move {
            let (path, size) = (file.object_meta.location.clone(), file.object_meta.size);
            let open = Arc::new(OpenFile::open(store, path, size, columns, batch_size, bytes_scanned).await?);
            let is_wanted = |group: &RowGroupMetaData| {
                let first = group.columns().iter().map(|column| column.byte_range().0).min().unwrap_or(0);
                file.range.as_ref().is_none_or(|range| (range.start..range.end).contains(&(first as i64)))
            };
            let groups: Vec<usize> = (open.metadata.metadata().row_groups().iter().enumerate())
                .filter(|(_, group)| is_wanted(group))
                .map(|(number, _)| number)
                .collect();
            let batches = futures::stream::iter(groups)
                .then(move |number| {
                    let open = open.clone();
                    async move { open.group(number).await.map(futures::stream::iter) }
                })
                .try_flatten();
            Ok(batches.boxed())
        }))
    }
}

struct OpenFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
    /// As the library would read it if not told what is wanted.
    stored: SchemaRef,
    metadata: ArrowReaderMetadata,
    /// The file itself, where it lies on this machine.
    local: Option<Arc<Local>>,
    columns: SchemaRef,
    batch_size: usize,
    bytes_scanned: Count,
}

impl OpenFile {
    async fn open(
        store: Arc<dyn ObjectStore>,
        path: Path,
        size: u64,
        columns: SchemaRef,
        batch_size: usize,
        bytes_scanned: Count,
    ) -> Result<Self> {
        let mut footer = Footer { store: &store, path: &path, local: None };
        let metadata =
            ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER)).load_and_finish(&mut footer, size).await?;
        let local = footer.local;
        let stored = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())?;
        // What the library's reader can give as it is asked for, it does.
        let wanted = |field: &FieldRef| {
            columns.field_with_name(field.name()).map_or_else(
                |_| field.clone(),
                |wanted| {
                    let nullable = wanted.clone().with_nullable(field.is_nullable());
                    Arc::new(nullable.with_metadata(field.metadata().clone()))
                },
            )
        };
        let schema = Schema::new_with_metadata(
            stored.schema().fields().iter().map(wanted).collect::<Vec<_>>(),
            stored.schema().metadata().clone(),
        );
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        let (metadata, stored) = (stored.clone(), stored.schema().clone());
        let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).unwrap_or(metadata);
        Ok(Self { store, path, size, stored, metadata, local, columns, batch_size, bytes_scanned })
    }

    /// The batches of a row group, whose bytes are fetched first unless they are on this machine.
    async fn group(&self, number: usize) -> Result<Group> {
        let group = self.metadata.metadata().row_group(number);
        let mut ways = Vec::with_capacity(self.columns.fields().len());
        let mut leaves_of_library = vec![];
        let mut ranges: Vec<Range<u64>> = vec![];
        let mut elements = group.num_rows().max(1);
        for field in self.columns.fields() {
            let Ok(stored) = self.stored.field_with_name(field.name()) else {
                ways.push(Way::Absent);
                continue;
            };
            let leaves = self.leaves(field.name());
            for leaf in leaves.clone() {
                let (start, length) = group.column(leaf).byte_range();
                ranges.push(start..start + length);
                elements = elements.max(group.column(leaf).num_values());
            }
            match (leaves.as_slice(), Shape::of(field, stored.data_type(), group.column(leaves[0]))) {
                ([leaf], Some((shape, kind))) => ways.push(Way::Here(*leaf, shape, kind)),
                _ => {
                    leaves_of_library.extend(leaves);
                    ways.push(Way::Library);
                }
            }
        }

        // Of a file of this machine what the footer says, though a limit may leave pages unread.
        let told = |range: &Range<u64>| usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        let content = Arc::new(match &self.local {
            Some(file) => {
                ranges.iter().for_each(|range| self.bytes_scanned.add(told(range)));
                Content::local(self.size, file.clone())
            }
            None => {
                let bytes = self.store.get_ranges(&self.path, &ranges).await?;
                self.bytes_scanned.add(bytes.iter().map(Bytes::len).sum());
                Content::fetched(self.size, ranges.iter().map(|range| range.start).zip(bytes).collect())
            }
        });
        let rows = group.num_rows() as usize;
        let elements_of_batch = self.batch_size.saturating_mul(ELEMENTS_PER_ROW);
        let batch_rows = (elements_of_batch.saturating_mul(rows) / elements as usize).clamp(1, self.batch_size.max(1));
        let starts = Starts::default();
        let columns = (ways.into_iter().zip(self.columns.fields()))
            .map(|(way, field)| {
                Ok(match way {
                    Way::Here(leaf, shape, kind) => {
                        let pages = SerializedPageReader::new(content.clone(), group.column(leaf), rows, None)?;
                        let levels = group.column(leaf).num_values().max(0) as usize;
                        let column = Column::new(field.clone(), shape, kind, pages, levels, starts.clone());
                        Source::Here(Box::new(column))
                    }
                    Way::Library => Source::Library(field.clone()),
                    Way::Absent => Source::Absent(field.clone()),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let library = match leaves_of_library.is_empty() {
            true => None,
            false => {
                let mask = ProjectionMask::leaves(self.metadata.parquet_schema(), leaves_of_library);
                let reader = Content::clone(&content);
                Some(
                    ParquetRecordBatchReaderBuilder::new_with_metadata(reader, self.metadata.clone())
                        .with_row_groups(vec![number])
                        .with_projection(mask)
                        .with_batch_size(batch_rows)
                        .build()?,
                )
            }
        };
        // Room for what a batch is likely to have, and for no more than it should have, whatever the footer says.
        let room = (elements as usize / rows.max(1) + 1).saturating_mul(batch_rows).min(elements_of_batch);
        Ok(Group { schema: self.columns.clone(), left: rows, batch_rows, room, columns, library })
    }
    /// Places of the stored columns that a column is made of.
    fn leaves(&self, name: &str) -> Vec<usize> {
        let schema = self.metadata.parquet_schema();
        (0..schema.num_columns()).filter(|leaf| schema.get_column_root(*leaf).name() == name).collect()
    }
}

/// What the metadata of a file is read from.
struct Footer<'a> {
    store: &'a Arc<dyn ObjectStore>,
    path: &'a Path,
    /// The file itself, once it is known to lie on this machine.
    local: Option<Arc<Local>>,
}

impl MetadataFetch for &mut Footer<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        Box::pin(async move {
            let length = (range.end - range.start) as usize;
            if let Some(local) = &self.local {
                return Ok(local.read(range.start, length)?);
            }
            let found = self.store.get_opts(self.path, GetOptions::new().with_range(Some(range.clone()))).await?;
            match found.payload {
                GetResultPayload::File(file, _) => {
                    let local = self.local.insert(Arc::new(Local::new(file)));
                    Ok(local.read(range.start, length)?)
                }
                GetResultPayload::Stream(_) => Ok(found.bytes().await?),
            }
        })
    }
}

/// How a column of a row group is read.
enum Way {
    Here(usize, Shape, Kind),
    Library,
    Absent,
}

/// Where a column of a batch comes from.
enum Source {
    Here(Box<Column>),
    Library(FieldRef),
    Absent(FieldRef),
}

/// A row group that is read in batches.
struct Group {
    schema: SchemaRef,
    /// Rows to come.
    left: usize,
    batch_rows: usize,
    /// Elements that a batch is likely to have.
    room: usize,
    columns: Vec<Source>,
    /// What the library's reader has of it.
    library: Option<ParquetRecordBatchReader>,
}

impl Group {
    fn batch(&mut self) -> Result<RecordBatch> {
        let rows = self.left.min(self.batch_rows);
        let library = self.library.as_mut().map(|reader| {
            let batch = reader.next().transpose()?.filter(|batch| batch.num_rows() == rows);
            batch.ok_or_else(|| DataFusionError::Execution("a row group with fewer rows than it says".to_owned()))
        });
        let library = library.transpose()?;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for source in &mut self.columns {
            columns.push(match source {
                Source::Here(column) => column.take(rows, self.room)?,
                Source::Library(field) => {
                    let stored = library.as_ref().and_then(|batch| batch.column_by_name(field.name()));
                    let stored =
                        stored.ok_or_else(|| DataFusionError::Internal(format!("{} was not read", field.name())))?;
                    if stored.data_type() == field.data_type() {
                        stored.clone()
                    } else {
                        cast(stored, field.data_type())?
                    }
                }
                Source::Absent(field) => new_null_array(field.data_type(), rows),
            });
        }
        share_offsets(&mut columns);
        self.left -= rows;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

impl Iterator for Group {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let batch = self.batch();
        if batch.is_err() {
            self.left = 0;
        }
        Some(batch)
    }
}

/// Lists that are parallel get one set of offsets: whoever walks them sees at a glance that they are.
fn share_offsets(columns: &mut [ArrayRef]) {
    let mut first: Option<ListArray> = None;
    for column in columns {
        let Some(list) = column.as_list_opt::<i32>() else { continue };
        match &first {
            Some(first) if first.offsets() == list.offsets() => {
                let DataType::List(item) = list.data_type() else { continue };
                let shared =
                    ListArray::new(item.clone(), first.offsets().clone(), list.values().clone(), list.nulls().cloned());
                *column = Arc::new(shared);
            }
            Some(_) => {}
            None => first = Some(list.clone()),
        }
    }
}
