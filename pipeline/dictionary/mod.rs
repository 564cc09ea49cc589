//! The data dictionary: each table and column with type, unit and meaning, its grain and checks, and what it is made of.
//!
//! Words come from the headers of models and, for tables that are no models, from beside their schemas; types from the
//! statements, planned over tables without rows. So it is the same before the first run and after it.

pub mod catalog;
mod markdown;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::SessionContext;
use serde::Serialize;

pub use self::types::sql_type;
use crate::derived::storage::{is_flat, stored_schema};
use crate::engine;
use crate::error::{Error, Result};
use crate::identity::{identity_key_udf, stage as identity};
use crate::landing::batches;
use crate::landing::events::{DEAD_LETTER_SCHEMA, EVENT_SCHEMA};
use crate::marts;
use crate::models::given::{self, Group, RESTATEMENTS_SCHEMA, RUN_RESULTS_SCHEMA};
use crate::models::graph::{Graph, Model};
use crate::models::header::{Build, Check, Header, Publish};
use crate::models::settings;
use crate::workspace::Workspace;

/// What a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A model that is published.
    Mart,
    /// A model that is kept as a table.
    Model,
    /// A model that is planned into whatever reads it.
    View,
    /// What came in.
    Landed,
    /// Who is who.
    Identity,
    /// The configuration.
    Settings,
    /// What was done.
    System,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Its name in SQL.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whether it comes with wayline, and is no model of the project.
    pub is_built_in: bool,
    /// What it holds.
    pub description: String,
    /// Columns that tell one row from another.
    pub grain: Vec<String>,
    /// How a model is built.
    pub build: Option<String>,
    /// Where a mart is published: a file or a glob, relative to the lake.
    pub path: Option<String>,
    /// Rules of its header, and names of the checks that read it.
    pub checks: Vec<String>,
    /// The rules of its header.
    #[serde(skip)]
    pub rules: Vec<Check>,
    /// Tables that it reads.
    pub reads: Vec<String>,
    /// Tables that are no models, of which it is made in the end.
    pub sources: Vec<String>,
    /// Models that read it.
    pub read_by: Vec<String>,
    /// Marts that are made of it in the end.
    pub marts: Vec<String>,
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Why its columns are not known, if its statement cannot be planned.
    pub problem: Option<String>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type in SQL.
    #[serde(rename = "type")]
    pub data_type: String,
    /// In what it is measured.
    pub unit: Option<String>,
    /// What it holds; `None` where nobody said it.
    pub meaning: Option<String>,
    /// Whether a mart has it: nested columns are left out.
    pub is_published: bool,
}

/// All tables: those that are no models in the order in which data meets them, then models, each after those it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dictionary {
    /// The tables.
    pub tables: Vec<Table>,
}

impl Column {
    /// Its meaning with its unit, in one line; empty where nobody said it.
    pub fn comment(&self) -> String {
        let meaning = self.meaning.clone().unwrap_or_default();
        match &self.unit {
            Some(unit) => format!("{meaning} [{unit}]"),
            None => meaning,
        }
    }
}

impl Dictionary {
    /// The dictionary of a project. Nothing of its lake is read.
    pub fn of(workspace: &Workspace, graph: &Graph) -> impl Future<Output = Result<Self>> + Send {
        let (workspace, graph) = (workspace.clone(), graph.clone());
        async move {
            let ctx = workspace.renewed()?.ctx;
            let mut tables = Vec::new();
            register_functions(&workspace, &ctx);
            for (given, schema) in given::tables().zip(given_schemas(&workspace, &ctx).await?) {
                ctx.deregister_table(given.name)?;
                ctx.register_table(given.name, Arc::new(EmptyTable::new(schema.clone())))?;
                let header = Header::parse(given.header)?;
                tables.push(table(&graph, given.name, kind_of(given.group), &header, Ok(schema))?);
            }
            for model in &graph.models {
                let schema = plan(&ctx, model).await.map_err(|error| error.to_string());
                tables.push(table_of_model(&graph, model, schema)?);
            }
            Ok(Self { tables })
        }
    }

    /// A table by name; one that is not there is an error.
    pub fn table(&self, name: &str) -> Result<&Table> {
        self.tables.iter().find(|table| table.name == name).ok_or_else(|| {
            Error::invalid(format!("no table is called `{name}`"))
                .hint("wayline docs lists them all")
                .hint_nearest(name, self.tables.iter().map(|table| table.name.as_str()))
        })
    }

    /// The marts.
    pub fn marts(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(|table| table.kind == Kind::Mart)
    }

    /// As a page of Markdown.
    pub fn to_markdown(&self) -> String {
        markdown::page(self)
    }
}

impl Table {
    /// As a section of Markdown.
    pub fn to_markdown(&self) -> String {
        markdown::section(self, 1)
    }
}

fn kind_of(group: Group) -> Kind {
    match group {
        Group::Landed => Kind::Landed,
        Group::System => Kind::System,
        Group::Identity => Kind::Identity,
        Group::Settings => Kind::Settings,
    }
}

