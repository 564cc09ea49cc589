//! The table `batches`: one row per batch and source, from the books of landing.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::events::timestamp;
use super::ledger::{Counts, Entry};
use crate::error::Result;

/// What the table `batches` holds, as the header of a model says it.
pub const BATCHES_HEADER: &str = "\
-- Batches: what came of the records of each source in each batch; rows_in = landed + duplicates + dead_letters.
--
-- grain:      batch, source
-- columns:
--   batch: number of the batch
--   source: name of the source in the configuration
--   planned_at: when the batch was planned
--   files: files taken
--   bytes: size of these files, as stored [bytes]
--   rows_in: records read; a file refused whole counts as one
--   landed: events landed
--   duplicates: records whose event id was known
--   dead_letters: records refused
";

/// Its columns.
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    let first =
        [number("batch"), Field::new("source", DataType::Utf8, false), Field::new("planned_at", timestamp(), false)];
    let counts = ["files", "bytes", "rows_in", "landed", "duplicates", "dead_letters"].map(number);
    Arc::new(Schema::new(first.into_iter().chain(counts).collect::<Vec<_>>()))
});

/// The rows of these entries.
pub fn rows(entries: &[Arc<Entry>]) -> Result<RecordBatch> {
    let rows: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.sources.iter().map(move |(name, counts)| (entry, name, counts)))
        .collect();
    let numbers = |pick: fn(&Counts) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, _, counts)| pick(counts).cast_signed())))
    };
    let planned = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(entry, _, _)| entry.planned_at));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(entry, _, _)| entry.batch))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, name, _)| name))),
        Arc::new(planned.with_timezone("UTC")),
        numbers(|counts| counts.files),
        numbers(|counts| counts.bytes),
        numbers(|counts| counts.rows_in),
        numbers(|counts| counts.landed),
        numbers(|counts| counts.duplicates),
        numbers(|counts| counts.dead_letters),
    ];
    Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
}
