//! A strict JSON scanner: one pass over a record validates it and finds the members that are read.
//!
//! - strict: RFC 8259 and nothing more; no trailing data, no control characters in strings, no lone surrogates, and
//!   no NUL in either form; depth, keys, key length and digits are limited, numbers must be finite
//! - duplicates: seen in every object at any depth. The same value twice is kept once and counted; different values
//!   refuse the record, for there is no right one. So do two spellings of a requested key that differ in case alone
//! - speed: keys repeat from record to record, so each key remembers which one followed it last time, and is then
//!   recognised by one comparison instead of being scanned, hashed and looked up
//! - memory: the spans of one record, and up to [`REMEMBERED_KEYS`] keys; recursion ends at the depth limit
//!
//! Input is UTF-8 by its type. Nothing is copied: results are spans of the line, read by [`Scanner::span`].

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::limits::Limits;
use super::plan::Plan;

/// Keys remembered before the memory starts anew, so that keys that are really data (ids as keys) cannot fill it.
const REMEMBERED_KEYS: usize = 4_096;
const NONE: u32 = u32::MAX;

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

/// A member that goes to `properties`: from its key's quote to its value's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub start: u32,
    pub value: u32,
    pub end: u32,
    /// The node of the plan by which its value is filtered, if something in it is dropped.
    pub filter: Option<u32>,
}

/// A key seen in an object of a node.
struct Key {
    node: u32,
    text: Box<str>,
    /// It is written without escapes, so that comparing bytes recognises it.
    plain: bool,
    /// The key that followed this one last time.
    next: u32,
    /// Index in the plan's node, if the plan names it.
    member: u32,
    /// The node of its value, if it is an object.
    child: u32,
    /// The root's requested member that equals this key but for case.
    folds_to: u32,
    /// The object in which it was last seen, and its value there.
    object: u64,
    value: (u32, u32),
}

/// Scans records one after the other; the results of the last one stay until the next.
pub(super) struct Scanner<'p> {
    plan: &'p Plan,
    limits: &'p Limits,
    at: usize,
    objects: u64,
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    keys: Vec<Key>,
    /// The first key of each node's last object.
    first: Vec<u32>,
    spans: Vec<Option<Span>>,
    present: Vec<bool>,
    copied: Vec<Copied>,
    folded: Vec<u32>,
    duplicates: u64,
}

#[cold]
fn fault<T>(reason: &'static str, detail: impl Into<String>) -> Scanned<T> {
    Err(Box::new(Fault { reason, detail: detail.into(), at_end: false }))
}

impl<'p> Scanner<'p> {
    pub fn new(plan: &'p Plan, limits: &'p Limits) -> Self {
        let mut scanner = Self {
            plan,
            limits,
            at: 0,
            objects: 0,
            hasher: DefaultHashBuilder::default(),
            table: HashTable::new(),
            keys: Vec::new(),
            first: Vec::new(),
            spans: vec![None; plan.slots],
            present: vec![false; plan.nodes.len()],
            copied: Vec::new(),
            folded: Vec::new(),
            duplicates: 0,
        };
        scanner.forget_keys();
        scanner
    }

    /// Validates one record and finds its members.
    pub fn scan(&mut self, line: &str) -> Result<(), Box<Fault>> {
        if self.keys.len() > REMEMBERED_KEYS {
            self.forget_keys();
        }
        self.at = 0;
        self.spans.fill(None);
        self.present.fill(false);
        self.copied.clear();
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
            let kind = self.value(bytes, self.generic(1), 1)?;
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
            let kind = self.value(bytes, self.keys[key as usize].child, depth)?;
            let (start, value, end) = (start as u32, value as u32, self.at as u32);
            if self.is_first(bytes, key, object, (value, end))? {
                self.record_member(node, key, start, Span { start: value, end, kind });
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
        let node = self.generic(depth + 1);
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
        let guess = match previous {
            NONE => self.first[node as usize],
            previous => self.keys[previous as usize].next,
        };
        if let Some(key) = self.keys.get(guess as usize) {
            let end = self.at + key.text.len();
            if key.plain && bytes.get(end) == Some(&b'"') && &bytes[self.at..end] == key.text.as_bytes() {
                self.at = end + 1;
                return Ok(guess);
            }
        }
        let key = self.unexpected_key(bytes, node)?;
        match previous {
            NONE => self.first[node as usize] = key,
            previous => self.keys[previous as usize].next = key,
        }
        Ok(key)
    }

    fn unexpected_key(&mut self, bytes: &[u8], node: u32) -> Scanned<u32> {
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
            return Ok(self.remember(node, &text, false));
        }
        Ok(self.remember(node, raw, true))
    }

