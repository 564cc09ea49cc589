//! `window_funnel` and `window_funnel_events`: the furthest step reached, in order, within a window; and when.
//!
//! Rows become (time, conditions), sorted, and one pass takes them through the chains of a group ([`chains`]) by the
//! rule of the call ([`rule`]): ClickHouse's modes but `strict_once` in [`levels`], that one in [`once`], where one
//! chain per level is kept and ClickHouse keeps all, and the presets in files of their own. Levels and times come from
//! the same pass, so they agree.

#[cfg(test)]
mod any_rows;
mod chains;
#[cfg(test)]
pub(super) mod golden;
mod levels;
mod mixpanel;
mod once;
#[cfg(test)]
pub(super) mod oracle;
mod posthog;
mod rule;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, Int32Array};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use self::chains::{Chains, Witness};
use self::once::Servers;
pub(super) use self::rule::Rule;
use super::arguments::{empty_list, is_text, list_type};
use super::call::{Call, Parameterised};
use super::documentation::{Example, Manual, NULL_ARGUMENTS, NULL_CONDITIONS, Section, TIMES, Unlike, WINDOWS};
use super::moments::{coerce_span_between, is_moment, returned_type};
use super::occurrences::{GroupFunction, Occurrence, Occurrences, TimeLists, coerce_rows, state_fields};
use super::single_group::{MovingFrame, SingleGroup};

// ---------------------------------------------------------------------------------------------------------------
// The algorithm
// ---------------------------------------------------------------------------------------------------------------

/// A funnel: how many steps, within which window, by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Funnel {
    pub rule: Rule,
    pub window: i64,
    pub step_count: usize,
}

/// Takes groups through a funnel, one after another.
#[derive(Debug)]
pub(super) struct Walk {
    pub funnel: Funnel,
    chains: Chains,
    servers: Servers,
}

impl Walk {
    /// Before the first group; the times of steps are kept if `keeps_times`.
    pub(super) fn new(funnel: Funnel, keeps_times: bool) -> Self {
        let witness = match funnel.rule {
            _ if !keeps_times => Witness::None,
            Rule::PostHog { .. } => Witness::First,
            _ => Witness::Last,
        };
        Self { funnel, chains: Chains::new(witness), servers: Servers::default() }
    }

    /// Takes a group, sorted by (time, conditions).
    pub(super) fn group(&mut self, rows: &[Occurrence]) {
        let Self { funnel, chains, servers } = self;
        let Funnel { rule, window, step_count } = *funnel;
        match rule {
            Rule::ClickHouse(modes) if modes.once => once::pass(chains, servers, modes, step_count, window, rows),
            Rule::ClickHouse(modes) => {
                let rows = rows.iter().map(|row| (row.time, row.conditions));
                levels::pass(chains, modes, step_count, window, rows);
            }
            Rule::PostHog { is_strict } => posthog::pass(chains, is_strict, step_count, window, rows),
            Rule::Mixpanel => mixpanel::pass(chains, step_count, window, rows),
        }
    }

    /// Takes a group as (time, conditions), by ascending time; of those of one time in any order. False, and nothing was taken, if
    /// the rule has to see them by their conditions.
    #[inline]
    pub(super) fn in_order(&mut self, rows: impl Iterator<Item = (i64, u32)>) -> bool {
        let Funnel { rule, window, step_count } = self.funnel;
        match rule {
            Rule::ClickHouse(modes) if !modes.once => levels::pass(&mut self.chains, modes, step_count, window, rows),
            _ => return false,
        }
        true
    }

    /// The furthest step that the group reached, from 1; 0 for none.
    pub(super) fn level(&self) -> usize {
        self.chains.furthest()
    }

    /// The times of the steps of its chain, one per level.
    pub(super) fn times(&self) -> &[i64] {
        self.chains.witness()
    }

