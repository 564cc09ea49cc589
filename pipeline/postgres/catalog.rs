//! The tables that clients see: a session over the newest state of the lake, beside the catalog of PostgreSQL.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::setup_pg_catalog;
use tokio::sync::Mutex;

use super::comments::{Commented, Comments, Description, Numbered, PG_CLASS};
use crate::dictionary::{Column, Dictionary};
use crate::engine;
use crate::error::{Error, Result};
use crate::functions;
use crate::reader::{Opened, Reader};

/// Name of the database.
const DATABASE: &str = "wayline";
const SCHEMA: &str = "public";
const PG_CATALOG: &str = "pg_catalog";
/// What landed as it was sent, and the identifiers behind customers: not for everybody who may read marts.
const HIDDEN: [&str; 2] = ["events", "dead_letters"];
const HIDDEN_FAMILY: &str = "identity_";
const HIDDEN_COLUMNS: [&str; 2] = ["identifiers", "identity_key"];
/// What clients ask for the version of: a PostgreSQL whose SQL they then speak.
const VERSION: &str = concat!("PostgreSQL 16.6 (wayline ", env!("CARGO_PKG_VERSION"), ")");
/// Settings that drivers ask for.
const SETTINGS: [(&str, &str); 7] = [
    ("server_version", "16.6"),
    ("server_version_num", "160006"),
    ("search_path", "public"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "on"),
    ("transaction_read_only", "on"),
    ("timezone", "UTC"),
];

/// Makes a session for each state of the lake. The catalog of PostgreSQL is one for all of them, so that a table keeps its
/// number.
pub struct Catalog {
    reader: Reader,
    base: SessionContext,
    pg_catalog: Arc<dyn SchemaProvider>,
    comments: Comments,
    newest: Mutex<Option<(Arc<Opened>, SessionContext)>>,
    /// Of the models with these statements.
    dictionary: Mutex<Option<(Vec<String>, Dictionary)>>,
}

impl Catalog {
    /// Opens a project's lake.
    pub async fn open(reader: Reader) -> Result<Self> {
        let opened = reader.opened().await?;
        let base = engine::beside(opened.ctx());
        setup_pg_catalog(&base, DATABASE, EmptyContextProvider).map_err(|error| Error::from(*error))?;
        // The library builds its session anew, which puts functions of the engine in place of ours of the same name.
        for function in functions::scalar_functions() {
            base.register_udf(function.as_ref().clone());
        }
        engine::bound_functions(&base);
        let comments = Comments::default();
        base.register_udf(ScalarUDF::from(Description::of_tables(comments.clone())));
        base.register_udf(ScalarUDF::from(Description::of_columns(comments.clone())));
        base.register_udf(constant("version", VERSION));
        base.register_udf(current_setting());
        base.register_udf(unknown_size("pg_table_size", DataType::Int64, ScalarValue::Int64(None)));
        base.register_udf(unknown_size("pg_size_pretty", DataType::Utf8, ScalarValue::Utf8(None)));
        let catalog = base.catalog(DATABASE).and_then(|catalog| catalog.schema(PG_CATALOG));
        let catalog = catalog.ok_or_else(|| Error::internal("the catalog of PostgreSQL is not there"))?;
        let pg_catalog = Arc::new(Commented { catalog, comments: comments.clone() });
        let (newest, dictionary) = (Mutex::new(None), Mutex::new(None));
        let catalog = Self { reader, base, pg_catalog, comments, newest, dictionary };
        catalog.session().await?;
        Ok(catalog)
    }

    /// A session over the newest state.
    pub async fn session(&self) -> Result<SessionContext> {
        let opened = self.reader.opened().await?;
        let mut newest = self.newest.lock().await;
        if let Some((of, session)) = &*newest
            && Arc::ptr_eq(of, &opened)
        {
            return Ok(session.clone());
        }
        let session = self.session_over(&opened).await?;
        *newest = Some((opened, session.clone()));
        Ok(session)
    }

