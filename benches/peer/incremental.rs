//! W12: batches of new and late events over a history, and four answers that stay current.
//!
//! A batch changes the rows of its customers only. Their journeys are looked up as they were and made anew with the
//! events of the batch in their places; what the former count for is taken off, what the latter count for is
//! added (`changed` holds both, each row with its sign). Everything that a batch makes, journeys and sessions of its
//! customers and counts with their signs, is one folder of Parquet files: synced, then renamed into place. The same rows
//! stay in memory, as those of all batches before; of a customer the last ones count. Paths, of which there are many, are
//! counted on; the other counts are added up where they are asked for. Statements are planned once and run side by side, each file is
//! written and synced as soon as its rows are there, and the answers count once all of it is in place.

mod statements;
mod timelines;

use std::cmp::Reverse;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use hashbrown::HashMap;
use tokio::task::JoinHandle;
use wayline::delta;
use wayline::error::{Error, Result};

use self::statements::{Rows, Statement};
use self::timelines::{Timelines, Words, journeys};
use super::Phases;
use super::queries::{answer, context, write};
use super::tables::Files;

/// Rows that operators pass on at a time: a batch has few.
const AT_ONCE: usize = 1024;
/// Paths that are told.
const MOST_TAKEN: usize = 100;

const SESSIONS: &str = include_str!("sql/journeys/W2.sql");

/// What is counted: its name, what a batch changes in the counts, and the answer from all counts, where it is a statement.
struct Counted {
    name: &'static str,
    changes: &'static str,
    answer: Option<&'static str>,
}