    /// Bytes on the heap.
    fn size(&self) -> usize {
        self.chains.size() + self.servers.size()
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The results
// ---------------------------------------------------------------------------------------------------------------

/// The furthest step of each group.
#[derive(Debug)]
struct Levels {
    walk: Walk,
    levels: Vec<i32>,
}

impl GroupFunction for Levels {
    fn name(&self) -> &'static str {
        Returns::Level.name()
    }

    fn keeps_unmatched(&self) -> bool {
        self.walk.funnel.rule.keeps_unmatched()
    }

    fn group(&mut self, occurrences: &[Occurrence]) -> Result<()> {
        self.walk.group(occurrences);
        self.levels.push(self.walk.level() as i32);
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(Int32Array::from(std::mem::take(&mut self.levels))))
    }

    fn size(&self) -> usize {
        self.walk.size() + self.levels.capacity() * size_of::<i32>()
    }
}

/// The times of the steps of each group.
#[derive(Debug)]
struct Events {
    walk: Walk,
    times: TimeLists,
}

impl GroupFunction for Events {
    fn name(&self) -> &'static str {
        Returns::Events.name()
    }

    fn keeps_unmatched(&self) -> bool {
        self.walk.funnel.rule.keeps_unmatched()
    }

    fn group(&mut self, occurrences: &[Occurrence]) -> Result<()> {
        self.walk.group(occurrences);
        self.times.push(Returns::Events.name(), self.walk.times())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        self.times.finish()
    }

    fn size(&self) -> usize {
        self.walk.size() + self.times.size()
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The SQL functions
// ---------------------------------------------------------------------------------------------------------------

/// What a function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Returns {
    Level,
    Events,
}

impl Returns {
    fn name(self) -> &'static str {
        match self {
            Self::Level => "window_funnel",
            Self::Events => "window_funnel_events",
        }
    }
}

/// The function `window_funnel` or `window_funnel_events`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct WindowFunnel {
    returns: Returns,
    signature: Signature,
}

impl WindowFunnel {
    /// The function `window_funnel`.
    pub fn level() -> Self {
        Self::returning(Returns::Level)
    }

    /// The function `window_funnel_events`.
    pub fn events() -> Self {
        Self::returning(Returns::Events)
    }

