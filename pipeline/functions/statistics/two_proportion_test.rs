//! `two_proportion_test`: whether two rates differ by more than chance.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::super::documentation::{Example, Manual, Section, Unlike};
use super::formulas::two_proportion_test;
use super::{Numbers, Records, TWO_GROUPS, coerce_numbers, record_field};

/// The function `two_proportion_test`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TwoProportionTest {
    signature: Signature,
}

impl Default for TwoProportionTest {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TwoProportionTest {
    fn name(&self) -> &str {
        "two_proportion_test"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_numbers(self.name(), types, &["successes_a", "trials_a", "successes_b", "trials_b"], 0)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(record_field(self.name(), ["difference", "z", "p"]).data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(record_field(self.name(), ["difference", "z", "p"]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = Numbers::of_arguments(&args)?;
        let mut tests = Records::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            if numbers.is_null(row) {
                tests.append(None);
                continue;
            }
            let (a, b) = (numbers.proportion(self.name(), 0, row)?, numbers.proportion(self.name(), 2, row)?);
            let test = a.zip(b).map(|(a, b)| two_proportion_test(a, b));
            tests.append(test.map(|test| [test.difference, test.z, test.p]));
        }
        Ok(ColumnarValue::Array(tests.finish(&args.return_field)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Statistics,
                syntax: &["two_proportion_test(successes_a, trials_a, successes_b, trials_b)"],
                summary: "Tests whether two rates differ by more than chance: the z test with the pooled rate.",
                details: "Like any normal approximation it wants about five expected successes and failures on each \
                          side.",
                arguments: &TWO_GROUPS,
                example: Example {
                    query: "
                        select round(test['difference'], 4) as difference,
                          round(test['z'], 4) as z, round(test['p'], 4) as p
                        from (select two_proportion_test(1200, 24000, 1100, 23900) as test)
                    ",
                    rows: &["difference | z | p", "0.004 | 2.0345 | 0.0419"],
                },
                returns: "struct of `difference` (rate a minus rate b), `z` and the two-sided `p`, `Float64`. Where \
                          nobody or everybody succeeded, `z` is 0 and `p` is 1.",
                parts: &[],
                nulls: "null when an argument is, and where one side has no trials.",
                order: "none: a row is answered by itself.",
                ties: "",
                memory: "24 bytes per row.",
                errors: "successes below 0 or above the trials; other types, at planning.",
                source: "the z test without continuity correction: `z²` and `p` are those of `prop.test(…, correct = \
                         FALSE)` of R and of Pearson's chi-square over the two by two table.",
                differs: &[Unlike {
                    whom: "Mixpanel's segment significance",
                    by: &["two groups are compared by a z test, where it compares a segment with all by a \
                           hypergeometric test, hidden below 30 samples"],
                }],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::elements::testing::{error_of, rows_of};

    #[tokio::test]
    async fn two_rates_are_compared() {
        let sql = "select round(t['difference'], 4), round(t['z'], 4), round(t['p'], 6) from \
                   (select two_proportion_test(a, 70, b, 80.0) as t from (values (56, 48), (48, 56), (0, 0)) as c(a, b))";
        let expected = ["0.2 | 2.6502 | 0.008045", "-0.0143 | -0.1893 | 0.849859", "0.0 | 0.0 | 1.0"];
        assert_eq!(rows_of(sql).await, expected);
    }

    #[tokio::test]
    async fn without_trials_there_is_nothing_to_compare() {
        for arguments in ["0, 0, 1, 2", "1, 2, 0, 0", "null, 2, 1, 2", "1, 2, 1, null"] {
            let sql = format!("select t is null, t['p'] is null from (select two_proportion_test({arguments}) as t)");
            assert_eq!(rows_of(&sql).await, ["true | true"], "{arguments}");
        }
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("1, 2, 3", "expected 4 arguments, got 3"),
            ("1, 2, 3, 'x'", "expected trials_b to be a number, got Utf8"),
            ("1, 2, 3, 2", "expected from 0 to 2 successes of 2 trials, got 3"),
        ] {
            let error = error_of(&format!("select two_proportion_test({arguments})")).await;
            assert!(error.contains("two_proportion_test: ") && error.contains(message), "{arguments}: {error}");
        }
    }
}
