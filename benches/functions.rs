//! The functions over rows and journeys in memory, in events per second. Each is a query as an analyst writes it, on one
//! thread; `baseline` is what the same query costs without the function. A name that ends in `_by_…` is the same question asked
//! in another way, of the same columns; [`PAIRS`] are seen to give the same rows before they are measured.
//!
//! ```sh
//! cargo bench --bench functions -- window_funnel
//! ```

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, DictionaryArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::Int32Type;
use arrow::util::pretty::pretty_format_batches;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use wayline::functions;

const EVENTS: usize = 1 << 18;
const CUSTOMERS: usize = 1 << 14;
const ROWS_PER_BATCH: usize = 8_192;
const TOUCHPOINTS: [&str; 12] = [
    "home",
    "search",
    "category",
    "product_view",
    "compare",
    "add_to_cart",
    "remove_from_cart",
    "checkout_start",
    "payment_failed",
    "purchase",
    "support",
    "review",
];
const CHANNELS: [&str; 6] = ["web", "mobile_app", "email", "store", "chat", "call_center"];

/// Events in the order of their times, so that customers are interleaved. `a` to `d` are four touchpoints.
fn events() -> Vec<RecordBatch> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut time = 1_700_000_000_000_000;
    let batch = |_| {
        let customers =
            Int64Array::from_iter_values((0..ROWS_PER_BATCH).map(|_| random.random_range(0..CUSTOMERS as i64)));
        let times = (0..ROWS_PER_BATCH).map(|_| {
            time += random.random_range(1..20_000_000);
            time
        });
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let touchpoints: Vec<usize> = (0..ROWS_PER_BATCH).map(|_| random.random_range(0..TOUCHPOINTS.len())).collect();
        let is = |touchpoint| BooleanArray::from_iter(touchpoints.iter().map(|other| Some(*other == touchpoint)));
        let channels: DictionaryArray<Int32Type> =
            (0..ROWS_PER_BATCH).map(|_| CHANNELS[random.random_range(0..CHANNELS.len())]).collect();
        let columns: [(&str, ArrayRef); 8] = [
            ("customer_id", Arc::new(customers)),
            ("occurred_at", Arc::new(times)),
            ("channel", Arc::new(channels)),
            ("a", Arc::new(is(3))),
            ("b", Arc::new(is(5))),
            ("c", Arc::new(is(7))),
            ("d", Arc::new(is(9))),
            (
                "touchpoint",
                Arc::new(touchpoints.iter().map(|number| TOUCHPOINTS[*number]).collect::<DictionaryArray<Int32Type>>()),
            ),
        ];
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    };
    (0..EVENTS / ROWS_PER_BATCH).map(batch).collect()
}

/// The journeys of the events: a row per customer.
const JOURNEYS: &str = "
    select
        customer_id,
        timeline['times'] as times,
        timeline['touchpoints'] as touchpoints,
        timeline['channels'] as channels,
        timeline['is_goals'] as is_goals
    from (
        select
            customer_id,
            timeline(
                occurred_at,
                cast(occurred_at as varchar),
                named_struct('touchpoints', touchpoint, 'channels', channel, 'is_goals', d)
            ) as timeline
        from events
        group by customer_id
    )";

