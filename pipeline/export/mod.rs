//! Starters for tools that read the marts, written from the dictionary: files to begin with, the user's own from then on.

mod dbt;
mod duckdb;
mod evidence;
mod grafana;
mod powerbi;
mod questions;

use clap::ValueEnum;

use crate::dictionary::{Column, Dictionary, Table};
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::marts::Catalog;

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// views.sql: a view with comments for each mart
    Duckdb,
    /// sources.yml for dbt-duckdb: columns, tests and freshness
    DbtSources,
    /// A dashboard and its provisioning, over `wayline serve --postgres`
    Grafana,
    /// Sources and a page of Evidence, over DuckDB
    Evidence,
    /// A Power Query (M) for each mart
    Powerbi,
}

impl Tool {
    /// Folder that its files go to unless told otherwise.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Duckdb => "wayline-duckdb",
            Self::DbtSources => "wayline-dbt-sources",
            Self::Grafana => "wayline-grafana",
            Self::Evidence => "wayline-evidence",
            Self::Powerbi => "wayline-powerbi",
        }
    }
}

/// A file of a starter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path below the starter's folder.
    pub path: String,
    /// Content.
    pub content: String,
}

impl File {
    fn new(path: impl Into<String>, content: String) -> Self {
        Self { path: path.into(), content }
    }
}

/// What the starters are written from.
#[derive(Debug)]
pub struct Published<'a> {
    /// The lake: a folder, or the URL of one in an object store; no slash at the end.
    pub lake: String,
    /// Logical time of what is published, RFC 3339.
    pub as_of: Option<String>,
    /// The marts.
    pub marts: Vec<Mart<'a>>,
}

/// A mart as its readers find it.
#[derive(Debug)]
pub struct Mart<'a> {
    /// What the dictionary says.
    pub table: &'a Table,
    /// Its columns in order.
    pub columns: Vec<&'a Column>,
    /// Its file or a glob of its files, relative to the lake.
    pub path: &'a str,
    /// The column that stands in the paths of its files.
    pub day: Option<&'a str>,
    /// Whether any file is there.
    pub has_files: bool,
    /// Whether the model comes with wayline.
    pub is_built_in: bool,
}

impl<'a> Published<'a> {
    /// What a lake publishes.
    pub fn of(lake: &Lake, dictionary: &'a Dictionary, catalog: &Catalog) -> Self {
        let place = match lake.local_folder() {
            Some(folder) => folder.display().to_string(),
            None => lake.url().to_string(),
        };
        let marts = dictionary.marts().filter(|table| table.problem.is_none()).filter_map(|table| {
            let path = table.path.as_deref()?;
            Some(Mart {
                table,
                columns: table.columns.iter().filter(|column| column.is_published).collect(),
                path,
                day: path.split_once("=*").and_then(|(head, _)| head.rsplit('/').next()),
                is_built_in: table.is_built_in,
                has_files: catalog.marts.get(&table.name).is_some_and(|mart| !mart.files.is_empty()),
            })
        });
        Self { lake: place.trim_end_matches('/').to_string(), as_of: catalog.as_of.clone(), marts: marts.collect() }
    }

    /// A mart by name.
    fn mart(&self, name: &str) -> Option<&Mart<'a>> {
        self.marts.iter().find(|mart| mart.table.name == name)
    }
}

impl Mart<'_> {
    fn name(&self) -> &str {
        &self.table.name
    }

    /// `read_parquet(…)` of DuckDB, over a lake.
    fn in_duckdb(&self, lake: &str) -> String {
        let place = text(&format!("{lake}/{}", self.path));
        match self.day {
            Some(day) => format!("read_parquet({place}, hive_partitioning = true, hive_types = {{'{day}': date}})"),
            None => format!("read_parquet({place})"),
        }
    }
}

/// The starter for a tool. Without a mart there is nothing to begin with.
pub fn starter(tool: Tool, published: &Published<'_>) -> Result<Vec<File>> {
    if !published.marts.iter().any(|mart| mart.has_files) {
        return Err(Error::invalid("nothing is published yet").hint("wayline run publishes the marts"));
    }
    Ok(match tool {
        Tool::Duckdb => duckdb::files(published),
        Tool::DbtSources => dbt::files(published),
        Tool::Grafana => grafana::files(published),
        Tool::Evidence => evidence::files(published),
        Tool::Powerbi => powerbi::files(published),
    })
}

/// A text in single quotes, as SQL has it.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A text in double quotes, as JSON and so YAML have it.
fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_whatever_they_hold() {
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(quoted("a: \"b\"\n"), "\"a: \\\"b\\\"\\n\"");
    }
}
