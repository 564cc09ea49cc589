//! `wayline watch`: what can be asked of it and what it says.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::watch::Receiver;

use super::maintain::parse_span;
use super::messages::Messages;
use super::output::Output;
use super::progress::Shown;
use super::{Global, summary};
use crate::config::Project;
use crate::error::{Error, Result};
use crate::run::{Progress, Report, RunStatus};
use crate::watch::{self, Options, Witness};

/// Cycles that follow each other faster than this would do little else than look for files.
const SHORTEST_CYCLE: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Time from the start of a cycle to that of the next; one that takes longer is followed at once
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_every)]
    every: Duration,
    /// File for metrics in the text format of Prometheus, replaced after each cycle
    #[arg(long, value_name = "PATH")]
    metrics_file: Option<PathBuf>,
    /// Address of this machine, such as 127.0.0.1:9464, that answers GET /metrics and GET /health
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// File for the state of the watch as JSON, replaced at each stage
    #[arg(long, value_name = "PATH")]
    health_file: Option<PathBuf>,
    /// End after so many cycles; one that a fault ended is tried again and does not count
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    max_batches: Option<u64>,
    /// How long what was replaced stays readable when the watch maintains the lake, once an hour; longer than any query or run of
    /// others takes
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_span)]
    retain: Duration,
}

fn parse_every(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(every) if every >= SHORTEST_CYCLE => Ok(every),
        _ => Err("expected a length of time of at least 100ms, such as 10s or 5m".into()),
    }
}

/// Watches until it is told to stop.
pub async fn watch(project: Project, args: WatchArgs, global: &Global, stop: Receiver<bool>) -> Result<ExitCode> {
    let WatchArgs { every, metrics_file, metrics_listen, health_file, max_batches, retain } = args;
    let as_of = global.as_of;
    let options = Options { every, as_of, metrics_file, metrics_listen, health_file, max_batches, retain };
    let messages = Messages(global.log_format);
    let mut told = Told { shown: Shown::new(messages), messages, as_json: global.json, wrong: String::new() };
    let cycles = watch::watch(project, options, stop.clone(), &mut told).await?;
    // Whoever tells it to stop reports that.
    if global.json && !*stop.borrow() {
        writeln!(Output::stdout(), "{}", json!({"status": "done", "exit_code": 0, "cycles": cycles}))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what happens: a line for each run that did something, and what is wrong when it begins to be.
struct Told {
    shown: Shown,
    messages: Messages,
    as_json: bool,
    /// What was wrong in the cycle before, which is not said again while it stays the same.
    wrong: String,
}

impl Told {
    /// Whether this is wrong since now.
    fn is_news(&mut self, wrong: String) -> bool {
        let is_news = !wrong.is_empty() && wrong != self.wrong;
        self.wrong = wrong;
        is_news
    }
}

impl Progress for Told {
    fn stage(&mut self, name: &str) {
        // Without a bar a line per stage and cycle would drown the rest.
        if self.shown.is_bar() {
            self.shown.stage(name);
        }
    }

    fn step(&mut self, name: &str) {
        self.shown.step(name);
    }

    fn read(&mut self, done: u64, total: u64) {
        self.shown.read(done, total);
    }
}

impl Witness for Told {
    fn listens(&mut self, address: SocketAddr) {
        self.messages.say(&format!("metrics at http://{address}/metrics, health at http://{address}/health"));
    }

    fn ran(&mut self, report: &Report) {
        let not_well: Vec<_> = report.results.iter().filter(|line| !line.is_well()).collect();
        let wrong = not_well.iter().map(|line| format!("{}: {}\n", line.unique_id, line.message)).collect();
        // A run that only lands says nothing of models.
        if report.args.build && self.is_news(wrong) {
            not_well.iter().for_each(|line| self.messages.not_well(line));
        }
        if report.status == RunStatus::NothingNew {
            return;
        }
        let line = match self.as_json {
            true => serde_json::to_string(report).unwrap_or_default(),
            false => summary::line(report),
        };
        self.shown.beside(|| {
            // Whoever reads it may go away, and the watch goes on.
            let _ = writeln!(Output::stdout(), "{line}");
        });
    }

    fn left_models(&mut self, error: &Error) {
        if self.is_news(error.to_string()) {
            self.messages.error(error);
            self.messages.say("models are left as they are until that is mended; what is new is landed");
        }
    }

    fn waits(&mut self, error: &Error, wait: Duration) {
        self.messages.waits(error, wait);
    }
}
