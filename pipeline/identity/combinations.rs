//! Distinct sets of identifiers seen on one event, and the pairs in them.

use std::hash::BuildHasher;
use std::mem;

use hashbrown::DefaultHashBuilder;
use rayon::prelude::*;

use super::number_index::NumberIndex;
use super::resolve::Link;
use crate::error::{Error, Result};

/// Pairs held before equal ones are merged for the first time.
const PAIRS_BEFORE_MERGE: usize = 1 << 22;

/// Sets of two or more identifiers, in order of appearance.
#[derive(Debug, Default)]
pub(super) struct Combinations {
    /// Members of all entries, one entry behind the other.
    members: Vec<u32>,
    entries: Vec<Entry>,
    index: NumberIndex,
    /// The entry of the last event: in data sorted by customer the next event often has the same.
    recent: usize,
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Entry {
    /// Start of its members; they end where those of the next entry start.
    start: usize,
    first_seen: i64,
    last_seen: i64,
    event_count: u64,
}

impl Combinations {
    /// Counts an event with these identifiers, ascending and distinct.
    pub(super) fn add(&mut self, identifiers: &[u32], time: i64) -> Result<()> {
        if self.entries.is_empty() || self.members_of(self.recent) != identifiers {
            self.recent = self.find_or_insert(identifiers, time)?;
        }
        self.entries[self.recent].see(time, time, 1);
        Ok(())
    }

    /// Counts events between two times with these identifiers, ascending and distinct.
    pub(super) fn add_seen(&mut self, identifiers: &[u32], first: i64, last: i64, events: u64) -> Result<()> {
        let entry = self.find_or_insert(identifiers, first)?;
        self.entries[entry].see(first, last, events);
        Ok(())
    }

    /// Adds the sets of another collection, under new numbers for the identifiers.
    pub(super) fn merge(&mut self, other: Self, numbers: &[u32]) -> Result<()> {
        let mut members = Vec::new();
        for (position, seen) in other.entries.iter().enumerate() {
            members.clear();
            members.extend(other.members_of(position).iter().map(|member| numbers[*member as usize]));
            members.sort_unstable();
            self.add_seen(&members, seen.first_seen, seen.last_seen, seen.event_count)?;
        }
        Ok(())
    }

    fn find_or_insert(&mut self, identifiers: &[u32], time: i64) -> Result<usize> {
        let hash = self.hasher.hash_one(identifiers);
        if let Some(entry) = self.index.find(hash, |entry| self.members_of(entry as usize) == identifiers) {
            return Ok(entry as usize);
        }
        let entry = self.entries.len();
        let number = u32::try_from(entry)
            .map_err(|_| Error::invalid("more than 4294967296 distinct combinations of identifiers"))?;
        let start = self.members.len();
        self.members.extend_from_slice(identifiers);
        self.entries.push(Entry { start, first_seen: time, last_seen: time, event_count: 0 });
        self.index.insert(hash, number);
        Ok(entry)
    }

    fn members_of(&self, entry: usize) -> &[u32] {
        let end = self.entries.get(entry + 1).map_or(self.members.len(), |next| next.start);
        &self.members[self.entries[entry].start..end]
    }

    /// The distinct pairs, under new numbers for the identifiers, in order. Holds at most twice as many pairs as there
    /// are distinct ones, but four million at least.
    pub(super) fn into_links(mut self, numbers: &[u32]) -> Vec<Link> {
        drop(mem::take(&mut self.index));
        let mut links = Vec::new();
        let mut merge_at = PAIRS_BEFORE_MERGE;
        for (position, entry) in self.entries.iter().enumerate() {
            let members = self.members_of(position);
            for (others, a) in members.iter().enumerate().map(|(index, member)| (&members[index + 1..], member)) {
                links.extend(others.iter().map(|b| entry.link(numbers[*a as usize], numbers[*b as usize])));
            }
            if links.len() >= merge_at {
                merge(&mut links);
                merge_at = PAIRS_BEFORE_MERGE.max(2 * links.len());
            }
        }
        merge(&mut links);
        links
    }
}

impl Entry {
    fn see(&mut self, first: i64, last: i64, events: u64) {
        self.first_seen = self.first_seen.min(first);
        self.last_seen = self.last_seen.max(last);
        self.event_count += events;
    }

    fn link(&self, a: u32, b: u32) -> Link {
        Link {
            a: a.min(b),
            b: a.max(b),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            event_count: self.event_count,
        }
    }
}

/// Sorts links and makes equal pairs one.
fn merge(links: &mut Vec<Link>) {
    links.par_sort_unstable_by_key(|link| (link.a, link.b));
    links.dedup_by(|link, kept| {
        let is_same = (link.a, link.b) == (kept.a, kept.b);
        if is_same {
            kept.first_seen = kept.first_seen.min(link.first_seen);
            kept.last_seen = kept.last_seen.max(link.last_seen);
            kept.event_count += link.event_count;
        }
        is_same
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_overlapping_combinations_are_counted_once_per_event() {
        let mut combinations = Combinations::default();
        for (identifiers, time) in [(&[0, 1, 2][..], 10), (&[1, 2], 5), (&[0, 1, 2], 30), (&[0, 2], 20)] {
            combinations.add(identifiers, time).unwrap();
        }
        let link = |a, b, first_seen, last_seen, event_count| Link { a, b, first_seen, last_seen, event_count };
        let expected = [link(3, 4, 5, 30, 3), link(3, 9, 10, 30, 2), link(4, 9, 10, 30, 3)];
        assert_eq!(combinations.into_links(&[9, 3, 4]), expected);
    }

    #[test]
    fn merging_along_the_way_changes_nothing() {
        let mut links: Vec<Link> = (0..1000u32)
            .map(|number| {
                let (a, b, time) = (number % 7, 7 + number % 11, i64::from(number));
                Link { a, b, first_seen: time, last_seen: time, event_count: 1 }
            })
            .collect();
        let mut stepwise = Vec::new();
        for part in links.chunks(37) {
            stepwise.extend_from_slice(part);
            merge(&mut stepwise);
        }
        merge(&mut links);
        assert_eq!(links.len(), 77);
        assert_eq!(links, stepwise);
    }
}
