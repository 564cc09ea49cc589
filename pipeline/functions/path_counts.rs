//! Aggregates over whole paths: `markov_removal` and `shapley`.
//!
//! Both take `(parameter, path, conversions, nulls [, value])`, or the touches of customers with the goals and starts
//! that cut journeys out of them ([`cut`]), and return one record per channel of the group. What
//! they keep is a [`tally::Tally`] of whole numbers by [`Keys`]; only the result is computed from all of it, in the order of
//! the channels' names. So the answer is the same to the last bit for any order of rows and any split into partitions.

mod accumulate;
mod cut;
mod entries;
mod keys;
mod tally;

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;

pub(in crate::functions) use self::accumulate::PathCounts;
pub(in crate::functions) use self::entries::{Entries, RANK_OF_END};
pub(in crate::functions) use self::keys::Keys;
pub(in crate::functions) use self::tally::{Counts, Overflow};
use super::arguments::{coerce_booleans, coerce_texts, element_type, list_type};
use super::elements::{record_fields, records_type};

/// What a model says of a channel; its numbers are unknown where there is nothing to share by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::functions) struct Credit {
    /// The number after which the model is named.
    pub measure: Option<f64>,
    /// The conversions credited to the channel.
    pub conversions: Option<f64>,
    /// The value credited to it, in units of the smallest digit of the values.
    pub value: Option<f64>,
}

/// A model of attribution: how it is called, what it counts, and what it makes of the counts.
pub(in crate::functions) trait Model: Debug + Clone + Send + Sync + 'static {
    /// The name of the function.
    const NAME: &'static str;
    /// The name of the number that the model gives a channel.
    const MEASURE: &'static str;

    /// The type of the parameter.
    fn parameter_type(data_type: &DataType) -> Result<DataType>;

    /// The model of a parameter, or a planning error.
    fn of_parameter(parameter: &ScalarValue) -> Result<Self>;

    /// What it counts of a path.
    fn keys(&self) -> Keys;

    /// The credit of each channel, by rank from 1.
    fn credits(&self, entries: &Entries) -> Result<Vec<Credit>>;

    /// Bytes that these take at most while they are made, of so many keys and channels.
    fn bytes_of_credits(&self, keys: usize, channels: usize) -> usize;
}

/// What both functions take in place of paths and their counts, for manuals.
pub(in crate::functions) const CUT: [(&str, &str); 4] = [
    (
        "touches",
        "List of text, in order: the channels of a customer. Each run that `starts` cuts out is a journey; its path are \
         the touches that are no goals.",
    ),
    ("goals", "List of booleans, parallel to the touches: a journey with a goal is a conversion."),
    ("starts", "List of booleans, parallel to them, as `journey_starts` gives it."),
    ("values", "List of decimals or whole numbers, parallel to them: the value of each goal; may be left out."),
];

/// The types of the arguments as the accumulators take them: parameter, list of text, whole numbers, decimal.
pub(in crate::functions) fn coerce_arguments<M: Model>(types: &[DataType]) -> Result<Vec<DataType>> {
    let name = M::NAME;
    if !(4..=5).contains(&types.len()) {
        return plan_err!("{name}: expected 4 or 5 arguments, got {}", types.len());
    }
    if element_type(&types[2]).is_some() {
        return coerce_lists::<M>(types);
    }
    let mut coerced = vec![
        M::parameter_type(&types[0])?,
        coerce_texts(name, &types[1])?,
        coerce_count(name, "conversions", &types[2])?,
        coerce_count(name, "nulls", &types[3])?,
    ];
    if let Some(value) = types.get(4) {
        coerced.push(coerce_value(name, value)?);
    }
    Ok(coerced)
}

/// The same of a call over the touches of customers: parameter, then lists of text, booleans, booleans and decimals.
fn coerce_lists<M: Model>(types: &[DataType]) -> Result<Vec<DataType>> {
    let mut coerced = vec![
        M::parameter_type(&types[0])?,
        coerce_texts(M::NAME, &types[1])?,
        coerce_booleans(M::NAME, &types[2])?,
        coerce_booleans(M::NAME, &types[3])?,
    ];
    match types.get(4).map(|values| (values, element_type(values))) {
        None => {}
        Some((_, Some(value))) => coerced.push(list_type(coerce_value(M::NAME, value)?)),
        Some((values, None)) => return plan_err!("{}: expected a list of values, got {values}", M::NAME),
    }
    Ok(coerced)
}

