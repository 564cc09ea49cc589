//! From the last state to the next: which customers the events that came since have touched.
//!
//! Touched are the customers of new events; those of identifiers that are new or whose customer is another than before, under both ids; and
//! those who have an event at one of the configured ages, seen from the logical time before and now, since a journey
//! expires and an attempt times out without a new event; and those of a backfill. The identity tables are changed in the
//! same step. When rules of identity changed or much is new, everything is touched and no list is made. Whom a changed
//! statement or setting concerns is each model's affair: it is built whole, and so is all that is made of it.

use std::collections::BTreeSet;

use arrow::datatypes::Date32Type;
use datafusion::prelude::{ident, lit};

use super::backfill::Backfill;
use super::tables::Tables;
use super::touched::{EventsOfTouched, ages};
use crate::delta::Table;
use crate::derived::changes::{Changes, State};
use crate::derived::keys;
use crate::derived::window::Window;
use crate::error::Result;
use crate::identity::stage::{self as identity, Resolved, Standing};
use crate::identity::update::update;
use crate::landing::events::{EVENTS, PARTITION};
use crate::models;
use crate::models::graph::Graph;
use crate::models::update::News;
use crate::workspace::Workspace;

/// What a step came to.
#[derive(Debug, Default)]
pub struct Advance {
    /// What was resolved, if identities were.
    pub resolved: Option<Resolved>,
    /// What is known of the step beside the state that it led to.
    pub news: News,
}

/// Brings the identity tables up to date and remembers the state, with the customers that are touched: from then on any run
/// goes the way to it. `begin` is told when there is something to do.
pub async fn advance(
    workspace: &Workspace,
    graph: &Graph,
    tables: &Tables,
    changes: &mut Changes,
    backfill: Option<&Backfill>,
    mut begin: impl FnMut(),
) -> Result<Advance> {
    let mut now = next_state(workspace, graph, tables, changes, backfill);
    let events = &tables.prints.fingerprints["events"];
    let Standing { stale: reason, fingerprint } = identity::standing(workspace, changes, events).await?;
    let last = changes.states.last().cloned();
    if reason.is_none() && last.as_ref().is_some_and(|last| last.fingerprints == now.fingerprints) {
        return Ok(Advance::default());
    }
    begin();
    let mut advance = Advance::default();
    match last {
        Some(last) if can_follow(workspace, &last, &now, fingerprint.as_ref()).await? => {
            let events_of_touched = EventsOfTouched::of(workspace, changes, &last, &now).await?;
            let mut touched = if reason.is_some() {
                let new_events = workspace.ctx.table("events").await?.filter(ident("batch").gt(lit(last.batch)))?;
                let new_events = new_events.select_columns(&["identifiers", "occurred_at"])?;
                let update = update(workspace, new_events, events_of_touched.keys()).await?;
                identity::lay(workspace, changes, events, &update).await?;
                identity::register(workspace, changes).await?;
                let touched = events_of_touched.customers_after(&update);
                (advance.resolved, advance.news.moves) = (Some(update.resolved), Some(update.moves));
                touched
            } else {
                events_of_touched.customers(workspace).await?
            };
            touched.extend(backfill.iter().flat_map(|backfill| backfill.strays.iter().cloned()));
            now.touched = Some(keys::write(&workspace.lake, "touched", touched.iter().map(String::as_str)).await?);
        }
        _ => {
            if let Some(reason) = reason {
                advance.resolved = Some(identity::run(workspace, events, reason).await?);
                identity::register(workspace, changes).await?;
            }
        }
    }
    changes.states.push(now);
    changes.save(&workspace.lake).await?;
    Ok(advance)
}

/// What everything is built from once this run has come to its end; whom the step touches is not told yet.
pub fn next_state(
    workspace: &Workspace,
    graph: &Graph,
    tables: &Tables,
    changes: &Changes,
    backfill: Option<&Backfill>,
) -> State {
    let mut backfills = changes.backfills();
    if let Some(backfill) = backfill {
        backfills.extend(backfill.models.iter().map(|model| (model.clone(), backfill.id.clone())));
    }
    State {
        fingerprints: models::up_to_date(graph, &tables.prints, &backfills).fingerprints,
        as_of: tables.as_of,
        ages: ages(&workspace.project.config),
        batch: tables.last_batch,
        touched: None,
        backfill: backfill.map(|backfill| backfill.window),
        backfills,
    }
}

/// Whether the customers of the next state differ from those of the last by some events and the time alone, given the
/// fingerprint of the identity tables as they are.
pub async fn can_follow(workspace: &Workspace, last: &State, now: &State, identity: Option<&String>) -> Result<bool> {
    let table_of = |state: &State| state.fingerprints["events"].split_once(" batch ").map(|(id, _)| id.to_string());
    if table_of(last) != table_of(now) || last.batch > now.batch {
        return Ok(false);
    }
    if identity != last.fingerprints.get(identity::TABLES[0]) {
        return Ok(false);
    }
    let Some(events) = Table::open(&workspace.lake, EVENTS).await? else { return Ok(false) };
    let days: BTreeSet<String> = now
        .backfill
        .iter()
        .flat_map(Window::days)
        .filter_map(|day| Some(Date32Type::to_naive_date_opt(day)?.to_string()))
        .collect();
    let (mut all, mut new) = (0, 0);
    for file in events.files()? {
        all += file.rows;
        let is_asked_for = file.partition.iter().any(|(column, day)| column == PARTITION && days.contains(day));
        if is_asked_for || file.batches.is_none_or(|(_, newest)| newest > last.batch) {
            new += file.rows;
        }
    }
    Ok(new as f64 <= workspace.project.config.engine.rebuild_share * all as f64)
}
