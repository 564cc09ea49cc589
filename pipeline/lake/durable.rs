//! Writes on the local disk that survive a loss of power.
//!
//! The library's local store leaves what it writes in the system's memory, and a loss of power may take it or leave it
//! empty: of an entry of a table's log that is a loss which nobody sees. Here a write counts when it lies on the disk.
//! The content is written beside its place, as `name#1`, and synced; then it is moved into its place, and the folder is
//! synced, and so are the folders above it that this process has not synced yet.
//!
//! A Parquet file is of no use until a log or the catalog names it. So its content and its folder may wait for the next
//! object that is none, and are synced before that one is moved into its place; its content also before it is given
//! another name. What waits is synced side by side: a disk takes hardly longer for many files than for one.
//!
//! Reads and lists are the library's, which hides names such as `name#1`. A deletion is not synced: what comes back was of
//! no use before and is of none then.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result,
};

use super::upload::Upload;

/// Objects of a list that are removed at a time, as by the library.
const DELETIONS: usize = 10;
/// Files or folders that are synced at a time.
const SYNCS: usize = 16;

/// What a durable write asks of a disk.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Writes a new file. One of that name is an error, and so is a folder that is not there.
    fn write(&self, path: &FilePath, content: &PutPayload) -> io::Result<()>;
    /// Syncs the content of a file.
    fn sync_file(&self, path: &FilePath) -> io::Result<()>;
    /// Gives a file another name, which is another file's no more.
    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()>;
    /// Gives a file a second name. One of that name is an error.
    fn link(&self, from: &FilePath, to: &FilePath) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &FilePath) -> io::Result<()>;
    /// Makes a folder in one that is there.
    fn make_folder(&self, folder: &FilePath) -> io::Result<()>;
    /// Syncs the names in a folder.
    fn sync_folder(&self, folder: &FilePath) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemDisk {
    /// Whether it syncs when it is asked to.
    pub syncs: bool,
}

impl Disk for SystemDisk {
    fn write(&self, path: &FilePath, content: &PutPayload) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        content.iter().try_for_each(|piece| file.write_all(piece))
    }

    fn sync_file(&self, path: &FilePath) -> io::Result<()> {
        if self.syncs { File::open(path)?.sync_all() } else { Ok(()) }
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_folder(&self, folder: &FilePath) -> io::Result<()> {
        std::fs::create_dir(folder)
    }

    fn sync_folder(&self, folder: &FilePath) -> io::Result<()> {
        if !self.syncs {
            return Ok(());
        }
        match File::open(folder).and_then(|file| file.sync_all()) {
            // A folder far above may not be ours to open, and some file systems have no such call for folders.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            synced => synced,
        }
    }
}

/// The local store with durable writes.
#[derive(Debug, Clone)]
pub struct Durable {
    inner: Arc<LocalFileSystem>,
    disk: Arc<dyn Disk>,
    /// Folders whose names are known to lie on the disk.
    settled: Arc<Mutex<HashSet<PathBuf>>>,
    /// Parquet files that wait for what names them.
    waiting: Arc<Mutex<Waiting>>,
    /// Held while what waited is synced, so that nothing is named meanwhile.
    settling: Arc<Mutex<()>>,
    /// What was wrong when a content that had waited could not be synced: a second try would not tell that it is lost.
    lost: Arc<OnceLock<String>>,
}

/// What is not synced yet of files that wait.
#[derive(Debug, Default)]
struct Waiting {
    /// Files whose content is not.
    files: BTreeSet<PathBuf>,
    /// Folders whose names are not.
    folders: BTreeSet<PathBuf>,
}

