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
use super::one_of;
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
    let all = Snapshot::layered(lake, &*table.schema()?, layers, condition, one_of::is_one)?;
    Ok(Arc::new(if table.is_counted()? { all } else { all.with_unknown_rows() }))
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
        let layers = layers.as_primitive_opt::<UInt32Type>();
        let layers =
            layers.ok_or_else(|| DataFusionError::Execution("is_current: a layer is a number".into()))?.values();
        let is_current = |row: usize, key: &str| {
            let layer = layers[if layers.len() == 1 { 0 } else { row }];
            !self.sieve.passes(key) || self.replaced_in.get(key).is_none_or(|replaced_in| *replaced_in <= layer)
        };
        let current = keys::test_each(&column, is_current);
        let current = current.map_err(|error| DataFusionError::External(error.into()))?;
        Ok(ColumnarValue::Array(Arc::new(current)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::delta::Pages;
    use crate::derived::build::build;
    use crate::derived::changes::{Changes, Layer, writer};
    use crate::derived::one_of::is_one_of;
    use crate::derived::{BuiltFrom, Derived};

    type Line<'a> = (Option<&'a str>, i64);

    fn batch(rows: &[Line]) -> RecordBatch {
        let keys: StringArray = rows.iter().map(|(key, _)| *key).collect();
        let numbers = Int64Array::from_iter_values(rows.iter().map(|(_, number)| *number));
        RecordBatch::try_from_iter_with_nullable([
            ("key", Arc::new(keys) as arrow::array::ArrayRef, true),
            ("n", Arc::new(numbers), true),
        ])
        .unwrap()
    }

    #[tokio::test]
    async fn a_table_with_changes_over_it_answers_as_its_rows_in_memory() {
        for (pushes_filters_down, partitions) in [(false, 1), (true, 1), (true, 4)] {
            let mut config = SessionConfig::new().with_target_partitions(partitions);
            config.options_mut().execution.parquet.pushdown_filters = pushes_filters_down;
            let ctx = SessionContext::new_with_config(config);
            let lake = Lake::open(Path::new("."), "memory:///layers").unwrap();
            ctx.register_object_store(lake.url(), lake.store().clone());
            let (mut changes, built_from) = (Changes::default(), BuiltFrom::now("", &[], &BTreeMap::new()));
            let below = batch(&[(Some("a"), 0), (Some("b"), 2), (None, 3), (Some("c"), 4), (Some("d"), 0)]);
            build(&lake, "t", None, ctx.read_batch(below).unwrap(), &built_from, Pages::Small).await.unwrap();
            // The second time of "d" nothing of it is left.
            let layers: [(&[&str], &[Line]); 3] = [
                (&["a", "", "d"], &[(Some("a"), 0), (None, 5), (Some("d"), 0), (Some("d"), 6)]),
                (&["a", "d"], &[(Some("a"), 1)]),
                (&["e"], &[(Some("e"), 7)]),
            ];
            for (keys, rows) in layers {
                let mut writer = writer(&lake, "t", batch(rows).schema());
                writer.write(&batch(rows)).await.unwrap();
                let keys = Some(keys::write(&lake, "t", keys.iter().copied()).await.unwrap());
                let layer = Layer { keys, parts: writer.finish().await.unwrap(), removed: Vec::new() };
                let table = Derived::open(&lake, &changes, "t").await.unwrap().unwrap().table;
                changes.lay("t", (table.id().unwrap(), table.version()), "key", built_from.clone(), Some(layer));
            }
            let table = Derived::open(&lake, &changes, "t").await.unwrap().unwrap();
            ctx.register_table("stored", table.provider(&ctx).await.unwrap()).unwrap();
            let rows = [(Some("a"), 1), (Some("b"), 2), (None, 5), (Some("c"), 4), (Some("e"), 7)];
            ctx.register_batch("held", batch(&rows)).unwrap();
            let answers = async |query: &str| {
                let mut answers = Vec::new();
                for table in ["stored", "held"] {
                    let frame = ctx.sql(&query.replace("from t", &format!("from {table}"))).await.unwrap();
                    let rows = frame.collect().await.unwrap_or_else(|error| panic!("{query}: {error}"));
                    answers.push(arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string());
                }
                answers
            };
            for query in [
                "select * from t order by n",
                "select n from t order by n",
                "select count(*) from t",
                "select count(*) from t where n > 3",
                "select key from t where n > 3 order by key",
                "select n from t where key = 'a' or key is null order by n",
                "select key from t where n > 1 order by key nulls first limit 2",
                "select count(*) from (select n from t where n > 1 limit 2) as some",
                "select count(*) from (select 1 from t limit 3) as some",
                "select one.n from t as one join held using (key) where held.n > 1 order by one.n",
            ] {
                let [stored, held] = &answers(query).await[..] else { unreachable!("two were asked") };
                assert_eq!(stored, held, "{query}, {pushes_filters_down}, {partitions}");
            }
            if pushes_filters_down {
                // Of rows that are there no more it would fail, of which it may be asked where filters are not pushed down.
                let query = "select key from t where 10 / n > 1 order by key";
                let [stored, held] = &answers(query).await[..] else { unreachable!("two were asked") };
                assert_eq!(stored, held);
            }
            let wanted = Arc::new(["a", "d", "e"].map(String::from).into_iter().collect());
            let some = ctx.table("stored").await.unwrap().filter(is_one_of(ident("key"), wanted)).unwrap();
            let some = some.sort(vec![ident("n").sort(true, false)]).unwrap().collect().await.unwrap();
            let some = arrow::compute::concat_batches(&some[0].schema(), &some).unwrap();
            assert_eq!(some.column(1).as_ref(), &Int64Array::from(vec![1, 7]));
        }
    }
}
