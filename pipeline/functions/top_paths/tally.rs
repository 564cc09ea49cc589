//! How often each path of a group was taken.
//!
//! A path of up to eight touchpoints with small numbers is packed into 16 bytes and lies in its entry, so that a path is
//! counted with two looks into memory; others are written down aside and known by their place there.

use std::hash::BuildHasher;

use hashbrown::HashTable;

/// What is counted of a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Journeys that took it.
    pub journeys: u64,
    /// Of these, those that go on behind it.
    pub longer: u64,
    /// Of these, those that reached a goal.
    pub converted: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.journeys += other.journeys;
        self.longer += other.longer;
        self.converted += other.converted;
    }
}

/// A path as one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key([u64; 2]);

const BITS: usize = 16;
const PACKED: usize = 128 / BITS;
/// Numbers from here on are not packed, so that no packed path looks like one that lies aside.
const FIRST_LARGE: u32 = 1 << (BITS - 1);
/// The second half of the key of a path that lies aside.
const ASIDE: u64 = u64::MAX;

/// A path of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    key: Key,
    pub counts: Counts,
    pub group: u32,
}

/// Paths of groups. Touchpoints are numbers above 0.
#[derive(Debug, Default)]
pub(super) struct Tally {
    entries: HashTable<Entry>,
    aside: Aside,
}

fn hash(value: impl std::hash::Hash) -> u64 {
    foldhash::fast::FixedState::default().hash_one(value)
}

impl Tally {
    /// Counts a path.
    #[inline]
    pub(super) fn add(&mut self, group: u32, path: impl ExactSizeIterator<Item = u32> + Clone, counts: Counts) {
        let key = match path.len() {
            0..=PACKED => Self::packed(path.clone()),
            _ => None,
        };
        let key = key.unwrap_or_else(|| self.aside.key(path));
        let hash_of = |entry: &Entry| hash((entry.key, entry.group));
        let entry = self
            .entries
            .entry(hash((key, group)), |entry| entry.key == key && entry.group == group, hash_of)
            .or_insert(Entry { key, counts: Counts::default(), group });
        entry.into_mut().counts.add(counts);
    }

    #[inline]
    fn packed(path: impl Iterator<Item = u32>) -> Option<Key> {
        let mut halves = [0; 2];
        let mut all = 0;
        for (place, number) in path.enumerate() {
            halves[place * BITS / 64] |= u64::from(number) << (place * BITS % 64);
            all |= number;
        }
        (all < FIRST_LARGE).then_some(Key(halves))
    }

    /// Appends the touchpoints of a path to `numbers`.
    pub(super) fn path(&self, entry: &Entry, numbers: &mut Vec<u32>) {
        let Key([first, second]) = entry.key;
        if second == ASIDE {
            return numbers.extend_from_slice(self.aside.path(first as usize));
        }
        let both = u128::from(first) | u128::from(second) << 64;
        let places = (0..PACKED).map(|place| (both >> (place * BITS)) as u32 & (FIRST_LARGE * 2 - 1));
        numbers.extend(places.take_while(|number| *number > 0));
    }

    /// The entries of each of the first `groups` groups, and where each group ends.
    pub(super) fn by_group(&self, groups: usize) -> (Vec<Entry>, Vec<usize>) {
        let mut entries: Vec<Entry> =
            self.entries.iter().filter(|entry| (entry.group as usize) < groups).copied().collect();
        if groups > 1 {
            entries.sort_by_key(|entry| entry.group);
        }
        let ends = (0..groups).map(|group| entries.partition_point(|entry| entry.group as usize <= group)).collect();
        (entries, ends)
    }

    /// The entries of the groups from `groups` on.
    pub(super) fn behind(&self, groups: usize) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.group as usize >= groups)
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.entries.allocation_size() + self.aside.size()
    }
}

/// Paths that are too long to pack, or pass touchpoints of too large a number.
#[derive(Debug, Default)]
struct Aside {
    index: HashTable<u32>,
    numbers: Vec<u32>,
    /// Where each path ends in `numbers`; it begins where the one before it ends.
    ends: Vec<usize>,
}

impl Aside {
    fn path(&self, place: usize) -> &[u32] {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.numbers[start..self.ends[place]]
    }

    /// The key of a path, a new one if the path is new.
    fn key(&mut self, path: impl Iterator<Item = u32>) -> Key {
        let start = self.numbers.len();
        self.numbers.extend(path);
        let hashed = hash(&self.numbers[start..]);
        let known = self.index.find(hashed, |place| self.path(*place as usize) == &self.numbers[start..]);
        if let Some(place) = known {
            let place = *place;
            self.numbers.truncate(start);
            return Key([u64::from(place), ASIDE]);
        }
        let place = self.ends.len() as u32;
        self.ends.push(self.numbers.len());
        let (numbers, ends) = (&self.numbers, &self.ends);
        let hash_of = |place: &u32| {
            let start = if *place == 0 { 0 } else { ends[*place as usize - 1] };
            hash(&numbers[start..ends[*place as usize]])
        };
        self.index.insert_unique(hashed, place, hash_of);
        Key([u64::from(place), ASIDE])
    }

    fn size(&self) -> usize {
        self.index.allocation_size()
            + self.numbers.capacity() * size_of::<u32>()
            + self.ends.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn paths_of_any_length_and_numbers_are_told_apart(
            paths in prop::collection::vec(
                (0u32..3, prop::collection::vec(prop_oneof![4 => 1u32..4, 1 => 32_766u32..32_770, 1 => 65_534u32..65_538], 1..12)),
                1..60,
            ),
        ) {
            let mut tally = Tally::default();
            let mut expected: BTreeMap<(u32, Vec<u32>), Counts> = BTreeMap::new();
            for (number, (group, path)) in paths.iter().enumerate() {
                let counts = Counts { journeys: 1, longer: number as u64 % 2, converted: number as u64 % 3 };
                tally.add(*group, path.iter().copied(), counts);
                expected.entry((*group, path.clone())).or_default().add(counts);
            }
            let (entries, ends) = tally.by_group(3);
            prop_assert_eq!(entries.len(), expected.len());
            let mut found = BTreeMap::new();
            for entry in &entries {
                let mut path = Vec::new();
                tally.path(entry, &mut path);
                found.insert((entry.group, path), entry.counts);
            }
            prop_assert_eq!(&found, &expected);
            let groups = |group: u32| expected.keys().filter(|key| key.0 <= group).count();
            prop_assert_eq!(ends, vec![groups(0), groups(1), groups(2)]);
            prop_assert_eq!(tally.behind(1).count(), entries.len() - groups(0));
        }
    }
}
