//! The accumulator over occurrences.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{Int64Type, UInt32Type};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::super::arguments::{Lists, to_booleans};
use super::super::conditions::true_values;
use super::super::grouped_rows::{GroupedRows, Taken, ends_of_groups, lists_of_groups};
use super::super::moments::to_moments;
use super::super::single_group::FirstGroup;
use super::{GroupFunction, Occurrence, sort, state_row_fields};

/// The occurrences of many groups and what a function makes of them.
#[derive(Debug)]
pub(in super::super) struct Occurrences<F> {
    function: F,
    /// Where the time stands among the arguments of a call; the conditions follow it.
    arguments: Range<usize>,
    rows: GroupedRows<Occurrence>,
    /// The conditions of each row of the batch in hand.
    conditions: Vec<u32>,
}

/// The rows of a batch.
struct Batch {
    times: ScalarBuffer<i64>,
    /// Rows with a time that passed the filter; all when `None`.
    selected: Option<BooleanBuffer>,
}

impl<F: GroupFunction> Occurrences<F> {
    /// None yet, of a call whose time and conditions stand at `arguments`.
    pub(in super::super) fn new(function: F, arguments: Range<usize>) -> Self {
        Self { function, arguments, rows: GroupedRows::default(), conditions: Vec::new() }
    }

    /// Reads the arguments of a call; `conditions` receives those of each row.
    fn read(&self, values: &[ArrayRef], filter: Option<&BooleanArray>, conditions: &mut Vec<u32>) -> Result<Batch> {
        let name = self.function.name();
        let values = &values[self.arguments.clone()];
        let times = to_moments(name, &values[0])?;
        conditions.clear();
        conditions.resize(times.len(), 0);
        for (position, condition) in values[1..].iter().enumerate() {
            let holds = true_values(&to_booleans(name, condition)?);
            for (chunk, mut word) in holds.bit_chunks().iter_padded().enumerate() {
                while word != 0 {
                    conditions[chunk * 64 + word.trailing_zeros() as usize] |= 1 << position;
                    word &= word - 1;
                }
            }
        }
        let passed = filter.map(|filter| NullBuffer::new(true_values(filter)));
        let selected = NullBuffer::union(times.nulls(), passed.as_ref()).filter(|rows| rows.null_count() > 0);
        Ok(Batch { times: times.values().clone(), selected: selected.map(NullBuffer::into_inner) })
    }

    /// Rows as a state, where each group ends at one of `ends`.
    fn to_state(&self, rows: &[Occurrence], ends: &[usize]) -> Result<Vec<ArrayRef>> {
        let times = Int64Array::from_iter_values(rows.iter().map(|row| row.time));
        let conditions = UInt32Array::from_iter_values(rows.iter().map(|row| row.conditions));
        let columns: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(conditions)];
        Ok(vec![lists_of_groups(self.function.name(), state_row_fields(), columns, ends)?])
    }
}

/// Writes the rows that count to the front of `rows`, which has room for all, and returns how many they are.
///
/// Every row is written and a row that does not count is overwritten by the next: no branch to mispredict.
#[inline]
fn write_rows(
    rows: &mut [Occurrence],
    batch: &Batch,
    conditions: &[u32],
    groups: impl Iterator<Item = usize>,
    keeps_unmatched: bool,
) -> usize {
    let mut written = 0;
    let input = batch.times.iter().zip(conditions).zip(groups);
    match &batch.selected {
        None => {
            for ((time, conditions), group) in input {
                rows[written] = Occurrence::new(*time, *conditions, group as u32);
                written += usize::from(*conditions != 0 || keeps_unmatched);
            }
        }
        Some(selected) => {
            for (((time, conditions), group), is_selected) in input.zip(selected) {
                rows[written] = Occurrence::new(*time, *conditions, group as u32);
                written += usize::from(is_selected && (*conditions != 0 || keeps_unmatched));
            }
        }
    }
    written
}

impl<F: GroupFunction> GroupsAccumulator for Occurrences<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let mut conditions = std::mem::take(&mut self.conditions);
        let batch = self.read(values, opt_filter, &mut conditions)?;
        let keeps_unmatched = self.function.keeps_unmatched();
        self.rows.grow_groups(total_num_groups);
        self.rows.append(group_indices.len(), |rows| {
            write_rows(rows, &batch, &conditions, group_indices.iter().copied(), keeps_unmatched)
        });
        self.conditions = conditions;
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        let lists = Lists::of_array(self.function.name(), &values[0])?;
        let columns = lists.values.as_struct();
        let times = columns.column(0).as_primitive::<Int64Type>().values();
        let conditions = columns.column(1).as_primitive::<UInt32Type>().values();
        self.rows.grow_groups(total_num_groups);
        self.rows.append(times.len(), |rows| {
            let mut written = 0;
            for (list, group) in group_indices.iter().enumerate() {
                for position in lists.range(list).unwrap_or_default() {
                    rows[written] = Occurrence::new(times[position], conditions[position], *group as u32);
                    written += 1;
                }
            }
            written
        });
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.rows.take(emit_to).for_each(|group| {
            sort(group);
            self.function.group(group)
        })?;
        self.function.finish()
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let Taken { rows, ends } = self.rows.take(emit_to);
        self.to_state(&rows, &ends)
    }

    /// Each row becomes a state of one row, or of none when it does not count.
    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut conditions = Vec::new();
        let batch = self.read(values, opt_filter, &mut conditions)?;
        let row_count = conditions.len();
        // The number of the row stands where its group would.
        let mut rows = vec![Occurrence::new(0, 0, 0); row_count];
        let written = write_rows(&mut rows, &batch, &conditions, 0..row_count, self.function.keeps_unmatched());
        rows.truncate(written);
        self.to_state(&rows, &ends_of_groups(&rows, row_count))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.rows.size() + self.function.size() + self.conditions.capacity() * size_of::<u32>()
    }
}

