//! `list_any`: whether any element of a list is true.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, coerce_booleans, expect_count, to_booleans};
use super::documentation::{Example, Manual, Section, Unlike};

/// The function `list_any`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ListAny {
    signature: Signature,
}

impl Default for ListAny {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ListAny {
    fn name(&self) -> &str {
        "list_any"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 1)?;
        Ok(vec![coerce_booleans(self.name(), &types[0])?])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        let elements = to_booleans(self.name(), &lists.values)?;
        let any = BooleanBuffer::collect_bool(lists.len(), |row| {
            lists.span(row).any(|position| elements.is_valid(position) && elements.value(position))
        });
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(any, lists.nulls))))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Lists,
                syntax: &["list_any(list)"],
                summary: "Tells whether any element of a list of booleans is true.",
                details: "",
                arguments: &[("list", "List of booleans.")],
                example: Example {
                    query: "select list_any([false, null, true]) as any, list_any([false, null]) as none",
                    rows: &["any | none", "true | false"],
                },
                returns: "boolean; false for an empty list.",
                parts: &[],
                nulls: "a null element counts as false; null for a null list.",
                order: "none.",
                ties: "",
                memory: "a bit per list.",
                errors: "another type of element, at planning.",
                source: "our own.",
                differs: &[Unlike {
                    whom: "`true = any(list)` of SQL",
                    by: &["null elements are false, where it is null if no element is true and one is null"],
                }],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::logical_expr::ScalarUDF;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn any_is_true_with_one_true_element() {
        let ctx = SessionContext::new();
        ctx.register_udf(ScalarUDF::from(ListAny::default()));
        let sql = "select list_any(flags) from (values (0, [true]), (1, [false, true]), (2, [false, null]), \
                   (3, null), (4, arrow_cast([], 'List(Boolean)'))) as lists(id, flags) where id > 0 order by id";
        let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let any: Vec<_> = batches.iter().flat_map(|batch| batch.column(0).as_boolean().iter()).collect();
        assert_eq!(any, vec![Some(true), Some(false), None, Some(false)]);
        assert!(ctx.sql("select list_any([1])").await.is_err());
    }
}
