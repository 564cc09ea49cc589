//! The accumulator.
//!
//! A state has three lists per group: the names of its channels, the words of its keys, and a record per key with the
//! number of its words and its counts. A word above 1 is the place of a channel among the names, from 2. Nothing in a
//! state depends on another group, so states merge anywhere in any order.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray,
    StringViewArray, StructArray, UInt32Array, UInt64Array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Fields, Int64Type, UInt32Type, UInt64Type};
use datafusion::common::{Result, exec_datafusion_err, exec_err};

use super::super::arguments::{Lists, TextColumn, element_type, item_field};
use super::super::counted_groups::{Counted, CountedGroups};
use super::super::elements::{Names, record_fields};
use super::super::symbols::{END, START, Symbols};
use super::cut::CutJourneys;
use super::entries::{Entries, Ranks};
use super::tally::{Counts, Tally};
use super::{Model, result_type};

/// The word of the first channel of a state.
const FIRST_CHANNEL: u32 = END + 1;

/// Names of channels that are kept without asking whether a group still has them.
const FEW_CHANNELS: usize = 256;

/// The type of the whole number of a value.
const VALUE_TYPE: DataType = DataType::Decimal128(38, 0);

/// The fields of an entry of a state.
pub(super) fn entry_fields() -> Fields {
    record_fields([
        ("words", DataType::UInt32),
        ("conversions", DataType::UInt64),
        ("nulls", DataType::UInt64),
        ("value", VALUE_TYPE),
    ])
}

/// The accumulator.
pub(in crate::functions) type PathCounts<M> = CountedGroups<Paths<M>>;

/// The counts of many groups.
#[derive(Debug)]
pub(in crate::functions) struct Paths<M> {
    model: M,
    /// The digits behind the point of values; `None` without values.
    scale: Option<i8>,
    symbols: Symbols,
    tally: Tally,
    /// The numbers of the channels of the path in hand, and what its model makes of them.
    path: Vec<u32>,
    scratch: Vec<u32>,
}

/// The counts of each row of a batch.
struct RowCounts<'a> {
    conversions: &'a Int64Array,
    nulls: &'a Int64Array,
    values: Option<&'a Decimal128Array>,
}

impl<'a> RowCounts<'a> {
    fn of_arguments(arguments: &'a [ArrayRef]) -> Self {
        Self {
            conversions: arguments[2].as_primitive::<Int64Type>(),
            nulls: arguments[3].as_primitive::<Int64Type>(),
            values: arguments.get(4).map(|values| values.as_primitive::<Decimal128Type>()),
        }
    }

    /// Null counts as 0.
    fn get(&self, function: &str, row: usize) -> Result<Counts> {
        let count = |what: &str, counts: &Int64Array| {
            let count = if counts.is_valid(row) { counts.value(row) } else { 0 };
            u64::try_from(count)
                .map_err(|_| exec_datafusion_err!("{function}: {what} must not be negative, got {count}"))
        };
        Ok(Counts {
            conversions: count("conversions", self.conversions)?,
            nulls: count("nulls", self.nulls)?,
            value: self.values.filter(|values| values.is_valid(row)).map_or(0, |values| values.value(row)),
        })
    }
}

impl<M: Model> PathCounts<M> {
    /// Without paths.
    pub(super) fn new(model: M, scale: Option<i8>) -> Self {
        Self::of(Paths::of(model, scale))
    }
}

