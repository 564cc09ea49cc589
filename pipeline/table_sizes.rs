//! How large the tables of a lake are: what readers of their files and of their logs have to go through.

use serde::Serialize;

use crate::derived::Derived;
use crate::derived::changes::Changes;
use crate::error::Result;
use crate::identity::stage as identity;
use crate::landing::events::{DEAD_LETTERS, EVENTS};
use crate::models;
use crate::models::graph::Graph;
use crate::workspace::Workspace;

/// Size of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableSize {
    /// Its name in SQL.
    pub table: String,
    /// Rows; `None` where changes lie over the table, so that they must be counted.
    pub rows: Option<usize>,
    /// Data files that its readers read.
    pub files: usize,
    /// Bytes of these files.
    pub bytes: u64,
    /// Commits that are kept in its log.
    pub log_commits: usize,
}

/// The tables that lie in the lake, in the order in which data meets them; those that were never built are left out.
pub async fn of_lake(workspace: &Workspace, graph: &Graph) -> Result<Vec<TableSize>> {
    let mut places = vec![("events".to_string(), EVENTS.to_string()), ("dead_letters".into(), DEAD_LETTERS.into())];
    places.extend(identity::TABLES.map(|name| (name.to_string(), identity::folder(name))));
    let tables = graph.models.iter().filter(|model| model.header.build.is_table());
    places.extend(tables.map(|model| (model.name.clone(), models::folder(&model.name))));
    let changes = Changes::load(&workspace.lake).await?;
    let mut sizes = Vec::new();
    for (table, folder) in places {
        let Some(stored) = Derived::open(&workspace.lake, &changes, &folder).await? else { continue };
        let files = stored.files()?;
        let log = workspace.lake.list(&format!("{folder}/_delta_log")).await?;
        sizes.push(TableSize {
            table,
            rows: stored.over.is_none().then(|| stored.table.rows()).transpose()?,
            files: files.len(),
            bytes: files.iter().map(|file| file.size).sum(),
            log_commits: log.iter().filter(|entry| is_commit(entry.location.filename().unwrap_or_default())).count(),
        });
    }
    Ok(sizes)
}

/// Whether a file of a log is a commit: a version of twenty digits.
fn is_commit(name: &str) -> bool {
    name.strip_suffix(".json").is_some_and(|version| version.len() == 20 && version.bytes().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_of_a_log_are_its_versions() {
        assert!(is_commit("00000000000000000012.json"));
        for other in
            ["_last_checkpoint", "00000000000000000012.checkpoint.parquet", "00000000000000000012.crc", "12.json"]
        {
            assert!(!is_commit(other), "{other}");
        }
    }
}
