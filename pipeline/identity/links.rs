//! Which identifiers were seen together, and when.
//!
//! Events repeat themselves: most show an identifier alone or a combination that was there before. So an event costs
//! one look-up per identifier and one for their combination; pairs are made once, from the distinct combinations.

use std::mem;

use arrow::array::{Array, ListArray, TimestampMicrosecondArray};
use hashbrown::HashSet;
use rayon::prelude::*;

use super::columns::IdentifierLists;
use super::combinations::Combinations;
use super::identity_key::identity_key;
use super::interner::{Interner, Node, Span, text_of};
use super::resolve::{Identifier, Link};
use crate::error::{Error, Result};
use crate::functions::content_hash;
use crate::identifiers::Blocked;

/// Collects identifiers and their links from events, in any order.
///
/// Blocked identifiers are counted and otherwise left out. All events must be added with the same [`Blocked`], since
/// its verdict is kept with each identifier.
///
/// Memory: per distinct identifier its text and about 46 bytes; per distinct combination of two or more identifiers
/// about 46 bytes and 4 for each of them; then 32 bytes per distinct pair. Repeated events take none.
#[derive(Debug, Default)]
pub struct Links {
    identifiers: Interner,
    combinations: Combinations,
    /// Identifiers of the event at hand.
    event: Vec<u32>,
    blocked: u64,
}

/// What was collected, in order: identifiers by kind and value, kinds by name, links by their two identifiers.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) kinds: Vec<String>,
    pub(super) identifiers: Vec<Identifier>,
    /// Value of each identifier, in `text`.
    pub(super) values: Vec<Span>,
    pub(super) text: Vec<u8>,
    pub(super) links: Vec<Link>,
    pub(super) blocked: u64,
}

impl Links {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batch of events.
    ///
    /// - `identifiers`: a list of struct (`kind`, `value`) per event, text in any encoding; null lists, pairs, kinds
    ///   and values are left out
    /// - `occurred_at`: of each event
    ///
    /// Errors: other types, columns of unequal length, a null time, 2³² distinct identifiers or combinations.
    pub fn add(
        &mut self,
        identifiers: &ListArray,
        occurred_at: &TimestampMicrosecondArray,
        blocked: &Blocked,
    ) -> Result<()> {
        if identifiers.len() != occurred_at.len() {
            return Err(Error::internal("identifiers and occurred_at are of unequal length"));
        }
        let lists = IdentifierLists::new(identifiers)?;
        for (row, time) in occurred_at.iter().enumerate() {
            let time = time.ok_or_else(|| Error::invalid("occurred_at is null, expected a time"))?;
            self.add_event(lists.row(row), time, blocked)?;
        }
        Ok(())
    }

