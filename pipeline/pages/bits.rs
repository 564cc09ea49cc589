//! Numbers out of bytes.

use parquet::errors::{ParquetError, Result};

/// The error of bytes that end before what they announce.
pub fn cut_short() -> ParquetError {
    ParquetError::EOF("a page ends before its values do".to_owned())
}

/// The number of `width` bits, at most 64, that begins at `bit`; bits behind the last byte are 0.
#[inline]
pub fn read(bytes: &[u8], bit: usize, width: usize) -> u64 {
    let (at, shift) = (bit / 8, bit % 8);
    let low = word(bytes, at) >> shift;
    let high = if shift + width > 64 { u64::from(bytes.get(at + 8).copied().unwrap_or(0)) << (64 - shift) } else { 0 };
    (low | high) & mask(width)
}

/// The lowest `width` bits, at most 64.
#[inline]
pub fn mask(width: usize) -> u64 {
    if width == 0 { 0 } else { u64::MAX >> (64 - width) }
}

/// Eight bytes from `at` on, those behind the last as 0.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8) {
        Some(word) => u64::from_le_bytes(word.try_into().expect("eight bytes")),
        None => {
            let rest = bytes.get(at..).unwrap_or_default();
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(word)
        }
    }
}

/// The number in groups of seven bits at `at`, which moves behind it.
pub fn varint(bytes: &[u8], at: &mut usize) -> Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or_else(cut_short)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ParquetError::General("a number of more than 64 bits".to_owned()))
}

/// The same of a number with a sign, which is stored as its lowest bit.
pub fn zigzag(bytes: &[u8], at: &mut usize) -> Result<i64> {
    let number = varint(bytes, at)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}

/// The other way.
#[cfg(test)]
pub(super) mod testing {
    /// A number in groups of seven bits.
    pub fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = vec![];
        while number > 0x7f {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    /// Numbers of `width` bits side by side.
    pub fn packed(numbers: &[u64], width: usize) -> Vec<u8> {
        let mut bytes = vec![0_u8; (numbers.len() * width).div_ceil(8)];
        for (place, number) in numbers.iter().enumerate() {
            for bit in 0..width {
                let at = place * width + bit;
                bytes[at / 8] |= ((number >> bit & 1) as u8) << (at % 8);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_of_any_width_come_back(width in 0_usize..=64, numbers in proptest::collection::vec(any::<u64>(), 1..30)) {
            let numbers: Vec<u64> = numbers.into_iter().map(|number| number & mask(width)).collect();
            let bytes = testing::packed(&numbers, width);
            let read: Vec<u64> = (0..numbers.len()).map(|place| read(&bytes, place * width, width)).collect();
            prop_assert_eq!(read, numbers);
        }

        #[test]
        fn numbers_in_groups_of_seven_come_back(number in any::<u64>(), signed in any::<i64>()) {
            let zigzagged = (signed << 1 ^ signed >> 63) as u64;
            let bytes = [testing::varint(number), testing::varint(zigzagged)].concat();
            let mut at = 0;
            prop_assert_eq!(varint(&bytes, &mut at).unwrap(), number);
            prop_assert_eq!(zigzag(&bytes, &mut at).unwrap(), signed);
            prop_assert_eq!(at, bytes.len());
            prop_assert!(varint(&bytes, &mut at).is_err());
        }
    }

    #[test]
    fn a_number_has_an_end() {
        assert!(varint(&[0xff; 11], &mut 0).is_err());
    }
}
