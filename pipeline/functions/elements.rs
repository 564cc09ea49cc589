//! The elements of list columns, for functions that walk journeys: texts as small numbers on the way in, lists of
//! records on the way out.
//!
//! [`Names`] gives each distinct text of a batch a number, so that the walk compares and keeps numbers, and a text is
//! read once per batch where it comes as a dictionary, hashed once per touch where it does not. Texts go out as string
//! views onto one small buffer: a look-up per element, and what DataFusion groups by without leaving columns (a
//! dictionary would send a grouping by several columns through its row format).

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, ListArray, NullBufferBuilder,
    PrimitiveArray, StringArrayType, StringViewArray, StructArray, TimestampMicrosecondArray, UInt32Array,
    downcast_integer,
};
use datafusion::arrow::buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::kernels::cmp::distinct;
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{ArrowDictionaryKeyType, ArrowNativeType, DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, exec_err};
use hashbrown::HashMap;

use super::arguments::{item_field, list_type, time_type};

// ---------------------------------------------------------------------------------------------------------------
// In
// ---------------------------------------------------------------------------------------------------------------

/// Whether elements of a type can be compared with their neighbours by [`Changes`].
pub(super) fn is_comparable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => !matches!(**values, DataType::Dictionary(..)) && is_comparable(values),
        DataType::RunEndEncoded(..) => false,
        other => !other.is_nested(),
    }
}

/// Where an element differs from the one before it; two nulls are equal.
pub(super) struct Changes(BooleanBuffer);

impl Changes {
    /// Compares the neighbours in `values`, whose type [`is_comparable`].
    pub(super) fn new(values: &ArrayRef) -> Result<Self> {
        let pairs = values.len().saturating_sub(1);
        let changes = distinct(&values.slice(values.len() - pairs, pairs), &values.slice(0, pairs))?;
        Ok(Self(changes.values().clone()))
    }

    /// Whether the element at `position`, which is not the first of all, differs from the one before it.
    #[inline]
    pub(super) fn at(&self, position: usize) -> bool {
        self.0.value(position - 1)
    }
}

/// The distinct texts of a batch, by number.
pub(super) struct Names<'a> {
    numbers: HashMap<&'a str, u32>,
    texts: Vec<Option<&'a str>>,
}

impl<'a> Names<'a> {
    /// The number of null.
    pub(super) const NULL: u32 = 0;

    pub(super) fn new() -> Self {
        Self { numbers: HashMap::new(), texts: vec![None] }
    }

    /// The text of each number.
    pub(super) fn texts(&self) -> &[Option<&'a str>] {
        &self.texts
    }

    /// The number of a text, a new one if the text is new.
    #[inline]
    pub(super) fn number(&mut self, text: &'a str) -> u32 {
        *self.numbers.entry(text).or_insert_with(|| {
            self.texts.push(Some(text));
            self.texts.len() as u32 - 1
        })
    }

    /// The number of each element of a text array of any encoding.
    pub(super) fn numbers(&mut self, function: &str, array: &'a ArrayRef) -> Result<Vec<u32>> {
        macro_rules! of_dictionary {
            ($key:ty) => {
                self.numbers_of_dictionary(function, array.as_dictionary::<$key>())
            };
        }
        match array.data_type() {
            DataType::Utf8 => Ok(self.numbers_of_texts(array.as_string::<i32>())),
            DataType::LargeUtf8 => Ok(self.numbers_of_texts(array.as_string::<i64>())),
            DataType::Utf8View => Ok(self.numbers_of_texts(array.as_string_view())),
            DataType::Dictionary(key, _) => downcast_integer! {
                key.as_ref() => (of_dictionary),
                other => exec_err!("{function}: expected integer keys of a dictionary, got {other}"),
            },
            other => exec_err!("{function}: expected text, got {other}"),
        }
    }

    fn numbers_of_texts(&mut self, texts: impl StringArrayType<'a>) -> Vec<u32> {
        texts.iter().map(|text| text.map_or(Self::NULL, |text| self.number(text))).collect()
    }