const COUNTED: [Counted; 3] = [
    Counted {
        name: "w3",
        changes: include_str!("sql/incremental/changes/W3.sql"),
        answer: Some(include_str!("sql/incremental/answers/W3.sql")),
    },
    Counted { name: "w5", changes: include_str!("sql/incremental/changes/W5.sql"), answer: None },
    Counted {
        name: "w7",
        changes: include_str!("sql/incremental/changes/W7.sql"),
        answer: Some(include_str!("sql/incremental/answers/W7.sql")),
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
        let mut state = State::new(out.join("versions"), threads).await?;
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

/// The row of a customer that counts, and the version that made it.
#[derive(Clone, Copy)]
struct Latest {
    version: i64,
    row: usize,
}

struct State {
    ctx: SessionContext,
    session: SessionState,
    /// Where versions are committed.
    folder: PathBuf,
    version: i64,
    words: Words,
    /// The rows that the versions have made.
    timelines: Timelines,
    latest: Arc<RwLock<HashMap<i64, Latest>>>,
    /// What the statements read.
    journeys: Rows,
    changed: Rows,
    sessions: Rows,
    counted: [Rows; 3],
    sessions_of: Statement,
    changes_of: [Statement; 3],
    answer_of: [Option<Statement>; 3],
    paths: Paths,
}

impl State {
    async fn new(folder: PathBuf, threads: usize) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let ctx = context(threads, AT_ONCE);
        let latest = Arc::<RwLock<HashMap<i64, Latest>>>::default();
        let known = Arc::clone(&latest);
        let latest_version = move |arguments: &[ColumnarValue]| {
            let customers = arguments[0].to_array(1)?;
            let known = known.read().expect("nobody panics with the lock");
            let version = |customer: &i64| known.get(customer).map(|latest| latest.version);
            let versions: Int64Array = customers.as_primitive::<Int64Type>().values().iter().map(version).collect();
            Ok(ColumnarValue::Array(Arc::new(versions)))
        };
        let (argument, whole) = (vec![DataType::Int64], DataType::Int64);
        ctx.register_udf(create_udf("latest_version", argument, whole, Volatility::Stable, Arc::new(latest_version)));
        let table = |name: &str, schema: SchemaRef| -> Result<Rows> {
            let rows = Rows::new(schema);
            ctx.register_table(name, rows.table(threads)?)?;
            Ok(rows)
        };
        let of_customers = table("journeys", journeys())?;
        let changed = table("changed", with_column(&journeys(), "sign"))?;
        let sessions_of = Statement::plan(&ctx, SESSIONS).await?;
        let sessions = table("sessions_of_versions", with_column(&sessions_of.schema(), "version"))?;
        let current = ctx.sql("select * from sessions_of_versions where version = latest_version(customer_id)");
        ctx.register_table("sessions", current.await?.into_view())?;
        let (mut counted, mut changes_of, mut answer_of) = (Vec::new(), Vec::new(), Vec::new());
        for Counted { name, changes, answer } in COUNTED {
            let changes = Statement::plan(&ctx, changes).await?;
            counted.push(table(name, changes.schema())?);
            changes_of.push(changes);
            answer_of.push(match answer {
                Some(sql) => Some(Statement::plan(&ctx, sql).await?),
                None => None,
            });
        }
        let three = || Error::internal("three answers are counted");
        Ok(Self {
            session: ctx.state(),
            ctx,
            folder,
            version: 0,
            words: Words::default(),
            timelines: Timelines::default(),
            latest,
            journeys: of_customers,
            changed,
            sessions,
            counted: counted.try_into().map_err(|_| three())?,
            sessions_of,
            changes_of: changes_of.try_into().map_err(|_| three())?,
            answer_of: answer_of.try_into().map_err(|_| three())?,
            paths: Paths::default(),
        })
    }

    /// Takes the events of a file in and gives the counted answers.
    async fn take_in(&mut self, events: &Path) -> Result<Vec<Vec<RecordBatch>>> {
        self.version += 1;
        let pending = self.folder.join(format!("pending-{}", self.version));
        fs::create_dir_all(&pending)?;
        let new = Timelines::of(&self.read(events).await?, &mut self.words)?;
        let (before, after) = self.before_and_after(&new)?;
        let rows_after = after.rows(&self.words, AT_ONCE)?;
        let mut changed = signed(before.rows(&self.words, AT_ONCE)?, -1)?;
        changed.extend(signed(rows_after.clone(), 1)?);
        self.journeys.replace(rows_after.clone());
        self.changed.replace(changed);

        let version = self.version;
        let of_version = move |rows| with_value(rows, "version", version);
        let mut stored = vec![tokio::spawn(store(pending.join("journeys.parquet"), of_version(rows_after)?))];
        let made =
            |statement: &Statement, name: &str, finish: fn(Vec<RecordBatch>, i64) -> Result<Vec<RecordBatch>>| {
                let (statement, path) = (statement.clone(), pending.join(format!("{name}.parquet")));
                tokio::spawn(async move {
                    let (schema, mut rows) = (statement.schema(), statement.run().await?);
                    if rows.is_empty() {
                        rows.push(RecordBatch::new_empty(schema));
                    }
                    let rows = finish(rows, version)?;
                    Ok((rows.clone(), tokio::spawn(store(path, rows))))
                })
            };
        let sessions = made(&self.sessions_of, "sessions", |rows, version| with_value(rows, "version", version));
        let changes: Vec<_> = COUNTED
            .iter()
            .zip(&self.changes_of)
            .map(|(counted, statement)| made(statement, counted.name, |rows, _| Ok(rows)))
            .collect();

        let mut answers = Vec::with_capacity(changes.len());
        for ((changes, counted), answer) in changes.into_iter().zip(&self.counted).zip(&self.answer_of) {
            let (rows, storing) = joined(changes).await?;
            stored.push(storing);
            match answer {
                Some(answer) => {
                    counted.add(&rows);
                    answers.push(tokio::spawn(answer.clone().run()));
                }
                None => {
                    self.paths.add(&rows)?;
                    let most_taken = self.paths.most_taken()?;
                    answers.push(tokio::spawn(async move { Ok(vec![most_taken]) }));
                }
            }
        }
        let (rows, storing) = joined(sessions).await?;
        stored.push(storing);
        self.sessions.add(&rows);
        let committed = tokio::spawn(commit(self.folder.clone(), self.version, stored));
        let mut found = Vec::with_capacity(answers.len());
        for answer in answers {
            found.push(joined(answer).await?);
        }
        joined(committed).await?;
        Ok(found)
    }

    /// The events of a file.
    async fn read(&self, events: &Path) -> Result<Vec<RecordBatch>> {
        let file = Files::open(events, &[])?;
        let columns = ["customer_id", "event_time", "touchpoint", "channel"];
        let columns = columns.map(|name| file.schema().index_of(name)).into_iter().collect::<Result<Vec<_>, _>>()?;
        let plan = file.scan(&self.session, Some(&columns), &[], None).await?;
        Ok(collect(plan, self.session.task_ctx()).await?)
    }

    /// The customers of new events as they were known and as they are now, which are the latest from now on.
    fn before_and_after(&mut self, new: &Timelines) -> Result<(Timelines, Timelines)> {
        let mut latest = self.latest.write().map_err(|error| Error::internal(error.to_string()))?;
        let (mut before, mut after) = (Timelines::default(), Timelines::default());
        for (row, customer) in new.customers().iter().enumerate() {
            let here = Latest { version: self.version, row: self.timelines.customers().len() + row };
            match latest.insert(*customer, here) {
                Some(known) => {
                    before.add(&self.timelines, known.row);
                    after.add_merged((&self.timelines, known.row), (new, row));
                }
                None => after.add(new, row),
            }
        }
        for row in 0..after.customers().len() {
            self.timelines.add(&after, row);
        }
        Ok((before, after))
    }
}

/// How many sessions take each path, and how many of them convert.
#[derive(Default)]
struct Paths(HashMap<String, (i64, i64)>);

impl Paths {
    /// Adds rows of `path`, `sessions` and `converted`; a path that nobody takes is gone.
    fn add(&mut self, changes: &[RecordBatch]) -> Result<()> {
        for rows in changes {
            let paths = cast(rows.column(0), &DataType::Utf8)?;
            let [sessions, converted] = [1, 2].map(|column| rows.column(column).as_primitive::<Int64Type>().values());
            for (row, path) in paths.as_string::<i32>().iter().enumerate() {
                let path = path.ok_or_else(|| Error::internal("a path is no text"))?;
                let counts = self.0.entry_ref(path).or_default();
                *counts = (counts.0 + sessions[row], counts.1 + converted[row]);
                if *counts == (0, 0) {
                    self.0.remove(path);
                }
            }
        }
        Ok(())
    }

    /// W5: the paths that most sessions take, with their rank.
    fn most_taken(&self) -> Result<RecordBatch> {
        let mut paths: Vec<_> =
            self.0.iter().map(|(path, counts)| (Reverse(counts.0), path.as_str(), counts.1)).collect();
        if paths.len() > MOST_TAKEN {
            paths.select_nth_unstable(MOST_TAKEN);
            paths.truncate(MOST_TAKEN);
        }
        paths.sort_unstable();
        let sessions = paths.iter().map(|(sessions, ..)| sessions.0);
        let rates = paths.iter().map(|(sessions, _, converted)| *converted as f64 / sessions.0 as f64);
        Ok(RecordBatch::try_from_iter([
            ("path", Arc::new(StringArray::from_iter_values(paths.iter().map(|(_, path, _)| path))) as ArrayRef),
            ("sessions", Arc::new(Int64Array::from_iter_values(sessions))),
            ("converted", Arc::new(Int64Array::from_iter_values(paths.iter().map(|(.., converted)| *converted)))),
            ("conversion_rate", Arc::new(Float64Array::from_iter_values(rates))),
            ("rank", Arc::new(UInt64Array::from_iter_values(1..=paths.len() as u64))),
        ])?)
    }
}

/// Writes rows as the product does, and waits until they are on the disk.
async fn store(path: PathBuf, rows: Vec<RecordBatch>) -> Result<()> {
    let schema = rows.first().ok_or_else(|| Error::internal("no rows"))?.schema();
    let (content, _) = delta::encode(&schema, [concat_batches(&schema, &rows)?])?;
    let written = tokio::task::spawn_blocking(move || {
        let mut file = File::create(path)?;
        std::io::Write::write_all(&mut file, &content)?;
        file.sync_all()
    });
    Ok(written.await.map_err(stopped)??)
}

/// Makes a version durable, whole or not at all, once its files are.
async fn commit(folder: PathBuf, version: i64, stored: Vec<JoinHandle<Result<()>>>) -> Result<()> {
    for file in stored {
        joined(file).await?;
    }
    let committed = tokio::task::spawn_blocking(move || {
        let pending = folder.join(format!("pending-{version}"));
        File::open(&pending)?.sync_all()?;
        fs::rename(&pending, folder.join(format!("version-{version}")))?;
        File::open(folder)?.sync_all()
    });
    Ok(committed.await.map_err(stopped)??)
}

async fn joined<T>(task: JoinHandle<Result<T>>) -> Result<T> {
    task.await.map_err(stopped)?
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::internal(format!("a task stopped: {error}"))
}

/// The columns of a schema and one of whole numbers.
fn with_column(schema: &SchemaRef, name: &str) -> SchemaRef {
    let column = Arc::new(Field::new(name, DataType::Int64, false));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([column]).collect::<Vec<_>>()))
}

/// Rows with a column of one value.
fn with_value(rows: Vec<RecordBatch>, name: &str, value: i64) -> Result<Vec<RecordBatch>> {
    let with_value = |rows: RecordBatch| {
        let values: ArrayRef = Arc::new(Int64Array::from_value(value, rows.num_rows()));
        let columns = rows.columns().iter().cloned().chain([values]).collect();
        Ok(RecordBatch::try_new(with_column(&rows.schema(), name), columns)?)
    };
    rows.into_iter().map(with_value).collect()
}

fn signed(rows: Vec<RecordBatch>, sign: i64) -> Result<Vec<RecordBatch>> {
    with_value(rows, "sign", sign)
}
