//! Listing: the files below a root that match a pattern, in the order of their paths.
//!
//! Folders are scanned here and not by the object store, whose local list follows symbolic links, fails on names with
//! control characters and hides names that end in `#` and digits. What is odd is neither read nor passed over in
//! silence: it is a [`Remark`].

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File};
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use globset::{GlobBuilder, GlobMatcher};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::{Damage, FileEntry};
use crate::error::{Error, Result};

/// Where files are looked for.
#[derive(Debug, Clone)]
pub enum Root {
    /// A folder of this machine.
    Folder(PathBuf),
    /// An object store.
    Store(Arc<dyn ObjectStore>),
}

/// What [`list()`] found.
#[derive(Debug, Default)]
pub struct Listing {
    /// The files, in the order of their paths' bytes.
    pub files: Vec<FileEntry>,
    /// What matches and cannot be read: `symlink`, `not_regular`, `hidden_by_store`, `name_not_utf8`, `permission`.
    pub refused: Vec<Remark>,
    /// What is read and is odd: `name_collision`, names that differ in case alone.
    pub flagged: Vec<Remark>,
}

/// Something odd about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The path below the root, with what cannot be shown escaped.
    pub path: String,
    /// The reason's code.
    pub reason: &'static str,
    /// What was found.
    pub detail: String,
}

/// The files below `root` whose paths match `pattern`.
///
/// The pattern is a glob over whole paths: `*` and `?` stay within a segment, `**` crosses them, `[a-z]` and `{a,b}` as
/// usual. A folder that does not exist holds no files.
/// Errors: a pattern that is absolute, leaves the root or is malformed; a store out of reach.
pub async fn list(root: &Root, pattern: &str) -> Result<Listing> {
    let pattern = Pattern::new(pattern)?;
    let mut listing = match root {
        Root::Folder(folder) => {
            let folder = folder.clone();
            let scan = tokio::task::spawn_blocking(move || Scan::new(&folder, &pattern).run());
            scan.await.map_err(|error| Error::internal(format!("scan of a folder: {error}")))??
        }
        Root::Store(store) => list_store(store.as_ref(), &pattern).await?,
    };
    listing.files.sort_by(|a, b| a.path.as_ref().cmp(b.path.as_ref()));
    listing.refused.sort_by(|a, b| a.path.cmp(&b.path));
    listing.flagged = collisions(&listing.files);
    Ok(listing)
}

async fn list_store(store: &dyn ObjectStore, pattern: &Pattern) -> Result<Listing> {
    let entry = |meta: ObjectMeta| FileEntry {
        path: meta.location,
        size: meta.size,
        last_modified: meta.last_modified,
        e_tag: meta.e_tag,
    };
    let files = if pattern.is_literal {
        match store.head(&Path::parse(&pattern.text).map_err(object_store::Error::from)?).await {
            Ok(meta) => vec![entry(meta)],
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        }
    } else {
        let prefix = Path::parse(pattern.prefix.join("/")).map_err(object_store::Error::from)?;
        let found = store.list((!prefix.is_root()).then_some(&prefix));
        let matching = found.try_filter(|meta| std::future::ready(pattern.matches(meta.location.as_ref())));
        matching.map_ok(entry).try_collect().await?
    };
    Ok(Listing { files, ..Listing::default() })
}

/// A glob, and how far a scan must go for it.
struct Pattern {
    text: String,
    matcher: GlobMatcher,
    is_literal: bool,
    /// The folders before the first wildcard.
    prefix: Vec<String>,
    /// Segments of a match, if they are fixed.
    depth: Option<usize>,
}

impl Pattern {
    fn new(text: &str) -> Result<Self> {
        let segments: Vec<&str> = text.split('/').collect();
        if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(Error::invalid(format!("pattern `{text}` must name files below its root"))
                .hint("write it relative to the root, without `..` and empty segments"));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let matcher = glob.map_err(|error| Error::invalid(format!("pattern `{text}`: {error}")))?.compile_matcher();
        let is_wild = |segment: &&str| segment.contains(['*', '?', '[', ']', '{', '}', '\\']);
        let wild = segments.iter().position(is_wild);
        let folders = wild.unwrap_or(segments.len()).min(segments.len() - 1);
        Ok(Self {
            text: text.to_string(),
            matcher,
            is_literal: wild.is_none(),
            prefix: segments[..folders].iter().map(ToString::to_string).collect(),
            depth: (!text.contains("**") && !text.contains('{')).then_some(segments.len()),
        })
    }

