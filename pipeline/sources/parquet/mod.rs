//! Parquet: row groups become batches of the requested columns, of their own types, and `properties`.
//!
//! - columns that are not there are null text; text is read as string views, so that a value that repeats is kept once
//! - struct columns read by paths become structs of the members asked for; maps and JSON text likewise
//! - a file is taken whole or not at all: damage anywhere quarantines it. The library may panic on damaged files; the
//!   callers of [`read`] and of its jobs catch that
//! - memory: files of a remote store are held whole up to a limit; larger ones are read by ranges, and once more as a
//!   stream for their sha256

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use bytes::Bytes;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::ChunkReader;

use super::decompress::{Fingerprint, Hashed, Stored};
use super::read::{End, FileReader, Stop, refused_by_store};
use super::{Damage, Root};

mod footer;
mod remote;
mod rows;

use remote::Remote;

pub(super) use rows::record_as_json;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;
const MAGIC: &[u8] = b"PAR1";
const ENCRYPTED_MAGIC: &[u8] = b"PARE";

/// Where the bytes of a file are.
enum Input {
    File(File),
    Memory(Bytes),
    Remote,
}

/// Reads one file: its batches go to the workers.
pub(super) fn read(file: &FileReader) -> Result<End, Stop> {
    let shared = &file.shared;
    let size = file.entry.size;
    let (input, fingerprint) = fetch(file)?;
    let end = End { fingerprint, flags: Vec::new() };
    if size == 0 || end.fingerprint.bytes != size {
        let flags = if size == 0 { vec!["empty_file"] } else { Vec::new() };
        return Ok(End { flags, ..end });
    }
    let footer = read_footer(file, &input, size)?;
    footer::check(&footer, size, &shared.limits)?;
    let metadata = ParquetMetaDataReader::decode_metadata(&footer).map_err(corrupt)?;
    refuse_bombs(&metadata, size, file)?;
    let metadata = with_views(Arc::new(metadata))?;
    let mask = projection(&metadata, file);
    let mut first = 1;
    for batch in batches(file, input, metadata, mask)? {
        let batch = batch?;
        let text = text_bytes(&batch);
        if text > shared.limits.parquet_batch_bytes {
            let detail = format!("{text} bytes of text in {} rows", batch.num_rows());
            return Err(Damage::file("parquet_limits", detail).into());
        }
        let rows = batch.num_rows() as u64;
        file.decode(move |shared| rows::decode(batch, first, &shared.plan, &shared.limits))?;
        first += rows;
    }
    Ok(end)
}

/// Gets hold of the bytes and hashes all of them.
fn fetch(file: &FileReader) -> Result<(Input, Fingerprint), Stop> {
    let stored = file.open()?;
    let is_small = file.entry.size < file.shared.limits.parquet_memory_bytes;
    let (kept, mut hashed) = match stored {
        Stored::File(opened) => {
            let kept = opened.try_clone()?;
            (Some(kept), Hashed::new(Stored::File(opened)))
        }
        stored => (None, Hashed::new(stored)),
    };
    let mut bytes = Vec::new();
    let read = match kept.is_none() && is_small {
        true => hashed.read_to_end(&mut bytes).map(|_| ()),
        false => std::io::copy(&mut hashed, &mut std::io::sink()).map(|_| ()),
    };
    if let Err(error) = read {
        return Err(hashed.take_failure().map_or_else(|| error.into(), Damage::Failed).into());
    }
    let input = match kept {
        Some(kept) => Input::File(kept),
        None if is_small => Input::Memory(bytes.into()),
        None => Input::Remote,
    };
    Ok((input, hashed.fingerprint()))
}

