//! The table `run_results`: one row per run.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};

use super::report::{Told, micros};
use crate::models::given::RUN_RESULTS_SCHEMA;

/// Name of the table.
pub const RUN_RESULTS: &str = "run_results";

/// Its rows.
pub fn rows(runs: &[Arc<Told>]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let texts = |pick: fn(&Told) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(runs.iter().map(|run| pick(run))))
    };
    let times = |pick: fn(&Told) -> Option<&str>| -> ArrayRef {
        let times: TimestampMicrosecondArray = runs.iter().map(|run| pick(run).and_then(micros)).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let counts = |pick: fn(&Told) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(runs.iter().map(|run| pick(run).cast_signed())))
    };
    RecordBatch::try_new(
        RUN_RESULTS_SCHEMA.clone(),
        vec![
            texts(|run| &run.metadata.invocation_id),
            times(|run| Some(&run.metadata.started_at)),
            times(|run| Some(&run.metadata.generated_at)),
            times(|run| run.as_of.as_deref()),
            texts(|run| run.status.as_str()),
            counts(|run| run.landed.total().landed),
            counts(|run| run.landed.total().duplicates),
            counts(|run| run.landed.total().dead_letters),
            counts(|run| run.outcomes("model").0 as u64),
            counts(|run| run.outcomes("model").1 as u64),
            counts(|run| run.outcomes("test").1 as u64),
            Arc::new(Float64Array::from_iter_values(runs.iter().map(|run| run.elapsed_time))),
        ],
    )
}
