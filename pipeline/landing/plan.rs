//! What to land next: lists the sources, leaves out what was taken before, cuts the rest into batches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::ledger::{Entry, PlannedFile, TakenFile};
use crate::config::{ChangedFiles, Project, Source};
use crate::error::{Error, Result};
use crate::lake::store_of;
use crate::sources::{self, FileEntry, Format, Root, list};
use crate::workspace::Workspace;

/// Compressed files and those of Parquet count as so many times their size.
const EXPANSION: u64 = 8;

/// A source's files as they lie now.
pub struct Listed {
    /// Where paths start.
    pub root: Root,
    /// What goes before a path when it is shown or kept in the ledger: the path of the root below the project, or its URL.
    prefix: String,
    /// Files by shown path.
    pub files: BTreeMap<String, FileEntry>,
    /// Entries that were passed over, as (path, reason, detail).
    pub refused: Vec<(String, &'static str, String)>,
}

/// What lies in a lake, at its top.
const OWN: [&str; 8] = ["landing", "identity", "changes", "models", "marts", "runs", "staging", "catalog.json"];

/// Lists the files of a source; never the lake's own.
pub async fn list_source(workspace: &Workspace, source: &Source) -> Result<Listed> {
    let place = || format!("source `{}`", source.name);
    let (root, prefix, pattern) = locate(&workspace.project, &source.path).map_err(|error| error.context(place()))?;
    let listing = list(&root, &pattern).await.map_err(|error| error.context(place()))?;
    for remark in &listing.flagged {
        tracing::warn!(source = source.name, path = remark.path, reason = remark.reason, "odd file name");
    }
    let shown = |path: &str| format!("{prefix}{path}");
    let lake = lake_below(&root, &prefix, workspace);
    let is_lake = |path: &str| {
        let below = lake.as_deref().and_then(|lake| Path::new(path).strip_prefix(lake).ok());
        below.and_then(|below| below.iter().next()).is_some_and(|first| OWN.iter().any(|own| first == *own))
    };
    let mut refused: Vec<_> = listing
        .refused
        .into_iter()
        .filter(|remark| !is_lake(&remark.path))
        .map(|remark| (shown(&remark.path), remark.reason, remark.detail))
        .collect();
    let mut files = BTreeMap::new();
    for file in listing.files.into_iter().filter(|file| !is_lake(file.path.as_ref())) {
        let name = file.path.filename().unwrap_or_default();
        if source.format.is_some() || Format::from_name(name).is_some() {
            files.insert(shown(file.path.as_ref()), file);
        } else if !name.starts_with(['_', '.']) {
            // Such names are marks that other programs leave beside their data: `_SUCCESS`, `.DS_Store`.
            let detail = "its name tells no format; the source's `format` would";
            refused.push((shown(file.path.as_ref()), "unknown_format", detail.to_string()));
        }
    }
    Ok(Listed { root, prefix, files, refused })
}

/// Where the lake lies below a root, if it does. `shown` is the URL of a root that is a store.
fn lake_below(root: &Root, shown: &str, workspace: &Workspace) -> Option<PathBuf> {
    match root {
        Root::Folder(folder) => {
            let lake = workspace.lake.local_folder()?;
            Some(lake.strip_prefix(folder.canonicalize().ok()?).ok()?.to_path_buf())
        }
        Root::Store(_) => Some(PathBuf::from(workspace.lake.url().as_str().strip_prefix(shown)?)),
    }
}

impl Listed {
    /// The file as planned.
    pub fn planned(source: &str, shown: &str, file: &FileEntry) -> PlannedFile {
        PlannedFile {
            source: source.into(),
            path: shown.into(),
            size: file.size,
            last_modified: file.last_modified.to_rfc3339(),
            e_tag: file.e_tag.clone(),
        }
    }

