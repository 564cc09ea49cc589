//! The result of identity as four tables, in batches.
//!
//! All text is `Utf8`, times are microseconds in UTC, and no column has nulls. Rows come in order: identifiers by kind
//! and value, links and refusals by their two ends, of which the lower is `from`. `component` is the key of what all links,
//! followed or refused, connect: no row of another component has any part in the result of this one. A batch is made when it is asked for,
//! so that no table stands in memory as a whole.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use rayon::prelude::*;

use super::Resolution;
use super::identity_key::identity_key;

/// What `identity_map` holds, as the header of a model says it.
pub const MAP_HEADER: &str = "\
-- Identity map: every usable identifier with its customer.
--
-- grain:      kind, value
-- columns:
--   kind: kind of the identifier, such as email or user_id
--   value: the identifier, normalised; a pseudonym where configured
--   identity_key: kind:value, as int_events_resolved joins it
--   customer_id: the customer that it belongs to
--   first_seen_at: first time on an event
--   last_seen_at: last time on an event
--   component: key of all that links connect, those not followed too
";

/// What `identity_customers` holds.
pub const CUSTOMERS_HEADER: &str = "\
-- Identity customers: every customer that has an identifier.
--
-- grain:      customer_id
-- columns:
--   customer_id: the customer
--   identifier_count: identifiers of the customer
--   identifier_kinds: how many of each kind, such as email=2,user_id=1; kinds ascending
";

/// What `identity_links` holds.
pub const LINKS_HEADER: &str = "\
-- Identity links: pairs of identifiers seen on one event, followed or not.
--
-- grain:      from_kind, from_value, to_kind, to_value
-- columns:
--   from_kind: kind of the lower identifier
--   from_value: value of the lower identifier
--   to_kind: kind of the upper identifier
--   to_value: value of the upper identifier
--   first_seen_at: first time on one event
--   last_seen_at: last time on one event
--   event_count: events that show both
--   as in identity_map: component
";

/// What `identity_refusals` holds.
pub const REFUSALS_HEADER: &str = "\
-- Identity refusals: links that were not followed, and the rule that refused them.
--
-- grain:      from_kind, from_value, to_kind, to_value
-- columns:
--   first_seen_at: first time on one event; of a ruling that no event shows, when both identifiers were seen
--   rule: max_links, limit:KIND, max_identifiers or ruling
--   detail: what the rule found
--   as in identity_links: from_kind, from_value, to_kind, to_value, component
";

/// Rows of a batch; the last may have fewer.
pub const BATCH_ROWS: usize = 65_536;

static MAP: LazyLock<SchemaRef> = LazyLock::new(|| {
    let columns = ["kind", "value", "identity_key", "customer_id"].map(text);
    schema(columns.into_iter().chain(["first_seen_at", "last_seen_at"].map(time)).chain([text("component")]))
});

static LINKS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let ends = ["from_kind", "from_value", "to_kind", "to_value"].map(text);
    let times = ["first_seen_at", "last_seen_at"].map(time);
    schema(ends.into_iter().chain(times).chain([Field::new("event_count", DataType::Int64, false), text("component")]))
});

static REFUSALS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let ends = ["from_kind", "from_value", "to_kind", "to_value"].map(text);
    schema(ends.into_iter().chain([time("first_seen_at")]).chain(["rule", "detail", "component"].map(text)))
});

static CUSTOMERS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let count = Field::new("identifier_count", DataType::Int64, false);
    schema([text("customer_id"), count, text("identifier_kinds")].into_iter())
});

/// Columns of `identity_map`: `kind`, `value`, `identity_key`, `customer_id`, `first_seen_at`, `last_seen_at`,
/// `component`.
pub fn identity_map_schema() -> SchemaRef {
    MAP.clone()
}

/// Columns of `identity_links`: `from_kind`, `from_value`, `to_kind`, `to_value`, `first_seen_at`, `last_seen_at`,
/// `event_count`, `component`.
pub fn identity_links_schema() -> SchemaRef {
    LINKS.clone()
}

/// Columns of `identity_refusals`: `from_kind`, `from_value`, `to_kind`, `to_value`, `first_seen_at`, `rule`, `detail`,
/// `component`.
pub fn identity_refusals_schema() -> SchemaRef {
    REFUSALS.clone()
}

/// Columns of `identity_customers`: `customer_id`, `identifier_count`, `identifier_kinds` (`email=2,user_id=1`, by kind).
pub fn identity_customers_schema() -> SchemaRef {
    CUSTOMERS.clone()
}

/// One row per usable identifier, with its customer.
pub fn identity_map(resolution: Arc<Resolution>) -> impl Iterator<Item = RecordBatch> + Send + use<> {
    batches(resolution.identifier_count()).map(move |rows| map_batch(&resolution, rows))
}

/// One row per pair of identifiers seen on one event, followed or not.
pub fn identity_links(resolution: Arc<Resolution>) -> impl Iterator<Item = RecordBatch> + Send + use<> {
    batches(resolution.link_count()).map(move |rows| links_batch(&resolution, rows))
}

