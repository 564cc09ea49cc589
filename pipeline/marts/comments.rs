//! What a published file says of itself, in the key-value metadata of Parquet: `wayline.table`, `wayline.description`,
//! `wayline.grain` and `wayline.columns` (JSON: `[{"name", "description", "unit"}]`).
//!
//! The words come from the model's header, so they are part of the configuration: equal models give equal files, and a
//! changed word is a reason to publish again, but none to build again.

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::restatements::ENCODING;
use crate::error::Result;
use crate::models::graph::{Graph, Model};
use crate::models::words::ColumnWords;

/// What is said of a mart.
#[derive(Debug, Clone)]
pub struct Comments {
    table: String,
    description: String,
    grain: Vec<String>,
    columns: BTreeMap<String, ColumnWords>,
}

impl Comments {
    /// What is said of a model.
    pub fn of(graph: &Graph, model: &Model) -> Result<Self> {
        Ok(Self {
            table: model.name.clone(),
            description: model.header.description.clone(),
            grain: model.header.grain.clone(),
            columns: graph.column_words(&model.name)?,
        })
    }

    /// What is said of a column.
    pub fn column(&self, name: &str) -> Option<&ColumnWords> {
        self.columns.get(name)
    }

    /// As key-value metadata, with these columns in this order.
    pub fn key_values(&self, columns: &[&str]) -> Vec<(String, String)> {
        let described = columns.iter().filter_map(|name| self.column(name)).map(|column| {
            let ColumnWords { name, meaning, unit } = column;
            json!({"name": name, "description": meaning, "unit": unit})
        });
        vec![
            ("wayline.table".into(), self.table.clone()),
            ("wayline.description".into(), self.description.clone()),
            ("wayline.grain".into(), self.grain.join(", ")),
            ("wayline.columns".into(), described.collect::<serde_json::Value>().to_string()),
        ]
    }

    /// A digest of all that makes the files of a mart beside its rows: how it is published, and these words.
    pub fn layout(&self, model: &Model) -> String {
        let columns: Vec<&str> = self.columns.keys().map(String::as_str).collect();
        let text = format!("{ENCODING}\n{}\n{:?}", model.header.publish, self.key_values(&columns));
        hex::encode(&Sha256::digest(text.as_bytes())[..16])
    }
}
