//! Makes the journeys layout: one row per customer, its events in order as parallel lists.

use std::path::Path;

use datafusion::prelude::SessionContext;
use futures::StreamExt;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use wayline::delta;
use wayline::error::Result;

use super::queries::{Layout, session};

/// Customers per file, about.
const ROWS_PER_FILE: usize = 40_000;

/// The rows of the layout.
const SQL: &str = include_str!("sql/journeys/build.sql");

/// Makes `wayline_journeys/` from `clustered/` and returns its rows.
pub fn build(data: &Path, threads: usize) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let out = data.join("wayline_journeys");
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    std::fs::create_dir_all(&out)?;
    let ctx = session(Layout::Clustered, data, threads)?;
    runtime.block_on(write(&ctx, &out))
}

async fn write(ctx: &SessionContext, out: &Path) -> Result<usize> {
    let mut stream = ctx.sql(SQL).await?.execute_stream().await?;
    let (mut rows, mut rows_of_file, mut files) = (0, 0, 0);
    let mut writer: Option<ArrowWriter<std::fs::File>> = None;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if rows_of_file >= ROWS_PER_FILE
            && let Some(full) = writer.take()
        {
            full.close()?;
            rows_of_file = 0;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let file = std::fs::File::create(out.join(format!("part-{files:02}.parquet")))?;
                files += 1;
                // As the product writes its tables.
                let properties = delta::with_times_as_steps(delta::writer_properties(), &batch.schema());
                let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
                none.insert(ArrowWriter::try_new_with_options(file, batch.schema(), options)?)
            }
        };
        writer.write(&batch)?;
        rows += batch.num_rows();
        rows_of_file += batch.num_rows();
    }
    if let Some(last) = writer {
        last.close()?;
    }
    Ok(rows)
}
