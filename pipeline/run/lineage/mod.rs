//! Lineage: what each run read and wrote, as events of OpenLineage.
//!
//! When a run has ended that did something, a START and a COMPLETE or FAIL are told of the run itself, of landing, of each
//! model that was built and of each mart that was published, to a file, a URL or both. A run that is killed tells nothing;
//! the next one does what is left and tells that. Nothing here makes a run fail: what cannot be told is a warning.
//!
//! Names follow OpenLineage's naming: a dataset of the local disk is `file` and its path, one of an object store is the
//! bucket's URL and its key. Ids of runs are made of ours, so that what is told twice is the same.
//!
//! Why not the crate that traces queries of DataFusion: it sees single queries, and not that one is a model, which rows a
//! check refused or what was published; and it brings an RPC framework along.
//!
//! Source: OpenLineage, specification 2-0-2 and its facets.

mod columns;
mod datasets;
mod events;
mod send;

use std::path::PathBuf;

use serde_json::Value;

use self::events::Story;
use super::report::Report;
use super::tables::load_graph;
use crate::config::environment;
use crate::error::{Error, Result};
use crate::workspace::Workspace;

/// Where events go and what is said in all of them.
#[derive(Debug, Default)]
struct Settings {
    file: Option<PathBuf>,
    /// Where events are posted to.
    url: Option<String>,
    api_key: Option<String>,
    namespace: String,
    /// Name of the project's jobs.
    job: String,
    /// The run of a scheduler that started this one.
    parent: Option<Parent>,
}

/// The run of another system.
#[derive(Debug, PartialEq, Eq)]
struct Parent {
    namespace: String,
    job: String,
    run: String,
}

/// Tells of a run that has ended, if anybody wants to know.
pub(super) async fn tell(workspace: &Workspace, report: &Report) {
    let Some(settings) = settings(workspace, environment()) else { return };
    let warn = |error: Error| tracing::warn!(%error, "could not tell of lineage");
    let events = match events(workspace, report, &settings).await {
        Ok(events) => events,
        Err(error) => return warn(error),
    };
    // One that does not take them keeps them from no other.
    let to_file = settings.file.as_ref().map_or(Ok(()), |file| send::append(file, &events));
    to_file.unwrap_or_else(warn);
    if let Some(url) = &settings.url {
        send::post(url, settings.api_key.as_deref(), &events).await.unwrap_or_else(warn);
    }
}

async fn events(workspace: &Workspace, report: &Report, settings: &Settings) -> Result<Vec<Value>> {
    let graph = &load_graph(workspace)?;
    let columns = columns::of_models(workspace, graph).await;
    Story { workspace, graph, report, settings, columns }.events().await
}

/// The settings of `[lineage]` with those of the environment over them; `None` when nobody wants to know.
fn settings(workspace: &Workspace, environment: impl Iterator<Item = (String, String)>) -> Option<Settings> {
    let configured = &workspace.project.config.lineage;
    let folder = &workspace.project.folder;
    let mut settings = Settings {
        file: configured.file.as_ref().map(|file| folder.join(file)),
        url: configured.url.clone(),
        namespace: configured.namespace.clone(),
        job: configured.job.clone().unwrap_or_else(|| name_of(folder)),
        ..Settings::default()
    };
    let mut endpoint = "api/v1/lineage".to_string();
    for (name, value) in environment.filter(|(_, value)| !value.is_empty()) {
        match name.as_str() {
            "OPENLINEAGE_DISABLED" if value.eq_ignore_ascii_case("true") => return None,
            "OPENLINEAGE_URL" => settings.url = Some(value),
            "OPENLINEAGE_ENDPOINT" => endpoint = value,
            "OPENLINEAGE_API_KEY" => settings.api_key = Some(value),
            "OPENLINEAGE_NAMESPACE" => settings.namespace = value,
            "OPENLINEAGE_PARENT_ID" => settings.parent = parent(&value),
            _ => {}
        }
    }
    settings.url =
        settings.url.map(|url| format!("{}/{}", url.trim_end_matches('/'), endpoint.trim_start_matches('/')));
    (settings.file.is_some() || settings.url.is_some()).then_some(settings)
}

/// `namespace/job/run`, of which the namespace may hold slashes.
fn parent(text: &str) -> Option<Parent> {
    let mut parts = text.rsplitn(3, '/');
    let (run, job, namespace) = (parts.next()?, parts.next()?, parts.next()?);
    if uuid::Uuid::parse_str(run).is_err() {
        tracing::warn!("OPENLINEAGE_PARENT_ID is not namespace/job/run with a UUID at its end, and is passed over");
        return None;
    }
    Some(Parent { namespace: namespace.into(), job: job.into(), run: run.into() })
}

/// Name of a project: that of its folder.
fn name_of(folder: &std::path::Path) -> String {
    let folder = std::path::absolute(folder).unwrap_or_default();
    folder.file_name().map_or_else(|| "wayline".into(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_split_from_its_end() {
        let run = "0190c6a4-7b3e-7c57-b4b1-1d3f5f0c9a10";
        let found = parent(&format!("airflow://prod/eu/daily.journeys/{run}")).unwrap();
        assert_eq!(
            found,
            Parent { namespace: "airflow://prod/eu".into(), job: "daily.journeys".into(), run: run.into() }
        );
        assert_eq!(parent("airflow/daily/17"), None);
        assert_eq!(parent(run), None);
    }
}
