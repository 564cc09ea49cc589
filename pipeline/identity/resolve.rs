//! From links to customers: what is connected, as far as no shared identifier fuses it.
//!
//! A pair that somebody ruled on is judged by the ruling alone: the link that events made of it counts for nothing below.
//! Rulings that link are followed first, in the order of their numbers; guard 1 does not know them. Two ends of a ruling
//! that splits never come into one customer: a link that would bring them there is refused.
//!
//! Two guards, in this order:
//! 1. An identifier with more distinct neighbours of stronger kinds than `max_links` is shared (a kiosk, `info@shop`):
//!    all its links are refused, and it stays a customer of its own. Neighbours of weaker kinds do not count: a login
//!    sees a new cookie every week and is none the less one person's.
//! 2. The other links are followed from the oldest to the newest, ties by the hashes of their ends. A link is refused
//!    when the customer it would make had more identifiers than `max_identifiers`, or more values of a kind than that
//!    kind's limit. So of two logins joined by a cookie the link that came last goes, and both logins stay.
//!
//! Input order never matters: times and content hashes decide. A customer is named by its earliest identifier (smallest
//! `first_seen`, then hash), which growth does not change; when two customers merge, the elder name stays.
//!
//! Time: linear in identifiers and links but for two sorts, which only guard 2 needs. Memory: about 16 bytes per
//! identifier and 16 per link, 4 per identifier and limited kind; while sorting 16 more per identifier.

use std::cmp::Ordering;

use hashbrown::HashMap;
use rayon::prelude::*;

use super::components::components;
use super::rulings::Verdict;

/// A distinct identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identifier {
    /// Number of the kind.
    pub(super) kind: u16,
    /// Content hash of kind and value.
    pub(super) hash: [u8; 16],
    pub(super) first_seen: i64,
    pub(super) last_seen: i64,
}

/// Two identifiers seen on one event, by their positions; each pair comes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) a: u32,
    pub(super) b: u32,
    pub(super) first_seen: i64,
    pub(super) last_seen: i64,
    pub(super) event_count: u64,
}

/// Guards against fusing strangers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Caps {
    /// Most values per customer of a kind; of several broken limits the first is named.
    pub(super) limits: Vec<(u16, usize)>,
    /// Rank of each kind by its number, the strongest first; no two are equal.
    pub(super) ranks: Vec<usize>,
    /// Most distinct neighbours of stronger kinds of an identifier.
    pub(super) max_links: Option<usize>,
    /// Most identifiers of a customer.
    pub(super) max_identifiers: Option<usize>,
    /// Rulings in the order of their numbers; each pair comes once.
    pub(super) rulings: Vec<Ruled>,
}

/// What somebody ruled on two distinct identifiers, given by their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ruled {
    pub(super) number: u32,
    pub(super) verdict: Verdict,
    pub(super) a: u32,
    pub(super) b: u32,
}

/// A link that was not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The lower position.
    pub(super) a: u32,
    pub(super) b: u32,
    pub(super) first_seen: i64,
    pub(super) rule: Rule,
}

/// Why a link was not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// An identifier of this kind is linked with so many of stronger kinds.
    MaxLinks { kind: u16, links: u32 },
    /// The customer would have so many values of this kind.
    Limit { kind: u16, values: u32 },
    /// The customer would have so many identifiers.
    MaxIdentifiers { identifiers: u32 },
    /// This ruling splits what would come together.
    Ruling { number: u32 },
}

/// What became of the identifiers and links.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// For each identifier the position of the earliest identifier of its customer.
    pub(super) customers: Vec<u32>,
    /// For each identifier the position of the one with the smallest hash that links lead to, followed or refused.
    pub(super) components: Vec<u32>,
    /// Links not followed, by their positions.
    pub(super) refusals: Vec<Refusal>,
}

/// Follows the links as far as rulings and caps allow. A link of an identifier with itself says nothing and is passed
/// over.
pub(super) fn resolve(identifiers: &[Identifier], links: &[Link], caps: &Caps) -> Outcome {
    let ruled_on = seen_together(links, &caps.rulings);
    let (mut proposals, mut refusals) = refuse_shared(identifiers, links, &ruled_on, caps);
    let mut customers = Customers::new(identifiers, caps);
    refusals.extend(follow_rulings(identifiers, &ruled_on, &mut customers));
    if customers.depend_on_order() {
        put_in_order(&mut proposals, identifiers);
    }
    for Proposal { first_seen, a, b } in proposals {
        if let Err(rule) = customers.unite(a, b) {
            refusals.push(Refusal { a: a.min(b), b: a.max(b), first_seen, rule });
        }
    }
    refusals.par_sort_unstable_by_key(|refusal| (refusal.a, refusal.b));
    let customers = customers.into_earliest(identifiers);
    let components = components(identifiers, &customers, &refusals);
    Outcome { customers, components, refusals }
}

