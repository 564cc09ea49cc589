//! What the identity tables know of some identifiers and of all that links connect with them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringViewArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionContext, col};
use futures::TryStreamExt;
use hashbrown::{HashMap, HashSet};

use super::Links;
use super::columns::texts;
use super::rulings::Rulings;
use crate::derived::one_of::is_one_of;
use crate::engine;
use crate::error::{Error, Result};
use crate::functions::content_hash;
use crate::identifiers::Blocked;

/// What the identity tables know of some components.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) components: BTreeSet<String>,
    /// Customers of identifiers that were asked for beside, by identity key.
    pub(super) beside: HashMap<String, String>,
    /// Customer of each identifier, both by their content hashes.
    pub(super) customers: HashMap<[u8; 16], [u8; 16]>,
    pub(super) links: Links,
}

impl Known {
    /// The components of the identifiers with these keys, as far as they are known, and those that rulings link with
    /// them; with a time, only the identifiers and links first seen up to it. Of those `beside` only the customers.
    pub(super) async fn of(
        ctx: &SessionContext,
        blocked: &Blocked,
        (identity_keys, beside): (HashSet<String>, HashSet<String>),
        rulings: &Rulings,
        until: Option<i64>,
    ) -> Result<Self> {
        let ctx = &engine::reading_few_rows(ctx);
        let (components, beside) = components(ctx, identity_keys, beside, rulings).await?;
        let mut known = Self { components, beside, ..Self::default() };
        let components: HashSet<String> = known.components.iter().cloned().collect();
        let is_known_by = |first_seen: i64| until.is_none_or(|until| first_seen <= until);

        // Both are read while the first is taken in.
        let columns = ["kind", "value", "customer_id", "first_seen_at", "last_seen_at"];
        let mut identifiers = rows(ctx, "identity_map", "component", components.clone(), &columns).await?;
        let columns =
            ["from_kind", "from_value", "to_kind", "to_value", "first_seen_at", "last_seen_at", "event_count"];
        let mut links = rows(ctx, "identity_links", "component", components, &columns).await?;
        while let Some(batch) = identifiers.try_next().await? {
            let (kinds, values, customers) = (text(&batch, 0)?, text(&batch, 1)?, text(&batch, 2)?);
            let (first, last) = (times(&batch, 3)?, times(&batch, 4)?);
            for row in (0..batch.num_rows()).filter(|row| is_known_by(first[*row])) {
                let (kind, value) = (kinds.value(row), values.value(row));
                known.links.add_identifier(kind, value, first[row], last[row], blocked)?;
                known.customers.insert(content_hash(kind, value), id(customers.value(row))?);
            }
        }

        while let Some(batch) = links.try_next().await? {
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
}

/// Customers, by identity key, of the identifiers with these keys, as far as they are known.
pub async fn customers_of(ctx: &SessionContext, identity_keys: HashSet<String>) -> Result<HashMap<String, String>> {
    let ctx = &engine::reading_few_rows(ctx);
    let mut found = rows(ctx, "identity_map", "identity_key", identity_keys, &["identity_key", "customer_id"]).await?;
    let mut customers = HashMap::new();
    while let Some(batch) = found.try_next().await? {
        let (keys, of) = (text(&batch, 0)?, text(&batch, 1)?);
        customers.extend(keys.iter().flatten().map(String::from).zip(of.iter().flatten().map(String::from)));
    }
    Ok(customers)
}

/// Keys of the components of these identifiers and of those that rulings link with them, and the customers of those
/// beside, in one scan.
async fn components(
    ctx: &SessionContext,
    identity_keys: HashSet<String>,
    beside: HashSet<String>,
    rulings: &Rulings,
) -> Result<(BTreeSet<String>, HashMap<String, String>)> {
    let links: Vec<[String; 2]> = rulings.links().map(|(from, to)| [from.key(), to.key()]).collect();
    let mut wanted = identity_keys.clone();
    wanted.extend(links.iter().flatten().cloned());
    wanted.extend(beside.iter().cloned());
    let mut component_of: HashMap<String, String> = HashMap::new();
    let mut customers = HashMap::new();
    let columns = ["identity_key", "component", "customer_id"];
    let mut found = rows(ctx, "identity_map", "identity_key", wanted, &columns).await?;
    while let Some(batch) = found.try_next().await? {
        let (keys, components, of) = (text(&batch, 0)?, text(&batch, 1)?, text(&batch, 2)?);
        let is_beside = |(key, _): &(&str, &str)| beside.contains(*key);
        let of = keys.iter().flatten().zip(of.iter().flatten()).filter(is_beside);
        customers.extend(of.map(|(key, customer)| (key.to_string(), customer.to_string())));
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
            return Ok((touched, customers));
        }
    }
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
