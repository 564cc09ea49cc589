//! `match_recognize` in SQL.

mod any_rows;
mod clause;
mod snowflake;
mod trino;
mod trino_aggregates;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::super::register_all;
use super::standard_sql;

/// A session that understands the clause.
fn session(partitions: usize, batch_size: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(batch_size);
    let ctx = SessionContext::new_with_config(config);
    register_all(&ctx);
    ctx
}

/// The rows of a query as text, in the order of the query.
async fn run(ctx: &SessionContext, sql: &str) -> Result<Vec<String>> {
    let batches = ctx.sql(&standard_sql(sql)).await?.collect().await?;
    Ok(batches.iter().flat_map(texts).collect())
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("-");
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" ");
    (0..batch.num_rows()).map(row).collect()
}

/// Checks the rows of a query in any order, in sessions of different parallelism.
async fn check(sql: &str, expected: &str) {
    let mut expected: Vec<&str> = expected.split(';').map(str::trim).filter(|row| !row.is_empty()).collect();
    expected.sort();
    for (partitions, batch_size) in [(1, 8_192), (3, 2)] {
        let mut found =
            run(&session(partitions, batch_size), sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        found.sort();
        assert_eq!(found, expected, "{sql}");
    }
}

/// The message of a query that fails.
async fn error(sql: &str) -> String {
    match run(&session(2, 8_192), sql).await {
        Ok(rows) => panic!("{sql}: {rows:?}"),
        Err(error) => error.to_string(),
    }
}
