//! The accumulator of `attribution_credits`.
//!
//! State of a group: its channels (`channels`), and a sum per model of each of them (`sums`), a 128-bit number as two
//! halves.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Fields, Int64Type, UInt64Type};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, resources_datafusion_err};

use super::super::arguments::{Lists, TextColumn, item_field, to_booleans};
use super::super::attribution::{Attribution, Touch};
use super::super::counted_groups::{Counted, CountedGroups};
use super::super::elements::{Names, Rows, record_fields};
use super::super::goal_touches::Cuts;
use super::super::moments::to_moments;
use super::super::symbols::{OwnNumbers, Symbols};
use super::sums::{Overflow, Sum, Sums};
use super::{NAME, NO_TOUCH, Parameters};

/// The fields of a sum in a state.
pub(super) fn state_fields() -> Fields {
    record_fields([
        ("conversions_high", DataType::Int64),
        ("conversions_low", DataType::UInt64),
        ("value_high", DataType::Int64),
        ("value_low", DataType::UInt64),
    ])
}

/// The fields of a credit in a result.
pub(super) fn result_fields() -> Fields {
    record_fields([
        ("model", DataType::Utf8View),
        ("channel", DataType::Utf8View),
        ("conversions", DataType::Float64),
        ("value", DataType::Float64),
    ])
}

impl From<Overflow> for DataFusionError {
    fn from(_: Overflow) -> Self {
        exec_datafusion_err!("{NAME}: values add up to more than 75 bits of their smallest digit hold")
    }
}

/// The accumulator.
pub(super) type CreditsAccumulator = CountedGroups<Credits>;

/// The credits of many groups.
#[derive(Debug)]
pub(super) struct Credits {
    parameters: Arc<Parameters>,
    symbols: Symbols,
    sums: Sums,
}

/// The values of a batch, as whole numbers of their smallest digit.
struct Values {
    lists: Lists,
    values: Decimal128Array,
}

impl Values {
    fn of_argument(touches: &Lists, argument: &ArrayRef) -> Result<Self> {
        let lists = Lists::of_array(NAME, argument)?;
        touches.expect_parallel(NAME, &lists, ("touches", "values"))?;
        Ok(Self { values: lists.values.as_primitive::<Decimal128Type>().clone(), lists })
    }

    /// Null is 0.
    fn get(&self, row: usize, element: usize) -> i128 {
        match self.lists.range(row).map(|range| range.start + element) {
            Some(position) if self.values.is_valid(position) => self.values.value(position),
            _ => 0,
        }
    }
}

impl CreditsAccumulator {
    /// Without conversions.
    pub(super) fn new(parameters: Arc<Parameters>) -> Self {
        Self::of(Credits::of(parameters))
    }
}

impl Credits {
    fn of(parameters: Arc<Parameters>) -> Self {
        let sums = Sums::of(parameters.models.len());
        Self { parameters, symbols: Symbols::default(), sums }
    }
}

impl Counted for Credits {
    fn empty(&self) -> Self {
        Self::of(Arc::clone(&self.parameters))
    }

    fn heap_size(&self) -> usize {
        self.symbols.size() + self.sums.size()
    }

