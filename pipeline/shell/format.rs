//! Results in the form that their reader wants, row by row, but for tables, whose width all rows tell.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonArray, LineDelimited};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;

use super::table::{self, Layout};
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
    /// Values separated by tabs with a header; null is empty
    Tsv,
    /// One JSON array
    Json,
    /// One JSON object per line
    Ndjson,
    /// A line per value
    Line,
    /// A Parquet file
    Parquet,
}

/// Rows of a result, and how many of them were shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// All rows.
    pub rows: usize,
    /// Those that were written.
    pub shown: usize,
}

/// Runs a query and writes its result.
pub async fn write(query: DataFrame, format: Format, layout: Layout, out: &mut (dyn Write + Send)) -> Result<Written> {
    // A plan is read whole.
    let is_plan = matches!(query.logical_plan(), LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
    let width = layout.width.filter(|_| !is_plan);
    let mut rows = engine::rows_within_memory(query).await?;
    let schema = rows.schema();
    let mut written = Written::default();
    match format {
        Format::Table | Format::Markdown => {
            let mut batches: Vec<RecordBatch> = Vec::new();
            while let Some(batch) = rows.try_next().await? {
                let wanted = layout.max_rows.map_or(batch.num_rows(), |most| most.saturating_sub(written.shown));
                written.rows += batch.num_rows();
                let shown = batch.slice(0, wanted.min(batch.num_rows()));
                written.shown += shown.num_rows();
                if shown.num_rows() > 0 {
                    batches.push(shown);
                }
            }
            // A sum or a count may come with another nullability than was planned; the rows' own schema is the truth.
            let schema = batches.first().map_or(schema, RecordBatch::schema);
            match format {
                Format::Table => writeln!(out, "{}", table::table(&schema, &batches, width)?)?,
                _ => writeln!(out, "{}", table::markdown(&schema, &batches)?)?,
            }
            return Ok(written);
        }
        Format::Csv | Format::Tsv => {
            let schema = flat_schema(&schema);
            let mut writer = arrow::csv::WriterBuilder::new()
                .with_header(true)
                .with_delimiter(if format == Format::Tsv { b'\t' } else { b',' })
                .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.6fZ".into())
                .build(&mut *out);
            writer.write(&RecordBatch::new_empty(schema.clone()))?;
            while let Some(batch) = rows.try_next().await? {
                writer.write(&flat(&batch, &schema)?)?;
                written.rows += batch.num_rows();
            }
        }
        Format::Json => {
            let mut writer = json_writer().build::<_, JsonArray>(&mut *out);
            while let Some(batch) = rows.try_next().await? {
                writer.write(&batch)?;
                written.rows += batch.num_rows();
            }
            writer.finish()?;
            writeln!(out)?;
        }
        Format::Ndjson => {
            let mut writer = json_writer().build::<_, LineDelimited>(&mut *out);
            while let Some(batch) = rows.try_next().await? {
                writer.write(&batch)?;
                written.rows += batch.num_rows();
            }
            writer.finish()?;
        }
        Format::Line => {
            while let Some(batch) = rows.try_next().await? {
                write_lines(&batch, written.rows, out)?;
                written.rows += batch.num_rows();
            }
        }
        Format::Parquet => {
            let schema = stored_schema(&schema)?;
            let mut writer = ArrowWriter::try_new(&mut *out, schema.clone(), Some(delta::writer_properties()))?;
            while let Some(batch) = rows.try_next().await? {
                writer.write(&to_stored(&batch, &schema)?)?;
                written.rows += batch.num_rows();
            }
            writer.close()?;
        }
    }
    written.shown = written.rows;
    Ok(written)
}

/// `name = value`, with a line between rows.
fn write_lines(batch: &RecordBatch, before: usize, out: &mut (dyn Write + Send)) -> Result<()> {
    let options = FormatOptions::default();
    let schema = batch.schema();
    let width = schema.fields().iter().map(|field| field.name().chars().count()).max().unwrap_or_default();
    let columns: Result<Vec<ArrayFormatter<'_>>, _> =
        batch.columns().iter().map(|array| ArrayFormatter::try_new(array, &options)).collect();
    let columns = columns?;
    for row in 0..batch.num_rows() {
        if before + row > 0 {
            writeln!(out)?;
        }
        for (field, column) in schema.fields().iter().zip(&columns) {
            writeln!(out, "{:>width$} = {}", field.name(), table::inert(&column.value(row).to_string()))?;
        }
    }
    Ok(())
}

/// Every row has every key.
fn json_writer() -> WriterBuilder {
    WriterBuilder::new().with_explicit_nulls(true)
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
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn shown(sql: &str, format: Format) -> String {
        shown_in(sql, format, Layout::default()).await.0
    }

    async fn shown_in(sql: &str, format: Format, layout: Layout) -> (String, Written) {
        let mut out = Vec::new();
        let query = engine::query(&SessionContext::new(), sql).await.unwrap();
        let written = write(query, format, layout, &mut out).await.unwrap();
        (String::from_utf8(out).unwrap(), written)
    }

    const SQL: &str = "select 1 as one, 'a|b' as text, null as nothing, [1, 2] as list";

    #[tokio::test]
    async fn each_format_shows_the_same_row() {
        assert_eq!(shown(SQL, Format::Csv).await, "one,text,nothing,list\n1,a|b,,\"[1, 2]\"\n");
        assert_eq!(shown(SQL, Format::Tsv).await, "one\ttext\tnothing\tlist\n1\ta|b\t\t[1, 2]\n");
        assert_eq!(shown(SQL, Format::Json).await, "[{\"one\":1,\"text\":\"a|b\",\"nothing\":null,\"list\":[1,2]}]\n");
        assert_eq!(shown(SQL, Format::Ndjson).await, "{\"one\":1,\"text\":\"a|b\",\"nothing\":null,\"list\":[1,2]}\n");
        assert_eq!(shown(SQL, Format::Line).await, "    one = 1\n   text = a|b\nnothing = \n   list = [1, 2]\n");
        assert!(shown(SQL, Format::Markdown).await.contains("| 1   | a\\|b |"));
        assert!(shown(SQL, Format::Table).await.starts_with('+'));
    }

    #[tokio::test]
    async fn a_result_without_rows_keeps_its_header() {
        assert_eq!(shown("select 1 as one where false", Format::Csv).await, "one\n");
        assert!(shown("select 1 as one where false", Format::Table).await.contains("| one |"));
    }

    #[tokio::test]
    async fn rows_that_are_not_shown_are_counted() {
        let layout = Layout { width: None, max_rows: Some(2) };
        let (text, written) = shown_in("select value from generate_series(1, 20000)", Format::Table, layout).await;
        assert_eq!(written, Written { rows: 20_000, shown: 2 });
        assert_eq!(text.lines().count(), 6, "{text}");
        let (text, written) = shown_in("select value from generate_series(1, 5)", Format::Csv, layout).await;
        assert_eq!((text.lines().count(), written), (6, Written { rows: 5, shown: 5 }), "for programs nothing is cut");
    }

    #[tokio::test]
    async fn statements_that_write_are_refused() {
        for sql in ["create table t as select 1", "copy (select 1) to 'x.csv'", "set a.b = 1", "drop table t"] {
            assert!(engine::query(&SessionContext::new(), sql).await.is_err(), "{sql}");
        }
    }
}
