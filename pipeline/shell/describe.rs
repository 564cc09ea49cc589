//! What there is to query: tables, their columns and functions, each as a result like any other.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::prelude::DataFrame;

use crate::dictionary::{Column, sql_type};
use crate::engine;
use crate::error::{Error, Result};
use crate::functions;
use crate::reader::Opened;

/// Tables whose names fit a pattern, with what they hold.
pub async fn tables(opened: &Opened, pattern: Option<&str>) -> Result<DataFrame> {
    let dictionary = opened.dictionary().await?;
    let names = engine::table_names(opened.ctx());
    let rows = names.iter().filter(|name| fits(name, pattern)).map(|name| {
        let table = dictionary.tables.iter().find(|table| table.name == *name);
        let kind = table.map(|table| format!("{:?}", table.kind).to_lowercase()).unwrap_or_default();
        [name.clone(), kind, table.map(|table| table.description.clone()).unwrap_or_default()]
    });
    frame(opened, ["table", "kind", "description"], rows)
}

/// The columns of a table, with what they hold.
pub async fn schema(opened: &Opened, name: &str) -> Result<DataFrame> {
    let table = match opened.ctx().table_provider(name).await {
        Ok(table) => table,
        Err(_) => return Err(unknown_table(opened, name)),
    };
    let dictionary = opened.dictionary().await?;
    let described = dictionary.tables.iter().find(|table| table.name == name);
    let schema = table.schema();
    let rows = schema.fields().iter().map(|field| {
        let columns = described.iter().flat_map(|table| &table.columns);
        let meaning = columns.filter(|column| column.name == *field.name()).map(Column::comment).next();
        [field.name().clone(), sql_type(field.data_type()), meaning.unwrap_or_default()]
    });
    frame(opened, ["column", "type", "meaning"], rows)
}

/// Functions whose names fit a pattern, with what they do.
pub fn functions(opened: &Opened, pattern: Option<&str>) -> Result<DataFrame> {
    let known = functions::known_to(&opened.ctx().state());
    let rows = known.iter().filter(|function| fits(&function.name, pattern)).map(|function| {
        let summary = function.summary().split_whitespace().collect::<Vec<_>>().join(" ");
        [function.name.clone(), function.kind.to_string(), summary]
    });
    frame(opened, ["function", "kind", "description"], rows)
}

/// The error of a table that is not there, with what to do about it.
pub fn unknown_table(opened: &Opened, name: &str) -> Error {
    let names = engine::table_names(opened.ctx());
    let error = Error::invalid(format!("no table is called `{name}`")).hint(".tables lists them");
    match opened.graph.model(name) {
        Some(_) => error.hint(NEVER_BUILT),
        None => error.hint_nearest(name, names.iter().map(String::as_str)),
    }
}

/// What to do about a model without a table.
pub const NEVER_BUILT: &str = "it is a model that was never built, or reads such: wayline run builds it";

fn frame<const N: usize>(
    opened: &Opened,
    names: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Result<DataFrame> {
    let mut columns: [Vec<String>; N] = std::array::from_fn(|_| Vec::new());
    for row in rows {
        columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }
    let columns = columns.into_iter().map(|column| Arc::new(StringArray::from(column)) as ArrayRef);
    Ok(opened.ctx().read_batch(RecordBatch::try_from_iter(names.into_iter().zip(columns))?)?)
}

/// Whether a name fits a pattern: `*` and `%` stand for anything, `?` for one character; without any of them the name
/// holds the pattern.
fn fits(name: &str, pattern: Option<&str>) -> bool {
    let Some(pattern) = pattern else { return true };
    let (name, pattern) = (name.to_lowercase(), pattern.to_lowercase());
    if !pattern.contains(['*', '%', '?']) {
        return name.contains(&pattern);
    }
    fits_from(&name.chars().collect::<Vec<_>>(), &pattern.chars().collect::<Vec<_>>())
}

fn fits_from(name: &[char], pattern: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*' | '%', rest)), _) => (0..=name.len()).any(|skipped| fits_from(&name[skipped..], rest)),
        (Some((wanted, pattern)), Some((found, name))) if wanted == found || *wanted == '?' => fits_from(name, pattern),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_part_of_the_name_or_has_wildcards() {
        for (pattern, fitting) in [
            ("session", "int_sessions"),
            ("s*s", "sessions"),
            ("%SESSION%", "int_sessions"),
            ("???s", "maps"),
            ("*", ""),
        ] {
            assert!(fits(fitting, Some(pattern)), "{pattern} {fitting}");
        }
        for (pattern, other) in [("session?", "session"), ("s*", "int_sessions"), ("journey", "sessions")] {
            assert!(!fits(other, Some(pattern)), "{pattern} {other}");
        }
        assert!(fits("anything", None));
    }
}
