//! Identity after new events: only the components that they touch are resolved again.
//!
//! A component resolves by itself, so the rows of all others stay as they are, and the tables end where resolving all
//! events would put them. What is read: one column of `identity_map` to find the components, then their rows of
//! `identity_map` and `identity_links`. Memory: the new events and these components.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringBuilder, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{DataFrame, SessionContext, col};
use futures::TryStreamExt;
use hashbrown::{HashMap, HashSet};

use super::columns::texts;
use super::identity_key::identity_key;
use super::one_of::is_one_of;
use super::rulings::Rulings;
use super::stage::{self, Resolved};
use super::{Links, Resolution, Rules, resolve, tables};
use crate::error::{Error, Result};
use crate::functions::content_hash;
use crate::identifiers::Blocked;
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
    /// What was resolved: these components.
    pub resolved: Resolved,
}

/// Resolves again what new events touch. Nothing is written.
///
/// - `new_events`: `identifiers` and `occurred_at` of events that the identity tables do not know yet
///
/// The tables `identity_map` and `identity_links` are read from the session; they must have been made under today's
/// configuration and rulings.
pub async fn update(workspace: &Workspace, new_events: DataFrame) -> Result<Update> {
    let started = Instant::now();
    let rules = stage::rules(workspace).await?;
    let links = stage::collect(new_events, &workspace.blocked).await?;
    let known = Known::of(&workspace.ctx, &workspace.blocked, links.identity_keys(), &rules.rulings, None).await?;
    let update = tokio::task::spawn_blocking(move || known.resolve_with(links, &rules)).await;
    let mut update = stage::finished(update)?;
    update.resolved.seconds = started.elapsed().as_secs_f64();
    Ok(update)
}

/// What the identity tables know of some components.
#[derive(Debug, Default)]
pub(super) struct Known {
    components: BTreeSet<String>,
    /// Customer of each identifier, both by their content hashes.
    customers: HashMap<[u8; 16], [u8; 16]>,
    links: Links,
}

impl Known {
    /// The components of the identifiers with these keys, as far as they are known, and those that rulings link with
    /// them; with a time, only the identifiers and links first seen up to it.
    pub(super) async fn of(
        ctx: &SessionContext,
        blocked: &Blocked,
        identity_keys: HashSet<String>,
        rulings: &Rulings,
        until: Option<i64>,
    ) -> Result<Self> {
        let ctx = &reading_few_rows(ctx);
        let mut known = Self { components: components(ctx, identity_keys, rulings).await?, ..Self::default() };
        let components: HashSet<String> = known.components.iter().cloned().collect();
        let is_known_by = |first_seen: i64| until.is_none_or(|until| first_seen <= until);

        let columns = ["kind", "value", "customer_id", "first_seen_at", "last_seen_at"];
        let mut found = rows(ctx, "identity_map", "component", components.clone(), &columns).await?;
        while let Some(batch) = found.try_next().await? {
            let (kinds, values, customers) = (text(&batch, 0)?, text(&batch, 1)?, text(&batch, 2)?);
            let (first, last) = (times(&batch, 3)?, times(&batch, 4)?);
            for row in (0..batch.num_rows()).filter(|row| is_known_by(first[*row])) {
                let (kind, value) = (kinds.value(row), values.value(row));
                known.links.add_identifier(kind, value, first[row], last[row], blocked)?;
                known.customers.insert(content_hash(kind, value), id(customers.value(row))?);
            }
        }

        let columns =
            ["from_kind", "from_value", "to_kind", "to_value", "first_seen_at", "last_seen_at", "event_count"];
        let mut found = rows(ctx, "identity_links", "component", components, &columns).await?;
        while let Some(batch) = found.try_next().await? {
            let from = (text(&batch, 0)?, text(&batch, 1)?);
            let to = (text(&batch, 2)?, text(&batch, 3)?);
            let (first, last) = (times(&batch, 4)?, times(&batch, 5)?);
            let counts = batch.column(6).as_primitive::<Int64Type>().values();
            for row in (0..batch.num_rows()).filter(|row| is_known_by(first[*row])) {
                let ends = [(from.0.value(row), from.1.value(row)), (to.0.value(row), to.1.value(row))];
                known.links.add_link(ends, first[row], last[row], counts[row].cast_unsigned(), blocked)?;
            }
        }
        Ok(known)
    }

