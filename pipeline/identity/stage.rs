//! The stage between landing and models: reads the identifiers of all events, resolves them, replaces the identity tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::datasource::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use futures::future::try_join_all;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use uuid::Uuid;

use super::rulings::{self, Rulings};
use super::update::Update;
use super::{Links, Resolution, Rules, identity_key_udf, resolve, tables};
use crate::delta::{Pages, PartWriter, Table};
use crate::derived::changes::{self, Changes, Layer};
use crate::derived::{self, BuiltFrom, Derived, Prints, Stale, Written, keys};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::identifiers::Blocked;
use crate::workspace::Workspace;

/// The identity tables, by name.
pub const TABLES: [&str; 4] = ["identity_map", "identity_customers", "identity_links", "identity_refusals"];

/// What a resolution came to: of all events, or of the components that new events touched.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Resolved {
    /// Why it was done.
    pub reason: String,
    /// Components that were resolved.
    #[serde(default)]
    pub components: usize,
    /// Distinct usable identifiers.
    pub identifiers: usize,
    /// Customers with an identifier.
    pub customers: usize,
    /// Links not followed, by rule.
    pub refusals: BTreeMap<String, usize>,
    /// Identifiers that were blocked, as often as they came.
    pub blocked: u64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Folder of an identity table in the lake.
pub fn folder(name: &str) -> String {
    format!("identity/{name}")
}

/// `[identity]` and the rulings of the lake.
pub async fn rules(workspace: &Workspace) -> Result<Rules> {
    let rulings = Rulings::in_force(&rulings::load(&workspace.lake).await?);
    Ok(Rules { rulings, ..Rules::from(&workspace.project.config.identity) })
}

/// What the identity tables would be built from now.
async fn built_from(workspace: &Workspace, events: &str) -> Result<BuiltFrom> {
    let settings = serde_json::to_string(&workspace.project.config.identity)?;
    let pseudonyms = workspace.project.config.privacy.pseudonymize.join(",");
    let rulings = rules(workspace).await?.rulings.fingerprint();
    let statement = format!("resolve by component {settings} {pseudonyms} {rulings}");
    Ok(BuiltFrom::now(&statement, &["events".into()], &[("events".into(), events.into())].into()))
}

/// Adds the prints that the identity tables have once they are built from these events.
pub async fn add_prints(workspace: &Workspace, events: &str, prints: &mut Prints) -> Result<()> {
    let built_from = built_from(workspace, events).await?;
    for name in TABLES {
        prints.add(name, &built_from);
    }
    Ok(())
}

/// How the identity tables stand.
#[derive(Debug, Default)]
pub struct Standing {
    /// Why they must be built again; `None` when they need not.
    pub stale: Option<String>,
    /// Their fingerprint; `None` when one was never built, by other rules than now, or not together with the others.
    pub fingerprint: Option<String>,
}

/// The identity tables as they are, in the order of [`TABLES`]; `None` for one that was never built.
async fn open(workspace: &Workspace, changes: &Changes) -> Result<Vec<Option<Derived>>> {
    try_join_all(TABLES.map(|name| async move { Derived::open(&workspace.lake, changes, &folder(name)).await })).await
}

/// Tells how the identity tables stand. They are committed one after another, so each is asked.
pub async fn standing(workspace: &Workspace, changes: &Changes, events: &str) -> Result<Standing> {
    let now = built_from(workspace, events).await?;
    let mut standing = Standing::default();
    let mut fingerprints = BTreeSet::new();
    for table in open(workspace, changes).await? {
        let before = derived::built_from(table.as_ref())?;
        let stale = now.why_stale(before.as_ref(), |_| false);
        let is_by_these_rules = stale.as_ref().is_none_or(Stale::is_of_rows);
        if standing.stale.is_none() {
            standing.stale = stale.map(|stale| match stale {
                // The statement is made of the configuration and of rulings.
                Stale::ChangedStatement => Stale::ChangedSettings(vec!["identity".into()]).to_string(),
                stale => stale.to_string(),
            });
        }
        fingerprints.insert(before.filter(|_| is_by_these_rules).map(|before| before.fingerprint()));
    }
    let one = fingerprints.pop_first().flatten();
    standing.fingerprint = one.filter(|_| fingerprints.is_empty());
    Ok(standing)
}

/// Registers the identity tables and the function `identity_key`; tables that were never built are empty.
pub async fn register(workspace: &Workspace, changes: &Changes) -> Result<()> {
    let ctx = &workspace.ctx;
    let priority = workspace.project.config.identity.priority.clone();
    ctx.register_udf(identity_key_udf(priority, workspace.blocked.clone()));
    let tables = open(workspace, changes).await?;
    derived::make_ready(ctx, tables.iter().flatten()).await?;
    for ((name, schema), table) in TABLES.into_iter().zip(schemas()).zip(&tables) {
        let provider: Arc<dyn TableProvider> = match table {
            Some(table) => table.provider(ctx).await?,
            None => Arc::new(EmptyTable::new(schema)),
        };
        ctx.deregister_table(name)?;
        ctx.register_table(name, provider)?;
    }
    Ok(())
}

/// Columns of the identity tables, in the order of [`TABLES`].
pub fn schemas() -> [SchemaRef; 4] {
    [
        tables::identity_map_schema(),
        tables::identity_customers_schema(),
        tables::identity_links_schema(),
        tables::identity_refusals_schema(),
    ]
}