    fn returning(returns: Returns) -> Self {
        Self { returns, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Where the time stands among the arguments: after the window and the modes, which are text as no time is.
fn time_position(types: &[DataType]) -> usize {
    1 + types.iter().skip(1).take_while(|data_type| is_text(data_type)).count()
}

impl Parameterised for WindowFunnel {
    type Parameters = Funnel;

    fn parameters(&self, call: &Call) -> Result<Option<Funnel>> {
        let types = call.types();
        let time = time_position(types);
        let window = call.span(0, "the window", &types[time])?;
        let modes = (1..time).map(|position| call.text(position, "the mode")).collect::<Result<Option<Vec<_>>>>()?;
        let (Some(window), Some(modes)) = (window, modes) else {
            return Ok(None);
        };
        let rule = Rule::parse(&modes.join(" ")).map_err(|what| plan_datafusion_err!("{}: {what}", self.name()))?;
        Ok(Some(Funnel { rule, window, step_count: types.len() - time - 1 }))
    }
}

/// An accumulator of a call, not yet boxed as one of a group or of many.
enum Called {
    Level(Occurrences<Levels>),
    Events(Occurrences<Events>),
}

impl WindowFunnel {
    fn called(&self, args: &AccumulatorArgs) -> Result<Called> {
        let funnel = self.parameters_of(args)?;
        let types: Vec<DataType> = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        let time = time_position(&types);
        let arguments = time..types.len();
        Ok(match self.returns {
            Returns::Level => {
                let levels = Levels { walk: Walk::new(funnel, false), levels: vec![] };
                Called::Level(Occurrences::new(levels, arguments))
            }
            Returns::Events => {
                let events = Events { walk: Walk::new(funnel, true), times: TimeLists::new(types[time].clone()) };
                Called::Events(Occurrences::new(events, arguments))
            }
        })
    }
}

impl AggregateUDFImpl for WindowFunnel {
    fn name(&self) -> &str {
        self.returns.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let time = time_position(types);
        if types.len() <= time {
            return plan_err!(
                "{}: expected a window, modes if any, a time and 1 to 32 conditions, got {} arguments",
                self.name(),
                types.len()
            );
        }
        if time > 1 && !is_moment(&types[time]) {
            return plan_err!(
                "{}: expected the time after the modes to be a timestamp, a date or a whole number, got {}; text before it \
                 is a mode: if argument {time} is the time, cast it to a timestamp",
                self.name(),
                types[time]
            );
        }
        let rows = coerce_rows(self.name(), &types[time..])?;
        let window = coerce_span_between(self.name(), "the window", &rows[0], &types[0])?;
        Ok([&[window], &types[1..time], &rows].concat())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match self.returns {
            Returns::Level => DataType::Int32,
            Returns::Events => list_type(returned_type(&types[time_position(types)])),
        })
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match self.returns {
            Returns::Level => Ok(ScalarValue::from(0i32)),
            Returns::Events => empty_list(data_type),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(state_fields(args.name))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(match self.called(&args)? {
            Called::Level(occurrences) => Box::new(SingleGroup::of(occurrences)),
            Called::Events(occurrences) => Box::new(SingleGroup::of(occurrences)),
        })
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(match self.called(&args)? {
            Called::Level(occurrences) => Box::new(occurrences),
            Called::Events(occurrences) => Box::new(occurrences),
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(match self.called(&args)? {
            Called::Level(occurrences) => Box::new(MovingFrame::of(occurrences)),
            Called::Events(occurrences) => Box::new(MovingFrame::of(occurrences)),
        })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static LEVEL: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                syntax: &["window_funnel(window, [mode, …] ts, cond1, …, condN)"],
                summary: "Returns the furthest step that a group reaches, in order, within a window counted from step \
                          1.",
                details: "It says how far a group got: those who reached a step are all whose level is at least as \
                          high.",
                example: Example {
                    query: "
                        select customer,
                          window_funnel(interval '1 day', at, touch = 'view', touch = 'cart', touch = 'buy') as in_a_day,
                          window_funnel(interval '7 days', at, touch = 'view', touch = 'cart', touch = 'buy') as in_a_week
                        from (values
                          ('ann', timestamp '2026-01-05T10:00:00', 'view'),
                          ('ann', timestamp '2026-01-05T10:20:00', 'cart'),
                          ('ann', timestamp '2026-01-07T09:00:00', 'buy'),
                          ('bob', timestamp '2026-01-05T11:00:00', 'cart'),
                          ('bob', timestamp '2026-01-05T12:00:00', 'view')
                        ) as events(customer, at, touch)
                        group by customer order by customer
                    ",
                    rows: &["customer | in_a_day | in_a_week", "ann | 2 | 3", "bob | 1 | 1"],
                },
                returns: "`Int32` from 0 (no row meets step 1, or there are no rows) to the number of conditions.",
                ..FUNNEL
            }
            .document()
        });
        static EVENTS: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                syntax: &["window_funnel_events(window, [mode, …] ts, cond1, …, condN)"],
                summary: "Returns the times at which a group met the steps that `window_funnel` counts, one per step \
                          reached.",
                details: "Of the chains that reach the furthest level it is the one with the latest entry, of those \
                          the one that ends last, as in DuckDB's `behavioral`, and of those the one whose other \
                          steps, from the last back, were met latest. Where the last step is reached, only those that \
                          reach it first count, since the pass ends there: of A1 B2 A3 B4, steps A and B have 1 and \
                          2, steps A, B and C have 3 and 4. With the presets of PostHog it is the chain that got \
                          there first, as in PostHog.",
                example: Example {
                    query: "
                        select customer,
                          window_funnel_events(interval '1 day', at,
                            touch = 'view', touch = 'cart', touch = 'buy') as reached_at
                        from (values
                          ('ann', timestamp '2026-01-05T10:00:00', 'view'),
                          ('ann', timestamp '2026-01-05T10:20:00', 'cart'),
                          ('ann', timestamp '2026-01-07T09:00:00', 'buy'),
                          ('bob', timestamp '2026-01-05T11:00:00', 'cart'),
                          ('bob', timestamp '2026-01-05T12:00:00', 'view')
                        ) as events(customer, at, touch)
                        group by customer order by customer
                    ",
                    rows: &[
                        "customer | reached_at",
                        "ann | [2026-01-05T10:00:00Z, 2026-01-05T10:20:00Z]",
                        "bob | [2026-01-05T12:00:00Z]",
                    ],
                },
                returns: "list of times, as many as the level: timestamps in microseconds, UTC; dates and integers as \
                          they are; empty where no row meets step 1.",
                differs: &[UNLIKE_BEHAVIORAL, UNLIKE_POSTHOG, UNLIKE_MIXPANEL],
                ..FUNNEL
            }
            .document()
        });
        Some(match self.returns {
            Returns::Level => &LEVEL,
            Returns::Events => &EVENTS,
        })
    }
}

