use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Int64Array, ListBuilder, RecordBatch, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Encoding;

use super::*;
use crate::error::Kind;

/// What goes wrong when an entry is put into the log.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Refused,
    AppliedThenFailed,
    ThenUnreadable,
}

/// A store whose puts into the log go wrong.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn ObjectStore>,
    fault: Fault,
    faults: AtomicUsize,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

impl Faulty {
    fn error(&self) -> object_store::Error {
        self.faults.fetch_add(1, Ordering::Relaxed);
        object_store::Error::Generic { store: "faulty", source: "the connection was lost".into() }
    }

    fn is_down(&self) -> bool {
        self.fault == Fault::ThenUnreadable && self.faults.load(Ordering::Relaxed) > 0
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        if !path.as_ref().contains("_delta_log/") {
            return self.inner.put_opts(path, payload, options).await;
        }
        if self.fault != Fault::Refused {
            self.inner.put_opts(path, payload, options).await?;
        }
        Err(self.error())
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if self.is_down() { Err(self.error()) } else { self.inner.get_opts(path, options).await }
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

async fn change(lake: &Lake, number: i64, name: &str) -> Change {
    let rows = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(vec![number])) as ArrayRef]).unwrap();
    let (content, rows) = encode(&schema(), [rows]).unwrap();
    let part = write_part(lake, "t", name, Vec::new(), content, rows).await.unwrap();
    Change {
        transaction: ("test".into(), number),
        schema: schema(),
        partition_by: Vec::new(),
        properties: Vec::new(),
        replace: false,
        parts: vec![part],
        failpoint: "test",
    }
}

async fn rows(lake: &Lake) -> usize {
    Table::open(lake, "t").await.unwrap().map_or(0, |table| table.rows().unwrap())
}

#[tokio::test]
async fn of_two_first_commits_of_one_number_one_lands() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path(), "lake").unwrap();
    let (first, second) = (change(&lake, 1, "first").await, change(&lake, 1, "second").await);
    commit(&lake, "t", None, first).await.unwrap().version().unwrap();
    let error = commit(&lake, "t", None, second).await.unwrap().version().unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert_eq!(rows(&lake).await, 1);
}

#[tokio::test]
async fn of_two_commits_of_one_number_on_one_snapshot_one_lands() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path(), "lake").unwrap();
    let begin = change(&lake, 1, "begin").await;
    commit(&lake, "t", None, begin).await.unwrap().version().unwrap();
    let table = Table::open(&lake, "t").await.unwrap().unwrap();
    let (first, second) = (change(&lake, 2, "first").await, change(&lake, 2, "second").await);
    commit(&lake, "t", Some(&table), first).await.unwrap().version().unwrap();
    let error = commit(&lake, "t", Some(&table), second).await.unwrap().version().unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert_eq!(rows(&lake).await, 2);
}

#[tokio::test]
async fn an_error_of_a_commit_is_resolved_by_the_log() {
    for has_table in [false, true] {
        for fault in [Fault::Refused, Fault::AppliedThenFailed, Fault::ThenUnreadable] {
            let folder = tempfile::tempdir().unwrap();
            let sound = Lake::open(folder.path(), "lake").unwrap();
            if has_table {
                let begin = change(&sound, 1, "begin").await;
                commit(&sound, "t", None, begin).await.unwrap().version().unwrap();
            }
            let before = rows(&sound).await;
            let wrap = |inner| Arc::new(Faulty { inner, fault, faults: AtomicUsize::new(0) }) as _;
            let lake = sound.clone().with_store(wrap);
            let table = Table::open(&lake, "t").await.unwrap();
            let next = change(&lake, 2, "next").await;
            let outcome = commit(&lake, "t", table.as_ref(), next).await.unwrap();
            let landed = rows(&sound).await - before;
            match (fault, outcome) {
                (Fault::Refused, Outcome::NotCommitted(_)) => assert_eq!(landed, 0),
                (Fault::AppliedThenFailed, Outcome::Committed(version)) => {
                    assert_eq!((landed, version), (1, u64::from(has_table)));
                }
                (Fault::ThenUnreadable, outcome @ Outcome::Unknown(_)) => {
                    assert_eq!(landed, 1);
                    assert_eq!(outcome.version().unwrap_err().kind(), Kind::Unavailable);
                }
                (_, outcome) => panic!("{fault:?}, table {has_table}: {outcome:?}"),
            }
        }
    }
}

#[test]
fn lists_of_times_are_stored_as_steps() {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut times = ListBuilder::new(TimestampMicrosecondBuilder::new().with_data_type(time)).with_field(Field::new(
        "element",
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        true,
    ));
    times.append_value([Some(5), Some(7), None]);
    times.append_null();
    times.append_value([]);
    times.append_value([Some(i64::MIN), Some(i64::MAX)]);
    let rows = RecordBatch::try_from_iter([("times", Arc::new(times.finish()) as ArrayRef)]).unwrap();
    let (content, _) = encode(&rows.schema(), [rows.clone()]).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(content)).unwrap();
    let encodings: Vec<Encoding> = reader.metadata().row_group(0).column(0).encodings().collect();
    assert!(encodings.contains(&Encoding::DELTA_BINARY_PACKED), "{encodings:?}");
    assert!(!encodings.contains(&Encoding::RLE_DICTIONARY), "{encodings:?}");
    let read = reader.build().unwrap().next().unwrap().unwrap();
    assert_eq!(read.column(0), rows.column(0));
}
