//! `list_sum`: the sum of a list's elements.
//!
//! Replaces DataFusion's alias of `array_sum`, which adds decimals as floating-point numbers and gives null for a list
//! without a number; that one stays in reach as `array_sum`.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, DecimalType, Float64Type, Int64Type,
};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, coerce_list, element_type, expect_count};
use super::documentation::{Example, Manual, Section, Unlike};

/// The type of the sum of elements of a type; `None` when they are not numbers that we add.
fn sum_type(element: &DataType) -> Option<DataType> {
    match element {
        DataType::Decimal128(_, scale) => Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale)),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(DataType::Int64),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Some(DataType::Int64),
        DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
        _ => None,
    }
}

/// Adds up each row's elements with `add`, which gives `None` when the sum leaves the range.
fn sum_lists<T: ArrowPrimitiveType>(
    lists: &Lists,
    elements: &PrimitiveArray<T>,
    add: impl Fn(T::Native, T::Native) -> Option<T::Native>,
) -> Result<PrimitiveArray<T>> {
    let overflow = || exec_datafusion_err!("list_sum: the sum leaves the range of {}", elements.data_type());
    let values = elements.values();
    let mut sums = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        let mut sum = T::Native::default();
        for position in lists.range(row).unwrap_or_default() {
            if elements.is_valid(position) {
                sum = add(sum, values[position]).ok_or_else(overflow)?;
            }
        }
        sums.push(sum);
    }
    Ok(PrimitiveArray::new(sums.into(), lists.nulls.clone()))
}

fn sum(lists: &Lists, sum_type: &DataType) -> Result<ArrayRef> {
    match sum_type {
        DataType::Decimal128(precision, scale) => {
            let elements = lists.values.as_primitive::<Decimal128Type>();
            let sums = sum_lists(lists, elements, i128::checked_add)?;
            if !sums.iter().flatten().all(|sum| Decimal128Type::is_valid_decimal_precision(sum, *precision)) {
                return exec_err!("list_sum: the sum leaves the range of {sum_type}");
            }
            Ok(Arc::new(sums.with_precision_and_scale(*precision, *scale)?))
        }
        DataType::Int64 => {
            let elements = cast(&lists.values, sum_type)?;
            Ok(Arc::new(sum_lists(lists, elements.as_primitive::<Int64Type>(), i64::checked_add)?))
        }
        DataType::Float64 => {
            let elements = cast(&lists.values, sum_type)?;
            Ok(Arc::new(sum_lists(lists, elements.as_primitive::<Float64Type>(), |sum, value| Some(sum + value))?))
        }
        other => exec_err!("list_sum: no sum of type {other}"),
    }
}

/// The function `list_sum`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ListSum {
    signature: Signature,
}

impl Default for ListSum {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ListSum {
    fn name(&self) -> &str {
        "list_sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 1)?;
        let accepts = |element: &DataType| sum_type(element).is_some();
        Ok(vec![coerce_list(self.name(), &types[0], "numbers", DataType::Int64, accepts)?])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match element_type(&types[0]).and_then(sum_type) {
            Some(sum_type) => Ok(sum_type),
            None => plan_err!("list_sum: expected a list of numbers, got {}", types[0]),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        Ok(ColumnarValue::Array(sum(&lists, args.return_field.data_type())?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Lists,
                syntax: &["list_sum(list)"],
                summary: "Adds up the elements of a list, exactly where they are decimals or whole numbers.",
                details: "",
                arguments: &[("list", "List of decimals, whole or floating-point numbers.")],
                example: Example {
                    query: "select list_sum([1.50, null, 2.25]) as sum, list_sum([null]) as of_nothing",
                    rows: &["sum | of_nothing", "3.75 | 0"],
                },
                returns: "`Decimal128(38, scale)`, `Int64` or `Float64` after the elements; 0 for a list without a \
                          number.",
                parts: &[],
                nulls: "null elements are skipped; null for a null list.",
                order: "floating-point elements are added in the order of the list; for others it does not matter.",
                ties: "",
                memory: "the result, and elements of narrower types once more as `Int64` or `Float64`.",
                errors: "a sum out of the range of its type, never a wrap; another type of element, at planning.",
                source: "our own.",
                differs: &[Unlike {
                    whom: "`array_sum` of the engine",
                    by: &[
                        "decimals are added exactly, where it adds them as floating-point numbers",
                        "a list without a number has the sum 0, where its is null",
                    ],
                }],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::logical_expr::ScalarUDF;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn run(sql: &str) -> Result<(DataType, String)> {
        let ctx = SessionContext::new();
        ctx.register_udf(ScalarUDF::from(ListSum::default()));
        let batches = ctx.sql(sql).await?.collect().await?;
        let table = pretty_format_batches(&batches)?.to_string();
        let cells = table.lines().skip(3).filter(|line| line.starts_with('|'));
        let cells = cells.map(|line| line.trim_matches(['|', ' ']).to_owned()).collect::<Vec<_>>().join(",");
        Ok((batches[0].schema().field(0).data_type().clone(), cells))
    }

    #[tokio::test]
    async fn every_type_of_number_has_its_sum() {
        let decimal = |element: &str| format!("arrow_cast({element}, 'Decimal128(18, 4)')");
        let decimals = format!("[{}, null, {}]", decimal("1.5"), decimal("2.25"));
        let cases = [
            (decimals.as_str(), DataType::Decimal128(38, 4), "3.7500"),
            ("[1, 2, null, 4]", DataType::Int64, "7"),
            ("arrow_cast([1, 2], 'List(UInt8)')", DataType::Int64, "3"),
            ("[0.5e0, 0.25e0]", DataType::Float64, "0.75"),
            ("arrow_cast([1, 2], 'LargeList(Int64)')", DataType::Int64, "3"),
            ("arrow_cast([], 'List(Int64)')", DataType::Int64, "0"),
            ("[arrow_cast(null, 'Int64'), null]", DataType::Int64, "0"),
            ("[]", DataType::Int64, "0"),
            ("null", DataType::Int64, ""),
        ];
        for (list, data_type, expected) in cases {
            let (returned, sum) = run(&format!("select list_sum({list})")).await.unwrap();
            assert_eq!((returned, sum.as_str()), (data_type, expected), "{list}");
        }
    }

    #[tokio::test]
    async fn each_row_of_a_slice_has_its_own_sum() {
        let sql = "select list_sum(numbers) from (values (1, [1, 2]), (2, [10]), (3, null), (4, [100, 200])) \
                   as lists(id, numbers) where id > 1 order by id";
        assert_eq!(run(sql).await.unwrap().1, "10,,300");
    }

    #[tokio::test]
    async fn a_sum_out_of_range_is_an_error() {
        let nines = "9".repeat(38);
        let decimals = format!("[arrow_cast('{nines}', 'Decimal128(38, 0)'), arrow_cast('1', 'Decimal128(38, 0)')]");
        for list in [decimals.as_str(), "[9223372036854775807, 1]"] {
            let error = run(&format!("select list_sum({list})")).await.unwrap_err();
            assert!(error.to_string().contains("the sum leaves the range"), "{error}");
        }
        assert!(run("select list_sum(['a'])").await.is_err());
        assert!(run("select list_sum(1)").await.is_err());
    }
}
