//! Tests of the accumulator: against a count by a map.

use std::collections::BTreeMap;

use datafusion::arrow::array::AsArray;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use proptest::prelude::*;

use super::super::super::arguments::TextColumn;
use super::super::super::journey_paths::testing::{
    Given, Journey, add, given, goals_and_starts, journey, journeys, touchpoints,
};
use super::super::super::single_group::SingleGroup;
use super::super::super::ways::way;
use super::*;

const GROUPS: usize = 3;

/// Rank, path, journeys, longer, converted.
type Record = (i64, Vec<Option<String>>, i64, i64, i64);

/// A text, null behind all others.
type Text = (bool, String);

fn naive(rows: &[Journey], group: usize, given: Given, parameters: Parameters) -> Vec<Record> {
    let mut counted: BTreeMap<Vec<Text>, (i64, i64, i64)> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.group == group) {
        for (nodes, is_converted) in row.paths(given) {
            let text = |node: &usize| {
                let touchpoint = row.touches[*node].0;
                (touchpoint.is_none(), touchpoint.unwrap_or_default().to_owned())
            };
            let counts = counted.entry(nodes.iter().take(parameters.limit).map(text).collect()).or_default();
            counts.0 += 1;
            counts.1 += i64::from(nodes.len() > parameters.limit);
            counts.2 += i64::from(is_converted);
        }
    }
    let mut counted: Vec<_> = counted.into_iter().collect();
    counted.sort_by_key(|(_, counts)| -counts.0);
    let text = |(is_null, text): Text| (!is_null).then_some(text);
    let records = counted.into_iter().take(parameters.count).zip(1..);
    records
        .map(|((path, (journeys, longer, converted)), rank)| {
            (rank, path.into_iter().map(text).collect(), journeys, longer, converted)
        })
        .collect()
}

fn read(results: &ArrayRef) -> Vec<Vec<Record>> {
    let lists = Lists::of_array(NAME, results).unwrap();
    let columns = lists.values.as_struct().columns();
    let paths = Lists::of_array(NAME, &columns[1]).unwrap();
    let texts = TextColumn::of_array(NAME, &paths.values).unwrap();
    let number =
        |column: usize, at: usize| columns[column].as_primitive::<datafusion::arrow::datatypes::Int64Type>().value(at);
    let record = |at: usize| {
        let path = paths.range(at).unwrap().map(|place| texts.get(place).map(str::to_owned)).collect();
        (number(0, at), path, number(2, at), number(3, at), number(4, at))
    };
    (0..lists.len()).map(|row| lists.range(row).unwrap().map(record).collect()).collect()
}

fn arguments(rows: &[Journey], given: Given, encoding: usize) -> Vec<ArrayRef> {
    let constant: ArrayRef = Arc::new(Int64Array::from(vec![1; rows.len()]));
    let first = vec![Arc::clone(&constant), touchpoints(rows, encoding), constant];
    first.into_iter().chain(goals_and_starts(rows, given)).collect()
}

fn parameters() -> impl Strategy<Value = Parameters> {
    (prop_oneof![1usize..4, Just(1000)], prop_oneof![1usize..4, Just(8), Just(9), Just(1000)])
        .prop_map(|(count, limit)| Parameters { count, limit })
}