    fn matches(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }
}

/// One scan of a folder.
struct Scan<'s> {
    root: &'s FsPath,
    pattern: &'s Pattern,
    listing: Listing,
}

impl<'s> Scan<'s> {
    fn new(root: &'s FsPath, pattern: &'s Pattern) -> Self {
        Self { root, pattern, listing: Listing::default() }
    }

    fn run(mut self) -> Result<Listing> {
        let mut folder = self.root.to_path_buf();
        for (index, name) in self.pattern.prefix.iter().enumerate() {
            folder.push(name);
            let is_link = fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_symlink());
            if is_link {
                let path = self.pattern.prefix[..=index].join("/");
                self.refuse(path, "symlink", "a folder of the pattern is a symbolic link");
                return Ok(self.listing);
            }
        }
        self.folder(&folder, &self.pattern.prefix.clone())?;
        Ok(self.listing)
    }

    fn folder(&mut self, folder: &FsPath, segments: &[String]) -> Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(segments.join("/"), error),
        };
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry, segments)?,
                Err(error) => self.unreadable(segments.join("/"), error)?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry, parents: &[String]) -> Result<()> {
        let name = entry.file_name();
        let shown = escape_controls(&name.to_string_lossy());
        let mut segments = parents.to_vec();
        segments.push(shown);
        let path = segments.join("/");
        let is_match = self.pattern.matches(&path);
        let is_on_the_way = self.pattern.depth.is_none_or(|depth| segments.len() < depth);
        let metadata = match fs::symlink_metadata(entry.path()) {
            Ok(metadata) => metadata,
            Err(error) if is_match => return self.unreadable(path, error),
            Err(_) => return Ok(()),
        };
        if name.to_str().is_none() {
            if is_match || (metadata.is_dir() && is_on_the_way) {
                self.refuse(path, "name_not_utf8", format!("the name's bytes are {:?}", name));
            }
        } else if metadata.is_symlink() {
            let is_folder = fs::metadata(entry.path()).is_ok_and(|target| target.is_dir());
            if is_match || (is_folder && is_on_the_way) {
                self.refuse(path, "symlink", "symbolic links are not followed");
            }
        } else if metadata.is_dir() {
            if is_match {
                self.refuse(path, "not_regular", "a folder, not a file");
            }
            if is_on_the_way {
                self.folder(&entry.path(), &segments)?;
            }
        } else if !metadata.is_file() {
            if is_match {
                self.refuse(path, "not_regular", "a pipe, socket or device, not a file");
            }
        } else if let Some(stem) = before_number_sign(&path) {
            if is_match || self.pattern.matches(stem) {
                self.refuse(
                    path,
                    "hidden_by_store",
                    "names that end in `#` and digits are reserved for partial writes",
                );
            }
        } else if is_match {
            let last_modified = metadata.modified().map_or(DateTime::UNIX_EPOCH, DateTime::<Utc>::from);
            let path = Path::parse(&path).map_err(object_store::Error::from)?;
            self.listing.files.push(FileEntry { path, size: metadata.len(), last_modified, e_tag: None });
        }
        Ok(())
    }

    /// A folder or name that is gone is no longer there to be listed; one that is closed is a remark.
    fn unreadable(&mut self, path: String, error: io::Error) -> Result<()> {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
            io::ErrorKind::PermissionDenied => {
                self.refuse(path, "permission", error.to_string());
                Ok(())
            }
            _ => Err(Error::from(error).context(format!("listing `{path}`"))),
        }
    }

    fn refuse(&mut self, path: String, reason: &'static str, detail: impl Into<String>) {
        self.listing.refused.push(Remark { path, reason, detail: detail.into() });
    }
}

