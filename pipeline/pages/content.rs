//! The bytes of a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Bytes of a file of this machine that are read at once where it is not known how many are needed: most headers of pages have fewer.
const BLOCK: usize = 1024;

/// A file whose pages are read.
#[derive(Debug, Clone)]
pub struct Content {
    size: u64,
    bytes: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// Parts that were fetched, each with the place of its first byte.
    Fetched(Vec<(u64, Bytes)>),
    /// A file of this machine, read when asked for.
    Local(Arc<Local>),
}

impl Content {
    /// Fetched parts of a file of `size` bytes, each with the place of its first byte.
    pub fn fetched(size: u64, parts: Vec<(u64, Bytes)>) -> Self {
        Self { size, bytes: Source::Fetched(parts) }
    }

    /// A file of this machine of `size` bytes. A page is read when its turn comes, into memory that the page before it left: it is
    /// still in the cache, and no memory is touched for the first time.
    pub fn local(size: u64, file: Arc<Local>) -> Self {
        Self { size, bytes: Source::Local(file) }
    }
}

impl Length for Content {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Content {
    type T = Rest;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(match &self.bytes {
            Source::Fetched(parts) => Rest { bytes: part(parts, start)?, behind: None },
            Source::Local(file) => Rest { bytes: Bytes::new(), behind: Some((file.clone(), start)) },
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let is_there = start.checked_add(length as u64).is_some_and(|end| end <= self.size);
        let bytes = match &self.bytes {
            _ if !is_there => Bytes::new(),
            Source::Fetched(parts) => part(parts, start)?,
            Source::Local(file) => file.read(start, length)?,
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

    /// So many bytes from `start` on, fewer where the file ends before.
    pub fn read(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::with_capacity(length);
        (&mut *file).take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes.into())
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
            self.bytes = file.read(*start, BLOCK)?;
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

    #[test]
    fn a_file_gives_the_bytes_that_were_asked_for_wherever_they_come_from() {
        let bytes: Vec<u8> = (0..3 * BLOCK).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let size = bytes.len() as u64;
        let parts = [0, BLOCK + 7].map(|first| (first as u64, Bytes::from(bytes[first..].to_vec())));
        let contents = [Content::fetched(size, parts.to_vec()), Content::local(size, Arc::new(Local::new(file)))];
        for content in contents {
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
            assert!(content.get_bytes(size, 1).is_err());
        }
    }
}
