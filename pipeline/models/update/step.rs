//! What a step changes of each model.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::TryStreamExt;
use hashbrown::HashSet;

use super::moves::Moves;
use super::{Unfinished, is_one_of_days};
use crate::derived::changes::{self, Changes, Layer, State, Sums};
use crate::derived::storage::{stored_schema, to_stored};
use crate::derived::{self, Built, Derived, Stale, keys};
use crate::engine;
use crate::error::{Error, Result};
use crate::models::difference::{Difference, difference, rows_of};
use crate::models::graph::{Graph, Model};
use crate::models::header::Build;
use crate::models::{Changed, NodeResult, Outcome, Planned, RowCount, folder, settings};
use crate::workspace::Workspace;

/// What the models of a group are changed by.
pub(super) struct Step {
    pub(super) workspace: Workspace,
    pub(super) graph: Graph,
    pub(super) since: State,
    /// Models that are defined as they were then, over what was defined as it is.
    pub(super) as_defined: BTreeSet<String>,
    /// None: what became of the customers since then is not known.
    pub(super) moves: Option<Moves>,
    pub(super) touched: Arc<HashSet<String>>,
    /// Days of the events that came since then.
    pub(super) event_days: BTreeSet<i32>,
    /// Days that were to be made anew since then, whether anything changed or not.
    pub(super) asked_for: BTreeSet<Option<i32>>,
}

/// A column of days, and those of its days that are to be made anew; `None`: all rows are.
pub(super) type Days = Option<(String, BTreeSet<Option<i32>>)>;

/// A change that is written and not in force.
pub(super) struct Written {
    pub(super) key: String,
    /// None: no row is another.
    pub(super) layer: Option<Layer>,
    /// Set where the rows of the layer are added to those that are there.
    pub(super) sums: Option<Sums>,
    /// None: all rows were made.
    pub(super) difference: Option<Difference>,
    /// Rows that are gone and new, where that is known.
    pub(super) rows: Option<RowCount>,
    pub(super) what: String,
}

impl Written {
    /// Lays the change over its table; it is in force once the changes are saved.
    pub(super) fn lay(self, planned: &mut Planned, changes: &mut Changes) -> Result<Change> {
        let Self { key, layer, sums, difference, rows, what } = self;
        let mut built = Built::default();
        if let Some(layer) = &layer {
            built.rows = layer.rows().map(|part| part.rows).sum();
            built.bytes = layer.files().map(|part| part.size).sum();
        }
        let table = &opened(planned)?.table;
        let table = (table.id()?, table.version());
        let (folder, built_from) = (folder(&planned.model.name), planned.built_from.clone());
        match sums {
            Some(sums) => changes.add(&folder, table, sums, built_from, layer),
            None => changes.lay(&folder, table, &key, built_from, layer),
        }
        planned.note_change(changes)?;
        Ok(Change { built, difference, rows, what })
    }
}

/// What became of a model.
pub(super) struct Change {
    built: Built,
    difference: Option<Difference>,
    rows: Option<RowCount>,
    what: String,
}

impl Change {
    /// Reports what became of the model. Days that were `asked_for` count as changed: what is published of them is
    /// published again.
    pub(super) fn report(
        self,
        planned: &mut Planned,
        mut line: NodeResult,
        asked_for: &BTreeSet<Option<i32>>,
        outcome: &mut Outcome,
    ) {
        let name = planned.model.name.clone();
        let reason = planned.reason.take().map(|reason| reason.to_string()).unwrap_or_default();
        line.message = format!("{reason}; {}", self.what);
        (line.rows, line.bytes) = (Some(self.built.rows), Some(self.built.bytes));
        tracing::info!(model = name, rows = self.built.rows, seconds = line.execution_time, "changed");
        outcome.results.push(line);
        let before = planned.before.take().unwrap_or_default();
        let (mut days, exchanged) = match self.difference {
            Some(difference) => (difference.days, Some(difference.exchanged)),
            None => Default::default(),
        };
        // Sums that are added to a row are no rows of the table; and what was asked for is made from the table, whatever
        // is published of it.
        let exchanged = exchanged.filter(|_| self.rows.is_some() && asked_for.is_empty());
        for days in days.values_mut() {
            for day in asked_for {
                days.entry(*day).or_default();
            }
        }
        outcome.changed.insert(name, Changed { before, rows: self.rows, days, exchanged });
    }
}

