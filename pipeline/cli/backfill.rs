//! `wayline backfill`: what can be asked of it and how its plan is told.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::Output;
use super::{Global, RunArgs, commands, parse_time};
use crate::derived::window::Window;
use crate::error::Result;
use crate::run::Options;
use crate::run::backfill::plan::{Plan, PlannedStep, plan};

#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// First instant of the window: a date or RFC 3339 time, UTC
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: i64,
    /// First instant behind the window
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: i64,
    /// Models to make anew, as in `wayline build`; by default all
    #[arg(short, long, value_name = "SELECTOR")]
    select: Option<String>,
    #[command(flatten)]
    run: RunArgs,
}

/// Makes a window anew, or tells what that would be.
pub async fn backfill(args: BackfillArgs, global: &Global) -> Result<ExitCode> {
    let BackfillArgs { since, until, select, run } = args;
    let window = Window::new(since, until)?;
    let options = Options {
        command: "backfill".into(),
        as_of: global.as_of,
        select,
        build: true,
        checks: run.checks(),
        backfill: Some(window),
        ..Options::default()
    };
    if !run.dry_run {
        return commands::job(global, options, false, &run.files).await;
    }
    let plan = plan(&commands::open(global)?, &options).await?;
    let mut out = Output::stdout();
    if global.json {
        let Plan { events, customers, days, steps } = plan;
        let told = json!({"window": window, "events": events, "customers": customers, "days": days, "dry_run": steps});
        writeln!(out, "{told}")?;
    } else if plan.steps.is_empty() {
        writeln!(out, "nothing lies in the window")?;
    } else {
        print(&plan, window, &mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(plan: &Plan, window: Window, out: &mut impl Write) -> Result<()> {
    let customers = plan.customers.map_or("all".to_string(), |customers| customers.to_string());
    writeln!(out, "{window}: {} events, {customers} customers, {} days", plan.events, plan.days)?;
    writeln!(out, "{:<8} {:<24} {:>12} {:>10}  why and how", "stage", "what", "rows", "KB")?;
    for PlannedStep { stage, what, why, rows, bytes } in &plan.steps {
        writeln!(out, "{stage:<8} {what:<24} {rows:>12} {:>10}  {why}", bytes.div_ceil(1000))?;
    }
    writeln!(out, "rows are made anew and compared; tables take over those that are different, marts are written")?;
    Ok(())
}
