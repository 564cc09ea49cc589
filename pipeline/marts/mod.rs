//! Marts: models as plain Parquet at stable paths, replaced file by file in one step each.
//!
//! A mart is flat: list, struct and map columns of its model are left out. Its rows are sorted by day and grain, so that
//! equal tables give equal files. A mart by day follows the Hive convention: its day stands in the path of each file and
//! not in the file, and readers of the folder get it as a column. Nothing but published files ever lies under `marts/`; a
//! file is first written beside it and then moved, and one that the catalog does not name is removed. Each file carries the
//! words of its model's header.

mod ahead;
mod catalog;
mod columns;
mod comments;
mod files;
mod patch;
mod restatements;

pub use ahead::Ahead;
pub use catalog::{CATALOG, Catalog, Mart, MartColumn};
pub use files::STAGING;
pub use restatements::Restatement;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Schema, SchemaRef};
use chrono::{SecondsFormat, Utc};
use datafusion::prelude::{DataFrame, SessionContext, ident};
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use self::ahead::{Ready, Work};
use self::catalog::MartFile;
use self::comments::Comments;
use self::files::{Encoder, Staged};
use self::patch::Patch;
use crate::config;
use crate::derived::storage::{is_flat, stored_schema, to_stored};
use crate::engine;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;
use crate::models::graph::{Graph, Model};
use crate::models::header::Publish;
use crate::models::update::is_one_of_days;
use crate::models::{Exchanged, NodeResult, Outcome, Status, result};
use crate::workspace::Workspace;

/// Folder of the marts in the lake.
pub const MARTS: &str = "marts";
/// Files that are put in their places at once.
const PLACED_AT_ONCE: usize = 16;
/// Memory of the engine for each of the marts that are sorted at once: sorts that share less leave each other none.
const MEMORY_OF_A_MART: usize = 64 << 20;

/// What publication needs to know of the run.
#[derive(Debug, Clone)]
pub struct Edition {
    /// Id of the run.
    pub run_id: String,
    /// Logical time of the run.
    pub as_of: Option<String>,
    /// Last batch of events.
    pub batch: i64,
    /// What runs before have restated and did not come to tell.
    pub untold: Vec<Restatement>,
}

/// What a publication came to.
#[derive(Debug, Default)]
pub struct Published {
    /// Report lines, one per mart.
    pub results: Vec<NodeResult>,
    /// Figures that were published before and are others now, with those that runs before did not tell.
    pub restatements: Vec<Restatement>,
}

/// An error if `[marts]` names what is no mart.
pub fn expect_known(config: &config::Marts, graph: &Graph) -> Result<()> {
    let is_mart = |name: &String| graph.model(name).is_some_and(|model| model.header.publish != Publish::No);
    match config.every.keys().find(|name| !is_mart(name)) {
        Some(name) => Err(Error::invalid(format!("marts.every names `{name}`, which is no mart"))
            .hint("`publish:` in the header of a model makes it one")),
        None => Ok(()),
    }
}

