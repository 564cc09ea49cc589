//! An index from hashes to numbers of things that are kept elsewhere.

use hashbrown::HashTable;

/// A hash table of numbers: 9 bytes per slot. Growing it looks at none of the things.
#[derive(Debug, Default)]
pub(super) struct NumberIndex {
    table: HashTable<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    number: u32,
}

impl Slot {
    /// The table takes its place and its tag from opposite ends of 64 bits.
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

impl NumberIndex {
    /// The number under this hash that `is_same` accepts.
    pub(super) fn find(&self, hash: u64, is_same: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = hash as u32;
        let found = self.table.find(Slot::spread(hash), |slot| slot.hash == hash && is_same(slot.number));
        found.map(|slot| slot.number)
    }

    /// Adds a number that was not found.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let hash = hash as u32;
        self.table.insert_unique(Slot::spread(hash), Slot { hash, number }, |slot| Slot::spread(slot.hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_equal_hash_are_told_apart() {
        let mut index = NumberIndex::default();
        for number in 0..1000 {
            index.insert(u64::from(number % 10), number);
        }
        for number in 0..1000 {
            assert_eq!(index.find(u64::from(number % 10), |candidate| candidate == number), Some(number));
        }
        assert_eq!(index.find(11, |_| true), None);
    }
}
