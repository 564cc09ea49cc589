//! The rows of touched customers: what each model by customer had of them, and what it makes of them now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::{DataFrame, SessionContext, coalesce, ident};
use hashbrown::HashSet;

use super::step::{Step, Written, collected, stored};
use super::{CUSTOMER, Group};
use crate::derived::one_of::is_one_of;
use crate::derived::{self, Derived, keys};
use crate::engine;
use crate::error::{Error, Result};
use crate::models::difference::{difference, rows_of};
use crate::models::graph::{Graph, Model};
use crate::models::header::{Build, ByCustomer};
use crate::models::merge::merge;
use crate::models::{Planned, settings};

/// Sessions over the tables of touched customers.
#[derive(Clone)]
pub(super) struct Customers {
    /// With all their events.
    pub(super) whole: SessionContext,
    /// With those events only that rows which are merged do not hold yet.
    pub(super) new: SessionContext,
    /// As they were in the state that the group was in: what is made of `known` tables need not be read, but can be made.
    before: SessionContext,
    /// Tables that `before` has.
    known: BTreeSet<String>,
}

/// The rows of touched customers that a model had and has.
pub(super) struct Made {
    pub(super) schema: SchemaRef,
    pub(super) before: Vec<RecordBatch>,
    pub(super) after: Vec<RecordBatch>,
    /// Customers of whom some row is another.
    pub(super) keys: BTreeSet<String>,
}

/// What a model made of touched customers.
pub(super) struct Remade {
    made: Made,
    /// Whether the rows before are those of the state that the group was in.
    is_of_state: bool,
    written: Written,
}

impl Step {
    /// The rows of a table whose customer was touched.
    async fn of_touched(&self, table: &str) -> Result<DataFrame> {
        let frame = engine::reading_few_rows(self.ctx()).table(table).await?;
        Ok(frame.filter(is_one_of(ident(CUSTOMER), self.touched.clone()))?)
    }

    pub(super) async fn customers(&self, planned: &[Planned], group: &Group) -> Result<Customers> {
        let (whole, new, before) = (engine::beside(self.ctx()), engine::beside(self.ctx()), engine::beside(self.ctx()));
        settings::register(&before, &self.workspace.project.config, self.since.as_of)?;
        let known = settings::TABLES.into_iter().map(String::from).collect();
        let mut customers = Customers { whole, new, before, known };
        let changed: BTreeSet<&str> = group.steps.iter().map(|at| planned[*at].model.name.as_str()).collect();
        let (mut needed, mut needs_all_events) = (BTreeSet::new(), false);
        for at in &group.steps {
            let reads = self.graph.expanded(&planned[*at].model.reads);
            needs_all_events |= reads.contains("events") && !self.takes_new_events_alone(&planned[*at].model);
            needed.extend(reads);
        }
        for table in needed.iter().filter(|table| self.graph.model(table).is_none()) {
            match table.as_str() {
                "events" => {
                    let new = self.new_events().await?.into_view();
                    let all = if needs_all_events { self.events_of_touched().await?.into_view() } else { new.clone() };
                    customers.whole.register_table("events", all)?;
                    customers.new.register_table("events", new)?;
                }
                "identity_map" | "identity_customers" => {
                    let rows = collected(self.of_touched(table).await?).await?;
                    customers.register(table, rows)?;
                }
                _ => {
                    let provider = self.ctx().table_provider(table.as_str()).await?;
                    customers.whole.register_table(table.as_str(), provider.clone())?;
                    customers.new.register_table(table.as_str(), provider)?;
                }
            }
        }
        // Models stand behind those that they read. Views over those that are changed come when they are.
        for model in self.graph.models.iter().filter(|model| needed.contains(&model.name)) {
            if model.header.build != Build::View && !changed.contains(model.name.as_str()) {
                let rows = collected(self.of_touched(&model.name).await?).await?;
                customers.register(&model.name, rows.clone())?;
                let as_it_is = planned.iter().find(|step| step.model.name == model.name && step.reason.is_none());
                let fingerprint = as_it_is.map(|step| step.built_from.fingerprint());
                if fingerprint.is_some() && fingerprint.as_ref() == self.since.fingerprints.get(&model.name) {
                    customers.before.register_table(model.name.as_str(), rows)?;
                    customers.known.insert(model.name.clone());
                }
            } else if model.header.build == Build::View
                && !self.graph.expanded(&model.reads).iter().any(|read| changed.contains(read.as_str()))
            {
                customers.register_view(&self.graph, model).await?;
            }
        }
        Ok(customers)
    }

    /// Whether a model is made of the new events and the rows that are kept.
    fn takes_new_events_alone(&self, model: &Model) -> bool {
        matches!(&model.header.build, Build::ByCustomer(by_customer) if by_customer.merged_by.is_some())
            && self.moves.is_some()
    }

    /// All events of touched customers: those of their identifiers, and those that nothing identifies.
    async fn events_of_touched(&self) -> Result<DataFrame> {
        let map = self.of_touched("identity_map").await?.select_columns(&["identity_key"])?;
        let mut keys: HashSet<String> = self.touched.iter().cloned().collect();
        for batch in map.collect().await? {
            keys.extend(keys::as_text(batch.column(0))?.iter().flatten().map(String::from));
        }
        let events = self.ctx().table("events").await?;
        Ok(events.filter(is_one_of(self.key_of_event()?, Arc::new(keys)))?)
    }

    /// The identity key of an event, or the customer that it is without one.
    fn key_of_event(&self) -> Result<Expr> {
        let state = self.ctx().state();
        let function = |name: &str| {
            let function = state.scalar_functions().get(name).cloned();
            function.ok_or_else(|| Error::internal(format!("function {name} is not registered")))
        };
        let own = function("content_id")?.call(vec![lit("event"), ident("event_id")]);
        Ok(coalesce(vec![function("identity_key")?.call(vec![ident("identifiers")]), own]))
    }

