//! One event per id: of records with the same id the earliest `received_at` stays, then the smallest position; an id
//! that is landed already keeps the event that landed first.
//!
//! Memory: 40 bytes per distinct id of the batch. Ids are told apart by 128 bits of two hashes that are seeded anew in
//! every process, so nobody can write ids that collide.

use std::hash::BuildHasher;

use arrow::array::{Array, AsArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use crate::error::{Error, Result};

/// Ids of a batch and which of its records are duplicates.
pub struct Deduplicator {
    seeds: [foldhash::quality::RandomState; 2],
    kept: HashTable<Kept>,
    dropped: Vec<bool>,
    /// Records before each batch that was added.
    first: Vec<usize>,
}

/// The record that stays for an id.
struct Kept {
    id: (u64, u64),
    received_at: i64,
    record: usize,
}

impl Deduplicator {
    /// Without records, with room for some.
    pub fn with_capacity(records: usize) -> Self {
        Self {
            seeds: std::array::from_fn(|_| foldhash::quality::RandomState::default()),
            kept: HashTable::with_capacity(records),
            dropped: Vec::with_capacity(records),
            first: Vec::new(),
        }
    }

    fn hash(&self, id: &str) -> (u64, u64) {
        (self.seeds[0].hash_one(id), self.seeds[1].hash_one(id))
    }

    /// Adds the records of a batch, in record order, by their ids and the times at which they were received.
    pub fn add(&mut self, ids: &StringArray, received_at: &TimestampMicrosecondArray) {
        self.first.push(self.dropped.len());
        for row in 0..ids.len() {
            let id = self.hash(ids.value(row));
            let received_at = received_at.value(row);
            let record = self.dropped.len();
            self.dropped.push(false);
            match self.kept.entry(id.0, |kept| kept.id == id, |kept| kept.id.0) {
                Slot::Vacant(slot) => {
                    slot.insert(Kept { id, received_at, record });
                }
                Slot::Occupied(mut slot) => {
                    let kept = slot.get_mut();
                    // Records come in order, so at equal times the one that is kept stands first.
                    if received_at < kept.received_at {
                        self.dropped[kept.record] = true;
                        (kept.received_at, kept.record) = (received_at, record);
                    } else {
                        self.dropped[record] = true;
                    }
                }
            }
        }
    }

    /// Marks records whose ids are landed. `ids` is a text column of any encoding.
    pub fn drop_landed(&mut self, ids: &dyn Array) -> Result<()> {
        let mark = |this: &mut Self, id: &str| {
            let id = this.hash(id);
            if let Some(kept) = this.kept.find(id.0, |kept| kept.id == id) {
                this.dropped[kept.record] = true;
            }
        };
        match ids.data_type() {
            DataType::Utf8View => ids.as_string_view().iter().flatten().for_each(|id| mark(self, id)),
            DataType::Utf8 => ids.as_string::<i32>().iter().flatten().for_each(|id| mark(self, id)),
            other => return Err(Error::internal(format!("event_id is {other}"))),
        }
        Ok(())
    }

    /// Whether each record of the batch that was added as number `batch` is a duplicate.
    pub fn duplicates(&self, batch: usize) -> &[bool] {
        let end = self.first.get(batch + 1).copied().unwrap_or(self.dropped.len());
        &self.dropped[self.first[batch]..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(deduplicator: &mut Deduplicator, rows: &[(&str, i64)]) {
        let ids = StringArray::from_iter_values(rows.iter().map(|(id, _)| id));
        let received_at = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(_, at)| *at));
        deduplicator.add(&ids, &received_at);
    }

    #[test]
    fn of_equal_ids_the_earliest_received_stays_then_the_first() {
        let mut deduplicator = Deduplicator::with_capacity(0);
        add(&mut deduplicator, &[("a", 5), ("b", 1), ("a", 3), ("c", 7)]);
        add(&mut deduplicator, &[("a", 3), ("b", 0), ("c", 9)]);
        assert_eq!(deduplicator.duplicates(0), [true, true, false, false]);
        assert_eq!(deduplicator.duplicates(1), [true, false, true]);
    }

    #[test]
    fn what_is_landed_stays_whatever_comes_later() {
        let mut deduplicator = Deduplicator::with_capacity(0);
        add(&mut deduplicator, &[("a", 5), ("b", 1), ("a", 3)]);
        deduplicator.drop_landed(&StringArray::from(vec!["a", "z"])).unwrap();
        assert_eq!(deduplicator.duplicates(0), [true, false, true]);
    }
}