const UNLIKE_BEHAVIORAL: Unlike = Unlike {
    whom: "DuckDB's `behavioral`",
    by: &["`allow_reentry` passes over a step before its turn, where it starts again at step 1"],
};
const UNLIKE_POSTHOG: Unlike = Unlike {
    whom: "PostHog",
    by: &[
        "there are no exclusions, no optional steps and no steps in any order",
        "rows of one time that meet the same step go by their conditions, where it goes by their order",
    ],
};
const UNLIKE_MIXPANEL: Unlike = Unlike {
    whom: "Mixpanel",
    by: &["there are no exclusions, no totals, no property held constant and no two-second grace"],
};

/// What the two functions have in common.
const FUNNEL: Manual = Manual {
    section: Section::Funnels,
    syntax: &[],
    summary: "",
    details: "",
    arguments: &[
        (
            "window",
            "Constant, from step 1 of a chain to its last, its end included. For timestamps and dates an interval, a \
             duration, text such as `'7 days'`, or a whole number as in ClickHouse: of seconds with timestamps, of \
             days with dates; for integers a number in their unit. Not of months, which have no fixed length.",
        ),
        (
            "mode",
            "Constant texts, perhaps none, each of one or more words joined by commas, bars or spaces: see Modes and \
             Presets.",
        ),
        ("ts", "Timestamp of any unit and zone, compared in whole microseconds; date or integer."),
        ("cond1, …, condN", "1 to 32 booleans, one per step."),
    ],
    example: Example { query: "", rows: &[] },
    returns: "",
    parts: &[
        (
            "Modes",
            "none is ClickHouse's default: a row may serve several steps; at each level the newest chain stands, and \
             it is the one that the next step extends, if within the window of the chain's step 1. The modes combine:\n\
             - `strict_deduplication`: a step from the second on that is met again, once reached, ends the pass;\n\
             - `strict_order`: after the first step 1, a row that meets no condition ends the pass, and so does a \
             step whose predecessor was not reached; repeats of steps reached are allowed; it does not start again;\n\
             - `allow_reentry`, with `strict_order` only: a step whose predecessor was not reached is passed over \
             instead;\n\
             - `strict_increase`: each step is later than the one before; as in ClickHouse (its issue 93789), a newer \
             step 1 replaces the chain even if only the older could go on: A at 1, A and B at 2 reach 1;\n\
             - `strict_once`: a row serves one step of a chain only.",
        ),
        (
            "Presets",
            "stand alone:\n\
             - `posthog_ordered`: PostHog's sequential order: the newest entry wins, a row serves one step of a \
             chain;\n\
             - `posthog_strict`: its strict order: a row ends the chains whose last step it does not match, and a \
             later step 1 starts again; among different rows of one instant nothing interrupts;\n\
             - `mixpanel`: one attempt, that of the first entry; each step is the first later match; no two-second \
             grace.",
        ),
        ("Time", "one pass over sorted rows in every mode."),
        WINDOWS,
    ],
    nulls: "rows with a null `ts` are skipped; a null condition counts as false, and its row still counts for its \
            other conditions.",
    order: "rows may come in any order and from any partitions; they are taken in the order of time.",
    ties: "rows of one time are taken step by step: whichever meets step 1 first, then step 2, and so on; a row that \
           meets no condition comes before them. Rows of one time that meet the same step are tried in the order of \
           their sets of conditions, read as binary numbers with `cond1` lowest: this can matter to `strict_once` \
           with `strict_deduplication` and to the presets of PostHog, where ClickHouse and PostHog go by the order of \
           rows. With `mixpanel`, rows of one time do not follow each other.",
    memory: "16 bytes per row that meets a condition (per row with `strict_order` and `posthog_strict`), until the \
             group is done. A partial state holds 12 bytes per row, a copy.",
    errors: "an unknown mode, or modes that do not go together; a wrong window, time or condition; a `distinct` call: \
             all at planning; a time beyond the range of microseconds.",
    source: "ClickHouse `windowFunnel` (src/AggregateFunctions/AggregateFunctionWindowFunnel.cpp, 2026), whose modes \
             give the same levels, ties included, where nothing is null; PostHog `funnel-udf/src/steps.rs`; Mixpanel, \
             Funnels: advanced.",
    differs: &[
        Unlike {
            whom: "ClickHouse's `windowFunnel`",
            by: &[
                NULL_CONDITIONS,
                NULL_ARGUMENTS,
                TIMES,
                "a group whose rows all lack a time has the answer 0, where its is null",
                "intervals as window, several modes in one text and the presets are ours",
                "rows of one time that meet the same step go by their conditions, where with `strict_once` and \
                 `strict_deduplication` it goes by their arrival",
            ],
        },
        UNLIKE_BEHAVIORAL,
        UNLIKE_POSTHOG,
        UNLIKE_MIXPANEL,
    ],
};

