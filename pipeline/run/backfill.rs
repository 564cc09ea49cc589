//! A backfill: rows of a window made anew from the landed events, whether anything has changed or not.
//!
//! It is a step from the last state to one with the same fingerprints but for those of the models that are asked for, which
//! are said to be of this backfill. From then on they are stale, the customers and days of the window are touched, and
//! everything goes the way that new events go: also in the next run, should this one be cut short.

pub mod plan;

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::prelude::ident;

use super::Options;
use super::tables::Tables;
use super::touched::occurred_between;
use crate::derived::changes::Changes;
use crate::derived::window::Window;
use crate::derived::{Derived, keys};
use crate::engine;
use crate::error::{Error, Result};
use crate::models;
use crate::models::graph::{Graph, Model};
use crate::models::header::Build;
use crate::models::update::{CUSTOMER, is_one_of_days};
use crate::workspace::Workspace;

/// What is made anew.
#[derive(Debug)]
pub struct Backfill {
    /// Whose customers and days.
    pub window: Window,
    /// Id of the run that asks for it.
    pub id: String,
    /// Models that are asked for.
    pub models: BTreeSet<String>,
    /// Customers of whom the tables tell something in the window, which may be all that there is of them.
    pub strays: BTreeSet<String>,
}

impl Backfill {
    /// What the options ask for; `None` when that is nothing, or when neither an event nor a row of these models lies in the
    /// window.
    pub async fn find(
        workspace: &Workspace,
        graph: &Graph,
        changes: &Changes,
        tables: &Tables,
        options: &Options,
        id: &str,
    ) -> Result<Option<Self>> {
        let Some(window) = options.backfill else { return Ok(None) };
        let selected = match &options.select {
            Some(selector) => models::select(workspace, graph, changes, &tables.prints, selector).await?,
            None => graph.models.iter().map(|model| model.name.clone()).collect(),
        };
        if let Some(selector) = &options.select
            && !selected.is_empty()
            && !graph.models.iter().any(|model| selected.contains(&model.name) && model.header.build.is_table())
        {
            return Err(Error::invalid(format!("`{selector}` picks views alone, which keep no rows to make anew"))
                .hint(format!(
                    "select the tables that belong to them: -s \"{}\"",
                    beside(graph, &selected).join(" ")
                )));
        }
        let Window { since, until } = window;
        let events = format!("select event_id from events where {} limit 1", occurred_between(since, until - 1));
        let mut is_due = engine::query(&workspace.ctx, &events).await?.count().await? > 0;
        let (mut models, mut strays) = (BTreeSet::new(), BTreeSet::new());
        let is_asked_for = |model: &&Model| selected.contains(&model.name) && model.header.build.is_table();
        for model in graph.models.iter().filter(is_asked_for) {
            models.insert(model.name.clone());
            match rows_in(workspace, changes, model, window).await {
                Ok(rows) => {
                    is_due |= rows.is_some();
                    strays.extend(rows.unwrap_or_default());
                }
                // What cannot be read is built whole.
                Err(error) if !error.is_temporary() => {
                    tracing::warn!(model = model.name, %error, "could not be read");
                    is_due = true;
                }
                Err(error) => return Err(error),
            }
        }
        let id = id.to_string();
        Ok((is_due && !models.is_empty()).then_some(Self { window, id, models, strays }))
    }
}

/// Selectors of the tables that read views; of those that read one which no table reads, the tables under it.
fn beside(graph: &Graph, views: &BTreeSet<String>) -> Vec<String> {
    let tables: Vec<&Model> = graph.models.iter().filter(|model| model.header.build.is_table()).collect();
    let mut selectors = BTreeSet::new();
    for view in views.iter().filter_map(|name| graph.model(name)) {
        if tables.iter().any(|table| graph.expanded(&table.reads).contains(&view.name)) {
            selectors.insert(format!("{}+", view.name));
        } else {
            let under = graph.expanded(&view.reads);
            selectors.extend(tables.iter().map(|table| table.name.clone()).filter(|name| under.contains(name)));
        }
    }
    selectors.into_iter().collect()
}

/// Customers of the rows of a model that lie in the window, told by its columns of dates; `None` when there are no rows.
async fn rows_in(
    workspace: &Workspace,
    changes: &Changes,
    model: &Model,
    window: Window,
) -> Result<Option<Vec<String>>> {
    let Some(table) = Derived::open(&workspace.lake, changes, &models::folder(&model.name)).await? else {
        return Ok(None);
    };
    let days = window.days().into_iter().map(Some).collect();
    let schema = table.stored_schema()?;
    let dates = schema.fields().iter().filter(|field| *field.data_type() == DataType::Date32);
    let Some(is_in) = dates.map(|field| is_one_of_days(field.name(), &days)).reduce(|a, b| a.or(b)) else {
        return Ok(None);
    };
    let rows = workspace.ctx.read_table(table.provider(&workspace.ctx).await?)?.filter(is_in)?;
    if !matches!(model.header.build, Build::ByCustomer(_)) {
        return Ok((rows.limit(0, Some(1))?.count().await? > 0).then(Vec::new));
    }
    let mut customers = Vec::new();
    for batch in rows.select(vec![ident(CUSTOMER)])?.distinct()?.collect().await? {
        customers.extend(keys::as_text(batch.column(0))?.iter().flatten().map(String::from));
    }
    Ok((!customers.is_empty()).then_some(customers))
}
