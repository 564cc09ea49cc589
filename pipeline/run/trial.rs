//! Projects that are run on stores that fail, for tests; one of them small: two days of events, then a late file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::json::LineDelimitedWriter;
use datafusion::prelude::DataFrame;
use object_store::ObjectStore;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::tables::{load_graph, models_of_runs};
use super::{Options, Progress, Report, RunStatus, register_everything, run};
use crate::config::Project;
use crate::derived::window::Window;
use crate::engine;
use crate::error::Result;
use crate::identity::stage as identity;
use crate::lake::Lake;
use crate::marts::{Catalog, MARTS};
use crate::workspace::Workspace;

const PROJECT: &str = r#"
[lake]
url = "memory:///lake"
[engine]
threads = 1
rebuild_share = 1.0
[[sources]]
name = "web"
path = "landing-zone/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "ts"
received_at = "coalesce(ts, '2025-01-01T00:00:00Z')"
touchpoint  = "event"
channel     = "channel"
value       = "value"
identifiers = { user_id = "customer", anonymous_id = "cookie" }
[journeys]
goal = ["purchase"]
[[funnels]]
name = "shop"
steps = ["view", "purchase"]
window = "7d"
"#;

const FIRST: &str = r#"{"id":"a","ts":"2025-01-01T10:00:00Z","event":"view","channel":"web","cookie":"k1"}
{"id":"b","ts":"2025-01-01T10:05:00Z","event":"purchase","channel":"web","customer":"u1","cookie":"k1","value":"9.5"}
{"id":"b","ts":"2025-01-01T10:05:00Z","event":"purchase","channel":"web","customer":"u1","cookie":"k1","value":"9.5"}
{"id":"c","ts":"2025-01-02T10:00:00Z","event":"view","channel":"store","customer":"u2"}
{"id":"d","ts":"tomorrow","event":"view","channel":"web","customer":"u2"}
{"broken
"#;

const SECOND: &str = r#"{"id":"e","ts":"2025-01-01T23:50:00Z","event":"view","channel":"web","customer":"u2","cookie":"k2"}
{"id":"a","ts":"2025-01-01T10:00:00Z","event":"view","channel":"web","cookie":"k1"}
{"id":"f","ts":"2025-01-03T10:00:00Z","event":"purchase","channel":"web","cookie":"k2","value":"1.25"}
{"ts":"2025-01-03T10:00:00Z","channel":"web","customer":"u3"}
"#;

/// The project's folder.
pub struct Trial {
    folder: TempDir,
}

/// Rows of every table and bytes of every published file, by name; what tells of runs and of the times of batches is
/// left out.
pub type Content = BTreeMap<String, String>;

impl Trial {
    /// The project with its first file, or with both.
    pub fn new(has_second: bool) -> Self {
        let trial = Self::of(PROJECT);
        trial.write("one.jsonl", FIRST);
        if has_second {
            trial.arrive();
        }
        trial
    }

    /// A project of this configuration, to which no file has come.
    pub fn of(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("landing-zone")).unwrap();
        std::fs::write(folder.path().join("wayline.toml"), configuration).unwrap();
        Self { folder }
    }

    /// The second file arrives.
    pub fn arrive(&self) {
        self.write("two.jsonl", SECOND);
    }

    /// A file arrives.
    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.folder.path().join("landing-zone").join(name), content).unwrap();
    }

    /// The lake in a store of its own, whose root it is.
    pub fn workspace(&self, store: &Arc<dyn ObjectStore>) -> Workspace {
        let lake = Lake::open(Path::new("/"), "memory:///lake").unwrap().with_store(|_| store.clone());
        self.workspace_of(lake)
    }

    /// A lake in a folder, reached through a store.
    pub fn workspace_in(&self, lake: &Path, store: &Arc<dyn ObjectStore>) -> Workspace {
        let lake = Lake::open(lake, ".").unwrap().with_store(|_| store.clone());
        self.workspace_of(lake)
    }

    fn workspace_of(&self, lake: Lake) -> Workspace {
        let mut workspace = Workspace::open(Project::load(self.folder.path()).unwrap()).unwrap();
        workspace.ctx = engine::session(&lake, &workspace.project.config.engine).unwrap();
        workspace.lake = lake;
        workspace
    }
}