impl Durable {
    /// The local store over a disk.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            inner: Arc::new(LocalFileSystem::new()),
            disk,
            settled: Arc::default(),
            waiting: Arc::default(),
            settling: Arc::default(),
            lost: Arc::default(),
        }
    }

    /// Does blocking work on the disk, and says of which object an error tells.
    async fn work<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&Self, &FilePath) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (store, file) = (self.clone(), self.inner.path_to_filesystem(path)?);
        let done = tokio::task::spawn_blocking(move || work(&store, &file)).await;
        let done = done.map_err(|error| object_store::Error::JoinError { source: error })?;
        done.map_err(|error| {
            let (path, kind, source) = (path.to_string(), error.kind(), error.into());
            match kind {
                ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path, source },
                ErrorKind::NotFound => object_store::Error::NotFound { path, source },
                ErrorKind::PermissionDenied => object_store::Error::PermissionDenied { path, source },
                _ => object_store::Error::Generic { store: "local disk", source },
            }
        })
    }

    /// Writes a file beside `place`; returns its path.
    fn stage(&self, place: &FilePath, content: &PutPayload) -> io::Result<PathBuf> {
        let mut number = 1;
        loop {
            let mut staged = OsString::from(place);
            staged.push(format!("#{number}"));
            let staged = PathBuf::from(staged);
            match self.disk.write(&staged, content) {
                Ok(()) => return Ok(staged),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => self.make_folders(parent(place)?)?,
                Err(error) => {
                    self.disk.remove(&staged).ok();
                    return Err(error);
                }
            }
        }
    }

    /// Writes a file at its place.
    fn put_file(&self, place: &FilePath, content: &PutPayload, mode: &PutMode) -> io::Result<()> {
        let staged = self.stage(place, content)?;
        let ready = match may_wait(place) {
            true => Ok(()),
            false => self.disk.sync_file(&staged).and_then(|()| self.settle_waiting(place)),
        };
        let moved = ready.and_then(|()| match mode {
            PutMode::Create => self.disk.link(&staged, place),
            _ => self.disk.rename(&staged, place),
        });
        if moved.is_err() || *mode == PutMode::Create {
            // What stays is hidden, and maintenance removes it.
            self.disk.remove(&staged).ok();
        }
        moved?;
        if may_wait(place) {
            locked(&self.waiting).files.insert(place.to_path_buf());
        }
        self.settle_later(place)
    }

    /// Gives a file a second name, in place of another of that name if `replaces`.
    fn copy_file(&self, from: &FilePath, to: &FilePath, replaces: bool) -> io::Result<()> {
        if !from.exists() {
            return Err(ErrorKind::NotFound.into());
        }
        self.make_folders(parent(to)?)?;
        self.settle_content(from)?;
        self.settle_waiting(to)?;
        if !replaces {
            self.disk.link(from, to)?;
            return self.settle_later(to);
        }
        let mut number = 1;
        let staged = loop {
            let mut staged = OsString::from(to);
            staged.push(format!("#{number}"));
            match self.disk.link(from, FilePath::new(&staged)) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                linked => break linked.map(|()| PathBuf::from(staged))?,
            }
        };
        self.disk.rename(&staged, to)?;
        self.settle_later(to)
    }

    /// Gives a file another name, in place of another of that name if `replaces`.
    fn rename_file(&self, from: &FilePath, to: &FilePath, replaces: bool) -> io::Result<()> {
        if !replaces {
            self.copy_file(from, to, false)?;
            return self.disk.remove(from);
        }
        if !from.exists() {
            return Err(ErrorKind::NotFound.into());
        }
        self.make_folders(parent(to)?)?;
        self.settle_content(from)?;
        self.settle_waiting(to)?;
        self.disk.rename(from, to)?;
        self.settle_later(to)
    }

    /// Makes a folder and those above it, as far as they are not there.
    fn make_folders(&self, folder: &FilePath) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        self.make_folders(parent(folder)?)?;
        locked(&self.settled).remove(folder);
        match self.disk.make_folder(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Syncs the folder of a file, or lets it wait.
    fn settle_later(&self, place: &FilePath) -> io::Result<()> {
        let folder = parent(place)?;
        if !may_wait(place) {
            return self.settle(BTreeSet::from([folder.to_path_buf()]));
        }
        locked(&self.waiting).folders.insert(folder.to_path_buf());
        Ok(())
    }

    /// Syncs what waits, unless the file that is about to get its place may wait itself.
    fn settle_waiting(&self, place: &FilePath) -> io::Result<()> {
        if may_wait(place) {
            return Ok(());
        }
        let _settling = locked(&self.settling);
        self.settle_contents()?;
        let folders = std::mem::take(&mut locked(&self.waiting).folders);
        let settled = self.settle(folders.clone());
        if settled.is_err() {
            locked(&self.waiting).folders.extend(folders);
        }
        settled
    }

    /// Syncs the content of a file that is about to get another name, if it waits, and with it all others that do.
    fn settle_content(&self, file: &FilePath) -> io::Result<()> {
        let _settling = locked(&self.settling);
        if !locked(&self.waiting).files.contains(file) {
            return Ok(());
        }
        self.settle_contents()
    }

    fn settle_contents(&self) -> io::Result<()> {
        if let Some(lost) = self.lost.get() {
            return Err(io::Error::other(format!("what was written is not on the disk: {lost}; begin again")));
        }
        let files = std::mem::take(&mut locked(&self.waiting).files);
        let synced = side_by_side(&files, |file| self.disk.sync_file(file));
        if let Err(error) = &synced {
            self.lost.set(error.to_string()).ok();
        }
        synced
    }

    /// Syncs the names in folders, and the names of these and of those above them that were not synced yet, each once.
    fn settle(&self, mut folders: BTreeSet<PathBuf>) -> io::Result<()> {
        let sync = |folders: &BTreeSet<PathBuf>| side_by_side(folders, |folder| self.disk.sync_folder(folder));
        sync(&folders)?;
        loop {
            let new: Vec<PathBuf> = {
                let settled = locked(&self.settled);
                folders.into_iter().filter(|folder| !settled.contains(folder)).collect()
            };
            if new.is_empty() {
                return Ok(());
            }
            let above = new.iter().filter_map(|folder| folder.parent()).map(FilePath::to_path_buf).collect();
            sync(&above)?;
            locked(&self.settled).extend(new);
            folders = above;
        }
    }
}

