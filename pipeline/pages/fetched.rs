//! The bytes of a file that were fetched.

use bytes::Bytes;
use bytes::buf::{Buf, Reader};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Parts of a file, each with the place of its first byte.
#[derive(Debug, Clone)]
pub struct Fetched {
    size: u64,
    parts: Vec<(u64, Bytes)>,
}

impl Fetched {
    /// Parts of a file of `size` bytes.
    pub fn new(size: u64, parts: Vec<(u64, Bytes)>) -> Self {
        Self { size, parts }
    }

    /// The fetched bytes from `start` on.
    fn from(&self, start: u64) -> Result<Bytes> {
        let part = self.parts.iter().find_map(|(first, bytes)| {
            let at = usize::try_from(start.checked_sub(*first)?).ok()?;
            (at < bytes.len()).then(|| bytes.slice(at..))
        });
        part.ok_or_else(|| ParquetError::General(format!("byte {start} was not fetched")))
    }
}

impl Length for Fetched {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Fetched {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on were not fetched")));
        }
        Ok(bytes.slice(..length))
    }
}
