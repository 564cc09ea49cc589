//! Models changed where something touched them: the rows of touched customers, then those of changed days.
//!
//! A model that is built by customer is asked for the customers that were touched since it was built, over tables that
//! hold these alone, in a session of their own. What comes out is compared with what the table has, and only customers
//! whose rows are different are laid over it; the days of these rows tell which days a model by day has to make anew.
//! Models that are neither are made whole. Whatever does not fit (another statement, a table that was built whole
//! meanwhile, a state that nobody remembers) is left to be built whole: the answer is the same, only dearer.

mod customers;
mod moves;
mod step;
mod sums;
mod views;
pub mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Date32Type;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::ident;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use hashbrown::HashSet;

use self::moves::Moves;
use self::step::{Change, Step, opened};
use super::checks::{self, Scope};
use super::graph::{Graph, Model};
use super::header::Build;
use super::{NodeResult, Outcome, Planned, Status, register_if_there, result, settings};
use crate::derived::changes::{Changes, State};
use crate::derived::{self, Stale, keys};
use crate::error::{Error, Result};
use crate::landing::events::PARTITION;
use crate::workspace::Workspace;

/// Column of the customer, in every table that is built by customer.
pub const CUSTOMER: &str = "customer_id";
/// Tables that are not models and hold rows of customers.
const OF_CUSTOMERS: [&str; 3] = ["events", "identity_map", "identity_customers"];

/// What this run knows beside the states.
#[derive(Debug, Default)]
pub struct News {
    /// Identifiers of the touched components with their customers before and now, of the step to the newest state; `None` when
    /// this run took no such step.
    pub moves: Option<RecordBatch>,
    /// What to check of the rows that are made anew.
    pub checks: Scope,
}

/// What is told of a model.
pub enum Told<'a> {
    /// Its rows are made anew.
    Begun,
    /// What changed of it is known, by this outcome, once it has this fingerprint.
    Changed(&'a Outcome, String),
}

