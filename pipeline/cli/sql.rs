//! `wayline sql`: one query, a script, or a shell.

use std::io::{BufRead, BufWriter, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::output::Output;
use super::{Global, terminal};
use crate::error::{Context, Error, Result};
use crate::reader::Reader;
use crate::shell::format::Format;
use crate::shell::table::Layout;
use crate::shell::{Flow, Settings, Shell, on_a_terminal};

#[derive(Debug, Args)]
pub struct SqlArgs {
    /// One statement, or one command such as `.tables`
    #[arg(short, long, value_name = "QUERY", conflicts_with = "file")]
    command: Option<String>,
    /// A file of statements that end with `;`, and commands
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Form of results; a terminal gets a table, a pipe CSV
    #[arg(long, value_enum)]
    format: Option<Format>,
}

impl SqlArgs {
    /// Whether somebody types at a terminal.
    pub fn is_shell(&self) -> bool {
        self.command.is_none()
            && self.file.is_none()
            && std::io::stdin().is_terminal()
            && std::io::stdout().is_terminal()
    }
}

/// Runs what was asked for. A script ends with its first error.
pub async fn sql(global: &Global, args: SqlArgs) -> Result<ExitCode> {
    if global.json {
        return Err(Error::invalid("a query has no report").hint("--format json gives its rows as JSON"));
    }
    let is_terminal = std::io::stdout().is_terminal();
    let format = args.format.unwrap_or(if is_terminal { Format::Table } else { Format::Csv });
    if format == Format::Parquet && is_terminal {
        return Err(on_a_terminal());
    }
    let folder = global.project.clone().unwrap_or_else(|| PathBuf::from("."));
    let reader = Reader::new(folder, global.as_of);
    let width = if is_terminal { terminal::width() } else { None };
    let layout = Layout { width, max_rows: None };
    let settings = Settings { format, layout, has_footer: is_terminal, has_timer: true };
    if args.is_shell() {
        return terminal::shell(&reader, settings).await;
    }
    let mut shell = Shell::new(&reader, settings, BufWriter::new(Output::stdout()), std::io::stderr());
    match (args.command, args.file) {
        (Some(text), _) => shell.one(&text).await?,
        (None, Some(file)) => script(&mut shell, &file).await?,
        (None, None) => lines(&mut shell).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn script(shell: &mut Shell<'_>, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).context(file.display())?;
    shell.script(&text).await.map(|_| ())
}

/// Takes lines as they come, so that whoever writes them may read each answer first.
async fn lines(shell: &mut Shell<'_>) -> Result<()> {
    loop {
        let line = super::commands::aside(|| {
            let mut line = String::new();
            let length = std::io::stdin().lock().read_line(&mut line)?;
            Ok((length > 0).then_some(line))
        });
        match line.await? {
            None => return shell.finish().await.map(|_| ()),
            Some(line) if shell.line(line.trim_end_matches(['\n', '\r'])).await? == Flow::Quit => return Ok(()),
            Some(_) => {}
        }
    }
}