    async fn session_over(&self, opened: &Opened) -> Result<SessionContext> {
        let session = engine::beside(&self.base);
        let tables = Arc::new(MemorySchemaProvider::new());
        let listed = self.base.catalog(DATABASE).and_then(|catalog| catalog.schema(SCHEMA));
        let listed = listed.ok_or_else(|| Error::internal("the schema of tables is not there"))?;
        let shown: Vec<String> = engine::table_names(opened.ctx()).into_iter().filter(|name| is_shown(name)).collect();
        for name in listed.table_names().iter().filter(|name| !shown.contains(name)) {
            listed.deregister_table(name)?;
        }
        for name in shown {
            let table = without_identifiers(&session, opened.ctx().table_provider(name.as_str()).await?)?;
            listed.deregister_table(&name)?;
            listed.register_table(name.clone(), table.clone())?;
            tables.register_table(name, table)?;
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, tables)?;
        catalog.register_schema(PG_CATALOG, self.pg_catalog.clone())?;
        session.register_catalog(DATABASE, Arc::new(catalog));
        let statements = statements(opened);
        let mut dictionary = self.dictionary.lock().await;
        if dictionary.as_ref().is_none_or(|(of, _)| *of != statements) {
            *dictionary = Some((statements, opened.dictionary().await?));
        }
        if let Some((_, dictionary)) = &*dictionary {
            self.comments.replace(comments(&session, dictionary).await?);
        }
        Ok(session)
    }
}

/// A table without the columns that say who somebody is.
fn without_identifiers(session: &SessionContext, table: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let schema = table.schema();
    let hidden: Vec<&str> = HIDDEN_COLUMNS.into_iter().filter(|name| schema.field_with_name(name).is_ok()).collect();
    match hidden.is_empty() {
        true => Ok(table),
        false => Ok(session.read_table(table)?.drop_columns(&hidden)?.into_view()),
    }
}

/// Whether clients see a table.
fn is_shown(name: &str) -> bool {
    !HIDDEN.contains(&name) && !name.starts_with(HIDDEN_FAMILY)
}

/// What makes a dictionary: one is made anew when a model is another.
fn statements(opened: &Opened) -> Vec<String> {
    opened.graph.models.iter().map(|model| format!("{}\n{}", model.name, model.sql)).collect()
}

/// Comments of tables and columns by the numbers that the catalog gave them.
async fn comments(session: &SessionContext, dictionary: &Dictionary) -> Result<Numbered> {
    let sql = "select oid, relname from pg_catalog.pg_class";
    let mut numbered = Numbered::default();
    for batch in session.sql(sql).await?.collect().await? {
        let numbers = batch.column(0).as_primitive::<Int32Type>();
        let names = arrow::compute::cast(batch.column(1), &DataType::Utf8)?;
        for (number, name) in numbers.iter().zip(names.as_string::<i32>()) {
            let Some(number) = number else { continue };
            if name == Some(PG_CLASS) {
                numbered.catalog = number;
            }
            let Some(table) = dictionary.tables.iter().find(|table| Some(table.name.as_str()) == name) else {
                continue;
            };
            numbered.comments.insert((number, 0), table.description.clone());
            let schema = session.table_provider(table.name.as_str()).await?.schema();
            for (position, field) in (1..).zip(schema.fields()) {
                let column = table.columns.iter().find(|column| column.name == *field.name());
                if let Some(comment) = column.map(Column::comment).filter(|comment| !comment.is_empty()) {
                    numbered.comments.insert((number, position), comment);
                }
            }
        }
    }
    Ok(numbered)
}

/// A function without arguments that always answers the same.
fn constant(name: &str, value: &'static str) -> ScalarUDF {
    let answer = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(value.into()))));
    create_udf(name, vec![], DataType::Utf8, Volatility::Stable, Arc::new(answer))
}

/// A function that tells the size of a table, or how a size reads; null, since sizes are told by `wayline status`.
fn unknown_size(name: &str, answers: DataType, answer: ScalarValue) -> ScalarUDF {
    let answer = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(answer.clone()));
    create_udf(name, vec![DataType::Int64], answers, Volatility::Stable, Arc::new(answer))
}

/// `current_setting(name)`; null for a setting that is not known.
fn current_setting() -> ScalarUDF {
    let answer = |arguments: &[ColumnarValue]| {
        let arguments = ColumnarValue::values_to_arrays(arguments)?;
        let values = arguments[0].as_string::<i32>().iter().map(|name| {
            let name = name?.to_lowercase();
            SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
        });
        let values = values.collect::<arrow::array::StringArray>();
        Ok(ColumnarValue::Array(Arc::new(values)))
    };
    create_udf("current_setting", vec![DataType::Utf8], DataType::Utf8, Volatility::Stable, Arc::new(answer))
}
