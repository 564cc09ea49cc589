//! Text as bytes, appended to buffers that are used again and again.

/// What is appended to text.
pub(super) trait Text {
    fn push_str(&mut self, text: &str);
    /// A number with at least so many digits.
    fn push_number(&mut self, number: u64, digits: usize);
    /// Sixteen hexadecimal digits.
    fn push_hex(&mut self, bits: u64);
    /// Hundredths as an amount with two decimals.
    fn push_cents(&mut self, cents: u64);
}

impl Text for Vec<u8> {
    fn push_str(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }

    fn push_number(&mut self, number: u64, digits: usize) {
        let mut text = [b'0'; 20];
        let mut first = text.len();
        let mut rest = number;
        while rest > 0 || text.len() - first < digits {
            first -= 1;
            text[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.extend_from_slice(&text[first..]);
    }

    fn push_hex(&mut self, bits: u64) {
        let digit = |position: usize| b"0123456789abcdef"[(bits >> (60 - position * 4) & 15) as usize];
        self.extend_from_slice(&std::array::from_fn::<u8, 16, _>(digit));
    }

    fn push_cents(&mut self, cents: u64) {
        self.push_number(cents / 100, 1);
        self.push(b'.');
        self.push_number(cents % 100, 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_all_their_digits() {
        let mut text = Vec::new();
        text.push_number(u64::MAX, 1);
        text.push_str(" ");
        text.push_number(7, 6);
        text.push_str(" ");
        text.push_number(0, 1);
        text.push_str(" ");
        text.push_hex(0x00ff_0000_0000_000a);
        text.push_str(" ");
        text.push_cents(120_005);
        assert_eq!(String::from_utf8(text).unwrap(), "18446744073709551615 000007 0 00ff00000000000a 1200.05");
    }
}
