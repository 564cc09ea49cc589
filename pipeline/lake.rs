//! The lake: one root on any object store, and the few ways in which we touch objects there.
//!
//! Paths are relative to the lake's root and use `/`. Nothing is listed to find the truth: tables are read from their
//! logs, batches by number.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use url::Url;

use self::documents::Documents;
use self::durable::{Durable, SystemDisk};
use self::loaded::Loaded;
use crate::error::{Context, Error, Result};

pub(crate) mod documents;
pub(crate) mod durable;
#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
pub(crate) mod forgetful;
pub(crate) mod loaded;
#[cfg(test)]
pub(crate) mod power_loss;
mod upload;

/// Name of the lock file in a project.
const LOCK_FILE: &str = ".wayline.lock";

/// An object store and a place in it.
#[derive(Debug, Clone)]
pub struct Lake {
    url: Url,
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// Of this store alone: a table reads and commits through the store that it was loaded from.
    loaded: Arc<Loaded>,
    documents: Arc<Documents>,
}

impl Lake {
    /// Opens `location`: a folder relative to `base`, which the first write makes, or an object store URL.
    pub fn open(base: &FilePath, location: &str) -> Result<Self> {
        let url = resolve(base, location)?;
        let (mut store, root) = store_of(&url)?;
        if url.scheme() == "file" {
            store = Arc::new(Durable::new(Arc::new(SystemDisk { syncs: true })));
        }
        Ok(Self { url, store, root, loaded: Arc::default(), documents: Arc::default() })
    }

    /// The same lake; on a local disk, what is written to it from here on may be lost with the power. Other stores say
    /// themselves when a write is done.
    pub fn without_syncs(self) -> Self {
        match self.local_folder() {
            Some(_) => self.through(Arc::new(Durable::new(Arc::new(SystemDisk { syncs: false })))),
            None => self,
        }
    }

    /// The same lake through a store around its own, for tests of faults.
    #[cfg(test)]
    pub fn with_store(self, wrap: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        let store = wrap(self.store.clone());
        self.through(store)
    }

    fn through(self, store: Arc<dyn ObjectStore>) -> Self {
        Self { store, loaded: Arc::default(), documents: Arc::default(), ..self }
    }

    /// The lake's URL, ending in `/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The store, rooted at the bucket or at the file system's root.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Delta tables that were loaded from it.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Documents that were read from it.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Path of an object in the store.
    pub fn path(&self, relative: &str) -> Path {
        relative.split('/').filter(|part| !part.is_empty()).fold(self.root.clone(), |path, part| path.join(part))
    }

    /// URL of a folder in the lake, without a trailing slash.
    pub fn folder_url(&self, relative: &str) -> Result<Url> {
        self.url.join(relative).map_err(|error| Error::internal(format!("lake path `{relative}`: {error}")))
    }

    /// Folder on the local disk, when the lake lies there.
    pub fn local_folder(&self) -> Option<PathBuf> {
        // Of a URL without a host the path is taken for one on the disk, whatever the scheme.
        (self.url.scheme() == "file").then(|| self.url.to_file_path().ok()).flatten()
    }

    /// Reads an object; `None` when there is none.
    pub async fn get(&self, relative: &str) -> Result<Option<Bytes>> {
        self.get_at(&self.path(relative)).await.context(relative)
    }

    async fn get_at(&self, path: &Path) -> Result<Option<Bytes>> {
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What `parse` makes of a document as it was listed, which is read once while it stays so; `None` when there is none.
    pub async fn read_once<T: Any + Send + Sync>(
        &self,
        document: &ObjectMeta,
        parse: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<Option<Arc<T>>> {
        if let Some(known) = self.documents.get(document) {
            return Ok(Some(known));
        }
        let path = &document.location;
        let named = self.relative(path).unwrap_or_else(|| path.to_string());
        let Some(bytes) = self.get_at(path).await.context(&named)? else { return Ok(None) };
        let read = Arc::new(parse(&bytes).context(&named)?);
        self.documents.remember(document.clone(), read.clone());
        Ok(Some(read))
    }

    /// Writes an object whole, replacing what is there in one step.
    pub async fn put(&self, relative: &str, content: Bytes) -> Result<()> {
        self.store.put(&self.path(relative), content.into()).await.context(relative)?;
        Ok(())
    }

    /// Writes an object unless one is there; says whether it wrote.
    pub async fn put_new(&self, relative: &str, content: Bytes) -> Result<bool> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(relative), content.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(Error::from(error).context(relative)),
        }
    }

    /// Removes an object; one that is not there is no error.
    pub async fn delete(&self, relative: &str) -> Result<()> {
        match self.store.delete(&self.path(relative)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::from(error).context(relative)),
        }
    }

    /// What the store tells of an object; `None` when there is none.
    pub async fn head(&self, relative: &str) -> Result<Option<ObjectMeta>> {
        match self.store.head(&self.path(relative)).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::from(error).context(relative)),
        }
    }

    /// Objects under a folder, by path.
    pub async fn list(&self, relative: &str) -> Result<Vec<ObjectMeta>> {
        let folder = self.path(relative);
        let mut found: Vec<_> = self.store.list(Some(&folder)).try_collect().await.context(relative)?;
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// The same of documents that are read once: what was read of those that are gone is forgotten.
    pub async fn list_documents(&self, relative: &str) -> Result<Vec<ObjectMeta>> {
        let listed = self.list(relative).await?;
        self.documents.keep(&self.path(relative), &listed);
        Ok(listed)
    }

    /// The path of an object relative to the lake's root, if it lies in the lake.
    pub fn relative(&self, path: &Path) -> Option<String> {
        let parts: Vec<_> = path.prefix_match(&self.root)?.collect();
        Some(parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>().join("/"))
    }
}