/// When the pairs that were ruled on, the lower position first, were first seen on one event; `None` for never.
type RuledOn = HashMap<(u32, u32), Option<i64>>;

fn pair(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

fn seen_together(links: &[Link], rulings: &[Ruled]) -> RuledOn {
    let mut ruled_on: RuledOn = rulings.iter().map(|ruling| (pair(ruling.a, ruling.b), None)).collect();
    if !ruled_on.is_empty() {
        for link in links {
            if let Some(first_seen) = ruled_on.get_mut(&pair(link.a, link.b)) {
                *first_seen = Some(link.first_seen);
            }
        }
    }
    ruled_on
}

/// Follows the rulings that link; returns the links that rulings refuse, and those of rulings that are refused. What no
/// event showed counts from when both ends were there.
fn follow_rulings(identifiers: &[Identifier], ruled_on: &RuledOn, customers: &mut Customers<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for Ruled { number, verdict, a, b } in &customers.caps.rulings {
        let (a, b) = pair(*a, *b);
        let seen = ruled_on[&(a, b)];
        let both_there = identifiers[a as usize].first_seen.max(identifiers[b as usize].first_seen);
        let refused = match verdict {
            Verdict::Link => customers.unite(a, b).err().map(|rule| (seen.unwrap_or(both_there), rule)),
            Verdict::Split => seen.map(|seen| (seen, Rule::Ruling { number: *number })),
        };
        refusals.extend(refused.map(|(first_seen, rule)| Refusal { a, b, first_seen, rule }));
    }
    refusals
}

/// A link that passed the first guard; ordered by time, then by its ends.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Proposal {
    first_seen: i64,
    a: u32,
    b: u32,
}

/// Sets the links of shared identifiers apart.
fn refuse_shared(
    identifiers: &[Identifier],
    links: &[Link],
    ruled_on: &RuledOn,
    caps: &Caps,
) -> (Vec<Proposal>, Vec<Refusal>) {
    let is_ruled_on = |link: &Link| !ruled_on.is_empty() && ruled_on.contains_key(&pair(link.a, link.b));
    let links = links.iter().filter(|link| link.a != link.b && !is_ruled_on(link));
    let Some(most) = caps.max_links else { return (links.map(Proposal::from).collect(), Vec::new()) };
    let kind = |end: u32| identifiers[end as usize].kind;
    let rank = |end: u32| caps.ranks[usize::from(kind(end))];
    let mut stronger = vec![0u32; identifiers.len()];
    for link in links.clone() {
        match rank(link.a).cmp(&rank(link.b)) {
            Ordering::Less => stronger[link.b as usize] += 1,
            Ordering::Greater => stronger[link.a as usize] += 1,
            Ordering::Equal => {}
        }
    }
    let (mut proposals, mut refusals) = (Vec::new(), Vec::new());
    for link in links {
        // The end with more neighbours is named; of two with equally many the one whose kind comes last.
        let (links, kind) = [link.a, link.b]
            .map(|end| (stronger[end as usize], kind(end)))
            .into_iter()
            .max()
            .expect("a link has two ends");
        if links as usize > most {
            let rule = Rule::MaxLinks { kind, links };
            refusals.push(Refusal { a: link.a.min(link.b), b: link.a.max(link.b), first_seen: link.first_seen, rule });
        } else {
            proposals.push(Proposal::from(link));
        }
    }
    (proposals, refusals)
}

impl From<&Link> for Proposal {
    fn from(link: &Link) -> Self {
        Self { first_seen: link.first_seen, a: link.a, b: link.b }
    }
}

/// Sorts by time, then by the hashes of the ends, the smaller first. Ends are replaced by their ranks among all hashes
/// for that, since looking up hashes while sorting would miss the cache at every step.
fn put_in_order(proposals: &mut [Proposal], identifiers: &[Identifier]) {
    let by_rank = in_hash_order(identifiers);
    let mut ranks = vec![0u32; identifiers.len()];
    for (rank, position) in by_rank.iter().enumerate() {
        ranks[*position as usize] = rank as u32;
    }
    for proposal in proposals.iter_mut() {
        let (a, b) = (ranks[proposal.a as usize], ranks[proposal.b as usize]);
        (proposal.a, proposal.b) = (a.min(b), a.max(b));
    }
    drop(ranks);
    proposals.par_sort_unstable();
    for proposal in proposals {
        (proposal.a, proposal.b) = (by_rank[proposal.a as usize], by_rank[proposal.b as usize]);
    }
}

/// Positions of identifiers by hash.
fn in_hash_order(identifiers: &[Identifier]) -> Vec<u32> {
    let head = |hash: &[u8; 16]| hash.iter().take(8).fold(0u64, |head, byte| head << 8 | u64::from(*byte));
    let mut keyed: Vec<(u64, u32)> = identifiers.iter().map(|identifier| head(&identifier.hash)).zip(0..).collect();
    let hash = |position: u32| &identifiers[position as usize].hash;
    keyed.par_sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| hash(a.1).cmp(hash(b.1))));
    keyed.into_iter().map(|(_, position)| position).collect()
}

