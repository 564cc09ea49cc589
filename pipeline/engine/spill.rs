//! Files of rows that do not fit into memory.
//!
//! A write that fails is told to who reads the file, and not to who writes it: of rows on their way to other threads the engine
//! keeps a file that was begun, and waits for ever for what never comes into it. No file is held open while nobody reads
//! or writes it, since there may be as many as batches. Nobody but the user of the process may read them.

use std::io::{self, Write};
use std::path::PathBuf;
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

/// Makes files in a folder of their own, which is made for the first of them and removed with the session.
#[derive(Default)]
pub(super) struct Spills {
    folder: Mutex<Option<Arc<TempDir>>>,
    files: AtomicU64,
}

impl Spills {
    pub(super) fn folder(&self) -> Result<Arc<TempDir>> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        match &*folder {
            Some(folder) => Ok(folder.clone()),
            None => Ok(folder.insert(Arc::new(private_folder()?)).clone()),
        }
    }
}

fn private_folder() -> io::Result<TempDir> {
    let mut folder = tempfile::Builder::new();
    #[cfg(unix)]
    folder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    folder.prefix("wayline-").tempdir()
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
    _folder: Arc<TempDir>,
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
        match std::fs::File::create(&self.0.path) {
            Ok(file) => writer.file = Some(file),
            Err(error) => writer.fail(error),
        }
        Ok(Box::new(writer))
    }
}

/// Writes until that fails, and then nothing more.
struct Writer {
    file: Option<std::fs::File>,
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
