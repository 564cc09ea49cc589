//! The dictionary as Markdown.

use super::{Column, Dictionary, Kind, Table};

/// Headings in the order of the page: what readers look for first.
const PARTS: [(Kind, &str, &str); 7] = [
    (Kind::Mart, "Marts", "Models that are published as Parquet under `marts/`. What is nested stays in the model."),
    (Kind::Model, "Models", "Tables between the events and the marts."),
    (Kind::View, "Views", "Models that are planned into whatever reads them."),
    (Kind::Landed, "Landed tables", "What came in."),
    (Kind::Identity, "Identity tables", "Who is who."),
    (Kind::Settings, "Settings", "The configuration in SQL, so that models read it there."),
    (Kind::System, "System tables", "What was done."),
];

/// All tables, by what they are, with a map of what is made of what.
pub fn page(dictionary: &Dictionary) -> String {
    let mut text = String::from(
        "# Data dictionary\n\nWhat each table and column holds. `timestamptz` is microseconds in UTC, `date` a day in \
         UTC. The words come from the headers of the models.\n",
    );
    text.push_str(&lineage(dictionary));
    for (kind, title, what) in PARTS {
        let tables: Vec<&Table> = dictionary.tables.iter().filter(|table| table.kind == kind).collect();
        if tables.is_empty() {
            continue;
        }
        text.push_str(&format!("\n## {title}\n\n{what}\n"));
        for table in tables {
            text.push_str(&format!("\n{}", section(table, 3)));
        }
    }
    text
}

/// What is made of what, as a chart that many readers of Markdown draw.
fn lineage(dictionary: &Dictionary) -> String {
    let mut text = String::from("\n```mermaid\nflowchart LR\n");
    for table in &dictionary.tables {
        let (open, close) = match table.kind {
            Kind::Mart => ("[[", "]]"),
            Kind::View => ("([", "])"),
            Kind::Model => ("[", "]"),
            _ => ("[(", ")]"),
        };
        if !table.reads.is_empty() || !table.read_by.is_empty() {
            text.push_str(&format!("    {0}{open}{0}{close}\n", table.name));
        }
    }
    for table in &dictionary.tables {
        for read in &table.reads {
            text.push_str(&format!("    {read} --> {}\n", table.name));
        }
    }
    text.push_str("```\n");
    text
}

/// One table under a heading of some level.
pub fn section(table: &Table, level: usize) -> String {
    let mut text = format!("{} {}\n\n{}\n\n", "#".repeat(level), table.name, table.description);
    let mut point = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("- {name} {value}\n"));
        }
    };
    point("one row per", Some(names(&table.grain)));
    point("published as", table.path.as_ref().map(|path| format!("`{path}`")));
    point("built", table.build.clone());
    point("reads", Some(names(&table.reads)));
    point("made of", Some(names(&table.sources)).filter(|_| table.reads != table.sources));
    point("read by", Some(names(&table.read_by)));
    point("part of", Some(names(&table.marts)).filter(|_| table.read_by != table.marts));
    point("checked by", Some(names(&table.checks)));
    point("columns are not known:", table.problem.clone());
    if !table.columns.is_empty() {
        text.push_str("\n| column | type | unit | meaning |\n| --- | --- | --- | --- |\n");
    }
    for column in &table.columns {
        text.push_str(&row(table, column));
    }
    text
}

fn row(table: &Table, column: &Column) -> String {
    let mut meaning = column.meaning.clone().unwrap_or_default();
    if table.kind == Kind::Mart && !column.is_published {
        meaning.push_str(" (in the model, not in the mart)");
    }
    let unit = column.unit.as_deref().unwrap_or_default();
    format!("| `{}` | {} | {} | {} |\n", column.name, column.data_type, cell(unit), cell(&meaning))
}

fn names(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Text that does not end a cell and is no tag.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}