/// Publishes every sound model that is published at all and whose published files are not up to date or not all there,
/// unless it is to be published less often, with the files that are made ahead. Removes the files of marts that no model makes
/// any more, and those that a run cut short left behind. Writes nothing when all is up to date.
pub async fn publish(
    workspace: &Workspace,
    graph: &Graph,
    outcome: &Outcome,
    mut ahead: Ahead,
    edition: &Edition,
    mut progress: impl FnMut(&str),
) -> Result<Published> {
    let before = ahead.catalog().clone();
    let mut catalog = before.clone();
    let mut due = Vec::new();
    for model in graph.models.iter().filter(|model| outcome.sound.contains(&model.name)) {
        let Some(fingerprint) = outcome.fingerprints.get(&model.name) else { continue };
        due.extend(ahead.due(graph, model, outcome, fingerprint)?.map(|due| {
            let made = ahead.take(&due);
            (due, made)
        }));
    }
    ahead.stop();
    if !due.is_empty() {
        // From the first new file on the old fingerprint would be a lie, also if this is cut short.
        let mut under_way = catalog.clone();
        for (Due { model, .. }, _) in &due {
            under_way.forget_fingerprint(&model.name);
        }
        if under_way != catalog {
            under_way.save(&workspace.lake).await?;
        }
    }
    let mut due: Vec<_> = due.into_iter().enumerate().collect();
    // What takes long is begun first.
    due.sort_by_cached_key(|(_, (due, _))| Reverse(due.before.values().map(|file| file.bytes).sum::<u64>()));
    let mut at_work = JoinSet::new();
    for (place, (mut due, made)) in due {
        progress(&due.model.name);
        let (workspace, edition, room) = (workspace.clone(), edition.clone(), ahead.room());
        at_work.spawn(async move {
            let made = match made {
                Some(work) => made_ahead(&due, work).await,
                None => None,
            };
            let (line, ready) = match made {
                Some(Some((line, layout, files))) => (line, Ok(mart_of(&due, &layout, files, &edition))),
                made => {
                    if let (Some(_), Some(known)) = (made, &mut due.known) {
                        // Once more they would turn out the same.
                        known.exchanged = None;
                    }
                    let _room = room.acquire().await;
                    let started = Instant::now();
                    let make = |ctx| make_ready(&workspace, ctx, &due, &edition);
                    let ready = engine::within_memory(&workspace.ctx, make).await;
                    (line_of(&due.model.name, started), ready)
                }
            };
            (place, line, due.model.name, ready)
        });
    }
    let mut all_ready = Vec::new();
    while let Some(done) = at_work.join_next().await {
        all_ready.push(done.map_err(|error| Error::internal(format!("a publication stopped: {error}")))?);
    }
    let (mut results, mut restated) = (Vec::new(), Vec::new());
    for (place, mut line, name, ready) in all_ready {
        let placed = match ready {
            Ok((mart, staged)) => put_in_place(&workspace.lake, &staged).await.map(|()| mart),
            Err(error) => Err(error),
        };
        match placed {
            Ok(mart) => {
                (line.rows, line.bytes) = (Some(mart.rows), Some(mart.bytes));
                if let Some(before) = before.marts.get(&name) {
                    restated.extend(restatements::find(graph, &name, before, &mart, outcome));
                }
                catalog.marts.insert(name, mart);
            }
            Err(error) => {
                catalog.forget_fingerprint(&name);
                line.fail(&error);
            }
        }
        results.push((place, line));
    }
    catalog.marts.retain(|name, _| graph.model(name).is_some_and(|model| model.header.publish != Publish::No));
    if !edition.untold.is_empty() {
        restated = restatements::with_untold(&edition.untold, restated, &catalog.marts);
    }
    restated.sort_by(|a, b| (&a.mart, &a.day).cmp(&(&b.mart, &b.day)));
    if catalog != before || !edition.untold.is_empty() {
        catalog.run_id = edition.run_id.clone();
        catalog.as_of = edition.as_of.clone();
        catalog.restatements.clone_from(&restated);
        failpoint("publish.catalog");
        catalog.save(&workspace.lake).await?;
    }
    let named: BTreeSet<&String> = catalog.marts.values().flat_map(|mart| mart.files.keys()).collect();
    files::remove_staged(&workspace.lake).await?;
    files::remove(&workspace.lake, ahead.found().iter().filter(|path| !named.contains(path))).await?;
    results.sort_by_key(|(place, _)| *place);
    Ok(Published { results: results.into_iter().map(|(_, line)| line).collect(), restatements: restated })
}

/// What came of work on a mart that was begun ahead; nothing where it failed, which costs its time alone.
async fn made_ahead(due: &Due, work: Work) -> Option<Option<Ready>> {
    let made = match work.join().await {
        Ok(made) => made,
        Err(error) => Err(Error::internal(format!("a publication stopped: {error}"))),
    };
    let told = |error: &Error| tracing::warn!(mart = due.model.name, %error, "could not be made ahead");
    made.inspect_err(told).ok()
}

/// The report line of a mart that was made.
fn line_of(mart: &str, started: Instant) -> NodeResult {
    result("mart", mart, Status::Success, started, String::new())
}

/// Marts that are made at once.
fn at_once(workspace: &Workspace) -> Result<usize> {
    let engine = &workspace.project.config.engine;
    Ok((engine.memory_bytes()? / MEMORY_OF_A_MART).clamp(1, engine.thread_count()))
}

async fn put_in_place(lake: &Lake, staged: &[Staged]) -> Result<()> {
    let placed = futures::stream::iter(staged).map(|staged| files::place(lake, staged));
    placed.buffer_unordered(PLACED_AT_ONCE).try_collect().await
}

