//! Hashes of the ids of landed events, by which a batch passes over the days that hold none of its ids.
//!
//! Whether an id is landed already is asked of all events, of any day. Their ids are long, and compression makes them hardly
//! shorter; so each file of events has a column of hashes beside those of the table, five bytes
//! to a row, as they are and not compressed. Readers of the table do not see it, and a file without it, as older versions
//! and other programs write them, may hold any id. An id of ten thousand in a batch and one of five million that are landed share
//! a hash once in twenty batches, which costs the look at a day and nothing else.
//!
//! A watch lands a small file with each of its batches, so the hashes of small files stay in memory once they are read: up to
//! some kilobytes to a file, of which maintenance leaves few to a day.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, FixedSizeBinaryArray, RecordBatch};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Date32Type, Field, Schema, SchemaRef, UInt32Type};
use chrono::DateTime;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use hashbrown::HashSet;
use object_store::ObjectMeta;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use twox_hash::XxHash64;

use super::events::{EVENTS, PARTITION};
use crate::delta::{Part, Snapshot};
use crate::error::{Error, Result};
use crate::lake::Lake;

/// Name of the column in a file of events.
pub const EVENT_ID_HASH: &str = "event_id_hash";
/// Bytes of a hash: the low ones of XXH64 with seed 0, the lowest first.
const BYTES: usize = 5;

/// Rows of a file whose hashes stay in memory, at most.
const SMALL: usize = 1024;
/// Column of the number of the file that a row is of; no column of the table is named so.
const FILE: &str = "wayline file";

/// What is read of a file; there may be no hashes in it.
static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| Schema::new(vec![field(true), Field::new(FILE, DataType::UInt32, false)]));

fn field(is_nullable: bool) -> Field {
    Field::new(EVENT_ID_HASH, DataType::FixedSizeBinary(BYTES as i32), is_nullable)
}

