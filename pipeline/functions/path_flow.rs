//! `path_flow`: how journeys flow from touchpoint to touchpoint, by position in the path.
//!
//! The same as a grouping of the edges that `path_edges` gives, counted as small numbers ([`tally`]); texts are made of
//! the touchpoints of the answer.

mod accumulate;
mod arrivals;
mod tally;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};

use self::accumulate::{PathFlowAccumulator, result_fields, state_fields};
use super::arguments::{coerce_texts, coerce_times, empty_list, list_type};
use super::call::{Call, Parameterised};
use super::documentation::{Example, Manual, Section, WINDOWS};
use super::elements::records_type;
use super::journey_paths::{GOALS, STARTS, coerce_goals_and_starts, constant_count};
use super::path::coerce_limit;
use super::single_group::{MovingFrame, SingleGroup};

const NAME: &str = "path_flow";

/// The function `path_flow`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PathFlow {
    signature: Signature,
}

impl Default for PathFlow {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Parameterised for PathFlow {
    /// How many touchpoints of a path are nodes.
    type Parameters = usize;

    fn parameters(&self, call: &Call) -> Result<Option<usize>> {
        constant_count(call, NAME, 2, "the limit")
    }

    fn instead_of_distinct(&self) -> &'static str {
        "each journey counts; select distinct rows in a subquery"
    }
}

impl AggregateUDFImpl for PathFlow {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if !(3..=5).contains(&types.len()) {
            return plan_err!(
                "{NAME}: expected (touchpoints, times, limit[, goals[, starts]]), got {} arguments",
                types.len()
            );
        }
        let mut coerced =
            vec![coerce_texts(NAME, &types[0])?, coerce_times(NAME, &types[1])?, coerce_limit(NAME, &types[2])?];
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
            field("edges", DataType::Struct(state_fields())),
            field("short_spans", DataType::UInt32),
            field("long_spans", DataType::Int64),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::of(PathFlowAccumulator::new(self.parameters_of(&args)?))))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(PathFlowAccumulator::new(self.parameters_of(&args)?)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MovingFrame::of(PathFlowAccumulator::new(self.parameters_of(&args)?))))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Paths,
                syntax: &["path_flow(touchpoints, times, limit[, goals[, starts]])"],
                summary: "Returns the edges of all paths of a group, from start to exit, equal neighbours made one: \
                          how many journeys take each, how many of these reach a goal, and the median time it takes.",
                details: "Unnest it to get the rows of a Sankey diagram. It is what grouping the edges of \
                          `path_edges` by position and both touchpoints gives, without a row per edge of each \
                          journey; with `starts` it counts the sessions of whole journeys or customers without \
                          cutting them first. As many edges lead into a node (position, touchpoint) as out of it.",
                arguments: &[
                    ("touchpoints", "List of text, in journey order."),
                    ("times", "List of timestamps of any unit, one per touchpoint."),
                    ("limit", "Whole number from 1, a constant: how many touchpoints of the collapsed path are nodes."),
                    GOALS,
                    STARTS,
                ],
                example: Example {
                    query: "
                        select unnest(path_flow(touchpoints, times, 2, is_converted)) as edge
                        from (values
                          (['home', 'cart'], [timestamp '2026-01-05T10:00:00', timestamp '2026-01-05T10:00:09'], true),
                          (['home', 'cart'], [timestamp '2026-01-05T12:00:00', timestamp '2026-01-05T12:00:04'], false)
                        ) as journeys(touchpoints, times, is_converted)
                    ",
                    rows: &[
                        "edge",
                        "{position: 0, from_touchpoint: (start), to_touchpoint: home, journeys: 2, converted: 1, \
                         median_seconds: }",
                        "{position: 1, from_touchpoint: home, to_touchpoint: cart, journeys: 2, converted: 1, \
                         median_seconds: 6.5}",
                        "{position: 2, from_touchpoint: cart, to_touchpoint: (exit), journeys: 2, converted: 1, \
                         median_seconds: }",
                    ],
                },
                returns: "list of records `(position, from_touchpoint, to_touchpoint, journeys, converted, \
                          median_seconds)`, by position and then by the bytes of both touchpoints, null last. An edge \
                          leads from the node at `position` to the one at `position + 1`: from `(start)` at position \
                          0, and to `(exit)` where a path ends or to `(rest)` where it goes on behind the limit. A \
                          group without paths has no records.",
                parts: &[
                    (
                        "Seconds",
                        "`Float64`, the exact median of the times from the first touch of one run of equal \
                         touchpoints to the first touch of the next, also into `(rest)`; of an even number the mean \
                         of the middle two. Null from `(start)`, into `(exit)`, and where no two times are known.",
                    ),
                    WINDOWS,
                ],
                nulls: "a null touchpoint is a touchpoint like others; a null goal or start counts as false; an edge \
                        with a null time counts, but not in the median; a row whose touchpoints, times or starts are \
                        null is skipped, and so is a journey without touches.",
                order: "none among rows, which may come from any partitions. Within a list the order is the point.",
                ties: "",
                memory: "8 bytes per edge of each journey that takes up to 71 minutes, 12 for the answer, 12 and 20 per \
                         longer one, and some 60 per distinct edge.",
                errors: "a limit that is no whole number from 1 or no constant, other types, a `distinct` call, at \
                         planning; lists of different lengths; more than 2 billion times in one state.",
                source: "our own.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}
