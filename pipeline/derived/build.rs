//! Builds rows into a Delta table: one file per partition of the plan, one commit that replaces all.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::storage::{stored_schema, to_stored};
use super::{Built, BuiltFrom, Written};
use crate::delta::{Pages, Part, PartWriter, Table};
use crate::derived;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;

/// Replaces the table in `folder` by the rows of `frame`, in such pages. Readers see the old table until the commit.
pub async fn build(
    lake: &Lake,
    folder: &str,
    table: Option<&Table>,
    frame: DataFrame,
    built_from: &BuiltFrom,
    pages: Pages,
) -> Result<Built> {
    let schema = stored_schema(frame.schema().as_arrow())?;
    let attempt = Uuid::new_v4().simple().to_string();
    let mut writers = JoinSet::new();
    for (number, stream) in frame.execute_stream_partitioned().await?.into_iter().enumerate() {
        let name = format!("part-{attempt}-{number}");
        let writer = PartWriter::new(lake.clone(), folder.to_string(), name, schema.clone()).with_pages(pages);
        writers.spawn(write(writer, schema.clone(), stream));
    }
    let mut parts = Vec::new();
    while let Some(written) = writers.join_next().await {
        match written.map_err(|error| Error::internal(format!("a writer stopped: {error}"))).flatten() {
            Ok(written) => parts.extend(written),
            Err(error) => {
                // What the others hold is let go before anybody begins again.
                writers.shutdown().await;
                return Err(error);
            }
        }
    }
    parts.sort_by(|a, b| a.path.cmp(&b.path));
    failpoint("build.parts");
    derived::replace(lake, folder, table, Written { schema, parts, pages }, built_from, "build").await
}

/// Writes one stream as one or more files; a stream without rows writes none.
async fn write(mut writer: PartWriter, schema: SchemaRef, mut stream: SendableRecordBatchStream) -> Result<Vec<Part>> {
    while let Some(batch) = stream.try_next().await? {
        let batch: RecordBatch = to_stored(&batch, &schema)?;
        writer.write(&batch).await?;
    }
    writer.finish().await
}
