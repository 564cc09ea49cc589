//! Files of marts that are made while models are still built that read theirs, or beside it.
//!
//! A mart whose rows that go and come are known needs no more than these and its files. They are made as soon as the rows
//! are known, and put in their places with all others, or never: where the model fails a check, or the run fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::catalog::{Catalog, Mart};
use super::comments::Comments;
use super::files;
use super::{Due, Files, Layout, MARTS, at_once, known, laid_out, line_of, patched};
use crate::error::{Error, Result};
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
    at_work: JoinSet<()>,
    /// By mart.
    made: BTreeMap<String, Made>,
}

/// Files in the making, of a mart that comes to this fingerprint.
struct Made {
    fingerprint: String,
    ready: oneshot::Receiver<Option<Ready>>,
    work: AbortHandle,
}

/// Files that wait to be put in their places, with how they are made and the report line of the mart.
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
        let (at_work, made) = (JoinSet::new(), BTreeMap::new());
        Ok(Self { workspace: workspace.clone(), catalog, found, most, room, at_work, made })
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
        let (told, ready) = oneshot::channel();
        let (workspace, room) = (self.workspace.clone(), self.room.clone());
        let (name, fingerprint) = (model.name.clone(), due.fingerprint.clone());
        let work = self.at_work.spawn(async move {
            let made = async {
                let (_, layout) = laid_out(&workspace.ctx, &due).await?;
                let _room = room.acquire().await;
                let started = Instant::now();
                let files = patched(&workspace, &layout, &due).await?;
                Ok::<_, Error>(files.map(|files| (line_of(&due.model.name, started), layout, files)))
            };
            match made.await {
                Ok(made) => {
                    tracing::debug!(mart = due.model.name, is_made = made.is_some(), "made ahead");
                    // Nobody waits for it where the run fails.
                    drop(told.send(made));
                }
                Err(error) => tracing::warn!(mart = due.model.name, %error, "could not be made ahead"),
            }
        });
        self.made.insert(name, Made { fingerprint, ready, work });
    }

    /// Whether the files that are changed at a time, as many as there are threads, are small.
    fn is_small(&self, due: &Due) -> bool {
        let mut bytes: Vec<u64> = due.before.values().map(|file| file.bytes).collect();
        bytes.sort_unstable_by(|a, b| b.cmp(a));
        bytes.iter().take(self.workspace.project.config.engine.thread_count()).sum::<u64>() <= self.most
    }

    /// The files of a mart that is due, if they were begun: none where they turn out not to be what they are known to be.
    pub(super) fn take(&mut self, due: &Due) -> Option<oneshot::Receiver<Option<Ready>>> {
        let made = self.made.remove(&due.model.name)?;
        if made.fingerprint == due.fingerprint && due.is_known_by_rows() {
            return Some(made.ready);
        }
        made.work.abort();
        None
    }

    /// Stops what is made and was not taken.
    pub(super) fn stop(&mut self) {
        for made in std::mem::take(&mut self.made).into_values() {
            made.work.abort();
        }
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