/// The footer's bytes, after a look at both ends of the file.
fn read_footer(file: &FileReader, input: &Input, size: u64) -> Result<Bytes, Stop> {
    let head = range(file, input, 0, size.min(4))?;
    let tail = range(file, input, size.saturating_sub(8), size.min(8))?;
    if tail.ends_with(ENCRYPTED_MAGIC) || head.starts_with(ENCRYPTED_MAGIC) {
        return Err(Damage::file("parquet_encrypted", "the footer is encrypted").into());
    }
    if !head.starts_with(MAGIC) {
        return Err(Damage::file("bad_magic", "the file does not begin as Parquet").into());
    }
    if size < 12 || !tail.ends_with(MAGIC) {
        return Err(Damage::file("parquet_corrupt", "the file does not end as Parquet").into());
    }
    let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if length + 12 > size {
        return Err(Damage::file("parquet_corrupt", format!("a footer of {length} bytes in {size}")).into());
    }
    if length > file.shared.limits.parquet_footer_bytes {
        return Err(Damage::file("parquet_limits", format!("a footer of {length} bytes")).into());
    }
    range(file, input, size - 8 - length, length)
}

fn range(file: &FileReader, input: &Input, start: u64, length: u64) -> Result<Bytes, Stop> {
    match input {
        Input::File(opened) => Ok(opened.get_bytes(start, length as usize).map_err(corrupt)?),
        Input::Memory(bytes) => Ok(bytes.slice(start as usize..(start + length) as usize)),
        Input::Remote => {
            let Root::Store(store) = &file.shared.root else { unreachable!("only stores are remote") };
            let fetched = store.get_range(&file.entry.path, start..start + length);
            Ok(file.shared.handle.block_on(fetched).map_err(refused_by_store)?)
        }
    }
}

/// Few bytes can claim many values: what a column may hold grows with the file.
fn refuse_bombs(metadata: &ParquetMetaData, size: u64, file: &FileReader) -> Result<(), Stop> {
    let limits = &file.shared.limits;
    let most = limits.parquet_values_slack.saturating_add(limits.parquet_values_per_byte.saturating_mul(size));
    let leaves = metadata.file_metadata().schema_descr().num_columns();
    let mut values = vec![0_u64; leaves];
    for group in metadata.row_groups() {
        for (total, column) in std::iter::zip(&mut values, group.columns()) {
            let Ok(claimed) = u64::try_from(column.num_values()) else {
                return Err(corrupt(format!("{} values in a column", column.num_values())).into());
            };
            *total = total.saturating_add(claimed);
            if *total > most {
                let detail = format!("{total} values of a column in {size} bytes");
                return Err(Damage::file("parquet_limits", detail).into());
            }
        }
    }
    Ok(())
}

/// Has text and bytes read as views: a value of a dictionary is then kept once, not once per row.
fn with_views(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata, Stop> {
    let plain = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new()).map_err(corrupt)?;
    let fields: Vec<FieldRef> = plain.schema().fields().iter().map(field_as_view).collect();
    let schema = Schema::new(fields);
    if schema.fields() == plain.schema().fields() {
        return Ok(plain);
    }
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    Ok(ArrowReaderMetadata::try_new(metadata, options).map_err(corrupt)?)
}

fn field_as_view(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field_as_view).collect()),
        DataType::List(item) => DataType::List(field_as_view(item)),
        DataType::LargeList(item) => DataType::LargeList(field_as_view(item)),
        DataType::Map(entries, sorted) => DataType::Map(field_as_view(entries), *sorted),
        _ => return Arc::clone(field),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

/// The columns that are requested, and all others if `properties` are.
fn projection(metadata: &ArrowReaderMetadata, file: &FileReader) -> ProjectionMask {
    let plan = &file.shared.plan;
    let is_read = |name: &str| plan.properties || plan.columns.iter().any(|column| column.name == name);
    let fields = metadata.schema().fields().iter().enumerate();
    let roots = fields.filter(|(_, field)| is_read(field.name())).map(|(index, _)| index);
    ProjectionMask::roots(metadata.parquet_schema(), roots)
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Damage>>>;

fn batches(
    file: &FileReader,
    input: Input,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
) -> Result<Batches, Stop> {
    fn local(
        input: impl ChunkReader + 'static,
        metadata: ArrowReaderMetadata,
        mask: ProjectionMask,
    ) -> Result<Batches, Damage> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(input, metadata);
        let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(corrupt)?;
        Ok(Box::new(reader.map(|batch| batch.map_err(corrupt))))
    }
    match input {
        Input::File(opened) => Ok(local(opened, metadata, mask)?),
        Input::Memory(bytes) => Ok(local(bytes, metadata, mask)?),
        Input::Remote => {
            let Root::Store(store) = &file.shared.root else { unreachable!("only stores are remote") };
            let path = file.entry.path.clone();
            let remote = Remote::new(Arc::clone(store), path, Arc::clone(metadata.metadata()));
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(remote.clone(), metadata);
            let built = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build();
            let mut stream = built.map_err(corrupt)?;
            let handle = file.shared.handle.clone();
            let damage = move |error| remote.take_failure().map_or_else(|| corrupt(error), refused_by_store);
            let next = move || handle.block_on(stream.next()).map(|batch| batch.map_err(&damage));
            Ok(Box::new(std::iter::from_fn(next)))
        }
    }
}

