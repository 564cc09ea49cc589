//! Where the elements of a list column change: found once for a whole batch, asked of each row.
//!
//! Elements are compared as they are stored where that can be: a dictionary by its keys, after its texts have been made
//! distinct once. A bit per element says whether it differs from the one before it, so counts are counts of bits.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, downcast_integer};
use datafusion::arrow::buffer::{BooleanBuffer, MutableBuffer};
use datafusion::arrow::compute::kernels::cmp::distinct;
use datafusion::arrow::datatypes::{ArrowDictionaryKeyType, ArrowNativeType, DataType};
use datafusion::arrow::util::bit_util::{set_bit, unset_bit};
use datafusion::common::Result;
use hashbrown::HashMap;

use super::arguments::{Lists, TextColumn, is_text};
use super::elements::Names;

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
        macro_rules! of_dictionary {
            ($key:ty) => {
                of_dictionary(values.as_dictionary::<$key>())
            };
        }
        let found = match values.data_type() {
            // Views of one length and beginning may be of different texts; numbers ask that once per view.
            DataType::Utf8View => {
                let numbers = Names::new().numbers("", values)?;
                Some(pairs(numbers.len(), |before, position| numbers[before] != numbers[position]))
            }
            DataType::Dictionary(key, texts) if is_text(texts) => downcast_integer! {
                key.as_ref() => (of_dictionary),
                _ => None,
            },
            _ => None,
        };
        match found {
            Some(changes) => Ok(Self(changes)),
            None => Ok(Self(of_any(values)?)),
        }
    }

    /// Whether the element at `position`, which is not the first of all, differs from the one before it.
    #[inline]
    pub(super) fn at(&self, position: usize) -> bool {
        self.0.value(position)
    }

    /// How often neighbours among the elements in `range` differ.
    #[inline]
    pub(super) fn count(&self, range: Range<usize>) -> usize {
        match range.len() {
            0 => 0,
            length => count_set(&self.0, range.start + 1, length - 1),
        }
    }

    /// The elements that start a run of equal ones in their row; none of a null row.
    pub(super) fn run_starts(&self, lists: &Lists) -> RunStarts {
        let mut starts = MutableBuffer::new(0);
        starts.extend_from_slice(self.0.sliced().as_slice());
        for row in 0..lists.len() {
            let span = lists.span(row);
            if lists.is_null(row) {
                span.for_each(|position| unset_bit(starts.as_slice_mut(), position));
            } else if !span.is_empty() {
                set_bit(starts.as_slice_mut(), span.start);
            }
        }
        RunStarts(BooleanBuffer::new(starts.into(), 0, self.0.len()))
    }
}

/// The elements that start a run of equal ones in their row.
pub(super) struct RunStarts(BooleanBuffer);

impl RunStarts {
    /// How many runs start among the elements in `range`.
    #[inline]
    pub(super) fn count(&self, range: Range<usize>) -> usize {
        count_set(&self.0, range.start, range.len())
    }

    /// Them as flags, one per element.
    pub(super) fn into_flags(self) -> BooleanArray {
        BooleanArray::new(self.0, None)
    }
}

/// The bits that are set, of `length` bits from `first` on.
#[inline]
fn count_set(bits: &BooleanBuffer, first: usize, length: usize) -> usize {
    bits.inner().count_set_bits_offset(bits.offset() + first, length)
}

/// A bit for each of `length` elements: whether `differ` says so of the element and the one before it.
fn pairs(length: usize, differ: impl Fn(usize, usize) -> bool) -> BooleanBuffer {
    BooleanBuffer::collect_bool(length, |position| position > 0 && differ(position - 1, position))
}

fn of_any(values: &ArrayRef) -> Result<BooleanBuffer> {
    let length = values.len().saturating_sub(1);
    let changes = distinct(&values.slice(values.len() - length, length), &values.slice(0, length))?;
    Ok(pairs(values.len(), |before, _| changes.value(before)))
}

