//! `top_paths`: the paths that most journeys take.
//!
//! Paths are counted as small numbers ([`tally`]), and where others counted them by the many, only those are brought
//! together that may be shown ([`large`]); texts are made of those that are.

mod accumulate;
mod large;
mod tally;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};

use self::accumulate::{TopPathsAccumulator, result_fields, state_fields};
use super::arguments::{coerce_texts, empty_list, list_type};
use super::call::{Call, Parameterised};
use super::documentation::{Example, Manual, Section, Unlike, WINDOWS};
use super::elements::records_type;
use super::journey_paths::{GOALS, STARTS, coerce_goals_and_starts, constant_count};
use super::path::coerce_limit;
use super::single_group::{MovingFrame, SingleGroup};

const NAME: &str = "top_paths";

/// The constants of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameters {
    /// How many paths are shown.
    count: usize,
    /// How many touchpoints of a path count.
    limit: usize,
}

/// The function `top_paths`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TopPaths {
    signature: Signature,
}

impl Default for TopPaths {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Parameterised for TopPaths {
    type Parameters = Parameters;

    fn parameters(&self, call: &Call) -> Result<Option<Parameters>> {
        let count = constant_count(call, NAME, 0, "the count")?;
        let limit = constant_count(call, NAME, 2, "the limit")?;
        Ok(count.zip(limit).map(|(count, limit)| Parameters { count, limit }))
    }

    fn instead_of_distinct(&self) -> &'static str {
        "each journey counts; select distinct rows in a subquery"
    }
}

impl AggregateUDFImpl for TopPaths {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if !(3..=5).contains(&types.len()) {
            return plan_err!(
                "{NAME}: expected (count, touchpoints, limit[, goals[, starts]]), got {} arguments",
                types.len()
            );
        }
        let mut coerced =
            vec![coerce_limit(NAME, &types[0])?, coerce_texts(NAME, &types[1])?, coerce_limit(NAME, &types[2])?];
        coerced.extend(coerce_goals_and_starts(NAME, &types[3..])?);
        Ok(coerced)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(records_type(result_fields()))
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        empty_list(data_type)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name: &str, data_type: DataType| {
            Arc::new(Field::new(format_state_name(args.name, name), list_type(data_type), true))
        };
        Ok(vec![
            field("touchpoints", DataType::Utf8),
            field("places", DataType::UInt32),
            field("paths", DataType::Struct(state_fields())),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::of(TopPathsAccumulator::new(self.parameters_of(&args)?))))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(TopPathsAccumulator::new(self.parameters_of(&args)?)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MovingFrame::of(TopPathsAccumulator::new(self.parameters_of(&args)?))))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Paths,
                syntax: &["top_paths(count, touchpoints, limit[, goals[, starts]])"],
                summary: "Returns the paths that most journeys of a group take, equal neighbours made one, with how \
                          many take each and how many of these reach a goal.",
                details: "Unnest it to get a row per path. It counts what `path_text` groups by, without making a \
                          text of each journey; with `starts` it counts the sessions of whole journeys or customers \
                          without cutting them first.",
                arguments: &[
                    ("count", "Whole number from 1, a constant: how many paths to return at most."),
                    ("touchpoints", "List of text, in journey order."),
                    (
                        "limit",
                        "Whole number from 1, a constant: how many touchpoints of the collapsed path count; journeys \
                         that agree in these take one path.",
                    ),
                    GOALS,
                    STARTS,
                ],
                example: Example {
                    query: "
                        select unnest(top_paths(2, touchpoints, 2, is_converted)) as top
                        from (values
                          (['home', 'home', 'cart'], true), (['home', 'cart', 'home'], false), (['home'], false),
                          (['cart'], false), (['home'], false)
                        ) as journeys(touchpoints, is_converted)
                    ",
                    rows: &[
                        "top",
                        "{rank: 1, path: [home], journeys: 2, longer: 0, converted: 0}",
                        "{rank: 2, path: [home, cart], journeys: 2, longer: 1, converted: 1}",
                    ],
                },
                returns: "list of records `(rank, path, journeys, longer, converted)`, the most taken path first. \
                          `path` is a list of text, `longer` counts the journeys that go on behind the limit, \
                          `converted` those that reach a goal, wherever. A group without paths has no records.",
                parts: &[WINDOWS],
                nulls: "a null touchpoint is a touchpoint like others; a null goal or start counts as false; a row \
                        whose touchpoints or starts are null is skipped, and so is a journey without touches.",
                order: "none among rows, which may come from any partitions. Within a list the order is the point.",
                ties: "of paths taken as often, the one comes first whose first touchpoint that differs comes first \
                       by its bytes, null last; a path comes before one that begins with it.",
                memory: "per distinct path of up to 8 touchpoints some 60 bytes, and 4 per touchpoint of a longer \
                         one, whatever the number of rows; where parts are brought together, some 40 bytes per path of \
                         each of up to 16 parts beside it.",
                errors: "a count or limit that is no whole number from 1 or no constant, other types, a `distinct` \
                         call, at planning; lists of different lengths.",
                source: "our own; what tools call top paths.",
                differs: &[
                    Unlike {
                        whom: "`topK` of ClickHouse",
                        by: &["counts are exact, where its are estimates once values are many"],
                    },
                    Unlike {
                        whom: "PostHog's paths",
                        by: &["a journey is split where `starts` says, where it splits after 30 minutes"],
                    },
                ],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}
