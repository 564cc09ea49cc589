//! Events of a batch as Parquet files, one per day, sorted by (`occurred_at`, `event_id`).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Date32Type, SchemaRef, TimestampMicrosecondType};
use futures::{StreamExt, TryStreamExt};

use super::events::{EVENT_SCHEMA, EVENTS, PARTITION};
use crate::delta::{self, Part};
use crate::error::{Context, Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;

/// Rows of one file at most; a fuller day gets several.
const ROWS_PER_FILE: usize = 4_000_000;
/// Rows put together at a time while a file is encoded.
const ROWS_PER_BATCH: usize = 16_384;

/// A row by batch and position in it, with the time it is sorted by.
#[derive(Clone, Copy)]
struct Place {
    occurred_at: i64,
    batch: u32,
    row: u32,
}

/// Writes the rows of `events` that are no duplicates. Files are named `prefix-day-number`.
pub async fn write(
    lake: &Lake,
    events: Vec<RecordBatch>,
    is_duplicate: impl Fn(usize, usize) -> bool,
    prefix: &str,
    threads: usize,
) -> Result<Vec<Part>> {
    let mut days: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
    for (number, batch) in events.iter().enumerate() {
        let day = column(batch, PARTITION)?.as_primitive::<Date32Type>();
        let occurred = column(batch, "occurred_at")?.as_primitive::<TimestampMicrosecondType>();
        for row in (0..batch.num_rows()).filter(|row| !is_duplicate(number, *row)) {
            let place = Place { occurred_at: occurred.value(row), batch: number as u32, row: row as u32 };
            days.entry(day.value(row)).or_default().push(place);
        }
    }
    let events = Arc::new(events);
    let files = days.into_iter().flat_map(|(day, mut places)| {
        if places.len() > ROWS_PER_FILE {
            places.sort_unstable_by_key(|place| (place.occurred_at, place.batch, place.row));
        }
        let chunks: Vec<Vec<Place>> = places.chunks(ROWS_PER_FILE).map(<[Place]>::to_vec).collect();
        chunks.into_iter().enumerate().map(move |(number, chunk)| (day, number, chunk))
    });
    let written = futures::stream::iter(files).map(|(day, number, places)| {
        let (lake, events) = (lake.clone(), events.clone());
        let name = format!("{prefix}-{day}-{number}");
        async move {
            failpoint("land.part.open");
            let encoded = tokio::task::spawn_blocking(move || encode(&events, places));
            let (content, rows) = encoded.await.map_err(|error| Error::internal(error.to_string()))??;
            failpoint("land.part.mid");
            let date = arrow::temporal_conversions::date32_to_datetime(day).map(|at| at.date().to_string());
            let partition = vec![(PARTITION.to_string(), date.unwrap_or_default())];
            let part = delta::write_part(&lake, EVENTS, &name, partition, content, rows).await?;
            failpoint("land.part.close");
            Ok::<_, Error>(part)
        }
    });
    written.buffered(threads).try_collect().await.context("writing events")
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    let column = batch.column_by_name(name).ok_or_else(|| Error::internal(format!("events without {name}")))?;
    Ok(column.as_ref())
}

/// Columns of a file: the partition column stands in its path.
fn file_schema() -> SchemaRef {
    let fields: Vec<_> = EVENT_SCHEMA.fields().iter().filter(|field| field.name() != PARTITION).cloned().collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}

fn encode(events: &[RecordBatch], mut places: Vec<Place>) -> Result<(Vec<u8>, usize)> {
    let id = |place: &Place| -> &str {
        events[place.batch as usize].column(0).as_string::<i32>().value(place.row as usize)
    };
    places.sort_by(|a, b| a.occurred_at.cmp(&b.occurred_at).then_with(|| id(a).cmp(id(b))));
    let schema = file_schema();
    let columns: Vec<usize> = (0..schema.fields().len()).collect();
    let projected: Vec<RecordBatch> = events.iter().map(|batch| batch.project(&columns)).collect::<Result<_, _>>()?;
    let mut writer = delta::encode_writer(&schema)?;
    for chunk in places.chunks(ROWS_PER_BATCH) {
        // Only the batches that a chunk touches take part, so the cost does not grow with the size of the whole.
        let mut numbers: Vec<u32> = chunk.iter().map(|place| place.batch).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let touched: Vec<&RecordBatch> = numbers.iter().map(|number| &projected[*number as usize]).collect();
        let indices: Vec<(usize, usize)> = chunk
            .iter()
            .map(|place| (numbers.binary_search(&place.batch).unwrap_or(0), place.row as usize))
            .collect();
        writer.write(&interleave_record_batch(&touched, &indices)?)?;
    }
    Ok((writer.into_inner()?, places.len()))
}
