//! How often each path of a group was taken.
//!
//! A path of up to eight touchpoints with small numbers is packed into 16 bytes and lies in its entry, so that a path is
//! counted with two looks into memory; others are written down aside and known by their place there. Paths are counted
//! some hundred at a time, so that one look need not wait for another. Many paths lie in parts, of which each grows by
//! itself: no table is ever moved whole.

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
    pub(super) fn add(&mut self, other: Counts) {
        self.journeys += other.journeys;
        self.longer += other.longer;
        self.converted += other.converted;
    }
}

/// A path as one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(pub [u64; 2]);

const BITS: usize = 16;
const PACKED: usize = 128 / BITS;
/// Numbers from here on are not packed, so that no packed path looks like one that lies aside.
const FIRST_LARGE: u32 = 1 << (BITS - 1);
/// The second half of the key of a path that lies aside.
const ASIDE: u64 = u64::MAX;

impl Key {
    /// A path of numbers above 0; `None` for one that is too long, or has too large a number.
    #[inline]
    pub(super) fn packed(path: impl ExactSizeIterator<Item = u32>) -> Option<Self> {
        if path.len() > PACKED {
            return None;
        }
        let mut halves = [0; 2];
        let mut all = 0;
        for (place, number) in path.enumerate() {
            halves[place * BITS / 64] |= u64::from(number) << (place * BITS % 64);
            all |= number;
        }
        (all < FIRST_LARGE).then_some(Self(halves))
    }

    /// A path that lies aside, known by a number there.
    pub(super) fn aside(number: u64) -> Self {
        Self([number, ASIDE])
    }

    /// The number of a path that lies aside.
    pub(super) fn as_aside(self) -> Option<u64> {
        (self.0[1] == ASIDE).then_some(self.0[0])
    }

    /// The numbers of a packed path.
    #[inline]
    pub(super) fn numbers(self) -> impl Iterator<Item = u32> {
        let both = u128::from(self.0[0]) | u128::from(self.0[1]) << 64;
        let places = (0..PACKED).map(move |place| (both >> (place * BITS)) as u32 & (FIRST_LARGE * 2 - 1));
        places.take_while(|number| *number > 0)
    }
}

/// A path of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub key: Key,
    pub counts: Counts,
    pub group: u32,
}

/// Paths that are counted at a time.
const TOGETHER: usize = 256;
/// Parts of many paths.
const PARTS: usize = 64;
/// Paths that lie in one part.
const FEW: usize = 4096;

/// Paths of groups. Touchpoints are numbers above 0.
#[derive(Debug)]
pub(super) struct Tally {
    /// One, or [`PARTS`] by the hash.
    parts: Vec<HashTable<Entry>>,
    aside: Aside,
    /// What [`Self::settle`] is to count.
    met: Vec<Entry>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { parts: vec![HashTable::new()], aside: Aside::default(), met: Vec::new() }
    }
}

fn hash(value: impl std::hash::Hash) -> u64 {
    foldhash::fast::FixedState::default().hash_one(value)
}

#[inline]
fn hash_of(key: Key, group: u32) -> u64 {
    let Key([first, second]) = key;
    hash((first, second, group))
}

/// The part of a hash; tables use its lowest and highest bits.
#[inline]
fn part_of(hash: u64, parts: usize) -> usize {
    (hash >> 40) as usize & (parts - 1)
}

impl Tally {
    /// Counts a path, at the latest when asked to [`Self::settle`].
    #[inline]
    pub(super) fn add(&mut self, group: u32, path: impl ExactSizeIterator<Item = u32> + Clone, counts: Counts) {
        let key = Key::packed(path.clone()).unwrap_or_else(|| self.aside.key(path));
        self.met.push(Entry { key, counts, group });
        if self.met.len() == TOGETHER {
            self.count_met();
        }
    }

    /// Counts all paths that were added.
    pub(super) fn settle(&mut self) {
        self.count_met();
        self.met = Vec::new();
    }

    fn count_met(&mut self) {
        let Self { parts, met, .. } = self;
        let count = parts.len();
        for entry in met.drain(..) {
            let hashed = hash_of(entry.key, entry.group);
            let is_same = |other: &Entry| other.key == entry.key && other.group == entry.group;
            let part = &mut parts[part_of(hashed, count)];
            match part.entry(hashed, is_same, |entry| hash_of(entry.key, entry.group)) {
                hashbrown::hash_table::Entry::Occupied(mut known) => known.get_mut().counts.add(entry.counts),
                hashbrown::hash_table::Entry::Vacant(vacant) => {
                    vacant.insert(entry);
                }
            }
        }
        if count == 1 && parts[0].len() > FEW {
            let all = std::mem::take(&mut parts[0]);
            parts.resize_with(PARTS, HashTable::new);
            for entry in all {
                let hashed = hash_of(entry.key, entry.group);
                let hash_of = |entry: &Entry| hash_of(entry.key, entry.group);
                parts[part_of(hashed, PARTS)].insert_unique(hashed, entry, hash_of);
            }
        }
    }

