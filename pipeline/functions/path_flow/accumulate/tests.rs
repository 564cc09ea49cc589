//! Tests of the accumulator: against a count by a map.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Int64Array, TimestampMicrosecondArray};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use proptest::prelude::*;

use super::super::super::arguments::time_type;
use super::super::super::journey_paths::testing::{
    Given, Journey, add, given, goals_and_starts, journey, journeys, list, touchpoints,
};
use super::super::super::single_group::SingleGroup;
use super::super::super::ways::way;
use super::*;

const GROUPS: usize = 3;

/// Position, from, to, journeys, converted, seconds.
type Record = (i64, Option<String>, Option<String>, i64, i64, Option<f64>);

/// A text, null behind all others.
type Text = (bool, String);

/// Journeys, converted, and the times between in microseconds.
type Counts = (i64, i64, Vec<i64>);

/// When a touch happened: in no order, and unknown now and then.
fn time(journey: &Journey, touch: usize) -> Option<i64> {
    let seconds = (touch * touch * 7 + journey.touches.len() * 5) % 11;
    // From some touches to others more than four bytes of microseconds.
    (seconds != 4).then_some(seconds as i64 * if seconds > 7 { 1_500_000_000 } else { 1_500_000 })
}

fn naive(rows: &[Journey], group: usize, given: Given, limit: usize) -> Vec<Record> {
    let mut counted: BTreeMap<(i64, Text, Text), Counts> = BTreeMap::new();
    let named = |name: &str| (false, name.to_owned());
    for row in rows.iter().filter(|row| row.group == group) {
        for (nodes, is_converted) in row.paths(given) {
            let text = |node: usize| {
                let touchpoint = row.touches[node].0;
                (touchpoint.is_none(), touchpoint.unwrap_or_default().to_owned())
            };
            let mut add = |position: usize, from: Text, to: Text, span: Option<i64>| {
                let counts = counted.entry((position as i64, from, to)).or_default();
                counts.0 += 1;
                counts.1 += i64::from(is_converted);
                counts.2.extend(span);
            };
            let span = |pair: &[usize]| Some(time(row, pair[1])? - time(row, pair[0])?);
            add(0, named("(start)"), text(nodes[0]), None);
            for (position, pair) in nodes.windows(2).enumerate().take(limit) {
                let to = if position + 1 == limit { named("(rest)") } else { text(pair[1]) };
                add(position + 1, text(pair[0]), to, span(pair));
            }
            if nodes.len() <= limit {
                add(nodes.len(), text(nodes[nodes.len() - 1]), named("(exit)"), None);
            }
        }
    }
    let text = |(is_null, text): Text| (!is_null).then_some(text);
    let median = |mut spans: Vec<i64>| {
        spans.sort_unstable();
        let middle = [spans.len().checked_sub(1)? / 2, spans.len() / 2];
        Some(middle.map(|place| spans[place] as f64).iter().sum::<f64>() / 2.0 / 1e6)
    };
    counted
        .into_iter()
        .map(|((position, from, to), (journeys, converted, spans))| {
            (position, text(from), text(to), journeys, converted, median(spans))
        })
        .collect()
}

fn read(results: &ArrayRef) -> Vec<Vec<Record>> {
    let lists = Lists::of_array(NAME, results).unwrap();
    let columns = lists.values.as_struct().columns();
    let [from, to] = [1, 2].map(|column: usize| TextColumn::of_array(NAME, &columns[column]).unwrap());
    let whole = |column: usize, at: usize| columns[column].as_primitive::<Int64Type>().value(at);
    let medians = columns[5].as_primitive::<datafusion::arrow::datatypes::Float64Type>();
    let record = |at: usize| {
        let [from, to] = [&from, &to].map(|texts| texts.get(at).map(str::to_owned));
        (whole(0, at), from, to, whole(3, at), whole(4, at), medians.is_valid(at).then(|| medians.value(at)))
    };
    (0..lists.len()).map(|row| lists.range(row).unwrap().map(record).collect()).collect()
}