    fn numbers_of_dictionary<K>(&mut self, function: &str, dictionary: &'a DictionaryArray<K>) -> Result<Vec<u32>>
    where
        K: ArrowDictionaryKeyType,
    {
        let (keys, texts) = (dictionary.keys(), dictionary.values());
        match texts.data_type() {
            DataType::Utf8 => Ok(self.numbers_of_keys(keys, texts.as_string::<i32>())),
            DataType::LargeUtf8 => Ok(self.numbers_of_keys(keys, texts.as_string::<i64>())),
            DataType::Utf8View => Ok(self.numbers_of_keys(keys, texts.as_string_view())),
            other => exec_err!("{function}: expected a dictionary of text, got {other}"),
        }
    }

    /// A dictionary may hold a text twice, and many that no row uses: each key in use is looked up once.
    fn numbers_of_keys<K>(&mut self, keys: &PrimitiveArray<K>, texts: impl StringArrayType<'a>) -> Vec<u32>
    where
        K: ArrowDictionaryKeyType,
    {
        const UNSEEN: u32 = u32::MAX;
        let mut known = vec![UNSEEN; texts.len()];
        let mut number = |key: K::Native| {
            let known = &mut known[key.as_usize()];
            if *known == UNSEEN {
                let text = texts.is_valid(key.as_usize()).then(|| texts.value(key.as_usize()));
                *known = text.map_or(Self::NULL, |text| self.number(text));
            }
            *known
        };
        match keys.null_count() {
            0 => keys.values().iter().map(|key| number(*key)).collect(),
            _ => keys.iter().map(|key| key.map_or(Self::NULL, &mut number)).collect(),
        }
    }

    /// The texts of numbers.
    pub(super) fn array(&self, numbers: Vec<u32>) -> Result<ArrayRef> {
        let texts: StringViewArray = self.texts.iter().copied().collect();
        Ok(take(&texts, &UInt32Array::from(numbers), None)?)
    }
}

/// The time at a position.
#[inline]
pub(super) fn time_at(times: &TimestampMicrosecondArray, position: usize) -> Option<i64> {
    times.is_valid(position).then(|| times.value(position))
}

/// Seconds from one time to another, with their fraction; unknown when one of them is.
#[inline]
pub(super) fn seconds_between(from: Option<i64>, to: Option<i64>) -> Option<f64> {
    Some(to?.saturating_sub(from?) as f64 / 1e6)
}

// ---------------------------------------------------------------------------------------------------------------
// Out
// ---------------------------------------------------------------------------------------------------------------

/// The rows of a list column under construction.
pub(super) struct Rows {
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Rows {
    pub(super) fn with_capacity(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, nulls: NullBufferBuilder::new(rows) }
    }

    /// Ends a row; `elements` counts those of all rows so far.
    pub(super) fn end(&mut self, function: &str, elements: usize) -> Result<()> {
        let Ok(end) = i32::try_from(elements) else {
            return exec_err!("{function}: a batch makes more than {} elements; use smaller batches", i32::MAX);
        };
        self.offsets.push(end);
        self.nulls.append_non_null();
        Ok(())
    }

    /// Adds a null row.
    pub(super) fn null(&mut self) {
        self.offsets.push(self.offsets[self.offsets.len() - 1]);
        self.nulls.append_null();
    }

    /// The list column whose elements are `values`.
    pub(super) fn finish(mut self, item: FieldRef, values: ArrayRef) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok(Arc::new(ListArray::try_new(item, offsets, values, self.nulls.finish())?))
    }

    /// The list column whose elements are records.
    pub(super) fn finish_records(self, fields: Fields, columns: Vec<ArrayRef>) -> Result<ArrayRef> {
        let records = StructArray::try_new(fields.clone(), columns, None)?;
        self.finish(item_field(DataType::Struct(fields)), Arc::new(records))
    }
}

/// The type of a list of records.
pub(super) fn records_type(fields: Fields) -> DataType {
    list_type(DataType::Struct(fields))
}

/// Fields of a record, in order. All can be null: the record of an outer unnest of an empty list is.
pub(super) fn record_fields<const N: usize>(fields: [(&str, DataType); N]) -> Fields {
    fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect()
}

/// Whole numbers as a column.
pub(super) fn integers(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

/// Seconds as a column.
pub(super) fn seconds(values: Vec<Option<f64>>) -> ArrayRef {
    Arc::new(Float64Array::from(values))
}

/// Booleans as a column.
pub(super) fn booleans(values: Vec<bool>) -> ArrayRef {
    Arc::new(BooleanArray::from(values))
}

/// Times as a column.
pub(super) fn times(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_data_type(time_type()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{DictionaryArray, Int8Array, StringArray};
    use datafusion::arrow::compute::cast;

    use super::*;

    const ENCODINGS: [DataType; 3] = [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View];

    fn encodings() -> impl Iterator<Item = DataType> {
        let dictionary = |key: DataType, value: &DataType| DataType::Dictionary(Box::new(key), Box::new(value.clone()));
        let keys = [DataType::Int8, DataType::UInt16, DataType::Int32, DataType::UInt64];
        let coded = ENCODINGS.iter().flat_map(move |value| keys.clone().map(|key| dictionary(key, value)));
        ENCODINGS.into_iter().chain(coded.collect::<Vec<_>>())
    }

    #[test]
    fn equal_texts_have_equal_numbers_in_every_encoding() {
        let texts = vec![Some("web"), None, Some("a store with a long name"), Some("web"), Some("")];
        let plain: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        for encoding in encodings() {
            let encoded = cast(&plain, &encoding).unwrap();
            let mut names = Names::new();
            let numbers = names.numbers("f", &encoded).unwrap();
            assert_eq!(numbers, [1, 0, 2, 1, 3], "{encoding}");
            let array = names.array(numbers).unwrap();
            assert_eq!(array.as_string_view().iter().collect::<Vec<_>>(), texts, "{encoding}");
        }
    }

    #[test]
    fn a_dictionary_may_hold_a_text_twice_and_nulls() {
        let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("a"), None]));
        let keys = Int8Array::from(vec![Some(0), Some(1), Some(2), None]);
        let array: ArrayRef = Arc::new(DictionaryArray::new(keys, values));
        assert_eq!(Names::new().numbers("f", &array).unwrap(), [1, 1, 0, 0]);
        let changes = Changes::new(&array).unwrap();
        assert_eq!([1, 2, 3].map(|position| changes.at(position)), [false, true, false]);
    }

