//! `timeline`: the events of a group in order, as parallel lists.
//!
//! Events of all groups lie in flat columns ([`columns`], [`events`]), distinct texts once, and are put in order when
//! groups go out ([`accumulate`]). `path` is the same with one value and no id.

mod accumulate;
mod columns;
mod events;
mod path;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::StructArray;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};

use self::accumulate::{Shape, Timelines};
use self::columns::{STORED, remedy, stored_type};
pub use self::path::Path;
use super::arguments::{empty_list, expect_count, is_text, list_type, time_type};
use super::call::{Call, Parameterised};
use super::documentation::{Example, Manual, Section, Unlike, WINDOWS};
use super::single_group::{MovingFrame, SingleGroup};

const TIMES: &str = "times";
const EVENT_IDS: &str = "event_ids";

/// The function `timeline`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Timeline {
    signature: Signature,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The fields of the result for a struct of values.
fn result_fields(values: &DataType) -> Result<Fields> {
    let DataType::Struct(values) = values else {
        return plan_err!("timeline: expected a struct of values, got {values}");
    };
    let mut fields =
        vec![Field::new(TIMES, list_type(time_type()), true), Field::new(EVENT_IDS, list_type(DataType::Utf8), true)];
    for value in values {
        if fields.iter().any(|field| field.name() == value.name()) {
            return plan_err!("timeline: the name {} is taken twice", value.name());
        }
        let Some(stored) = stored_type(value.data_type()) else {
            let (name, data_type) = (value.name(), value.data_type());
            return plan_err!("timeline: expected value {name} to be {STORED}, got {data_type}; {}", remedy(data_type));
        };
        fields.push(Field::new(value.name(), list_type(stored), true));
    }
    Ok(Fields::from(fields))
}

impl Parameterised for Timeline {
    type Parameters = ();

    fn parameters(&self, _call: &Call) -> Result<Option<()>> {
        Ok(Some(()))
    }
}

impl Timeline {
    /// An empty accumulator for a call.
    fn timelines(&self, args: &AccumulatorArgs) -> Result<Timelines> {
        self.parameters_of(args)?;
        Timelines::returning(args.return_type())
    }
}

