//! The search for damage: every table, book and published file of a lake is compared with what should be there.
//! Nothing is written. Logs, sizes and Parquet footers are read, and the columns that counts are made of; a bit that
//! flipped within a page of data is not looked for.

mod books;
mod derived;
mod published;
mod tables;

pub use tables::check_log;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use self::tables::check_table;
use super::{Maintained, folders};
use crate::delta::Table;
use crate::delta::log::Log;
use crate::error::Result;
use crate::workspace::Workspace;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub what: String,
    /// Where, as a path in the lake.
    pub place: String,
    /// What helps.
    pub remedy: String,
    /// Whether the newest version of a table cannot do without it.
    #[serde(skip)]
    pub is_needed: bool,
}

/// Restores what a copy still has, and else builds anew what is derived.
const RESTORE: &str = "restore it from a copy";
/// For what is made from something else.
const REBUILD: &str = "restore it from a copy, or remove the table's folder and run again: it is derived";

impl Finding {
    fn new(place: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), place: place.into(), remedy: remedy.into(), is_needed: true }
    }

    /// One that only takes old versions away.
    fn of_old_versions(mut self) -> Self {
        self.is_needed = false;
        self
    }
}

fn remedy(folder: &str) -> &'static str {
    if folder.starts_with("landing/") { RESTORE } else { REBUILD }
}

/// What was looked at, and what was found.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// Rows of each table that was looked at.
    pub tables: BTreeMap<String, usize>,
    /// Batches whose books were compared with the tables.
    pub batches: i64,
    /// Published files that were looked at.
    pub published_files: usize,
    /// What is wrong, in the order of the way through.
    pub findings: Vec<Finding>,
}

/// A table whose newest version can be read.
struct Sound {
    table: Table,
    /// When that came.
    newest: Option<DateTime<Utc>>,
}

/// Looks at everything.
pub async fn fsck(workspace: &Workspace) -> Result<Findings> {
    let lake = &workspace.lake;
    let mut found = Findings::default();
    let mut sound = BTreeMap::new();
    let vacuumed = Maintained::cutoff(lake).await?;
    for folder in folders(lake).await? {
        let log = Log::list(lake, &folder).await?;
        let (table, findings) = check_table(lake, &folder, &log, vacuumed).await?;
        found.findings.extend(findings);
        if let Some(table) = table {
            found.tables.insert(folder.clone(), table.rows()?);
            let newest = log.commits.last_key_value().map(|(_, file)| file.last_modified);
            sound.insert(folder, Sound { table, newest });
        }
    }
    let reports = books::reports(lake).await?;
    books::check(workspace, &sound, &reports, &mut found).await?;
    derived::check(workspace, &sound, &reports, vacuumed.is_some(), &mut found).await?;
    published::check(lake, &mut found).await?;
    Ok(found)
}
