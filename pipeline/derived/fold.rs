//! Changes folded into the tables that they lie over, and files that no change names any more removed.

use chrono::TimeDelta;
use datafusion::prelude::SessionContext;

use super::build::build;
use super::changes::{CHANGES, Changes, Layer, Over, Superseded};
use super::{Built, Derived};
use crate::error::Result;
use crate::failpoint::failpoint;
use crate::lake::Lake;

/// Layers over a table beyond which they are folded: each is a file or more that every reader opens.
const MOST_LAYERS: usize = 32;
/// Share of a table's rows that may lie in layers before they are folded.
const LARGEST_SHARE: f64 = 0.5;
/// How long a file that is no longer named is kept for those who still read it.
const READERS_TAKE: TimeDelta = TimeDelta::hours(1);

/// Which tables to fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that have many layers, or large ones.
    Due,
    /// All.
    All,
}

/// Writes tables anew with what lies over them; returns their folders and what was written. Readers see the same rows
/// before, during and after. A fold that is cut short is begun again: until its commit nothing has happened, and from
/// then on the layers mean nothing.
pub async fn fold(
    ctx: &SessionContext,
    lake: &Lake,
    changes: &mut Changes,
    which: Which,
) -> Result<Vec<(String, Built)>> {
    let mut folded = Vec::new();
    for folder in changes.tables.keys().cloned().collect::<Vec<_>>() {
        let table = Derived::open(lake, changes, &folder).await?;
        let Some((table, over)) = table.as_ref().and_then(|table| Some((table, table.over.as_ref()?))) else {
            // It was built whole since, or is gone.
            changes.tables.remove(&folder);
            continue;
        };
        if which == Which::Due && !is_due(over, table.table.rows()?) {
            continue;
        }
        let frame = ctx.read_table(table.provider(ctx).await?)?;
        failpoint("fold.before");
        let built = build(lake, &folder, Some(&table.table), frame, &over.built_from).await?;
        failpoint("fold.after");
        changes.tables.remove(&folder);
        folded.push((folder, built));
    }
    if !folded.is_empty() {
        changes.save(lake).await?;
    }
    Ok(folded)
}

fn is_due(over: &Over, rows: usize) -> bool {
    let in_layers: usize = over.layers.iter().flat_map(Layer::rows).map(|part| part.rows).sum();
    // What is added to sums is weighed when it is added.
    let is_much = over.sums.is_none() && in_layers as f64 > LARGEST_SHARE * rows as f64;
    over.layers.len() > MOST_LAYERS || (over.layers.len() > 1 && is_much)
}

/// Removes files that nobody reads any more; returns how many. Ages are counted back from the newest object there: the clock
/// of this machine may be ahead of the store's.
pub async fn sweep(lake: &Lake) -> Result<usize> {
    let objects = lake.list(CHANGES).await?;
    let Some(newest) = objects.iter().map(|object| object.last_modified).max() else { return Ok(0) };
    let superseded = Superseded::of(lake, objects, Some(newest - READERS_TAKE)).await?;
    for path in superseded.files.iter().filter_map(|file| lake.relative(&file.location)) {
        lake.delete(&path).await?;
    }
    Ok(superseded.files.len())
}
