//! One event per id: of records with the same id the earliest `received_at` stays, then the smallest position; an id
//! that is landed already keeps the event that landed first.
//!
//! Ids are divided by hash among shards, which are worked on in parallel and small enough for the cache. Ids are told
//! apart by 128 bits of two hashes that are seeded anew in every process, so nobody can write ids that collide.
//! Memory: 25 bytes per record, and 32 bytes and what a hash table leaves free per distinct id.

use std::hash::BuildHasher;

use arrow::array::{Array, AsArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Shards of a batch of any size but a small one.
const SHARDS: usize = 64;
/// Records below which one shard does.
const RECORDS_OF_ONE_SHARD: usize = 16_384;

/// Ids of a batch and which of its records are duplicates.
pub struct Deduplicator {
    seeds: [foldhash::quality::RandomState; 2],
    shards: Vec<HashTable<Kept>>,
    /// For each record of each piece.
    dropped: Vec<Vec<bool>>,
}

/// Two hashes of an id.
type Id = (u64, u64);

/// The record that stays for an id.
struct Kept {
    id: Id,
    received_at: i64,
    place: Place,
}

/// A record by piece and position in it.
#[derive(Clone, Copy)]
struct Place {
    piece: u32,
    row: u32,
}

/// Ids of a piece, one shard behind the other, each in record order.
struct Scattered {
    ids: Vec<(Id, u32)>,
    ends: Vec<usize>,
}

impl Deduplicator {
    /// Finds the duplicates in the pieces of a batch, which come in record order: ids, and times at which the records
    /// were received.
    pub fn new(pieces: &[(&StringArray, &TimestampMicrosecondArray)]) -> Self {
        let seeds = std::array::from_fn(|_| foldhash::quality::RandomState::default());
        let mut dropped: Vec<Vec<bool>> = pieces.iter().map(|(ids, _)| vec![false; ids.len()]).collect();
        let records: usize = dropped.iter().map(Vec::len).sum();
        let shards = if records <= RECORDS_OF_ONE_SHARD { 1 } else { SHARDS };
        let scattered: Vec<Scattered> = pieces.par_iter().map(|(ids, _)| scatter(&seeds, ids, shards)).collect();
        let settled: Vec<(HashTable<Kept>, Vec<Place>)> =
            (0..shards).into_par_iter().map(|shard| settle(shard, &scattered, pieces)).collect();
        let mut tables = Vec::with_capacity(shards);
        for (table, duplicates) in settled {
            tables.push(table);
            duplicates.into_iter().for_each(|place| dropped[place.piece as usize][place.row as usize] = true);
        }
        Self { seeds, shards: tables, dropped }
    }

    /// Marks records whose ids are landed. `ids` is a text column of any encoding.
    pub fn drop_landed(&mut self, ids: &dyn Array) -> Result<()> {
        match ids.data_type() {
            DataType::Utf8View => ids.as_string_view().iter().flatten().for_each(|id| self.drop_id(id)),
            DataType::Utf8 => ids.as_string::<i32>().iter().flatten().for_each(|id| self.drop_id(id)),
            other => return Err(Error::internal(format!("event_id is {other}"))),
        }
        Ok(())
    }

    /// Most landed ids are not in the batch, so the second hash is made only where the first is found.
    fn drop_id(&mut self, id: &str) {
        let first = self.seeds[0].hash_one(id);
        let is_same = |kept: &Kept| kept.id.0 == first && kept.id.1 == self.seeds[1].hash_one(id);
        if let Some(kept) = self.shards[shard_of(first, self.shards.len())].find(first, is_same) {
            self.dropped[kept.place.piece as usize][kept.place.row as usize] = true;
        }
    }

    /// Whether each record of a piece is a duplicate.
    pub fn duplicates(&self, piece: usize) -> &[bool] {
        &self.dropped[piece]
    }
}

/// The shard of a hash. A table takes the place of an entry and its tag from either end of the hash.
fn shard_of(hash: u64, shards: usize) -> usize {
    (hash >> 32) as usize % shards
}

/// Hashes ids and sorts them by shard.
fn scatter(seeds: &[foldhash::quality::RandomState; 2], ids: &StringArray, shards: usize) -> Scattered {
    let hashed: Vec<Id> =
        (0..ids.len()).map(|row| (seeds[0].hash_one(ids.value(row)), seeds[1].hash_one(ids.value(row)))).collect();
    let mut ends = vec![0; shards];
    for id in &hashed {
        ends[shard_of(id.0, shards)] += 1;
    }
    let mut start = 0;
    for end in &mut ends {
        (*end, start) = (start, start + *end);
    }
    let mut ids = vec![((0, 0), 0); hashed.len()];
    for (id, row) in hashed.into_iter().zip(0..) {
        let end = &mut ends[shard_of(id.0, shards)];
        ids[*end] = (id, row);
        *end += 1;
    }
    Scattered { ids, ends }
}

impl Scattered {
    fn shard(&self, shard: usize) -> &[(Id, u32)] {
        let start = if shard == 0 { 0 } else { self.ends[shard - 1] };
        &self.ids[start..self.ends[shard]]
    }
}

/// The records that stay in a shard, and those that do not.
fn settle(
    shard: usize,
    scattered: &[Scattered],
    pieces: &[(&StringArray, &TimestampMicrosecondArray)],
) -> (HashTable<Kept>, Vec<Place>) {
    let records = scattered.iter().map(|piece| piece.shard(shard).len()).sum();
    let (mut table, mut duplicates) = (HashTable::with_capacity(records), Vec::new());
    for ((number, piece), (_, received_at)) in (0..).zip(scattered).zip(pieces) {
        for (id, row) in piece.shard(shard) {
            let place = Place { piece: number, row: *row };
            let received_at = received_at.value(*row as usize);
            match table.entry(id.0, |kept: &Kept| kept.id == *id, |kept| kept.id.0) {
                Slot::Vacant(slot) => {
                    slot.insert(Kept { id: *id, received_at, place });
                }
                Slot::Occupied(mut slot) => {
                    let kept = slot.get_mut();
                    // Records come in order, so at equal times the one that is kept stands first.
                    if received_at < kept.received_at {
                        duplicates.push(kept.place);
                        (kept.received_at, kept.place) = (received_at, place);
                    } else {
                        duplicates.push(place);
                    }
                }
            }
        }
    }
    (table, duplicates)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::HashMap;

    use proptest::prelude::*;

    fn deduplicator(pieces: &[&[(&str, i64)]]) -> Deduplicator {
        let columns: Vec<_> = pieces
            .iter()
            .map(|rows| {
                let ids = StringArray::from_iter_values(rows.iter().map(|(id, _)| id));
                (ids, TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(_, at)| *at)))
            })
            .collect();
        Deduplicator::new(&columns.iter().map(|(ids, received_at)| (ids, received_at)).collect::<Vec<_>>())
    }

    #[test]
    fn of_equal_ids_the_earliest_received_stays_then_the_first() {
        let deduplicator = deduplicator(&[&[("a", 5), ("b", 1), ("a", 3), ("c", 7)], &[("a", 3), ("b", 0), ("c", 9)]]);
        assert_eq!(deduplicator.duplicates(0), [true, true, false, false]);
        assert_eq!(deduplicator.duplicates(1), [true, false, true]);
    }

    #[test]
    fn what_is_landed_stays_whatever_comes_later() {
        let mut deduplicator = deduplicator(&[&[("a", 5), ("b", 1), ("a", 3)]]);
        deduplicator.drop_landed(&StringArray::from(vec!["a", "z"])).unwrap();
        assert_eq!(deduplicator.duplicates(0), [true, false, true]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn many_records_in_any_pieces_are_told_apart_as_one_by_one(
            seed in any::<u64>(), ids in 1u64..40_000, cuts in prop::collection::vec(0usize..40_000, 0..4),
        ) {
            let random = |number: u64| (number ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let rows: Vec<(String, i64)> = (0..40_000)
                .map(|number| (format!("event-{}", random(number) % ids), (random(number + 1_000_000) % 50) as i64))
                .collect();
            let mut stays: HashMap<&str, (i64, usize)> = HashMap::new();
            for (number, (id, at)) in rows.iter().enumerate() {
                let kept = stays.entry(id).or_insert((*at, number));
                *kept = (*kept).min((*at, number));
            }
            let expected: Vec<bool> =
                rows.iter().enumerate().map(|(number, (id, _))| stays[id.as_str()].1 != number).collect();
            let mut cuts = cuts;
            cuts.extend([0, rows.len()]);
            cuts.sort_unstable();
            let rows: Vec<(&str, i64)> = rows.iter().map(|(id, at)| (id.as_str(), *at)).collect();
            let pieces: Vec<&[(&str, i64)]> = cuts.windows(2).map(|cut| &rows[cut[0]..cut[1]]).collect();
            let deduplicator = deduplicator(&pieces);
            let found: Vec<bool> =
                (0..pieces.len()).flat_map(|piece| deduplicator.duplicates(piece).to_vec()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
