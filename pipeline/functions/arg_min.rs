//! `arg_min`: the text of a group's earliest row.
//!
//! Texts are kept once and by number, so that a group is a time and a number. DataFusion's `first_value(value order by ts)`
//! gives the same, but keeps a scalar per group where the texts come as a dictionary.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use hashbrown::HashMap;

use super::arguments::{coerce_text, expect_count};
use super::documentation::{Example, Manual, Section, Unlike};
use super::elements::Names;
use super::moments::{coerce_moment, to_moments};
use super::single_group::{FirstGroup, MovingFrame, SingleGroup};

const NAME: &str = "arg_min";
const TIES: &str = "the answer is one where several rows share the time, where it takes any of them";

// ---------------------------------------------------------------------------------------------------------------
// The earliest text of each group
// ---------------------------------------------------------------------------------------------------------------

/// The earliest texts of many groups.
#[derive(Debug, Default)]
struct Earliest {
    times: Vec<i64>,
    /// Where a group's text stands in `known`; [`NOTHING`] before its first row.
    texts: Vec<u32>,
    known: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    /// The bytes of the texts and of what stands before each.
    text_bytes: usize,
}

/// The text of a group without rows.
const NOTHING: u32 = u32::MAX;

/// Texts that are kept without asking whether a group still has them.
const FEW_TEXTS: usize = 1024;

/// What stands before each kept text: its two counts of owners.
const HEADER: usize = 2 * size_of::<usize>();

impl Earliest {
    /// Makes known how many groups there are; some may have no rows.
    fn grow(&mut self, groups: usize) {
        self.times.resize(groups, 0);
        self.texts.resize(groups, NOTHING);
    }

    /// Takes a row.
    #[inline]
    fn row(&mut self, group: usize, time: i64, text: &str) {
        let current = self.texts[group];
        if current != NOTHING {
            let is_earlier = match time.cmp(&self.times[group]) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => *text < *self.known[current as usize],
                std::cmp::Ordering::Greater => false,
            };
            if !is_earlier {
                return;
            }
        }
        self.times[group] = time;
        self.texts[group] = self.number(text);
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.add(text.into())
    }

    /// Keeps a text that is new.
    fn add(&mut self, text: Arc<str>) -> u32 {
        let number = self.known.len() as u32;
        self.text_bytes += HEADER + text.len();
        self.known.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        number
    }

    /// Takes the rows of a batch that have both a value and a time and pass the filter.
    fn rows(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        group_of: impl Fn(usize) -> usize,
    ) -> Result<()> {
        let mut names = Names::new();
        let numbers = names.numbers(NAME, &values[0])?;
        let moments = to_moments(NAME, &values[1])?;
        let texts = names.texts();
        for (row, number) in numbers.iter().enumerate() {
            let passes = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if passes
                && moments.is_valid(row)
                && let Some(text) = texts[*number as usize]
            {
                self.row(group_of(row), moments.value(row), text);
            }
        }
        self.forget_unused();
        Ok(())
    }

    /// Forgets the texts that no group has, once they are many: those of groups that have left, and those that came
    /// before an earlier one.
    fn forget_unused(&mut self) {
        if self.known.len() <= 2 * self.texts.len() + FEW_TEXTS {
            return;
        }
        let known = std::mem::take(&mut self.known);
        (self.numbers, self.text_bytes) = Default::default();
        let mut new_numbers = vec![NOTHING; known.len()];
        for group in 0..self.texts.len() {
            let old = self.texts[group];
            if old == NOTHING {
                continue;
            }
            if new_numbers[old as usize] == NOTHING {
                new_numbers[old as usize] = self.add(Arc::clone(&known[old as usize]));
            }
            self.texts[group] = new_numbers[old as usize];
        }
    }

    /// The texts of the first groups, which leave, and their times.
    fn take(&mut self, emit_to: EmitTo) -> (StringViewArray, Int64Array) {
        let texts = emit_to.take_needed(&mut self.texts);
        let times = emit_to.take_needed(&mut self.times);
        let is_known = |text: u32| text != NOTHING;
        let times = texts.iter().zip(times).map(|(text, time)| is_known(*text).then_some(time)).collect();
        let texts = texts.iter().map(|text| is_known(*text).then(|| &*self.known[*text as usize])).collect();
        if self.texts.is_empty() {
            (self.known, self.numbers, self.text_bytes) = Default::default();
        }
        self.forget_unused();
        (texts, times)
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.times.capacity() * size_of::<i64>()
            + self.texts.capacity() * size_of::<u32>()
            + self.known.capacity() * size_of::<Arc<str>>()
            + self.numbers.allocation_size()
            + self.text_bytes
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Accumulators
// ---------------------------------------------------------------------------------------------------------------

/// A state is a text and its time: as good as a row.
impl GroupsAccumulator for Earliest {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        self.rows(values, opt_filter, |row| group_indices[row])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(self.take(emit_to).0))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (texts, times) = self.take(emit_to);
        Ok(vec![Arc::new(texts), Arc::new(times)])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = Self::default();
        each.grow(values[0].len());
        each.rows(values, opt_filter, |row| row)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        Self::size(self)
    }
}

