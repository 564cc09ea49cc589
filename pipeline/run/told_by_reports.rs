//! Tables of what run reports tell. Reports are read when a query asks for them, so that a run that needs none of them
//! costs nothing for those before it.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;

use super::report::{RUNS, Report};
use crate::engine::LateRows;
use crate::error::Result;
use crate::lake::Lake;

/// Rows made of the reports kept in a lake, and of that of the run at hand, which tells what was known when it was made.
#[derive(Debug)]
pub struct ToldByReports {
    lake: Lake,
    current: Option<Report>,
    schema: SchemaRef,
    rows: fn(&[Report]) -> Result<RecordBatch, ArrowError>,
}

impl ToldByReports {
    /// The table of `lake`, with the run at hand if its rows are wanted. `rows` are of `schema`.
    pub fn new(
        lake: Lake,
        current: Option<Report>,
        schema: SchemaRef,
        rows: fn(&[Report]) -> Result<RecordBatch, ArrowError>,
    ) -> Self {
        Self { lake, current, schema, rows }
    }
}

#[async_trait]
impl LateRows for ToldByReports {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
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
        Ok((self.rows)(&reports)?)
    }
}