#[cfg(test)]
mod tests {
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::super::register_all;
    use super::*;
    use crate::functions::elements::testing::{error_of, rows_of};

    /// Rows of three customers: (customer, second, steps met as letters).
    const EVENTS: &str = "select customer, arrow_cast(second * 1000000, 'Timestamp(µs, \"UTC\")') as ts, second, \
                          position('A' in steps) > 0 as a, position('B' in steps) > 0 as b, nullif(position('C' in steps) > 0, false) as c \
                          from (values (1, 3, 'C'), (1, 1, 'A'), (1, 2, 'B'), (2, 2, 'X'), (2, 1, 'A'), (2, 3, 'B'), \
                          (2, null, 'C'), (3, 1, 'B'), (3, 5, null)) as events(customer, second, steps)";

    /// Plans a query without running it.
    async fn plan(sql: &str) -> Result<()> {
        let ctx = SessionContext::new();
        register_all(&ctx);
        ctx.sql(sql).await?.create_physical_plan().await.map(|_| ())
    }

    async fn answers(call: &str) -> Vec<String> {
        rows_of(&format!("select customer, {call} from ({EVENTS}) group by customer order by customer")).await
    }

    #[tokio::test]
    async fn levels_and_times_of_each_group() {
        let call = "window_funnel(interval '10 seconds', ts, a, b, c), window_funnel_events('10 seconds', ts, a, b, c)";
        assert_eq!(
            answers(call).await,
            [
                "1 | 3 | [1970-01-01T00:00:01Z, 1970-01-01T00:00:02Z, 1970-01-01T00:00:03Z]",
                "2 | 2 | [1970-01-01T00:00:01Z, 1970-01-01T00:00:03Z]",
                "3 | 0 | []"
            ]
        );
        let call = "window_funnel(10, 'strict_order', second, a, b, c), window_funnel_events(10, 'strict_order', second, a, b, c)";
        assert_eq!(answers(call).await, ["1 | 3 | [1, 2, 3]", "2 | 1 | [1]", "3 | 0 | []"]);
    }

