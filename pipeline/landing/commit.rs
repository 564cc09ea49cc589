//! The two commits of a batch: its dead letters, then its events, each with the batch's number as application transaction
//! on the snapshot that was checked.

use std::collections::BTreeSet;

use super::APPLICATION;
use super::dead_letters::DeadLetters;
use super::events::{DEAD_LETTER_SCHEMA, DEAD_LETTERS, EVENT_SCHEMA, EVENTS, PARTITION};
use crate::delta::{self, Change, Part, Replace, Table};
use crate::error::Result;
use crate::workspace::Workspace;

/// Files of dead letters that a batch adds, and those that they replace.
#[derive(Debug, Default)]
pub struct Letters {
    /// Files whose rows are written again.
    pub replaced: BTreeSet<String>,
    /// New files.
    pub parts: Vec<Part>,
}

/// Writes the dead letters of a batch.
pub async fn write_letters(workspace: &Workspace, batch: i64, letters: DeadLetters, prefix: &str) -> Result<Vec<Part>> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    let (content, rows) = delta::encode(&DEAD_LETTER_SCHEMA, letters.finish()?)?;
    let name = format!("{prefix}-dead-letters");
    let part = delta::write_part(&workspace.lake, DEAD_LETTERS, &name, Vec::new(), content, rows).await?;
    Ok(vec![Part { batches: Some((batch, batch)), ..part }])
}

/// Commits dead letters unless the snapshot has this batch already. A batch without any commits nothing.
pub async fn commit_letters(workspace: &Workspace, table: Option<&Table>, batch: i64, letters: Letters) -> Result<()> {
    let last = match table {
        Some(table) => table.transaction(APPLICATION).await?.unwrap_or(0),
        None => 0,
    };
    if letters.parts.is_empty() || last >= batch {
        return Ok(());
    }
    let change = Change {
        transaction: (APPLICATION.into(), batch),
        schema: DEAD_LETTER_SCHEMA.clone(),
        partition_by: Vec::new(),
        properties: Vec::new(),
        replace: match letters.replaced.is_empty() {
            true => Replace::Nothing,
            false => Replace::Files(letters.replaced),
        },
        parts: letters.parts,
        failpoint: "land.dlq",
    };
    delta::commit(&workspace.lake, DEAD_LETTERS, table, change).await?.version()?;
    Ok(())
}

/// Commits events, on the snapshot that was loaded before reading; a batch without events still moves the number on.
pub async fn commit_events(workspace: &Workspace, table: Option<&Table>, batch: i64, parts: Vec<Part>) -> Result<()> {
    if let Some(table) = table
        && table.transaction(APPLICATION).await?.is_some_and(|last| last >= batch)
    {
        return Ok(());
    }
    let change = Change {
        transaction: (APPLICATION.into(), batch),
        schema: EVENT_SCHEMA.clone(),
        partition_by: vec![PARTITION.into()],
        properties: Vec::new(),
        replace: Replace::Nothing,
        parts,
        failpoint: "land",
    };
    delta::commit(&workspace.lake, EVENTS, table, change).await?.version()?;
    Ok(())
}
