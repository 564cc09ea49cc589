//! A table and the changes over it, read as one.
//!
//! One scan goes over the files of the table and of all layers, and a row is kept unless a change above has its key. That takes
//! one look-up per row in a table of all keys that were ever replaced, about 60 bytes each.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, UInt32Type};
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::ident;
use hashbrown::HashMap;

use super::changes::{FILES, Over};
use super::keys::{self, Sieve};
use crate::delta::{Snapshot, Table};
use crate::error::Result;
use crate::lake::Lake;

/// The rows of `table` with what lies over it.
pub async fn provider(lake: &Lake, folder: &str, table: &Table, over: &Over) -> Result<Arc<dyn TableProvider>> {
    let mut replaced_in = HashMap::with_hasher(foldhash::fast::RandomState::default());
    for (number, layer) in (1u32..).zip(&over.layers) {
        for keys in keys::read_all(lake, layer.keys.as_ref()).await? {
            for key in keys.iter().flatten() {
                *replaced_in.entry_ref(key).or_insert(0) = number;
            }
        }
    }
    let of_table = if over.replaces_all { Vec::new() } else { table.files()? };
    let mut layers = vec![(folder, of_table)];
    layers.extend(over.layers.iter().map(|layer| (FILES, layer.parts.clone())));
    let condition = |layer| {
        let is_current = IsCurrent {
            sieve: Sieve::of(replaced_in.keys().map(String::as_str)),
            replaced_in: Arc::new(replaced_in),
            signature: Signature::any(2, Volatility::Immutable),
        };
        // Where all rows were replaced and none since, there may be no column of keys.
        let is_replaced = !is_current.replaced_in.is_empty();
        is_replaced.then(|| ScalarUDF::from(is_current).call(vec![ident(&over.key), layer]))
    };
    Ok(Arc::new(Snapshot::layered(lake, &*table.schema()?, layers, condition)?))
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
        let column = arguments.args[0].to_array(arguments.number_rows)?;
        // Where the layer is the same in all rows, as in those of a file, it is told once.
        let layers = match &arguments.args[1] {
            ColumnarValue::Scalar(layer) => layer.to_array()?,
            ColumnarValue::Array(layers) => layers.clone(),
        };
        let layers = layers.as_primitive::<UInt32Type>().values();
        let is_current = |row: usize, key: &str| {
            let layer = layers[if layers.len() == 1 { 0 } else { row }];
            !self.sieve.passes(key) || self.replaced_in.get(key).is_none_or(|replaced_in| *replaced_in <= layer)
        };
        let current = keys::test_each(&column, is_current);
        let current = current.map_err(|error| DataFusionError::External(error.into()))?;
        Ok(ColumnarValue::Array(Arc::new(current)))
    }
}
