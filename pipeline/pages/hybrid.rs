//! Whole numbers of few bits, as runs of one number and numbers packed side by side: Parquet's levels and the keys of its
//! dictionaries.
//!
//! Layout: <https://parquet.apache.org/docs/file-format/data-pages/encodings/#RLE>.

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};

use super::bits::{self, varint};

/// Numbers of a group, which fill as many bytes as each has bits.
const GROUP: usize = 8;

/// Numbers that are read from the first to the last.
#[derive(Debug)]
pub struct Hybrid {
    bytes: Bytes,
    /// Where the next run begins.
    at: usize,
    /// Bits of a number.
    width: usize,
    run: Run,
}

#[derive(Debug, Clone, Copy)]
enum Run {
    /// One number, so often.
    Same { number: u32, left: usize },
    /// Numbers side by side, of which the next begins at `bit`.
    Packed { bit: usize, left: usize },
}

impl Run {
    fn left(self) -> usize {
        match self {
            Self::Same { left, .. } | Self::Packed { left, .. } => left,
        }
    }
}

impl Hybrid {
    /// Numbers of `width` bits each, at most 32.
    pub fn new(bytes: Bytes, width: usize) -> Result<Self> {
        if width > 32 {
            return Err(ParquetError::General(format!("numbers of {width} bits, expected at most 32")));
        }
        Ok(Self { bytes, at: 0, width, run: Run::Same { number: 0, left: 0 } })
    }

    /// Appends the next `count` numbers, each as `convert` has it; after an error numbers that mean nothing.
    pub fn take<T: Copy + Default>(
        &mut self,
        count: usize,
        numbers: &mut Vec<T>,
        convert: impl Fn(u32) -> T,
    ) -> Result<()> {
        // Room is made once: runs may be short.
        let first = numbers.len();
        numbers.resize(first + count, T::default());
        let mut wanted = &mut numbers[first..];
        while !wanted.is_empty() {
            if self.run.left() == 0 {
                self.run = self.next_run()?;
            }
            let (now, later) = wanted.split_at_mut(self.run.left().min(wanted.len()));
            match &mut self.run {
                Run::Same { number, left } => {
                    now.fill(convert(*number));
                    *left -= now.len();
                }
                Run::Packed { bit, left } => {
                    unpack(&self.bytes, *bit, self.width, now, &convert);
                    *bit += now.len() * self.width;
                    *left -= now.len();
                }
            }
            wanted = later;
        }
        Ok(())
    }

    /// The number that the next `count` all are, taken; `None` where their run does not say so.
    pub fn take_same(&mut self, count: usize) -> Result<Option<u32>> {
        if self.run.left() == 0 && count > 0 {
            self.run = self.next_run()?;
        }
        match &mut self.run {
            Run::Same { number, left } if *left >= count => {
                *left -= count;
                Ok(Some(*number))
            }
            _ => Ok(None),
        }
    }

    #[inline]
    fn next_run(&mut self) -> Result<Run> {
        let header = match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                u64::from(*byte)
            }
            _ => varint(&self.bytes, &mut self.at)?,
        };
        let count = usize::try_from(header >> 1).map_err(|_| bits::cut_short())?;
        if header & 1 == 0 {
            let end = self.at + self.width.div_ceil(8);
            if end > self.bytes.len() {
                return Err(bits::cut_short());
            }
            let number = bits::read(&self.bytes, self.at * 8, (end - self.at) * 8) as u32;
            self.at = end;
            return Ok(Run::Same { number, left: count });
        }
        // Groups of eight, the last of which may be cut where its numbers end.
        let bytes = count.checked_mul(self.width).ok_or_else(bits::cut_short)?;
        let stored = bytes.min(self.bytes.len() - self.at);
        let bit = self.at * 8;
        self.at += stored;
        let left = (stored * 8).checked_div(self.width).unwrap_or(count.saturating_mul(8));
        if left == 0 && count > 0 {
            return Err(bits::cut_short());
        }
        Ok(Run::Packed { bit, left })
    }
}

/// The places of those of `count` numbers of one bit that are 0.
pub fn zeros(bytes: &[u8], count: usize) -> Result<Vec<u32>> {
    let mut zeros = vec![];
    let (mut at, mut place) = (0, 0);
    // Runs are short, as a rule: of the elements of one list.
    while place < count {
        let header = match bytes.get(at) {
            Some(byte) if *byte < 0x80 => {
                at += 1;
                usize::from(*byte)
            }
            _ => usize::try_from(varint(bytes, &mut at)?).map_err(|_| bits::cut_short())?,
        };
        let length = header >> 1;
        if header & 1 == 0 {
            let number = *bytes.get(at).ok_or_else(bits::cut_short)?;
            at += 1;
            let end = place.saturating_add(length);
            if number == 0 {
                zeros.extend(place as u32..end.min(count) as u32);
            }
            place = end;
        } else {
            let groups = bytes.get(at..at.saturating_add(length)).ok_or_else(bits::cut_short)?;
            at += length;
            for group in groups {
                let mut zero_bits = !group;
                while zero_bits != 0 {
                    zeros.push(place as u32 + zero_bits.trailing_zeros());
                    zero_bits &= zero_bits - 1;
                }
                place += 8;
            }
        }
        if length == 0 {
            return Err(bits::cut_short());
        }
    }
    // The last group may have more bits than there are numbers.
    zeros.truncate(zeros.partition_point(|zero| (*zero as usize) < count));
    Ok(zeros)
}

