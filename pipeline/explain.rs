//! What a reason code, an exit code, a table, a model or a check is, in words.

use serde::Serialize;

use crate::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::landing::reasons::{REASONS, Reason, reason};
use crate::models::graph::{Graph, Model};
use crate::models::header::{Build, ByCustomer, Publish};
use crate::run::report::{RUNS, Report};
use crate::run::tables::load_graph;
use crate::run::{self, Options};
use crate::workspace::Workspace;

/// Reports that are looked through for the last build of a model.
const MOST_REPORTS: usize = 200;

/// An exit code or the kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// The number.
    pub code: u8,
    /// The kinds of errors that lead to it.
    pub kinds: &'static [&'static str],
    /// What it means.
    pub meaning: &'static str,
    /// What a scheduler, or who reads it, should do.
    pub remedy: &'static str,
}

/// The exit codes of the command line.
pub const EXITS: [Exit; 6] = [
    Exit { code: 0, kinds: &[], meaning: "done, or there was nothing to do", remedy: "go on" },
    Exit {
        code: 1,
        kinds: &["corrupt", "exhausted", "internal"],
        meaning: "a step or a data check failed; what could be built was built, and what failed is not published",
        remedy: "read the lines on stderr that say Error or Fail; for damage run wayline fsck; where memory ran out raise [engine] memory",
    },
    Exit {
        code: 2,
        kinds: &["invalid"],
        meaning: "wrong usage or configuration; nothing was done",
        remedy: "change what the error names; trying again does not help",
    },
    Exit {
        code: 75,
        kinds: &["unavailable", "conflict"],
        meaning: "temporary: another run holds the project, or a source or the store is out of reach",
        remedy: "try again later; every step is safe to repeat",
    },
    Exit { code: 130, kinds: &[], meaning: "stopped by SIGINT (Ctrl-C)", remedy: "run again to go on" },
    Exit { code: 143, kinds: &[], meaning: "stopped by SIGTERM", remedy: "run again to go on" },
];

/// The codes that need no project to be explained.
#[derive(Debug, Clone, Copy)]
pub enum Code {
    /// Of a dead letter or file.
    Reason(&'static Reason),
    /// Of the command line.
    Exit(Exit),
}

/// The code of a name.
pub fn code(name: &str) -> Option<Code> {
    let is_named = |exit: &&Exit| name.parse() == Ok(exit.code) || exit.kinds.contains(&name.to_lowercase().as_str());
    reason(name).map(Code::Reason).or_else(|| EXITS.iter().find(is_named).copied().map(Code::Exit))
}

/// A table, model or check in words.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// Its name.
    pub name: String,
    /// The model's file; none for what is no model.
    pub origin: Option<String>,
    /// What it is.
    pub description: String,
    /// Columns that tell one row from another.
    pub grain: Vec<String>,
    /// How it comes about.
    pub build: String,
    /// How it is published; none for what is no model.
    pub publish: Option<String>,
    /// The rules that its rows must keep, and the checks that read it.
    pub checks: Vec<String>,
    /// What it reads.
    pub reads: Vec<String>,
    /// Each model that it is made of, from the nearest to the farthest, with what that reads.
    pub lineage: Vec<(String, Vec<String>)>,
    /// The sources of the configuration, where it is made of landed events.
    pub sources: Vec<String>,
    /// What reads it.
    pub read_by: Vec<String>,
    /// When and why a model was built last.
    pub last_built: Option<LastBuilt>,
    /// Why the next run would build it; none if it would leave it.
    pub next_run: Option<String>,
}

/// The last time that a model was built.
#[derive(Debug, Clone, Serialize)]
pub struct LastBuilt {
    /// The run.
    pub run_id: String,
    /// When, RFC 3339.
    pub at: String,
    /// Why it was, and how.
    pub message: String,
    /// Rows written.
    pub rows: Option<usize>,
}

