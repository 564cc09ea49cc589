//! `difference_interval`: the differences between two rates that the data leave plausible.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::super::documentation::{Example, Manual, Section, Unlike};
use super::formulas::difference_interval;
use super::{
    ABOUT_CONFIDENCE, CriticalValue, Numbers, Records, TWO_GROUPS, check_confidence, coerce_numbers, record_field,
};

/// The function `difference_interval`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct DifferenceInterval {
    signature: Signature,
}

impl Default for DifferenceInterval {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

const CONFIDENCE: usize = 4;
const ARGUMENTS: [&str; 5] = ["successes_a", "trials_a", "successes_b", "trials_b", "confidence"];

impl ScalarUDFImpl for DifferenceInterval {
    fn name(&self) -> &str {
        "difference_interval"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_numbers(self.name(), types, &ARGUMENTS, 1)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(record_field(self.name(), ["difference", "lower", "upper"]).data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_confidence(self.name(), &args, CONFIDENCE)?;
        Ok(record_field(self.name(), ["difference", "lower", "upper"]))
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
            let (a, b) = (numbers.proportion(self.name(), 0, row)?, numbers.proportion(self.name(), 2, row)?);
            let z = critical_value.of(numbers.confidence(self.name(), CONFIDENCE, row)?);
            intervals.append(a.zip(b).map(|(a, b)| {
                let interval = difference_interval(a, b, z);
                [a.rate() - b.rate(), interval.lower, interval.upper]
            }));
        }
        Ok(ColumnarValue::Array(intervals.finish(&args.return_field)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Statistics,
                syntax: &["difference_interval(successes_a, trials_a, successes_b, trials_b[, confidence])"],
                summary: "Returns the difference of two rates and the differences that the data leave plausible: \
                          Newcombe's hybrid score interval.",
                details: "",
                arguments: &[TWO_GROUPS[0], TWO_GROUPS[1], TWO_GROUPS[2], TWO_GROUPS[3], ABOUT_CONFIDENCE],
                example: Example {
                    query: "
                        select round(lift['difference'], 4) as difference,
                          round(lift['lower'], 4) as lower, round(lift['upper'], 4) as upper
                        from (select difference_interval(56, 70, 48, 80) as lift)
                    ",
                    rows: &["difference | lower | upper", "0.2 | 0.0524 | 0.3339"],
                },
                returns: "struct of `difference` (rate a minus rate b), `lower` and `upper`, `Float64` from -1 to 1.",
                parts: &[],
                nulls: "null when an argument is, and where one side has no trials.",
                order: "none: a row is answered by itself.",
                ties: "",
                memory: "24 bytes per row.",
                errors: "successes below 0 or above the trials; a confidence that is not between 0 and 1, at planning \
                         where it is constant; other types, at planning.",
                source: "R. G. Newcombe, Interval estimation for the difference between independent proportions: \
                         comparison of eleven methods, Stat. Med. 17 (1998), method 10.",
                differs: &[Unlike {
                    whom: "the Wald interval (difference ± z standard errors)",
                    by: &["the interval lies between -1 and 1 and has a width where nobody or everybody succeeded, \
                           where that one leaves the range, has none, and is too narrow in that comparison"],
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
    async fn two_rates_have_an_interval_between_them() {
        let sql = "select round(d['difference'], 4), round(d['lower'], 4), round(d['upper'], 4) from (\
                   select difference_interval(56, 70, 48, 80) as d union all \
                   select difference_interval(56, 70, 48, 80, 0.99) union all \
                   select difference_interval(10, 10, 0, 20)) order by 3";
        assert_eq!(rows_of(sql).await, ["0.2 | 0.0524 | 0.3339", "0.2 | 0.0054 | 0.3718", "1.0 | 0.6791 | 1.0"]);
    }

    #[tokio::test]
    async fn without_trials_there_is_no_difference() {
        for arguments in ["0, 0, 1, 2", "1, 2, 0, 0", "null, 2, 1, 2", "1, 2, 1, 2, null"] {
            let sql =
                format!("select d is null, d['lower'] is null from (select difference_interval({arguments}) as d)");
            assert_eq!(rows_of(&sql).await, ["true | true"], "{arguments}");
        }
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("1, 2, 3", "expected 4 or 5 arguments, got 3"),
            ("1, 2, true, 4", "expected successes_b to be a number, got Boolean"),
            ("1, 2, 3, 4, 1.0", "expected a confidence between 0 and 1, such as 0.95, got 1"),
            ("1, 2, 5, 4", "expected from 0 to 4 successes of 4 trials, got 5"),
        ] {
            let error = error_of(&format!("select difference_interval({arguments})")).await;
            assert!(error.contains("difference_interval: ") && error.contains(message), "{arguments}: {error}");
        }
    }
}
