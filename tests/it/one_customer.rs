//! One customer with very many events neither overflows a function, nor takes time that grows with their square, nor memory
//! beyond so many bytes per event.
//!
//! Asked are every function of rows (aggregates, `sessionize`), every function of lists, in the order of time, and
//! `match_recognize`; what takes neither is in [`OF_ONE_ROW`]. Modes, patterns and bases stand in [`queries`]. What they answer
//! is a matter of other tests.
//!
//! `cargo test --release --test it one_customer -- --ignored --nocapture` prints what 1 and 10 million events take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

/// How the events lie.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// In the order of time, a few at one instant, most of them meeting one condition.
    InOrder,
    /// The same, in no order.
    Shuffled,
    /// All at one instant.
    OneInstant,
    /// Each meets every condition.
    AllMet,
    /// The first half meets condition 1, the other condition 2: each may begin a chain and none is near its next.
    Halves,
}

const SHAPES: [Shape; 5] = [Shape::InOrder, Shape::Shuffled, Shape::OneInstant, Shape::AllMet, Shape::Halves];
const CONDITIONS: usize = 5;
const BATCH: usize = 8_192;

/// Functions that take neither the rows nor a list of the events.
const OF_ONE_ROW: [&str; 6] =
    ["content_id", "content_number", "difference_interval", "sample_ratio_p", "two_proportion_test", "wilson_interval"];

// What a query may hold at its peak beside the table, in bytes per event. One in the shell that makes its rows as it goes
// held 47 at most over rows, 190 over lists and 218 in `match_recognize`, which sorts whole rows.
const OVER_ROWS: u64 = 96;
const OVER_LISTS: u64 = 288;
const OVER_SORTED_ROWS: u64 = 384;

/// A query that gives one row.
struct Query {
    sql: String,
    bytes_per_event: u64,
}

fn schema() -> SchemaRef {
    let mut fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("t", DataType::Int64, false),
        Field::new("v", DataType::Utf8, false),
    ];
    fields.extend((1..=CONDITIONS).map(|number| Field::new(format!("c{number}"), DataType::Boolean, false)));
    Arc::new(Schema::new(fields))
}

/// The time of an event, and the condition that it meets; all where `None`.
fn event(shape: Shape, count: usize, id: usize) -> (i64, Option<usize>) {
    let condition = id.wrapping_mul(2_654_435_761) >> 7;
    match shape {
        Shape::InOrder | Shape::Shuffled => (id as i64 / 3, Some(condition % 7)),
        Shape::OneInstant => (0, Some(condition % 7)),
        Shape::AllMet => (id as i64 / 2, None),
        Shape::Halves => (id as i64, Some(usize::from(id * 2 >= count))),
    }
}

fn table(shape: Shape, count: usize) -> MemTable {
    // A prime that divides no count of ours: steps of this length pass every event once.
    let id = |row: usize| if matches!(shape, Shape::Shuffled) { row * 7_919 % count } else { row };
    let batches = (0..count).step_by(BATCH).map(|start| {
        let ids: Vec<usize> = (start..(start + BATCH).min(count)).map(id).collect();
        let events: Vec<(i64, Option<usize>)> = ids.iter().map(|id| event(shape, count, *id)).collect();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(ids.iter().map(|id| Some(*id as i64)).collect::<Int64Array>()),
            Arc::new(events.iter().map(|event| Some(event.0)).collect::<Int64Array>()),
            Arc::new(ids.iter().map(|id| Some(format!("page {}", id % 1_000))).collect::<StringArray>()),
        ];
        for number in 0..CONDITIONS {
            let met = events.iter().map(|event| Some(event.1.is_none_or(|condition| condition == number)));
            columns.push(Arc::new(met.collect::<BooleanArray>()));
        }
        RecordBatch::try_new(schema(), columns).unwrap()
    });
    MemTable::try_new(schema(), vec![batches.collect()]).unwrap()
}

/// A query per function and way to go through its rows.
fn queries() -> Vec<Query> {
    let over = |bytes_per_event: u64| move |sql: String| Query { sql, bytes_per_event };
    let rows = queries_over_rows().into_iter().map(over(OVER_ROWS));
    let lists = queries_over_lists().into_iter().map(over(OVER_LISTS));
    let sorted = queries_over_sorted_rows().into_iter().map(over(OVER_SORTED_ROWS));
    rows.chain(lists).chain(sorted).collect()
}

