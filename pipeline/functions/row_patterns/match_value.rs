//! `match_value`: the place of a value that only `match_rows` knows, inside a condition of `match_recognize`.
//!
//! A condition such as `price <= a.price` cannot be computed before the match. It stands in the plan as
//! `match_value(0, null) <= match_value(1, null)`, an argument of `match_rows`, which computes it again with the values
//! in place. Being volatile, the calls stay where they are: no rule of the optimizer computes them, or takes a common
//! part of two conditions out of the arguments.
//!
//! Usage: `match_value(number, type)`
//! Returns: null, of the type of its second argument.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::super::documentation::internal;

/// The name of the function.
pub(super) const NAME: &str = "match_value";

/// The function `match_value`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MatchValue {
    signature: Signature,
}

impl Default for MatchValue {
    fn default() -> Self {
        Self { signature: Signature::any(2, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for MatchValue {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[1].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(NAME, args.arg_fields[1].data_type().clone(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::try_new_null(args.return_field.data_type())?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            internal(
                "A part of the plans of match_recognize: the place of a value that is known while rows are matched; \
                 null anywhere else.",
                "match_value(number, type)",
            )
        });
        Some(&DOCUMENTATION)
    }
}
