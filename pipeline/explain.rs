//! What a code, an exit code or a model is, in words.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::landing::reasons::{REASONS, Reason, reason};
use crate::models::graph::{Graph, Model};
use crate::models::header::{Build, ByCustomer, Publish};
use crate::run::report::{RUNS, Report};
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
        kinds: &["corrupt", "internal"],
        meaning: "a step or a data check failed; what could be built was built, and what failed is not published",
        remedy: "read the lines on stderr that say Error or Fail; for damage run wayline fsck",
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

/// A model in words.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub origin: String,
    /// What it is.
    pub description: String,
    /// Columns that tell one row from another.
    pub grain: Vec<String>,
    /// How it is built.
    pub build: String,
    /// How it is published.
    pub publish: String,
    /// The rules that its rows must keep, and the checks that read it.
    pub checks: Vec<String>,
    /// What it reads.
    pub reads: Vec<String>,
    /// All that it is made of, from what it reads to what was landed, each with what that reads.
    pub lineage: Vec<(String, Vec<String>)>,
    /// The sources of the configuration, where it is made of landed events.
    pub sources: Vec<String>,
    /// What reads it.
    pub read_by: Vec<String>,
    /// When and why it was built last.
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

/// Explains a model or check of a project.
///
/// Errors: a name that is none, with the nearest one.
pub async fn model(workspace: &Workspace, name: &str) -> Result<Explained> {
    let graph = Graph::load(&workspace.ctx, &workspace.project.folder.join("queries"))?;
    let Some(model) = graph.models.iter().chain(&graph.checks).find(|model| model.name == name) else {
        let names: BTreeSet<&str> = graph.models.iter().chain(&graph.checks).map(|model| model.name.as_str()).collect();
        let known = names.into_iter().chain(REASONS.iter().map(|reason| reason.code));
        return Err(unknown(name).hint_nearest(name, known));
    };
    let lineage = lineage(&graph, model);
    let is_landed = |name: &str| matches!(name, "events" | "dead_letters" | "batches");
    let touches_landed = lineage.iter().any(|(name, _)| !model.is_check && graph.model(name).is_none())
        || model.reads.iter().any(|read| is_landed(read));
    let steps = run::dry_run(workspace, &Options { land: true, build: true, ..Options::default() }).await?;
    let next_run = steps.into_iter().find(|(stage, what, _)| stage == "build" && what == name).map(|(_, _, why)| why);
    let rules = model.header.checks.iter().map(ToString::to_string);
    let checks = graph.checks.iter().filter(|check| check.reads.contains(&model.name)).map(|check| check.name.clone());
    let readers = graph.models.iter().filter(|other| other.reads.contains(&model.name)).map(|other| other.name.clone());
    Ok(Explained {
        name: model.name.clone(),
        origin: model.origin.clone(),
        description: description(model),
        grain: model.header.grain.clone(),
        build: build_in_words(model),
        publish: publish_in_words(model),
        checks: rules.chain(checks).collect(),
        reads: model.reads.clone(),
        sources: match touches_landed {
            true => workspace.project.config.sources.iter().map(|source| source.name.clone()).collect(),
            false => Vec::new(),
        },
        lineage,
        read_by: readers.collect(),
        last_built: last_built(workspace, &model.name).await?,
        next_run,
    })
}

/// The error of a name that is no code and no model.
pub fn unknown(name: &str) -> Error {
    Error::invalid(format!("`{name}` is no model, check, reason code or exit code"))
        .hint("wayline sql -c \"show tables\" lists the models")
        .hint_nearest(name, REASONS.iter().map(|reason| reason.code))
}

fn description(model: &Model) -> String {
    match (model.header.description.is_empty(), model.is_check) {
        (false, _) => model.header.description.clone(),
        (true, true) => model.name.replace('_', " "),
        (true, false) => "its header says nothing of it".into(),
    }
}

/// Everything upstream, the nearest first.
fn lineage(graph: &Graph, model: &Model) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut open: Vec<String> = model.reads.clone();
    while !open.is_empty() {
        let mut next = Vec::new();
        for name in open {
            if found.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let reads = graph.model(&name).map(|model| model.reads.clone()).unwrap_or_default();
            next.extend(reads.clone());
            found.push((name, reads));
        }
        open = next;
    }
    found
}

fn build_in_words(model: &Model) -> String {
    if model.is_check {
        return "a check: a query that must return no rows, run after what it reads was built".into();
    }
    match &model.header.build {
        Build::Full => "whole, when something that it reads has changed".into(),
        Build::View => "not at all: a view, planned into whatever reads it".into(),
        Build::ByDay(day) => format!("by day: rows of a {day} are made anew when something of that day has changed"),
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
