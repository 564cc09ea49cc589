//! `catalog.json`: what is published, for people and tools.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::Field;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::comments::Comments;
use super::restatements::Restatement;
use crate::error::{Context, Result};
use crate::lake::Lake;

/// Path of the catalog in the lake.
pub const CATALOG: &str = "catalog.json";

/// Everything that is published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// Version of this document's shape.
    pub format: u32,
    /// The run that changed it last.
    pub run_id: String,
    /// Logical time of that run.
    pub as_of: Option<String>,
    /// Marts by name.
    pub marts: BTreeMap<String, Mart>,
    /// What that run restated, events not counted. Its report tells it; here it outlives a run that was killed before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restatements: Vec<Restatement>,
}

/// One mart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mart {
    /// Its file, or a glob of its files, relative to the lake.
    pub path: String,
    /// What it answers.
    pub description: String,
    /// Columns that tell one row from another.
    pub grain: Vec<String>,
    /// Columns in order; that of a mart by day stands in the paths of its files and not in the files.
    pub columns: Vec<MartColumn>,
    /// Rows in all files.
    pub rows: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Each file.
    pub files: BTreeMap<String, MartFile>,
    /// What it was published from; empty while, or after, a publication that did not come to its end.
    pub fingerprint: String,
    /// A digest of how its files were published, and with which words.
    #[serde(default)]
    pub layout: String,
    /// The run that published it.
    pub run_id: String,
    /// When that was, RFC 3339.
    #[serde(default)]
    pub published_at: Option<String>,
    /// Logical time of that run.
    pub as_of: Option<String>,
    /// Last batch of events at that run.
    #[serde(default)]
    pub batch: Option<i64>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MartColumn {
    /// Name.
    pub name: String,
    /// Type in Arrow's words.
    #[serde(rename = "type")]
    pub data_type: String,
    /// What it holds, where the model says it.
    #[serde(default)]
    pub description: Option<String>,
    /// In what it is measured, where the model says it.
    #[serde(default)]
    pub unit: Option<String>,
}

impl MartColumn {
    /// Name and type of a field, with what is said of it.
    pub fn of(field: &Field, comments: &Comments) -> Self {
        let words = comments.column(field.name());
        Self {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
            description: words.map(|words| words.meaning.clone()),
            unit: words.and_then(|words| words.unit.clone()),
        }
    }
}

/// One file of a mart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MartFile {
    /// Rows in it.
    pub rows: usize,
    /// Bytes of it.
    pub bytes: u64,
    /// A digest of its rows as they are encoded, whatever it says of itself; empty where an older version wrote it.
    #[serde(default)]
    pub digest: String,
}

impl Mart {
    /// Whether it was published, whole and less than a time ago.
    pub fn is_younger_than(&self, age: Duration) -> bool {
        let published_at = self.published_at.as_deref().and_then(|at| DateTime::parse_from_rfc3339(at).ok());
        let since = published_at.and_then(|at| Utc::now().signed_duration_since(at).to_std().ok());
        // A clock that was set back tells nothing.
        !self.fingerprint.is_empty() && since.is_some_and(|since| since < age)
    }
}

impl Catalog {
    /// The catalog of a lake, empty when nothing was published.
    pub async fn load(lake: &Lake) -> Result<Self> {
        match lake.get(CATALOG).await? {
            Some(bytes) => Ok(serde_json::from_slice(&bytes).context(CATALOG)?),
            None => Ok(Self { format: 1, ..Self::default() }),
        }
    }

    /// Says no longer what a mart was published from: some of its files may be others.
    pub fn forget_fingerprint(&mut self, mart: &str) {
        if let Some(mart) = self.marts.get_mut(mart) {
            mart.fingerprint.clear();
        }
    }

    /// Replaces the catalog in one step.
    pub async fn save(&self, lake: &Lake) -> Result<()> {
        lake.put(CATALOG, serde_json::to_vec_pretty(self)?.into()).await
    }
}