/// The bytes of text that a batch stands for, each repetition counted.
fn text_bytes(batch: &RecordBatch) -> usize {
    fn of(array: &dyn Array) -> usize {
        let lengths = |views: &[u128]| views.iter().map(|view| *view as u32 as usize).sum();
        match array.data_type() {
            DataType::Utf8View => lengths(array.as_string_view().views()),
            DataType::BinaryView => lengths(array.as_binary_view().views()),
            DataType::Struct(_) => array.as_struct().columns().iter().map(|column| of(column)).sum(),
            DataType::List(_) => of(array.as_list::<i32>().values()),
            DataType::Map(_, _) => of(array.as_map().entries()),
            _ => 0,
        }
    }
    batch.columns().iter().map(|column| of(column)).sum()
}

fn corrupt(error: impl std::fmt::Display) -> Damage {
    let detail = error.to_string();
    // an encrypted column in a plain footer has no metadata of its own
    let reason = if detail.to_lowercase().contains("encrypt") { "parquet_encrypted" } else { "parquet_corrupt" };
    Damage::file(reason, detail)
}

#[cfg(test)]
mod tests {
    use std::path::Path as FsPath;

    use arrow::array::{
        ArrayRef, Int64Array, MapBuilder, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
    };
    use arrow::json::LineDelimitedWriter;
    use object_store::memory::InMemory;
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::WriterProperties;

