//! Files of marts that are made while models are still built that read theirs, or beside it.
//!
//! A mart whose rows that go and come are known needs no more than these and its files. They are made as soon as the rows
//! are known, and put in their places with all others, or never: where the model fails a check, or the run fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use datafusion::common::runtime::SpawnedTask;
use tokio::sync::Semaphore;

use super::catalog::{Catalog, Mart};
use super::comments::Comments;
use super::files;
use super::{Due, Files, Layout, MARTS, at_once, known, laid_out, line_of, patched};
use crate::error::Result;
use crate::models::graph::{Graph, Model};
use crate::models::header::Publish;
use crate::models::{NodeResult, Outcome};
use crate::workspace::Workspace;

/// Part of the engine's memory that the files may have which are changed at a time, of all marts: they are held, as they were and as
/// they become, beside that memory, which others use meanwhile.
const PART_OF_MEMORY: u64 = 8;

/// Publication as it stands before a run, and what is made ahead of the next.
pub struct Ahead {
    workspace: Workspace,
    catalog: Catalog,
    found: BTreeSet<String>,
    /// Bytes of the files of a mart that are changed at a time, at most.
    most: u64,
    room: Arc<Semaphore>,
    /// By mart.
    made: BTreeMap<String, Made>,
}

/// Files in the making, of a mart that comes to this fingerprint.
struct Made {
    fingerprint: String,
    work: Work,
}

/// Makes files that wait to be put in their places; none where those before turn out not to be what they are known to be. It
/// stops when it is dropped.
pub(super) type Work = SpawnedTask<Result<Option<Ready>>>;

/// The report line of a mart that was made, how its files are made, and these.
pub(super) type Ready = (NodeResult, Layout, Files);

impl Ahead {
    /// Looks at what is published. What a run cut short has staged is of no use to another, and is removed.
    pub async fn begin(workspace: &Workspace) -> Result<Self> {
        let lake = &workspace.lake;
        let catalog = Catalog::load(lake).await?;
        files::remove_staged(lake).await?;
        let found = files::list(lake, MARTS).await?;
        let at_once = at_once(workspace)?;
        let most = workspace.project.config.engine.memory_bytes()? as u64 / PART_OF_MEMORY / at_once as u64;
        let room = Arc::new(Semaphore::new(at_once));
        Ok(Self { workspace: workspace.clone(), catalog, found, most, room, made: BTreeMap::new() })
    }

    /// What the catalog says before.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Room for as many marts as are made at once.
    pub(super) fn room(&self) -> Arc<Semaphore> {
        self.room.clone()
    }

    /// Files that are there before.
    pub(super) fn found(&self) -> &BTreeSet<String> {
        &self.found
    }

    /// Begins to make the files of the mart of a model, if the rows that go and come are known and no file is large. On a store
    /// that shows a file in its place as soon as it is written nothing is begun.
    pub fn make(&mut self, graph: &Graph, model: &Model, outcome: &Outcome, fingerprint: &str) {
        if self.workspace.lake.local_folder().is_none() {
            return;
        }
        // What is wrong with it is told when it is published.
        let due = self.due(graph, model, outcome, fingerprint).ok().flatten();
        let Some(due) = due.filter(|due| due.is_known_by_rows() && self.is_small(due)) else { return };
        let (workspace, room) = (self.workspace.clone(), self.room.clone());
        let fingerprint = due.fingerprint.clone();
        let work = SpawnedTask::spawn(async move {
            let (_, layout) = laid_out(&workspace.ctx, &due).await?;
            let _room = room.acquire().await;
            let started = Instant::now();
            let files = patched(&workspace, &layout, &due).await?;
            tracing::debug!(mart = due.model.name, is_made = files.is_some(), "made ahead");
            Ok(files.map(|files| (line_of(&due.model.name, started), layout, files)))
        });
        self.made.insert(model.name.clone(), Made { fingerprint, work });
    }

    /// Whether the files that are changed at a time, as many as there are threads, are small.
    fn is_small(&self, due: &Due) -> bool {
        let mut bytes: Vec<u64> = due.before.values().map(|file| file.bytes).collect();
        bytes.sort_unstable_by(|a, b| b.cmp(a));
        bytes.iter().take(self.workspace.project.config.engine.thread_count()).sum::<u64>() <= self.most
    }

    /// The work on the files of a mart that is due, if it was begun.
    pub(super) fn take(&mut self, due: &Due) -> Option<Work> {
        let made = self.made.remove(&due.model.name)?;
        (made.fingerprint == due.fingerprint && due.is_known_by_rows()).then_some(made.work)
    }

    /// Stops what is made and was not taken.
    pub(super) fn stop(&mut self) {
        self.made.clear();
    }

    /// What is to be published of a model that has this fingerprint: nothing where its files are up to date and all there, or are
    /// to stay a while.
    pub(super) fn due(
        &self,
        graph: &Graph,
        model: &Model,
        outcome: &Outcome,
        fingerprint: &str,
    ) -> Result<Option<Due>> {
        if model.header.publish == Publish::No {
            return Ok(None);
        }
        let comments = Comments::of(graph, model)?;
        // Of what is published otherwise, or with other words, no file is as it would be.
        let layout = comments.layout(model);
        let mart = self.catalog.marts.get(&model.name);
        let published = mart.filter(|mart| mart.layout == layout);
        let every = self.workspace.project.config.marts.every.get(&model.name);
        let is_to_stay =
            |mart: &&Mart| mart.fingerprint == fingerprint || every.is_some_and(|every| mart.is_younger_than(every.0));
        let is_whole = |mart: &Mart| mart.files.keys().all(|path| self.found.contains(path));
        if published.filter(is_to_stay).is_some_and(is_whole) {
            return Ok(None);
        }
        let known = published.and_then(|published| known(model, outcome, published, &self.found));
        let before = mart.map(|mart| mart.files.clone()).unwrap_or_default();
        Ok(Some(Due { model: model.clone(), fingerprint: fingerprint.into(), comments, before, known }))
    }
}