impl FirstGroup for Earliest {
    fn begin(&mut self) {
        self.grow(1);
    }

    fn peek(&mut self) -> Result<ArrayRef> {
        let text = self.texts[0];
        let text = (text != NOTHING).then(|| &*self.known[text as usize]);
        Ok(Arc::new(StringViewArray::from_iter([text])))
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The function
// ---------------------------------------------------------------------------------------------------------------

/// The function `arg_min`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ArgMin {
    signature: Signature,
}

impl Default for ArgMin {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for ArgMin {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(NAME, types, 2)?;
        Ok(vec![coerce_text(NAME, &types[0])?, coerce_moment(NAME, "ts", &types[1])?])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "value"), DataType::Utf8View, true)),
            Arc::new(Field::new(format_state_name(args.name, "time"), DataType::Int64, true)),
        ])
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::of(Earliest::default())))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Earliest::default()))
    }

    fn create_sliding_accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MovingFrame::of(Earliest::default())))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Journeys,
                syntax: &["arg_min(value, ts)"],
                summary: "Gives the text of a group's earliest row.",
                details: "With a `filter` it is the earliest row that meets a condition: the channel of the first \
                          step of a funnel.",
                arguments: &[("value", "Text."), ("ts", "Timestamp, date or integer.")],
                example: Example {
                    query: "
                        select customer, arg_min(channel, at) as entry_channel
                        from (values ('ann', 'store', 2), ('ann', 'web', 1), ('bob', 'chat', 3))
                            as events(customer, channel, at)
                        group by customer order by customer
                    ",
                    rows: &["customer | entry_channel", "ann | web", "bob | chat"],
                },
                returns: "`Utf8View`, the value of the row with the smallest `ts`; null for a group without such a row.",
                parts: &[],
                nulls: "rows whose value or `ts` is null are skipped.",
                order: "none: rows may come in any order.",
                ties: "of rows of one `ts`, the smallest value by its bytes.",
                memory: "12 bytes per group, and each distinct text of the groups in hand once, with some 70 bytes \
                         beside it; up to twice as many texts, and 1 024, are kept until the others are forgotten.",
                errors: "a value that is not text, a `ts` of another type, at planning.",
                source: "ClickHouse `argMin`, DuckDB `arg_min`.",
                differs: &[
                    Unlike {
                        whom: "ClickHouse's `argMin`",
                        by: &[TIES, "values are text, where it takes any type", "null, where it gives the empty text"],
                    },
                    Unlike { whom: "DuckDB's `arg_min`", by: &[TIES, "values are text, where it takes any type"] },
                ],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, StringArray};
    use datafusion::arrow::compute::cast;
    use datafusion::common::ScalarValue;
    use proptest::prelude::*;

    use super::*;
    use crate::functions::elements::testing::{error_of, rows_of};
    use crate::functions::ways::way;

    const GROUPS: usize = 3;
    const TEXTS: [&str; 3] = ["b", "a", "a store with a long name"];

    /// A row: its group, its text, its time, and whether the filter lets it pass.
    type Row = (usize, Option<usize>, Option<i64>, Option<bool>);

    fn naive(rows: &[Row]) -> Vec<Option<String>> {
        let earliest = |group| {
            let rows = rows.iter().filter(|row| row.0 == group && row.3 == Some(true));
            let rows = rows.filter_map(|row| Some((row.2?, TEXTS[row.1?])));
            rows.min().map(|(_, text)| text.to_owned())
        };
        (0..GROUPS).map(earliest).collect()
    }

    fn arguments(rows: &[Row], encoding: &DataType) -> Vec<ArrayRef> {
        let texts: StringArray = rows.iter().map(|row| row.1.map(|text| TEXTS[text])).collect();
        let times: Int64Array = rows.iter().map(|row| row.2).collect();
        vec![cast(&texts, encoding).unwrap(), Arc::new(times)]
    }

    fn texts(array: &ArrayRef) -> Vec<Option<String>> {
        array.as_string_view().iter().map(|text| text.map(str::to_owned)).collect()
    }

    proptest! {
        #[test]
        fn any_split_gives_what_a_naive_search_finds(
            rows in prop::collection::vec((0..GROUPS, prop::option::weighted(0.8, 0usize..3),
                prop::option::weighted(0.8, 0i64..4), prop::option::weighted(0.9, prop::bool::weighted(0.8))), 0..40),
            batches in prop::collection::vec((1usize..12, way(GROUPS)), 1..5),
            first in 0..=GROUPS,
            is_coded: bool,
        ) {
            let encoding = match is_coded {
                true => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
                false => DataType::Utf8View,
            };
            let mut whole = Earliest::default();
            let mut single = SingleGroup::of(Earliest::default());
            let (mut rest, mut ways) = (&rows[..], batches.iter().cycle());
            while let (Some((length, way)), false) = (ways.next(), rest.is_empty()) {
                let (batch, later) = rest.split_at(rest.len().min(*length));
                rest = later;
                let groups: Vec<usize> = batch.iter().map(|row| row.0).collect();
                let filter: BooleanArray = batch.iter().map(|row| row.3).collect();
                let arguments = arguments(batch, &encoding);
                way.add(&mut whole, Earliest::default, &arguments, &groups, &filter, GROUPS);
                let of_first: Vec<Row> = batch.iter().filter(|row| row.0 == 0 && row.3 == Some(true)).copied().collect();
                let mut part = SingleGroup::of(Earliest::default());
                part.update_batch(&self::arguments(&of_first, &encoding)).unwrap();
                let states: Vec<ArrayRef> =
                    part.state().unwrap().iter().map(|state| state.to_array().unwrap()).collect();
                single.merge_batch(&states).unwrap();
            }
            whole.grow(GROUPS);
            let expected = naive(&rows);
            prop_assert_eq!(single.evaluate().unwrap(), ScalarValue::Utf8View(expected[0].clone()));
            let mut found = texts(&GroupsAccumulator::evaluate(&mut whole, EmitTo::First(first)).unwrap());
            found.extend(texts(&GroupsAccumulator::evaluate(&mut whole, EmitTo::All).unwrap()));
            prop_assert_eq!(found, expected);
        }
    }

    /// Texts leave with their groups, where one group always stays, as in a sorted stream, and give way to earlier ones.
    #[test]
    fn texts_that_no_group_has_are_forgotten() {
        let text = |number: i64| format!("a text of some length, number {number:08}");
        let batch = |rows: std::ops::Range<i64>, time: fn(i64) -> i64| -> Vec<ArrayRef> {
            let texts: StringViewArray = rows.clone().map(|number| Some(text(number))).collect();
            vec![Arc::new(texts), Arc::new(rows.map(|number| Some(time(number))).collect::<Int64Array>())]
        };
        const MOST: usize = 500_000;
        let mut leaving = Earliest::default();
        for first in (0..50_000).step_by(100) {
            // Group 0 is the one that stayed.
            let stayed = usize::from(first > 0);
            let groups: Vec<usize> = (stayed..100 + stayed).collect();
            leaving.update_batch(&batch(first..first + 100, |number| number), &groups, None, 100 + stayed).unwrap();
            let left = texts(&GroupsAccumulator::evaluate(&mut leaving, EmitTo::First(99 + stayed)).unwrap());
            let expected = (first - stayed as i64..first + 99).map(|number| Some(text(number)));
            assert!(left.into_iter().eq(expected), "from {first}");
            assert!(GroupsAccumulator::size(&leaving) < MOST, "{}", GroupsAccumulator::size(&leaving));
        }
        assert_eq!(leaving.peek().unwrap().as_string_view().value(0), text(49_999));

        let mut replaced = Earliest::default();
        for first in (0..50_000).step_by(100) {
            replaced.update_batch(&batch(first..first + 100, |number| -number), &[0; 100], None, 1).unwrap();
            assert!(GroupsAccumulator::size(&replaced) < MOST, "{}", GroupsAccumulator::size(&replaced));
        }
        assert_eq!(texts(&GroupsAccumulator::evaluate(&mut replaced, EmitTo::All).unwrap()), [Some(text(49_999))]);
    }

    /// Told is what the vectors, the table and the allocations of the texts take.
    #[test]
    fn the_size_counts_what_stands_beside_the_texts() {
        let mut earliest = Earliest::default();
        earliest.grow(10_000);
        for group in 0..10_000 {
            earliest.row(group, 0, &format!("{group:08}"));
        }
        // 8 time and 4 text per group; 16 reference, 25 entry of the table, 16 header and 8 bytes per text.
        let size = earliest.size();
        assert!((77 * 10_000..150 * 10_000).contains(&size), "{size}");
    }

    #[tokio::test]
    async fn calls_in_groups_in_windows_and_of_nothing() {
        let from = "from (values (1, 'store', 2), (1, 'web', 1), (2, null, 1), (2, 'chat', null)) as events(customer, channel, at)";
        let sql = format!("select customer, arg_min(channel, at) {from} group by customer order by customer");
        assert_eq!(rows_of(&sql).await, ["1 | web", "2 | "]);
        let sql = format!("select arg_min(channel, at) filter (where at > 1) {from}");
        assert_eq!(rows_of(&sql).await, ["store"]);
        let sql = format!("select at, arg_min(channel, at) over (order by at desc) {from} where at > 0 order by at");
        assert_eq!(rows_of(&sql).await, ["1 | web", "1 | web", "2 | store"]);
        let sql = format!(
            "select at, arg_min(channel, at) over (order by at rows 0 preceding) {from} where at > 0 order by 1, 2"
        );
        assert_eq!(rows_of(&sql).await[2], "2 | store");
        assert_eq!(rows_of(&format!("select arg_min(distinct channel, at) {from}")).await, ["web"]);
        assert_eq!(rows_of(&format!("select arg_min(channel, at) {from} where false")).await, [""]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("'web'", "arg_min: expected 2 arguments, got 1"),
            ("1, 1", "arg_min: expected text, got Int64"),
            ("'web', 'now'", "arg_min: expected ts to be a timestamp, a date or a whole number"),
        ] {
            let error = error_of(&format!("select arg_min({arguments})")).await;
            assert!(error.contains(message), "{arguments}: {error}");
        }
    }
}
