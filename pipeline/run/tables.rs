//! The tables that models and queries read, registered with the session.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::datasource::empty::EmptyTable;
use sha2::{Digest, Sha256};

use super::report::{Report, micros};
use super::restatements::{self, RESTATEMENTS};
use super::run_results::{self, RUN_RESULTS};
use super::told_by_reports::ToldByReports;
use crate::delta::Table;
use crate::derived::Prints;
use crate::derived::changes::Changes;
use crate::dictionary::catalog;
use crate::engine::LateTable;
use crate::error::Result;
use crate::identity::stage as identity;
use crate::landing::events::{DEAD_LETTER_SCHEMA, DEAD_LETTERS, EVENT_SCHEMA, EVENTS};
use crate::landing::ledger::{Counts, Entry};
use crate::landing::{self, batches};
use crate::marts::Catalog;
use crate::models;
use crate::models::given::{RESTATEMENTS_SCHEMA, RUN_RESULTS_SCHEMA};
use crate::models::graph::{Graph, Model};
use crate::models::settings;
use crate::workspace::Workspace;

/// Id of the last run that failed, in the lake: what tells of runs is as new as that.
pub(super) const LAST_FAILED: &str = "models/last_failed_run";

/// What is known of the registered tables.
pub struct Tables {
    /// Their prints; of settings and identity tables, what defines them too.
    pub prints: Prints,
    /// Logical time.
    pub as_of: Option<i64>,
    /// Last batch of events.
    pub last_batch: i64,
    last_failed: Option<Bytes>,
}

/// Registers landed, identity, settings and system tables, and returns their prints.
pub async fn register_tables(workspace: &Workspace, changes: &Changes, as_of: Option<i64>) -> Result<Tables> {
    let last = landing::last_batch(workspace).await?;
    let entries = Entry::load_all(&workspace.lake, last).await?;
    let newest = entries.iter().filter_map(|entry| entry.newest_occurred_at).max();
    let as_of = as_of.or(newest);

    let events = register_delta(workspace, "events", EVENTS, &EVENT_SCHEMA).await?;
    let dead_letters = register_delta(workspace, "dead_letters", DEAD_LETTERS, &DEAD_LETTER_SCHEMA).await?;
    register_batch(workspace, "batches", batches::rows(&entries)?)?;
    register_run_results(workspace, None)?;
    let (lake, schema) = (workspace.lake.clone(), RESTATEMENTS_SCHEMA.clone());
    register(workspace, RESTATEMENTS, Arc::new(LateTable(ToldByReports::new(lake, None, schema, restatements::rows))))?;
    let fingerprints = settings::register(&workspace.ctx, &workspace.project.config, as_of)?;
    let mut definitions = fingerprints.clone();
    definitions.retain(|name, _| settings::is_setting(name));
    let mut prints = Prints { fingerprints, definitions };
    let events = landed_fingerprint(&events, &entries, |entry| adds(entry, |counts| counts.landed));
    identity::add_prints(workspace, &events, &mut prints).await?;
    prints.fingerprints.insert("events".into(), events);
    let dead_letters = landed_fingerprint(&dead_letters, &entries, |entry| {
        // A replay changes rows without adding any.
        entry.replay.is_some() || adds(entry, |counts| counts.dead_letters)
    });
    prints.fingerprints.insert("dead_letters".into(), dead_letters);
    let planned_at = entries.last().map_or(0, |entry| entry.planned_at);
    prints.fingerprints.insert("batches".into(), format!("batch {last} of {planned_at}"));
    identity::register(workspace, changes).await?;
    let last_failed = workspace.lake.get(LAST_FAILED).await?;
    Ok(Tables { prints, as_of, last_batch: last, last_failed })
}

/// The models and checks of a project.
pub fn load_graph(workspace: &Workspace) -> Result<Graph> {
    Graph::load(&workspace.ctx, &workspace.project.folder.join("queries"))
}

