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

/// Why a record was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub reason: &'static str,
    pub detail: String,
    /// The text ended before the record did.
    pub at_end: bool,
}

/// The place behind what was read.
type Scanned = Result<usize, Box<Fault>>;

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
///
/// Inside, a place in the line is passed and returned by value: it then stays in a register.
pub(super) struct Scanner<'p> {
    plan: &'p Plan,
    limits: &'p Limits,
    keys: Keys<'p>,
    /// Objects seen, over all records.
    objects: u64,
    /// The last string had escapes.
    is_escaped: bool,
    spans: Vec<Option<Span>>,
    present: Vec<bool>,
    copied: Vec<Copied>,
    /// The record's member before this one is the last one copied.
    adjoins: bool,
    folded: Vec<u32>,
    duplicates: u64,
}

#[cold]
fn fault<T>(reason: &'static str, detail: impl Into<String>) -> Result<T, Box<Fault>> {
    Err(Box::new(Fault { reason, detail: detail.into(), at_end: false }))
}

/// The fault of a byte that the grammar does not allow here.
#[cold]
fn unexpected<T>(bytes: &[u8], at: usize, expected: &str) -> Result<T, Box<Fault>> {
    let found = match bytes.get(at) {
        None => "the end".to_string(),
        // whatever the grammar says of it, a NUL is the reason that helps
        Some(0) => return fault("nul_byte", format!("NUL byte at byte {at}")),
        Some(byte) if byte.is_ascii_graphic() => format!("`{}`", char::from(*byte)),
        Some(byte) => format!("byte 0x{byte:02x}"),
    };
    let detail = format!("{expected}, found {found} at byte {at}");
    Err(Box::new(Fault { reason: "json_syntax", detail, at_end: at >= bytes.len() }))
}