impl<F: GroupFunction> FirstGroup for Occurrences<F> {
    fn begin(&mut self) {
        self.rows.grow_groups(1);
    }

    fn peek(&mut self) -> Result<ArrayRef> {
        let rows = self.rows.rows_mut();
        sort(rows);
        self.function.group(rows)?;
        self.function.finish()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{StringArray, TimestampMicrosecondArray};
    use datafusion::logical_expr::Accumulator;
    use proptest::prelude::*;

    use super::super::super::single_group::{MovingFrame, SingleGroup};
    use super::super::super::ways::{Way, way};
    use super::*;

    const GROUPS: usize = 4;
    const CONDITIONS: usize = 3;

    /// Writes down each group as it comes.
    #[derive(Debug, Default)]
    struct Written {
        keeps_unmatched: bool,
        groups: Vec<String>,
    }

    impl GroupFunction for Written {
        fn name(&self) -> &'static str {
            "written"
        }

        fn keeps_unmatched(&self) -> bool {
            self.keeps_unmatched
        }

        fn group(&mut self, occurrences: &[Occurrence]) -> Result<()> {
            let rows: Vec<(i64, u32)> = occurrences.iter().map(Occurrence::key).collect();
            self.groups.push(format!("{rows:?}"));
            Ok(())
        }

        fn finish(&mut self) -> Result<ArrayRef> {
            Ok(Arc::new(StringArray::from(std::mem::take(&mut self.groups))))
        }

        fn size(&self) -> usize {
            0
        }
    }

    #[derive(Debug, Clone)]
    struct Row {
        group: usize,
        time: Option<i64>,
        conditions: [Option<bool>; CONDITIONS],
        passes: Option<bool>,
    }

    fn naive(rows: &[Row], keeps_unmatched: bool) -> Vec<String> {
        let mut groups = vec![vec![]; GROUPS];
        for row in rows.iter().filter(|row| row.passes == Some(true)) {
            let holds = |position: usize| row.conditions[position] == Some(true);
            let conditions: u32 =
                (0..CONDITIONS).filter(|position| holds(*position)).map(|position| 1 << position).sum();
            if let Some(time) = row.time
                && (conditions != 0 || keeps_unmatched)
            {
                groups[row.group].push((time, conditions));
            }
        }
        groups.iter_mut().for_each(|group| group.sort());
        groups.iter().map(|group| format!("{group:?}")).collect()
    }