    #[tokio::test]
    async fn times_and_windows_of_every_type() {
        for (time, window, levels) in [
            ("arrow_cast(ts, 'Timestamp(s)')", "interval '1 second'", [2, 1, 0]),
            ("arrow_cast(ts, 'Timestamp(ms, \"+02:00\")')", "interval '2 seconds'", [3, 2, 0]),
            ("arrow_cast(ts, 'Timestamp(ns)')", "arrow_cast(1, 'Duration(s)')", [2, 1, 0]),
            ("ts", "1", [2, 1, 0]),
            ("ts", "0", [1, 1, 0]),
            ("ts", "'1 second'", [2, 1, 0]),
            ("ts", "interval '1 second' + interval '1 second'", [3, 2, 0]),
            ("second", "1", [2, 1, 0]),
            ("arrow_cast(second, 'UInt8')", "arrow_cast(1, 'UInt8')", [2, 1, 0]),
            ("date '2026-01-01' + arrow_cast(second, 'Int32')", "interval '1 day'", [2, 1, 0]),
            ("arrow_cast(date '2026-01-01' + arrow_cast(second, 'Int32'), 'Date64')", "'2 days'", [3, 2, 0]),
            ("arrow_cast(date '2026-01-01' + arrow_cast(second, 'Int32'), 'Date64')", "2", [3, 2, 0]),
        ] {
            let expected: Vec<String> =
                (1..=3).zip(levels).map(|(customer, level)| format!("{customer} | {level}")).collect();
            assert_eq!(
                answers(&format!("window_funnel({window}, {time}, a, b, c)")).await,
                expected,
                "{time}, {window}"
            );
        }
        let call = "window_funnel_events(interval '1 day', date '2026-01-01' + arrow_cast(second, 'Int32'), a, b)";
        assert_eq!(answers(call).await[0], "1 | [2026-01-02, 2026-01-03]");
    }

    #[tokio::test]
    async fn modes_may_be_one_text_or_several() {
        let expected = answers("window_funnel(10, 'strict_order|allow_reentry', second, a, b, c)").await;
        for modes in [
            "'strict_order, allow_reentry'",
            "'strict_order', 'allow_reentry'",
            "'strict_order' || ' ' || 'allow_reentry'",
        ] {
            assert_eq!(answers(&format!("window_funnel(10, {modes}, second, a, b, c)")).await, expected, "{modes}");
        }
        assert_eq!(answers("window_funnel(10, '', second, a, b, c)").await[1], "2 | 2");
    }

    #[tokio::test]
    async fn no_group_no_rows_filters_and_windows() {
        let from = format!("from ({EVENTS})");
        let sql = format!("select window_funnel(10, second, a, b, c), window_funnel_events(10, second, a, b) {from}");
        assert_eq!(rows_of(&sql).await, ["3 | [1, 1]"]);
        let sql =
            format!("select window_funnel(10, second, a), window_funnel_events(10, second, a) {from} where false");
        assert_eq!(rows_of(&sql).await, ["0 | []"]);
        let filtered = "window_funnel(10, second, a, b, c) filter (where second <> 2)";
        assert_eq!(answers(filtered).await, ["1 | 1", "2 | 2", "3 | 0"]);
        let sql = format!(
            "select second, window_funnel(10, second, a, b, c) over (order by second) {from} where customer = 1 order by 1"
        );
        assert_eq!(rows_of(&sql).await, ["1 | 1", "2 | 2", "3 | 3"]);
    }

