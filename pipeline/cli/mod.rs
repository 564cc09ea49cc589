//! The command line. Data goes to stdout, the rest to stderr; `--json` makes the last line of stdout a one-line report.
//!
//! | exit | means |
//! | --- | --- |
//! | 0 | done, or nothing to do |
//! | 1 | a step or a data check failed; what failed is not published |
//! | 2 | usage or configuration |
//! | 75 | temporary: lock held, source or store unreachable |
//! | 130, 143 | stopped by SIGINT, SIGTERM |

mod backfill;
mod commands;
mod dashboard;
mod docs;
mod doctor;
mod explain;
mod export;
mod identity;
mod init;
mod maintain;
mod manual;
mod messages;
mod output;
mod postgres;
mod progress;
mod replay;
mod serve;
mod sql;
mod summary;
mod terminal;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;

use self::messages::{Messages, log_to_stderr};
use self::output::Output;
use crate::error::{Error, Kind, Result};
use crate::generate::{Compression, Format};
use crate::models::checks::Scope;

/// Journey analytics on open files: events in, marts out.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done or nothing to do; 1 a step or data check failed; 2 usage or configuration; \
75 temporary, try again; 130 and 143 stopped by a signal.";

#[derive(Debug, Clone, Args)]
struct Global {
    /// Folder that holds wayline.toml [default: .]
    #[arg(long, global = true, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Logical time: a date or RFC 3339 time; by default that of the newest event, for queries that of the last run
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_time)]
    as_of: Option<i64>,
    /// Print a one-line JSON report as the last line of stdout
    #[arg(long, global = true)]
    json: bool,
    /// Form of the log on stderr; RUST_LOG sets what is logged
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Land, resolve, build, check, publish: the main job; safe to repeat at any time
    Run(RunArgs),
    /// Run the main job in micro-batches until stopped; the batch in hand is finished first
    Watch(watch::WatchArgs),
    /// Take new files into the lake, exactly once
    Land(RunArgs),
    /// Resolve customers, build stale models, check and publish them
    Build {
        /// Models to build: NAME, +NAME (with all it reads), NAME+ (with all that reads it), tag:WORD,
        /// state:modified (changed SQL or configuration, or never built)
        #[arg(short, long, value_name = "SELECTOR")]
        select: Option<String>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Make a window anew from landed events: the rows of its customers and days, changed or not
    Backfill(backfill::BackfillArgs),
    /// Check configuration, sources and data without writing
    Check,
    /// Query all tables and marts, read-only; without -c, -f and a pipe, in a shell
    Sql(sql::SqlArgs),
    /// Write one HTML page that shows what the marts say; it needs no network and no server
    Dashboard(dashboard::DashboardArgs),
    /// Answer with the same page on this machine, live: made anew as runs publish
    Serve(serve::ServeArgs),
    /// Freshness, batches, dead letters and table sizes
    Status,
    /// Land dead letters that pass now, exactly once: after the mapping was mended or a limit raised
    Replay(replay::ReplayArgs),
    /// The data dictionary: each table and column with type, unit and meaning, and what it is made of
    Docs(docs::DocsArgs),
    /// Write a starter for a tool that reads the marts: views, sources, a dashboard, pages, queries
    Export(export::ExportArgs),
    /// Tell who somebody is; link and split by hand
    Identity {
        #[command(subcommand)]
        command: identity::Command,
    },
    /// Merge small files, shorten logs, remove what no version names; one job, never beside a run
    Maintain {
        /// Say what would be done; write nothing
        #[arg(long)]
        dry_run: bool,
        /// How long replaced versions stay readable. With 0s only the newest does: a query that is under way may fail,
        /// and nobody else may write into the lake meanwhile
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = maintain::parse_span)]
        retain: std::time::Duration,
    },
    /// Look for damage in tables, books and published files, without writing
    Fsck,
    /// Find what is wrong with a set-up: configuration, secrets, sources, store, clock, disk, memory; a remedy for each
    Doctor,
    /// Tell in words what a reason code, an exit code, a table, a model or a check is
    Explain {
        /// A code such as tz_invalid or 75, or the name of a table, model or check
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Write a project to start from: a small sample, or the mapping of your own files
    Init(init::InitArgs),
    /// Write synthetic events of any size: files, and a project that lands them
    Generate(GenerateArgs),
    /// Generate events, run the main job on them and show what came out
    Demo {
        /// Events to generate; a million takes some 10 seconds and 0.7 GB of disk
        #[arg(long, default_value_t = 100_000)]
        events: u64,
        /// Seed of the events
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// New folder for the demo's project
        #[arg(default_value = "wayline-demo", value_name = "DIR")]
        folder: PathBuf,
    },
    /// Print the script by which a shell completes commands and options
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command
    Man {
        /// Folder for the pages
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Print the JSON schema of wayline.toml, by which editors complete and check it
    Schema,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Say what would be done and why; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Where some rows of models were changed, check these alone and put off what compares whole tables: a small batch
    /// then takes as long as it is large
    #[arg(long)]
    check_touched: bool,
    #[command(flatten)]
    files: RunFiles,
}

/// Files that tell others of a run.
#[derive(Debug, Clone, Default, Args)]
struct RunFiles {
    /// File for the run's report as JSON, with the keys of dbt's run_results.json; replaced in one step
    #[arg(long, value_name = "PATH", conflicts_with = "dry_run")]
    report: Option<PathBuf>,
    /// File for metrics in the text format of Prometheus, replaced in one step when the run ends
    #[arg(long, value_name = "PATH", conflicts_with = "dry_run")]
    metrics_file: Option<PathBuf>,
}

impl RunArgs {
    fn checks(&self) -> Scope {
        match self.check_touched {
            true => Scope::Touched,
            false => Scope::All,
        }
    }
}

#[derive(Debug, Args)]
struct GenerateArgs {
    /// Records to write, bad ones and re-deliveries included
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Seed; the same options give the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Format of the files
    #[arg(long, value_enum, default_value_t = Format::JsonLines)]
    format: Format,
    /// Compression of text files
    #[arg(long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// Files to divide the records among
    #[arg(long, default_value_t = 1)]
    files: usize,
    /// First day of the events
    #[arg(long, default_value = "2025-01-01")]
    start: NaiveDate,
    /// Days of the events
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// Bad records of 100,000
    #[arg(long, default_value_t = 10)]
    bad_records: u32,
    /// New folder: wayline.toml and landing-zone/
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// A date (its first instant) or an RFC 3339 time, in microseconds since 1970.
fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros());
    }
    let time: DateTime<Utc> =
        text.parse().map_err(|_| "expected a date or an RFC 3339 time such as 2025-01-31T00:00:00Z")?;
    Ok(time.timestamp_micros())
}

