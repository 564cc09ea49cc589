//! `sequence_match`, `sequence_count` and `sequence_match_events`: patterns over the rows of a group in time.
//!
//! A pattern is read once per call ([`pattern`]). Without time terms all the ways to match move at once, as the bits of
//! a word, over up to 63 items that take a row ([`automaton`]); with them, and for events, item by item over the rows
//! of the group ([`matcher`], [`backward`]). Either way the time is rows × items, and for the events of a group that does
//! not match a pattern with time terms that many times the logarithm of the conditions: there is nothing to give up on.

mod answers;
mod automaton;
mod backward;
mod matcher;
#[cfg(test)]
pub(super) mod oracle;
mod pattern;

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use self::answers::{Answers, Question};
use self::pattern::{Pattern, Span};
use super::arguments::{coerce_text, empty_list, list_type};
use super::call::{Call, Parameterised};
use super::conditions::MOST_CONDITIONS;
use super::documentation::{Example, Manual, NULL_ARGUMENTS, NULL_CONDITIONS, Section, TIMES, Unlike, WINDOWS};
use super::moments::{constant_span, counted_unit, returned_type};
use super::occurrences::{Occurrences, coerce_rows, state_fields};
use super::single_group::{MovingFrame, SingleGroup};

// ---------------------------------------------------------------------------------------------------------------
// The functions
// ---------------------------------------------------------------------------------------------------------------

/// The functions `sequence_match`, `sequence_count` and `sequence_match_events`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Sequence {
    question: Question,
    signature: Signature,
}

impl Sequence {
    /// `sequence_match`.
    pub fn matches() -> Self {
        Self::new(Question::Match)
    }

    /// `sequence_count`.
    pub fn count() -> Self {
        Self::new(Question::Count)
    }

    /// `sequence_match_events`.
    pub fn events() -> Self {
        Self::new(Question::Events)
    }

