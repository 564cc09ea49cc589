//! The accumulator of `sequence_next_node`.
//!
//! A state has two lists per group: its kinds, each a value and what is met with it, and its rows, each a time and the
//! place of its kind in the first list, in the order of arrival. Nothing in a state depends on another group, so states
//! merge in any order, and what leaves takes only its own values along; rows are sorted where the result is made.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, LargeStringBuilder, StringViewArray, StringViewBuilder,
    UInt32Array, UInt64Array,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Fields, Int64Type, UInt32Type, UInt64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use hashbrown::HashMap;

use super::super::arguments::{Lists, to_booleans};
use super::super::conditions::true_values;
use super::super::elements::{Names, record_fields};
use super::super::grouped_rows::{Taken, ends_of_groups, lists_of_groups};
use super::super::moments::to_moments;
use super::super::single_group::FirstGroup;
use super::NAME;
use super::nodes::{Kinds, Node, Nodes};
use super::question::{IS_BASE, Met, Question};

/// Where the arguments of a call stand.
const TIME: usize = 2;
const VALUE: usize = 3;
const BASE: usize = 4;

/// The fields of a kind in a state.
pub(super) fn kind_fields() -> Fields {
    record_fields([("value", DataType::LargeUtf8), ("met", DataType::UInt64)])
}

/// The fields of a row in a state.
pub(super) fn row_fields() -> Fields {
    record_fields([("time", DataType::Int64), ("kind", DataType::UInt32)])
}

/// The rows of many groups and what is asked of each.
#[derive(Debug)]
pub(super) struct NextNodes {
    question: Question,
    nodes: Nodes,
}

/// Rows of a batch.
struct Batch {
    times: ScalarBuffer<i64>,
    values: ArrayRef,
    met: Vec<Met>,
    /// Rows that count; all when `None`. Of the others, those without a value need no mention.
    selected: Option<BooleanBuffer>,
}

impl Batch {
    /// Reads the arguments of a call.
    fn of_arguments(values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Self> {
        let times = to_moments(NAME, &values[TIME])?;
        let mut met = vec![0; times.len()];
        for (position, condition) in values[BASE..].iter().enumerate() {
            let bit = position.checked_sub(1).map_or(IS_BASE, |condition| 1 << condition);
            let holds = true_values(&to_booleans(NAME, condition)?);
            for row in holds.set_indices() {
                met[row] |= bit;
            }
        }
        let passed = filter.map(|filter| NullBuffer::new(true_values(filter)));
        let selected = NullBuffer::union(times.nulls(), passed.as_ref()).filter(|rows| rows.null_count() > 0);
        Ok(Self {
            times: times.values().clone(),
            values: Arc::clone(&values[VALUE]),
            met,
            selected: selected.map(NullBuffer::into_inner),
        })
    }

    /// Shows each row that counts, with the group that `group` gives it.
    fn for_each(&self, kinds: &mut Kinds, group: impl Fn(usize) -> u32, mut show: impl FnMut(Node)) -> Result<()> {
        let mut names = Names::new();
        let values = names.numbers(NAME, &self.values)?;
        let mut known: HashMap<(u32, Met), u32> = HashMap::new();
        for (row, value) in values.into_iter().enumerate() {
            let is_selected = self.selected.as_ref().is_none_or(|selected| selected.value(row));
            let Some(text) = names.texts()[value as usize].filter(|_| is_selected) else {
                continue;
            };
            let met = self.met[row];
            let kind = match known.get(&(value, met)) {
                Some(kind) => *kind,
                None => {
                    let kind = kinds.number(text, met)?;
                    known.insert((value, met), kind);
                    kind
                }
            };
            show(Node { time: self.times[row], kind, group: group(row) });
        }
        Ok(())
    }
}

/// Rows as a state, where each group ends at one of `ends`.
fn to_state(rows: &[Node], ends: &[usize], kinds: &Kinds) -> Result<Vec<ArrayRef>> {
    const UNUSED: u32 = u32::MAX;
    let mut values = LargeStringBuilder::with_capacity(ends.len().min(rows.len()), 0);
    let mut met: Vec<Met> = Vec::new();
    let mut kind_ends = Vec::with_capacity(ends.len());
    let mut kinds_of_rows = Vec::with_capacity(rows.len());
    // The place of each kind among those of the group in hand.
    let mut places = vec![UNUSED; kinds.len()];
    let (mut start, mut first) = (0, 0);
    for end in ends {
        let group = &rows[start..*end];
        for row in group {
            let place = &mut places[row.kind as usize];
            if *place == UNUSED {
                *place = (met.len() - first) as u32;
                values.append_value(kinds.value(row.kind));
                met.push(kinds.met(row.kind));
            }
            kinds_of_rows.push(*place);
        }
        group.iter().for_each(|row| places[row.kind as usize] = UNUSED);
        kind_ends.push(met.len());
        (start, first) = (*end, met.len());
    }
    let times = Int64Array::from_iter_values(rows.iter().map(|row| row.time));
    Ok(vec![
        lists_of_groups(
            NAME,
            kind_fields(),
            vec![Arc::new(values.finish()), Arc::new(UInt64Array::from(met))],
            &kind_ends,
        )?,
        lists_of_groups(NAME, row_fields(), vec![Arc::new(times), Arc::new(UInt32Array::from(kinds_of_rows))], ends)?,
    ])
}

impl NextNodes {
    /// No rows yet.
    pub(super) fn new(question: Question) -> Self {
        Self { question, nodes: Nodes::default() }
    }