/// The columns of a file of events, given those of the table that stand in it.
pub fn with_field(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().cloned().chain([Arc::new(field(false))]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The rows of a file of events with the hashes of their ids.
pub fn with_hashes(rows: &RecordBatch) -> Result<RecordBatch> {
    let ids = rows.column_by_name("event_id").ok_or_else(|| Error::internal("events without ids"))?;
    let mut bytes = Vec::with_capacity(rows.num_rows() * BYTES);
    match ids.data_type() {
        DataType::Utf8 => ids.as_string::<i32>().iter().flatten().for_each(|id| bytes.extend(hashed(id))),
        DataType::Utf8View => ids.as_string_view().iter().flatten().for_each(|id| bytes.extend(hashed(id))),
        other => return Err(Error::internal(format!("event_id is {other}"))),
    }
    let hashes = FixedSizeBinaryArray::try_new(BYTES as i32, bytes.into(), None)?;
    let columns = rows.columns().iter().cloned().chain([Arc::new(hashes) as _]).collect();
    Ok(RecordBatch::try_new(with_field(rows.schema_ref()), columns)?)
}

/// How the hashes are stored: nothing makes them smaller.
pub fn as_they_are(properties: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    let column = ColumnPath::from(EVENT_ID_HASH);
    properties
        .set_column_dictionary_enabled(column.clone(), false)
        .set_column_statistics_enabled(column.clone(), EnabledStatistics::None)
        .set_column_compression(column, Compression::UNCOMPRESSED)
}

fn hashed(id: &str) -> [u8; BYTES] {
    *XxHash64::oneshot(0, id.as_bytes()).to_le_bytes().first_chunk().expect("eight bytes are more than five")
}

/// The hashes of the ids of a batch.
pub struct Hashes {
    /// A bit for each value of the low bits of a hash; a power of two of them. Most hashes of others stop here.
    bits: Vec<u64>,
    all: HashSet<u64, foldhash::fast::RandomState>,
}

impl Hashes {
    /// Bits to a hash at least.
    const BITS: usize = 16;

    /// The hashes of these ids.
    pub fn of<'a>(ids: impl Iterator<Item = &'a str>) -> Self {
        let all: HashSet<u64, _> = ids.map(|id| hash(&hashed(id))).collect();
        let mut hashes = Self { bits: vec![0; ((all.len() * Self::BITS).next_power_of_two() / 64).max(1)], all };
        for hash in &hashes.all {
            let (word, bit) = place(*hash, hashes.bits.len());
            hashes.bits[word] |= 1 << bit;
        }
        hashes
    }

    fn contain(&self, hash: u64) -> bool {
        let (word, bit) = place(hash, self.bits.len());
        self.bits[word] >> bit & 1 == 1 && self.all.contains(&hash)
    }

    /// Those files of a table of events whose day has a row with one of the hashes, or one of which no hash is known.
    pub async fn files(&self, ctx: &SessionContext, lake: &Lake, files: Vec<Part>) -> Result<Vec<Part>> {
        let documents: Vec<ObjectMeta> = files.iter().map(|file| document(lake, file)).collect();
        lake.documents().keep(&lake.path(EVENTS), &documents);
        let mut may_hold = vec![false; files.len()];
        let mut unread = Vec::new();
        for (number, (file, document)) in files.iter().zip(&documents).enumerate() {
            match lake.documents().get::<Vec<u8>>(document) {
                Some(hashes) => may_hold[number] = self.contain_any(&hashes),
                None => unread.push(Part { partition: vec![(FILE.into(), number.to_string())], ..file.clone() }),
            }
        }

        // Of small files that are read: their hashes, as far as all rows so far have one.
        let is_small = |part: &Part| (1..=SMALL).contains(&part.rows);
        let mut read: Vec<Option<Vec<u8>>> = files.iter().map(|file| is_small(file).then(Vec::new)).collect();
        let snapshot = Snapshot::new(lake, EVENTS, &SCHEMA, &[FILE.to_string()], unread)?;
        let mut rows = ctx.read_table(Arc::new(snapshot.with_unknown_rows()))?.execute_stream().await?;
        while let Some(rows) = rows.try_next().await? {
            let (hashes, numbers) =
                (rows.column(0).as_fixed_size_binary(), rows.column(1).as_primitive::<UInt32Type>());
            let mut first = 0;
            for of_file in numbers.values().chunk_by(|one, next| one == next) {
                let (number, hashes) = (of_file[0] as usize, hashes.slice(first, of_file.len()));
                first += of_file.len();
                if hashes.null_count() > 0 {
                    (may_hold[number], read[number]) = (true, None);
                    continue;
                }
                may_hold[number] |= self.contain_any(hashes.values());
                match &mut read[number] {
                    Some(read) if read.len() + hashes.values().len() <= files[number].rows * BYTES => {
                        read.extend_from_slice(hashes.values());
                    }
                    // One with more rows than the log says is not small.
                    read => *read = None,
                }
            }
        }
        for ((read, file), document) in read.into_iter().zip(&files).zip(documents) {
            // One with fewer rows than the log says is read again.
            if let Some(read) = read.filter(|read| read.len() == file.rows * BYTES) {
                lake.documents().remember(document, Arc::new(read));
            }
        }

        // Other programs may write a file without a day.
        let day = |file: &Part| {
            let (_, day) = file.partition.iter().find(|(column, _)| column == PARTITION)?;
            Date32Type::parse(day)
        };
        let days: BTreeSet<_> = files.iter().zip(may_hold).filter(|(_, may)| *may).map(|(file, _)| day(file)).collect();
        Ok(files.into_iter().filter(|file| days.contains(&day(file))).collect())
    }

    /// Whether one of these hashes, side by side, is among them.
    fn contain_any(&self, hashes: &[u8]) -> bool {
        hashes.chunks_exact(BYTES).any(|bytes| self.contain(hash(bytes)))
    }
}

/// A file of the table as a document: its name is used once, and that tells it from any other.
fn document(lake: &Lake, file: &Part) -> ObjectMeta {
    ObjectMeta {
        location: lake.path(&format!("{EVENTS}/{}", file.path)),
        last_modified: DateTime::UNIX_EPOCH,
        size: file.size,
        e_tag: None,
        version: Some("the only one".to_owned()),
    }
}

/// The number whose low bytes are those of a hash.
fn hash(stored: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..BYTES].copy_from_slice(stored);
    u64::from_le_bytes(bytes)
}