    fn new(question: Question) -> Self {
        Self { question, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// What the call of an accumulator asks, and where its rows stand.
    fn occurrences(&self, args: &AccumulatorArgs) -> Result<Occurrences<Answers>> {
        let pattern = self.parameters_of(args)?;
        let answers = Answers::new(self.question, pattern, args.expr_fields[1].data_type());
        Ok(Occurrences::new(answers, 1..args.exprs.len()))
    }
}

impl Parameterised for Sequence {
    type Parameters = Pattern;

    fn parameters(&self, call: &Call) -> Result<Option<Pattern>> {
        let function = self.question.name();
        let Some(pattern) = call.text(0, "the pattern")? else {
            return Ok(None);
        };
        let time = &call.types()[1];
        Pattern::parse(&pattern, call.types().len() - 2, |span| read_span(function, span, time))
            .map(Some)
            .map_err(|what| plan_datafusion_err!("{function}: {what}"))
    }
}

/// The span of a time term in the unit of stored times. The error is what would do instead.
fn read_span(function: &str, span: Span<'_>, time: &DataType) -> Result<u64, String> {
    let unit = counted_unit(time).unsigned_abs();
    match span {
        Span::Number(number) => number.checked_mul(unit).ok_or_else(|| format!("expected at most {}", u64::MAX / unit)),
        Span::Interval(_) if time.is_integer() => {
            Err("expected a whole number in the unit of the times, which are whole numbers".to_owned())
        }
        Span::Interval(text) => match constant_span(function, "span", &ScalarValue::from(text), time) {
            Ok(span) => Ok(span.unsigned_abs()),
            Err(error) => Err(format!(
                "expected a whole number or an interval such as 30 minutes ({})",
                reason(&error.strip_backtrace())
            )),
        },
    }
}

/// What an error says behind the names of its kind, its function and its argument.
fn reason(message: &str) -> &str {
    message.rsplit_once("span: ").map_or(message, |(_, reason)| reason)
}

impl AggregateUDFImpl for Sequence {
    fn name(&self) -> &str {
        self.question.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        if types.len() < 3 {
            return plan_err!(
                "{name}: expected a pattern, a time and 1 to {MOST_CONDITIONS} conditions, got {} arguments",
                types.len()
            );
        }
        let mut coerced = vec![coerce_text(name, &types[0])?];
        coerced.extend(coerce_rows(name, &types[1..])?);
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match self.question {
            Question::Match => DataType::Boolean,
            Question::Count => DataType::Int64,
            Question::Events => list_type(returned_type(&types[1])),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(state_fields(args.name))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::of(self.occurrences(&args)?)))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.occurrences(&args)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MovingFrame::of(self.occurrences(&args)?)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        Ok(match self.question {
            Question::Match => ScalarValue::from(false),
            Question::Count => ScalarValue::from(0i64),
            Question::Events => empty_list(data_type)?,
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATIONS: LazyLock<[Documentation; 3]> =
            LazyLock::new(|| [Question::Match, Question::Count, Question::Events].map(Question::documentation));
        Some(&DOCUMENTATIONS[self.question as usize])
    }
}

/// What the three functions have in common.
const SEQUENCE: Manual = Manual {
    section: Section::Sequences,
    syntax: &[],
    summary: "",
    details: "Rows that meet no condition do not exist: what is next to each other is so among the rows of these \
              conditions. A condition that the pattern does not name makes its rows count.",
    arguments: &[
        ("pattern", "Text, a constant: items one after another, with blanks as one likes; see Pattern."),
        ("ts", "Timestamp of any unit and zone, date or integer."),
        ("cond1, …, condN", "1 to 32 booleans: `(?1)` is a row that meets the first."),
    ],
    example: Example { query: "", rows: &[] },
    returns: "",
    parts: &[
        (
            "Pattern",
            "made of\n\
             - `(?N)`: one row that meets `condN`;\n\
             - `.`: one row; `.*`: any run of rows, also none;\n\
             - `(?t op n)`: any run of rows up to, and without, one at the right distance in time from the row taken \
             last. Directly after `.*`, and at the beginning, it counts from the first row behind that run. At the \
             end, where no row is left, `<=`, `<` and `>=0` hold. `op` is one of `<=`, `<`, `>`, `>=`, `==`, `!=`; \
             `n` is an interval (`30 minutes`), or a whole number as in ClickHouse: of seconds with timestamps, of \
             days with dates, of the unit of `ts` with integers.",
        ),
        (
            "Time",
            "rows × items of the pattern, whatever the pattern: there is no budget that a group could exceed. Only \
             `sequence_match_events` takes more, in a group that does not match a pattern with time terms: to find the \
             longest beginning that matches, it goes through the rows log2(conditions of the pattern) times.",
        ),
        WINDOWS,
    ],
    nulls: "rows with a null `ts` are skipped; a null condition counts as false.",
    order: "rows may come in any order and from any partitions; they are taken in the order of time.",
    ties: "rows of equal `ts` are taken in the order of what they meet, as a number whose lowest bit is `cond1`.",
    memory: "16 bytes per row that meets a condition. While a group is matched against a pattern with time terms, or \
             for its events, 8 bytes per row of it, and for the events a bit per row and item. A partial state holds \
             12 bytes per row, a copy.",
    errors: "a pattern that is wrong (the message says where, and the remedy), has more than 256 items or is no \
             constant; more than 32 conditions or one that is not boolean; a `distinct` call; other types: all at \
             planning.",
    source: "ClickHouse `sequenceMatch`, `sequenceCount` and `sequenceMatchEvents` \
             (src/AggregateFunctions/AggregateFunctionSequenceMatch.cpp).",
    differs: &[],
};

// Differences from ClickHouse that the three functions share.
const TIES: &str = "rows of equal time are taken in the order of their conditions, where its order is open";
const SYNTAX: &str = "`!=`, intervals and blanks in patterns are ours";
const NEVER: &str = "`(?t<0)`, which cannot hold, is refused";
const BUDGET: &str = "no search is too long, where it gives up after a million steps";
const LAST_ROW: &str = "a match that takes the last row is found, which it may miss where the last items of a pattern with time \
                        terms may take none (its issue 120729)";

const UNLIKE_BEHAVIORAL: Unlike = Unlike {
    whom: "DuckDB's `behavioral`",
    by: &[
        "distances are exact, where it rounds them down to seconds",
        "after `.*` a time term counts from the first row behind it, where its counts from the row taken last",
        "the empty pattern matches, where it is refused",
    ],
};

impl Question {
    fn documentation(self) -> Documentation {
        let manual = match self {
            Self::Match => Manual {
                syntax: &["sequence_match(pattern, ts, cond1, …, condN)"],
                summary: "Tells whether the rows of a group, in the order of time, match a pattern somewhere.",
                example: Example {
                    query: "
                        select customer,
                          sequence_match('(?1)(?t<=30 minutes)(?2)', at, touch = 'view', touch = 'buy') as bought_soon
                        from (values
                          ('ann', timestamp '2026-01-05T10:00:00', 'view'),
                          ('ann', timestamp '2026-01-05T10:10:00', 'buy'),
                          ('ann', timestamp '2026-01-06T09:00:00', 'view'),
                          ('ann', timestamp '2026-01-06T09:05:00', 'buy'),
                          ('bob', timestamp '2026-01-05T11:00:00', 'view'),
                          ('bob', timestamp '2026-01-05T13:00:00', 'buy')
                        ) as events(customer, at, touch)
                        group by customer order by customer
                    ",
                    rows: &["customer | bought_soon", "ann | true", "bob | false"],
                },
                returns: "boolean, never null. Without rows false, unless the pattern needs no row.",
                differs: &[
                    Unlike {
                        whom: "ClickHouse's `sequenceMatch`",
                        by: &[
                            NULL_CONDITIONS,
                            NULL_ARGUMENTS,
                            TIMES,
                            "a group whose rows all lack a time is answered as no rows are, where its is null",
                            TIES,
                            SYNTAX,
                            NEVER,
                            BUDGET,
                            LAST_ROW,
                        ],
                    },
                    UNLIKE_BEHAVIORAL,
                ],
                ..SEQUENCE
            },
            Self::Count => Manual {
                syntax: &["sequence_count(pattern, ts, cond1, …, condN)"],
                summary: "Counts the matches of a pattern in the rows of a group that follow one another in time, \
                          each behind the one before it.",
                example: Example {
                    query: "
                        select customer,
                          sequence_count('(?1)(?t<=30 minutes)(?2)', at, touch = 'view', touch = 'buy') as purchases
                        from (values
                          ('ann', timestamp '2026-01-05T10:00:00', 'view'),
                          ('ann', timestamp '2026-01-05T10:10:00', 'buy'),
                          ('ann', timestamp '2026-01-06T09:00:00', 'view'),
                          ('ann', timestamp '2026-01-06T09:05:00', 'buy'),
                          ('bob', timestamp '2026-01-05T11:00:00', 'view'),
                          ('bob', timestamp '2026-01-05T13:00:00', 'buy')
                        ) as events(customer, at, touch)
                        group by customer order by customer
                    ",
                    rows: &["customer | purchases", "ann | 2", "bob | 0"],
                },
                returns: "`Int64` from 0; a match is the first from where the one before it ended. First is what \
                          leaves each run, from left to right, as soon as it can.",
                differs: &[
                    Unlike {
                        whom: "ClickHouse's `sequenceCount`",
                        by: &[
                            NULL_CONDITIONS,
                            NULL_ARGUMENTS,
                            TIMES,
                            "a group whose rows all lack a time has the answer 0, where its is null",
                            TIES,
                            SYNTAX,
                            NEVER,
                            BUDGET,
                            "a match that takes the last row is found, which it may miss where the last items of a \
                             pattern may take none (its issue 120729)",
                        ],
                    },
                    UNLIKE_BEHAVIORAL,
                ],
                ..SEQUENCE
            },
            Self::Events => Manual {
                syntax: &["sequence_match_events(pattern, ts, cond1, …, condN)"],
                summary: "Returns the times of the rows that the `(?N)` of a pattern take in its first match in a \
                          group.",
                example: Example {
                    query: "
                        select customer,
                          sequence_match_events('(?1)(?t<=30 minutes)(?2)', at, touch = 'view', touch = 'buy') as at
                        from (values
                          ('ann', timestamp '2026-01-05T10:00:00', 'view'),
                          ('ann', timestamp '2026-01-05T10:10:00', 'buy'),
                          ('ann', timestamp '2026-01-06T09:00:00', 'view'),
                          ('ann', timestamp '2026-01-06T09:05:00', 'buy'),
                          ('bob', timestamp '2026-01-05T11:00:00', 'view'),
                          ('bob', timestamp '2026-01-05T13:00:00', 'buy')
                        ) as events(customer, at, touch)
                        group by customer order by customer
                    ",
                    rows: &[
                        "customer | at",
                        "ann | [2026-01-05T10:00:00Z, 2026-01-05T10:10:00Z]",
                        "bob | [2026-01-05T11:00:00Z]",
                    ],
                },
                returns: "list of times: timestamps in microseconds, UTC; dates and integers as they are. Where there \
                          is no match, those of the longest chain that matches a beginning of the pattern, and of \
                          such the first; empty if there is none. First is what leaves each run, from left to right, \
                          as soon as it can.",
                differs: &[
                    Unlike {
                        whom: "ClickHouse's `sequenceMatchEvents`",
                        by: &[
                            NULL_CONDITIONS,
                            NULL_ARGUMENTS,
                            TIMES,
                            TIES,
                            SYNTAX,
                            NEVER,
                            BUDGET,
                            LAST_ROW,
                            "where a pattern with time terms ends in something else than `(?N)`, the events are those \
                             of a match if one exists, where its may be those of a chain that fails there",
                        ],
                    },
                    UNLIKE_BEHAVIORAL,
                ],
                ..SEQUENCE
            },
        };
        manual.document()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::super::elements::testing::{error_of, rows_of};
    use super::super::register_all;

    /// Three customers: `a` views, adds, views, buys; `b` buys, then views; `c` does nothing that a condition names.
    const EVENTS: &str = "(values ('a', 100, 'buy'), ('a', 0, 'view'), ('b', 7, 'view'), ('a', 20, 'view'), \
                          ('c', 1, null), ('a', 10, 'cart'), ('b', 5, 'buy'), ('a', null, 'buy')) \
                          as events(customer, second, what)";

    /// The three answers for each customer.
    async fn found(pattern: &str, time: &str) -> Vec<String> {
        let arguments = format!("'{pattern}', {time}, what = 'view', what = 'cart', what = 'buy'");
        rows_of(&format!(
            "select sequence_match({arguments}), sequence_count({arguments}), sequence_match_events({arguments}) \
             from {EVENTS} group by customer order by customer"
        ))
        .await
    }

    #[tokio::test]
    async fn groups_are_answered_each_for_itself() {
        assert_eq!(found("(?1).*(?3)", "second").await, ["true | 1 | [0, 100]", "false | 0 | [7]", "false | 0 | []"]);
        assert_eq!(found("(?1)", "second").await, ["true | 2 | [0]", "true | 1 | [7]", "false | 0 | []"]);
        assert_eq!(found(".*", "second").await, ["true | 4 | []", "true | 2 | []", "true | 0 | []"]);
    }

    #[tokio::test]
    async fn times_of_every_type_are_read_and_returned() {
        for (time, from, to, returned) in [
            ("arrow_cast(second, 'Int8')", "10", "20", "Int64"),
            ("arrow_cast(second, 'UInt64')", "10", "20", "Int64"),
            ("arrow_cast(second, 'Date32')", "1970-01-11", "1970-01-21", "Date32"),
            (
                "arrow_cast(second, 'Timestamp(s)')",
                "1970-01-01T00:00:10Z",
                "1970-01-01T00:00:20Z",
                "Timestamp(µs, \"UTC\")",
            ),
            (
                "arrow_cast(second * 1000000, 'Timestamp(µs, \"UTC\")')",
                "1970-01-01T00:00:10Z",
                "1970-01-01T00:00:20Z",
                "Timestamp(µs, \"UTC\")",
            ),
            (
                "arrow_cast(second * 1000000000, 'Timestamp(ns, \"+02:00\")')",
                "1970-01-01T00:00:10Z",
                "1970-01-01T00:00:20Z",
                "Timestamp(µs, \"UTC\")",
            ),
        ] {
            // A number counts seconds with timestamps, days with dates, and the unit of integers.
            let rows = found("(?2)(?t==10)(?1)", time).await;
            assert_eq!(rows[0], format!("true | 1 | [{from}, {to}]"), "{time}");
            let sql = format!(
                "select arrow_typeof(sequence_match_events('.', {time}, what = 'view')) = 'List({returned})' \
                 from {EVENTS} where customer = 'a'"
            );
            assert_eq!(rows_of(&sql).await, ["true"], "{time}");
        }
    }

    #[tokio::test]
    async fn spans_of_every_form_are_read() {
        let microseconds = "arrow_cast(second * 1000000, 'Timestamp(µs)')";
        for (span, is_match) in [
            ("80", true),
            ("79", false),
            ("80 seconds", true),
            ("79.999999 seconds", false),
            ("1 minute 20 seconds", true),
            ("1 minute", false),
            ("2 days", true),
        ] {
            let rows = found(&format!("(?1)(?t<={span})(?3)"), microseconds).await;
            assert!(rows[0].starts_with(&format!("{is_match} |")), "{span}: {}", rows[0]);
        }
        // A date is its midnight.
        assert!(found("(?1)(?t<=1920 hours)(?3)", "arrow_cast(second, 'Date32')").await[0].starts_with("true"));
    }

    #[tokio::test]
    async fn null_conditions_are_false_and_filters_and_windows_hold() {
        let sql = format!(
            "select sequence_count('(?1)', second, what = 'view') filter (where second > 7), \
                    sequence_count('.', second, what is null, null) from {EVENTS}"
        );
        assert_eq!(rows_of(&sql).await, ["1 | 1"]);
        let sql = format!(
            "select second, sequence_match('(?1)(?2)', second, what = 'view', what = 'cart') over (order by second), \
                    sequence_match_events('(?1).*(?2)', second, what = 'view', what = 'cart') over (order by second) \
             from {EVENTS} where customer = 'a' and second < 20 order by second"
        );
        assert_eq!(rows_of(&sql).await, ["0 | false | [0]", "10 | true | [0, 10]"]);
        let sql = format!(
            "select sequence_match('(?1)', second, true), sequence_count('.*', second, true), \
                           sequence_match_events('(?1)', second, true) from {EVENTS} where false"
        );
        assert_eq!(rows_of(&sql).await, ["false | 0 | []"]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("'(?1)', second", "expected a pattern, a time and 1 to 32 conditions, got 2 arguments"),
            ("1, second, true", "expected text, got Int64"),
            ("'(?1)', what, true", "expected the time to be a timestamp, a date or a whole number"),
            ("'(?1)', second, 1", "expected condition 1 to be boolean, got Int64"),
            ("what, second, true", "expected the pattern to be a constant"),
            ("null, second, true", "expected the pattern to be a text"),
            ("'(?1)(?2)', second, true", "the pattern has no condition 2 to refer to at position 5, '(?2)'"),
            (
                "'(?1)(?t<=1 hour)', second, true",
                "expected a whole number in the unit of the times, which are whole numbers",
            ),
            ("distinct '(?1)', second, true", "distinct is not supported"),
        ] {
            for function in ["sequence_match", "sequence_count", "sequence_match_events"] {
                let error = error_of(&format!("select {function}({arguments}) from {EVENTS}")).await;
                assert!(error.contains(&format!("{function}: ")) && error.contains(message), "{arguments}: {error}");
            }
        }
        let time = "arrow_cast(second, 'Timestamp(s)')";
        for (span, message) in [
            ("1 month", "months has no fixed length"),
            ("-1 hour", "must not be negative"),
            (
                "soon",
                "a time term without a usable span at position 5, '(?t<=soon)'; expected a whole number or an interval",
            ),
            ("99999999999999999", "expected at most 18446744073709"),
        ] {
            let error =
                error_of(&format!("select sequence_match('(?1)(?t<={span})', {time}, true) from {EVENTS}")).await;
            assert!(error.contains(message), "{span}: {error}");
        }
        let too_many = vec!["true"; 33].join(", ");
        let error = error_of(&format!("select sequence_match('.', second, {too_many}) from {EVENTS}")).await;
        assert!(error.contains("expected 1 to 32 conditions after the time, got 33"), "{error}");
    }

    #[tokio::test]
    async fn a_wrong_pattern_is_an_error_of_planning() {
        let ctx = SessionContext::new();
        register_all(&ctx);
        let sql = format!("select sequence_match('(?1', second, true) from {EVENTS}");
        let error = ctx.sql(&sql).await.unwrap().create_physical_plan().await.unwrap_err();
        let message =
            "sequence_match: the pattern has an item that is not closed at position 1, '(?1'; write ) after it";
        assert!(error.to_string().contains(message), "{error}");
    }

    #[tokio::test]
    async fn thirty_two_conditions_fit() {
        let conditions: Vec<String> = (0..32).map(|number| format!("second = {number}")).collect();
        let pattern: String = (1..=32).map(|number| format!("(?{number})")).collect();
        let sql = format!(
            "select sequence_match('{pattern}', second, {}) from (select unnest(range(0, 32)) as second)",
            conditions.join(", ")
        );
        assert_eq!(rows_of(&sql).await, ["true"]);
    }
}
