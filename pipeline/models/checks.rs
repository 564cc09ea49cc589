//! Rules of models and checks: run on tables that belong together, unless they passed on the same ones before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::graph::{Graph, Model};
use super::{NodeResult, Outcome, Status, result};
use crate::derived::{BuiltFrom, Prints};
use crate::engine;
use crate::error::{Error, Result};
use crate::workspace::Workspace;

/// Where the checks that passed are kept, with what they were run on.
pub const PASSED: &str = "models/checked.json";
/// Offending rows shown of a failed check.
const EXAMPLES: usize = 3;

/// What is checked of models that were changed and not built whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All their rows, and every check that reads them: it takes as long as the tables are large.
    #[default]
    All,
    /// The rules of models, on the rows of touched customers. What compares whole tables is put off to the next run
    /// that checks all.
    Touched,
}

/// A query that must return no rows.
#[derive(Debug, Clone)]
struct Check {
    name: String,
    sql: String,
    /// Tables that it reads.
    reads: Vec<String>,
    /// Models that are not sound if it fails.
    fails: BTreeSet<String>,
}

impl Check {
    /// Whether it compares tables, which then must be of one vintage.
    fn compares(&self) -> bool {
        self.reads.len() > 1
    }
}

/// The rules of a model.
fn rules(model: &Model) -> impl Iterator<Item = Check> {
    model.header.checks.iter().map(|rule| Check {
        name: format!("{}.{rule}", model.name),
        sql: rule.query(&model.name),
        reads: [Some(model.name.as_str()), rule.other_model()].into_iter().flatten().map(String::from).collect(),
        fails: BTreeSet::from([model.name.clone()]),
    })
}

/// The rules of models, in the order of the models, and then the checks.
fn all(graph: &Graph) -> Vec<Check> {
    let mut all = Vec::new();
    for model in &graph.models {
        all.extend(rules(model));
    }
    all.extend(graph.checks.iter().map(|check| Check {
        name: check.name.clone(),
        sql: check.sql.clone(),
        reads: check.reads.clone(),
        fails: check.reads.iter().filter(|read| graph.model(read).is_some()).cloned().collect(),
    }));
    all
}

/// The models that are not sound if a check fails, by the check's name.
pub fn judges(graph: &Graph) -> BTreeMap<String, BTreeSet<String>> {
    all(graph).into_iter().map(|check| (check.name, check.fails)).collect()
}

/// Runs those for which `is_due` of the tables that they read, on models that are in place, unless they passed on the same
/// tables before. One that compares tables waits until all of them are `up_to_date`: a new table beside an old one
/// agrees with nothing. Models that fail one are not sound any more, nor is what was built from them.
pub async fn run_due(
    workspace: &Workspace,
    graph: &Graph,
    outcome: &mut Outcome,
    up_to_date: &Prints,
    scope: Scope,
    is_due: impl Fn(&[String]) -> bool,
    mut progress: impl FnMut(&str),
) -> Result<()> {
    let kept = workspace.lake.get(PASSED).await?;
    let mut passed: BTreeMap<String, Passed> =
        kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let before = passed.clone();
    // Rows that were made anew have failed by themselves.
    for check in all(graph).iter().filter(|check| check.fails.iter().any(|model| outcome.failed.contains(model))) {
        passed.remove(&check.name);
    }
    let is_there = |read: &String| graph.model(read).is_none() || outcome.sound.contains(read);
    let is_outdated = |read: &String| outcome.fingerprints.get(read) != up_to_date.fingerprints.get(read);
    let (mut due, mut skipped) = (Vec::new(), Vec::new());
    for check in all(graph) {
        let built_from =
            BuiltFrom::now(&check.sql, &check.reads, &outcome.fingerprints).defined_by(&up_to_date.definitions);
        let on = Passed { defined: built_from.definition(), on: built_from.fingerprint() };
        let before = passed.get(&check.name);
        if !is_due(&check.reads) || before == Some(&on) {
            continue;
        }
        // One that did not pass the last time, or is defined otherwise, or reads what was built whole, is not put off.
        let is_as_defined = before.is_some_and(|before| before.defined == on.defined);
        let is_new = graph.expanded(&check.reads).iter().any(|read| outcome.built_whole.contains(read));
        if scope == Scope::Touched && is_as_defined && !is_new {
            outcome.put_off_checks.push(check.name);
            continue;
        }
        if !check.reads.iter().all(is_there) || (check.compares() && check.reads.iter().any(is_outdated)) {
            // One of which no model is there has nothing to say.
            if check.fails.iter().any(|model| outcome.sound.contains(model)) {
                skipped.push(check.name);
            }
            continue;
        }
        due.push((check, on));
    }
    let mut failed = std::mem::take(&mut outcome.failed);
    let threads = workspace.project.config.engine.thread_count();
    let mut lines = futures::stream::iter(due.into_iter().enumerate())
        .map(|(place, (check, on))| {
            progress(&check.name);
            let workspace = workspace.clone();
            tokio::spawn(async move { (place, run(&workspace.ctx, &check).await, check, on) })
        })
        .buffer_unordered(threads);
    let mut results = Vec::new();
    while let Some(done) = lines.next().await {
        let (place, line, check, on) = done.map_err(|error| Error::internal(format!("a check stopped: {error}")))?;
        if line.status == Status::Pass {
            passed.insert(check.name, on);
        } else {
            passed.remove(&check.name);
            failed.extend(check.fails);
        }
        results.push((place, line));
    }
    drop(lines);
    results.sort_by_key(|(place, _)| *place);
    outcome.results.extend(results.into_iter().map(|(_, line)| line));
    // Models stand behind those that they read.
    for model in &graph.models {
        if model.reads.iter().any(|read| failed.contains(read)) {
            failed.insert(model.name.clone());
        }
    }
    outcome.sound.retain(|name| !failed.contains(name));
    outcome.failed = failed;
    outcome.skipped_checks.extend(skipped);
    if passed != before {
        workspace.lake.put(PASSED, serde_json::to_vec_pretty(&passed)?.into()).await?;
    }
    Ok(())
}

