//! A store on which chosen operations go wrong, for tests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use super::upload::Upload;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reads an object or its head.
    Get,
    /// Lists objects.
    List,
    /// Writes an object, replacing what is there.
    Put,
    /// Writes an object unless one is there.
    Create,
    /// Removes an object.
    Delete,
    /// Copies an object.
    Copy,
    /// Renames an object.
    Rename,
}

impl Kind {
    /// Whether it changes what is stored.
    pub fn is_change(self) -> bool {
        !matches!(self, Self::Get | Self::List)
    }
}

/// An operation that is about to be done.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'o> {
    /// What it does.
    pub kind: Kind,
    /// The object, or the folder of a list.
    pub path: &'o Path,
    /// What it writes.
    pub content: Option<&'o PutPayload>,
    /// What it copies or renames.
    pub from: Option<&'o Path>,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not done.
    Before,
    /// It is done and its answer is lost.
    After,
    /// Its answer is late and then lost; it is done.
    TimedOut,
    /// It breaks off halfway. Of a data file, whose name is used once, half is left; under other names stores leave
    /// nothing.
    Torn,
    /// It is not done, and the answer is that the object is there already.
    Exists,
    /// It is done, and the answer is that the object is there already: a store's own retry met the first try.
    DoneAndExists,
    /// There is no room for it.
    Full,
}

/// Sees the operations of a store.
pub trait Plan: Send + Sync + 'static {
    /// Which fault an operation meets, if any.
    fn begin(&self, operation: &Operation) -> Option<Fault>;
    /// A change was made, and whoever asked for it is told so.
    fn acknowledge(&self, _: &Operation) {}
}

impl<F: Fn(&Operation) -> Option<Fault> + Send + Sync + 'static> Plan for F {
    fn begin(&self, operation: &Operation) -> Option<Fault> {
        self(operation)
    }
}

/// The store. Clones share their plan.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<dyn Plan>,
}

impl Faulty {
    /// A store around `inner` whose operations meet the faults of a plan.
    pub fn wrap(inner: Arc<dyn ObjectStore>, plan: impl Plan) -> Arc<dyn ObjectStore> {
        Arc::new(Self { inner, plan: Arc::new(plan) })
    }

    fn fault(&self, kind: Kind, path: &Path) -> Option<Fault> {
        self.plan.begin(&Operation { kind, path, content: None, from: None })
    }

    /// Does a change that stores no new content with or without its fault.
    async fn change(&self, asked: Operation<'_>, operation: impl Future<Output = Result<()>>) -> Result<()> {
        match self.plan.begin(&asked) {
            None => {
                operation.await?;
                self.plan.acknowledge(&asked);
                Ok(())
            }
            Some(Fault::After | Fault::DoneAndExists) => {
                operation.await?;
                Err(lost())
            }
            Some(Fault::TimedOut) => {
                operation.await?;
                Err(late().await)
            }
            Some(Fault::Before | Fault::Torn | Fault::Exists) => Err(lost()),
            Some(Fault::Full) => Err(full()),
        }
    }
}

/// What was found, as a stream of what is made of its bytes.
async fn streamed(found: GetResult, pieces: impl FnOnce(Bytes) -> Vec<Result<Bytes>>) -> Result<GetResult> {
    let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
    let payload = GetResultPayload::Stream(stream::iter(pieces(found.bytes().await?)).boxed());
    Ok(GetResult { payload, meta, range, attributes })
}

fn lost() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "the connection was lost".into() }
}

async fn late() -> object_store::Error {
    tokio::time::sleep(Duration::from_millis(2)).await;
    object_store::Error::Generic { store: "faulty", source: "timed out".into() }
}

fn full() -> object_store::Error {
    // As Linux says it.
    object_store::Error::Generic { store: "faulty", source: std::io::Error::from_raw_os_error(28).into() }
}

fn exists(path: &Path) -> object_store::Error {
    object_store::Error::AlreadyExists { path: path.to_string(), source: "another was faster".into() }
}

/// Whether no two objects ever have this name, so that half of one does no harm there.
fn is_used_once(path: &Path) -> bool {
    path.as_ref().ends_with(".parquet") && !path.as_ref().contains("marts/")
}

/// All of what is put, in one piece.
pub fn whole(payload: &PutPayload) -> Bytes {
    payload.iter().flatten().copied().collect()
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.inner)
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let kind = if options.mode == PutMode::Create { Kind::Create } else { Kind::Put };
        let asked = Operation { kind, path, content: Some(&payload.clone()), from: None };
        match self.plan.begin(&asked) {
            None => {
                let put = self.inner.put_opts(path, payload, options).await?;
                self.plan.acknowledge(&asked);
                Ok(put)
            }
            Some(Fault::Before) => Err(lost()),
            Some(Fault::After) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(lost())
            }
            Some(Fault::TimedOut) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(late().await)
            }
            Some(Fault::Torn) => {
                let content = whole(&payload);
                if is_used_once(path) {
                    self.inner.put(path, content.slice(..content.len() / 2).into()).await?;
                }
                Err(lost())
            }
            Some(Fault::Exists) => Err(exists(path)),
            Some(Fault::DoneAndExists) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(exists(path))
            }
            Some(Fault::Full) => Err(full()),
        }
    }

    async fn put_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload::new(self.clone(), path, PutOptions::default())))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fault(Kind::Get, path) {
            // Never the file itself, which would be read without asking again.
            None => streamed(self.inner.get_opts(path, options).await?, |whole| vec![Ok(whole)]).await,
            Some(Fault::TimedOut) => Err(late().await),
            Some(Fault::Torn) => {
                let halved = |whole: Bytes| vec![Ok(whole.slice(..whole.len() / 2)), Err(lost())];
                streamed(self.inner.get_opts(path, options).await?, halved).await
            }
            Some(_) => Err(lost()),
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Path| {
            let store = store.clone();
            async move {
                let asked = Operation { kind: Kind::Delete, path: &path, content: None, from: None };
                store.change(asked, store.inner.delete(&path)).await?;
                Ok(path)
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fault(Kind::List, prefix.unwrap_or(&Path::default())) {
            None => self.inner.list(prefix),
            Some(Fault::TimedOut) => stream::once(late()).map(Err).boxed(),
            Some(_) => stream::once(std::future::ready(Err(lost()))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.fault(Kind::List, prefix.unwrap_or(&Path::default())) {
            None => self.inner.list_with_delimiter(prefix).await,
            Some(_) => Err(lost()),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let asked = Operation { kind: Kind::Copy, path: to, content: None, from: Some(from) };
        self.change(asked, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let asked = Operation { kind: Kind::Rename, path: to, content: None, from: Some(from) };
        self.change(asked, self.inner.rename_opts(from, to, options)).await
    }
}