fn coerce_count(function: &str, what: &str, data_type: &DataType) -> Result<DataType> {
    if data_type.is_integer() || data_type.is_null() || *data_type == DataType::Boolean {
        return Ok(DataType::Int64);
    }
    plan_err!("{function}: expected {what} to be whole numbers or booleans, got {data_type}; cast it to bigint")
}

/// Coerces the type of values whose sums do not depend on their order.
pub(in crate::functions) fn coerce_value(function: &str, data_type: &DataType) -> Result<DataType> {
    match data_type {
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
            Ok(DataType::Decimal128(38, *scale))
        }
        other if other.is_integer() || other.is_null() => Ok(DataType::Decimal128(38, 0)),
        other => plan_err!(
            "{function}: expected value to be decimal or whole numbers, got {other}; cast it to decimal(38, 6), \
             whose sums do not depend on the order of rows"
        ),
    }
}

/// The type of the result: a record per channel, by name.
pub(in crate::functions) fn result_type<M: Model>() -> DataType {
    records_type(record_fields([
        ("channel", DataType::Utf8View),
        (M::MEASURE, DataType::Float64),
        ("conversions", DataType::Float64),
        ("value", DataType::Float64),
    ]))
}

/// The fields of a state; see [`PathCounts`].
pub(in crate::functions) fn state_fields(args: &StateFieldsArgs) -> Vec<FieldRef> {
    let field = |name: &str, data_type: DataType| {
        Arc::new(Field::new(format_state_name(args.name, name), list_type(data_type), true))
    };
    vec![
        field("channels", DataType::Utf8),
        field("words", DataType::UInt32),
        field("entries", DataType::Struct(accumulate::entry_fields())),
    ]
}

/// An empty accumulator of a model for a call.
pub(in crate::functions) fn accumulator_of<M: Model>(model: M, args: &AccumulatorArgs) -> Result<PathCounts<M>> {
    let value = args.expr_fields.get(4).map(|field| field.data_type());
    let scale = match value.map(|value| element_type(value).unwrap_or(value)) {
        Some(DataType::Decimal128(_, scale)) => Some(*scale),
        Some(other) => return plan_err!("{}: expected value to be decimal, got {other}", M::NAME),
        None => None,
    };
    Ok(PathCounts::new(model, scale))
}

/// Paths for the tests of the models.
#[cfg(test)]
pub(in crate::functions) mod testing {
    use proptest::prelude::*;

    use super::super::symbols::Symbols;
    use super::entries::Ranks;
    use super::tally::Tally;
    use super::{Counts, Entries, Keys};

    /// How journeys went, and how many of them: channels, conversions, nulls, value.
    #[derive(Debug, Clone, PartialEq)]
    pub(in crate::functions) struct Path {
        pub channels: Vec<&'static str>,
        pub conversions: u64,
        pub nulls: u64,
        pub value: i128,
    }

    /// A path from text such as `"a > b"`.
    pub(in crate::functions) fn path(channels: &'static str, conversions: u64, nulls: u64) -> Path {
        let channels = channels.split('>').map(str::trim).filter(|channel| !channel.is_empty()).collect();
        Path { channels, conversions, nulls, value: i128::from(conversions) * 1000 }
    }

    /// Paths over few channels, with loops, equal paths and empty ones; each row counts something.
    pub(in crate::functions) fn paths(longest: usize) -> impl Strategy<Value = Vec<Path>> {
        let channel = prop::sample::select(vec!["web", "store", "e-mail", "call", "chat"]);
        let one = (prop::collection::vec(channel, 0..=longest), 0u64..4, 0u64..4, -3i128..50);
        let one = one.prop_map(|(channels, conversions, nulls, value)| {
            let nulls = if conversions == 0 { nulls + 1 } else { nulls };
            Path { channels, conversions, nulls, value }
        });
        prop::collection::vec(one, 1..25)
    }

    /// The entries of a group of paths, and the names of its channels by rank from 1.
    pub(in crate::functions) fn entries_of(keys: Keys, paths: &[Path]) -> (Entries, Vec<String>) {
        let (mut tally, mut symbols) = (Tally::default(), Symbols::default());
        for path in paths {
            let numbers: Vec<u32> = path.channels.iter().map(|channel| symbols.number(Some(channel))).collect();
            let counts = Counts { conversions: path.conversions, nulls: path.nulls, value: path.value };
            keys.count(&mut tally, 0, &numbers, counts, &mut Vec::new()).unwrap();
        }
        let (listed, _) = tally.by_group(1);
        let (entries, channels) = Entries::of_group(keys, &tally, &symbols, &listed, &mut Ranks::default());
        let names = channels.iter().map(|channel| symbols.text(*channel).unwrap().to_owned());
        (entries, names.collect())
    }
}
