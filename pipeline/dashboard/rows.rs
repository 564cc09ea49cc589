//! The rows of a query as the page reads them: plain values of few types.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Float64Type, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, NaiveDate};
use serde::Serialize;
use serde_json::Value;

use crate::error::Result;

/// Longest text of a cell, in characters.
const TEXT: usize = 120;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Text; also what is of no other type.
    Text,
    /// A number.
    Number,
    /// A day, `2025-01-31`.
    Day,
    /// An instant, `2025-01-31T10:00:00Z`.
    Time,
    /// True or false.
    Flag,
    /// A list of numbers.
    Numbers,
}

impl Type {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Dictionary(_, value) => Self::of(value),
            DataType::Date32 | DataType::Date64 => Self::Day,
            DataType::Timestamp(..) => Self::Time,
            DataType::Boolean => Self::Flag,
            DataType::List(item) | DataType::LargeList(item) if item.data_type().is_numeric() => Self::Numbers,
            numeric if numeric.is_numeric() => Self::Number,
            _ => Self::Text,
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Day => "day",
            Self::Time => "time",
            Self::Flag => "flag",
            Self::Numbers => "list of numbers",
        }
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name; it tells the unit of numbers too.
    pub name: String,
    /// What its values are.
    #[serde(rename = "type")]
    pub data_type: Type,
}

impl Column {
    /// The columns of a schema.
    pub fn all(schema: &Schema) -> Vec<Self> {
        let fields = schema.fields().iter();
        fields.map(|field| Self { name: field.name().clone(), data_type: Type::of(field.data_type()) }).collect()
    }

    /// Whether its values may be added up. Rates, times taken and averages may not.
    pub fn is_additive(&self) -> bool {
        let words: Vec<&str> = self.name.split('_').collect();
        !words.iter().any(|word| {
            ["rate", "share", "seconds", "mean", "median", "average", "avg", "min", "max", "p50", "p90", "p95", "p99"]
                .contains(word)
        })
    }
}

/// Rows with their columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rows {
    /// The columns in order.
    pub columns: Vec<Column>,
    /// A value per column and row.
    pub rows: Vec<Vec<Value>>,
}

impl Rows {
    /// The rows of batches, in order.
    pub fn of(schema: &Schema, batches: &[RecordBatch]) -> Result<Self> {
        let columns = Column::all(schema);
        let mut rows = Vec::new();
        for batch in batches {
            let values: Vec<Vec<Value>> = columns
                .iter()
                .zip(batch.columns())
                .map(|(column, array)| values(column.data_type, array))
                .collect::<Result<_>>()?;
            let mut values: Vec<_> = values.into_iter().map(Vec::into_iter).collect();
            for _ in 0..batch.num_rows() {
                rows.push(values.iter_mut().map(|column| column.next().unwrap_or_default()).collect());
            }
        }
        Ok(Self { columns, rows })
    }

    /// The number in a cell; what is none counts nothing.
    pub fn number(&self, row: usize, column: usize) -> f64 {
        self.rows[row][column].as_f64().unwrap_or_default()
    }

    /// The text of a cell.
    pub fn text(&self, row: usize, column: usize) -> String {
        text(&self.rows[row][column])
    }
}

/// A value as text, as it names a thing.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "(none)".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn values(data_type: Type, array: &ArrayRef) -> Result<Vec<Value>> {
    Ok(match data_type {
        Type::Number => numbers(array)?,
        Type::Numbers => {
            let item = arrow::datatypes::Field::new("item", DataType::Float64, true);
            let lists = cast(array, &DataType::List(item.into()))?;
            lists
                .as_list::<i32>()
                .iter()
                .map(|list| list.map_or(Ok(Value::Null), |list| numbers(&list).map(Value::Array)))
                .collect::<Result<_>>()?
        }
        Type::Day => {
            let days = cast(array, &DataType::Date32)?;
            let day = |day| Date32Type::to_naive_date_opt(day).as_ref().map(NaiveDate::to_string);
            days.as_primitive::<Date32Type>().iter().map(|value| value.and_then(day).into()).collect()
        }
        Type::Time => {
            let times = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let instant = |micros| {
                DateTime::from_timestamp_micros(micros).map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
            };
            times
                .as_primitive::<TimestampMicrosecondType>()
                .iter()
                .map(|value| value.and_then(instant).into())
                .collect()
        }
        Type::Flag => {
            let flags = cast(array, &DataType::Boolean)?;
            flags.as_boolean().iter().map(Value::from).collect()
        }
        Type::Text => {
            let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
            let text =
                |row| if array.is_null(row) { Value::Null } else { cut(formatter.value(row).to_string()).into() };
            (0..array.len()).map(text).collect()
        }
    })
}

/// Whole numbers stay whole; what is no number is nothing.
fn numbers(array: &ArrayRef) -> Result<Vec<Value>> {
    let floats = cast(array, &DataType::Float64)?;
    let number = |value: f64| match value.fract() == 0.0 && value.abs() < 9e15 {
        true => Value::from(value as i64),
        false => Value::from(value),
    };
    Ok(floats.as_primitive::<Float64Type>().iter().map(|value| value.map_or(Value::Null, number)).collect())
}

fn cut(text: String) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;
    use serde_json::json;

    async fn rows(sql: &str) -> Rows {
        let frame = SessionContext::new().sql(sql).await.unwrap();
        let schema = frame.schema().as_arrow().clone();
        Rows::of(&schema, &frame.collect().await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn values_are_plain_whatever_type_they_had() {
        let rows = rows(
            "select 'a' as text, arrow_cast('b', 'Dictionary(Int32, Utf8)') as coded, cast(1.50 as decimal(9, 2)) as price,
                    cast(7 as bigint unsigned) as count, date '2025-01-31' as day, to_timestamp('2025-01-31T10:00:00Z') as at,
                    true as flag, [1, null, 2.5] as trend, cast(null as int) as nothing, cast('nan' as double) as none,
                    [1, 2][3] is null as other",
        )
        .await;
        let types: Vec<&str> = rows.columns.iter().map(|column| column.data_type.name()).collect();
        let expected =
            ["text", "text", "number", "number", "day", "time", "flag", "list of numbers", "number", "number", "flag"];
        assert_eq!(types, expected);
        let row =
            json!(["a", "b", 1.5, 7, "2025-01-31", "2025-01-31T10:00:00Z", true, [1, null, 2.5], null, null, true]);
        assert_eq!(Value::Array(rows.rows[0].clone()), row);
    }

    #[tokio::test]
    async fn long_texts_are_cut() {
        let rows = rows("select repeat('ä', 1000) as text").await;
        assert_eq!(rows.text(0, 0).chars().count(), TEXT + 1);
    }

    #[test]
    fn rates_and_averages_do_not_add_up() {
        for (name, is_additive) in
            [("journeys", true), ("conversion_rate", false), ("median_gap_seconds", false), ("generated", true)]
        {
            assert_eq!(Column { name: name.into(), data_type: Type::Number }.is_additive(), is_additive, "{name}");
        }
    }
}
