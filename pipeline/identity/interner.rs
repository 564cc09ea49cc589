//! Distinct identifiers by number: text is kept once, and the hot path compares and counts numbers.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::number_index::NumberIndex;
use crate::error::{Error, Result};
use crate::identifiers::Blocked;

/// No value is longer than this in bytes unless it is over the cap on characters (of at most four bytes each).
const MAX_BYTES: usize = 4 * crate::identifiers::MAX_CHARACTERS;

/// Kinds and values by number, in order of appearance.
///
/// Memory: the text, 32 bytes and about 14 bytes of index per distinct identifier.
#[derive(Debug, Default)]
pub(super) struct Interner {
    kinds: Vec<String>,
    nodes: Vec<Node>,
    text: Vec<u8>,
    index: NumberIndex,
    /// The last node of each kind: in data sorted by customer most values come again at once.
    recent: Vec<u32>,
    hasher: DefaultHashBuilder,
}

/// A distinct identifier.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) value: Span,
    pub(super) first_seen: i64,
    pub(super) last_seen: i64,
    pub(super) kind: u16,
    pub(super) is_usable: bool,
}

/// Where a value lies in the text: its start above 16 bits, its length in them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(u64);

impl Span {
    fn new(start: usize, length: usize) -> Self {
        debug_assert!(length <= MAX_BYTES);
        Self((start as u64) << 16 | length as u64)
    }

    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        let start = (self.0 >> 16) as usize;
        &text[start..start + (self.0 & 0xffff) as usize]
    }
}

/// A value as the text that it was.
pub(super) fn text_of(value: Span, text: &[u8]) -> &str {
    std::str::from_utf8(value.of(text)).expect("values were text when they came")
}

impl Interner {
    /// The node of an identifier seen at `time`, or `None` when it is blocked. The verdict is asked for once per
    /// distinct identifier.
    pub(super) fn node(&mut self, kind: &str, value: &str, time: i64, blocked: &Blocked) -> Result<Option<u32>> {
        if value.len() > MAX_BYTES {
            return Ok(None);
        }
        let kind_id = self.kind(kind)?;
        let node = match self.recent[usize::from(kind_id)] {
            recent if self.is(recent, kind_id, value) => recent,
            _ => self.find_or_insert(kind_id, value, time, |kind| blocked.is_usable(kind, value))?,
        };
        self.recent[usize::from(kind_id)] = node;
        let seen = &mut self.nodes[node as usize];
        seen.first_seen = seen.first_seen.min(time);
        seen.last_seen = seen.last_seen.max(time);
        Ok(seen.is_usable.then_some(node))
    }

    /// Distinct identifiers, usable or not.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Kind and value of each usable identifier.
    pub(super) fn usable(&self) -> impl Iterator<Item = (&str, &str)> {
        let usable = self.nodes.iter().filter(|node| node.is_usable);
        usable.map(|node| (self.kinds[usize::from(node.kind)].as_str(), text_of(node.value, &self.text)))
    }

    /// Adds the nodes of another interner; returns the number here of each of them.
    pub(super) fn merge(&mut self, other: Self) -> Result<Vec<u32>> {
        let kinds: Vec<u16> = other.kinds.iter().map(|kind| self.kind(kind)).collect::<Result<_>>()?;
        let mut numbers = Vec::with_capacity(other.nodes.len());
        for node in &other.nodes {
            let (kind, value) = (kinds[usize::from(node.kind)], text_of(node.value, &other.text));
            let number = self.find_or_insert(kind, value, node.first_seen, |_| node.is_usable)?;
            let seen = &mut self.nodes[number as usize];
            seen.first_seen = seen.first_seen.min(node.first_seen);
            seen.last_seen = seen.last_seen.max(node.last_seen);
            numbers.push(number);
        }
        Ok(numbers)
    }

    /// Kinds, nodes and text; the index goes.
    pub(super) fn into_parts(self) -> (Vec<String>, Vec<Node>, Vec<u8>) {
        (self.kinds, self.nodes, self.text)
    }

    /// The number of a kind; there are few, so they are compared one by one.
    fn kind(&mut self, kind: &str) -> Result<u16> {
        let position = match self.kinds.iter().position(|known| known == kind) {
            Some(position) => position,
            None => {
                self.kinds.push(kind.to_string());
                self.recent.push(u32::MAX);
                self.kinds.len() - 1
            }
        };
        u16::try_from(position).map_err(|_| Error::invalid("more than 65536 kinds of identifiers"))
    }

    /// The node of an identifier; `is_usable` is asked about its kind if it is new.
    fn find_or_insert(
        &mut self,
        kind: u16,
        value: &str,
        time: i64,
        is_usable: impl FnOnce(&str) -> bool,
    ) -> Result<u32> {
        let hash = self.hasher.hash_one((kind, value));
        if let Some(node) = self.index.find(hash, |node| self.is(node, kind, value)) {
            return Ok(node);
        }
        let node = u32::try_from(self.nodes.len())
            .ok()
            .filter(|node| *node != u32::MAX)
            .ok_or_else(|| Error::invalid("more than 4294967295 distinct identifiers"))?;
        let span = Span::new(self.text.len(), value.len());
        self.text.extend_from_slice(value.as_bytes());
        let is_usable = is_usable(&self.kinds[usize::from(kind)]);
        self.nodes.push(Node { value: span, first_seen: time, last_seen: time, kind, is_usable });
        self.index.insert(hash, node);
        Ok(node)
    }

    fn is(&self, node: u32, kind: u16, value: &str) -> bool {
        let known = self.nodes.get(node as usize);
        known.is_some_and(|known| known.kind == kind && known.value.of(&self.text) == value.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_one_number_however_often_it_comes() {
        let (mut interner, blocked) = (Interner::default(), Blocked::default());
        let mut node = |kind, value, time| interner.node(kind, value, time, &blocked).unwrap();
        assert_eq!(node("email", "ann@example.com", 5), Some(0));
        assert_eq!(node("user_id", "ann@example.com", 6), Some(1));
        assert_eq!(node("email", "bob@example.com", 7), Some(2));
        assert_eq!(node("email", "ann@example.com", 2), Some(0));
        assert_eq!(node("email", "ann@example.com", 9), Some(0));
        let ann = interner.nodes[0];
        assert_eq!((ann.first_seen, ann.last_seen, ann.value.of(&interner.text)), (2, 9, &b"ann@example.com"[..]));
    }

    #[test]
    fn blocked_and_endless_values_have_no_number() {
        let (mut interner, blocked) = (Interner::default(), Blocked::default());
        for value in ["null", "", &"ab".repeat(600), &"ab".repeat(100_000)] {
            assert_eq!(interner.node("user_id", value, 0, &blocked).unwrap(), None);
        }
        assert!(interner.text.len() < 2 * MAX_BYTES);
    }

    #[test]
    fn a_hundred_thousand_identifiers_are_found_again() {
        let (mut interner, blocked) = (Interner::default(), Blocked::default());
        for round in 0..2 {
            for number in 0..100_000 {
                let node = interner.node("user_id", &format!("user-{number}"), round, &blocked).unwrap();
                assert_eq!(node, Some(number));
            }
        }
    }
}