/// The word of a bit and its place in it, of a power of two of words.
fn place(hash: u64, words: usize) -> (usize, u64) {
    ((hash / 64) as usize & (words - 1), hash % 64)
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;
    use arrow::compute::cast;

    use super::*;
    use crate::{config, delta, engine};

    /// The ids of one day.
    fn rows(ids: std::ops::Range<u32>) -> RecordBatch {
        let ids = StringArray::from_iter_values(ids.map(|number| format!("event-{number}")));
        RecordBatch::try_from_iter([("event_id", Arc::new(ids) as _)]).unwrap()
    }

    #[tokio::test]
    async fn files_are_told_by_the_hashes_in_them_and_those_without_are_taken() {
        // Of one size the hashes are read for each question, of the other once.
        for (of_a_day, stays) in [(20_000, false), (300, true)] {
            tell_files(of_a_day, stays).await;
        }
    }

    async fn tell_files(of_a_day: u32, stays: bool) {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        let ctx = engine::session(&lake, &config::Engine::default()).unwrap();
        let (mut files, first) = (Vec::new(), |day: u32| day * of_a_day);
        for day in 0..5 {
            let rows = rows(first(day)..first(day + 1));
            // As older versions wrote them.
            let rows = if day == 2 { rows } else { with_hashes(&rows).unwrap() };
            let (content, count) = delta::encode(&rows.schema(), [rows]).unwrap();
            let partition = (day < 4).then(|| (PARTITION.to_string(), format!("2026-03-0{}", day + 1)));
            let partition = partition.into_iter().collect();
            files.push(delta::write_part(&lake, EVENTS, "part", partition, content, count).await.unwrap());
        }
        for (asked, expected) in [
            (vec![first(2) - 1, 900_000], vec![1, 2]),
            ((900_000..901_000).collect(), vec![2]),
            ((first(3)..first(4)).collect(), vec![2, 3]),
            (vec![0, first(1), first(2), first(3)], vec![0, 1, 2, 3]),
            (vec![first(4) + 1], vec![2, 4]),
            (vec![], vec![2]),
        ] {
            let ids: Vec<String> = asked.iter().map(|number| format!("event-{number}")).collect();
            let found = Hashes::of(ids.iter().map(String::as_str)).files(&ctx, &lake, files.clone()).await.unwrap();
            let expected: Vec<&Part> = expected.iter().map(|day| &files[*day]).collect();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{} ids", ids.len());
            let known = files.iter().map(|file| lake.documents().get::<Vec<u8>>(&document(&lake, file)).is_some());
            assert_eq!(known.collect::<Vec<_>>(), [stays, stays, false, stays, stays]);
        }
        // Of files that are no longer of the table nothing is kept.
        Hashes::of([].into_iter()).files(&ctx, &lake, files[..1].to_vec()).await.unwrap();
        let known = files.iter().map(|file| lake.documents().get::<Vec<u8>>(&document(&lake, file)).is_some());
        assert_eq!(known.collect::<Vec<_>>(), [stays, false, false, false, false]);
    }

    #[test]
    fn an_id_has_one_hash_in_any_encoding_and_it_is_that_of_the_specification() {
        // XXH64 with seed 0: the test vectors of its specification.
        assert_eq!(hashed(""), 0xef46_db37_51d8_e999_u64.to_le_bytes()[..BYTES]);
        assert_eq!(hashed("abc"), 0x44bc_2cf5_ad77_0999_u64.to_le_bytes()[..BYTES]);
        let rows = rows(0..100);
        let views = cast(rows.column(0), &DataType::Utf8View).unwrap();
        let views = RecordBatch::try_from_iter([("event_id", views)]).unwrap();
        assert_eq!(with_hashes(&rows).unwrap().column(1), with_hashes(&views).unwrap().column(1));
    }
}
