//! What a person wants to see at the end of a run, and the state of a lake.

use std::collections::BTreeMap;
use std::io::Write;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::Serialize;

use crate::error::Result;
use crate::landing;
use crate::landing::ledger::{Counts, Entry};
use crate::landing::reasons::reason;
use crate::marts::Catalog;
use crate::models::graph::Graph;
use crate::run::report::instant;
use crate::run::{Report, RunStatus};
use crate::shell::table::inert;
use crate::table_sizes::{self, TableSize};
use crate::workspace::Workspace;

/// Prints what a run did, where its outputs are, and three numbers worth knowing.
pub async fn print(workspace: &Workspace, report: &Report, out: &mut impl Write) -> Result<()> {
    if report.status == RunStatus::NothingNew {
        let nothing = if report.args.backfill.is_some() { "nothing lies in the window" } else { "nothing new" };
        writeln!(out, "{nothing}; {:.2} s", report.elapsed_time)?;
        return Ok(());
    }
    let counts = report.landed.total();
    if !report.landed.batches.is_empty() {
        writeln!(
            out,
            "landed      {} events from {} files; {} duplicates, {} dead letters",
            counts.landed, counts.files, counts.duplicates, counts.dead_letters
        )?;
    }
    if let Some(identity) = &report.identity {
        let refused: usize = identity.refusals.values().sum();
        writeln!(
            out,
            "resolved    {} identifiers to {} customers; {refused} links refused",
            identity.identifiers, identity.customers
        )?;
    }
    if report.args.build {
        let of = |kind| match report.outcomes(kind) {
            (done, 0) => done.to_string(),
            (done, failed) => format!("{done} ({failed} failed)"),
        };
        writeln!(out, "built       {} models, ran {} checks, published {} marts", of("model"), of("test"), of("mart"))?;
        if !report.skipped_checks.is_empty() {
            let skipped = report.skipped_checks.join(", ");
            writeln!(out, "skipped     checks of what is outdated or missing: {skipped}")?;
        }
    }
    writeln!(out, "in          {:.2} s{}", report.elapsed_time, memory(report))?;
    if report.args.build {
        let catalog = Catalog::load(&workspace.lake).await?;
        writeln!(out, "outputs     {}", place(workspace))?;
        for (name, mart) in &catalog.marts {
            writeln!(out, "  {name:<18} {:>10} rows  {}", mart.rows, mart.path)?;
        }
        numbers(workspace, out).await?;
    }
    Ok(())
}

/// What a run did, in one line.
pub fn line(report: &Report) -> String {
    let landed = report.landed.total();
    let mut parts = Vec::new();
    if let (Some(first), Some(last)) = (report.landed.batches.first(), report.landed.batches.last()) {
        let batches = if first == last { format!("batch {first}") } else { format!("batches {first} to {last}") };
        let Counts { landed, duplicates, dead_letters, .. } = landed;
        parts.push(format!("{batches}: {landed} events, {duplicates} duplicates, {dead_letters} dead letters"));
    }
    for (kind, done, what) in [("model", "built", "models"), ("test", "ran", "checks"), ("mart", "published", "marts")]
    {
        match report.outcomes(kind) {
            (0, 0) => {}
            (well, 0) => parts.push(format!("{done} {well} {what}")),
            (well, failed) => parts.push(format!("{done} {well} {what} ({failed} failed)")),
        }
    }
    parts.push(format!("{:.2} s", report.elapsed_time));
    parts.join("; ")
}

fn memory(report: &Report) -> String {
    report.peak_memory_bytes.map(|bytes| format!(", {} MiB of memory at most", bytes >> 20)).unwrap_or_default()
}

fn place(workspace: &Workspace) -> String {
    match workspace.lake.local_folder() {
        Some(folder) => folder.display().to_string(),
        None => workspace.lake.url().to_string(),
    }
}

/// Each question with a query for one row: a share, and a text that explains it.
const NUMBERS: [&str; 3] = [
    "select avg(cast(is_converted as double)) as share, 'of ' || count(*) || ' journeys reach their goal' as text
     from journeys",
    "select avg(case when switch_count > 0 then 1.0 else 0.0 end) as share,
            'of journeys change channel, ' || sum(switch_count) || ' times in all' as text
     from journeys",
    // Whoever can still go on has not dropped off.
    "with steps as (
         select funnel, step, step_name, sum(reached) as reached from funnel_steps group by 1, 2, 3
     ),
     named as (
         select funnel, step, reached,
                case when count(*) over (partition by funnel, step_name) > 1
                     then step_name || ' (step ' || step || ')' else step_name end as name
         from steps where reached > 0
     ),
     ended as (
         select funnel, step, sum(attempts) as attempts
         from drop_offs where outcome in ('left', 'timed_out') group by 1, 2
     )
     select coalesce(ended.attempts, 0) / cast(named.reached as double) as share,
            case when ended.attempts > 0
                 then 'of those at ' || named.name || ' go no further in funnel ' || named.funnel || ', its largest drop-off'
                 else 'of those who entered a funnel have dropped off' end as text
     from named left join ended on named.funnel = ended.funnel and named.step = ended.step
     order by coalesce(ended.attempts, 0) desc, named.funnel, named.step limit 1",
];