/// Calls over the rows of a customer.
const AGGREGATES: &[(&str, &str)] = &[
    ("baseline", "count(*)"),
    ("arg_min", "arg_min(channel, occurred_at)"),
    ("window_funnel", "window_funnel(interval '7 days', occurred_at, a, b, c, d)"),
    (
        "window_funnel_strict_deduplication",
        "window_funnel(interval '7 days', 'strict_deduplication', occurred_at, a, b, c, d)",
    ),
    ("window_funnel_strict_order", "window_funnel(interval '7 days', 'strict_order', occurred_at, a, b, c, d)"),
    ("window_funnel_strict_increase", "window_funnel(interval '7 days', 'strict_increase', occurred_at, a, b, c, d)"),
    ("window_funnel_strict_once", "window_funnel(interval '7 days', 'strict_once', occurred_at, a, b, c, d)"),
    (
        "window_funnel_allow_reentry",
        "window_funnel(interval '7 days', 'strict_order, allow_reentry', occurred_at, a, b, c, d)",
    ),
    ("window_funnel_posthog_ordered", "window_funnel(interval '7 days', 'posthog_ordered', occurred_at, a, b, c, d)"),
    ("window_funnel_posthog_strict", "window_funnel(interval '7 days', 'posthog_strict', occurred_at, a, b, c, d)"),
    ("window_funnel_mixpanel", "window_funnel(interval '7 days', 'mixpanel', occurred_at, a, b, c, d)"),
    ("window_funnel_events", "window_funnel_events(interval '7 days', occurred_at, a, b, c, d)"),
    ("sequence_match", "sequence_match('(?1).*(?2).*(?4)', occurred_at, a, b, c, d)"),
    ("sequence_match_time_term", "sequence_match('(?1)(?t<=86400)(?2).*(?4)', occurred_at, a, b, c, d)"),
    ("sequence_count", "sequence_count('(?1).*(?2)', occurred_at, a, b, c, d)"),
    ("sequence_match_events", "sequence_match_events('(?1).*(?2).*(?4)', occurred_at, a, b, c, d)"),
    (
        "sequence_next_node",
        "sequence_next_node('forward', 'first_match', occurred_at, cast(touchpoint as varchar), a, a, b)",
    ),
    ("retention", "retention(a, b, c, d)"),
    ("path", "path(occurred_at, channel)"),
    ("timeline", "timeline(occurred_at, arrow_cast(touchpoint, 'Utf8View'), named_struct('channels', channel))"),
];

/// Calls over the lists of a journey.
const SCALARS: &[(&str, &str)] = &[
    ("baseline", "cardinality(times)"),
    (
        "journey_funnel",
        "journey_funnel(times, touchpoints, channels, ['product_view', 'add_to_cart', 'checkout_start', 'purchase'], interval '7 days')",
    ),
    (
        "journey_funnel_positions",
        "journey_funnel_positions(times, touchpoints, channels, ['product_view', 'add_to_cart', 'checkout_start', 'purchase'], interval '7 days')",
    ),
    (
        "journey_funnel_attempts",
        "journey_funnel_attempts(times, touchpoints, channels, ['product_view', 'add_to_cart', 'checkout_start', 'purchase'], interval '7 days')",
    ),
    ("path_collapse", "path_collapse(touchpoints)"),
    ("path_text", "path_text(touchpoints, 8)"),
    ("path_edges", "path_edges(touchpoints, times, 8)"),
    ("path_slice", "path_slice(touchpoints, 'product_view', 'purchase')"),
    ("channel_switches", "channel_switches(channels, times)"),
    ("gap_starts", "gap_starts(times, interval '30 minutes')"),
    ("journey_starts", "journey_starts(times, is_goals, interval '30 days')"),
    ("run_starts", "run_starts(times, interval '30 minutes')"),
    ("run_ids", "run_ids('session', touchpoints, gap_starts(times, interval '30 minutes'))"),
    (
        "split_at",
        "split_at(named_struct('touchpoints', touchpoints, 'times', times), gap_starts(times, interval '30 minutes'))",
    ),
    ("journey_cells", "journey_cells(touchpoints, channels, times)"),
    ("count_switches", "count_switches(channels)"),
    ("count_distinct", "count_distinct(channels)"),
    ("list_any", "list_any(is_goals)"),
    ("list_sum", "list_sum(arrow_cast(times, 'List(Int64)'))"),
    ("run_end", "run_end(gap_starts(times, interval '30 minutes'), 1)"),
    (
        "run_end_by_position",
        "coalesce(array_position(gap_starts(times, interval '30 minutes'), true, 2) - 1, cardinality(times))",
    ),
    ("first_at", "first_at(channels, touchpoints, 'product_view')"),
    (
        "first_at_by_position",
        "array_element(arrow_cast(channels, 'List(Utf8)'), \
         cast(array_position(arrow_cast(touchpoints, 'List(Utf8)'), 'product_view') as bigint))",
    ),
    (
        "channel_switches_options",
        "channel_switches(channels, times, named_struct('session_gap', interval '30 minutes', \
         'timeout', interval '7 days', 'goals', is_goals))",
    ),
    ("goal_touches", "goal_touches(named_struct('times', times, 'channels', channels), is_goals, interval '30 days')"),
    ("attribution_weights_u_shaped", "attribution_weights('u_shaped', channels)"),
    ("attribution_weights_time_decay", "attribution_weights('time_decay', channels, times)"),
];

