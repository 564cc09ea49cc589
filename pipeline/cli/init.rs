//! `wayline init`: what can be asked of it and what it says.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Global;
use super::messages::Messages;
use super::output::Output;
use crate::error::{Error, Result};
use crate::init::{self, Guessed, Made, Options, Proposal};
use crate::sources::Format;

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Files, folders, quoted patterns or URLs of your own data, of which the mapping is guessed: JSON Lines, CSV or
    /// Parquet, plain, gzip or zstd. They stay where they are
    #[arg(long, value_name = "FILE", num_args = 1..)]
    from: Vec<String>,
    /// Shape of the files, where it is not recognised by itself; alone, a project that waits for such files
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(init::preset::names()))]
    preset: Option<String>,
    /// New folder for the project [default: .]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Writes a project and says what speaks for each guess.
pub async fn init(mut args: InitArgs, global: &Global) -> Result<ExitCode> {
    if global.project.is_some() {
        return Err(Error::invalid("--project says nothing here").hint("the new folder is the argument itself"));
    }
    // `--from a.csv b.csv mine`: the shell gives no sign where the files end.
    if args.folder.is_none() && args.from.len() > 1 && args.from.last().is_some_and(|last| is_new_folder(last)) {
        args.folder = args.from.pop().map(PathBuf::from);
    }
    let folder = args.folder.unwrap_or_else(|| PathBuf::from("."));
    let options = Options { folder: folder.clone(), from: args.from, preset: args.preset };
    let made = init::init(&options).await?;
    let messages = Messages(global.log_format);
    made.sources.iter().for_each(|source| tell(source, messages));
    for (pattern, why) in &made.left_out {
        let place = if why.starts_with(pattern) { String::new() } else { format!("{pattern}: ") };
        messages.say(&format!("left out {place}{why}"));
    }
    for path in &made.spared {
        messages.say(&format!("left {path} as it is"));
    }
    if !options.from.is_empty() {
        tell_proposal(&made, messages);
    }
    let mut out = Output::stdout();
    if global.json {
        writeln!(out, "{}", json!({"status": "done", "exit_code": 0, "folder": folder, "made": made}))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "wrote {} in {}", made.files.join(", "), folder.display())?;
    let project = if folder == Path::new(".") { String::new() } else { format!(" --project {}", folder.display()) };
    writeln!(out, "next: wayline check{project}\n      wayline run{project}")?;
    Ok(ExitCode::SUCCESS)
}

fn is_new_folder(text: &str) -> bool {
    let is_pattern = text.contains(['*', '?', '[', '{']) || text.contains("://");
    !is_pattern && Format::from_name(text).is_none() && !Path::new(text).exists()
}

fn tell(source: &Guessed, messages: Messages) {
    let preset = source.preset.as_ref().map(|(name, why)| format!(", preset {name} ({why})")).unwrap_or_default();
    messages.say(&format!("source {}: {}{preset}", source.name, source.pattern));
    let line = |name: &str, expression: &str, evidence: &str| {
        messages.say(&format!("  {name:<14} {expression:<36}  {evidence}"));
    };
    for name in init::EVENT_COLUMNS {
        if let Some(guess) = source.columns.get(name) {
            line(name, &guess.expression, &guess.evidence);
        }
    }
    for (kind, guess) in &source.identifiers {
        line(kind, &guess.expression, &guess.evidence);
    }
    if source.records > 0 {
        messages.say(&format!("  {} of {} records that were looked at become events", source.events, source.records));
    }
    for (reason, count, example) in &source.refused {
        messages.say(&format!("  {count} would be dead letters: {reason}, {example}"));
    }
}

fn tell_proposal(made: &Made, messages: Messages) {
    let Proposal { goal, steps, .. } = &made.proposal;
    if goal.is_empty() {
        messages.say("no touchpoint is named like a purchase: name the goal in [journeys]");
        return;
    }
    let steps = if steps.is_empty() { String::new() } else { format!(", steps {}", steps.join(" > ")) };
    messages.say(&format!("goal {}{steps}: guesses, see wayline.toml", goal.join(", ")));
}
