//! Tests of the accumulator: against floating sums by a map, and for the same bits from any split.

use std::collections::BTreeMap;

use datafusion::arrow::array::TimestampMicrosecondArray;
use datafusion::arrow::datatypes::Float64Type;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use proptest::prelude::*;

use super::super::super::arguments::time_type;
use super::super::super::attribution::Model;
use super::super::super::journey_paths::testing::{
    Given, Journey, add, goals_and_starts, journey, journeys, list, touchpoints,
};
use super::super::super::single_group::SingleGroup;
use super::super::super::ways::way;
use super::super::NamedModel;
use super::*;

const GROUPS: usize = 3;
const DAY: i64 = 86_400_000_000;
const MODELS: [&str; 8] =
    ["linear", "first", "last", "u_shaped", "j_shaped", "inverse_j_shaped", "time_decay", "participation"];

/// Model, channel, and the bits of conversions and value.
type Record = (String, Option<String>, u64, Option<u64>);

fn parameters(has_values: bool) -> Arc<Parameters> {
    let models = MODELS.map(|name| NamedModel { name: name.to_owned(), model: Model::parse(name).unwrap() });
    let scale = has_values.then_some(2);
    Arc::new(Parameters { models: models.into(), look_back: 5 * DAY, half_life: 2.0 * DAY as f64, scale })
}

/// When a touch happened: in order in some journeys, and unknown now and then.
fn time(journey: &Journey, touch: usize) -> Option<i64> {
    let length = journey.touches.len();
    let days = if length.is_multiple_of(2) { touch * touch } else { (touch * 5 + length) % 9 };
    ((touch + length) % 7 != 3).then_some(days as i64 * DAY)
}

fn value(journey: &Journey, touch: usize) -> Option<i128> {
    ((touch + journey.touches.len()) % 5 != 2).then_some(touch as i128 * 1234 - 2000)
}

/// The weights of touches at these times, as Adobe states the models.
fn weights(model: &str, touches: &[(Text, i64)]) -> Vec<f64> {
    let count = touches.len();
    let ends = |first: f64, last: f64, of_two: [f64; 2]| match count {
        1 => vec![1.0],
        2 => of_two.to_vec(),
        _ => (0..count)
            .map(|touch| match touch {
                0 => first,
                touch if touch == count - 1 => last,
                _ => (1.0 - first - last) / (count - 2) as f64,
            })
            .collect(),
    };
    match model {
        "linear" => vec![1.0 / count as f64; count],
        "first" => (0..count).map(|touch| f64::from(touch == 0)).collect(),
        "last" => (0..count).map(|touch| f64::from(touch == count - 1)).collect(),
        "u_shaped" => ends(0.4, 0.4, [0.5, 0.5]),
        "j_shaped" => ends(0.2, 0.6, [0.25, 0.75]),
        "inverse_j_shaped" => ends(0.6, 0.2, [0.75, 0.25]),
        "time_decay" => {
            let weight = |time: i64| 0.5f64.powf(-(time as f64) / (2.0 * DAY as f64));
            let sum: f64 = touches.iter().map(|touch| weight(touch.1)).sum();
            touches.iter().map(|touch| weight(touch.1) / sum).collect()
        }
        _ => (0..count)
            .map(|touch| f64::from(!touches[..touch].iter().any(|other| other.0 == touches[touch].0)))
            .collect(),
    }
}

/// A text, null behind all others.
type Text = (bool, String);

/// Conversions and value by model and channel.
fn naive(rows: &[Journey], group: usize, has_values: bool) -> Vec<(String, Option<String>, f64, Option<f64>)> {
    let mut credits: BTreeMap<(usize, Text), (f64, f64)> = BTreeMap::new();
    let mut channels: Vec<Text> = Vec::new();
    let is_read =
        |row: &&Journey| row.group == group && row.passes == Some(true) && row.has_touchpoints && row.has_goals;
    for row in rows.iter().filter(is_read) {
        for goal in (0..row.touches.len()).filter(|touch| row.touches[*touch].1 == Some(true)) {
            let value = value(row, goal).filter(|_| has_values).unwrap_or_default() as f64 / 100.0;
            let touch = |touch: usize| {
                let (time, goal) = (time(row, touch)?, time(row, goal)?);
                let is_touch = row.touches[touch].1 != Some(true) && time <= goal && goal - time <= 5 * DAY;
                let channel = row.touches[touch].0;
                is_touch.then(|| ((channel.is_none(), channel.unwrap_or_default().to_owned()), time))
            };
            let touches: Vec<(Text, i64)> = (0..goal).filter_map(touch).collect();
            channels.extend(touches.iter().map(|touch| touch.0.clone()));
            for (number, model) in MODELS.into_iter().enumerate() {
                let none = || ((false, NO_TOUCH.to_owned()), 0);
                let parts: Vec<_> = match touches.is_empty() {
                    true => vec![(none(), 1.0)],
                    false => touches.iter().cloned().zip(weights(model, &touches)).collect(),
                };
                for ((channel, _), weight) in parts {
                    let credit = credits.entry((number, channel)).or_default();
                    *credit = (credit.0 + weight, credit.1 + weight * value);
                }
            }
        }
    }
    let text = |(is_null, text): Text| (!is_null).then_some(text);
    credits
        .into_iter()
        .map(|((model, channel), (conversions, value))| {
            (MODELS[model].to_owned(), text(channel), conversions, has_values.then_some(value))
        })
        .collect()
}

