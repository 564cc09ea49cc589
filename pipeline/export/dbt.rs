//! Sources of a dbt project: columns, tests and freshness, from the headers of the models.

use super::{File, Mart, Published, quoted};
use crate::models::header::Check;

const HEAD: &str = "\
# The marts of a lake as sources of a dbt project on DuckDB (dbt-duckdb).
#
# Put it under models/ of the project, then: select * from {{ source('wayline', 'funnel_steps') }}
# `dbt source freshness` tells whether runs go on, `dbt test -s source:wayline` tests the marts.
#
# Written by `wayline export dbt-sources`: write it again when marts or their columns have changed.
";

/// Marts that tell when something was done last, and by which column.
const FRESHNESS: [(&str, &str); 2] = [("runs", "completed_at"), ("data_quality", "planned_at")];

pub fn files(published: &Published<'_>) -> Vec<File> {
    let mut yaml = format!(
        "{HEAD}version: 2\n\nsources:\n  - name: wayline\n    description: Journey analytics, published by wayline\n    \
         tables:\n"
    );
    for mart in published.marts.iter().filter(|mart| mart.has_files) {
        yaml.push_str(&source(mart, &published.lake));
    }
    vec![File::new("sources.yml", yaml)]
}

fn source(mart: &Mart<'_>, lake: &str) -> String {
    let mut yaml = format!(
        "
      - name: {}
        description: {}
        config:
          meta:
            formatter: oldstyle
            external_location: {}
            grain: {}
",
        mart.name(),
        quoted(&mart.table.description),
        // By default dbt-duckdb takes braces for places to fill in; so it takes a percent sign.
        quoted(&mart.in_duckdb(lake).replace('%', "%%")),
        quoted(&mart.table.grain.join(", ")),
    );
    if let Some((_, column)) = FRESHNESS.iter().find(|(name, _)| *name == mart.name()) {
        yaml.push_str(&format!(
            "          loaded_at_field: {column}
          freshness:
            warn_after: {{count: 25, period: hour}}
            error_after: {{count: 49, period: hour}}
"
        ));
    }
    yaml.push_str("        columns:\n");
    for column in &mart.columns {
        yaml.push_str(&format!("          - name: {}\n", column.name));
        yaml.push_str(&format!("            data_type: {}\n", quoted(&column.data_type)));
        if column.meaning.is_some() {
            yaml.push_str(&format!("            description: {}\n", quoted(&column.comment())));
        }
        yaml.push_str(&tests(mart, &column.name));
    }
    yaml
}

/// The rules of the header that dbt has of its own, for one column.
fn tests(mart: &Mart<'_>, column: &str) -> String {
    let mut yaml = String::new();
    for rule in &mart.table.rules {
        match rule {
            Check::Unique(columns) if columns.as_slice() == [column] => yaml.push_str("              - unique\n"),
            Check::NotNull(columns) if columns.iter().any(|name| name == column) => {
                yaml.push_str("              - not_null\n");
            }
            Check::AcceptedValues(name, values) if name == column => {
                let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
                yaml.push_str(&format!(
                    "              - accepted_values:\n                  arguments:\n                    values: [{}]\n",
                    values.join(", ")
                ));
            }
            _ => {}
        }
    }
    match yaml.is_empty() {
        true => yaml,
        false => format!("            data_tests:\n{yaml}"),
    }
}
