//! `wayline replay`: what can be asked of it and what it says.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Global;
use super::commands::open;
use super::messages::Messages;
use super::output::Output;
use super::progress::Shown;
use crate::error::{Error, Result};
use crate::lake::Lock;
use crate::landing::ledger::Counts;
use crate::landing::reasons::{REASONS, reason};
use crate::landing::replay::{Replayed, Selection, dry_run, replay};
use crate::run::Progress;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Only dead letters of this reason
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Only dead letters of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only dead letters that came with this batch
    #[arg(long, value_name = "NUMBER")]
    batch: Option<i64>,
    /// Say what would be taken up and what would be refused again; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Takes dead letters up again.
pub async fn run(args: ReplayArgs, global: &Global) -> Result<ExitCode> {
    let workspace = open(global)?;
    check(&workspace, &args)?;
    let ReplayArgs { reason, source, batch, dry_run: is_dry, .. } = args;
    let selection = Selection { reason, source, batch };
    let mut replayed = Replayed::default();
    let mut ended = Ok(());
    if is_dry {
        replayed = dry_run(&workspace, &selection).await?;
    } else {
        let _lock = Lock::take(&workspace.project.folder, &workspace.lake)?;
        let mut shown = Shown::new(Messages(global.log_format));
        shown.stage("replay");
        ended = replay(&workspace, &selection, &mut replayed, &mut |done, total| shown.read(done, total)).await;
    }
    let mut out = Output::stdout();
    match (&ended, global.json) {
        (Ok(()), true) => {
            writeln!(out, "{}", json!({"status": "done", "exit_code": 0, "dry_run": is_dry, "replay": replayed}))?;
        }
        // What was committed before an error is told too; the line of the error comes last.
        (Err(_), _) if replayed.batches.is_empty() => {}
        (Err(_), true) => writeln!(out, "{}", json!({"status": "stopped", "dry_run": is_dry, "replay": replayed}))?,
        (_, false) => print(&replayed, is_dry, &mut out)?,
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// A slip in a name would find nothing, and look as if nothing were to be done.
fn check(workspace: &Workspace, args: &ReplayArgs) -> Result<()> {
    if let Some(code) = &args.reason
        && reason(code).is_none()
    {
        let error = Error::invalid(format!("`{code}` is no reason code"));
        return Err(error.hint_nearest(code, REASONS.iter().map(|reason| reason.code)));
    }
    let mut names = workspace.project.config.sources.iter().map(|source| source.name.as_str());
    if let Some(source) = &args.source
        && !names.clone().any(|name| name == source)
    {
        return Err(Error::invalid(format!("no source is named `{source}`")).hint_nearest(source, &mut names));
    }
    Ok(())
}

fn print(replayed: &Replayed, is_dry: bool, out: &mut impl Write) -> Result<()> {
    let total = replayed.sources.values().fold(Counts::default(), |mut total, counts| {
        total.add(counts);
        total
    });
    let count = |letters: &BTreeMap<String, u64>| letters.values().sum::<u64>();
    let (taken_up, refused, left) = (count(&replayed.taken_up), count(&replayed.refused), count(&replayed.left));
    if taken_up + refused + left == 0 && replayed.batches.is_empty() {
        writeln!(out, "no dead letter is to be taken up")?;
        return Ok(());
    }
    let would = if is_dry { "would be " } else { "" };
    writeln!(
        out,
        "{taken_up} dead letters {would}taken up, {refused} {would}refused again, {left} {would}left as they are"
    )?;
    let parts = [("taken up", &replayed.taken_up), ("refused", &replayed.refused), ("left", &replayed.left)];
    for (what, letters) in parts {
        for (why, count) in letters {
            writeln!(out, "  {what:<10} {count:>8}  {why}")?;
        }
    }
    if let (Some(first), Some(last)) = (replayed.batches.first(), replayed.batches.last()) {
        let batches = if first == last { format!("batch {first}") } else { format!("batches {first} to {last}") };
        let Counts { landed, duplicates, dead_letters, .. } = total;
        writeln!(out, "{batches}: {landed} events, {duplicates} duplicates, {dead_letters} dead letters")?;
        if landed > 0 {
            writeln!(out, "next        wayline run")?;
        }
    }
    Ok(())
}
