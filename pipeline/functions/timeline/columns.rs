//! Append-only columns of events: flat vectors that grow by whole arrays and are read in any order of rows.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::hash::BuildHasher;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, DictionaryArray, Int32Array,
    NullBufferBuilder, PrimitiveArray, StringArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_datafusion_err, exec_err, resources_datafusion_err, resources_err};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::super::arguments::{TextColumn, coded_text_type, is_text, time_type};

/// The type in which values of a type are kept and returned; `None` when they cannot be.
pub(super) fn stored_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        text if is_text(text) || text.is_null() => Some(coded_text_type()),
        DataType::UInt64 => None,
        integer if integer.is_integer() => Some(DataType::Int64),
        DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
        DataType::Timestamp(_, zone) => Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        DataType::Boolean | DataType::Date32 | DataType::Decimal128(..) => Some(data_type.clone()),
        _ => None,
    }
}

/// What values may be, for messages.
pub(super) const STORED: &str =
    "text, a signed whole number, a decimal, a floating-point number, boolean, date or timestamp";

/// What to do about values of a type that cannot be kept.
pub(super) fn remedy(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::UInt64 => "cast it to bigint",
        _ => "cast it to one",
    }
}

/// One column of events.
pub(super) trait Column: Debug + Send + Sync {
    /// Appends all elements of an array; the function is the one that an error names.
    fn append(&mut self, function: &str, array: &ArrayRef) -> Result<()>;
    /// The elements of the rows, in their order.
    fn gather(&mut self, rows: &[u32]) -> Result<ArrayRef>;
    /// Keeps the elements of the rows, which ascend, and renumbers them from 0. Without rows all memory is given back.
    fn keep(&mut self, rows: &[u32]);
    /// The order of two elements by value, null first.
    fn compare(&self, left: u32, right: u32) -> Ordering;
    /// Bytes allocated.
    fn size(&self) -> usize;
}

