//! Makes the sorted layout: a row per event, sorted by customer and time, in files as the product publishes them.

use std::path::Path;

use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use wayline::delta;
use wayline::error::{Error, Result};

use super::queries::context;
use super::tables::Files;

/// Makes `wayline_sorted/` from `clustered/`, a file of each, and returns its rows.
pub fn build(data: &Path) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let out = data.join("wayline_sorted");
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    std::fs::create_dir_all(&out)?;
    let mut rows = 0;
    for file in std::fs::read_dir(data.join("clustered"))? {
        let file = file?;
        rows += runtime.block_on(write(&file.path(), &out.join(file.file_name())))?;
    }
    Ok(rows)
}

async fn write(clustered: &Path, out: &Path) -> Result<usize> {
    let ctx = context(1, 8192);
    ctx.register_table("events", std::sync::Arc::new(Files::open(clustered, &["customer_id", "event_time"])?))?;
    let sql = "select customer_id, event_time, event_id, channel, touchpoint, value from events";
    let mut stream = ctx.sql(sql).await?.execute_stream().await?;
    let mut writer: Option<ArrowWriter<Vec<u8>>> = None;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows();
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(delta::published_writer(batch.schema_ref(), &batch, vec![], Vec::new())?),
        };
        writer.write(&batch)?;
    }
    let writer = writer.ok_or_else(|| Error::internal("no rows"))?;
    std::fs::write(out, writer.into_inner()?)?;
    Ok(rows)
}
