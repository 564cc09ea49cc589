//! `match_rows`: what `match_recognize` becomes in a plan, an aggregate over the rows of a partition.
//!
//! Usage: `match_rows(task, position, time, values, test…, value…, condition…)`
//! - `task`: what to do, as JSON text; see `Spec`
//! - `position`: the place of the row in its partition, from `row_number()`
//! - `time`: whole number that a span of matches is measured by, or null
//! - `values`: struct of what the result is made of
//! - `test`: booleans, the conditions that look at their row alone
//! - `value`: what conditions on the match look at
//! - `condition`: conditions on the match, in which `match_value(n, …)` stands for the nth value
//!
//! Returns: list of structs with the fields of `values`, one element per row of the result of the clause.
//! Ties:    none; positions are unique. The order of the rows, their batches and partitions do not matter.
//! Memory:  the arguments of the rows of a group until it is done, 4 bytes more per row, and while its matches are
//!          looked for one bit per row and instruction of the pattern.
//! Errors:  a match that resumes at its own first row or at a variable that it lacks; a search beyond its budget.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, StructArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, exec_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::scalar::ScalarValue;

use super::super::arguments::{Lists, is_text, item_field, list_type};
use super::super::documentation::internal;
use super::conditions::Condition;
use super::outputs::Outputs;
use super::partition::{Partition, Task};
use super::program::Program;
use super::rows::Rows;
use super::spec::Spec;
use super::walk::walk;

/// The name of the function.
const NAME: &str = "match_rows";

/// Arguments before the tests.
const FIXED: usize = 4;

/// The function `match_rows`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MatchRows {
    signature: Signature,
}

impl Default for MatchRows {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Reads the task of a call.
fn task(args: &AccumulatorArgs) -> Result<Task> {
    if args.is_distinct {
        return plan_err!("{NAME}: distinct is not supported");
    }
    let text = args.exprs[0].downcast_ref::<Literal>().and_then(|task| task.value().try_as_str().flatten());
    let Some(text) = text else {
        return plan_err!("{NAME}: expected the task to be a constant, got {}", args.exprs[0]);
    };
    let spec = Spec::of_text(text)?;
    let (tests, looks, conditions) = (spec.tests(), spec.looks.len(), spec.conditions());
    let expected = FIXED + tests + looks + conditions;
    if args.exprs.len() != expected {
        return plan_err!("{NAME}: expected {expected} arguments for this task, got {}", args.exprs.len());
    }
    let conditions: &[Arc<dyn PhysicalExpr>] = &args.exprs[FIXED + tests + looks..];
    let look_fields = &args.expr_fields[FIXED + tests..FIXED + tests + looks];
    let look_types: Vec<DataType> = look_fields.iter().map(|field| field.data_type().clone()).collect();
    let conditions =
        conditions.iter().map(|condition| Condition::new(condition, &look_types)).collect::<Result<Vec<_>>>()?;
    let program = Program::new(&spec.pattern).map_err(|_| exec_datafusion_err!("{NAME}: the pattern is too large"))?;
    Ok(Task { spec, program, conditions })
}

impl AggregateUDFImpl for MatchRows {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [task, position, time, DataType::Struct(_), ..] = types else {
            return plan_err!("{NAME}: expected task, position, time and a struct of values first");
        };
        if !is_text(task) {
            return plan_err!("{NAME}: expected the task to be text, got {task}");
        }
        if !position.is_integer() {
            return plan_err!("{NAME}: expected the position to be a whole number, got {position}");
        }
        if !time.is_integer() {
            return plan_err!("{NAME}: expected the time to be a whole number, got {time}");
        }
        let fixed = [DataType::Utf8, DataType::UInt64, DataType::Int64];
        Ok(fixed.into_iter().chain(types[3..].iter().cloned()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(list_type(types[3].clone()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let rows = list_type(DataType::Struct(row_fields(args.input_fields)));
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "rows"), rows, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneGroup(Matches::new(&args)?)))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Matches::new(&args)?))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            internal(
                "A part of the plans of match_recognize, which finds rows of a partition that follow a pattern; not \
                 meant to be called by hand.",
                "match_rows(task, position, time, values, …)",
            )
        });
        Some(&DOCUMENTATION)
    }
}

/// The fields of a row in a state: all arguments but the task.
fn row_fields(arguments: &[FieldRef]) -> Fields {
    let fields = arguments.iter().skip(1).enumerate();
    fields.map(|(number, field)| Field::new(format!("argument_{number}"), field.data_type().clone(), true)).collect()
}

