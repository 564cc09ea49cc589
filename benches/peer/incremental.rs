//! W12: batches of new and late events over a history, and four answers that stay current.
//!
//! A batch changes the rows of its customers only. Their journeys are read as they were (`before`) and made anew with the
//! events of the batch in their places (`after`); what the former count for is taken off, what the latter count for is
//! added (`changed` holds both, each row with its sign). Everything that a batch makes, journeys and sessions of its
//! customers and counts with their signs, is one folder of Parquet files: synced, then renamed into place. The same rows
//! stay in memory, as those of all batches before; of a customer the last ones count. Statements that do not read each other run
//! side by side, and the answers are worked out while the disk syncs; they count once both are done.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::datasource::{MemTable, TableProvider};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use hashbrown::HashMap;
use wayline::error::{Error, Result};

use super::Phases;
use super::queries::{answer, context, write};
use super::tables::Files;

const BEFORE: &str = include_str!("sql/incremental/before.sql");
const AFTER: &str = include_str!("sql/incremental/after.sql");
const CHANGED: &str = "select *, -1 as sign from before union all select *, 1 as sign from journeys";
const SESSIONS: &str = include_str!("sql/journeys/W2.sql");

/// An answer that is counted: its name, what a batch changes in its counts, and the answer from all counts.
struct Counted {
    name: &'static str,
    changes: &'static str,
    answer: &'static str,
}

const COUNTED: [Counted; 3] = [
    Counted {
        name: "w3",
        changes: include_str!("sql/incremental/changes/W3.sql"),
        answer: include_str!("sql/incremental/answers/W3.sql"),
    },
    Counted {
        name: "w5",
        changes: include_str!("sql/incremental/changes/W5.sql"),
        answer: include_str!("sql/incremental/answers/W5.sql"),
    },
    Counted {
        name: "w7",
        changes: include_str!("sql/incremental/changes/W7.sql"),
        answer: include_str!("sql/incremental/answers/W7.sql"),
    },
];

/// Takes the history and all batches in, and writes the last answers as `OUT/W2.parquet` and so on. Each phase is a file
/// of events: from its opening to the answers in memory, with everything committed.
pub fn run(data: &Path, out: &Path, threads: usize, phases: &mut Phases) -> Result<usize> {
    let files = data.join("w12");
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(out)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let mut state = State::new(out.join("versions"), threads)?;
        let mut answers = state.take_in(&files.join("history.parquet")).await?;
        phases.end("history");
        for kind in ["small", "big"] {
            let names = (0..).map(|number| format!("{kind}-{number}"));
            for name in names.take_while(|name| files.join(format!("{name}.parquet")).exists()) {
                answers = state.take_in(&files.join(format!("{name}.parquet"))).await?;
                phases.end(&name);
            }
        }
        phases.stop();
        let sessions = answer(&state.ctx, "select * exclude (version) from sessions").await?;
        for (Counted { name, .. }, rows) in COUNTED.iter().zip(&answers) {
            write(rows, &out.join(format!("{}.parquet", name.to_uppercase())))?;
        }
        write(&sessions, &out.join("W2.parquet"))
    })
}

/// The last version in which each customer changed.
type Versions = Arc<RwLock<HashMap<i64, i64>>>;

struct State {
    ctx: SessionContext,
    threads: usize,
    /// Where versions are committed.
    folder: PathBuf,
    version: i64,
    versions: Versions,
    /// The rows that the versions have made, by table.
    rows: HashMap<&'static str, Vec<RecordBatch>>,
}