    /// Events of batches that came since, and those of customers that fell apart.
    async fn new_events(&self) -> Result<DataFrame> {
        let events = self.ctx().table("events").await?;
        let new = events.clone().filter(ident("batch").gt(lit(self.since.batch)))?;
        match &self.moves {
            Some(moves) if !moves.scattered_keys.is_empty() => {
                let keys = Arc::new(moves.scattered_keys.clone());
                let again = events
                    .filter(ident("batch").lt_eq(lit(self.since.batch)))?
                    .filter(is_one_of(self.key_of_event()?, keys))?;
                Ok(new.union(again)?)
            }
            _ => Ok(new),
        }
    }

    /// Makes the rows of touched customers anew, and writes those of customers of whom some row is another.
    pub(super) async fn remake(&self, customers: &Customers, model: &Model, table: &Derived) -> Result<Remade> {
        let schema = table.stored_schema()?;
        let Build::ByCustomer(ByCustomer { merged_by, .. }) = &model.header.build else {
            return Err(Error::internal("only models by customer are changed by customer"));
        };
        let built_from = derived::built_from(Some(table))?;
        let is_of_state = built_from.is_some_and(|before| self.since.holds(&model.name, &before));
        // Reading rows means going through the table for them; making them again takes what the rows after take. Rows that
        // are made anew in a backfill may be damaged, and then it is those that are there that count.
        let is_known = |read: &String| customers.known.contains(read) || self.is_view(read);
        let can_be_made = is_of_state
            && self.asked_for.is_empty()
            && merged_by.is_none()
            && self.graph.expanded(&model.reads).iter().all(is_known);
        let before = match can_be_made {
            true => engine::query(&customers.before, &model.sql).await?,
            false => self.of_touched(&model.name).await?,
        };
        let before = stored(before, &schema).await?;
        let after = match (merged_by, &self.moves) {
            (Some((times, ids)), Some(moves)) => {
                let mut rows = stored(engine::query(&customers.new, &model.sql).await?, &schema).await?;
                for kept in &before {
                    rows.push(moves.renamed(kept)?);
                }
                merge(&rows, CUSTOMER, (times, ids))?.into_iter().collect()
            }
            _ => stored(engine::query(&customers.whole, &model.sql).await?, &schema).await?,
        };
        let found = difference(&schema, CUSTOMER, &before, &after)?;
        if let Some(other) = found.keys.iter().find(|key| !self.touched.contains(*key)) {
            return Err(Error::invalid(format!("it makes rows of customer `{other}`, which nothing touched")));
        }
        let rows = rows_of(&after, CUSTOMER, &found.keys)?;
        let made = Made { schema: schema.clone(), before, after, keys: found.keys.clone() };
        let what = format!("{} of {} touched customers", found.keys.len(), self.touched.len());
        let written = self.written(&model.name, &schema, CUSTOMER, found, rows, what).await?;
        Ok(Remade { made, is_of_state, written })
    }

    /// Shows what was made of a model to those that read it, by the views that are still read, and keeps it for the sums over
    /// it.
    pub(super) async fn show(
        &self,
        customers: &mut Customers,
        made: &mut BTreeMap<String, Made>,
        model: &Model,
        remade: Remade,
        still_read: &BTreeSet<String>,
    ) -> Result<Written> {
        let Remade { made: rows, is_of_state, written } = remade;
        let table = |batches: &Vec<RecordBatch>| MemTable::try_new(rows.schema.clone(), vec![batches.clone()]);
        customers.register(&model.name, Arc::new(table(&rows.after)?))?;
        if is_of_state {
            customers.before.register_table(model.name.as_str(), Arc::new(table(&rows.before)?))?;
            customers.known.insert(model.name.clone());
        }
        let is_read = |view: &&Model| view.header.build == Build::View && still_read.contains(&view.name);
        for view in self.graph.models.iter().filter(is_read) {
            // A view that reads others still to be changed is planned again behind each of them.
            if self.graph.expanded(&view.reads).contains(&model.name) {
                customers.register_view(&self.graph, view).await.ok();
            }
        }
        if self.is_summed(&model.name) {
            made.insert(model.name.clone(), rows);
        }
        Ok(written)
    }
}

impl Customers {
    fn register(&self, name: &str, rows: Arc<MemTable>) -> Result<()> {
        for ctx in [&self.whole, &self.new] {
            ctx.deregister_table(name)?;
            ctx.register_table(name, rows.clone())?;
        }
        Ok(())
    }

    /// Lets go of the rows of models that are not among those that are still `read`.
    pub(super) fn forget_others(&mut self, graph: &Graph, read: &BTreeSet<String>) -> Result<()> {
        for model in graph.models.iter().filter(|model| !read.contains(&model.name)) {
            for ctx in [&self.whole, &self.new, &self.before] {
                ctx.deregister_table(model.name.as_str())?;
            }
            self.known.remove(&model.name);
        }
        Ok(())
    }

    async fn register_view(&self, graph: &Graph, view: &Model) -> Result<()> {
        let is_known = |read: &String| {
            self.known.contains(read) || graph.model(read).is_some_and(|model| model.header.build == Build::View)
        };
        let before = graph.expanded(&view.reads).iter().all(is_known).then_some(&self.before);
        for ctx in [&self.whole, &self.new].into_iter().chain(before) {
            ctx.deregister_table(view.name.as_str())?;
            let rows = engine::query(ctx, &view.sql).await?;
            ctx.register_table(view.name.as_str(), rows.into_view())?;
        }
        Ok(())
    }
}