/// Turns a folder or URL into a URL that ends in `/` (for a folder) or stays as it is.
pub fn resolve(base: &FilePath, location: &str) -> Result<Url> {
    let mut text = location.to_string();
    if !text.contains("://") {
        let folder = canonical(&std::path::absolute(base.join(location))?);
        return Url::from_directory_path(&folder)
            .map_err(|()| Error::invalid(format!("{} cannot be written as a URL", folder.display())));
    }
    if !text.ends_with('/') {
        text.push('/');
    }
    Url::parse(&text).map_err(|error| Error::invalid(format!("`{location}` is not a folder or URL: {error}")))
}

/// A path without symbolic links, as far as it is there.
fn canonical(path: &FilePath) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Err(_), Some(parent), Some(name)) => canonical(parent).join(name),
        (found, _, _) => found.unwrap_or_else(|_| path.to_path_buf()),
    }
}

/// The store behind a URL and the URL's path in it. Credentials come from the environment.
pub fn store_of(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let (store, path) = object_store::parse_url_opts(url, crate::config::environment()).map_err(|error| {
        let invalid = Error::invalid(format!("{url}: {error}"));
        match url.scheme() {
            "s3" | "s3a" | "gs" | "az" | "abfs" | "abfss" | "http" | "https" => {
                invalid.hint("this build may lack the store: build with --features s3, gcs or azure")
            }
            _ => invalid,
        }
    })?;
    Ok((Arc::from(store), path))
}

/// Holds a project and its lake, where that is a folder, so that two runs never collide; released when dropped, also
/// when the process dies.
#[derive(Debug)]
pub struct Lock {
    _project: File,
    _lake: Option<File>,
}

impl Lock {
    /// Takes the lock of the project in `folder` and that of its lake, or says who holds it.
    pub fn take(folder: &FilePath, lake: &Lake) -> Result<Self> {
        let project = lock_project(folder)?;
        // The folder itself is locked: nothing is written into a lake for that.
        let lake = lake.local_folder().map(|folder| {
            std::fs::create_dir_all(&folder).context(folder.display())?;
            let file = File::open(&folder).context(folder.display())?;
            match file.try_lock() {
                Ok(()) => Ok(file),
                Err(std::fs::TryLockError::WouldBlock) => Err(held(&folder, "of another project")),
                Err(std::fs::TryLockError::Error(error)) => Err(Error::from(error).context(folder.display())),
            }
        });
        Ok(Self { _project: project, _lake: lake.transpose()? })
    }
}

/// Who holds the project in a folder; none if nobody does. Asking holds it for the moment of the question alone.
pub fn lock_holder(folder: &FilePath) -> Result<Option<String>> {
    let path = folder.join(LOCK_FILE);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::from(error).context(path.display())),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).unwrap_or_default();
            Ok(Some(holder))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(Error::from(error).context(path.display())),
    }
}

fn held(what: &FilePath, holder: &str) -> Error {
    Error::unavailable(format!("another run holds {} ({holder})", what.display()))
        .hint("wait until it ends; the lock goes with its process")
}

fn lock_project(folder: &FilePath) -> Result<File> {
    let path = folder.join(LOCK_FILE);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).context(path.display())?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "process {} since {}", std::process::id(), chrono::Utc::now().to_rfc3339())?;
            Ok(file)
        }
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).unwrap_or_default();
            Err(held(&path, &holder))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(Error::from(error).context(path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_is_written_once_by_put_new() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        assert!(lake.put_new("a/b.json", Bytes::from_static(b"1")).await.unwrap());
        assert!(!lake.put_new("a/b.json", Bytes::from_static(b"2")).await.unwrap());
        assert_eq!(lake.get("a/b.json").await.unwrap().unwrap(), "1");
        assert_eq!(lake.get("a/c.json").await.unwrap(), None);
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let lake = Lake::open(folder.path(), "lake").unwrap();
        let first = Lock::take(folder.path(), &lake).unwrap();
        for project in [&folder, &other] {
            let error = Lock::take(project.path(), &lake).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Unavailable);
        }
        assert!(lock_holder(folder.path()).unwrap().unwrap().starts_with("process "));
        drop(first);
        assert_eq!(lock_holder(folder.path()).unwrap(), None);
        Lock::take(other.path(), &lake).unwrap();
    }

    #[test]
    fn only_a_lake_on_the_disk_has_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let here = Lake::open(folder.path(), "lake").unwrap();
        assert!(here.local_folder().unwrap().ends_with("lake"));
        assert_eq!(Lake::open(folder.path(), "memory:///lake").unwrap().local_folder(), None);
    }

    #[test]
    fn paths_are_relative_to_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        let path = lake.path("landing/events/part.parquet");
        assert_eq!(lake.relative(&path).unwrap(), "landing/events/part.parquet");
    }
}
