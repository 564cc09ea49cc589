//! W2 to W10: SQL over the library's functions, run by DataFusion, over one of four layouts of the same events.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use wayline::error::{Error, Result};
use wayline::functions;

use super::Phases;
use super::tables::Files;

/// How the events are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `resolved/`: a row per event, in files by day.
    Parquet,
    /// `clustered/`: a row per event, sorted by customer and time, each customer in one file.
    Clustered,
    /// `wayline_sorted/`: the rows of `clustered/` as the product publishes them; made by [`super::sorted`].
    Sorted,
    /// `wayline_journeys/`: a row per customer, events as lists; made by [`super::journeys`].
    Journeys,
}

impl Layout {
    fn parse(name: &str) -> Result<Self> {
        match name {
            "parquet" => Ok(Self::Parquet),
            "clustered" => Ok(Self::Clustered),
            "sorted" => Ok(Self::Sorted),
            "journeys" => Ok(Self::Journeys),
            other => {
                Err(Error::invalid(format!("no layout `{other}`, expected parquet, clustered, sorted or journeys")))
            }
        }
    }
}

macro_rules! statements {
    ($folder:literal: $($workload:literal),+) => {
        [$(($workload, include_str!(concat!("sql/", $folder, "/", $workload, ".sql")))),+]
    };
}

const OVER_EVENTS: &[(&str, &str)] = &statements!("events": "W3", "W4", "W9");
const OVER_JOURNEYS: &[(&str, &str)] = &statements!("journeys": "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W10");

/// Answers a workload, writes the answer and returns its rows. Timed is the call, once the tables are
/// open as those of the peers are, up to the answer in memory, of W2 the answer in its file: planning and running.
pub fn run(
    workload: &str,
    layout: &str,
    data: &Path,
    out: &Path,
    threads: usize,
    phases: &mut Phases,
) -> Result<usize> {
    let layout = Layout::parse(layout)?;
    let statements = if layout == Layout::Journeys { OVER_JOURNEYS } else { OVER_EVENTS };
    let Some((_, sql)) = statements.iter().find(|(name, _)| *name == workload) else {
        return Err(Error::invalid(format!("no workload `{workload}` in this layout")));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let ctx = session(layout, data, threads)?;
    phases.begin();
    if workload == "W2" {
        return runtime.block_on(store(&ctx, sql, out, threads));
    }
    let batches = runtime.block_on(answer(&ctx, sql))?;
    phases.end("query");
    phases.stop();
    write(&batches, out)
}

/// A session with our functions over a layout, with the rules of the product's own.
pub fn session(layout: Layout, data: &Path, threads: usize) -> Result<SessionContext> {
    let ctx = context(threads, 8192);
    let (name, folder, order): (_, _, &[_]) = match layout {
        Layout::Parquet => ("events", "resolved", &[]),
        Layout::Clustered => ("events", "clustered", &["customer_id", "event_time"]),
        Layout::Sorted => ("events", "wayline_sorted", &["customer_id", "event_time"]),
        Layout::Journeys => ("journeys", "wayline_journeys", &[]),
    };
    ctx.register_table(name, Arc::new(Files::open(&data.join(folder), order)?))?;
    Ok(ctx)
}

/// A session with our functions and without tables.
pub fn context(threads: usize, rows: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(threads).with_batch_size(rows);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_physical_optimizer_rules(functions::single_phase_first())
        .build();
    let ctx = SessionContext::new_with_state(state);
    functions::register_all(&ctx);
    ctx
}

/// The rows of a query. The plan is printed when the environment variable `EXPLAIN` is set.
pub async fn answer(ctx: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    let plan = ctx.sql(sql).await?.create_physical_plan().await?;
    if std::env::var_os("EXPLAIN").is_some() {
        eprintln!("{}", displayable(plan.as_ref()).indent(true));
    }
    let batches = datafusion::physical_plan::collect(Arc::clone(&plan), ctx.task_ctx()).await?;
    if std::env::var_os("EXPLAIN").is_some() {
        eprintln!(
            "{}",
            datafusion::physical_plan::display::DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(true)
        );
    }
    Ok(batches)
}

/// Writes the rows of a query as one Parquet file while they come.
async fn store(ctx: &SessionContext, sql: &str, out: &Path, threads: usize) -> Result<usize> {
    let mut options = TableParquetOptions::default();
    options.global.compression = Some("zstd(1)".to_owned());
    options.global.maximum_parallel_row_group_writers = threads;
    let one_file = DataFrameWriteOptions::new().with_single_file_output(true);
    let counts = ctx.sql(sql).await?.write_parquet(&out.to_string_lossy(), one_file, Some(options)).await?;
    let count = |batch: &RecordBatch| batch.column(0).as_primitive::<UInt64Type>().values().iter().sum::<u64>();
    Ok(counts.iter().map(count).sum::<u64>() as usize)
}

/// Writes an answer as one Parquet file.
pub fn write(batches: &[RecordBatch], out: &Path) -> Result<usize> {
    let schema = batches.first().ok_or_else(|| Error::internal("no rows"))?.schema();
    let level = ZstdLevel::try_new(1).expect("level 1 exists");
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(out)?, schema, Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.close()?;
    Ok(batches.iter().map(RecordBatch::num_rows).sum())
}
