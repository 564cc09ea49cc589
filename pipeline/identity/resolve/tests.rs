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
    assert_eq!(outcome.customers, [0, 1, 1, 3, 1, 1]);
    assert_eq!(outcome.refusals, []);
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
    assert_eq!(outcome.customers, [0, 0]);
    assert_eq!(outcome.refusals, []);
}

#[test]
fn the_newest_of_links_that_break_a_limit_is_refused() {
    let mut identifiers = identifiers(3);
    identifiers[2].kind = 1;
    let caps = Caps { limits: vec![(0, 1)], ..Caps::default() };
    let refused = |a, b, first_seen| Refusal { a, b, first_seen, rule: Rule::Limit { kind: 0, values: 2 } };
    let outcome = resolve(&identifiers, &[link(0, 2, 9), link(1, 2, 8)], &caps);
    assert_eq!(outcome.customers, [0, 1, 1]);
    assert_eq!(outcome.refusals, [refused(0, 2, 9)]);
    let outcome = resolve(&identifiers, &[link(0, 2, 7), link(1, 2, 8)], &caps);
    assert_eq!(outcome.customers, [0, 1, 0]);
    assert_eq!(outcome.refusals, [refused(1, 2, 8)]);
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
    let ruled_on = |link: &&Link| caps.rulings.iter().find(|ruling| pair(ruling.a, ruling.b) == pair(link.a, link.b));
    let all = links;
    let links: Vec<_> = links.iter().filter(|link| link.a != link.b && ruled_on(link).is_none()).collect();
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
    let first_seen = |end: u32| identifiers[end as usize].first_seen;
    let mut ruled = Vec::new();
    for ruling in &caps.rulings {
        let seen = all.iter().find(|link| pair(ruling.a, ruling.b) == pair(link.a, link.b));
        let time = seen.map_or(first_seen(ruling.a).max(first_seen(ruling.b)), |link| link.first_seen);
        match (ruling.verdict, seen) {
            (Verdict::Link, _) => ruled.push(link(ruling.a, ruling.b, time)),
            (Verdict::Split, Some(link)) => refuse(link, Rule::Ruling { number: ruling.number }),
            (Verdict::Split, None) => {}
        }
    }
    let mut customers: Vec<BTreeSet<u32>> = (0..identifiers.len() as u32).map(|one| BTreeSet::from([one])).collect();
    for link in ruled.iter().chain(followed) {
        let of = |end: u32| customers.iter().position(|customer| customer.contains(&end)).unwrap();
        let (a, b) = (of(link.a), of(link.b));
        if a == b {
            continue;
        }
        let united: BTreeSet<u32> = customers[a].union(&customers[b]).copied().collect();
        let values = |limited: u16| united.iter().filter(|member| kind(**member) == limited).count();
        let is_split = |ruling: &&Ruled| {
            ruling.verdict == Verdict::Split && united.contains(&ruling.a) && united.contains(&ruling.b)
        };
        if let Some(Ruled { number, .. }) = caps.rulings.iter().find(is_split) {
            refuse(link, Rule::Ruling { number: *number });
        } else if let Some((limited, _)) = caps.limits.iter().find(|(limited, most)| values(*limited) > *most) {
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
    let components = reachable(identifiers.len(), &all.iter().chain(&ruled).copied().collect::<Vec<_>>());
    let smallest = |reached: &BTreeSet<u32>| *reached.iter().min_by_key(|position| hash(**position)).unwrap();
    Outcome {
        customers: (0..identifiers.len() as u32).map(earliest).collect(),
        components: components.iter().map(smallest).collect(),
        refusals,
    }
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
        Caps { limits: limits.into_iter().collect(), ranks, max_links, max_identifiers, rulings: Vec::new() }
    }
}

/// A few identifiers and links, caps, and rulings on some of the pairs.
fn cases() -> impl Strategy<Value = (Vec<Identifier>, Vec<Link>, Caps)> {
    let rulings = prop::collection::vec((any::<bool>(), any::<u32>(), any::<u32>()), 0..8);
    (graphs(), any_caps(), rulings).prop_map(|((identifiers, links), caps, drawn)| {
        let count = identifiers.len() as u32;
        let mut rulings: Vec<Ruled> = Vec::new();
        for (number, (is_link, a, b)) in (1..).zip(drawn) {
            let (a, b) = pair(a % count, b % count);
            if a != b && !rulings.iter().any(|ruling| (ruling.a, ruling.b) == (a, b)) {
                rulings.push(Ruled { number, verdict: if is_link { Verdict::Link } else { Verdict::Split }, a, b });
            }
        }
        (identifiers, links, Caps { rulings, ..caps })
    })
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
    fn caps_and_rulings_are_kept_as_the_rules_read((identifiers, links, caps) in cases()) {
        prop_assert_eq!(resolve(&identifiers, &links, &caps), oracle(&identifiers, &links, &caps));
    }

    #[test]
    fn a_component_resolves_the_same_whatever_the_others_are((identifiers, links, caps) in cases()) {
        let whole = resolve(&identifiers, &links, &caps);
        for component in whole.components.iter().copied().collect::<BTreeSet<u32>>() {
            let is_inside = |position: &u32| whole.components[*position as usize] == component;
            let members: Vec<u32> = (0..identifiers.len() as u32).filter(is_inside).collect();
            let of = |position: u32| members.binary_search(&position).unwrap() as u32;
            let inside = links.iter().filter(|link| is_inside(&link.a));
            let inside: Vec<_> = inside.map(|link| Link { a: of(link.a), b: of(link.b), ..*link }).collect();
            let alone: Vec<_> = members.iter().map(|position| identifiers[*position as usize]).collect();
            let rulings = caps.rulings.iter().filter(|ruling| is_inside(&ruling.a) && is_inside(&ruling.b));
            let rulings = rulings.map(|ruling| Ruled { a: of(ruling.a), b: of(ruling.b), ..*ruling }).collect();
            let outcome = resolve(&alone, &inside, &Caps { rulings, ..caps.clone() });
            for (position, member) in members.iter().enumerate() {
                prop_assert_eq!(members[outcome.customers[position] as usize], whole.customers[*member as usize]);
                prop_assert_eq!(members[outcome.components[position] as usize], component);
            }
            let refusals = whole.refusals.iter().filter(|refusal| is_inside(&refusal.a));
            let refusals: Vec<_> = refusals.map(|one| Refusal { a: of(one.a), b: of(one.b), ..*one }).collect();
            prop_assert_eq!(outcome.refusals, refusals);
        }
    }

    #[test]
    fn neither_numbers_nor_the_order_of_links_matter(
        (identifiers, links, caps) in cases(),
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
        let rulings = caps.rulings.iter().map(|ruling| Ruled { a: new(ruling.b), b: new(ruling.a), ..*ruling });
        let outcome = resolve(&renumbered, &shuffled, &Caps { rulings: rulings.collect(), ..caps.clone() });
        for (old, customer) in (0..).zip(&expected.customers) {
            prop_assert_eq!(outcome.customers[new(old) as usize], new(*customer));
            let component = expected.components[old as usize];
            prop_assert_eq!(outcome.components[new(old) as usize], new(component));
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