/// One row per link that was not followed.
pub fn identity_refusals(resolution: Arc<Resolution>) -> impl Iterator<Item = RecordBatch> + Send + use<> {
    batches(resolution.refusals.len()).map(move |rows| refusals_batch(&resolution, rows))
}

/// One row per customer that has an identifier. Takes 8 bytes per identifier until the last batch is made.
pub fn identity_customers(resolution: Arc<Resolution>) -> impl Iterator<Item = RecordBatch> + Send + use<> {
    let kind_of = |position: usize| resolution.collected.identifiers[position].kind;
    let customers = resolution.customers.iter().enumerate();
    let mut kinds: Vec<(u32, u16)> = customers.map(|(position, customer)| (*customer, kind_of(position))).collect();
    kinds.par_sort_unstable();
    let mut begun = 0;
    std::iter::from_fn(move || {
        let mut of_customers = kinds[begun..].chunk_by(|a, b| a.0 == b.0).take(BATCH_ROWS).peekable();
        of_customers.peek()?;
        let (mut ids, mut counts, mut texts) = (StringBuilder::new(), Vec::new(), StringBuilder::new());
        for of_customer in of_customers {
            begun += of_customer.len();
            ids.append_value(resolution.customer_id(of_customer[0].0));
            counts.push(of_customer.len() as i64);
            let count = |kinds: &[(u32, u16)]| format!("{}={}", resolution.kind(kinds[0].1), kinds.len());
            let of_kinds: Vec<String> = of_customer.chunk_by(|a, b| a == b).map(count).collect();
            texts.append_value(of_kinds.join(","));
        }
        let counts = Arc::new(Int64Array::from(counts));
        Some(record_batch(&CUSTOMERS, vec![Arc::new(ids.finish()), counts, Arc::new(texts.finish())]))
    })
}

fn map_batch(resolution: &Resolution, rows: Range<usize>) -> RecordBatch {
    let identifiers = || rows.clone().map(|position| resolution.identifier(position));
    record_batch(
        &MAP,
        vec![
            texts(identifiers().map(|identifier| identifier.kind)),
            texts(identifiers().map(|identifier| identifier.value)),
            texts(identifiers().map(|identifier| identity_key(identifier.kind, identifier.value))),
            texts(identifiers().map(|identifier| resolution.customer_id(identifier.customer))),
            times(identifiers().map(|identifier| identifier.first_seen)),
            times(identifiers().map(|identifier| identifier.last_seen)),
            texts(identifiers().map(|identifier| resolution.component_key(identifier.component))),
        ],
    )
}

fn links_batch(resolution: &Resolution, rows: Range<usize>) -> RecordBatch {
    let links = &resolution.collected.links[rows];
    let mut columns = ends(resolution, links.iter().map(|link| (link.a, link.b)));
    columns.push(times(links.iter().map(|link| link.first_seen)));
    columns.push(times(links.iter().map(|link| link.last_seen)));
    columns.push(Arc::new(Int64Array::from_iter_values(links.iter().map(|link| link.event_count.cast_signed()))));
    columns.push(components(resolution, links.iter().map(|link| link.a)));
    record_batch(&LINKS, columns)
}

fn refusals_batch(resolution: &Resolution, rows: Range<usize>) -> RecordBatch {
    let refusals = &resolution.refusals[rows];
    let mut columns = ends(resolution, refusals.iter().map(|refusal| (refusal.a, refusal.b)));
    columns.push(times(refusals.iter().map(|refusal| refusal.first_seen)));
    columns.push(texts(refusals.iter().map(|refusal| resolution.rule_name(refusal.rule))));
    columns.push(texts(refusals.iter().map(|refusal| resolution.rule_detail(refusal.rule))));
    columns.push(components(resolution, refusals.iter().map(|refusal| refusal.a)));
    record_batch(&REFUSALS, columns)
}

/// Kind and value of the lower, then of the upper end.
fn ends(resolution: &Resolution, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Vec<ArrayRef> {
    let identifier = |position: u32| resolution.identifier(position as usize);
    vec![
        texts(pairs.clone().map(|(from, _)| identifier(from).kind)),
        texts(pairs.clone().map(|(from, _)| identifier(from).value)),
        texts(pairs.clone().map(|(_, to)| identifier(to).kind)),
        texts(pairs.map(|(_, to)| identifier(to).value)),
    ]
}

/// Key of the component of each of these identifiers.
fn components(resolution: &Resolution, positions: impl Iterator<Item = u32>) -> ArrayRef {
    let component = |position: u32| resolution.identifier(position as usize).component;
    texts(positions.map(|position| resolution.component_key(component(position))))
}

fn batches(rows: usize) -> impl Iterator<Item = Range<usize>> + Send + use<> {
    (0..rows).step_by(BATCH_ROWS).map(move |start| start..rows.min(start + BATCH_ROWS))
}

fn texts(values: impl Iterator<Item = impl AsRef<str>>) -> ArrayRef {
    let mut column = StringBuilder::new();
    for value in values {
        column.append_value(value);
    }
    Arc::new(column.finish())
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn record_batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema.clone(), columns).expect("columns are made for their schema")
}

