//! `wayline explain`: codes and models in words.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use super::Global;
use super::commands;
use super::output::Output;
use crate::error::Result;
use crate::explain::{self, Code, Explained};

/// Explains a code, which needs no project, or a model of the project.
pub async fn explain(global: &Global, name: &str) -> Result<ExitCode> {
    let mut out = Output::stdout();
    match explain::code(name) {
        Some(Code::Reason(reason)) if global.json => writeln!(out, "{}", json!(reason))?,
        Some(Code::Exit(exit)) if global.json => writeln!(out, "{}", json!(exit))?,
        Some(Code::Reason(reason)) => {
            writeln!(out, "{}: {}", reason.code, reason.meaning)?;
            writeln!(out, "  what becomes of it  {}", reason.fate.words())?;
            writeln!(out, "  to mend it          {}", reason.remedy)?;
        }
        Some(Code::Exit(exit)) => {
            writeln!(out, "exit code {}: {}", exit.code, exit.meaning)?;
            if !exit.kinds.is_empty() {
                writeln!(out, "  errors     {}", exit.kinds.join(", "))?;
            }
            writeln!(out, "  what to do  {}", exit.remedy)?;
        }
        None => {
            let workspace = match commands::open_to_read(global) {
                Ok(workspace) => workspace,
                // Without a project a name can only be that of a code.
                Err(error) if global.project.is_none() => return Err(explain::unknown(name).caused_by(error)),
                Err(error) => return Err(error),
            };
            let explained = explain::table(&workspace, name).await?;
            match global.json {
                true => writeln!(out, "{}", serde_json::to_string(&explained)?)?,
                false => print(&explained, &mut out)?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(model: &Explained, out: &mut impl Write) -> std::io::Result<()> {
    let origin = model.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
    writeln!(out, "{}{origin}\n\n{}\n", model.name, model.description)?;
    let mut line = |name: &str, text: &str| match text.is_empty() {
        true => Ok(()),
        false => writeln!(out, "{name:<11} {text}"),
    };
    line("one row per", &model.grain.join(", "))?;
    line("built", &model.build)?;
    line("published", model.publish.as_deref().unwrap_or_default())?;
    line("checks", &model.checks.join("; "))?;
    line("reads", &model.reads.join(", "))?;
    for (name, reads) in &model.lineage {
        if !reads.is_empty() {
            line("", &format!("{name} reads {}", reads.join(", ")))?;
        }
    }
    line("sources", &model.sources.join(", "))?;
    line("read by", &model.read_by.join(", "))?;
    match &model.last_built {
        Some(built) => {
            let rows = built.rows.map(|rows| format!(", {rows} rows written")).unwrap_or_default();
            line("last built", &format!("{} by run {}: {}{rows}", built.at, built.run_id, built.message))?;
        }
        None if model.origin.is_none() => return line("more", &format!("wayline docs {}", model.name)),
        // A check is run and not built.
        None if model.publish.is_none() => return Ok(()),
        None => line("last built", "no report of a run tells of it")?,
    }
    line("next run", &model.next_run.as_ref().map_or("leaves it as it is".into(), |why| format!("builds it: {why}")))
}
