//! Models changed where something touched them: the rows of touched customers, then those of changed days.
//!
//! A model that is built by customer is asked for the customers that were touched since it was built, over tables that
//! hold these alone, in a session of their own. What comes out is compared with what the table has, and only customers
//! whose rows are different are laid over it; the days of these rows tell which days a model by day has to make anew.
//! Models that are neither are made whole. Whatever does not fit (another statement, a table that was built whole
//! meanwhile, a state that nobody remembers) is left to be built whole: the answer is the same, only dearer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::{DataFrame, SessionContext, coalesce, ident};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use hashbrown::HashSet;
use uuid::Uuid;

use super::checks::{self, Scope};
use super::difference::{Difference, difference, rows_of};
use super::graph::{Graph, Model};
use super::header::{Build, ByCustomer};
use super::merge::merge;
use super::{Changed, Outcome, Planned, Status, folder, result, settings};
use crate::delta::{Part, PartWriter};
use crate::derived::changes::{Changes, FILES, Layer, State};
use crate::derived::one_of::is_one_of;
use crate::derived::storage::{stored_schema, to_stored};
use crate::derived::{Built, Derived, Stale, keys};
use crate::engine;
use crate::error::{Error, Result};
use crate::workspace::Workspace;

/// Column of the customer, in every table that is built by customer.
const CUSTOMER: &str = "customer_id";
/// Tables that are not models and hold rows of customers.
const OF_CUSTOMERS: [&str; 3] = ["events", "identity_map", "identity_customers"];

/// Changes what can be changed of `planned`; what it has dealt with has no reason to be built any more, and what failed is not
/// planned any more. `moves` are those of the step to the newest state, if there was one in this run.
pub async fn update(
    workspace: &Workspace,
    graph: &Graph,
    mut planned: Vec<Planned>,
    changes: &mut Changes,
    moves: Option<&RecordBatch>,
    scope: Scope,
    outcome: &mut Outcome,
    mut progress: impl FnMut(&str),
) -> Result<Vec<Planned>> {
    let Some(group) = Group::find(graph, &planned, changes)? else { return Ok(planned) };
    register(workspace, &planned).await?;
    let mut touched = HashSet::new();
    for state in &changes.states[group.since + 1..] {
        let part = state.touched.as_ref().expect("a group is touched");
        for keys in keys::read(&workspace.lake, part).await? {
            touched.extend(keys.iter().flatten().map(String::from));
        }
    }
    outcome.touched_customers = Some(touched.len());
    let is_last_step = group.since + 2 == changes.states.len();
    let step = Step {
        workspace,
        graph,
        since: &changes.states[group.since].clone(),
        moves: moves.filter(|_| is_last_step).map(Moves::of).transpose()?,
        touched: Arc::new(touched),
    };

    let customers = step.customers(&planned, &group).await?;
    let mut failed = BTreeSet::new();
    for at in group.steps {
        let planned = &mut planned[at];
        let name = planned.model.name.clone();
        if let Some(read) = planned.model.reads.iter().find(|read| failed.contains(*read)) {
            let message = format!("reads {read}, which could not be built");
            outcome.results.push(result("model", &name, Status::Skipped, Instant::now(), message));
            failed.insert(name);
            continue;
        }
        progress(&name);
        let started = Instant::now();
        match step.change_customers(&customers, planned, changes).await {
            Ok(change) => {
                change.report(planned, started, outcome);
                if scope == Scope::Touched {
                    let lines = checks::run_rules(&customers.whole, &planned.model).await;
                    if lines.iter().any(|line| line.status != Status::Pass) {
                        outcome.failed.insert(name);
                    }
                    outcome.results.extend(lines);
                }
            }
            Err(error) => {
                let mut line = result("model", &name, Status::Success, started, String::new());
                line.fail(&error.context(&planned.model.origin));
                outcome.results.push(line);
                failed.insert(name);
            }
        }
    }
    // Rows of all customers are replaced in one step, whatever reads whatever.
    changes.save(&workspace.lake).await?;
    register_changed(workspace, &planned, outcome).await?;

    // What reads one of these waits for the next round.
    loop {
        let due = step.due(&planned, &failed, outcome)?;
        if due.is_empty() {
            break;
        }
        let threads = workspace.project.config.engine.thread_count();
        let mut at_work = futures::stream::iter(due)
            .map(|(at, days)| {
                progress(&planned[at].model.name);
                let planned = &planned[at];
                let step = &step;
                async move {
                    let started = Instant::now();
                    let written = match &days {
                        Some((day, days)) => step.changed_days(planned, day, days).await,
                        None => step.changed_whole(planned).await,
                    };
                    (at, started, written)
                }
            })
            .buffer_unordered(threads);
        let mut done = Vec::new();
        while let Some(written) = at_work.next().await {
            done.push(written);
        }
        drop(at_work);
        done.sort_by_key(|(at, ..)| *at);
        for (at, started, written) in done {
            let planned = &mut planned[at];
            let change = match written {
                Ok(written) => written.lay(planned, changes),
                Err(error) => Err(error),
            };
            match change {
                Ok(change) => change.report(planned, started, outcome),
                Err(error) => {
                    let mut line = result("model", &planned.model.name, Status::Success, started, String::new());
                    line.fail(&error.context(&planned.model.origin));
                    outcome.results.push(line);
                    failed.insert(planned.model.name.clone());
                }
            }
        }
        changes.save(&workspace.lake).await?;
        register_changed(workspace, &planned, outcome).await?;
    }
    planned.retain(|step| !failed.contains(&step.model.name));
    outcome.missing.extend(failed);
    Ok(planned)
}

