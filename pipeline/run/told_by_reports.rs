//! Tables of what run reports tell. Reports are read when a query asks for them, so that a run that needs none of them
//! costs nothing for those before it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use super::report::{RUNS, Report, Told};
use crate::engine::LateRows;
use crate::error::{Kind, Result};
use crate::lake::Lake;

/// Reports that are read at once.
const READS: usize = 16;

/// Rows made of the reports kept in a lake, and of that of the run at hand, which tells what was known when it was made.
#[derive(Debug)]
pub struct ToldByReports {
    lake: Lake,
    current: Option<Arc<Told>>,
    schema: SchemaRef,
    rows: fn(&[Arc<Told>]) -> Result<RecordBatch, ArrowError>,
}

impl ToldByReports {
    /// The table of `lake`, with the run at hand if its rows are wanted. `rows` are of `schema`.
    pub fn new(
        lake: Lake,
        current: Option<Report>,
        schema: SchemaRef,
        rows: fn(&[Arc<Told>]) -> Result<RecordBatch, ArrowError>,
    ) -> Self {
        Self { lake, current: current.map(|report| Arc::new(Told::from(report))), schema, rows }
    }
}

/// What a report tells; nothing where it went away, or cannot be read.
async fn told(lake: &Lake, report: &ObjectMeta) -> Result<Option<Arc<Told>>> {
    match lake.read_once(report, |bytes| Ok(serde_json::from_slice(bytes)?)).await {
        Err(error) if error.kind() == Kind::Corrupt => {
            tracing::warn!(path = %report.location, %error, "passed over a run report");
            Ok(None)
        }
        told => told,
    }
}

#[async_trait]
impl LateRows for ToldByReports {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// All rows, by run id. A report that cannot be read is passed over with a warning.
    async fn rows(&self) -> Result<RecordBatch> {
        let reports = self.lake.list_documents(RUNS).await?.into_iter();
        let reads: Vec<_> = reports
            .map(|report| {
                let lake = self.lake.clone();
                async move { told(&lake, &report).await }
            })
            .collect();
        let read: Vec<_> = futures::stream::iter(reads).buffered(READS).try_collect().await?;
        let runs: Vec<Arc<Told>> = read.into_iter().flatten().chain(self.current.clone()).collect();
        Ok((self.rows)(&runs)?)
    }
}