impl Step {
    pub(super) fn ctx(&self) -> &SessionContext {
        &self.workspace.ctx
    }

    /// Writes the rows and keys of a change.
    pub(super) async fn written(
        &self,
        name: &str,
        schema: &SchemaRef,
        key: &str,
        difference: Difference,
        rows: Vec<RecordBatch>,
        what: String,
    ) -> Result<Written> {
        let mut layer = None;
        if !difference.keys.is_empty() {
            let mut writer = changes::writer(&self.workspace.lake, name, schema.clone());
            for batch in &rows {
                writer.write(batch).await?;
            }
            let parts = writer.finish().await?;
            let keys = keys::write(&self.workspace.lake, name, difference.keys.iter().map(String::as_str)).await?;
            layer = Some(Layer { keys: Some(keys), parts, removed: Vec::new() });
        }
        let rows = Some(difference.rows);
        Ok(Written { key: key.to_string(), layer, sums: None, difference: Some(difference), rows, what })
    }

    /// Models that can be changed now, by their positions, with the column and the days of those by day.
    pub(super) fn due(
        &self,
        planned: &[Planned],
        unfinished: &Unfinished,
        outcome: &Outcome,
    ) -> Result<Vec<(usize, Days)>> {
        let mut due = Vec::new();
        let is_open = |step: &Planned| step.reason.as_ref().is_some_and(Stale::is_of_rows);
        for (at, step) in planned.iter().enumerate().filter(|(_, step)| is_open(step)) {
            let reads = self.graph.expanded(&step.model.reads);
            if unfinished.holds(&step.model.name) || reads.iter().any(|read| unfinished.holds(read)) {
                continue;
            }
            match &step.model.header.build {
                Build::ByDay(day) => {
                    if let Some(days) = self.days(planned, at, day, outcome)? {
                        due.push((at, Some((day.clone(), days))));
                    }
                }
                Build::Full | Build::BySum(_) if self.can_be_laid_whole(planned, at, outcome) => due.push((at, None)),
                _ => {}
            }
        }
        Ok(due)
    }

    /// The days that a model must make anew: those on which the tables that it reads were changed. `None` when something
    /// changed that is not told by day.
    fn days(
        &self,
        planned: &[Planned],
        at: usize,
        day: &str,
        outcome: &Outcome,
    ) -> Result<Option<BTreeSet<Option<i32>>>> {
        let step = &planned[at];
        let before = derived::built_from(step.table.as_ref())?;
        if !before.is_some_and(|before| self.since.holds(&step.model.name, &before)) {
            return Ok(None);
        }
        let mut days = self.asked_for.clone();
        for read in self.graph.expanded(&step.model.reads) {
            let model = self.graph.model(&read);
            if model.is_some_and(|model| model.header.build == Build::View) || settings::TABLES.contains(&read.as_str())
            {
                if read == "as_of" {
                    return Ok(None);
                }
                continue;
            }
            // Only what happened since the model was made counts, and all of it.
            let since = self.since.fingerprints.get(&read);
            if let Some(changed) = outcome.changed.get(&read) {
                match changed.days.get(day) {
                    Some(days_of) if since == Some(&changed.before) => days.extend(days_of.keys()),
                    _ => return Ok(None),
                }
            } else if read == "events" && day == crate::landing::events::PARTITION {
                days.extend(self.event_days.iter().copied().map(Some));
            } else {
                let as_it_is = planned.iter().find(|other| other.model.name == read && other.reason.is_none());
                if as_it_is.map(|other| other.built_from.fingerprint()).as_ref() != since {
                    return Ok(None);
                }
            }
        }
        Ok(Some(days))
    }