/// Models that are changed together: those by customer which are stale for new data alone.
struct Group {
    /// Positions among the planned, each behind those that it reads.
    steps: Vec<usize>,
    /// State that the most outdated of them is in.
    since: usize,
}

impl Group {
    fn find(graph: &Graph, planned: &[Planned], changes: &Changes) -> Result<Option<Self>> {
        let mut group = Self { steps: Vec::new(), since: usize::MAX };
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (at, step) in planned.iter().enumerate() {
            let (Some(Stale::NewData(_)), Build::ByCustomer(by_customer)) = (&step.reason, &step.model.header.build)
            else {
                continue;
            };
            let is_made_of_customers = |read: &String| match graph.model(read) {
                Some(model) if model.header.build == Build::View => true,
                Some(model) => {
                    let is_outdated = planned.iter().any(|step| step.model.name == *read && step.reason.is_some());
                    matches!(model.header.build, Build::ByCustomer(_))
                        && (!is_outdated || names.contains(read.as_str()))
                }
                None if read == "as_of" => by_customer.has_configured_ages,
                None => OF_CUSTOMERS.contains(&read.as_str()) || settings::TABLES.contains(&read.as_str()),
            };
            if !expanded(graph, &step.model).iter().all(is_made_of_customers) {
                continue;
            }
            let Some(state) = state_of(step, changes)? else { continue };
            if changes.states[state + 1..].iter().all(|state| state.touched.is_some()) {
                group.steps.push(at);
                group.since = group.since.min(state);
                names.insert(&step.model.name);
            }
        }
        Ok((!group.steps.is_empty()).then_some(group))
    }
}

/// The newest state in which everything that a model reads was what the model was built from.
fn state_of(step: &Planned, changes: &Changes) -> Result<Option<usize>> {
    let Some(before) = step.table.as_ref().map_or(Ok(None), Derived::built_from)? else { return Ok(None) };
    let matches = |state: &State| before.reads.iter().all(|(read, print)| state.fingerprints.get(read) == Some(print));
    Ok(changes.states.iter().rposition(matches))
}

/// Everything that a model reads, views and what they read included.
fn expanded(graph: &Graph, model: &Model) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut open: Vec<&String> = model.reads.iter().collect();
    while let Some(read) = open.pop() {
        if all.insert(read.clone())
            && let Some(model) = graph.model(read)
            && model.header.build == Build::View
        {
            open.extend(&model.reads);
        }
    }
    all
}

/// Which customer the identifiers of customers that changed belonged to, and belong to.
#[derive(Default)]
struct Moves {
    /// Customers all of whose identifiers went to one other.
    renamed: BTreeMap<String, String>,
    /// Identity keys of customers that fell apart, who are gone as they were.
    scattered_keys: HashSet<String>,
    scattered: HashSet<String>,
}