    fn append(&mut self, batch: &Batch, group: impl Fn(usize) -> u32) -> Result<()> {
        let Nodes { rows, kinds } = &mut self.nodes;
        rows.reserve(batch.met.len());
        batch.for_each(kinds, group, |node| rows.push(node))
    }
}

/// The value of the row of a group that comes next.
fn answer<'a>(question: &Question, rows: &mut [Node], kinds: &'a Kinds) -> Option<&'a str> {
    kinds.sort(rows);
    let next = question.answer(rows.len(), |row| kinds.met(rows[row].kind));
    next.map(|row| kinds.value(rows[row].kind))
}

impl GroupsAccumulator for NextNodes {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.nodes.rows.grow_groups(total_num_groups);
        self.append(&Batch::of_arguments(values, opt_filter)?, |row| group_indices[row] as u32)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.nodes.rows.grow_groups(total_num_groups);
        let (kinds_of_groups, rows_of_groups) =
            (Lists::of_array(NAME, &values[0])?, Lists::of_array(NAME, &values[1])?);
        let columns = kinds_of_groups.values.as_struct().columns();
        let (texts, met) = (columns[0].as_string::<i64>(), columns[1].as_primitive::<UInt64Type>().values());
        let columns = rows_of_groups.values.as_struct().columns();
        let times = columns[0].as_primitive::<Int64Type>().values();
        let places = columns[1].as_primitive::<UInt32Type>().values();
        let Nodes { rows, kinds } = &mut self.nodes;
        rows.reserve(times.len());
        let mut numbers = Vec::new();
        for (state, group) in group_indices.iter().enumerate() {
            let (Some(of_kinds), Some(of_rows)) = (kinds_of_groups.range(state), rows_of_groups.range(state)) else {
                continue;
            };
            numbers.clear();
            for kind in of_kinds {
                numbers.push(kinds.number(texts.value(kind), met[kind])?);
            }
            let group = *group as u32;
            rows.extend(of_rows.map(|row| Node { time: times[row], kind: numbers[places[row] as usize], group }));
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let Nodes { rows, kinds } = &mut self.nodes;
        let taken = rows.take(emit_to);
        let mut answers = StringViewBuilder::with_capacity(taken.ends.len()).with_deduplicate_strings();
        taken.for_each(|group| {
            answers.append_option(answer(&self.question, group, kinds));
            Ok(())
        })?;
        self.nodes.forget_kinds()?;
        Ok(Arc::new(answers.finish()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let Taken { rows, ends } = self.nodes.rows.take(emit_to);
        let state = to_state(&rows, &ends, &self.nodes.kinds)?;
        self.nodes.forget_kinds()?;
        Ok(state)
    }

    /// Each row becomes a state of one row, or of none when it does not count.
    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let batch = Batch::of_arguments(values, opt_filter)?;
        let (mut rows, mut kinds) = (Vec::with_capacity(batch.met.len()), Kinds::default());
        // The number of the row stands where its group would.
        batch.for_each(&mut kinds, |row| row as u32, |node| rows.push(node))?;
        to_state(&rows, &ends_of_groups(&rows, batch.met.len()), &kinds)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.nodes.size()
    }
}

impl FirstGroup for NextNodes {
    fn begin(&mut self) {
        self.nodes.rows.grow_groups(1);
    }

