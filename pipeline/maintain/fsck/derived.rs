//! Derived tables: what they and the catalog say of the tables that they were made from. A table that lost its newest version
//! is a whole table, and older than what was made from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::tables::check_file;
use super::{Finding, Findings, Sound};
use crate::derived::changes::{CHANGES, Changes, DOCUMENTS_KEPT, FILES};
use crate::derived::{BUILT_FROM, BuiltFrom};
use crate::error::{Kind, Result};
use crate::identity::stage as identity;
use crate::lake::Lake;
use crate::marts::Catalog;
use crate::models::graph::Graph;
use crate::models::{self, NodeResult, Status};
use crate::run::report::micros;
use crate::run::{Report, RunStatus};
use crate::workspace::Workspace;

/// What a lost version of a derived table needs.
const RUN: &str = "restore the newest version, or run again";

/// Compares the records of derived tables with each other, with the catalog and with what runs reported. Documents of
/// changes may be gone once a lake `is_vacuumed`.
pub async fn check(
    workspace: &Workspace,
    tables: &BTreeMap<String, Sound>,
    reports: &[Report],
    is_vacuumed: bool,
    found: &mut Findings,
) -> Result<()> {
    let lake = &workspace.lake;
    // Models that cannot be read are not what is looked for here.
    let graph = Graph::load(&workspace.ctx, &workspace.project.folder.join("queries")).unwrap_or_default();
    never_built(&graph, tables, reports, found);
    let Some((changes, changed_at)) = changes(lake, reports, is_vacuumed, found).await? else { return Ok(()) };
    let mut fingerprints = BTreeMap::new();
    // A table that was left when its model became a view says nothing of what is there now.
    let views = graph.models.iter().filter(|model| !model.header.build.is_table());
    let views: BTreeSet<String> = views.map(|view| models::folder(&view.name)).collect();
    for (folder, Sound { table, newest }) in tables.iter().filter(|(folder, _)| !views.contains(*folder)) {
        let stands_on = (table.id()?, table.version());
        let over = changes.tables.get(folder).filter(|over| over.table == stands_on);
        let built_from = match over {
            Some(over) => Some(over.built_from.clone()),
            None => table.property(BUILT_FROM)?.and_then(|json| serde_json::from_str::<BuiltFrom>(&json).ok()),
        };
        // When a change came is not told, only that it was there with the newest document.
        let newest = if over.is_some() { changed_at } else { *newest };
        let Some(built_from) = built_from else { continue };
        fingerprints.insert(folder.clone(), (built_from.fingerprint(), newest, built_from.reads, over.is_some()));
    }
    let mut lost: BTreeMap<String, String> = BTreeMap::new();
    for (reader, (_, read_at, reads, _)) in fingerprints.iter().filter(|(_, (.., is_changed))| !is_changed) {
        for (name, fingerprint) in reads {
            let folder =
                if identity::TABLES.contains(&name.as_str()) { identity::folder(name) } else { models::folder(name) };
            let Some((now, newest, ..)) = fingerprints.get(&folder) else { continue };
            // What was built after the table's newest version read that one.
            if now != fingerprint && read_at > newest {
                lost.insert(folder, format!("{reader} was built from a later version than is there"));
            }
        }
    }
    // A catalog that cannot be read is a finding of its own.
    for (name, mart) in Catalog::load(lake).await.unwrap_or_default().marts {
        let folder = models::folder(&name);
        let Some((now, newest, ..)) = fingerprints.get(&folder) else { continue };
        let begun = begin_of(&mart.run_id);
        if *now != mart.fingerprint && begun.is_some() && begun > *newest {
            lost.insert(folder, "it was published from a later version than is there".into());
        }
    }
    let of_identity: Vec<Option<&String>> = identity::TABLES
        .iter()
        .map(|name| fingerprints.get(&identity::folder(name)).map(|(fingerprint, ..)| fingerprint))
        .collect();
    if of_identity.windows(2).any(|pair| pair[0] != pair[1]) {
        let what = "the tables were not built together: one was lost, or a run was cut short";
        lost.insert("identity".into(), what.into());
    }
    let is_named = |folder: &str| found.findings.iter().any(|finding| finding.place.starts_with(folder));
    let lost: Vec<_> = lost.into_iter().filter(|(folder, _)| !is_named(folder)).collect();
    found.findings.extend(lost.into_iter().map(|(folder, what)| Finding::new(folder, what, RUN)));
    Ok(())
}

