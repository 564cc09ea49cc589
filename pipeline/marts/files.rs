//! Files of marts: encoded alike for equal rows, complete before they are put in their places.
//!
//! On a local disk a file is first written into a folder beside `marts/`, where nobody looks, and moved when all files of
//! all marts are there: many small files then wait for the disk together and not one after another. Other stores show a
//! file when it is complete anyway, and it is put at once. What equals the file in its place is left out.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{BatchCoalescer, take};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::file::writer::SerializedFileWriter;
use rayon::prelude::*;
use uuid::Uuid;

use super::catalog::MartFile;
use super::restatements::digest_of_rows;
use crate::delta::published_writer;
use crate::error::{Context, Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;

/// Folder of files that are complete and not yet in place.
pub const STAGING: &str = "staging";
/// Rows that are encoded at a time. Pages end with such a batch, so equal rows are equal files however they came.
pub const BATCH_ROWS: usize = 8192;
/// Rows of a row group: as many as the library's writer of whole rows gives it.
pub const ROWS_PER_GROUP: usize = 1 << 20;

/// A file in the making, in memory. Its columns are encoded on several threads.
pub struct Encoder {
    batches: BatchCoalescer,
    metadata: Vec<(String, String)>,
    open: Option<Open>,
    rows: usize,
    /// Bytes that the file is expected to have.
    bytes: usize,
}

/// A file of which rows are written.
struct Open {
    writer: ByColumn,
    group: Group,
}

/// Writes a file, and makes writers of the columns of its row groups.
pub type ByColumn = (SerializedFileWriter<Vec<u8>>, ArrowRowGroupWriterFactory);

/// A row group in the making.
#[derive(Default)]
struct Group {
    /// None where it has no rows.
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
}

impl Encoder {
    /// A file of rows of `schema` that says this of itself.
    pub fn new(schema: &SchemaRef, metadata: &[(String, String)]) -> Self {
        Self {
            batches: BatchCoalescer::new(schema.clone(), BATCH_ROWS),
            metadata: metadata.to_vec(),
            open: None,
            rows: 0,
            bytes: 0,
        }
    }

    /// With memory for a file of about so many bytes, which is then not copied as it grows.
    pub fn of_about(self, bytes: usize) -> Self {
        Self { bytes: bytes + bytes / 8, ..self }
    }

    /// A writer of the same file column by column, given the first rows of those that are to be encoded.
    pub fn by_column(&self, first: &RecordBatch) -> Result<ByColumn> {
        let (schema, memory) = (self.batches.schema(), Vec::with_capacity(self.bytes));
        Ok(published_writer(&schema, first, self.metadata.clone(), memory)?.into_serialized_writer()?)
    }

    /// Adds rows.
    pub fn push(&mut self, rows: RecordBatch) -> Result<()> {
        self.rows += rows.num_rows();
        self.batches.push_batch(rows)?;
        while let Some(batch) = self.batches.next_completed_batch() {
            self.write(&batch)?;
        }
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns().iter().map(without_idle_nulls).collect::<Result<_>>()?;
        let batch = &RecordBatch::try_new(batch.schema(), columns)?;
        if self.open.is_none() {
            self.open = Some(Open { writer: self.by_column(batch)?, group: Group::default() });
        }
        self.open.as_mut().expect("it was opened").write(batch)
    }

    /// The content of the file and how many rows it has.
    pub fn finish(mut self) -> Result<(Vec<u8>, usize)> {
        self.batches.finish_buffered_batch()?;
        match self.batches.next_completed_batch() {
            Some(batch) => self.write(&batch)?,
            None if self.open.is_none() => self.write(&RecordBatch::new_empty(self.batches.schema()))?,
            None => {}
        }
        let mut open = self.open.expect("it was opened for the first batch");
        open.close_group()?;
        Ok((open.writer.0.into_inner()?, self.rows))
    }
}

impl Open {
    /// Adds rows, of which a row group takes as many as have room.
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut begin = 0;
        while begin < batch.num_rows() {
            let count = (ROWS_PER_GROUP - self.group.rows).min(batch.num_rows() - begin);
            self.write_to_group(&batch.slice(begin, count))?;
            begin += count;
            if self.group.rows == ROWS_PER_GROUP {
                self.close_group()?;
            }
        }
        Ok(())
    }

    fn write_to_group(&mut self, rows: &RecordBatch) -> Result<()> {
        let (file, factory) = &self.writer;
        if self.group.columns.is_empty() {
            self.group.columns = factory.create_column_writers(file.flushed_row_groups().len())?;
        }
        let mut leaves = Vec::with_capacity(self.group.columns.len());
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            leaves.extend(compute_leaves(field, column)?);
        }
        debug_assert_eq!(self.group.columns.len(), leaves.len(), "a mart is flat");
        self.group.columns.par_iter_mut().zip(leaves).try_for_each(|(column, leaf)| column.write(&leaf))?;
        self.group.rows += rows.num_rows();
        Ok(())
    }

    fn close_group(&mut self) -> Result<()> {
        let Group { columns, rows } = std::mem::take(&mut self.group);
        if rows == 0 {
            return Ok(());
        }
        let closed: Vec<_> = columns.into_par_iter().map(ArrowColumnWriter::close).collect();
        let mut group = self.writer.0.next_row_group()?;
        for column in closed {
            column?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }
}

/// The same cells, without a null buffer that has no nulls: with one, a page may end elsewhere.
pub fn without_idle_nulls(column: &ArrayRef) -> Result<ArrayRef> {
    if column.null_count() > 0 || column.nulls().is_none() {
        return Ok(column.clone());
    }
    // What is taken of a column without nulls has no such buffer.
    Ok(take(column, &UInt32Array::from_iter_values(0..column.len() as u32), None)?)
}

