//! Building the document: each tile's query is asked, its rows are brought to what its chart shows.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::fold::{self, column_of, fold, split};
use super::rows::{Column, Rows};
use super::tiles::{self, Tiles};
use super::{About, Document, LeftOut, Tile, finding, words};
use crate::dictionary::Dictionary;
use crate::engine;
use crate::error::{Error, Result};
use crate::functions::standard_sql;
use crate::marts::Catalog;
use crate::run;
use crate::workspace::Workspace;

/// Most rows that a query may give: charts show far fewer, and what gives more was not added up.
const QUERY_ROWS: usize = 100_000;
/// Bytes of rows on a page.
const PAGE_BYTES: usize = 2_000_000;
/// Most tiles that one is split into.
const PARTS: usize = 6;
/// What the rows of a tile are called in the query of its finding.
const TILE: &str = "tile";

/// Builds the document of a project as of its last run, and says which tiles it has not: those whose tables this project
/// does not have, and built-in ones that do not fit models of its own.
///
/// Errors: `dashboard.toml`, a tile of the project that cannot be asked or drawn, a lake out of reach.
pub async fn build(workspace: &Workspace, as_of: Option<i64>) -> Result<(Document, Vec<LeftOut>)> {
    let folder = &workspace.project.folder;
    let declared = Tiles::load(folder)?;
    let catalog = Catalog::load(&workspace.lake).await?;
    let (_, graph) = run::register_everything(workspace, as_of).await?;
    let ctx = &workspace.ctx;
    let (mut tiles, mut left_out) = (Vec::new(), Vec::new());
    for tile in &declared.tiles {
        match ask(ctx, tile, &tile.sql(folder)?).await {
            Ok(Asked::Tiles(asked)) => tiles.extend(asked),
            // A built-in tile waits for its table in silence: not every project has a use for it.
            Ok(Asked::NoTable(_)) if tile.is_built_in => {}
            Ok(Asked::NoTable(error)) => left_out.push(LeftOut::of(&tile.name, &error)),
            Err(error) if tile.is_built_in && !error.may_pass() => left_out.push(LeftOut::of(&tile.name, &error)),
            Err(error) => return Err(error.context(format!("tile {}", tile.name))),
        }
    }
    let room = PAGE_BYTES / tiles.len().max(1);
    for tile in &mut tiles {
        tile.notes.extend(fold::fit(&mut tile.rows, room));
    }
    let title = declared.title.unwrap_or_else(|| name_of(folder));
    let about = about(ctx, catalog).await?;
    let sections = vec![words::section(&Dictionary::of(workspace, &graph).await?)];
    Ok((Document { title, about, tiles, sections }, left_out))
}

fn name_of(folder: &std::path::Path) -> String {
    let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    absolute.file_name().map_or_else(|| "Dashboard".into(), |name| name.to_string_lossy().into_owned())
}

/// What became of a tile's query.
enum Asked {
    Tiles(Vec<Tile>),
    /// It reads a table that this project does not have.
    NoTable(Error),
}

async fn ask(ctx: &SessionContext, tile: &tiles::Tile, sql: &str) -> Result<Asked> {
    if let Some(missing) = missing_table(ctx, sql).await? {
        return Ok(Asked::NoTable(missing));
    }
    let frame = engine::query(ctx, sql).await?;
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let mut columns = Column::all(&schema);
    if let Some(name) = &tile.split_by {
        let at = columns.iter().position(|column| column.name == *name).ok_or_else(|| {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            Error::invalid(format!("split_by: the query gives no column {name}"))
                .hint(format!("it gives {}", names.join(", ")))
                .hint_nearest(name, names)
        })?;
        columns.remove(at);
    }
    let drawn = tile.kind.fit(&columns)?;
    let rows = engine::rows_within_memory(frame.limit(0, Some(QUERY_ROWS + 1))?).await?;
    let batches: Vec<RecordBatch> = rows.try_collect().await?;
    if batches.iter().map(RecordBatch::num_rows).sum::<usize>() > QUERY_ROWS {
        return Err(Error::invalid(format!("the query gives more than {QUERY_ROWS} rows"))
            .hint("add them up, or say which are wanted: order by … limit …"));
    }
    let rows = Rows::of(&schema, &batches)?;
    let mut tiles = Vec::new();
    match tile.split_by.as_deref().and_then(|name| column_of(&rows, name)) {
        None => tiles.push(draw(ctx, tile, None, drawn, rows, &schema, &batches).await?),
        Some(column) => {
            for (part, rows) in split(rows, column).into_iter().take(PARTS) {
                let batches = batches_of(&batches, column, &part)?;
                tiles.push(draw(ctx, tile, Some((tiles.len() + 1, &part)), drawn, rows, &schema, &batches).await?);
            }
        }
    }
    Ok(Asked::Tiles(tiles))
}

