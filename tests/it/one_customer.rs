//! One customer with very many events neither overflows a function nor takes time that grows with their square.
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
fn queries() -> Vec<String> {
    let mut calls = vec![];
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
    let mut queries: Vec<String> = of_all.chain(of_a_group).collect();
    for (pattern, skip, define) in [
        ("(a b+ c)", "past last row", "a as c1, b as c2, c as c3"),
        ("(a other*? c)", "past last row", "a as c1, c as c3"),
        ("(a+ b | a)", "past last row", "a as c1, b as c4 and c5"),
        ("((a | b)+ e)", "past last row", "a as c1, b as c2, e as c4 and c5"),
        ("(permute(a, b, c))", "to next row", "a as c1, b as c2, c as c3"),
        ("(a b+ c)", "past last row", "a as c1, b as id >= prev(id), c as c4 and c5"),
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
    for call in [
        "journey_funnel(times, pages, pages, ['page 1', 'page 2', 'page 3'], interval '1 second')",
        "cardinality(journey_funnel_positions(times, pages, pages, ['page 1', 'page 2', 'page 3'], interval '1 second'))",
        "cardinality(path_collapse(pages))",
        "cardinality(path_edges(pages, times, 20))",
        "cardinality(path_slice(pages, 'page 1', 'page 999'))",
        "cardinality(channel_switches(pages, times))",
        "cardinality(run_starts(times, interval '1 second'))",
        "cardinality(gap_starts(times, interval '1 second'))",
        "count_distinct(pages)",
        "count_switches(pages)",
    ] {
        queries.push(format!(
            "select {call} from (select path(t, to_timestamp_micros(t)) as times, path(t, v) as pages from events)"
        ));
    }
    queries
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

/// The square of so many events is 40 thousand million.
#[tokio::test]
async fn two_hundred_thousand_events_take_no_time() {
    for shape in SHAPES {
        let ctx = session(shape, 200_000);
        for sql in queries() {
            let elapsed = time(&ctx, &sql).await;
            assert!(elapsed < Duration::from_secs(10), "{shape:?}, {sql}: {elapsed:?}");
        }
    }
}

/// A number of the process's status, in MiB.
fn mebibytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Ten times the events take about ten times the time; sorting adds a seventh, and caches that no longer help a little.
#[tokio::test]
#[ignore = "takes minutes; run it by hand, optimised"]
async fn ten_million_events_take_ten_times_the_time_of_one_million() {
    let mut slow = vec![];
    for shape in [Shape::InOrder, Shape::Shuffled] {
        let (million, ten_million) = (session(shape, 1_000_000), session(shape, 10_000_000));
        for sql in queries().iter().filter(|sql| !sql.contains("group by")) {
            let small = time(&million, sql).await;
            let before = mebibytes("VmRSS");
            // Resets the peak.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let large = time(&ten_million, sql).await;
            let ratio = large.as_secs_f64() / small.as_secs_f64();
            let peak = mebibytes("VmHWM").saturating_sub(before);
            println!("{shape:?} | {small:.2?} | {large:.2?} | {ratio:.1} | {peak} MiB | {sql}");
            if ratio > 15.0 && large > Duration::from_secs(1) {
                slow.push(format!("{shape:?}, {sql}: {ratio:.1}"));
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}
