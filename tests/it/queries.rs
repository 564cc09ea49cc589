//! The built-in models over the odd cases: every mart holds what `sample-data/odd-cases/expected` says, whatever the
//! threads and the size of batches; every check passes on it and fails on data that was tampered with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use wayline::config::Project;
use wayline::derived::storage::{stored_schema, to_stored};
use wayline::functions::register_all;
use wayline::identifiers::Blocked;
use wayline::identity::identity_key_udf;
use wayline::models::graph::Graph;
use wayline::models::header::Build;
use wayline::models::settings;

/// Expected files, and the queries that give their rows.
const EXPECTED: [(&str, &str); 12] = [
    ("touchpoints", "select * from touchpoints"),
    ("sessions", "select * from sessions"),
    ("journeys", "select * from journeys"),
    ("customers", "select * from customers"),
    ("funnel_attempts", "select * from int_funnel_attempts"),
    ("funnel_steps", "select * from funnel_steps"),
    ("drop_offs", "select * from drop_offs"),
    ("paths", "select * from paths"),
    ("path_edges", "select * from path_edges"),
    ("channel_switches", "select * from channel_switches"),
    ("stage_channels", "select * from stage_channels"),
    ("data_quality", "select * from data_quality"),
];

/// A check, a table, and what stands in that table for the check to fail.
const TAMPERED: &[(&str, &str, &str)] = &[
    ("drop_off_outcomes_add_up_to_those_who_entered", "drop_offs", "select * from drop_offs where outcome <> 'open'"),
    (
        "drop_off_outcomes_add_up_to_those_who_entered",
        "drop_offs",
        "select * from drop_offs where funnel <> 'checkout'",
    ),
    (
        "drop_off_outcomes_add_up_to_those_who_entered",
        "funnel_steps",
        "select * from funnel_steps where funnel <> 'checkout'",
    ),
    ("path_inflow_equals_outflow", "path_edges", "select * from path_edges where position <> 2"),
    ("path_inflow_equals_outflow", "path_edges", "select * from path_edges where to_touchpoint <> '(exit)'"),
    ("path_inflow_equals_outflow", "path_edges", "select * replace (journeys + 1 as journeys) from path_edges"),
    ("path_inflow_equals_outflow", "path_edges", "select * replace (journeys * 2 as journeys) from path_edges"),
    ("path_inflow_equals_outflow", "path_edges", "select * replace (journeys as converted) from path_edges"),
    ("path_inflow_equals_outflow", "path_edges", "select * from path_edges where false"),
    ("paths_hold_every_journey", "paths", "select * from paths where started_date <> '2025-02-10'"),
    ("paths_hold_every_journey", "paths", "select * replace (journeys as converted) from paths"),
    ("paths_hold_every_journey", "paths", "select * replace (value + 1 as value) from paths"),
    ("stage_channels_hold_every_event", "stage_channels", "select * from stage_channels where channel <> 'web'"),
    (
        "switches_in_the_mart_equal_switches_in_journeys",
        "channel_switches",
        "select * from channel_switches where scope = 'within'",
    ),
    (
        "switches_in_the_mart_equal_switches_in_journeys",
        "channel_switches",
        "select * replace (cast(0 as bigint) as converted_after) from channel_switches",
    ),
    ("every_event_is_in_exactly_one_session", "sessions", "select * from sessions where session_id not like '0%'"),
    ("every_event_is_in_exactly_one_session", "sessions", "select * from sessions union all select * from sessions"),
    ("every_event_is_in_exactly_one_session", "sessions", "select * replace (value + 1 as value) from sessions"),
    (
        "every_event_is_in_exactly_one_session",
        "journeys",
        "select * replace (array_replace_all(session_ids, session_ids[1], session_ids[-1]) as session_ids) from journeys",
    ),
    ("every_event_is_in_exactly_one_session", "events", "select * from events where event_id <> 'w-anna-1'"),
    ("every_event_is_in_exactly_one_journey", "journeys", "select * from journeys where state <> 'open'"),
    ("every_event_is_in_exactly_one_journey", "journeys", "select * from journeys union all select * from journeys"),
    (
        "every_event_is_in_exactly_one_journey",
        "journeys",
        "select * replace (array_replace_all(event_ids, 'w-anna-2', 'w-anna-1') as event_ids) from journeys",
    ),
    (
        "every_event_is_in_exactly_one_journey",
        "journeys",
        "select * replace (array_replace_all(event_ids, 'w-anna-2', 'w-bert-1') as event_ids) from journeys",
    ),
    (
        "every_event_is_in_exactly_one_journey",
        "events",
        "select * replace (case event_id when 'w-rita-2' then 'w-rita-3' when 'w-rita-3' then 'w-rita-2' else event_id end \
         as event_id) from events",
    ),
    (
        "every_event_is_in_exactly_one_journey",
        "journeys",
        "select * replace (array_reverse(times) as times) from journeys",
    ),
    ("every_event_is_in_exactly_one_journey", "events", "select * from events where event_id <> 'w-anna-1'"),
    (
        "rows_in_equal_landed_duplicates_and_dead_letters",
        "data_quality",
        "select * replace (dead_letters + 1 as dead_letters) from data_quality",
    ),
    ("rows_in_equal_landed_duplicates_and_dead_letters", "events", "select * from events where event_id <> 'w-anna-1'"),
    (
        "rows_in_equal_landed_duplicates_and_dead_letters",
        "data_quality",
        "select * from data_quality where source <> 'web'",
    ),
    (
        "sessions_do_not_overlap",
        "sessions",
        "select * replace (ended_at + interval '30 minutes' as ended_at) from sessions",
    ),
    (
        "sessions_do_not_overlap",
        "sessions",
        "select * replace (started_at + interval '1 hour' as started_at) from sessions",
    ),
    ("journeys_end_with_their_goal", "journeys", "select * replace (true as is_converted) from journeys"),
    ("journeys_end_with_their_goal", "journeys", "select * replace (false as is_converted) from journeys"),
    ("journeys_end_with_their_goal", "journeys", "select * replace ('converted' as state) from journeys"),
    ("journeys_end_with_their_goal", "journeys", "select * replace ('open' as state) from journeys"),
    ("journeys_end_with_their_goal", "goals", "select 'search' as touchpoint, cast(null as varchar) as channel"),
    (
        "customers_events_equal_landed_events",
        "customers",
        "select * replace (event_count + 1 as event_count) from customers",
    ),
    ("customers_events_equal_landed_events", "sessions", "select * from sessions where channel_count = 1"),
    ("customers_events_equal_landed_events", "journeys", "select * from journeys where not is_converted"),
    ("funnel_steps_never_grow", "funnel_steps", "select * replace (reached + step as reached) from funnel_steps"),
    (
        "funnel_steps_never_grow",
        "funnel_steps",
        "select * replace (reached + 1 as converted_to_next) from funnel_steps",
    ),
];

