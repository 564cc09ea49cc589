//! What the columns of models are made of.

use std::collections::BTreeMap;

use crate::engine;
use crate::models::column_lineage::{Source, column_lineage};
use crate::models::graph::Graph;
use crate::workspace::Workspace;

/// A column of a model: name, type, and the columns that it is made of.
#[derive(Debug)]
pub struct Column {
    pub name: String,
    pub data_type: String,
    pub sources: Vec<Source>,
}

/// The columns of each model. One whose statement cannot be planned, since it reads what was never built, is left out.
pub async fn of_models(workspace: &Workspace, graph: &Graph) -> BTreeMap<String, Vec<Column>> {
    let mut all = BTreeMap::new();
    for model in &graph.models {
        let Ok(frame) = engine::query(&workspace.ctx, &model.sql).await else { continue };
        let Ok(lineage) = column_lineage(frame.logical_plan()) else { continue };
        let fields = frame.schema().fields().iter().zip(lineage);
        let columns = fields.map(|(field, (name, sources))| Column {
            name,
            data_type: field.data_type().to_string(),
            sources: sources.into_iter().collect(),
        });
        all.insert(model.name.clone(), columns.collect());
    }
    all
}