impl<'p> Scanner<'p> {
    pub fn new(plan: &'p Plan, limits: &'p Limits) -> Self {
        Self {
            plan,
            limits,
            keys: Keys::new(plan, limits),
            objects: 0,
            is_escaped: false,
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
        self.spans.fill(None);
        self.present.fill(false);
        self.copied.clear();
        self.adjoins = false;
        self.folded.clear();
        let bytes = line.as_bytes();
        let (first, at) = next(bytes, 0);
        if first != b'{' {
            let end = self.value(bytes, first, at, self.keys.node_at(1), 1)?;
            return match next(bytes, end).1 == bytes.len() {
                true => fault("not_object", format!("expected an object, found {}", self.kind(first).name())),
                false => unexpected(bytes, end, "expected an object"),
            };
        }
        let end = self.object(bytes, at + 1, 0, 1)?;
        let (byte, end) = next(bytes, end);
        if end == bytes.len() {
            self.refuse_folded()
        } else if byte == 0 {
            unexpected(bytes, end, "expected the end")
        } else {
            fault("json_trailing_data", format!("data after the object, at byte {end}"))
        }
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

    /// Reads an object whose brace has been read.
    fn object(&mut self, bytes: &[u8], at: usize, node: u32, depth: usize) -> Scanned {
        if depth > self.limits.depth {
            return fault("too_deep", format!("nested deeper than {}, at byte {at}", self.limits.depth));
        }
        self.objects += 1;
        let object = self.objects;
        let (mut byte, mut at) = next(bytes, at);
        if byte == b'}' {
            return Ok(at + 1);
        }
        let mut previous = NONE;
        let mut count = 0;
        loop {
            if byte != b'"' {
                return unexpected(bytes, at, "expected a key");
            }
            let start = at;
            let guess = self.keys.guess(node, previous);
            let (key, end) = match self.keys.recognise(guess, bytes, at + 1) {
                Some(end) => (guess, end),
                None => self.other_key(bytes, at + 1, node, previous)?,
            };
            previous = key;
            count += 1;
            if count > self.limits.keys {
                return fault("too_many_keys", format!("an object of more than {} keys", self.limits.keys));
            }
            (byte, at) = next(bytes, end);
            if byte != b':' {
                return unexpected(bytes, at, "expected `:`");
            }
            let (first, value) = next(bytes, at + 1);
            let child = self.keys.get(key).child;
            let end = self.value(bytes, first, value, child, depth)?;
            self.member(bytes, node, object, key, [start as u32, value as u32, end as u32])?;
            (byte, at) = next(bytes, end);
            match byte {
                b',' => (byte, at) = next(bytes, at + 1),
                b'}' => return Ok(at + 1),
                _ => return unexpected(bytes, at, "expected `,` or `}`"),
            }
        }
    }

    /// Reads an array whose bracket has been read.
    fn array(&mut self, bytes: &[u8], at: usize, depth: usize) -> Scanned {
        if depth > self.limits.depth {
            return fault("too_deep", format!("nested deeper than {}, at byte {at}", self.limits.depth));
        }
        let (mut byte, mut at) = next(bytes, at);
        if byte == b']' {
            return Ok(at + 1);
        }
        let node = self.keys.node_at(depth + 1);
        loop {
            let end = self.value(bytes, byte, at, node, depth)?;
            (byte, at) = next(bytes, end);
            match byte {
                b',' => (byte, at) = next(bytes, at + 1),
                b']' => return Ok(at + 1),
                _ => return unexpected(bytes, at, "expected `,` or `]`"),
            }
        }
    }

    /// Reads the value that begins with `byte`, in a container of this depth; `node` is its node if it is an object.
    #[inline(always)]
    fn value(&mut self, bytes: &[u8], byte: u8, at: usize, node: u32, depth: usize) -> Scanned {
        match byte {
            b'"' => self.string(bytes, at + 1),
            b'{' => self.object(bytes, at + 1, node, depth + 1),
            b'[' => self.array(bytes, at + 1, depth + 1),
            b'-' | b'0'..=b'9' => self.number(bytes, at),
            b't' => literal(bytes, at, b"true"),
            b'f' => literal(bytes, at, b"false"),
            b'n' => literal(bytes, at, b"null"),
            _ => unexpected(bytes, at, "expected a value"),
        }
    }

    /// Reads a string whose opening quote has been read.
    #[inline(always)]
    fn string(&mut self, bytes: &[u8], at: usize) -> Scanned {
        self.is_escaped = false;
        let at = plain_until(bytes, at);
        match bytes.get(at) {
            Some(b'"') => Ok(at + 1),
            _ => self.escaped_string(bytes, at),
        }
    }

    /// Reads the rest of a string, from its first escape.
    fn escaped_string(&mut self, bytes: &[u8], mut at: usize) -> Scanned {
        self.is_escaped = true;
        loop {
            match bytes.get(at) {
                Some(b'"') => return Ok(at + 1),
                Some(b'\\') => at = plain_until(bytes, escape(bytes, at)?),
                _ => return unexpected(bytes, at, "expected the end of a string"),
            }
        }
    }

    fn number(&self, bytes: &[u8], start: usize) -> Scanned {
        let first = start + usize::from(bytes[start] == b'-');
        let mut at = match bytes.get(first) {
            Some(b'0') => first + 1,
            _ => digits(bytes, first)?,
        };
        let mut count = at - first;
        if bytes.get(at) == Some(&b'.') {
            let end = digits(bytes, at + 1)?;
            count += end - at - 1;
            at = end;
        }
        let is_scientific = matches!(bytes.get(at), Some(b'e' | b'E'));
        if is_scientific {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let end = digits(bytes, at + 1 + sign)?;
            count += end - at - 1 - sign;
            at = end;
        }
        if count > self.limits.number_digits {
            return fault("number_too_long", format!("number of {count} digits at byte {start}"));
        }
        if is_scientific {
            let text = String::from_utf8_lossy(&bytes[start..at]);
            if !text.parse::<f64>().is_ok_and(f64::is_finite) {
                return fault("number_range", format!("{text} at byte {start} is out of range"));
            }
        }
        Ok(at)
    }

    /// Reads a key that was not expected, whose opening quote has been read: its number, and the place behind it.
    fn other_key(&mut self, bytes: &[u8], start: usize, node: u32, previous: u32) -> Result<(u32, usize), Box<Fault>> {
        let end = self.string(bytes, start)?;
        let raw = &bytes[start..end - 1];
        if raw.len() > self.limits.key_bytes {
            let shown = String::from_utf8_lossy(&raw[..64]);
            return fault("key_too_long", format!("key of {} bytes: {shown}…", raw.len()));
        }
        let raw = std::str::from_utf8(raw).expect("a slice of a str between two ASCII quotes");
        let key = match self.is_escaped {
            false => self.keys.learn(node, previous, raw, true),
            true => {
                let mut text = String::with_capacity(raw.len());
                unescape(raw, &mut text);
                self.keys.learn(node, previous, &text, false)
            }
        };
        Ok((key, end))
    }

    /// Takes note of a member: its key begins at `start`, its value at `value`, and both end at `end`.
    #[inline(always)]
    fn member(
        &mut self,
        bytes: &[u8],
        node: u32,
        object: u64,
        key: u32,
        [start, value, end]: [u32; 3],
    ) -> Result<(), Box<Fault>> {
        let entry = self.keys.get_mut(key);
        if entry.object == object {
            return self.duplicate(bytes, node, key, (value, end));
        }
        entry.object = object;
        entry.value = (value, end);
        if entry.member != NONE {
            let member = entry.member;
            self.planned_member(bytes, node, member, [start, value, end]);
        } else if node == 0 {
            let withheld = entry.withheld;
            if entry.folds_to != NONE {
                self.folded.push(key);
            }
            match withheld {
                NONE => self.copy(start, value, end, None),
                member => self.copy_member(member, [start, value, end]),
            }
        }
        Ok(())
    }

    /// A key given again: the same value is skipped, another one is an error.
    #[cold]
    fn duplicate(&mut self, bytes: &[u8], node: u32, key: u32, value: (u32, u32)) -> Result<(), Box<Fault>> {
        let text = |(start, end): (u32, u32)| &bytes[start as usize..end as usize];
        let entry = self.keys.get(key);
        if text(entry.value) != text(value) {
            return fault("dup_key_conflict", format!("key `{}` twice with different values", entry.text));
        }
        self.duplicates += 1;
        self.adjoins &= node != 0;
        Ok(())
    }

    fn planned_member(&mut self, bytes: &[u8], node: u32, index: u32, [start, value, end]: [u32; 3]) {
        let member = &self.plan.nodes[node as usize].members[index as usize];
        let byte = bytes[value as usize];
        if let Some(slot) = member.slot {
            self.spans[slot] = Some(Span { start: value, end, kind: self.kind(byte) });
        }
        if let Some(child) = member.node {
            self.present[child] |= byte == b'{';
        }
        if node == 0 {
            self.copy_member(index, [start, value, end]);
        }
    }

    /// Has a member of the record copied as the plan's member of this index is: whole, filtered or not at all.
    fn copy_member(&mut self, member: u32, [start, value, end]: [u32; 3]) {
        let member = &self.plan.nodes[0].members[member as usize];
        let filter = member.node.filter(|child| self.plan.nodes[*child].drops).map(|child| child as u32);
        match member.taken || member.dropped {
            true => self.adjoins = false,
            false => self.copy(start, value, end, filter),
        }
    }

    /// Has a member of the record copied, together with the one before it if that is copied too.
    #[inline]
    fn copy(&mut self, start: u32, value: u32, end: u32, filter: Option<u32>) {
        if !self.plan.properties {
            return;
        }
        match self.copied.last_mut() {
            Some(run) if self.adjoins && filter.is_none() => run.end = end,
            _ => self.copied.push(Copied { start, value, end, filter }),
        }
        self.adjoins = filter.is_none();
    }

    /// What the value is that has just been read and begins with this byte.
    fn kind(&self, byte: u8) -> Kind {
        match byte {
            b'"' if self.is_escaped => Kind::EscapedText,
            b'"' => Kind::Text,
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b't' => Kind::True,
            b'f' => Kind::False,
            b'n' => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// Two spellings of a requested key are as bad as two values: no rule says which is meant.
    fn refuse_folded(&self) -> Result<(), Box<Fault>> {
        for (index, &key) in self.folded.iter().enumerate() {
            let key = self.keys.get(key);
            let member = &self.plan.nodes[0].members[key.folds_to as usize];
            let is_there = member.slot.is_some_and(|slot| self.spans[slot].is_some());
            let others = self.folded[..index].iter().map(|&other| self.keys.get(other));
            let mut rivals = others.filter(|other| other.folds_to == key.folds_to).map(|other| &*other.text);
            if let Some(rival) = is_there.then_some(&*member.name).or_else(|| rivals.next()) {
                return fault("dup_key_folded", format!("keys `{rival}` and `{}` differ in case alone", key.text));
            }
        }
        Ok(())
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

/// The first byte at or after `at` that is not space, and its place; at the end, zero.
#[inline(always)]
fn next(bytes: &[u8], at: usize) -> (u8, usize) {
    match bytes.get(at) {
        Some(&byte) if byte > b' ' => (byte, at),
        _ => next_after_space(bytes, at),
    }
}

fn next_after_space(bytes: &[u8], mut at: usize) -> (u8, usize) {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    (bytes.get(at).copied().unwrap_or(0), at)
}

fn literal(bytes: &[u8], mut at: usize, word: &[u8]) -> Scanned {
    for expected in word {
        if bytes.get(at) != Some(expected) {
            return unexpected(bytes, at, "expected true, false or null");
        }
        at += 1;
    }
    Ok(at)
}

fn digits(bytes: &[u8], start: usize) -> Scanned {
    let mut at = start;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    match at == start {
        true => unexpected(bytes, at, "expected a digit"),
        false => Ok(at),
    }
}

/// Reads an escape in a string, from its backslash.
fn escape(bytes: &[u8], start: usize) -> Scanned {
    match bytes.get(start + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(start + 2),
        Some(b'u') => {
            let lone = || fault("invalid_unicode", format!("lone surrogate at byte {start}"));
            match hex(bytes, start + 2)? {
                0 => fault("nul_byte", format!("\\u0000 at byte {start}")),
                0xd800..=0xdbff if bytes.get(start + 6..start + 8) == Some(b"\\u") => match hex(bytes, start + 8)? {
                    0xdc00..=0xdfff => Ok(start + 12),
                    _ => lone(),
                },
                0xd800..=0xdfff => lone(),
                _ => Ok(start + 6),
            }
        }
        _ => unexpected(bytes, start + 1, "unknown escape"),
    }
}

fn hex(bytes: &[u8], start: usize) -> Result<u32, Box<Fault>> {
    let mut code = 0;
    for at in start..start + 4 {
        let Some(digit) = bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16)) else {
            return unexpected(bytes, at, "expected four hex digits");
        };
        code = code * 16 + digit;
    }
    Ok(code)
}

/// The first quote, backslash or control character at or after `at`, eight bytes at a time.
#[inline(always)]
pub(super) fn plain_until(bytes: &[u8], at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // bytes below `limit`; the lowest one found is exact, for borrows can only set bits above it
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let mut rest = &bytes[at..];
    while let Some((chunk, after)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*chunk);
        // a quote less its second bit is a space, the first byte that is no control character
        let quote_or_control = below(word ^ (ONES * 0x02), 0x21);
        let backslash = below(word ^ (ONES * b'\\' as u64), 0x01);
        let hits = (quote_or_control | backslash) & HIGHS;
        if hits != 0 {
            return bytes.len() - rest.len() + (hits.trailing_zeros() / 8) as usize;
        }
        rest = after;
    }
    let at = bytes.len() - rest.len();
    at + rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count()
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