/// The rows of many groups.
struct Matches {
    task: Task,
    row_fields: Fields,
    /// The fields of an element of the result.
    value_fields: Fields,
    rows: Rows,
}

impl Matches {
    fn new(args: &AccumulatorArgs) -> Result<Self> {
        let DataType::Struct(value_fields) = args.expr_fields[3].data_type() else {
            return plan_err!("{NAME}: expected a struct of values, got {}", args.expr_fields[3].data_type());
        };
        Ok(Self {
            task: task(args)?,
            row_fields: row_fields(args.expr_fields),
            value_fields: value_fields.clone(),
            rows: Rows::default(),
        })
    }

    fn append(
        &mut self,
        values: &[ArrayRef],
        groups: impl Iterator<Item = usize>,
        selected: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        let columns = &values[1..];
        let Some(selected) = selected else {
            self.rows.append(columns.to_vec(), groups, group_count);
            return Ok(());
        };
        let columns = columns.iter().map(|column| Ok(filter(column, selected)?)).collect::<Result<Vec<_>>>()?;
        let groups = groups.enumerate().filter(|(row, _)| selected.is_valid(*row) && selected.value(*row));
        self.rows.append(columns, groups.map(|(_, group)| group), group_count);
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: impl Iterator<Item = usize>, group_count: usize) -> Result<()> {
        let lists = Lists::of_array(NAME, &states[0])?;
        let columns = lists.values.as_struct().columns().to_vec();
        let groups = groups.enumerate().flat_map(|(row, group)| std::iter::repeat_n(group, lists.span(row).len()));
        self.rows.append(columns, groups, group_count);
        Ok(())
    }

    /// Rows as a state.
    fn to_state(&self, columns: Option<Vec<ArrayRef>>, offsets: &[usize]) -> Result<ArrayRef> {
        let rows = match columns {
            Some(columns) => StructArray::try_new(self.row_fields.clone(), columns, None)?,
            None => StructArray::new_null(self.row_fields.clone(), 0),
        };
        list(Arc::new(rows), offsets.iter().copied())
    }

    fn result(&self, columns: Option<Vec<ArrayRef>>, offsets: &[usize]) -> Result<ArrayRef> {
        let mut outputs = Outputs::new(&self.task.spec, &self.value_fields);
        let mut ends = vec![0];
        if let Some(columns) = &columns {
            for group in offsets.windows(2) {
                let mut partition = Partition::new(&self.task, columns, group[0], group[1])?;
                let findings =
                    walk(&self.task.program, &mut partition, self.task.spec.labels.len(), self.task.spec.rules)
                        .map_err(|failure| self.task.explain(failure))?;
                outputs.append(columns, group[0], group[1], &findings)?;
                ends.push(outputs.len());
            }
        } else {
            ends.resize(offsets.len(), 0);
        }
        let values = outputs.finish(columns.as_deref())?;
        list(Arc::new(StructArray::try_new(self.value_fields.clone(), values, None)?), ends.into_iter())
    }
}

fn list(elements: ArrayRef, ends: impl Iterator<Item = usize>) -> Result<ArrayRef> {
    let ends = ends
        .map(|end| i32::try_from(end).map_err(|_| exec_datafusion_err!("{NAME}: more than {} rows at once", i32::MAX)));
    let offsets = OffsetBuffer::new(ends.collect::<Result<Vec<i32>>>()?.into());
    Ok(Arc::new(ListArray::try_new(item_field(elements.data_type().clone()), offsets, elements, None)?))
}

