//! Counts by group and key, where a key is a run of small numbers: a window of a path, or the set of its channels.
//!
//! Everything is whole numbers, so a tally does not depend on the order in which it was made. Keys lie one after
//! another in one buffer; a hash table finds them by group and words.

use std::ops::Range;

use datafusion::common::{DataFusionError, exec_datafusion_err};
use hashbrown::HashTable;

use super::super::symbols::{END, START, Symbols};

/// The largest number of 38 digits, as many as a decimal holds.
const LARGEST_VALUE: u128 = 10u128.pow(38) - 1;

/// What is counted for a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::functions) struct Counts {
    /// Journeys that converted.
    pub conversions: u64,
    /// Journeys that did not.
    pub nulls: u64,
    /// The value of the conversions, as the whole number of a decimal.
    pub value: i128,
}

impl Counts {
    /// Adds counts; `None` when a sum does not fit.
    pub(in crate::functions) fn checked_add(self, other: Counts) -> Option<Counts> {
        let value = self.value.checked_add(other.value)?;
        if value.unsigned_abs() > LARGEST_VALUE {
            return None;
        }
        Some(Counts {
            conversions: self.conversions.checked_add(other.conversions)?,
            nulls: self.nulls.checked_add(other.nulls)?,
            value,
        })
    }

    /// The sum of many.
    pub(in crate::functions) fn sum(mut counts: impl Iterator<Item = Counts>) -> Result<Counts, Overflow> {
        counts.try_fold(Counts::default(), Counts::checked_add).ok_or(Overflow)
    }

    /// All journeys.
    pub(in crate::functions) fn journeys(self) -> u128 {
        u128::from(self.conversions) + u128::from(self.nulls)
    }
}

/// A sum that does not fit into its 64 bits, or 38 digits for a value.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::functions) struct Overflow;

impl Overflow {
    /// The error of a function.
    pub(in crate::functions) fn of(self, function: &str) -> DataFusionError {
        exec_datafusion_err!("{function}: counts or values add up to more than 64 bits, or 38 digits, hold")
    }
}

/// Counts by group and key.
#[derive(Debug, Default)]
pub(in crate::functions) struct Tally {
    index: HashTable<u32>,
    words: Vec<u32>,
    /// Where each key ends in `words`; it begins where the one before it ends.
    ends: Vec<usize>,
    groups: Vec<u32>,
    counts: Vec<Counts>,
    /// How many keys each group has, and the most that one has.
    keys_of: Vec<usize>,
    most_keys: usize,
    /// The words of the longest key.
    longest_key: usize,
    /// The channels of each group, a bit each, and the most that one has, while all have numbers below 64.
    channels_of: Vec<u64>,
    most_channels: usize,
    has_higher: bool,
}

/// Numbers of groups and channels follow one another, so they need little mixing: a multiplication each, and the high
/// bits, which the table compares first, brought down to the low ones, by which it chooses a place.
#[inline]
fn hash(group: u32, key: &[u32]) -> u64 {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = key
        .iter()
        .fold(u64::from(group), |mixed, word| (mixed.rotate_left(5) ^ u64::from(*word)).wrapping_mul(GOLDEN_RATIO));
    mixed ^ (mixed >> 32)
}

impl Tally {
    /// The number of entries.
    pub(in crate::functions) fn len(&self) -> usize {
        self.groups.len()
    }

    fn span(&self, entry: usize) -> Range<usize> {
        let start = if entry == 0 { 0 } else { self.ends[entry - 1] };
        start..self.ends[entry]
    }

    /// The key of an entry.
    pub(in crate::functions) fn key(&self, entry: usize) -> &[u32] {
        &self.words[self.span(entry)]
    }

    /// The counts of an entry.
    pub(in crate::functions) fn counts(&self, entry: usize) -> Counts {
        self.counts[entry]
    }

