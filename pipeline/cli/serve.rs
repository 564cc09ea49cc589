//! `wayline serve`: what is published, for those on this machine who ask.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::commands::open_to_read;
use super::dashboard::{names, tell_left_out};
use super::messages::Messages;
use super::output::Output;
use super::postgres::{self, PostgresArgs};
use super::{Global, LogFormat};
use crate::dashboard::live::{self, Witness};
use crate::dashboard::{Document, LeftOut};
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address of this machine that answers with the page; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8100")]
    listen: SocketAddr,
    #[command(flatten)]
    postgres: PostgresArgs,
}

/// Serves until a signal stops it; nothing is lost by that.
pub async fn serve(args: ServeArgs, global: &Global) -> Result<ExitCode> {
    let workspace = open_to_read(global)?;
    let mut told = Told { format: global.log_format, as_json: global.json, wrong: String::new(), left_out: Vec::new() };
    let page = live::serve(&workspace, global.as_of, args.listen, &mut told);
    match postgres::options(&args.postgres)? {
        None => match page.await? {},
        Some(options) => tokio::select! {
            served = page => match served? {},
            served = postgres::serve(options, global) => served.map(|_| ExitCode::SUCCESS),
        },
    }
}

/// Says what is served, and what is wrong when it begins to be.
struct Told {
    format: LogFormat,
    as_json: bool,
    /// What was wrong before, which is not said again while it stays the same.
    wrong: String,
    left_out: Vec<LeftOut>,
}

impl Witness for Told {
    fn listens(&mut self, address: SocketAddr) {
        Messages(self.format).say(&format!("dashboard at http://{address}/"));
    }

    fn built(&mut self, document: &Document, left_out: &[LeftOut]) {
        self.wrong.clear();
        if left_out != self.left_out {
            tell_left_out(left_out, self.format);
            self.left_out = left_out.to_vec();
        }
        let run = &document.about.run_id;
        if self.as_json {
            let line = json!({"run_id": run, "tiles": names(document), "left_out": left_out});
            // Whoever reads it may go away, and the page stays.
            let _ = writeln!(Output::stdout(), "{line}");
        } else if run.is_empty() {
            Messages(self.format).say("nothing is published yet: the page fills as runs publish");
        } else {
            Messages(self.format).say(&format!("shows run {run}"));
        }
    }

    fn failed(&mut self, error: &Error) {
        let wrong = error.to_string();
        if wrong != self.wrong {
            Messages(self.format).error(error);
            Messages(self.format).say("the page stays as it is until that is mended");
            self.wrong = wrong;
        }
    }
}