    /// The entry of a key; a new one if it was never seen in this node.
    fn remember(&mut self, node: u32, text: &str, plain: bool) -> u32 {
        let hash = self.hasher.hash_one((node, text));
        let keys = &self.keys;
        let is_same = |key: &u32| keys[*key as usize].node == node && *keys[*key as usize].text == *text;
        if let Some(&found) = self.table.find(hash, is_same) {
            self.keys[found as usize].plain |= plain;
            return found;
        }
        let members = self.plan.nodes.get(node as usize).map_or(&[][..], |node| &node.members);
        let member = members.iter().position(|member| member.name == text);
        let folds_to = match (node, member) {
            (0, None) => {
                let folded = text.to_lowercase();
                members.iter().position(|member| member.slot.is_some() && member.name.to_lowercase() == folded)
            }
            _ => None,
        };
        let child = member.and_then(|member| members[member].node).map_or_else(|| self.child(node), |node| node as u32);
        let as_index = |found: Option<usize>| found.map_or(NONE, |index| index as u32);
        let index = self.keys.len() as u32;
        self.keys.push(Key {
            node,
            text: text.into(),
            plain,
            next: NONE,
            member: as_index(member),
            child,
            folds_to: as_index(folds_to),
            object: 0,
            value: (0, 0),
        });
        let (hasher, keys) = (&self.hasher, &self.keys);
        self.table.insert_unique(hash, index, |key| {
            let key = &keys[*key as usize];
            hasher.hash_one((key.node, &*key.text))
        });
        index
    }

    /// Objects that the plan does not know share one node per depth: at one depth, an object ends before the next
    /// begins, so that a key's last object tells whether it is a duplicate.
    fn generic(&self, depth: usize) -> u32 {
        (self.plan.nodes.len() + depth) as u32
    }

    /// The node of an object below another that the plan does not name.
    fn child(&self, parent: u32) -> u32 {
        let known = self.plan.nodes.len() as u32;
        match parent.checked_sub(known) {
            Some(depth) => self.generic(depth as usize + 1),
            // below a node of the plan; these lie at fixed depths, and so do their other objects
            None => self.generic(self.depth_of(parent as usize) + 1),
        }
    }

    fn depth_of(&self, node: usize) -> usize {
        let parent = self.plan.nodes.iter().position(|other| other.members.iter().any(|m| m.node == Some(node)));
        parent.map_or(1, |parent| self.depth_of(parent) + 1)
    }

    fn forget_keys(&mut self) {
        self.table.clear();
        self.keys.clear();
        self.first.clear();
        self.first.resize(self.plan.nodes.len() + self.limits.depth + 3, NONE);
    }

    /// Whether a key is new in its object. The same value again is skipped, another one is an error.
    #[inline]
    fn is_first(&mut self, bytes: &[u8], key: u32, object: u64, value: (u32, u32)) -> Scanned<bool> {
        let entry = &mut self.keys[key as usize];
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

    #[inline]
    fn record_member(&mut self, node: u32, key: u32, start: u32, span: Span) {
        let entry = &self.keys[key as usize];
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
                return;
            }
        }
        if node == 0 && self.plan.properties {
            self.copied.push(Copied { start, value: span.start, end: span.end, filter });
        }
    }

    /// Two spellings of a requested key are as bad as two values: no rule says which is meant.
    fn refuse_folded(&self) -> Scanned<()> {
        for (index, &key) in self.folded.iter().enumerate() {
            let key = &self.keys[key as usize];
            let member = &self.plan.nodes[0].members[key.folds_to as usize];
            if member.slot.is_some_and(|slot| self.spans[slot].is_some()) {
                return fault(
                    "dup_key_folded",
                    format!("keys `{}` and `{}` differ in case alone", member.name, key.text),
                );
            }
            let other = self.folded[..index].iter().map(|&other| &self.keys[other as usize]);
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
