//! SQL behaviour: every `.slt` file under `tests/sql/`, over a session with our functions.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

/// A session of few rows per batch and several partitions, so that answers cannot lean on either.
struct Session(SessionContext);

impl Session {
    fn new() -> Self {
        let config = SessionConfig::new().with_target_partitions(4).with_batch_size(3).with_information_schema(true);
        let ctx = SessionContext::new_with_config(config);
        wayline::functions::register_all(&ctx);
        Self(ctx)
    }
}

#[async_trait]
impl AsyncDB for Session {
    type Error = DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Self::ColumnType>, Self::Error> {
        let batches = self.0.sql(sql).await?.collect().await?;
        let rows = batches.iter().map(texts).collect::<Result<Vec<_>, _>>()?.concat();
        if batches.first().is_none_or(|batch| batch.num_columns() == 0) {
            return Ok(DBOutput::StatementComplete(0));
        }
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; batches[0].num_columns()], rows })
    }

    async fn shutdown(&mut self) {}
}

fn texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>, DataFusionError> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
    let shown = |text: String| if text.is_empty() { "(empty)".to_string() } else { text };
    Ok((0..batch.num_rows())
        .map(|row| columns.iter().map(|column| shown(column.value(row).to_string())).collect())
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_answers_are_as_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut folders = vec![root];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "slt") {
                Runner::new(|| async { Ok(Session::new()) }).run_file_async(&path).await.unwrap();
                count += 1;
            }
        }
    }
    assert!(count > 5, "{count} files");
}
