//! The table `restatements`: which published figures a run changed, by mart and day, and the events that came since they
//! were published.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Date32Type, Int64Type};
use arrow::error::ArrowError;
use chrono::NaiveDate;

use super::report::{Report, RunStatus, Told, micros, report_path};
use crate::engine;
use crate::error::Result;
use crate::lake::Lake;
use crate::landing::events::PARTITION;
use crate::marts::{Catalog, Restatement};
use crate::models::given::RESTATEMENTS_SCHEMA;
use crate::workspace::Workspace;

/// Name of the table.
pub const RESTATEMENTS: &str = "restatements";

/// Its rows.
pub fn rows(runs: &[Arc<Told>]) -> Result<RecordBatch, ArrowError> {
    let all: Vec<(&Arc<Told>, &Restatement)> =
        runs.iter().flat_map(|run| run.restatements.iter().map(move |restated| (run, restated))).collect();
    let counts = |pick: fn(&Restatement) -> Option<i64>| -> ArrayRef {
        Arc::new(all.iter().map(|(_, restated)| pick(restated)).collect::<Int64Array>())
    };
    let times = |pick: fn(&Told) -> Option<&str>| -> ArrayRef {
        let times: TimestampMicrosecondArray = all.iter().map(|(run, _)| pick(run).and_then(micros)).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let day = |restated: &Restatement| restated.day.as_ref()?.parse().ok().map(Date32Type::from_naive_date);
    let rows = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
    RecordBatch::try_new(
        RESTATEMENTS_SCHEMA.clone(),
        vec![
            Arc::new(StringArray::from_iter_values(all.iter().map(|(run, _)| &run.metadata.invocation_id))),
            Arc::new(StringArray::from_iter_values(all.iter().map(|(_, restated)| &restated.mart))),
            Arc::new(all.iter().map(|(_, restated)| restated.reason.as_deref()).collect::<StringArray>()),
            Arc::new(Int64Array::from_iter_values(all.iter().map(|(_, restated)| rows(restated.rows_before)))),
            Arc::new(Int64Array::from_iter_values(all.iter().map(|(_, restated)| rows(restated.rows_after)))),
            Arc::new(all.iter().map(|(_, restated)| restated.rows_removed.map(rows)).collect::<Int64Array>()),
            Arc::new(all.iter().map(|(_, restated)| restated.rows_added.map(rows)).collect::<Int64Array>()),
            counts(|restated| restated.first_batch),
            counts(|restated| restated.last_batch),
            counts(|restated| restated.events.map(u64::cast_signed)),
            counts(|restated| restated.max_lateness_seconds),
            Arc::new(all.iter().map(|(_, restated)| day(restated)).collect::<Date32Array>()),
            times(|run| run.as_of.as_deref()),
            times(|run| Some(&run.metadata.generated_at)),
        ],
    )
}

/// What runs have restated of `marts` that were ended before they told, the last of which published this catalog. One that an
/// error ended behind the catalog has a report that tells nothing.
pub async fn untold(lake: &Lake, catalog: &Catalog, marts: impl Fn(&str) -> bool) -> Result<Vec<Restatement>> {
    let of_marts = catalog.restatements.iter().filter(|restated| marts(&restated.mart));
    let restatements: Vec<_> = of_marts.cloned().collect();
    if restatements.is_empty() {
        return Ok(restatements);
    }
    let report = lake.get(&report_path(&catalog.run_id)).await?;
    let report = report.and_then(|report| serde_json::from_slice::<Report>(&report).ok());
    let has_told = |report: Report| report.status != RunStatus::Error || !report.restatements.is_empty();
    Ok(if report.is_some_and(has_told) { Vec::new() } else { restatements })
}

/// How many events occurred on each day, and how many seconds went by until one was received, at most.
type EventsByDay = BTreeMap<NaiveDate, (i64, Option<i64>)>;

/// Counts the events of the batches that each restatement names, and how late the latest of them was received.
pub async fn with_events(workspace: &Workspace, restatements: &mut [Restatement]) -> Result<()> {
    let mut known: BTreeMap<(i64, i64), EventsByDay> = BTreeMap::new();
    for restated in restatements {
        let Some(batches) = restated.first_batch.zip(restated.last_batch) else { continue };
        if let Entry::Vacant(unknown) = known.entry(batches) {
            unknown.insert(events_of(workspace, batches).await?);
        }
        let day = restated.day.as_ref().and_then(|day| day.parse::<NaiveDate>().ok());
        let of_days = known[&batches].iter().filter(|(of, _)| day.is_none_or(|day| day == **of));
        let (mut events, mut lateness) = (0, None);
        for (_, (count, latest)) in of_days {
            events += count;
            lateness = lateness.max(*latest);
        }
        restated.events = Some(events.unsigned_abs());
        restated.max_lateness_seconds = lateness;
    }
    Ok(())
}

/// The events of these batches, from the first to the last.
async fn events_of(workspace: &Workspace, (first, last): (i64, i64)) -> Result<EventsByDay> {
    let sql = format!(
        "select {PARTITION}, count(*), \
         cast(floor(max((cast(received_at as bigint) - cast(occurred_at as bigint)) / 1e6)) as bigint) \
         from events where batch between {first} and {last} group by 1"
    );
    let mut days = BTreeMap::new();
    for rows in engine::query(&workspace.ctx, &sql).await?.collect().await? {
        let (dates, counts) = (rows.column(0).as_primitive::<Date32Type>(), rows.column(1).as_primitive::<Int64Type>());
        let lateness = rows.column(2).as_primitive::<Int64Type>();
        for row in 0..rows.num_rows() {
            let Some(date) = Date32Type::to_naive_date_opt(dates.value(row)) else { continue };
            let latest = lateness.is_valid(row).then(|| lateness.value(row));
            days.insert(date, (counts.value(row), latest));
        }
    }
    Ok(days)
}
