//! The table `run_results`: one row per kept run report, and the run at hand. Reports are read when a query asks for
//! them, so that a run that needs none of them costs nothing for those before it.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::report::{RUNS, Report, micros};
use crate::error::Result;
use crate::lake::Lake;

/// Name of the table.
pub const RUN_RESULTS: &str = "run_results";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    let count = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![
        text("run_id"),
        time("started_at"),
        time("completed_at"),
        time("as_of"),
        text("status"),
        count("landed"),
        count("duplicates"),
        count("dead_letters"),
        count("models_built"),
        count("models_failed"),
        count("checks_failed"),
        Field::new("elapsed_seconds", DataType::Float64, false),
    ]))
});

/// The reports kept in a lake, and that of the run at hand, whose row tells what was known when it was made.
#[derive(Debug)]
pub struct RunResults {
    lake: Lake,
    current: Option<Report>,
}

impl RunResults {
    /// The table of `lake`, with the run at hand if its row is wanted.
    pub fn new(lake: Lake, current: Option<Report>) -> Self {
        Self { lake, current }
    }

    /// All rows, by run id. A report that cannot be read is passed over with a warning.
    async fn rows(&self) -> Result<RecordBatch> {
        let mut reports = Vec::new();
        for object in self.lake.list(RUNS).await? {
            let Some(path) = self.lake.relative(&object.location) else { continue };
            let Some(bytes) = self.lake.get(&path).await? else { continue };
            match serde_json::from_slice::<Report>(&bytes) {
                Ok(report) => reports.push(report),
                Err(error) => tracing::warn!(path, %error, "passed over a run report"),
            }
        }
        reports.extend(self.current.clone());
        Ok(batch(&reports)?)
    }
}

fn batch(reports: &[Report]) -> Result<RecordBatch, arrow::error::ArrowError> {
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
        SCHEMA.clone(),
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

#[async_trait]
impl TableProvider for RunResults {
    fn schema(&self) -> SchemaRef {
        SCHEMA.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let rows = self.rows().await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        MemTable::try_new(SCHEMA.clone(), vec![vec![rows]])?.scan(state, projection, filters, limit).await
    }
}
