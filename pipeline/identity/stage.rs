//! The stage between landing and models: reads the identifiers of all events, resolves them, replaces the identity tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::datasource::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use futures::TryStreamExt;
use uuid::Uuid;

use super::{Links, Resolution, Rules, identity_key_udf, resolve, tables};
use crate::delta::{PartWriter, Table};
use crate::derived::{self, BuiltFrom};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::workspace::Workspace;

/// The identity tables, by name.
pub const TABLES: [&str; 3] = ["identity_map", "identity_links", "identity_refusals"];

/// What a resolution came to.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Resolved {
    /// Why it was done.
    pub reason: String,
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
fn folder(name: &str) -> String {
    format!("identity/{name}")
}

/// What the identity tables would be built from now.
fn built_from(workspace: &Workspace, events: &str) -> Result<BuiltFrom> {
    let rules = serde_json::to_string(&workspace.project.config.identity)?;
    let pseudonyms = workspace.project.config.privacy.pseudonymize.join(",");
    let statement = format!("resolve {rules} {pseudonyms}");
    Ok(BuiltFrom::now(&statement, &["events".into()], &[("events".into(), events.into())].into()))
}

/// Fingerprints of the identity tables once they are built from these events.
pub fn fingerprints(workspace: &Workspace, events: &str) -> Result<BTreeMap<String, String>> {
    let fingerprint = built_from(workspace, events)?.fingerprint();
    Ok(TABLES.map(|name| (name.to_string(), fingerprint.clone())).into())
}

/// Why the identity tables must be built again; `None` when they need not. The last of them tells: it is committed last.
pub async fn why_stale(workspace: &Workspace, events: &str) -> Result<Option<String>> {
    let table = Table::open(&workspace.lake, &folder(TABLES[2])).await?;
    let before = derived::built_from(table.as_ref())?;
    Ok(built_from(workspace, events)?.why_stale(before.as_ref(), |_| false).map(|reason| match reason.as_str() {
        "changed SQL" => "changed configuration: identity".to_string(),
        _ => reason,
    }))
}

/// Registers the identity tables and the function `identity_key`; tables that were never built are empty.
pub async fn register(workspace: &Workspace) -> Result<()> {
    let ctx = &workspace.ctx;
    let priority = workspace.project.config.identity.priority.clone();
    ctx.register_udf(identity_key_udf(priority, workspace.blocked.clone()));
    for (name, schema) in TABLES.into_iter().zip(schemas()) {
        let provider: Arc<dyn TableProvider> = match Table::open(&workspace.lake, &folder(name)).await? {
            Some(table) => table.provider(&workspace.lake, &folder(name))?,
            None => Arc::new(EmptyTable::new(schema)),
        };
        ctx.deregister_table(name)?;
        ctx.register_table(name, provider)?;
    }
    Ok(())
}

fn schemas() -> [SchemaRef; 3] {
    [tables::identity_map_schema(), tables::identity_links_schema(), tables::identity_refusals_schema()]
}

/// Resolves the identifiers of all events and replaces the identity tables. `events` is the fingerprint of the events
/// table, which is registered.
pub async fn run(workspace: &Workspace, events: &str, reason: String) -> Result<Resolved> {
    let started = Instant::now();
    let links = collect(workspace).await?;
    failpoint("resolve.collected");
    let rules = Rules::from(&workspace.project.config.identity);
    let resolved = tokio::task::spawn_blocking(move || resolve(links, &rules)).await;
    let resolution = Arc::new(resolved.map_err(|error| Error::internal(error.to_string()))?);
    let built_from = built_from(workspace, events)?;
    replace(workspace, TABLES[0], tables::identity_map_schema(), tables::identity_map(resolution.clone()), &built_from)
        .await?;
    replace(
        workspace,
        TABLES[1],
        tables::identity_links_schema(),
        tables::identity_links(resolution.clone()),
        &built_from,
    )
    .await?;
    let refusals = tables::identity_refusals(resolution.clone());
    replace(workspace, TABLES[2], tables::identity_refusals_schema(), refusals, &built_from).await?;
    Ok(summary(&resolution, reason, started))
}

fn summary(resolution: &Resolution, reason: String, started: Instant) -> Resolved {
    Resolved {
        reason,
        identifiers: resolution.identifier_count(),
        customers: resolution.customer_count(),
        refusals: resolution.refusal_counts(),
        blocked: resolution.blocked_count(),
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// Streams two columns of the events through the collector.
async fn collect(workspace: &Workspace) -> Result<Links> {
    let frame = workspace.ctx.table("events").await?.select_columns(&["identifiers", "occurred_at"])?;
    let mut stream = frame.execute_stream().await?;
    let mut links = Links::new();
    while let Some(batch) = stream.try_next().await? {
        links.add(
            batch.column(0).as_list::<i32>(),
            batch.column(1).as_primitive::<TimestampMicrosecondType>(),
            &workspace.blocked,
        )?;
    }
    Ok(links)
}

async fn replace(
    workspace: &Workspace,
    name: &str,
    schema: SchemaRef,
    batches: impl Iterator<Item = RecordBatch>,
    built_from: &BuiltFrom,
) -> Result<()> {
    let folder = folder(name);
    let table = Table::open(&workspace.lake, &folder).await?;
    let file = format!("part-{}", Uuid::new_v4().simple());
    let mut writer = PartWriter::new(workspace.lake.clone(), folder.clone(), file, schema.clone());
    for batch in batches {
        writer.write(&batch).await?;
    }
    let parts = writer.finish().await?;
    derived::replace(&workspace.lake, &folder, table.as_ref(), schema, parts, built_from, "resolve").await?;
    Ok(())
}