/// Opens a listed file, if it is still a regular file reached without symbolic links.
pub(super) fn open(folder: &FsPath, path: &Path) -> Result<File, Damage> {
    let mut place = folder.join(path.as_ref());
    if !place.exists() {
        place = folder.join(unescape_controls(path.as_ref()));
    }
    let mut below = folder.to_path_buf();
    for name in place.strip_prefix(folder).into_iter().flat_map(FsPath::iter) {
        below.push(name);
        let metadata = fs::symlink_metadata(&below).map_err(gone)?;
        if metadata.is_symlink() {
            return Err(Damage::file("symlink", "symbolic links are not followed"));
        }
        if below == place && !metadata.is_file() {
            return Err(Damage::file("not_regular", "not a regular file"));
        }
    }
    File::open(&place).map_err(gone)
}

fn gone(error: io::Error) -> Damage {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Damage::gone(),
        _ => error.into(),
    }
}

/// The path without a final `#` and digits.
fn before_number_sign(path: &str) -> Option<&str> {
    let (stem, digits) = path.rsplit_once('#')?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(stem)
}

/// Object paths hold no control characters: they stand as in URLs.
fn escape_controls(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        match character.is_ascii_control() {
            true => escaped.push_str(&format!("%{:02X}", u32::from(character))),
            false => escaped.push(character),
        }
    }
    escaped
}

