//! `shapley`: the Shapley value of each channel, by the sets of channels that journeys touch.
//!
//! Sets are counted as whole numbers ([`path_counts`]) and shared out in the order of the channels' names ([`game`]),
//! so the same rows give the same bits, whatever their order and partitions.
//!
//! [`path_counts`]: super::path_counts

mod game;

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};

use self::game::MOST_CHANNELS;
use super::arguments::{empty_list, is_text};
use super::call::{Call, Parameterised};
use super::documentation::{Example, Manual, Section, Unlike, WINDOWS};
use super::path_counts::{
    CUT, Credit, Entries, Keys, Model, accumulator_of, coerce_arguments, result_type, state_fields,
};
use super::single_group::{MovingFrame, SingleGroup};

/// What a coalition is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Game {
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
        let credits = credits.map_err(|overflow| overflow.of(Self::NAME))?;
        let credit = |credit: game::Credit| Credit {
            measure: Some(credit.shapley_value),
            conversions: Some(credit.conversions),
            value: Some(credit.value),
        };
        Ok(credits.into_iter().map(credit).collect())
    }

    fn bytes_of_credits(&self, _keys: usize, channels: usize) -> usize {
        match self {
            // Two sums per channel and size of a set, few beside the counts.
            Game::Conversions => 0,
            Game::Rate => game::bytes_of_rates(channels),
        }
    }
}

/// The contract, which `shapley_attribution` shares.
pub(super) const MANUAL: Manual = Manual {
    section: Section::Attribution,
    syntax: &["shapley(game, path, conversions, nulls[, value])", "shapley(game, touches, goals, starts[, values])"],
    summary: "Returns the Shapley value of each channel of a group of paths, and what it is credited with.",
    details: "",
    arguments: &[
        ("game", "Text, a constant: what a coalition is worth, `'conversions'` or `'rate'`."),
        ("path", "List of text: the channels of a journey; order and repetition do not matter."),
        ("conversions", "Whole number or boolean: how many journeys took this path and converted."),
        ("nulls", "Whole number or boolean: how many took it and did not convert."),
        ("value", "Decimal or whole number: the value of the conversions of this row; may be left out."),
        CUT[0],
        CUT[1],
        CUT[2],
        CUT[3],
    ],
    example: Example {
        query: "
            select unnest(shapley('conversions', path, conversions, nulls)) as credit
            from (values (['web', 'store'], 3, 3), (['web'], 3, 3)) as paths(path, conversions, nulls)
        ",
        rows: &[
            "credit",
            "{channel: store, shapley_value: 1.5, conversions: 1.5, value: }",
            "{channel: web, shapley_value: 4.5, conversions: 4.5, value: }",
        ],
    },
    returns: "list of records `(channel, shapley_value, conversions, value)`, one per channel, by name. A group \
              without rows has no records.",
    parts: &[
        (
            "Games",
            "what a coalition of channels is worth, looking only at the journeys whose channels all lie inside it (a \
         journey without touches lies inside every coalition, also the empty one).\n\
         - `'conversions'`: their conversions. A channel's Shapley value is then exactly each journey's conversions \
         divided by the number of its distinct channels; `nulls` play no part. `conversions` is the same number, and \
         `value` is shared alike: they add up to the conversions and value of the journeys with a touch.\n\
         - `'rate'`: the share of them that converts; 0 without journeys. A Shapley value is then a difference of \
         rates and may be negative: a channel may be found most where customers do not convert. Values add up to the \
         rate of all journeys less that of those without a touch. `conversions` is the Shapley value times the number \
         of journeys, `value` that times the mean value of a conversion; without journeys that have no touch they add \
         up to all conversions and all value.",
        ),
        WINDOWS,
    ],
    nulls: "a row without path is skipped, a null count or value is 0, and a row whose counts are both 0 is skipped; \
            so is one whose touches, goals or starts are null, and a null goal or start counts as false; a null in a path is a channel of its own, whose record has a null `channel` and comes last. Without \
            `value` the values are null.",
    order: "none: rows may come in any order and from any partitions, and the same rows give the same bits.",
    ties: "",
    memory: "per group and distinct set of channels some 60 bytes, and 4 for each of its channels; for the result of \
             the game of rates, 40 bytes for each of 2^n coalitions of n channels.",
    errors: "another game, a count or value of another type, a `distinct` call, at planning; lists of different lengths; a negative count; sums \
             of more than 64 bits (of value: 38 digits); more than 20 channels in the game of rates, which asks for \
             every coalition.",
    source: "Shapley, A value for n-person games, 1953; the game of conversions decomposes into unanimity games.",
    differs: &[
        Unlike {
            whom: "fractribution's Shapley, which is none",
            by: &[
                "values are those of a game, where it drops one place of a path, takes the difference to the rate of \
                 exactly the path that remains (0 if nobody took it), floors it at 0 and shares within the path",
            ],
        },
        Unlike {
            whom: "Adobe's algorithmic attribution",
            by: &["each channel is averaged over all orders of joining, where it shares the surplus of coalitions \
                   recursively"],
        },
    ],
};

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

impl Parameterised for Shapley {
    type Parameters = Game;

    fn parameters(&self, call: &Call) -> Result<Option<Game>> {
        let parameter = call.constant(0, "the game")?;
        parameter.as_ref().map(Game::of_parameter).transpose()
    }

    fn instead_of_distinct(&self) -> &'static str {
        "each row counts; select distinct rows in a subquery"
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
        Ok(Box::new(SingleGroup::of(accumulator_of(self.parameters_of(&args)?, &args)?)))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(accumulator_of(self.parameters_of(&args)?, &args)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MovingFrame::of(accumulator_of(self.parameters_of(&args)?, &args)?)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| MANUAL.document());
        Some(&DOCUMENTATION)
    }
}
