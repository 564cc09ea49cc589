//! `wayline identity`: who somebody is, and rulings on it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use chrono::{SecondsFormat, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::commands::{open, project};
use super::output::Output;
use super::{Global, parse_time};
use crate::derived::changes::Changes;
use crate::engine;
use crate::error::{Error, Result};
use crate::identifiers::{is_token, normalise};
use crate::identity::rulings::{self, Identifier, Ruling, Rulings, Verdict};
use crate::identity::stage;
use crate::identity::{Update, restate, who};
use crate::lake::Lock;
use crate::run;
use crate::run::report::instant;
use crate::workspace::Workspace;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say that two identifiers are one person's; the next run restates the customers
    Link(RulingArgs),
    /// Say that two identifiers are not one person's; the next run restates the customers
    Split(RulingArgs),
    /// List what was said, the oldest first
    Rulings,
    /// Tell the customer of an identifier
    Who {
        /// The identifier; a raw value of a pseudonymised kind will do
        #[arg(value_name = "KIND:VALUE")]
        identifier: String,
        /// As known from the events that occurred up to a date's first instant or an RFC 3339 time
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        at: Option<i64>,
    },
}

#[derive(Debug, Args)]
pub struct RulingArgs {
    /// One identifier; a raw value of a pseudonymised kind will do
    #[arg(value_name = "KIND:VALUE")]
    from: String,
    /// The other
    #[arg(value_name = "KIND:VALUE")]
    to: String,
    /// Why; kept as it stands, so without personal data
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who says so [default: the user of this session]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Say who would be restated; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Does what the command says.
pub async fn dispatch(command: Command, global: &Global) -> Result<ExitCode> {
    match command {
        Command::Link(args) => rule(global, Verdict::Link, args).await,
        Command::Split(args) => rule(global, Verdict::Split, args).await,
        Command::Rulings => list(global).await,
        Command::Who { identifier, at } => tell(global, &identifier, at).await,
    }
}

/// Makes a ruling and reports whom it restates. One that is in force already is not made again.
async fn rule(global: &Global, verdict: Verdict, args: RulingArgs) -> Result<ExitCode> {
    let workspace = open(global)?;
    let _lock = match args.dry_run {
        true => None,
        false => Some(Lock::take(&workspace.project.folder, &workspace.lake)?),
    };
    let (from, to) = (identifier(&workspace, &args.from)?, identifier(&workspace, &args.to)?);
    if from == to {
        return Err(Error::invalid(format!("{from} is given twice, expected two identifiers")));
    }
    run::register_everything(&workspace, global.as_of).await?;
    let mut journal = rulings::load(&workspace.lake).await?;
    let in_force = Rulings::in_force(&journal);
    let is_same = |ruling: &&Ruling| {
        let ends = (&ruling.from, &ruling.to);
        ruling.verdict == verdict && in_force.hold(ruling) && (ends == (&from, &to) || ends == (&to, &from))
    };
    let (ruling, is_new) = match journal.iter().find(is_same) {
        Some(ruling) => (ruling.clone(), false),
        None => {
            let number = journal.last().map_or(0, |ruling| ruling.number) + 1;
            let (reason, ruled_by) = (line("reason", args.reason)?, line("by", args.by.unwrap_or_else(user))?);
            let ruled_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
            let ruling = Ruling { number, verdict, from: from.clone(), to: to.clone(), reason, ruled_by, ruled_at };
            journal.push(ruling.clone());
            (ruling, true)
        }
    };
    let update = restate(&workspace, [&from, &to], Rulings::in_force(&journal)).await?;
    let restated = Restated::of(&workspace, &update).await?;
    for end in [&from, &to] {
        if !restated.is_known(end) {
            return Err(unknown(&workspace, end, None).await);
        }
    }
    let refusal = match verdict {
        Verdict::Link => refusal(&update, [&from, &to]),
        Verdict::Split => None,
    };
    if is_new && !args.dry_run {
        rulings::append(&workspace.lake, &ruling).await?;
    }

    let mut out = Output::stdout();
    if global.json {
        let report = json!({
            "ruling": ruling, "is_new": is_new, "dry_run": args.dry_run, "customers": restated.customers,
            "refused_by": refusal.as_ref().map(|(rule, detail)| json!({"rule": rule, "detail": detail})),
        });
        writeln!(out, "{report}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let note = match (is_new, args.dry_run) {
        (false, _) => " (in force already)",
        (true, true) => " (dry run: not made)",
        (true, false) => "",
    };
    writeln!(out, "ruling {}: {verdict} {from} {to}{note}", ruling.number)?;
    if let Some((rule, detail)) = refusal {
        writeln!(out, "not followed: {rule}: {detail}")?;
    }
    restated.print(&mut out)?;
    Ok(ExitCode::SUCCESS)
}

async fn list(global: &Global) -> Result<ExitCode> {
    let workspace = Workspace::open_to_read(project(global)?)?;
    let journal = rulings::load(&workspace.lake).await?;
    let in_force = Rulings::in_force(&journal);
    let mut out = Output::stdout();
    if global.json {
        let lines = journal.iter().map(|ruling| json!({"ruling": ruling, "is_in_force": in_force.hold(ruling)}));
        writeln!(out, "{}", json!({"rulings": lines.collect::<Vec<_>>()}))?;
    } else if journal.is_empty() {
        writeln!(out, "no rulings")?;
    }
    for ruling in journal.iter().filter(|_| !global.json) {
        let Ruling { number, verdict, from, to, reason, ruled_by, ruled_at } = ruling;
        let note = if in_force.hold(ruling) { "" } else { " (no longer in force)" };
        writeln!(out, "{number:>4}  {ruled_at}  {verdict:<5} {from} {to}  {ruled_by}: {reason}{note}")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn tell(global: &Global, text: &str, at: Option<i64>) -> Result<ExitCode> {
    let workspace = Workspace::open_to_read(project(global)?)?;
    let identifier = identifier(&workspace, text)?;
    stage::register(&workspace, &Changes::load(&workspace.lake).await?).await?;
    let Some(found) = who(&workspace, &identifier, at).await? else {
        return Err(unknown(&workspace, &identifier, at).await);
    };
    let mut out = Output::stdout();
    if global.json {
        let lines = found.identifiers.iter().map(|(identifier, first, last)| {
            json!({
                "kind": identifier.kind, "value": identifier.value,
                "first_seen_at": instant(*first), "last_seen_at": instant(*last),
            })
        });
        let report = json!({
            "identifier": identifier, "at": at.map(instant), "customer_id": found.customer_id,
            "identifiers": lines.collect::<Vec<_>>(),
        });
        writeln!(out, "{report}")?;
        return Ok(ExitCode::SUCCESS);
    }
    match at {
        Some(at) => writeln!(out, "at {} {identifier} belonged to customer {}", instant(at), found.customer_id)?,
        None => writeln!(out, "{identifier} belongs to customer {}", found.customer_id)?,
    }
    for (identifier, first, last) in found.identifiers {
        writeln!(out, "  {:<40} first seen {}, last {}", identifier.key(), instant(first), instant(last))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An identifier as landing would have made it.
fn identifier(workspace: &Workspace, text: &str) -> Result<Identifier> {
    let Some((kind, raw)) = text.split_once(':') else {
        return Err(Error::invalid("expected KIND:VALUE, got a word without a colon").hint("for example user_id:u-7"));
    };
    let normal = normalise(kind, raw);
    let is_private = workspace.project.config.privacy.pseudonymize.iter().any(|private| private == kind);
    let value = match &workspace.pseudonymiser {
        Some(pseudonymiser) if is_private => pseudonymiser.token(kind, &normal),
        None if is_private && !is_token(&normal) => {
            // Without the key a raw value cannot be found; what is said of a missing key is said here.
            workspace.project.pseudonym_key()?;
            return Err(Error::internal("the key of pseudonyms was not read"));
        }
        _ => normal.into_owned(),
    };
    let identifier = Identifier { kind: kind.into(), value };
    if !workspace.blocked.is_usable(kind, &identifier.value) {
        return Err(Error::invalid(format!("{identifier} identifies nobody: such values are blocked")));
    }
    Ok(identifier)
}

/// Why nothing is known of an identifier (at a time).
async fn unknown(workspace: &Workspace, identifier: &Identifier, at: Option<i64>) -> Error {
    if let Some(at) = at
        && let Ok(Some(found)) = who(workspace, identifier, None).await
        && let Some((_, first, _)) = found.identifiers.iter().find(|(one, ..)| one == identifier)
    {
        return Error::invalid(format!("{identifier} was not known at {}", instant(at)))
            .hint(format!("it was first seen at {}", instant(*first)));
    }
    let kinds = match kinds(workspace).await {
        Ok(kinds) => kinds,
        Err(error) => return error,
    };
    if kinds.contains(&identifier.kind) {
        return Error::invalid(format!("{identifier} is not known"))
            .hint("events that landed since the last build are resolved by `wayline build`");
    }
    let known = kinds.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    Error::invalid(format!("no identifier of kind `{}` is known; there are: {known}", identifier.kind))
        .hint_nearest(&identifier.kind, kinds.iter().map(String::as_str))
}

async fn kinds(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let batches = engine::query(&workspace.ctx, "select distinct kind from identity_map").await?.collect().await?;
    let kinds = batches.iter().flat_map(|batch| batch.column(0).as_string_view().iter().flatten());
    Ok(kinds.map(String::from).collect())
}

/// A text of one line, as the journal keeps it.
fn line(name: &str, text: String) -> Result<String> {
    match text.trim() {
        "" => Err(Error::invalid(format!("--{name} is empty"))),
        line if line.chars().any(char::is_control) => Err(Error::invalid(format!("--{name} is more than a line"))),
        line => Ok(line.into()),
    }
}

/// Name of whoever works here.
fn user() -> String {
    let names = ["USER", "LOGNAME", "USERNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    names.into_iter().find(|name| !name.trim().is_empty()).unwrap_or_else(|| "unknown".into())
}

/// The rule that refuses the link of two identifiers, and its detail.
fn refusal(update: &Update, [from, to]: [&Identifier; 2]) -> Option<(String, String)> {
    let (lower, upper) = if from < to { (from, to) } else { (to, from) };
    let wanted = [&lower.kind, &lower.value, &upper.kind, &upper.value];
    update.refusals.iter().find_map(|batch| {
        let text = |name: &str, row: usize| batch.column_by_name(name).map(|c| c.as_string::<i32>().value(row));
        let ends = |row: usize| ["from_kind", "from_value", "to_kind", "to_value"].map(|name| text(name, row));
        let row = (0..batch.num_rows()).find(|row| ends(*row) == wanted.map(|text| Some(text.as_str())))?;
        Some((text("rule", row)?.to_string(), text("detail", row)?.to_string()))
    })
}

/// Customers whose identifiers change.
struct Restated {
    customers: Vec<Customer>,
    known: BTreeSet<String>,
}

/// A customer as the tables have it now, and what its identifiers will be called.
#[derive(Debug, Serialize)]
struct Customer {
    customer_id: String,
    /// Events and journeys; null where the model `customers` does not tell.
    event_count: Option<i64>,
    journey_count: Option<i64>,
    identifiers: Vec<Renamed>,
}

#[derive(Debug, Serialize)]
struct Renamed {
    identity_key: String,
    /// Its customer once this is resolved.
    customer_id: String,
}

impl Restated {
    async fn of(workspace: &Workspace, update: &Update) -> Result<Self> {
        let [keys, before, after] = [0, 1, 2].map(|column| update.moves.column(column).as_string::<i32>());
        let mut customers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut members: BTreeMap<&str, usize> = BTreeMap::new();
        for row in 0..keys.len() {
            customers.entry(before.value(row)).or_default().push(row);
            *members.entry(after.value(row)).or_default() += 1;
        }
        let known =
            (0..keys.len()).filter(|row| before.is_valid(*row)).map(|row| keys.value(row).to_string()).collect();
        // Who keeps all identifiers and gets no others stays as he is.
        let stays = |id: &str, rows: &[usize]| {
            rows.iter().all(|row| after.value(*row) == id) && members.get(id) == Some(&rows.len())
        };
        let changed = customers.into_iter().filter(|(id, rows)| !stays(id, rows));
        let mut customers: Vec<Customer> = changed
            .map(|(id, rows)| {
                let renamed =
                    |row: usize| Renamed { identity_key: keys.value(row).into(), customer_id: after.value(row).into() };
                let identifiers = rows.into_iter().map(renamed).collect();
                Customer { customer_id: id.into(), event_count: None, journey_count: None, identifiers }
            })
            .collect();
        count(workspace, &mut customers).await?;
        Ok(Self { customers, known })
    }

    fn is_known(&self, identifier: &Identifier) -> bool {
        self.known.contains(&identifier.key())
    }

    fn print(&self, out: &mut impl Write) -> Result<()> {
        if self.customers.is_empty() {
            writeln!(out, "no customer changes")?;
            return Ok(());
        }
        writeln!(out, "the next run restates {} customers:", self.customers.len())?;
        for customer in &self.customers {
            let counts = match (customer.event_count, customer.journey_count) {
                (Some(events), Some(journeys)) => format!("{events} events, {journeys} journeys"),
                _ => "not built yet".into(),
            };
            writeln!(out, "  customer {}: {counts}", customer.customer_id)?;
            for Renamed { identity_key, customer_id } in &customer.identifiers {
                let what = if *customer_id == customer.customer_id { "stays" } else { "goes to" };
                writeln!(out, "    {identity_key:<40} {what:<7} {customer_id}")?;
            }
        }
        Ok(())
    }
}

/// Counts events and journeys of customers, as far as the model `customers` is built and tells them.
async fn count(workspace: &Workspace, customers: &mut [Customer]) -> Result<()> {
    let ids: Vec<_> = customers.iter().map(|customer| format!("'{}'", customer.customer_id)).collect();
    let query = format!(
        "select arrow_cast(customer_id, 'Utf8'), cast(event_count as bigint), cast(journey_count as bigint) \
         from customers where customer_id in ({})",
        ids.join(", ")
    );
    if ids.is_empty() {
        return Ok(());
    }
    // A project may have no such model, or another one of that name.
    let Ok(found) = engine::query(&workspace.ctx, &query).await else { return Ok(()) };
    for batch in found.collect().await? {
        let counts = [1, 2].map(|column| batch.column(column).as_primitive::<Int64Type>());
        for (row, id) in batch.column(0).as_string::<i32>().iter().enumerate() {
            for customer in customers.iter_mut().filter(|customer| Some(customer.customer_id.as_str()) == id) {
                [customer.event_count, customer.journey_count] =
                    counts.map(|count| count.is_valid(row).then(|| count.value(row)));
            }
        }
    }
    Ok(())
}