/// Registers every table and model for reading; models that were never built are left out. The logical time is by
/// default that of the last run that published.
pub async fn register_everything(workspace: &Workspace, as_of: Option<i64>) -> Result<(Tables, Graph)> {
    let as_of = match as_of {
        Some(as_of) => Some(as_of),
        None => Catalog::load(&workspace.lake).await?.as_of.as_deref().and_then(micros),
    };
    let changes = Changes::load(&workspace.lake).await?;
    let tables = register_tables(workspace, &changes, as_of).await?;
    let graph = load_graph(workspace)?;
    models::register(workspace, &graph, &changes).await?;
    catalog::register(workspace, &graph)?;
    Ok((tables, graph))
}

/// Registers a landed table; returns its id, which is empty when it is not there yet.
async fn register_delta(workspace: &Workspace, name: &str, folder: &str, schema: &SchemaRef) -> Result<String> {
    let (provider, id): (Arc<dyn TableProvider>, String) = match Table::open(&workspace.lake, folder).await? {
        Some(table) => (table.provider(&workspace.lake, folder)?, table.id()?),
        None => (Arc::new(EmptyTable::new(schema.clone())), String::new()),
    };
    register(workspace, name, provider)?;
    Ok(id)
}

/// Fingerprint of a landed table: its id, since one that was landed anew counts its batches anew, and the last batch
/// that changed it.
fn landed_fingerprint(id: &str, entries: &[Arc<Entry>], has_changed: fn(&Entry) -> bool) -> String {
    let last = entries.iter().filter(|entry| has_changed(entry)).map(|entry| entry.batch).max().unwrap_or(0);
    format!("{id} batch {last}")
}

fn adds(entry: &Entry, rows: fn(&Counts) -> u64) -> bool {
    entry.sources.values().any(|counts| rows(counts) > 0)
}

fn register_batch(workspace: &Workspace, name: &str, batch: RecordBatch) -> Result<()> {
    register(workspace, name, Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

/// Registers `run_results`, with the run at hand if its row is wanted.
pub(super) fn register_run_results(workspace: &Workspace, current: Option<Report>) -> Result<()> {
    let (lake, schema) = (workspace.lake.clone(), RUN_RESULTS_SCHEMA.clone());
    register(workspace, RUN_RESULTS, Arc::new(LateTable(ToldByReports::new(lake, current, schema, run_results::rows))))
}

fn register(workspace: &Workspace, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
    workspace.ctx.deregister_table(name)?;
    workspace.ctx.register_table(name, table)?;
    Ok(())
}

/// Names of the models that tell of runs: those that read `run_results` or `restatements`, and those that read such.
pub(super) fn models_of_runs(graph: &Graph) -> BTreeSet<String> {
    let mut names = BTreeSet::from([RUN_RESULTS, RESTATEMENTS].map(String::from));
    // Models stand behind those that they read.
    for model in &graph.models {
        if reads_any(model, &names) {
            names.insert(model.name.clone());
        }
    }
    names
}

/// Whether a model or check reads one of these tables.
fn reads_any(model: &Model, names: &BTreeSet<String>) -> bool {
    model.reads.iter().any(|read| names.contains(read))
}

/// Adds the fingerprint of `run_results` and `restatements`. They alone would never be up to date, so they are as fresh as
/// everything else: their fingerprint is made of all others and of all statements.
pub(super) fn with_run_results(mut tables: Tables, graph: &Graph, of_runs: &BTreeSet<String>) -> Tables {
    let mut hasher = Sha256::new();
    for (name, fingerprint) in &tables.prints.fingerprints {
        hasher.update(format!("{name}={fingerprint}\n"));
    }
    for model in graph.models.iter().chain(&graph.checks).filter(|model| !reads_any(model, of_runs)) {
        hasher.update(&model.sql);
    }
    hasher.update(tables.last_failed.as_deref().unwrap_or_default());
    let fingerprint = hex::encode(&hasher.finalize()[..16]);
    tables.prints.fingerprints.extend([RUN_RESULTS, RESTATEMENTS].map(|name| (name.to_string(), fingerprint.clone())));
    tables
}
