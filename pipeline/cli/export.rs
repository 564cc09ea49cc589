//! `wayline export`: starters for tools that read the marts.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::Output;
use super::{Global, commands};
use crate::dictionary::Dictionary;
use crate::error::{Context, Error, Result};
use crate::export::{Published, Tool, starter};
use crate::marts::Catalog;
use crate::run;

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The tool
    #[arg(value_enum)]
    tool: Tool,
    /// Folder for the files [default: wayline-TOOL]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace files that are there and hold something else
    #[arg(long)]
    force: bool,
}

/// Writes the starter of a tool; nothing at all if a file would be replaced that holds something else.
pub async fn export(args: ExportArgs, global: &Global) -> Result<ExitCode> {
    let workspace = commands::open_to_read(global)?;
    let graph = run::tables::load_graph(&workspace)?;
    let dictionary = Dictionary::of(&workspace, &graph).await?;
    let catalog = Catalog::load(&workspace.lake).await?;
    let files = starter(args.tool, &Published::of(&workspace.lake, &dictionary, &catalog))?;
    let folder = args.output.unwrap_or_else(|| args.tool.folder().into());
    for file in &files {
        let path = folder.join(&file.path);
        let is_another = std::fs::read(&path).is_ok_and(|content| content != file.content.as_bytes());
        if is_another && !args.force {
            return Err(Error::invalid(format!("{} is there and holds something else", path.display()))
                .hint("--force replaces it, -o DIR writes elsewhere"));
        }
    }
    let mut out = Output::stdout();
    let mut written = Vec::new();
    for file in &files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).context(parent.display())?;
        }
        std::fs::write(&path, &file.content).context(path.display())?;
        if !global.json {
            writeln!(out, "{}", path.display())?;
        }
        written.push(path);
    }
    if global.json {
        writeln!(out, "{}", json!({"status": "done", "exit_code": 0, "files": written}))?;
    }
    Ok(ExitCode::SUCCESS)
}
