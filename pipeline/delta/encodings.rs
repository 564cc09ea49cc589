//! Encodings of the columns of a file, told by its first rows.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashSet;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::error::Result;

/// Rows that are looked at.
const LOOKED_AT: usize = 1024;
/// Rows that tell nothing yet.
const FEW: usize = 32;
/// What compression must leave of a column at most to be worth its time.
const WORTH_IT: f64 = 0.8;

/// Properties with the encodings that fit columns such as these, flat ones and lists. Times are steps. A column most of
/// whose values are different has no dictionary, which would hold nearly all of them and be written beside them; where
/// `compression` makes it hardly smaller, as it does of ids, the column is not compressed.
pub fn that_fit(
    properties: WriterPropertiesBuilder,
    compression: Compression,
    first: &RecordBatch,
) -> Result<WriterPropertiesBuilder> {
    let first = first.slice(0, first.num_rows().min(LOOKED_AT));
    let mut properties = properties;
    for (field, column) in first.schema_ref().fields().iter().zip(first.columns()) {
        let (path, values) = match (field.data_type(), column.as_list_opt::<i32>()) {
            (DataType::List(item), Some(lists)) => {
                let path = ["list", item.name()].map(String::from);
                (ColumnPath::new([vec![field.name().clone()], path.to_vec()].concat()), elements(lists))
            }
            _ => (ColumnPath::new(vec![field.name().clone()]), column.clone()),
        };
        match values.data_type() {
            DataType::Timestamp(..) => {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
            nested if nested.is_nested() => {}
            _ if is_mostly_distinct(&values)? => {
                if !is_worth_compressing(&values, compression)? {
                    properties = properties.set_column_compression(path.clone(), Compression::UNCOMPRESSED);
                }
                properties = properties.set_column_dictionary_enabled(path, false);
            }
            _ => {}
        }
    }
    Ok(properties)
}

/// The first elements of lists.
fn elements(lists: &ListArray) -> ArrayRef {
    let (begin, end) = match lists.value_offsets() {
        [begin, .., end] => (*begin as usize, *end as usize),
        _ => (0, 0),
    };
    lists.values().slice(begin, (end - begin).min(LOOKED_AT))
}

fn is_mostly_distinct(column: &ArrayRef) -> Result<bool> {
    let values = column.len() - column.null_count();
    if values < FEW {
        return Ok(false);
    }
    let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(column))?;
    let distinct: HashSet<_> = (0..column.len()).filter(|row| column.is_valid(*row)).map(|row| rows.row(row)).collect();
    Ok(distinct.len() * 2 > values)
}

/// Whether values take clearly fewer bytes compressed, one after another and without a dictionary.
fn is_worth_compressing(column: &ArrayRef, compression: Compression) -> Result<bool> {
    // Made for small files, whatever it takes; by its entropy coding the ids are half as large.
    if let Compression::ZSTD(_) = compression {
        return Ok(true);
    }
    let rows = RecordBatch::try_from_iter([("column", column.clone())])?;
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties))?;
    writer.write(&rows)?;
    let metadata = writer.close()?;
    let column = metadata.row_group(0).column(0);
    Ok(column.compressed_size() as f64 <= WORTH_IT * column.uncompressed_size() as f64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, ListBuilder, StringArray, StringBuilder, TimestampMicrosecondArray};
    use parquet::basic::ZstdLevel;

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
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in 0..50 {
            lists.append_value((0..row % 3).map(|n| Some(format!("{row} {n}"))));
        }
        let lists = RecordBatch::try_from_iter([("ids", Arc::new(lists.finish()) as ArrayRef)]).unwrap().slice(9, 41);
        let properties = that_fit(WriterProperties::builder(), Compression::SNAPPY, &lists).unwrap().build();
        let path = ColumnPath::new(["ids", "list", "item"].map(String::from).to_vec());
        assert!(!properties.dictionary_enabled(&path));

        let has_dictionary = |rows: &RecordBatch| {
            let properties = that_fit(WriterProperties::builder(), Compression::SNAPPY, rows).unwrap().build();
            ["id", "channel", "none", "at"].map(|name| properties.dictionary_enabled(&ColumnPath::from(name)))
        };
        assert_eq!(has_dictionary(&rows), [false, true, true, false]);
        assert_eq!(has_dictionary(&rows.slice(0, 5)), [true, true, true, false], "a few rows tell nothing");
    }

    #[test]
    fn ids_are_not_compressed_and_sentences_are() {
        let ids = (0..500_u64).map(|n| Some(format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
        let sentences = (0..500).map(|n| Some(format!("the same words of the same page, number {n}")));
        let rows = RecordBatch::try_from_iter([
            ("id", Arc::new(ids.collect::<StringArray>()) as ArrayRef),
            ("page", Arc::new(sentences.collect::<StringArray>())),
        ])
        .unwrap();
        let zstd = Compression::ZSTD(ZstdLevel::default());
        for (compression, of_ids) in [(Compression::SNAPPY, Compression::UNCOMPRESSED), (zstd, zstd)] {
            let properties = WriterProperties::builder().set_compression(compression);
            let properties = that_fit(properties, compression, &rows).unwrap().build();
            assert_eq!(properties.compression(&ColumnPath::from("id")), of_ids, "{compression}");
            assert_eq!(properties.compression(&ColumnPath::from("page")), compression);
        }
    }
}
