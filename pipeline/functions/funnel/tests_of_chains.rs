//! The functions compared with the [`oracle`](super::oracle), row by row.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl};
use datafusion::scalar::ScalarValue;
use proptest::prelude::*;

use super::super::arguments::item_field;
use super::JourneyFunnel;
use super::options::{Entry, Order};
use super::oracle::{Asked, Attempt, Touch, matches, told};

/// The touches of journeys.
type Journeys = [Vec<Touch>];

// ---------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------

/// Lists of values that come one after another.
fn lists(lengths: impl IntoIterator<Item = usize>, values: ArrayRef) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths(lengths);
    Arc::new(ListArray::new(item_field(values.data_type().clone()), offsets, values, None))
}

fn one_list(values: ArrayRef) -> ArrayRef {
    lists([values.len()], values)
}

fn one_text_list(texts: Vec<Option<&str>>) -> ArrayRef {
    one_list(Arc::new(StringArray::from(texts)))
}

/// The order of all steps, if one text says it.
fn order_of_all(orders: &[Order]) -> Option<Order> {
    // Nothing comes before step 1.
    let of_step = |order, step| if step == 0 && order == Order::Next { Order::Eventually } else { order };
    let says_it = |order: &Order| (0..orders.len()).all(|step| orders[step] == of_step(*order, step));
    [Order::Eventually, Order::Next, Order::Any].into_iter().find(says_it)
}

/// The options as a user writes them; `None` where they are left out.
fn options(asked: &Asked) -> Option<ScalarValue> {
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let order_name = |order: Order| match order {
        Order::Eventually => "eventually",
        Order::Next => "next",
        Order::Any => "any",
    };
    let mut fields: Vec<(&str, ArrayRef)> = vec![];
    match order_of_all(&asked.orders).filter(|_| asked.is_brief) {
        Some(Order::Eventually) => {}
        Some(order) => fields.push(("order", text(order_name(order)))),
        None => {
            let orders = asked.orders.iter().map(|order| Some(order_name(*order)));
            fields.push(("order", one_text_list(orders.collect())));
        }
    }
    for (name, gaps) in [("min_gaps", &asked.min_gaps), ("max_gaps", &asked.max_gaps)] {
        if !asked.is_brief || gaps.iter().any(Option::is_some) {
            fields.push((name, one_list(Arc::new(Int64Array::from(gaps.clone())))));
        }
    }
    // A struct has at least one field.
    if !asked.is_brief || asked.entry != Entry::Last || (asked.has_hold && fields.is_empty()) {
        let entry = match asked.entry {
            Entry::Last => "last",
            Entry::First => "first",
            Entry::Every => "every",
        };
        fields.push(("entry", text(entry)));
    }
    if asked.excluded.iter().any(Option::is_some) {
        let excluded = match asked.is_excluded_everywhere {
            true => text(asked.excluded[0].unwrap()),
            false => one_text_list(asked.excluded.clone()),
        };
        fields.push(("excluded", excluded));
        if !asked.is_brief || asked.removes {
            fields.push(("on_excluded", text(if asked.removes { "remove" } else { "end" })));
        }
    }
    if !asked.is_brief || !asked.optional.is_empty() {
        let optional: Vec<i64> = asked.optional.iter().map(|step| *step as i64 + 1).collect();
        fields.push(("optional", one_list(Arc::new(Int64Array::from(optional)))));
    }
    if let Some(among) = &asked.among {
        fields.push(("among", one_text_list(among.iter().copied().map(Some).collect())));
    }
    if fields.is_empty() {
        return None;
    }
    let columns = fields.into_iter();
    let columns = columns.map(|(name, column)| (Arc::new(Field::new(name, column.data_type().clone(), true)), column));
    Some(ScalarValue::Struct(Arc::new(StructArray::from(columns.collect::<Vec<_>>()))))
}

