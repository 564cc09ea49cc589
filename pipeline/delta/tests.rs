use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{
    ArrayRef, AsArray, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::physical_plan::ExecutionPlan;
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

/// Commits files of these numbers one by one, each on the table as it is.
async fn commit_all(lake: &Lake, name: &str, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let table = Table::open(lake, "t").await.unwrap();
        let change = change(lake, number, &format!("{name}-{number}")).await;
        commit(lake, "t", table.as_ref(), change).await.unwrap().version().unwrap();
    }
}

#[tokio::test]
async fn a_table_that_was_loaded_before_is_as_new_as_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let [lake, other] = [(); 2].map(|()| Lake::open(folder.path(), "lake").unwrap());
    commit_all(&lake, "part", 0..3).await;
    assert_eq!(rows(&lake).await, 3);
    // Another process has committed meanwhile, and this one's snapshot is not the newest.
    let behind = Table::open(&lake, "t").await.unwrap().unwrap();
    commit_all(&other, "part", 3..5).await;
    assert_eq!((behind.rows().unwrap(), rows(&lake).await), (3, 5));
    assert_eq!(Table::open(&lake, "t").await.unwrap().unwrap().transaction("test").await.unwrap(), Some(4));
    let again = change(&lake, 4, "again").await;
    assert!(commit(&lake, "t", Some(&behind), again).await.unwrap().version().is_err());
    // A log that was put back to what it had been.
    lake.delete("t/_delta_log/00000000000000000004.json").await.unwrap();
    assert_eq!(rows(&lake).await, 4);
    // A table that was made anew, to the same version.
    for object in lake.list("t").await.unwrap() {
        lake.delete(&lake.relative(&object.location).unwrap()).await.unwrap();
    }
    assert!(Table::open(&lake, "t").await.unwrap().is_none());
    commit_all(&other, "part", 0..4).await;
    let [id, other_id] = [&lake, &other].map(async |lake| Table::open(lake, "t").await.unwrap().unwrap().id().unwrap());
    assert_eq!(id.await, other_id.await);
    // An entry that lost its bytes is found as soon as the log is read again.
    lake.put("t/_delta_log/00000000000000000002.json", Vec::new().into()).await.unwrap();
    assert_eq!(rows(&lake).await, 4);
    assert_eq!(Table::open_by_list(&lake, "t").await.unwrap_err().kind(), Kind::Corrupt);
    let fresh = Lake::open(folder.path(), "lake").unwrap();
    assert_eq!(Table::open(&fresh, "t").await.unwrap_err().kind(), Kind::Corrupt);
    commit_all(&other, "part", 4..5).await;
    assert_eq!(Table::open(&lake, "t").await.unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn a_table_that_was_loaded_from_commits_that_are_gone_is_loaded_from_the_checkpoint() {
    // Whether this process looks at the table between the checkpoint and the end of the commits.
    for looks_between in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let [lake, other] = [(); 2].map(|()| Lake::open(folder.path(), "lake").unwrap());
        commit_all(&lake, "part", 0..4).await;
        let merges = Change { transaction: ("merges".into(), 1), ..change(&lake, 4, "merged").await };
        let table = Table::open(&lake, "t").await.unwrap();
        commit(&lake, "t", table.as_ref(), merges).await.unwrap().version().unwrap();
        assert_eq!(rows(&lake).await, 5);
        // Another process maintains the table; the newest commit, which stays, does not tell of `test`.
        let table = Table::open(&other, "t").await.unwrap().unwrap();
        table.checkpoint(&other, "t", &["test", "merges"]).await.unwrap();
        let mut table = Table::open(&lake, "t").await.unwrap().filter(|_| looks_between);
        for number in 0..4 {
            lake.delete(&format!("t/_delta_log/{number:020}.json")).await.unwrap();
        }
        if table.is_none() {
            table = Table::open(&lake, "t").await.unwrap();
        }
        let table = table.unwrap();
        assert_eq!((table.rows().unwrap(), table.transaction("test").await.unwrap()), (5, Some(3)));
        // And it goes on from there.
        commit_all(&lake, "part", 4..6).await;
        assert_eq!(rows(&lake).await, 7);
    }
}

