//! One-shot SQL over all tables and marts, in the form that the reader wants.

use std::io::Write;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_schema;
use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;
use std::sync::Arc;

use crate::delta;
use crate::derived::storage::{stored_schema, to_stored};
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

/// Runs one query, read-only, and writes its result.
pub async fn query(ctx: &SessionContext, sql: &str, format: Format, out: &mut impl Write) -> Result<()> {
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = ctx.sql_with_options(sql, options).await?;
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await?;
    // A sum or a count may come with another nullability than was planned; the rows' own schema is the truth.
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    write(&schema, &batches, format, out)
}

fn write(schema: &SchemaRef, batches: &[RecordBatch], format: Format, out: &mut impl Write) -> Result<()> {
    match format {
        Format::Table => writeln!(out, "{}", pretty_format_batches_with_schema(schema.clone(), batches)?)?,
        Format::Markdown => writeln!(out, "{}", markdown(schema, batches)?)?,
        Format::Csv => {
            let schema = flat_schema(schema);
            let mut writer = arrow::csv::WriterBuilder::new()
                .with_header(true)
                .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.6fZ".into())
                .build(&mut *out);
            if batches.is_empty() {
                writer.write(&RecordBatch::new_empty(schema.clone()))?;
            }
            for batch in batches {
                writer.write(&flat(batch, &schema)?)?;
            }
        }
        Format::Json => {
            let mut writer = arrow::json::ArrayWriter::new(&mut *out);
            writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
            writer.finish()?;
            writeln!(out)?;
        }
        Format::Ndjson => {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut *out);
            writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
            writer.finish()?;
        }
        Format::Parquet => {
            let schema = stored_schema(schema)?;
            let stored: Vec<RecordBatch> =
                batches.iter().map(|batch| to_stored(batch, &schema)).collect::<Result<_>>()?;
            out.write_all(&delta::encode(&schema, stored)?.0)?;
        }
    }
    Ok(())
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
            false => field.as_ref().clone(),
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
        assert_eq!(shown(SQL, Format::Json).await, "[{\"one\":1,\"text\":\"a|b\",\"list\":[1,2]}]\n");
        assert_eq!(shown(SQL, Format::Ndjson).await, "{\"one\":1,\"text\":\"a|b\",\"list\":[1,2]}\n");
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
