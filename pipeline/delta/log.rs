//! The log of a table as the files that it is made of: commits and checkpoints, since when they lie there, and what a
//! commit says. Snapshots are read by the library; this is for those who look after the log itself.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Table;
use crate::error::{Context, Error, Result};
use crate::lake::Lake;

/// Name of the file that tells readers where the last checkpoint is.
pub const HINT: &str = "_last_checkpoint";

/// The files of a log.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Commits by version.
    pub commits: BTreeMap<u64, ObjectMeta>,
    /// Files of checkpoints by version.
    pub checkpoints: BTreeMap<u64, Vec<ObjectMeta>>,
    /// The hint of the last checkpoint.
    pub hint: Option<ObjectMeta>,
}

/// What a commit says, as far as maintenance asks.
#[derive(Debug, Default)]
pub struct Commit {
    /// Whether its first action is `commitInfo`.
    pub begins_with_info: bool,
    /// Whether its last action is a transaction: our commits end with theirs, so that one cut short is known by it.
    pub ends_with_transaction: bool,
    /// Files that it adds, relative to the table.
    pub added: BTreeSet<String>,
    /// Files that it removes, with their bytes where it tells.
    pub removed: BTreeMap<String, Option<u64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    add: Option<Named>,
    remove: Option<Named>,
    txn: Option<IgnoredAny>,
    commit_info: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Named {
    path: String,
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Hint {
    version: u64,
}

impl Log {
    /// Lists the log of the table in a folder; empty when there is none.
    pub async fn list(lake: &Lake, folder: &str) -> Result<Self> {
        let mut log = Self::default();
        for file in lake.list(&format!("{folder}/_delta_log")).await? {
            let name = file.location.filename().unwrap_or_default().to_string();
            let (head, rest) = name.split_at_checked(20).unwrap_or((&name, ""));
            match (head.parse::<u64>(), rest) {
                _ if name == HINT => log.hint = Some(file),
                (Ok(version), ".json") => {
                    log.commits.insert(version, file);
                }
                (Ok(version), rest) if rest.starts_with(".checkpoint.") => {
                    log.checkpoints.entry(version).or_default().push(file);
                }
                _ => {}
            }
        }
        Ok(log)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.checkpoints.is_empty() && self.hint.is_none()
    }

    /// Commits since the last checkpoint.
    pub fn since_checkpoint(&self) -> usize {
        let first = self.checkpoints.keys().next_back().map_or(0, |version| version + 1);
        self.commits.range(first..).count()
    }

    /// Version of the checkpoint that the hint names.
    pub async fn hinted(&self, lake: &Lake, folder: &str) -> Result<Option<u64>> {
        let path = format!("{folder}/_delta_log/{HINT}");
        match lake.get(&path).await? {
            Some(content) => Ok(Some(serde_json::from_slice::<Hint>(&content).context(path)?.version)),
            None => Ok(None),
        }
    }

    /// Files that no version since `cutoff` needs: commits and checkpoints before the last checkpoint that is no newer
    /// than the oldest of these versions. `None` keeps the newest version alone.
    pub fn expired(&self, cutoff: Option<DateTime<Utc>>) -> Vec<&ObjectMeta> {
        let Some(newest) = self.commits.keys().next_back() else { return Vec::new() };
        let is_young = |file: &ObjectMeta| cutoff.is_some_and(|cutoff| file.last_modified >= cutoff);
        // A version is the table until the next one is committed, so the one before the first young one is needed too.
        let oldest = match self.commits.iter().find(|(_, file)| is_young(file)) {
            Some((version, _)) => version.saturating_sub(1),
            None => *newest,
        };
        let Some((checkpoint, _)) = self.checkpoints.range(..=oldest).next_back() else { return Vec::new() };
        let commits = self.commits.range(..checkpoint).map(|(_, file)| file);
        commits.chain(self.checkpoints.range(..checkpoint).flat_map(|(_, files)| files)).collect()
    }

    /// The commits since `cutoff`.
    pub fn young(&self, cutoff: DateTime<Utc>) -> impl Iterator<Item = &ObjectMeta> {
        self.commits.values().filter(move |file| file.last_modified >= cutoff)
    }
}

/// Reads what a commit says. One without an action, or with a line that is no action, is [`crate::error::Kind::Corrupt`].
pub fn parse(content: &[u8]) -> Result<Commit> {
    let mut commit = Commit::default();
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let mut actions = 0;
    for line in lines {
        let action: Action = serde_json::from_slice(line)?;
        if actions == 0 {
            commit.begins_with_info = action.commit_info.is_some();
        }
        commit.ends_with_transaction = action.txn.is_some();
        commit.added.extend(action.add.map(|file| decoded(&file.path)));
        commit.removed.extend(action.remove.map(|file| (decoded(&file.path), file.size)));
        actions += 1;
    }
    if actions == 0 {
        return Err(Error::corrupt("holds no action"));
    }
    Ok(commit)
}

/// Paths are URL-encoded in the log.
fn decoded(path: &str) -> String {
    Path::from_url_path(path).map_or_else(|_| path.to_string(), |path| path.to_string())
}

impl Table {
    /// Writes a checkpoint of this version, then reads the table anew by it: what it does not tell as the snapshot does
    /// is [`crate::error::Kind::Corrupt`], and no commit may be removed for it.
    pub async fn checkpoint(&self, lake: &Lake, folder: &str, applications: &[&str]) -> Result<()> {
        deltalake::checkpoints::create_checkpoint(&self.delta, None).await.context(folder)?;
        self.told_by_checkpoint_or_none(lake, folder, applications).await
    }

    /// Removes the checkpoint of this version where the table is another by it, or that cannot be told: commits that it covers
    /// would be removed for it later.
    pub(super) async fn told_by_checkpoint_or_none(
        &self,
        lake: &Lake,
        folder: &str,
        applications: &[&str],
    ) -> Result<()> {
        let told = self.is_told_by_checkpoint(lake, folder, applications).await;
        if told.is_err() {
            lake.delete(&format!("{folder}/_delta_log/{HINT}")).await?;
            let mut log = Log::list(lake, folder).await?;
            for file in log.checkpoints.remove(&self.version()).unwrap_or_default() {
                lake.delete(&lake.relative(&file.location).expect("it was listed there")).await?;
            }
        }
        told
    }

    /// An error where the table is another as its log tells it now, from the newest checkpoint on.
    async fn is_told_by_checkpoint(&self, lake: &Lake, folder: &str, applications: &[&str]) -> Result<()> {
        let read = Self::load(lake, folder).await?;
        let files = |table: &Self| -> Result<BTreeMap<String, (u64, usize)>> {
            Ok(table.files()?.into_iter().map(|part| (part.path, (part.size, part.rows))).collect())
        };
        let mut is_same = read.version() == self.version() && read.id()? == self.id()?;
        is_same &= files(&read)? == files(self)? && read.schema()? == self.schema()?;
        for application in applications {
            is_same &= read.transaction(application).await? == self.transaction(application).await?;
        }
        match is_same {
            true => Ok(()),
            false => Err(Error::corrupt(format!("{folder}: the checkpoint of version {} lies", self.version()))
                .hint("it was removed; the commits are all there")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn file(name: &str, age: i64) -> ObjectMeta {
        let last_modified = DateTime::UNIX_EPOCH - TimeDelta::seconds(age);
        ObjectMeta { location: Path::from(name), last_modified, size: 1, e_tag: None, version: None }
    }

    /// Commits 0 to 9, each a second younger than the one before, and some checkpoints.
    fn log(checkpoints: &[u64]) -> Log {
        let named = |version: &u64| (*version, vec![file(&format!("c{version}"), 0)]);
        Log {
            commits: (0..10).map(|version| (version, file(&version.to_string(), 9 - version as i64))).collect(),
            checkpoints: checkpoints.iter().map(named).collect(),
            hint: None,
        }
    }

    fn expired(log: &Log, seconds: Option<i64>) -> String {
        let cutoff = seconds.map(|seconds| DateTime::UNIX_EPOCH - TimeDelta::seconds(seconds));
        log.expired(cutoff).into_iter().map(|file| file.location.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_what_a_checkpoint_covers_and_no_kept_version_needs_expires() {
        assert_eq!(expired(&log(&[]), None), "", "without a checkpoint every commit is needed");
        assert_eq!(expired(&log(&[9]), None), "0 1 2 3 4 5 6 7 8");
        assert_eq!(expired(&log(&[3, 9]), None), "0 1 2 3 4 5 6 7 8 c3");
        // Version 4 is the oldest that is young, version 3 was the table until it came.
        assert_eq!(expired(&log(&[3, 9]), Some(5)), "0 1 2");
        assert_eq!(expired(&log(&[4, 9]), Some(5)), "");
        assert_eq!(expired(&log(&[0, 2, 9]), Some(5)), "0 1 c0");
        // All are old: the newest has been the table all the time.
        assert_eq!(expired(&log(&[3, 9]), Some(-100)), "0 1 2 3 4 5 6 7 8 c3");
        assert_eq!(expired(&log(&[3, 9]), Some(100)), "");
    }

    #[test]
    fn a_commit_tells_whether_it_is_whole() {
        let whole = "{\"commitInfo\":{}}\n{\"add\":{\"path\":\"day=a%3Ab/x.parquet\"}}\n{\"txn\":{}}";
        let commit = parse(whole.as_bytes()).unwrap();
        assert!(commit.begins_with_info && commit.ends_with_transaction);
        assert_eq!(commit.added.into_iter().collect::<Vec<_>>(), ["day=a:b/x.parquet"]);
        assert!(!parse(&whole.as_bytes()[..whole.len() - 11]).unwrap().ends_with_transaction);
        for damaged in [&whole[..whole.len() - 1], "", "\n", "\0\0"] {
            assert!(parse(damaged.as_bytes()).is_err(), "{damaged:?}");
        }
    }
}