    /// A call with an argument before the time.
    fn arguments(rows: &[Row]) -> Vec<ArrayRef> {
        let times: TimestampMicrosecondArray = rows.iter().map(|row| row.time).collect();
        let mut arguments: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![0; rows.len()])), Arc::new(times)];
        for position in 0..CONDITIONS {
            arguments.push(Arc::new(rows.iter().map(|row| row.conditions[position]).collect::<BooleanArray>()));
        }
        arguments
    }

    fn occurrences(keeps_unmatched: bool) -> Occurrences<Written> {
        Occurrences::new(Written { keeps_unmatched, groups: vec![] }, 1..2 + CONDITIONS)
    }

    fn read(result: &ArrayRef) -> Vec<String> {
        result.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
    }

    fn row() -> impl Strategy<Value = Row> {
        let condition = || prop_oneof![3 => Just(Some(false)), 2 => Just(Some(true)), 1 => Just(None)];
        (
            0..GROUPS,
            prop::option::weighted(0.9, -3i64..3),
            [condition(), condition(), condition()],
            prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)],
        )
            .prop_map(|(group, time, conditions, passes)| Row { group, time, conditions, passes })
    }

    fn add(total: &mut Occurrences<Written>, rows: &[Row], way: Way) {
        // A slice, so that the bits of a batch begin anywhere in their bytes.
        let padded: Vec<Row> = rows.iter().take(1).chain(rows).cloned().collect();
        let values: Vec<ArrayRef> =
            arguments(&padded).iter().map(|array| array.slice(padded.len() - rows.len(), rows.len())).collect();
        let groups: Vec<usize> = rows.iter().map(|row| row.group).collect();
        let filter: BooleanArray = rows.iter().map(|row| row.passes).collect();
        let keeps_unmatched = total.function.keeps_unmatched;
        way.add(total, || occurrences(keeps_unmatched), &values, &groups, &filter, GROUPS);
    }

    proptest! {
        #[test]
        fn any_order_and_any_split_give_the_groups_of_a_naive_sort(
            rows in prop::collection::vec(row(), 0..150).prop_shuffle(),
            batches in prop::collection::vec((1usize..90, way(GROUPS)), 1..6),
            emitted in 0..=GROUPS,
            keeps_unmatched in any::<bool>(),
            is_sorted_by_group in any::<bool>(),
        ) {
            let mut rows = rows;
            if is_sorted_by_group {
                rows.sort_by_key(|row| row.group);
            }
            let mut total = occurrences(keeps_unmatched);
            total.rows.grow_groups(GROUPS);
            let mut rest = &rows[..];
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
            prop_assert_eq!(found, naive(&rows, keeps_unmatched));
        }

        #[test]
        fn groups_emitted_first_leave_the_others_as_they_were(
            before in prop::collection::vec(row(), 0..30),
            after in prop::collection::vec(row(), 0..30),
            emitted in 0..=GROUPS,
        ) {
            let mut total = occurrences(true);
            add(&mut total, &before, Way::Update);
            let mut found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(emitted)).unwrap());
            prop_assert_eq!(&found[..], &naive(&before, true)[..emitted]);

            let later: Vec<Row> = after.into_iter().filter(|row| row.group >= emitted).collect();
            let moved: Vec<Row> = later.iter().map(|row| Row { group: row.group - emitted, ..row.clone() }).collect();
            add(&mut total, &moved, Way::Update);
            found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(GROUPS - emitted)).unwrap());
            let all: Vec<Row> = before.into_iter().chain(later).collect();
            prop_assert_eq!(&found[..], &naive(&all, true)[emitted..]);
        }

        #[test]
        fn one_group_may_be_asked_again_and_again(rows in prop::collection::vec(row(), 0..30), first in 0usize..30) {
            let rows: Vec<Row> = rows.into_iter().map(|row| Row { group: 0, passes: Some(true), ..row }).collect();
            let (before, after) = rows.split_at(first.min(rows.len()));
            let mut single = SingleGroup::of(occurrences(false));
            let ask = |single: &mut SingleGroup<Occurrences<Written>>| Accumulator::evaluate(single).unwrap().to_string();
            prop_assert_eq!(ask(&mut single), "[]");
            single.update_batch(&arguments(before)).unwrap();
            prop_assert_eq!(ask(&mut single), naive(before, false)[0].clone());
            let mut part = SingleGroup::of(occurrences(false));
            part.update_batch(&arguments(after)).unwrap();
            let states: Vec<ArrayRef> =
                Accumulator::state(&mut part).unwrap().iter().map(|state| state.to_array().unwrap()).collect();
            Accumulator::merge_batch(&mut single, &states).unwrap();
            prop_assert_eq!(ask(&mut single), naive(&rows, false)[0].clone());
            prop_assert_eq!(ask(&mut part), "[]");
        }

        #[test]
        fn a_moving_frame_answers_for_the_rows_that_are_in_it(
            rows in prop::collection::vec(row(), 0..80),
            moves in prop::collection::vec((0usize..40, 0usize..40), 0..12),
        ) {
            let rows: Vec<Row> = rows.into_iter().map(|row| Row { group: 0, passes: Some(true), ..row }).collect();
            let (mut start, mut end) = (0, 0);
            let mut frame = MovingFrame::of(occurrences(false));
            for (in_, out) in moves {
                for _ in 0..in_.min(rows.len() - end) {
                    frame.update_batch(&arguments(&rows[end..=end])).unwrap();
                    end += 1;
                }
                let out = out.min(end - start);
                frame.retract_batch(&arguments(&rows[start..start + out])).unwrap();
                start += out;
                let found = Accumulator::evaluate(&mut frame).unwrap().to_string();
                prop_assert_eq!(found, naive(&rows[start..end], false)[0].clone());
            }
        }
    }

    #[test]
    fn the_size_grows_by_sixteen_bytes_a_row_and_falls_when_they_leave() {
        let row = Row { group: 0, time: Some(1), conditions: [Some(true), None, None], passes: Some(true) };
        let rows = vec![row; 10_000];
        let mut total = occurrences(false);
        let empty = GroupsAccumulator::size(&total);
        for batch in rows.chunks(1_000) {
            add(&mut total, batch, Way::Update);
        }
        let full = GroupsAccumulator::size(&total);
        assert!((16 * 10_000..2 * 16 * 10_000 + 10_000).contains(&full), "{full}");
        GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap();
        assert!(GroupsAccumulator::size(&total) <= empty + 4 * 1_000);
    }
}
