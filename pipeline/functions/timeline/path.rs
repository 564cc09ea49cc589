//! `path`: the values of a group in the order of their times, as one list: a timeline of one value, without ids.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};

use super::super::arguments::{empty_list, expect_count, list_type};
use super::super::call::{Call, Parameterised};
use super::super::documentation::{Example, Manual, Section, Unlike, WINDOWS};
use super::super::moments::coerce_moment;
use super::super::single_group::{MovingFrame, SingleGroup};
use super::accumulate::{Shape, Timelines};
use super::columns::{STORED, remedy, stored_type};

/// The function `path`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Path {
    signature: Signature,
}

impl Default for Path {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Parameterised for Path {
    type Parameters = ();

    fn parameters(&self, _call: &Call) -> Result<Option<()>> {
        Ok(Some(()))
    }

    fn instead_of_distinct(&self) -> &'static str {
        "path_collapse makes equal neighbours one"
    }
}

impl Path {
    /// An empty accumulator for a call.
    fn timelines(&self, args: &AccumulatorArgs) -> Result<Timelines> {
        self.parameters_of(args)?;
        Timelines::returning(args.return_type())
    }
}

impl AggregateUDFImpl for Path {
    fn name(&self) -> &str {
        "path"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 2)?;
        Ok(vec![coerce_moment(self.name(), "ts", &types[0])?, types[1].clone()])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match stored_type(&types[1]) {
            Some(stored) => Ok(list_type(stored)),
            None => plan_err!("path: expected value to be {STORED}, got {}; {}", types[1], remedy(&types[1])),
        }
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        empty_list(data_type)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let events = list_type(DataType::Struct(Shape::of_result(args.return_type())?.event_fields()?));
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "events"), events, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::of(self.timelines(&args)?)))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.timelines(&args)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MovingFrame::of(self.timelines(&args)?)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Paths,
                syntax: &["path(ts, value)"],
                summary: "Returns the values of a group as one list, in the order of their times.",
                details: "",
                arguments: &[
                    ("ts", "Timestamp of any unit and zone, told apart to the microsecond; date or whole number."),
                    (
                        "value",
                        "Text, `Decimal128`, boolean, a signed whole number (or an unsigned one of up to 32 bits), \
                         floating-point number, date or timestamp.",
                    ),
                ],
                example: Example {
                    query: "
                        select customer, path(at, touch) as touches
                        from (values
                          ('ann', 3, 'buy'), ('ann', 1, 'view'), ('ann', 2, null), ('bob', 1, 'view')
                        ) as events(customer, at, touch)
                        group by customer order by customer
                    ",
                    rows: &["customer | touches", "ann | [view, , buy]", "bob | [view]"],
                },
                returns: "list of the values: text as `Dictionary(Int32, Utf8)`, whole numbers as `Int64`, \
                          floating-point numbers as `Float64`, timestamps in microseconds, the rest as it came. A \
                          group without rows has an empty list.",
                parts: &[WINDOWS],
                nulls: "rows whose `ts` is null are skipped; a null value stays, as a null element: `filter (where \
                        value is not null)` leaves it out.",
                order: "(`ts`, `value`). The order of the rows, their batches and partitions do not matter, and an \
                        `order by` in the call is not needed.",
                ties: "values of equal `ts` are ordered by themselves, null first and text by its bytes. Two paths of \
                       one group may so order events of equal time differently: `timeline` keeps several values of an \
                       event together.",
                memory: "per event 12 bytes and its value: 4 bytes for a text (distinct texts are kept once), 1 for a \
                         boolean, 4, 8 or 16 for the others. On the way out 4 bytes per event that leaves, 16 per \
                         event of the group in hand, and a column of the result beside the one that is kept.",
                errors: "a `distinct` call; other types, at planning; a time beyond the range of microseconds; more \
                         than 2 GiB of distinct texts or 4 billion events in one partition, or 2 billion events in one \
                         result.",
                source: "our own.",
                differs: &[Unlike {
                    whom: "`groupArray` of ClickHouse over sorted rows",
                    by: &[
                        "nulls stay, where it skips them",
                        "values are in the order of time whatever the order of rows, where it takes rows as they come",
                    ],
                }],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
    use datafusion::arrow::compute::cast;
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::logical_expr::EmitTo;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use proptest::prelude::*;

    use super::*;
    use crate::functions::arguments::coded_text_type;
    use crate::functions::elements::testing::{error_of, rows_of};
    use crate::functions::register_all;
    use crate::functions::ways::way;

    const GROUPS: usize = 3;

    #[derive(Debug, Clone)]
    struct Event {
        group: usize,
        time: Option<i64>,
        value: Option<i64>,
        passes: Option<bool>,
    }

    fn naive(events: &[Event]) -> Vec<Vec<Option<i64>>> {
        let mut paths = vec![Vec::new(); GROUPS];
        for event in events.iter().filter(|event| event.passes == Some(true)) {
            if let Some(time) = event.time {
                paths[event.group].push((time, event.value));
            }
        }
        paths.iter_mut().for_each(|path| path.sort());
        paths.iter().map(|path| path.iter().map(|(_, value)| *value).collect()).collect()
    }

    fn event() -> impl Strategy<Value = Event> {
        let value = prop::option::weighted(0.9, 0i64..5);
        let passes = prop::option::weighted(0.9, prop::bool::weighted(0.9));
        (0..GROUPS, prop::option::weighted(0.9, -3i64..4), value, passes)
            .prop_map(|(group, time, value, passes)| Event { group, time, value, passes })
    }

    /// How an argument's values are encoded.
    fn value_types() -> [DataType; 4] {
        [DataType::Int64, DataType::Utf8, DataType::Utf8View, coded_text_type()]
    }

    fn arguments(events: &[Event], value_type: &DataType) -> Vec<ArrayRef> {
        let times: Int64Array = events.iter().map(|event| event.time).collect();
        let values: Int64Array = events.iter().map(|event| event.value).collect();
        let values: ArrayRef = match value_type {
            DataType::Int64 => Arc::new(values),
            text => cast(&cast(&values, &DataType::Utf8).unwrap(), text).unwrap(),
        };
        vec![Arc::new(times), values]
    }

    fn paths(value_type: &DataType) -> Timelines {
        let result = Path::default().return_type(&[DataType::Int64, value_type.clone()]).unwrap();
        Timelines::returning(&result).unwrap()
    }

    fn read(lists: &ArrayRef) -> Vec<Vec<Option<i64>>> {
        let numbers = |list: ArrayRef| -> Vec<Option<i64>> {
            let list =
                if *list.data_type() == coded_text_type() { cast(&list, &DataType::Utf8).unwrap() } else { list };
            cast(&list, &DataType::Int64).unwrap().as_primitive::<Int64Type>().iter().collect()
        };
        lists.as_list::<i32>().iter().map(|list| numbers(list.unwrap())).collect()
    }

    proptest! {
        #[test]
        fn any_order_and_any_split_give_the_paths_of_a_naive_sort(
            events in prop::collection::vec(event(), 0..60).prop_shuffle(),
            batches in prop::collection::vec((1usize..12, way(GROUPS), 1usize..4), 1..6),
            is_text in any::<bool>(),
            emitted in 0..=GROUPS,
        ) {
            let types = value_types();
            let value_type = |text: usize| types[if is_text { text } else { 0 }].clone();
            let mut total = paths(&value_type(1));
            let mut rest = &events[..];
            for (length, way, text) in batches.iter().cycle() {
                let (batch, others) = rest.split_at((*length).min(rest.len()));
                let values = arguments(batch, &value_type(*text));
                let groups: Vec<usize> = batch.iter().map(|event| event.group).collect();
                let filter: BooleanArray = batch.iter().map(|event| event.passes).collect();
                way.add(&mut total, || paths(&value_type(*text)), &values, &groups, &filter, GROUPS);
                rest = others;
                if rest.is_empty() {
                    break;
                }
            }
            let mut found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(emitted)).unwrap());
            found.extend(read(&GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap()));
            prop_assert_eq!(found, naive(&events));
        }
    }

    #[test]
    fn an_event_with_text_takes_sixteen_bytes() {
        let events: Vec<Event> = (0..10_000)
            .map(|number| Event { group: 0, time: Some(number), value: Some(number % 9), passes: Some(true) })
            .collect();
        let mut total = paths(&DataType::Utf8View);
        let empty = GroupsAccumulator::size(&total);
        total.update_batch(&arguments(&events, &DataType::Utf8View), &[0; 10_000], None, 1).unwrap();
        let full = GroupsAccumulator::size(&total) - empty;
        assert!((16 * 10_000..=33 * 10_000).contains(&full), "{full}");
        GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap();
        assert!(GroupsAccumulator::size(&total) <= empty + 200);
    }

    /// As many groups leave, one after another, as a sorted input lets leave: their texts leave with them, whether the
    /// texts come as they are or as a dictionary.
    #[test]
    fn texts_of_groups_that_have_left_are_forgotten() {
        for value_type in [DataType::Utf8View, coded_text_type()] {
            let mut total = paths(&value_type);
            for number in 0..200i64 {
                // The group before is group 0 and has these events too; its values are those of two numbers.
                let event = |group, position: i64| Event {
                    group,
                    time: Some(number),
                    value: Some(number * 1000 + position),
                    passes: Some(true),
                };
                let events: Vec<Event> =
                    (0..100).flat_map(|position| [event(0, position), event(1, position)]).collect();
                let groups: Vec<usize> = events.iter().map(|event| event.group).collect();
                total.update_batch(&arguments(&events, &value_type), &groups, None, 2).unwrap();
                let left = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(1)).unwrap());
                let before = (number.max(1) - 1) * 1000;
                let expected: Vec<Option<i64>> = match number {
                    0 => (0..100).map(Some).collect(),
                    _ => (before..before + 100).chain(number * 1000..number * 1000 + 100).map(Some).collect(),
                };
                assert_eq!(left.len(), 1);
                assert_eq!(
                    left[0].iter().collect::<std::collections::BTreeSet<_>>(),
                    expected.iter().collect::<std::collections::BTreeSet<_>>()
                );
            }
            // 1 324 texts of some 6 bytes at most, instead of 20 000.
            assert!(GroupsAccumulator::size(&total) < 150_000, "{}", GroupsAccumulator::size(&total));
        }
    }

    const EVENTS: &str = "(values (1, 3, 'c'), (1, 1, 'b'), (1, 1, 'a'), (1, 2, null), (1, null, 'x'), (2, 5, 'z'), \
                          (3, null, 'y'), (1, 2, 'a'), (1, 1, 'b')) as events(customer, ts, value)";

    #[tokio::test]
    async fn values_come_in_the_order_of_their_times_then_of_themselves() {
        let sql = format!("select customer, path(ts, value) from {EVENTS} group by customer order by customer");
        assert_eq!(rows_of(&sql).await, ["1 | [a, b, b, , a, c]", "2 | [z]", "3 | []"]);
        let sql = format!("select path(ts, value) filter (where value is not null and customer = 1) from {EVENTS}");
        assert_eq!(rows_of(&sql).await, ["[a, b, b, a, c]"]);
        assert_eq!(rows_of(&format!("select path(ts, value) from {EVENTS} where ts > 9")).await, ["[]"]);
    }

    #[tokio::test]
    async fn the_plan_does_not_matter() {
        let sql = format!("select customer, path(ts, value) from {EVENTS} group by customer order by customer");
        let expected = rows_of(&sql).await;
        for settings in [
            &[
                "datafusion.execution.skip_partial_aggregation_probe_ratio_threshold = 0",
                "datafusion.execution.skip_partial_aggregation_probe_rows_threshold = 0",
            ][..],
            &["datafusion.execution.target_partitions = 1"],
        ] {
            let ctx =
                SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4).with_batch_size(2));
            register_all(&ctx);
            for setting in settings {
                ctx.sql(&format!("set {setting}")).await.unwrap();
            }
            ctx.sql(&format!("create table events as select * from {EVENTS}")).await.unwrap().collect().await.unwrap();
            for from in ["events", "(select * from events order by customer)"] {
                let sql = format!("select customer, path(ts, value) from {from} group by customer order by customer");
                let batches = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
                let texts: Vec<StringArray> = batches
                    .iter()
                    .flat_map(|batch| batch.column(1).as_list::<i32>().iter().flatten().collect::<Vec<_>>())
                    .map(|list| cast(&list, &DataType::Utf8).unwrap().as_string::<i32>().clone())
                    .collect();
                assert_eq!(texts.len(), expected.len());
                for (found, expected) in texts.iter().zip(&expected) {
                    let found: Vec<&str> = found.iter().map(Option::unwrap_or_default).collect();
                    assert!(expected.ends_with(&format!("[{}]", found.join(", "))), "{found:?} in {expected}");
                }
            }
        }
    }

    #[tokio::test]
    async fn windows_see_the_path_so_far() {
        let sql = format!(
            "select ts, path(ts, value) over (order by ts, value) from {EVENTS} where customer = 1 and ts > 1 order by ts, 2"
        );
        assert_eq!(rows_of(&sql).await, ["2 | [a]", "2 | [, a]", "3 | [, a, c]"]);
    }

    #[tokio::test]
    async fn times_and_values_of_every_kind_are_read() {
        let of = |ts: &str, value: &str| {
            format!(
                "select path({ts}, {value}), arrow_typeof(path({ts}, {value})) from (values (2, 10), (1, 20)) as e(ts, value)"
            )
        };
        for ts in [
            "to_timestamp_seconds(ts)",
            "arrow_cast(to_timestamp_nanos(ts * 1000), 'Timestamp(ns, \"+02:00\")')",
            "arrow_cast(arrow_cast(ts, 'Int32'), 'Date32')",
            "arrow_cast(arrow_cast(ts, 'Int32'), 'Date64')",
            "arrow_cast(ts, 'UInt8')",
        ] {
            assert_eq!(rows_of(&of(ts, "value")).await, ["[20, 10] | List(Int64)"], "{ts}");
        }
        for (value, expected) in [
            ("arrow_cast(value, 'Decimal128(9, 2)')", "[20.00, 10.00] | List(Decimal128(9, 2))"),
            ("value = 10", "[false, true] | List(Boolean)"),
            ("arrow_cast(value, 'Float32')", "[20.0, 10.0] | List(Float64)"),
            ("arrow_cast(value, 'Utf8View')", "[20, 10] | List(Dictionary(Int32, Utf8))"),
            ("arrow_cast(arrow_cast(value, 'Int32'), 'Date32')", "[1970-01-21, 1970-01-11] | List(Date32)"),
        ] {
            assert_eq!(rows_of(&of("ts", value)).await, [expected], "{value}");
        }
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (call, message) in [
            ("path(ts)", "expected 2 arguments, got 1"),
            ("path(value, ts)", "expected ts to be a timestamp, a date or a whole number, got Utf8"),
            (
                "path(ts, [value])",
                "expected value to be text, a signed whole number, a decimal, a floating-point number",
            ),
            ("path(ts, arrow_cast(ts, 'UInt64'))", "boolean, date or timestamp, got UInt64; cast it to bigint"),
            ("path(ts, [value])", "got List(Utf8); cast it to one"),
            ("path(distinct ts, value)", "distinct is not supported"),
        ] {
            let error = error_of(&format!("select {call} from {EVENTS}")).await;
            assert!(error.contains("path: ") && error.contains(message), "{call}: {error}");
        }
    }
}
