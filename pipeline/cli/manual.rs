//! `wayline completions`, `wayline man` and `wayline schema`: what shells, readers and editors are given.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use super::output::Output;
use crate::config;
use crate::error::{Context, Error, Result};

const NAME: &str = "wayline";

/// Prints the script by which a shell completes commands and options.
pub fn completions(shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    Output::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the page of the whole, or writes a page for each command into a folder.
pub fn pages(folder: Option<PathBuf>) -> Result<ExitCode> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        Output::stdout().write_all(&page)?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(&folder).context(folder.display())?;
    clap_mangen::generate_to(Cli::command(), &folder).map_err(Error::from).context(folder.display())?;
    let count = std::fs::read_dir(&folder)?.count();
    writeln!(
        Output::stdout(),
        "{count} pages in {}; read one with: man -l {}/{NAME}.1",
        folder.display(),
        folder.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the JSON schema of the configuration.
pub fn schema() -> Result<ExitCode> {
    write!(Output::stdout(), "{}", config::schema::text())?;
    Ok(ExitCode::SUCCESS)
}