/// An error that names the table, if a query reads one that is not there.
async fn missing_table(ctx: &SessionContext, sql: &str) -> Result<Option<Error>> {
    let state = ctx.state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(&standard_sql(sql), &dialect)?;
    for reference in state.resolve_table_references(&statement)? {
        // A function that gives a table is named like one.
        if !ctx.table_exist(reference.clone())? && !state.table_functions().contains_key(reference.table()) {
            let known = state.schema_for_ref(reference.clone()).map(|schema| schema.table_names()).unwrap_or_default();
            let name = reference.table();
            let error = Error::invalid(format!("there is no table {name}"))
                .hint("`show tables` lists those of this project; a model is there once it is built")
                .hint_nearest(name, known.iter().map(String::as_str));
            return Ok(Some(error));
        }
    }
    Ok(None)
}

/// Brings rows to what the chart shows.
async fn draw(
    ctx: &SessionContext,
    tile: &tiles::Tile,
    part: Option<(usize, &str)>,
    drawn: usize,
    mut rows: Rows,
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<Tile> {
    let mut notes: Vec<String> = tile.note.iter().cloned().collect();
    let told = match &tile.finding {
        Some(sql) if !rows.rows.is_empty() => told_by(ctx, sql, schema, batches).await?,
        _ => None,
    };
    notes.extend(fold::unite(tile.kind, drawn, &mut rows)?);
    // Of all rows, whatever is left of them for the chart.
    let finding = told.or_else(|| finding::finding(tile.kind, drawn, &rows));
    notes.extend(fold(tile.kind, drawn, &mut rows));
    let (name, title) = match part {
        None => (tile.name.clone(), tile.title.clone()),
        Some((number, part)) => (format!("{}-{number}", tile.name), format!("{}: {part}", tile.title)),
    };
    let width = tile.width.unwrap_or_else(|| tile.kind.width());
    Ok(Tile { name, title, finding, kind: tile.kind, width, notes, drawn, rows })
}

/// The text that a query over the rows of a tile gives, if it gives one.
async fn told_by(
    ctx: &SessionContext,
    sql: &str,
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<Option<String>> {
    // A sum or a count may come with another nullability than was planned; the rows' own schema is the truth.
    let schema = batches.first().map_or_else(|| schema.clone(), RecordBatch::schema);
    let table = MemTable::try_new(schema, vec![batches.to_vec()])?;
    // A model of that name stands aside meanwhile.
    let aside = ctx.deregister_table(TILE)?;
    ctx.register_table(TILE, Arc::new(table))?;
    let answer = async { Ok::<_, Error>(engine::query(ctx, sql).await?.collect().await?) }.await;
    ctx.deregister_table(TILE)?;
    if let Some(aside) = aside {
        ctx.register_table(TILE, aside)?;
    }
    let answer = answer.map_err(|error| error.context("finding"))?;
    let Some(batch) = answer.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let rows = Rows::of(&batch.schema(), &[batch.slice(0, 1)])?;
    let said = rows.rows.first().and_then(|row| row.first()).filter(|value| !value.is_null());
    Ok(said.map(super::rows::text))
}

/// The rows of batches in which a column has a value.
fn batches_of(batches: &[RecordBatch], column: usize, part: &str) -> Result<Vec<RecordBatch>> {
    let mut kept = Vec::new();
    for batch in batches {
        let single = batch.project(&[column])?;
        let names = Rows::of(&single.schema(), &[single])?;
        let is_of_part = (0..names.rows.len()).map(|row| Some(names.text(row, 0) == part));
        kept.push(arrow::compute::filter_record_batch(batch, &is_of_part.collect())?);
    }
    Ok(kept)
}

async fn about(ctx: &SessionContext, catalog: Catalog) -> Result<About> {
    // What claims to have happened after as-of does not make the lake newer.
    let sql = "select count(*), cast(min(cast(occurred_at as date)) as varchar), cast(max(cast(occurred_at as date)) as varchar)
               from events cross join as_of where occurred_at <= as_of.as_of";
    let mut about = About { run_id: catalog.run_id, as_of: catalog.as_of, ..About::default() };
    for batch in ctx.sql(sql).await?.collect().await? {
        about.events = batch.column(0).as_primitive::<Int64Type>().value(0).unsigned_abs();
        let day = |column: usize| {
            let days = arrow::compute::cast(batch.column(column), &arrow::datatypes::DataType::Utf8)?;
            let days = days.as_string::<i32>();
            Ok::<_, Error>((!days.is_null(0)).then(|| days.value(0).to_string()))
        };
        about.days = day(1)?.zip(day(2)?);
    }
    Ok(about)
}
