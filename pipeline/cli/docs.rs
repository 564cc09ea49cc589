//! `wayline docs`: the data dictionary for people and tools.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::output::Output;
use super::{Global, commands};
use crate::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::replace::replace;
use crate::run;

#[derive(Debug, Args)]
pub struct DocsArgs {
    /// A table or model [default: all of them]
    name: Option<String>,
    /// File to write in place of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Form of the dictionary
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Headings and tables
    Markdown,
    /// One object
    Json,
}

/// Writes the dictionary, or what it says of one table.
pub async fn docs(args: DocsArgs, global: &Global) -> Result<ExitCode> {
    if global.json && args.output.is_none() {
        return Err(Error::invalid("a dictionary on stdout has no report").hint("--format json gives it as JSON"));
    }
    let workspace = commands::open_to_read(global)?;
    let graph = run::tables::load_graph(&workspace)?;
    let dictionary = Dictionary::of(&workspace, &graph).await?;
    let text = match (&args.name, args.format) {
        (None, Format::Markdown) => dictionary.to_markdown(),
        (None, Format::Json) => serde_json::to_string_pretty(&dictionary)? + "\n",
        (Some(name), Format::Markdown) => dictionary.table(name)?.to_markdown(),
        (Some(name), Format::Json) => serde_json::to_string_pretty(dictionary.table(name)?)? + "\n",
    };
    let Some(file) = args.output else {
        write!(Output::stdout(), "{text}")?;
        return Ok(ExitCode::SUCCESS);
    };
    replace(&file, text.as_bytes())?;
    if global.json {
        let tables = args.name.map_or(dictionary.tables.len(), |_| 1);
        writeln!(Output::stdout(), "{}", json!({"status": "done", "exit_code": 0, "file": file, "tables": tables}))?;
    }
    Ok(ExitCode::SUCCESS)
}
