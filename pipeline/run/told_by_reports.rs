//! Tables of what run reports tell. Reports are read when a query asks for them, so that a run that needs none of them
//! costs nothing for those before it.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};

use super::report::{RUNS, Report, Told};
use crate::engine::LateRows;
use crate::error::Result;
use crate::lake::Lake;

/// Reports that are read at once.
const READS: usize = 16;

/// Rows made of the reports kept in a lake, and of that of the run at hand, which tells what was known when it was made.
#[derive(Debug)]
pub struct ToldByReports {
    lake: Lake,
    current: Option<Told>,
    schema: SchemaRef,
    rows: fn(&[Told]) -> Result<RecordBatch, ArrowError>,
}

impl ToldByReports {
    /// The table of `lake`, with the run at hand if its rows are wanted. `rows` are of `schema`.
    pub fn new(
        lake: Lake,
        current: Option<Report>,
        schema: SchemaRef,
        rows: fn(&[Told]) -> Result<RecordBatch, ArrowError>,
    ) -> Self {
        Self { lake, current: current.map(Told::from), schema, rows }
    }
}

/// What a report tells; nothing where it went away, or cannot be read.
async fn told(lake: &Lake, path: &str) -> Result<Option<Told>> {
    let Some(bytes) = lake.get(path).await? else { return Ok(None) };
    let told = serde_json::from_slice(&bytes);
    Ok(told.inspect_err(|error| tracing::warn!(path, %error, "passed over a run report")).ok())
}

#[async_trait]
impl LateRows for ToldByReports {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// All rows, by run id. A report that cannot be read is passed over with a warning.
    async fn rows(&self) -> Result<RecordBatch> {
        let paths = self.lake.list(RUNS).await?.into_iter().filter_map(|object| self.lake.relative(&object.location));
        let reads: Vec<_> = paths
            .map(|path| {
                let lake = self.lake.clone();
                async move { told(&lake, &path).await }
            })
            .collect();
        let read: Vec<_> = futures::stream::iter(reads).buffered(READS).try_collect().await?;
        let runs: Vec<Told> = read.into_iter().flatten().chain(self.current.clone()).collect();
        Ok((self.rows)(&runs)?)
    }
}
