//! Types in the words of SQL.

use arrow::datatypes::{DataType, Field};

/// A type as DuckDB and PostgreSQL call it: `varchar`, `bigint`, `timestamptz`, `varchar[]`, `struct(kind varchar)`.
pub fn sql_type(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => "varchar",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "blob",
        DataType::Boolean => "boolean",
        DataType::Int8 => "tinyint",
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::UInt8 => "utinyint",
        DataType::UInt16 => "usmallint",
        DataType::UInt32 => "uinteger",
        DataType::UInt64 => "ubigint",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Decimal128(digits, scale) | DataType::Decimal256(digits, scale) => {
            return format!("decimal({digits},{scale})");
        }
        DataType::Dictionary(_, value) => return sql_type(value),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            return format!("{}[]", sql_type(item.data_type()));
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| named(field)).collect();
            return format!("struct({})", fields.join(", "));
        }
        other => return other.to_string().to_lowercase(),
    };
    name.to_string()
}

fn named(field: &Field) -> String {
    format!("{} {}", field.name(), sql_type(field.data_type()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn types_are_called_as_in_sql() {
        let identifier = DataType::Struct(vec![Field::new("kind", DataType::Utf8, false)].into());
        for (data_type, name) in [
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "varchar"),
            (DataType::Decimal128(18, 4), "decimal(18,4)"),
            (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), "timestamptz"),
            (DataType::List(Arc::new(Field::new("element", identifier, true))), "struct(kind varchar)[]"),
        ] {
            assert_eq!(sql_type(&data_type), name);
        }
    }
}
