//! Tests of the aggregates over rows, in SQL: any events, in any order, batches and partitions, give each group the answers
//! of the oracles that stand beside the functions. Times are `Int64`; the other types of time become the same moments before
//! any aggregate sees them (see `moments.rs`). The aggregates of [`ELSEWHERE`] have tests of their own.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::runtime::Runtime;

use super::sequence::oracle as sequence;
use super::sequence_next_node::{FORMS, naive as next_node};
use super::{aggregate_functions, register_all, window_funnel};

const GROUPS: i64 = 4;
const CONDITIONS: usize = 32;

/// Any rows in any splits are asked of these in the tests of their accumulators.
const ELSEWHERE: [&str; 6] = ["attribution_credits", "markov_removal", "path_flow", "shapley", "timeline", "top_paths"];

#[derive(Debug, Clone)]
struct Event {
    group: i64,
    time: Option<i64>,
    /// Bit `k`: condition `k + 1` holds.
    met: u32,
    /// Bit `k`: condition `k + 1` is null, and does not hold.
    unknown: u32,
    value: Option<&'static str>,
    /// What the filter of a call says.
    passes: Option<bool>,
}

/// Few events of few instants; the last group has none, or none that passes.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let met = prop_oneof![
        4 => (0..CONDITIONS).prop_map(|bit| 1u32 << bit),
        4 => (0..4usize).prop_map(|bit| 1u32 << bit),
        2 => any::<u32>(),
        1 => Just(0),
    ];
    let value =
        prop::option::weighted(0.9, prop::sample::select(vec!["", "a", "b", "a value that is longer than a view"]));
    let passes = prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
    let unknown = prop_oneof![3 => Just(0u32), 1 => any::<u32>()];
    let event = (0..GROUPS, prop::option::weighted(0.9, 0i64..12), met, unknown, value, passes);
    let event = event.prop_map(|(group, time, met, unknown, value, passes)| Event {
        group,
        time,
        met: met & !unknown,
        unknown,
        value,
        passes: if group == GROUPS - 1 { Some(false) } else { passes },
    });
    prop::collection::vec(event, 0..24)
}

/// An answer for the events of a group; nothing where the oracle cannot tell.
type Answer = dyn Fn(&[Event]) -> Option<String>;

/// A call, and what it answers.
struct Call {
    sql: String,
    answer: Box<Answer>,
}

impl Call {
    fn new(sql: String, answer: impl Fn(&[Event]) -> Option<String> + 'static) -> Self {
        Self { sql, answer: Box::new(answer) }
    }
}

fn conditions(count: usize) -> String {
    (1..=count).map(|number| format!(", c{number}")).collect()
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    format!("[{}]", items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", "))
}

/// Time and the first conditions of events that have a time, in the order of both.
fn rows(events: &[Event], count: usize) -> Vec<(i64, u32)> {
    let first = u32::MAX >> (CONDITIONS - count);
    let mut rows: Vec<(i64, u32)> = events.iter().filter_map(|event| Some((event.time?, event.met & first))).collect();
    rows.sort_unstable();
    rows
}

fn funnels(mode: &str, window: i64, steps: usize) -> [Call; 2] {
    let arguments = format!("({window}, '{mode}', t{})", conditions(steps));
    let answer = {
        let mode = mode.to_owned();
        move |events: &[Event]| window_funnel::oracle::answer(&mode, &rows(events, steps), steps, window)
    };
    let level = answer.clone();
    [
        Call::new(format!("window_funnel{arguments}"), move |events| Some(level(events)?.0.to_string())),
        Call::new(format!("window_funnel_events{arguments}"), move |events| Some(list(answer(events)?.1))),
    ]
}

fn sequences(pattern: &str, count: usize) -> [Call; 3] {
    let call = |name: &str, show: fn((bool, i64, Vec<i64>)) -> String| {
        let text = pattern.to_owned();
        Call::new(format!("{name}('{pattern}', t{})", conditions(count)), move |events| {
            let met: Vec<(i64, u32)> = rows(events, count).into_iter().filter(|row| row.1 != 0).collect();
            (met.len() < 10).then(|| show(sequence::naive(&text, &met)))
        })
    };
    [
        call("sequence_match", |found| found.0.to_string()),
        call("sequence_count", |found| found.1.to_string()),
        call("sequence_match_events", |found| list(found.2)),
    ]
}