#[tokio::test]
async fn a_log_without_an_entry_that_was_read_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let [lake, other] = [(); 2].map(|()| Lake::open(folder.path(), "lake").unwrap());
    commit_all(&other, "part", 0..3).await;
    assert_eq!((rows(&lake).await, rows(&other).await), (3, 3));
    lake.delete("t/_delta_log/00000000000000000001.json").await.unwrap();
    // Nothing came to it.
    assert_eq!(rows(&lake).await, 3);
    commit_all(&other, "part", 3..4).await;
    assert!(Table::open(&lake, "t").await.is_err(), "a commit is missing");
}

#[tokio::test]
async fn a_checkpoint_of_other_files_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let [lake, other] = ["lake", "other"].map(|name| Lake::open(folder.path(), name).unwrap());
    commit_all(&lake, "part", 0..3).await;
    commit_all(&other, "part", 0..1).await;
    commit_all(&other, "other", 1..3).await;
    let [table, other_table] = [&lake, &other].map(async |lake| Table::open(lake, "t").await.unwrap().unwrap());
    let (table, other_table) = (table.await, other_table.await);
    table.checkpoint(&lake, "t", &["test"]).await.unwrap();
    other_table.checkpoint(&other, "t", &["test"]).await.unwrap();
    let checkpoint = "t/_delta_log/00000000000000000002.checkpoint.parquet";
    lake.put(checkpoint, other.get(checkpoint).await.unwrap().unwrap()).await.unwrap();
    let error = table.told_by_checkpoint_or_none(&lake, "t", &["test"]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    // Nobody reads the table by it, and no commit is removed for it.
    let log = super::log::Log::list(&lake, "t").await.unwrap();
    assert!(log.checkpoints.is_empty() && log.hint.is_none() && log.commits.len() == 3);
    let fresh = Lake::open(folder.path(), "lake").unwrap();
    assert_eq!(Table::open(&fresh, "t").await.unwrap().unwrap().files().unwrap(), table.files().unwrap());
}

#[tokio::test]
async fn files_are_left_out_by_their_batches_and_no_row_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path(), "lake").unwrap();
    let ctx = datafusion::prelude::SessionContext::new();
    ctx.register_object_store(lake.url(), lake.store().clone());
    let schema =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new(BATCH, DataType::Int64, true)]));
    let mut parts = Vec::new();
    // The last is of a program that tells no batches.
    for (number, batches) in [vec![1, 1], vec![2, 4], vec![300, 300], vec![2, 300]].into_iter().enumerate() {
        let told = (number < 3).then(|| (batches[0], batches[1]));
        let columns = [Int64Array::from(vec![number as i64, 7]), Int64Array::from(batches)];
        let columns = columns.map(|column| Arc::new(column) as ArrayRef).to_vec();
        let (content, rows) = encode(&schema, [RecordBatch::try_new(schema.clone(), columns).unwrap()]).unwrap();
        let part = write_part(&lake, "t", &format!("part-{number}"), Vec::new(), content, rows).await.unwrap();
        parts.push(Part { batches: told, ..part });
    }
    let untold = parts.iter().map(|part| Part { batches: None, ..part.clone() }).collect();
    for (name, parts) in [("told", parts.clone()), ("untold", untold)] {
        let snapshot = Snapshot::new(&lake, "t", &schema, &[], parts).unwrap();
        ctx.register_table(name, Arc::new(snapshot)).unwrap();
    }
    for (condition, expected) in [
        ("batch = 1", vec![0, 3]),
        ("batch <> 1", vec![1, 2, 3]),
        ("batch > 4", vec![2, 3]),
        ("not batch > 4", vec![0, 1, 3]),
        ("batch in (3, 300)", vec![1, 2, 3]),
        ("batch between 5 and 9", vec![3]),
        ("batch = 1 or n = 7", vec![0, 1, 2, 3]),
        ("batch = 1 and n = 7", vec![0, 3]),
        // The log tells nothing of nulls.
        ("batch is null", vec![0, 1, 2, 3]),
        ("batch is not null", vec![0, 1, 2, 3]),
        // 300 is no tinyint: that a file has such batches says nothing of its rows.
        ("case when batch < 5 then cast(batch as tinyint) else 0 end > 1", vec![0, 1, 2, 3]),
    ] {
        let answer = async |table: &str| {
            let query = format!("select n, batch from {table} where {condition} order by n, batch");
            let plan = ctx.sql(&query).await.unwrap().create_physical_plan().await.unwrap();
            let plan = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
            let read: Vec<usize> = (0..4).filter(|number| plan.contains(&format!("part-{number}.parquet"))).collect();
            let batches = ctx.sql(&query).await.unwrap().collect().await;
            let rows = batches.map(|batches| arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string());
            (read, rows.map_err(|error| error.strip_backtrace()))
        };
        let ((read, rows), (all, of_all)) = (answer("told").await, answer("untold").await);
        assert_eq!(all, [0, 1, 2, 3], "{condition}");
        assert_eq!((read, rows), (expected, of_all), "{condition}");
    }
}

