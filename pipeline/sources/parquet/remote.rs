//! Remote files too large for memory, read by ranges.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;

/// Fetches ranges of one object. Clones share what failed.
#[derive(Clone)]
pub(super) struct Remote {
    store: Arc<dyn ObjectStore>,
    path: Path,
    metadata: Arc<ParquetMetaData>,
    /// What the store said when it failed: else its faults would look like the file's.
    failure: Arc<Mutex<Option<object_store::Error>>>,
}

impl Remote {
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, metadata: Arc<ParquetMetaData>) -> Self {
        Self { store, path, metadata, failure: Arc::default() }
    }

    /// Takes the error of the store, if it failed.
    pub fn take_failure(&self) -> Option<object_store::Error> {
        self.failure.lock().expect("nothing panics under the lock").take()
    }

    fn failed(&self, error: object_store::Error) -> ParquetError {
        let text = error.to_string();
        *self.failure.lock().expect("nothing panics under the lock") = Some(error);
        ParquetError::General(text)
    }
}

impl AsyncFileReader for Remote {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { self.store.get_range(&self.path, range).await.map_err(|error| self.failed(error)) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(|error| self.failed(error)) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        std::future::ready(Ok(Arc::clone(&self.metadata))).boxed()
    }
}
