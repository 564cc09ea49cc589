//! `retention`: which of several things those who did the first one did too.
//!
//! A group is a bit per condition, so phases merge by `or`.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt32Array};
use datafusion::arrow::buffer::{BooleanBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, UInt32Type};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::arguments::{item_field, list_type, to_booleans};
use super::conditions::{MOST_CONDITIONS, coerce_condition, true_values};
use super::documentation::{Example, Manual, NULL_ARGUMENTS, NULL_CONDITIONS, Section, Unlike};
use super::single_group::{FirstGroup, MovingFrame, SingleGroup};

// ---------------------------------------------------------------------------------------------------------------
// What a group has met
// ---------------------------------------------------------------------------------------------------------------

/// The conditions that a group has met, a bit each.
type Met = u32;

/// The answer about the condition `number`, from 0.
fn is_retained(met: Met, number: usize) -> bool {
    let needed = 1 | 1 << number;
    met & needed == needed
}

/// Calls `meet` with each row that meets a condition, and the condition as a bit.
fn for_each_met(
    conditions: &[ArrayRef],
    filter: Option<&BooleanArray>,
    mut meet: impl FnMut(usize, Met),
) -> Result<()> {
    let passed = filter.map(true_values);
    for (number, condition) in conditions.iter().enumerate() {
        let mut is_met = true_values(&to_booleans("retention", condition)?);
        if let Some(passed) = &passed {
            is_met = &is_met & passed;
        }
        for row in is_met.set_indices() {
            meet(row, 1 << number);
        }
    }
    Ok(())
}

/// Answers as lists of as many booleans as there are conditions.
fn to_lists(groups: &[Met], conditions: usize) -> Result<ListArray> {
    let answers = BooleanBuffer::collect_bool(groups.len() * conditions, |position| {
        is_retained(groups[position / conditions], position % conditions)
    });
    let offsets = OffsetBuffer::from_repeated_length(conditions, groups.len());
    let answers = Arc::new(BooleanArray::new(answers, None));
    Ok(ListArray::try_new(item_field(DataType::Boolean), offsets, answers, None)?)
}

// ---------------------------------------------------------------------------------------------------------------
// Accumulators
// ---------------------------------------------------------------------------------------------------------------

/// Many groups.
#[derive(Debug)]
struct Groups {
    conditions: usize,
    met: Vec<Met>,
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.met.resize(total_num_groups, 0);
        for_each_met(values, opt_filter, |row, condition| self.met[group_indices[row]] |= condition)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.met.resize(total_num_groups, 0);
        let states = values[0].as_primitive::<UInt32Type>();
        for (state, group) in states.iter().zip(group_indices) {
            self.met[*group] |= state.unwrap_or(0);
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(to_lists(&emit_to.take_needed(&mut self.met), self.conditions)?))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(UInt32Array::from(emit_to.take_needed(&mut self.met)))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut met = vec![0; values[0].len()];
        for_each_met(values, opt_filter, |row, condition| met[row] |= condition)?;
        Ok(vec![Arc::new(UInt32Array::from(met))])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.met.capacity() * size_of::<Met>()
    }
}

impl FirstGroup for Groups {
    fn begin(&mut self) {
        self.met.resize(self.met.len().max(1), 0);
    }

    fn peek(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(to_lists(&self.met[..1], self.conditions)?))
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The function
// ---------------------------------------------------------------------------------------------------------------

/// The function `retention`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Retention {
    signature: Signature,
    /// How many conditions its call has, once that is planned. The answer for no rows depends on it, and the engine asks
    /// for that answer by type alone.
    conditions: Option<usize>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable), conditions: None }
    }
}

impl AggregateUDFImpl for Retention {
    fn name(&self) -> &str {
        "retention"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if !(2..=MOST_CONDITIONS).contains(&types.len()) {
            return plan_err!("retention: expected 2 to {MOST_CONDITIONS} conditions, got {}", types.len());
        }
        let condition =
            |(index, data_type)| coerce_condition("retention", &format!("condition {}", index + 1), data_type);
        types.iter().enumerate().map(condition).collect()
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(list_type(DataType::Boolean))
    }