fn queries_over_rows() -> Vec<String> {
    let mut calls = vec!["arg_min(v, t)".to_owned()];
    for mode in [
        "",
        "strict_deduplication",
        "strict_order",
        "strict_order|allow_reentry",
        "strict_increase",
        "strict_once",
        "strict_once|strict_deduplication",
        "posthog_ordered",
        "posthog_strict",
        "mixpanel",
    ] {
        calls.push(format!("window_funnel(50, '{mode}', t, c1, c2, c3, c4, c5)"));
        calls.push(format!("cardinality(window_funnel_events(1000000000, '{mode}', t, c1, c2, c3, c4, c5))"));
    }
    for pattern in [
        "(?1).*(?2).*(?3)",
        "(?1)(?t<=5)(?2)(?t>=1)(?3)",
        "(?1)(?t>1000000)(?2).*(?t!=3)(?1).(?3)",
        "(?1)(?t==7)(?2).*",
        "(?1).*(?1).*(?1).*(?1).*(?5)(?4)(?3)(?2)(?1)(?5)",
    ] {
        for function in ["sequence_match", "sequence_count", "sequence_match_events"] {
            calls.push(format!("{function}('{pattern}', t, c1, c2, c3, c4, c5)"));
        }
    }
    for (direction, base) in [
        ("forward", "head"),
        ("forward", "first_match"),
        ("forward", "last_match"),
        ("backward", "tail"),
        ("backward", "first_match"),
        ("backward", "last_match"),
    ] {
        calls.push(format!("sequence_next_node('{direction}', '{base}', t, v, true, c1, c2, c3)"));
    }
    calls.push("retention(c1, c2, c3, c4, c5)".to_owned());
    calls.push("cardinality(path(t, v))".to_owned());
    calls.push("cardinality(timeline(to_timestamp_micros(t), v, named_struct('c', c1))['times'])".to_owned());
    let of_all = calls.iter().map(|call| format!("select {call} from events"));
    let of_a_group = calls.iter().step_by(7).map(|call| format!("select {call} from events group by id < 0"));
    let sessions = "select max(session) from (select sessionize(t, 0) over (order by t) as session from events)";
    of_all.chain(of_a_group).chain([sessions.to_owned()]).collect()
}

fn queries_over_sorted_rows() -> Vec<String> {
    let mut queries = vec![];
    for (pattern, skip, define) in [
        ("(a b+ c)", "past last row", "a as c1, b as c2, c as c3"),
        ("(a other*? c)", "past last row", "a as c1, c as c3"),
        ("(a+ b | a)", "past last row", "a as c1, b as c4 and c5"),
        ("((a | b)+ e)", "past last row", "a as c1, b as c2, e as c4 and c5"),
        ("(permute(a, b, c))", "to next row", "a as c1, b as c2, c as c3"),
        ("(a b+ c)", "past last row", "a as c1, b as id >= prev(id), c as c4 and c5"),
        ("(a other*? c) within 1000000000", "past last row", "a as c1, c as c4 and c5"),
        ("(a b+ c) within 5", "past last row", "a as c1, b as c2, c as c3"),
    ] {
        for partial in ["", "with partial matches"] {
            // Attempts that overlap are as many rows as the square.
            if partial.is_empty() || skip == "past last row" {
                queries.push(format!(
                    "select count(*), max(rows) from events match_recognize (order by t, id measures count(*) as rows \
                     one row per match {partial} after match skip {skip} pattern {pattern} define {define})"
                ));
            }
        }
    }
    queries
}

fn queries_over_lists() -> Vec<String> {
    let of_two = [
        "journey_funnel(times, pages, pages, ['page 1', 'page 2', 'page 3'], interval '1 second')",
        "cardinality(journey_funnel_attempts(times, pages, pages, ['page 1', 'page 2', 'page 3'], interval '1 second'))",
        "cardinality(journey_funnel_positions(times, pages, pages, ['page 1', 'page 2', 'page 3'], interval '1 second'))",
        "cardinality(path_collapse(pages))",
        "cardinality(path_edges(pages, times, 20))",
        "cardinality(path_slice(pages, 'page 1', 'page 999'))",
        "character_length(path_text(pages, 5))",
        "character_length(path_text(pages, 1000000000))",
        "cardinality(channel_switches(pages, times))",
        "cardinality(run_starts(times, interval '1 second'))",
        "cardinality(gap_starts(times, interval '1 second'))",
        "run_end(gap_starts(times, interval '1 second'), 5)",
        "first_at(pages, pages, 'page 999')",
        "count_distinct(pages)",
        "count_switches(pages)",
        "cardinality(attribution_weights('u_shaped', pages))",
        "cardinality(attribution_weights('time_decay', pages, times, interval '7 days'))",
    ]
    .map(|call| {
        format!("select {call} from (select path(t, to_timestamp_micros(t)) as times, path(t, v) as pages from events)")
    });
    let of_a_timeline = [
        "cardinality(goal_touches(timeline, goals, interval '1 millisecond'))",
        "cardinality(journey_cells(pages, channels, times))",
        "cardinality(journey_starts(times, goals, interval '1 second'))",
        "cardinality(run_ids('session', event_ids, gap_starts(times, interval '0 seconds')))",
        "cardinality(split_at(timeline, gap_starts(times, interval '0 seconds')))",
        "list_any(goals)",
        "list_sum(ids)",
        "cardinality(attribution_credits(['linear', 'time_decay'], channels, times, goals, interval '1 millisecond'))",
        "cardinality(path_flow(channels, times, 20))",
        "cardinality(path_flow(pages, times, 1000000000, goals, goals))",
        "cardinality(top_paths(9, channels, 8))",
        "cardinality(top_paths(9, pages, 1000000000, goals, goals))",
        "cardinality(markov_removal(2, channels, 1, 1))",
        "cardinality(shapley('rate', channels, 1, 1))",
    ]
    .map(|call| {
        // A goal has a thousand touches at most, so that the answer does not grow with the square.
        format!(
            "select {call} from (select timeline, timeline['times'] as times, timeline['event_ids'] as event_ids, \
             timeline['ids'] as ids, timeline['pages'] as pages, timeline['channels'] as channels, timeline['goals'] as goals \
             from (select timeline(to_timestamp_micros(t), 'e-' || id, named_struct('ids', id, 'pages', v, 'channels', \
             case when c1 then 'ad' when c2 then 'email' else 'web' end, 'goals', id % 100000 = 0)) as timeline from events))"
        )
    });
    of_two.into_iter().chain(of_a_timeline).collect()
}