/// Queries of their own. What an aggregate over whole lists counts, its `_by_row` counts of a row per session, edge or touch.
const QUERIES: &[(&str, &str)] = &[
    (
        "top_paths",
        "select top_paths(100, touchpoints, 8, is_goals, gap_starts(times, interval '30 minutes')) from journeys",
    ),
    (
        "top_paths_by_row",
        "select path, count(*) as sessions, count(*) filter (where is_converted) from (\
         select path_text(session['touchpoints'], 8) as path, list_any(session['is_goals']) as is_converted from (\
         select unnest(split_at(named_struct('touchpoints', touchpoints, 'is_goals', is_goals), \
         gap_starts(times, interval '30 minutes'))) as session from journeys)) group by path order by sessions desc, path limit 100",
    ),
    (
        "path_flow",
        "select path_flow(touchpoints, times, 8, is_goals, gap_starts(times, interval '30 minutes')) from journeys",
    ),
    (
        "path_flow_by_row",
        "select edge['position'], edge['from_touchpoint'], edge['to_touchpoint'], count(*), median(edge['seconds']) from (\
         select unnest(path_edges(session['touchpoints'], session['times'], 8)) as edge from (\
         select unnest(split_at(named_struct('touchpoints', touchpoints, 'times', times), \
         gap_starts(times, interval '30 minutes'))) as session from journeys)) group by 1, 2, 3",
    ),
    (
        "attribution_credits",
        "select attribution_credits(['linear', 'time_decay'], channels, times, is_goals, interval '30 days') from journeys",
    ),
    (
        "attribution_credits_by_row",
        "select channel, sum(linear), sum(time_decay) from (select unnest(channels) as channel, \
         unnest(attribution_weights('linear', channels)) as linear, \
         unnest(attribution_weights('time_decay', channels, times)) as time_decay from (\
         select conversion['touches']['channels'] as channels, conversion['touches']['times'] as times from (\
         select unnest(goal_touches(named_struct('times', times, 'channels', channels), is_goals, interval '30 days')) \
         as conversion from journeys))) group by channel",
    ),
    (
        "markov_cut",
        "select * from markov_attribution((select channels, is_goals, \
         journey_starts(times, is_goals, interval '10000 days') from journeys), 1)",
    ),
    (
        "markov_cut_by_row",
        "select * from markov_attribution((select case when list_any(journey['is_goals']) \
         then array_pop_back(journey['channels']) else journey['channels'] end, list_any(journey['is_goals']), \
         not list_any(journey['is_goals']) from (select unnest(split_at(named_struct('channels', channels, 'is_goals', \
         is_goals), journey_starts(times, is_goals, interval '10000 days'))) as journey from journeys)), 1)",
    ),
    (
        "shapley_cut",
        "select * from shapley_attribution((select channels, is_goals, \
         journey_starts(times, is_goals, interval '10000 days') from journeys), 'rate')",
    ),
    (
        "shapley_cut_by_row",
        "select * from shapley_attribution((select case when list_any(journey['is_goals']) \
         then array_pop_back(journey['channels']) else journey['channels'] end, list_any(journey['is_goals']), \
         not list_any(journey['is_goals']) from (select unnest(split_at(named_struct('channels', channels, 'is_goals', \
         is_goals), journey_starts(times, is_goals, interval '10000 days'))) as journey from journeys)), 'rate')",
    ),
    (
        "channel_switches_counted",
        "select switch['from_channel'], switch['to_channel'], count(*), sum(switch['seconds']) from (\
         select unnest(channel_switches(channels, times)) as switch from journeys) group by 1, 2",
    ),
    (
        "channel_switches_by_row",
        "select before, channel, count(*), sum(gap) from (select channel, \
         lag(channel) over (partition by customer_id order by occurred_at) as before, \
         date_part('epoch', occurred_at - lag(occurred_at) over (partition by customer_id order by occurred_at)) as gap \
         from events) where channel <> before group by 1, 2",
    ),
    (
        "sessionize",
        "select max(session) from (select sessionize(occurred_at, interval '30 minutes') \
         over (partition by customer_id order by occurred_at) as session from events)",
    ),
    ("content_id", "select content_id('touchpoint', touchpoint) from events"),
    ("content_number", "select content_number(touchpoint, customer_id) from events"),
    ("wilson_interval", "select wilson_interval(customer_id % 100, 100) from events"),
    ("difference_interval", "select difference_interval(customer_id % 100, 100, 30, 100) from events"),
    ("two_proportion_test", "select two_proportion_test(customer_id % 100, 100, 30, 100) from events"),
    ("sample_ratio_p", "select sample_ratio_p([customer_id % 100, 50], [0.5, 0.5]) from events"),
    (
        "markov",
        "select count(*) from markov_attribution((select path_collapse(channels), list_any(is_goals), not list_any(is_goals) \
         from journeys), 1)",
    ),
    (
        "shapley",
        "select count(*) from shapley_attribution((select channels, list_any(is_goals), not list_any(is_goals) \
         from journeys), 'conversions')",
    ),
    (
        "match_recognize",
        "select count(*) from events match_recognize (partition by customer_id order by occurred_at \
         measures first(a.occurred_at) as entered_at one row per match after match skip past last row \
         pattern (a x*? d) define a as touchpoint = 'product_view', d as touchpoint = 'purchase') as matches",
    ),
];

