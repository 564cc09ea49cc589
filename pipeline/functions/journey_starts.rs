//! `journey_starts`: which elements start a journey; the rule is that of [`Starts`].

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{coerce_booleans, coerce_times, expect_count, list_type, returned_field};
use super::documentation::{Example, Manual, Section};
use super::moments::{check_span, coerce_span};
use super::starts::Starts;

/// The function `journey_starts`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct JourneyStarts {
    signature: Signature,
}

impl Default for JourneyStarts {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JourneyStarts {
    fn name(&self) -> &str {
        "journey_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 3)?;
        Ok(vec![
            coerce_times(self.name(), &types[0])?,
            coerce_booleans(self.name(), &types[1])?,
            coerce_span(self.name(), &types[2])?,
        ])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(list_type(DataType::Boolean))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_span(self.name(), "timeout", &args, 2)?;
        returned_field(self, &args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let starts = Starts::of_arguments(self.name(), &args)?;
        Ok(ColumnarValue::Array(Arc::new(starts.into_lists()?)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Journeys,
                syntax: &["journey_starts(times, goals, timeout)"],
                summary: "Marks the elements of an ascending list of times that start a journey: the first, each that \
                          comes more than a timeout after the one before it, and each that follows a goal.",
                details: "",
                arguments: &[
                    ("times", "List of timestamps of any unit, ascending; that is not checked."),
                    ("goals", "List of booleans, parallel to the times: whether the event reaches a goal."),
                    (
                        "timeout",
                        "How long a journey may rest, an interval, a duration, text such as `'30 minutes'` or whole \
                         microseconds; a constant or a column. A rest of exactly this length does not end it.",
                    ),
                ],
                example: Example {
                    query: "
                        select journey_starts(
                          [timestamp '2026-01-05', timestamp '2026-01-06', timestamp '2026-01-07',
                           timestamp '2026-03-01'],
                          [false, true, false, false], interval '30 days') as starts
                    ",
                    rows: &["starts", "[true, false, true, true]"],
                },
                returns: "list of booleans, parallel to the times. A goal is the last element of its journey.",
                parts: &[],
                nulls: "a null goal counts as false; null when an argument is null; a null among the times is an \
                        error.",
                order: "that of the lists.",
                ties: "elements of equal time belong to one journey, unless a goal parts them.",
                memory: "a bit per element.",
                errors: "lists of different lengths, a null among the times, a negative timeout, an interval of \
                         months; other types, at planning.",
                source: "our own: a journey leads from the first touch to the goal, or to inactivity.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::ScalarUDF;
    use datafusion::prelude::SessionContext;

    use super::super::starts::tests::flags;
    use super::*;

    #[tokio::test]
    async fn a_goal_ends_its_journey() {
        let ctx = SessionContext::new();
        ctx.register_udf(ScalarUDF::from(JourneyStarts::default()));
        let cases = [
            ("[true, null, false]", "interval '1 day'", Some(vec![true, true, false])),
            ("[true, true, true]", "interval '1 day'", Some(vec![true, true, true])),
            ("[false, false, false]", "interval '1 hour'", Some(vec![true, false, true])),
            ("null", "interval '1 hour'", None),
            ("[false, false, false]", "null", None),
        ];
        for (goals, timeout, expected) in cases {
            let sql = format!(
                "select journey_starts([timestamp '2026-01-01T10:00:00', timestamp '2026-01-01T11:00:00', \
                 timestamp '2026-01-01T12:00:01'], {goals}, {timeout})"
            );
            let batches = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
            assert_eq!(flags(batches[0].column(0)), vec![expected], "{goals}");
        }
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        let ctx = SessionContext::new();
        ctx.register_udf(ScalarUDF::from(JourneyStarts::default()));
        for wrong in ["[now()], [1], 5", "[now()], 5", "[now()], [true], true"] {
            assert!(ctx.sql(&format!("select journey_starts({wrong})")).await.is_err(), "{wrong}");
        }
        let unequal = ctx.sql("select journey_starts([now()], [true, false], 5)").await.unwrap().collect().await;
        assert!(unequal.unwrap_err().to_string().contains("times has 1 elements where goals has 2"));
    }
}
