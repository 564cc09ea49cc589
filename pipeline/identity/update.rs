//! Identity after new events: only the components that they touch are resolved again.
//!
//! A component resolves by itself, so the rows of all others stay as they are, and the tables end where resolving all
//! events would put them. What is read: one column of `identity_map` to find the components, then their rows of
//! `identity_map` and `identity_links`. Memory: the new events and these components.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::DataFrame;
use hashbrown::{HashMap, HashSet};

use super::identity_key::identity_key;
use super::known::Known;
pub use super::known::customers_of;
use super::rulings::{Identifier, Rulings};
use super::stage::{self, Resolved};
use super::{Links, Resolution, Rules, resolve, tables};
use crate::error::Result;
use crate::functions::content_hash;
use crate::workspace::Workspace;

/// Rows that take the place of others. Batches have the schemas of the identity tables.
#[derive(Debug)]
pub struct Update {
    /// Keys (`component`) of the rows of `identity_map`, `identity_links` and `identity_refusals` that go.
    pub replaced_components: Vec<String>,
    /// Keys (`customer_id`) of the rows of `identity_customers` that go.
    pub replaced_customers: Vec<String>,
    /// New rows of `identity_map`.
    pub map: Vec<RecordBatch>,
    /// New rows of `identity_customers`.
    pub customers: Vec<RecordBatch>,
    /// New rows of `identity_links`.
    pub links: Vec<RecordBatch>,
    /// New rows of `identity_refusals`.
    pub refusals: Vec<RecordBatch>,
    /// Every identifier of these components, by kind and value: `identity_key`, `customer_before` (null: the identifier
    /// is new), `customer_id`; all `Utf8`.
    pub moves: RecordBatch,
    /// Customers, before, of the identifiers that were asked for beside, by identity key.
    pub customers_before: HashMap<String, String>,
    /// What was resolved: these components.
    pub resolved: Resolved,
}

/// Resolves again what new events touch. Nothing is written.
///
/// - `new_events`: `identifiers` and `occurred_at` of events that the identity tables do not know yet
/// - `beside`: identity keys of which the customers are wanted too
///
/// The tables `identity_map` and `identity_links` are read from the session; they must have been made under today's
/// configuration and rulings.
pub async fn update(workspace: &Workspace, new_events: DataFrame, beside: HashSet<String>) -> Result<Update> {
    let started = Instant::now();
    let rules = stage::rules(workspace).await?;
    let links = stage::collect(new_events, &workspace.blocked).await?;
    let keys = (links.identity_keys(), beside);
    let known = Known::of(&workspace.ctx, &workspace.blocked, keys, &rules.rulings, None).await?;
    let update = tokio::task::spawn_blocking(move || resolved(known, links, &rules, "new data: events")).await;
    let mut update = stage::finished(update)?;
    update.resolved.seconds = started.elapsed().as_secs_f64();
    Ok(update)
}

/// What rulings would make of two identifiers and of all that links connect with them. Nothing is written.
pub async fn restate(workspace: &Workspace, ends: [&Identifier; 2], rulings: Rulings) -> Result<Update> {
    let keys = (ends.map(Identifier::key).into_iter().collect(), HashSet::new());
    let known = Known::of(&workspace.ctx, &workspace.blocked, keys, &rulings, None).await?;
    let rules = Rules { rulings, ..Rules::from(&workspace.project.config.identity) };
    resolved(known, Links::new(), &rules, "ruling")
}

/// Resolves what is known together with what is new.
fn resolved(known: Known, mut new: Links, rules: &Rules, reason: &str) -> Result<Update> {
    let Known { components, beside, customers, links } = known;
    new.merge(links)?;
    let resolution = Arc::new(resolve(new, rules));
    let replaced: BTreeSet<&[u8; 16]> = customers.values().collect();
    Ok(Update {
        replaced_components: components.into_iter().collect(),
        replaced_customers: replaced.into_iter().map(hex::encode).collect(),
        map: tables::identity_map(resolution.clone()).collect(),
        customers: tables::identity_customers(resolution.clone()).collect(),
        links: tables::identity_links(resolution.clone()).collect(),
        refusals: tables::identity_refusals(resolution.clone()).collect(),
        moves: moves(&resolution, &customers),
        customers_before: beside,
        resolved: stage::summary(&resolution, reason.into()),
    })
}

/// Every identifier with its customer before and now.
fn moves(resolution: &Resolution, before: &HashMap<[u8; 16], [u8; 16]>) -> RecordBatch {
    let [mut keys, mut customers_before, mut customers] = [(); 3].map(|()| StringBuilder::new());
    for identifier in resolution.identifiers() {
        let hash = content_hash(identifier.kind, identifier.value);
        keys.append_value(identity_key(identifier.kind, identifier.value));
        customers_before.append_option(before.get(&hash).map(hex::encode));
        customers.append_value(resolution.customer_id(identifier.customer));
    }
    let field = |name: &str, is_nullable| Field::new(name, DataType::Utf8, is_nullable);
    let fields = vec![field("identity_key", false), field("customer_before", true), field("customer_id", false)];
    let columns: Vec<ArrayRef> =
        [keys, customers_before, customers].map(|mut text| Arc::new(text.finish()) as _).into();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns are made for their schema")
}

#[cfg(test)]
mod tests;
