//! One-shot SQL over all tables and marts, in the form that the reader wants.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonArray, LineDelimited};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_schema;
use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;

use crate::delta;
use crate::derived::storage::{stored_schema, to_stored};
use crate::engine;
use crate::error::Result;

/// Forms of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    Table,
    /// A Markdown table
    Markdown,
    /// Comma-separated values with a header; null is empty
    Csv,
    /// One JSON array
    Json,
    /// One JSON object per line
    Ndjson,
    /// A Parquet file
    Parquet,
}

/// Runs one query, read-only, and writes its result: row by row, but for tables, whose width all rows tell.
pub async fn query(ctx: &SessionContext, sql: &str, format: Format, out: &mut (impl Write + Send)) -> Result<()> {
    let mut rows = engine::query(ctx, sql).await?.execute_stream().await?;
    let schema = rows.schema();
    match format {
        Format::Table | Format::Markdown => {
            let batches: Vec<RecordBatch> = rows.try_collect().await?;
            // A sum or a count may come with another nullability than was planned; the rows' own schema is the truth.
            let schema = batches.first().map_or(schema, RecordBatch::schema);
            match format {
                Format::Table => writeln!(out, "{}", pretty_format_batches_with_schema(schema, &batches)?)?,
                _ => writeln!(out, "{}", markdown(&schema, &batches)?)?,
            }
        }
        Format::Csv => {
            let schema = flat_schema(&schema);
            let mut writer = arrow::csv::WriterBuilder::new()
                .with_header(true)
                .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.6fZ".into())
                .build(&mut *out);
            writer.write(&RecordBatch::new_empty(schema.clone()))?;
            while let Some(batch) = rows.try_next().await? {
                writer.write(&flat(&batch, &schema)?)?;
            }
        }
        Format::Json => {
            let mut writer = json_writer().build::<_, JsonArray>(&mut *out);
            while let Some(batch) = rows.try_next().await? {
                writer.write(&batch)?;
            }
            writer.finish()?;
            writeln!(out)?;
        }
        Format::Ndjson => {
            let mut writer = json_writer().build::<_, LineDelimited>(&mut *out);
            while let Some(batch) = rows.try_next().await? {
                writer.write(&batch)?;
            }
            writer.finish()?;
        }
        Format::Parquet => {
            let schema = stored_schema(&schema)?;
            let mut writer = ArrowWriter::try_new(out, schema.clone(), Some(delta::writer_properties()))?;
            while let Some(batch) = rows.try_next().await? {
                writer.write(&to_stored(&batch, &schema)?)?;
            }
            writer.close()?;
        }
    }
    Ok(())
}

/// Every row has every key.
fn json_writer() -> WriterBuilder {
    WriterBuilder::new().with_explicit_nulls(true)
}

fn markdown(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Table> {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(schema.fields().iter().map(|field| field.name().as_str()));
    let escaped = |text: String| text.replace('|', "\\|").replace('\n', " ");
    for batch in batches {
        let options = FormatOptions::default();
        let columns = batch.columns().iter().map(|array| ArrayFormatter::try_new(array, &options));
        let columns: Vec<ArrayFormatter<'_>> = columns.collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            table.add_row(columns.iter().map(|column| escaped(column.value(row).to_string())));
        }
    }
    Ok(table)
}

/// Nested columns become text, which CSV can hold.
fn flat_schema(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| match field.data_type().is_nested() {
            true => Field::new(field.name(), DataType::Utf8, true),
            // A sum may come with another nullability than was planned.
            false => field.as_ref().clone().with_nullable(true),
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn flat(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = FormatOptions::default();
    let columns: Result<Vec<ArrayRef>> = batch
        .columns()
        .iter()
        .map(|array| {
            if !array.data_type().is_nested() {
                return Ok(array.clone());
            }
            let formatter = ArrayFormatter::try_new(array, &options)?;
            let texts = (0..array.len()).map(|row| array.is_valid(row).then(|| formatter.value(row).to_string()));
            Ok(Arc::new(texts.collect::<StringArray>()) as ArrayRef)
        })
        .collect();
    Ok(RecordBatch::try_new(schema.clone(), columns?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(sql: &str, format: Format) -> String {
        let mut out = Vec::new();
        query(&SessionContext::new(), sql, format, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    const SQL: &str = "select 1 as one, 'a|b' as text, null as nothing, [1, 2] as list";

    #[tokio::test]
    async fn each_format_shows_the_same_row() {
        assert_eq!(shown(SQL, Format::Csv).await, "one,text,nothing,list\n1,a|b,,\"[1, 2]\"\n");
        assert_eq!(shown(SQL, Format::Json).await, "[{\"one\":1,\"text\":\"a|b\",\"nothing\":null,\"list\":[1,2]}]\n");
        assert_eq!(shown(SQL, Format::Ndjson).await, "{\"one\":1,\"text\":\"a|b\",\"nothing\":null,\"list\":[1,2]}\n");
        assert!(shown(SQL, Format::Markdown).await.contains("| 1   | a\\|b |"));
        assert!(shown(SQL, Format::Table).await.starts_with('+'));
    }

    #[tokio::test]
    async fn a_result_without_rows_keeps_its_header() {
        assert_eq!(shown("select 1 as one where false", Format::Csv).await, "one\n");
    }

    #[tokio::test]
    async fn statements_that_write_are_refused() {
        for sql in ["create table t as select 1", "copy (select 1) to 'x.csv'", "set a.b = 1", "drop table t"] {
            let outcome = query(&SessionContext::new(), sql, Format::Csv, &mut Vec::new()).await;
            assert!(outcome.is_err(), "{sql}");
        }
    }
}