impl Moves {
    fn of(moves: &RecordBatch) -> Result<Self> {
        let text = |name: &str| -> Result<&StringArray> {
            let column = moves.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            column.ok_or_else(|| Error::internal(format!("moves have no text `{name}`")))
        };
        let (keys, before, now) = (text("identity_key")?, text("customer_before")?, text("customer_id")?);
        let mut now_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for row in (0..moves.num_rows()).filter(|row| before.is_valid(*row)) {
            now_of.entry(before.value(row)).or_default().insert(now.value(row));
        }
        let mut found = Self::default();
        for (before, now) in &now_of {
            match now.iter().next() {
                Some(only) if now.len() == 1 && only != before => {
                    found.renamed.insert((*before).to_string(), (*only).to_string());
                }
                _ if now.len() > 1 => {
                    found.scattered.insert((*before).to_string());
                }
                _ => {}
            }
        }
        for row in (0..moves.num_rows()).filter(|row| before.is_valid(*row)) {
            if found.scattered.contains(before.value(row)) {
                found.scattered_keys.insert(keys.value(row).to_string());
            }
        }
        Ok(found)
    }
}

/// What the models of a group are changed by.
struct Step<'a> {
    workspace: &'a Workspace,
    graph: &'a Graph,
    since: &'a State,
    /// None: what became of the customers since then is not known.
    moves: Option<Moves>,
    touched: Arc<HashSet<String>>,
}

/// A column of days, and those of its days that are to be made anew; `None`: all rows are.
type Days = Option<(String, BTreeSet<Option<i32>>)>;

/// A change that is written and not in force.
struct Written {
    key: String,
    layer: Layer,
    difference: Difference,
    what: String,
}

impl Written {
    /// Lays the change over its table; it is in force once the changes are saved.
    fn lay(self, planned: &mut Planned, changes: &mut Changes) -> Result<Change> {
        let Self { key, layer, difference, what } = self;
        let mut built = Built::of(&layer.parts);
        built.bytes += layer.keys.as_ref().map_or(0, |keys| keys.size);
        let version = opened(planned)?.table.version();
        changes.lay(&folder(&planned.model.name), version, &key, planned.built_from.clone(), layer);
        planned.note_change(changes)?;
        Ok(Change { built, difference, what })
    }
}

/// What became of a model.
struct Change {
    built: Built,
    difference: Difference,
    what: String,
}

impl Change {
    fn report(self, planned: &mut Planned, started: Instant, outcome: &mut Outcome) {
        let name = planned.model.name.clone();
        let reason = planned.reason.take().map(|reason| reason.to_string()).unwrap_or_default();
        let mut line = result("model", &name, Status::Success, started, format!("{reason}; {}", self.what));
        (line.rows, line.bytes) = (Some(self.built.rows), Some(self.built.bytes));
        tracing::info!(model = name, rows = self.built.rows, seconds = line.execution_time, "changed");
        outcome.results.push(line);
        let before = planned.before.take().unwrap_or_default();
        outcome.changed.insert(name, Changed { before, days: self.difference.days });
    }
}

/// Two sessions over the tables of touched customers.
struct Customers {
    /// With all their events.
    whole: SessionContext,
    /// With those events only that rows which are merged do not hold yet.
    new: SessionContext,
}

