//! Compaction: the small files of a partition become few files of about the target size, sorted as reads want them.
//!
//! Partitions are merged one at a time, by a sort that spills, so memory is bounded by the engine's setting and one
//! file in the making. Files near the target are never touched again. A file that is still small after a merge takes
//! part in the next one, so a row is rewritten at most as often as the small files of its partition are merged before
//! they fill a third of the target.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::prelude::{SessionContext, ident};
use futures::TryStreamExt;
use uuid::Uuid;

use crate::delta::compact::{APPLICATION, TARGET_BYTES};
use crate::delta::{self, Part, Table};
use crate::engine;
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::landing::events::{DEAD_LETTERS, EVENTS, PARTITION};
use crate::landing::write::FileWriter;

/// Small files of a partition from which a merge pays: fewer cost readers less than writing them again.
pub const WORTH_MERGING: usize = 4;
/// A file is small below this part of the target, so that merged files never are a third of it short.
const SMALL_PART: usize = 3;
/// Bytes of files that one commit replaces, about. A job that is cut short does that much again.
const BYTES_PER_COMMIT: u64 = 1 << 30;
/// Rows at a time: records of dead letters may be long, and a column of them must fit 31 bits.
const ROWS_PER_BATCH: usize = 1024;
/// Rows that are written before a file is measured, at least: text in views counts for more than it is.
const ROWS_PER_PIECE: usize = 8;
/// Part of the target that is written before a file is measured, about.
const PIECES_PER_FILE: usize = 16;

/// A table whose files are merged.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Folder in the lake.
    pub folder: &'static str,
    /// Columns that its rows are sorted by.
    order: &'static [&'static str],
    /// Columns whose values hardly repeat, so that no dictionary is tried for them.
    distinct: &'static [&'static str],
    /// Whether the hashes of event ids stand beside them.
    has_hashes: bool,
}

/// The tables that grow by a file per batch. All others are replaced whole.
pub const LAYOUTS: [Layout; 2] = [
    Layout {
        folder: EVENTS,
        order: &["occurred_at", "event_id"],
        distinct: &["event_id", "occurred_at", "received_at"],
        has_hashes: true,
    },
    Layout { folder: DEAD_LETTERS, order: &["batch", "source", "origin"], distinct: &["record"], has_hashes: false },
];

/// Sizes that decide about merges.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Bytes of a file at which it is closed.
    pub target: usize,
    /// Bytes of files that one commit replaces.
    pub per_commit: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { target: TARGET_BYTES, per_commit: BYTES_PER_COMMIT }
    }
}

/// What was merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Compacted {
    /// Files that were replaced.
    pub files: usize,
    /// Files in their place.
    pub into: usize,
    /// Bytes that were written.
    pub bytes: u64,
}

/// The files of a table that are worth merging, by partition.
pub fn worth_merging(table: &Table, sizes: Sizes) -> Result<Vec<Vec<Part>>> {
    let mut partitions: BTreeMap<Vec<(String, String)>, Vec<Part>> = BTreeMap::new();
    for part in table.files()? {
        if part.size < (sizes.target / SMALL_PART) as u64 {
            partitions.entry(part.partition.clone()).or_default().push(part);
        }
    }
    Ok(partitions.into_values().filter(|small| small.len() >= WORTH_MERGING).collect())
}

/// Merges the small files of a table, commit by commit.
pub async fn compact(ctx: &SessionContext, lake: &Lake, layout: Layout, sizes: Sizes) -> Result<Compacted> {
    let mut done = Compacted::default();
    // What a merge writes is not merged again at once, however small it came out.
    let mut seen = BTreeSet::new();
    loop {
        let Some(table) = Table::open(lake, layout.folder).await? else { return Ok(done) };
        let mut partitions = worth_merging(&table, sizes)?;
        partitions.retain(|parts| !seen.contains(&parts[0].partition));
        if partitions.is_empty() {
            return Ok(done);
        }
        if table.has_deletion_vectors()? {
            let error = Error::invalid(format!("{}: another program marked rows as deleted", layout.folder));
            return Err(error.hint("rewrite the table without deletion vectors"));
        }
        let (mut removed, mut merged, mut bytes) = (BTreeSet::new(), Vec::new(), 0);
        for parts in partitions {
            bytes += parts.iter().map(|part| part.size).sum::<u64>();
            seen.insert(parts[0].partition.clone());
            merged.extend(merge(ctx, lake, &table, layout, &parts, sizes.target).await?);
            removed.extend(parts.into_iter().map(|part| part.path));
            if bytes >= sizes.per_commit {
                break;
            }
        }
        table.replace_files(lake, layout.folder, &removed, &merged).await?.version()?;
        done.files += removed.len();
        done.into += merged.len();
        done.bytes += merged.iter().map(|file| file.size).sum::<u64>();
    }
}

