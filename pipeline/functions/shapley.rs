//! `shapley`: the Shapley value of each channel, by the sets of channels that journeys touch.
//!
//! Usage: `shapley(game, path, conversions, nulls [, value])`
//! - `game`: text, what a coalition of channels is worth, looking only at the journeys whose channels all lie inside it
//!   (a journey without touches lies inside every coalition, also the empty one):
//!   - `'conversions'`: their conversions
//!   - `'rate'`: the share of them that converts; 0 without journeys
//! - `path`: list of text, the channels of a journey; order and repetition do not matter
//! - `conversions`, `nulls`: whole numbers or booleans, how many journeys took this path and converted, and did not
//! - `value`: decimal or whole number, the value of the conversions of this row
//!
//! Returns: list of `(channel, shapley_value, conversions, value)`, a record per channel, by name.
//!          In the game of conversions the Shapley value is exactly each journey's conversions divided by the number of
//!          its distinct channels; `nulls` play no part; `conversions` is the same number, and `value` is shared in
//!          the same way. They add up to the conversions and value of the journeys with a touch.
//!          In the game of rates a value is a difference of rates and may be negative: a channel may be found most
//!          where customers do not convert. Values add up to the rate of all journeys less that of those without a
//!          touch. `conversions` is the Shapley value times the number of journeys, `value` that times the mean value
//!          of a conversion; without journeys that have no touch they add up to all conversions and all value.
//! Nulls:   a row without path is skipped, a null count or value is 0; a null in a path is a channel of its own, whose
//!          record has a null `channel` and comes last. Without `value`, the values are null. A row whose counts are
//!          both 0 is skipped. A group without rows has no records.
//! Order:   none: rows may come in any order and from any partitions. The same rows give the same bits.
//! Memory:  per group and distinct set of channels some 60 bytes, and 4 for each of its channels; for the result of
//!          the game of rates, 40 bytes for each of 2^n coalitions of n channels.
//! Errors:  another game, a count or value of another type, a `distinct` call, at planning; a negative count, sums of
//!          more than 64 bits; more than 20 channels in the game of rates, which asks for every coalition.
//! Source:  Shapley 1953, "A value for n-person games"; the game of conversions decomposes into unanimity games.
//! Differs: from fractribution's "Shapley", which is none: it drops one place of a path, takes the difference to the
//!          rate of exactly the path that remains (0 if nobody took it), floors it at 0 and shares within the path.
//!          From Adobe's "algorithmic", which shares the surplus of coalitions recursively.

mod game;

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};

use self::game::MOST_CHANNELS;
use super::arguments::{empty_list, is_text};
use super::document;
use super::path_counts::{
    Credit, Entries, Keys, Model, SinglePathCounts, accumulator_of, check_parameter, coerce_arguments, result_type,
    state_fields,
};

/// What a coalition is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Game {
    Conversions,
    Rate,
}

impl Model for Game {
    const NAME: &'static str = "shapley";
    const MEASURE: &'static str = "shapley_value";

    fn parameter_type(data_type: &DataType) -> Result<DataType> {
        if is_text(data_type) {
            return Ok(DataType::Utf8);
        }
        plan_err!("{}: expected game to be 'conversions' or 'rate', got {data_type}", Self::NAME)
    }

    fn of_parameter(parameter: &ScalarValue) -> Result<Self> {
        match parameter.try_as_str().flatten() {
            Some("conversions") => Ok(Game::Conversions),
            Some("rate") => Ok(Game::Rate),
            _ => plan_err!("{}: expected game to be 'conversions' or 'rate', got {parameter}", Self::NAME),
        }
    }

    fn keys(&self) -> Keys {
        Keys::Sets
    }

    fn credits(&self, sets: &Entries) -> Result<Vec<Credit>> {
        let credits = match self {
            Game::Conversions => game::of_conversions(sets),
            Game::Rate if sets.channels() > MOST_CHANNELS => {
                return exec_err!(
                    "{}: the game of rates takes at most {MOST_CHANNELS} channels, got {}; \
                     make rare channels one, or use 'conversions'",
                    Self::NAME,
                    sets.channels()
                );
            }
            Game::Rate => game::of_rates(sets),
        };
        let credit = |credit: game::Credit| Credit {
            measure: Some(credit.shapley_value),
            conversions: Some(credit.conversions),
            value: Some(credit.value),
        };
        Ok(credits.into_iter().map(credit).collect())
    }
}

/// The function `shapley`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Shapley {
    signature: Signature,
}

impl Default for Shapley {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Shapley {
    fn name(&self) -> &str {
        Game::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_arguments::<Game>(types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(result_type::<Game>())
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        empty_list(data_type)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(state_fields(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SinglePathCounts::new(accumulator_of::<Game>(&args)?)))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(accumulator_of::<Game>(&args)?))
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        Some(check_parameter::<Game>())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            document(
                "Returns the Shapley value of each channel of a group of paths: a list of records (channel, \
                 shapley_value, conversions, value), by name. In the game 'conversions' a coalition of channels is \
                 worth the conversions of the journeys that touch no other channel: each journey's credit divided by \
                 the number of its distinct channels. In the game 'rate' it is worth the share of those journeys that \
                 converts: needs journeys that do not, takes at most 20 channels, and may be negative. Rows may come \
                 in any order. A row without path is skipped, a null count is 0. Neither is what fractribution calls \
                 Shapley.",
                "shapley(game, path, conversions, nulls [, value])",
                "select unnest(shapley('conversions', path, conversions, nulls)) as credit from (values \
                 (['web', 'store'], 3, 1), (['web'], 1, 5), (['email', 'web'], 0, 2)) \
                 as paths(path, conversions, nulls);",
                &[
                    ("game", "What a coalition is worth: 'conversions' or 'rate'."),
                    ("path", "A list of text: the channels of a journey; order and repetition do not matter."),
                    ("conversions", "How many journeys took this path and converted: a whole number or boolean."),
                    ("nulls", "How many took it and did not convert."),
                    ("value", "The value of the conversions of this row: decimal or whole number."),
                ],
            )
        });
        Some(&DOCUMENTATION)
    }
}
