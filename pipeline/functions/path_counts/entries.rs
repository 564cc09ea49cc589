//! The counts of one group in an order that depends on the names of its channels alone.

use std::ops::Range;

use super::super::symbols::{END, START, Symbols};
use super::Keys;
use super::tally::{Counts, Overflow, Tally};

/// The rank of the place before the first touch; channels have the ranks from 1.
pub(in crate::functions) const RANK_OF_START: u32 = 0;
/// The rank of the place behind the last touch.
pub(in crate::functions) const RANK_OF_END: u32 = u32::MAX;

/// Keys and their counts, sorted by key. Its words are ranks: channels in the order of their names' bytes, the unknown
/// channel last.
#[derive(Debug, Default)]
pub(in crate::functions) struct Entries {
    channels: usize,
    words: Vec<u32>,
    ends: Vec<usize>,
    counts: Vec<Counts>,
}

impl Entries {
    /// The listed entries of a tally, and the number of the channel of each rank, from rank 1.
    pub(in crate::functions) fn of_group(
        keys: Keys,
        tally: &Tally,
        symbols: &Symbols,
        listed: &[u32],
        ranks: &mut Ranks,
    ) -> (Self, Vec<u32>) {
        let channels = ranks.rank(tally, symbols, listed);
        let mut words = Vec::new();
        let mut spans = Vec::with_capacity(listed.len());
        for entry in listed {
            let start = words.len();
            words.extend(tally.key(*entry as usize).iter().map(|word| ranks.of[*word as usize]));
            keys.normalise(&mut words[start..]);
            spans.push((start..words.len(), tally.counts(*entry as usize)));
        }
        spans.sort_unstable_by(|left, right| words[left.0.clone()].cmp(&words[right.0.clone()]));
        ranks.forget(&channels);
        let mut sorted = Self { channels: channels.len(), words: Vec::with_capacity(words.len()), ..Self::default() };
        for (span, counts) in spans {
            sorted.words.extend_from_slice(&words[span]);
            sorted.ends.push(sorted.words.len());
            sorted.counts.push(counts);
        }
        (sorted, channels)
    }

    /// Bytes that it takes to make those of a group of so many keys and words.
    pub(in crate::functions) fn size(keys: usize, words: usize) -> usize {
        let spans = size_of::<(Range<usize>, Counts)>();
        keys * (spans + size_of::<usize>() + size_of::<Counts>()) + 2 * words * size_of::<u32>()
    }

    /// The number of channels.
    pub(in crate::functions) fn channels(&self) -> usize {
        self.channels
    }

    /// The number of keys.
    pub(in crate::functions) fn len(&self) -> usize {
        self.counts.len()
    }

    /// The key at a position.
    pub(in crate::functions) fn key(&self, position: usize) -> &[u32] {
        let start = if position == 0 { 0 } else { self.ends[position - 1] };
        &self.words[start..self.ends[position]]
    }

    /// The counts at a position.
    pub(in crate::functions) fn counts(&self, position: usize) -> Counts {
        self.counts[position]
    }

    /// The sum of the counts of the windows that end a path: those of all journeys.
    pub(in crate::functions) fn ends(&self) -> Result<Counts, Overflow> {
        let is_end = |key: &[u32]| key.last() == Some(&RANK_OF_END);
        Counts::sum(self.iter().filter(|(key, _)| is_end(key)).map(|(_, counts)| counts))
    }

    /// Keys and counts, by key.
    pub(in crate::functions) fn iter(&self) -> impl Iterator<Item = (&[u32], Counts)> {
        (0..self.len()).map(|position| (self.key(position), self.counts(position)))
    }
}

/// The rank of each number in the group in hand; one table for all groups, so that a group costs what it holds.
#[derive(Debug, Default)]
pub(in crate::functions) struct Ranks {
    of: Vec<u32>,
}

/// The rank of a number that the group does not use, or not yet. No word is mapped to it.
const NO_RANK: u32 = RANK_OF_START;

impl Ranks {
    /// Ranks the channels of the listed keys, and returns the number of the channel of each rank, from rank 1.
    fn rank(&mut self, tally: &Tally, symbols: &Symbols, listed: &[u32]) -> Vec<u32> {
        self.of.resize(symbols.end() as usize, NO_RANK);
        (self.of[START as usize], self.of[END as usize]) = (RANK_OF_START, RANK_OF_END);
        let mut channels = Vec::new();
        for word in listed.iter().flat_map(|entry| tally.key(*entry as usize)) {
            if *word != START && self.of[*word as usize] == NO_RANK {
                // Any other rank does until all channels are known.
                self.of[*word as usize] = RANK_OF_END;
                channels.push(*word);
            }
        }
        channels.sort_unstable_by_key(|channel| {
            let text = symbols.text(*channel);
            (text.is_none(), text)
        });
        for (position, channel) in channels.iter().enumerate() {
            self.of[*channel as usize] = position as u32 + 1;
        }
        channels
    }

    /// Makes the table as it was before the group of these channels.
    fn forget(&mut self, channels: &[u32]) {
        channels.iter().for_each(|channel| self.of[*channel as usize] = NO_RANK);
    }
}
