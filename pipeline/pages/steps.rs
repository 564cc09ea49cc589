//! Whole numbers as the steps from one to the next, packed in blocks: `DELTA_BINARY_PACKED`.
//!
//! Layout: <https://parquet.apache.org/docs/file-format/data-pages/encodings/#DELTAENC>.

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};

use super::bits::{self, varint, zigzag};

/// Numbers that are read from the first to the last.
#[derive(Debug)]
pub struct Steps {
    bytes: Bytes,
    /// Where the next block, or the next part of a block, begins.
    at: usize,
    /// Steps in a part, of which a block has `widths.len()`.
    part_length: usize,
    /// Numbers that are still to come.
    left: usize,
    is_first: bool,
    last: i64,
    smallest_step: i64,
    /// Bits of a step, for each part of the block.
    widths: Vec<u8>,
    /// The part that comes next.
    part: usize,
    /// Of the part that is being read: the bit at which its next step begins, the bits of a step, and the steps to come.
    bit: usize,
    width: usize,
    left_in_part: usize,
}

/// Whether so many steps fill whole bytes, whatever their width, as the layout asks; and are few enough to be counted in bits.
fn is_in_bytes(part_length: usize) -> bool {
    part_length > 0 && part_length.is_multiple_of(8) && part_length <= 1 << 32
}

impl Steps {
    /// The numbers of a page.
    pub fn new(bytes: Bytes) -> Result<Self> {
        let mut at = 0;
        let block_length = varint(&bytes, &mut at)? as usize;
        let parts = varint(&bytes, &mut at)? as usize;
        let left = varint(&bytes, &mut at)? as usize;
        let last = zigzag(&bytes, &mut at)?;
        if parts == 0
            || parts > bytes.len()
            || !block_length.is_multiple_of(parts)
            || !is_in_bytes(block_length / parts)
        {
            let what = format!("blocks of {block_length} steps in {parts} parts");
            return Err(ParquetError::General(what));
        }
        Ok(Self {
            bytes,
            at,
            part_length: block_length / parts,
            left,
            is_first: true,
            last,
            smallest_step: 0,
            widths: vec![0; parts],
            part: parts,
            bit: 0,
            width: 0,
            left_in_part: 0,
        })
    }

    /// Appends the next `count` numbers.
    pub fn take(&mut self, count: usize, numbers: &mut Vec<i64>) -> Result<()> {
        if count > self.left {
            return Err(bits::cut_short());
        }
        self.left -= count;
        let mut wanted = count;
        if self.is_first && wanted > 0 {
            self.is_first = false;
            numbers.push(self.last);
            wanted -= 1;
        }
        while wanted > 0 {
            if self.left_in_part == 0 {
                self.next_part(wanted + self.left)?;
            }
            let now = self.left_in_part.min(wanted);
            self.unpack(now, numbers);
            self.left_in_part -= now;
            wanted -= now;
        }
        Ok(())
    }

    /// Turns to the next part, of which `rest` steps are needed if it has so many.
    fn next_part(&mut self, rest: usize) -> Result<()> {
        if self.part == self.widths.len() {
            self.smallest_step = zigzag(&self.bytes, &mut self.at)?;
            let end = self.at + self.widths.len();
            self.widths.copy_from_slice(self.bytes.get(self.at..end).ok_or_else(bits::cut_short)?);
            self.at = end;
            self.part = 0;
        }
        self.width = usize::from(self.widths[self.part]);
        if self.width > 64 {
            return Err(ParquetError::General(format!("steps of {} bits, expected at most 64", self.width)));
        }
        self.part += 1;
        // The last part may be cut where its steps end.
        let needed = self.part_length.min(rest).checked_mul(self.width).ok_or_else(bits::cut_short)?;
        let end = self.at.checked_add(self.part_length * self.width / 8).ok_or_else(bits::cut_short)?;
        if self.at + needed.div_ceil(8) > self.bytes.len() {
            return Err(bits::cut_short());
        }
        (self.bit, self.at, self.left_in_part) = (self.at * 8, end, self.part_length);
        Ok(())
    }

    fn unpack(&mut self, count: usize, numbers: &mut Vec<i64>) {
        // One load holds the bits of a step up to this width, wherever in a byte it begins.
        const ONE_LOAD: usize = 57;
        let (mut last, mut bit, width) = (self.last, self.bit, self.width);
        let (bytes, smallest_step, mask): (&[u8], _, _) = (&self.bytes, self.smallest_step, bits::mask(width));
        // Number waits for number: the step is made first, while the one before is still on its way. The closure owns what it
        // changes, so that it stays in registers.
        numbers.extend((0..count).map(move |_| {
            let step = match bytes.get(bit / 8..bit / 8 + 8) {
                Some(word) if width <= ONE_LOAD => {
                    (u64::from_le_bytes(word.try_into().expect("eight bytes")) >> (bit % 8)) & mask
                }
                _ => bits::read(bytes, bit, width),
            };
            last = last.wrapping_add(smallest_step.wrapping_add(step as i64));
            bit += width;
            last
        }));
        self.bit += count * width;
        self.last = numbers.last().copied().unwrap_or(self.last);
    }
}