fn arguments(rows: &[Journey], given: Given, encoding: usize) -> Vec<ArrayRef> {
    let times = rows.iter().flat_map(|row| (0..row.touches.len()).map(|touch| time(row, touch)));
    let times = times.collect::<TimestampMicrosecondArray>().with_data_type(time_type());
    let limit: ArrayRef = Arc::new(Int64Array::from(vec![1; rows.len()]));
    let first = vec![touchpoints(rows, encoding), list(rows, Arc::new(times), |row| row.has_touchpoints), limit];
    first.into_iter().chain(goals_and_starts(rows, given)).collect()
}

proptest! {
    #[test]
    fn any_order_and_any_split_give_the_answers_of_a_count_by_a_map(
        rows in journeys(GROUPS, 9),
        given in given(),
        limit in prop_oneof![1usize..4, Just(1000)],
        turn in 0usize..20,
        batches in prop::collection::vec((1usize..8, way(GROUPS), 0usize..4), 1..6),
        emitted in 0..=GROUPS,
    ) {
        let expected: Vec<_> = (0..GROUPS).map(|group| naive(&rows, group, given, limit)).collect();
        let mut turned = rows.clone();
        turned.rotate_left(turn % rows.len());
        let mut total = PathFlowAccumulator::new(limit);
        total.groups = GROUPS;
        let mut rest = &turned[..];
        for (length, way, encoding) in batches.iter().cycle() {
            let (batch, others) = rest.split_at((*length).min(rest.len()));
            let new = || PathFlowAccumulator::new(limit);
            add(&mut total, new, &arguments(batch, given, *encoding), batch, *way, GROUPS);
            rest = others;
            if rest.is_empty() {
                break;
            }
        }
        let mut found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(emitted)).unwrap());
        found.extend(read(&GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap()));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_slice_of_a_batch_is_read_right(rows in journeys(1, 6), given in given(), skip in 0usize..20) {
        let skip = skip.min(rows.len() - 1);
        let sliced: Vec<ArrayRef> =
            arguments(&rows, given, 3).iter().map(|array| array.slice(skip, rows.len() - skip)).collect();
        let filter: BooleanArray = rows[skip..].iter().map(|row| row.passes).collect();
        let mut total = PathFlowAccumulator::new(3);
        total.update_batch(&sliced, &vec![0; rows.len() - skip], Some(&filter), 1).unwrap();
        let found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap());
        prop_assert_eq!(found, vec![naive(&rows[skip..], 0, given, 3)]);
    }

    #[test]
    fn one_group_by_itself_gives_the_same(rows in journeys(1, 6), given in given(), cut in 0usize..20) {
        let mut rows = rows;
        rows.iter_mut().for_each(|row| row.passes = Some(true));
        let (first, second) = rows.split_at(cut.min(rows.len()));
        let mut total = SingleGroup::of(PathFlowAccumulator::new(3));
        total.update_batch(&arguments(first, given, 0)).unwrap();
        let before = total.evaluate().unwrap();
        prop_assert_eq!(&before, &total.evaluate().unwrap());
        let mut part = SingleGroup::of(PathFlowAccumulator::new(3));
        part.update_batch(&arguments(second, given, 3)).unwrap();
        let state: Vec<ArrayRef> =
            Accumulator::state(&mut part).unwrap().iter().map(|state| state.to_array().unwrap()).collect();
        Accumulator::merge_batch(&mut total, &state).unwrap();
        let found = read(&total.evaluate().unwrap().to_array().unwrap());
        prop_assert_eq!(found, vec![naive(&rows, 0, given, 3)]);
    }
}

/// As many groups leave, one after another, as a sorted input lets leave: what they hold leaves with them.
#[test]
fn groups_that_have_left_are_forgotten() {
    let names: Vec<&'static str> =
        (0..20_000).map(|number| &*Box::leak(format!("a page of its own, {number}").into_boxed_str())).collect();
    let mut total = PathFlowAccumulator::new(1000);
    let mut most = 0;
    for (number, names) in names.chunks(100).enumerate() {
        // The group before is group 0 and has a row more to come.
        let rows: Vec<Journey> = (0..2).map(|group| journey(group, names.to_vec())).collect();
        total.update_batch(&arguments(&rows, Given::Nothing, 0), &[0, 1], None, 2).unwrap();
        let left = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(1)).unwrap());
        assert_eq!(left[0].len(), if number == 0 { 101 } else { 202 });
        most = most.max(GroupsAccumulator::size(&total));
    }
    assert!(most < 100_000, "{most} bytes");
}