/// A file that is complete.
#[derive(Debug)]
pub struct Staged {
    /// Path of its place.
    pub path: String,
    /// What the catalog says of it.
    pub file: MartFile,
    /// Where it lies until then; none where it is in its place.
    waits_at: Option<String>,
}

/// The content of a file, which must be what the catalog says of it.
pub async fn content(lake: &Lake, path: &str, file: &MartFile) -> Result<Bytes> {
    let content = lake.get(path).await?.ok_or_else(|| Error::corrupt(format!("{path} is gone")))?;
    match content.len() as u64 == file.bytes && digest_of_rows(&content) == file.digest {
        true => Ok(content),
        false => Err(Error::corrupt(format!("{path} is not what was published"))),
    }
}

/// Makes a file ready for its place, where `before` is what the catalog says of the one that is there.
pub async fn stage(
    lake: &Lake,
    path: String,
    (content, rows): (Vec<u8>, usize),
    before: Option<&MartFile>,
) -> Result<Staged> {
    let file = MartFile { rows, bytes: content.len() as u64, digest: digest_of_rows(&content) };
    let looks_the_same = before == Some(&file);
    if looks_the_same && lake.get(&path).await?.is_some_and(|there| there == content) {
        return Ok(Staged { path, file, waits_at: None });
    }
    if lake.local_folder().is_none() {
        failpoint("publish.file.before");
        lake.put(&path, content.into()).await?;
        failpoint("publish.file.after");
        return Ok(Staged { path, file, waits_at: None });
    }
    let staged = format!("{STAGING}/{}.parquet", Uuid::new_v4().simple());
    lake.put(&staged, content.into()).await?;
    Ok(Staged { path, file, waits_at: Some(staged) })
}

/// Puts a file at its place in one step. The store would stage it beside the target, where readers that list the folder
/// would see it, so it is moved.
pub async fn place(lake: &Lake, staged: &Staged) -> Result<()> {
    let Some(waits_at) = &staged.waits_at else { return Ok(()) };
    failpoint("publish.file.before");
    lake.store().rename(&lake.path(waits_at), &lake.path(&staged.path)).await.context(&staged.path)?;
    failpoint("publish.file.after");
    Ok(())
}

/// Removes what runs have staged that were cut short, or that failed.
pub async fn remove_staged(lake: &Lake) -> Result<()> {
    if lake.local_folder().is_none() {
        return Ok(());
    }
    let staged = list(lake, STAGING).await?;
    remove(lake, staged.iter().filter(|path| path.ends_with(".parquet"))).await
}

/// Every file in a folder, by its path in the lake.
pub async fn list(lake: &Lake, folder: &str) -> Result<BTreeSet<String>> {
    let listed = lake.list(folder).await?;
    Ok(listed.iter().filter_map(|file| lake.relative(&file.location)).collect())
}

/// Removes files, and the folders that are empty then.
pub async fn remove(lake: &Lake, paths: impl IntoIterator<Item = &String>) -> Result<()> {
    for path in paths {
        lake.delete(path).await?;
        if let (Some(folder), Some((parent, _))) = (lake.local_folder(), path.rsplit_once('/')) {
            // An empty day folder says nothing; one that is not empty stays.
            std::fs::remove_dir(folder.join(parent)).ok();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::buffer::NullBuffer;

    use super::*;

    #[test]
    fn a_null_buffer_without_nulls_makes_no_other_file() {
        // So long that pages end before their batch does.
        let texts = StringArray::from_iter_values((0..20_000).map(|number| format!("{number:080}")));
        let (offsets, values, _) = texts.clone().into_parts();
        let nulls = NullBuffer::from(vec![true; texts.len()]);
        let idle = StringArray::new(offsets, values, Some(nulls));
        let content = |texts: StringArray| {
            let rows = RecordBatch::try_from_iter_with_nullable([("note", Arc::new(texts) as ArrayRef, true)]).unwrap();
            let mut encoder = Encoder::new(&rows.schema(), &[]);
            encoder.push(rows).unwrap();
            encoder.finish().unwrap().0
        };
        assert!(content(texts) == content(idle));
    }

    #[test]
    fn columns_that_are_encoded_apart_make_the_file_that_one_writer_makes() {
        for count in [0, 1, BATCH_ROWS, 2 * ROWS_PER_GROUP + 3 * BATCH_ROWS + 7] {
            let numbers: Vec<i64> = (0..count as i64).collect();
            let texts: StringArray =
                numbers.iter().map(|number| (number % 7 > 0).then(|| number.to_string())).collect();
            let columns = [("number", Arc::new(Int64Array::from(numbers)) as ArrayRef), ("text", Arc::new(texts) as _)];
            let rows =
                RecordBatch::try_from_iter_with_nullable(columns.map(|(name, rows)| (name, rows, true))).unwrap();
            let metadata = [("words".to_string(), "of it".to_string())];
            let first = rows.slice(0, BATCH_ROWS.min(count));
            let mut writer = published_writer(&rows.schema(), &first, metadata.to_vec(), Vec::new()).unwrap();
            for begin in (0..count).step_by(BATCH_ROWS) {
                writer.write(&rows.slice(begin, BATCH_ROWS.min(count - begin))).unwrap();
            }
            let mut encoder = Encoder::new(&rows.schema(), &metadata);
            encoder.push(rows).unwrap();
            let (content, written) = encoder.finish().unwrap();
            assert_eq!(written, count);
            assert!(content == writer.into_inner().unwrap(), "{count} rows");
        }
    }
}
