//! The `identifiers` column of events: a list of (`kind`, `value`) per row, in any encoding of text.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringViewArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use crate::error::{Error, Result};

/// A batch of identifier lists.
pub(super) struct IdentifierLists<'a> {
    lists: &'a ListArray,
    pairs: &'a StructArray,
    kinds: StringViewArray,
    values: StringViewArray,
}

impl<'a> IdentifierLists<'a> {
    pub(super) fn new(lists: &'a ListArray) -> Result<Self> {
        let pairs = lists.values().as_struct_opt().ok_or_else(|| wrong_type(lists.data_type()))?;
        let text = |name: &str| pairs.column_by_name(name).and_then(texts).ok_or_else(|| wrong_type(lists.data_type()));
        Ok(Self { lists, pairs, kinds: text("kind")?, values: text("value")? })
    }

    /// The (kind, value) pairs of a row, without those that miss either.
    pub(super) fn row(&self, row: usize) -> impl Iterator<Item = (&str, &str)> {
        self.span(row).filter(|position| self.is_whole(*position)).map(|position| {
            // Both were found not to be null.
            (self.kinds.value(position), self.values.value(position))
        })
    }

    fn span(&self, row: usize) -> Range<usize> {
        if self.lists.is_null(row) {
            return 0..0;
        }
        let offsets = self.lists.value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }

    fn is_whole(&self, position: usize) -> bool {
        self.pairs.is_valid(position) && self.kinds.is_valid(position) && self.values.is_valid(position)
    }
}

/// A text column as views, which costs no copy of long text; `None` for a column of something else.
pub(super) fn texts(column: &ArrayRef) -> Option<StringViewArray> {
    let is_text = match column.data_type() {
        DataType::Dictionary(_, values) => is_plain_text(values),
        plain => is_plain_text(plain),
    };
    if !is_text {
        return None;
    }
    cast(column, &DataType::Utf8View).ok().map(|views| views.as_string_view().clone())
}

fn is_plain_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether a type is a list of (`kind`, `value`) pairs of text.
pub(super) fn is_identifier_list(data_type: &DataType) -> bool {
    let empty = arrow::array::new_empty_array(data_type);
    empty.as_list_opt::<i32>().is_some_and(|lists| IdentifierLists::new(lists).is_ok())
}

fn wrong_type(found: &DataType) -> Error {
    Error::invalid(format!("identifiers are of type {found}, expected a list of (kind, value) in text"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::{Field, Fields};

    use super::*;

    /// A column of identifier lists.
    pub(in crate::identity) fn identifier_lists(rows: &[&[(&str, &str)]]) -> ListArray {
        let (kinds, values): (Vec<_>, Vec<_>) = rows.iter().flat_map(|row| row.iter().copied()).unzip();
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(kinds)), Arc::new(StringArray::from(values))];
        list_of(columns, None, OffsetBuffer::from_lengths(rows.iter().map(|row| row.len())), None)
    }

    fn list_of(
        columns: Vec<ArrayRef>,
        pair_nulls: Option<NullBuffer>,
        offsets: OffsetBuffer<i32>,
        nulls: Option<NullBuffer>,
    ) -> ListArray {
        let names = ["kind", "value"];
        let fields =
            names.iter().zip(&columns).map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let pairs = StructArray::new(fields.collect::<Fields>(), columns, pair_nulls);
        let item = Arc::new(Field::new("item", pairs.data_type().clone(), true));
        ListArray::new(item, offsets, Arc::new(pairs), nulls)
    }

    #[test]
    fn text_of_every_encoding_reads_alike_and_nulls_are_left_out() {
        let kinds: ArrayRef =
            Arc::new(StringArray::from(vec![Some("email"), Some("user_id"), None, Some("phone"), Some("a")]));
        let values: ArrayRef =
            Arc::new(StringArray::from(vec![Some("ann@example.com"), Some("U1"), Some("x"), None, Some("b")]));
        let dictionary = |key| DataType::Dictionary(Box::new(key), Box::new(DataType::Utf8));
        let encodings = [
            DataType::Utf8,
            DataType::LargeUtf8,
            DataType::Utf8View,
            dictionary(DataType::Int8),
            dictionary(DataType::UInt32),
        ];
        for encoding in encodings {
            let columns = vec![cast(&kinds, &encoding).unwrap(), cast(&values, &encoding).unwrap()];
            let pair_nulls = Some(NullBuffer::from(vec![true, true, true, true, false]));
            let nulls = Some(NullBuffer::from(vec![true, true, false, true]));
            let lists = list_of(columns, pair_nulls, OffsetBuffer::from_lengths([1, 3, 0, 1]), nulls);
            assert!(is_identifier_list(lists.data_type()));
            let lists = lists.slice(1, 3);
            let lists = IdentifierLists::new(&lists).unwrap();
            let rows: Vec<Vec<_>> = (0..3).map(|row| lists.row(row).collect()).collect();
            assert_eq!(rows, [vec![("user_id", "U1")], vec![], vec![]], "{encoding}");
        }
    }

    #[test]
    fn other_lists_are_refused_by_their_type() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let kinds: ArrayRef = Arc::new(StringArray::from(vec!["email"]));
        for columns in [vec![kinds.clone(), numbers], vec![kinds]] {
            let lists = list_of(columns, None, OffsetBuffer::from_lengths([1]), None);
            let error = IdentifierLists::new(&lists).err().unwrap();
            assert!(error.to_string().contains("expected a list of (kind, value)"), "{error}");
            assert!(!is_identifier_list(lists.data_type()));
        }
        assert!(!is_identifier_list(&DataType::Utf8));
    }
}