/// A mart to publish.
struct Due {
    model: Model,
    fingerprint: String,
    comments: Comments,
    /// What the catalog says of its files.
    before: BTreeMap<String, MartFile>,
    /// What changed since they were published, where that is known.
    known: Option<Known>,
}

impl Due {
    /// Whether its files can be made from what they were and the rows that go and come.
    fn is_known_by_rows(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.exchanged.is_some())
    }
}

/// How the rows of a mart are others than those of its files, which are all there.
struct Known {
    /// Rows that go and come; `None` where only the days are known.
    exchanged: Option<Exchanged>,
    /// Days of these rows, and those that were asked for; `None` where the mart is one file.
    days: Option<BTreeSet<Option<i32>>>,
}

fn known(model: &Model, outcome: &Outcome, published: &Mart, found: &BTreeSet<String>) -> Option<Known> {
    let changed = outcome.changed.get(&model.name).filter(|changed| changed.before == published.fingerprint)?;
    let days = match &model.header.publish {
        Publish::ByDay(day) => Some(changed.days.get(day)?.keys().copied().collect()),
        _ => None,
    };
    let is_whole = published.files.keys().all(|path| found.contains(path));
    is_whole.then(|| Known { exchanged: changed.exchanged.clone(), days })
}

/// How the files of a mart are made.
struct Layout {
    /// Columns of the mart.
    schema: SchemaRef,
    /// Column that tells the file of a row.
    day: Option<String>,
    /// Places of the columns that stand in the files, and their schema.
    in_file: Vec<usize>,
    file_schema: SchemaRef,
    /// Columns by which the rows of a file are sorted.
    keys: Vec<String>,
    /// What a file says of itself.
    metadata: Vec<(String, String)>,
}

impl Layout {
    fn of(model: &Model, comments: &Comments, schema: &Schema) -> Result<Self> {
        let schema = stored_schema(schema)?;
        let day = match &model.header.publish {
            Publish::ByDay(column) => Some(column.clone()),
            _ => None,
        };
        if let Some(day) = &day {
            match schema.field_with_name(day).map(|field| field.data_type()) {
                Ok(DataType::Date32) => {}
                Ok(other) => {
                    return Err(Error::invalid(format!("{}: `{day}` is {other}, expected a date", model.origin)));
                }
                Err(_) => {
                    return Err(Error::invalid(format!("{}: publish by day({day}): no such column", model.origin)));
                }
            }
        }
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let in_file: Vec<usize> = (0..names.len()).filter(|at| day.as_deref() != Some(names[*at])).collect();
        let in_files: Vec<&str> = in_file.iter().map(|at| names[*at]).collect();
        let mut seen = BTreeSet::new();
        let grain =
            model.header.grain.iter().filter(|key| in_files.contains(&key.as_str()) && seen.insert(key.as_str()));
        let mut keys: Vec<String> = grain.cloned().collect();
        if keys.is_empty() {
            // Without a grain every column takes part, so that the order is still told by content alone.
            keys = in_files.into_iter().map(String::from).collect();
        }
        let metadata = comments.key_values(&names);
        let file_schema = Arc::new(schema.project(&in_file)?);
        Ok(Self { schema, day, in_file, file_schema, keys, metadata })
    }

    fn encoder(&self) -> Encoder {
        Encoder::new(&self.file_schema, &self.metadata)
    }

    fn sorted(&self, frame: DataFrame) -> Result<DataFrame> {
        let keys = self.day.iter().chain(&self.keys);
        Ok(frame.sort(keys.map(|key| ident(key).sort(true, true)).collect())?)
    }
}

/// Makes the files of a mart that are others than before, and says what the mart is once they are in their places.
async fn make_ready(
    workspace: &Workspace,
    ctx: SessionContext,
    due: &Due,
    edition: &Edition,
) -> Result<(Mart, Vec<Staged>)> {
    let Due { model, before, known, .. } = due;
    // Of a few days the other columns are read for their rows alone.
    let ctx = match known {
        Some(Known { days: Some(_), .. }) => engine::reading_few_rows(&ctx),
        _ => ctx,
    };
    let (frame, layout) = laid_out(&ctx, due).await?;
    let files = match patched(workspace, &layout, due).await? {
        Some(patched) => patched,
        None => made(&workspace.lake, &layout, &model.name, frame, known.as_ref(), before).await?,
    };
    Ok(mart_of(due, &layout, files, edition))
}

