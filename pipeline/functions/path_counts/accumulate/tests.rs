//! Tests of the accumulators: against a count by names, and for what they hold.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::{GenericListArray, OffsetSizeTrait};
use datafusion::arrow::compute::cast;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use proptest::prelude::*;

use super::super::super::arguments::coded_text_type;
use super::super::super::single_group::SingleGroup;
use super::super::super::ways::{Way, way};
use super::super::testing::{Path, paths};
use super::super::{Credit, Keys};
use super::*;

const GROUPS: usize = 3;

/// A number that tells a key and its position from others.
fn place(position: usize, ranks: impl Iterator<Item = u32>) -> f64 {
    ranks.fold(position as f64, |place, rank| place * 7.0 + f64::from(rank))
}

/// A model that shows every key, its place and its counts.
#[derive(Debug, Clone)]
struct Probe(Keys);

impl Model for Probe {
    const NAME: &'static str = "probe";
    const MEASURE: &'static str = "measure";

    fn parameter_type(data_type: &DataType) -> Result<DataType> {
        Ok(data_type.clone())
    }

    fn of_parameter(parameter: &ScalarValue) -> Result<Self> {
        plan_err!("probe: not called with {parameter}")
    }

    fn keys(&self) -> Keys {
        self.0
    }

    fn credits(&self, entries: &Entries) -> Result<Vec<Credit>> {
        let of_channel = |channel: u32| {
            let (mut measure, mut conversions, mut value) = (0.0, 0.0, 0.0);
            for (position, (key, counts)) in entries.iter().enumerate().filter(|(_, (key, _))| key.contains(&channel)) {
                let place = place(position, key.iter().copied());
                measure += place * counts.conversions as f64;
                conversions += place * counts.nulls as f64;
                value += place * counts.value as f64;
            }
            Credit { measure: Some(measure), conversions: Some(conversions), value: Some(value) }
        };
        Ok((1..=entries.channels() as u32).map(of_channel).collect())
    }

    fn bytes_of_credits(&self, _keys: usize, _channels: usize) -> usize {
        0
    }
}

#[derive(Debug, Clone)]
struct Row {
    group: usize,
    path: Path,
    passes: Option<bool>,
}

/// The records of a group, their numbers as bits.
type Records = Vec<(String, u64, u64, u64)>;

/// A part of a key: before the first touch, a touch, behind the last; in the order of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Start,
    Touch(&'static str),
    End,
}

/// The keys of a path, the one that has its value last.
fn keys_of(keys: Keys, channels: &[&'static str]) -> Vec<Vec<Part>> {
    let touches = channels.iter().map(|channel| Part::Touch(channel));
    match keys {
        Keys::Sets => vec![touches.collect::<BTreeSet<_>>().into_iter().collect()],
        Keys::Windows { order } => {
            let parts = std::iter::repeat_n(Part::Start, order).chain(touches).chain([Part::End]);
            parts.collect::<Vec<_>>().windows(order + 1).map(<[Part]>::to_vec).collect()
        }
    }
}

/// What [`Probe`] says of each group, counted by the names of channels.
fn naive(keys: Keys, rows: &[Row]) -> Vec<Records> {
    let of_group = |group: usize| {
        let mut names = BTreeSet::new();
        let mut counted: BTreeMap<Vec<Part>, (u64, u64, i128)> = BTreeMap::new();
        for Path { channels, conversions, nulls, value } in
            rows.iter().filter(|row| row.group == group && row.passes == Some(true)).map(|row| &row.path)
        {
            names.extend(channels.iter().copied());
            let mut last = Vec::new();
            for key in keys_of(keys, channels) {
                let sums = counted.entry(key.clone()).or_default();
                (sums.0, sums.1) = (sums.0 + conversions, sums.1 + nulls);
                last = key;
            }
            counted.entry(last).or_default().2 += value;
        }
        let rank = |part: &Part| match part {
            Part::Start => 0,
            Part::Touch(name) => names.iter().position(|other| other == name).unwrap() as u32 + 1,
            Part::End => u32::MAX,
        };
        let record = |name: &&'static str| {
            let mut sums = [0.0; 3];
            for (position, (key, counts)) in counted.iter().enumerate() {
                if key.contains(&Part::Touch(name)) {
                    sums[0] += place(position, key.iter().map(rank)) * counts.0 as f64;
                    sums[1] += place(position, key.iter().map(rank)) * counts.1 as f64;
                    sums[2] += place(position, key.iter().map(rank)) * counts.2 as f64;
                }
            }
            ((*name).to_owned(), sums[0].to_bits(), sums[1].to_bits(), (sums[2] / 100.0).to_bits())
        };
        names.iter().map(record).collect()
    };
    (0..GROUPS).map(of_group).collect()
}