/// Fills `numbers` with those of `width` bits from `bit` on, all of which lie in `bytes`.
fn unpack<T>(bytes: &[u8], bit: usize, width: usize, numbers: &mut [T], convert: &impl Fn(u32) -> T) {
    let one_by_one = |bit: usize, numbers: &mut [T]| {
        for (place, number) in numbers.iter_mut().enumerate() {
            *number = convert(bits::read(bytes, bit + place * width, width) as u32);
        }
    };
    // Up to a whole byte, then in groups, then the rest.
    let before = (0..GROUP).find(|place| (bit + place * width).is_multiple_of(8)).expect("groups begin at bytes");
    let (before, behind) = numbers.split_at_mut(before.min(numbers.len()));
    one_by_one(bit, before);
    let bit = bit + before.len() * width;
    let whole = &bytes[bit / 8..];
    let done = match width {
        1 => groups::<1, T>(whole, behind, convert),
        2 => groups::<2, T>(whole, behind, convert),
        3 => groups::<3, T>(whole, behind, convert),
        4 => groups::<4, T>(whole, behind, convert),
        5 => groups::<5, T>(whole, behind, convert),
        6 => groups::<6, T>(whole, behind, convert),
        7 => groups::<7, T>(whole, behind, convert),
        8 => groups::<8, T>(whole, behind, convert),
        _ => 0,
    };
    one_by_one(bit + done * width, &mut behind[done..]);
}

/// Fills `numbers` group by group with those of `WIDTH` bits, at most 8, that lie in `bytes` from the first bit on, and returns how
/// many were filled: of the last groups there may be no whole word. The width is known to the compiler, and so is each shift.
fn groups<const WIDTH: usize, T>(bytes: &[u8], numbers: &mut [T], convert: &impl Fn(u32) -> T) -> usize {
    let mut filled = 0;
    for (group, word) in numbers.chunks_exact_mut(GROUP).zip(bytes.windows(size_of::<u64>()).step_by(WIDTH)) {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        for (place, number) in group.iter_mut().enumerate() {
            *number = convert((word >> (place * WIDTH)) as u32 & ((1 << WIDTH) - 1));
        }
        filled += GROUP;
    }
    filled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs as they are stored: (number, how often) one after another, and packed groups.
    fn stored(width: usize, runs: &[(bool, Vec<u32>)]) -> (Bytes, Vec<u32>) {
        let (mut bytes, mut numbers) = (vec![], vec![]);
        for (is_same, run) in runs {
            if *is_same {
                bytes.extend(super::super::bits::testing::varint((run.len() as u64) << 1));
                bytes.extend(&run[0].to_le_bytes()[..width.div_ceil(8)]);
                numbers.extend(std::iter::repeat_n(run[0], run.len()));
            } else {
                let groups = run.len() / 8;
                bytes.extend(super::super::bits::testing::varint((groups as u64) << 1 | 1));
                let wide: Vec<u64> = run[..groups * 8].iter().map(|number| u64::from(*number)).collect();
                bytes.extend(super::super::bits::testing::packed(&wide, width));
                numbers.extend(&run[..groups * 8]);
            }
        }
        (bytes.into(), numbers)
    }

    proptest! {
        #[test]
        fn numbers_come_back_whatever_is_asked_at_a_time(
            width in 0_usize..=32,
            runs in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u32>(), 8..80)), 1..6),
            steps in proptest::collection::vec(1_usize..50, 1..8),
        ) {
            let mask = ((1_u64 << width) - 1) as u32;
            let runs: Vec<(bool, Vec<u32>)> =
                runs.into_iter().map(|(same, run)| (same, run.iter().map(|number| number & mask).collect())).collect();
            let (bytes, expected) = stored(width, &runs);
            let mut hybrid = Hybrid::new(bytes, width).unwrap();
            let mut numbers: Vec<u32> = vec![];
            for step in steps.iter().cycle() {
                let step = (*step).min(expected.len() - numbers.len());
                if step == 0 {
                    break;
                }
                match hybrid.take_same(step).unwrap() {
                    Some(number) => numbers.extend(std::iter::repeat_n(number, step)),
                    None => hybrid.take(step, &mut numbers, |number| number).unwrap(),
                }
            }
            prop_assert_eq!(numbers, expected);
            // There is nothing behind the last.
            prop_assert!(hybrid.take(1, &mut vec![0_u32], |number| number).is_err());
        }
    }

    proptest! {
        #[test]
        fn zeros_are_found_in_runs_and_groups(
            runs in proptest::collection::vec((any::<bool>(), proptest::collection::vec(0_u32..2, 8..300)), 1..6),
            cut in 0_usize..8,
        ) {
            let (bytes, mut numbers) = stored(1, &runs);
            numbers.truncate(numbers.len() - cut);
            let expected: Vec<u32> = (0..).zip(&numbers).filter(|(_, number)| **number == 0).map(|(place, _)| place).collect();
            prop_assert_eq!(zeros(&bytes, numbers.len()).unwrap(), expected);
            prop_assert!(zeros(&bytes, numbers.len() + 8).is_err());
        }
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let mut hybrid = Hybrid::new(Bytes::from_static(&[0x80]), 3).unwrap();
        assert!(hybrid.take(1, &mut vec![0_u32], |number| number).is_err());
        let mut without_number = Hybrid::new(Bytes::from_static(&[4]), 3).unwrap();
        assert!(without_number.take(1, &mut vec![0_u32], |number| number).is_err());
        let mut packed = Hybrid::new(Bytes::from_static(&[3, 0xff, 0xff]), 3).unwrap();
        assert!(packed.take(8, &mut vec![0_u32], |number| number).is_err());
        assert!(Hybrid::new(Bytes::new(), 33).is_err());
    }
}