    /// Adds one event by its (kind, value) pairs and its time in microseconds.
    ///
    /// Errors: 2³² distinct identifiers or combinations.
    pub fn add_event<'a>(
        &mut self,
        identifiers: impl IntoIterator<Item = (&'a str, &'a str)>,
        occurred_at: i64,
        blocked: &Blocked,
    ) -> Result<()> {
        self.event.clear();
        for (kind, value) in identifiers {
            match self.identifiers.node(kind, value, occurred_at, blocked)? {
                Some(node) => self.event.push(node),
                None => self.blocked += 1,
            }
        }
        if self.event.len() > 1 {
            self.event.sort_unstable();
            self.event.dedup();
        }
        if self.event.len() > 1 {
            self.combinations.add(&self.event, occurred_at)?;
        }
        Ok(())
    }

    /// Adds an identifier that was seen alone or with others between two times.
    ///
    /// Errors: 2³² distinct identifiers.
    pub(super) fn add_identifier(
        &mut self,
        kind: &str,
        value: &str,
        first_seen: i64,
        last_seen: i64,
        blocked: &Blocked,
    ) -> Result<()> {
        self.identifiers.node(kind, value, first_seen, blocked)?;
        self.identifiers.node(kind, value, last_seen, blocked)?;
        Ok(())
    }

    /// Adds a pair of identifiers that `event_count` events between two times showed together.
    ///
    /// Errors: 2³² distinct identifiers or combinations.
    pub(super) fn add_link(
        &mut self,
        ends: [(&str, &str); 2],
        first_seen: i64,
        last_seen: i64,
        event_count: u64,
        blocked: &Blocked,
    ) -> Result<()> {
        let [from, to] = ends.map(|(kind, value)| self.identifiers.node(kind, value, first_seen, blocked));
        if let (Some(from), Some(to)) = (from?, to?) {
            self.combinations.add_seen(&[from.min(to), from.max(to)], first_seen, last_seen, event_count)?;
        }
        Ok(())
    }

    /// Keys of the usable identifiers, as in `identity_map.identity_key`.
    pub(super) fn identity_keys(&self) -> HashSet<String> {
        self.identifiers.usable().map(|(kind, value)| identity_key(kind, value)).collect()
    }

    /// Adds all that another collector has seen, with the same [`Blocked`]: the result is as if this one had seen it.
    ///
    /// Errors: 2³² distinct identifiers or combinations.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        let (larger, smaller) = match self.identifiers.len() < other.identifiers.len() {
            true => (other, mem::take(self)),
            false => (mem::take(self), other),
        };
        *self = larger;
        let numbers = self.identifiers.merge(smaller.identifiers)?;
        self.combinations.merge(smaller.combinations, &numbers)?;
        self.blocked += smaller.blocked;
        Ok(())
    }

    /// Puts everything in order; takes the memory of the identifiers once more while it does.
    pub(super) fn collect(self) -> Collected {
        let Self { identifiers, combinations, blocked, .. } = self;
        let (kinds, nodes, text) = identifiers.into_parts();
        let (kinds, kind_ids) = in_name_order(kinds);
        let order = in_value_order(&nodes, &kind_ids, &text, kinds.len());
        let identifiers = order.par_iter().map(|node| {
            let node = &nodes[*node as usize];
            let kind = kind_ids[usize::from(node.kind)];
            let hash = content_hash(&kinds[usize::from(kind)], text_of(node.value, &text));
            Identifier { kind, hash, first_seen: node.first_seen, last_seen: node.last_seen }
        });
        let identifiers = identifiers.collect();
        let values = order.iter().map(|node| nodes[*node as usize].value).collect();
        let mut positions = vec![0; nodes.len()];
        drop(nodes);
        for (position, node) in order.into_iter().enumerate() {
            positions[node as usize] = position as u32;
        }
        Collected { kinds, identifiers, values, text, links: combinations.into_links(&positions), blocked }
    }
}

impl Collected {
    /// Value of the identifier at a position.
    pub(super) fn value(&self, position: usize) -> &str {
        text_of(self.values[position], &self.text)
    }

    /// Position of an identifier, if it was seen.
    pub(super) fn position(&self, kind: &str, value: &str) -> Option<u32> {
        let kind = self.kinds.binary_search_by(|known| known.as_str().cmp(kind)).ok()? as u16;
        let start = self.identifiers.partition_point(|identifier| identifier.kind < kind);
        let end = self.identifiers.partition_point(|identifier| identifier.kind <= kind);
        let found =
            self.values[start..end].binary_search_by(|known| known.of(&self.text).cmp(value.as_bytes())).ok()?;
        Some((start + found) as u32)
    }
}

/// Kinds by name, and the new number of each old one.
fn in_name_order(kinds: Vec<String>) -> (Vec<String>, Vec<u16>) {
    let mut order: Vec<u16> = (0..=u16::MAX).take(kinds.len()).collect();
    order.sort_unstable_by(|a, b| kinds[usize::from(*a)].cmp(&kinds[usize::from(*b)]));
    let mut ids = vec![0; kinds.len()];
    for (id, kind) in (0..=u16::MAX).zip(&order) {
        ids[usize::from(*kind)] = id;
    }
    let mut kinds = kinds;
    let names = order.iter().map(|kind| mem::take(&mut kinds[usize::from(*kind)])).collect();
    (names, ids)
}