fn list<O: OffsetSizeTrait>(rows: &[Row], text: &DataType) -> ArrayRef {
    let texts = StringArray::from(rows.iter().flat_map(|row| row.path.channels.clone()).collect::<Vec<_>>());
    let texts = cast(&texts, text).unwrap();
    let offsets = OffsetBuffer::<O>::from_lengths(rows.iter().map(|row| row.path.channels.len()));
    Arc::new(GenericListArray::<O>::new(item_field(text.clone()), offsets, texts, None))
}

fn arguments(rows: &[Row], encoding: usize) -> Vec<ArrayRef> {
    let path = match encoding {
        0 => list::<i32>(rows, &DataType::Utf8),
        1 => list::<i64>(rows, &DataType::LargeUtf8),
        2 => list::<i32>(rows, &DataType::Utf8View),
        _ => list::<i32>(rows, &coded_text_type()),
    };
    let count = |count: &dyn Fn(&Path) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| count(&row.path))))
    };
    let values = Decimal128Array::from_iter_values(rows.iter().map(|row| row.path.value));
    vec![
        count(&|_| 1),
        path,
        count(&|path| path.conversions as i64),
        count(&|path| path.nulls as i64),
        Arc::new(values.with_precision_and_scale(38, 2).unwrap()),
    ]
}

fn read(results: &ArrayRef) -> Vec<Records> {
    let lists = Lists::of_array("probe", results).unwrap();
    let columns = lists.values.as_struct().columns();
    let texts = TextColumn::of_array("probe", &columns[0]).unwrap();
    let bits = |column: usize, at: usize| {
        columns[column].as_primitive::<datafusion::arrow::datatypes::Float64Type>().value(at).to_bits()
    };
    (0..lists.len())
        .map(|row| {
            let record = |at: usize| (texts.get(at).unwrap().to_owned(), bits(1, at), bits(2, at), bits(3, at));
            lists.range(row).unwrap().map(record).collect()
        })
        .collect()
}

fn empty(keys: Keys) -> PathCounts<Probe> {
    PathCounts::new(Probe(keys), Some(2))
}

fn add(total: &mut PathCounts<Probe>, rows: &[Row], way: Way, encoding: usize) {
    let values = arguments(rows, encoding);
    let groups: Vec<usize> = rows.iter().map(|row| row.group).collect();
    let filter: BooleanArray = rows.iter().map(|row| row.passes).collect();
    let keys = total.counted.model.0;
    way.add(total, || empty(keys), &values, &groups, &filter, GROUPS);
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let passes = prop_oneof![9 => Just(Some(true)), 1 => prop_oneof![Just(Some(false)), Just(None)]];
    (paths(6), prop::collection::vec((0..GROUPS, passes), 25)).prop_map(|(paths, others)| {
        let rows = paths.into_iter().zip(others);
        rows.map(|(path, (group, passes))| Row { group, path, passes }).collect()
    })
}

fn keys() -> impl Strategy<Value = Keys> {
    prop_oneof![Just(Keys::Sets), (1usize..=4).prop_map(|order| Keys::Windows { order })]
}