/// Writes the rows of some files of one partition as files of the target size, in order.
async fn merge(
    ctx: &SessionContext,
    lake: &Lake,
    table: &Table,
    layout: Layout,
    parts: &[Part],
    target: usize,
) -> Result<Vec<Part>> {
    let partition = parts.first().map(|part| part.partition.clone()).unwrap_or_default();
    let rows: usize = parts.iter().map(|part| part.rows).sum();
    let provider = table.provider_of(lake, layout.folder, parts.to_vec())?;
    let order = layout.order.iter().map(|column| ident(*column).sort(true, true)).collect();
    let frame = engine::in_batches_of(ctx, ROWS_PER_BATCH).read_table(provider)?.sort(order)?;
    let kept: Vec<_> = frame
        .schema()
        .fields()
        .iter()
        .filter(|field| field.name() != PARTITION)
        .map(|field| ident(field.name()))
        .collect();
    let mut stream = frame.select(kept)?.execute_stream().await?;
    let mut files = Files {
        lake,
        layout,
        partition,
        prefix: format!("{APPLICATION}-{}", Uuid::new_v4().simple()),
        schema: stream.schema(),
        target,
        open: None,
        merged: Vec::new(),
    };
    while let Some(batch) = stream.try_next().await? {
        let bytes_per_row = batch.get_array_memory_size() / batch.num_rows().max(1);
        let piece = (target / PIECES_PER_FILE / bytes_per_row.max(1)).max(ROWS_PER_PIECE);
        for start in (0..batch.num_rows()).step_by(piece) {
            files.write(&batch.slice(start, piece.min(batch.num_rows() - start))).await?;
        }
    }
    files.close().await?;
    let written: usize = files.merged.iter().map(|file| file.rows).sum();
    if written != rows {
        return Err(Error::corrupt(format!(
            "{}: {} files hold {written} rows where the log says {rows}; nothing was changed",
            layout.folder,
            parts.len()
        ))
        .hint("wayline fsck says which"));
    }
    Ok(files.merged)
}

/// Files of one partition in the making, one at a time.
struct Files<'a> {
    lake: &'a Lake,
    layout: Layout,
    partition: Vec<(String, String)>,
    prefix: String,
    schema: SchemaRef,
    target: usize,
    open: Option<Open>,
    merged: Vec<Part>,
}

struct Open {
    writer: FileWriter,
    rows: usize,
    batches: Option<(i64, i64)>,
}