fn odd_cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-data/odd-cases")
}

/// An expected table as text, empty fields as null.
fn expected(name: &str) -> RecordBatch {
    let bytes = std::fs::read(odd_cases().join(format!("expected/{name}.csv"))).unwrap();
    let header = Format::default().with_header(true);
    let (found, _) = header.infer_schema(bytes.as_slice(), None).unwrap();
    let text = |field: &Arc<Field>| Field::new(field.name(), DataType::Utf8, true);
    let schema: SchemaRef = Arc::new(Schema::new(found.fields().iter().map(text).collect::<Vec<_>>()));
    let reader = ReaderBuilder::new(schema.clone()).with_header(true).with_batch_size(100_000).build(bytes.as_slice());
    let batches: Vec<RecordBatch> = reader.unwrap().collect::<Result<_, _>>().unwrap();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

async fn rows(ctx: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    let frame = ctx.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let schema = frame.schema().inner().clone();
    let mut batches = frame.collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    batches
}

fn register(ctx: &SessionContext, name: &str, batches: Vec<RecordBatch>) {
    ctx.deregister_table(name).unwrap();
    let table = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
    ctx.register_table(name, Arc::new(table)).unwrap();
}

/// Registers what a statement returns, in the types in which tables are stored.
async fn keep(ctx: &SessionContext, name: &str, sql: &str) {
    let batches = rows(ctx, sql).await;
    let schema = stored_schema(&batches[0].schema()).unwrap();
    register(ctx, name, batches.iter().map(|batch| to_stored(batch, &schema).unwrap()).collect());
}

/// The tables that landing and identity leave. The identifiers of events are not in the expected files, so each event
/// gets one of its customer's.
async fn register_inputs(ctx: &SessionContext) {
    for name in ["as_of", "data_quality", "events", "identity_map", "touchpoints"] {
        register(ctx, &format!("expected_{name}"), vec![expected(name)]);
    }
    let identity_map = "select kind, value, concat(kind, ':', value) as identity_key, customer_id, \
         arrow_cast(first_seen_at, 'Timestamp(µs, \"UTC\")') as first_seen_at, \
         arrow_cast(last_seen_at, 'Timestamp(µs, \"UTC\")') as last_seen_at from expected_identity_map";
    keep(ctx, "identity_map", identity_map).await;
    let identity_customers = "select customer_id, cast(sum(count) as bigint) as identifier_count, \
         string_agg(concat(kind, '=', count), ',' order by kind) as identifier_kinds \
         from (select customer_id, kind, count(*) as count from identity_map group by customer_id, kind) \
         group by customer_id";
    keep(ctx, "identity_customers", identity_customers).await;
    let events = "select events.event_id, arrow_cast(occurred_at, 'Timestamp(µs, \"UTC\")') as occurred_at, \
         arrow_cast(received_at, 'Timestamp(µs, \"UTC\")') as received_at, events.source, events.channel, events.touchpoint, \
         events.direction, events.stage, \
         case when kind is not null then [named_struct('kind', kind, 'value', named.value)] end as identifiers, \
         campaign, experiment, variant, cast(events.value as decimal(18, 4)) as value, currency, score_kind, \
         cast(score as decimal(18, 4)) as score, '{}' as properties, cast(1 as bigint) as batch, \
         cast(occurred_date as date) as occurred_date \
         from expected_events as events \
         inner join (select event_id, customer_id from expected_touchpoints) as touchpoints using (event_id) \
         left join (select customer_id, min(kind) as kind from expected_identity_map group by customer_id) as strongest \
         using (customer_id) \
         left join (select kind, customer_id, min(value) as value from expected_identity_map group by kind, customer_id) \
         as named using (kind, customer_id)";
    keep(ctx, "events", events).await;
    let counts = ["batch", "rows_in", "landed", "duplicates", "dead_letters", "files", "bytes"];
    let counts = counts.map(|name| format!("cast({name} as bigint) as {name}")).join(", ");
    let batches =
        format!("select source, {counts}, timestamp '2025-03-05T12:00:00Z' as planned_at from expected_data_quality");
    keep(ctx, "batches", &batches).await;
    let run_results = "select 'run-1' as run_id, now() as started_at, now() as completed_at, now() as as_of, \
         'success' as status, 98 as landed, 3 as duplicates, 9 as dead_letters, 15 as models_built, 0 as models_failed, \
         0 as checks_failed, 0.5 as elapsed_seconds";
    keep(ctx, "run_results", run_results).await;
}

/// A session in which all models stand as they do after a run over the odd cases.
async fn built(threads: usize, batch_size: usize) -> (SessionContext, Graph) {
    let config = SessionConfig::new().with_target_partitions(threads).with_batch_size(batch_size);
    let ctx = SessionContext::new_with_config(config);
    register_all(&ctx);
    let project = Project::load(&odd_cases()).unwrap();
    let blocked = Arc::new(Blocked::new(&project.config.identity.blocked, None));
    ctx.register_udf(identity_key_udf(project.config.identity.priority.clone(), blocked));
    register_inputs(&ctx).await;
    let times =
        cast(expected("as_of").column(0), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))).unwrap();
    let as_of = times.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(0);
    settings::register(&ctx, &project.config, Some(as_of)).unwrap();
    let graph = Graph::load(&ctx, Path::new("no-queries-of-its-own")).unwrap();
    build(&ctx, &graph).await;
    (ctx, graph)
}