/// Syncs files or folders, some at a time. One that went is none that anything names.
fn side_by_side(paths: &BTreeSet<PathBuf>, sync: impl Fn(&FilePath) -> io::Result<()> + Sync) -> io::Result<()> {
    let sync = |path: &PathBuf| match sync(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        synced => synced,
    };
    let rest = Mutex::new(paths.iter());
    let work = || {
        // Not in the condition of a loop, which would hold the lock.
        let next = || locked(&rest).next();
        std::iter::from_fn(next).try_for_each(sync)
    };
    if paths.len() < 2 {
        return work();
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..paths.len().min(SYNCS)).map(|_| scope.spawn(work)).collect();
        let ended = |worker: std::thread::ScopedJoinHandle<'_, io::Result<()>>| {
            worker.join().unwrap_or_else(|_| Err(io::Error::other("a sync stopped")))
        };
        workers.into_iter().try_for_each(ended)
    })
}

/// Whether a file is of no use until another names it. What stands in a log is found by its name.
fn may_wait(place: &FilePath) -> bool {
    place.extension().is_some_and(|extension| extension == "parquet")
        && !parent(place).is_ok_and(|folder| folder.ends_with("_delta_log"))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parent(path: &FilePath) -> io::Result<&FilePath> {
    path.parent().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a file system's root is no place for a file"))
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "durable {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Durable {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if matches!(options.mode, PutMode::Update(_)) || !options.attributes.is_empty() {
            // The library says what it cannot do.
            return self.inner.put_opts(path, payload, options).await;
        }
        self.work(path, move |store, place| store.put_file(place, &payload, &options.mode)).await?;
        let e_tag = self.inner.head(path).await?.e_tag;
        Ok(PutResult { e_tag, version: None })
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let options = PutOptions { attributes: options.attributes, ..PutOptions::default() };
        Ok(Box::new(Upload::new(self.clone(), path, options)))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Result<Path>| {
            let store = store.clone();
            async move {
                let path = path?;
                store.work(&path, |store, file| store.disk.remove(file)).await?;
                Ok(path)
            }
        };
        paths.map(delete).buffered(DELETIONS).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let from = self.inner.path_to_filesystem(from)?;
        let replaces = matches!(options.mode, CopyMode::Overwrite);
        self.work(to, move |store, to| store.copy_file(&from, to, replaces)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let from = self.inner.path_to_filesystem(from)?;
        let replaces = matches!(options.target_mode, RenameTargetMode::Overwrite);
        self.work(to, move |store, to| store.rename_file(&from, to, replaces)).await
    }
}

#[cfg(test)]
mod tests;
