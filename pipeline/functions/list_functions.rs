//! Tests of the functions over lists, in SQL: any journeys, in any encoding and cut into any batches, give each row what a
//! plain reading of the manual gives. The functions of [`ELSEWHERE`] have tests of their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray, TimestampSecondArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use super::arguments::{item_field, list_type};
use super::{register_all, scalar_functions};

/// Any funnels of any journeys are asked of these beside an oracle, any counts in the tests of the formulas.
const ELSEWHERE: [&str; 7] = [
    "difference_interval",
    "journey_funnel",
    "journey_funnel_attempts",
    "journey_funnel_positions",
    "sample_ratio_p",
    "two_proportion_test",
    "wilson_interval",
];

const NONE: &str = "-";

#[derive(Debug, Clone)]
struct Touch {
    touchpoint: Option<&'static str>,
    channel: Option<&'static str>,
    second: i64,
    /// Whether the second stands in the list of times that may hold nulls.
    is_timed: bool,
    goal: Option<bool>,
    start: Option<bool>,
    number: Option<i64>,
}

/// A row. A list that is null hides the touches that it would have.
#[derive(Debug, Clone)]
struct Journey {
    touches: Vec<Touch>,
    hidden: Hidden,
    kind: Option<&'static str>,
    from: Option<&'static str>,
    to: Option<&'static str>,
    step: Option<&'static str>,
    limit: Option<i64>,
    place: Option<i64>,
    gap: Option<i64>,
    converted_at: Option<i64>,
}

#[derive(Debug, Clone, Default)]
struct Hidden {
    touchpoints: bool,
    channels: bool,
    times: bool,
    marks: bool,
}

type Elements<T> = Option<Vec<T>>;

impl Journey {
    fn list<T>(&self, is_hidden: bool, element: impl Fn(&Touch) -> T) -> Elements<T> {
        (!is_hidden).then(|| self.touches.iter().map(element).collect())
    }

    fn touchpoints(&self) -> Elements<Option<&'static str>> {
        self.list(self.hidden.touchpoints, |touch| touch.touchpoint)
    }

    fn channels(&self) -> Elements<Option<&'static str>> {
        self.list(self.hidden.channels, |touch| touch.channel)
    }

    /// Seconds, all known.
    fn times(&self) -> Elements<i64> {
        self.list(self.hidden.times, |touch| touch.second)
    }

    /// Seconds, some null.
    fn some_times(&self) -> Elements<Option<i64>> {
        self.list(self.hidden.times, |touch| Some(touch.second).filter(|_| touch.is_timed))
    }

    fn goals(&self) -> Elements<bool> {
        self.list(self.hidden.marks, |touch| touch.goal == Some(true))
    }

    /// Where runs start that begin at marked elements.
    fn runs(&self) -> Elements<Vec<usize>> {
        let starts = self.list(self.hidden.marks, |touch| touch.start == Some(true))?;
        Some(runs(starts.len(), |element| starts[element]))
    }

    fn numbers(&self) -> Elements<Option<i64>> {
        self.list(self.hidden.marks, |touch| touch.number)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------------------------

/// An answer for a journey; none where it is null.
type Answer = dyn Fn(&Journey) -> Option<String>;

struct Call {
    sql: String,
    answer: Box<Answer>,
}

impl Call {
    fn new(sql: &str, answer: impl Fn(&Journey) -> Option<String> + 'static) -> Self {
        Self { sql: sql.to_owned(), answer: Box::new(answer) }
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.sql)
    }
}

fn shown<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    format!("[{}]", items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", "))
}

fn or_none<T: ToString>(item: Option<T>) -> String {
    item.map_or(NONE.to_owned(), |item| item.to_string())
}

fn shown_with_nulls<T: ToString>(items: impl IntoIterator<Item = Option<T>>) -> String {
    shown(items.into_iter().map(or_none))
}

fn moment(second: i64) -> String {
    format!("1970-01-01T00:00:{second:02}Z")
}

fn seconds(from: Option<i64>, to: Option<i64>) -> String {
    from.zip(to).map_or(NONE.to_owned(), |(from, to)| format!("{:?}", (to - from) as f64))
}

/// The runs of so many elements, each by its elements.
fn runs(count: usize, starts: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = vec![];
    for element in 0..count {
        if element == 0 || starts(element) {
            runs.push(vec![]);
        }
        runs.last_mut().unwrap().push(element);
    }
    runs
}

