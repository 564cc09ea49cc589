//! Arguments shared by the functions: text, lists and timestamps of any encoding, read in place.
//!
//! Results of an aggregate arrive as slices of one large array, so a list column of 8 192 rows may stand on millions
//! of elements that belong to other rows. [`Lists`] cuts the elements to those of its rows first; whatever casts or
//! scans elements works on that cut.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, LargeStringArray, ListArray, StringArray, StringViewArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarUDFImpl};
use datafusion::scalar::ScalarValue;

use super::moments::to_moments;

// ---------------------------------------------------------------------------------------------------------------
// Types, for planning
// ---------------------------------------------------------------------------------------------------------------

/// The type of every time that the functions return: microseconds, UTC.
pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type of a low-cardinality text that the functions return.
pub(crate) fn coded_text_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// A list type with the usual item field: named `item`, nullable.
pub(crate) fn list_type(element: DataType) -> DataType {
    DataType::List(item_field(element))
}

/// The item field of [`list_type`].
pub(crate) fn item_field(element: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(element, true))
}

/// Whether a type is text in any encoding.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// The element type of a list of any offset width.
pub(crate) fn element_type(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Some(field.data_type())
        }
        _ => None,
    }
}

/// A struct of lists of any offset width as one of plain lists; other types stay what they are.
pub(crate) fn coerce_fields(data_type: &DataType) -> DataType {
    let DataType::Struct(fields) = data_type else {
        return data_type.clone();
    };
    let plain = |field: &FieldRef| match field.data_type() {
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Arc::new(field.as_ref().clone().with_data_type(DataType::List(Arc::clone(item))))
        }
        _ => Arc::clone(field),
    };
    DataType::Struct(fields.iter().map(plain).collect())
}

/// Fails at planning unless the call has `count` arguments.
pub(crate) fn expect_count(function: &str, types: &[DataType], count: usize) -> Result<()> {
    if types.len() == count {
        return Ok(());
    }
    plan_err!("{function}: expected {count} arguments, got {}", types.len())
}

/// What a scalar function returns for these arguments: its type, nullable.
pub(crate) fn returned_field(function: &dyn ScalarUDFImpl, args: &ReturnFieldArgs) -> Result<FieldRef> {
    let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
    Ok(Arc::new(Field::new(function.name(), function.return_type(&types)?, true)))
}

/// Coerces a list argument to `List` when `accepts` its elements; an untyped null becomes a list of `otherwise`.
pub(crate) fn coerce_list(
    function: &str,
    data_type: &DataType,
    expected: &str,
    otherwise: DataType,
    accepts: impl Fn(&DataType) -> bool,
) -> Result<DataType> {
    match data_type {
        DataType::Null => return Ok(list_type(otherwise)),
        DataType::List(field) if accepts(field.data_type()) => return Ok(data_type.clone()),
        DataType::List(field) if field.data_type().is_null() => return Ok(list_type(otherwise)),
        DataType::LargeList(field) | DataType::FixedSizeList(field, _) if accepts(field.data_type()) => {
            return Ok(DataType::List(Arc::clone(field)));
        }
        _ => {}
    }
    plan_err!("{function}: expected a list of {expected}, got {data_type}")
}

/// Coerces an argument that is a list of timestamps of any unit.
pub(crate) fn coerce_times(function: &str, data_type: &DataType) -> Result<DataType> {
    coerce_list(function, data_type, "timestamps", time_type(), |element| matches!(element, DataType::Timestamp(..)))
}

/// Coerces an argument that is a list of booleans.
pub(crate) fn coerce_booleans(function: &str, data_type: &DataType) -> Result<DataType> {
    coerce_list(function, data_type, "booleans", DataType::Boolean, |element| *element == DataType::Boolean)
}

/// Coerces an argument that is a list of text of any encoding.
pub(crate) fn coerce_texts(function: &str, data_type: &DataType) -> Result<DataType> {
    coerce_list(function, data_type, "text", DataType::Utf8, is_text)
}

/// Coerces an argument that is text of any encoding.
pub(crate) fn coerce_text(function: &str, data_type: &DataType) -> Result<DataType> {
    if is_text(data_type) {
        return Ok(data_type.clone());
    }
    if data_type.is_null() {
        return Ok(DataType::Utf8);
    }
    plan_err!("{function}: expected text, got {data_type}")
}

