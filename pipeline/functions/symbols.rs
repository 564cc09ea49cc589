//! Texts of a group of journeys as small numbers, for aggregates that keep paths: channels, touchpoints.

use hashbrown::HashTable;

/// Texts as numbers. The numbers mean nothing: they follow the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    index: HashTable<u32>,
    bytes: String,
    ends: Vec<usize>,
}

/// Before the first touch.
pub(super) const START: u32 = 0;
/// Behind the last touch.
pub(super) const END: u32 = 1;
/// Null.
pub(super) const UNKNOWN: u32 = 2;
/// The first number of a text.
const NAMED: u32 = 3;

impl Symbols {
    fn text_of<'a>(bytes: &'a str, ends: &[usize], position: usize) -> &'a str {
        let start = if position == 0 { 0 } else { ends[position - 1] };
        &bytes[start..ends[position]]
    }

    /// The number of a text, a new one if it is new.
    pub(super) fn number(&mut self, text: Option<&str>) -> u32 {
        let Some(text) = text else {
            return UNKNOWN;
        };
        let Self { index, bytes, ends } = self;
        let hash_text = |text: &str| {
            use std::hash::BuildHasher;
            foldhash::quality::FixedState::default().hash_one(text)
        };
        let found = index.find(hash_text(text), |position| Self::text_of(bytes, ends, *position as usize) == text);
        if let Some(position) = found {
            return NAMED + position;
        }
        let position = ends.len() as u32;
        bytes.push_str(text);
        ends.push(bytes.len());
        let hash_of = |position: &u32| hash_text(Self::text_of(bytes, ends, *position as usize));
        index.insert_unique(hash_of(&position), position, hash_of);
        NAMED + position
    }

    /// The text of a number; `None` for the number of null.
    pub(super) fn text(&self, number: u32) -> Option<&str> {
        Some(Self::text_of(&self.bytes, &self.ends, number.checked_sub(NAMED)? as usize))
    }

    /// The numbers of null, where it may be met, and of all texts, in the order of the texts' bytes, null last.
    pub(super) fn by_text(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (NAMED..self.end()).collect();
        numbers.sort_unstable_by_key(|number| self.text(*number));
        numbers.push(UNKNOWN);
        numbers
    }

    /// How many texts there are, null apart.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// One more than the largest number.
    pub(super) fn end(&self) -> u32 {
        NAMED + self.ends.len() as u32
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.index.allocation_size() + self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// The numbers that the texts of one group have in its state: from 0, in the order in which they come.
#[derive(Debug)]
pub(super) struct OwnNumbers {
    /// Of each number of a text; [`Self::NONE`] where it has none yet.
    own: Vec<u32>,
    used: Vec<u32>,
}

impl OwnNumbers {
    const NONE: u32 = u32::MAX;

    /// For texts of these numbers, of no group yet.
    pub(super) fn of(symbols: &Symbols) -> Self {
        Self { own: vec![Self::NONE; symbols.end() as usize], used: Vec::new() }
    }

    /// The number in the group's state.
    #[inline]
    pub(super) fn number(&mut self, symbol: u32) -> u32 {
        let own = &mut self.own[symbol as usize];
        if *own == Self::NONE {
            *own = self.used.len() as u32;
            self.used.push(symbol);
        }
        *own
    }

    /// Ends a group: the numbers that it has used, in the order of their own.
    pub(super) fn end_group(&mut self) -> impl Iterator<Item = u32> {
        self.used.iter().for_each(|symbol| self.own[*symbol as usize] = Self::NONE);
        self.used.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_numbers_and_back() {
        let mut symbols = Symbols::default();
        let texts = [Some("web"), None, Some(""), Some("a store in the north"), Some("web")];
        let numbers = texts.map(|text| symbols.number(text));
        assert_eq!(numbers[0], numbers[4]);
        assert_eq!(numbers.map(|number| symbols.text(number)), texts);
        assert!(numbers.iter().all(|number| *number > END && *number < symbols.end()));
    }
}
