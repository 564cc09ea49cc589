//! The table `run_results`: one row per run.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};

use super::report::{Report, micros};
use crate::models::given::RUN_RESULTS_SCHEMA;

/// Name of the table.
pub const RUN_RESULTS: &str = "run_results";

/// Its rows.
pub fn rows(reports: &[Report]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let texts =
        |pick: fn(&Report) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(reports.iter().map(pick))) };
    let times = |pick: fn(&Report) -> Option<&str>| -> ArrayRef {
        let times: TimestampMicrosecondArray = reports.iter().map(|report| pick(report).and_then(micros)).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let counts = |pick: fn(&Report) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(reports.iter().map(|report| pick(report).cast_signed())))
    };
    RecordBatch::try_new(
        RUN_RESULTS_SCHEMA.clone(),
        vec![
            texts(|report| &report.metadata.invocation_id),
            times(|report| Some(&report.metadata.started_at)),
            times(|report| Some(&report.metadata.generated_at)),
            times(|report| report.as_of.as_deref()),
            texts(|report| report.status.as_str()),
            counts(|report| report.landed.total().landed),
            counts(|report| report.landed.total().duplicates),
            counts(|report| report.landed.total().dead_letters),
            counts(|report| report.outcomes("model").0 as u64),
            counts(|report| report.outcomes("model").1 as u64),
            counts(|report| report.outcomes("test").1 as u64),
            Arc::new(Float64Array::from_iter_values(reports.iter().map(|report| report.elapsed_time))),
        ],
    )
}