/// An empty column for values of a [`stored_type`], of a function that an error names.
pub(super) fn column_of(function: &str, stored: &DataType) -> Result<Box<dyn Column>> {
    Ok(match stored {
        DataType::Dictionary(..) => Box::new(CodedTexts::default()),
        DataType::Boolean => Box::new(Booleans::default()),
        DataType::Int64 => Box::new(Primitives::<Int64Type>::new(stored)),
        DataType::Float64 => Box::new(Primitives::<Float64Type>::new(stored)),
        DataType::Date32 => Box::new(Primitives::<Date32Type>::new(stored)),
        DataType::Decimal128(..) => Box::new(Primitives::<Decimal128Type>::new(stored)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Box::new(Primitives::<TimestampMicrosecondType>::new(stored)),
        other => return exec_err!("{function}: no column of type {other}"),
    })
}

/// The times of events: never null.
pub(super) fn times_column() -> Primitives<TimestampMicrosecondType> {
    Primitives::new(&time_type())
}

/// Moves the elements of the rows, which ascend, to the front and forgets the rest.
fn keep_rows<T: Copy>(values: &mut Vec<T>, rows: &[u32]) {
    if rows.is_empty() {
        *values = Vec::new();
        return;
    }
    for (to, &from) in rows.iter().enumerate() {
        values[to] = values[from as usize];
    }
    values.truncate(rows.len());
}

// ---------------------------------------------------------------------------------------------------------------
// Numbers and times
// ---------------------------------------------------------------------------------------------------------------

/// Values of fixed width.
#[derive(Debug)]
pub(super) struct Primitives<T: ArrowPrimitiveType> {
    data_type: DataType,
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Primitives<T> {
    fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }

    /// The values; what stands where the element is null means nothing.
    pub(super) fn values(&self) -> &[T::Native] {
        &self.values
    }

    fn has_nulls(&self) -> bool {
        self.nulls.as_slice().is_some()
    }

    fn validity(&self, rows: &[u32]) -> Option<NullBuffer> {
        let is_valid = |index: usize| self.nulls.is_valid(rows[index] as usize);
        self.has_nulls().then(|| NullBuffer::new(BooleanBuffer::collect_bool(rows.len(), is_valid)))
    }
}

impl<T: ArrowPrimitiveType + Debug> Column for Primitives<T> {
    fn append(&mut self, _function: &str, array: &ArrayRef) -> Result<()> {
        let array =
            if *array.data_type() == self.data_type { Arc::clone(array) } else { cast(array, &self.data_type)? };
        self.values.extend_from_slice(array.as_primitive::<T>().values());
        match array.nulls() {
            Some(nulls) => self.nulls.append_buffer(nulls),
            None => self.nulls.append_n_non_nulls(array.len()),
        }
        Ok(())
    }

    fn gather(&mut self, rows: &[u32]) -> Result<ArrayRef> {
        let values: Vec<T::Native> = rows.iter().map(|&row| self.values[row as usize]).collect();
        let array = PrimitiveArray::<T>::try_new(values.into(), self.validity(rows))?;
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }

    fn keep(&mut self, rows: &[u32]) {
        let mut nulls = NullBufferBuilder::new(rows.len());
        match self.validity(rows) {
            Some(validity) => nulls.append_buffer(&validity),
            None => nulls.append_n_non_nulls(rows.len()),
        }
        self.nulls = nulls;
        keep_rows(&mut self.values, rows);
    }

    fn compare(&self, left: u32, right: u32) -> Ordering {
        let (left, right) = (left as usize, right as usize);
        match (self.nulls.is_valid(left), self.nulls.is_valid(right)) {
            (true, true) => self.values[left].compare(self.values[right]),
            (left, right) => left.cmp(&right),
        }
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.nulls.allocated_size()
    }
}

/// Booleans, a byte each: what they are, or that they are not known.
#[derive(Debug, Default)]
struct Booleans(Vec<Option<bool>>);

impl Column for Booleans {
    fn append(&mut self, function: &str, array: &ArrayRef) -> Result<()> {
        match array.as_boolean_opt() {
            Some(booleans) => self.0.extend(booleans),
            None => return exec_err!("{function}: expected booleans, got {}", array.data_type()),
        }
        Ok(())
    }

    fn gather(&mut self, rows: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(rows.iter().map(|&row| self.0[row as usize]).collect::<BooleanArray>()))
    }

    fn keep(&mut self, rows: &[u32]) {
        keep_rows(&mut self.0, rows);
    }

    fn compare(&self, left: u32, right: u32) -> Ordering {
        self.0[left as usize].cmp(&self.0[right as usize])
    }

    fn size(&self) -> usize {
        self.0.capacity()
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Text
// ---------------------------------------------------------------------------------------------------------------

const NULL_CODE: i32 = -1;
const UNKNOWN_CODE: i32 = -2;

/// Text of few distinct values: a code per event, each distinct text once.
#[derive(Debug, Default)]
struct CodedTexts {
    codes: Vec<i32>,
    texts: Interner,
    /// Codes of the entries of the dictionary seen last: neighbouring batches mostly share theirs.
    translation: Option<Translation>,
}

#[derive(Debug)]
struct Translation {
    dictionary: ArrayRef,
    codes: Vec<i32>,
}

impl CodedTexts {
    fn append_texts<'a>(&mut self, function: &str, texts: impl Iterator<Item = Option<&'a str>>) -> Result<()> {
        self.codes.reserve(texts.size_hint().0);
        for text in texts {
            let code = match text {
                Some(text) => self.texts.intern(function, text)?,
                None => NULL_CODE,
            };
            self.codes.push(code);
        }
        Ok(())
    }

    fn append_coded(&mut self, function: &str, keys: &Int32Array, dictionary: &ArrayRef) -> Result<()> {
        let known = self.translation.take().filter(|known| known.dictionary.to_data().ptr_eq(&dictionary.to_data()));
        let mut translation = known.unwrap_or_else(|| Translation {
            dictionary: Arc::clone(dictionary),
            codes: vec![UNKNOWN_CODE; dictionary.len()],
        });
        let texts = TextColumn::of_array(function, dictionary)?;
        self.codes.reserve(keys.len());
        for key in keys {
            let code = match key {
                None => NULL_CODE,
                Some(key) => match translation.codes[key as usize] {
                    UNKNOWN_CODE => {
                        let text = texts.get(key as usize);
                        let code = text.map_or(Ok(NULL_CODE), |text| self.texts.intern(function, text))?;
                        translation.codes[key as usize] = code;
                        code
                    }
                    code => code,
                },
            };
            self.codes.push(code);
        }
        self.translation = Some(translation);
        Ok(())
    }
}

/// Texts that are kept without asking whether an event still has them.
const FEW_TEXTS: usize = 1024;

impl CodedTexts {
    /// Forgets the texts that no event has any more, and gives the others new codes.
    fn forget_unused(&mut self) {
        let texts = std::mem::take(&mut self.texts);
        let mut new_codes = vec![UNKNOWN_CODE; texts.len()];
        for code in self.codes.iter_mut().filter(|code| **code != NULL_CODE) {
            let new = &mut new_codes[*code as usize];
            if *new == UNKNOWN_CODE {
                let text = texts.get(*code);
                *new = self.texts.insert("", text).expect("what fitted among more texts fits again");
            }
            *code = *new;
        }
        self.translation = None;
    }
}

impl Column for CodedTexts {
    fn append(&mut self, function: &str, array: &ArrayRef) -> Result<()> {
        match array.data_type() {
            DataType::Utf8 => self.append_texts(function, array.as_string::<i32>().iter()),
            DataType::LargeUtf8 => self.append_texts(function, array.as_string::<i64>().iter()),
            DataType::Utf8View => self.append_texts(function, array.as_string_view().iter()),
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                let keys = cast(dictionary.keys(), &DataType::Int32)?;
                self.append_coded(function, keys.as_primitive::<Int32Type>(), dictionary.values())
            }
            DataType::Null => {
                self.codes.resize(self.codes.len() + array.len(), NULL_CODE);
                Ok(())
            }
            other => exec_err!("{function}: expected text, got {other}"),
        }
    }

    fn gather(&mut self, rows: &[u32]) -> Result<ArrayRef> {
        let mut codes: Vec<i32> = rows.iter().map(|&row| self.codes[row as usize]).collect();
        let mut nulls = None;
        if codes.contains(&NULL_CODE) {
            nulls = Some(NullBuffer::new(BooleanBuffer::collect_bool(codes.len(), |row| codes[row] != NULL_CODE)));
            codes.iter_mut().for_each(|code| *code = (*code).max(0));
        }
        let keys = Int32Array::try_new(codes.into(), nulls)?;
        Ok(Arc::new(DictionaryArray::try_new(keys, self.texts.array()?)?))
    }

    fn keep(&mut self, rows: &[u32]) {
        keep_rows(&mut self.codes, rows);
        if rows.is_empty() {
            *self = Self::default();
        } else if self.texts.len() > 2 * rows.len() + FEW_TEXTS {
            self.forget_unused();
        }
    }

    fn compare(&self, left: u32, right: u32) -> Ordering {
        let text = |row: u32| match self.codes[row as usize] {
            NULL_CODE => None,
            code => Some(self.texts.get(code)),
        };
        text(left).cmp(&text(right))
    }

    fn size(&self) -> usize {
        let translation = self.translation.as_ref().map_or(0, |translation| {
            translation.codes.capacity() * size_of::<i32>() + translation.dictionary.get_array_memory_size()
        });
        self.codes.capacity() * size_of::<i32>() + translation + self.texts.size()
    }
}

