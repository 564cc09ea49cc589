//! Rows as Parquet files, some for each day, each sorted; events by (`occurred_at`, `event_id`).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Date32Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;

use super::events::{EVENT_SCHEMA, EVENTS, PARTITION};
use super::id_hashes;
use crate::delta::{self, Part};
use crate::error::{Context, Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;

/// Rows of one file at most; a fuller day gets several.
const ROWS_PER_FILE: usize = 4_000_000;
/// Rows put together at a time while a file is encoded.
const ROWS_PER_BATCH: usize = 16_384;

/// How rows become files.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Columns of a file, all of them columns of the rows.
    pub schema: SchemaRef,
    /// Whether the hashes of event ids stand beside them ([`id_hashes`]).
    pub has_hashes: bool,
    /// Column of dates: each day has files of its own.
    pub day: &'static str,
    /// Columns that the rows of a file are sorted by, text or times in microseconds, without nulls.
    pub order: &'static [&'static str],
    /// Columns whose values hardly repeat, so that no dictionary is tried for them.
    pub distinct: &'static [&'static str],
}

/// The layout of events. The partition column stands in the path of a file, not in it.
static EVENT_LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    let fields: Vec<_> = EVENT_SCHEMA.fields().iter().filter(|field| field.name() != PARTITION).cloned().collect();
    Layout {
        schema: Arc::new(Schema::new(fields)),
        has_hashes: true,
        day: PARTITION,
        order: &["occurred_at", "event_id"],
        distinct: &["event_id", "occurred_at", "received_at"],
    }
});

/// Rows that are to be written, and how.
pub struct Rows {
    layout: Layout,
    /// The columns of a file, by batch.
    batches: Vec<RecordBatch>,
    /// The columns to sort by, by batch.
    order: Vec<Vec<Order>>,
}

/// The rows of a file, in no order yet.
pub struct File {
    /// Days since 1970.
    pub day: i32,
    /// Number of the file among those of its day.
    pub number: usize,
    places: Vec<Place>,
}

/// Writes a file of a landed table in memory: as all our files, but for columns without a dictionary and the hashes of event
/// ids.
pub struct FileWriter {
    writer: ArrowWriter<Vec<u8>>,
    has_hashes: bool,
}

impl FileWriter {
    /// A file with the columns of `schema`, and with hashes beside them where those are of events. No dictionary is tried for
    /// `distinct` columns.
    pub fn new(schema: &SchemaRef, distinct: &[&str], has_hashes: bool) -> Result<Self> {
        let distinct = distinct.iter().map(|name| ColumnPath::from(*name));
        let properties = distinct.fold(delta::writer_properties().into_builder(), |properties, column| {
            properties.set_column_dictionary_enabled(column, false)
        });
        let (schema, properties) = match has_hashes {
            true => (id_hashes::with_field(schema), id_hashes::as_they_are(properties)),
            false => (schema.clone(), properties),
        };
        let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
        Ok(Self { writer: ArrowWriter::try_new_with_options(Vec::new(), schema, options)?, has_hashes })
    }

    /// Adds rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        match self.has_hashes {
            true => Ok(self.writer.write(&id_hashes::with_hashes(rows)?)?),
            false => Ok(self.writer.write(rows)?),
        }
    }

    /// Bytes of the file as far as it is written, about.
    pub fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// The content of the file.
    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(self.writer.into_inner()?)
    }
}

/// A row by batch and position in it.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Sorts as the first column does, as far as eight bytes tell.
    head: u64,
    batch: u32,
    row: u32,
}

/// A column to sort by.
enum Order {
    Text(StringArray),
    Time(ScalarBuffer<i64>),
}

/// Writes the rows of `events` that are no duplicates. Files are named `prefix-day-number`.
pub async fn write(
    lake: &Lake,
    events: Vec<RecordBatch>,
    is_duplicate: impl Fn(usize, usize) -> bool + Sync,
    batch: i64,
    prefix: &str,
    threads: usize,
) -> Result<Vec<Part>> {
    let (rows, files) = divide(events, is_duplicate, &EVENT_LAYOUT)?;
    let rows = Arc::new(rows);
    let written = futures::stream::iter(files).map(|file| {
        let (lake, rows) = (lake.clone(), rows.clone());
        let day = file.day;
        let name = format!("{prefix}-{day}-{}", file.number);
        async move {
            failpoint("land.part.open");
            let encoded = tokio::task::spawn_blocking(move || rows.encode(file));
            let (content, rows) = encoded.await.map_err(|error| Error::internal(error.to_string()))??;
            failpoint("land.part.mid");
            let date = arrow::temporal_conversions::date32_to_datetime(day).map(|at| at.date().to_string());
            let partition = vec![(PARTITION.to_string(), date.unwrap_or_default())];
            let part = delta::write_part(&lake, EVENTS, &name, partition, content, rows).await?;
            failpoint("land.part.close");
            Ok::<_, Error>(Part { batches: Some((batch, batch)), ..part })
        }
    });
    written.buffered(threads).try_collect().await.context("writing events")
}

