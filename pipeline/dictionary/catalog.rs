//! The table `catalog`: the dictionary in SQL, a row per column, with the logical time of what is published.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::{Column, Dictionary, Table};
use crate::error::Result;
use crate::landing::events::timestamp;
use crate::marts::Catalog;
use crate::models::graph::Graph;
use crate::workspace::Workspace;

/// Name of the table.
pub const CATALOG: &str = "catalog";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str, is_nullable| Field::new(name, DataType::Utf8, is_nullable);
    Arc::new(Schema::new(vec![
        text("table_name", false),
        text("kind", false),
        text("table_description", false),
        text("grain", false),
        Field::new("position", DataType::Int64, false),
        text("column_name", false),
        text("data_type", false),
        text("unit", true),
        text("description", true),
        Field::new("is_published", DataType::Boolean, false),
        Field::new("as_of", timestamp(), true),
    ]))
});

/// Registers the table, unless a model of the project has its name. It is made when a query asks for it.
pub fn register(workspace: &Workspace, graph: &Graph) -> Result<()> {
    if graph.model(CATALOG).is_none() {
        let table = CatalogTable { workspace: workspace.clone(), graph: graph.clone() };
        workspace.ctx.deregister_table(CATALOG)?;
        workspace.ctx.register_table(CATALOG, Arc::new(table))?;
    }
    Ok(())
}

struct CatalogTable {
    workspace: Workspace,
    graph: Graph,
}

impl std::fmt::Debug for CatalogTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CatalogTable")
    }
}

/// A column with its table and its place in it, from 1.
type Row<'a> = (&'a Table, usize, &'a Column);

impl CatalogTable {
    async fn rows(&self) -> Result<RecordBatch> {
        let dictionary = Dictionary::of(&self.workspace, &self.graph).await?;
        let published = Catalog::load(&self.workspace.lake).await?;
        let rows: Vec<Row<'_>> = dictionary
            .tables
            .iter()
            .flat_map(|table| table.columns.iter().enumerate().map(move |(at, column)| (table, at + 1, column)))
            .collect();
        let as_of: TimestampMicrosecondArray = rows
            .iter()
            .map(|(table, ..)| {
                let as_of = published.marts.get(&table.name)?.as_of.as_deref()?;
                Some(chrono::DateTime::parse_from_rfc3339(as_of).ok()?.timestamp_micros())
            })
            .collect();
        let texts = |pick: &dyn Fn(&Row<'_>) -> Option<String>| -> ArrayRef {
            Arc::new(rows.iter().map(pick).collect::<StringArray>())
        };
        let kind = |table: &Table| serde_json::to_value(table.kind).ok()?.as_str().map(str::to_string);
        let columns: Vec<ArrayRef> = vec![
            texts(&|(table, ..)| Some(table.name.clone())),
            texts(&|(table, ..)| kind(table)),
            texts(&|(table, ..)| Some(table.description.clone())),
            texts(&|(table, ..)| Some(table.grain.join(","))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, at, _)| *at as i64))),
            texts(&|(_, _, column)| Some(column.name.clone())),
            texts(&|(_, _, column)| Some(column.data_type.clone())),
            texts(&|(_, _, column)| column.unit.clone()),
            texts(&|(_, _, column)| column.meaning.clone()),
            Arc::new(
                rows.iter().map(|(_, _, column)| Some(column.is_published)).collect::<arrow::array::BooleanArray>(),
            ),
            Arc::new(as_of.with_timezone("UTC")),
        ];
        Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
    }
}

#[async_trait]
impl TableProvider for CatalogTable {
    fn schema(&self) -> SchemaRef {
        SCHEMA.clone()
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
        let rows = self.rows().await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        MemTable::try_new(SCHEMA.clone(), vec![vec![rows]])?.scan(state, projection, filters, limit).await
    }
}
