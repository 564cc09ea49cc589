//! A table and the changes over it, read as one.
//!
//! Each layer is scanned by itself, and a row is kept unless a change above has its key. That takes one look-up per row
//! in a table of all keys that were ever replaced, about 60 bytes each.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::{DataFrame, SessionContext, ident, lit};
use hashbrown::HashMap;

use super::changes::{FILES, Over};
use super::keys::{self, Sieve};
use crate::delta::{Snapshot, Table};
use crate::error::Result;
use crate::lake::Lake;

/// The rows of `table` with what lies over it.
pub async fn provider(
    ctx: &SessionContext,
    lake: &Lake,
    folder: &str,
    table: &Table,
    over: &Over,
) -> Result<Arc<dyn TableProvider>> {
    let mut replaced_in = HashMap::with_hasher(foldhash::fast::RandomState::default());
    for (number, layer) in (1u32..).zip(&over.layers) {
        for keys in keys::read_all(lake, layer.keys.as_ref()).await? {
            for key in keys.iter().flatten() {
                *replaced_in.entry_ref(key).or_insert(0) = number;
            }
        }
    }
    let is_current = ScalarUDF::from(IsCurrent {
        sieve: Sieve::of(replaced_in.keys().map(String::as_str)),
        replaced_in: Arc::new(replaced_in),
        signature: Signature::any(2, Volatility::Immutable),
    });
    let mut layers: Vec<(u32, Arc<dyn TableProvider>)> = Vec::with_capacity(over.layers.len() + 1);
    if !over.replaces_all {
        layers.push((0, table.provider(lake, folder)?));
    }
    let schema = table.schema()?;
    for (number, layer) in (1u32..).zip(&over.layers) {
        layers.push((number, Arc::new(Snapshot::new(lake, FILES, &schema, &[], layer.parts.clone())?)));
    }
    let top = over.layers.len() as u32;
    let mut all: Option<DataFrame> = None;
    for (number, provider) in layers {
        let mut rows = ctx.read_table(provider)?;
        if number < top {
            rows = rows.filter(is_current.call(vec![ident(&over.key), lit(number)]))?;
        }
        all = Some(match all {
            Some(above) => above.union(rows)?,
            None => rows,
        });
    }
    match all {
        Some(all) => Ok(all.into_view()),
        // Every row of the table was replaced by nothing at all.
        None => Ok(Arc::new(Snapshot::new(lake, FILES, &schema, &[], Vec::new())?)),
    }
}

/// Whether no change above a layer has replaced the rows of a key: `is_current(key, layer)`.
#[derive(Debug)]
struct IsCurrent {
    sieve: Sieve,
    /// The last change that has replaced the rows of each key.
    replaced_in: Arc<HashMap<String, u32, foldhash::fast::RandomState>>,
    signature: Signature,
}

/// Two are equal when they are of one set of changes.
impl PartialEq for IsCurrent {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.replaced_in, &other.replaced_in)
    }
}

impl Eq for IsCurrent {}

impl Hash for IsCurrent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.replaced_in).addr().hash(state);
    }
}

impl ScalarUDFImpl for IsCurrent {
    fn name(&self) -> &str {
        "is_current"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> datafusion::error::Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> datafusion::error::Result<ColumnarValue> {
        let layer = match &arguments.args[1] {
            ColumnarValue::Scalar(datafusion::common::ScalarValue::UInt32(Some(layer))) => *layer,
            other => return datafusion::common::exec_err!("is_current: the layer is {other:?}"),
        };
        let column = arguments.args[0].to_array(arguments.number_rows)?;
        let is_current = |key: &str| {
            !self.sieve.passes(key) || self.replaced_in.get(key).is_none_or(|replaced_in| *replaced_in <= layer)
        };
        let current = keys::test_each(&column, is_current);
        let current = current.map_err(|error| datafusion::error::DataFusionError::External(error.into()))?;
        Ok(ColumnarValue::Array(Arc::new(current) as ArrayRef))
    }
}