    #[tokio::test]
    async fn wrong_calls_are_errors_of_planning() {
        let many = vec!["a"; 33].join(", ");
        let many = format!("1, second, {many}");
        for (arguments, message) in [
            ("", "expected a window, modes if any, a time and 1 to 32 conditions"),
            ("10", "expected a window, modes if any, a time and 1 to 32 conditions, got 1 arguments"),
            ("10, second", "expected 1 to 32 conditions after the time, got 0"),
            (many.as_str(), "expected 1 to 32 conditions after the time, got 33"),
            ("10, 1.5, a", "expected the time to be a timestamp, a date or a whole number"),
            ("10, cast(ts as varchar), a", "got Boolean; text before it is a mode: if argument 2 is the time, cast it"),
            ("10, 'strict_order', cast(ts as varchar), a", "if argument 3 is the time, cast it to a timestamp"),
            ("10, second, a, 1", "expected condition 2 to be boolean, got Int64; compare it with a value"),
            ("10, second, a, 'strict_order'", "expected condition 2 to be boolean"),
            ("10, 'fixed', second, a", "unknown mode 'fixed'; expected strict_deduplication"),
            ("10, 'allow_reentry', second, a", "allow_reentry has a meaning with strict_order only; add it"),
            ("10, 'mixpanel', 'strict_once', second, a", "a preset stands alone"),
            ("10, 'strict', second, a", "say strict_deduplication"),
            ("10, case when a then 'strict_once' else '' end, second, a", "expected the mode to be a constant"),
            ("second, second, a", "expected the window to be a constant, got"),
            ("null, second, a", "expected the window to be"),
            ("-1, second, a", "wrong window: a span must not be negative, got -1"),
            ("interval '1 month', ts, a", "wrong window: an interval of months has no fixed length; count it in days"),
            ("interval '1 day', second, a", "expected the window to be a whole number as the times are"),
            ("1.5, ts, a", "to be an interval, a duration or a whole number, got"),
        ] {
            for function in ["window_funnel", "window_funnel_events"] {
                let sql = format!("select {function}({arguments}) from ({EVENTS}) group by customer");
                let error = plan(&sql).await.unwrap_err().strip_backtrace();
                let is_ours = error.contains(&format!("{function}: ")) && error.contains(message);
                // DataFusion itself refuses a call without arguments.
                assert!(is_ours || arguments.is_empty(), "{arguments}: {error}");
            }
        }
        let error = error_of(&format!("select window_funnel(distinct 10, second, a) from ({EVENTS})")).await;
        assert!(error.contains("window_funnel: distinct is not supported; select distinct rows"), "{error}");
    }

    #[tokio::test]
    async fn a_prepared_window_is_known_when_it_is_bound() {
        let ctx = SessionContext::new();
        register_all(&ctx);
        let prepare =
            format!("prepare funnel(bigint, varchar) as select window_funnel($1, $2, second, a, b, c) from ({EVENTS})");
        ctx.sql(&prepare).await.unwrap().collect().await.unwrap();
        let level = ctx.sql("execute funnel(1, 'strict_once')").await.unwrap().collect().await.unwrap();
        assert_eq!(level[0].column(0).as_ref(), &Int32Array::from(vec![2]) as &dyn datafusion::arrow::array::Array);
    }

    /// One query over rows in many partitions, in any order, and as sorted streams.
    #[tokio::test]
    async fn partitions_phases_and_sorted_input_do_not_matter() {
        let rows =
            "select value % 37 as customer, (value * 7919) % 50 as second, (value * 31) % 5 as step from range(3000)";
        let mut all = vec![];
        for (partitions, sorted, ratio) in [(1, false, "0.8"), (4, false, "0.8"), (4, false, "0.0"), (4, true, "0.8")] {
            let config = SessionConfig::new()
                .with_target_partitions(partitions)
                .with_batch_size(7)
                .set_str("datafusion.execution.skip_partial_aggregation_probe_ratio_threshold", ratio)
                .set_u64("datafusion.execution.skip_partial_aggregation_probe_rows_threshold", 10);
            let ctx = SessionContext::new_with_config(config);
            register_all(&ctx);
            let order = if sorted { "order by customer" } else { "order by second, step" };
            let calls =
                ["", "strict_order", "strict_once", "strict_deduplication|strict_once", "posthog_strict", "mixpanel"]
                    .map(|mode| {
                        format!("window_funnel_events(20, '{mode}', second, step = 1, step = 2, step < 3, step = 4)")
                    })
                    .join(", ");
            let sql = format!("select customer, {calls} from ({rows} {order}) group by customer order by customer");
            let batches = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
            all.push(datafusion::arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string());
        }
        assert!(all[0].lines().count() > 37);
        assert!(all.iter().all(|table| *table == all[0]));
    }
}
