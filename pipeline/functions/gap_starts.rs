//! `gap_starts`: which elements start a run after a gap; the rule is that of [`Starts`].

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{coerce_times, expect_count, list_type, returned_field};
use super::documentation::{Example, Manual};
use super::moments::{check_span, coerce_span};
use super::starts::{RUNS, Starts};

/// The function `gap_starts`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct GapStarts {
    signature: Signature,
}

impl Default for GapStarts {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for GapStarts {
    fn name(&self) -> &str {
        "gap_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 2)?;
        Ok(vec![coerce_times(self.name(), &types[0])?, coerce_span(self.name(), &types[1])?])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(list_type(DataType::Boolean))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_span(self.name(), "gap", &args, 1)?;
        returned_field(self, &args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let starts = Starts::of_arguments(self.name(), &args)?;
        Ok(ColumnarValue::Array(Arc::new(starts.into_lists()?)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                syntax: &["gap_starts(times, gap)"],
                summary: "Marks the elements of an ascending list of times that start a run: the first, and each that \
                          comes more than a gap after the one before it.",
                example: Example {
                    query: "
                        select gap_starts(
                          [timestamp '2026-01-05T10:00:00', timestamp '2026-01-05T10:30:00',
                           timestamp '2026-01-05T11:00:01'],
                          interval '30 minutes') as starts
                    ",
                    rows: &["starts", "[true, false, true]"],
                },
                returns: "list of booleans, parallel to the times.",
                memory: "a bit per element.",
                ..RUNS
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
    async fn a_gap_of_exactly_the_limit_does_not_cut() {
        let ctx = SessionContext::new();
        ctx.register_udf(ScalarUDF::from(GapStarts::default()));
        let times = "[timestamp '2026-01-01T10:00:00', timestamp '2026-01-01T10:30:00', \
                     timestamp '2026-01-01T11:00:00.000001']";
        for gap in ["interval '30 minutes'", "'30 minutes'", "1800000000", "arrow_cast(1800, 'Duration(Second)')"] {
            let sql = format!("select gap_starts({times}, {gap})");
            let batches = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
            assert_eq!(flags(batches[0].column(0)), vec![Some(vec![true, false, true])], "{gap}");
        }
        for sql in ["select gap_starts(null, 5)", "select gap_starts([], null)"] {
            let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
            assert_eq!(flags(batches[0].column(0)), vec![None], "{sql}");
        }
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        let ctx = SessionContext::new();
        ctx.register_udf(ScalarUDF::from(GapStarts::default()));
        for wrong in ["[1, 2], 5", "now(), 5", "[now()], 1.5", "[now()]"] {
            assert!(ctx.sql(&format!("select gap_starts({wrong})")).await.is_err(), "{wrong}");
        }
    }
}
