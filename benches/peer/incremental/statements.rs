//! Statements that are planned once and run again and again, over rows that are put in place before.

use std::sync::{Arc, RwLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{EmptyRecordBatchStream, ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use wayline::error::Result;

/// Rows that stand for a table, whichever they are when it is read.
#[derive(Debug, Clone)]
pub struct Rows {
    schema: SchemaRef,
    batches: Arc<RwLock<Vec<RecordBatch>>>,
}

impl Rows {
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, batches: Arc::default() }
    }

    pub fn replace(&self, batches: Vec<RecordBatch>) {
        *self.batches.write().expect("nobody panics with the lock") = batches;
    }

    pub fn add(&self, batches: &[RecordBatch]) {
        self.batches.write().expect("nobody panics with the lock").extend_from_slice(batches);
    }

    /// A table of them, spread over so many partitions.
    pub fn table(&self, partitions: usize) -> Result<Arc<dyn TableProvider>> {
        let part =
            |number| -> Arc<dyn PartitionStream> { Arc::new(Part { rows: self.clone(), number, of: partitions }) };
        Ok(Arc::new(StreamingTable::try_new(self.schema.clone(), (0..partitions).map(part).collect())?))
    }
}

/// Every so many batches of rows.
#[derive(Debug)]
struct Part {
    rows: Rows,
    number: usize,
    of: usize,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.rows.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.rows.batches.read().expect("nobody panics with the lock");
        let batches = batches.iter().skip(self.number).step_by(self.of).cloned().collect();
        match MemoryStream::try_new(batches, self.rows.schema.clone(), None) {
            Ok(stream) => Box::pin(stream),
            // It projects nothing, so there is nothing to fail.
            Err(_) => Box::pin(EmptyRecordBatchStream::new(self.rows.schema.clone())),
        }
    }
}

/// A statement that is planned.
#[derive(Clone)]
pub struct Statement {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

impl Statement {
    pub async fn plan(ctx: &SessionContext, sql: &str) -> Result<Self> {
        Ok(Self { plan: ctx.sql(sql).await?.create_physical_plan().await?, context: ctx.task_ctx() })
    }

    pub fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// What it makes of the rows that are there now.
    pub async fn run(self) -> Result<Vec<RecordBatch>> {
        Ok(collect(reset_plan_states(self.plan)?, self.context).await?)
    }
}
