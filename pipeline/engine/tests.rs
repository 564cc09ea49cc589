use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::Result;
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::{SpillFile, TempFileFactory};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::common::collect;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, execute_stream_partitioned};
use futures::future::join_all;
use tokio::time::timeout;

use super::*;
use crate::error::{Error, Kind};

/// How long the rows of the test may take, which take milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

const INPUTS: i64 = 8;
const BATCHES: i64 = 50;
const ROWS: i64 = 8000;

/// Numbers from zero on that went from several threads to two others, each spilled on its way, in order.
async fn numbers_spilled_on_their_way(spills: impl TempFileFactory + 'static) -> Result<Vec<i64>> {
    let schema = Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, false)]));
    let batch = |place: i64| {
        let numbers = Arc::new(Int64Array::from_iter_values(place * ROWS..(place + 1) * ROWS));
        RecordBatch::try_new(schema.clone(), vec![numbers]).unwrap()
    };
    let inputs = (0..INPUTS).map(|input| (0..BATCHES).map(|at| batch(input * BATCHES + at)).collect()).collect();
    let table = Arc::new(MemTable::try_new(schema.clone(), inputs)?);
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(DiskManagerBuilder::default().with_temp_file_factory(Arc::new(spills)))
        // Nothing else in the plan asks for memory.
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(0)))
        .build_arc()?;
    let ctx = SessionContext::new_with_config_rt(config().with_target_partitions(2), runtime);
    let rows = ctx.read_table(table)?.create_physical_plan().await?;
    let by_number = Partitioning::Hash(vec![col("number", &schema)?], 2);
    let on_the_way = Arc::new(RepartitionExec::try_new(rows, by_number)?);
    let outputs = execute_stream_partitioned(on_the_way.clone(), ctx.task_ctx())?;
    let read = outputs.into_iter().map(|rows| tokio::spawn(collect(rows)));
    let arrived = timeout(PATIENCE, join_all(read)).await.expect("they wait for ever");
    let mut numbers: Vec<i64> = Vec::new();
    for batches in arrived {
        for batch in batches.unwrap()? {
            numbers.extend(batch.column(0).as_primitive::<Int64Type>().values());
        }
    }
    assert!(on_the_way.metrics().unwrap().spilled_rows().unwrap() > 0);
    numbers.sort_unstable();
    Ok(numbers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_that_are_spilled_on_their_way_to_other_threads_arrive() {
    for _ in 0..4 {
        let numbers = numbers_spilled_on_their_way(Spills::default()).await.unwrap();
        assert!(numbers.into_iter().eq(0..INPUTS * BATCHES * ROWS));
    }
}

/// Files of which every hundredth cannot be written.
struct SomeAreLost {
    files: AtomicUsize,
    kept: Spills,
    lost: Spills,
}

impl TempFileFactory for SomeAreLost {
    fn create_temp_file(&self, description: &str) -> Result<Arc<dyn SpillFile>> {
        let is_lost = self.files.fetch_add(1, Ordering::Relaxed) % 100 == 99;
        if is_lost { &self.lost } else { &self.kept }.create_temp_file(description)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn that_rows_cannot_be_spilled_is_told() {
    for _ in 0..4 {
        let (kept, lost) = (Spills::default(), Spills::default());
        std::fs::remove_dir_all(lost.folder().unwrap().path()).unwrap();
        let spills = SomeAreLost { files: AtomicUsize::new(0), kept, lost };
        let error = numbers_spilled_on_their_way(spills).await.unwrap_err();
        assert!(error.to_string().contains("rows could not be spilled"), "{error}");
        assert_eq!(Error::from(error).kind(), Kind::Unavailable);
    }
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_what_is_spilled() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Spills::default().folder().unwrap();
    assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
}
