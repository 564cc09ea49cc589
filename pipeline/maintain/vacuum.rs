//! Vacuum: removes data files that no kept version of their table names, and what runs that were cut short left behind.
//!
//! A file stays if the newest version names it, if a commit since the cutoff added or removed it (then a version that
//! readers may still hold names it), or if it is younger than the cutoff (then somebody may be about to commit it).
//! Nothing but Parquet files of tables, staged files and debris of the store is ever looked at.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use crate::delta::Table;
use crate::delta::log::{Log, parse};
use crate::derived::changes::{CHANGES, Superseded, is_old};
use crate::error::{Context, Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;

/// Objects that are read or removed at once.
const AT_ONCE: usize = 16;

/// What was, or would be, removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Removed {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Removed {
    /// Counts of some files.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a ObjectMeta>) -> Self {
        files
            .into_iter()
            .fold(Self::default(), |removed, file| Self { files: removed.files + 1, bytes: removed.bytes + file.size })
    }
}

/// Data files of a table's folder that no kept version names. Without a table every old file is one. Without a cutoff
/// only the newest version is kept.
pub async fn unnamed(
    lake: &Lake,
    folder: &str,
    table: Option<&Table>,
    log: &Log,
    cutoff: Option<DateTime<Utc>>,
) -> Result<Vec<ObjectMeta>> {
    let mut named: BTreeSet<String> = BTreeSet::new();
    if let Some(table) = table {
        named.extend(table.files()?.into_iter().map(|part| part.path));
    }
    if let Some(cutoff) = cutoff {
        let commits: Vec<_> = log.young(cutoff).filter_map(|file| lake.relative(&file.location)).collect();
        let mut read = futures::stream::iter(commits)
            .map(|path| async move {
                let content = lake.get(&path).await?.ok_or_else(|| Error::corrupt(format!("{path} went away")))?;
                parse(&content).context(path)
            })
            .buffer_unordered(AT_ONCE);
        while let Some(commit) = read.try_next().await? {
            named.extend(commit.added);
            named.extend(commit.removed.into_keys());
        }
    }
    let root = format!("{folder}/");
    let mut unnamed = lake.list(folder).await?;
    unnamed.retain(|file| {
        let path = lake.relative(&file.location).unwrap_or_default();
        let Some(path) = path.strip_prefix(&root) else { return false };
        let is_data = !path.starts_with("_delta_log/") && path.ends_with(".parquet");
        is_data && !named.contains(path) && is_old(file, cutoff)
    });
    Ok(unnamed)
}

/// Documents of changes that were replaced before the cutoff, and files of changes that no other one names.
pub async fn changes(lake: &Lake, cutoff: Option<DateTime<Utc>>) -> Result<Vec<ObjectMeta>> {
    let Superseded { documents, files } = Superseded::of(lake, lake.list(CHANGES).await?, cutoff).await?;
    Ok(documents.into_iter().chain(files).collect())
}

/// Files that were staged and never moved to their place.
pub async fn staged(lake: &Lake, folder: &str, cutoff: Option<DateTime<Utc>>) -> Result<Vec<ObjectMeta>> {
    let mut staged = lake.list(folder).await?;
    staged.retain(|file| is_old(file, cutoff));
    Ok(staged)
}

/// Removes files, and on a local disk the folders that this empties.
pub async fn remove(lake: &Lake, files: &[ObjectMeta], failpoint_name: &'static str) -> Result<Removed> {
    let local = lake.local_folder();
    let paths: Vec<String> = files.iter().filter_map(|file| lake.relative(&file.location)).collect();
    futures::stream::iter(&paths)
        .map(|path| async move {
            failpoint(failpoint_name);
            lake.delete(path).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let folders: BTreeSet<&str> = paths.iter().filter_map(|path| Some(path.rsplit_once('/')?.0)).collect();
    for folder in folders.into_iter().filter(|folder| folder.contains('=')) {
        // The folder of a partition; one that is not empty stays.
        local.as_ref().map(|local| std::fs::remove_dir(local.join(folder)).ok());
    }
    Ok(Removed::of(files))
}

/// What the store of a local disk leaves when its process dies while it writes: `name#1` beside `name`. It never lists
/// them, so the folders are walked.
pub fn debris(lake: &Lake, cutoff: Option<DateTime<Utc>>) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = lake.local_folder().into_iter().collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).context(folder.display())? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                folders.push(entry.path());
            } else if is_debris(&entry.file_name().to_string_lossy())
                && cutoff.is_none_or(|cutoff| meta.modified().is_ok_and(|at| at < SystemTime::from(cutoff)))
            {
                found.push((entry.path(), meta.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_debris(name: &str) -> bool {
    let digits = |suffix: &str| !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit());
    name.rsplit_once('#').is_some_and(|(_, suffix)| digits(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debris_is_told_by_the_number_behind_a_hash() {
        let lake = tempfile::tempdir().unwrap();
        for name in ["a.json", "a.json#1", "b#12", "c#", "d#x1", "e#1.json"] {
            std::fs::create_dir_all(lake.path().join("lake/landing")).unwrap();
            std::fs::write(lake.path().join("lake/landing").join(name), b"x").unwrap();
        }
        let lake = Lake::open(lake.path(), "lake").unwrap();
        let names = |cutoff| {
            let found = debris(&lake, cutoff).unwrap();
            found.into_iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["a.json#1", "b#12"]);
        assert_eq!(names(Some(DateTime::UNIX_EPOCH)).len(), 0);
    }
}
