//! A strict JSON scanner: one pass over a record validates it and finds the members that are read.
//!
//! - strict: RFC 8259 and nothing more; no trailing data, no control characters in strings, no lone surrogates, and
//!   no NUL in either form; depth, keys, key length and digits are limited, numbers must be finite
//! - duplicates: seen in every object at any depth. The same value twice is kept once and counted; different values
//!   refuse the record, for there is no right one. So do two spellings of a requested key that differ in case alone
//! - memory: the spans of one record, and the keys of [`Keys`]; recursion ends at the depth limit
//!
//! Input is UTF-8 by its type. Nothing is copied: results are spans of the line, read by [`Scanner::span`].

use super::keys::{Keys, NONE};
use super::limits::Limits;
use super::plan::Plan;

/// Why a record was refused, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub reason: &'static str,
    pub detail: String,
    /// The text ended before the record did.
    pub at_end: bool,
}

type Scanned<T> = Result<T, Box<Fault>>;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A string with escapes.
    EscapedText,
    Number,
    True,
    False,
    Null,
    Object,
    Array,
}

/// Where a value lies in its line, quotes and brackets included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
    pub kind: Kind,
}

/// Members that go to `properties`: from the first key's quote to the last value's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub start: u32,
    pub value: u32,
    pub end: u32,
    /// The node of the plan by which the value, then a single one, is filtered.
    pub filter: Option<u32>,
}

/// Scans records one after the other; the results of the last one stay until the next.
pub(super) struct Scanner<'p> {
    plan: &'p Plan,
    limits: &'p Limits,
    at: usize,
    objects: u64,
    keys: Keys<'p>,
    spans: Vec<Option<Span>>,
    present: Vec<bool>,
    copied: Vec<Copied>,
    /// The record's member before this one is the last one copied.
    adjoins: bool,
    folded: Vec<u32>,
    duplicates: u64,
}

#[cold]
fn fault<T>(reason: &'static str, detail: impl Into<String>) -> Scanned<T> {
    Err(Box::new(Fault { reason, detail: detail.into(), at_end: false }))
}

impl<'p> Scanner<'p> {
    pub fn new(plan: &'p Plan, limits: &'p Limits) -> Self {
        Self {
            plan,
            limits,
            at: 0,
            objects: 0,
            keys: Keys::new(plan, limits),
            spans: vec![None; plan.slots],
            present: vec![false; plan.nodes.len()],
            copied: Vec::new(),
            adjoins: false,
            folded: Vec::new(),
            duplicates: 0,
        }
    }

    /// Validates one record and finds its members.
    pub fn scan(&mut self, line: &str) -> Result<(), Box<Fault>> {
        self.keys.forget_if_full();
        self.at = 0;
        self.spans.fill(None);
        self.present.fill(false);
        self.copied.clear();
        self.adjoins = false;
        self.folded.clear();
        let bytes = line.as_bytes();
        let scanned = self.record(bytes);
        if scanned.is_err() && bytes.get(self.at) == Some(&0) {
            return fault("nul_byte", format!("NUL byte at byte {}", self.at));
        }
        scanned
    }

    /// The value of a slot in the last record, if it was there.
    pub fn span(&self, slot: usize) -> Option<Span> {
        self.spans[slot]
    }

    /// Whether the object of a node was there.
    pub fn is_present(&self, node: usize) -> bool {
        self.present[node]
    }

    /// The members of the last record that go to `properties`, in order of appearance.
    pub fn copied(&self) -> &[Copied] {
        &self.copied
    }

