//! The table `catalog`: the dictionary in SQL, a row per column, with the logical time of what is published.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;

use super::{Column, Dictionary, Table};
use crate::engine::{LateRows, LateTable};
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
        let rows = CatalogRows { workspace: workspace.clone(), graph: graph.clone() };
        workspace.ctx.deregister_table(CATALOG)?;
        workspace.ctx.register_table(CATALOG, Arc::new(LateTable(rows)))?;
    }
    Ok(())
}

struct CatalogRows {
    workspace: Workspace,
    graph: Graph,
}

impl std::fmt::Debug for CatalogRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CatalogRows")
    }
}

/// A column with its table and its place in it, from 1.
type Row<'a> = (&'a Table, usize, &'a Column);

#[async_trait]
impl LateRows for CatalogRows {
    fn schema(&self) -> SchemaRef {
        SCHEMA.clone()
    }

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