    /// What a scalar subquery without rows returns: what the accumulators make of no rows.
    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match self.conditions {
            Some(conditions) => Ok(ScalarValue::List(Arc::new(to_lists(&[0], conditions)?))),
            None => ScalarValue::try_from(data_type),
        }
    }

    /// Tells the function how many conditions it has, before the engine turns subqueries into joins.
    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        if self.conditions.is_some() {
            return None;
        }
        Some(Box::new(|mut call: AggregateFunction, _| {
            let known = Self { conditions: Some(call.params.args.len()), ..Self::default() };
            call.func = Arc::new(AggregateUDF::from(known));
            // It would change nothing, and the engine's own rule for it expects one argument.
            call.params.distinct = false;
            Ok(Expr::AggregateFunction(call))
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "met"), DataType::UInt32, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::of(Groups { conditions: args.exprs.len(), met: Vec::new() })))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups { conditions: args.exprs.len(), met: Vec::new() }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MovingFrame::of(Groups { conditions: args.exprs.len(), met: Vec::new() })))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Funnels,
                syntax: &["retention(cond1, cond2, …, condN)"],
                summary: "Tells which of several things those who did the first one did too.",
                details: "Put the period into the conditions, as `retention(day = 0, day = 1, day = 7)`.",
                arguments: &[
                    ("cond1", "Boolean: who counts at all."),
                    ("cond2, …, condN", "1 to 31 booleans: what they did too."),
                ],
                example: Example {
                    query: "
                        select customer, retention(week = 0, week = 1, week = 2) as came_back
                        from (values ('ann', 0), ('ann', 2), ('bob', 1), ('bob', 2)) as visits(customer, week)
                        group by customer order by customer
                    ",
                    rows: &["customer | came_back", "ann | [true, false, true]", "bob | [false, false, false]"],
                },
                returns: "list of as many booleans as conditions: the first says whether a row of the group meets \
                          `cond1`; each other whether one meets `cond1` and one, the same or another, its own \
                          condition. All false for a group without rows; never null.",
                parts: &[
                    (
                        "Windows",
                        "a frame that moves its start is gone through anew for each row, which costs rows × frame.",
                    ),
                    ("Distinct", "changes nothing."),
                ],
                nulls: "a null condition counts as false.",
                order: "none: neither the order of rows nor their times matter.",
                ties: "",
                memory: "4 bytes per group.",
                errors: "fewer than 2 or more than 32 conditions, or one that is not boolean, at planning.",
                source: "ClickHouse `retention` (src/AggregateFunctions/AggregateFunctionRetention.cpp), whose answer \
                         is a list of 0 and 1.",
                differs: &[
                    Unlike { whom: "ClickHouse's `retention`", by: &[NULL_CONDITIONS, NULL_ARGUMENTS] },
                    Unlike {
                        whom: "PostHog's retention",
                        by: &["periods, first or recurring starts and a return on or after a period are conditions"],
                    },
                ],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::functions::elements::testing::{error_of, rows_of};
    use crate::functions::ways::way;

    const GROUPS: usize = 3;

    /// A row: its group, its conditions, and whether the filter lets it pass.
    type Row = (usize, Vec<Option<bool>>, Option<bool>);

    fn naive(rows: &[Row], conditions: usize) -> Vec<Vec<bool>> {
        let meets = |group: usize, number: usize| {
            rows.iter().any(|row| row.0 == group && row.1[number] == Some(true) && row.2 == Some(true))
        };
        let answer = |group: usize, number: usize| meets(group, 0) && meets(group, number);
        (0..GROUPS).map(|group| (0..conditions).map(|number| answer(group, number)).collect()).collect()
    }

    fn arguments(rows: &[Row], conditions: usize) -> Vec<ArrayRef> {
        let column = |number: usize| rows.iter().map(|row| row.1[number]).collect::<BooleanArray>();
        (0..conditions).map(|number| Arc::new(column(number)) as ArrayRef).collect()
    }

    fn read(lists: &ArrayRef) -> Vec<Vec<bool>> {
        let lists = lists.as_list::<i32>().iter().flatten();
        lists.map(|list| list.as_boolean().iter().map(Option::unwrap).collect()).collect()
    }

    fn rows() -> impl Strategy<Value = (usize, Vec<Row>)> {
        (2usize..=MOST_CONDITIONS).prop_flat_map(|conditions| {
            let flags = prop::collection::vec(prop::option::weighted(0.8, prop::bool::weighted(0.2)), conditions);
            let row = (0..GROUPS, flags, prop::option::weighted(0.9, prop::bool::weighted(0.8)));
            (Just(conditions), prop::collection::vec(row, 0..40))
        })
    }

    proptest! {
        #[test]
        fn any_split_gives_what_a_naive_search_finds(
            (conditions, rows) in rows(),
            batches in prop::collection::vec((1usize..12, way(GROUPS)), 1..5),
            emitted in 0..=GROUPS,
        ) {
            let empty = || Groups { conditions, met: Vec::new() };
            let mut total = empty();
            let mut rest = &rows[..];
            for (length, way) in batches.iter().cycle() {
                let (batch, others) = rest.split_at((*length).min(rest.len()));
                let values = arguments(batch, conditions);
                let groups: Vec<usize> = batch.iter().map(|row| row.0).collect();
                let filter: BooleanArray = batch.iter().map(|row| row.2).collect();
                way.add(&mut total, empty, &values, &groups, &filter, GROUPS);
                rest = others;
                if rest.is_empty() {
                    break;
                }
            }
            let mut found = read(&total.evaluate(EmitTo::First(emitted)).unwrap());
            found.extend(read(&total.evaluate(EmitTo::All).unwrap()));
            prop_assert_eq!(found, naive(&rows, conditions));
        }

        #[test]
        fn a_single_group_answers_alike((conditions, rows) in rows(), cut in 0usize..40) {
            let rows: Vec<Row> = rows.into_iter().map(|row| (0, row.1, Some(true))).collect();
            let (left, right) = rows.split_at(cut.min(rows.len()));
            let empty = || SingleGroup::of(Groups { conditions, met: Vec::new() });
            let (mut total, mut part) = (empty(), empty());
            total.update_batch(&arguments(left, conditions)).unwrap();
            part.update_batch(&arguments(right, conditions)).unwrap();
            let state: Vec<ArrayRef> = part.state().unwrap().iter().map(|state| state.to_array().unwrap()).collect();
            total.merge_batch(&state).unwrap();
            let found = read(&total.evaluate().unwrap().to_array().unwrap());
            prop_assert_eq!(&found[0], &naive(&rows, conditions)[0]);
        }
    }

    const ROWS: &str = "(values (1, 0), (1, 1), (2, 1), (2, 2), (3, 0), (3, null), (4, null)) as visits(customer, day)";

    #[tokio::test]
    async fn only_those_who_met_the_first_condition_are_retained() {
        let sql = format!(
            "select customer, retention(day = 0, day = 1, day = 2) from {ROWS} group by customer order by customer"
        );
        let expected = [
            "1 | [true, true, false]",
            "2 | [false, false, false]",
            "3 | [true, false, false]",
            "4 | [false, false, false]",
        ];
        assert_eq!(rows_of(&sql).await, expected);
    }

    #[tokio::test]
    async fn one_row_may_meet_several_conditions_and_order_does_not_matter() {
        let sql = "select retention(x > 1, x > 0), retention(x = 2, x = 1), retention(x = 1, x = 1), retention(null, x = 1) \
                   from (values (1), (2)) as numbers(x)";
        assert_eq!(rows_of(sql).await, ["[true, true] | [true, true] | [true, true] | [false, false]"]);
    }

    #[tokio::test]
    async fn filters_windows_and_empty_tables_work() {
        let sql = format!("select retention(day = 0, day = 1) filter (where customer > 1) from {ROWS}");
        assert_eq!(rows_of(&sql).await, ["[true, true]"]);
        let sql = format!("select retention(day = 0, day = 1) from {ROWS} where customer > 9");
        assert_eq!(rows_of(&sql).await, ["[false, false]"]);
        let sql = "select day, retention(day = 1, day = 3) over (order by day) from (values (1), (2), (3)) as d(day) order by day";
        assert_eq!(rows_of(sql).await, ["1 | [true, false]", "2 | [true, false]", "3 | [true, true]"]);
    }

    #[tokio::test]
    async fn a_subquery_without_rows_answers_as_no_rows_do() {
        let sql = "select c, (select retention(day = 0, day = 1, day = 2) from (values (1, 0), (1, 2)) as v(customer, day) \
                   where v.customer = c) from (values (1), (2)) as customers(c) order by c";
        assert_eq!(rows_of(sql).await, ["1 | [true, false, true]", "2 | [false, false, false]"]);
        let sql = sql.replace("retention(day = 0, day = 1, day = 2)", "retention(day = 0, day = 1)[2] is null");
        assert_eq!(rows_of(&sql).await, ["1 | false", "2 | false"]);
    }

    #[tokio::test]
    async fn distinct_changes_nothing() {
        for arguments in ["a, a", "a, b", "a, b, c"] {
            let met = "(values (true, false, true), (true, true, null), (true, true, null)) as met(a, b, c)";
            let plain = rows_of(&format!("select retention({arguments}) from {met}")).await;
            assert_eq!(
                rows_of(&format!("select retention(distinct {arguments}) from {met}")).await,
                plain,
                "{arguments}"
            );
        }
    }

    #[tokio::test]
    async fn there_may_be_32_conditions() {
        let conditions =
            |count: usize| (1..=count).map(|number| format!("x >= {number}")).collect::<Vec<_>>().join(", ");
        let sql = format!("select retention({}) from (values (1), (32)) as numbers(x)", conditions(32));
        assert_eq!(rows_of(&sql).await, [format!("[{}]", vec!["true"; 32].join(", "))]);
        let error = error_of(&format!("select retention({}) from (values (1)) as numbers(x)", conditions(33))).await;
        assert!(error.contains("retention: expected 2 to 32 conditions, got 33"), "{error}");
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("true", "expected 2 to 32 conditions, got 1"),
            ("true, 1", "expected condition 2 to be boolean, got Int64"),
        ] {
            let error = error_of(&format!("select retention({arguments})")).await;
            assert!(error.contains("retention: ") && error.contains(message), "{arguments}: {error}");
        }
    }

    #[test]
    fn a_group_takes_four_bytes() {
        let mut groups = Groups { conditions: 2, met: Vec::new() };
        let empty = groups.size();
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; 1000]));
        groups.update_batch(&[Arc::clone(&flags), flags], &(0..1000).collect::<Vec<_>>(), None, 1000).unwrap();
        assert!((4000..=8000).contains(&(groups.size() - empty)));
    }
}