/// The usable nodes by kind and value.
///
/// Comparing text all over the memory is slow, so eight bytes behind what all values of a kind have in common (`user-`)
/// are sorted next to the node, and the text is looked at for ties only.
fn in_value_order(nodes: &[Node], kind_ids: &[u16], text: &[u8], kinds: usize) -> Vec<u32> {
    let mut by_kind: Vec<Vec<(u64, u32)>> = vec![Vec::new(); kinds];
    let mut common: Vec<Option<&[u8]>> = vec![None; kinds];
    for node in nodes.iter().filter(|node| node.is_usable) {
        let kind = usize::from(kind_ids[usize::from(node.kind)]);
        let value = node.value.of(text);
        let prefix = common[kind].get_or_insert(value);
        let length = prefix.iter().zip(value).take_while(|(a, b)| a == b).count();
        *prefix = &prefix[..length];
    }
    for (number, node) in nodes.iter().enumerate().filter(|(_, node)| node.is_usable) {
        let kind = usize::from(kind_ids[usize::from(node.kind)]);
        let rest = &node.value.of(text)[common[kind].map_or(0, <[u8]>::len)..];
        let mut head = [0; 8];
        let length = rest.len().min(head.len());
        head[..length].copy_from_slice(&rest[..length]);
        by_kind[kind].push((u64::from_be_bytes(head), number as u32));
    }
    let mut order = Vec::with_capacity(by_kind.iter().map(Vec::len).sum());
    for mut keyed in by_kind {
        let value = |node: u32| nodes[node as usize].value.of(text);
        keyed.par_sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| value(a.1).cmp(value(b.1))));
        order.extend(keyed.into_iter().map(|(_, node)| node));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::columns::tests::identifier_lists;
    use super::*;

    fn collected(events: &[(&[(&str, &str)], i64)]) -> Collected {
        let mut links = Links::new();
        for (identifiers, time) in events {
            links.add_event(identifiers.iter().copied(), *time, &Blocked::default()).unwrap();
        }
        links.collect()
    }

    fn named(collected: &Collected) -> Vec<(String, i64, i64)> {
        let name = |(position, identifier): (usize, &Identifier)| {
            let name = format!("{}:{}", collected.kinds[usize::from(identifier.kind)], collected.value(position));
            (name, identifier.first_seen, identifier.last_seen)
        };
        collected.identifiers.iter().enumerate().map(name).collect()
    }

    #[test]
    fn identifiers_and_pairs_come_in_order_with_their_times() {
        let collected = collected(&[
            (&[("user_id", "u1"), ("email", "b@example.com"), ("anonymous_id", "x")], 30),
            (&[("user_id", "u1"), ("email", "a@example.com")], 10),
            (&[("email", "b@example.com"), ("user_id", "u1")], 20),
            (&[("anonymous_id", "y")], 5),
        ]);
        let names = [
            ("anonymous_id:x", 30, 30),
            ("anonymous_id:y", 5, 5),
            ("email:a@example.com", 10, 10),
            ("email:b@example.com", 20, 30),
            ("user_id:u1", 10, 30),
        ];
        assert_eq!(named(&collected), names.map(|(name, first, last)| (name.to_string(), first, last)));
        let link = |a, b, first_seen, last_seen, event_count| Link { a, b, first_seen, last_seen, event_count };
        let links = [link(0, 3, 30, 30, 1), link(0, 4, 30, 30, 1), link(2, 4, 10, 10, 1), link(3, 4, 20, 30, 2)];
        assert_eq!(collected.links, links);
        assert_eq!(collected.identifiers[4].hash, content_hash("user_id", "u1"));
    }

    #[test]
    fn values_are_ordered_by_bytes_behind_what_they_have_in_common() {
        let mut values: Vec<String> = (0..3000).map(|number| format!("user-{}", number * 7919 % 3000)).collect();
        values.extend(
            ["user-", "user-1\0", "user-1\0\0", "user-20000000000000002", "user-20000000000000001"].map(String::from),
        );
        let mut links = Links::new();
        for value in &values {
            links.add_event([("user_id", value.as_str())], 0, &Blocked::default()).unwrap();
        }
        values.sort_unstable();
        let names: Vec<_> = named(&links.collect()).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, values.iter().map(|value| format!("user_id:{value}")).collect::<Vec<_>>());
    }

    #[test]
    fn an_identifier_seen_twice_on_an_event_is_not_linked_with_itself() {
        let collected = collected(&[(&[("device_id", "d"), ("device_id", "d")], 1)]);
        assert_eq!((collected.identifiers.len(), collected.links.len()), (1, 0));
    }

    #[test]
    fn a_million_repeats_are_one_link() {
        let mut links = Links::new();
        for time in 0..1_000_000 {
            links.add_event([("email", "ann@example.com"), ("user_id", "u1")], time, &Blocked::default()).unwrap();
        }
        let collected = links.collect();
        let link = Link { a: 0, b: 1, first_seen: 0, last_seen: 999_999, event_count: 1_000_000 };
        assert_eq!(collected.links, [link]);
    }

    #[test]
    fn blocked_identifiers_are_counted_and_neither_kept_nor_linked() {
        let collected = collected(&[
            (&[("user_id", "null"), ("email", "ann@example.com"), ("anonymous_id", "x")], 1),
            (&[("user_id", "null")], 2),
            (&[], 3),
        ]);
        assert_eq!(collected.blocked, 2);
        assert_eq!((collected.identifiers.len(), collected.links.len()), (2, 1));
    }

    #[test]
    fn batches_and_single_events_collect_alike() {
        let events: [&[(&str, &str)]; 3] = [&[("email", "a@b.example"), ("user_id", "u1")], &[], &[("user_id", "u1")]];
        let mut batches = Links::new();
        let times = TimestampMicrosecondArray::from(vec![5, 6, 7]).with_timezone("UTC");
        batches.add(&identifier_lists(&events), &times, &Blocked::default()).unwrap();
        let single = collected(&[(events[0], 5), (events[1], 6), (events[2], 7)]);
        let batches = batches.collect();
        assert_eq!(named(&batches), named(&single));
        assert_eq!(batches.links, single.links);
    }

    #[test]
    fn collectors_merge_as_if_one_had_seen_everything() {
        let events: Vec<(Vec<(&str, String)>, i64)> = (0..500)
            .map(|number| {
                let pair = [("email", format!("e{}", number % 37)), ("user_id", format!("u{}", number * 7 % 53))];
                let blocked = ("phone", "null".to_string());
                (pair.into_iter().chain((number % 5 == 0).then_some(blocked)).collect(), number * 31 % 97)
            })
            .collect();
        let collect = |events: &[(Vec<(&str, String)>, i64)]| {
            let mut links = Links::new();
            for (identifiers, time) in events {
                let identifiers = identifiers.iter().map(|(kind, value)| (*kind, value.as_str()));
                links.add_event(identifiers, *time, &Blocked::default()).unwrap();
            }
            links
        };
        let whole = collect(&events).collect();
        for cut in [0, 13, 250, 499, 500] {
            let mut merged = collect(&events[..cut]);
            merged.merge(collect(&events[cut..])).unwrap();
            let merged = merged.collect();
            assert_eq!(named(&merged), named(&whole), "cut at {cut}");
            assert_eq!((&merged.links, merged.blocked), (&whole.links, whole.blocked), "cut at {cut}");
        }
    }

    #[test]
    fn a_missing_time_is_refused() {
        let times = TimestampMicrosecondArray::from(vec![None]);
        let error = Links::new().add(&identifier_lists(&[&[]]), &times, &Blocked::default()).unwrap_err();
        assert_eq!(error.to_string(), "occurred_at is null, expected a time");
    }
}