impl Files<'_> {
    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let Layout { distinct, has_hashes, .. } = self.layout;
                Open { writer: FileWriter::new(&self.schema, distinct, has_hashes)?, rows: 0, batches: None }
            }
        };
        open.writer.write(batch)?;
        open.rows += batch.num_rows();
        let numbers = batch.column_by_name("batch").map(|column| column.as_primitive::<Int64Type>());
        let range = numbers.filter(|numbers| numbers.null_count() == 0).and_then(|n| Some((min(n)?, max(n)?)));
        open.batches = match (open.batches, range) {
            (Some((least, greatest)), Some((low, high))) => Some((least.min(low), greatest.max(high))),
            (before, range) => before.or(range),
        };
        let is_full = open.writer.size() >= self.target;
        self.open = Some(open);
        if is_full {
            self.close().await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let Some(Open { writer, rows, batches }) = self.open.take() else { return Ok(()) };
        let name = format!("{}-{}", self.prefix, self.merged.len());
        let (partition, content) = (self.partition.clone(), writer.finish()?);
        let part = delta::write_part(self.lake, self.layout.folder, &name, partition, content, rows).await?;
        self.merged.push(Part { batches, ..part });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, Date32Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::DataType;
    use datafusion::prelude::col;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

    use super::*;
    use crate::config;
    use crate::delta::{Change, Replace};
    use crate::landing::events::{DEAD_LETTER_SCHEMA, EVENT_SCHEMA};
    use crate::landing::id_hashes::{self, Hashes};
    use crate::landing::write;

    /// A dead letter of each number, with a record that is hard to press together.
    fn letters(numbers: &[i64]) -> RecordBatch {
        let texts = |text: &str| Arc::new(StringArray::from_iter_values(numbers.iter().map(|_| text))) as ArrayRef;
        let origins = numbers.iter().map(|number| format!("{number:05}"));
        let record =
            |number: &i64| (0..400).map(|at| crate::functions::content_id("n", &format!("{number} {at}"))).collect();
        let records: Vec<String> = numbers.iter().map(record).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(numbers.iter().map(|number| number / 10))),
            texts("web"),
            Arc::new(StringArray::from_iter_values(origins)),
            texts("json_syntax"),
            texts(""),
            Arc::new(BinaryArray::from_iter_values(&records)),
            Arc::new(Int64Array::new_null(numbers.len())),
        ];
        RecordBatch::try_new(DEAD_LETTER_SCHEMA.clone(), columns).unwrap()
    }

    async fn commit_letters(lake: &Lake, number: i64, parts: Vec<Part>) {
        commit(lake, DEAD_LETTERS, &DEAD_LETTER_SCHEMA, &[], number, parts).await;
    }

    /// Adds files to a table, which the first number makes.
    async fn commit(lake: &Lake, folder: &str, schema: &SchemaRef, by: &[&str], number: i64, parts: Vec<Part>) {
        let table = Table::open(lake, folder).await.unwrap();
        let change = Change {
            transaction: ("test".into(), number),
            schema: schema.clone(),
            partition_by: by.iter().map(|column| column.to_string()).collect(),
            properties: Vec::new(),
            replace: Replace::Nothing,
            parts,
            failpoint: "test",
        };
        delta::commit(lake, folder, table.as_ref(), change).await.unwrap().version().unwrap();
    }

    #[tokio::test]
    async fn merged_files_have_about_the_target_size_and_hold_every_row_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        let ctx = engine::session(&lake, &config::Engine::default()).unwrap();
        for number in 0..60 {
            // Every file holds two rows that are far apart.
            let batch = letters(&[number, 119 - number]);
            let (content, rows) = delta::encode(&DEAD_LETTER_SCHEMA, [batch]).unwrap();
            let name = format!("part-{number}");
            let part = delta::write_part(&lake, DEAD_LETTERS, &name, Vec::new(), content, rows).await.unwrap();
            commit_letters(&lake, number, vec![part]).await;
        }
        let size = Table::open(&lake, DEAD_LETTERS).await.unwrap().unwrap().files().unwrap()[0].size;
        let sizes = Sizes { target: size as usize * 10, per_commit: size };
        let done = compact(&ctx, &lake, LAYOUTS[1], sizes).await.unwrap();
        let table = Table::open(&lake, DEAD_LETTERS).await.unwrap().unwrap();
        let files = table.files().unwrap();
        assert_eq!((done.files, done.into), (60, files.len()));
        // Pages that are not full yet are measured as if they were not pressed together, so small files come out short.
        assert!((5..=10).contains(&files.len()), "{files:?}");
        let is_small = |file: &&Part| file.size < size * 10 / SMALL_PART as u64;
        assert!(files.iter().filter(is_small).count() <= 1, "{files:?}");
        assert!(files.iter().all(|file| file.size < size * 15), "{files:?}");
        let mut origins = Vec::new();
        for number in 0..files.len() {
            let part = files.iter().find(|file| file.path.ends_with(&format!("-{number}.parquet"))).unwrap();
            let frame = ctx.read_table(table.provider_of(&lake, DEAD_LETTERS, vec![part.clone()]).unwrap()).unwrap();
            for batch in frame.select(vec![col("origin")]).unwrap().collect().await.unwrap() {
                origins.extend(batch.column(0).as_string_view().iter().flatten().map(str::to_string));
            }
        }
        assert_eq!(origins, (0..120).map(|number| format!("{number:05}")).collect::<Vec<_>>());
        assert_eq!(
            compact(&ctx, &lake, LAYOUTS[1], sizes).await.unwrap(),
            Compacted::default(),
            "there is no more to do"
        );
        assert_eq!(table.transaction("test").await.unwrap(), Some(59));
    }

    #[tokio::test]
    async fn files_with_other_rows_than_the_log_says_are_not_merged() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        let ctx = engine::session(&lake, &config::Engine::default()).unwrap();
        let mut parts = Vec::new();
        for number in 0..4 {
            let (content, rows) = delta::encode(&DEAD_LETTER_SCHEMA, [letters(&[number])]).unwrap();
            let name = format!("part-{number}");
            let lying = rows + usize::from(number == 3);
            parts.push(delta::write_part(&lake, DEAD_LETTERS, &name, Vec::new(), content, lying).await.unwrap());
        }
        commit_letters(&lake, 1, parts).await;
        let error = compact(&ctx, &lake, LAYOUTS[1], Sizes::default()).await.unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Corrupt);
        assert!(error.to_string().contains("4 files hold 4 rows where the log says 5"), "{error}");
        assert_eq!(Table::open(&lake, DEAD_LETTERS).await.unwrap().unwrap().version(), 0);
    }

    /// Events of two days with these ids, and nothing else that differs.
    fn events(ids: std::ops::Range<i64>) -> RecordBatch {
        let column = |field: &arrow::datatypes::FieldRef| -> ArrayRef {
            let count = ids.end - ids.start;
            match field.name().as_str() {
                "event_id" => Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("event-{id}")))),
                "batch" => Arc::new(Int64Array::from_iter_values(ids.clone().map(|_| ids.start))),
                PARTITION => Arc::new(Date32Array::from_iter_values(ids.clone().map(|id| 20_000 + id as i32 % 2))),
                "identifiers" => arrow::array::new_empty_array(field.data_type()),
                _ if field.is_nullable() => arrow::array::new_null_array(field.data_type(), count as usize),
                _ if *field.data_type() == DataType::Utf8 => {
                    Arc::new(StringArray::from_iter_values(ids.clone().map(|_| "x")))
                }
                _ => {
                    let times = TimestampMicrosecondArray::from_iter_values(ids.clone().map(|id| id % 7));
                    Arc::new(times.with_timezone("UTC"))
                }
            }
        };
        let columns = EVENT_SCHEMA.fields().iter().map(column).zip(EVENT_SCHEMA.fields());
        let lists = |(column, field): (ArrayRef, &arrow::datatypes::FieldRef)| match field.data_type() {
            DataType::List(item) => {
                let offsets = OffsetBuffer::new_zeroed((ids.end - ids.start) as usize);
                Arc::new(ListArray::new(item.clone(), offsets, arrow::array::new_empty_array(item.data_type()), None))
            }
            _ => column,
        };
        RecordBatch::try_new(EVENT_SCHEMA.clone(), columns.map(lists).collect()).unwrap()
    }

    #[tokio::test]
    async fn files_of_events_have_the_hash_of_each_id_beside_it_when_they_are_landed_and_when_they_are_merged() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        let ctx = engine::session(&lake, &config::Engine::default()).unwrap();
        for number in 0..5 {
            let rows = vec![events(number * 100..number * 100 + 100)];
            let parts = write::write(&lake, rows, |_, _| false, number, &format!("landed-{number}"), 2).await.unwrap();
            commit(&lake, EVENTS, &EVENT_SCHEMA, &[PARTITION], number, parts).await;
        }
        for files in [10, 2] {
            let table = Table::open(&lake, EVENTS).await.unwrap().unwrap();
            let parts = table.files().unwrap();
            assert_eq!(parts.len(), files);
            let mut ids = BTreeSet::new();
            for part in &parts {
                let content = lake.get(&format!("{EVENTS}/{}", part.path)).await.unwrap().unwrap();
                for rows in ParquetRecordBatchReader::try_new(content, 64).unwrap() {
                    let rows = rows.unwrap();
                    let column = |name: &str| rows.column_by_name(name).unwrap().clone();
                    let id = RecordBatch::try_from_iter([("event_id", column("event_id"))]).unwrap();
                    let hashed = id_hashes::with_hashes(&id).unwrap();
                    assert_eq!(&column(id_hashes::EVENT_ID_HASH), hashed.column(1));
                    ids.extend(id.column(0).as_string::<i32>().iter().flatten().map(str::to_string));
                }
            }
            assert_eq!(ids.len(), 500);
            let landed = Hashes::of(["event-400", "another"].into_iter());
            let found = landed.files(&ctx, &lake, parts.clone()).await.unwrap();
            let of_its_day = |part: &&Part| part.partition == [(PARTITION.to_string(), "2024-10-04".to_string())];
            assert_eq!(found, parts.iter().filter(of_its_day).cloned().collect::<Vec<_>>());
            compact(&ctx, &lake, LAYOUTS[0], Sizes::default()).await.unwrap();
        }
    }
}
