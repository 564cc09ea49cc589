//! What a backfill would make anew. Customers and days are counted; rows and bytes are told by counts, the files of
//! tables and the catalog, and say how much is made, of which tables take over what is different.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::prelude::ident;
use serde::Serialize;

use super::Backfill;
use crate::delta::Part;
use crate::derived::Derived;
use crate::derived::changes::Changes;
use crate::derived::one_of::is_one_of;
use crate::derived::window::Window;
use crate::engine;
use crate::error::Result;
use crate::identity::stage as identity;
use crate::marts::{self, Catalog};
use crate::models;
use crate::models::graph::Model;
use crate::models::header::Publish;
use crate::models::update::ways::{Way, ways};
use crate::models::update::{CUSTOMER, is_one_of_days};
use crate::run::advance::{can_follow, next_state};
use crate::run::tables::register_tables;
use crate::run::touched::{EventsOfTouched, occurred_between};
use crate::run::{Options, load_graph_to_build, plan as plan_models};
use crate::workspace::Workspace;

/// What a backfill would do.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// Events in the window.
    pub events: usize,
    /// Customers that are made anew; `None`: all are.
    pub customers: Option<usize>,
    /// Days that the window meets.
    pub days: usize,
    /// Models and marts, in the order in which they would be made; empty when there is nothing to do.
    pub steps: Vec<PlannedStep>,
}

/// One model or mart.
#[derive(Debug, Serialize)]
pub struct PlannedStep {
    /// `resolve`, `build` or `publish`.
    pub stage: &'static str,
    /// Its name.
    pub what: String,
    /// Why, and how: which rows or files.
    pub why: String,
    /// Rows that are made anew.
    pub rows: usize,
    /// Bytes that they have where they are now.
    pub bytes: u64,
}

/// Tells what a backfill would do. Nothing is written.
pub async fn plan(workspace: &Workspace, options: &Options) -> Result<Plan> {
    let graph = load_graph_to_build(workspace)?;
    let mut changes = Changes::load(&workspace.lake).await?;
    let tables = register_tables(workspace, &changes, options.as_of).await?;
    let Some(backfill) = Backfill::find(workspace, &graph, &changes, &tables, options, "planned").await? else {
        return Ok(Plan::default());
    };
    models::register(workspace, &graph, &changes).await?;
    let window = backfill.window;
    let mut plan = Plan { events: events_in(workspace, window).await?, days: window.days().len(), ..Plan::default() };
    let standing = identity::standing(workspace, &changes, &tables.prints.fingerprints["events"]).await?;
    if let Some(why) = standing.stale {
        plan.steps.push(PlannedStep { stage: "resolve", what: "identity".into(), why, rows: 0, bytes: 0 });
    }

    let mut now = next_state(workspace, &graph, &tables, &changes, Some(&backfill));
    let mut customers = BTreeSet::new();
    if let Some(last) = changes.states.last()
        && can_follow(workspace, last, &now, standing.fingerprint.as_ref()).await?
    {
        customers = EventsOfTouched::of(workspace, &changes, last, &now).await?.customers(workspace).await?;
        customers.extend(backfill.strays.iter().cloned());
        plan.customers = Some(customers.len());
        // The list is not kept, only that there is one.
        now.touched =
            Some(Part { path: String::new(), size: 0, rows: customers.len(), partition: Vec::new(), batches: None });
    }
    let customers = Arc::new(customers.into_iter().collect());
    changes.states.push(now);
    let planned = plan_models(workspace, &graph, &changes, tables, options.select.as_deref()).await?.steps;
    let ways = ways(&graph, &planned, &changes)?;
    let days = window.days().into_iter().map(Some).collect();
    let catalog = Catalog::load(&workspace.lake).await?;
    let (mut published, mut made) = (Vec::new(), BTreeSet::new());
    for (step, way) in planned.iter().zip(ways) {
        let (Some(reason), Some(way)) = (&step.reason, way) else { continue };
        let model = &step.model;
        let (filter, how) = match &way {
            Way::Customers => {
                (Some(is_one_of(ident(CUSTOMER), Arc::clone(&customers))), format!("{} customers", customers.len()))
            }
            Way::Days(day) => {
                (Some(is_one_of_days(day, &days)), format!("{} days, and those of changed rows", days.len()))
            }
            Way::Sums | Way::Whole => (None, "whole".to_string()),
        };
        let (mut rows, mut bytes) = (0, 0);
        if let Some(table) = Derived::open(&workspace.lake, &changes, &models::folder(&model.name)).await? {
            let frame = engine::reading_few_rows(&workspace.ctx).table(model.name.as_str()).await?;
            let all = frame.clone().count().await?;
            rows = match filter {
                Some(filter) => frame.filter(filter)?.count().await?,
                None => all,
            };
            let of_table: u64 = table.files()?.iter().map(|file| file.size).sum();
            bytes = (of_table as f64 * rows as f64 / all.max(1) as f64).round() as u64;
        }
        let what = model.name.clone();
        plan.steps.push(PlannedStep { stage: "build", what, why: format!("{reason}; {how}"), rows, bytes });
        published.extend(mart(model, &way, &catalog, &days));
        made.insert(model.name.clone());
    }
    for view in graph.models.iter().filter(|model| !model.header.build.is_table()) {
        if graph.expanded(&view.reads).iter().any(|read| made.contains(read)) {
            published.extend(mart(view, &Way::Whole, &catalog, &days));
        }
    }
    plan.steps.extend(published);
    Ok(plan)
}

async fn events_in(workspace: &Workspace, Window { since, until }: Window) -> Result<usize> {
    let events = format!("select event_id from events where {}", occurred_between(since, until - 1));
    Ok(engine::query(&workspace.ctx, &events).await?.count().await?)
}

/// The files of a model's mart that would be written again.
fn mart(model: &Model, way: &Way, catalog: &Catalog, days: &BTreeSet<Option<i32>>) -> Option<PlannedStep> {
    let mart = catalog.marts.get(&model.name)?;
    let (mut files, mut why) = (mart.files.clone(), "the file".to_string());
    if let Publish::ByDay(day) = &model.header.publish {
        why = format!("{} files", files.len());
        if *way != Way::Whole {
            let paths: BTreeSet<String> =
                days.iter().map(|value| marts::path_of_day(&model.name, day, *value)).collect();
            files.retain(|path, _| paths.contains(path));
            why = format!("{} of {} files, and those of changed rows", files.len(), mart.files.len());
        }
    }
    let (rows, bytes) = files.values().fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.bytes));
    Some(PlannedStep { stage: "publish", what: model.name.clone(), why, rows, bytes })
}
