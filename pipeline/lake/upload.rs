//! Uploads in parts that are one put in the end.

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, PutOptions, PutPayload, PutResult, Result, UploadPart};

/// An upload in parts, kept in memory until it is complete and then put into `store` as one object.
#[derive(Debug)]
pub struct Upload<S> {
    store: S,
    path: Path,
    options: PutOptions,
    parts: Vec<Bytes>,
}

impl<S> Upload<S> {
    /// Nothing uploaded yet.
    pub fn new(store: S, path: &Path, options: PutOptions) -> Self {
        Self { store, path: path.clone(), options, parts: Vec::new() }
    }
}

#[async_trait]
impl<S: ObjectStore> MultipartUpload for Upload<S> {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.extend(data);
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let content = std::mem::take(&mut self.parts).into_iter().collect();
        self.store.put_opts(&self.path, content, self.options.clone()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}
