//! What a person wants to see at the end of a run, and the state of a lake.

use std::io::Write;

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::json;

use crate::error::Result;
use crate::landing::events::{DEAD_LETTERS, EVENTS};
use crate::marts::Catalog;
use crate::run::{Report, Tables};
use crate::workspace::Workspace;

/// Prints what a run did, where its outputs are, and three numbers worth knowing.
pub async fn print(workspace: &Workspace, report: &Report, out: &mut impl Write) -> Result<()> {
    if report.status == "nothing_new" {
        writeln!(out, "nothing new; {:.2} s", report.elapsed_time)?;
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
        let of = |kind: &str| report.results.iter().filter(|line| line.unique_id.starts_with(kind)).count();
        writeln!(
            out,
            "built       {} models, ran {} checks, published {} marts",
            of("model."),
            of("test."),
            of("mart.")
        )?;
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

fn memory(report: &Report) -> String {
    report.peak_memory_bytes.map(|bytes| format!(", {} MB of memory at most", bytes >> 20)).unwrap_or_default()
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
    "select cast(lost as double) / reached as share,
            'of those at ' || step_name || ' go no further in funnel ' || funnel || ', its largest drop-off' as text
     from (
         select funnel, step, step_name, sum(reached) as reached, sum(reached) - sum(converted_to_next) as lost
         from funnel_steps where converted_to_next is not null group by 1, 2, 3
     ) where reached > 0 order by lost desc, funnel, step limit 1",
];

/// Three numbers worth knowing; one whose tables are missing is left out.
async fn numbers(workspace: &Workspace, out: &mut impl Write) -> Result<()> {
    writeln!(out, "worth knowing")?;
    for sql in NUMBERS {
        let Ok(frame) = workspace.ctx.sql(sql).await else { continue };
        for batch in frame.collect().await? {
            let texts = ArrayFormatter::try_new(batch.column(1), &FormatOptions::default())?;
            let shares = batch.column(0).as_primitive::<Float64Type>();
            for (row, share) in shares.iter().enumerate() {
                if let Some(share) = share {
                    writeln!(out, "  {:>5.1} % {}", share * 100.0, texts.value(row))?;
                }
            }
        }
    }
    Ok(())
}

/// Prints freshness, batches, dead letters by reason with an example, and the sizes of tables.
pub async fn status(workspace: &Workspace, tables: &Tables, as_json: bool, out: &mut impl Write) -> Result<()> {
    let as_of = tables.as_of.and_then(chrono::DateTime::<chrono::Utc>::from_timestamp_micros);
    let as_of = as_of.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    let landed = rows(
        workspace,
        "select count(distinct batch), coalesce(sum(rows_in), 0), coalesce(sum(landed), 0), \
        coalesce(sum(duplicates), 0), coalesce(sum(dead_letters), 0) from batches",
    )
    .await?;
    let letters =
        rows(workspace, "select reason, count(*), min(origin) from dead_letters group by 1 order by 2 desc, 1").await?;
    let catalog = Catalog::load(&workspace.lake).await?;
    let mut sizes = Vec::new();
    for (name, folder) in [("events", EVENTS), ("dead_letters", DEAD_LETTERS)] {
        if let Some(table) = crate::delta::Table::open(&workspace.lake, folder).await? {
            let files = table.files()?;
            sizes.push((name, table.rows()?, files.len(), files.iter().map(|file| file.size).sum::<u64>()));
        }
    }
    let landed = landed.first().cloned().unwrap_or_default();
    if as_json {
        let report = json!({
            "as_of": as_of,
            "batches": landed.first(), "rows_in": landed.get(1), "landed": landed.get(2),
            "duplicates": landed.get(3), "dead_letters": landed.get(4),
            "reasons": letters.iter().map(|row| json!({"reason": row[0], "count": row[1], "example": row[2]})).collect::<Vec<_>>(),
            "tables": sizes.iter().map(|(name, rows, files, bytes)| json!({"table": name, "rows": rows, "files": files, "bytes": bytes})).collect::<Vec<_>>(),
            "marts": catalog.marts.iter().map(|(name, mart)| json!({"mart": name, "rows": mart.rows, "path": mart.path, "run_id": mart.run_id, "as_of": mart.as_of})).collect::<Vec<_>>(),
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    writeln!(out, "as of       {}", as_of.as_deref().unwrap_or("never: nothing is landed"))?;
    if let [batches, rows_in, landed, duplicates, dead] = landed.as_slice() {
        writeln!(
            out,
            "batches     {batches}: {rows_in} rows in = {landed} landed + {duplicates} duplicates + {dead} dead letters"
        )?;
    }
    for row in &letters {
        writeln!(out, "  {:<18} {:>10} dead letters, for example {}", row[0], row[1], row[2])?;
    }
    for (name, rows, files, bytes) in &sizes {
        writeln!(out, "{name:<12} {rows:>14} rows  {files} files, {} KB", bytes / 1000)?;
    }
    for (name, mart) in &catalog.marts {
        writeln!(
            out,
            "  {name:<18} {:>10} rows  {} (as of {})",
            mart.rows,
            mart.path,
            mart.as_of.as_deref().unwrap_or("-")
        )?;
    }
    Ok(())
}

/// The rows of a query as text.
async fn rows(workspace: &Workspace, sql: &str) -> Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for batch in workspace.ctx.sql(sql).await?.collect().await? {
        let options = FormatOptions::default();
        let columns = batch.columns().iter().map(|array| ArrayFormatter::try_new(array, &options));
        let columns: Vec<ArrayFormatter<'_>> = columns.collect::<Result<_, _>>()?;
        rows.extend(
            (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()),
        );
    }
    Ok(rows)
}
