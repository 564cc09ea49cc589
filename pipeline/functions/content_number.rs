//! `content_number`: a number derived from content, whose sum tells one set of rows from another.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{AsArray, Int64Array};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use sha2::{Digest, Sha256};

use super::arguments::{TextColumn, coerce_text, expect_count};
use super::documentation::{Example, Manual, Section};

fn number_of(text: &str, number: i64) -> i64 {
    let digest = Sha256::new().chain_update(text).chain_update([0]).chain_update(number.to_be_bytes()).finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | i64::from(*byte))
}

/// The function `content_number`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ContentNumber {
    signature: Signature,
}

impl Default for ContentNumber {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ContentNumber {
    fn name(&self) -> &str {
        "content_number"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 2)?;
        if !types[1].is_integer() && !types[1].is_null() {
            return plan_err!("{}: expected a whole number, got {}", self.name(), types[1]);
        }
        Ok(vec![coerce_text(self.name(), &types[0])?, DataType::Int64])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = TextColumn::of_array(self.name(), &args.args[0].to_array(args.number_rows)?)?;
        let numbers = args.args[1].to_array(args.number_rows)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        let row = |(row, number): (usize, Option<i64>)| Some(number_of(texts.get(row)?, number?));
        let found: Int64Array = numbers.iter().enumerate().map(row).collect();
        Ok(ColumnarValue::Array(Arc::new(found)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Lists,
                syntax: &["content_number(text, number)"],
                summary: "Returns a number derived from content, whose sum over rows tells one set of rows from \
                          another.",
                details: "Different sums prove that two sets of rows differ. Equal sums make it all but certain that \
                          they are the same, but prove nothing: the numbers have 64 bits, and one who may choose the \
                          rows can make sums equal. Sum in a type that holds every sum, as \
                          `sum(cast(content_number(…) as decimal(38, 0)))`.",
                arguments: &[
                    ("text", "Text, such as an id."),
                    ("number", "Whole number, such as a time in microseconds; hashed with the text."),
                ],
                example: Example {
                    query: "
                        select content_number('e-1', 7) as number,
                          sum(cast(content_number(id, 7) as decimal(38, 0))) as of_both
                        from (values ('e-1'), ('e-2')) as events(id)
                    ",
                    rows: &["number | of_both", "7337036235835574645 | 6482471642288535158"],
                },
                returns: "`Int64`: the first 8 bytes of sha256(text, a zero byte, number as 8 bytes with the highest \
                          first), of either sign.",
                parts: &[],
                nulls: "null when either argument is, and a sum passes over it: rows that only differ in such do not \
                        change a sum.",
                order: "none: a row is answered by itself, and sums do not depend on the order of rows.",
                ties: "",
                memory: "8 bytes per row.",
                errors: "arguments of other types, at planning.",
                source: "our own; SHA-256 is FIPS 180-4.",
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
    async fn text_and_number_both_count() {
        let sql = "select count(distinct content_number(text, number)), count(content_number(text, number)), count(*) \
                   from (values ('a', 1), ('a', 2), ('b', 1), ('', -1), ('a', 1), (null, 1), ('a', null)) as t(text, number)";
        assert_eq!(rows_of(sql).await, ["4 | 5 | 7"]);
    }

    #[tokio::test]
    async fn it_is_the_head_of_the_hash() {
        // printf 'e-1\0\0\0\0\0\0\0\0\7' | sha256sum | cut -c1-16
        assert_eq!(rows_of("select to_hex(content_number('e-1', 7))").await, ["65d263954d260975"]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [("'a'", "expected 2 arguments"), ("'a', 'b'", "whole number"), ("1, 1", "text")] {
            let error = error_of(&format!("select content_number({arguments})")).await;
            assert!(error.contains("content_number: ") && error.contains(message), "{arguments}: {error}");
        }
    }
}
