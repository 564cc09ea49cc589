//! Parquet: row groups become batches of the requested columns, of their own types, and `properties`.
//!
//! - columns that are not there are null text; text is read as string views, so that a value that repeats is kept once
//! - struct columns read by paths become structs of the members asked for; maps and JSON text likewise
//! - a file is taken whole or not at all: damage anywhere quarantines it. The library may panic on damaged files; the
//!   callers of [`read`] and of its jobs catch that
//! - memory: files of less than [`IN_MEMORY_BYTES`] of a remote store are held whole; larger ones are read by ranges,
//!   and once more as a stream for their sha256

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

/// Remote files below this size are fetched whole.
const IN_MEMORY_BYTES: u64 = 256 << 20;
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
    let is_small = file.entry.size < IN_MEMORY_BYTES;
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
