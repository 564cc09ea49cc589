//! Names of datasets.
//!
//! Source: OpenLineage, "Naming".

use serde_json::{Value, json};
use url::Url;

use crate::error::Result;
use crate::identity::stage as identity;
use crate::landing::events::{DEAD_LETTERS, EVENTS};
use crate::models;
use crate::models::graph::Graph;
use crate::models::header::Build;
use crate::workspace::Workspace;

/// A dataset by the name that catalogs know it by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dataset {
    pub namespace: String,
    pub name: String,
}

impl Dataset {
    /// The dataset at a URL: of the local disk by its path, of a store by its key.
    pub fn at(url: &Url) -> Self {
        let path = url.path().trim_end_matches('/');
        match (url.scheme(), url.host_str()) {
            ("file", _) | (_, None) => Self { namespace: "file".into(), name: path.into() },
            (scheme, Some(bucket)) => {
                Self { namespace: format!("{scheme}://{bucket}"), name: path.trim_start_matches('/').into() }
            }
        }
    }

    /// As events name it.
    pub fn json(&self) -> Value {
        json!({"namespace": self.namespace, "name": self.name})
    }
}

/// The dataset of a table by its name in SQL; `None` for one that lies nowhere: settings, what is told of runs, views.
pub fn of_table(workspace: &Workspace, graph: &Graph, table: &str) -> Result<Option<Dataset>> {
    let folder = match (table, graph.model(table)) {
        ("events", _) => EVENTS.to_string(),
        ("dead_letters", _) => DEAD_LETTERS.to_string(),
        (_, Some(model)) if model.header.build != Build::View => models::folder(table),
        _ if identity::TABLES.contains(&table) => identity::folder(table),
        _ => return Ok(None),
    };
    Ok(Some(Dataset::at(&workspace.lake.folder_url(&folder)?)))
}
