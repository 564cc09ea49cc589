//! The bytes of a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use object_store::Error as StoreError;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Bytes of a file of this machine that are read at once where it is not known how many are needed: most headers of pages have fewer.
const BLOCK: usize = 1024;

/// A file whose pages are read.
#[derive(Debug, Clone)]
pub struct Content {
    size: u64,
    origin: Origin,
}

/// Where bytes come from.
#[derive(Debug, Clone)]
enum Origin {
    /// Parts that were fetched, each with the place of its first byte.
    Fetched(Vec<(u64, Bytes)>),
    /// A file of this machine, read when asked for.
    Local(Arc<Local>),
}

impl Content {
    /// Fetched parts of a file of `size` bytes, each with the place of its first byte.
    pub fn fetched(size: u64, parts: Vec<(u64, Bytes)>) -> Self {
        Self { size, origin: Origin::Fetched(parts) }
    }

    /// A file of this machine of `size` bytes. A page is read when its turn comes, mostly into memory that the allocator gives
    /// again since the page before it was done: still in the cache, and not touched for the first time.
    pub fn local(size: u64, file: Arc<Local>) -> Self {
        Self { size, origin: Origin::Local(file) }
    }
}

impl Length for Content {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Content {
    type T = Rest;

    /// An error as of [`get_bytes`](Self::get_bytes).
    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(match &self.origin {
            Origin::Fetched(parts) => Rest { bytes: part(parts, start)?, behind: None },
            // Read here, as an error of the store does not get through a `Read` as one.
            Origin::Local(file) => {
                let bytes = file.read(start, BLOCK)?;
                let behind = Some((file.clone(), start + bytes.len() as u64));
                Rest { bytes, behind }
            }
        })
    }

    /// An error of the store where the file cannot be read, and another where the bytes are not there.
    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let is_there = start.checked_add(length as u64).is_some_and(|end| end <= self.size);
        let bytes = match &self.origin {
            _ if !is_there => Bytes::new(),
            Origin::Fetched(parts) => part(parts, start)?,
            Origin::Local(file) => file.read(start, length)?,
        };
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on are not there")));
        }
        Ok(bytes.slice(..length))
    }
}

/// The fetched bytes from `start` on.
fn part(parts: &[(u64, Bytes)], start: u64) -> Result<Bytes> {
    let part = parts.iter().find_map(|(first, bytes)| {
        let at = usize::try_from(start.checked_sub(*first)?).ok()?;
        (at < bytes.len()).then(|| bytes.slice(at..))
    });
    part.ok_or_else(|| ParquetError::General(format!("byte {start} was not fetched")))
}

/// A file of this machine.
#[derive(Debug)]
pub struct Local(Mutex<File>);

impl Local {
    /// An open file.
    pub fn new(file: File) -> Self {
        Self(Mutex::new(file))
    }

    /// So many bytes from `start` on, fewer where the file ends before. An error is one of the store that the file belongs
    /// to: it may pass, and says nothing of the content.
    pub fn read(&self, start: u64, length: usize) -> object_store::Result<Bytes> {
        let mut bytes = Vec::with_capacity(length);
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // To its end: reading at a place would ask for memory that is zeroed before.
        let read =
            file.seek(SeekFrom::Start(start)).and_then(|_| (&mut *file).take(length as u64).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(bytes.into()),
            Err(error) => Err(StoreError::Generic { store: "local disk", source: Box::new(error) }),
        }
    }
}

/// A file from a place on.
#[derive(Debug)]
pub struct Rest {
    bytes: Bytes,
    /// What is not read yet, and where it begins.
    behind: Option<(Arc<Local>, u64)>,
}

impl Read for Rest {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty()
            && let Some((file, start)) = &mut self.behind
        {
            self.bytes = file.read(*start, BLOCK).map_err(io::Error::other)?;
            *start += self.bytes.len() as u64;
        }
        let count = buffer.len().min(self.bytes.len());
        self.bytes.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file of 3 blocks.
    fn file() -> (Vec<u8>, File) {
        let bytes: Vec<u8> = (0..3 * BLOCK).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (bytes, file)
    }

    #[test]
    fn a_local_file_gives_all_its_bytes() {
        let (bytes, file) = file();
        let content = Content::local(bytes.len() as u64, Arc::new(Local::new(file)));
        for start in [0, 1, BLOCK + 7, 3 * BLOCK - 1] {
            for length in [0, 1, BLOCK, 3 * BLOCK] {
                let found = content.get_bytes(start as u64, length);
                match bytes.get(start..start + length) {
                    Some(expected) => assert_eq!(found.unwrap(), expected),
                    None => assert!(found.is_err(), "{length} from {start}"),
                }
            }
            let mut rest = vec![];
            content.get_read(start as u64).unwrap().read_to_end(&mut rest).unwrap();
            assert_eq!(rest, bytes[start..]);
        }
        assert!(content.get_bytes(u64::MAX, 1).is_err());
    }

    #[test]
    fn fetched_parts_give_what_lies_in_one_of_them() {
        let (bytes, _) = file();
        let (first, second) = (5..BLOCK, BLOCK + 7..2 * BLOCK);
        let part = |range: &std::ops::Range<usize>| (range.start as u64, Bytes::copy_from_slice(&bytes[range.clone()]));
        let content = Content::fetched(bytes.len() as u64, vec![part(&first), part(&second)]);
        for range in [5..6, 5..BLOCK, 100..200, BLOCK + 7..BLOCK + 8, BLOCK + 9..2 * BLOCK] {
            assert_eq!(content.get_bytes(range.start as u64, range.len()).unwrap(), bytes[range]);
        }
        for (start, length) in [(4, 1), (BLOCK - 1, 2), (BLOCK, 1), (BLOCK + 6, 2), (2 * BLOCK - 1, 2), (2 * BLOCK, 1)]
        {
            assert!(content.get_bytes(start as u64, length).is_err(), "{length} from {start}");
        }
        let mut rest = vec![];
        content.get_read(BLOCK as u64 + 9).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes[BLOCK + 9..2 * BLOCK]);
        assert!(content.get_read(BLOCK as u64).is_err());
    }

    #[test]
    fn a_file_that_is_cut_short_is_damage_and_one_that_cannot_be_read_is_not() {
        let (bytes, file) = file();
        let longer = Content::local(bytes.len() as u64 + 10, Arc::new(Local::new(file)));
        let cut = longer.get_bytes(bytes.len() as u64 - 1, 5).unwrap_err();
        assert!(matches!(cut, ParquetError::EOF(_)), "{cut}");

        let folder = tempfile::tempdir().unwrap();
        // Open for writing alone.
        let closed = File::create(folder.path().join("closed")).unwrap();
        let content = Content::local(10, Arc::new(Local::new(closed)));
        for error in [content.get_bytes(0, 1).unwrap_err(), content.get_read(0).unwrap_err()] {
            let error = crate::error::Error::from(datafusion::common::DataFusionError::from(error));
            assert!(error.is_temporary(), "{error}");
        }
    }
}