/// Explains a table, model or check of a project.
///
/// Errors: a name that is none, with the nearest one.
pub async fn table(workspace: &Workspace, name: &str) -> Result<Explained> {
    let graph = load_graph(workspace)?;
    if let Some(check) = graph.checks.iter().find(|check| check.name == name) {
        let mut explained = Explained {
            name: check.name.clone(),
            origin: Some(check.origin.clone()),
            description: check.header.description.clone(),
            grain: Vec::new(),
            build: "a check: a query that must return no rows, run after what it reads was built".into(),
            publish: None,
            checks: Vec::new(),
            reads: check.reads.clone(),
            lineage: lineage(&graph, &check.reads),
            sources: Vec::new(),
            read_by: Vec::new(),
            last_built: None,
            next_run: None,
        };
        if explained.description.is_empty() {
            // It is named as the claim that it makes.
            explained.description = check.name.replace('_', " ");
        }
        return Ok(explained);
    }
    let dictionary = Dictionary::of(workspace, &graph).await?;
    let Some(table) = dictionary.tables.iter().find(|table| table.name == name) else {
        let tables = dictionary.tables.iter().map(|table| table.name.as_str());
        let checks = graph.checks.iter().map(|check| check.name.as_str());
        let codes = REASONS.iter().map(|reason| reason.code);
        return Err(unknown(name).hint_nearest(name, tables.chain(checks).chain(codes)));
    };
    let model = graph.model(name);
    let is_of_events = name == "events" || table.sources.iter().any(|source| source == "events");
    let sources = &workspace.project.config.sources;
    Ok(Explained {
        name: table.name.clone(),
        origin: model.map(|model| model.origin.clone()),
        description: table.description.clone(),
        grain: table.grain.clone(),
        build: model.map_or("not by a model: runs keep it themselves".into(), build_in_words),
        publish: model.map(publish_in_words),
        checks: table.checks.clone(),
        reads: table.reads.clone(),
        lineage: lineage(&graph, &table.reads),
        sources: sources.iter().filter(|_| is_of_events).map(|source| source.name.clone()).collect(),
        read_by: table.read_by.clone(),
        last_built: match model {
            Some(_) => last_built(workspace, name).await?,
            None => None,
        },
        next_run: match model {
            Some(_) => next_run(workspace, name).await?,
            None => None,
        },
    })
}

/// Why the next run would build a model.
async fn next_run(workspace: &Workspace, name: &str) -> Result<Option<String>> {
    let steps = run::dry_run(workspace, &Options { land: true, build: true, ..Options::default() }).await?;
    Ok(steps.into_iter().find(|(stage, what, _)| stage == "build" && what == name).map(|(_, _, why)| why))
}

/// The error of a name that is no code and no model.
pub fn unknown(name: &str) -> Error {
    Error::invalid(format!("`{name}` is no table, model, check, reason code or exit code"))
        .hint("wayline docs lists the tables")
        .hint_nearest(name, REASONS.iter().map(|reason| reason.code))
}

/// Every model upstream, the nearest first.
fn lineage(graph: &Graph, reads: &[String]) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut open = reads.to_vec();
    while !open.is_empty() {
        let mut next = Vec::new();
        for model in open.iter().filter_map(|name| graph.model(name)) {
            if !found.iter().any(|(known, _)| *known == model.name) {
                next.extend(model.reads.clone());
                found.push((model.name.clone(), model.reads.clone()));
            }
        }
        open = next;
    }
    found
}

fn build_in_words(model: &Model) -> String {
    match &model.header.build {
        Build::Full => "whole, when something that it reads has changed".into(),
        Build::View => "not at all: a view, planned into whatever reads it".into(),
        Build::ByDay(day) => format!("by day: rows of a {day} are made anew when something of that day has changed"),
        Build::BySum(_) => {
            "by sum: what the rows of touched customers came to is taken off, and what they come to now is added".into()
        }
        Build::ByCustomer(ByCustomer { merged_by: None, .. }) => {
            "by customer: the rows of a customer are made anew when something has touched that customer".into()
        }
        Build::ByCustomer(ByCustomer { merged_by: Some((times, ids)), .. }) => {
            format!(
                "by customer: rows of touched customers take up their new events, in the order of {times} and {ids}"
            )
        }
    }
}

fn publish_in_words(model: &Model) -> String {
    match &model.header.publish {
        Publish::No => "not at all: SQL sees it, BI tools do not".into(),
        Publish::File => format!("as one file, marts/{}.parquet", model.name),
        Publish::ByDay(day) => format!("as one file per day, marts/{}/{day}=…/part-0.parquet", model.name),
    }
}

async fn last_built(workspace: &Workspace, name: &str) -> Result<Option<LastBuilt>> {
    let lake = &workspace.lake;
    let mut reports = lake.list(RUNS).await?;
    reports.sort_by_key(|object| std::cmp::Reverse(object.last_modified));
    let unique_id = format!("model.wayline.{name}");
    for object in reports.iter().take(MOST_REPORTS) {
        let Some(path) = lake.relative(&object.location) else { continue };
        // A report of another version may have another shape.
        let Some(report) = lake.get(&path).await?.and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok())
        else {
            continue;
        };
        if let Some(line) = report.results.iter().find(|line| line.unique_id == unique_id && line.is_well()) {
            return Ok(Some(LastBuilt {
                run_id: report.metadata.invocation_id.clone(),
                at: line
                    .timing
                    .first()
                    .map_or(report.metadata.generated_at.clone(), |timing| timing.completed_at.clone()),
                message: line.message.clone(),
                rows: line.rows,
            }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_found_by_number_and_by_the_kind_of_error() {
        let exit = |name| match code(name) {
            Some(Code::Exit(exit)) => exit.code,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!((exit("75"), exit("Unavailable"), exit("invalid"), exit("0")), (75, 75, 2, 0));
        assert!(matches!(code("tz_invalid"), Some(Code::Reason(reason)) if !reason.remedy.is_empty()));
        assert!(code("nonsense").is_none());
    }
}