/// Questions asked in two ways, whose answers are of one form.
const PAIRS: &[(&str, &str)] = &[
    ("run_end", "run_end_by_position"),
    ("first_at", "first_at_by_position"),
    ("markov_cut", "markov_cut_by_row"),
    ("shapley_cut", "shapley_cut_by_row"),
];

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    functions::register_all(&ctx);
    register(&ctx, "events", events());
    let journeys = runtime.block_on(async { ctx.sql(JOURNEYS).await?.collect().await }).expect("journeys");
    register(&ctx, "journeys", journeys);

    let aggregates = AGGREGATES.iter().map(|(name, call)| {
        ("aggregates", *name, format!("select customer_id, {call} from events group by customer_id"))
    });
    let scalars = SCALARS.iter().map(|(name, call)| ("scalars", *name, format!("select {call} from journeys")));
    let queries = QUERIES.iter().map(|(name, sql)| ("queries", *name, (*sql).to_owned()));
    let all: Vec<_> = aggregates.chain(scalars).chain(queries).collect();
    let rows = |asked: &str| {
        let (.., sql) = all.iter().find(|(_, name, _)| *name == asked).expect(asked);
        let batches = runtime.block_on(async { ctx.sql(sql).await?.collect().await }).expect(asked);
        let table = pretty_format_batches(&batches).expect(asked).to_string();
        // The name of a column is that of its call, and as wide.
        let cells = table.lines().skip(3).filter(|line| line.starts_with('|'));
        let mut rows: Vec<String> = cells.map(|row| row.split_whitespace().collect()).collect();
        rows.sort_unstable();
        rows
    };
    for (one, other) in PAIRS {
        assert!(rows(one) == rows(other), "{one} and {other} differ");
    }
    for (kind, name, sql) in all {
        let sql = functions::standard_sql(&sql);
        let mut group = criterion.benchmark_group(kind);
        group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(10).measurement_time(Duration::from_secs(3));
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(async { ctx.sql(&sql).await?.collect().await }).expect(name));
        });
        group.finish();
    }
}

fn register(ctx: &SessionContext, name: &str, batches: Vec<RecordBatch>) {
    let table = MemTable::try_new(batches[0].schema(), vec![batches]).expect("batches of one schema");
    ctx.register_table(name, Arc::new(table)).expect("a new name");
}

criterion_group!(functions_of_journeys, benches);
criterion_main!(functions_of_journeys);