    fn count_rows(
        &mut self,
        arguments: &[ArrayRef],
        group_indices: impl Iterator<Item = usize>,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let touches = Lists::of_array(NAME, &arguments[1])?;
        let time_lists = Lists::of_array(NAME, &arguments[2])?;
        let goals = Lists::of_array(NAME, &arguments[3])?;
        touches.expect_parallel(NAME, &time_lists, ("touches", "times"))?;
        touches.expect_parallel(NAME, &goals, ("touches", "goals"))?;
        let values = arguments.get(5).map(|values| Values::of_argument(&touches, values)).transpose()?;
        let moments = to_moments(NAME, &time_lists.values)?;
        let flags = to_booleans(NAME, &goals.values)?;
        let is_goal = |position: usize| flags.is_valid(position) && flags.value(position);

        let mut names = Names::new();
        let numbers = names.numbers(NAME, &touches.values)?;
        let symbols: Vec<u32> = names.texts().iter().map(|text| self.symbols.number(*text)).collect();
        let no_touch = self.symbols.number(Some(NO_TOUCH));
        let mut sharing = Sharing::new(&self.parameters);
        let mut cuts = Cuts::default();
        for (row, group) in group_indices.enumerate() {
            let passes = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            let (Some(touches), Some(times), Some(goals)) =
                (touches.range(row).filter(|_| passes), time_lists.range(row), goals.range(row))
            else {
                continue;
            };
            if flags.values().slice(goals.start, goals.len()).count_set_bits() == 0 {
                continue;
            }
            cuts.clear();
            let row_times = times.clone().map(|at| moments.is_valid(at).then(|| moments.value(at)));
            cuts.add_row(goals.start, row_times, is_goal, self.parameters.look_back).map_err(|_| {
                resources_datafusion_err!("{NAME}: a customer's goals have more than {} touches", i32::MAX)
            })?;
            let mut start = 0;
            for (goal, end) in cuts.goals.iter().zip(&cuts.touch_ends) {
                let value = values.as_ref().map_or(0, |values| values.get(row, *goal as usize - goals.start));
                let end = *end as usize;
                let elements = cuts.touches[start..end].iter().map(|position| *position as usize - goals.start);
                sharing.begin(elements.map(|element| {
                    let symbol = symbols[numbers[touches.start + element] as usize];
                    (self.sums.place(group as u32, symbol), symbol, moments.value(times.start + element))
                }));
                if start == end {
                    let place = self.sums.place(group as u32, no_touch);
                    sharing.give_all_to(place, value, &mut self.sums)?;
                } else {
                    sharing.share(value, &mut self.sums)?;
                }
                start = end;
            }
        }
        Ok(())
    }

    fn merge_states(&mut self, states: &[ArrayRef], group_indices: impl Iterator<Item = usize>) -> Result<()> {
        let channels = Lists::of_array(NAME, &states[0])?;
        let sums = Lists::of_array(NAME, &states[1])?;
        let texts = TextColumn::of_array(NAME, &channels.values)?;
        let columns = sums.values.as_struct().columns();
        let [conversions_high, value_high] =
            [0, 2].map(|column: usize| columns[column].as_primitive::<Int64Type>().values());
        let [conversions_low, value_low] =
            [1, 3].map(|column: usize| columns[column].as_primitive::<UInt64Type>().values());
        let whole = |high: i64, low: u64| i128::from(high) << 64 | i128::from(low);
        let models = self.parameters.models.len();
        for (row, group) in group_indices.enumerate() {
            let (Some(channels), Some(sums)) = (channels.range(row), sums.range(row)) else {
                continue;
            };
            for (channel, first) in channels.zip(sums.step_by(models)) {
                let symbol = self.symbols.number(texts.get(channel));
                let place = self.sums.place(group as u32, symbol);
                for model in 0..models {
                    let at = first + model;
                    let conversions = whole(conversions_high[at], conversions_low[at]);
                    let value = whole(value_high[at], value_low[at]);
                    self.sums.sum(place, model).merge(Sum { conversions, value })?;
                }
            }
        }
        Ok(())
    }

    /// Forgets the first `groups` groups, and channels that no other group has; the others move down by as many.
    fn forget(&mut self, groups: usize, _left: usize) -> Result<()> {
        let models = self.parameters.models.len();
        let sums = std::mem::replace(&mut self.sums, Sums::of(models));
        let symbols = std::mem::take(&mut self.symbols);
        for place in 0..sums.len() {
            let (group, channel) = sums.channel(place);
            let Some(group) = group.checked_sub(groups as u32) else {
                continue;
            };
            let kept = self.sums.place(group, self.symbols.number(symbols.text(channel)));
            for (model, sum) in sums.at(place).iter().enumerate() {
                self.sums.sum(kept, model).merge(*sum)?;
            }
        }
        Ok(())
    }