    use super::*;
    use crate::sources::{Column, CsvDialect, Limits, Outcome, Part, Request, Spec, list};

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_string).collect()
    }

    fn stored(batch: &RecordBatch) -> Vec<u8> {
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(2));
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
        writer.write(batch).unwrap();
        writer.into_inner().unwrap()
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn spec(request: Request, limits: Limits) -> Spec {
        Spec { format: None, csv: CsvDialect::default(), request, limits, workers: 2 }
    }

    /// The rows of the only file as JSON, with positions and records; then its outcome.
    async fn rows_of(root: &Root, spec: Spec) -> (Vec<String>, Vec<String>, Outcome) {
        let files = list(root, "*.parquet").await.unwrap().files;
        let mut reading = crate::sources::read(root.clone(), files, spec).unwrap();
        let (mut rows, mut records) = (Vec::new(), Vec::new());
        loop {
            match reading.next().await.expect("a file has an end") {
                Part::Records(_, decoded) => {
                    let mut writer = LineDelimitedWriter::new(Vec::new());
                    writer.write(&decoded.batch).unwrap();
                    rows.extend(String::from_utf8(writer.into_inner()).unwrap().lines().map(str::to_string));
                    for row in 0..decoded.batch.num_rows() {
                        let record = decoded.record(row).unwrap();
                        records.push(format!("{} {}", decoded.position(row), String::from_utf8_lossy(&record)));
                    }
                }
                Part::End(_, outcome) => return (rows, records, outcome),
            }
        }
    }

    /// What becomes of files, read together.
    async fn reasons(files: Vec<Vec<u8>>, request: Request, limits: Limits) -> Vec<&'static str> {
        let store = InMemory::new();
        for (number, bytes) in files.into_iter().enumerate() {
            store.put(&format!("{number:06}.parquet").into(), bytes.into()).await.unwrap();
        }
        let root = Root::Store(Arc::new(store));
        let files = list(&root, "*").await.unwrap().files;
        let mut reading = crate::sources::read(root, files, spec(request, limits)).unwrap();
        let mut reasons = Vec::new();
        while let Some(part) = reading.next().await {
            match part {
                Part::Records(..) => {}
                Part::End(_, Outcome::Read(_)) => reasons.push("read"),
                Part::End(_, Outcome::Quarantined { reason, .. }) => reasons.push(reason),
                Part::End(_, other) => panic!("{other:?}"),
            }
        }
        reasons
    }

    async fn reason(bytes: &[u8], request: Request, limits: Limits) -> &'static str {
        reasons(vec![bytes.to_vec()], request, limits).await[0]
    }

    fn request(columns: Vec<Column>) -> Request {
        Request {
            columns,
            properties: true,
            drop_paths: vec![path("email"), path("context.email"), path("text.email")],
        }
    }

    fn sample() -> RecordBatch {
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_value("v");
        map.append(true).unwrap();
        map.append(true).unwrap();
        map.append(false).unwrap();
        let page = batch(vec![("url", texts(&["/a", "/b", "/c"])), ("n", Arc::new(Int64Array::from(vec![7, 8, 9])))]);
        let context = batch(vec![("page", Arc::new(StructArray::from(page))), ("email", texts(&["e", "e", "e"]))]);
        batch(vec![
            ("id", Arc::new(Int64Array::from(vec![Some(1), Some(2), None]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1, 2]).with_timezone("UTC"))),
            ("context", Arc::new(StructArray::from(context))),
            ("map", Arc::new(map.finish())),
            ("text", texts(&[r#"{"x":{"y":1},"email":"e"}"#, "plain", r#"{"x":1}"#])),
            ("email", texts(&["e", "e", "e"])),
            ("x.y", texts(&["1", "2", "3"])),
        ])
    }

    #[tokio::test]
    async fn columns_keep_their_types_and_the_rest_becomes_properties() {
        let columns = vec![
            Column::whole("id"),
            Column::paths("context", [path("page.n"), path("page.none")]),
            Column::paths("map", [path("k")]),
            Column::paths("text", [path("x.y")]),
            Column::whole("missing"),
            Column::whole("at"),
        ];
        let bytes = stored(&sample());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.parquet"), &bytes).unwrap();
        let store = InMemory::new();
        store.put(&"a.parquet".into(), bytes.clone().into()).await.unwrap();
        let store = Root::Store(Arc::new(store));
        let by_ranges = Limits { parquet_memory_bytes: 0, ..Limits::default() };
        for (root, limits) in [
            (Root::Folder(folder.path().to_path_buf()), Limits::default()),
            (store.clone(), Limits::default()),
            (store, by_ranges),
        ] {
            let (rows, records, outcome) = rows_of(&root, spec(request(columns.clone()), limits)).await;
            let Outcome::Read(summary) = outcome else { panic!("{outcome:?}") };
            assert_eq!((summary.rows, summary.bytes), (3, bytes.len() as u64));
            let properties = |row: usize, map: &str, text: &str| {
                let url = ["/a", "/b", "/c"][row];
                let text = format!(r#""text":{text},"x.y":"{}""#, row + 1);
                format!(r#"{{"context":{{"page":{{"url":"{url}","n":{}}}}},{map}{text}}}"#, row + 7)
            };
            let expected = [
                (
                    r#"{"id":1,"context":{"page":{"n":7}},"map":{"k":"v"},"text":{"x":{"y":"1"}},"at":"1970-01-01T00:00:00Z","#,
                    properties(0, r#""map":{"k":"v"},"#, r#"{"x":{"y":1}}"#),
                ),
                (
                    r#"{"id":2,"context":{"page":{"n":8}},"map":{},"at":"1970-01-01T00:00:00.000001Z","#,
                    properties(1, r#""map":{},"#, r#""plain""#),
                ),
                (
                    r#"{"context":{"page":{"n":9}},"text":{},"at":"1970-01-01T00:00:00.000002Z","#,
                    properties(2, "", r#"{"x":1}"#),
                ),
            ];
            let expected = expected.map(|(columns, properties)| {
                format!("{columns}\"properties\":{}}}", serde_json::to_string(&properties).unwrap())
            });
            assert_eq!(rows, expected);
            assert!(records[2].starts_with(r#"3 {"at":"#), "{}", records[2]);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_sound_is_refused_as_a_whole() {
        let good = stored(&sample());
        let id = || request(vec![Column::whole("id")]);
        let limits = Limits::default;
        let tail = |magic: &[u8]| [&good[..good.len() - 4], magic].concat();
        assert_eq!(reason(&good, id(), limits()).await, "read");
        assert_eq!(reason(b"<html>404</html>", id(), limits()).await, "bad_magic");
        assert_eq!(reason(b"PAR1", id(), limits()).await, "parquet_corrupt");
        assert_eq!(reason(&tail(b"PARE"), id(), limits()).await, "parquet_encrypted");
        assert_eq!(reason(&tail(b"xxxx"), id(), limits()).await, "parquet_corrupt");
        let small = |parquet_columns| Limits { parquet_columns, ..limits() };
        assert_eq!(reason(&good, id(), small(5)).await, "parquet_schema");
        let scarce = Limits { parquet_values_slack: 2, parquet_values_per_byte: 0, ..limits() };
        assert_eq!(reason(&good, id(), scarce).await, "parquet_limits");
        let narrow = Limits { parquet_footer_bytes: 10, ..limits() };
        assert_eq!(reason(&good, id(), narrow).await, "parquet_limits");
        let conflict = request(vec![Column::paths("id", [path("x")])]);
        assert_eq!(reason(&good, conflict, limits()).await, "schema_conflict");
        let twice = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true); 2]));
        let twice = RecordBatch::try_new(twice, vec![texts(&["1"]), texts(&["2"])]).unwrap();
        assert_eq!(reason(&stored(&twice), id(), limits()).await, "parquet_schema");
    }

    #[tokio::test]
    async fn truncation_at_every_byte_is_noticed() {
        let good = stored(&sample());
        let files = (1..good.len()).map(|length| good[..length].to_vec()).collect();
        let reasons = reasons(files, request(vec![Column::whole("id")]), Limits::default()).await;
        for (index, reason) in reasons.into_iter().enumerate() {
            assert!(["parquet_corrupt", "bad_magic"].contains(&reason), "{} bytes: {reason}", index + 1);
        }
    }

    #[tokio::test]
    async fn flipped_bits_stop_neither_the_process_nor_the_next_file() {
        let good = stored(&sample());
        let flipped = |bit: usize| {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            [bytes, good.clone()]
        };
        let files = (0..good.len() * 8).step_by(37).flat_map(flipped).collect();
        let request = request(vec![Column::whole("id"), Column::paths("context", [path("page.n")])]);
        let reasons = reasons(files, request, Limits::default()).await;
        assert!(reasons.iter().skip(1).step_by(2).all(|reason| *reason == "read"));
    }

    #[tokio::test]
    async fn a_dictionary_bomb_is_refused_with_flat_memory() {
        let large = "x".repeat(1 << 19);
        let values = batch(vec![("a", texts(&vec![large.as_str(); 600]))]);
        let mut writer = ArrowWriter::try_new(Vec::new(), values.schema(), None).unwrap();
        writer.write(&values).unwrap();
        let bytes = writer.into_inner().unwrap();
        assert!(bytes.len() < 4 << 20, "the value is stored once");
        let request = Request { columns: vec![Column::whole("a")], ..Request::default() };
        assert_eq!(reason(&bytes, request, Limits::default()).await, "parquet_limits");
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_not_at_fault() {
        let gone = |root: Root| async move {
            let entry = crate::sources::FileEntry {
                path: "gone.parquet".into(),
                size: 100,
                last_modified: chrono::DateTime::UNIX_EPOCH,
                e_tag: None,
            };
            let spec = spec(Request::default(), Limits::default());
            let mut reading = crate::sources::read(root, vec![entry], spec).unwrap();
            match reading.next().await {
                Some(Part::End(0, Outcome::Unsettled { reason, .. })) => reason,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(gone(Root::Store(Arc::new(InMemory::new()))).await, "source_gone");
        assert_eq!(gone(Root::Folder(FsPath::new("/nowhere").to_path_buf())).await, "source_gone");
    }
}
