//! `goal_touches`: for each goal of a customer, the touches that came before it.
//!
//! What is kept are the places of elements ([`cuts`]), found in time that grows with the elements and the touches found,
//! whatever the order of the list; the columns are taken by them at the end.

mod cuts;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, UInt32Array};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, exec_err, plan_err, resources_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

pub(super) use self::cuts::Cuts;
use self::cuts::TooMany;
use super::arguments::{
    Lists, coerce_booleans, coerce_fields, element_type, expect_count, item_field, list_type, returned_field,
    to_booleans,
};
use super::documentation::{Example, Manual, Section};
use super::elements::Rows;
use super::moments::{Spans, check_span, coerce_span_between, is_moment, to_moments};

const TIMES: &str = "times";

/// The function `goal_touches`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct GoalTouches {
    signature: Signature,
}

impl Default for GoalTouches {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The fields of a struct of lists, and the type of its times.
fn list_fields(data_type: &DataType) -> Result<(&Fields, &DataType)> {
    let DataType::Struct(fields) = data_type else {
        return plan_err!("goal_touches: expected a struct of lists, got {data_type}");
    };
    if let Some(field) = fields.iter().find(|field| !matches!(field.data_type(), DataType::List(_))) {
        return plan_err!("goal_touches: expected field {} to be a list, got {}", field.name(), field.data_type());
    }
    let times = fields.iter().find(|field| field.name() == TIMES).and_then(|field| element_type(field.data_type()));
    match times {
        Some(times) if is_moment(times) => Ok((fields, times)),
        Some(times) => {
            plan_err!("goal_touches: expected times to hold timestamps, dates or whole numbers, got {times}")
        }
        None => plan_err!("goal_touches: expected a field called times"),
    }
}

/// The fields of a record of the result: the goal, and the touches before it.
fn record_fields(lists: &Fields) -> Fields {
    let elements: Fields = lists
        .iter()
        .map(|field| {
            let element = element_type(field.data_type()).unwrap_or(&DataType::Null);
            Field::new(field.name(), element.clone(), true)
        })
        .collect();
    Fields::from(vec![
        Field::new("goal", DataType::Struct(elements), true),
        Field::new("touches", DataType::Struct(lists.clone()), true),
    ])
}

impl ScalarUDFImpl for GoalTouches {
    fn name(&self) -> &str {
        "goal_touches"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 3)?;
        let timeline = coerce_fields(&types[0]);
        let (_, time) = list_fields(&timeline)?;
        let goals = coerce_booleans(self.name(), &types[1])?;
        let look_back = coerce_span_between(self.name(), "look_back", time, &types[2])?;
        Ok(vec![timeline, goals, look_back])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let (lists, _) = list_fields(&types[0])?;
        Ok(list_type(DataType::Struct(record_fields(lists))))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_span(self.name(), "look_back", &args, 2)?;
        returned_field(self, &args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let timelines = args.args[0].to_array(args.number_rows)?;
        let goals = Lists::of_argument(self.name(), &args.args[1], args.number_rows)?;
        let look_backs = Spans::of_argument(self.name(), &args.args[2])?;
        Ok(ColumnarValue::Array(cut(timelines.as_struct(), &goals, &look_backs)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Attribution,
                syntax: &["goal_touches(timeline, goals, look_back)"],
                summary: "Returns, for each goal among a customer's events, the goal and the touches before it that \
                          lie within a look-back.",
                details: "Unnest it to get a row per conversion, ready for `attribution_weights`. A touch may count \
                          for several goals.",
                arguments: &[
                    (
                        "timeline",
                        "Struct of parallel lists, such as the result of `timeline`; its field `times` holds \
                         timestamps, dates or whole numbers, its other fields lists of anything.",
                    ),
                    ("goals", "List of booleans, parallel to them: whether the event is a goal."),
                    (
                        "look_back",
                        "How far before its goal a touch counts, both ends included: an interval, a duration, text \
                         such as `'30 days'` or whole microseconds; for whole-number times a whole number in their \
                         unit.",
                    ),
                ],
                example: Example {
                    query: "
                        select unnest(goal_touches(
                          named_struct('times', [1, 3, 9, 20], 'channels', ['ad', 'email', 'web', 'web']),
                          [false, false, true, true], 7)) as conversion
                    ",
                    rows: &[
                        "conversion",
                        "{goal: {times: 9, channels: web}, touches: {times: [3], channels: [email]}}",
                        "{goal: {times: 20, channels: web}, touches: {times: [], channels: []}}",
                    ],
                },
                returns: "list of structs, one per goal, in order: `goal`, a struct of what the timeline holds of it, \
                          and `touches`, a struct of lists: what it holds of the elements before the goal that are no \
                          goals and lie within the look-back.",
                parts: &[],
                nulls: "a null goal counts as false; an element without time is no touch, and a goal without time has \
                        no touches; null when an argument is null.",
                order: "that of the lists, which should be the order of the times.",
                ties: "of elements with the time of the goal, those before it in the list are touches.",
                memory: "4 bytes per goal and touch of a goal, 16 per element of the longest row that is no goal, 8 \
                         more where its times are not in order, and the result, which holds a touch once for each of \
                         its goals. Lists whose rows lie apart take 4 bytes per touch once more.",
                errors: "lists of different lengths, a null list in the timeline; a span that is negative or of \
                         months; more than 2 billion touches in a batch; other types, at planning.",
                source: "our own: the look-back of Adobe's and Snowplow's attribution, apart from any model of it.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The touches of each goal
// ---------------------------------------------------------------------------------------------------------------

/// Cuts the touches of each goal out of each row's lists.
fn cut(timelines: &StructArray, goals: &Lists, look_backs: &Spans) -> Result<ArrayRef> {
    let lists: Vec<Lists> = timelines.columns().iter().map(|column| Lists::new(column.as_list::<i32>())).collect();
    let nulls = NullBuffer::union(timelines.nulls(), goals.nulls.as_ref());
    let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    for (field, lists) in timelines.fields().iter().zip(&lists) {
        for row in (0..timelines.len()).filter(|row| !is_null(*row)) {
            let (length, expected) = (lists.span(row).len(), goals.span(row).len());
            if lists.is_null(row) || length != expected {
                let length = if lists.is_null(row) { "no".to_owned() } else { length.to_string() };
                return exec_err!("goal_touches: {} has {length} elements where goals has {expected}", field.name());
            }
        }
    }
    let Some(time_lists) = timelines.fields().iter().position(|field| field.name() == TIMES).map(|at| &lists[at])
    else {
        return exec_err!("goal_touches: expected a field called times");
    };
    let moments = to_moments("goal_touches", &time_lists.values)?;
    let flags = to_booleans("goal_touches", &goals.values)?;
    let is_goal = |position: usize| flags.is_valid(position) && flags.value(position);

    let mut cuts = Cuts::default();
    let mut rows = Rows::with_capacity(timelines.len());
    // Where the touches of each row end; a row without goals has none.
    let mut row_ends = Vec::with_capacity(timelines.len());
    for row in 0..timelines.len() {
        match look_backs.get(row).filter(|_| !is_null(row)) {
            None => rows.null(),
            Some(look_back) => {
                let times = time_lists.span(row).map(|at| moments.is_valid(at).then(|| moments.value(at)));
                let added = cuts.add_row(goals.span(row).start, times, is_goal, look_back);
                if added == Err(TooMany) {
                    return resources_err!(
                        "goal_touches: a batch makes more than {} touches; use a shorter look_back or smaller batches",
                        i32::MAX
                    );
                }
                rows.end("goal_touches", cuts.goals.len())?;
            }
        }
        row_ends.push(RowEnds { goals: cuts.goals.len(), touches: cuts.touches.len() });
    }
    records(timelines.fields(), &lists, goals, cuts, &row_ends, rows)
}

/// How many goals and touches a batch has up to the end of a row.
#[derive(Clone, Copy)]
struct RowEnds {
    goals: usize,
    touches: usize,
}

/// The same positions in another list column, whose rows may lie elsewhere.
fn moved(positions: &UInt32Array, ends: impl Iterator<Item = usize>, from: &Lists, to: &Lists) -> UInt32Array {
    if from.offsets == to.offsets {
        return positions.clone();
    }
    let mut moved = Vec::with_capacity(positions.len());
    for (row, end) in ends.enumerate() {
        let (from, to) = (from.span(row).start as u32, to.span(row).start as u32);
        moved.extend(positions.values()[moved.len()..end].iter().map(|position| position - from + to));
    }
    UInt32Array::from(moved)
}

/// The records of the goals, in the lists of their rows.
fn records(
    fields: &Fields,
    lists: &[Lists],
    flags: &Lists,
    cuts: Cuts,
    row_ends: &[RowEnds],
    rows: Rows,
) -> Result<ArrayRef> {
    let touch_offsets: Vec<i32> = std::iter::once(0).chain(cuts.touch_ends).collect();
    let touch_offsets = OffsetBuffer::new(ScalarBuffer::from(touch_offsets));
    let (goals, touches) = (UInt32Array::from(cuts.goals), UInt32Array::from(cuts.touches));
    let mut goal_columns: Vec<ArrayRef> = Vec::with_capacity(lists.len());
    let mut touch_columns: Vec<ArrayRef> = Vec::with_capacity(lists.len());
    for (field, lists) in fields.iter().zip(lists) {
        let goals = moved(&goals, row_ends.iter().map(|ends| ends.goals), flags, lists);
        let touches = moved(&touches, row_ends.iter().map(|ends| ends.touches), flags, lists);
        goal_columns.push(take(&lists.values, &goals, None)?);
        let item = match field.data_type() {
            DataType::List(item) => Arc::clone(item),
            other => item_field(other.clone()),
        };
        let touches = take(&lists.values, &touches, None)?;
        touch_columns.push(Arc::new(ListArray::try_new(item, touch_offsets.clone(), touches, None)?));
    }
    let record_fields = record_fields(fields);
    let part = |field: usize, columns: Vec<ArrayRef>| -> Result<ArrayRef> {
        match record_fields[field].data_type() {
            DataType::Struct(members) => Ok(Arc::new(StructArray::try_new(members.clone(), columns, None)?)),
            other => exec_err!("goal_touches: expected a struct, got {other}"),
        }
    };
    let columns = vec![part(0, goal_columns)?, part(1, touch_columns)?];
    rows.finish_records(record_fields, columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::elements::testing::{error_of, rows_of};

    /// The lists of a null row may own elements, so that the rows behind them lie elsewhere than in the other lists.
    #[test]
    fn lists_whose_rows_lie_apart_are_cut_alike() {
        let list = |lengths: [usize; 3], values: Vec<i64>, is_valid: [bool; 3]| -> ArrayRef {
            let nulls = NullBuffer::from_iter(is_valid);
            let offsets = OffsetBuffer::from_lengths(lengths);
            let values = Arc::new(datafusion::arrow::array::Int64Array::from(values));
            Arc::new(ListArray::new(item_field(DataType::Int64), offsets, values, Some(nulls)))
        };
        let times = list([2, 1, 3], vec![1, 2, 90, 5, 6, 7], [true, true, true]);
        let values = list([2, 3, 3], vec![10, 20, 91, 92, 93, 50, 60, 70], [true, false, true]);
        let fields: Fields = [("times", &times), ("values", &values)]
            .map(|(name, list)| Field::new(name, list.data_type().clone(), true))
            .into_iter()
            .collect();
        let timelines = StructArray::new(fields, vec![times, values], Some(NullBuffer::from(vec![true, false, true])));
        let flags = [false, true, true, false, true, true].map(Some);
        let flags = Arc::new(datafusion::arrow::array::BooleanArray::from(flags.to_vec()));
        let goals = ListArray::new(item_field(DataType::Boolean), OffsetBuffer::from_lengths([2, 1, 3]), flags, None);
        let look_back = ColumnarValue::Scalar(datafusion::scalar::ScalarValue::Int64(Some(1)));
        let look_backs = Spans::of_argument("f", &look_back).unwrap();
        let records = cut(&timelines, &Lists::new(&goals), &look_backs).unwrap();
        let records = records.as_list::<i32>();
        assert!(records.is_null(1));
        let part = |part: usize| Arc::clone(records.values().as_struct().column(part).as_struct().column(1));
        let goals = part(0);
        assert_eq!(goals.as_primitive::<datafusion::arrow::datatypes::Int64Type>().values(), &[20, 60, 70]);
        let touches = part(1);
        let touches: Vec<ArrayRef> = touches.as_list::<i32>().iter().flatten().collect();
        let touches =
            touches.iter().map(|list| list.as_primitive::<datafusion::arrow::datatypes::Int64Type>().values());
        assert_eq!(touches.map(|list| list.to_vec()).collect::<Vec<_>>(), [vec![10], vec![50], vec![]]);
    }

    const CUSTOMERS: &str = "\
        select 1 as id, named_struct('times', [1, 3, 9, 9, 10], 'channels', ['ad', 'email', 'web', 'app', 'store']) as events, \
               [false, false, true, false, true] as goals \
        union all select 2, named_struct('times', [5], 'channels', ['ad']), [false] \
        union all select 3, named_struct('times', [5], 'channels', ['web']), [true] \
        union all select 4, named_struct('times', [5], 'channels', ['web']), null";

    #[tokio::test]
    async fn each_goal_has_the_touches_before_it() {
        let sql = format!(
            "select id, c['goal']['times'], c['goal']['channels'], c['touches']['channels'], c['touches']['times'] \
             from (select id, unnest(goal_touches(events, goals, 7)) as c from ({CUSTOMERS})) order by 1, 2"
        );
        let expected =
            ["1 | 9 | web | [email] | [3]", "1 | 10 | store | [email, app] | [3, 9]", "3 | 5 | web | [] | []"];
        assert_eq!(rows_of(&sql).await, expected);
        let sql = format!(
            "select id, goal_touches(events, goals, 7) is null, cardinality(goal_touches(events, goals, 7)) from ({CUSTOMERS}) order by id"
        );
        assert_eq!(rows_of(&sql).await, ["1 | false | 2", "2 | false | 0", "3 | false | 1", "4 | true | "]);
    }

    #[tokio::test]
    async fn conversions_are_attributed_across_journeys() {
        let sql = format!(
            "select model, coalesce(channel, '(none)'), round(sum(weight), 6) from ( \
                 select model, unnest(case when cardinality(channels) = 0 then [null] else channels end) as channel, \
                        unnest(case when cardinality(channels) = 0 then [1.0] else attribution_weights(model, channels) end) as weight \
                 from (select c['touches']['channels'] as channels from ( \
                     select unnest(goal_touches(events, goals, 8)) as c from ({CUSTOMERS}))) \
                 cross join (values ('first'), ('linear')) as models(model)) \
             group by 1, 2 order by 1, 2"
        );
        let expected = [
            "first | (none) | 1.0",
            "first | ad | 1.0",
            "first | app | 0.0",
            "first | email | 1.0",
            "linear | (none) | 1.0",
            "linear | ad | 0.5",
            "linear | app | 0.5",
            "linear | email | 1.0",
        ];
        assert_eq!(rows_of(&sql).await, expected);
    }

    #[tokio::test]
    async fn timelines_of_events_are_read_as_they_are() {
        let sql = "select c['goal']['channels'], c['touches']['channels'], arrow_typeof(c['touches']['channels']) from ( \
                   select unnest(goal_touches(t, list_any_goal, interval '7 days')) as c from ( \
                   select t, [false, false, true] as list_any_goal from ( \
                   select timeline(to_timestamp_seconds(day * 86400), id, named_struct('channels', channel)) as t \
                   from (values (8, 'c', 'store'), (0, 'a', 'ad'), (1, 'b', 'web')) as events(day, id, channel))))";
        assert_eq!(rows_of(sql).await, ["store | [web] | List(Dictionary(Int32, Utf8))"]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("named_struct('times', [1]), [true]", "expected 3 arguments, got 2"),
            ("[1], [true], 1", "expected a struct of lists"),
            ("named_struct('times', 1), [true], 1", "expected field times to be a list, got Int64"),
            ("named_struct('at', [1]), [true], 1", "expected a field called times"),
            (
                "named_struct('times', ['a']), [true], 1",
                "expected times to hold timestamps, dates or whole numbers, got Utf8",
            ),
            ("named_struct('times', [1]), [1], 1", "expected a list of booleans"),
            (
                "named_struct('times', [1]), [true], interval '1 day'",
                "expected look_back to be a whole number as the times are",
            ),
            ("named_struct('times', [now()]), [true], interval '1 month'", "months has no fixed length"),
            (
                "named_struct('times', [1], 'channels', ['a', 'b']), [true], 1",
                "channels has 2 elements where goals has 1",
            ),
        ] {
            let error = error_of(&format!("select goal_touches({arguments})")).await;
            assert!(error.contains("goal_touches: ") && error.contains(message), "{arguments}: {error}");
        }
    }
}