impl Step<'_> {
    fn ctx(&self) -> &SessionContext {
        &self.workspace.ctx
    }

    /// The rows of a table whose customer was touched.
    async fn of_touched(&self, table: &str) -> Result<DataFrame> {
        let frame = engine::reading_few_rows(self.ctx()).table(table).await?;
        Ok(frame.filter(is_one_of(ident(CUSTOMER), self.touched.clone()))?)
    }

    async fn customers(&self, planned: &[Planned], group: &Group) -> Result<Customers> {
        let customers = Customers { whole: engine::beside(self.ctx()), new: engine::beside(self.ctx()) };
        let changed: BTreeSet<&str> = group.steps.iter().map(|at| planned[*at].model.name.as_str()).collect();
        let mut needed = BTreeSet::new();
        for at in &group.steps {
            needed.extend(expanded(self.graph, &planned[*at].model));
        }
        for table in needed.iter().filter(|table| self.graph.model(table).is_none()) {
            match table.as_str() {
                "events" => {
                    customers.whole.register_table("events", self.events_of_touched().await?.into_view())?;
                    customers.new.register_table("events", self.new_events().await?.into_view())?;
                }
                "identity_map" | "identity_customers" => {
                    let rows = collected(self.of_touched(table).await?).await?;
                    customers.whole.register_table(table.as_str(), rows.clone())?;
                    customers.new.register_table(table.as_str(), rows)?;
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
                customers.register(&model.name, rows)?;
            } else if model.header.build == Build::View
                && !expanded(self.graph, model).iter().any(|read| changed.contains(read.as_str()))
            {
                customers.register_view(model).await?;
            }
        }
        Ok(customers)
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

    async fn change_customers(
        &self,
        customers: &Customers,
        planned: &mut Planned,
        changes: &mut Changes,
    ) -> Result<Change> {
        let model = planned.model.clone();
        let table = opened(planned)?;
        let schema = plain(&table.table.schema()?);
        let before = stored(self.of_touched(&model.name).await?, &schema).await?;
        let Build::ByCustomer(ByCustomer { merged_by, .. }) = &model.header.build else {
            return Err(Error::internal("only models by customer are changed by customer"));
        };
        let after = match (merged_by, &self.moves) {
            (Some((times, ids)), Some(moves)) => {
                let mut rows = stored(engine::query(&customers.new, &model.sql).await?, &schema).await?;
                for kept in &before {
                    rows.push(renamed(kept, moves)?);
                }
                merge(&rows, CUSTOMER, (times, ids))?.into_iter().collect()
            }
            _ => stored(engine::query(&customers.whole, &model.sql).await?, &schema).await?,
        };
        let found = difference(&schema, CUSTOMER, &before, &after)?;
        let rows = rows_of(&after, CUSTOMER, &found.keys)?;
        customers.register(&model.name, Arc::new(MemTable::try_new(schema.clone(), vec![after])?))?;
        for view in self.graph.models.iter().filter(|view| view.header.build == Build::View) {
            // A view that reads others still to be changed is planned again behind each of them.
            if expanded(self.graph, view).contains(&model.name) {
                customers.register_view(view).await.ok();
            }
        }
        let what = format!("{} of {} touched customers", found.keys.len(), self.touched.len());
        self.written(planned, CUSTOMER, found, rows, what).await?.lay(planned, changes)
    }

    /// Writes the rows and keys of a change.
    async fn written(
        &self,
        planned: &Planned,
        key: &str,
        difference: Difference,
        rows: Vec<RecordBatch>,
        what: String,
    ) -> Result<Written> {
        let name = planned.model.name.as_str();
        let schema = plain(&opened(planned)?.table.schema()?);
        let parts = write(self.workspace, name, &schema, rows).await?;
        let keys = keys::write(&self.workspace.lake, name, difference.keys.iter().map(String::as_str)).await?;
        Ok(Written { key: key.to_string(), layer: Layer { keys: Some(keys), parts }, difference, what })
    }

    /// Models that can be changed now, by their positions, with the column and the days of those by day.
    fn due(&self, planned: &[Planned], failed: &BTreeSet<String>, outcome: &Outcome) -> Result<Vec<(usize, Days)>> {
        let mut due = Vec::new();
        let is_open = |step: &Planned| matches!(step.reason, Some(Stale::NewData(_)));
        for (at, step) in planned.iter().enumerate().filter(|(_, step)| is_open(step)) {
            let reads = expanded(self.graph, &step.model);
            if failed.contains(&step.model.name) || reads.iter().any(|read| failed.contains(read)) {
                continue;
            }
            match &step.model.header.build {
                Build::ByDay(day) => {
                    if let Some(days) = self.days(planned, at, day, outcome)? {
                        due.push((at, Some((day.clone(), days))));
                    }
                }
                Build::Full if self.can_be_laid_whole(planned, at, outcome) => due.push((at, None)),
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
        let Some(before) = step.table.as_ref().map_or(Ok(None), Derived::built_from)? else { return Ok(None) };
        let is_since = before.reads.iter().all(|(read, print)| self.since.fingerprints.get(read) == Some(print));
        if !is_since {
            return Ok(None);
        }
        let mut days = BTreeSet::new();
        for read in expanded(self.graph, &step.model) {
            let model = self.graph.model(&read);
            if model.is_some_and(|model| model.header.build == Build::View) || settings::TABLES.contains(&read.as_str())
            {
                if read == "as_of" {
                    return Ok(None);
                }
                continue;
            }
            if let Some(changed) = outcome.changed.get(&read) {
                match changed.days.get(day) {
                    Some(changed) => days.extend(changed),
                    None => return Ok(None),
                }
            } else if read == "events" && day == crate::landing::events::PARTITION {
                days.extend(outcome.new_event_days.iter().copied().map(Some));
            } else if planned.iter().any(|other| other.model.name == read && other.reason.is_none()) {
                // As it was.
            } else {
                return Ok(None);
            }
        }
        Ok(Some(days))
    }

    async fn changed_days(&self, planned: &Planned, day: &str, days: &BTreeSet<Option<i32>>) -> Result<Written> {
        let model = planned.model.clone();
        let schema = plain(&opened(planned)?.table.schema()?);
        let is_changed = |column: &str| is_one_of_days(column, days);
        let beside = engine::beside(self.ctx());
        let needed = expanded(self.graph, &model);
        for table in
            needed.iter().filter(|table| self.graph.model(table).is_none_or(|model| model.header.build != Build::View))
        {
            let frame = self.ctx().table(table.as_str()).await?;
            let has_day = frame.schema().field_with_unqualified_name(day).is_ok();
            let frame = if has_day { frame.filter(is_changed(day))? } else { frame };
            beside.register_table(table.as_str(), frame.into_view())?;
        }
        for view in self.graph.models.iter().filter(|view| needed.contains(&view.name)) {
            if view.header.build == Build::View {
                beside.register_table(view.name.as_str(), engine::query(&beside, &view.sql).await?.into_view())?;
            }
        }
        let before = stored(self.ctx().table(model.name.as_str()).await?.filter(is_changed(day))?, &schema).await?;
        let after = stored(engine::query(&beside, &model.sql).await?.filter(is_changed(day))?, &schema).await?;
        let found = difference(&schema, day, &before, &after)?;
        let rows = rows_of(&after, day, &found.keys)?;
        let what = format!("{} of {} days", found.keys.len(), days.len());
        self.written(planned, day, found, rows, what).await
    }

    /// Whether everything that a model reads is in place, so that it can be made whole now.
    fn can_be_laid_whole(&self, planned: &[Planned], at: usize, outcome: &Outcome) -> bool {
        let is_there = |read: &String| {
            planned.iter().all(|step| step.model.name != *read || step.reason.is_none())
                && self.graph.model(read).is_none_or(|model| !outcome.missing.contains(&model.name))
        };
        let model = &planned[at].model;
        planned[at].table.is_some() && !model.reads.iter().any(|read| read == "run_results") && {
            expanded(self.graph, model).iter().all(is_there)
        }
    }

    async fn changed_whole(&self, planned: &Planned) -> Result<Written> {
        let model = planned.model.clone();
        let table = opened(planned)?;
        let schema = plain(&table.table.schema()?);
        let rows = stored(engine::query(self.ctx(), &model.sql).await?, &schema).await?;
        let parts = write(self.workspace, &model.name, &schema, rows).await?;
        let layer = Layer { keys: None, parts };
        Ok(Written { key: String::new(), layer, difference: Difference::default(), what: "all rows".into() })
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

    async fn register_view(&self, model: &Model) -> Result<()> {
        for ctx in [&self.whole, &self.new] {
            ctx.deregister_table(model.name.as_str())?;
            let view = engine::query(ctx, &model.sql).await?;
            ctx.register_table(model.name.as_str(), view.into_view())?;
        }
        Ok(())
    }
}

impl Planned {
    /// Takes over what was laid over its table.
    fn note_change(&mut self, changes: &Changes) -> Result<()> {
        let table = self.table.as_mut().ok_or_else(|| Error::internal("a table that is changed is there"))?;
        self.before = table.built_from()?.map(|before| before.fingerprint());
        table.over = changes.tables.get(&folder(&self.model.name)).cloned();
        Ok(())
    }
}

fn opened(planned: &Planned) -> Result<&Derived> {
    planned.table.as_ref().ok_or_else(|| Error::internal("a table that is changed is there"))
}

/// Whether a column of dates holds one of these days.
pub fn is_one_of_days(column: &str, days: &BTreeSet<Option<i32>>) -> Expr {
    let dates = days.iter().flatten().map(|day| lit(ScalarValue::Date32(Some(*day)))).collect();
    match days.contains(&None) {
        true => ident(column).in_list(dates, false).or(ident(column).is_null()),
        false => ident(column).in_list(dates, false),
    }
}

/// Registers the planned models as they are.
async fn register(workspace: &Workspace, planned: &[Planned]) -> Result<()> {
    for step in planned {
        register_one(workspace, step).await?;
    }
    Ok(())
}

async fn register_one(workspace: &Workspace, step: &Planned) -> Result<()> {
    let (ctx, name) = (&workspace.ctx, step.model.name.as_str());
    ctx.deregister_table(name)?;
    if step.model.header.build == Build::View {
        // One that reads what was never built comes later.
        if let Ok(view) = engine::query(ctx, &step.model.sql).await {
            ctx.register_table(name, view.into_view())?;
        }
    } else if let Some(table) = &step.table {
        ctx.register_table(name, table.provider(ctx).await?)?;
    }
    Ok(())
}

/// Registers anew what was changed and the views, which read what they read when they were planned.
async fn register_changed(workspace: &Workspace, planned: &[Planned], outcome: &Outcome) -> Result<()> {
    for step in planned {
        if step.model.header.build == Build::View || outcome.changed.contains_key(&step.model.name) {
            register_one(workspace, step).await?;
        }
    }
    Ok(())
}

/// A frame's rows in memory, as a table.
async fn collected(frame: DataFrame) -> Result<Arc<MemTable>> {
    let schema = Arc::new(frame.schema().as_arrow().clone());
    Ok(Arc::new(MemTable::try_new(schema, vec![frame.collect().await?])?))
}

/// A frame's rows, with the columns of a table in the types in which it keeps them.
async fn stored(frame: DataFrame, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let made = stored_schema(frame.schema().as_arrow())?;
    let names = |schema: &SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    if names(&made) != names(schema) {
        return Err(Error::internal(format!("the columns are {:?}, expected {:?}", names(&made), names(schema))));
    }
    let batches = frame.collect().await?;
    batches.iter().filter(|batch| batch.num_rows() > 0).map(|batch| to_stored(batch, schema)).collect()
}

/// A table's schema as rows of it are written.
fn plain(schema: &SchemaRef) -> SchemaRef {
    stored_schema(schema).unwrap_or_else(|_| schema.clone())
}

/// Rows kept of customers that are still one, under the ids that these have now.
fn renamed(rows: &RecordBatch, moves: &Moves) -> Result<RecordBatch> {
    let at = rows.schema().index_of(CUSTOMER)?;
    let customers = rows.column(at).as_string::<i32>();
    let is_one: arrow::array::BooleanArray =
        customers.iter().map(|customer| customer.map(|customer| !moves.scattered.contains(customer))).collect();
    let name = |customer: &str| moves.renamed.get(customer).cloned().unwrap_or_else(|| customer.to_string());
    let names: StringArray = customers.iter().map(|customer| customer.map(name)).collect();
    let mut columns = rows.columns().to_vec();
    columns[at] = Arc::new(names);
    let renamed = RecordBatch::try_new(rows.schema(), columns)?;
    Ok(arrow::compute::filter_record_batch(&renamed, &is_one)?)
}

async fn write(workspace: &Workspace, name: &str, schema: &SchemaRef, rows: Vec<RecordBatch>) -> Result<Vec<Part>> {
    let file = format!("{name}-{}", Uuid::new_v4().simple());
    let mut writer = PartWriter::new(workspace.lake.clone(), FILES.into(), file, schema.clone());
    for batch in &rows {
        writer.write(batch).await?;
    }
    writer.finish().await
}