fn register_functions(workspace: &Workspace, ctx: &SessionContext) {
    let priority = workspace.project.config.identity.priority.clone();
    ctx.register_udf(identity_key_udf(priority, workspace.blocked.clone()));
}

/// Schemas in the order of [`given::tables`].
async fn given_schemas(workspace: &Workspace, ctx: &SessionContext) -> Result<Vec<SchemaRef>> {
    let landed = [&EVENT_SCHEMA, &DEAD_LETTER_SCHEMA, &batches::SCHEMA, &RUN_RESULTS_SCHEMA, &RESTATEMENTS_SCHEMA];
    let mut schemas: Vec<SchemaRef> = landed.map(|schema| (**schema).clone()).to_vec();
    schemas.extend(identity::schemas());
    settings::register(ctx, &workspace.project.config, None)?;
    for name in settings::TABLES {
        schemas.push(Arc::new(ctx.table(name).await?.schema().as_arrow().clone()));
    }
    Ok(schemas)
}

/// Plans a model over tables without rows and registers what it will be.
async fn plan(ctx: &SessionContext, model: &Model) -> Result<SchemaRef> {
    ctx.deregister_table(model.name.as_str())?;
    let frame = engine::query(ctx, &model.sql).await?;
    let planned = Arc::new(frame.schema().as_arrow().clone());
    if model.header.build == Build::View {
        ctx.register_table(model.name.as_str(), frame.into_view())?;
        return Ok(planned);
    }
    let schema = stored_schema(&planned)?;
    ctx.register_table(model.name.as_str(), Arc::new(EmptyTable::new(schema.clone())))?;
    Ok(schema)
}

fn table_of_model(graph: &Graph, model: &Model, schema: Result<SchemaRef, String>) -> Result<Table> {
    let kind = match (&model.header.publish, &model.header.build) {
        (Publish::No, Build::View) => Kind::View,
        (Publish::No, _) => Kind::Model,
        _ => Kind::Mart,
    };
    let mut table = table(graph, &model.name, kind, &model.header, schema)?;
    table.build = Some(model.header.build.to_string());
    table.path = marts::path(&model.name, &model.header.publish);
    table.reads.clone_from(&model.reads);
    table.sources = upstream(graph, model);
    Ok(table)
}

fn table(graph: &Graph, name: &str, kind: Kind, header: &Header, schema: Result<SchemaRef, String>) -> Result<Table> {
    let mut words = graph.column_words(name)?;
    let (schema, problem) = match schema {
        Ok(schema) => (Some(schema), None),
        Err(problem) => (None, Some(problem)),
    };
    let fields = schema.iter().flat_map(|schema| schema.fields());
    let columns: Vec<Column> = fields
        .map(|field| {
            let (meaning, unit) = words.remove(field.name()).map(|words| (words.meaning, words.unit)).unzip();
            Column {
                name: field.name().clone(),
                data_type: sql_type(field.data_type()),
                unit: unit.flatten(),
                meaning,
                is_published: kind == Kind::Mart && is_flat(field),
            }
        })
        .collect();
    if problem.is_none() {
        for column in words.keys() {
            tracing::warn!(table = name, column, "the header describes a column that is not there");
        }
    }
    let mut checks: Vec<String> = header.checks.iter().map(ToString::to_string).collect();
    let of_others = graph.checks.iter().filter(|check| check.reads.iter().any(|read| read == name));
    checks.extend(of_others.map(|check| check.name.clone()));
    let read_by: Vec<&Model> =
        graph.models.iter().filter(|model| model.reads.iter().any(|read| read == name)).collect();
    Ok(Table {
        name: name.to_string(),
        kind,
        is_built_in: graph.model(name).is_none_or(|model| model.is_built_in),
        description: header.description.clone(),
        grain: header.grain.clone(),
        build: None,
        path: None,
        checks,
        rules: header.checks.clone(),
        reads: Vec::new(),
        sources: Vec::new(),
        read_by: read_by.iter().map(|model| model.name.clone()).collect(),
        marts: downstream_marts(graph, name),
        columns,
        problem,
    })
}

/// Tables that are no models, of which a model is made in the end, in the order in which data meets them.
fn upstream(graph: &Graph, model: &Model) -> Vec<String> {
    let all = graph.with_upstream(&BTreeSet::from([model.name.clone()]));
    let reads: BTreeSet<&String> = all.iter().filter_map(|name| graph.model(name)).flat_map(|at| &at.reads).collect();
    given::names().filter(|name| reads.iter().any(|read| read == name)).map(str::to_string).collect()
}

/// Marts that are made of a table in the end, itself left out.
fn downstream_marts(graph: &Graph, name: &str) -> Vec<String> {
    let mut made_of: BTreeMap<&str, bool> = BTreeMap::from([(name, true)]);
    let mut found = Vec::new();
    // Models stand behind those that they read.
    for model in graph.models.iter().filter(|model| model.name != name) {
        let is_made_of = model.reads.iter().any(|read| made_of.get(read.as_str()) == Some(&true));
        made_of.insert(&model.name, is_made_of);
        if is_made_of && model.header.publish != Publish::No {
            found.push(model.name.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests;