/// Distinct texts, numbered from 0 in the order in which they are first seen.
#[derive(Debug)]
struct Interner {
    bytes: Vec<u8>,
    /// Where each text begins in `bytes`, and where the last one ends.
    offsets: Vec<i32>,
    codes: HashTable<i32>,
    hasher: DefaultHashBuilder,
    last: i32,
    array: Option<ArrayRef>,
}

impl Default for Interner {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            offsets: vec![0],
            codes: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            last: NULL_CODE,
            array: None,
        }
    }
}

fn entry<'a>(bytes: &'a [u8], offsets: &[i32], code: i32) -> &'a [u8] {
    let code = code as usize;
    &bytes[offsets[code] as usize..offsets[code + 1] as usize]
}

impl Interner {
    /// The number of texts.
    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn get(&self, code: i32) -> &[u8] {
        entry(&self.bytes, &self.offsets, code)
    }

    fn intern(&mut self, function: &str, text: &str) -> Result<i32> {
        let text = text.as_bytes();
        // Neighbouring events often share their channel or touchpoint.
        if self.last != NULL_CODE && self.get(self.last) == text {
            return Ok(self.last);
        }
        let hash = self.hasher.hash_one(text);
        let known = self.codes.find(hash, |&code| entry(&self.bytes, &self.offsets, code) == text);
        self.last = match known {
            Some(&code) => code,
            None => self.insert(function, text)?,
        };
        Ok(self.last)
    }

    /// Adds a text that is new.
    fn insert(&mut self, function: &str, text: &[u8]) -> Result<i32> {
        let hash = self.hasher.hash_one(text);
        let code = (self.offsets.len() - 1) as i32;
        self.bytes.extend_from_slice(text);
        let Ok(end) = i32::try_from(self.bytes.len()) else {
            return resources_err!(
                "{function}: more than 2 GiB of distinct texts in one partition; raise target_partitions"
            );
        };
        self.offsets.push(end);
        let Self { bytes, offsets, codes, hasher, .. } = self;
        codes.insert_unique(hash, code, |&code| hasher.hash_one(entry(bytes, offsets, code)));
        self.array = None;
        Ok(code)
    }