impl AggregateUDFImpl for Timeline {
    fn name(&self) -> &str {
        "timeline"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 3)?;
        if !matches!(types[0], DataType::Timestamp(..)) {
            return plan_err!("timeline: expected occurred_at to be a timestamp, got {}", types[0]);
        }
        if !is_text(&types[1]) {
            return plan_err!("timeline: expected event_id to be text, got {}", types[1]);
        }
        result_fields(&types[2])?;
        Ok(types.to_vec())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(result_fields(&types[2])?))
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        let DataType::Struct(fields) = data_type else {
            return ScalarValue::try_from(data_type);
        };
        let lists = fields.iter().map(|field| empty_list(field.data_type())?.to_array());
        let timeline = StructArray::try_new(fields.clone(), lists.collect::<Result<_>>()?, None)?;
        Ok(ScalarValue::Struct(Arc::new(timeline)))
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
                section: Section::Journeys,
                syntax: &["timeline(occurred_at, event_id, values)"],
                summary: "Returns the events of a group, ordered by time and id, as a struct of parallel lists.",
                details: "",
                arguments: &[
                    ("occurred_at", "Timestamp of any unit and zone."),
                    ("event_id", "Text."),
                    (
                        "values",
                        "Struct, as `named_struct('channel', channel, …)` makes it; its fields may be text, \
                         `Decimal128`, boolean, signed whole numbers (or unsigned ones of up to 32 bits), \
                         floating-point numbers, dates and timestamps.",
                    ),
                ],
                example: Example {
                    query: "
                        select customer, timeline(at, id, named_struct('touchpoints', touch)) as events
                        from (values
                          ('ann', timestamp '2026-01-05T10:00:00', 'e-2', 'cart'),
                          ('ann', timestamp '2026-01-05T10:00:00', 'e-1', 'view')
                        ) as events(customer, at, id, touch)
                        group by customer order by customer
                    ",
                    rows: &[
                        "customer | events",
                        "ann | {times: [2026-01-05T10:00:00Z, 2026-01-05T10:00:00Z], event_ids: [e-1, e-2], \
                         touchpoints: [view, cart]}",
                    ],
                },
                returns: "struct of lists of one length: `times` (microseconds, UTC), `event_ids` (`Utf8`), then a \
                          list per field of the values under its name: text as `Dictionary(Int32, Utf8)`, whole \
                          numbers as `Int64`, floating-point numbers as `Float64`, timestamps in microseconds, the \
                          rest as it came. A group without rows has empty lists.",
                parts: &[WINDOWS],
                nulls: "rows whose `occurred_at` or `event_id` is null are skipped; null values stay as null \
                        elements.",
                order: "(`occurred_at`, `event_id` by bytes). The order of the rows, their batches and partitions do \
                        not matter.",
                ties: "events that share time and id are ordered by their values.",
                memory: "per event 16 bytes, the bytes of its id, and its values: 4 bytes for a text (distinct texts \
                         are kept once), 1 for a boolean, 4, 8 or 16 for the others. On the way out 4 bytes per \
                         event that leaves, 16 per event of the group in hand, and a column of the result beside the \
                         one that is kept.",
                errors: "a `distinct` call; other types, at planning; more than 4 GiB of event ids, 2 GiB of distinct \
                         texts or 4 billion events in one partition, more than 2 GiB of event ids or 2 billion events \
                         in one result.",
                source: "our own.",
                differs: &[Unlike {
                    whom: "`array_agg(… order by …)`",
                    by: &["all lists of a group are ordered at once and by one order, where each call sorts for \
                           itself"],
                }],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    };
    use datafusion::arrow::compute::cast;
    use datafusion::arrow::datatypes::{Schema, TimeUnit};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::logical_expr::AggregateUDF;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    fn context(partitions: Vec<Vec<RecordBatch>>) -> SessionContext {
        let config = SessionConfig::new().with_target_partitions(4).with_batch_size(3);
        let ctx = SessionContext::new_with_config(config);
        ctx.register_udaf(AggregateUDF::from(Timeline::default()));
        let table = MemTable::try_new(partitions[0][0].schema(), partitions).unwrap();
        ctx.register_table("events", Arc::new(table)).unwrap();
        ctx
    }

    /// Sixty events of seven customers in three partitions of small batches, out of order.
    fn events() -> Vec<Vec<RecordBatch>> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("customer_id", DataType::Int64, false),
            Field::new("occurred_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("event_id", DataType::Utf8View, true),
            Field::new("channel", DataType::Utf8View, true),
            Field::new("score", DataType::Float64, true),
        ]));
        let batch = |numbers: Vec<i64>| {
            let ids: StringArray = numbers.iter().map(|number| Some(format!("event-{number}"))).collect();
            let channels: StringArray =
                numbers.iter().map(|number| ["web", "store", "mobile_application"].get(*number as usize % 4)).collect();
            let times: TimestampMicrosecondArray =
                numbers.iter().map(|number| (number % 11 != 0).then_some(number % 5)).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(numbers.iter().map(|number| Some(number % 7)).collect::<Int64Array>()),
                Arc::new(times.with_timezone("UTC")),
                cast(&ids, &DataType::Utf8View).unwrap(),
                cast(&channels, &DataType::Utf8View).unwrap(),
                Arc::new(numbers.iter().map(|number| Some(*number as f64)).collect::<Float64Array>()),
            ];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        };
        let numbers: Vec<i64> = (0..60).map(|number| number * 37 % 60).collect();
        numbers.chunks(20).map(|part| part.chunks(6).map(|rows| batch(rows.to_vec())).collect()).collect()
    }

    async fn table(ctx: &SessionContext, sql: &str) -> String {
        let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&batches).unwrap().to_string()
    }

    #[tokio::test]
    async fn sql_gives_what_ordered_array_agg_gives() {
        let ctx = context(events());
        let ours = "select customer_id, t['times'] as a, t['event_ids'] as b, t['channels'] as c, t['scores'] as d \
                    from (select customer_id, timeline(occurred_at, event_id, \
                    named_struct('channels', channel, 'scores', score)) filter (where score > 5) as t from events \
                    group by customer_id) order by customer_id";
        let theirs = "select customer_id, array_agg(occurred_at order by occurred_at, event_id) as a, \
                      array_agg(event_id order by occurred_at, event_id) as b, \
                      array_agg(channel order by occurred_at, event_id) as c, \
                      array_agg(score order by occurred_at, event_id) as d \
                      from events where occurred_at is not null and score > 5 group by customer_id order by customer_id";
        let expected = table(&ctx, theirs).await;
        assert_eq!(table(&ctx, ours).await, expected);
        assert_eq!(expected.lines().count(), 7 + 4);
        ctx.sql("set datafusion.execution.skip_partial_aggregation_probe_ratio_threshold = 0").await.unwrap();
        ctx.sql("set datafusion.execution.skip_partial_aggregation_probe_rows_threshold = 0").await.unwrap();
        assert_eq!(table(&ctx, ours).await, expected);
        // Sorted by its group, the input is aggregated as a stream, group by group.
        let streamed = ours.replace("from events group", "from (select * from events order by customer_id) group");
        assert_eq!(table(&ctx, &streamed).await, expected);
    }

    #[tokio::test]
    async fn one_group_and_windows_work_without_group_by() {
        let ctx = context(events());
        let sql = "select array_length(t['event_ids']) as events, t['event_ids'][1] as first from (select \
                   timeline(occurred_at, event_id, named_struct('channels', channel)) as t from events)";
        assert!(table(&ctx, sql).await.contains("| 54     | event-10 |"), "{}", table(&ctx, sql).await);
        let sql = "select score, array_length(t['event_ids']) as events from (select score, timeline(occurred_at, \
                   event_id, named_struct('channels', channel)) over (order by score) as t from events) \
                   order by score desc limit 1";
        assert!(table(&ctx, sql).await.contains("| 59.0  | 54     |"), "{}", table(&ctx, sql).await);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        let ctx = context(events());
        let cases = [
            ("timeline(occurred_at, event_id)", "expected 3 arguments, got 2"),
            ("timeline(score, event_id, named_struct('a', 1))", "expected occurred_at to be a timestamp"),
            ("timeline(occurred_at, score, named_struct('a', 1))", "expected event_id to be text"),
            ("timeline(occurred_at, event_id, channel)", "expected a struct of values"),
            (
                "timeline(occurred_at, event_id, named_struct('a', [1]))",
                "expected value a to be text, a signed whole number",
            ),
            (
                "timeline(occurred_at, event_id, named_struct('a', arrow_cast(1, 'UInt64')))",
                "boolean, date or timestamp, got UInt64; cast it to bigint",
            ),
            ("timeline(occurred_at, event_id, named_struct('times', 1))", "the name times is taken twice"),
            ("timeline(distinct occurred_at, event_id, named_struct('a', 1))", "distinct is not supported"),
        ];
        for (call, message) in cases {
            let result = match ctx.sql(&format!("select {call} from events")).await {
                Ok(frame) => frame.collect().await.map(|_| ()),
                Err(error) => Err(error),
            };
            let error = result.unwrap_err().to_string();
            assert!(error.contains(message), "{call}: {error}");
        }
    }
}
