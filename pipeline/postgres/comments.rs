//! Comments of tables and columns where clients of PostgreSQL look for them: the table `pg_description` and the
//! functions `obj_description` and `col_description`.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, RwLock};

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

/// The catalog of tables, to which comments belong.
pub const PG_CLASS: &str = "pg_class";
/// How the library marks a column that holds the number of a thing.
const OID_MARK: (&str, &str) = ("pg.oid_alias", "oid");
const DESCRIPTIONS: &str = "pg_description";

/// Comments, and the number of the catalog that they belong to.
#[derive(Debug, Default, Clone)]
pub struct Comments(Arc<RwLock<Numbered>>);

/// Comments by the number of a table and of its column; 0 is the table itself.
#[derive(Debug, Default)]
pub struct Numbered {
    /// Number of [`PG_CLASS`].
    pub catalog: i32,
    /// The comments.
    pub comments: BTreeMap<(i32, i32), String>,
}

impl Comments {
    /// Puts others in place of all.
    pub fn replace(&self, comments: Numbered) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = comments;
    }

    fn get(&self, table: i64, column: i64) -> Option<String> {
        let key = (i32::try_from(table).ok()?, i32::try_from(column).ok()?);
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).comments.get(&key).cloned()
    }

    /// `pg_description`.
    fn table(&self) -> Result<Arc<dyn TableProvider>> {
        let numbered = |name: &str| {
            let mark = [(OID_MARK.0.to_string(), OID_MARK.1.to_string())];
            Field::new(name, DataType::Int32, false).with_metadata(mark.into())
        };
        let schema = Arc::new(Schema::new(vec![
            numbered("objoid"),
            numbered("classoid"),
            Field::new("objsubid", DataType::Int32, false),
            Field::new("description", DataType::Utf8, false),
        ]));
        let Numbered { catalog, comments } = &*self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values(comments.keys().map(|(table, _)| *table))),
            Arc::new(Int32Array::from_iter_values(comments.keys().map(|_| *catalog))),
            Arc::new(Int32Array::from_iter_values(comments.keys().map(|(_, column)| *column))),
            Arc::new(StringArray::from_iter_values(comments.values())),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }
}

/// The catalog of PostgreSQL with our comments.
#[derive(Debug)]
pub struct Commented {
    pub catalog: Arc<dyn SchemaProvider>,
    pub comments: Comments,
}

#[async_trait]
impl SchemaProvider for Commented {
    fn table_names(&self) -> Vec<String> {
        self.catalog.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match name {
            DESCRIPTIONS => Ok(Some(self.comments.table()?)),
            _ => self.catalog.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.table_exist(name)
    }
}

/// `obj_description(table[, catalog])` and `col_description(table, column)`.
#[derive(Debug)]
pub struct Description {
    name: &'static str,
    signature: Signature,
    comments: Comments,
}

impl Description {
    pub fn of_tables(comments: Comments) -> Self {
        let forms = [vec![DataType::Int64], vec![DataType::Int64, DataType::Utf8]];
        let forms = forms.map(TypeSignature::Exact).to_vec();
        Self { name: "obj_description", signature: Signature::one_of(forms, Volatility::Stable), comments }
    }

    pub fn of_columns(comments: Comments) -> Self {
        let signature = Signature::exact(vec![DataType::Int64, DataType::Int64], Volatility::Stable);
        Self { name: "col_description", signature, comments }
    }
}

impl PartialEq for Description {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.comments.0, &other.comments.0)
    }
}

impl Eq for Description {}

impl Hash for Description {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Description {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arguments = ColumnarValue::values_to_arrays(&args.args)?;
        let tables = arguments[0].as_primitive::<Int64Type>();
        let columns = arguments.get(1).and_then(|columns| columns.as_primitive_opt::<Int64Type>());
        let texts = (0..tables.len()).map(|row| {
            let column = columns.map_or(0, |columns| columns.value(row));
            self.comments.get(tables.value(row), column)
        });
        Ok(ColumnarValue::Array(Arc::new(texts.collect::<StringArray>())))
    }
}
