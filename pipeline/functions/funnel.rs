//! `journey_funnel`, `journey_funnel_positions` and `journey_funnel_attempts`: how far a journey gets in a funnel, with
//! which touches, and when it entered last.
//!
//! A touch becomes the set of the steps that it matches, worked out once per batch and pair of names ([`steps`]); one
//! pass over the touches of a journey keeps the newest chain of each level ([`chain`]).

mod chain;
mod steps;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, Int32Array, Int32Builder};
use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use hashbrown::HashMap;

use self::chain::Chains;
use self::steps::{Matcher, Steps};
use super::arguments::{
    Lists, Spans, coerce_span, coerce_texts, coerce_times, expect_count, item_field, list_type, to_times,
};
use super::documentation::{Example, Manual, Section, Unlike};
use super::elements::{Names, Rows, record_fields, records_type, time_at};

/// What the three functions have in common.
const FUNNEL: Manual = Manual {
    section: Section::Funnels,
    syntax: &[],
    summary: "",
    details: "",
    arguments: &[
        ("times", "List of timestamps of any unit, in journey order."),
        ("touchpoints", "List of text, one per time."),
        ("channels", "List of text, one per time."),
        ("steps", "List of 1 to 32 texts, a constant or a column: see Steps."),
        (
            "window",
            "Interval, duration or whole microseconds from the first touch of a chain to its last, its end included; \
             a constant or a column. Not of months, which have no fixed length.",
        ),
    ],
    example: Example { query: "", rows: &[] },
    returns: "",
    parts: &[
        (
            "Steps",
            "a step is `*` (any touch), `touchpoint`, `channel:touchpoint`, or such alternatives joined by `|`. A \
             touchpoint's name may hold a `:` itself: a step matches when it equals the touchpoint, or the channel, \
             `:` and the touchpoint put together. Blanks around an alternative do not count, case does.",
        ),
        (
            "Chain",
            "of the chains that reach the furthest step, the one that got there first; its touches are those by which \
             it did. A newer touch of step 1 opens a newer chain, and one touch serves one step of a chain only.",
        ),
    ],
    nulls: "a touch whose time is null does not count; one without a touchpoint matches `*` only, one without a \
            channel no `channel:touchpoint`; a null step is an error; null when an argument is null.",
    order: "that of the lists, which is to be the order of time; that is not checked.",
    ties: "touches of equal time are taken in journey order.",
    memory: "4 bytes per text element, 8 bytes per touch that serves a step of the journey in hand.",
    errors: "lists of different lengths, no step or more than 32, a null step or an empty alternative, a negative \
             window or one of months; other types, at planning.",
    source: "ClickHouse `windowFunnel`, default mode.",
    differs: &[Unlike {
        whom: "ClickHouse's `windowFunnel`",
        by: &[
            "touches of equal time are taken in journey order, where it sorts them by step number: C, B, A at one \
             instant reach 1, there 3",
            "a touch serves one step of a chain, where it takes a touch that matches several steps once for each: one \
             touch that is both A and B, then C, reach 1, there 3, and 1 with its `strict_once`",
        ],
    }],
};

// ---------------------------------------------------------------------------------------------------------------
// journey_funnel
// ---------------------------------------------------------------------------------------------------------------

/// The function `journey_funnel`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct JourneyFunnel {
    signature: Signature,
}

