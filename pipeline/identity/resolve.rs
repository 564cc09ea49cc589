//! From links to customers: connected components that no shared identifier can fuse.
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

use rayon::prelude::*;

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
}

/// What became of the identifiers and links.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// For each identifier the position of the earliest identifier of its customer.
    pub(super) customers: Vec<u32>,
    /// Links not followed, by their positions.
    pub(super) refusals: Vec<Refusal>,
}

/// Follows the links as far as the caps allow. A link of an identifier with itself says nothing and is passed over.
pub(super) fn resolve(identifiers: &[Identifier], links: &[Link], caps: &Caps) -> Outcome {
    let (mut proposals, mut refusals) = refuse_shared(identifiers, links, caps);
    let mut components = Components::new(identifiers, caps);
    if components.depend_on_order() {
        put_in_order(&mut proposals, identifiers);
    }
    for Proposal { first_seen, a, b } in proposals {
        if let Err(rule) = components.unite(a, b) {
            refusals.push(Refusal { a: a.min(b), b: a.max(b), first_seen, rule });
        }
    }
    refusals.par_sort_unstable_by_key(|refusal| (refusal.a, refusal.b));
    Outcome { customers: components.into_earliest(identifiers), refusals }
}

/// A link that passed the first guard; ordered by time, then by its ends.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Proposal {
    first_seen: i64,
    a: u32,
    b: u32,
}

/// Sets the links of shared identifiers apart.
fn refuse_shared(identifiers: &[Identifier], links: &[Link], caps: &Caps) -> (Vec<Proposal>, Vec<Refusal>) {
    let links = links.iter().filter(|link| link.a != link.b);
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
struct Components<'a> {
    caps: &'a Caps,
    parents: Vec<u32>,
    sizes: Vec<u32>,
    /// Per identifier one count for each limited kind.
    counts: Vec<u32>,
}

