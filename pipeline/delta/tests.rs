use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, Int64Array, ListBuilder, RecordBatch, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Encoding;

use super::*;
use crate::error::Kind;
use crate::lake::faulty::{self, Faulty, Operation};

/// What goes wrong when an entry is put into the log.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Refused,
    AppliedThenFailed,
    ThenUnreadable,
}

impl Fault {
    /// The plan of a store on which it happens.
    fn plan(self) -> impl Fn(&Operation) -> Option<faulty::Fault> {
        let is_down = AtomicBool::new(false);
        move |operation| match operation.kind {
            faulty::Kind::Create if self == Self::Refused => Some(faulty::Fault::Before),
            faulty::Kind::Create => {
                is_down.store(self == Self::ThenUnreadable, Ordering::Relaxed);
                Some(faulty::Fault::After)
            }
            faulty::Kind::Get if is_down.load(Ordering::Relaxed) => Some(faulty::Fault::Before),
            _ => None,
        }
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
        replace: Replace::Nothing,
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
            let lake = sound.clone().with_store(|inner| Faulty::wrap(inner, fault.plan()));
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