    /// What is counted of a path, to be changed; `None` if it was not counted.
    #[inline]
    pub(super) fn counts_mut(
        &mut self,
        group: u32,
        path: impl ExactSizeIterator<Item = u32> + Clone,
    ) -> Option<&mut Counts> {
        let key = Key::packed(path.clone()).or_else(|| self.aside.find(path))?;
        let hashed = hash_of(key, group);
        let count = self.parts.len();
        let part = &mut self.parts[part_of(hashed, count)];
        part.find_mut(hashed, |entry| entry.key == key && entry.group == group).map(|entry| &mut entry.counts)
    }

    /// Appends the touchpoints of a path to `numbers`.
    pub(super) fn path(&self, entry: &Entry, numbers: &mut Vec<u32>) {
        match entry.key.as_aside() {
            Some(place) => numbers.extend_from_slice(self.aside.path(place as usize)),
            None => numbers.extend(entry.key.numbers()),
        }
    }

    /// The entries of each of the first `groups` groups, and where each group ends.
    pub(super) fn by_group(&self, groups: usize) -> (Vec<&Entry>, Vec<usize>) {
        let mut entries: Vec<&Entry> = Vec::with_capacity(self.parts.iter().map(HashTable::len).sum());
        entries.extend(self.entries().filter(|entry| (entry.group as usize) < groups));
        if groups > 1 {
            entries.sort_by_key(|entry| entry.group);
        }
        let ends = (0..groups).map(|group| entries.partition_point(|entry| entry.group as usize <= group)).collect();
        (entries, ends)
    }

    /// The entries of the groups from `groups` on.
    pub(super) fn behind(&self, groups: usize) -> impl Iterator<Item = &Entry> {
        self.entries().filter(move |entry| entry.group as usize >= groups)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.parts.iter().flatten()
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let parts: usize = self.parts.iter().map(HashTable::allocation_size).sum();
        let tables = self.parts.capacity() * size_of::<HashTable<Entry>>();
        parts + tables + self.met.capacity() * size_of::<Entry>() + self.aside.size()
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

    /// The key of a path that is here.
    fn find(&mut self, path: impl Iterator<Item = u32>) -> Option<Key> {
        let start = self.numbers.len();
        self.numbers.extend(path);
        let hashed = hash(&self.numbers[start..]);
        let known = self.index.find(hashed, |place| self.path(*place as usize) == &self.numbers[start..]).copied();
        self.numbers.truncate(start);
        known.map(|place| Key::aside(u64::from(place)))
    }

    /// The key of a path, a new one if the path is new.
    fn key(&mut self, path: impl Iterator<Item = u32> + Clone) -> Key {
        if let Some(known) = self.find(path.clone()) {
            return known;
        }
        let start = self.numbers.len();
        self.numbers.extend(path);
        let hashed = hash(&self.numbers[start..]);
        let place = self.ends.len() as u32;
        self.ends.push(self.numbers.len());
        let (numbers, ends) = (&self.numbers, &self.ends);
        let hash_of = |place: &u32| {
            let start = if *place == 0 { 0 } else { ends[*place as usize - 1] };
            hash(&numbers[start..ends[*place as usize]])
        };
        self.index.insert_unique(hashed, place, hash_of);
        Key::aside(u64::from(place))
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
            tally.settle();
            for ((group, path), counts) in &expected {
                prop_assert_eq!(tally.counts_mut(*group, path.iter().copied()).copied(), Some(*counts));
                prop_assert_eq!(tally.counts_mut(7, path.iter().copied()), None);
            }
            let (entries, ends) = tally.by_group(3);
            prop_assert_eq!(entries.len(), expected.len());
            let mut found = BTreeMap::new();
            for entry in entries.iter().copied() {
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

    #[test]
    fn many_paths_lie_in_parts() {
        let mut tally = Tally::default();
        let path = |number: u32| [number % 100 + 1, number / 100 + 1].into_iter();
        let counts = Counts { journeys: 1, longer: 0, converted: 0 };
        for round in 0..2 {
            (0..9_000).for_each(|number| tally.add(number % 2, path(number), counts));
            tally.settle();
            assert_eq!(tally.parts.len(), PARTS);
            let (entries, ends) = tally.by_group(2);
            assert_eq!(ends, [4_500, 9_000]);
            assert!(entries.iter().all(|entry| entry.counts.journeys == round + 1));
        }
    }
}
