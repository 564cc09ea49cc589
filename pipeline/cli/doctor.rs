//! `wayline doctor`: what it says.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::Global;
use super::commands::FAILED;
use super::output::Output;
use crate::doctor::{Findings, Level, examine};
use crate::error::Result;

/// A configuration that cannot be read is wrong usage.
const MISCONFIGURED: u8 = 2;

/// Looks at everything, and says each finding as it is made.
pub async fn doctor(global: &Global) -> Result<ExitCode> {
    let folder = global.project.as_deref().unwrap_or(Path::new("."));
    let mut out = Output::stdout();
    let mut failed = Ok(());
    let findings = examine(folder, |finding| {
        if global.json || failed.is_err() {
            return;
        }
        let message = finding.message.replace('\n', " ");
        failed = writeln!(out, "{:<5} {:<18} {message}", finding.level, finding.check).and_then(|()| {
            match &finding.remedy {
                Some(remedy) => writeln!(out, "{:<5} {:<18} {remedy}", "", "  to mend it:"),
                None => Ok(()),
            }
        });
    })
    .await;
    failed?;
    let code = exit_code(&findings);
    if global.json {
        let worst = findings.worst();
        writeln!(out, "{}", json!({"status": worst, "exit_code": code, "findings": findings.findings}))?;
    } else {
        let count = |level| findings.findings.iter().filter(|finding| finding.level == level).count();
        let (warned, failed) = (count(Level::Warn), count(Level::Fail));
        writeln!(out, "{} looked at, {warned} to watch, {failed} to mend", findings.findings.len())?;
    }
    Ok(ExitCode::from(code))
}

fn exit_code(findings: &Findings) -> u8 {
    match (findings.worst(), findings.is_configured) {
        (Level::Fail, true) => FAILED,
        (Level::Fail, false) => MISCONFIGURED,
        _ => 0,
    }
}