/// The empty list of a list type: what an aggregate of lists returns where there are no rows.
pub(crate) fn empty_list(list: &DataType) -> Result<ScalarValue> {
    match list {
        DataType::List(item) => Ok(ScalarValue::List(ScalarValue::new_list_nullable(&[], item.data_type()))),
        other => ScalarValue::try_from(other),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Values, for execution
// ---------------------------------------------------------------------------------------------------------------

/// A list column cut to the elements of its rows. The rows' elements lie one after another, without holes.
pub(crate) struct Lists {
    /// The elements of all rows.
    pub values: ArrayRef,
    /// Where each row's elements begin and end in `values`; starts with 0.
    pub offsets: OffsetBuffer<i32>,
    /// Rows that are null; they may still own elements, which mean nothing.
    pub nulls: Option<NullBuffer>,
}

impl Lists {
    /// Reads a `List` column.
    pub(crate) fn new(list: &ListArray) -> Self {
        let (first, last) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
        let values = list.values().slice(first as usize, (last - first) as usize);
        let offsets = match first {
            0 => list.offsets().clone(),
            _ => list.offsets().clone().subtract(first),
        };
        Self { values, offsets, nulls: list.nulls().cloned() }
    }

    /// Reads a list argument of any offset width; `rows` is the length of the result of a constant.
    pub(crate) fn of_argument(function: &str, argument: &ColumnarValue, rows: usize) -> Result<Self> {
        Self::of_array(function, &argument.to_array(rows)?)
    }

    /// Reads a list array of any offset width.
    pub(crate) fn of_array(function: &str, array: &ArrayRef) -> Result<Self> {
        match array.data_type() {
            DataType::List(_) => Ok(Self::new(array.as_list::<i32>())),
            DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
                let list = cast(array, &DataType::List(Arc::clone(field)))?;
                Ok(Self::new(list.as_list::<i32>()))
            }
            other => exec_err!("{function}: expected a list, got {other}"),
        }
    }

    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether a row is null.
    #[inline]
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The positions of a row's elements in `values`, whether or not the row is null.
    #[inline]
    pub(crate) fn span(&self, row: usize) -> Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    /// The positions of a row's elements in `values`; `None` for a null row.
    #[inline]
    pub(crate) fn range(&self, row: usize) -> Option<Range<usize>> {
        (!self.is_null(row)).then(|| self.span(row))
    }

    /// Fails when an element of a row that is not null is null.
    pub(crate) fn expect_no_null_element(&self, function: &str, what: &str) -> Result<()> {
        let Some(element_nulls) = self.values.logical_nulls().filter(|nulls| nulls.null_count() > 0) else {
            return Ok(());
        };
        for row in 0..self.len() {
            if let Some(range) = self.range(row)
                && element_nulls.slice(range.start, range.len()).null_count() > 0
            {
                return exec_err!("{function}: {what} hold a null in row {row} of the batch");
            }
        }
        Ok(())
    }

    /// Fails unless `other` has as many elements in every row where neither is null.
    pub(crate) fn expect_parallel(&self, function: &str, other: &Lists, names: (&str, &str)) -> Result<()> {
        if self.nulls.is_none() && other.nulls.is_none() && self.offsets == other.offsets {
            return Ok(());
        }
        for row in 0..self.len() {
            if self.is_null(row) || other.is_null(row) {
                continue;
            }
            let (left, right) = (self.span(row).len(), other.span(row).len());
            if left != right {
                return exec_err!("{function}: {} has {left} elements where {} has {right}", names.0, names.1);
            }
        }
        Ok(())
    }
}

/// Timestamps of any unit as microseconds. The time zone, a matter of display, stays.
pub(crate) fn to_times(function: &str, array: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    match array.data_type() {
        DataType::Timestamp(_, zone) => {
            let times = to_moments(function, array)?.reinterpret_cast::<TimestampMicrosecondType>();
            Ok(times.with_timezone_opt(zone.clone()))
        }
        other => exec_err!("{function}: expected timestamps, got {other}"),
    }
}

/// A boolean column.
pub(crate) fn to_booleans(function: &str, array: &ArrayRef) -> Result<BooleanArray> {
    match array.as_boolean_opt() {
        Some(booleans) => Ok(booleans.clone()),
        None => exec_err!("{function}: expected booleans, got {}", array.data_type()),
    }
}

/// Text of any encoding, read in place.
pub(crate) struct TextColumn {
    keys: Option<Int32Array>,
    values: PlainText,
}

enum PlainText {
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Utf8View(StringViewArray),
}

impl TextColumn {
    /// Reads a text column.
    pub(crate) fn of_array(function: &str, array: &ArrayRef) -> Result<Self> {
        let (keys, values) = match array.as_any_dictionary_opt() {
            Some(dictionary) => {
                let keys = cast(dictionary.keys(), &DataType::Int32)?;
                (Some(keys.as_primitive::<Int32Type>().clone()), Arc::clone(dictionary.values()))
            }
            None => (None, Arc::clone(array)),
        };
        let values = match values.data_type() {
            DataType::Utf8 => PlainText::Utf8(values.as_string::<i32>().clone()),
            DataType::LargeUtf8 => PlainText::LargeUtf8(values.as_string::<i64>().clone()),
            DataType::Utf8View => PlainText::Utf8View(values.as_string_view().clone()),
            other => return exec_err!("{function}: expected text, got {other}"),
        };
        Ok(Self { keys, values })
    }

    /// The text at a position; `None` for null.
    #[inline]
    pub(crate) fn get(&self, position: usize) -> Option<&str> {
        let position = match &self.keys {
            None => position,
            Some(keys) if keys.is_valid(position) => keys.value(position) as usize,
            Some(_) => return None,
        };
        match &self.values {
            PlainText::Utf8(values) => values.is_valid(position).then(|| values.value(position)),
            PlainText::LargeUtf8(values) => values.is_valid(position).then(|| values.value(position)),
            PlainText::Utf8View(values) => values.is_valid(position).then(|| values.value(position)),
        }
    }
}

/// A text per row, or one for all.
pub(crate) struct Texts {
    column: TextColumn,
    is_constant: bool,
}

impl Texts {
    /// Reads a text argument; a constant is read once.
    pub(crate) fn of_argument(function: &str, argument: &ColumnarValue) -> Result<Self> {
        let (array, is_constant) = match argument {
            ColumnarValue::Array(array) => (Arc::clone(array), false),
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
        };
        Ok(Self { column: TextColumn::of_array(function, &array)?, is_constant })
    }

    /// The text of a row; `None` for null.
    pub(crate) fn get(&self, row: usize) -> Option<&str> {
        self.column.get(if self.is_constant { 0 } else { row })
    }

    /// Whether all rows share one text.
    pub(crate) fn is_constant(&self) -> bool {
        self.is_constant
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{DictionaryArray, Int32Array, Int64Array, TimestampNanosecondArray};
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn text_of_every_encoding_reads_alike() {
        let texts = vec![Some("web"), None, Some("call_center_of_the_north"), Some("web")];
        let plain: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        let encodings = [
            DataType::Utf8,
            DataType::LargeUtf8,
            DataType::Utf8View,
            coded_text_type(),
            DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8View)),
        ];
        for encoding in encodings {
            let encoded = cast(&plain, &encoding).unwrap();
            assert!(is_text(&encoding));
            let column = TextColumn::of_array("f", &encoded).unwrap();
            let read: Vec<_> = (0..4).map(|position| column.get(position)).collect();
            assert_eq!(read, texts, "{encoding}");
        }
    }

    #[test]
    fn a_null_in_the_dictionary_is_a_null_text() {
        let values = StringArray::from(vec![Some("web"), None]);
        let array: ArrayRef = Arc::new(DictionaryArray::new(Int32Array::from(vec![1, 0]), Arc::new(values)));
        let column = TextColumn::of_array("f", &array).unwrap();
        assert_eq!((column.get(0), column.get(1)), (None, Some("web")));
    }

    #[test]
    fn sliced_lists_are_cut_to_their_elements() {
        let rows = [Some(vec![Some(1), Some(2)]), Some(vec![Some(3)]), None, Some(vec![]), Some(vec![Some(4)])];
        let whole = ListArray::from_iter_primitive::<Int64Type, _, _>(rows);
        let lists = Lists::new(&whole.slice(1, 4));
        assert_eq!(lists.len(), 4);
        assert_eq!(lists.values.as_primitive::<Int64Type>().values(), &[3, 4]);
        let ranges: Vec<_> = (0..4).map(|row| lists.range(row)).collect();
        assert_eq!(ranges, vec![Some(0..1), None, Some(1..1), Some(1..2)]);
        let large = cast(&(Arc::new(whole) as ArrayRef), &DataType::LargeList(item_field(DataType::Int64))).unwrap();
        assert_eq!(Lists::of_array("f", &large).unwrap().offsets.to_vec(), vec![0, 2, 3, 3, 3, 4]);
    }

    #[test]
    fn parallel_lists_must_have_equal_lengths() {
        let lists =
            |rows: Vec<Option<Vec<Option<i64>>>>| Lists::new(&ListArray::from_iter_primitive::<Int64Type, _, _>(rows));
        let left = lists(vec![Some(vec![Some(1)]), None]);
        assert!(left.expect_parallel("f", &lists(vec![Some(vec![None]), Some(vec![None])]), ("a", "b")).is_ok());
        let error = left.expect_parallel("f", &lists(vec![Some(vec![]), None]), ("a", "b")).err().unwrap();
        assert!(error.to_string().contains("a has 1 elements where b has 0"), "{error}");
        assert!(left.expect_no_null_element("f", "times").is_ok());
        assert!(lists(vec![Some(vec![None])]).expect_no_null_element("f", "times").is_err());
    }

    #[test]
    fn times_of_any_unit_become_microseconds() {
        let nanoseconds: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(1_500), None, Some(-1)]));
        let times = to_times("f", &nanoseconds).unwrap();
        assert_eq!(times.iter().collect::<Vec<_>>(), vec![Some(1), None, Some(-1)]);
        assert!(to_times("f", &(Arc::new(Int64Array::from(vec![1])) as ArrayRef)).is_err());
    }
}