/// Disjoint sets of identifiers: union by size, path halving (Tarjan and van Leeuwen, 1984), counts at the roots.
struct Customers<'a> {
    caps: &'a Caps,
    parents: Vec<u32>,
    sizes: Vec<u32>,
    /// Per identifier one count for each limited kind.
    counts: Vec<u32>,
    /// By root: from whom its identifiers are split, and the number of the ruling.
    splits: HashMap<u32, Vec<(u32, u32)>>,
}

impl<'a> Customers<'a> {
    /// Each identifier by itself.
    fn new(identifiers: &[Identifier], caps: &'a Caps) -> Self {
        let limits = &caps.limits;
        let mut counts = vec![0; identifiers.len() * limits.len()];
        if !limits.is_empty() {
            for (identifier, counts) in identifiers.iter().zip(counts.chunks_exact_mut(limits.len())) {
                for ((kind, _), count) in limits.iter().zip(counts) {
                    *count = u32::from(*kind == identifier.kind);
                }
            }
        }
        let mut splits: HashMap<u32, Vec<(u32, u32)>> = HashMap::new();
        for Ruled { number, a, b, .. } in caps.rulings.iter().filter(|ruling| ruling.verdict == Verdict::Split) {
            splits.entry(*a).or_default().push((*b, *number));
            splits.entry(*b).or_default().push((*a, *number));
        }
        let parents = (0..).take(identifiers.len()).collect();
        Self { caps, parents, sizes: vec![1; identifiers.len()], counts, splits }
    }

    /// Whether the order of links may change the result.
    fn depend_on_order(&self) -> bool {
        self.caps.max_identifiers.is_some() || !self.caps.limits.is_empty() || !self.splits.is_empty()
    }

    /// Makes the customers of two identifiers one, or says which rule that would break.
    fn unite(&mut self, a: u32, b: u32) -> Result<(), Rule> {
        let (a, b) = (root(&mut self.parents, a), root(&mut self.parents, b));
        if a == b {
            return Ok(());
        }
        if let Some(number) = self.ruling_between(a, b) {
            return Err(Rule::Ruling { number });
        }
        let size = self.sizes[a as usize] + self.sizes[b as usize];
        let (root, child) = if self.sizes[a as usize] >= self.sizes[b as usize] { (a, b) } else { (b, a) };
        let width = self.caps.limits.len();
        let (root_counts, child_counts) = (root as usize * width, child as usize * width);
        for (index, (kind, most)) in self.caps.limits.iter().enumerate() {
            let values = self.counts[root_counts + index] + self.counts[child_counts + index];
            if values as usize > *most {
                return Err(Rule::Limit { kind: *kind, values });
            }
        }
        if self.caps.max_identifiers.is_some_and(|most| size as usize > most) {
            return Err(Rule::MaxIdentifiers { identifiers: size });
        }
        for index in 0..width {
            self.counts[root_counts + index] += self.counts[child_counts + index];
        }
        self.sizes[root as usize] = size;
        self.parents[child as usize] = root;
        if let Some(of_child) = self.splits.remove(&child) {
            self.splits.entry(root).or_default().extend(of_child);
        }
        Ok(())
    }

    /// The first ruling that splits an identifier of one root from one of the other.
    fn ruling_between(&mut self, a: u32, b: u32) -> Option<u32> {
        let (of_a, of_b) = (self.splits.get(&a)?, self.splits.get(&b)?);
        let (splits, other) = if of_a.len() <= of_b.len() { (of_a, b) } else { (of_b, a) };
        let parents = &mut self.parents;
        splits.iter().filter(|(from, _)| root(parents, *from) == other).map(|(_, number)| *number).min()
    }

    /// For each identifier the earliest of its customer.
    fn into_earliest(mut self, identifiers: &[Identifier]) -> Vec<u32> {
        let age = |position: u32| {
            let identifier = &identifiers[position as usize];
            (identifier.first_seen, identifier.hash)
        };
        let mut earliest = self.parents.clone();
        for position in 0..self.parents.len() as u32 {
            let root = root(&mut self.parents, position);
            if age(position) < age(earliest[root as usize]) {
                earliest[root as usize] = position;
            }
        }
        for position in 0..self.parents.len() as u32 {
            self.parents[position as usize] = root(&mut self.parents, position);
        }
        self.parents.iter().map(|root| earliest[*root as usize]).collect()
    }
}

/// The root of an identifier in a forest of parents; halves the way to it.
pub(super) fn root(parents: &mut [u32], mut identifier: u32) -> u32 {
    loop {
        let parent = parents[identifier as usize];
        if parent == identifier {
            return identifier;
        }
        let grandparent = parents[parent as usize];
        parents[identifier as usize] = grandparent;
        identifier = grandparent;
    }
}

#[cfg(test)]
mod tests;