impl State {
    fn new(folder: PathBuf, threads: usize) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let ctx = context(threads, 1024);
        let versions = Versions::default();
        let known = Arc::clone(&versions);
        let latest = move |arguments: &[ColumnarValue]| {
            let customers = arguments[0].to_array(1)?;
            let known = known.read().expect("nobody panics with the lock");
            let latest = |customer: &i64| known.get(customer).copied();
            let latest: Int64Array = customers.as_primitive::<Int64Type>().values().iter().map(latest).collect();
            Ok(ColumnarValue::Array(Arc::new(latest)))
        };
        let argument = vec![DataType::Int64];
        ctx.register_udf(create_udf("latest_version", argument, DataType::Int64, Volatility::Stable, Arc::new(latest)));
        Ok(Self { ctx, threads, folder, version: 0, versions, rows: HashMap::new() })
    }

    /// Takes the events of a file in and gives the counted answers.
    async fn take_in(&mut self, events: &Path) -> Result<Vec<Vec<RecordBatch>>> {
        self.replace("batch", Arc::new(Files::open(events, &[])?))?;
        let mut before = match self.version {
            0 => vec![],
            _ => answer(&self.ctx, BEFORE).await?,
        };
        if before.is_empty() {
            before.push(RecordBatch::new_empty(journeys_schema()));
        }
        self.replace_rows("before", before)?;
        let after = answer(&self.ctx, AFTER).await?;
        self.replace_rows("journeys", after.clone())?;
        let changed = answer(&self.ctx, CHANGED).await?;
        self.replace_rows("changed", changed)?;

        self.version += 1;
        let statements = [SESSIONS].into_iter().chain(COUNTED.iter().map(|counted| counted.changes));
        let mut changes = side_by_side(statements.map(|sql| answer_of(&self.ctx, sql))).await?.into_iter();
        let sessions = changes.next().unwrap_or_default();
        let mut made = vec![("journeys", self.of_version(&after)?), ("sessions", self.of_version(&sessions)?)];
        made.extend(COUNTED.iter().map(|counted| counted.name).zip(changes));
        let committed = tokio::spawn(commit(self.folder.clone(), self.version, made.clone()));
        self.read(made, &after).await?;
        let answers = side_by_side(COUNTED.iter().map(|counted| answer_of(&self.ctx, counted.answer))).await?;
        committed.await.map_err(stopped)??;
        Ok(answers)
    }

    /// Makes the rows of a version those that are read.
    async fn read(&mut self, made: Vec<(&'static str, Vec<RecordBatch>)>, after: &[RecordBatch]) -> Result<()> {
        {
            let mut versions = self.versions.write().map_err(|error| Error::internal(error.to_string()))?;
            for customers in after {
                let customers = customers.column(0).as_primitive::<Int64Type>().values();
                versions.extend(customers.iter().map(|customer| (*customer, self.version)));
            }
        }
        for (name, rows) in made {
            let all = self.rows.entry(name).or_default();
            all.extend(rows);
            let all = all.clone();
            let view = match name {
                "journeys" => Some("journeys_of_customers"),
                "sessions" => Some("sessions"),
                _ => None,
            };
            let Some(view) = view else {
                self.replace_rows(name, all)?;
                continue;
            };
            let of_versions = format!("{name}_of_versions");
            self.replace_rows(&of_versions, all)?;
            let latest = format!("select * from {of_versions} where version = latest_version(customer_id)");
            let latest = self.ctx.sql(&latest).await?.into_view();
            self.replace(view, latest)?;
        }
        Ok(())
    }

    /// Rows with the version at hand.
    fn of_version(&self, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let with_version = |rows: &RecordBatch| {
            let mut fields = rows.schema().fields().to_vec();
            fields.push(Arc::new(Field::new("version", DataType::Int64, false)));
            let version: ArrayRef = Arc::new(Int64Array::from_value(self.version, rows.num_rows()));
            let columns = rows.columns().iter().cloned().chain([version]).collect();
            Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
        };
        rows.iter().map(with_version).collect()
    }

    /// Puts rows in the place of a table's, spread over the threads.
    fn replace_rows(&self, name: &str, rows: Vec<RecordBatch>) -> Result<()> {
        let Some(first) = rows.first() else {
            return Err(Error::internal(format!("{name}: no rows")));
        };
        let schema = first.schema();
        let mut partitions = vec![vec![]; self.threads];
        for (number, batch) in rows.into_iter().enumerate() {
            partitions[number % self.threads].push(batch);
        }
        self.replace(name, Arc::new(MemTable::try_new(schema, partitions)?))
    }

    fn replace(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        self.ctx.deregister_table(name)?;
        self.ctx.register_table(name, table)?;
        Ok(())
    }
}

/// The rows of a query, as a task that needs nothing of others.
fn answer_of(
    ctx: &SessionContext,
    sql: &'static str,
) -> impl Future<Output = Result<Vec<RecordBatch>>> + Send + 'static {
    let ctx = ctx.clone();
    async move { answer(&ctx, sql).await }
}

/// What tasks come to that run at once, in their order.
async fn side_by_side<T: Send + 'static>(
    tasks: impl Iterator<Item = impl Future<Output = Result<T>> + Send + 'static>,
) -> Result<Vec<T>> {
    let at_work: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut done = Vec::with_capacity(at_work.len());
    for task in at_work {
        done.push(task.await.map_err(stopped)??);
    }
    Ok(done)
}

/// Makes a version durable, whole or not at all.
async fn commit(folder: PathBuf, version: i64, made: Vec<(&'static str, Vec<RecordBatch>)>) -> Result<()> {
    let pending = folder.join(format!("pending-{version}"));
    fs::create_dir_all(&pending)?;
    let files = made.into_iter().map(|(name, rows)| {
        let path = pending.join(format!("{name}.parquet"));
        async move {
            write(&rows, &path)?;
            sync(path).await
        }
    });
    side_by_side(files).await?;
    sync(pending.clone()).await?;
    fs::rename(&pending, folder.join(format!("version-{version}")))?;
    sync(folder).await
}

/// Waits, on no thread that works, until a file or folder is on the disk.
async fn sync(path: PathBuf) -> Result<()> {
    let synced = tokio::task::spawn_blocking(move || File::open(path)?.sync_all());
    Ok(synced.await.map_err(stopped)??)
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::internal(format!("a task stopped: {error}"))
}

/// A customer's row.
fn journeys_schema() -> SchemaRef {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let list = |name: &str, element: DataType| Field::new_list(name, Field::new_list_field(element, true), true);
    Arc::new(Schema::new(vec![
        Field::new("customer_id", DataType::Int64, true),
        list("touchpoints", text.clone()),
        list("channels", text),
        list("is_goals", DataType::Boolean),
        list("times", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ]))
}
