//! W1: raw JSON lines become typed rows, one per event id, sorted, in Parquet files by day.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, Int32Array, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use rayon::prelude::*;
use wayline::config::Source;
use wayline::error::{Context, Error, Result};
use wayline::landing::deduplicate::Deduplicator;
use wayline::landing::time::TimeFormat;
use wayline::landing::write::{File, Layout, Rows, divide};
use wayline::sources::{self, Column, CsvDialect, Decoded, Format, Limits, Outcome, Part, Request, Root, Spec};

use super::Phases;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// The identifiers of a record from the one that sorts it to the last that may.
const KEYS: [&str; 5] = ["user_id", "loyalty_id", "anonymous_id", "email_hash", "phone_hash"];

/// Lands everything, returns the rows written.
pub fn run(data: &Path, out: &Path, threads: usize, phases: &mut Phases) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let batches = runtime.block_on(read(data, threads))?;
    phases.end("read");
    let pieces = batches
        .iter()
        .map(|batch| Ok((column(batch, "event_id")?.as_string(), column(batch, "received_time")?.as_primitive())));
    let deduplicator = Deduplicator::new(&pieces.collect::<Result<Vec<_>>>()?);
    phases.end("deduplicate");
    let layout = Layout {
        schema: Arc::new(Schema::new(columns().map(|(name, kind)| Field::new(name, kind, true)).to_vec())),
        has_hashes: false,
        day: "day",
        order: &["key", "event_time", "event_id"],
        distinct: &["event_id", "event_time", "received_time"],
    };
    let (rows, files) = divide(batches, |batch, row| deduplicator.duplicates(batch)[row], &layout)?;
    phases.end("divide");
    let written: Vec<usize> = files.into_par_iter().map(|file| write(&rows, file, out)).collect::<Result<_>>()?;
    phases.end("write");
    Ok(written.into_iter().sum())
}

/// Names and types of the result's columns.
fn columns() -> [(&'static str, DataType); 17] {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    [
        ("event_id", DataType::Utf8),
        ("event_time", time.clone()),
        ("received_time", time),
        ("source", DataType::Utf8),
        ("channel", DataType::Utf8),
        ("touchpoint", DataType::Utf8),
        ("stage", DataType::Utf8),
        ("anonymous_id", DataType::Utf8),
        ("user_id", DataType::Utf8),
        ("email_hash", DataType::Utf8),
        ("phone_hash", DataType::Utf8),
        ("loyalty_id", DataType::Utf8),
        ("campaign", DataType::Utf8),
        ("variant", DataType::Utf8),
        ("value", DataType::Float64),
        ("csat", DataType::Int32),
        ("properties", DataType::Utf8),
    ]
}

/// Reads all files, in the order of their names.
async fn read(data: &Path, threads: usize) -> Result<Vec<RecordBatch>> {
    let root = Root::Folder(data.to_path_buf());
    let files = sources::list(&root, "jsonl/*.jsonl").await?.files;
    let request = Request {
        columns: columns().map(|(name, _)| Column::whole(name)).to_vec(),
        properties: false,
        drop_paths: Vec::new(),
    };
    let spec = Spec {
        format: Some(Format::JsonLines),
        csv: CsvDialect::default(),
        request,
        limits: Limits::default(),
        workers: threads,
    };
    let times = times()?;
    let mut reading = sources::read(root, files, spec)?;
    let (mut under_way, mut batches) = (VecDeque::new(), Vec::new());
    while let Some(part) = reading.next().await {
        match part {
            Part::Records(_, decoded) => {
                under_way.push_back(tokio::task::spawn_blocking(move || typed(decoded, times)));
                if under_way.len() > threads {
                    let typed = under_way.pop_front().expect("work is under way");
                    batches.push(typed.await.map_err(|error| Error::internal(error.to_string()))??);
                }
            }
            Part::End(_, Outcome::Read(_)) => {}
            Part::End(file, outcome) => return Err(Error::invalid(format!("file {file} was not read: {outcome:?}"))),
        }
    }
    for typed in under_way {
        batches.push(typed.await.map_err(|error| Error::internal(error.to_string()))??);
    }
    Ok(batches)
}