fn read(results: &ArrayRef) -> Vec<Vec<Record>> {
    let lists = Lists::of_array(NAME, results).unwrap();
    let columns = lists.values.as_struct().columns();
    let [models, channels] = [0, 1].map(|column: usize| TextColumn::of_array(NAME, &columns[column]).unwrap());
    let [conversions, values] = [2, 3].map(|column: usize| columns[column].as_primitive::<Float64Type>());
    let record = |at: usize| {
        let value = values.is_valid(at).then(|| values.value(at).to_bits());
        let channel = channels.get(at).map(str::to_owned);
        (models.get(at).unwrap().to_owned(), channel, conversions.value(at).to_bits(), value)
    };
    (0..lists.len()).map(|row| lists.range(row).unwrap().map(record).collect()).collect()
}

fn is_near(found: &[Record], expected: &[(String, Option<String>, f64, Option<f64>)]) -> bool {
    let near = |bits: u64, expected: f64| (f64::from_bits(bits) - expected).abs() < 1e-9;
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            let values = match (found.3, expected.3) {
                (Some(found), Some(expected)) => near(found, expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            (&found.0, &found.1) == (&expected.0, &expected.1) && near(found.2, expected.2) && values
        })
}

fn arguments(rows: &[Journey], has_values: bool, encoding: usize) -> Vec<ArrayRef> {
    let each = || rows.iter().flat_map(|row| (0..row.touches.len()).map(move |touch| (row, touch)));
    let times: TimestampMicrosecondArray = each().map(|(row, touch)| time(row, touch)).collect();
    let times = list(rows, Arc::new(times.with_data_type(time_type())), |row| row.has_touchpoints);
    let constant: ArrayRef = Arc::new(Int64Array::from(vec![1; rows.len()]));
    let goals = goals_and_starts(rows, Given::Touches).remove(0);
    let mut arguments = vec![Arc::clone(&constant), touchpoints(rows, encoding), times, goals, constant];
    if has_values {
        let values: Decimal128Array = each().map(|(row, touch)| value(row, touch)).collect();
        let values = values.with_precision_and_scale(38, 2).unwrap();
        arguments.push(list(rows, Arc::new(values), |_| true));
    }
    arguments
}

proptest! {
    #[test]
    fn credits_are_those_of_floating_sums_and_the_same_bits_from_any_split(
        rows in prop_oneof![journeys(GROUPS, 4), journeys(GROUPS, 14)],
        has_values in any::<bool>(),
        turn in 0usize..20,
        batches in prop::collection::vec((1usize..8, way(GROUPS), 0usize..4), 1..6),
        emitted in 0..=GROUPS,
    ) {
        let new = || CreditsAccumulator::new(parameters(has_values));
        let mut whole = new();
        let filter: BooleanArray = rows.iter().map(|row| row.passes).collect();
        let groups: Vec<usize> = rows.iter().map(|row| row.group).collect();
        whole.update_batch(&arguments(&rows, has_values, 3), &groups, Some(&filter), GROUPS).unwrap();
        let expected = read(&GroupsAccumulator::evaluate(&mut whole, EmitTo::All).unwrap());
        for (group, found) in expected.iter().enumerate() {
            let naive = naive(&rows, group, has_values);
            prop_assert!(is_near(found, &naive), "{:?} is not {:?}", found, naive);
        }

        let mut turned = rows.clone();
        turned.rotate_left(turn % rows.len());
        let mut total = new();
        total.groups = GROUPS;
        let mut rest = &turned[..];
        for (length, way, encoding) in batches.iter().cycle() {
            let (batch, others) = rest.split_at((*length).min(rest.len()));
            add(&mut total, new, &arguments(batch, has_values, *encoding), batch, *way, GROUPS);
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
    fn one_group_by_itself_gives_the_same(rows in journeys(1, 6), cut in 0usize..20) {
        let mut rows = rows;
        rows.iter_mut().for_each(|row| row.passes = Some(true));
        let new = || SingleGroup::of(CreditsAccumulator::new(parameters(true)));
        let (first, second) = rows.split_at(cut.min(rows.len()));
        let (mut total, mut part) = (new(), new());
        total.update_batch(&arguments(first, true, 0)).unwrap();
        prop_assert_eq!(&total.evaluate().unwrap(), &total.evaluate().unwrap());
        part.update_batch(&arguments(second, true, 3)).unwrap();
        let state: Vec<ArrayRef> =
            Accumulator::state(&mut part).unwrap().iter().map(|state| state.to_array().unwrap()).collect();
        Accumulator::merge_batch(&mut total, &state).unwrap();
        let found = read(&total.evaluate().unwrap().to_array().unwrap());
        prop_assert!(is_near(&found[0], &naive(&rows, 0, true)));
    }
}

/// As many groups leave, one after another, as a sorted input lets leave: what they hold leaves with them.
#[test]
fn groups_that_have_left_are_forgotten() {
    let names: Vec<&'static str> =
        (0..2_000).map(|number| &*Box::leak(format!("a channel of its own, {number}").into_boxed_str())).collect();
    let mut total = CreditsAccumulator::new(parameters(false));
    let mut most = 0;
    for (number, names) in names.chunks(10).enumerate() {
        // The group before is group 0 and has a row more to come.
        let mut rows: Vec<Journey> = (0..2).map(|group| journey(group, names.to_vec())).collect();
        rows.iter_mut().for_each(|row| row.touches[9].1 = Some(true));
        total.update_batch(&arguments(&rows, false, 0), &[0, 1], None, 2).unwrap();
        let left = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(1)).unwrap());
        assert!(left[0].iter().any(|record| record.0 == "linear"), "{number}");
        most = most.max(GroupsAccumulator::size(&total));
    }
    assert!(most < 30_000, "{most} bytes");
}
