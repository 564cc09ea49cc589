//! Dead letters: refused records with their bytes, origin and reason, cleaned of what must be pseudonymised.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, Int64Array, RecordBatch, StringBuilder};
use regex::bytes::Regex;

use super::events::DEAD_LETTER_SCHEMA;
use crate::error::Result;
use crate::identifiers::{Pseudonymiser, normalise};

/// Dead letters of a batch, in the order of their records.
pub struct DeadLetters {
    source: StringBuilder,
    origin: StringBuilder,
    reason: StringBuilder,
    detail: StringBuilder,
    record: BinaryBuilder,
    count: usize,
}

impl DeadLetters {
    /// None yet.
    pub fn new() -> Self {
        Self {
            source: StringBuilder::new(),
            origin: StringBuilder::new(),
            reason: StringBuilder::new(),
            detail: StringBuilder::new(),
            record: BinaryBuilder::new(),
            count: 0,
        }
    }

    /// Adds one.
    pub fn push(&mut self, source: &str, origin: &str, reason: &str, detail: &str, record: &[u8]) {
        self.source.append_value(source);
        self.origin.append_value(origin);
        self.reason.append_value(reason);
        self.detail.append_value(detail);
        self.record.append_value(record);
        self.count += 1;
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// As rows of the `dead_letters` table.
    pub fn finish(mut self, batch: i64) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(std::iter::repeat_n(batch, self.count))),
            Arc::new(self.source.finish()),
            Arc::new(self.origin.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.detail.finish()),
            Arc::new(self.record.finish()),
            Arc::new(Int64Array::new_null(self.count)),
        ];
        Ok(RecordBatch::try_new(DEAD_LETTER_SCHEMA.clone(), columns)?)
    }
}

/// Replaces raw identifiers in the bytes of refused records by their pseudonyms.
///
/// A refused record may be unreadable, so identifiers are found by their looks (e-mail addresses, runs of seven or more
/// digits with the usual separators) and by name: in `"column": value` and `"column": "value"`, for each column that
/// feeds a pseudonymised identifier. A record that a mapping refused is also cleaned of the very values it was read to have.
pub struct Cleaner {
    pseudonymiser: Arc<Pseudonymiser>,
    patterns: Vec<(String, Regex)>,
}

impl Cleaner {
    /// A cleaner for a source whose columns feed identifiers: (kind, column).
    pub fn new(pseudonymiser: Arc<Pseudonymiser>, columns: &[(String, String)]) -> Self {
        let mut patterns = Vec::new();
        for (kind, column) in columns {
            let column = regex::escape(column);
            let named = format!(r#"(?-u)"{column}"\s*:\s*"?(?P<value>[^"\\,}}]+)"#);
            patterns.extend(Regex::new(&named).ok().map(|pattern| (kind.clone(), pattern)));
        }
        let by_looks = [
            ("email", r#"(?-u)(?P<value>[^\s"'<>,;:(){}\[\]@]+@[^\s"'<>,;:(){}\[\]@]+)"#),
            ("phone", r"(?-u)(?P<value>\+?\b\d[\d ()./-]{5,}\d\b)"),
        ];
        for (kind, pattern) in by_looks.into_iter().filter(|(kind, _)| pseudonymiser.covers(kind)) {
            patterns.extend(Regex::new(pattern).ok().map(|pattern| (kind.to_string(), pattern)));
        }
        Self { pseudonymiser, patterns }
    }

    /// The record with every raw identifier replaced that can be found.
    pub fn clean(&self, record: &[u8]) -> Vec<u8> {
        let mut cleaned = record.to_vec();
        for (kind, pattern) in &self.patterns {
            let mut rest = Vec::with_capacity(cleaned.len());
            let mut at = 0;
            for found in pattern.captures_iter(&cleaned) {
                let Some(value) = found.name("value") else { continue };
                let text = String::from_utf8_lossy(value.as_bytes());
                if kind == "phone" && is_date(&text) {
                    continue;
                }
                rest.extend_from_slice(&cleaned[at..value.start()]);
                rest.extend_from_slice(self.pseudonymiser.token(kind, &normalise(kind, &text)).as_bytes());
                at = value.end();
            }
            rest.extend_from_slice(&cleaned[at..]);
            cleaned = rest;
        }
        cleaned
    }
}

/// Whether digits are those of a time, `2025-01-31…`, rather than of a telephone.
fn is_date(text: &str) -> bool {
    let shape: String = text.chars().take(10).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaner(kinds: &[&str], columns: &[(&str, &str)]) -> Cleaner {
        let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_string()).collect();
        let columns: Vec<_> =
            columns.iter().map(|(kind, column)| ((*kind).to_string(), (*column).to_string())).collect();
        Cleaner::new(Arc::new(Pseudonymiser::new(b"0123456789abcdef", &kinds)), &columns)
    }

    #[test]
    fn raw_identifiers_leave_a_refused_record_and_their_pseudonyms_come_in() {
        let cleaner = cleaner(&["email", "phone", "user_id"], &[("user_id", "userId")]);
        let record = br#"{"userId": "anna-7", "mail": "Anna@Example.org", "tel": "+49 170 123-4567", "ts": "2025-01-31 09:00:00", "broken"#;
        let cleaned = String::from_utf8(cleaner.clean(record)).unwrap();
        for raw in ["anna-7", "Anna@Example.org", "170 123"] {
            assert!(!cleaned.contains(raw), "{cleaned}");
        }
        let token = cleaner.pseudonymiser.token("email", "anna@example.org");
        assert!(cleaned.contains(&token), "{cleaned}");
        assert!(cleaned.ends_with(r#""ts": "2025-01-31 09:00:00", "broken"#), "{cleaned}");
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let cleaner = cleaner(&["email"], &[]);
        assert_eq!(cleaner.clean(b"call +49 170 1234567"), b"call +49 170 1234567");
    }
}