    /// Whether a file that was planned is there and still the same: by its looks or, where its hash is known, by that.
    pub async fn still_holds(&self, planned: &PlannedFile, sha256: Option<&str>) -> Result<bool> {
        let Some(file) = self.files.get(&planned.path) else { return Ok(false) };
        let now = Self::planned(&planned.source, &planned.path, file);
        match sha256 {
            _ if now.looks_like(planned) => Ok(true),
            Some(sha256) if now.size == planned.size => {
                Ok(sources::sha256(&self.root, file).await?.is_some_and(|found| hex::encode(found) == sha256))
            }
            _ => Ok(false),
        }
    }
}

/// Splits `path` into a root, what is shown before paths below it, and a glob below it.
fn locate(project: &Project, path: &str) -> Result<(Root, String, String)> {
    if path.contains("://") {
        let url = Url::parse(path).map_err(|error| Error::invalid(format!("`{path}` is no URL: {error}")))?;
        if url.scheme() != "file" {
            let base =
                Url::parse(&url[..url::Position::BeforePath]).map_err(|error| Error::internal(error.to_string()))?;
            let (store, _) = store_of(&base)?;
            let pattern = path.splitn(4, '/').nth(3).unwrap_or_default();
            let shown = format!("{}/", base.as_str().trim_end_matches('/'));
            return Ok((Root::Store(store), shown, pattern.into()));
        }
        let local = url.to_file_path().map_err(|()| Error::invalid(format!("`{path}` is no local path")))?;
        return Ok(below_literal_folder(&local));
    }
    let relative = Path::new(path);
    let stays_inside = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if stays_inside {
        let pattern = path.trim_start_matches("./");
        return Ok((Root::Folder(project.folder.clone()), String::new(), pattern.into()));
    }
    Ok(below_literal_folder(&project.folder.join(relative)))
}

/// A path outside the project: the root is its longest folder without wildcards.
fn below_literal_folder(path: &Path) -> (Root, String, String) {
    let mut folder = PathBuf::new();
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next_if(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{'])) {
        if parts.peek().is_none() {
            // The last part is a file name, also without wildcards.
            return (
                Root::Folder(folder.clone()),
                format!("{}/", folder.display()),
                part.as_os_str().to_string_lossy().into(),
            );
        }
        folder.push(part);
    }
    let pattern: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    (Root::Folder(folder.clone()), format!("{}/", folder.display()), pattern.join("/"))
}

/// What is known of files before a batch is planned.
#[derive(Debug, Default)]
pub struct Known {
    /// Files that were taken, by source and path; of several takes the last.
    taken: BTreeMap<(String, String), TakenFile>,
    /// Files taken whose content is the same although their looks changed since.
    touched: Vec<TakenFile>,
    /// Files that this run leaves alone.
    passed_over: BTreeSet<(String, String)>,
}

impl Known {
    /// What the ledger says.
    pub fn of(entries: &[Arc<Entry>]) -> Self {
        let mut known = Self::default();
        entries.iter().for_each(|entry| known.add(entry));
        known
    }

    /// Adds what a further entry says.
    pub fn add(&mut self, entry: &Entry) {
        let files = entry.files.iter().chain(&entry.touched);
        self.taken.extend(files.map(|taken| ((taken.file.source.clone(), taken.file.path.clone()), taken.clone())));
    }

    /// Leaves a file alone for the rest of this run.
    pub fn pass_over(&mut self, source: &str, path: &str) {
        self.passed_over.insert((source.into(), path.into()));
    }

    /// Whether any file of a source was ever taken.
    pub fn has_taken_from(&self, source: &str) -> bool {
        self.taken.keys().any(|(of, _)| of == source)
    }

    /// Files that look otherwise than when they were taken, for the next entry, so that they are not read for that again.
    pub fn take_touched(&mut self) -> Vec<TakenFile> {
        std::mem::take(&mut self.touched)
    }
}

/// The files to land next, at most a batch full of them, in the order of sources and paths. Empty: nothing is new.
///
/// A file that was refused whole is taken again once it looks otherwise: its upload may have ended only then.
/// Errors: a file that changed after it was taken, unless `[landing] changed_files` allows it.
pub async fn next_files(
    project: &Project,
    listed: &[(Arc<Source>, Listed)],
    known: &mut Known,
) -> Result<Vec<PlannedFile>> {
    let mut next = Vec::new();
    let mut weight = 0;
    for (source, listing) in listed {
        for (shown, file) in &listing.files {
            let planned = Listed::planned(&source.name, shown, file);
            let key = (source.name.clone(), shown.clone());
            if known.passed_over.contains(&key) {
                continue;
            }
            if let Some(before) = known.taken.get(&key)
                && let Some(sha256) = &before.sha256
            {
                if listing.still_holds(&before.file, Some(sha256)).await? {
                    if !planned.looks_like(&before.file) {
                        let touched = TakenFile { file: planned, ..before.clone() };
                        known.touched.push(touched.clone());
                        known.taken.insert(key, touched);
                    }
                    continue;
                }
                match project.config.landing.changed_files {
                    ChangedFiles::Ignore => continue,
                    ChangedFiles::Land => {}
                    ChangedFiles::Error => {
                        return Err(Error::invalid(format!(
                            "source `{}`: {shown} changed after it was taken ({} bytes then, {} now)",
                            source.name, before.file.size, file.size
                        ))
                        .hint("restore it, or set [landing] changed_files to \"land\" or \"ignore\""));
                    }
                }
            } else if known.taken.get(&key).is_some_and(|before| planned.looks_like(&before.file)) {
                continue;
            }
            let grows = Format::from_name(shown) == Some(Format::Parquet) || is_compressed(shown);
            weight += file.size * if grows { EXPANSION } else { 1 };
            next.push(planned);
            if weight >= project.config.landing.max_batch_bytes {
                return Ok(next);
            }
        }
    }
    Ok(next)
}

fn is_compressed(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    [".gz", ".zst", ".gzip", ".zstd"].iter().any(|ending| path.ends_with(ending))
}

impl std::fmt::Debug for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listed").field("prefix", &self.prefix).field("files", &self.files.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_outside_the_project_starts_at_its_literal_folder() {
        for (path, root, pattern) in [
            ("/data/web/*.jsonl", "/data/web", "*.jsonl"),
            ("/data/web/day.jsonl", "/data/web", "day.jsonl"),
            ("/data/*/x/*.csv", "/data", "*/x/*.csv"),
        ] {
            let (found, prefix, rest) = below_literal_folder(Path::new(path));
            let Root::Folder(folder) = found else { panic!("a folder") };
            assert_eq!(
                (folder.as_path(), prefix.as_str(), rest.as_str()),
                (Path::new(root), format!("{root}/").as_str(), pattern)
            );
        }
    }
}