/// The rows of a mart, and how its files are made.
async fn laid_out(ctx: &SessionContext, due: &Due) -> Result<(DataFrame, Layout)> {
    let frame = ctx.table(due.model.name.as_str()).await?;
    let flat: Vec<_> =
        frame.schema().fields().iter().filter(|field| is_flat(field)).map(|field| ident(field.name())).collect();
    let frame = frame.select(flat)?;
    let layout = Layout::of(&due.model, &due.comments, frame.schema().as_arrow())?;
    Ok((frame, layout))
}

/// What a mart is once these files are in their places.
fn mart_of(due: &Due, layout: &Layout, (kept, staged): Files, edition: &Edition) -> (Mart, Vec<Staged>) {
    let Due { model, fingerprint, comments, .. } = due;
    let mut files = kept;
    files.extend(staged.iter().map(|staged| (staged.path.clone(), staged.file.clone())));
    let mart = Mart {
        path: path(&model.name, &model.header.publish).expect("only what is published comes here"),
        description: model.header.description.clone(),
        grain: model.header.grain.clone(),
        columns: layout.schema.fields().iter().map(|field| MartColumn::of(field, comments)).collect(),
        rows: files.values().map(|file| file.rows).sum(),
        bytes: files.values().map(|file| file.bytes).sum(),
        files,
        fingerprint: fingerprint.clone(),
        layout: comments.layout(model),
        run_id: edition.run_id.clone(),
        published_at: Some(Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)),
        as_of: edition.as_of.clone(),
        batch: Some(edition.batch),
    };
    (mart, staged)
}

/// Files that stay as they are, and those that are new.
type Files = (BTreeMap<String, MartFile>, Vec<Staged>);

/// Makes files from the rows of a model: those of the days that changed, else all.
async fn made(
    lake: &Lake,
    layout: &Layout,
    name: &str,
    frame: DataFrame,
    known: Option<&Known>,
    before: &BTreeMap<String, MartFile>,
) -> Result<Files> {
    let (mut frame, mut kept) = (frame, BTreeMap::new());
    if let (Some(day), Some(Known { days: Some(days), .. })) = (&layout.day, known) {
        frame = frame.filter(is_one_of_days(day, days))?;
        let changed: BTreeSet<String> = days.iter().map(|value| path_of_day(name, day, *value)).collect();
        kept.extend(
            before.iter().filter(|(path, _)| !changed.contains(*path)).map(|(path, file)| (path.clone(), file.clone())),
        );
    }
    Ok((kept, write(lake, layout, name, layout.sorted(frame)?, before).await?))
}

/// Makes the files whose rows changed from what they were, where the rows that go and come are known; `None` where they are not,
/// or the files are not what they are known to be.
async fn patched(workspace: &Workspace, layout: &Layout, due: &Due) -> Result<Option<Files>> {
    let Some(Known { exchanged: Some(exchanged), days }) = &due.known else { return Ok(None) };
    match changed_by(workspace, layout, &due.model.name, exchanged, days.as_ref(), &due.before).await {
        Err(error) if !error.is_temporary() => {
            tracing::warn!(mart = due.model.name, %error, "is published from its table");
            Ok(None)
        }
        files => files.map(Some),
    }
}