    /// Keys given twice with the same value, over all records so far.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    fn record(&mut self, bytes: &[u8]) -> Scanned<()> {
        self.space(bytes);
        if bytes.get(self.at) != Some(&b'{') {
            let kind = self.value(bytes, self.keys.node_at(1), 1)?;
            self.space(bytes);
            return match self.at == bytes.len() {
                true => fault("not_object", format!("expected an object, found {}", kind.name())),
                false => self.unexpected(bytes, "expected an object"),
            };
        }
        self.at += 1;
        self.object(bytes, 0, 1)?;
        self.space(bytes);
        if self.at < bytes.len() {
            return fault("json_trailing_data", format!("data after the object, at byte {}", self.at));
        }
        self.refuse_folded()
    }

    /// Reads an object whose brace has been read.
    fn object(&mut self, bytes: &[u8], node: u32, depth: usize) -> Scanned<()> {
        if depth > self.limits.depth {
            return fault("too_deep", format!("nested deeper than {}, at byte {}", self.limits.depth, self.at));
        }
        self.objects += 1;
        let object = self.objects;
        self.space(bytes);
        if bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut previous = NONE;
        let mut count = 0;
        loop {
            if bytes.get(self.at) != Some(&b'"') {
                return self.unexpected(bytes, "expected a key");
            }
            let start = self.at;
            self.at += 1;
            let key = self.key(bytes, node, previous)?;
            previous = key;
            count += 1;
            if count > self.limits.keys {
                return fault("too_many_keys", format!("an object of more than {} keys", self.limits.keys));
            }
            self.space(bytes);
            if bytes.get(self.at) != Some(&b':') {
                return self.unexpected(bytes, "expected `:`");
            }
            self.at += 1;
            self.space(bytes);
            let value = self.at;
            let kind = self.value(bytes, self.keys.get(key).child, depth)?;
            let (start, value, end) = (start as u32, value as u32, self.at as u32);
            let is_first = self.is_first(bytes, key, object, (value, end))?;
            let is_copied = is_first && self.record_member(node, key, start, Span { start: value, end, kind });
            if node == 0 {
                self.adjoins = is_copied;
            }
            self.space(bytes);
            match bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.unexpected(bytes, "expected `,` or `}`"),
            }
            self.space(bytes);
        }
    }

    /// Reads an array whose bracket has been read.
    fn array(&mut self, bytes: &[u8], depth: usize) -> Scanned<()> {
        if depth > self.limits.depth {
            return fault("too_deep", format!("nested deeper than {}, at byte {}", self.limits.depth, self.at));
        }
        self.space(bytes);
        if bytes.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(());
        }
        let node = self.keys.node_at(depth + 1);
        loop {
            self.value(bytes, node, depth)?;
            self.space(bytes);
            match bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.unexpected(bytes, "expected `,` or `]`"),
            }
            self.space(bytes);
        }
    }

    /// Reads a value in a container of this depth; `node` is its node if it is an object.
    #[inline]
    fn value(&mut self, bytes: &[u8], node: u32, depth: usize) -> Scanned<Kind> {
        let Some(&byte) = bytes.get(self.at) else {
            return self.unexpected(bytes, "expected a value");
        };
        match byte {
            b'"' => {
                self.at += 1;
                Ok(if self.string(bytes)? { Kind::EscapedText } else { Kind::Text })
            }
            b'-' | b'0'..=b'9' => self.number(bytes).map(|()| Kind::Number),
            b'{' => {
                self.at += 1;
                self.object(bytes, node, depth + 1).map(|()| Kind::Object)
            }
            b'[' => {
                self.at += 1;
                self.array(bytes, depth + 1).map(|()| Kind::Array)
            }
            b't' => self.literal(bytes, b"true", Kind::True),
            b'f' => self.literal(bytes, b"false", Kind::False),
            b'n' => self.literal(bytes, b"null", Kind::Null),
            _ => self.unexpected(bytes, "expected a value"),
        }
    }

    fn literal(&mut self, bytes: &[u8], word: &[u8], kind: Kind) -> Scanned<Kind> {
        for expected in word {
            if bytes.get(self.at) != Some(expected) {
                return self.unexpected(bytes, "expected true, false or null");
            }
            self.at += 1;
        }
        Ok(kind)
    }

    /// Reads a string whose opening quote has been read; true if it has escapes.
    #[inline]
    fn string(&mut self, bytes: &[u8]) -> Scanned<bool> {
        let mut escaped = false;
        loop {
            self.at = plain_until(bytes, self.at);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape(bytes)?;
                }
                _ => return self.unexpected(bytes, "control character in a string"),
            }
        }
    }

    fn escape(&mut self, bytes: &[u8]) -> Scanned<()> {
        let start = self.at;
        self.at += 1;
        match bytes.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                match self.hex(bytes)? {
                    0 => fault("nul_byte", format!("\\u0000 at byte {start}")),
                    0xd800..=0xdbff => {
                        if bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                            return fault("invalid_unicode", format!("lone surrogate at byte {start}"));
                        }
                        self.at += 2;
                        match self.hex(bytes)? {
                            0xdc00..=0xdfff => Ok(()),
                            _ => fault("invalid_unicode", format!("lone surrogate at byte {start}")),
                        }
                    }
                    0xdc00..=0xdfff => fault("invalid_unicode", format!("lone surrogate at byte {start}")),
                    _ => Ok(()),
                }
            }
            _ => self.unexpected(bytes, "unknown escape"),
        }
    }

    fn hex(&mut self, bytes: &[u8]) -> Scanned<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = bytes.get(self.at).and_then(|byte| char::from(*byte).to_digit(16)) else {
                return self.unexpected(bytes, "expected four hex digits");
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self, bytes: &[u8]) -> Scanned<()> {
        let start = self.at;
        if bytes[self.at] == b'-' {
            self.at += 1;
        }
        let mut digits = match bytes.get(self.at) {
            Some(b'0') => {
                self.at += 1;
                1
            }
            _ => self.digits(bytes)?,
        };
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            digits += self.digits(bytes)?;
        }
        let mut is_scientific = false;
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            is_scientific = true;
            self.at += 1;
            if let Some(b'+' | b'-') = bytes.get(self.at) {
                self.at += 1;
            }
            digits += self.digits(bytes)?;
        }
        if digits > self.limits.number_digits {
            return fault("number_too_long", format!("number of {digits} digits at byte {start}"));
        }
        if is_scientific {
            let text = String::from_utf8_lossy(&bytes[start..self.at]);
            if !text.parse::<f64>().is_ok_and(f64::is_finite) {
                return fault("number_range", format!("{text} at byte {start} is out of range"));
            }
        }
        Ok(())
    }

    fn digits(&mut self, bytes: &[u8]) -> Scanned<usize> {
        let start = self.at;
        while bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        match self.at - start {
            0 => self.unexpected(bytes, "expected a digit"),
            count => Ok(count),
        }
    }

    #[inline]
    fn space(&mut self, bytes: &[u8]) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// Reads a key whose opening quote has been read, after `previous` in its object.
    #[inline]
    fn key(&mut self, bytes: &[u8], node: u32, previous: u32) -> Scanned<u32> {
        let guess = self.keys.guess(node, previous);
        match self.keys.recognise(guess, bytes, self.at) {
            Some(end) => {
                self.at = end;
                Ok(guess)
            }
            None => self.other_key(bytes, node, previous),
        }
    }

    fn other_key(&mut self, bytes: &[u8], node: u32, previous: u32) -> Scanned<u32> {
        let start = self.at;
        let escaped = self.string(bytes)?;
        let raw = &bytes[start..self.at - 1];
        if raw.len() > self.limits.key_bytes {
            let shown = String::from_utf8_lossy(&raw[..64]);
            return fault("key_too_long", format!("key of {} bytes: {shown}…", raw.len()));
        }
        let raw = std::str::from_utf8(raw).expect("a slice of a str between two ASCII quotes");
        if escaped {
            let mut text = String::with_capacity(raw.len());
            unescape(raw, &mut text);
            return Ok(self.keys.learn(node, previous, &text, false));
        }
        Ok(self.keys.learn(node, previous, raw, true))
    }

    /// Whether a key is new in its object. The same value again is skipped, another one is an error.
    #[inline]
    fn is_first(&mut self, bytes: &[u8], key: u32, object: u64, value: (u32, u32)) -> Scanned<bool> {
        let entry = self.keys.get_mut(key);
        if entry.object != object {
            entry.object = object;
            entry.value = value;
            return Ok(true);
        }
        let text = |(start, end): (u32, u32)| &bytes[start as usize..end as usize];
        if text(entry.value) != text(value) {
            return fault("dup_key_conflict", format!("key `{}` twice with different values", entry.text));
        }
        self.duplicates += 1;
        Ok(false)
    }

    /// Keeps what the plan wants of a member; true if it is copied as it is.
    #[inline]
    fn record_member(&mut self, node: u32, key: u32, start: u32, span: Span) -> bool {
        let entry = self.keys.get(key);
        if entry.folds_to != NONE {
            self.folded.push(key);
        }
        let mut filter = None;
        if entry.member != NONE {
            let member = &self.plan.nodes[node as usize].members[entry.member as usize];
            if let Some(slot) = member.slot {
                self.spans[slot] = Some(span);
            }
            if let Some(child) = member.node {
                self.present[child] |= span.kind == Kind::Object;
                filter = self.plan.nodes[child].drops.then_some(child as u32);
            }
            if member.taken || member.dropped {
                return false;
            }
        }
        if node != 0 || !self.plan.properties {
            return false;
        }
        match self.copied.last_mut() {
            Some(run) if self.adjoins && filter.is_none() => run.end = span.end,
            _ => self.copied.push(Copied { start, value: span.start, end: span.end, filter }),
        }
        filter.is_none()
    }

    /// Two spellings of a requested key are as bad as two values: no rule says which is meant.
    fn refuse_folded(&self) -> Scanned<()> {
        for (index, &key) in self.folded.iter().enumerate() {
            let key = self.keys.get(key);
            let member = &self.plan.nodes[0].members[key.folds_to as usize];
            if member.slot.is_some_and(|slot| self.spans[slot].is_some()) {
                return fault(
                    "dup_key_folded",
                    format!("keys `{}` and `{}` differ in case alone", member.name, key.text),
                );
            }
            let other = self.folded[..index].iter().map(|&other| self.keys.get(other));
            if let Some(other) = other.into_iter().find(|other| other.folds_to == key.folds_to) {
                return fault(
                    "dup_key_folded",
                    format!("keys `{}` and `{}` differ in case alone", other.text, key.text),
                );
            }
        }
        Ok(())
    }

    #[cold]
    fn unexpected<T>(&self, bytes: &[u8], expected: &str) -> Scanned<T> {
        let found = match bytes.get(self.at) {
            None => "the end".to_string(),
            Some(byte) if byte.is_ascii_graphic() => format!("`{}`", char::from(*byte)),
            Some(byte) => format!("byte 0x{byte:02x}"),
        };
        let at_end = self.at >= bytes.len();
        let detail = match at_end {
            true => format!("{expected}, found the end at byte {}", self.at),
            false => format!("{expected}, found {found} at byte {}", self.at),
        };
        Err(Box::new(Fault { reason: "json_syntax", detail, at_end }))
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Text | Kind::EscapedText => "a string",
            Kind::Number => "a number",
            Kind::True | Kind::False => "a boolean",
            Kind::Null => "null",
            Kind::Object => "an object",
            Kind::Array => "an array",
        }
    }
}

