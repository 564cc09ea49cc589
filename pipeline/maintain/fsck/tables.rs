//! Tables: their logs, and the files that these name.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::{Finding, remedy};
use crate::delta::log::{Commit, HINT, Log, parse};
use crate::delta::{Part, Table};
use crate::error::{Error, Kind, Result};
use crate::lake::Lake;

/// Objects that are read at once.
const AT_ONCE: usize = 16;

/// Compares the files of a log with each other and reads every commit.
pub async fn check_log(lake: &Lake, folder: &str, log: &Log) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let place = format!("{folder}/_delta_log");
    let hinted = match log.hinted(lake, folder).await {
        Ok(hinted) => hinted,
        Err(error) if error.kind() == Kind::Corrupt => {
            let what = format!("cannot be read: {error}");
            findings.push(Finding::new(format!("{place}/{HINT}"), what, "remove it: readers then list the log"));
            None
        }
        Err(error) => return Err(error),
    };
    let last_checkpoint = log.checkpoints.keys().next_back().copied();
    match (hinted, last_checkpoint) {
        (Some(version), _) if !log.checkpoints.contains_key(&version) => {
            findings.push(Finding::new(&place, format!("the checkpoint of version {version} is gone"), remedy(folder)));
        }
        (None, Some(version)) if log.hint.is_none() => {
            let what = format!("is gone, although version {version} has a checkpoint");
            findings.push(Finding::new(format!("{place}/{HINT}"), what, "wayline maintain").of_old_versions());
        }
        _ => {}
    }
    // Before the last checkpoint a clean-up may be under way; what is missing there takes old versions away, no more.
    let needed_from = last_checkpoint.unwrap_or(0);
    let versions: Vec<u64> = log.commits.keys().copied().collect();
    let begin = versions.first().copied().unwrap_or(0);
    if begin > 0 && !log.checkpoints.contains_key(&begin) {
        let what = format!("versions before {begin} are gone, and no checkpoint stands for them");
        let mut finding = Finding::new(&place, what, remedy(folder));
        if begin <= needed_from {
            finding.remedy = "wayline maintain, if it was cut short; else restore them from a copy".into();
            finding = finding.of_old_versions();
        }
        findings.push(finding);
    }
    for pair in versions.windows(2) {
        if let [before, after] = *pair
            && after != before + 1
        {
            let what = format!("versions {} to {} are gone", before + 1, after - 1);
            let mut finding = Finding::new(&place, what, remedy(folder));
            if after <= needed_from {
                finding.remedy = "wayline maintain, if it was cut short; else restore them from a copy".into();
                finding = finding.of_old_versions();
            }
            findings.push(finding);
        }
    }
    if versions.last().is_none_or(|last| *last < needed_from) && !log.is_empty() {
        findings.push(Finding::new(&place, "the newest version is gone", remedy(folder)));
    }
    for (version, files) in &log.checkpoints {
        for file in files {
            let Some(path) = lake.relative(&file.location) else { continue };
            if let Err(what) = footer(lake, &file.location, file.size).await? {
                let mut finding = Finding::new(path, what, remedy(folder));
                if *version < needed_from {
                    finding = finding.of_old_versions();
                }
                findings.push(finding);
            }
        }
    }
    let damaged: Vec<Option<Finding>> = futures::stream::iter(&log.commits)
        .map(|(version, file)| async move {
            let finding = check_commit(lake, folder, file).await?;
            let is_old = *version < needed_from;
            Ok::<_, Error>(finding.map(|found| if is_old { found.of_old_versions() } else { found }))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    findings.extend(damaged.into_iter().flatten());
    Ok(findings)
}

async fn check_commit(lake: &Lake, folder: &str, file: &ObjectMeta) -> Result<Option<Finding>> {
    let Some(path) = lake.relative(&file.location) else { return Ok(None) };
    let Some(content) = lake.get(&path).await? else { return Ok(None) };
    let what = match parse(&content) {
        Err(error) => format!("no readable commit: {error}"),
        Ok(commit) if !commit.begins_with_info => "the commit does not begin with commitInfo".into(),
        Ok(commit) if !commit.ends_with_transaction => {
            "the commit does not end with a transaction: it was cut short, or is another program's".into()
        }
        Ok(_) => return Ok(None),
    };
    Ok(Some(Finding::new(path, what, remedy(folder))))
}

/// Looks at a table; returns it if all of its newest version can be read. `vacuumed` is the time before which replaced files
/// may have been removed.
pub async fn check_table(
    lake: &Lake,
    folder: &str,
    log: &Log,
    vacuumed: Option<DateTime<Utc>>,
) -> Result<(Option<Table>, Vec<Finding>)> {
    let mut findings = check_log(lake, folder, log).await?;
    let mut data = lake.list(folder).await?;
    data.retain(|file| {
        let path = lake.relative(&file.location).unwrap_or_default();
        path.ends_with(".parquet") && !path.contains("/_delta_log/")
    });
    if log.is_empty() {
        // A run that was cut short before its first commit leaves the same.
        if !data.is_empty() {
            let what = format!("{} data files and no log", data.len());
            findings.push(Finding::new(folder, what, "wayline run; if they stay, wayline maintain removes them"));
        }
        return Ok((None, findings));
    }
    if findings.iter().any(|found| found.is_needed) {
        return Ok((None, findings));
    }
    let table = match Table::open(lake, folder).await {
        Ok(Some(table)) => table,
        Ok(None) => return Ok((None, findings)),
        Err(error) if error.is_temporary() => return Err(error),
        Err(error) => {
            findings.push(Finding::new(folder, format!("cannot be opened: {error}"), remedy(folder)));
            return Ok((None, findings));
        }
    };
    let before = findings.len();
    let checked: Vec<Option<Finding>> = futures::stream::iter(table.files()?)
        .map(|part| check_part(lake, folder, part))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    findings.extend(checked.into_iter().flatten());
    let is_whole = findings.len() == before;
    let commits = commits(lake, log).await?;
    findings.extend(superseded(lake, folder, &commits, &table, &data, vacuumed).await?);
    findings.extend(uncommitted(lake, folder, log, &commits, &data));
    Ok((is_whole.then_some(table), findings))
}

/// What commits say, with the time at which they came.
async fn commits(lake: &Lake, log: &Log) -> Result<Vec<(DateTime<Utc>, Commit)>> {
    futures::stream::iter(log.commits.values())
        .map(|file| async {
            let content = lake.get(&lake.relative(&file.location).unwrap_or_default()).await?;
            // One that cannot be read is a finding of its own.
            let commit = content.and_then(|content| parse(&content).ok()).unwrap_or_default();
            Ok((file.last_modified, commit))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// Files that were replaced and must still be there for readers of the version before.
async fn superseded(
    lake: &Lake,
    folder: &str,
    commits: &[(DateTime<Utc>, Commit)],
    table: &Table,
    data: &[ObjectMeta],
    vacuumed: Option<DateTime<Utc>>,
) -> Result<Vec<Finding>> {
    let live: BTreeSet<String> = table.files()?.into_iter().map(|part| part.path).collect();
    let there: BTreeMap<String, &ObjectMeta> =
        data.iter().filter_map(|file| Some((lake.relative(&file.location)?, file))).collect();
    let mut findings = Vec::new();
    for (at, commit) in commits {
        for (path, bytes) in commit.removed.iter().filter(|(path, _)| !live.contains(*path)) {
            let place = format!("{folder}/{path}");
            let what = match (there.get(&place), bytes) {
                (None, _) if vacuumed.is_some_and(|cutoff| *at < cutoff) => continue,
                (None, _) => Some("is gone".to_string()),
                (Some(file), Some(bytes)) if file.size != *bytes => Some(other_size(file.size, *bytes)),
                (Some(file), _) => footer(lake, &file.location, file.size).await?.err(),
            };
            let remedy = "none is needed but for old versions; wayline maintain removes it when it is old";
            findings.extend(what.map(|what| Finding::new(place, what, remedy).of_old_versions()));
        }
    }
    Ok(findings)
}

/// Data files that came after the newest commit and that no version names: of a commit that was lost, or of a run that
/// was cut short.
fn uncommitted(
    lake: &Lake,
    folder: &str,
    log: &Log,
    commits: &[(DateTime<Utc>, Commit)],
    data: &[ObjectMeta],
) -> Option<Finding> {
    let (_, newest) = log.commits.last_key_value()?;
    let mut later = data.iter().filter(|file| file.last_modified > newest.last_modified).filter_map(|file| {
        let path = lake.relative(&file.location)?.strip_prefix(folder)?.trim_start_matches('/').to_string();
        (!commits.iter().any(|(_, commit)| commit.added.contains(&path))).then_some(path)
    });
    let first = later.next()?;
    let what =
        format!("{} data files came after the newest version and none names them, {first} for one", 1 + later.count());
    let remedy = "wayline run ends what was cut short; if a version was lost, restore it from a copy";
    Some(Finding::new(folder, what, remedy))
}

fn other_size(found: u64, expected: u64) -> String {
    format!("has {found} bytes instead of {expected}")
}

async fn check_part(lake: &Lake, folder: &str, part: Part) -> Result<Option<Finding>> {
    let path = format!("{folder}/{}", part.path);
    let what = check_file(lake, &path, part.size, part.rows).await?;
    Ok(what.map(|what| Finding::new(path, what, remedy(folder))))
}

/// What is wrong with a Parquet file that should have so many bytes and rows.
pub(super) async fn check_file(lake: &Lake, path: &str, bytes: u64, rows: usize) -> Result<Option<String>> {
    let location = lake.path(path);
    let found = match lake.store().head(&location).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(Some("is gone".into())),
        Err(error) => return Err(error.into()),
    };
    if found.size != bytes {
        return Ok(Some(other_size(found.size, bytes)));
    }
    Ok(match footer(lake, &location, bytes).await? {
        Err(what) => Some(what),
        Ok(metadata) => match metadata.file_metadata().num_rows() {
            found if found == rows as i64 => None,
            found => Some(format!("has {found} rows instead of {rows}")),
        },
    })
}

/// Bytes behind the footer: its length and the magic word.
const TAIL: u64 = 8;

/// The footer of a Parquet file, or why it cannot be read.
async fn footer(lake: &Lake, location: &Path, size: u64) -> Result<Result<ParquetMetaData, String>> {
    let unreadable = |error: ParquetError| format!("is no readable Parquet file: {error}");
    if size < 2 * TAIL {
        return Ok(Err(format!("is no Parquet file: it has {size} bytes")));
    }
    let read = async |range| lake.store().get_range(location, range).await;
    let (head, tail) = (read(0..4).await?, read(size - TAIL..size).await?);
    let length = u64::from(u32::from_le_bytes(tail[..4].try_into().unwrap_or_default()));
    if head != "PAR1" || tail[4..] != *b"PAR1" || length + TAIL + 4 > size {
        return Ok(Err("is no Parquet file: it has another beginning or end".into()));
    }
    let metadata = read(size - TAIL - length..size - TAIL).await?;
    // Decoders of damaged footers may panic.
    let decoded = std::panic::catch_unwind(|| ParquetMetaDataReader::decode_metadata(&metadata));
    Ok(match decoded {
        Ok(decoded) => decoded.map_err(unreadable),
        Err(_) => Err("is no readable Parquet file: its footer is damaged".into()),
    })
}
