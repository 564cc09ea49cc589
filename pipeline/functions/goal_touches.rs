//! `goal_touches`: for each goal of a customer, the touches that came before it.
//!
//! Usage: `goal_touches(timeline, goals, look_back)`
//! - `timeline`: struct of parallel lists, such as the result of `timeline`; its field `times` holds times of any kind,
//!   its other fields lists of anything
//! - `goals`: list of booleans, parallel to them; null counts as false
//! - `look_back`: span: interval, duration, text such as `'30 days'` or whole microseconds; for whole-number times a
//!   whole number in their unit. How far before its goal a touch counts, both ends included
//!
//! Returns: list of structs, one per goal, in order: `goal`, a struct of what the timeline holds of the goal itself, and
//!          `touches`, a struct of lists, what it holds of the elements before the goal that are no goals and lie within
//!          the look-back. A touch may count for several goals. Null when an argument is null.
//! Nulls:   an element without time is no touch; a goal without time has no touches.
//! Order:   that of the lists: of elements with the time of the goal, those before it in the list are touches. A list
//!          that is in the order of its times is cut by two pointers; another is searched from its start for each goal.
//! Memory:  4 bytes per touch of each goal, and the result.
//! Errors:  lists of different lengths; a span that is negative or of months; other types, at planning.
//! Source:  our own: the look-back of Adobe's and Snowplow's attribution, apart from any model of it.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StructArray, UInt32Array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, Spans, coerce_booleans, element_type, expect_count, item_field, list_type, to_booleans};
use super::document;
use super::elements::Rows;
use super::moments::{coerce_span_between, is_moment, to_moments};

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
        let (_, time) = list_fields(&types[0])?;
        let goals = coerce_booleans(self.name(), &types[1])?;
        Ok(vec![types[0].clone(), goals, coerce_span_between(self.name(), "look_back", time, &types[2])?])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let (lists, _) = list_fields(&types[0])?;
        Ok(list_type(DataType::Struct(record_fields(lists))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let timelines = args.args[0].to_array(args.number_rows)?;
        let goals = Lists::of_argument(self.name(), &args.args[1], args.number_rows)?;
        let look_backs = Spans::of_argument(self.name(), &args.args[2])?;
        Ok(ColumnarValue::Array(cut(timelines.as_struct(), &goals, &look_backs)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            document(
                "Returns, for each goal among a customer's events, a struct of goal (what the timeline holds of it) and \
                 touches (lists of what it holds of the events before it that are no goals and lie within the look-back, \
                 both ends included). Unnest it to get a row per conversion, ready for attribution_weights. Null when an \
                 argument is null.",
                "goal_touches(timeline, goals, look_back)",
                "select unnest(goal_touches(named_struct('times', [1, 3, 9], 'channels', ['ad', 'email', 'web']), \
                 [false, false, true], 7)) as conversion;",
                &[
                    (
                        "timeline",
                        "Struct of parallel lists, such as the result of timeline; one of them is called times.",
                    ),
                    ("goals", "List of booleans, parallel to them: whether the event is a goal."),
                    ("look_back", "Interval before a goal in which touches count, its ends included."),
                ],
            )
        });
        Some(&DOCUMENTATION)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The touches of each goal
// ---------------------------------------------------------------------------------------------------------------

/// Goals and touches of a batch, each as a row and the index of an element in it.
#[derive(Default)]
struct Cuts {
    goals: Vec<(u32, u32)>,
    touches: Vec<(u32, u32)>,
    /// Where the touches of each goal end.
    touch_ends: Vec<usize>,
}

impl Cuts {
    /// Adds the goals of a row and their touches.
    fn add_row(&mut self, row: usize, times: &[Option<i64>], is_goal: impl Fn(usize) -> bool, look_back: i64) {
        let is_ordered = times.iter().flatten().is_sorted();
        let mut first = 0;
        for goal in (0..times.len()).filter(|index| is_goal(*index)) {
            let is_within = |index: usize| match (times[index], times[goal]) {
                (Some(time), Some(goal)) => time <= goal && goal.saturating_sub(time) <= look_back,
                _ => false,
            };
            if is_ordered && times[goal].is_some() {
                // Times only grow, so what is too old for this goal is too old for the next.
                while first < goal && !is_within(first) {
                    first += 1;
                }
            }
            let touches = (first..goal).filter(|index| !is_goal(*index) && is_within(*index));
            self.touches.extend(touches.map(|index| (row as u32, index as u32)));
            self.goals.push((row as u32, goal as u32));
            self.touch_ends.push(self.touches.len());
        }
    }
}

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

    let mut cuts = Cuts::default();
    let mut rows = Rows::with_capacity(timelines.len());
    let mut times: Vec<Option<i64>> = vec![];
    for row in 0..timelines.len() {
        let Some(look_back) = look_backs.get(row).filter(|_| !is_null(row)) else {
            rows.null();
            continue;
        };
        times.clear();
        times.extend(times_of(&moments, time_lists.span(row)));
        let first_flag = goals.span(row).start;
        let is_goal = |index: usize| is_true(&flags, first_flag + index);
        cuts.add_row(row, &times, is_goal, look_back);
        rows.end("goal_touches", cuts.goals.len())?;
    }
    records(timelines.fields(), &lists, &cuts, rows)
}

fn times_of(moments: &Int64Array, span: Range<usize>) -> impl Iterator<Item = Option<i64>> {
    span.map(|position| moments.is_valid(position).then(|| moments.value(position)))
}

fn is_true(flags: &BooleanArray, position: usize) -> bool {
    flags.is_valid(position) && flags.value(position)
}

/// The records of the goals, in the lists of their rows.
fn records(fields: &Fields, lists: &[Lists], cuts: &Cuts, rows: Rows) -> Result<ArrayRef> {
    let mut touch_offsets: Vec<i32> = Vec::with_capacity(cuts.goals.len() + 1);
    touch_offsets.push(0);
    for end in &cuts.touch_ends {
        let Ok(end) = i32::try_from(*end) else {
            return exec_err!(
                "goal_touches: a batch makes more than {} touches; use a shorter look_back or smaller batches",
                i32::MAX
            );
        };
        touch_offsets.push(end);
    }
    let touch_offsets = OffsetBuffer::new(ScalarBuffer::from(touch_offsets));
    let mut goal_columns: Vec<ArrayRef> = Vec::with_capacity(lists.len());
    let mut touch_columns: Vec<ArrayRef> = Vec::with_capacity(lists.len());
    for (field, lists) in fields.iter().zip(lists) {
        let take_elements = |elements: &[(u32, u32)]| -> Result<ArrayRef> {
            let positions = elements.iter().map(|(row, index)| lists.offsets[*row as usize] as u32 + index);
            Ok(take(&lists.values, &UInt32Array::from_iter_values(positions), None)?)
        };
        goal_columns.push(take_elements(&cuts.goals)?);
        let item = match field.data_type() {
            DataType::List(item) => Arc::clone(item),
            other => item_field(other.clone()),
        };
        let touches = take_elements(&cuts.touches)?;
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
    use proptest::prelude::*;

    use super::*;
    use crate::functions::elements::testing::{error_of, rows_of};

    proptest! {
        #[test]
        fn touches_are_those_of_a_naive_search(
            events in prop::collection::vec((prop::option::weighted(0.9, 0i64..30), any::<bool>()), 0..20),
            is_sorted in any::<bool>(),
            look_back in 0i64..12,
        ) {
            let mut events = events;
            if is_sorted {
                events.sort_by_key(|(time, _)| *time);
            }
            let times: Vec<Option<i64>> = events.iter().map(|(time, _)| *time).collect();
            let mut cuts = Cuts::default();
            cuts.add_row(7, &times, |index| events[index].1, look_back);
            let (mut goals, mut touches, mut ends) = (vec![], vec![], vec![]);
            for (goal, (at, is_goal)) in events.iter().enumerate() {
                if !is_goal {
                    continue;
                }
                for (touch, (time, is_goal)) in events[..goal].iter().enumerate() {
                    if let (Some(at), Some(time), false) = (at, time, is_goal)
                        && (0..=look_back).contains(&(at - time))
                    {
                        touches.push((7, touch as u32));
                    }
                }
                goals.push((7, goal as u32));
                ends.push(touches.len());
            }
            prop_assert_eq!(cuts.goals, goals);
            prop_assert_eq!(cuts.touches, touches);
            prop_assert_eq!(cuts.touch_ends, ends);
        }
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
