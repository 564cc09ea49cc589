//! The values of a page, decoded to what an array holds of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, BooleanBufferBuilder, DictionaryArray, Int32Array, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Int32Type, TimeUnit};
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::errors::{ParquetError, Result};

use super::bits;
use super::hybrid::Hybrid;
use super::steps::Steps;

/// What the values of a column are decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers of texts in a dictionary.
    Text,
    /// Words of eight bytes: whole numbers, times, floats.
    Word,
    /// Bits.
    Boolean,
}

impl Kind {
    /// The kind of a type of values; `None` for one that is not decoded here.
    pub fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Dictionary(key, value) if **key == DataType::Int32 && **value == DataType::Utf8 => {
                Some(Self::Text)
            }
            DataType::Int64 | DataType::Float64 | DataType::Timestamp(TimeUnit::Microsecond, _) => Some(Self::Word),
            DataType::Boolean => Some(Self::Boolean),
            _ => None,
        }
    }

    /// Whether values that are stored like this are decoded here.
    pub fn reads(self, encoding: Encoding) -> bool {
        match encoding {
            Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY => self != Self::Boolean,
            Encoding::PLAIN => self != Self::Text,
            Encoding::DELTA_BINARY_PACKED => self == Self::Word,
            Encoding::RLE => self == Self::Boolean,
            _ => false,
        }
    }
}

/// The values that keys stand for.
#[derive(Debug, Clone)]
pub enum Dictionary {
    /// Of texts.
    Texts(ArrayRef),
    /// Of words of eight bytes.
    Words(Arc<Vec<i64>>),
}

impl Dictionary {
    /// The `count` values of a dictionary's page.
    pub fn decode(kind: Kind, bytes: &[u8], count: usize) -> Result<Self> {
        match kind {
            Kind::Text => Ok(Self::Texts(Arc::new(texts(bytes, count)?))),
            Kind::Word => {
                let bytes = bytes.get(..count.saturating_mul(8)).ok_or_else(bits::cut_short)?;
                Ok(Self::Words(Arc::new(words(bytes).collect())))
            }
            Kind::Boolean => Err(ParquetError::General("a dictionary of booleans".to_owned())),
        }
    }
}