    pub(super) async fn changed_days(
        &self,
        model: &Model,
        schema: &SchemaRef,
        day: &str,
        days: &BTreeSet<Option<i32>>,
    ) -> Result<Written> {
        let beside = engine::beside(self.ctx());
        let needed = self.graph.expanded(&model.reads);
        for table in
            needed.iter().filter(|table| self.graph.model(table).is_none_or(|model| model.header.build != Build::View))
        {
            let frame = self.ctx().table(table.as_str()).await?;
            let has_day = frame.schema().field_with_unqualified_name(day).is_ok();
            let frame = if has_day { frame.filter(is_one_of_days(day, days))? } else { frame };
            beside.register_table(table.as_str(), frame.into_view())?;
        }
        for view in self.graph.models.iter().filter(|view| needed.contains(&view.name)) {
            if view.header.build == Build::View {
                beside.register_table(view.name.as_str(), engine::query(&beside, &view.sql).await?.into_view())?;
            }
        }
        let before =
            stored(self.ctx().table(model.name.as_str()).await?.filter(is_one_of_days(day, days))?, schema).await?;
        let after =
            stored(engine::query(&beside, &model.sql).await?.filter(is_one_of_days(day, days))?, schema).await?;
        let found = difference(schema, day, &before, &after)?;
        let rows = rows_of(&after, day, &found.keys)?;
        let what = format!("{} of {} days", found.keys.len(), days.len());
        self.written(&model.name, schema, day, found, rows, what).await
    }

    /// Whether everything that a model reads is in place, so that it can be made whole now.
    fn can_be_laid_whole(&self, planned: &[Planned], at: usize, outcome: &Outcome) -> bool {
        let is_there = |read: &String| {
            planned.iter().all(|step| step.model.name != *read || step.reason.is_none())
                && self.graph.model(read).is_none_or(|model| !outcome.missing.contains(&model.name))
        };
        let model = &planned[at].model;
        planned[at].table.is_some() && !model.reads.iter().any(|read| read == "run_results") && {
            self.graph.expanded(&model.reads).iter().all(is_there)
        }
    }

    pub(super) async fn changed_whole(&self, model: &Model, schema: &SchemaRef) -> Result<Written> {
        if let Build::BySum(_) = &model.header.build {
            return self.summed_whole(model, schema).await;
        }
        let frame = engine::query(self.ctx(), &model.sql).await?;
        expect_columns(&frame, schema)?;
        let mut writer = changes::writer(&self.workspace.lake, &model.name, schema.clone());
        let mut stream = frame.execute_stream().await?;
        while let Some(batch) = stream.try_next().await? {
            writer.write(&to_stored(&batch, schema)?).await?;
        }
        let parts = writer.finish().await?;
        let layer = Some(Layer { keys: None, parts, removed: Vec::new() });
        Ok(Written { key: String::new(), layer, sums: None, difference: None, rows: None, what: "all rows".into() })
    }
}

impl Planned {
    /// Takes over what was laid over its table.
    fn note_change(&mut self, changes: &Changes) -> Result<()> {
        let table = self.table.as_mut().ok_or_else(|| Error::internal("a table that is changed is there"))?;
        self.before = table.built_from()?.map(|before| before.fingerprint());
        table.change(changes.tables.get(&folder(&self.model.name)).cloned());
        Ok(())
    }
}

pub(super) fn opened(planned: &Planned) -> Result<&Derived> {
    planned.table.as_ref().ok_or_else(|| Error::internal("a table that is changed is there"))
}

/// A frame's rows in memory, as a table.
pub(super) async fn collected(frame: DataFrame) -> Result<Arc<MemTable>> {
    let schema = Arc::new(frame.schema().as_arrow().clone());
    Ok(Arc::new(MemTable::try_new(schema, vec![frame.collect().await?])?))
}

/// Whether the columns of a frame are those of a table, in the types in which it keeps them.
fn expect_columns(frame: &DataFrame, schema: &SchemaRef) -> Result<()> {
    let made = stored_schema(frame.schema().as_arrow())?;
    let columns = |schema: &SchemaRef| -> Vec<String> {
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
    };
    match columns(&made) == columns(schema) {
        true => Ok(()),
        false => Err(Error::internal(format!("the columns are {:?}, expected {:?}", columns(&made), columns(schema)))),
    }
}

/// A frame's rows, which must have the columns of a table.
pub(super) async fn stored(frame: DataFrame, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    expect_columns(&frame, schema)?;
    let batches = frame.collect().await?;
    batches.iter().filter(|batch| batch.num_rows() > 0).map(|batch| to_stored(batch, schema)).collect()
}