    /// The state of the first `groups` groups.
    fn states(&self, groups: usize) -> Result<Vec<ArrayRef>> {
        let (places, ends) = self.sums.by_group(groups);
        let mut own = OwnNumbers::of(&self.symbols);
        let mut texts: Vec<Option<&str>> = Vec::with_capacity(places.len());
        let mut sums: Vec<Sum> = Vec::with_capacity(places.len() * self.parameters.models.len());
        let (mut text_rows, mut sum_rows) = (Rows::with_capacity(groups), Rows::with_capacity(groups));
        let mut start = 0;
        for end in ends {
            for place in &places[start..end] {
                own.number(self.sums.channel(*place as usize).1);
                sums.extend_from_slice(self.sums.at(*place as usize));
            }
            texts.extend(own.end_group().map(|symbol| self.symbols.text(symbol)));
            text_rows.end(NAME, texts.len())?;
            sum_rows.end(NAME, sums.len())?;
            start = end;
        }
        let high = |whole: fn(&Sum) -> i128| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(sums.iter().map(|sum| (whole(sum) >> 64) as i64)))
        };
        let low = |whole: fn(&Sum) -> i128| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(sums.iter().map(|sum| whole(sum) as u64)))
        };
        let columns =
            vec![high(|sum| sum.conversions), low(|sum| sum.conversions), high(|sum| sum.value), low(|sum| sum.value)];
        Ok(vec![
            text_rows.finish(item_field(DataType::Utf8), Arc::new(StringArray::from(texts)))?,
            sum_rows.finish_records(state_fields(), columns)?,
        ])
    }

    /// The result of the first `groups` groups: by model, then by the text of the channel.
    fn results(&self, groups: usize) -> Result<ArrayRef> {
        let Parameters { models, scale, .. } = self.parameters.as_ref();
        let (mut places, ends) = self.sums.by_group(groups);
        let mut rank_of = vec![0; self.symbols.end() as usize];
        self.symbols.by_text().iter().zip(0u32..).for_each(|(symbol, rank)| rank_of[*symbol as usize] = rank);
        let mut names = Names::new();
        let model_names: Vec<u32> = models.iter().map(|model| names.number(&model.name)).collect();
        let unit = scale.map(|scale| 10f64.powi(i32::from(scale)));
        let (mut of_models, mut channels) = (Vec::new(), Vec::new());
        let (mut conversions, mut values) = (Vec::new(), Vec::new());
        let mut rows = Rows::with_capacity(groups);
        let mut start = 0;
        for end in ends {
            let places = &mut places[start..end];
            places.sort_unstable_by_key(|place| rank_of[self.sums.channel(*place as usize).1 as usize]);
            for (model, name) in model_names.iter().enumerate() {
                for place in places.iter() {
                    let (channel, sum) = (self.sums.channel(*place as usize).1, self.sums.at(*place as usize)[model]);
                    of_models.push(*name);
                    channels.push(self.symbols.text(channel).map_or(Names::NULL, |text| names.number(text)));
                    conversions.push(sum.conversions());
                    values.push(unit.map(|unit| sum.value() / unit));
                }
            }
            rows.end(NAME, conversions.len())?;
            start = end;
        }
        let columns: Vec<ArrayRef> = vec![
            names.array(of_models)?,
            names.array(channels)?,
            Arc::new(Float64Array::from(conversions)),
            Arc::new(Float64Array::from(values)),
        ];
        rows.finish_records(result_fields(), columns)
    }
}

/// Shares out conversions, one after another; its memory serves all.
struct Sharing<'a> {
    parameters: &'a Parameters,
    attribution: Attribution,
    /// Where the channel of each touch is summed up.
    places: Vec<u32>,
    weights: Vec<f64>,
}

impl<'a> Sharing<'a> {
    fn new(parameters: &'a Parameters) -> Self {
        Self { parameters, attribution: Attribution::default(), places: Vec::new(), weights: Vec::new() }
    }

    /// Begins the next conversion: place, name and time of each of its touches.
    fn begin(&mut self, touches: impl Iterator<Item = (u32, u32, i64)>) {
        self.places.clear();
        self.attribution.begin();
        for (position, (place, name, time)) in touches.enumerate() {
            self.places.push(place);
            self.attribution.touch(Touch { position, name, time });
        }
    }

    /// Shares it out by each model.
    fn share(&mut self, value: i128, sums: &mut Sums) -> Result<()> {
        for (number, model) in self.parameters.models.iter().enumerate() {
            self.weights.clear();
            self.weights.resize(self.places.len(), 0.0);
            self.attribution.share(model.model, self.parameters.half_life, &mut self.weights);
            for (place, weight) in self.places.iter().zip(&self.weights).filter(|(_, weight)| **weight > 0.0) {
                sums.sum(*place, number).add(*weight, value)?;
            }
        }
        Ok(())
    }

    /// Gives all of it to one place.
    fn give_all_to(&self, place: u32, value: i128, sums: &mut Sums) -> Result<()> {
        for number in 0..self.parameters.models.len() {
            sums.sum(place, number).add(1.0, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