/// A dictionary may hold a text twice. The texts of a small one are made distinct first; where it is larger than the
/// array that uses it, only texts of different keys that meet are compared.
fn of_dictionary<K: ArrowDictionaryKeyType>(array: &DictionaryArray<K>) -> Option<BooleanBuffer> {
    const NULL: u32 = u32::MAX;
    let keys = array.keys();
    let texts = TextColumn::of_array("", array.values()).ok()?;
    if array.values().len() > keys.len() {
        let text = |position: usize| keys.is_valid(position).then(|| texts.get(keys.value(position).as_usize()))?;
        let differ = |before: usize, position: usize| {
            let is_same_key = keys.null_count() == 0 && keys.value(before) == keys.value(position);
            !is_same_key && text(before) != text(position)
        };
        return Some(pairs(keys.len(), differ));
    }
    let mut first_of: HashMap<&str, u32> = HashMap::with_capacity(array.values().len());
    let distinct = |entry: usize| match texts.get(entry) {
        None => NULL,
        Some(text) => *first_of.entry(text).or_insert(entry as u32),
    };
    let distinct: Vec<u32> = (0..array.values().len()).map(distinct).collect();
    let has_each_text_once = distinct.iter().enumerate().all(|(entry, first)| entry as u32 == *first);
    let keys_of_all = keys.values();
    if has_each_text_once && keys.null_count() == 0 {
        return Some(pairs(keys.len(), |before, position| keys_of_all[before] != keys_of_all[position]));
    }
    let codes: Vec<u32> = match keys.null_count() {
        0 => keys_of_all.iter().map(|key| distinct[key.as_usize()]).collect(),
        _ => keys.iter().map(|key| key.map_or(NULL, |key| distinct[key.as_usize()])).collect(),
    };
    Some(pairs(codes.len(), |before, position| codes[before] != codes[position]))
}

/// The touches of one journey that start a run of equal ones; its memory serves one journey after another.
#[derive(Debug, Default)]
pub(super) struct Runs {
    starts: Vec<u32>,
}

impl Runs {
    /// The first touch, if there is one, and each of which `is_change` says that it differs from the one before it.
    ///
    /// Whether one does can hardly be foreseen, so there is no branch: each touch is written down, and the next one over
    /// it unless it counts.
    #[inline]
    pub(super) fn find(&mut self, touches: usize, is_change: impl Fn(usize) -> bool) -> &[u32] {
        if self.starts.len() < touches {
            self.starts.resize(touches, 0);
        }
        let mut count = touches.min(1);
        for touch in 1..touches {
            self.starts[count] = touch as u32;
            count += usize::from(is_change(touch));
        }
        match self.starts.first_mut() {
            Some(first) => *first = 0,
            None => return &[],
        }
        &self.starts[..count]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int8Array, Int64Array, ListArray, StringArray};
    use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
    use datafusion::arrow::compute::cast;
    use proptest::prelude::*;

    use super::super::arguments::item_field;
    use super::*;

    fn dictionary(key: DataType, value: DataType) -> DataType {
        DataType::Dictionary(Box::new(key), Box::new(value))
    }

    fn encodings() -> Vec<DataType> {
        vec![
            DataType::Utf8,
            DataType::LargeUtf8,
            DataType::Utf8View,
            dictionary(DataType::Int8, DataType::Utf8),
            dictionary(DataType::UInt16, DataType::Utf8View),
            dictionary(DataType::Int32, DataType::LargeUtf8),
            dictionary(DataType::UInt64, DataType::Utf8),
        ]
    }

    fn bits(changes: &Changes, length: usize) -> Vec<bool> {
        (1..length).map(|position| changes.at(position)).collect()
    }

