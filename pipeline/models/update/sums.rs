//! Tables of sums: what the rows of touched customers came to is taken off, what they come to now is added.
//!
//! A statement that adds up is asked twice, over the rows that these customers had and over those that they have; nothing else
//! is read, and the table itself only for published views over it (`views`). Where nobody knows the rows that they had, or
//! rows of the table are not to be trusted, all sums are made again and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::lit;
use datafusion::prelude::{DataFrame, SessionContext, ident};
use futures::TryStreamExt;
use hashbrown::HashSet;
use tokio::sync::OnceCell;

use super::customers::Made;
use super::step::{Step, Written, collected, stored};
use super::{CUSTOMER, Unfinished};
use crate::delta::Part;
use crate::derived::changes::{self, Layer, Sums};
use crate::derived::one_of::is_one_of;
use crate::derived::storage::to_stored;
use crate::derived::{self, Derived, Stale, summed};
use crate::engine;
use crate::error::{Error, Result};
use crate::models::difference::{difference, picked, rows_of};
use crate::models::graph::Model;
use crate::models::header::Build;
use crate::models::settings::is_setting;
use crate::models::{Changed, Outcome, Planned, RowCount, table_rows};

/// Share of a table of sums that may be added and taken off before it is written anew.
const LARGEST_SHARE: f64 = 0.5;

/// Tables by name.
type Tables = Vec<(String, Arc<dyn TableProvider>)>;

/// What tables of sums are made of.
pub(super) struct Sources {
    /// The rows of touched customers, by model.
    pub(super) made: BTreeMap<String, Made>,
    /// By the tables that are read: those rows of them whose customer has another row, before and after.
    changed: BTreeMap<BTreeSet<String>, OnceCell<(Tables, Tables)>>,
}

/// What is added to a table of sums and taken off, and what that changes of published views over it.
pub(super) struct Added {
    pub(super) written: Written,
    pub(super) views: Vec<(String, Changed)>,
}

impl Step {
    /// Whether a table of sums is made of a model.
    pub(super) fn is_summed(&self, name: &String) -> bool {
        let reads = |model: &Model| {
            matches!(model.header.build, Build::BySum(_)) && self.graph.expanded(&model.reads).contains(name)
        };
        self.graph.models.iter().any(reads)
    }

    /// Tables of sums to which can be added what was made of customers or landed, by their positions.
    pub(super) fn sums_due(
        &self,
        planned: &[Planned],
        unfinished: &Unfinished,
        made: &BTreeMap<String, Made>,
        outcome: &Outcome,
    ) -> Result<Vec<usize>> {
        // What is to be made anew is not to be trusted.
        if !self.asked_for.is_empty() {
            return Ok(Vec::new());
        }
        let mut due = Vec::new();
        for (at, step) in planned.iter().enumerate() {
            if !matches!(step.model.header.build, Build::BySum(_))
                || !step.reason.as_ref().is_some_and(Stale::is_of_rows)
            {
                continue;
            }
            let before = derived::built_from(step.table.as_ref())?;
            let is_of_state = before.is_some_and(|before| self.since.holds(&step.model.name, &before));
            let reads = self.graph.expanded(&step.model.reads);
            if is_of_state
                && !reads.iter().any(|read| unfinished.holds(read))
                && (self.reads_events_alone(&step.model) || self.reads_what_was_made(planned, &reads, made, outcome))
            {
                due.push(at);
            }
        }
        Ok(due)
    }

    /// Whether a model is made of events and nothing that was made of them.
    fn reads_events_alone(&self, model: &Model) -> bool {
        self.graph.expanded(&model.reads).iter().all(|read| self.is_view(read) || read == "events" || is_setting(read))
    }

    /// Whether all that a model reads are rows of customers as they were in the state that it is of, or as they were made of these.
    fn reads_what_was_made(
        &self,
        planned: &[Planned],
        reads: &BTreeSet<String>,
        made: &BTreeMap<String, Made>,
        outcome: &Outcome,
    ) -> bool {
        reads.iter().all(|read| {
            let since = self.since.fingerprints.get(read);
            match outcome.changed.get(read).filter(|_| made.contains_key(read)) {
                Some(changed) => since == Some(&changed.before),
                None if self.is_view(read) || is_setting(read) => true,
                None => planned.iter().any(|step| {
                    step.model.name == *read
                        && step.reason.is_none()
                        && matches!(step.model.header.build, Build::ByCustomer(_))
                        && since == Some(&step.built_from.fingerprint())
                }),
            }
        })
    }

