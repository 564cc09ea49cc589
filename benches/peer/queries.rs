//! W2 to W10: SQL over the library's functions, run by DataFusion, over one of three layouts of the same events.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
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
    /// `wayline_journeys/`: a row per customer, events as lists; made by [`super::journeys`].
    Journeys,
}

impl Layout {
    fn parse(name: &str) -> Result<Self> {
        match name {
            "parquet" => Ok(Self::Parquet),
            "clustered" => Ok(Self::Clustered),
            "journeys" => Ok(Self::Journeys),
            other => Err(Error::invalid(format!("no layout `{other}`, expected parquet, clustered or journeys"))),
        }
    }
}

macro_rules! statements {
    ($folder:literal: $($workload:literal),+) => {
        [$(($workload, include_str!(concat!("sql/", $folder, "/", $workload, ".sql")))),+]
    };
}

const OVER_EVENTS: &[(&str, &str)] = &statements!("events": "W3", "W4");
const OVER_JOURNEYS: &[(&str, &str)] = &statements!("journeys": "W3", "W4", "W5", "W6", "W8", "W10");

/// Answers a workload, writes the answer and returns its rows. Timed is the call up to
/// the answer in memory: opening the tables, planning and running.
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
    let batches = runtime.block_on(answer(&ctx, sql))?;
    phases.end("query");
    phases.stop();
    write(&batches, out)
}

/// A session with our functions over a layout, with the rules of the product's own.
pub fn session(layout: Layout, data: &Path, threads: usize) -> Result<SessionContext> {
    let config = SessionConfig::new().with_target_partitions(threads);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_physical_optimizer_rules(functions::single_phase_first())
        .build();
    let ctx = SessionContext::new_with_state(state);
    functions::register_all(&ctx);
    let (name, folder, order): (_, _, &[_]) = match layout {
        Layout::Parquet => ("events", "resolved", &[]),
        Layout::Clustered => ("events", "clustered", &["customer_id", "event_time"]),
        Layout::Journeys => ("journeys", "wayline_journeys", &[]),
    };
    ctx.register_table(name, Arc::new(Files::open(&data.join(folder), order)?))?;
    Ok(ctx)
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

/// Writes an answer as one Parquet file.
fn write(batches: &[RecordBatch], out: &Path) -> Result<usize> {
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