#[tokio::test]
async fn of_small_pages_those_of_wanted_rows_are_fetched_and_no_others() {
    const ROWS: i64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path(), "lake").unwrap();
    let mut config = datafusion::prelude::SessionConfig::new();
    config.options_mut().execution.parquet.pushdown_filters = true;
    let ctx = datafusion::prelude::SessionContext::new_with_config(config);
    ctx.register_object_store(lake.url(), lake.store().clone());
    let fields = [("n", DataType::Int64), ("text", DataType::Utf8)];
    let schema = Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()));
    // Long, and such that compression makes little of them.
    let text = |n: i64| {
        let words = (1..9).map(|word: i64| format!("{:016x}", (n * 8 + word).wrapping_mul(0x5851_f42d_4c95_7f2d)));
        words.collect::<String>()
    };
    let texts = StringArray::from_iter_values((0..ROWS).map(text));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..ROWS)), Arc::new(texts)];
    let all = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let mut fetched = Vec::new();
    for pages in [Pages::Large, Pages::Small] {
        let writer = PartWriter::new(lake.clone(), "t".into(), format!("{pages:?}"), schema.clone());
        let mut writer = writer.with_pages(pages);
        writer.write(&all).await.unwrap();
        let snapshot = Snapshot::new(&lake, "t", &schema, &[], writer.finish().await.unwrap()).unwrap();
        ctx.register_table("t", Arc::new(snapshot)).unwrap();
        // No statistics tell which pages have such rows.
        let query = ctx.sql("select text from t where n % 5000 = 7 order by n").await.unwrap();
        let plan = query.create_physical_plan().await.unwrap();
        let rows = datafusion::physical_plan::collect(plan.clone(), ctx.task_ctx()).await.unwrap();
        let expected = [7, 5007, 10_007, 15_007].map(text);
        let texts: Vec<_> = rows.iter().flat_map(|rows| rows.column(0).as_string_view()).flatten().collect();
        assert_eq!(texts, expected);
        fetched.push(bytes_scanned(plan.as_ref()));
        ctx.deregister_table("t").unwrap();
    }
    let [large, small] = fetched[..] else { unreachable!("two were written") };
    assert!(small < large / 4, "{small} bytes of small pages, {large} of large ones");
}

fn bytes_scanned(plan: &dyn ExecutionPlan) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.sum_by_name("bytes_scanned"));
    own.map_or(0, |metric| metric.as_usize())
        + plan.children().into_iter().map(|child| bytes_scanned(child.as_ref())).sum::<usize>()
}

#[tokio::test]
async fn lists_of_wanted_rows_are_those_that_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path(), "lake").unwrap();
    // Some longer than the rows of a page, some empty, some null, and more rows than a row group has.
    const ROWS: i64 = 140_000;
    let (mut lists, mut texts) = (ListBuilder::new(Int64Builder::new()), ListBuilder::new(StringBuilder::new()));
    for n in 0..ROWS {
        let length = if n % 20_011 == 7 { 1500 } else { n % 4 };
        for at in 0..length {
            lists.values().append_option((at % 5 != 3).then_some(n * 10 + at));
            texts.values().append_option((at % 7 != 2).then(|| format!("text {}", (n + at) % 9)));
        }
        lists.append(n % 11 != 5);
        texts.append(n % 13 != 4);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int64Array::from_iter_values(0..ROWS))),
        ("lists", Arc::new(lists.finish())),
        ("texts", Arc::new(texts.finish())),
    ];
    let all = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
    let all = all.unwrap();
    let writer = PartWriter::new(lake.clone(), "t".into(), "part".into(), all.schema());
    let mut writer = writer.with_pages(Pages::Small);
    writer.write(&all).await.unwrap();
    let snapshot = Snapshot::new(&lake, "t", &all.schema(), &[], writer.finish().await.unwrap()).unwrap();
    let mut config = datafusion::prelude::SessionConfig::new();
    config.options_mut().execution.parquet.pushdown_filters = true;
    let ctx = datafusion::prelude::SessionContext::new_with_config(config);
    ctx.register_object_store(lake.url(), lake.store().clone());
    ctx.register_table("stored", Arc::new(snapshot)).unwrap();
    ctx.register_batch("written", all).unwrap();
    for wanted in ["n % 20011 = 7", "n % 997 < 2", "n % 2 = 0", "n % 512 in (0, 511)", "n < 0"] {
        let [stored, written] = ["stored", "written"].map(async |table| {
            let query = format!("select * from {table} where {wanted} order by n");
            let rows = ctx.sql(&query).await.unwrap().collect().await.unwrap();
            arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string()
        });
        assert!(stored.await == written.await, "{wanted}");
    }
}