/// Runs of equal elements.
fn equal_runs<T: PartialEq>(elements: &[T]) -> Vec<Vec<usize>> {
    runs(elements.len(), |element| elements[element] != elements[element - 1])
}

fn collapsed<T: Clone + PartialEq>(elements: &[T]) -> Vec<T> {
    equal_runs(elements).iter().map(|run| elements[run[0]].clone()).collect()
}

fn distinct<T: Ord + Clone>(elements: &[Option<T>]) -> String {
    elements.iter().flatten().cloned().collect::<BTreeSet<T>>().len().to_string()
}

/// Runs that end before a rest longer than the gap, or behind a goal.
fn timed_runs(journey: &Journey, has_goals: bool) -> Elements<Vec<usize>> {
    let (times, gap) = (journey.times()?, journey.gap?);
    let goals = if has_goals { journey.goals()? } else { vec![false; times.len()] };
    Some(runs(times.len(), |element| times[element] - times[element - 1] > gap || goals[element - 1]))
}

fn flags(runs: &[Vec<usize>]) -> String {
    shown(runs.iter().flat_map(|run| (0..run.len()).map(|place| place == 0)))
}

fn run_ids(journey: &Journey) -> Option<String> {
    let (kind, ids, runs) = (journey.kind?, journey.touchpoints()?, journey.runs()?);
    let id = |text: &str| {
        let digest = Sha256::digest(format!("{kind}\0{text}"));
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    Some(shown_with_nulls(runs.iter().flat_map(|run| run.iter().map(|_| ids[run[0]].map(id)))))
}

fn run_end(journey: &Journey) -> Option<String> {
    let (runs, place) = (journey.runs()?, journey.place?);
    let run = runs.iter().find(|run| run.iter().any(|element| *element as i64 + 1 == place))?;
    Some((run[run.len() - 1] + 1).to_string())
}

fn content_number(journey: &Journey) -> Option<String> {
    let (text, number) = (journey.from?, journey.limit?);
    let mut content = text.as_bytes().to_vec();
    content.push(0);
    content.extend(number.to_be_bytes());
    let head: [u8; 8] = Sha256::digest(content)[..8].try_into().unwrap();
    Some(i64::from_be_bytes(head).to_string())
}

fn first_at(journey: &Journey) -> Option<String> {
    let (channels, touchpoints, step) = (journey.channels()?, journey.touchpoints()?, journey.step?);
    let fits = |touchpoint: &Option<&str>| step.split('|').any(|name| name == "*" || *touchpoint == Some(name));
    channels[touchpoints.iter().position(fits)?].map(str::to_owned)
}

fn path_text(journey: &Journey) -> Option<String> {
    let (path, limit) = (collapsed(&journey.touchpoints()?), journey.limit? as usize);
    let mut shown: Vec<&str> = path.iter().take(limit).map(|touchpoint| touchpoint.unwrap_or("(none)")).collect();
    if path.len() > limit {
        shown.push("…");
    }
    Some(shown.join(" > "))
}

/// Every stretch that begins and ends as asked: the first, or the last.
fn slice(journey: &Journey, is_last: bool) -> Option<std::ops::Range<usize>> {
    let touchpoints = journey.touchpoints()?;
    let mut stretches = vec![];
    for start in 0..=touchpoints.len() {
        for end in start..=touchpoints.len() {
            let begins = journey.from.map_or(start == 0, |from| touchpoints.get(start) == Some(&Some(from)));
            let ends = journey.to.map_or(end == touchpoints.len(), |to| end > 0 && touchpoints[end - 1] == Some(to));
            let ends_given = usize::from(journey.from.is_some()) + usize::from(journey.to.is_some());
            if begins && ends && end - start >= ends_given {
                stretches.push(start..end);
            }
        }
    }
    match is_last {
        false => stretches.into_iter().min_by_key(|stretch| (stretch.start, stretch.end)),
        true => stretches.into_iter().max_by_key(|stretch| (stretch.end, stretch.start)),
    }
}

fn path_edges(journey: &Journey) -> Option<String> {
    let (touchpoints, times) = (journey.touchpoints()?, journey.some_times()?);
    let limit = journey.limit? as usize;
    let runs = equal_runs(&touchpoints);
    let name = |run: usize| or_none(touchpoints[runs[run][0]]);
    let edge = |node: usize| {
        let from = if node == 0 { "(start)".to_owned() } else { name(node - 1) };
        let to = match node {
            node if node == runs.len() => "(exit)".to_owned(),
            node if node == limit => "(rest)".to_owned(),
            node => name(node),
        };
        let is_timed = node > 0 && node < runs.len();
        let seconds = if is_timed { seconds(times[runs[node - 1][0]], times[runs[node][0]]) } else { NONE.to_owned() };
        format!("{{position: {node}, from_touchpoint: {from}, to_touchpoint: {to}, seconds: {seconds}}}")
    };
    let nodes = if runs.is_empty() { 0 } else { runs.len().min(limit) + 1 };
    Some(shown((0..nodes).map(edge)))
}

fn journey_cells(journey: &Journey) -> Option<String> {
    let (stages, channels, times) = (journey.touchpoints()?, journey.channels()?, journey.some_times()?);
    let cells: Vec<(String, String)> = stages
        .iter()
        .zip(&channels)
        .map(|(stage, channel)| (stage.unwrap_or("(none)").into(), or_none(*channel)))
        .collect();
    let runs = equal_runs(&cells);
    let visit = |visit: usize| {
        let (first, last) = (runs[visit][0], runs[visit][runs[visit].len() - 1]);
        let next = cells.get(last + 1).cloned().unwrap_or((NONE.to_owned(), NONE.to_owned()));
        let is_last = visit + 1 == runs.len();
        format!(
            "{{stage: {}, channel: {}, entered_at: {}, seconds: {}, touch_count: {}, next_stage: {}, next_channel: {}, \
             is_last: {is_last}}}",
            cells[first].0,
            cells[first].1,
            or_none(times[first].map(moment)),
            seconds(times[first], times[if is_last { last } else { last + 1 }]),
            runs[visit].len(),
            next.0,
            next.1,
        )
    };
    Some(shown((0..runs.len()).map(visit)))
}

fn channel_switches(journey: &Journey) -> Option<String> {
    let (channels, times) = (journey.channels()?, journey.some_times()?);
    let mut seen = vec![];
    let mut switches = vec![];
    for touch in (1..channels.len()).filter(|touch| channels[*touch] != channels[touch - 1]) {
        let kind = (channels[touch - 1], channels[touch]);
        switches.push(format!(
            "{{position: {}, from_channel: {}, to_channel: {}, switched_at: {}, seconds: {}, is_last: {}, is_new: {}}}",
            touch + 1,
            or_none(kind.0),
            or_none(kind.1),
            or_none(times[touch].map(moment)),
            seconds(times[touch - 1], times[touch]),
            touch + 1 == channels.len(),
            !seen.contains(&kind),
        ));
        seen.push(kind);
    }
    Some(shown(switches))
}

/// No list of a timeline may be null.
fn goal_touches(journey: &Journey) -> Option<String> {
    let (times, channels) = (journey.some_times()?, journey.channels()?);
    let (goals, look_back) = (journey.goals()?, journey.gap?);
    let conversion = |goal: usize| {
        let counts = |touch: &usize| {
            let age = times[goal].zip(times[*touch]).map(|(goal, touch)| goal - touch);
            !goals[*touch] && age.is_some_and(|age| (0..=look_back).contains(&age))
        };
        let touches: Vec<usize> = (0..goal).filter(counts).collect();
        format!(
            "{{goal: {{times: {}, channels: {}}}, touches: {{times: {}, channels: {}}}}}",
            or_none(times[goal]),
            or_none(channels[goal]),
            shown_with_nulls(touches.iter().map(|touch| times[*touch])),
            shown_with_nulls(touches.iter().map(|touch| channels[*touch])),
        )
    };
    Some(shown((0..goals.len()).filter(|element| goals[*element]).map(conversion)))
}

fn split_at(journey: &Journey) -> Option<String> {
    let (touchpoints, channels) = (journey.touchpoints()?, journey.channels()?);
    let part =
        |elements: &[Option<&str>], run: &[usize]| shown_with_nulls(run.iter().map(|element| elements[*element]));
    let run = |run: &Vec<usize>| format!("{{t: {}, c: {}}}", part(&touchpoints, run), part(&channels, run));
    Some(shown(journey.runs()?.iter().map(run)))
}

/// What touches get by a model, told by how many count and which this is.
fn weights(model: &str, touches: &[(Option<&str>, Option<i64>)]) -> Vec<f64> {
    let count = touches.len();
    let ends = |first: f64, last: f64| -> Vec<f64> {
        let weight = |touch: usize| match (count, touch) {
            (1, _) => 1.0,
            (2, 0) => first / (first + last),
            (2, _) => last / (first + last),
            (_, 0) => first,
            (_, touch) if touch + 1 == count => last,
            _ => (1.0 - first - last) / (count - 2) as f64,
        };
        (0..count).map(weight).collect()
    };
    match model {
        "first" => ends(1.0, 0.0),
        "last" => ends(0.0, 1.0),
        "linear" => vec![1.0 / count as f64; count],
        "u_shaped" | "position_based" => ends(0.4, 0.4),
        "j_shaped" => ends(0.2, 0.6),
        "inverse_j_shaped" => ends(0.6, 0.2),
        "time_decay" => {
            let halves = touches.iter().map(|touch| 0.5f64.powf((60 - touch.1.unwrap()) as f64 / 5.0));
            let whole: f64 = halves.clone().sum();
            halves.map(|half| half / whole).collect()
        }
        "participation" => {
            let is_first = |touch: usize| touches[..touch].iter().all(|earlier| earlier.0 != touches[touch].0);
            (0..count).map(|touch| f64::from(is_first(touch))).collect()
        }
        model => panic!("no model {model}"),
    }
}

/// The same with weights of 0 for touches that do not count.
fn attribution(journey: &Journey, model: &str, looks_back: bool) -> Option<String> {
    let (touchpoints, times) = (journey.touchpoints()?, journey.some_times()?);
    let range = if looks_back {
        let converted_at = journey.converted_at?;
        Some(converted_at - journey.gap?..=converted_at)
    } else {
        None
    };
    let counts = |touch: &usize| match (&range, times[*touch]) {
        (Some(range), time) => time.is_some_and(|time| range.contains(&time)),
        (None, time) => model != "time_decay" || time.is_some(),
    };
    let counted: Vec<usize> = (0..times.len()).filter(counts).collect();
    let touches: Vec<_> = counted.iter().map(|touch| (touchpoints[*touch], times[*touch])).collect();
    let mut all = vec![0.0; times.len()];
    for (touch, weight) in counted.into_iter().zip(weights(model, &touches)) {
        all[touch] = weight;
    }
    Some(shown(all.iter().map(|weight| format!("{weight:?}"))))
}

const MODELS: [&str; 9] = [
    "first",
    "last",
    "linear",
    "u_shaped",
    "position_based",
    "j_shaped",
    "inverse_j_shaped",
    "time_decay",
    "participation",
];

/// A call of every function but those of [`ELSEWHERE`].
fn calls() -> Vec<Call> {
    let mut calls = vec![
        Call::new("count_distinct(touchpoints)", |journey| Some(distinct(&journey.touchpoints()?))),
        Call::new("count_distinct(numbers)", |journey| Some(distinct(&journey.numbers()?))),
        Call::new("count_distinct(some_times)", |journey| Some(distinct(&journey.some_times()?))),
        Call::new("count_switches(channels)", |journey| {
            Some(equal_runs(&journey.channels()?).len().saturating_sub(1).to_string())
        }),
        Call::new("count_switches(numbers)", |journey| {
            Some(equal_runs(&journey.numbers()?).len().saturating_sub(1).to_string())
        }),
        Call::new("first_at(channels, touchpoints, step)", first_at),
        Call::new("first_at(channels, touchpoints, 'cart|buy')", |journey| {
            first_at(&Journey { step: Some("cart|buy"), ..journey.clone() })
        }),
        Call::new("gap_starts(times, gap * 1000000)", |journey| Some(flags(&timed_runs(journey, false)?))),
        Call::new("journey_starts(times, goals, gap * 1000000)", |journey| Some(flags(&timed_runs(journey, true)?))),
        Call::new("arrow_cast(run_starts(times, gap * 1000000), 'List(Int64)')", |journey| {
            let times = journey.times()?;
            Some(shown(timed_runs(journey, false)?.iter().map(|run| times[run[0]] * 1_000_000)))
        }),
        Call::new("run_ids(kind, touchpoints, starts)", run_ids),
        Call::new("run_end(starts, place)", run_end),
        Call::new("list_any(goals)", |journey| Some(journey.goals()?.contains(&true).to_string())),
        Call::new("list_sum(numbers)", |journey| Some(journey.numbers()?.iter().flatten().sum::<i64>().to_string())),
        Call::new("list_sum(arrow_cast(numbers, 'LargeList(Int8)'))", |journey| {
            Some(journey.numbers()?.iter().flatten().sum::<i64>().to_string())
        }),
        Call::new("list_sum(arrow_cast(numbers, 'List(Float32)'))", |journey| {
            Some(format!("{:?}", journey.numbers()?.iter().flatten().sum::<i64>() as f64))
        }),
        Call::new("list_sum(arrow_cast(numbers, 'List(Decimal128(9, 2))'))", |journey| {
            Some(format!("{}.00", journey.numbers()?.iter().flatten().sum::<i64>()))
        }),
        Call::new("path_collapse(touchpoints)", |journey| Some(shown_with_nulls(collapsed(&journey.touchpoints()?)))),
        Call::new("path_collapse(numbers)", |journey| Some(shown_with_nulls(collapsed(&journey.numbers()?)))),
        Call::new("path_text(touchpoints, limits)", path_text),
        Call::new("path_text(touchpoints, 2)", |journey| path_text(&Journey { limit: Some(2), ..journey.clone() })),
        Call::new("path_slice(touchpoints, first, behind)", |journey| {
            let touchpoints = journey.touchpoints()?;
            Some(shown_with_nulls(touchpoints[slice(journey, false)?].iter().copied()))
        }),
        Call::new("path_slice(numbers, touchpoints, first, behind, 'last')", |journey| {
            let numbers = journey.numbers()?;
            Some(shown_with_nulls(numbers[slice(journey, true)?].iter().copied()))
        }),
        Call::new("path_edges(touchpoints, some_times, limits)", path_edges),
        Call::new("journey_cells(touchpoints, channels, some_times)", journey_cells),
        Call::new("channel_switches(channels, some_times)", channel_switches),
        Call::new(
            "case when seconds is not null and channels is not null then \
             goal_touches(named_struct('times', seconds, 'channels', channels), goals, gap) end",
            goal_touches,
        ),
        Call::new(
            "case when touchpoints is not null and channels is not null then \
             split_at(named_struct('t', touchpoints, 'c', channels), starts) end",
            split_at,
        ),
        Call::new("content_id(kind, first)", |journey| {
            let digest = Sha256::digest(format!("{}\0{}", journey.kind?, journey.from?));
            Some(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
        }),
        Call::new("content_number(first, limits)", content_number),
    ];
    for model in MODELS {
        calls.push(Call::new(
            &format!("attribution_weights('{model}', touchpoints, some_times, interval '5 seconds')"),
            |journey| attribution(journey, model, false),
        ));
        calls.push(Call::new(
            &format!(
                "attribution_weights('{model}', touchpoints, some_times, \
                 arrow_cast(converted_at * 1000000, 'Timestamp(µs, \"UTC\")'), gap * 1000000, interval '5 seconds')"
            ),
            |journey| attribution(journey, model, true),
        ));
    }
    calls
}

// ---------------------------------------------------------------------------------------------------------------
// Journeys
// ---------------------------------------------------------------------------------------------------------------

const TOUCHPOINTS: [&str; 5] = ["home", "cart", "buy", "", "a touchpoint with a long name"];

fn touch() -> impl Strategy<Value = (Touch, i64)> {
    let flag = || prop::option::weighted(0.8, prop::bool::weighted(0.3));
    (
        prop::option::weighted(0.85, prop::sample::select(&TOUCHPOINTS[..])),
        prop::option::weighted(0.85, prop::sample::select(&["web", "store", "app"][..])),
        prop_oneof![Just(0i64), 0i64..8],
        prop::bool::weighted(0.85),
        (flag(), flag(), prop::option::weighted(0.8, -3i64..3)),
    )
        .prop_map(|(touchpoint, channel, rest, is_timed, (goal, start, number))| {
            (Touch { touchpoint, channel, second: 0, is_timed, goal, start, number }, rest)
        })
}

fn journey() -> impl Strategy<Value = Journey> {
    let touchpoint = || prop::option::weighted(0.7, prop::sample::select(&TOUCHPOINTS[..]));
    let step = prop::sample::select(&["home", "cart|buy", "*", "help", "help|buy|home"][..]);
    let hidden = || prop::bool::weighted(0.07);
    let some = |range: std::ops::Range<i64>| prop::option::weighted(0.9, range);
    (
        prop::collection::vec(touch(), 0..8),
        (hidden(), hidden(), hidden(), hidden()),
        prop::option::weighted(0.9, prop::sample::select(&["session", "", "journey"][..])),
        (touchpoint(), touchpoint(), prop::option::weighted(0.9, step)),
        (some(1..6), some(-1..10), some(0..12), some(0..60)),
    )
        .prop_map(|(touches, hidden, kind, (from, to, step), (limit, place, gap, converted_at))| {
            let mut second = 0;
            let timed = |(touch, rest)| {
                second += rest;
                Touch { second, ..touch }
            };
            let (touchpoints, channels, times, marks) = hidden;
            Journey {
                touches: touches.into_iter().map(timed).collect(),
                hidden: Hidden { touchpoints, channels, times, marks },
                kind,
                from,
                to,
                step,
                limit,
                place,
                gap,
                converted_at,
            }
        })
}

/// How texts, times and flags lie.
#[derive(Debug, Clone)]
struct Encoding {
    texts: DataType,
    times: DataType,
    is_large: bool,
}

fn encoding() -> impl Strategy<Value = Encoding> {
    let coded = |key: DataType, value: DataType| DataType::Dictionary(Box::new(key), Box::new(value));
    let texts = vec![
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        coded(DataType::Int32, DataType::Utf8),
        coded(DataType::UInt8, DataType::Utf8View),
        coded(DataType::Int64, DataType::LargeUtf8),
    ];
    let times = vec![
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
    ];
    (prop::sample::select(texts), prop::sample::select(times), any::<bool>())
        .prop_map(|(texts, times, is_large)| Encoding { texts, times, is_large })
}

/// The journeys as one batch.
fn batch(journeys: &[Journey], encoding: &Encoding) -> RecordBatch {
    let list = |values: ArrayRef, hides: fn(&Hidden) -> bool, element: &DataType| -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths(journeys.iter().map(|journey| journey.touches.len()));
        let nulls: Vec<bool> = journeys.iter().map(|journey| !hides(&journey.hidden)).collect();
        let list = ListArray::new(item_field(values.data_type().clone()), offsets, values, Some(nulls.into()));
        let coded = cast(&list, &list_type(element.clone())).unwrap();
        if encoding.is_large { cast(&coded, &DataType::LargeList(item_field(element.clone()))).unwrap() } else { coded }
    };
    let touches = || journeys.iter().flat_map(|journey| &journey.touches);
    let texts = |text: fn(&Touch) -> Option<&'static str>| Arc::new(touches().map(text).collect::<StringArray>());
    let booleans = |flag: fn(&Touch) -> Option<bool>| Arc::new(touches().map(flag).collect::<BooleanArray>());
    let some_seconds = || touches().map(|touch| Some(touch.second).filter(|_| touch.is_timed));
    let seconds: TimestampSecondArray = touches().map(|touch| Some(touch.second)).collect();
    let text = |text: fn(&Journey) -> Option<&'static str>| -> ArrayRef {
        Arc::new(journeys.iter().map(text).collect::<StringArray>())
    };
    let number = |number: fn(&Journey) -> Option<i64>| -> ArrayRef {
        Arc::new(journeys.iter().map(number).collect::<Int64Array>())
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("touchpoints", list(texts(|touch| touch.touchpoint), |hidden| hidden.touchpoints, &encoding.texts)),
        ("channels", list(texts(|touch| touch.channel), |hidden| hidden.channels, &encoding.texts)),
        ("times", list(Arc::new(seconds), |hidden| hidden.times, &encoding.times)),
        (
            "some_times",
            list(Arc::new(some_seconds().collect::<TimestampSecondArray>()), |hidden| hidden.times, &encoding.times),
        ),
        ("seconds", list(Arc::new(some_seconds().collect::<Int64Array>()), |hidden| hidden.times, &DataType::Int64)),
        ("goals", list(booleans(|touch| touch.goal), |hidden| hidden.marks, &DataType::Boolean)),
        ("starts", list(booleans(|touch| touch.start), |hidden| hidden.marks, &DataType::Boolean)),
        (
            "numbers",
            list(
                Arc::new(touches().map(|touch| touch.number).collect::<Int64Array>()),
                |hidden| hidden.marks,
                &DataType::Int64,
            ),
        ),
        ("kind", text(|journey| journey.kind)),
        ("first", text(|journey| journey.from)),
        ("behind", text(|journey| journey.to)),
        ("step", text(|journey| journey.step)),
        ("limits", number(|journey| journey.limit)),
        ("place", number(|journey| journey.place)),
        ("gap", number(|journey| journey.gap)),
        ("converted_at", number(|journey| journey.converted_at)),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// The answers of all calls, a row per journey; batches of the table are slices of one.
async fn run(journeys: &[Journey], encoding: &Encoding, batch_size: usize, calls: &[Call]) -> Vec<Vec<String>> {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    register_all(&ctx);
    let all = batch(journeys, encoding);
    let slice = |start: usize| all.slice(start, batch_size.min(journeys.len() - start));
    let batches: Vec<RecordBatch> = (0..journeys.len()).step_by(batch_size).map(slice).collect();
    ctx.register_table("journeys", Arc::new(MemTable::try_new(all.schema(), vec![batches]).unwrap())).unwrap();
    let select: Vec<String> =
        calls.iter().enumerate().map(|(number, call)| format!("{} as a{number}", call.sql)).collect();
    let batches = ctx.sql(&format!("select {} from journeys", select.join(", "))).await.unwrap();
    let options = FormatOptions::new().with_null(NONE);
    let mut rows = vec![];
    for batch in batches.collect().await.unwrap() {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let text = |row: usize| columns.iter().map(move |column| column.value(row).to_string());
        rows.extend((0..batch.num_rows()).map(|row| text(row).collect::<Vec<_>>()));
    }
    rows
}

/// Equal texts, or lists of numbers that are equal but for rounding.
fn agree(found: &str, expected: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<f64>> {
        let items = text.strip_prefix('[')?.strip_suffix(']')?.split(", ");
        items.map(|item| item.parse().ok()).collect()
    };
    let is_near = |found: Vec<f64>, expected: Vec<f64>| {
        found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-12)
    };
    found == expected || numbers(found).zip(numbers(expected)).is_some_and(|(found, expected)| is_near(found, expected))
}

/// Names of functions that a text calls.
fn called(sql: &str) -> Vec<&str> {
    sql.match_indices('(')
        .filter_map(|(end, _)| sql[..end].rsplit(|c: char| c != '_' && !c.is_alphanumeric()).next())
        .collect()
}

#[test]
fn each_function_is_asked_here_or_elsewhere() {
    let calls = calls();
    let asked: BTreeSet<&str> = calls.iter().flat_map(|call| called(&call.sql)).chain(ELSEWHERE).collect();
    for function in scalar_functions() {
        assert!(asked.contains(function.name()), "{}", function.name());
    }
}

/// A null where something is asked is no proof; over some journeys every call must have many answers.
#[test]
fn answers_are_of_many_kinds() {
    let mut runner = TestRunner::deterministic();
    let journeys: Vec<Journey> = (0..500).map(|_| journey().new_tree(&mut runner).unwrap().current()).collect();
    for call in calls() {
        let answers: Vec<Option<String>> = journeys.iter().map(|journey| (call.answer)(journey)).collect();
        let kinds = answers.iter().flatten().collect::<BTreeSet<_>>().len();
        let enough = match call.sql.split('(').next() {
            Some("list_any") => 2,
            Some("first_at") => 3,
            _ => 6,
        };
        assert!(answers.contains(&None) && kinds >= enough, "{call:?}: {kinds} kinds of answers");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_journeys_give_the_answers_of_the_manual_whatever_the_encoding_and_the_batches(
        journeys in prop::collection::vec(journey(), 1..12),
        encoding in encoding(),
        batch_size in 1usize..6,
    ) {
        let calls = calls();
        let found = Runtime::new().unwrap().block_on(run(&journeys, &encoding, batch_size, &calls));
        prop_assert_eq!(found.len(), journeys.len());
        for (journey, row) in journeys.iter().zip(&found) {
            for (call, answer) in calls.iter().zip(row) {
                let expected = (call.answer)(journey).unwrap_or(NONE.to_owned());
                prop_assert!(agree(answer, &expected), "{:?} of {:?}: {} instead of {}", call, journey, answer, expected);
            }
        }
    }
}