impl Default for JourneyFunnel {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JourneyFunnel {
    fn name(&self) -> &str {
        "journey_funnel"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(self.name(), types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut furthest = Int32Builder::with_capacity(args.number_rows);
        for_each_journey(self.name(), &args, |chains| {
            furthest.append_option(chains.map(|chains| chains.furthest() as i32));
            Ok(())
        })?;
        Ok(ColumnarValue::Array(Arc::new(furthest.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                syntax: &["journey_funnel(times, touchpoints, channels, steps, window)"],
                summary: "Returns the furthest step of a funnel that a journey reaches, in order, within a window \
                          counted from the touch that served step 1.",
                example: Example {
                    query: "
                        select journey_funnel(
                          times, touchpoints, channels, ['view', 'web:cart|store:buy'], interval '1 day') as furthest
                        from (values
                          ([timestamp '2026-01-05', timestamp '2026-01-06'], ['view', 'buy'], ['web', 'store']),
                          ([timestamp '2026-01-05', timestamp '2026-01-06'], ['view', 'buy'], ['web', 'app'])
                        ) as journeys(times, touchpoints, channels)
                    ",
                    rows: &["furthest", "2", "1"],
                },
                returns: "`Int32` from 0 (no touch matches step 1) to the number of steps.",
                ..FUNNEL
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// journey_funnel_positions
// ---------------------------------------------------------------------------------------------------------------

/// The function `journey_funnel_positions`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct JourneyFunnelPositions {
    signature: Signature,
}

impl Default for JourneyFunnelPositions {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JourneyFunnelPositions {
    fn name(&self) -> &str {
        "journey_funnel_positions"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(self.name(), types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(list_type(DataType::Int32))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut positions: Vec<i32> = vec![];
        let mut rows = Rows::with_capacity(args.number_rows);
        for_each_journey(self.name(), &args, |chains| {
            let Some(chains) = chains else {
                rows.null();
                return Ok(());
            };
            positions.extend(chains.witness().map(|touch| touch as i32 + 1));
            rows.end(self.name(), positions.len())
        })?;
        let positions = Arc::new(Int32Array::from(positions));
        Ok(ColumnarValue::Array(rows.finish(item_field(DataType::Int32), positions)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                syntax: &["journey_funnel_positions(times, touchpoints, channels, steps, window)"],
                summary: "Returns the positions of the touches by which a journey reaches its furthest step of a \
                          funnel, one per step.",
                example: Example {
                    query: "
                        select journey_funnel_positions(
                          [timestamp '2026-01-05', timestamp '2026-01-06', timestamp '2026-01-07'],
                          ['view', 'view', 'buy'], ['web', 'app', 'web'],
                          ['view', 'buy'], interval '7 days') as positions
                    ",
                    rows: &["positions", "[2, 3]"],
                },
                returns: "list of `Int32`, positions from 1, as many as the furthest step; empty when no touch \
                          matches step 1.",
                ..FUNNEL
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// journey_funnel_attempts
// ---------------------------------------------------------------------------------------------------------------

/// The fields of an attempt.
fn attempt_fields() -> Fields {
    record_fields([("step_positions", list_type(DataType::Int32)), ("last_entry", DataType::Int32)])
}

/// The function `journey_funnel_attempts`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct JourneyFunnelAttempts {
    signature: Signature,
}

impl Default for JourneyFunnelAttempts {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JourneyFunnelAttempts {
    fn name(&self) -> &str {
        "journey_funnel_attempts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(self.name(), types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(records_type(attempt_fields()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (mut positions, mut last_entries): (Vec<i32>, Vec<i32>) = (vec![], vec![]);
        let mut attempts = Rows::with_capacity(args.number_rows);
        let mut witnesses = Rows::with_capacity(args.number_rows);
        for_each_journey(self.name(), &args, |chains| {
            let Some(chains) = chains else {
                attempts.null();
                return Ok(());
            };
            if let Some(touch) = chains.last_entry() {
                positions.extend(chains.witness().map(|touch| touch as i32 + 1));
                witnesses.end(self.name(), positions.len())?;
                last_entries.push(touch as i32 + 1);
            }
            attempts.end(self.name(), last_entries.len())
        })?;
        let witnesses = witnesses.finish(item_field(DataType::Int32), Arc::new(Int32Array::from(positions)))?;
        let columns = vec![witnesses, Arc::new(Int32Array::from(last_entries)) as ArrayRef];
        Ok(ColumnarValue::Array(attempts.finish_records(attempt_fields(), columns)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                syntax: &["journey_funnel_attempts(times, touchpoints, channels, steps, window)"],
                summary: "Returns how a journey entered a funnel: the touches by which it reached its furthest step, \
                          and its last entry.",
                details: "While the window of its last entry is open a journey can still get further; after that it \
                          cannot.",
                example: Example {
                    query: "
                        select unnest(journey_funnel_attempts(
                          [timestamp '2026-01-05', timestamp '2026-01-06', timestamp '2026-01-07'],
                          ['view', 'cart', 'view'], ['web', 'web', 'app'],
                          ['view', 'cart', 'buy'], interval '7 days')) as attempt
                    ",
                    rows: &["attempt", "{step_positions: [1, 2], last_entry: 3}"],
                },
                returns: "list of one record `(step_positions, last_entry)` for a journey that enters, of none for \
                          one that does not: what `journey_funnel_positions` returns, and the position of the newest \
                          touch that serves step 1 (of a journey that reaches the last step: up to there).",
                ..FUNNEL
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// What they share
// ---------------------------------------------------------------------------------------------------------------

fn coerce(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    expect_count(function, types, 5)?;
    Ok(vec![
        coerce_times(function, &types[0])?,
        coerce_texts(function, &types[1])?,
        coerce_texts(function, &types[2])?,
        coerce_texts(function, &types[3])?,
        coerce_span(function, &types[4])?,
    ])
}

/// Takes each journey of a batch through its funnel and shows the outcome; `None` where an argument is null.
fn for_each_journey(
    function: &str,
    args: &ScalarFunctionArgs,
    mut show: impl FnMut(Option<&Chains>) -> Result<()>,
) -> Result<()> {
    let read = |argument| Lists::of_argument(function, argument, args.number_rows);
    let (times, touchpoints, channels) = (read(&args.args[0])?, read(&args.args[1])?, read(&args.args[2])?);
    times.expect_parallel(function, &touchpoints, ("times", "touchpoints"))?;
    times.expect_parallel(function, &channels, ("times", "channels"))?;
    let windows = Spans::of_argument(function, &args.args[4])?;

    let moments = to_times(function, &times.values)?;
    let (mut touchpoint_names, mut channel_names) = (Names::new(), Names::new());
    let touchpoint_numbers = touchpoint_names.numbers(function, &touchpoints.values)?;
    let channel_numbers = channel_names.numbers(function, &channels.values)?;
    let steps = StepLists::of_argument(function, &args.args[3])?;
    let mut step_names = Names::new();
    let step_numbers = step_names.numbers(function, &steps.lists.values)?;
    let mut funnels = Funnels {
        step_numbers: &step_numbers,
        steps: step_names.texts(),
        touchpoints: touchpoint_names.texts(),
        channels: channel_names.texts(),
        known: HashMap::new(),
        funnels: vec![],
    };

    let mut chains = Chains::new();
    for row in 0..args.number_rows {
        let (Some(at), Some(of_touchpoints), Some(of_channels), Some(of_steps), Some(window)) =
            (times.range(row), touchpoints.range(row), channels.range(row), steps.range(row), windows.get(row))
        else {
            show(None)?;
            continue;
        };
        let funnel = funnels.get(function, of_steps)?;
        chains.begin(funnel.step_count, window);
        let touches = touchpoint_numbers[of_touchpoints].iter().zip(&channel_numbers[of_channels]).zip(at);
        for (number, ((touchpoint, channel), at)) in touches.enumerate() {
            let steps = funnel.matcher.matched(*touchpoint, *channel);
            if steps == 0 {
                continue;
            }
            if let Some(time) = time_at(&moments, at)
                && chains.touch(number as u32, time, steps)
            {
                break;
            }
        }
        show(Some(&chains))?;
    }
    Ok(())
}

/// The steps of each row; a constant is read once.
struct StepLists {
    lists: Lists,
    is_constant: bool,
}

impl StepLists {
    fn of_argument(function: &str, argument: &ColumnarValue) -> Result<Self> {
        let (array, is_constant) = match argument {
            ColumnarValue::Array(array) => (Arc::clone(array), false),
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
        };
        Ok(Self { lists: Lists::of_array(function, &array)?, is_constant })
    }

    fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        self.lists.range(if self.is_constant { 0 } else { row })
    }
}

/// A funnel made ready for a batch.
struct Funnel {
    step_count: usize,
    matcher: Matcher,
}

/// The funnels of a batch, each made ready once.
struct Funnels<'a> {
    /// Every row's steps, by number.
    step_numbers: &'a [u32],
    steps: &'a [Option<&'a str>],
    touchpoints: &'a [Option<&'a str>],
    channels: &'a [Option<&'a str>],
    /// Where the funnel of a list of steps stands in `funnels`.
    known: HashMap<&'a [u32], usize>,
    funnels: Vec<Funnel>,
}

impl Funnels<'_> {
    /// The funnel whose steps lie at `range` of `step_numbers`.
    fn get(&mut self, function: &str, range: std::ops::Range<usize>) -> Result<&Funnel> {
        let steps = &self.step_numbers[range];
        let position = match self.known.get(steps) {
            Some(position) => *position,
            None => {
                let parsed = Steps::parse(steps.iter().map(|step| self.steps[*step as usize]))
                    .map_err(|what| exec_datafusion_err!("{function}: {what}"))?;
                let matcher = Matcher::new(&parsed, self.touchpoints, self.channels);
                self.funnels.push(Funnel { step_count: parsed.count(), matcher });
                self.known.insert(steps, self.funnels.len() - 1);
                self.funnels.len() - 1
            }
        };
        Ok(&self.funnels[position])
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::elements::testing::{SELECT_JOURNEYS, error_of, in_every_encoding, rows_of};

    /// Furthest step and witness of the journeys that a query returns.
    fn funnel_sql(journeys: &str, steps: &str, window: &str) -> String {
        let arguments = format!("times, touchpoints, channels, {steps}, {window}");
        format!(
            "select id, journey_funnel({arguments}), journey_funnel_positions({arguments}) from ({journeys}) order by id"
        )
    }

    #[tokio::test]
    async fn journeys_are_matched_in_every_encoding() {
        for journeys in in_every_encoding() {
            let sql = funnel_sql(&journeys, "['home', '*|never', 'web:home|app:home']", "interval '30 seconds'");
            // From the home of 10:00:05: the one of 10:00:00 is 30.5 seconds before the end.
            assert_eq!(rows_of(&sql).await, ["1 | 3 | [2, 3, 4]", "2 | 0 | []", "3 | 0 | []", "4 |  | "], "{journeys}");
        }
    }

    #[tokio::test]
    async fn a_step_of_a_channel_matches_on_that_channel_only() {
        let sql = funnel_sql(SELECT_JOURNEYS, "['web:home', 'store:product']", "interval '1 hour'");
        assert_eq!(rows_of(&sql).await, ["1 | 2 | [1, 3]", "2 | 0 | []", "3 | 0 | []", "4 |  | "]);
        let sql = funnel_sql(SELECT_JOURNEYS, "['web:home', 'web:product']", "interval '1 hour'");
        assert_eq!(rows_of(&sql).await[0], "1 | 1 | [1]");
    }

    #[tokio::test]
    async fn a_touch_without_time_does_not_count() {
        let sql = funnel_sql(SELECT_JOURNEYS, "['*', '*']", "interval '1 hour'");
        assert_eq!(rows_of(&sql).await[..2], ["1 | 2 | [1, 2]", "2 | 1 | [2]"]);
    }

    #[tokio::test]
    async fn the_window_counts_in_microseconds_and_includes_its_end() {
        let steps = "['store:home', 'web:home']";
        for (window, furthest) in [
            ("25500000", 2),
            ("25499999", 1),
            ("interval '25.5 seconds'", 2),
            ("interval '25 seconds'", 1),
            ("arrow_cast(26, 'Duration(s)')", 2),
            ("0", 1),
        ] {
            let sql = funnel_sql(SELECT_JOURNEYS, steps, window);
            assert!(rows_of(&sql).await[0].starts_with(&format!("1 | {furthest} |")), "{window}");
        }
    }

    #[tokio::test]
    async fn steps_and_window_may_differ_from_row_to_row() {
        let sql = format!(
            "with funnels(funnel, steps, attempt_window) as (values \
                 ('long', ['home', 'product', 'home'], interval '1 hour'), \
                 ('short', ['home', 'product'], interval '10 seconds'), \
                 ('again', ['home', 'product', 'home'], interval '20 seconds'), \
                 ('none', null, interval '1 hour')) \
             select funnel, journey_funnel(times, touchpoints, channels, steps, attempt_window), \
                    journey_funnel_positions(times, touchpoints, channels, arrow_cast(steps, 'List(Utf8View)'), attempt_window) \
             from funnels cross join ({SELECT_JOURNEYS}) where id = 1 order by funnel"
        );
        assert_eq!(
            rows_of(&sql).await,
            ["again | 2 | [2, 3]", "long | 3 | [2, 3, 4]", "none |  | ", "short | 1 | [1]"]
        );
    }

    #[tokio::test]
    async fn matched_touches_unnest_into_rows() {
        let sql = format!(
            "select step, times[position] as reached_at from ( \
                 select times, unnest(positions) as position, unnest(range(1, cast(cardinality(positions) as bigint) + 1)) as step \
                 from (select times, journey_funnel_positions(times, touchpoints, channels, ['product', 'home'], 60000000) \
                       as positions from ({SELECT_JOURNEYS}))) order by step, reached_at"
        );
        assert_eq!(
            rows_of(&sql).await,
            ["1 | 2026-01-01T10:00:20", "1 | 2026-01-01T11:00:00", "2 | 2026-01-01T10:00:30.500"]
        );
    }

    #[tokio::test]
    async fn a_journey_that_enters_has_one_attempt_with_its_last_entry() {
        for journeys in in_every_encoding() {
            let sql = format!(
                "select id, attempt['step_positions'], attempt['last_entry'] from ( \
                     select id, unnest(journey_funnel_attempts(times, touchpoints, channels, ['home', 'product'], 60000000)) \
                     as attempt from ({journeys})) order by id"
            );
            assert_eq!(rows_of(&sql).await, ["1 | [2, 3] | 2"], "{journeys}");
        }
        let sql = format!(
            "select journey_funnel_attempts(times, touchpoints, channels, ['web:home', 'store:cart'], 60000000) \
             from ({SELECT_JOURNEYS}) where id = 1"
        );
        assert_eq!(rows_of(&sql).await, ["[{step_positions: [1], last_entry: 4}]"]);
    }

    #[tokio::test]
    async fn null_arguments_give_null() {
        for arguments in [
            "null, ['a'], ['w'], ['a'], 1",
            "[now()], null, ['w'], ['a'], 1",
            "[now()], ['a'], null, ['a'], 1",
            "[now()], ['a'], ['w'], null, 1",
            "[now()], ['a'], ['w'], ['a'], null",
        ] {
            let sql = format!("select journey_funnel({arguments}), journey_funnel_positions({arguments})");
            assert_eq!(rows_of(&sql).await, [" | "], "{arguments}");
        }
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("[now()], ['a'], ['w'], ['a']", "expected 5 arguments, got 4"),
            ("['a'], ['a'], ['w'], ['a'], 1", "expected a list of timestamps"),
            ("[now()], [1], ['w'], ['a'], 1", "expected a list of text"),
            ("[now()], ['a'], ['w'], 'a', 1", "expected a list of text, got Utf8"),
            ("[now()], ['a'], ['w'], ['a'], 1.5", "expected an interval or whole microseconds"),
            ("[now()], ['a', 'b'], ['w'], ['a'], 1", "times has 1 elements where touchpoints has 2"),
            ("[now()], ['a'], ['w'], ['a'], -1", "must not be negative"),
            ("[now()], ['a'], ['w'], ['a'], interval '1 month'", "months has no fixed length"),
            ("[now()], ['a'], ['w'], [], 1", "expected at least one step"),
            ("[now()], ['a'], ['w'], ['a', null], 1", "step 2 is null"),
            ("[now()], ['a'], ['w'], ['a|'], 1", "step 1 ('a|') has an empty alternative"),
        ] {
            for function in ["journey_funnel", "journey_funnel_positions", "journey_funnel_attempts"] {
                let error = error_of(&format!("select {function}({arguments})")).await;
                assert!(error.contains(&format!("{function}: ")) && error.contains(message), "{arguments}: {error}");
            }
        }
    }
}
