//! Tests of the function: every option against a naive loop, encodings, and calls that are refused.

use std::sync::Arc;

use datafusion::arrow::array::Int64Array;
use datafusion::arrow::array::{
    Array, AsArray, BooleanArray, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Field, Float64Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::super::arguments::{coded_text_type, item_field};
use super::*;
use crate::functions::elements::testing::{SELECT_JOURNEYS, error_of, in_every_encoding, rows_of};

#[tokio::test]
async fn switches_unnest_into_rows_in_every_encoding() {
    for journeys in in_every_encoding() {
        for details in
            ["touchpoints, session_ids", "named_struct('session_ids', session_ids, 'touchpoints', touchpoints)"]
        {
            let sql = format!(
                "select id, switch['position'], switch['from_channel'], switch['to_channel'], switch['switched_at'], \
                        switch['seconds'], switch['is_last'], switch['is_new'], switch['from_touchpoint'], \
                        switch['to_touchpoint'], switch['is_repeat'], switch['scope'] \
                 from (select id, unnest(channel_switches(channels, times, {details})) as switch from ({journeys})) \
                 order by 1, 2"
            );
            let expected = [
                "1 | 2 | web | store | 2026-01-01T10:00:05Z | 5.0 | false | true | home | home | true | between",
                "1 | 4 | store | web | 2026-01-01T10:00:30.500Z | 10.5 | true | true | product | home | false | within",
                "2 | 2 | web |  | 2026-01-01T11:00:00Z |  | true | true |  | product | false | within",
            ];
            assert_eq!(rows_of(&sql).await, expected, "{journeys}");
        }
    }
}

#[tokio::test]
async fn options_may_be_left_out() {
    let sql = format!("select arrow_typeof(channel_switches(channels, times)) from ({SELECT_JOURNEYS}) limit 1");
    let fields = &rows_of(&sql).await[0];
    assert!(fields.contains("is_new") && !fields.contains("scope") && !fields.contains("touchpoint"), "{fields}");
    let sql = format!("select id, channel_switches(channels, times) from ({SELECT_JOURNEYS}) where id > 2 order by id");
    assert_eq!(rows_of(&sql).await, ["3 | []", "4 | "]);
    for (option, field) in [
        ("'touchpoints', touchpoints", "is_repeat"),
        ("'session_ids', session_ids", "scope"),
        ("'session_gap', '30 minutes'", "scope"),
        ("'goals', [true, true, true, true]", "seconds_to_goal"),
    ] {
        let typed = "select arrow_typeof(channel_switches(channels, times, named_struct";
        let fields = &rows_of(&format!("{typed}({option}))) from ({SELECT_JOURNEYS}) where id = 1")).await[0];
        for other in ["is_repeat", "scope", "seconds_to_goal"] {
            assert_eq!(fields.contains(&format!("\"{other}\"")), other == field, "{option}: {fields}");
        }
    }
}

#[tokio::test]
async fn a_span_may_be_an_interval_a_duration_text_or_a_column() {
    for span in
        ["interval '10 seconds'", "'10 seconds'", "10000000", "arrow_cast(10, 'Duration(Second)')", "id * 10000000"]
    {
        let sql = format!(
            "select switch['position'], switch['scope'] from (select unnest(channel_switches(channels, times, \
             named_struct('session_gap', {span}))) as switch from ({SELECT_JOURNEYS}) where id = 1) order by 1"
        );
        assert_eq!(rows_of(&sql).await, ["2 | within", "4 | between"], "{span}");
        let sql = format!(
            "select cardinality(channel_switches(channels, times, named_struct('timeout', {span}))) \
             from ({SELECT_JOURNEYS}) where id < 3 order by id"
        );
        assert_eq!(rows_of(&sql).await, ["1", "1"], "{span}");
    }
}

#[tokio::test]
async fn switches_group_into_a_mart() {
    let sql = format!(
        "select switch['from_channel'] as from_channel, switch['to_channel'] as to_channel, switch['scope'] as scope, \
                cast(switch['switched_at'] as date) as switched_date, count(*) as switches, \
                count(*) filter (where switch['is_new']) as journeys, \
                count(*) filter (where switch['is_repeat']) as repeated, median(switch['seconds']) \
         from (select unnest(channel_switches(channels, times, touchpoints, session_ids)) as switch \
               from ({SELECT_JOURNEYS})) \
         where switch['to_channel'] = 'store' group by 1, 2, 3, 4"
    );
    assert_eq!(rows_of(&sql).await, ["web | store | between | 2026-01-01 | 1 | 1 | 1 | 5.0"]);
}

#[tokio::test]
async fn wrong_calls_are_refused() {
    for (arguments, message) in [
        ("['a']", "expected channels and times, then options, or touchpoints and session_ids, or nothing; got 1"),
        ("['a'], [now()], ['a']", "expected a struct of options, got List"),
        ("['a'], [now()], named_struct('gap', 1)", "no option gap; known are touchpoints, session_ids, session_gap"),
        ("['a'], [now()], named_struct('goals', [1])", "goals: expected a list of booleans, got List"),
        ("['a'], [now()], named_struct('goals', true)", "goals: expected a list of booleans, got Boolean"),
        ("['a'], [now()], named_struct('timeout', 1.5)", "timeout: expected an interval or whole microseconds"),
        ("['a'], [now()], named_struct('timeout', interval '1 month')", "an interval of months has no fixed length"),
        ("['a'], [now()], named_struct('session_gap', -1)", "a span must not be negative"),
        (
            "['a'], [now()], named_struct('session_gap', 1, 'session_ids', ['s'])",
            "expected either session_ids or session_gap, got both",
        ),
        ("['a'], [now()], named_struct('goals', [true, false])", "channels has 1 elements where goals has 2"),
        ("[1], [now()]", "expected a list of text"),
        ("['a'], [1]", "expected a list of timestamps"),
        ("['a'], [now(), now()]", "channels has 1 elements where times has 2"),
        ("['a'], [now()], ['b'], []", "channels has 1 elements where session_ids has 0"),
    ] {
        let error = error_of(&format!("select channel_switches({arguments})")).await;
        assert!(error.contains("channel_switches: ") && error.contains(message), "{arguments}: {error}");
    }
}

/// A touch: channel, time, touchpoint, session, goal.
type Touch = (Option<&'static str>, Option<i64>, Option<&'static str>, Option<&'static str>, Option<bool>);

/// A row and which of its lists are null, in the order of [`Touch`]; the spans of the row.
#[derive(Debug, Clone)]
struct Journey {
    touches: Vec<Touch>,
    is_null: [bool; 5],
    session_gap: Option<i64>,
    timeout: Option<i64>,
}

fn journey() -> impl Strategy<Value = Journey> {
    let text = |texts: &[&'static str]| prop::option::weighted(0.9, prop::sample::select(texts.to_vec()));
    let touch = (
        text(&["web", "store", "a channel of a long name"]),
        prop::option::weighted(0.9, 0i64..40),
        text(&["home", "buy"]),
        text(&["s1", "s2"]),
        prop::option::weighted(0.9, prop::bool::weighted(0.3)),
    );
    let rarely = || prop::bool::weighted(0.05);
    let is_null = [rarely(), rarely(), rarely(), rarely(), rarely()];
    let span = || prop::option::weighted(0.95, 0i64..30);
    let journey = (prop::collection::vec(touch, 0..9), is_null, span(), span());
    journey.prop_map(|(touches, is_null, session_gap, timeout)| Journey { touches, is_null, session_gap, timeout })
}

/// A switch as text; what is not asked for is left out.
fn naive(journey: &Journey, has: &Has) -> Option<Vec<String>> {
    let is_null = has.lists.iter().zip(journey.is_null).any(|(is_given, is_null)| *is_given && is_null);
    let session_gap = if has.session_gap { Some(journey.session_gap?) } else { None };
    let timeout = if has.timeout { Some(journey.timeout?) } else { None };
    if is_null {
        return None;
    }
    let touches = &journey.touches;
    let mut found: Vec<(Option<&str>, Option<&str>, Option<&str>)> = vec![];
    let mut switches = vec![];
    for second in 1..touches.len() {
        let (before, touch) = (touches[second - 1], touches[second]);
        let gap = touch.1.and_then(|time| Some(time - before.1?));
        if before.0 == touch.0 || timeout.is_some_and(|timeout| gap.is_some_and(|gap| gap > timeout)) {
            continue;
        }
        let scope = match session_gap {
            Some(limit) => gap.map(|gap| if gap > limit { "between" } else { "within" }),
            None if has.lists[3] => Some(if before.3 == touch.3 { "within" } else { "between" }),
            None => None,
        };
        let is_new = !found.contains(&(before.0, touch.0, scope));
        found.push((before.0, touch.0, scope));
        let goal = touches[second..].iter().find(|touch| touch.4 == Some(true));
        let to_goal = goal.and_then(|goal| Some((goal.1? - touch.1?) as f64 / 1e6));
        let is_last = second + 1 == touches.len();
        let seconds = gap.map(|gap| gap as f64 / 1e6);
        let always = (second + 1, before.0, touch.0, touch.1, seconds, is_last, is_new);
        let more = (
            has.lists[2].then_some((before.2, touch.2, before.2 == touch.2)),
            scope,
            if has.lists[4] { to_goal } else { None },
        );
        switches.push(format!("{always:?} {more:?}"));
    }
    Some(switches)
}

/// Which lists, in the order of [`Touch`], and spans a call has.
#[derive(Debug, Clone)]
struct Has {
    lists: [bool; 5],
    session_gap: bool,
    timeout: bool,
}

fn list(journeys: &[Journey], number: usize, values: ArrayRef) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths(journeys.iter().map(|journey| journey.touches.len()));
    let nulls = NullBuffer::from_iter(journeys.iter().map(|journey| !journey.is_null[number]));
    Arc::new(ListArray::new(item_field(values.data_type().clone()), offsets, values, Some(nulls)))
}

fn texts(journeys: &[Journey], number: usize, text: impl Fn(&Touch) -> Option<&'static str>) -> ArrayRef {
    let texts: StringArray = journeys.iter().flat_map(|journey| journey.touches.iter().map(&text)).collect();
    list(journeys, number, cast(&texts, &coded_text_type()).unwrap())
}

/// What the function says of journeys, as texts like those of [`naive`].
fn said(journeys: &[Journey], has: &Has) -> Vec<Option<Vec<String>>> {
    let touches = || journeys.iter().flat_map(|journey| journey.touches.iter());
    let times: TimestampMicrosecondArray = touches().map(|touch| touch.1).collect();
    let goals: BooleanArray = touches().map(|touch| touch.4).collect();
    let spans =
        |span: fn(&Journey) -> Option<i64>| -> ArrayRef { Arc::new(journeys.iter().map(span).collect::<Int64Array>()) };
    let all = [
        (has.lists[2], "touchpoints", texts(journeys, 2, |touch| touch.2)),
        (has.lists[3], "session_ids", texts(journeys, 3, |touch| touch.3)),
        (has.lists[4], "goals", list(journeys, 4, Arc::new(goals))),
        (has.session_gap, "session_gap", spans(|journey| journey.session_gap)),
        (has.timeout, "timeout", spans(|journey| journey.timeout)),
    ];
    let given: Vec<(Arc<Field>, ArrayRef)> = all
        .into_iter()
        .filter(|(is_given, ..)| *is_given)
        .map(|(_, name, column)| (Arc::new(Field::new(name, column.data_type().clone(), true)), column))
        .collect();
    let options = match given.is_empty() {
        true => vec![],
        false => vec![ColumnarValue::Array(Arc::new(StructArray::from(given)))],
    };
    let options = Options::of_arguments(&options, journeys.len()).unwrap();
    let channels = Lists::of_array("f", &texts(journeys, 0, |touch| touch.0)).unwrap();
    let times = Lists::of_array("f", &list(journeys, 1, Arc::new(times))).unwrap();
    let found = find(&channels, &times, &options).unwrap();
    let text = |switches: &StructArray, name: &str, row: usize| {
        let texts = switches.column_by_name(name).unwrap().as_string_view();
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    };
    let seconds = |switches: &StructArray, name: &str, row: usize| {
        let seconds = switches.column_by_name(name).unwrap().as_primitive::<Float64Type>();
        seconds.is_valid(row).then(|| seconds.value(row))
    };
    let flag =
        |switches: &StructArray, name: &str, row: usize| switches.column_by_name(name).unwrap().as_boolean().value(row);
    let describe = |switches: &StructArray, row: usize| {
        let at = switches.column_by_name("switched_at").unwrap().as_primitive::<TimestampMicrosecondType>();
        let always = (
            switches.column_by_name("position").unwrap().as_primitive::<Int64Type>().value(row),
            text(switches, "from_channel", row),
            text(switches, "to_channel", row),
            at.is_valid(row).then(|| at.value(row)),
            seconds(switches, "seconds", row),
            flag(switches, "is_last", row),
            flag(switches, "is_new", row),
        );
        let of_touchpoints = || {
            (
                text(switches, "from_touchpoint", row),
                text(switches, "to_touchpoint", row),
                flag(switches, "is_repeat", row),
            )
        };
        let more = (
            has.lists[2].then(of_touchpoints),
            if has.lists[3] || has.session_gap { text(switches, "scope", row) } else { None },
            if has.lists[4] { seconds(switches, "seconds_to_goal", row) } else { None },
        );
        format!("{always:?} {more:?}")
    };
    let of_row = |switches: ArrayRef| {
        let switches = switches.as_struct();
        (0..switches.len()).map(|row| describe(switches, row)).collect()
    };
    found.as_list::<i32>().iter().map(|row| row.map(of_row)).collect()
}

proptest! {
    #[test]
    fn switches_are_those_of_a_naive_loop(
        journeys in prop::collection::vec(journey(), 1..8),
        more in any::<[bool; 2]>(),
        sessions in 0..3,
        timeout in any::<bool>(),
    ) {
        let has = Has { lists: [true, true, more[0], sessions == 1, more[1]], session_gap: sessions == 2, timeout };
        let expected: Vec<_> = journeys.iter().map(|journey| naive(journey, &has)).collect();
        prop_assert_eq!(said(&journeys, &has), expected, "{:?}", has);
    }
}