/// Three numbers worth knowing; one whose tables are missing is left out.
async fn numbers(workspace: &Workspace, out: &mut impl Write) -> Result<()> {
    writeln!(out, "worth knowing")?;
    for sql in NUMBERS {
        let Ok(frame) = workspace.ctx.sql(sql).await else { continue };
        for batch in frame.collect().await? {
            for (share, text) in batch.column(0).as_primitive::<Float64Type>().iter().zip(texts(&batch, 1)?) {
                if let Some(share) = share {
                    writeln!(out, "  {:>5.1} % {text}", share * 100.0)?;
                }
            }
        }
    }
    Ok(())
}

/// What a lake holds, and how fresh it is.
#[derive(Debug, Serialize)]
struct LakeStatus {
    /// Logical time, RFC 3339.
    as_of: Option<String>,
    /// When the newest batch was planned, RFC 3339.
    last_batch_at: Option<String>,
    batches: usize,
    sources: BTreeMap<String, SourceStatus>,
    dead_letters: Vec<Letters>,
    /// Oddities of files that refused nothing, with their counts.
    flags: BTreeMap<String, u64>,
    tables: Vec<TableSize>,
    marts: BTreeMap<String, MartStatus>,
}

#[derive(Debug, Default, Serialize)]
struct SourceStatus {
    #[serde(flatten)]
    counts: Counts,
    /// When its newest event occurred, RFC 3339.
    newest_occurred_at: Option<String>,
}

/// Dead letters of one reason.
#[derive(Debug, Serialize)]
struct Letters {
    reason: String,
    count: i64,
    /// Those that a later batch took up.
    replayed: i64,
    /// Origin of one of them, if there is one of those that no batch took up.
    example: String,
    /// What was found there.
    detail: String,
    /// What the reason means, and what to do about it.
    meaning: &'static str,
    remedy: &'static str,
}

#[derive(Debug, Serialize)]
struct MartStatus {
    rows: usize,
    path: String,
    run_id: String,
    as_of: Option<String>,
}

/// Dead letters by reason: how many, how many were taken up, and one of the others, if there is one, with its detail.
const DEAD_LETTERS_BY_REASON: &str = "
    with reasons as (
        select reason, count(*) as letters, count(replayed_in) as replayed,
            coalesce(min(origin) filter (where replayed_in is null), min(origin)) as origin
        from dead_letters group by reason
    )
    select reasons.reason, reasons.letters, reasons.replayed, reasons.origin, min(dead_letters.detail)
    from reasons
    inner join dead_letters on reasons.reason = dead_letters.reason and reasons.origin = dead_letters.origin
    group by 1, 2, 3, 4 order by 2 desc, 1";

/// Prints freshness, batches, dead letters by reason with an example, and the sizes of tables.
pub async fn status(
    workspace: &Workspace,
    graph: &Graph,
    as_of: Option<i64>,
    as_json: bool,
    out: &mut impl Write,
) -> Result<()> {
    let status = lake_status(workspace, graph, as_of).await?;
    if as_json {
        writeln!(out, "{}", serde_json::to_string(&status)?)?;
        return Ok(());
    }
    writeln!(out, "as of       {}", status.as_of.as_deref().unwrap_or("never: nothing is landed"))?;
    writeln!(out, "batches     {}, the last {}", status.batches, status.last_batch_at.as_deref().unwrap_or("never"))?;
    for (name, SourceStatus { counts, newest_occurred_at }) in &status.sources {
        let newest = newest_occurred_at.as_deref().unwrap_or("-");
        let Counts { rows_in, landed, duplicates, dead_letters, .. } = counts;
        writeln!(
            out,
            "  {name:<18} {rows_in} rows in = {landed} landed + {duplicates} duplicates + {dead_letters} dead letters; \
             newest event {newest}"
        )?;
    }
    print_letters(&status, out)?;
    writeln!(out, "tables")?;
    for TableSize { table, rows, files, bytes, .. } in &status.tables {
        let rows = rows.unwrap_or_default();
        writeln!(out, "  {table:<20} {rows:>12} rows  {files} files, {} KB", bytes / 1000)?;
    }
    writeln!(out, "marts")?;
    for (name, mart) in &status.marts {
        let as_of = mart.as_of.as_deref().unwrap_or("-");
        writeln!(out, "  {name:<20} {:>12} rows  {} (as of {as_of})", mart.rows, mart.path)?;
    }
    Ok(())
}

