//! Sets of keys, kept as Parquet files with one column of text.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayAccessor, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use uuid::Uuid;

use super::changes::FILES;
use crate::delta::{self, Part};
use crate::error::{Context, Error, Result};
use crate::lake::Lake;

static SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("key", DataType::Utf8, false)])));

/// Writes distinct keys as a file of changes.
pub async fn write<'a>(lake: &Lake, name: &str, keys: impl IntoIterator<Item = &'a str>) -> Result<Part> {
    let keys = Arc::new(StringArray::from_iter_values(keys));
    let (content, rows) = delta::encode(&SCHEMA, [RecordBatch::try_new(SCHEMA.clone(), vec![keys])?])?;
    delta::write_part(lake, FILES, &format!("{name}-{}", Uuid::new_v4().simple()), Vec::new(), content, rows).await
}

/// Reads the keys of a file, as one array per batch.
pub async fn read(lake: &Lake, part: &Part) -> Result<Vec<StringArray>> {
    let path = format!("{FILES}/{}", part.path);
    let bytes = lake.get(&path).await?;
    let bytes = bytes.ok_or_else(|| Error::corrupt(format!("{path} is gone, and changes name it")))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).context(&path)?.build().context(&path)?;
    reader.map(|batch| Ok(batch.context(&path)?.column(0).as_string::<i32>().clone())).collect()
}

/// The keys of a file, if there is one.
pub async fn read_all(lake: &Lake, part: Option<&Part>) -> Result<Vec<StringArray>> {
    match part {
        Some(part) => read(lake, part).await,
        None => Ok(Vec::new()),
    }
}

/// What holds of each key of a column, given its row, as keys are compared ([`as_text`]); texts are not copied.
pub fn test_each(column: &dyn Array, holds: impl Fn(usize, &str) -> bool) -> Result<BooleanArray> {
    fn test<'a>(keys: impl ArrayAccessor<Item = &'a str>, holds: impl Fn(usize, &str) -> bool) -> BooleanArray {
        let nulls = keys.nulls();
        let key = |row| if nulls.is_some_and(|nulls| nulls.is_null(row)) { "" } else { keys.value(row) };
        BooleanBuffer::collect_bool(keys.len(), |row| holds(row, key(row))).into()
    }
    Ok(match column.data_type() {
        DataType::Utf8View => test(column.as_string_view(), holds),
        DataType::Utf8 => test(column.as_string::<i32>(), holds),
        _ => test(&as_text(column)?, holds),
    })
}

/// A column of keys as they are compared: text, with nothing for null. Days are written as in ISO 8601.
pub fn as_text(column: &dyn Array) -> Result<StringArray> {
    let text = cast(column, &DataType::Utf8)?;
    let text = text.as_string::<i32>();
    Ok(match text.null_count() {
        0 => text.clone(),
        _ => text.iter().map(|key| Some(key.unwrap_or_default())).collect(),
    })
}

/// Tells of most texts, by a few kilobytes that stay in the nearest cache, that they are none of some keys. A table of the keys
/// themselves is asked for the others.
#[derive(Debug)]
pub struct Sieve {
    /// A bit for each value of the upper bits of a hash; a power of two of them.
    bits: Vec<u64>,
    shift: u32,
    state: foldhash::fast::RandomState,
}

impl Sieve {
    /// Bits to a key at least: of other texts at most one in so many passes.
    const BITS_PER_KEY: usize = 16;

    /// A sieve through which these keys pass.
    pub fn of<'a>(keys: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let bits = (keys.len() * Self::BITS_PER_KEY).next_power_of_two().max(64);
        let shift = u64::BITS - bits.trailing_zeros();
        let mut sieve = Self { bits: vec![0; bits / 64], shift, state: foldhash::fast::RandomState::default() };
        for key in keys {
            let (word, bit) = sieve.place(key);
            sieve.bits[word] |= 1 << bit;
        }
        sieve
    }

    /// Whether a text may be one of the keys; true of all of them.
    pub fn passes(&self, text: &str) -> bool {
        let (word, bit) = self.place(text);
        self.bits[word] >> bit & 1 == 1
    }

    fn place(&self, text: &str) -> (usize, u64) {
        let place = self.state.hash_one(text) >> self.shift;
        ((place / 64) as usize, place % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_tested_as_it_is_compared() {
        let keys = [Some("a"), None, Some("b"), Some(""), Some("a")];
        let is_tested = |column: &dyn Array, key: &str| test_each(column, |_, one| one == key).unwrap();
        let text = StringArray::from_iter(keys);
        for column in [
            Arc::new(text.clone()) as arrow::array::ArrayRef,
            cast(&text, &DataType::Utf8View).unwrap(),
            cast(&text, &DataType::LargeUtf8).unwrap(),
        ] {
            assert_eq!(is_tested(&column, "a"), BooleanArray::from(vec![true, false, false, false, true]));
            assert_eq!(is_tested(&column, ""), BooleanArray::from(vec![false, true, false, true, false]));
            assert_eq!(is_tested(&column.slice(2, 3), "a"), BooleanArray::from(vec![false, false, true]));
        }
    }

    #[test]
    fn all_keys_pass_a_sieve_and_few_other_texts() {
        for count in [0, 1, 5, 1000, 20_000] {
            let name = |number: usize| format!("customer {number}");
            let keys: Vec<String> = (0..count).map(name).collect();
            let sieve = Sieve::of(keys.iter().map(String::as_str));
            assert!(keys.iter().all(|key| sieve.passes(key)));
            let passed = (count..count + 100_000).filter(|number| sieve.passes(&name(*number))).count();
            assert!(passed <= 100_000 / Sieve::BITS_PER_KEY * 2, "{passed} of 100,000 others beside {count} keys");
        }
    }
}
