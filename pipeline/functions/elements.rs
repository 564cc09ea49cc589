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
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::{nullif, take};
use datafusion::arrow::datatypes::{ArrowDictionaryKeyType, ArrowNativeType, DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, exec_err};
use hashbrown::HashMap;

use super::arguments::{item_field, list_type, time_type};

// ---------------------------------------------------------------------------------------------------------------
// In
// ---------------------------------------------------------------------------------------------------------------

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
            DataType::Utf8View => Ok(self.numbers_of_views(array.as_string_view())),
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

    /// Equal views are equal texts, so a view that was seen lately needs no hash of its text: neighbours, texts of up to
    /// twelve bytes, and those that came from one dictionary have mostly one view.
    fn numbers_of_views(&mut self, texts: &'a StringViewArray) -> Vec<u32> {
        const SLOTS: usize = 1024;
        // The view of the empty text is 0, and its number is not known yet.
        let mut seen = vec![(0u128, None); SLOTS];
        let mut number = |position: usize| {
            let view = texts.views()[position];
            let mixed = (view as u64 ^ (view >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let slot = &mut seen[mixed as usize >> (64 - SLOTS.ilog2())];
            match slot {
                (known, Some(number)) if *known == view => *number,
                _ => {
                    let number = self.number(texts.value(position));
                    *slot = (view, Some(number));
                    number
                }
            }
        };
        match texts.nulls() {
            None => (0..texts.len()).map(number).collect(),
            Some(nulls) => nulls
                .iter()
                .enumerate()
                .map(|(position, is_valid)| if is_valid { number(position) } else { Self::NULL })
                .collect(),
        }
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
        if keys.null_count() == 0 && texts.len() <= keys.len() && self.takes_in_order(&texts) {
            // No look-up: the walk over the keys is a sum that the machine does for many at a time.
            return keys.values().iter().map(|key| key.as_usize() as u32 + 1).collect();
        }
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

    /// Gives texts the numbers from 1 on, in order, if no text has a number yet; false where a text is null or stands
    /// twice, or others came before.
    fn takes_in_order(&mut self, texts: &impl StringArrayType<'a>) -> bool {
        self.texts.len() == 1
            && texts.null_count() == 0
            && (0..texts.len()).all(|place| self.number(texts.value(place)) as usize == place + 1)
    }

    /// The texts of numbers.
    pub(super) fn array(&self, numbers: Vec<u32>) -> Result<ArrayRef> {
        let texts: StringViewArray = self.texts.iter().map(|text| Some(text.unwrap_or_default())).collect();
        let has_nulls = numbers.contains(&Self::NULL);
        let is_null = has_nulls.then(|| BooleanBuffer::collect_bool(numbers.len(), |at| numbers[at] == Self::NULL));
        // Looking views up without regard to nulls, and then marking these, is cheaper than asking for each.
        let named = take(&texts, &UInt32Array::from(numbers), None)?;
        match is_null {
            None => Ok(named),
            Some(is_null) => Ok(nullif(&named, &BooleanArray::new(is_null, None))?),
        }
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

/// Booleans as a column.
pub(super) fn booleans(values: Vec<bool>) -> ArrayRef {
    Arc::new(BooleanArray::from(values))
}

/// Values that may be unknown, in flat vectors.
#[derive(Debug, Default)]
pub(super) struct Optionals<T> {
    values: Vec<T>,
    is_known: Vec<bool>,
}

impl<T: Copy + Default> Optionals<T> {
    pub(super) fn with_capacity(values: usize) -> Self {
        Self { values: Vec::with_capacity(values), is_known: Vec::with_capacity(values) }
    }

    #[inline]
    pub(super) fn push(&mut self, value: Option<T>) {
        self.values.push(value.unwrap_or_default());
        self.is_known.push(value.is_some());
    }

    pub(super) fn extend(&mut self, values: impl Iterator<Item = Option<T>>) {
        values.for_each(|value| self.push(value));
    }

    /// The values, and which are known unless all are.
    fn finish(self) -> (Vec<T>, Option<NullBuffer>) {
        let nulls = self.is_known.contains(&false).then(|| NullBuffer::from(self.is_known));
        (self.values, nulls)
    }

    #[cfg(test)]
    pub(super) fn to_vec(&self) -> Vec<Option<T>> {
        self.values.iter().zip(&self.is_known).map(|(value, is_known)| is_known.then_some(*value)).collect()
    }
}

/// Seconds as a column.
pub(super) fn seconds(seconds: Optionals<f64>) -> ArrayRef {
    let (values, nulls) = seconds.finish();
    Arc::new(Float64Array::new(values.into(), nulls))
}

/// Times as a column.
pub(super) fn times(times: Optionals<i64>) -> ArrayRef {
    let (values, nulls) = times.finish();
    Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_data_type(time_type()))
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
        let long = Some("a store with a long name");
        let texts = vec![Some("web"), None, long, Some("web"), Some(""), long, None, Some("")];
        let plain: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        for encoding in encodings() {
            let encoded = cast(&plain, &encoding).unwrap();
            let mut names = Names::new();
            let numbers = names.numbers("f", &encoded).unwrap();
            assert_eq!(numbers, [1, 0, 2, 1, 3, 2, 0, 3], "{encoding}");
            let array = names.array(numbers).unwrap();
            assert_eq!(array.as_string_view().iter().collect::<Vec<_>>(), texts, "{encoding}");
        }
    }

    #[test]
    fn views_that_share_a_slot_keep_their_numbers_apart() {
        let texts: Vec<String> = (0..5000).map(|number| format!("{}{number}", "x".repeat(number % 17))).collect();
        let twice: ArrayRef = Arc::new(texts.iter().chain(&texts).map(Some).collect::<StringViewArray>());
        let mut names = Names::new();
        let numbers = names.numbers("f", &twice).unwrap();
        assert_eq!(numbers[..5000], numbers[5000..]);
        let named: Vec<Option<&str>> = numbers.iter().map(|number| names.texts()[*number as usize]).collect();
        assert_eq!(named[..5000], texts.iter().map(|text| Some(text.as_str())).collect::<Vec<_>>());
        let array = names.array(numbers).unwrap();
        assert_eq!(array.null_count(), 0);
        assert_eq!(array.as_string_view().iter().collect::<Vec<_>>(), named);
    }

    #[test]
    fn a_dictionary_may_hold_a_text_twice_and_nulls() {
        let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("a"), None]));
        let keys = Int8Array::from(vec![Some(0), Some(1), Some(2), None]);
        let array: ArrayRef = Arc::new(DictionaryArray::new(keys, values));
        assert_eq!(Names::new().numbers("f", &array).unwrap(), [1, 1, 0, 0]);
    }

    #[test]
    fn dictionaries_without_texts_and_arrays_without_elements_are_fine() {
        let none: ArrayRef =
            Arc::new(DictionaryArray::new(Int8Array::from(vec![None, None]), Arc::new(StringArray::new_null(0))));
        assert_eq!(Names::new().numbers("f", &none).unwrap(), [0, 0]);
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