/// A session that has the events.
fn session(shape: Shape, count: usize) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    wayline::functions::register_all(&ctx);
    ctx.register_table("events", Arc::new(table(shape, count))).unwrap();
    ctx
}

async fn time(ctx: &SessionContext, sql: &str) -> Duration {
    let started = Instant::now();
    let rows = match ctx.sql(&wayline::functions::standard_sql(sql)).await {
        Ok(frame) => frame.collect().await,
        Err(error) => Err(error),
    };
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1, "{sql}");
    started.elapsed()
}

#[test]
fn every_function_is_asked() {
    let names = |functions: Vec<&str>| functions.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let scalars = wayline::functions::scalar_functions();
    let aggregates = wayline::functions::aggregate_functions();
    let windows = wayline::functions::window_functions();
    let functions = [
        names(scalars.iter().map(|function| function.name()).collect()),
        names(aggregates.iter().map(|function| function.name()).collect()),
        names(windows.iter().map(|function| function.name()).collect()),
    ];
    let queries = queries();
    for name in functions.concat() {
        let is_asked = queries.iter().any(|query| query.sql.contains(&format!("{name}(")));
        assert_eq!(is_asked, !OF_ONE_ROW.contains(&name.as_str()), "{name}");
    }
}

/// The square of so many events is 40 thousand million.
#[tokio::test]
async fn two_hundred_thousand_events_take_no_time() {
    for shape in SHAPES {
        let ctx = session(shape, 200_000);
        for Query { sql, .. } in queries() {
            let elapsed = time(&ctx, &sql).await;
            assert!(elapsed < Duration::from_secs(10), "{shape:?}, {sql}: {elapsed:?}");
        }
    }
}

/// A number of the process's status, in bytes.
fn bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The time that this process was running, threads that have ended among them, which other work beside it changes little.
fn busy() -> Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let told = std::fs::read_to_string("/proc/self/stat").unwrap();
    // User and system time, the 14th and 15th of all; the second, a name, may have blanks.
    let ticks = told.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() * 1000 / TICKS_PER_SECOND)
}

/// How long a query keeps the process busy.
async fn work(ctx: &SessionContext, sql: &str) -> Duration {
    let before = busy();
    time(ctx, sql).await;
    busy().saturating_sub(before)
}

/// The square of ten times the events takes a hundred times the time, the power of one and a half 32 times. Events by
/// themselves take ten times, sorting a seventh more, and all of it twice as much on a machine that does other work, where
/// memory lies in no cache and is taken from the system anew: 20 times at most was found.
const MOST_TIMES: f64 = 28.0;

/// The time grows with the events, and the memory is bounded per event.
#[tokio::test]
#[ignore = "takes minutes; run it by hand, optimised"]
async fn ten_million_events_take_no_square_of_the_time_of_one_million_and_bounded_memory() {
    const MANY: usize = 10_000_000;
    const TRIES: usize = 3;
    let (mut slow, mut large) = (vec![], vec![]);
    for shape in [Shape::InOrder, Shape::Shuffled] {
        let (million, ten_million) = (session(shape, MANY / 10), session(shape, MANY));
        for Query { sql, bytes_per_event } in queries().iter().filter(|query| !query.sql.contains("group by")) {
            // What is too short to be measured counts as a tick.
            let of_million = work(&million, sql).await.max(Duration::from_millis(10));
            let before = bytes("VmRSS");
            // Resets the peak.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let mut of_many = work(&ten_million, sql).await;
            let held = bytes("VmHWM").saturating_sub(before) / MANY as u64;
            let ratio = |of_many: Duration| of_many.as_secs_f64() / of_million.as_secs_f64();
            // Other work may have come between.
            for _ in 1..TRIES {
                if ratio(of_many) > MOST_TIMES {
                    of_many = of_many.min(work(&ten_million, sql).await);
                }
            }
            let ratio = ratio(of_many);
            println!("{shape:?} | {of_million:.2?} | {of_many:.2?} | {ratio:.1} | {held} bytes per event | {sql}");
            if ratio > MOST_TIMES && of_many > Duration::from_secs(1) {
                slow.push(format!("{shape:?}, {sql}: {ratio:.1}"));
            }
            if held > *bytes_per_event {
                large.push(format!("{shape:?}, {sql}: {held} bytes per event, more than {bytes_per_event}"));
            }
        }
    }
    assert!(slow.is_empty() && large.is_empty(), "{slow:#?} {large:#?}");
}
