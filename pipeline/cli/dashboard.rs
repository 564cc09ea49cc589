//! `wayline dashboard`: the page as a file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::commands::open_to_read;
use super::messages::Messages;
use super::output::Output;
use super::{Global, LogFormat};
use crate::dashboard::{self, Document, LeftOut, page};
use crate::error::{Error, Result};
use crate::marts::Catalog;
use crate::replace::replace;

/// Name of the page in a project's folder.
const FILE: &str = "dashboard.html";

#[derive(Debug, Args)]
pub struct DashboardArgs {
    /// File to write, or `-` for stdout [default: dashboard.html in the project]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the page.
pub async fn write(args: DashboardArgs, global: &Global) -> Result<ExitCode> {
    let workspace = open_to_read(global)?;
    let path = args.output.unwrap_or_else(|| workspace.project.folder.join(FILE));
    let to_stdout = path == Path::new("-");
    if to_stdout && global.json {
        return Err(Error::invalid("the page and the report would both go to stdout")
            .hint("leave out --json, or name a file: -o dashboard.html"));
    }
    if Catalog::load(&workspace.lake).await?.run_id.is_empty() {
        return Err(Error::invalid("nothing is published yet").hint("wayline run lands, builds and publishes"));
    }
    let (document, left_out) = dashboard::build(&workspace, global.as_of).await?;
    tell_left_out(&left_out, global.log_format);
    let html = page::offline(&document)?;
    if to_stdout {
        Output::stdout().write_all(html.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    replace(&path, html.as_bytes())?;
    let mut out = Output::stdout();
    if global.json {
        let report = json!({
            "status": "done", "exit_code": 0, "file": path, "bytes": html.len(), "run_id": document.about.run_id,
            "tiles": names(&document), "left_out": left_out,
        });
        writeln!(out, "{report}")?;
    } else {
        let tiles = document.tiles.len();
        writeln!(out, "{}: {tiles} tiles, {} KB; open it in a browser", path.display(), html.len() / 1000)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Names of the tiles on a page.
pub fn names(document: &Document) -> Vec<&str> {
    document.tiles.iter().map(|tile| tile.name.as_str()).collect()
}

/// Says which tiles are not on the page.
pub fn tell_left_out(left_out: &[LeftOut], format: LogFormat) {
    let messages = Messages(format);
    for LeftOut { tile, reason, hint } in left_out {
        messages.say(&format!("tile {tile} is left out: {reason}"));
        if let Some(hint) = hint {
            messages.say(&format!("hint: {hint}"));
        }
    }
}
