//! Marts: models as plain Parquet at stable paths, replaced file by file in one step each.
//!
//! A mart is flat: list, struct and map columns of its model are left out. Its rows are sorted by day and grain, so that
//! equal tables give equal files. A mart by day follows the Hive convention: its day stands in the path of each file and
//! not in the file, and readers of the folder get it as a column. Nothing but published files ever lies under `marts/`; a
//! file is first written beside it and then moved, and one that the catalog does not name is removed. Each file carries the
//! words of its model's header.

mod catalog;
mod comments;
mod restatements;

pub use catalog::{CATALOG, Catalog, Mart, MartColumn};
pub use restatements::Restatement;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, SchemaRef};
use datafusion::prelude::{DataFrame, col, ident};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use parquet::arrow::ArrowWriter;
use uuid::Uuid;

use self::comments::Comments;
use crate::delta::published_writer;
use crate::derived::storage::{is_flat, stored_schema, to_stored};
use crate::engine;
use crate::error::{Context, Error, Result};
use crate::failpoint::failpoint;
use crate::lake::Lake;
use crate::models::graph::{Graph, Model};
use crate::models::header::Publish;
use crate::models::update::is_one_of_days;
use crate::models::{NodeResult, Outcome, Status, result};
use crate::workspace::Workspace;

/// Folder of the marts in the lake.
pub const MARTS: &str = "marts";
/// Folder of files that are complete and not yet in place.
pub const STAGING: &str = "staging";

/// What publication needs to know of the run.
#[derive(Debug, Clone)]
pub struct Edition {
    /// Id of the run.
    pub run_id: String,
    /// Logical time of the run.
    pub as_of: Option<String>,
    /// Last batch of events.
    pub batch: i64,
}

/// What a publication came to.
#[derive(Debug, Default)]
pub struct Published {
    /// Report lines, one per mart.
    pub results: Vec<NodeResult>,
    /// Figures that were published before and are others now.
    pub restatements: Vec<Restatement>,
}