    #[test]
    fn dictionaries_without_texts_and_arrays_without_elements_are_fine() {
        let none: ArrayRef =
            Arc::new(DictionaryArray::new(Int8Array::from(vec![None, None]), Arc::new(StringArray::new_null(0))));
        assert_eq!(Names::new().numbers("f", &none).unwrap(), [0, 0]);
        assert!(!Changes::new(&none).unwrap().at(1));
        let empty: ArrayRef = Arc::new(StringArray::new_null(0));
        assert!(Changes::new(&empty).is_ok());
        assert_eq!(Names::new().array(vec![]).unwrap().len(), 0);
    }

    #[test]
    fn seconds_keep_their_fraction() {
        assert_eq!(seconds_between(Some(1_000_000), Some(2_500_001)), Some(1.500001));
        assert_eq!(seconds_between(None, Some(1)), None);
        assert_eq!(seconds_between(Some(1), None), None);
    }
}

/// Journeys for the tests of the functions that walk them, and queries over them.
#[cfg(test)]
pub(super) mod testing {
    use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
    use datafusion::common::Result;
    use datafusion::prelude::SessionContext;

    use crate::functions::register_all;

    /// A journey of four touches, one with nulls, one without touches, and one whose lists are null.
    pub(in crate::functions) const SELECT_JOURNEYS: &str = "\
        select 1 as id, ['home', 'home', 'product', 'home'] as touchpoints, ['web', 'store', 'store', 'web'] as channels, \
               ['evaluation', null, null, 'evaluation'] as stages, ['s1', 's2', 's2', 's2'] as session_ids, \
               [timestamp '2026-01-01T10:00:00', timestamp '2026-01-01T10:00:05', timestamp '2026-01-01T10:00:20', \
                timestamp '2026-01-01T10:00:30.5'] as times \
        union all \
        select 2, [null, 'product'], ['web', null], [null, 'conversion'], ['s3', 's3'], \
               [null, timestamp '2026-01-01T11:00:00'] \
        union all \
        select 3, []::varchar[], []::varchar[], []::varchar[], []::varchar[], []::timestamp[] \
        union all \
        select 4, null, null, null, null, null";

    /// [`SELECT_JOURNEYS`] with its texts and times in every encoding that the functions read.
    pub(in crate::functions) fn in_every_encoding() -> Vec<String> {
        let encodings = [
            ("List(Utf8)", "List(Timestamp(ns))"),
            ("List(Utf8View)", "List(Timestamp(µs, \"UTC\"))"),
            ("LargeList(LargeUtf8)", "LargeList(Timestamp(ms, \"+00:00\"))"),
            ("List(Dictionary(Int32, Utf8))", "List(Timestamp(µs))"),
            ("List(Dictionary(UInt8, Utf8View))", "LargeList(Timestamp(µs))"),
            ("LargeList(Dictionary(Int64, LargeUtf8))", "List(Timestamp(ms))"),
        ];
        let select = |(texts, times): (&str, &str)| {
            let texts: Vec<String> = ["touchpoints", "channels", "stages", "session_ids"]
                .map(|name| format!("arrow_cast({name}, '{texts}') as {name}"))
                .into();
            format!("select id, {}, arrow_cast(times, '{times}') as times from ({SELECT_JOURNEYS})", texts.join(", "))
        };
        encodings.map(select).into()
    }

    async fn try_rows_of(sql: &str) -> Result<Vec<String>> {
        let ctx = SessionContext::new();
        register_all(&ctx);
        let mut rows = vec![];
        for batch in ctx.sql(sql).await?.collect().await? {
            let options = FormatOptions::default();
            let columns: Vec<ArrayFormatter<'_>> = batch
                .columns()
                .iter()
                .map(|column| Ok(ArrayFormatter::try_new(column, &options)?))
                .collect::<Result<_>>()?;
            rows.extend((0..batch.num_rows()).map(|row| {
                let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
                cells.join(" | ")
            }));
        }
        Ok(rows)
    }

    /// The rows that a query returns, cells parted by ` | `.
    pub(in crate::functions) async fn rows_of(sql: &str) -> Vec<String> {
        try_rows_of(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The error that a query fails with.
    pub(in crate::functions) async fn error_of(sql: &str) -> String {
        match try_rows_of(sql).await {
            Ok(rows) => panic!("{sql}: {rows:?}"),
            Err(error) => error.strip_backtrace(),
        }
    }
}
