//! Files of rows that do not fit into memory.
//!
//! A write that fails is told to who reads the file, and not to who writes it: of rows on their way to other threads the engine
//! keeps a file that was begun, and waits for ever for what never comes into it. No file is held open while nobody reads
//! or writes it, since there may be as many as batches. Nobody but the user of the process may read them. Where a process dies, what
//! it spilled stays; the next that spills removes it.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::Stream;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

/// Bytes that are read at a time.
const PIECE: usize = 128 << 10;
/// How the names of folders begin.
const PREFIX: &str = "wayline-spill-";
/// File of a folder by which it is held.
const HELD: &str = "held";

/// Makes files in a folder of their own, which is made for the first of them and removed with the session.
#[derive(Default)]
pub(super) struct Spills {
    folder: Mutex<Option<Arc<Folder>>>,
    files: AtomicU64,
}

/// A folder that is removed when it is dropped, and held until then, also by who dies before.
pub(super) struct Folder {
    folder: TempDir,
    _held: Option<File>,
}

impl Folder {
    fn new(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        loop {
            let folder = private_folder(parent)?;
            match hold(folder.path(), true) {
                Ok(Some(held)) if folder.path().exists() => return Ok(Self { folder, _held: Some(held) }),
                // Another process took it for abandoned before it was held.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // Where none can be held, none is taken for abandoned.
                Err(_) => return Ok(Self { folder, _held: None }),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Holds a folder by a file in it, which is there unless it may be made; none when it is held. Not by itself: the hosts of a file system
/// that several share see each other's locks of files alone.
fn hold(folder: &Path, may_make: bool) -> io::Result<Option<File>> {
    let file = File::options().write(true).create(may_make).truncate(false).open(folder.join(HELD))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes folders that nobody holds, as far as that may be done: other users have theirs.
fn remove_abandoned(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_of_ours = is_folder && entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_of_ours
            && let Ok(Some(_held)) = hold(&entry.path(), false)
            && std::fs::remove_dir_all(entry.path()).is_ok()
        {
            tracing::debug!(folder = %entry.path().display(), "removed what a process that died had spilled");
        }
    }
}

impl Spills {
    pub(super) fn folder(&self) -> Result<Arc<Folder>> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        match &*folder {
            Some(folder) => Ok(folder.clone()),
            None => Ok(folder.insert(Arc::new(Folder::new(&std::env::temp_dir())?)).clone()),
        }
    }
}

fn private_folder(parent: &Path) -> io::Result<TempDir> {
    let mut folder = tempfile::Builder::new();
    #[cfg(unix)]
    folder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    folder.prefix(PREFIX).tempdir_in(parent)
}

impl TempFileFactory for Spills {
    fn create_temp_file(&self, _: &str) -> Result<Arc<dyn SpillFile>> {
        let folder = self.folder()?;
        let path = folder.path().join(format!("{}.arrow", self.files.fetch_add(1, Ordering::Relaxed)));
        Ok(Arc::new(Spill(Arc::new(OnDisk { path, failure: OnceLock::new(), _folder: folder }))))
    }
}

struct Spill(Arc<OnDisk>);

/// A file that is removed once nobody reads or writes it any more.
struct OnDisk {
    path: PathBuf,
    /// Why not all is in it.
    failure: OnceLock<io::Error>,
    _folder: Arc<Folder>,
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        // Its folder goes after it.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl OnDisk {
    /// An error if not all is in it.
    fn expect_whole(&self) -> io::Result<()> {
        let told = |failure: &io::Error| {
            let message = format!("rows could not be spilled to {}: {failure}", self.path.display());
            Err(io::Error::new(failure.kind(), message))
        };
        self.failure.get().map_or(Ok(()), told)
    }

    /// The next bytes, and the file for those after them; none at its end.
    async fn next(&self, file: Option<tokio::fs::File>) -> io::Result<Option<(Bytes, Option<tokio::fs::File>)>> {
        let mut file = match file {
            Some(file) => file,
            None => match tokio::fs::File::open(&self.path).await {
                Ok(file) => file,
                Err(error) => return self.expect_whole().and(Err(error)),
            },
        };
        let mut piece = BytesMut::with_capacity(PIECE);
        match file.read_buf(&mut piece).await? {
            0 => self.expect_whole().map(|()| None),
            _ => Ok(Some((piece.freeze(), Some(file)))),
        }
    }
}

impl SpillFile for Spill {
    fn size(&self) -> Option<u64> {
        None
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        let on_disk = self.0.clone();
        let next = move |file| {
            let on_disk = on_disk.clone();
            async move { on_disk.next(file).await.map_err(DataFusionError::IoError) }
        };
        Ok(Box::pin(futures::stream::try_unfold(None, next)))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        let mut writer = Writer { file: None, on_disk: self.0.clone() };
        match File::create(&self.0.path) {
            Ok(file) => writer.file = Some(file),
            Err(error) => writer.fail(error),
        }
        Ok(Box::new(writer))
    }
}

/// Writes until that fails, and then nothing more.
struct Writer {
    file: Option<File>,
    on_disk: Arc<OnDisk>,
}

impl Writer {
    fn fail(&mut self, error: io::Error) {
        self.file = None;
        // The first tells what went wrong.
        let _ = self.on_disk.failure.set(error);
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.write_all(bytes)) {
            self.fail(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpillWriter for Writer {
    fn finish(&mut self) -> Result<()> {
        self.file = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_that_died_had_spilled_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let at_work = Folder::new(parent.path()).unwrap();
        std::fs::write(at_work.path().join("0.arrow"), "rows").unwrap();
        for name in ["wayline-spill-left", "wayline-shop"] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
            for file in [HELD, "1.arrow"] {
                std::fs::write(parent.path().join(name).join(file), "").unwrap();
            }
        }
        let next = Folder::new(parent.path()).unwrap();
        let exists = |name: &str| parent.path().join(name).join("1.arrow").exists();
        assert!(!exists("wayline-spill-left") && exists("wayline-shop"));
        assert!(at_work.path().join("0.arrow").exists() && next.path().exists());
        drop((at_work, next));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