    fn peek(&mut self) -> Result<ArrayRef> {
        let Nodes { rows, kinds } = &mut self.nodes;
        Ok(Arc::new(StringViewArray::from_iter([answer(&self.question, rows.rows_mut(), kinds)])))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringArray;
    use datafusion::arrow::compute::cast;
    use proptest::prelude::*;

    use super::super::super::arguments::coded_text_type;
    use super::super::question::tests::{FORMS, naive};
    use super::*;

    const GROUPS: usize = 4;
    const CONDITIONS: usize = 2;

    #[derive(Debug, Clone)]
    struct Event {
        group: usize,
        time: Option<i64>,
        value: Option<&'static str>,
        /// The base condition, then the others.
        conditions: [Option<bool>; CONDITIONS + 1],
        passes: Option<bool>,
    }

    fn event() -> impl Strategy<Value = Event> {
        let values = vec!["", "a", "aa", "a value that is longer than a view holds"];
        let condition = || prop_oneof![6 => Just(Some(true)), 2 => Just(Some(false)), 1 => Just(None)];
        (
            0..GROUPS - 1,
            prop::option::weighted(0.9, 0i64..4),
            prop::option::weighted(0.9, prop::sample::select(values)),
            [condition(), condition(), condition()],
            prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)],
        )
            .prop_map(|(group, time, value, conditions, passes)| Event {
                group,
                time,
                value,
                conditions,
                passes,
            })
    }

