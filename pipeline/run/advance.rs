//! From the last state to the next: which customers the events that came since have touched.
//!
//! Touched are the customers of new events; those of identifiers whose customer is another than before, under both ids; and
//! those who have an event at one of the configured ages, seen from the logical time before and now, since a journey
//! expires and an attempt times out without a new event. The identity tables are changed in the same step. When
//! anything else changed (statements, settings, rules) or much is new, everything is touched and no list is made.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray, RecordBatch};
use datafusion::prelude::{ident, lit};
use sha2::{Digest, Sha256};

use super::tables::Tables;
use crate::config::Config;
use crate::delta::Table;
use crate::derived::changes::{Changes, State};
use crate::derived::keys;
use crate::engine;
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

/// Brings the identity tables up to date and remembers the state, with the customers that are touched. `begin` is told when
/// there is something to do.
pub async fn advance(
    workspace: &Workspace,
    graph: &Graph,
    tables: &Tables,
    changes: &mut Changes,
    mut begin: impl FnMut(),
) -> Result<Advance> {
    let mut now = State {
        fingerprints: models::up_to_date(graph, &tables.fingerprints),
        definitions: definitions(workspace, graph, tables).await?,
        as_of: tables.as_of,
        batch: tables.last_batch,
        touched: None,
    };
    let events = &tables.fingerprints["events"];
    let Standing { stale: reason, fingerprint } = identity::standing(workspace, changes, events).await?;
    let last = changes.states.last().cloned();
    if reason.is_none() && last.as_ref().is_some_and(|last| last.fingerprints == now.fingerprints) {
        return Ok(Advance::default());
    }
    begin();
    let mut advance = Advance::default();
    match last {
        Some(last) if can_follow(workspace, &last, &now, fingerprint.as_ref()).await? => {
            if reason.is_some() {
                let new_events = workspace.ctx.table("events").await?.filter(ident("batch").gt(lit(last.batch)))?;
                let update = update(workspace, new_events.select_columns(&["identifiers", "occurred_at"])?).await?;
                identity::lay(workspace, changes, events, &update).await?;
                identity::register(workspace, changes).await?;
                (advance.resolved, advance.news.moves) = (Some(update.resolved), Some(update.moves));
            }
            let touched = touched(workspace, &last, &now, advance.news.moves.as_ref()).await?;
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

/// A digest of all that defines tables beside the events and the time.
async fn definitions(workspace: &Workspace, graph: &Graph, tables: &Tables) -> Result<String> {
    let mut hasher = Sha256::new();
    for model in &graph.models {
        hasher.update(format!("{}\n{}\n", model.name, model.sql));
    }
    for name in &tables.settings {
        hasher.update(format!("{name}={}\n", tables.fingerprints[name]));
    }
    // The identity tables of no events at all are told by the rules alone.
    hasher.update(&identity::fingerprints(workspace, "").await?[identity::TABLES[0]]);
    Ok(hex::encode(&hasher.finalize()[..16]))
}

/// Whether the next state differs from the last by some events and the time alone, given the fingerprint of the identity
/// tables as they are.
async fn can_follow(workspace: &Workspace, last: &State, now: &State, identity: Option<&String>) -> Result<bool> {
    let table_of = |state: &State| state.fingerprints["events"].split_once(" batch ").map(|(id, _)| id.to_string());
    if last.definitions != now.definitions || table_of(last) != table_of(now) || last.batch > now.batch {
        return Ok(false);
    }
    if identity != last.fingerprints.get(identity::TABLES[0]) {
        return Ok(false);
    }
    let Some(events) = Table::open(&workspace.lake, EVENTS).await? else { return Ok(false) };
    let (mut all, mut new) = (0, 0);
    for file in events.files()? {
        all += file.rows;
        if file.batches.is_none_or(|(_, newest)| newest > last.batch) {
            new += file.rows;
        }
    }
    Ok(new as f64 <= workspace.project.config.engine.rebuild_share * all as f64)
}

async fn touched(
    workspace: &Workspace,
    last: &State,
    now: &State,
    moves: Option<&RecordBatch>,
) -> Result<BTreeSet<String>> {
    let mut touched = BTreeSet::new();
    if let Some(moves) = moves {
        let (before, now) = (moves.column(1).as_string::<i32>(), moves.column(2).as_string::<i32>());
        for row in (0..moves.num_rows()).filter(|row| before.is_valid(*row) && before.value(*row) != now.value(*row)) {
            touched.extend([before.value(row).to_string(), now.value(row).to_string()]);
        }
    }
    let conditions = conditions(&workspace.project.config, last, now);
    let events: Vec<String> = conditions
        .iter()
        .map(|condition| {
            format!("select event_id, identity_key(identifiers) as identity_key from events where {condition}")
        })
        .collect();
    let sql = format!(
        "with recent as ({}) \
         select distinct coalesce(identity_map.customer_id, content_id('event', recent.event_id)) \
         from recent left join identity_map on recent.identity_key = identity_map.identity_key",
        events.join(" union all ")
    );
    for batch in engine::query(&workspace.ctx, &sql).await?.collect().await? {
        touched.extend(keys::as_text(batch.column(0))?.iter().flatten().map(String::from));
    }
    Ok(touched)
}

/// Conditions of the events whose customers are touched: new ones, and those that have come to one of the configured ages
/// between the two logical times.
fn conditions(config: &Config, last: &State, now: &State) -> Vec<String> {
    let mut conditions = vec![format!("batch > {}", last.batch)];
    let (Some(before), Some(after)) = (last.as_of, now.as_of) else { return conditions };
    if before == after {
        return conditions;
    }
    let mut ages = BTreeSet::from([0, config.journeys.timeout.micros()]);
    ages.extend(config.funnels.iter().map(|funnel| funnel.window.micros()));
    for age in ages {
        // Both ends are in: whether a rule says `<` or `<=` is its own affair.
        let (first, end) = (before.min(after).saturating_sub(age), before.max(after).saturating_sub(age));
        conditions.push(format!(
            "{PARTITION} between cast(to_timestamp_micros({first}) as date) and cast(to_timestamp_micros({end}) as date) \
             and occurred_at between to_timestamp_micros({first}) and to_timestamp_micros({end})"
        ));
    }
    conditions
}
