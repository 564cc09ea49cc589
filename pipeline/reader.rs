//! The newest tables, for those who read while runs publish: a session over one state of the lake, opened anew for a
//! query once it may be outdated. A query that is under way keeps the state with which it began.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::prelude::SessionContext;
use tokio::sync::Mutex;

use crate::config::Project;
use crate::dictionary::Dictionary;
use crate::error::Result;
use crate::models::graph::Graph;
use crate::run::{Tables, register_everything};
use crate::workspace::Workspace;

/// Queries that follow each other faster share a state.
const FRESH: Duration = Duration::from_millis(500);

/// One state of the lake.
pub struct Opened {
    /// The project, with a session in which every table of this state is registered.
    pub workspace: Workspace,
    /// The project's models.
    pub graph: Graph,
    /// What is known of the tables.
    pub tables: Tables,
}

impl Opened {
    /// The session.
    pub fn ctx(&self) -> &SessionContext {
        &self.workspace.ctx
    }

    /// What each table and column means.
    pub async fn dictionary(&self) -> Result<Dictionary> {
        Dictionary::of(&self.workspace, &self.graph).await
    }

    /// Opens the state that a project's lake is in.
    pub async fn open(project: Project, as_of: Option<i64>) -> Result<Self> {
        Self::of(Workspace::open_to_read(project)?, as_of).await
    }

    async fn of(workspace: Workspace, as_of: Option<i64>) -> Result<Self> {
        let (tables, graph) = register_everything(&workspace, as_of).await?;
        Ok(Self { workspace, graph, tables })
    }
}

/// Opens a project's lake when it is first asked for, and again as time goes on.
pub struct Reader {
    folder: PathBuf,
    as_of: Option<i64>,
    newest: Mutex<Option<(Instant, Arc<Opened>)>>,
}

impl Reader {
    /// A reader of the project in a folder, which is not looked at yet.
    pub fn new(folder: PathBuf, as_of: Option<i64>) -> Self {
        Self { folder, as_of, newest: Mutex::new(None) }
    }

    /// The state of the lake, not older than half a second.
    pub async fn opened(&self) -> Result<Arc<Opened>> {
        let mut newest = self.newest.lock().await;
        let opened = match &*newest {
            Some((at, opened)) if at.elapsed() < FRESH => return Ok(opened.clone()),
            Some((_, opened)) => Opened::of(opened.workspace.renewed()?, self.as_of).await?,
            None => Opened::open(Project::load(&self.folder)?, self.as_of).await?,
        };
        let opened = Arc::new(opened);
        *newest = Some((Instant::now(), opened.clone()));
        Ok(opened)
    }
}