proptest! {
    #[test]
    fn any_order_and_any_split_give_the_same_bits(
        keys in keys(),
        rows in rows(),
        turn in 0usize..25,
        batches in prop::collection::vec((1usize..8, way(GROUPS), 0usize..4), 1..6),
        emitted in 0..=GROUPS,
    ) {
        let expected = naive(keys, &rows);
        let mut turned = rows.clone();
        turned.rotate_left(turn % rows.len());
        let mut total = empty(keys);
        total.groups = GROUPS;
        let mut rest = &turned[..];
        for (length, way, encoding) in batches.iter().cycle() {
            let (batch, others) = rest.split_at((*length).min(rest.len()));
            add(&mut total, batch, *way, *encoding);
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
    fn one_group_by_itself_gives_the_same_bits(keys in keys(), rows in rows(), cut in 0usize..25) {
        let mut rows = rows;
        rows.iter_mut().for_each(|row| (row.group, row.passes) = (0, Some(true)));
        let (first, second) = rows.split_at(cut.min(rows.len()));
        let mut total = SingleGroup::of(empty(keys));
        total.update_batch(&arguments(first, 0)).unwrap();
        let before = total.evaluate().unwrap();
        prop_assert_eq!(&before, &total.evaluate().unwrap());
        let mut part = SingleGroup::of(empty(keys));
        part.update_batch(&arguments(second, 3)).unwrap();
        let state: Vec<ArrayRef> =
            Accumulator::state(&mut part).unwrap().iter().map(|state| state.to_array().unwrap()).collect();
        Accumulator::merge_batch(&mut total, &state).unwrap();
        let found = read(&total.evaluate().unwrap().to_array().unwrap());
        prop_assert_eq!(&found, &naive(keys, &rows)[..1]);
    }
}

fn row_of(group: usize, channels: Vec<&'static str>) -> Row {
    Row { group, path: Path { channels, conversions: 1, nulls: 1, value: 1 }, passes: Some(true) }
}

/// Names that no other test and no other call has.
fn names(count: usize) -> Vec<&'static str> {
    (0..count).map(|number| &*Box::leak(format!("a channel of its own, {number}").into_boxed_str())).collect()
}

/// As many groups leave, one after another, as a sorted input lets leave: their names leave with them.
#[test]
fn names_of_groups_that_have_left_are_forgotten() {
    for keys in [Keys::Sets, Keys::Windows { order: 1 }] {
        let mut total = empty(keys);
        let mut most = 0;
        let names = names(20_000);
        for (number, names) in names.chunks(100).enumerate() {
            // The group before is group 0 and has one row more to come.
            let rows: Vec<Row> = (0..2).map(|group| row_of(group, names.to_vec())).collect();
            let values = arguments(&rows, 0);
            total.update_batch(&values, &[0, 1], None, 2).unwrap();
            let left = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(1)).unwrap());
            let names_of_left: Vec<&str> = left[0].iter().map(|record| record.0.as_str()).collect();
            assert_eq!(names_of_left.len(), if number == 0 { 100 } else { 200 });
            assert!(names.iter().all(|name| names_of_left.contains(name)));
            most = most.max(GroupsAccumulator::size(&total));
        }
        assert!(most < 200_000, "{most} bytes");
    }
}

/// Without that, a state or a result of `n` groups with a channel each costs `n * n`: half a minute here.
#[test]
fn a_group_costs_what_it_holds_and_not_the_names_of_all() {
    const GROUPS: usize = 100_000;
    let rows: Vec<Row> = names(GROUPS).into_iter().enumerate().map(|(group, name)| row_of(group, vec![name])).collect();
    let values = arguments(&rows, 0);
    let groups: Vec<usize> = (0..GROUPS).collect();
    let mut part = empty(Keys::Sets);
    part.update_batch(&values, &groups, None, GROUPS).unwrap();
    let state = GroupsAccumulator::state(&mut part, EmitTo::All).unwrap();
    let mut total = empty(Keys::Sets);
    GroupsAccumulator::merge_batch(&mut total, &state, &groups, GROUPS).unwrap();
    let found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap());
    assert!(found.iter().zip(&rows).all(|(records, row)| records.len() == 1 && records[0].0 == row.path.channels[0]));
}

#[test]
fn the_size_goes_with_distinct_keys_and_not_with_rows() {
    let row = |number: usize| {
        let channels = ["web", "store", "call", "chat"];
        let path =
            Path { channels: vec![channels[number % 4], channels[number / 4 % 4]], conversions: 1, nulls: 1, value: 1 };
        Row { group: 0, path, passes: Some(true) }
    };
    let rows: Vec<Row> = (0..1000).map(row).collect();
    let mut total = empty(Keys::Windows { order: 1 });
    add(&mut total, &rows, Way::Update, 0);
    let full = GroupsAccumulator::size(&total);
    for _ in 0..20 {
        add(&mut total, &rows, Way::Update, 0);
    }
    assert_eq!(GroupsAccumulator::size(&total), full);
    assert!(full < 10_000, "{full}");
}