/// Resolves the identifiers of all events and replaces the identity tables. `events` is the fingerprint of the events
/// table, which is registered.
pub async fn run(workspace: &Workspace, events: &str, reason: String) -> Result<Resolved> {
    let started = Instant::now();
    let links = collect(workspace.ctx.table("events").await?, &workspace.blocked).await?;
    failpoint("resolve.collected");
    let rules = rules(workspace).await?;
    let resolution = tokio::task::spawn_blocking(move || Ok(resolve(links, &rules))).await;
    let resolution = Arc::new(finished(resolution)?);
    let built_from = built_from(workspace, events).await?;
    // Encoding is what takes time, so the tables are written side by side; they are committed one after another, since
    // the last of them tells whether all are there.
    let [map, customers, links, refusals] = schemas();
    let written = [
        write(workspace, TABLES[0], map, tables::identity_map(resolution.clone())),
        write(workspace, TABLES[1], customers, tables::identity_customers(resolution.clone())),
        write(workspace, TABLES[2], links, tables::identity_links(resolution.clone())),
        write(workspace, TABLES[3], refusals, tables::identity_refusals(resolution.clone())),
    ];
    for written in written {
        let (name, written) = finished(written.await)?;
        let folder = folder(name);
        let table = Table::open(&workspace.lake, &folder).await?;
        derived::replace(&workspace.lake, &folder, table.as_ref(), written, &built_from, "resolve").await?;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Resolved { seconds, ..summary(&resolution, reason) })
}

/// What a resolution came to, without the time that it took.
pub(super) fn summary(resolution: &Resolution, reason: String) -> Resolved {
    Resolved {
        reason,
        components: resolution.component_count(),
        identifiers: resolution.identifier_count(),
        customers: resolution.customer_count(),
        refusals: resolution.refusal_counts(),
        blocked: resolution.blocked_count(),
        seconds: 0.0,
    }
}

/// Lays an update over the identity tables; it is in force once the changes are saved. The tables must have been built.
pub async fn lay(workspace: &Workspace, changes: &mut Changes, events: &str, update: &Update) -> Result<()> {
    let built_from = built_from(workspace, events).await?;
    let components = keys::write(&workspace.lake, "components", update.replaced_components.iter().map(String::as_str));
    let customers = keys::write(&workspace.lake, "customers", update.replaced_customers.iter().map(String::as_str));
    let (components, customers) = (components.await?, customers.await?);
    let rows = [&update.map, &update.customers, &update.links, &update.refusals];
    for ((name, schema), batches) in TABLES.into_iter().zip(schemas()).zip(rows) {
        let (key, keys) = match name {
            "identity_customers" => ("customer_id", &customers),
            _ => ("component", &components),
        };
        let mut writer = changes::writer(&workspace.lake, name, schema);
        for batch in batches {
            writer.write(batch).await?;
        }
        let table = Table::open(&workspace.lake, &folder(name)).await?;
        let table = table.ok_or_else(|| Error::corrupt(format!("{name} was built and is gone")))?;
        let layer = Layer { keys: Some(keys.clone()), parts: writer.finish().await?, removed: Vec::new() };
        changes.lay(&folder(name), (table.id()?, table.version()), key, built_from.clone(), Some(layer));
    }
    Ok(())
}

/// Sends two columns of events through collectors, one per partition of the scan, and merges what they saw.
pub(super) async fn collect(events: DataFrame, blocked: &Arc<Blocked>) -> Result<Links> {
    let frame = events.select_columns(&["identifiers", "occurred_at"])?;
    let mut collectors = JoinSet::new();
    for stream in frame.execute_stream_partitioned().await? {
        collectors.spawn(collect_stream(stream, blocked.clone()));
    }
    let mut links = Links::new();
    while let Some(collected) = collectors.join_next().await {
        links.merge(finished(collected)?)?;
    }
    Ok(links)
}

async fn collect_stream(mut stream: SendableRecordBatchStream, blocked: Arc<Blocked>) -> Result<Links> {
    let mut links = Links::new();
    while let Some(batch) = stream.try_next().await? {
        links.add(
            batch.column(0).as_list::<i32>(),
            batch.column(1).as_primitive::<TimestampMicrosecondType>(),
            &blocked,
        )?;
    }
    Ok(links)
}

/// Begins to write the files of an identity table.
fn write(
    workspace: &Workspace,
    name: &'static str,
    schema: SchemaRef,
    batches: impl Iterator<Item = RecordBatch> + Send + 'static,
) -> JoinHandle<Result<(&'static str, Written)>> {
    let file = format!("part-{}", Uuid::new_v4().simple());
    let pages = Pages::Small;
    let writer = PartWriter::new(workspace.lake.clone(), folder(name), file, schema.clone());
    let mut writer = writer.with_pages(pages);
    tokio::spawn(async move {
        for batch in batches {
            writer.write(&batch).await?;
        }
        Ok((name, Written { schema, parts: writer.finish().await?, pages }))
    })
}

/// What a task came to.
pub(super) fn finished<T>(task: std::result::Result<Result<T>, JoinError>) -> Result<T> {
    task.map_err(|error| Error::internal(format!("a step of resolving stopped: {error}")))?
}
