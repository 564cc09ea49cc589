//! A filter for the rows whose text is one of many.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};
use datafusion::logical_expr::{Signature, Volatility};
use hashbrown::HashSet;

use super::keys::{self, Sieve};

/// Whether a text holds one of `texts`. Unlike `in (…)` it costs no planning per text, and a scan can decide by it
/// which rows of the other columns to read.
pub fn is_one_of(text: Expr, texts: Arc<HashSet<String>>) -> Expr {
    let sieve = Sieve::of(texts.iter().map(String::as_str));
    ScalarUDF::from(OneOf { signature: Signature::any(1, Volatility::Immutable), sieve, texts }).call(vec![text])
}

/// Whether a filter is one that [`is_one_of`] gives, of a column.
pub fn is_one(filter: &Expr) -> bool {
    match filter {
        Expr::ScalarFunction(call) => {
            (call.func.inner().as_ref() as &dyn Any).is::<OneOf>() && matches!(call.args[..], [Expr::Column(_)])
        }
        _ => false,
    }
}

#[derive(Debug)]
struct OneOf {
    signature: Signature,
    sieve: Sieve,
    texts: Arc<HashSet<String>>,
}

impl PartialEq for OneOf {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.texts, &other.texts)
    }
}

impl Eq for OneOf {}

impl Hash for OneOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.texts.len().hash(state);
    }
}

impl ScalarUDFImpl for OneOf {
    fn name(&self) -> &str {
        "is_one_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let column = args.args[0].to_array(args.number_rows)?;
        let is_one = keys::test_each(&column, |_, text| self.sieve.passes(text) && self.texts.contains(text));
        let is_one = is_one.map_err(|error| DataFusionError::External(error.into()))?;
        Ok(ColumnarValue::Array(Arc::new(is_one)))
    }
}