    /// The texts in the order of their codes.
    fn array(&mut self) -> Result<ArrayRef> {
        if let Some(array) = &self.array {
            return Ok(Arc::clone(array));
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets.clone()));
        let texts = StringArray::try_new(offsets, Buffer::from_slice_ref(&self.bytes), None)?;
        Ok(Arc::clone(self.array.insert(Arc::new(texts))))
    }

    fn size(&self) -> usize {
        let array = self.array.as_ref().map_or(0, |array| array.get_array_memory_size());
        self.bytes.capacity() + self.offsets.capacity() * size_of::<i32>() + self.codes.allocation_size() + array
    }
}

/// Event ids: text that hardly repeats, kept as one run of bytes. Never null.
#[derive(Debug, Default)]
pub(super) struct Ids {
    bytes: Vec<u8>,
    /// Where each id ends in `bytes`.
    ends: Vec<u32>,
}

impl Ids {
    /// The id of a row.
    pub(super) fn get(&self, row: u32) -> &[u8] {
        let row = row as usize;
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start as usize..self.ends[row] as usize]
    }

    fn append_texts<'a>(&mut self, texts: impl Iterator<Item = Option<&'a str>>) {
        self.ends.reserve(texts.size_hint().0);
        for text in texts {
            self.bytes.extend_from_slice(text.unwrap_or_default().as_bytes());
            self.ends.push(self.bytes.len() as u32);
        }
    }
}

impl Column for Ids {
    fn append(&mut self, function: &str, array: &ArrayRef) -> Result<()> {
        match array.data_type() {
            DataType::Utf8 => {
                let ids = array.as_string::<i32>();
                let offsets = ids.value_offsets();
                let (first, last) = (offsets[0] as usize, offsets[ids.len()] as usize);
                let shift = self.bytes.len();
                self.bytes.extend_from_slice(&ids.value_data()[first..last]);
                self.ends.extend(offsets[1..].iter().map(|&end| (shift + end as usize - first) as u32));
            }
            DataType::LargeUtf8 => self.append_texts(array.as_string::<i64>().iter()),
            DataType::Utf8View => self.append_texts(array.as_string_view().iter()),
            _ => {
                let ids = TextColumn::of_array(function, array)?;
                self.append_texts((0..array.len()).map(|position| ids.get(position)));
            }
        }
        if u32::try_from(self.bytes.len()).is_err() {
            return Err(resources_datafusion_err!(
                "{function}: more than 4 GiB of event ids in one partition; raise target_partitions"
            ));
        }
        Ok(())
    }

    fn gather(&mut self, rows: &[u32]) -> Result<ArrayRef> {
        let length: usize = rows.iter().map(|&row| self.get(row).len()).sum();
        if i32::try_from(length).is_err() {
            return Err(resources_datafusion_err!(
                "timeline: more than 2 GiB of event ids in one result; raise target_partitions"
            ));
        }
        let mut bytes = Vec::with_capacity(length);
        let mut offsets = Vec::with_capacity(rows.len() + 1);
        offsets.push(0);
        for &row in rows {
            bytes.extend_from_slice(self.get(row));
            offsets.push(bytes.len() as i32);
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let ids = StringArray::try_new(offsets, Buffer::from_vec(bytes), None)
            .map_err(|error| exec_datafusion_err!("timeline: event ids are damaged: {error}"))?;
        Ok(Arc::new(ids))
    }

    fn keep(&mut self, rows: &[u32]) {
        if rows.is_empty() {
            *self = Self::default();
            return;
        }
        let mut end = 0;
        for (to, &from) in rows.iter().enumerate() {
            let start = if from == 0 { 0 } else { self.ends[from as usize - 1] as usize };
            let length = self.ends[from as usize] as usize - start;
            self.bytes.copy_within(start..start + length, end);
            end += length;
            self.ends[to] = end as u32;
        }
        self.bytes.truncate(end);
        self.ends.truncate(rows.len());
    }

    fn compare(&self, left: u32, right: u32) -> Ordering {
        self.get(left).cmp(self.get(right))
    }

    fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;

    use super::*;

    #[test]
    fn errors_name_the_function_whose_events_they_are() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        for (stored, message) in [
            (DataType::Boolean, "path: expected booleans, got Int64"),
            (coded_text_type(), "path: expected text, got Int64"),
        ] {
            let error = column_of("path", &stored).unwrap().append("path", &numbers).unwrap_err().strip_backtrace();
            assert!(error.contains(message) && !error.contains("timeline"), "{error}");
        }
        let error = column_of("path", &DataType::UInt64).unwrap_err().strip_backtrace();
        assert!(error.contains("path: no column of type UInt64"), "{error}");
    }
}