#[tokio::test]
async fn a_scan_filters_as_rows_in_memory_are_filtered_and_in_batches_as_asked_for() {
    const ROWS: i64 = 5000;
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path(), "lake").unwrap();
    // The column of partitions is not the last.
    let rows = |day: i32| {
        let days = arrow::array::Date32Array::from_value(day, ROWS as usize);
        let numbers = Int64Array::from_iter_values((0..ROWS).map(|n| n * 3 + i64::from(day)));
        let texts = StringArray::from_iter((0..ROWS).map(|n| (n % 5 != 3).then(|| format!("text {}", n % 7))));
        let columns: Vec<(&str, ArrayRef)> =
            vec![("n", Arc::new(numbers)), ("day", Arc::new(days)), ("text", Arc::new(texts))];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .unwrap()
    };
    let schema = rows(0).schema();
    let mut parts = Vec::new();
    for day in 0..3 {
        let in_file = rows(day).project(&[0, 2]).unwrap();
        let name = format!("part-{day}");
        let mut writer = PartWriter::new(lake.clone(), "t".into(), name, in_file.schema());
        writer.write(&in_file).await.unwrap();
        for mut part in writer.finish().await.unwrap() {
            part.partition = vec![("day".into(), format!("1970-01-0{}", day + 1))];
            parts.push(part);
        }
    }
    for (pushes_filters_down, partitions) in [(false, 1), (true, 1), (false, 4), (true, 4)] {
        let mut config = datafusion::prelude::SessionConfig::new().with_target_partitions(partitions);
        config.options_mut().execution.parquet.pushdown_filters = pushes_filters_down;
        let ctx = datafusion::prelude::SessionContext::new_with_config(config.with_batch_size(100));
        ctx.register_object_store(lake.url(), lake.store().clone());
        let snapshot = Snapshot::new(&lake, "t", &schema, &["day".to_string()], parts.clone()).unwrap();
        ctx.register_table("stored", Arc::new(snapshot)).unwrap();
        // Its columns stand behind those of the files.
        let held = arrow::compute::concat_batches(&schema, &(0..3).map(rows).collect::<Vec<_>>()).unwrap();
        ctx.register_batch("held", held.project(&[0, 2, 1]).unwrap()).unwrap();
        for query in [
            "select * from t where n % 100 = 7 order by n",
            "select count(*) from t",
            "select count(*) from t where text = 'text 3'",
            "select n from t where text is null and n < 1000 order by n",
            "select text, n from t where day = '1970-01-02' and n % 500 = 1 order by n",
            "select count(*), min(n) as least, max(n) as most from t where day > '1970-01-01'",
            "select count(*) from t where day > '1980-01-01'",
            "select count(*) from t where day = '1970-01-02' or n < 30",
            "select n from t where n % 2 = 1 order by n desc limit 5",
            "select count(*) from (select n from t where text = 'text 3' limit 17) as some",
            "select count(*) from (select n from t limit 17) as some",
            "select one.text, count(*) from t as one join held using (n) where held.n < 700 group by 1 order by 1",
        ] {
            let [stored, held] = ["stored", "held"].map(async |table| {
                let frame = ctx.sql(&query.replace("from t", &format!("from {table}"))).await.unwrap();
                arrow::util::pretty::pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string()
            });
            assert_eq!(stored.await, held.await, "{query}, {pushes_filters_down}, {partitions}");
        }
        let batches = ctx.sql("select * from stored where n >= 0").await.unwrap().collect().await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3 * ROWS as usize);
        assert!(batches.iter().all(|batch| batch.num_rows() <= 100), "{pushes_filters_down}, {partitions}");
    }
}
