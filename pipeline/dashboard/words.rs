//! The data dictionary as a section of the page: what each table and column holds.

use serde_json::Value;

use super::rows::{Column, Rows, Type};
use super::{Section, SectionTable};
use crate::dictionary::{Dictionary, Kind, Table};

/// The section of a dictionary: marts first, since they are what readers meet.
pub fn section(dictionary: &Dictionary) -> Section {
    let others = dictionary.tables.iter().filter(|table| table.kind != Kind::Mart);
    Section {
        name: "dictionary".into(),
        title: "Data dictionary".into(),
        text: "What each table and column holds, marts first. The words stand in the headers of the models.".into(),
        tables: dictionary.marts().chain(others).map(table).collect(),
    }
}

fn table(table: &Table) -> SectionTable {
    let mut about = vec![table.description.clone()];
    let mut say = |what: &str, names: &[String]| {
        if !names.is_empty() {
            about.push(format!("{what}: {}.", names.join(", ")));
        }
    };
    say("One row per", &table.grain);
    say("Read from", &table.reads);
    say("Made in the end of", &table.sources);
    say("Read by", &table.read_by);
    say("Checks", &table.checks);
    let text = |name: &str| Column { name: name.into(), data_type: Type::Text };
    let row = |column: &crate::dictionary::Column| {
        [&column.name, &column.data_type, &column.comment()].map(|cell| Value::from(cell.as_str())).to_vec()
    };
    let rows = Rows {
        columns: ["column", "type", "meaning"].map(text).to_vec(),
        rows: table.columns.iter().map(row).collect(),
    };
    SectionTable { title: table.name.clone(), text: about.join(" "), rows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Project;
    use crate::models::graph::Graph;
    use crate::workspace::Workspace;

    #[tokio::test]
    async fn every_column_is_on_the_page_marts_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("wayline.toml"), "[lake]\nurl = \"lake\"\n").unwrap();
        let workspace = Workspace::open(Project::load(folder.path()).unwrap()).unwrap();
        let graph = Graph::load(&workspace.ctx, &folder.path().join("queries")).unwrap();
        let dictionary = Dictionary::of(&workspace, &graph).await.unwrap();
        let section = section(&dictionary);
        assert_eq!(section.tables.len(), dictionary.tables.len());
        assert_eq!(section.tables[0].title, dictionary.marts().next().unwrap().name);
        for table in &dictionary.tables {
            let shown = section.tables.iter().find(|shown| shown.title == table.name).unwrap();
            let names: Vec<_> = shown.rows.rows.iter().map(|row| row[0].as_str().unwrap()).collect();
            assert_eq!(names, table.columns.iter().map(|column| &column.name).collect::<Vec<_>>());
            assert!(shown.text.starts_with(&table.description), "{}", shown.text);
        }
    }
}
