//! Dead letters as they lie in the lake: chosen to be taken up again, and written again with what came of them.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use datafusion::logical_expr::{Expr, col, lit};
use futures::TryStreamExt;

use super::events::{DEAD_LETTER_SCHEMA, DEAD_LETTERS};
use super::ledger::Replay;
use crate::delta::{Part, PartWriter, Table};
use crate::engine;
use crate::error::Result;
use crate::workspace::Workspace;

/// Rows at a time: records may be long.
const ROWS_PER_BATCH: usize = 1024;

/// A dead letter that is taken up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Batch that it came with.
    pub batch: i64,
    /// Its source.
    pub source: String,
    /// File and place.
    pub origin: String,
    /// Why it was refused.
    pub reason: String,
    /// What was found.
    pub detail: String,
    /// Its bytes.
    pub record: Bytes,
}

impl Letter {
    /// What tells it from all others.
    pub fn key(&self) -> Key {
        (self.batch, self.source.clone(), self.origin.clone())
    }
}

/// Batch, source and origin of a dead letter.
pub type Key = (i64, String, String);

/// What is written of a dead letter that was taken up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// This batch took it up, and it is an event or a duplicate of one; or it landed the file that was refused whole before.
    ReplayedIn(i64),
    /// It is refused for this now.
    Refused {
        /// Reason code.
        reason: &'static str,
        /// What was found.
        detail: String,
        /// Its bytes as they are kept from now on; none where they stay as they are.
        record: Option<Bytes>,
    },
}

/// Those that a replay asks for and that no batch took up yet, or those that a batch took up.
fn asked(replay: &Replay, taken_up: Option<i64>) -> Expr {
    let taken_up = match taken_up {
        None => col("replayed_in").is_null(),
        Some(batch) => return col("replayed_in").eq(lit(batch)),
    };
    let named = [("reason", &replay.reason), ("source", &replay.source)];
    let named = named.into_iter().filter_map(|(name, value)| Some(col(name).eq(lit(value.as_deref()?))));
    let (first, last) = replay.batches;
    named.fold(taken_up.and(col("batch").between(lit(first), lit(last))), Expr::and)
}

/// Divides what a replay asks for into ranges of batches, each with about so many bytes of records at most, or one batch.
pub async fn ranges(workspace: &Workspace, table: &Table, replay: &Replay, most: u64) -> Result<Vec<(i64, i64)>> {
    let mut bytes = std::collections::BTreeMap::new();
    let mut stream = rows(workspace, table, table.files()?, Some(asked(replay, None))).await?;
    while let Some(rows) = stream.try_next().await? {
        let (batches, records) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(5).as_binary::<i32>());
        for row in 0..rows.num_rows() {
            *bytes.entry(batches.value(row)).or_insert(0) += records.value(row).len() as u64;
        }
    }
    let mut ranges: Vec<((i64, i64), u64)> = Vec::new();
    for (batch, bytes) in bytes {
        match ranges.last_mut() {
            Some(((_, last), before)) if *before + bytes <= most => (*last, *before) = (batch, *before + bytes),
            _ => ranges.push(((batch, batch), bytes)),
        }
    }
    Ok(ranges.into_iter().map(|(range, _)| range).collect())
}

/// The dead letters that a replay asks for, in no order.
pub async fn load(workspace: &Workspace, table: &Table, replay: &Replay, taken_up: Option<i64>) -> Result<Vec<Letter>> {
    let (first, last) = replay.batches;
    let files = table.files()?.into_iter().filter(|part| may_hold(part, first, last)).collect();
    let mut stream = rows(workspace, table, files, Some(asked(replay, taken_up))).await?;
    let mut letters = Vec::new();
    while let Some(rows) = stream.try_next().await? {
        let text = |column: usize| rows.column(column).as_string::<i32>();
        let (batches, records) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(5).as_binary::<i32>());
        letters.extend((0..rows.num_rows()).map(|row| Letter {
            batch: batches.value(row),
            source: text(1).value(row).to_string(),
            origin: text(2).value(row).to_string(),
            reason: text(3).value(row).to_string(),
            detail: text(4).value(row).to_string(),
            record: Bytes::copy_from_slice(records.value(row)),
        }));
    }
    Ok(letters)
}