/// Names models that a run built and that have no table.
fn never_built(graph: &Graph, tables: &BTreeMap<String, Sound>, reports: &[Report], found: &mut Findings) {
    for model in graph.models.iter().filter(|model| model.header.build.is_table()) {
        let folder = models::folder(&model.name);
        let id = models::result("model", &model.name, Status::Success, Instant::now(), String::new()).unique_id;
        let is_built = |line: &NodeResult| line.unique_id == id && line.status == Status::Success;
        let was_built = reports.iter().flat_map(|report| &report.results).any(is_built);
        let is_named = found.findings.iter().any(|finding| finding.place.starts_with(&folder));
        if was_built && !tables.contains_key(&folder) && !is_named {
            found.findings.push(Finding::new(folder, "a run built this table and it is gone", RUN));
        }
    }
}

/// The changes in force and the time of their document, if all of their files are there; else what is wrong with them.
async fn changes(
    lake: &Lake,
    reports: &[Report],
    is_vacuumed: bool,
    found: &mut Findings,
) -> Result<Option<(Changes, Option<DateTime<Utc>>)>> {
    let before = found.findings.len();
    let remedy = "restore it from a copy; or remove changes/, identity/ and models/ and run again: they are derived";
    let changes = match Changes::load(lake).await {
        Ok(changes) => changes,
        Err(error) if error.kind() == Kind::Corrupt => {
            found.findings.push(Finding::new(CHANGES, error.to_string(), remedy));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    for part in changes.parts() {
        let path = format!("{FILES}/{}", part.path);
        let what = check_file(lake, &path, part.size, part.rows).await?;
        found.findings.extend(what.map(|what| Finding::new(path, what, remedy)));
    }
    let files = lake.list(CHANGES).await?;
    let (data, documents): (Vec<_>, Vec<_>) =
        files.iter().partition(|file| lake.relative(&file.location).is_some_and(|path| path.starts_with(FILES)));
    let numbers: Vec<u64> =
        documents.iter().filter_map(|file| file.location.filename()?.strip_suffix(".json")?.parse().ok()).collect();
    // Of many the first are removed as others follow.
    let are_few = (numbers.len() as u64) < DOCUMENTS_KEPT;
    let begins_late = are_few && numbers.first().is_some_and(|first| *first > 1) && !is_vacuumed;
    if begins_late || numbers.windows(2).any(|pair| pair[1] != pair[0] + 1) {
        let what = "documents are gone that others followed";
        found.findings.push(Finding::new(CHANGES, what, "none is needed but for readers of old versions"));
    }
    let built = reports.iter().rev().find(|report| report.args.build && report.status == RunStatus::Success);
    let built_as_of = built.and_then(|report| micros(report.as_of.as_deref()?));
    if built_as_of.is_some() && changes.states.last().and_then(|state| state.as_of) < built_as_of {
        let what = "the newest document is older than the last run: one was lost";
        found.findings.push(Finding::new(CHANGES, what, "restore it from a copy, or run again"));
    }
    let newest = documents.last().map(|file| file.last_modified);
    let later = data.iter().filter(|file| newest.is_none_or(|newest| file.last_modified > newest)).count();
    if later > 0 {
        let what = format!("{later} files came after the newest document and none names them");
        let remedy = "wayline run ends what was cut short; if a document was lost, restore it from a copy";
        found.findings.push(Finding::new(CHANGES, what, remedy));
    }
    Ok((found.findings.len() == before).then_some((changes, newest)))
}

/// When a run began, by its id.
fn begin_of(run_id: &str) -> Option<DateTime<Utc>> {
    let (time, _) = run_id.split_once('-')?;
    Some(NaiveDateTime::parse_from_str(time, "%Y%m%dT%H%M%SZ").ok()?.and_utc())
}