fn unescape_controls(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let code = rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        text.push_str(&rest[..at]);
        match code.filter(u8::is_ascii_control) {
            Some(control) => {
                text.push(char::from(control));
                rest = &rest[at + 3..];
            }
            None => {
                text.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    text.push_str(rest);
    text
}

fn collisions(files: &[FileEntry]) -> Vec<Remark> {
    let mut by_folded: BTreeMap<String, Vec<&FileEntry>> = BTreeMap::new();
    for file in files {
        by_folded.entry(file.path.as_ref().to_lowercase()).or_default().push(file);
    }
    let groups = by_folded.into_values().filter(|group| group.len() > 1);
    let remark = |file: &FileEntry| Remark {
        path: file.path.to_string(),
        reason: "name_collision",
        detail: "another name differs in case alone".to_string(),
    };
    groups.flat_map(|group| group.into_iter().map(remark).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use object_store::memory::InMemory;

    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        folder
    }

    async fn found(folder: &FsPath, pattern: &str) -> (Vec<String>, Vec<(String, &'static str)>) {
        let listing = list(&Root::Folder(folder.to_path_buf()), pattern).await.unwrap();
        let files = listing.files.iter().map(|file| file.path.to_string()).collect();
        (files, listing.refused.into_iter().map(|remark| (remark.path, remark.reason)).collect())
    }

    #[tokio::test]
    async fn a_folder_and_a_store_list_the_same_files_in_order() {
        let names = ["web/a.jsonl", "web/b.jsonl.gz", "web/deep/c.jsonl", "web/x.csv", "d.jsonl", "Web/a.jsonl"];
        let folder = folder(&names);
        let store = InMemory::new();
        for name in names {
            store.put(&Path::from(name), name.into()).await.unwrap();
        }
        let store = Root::Store(Arc::new(store));
        let cases: [(&str, &[&str]); 7] = [
            ("web/*.jsonl*", &["web/a.jsonl", "web/b.jsonl.gz"]),
            ("**/*.jsonl", &["Web/a.jsonl", "d.jsonl", "web/a.jsonl", "web/deep/c.jsonl"]),
            ("*/*/*.jsonl", &["web/deep/c.jsonl"]),
            ("web/{a.jsonl,deep/c.jsonl}", &["web/a.jsonl", "web/deep/c.jsonl"]),
            ("web/x.csv", &["web/x.csv"]),
            ("web/none.csv", &[]),
            ("none/*.csv", &[]),
        ];
        for (pattern, expected) in cases {
            assert_eq!(found(folder.path(), pattern).await.0, expected, "{pattern} in a folder");
            let listing = list(&store, pattern).await.unwrap();
            let files: Vec<_> = listing.files.iter().map(|file| file.path.to_string()).collect();
            assert_eq!(files, expected, "{pattern} in a store");
        }
    }

    #[tokio::test]
    async fn odd_entries_are_refused_with_a_reason_and_the_others_listed() {
        let folder = folder(&["good.jsonl", "events.jsonl#2", "x.jsonl/inner.jsonl", "real/r.jsonl"]);
        let place = folder.path();
        std::os::unix::fs::symlink("/etc/passwd", place.join("link.jsonl")).unwrap();
        std::os::unix::fs::symlink(place, place.join("loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", place.join("broken.jsonl")).unwrap();
        std::os::unix::net::UnixListener::bind(place.join("socket.jsonl")).unwrap();
        fs::write(place.join(std::ffi::OsStr::from_bytes(b"bad\xff.jsonl")), "").unwrap();
        let (files, refused) = found(place, "**/*.jsonl").await;
        assert_eq!(files, ["good.jsonl", "real/r.jsonl", "x.jsonl/inner.jsonl"]);
        let expected = [
            ("bad\u{fffd}.jsonl", "name_not_utf8"),
            ("broken.jsonl", "symlink"),
            ("events.jsonl#2", "hidden_by_store"),
            ("link.jsonl", "symlink"),
            ("loop", "symlink"),
            ("socket.jsonl", "not_regular"),
            ("x.jsonl", "not_regular"),
        ];
        assert_eq!(refused, expected.map(|(path, reason)| (path.to_string(), reason)));
        assert_eq!(found(place, "loop/*.jsonl").await.1, [("loop".to_string(), "symlink")]);
    }

    #[tokio::test]
    async fn strange_names_are_listed_and_can_be_opened() {
        let long = "x".repeat(249) + ".jsonl";
        let names = ["a\nb.jsonl", "quo\"te.jsonl", "50%.jsonl", "%0A.jsonl", "😀.jsonl", "dot. .jsonl", &long];
        let folder = folder(&names);
        let listing = list(&Root::Folder(folder.path().to_path_buf()), "*.jsonl").await.unwrap();
        assert_eq!(listing.files.len(), names.len());
        let mut contents: Vec<String> = Vec::new();
        for file in &listing.files {
            contents.push(io::read_to_string(open(folder.path(), &file.path).unwrap()).unwrap());
        }
        contents.sort();
        let mut names = names.map(String::from);
        names.sort();
        assert_eq!(contents, names);
    }

    #[tokio::test]
    async fn names_that_differ_in_case_alone_are_flagged_and_kept() {
        let folder = folder(&["A.csv", "a.csv", "b.csv"]);
        let listing = list(&Root::Folder(folder.path().to_path_buf()), "*.csv").await.unwrap();
        assert_eq!(listing.files.len(), 3);
        let flagged: Vec<_> = listing.flagged.iter().map(|remark| (remark.path.as_str(), remark.reason)).collect();
        assert_eq!(flagged, [("A.csv", "name_collision"), ("a.csv", "name_collision")]);
    }

    #[tokio::test]
    async fn a_pattern_cannot_leave_its_root() {
        for pattern in ["../x.csv", "/etc/passwd", "a//b", "a/./b", "a/../../b", "", "[.csv"] {
            let error = list(&Root::Folder(".".into()), pattern).await.unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Invalid, "{pattern}");
        }
    }

    #[test]
    fn what_changed_since_the_listing_is_noticed_when_it_is_opened() {
        let folder = folder(&["real.jsonl", "folder/x"]);
        std::os::unix::fs::symlink("real.jsonl", folder.path().join("link.jsonl")).unwrap();
        let opened = |name: &str| match open(folder.path(), &Path::from(name)) {
            Ok(_) => "opened".to_string(),
            Err(damage) => damage.to_string(),
        };
        assert_eq!(opened("real.jsonl"), "opened");
        assert!(opened("link.jsonl").starts_with("symlink"));
        assert!(opened("folder").starts_with("not_regular"));
        assert!(opened("none.jsonl").contains("gone"));
        let closed = Damage::from(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(closed.to_string().starts_with("permission"));
    }
}
