//! Column types that every reader of our tables understands, and batches brought to them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};

/// The schema under which rows of `schema` are stored: plain text for any encoding of it, microseconds UTC for any
/// instant, signed integers for unsigned ones. A type that other readers do not know is an error that names the column.
pub fn stored_schema(schema: &Schema) -> Result<SchemaRef> {
    let fields: Result<Vec<FieldRef>> = schema.fields().iter().map(|field| stored_field(field, field.name())).collect();
    Ok(Arc::new(Schema::new(fields?)))
}

fn stored_field(field: &Field, name: &str) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(field.name(), stored_type(field.data_type(), name)?, true)))
}

fn stored_type(data_type: &DataType, column: &str) -> Result<DataType> {
    Ok(match data_type {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, value) => stored_type(value, column)?,
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Timestamp(_, None) | DataType::Date64 => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            // Delta's name for the elements of a list.
            DataType::List(Arc::new(Field::new("element", stored_type(item.data_type(), column)?, true)))
        }
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| stored_field(field, column)).collect::<Result<Vec<_>>>()?.into())
        }
        DataType::Interval(_) | DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_) => {
            return Err(Error::invalid(format!("column `{column}` has type {data_type}, which files cannot hold"))
                .hint("turn it into seconds, for example with date_part('epoch', …)"));
        }
        other => other.clone(),
    })
}

/// Brings a batch to its stored types. Columns that already have them are not copied.
pub fn to_stored(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns: Result<Vec<ArrayRef>> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(array, field)| match array.data_type() == field.data_type() {
            true => Ok(array.clone()),
            false => Ok(cast(array, field.data_type())?),
        })
        .collect();
    Ok(RecordBatch::try_new(schema.clone(), columns?)?)
}

/// Whether a column is flat: no list, struct or map.
pub fn is_flat(field: &Field) -> bool {
    !field.data_type().is_nested()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int32Array, StringArray, TimestampNanosecondArray, UInt64Array};

    #[test]
    fn any_encoding_of_a_column_is_stored_as_its_plain_type() {
        let dictionary = DictionaryArray::new(Int32Array::from(vec![0, 0]), Arc::new(StringArray::from(vec!["web"])));
        let batch = RecordBatch::try_from_iter([
            ("channel", Arc::new(dictionary) as ArrayRef),
            ("at", Arc::new(TimestampNanosecondArray::from(vec![1_000, 2_999]))),
            ("count", Arc::new(UInt64Array::from(vec![1, 2]))),
        ])
        .unwrap();
        let schema = stored_schema(&batch.schema()).unwrap();
        let stored = to_stored(&batch, &schema).unwrap();
        let types: Vec<String> = stored.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(types, ["Utf8", "Timestamp(µs, \"UTC\")", "Int64"]);
    }

    #[test]
    fn a_type_that_files_cannot_hold_is_named_with_its_column() {
        let schema = Schema::new(vec![Field::new("gap", DataType::Duration(TimeUnit::Second), true)]);
        let error = stored_schema(&schema).unwrap_err();
        assert!(error.to_string().contains("column `gap`"), "{error}");
    }
}
