//! Encodings of the columns of a file, told by its first rows.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashSet;
use parquet::basic::Encoding;
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::schema::types::ColumnPath;

use crate::error::Result;

/// Rows that are looked at.
const LOOKED_AT: usize = 1024;
/// Rows that tell nothing yet.
const FEW: usize = 32;

/// Properties with the encodings that fit flat columns such as these. Times are steps. A column most of whose values are
/// different has no dictionary, which would hold nearly all of them and be written beside them.
pub fn that_fit(properties: WriterPropertiesBuilder, first: &RecordBatch) -> Result<WriterPropertiesBuilder> {
    let first = first.slice(0, first.num_rows().min(LOOKED_AT));
    let mut properties = properties;
    for (field, column) in first.schema_ref().fields().iter().zip(first.columns()) {
        let path = ColumnPath::new(vec![field.name().clone()]);
        match field.data_type() {
            DataType::Timestamp(..) => {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
            nested if nested.is_nested() => {}
            _ if is_mostly_distinct(column)? => {
                properties = properties.set_column_dictionary_enabled(path, false);
            }
            _ => {}
        }
    }
    Ok(properties)
}

fn is_mostly_distinct(column: &dyn Array) -> Result<bool> {
    let values = column.len() - column.null_count();
    if values < FEW {
        return Ok(false);
    }
    let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
    let rows = converter.convert_columns(&[arrow::array::make_array(column.to_data())])?;
    let distinct: HashSet<_> = (0..column.len()).filter(|row| column.is_valid(*row)).map(|row| rows.row(row)).collect();
    Ok(distinct.len() * 2 > values)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
    use parquet::file::properties::WriterProperties;

    use super::*;

    #[test]
    fn a_dictionary_is_made_of_values_that_come_again() {
        let text = |make: fn(i64) -> String| -> ArrayRef {
            Arc::new((0..200).map(|n| Some(make(n))).collect::<StringArray>())
        };
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("id", text(|n| format!("{n:032}")), true),
            ("channel", text(|n| format!("{}", n % 7)), true),
            ("none", Arc::new(Int64Array::from(vec![None; 200])) as ArrayRef, true),
            ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(0..200)), true),
        ])
        .unwrap();
        let has_dictionary = |rows: &RecordBatch| {
            let properties = that_fit(WriterProperties::builder(), rows).unwrap().build();
            ["id", "channel", "none", "at"].map(|name| properties.dictionary_enabled(&ColumnPath::from(name)))
        };
        assert_eq!(has_dictionary(&rows), [false, true, true, false]);
        assert_eq!(has_dictionary(&rows.slice(0, 5)), [true, true, true, false], "a few rows tell nothing");
    }
}
