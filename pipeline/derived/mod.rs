//! Derived tables: Delta tables that are replaced whole, each with a record of what it was built from.

mod built_from;
pub mod storage;

pub use built_from::{BUILT_FROM, BuiltFrom, Stale};

use arrow::datatypes::SchemaRef;

use crate::delta::{self, Change, Part, Table};
use crate::error::Result;
use crate::lake::Lake;

/// Application of the commits that build tables; its number counts the builds.
const APPLICATION: &str = "wayline.build";

/// What a build wrote.
#[derive(Debug, Clone, Copy, Default)]
pub struct Built {
    /// Rows of the table.
    pub rows: usize,
    /// Bytes of its files.
    pub bytes: u64,
}

/// The record of what a table was built from; `None` when it has none that can be read.
pub fn built_from(table: Option<&Table>) -> Result<Option<BuiltFrom>> {
    match table {
        Some(table) => Ok(table.property(BUILT_FROM)?.and_then(|json| serde_json::from_str(&json).ok())),
        None => Ok(None),
    }
}

/// Commits parts as the whole content of a table.
pub async fn replace(
    lake: &Lake,
    folder: &str,
    table: Option<&Table>,
    schema: SchemaRef,
    parts: Vec<Part>,
    built_from: &BuiltFrom,
    failpoint: &'static str,
) -> Result<Built> {
    let built =
        Built { rows: parts.iter().map(|part| part.rows).sum(), bytes: parts.iter().map(|part| part.size).sum() };
    let last = match table {
        Some(table) => table.transaction(APPLICATION).await?.unwrap_or(0),
        None => 0,
    };
    let change = Change {
        transaction: (APPLICATION.into(), last + 1),
        schema,
        partition_by: Vec::new(),
        properties: vec![(BUILT_FROM.into(), built_from.to_json())],
        replace: true,
        parts,
        failpoint,
    };
    delta::commit(lake, folder, table, change).await?.version()?;
    Ok(built)
}
