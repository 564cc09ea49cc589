//! What is wrong with a set-up: configuration, secrets, sources, store, machine. Each finding is a line with a remedy.
//!
//! Nothing is changed: what is tried on the store is tried under a name of its own and removed again.

mod layout;
mod machine;
mod sources;
mod store;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::config::{PSEUDONYM_KEY, Project};
use crate::error::Error;
use crate::models::graph::Graph;
use crate::workspace::Workspace;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and may not go on to.
    Warn,
    /// A run would fail, or go wrong.
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub message: String,
    /// What to do about it, where there is something to do.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(check: &str, message: impl Into<String>) -> Self {
        Self { check: check.into(), level: Level::Ok, message: message.into(), remedy: None }
    }

    fn warn(check: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check: check.into(), level: Level::Warn, message: message.into(), remedy: Some(remedy.into()) }
    }

    fn fail(check: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check: check.into(), level: Level::Fail, message: message.into(), remedy: Some(remedy.into()) }
    }

    fn of_error(check: &str, error: &Error, otherwise: &str) -> Self {
        Self::fail(check, error.to_string(), error.remedy().unwrap_or(otherwise))
    }
}

/// All findings.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
    /// Whether the configuration or a model can be read at all.
    pub is_configured: bool,
}

impl Findings {
    /// How bad the worst is.
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    fn add(&mut self, found: impl IntoIterator<Item = Finding>) {
        self.findings.extend(found);
    }
}

/// Looks at the project in a folder. `tell` is given each finding as it is made.
pub async fn examine(folder: &Path, mut tell: impl FnMut(&Finding)) -> Findings {
    let mut findings = Findings::default();
    let mut told = 0;
    let mut tell_new = |findings: &Findings| {
        findings.findings[told..].iter().for_each(&mut tell);
        told = findings.findings.len();
    };
    findings.add(machine::clock());
    findings.add(machine::open_files());
    tell_new(&findings);
    let project = match Project::load(folder) {
        Ok(project) => project,
        Err(error) => {
            findings.add([Finding::of_error("configuration", &error, "wayline init DIR writes a project")]);
            tell_new(&findings);
            return findings;
        }
    };
    findings.is_configured = true;
    findings.add([configuration(&project)]);
    findings.add([secrets(&project)]);
    findings.add(machine::memory(&project));
    tell_new(&findings);
    let workspace = match Workspace::open_to_look(project) {
        Ok(workspace) => workspace,
        Err(error) => {
            findings.add([Finding::of_error("lake", &error, "mend [lake] url")]);
            tell_new(&findings);
            return findings;
        }
    };
    match models(&workspace) {
        Ok(finding) => findings.add([finding]),
        Err(error) => {
            findings.is_configured = false;
            findings.add([Finding::of_error("models", &error, "mend the model's file")]);
        }
    }
    tell_new(&findings);
    findings.add(store::semantics(&workspace).await);
    findings.add(machine::disk(&workspace));
    tell_new(&findings);
    findings.add(sources::all(&workspace).await);
    findings.add(layout::lock(&workspace));
    findings.add(layout::marts(&workspace).await);
    tell_new(&findings);
    findings
}

fn configuration(project: &Project) -> Finding {
    let config = &project.config;
    let message = format!("{} sources, {} funnels", config.sources.len(), config.funnels.len());
    if config.sources.is_empty() {
        return Finding::warn(
            "configuration",
            message,
            "name a source in [[sources]]; wayline init --from FILE guesses one",
        );
    }
    match config.journeys.goal.is_empty() {
        true => Finding::warn(
            "configuration",
            format!("{message}; no goal, so no journey converts"),
            "name one in [journeys] goal",
        ),
        false => Finding::ok("configuration", message),
    }
}

fn secrets(project: &Project) -> Finding {
    match project.pseudonym_key() {
        Ok(None) => Finding::ok("secrets", "no identifier is pseudonymised, so no key is needed"),
        Ok(Some(_)) => match readable_by_all(&format!("{PSEUDONYM_KEY}_FILE")) {
            Some(path) => {
                Finding::warn("secrets", format!("{path} can be read by everybody"), format!("chmod 600 {path}"))
            }
            None => Finding::ok("secrets", format!("the key of pseudonyms is there ({PSEUDONYM_KEY})")),
        },
        Err(error) => Finding::of_error("secrets", &error, "set the key"),
    }
}

/// The file that a variable names, if others than its owner can read it.
fn readable_by_all(variable: &str) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var(variable).ok()?;
    let mode = std::fs::metadata(&path).ok()?.permissions().mode();
    (mode & 0o004 != 0).then_some(path)
}

fn models(workspace: &Workspace) -> crate::error::Result<Finding> {
    let graph = Graph::load(&workspace.ctx, &workspace.project.folder.join("queries"))?;
    graph.expect_reads()?;
    Ok(Finding::ok("models", format!("{} models and {} checks can be read", graph.models.len(), graph.checks.len())))
}