/// Changes what can be changed of `planned`, and tells how far it is; what it has dealt with has no reason to be built any
/// more, and what failed is not planned any more.
pub async fn update(
    workspace: &Workspace,
    graph: &Graph,
    mut planned: Vec<Planned>,
    changes: &mut Changes,
    news: News,
    outcome: &mut Outcome,
    mut tell: impl FnMut(&Model, Told<'_>),
) -> Result<Vec<Planned>> {
    let Some(group) = Group::find(graph, &planned, changes)? else { return Ok(planned) };
    register(workspace, &planned).await?;
    let mut touched = HashSet::new();
    for state in &changes.states[group.since + 1..] {
        let part = state.touched.as_ref().expect("a group is touched");
        let keys = match keys::read(&workspace.lake, part).await {
            Err(error) if !error.is_temporary() => {
                tracing::warn!(%error, "models are built whole");
                return Ok(planned);
            }
            keys => keys?,
        };
        for keys in keys {
            touched.extend(keys.iter().flatten().map(String::from));
        }
    }
    outcome.touched_customers = Some(touched.len());
    let steps = &changes.states[group.since + 1..];
    // What is kept of a row that is to be made anew is not to be trusted.
    let moves = news.moves.as_ref().filter(|_| steps.len() == 1 && steps[0].backfill.is_none());
    let since = &changes.states[group.since];
    let step = Arc::new(Step {
        workspace: workspace.clone(),
        graph: graph.clone(),
        as_defined: planned
            .iter()
            .filter(|step| is_as_defined(step, since))
            .map(|step| step.model.name.clone())
            .collect(),
        since: since.clone(),
        moves: moves.map(Moves::of).transpose()?,
        asked_for: steps.iter().filter_map(|state| state.backfill).flat_map(|window| window.days()).map(Some).collect(),
        touched: Arc::new(touched),
        event_days: days_of_events(workspace, changes.states[group.since].batch).await?,
    });

    let mut customers = match step.customers(&planned, &group).await {
        Err(error) if !error.is_temporary() => {
            tracing::warn!(%error, "models are built whole");
            return Ok(planned);
        }
        customers => customers?,
    };
    let (mut made, mut unfinished) = (BTreeMap::new(), Unfinished::default());
    let threads = workspace.project.config.engine.thread_count();
    let mut open = group.steps;
    while !open.is_empty() {
        let names: BTreeSet<&String> = open.iter().map(|at| &planned[*at].model.name).collect();
        let reads_open = |at: &usize| graph.expanded(&planned[*at].model.reads).iter().any(|read| names.contains(read));
        let (waiting, ready): (Vec<usize>, Vec<usize>) = open.iter().partition(|at| reads_open(at));
        let still_read = waiting.iter().flat_map(|at| graph.expanded(&planned[*at].model.reads)).collect();
        let mut targets = Vec::with_capacity(ready.len());
        for at in ready {
            let model = planned[at].model.clone();
            if graph.expanded(&model.reads).iter().any(|read| unfinished.left.contains(read)) {
                unfinished.left.insert(model.name);
            } else if let Some(read) = model.reads.iter().find(|read| unfinished.failed.contains(*read)) {
                let message = format!("reads {read}, which could not be built");
                outcome.results.push(result("model", &model.name, Status::Skipped, Instant::now(), message));
                unfinished.failed.insert(model.name);
            } else {
                targets.push((at, model, opened(&planned[at])?.clone()));
            }
        }
        let tasks = targets.into_iter().map(|(at, model, table)| {
            tell(&model, Told::Begun);
            let (step, customers) = (step.clone(), customers.clone());
            (at, model.name.clone(), async move { step.remake(&customers, &model, &table).await })
        });
        for (at, line, remade) in at_once(threads, tasks).await? {
            let planned = &mut planned[at];
            let written = match remade {
                Ok(remade) => step.show(&mut customers, &mut made, &planned.model, remade, &still_read).await,
                Err(error) => Err(error),
            };
            let change = written.and_then(|written| written.lay(planned, changes));
            if !unfinished.settle(change, planned, line, &step.asked_for, outcome) {
                continue;
            }
            tell(&planned.model, Told::Changed(outcome, planned.built_from.fingerprint()));
            if news.checks == Scope::Touched {
                let lines = checks::run_rules(&customers.whole, &planned.model).await;
                if lines.iter().any(|line| line.status != Status::Pass) {
                    outcome.failed.insert(planned.model.name.clone());
                }
                outcome.results.extend(lines);
            }
        }
        customers.forget_others(graph, &still_read)?;
        open = waiting;
    }
    drop(customers);
    let due = step.sums_due(&planned, &unfinished, &made, outcome)?;
    let sources = Arc::new(step.sources(due.iter().map(|at| &planned[*at].model), made));
    let mut targets = Vec::new();
    for at in due {
        targets.push((at, planned[at].model.clone(), opened(&planned[at])?.clone()));
    }
    let tasks = targets.into_iter().map(|(at, model, table)| {
        tell(&model, Told::Begun);
        let (step, sources) = (step.clone(), sources.clone());
        (at, model.name.clone(), async move { step.added(&model, &table, &sources).await })
    });
    let mut known_views = Vec::new();
    for (at, line, added) in at_once(threads, tasks).await? {
        let planned = &mut planned[at];
        let mut views = Vec::new();
        let change = added.and_then(|added| {
            views = added.views;
            added.written.lay(planned, changes)
        });
        if unfinished.settle(change, planned, line, &step.asked_for, outcome) {
            known_views.extend(views.iter().map(|(name, _)| name.clone()));
            outcome.changed.extend(views);
        }
    }
    drop(sources);
    // Rows of all customers are replaced in one step, and what is summed over them with them, whatever reads whatever.
    if !outcome.changed.is_empty() {
        changes.save(&workspace.lake).await?;
        register_changed(workspace, &planned, outcome).await?;
    }
    for view in planned.iter().filter(|step| known_views.contains(&step.model.name)) {
        tell(&view.model, Told::Changed(outcome, view.built_from.fingerprint()));
    }

    // What reads one of these waits for the next round.
    loop {
        let due = step.due(&planned, &unfinished, outcome)?;
        if due.is_empty() {
            break;
        }
        let mut targets = Vec::with_capacity(due.len());
        for (at, days) in due {
            let schema = opened(&planned[at])?.stored_schema()?;
            targets.push((at, days, planned[at].model.clone(), schema));
        }
        let tasks = targets.into_iter().map(|(at, days, model, schema)| {
            tell(&model, Told::Begun);
            let (step, name) = (step.clone(), model.name.clone());
            let written = async move {
                match &days {
                    Some((day, days)) => step.changed_days(&model, &schema, day, days).await,
                    None => step.changed_whole(&model, &schema).await,
                }
            };
            (at, name, written)
        });
        for (at, line, written) in at_once(threads, tasks).await? {
            let planned = &mut planned[at];
            let change = written.and_then(|written| written.lay(planned, changes));
            unfinished.settle(change, planned, line, &step.asked_for, outcome);
        }
        changes.save(&workspace.lake).await?;
        register_changed(workspace, &planned, outcome).await?;
    }
    planned.retain(|step| !unfinished.failed.contains(&step.model.name));
    outcome.missing.extend(unfinished.failed);
    Ok(planned)
}

/// Whether a model is defined as it was in a state.
fn is_as_defined(step: &Planned, state: &State) -> bool {
    state.fingerprints.get(&step.model.name) == Some(&step.built_from.over(&state.fingerprints).fingerprint())
}

/// Does so many tasks at a time; returns what came of each, with a line that tells when it was done, in the order of their numbers.
async fn at_once<T: Send + 'static>(
    threads: usize,
    tasks: impl Iterator<Item = (usize, String, impl Future<Output = Result<T>> + Send + 'static)>,
) -> Result<Vec<(usize, NodeResult, Result<T>)>> {
    let mut at_work = futures::stream::iter(tasks)
        .map(|(at, name, task)| {
            tokio::spawn(async move {
                let started = Instant::now();
                let done = task.await;
                (at, result("model", &name, Status::Success, started, String::new()), done)
            })
        })
        .buffer_unordered(threads);
    let mut done = Vec::new();
    while let Some(task) = at_work.next().await {
        done.push(task.map_err(|error| Error::internal(format!("a build stopped: {error}")))?);
    }
    done.sort_by_key(|(at, ..)| *at);
    Ok(done)
}

/// Models that were not changed.
#[derive(Default)]
struct Unfinished {
    /// Those that could not be built.
    failed: BTreeSet<String>,
    /// Those that are left to be built whole, which tells whether anything is wrong with them.
    left: BTreeSet<String>,
}

impl Unfinished {
    /// Reports what became of a model in its line; says whether it was changed.
    fn settle(
        &mut self,
        change: Result<Change>,
        planned: &mut Planned,
        mut line: NodeResult,
        asked_for: &BTreeSet<Option<i32>>,
        outcome: &mut Outcome,
    ) -> bool {
        let name = planned.model.name.clone();
        match change {
            Ok(change) => {
                change.report(planned, line, asked_for, outcome);
                return true;
            }
            Err(error) if error.is_temporary() => {
                line.fail(&error.context(&planned.model.origin));
                outcome.results.push(line);
                self.failed.insert(name);
            }
            Err(error) => {
                tracing::warn!(model = name, %error, "is built whole");
                self.left.insert(name);
            }
        }
        false
    }

    /// Whether a model is one of these.
    fn holds(&self, name: &String) -> bool {
        self.failed.contains(name) || self.left.contains(name)
    }
}

/// Days, since 1970, of the events of later batches.
async fn days_of_events(workspace: &Workspace, batch: i64) -> Result<BTreeSet<i32>> {
    let events = workspace.ctx.table("events").await?.filter(ident("batch").gt(lit(batch)))?;
    let mut days = BTreeSet::new();
    for batch in events.select_columns(&[PARTITION])?.distinct()?.collect().await? {
        days.extend(batch.column(0).as_primitive::<Date32Type>().iter().flatten());
    }
    Ok(days)
}

/// Models that are changed together: those by customer of which some rows are stale.
struct Group {
    /// Positions among the planned, each behind those that it reads.
    steps: Vec<usize>,
    /// State that the most outdated of them is in; where there are none, of those by day and by sum.
    since: usize,
}

impl Group {
    fn find(graph: &Graph, planned: &[Planned], changes: &Changes) -> Result<Option<Self>> {
        let mut group = Self { steps: Vec::new(), since: usize::MAX };
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let is_stale = |step: &Planned| step.reason.as_ref().is_some_and(Stale::is_of_rows);
        for (at, step) in planned.iter().enumerate().filter(|(_, step)| is_stale(step)) {
            let Build::ByCustomer(by_customer) = &step.model.header.build else { continue };
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
            let reads = graph.expanded(&step.model.reads);
            // Rows are merged of events alone: what a model makes of other rows, or of the time, is not made of events that came.
            let is_made_of_events = |read: &String| {
                read != "as_of" && graph.model(read).is_none_or(|model| model.header.build == Build::View)
            };
            let is_merged = by_customer.merged_by.is_some();
            if !reads.iter().all(is_made_of_customers) || (is_merged && !reads.iter().all(is_made_of_events)) {
                continue;
            }
            if let Some(state) = state_of(step, changes)? {
                group.steps.push(at);
                group.since = group.since.min(state);
                names.insert(&step.model.name);
            }
        }
        if group.steps.is_empty() {
            let is_in_parts = |step: &&Planned| {
                is_stale(step) && matches!(step.model.header.build, Build::ByDay(_) | Build::BySum(_))
            };
            for step in planned.iter().filter(is_in_parts) {
                group.since = group.since.min(state_of(step, changes)?.unwrap_or(usize::MAX));
            }
        }
        Ok((group.since != usize::MAX).then_some(group))
    }
}

/// The newest state in which everything that a model reads was what the model was built from; `None` also where it is not
/// known whom the steps since then have touched.
fn state_of(step: &Planned, changes: &Changes) -> Result<Option<usize>> {
    let Some(before) = derived::built_from(step.table.as_ref())? else { return Ok(None) };
    let state = changes.states.iter().rposition(|state| state.holds(&step.model.name, &before));
    Ok(state.filter(|state| changes.states[state + 1..].iter().all(|state| state.touched.is_some())))
}

/// Whether a column of dates holds one of these days. Days that follow each other are asked for together, so that a long
/// window costs no more than a short one.
pub fn is_one_of_days(column: &str, days: &BTreeSet<Option<i32>>) -> Expr {
    let date = |day: i32| lit(ScalarValue::Date32(Some(day)));
    let mut spans: Vec<(i32, i32)> = Vec::new();
    for day in days.iter().flatten().copied() {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == day => *last = day,
            _ => spans.push((day, day)),
        }
    }
    let (alone, spans): (Vec<_>, Vec<_>) = spans.into_iter().partition(|(first, last)| first == last);
    let alone = ident(column).in_list(alone.into_iter().map(|(day, _)| date(day)).collect(), false);
    let mut is_one = spans
        .into_iter()
        .fold(alone, |is_one, (first, last)| is_one.or(ident(column).between(date(first), date(last))));
    if days.contains(&None) {
        is_one = is_one.or(ident(column).is_null());
    }
    is_one
}

/// Registers the planned models as they are.
async fn register(workspace: &Workspace, planned: &[Planned]) -> Result<()> {
    derived::make_ready(&workspace.ctx, planned.iter().filter_map(|step| step.table.as_ref())).await?;
    for step in planned {
        register_if_there(&workspace.ctx, &step.model, step.table.as_ref()).await?;
    }
    Ok(())
}

/// Registers anew what was changed and the views, which read what they read when they were planned.
async fn register_changed(workspace: &Workspace, planned: &[Planned], outcome: &Outcome) -> Result<()> {
    let changed = planned.iter().filter(|step| outcome.changed.contains_key(&step.model.name));
    derived::make_ready(&workspace.ctx, changed.filter_map(|step| step.table.as_ref())).await?;
    for step in planned {
        if step.model.header.build == Build::View || outcome.changed.contains_key(&step.model.name) {
            register_if_there(&workspace.ctx, &step.model, step.table.as_ref()).await?;
        }
    }
    Ok(())
}