impl GroupsAccumulator for Matches {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.append(values, group_indices.iter().copied(), opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (columns, offsets) = self.rows.take(emit_to)?;
        self.result(columns, &offsets)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (columns, offsets) = self.rows.take(emit_to)?;
        Ok(vec![self.to_state(columns, &offsets)?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.merge(values, group_indices.iter().copied(), total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let Some(selected) = opt_filter else {
            let offsets: Vec<usize> = (0..=rows).collect();
            return Ok(vec![self.to_state(Some(values[1..].to_vec()), &offsets)?]);
        };
        let columns = values[1..].iter().map(|column| Ok(filter(column, selected)?)).collect::<Result<Vec<_>>>()?;
        let mut offsets = vec![0; rows + 1];
        for row in 0..rows {
            offsets[row + 1] = offsets[row] + usize::from(selected.is_valid(row) && selected.value(row));
        }
        Ok(vec![self.to_state(Some(columns), &offsets)?])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.rows.size()
    }
}

/// The rows of one group.
struct OneGroup(Matches);

impl std::fmt::Debug for OneGroup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("OneGroup").field(&self.0.rows.size()).finish()
    }
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.append(values, std::iter::repeat_n(0, values[0].len()), None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        // A window asks again and again.
        let (columns, offsets) = self.0.rows.clone().take(EmitTo::All)?;
        let offsets = if offsets.len() < 2 { vec![0, 0] } else { offsets };
        ScalarValue::try_from_array(&self.0.result(columns, &offsets)?, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.rows.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (columns, offsets) = self.0.rows.take(EmitTo::All)?;
        let offsets = if offsets.len() < 2 { vec![0, 0] } else { offsets };
        Ok(vec![ScalarValue::try_from_array(&self.0.to_state(columns, &offsets)?, 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge(states, std::iter::repeat_n(0, states[0].len()), 1)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, UInt64Array};
    use datafusion::arrow::datatypes::Schema;
    use datafusion::physical_expr::expressions::{Column, lit};
    use proptest::prelude::*;

    use super::super::super::ways::{Way, way};
    use super::super::pattern::Pattern;
    use super::super::spec::{Definition, Leaf, Place, Shape, Sight};
    use super::super::walk::{Rules, Skip};
    use super::*;

    const GROUPS: usize = 4;

    /// `pattern (a b+) define a as test, b as test`, all rows, with the first value and the number of the match.
    fn spec() -> Spec {
        let many = Pattern::Repeat { pattern: Box::new(Pattern::Row(1)), least: 1, most: None, is_reluctant: false };
        let first = Place { among: Sight { variables: 3, is_final: false }, is_first: true, offset: 0, shift: 0 };
        Spec {
            pattern: Pattern::Concat(vec![Pattern::Row(0), many]),
            labels: vec!["a".to_owned(), "b".to_owned()],
            definitions: vec![
                Definition { test: Some(0), condition: None },
                Definition { test: Some(1), condition: None },
            ],
            looks: Vec::new(),
            outputs: vec![Leaf::Row, Leaf::Value(first), Leaf::Number],
            shape: Shape::AllRows { shows_empty: true, shows_unmatched: true },
            rules: Rules { skip: Skip::PastLastRow, shows_partial: false, is_limited: false },
            within: None,
        }
    }

    fn value_fields() -> Fields {
        ["row", "first", "number"].iter().map(|name| Field::new(*name, DataType::Int64, true)).collect()
    }

    fn matches() -> Matches {
        let types = [
            DataType::Utf8,
            DataType::UInt64,
            DataType::Int64,
            DataType::Struct(value_fields()),
            DataType::Boolean,
            DataType::Boolean,
        ];
        let fields: Vec<FieldRef> = types
            .iter()
            .enumerate()
            .map(|(number, data_type)| Arc::new(Field::new(format!("c{number}"), data_type.clone(), true)))
            .collect();
        let mut exprs: Vec<Arc<dyn PhysicalExpr>> = vec![lit(spec().to_text().unwrap())];
        exprs
            .extend((1..6).map(|number| Arc::new(Column::new(&format!("c{number}"), number)) as Arc<dyn PhysicalExpr>));
        Matches::new(&AccumulatorArgs {
            return_field: Arc::new(Field::new("m", list_type(types[3].clone()), true)),
            schema: &Schema::empty(),
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: NAME,
            is_distinct: false,
            exprs: &exprs,
            expr_fields: &fields,
        })
        .unwrap()
    }

    /// Group, position, value, the tests, and whether the filter lets it pass.
    type Event = (usize, u64, i64, bool, bool, Option<bool>);

    fn arguments(events: &[Event]) -> Vec<ArrayRef> {
        let values: ArrayRef = Arc::new(events.iter().map(|event| Some(event.2)).collect::<Int64Array>());
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![None; events.len()]));
        let values = StructArray::new(
            value_fields(),
            vec![Arc::clone(&values), Arc::clone(&values), Arc::clone(&numbers)],
            None,
        );
        let task: ArrayRef = Arc::new(datafusion::arrow::array::StringArray::from(vec!["task"; events.len()]));
        vec![
            task,
            Arc::new(events.iter().map(|event| Some(event.1)).collect::<UInt64Array>()),
            numbers,
            Arc::new(values),
            Arc::new(events.iter().map(|event| Some(event.3)).collect::<BooleanArray>()),
            Arc::new(events.iter().map(|event| Some(event.4)).collect::<BooleanArray>()),
        ]
    }

    fn add(total: &mut Matches, events: &[Event], way: Way) {
        let values = arguments(events);
        let groups: Vec<usize> = events.iter().map(|event| event.0).collect();
        let passes: BooleanArray = events.iter().map(|event| event.5).collect();
        way.add(total, matches, &values, &groups, &passes, GROUPS);
    }

    /// The rows of the result for one group, by hand: runs of `a b+` from left to right.
    fn naive(events: &[Event], group: usize) -> Vec<[Option<i64>; 3]> {
        let mut own: Vec<&Event> = events.iter().filter(|event| event.0 == group && event.5 == Some(true)).collect();
        own.sort_by_key(|event| event.1);
        let (mut start, mut number, mut rows) = (0, 0, Vec::new());
        while start < own.len() {
            let following = own[start + 1..].iter().take_while(|event| event.4).count();
            if !own[start].3 || following == 0 {
                rows.push([Some(own[start].2), None, None]);
                start += 1;
                continue;
            }
            number += 1;
            rows.extend((0..=following).map(|row| [Some(own[start + row].2), Some(own[start].2), Some(number)]));
            start += following + 1;
        }
        rows
    }

    fn read(result: &ArrayRef) -> Vec<Vec<[Option<i64>; 3]>> {
        let lists = result.as_list::<i32>();
        let row = |values: &ArrayRef, row: usize| {
            let fields = values.as_struct();
            [0, 1, 2].map(|field| {
                let column = fields.column(field).as_primitive::<datafusion::arrow::datatypes::Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            })
        };
        (0..lists.len())
            .map(|list| {
                let values = lists.value(list);
                (0..values.len()).map(|number| row(&values, number)).collect()
            })
            .collect()
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let passes = prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
        let event = (0..GROUPS, -3i64..3, any::<bool>(), any::<bool>(), passes);
        prop::collection::vec(event, 0..50).prop_map(|events| {
            // Positions are unique.
            let events = events.into_iter().enumerate();
            events.map(|(at, (group, value, a, b, passes))| (group, at as u64, value, a, b, passes)).collect::<Vec<_>>()
        })
    }

    proptest! {
        #[test]
        fn any_order_and_any_split_give_the_same_matches(
            events in events().prop_shuffle(),
            batches in prop::collection::vec((1usize..12, way(GROUPS)), 1..6),
            emitted in 0..=GROUPS,
        ) {
            let mut total = matches();
            total.update_batch(&arguments(&[]), &[], None, GROUPS).unwrap();
            let mut rest = &events[..];
            for (length, way) in batches.iter().cycle() {
                let (batch, others) = rest.split_at((*length).min(rest.len()));
                add(&mut total, batch, *way);
                rest = others;
                if rest.is_empty() {
                    break;
                }
            }
            let mut found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(emitted)).unwrap());
            found.extend(read(&GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap()));
            let expected: Vec<_> = (0..GROUPS).map(|group| naive(&events, group)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn one_group_gives_the_same_as_many(events in events(), cut in 0usize..50) {
            let own: Vec<Event> =
                events.into_iter().filter(|event| event.5 == Some(true)).map(|event| Event::from((0, event.1, event.2, event.3, event.4, event.5))).collect();
            let cut = cut.min(own.len());
            let mut first = OneGroup(matches());
            first.update_batch(&arguments(&own[..cut])).unwrap();
            let mut second = OneGroup(matches());
            second.update_batch(&arguments(&own[cut..])).unwrap();
            let states = [second.state().unwrap(), first.state().unwrap()];
            let mut total = OneGroup(matches());
            for state in states {
                total.merge_batch(&[state[0].to_array().unwrap()]).unwrap();
            }
            for _ in 0..2 {
                let found = read(&total.evaluate().unwrap().to_array().unwrap());
                prop_assert_eq!(found, vec![naive(&own, 0)]);
            }
        }
    }

    #[test]
    fn the_size_grows_with_rows_and_falls_when_they_leave() {
        let events: Vec<Event> = (0..10_000).map(|at| (0, at, 1, true, false, Some(true))).collect();
        let mut total = matches();
        let empty = GroupsAccumulator::size(&total);
        add(&mut total, &events, Way::Update);
        // 8 position, 8 time, 3 × 8 values, 4 group, and bits.
        let full = GroupsAccumulator::size(&total);
        assert!((44 * 10_000..80 * 10_000).contains(&full), "{full}");
        GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap();
        assert!(GroupsAccumulator::size(&total) <= empty + 100);
    }
}
