//! Functions that make much of little (`repeat('a', 1000000000)`) give no more than fits. What they make is no part of the
//! memory that the engine counts, so without a bound one call could end the process.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::prelude::SessionContext;

/// Bytes of text, or elements of lists, that a call may make of the rows of a batch.
const MOST: i128 = 1 << 28;

/// Puts bounded functions in place of those of a session.
pub fn register(ctx: &SessionContext) {
    let functions = ctx.state().scalar_functions().clone();
    for name in ["lpad", "rpad", "repeat", "range", "generate_series", "array_repeat"] {
        let Some(inner) = functions.get(name).cloned() else { continue };
        ctx.register_udf(ScalarUDF::from(Bounded { inner }));
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

impl Bounded {
    /// How much a call would make; 0 where that cannot be told.
    fn size(&self, args: &ScalarFunctionArgs) -> Result<i128> {
        let numbers = |at: usize| -> Result<Option<ArrayRef>> {
            match args.args.get(at) {
                Some(argument) if argument.data_type().is_integer() => {
                    Ok(Some(cast(&argument.to_array(args.number_rows)?, &DataType::Int64)?))
                }
                _ => Ok(None),
            }
        };
        let value = |numbers: &ArrayRef, row: usize| i128::from(numbers.as_primitive::<Int64Type>().value(row));
        let mut size = 0;
        match self.inner.name() {
            "range" | "generate_series" => {
                let (first, second, step) = (numbers(0)?, numbers(1)?, numbers(2)?);
                let Some(first) = first else { return Ok(0) };
                for row in 0..first.len() {
                    let (start, stop) = match &second {
                        Some(second) => (value(&first, row), value(second, row)),
                        None => (0, value(&first, row)),
                    };
                    let step = step.as_ref().map_or(1, |step| value(step, row)).abs().max(1);
                    size += (stop - start).abs() / step;
                }
            }
            "repeat" => {
                let Some(counts) = numbers(1)? else { return Ok(0) };
                let texts = cast(&args.args[0].to_array(args.number_rows)?, &DataType::LargeUtf8)?;
                for (row, text) in texts.as_string::<i64>().iter().enumerate() {
                    size += value(&counts, row).max(0) * text.map_or(0, str::len) as i128;
                }
            }
            _ => {
                let Some(counts) = numbers(1)? else { return Ok(0) };
                size = (0..counts.len()).map(|row| value(&counts, row).max(0)).sum();
            }
        }
        Ok(size)
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let size = self.size(&args)?;
        if size > MOST {
            return exec_err!("{}: expected to make at most {MOST} of some rows, not {size}", self.inner.name());
        }
        self.inner.invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;

    use super::*;
    use crate::engine;

    async fn answer(sql: &str) -> Result<String, String> {
        let ctx = SessionContext::new();
        register(&ctx);
        let query = engine::query(&ctx, sql).await.map_err(|error| error.to_string())?;
        let rows = query.collect().await.map_err(|error| error.to_string())?;
        Ok(array_value_to_string(rows[0].column(0), 0).unwrap())
    }

    #[tokio::test]
    async fn what_would_be_far_too_much_is_refused_before_it_is_made() {
        for sql in [
            "select length(rpad('a', 1000000000))",
            "select length(lpad('a', 1000000000, 'xy'))",
            "select length(repeat('abc', 100000000))",
            "select sum(length(repeat('a', value * 100000))) from generate_series(1, 8000)",
            "select array_length(range(1, 10000000000))",
            "select array_length(generate_series(10000000000))",
            "select array_length(array_repeat('a', 1000000000))",
        ] {
            let said = answer(sql).await.unwrap_err();
            assert!(said.contains("expected to make at most"), "{sql}: {said}");
        }
    }

    #[tokio::test]
    async fn what_fits_is_made_as_before() {
        for (sql, expected) in [
            ("select rpad('a', 3, 'xy')", "axy"),
            ("select lpad(null, 3)", ""),
            ("select repeat('ab', 2)", "abab"),
            ("select range(0, 10, 5)", "[0, 5]"),
            ("select range(3)", "[0, 1, 2]"),
            ("select generate_series(3, 1, -1)", "[3, 2, 1]"),
            ("select array_repeat(1, 2)", "[1, 1]"),
            ("select array_length(range(date '2025-01-01', date '2025-02-01', interval '1 day'))", "31"),
            ("select count(*) from generate_series(1, 300000000)", "300000000"),
        ] {
            assert_eq!(answer(sql).await.as_deref(), Ok(expected), "{sql}");
        }
    }
}
