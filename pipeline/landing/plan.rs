//! What to land next: lists the sources, leaves out what was taken before, cuts the rest into batches.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStoreExt;
use sha2::{Digest, Sha256};
use url::Url;

use super::ledger::{Entry, PlannedFile, TakenFile};
use crate::config::{ChangedFiles, Project, Source};
use crate::error::{Context, Error, Result};
use crate::lake::store_of;
use crate::sources::{FileEntry, Root, list};

/// Stored bytes after which a batch is full. A file is never divided, so a batch may be larger by one file.
const BATCH_BYTES: u64 = 512 << 20;
/// Compressed files count as so many times their size.
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

/// Lists the files of a source.
pub async fn list_source(project: &Project, source: &Source) -> Result<Listed> {
    let place = || format!("source `{}`", source.name);
    let (root, prefix, pattern) = locate(project, &source.path).map_err(|error| error.context(place()))?;
    let listing = list(&root, &pattern).await.map_err(|error| error.context(place()))?;
    for remark in &listing.flagged {
        tracing::warn!(source = source.name, path = remark.path, reason = remark.reason, "odd file name");
    }
    let shown = |path: &str| format!("{prefix}{path}");
    let files = listing.files.into_iter().map(|file| (shown(file.path.as_ref()), file)).collect();
    let refused =
        listing.refused.into_iter().map(|remark| (shown(&remark.path), remark.reason, remark.detail)).collect();
    Ok(Listed { root, prefix, files, refused })
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

    /// SHA-256 of a file's bytes, as hex.
    async fn sha256(&self, file: &FileEntry) -> Result<String> {
        let digest = match &self.root {
            Root::Folder(folder) => {
                let path = folder.join(file.path.as_ref());
                let mut content = std::fs::File::open(&path).context(path.display())?;
                let mut hasher = Sha256::new();
                std::io::copy(&mut content, &mut DigestWriter(&mut hasher))?;
                hasher.finalize()
            }
            Root::Store(store) => Sha256::digest(&store.get(&file.path).await?.bytes().await?),
        };
        Ok(hex::encode(digest))
    }
}

struct DigestWriter<'a>(&'a mut Sha256);

impl std::io::Write for DigestWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
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
            return Ok((Root::Store(store), base.to_string(), pattern.into()));
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

/// Files that were taken, by source and path; of several takes the last.
pub fn taken(entries: &[Entry]) -> BTreeMap<(String, String), TakenFile> {
    let files = entries.iter().flat_map(|entry| &entry.files);
    files.map(|taken| ((taken.file.source.clone(), taken.file.path.clone()), taken.clone())).collect()
}

/// The files to land next, at most a batch full of them, in the order of sources and paths. Empty: nothing is new.
///
/// Errors: a file that changed after it was taken, unless `[landing] changed_files` allows it.
pub async fn next_files(
    project: &Project,
    listed: &[(Arc<Source>, Listed)],
    taken: &BTreeMap<(String, String), TakenFile>,
) -> Result<Vec<PlannedFile>> {
    let mut next = Vec::new();
    let mut weight = 0;
    for (source, listing) in listed {
        for (shown, file) in &listing.files {
            let planned = Listed::planned(&source.name, shown, file);
            if let Some(before) = taken.get(&(source.name.clone(), shown.clone())) {
                if !is_changed(listing, file, &planned, before).await? {
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
            }
            let is_compressed = [".gz", ".zst", ".gzip", ".zstd"].iter().any(|ending| shown.ends_with(ending));
            weight += file.size * if is_compressed { EXPANSION } else { 1 };
            next.push(planned);
            if weight >= BATCH_BYTES {
                return Ok(next);
            }
        }
    }
    Ok(next)
}

/// A file of other size changed; one of other time or version is read to find out.
async fn is_changed(listing: &Listed, file: &FileEntry, now: &PlannedFile, before: &TakenFile) -> Result<bool> {
    if now.looks_like(&before.file) {
        return Ok(false);
    }
    match &before.sha256 {
        Some(sha256) if now.size == before.file.size => Ok(listing.sha256(file).await? != *sha256),
        _ => Ok(true),
    }
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