    /// Resolves what is known together with what is new.
    fn resolve_with(self, mut new: Links, rules: &Rules) -> Result<Update> {
        let Self { components, customers, links } = self;
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
            resolved: stage::summary(&resolution, "new data: events".into()),
        })
    }
}

/// Keys of the components of these identifiers and of those that rulings link with them.
async fn components(
    ctx: &SessionContext,
    identity_keys: HashSet<String>,
    rulings: &Rulings,
) -> Result<BTreeSet<String>> {
    let links: Vec<[String; 2]> = rulings.links().map(|(from, to)| [from.key(), to.key()]).collect();
    let mut wanted = identity_keys.clone();
    wanted.extend(links.iter().flatten().cloned());
    let mut component_of: HashMap<String, String> = HashMap::new();
    let mut found = rows(ctx, "identity_map", "identity_key", wanted, &["identity_key", "component"]).await?;
    while let Some(batch) = found.try_next().await? {
        let (keys, components) = (text(&batch, 0)?, text(&batch, 1)?);
        component_of.extend(keys.iter().flatten().map(String::from).zip(components.iter().flatten().map(String::from)));
    }

    let mut touched: BTreeSet<String> = identity_keys.iter().filter_map(|key| component_of.get(key)).cloned().collect();
    // A ruling on a new identifier, or a new ruling, leads on to a component, whose rulings may lead on to others.
    loop {
        let is_touched = |key: &String, touched: &BTreeSet<String>| {
            identity_keys.contains(key) || component_of.get(key).is_some_and(|component| touched.contains(component))
        };
        let reached = links.iter().filter(|ends| ends.iter().any(|end| is_touched(end, &touched)));
        let reached: Vec<&String> = reached.flatten().filter_map(|end| component_of.get(end)).collect();
        let before = touched.len();
        touched.extend(reached.into_iter().cloned());
        if touched.len() == before {
            return Ok(touched);
        }
    }
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

/// A session over the same tables whose scans read other columns only for the rows that a filter keeps.
pub fn reading_few_rows(ctx: &SessionContext) -> SessionContext {
    let mut state = ctx.state();
    state.config_mut().options_mut().execution.parquet.pushdown_filters = true;
    SessionContext::new_with_state(state)
}

/// Columns of the rows of a table whose `key` is one of `keys`.
async fn rows(
    ctx: &SessionContext,
    table: &str,
    key: &str,
    keys: HashSet<String>,
    columns: &[&str],
) -> Result<SendableRecordBatchStream> {
    let frame = ctx.table(table).await?.filter(is_one_of(col(key), Arc::new(keys)))?;
    Ok(frame.select_columns(columns)?.execute_stream().await?)
}

fn text(batch: &RecordBatch, column: usize) -> Result<StringViewArray> {
    texts(batch.column(column)).ok_or_else(|| wrong_column(batch, column))
}

fn times(batch: &RecordBatch, column: usize) -> Result<&[i64]> {
    let times = batch.column(column).as_primitive_opt::<TimestampMicrosecondType>();
    Ok(times.ok_or_else(|| wrong_column(batch, column))?.values())
}

fn wrong_column(batch: &RecordBatch, column: usize) -> Error {
    let schema = batch.schema();
    let field = schema.field(column);
    Error::corrupt(format!("an identity table has a column `{}` of {}", field.name(), field.data_type()))
}

/// An id from its 32 hex digits.
fn id(digits: &str) -> Result<[u8; 16]> {
    let mut id = [0; 16];
    hex::decode_to_slice(digits, &mut id)
        .map_err(|_| Error::corrupt(format!("an identity table has the id `{digits}`, expected 32 hex digits")))?;
    Ok(id)
}

#[cfg(test)]
mod tests;