/// Times as a source without any settings has them.
fn times() -> Result<TimeFormat> {
    let text = "name = 'raw'\npath = '*'\n[event]\nevent_id = ''\noccurred_at = ''\ntouchpoint = ''\nchannel = ''";
    let source: Source = toml::from_str(text).map_err(|error| Error::internal(error.to_string()))?;
    TimeFormat::new(&source)
}

/// The columns of text as the types that they should have, then the `day` and the `key` of each row.
fn typed(decoded: Decoded, times: TimeFormat) -> Result<RecordBatch> {
    if let Some(rejected) = decoded.rejected.first() {
        return Err(Error::invalid(format!("{}: {}", rejected.reason, rejected.detail)));
    }
    let batch = decoded.batch;
    let mut typed: Vec<(&str, ArrayRef)> = Vec::with_capacity(batch.num_columns() + 2);
    for (name, kind) in columns() {
        let texts = text(&batch, name)?;
        typed.push((
            name,
            match kind {
                DataType::Utf8 => Arc::new(texts.clone()),
                DataType::Timestamp(..) => Arc::new(instants(texts, times).context(name)?),
                DataType::Int32 => Arc::new(numbers(texts).context(name)?.collect::<Int32Array>()),
                _ => Arc::new(numbers(texts).context(name)?.collect::<Float64Array>()),
            },
        ));
    }
    typed.push(("day", Arc::new(days(typed[1].1.as_primitive()))));
    typed.push(("key", Arc::new(keys(&batch)?)));
    Ok(RecordBatch::try_from_iter_with_nullable(typed.into_iter().map(|(name, array)| (name, array, true)))?)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::internal(format!("rows without {name}")))
}

fn text<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    Ok(column(batch, name)?.as_string())
}

fn instants(texts: &StringArray, times: TimeFormat) -> Result<TimestampMicrosecondArray> {
    let instant = |text: Option<&str>| {
        let text = text.ok_or_else(|| Error::invalid("no time"))?;
        times.text(text).map_err(|refusal| Error::invalid(format!("{}: {}", refusal.reason, refusal.detail)))
    };
    let instants: Vec<i64> = texts.iter().map(instant).collect::<Result<_>>()?;
    Ok(TimestampMicrosecondArray::from(instants).with_timezone("UTC"))
}

/// Most are null, so they are collected first, where one may be wrong.
fn numbers<N: std::str::FromStr>(texts: &StringArray) -> Result<std::vec::IntoIter<Option<N>>> {
    let number = |text: &str| text.parse().map_err(|_| Error::invalid(format!("`{text}` is no number")));
    Ok(texts.iter().map(|text| text.map(number).transpose()).collect::<Result<Vec<_>>>()?.into_iter())
}

fn days(instants: &TimestampMicrosecondArray) -> Date32Array {
    instants.values().iter().map(|instant| instant.div_euclid(MICROSECONDS_PER_DAY) as i32).collect::<Vec<_>>().into()
}

/// The first identifier of each row.
fn keys(batch: &RecordBatch) -> Result<StringArray> {
    let identifiers: Vec<&StringArray> = KEYS.iter().map(|name| text(batch, name)).collect::<Result<_>>()?;
    let mut keys = StringBuilder::with_capacity(batch.num_rows(), 24 * batch.num_rows());
    for row in 0..batch.num_rows() {
        match identifiers.iter().find(|identifier| identifier.is_valid(row)) {
            Some(identifier) => keys.append_value(identifier.value(row)),
            None => return Err(Error::invalid("a record without an identifier")),
        }
    }
    Ok(keys.finish())
}

fn write(rows: &Rows, file: File, out: &Path) -> Result<usize> {
    let date = arrow::temporal_conversions::date32_to_datetime(file.day).map(|at| at.date().to_string());
    let folder: PathBuf = out.join(format!("day={}", date.unwrap_or_default()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("part-{}.parquet", file.number));
    let (content, rows) = rows.encode(file)?;
    std::fs::write(&path, content).context(path.display())?;
    Ok(rows)
}
