//! A project opened for work: its configuration, its lake and a query session.

use std::sync::Arc;

use datafusion::prelude::SessionContext;

use crate::config::{Project, Secret};
use crate::engine;
use crate::error::Result;
use crate::identifiers::{Blocked, Pseudonymiser};
use crate::lake::Lake;

/// What every stage works with.
#[derive(Clone)]
pub struct Workspace {
    /// Folder and configuration.
    pub project: Project,
    /// Where tables lie.
    pub lake: Lake,
    /// The session that all SQL runs in.
    pub ctx: SessionContext,
    /// Makes pseudonyms, when the configuration asks for them.
    pub pseudonymiser: Option<Arc<Pseudonymiser>>,
    /// Values that identify nobody.
    pub blocked: Arc<Blocked>,
}

impl Workspace {
    /// Opens the lake of a project. Without the key of configured pseudonyms this is refused.
    pub fn open(project: Project) -> Result<Self> {
        let key = project.pseudonym_key()?;
        Self::with_key(project, key)
    }

    /// Opens the lake of a project to query it. Who reads pseudonyms need not hold their key, unless configured blocked
    /// values are known by their pseudonyms.
    pub fn open_to_read(project: Project) -> Result<Self> {
        let key = match project.pseudonym_key() {
            Err(_) if project.config.identity.blocked.is_empty() => None,
            key => key?,
        };
        Self::with_key(project, key)
    }

    /// Opens the lake of a project for who maps records to look at them and keeps none: a key that is not there is made up
    /// for the moment, so that no message shows what would be pseudonymised.
    pub fn open_to_look(project: Project) -> Result<Self> {
        let key = project.pseudonym_key().unwrap_or_else(|_| Some(Secret::made_up()));
        Self::with_key(project, key)
    }

    /// The same project and lake with a session in which nothing is registered yet: what a model of an earlier run left
    /// there would stand in for one that is gone.
    pub fn renewed(&self) -> Result<Self> {
        Ok(Self { ctx: engine::session(&self.lake, &self.project.config.engine)?, ..self.clone() })
    }

    fn with_key(project: Project, key: Option<Secret>) -> Result<Self> {
        let kinds = &project.config.privacy.pseudonymize;
        let pseudonymiser = key.map(|key| Arc::new(Pseudonymiser::new(key.expose(), kinds)));
        let blocked = Arc::new(Blocked::new(&project.config.identity.blocked, pseudonymiser.as_deref()));
        let settings = &project.config.lake;
        let lake = Lake::open(&project.folder, &settings.url)?;
        let lake = if settings.durable { lake } else { lake.without_syncs() };
        let ctx = engine::session(&lake, &project.config.engine)?;
        Ok(Self { project, lake, ctx, pseudonymiser, blocked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lake_is_durable_unless_it_is_told_not_to_be() {
        for (settings, expected) in
            [("", true), ("[lake]\ndurable = true\n", true), ("[lake]\ndurable = false\n", false)]
        {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("wayline.toml"), settings).unwrap();
            let workspace = Workspace::open(Project::load(folder.path()).unwrap()).unwrap();
            let store = format!("{:?}", workspace.lake.store());
            assert!(store.contains(&format!("syncs: {expected}")), "{settings}: {store}");
        }
    }
}