/// Divides the rows that are no duplicates among files, by day.
///
/// Memory: 16 bytes per row beside the rows.
pub fn divide(
    batches: Vec<RecordBatch>,
    is_duplicate: impl Fn(usize, usize) -> bool + Sync,
    layout: &Layout,
) -> Result<(Rows, Vec<File>)> {
    let divided: Vec<BTreeMap<i32, Vec<Place>>> = batches
        .par_iter()
        .enumerate()
        .map(|(number, batch)| {
            let dates = column(batch, layout.day)?.as_primitive::<Date32Type>().values();
            let mut days: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
            for (row, day) in dates.iter().enumerate().filter(|(row, _)| !is_duplicate(number, *row)) {
                days.entry(*day).or_default().push(Place { head: 0, batch: number as u32, row: row as u32 });
            }
            Ok(days)
        })
        .collect::<Result<_>>()?;
    let mut days: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
    for (day, mut places) in divided.into_iter().flatten() {
        days.entry(day).or_default().append(&mut places);
    }
    let rows = Rows::new(&batches, layout)?;
    let mut files = Vec::with_capacity(days.len());
    for (day, mut places) in days {
        if places.len() > ROWS_PER_FILE {
            rows.sort(&mut places);
        }
        let chunks = places.chunks(ROWS_PER_FILE).enumerate();
        files.extend(chunks.map(|(number, chunk)| File { day, number, places: chunk.to_vec() }));
    }
    Ok((rows, files))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    let column = batch.column_by_name(name).ok_or_else(|| Error::internal(format!("rows without {name}")))?;
    Ok(column.as_ref())
}

impl Rows {
    fn new(batches: &[RecordBatch], layout: &Layout) -> Result<Self> {
        let order = |batch: &RecordBatch| layout.order.iter().map(|name| Order::new(column(batch, name)?)).collect();
        let file = |batch: &RecordBatch| {
            let columns = layout.schema.fields().iter().map(|field| Ok(batch.schema_ref().index_of(field.name())?));
            Ok(batch.project(&columns.collect::<Result<Vec<_>>>()?)?)
        };
        Ok(Self {
            layout: layout.clone(),
            batches: batches.iter().map(file).collect::<Result<_>>()?,
            order: batches.iter().map(order).collect::<Result<_>>()?,
        })
    }

    /// Sorts the rows of a file and encodes them as Parquet; tells how many there are.
    pub fn encode(&self, file: File) -> Result<(Vec<u8>, usize)> {
        let mut places = file.places;
        self.sort(&mut places);
        let Layout { schema, distinct, has_hashes, .. } = &self.layout;
        let mut writer = FileWriter::new(schema, distinct, *has_hashes)?;
        for chunk in places.chunks(ROWS_PER_BATCH) {
            self.write(chunk, &mut writer)?;
        }
        Ok((writer.finish()?, places.len()))
    }