/// How long a process that is done waits for what is still at work.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// Parses the command line, does what it says, reports; returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let messages = Messages(cli.global.log_format);
    log_to_stderr(cli.global.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).build();
    let outcome = match runtime {
        Ok(runtime) => {
            let (stop, is_told) = tokio::sync::watch::channel(false);
            let stop = matches!(cli.command, Command::Watch(_)).then_some(stop);
            let takes_interrupts = matches!(&cli.command, Command::Sql(args) if args.is_shell());
            let command = commands::dispatch(cli.command, &cli.global, is_told);
            let outcome = runtime.block_on(until_stopped(command, stop, takes_interrupts, messages));
            match outcome {
                // What is left of a query that failed removes what it spilled.
                Ok(_) | Err(Stopped::Error(_)) if !takes_interrupts => runtime.shutdown_timeout(LAST_STEPS),
                // What a signal interrupted may still be computing, and a shell waiting for a line; neither need come to its end.
                _ => runtime.shutdown_background(),
            }
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(code) => code,
        Err(stopped) => {
            let (code, report) = match &stopped {
                Stopped::Signal(code) => (*code, json!({"status": "stopped", "exit_code": code})),
                Stopped::Error(error) => {
                    messages.error(error);
                    let code = exit_code(error);
                    let (message, hint) = (error.to_string(), error.remedy());
                    (code, json!({"status": "error", "exit_code": code, "error": message, "hint": hint}))
                }
            };
            if cli.global.json {
                // The exit code tells as much if nobody reads it.
                let _ = writeln!(Output::stdout(), "{report}");
            }
            ExitCode::from(code)
        }
    }
}

/// Why a command did not come to its end.
enum Stopped {
    /// A signal, with the exit code that stands for it.
    Signal(u8),
    Error(Error),
}

impl<E: Into<Error>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Runs a command until it ends or a signal comes. Every step of ours is safe to be the last, so a signal just stops; a
/// command that can be told to stop is told by the first signal and stopped by the second.
async fn until_stopped(
    command: impl Future<Output = Result<ExitCode>>,
    mut stop: Option<tokio::sync::watch::Sender<bool>>,
    takes_interrupts: bool,
    messages: Messages,
) -> Result<ExitCode, Stopped> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut command = std::pin::pin!(command);
    let mut told = None;
    loop {
        let (name, code) = tokio::select! {
            outcome = &mut command => {
                let code = outcome?;
                return told.map_or(Ok(code), |(_, by)| Err(Stopped::Signal(by)));
            }
            _ = interrupt.recv(), if !takes_interrupts => ("SIGINT", 130),
            _ = terminate.recv() => ("SIGTERM", 143),
        };
        match stop.take() {
            Some(stop) => {
                messages.stopping(name);
                stop.send_replace(true);
                told = Some((stop, code));
            }
            None => {
                messages.stopped(name);
                return Err(Stopped::Signal(code));
            }
        }
    }
}

fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        Kind::Invalid => 2,
        Kind::Unavailable | Kind::Conflict => 75,
        Kind::Corrupt | Kind::Exhausted | Kind::Internal => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_logical_time_is_a_date_or_an_instant() {
        assert_eq!(parse_time("1970-01-02"), Ok(86_400_000_000));
        assert_eq!(parse_time("1970-01-01T00:00:01+00:00"), Ok(1_000_000));
        assert!(parse_time("soon").is_err());
    }

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        let codes = [
            (Error::invalid("x"), 2),
            (Error::unavailable("x"), 75),
            (Error::conflict("x"), 75),
            (Error::corrupt("x"), 1),
            (Error::new(Kind::Exhausted, "x"), 1),
            (Error::internal("x"), 1),
        ];
        for (error, code) in codes {
            assert_eq!(exit_code(&error), code);
        }
    }
}