/// Journeys cut out of the touches of customers count as their paths by themselves do.
mod cut {
    use super::super::super::super::journey_paths::testing::{
        Given, Journey, goals_and_starts, journeys, list, touchpoints,
    };
    use super::*;

    fn value(touch: usize, of_all: usize) -> Option<i128> {
        ((touch + of_all) % 4 != 1).then_some(touch as i128 * 7 - 3)
    }

    /// Paths of each row by a loop over its touches: channels, whether it converted, and the value.
    fn naive(row: &Journey) -> Vec<(Vec<Option<&'static str>>, bool, i128)> {
        let mut paths: Vec<(Vec<Option<&'static str>>, bool, i128)> = Vec::new();
        if row.passes != Some(true) || !row.has_touchpoints || !row.has_goals || !row.has_starts {
            return paths;
        }
        for (touch, (channel, is_goal, is_start)) in row.touches.iter().enumerate() {
            if paths.is_empty() || *is_start == Some(true) {
                paths.push((Vec::new(), false, 0));
            }
            let path = paths.last_mut().unwrap();
            match is_goal {
                Some(true) => *path = (path.0.clone(), true, path.2 + value(touch, row.touches.len()).unwrap_or(0)),
                _ => path.0.push(*channel),
            }
        }
        paths
    }

    proptest! {
        #[test]
        fn cut_journeys_count_as_paths_by_themselves(keys in keys(), rows in journeys(GROUPS, 9), skip in 0usize..20) {
            let skip = skip.min(rows.len() - 1);
            let constant: ArrayRef = Arc::new(Int64Array::from(vec![1; rows.len()]));
            let each = || rows.iter().flat_map(|row| (0..row.touches.len()).map(|touch| value(touch, row.touches.len())));
            let values = each().collect::<Decimal128Array>().with_precision_and_scale(38, 2).unwrap();
            let mut arguments = vec![constant, touchpoints(&rows, 3)];
            arguments.extend(goals_and_starts(&rows, Given::Starts));
            arguments.push(list(&rows, Arc::new(values), |_| true));
            let arguments: Vec<ArrayRef> =
                arguments.iter().map(|array| array.slice(skip, rows.len() - skip)).collect();
            let rows = &rows[skip..];
            let groups: Vec<usize> = rows.iter().map(|row| row.group).collect();
            let filter: BooleanArray = rows.iter().map(|row| row.passes).collect();
            let mut found = empty(keys);
            found.update_batch(&arguments, &groups, Some(&filter), GROUPS).unwrap();

            let paths: Vec<_> = rows.iter().flat_map(|row| naive(row).into_iter().map(|path| (row.group, path))).collect();
            let texts: StringArray = paths.iter().flat_map(|(_, path)| path.0.clone()).collect();
            let offsets = OffsetBuffer::from_lengths(paths.iter().map(|(_, path)| path.0.len()));
            let lists = GenericListArray::<i32>::new(item_field(DataType::Utf8), offsets, Arc::new(texts), None);
            let counts = |is_counted: fn(bool) -> bool| -> ArrayRef {
                Arc::new(Int64Array::from_iter_values(paths.iter().map(|(_, path)| i64::from(is_counted(path.1)))))
            };
            let values = Decimal128Array::from_iter_values(paths.iter().map(|(_, path)| path.2));
            let arguments: Vec<ArrayRef> = vec![
                counts(|_| true),
                Arc::new(lists),
                counts(|is_converted| is_converted),
                counts(|is_converted| !is_converted),
                Arc::new(values.with_precision_and_scale(38, 2).unwrap()),
            ];
            let groups: Vec<usize> = paths.iter().map(|(group, _)| *group).collect();
            let mut expected = empty(keys);
            expected.update_batch(&arguments, &groups, None, GROUPS).unwrap();
            let found = GroupsAccumulator::evaluate(&mut found, EmitTo::All).unwrap();
            prop_assert_eq!(&found, &GroupsAccumulator::evaluate(&mut expected, EmitTo::All).unwrap());
        }
    }
}