fn next(direction: &'static str, base: &'static str, count: usize) -> Call {
    let sql = format!("sequence_next_node('{direction}', '{base}', t, v, c32{})", conditions(count));
    Call::new(sql, move |events| {
        let met = |event: &Event| {
            let first = event.met & ((1u64 << count) - 1) as u32;
            u64::from(first) | u64::from(event.met >> 31) << 63
        };
        let rows = events.iter().filter_map(|event| Some((event.time?, event.value?, met(event))));
        let mut rows: Vec<(i64, &str, u64)> = rows.collect();
        rows.sort_unstable();
        let met: Vec<u64> = rows.iter().map(|row| row.2).collect();
        let found = next_node(direction, base, count, &met);
        Some(found.map_or("-".to_owned(), |row| rows[row].1.to_owned()))
    })
}

fn retention(count: usize) -> Call {
    Call::new(format!("retention({})", &conditions(count)[2..]), move |events| {
        let is_met = |number: usize| events.iter().any(|event| event.met >> number & 1 == 1);
        Some(list((0..count).map(|number| is_met(0) && is_met(number))))
    })
}

fn path() -> Call {
    Call::new("path(t, v)".to_owned(), |events| {
        let mut rows: Vec<_> = events.iter().filter_map(|event| Some((event.time?, event.value))).collect();
        rows.sort_unstable();
        Some(list(rows.into_iter().map(|row| row.1.unwrap_or("-"))))
    })
}

fn arg_min() -> Call {
    Call::new("arg_min(v, t)".to_owned(), |events| {
        let earliest = events.iter().filter_map(|event| Some((event.time?, event.value?))).min();
        Some(earliest.map_or("-", |row| row.1).to_owned())
    })
}

/// A call of every function but those of [`ELSEWHERE`].
fn calls() -> impl Strategy<Value = Vec<Call>> {
    let modes = [
        "",
        "strict_deduplication",
        "strict_order",
        "strict_increase",
        "strict_once",
        "strict_order|allow_reentry",
        "strict_deduplication|strict_once",
        "strict_order|strict_increase|strict_once",
        "posthog_ordered",
        "posthog_strict",
        "mixpanel",
    ];
    let some = 1usize..=CONDITIONS;
    (
        (prop::sample::subsequence(modes.to_vec(), 3), 0i64..14, prop_oneof![1usize..5, some.clone()]),
        (sequence::text(), 3usize..=CONDITIONS),
        (prop::sample::select(FORMS.to_vec()), 1usize..5, 2usize..=CONDITIONS),
    )
        .prop_map(|((modes, window, steps), (pattern, count), (form, following, retained))| {
            let mut calls: Vec<Call> = modes.iter().flat_map(|mode| funnels(mode, window, steps)).collect();
            calls.extend(sequences(&pattern, count));
            calls.extend([next(form.0, form.1, following), retention(retained), path(), arg_min()]);
            calls
        })
        .no_shrink()
}

impl std::fmt::Debug for Call {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.sql)
    }
}

fn schema() -> SchemaRef {
    let mut fields = vec![
        Field::new("g", DataType::Int64, false),
        Field::new("t", DataType::Int64, true),
        Field::new("v", DataType::Utf8, true),
        Field::new("p", DataType::Boolean, true),
    ];
    fields.extend((1..=CONDITIONS).map(|number| Field::new(format!("c{number}"), DataType::Boolean, true)));
    Arc::new(Schema::new(fields))
}

fn batch(events: &[Event]) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(events.iter().map(|event| Some(event.group)).collect::<Int64Array>()),
        Arc::new(events.iter().map(|event| event.time).collect::<Int64Array>()),
        Arc::new(events.iter().map(|event| event.value).collect::<StringArray>()),
        Arc::new(events.iter().map(|event| event.passes).collect::<BooleanArray>()),
    ];
    for bit in 0..CONDITIONS {
        let holds = |event: &Event| (event.unknown >> bit & 1 == 0).then_some(event.met >> bit & 1 == 1);
        columns.push(Arc::new(events.iter().map(holds).collect::<BooleanArray>()));
    }
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// How a session is set up: what must not matter.
#[derive(Debug, Clone)]
struct Setting {
    partitions: usize,
    batch_size: usize,
    /// Events are passed on one by one where the first phase does not make them fewer.
    skips_first_phase: bool,
    is_sorted: bool,
}

