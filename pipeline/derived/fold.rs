//! Changes folded into the tables that they lie over, and files that no change names any more removed.

use chrono::TimeDelta;
use datafusion::prelude::SessionContext;

use super::build::build;
use super::changes::{CHANGES, Changes, Layer, Over, Superseded};
use super::{Built, Derived, pages};
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
    /// Those that have many layers, or large ones, the heaviest first, until so many bytes are written; the others wait.
    Due(u64),
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
    let mut due = Vec::new();
    for folder in changes.tables.keys().cloned().collect::<Vec<_>>() {
        let table = Derived::open(lake, changes, &folder).await?;
        let Some((table, over)) = table.as_ref().and_then(|table| Some((table, table.over.clone()?))) else {
            // It was built whole since, or is gone.
            changes.tables.remove(&folder);
            continue;
        };
        let weight = weight(&over, table.table.rows()?);
        if which == Which::All || weight > 1.0 {
            due.push((weight, folder, table.clone(), over));
        }
    }
    due.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    let (mut folded, mut bytes) = (Vec::new(), 0);
    for (_, folder, table, over) in due {
        if matches!(which, Which::Due(most) if bytes >= most) {
            break;
        }
        let frame = ctx.read_table(table.provider(ctx).await?)?;
        failpoint("fold.before");
        let pages = pages(&table.table)?;
        let built = build(lake, &folder, Some(&table.table), frame, &over.built_from, pages).await?;
        failpoint("fold.after");
        changes.tables.remove(&folder);
        bytes += built.bytes;
        folded.push((folder, built));
    }
    if !folded.is_empty() {
        changes.save(lake).await?;
    }
    Ok(folded)
}

/// How heavy the layers over a table of so many rows are; above 1 they are to be folded.
fn weight(over: &Over, rows: usize) -> f64 {
    let by_count = over.layers.len() as f64 / MOST_LAYERS as f64;
    // What is added to sums is weighed when it is added.
    if over.sums.is_some() || over.layers.len() < 2 {
        return by_count;
    }
    let in_layers: usize = over.layers.iter().flat_map(Layer::rows).map(|part| part.rows).sum();
    by_count.max(in_layers as f64 / (LARGEST_SHARE * rows.max(1) as f64))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use futures::TryStreamExt;

    use super::*;
    use crate::delta::{Pages, Table};
    use crate::derived::{BuiltFrom, changes, keys};

    fn rows(keys: &[&str], value: &str) -> RecordBatch {
        let column = |texts: Vec<&str>| Arc::new(StringArray::from(texts)) as ArrayRef;
        RecordBatch::try_from_iter([("key", column(keys.to_vec())), ("value", column(vec![value; keys.len()]))])
            .unwrap()
    }

    async fn content(ctx: &SessionContext, lake: &Lake, changes: &Changes, folder: &str) -> Vec<String> {
        let table = Derived::open(lake, changes, folder).await.unwrap().unwrap();
        let frame = ctx.read_table(table.provider(ctx).await.unwrap()).unwrap();
        let batches: Vec<RecordBatch> = frame.execute_stream().await.unwrap().try_collect().await.unwrap();
        let shown = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        let mut lines: Vec<String> =
            shown.lines().skip(3).filter(|line| line.starts_with("| k")).map(String::from).collect();
        lines.sort();
        lines
    }

    const NAMES: [&str; 12] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9", "ka", "kb"];
    /// Tables, and the rows of each of the two layers over them.
    const TABLES: [(&str, usize); 3] = [("models/light", 2), ("models/heavy", 4), ("models/heaviest", 6)];

    fn pages_of(folder: &str) -> Pages {
        if folder == TABLES[0].0 { Pages::Large } else { Pages::Small }
    }

    async fn layered(ctx: &SessionContext, lake: &Lake) -> Changes {
        let (mut changes, built_from) = (Changes::default(), BuiltFrom::now("", &[], &BTreeMap::new()));
        for (folder, of_layer) in TABLES {
            let frame = ctx.read_batch(rows(&NAMES, "below")).unwrap();
            build(lake, folder, None, frame, &built_from, pages_of(folder)).await.unwrap();
            for number in 0..2 {
                let names = &NAMES[number..number + of_layer];
                let mut writer = changes::writer(lake, "rows", rows(names, "").schema());
                writer.write(&rows(names, &format!("layer {number}"))).await.unwrap();
                let keys = Some(keys::write(lake, "keys", names.iter().copied()).await.unwrap());
                let layer = Layer { keys, parts: writer.finish().await.unwrap(), removed: Vec::new() };
                let table = Derived::open(lake, &changes, folder).await.unwrap().unwrap().table;
                let stands_on = (table.id().unwrap(), table.version());
                changes.lay(folder, stands_on, "key", built_from.clone(), Some(layer));
            }
        }
        changes
    }

    #[tokio::test]
    async fn of_several_heavy_tables_the_heaviest_is_folded_first_and_no_row_is_another() {
        let steps: [(u64, &[&[&str]]); 2] = [
            (1, &[&["models/heaviest"], &["models/heavy"], &[]]),
            (u64::MAX, &[&["models/heaviest", "models/heavy"], &[]]),
        ];
        for (most, steps) in steps {
            let lake = Lake::open(Path::new("."), "memory:///folds").unwrap();
            let ctx = SessionContext::new();
            ctx.register_object_store(lake.url(), lake.store().clone());
            let mut changes = layered(&ctx, &lake).await;
            let all = async |changes: &Changes| {
                let mut all = Vec::new();
                for (folder, _) in TABLES {
                    all.push(content(&ctx, &lake, changes, folder).await);
                }
                all
            };
            let before = all(&changes).await;
            assert!(before.iter().all(|rows| rows.len() == NAMES.len()), "{before:#?}");
            assert!(before[1][4].contains("layer 1"), "{before:#?}");
            for expected in steps {
                let folded = fold(&ctx, &lake, &mut changes, Which::Due(most)).await.unwrap();
                assert_eq!(folded.iter().map(|(folder, _)| folder.as_str()).collect::<Vec<_>>(), *expected);
                assert_eq!(all(&changes).await, before);
                assert_eq!(Changes::load(&lake).await.unwrap(), changes);
            }
            assert_eq!(changes.tables.keys().collect::<Vec<_>>(), ["models/light"]);
            fold(&ctx, &lake, &mut changes, Which::All).await.unwrap();
            assert!(changes.tables.is_empty());
            for (folder, _) in TABLES {
                let table = Table::open(&lake, folder).await.unwrap().unwrap();
                assert_eq!(pages(&table).unwrap(), pages_of(folder));
            }
            assert_eq!(all(&changes).await, before);
        }
    }
}