    /// Adds counts to a key of a group.
    #[inline]
    pub(in crate::functions) fn add(&mut self, group: u32, key: &[u32], counts: Counts) -> Result<(), Overflow> {
        let Self { index, words, ends, groups, counts: sums, .. } = self;
        let key_of = |entry: u32| {
            let entry = entry as usize;
            let start = if entry == 0 { 0 } else { ends[entry - 1] };
            (groups[entry], &words[start..ends[entry]])
        };
        let hash_of = |entry: &u32| {
            let (group, key) = key_of(*entry);
            hash(group, key)
        };
        let found = index.find(hash(group, key), |entry| key_of(*entry) == (group, key));
        if let Some(entry) = found {
            let sum = &mut sums[*entry as usize];
            *sum = sum.checked_add(counts).ok_or(Overflow)?;
            return Ok(());
        }
        let entry = u32::try_from(groups.len()).map_err(|_| Overflow)?;
        index.insert_unique(hash(group, key), entry, hash_of);
        words.extend_from_slice(key);
        ends.push(words.len());
        groups.push(group);
        sums.push(counts);
        self.longest_key = self.longest_key.max(key.len());
        if self.keys_of.len() <= group as usize {
            self.keys_of.resize(group as usize + 1, 0);
            self.channels_of.resize(group as usize + 1, 0);
        }
        let channels = &mut self.channels_of[group as usize];
        for channel in key.iter().filter(|word| !matches!(**word, START | END)) {
            self.has_higher |= *channel >= u64::BITS;
            *channels |= 1u64.checked_shl(*channel).unwrap_or_default();
        }
        self.most_channels = self.most_channels.max(channels.count_ones() as usize);
        let keys = &mut self.keys_of[group as usize];
        *keys += 1;
        self.most_keys = self.most_keys.max(*keys);
        Ok(())
    }

    /// The most keys that a group has.
    pub(in crate::functions) fn most_keys(&self) -> usize {
        self.most_keys
    }

    /// The most channels that a group has, the unknown one among them; at least so many, of `all` that there are.
    pub(in crate::functions) fn most_channels(&self, all: usize) -> usize {
        if self.has_higher { all } else { self.most_channels }
    }

    /// The words of the longest key.
    pub(in crate::functions) fn longest_key(&self) -> usize {
        self.longest_key
    }

    /// The entries of each of the first `groups` groups, in the order of their arrival.
    pub(in crate::functions) fn by_group(&self, groups: usize) -> (Vec<u32>, Vec<usize>) {
        let mut ends = vec![0; groups + 1];
        for group in self.groups.iter().filter(|group| (**group as usize) < groups) {
            ends[*group as usize + 1] += 1;
        }
        for group in 0..groups {
            ends[group + 1] += ends[group];
        }
        let mut next = ends.clone();
        let mut entries = vec![0; ends[groups]];
        for (entry, group) in self.groups.iter().enumerate().filter(|(_, group)| (**group as usize) < groups) {
            entries[next[*group as usize]] = entry as u32;
            next[*group as usize] += 1;
        }
        (entries, ends)
    }

    /// Forgets the first `groups` groups; the others move down by as many.
    pub(in crate::functions) fn forget(&mut self, groups: usize) {
        let kept = std::mem::take(self);
        for entry in (0..kept.len()).filter(|entry| kept.groups[*entry] as usize >= groups) {
            let group = kept.groups[entry] - groups as u32;
            self.add(group, kept.key(entry), kept.counts[entry]).expect("a sum that fitted before fits again");
        }
    }

    /// The number of words of all keys.
    pub(in crate::functions) fn word_count(&self) -> usize {
        self.words.len()
    }

    /// Gives the channels of the keys new numbers, in the order in which they come, and returns these. `normalise` brings
    /// a key into its one form again.
    pub(in crate::functions) fn renumber(&mut self, symbols: &Symbols, normalise: impl Fn(&mut [u32])) -> Symbols {
        let kept = std::mem::take(self);
        let mut renumbered = Symbols::default();
        let mut key = Vec::new();
        for entry in 0..kept.len() {
            key.clear();
            key.extend(kept.key(entry).iter().map(|word| match *word {
                START | END => *word,
                channel => renumbered.number(symbols.text(channel)),
            }));
            normalise(&mut key);
            self.add(kept.groups[entry], &key, kept.counts[entry]).expect("a sum that fitted before fits again");
        }
        renumbered
    }