    /// Whether a name is that of a view.
    pub(super) fn is_view(&self, name: &str) -> bool {
        self.graph.model(name).is_some_and(|model| model.header.build == Build::View)
    }

    /// What some models are made of.
    pub(super) fn sources<'a>(&self, models: impl Iterator<Item = &'a Model>, made: BTreeMap<String, Made>) -> Sources {
        Sources { made, changed: models.map(|model| (self.tables_of(model), OnceCell::new())).collect() }
    }

    /// The tables that a model is made of, but for settings.
    fn tables_of(&self, model: &Model) -> BTreeSet<String> {
        let reads = self.graph.expanded(&model.reads).into_iter();
        reads.filter(|read| !self.is_view(read) && !is_setting(read)).collect()
    }

    /// Writes what is added to a table of sums and what is taken off.
    pub(super) async fn added(&self, model: &Model, table: &Derived, sources: &Sources) -> Result<Added> {
        let schema = table.stored_schema()?;
        let (before, after) = match self.reads_events_alone(model) {
            true => (Vec::new(), stored(table_rows(&self.over_new_events(model).await?, model).await?, &schema).await?),
            false => {
                let tables = self.tables_of(model);
                let Some(changed) = sources.changed.get(&tables) else {
                    return Err(Error::internal(format!("what {} reads was not made ready", model.name)));
                };
                let (before, after) =
                    changed.get_or_try_init(|| self.changed_rows(&tables, &sources.made)).await?.clone();
                let (before, after) = (self.session(model, before).await?, self.session(model, after).await?);
                let before = stored(table_rows(&before, model).await?, &schema).await?;
                (before, stored(table_rows(&after, model).await?, &schema).await?)
            }
        };
        let sums = sums_of(model)?;
        let found = difference(&schema, &sums.keys[0], &before, &after)?;
        let (removed, added) = (picked(&before, &found.removed)?, picked(&after, &found.added)?);
        let what = format!("{} sums added, {} taken off", found.rows.added, found.rows.removed);
        let views = self.changed_views(model, table, &sums, &removed, &added).await?;
        let (below, above) = match &table.over {
            Some(over) => over.bytes(of_table(table)?),
            None => (of_table(table)?, 0),
        };
        // In memory rows take more than in a file; where that matters, a table is small and soon written.
        let of_change: usize = removed.iter().chain(&added).map(RecordBatch::get_array_memory_size).sum();
        let is_another = found.rows != RowCount::default();
        // Whether a row was there before is known where the table is read.
        let mut written =
            Written { key: String::new(), layer: None, sums: None, difference: Some(found), rows: None, what };
        if is_another && (above + of_change as u64) as f64 > LARGEST_SHARE * below as f64 {
            let ctx = self.ctx();
            let in_memory = |rows| ctx.read_table(Arc::new(MemTable::try_new(schema.clone(), vec![rows])?));
            let all = ctx.table(model.name.as_str()).await?.union(in_memory(added)?)?;
            let parts = self.parts(model, &schema, summed::total(all, in_memory(removed)?, &sums, &schema)?).await?;
            written.layer = Some(Layer { keys: None, parts, removed: Vec::new() });
            return Ok(Added { written, views });
        }
        if is_another {
            let (parts, removed) =
                (self.in_files(model, &schema, added).await?, self.in_files(model, &schema, removed).await?);
            written.layer = Some(Layer { keys: None, parts, removed });
        }
        written.sums = Some(sums);
        Ok(Added { written, views })
    }

    /// Makes all sums again.
    pub(super) async fn summed_whole(&self, model: &Model, schema: &SchemaRef) -> Result<Written> {
        let before = stored(self.ctx().table(model.name.as_str()).await?, schema).await?;
        let after = stored(table_rows(self.ctx(), model).await?, schema).await?;
        let found = difference(schema, &sums_of(model)?.keys[0], &before, &after)?;
        let parts = self.in_files(model, schema, after).await?;
        let layer = Some(Layer { keys: None, parts, removed: Vec::new() });
        let (rows, what) = (Some(found.rows), "all sums".to_string());
        Ok(Written { key: String::new(), layer, sums: None, difference: Some(found), rows, what })
    }

    /// A session in which the events are those that came since.
    async fn over_new_events(&self, model: &Model) -> Result<SessionContext> {
        let new = self.ctx().table("events").await?.filter(ident("batch").gt(lit(self.since.batch)))?;
        self.session(model, vec![("events".to_string(), new.into_view())]).await
    }

    /// The rows that tables had and have of the customers of whom some row is another.
    async fn changed_rows(&self, tables: &BTreeSet<String>, made: &BTreeMap<String, Made>) -> Result<(Tables, Tables)> {
        let customers: BTreeSet<String> =
            tables.iter().filter_map(|table| made.get(table)).flat_map(|made| made.keys.iter().cloned()).collect();
        let (mut before, mut after) = (Tables::new(), Tables::new());
        for table in tables {
            let (rows_before, rows_after): (Arc<dyn TableProvider>, Arc<dyn TableProvider>) = match made.get(table) {
                Some(made) => {
                    let rows = |rows: &[RecordBatch]| {
                        let rows = rows_of(rows, CUSTOMER, &customers)?;
                        Ok::<_, Error>(Arc::new(MemTable::try_new(made.schema.clone(), vec![rows])?))
                    };
                    (rows(&made.before)?, rows(&made.after)?)
                }
                None => {
                    let customers: Arc<HashSet<String>> = Arc::new(customers.iter().cloned().collect());
                    let rows = engine::reading_few_rows(self.ctx()).table(table.as_str()).await?;
                    let rows = collected(rows.filter(is_one_of(ident(CUSTOMER), customers))?).await?;
                    (rows.clone(), rows)
                }
            };
            before.push((table.clone(), rows_before));
            after.push((table.clone(), rows_after));
        }
        Ok((before, after))
    }

    /// A session of some tables, the settings, and the views over them that a model reads.
    pub(super) async fn session(&self, model: &Model, tables: Tables) -> Result<SessionContext> {
        let session = engine::beside(self.ctx());
        let needed = self.graph.expanded(&model.reads);
        for (name, rows) in tables {
            session.register_table(name, rows)?;
        }
        for name in needed.iter().filter(|name| is_setting(name)) {
            session.register_table(name.as_str(), self.ctx().table_provider(name.as_str()).await?)?;
        }
        for view in self.graph.models.iter().filter(|view| needed.contains(&view.name) && self.is_view(&view.name)) {
            session.register_table(view.name.as_str(), engine::query(&session, &view.sql).await?.into_view())?;
        }
        Ok(session)
    }

    async fn in_files(&self, model: &Model, schema: &SchemaRef, rows: Vec<RecordBatch>) -> Result<Vec<Part>> {
        let mut writer = changes::writer(&self.workspace.lake, &model.name, schema.clone());
        for batch in &rows {
            writer.write(batch).await?;
        }
        writer.finish().await
    }

    async fn parts(&self, model: &Model, schema: &SchemaRef, frame: DataFrame) -> Result<Vec<Part>> {
        let mut writer = changes::writer(&self.workspace.lake, &model.name, schema.clone());
        let mut stream = frame.execute_stream().await?;
        while let Some(batch) = stream.try_next().await? {
            writer.write(&to_stored(&batch, schema)?).await?;
        }
        writer.finish().await
    }
}

/// Bytes of a Delta table.
fn of_table(table: &Derived) -> Result<u64> {
    Ok(table.table.files()?.iter().map(|file| file.size).sum())
}

fn sums_of(model: &Model) -> Result<Sums> {
    match &model.header.build {
        Build::BySum(count) => Ok(Sums { keys: model.header.grain.clone(), count: count.clone() }),
        _ => Err(Error::internal("only tables of sums add up")),
    }
}