fn schema(fields: impl Iterator<Item = Field>) -> SchemaRef {
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

fn time(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::AsArray;
    use arrow::util::pretty::pretty_format_batches;

    use super::super::{Links, Rules, resolve};
    use super::*;
    use crate::functions::content_id;
    use crate::identifiers::Blocked;

    fn resolution(events: &[(&[(&str, &str)], i64)], rules: &Rules) -> Arc<Resolution> {
        let mut links = Links::new();
        for (identifiers, time) in events {
            links.add_event(identifiers.iter().copied(), *time, &Blocked::default()).unwrap();
        }
        Arc::new(resolve(links, rules))
    }

    fn printed(batches: impl Iterator<Item = RecordBatch>) -> Vec<String> {
        let table = pretty_format_batches(&batches.collect::<Vec<_>>()).unwrap().to_string();
        let rows = table.lines().filter(|line| line.starts_with('|'));
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(",")).collect()
    }

    #[test]
    fn the_tables_show_who_was_linked_and_who_was_not() {
        let events: [(&[(&str, &str)], i64); 3] = [
            (&[("user_id", "ann"), ("anonymous_id", "tablet")], 1_000_000),
            (&[("user_id", "bob"), ("anonymous_id", "tablet")], 2_000_000),
            (&[("user_id", "ann"), ("anonymous_id", "tablet")], 3_000_000),
        ];
        let rules = Rules { limits: BTreeMap::from([("user_id".to_string(), 1)]), ..Rules::default() };
        let resolution = resolution(&events, &rules);
        // Both of Ann's identifiers are first seen at once: the smaller hash names her.
        let ann = content_id("anonymous_id", "tablet").min(content_id("user_id", "ann"));
        let bob = content_id("user_id", "bob");
        let all = ann.clone().min(bob.clone());
        assert_eq!(
            printed(identity_map(resolution.clone())),
            [
                "kind,value,identity_key,customer_id,first_seen_at,last_seen_at,component".to_string(),
                format!(
                    "anonymous_id,tablet,anonymous_id:tablet,{ann},1970-01-01T00:00:01Z,1970-01-01T00:00:03Z,{all}"
                ),
                format!("user_id,ann,user_id:ann,{ann},1970-01-01T00:00:01Z,1970-01-01T00:00:03Z,{all}"),
                format!("user_id,bob,user_id:bob,{bob},1970-01-01T00:00:02Z,1970-01-01T00:00:02Z,{all}"),
            ]
        );
        assert_eq!(
            printed(identity_links(resolution.clone())),
            [
                "from_kind,from_value,to_kind,to_value,first_seen_at,last_seen_at,event_count,component".to_string(),
                format!("anonymous_id,tablet,user_id,ann,1970-01-01T00:00:01Z,1970-01-01T00:00:03Z,2,{all}"),
                format!("anonymous_id,tablet,user_id,bob,1970-01-01T00:00:02Z,1970-01-01T00:00:02Z,1,{all}"),
            ]
        );
        assert_eq!(
            printed(identity_customers(resolution.clone())),
            [
                "customer_id,identifier_count,identifier_kinds".to_string(),
                format!("{ann},2,anonymous_id=1,user_id=1"),
                format!("{bob},1,user_id=1"),
            ]
        );
        assert_eq!(
            printed(identity_refusals(resolution)),
            [
                "from_kind,from_value,to_kind,to_value,first_seen_at,rule,detail,component".to_string(),
                format!(
                    "anonymous_id,tablet,user_id,bob,1970-01-01T00:00:02Z,limit:user_id,\
                     the customer would have 2 values of user_id,{all}"
                ),
            ]
        );
    }

    #[test]
    fn no_events_make_no_batches() {
        let resolution = resolution(&[], &Rules::default());
        assert_eq!(identity_map(resolution.clone()).count(), 0);
        assert_eq!(identity_customers(resolution.clone()).count(), 0);
        assert_eq!(identity_links(resolution.clone()).count(), 0);
        assert_eq!(identity_refusals(resolution).count(), 0);
    }

    #[test]
    fn many_identifiers_come_in_ordered_batches() {
        let mut links = Links::new();
        for number in (0..BATCH_ROWS + 10).rev() {
            links.add_event([("user_id", format!("u{number:06}").as_str())], 0, &Blocked::default()).unwrap();
        }
        let resolution = Arc::new(resolve(links, &Rules::default()));
        let customers: Vec<_> = identity_customers(resolution.clone()).map(|batch| batch.num_rows()).collect();
        assert_eq!(customers, [BATCH_ROWS, 10]);
        let batches: Vec<_> = identity_map(resolution).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [BATCH_ROWS, 10]);
        assert_eq!(batches[0].schema(), identity_map_schema());
        assert_eq!(batches[1].column(1).as_string::<i32>().value(0), "u065536");
    }
}