/// Writes the files that hold these dead letters again, with what came of them. Returns the files that they replace, and
/// the new ones.
pub async fn rewrite(
    workspace: &Workspace,
    table: &Table,
    fates: &HashMap<Key, Fate>,
    prefix: &str,
) -> Result<(BTreeSet<String>, Vec<Part>)> {
    let batches = || fates.keys().map(|(batch, ..)| *batch);
    let (Some(first), Some(last)) = (batches().min(), batches().max()) else { return Ok(Default::default()) };
    let (mut replaced, mut written) = (BTreeSet::new(), Vec::new());
    for part in table.files()?.into_iter().filter(|part| may_hold(part, first, last)) {
        let mut stream = rows(workspace, table, vec![part.clone()], None).await?;
        let name = format!("{prefix}-dead-letters-{}", replaced.len());
        let mut writer = PartWriter::new(workspace.lake.clone(), DEAD_LETTERS.into(), name, DEAD_LETTER_SCHEMA.clone());
        let mut is_changed = false;
        let mut unchanged = Vec::new();
        while let Some(rows) = stream.try_next().await? {
            match with_fates(&rows, fates)? {
                None if !is_changed => unchanged.push(rows),
                changed => {
                    is_changed = true;
                    for rows in std::mem::take(&mut unchanged) {
                        writer.write(&rows).await?;
                    }
                    writer.write(&changed.unwrap_or(rows)).await?;
                }
            }
        }
        if is_changed {
            replaced.insert(part.path.clone());
            written.extend(writer.finish().await?.into_iter().map(|new| Part { batches: part.batches, ..new }));
        }
    }
    Ok((replaced, written))
}

/// Rows with what came of them; none if nothing did.
fn with_fates(rows: &RecordBatch, fates: &HashMap<Key, Fate>) -> Result<Option<RecordBatch>> {
    let text = |column: usize| rows.column(column).as_string::<i32>();
    let (batches, before) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(6).as_primitive::<Int64Type>());
    let fate = |row: usize| {
        let key = (batches.value(row), text(1).value(row).to_string(), text(2).value(row).to_string());
        fates.get(&key).filter(|_| before.is_null(row))
    };
    let found: Vec<Option<&Fate>> = (0..rows.num_rows()).map(fate).collect();
    if found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let reasons = found.iter().enumerate().map(|(row, fate)| match fate {
        Some(Fate::Refused { reason, .. }) => reason,
        _ => text(3).value(row),
    });
    let details = found.iter().enumerate().map(|(row, fate)| match fate {
        Some(Fate::Refused { detail, .. }) => detail,
        _ => text(4).value(row),
    });
    let kept = rows.column(5).as_binary::<i32>();
    let records = found.iter().enumerate().map(|(row, fate)| match fate {
        Some(Fate::Refused { record: Some(record), .. }) => record,
        _ => kept.value(row),
    });
    let replayed = found.iter().zip(before).map(|(fate, before)| match fate {
        Some(Fate::ReplayedIn(batch)) => Some(*batch),
        _ => before,
    });
    let mut columns = rows.columns().to_vec();
    columns[3] = std::sync::Arc::new(StringArray::from_iter_values(reasons)) as ArrayRef;
    columns[4] = std::sync::Arc::new(StringArray::from_iter_values(details));
    columns[5] = std::sync::Arc::new(BinaryArray::from_iter_values(records));
    columns[6] = std::sync::Arc::new(replayed.collect::<Int64Array>());
    Ok(Some(RecordBatch::try_new(DEAD_LETTER_SCHEMA.clone(), columns)?))
}

fn may_hold(part: &Part, first: i64, last: i64) -> bool {
    part.batches.is_none_or(|(low, high)| low <= last && first <= high)
}

/// Rows of some files of the table, in the types of [`DEAD_LETTER_SCHEMA`].
async fn rows(
    workspace: &Workspace,
    table: &Table,
    files: Vec<Part>,
    asked: Option<Expr>,
) -> Result<impl futures::Stream<Item = Result<RecordBatch>> + Unpin + use<>> {
    let provider = table.provider_of(&workspace.lake, DEAD_LETTERS, files)?;
    let mut frame = engine::in_batches_of(&workspace.ctx, ROWS_PER_BATCH).read_table(provider)?;
    if let Some(asked) = asked {
        frame = frame.filter(asked)?;
    }
    let names: Vec<&str> = DEAD_LETTER_SCHEMA.fields().iter().map(|field| field.name().as_str()).collect();
    let stream = frame.select_columns(&names)?.execute_stream().await?;
    Ok(stream.map_err(crate::error::Error::from).and_then(|rows| {
        let typed = || {
            let columns = rows.columns().iter().zip(DEAD_LETTER_SCHEMA.fields());
            let columns = columns.map(|(column, field)| Ok(cast(column, field.data_type())?));
            Ok(RecordBatch::try_new(DEAD_LETTER_SCHEMA.clone(), columns.collect::<Result<_>>()?)?)
        };
        std::future::ready(typed())
    }))
}