/// Texts, each behind its length.
fn texts(bytes: &[u8], count: usize) -> Result<StringArray> {
    // Each has four bytes at least.
    let mut offsets = Vec::with_capacity(count.min(bytes.len() / 4) + 1);
    let mut values = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    offsets.push(0);
    for _ in 0..count {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(bits::cut_short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (text, behind) = behind.split_at_checked(length).ok_or_else(bits::cut_short)?;
        values.extend_from_slice(text);
        offsets.push(i32::try_from(values.len()).map_err(|_| ParquetError::General("a dictionary of 2 GiB".into()))?);
        rest = behind;
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(StringArray::try_new(offsets, Buffer::from_vec(values), None)?)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = i64> {
    bytes.chunks_exact(8).map(|word| i64::from_le_bytes(word.try_into().expect("eight bytes")))
}

/// The values of a page, read from the first to the last. Nulls have none.
#[derive(Debug)]
pub enum Decoder {
    /// Keys of a dictionary of texts.
    Keys(Hybrid),
    /// Keys of a dictionary of words.
    WordKeys(Hybrid, Arc<Vec<i64>>, Vec<i32>),
    /// Words as they are.
    Words(Bytes),
    /// Words as steps.
    Steps(Steps),
    /// Bits side by side, and the next of them.
    Bits(Bytes, usize),
    /// Bits in runs.
    BitRuns(Hybrid, Vec<u8>),
}

impl Decoder {
    /// The values in `bytes`, which are stored by `encoding`.
    pub fn new(kind: Kind, encoding: Encoding, mut bytes: Bytes, dictionary: Option<&Dictionary>) -> Result<Self> {
        match (kind, encoding) {
            (Kind::Text | Kind::Word, Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY) => {
                // A page without values may have nothing, not even the bits of a key.
                let width = if bytes.is_empty() { 0 } else { bytes.split_to(1)[0] };
                let keys = Hybrid::new(bytes, usize::from(width))?;
                match dictionary {
                    Some(Dictionary::Texts(_)) => Ok(Self::Keys(keys)),
                    Some(Dictionary::Words(words)) => Ok(Self::WordKeys(keys, words.clone(), vec![])),
                    None => Err(ParquetError::General("keys without a dictionary".to_owned())),
                }
            }
            (Kind::Word, Encoding::PLAIN) => Ok(Self::Words(bytes)),
            (Kind::Word, Encoding::DELTA_BINARY_PACKED) => Ok(Self::Steps(Steps::new(bytes)?)),
            (Kind::Boolean, Encoding::PLAIN) => Ok(Self::Bits(bytes, 0)),
            (Kind::Boolean, Encoding::RLE) => {
                let runs = bytes.get(4..).map(|runs| bytes.slice_ref(runs)).ok_or_else(bits::cut_short)?;
                Ok(Self::BitRuns(Hybrid::new(runs, 1)?, vec![]))
            }
            (kind, encoding) => Err(ParquetError::NYI(format!("{kind:?} stored as {encoding}"))),
        }
    }

    /// Appends the next `count` values.
    pub fn take(&mut self, count: usize, values: &mut Values) -> Result<()> {
        match (self, values) {
            (Self::Keys(keys), Values::Keys(values)) => keys.take(count, values, |key| key as i32),
            (Self::WordKeys(keys, dictionary, scratch), Values::Words(values)) => {
                scratch.clear();
                keys.take(count, scratch, |key| key as i32)?;
                let first = values.len();
                values.extend(scratch.iter().map_while(|key| dictionary.get(*key as usize)));
                if values.len() - first < count {
                    return Err(ParquetError::General("a key that the dictionary does not have".to_owned()));
                }
                Ok(())
            }
            (Self::Words(bytes), Values::Words(values)) => {
                if bytes.len() < count * 8 {
                    return Err(bits::cut_short());
                }
                values.extend(words(&bytes.split_to(count * 8)));
                Ok(())
            }
            (Self::Steps(steps), Values::Words(values)) => steps.take(count, values),
            (Self::Bits(bytes, next), Values::Bits(values)) => {
                if *next + count > bytes.len() * 8 {
                    return Err(bits::cut_short());
                }
                values.append_packed_range(*next..*next + count, bytes);
                *next += count;
                Ok(())
            }
            (Self::BitRuns(runs, scratch), Values::Bits(values)) => {
                scratch.clear();
                runs.take(count, scratch, |bit| bit as u8)?;
                scratch.iter().for_each(|bit| values.append(*bit == 1));
                Ok(())
            }
            (decoder, values) => Err(ParquetError::General(format!("{decoder:?} gives no {values:?}"))),
        }
    }
}

/// Decoded values, one after another.
#[derive(Debug)]
pub enum Values {
    /// Keys of texts.
    Keys(Vec<i32>),
    /// Words of eight bytes.
    Words(Vec<i64>),
    /// Bits.
    Bits(BooleanBufferBuilder),
}

impl Values {
    /// No values yet, with room for `capacity`.
    pub fn with_capacity(kind: Kind, capacity: usize) -> Self {
        match kind {
            Kind::Text => Self::Keys(Vec::with_capacity(capacity)),
            Kind::Word => Self::Words(Vec::with_capacity(capacity)),
            Kind::Boolean => Self::Bits(BooleanBufferBuilder::new(capacity)),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Keys(keys) => keys.len(),
            Self::Words(words) => words.len(),
            Self::Bits(bits) => bits.len(),
        }
    }

    /// Moves the values from `first` on apart, so that they stand where `is_valid` says that there is one.
    pub fn spread(&mut self, first: usize, is_valid: &[bool]) {
        match self {
            Self::Keys(keys) => spread(keys, first, is_valid),
            Self::Words(words) => spread(words, first, is_valid),
            Self::Bits(bits) => {
                let mut values = (first..bits.len()).map(|place| bits.get_bit(place)).collect();
                spread(&mut values, 0, is_valid);
                bits.truncate(first);
                bits.append_slice(&values);
            }
        }
    }

    /// The values as an array of a type of their kind.
    pub fn finish(
        self,
        data_type: &DataType,
        dictionary: Option<&Dictionary>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef> {
        match self {
            Self::Keys(keys) => {
                let texts = match dictionary {
                    Some(Dictionary::Texts(texts)) => texts.clone(),
                    _ => Arc::new(StringArray::new_null(0)),
                };
                let keys = Int32Array::try_new(keys.into(), nulls)?;
                Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, texts)?))
            }
            Self::Words(words) => {
                let data = arrow::array::ArrayData::builder(data_type.clone())
                    .len(words.len())
                    .nulls(nulls)
                    .add_buffer(Buffer::from_vec(words))
                    .build()?;
                Ok(arrow::array::make_array(data))
            }
            Self::Bits(mut bits) => Ok(Arc::new(BooleanArray::new(bits.finish(), nulls))),
        }
    }
}

fn spread<T: Copy + Default>(values: &mut Vec<T>, first: usize, is_valid: &[bool]) {
    let mut next = values.len();
    values.resize(first + is_valid.len(), T::default());
    for (place, is_valid) in is_valid.iter().enumerate().rev() {
        values[first + place] = match is_valid {
            true => {
                next -= 1;
                values[next]
            }
            false => T::default(),
        };
    }
}
