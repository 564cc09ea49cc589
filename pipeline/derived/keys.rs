//! Sets of keys, kept as Parquet files with one column of text.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use uuid::Uuid;

use super::changes::FILES;
use crate::delta::{self, Part};
use crate::error::{Context, Error, Result};
use crate::lake::Lake;

static SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("key", DataType::Utf8, false)])));

/// Writes distinct keys as a file of changes.
pub async fn write<'a>(lake: &Lake, name: &str, keys: impl IntoIterator<Item = &'a str>) -> Result<Part> {
    let keys = Arc::new(StringArray::from_iter_values(keys));
    let (content, rows) = delta::encode(&SCHEMA, [RecordBatch::try_new(SCHEMA.clone(), vec![keys])?])?;
    delta::write_part(lake, FILES, &format!("{name}-{}", Uuid::new_v4().simple()), Vec::new(), content, rows).await
}

/// Reads the keys of a file, as one array per batch.
pub async fn read(lake: &Lake, part: &Part) -> Result<Vec<StringArray>> {
    let path = format!("{FILES}/{}", part.path);
    let bytes = lake.get(&path).await?;
    let bytes = bytes.ok_or_else(|| Error::corrupt(format!("{path} is gone, and changes name it")))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).context(&path)?.build().context(&path)?;
    reader.map(|batch| Ok(batch.context(&path)?.column(0).as_string::<i32>().clone())).collect()
}

/// The keys of a file, if there is one.
pub async fn read_all(lake: &Lake, part: Option<&Part>) -> Result<Vec<StringArray>> {
    match part {
        Some(part) => read(lake, part).await,
        None => Ok(Vec::new()),
    }
}

/// What holds of each key of a column, as keys are compared ([`as_text`]); texts are not copied.
pub fn test_each(column: &dyn Array, holds: impl Fn(&str) -> bool) -> Result<BooleanArray> {
    let test = |key: Option<&str>| Some(holds(key.unwrap_or_default()));
    Ok(match column.data_type() {
        DataType::Utf8View => column.as_string_view().iter().map(test).collect(),
        DataType::Utf8 => column.as_string::<i32>().iter().map(test).collect(),
        _ => as_text(column)?.iter().map(test).collect(),
    })
}

/// A column of keys as they are compared: text, with nothing for null. Days are written as in ISO 8601.
pub fn as_text(column: &dyn Array) -> Result<StringArray> {
    let text = cast(column, &DataType::Utf8)?;
    let text = text.as_string::<i32>();
    Ok(match text.null_count() {
        0 => text.clone(),
        _ => text.iter().map(|key| Some(key.unwrap_or_default())).collect(),
    })
}