async fn build(ctx: &SessionContext, graph: &Graph) {
    for model in &graph.models {
        if model.header.build != Build::View {
            keep(ctx, &model.name, &model.sql).await;
            continue;
        }
        let view = ctx.sql(&model.sql).await.unwrap_or_else(|error| panic!("{}: {error}", model.name));
        ctx.deregister_table(model.name.as_str()).unwrap();
        ctx.register_table(model.name.as_str(), view.into_view()).unwrap();
    }
}

/// A column as the expected files write it.
fn texts(column: &ArrayRef) -> Vec<String> {
    let column = match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values).unwrap(),
        _ => column.clone(),
    };
    let options = FormatOptions::default().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.6fZ"));
    let formatter = ArrayFormatter::try_new(&column, &options).unwrap();
    let text = |row| formatter.value(row).to_string();
    let is_list = matches!(column.data_type(), DataType::List(_));
    let listed = |text: String| text.trim_matches(['[', ']']).replace(", ", ",");
    (0..column.len()).map(|row| if is_list { listed(text(row)) } else { text(row) }).collect()
}

/// Rows in an order told by all but their floats: the texts, then the floats.
fn comparable(columns: &[ArrayRef], is_float: &[bool]) -> Vec<(Vec<String>, Vec<Option<f64>>)> {
    let columns: Vec<Vec<String>> = columns.iter().map(texts).collect();
    let count = columns.first().map_or(0, Vec::len);
    let row = |row: usize| {
        let of =
            |float: bool| columns.iter().zip(is_float).filter(move |(_, is)| **is == float).map(move |(c, _)| &c[row]);
        (of(false).cloned().collect(), of(true).map(|text| text.parse().ok()).collect())
    };
    let mut rows: Vec<(Vec<String>, Vec<Option<f64>>)> = (0..count).map(row).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

/// Fails unless a query returns the rows of an expected file: floats within 1e-9, all else to the last character.
async fn assert_as_expected(ctx: &SessionContext, name: &str, sql: &str) {
    let expected = expected(name);
    let batches = rows(ctx, sql).await;
    let actual = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    let (mut left, mut right, mut is_float) = (vec![], vec![], vec![]);
    for (field, column) in expected.schema().fields().iter().zip(expected.columns()) {
        let found = actual.column_by_name(field.name()).unwrap_or_else(|| panic!("{name}: no column {}", field.name()));
        is_float.push(matches!(found.data_type(), DataType::Float64));
        left.push(column.clone());
        right.push(found.clone());
    }
    let (left, right) = (comparable(&left, &is_float), comparable(&right, &is_float));
    for (expected, actual) in left.iter().zip(&right) {
        assert_eq!(expected.0, actual.0, "{name}");
        for (number, other) in expected.1.iter().zip(&actual.1) {
            let is_equal = match (number, other) {
                (Some(number), Some(other)) => (number - other).abs() <= 1e-9,
                (number, other) => number.is_none() && other.is_none(),
            };
            assert!(is_equal, "{name}: expected {expected:?}, got {actual:?}");
        }
    }
    assert_eq!(left.len(), right.len(), "{name}: number of rows");
}

async fn count(ctx: &SessionContext, sql: &str) -> usize {
    rows(ctx, sql).await.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test]
async fn every_mart_holds_what_the_odd_cases_expect_whatever_the_threads() {
    for (threads, batch_size) in [(1, 8192), (3, 2), (2, 7)] {
        let (ctx, _) = built(threads, batch_size).await;
        for (name, sql) in EXPECTED {
            assert_as_expected(&ctx, name, sql).await;
        }
    }
}

#[tokio::test]
async fn money_and_scores_stay_exact() {
    let (ctx, _) = built(2, 8192).await;
    for (model, columns) in [
        ("sessions", ["value"].as_slice()),
        ("journeys", &["value"]),
        ("paths", &["value"]),
        ("customers", &["value_total", "latest_csat", "latest_ces", "latest_nps"]),
    ] {
        let schema = rows(&ctx, &format!("select * from {model}")).await[0].schema();
        for column in columns {
            let data_type = schema.field_with_name(column).unwrap().data_type();
            assert!(matches!(data_type, DataType::Decimal128(_, 4)), "{model}.{column} is {data_type}");
        }
    }
}

#[tokio::test]
async fn counts_are_signed_numbers_and_no_column_is_of_a_type_that_files_cannot_hold() {
    let (ctx, graph) = built(2, 8192).await;
    for model in &graph.models {
        for field in ctx.table(model.name.as_str()).await.unwrap().schema().fields() {
            assert!(!field.data_type().is_unsigned_integer(), "{}.{}", model.name, field.name());
            assert!(!field.data_type().is_null(), "{}.{}", model.name, field.name());
        }
        for column in &model.header.grain {
            let has_column =
                ctx.table(model.name.as_str()).await.unwrap().schema().has_column_with_unqualified_name(column);
            assert!(has_column, "{}: its grain names {column}", model.name);
        }
    }
}

#[tokio::test]
async fn rules_and_checks_pass_on_the_odd_cases() {
    let (ctx, graph) = built(2, 8192).await;
    for model in &graph.models {
        for rule in &model.header.checks {
            assert_eq!(count(&ctx, &rule.query(&model.name)).await, 0, "{}: {rule}", model.name);
        }
    }
    for check in &graph.checks {
        assert_eq!(count(&ctx, &check.sql).await, 0, "{}", check.name);
    }
}

#[tokio::test]
async fn every_check_fails_on_tampered_data() {
    let (ctx, graph) = built(2, 8192).await;
    for check in &graph.checks {
        assert!(TAMPERED.iter().any(|(name, _, _)| *name == check.name), "{} is never seen to fail", check.name);
    }
    for (name, table, sql) in TAMPERED {
        let check = graph.checks.iter().find(|check| check.name == *name).unwrap();
        let kept = rows(&ctx, &format!("select * from {table}")).await;
        let tampered = rows(&ctx, sql).await;
        register(&ctx, table, tampered);
        assert!(count(&ctx, &check.sql).await > 0, "{name} does not see: {sql}");
        register(&ctx, table, kept);
        assert_eq!(count(&ctx, &check.sql).await, 0, "{name} after {table} was put back");
    }
}

#[tokio::test]
async fn models_over_no_events_at_all_are_empty_and_pass_their_checks() {
    let (ctx, graph) = built(2, 8192).await;
    for table in ["events", "identity_map", "batches"] {
        let empty = rows(&ctx, &format!("select * from {table} where false")).await;
        register(&ctx, table, empty);
    }
    build(&ctx, &graph).await;
    for model in graph.models.iter().filter(|model| model.name != "runs") {
        assert_eq!(count(&ctx, &format!("select * from {}", model.name)).await, 0, "{}", model.name);
    }
    for check in &graph.checks {
        assert_eq!(count(&ctx, &check.sql).await, 0, "{}", check.name);
    }
}