/// What a check passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Passed {
    /// What defined it and the tables that it reads.
    defined: String,
    /// Its fingerprint.
    on: String,
}

/// What running every check came to.
#[derive(Debug, Default)]
pub struct Checked {
    /// A line per check that was run.
    pub results: Vec<NodeResult>,
    /// Names of those that were not, since they compare tables of which one is outdated.
    pub skipped: Vec<String>,
}

/// Runs every rule and check whose tables are there and, where it compares several, belong together; keeps no record
/// of it. `as_built` and `up_to_date` are the fingerprints that tables have and should have.
pub async fn run_all(
    workspace: &Workspace,
    graph: &Graph,
    as_built: &BTreeMap<String, String>,
    up_to_date: &BTreeMap<String, String>,
) -> Result<Checked> {
    let mut checked = Checked::default();
    for check in all(graph) {
        if !check.reads.iter().all(|read| as_built.contains_key(read)) {
            continue;
        }
        if check.compares() && check.reads.iter().any(|read| as_built.get(read) != up_to_date.get(read)) {
            checked.skipped.push(check.name);
        } else {
            checked.results.push(run(&workspace.ctx, &check).await);
        }
    }
    Ok(checked)
}

/// Runs the rules of one model that compare it with no other, in a session where its name stands for some of its rows.
pub async fn run_rules(ctx: &SessionContext, model: &Model) -> Vec<NodeResult> {
    let mut lines = Vec::new();
    for check in rules(model).filter(|check| !check.compares()) {
        lines.push(run(ctx, &check).await);
    }
    lines
}

async fn run(ctx: &SessionContext, check: &Check) -> NodeResult {
    let started = Instant::now();
    let offending = |ctx: SessionContext| async move {
        let frame = engine::query(&ctx, &check.sql).await?;
        let count = frame.clone().count().await?;
        let examples = if count > 0 { frame.limit(0, Some(EXAMPLES))?.collect().await? } else { Vec::new() };
        Ok((count, examples))
    };
    match engine::within_memory(ctx, offending).await {
        Ok((0, _)) => result("test", &check.name, Status::Pass, started, String::new()),
        Ok((count, examples)) => {
            let shown = pretty_format_batches(&examples).map(|table| table.to_string()).unwrap_or_default();
            let message = format!("{count} offending rows, for example\n{shown}");
            let mut line = result("test", &check.name, Status::Fail, started, message);
            line.failures = Some(count);
            line
        }
        Err(error) => {
            let mut line = result("test", &check.name, Status::Error, started, String::new());
            line.fail(&error);
            line
        }
    }
}