/// Makes the files whose rows changed from what they were and the rows that go and come. An error if they are not what
/// they are known to be.
async fn changed_by(
    workspace: &Workspace,
    layout: &Layout,
    name: &str,
    exchanged: &Exchanged,
    days: Option<&BTreeSet<Option<i32>>>,
    before: &BTreeMap<String, MartFile>,
) -> Result<Files> {
    let mut patches = BTreeMap::new();
    match (&layout.day, days) {
        (Some(day), Some(days)) => {
            let mut of_days = Patch::by_day(&layout.schema, exchanged, day)?;
            for value in days {
                patches.insert(path_of_day(name, day, *value), of_days.remove(value));
            }
            if !of_days.is_empty() {
                return Err(Error::internal("rows changed on days that are not known to"));
            }
        }
        _ => {
            let patch = Patch::of_file(&layout.schema, exchanged)?;
            patches.insert(format!("{MARTS}/{name}.parquet"), Some(patch).filter(|patch| !patch.is_empty()));
        }
    }
    let mut kept = before.clone();
    let threads = workspace.project.config.engine.thread_count();
    let mut at_work = futures::stream::iter(patches)
        .map(|(path, patch)| {
            let (lake, file) = (&workspace.lake, before.get(&path));
            let (keys, encoder) = (layout.keys.clone(), layout.encoder());
            async move {
                let content = match file {
                    Some(file) => Some(files::content(lake, &path, file).await?),
                    None => None,
                };
                let Some(patch) = patch else { return Ok(None) };
                let applied = tokio::task::spawn_blocking(move || patch.apply(content, &keys, encoder)).await;
                let applied = applied.map_err(|error| Error::internal(format!("a patch stopped: {error}")))?;
                let applied = applied.map_err(|error| error.context(&path))?;
                Ok::<_, Error>(Some(files::stage(lake, path, applied, file).await?))
            }
        })
        .buffer_unordered(threads);
    let mut staged = Vec::new();
    while let Some(done) = at_work.next().await {
        let Some(file) = done? else { continue };
        kept.remove(&file.path);
        // A day without rows has no file.
        if file.file.rows > 0 || layout.day.is_none() {
            staged.push(file);
        }
    }
    Ok((kept, staged))
}

/// Makes files of a sorted stream: one, or one per day without the column of the day.
async fn write(
    lake: &Lake,
    layout: &Layout,
    name: &str,
    frame: DataFrame,
    before: &BTreeMap<String, MartFile>,
) -> Result<Vec<Staged>> {
    let mut files = Vec::new();
    let day = layout.day.as_deref();
    let mut open = match day {
        None => Some((format!("{MARTS}/{name}.parquet"), layout.encoder())),
        Some(_) => None,
    };
    let mut stream = frame.execute_stream().await?;
    while let Some(batch) = stream.try_next().await? {
        let batch = to_stored(&batch, &layout.schema)?;
        for (path, rows) in runs_by_day(&batch, name, day)? {
            if let Some((path, encoder)) = open.take_if(|(open, _)| *open != path) {
                let before = before.get(&path);
                files.push(files::stage(lake, path, encoder.finish()?, before).await?);
            }
            let (_, encoder) = open.get_or_insert_with(|| (path, layout.encoder()));
            encoder.push(rows.project(&layout.in_file)?)?;
        }
    }
    if let Some((path, encoder)) = open {
        let before = before.get(&path);
        files.push(files::stage(lake, path, encoder.finish()?, before).await?);
    }
    Ok(files)
}

/// Cuts a batch that is sorted by day into slices of one day with the path of their file.
fn runs_by_day(batch: &RecordBatch, name: &str, day: Option<&str>) -> Result<Vec<(String, RecordBatch)>> {
    let Some(day) = day else { return Ok(vec![(format!("{MARTS}/{name}.parquet"), batch.clone())]) };
    let column = batch.column_by_name(day).ok_or_else(|| Error::internal(format!("no column {day}")))?;
    let days = column.as_primitive::<Date32Type>();
    let mut runs = Vec::new();
    let mut start = 0;
    for row in 1..=days.len() {
        if row == days.len() || days.is_null(row) != days.is_null(start) || days.value(row) != days.value(start) {
            let value = days.is_valid(start).then(|| days.value(start));
            runs.push((path_of_day(name, day, value), batch.slice(start, row - start)));
            start = row;
        }
    }
    Ok(runs)
}

/// The file of a mart, or a glob of its files, relative to the lake; none of a model that is not published.
pub fn path(name: &str, publish: &Publish) -> Option<String> {
    match publish {
        Publish::No => None,
        Publish::File => Some(format!("{MARTS}/{name}.parquet")),
        Publish::ByDay(day) => Some(format!("{MARTS}/{name}/{day}=*/part-0.parquet")),
    }
}

/// Path of the file of a day, given in days since 1970.
pub fn path_of_day(name: &str, day: &str, value: Option<i32>) -> String {
    let date = value.and_then(arrow::temporal_conversions::date32_to_datetime).map(|at| at.date().to_string());
    let value = date.unwrap_or_else(|| "__HIVE_DEFAULT_PARTITION__".to_string());
    format!("{MARTS}/{name}/{day}={value}/part-0.parquet")
}