proptest! {
    #[test]
    fn any_order_and_any_split_give_the_answers_of_a_count_by_a_map(
        rows in prop_oneof![journeys(GROUPS, 7), journeys(GROUPS, 14)],
        given in given(),
        parameters in parameters(),
        turn in 0usize..20,
        batches in prop::collection::vec((1usize..8, way(GROUPS), 0usize..4), 1..6),
        emitted in 0..=GROUPS,
    ) {
        let expected: Vec<_> = (0..GROUPS).map(|group| naive(&rows, group, given, parameters)).collect();
        let mut turned = rows.clone();
        turned.rotate_left(turn % rows.len());
        let mut total = TopPathsAccumulator::new(parameters);
        total.groups = GROUPS;
        let mut rest = &turned[..];
        for (length, way, encoding) in batches.iter().cycle() {
            let (batch, others) = rest.split_at((*length).min(rest.len()));
            let new = || TopPathsAccumulator::new(parameters);
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
        let parameters = Parameters { count: 1000, limit: 3 };
        let sliced: Vec<ArrayRef> =
            arguments(&rows, given, 3).iter().map(|array| array.slice(skip, rows.len() - skip)).collect();
        let filter: BooleanArray = rows[skip..].iter().map(|row| row.passes).collect();
        let mut total = TopPathsAccumulator::new(parameters);
        total.update_batch(&sliced, &vec![0; rows.len() - skip], Some(&filter), 1).unwrap();
        let found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap());
        prop_assert_eq!(found, vec![naive(&rows[skip..], 0, given, parameters)]);
    }

    #[test]
    fn one_group_by_itself_gives_the_same(rows in journeys(1, 6), given in given(), cut in 0usize..20) {
        let mut rows = rows;
        rows.iter_mut().for_each(|row| row.passes = Some(true));
        let parameters = Parameters { count: 3, limit: 3 };
        let (first, second) = rows.split_at(cut.min(rows.len()));
        let mut total = SingleGroup::of(TopPathsAccumulator::new(parameters));
        total.update_batch(&arguments(first, given, 0)).unwrap();
        let before = total.evaluate().unwrap();
        prop_assert_eq!(&before, &total.evaluate().unwrap());
        let mut part = SingleGroup::of(TopPathsAccumulator::new(parameters));
        part.update_batch(&arguments(second, given, 3)).unwrap();
        let state: Vec<ArrayRef> =
            Accumulator::state(&mut part).unwrap().iter().map(|state| state.to_array().unwrap()).collect();
        Accumulator::merge_batch(&mut total, &state).unwrap();
        let found = read(&total.evaluate().unwrap().to_array().unwrap());
        prop_assert_eq!(found, vec![naive(&rows, 0, given, parameters)]);
    }
}

/// As many groups leave, one after another, as a sorted input lets leave: what they hold leaves with them.
#[test]
fn groups_that_have_left_are_forgotten() {
    let names: Vec<&'static str> =
        (0..20_000).map(|number| &*Box::leak(format!("a page of its own, {number}").into_boxed_str())).collect();
    let parameters = Parameters { count: 1000, limit: 9 };
    let mut total = TopPathsAccumulator::new(parameters);
    let mut most = 0;
    for (number, names) in names.chunks(100).enumerate() {
        // The group before is group 0 and has a row more to come.
        let rows: Vec<Journey> = (0..2).map(|group| journey(group, names.to_vec())).collect();
        total.update_batch(&arguments(&rows, Given::Nothing, 0), &[0, 1], None, 2).unwrap();
        let left = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(1)).unwrap());
        assert_eq!(left[0].len(), if number == 0 { 1 } else { 2 });
        assert!(left[0].iter().any(|record| record.1[8].as_deref() == Some(names[8])));
        most = most.max(GroupsAccumulator::size(&total));
    }
    assert!(most < 100_000, "{most} bytes");
}

#[test]
fn the_size_goes_with_distinct_paths_and_not_with_rows() {
    let rows: Vec<Journey> = (0..1000)
        .map(|number| journey(0, vec![["home", "cart"][number % 2], ["view", "buy"][number / 2 % 2]]))
        .collect();
    let mut total = TopPathsAccumulator::new(Parameters { count: 10, limit: 8 });
    let arguments = arguments(&rows, Given::Nothing, 0);
    total.update_batch(&arguments, &vec![0; rows.len()], None, 1).unwrap();
    let full = GroupsAccumulator::size(&total);
    for _ in 0..20 {
        total.update_batch(&arguments, &vec![0; rows.len()], None, 1).unwrap();
    }
    assert_eq!(GroupsAccumulator::size(&total), full);
    assert!(full < 2_000, "{full}");
}