    fn write(&self, chunk: &[Place], writer: &mut FileWriter) -> Result<()> {
        // Only the batches that a chunk touches take part, so the cost does not grow with the size of the whole.
        let mut numbers: Vec<u32> = chunk.iter().map(|place| place.batch).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let touched: Vec<&RecordBatch> = numbers.iter().map(|number| &self.batches[*number as usize]).collect();
        let indices: Vec<(usize, usize)> =
            chunk.iter().map(|place| (numbers.binary_search(&place.batch).unwrap_or(0), place.row as usize)).collect();
        match interleave_record_batch(&touched, &indices) {
            Ok(rows) => writer.write(&rows),
            // Rows so long that a column of them has more than 31 bits of text.
            Err(ArrowError::OffsetOverflowError(_)) if chunk.len() > 1 => {
                let (first, second) = chunk.split_at(chunk.len() / 2);
                self.write(first, writer)?;
                self.write(second, writer)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Most rows are told apart by the head of the first column, without a look at the rows themselves.
    fn sort(&self, places: &mut [Place]) {
        for place in places.iter_mut() {
            place.head = self.order[place.batch as usize].first().map_or(0, |first| first.head(place.row as usize));
        }
        places.sort_unstable_by_key(|place| place.head);
        for equal in places.chunk_by_mut(|a, b| a.head == b.head) {
            equal.sort_unstable_by(|a, b| self.compare(*a, *b));
        }
    }

    /// By the columns of the order; of equal rows the first in the batches comes first.
    fn compare(&self, a: Place, b: Place) -> Ordering {
        for (column_a, column_b) in std::iter::zip(&self.order[a.batch as usize], &self.order[b.batch as usize]) {
            let (row_a, row_b) = (a.row as usize, b.row as usize);
            let ordering = match (column_a, column_b) {
                (Order::Text(texts_a), Order::Text(texts_b)) => texts_a.value(row_a).cmp(texts_b.value(row_b)),
                (Order::Time(times_a), Order::Time(times_b)) => times_a[row_a].cmp(&times_b[row_b]),
                _ => Ordering::Equal,
            };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        (a.batch, a.row).cmp(&(b.batch, b.row))
    }
}

impl Order {
    fn new(column: &dyn Array) -> Result<Self> {
        match column.data_type() {
            _ if column.null_count() > 0 => Err(Error::internal("a column to sort by has nulls")),
            DataType::Utf8 => Ok(Self::Text(column.as_string().clone())),
            DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => {
                Ok(Self::Time(column.as_primitive::<TimestampMicrosecondType>().values().clone()))
            }
            other => Err(Error::internal(format!("rows cannot be sorted by {other}"))),
        }
    }

    fn head(&self, row: usize) -> u64 {
        match self {
            Self::Time(times) => times[row].cast_unsigned() ^ (1 << 63),
            Self::Text(texts) => {
                let text = texts.value(row).as_bytes();
                let mut head = [0; 8];
                let length = text.len().min(head.len());
                head[..length].copy_from_slice(&text[..length]);
                u64::from_be_bytes(head)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use arrow::array::{ArrayRef, Date32Array, Int64Array, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, Int64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
    use proptest::prelude::*;

    /// Rows of day, key, time and id, and of their number as the only column of a file.
    fn batch(rows: &[(i32, &str, i64, &str)], first: i64) -> RecordBatch {
        let numbers = Int64Array::from_iter_values((first..).take(rows.len()));
        let columns: [(&str, ArrayRef); 5] = [
            ("day", Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.0)))),
            ("key", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)))),
            ("time", Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.2)))),
            ("id", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.3)))),
            ("number", Arc::new(numbers)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// Files as day and numbers of rows.
    fn files(
        batches: Vec<RecordBatch>,
        order: &'static [&'static str],
        is_duplicate: impl Fn(usize, usize) -> bool + Sync,
    ) -> Vec<(i32, Vec<i64>)> {
        let schema = Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, false)]));
        let layout = Layout { schema, has_hashes: false, day: "day", order, distinct: &["number"] };
        let (rows, files) = divide(batches, is_duplicate, &layout).unwrap();
        let read = |file: File| {
            let day = file.day;
            let (content, count) = rows.encode(file).unwrap();
            let reader = ParquetRecordBatchReader::try_new(bytes::Bytes::from(content), 1024).unwrap();
            let numbers: Vec<i64> = reader
                .flat_map(|batch| batch.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec())
                .collect();
            assert_eq!(numbers.len(), count);
            (day, numbers)
        };
        files.into_iter().map(read).collect()
    }

    #[test]
    fn each_day_is_a_file_sorted_by_the_layouts_columns_without_duplicates() {
        let first = [(1, "longer than 8 b", 5, "a"), (0, "k", -1, "b"), (1, "longer than 8 a", 9, "c")];
        let second = [(1, "longer than 8 a", 9, "b"), (0, "k", -2, "z"), (1, "k", 0, "d"), (0, "k", 3, "e")];
        let batches = vec![batch(&first, 0), batch(&second, 3)];
        let is_duplicate = |batch: usize, row: usize| (batch, row) == (1, 2);
        let by_key = files(batches.clone(), &["key", "time", "id"], is_duplicate);
        assert_eq!(by_key, [(0, vec![4, 1, 6]), (1, vec![3, 2, 0])]);
        let by_time = files(batches, &["time", "id"], |_, _| false);
        assert_eq!(by_time, [(0, vec![4, 1, 6]), (1, vec![5, 0, 3, 2])]);
    }

    proptest! {
        #[test]
        fn rows_are_sorted_as_by_the_plain_comparison_however_they_are_cut(
            rows in prop::collection::vec(("[a-b]{0,10}", -2i64..2, "[a-c]{0,2}"), 0..60),
            cut in 0usize..60,
        ) {
            let cut = cut.min(rows.len());
            let rows: Vec<_> = rows.iter().map(|(key, time, id)| (0, key.as_str(), *time, id.as_str())).collect();
            let batches = vec![batch(&rows[..cut], 0), batch(&rows[cut..], cut as i64)];
            let found = files(batches, &["key", "time", "id"], |_, _| false);
            let mut expected: Vec<i64> = (0..rows.len() as i64).collect();
            expected.sort_by_key(|number| rows[*number as usize]);
            prop_assert_eq!(found.into_iter().flat_map(|(_, numbers)| numbers).collect::<Vec<_>>(), expected);
        }
    }
}
