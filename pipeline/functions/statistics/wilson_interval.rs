//! `wilson_interval`: the rates that a number of successes leaves plausible.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::super::documentation::{Example, Manual, Section};
use super::formulas::wilson_interval;
use super::{ABOUT_CONFIDENCE, CriticalValue, Numbers, Records, check_confidence, coerce_numbers, record_field};

/// The function `wilson_interval`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct WilsonInterval {
    signature: Signature,
}

impl Default for WilsonInterval {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

const CONFIDENCE: usize = 2;

impl ScalarUDFImpl for WilsonInterval {
    fn name(&self) -> &str {
        "wilson_interval"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_numbers(self.name(), types, &["successes", "trials", "confidence"], 1)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(record_field(self.name(), ["lower", "upper"]).data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_confidence(self.name(), &args, CONFIDENCE)?;
        Ok(record_field(self.name(), ["lower", "upper"]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = Numbers::of_arguments(&args)?;
        let mut critical_value = CriticalValue::new();
        let mut intervals = Records::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            if numbers.is_null(row) {
                intervals.append(None);
                continue;
            }
            let proportion = numbers.proportion(self.name(), 0, row)?;
            let z = critical_value.of(numbers.confidence(self.name(), CONFIDENCE, row)?);
            let interval = proportion.map(|proportion| wilson_interval(proportion, z));
            intervals.append(interval.map(|interval| [interval.lower, interval.upper]));
        }
        Ok(ColumnarValue::Array(intervals.finish(&args.return_field)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Statistics,
                syntax: &["wilson_interval(successes, trials[, confidence])"],
                summary: "Returns the rates that a number of successes leaves plausible: Wilson's score interval.",
                details: "",
                arguments: &[
                    ("successes", "Number: how many succeeded, from 0 to the trials."),
                    ("trials", "Number: how many there were."),
                    ABOUT_CONFIDENCE,
                ],
                example: Example {
                    query: "
                        select round(rate['lower'], 4) as lower, round(rate['upper'], 4) as upper
                        from (select wilson_interval(81, 263) as rate)
                    ",
                    rows: &["lower | upper", "0.2553 | 0.3662"],
                },
                returns: "struct of `lower` and `upper`, `Float64` from 0 to 1.",
                parts: &[],
                nulls: "null when an argument is, and without trials.",
                order: "none: a row is answered by itself.",
                ties: "",
                memory: "16 bytes per row.",
                errors: "successes below 0 or above the trials; a confidence that is not between 0 and 1, at planning \
                         where it is constant; other types, at planning.",
                source: "E. B. Wilson, Probable inference, the law of succession, and statistical inference, J. Am. \
                         Stat. Assoc. 22 (1927), without continuity correction, as \
                         `binomtest(…).proportion_ci(method='wilson')` of SciPy and `prop.test(…, correct = FALSE)` \
                         of R.",
                differs: &[],
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
    async fn rates_have_intervals_of_any_confidence() {
        let sql = "select round(r['lower'], 4), round(r['upper'], 4), \
                   round(wilson_interval(81, 263.0, 0.99)['lower'], 4) from (select wilson_interval(81, 263) as r)";
        assert_eq!(rows_of(sql).await, ["0.2553 | 0.3662 | 0.2401"]);
        let sql = "select wilson_interval(s, t)['lower'] = 0, wilson_interval(s, t)['upper'] = 1 from (values (0, 9), (9, 9)) as c(s, t)";
        assert_eq!(rows_of(sql).await, ["true | false", "false | true"]);
    }

    #[tokio::test]
    async fn the_confidence_may_differ_from_row_to_row() {
        let sql = "select round(wilson_interval(10, 20, c)['lower'], 4) from (values (0.99), (0.95), (null), (0.99)) as confidences(c)";
        assert_eq!(rows_of(sql).await, ["0.2504", "0.2993", "", "0.2504"]);
    }

    #[tokio::test]
    async fn without_trials_there_is_no_rate() {
        for arguments in ["0, 0", "null, 3", "3, null", "1, 2, null"] {
            let sql = format!(
                "select r is null, r['lower'] is null, r['upper'] is null from (select wilson_interval({arguments}) as r)"
            );
            assert_eq!(rows_of(&sql).await, ["true | true | true"], "{arguments}");
        }
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("1", "expected 2 or 3 arguments, got 1"),
            ("'1', 2", "expected successes to be a number, got Utf8"),
            ("1, 2, 95", "expected a confidence between 0 and 1, such as 0.95, got 95"),
            ("1, 2, 0.0", "expected a confidence between 0 and 1"),
            ("3, 2", "expected from 0 to 2 successes of 2 trials, got 3"),
            ("-1, 2", "expected from 0 to 2 successes of 2 trials, got -1"),
            ("'NaN'::double, 2", "expected from 0 to 2 successes"),
        ] {
            let error = error_of(&format!("select wilson_interval({arguments})")).await;
            assert!(error.contains("wilson_interval: ") && error.contains(message), "{arguments}: {error}");
        }
    }
}