    /// The answer for each group by a plain sort and the rule; the last group has no rows.
    fn expected(form: (&str, &str), events: &[Event]) -> Vec<Option<&'static str>> {
        let answer = |group: usize| {
            let holds = |event: &Event, condition: usize| event.conditions[condition] == Some(true);
            let met = |event: &Event| {
                let conditions = (0..CONDITIONS).map(|condition| Met::from(holds(event, condition + 1)) << condition);
                conditions.sum::<Met>() | if holds(event, 0) { IS_BASE } else { 0 }
            };
            let counts = |event: &&Event| event.group == group && event.passes == Some(true);
            let rows = events.iter().filter(counts);
            let mut rows: Vec<_> = rows.filter_map(|event| Some((event.time?, event.value?, met(event)))).collect();
            rows.sort_unstable();
            let met: Vec<Met> = rows.iter().map(|row| row.2).collect();
            naive(form.0, form.1, CONDITIONS, &met).map(|row| rows[row].1)
        };
        (0..GROUPS).map(answer).collect()
    }

    fn values(events: &[Event], encoding: &DataType) -> Vec<ArrayRef> {
        let constant: ArrayRef = Arc::new(StringArray::from(vec![""; events.len()]));
        let times: Int64Array = events.iter().map(|event| event.time).collect();
        let texts: StringArray = events.iter().map(|event| event.value).collect();
        let mut values =
            vec![Arc::clone(&constant), constant, Arc::new(times) as ArrayRef, cast(&texts, encoding).unwrap()];
        for condition in 0..=CONDITIONS {
            let holds: BooleanArray = events.iter().map(|event| event.conditions[condition]).collect();
            values.push(Arc::new(holds));
        }
        values
    }

    /// Brings events into the final accumulator: as they are, as states of one row, or by way of another accumulator.
    fn add(total: &mut NextNodes, events: &[Event], way: usize, encoding: &DataType) {
        let groups: Vec<usize> = events.iter().map(|event| event.group).collect();
        let filter: BooleanArray = events.iter().map(|event| event.passes).collect();
        let values = values(events, encoding);
        match way {
            0 => total.update_batch(&values, &groups, Some(&filter), GROUPS).unwrap(),
            1 => {
                let state = total.convert_to_state(&values, Some(&filter)).unwrap();
                total.merge_batch(&state, &groups, GROUPS).unwrap();
            }
            _ => {
                let mut part = NextNodes::new(total.question);
                let groups_of_states: Vec<usize> = (0..GROUPS).collect();
                part.update_batch(&values, &groups, Some(&filter), GROUPS).unwrap();
                let state = GroupsAccumulator::state(&mut part, EmitTo::First(1)).unwrap();
                total.merge_batch(&state, &groups_of_states[..1], GROUPS).unwrap();
                let state = GroupsAccumulator::state(&mut part, EmitTo::All).unwrap();
                total.merge_batch(&state, &groups_of_states[1..], GROUPS).unwrap();
            }
        }
    }

    fn texts(array: &ArrayRef) -> Vec<Option<&str>> {
        array.as_string_view().iter().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_order_and_any_split_give_the_answers_of_a_plain_sort(
            form in prop::sample::select(FORMS.to_vec()),
            batches in prop::collection::vec((prop::collection::vec(event(), 0..12), 0usize..3, 0usize..4), 1..4),
            emitted in 0..=GROUPS,
        ) {
            let encodings = [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, coded_text_type()];
            let mut total = NextNodes::new(Question::new(form.0, form.1, CONDITIONS).unwrap());
            for (events, way, encoding) in &batches {
                add(&mut total, events, *way, &encodings[*encoding]);
            }
            let events: Vec<Event> = batches.into_iter().flat_map(|(events, ..)| events).collect();
            let first = GroupsAccumulator::evaluate(&mut total, EmitTo::First(emitted)).unwrap();
            let rest = GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap();
            let found = [texts(&first), texts(&rest)].concat();
            prop_assert_eq!(found, expected(form, &events));
        }
    }

    #[test]
    fn the_size_grows_with_rows_and_falls_when_they_leave() {
        let event = Event {
            group: 0,
            time: Some(1),
            value: Some("a"),
            conditions: [Some(true); CONDITIONS + 1],
            passes: Some(true),
        };
        let mut total = NextNodes::new(Question::new("forward", "head", CONDITIONS).unwrap());
        let empty = GroupsAccumulator::size(&total);
        for _ in 0..10 {
            add(&mut total, &vec![event.clone(); 1000], 0, &DataType::Utf8View);
        }
        let full = GroupsAccumulator::size(&total);
        assert!((16 * 10_000..40 * 10_000).contains(&full), "{full}");
        GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap();
        assert!(GroupsAccumulator::size(&total) <= empty);
    }

    /// As many groups leave, one after another, as a sorted input lets leave: their values leave with them.
    #[test]
    fn values_of_groups_that_have_left_are_forgotten() {
        let mut total = NextNodes::new(Question::new("forward", "head", 0).unwrap());
        for number in 0..100i64 {
            let rows = 1000;
            let texts: StringArray = (0..rows).map(|row| Some(format!("a value {number} {row}"))).collect();
            let text: ArrayRef = Arc::new(texts);
            let times: ArrayRef = Arc::new(Int64Array::from(vec![number; rows]));
            let base: ArrayRef = Arc::new(BooleanArray::from(vec![true; rows]));
            let values = [Arc::clone(&text), Arc::clone(&text), times, text, base];
            total.update_batch(&values, &vec![1; rows], None, 2).unwrap();
            let answer = GroupsAccumulator::evaluate(&mut total, EmitTo::First(1)).unwrap();
            let first = format!("a value {} 0", number - 1);
            assert_eq!(texts_of(&answer), [(number > 0).then_some(first)]);
        }
        assert!(GroupsAccumulator::size(&total) < 500_000, "{}", GroupsAccumulator::size(&total));
    }

    /// A state of few groups out of many is as large as they are, also where it is merged and leaves again.
    #[test]
    fn a_state_holds_the_values_of_its_groups_alone() {
        const GROUPS: usize = 20_000;
        let texts: StringArray = (0..GROUPS).map(|row| Some(format!("a value of one group, {row}"))).collect();
        let text: ArrayRef = Arc::new(texts);
        let times: ArrayRef = Arc::new(Int64Array::from(vec![1; GROUPS]));
        let base: ArrayRef = Arc::new(BooleanArray::from(vec![true; GROUPS]));
        let values = [Arc::clone(&text), Arc::clone(&text), times, text, base];
        let groups: Vec<usize> = (0..GROUPS).collect();
        let mut part = NextNodes::new(Question::new("forward", "head", 0).unwrap());
        part.update_batch(&values, &groups, None, GROUPS).unwrap();
        for _ in 0..2 {
            let state = GroupsAccumulator::state(&mut part, EmitTo::First(10)).unwrap();
            let size: usize = state.iter().map(|column| column.get_array_memory_size()).sum();
            assert!(size < 10_000, "{size} bytes");
            let mut total = NextNodes::new(Question::new("forward", "head", 0).unwrap());
            total.merge_batch(&state, &groups[..10], 10).unwrap();
            let answers = GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap();
            assert_eq!(answers.len(), 10);
            assert!(texts_of(&answers).iter().flatten().all(|text| text.starts_with("a value of one group, ")));
        }
        let every = GroupsAccumulator::state(&mut part, EmitTo::All).unwrap();
        assert_eq!(every[0].len(), GROUPS - 20);
    }

    fn texts_of(array: &ArrayRef) -> Vec<Option<String>> {
        texts(array).into_iter().map(|text| text.map(str::to_owned)).collect()
    }
}