fn setting() -> impl Strategy<Value = Setting> {
    (prop::sample::select(vec![1, 2, 7]), 1usize..9, any::<bool>(), any::<bool>()).prop_map(
        |(partitions, batch_size, skips_first_phase, is_sorted)| Setting {
            partitions,
            batch_size,
            skips_first_phase,
            is_sorted,
        },
    )
}

/// The rows of a query over events that lie in as many partitions as the session has.
async fn run(setting: &Setting, events: &[Event], select: &str, rest: &str) -> Vec<Vec<String>> {
    let (ratio, first) = if setting.skips_first_phase { ("0.0", 2) } else { ("0.8", 100_000) };
    let config = SessionConfig::new()
        .with_target_partitions(setting.partitions)
        .with_batch_size(setting.batch_size)
        .set_str("datafusion.execution.skip_partial_aggregation_probe_ratio_threshold", ratio)
        .set_u64("datafusion.execution.skip_partial_aggregation_probe_rows_threshold", first);
    let ctx = SessionContext::new_with_config(config);
    register_all(&ctx);
    let mut partitions = vec![vec![]; setting.partitions];
    for (number, events) in events.chunks(setting.batch_size).enumerate() {
        partitions[number % setting.partitions].push(batch(events));
    }
    ctx.register_table("events", Arc::new(MemTable::try_new(schema(), partitions).unwrap())).unwrap();
    let from = if setting.is_sorted { "(select * from events order by g)" } else { "events" };
    let batches = ctx.sql(&format!("select {select} from {from} {rest}")).await.unwrap().collect().await.unwrap();
    let options = FormatOptions::new().with_null("-");
    let mut rows = vec![];
    for batch in &batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let text = |row: usize| columns.iter().map(move |column| column.value(row).to_string());
        rows.extend((0..batch.num_rows()).map(|row| text(row).collect::<Vec<_>>()));
    }
    rows
}

#[test]
fn each_aggregate_is_asked_here_or_elsewhere() {
    let calls = calls().new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let mut asked: Vec<&str> = calls.iter().map(|call| call.sql.split('(').next().unwrap()).chain(ELSEWHERE).collect();
    asked.sort_unstable();
    asked.dedup();
    let functions = aggregate_functions();
    let mut names: Vec<&str> = functions.iter().map(|function| function.name()).collect();
    names.sort_unstable();
    assert_eq!(asked, names);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_events_give_the_answers_of_the_oracles_whatever_the_order_and_the_partitions(
        events in events().prop_shuffle(),
        calls in calls(),
        settings in prop::collection::vec(setting(), 3),
    ) {
        let runtime = Runtime::new().unwrap();
        let select: Vec<String> =
            calls.iter().enumerate().map(|(n, call)| format!("{} filter (where p) as a{n}", call.sql)).collect();
        for setting in &settings {
            let grouped = format!("g, {}", select.join(", "));
            let mut found = runtime.block_on(run(setting, &events, &grouped, "group by g order by g"));
            let of_all = runtime.block_on(run(setting, &events, &select.join(", "), ""));
            found.extend(of_all.into_iter().map(|row| [vec!["all".to_owned()], row].concat()));

            let mut groups: Vec<i64> = events.iter().map(|event| event.group).collect();
            groups.sort_unstable();
            groups.dedup();
            let names: Vec<String> = groups.iter().map(i64::to_string).chain(["all".to_owned()]).collect();
            let found_names: Vec<&String> = found.iter().map(|row| &row[0]).collect();
            prop_assert_eq!(found_names, names.iter().collect::<Vec<_>>());
            for (name, row) in names.iter().zip(&found) {
                let counts = |event: &&Event| event.passes == Some(true) && (name == "all" || event.group.to_string() == *name);
                let own: Vec<Event> = events.iter().filter(counts).cloned().collect();
                for (call, answer) in calls.iter().zip(&row[1..]) {
                    if let Some(expected) = (call.answer)(&own) {
                        prop_assert_eq!(answer, &expected, "{} of {:?}: {:?}", call.sql, own, setting);
                    }
                }
            }
        }
    }
}