fn print_letters(status: &LakeStatus, out: &mut impl Write) -> Result<()> {
    for Letters { reason, count, replayed, example, detail, .. } in &status.dead_letters {
        let replayed = if *replayed > 0 { format!(" ({replayed} replayed)") } else { String::new() };
        let example = inert(&format!("{example}: {detail}")).into_owned();
        writeln!(out, "  {reason:<18} {count:>10} dead letters{replayed}, for example {example}")?;
    }
    if status.dead_letters.iter().any(|letters| letters.count > letters.replayed) {
        writeln!(out, "  wayline explain CODE tells what to do about each; once mended: wayline replay")?;
    }
    for (flag, count) in &status.flags {
        writeln!(out, "  {flag:<18} {count:>10} {}", reason(flag).map_or("", |reason| reason.meaning))?;
    }
    Ok(())
}

async fn lake_status(workspace: &Workspace, graph: &Graph, as_of: Option<i64>) -> Result<LakeStatus> {
    let entries = Entry::load_all(&workspace.lake, landing::last_batch(workspace).await?).await?;
    let mut sources: BTreeMap<String, SourceStatus> = BTreeMap::new();
    for (source, counts) in entries.iter().flat_map(|entry| &entry.sources) {
        sources.entry(source.clone()).or_default().counts.add(counts);
    }
    for batch in rows(workspace, "select source, cast(max(occurred_at) as bigint) from events group by source").await? {
        let newest = batch.column(1).as_primitive::<Int64Type>();
        for (row, source) in texts(&batch, 0)?.into_iter().enumerate() {
            sources.entry(source).or_default().newest_occurred_at = Some(instant(newest.value(row)));
        }
    }
    let mut dead_letters = Vec::new();
    for batch in rows(workspace, DEAD_LETTERS_BY_REASON).await? {
        let number = |column: usize| batch.column(column).as_primitive::<Int64Type>();
        let (reasons, examples, details) = (texts(&batch, 0)?, texts(&batch, 3)?, texts(&batch, 4)?);
        let named = reasons.into_iter().zip(examples).zip(details).enumerate();
        dead_letters.extend(named.map(|(row, ((code, example), detail))| {
            let words = reason(&code);
            Letters {
                reason: code,
                count: number(1).value(row),
                replayed: number(2).value(row),
                example,
                detail,
                meaning: words.map_or("", |words| words.meaning),
                remedy: words.map_or("", |words| words.remedy),
            }
        }));
    }
    let mut flags = BTreeMap::new();
    for (flag, count) in entries.iter().flat_map(|entry| &entry.files).flat_map(|file| &file.flags) {
        *flags.entry(flag.clone()).or_default() += count;
    }
    let marts = Catalog::load(&workspace.lake).await?.marts.into_iter().map(|(name, mart)| {
        (name, MartStatus { rows: mart.rows, path: mart.path, run_id: mart.run_id, as_of: mart.as_of })
    });
    Ok(LakeStatus {
        as_of: as_of.map(instant),
        last_batch_at: entries.iter().map(|entry| entry.planned_at).max().map(instant),
        batches: entries.len(),
        sources,
        dead_letters,
        flags,
        tables: sizes(workspace, graph).await?,
        marts: marts.collect(),
    })
}

/// The tables that lie in the lake, with the rows of those whose files do not tell them counted.
async fn sizes(workspace: &Workspace, graph: &Graph) -> Result<Vec<TableSize>> {
    let mut sizes = table_sizes::of_lake(workspace, graph).await?;
    for size in sizes.iter_mut().filter(|size| size.rows.is_none()) {
        size.rows = Some(workspace.ctx.table(size.table.as_str()).await?.count().await?);
    }
    Ok(sizes)
}

async fn rows(workspace: &Workspace, sql: &str) -> Result<Vec<RecordBatch>> {
    Ok(workspace.ctx.sql(sql).await?.collect().await?)
}

/// A column as text.
fn texts(batch: &RecordBatch, column: usize) -> Result<Vec<String>> {
    let texts = ArrayFormatter::try_new(batch.column(column), &FormatOptions::default())?;
    Ok((0..batch.num_rows()).map(|row| texts.value(row).to_string()).collect())
}