impl<M: Model> Paths<M> {
    fn of(model: M, scale: Option<i8>) -> Self {
        Self {
            model,
            scale,
            symbols: Symbols::default(),
            tally: Tally::default(),
            path: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Bytes that the result of a group takes at most while it is made.
    fn bytes_of_result(&self) -> usize {
        let keys = self.tally.most_keys();
        let words = self.tally.word_count().min(keys * self.tally.longest_key());
        let channels = self.tally.most_channels(self.symbols.len() + 1);
        Entries::size(keys, words) + self.model.bytes_of_credits(keys, channels)
    }
}

impl<M: Model> Counted for Paths<M> {
    fn empty(&self) -> Self {
        Self::of(self.model.clone(), self.scale)
    }

    /// What the result of the largest group will take is told in time: once it is made, nobody is asked for memory.
    fn heap_size(&self) -> usize {
        let scratch = (self.path.capacity() + self.scratch.capacity()) * size_of::<u32>();
        self.symbols.size() + self.tally.size() + scratch + self.bytes_of_result()
    }

    fn count_rows(
        &mut self,
        arguments: &[ArrayRef],
        group_indices: impl Iterator<Item = usize>,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let paths = Lists::of_array(M::NAME, &arguments[1])?;
        let cut = match arguments[2].data_type() {
            DataType::List(_) => Some(CutJourneys::of_arguments(M::NAME, &paths, &arguments[2..])?),
            _ => None,
        };
        let mut names = Names::new();
        let numbers = names.numbers(M::NAME, &paths.values)?;
        let symbols: Vec<u32> = names.texts().iter().map(|text| self.symbols.number(*text)).collect();
        let keys = self.model.keys();
        let Self { tally, path: buffer, scratch, .. } = self;
        if let Some(cut) = cut {
            for (row, group) in group_indices.enumerate() {
                let passes = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
                let Some(touches) = paths.range(row).filter(|_| passes) else {
                    continue;
                };
                let touches = numbers[touches].iter().map(|number| symbols[*number as usize]);
                let count = |path: &[u32], counts| keys.count(tally, group as u32, path, counts, scratch);
                cut.of_row(row, touches, buffer, count).map_err(|overflow| overflow.of(M::NAME))?;
            }
            return Ok(());
        }
        let counts = RowCounts::of_arguments(arguments);
        for (row, group) in group_indices.enumerate() {
            let passes = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            let Some(path) = paths.range(row).filter(|_| passes) else {
                continue;
            };
            let counts = counts.get(M::NAME, row)?;
            if counts.journeys() == 0 {
                continue;
            }
            buffer.clear();
            buffer.extend(numbers[path].iter().map(|number| symbols[*number as usize]));
            let counted = keys.count(tally, group as u32, buffer, counts, scratch);
            counted.map_err(|overflow| overflow.of(M::NAME))?;
        }
        Ok(())
    }

    fn merge_states(&mut self, states: &[ArrayRef], group_indices: impl Iterator<Item = usize>) -> Result<()> {
        let channels = Lists::of_array(M::NAME, &states[0])?;
        let words = Lists::of_array(M::NAME, &states[1])?;
        let entries = Lists::of_array(M::NAME, &states[2])?;
        let texts = TextColumn::of_array(M::NAME, &channels.values)?;
        let word_values = words.values.as_primitive::<UInt32Type>().values();
        let columns = entries.values.as_struct().columns();
        let lengths = columns[0].as_primitive::<UInt32Type>().values();
        let conversions = columns[1].as_primitive::<UInt64Type>().values();
        let nulls = columns[2].as_primitive::<UInt64Type>().values();
        let values = columns[3].as_primitive::<Decimal128Type>().values();
        let keys = self.model.keys();
        let mut symbols = Vec::new();
        for (row, group) in group_indices.enumerate() {
            let (Some(channels), Some(words), Some(entries)) =
                (channels.range(row), words.range(row), entries.range(row))
            else {
                continue;
            };
            symbols.clear();
            symbols.extend([START, END]);
            symbols.extend(channels.map(|position| self.symbols.number(texts.get(position))));
            let mut words = word_values[words].iter();
            for entry in entries {
                self.path.clear();
                let key = words.by_ref().take(lengths[entry] as usize);
                self.path.extend(key.map(|word| symbols[*word as usize]));
                keys.normalise(&mut self.path);
                let counts = Counts { conversions: conversions[entry], nulls: nulls[entry], value: values[entry] };
                let added = self.tally.add(group as u32, &self.path, counts);
                added.map_err(|overflow| overflow.of(M::NAME))?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, groups: usize, left: usize) -> Result<()> {
        if left == 0 {
            self.tally = Tally::default();
            self.symbols = Symbols::default();
            (self.path, self.scratch) = (Vec::new(), Vec::new());
            return Ok(());
        }
        self.tally.forget(groups);
        // Names of channels leave with their groups, once most of them are of no group that stays.
        if self.symbols.len() > 2 * self.tally.word_count() + FEW_CHANNELS {
            self.symbols = self.tally.renumber(&self.symbols, |key| self.model.keys().normalise(key));
        }
        Ok(())
    }

    /// The state of the first `groups` groups.
    fn states(&self, groups: usize) -> Result<Vec<ArrayRef>> {
        let (entries, ends) = self.tally.by_group(groups);
        let mut channels: Vec<Option<&str>> = Vec::new();
        let mut words: Vec<u32> = Vec::new();
        let mut counts: Vec<Counts> = Vec::with_capacity(entries.len());
        let mut lengths: Vec<u32> = Vec::with_capacity(entries.len());
        let (mut channel_ends, mut word_ends) = (Vec::with_capacity(groups), Vec::with_capacity(groups));
        // The word of each number in the group in hand; `END`, which no channel has, where it has none yet.
        let mut word_of = vec![END; self.symbols.end() as usize];
        let mut used: Vec<u32> = Vec::new();
        for group in 0..groups {
            let first_channel = channels.len();
            for entry in &entries[ends[group]..ends[group + 1]] {
                let key = self.tally.key(*entry as usize);
                for number in key {
                    if *number == START || *number == END {
                        words.push(*number);
                        continue;
                    }
                    let word = &mut word_of[*number as usize];
                    if *word == END {
                        *word = FIRST_CHANNEL + (channels.len() - first_channel) as u32;
                        used.push(*number);
                        channels.push(self.symbols.text(*number));
                    }
                    words.push(*word);
                }
                lengths.push(key.len() as u32);
                counts.push(self.tally.counts(*entry as usize));
            }
            used.drain(..).for_each(|number| word_of[number as usize] = END);
            channel_ends.push(channels.len());
            word_ends.push(words.len());
        }
        let value = Decimal128Array::from_iter_values(counts.iter().map(|counts| counts.value));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(lengths)),
            Arc::new(UInt64Array::from_iter_values(counts.iter().map(|counts| counts.conversions))),
            Arc::new(UInt64Array::from_iter_values(counts.iter().map(|counts| counts.nulls))),
            Arc::new(value.with_data_type(VALUE_TYPE)),
        ];
        let records = StructArray::try_new(entry_fields(), columns, None)?;
        Ok(vec![
            list_of::<M>(Arc::new(StringArray::from(channels)), &channel_ends)?,
            list_of::<M>(Arc::new(UInt32Array::from(words)), &word_ends)?,
            list_of::<M>(Arc::new(records), &ends[1..])?,
        ])
    }

    /// The result of the first `groups` groups.
    fn results(&self, groups: usize) -> Result<ArrayRef> {
        let (listed, ends) = self.tally.by_group(groups);
        let mut names: Vec<Option<&str>> = Vec::new();
        let mut credits = Vec::new();
        let mut result_ends = Vec::with_capacity(groups);
        let mut ranks = Ranks::default();
        for group in 0..groups {
            let listed = &listed[ends[group]..ends[group + 1]];
            let (entries, channels) =
                Entries::of_group(self.model.keys(), &self.tally, &self.symbols, listed, &mut ranks);
            names.extend(channels.iter().map(|number| self.symbols.text(*number)));
            credits.extend(self.model.credits(&entries)?);
            result_ends.push(names.len());
        }
        let unit = 10f64.powi(i32::from(self.scale.unwrap_or(0)));
        let value = |value: Option<f64>| value.filter(|_| self.scale.is_some()).map(|value| value / unit);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringViewArray::from(names)),
            Arc::new(credits.iter().map(|credit| credit.measure).collect::<Float64Array>()),
            Arc::new(credits.iter().map(|credit| credit.conversions).collect::<Float64Array>()),
            Arc::new(credits.iter().map(|credit| value(credit.value)).collect::<Float64Array>()),
        ];
        let Some(DataType::Struct(fields)) = element_type(&result_type::<M>()).cloned() else {
            return exec_err!("{}: expected to return records", M::NAME);
        };
        list_of::<M>(Arc::new(StructArray::try_new(fields, columns, None)?), &result_ends)
    }
}

/// A list per group, from where each ends.
fn list_of<M: Model>(values: ArrayRef, ends: &[usize]) -> Result<ArrayRef> {
    if i32::try_from(values.len()).is_err() {
        return exec_err!("{}: a state has more than {} elements; use smaller groups", M::NAME, i32::MAX);
    }
    let mut start = 0;
    let lengths = ends.iter().map(|end| {
        let length = end - start;
        start = *end;
        length
    });
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(item_field(values.data_type().clone()), offsets, values, None)?))
}

#[cfg(test)]
mod tests;