    /// Bytes held.
    pub(in crate::functions) fn size(&self) -> usize {
        self.index.allocation_size()
            + self.words.capacity() * size_of::<u32>()
            + self.ends.capacity() * size_of::<usize>()
            + self.groups.capacity() * size_of::<u32>()
            + self.counts.capacity() * size_of::<Counts>()
            + self.keys_of.capacity() * size_of::<usize>()
            + self.channels_of.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(conversions: u64) -> Counts {
        Counts { conversions, nulls: 2 * conversions, value: -i128::from(conversions) }
    }

    #[test]
    fn equal_keys_of_a_group_are_counted_together() {
        let mut tally = Tally::default();
        for (group, key) in [(0, &[1, 2][..]), (1, &[1, 2]), (0, &[1, 2]), (0, &[1]), (0, &[]), (0, &[1, 2, 3])] {
            tally.add(group, key, counts(1)).unwrap();
        }
        assert_eq!((tally.len(), tally.most_keys(), tally.longest_key()), (5, 4, 3));
        assert_eq!((tally.key(0), tally.counts(0)), (&[1, 2][..], counts(2)));
        assert_eq!((tally.key(3), tally.counts(3)), (&[][..], counts(1)));
        let (entries, ends) = tally.by_group(2);
        assert_eq!((entries, ends), (vec![0, 2, 3, 4, 1], vec![0, 4, 5]));
    }

    #[test]
    fn the_channels_of_the_group_that_has_most_are_known() {
        let mut tally = Tally::default();
        for (group, key) in [(0, &[START, 2, END][..]), (0, &[2, 3]), (1, &[4]), (1, &[4, 5, 63]), (0, &[])] {
            tally.add(group, key, counts(1)).unwrap();
        }
        assert_eq!(tally.most_channels(9), 3);
        tally.forget(1);
        assert_eq!(tally.most_channels(9), 3);
        tally.forget(1);
        assert_eq!(tally.most_channels(9), 0);
        tally.add(0, &[64], counts(1)).unwrap();
        assert_eq!(tally.most_channels(9), 9);
    }

    #[test]
    fn forgotten_groups_leave_the_others_as_they_were() {
        let mut tally = Tally::default();
        for entry in 0..1000u32 {
            tally.add(entry % 5, &[entry / 10, entry % 7], counts(u64::from(entry))).unwrap();
        }
        let before = tally.by_group(5);
        let expected: Vec<_> = before.0[before.1[3]..]
            .iter()
            .map(|entry| (tally.key(*entry as usize).to_vec(), tally.counts(*entry as usize)))
            .collect();
        tally.forget(3);
        let (entries, ends) = tally.by_group(2);
        let found: Vec<_> =
            entries.iter().map(|entry| (tally.key(*entry as usize).to_vec(), tally.counts(*entry as usize))).collect();
        assert_eq!(found, expected);
        assert_eq!(ends[2], tally.len());
        assert_eq!(tally.most_keys(), ends[1].max(ends[2] - ends[1]));
        // What is left is still found by its key.
        tally.add(0, &[0, 3], counts(1)).unwrap();
        assert_eq!(tally.len(), ends[2]);
    }

    #[test]
    fn sums_that_do_not_fit_are_told() {
        let mut tally = Tally::default();
        let most = Counts { conversions: u64::MAX, nulls: 0, value: 10i128.pow(38) - 1 };
        tally.add(0, &[1], most).unwrap();
        assert_eq!(tally.add(0, &[1], Counts { conversions: 1, ..Counts::default() }), Err(Overflow));
        assert_eq!(tally.add(0, &[1], Counts { value: 1, ..Counts::default() }), Err(Overflow));
        assert_eq!(tally.add(0, &[1], Counts { value: -1, ..Counts::default() }), Ok(()));
        assert_eq!(Counts::sum([counts(1), counts(2)].into_iter()), Ok(counts(3)));
        assert_eq!(Counts::sum([most, counts(1)].into_iter()), Err(Overflow));
    }
}
