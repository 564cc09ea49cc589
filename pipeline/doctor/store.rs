//! Whether the store of the lake keeps the promises that commits rest on.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use uuid::Uuid;

use super::Finding;
use crate::error::Result;
use crate::lake::Lake;
use crate::workspace::Workspace;

/// A step on the store that takes longer makes every commit slow.
const SLOW: Duration = Duration::from_secs(2);
/// Clocks that differ by more make times of batches doubtful; S3 refuses requests at 15 minutes.
const SKEW: TimeDelta = TimeDelta::seconds(30);

/// Writes, reads, lists and removes under a name of its own.
pub async fn semantics(workspace: &Workspace) -> Vec<Finding> {
    let lake = &workspace.lake;
    let scratch = format!("staging/doctor-{}", Uuid::new_v4().simple());
    let made = MadeFolders::before(lake, &scratch);
    let begun = Instant::now();
    let tried = try_out(lake, &scratch).await;
    let took = begun.elapsed();
    let cleaned = clean(lake, &scratch).await;
    made.remove();
    let mut findings = match tried {
        Ok(findings) => findings,
        Err(error) => {
            let remedy = "check the URL, the credentials in the environment and the rights to write there";
            return vec![Finding::of_error("store", &error.context(lake.url()), remedy)];
        }
    };
    if let Err(error) = cleaned {
        findings.push(Finding::warn(
            "store",
            format!("could not remove {scratch}: {error}"),
            "allow deletions: maintenance needs them",
        ));
    }
    if findings.is_empty() {
        let message = format!("{}: put-if-absent, read back, list after write, replace and delete work", lake.url());
        findings.push(Finding::ok("store", message));
    }
    if took > SLOW * 8 {
        let message = format!("eight small requests took {:.1} s", took.as_secs_f64());
        findings.push(Finding::warn("store", message, "run nearer to the store, or with longer micro-batches"));
    }
    findings
}

async fn try_out(lake: &Lake, scratch: &str) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let path = format!("{scratch}/once");
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    let is_new = lake.put_new(&path, first.clone()).await?;
    let is_written_twice = lake.put_new(&path, second.clone()).await?;
    if !is_new || is_written_twice {
        findings.push(Finding::fail(
            "store",
            "writes what must be absent over what is there: two runs could both win a commit",
            "use a store with conditional writes; for S3 and its likes set AWS_CONDITIONAL_PUT=etag",
        ));
    }
    let expected = if is_written_twice { &second } else { &first };
    if lake.get(&path).await?.as_ref() != Some(expected) {
        findings.push(Finding::fail("store", "does not read back what was written", "use a store that is consistent"));
    }
    let listed = lake.list(scratch).await?;
    match listed.iter().find(|object| object.location == lake.path(&path)) {
        None => findings.push(Finding::fail(
            "store",
            "does not list what was just written",
            "use a store that is consistent",
        )),
        Some(object) => {
            let skew = (object.last_modified - Utc::now()).abs();
            if skew > SKEW {
                findings.push(Finding::warn(
                    "clock",
                    format!("differs from the store's by {} seconds", skew.num_seconds()),
                    "synchronise it (NTP); stores refuse requests from clocks that are far off",
                ));
            }
        }
    }
    lake.put(&path, second.clone()).await?;
    if lake.get(&path).await? != Some(second) {
        findings.push(Finding::fail(
            "store",
            "reads an old version after it was replaced",
            "use a store that is consistent",
        ));
    }
    lake.delete(&path).await?;
    if lake.get(&path).await?.is_some() {
        findings.push(Finding::warn("store", "still reads what was deleted", "use a store that is consistent"));
    }
    Ok(findings)
}

async fn clean(lake: &Lake, scratch: &str) -> Result<()> {
    for object in lake.list(scratch).await? {
        if let Some(path) = lake.relative(&object.location) {
            lake.delete(&path).await?;
        }
    }
    Ok(())
}

/// Folders of a local lake that were not there before.
struct MadeFolders(Vec<PathBuf>);

impl MadeFolders {
    fn before(lake: &Lake, scratch: &str) -> Self {
        let Some(root) = lake.local_folder() else { return Self(Vec::new()) };
        let folder = root.join(scratch);
        Self(folder.ancestors().take_while(|folder| !folder.exists()).map(PathBuf::from).collect())
    }

    /// Removes them, the deepest first, as far as they are empty.
    fn remove(self) {
        for folder in self.0 {
            if std::fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Project};
    use crate::doctor::Level;

    #[tokio::test]
    async fn a_local_store_keeps_its_promises_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let project = Project { folder: folder.path().into(), config: Config::default() };
        let workspace = Workspace::open(project).unwrap();
        let findings = semantics(&workspace).await;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].level, Level::Ok, "{findings:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_store_that_writes_over_what_is_there_is_found() {
        use object_store::memory::InMemory;
        use std::sync::Arc;
        let folder = tempfile::tempdir().unwrap();
        let project = Project { folder: folder.path().into(), config: Config::default() };
        let mut workspace = Workspace::open(project).unwrap();
        workspace.lake = workspace.lake.with_store(|_| Arc::new(crate::lake::forgetful::Forgetful(InMemory::new())));
        let findings = semantics(&workspace).await;
        assert!(
            findings.iter().any(|finding| finding.level == Level::Fail && finding.message.contains("two runs")),
            "{findings:?}"
        );
    }
}
