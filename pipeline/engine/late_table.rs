//! Tables whose rows are made when a query asks for them, so that one that is not asked for costs nothing.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use crate::error::Result;

/// Knows how to make the rows of a table.
#[async_trait]
pub trait LateRows: Debug + Send + Sync + 'static {
    /// Columns of the rows.
    fn schema(&self) -> SchemaRef;
    /// All rows as of now.
    async fn rows(&self) -> Result<RecordBatch>;
}

/// A table of such rows, which are made anew for each scan.
#[derive(Debug)]
pub struct LateTable<R>(pub R);

#[async_trait]
impl<R: LateRows> TableProvider for LateTable<R> {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let rows = self.0.rows().await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        MemTable::try_new(self.schema(), vec![vec![rows]])?.scan(state, projection, filters, limit).await
    }
}