/// The first quote, backslash or control character at or after `at`, eight bytes at a time.
#[inline]
fn plain_until(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // the lowest set bit is exact; borrows can only set bits above it
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("a chunk of eight bytes"));
        let quote = zero(word ^ (ONES * b'"' as u64));
        let backslash = zero(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let hits = (quote | backslash | control) & HIGHS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
        at += 1;
    }
    at
}

/// Appends the text of a validated string body, its escapes resolved.
pub(super) fn unescape(body: &str, text: &mut String) {
    let mut rest = body;
    while let Some(backslash) = rest.find('\\') {
        text.push_str(&rest[..backslash]);
        let escape = rest.as_bytes()[backslash + 1];
        rest = &rest[backslash + 2..];
        text.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = hex4(rest);
                rest = &rest[4..];
                if (0xd800..0xdc00).contains(&code) {
                    code = 0x10000 + ((code - 0xd800) << 10) + (hex4(&rest[2..]) - 0xdc00);
                    rest = &rest[6..];
                }
                char::from_u32(code).expect("the scanner refuses lone surrogates")
            }
            other => char::from(other),
        });
    }
    text.push_str(rest);
}

fn hex4(text: &str) -> u32 {
    u32::from_str_radix(&text[..4], 16).expect("the scanner has seen four hex digits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::{Column, Request};

    /// Values as JSON text, with space in all places where it may be.
    fn json() -> impl Strategy<Value = String> {
        let text = prop_oneof![
            "[a-zé😀 ]{0,12}",
            Just("\\n\\u00e9\\ud83d\\ude00\\\\".to_string()),
            Just("\\\"{[,:".to_string())
        ];
        let key = prop_oneof![text.clone(), "[a-c]".prop_map(String::from), "k[0-9]{1,20}"];
        let leaf = prop_oneof![
            text.prop_map(|text| format!("\"{text}\"")),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?",
            Just("true".to_string()),
            Just("false".to_string()),
            Just("null".to_string()),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            let members = proptest::collection::vec((key.clone(), inner.clone(), "[ \t]{0,2}"), 0..5);
            prop_oneof![
                proptest::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(" ,"))),
                members.prop_map(|members| {
                    let member = |(key, value, space): &(String, String, String)| {
                        format!("{space}\"{key}\"{space}:{space}{value}{space}")
                    };
                    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// serde_json is the oracle: what it refuses is refused; what it accepts is refused only by a limit of ours.
        #[test]
        fn it_accepts_what_serde_json_accepts(
            values in proptest::collection::vec((json(), 0..200_usize, any::<Option<u8>>()), 1..6),
        ) {
            let plan = Plan::new(&Request::default()).unwrap();
            let limits = Limits::default();
            let mut scanner = Scanner::new(&plan, &limits);
            for (value, at, damage) in values {
                let mut line = format!("{{\"a\":{value}}}").into_bytes();
                if let Some(byte) = damage {
                    let at = at % line.len();
                    line[at] = byte;
                }
                let Ok(line) = String::from_utf8(line) else { continue };
                let expected = serde_json::from_str::<serde_json::Value>(&line);
                match (scanner.scan(&line), expected) {
                    (Ok(()), Ok(value)) => prop_assert!(value.is_object()),
                    (Ok(()), Err(error)) => prop_assert!(false, "{line}: accepted, but {error}"),
                    (Err(fault), Ok(_)) => prop_assert!(
                        ["dup_key_conflict", "nul_byte", "not_object", "number_too_long"].contains(&fault.reason),
                        "{line}: {fault:?}"
                    ),
                    (Err(_), Err(_)) => {}
                }
            }
        }
    }

    #[test]
    fn keys_that_are_data_do_not_fill_the_memory() {
        let plan = Plan::new(&Request { columns: vec![Column::whole("id")], ..Request::default() }).unwrap();
        let limits = Limits::default();
        let mut scanner = Scanner::new(&plan, &limits);
        for number in 0..20_000 {
            scanner.scan(&format!("{{\"id\":{number},\"k{number}\":1,\"k{number}\":1}}")).unwrap();
            assert!(scanner.span(0).is_some());
        }
        assert_eq!(scanner.duplicates(), 20_000);
    }

    #[test]
    fn strings_end_at_the_first_quote_wherever_it_lies() {
        for length in 0..40 {
            for ending in ['"', '\\', '\u{1}'] {
                let text = format!("{}{ending}\"\\", "é".repeat(length));
                assert_eq!(plain_until(text.as_bytes(), 0), 2 * length, "{length} before {ending:?}");
            }
        }
    }
}