    proptest! {
        #[test]
        fn changes_are_those_of_the_texts_in_every_encoding(
            texts in prop::collection::vec(prop::option::weighted(0.8, prop::sample::select(vec![
                "", "a", "ab", "twelve bytes", "thirteen byte", "thirteen bytf", "the same start, this end",
                "the same start, that end",
            ])), 0..30),
            is_without_nulls in any::<bool>(),
            first in 0usize..3,
        ) {
            let texts: Vec<Option<&str>> =
                texts.into_iter().map(|text| if is_without_nulls { text.or(Some("x")) } else { text }).collect();
            let first = first.min(texts.len());
            let expected: Vec<bool> = texts[first..].windows(2).map(|pair| pair[0] != pair[1]).collect();
            let plain: ArrayRef = Arc::new(StringArray::from(texts.clone()));
            for encoding in encodings() {
                let encoded = cast(&plain, &encoding).unwrap().slice(first, texts.len() - first);
                let changes = Changes::new(&encoded).unwrap();
                prop_assert_eq!(bits(&changes, encoded.len()), &expected[..], "{}", encoding);
                for start in 0..encoded.len() {
                    let count = expected[start..].iter().filter(|differs| **differs).count();
                    prop_assert_eq!(changes.count(start..encoded.len()), count);
                }
            }
        }

        #[test]
        fn runs_start_in_each_row(
            rows in prop::collection::vec((prop::collection::vec(0i64..3, 0..9), any::<bool>()), 0..12),
            skipped in 0usize..4,
        ) {
            let offsets = OffsetBuffer::from_lengths(rows.iter().map(|(row, _)| row.len()));
            let values = Arc::new(Int64Array::from_iter_values(rows.iter().flat_map(|(row, _)| row.clone())));
            let nulls = NullBuffer::from_iter(rows.iter().map(|(_, is_valid)| *is_valid));
            let list = ListArray::new(item_field(DataType::Int64), offsets, values, Some(nulls));
            let skipped = skipped.min(rows.len());
            let lists = Lists::new(&list.slice(skipped, rows.len() - skipped));
            let starts = Changes::new(&lists.values).unwrap().run_starts(&lists);
            for (row, (elements, is_valid)) in rows[skipped..].iter().enumerate() {
                let runs = elements.chunk_by(|left, right| left == right).count();
                prop_assert_eq!(starts.count(lists.span(row)), if *is_valid { runs } else { 0 });
            }
            let all: usize = (0..lists.len()).map(|row| starts.count(lists.span(row))).sum();
            prop_assert_eq!(starts.into_flags().true_count(), all);
        }
    }

    #[test]
    fn runs_of_one_journey_after_another_are_found() {
        let mut runs = Runs::default();
        for journey in ["", "a", "aabbba", "abab", "", "aaaa"] {
            let touches = journey.as_bytes();
            let expected: Vec<u32> = (0..touches.len())
                .filter(|touch| *touch == 0 || touches[touch - 1] != touches[*touch])
                .map(|touch| touch as u32)
                .collect();
            assert_eq!(runs.find(touches.len(), |touch| touches[touch - 1] != touches[touch]), expected, "{journey}");
        }
    }

    #[test]
    fn a_dictionary_may_hold_a_text_twice_and_nulls_and_more_than_is_used() {
        let mut texts = vec![Some("a"), Some("a"), None];
        for unused in 0..2 {
            let keys = Int8Array::from(vec![Some(0), Some(1), Some(2), None]);
            let array: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from(texts.clone()))));
            let changes = Changes::new(&array).unwrap();
            assert_eq!(bits(&changes, 4), [false, true, false], "{unused}");
            texts.extend(["b", "c", "d"].map(Some));
        }
    }

    #[test]
    fn dictionaries_without_texts_and_arrays_without_elements_are_fine() {
        let none: ArrayRef =
            Arc::new(DictionaryArray::new(Int8Array::from(vec![None, None]), Arc::new(StringArray::new_null(0))));
        assert!(!Changes::new(&none).unwrap().at(1));
        let empty: ArrayRef = Arc::new(StringArray::new_null(0));
        assert_eq!(Changes::new(&empty).unwrap().count(0..0), 0);
    }
}
