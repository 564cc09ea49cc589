//! How deep the values of a column lie: in the rows themselves, or in a list per row.

use arrow::datatypes::{DataType, Field};
use parquet::basic::{Encoding, Type};
use parquet::file::metadata::ColumnChunkMetaData;

use super::values::Kind;

/// What levels mean for a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Whether a row is a list of values.
    pub is_list: bool,
    /// Definition of a value that is there.
    pub max_definition: u8,
    /// Whether a list can be null.
    is_nullable_list: bool,
}

impl Shape {
    /// How to read a column that is stored as `chunk` tells and reads as `stored`, as an array of `wanted`; `None` for one that is
    /// not read here.
    pub fn of(wanted: &Field, stored: &DataType, chunk: &ColumnChunkMetaData) -> Option<(Self, Kind)> {
        let (is_list, values) = match wanted.data_type() {
            DataType::List(item) => (true, item.data_type()),
            flat => (false, flat),
        };
        let stored_values = match (is_list, stored) {
            (true, DataType::List(item)) => item.data_type(),
            (false, flat) => flat,
            _ => return None,
        };
        let kind = Kind::of(values)?;
        let is_same = match kind {
            Kind::Text => matches!(stored_values, DataType::Utf8 | DataType::Utf8View | DataType::Dictionary(..)),
            Kind::Word | Kind::Boolean => values == stored_values,
        };
        let is_stored_so = match kind {
            Kind::Text => chunk.column_type() == Type::BYTE_ARRAY,
            Kind::Word => matches!(chunk.column_type(), Type::INT64 | Type::DOUBLE),
            Kind::Boolean => chunk.column_type() == Type::BOOLEAN,
        };
        if !is_same || !is_stored_so || !encodings(chunk).all(|encoding| kind.reads(encoding)) {
            return None;
        }
        let column = chunk.column_descr();
        let (repetition, definition) = (column.max_rep_level(), column.max_def_level());
        let value_is_nullable = i16::from(column.self_type().is_optional());
        let is_nullable_list = match (is_list, definition - value_is_nullable - i16::from(is_list)) {
            (true, 0) | (false, 0) => false,
            (true, 1) => true,
            _ => return None,
        };
        let shape = Self { is_list, max_definition: u8::try_from(definition).ok()?, is_nullable_list };
        (repetition == i16::from(is_list)).then_some((shape, kind))
    }

    /// Whether a level of this definition is a row that is null.
    #[inline]
    pub fn is_null_list(&self, definition: u8) -> bool {
        self.is_nullable_list && definition == 0
    }

    /// Whether it is an element, null or not: a list may be null or have none.
    #[inline]
    pub fn is_element(&self, definition: u8) -> bool {
        !self.is_list || definition > u8::from(self.is_nullable_list)
    }

    /// Whether it is a value.
    #[inline]
    pub fn is_value(&self, definition: u8) -> bool {
        definition == self.max_definition
    }
}

/// How the values of a chunk are stored.
fn encodings(chunk: &ColumnChunkMetaData) -> Box<dyn Iterator<Item = Encoding> + '_> {
    match chunk.page_encoding_stats_mask() {
        Some(mask) => Box::new(mask.encodings()),
        // What the levels and the dictionary itself are stored by is among these.
        None => Box::new(chunk.encodings().filter(|encoding| *encoding != Encoding::RLE)),
    }
}