/// One thread, so that operations come in one order.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Nobody watches.
pub struct Unseen;

impl Progress for Unseen {
    fn stage(&mut self, _: &str) {}
    fn step(&mut self, _: &str) {}
    fn read(&mut self, _: u64, _: u64) {}
}

/// Runs the whole job once.
pub async fn run_once(workspace: &Workspace) -> Result<Report> {
    let options = Options { command: "run".into(), land: true, build: true, ..Options::default() };
    run(workspace, options, &mut Unseen).await
}

/// Makes the first of the days anew.
pub async fn backfill(workspace: &Workspace) -> Result<Report> {
    let since = 1_735_689_600_000_000;
    let backfill = Some(Window { since, until: since + 86_400_000_000 });
    let options = Options { command: "backfill".into(), build: true, backfill, ..Options::default() };
    run(workspace, options, &mut Unseen).await
}

/// Runs the job on a store that is sound; it must end well. Returns what the lake then holds.
pub async fn end_well(workspace: &Workspace) -> Result<Content, String> {
    let report = run_once(workspace).await.map_err(|error| format!("{:?}: {error}", error.kind()))?;
    if !matches!(report.status, RunStatus::Success | RunStatus::NothingNew) {
        let lines = report.results.iter().filter(|line| !line.is_well());
        return Err(lines.map(|line| format!("{}: {}; ", line.unique_id, line.message)).collect());
    }
    content(workspace).await.map_err(|error| format!("{:?} while reading: {error}", error.kind()))
}

/// What a lake holds.
pub async fn content(workspace: &Workspace) -> Result<Content> {
    let mut found = content_without(workspace, &[]).await?;
    let counts = "select batch, source, files, rows_in, landed, duplicates, dead_letters from batches";
    found.insert("batches".into(), lines(workspace.ctx.sql(counts).await?).await?);
    Ok(found)
}

/// What a lake holds, but for the ledger of batches and some columns.
pub async fn content_without(workspace: &Workspace, columns: &[&str]) -> Result<Content> {
    register_everything(workspace, None).await?;
    let graph = load_graph(workspace)?;
    let of_runs = models_of_runs(&graph);
    // Without its batch a row of one says nothing.
    let tells_of_batches = |name: &str| columns.contains(&"batch") && name == "int_batch_lateness";
    let tells_of_runs = |name: &str| of_runs.contains(name) || name == "data_quality" || tells_of_batches(name);
    let models = graph.models.iter().filter(|model| model.header.build.is_table() && !tells_of_runs(&model.name));
    let models = models.map(|model| model.name.as_str());
    let mut found = Content::new();
    for name in models.chain(identity::TABLES).chain(["events", "dead_letters"]) {
        let rows = workspace.ctx.table(name).await?.drop_columns(columns)?;
        found.insert(name.to_string(), lines(rows).await?);
    }
    let catalog = Catalog::load(&workspace.lake).await?;
    for file in workspace.lake.list(MARTS).await? {
        let path = workspace.lake.relative(&file.location).expect("it lies in the lake");
        let bytes = workspace.lake.get(&path).await?.expect("it was listed");
        let mart = path.split('/').nth(1).unwrap().trim_end_matches(".parquet");
        let named = catalog.marts.get(mart).and_then(|mart| mart.files.get(&path)).map(|file| file.bytes);
        let is_as_told = named == Some(bytes.len() as u64);
        let content = if tells_of_runs(mart) { String::new() } else { hex::encode(Sha256::digest(&bytes)) };
        found.insert(path, format!("as the catalog tells: {is_as_told} {content}"));
    }
    for (name, mart) in &catalog.marts {
        let files = mart.files.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
        found.insert(format!("catalog {name}"), format!("{} {files}", if tells_of_runs(name) { 0 } else { mart.rows }));
    }
    Ok(found)
}

/// Rows as lines of JSON, in order.
async fn lines(rows: DataFrame) -> Result<String> {
    let batches = rows.collect().await?;
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner()).expect("JSON is UTF-8");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

/// The names under which two lakes differ.
pub fn differences(found: &Content, expected: &Content) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    names.into_iter().filter(|name| found.get(*name) != expected.get(*name)).cloned().collect()
}

/// A number told by two others, spread over all numbers.
pub fn spread(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 29)
}