impl<'a> Components<'a> {
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
        let parents = (0..).take(identifiers.len()).collect();
        Self { caps, parents, sizes: vec![1; identifiers.len()], counts }
    }

    /// Whether the order of links may change the result.
    fn depend_on_order(&self) -> bool {
        self.caps.max_identifiers.is_some() || !self.caps.limits.is_empty()
    }

    fn root(&mut self, mut identifier: u32) -> u32 {
        loop {
            let parent = self.parents[identifier as usize];
            if parent == identifier {
                return identifier;
            }
            let grandparent = self.parents[parent as usize];
            self.parents[identifier as usize] = grandparent;
            identifier = grandparent;
        }
    }

    /// Makes the components of two identifiers one, or says which rule that would break.
    fn unite(&mut self, a: u32, b: u32) -> Result<(), Rule> {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return Ok(());
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
        Ok(())
    }

    /// For each identifier the earliest of its component.
    fn into_earliest(mut self, identifiers: &[Identifier]) -> Vec<u32> {
        let age = |position: u32| {
            let identifier = &identifiers[position as usize];
            (identifier.first_seen, identifier.hash)
        };
        let mut earliest = self.parents.clone();
        for position in 0..self.parents.len() as u32 {
            let root = self.root(position);
            if age(position) < age(earliest[root as usize]) {
                earliest[root as usize] = position;
            }
        }
        for position in 0..self.parents.len() as u32 {
            self.parents[position as usize] = self.root(position);
        }
        self.parents.iter().map(|root| earliest[*root as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use proptest::prelude::*;

    use super::*;

    /// Identifier `number` with a hash that is not in the order of positions.
    fn identifier(number: u32, kind: u16, first_seen: i64) -> Identifier {
        let mut hash = [0; 16];
        hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
        hash[12..].copy_from_slice(&number.to_be_bytes());
        Identifier { kind, hash, first_seen, last_seen: first_seen }
    }

    fn identifiers(count: u32) -> Vec<Identifier> {
        (0..count).map(|number| identifier(number, 0, i64::from(number))).collect()
    }

    fn link(a: u32, b: u32, first_seen: i64) -> Link {
        Link { a, b, first_seen, last_seen: first_seen, event_count: 1 }
    }

    #[test]
    fn without_caps_whatever_is_linked_is_one_customer() {
        let outcome = resolve(&identifiers(6), &[link(1, 2, 0), link(4, 5, 0), link(2, 5, 0)], &Caps::default());
        assert_eq!(outcome, Outcome { customers: vec![0, 1, 1, 3, 1, 1], refusals: vec![] });
    }

    #[test]
    fn the_earliest_identifier_names_the_customer_and_hashes_break_ties() {
        let mut identifiers = identifiers(3);
        identifiers[2].first_seen = -5;
        let links = [link(0, 1, 0), link(1, 2, 0)];
        assert_eq!(resolve(&identifiers, &links, &Caps::default()).customers, [2, 2, 2]);
        for identifier in &mut identifiers {
            identifier.first_seen = 0;
        }
        identifiers[1].hash = [0; 16];
        identifiers[0].hash = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(resolve(&identifiers, &links, &Caps::default()).customers, [1, 1, 1]);
    }

    #[test]
    fn a_link_of_an_identifier_with_itself_says_nothing() {
        let caps = Caps { max_links: Some(1), ranks: vec![0], ..Caps::default() };
        let outcome = resolve(&identifiers(2), &[link(0, 0, 0), link(0, 1, 0), link(1, 1, 0)], &caps);
        assert_eq!(outcome, Outcome { customers: vec![0, 0], refusals: vec![] });
    }

    #[test]
    fn the_newest_of_links_that_break_a_limit_is_refused() {
        let mut identifiers = identifiers(3);
        identifiers[2].kind = 1;
        let caps = Caps { limits: vec![(0, 1)], ..Caps::default() };
        let refused = |a, b, first_seen| Refusal { a, b, first_seen, rule: Rule::Limit { kind: 0, values: 2 } };
        let outcome = resolve(&identifiers, &[link(0, 2, 9), link(1, 2, 8)], &caps);
        assert_eq!(outcome, Outcome { customers: vec![0, 1, 1], refusals: vec![refused(0, 2, 9)] });
        let outcome = resolve(&identifiers, &[link(0, 2, 7), link(1, 2, 8)], &caps);
        assert_eq!(outcome, Outcome { customers: vec![0, 1, 0], refusals: vec![refused(1, 2, 8)] });
    }

    #[test]
    fn a_chain_of_ten_thousand_links_breaks_into_pieces_of_the_cap() {
        let links: Vec<_> = (0..10_000).map(|number| link(number, number + 1, i64::from(number))).collect();
        let whole = resolve(&identifiers(10_001), &links, &Caps::default());
        assert!(whole.customers.iter().all(|customer| *customer == 0));
        let caps = Caps { max_identifiers: Some(50), ..Caps::default() };
        let outcome = resolve(&identifiers(10_001), &links, &caps);
        assert!(outcome.customers.iter().zip(0..).all(|(customer, position)| *customer == position / 50 * 50));
        assert_eq!(outcome.refusals.len(), 200);
        assert_eq!(outcome.refusals[0].rule, Rule::MaxIdentifiers { identifiers: 51 });
    }

    #[test]
    fn the_cap_on_links_is_met_before_any_link_is_followed() {
        // 0 has three stronger neighbours; 1 and 2 know each other without it.
        let links = [link(0, 1, 0), link(0, 2, 1), link(0, 3, 2), link(1, 2, 3)];
        let mut identifiers = identifiers(4);
        identifiers[0].kind = 1;
        let caps = Caps { max_links: Some(2), ranks: vec![0, 1], ..Caps::default() };
        let outcome = resolve(&identifiers, &links, &caps);
        assert_eq!(outcome.customers, [0, 1, 1, 3]);
        let rule = Rule::MaxLinks { kind: 1, links: 3 };
        let refused: Vec<_> = outcome.refusals.iter().map(|refusal| (refusal.a, refusal.b, refusal.rule)).collect();
        assert_eq!(refused, [(0, 1, rule), (0, 2, rule), (0, 3, rule)]);
    }

    #[test]
    fn neighbours_of_weaker_kinds_and_of_its_own_make_nothing_shared() {
        let links = [link(0, 1, 0), link(0, 2, 1), link(0, 3, 2)];
        for ranks in [vec![0, 1], vec![1, 0]] {
            let mut identifiers = identifiers(4);
            let caps = Caps { max_links: Some(2), ranks, ..Caps::default() };
            assert_eq!(resolve(&identifiers, &links, &caps).customers, [0, 0, 0, 0], "all of one kind");
            identifiers[0].kind = 1;
            let is_strongest = caps.ranks[1] == 0;
            assert_eq!(resolve(&identifiers, &links, &caps).refusals.is_empty(), is_strongest);
        }
    }

    /// The same rules, written for reading: customers are sets that are searched from end to end.
    fn oracle(identifiers: &[Identifier], links: &[Link], caps: &Caps) -> Outcome {
        let links: Vec<_> = links.iter().filter(|link| link.a != link.b).collect();
        let hash = |position: u32| identifiers[position as usize].hash;
        let kind = |position: u32| identifiers[position as usize].kind;
        let is_stronger = |other: u32, end: u32| caps.ranks[kind(other) as usize] < caps.ranks[kind(end) as usize];
        let stronger = |end: u32| {
            let others = links.iter().filter_map(|link| match (link.a == end, link.b == end) {
                (true, _) => Some(link.b),
                (_, true) => Some(link.a),
                _ => None,
            });
            others.filter(|other| is_stronger(*other, end)).count()
        };
        let mut refusals = Vec::new();
        let mut refuse = |link: &Link, rule| {
            refusals.push(Refusal { a: link.a.min(link.b), b: link.a.max(link.b), first_seen: link.first_seen, rule });
        };
        let mut followed = Vec::new();
        for link in &links {
            let (links, kind) = (stronger(link.a), kind(link.a)).max((stronger(link.b), kind(link.b)));
            match caps.max_links {
                Some(most) if links > most => refuse(link, Rule::MaxLinks { kind, links: links as u32 }),
                _ => followed.push(*link),
            }
        }
        followed.sort_by_key(|link| {
            let (a, b) = (hash(link.a), hash(link.b));
            (link.first_seen, a.min(b), a.max(b))
        });
        let mut customers: Vec<BTreeSet<u32>> =
            (0..identifiers.len() as u32).map(|one| BTreeSet::from([one])).collect();
        for link in followed {
            let of = |end: u32| customers.iter().position(|customer| customer.contains(&end)).unwrap();
            let (a, b) = (of(link.a), of(link.b));
            if a == b {
                continue;
            }
            let united: BTreeSet<u32> = customers[a].union(&customers[b]).copied().collect();
            let values = |limited: u16| united.iter().filter(|member| kind(**member) == limited).count();
            if let Some((limited, _)) = caps.limits.iter().find(|(limited, most)| values(*limited) > *most) {
                refuse(link, Rule::Limit { kind: *limited, values: values(*limited) as u32 });
            } else if caps.max_identifiers.is_some_and(|most| united.len() > most) {
                refuse(link, Rule::MaxIdentifiers { identifiers: united.len() as u32 });
            } else {
                customers.retain(|customer| customer.is_disjoint(&united));
                customers.push(united);
            }
        }
        refusals.sort_by_key(|refusal| (refusal.a, refusal.b));
        let earliest = |position: u32| {
            let customer = customers.iter().find(|customer| customer.contains(&position)).unwrap();
            let age = |member: &&u32| (identifiers[**member as usize].first_seen, hash(**member));
            *customer.iter().min_by_key(age).unwrap()
        };
        Outcome { customers: (0..identifiers.len() as u32).map(earliest).collect(), refusals }
    }

    /// What can be reached from each identifier.
    fn reachable(count: usize, links: &[Link]) -> Vec<BTreeSet<u32>> {
        let mut neighbours: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for link in links {
            neighbours.entry(link.a).or_default().push(link.b);
            neighbours.entry(link.b).or_default().push(link.a);
        }
        let reach = |start: u32| {
            let (mut seen, mut queue) = (BTreeSet::from([start]), VecDeque::from([start]));
            while let Some(here) = queue.pop_front() {
                for next in neighbours.get(&here).into_iter().flatten() {
                    if seen.insert(*next) {
                        queue.push_back(*next);
                    }
                }
            }
            seen
        };
        (0..count as u32).map(reach).collect()
    }

    prop_compose! {
        /// Few times and kinds, so that ties and limits are met often.
        fn graphs()(count in 1u32..24)(
            times in prop::collection::vec(0i64..4, count as usize),
            kinds in prop::collection::vec(0u16..3, count as usize),
            pairs in prop::collection::btree_map((0..count, 0..count), 0i64..5, 0..40),
        ) -> (Vec<Identifier>, Vec<Link>) {
            let numbered = (0..).zip(times.into_iter().zip(kinds));
            let identifiers = numbered.map(|(number, (time, kind))| identifier(number, kind, time)).collect();
            let links = pairs.into_iter().filter(|((a, b), _)| a <= b).map(|((a, b), time)| link(a, b, time)).collect();
            (identifiers, links)
        }
    }

    prop_compose! {
        fn any_caps()(
            limits in prop::collection::btree_map(0u16..3, 0usize..4, 0..3),
            ranks in Just(vec![0usize, 1, 2]).prop_shuffle(),
            max_links in prop::option::of(0usize..6),
            max_identifiers in prop::option::of(0usize..10),
        ) -> Caps {
            Caps { limits: limits.into_iter().collect(), ranks, max_links, max_identifiers }
        }
    }

    proptest! {
        #[test]
        fn without_caps_customers_are_what_can_be_reached((identifiers, links) in graphs()) {
            let customers = resolve(&identifiers, &links, &Caps::default()).customers;
            let reachable = reachable(identifiers.len(), &links);
            for (position, reached) in reachable.iter().enumerate() {
                let has_same_customer = |other: &u32| customers[*other as usize] == customers[position];
                let same: BTreeSet<u32> = (0..customers.len() as u32).filter(has_same_customer).collect();
                prop_assert_eq!(&same, reached);
            }
        }

        #[test]
        fn caps_are_kept_as_the_rules_read((identifiers, links) in graphs(), caps in any_caps()) {
            prop_assert_eq!(resolve(&identifiers, &links, &caps), oracle(&identifiers, &links, &caps));
        }

        #[test]
        fn neither_numbers_nor_the_order_of_links_matter(
            (identifiers, links) in graphs(),
            caps in any_caps(),
            seed in prop::collection::vec(any::<u32>(), 64),
        ) {
            let mut numbers: Vec<u32> = (0..identifiers.len() as u32).collect();
            numbers.sort_by_key(|number| seed[*number as usize]);
            let mut renumbered = identifiers.clone();
            for (identifier, number) in identifiers.iter().zip(&numbers) {
                renumbered[*number as usize] = *identifier;
            }
            let new = |old: u32| numbers[old as usize];
            let mut shuffled: Vec<Link> =
                links.iter().map(|link| Link { a: new(link.b), b: new(link.a), ..*link }).collect();
            shuffled.sort_by_key(|link| seed[(link.a * 7 + link.b) as usize % seed.len()]);

            let expected = resolve(&identifiers, &links, &caps);
            let outcome = resolve(&renumbered, &shuffled, &caps);
            for (old, customer) in (0..).zip(&expected.customers) {
                prop_assert_eq!(outcome.customers[new(old) as usize], new(*customer));
            }
            let named = |refusal: &Refusal, number: &dyn Fn(u32) -> u32| {
                let (a, b) = (number(refusal.a), number(refusal.b));
                (a.min(b), a.max(b), refusal.first_seen, format!("{:?}", refusal.rule))
            };
            let expected: BTreeSet<_> = expected.refusals.iter().map(|refusal| named(refusal, &new)).collect();
            let refused: BTreeSet<_> = outcome.refusals.iter().map(|refusal| named(refusal, &|same| same)).collect();
            prop_assert_eq!(refused, expected);
        }
    }
}