/// Publishes every sound model that is published at all and whose published files are not up to date or not all there;
/// removes the files of marts that no model makes any more, and those that a run cut short left behind. Writes nothing
/// when all is up to date.
pub async fn publish(
    workspace: &Workspace,
    graph: &Graph,
    outcome: &Outcome,
    edition: &Edition,
    mut progress: impl FnMut(&str),
) -> Result<Published> {
    let mut catalog = Catalog::load(&workspace.lake).await?;
    let before = catalog.clone();
    let found = files(&workspace.lake, MARTS).await?;
    let mut due = Vec::new();
    for model in graph.models.iter().filter(|model| model.header.publish != Publish::No) {
        let Some(fingerprint) = outcome.fingerprints.get(&model.name) else { continue };
        let comments = Comments::of(graph, model)?;
        // Of what is published otherwise, or with other words, no file is as it would be.
        let layout = comments.layout(model);
        let published = catalog.marts.get(&model.name).filter(|mart| mart.layout == layout);
        let is_current = published
            .is_some_and(|mart| mart.fingerprint == *fingerprint && mart.files.keys().all(|path| found.contains(path)));
        if !is_current && outcome.sound.contains(&model.name) {
            let changed = changed_days(model, outcome, published, &found);
            due.push((model.clone(), fingerprint.clone(), comments, changed));
        }
    }
    if !due.is_empty() {
        // What a run cut short has staged is of no use to another.
        remove(&workspace.lake, &files(&workspace.lake, STAGING).await?).await?;
        // From the first new file on the old fingerprint would be a lie, also if this is cut short.
        let mut under_way = catalog.clone();
        for (model, ..) in &due {
            under_way.forget_fingerprint(&model.name);
        }
        if under_way != catalog {
            under_way.save(&workspace.lake).await?;
        }
    }
    let threads = workspace.project.config.engine.thread_count();
    let mut published = futures::stream::iter(due.into_iter().enumerate())
        .map(|(place, (model, fingerprint, comments, changed))| {
            progress(&model.name);
            let (workspace, edition) = (workspace.clone(), edition.clone());
            tokio::spawn(async move {
                let started = Instant::now();
                let mart = publish_model(&workspace, &model, &fingerprint, &comments, changed, &edition).await;
                (place, result("mart", &model.name, Status::Success, started, String::new()), model.name, mart)
            })
        })
        .buffer_unordered(threads);
    let (mut results, mut restated) = (Vec::new(), Vec::new());
    while let Some(done) = published.next().await {
        let (place, mut line, name, mart) =
            done.map_err(|error| Error::internal(format!("a publication stopped: {error}")))?;
        match mart {
            Ok(mart) => {
                (line.rows, line.bytes) = (Some(mart.rows), Some(mart.bytes));
                if let Some(before) = before.marts.get(&name) {
                    restated.extend(restatements::find(&name, before, &mart, outcome));
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
    drop(published);
    catalog.marts.retain(|name, _| graph.model(name).is_some_and(|model| model.header.publish != Publish::No));
    if catalog != before {
        catalog.run_id = edition.run_id.clone();
        catalog.as_of = edition.as_of.clone();
        failpoint("publish.catalog");
        catalog.save(&workspace.lake).await?;
    }
    let named: BTreeSet<&String> = catalog.marts.values().flat_map(|mart| mart.files.keys()).collect();
    remove(&workspace.lake, found.iter().filter(|path| !named.contains(path))).await?;
    results.sort_by_key(|(place, _)| *place);
    restated.sort_by(|a, b| (&a.mart, &a.day).cmp(&(&b.mart, &b.day)));
    Ok(Published { results: results.into_iter().map(|(_, line)| line).collect(), restatements: restated })
}

/// Every file in a folder, by its path in the lake.
async fn files(lake: &Lake, folder: &str) -> Result<BTreeSet<String>> {
    let listed = lake.list(folder).await?;
    Ok(listed.iter().filter_map(|file| lake.relative(&file.location)).collect())
}

/// Days of a mart whose rows are others than in its files, and the files of all others.
struct ChangedDays {
    days: BTreeSet<Option<i32>>,
    others: BTreeMap<String, catalog::MartFile>,
}

/// The days of a mart that must be written again; `None` when all must.
fn changed_days(
    model: &Model,
    outcome: &Outcome,
    published: Option<&Mart>,
    found: &BTreeSet<String>,
) -> Option<ChangedDays> {
    let Publish::ByDay(day) = &model.header.publish else { return None };
    let changed = outcome.changed.get(&model.name)?;
    let published = published.filter(|mart| mart.fingerprint == changed.before)?;
    let days: BTreeSet<Option<i32>> = changed.days.get(day)?.keys().copied().collect();
    if !published.files.keys().all(|path| found.contains(path)) {
        return None;
    }
    let changed: BTreeSet<String> = days.iter().map(|value| path_of_day(&model.name, day, *value)).collect();
    let is_other = |(path, _): &(&String, &catalog::MartFile)| !changed.contains(*path);
    let others = published.files.iter().filter(is_other).map(|(path, file)| (path.clone(), file.clone())).collect();
    Some(ChangedDays { days, others })
}

async fn publish_model(
    workspace: &Workspace,
    model: &Model,
    fingerprint: &str,
    comments: &Comments,
    changed: Option<ChangedDays>,
    edition: &Edition,
) -> Result<Mart> {
    // Of a few days the other columns are read for their rows alone.
    let ctx = match changed {
        Some(_) => engine::reading_few_rows(&workspace.ctx),
        None => workspace.ctx.clone(),
    };
    let frame = ctx.table(model.name.as_str()).await?;
    let flat: Vec<_> =
        frame.schema().fields().iter().filter(|field| is_flat(field)).map(|field| ident(field.name())).collect();
    let mut frame = frame.select(flat)?;
    let day = match &model.header.publish {
        Publish::ByDay(column) => Some(column.as_str()),
        _ => None,
    };
    if let Some(day) = day {
        match frame.schema().field_with_unqualified_name(day).map(|field| field.data_type()) {
            Ok(DataType::Date32) => {}
            Ok(other) => return Err(Error::invalid(format!("{}: `{day}` is {other}, expected a date", model.origin))),
            Err(_) => return Err(Error::invalid(format!("{}: publish by day({day}): no such column", model.origin))),
        }
    }
    let mut others = BTreeMap::new();
    if let (Some(day), Some(changed)) = (day, changed) {
        frame = frame.filter(is_one_of_days(day, &changed.days))?;
        others = changed.others;
    }
    let schema = stored_schema(frame.schema().as_arrow())?;
    let frame = sorted(frame, day.into_iter().chain(model.header.grain.iter().map(String::as_str)), &schema)?;
    let mut files = write(&workspace.lake, comments, &model.name, day, &schema, frame).await?;
    files.extend(others);
    Ok(Mart {
        path: path(&model.name, &model.header.publish).expect("only what is published comes here"),
        description: model.header.description.clone(),
        grain: model.header.grain.clone(),
        columns: schema.fields().iter().map(|field| MartColumn::of(field, comments)).collect(),
        rows: files.values().map(|file| file.rows).sum(),
        bytes: files.values().map(|file| file.bytes).sum(),
        files,
        fingerprint: fingerprint.to_string(),
        layout: comments.layout(model),
        run_id: edition.run_id.clone(),
        as_of: edition.as_of.clone(),
        batch: Some(edition.batch),
    })
}

fn sorted<'a>(frame: DataFrame, keys: impl Iterator<Item = &'a str>, schema: &SchemaRef) -> Result<DataFrame> {
    let mut seen = BTreeSet::new();
    let keys: Vec<_> = keys
        .filter(|key| schema.field_with_name(key).is_ok() && seen.insert(key.to_string()))
        .map(|key| ident(key).sort(true, true))
        .collect();
    if keys.is_empty() {
        // Without a grain every column takes part, so that the order is still told by content alone.
        let all: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| col(datafusion::common::Column::from_name(field.name())).sort(true, true))
            .collect();
        return Ok(frame.sort(all)?);
    }
    Ok(frame.sort(keys)?)
}

/// Writes a sorted stream as one file, or as one file per day without the column of the day; returns the files by path.
async fn write(
    lake: &Lake,
    comments: &Comments,
    name: &str,
    day: Option<&str>,
    schema: &SchemaRef,
    frame: DataFrame,
) -> Result<BTreeMap<String, catalog::MartFile>> {
    let mut files = BTreeMap::new();
    let kept: Vec<usize> =
        (0..schema.fields().len()).filter(|at| Some(schema.field(*at).name().as_str()) != day).collect();
    let in_file = Arc::new(schema.project(&kept)?);
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let metadata = comments.key_values(&names);
    let mut open: Option<OpenFile> = match day {
        None => Some(OpenFile::new(format!("{MARTS}/{name}.parquet"), &in_file, &metadata)?),
        Some(_) => None,
    };
    let mut stream = frame.execute_stream().await?;
    while let Some(batch) = stream.try_next().await? {
        let batch = to_stored(&batch, schema)?;
        for (path, rows) in runs_by_day(&batch, name, day)? {
            if open.as_ref().is_some_and(|file| file.path != path) {
                let done = open.take().expect("a file is open");
                done.publish(lake, &mut files).await?;
            }
            let file = match &mut open {
                Some(file) => file,
                None => open.insert(OpenFile::new(path, &in_file, &metadata)?),
            };
            file.write(&rows.project(&kept)?)?;
        }
    }
    if let Some(file) = open {
        file.publish(lake, &mut files).await?;
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

/// A file in the making, in memory.
struct OpenFile {
    path: String,
    writer: ArrowWriter<Vec<u8>>,
    rows: usize,
}

impl OpenFile {
    fn new(path: String, schema: &SchemaRef, metadata: &[(String, String)]) -> Result<Self> {
        Ok(Self { path, writer: published_writer(schema, metadata.to_vec())?, rows: 0 })
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows();
        Ok(self.writer.write(rows)?)
    }

    async fn publish(self, lake: &Lake, files: &mut BTreeMap<String, catalog::MartFile>) -> Result<()> {
        let content = self.writer.into_inner()?;
        let digest = restatements::digest_of_rows(&content);
        let file = catalog::MartFile { rows: self.rows, bytes: content.len() as u64, digest };
        failpoint("publish.file.before");
        place(lake, &self.path, content).await?;
        failpoint("publish.file.after");
        files.insert(self.path, file);
        Ok(())
    }
}

/// Puts a file at its path in one step. On a local disk the store would stage it beside the target, where readers that
/// list the folder would see it, so it is staged elsewhere and moved.
async fn place(lake: &Lake, path: &str, content: Vec<u8>) -> Result<()> {
    if lake.local_folder().is_none() {
        return lake.put(path, content.into()).await;
    }
    let staged = format!("{STAGING}/{}.parquet", Uuid::new_v4().simple());
    lake.put(&staged, content.into()).await?;
    lake.store().rename(&lake.path(&staged), &lake.path(path)).await.context(path)
}

async fn remove(lake: &Lake, paths: impl IntoIterator<Item = &String>) -> Result<()> {
    for path in paths {
        lake.delete(path).await?;
        if let (Some(folder), Some((parent, _))) = (lake.local_folder(), path.rsplit_once('/')) {
            // An empty day folder says nothing; one that is not empty stays.
            std::fs::remove_dir(folder.join(parent)).ok();
        }
    }
    Ok(())
}