/// The answers of a function over journeys, one per row.
fn call(function: JourneyFunnel, asked: &Asked, journeys: &Journeys) -> ArrayRef {
    let column = |values| ColumnarValue::Array(lists(journeys.iter().map(Vec::len), values));
    let touches = || journeys.iter().flatten();
    let steps = one_text_list(asked.steps.iter().copied().map(Some).collect());
    let mut args = vec![
        column(Arc::new(touches().map(|touch| touch.time).collect::<TimestampMicrosecondArray>())),
        column(Arc::new(touches().map(|touch| touch.touchpoint).collect::<StringArray>())),
        column(Arc::new(touches().map(|touch| touch.channel).collect::<StringArray>())),
        ColumnarValue::Scalar(ScalarValue::try_from_array(&steps, 0).unwrap()),
        ColumnarValue::Scalar(ScalarValue::from(asked.window)),
    ];
    args.extend(options(asked).map(ColumnarValue::Scalar));
    if asked.has_hold {
        args.push(column(Arc::new(touches().map(|touch| touch.held).collect::<Int32Array>())));
    }
    let args = ScalarFunctionArgs {
        args,
        arg_fields: vec![],
        number_rows: journeys.len(),
        return_field: Arc::new(Field::new("", DataType::Null, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    let answers = function.invoke_with_args(args).unwrap_or_else(|error| panic!("{error}"));
    answers.into_array(journeys.len()).unwrap()
}

fn numbers(list: ArrayRef) -> Vec<Option<i32>> {
    list.as_primitive::<Int32Type>().iter().collect()
}

/// The attempts of a journey.
fn attempts(records: ArrayRef) -> Vec<Attempt> {
    let (steps, last_entries) = (records.as_struct().column(0).as_list::<i32>(), records.as_struct().column(1));
    let attempt = |attempt| (numbers(steps.value(attempt)), last_entries.as_primitive::<Int32Type>().value(attempt));
    (0..records.len()).map(attempt).collect()
}

fn agree(asked: &Asked, journeys: &Journeys) -> Result<(), TestCaseError> {
    let furthest_steps = call(JourneyFunnel::furthest(), asked, journeys);
    let positions = call(JourneyFunnel::positions(), asked, journeys);
    let records = call(JourneyFunnel::attempts(), asked, journeys);
    for (row, touches) in journeys.iter().enumerate() {
        let (furthest, expected) = told(asked, touches);
        let level = furthest_steps.as_primitive::<Int32Type>().value(row);
        let found = attempts(records.as_list::<i32>().value(row));
        prop_assert_eq!((level as usize, &found), (furthest, &expected), "row {}", row);
        let depth = |steps: &Vec<Option<i32>>| match asked.is_unordered() {
            true => steps.iter().flatten().count(),
            false => steps.len(),
        };
        let witness = expected.iter().map(|(steps, _)| steps).find(|steps| depth(steps) == furthest);
        let positions = numbers(positions.as_list::<i32>().value(row));
        prop_assert_eq!(positions, witness.cloned().unwrap_or_default(), "row {}", row);
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------
// Cases
// ---------------------------------------------------------------------------------------------------------------

const TOUCHPOINTS: [Option<&str>; 7] = [None, Some("a"), Some("b"), Some("c"), Some("d"), Some("x"), Some("y")];
const CHANNELS: [Option<&str>; 3] = [None, Some("web"), Some("app")];

fn touches() -> impl Strategy<Value = Vec<Touch>> {
    let touchpoint = prop::sample::select([&TOUCHPOINTS[..], &TOUCHPOINTS[1..4], &TOUCHPOINTS[1..4]].concat());
    let channel = prop::sample::select(&CHANNELS[..]);
    let touch = (0i64..4, touchpoint, channel, prop::option::weighted(0.9, 0i32..2), prop::bool::weighted(0.95));
    prop::collection::vec(touch, 0..10).prop_map(|touches| {
        let mut now = 0;
        let touch = |(gap, touchpoint, channel, held, has_time)| {
            now += gap;
            Touch { time: Some(now).filter(|_| has_time), touchpoint, channel, held }
        };
        touches.into_iter().map(touch).collect()
    })
}

/// One of the choices as often as not, else the first.
fn choice<T: Clone + std::fmt::Debug + 'static>(choices: Vec<T>) -> impl Strategy<Value = T> {
    let usual = choices[0].clone();
    prop_oneof![Just(usual), prop::sample::select(choices)]
}

fn steps() -> impl Strategy<Value = Vec<&'static str>> {
    let step = prop::sample::select(vec!["a", "a", "b", "b", "c", "a|b", "b|x", "*", "web:a", "b|web:c"]);
    prop::collection::vec(step, 1..=4)
}

/// A funnel without options.
fn plain(steps: Vec<&'static str>, window: i64) -> Asked {
    let count = steps.len();
    Asked {
        steps,
        window,
        orders: vec![Order::Eventually; count],
        entry: Entry::Last,
        min_gaps: vec![None; count],
        max_gaps: vec![None; count],
        excluded: vec![None; count - 1],
        is_excluded_everywhere: false,
        removes: false,
        optional: vec![],
        has_hold: false,
        among: None,
        is_brief: true,
    }
}

/// Whether every touch that matches a step matches a text too, so that nothing could serve the step.
fn covers(text: &str, step: &str) -> bool {
    let touches = TOUCHPOINTS.iter().flat_map(|touchpoint| CHANNELS.map(|channel| (*touchpoint, channel)));
    let mut touches = touches.map(|(touchpoint, channel)| Touch { time: None, touchpoint, channel, held: None });
    touches.all(|touch| matches(text, touch) || !matches(step, touch))
}

/// Orders for as many steps, of which none is `any` alone. One text says it of a single step.
fn without_lone_any(mut orders: Vec<Order>, is_brief: bool) -> Vec<Order> {
    let is_any = |orders: &[Order], step: usize| orders.get(step) == Some(&Order::Any);
    for step in 0..orders.len() {
        let is_alone = !is_any(&orders, step + 1) && (step == 0 || !is_any(&orders, step - 1));
        if is_any(&orders, step) && is_alone && !(is_brief && orders.len() == 1) {
            orders[step] = Order::Eventually;
        }
    }
    orders
}

fn asked() -> impl Strategy<Value = Asked> {
    let orders = prop_oneof![
        Just(vec![Order::Eventually; 4]),
        Just(vec![Order::Next; 4]),
        Just(vec![Order::Any; 4]),
        prop::collection::vec(prop::sample::select(vec![Order::Eventually, Order::Next]), 4),
        prop::collection::vec(prop::sample::select(vec![Order::Eventually, Order::Any, Order::Any]), 4),
    ];
    let gaps = || choice(vec![None, None, Some(0), Some(1), Some(3)]);
    let gaps = prop::collection::vec((gaps(), gaps()), 4);
    let excluded = vec![None, Some("x"), Some("y"), Some("x|y"), Some("a"), Some("b"), Some("web:a"), Some("app:x|c")];
    let excluded = (prop::collection::vec(choice(excluded), 3), any::<bool>());
    let optional = prop::collection::vec(choice(vec![false, true]), 4);
    let among = choice(vec![None, Some(vec!["d"]), Some(vec!["x", "app:y"]), Some(vec![])]);
    let entry = choice(vec![Entry::Last, Entry::First, Entry::Every]);
    let options = (gaps, excluded, any::<bool>(), optional, choice(vec![false, true]), among, any::<bool>());
    (steps(), 0i64..12, orders, entry, options).prop_map(|(steps, window, mut orders, entry, options)| {
        let (gaps, (mut excluded, is_excluded_everywhere), removes, is_optional, has_hold, among, is_brief) = options;
        let count = steps.len();
        // A funnel says no to what has no clear meaning.
        orders.truncate(count);
        orders[0] = if orders[0] == Order::Next { Order::Eventually } else { orders[0] };
        let orders = without_lone_any(orders, is_brief);
        let is_unordered = orders.contains(&Order::Any);
        let has_next = orders.contains(&Order::Next);
        excluded.truncate(count - 1);
        let is_excluded_everywhere = (is_excluded_everywhere || is_unordered) && count > 1;
        if is_excluded_everywhere {
            let text = excluded[0].filter(|text| !steps.iter().any(|step| covers(text, step)));
            excluded.fill(text);
        }
        for (from, excluded) in excluded.iter_mut().enumerate() {
            *excluded = excluded.filter(|text| !covers(text, steps[from]) && !covers(text, steps[from + 1]));
        }
        let gap = |step: usize, gap: Option<i64>| gap.filter(|_| step > 0 && !is_unordered);
        let min_gaps: Vec<_> = (0..count).map(|step| gap(step, gaps[step].0)).collect();
        let max_gap = |step: usize| gap(step, gaps[step].1).map(|most| most.max(min_gaps[step].unwrap_or(0)));
        let mut optional: Vec<usize> = vec![];
        for step in (1..count).rev().filter(|step| is_optional[*step] && !is_unordered) {
            if steps.get(step + 1) != Some(&steps[step]) || optional.contains(&(step + 1)) {
                optional.push(step);
            }
        }
        Asked {
            max_gaps: (0..count).map(max_gap).collect(),
            removes: removes && entry != Entry::Every && excluded.iter().any(Option::is_some),
            among: among.filter(|_| has_next),
            optional,
            orders,
            entry,
            min_gaps,
            excluded,
            is_excluded_everywhere,
            has_hold,
            is_brief,
            ..plain(steps, window)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10000))]

    #[test]
    fn options_agree_with_trying_every_chain(asked in asked(), journeys in prop::collection::vec(touches(), 1..=4)) {
        agree(&asked, &journeys)?;
    }
}

/// A funnel of distinct steps that an exclusion removes a journey from, in any order or not: so much has to come
/// together here that cases of all options seldom have it.
fn removing() -> impl Strategy<Value = Asked> {
    let order = prop::sample::select(vec![Order::Any, Order::Any, Order::Eventually]);
    (order, 2usize..=4, 3i64..9, any::<bool>()).prop_map(|(order, count, window, is_brief)| Asked {
        orders: vec![order; count],
        excluded: vec![Some("x"); count - 1],
        is_excluded_everywhere: true,
        removes: true,
        is_brief,
        ..plain(["a", "b", "c", "d"][..count].to_vec(), window)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn removals_agree_with_trying_every_chain(
        asked in removing(), journeys in prop::collection::vec(touches(), 1..=4)
    ) {
        agree(&asked, &journeys)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_plain_funnel_agrees_with_trying_every_chain(
        steps in steps(), window in 0i64..12, journeys in prop::collection::vec(touches(), 1..=4)
    ) {
        agree(&plain(steps, window), &journeys)?;
    }
}
