//! `sample_ratio_p`: whether an experiment's variants got their shares of the customers.

use std::sync::LazyLock;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Builder, PrimitiveArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::super::arguments::{Lists, coerce_list, expect_count};
use super::super::documentation::{Example, Manual, Section};
use super::formulas::{chi_square, chi_square_p};

/// The function `sample_ratio_p`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SampleRatioP {
    signature: Signature,
}

impl Default for SampleRatioP {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The elements of a list column as numbers; null elements are errors.
fn numbers(function: &str, lists: &Lists, name: &str) -> Result<PrimitiveArray<Float64Type>> {
    lists.expect_no_null_element(function, name)?;
    let numbers: ArrayRef = cast(&lists.values, &DataType::Float64)?;
    Ok(numbers.as_primitive::<Float64Type>().clone())
}

impl ScalarUDFImpl for SampleRatioP {
    fn name(&self) -> &str {
        "sample_ratio_p"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 2)?;
        let coerce =
            |data_type| coerce_list(self.name(), data_type, "numbers", DataType::Float64, DataType::is_numeric);
        types.iter().map(coerce).collect()
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let count_lists = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        let share_lists = Lists::of_argument(self.name(), &args.args[1], args.number_rows)?;
        count_lists.expect_parallel(self.name(), &share_lists, ("counts", "shares"))?;
        let counts = numbers(self.name(), &count_lists, "counts")?;
        let shares = numbers(self.name(), &share_lists, "shares")?;
        let mut probabilities = Float64Builder::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let (Some(of_counts), Some(of_shares)) = (count_lists.range(row), share_lists.range(row)) else {
                probabilities.append_null();
                continue;
            };
            let (counts, shares) = (&counts.values()[of_counts], &shares.values()[of_shares]);
            if let Some(count) = counts.iter().find(|count| !(0.0..f64::INFINITY).contains(*count)) {
                return exec_err!("{}: expected counts from 0, got {count}", self.name());
            }
            if let Some(share) = shares.iter().find(|share| !(**share > 0.0 && share.is_finite())) {
                return exec_err!("{}: expected shares above 0, got {share}; leave the variant out", self.name());
            }
            let is_known = counts.len() >= 2 && counts.iter().any(|count| *count > 0.0);
            probabilities.append_option(is_known.then(|| {
                let statistic = chi_square(counts.iter().copied(), shares.iter().copied());
                chi_square_p(statistic, counts.len() as f64 - 1.0)
            }));
        }
        Ok(ColumnarValue::Array(std::sync::Arc::new(probabilities.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Statistics,
                syntax: &["sample_ratio_p(counts, shares)"],
                summary: "Checks the sample ratio of an experiment: how likely chance alone makes counts at least as \
                          far from their shares.",
                details: "A small probability (below 0.001, say) means that the assignment or the measurement is \
                          broken, and the experiment's other figures with it. Wants about five expected per variant.",
                arguments: &[
                    ("counts", "List of numbers from 0: how many each variant got."),
                    (
                        "shares",
                        "List of numbers above 0, parallel to the counts; only their proportions matter, so `[1, 1]` \
                         says what `[0.5, 0.5]` does.",
                    ),
                ],
                example: Example {
                    query: "select round(sample_ratio_p([821588, 815482], [0.5, 0.5]), 8) as p",
                    rows: &["p", "1.82e-6"],
                },
                returns: "`Float64` from 0 to 1.",
                parts: &[],
                nulls: "null when an argument is, with fewer than two variants, and where all counts are 0. Null \
                        elements are errors.",
                order: "that of the variants does not matter, but for rounding.",
                ties: "",
                memory: "8 bytes per row, and per element where lists are not of `Float64`.",
                errors: "lists of different lengths, null elements, counts below 0, shares that are not above 0; \
                         other types, at planning.",
                source: "Pearson's chi-square test with one degree of freedom less than there are variants, as \
                         `scipy.stats.chisquare(counts, expected)`; its use in A. Fabijan and others, Diagnosing \
                         sample ratio mismatch in online controlled experiments, KDD 2019.",
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
    async fn counts_are_held_against_their_shares() {
        let sql = "select round(sample_ratio_p([821588, 815482], [0.5, 0.5]) * 1e6, 4), \
                   round(sample_ratio_p([16, 18, 16, 14, 12, 12], [16, 16, 16, 16, 16, 8]), 6), \
                   sample_ratio_p([50, 50], arrow_cast([1, 1], 'LargeList(Int8)')), \
                   sample_ratio_p([10, 0], [1, 1]) < 0.01, sample_ratio_p([0, 1000000], [1, 1])";
        assert_eq!(rows_of(sql).await, ["1.8218 | 0.623388 | 1.0 | true | 0.0"]);
    }

    #[tokio::test]
    async fn shares_say_how_large_each_variant_should_be() {
        let sql = "select sample_ratio_p([900, 100], [9, 1]) = 1, sample_ratio_p([900, 100], [0.5, 0.5]) < 1e-9";
        assert_eq!(rows_of(sql).await, ["true | true"]);
    }

    #[tokio::test]
    async fn too_little_to_check_is_null() {
        for arguments in ["[5], [1]", "[], []", "[0, 0], [1, 1]", "null, [1, 1]", "[1, 1], null"] {
            assert_eq!(rows_of(&format!("select sample_ratio_p({arguments})")).await, [""], "{arguments}");
        }
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("[1, 2]", "expected 2 arguments, got 1"),
            ("1, 2", "expected a list of numbers, got Int64"),
            ("['a'], [1]", "expected a list of numbers"),
            ("[1, 2], [1, 1, 1]", "counts has 2 elements where shares has 3"),
            ("[1, null], [1, 1]", "counts hold a null"),
            ("[1, -2], [1, 1]", "expected counts from 0, got -2"),
            ("[1, 2], [1, 0]", "expected shares above 0, got 0; leave the variant out"),
        ] {
            let error = error_of(&format!("select sample_ratio_p({arguments})")).await;
            assert!(error.contains("sample_ratio_p: ") && error.contains(message), "{arguments}: {error}");
        }
    }
}
