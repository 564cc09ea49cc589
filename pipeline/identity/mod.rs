//! Customers from identifiers.
//!
//! [`Links`] collects which identifiers were seen together; [`resolve()`] makes customers of them, as far as [`Rules`]
//! allow; [`tables`] shows the result as `identity_map`, `identity_customers`, `identity_links` and `identity_refusals`. An
//! event belongs to the customer of its strongest identifier, which [`identity_key_udf`] tells and
//! `identity_map.identity_key` joins. [`rulings`] are what people decided beyond that. [`update()`] resolves again what new
//! events touch, and [`who()`] tells whose an identifier is or was.
//!
//! The result depends on the set of events, the rules and the rulings alone: not on the order of events, nor on batches or threads.

mod columns;
mod combinations;
mod components;
mod identity_key;
mod interner;
mod known;
mod links;
mod number_index;
mod resolve;
/// What people decided about two identifiers.
pub mod rulings;
/// The stage between landing and models.
pub mod stage;
/// The identity tables as record batches.
pub mod tables;
/// What new events change of the identity tables.
pub mod update;
mod who;

use std::collections::BTreeMap;

pub use identity_key::{identity_key, identity_key_udf};
pub use links::Links;
pub use update::{Update, restate, update};
pub use who::{Who, who};

use crate::config;
use links::Collected;
use resolve::{Caps, Refusal, Rule, Ruled};
use rulings::Rulings;

/// Guards against fusing strangers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Most distinct values of a kind that one customer may have. Of several broken limits the first by kind is named.
    pub limits: BTreeMap<String, usize>,
    /// Kinds from the strongest to the weakest; those not named follow by name.
    pub priority: Vec<String>,
    /// Most distinct identifiers of stronger kinds that one may be linked with; beyond it all its links are refused.
    /// `None`: no limit.
    pub max_links: Option<usize>,
    /// Most identifiers of a customer. `None`: no limit.
    pub max_identifiers: Option<usize>,
    /// What people decided.
    pub rulings: Rulings,
}

/// `[identity]`, without rulings, where 0 stands for no limit.
impl From<&config::Identity> for Rules {
    fn from(identity: &config::Identity) -> Self {
        let limit = |most: usize| (most > 0).then_some(most);
        Self {
            limits: identity.limits.iter().filter_map(|(kind, most)| Some((kind.clone(), limit(*most)?))).collect(),
            priority: identity.priority.clone(),
            max_links: limit(identity.max_links),
            max_identifiers: limit(identity.max_identifiers),
            rulings: Rulings::default(),
        }
    }
}

/// Identifiers, their customers, and the links between them, followed or refused.
#[derive(Debug)]
pub struct Resolution {
    collected: Collected,
    /// For each identifier the position of the earliest of its customer.
    customers: Vec<u32>,
    /// For each identifier the position of the one with the smallest hash in its component.
    components: Vec<u32>,
    refusals: Vec<Refusal>,
}

/// An identifier and its customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedIdentifier<'a> {
    /// Kind.
    pub kind: &'a str,
    /// Value.
    pub value: &'a str,
    /// The customer: position, in the order of [`Resolution::identifiers`], of its earliest identifier.
    pub customer: u32,
    /// The component: position of the identifier with the smallest content hash that links lead to, followed or not.
    pub component: u32,
    /// First `occurred_at`, in microseconds.
    pub first_seen: i64,
    /// Last `occurred_at`, in microseconds.
    pub last_seen: i64,
}

/// Resolves identifiers to customers.
///
/// Rulings come first: those that link are followed by number, those that split refuse the link of their pair and every
/// other that would make its two ends one customer (rule `ruling`). Neither asks `max_links`, but a ruling that links
/// can be refused by a limit, by `max_identifiers`, or by one that splits. A ruling on an identifier that no event has
/// shown waits until one does. The link that events made of a pair with a ruling plays no part of its own.
///
/// Then all links of identifiers with more than `max_links` neighbours of stronger kinds are refused (rule `max_links`).
/// The others are followed by (first seen, hashes of their ends), unless the customer would break a limit (rule `limit:<kind>`) or
/// have too many identifiers (rule `max_identifiers`). A customer is named by its earliest identifier: by first seen,
/// then by hash.
///
/// Near linear: ten million identifiers and as many links take seconds. Memory: [`Links`] and about 150 bytes per
/// identifier on top, for a while.
pub fn resolve(links: Links, rules: &Rules) -> Resolution {
    let collected = links.collect();
    let number = |kind: &String| collected.kinds.binary_search(kind).ok().and_then(|kind| u16::try_from(kind).ok());
    let limits = rules.limits.iter().filter_map(|(kind, most)| Some((number(kind)?, *most))).collect();
    let ranks = ranks(&collected.kinds, &rules.priority);
    let Rules { max_links, max_identifiers, .. } = *rules;
    let caps = Caps { limits, ranks, max_links, max_identifiers, rulings: positions(&collected, &rules.rulings) };
    let outcome = resolve::resolve(&collected.identifiers, &collected.links, &caps);
    let resolve::Outcome { customers, components, refusals } = outcome;
    Resolution { collected, customers, components, refusals }
}

/// The rulings on identifiers that were collected, by number.
fn positions(collected: &Collected, rulings: &Rulings) -> Vec<Ruled> {
    let position = |identifier: &rulings::Identifier| collected.position(&identifier.kind, &identifier.value);
    let ruled = rulings.iter().filter_map(|(from, to, number, verdict)| {
        Some(Ruled { number, verdict, a: position(from)?, b: position(to)? })
    });
    let mut ruled: Vec<_> = ruled.collect();
    ruled.sort_unstable_by_key(|ruling| ruling.number);
    ruled
}

/// Rank of each of these kinds, which are in the order of their names: 0 is the strongest.
fn ranks(kinds: &[String], priority: &[String]) -> Vec<usize> {
    let named = |kind: &String| priority.iter().position(|named| named == kind);
    kinds.iter().enumerate().map(|(number, kind)| named(kind).unwrap_or(priority.len() + number)).collect()
}

impl Resolution {
    /// Every usable identifier, by kind and value.
    pub fn identifiers(&self) -> impl ExactSizeIterator<Item = ResolvedIdentifier<'_>> {
        (0..self.customers.len()).map(|position| self.identifier(position))
    }

    /// Id of a customer: 32 hex digits of the content hash of its earliest identifier.
    pub fn customer_id(&self, customer: u32) -> String {
        hex::encode(self.collected.identifiers[customer as usize].hash)
    }

    /// Key of a component: 32 hex digits of the smallest content hash of its identifiers.
    pub fn component_key(&self, component: u32) -> String {
        hex::encode(self.collected.identifiers[component as usize].hash)
    }

    /// Distinct usable identifiers.
    pub fn identifier_count(&self) -> usize {
        self.customers.len()
    }

    /// Customers that have an identifier.
    pub fn customer_count(&self) -> usize {
        self.customers.iter().zip(0..).filter(|(customer, position)| *customer == position).count()
    }

    /// Components: sets of identifiers that no link leads out of.
    pub fn component_count(&self) -> usize {
        self.components.iter().zip(0..).filter(|(component, position)| *component == position).count()
    }

    /// Distinct pairs of identifiers seen on one event.
    pub fn link_count(&self) -> usize {
        self.collected.links.len()
    }

    /// Links not followed, by rule.
    pub fn refusal_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for refusals in self.refusals.chunk_by(|a, b| a.rule == b.rule) {
            *counts.entry(self.rule_name(refusals[0].rule)).or_default() += refusals.len();
        }
        counts
    }

    /// Identifiers on events that were left out because they are blocked, as often as they came.
    pub fn blocked_count(&self) -> u64 {
        self.collected.blocked
    }

    /// The identifier at a position in the order of [`Resolution::identifiers`].
    pub fn identifier(&self, position: usize) -> ResolvedIdentifier<'_> {
        let identifier = &self.collected.identifiers[position];
        ResolvedIdentifier {
            kind: self.kind(identifier.kind),
            value: self.collected.value(position),
            customer: self.customers[position],
            component: self.components[position],
            first_seen: identifier.first_seen,
            last_seen: identifier.last_seen,
        }
    }

    fn kind(&self, kind: u16) -> &str {
        &self.collected.kinds[usize::from(kind)]
    }

    /// Name of a rule as in `identity_refusals.rule`.
    fn rule_name(&self, rule: Rule) -> String {
        match rule {
            Rule::MaxLinks { .. } => "max_links".into(),
            Rule::Limit { kind, .. } => format!("limit:{}", self.kind(kind)),
            Rule::MaxIdentifiers { .. } => "max_identifiers".into(),
            Rule::Ruling { .. } => "ruling".into(),
        }
    }

    /// What broke the rule, as in `identity_refusals.detail`.
    fn rule_detail(&self, rule: Rule) -> String {
        match rule {
            Rule::MaxLinks { kind, links } => {
                format!("{} was seen with {links} identifiers of stronger kinds", self.kind(kind))
            }
            Rule::Limit { kind, values } => format!("the customer would have {values} values of {}", self.kind(kind)),
            Rule::MaxIdentifiers { identifiers } => format!("the customer would have {identifiers} identifiers"),
            Rule::Ruling { number } => format!("the customer would have two identifiers that ruling {number} splits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::rulings::{Ruling, Verdict};
    use super::*;
    use crate::functions::content_id;
    use crate::identifiers::Blocked;

    type Event = (Vec<(String, String)>, i64);

    /// An event of identifiers written as `kind:value`.
    fn event(identifiers: &str, time: i64) -> Event {
        let pairs = identifiers.split_whitespace().map(|identifier| identifier.split_once(':').unwrap());
        (pairs.map(|(kind, value)| (kind.to_string(), value.to_string())).collect(), time)
    }

    fn resolved(events: &[Event], rules: &Rules) -> Resolution {
        let mut links = Links::new();
        for (identifiers, time) in events {
            let identifiers = identifiers.iter().map(|(kind, value)| (kind.as_str(), value.as_str()));
            links.add_event(identifiers, *time, &Blocked::default()).unwrap();
        }
        resolve(links, rules)
    }

    /// The kinds in their usual order, and no limits.
    fn by_priority() -> Rules {
        Rules { priority: config::Identity::default().priority, ..Rules::default() }
    }

    /// Customers as their identifiers in order, each customer as `kind:value …`.
    fn customers(resolution: &Resolution) -> Vec<String> {
        let mut customers: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for identifier in resolution.identifiers() {
            customers.entry(identifier.customer).or_default().push(identity_key(identifier.kind, identifier.value));
        }
        let mut customers: Vec<_> = customers.into_values().map(|identifiers| identifiers.join(" ")).collect();
        customers.sort();
        customers
    }

    fn customer_of(resolution: &Resolution, key: &str) -> String {
        let found = resolution.identifiers().find(|identifier| identity_key(identifier.kind, identifier.value) == key);
        resolution.customer_id(found.unwrap().customer)
    }

    #[test]
    fn a_person_is_followed_from_cookie_to_loyalty_card_over_devices() {
        let events = [
            event("anonymous_id:laptop", 1),
            event("anonymous_id:laptop user_id:ann", 2),
            event("anonymous_id:phone", 3),
            event("user_id:ann email:ann@example.com", 4),
            event("anonymous_id:phone email:ann@example.com", 5),
            event("email:ann@example.com loyalty_id:L-7", 6),
            event("loyalty_id:L-7", 7),
            event("anonymous_id:library user_id:bob", 8),
        ];
        let resolution = resolved(&events, &Rules::default());
        let ann = "anonymous_id:laptop anonymous_id:phone email:ann@example.com loyalty_id:L-7 user_id:ann";
        assert_eq!(customers(&resolution), [ann, "anonymous_id:library user_id:bob"]);
        assert_eq!(customer_of(&resolution, "loyalty_id:L-7"), content_id("anonymous_id", "laptop"));
        assert_eq!((resolution.identifier_count(), resolution.link_count(), resolution.customer_count()), (7, 5, 2));
    }

    #[test]
    fn a_customer_keeps_its_id_when_it_grows_and_the_elder_id_when_two_merge() {
        let mut events = vec![event("user_id:ann", 10), event("email:ann@example.com", 20)];
        let apart = resolved(&events, &Rules::default());
        events.push(event("user_id:ann email:ann@example.com", 30));
        let merged = resolved(&events, &Rules::default());
        for key in ["user_id:ann", "email:ann@example.com"] {
            assert_eq!(customer_of(&merged, key), customer_of(&apart, "user_id:ann"));
        }
    }

    #[test]
    fn a_kiosk_with_ten_thousand_logins_fuses_nobody() {
        let login =
            |number: i64| event(&format!("device_id:kiosk user_id:u{number} email:u{number}@example.com"), number);
        let rules = Rules { max_links: Some(50), ..by_priority() };
        let resolution = resolved(&(0..10_000).map(login).collect::<Vec<_>>(), &rules);
        assert_eq!(resolution.customer_count(), 10_001);
        assert_eq!(resolution.refusal_counts(), BTreeMap::from([("max_links".to_string(), 20_000)]));
        assert_eq!(customers(&resolution)[0], "device_id:kiosk");
        assert_eq!(customers(&resolution)[1], "email:u0@example.com user_id:u0");
    }

    #[test]
    fn a_login_that_sees_a_new_cookie_every_week_stays_one_customer_with_one_id() {
        let visit = |week: i64| event(&format!("user_id:ann anonymous_id:cookie-{week}"), week);
        let weeks: Vec<_> = (0..60).map(visit).collect();
        let rules = Rules::from(&config::Identity::default());
        for count in [1, 49, 50, 51, 60] {
            let resolution = resolved(&weeks[..count], &rules);
            assert_eq!(
                customer_of(&resolution, "user_id:ann"),
                content_id("user_id", "ann").min(content_id("anonymous_id", "cookie-0"))
            );
            assert!(!resolution.refusal_counts().contains_key("max_links"), "{count} weeks");
        }
        // Beyond the size of a customer the newest cookies are refused, and the customer keeps what it has.
        assert_eq!(resolved(&weeks, &rules).refusal_counts(), BTreeMap::from([("max_identifiers".to_string(), 11)]));
    }

    #[test]
    fn one_mailbox_on_many_people_is_set_apart() {
        let order = |number: i64| event(&format!("user_id:u{number} email:info@shop.example"), number);
        let rules = Rules { max_links: Some(50), ..by_priority() };
        let resolution = resolved(&(0..51).map(order).collect::<Vec<_>>(), &rules);
        assert_eq!(resolution.customer_count(), 52);
        let resolution = resolved(&(0..50).map(order).collect::<Vec<_>>(), &rules);
        assert_eq!(resolution.customer_count(), 1, "fifty people may share one");
    }

    #[test]
    fn two_logins_joined_by_a_cookie_stay_two_customers_under_a_limit() {
        let events = [event("user_id:ann anonymous_id:tablet", 1), event("user_id:bob anonymous_id:tablet", 2)];
        let limits = BTreeMap::from([("user_id".to_string(), 1), ("fax".to_string(), 1)]);
        let resolution = resolved(&events, &Rules { limits, ..Rules::default() });
        assert_eq!(customers(&resolution), ["anonymous_id:tablet user_id:ann", "user_id:bob"]);
        assert_eq!(resolution.refusal_counts(), BTreeMap::from([("limit:user_id".to_string(), 1)]));
    }

    /// Rulings written as `link kind:value kind:value`, numbered from 1.
    fn ruled(journal: &[&str]) -> Rules {
        let identifier = |key: &str| {
            let (kind, value) = key.split_once(':').unwrap();
            rulings::Identifier { kind: kind.into(), value: value.into() }
        };
        let ruling = |(number, line): (u32, &&str)| {
            let words: Vec<_> = line.split(' ').collect();
            let verdict = if words[0] == "link" { Verdict::Link } else { Verdict::Split };
            let [reason, ruled_by, ruled_at] = [(); 3].map(|()| String::new());
            let (from, to) = (identifier(words[1]), identifier(words[2]));
            Ruling { number, verdict, from, to, reason, ruled_by, ruled_at }
        };
        let journal: Vec<_> = (1..).zip(journal).map(ruling).collect();
        Rules { rulings: Rulings::in_force(&journal), ..by_priority() }
    }

    #[test]
    fn a_ruling_splits_two_logins_whatever_ways_lead_from_one_to_the_other() {
        let events = [
            event("user_id:ann email:both@example.com", 1),
            event("user_id:bob email:both@example.com", 2),
            event("user_id:ann user_id:bob", 3),
            event("user_id:ann device_id:tablet", 4),
            event("device_id:tablet user_id:bob", 5),
        ];
        let resolution = resolved(&events, &ruled(&["split user_id:bob user_id:ann"]));
        assert_eq!(customers(&resolution), ["device_id:tablet email:both@example.com user_id:ann", "user_id:bob"]);
        assert_eq!(resolution.refusal_counts(), BTreeMap::from([("ruling".to_string(), 3)]));
        assert_eq!(resolution.component_count(), 1);
    }

    #[test]
    fn a_ruling_links_what_no_event_showed_together_and_the_newest_is_in_force() {
        let events =
            [event("user_id:ann", 1), event("loyalty_id:L-7", 2), event("loyalty_id:L-7 email:a@x.example", 3)];
        let link = "link loyalty_id:L-7 user_id:ann";
        let resolution = resolved(&events, &ruled(&[link]));
        assert_eq!(customers(&resolution), ["email:a@x.example loyalty_id:L-7 user_id:ann"]);
        assert_eq!((resolution.link_count(), resolution.component_count()), (1, 1));
        let resolution = resolved(&events, &ruled(&[link, "split user_id:ann loyalty_id:L-7"]));
        assert_eq!((resolution.customer_count(), resolution.component_count()), (2, 2));
        assert!(resolution.refusal_counts().is_empty(), "no event showed the two together");
        let unknown = resolved(&events, &ruled(&["link loyalty_id:L-8 user_id:ann"]));
        assert_eq!(unknown.customer_count(), 2, "a ruling waits for its identifiers");
    }

    #[test]
    fn a_ruling_that_links_passes_max_links_but_no_limit() {
        let login = |number: i64| event(&format!("device_id:kiosk user_id:u{number}"), number);
        let events: Vec<_> = (0..9).map(login).collect();
        let rules = ruled(&["link device_id:kiosk user_id:u3", "link user_id:u4 device_id:kiosk"]);
        let resolution = resolved(&events, &Rules { max_links: Some(5), ..rules.clone() });
        assert_eq!(customers(&resolution)[0], "device_id:kiosk user_id:u3 user_id:u4");
        assert_eq!(resolution.refusal_counts(), BTreeMap::from([("max_links".to_string(), 7)]));
        let limits = BTreeMap::from([("user_id".to_string(), 1)]);
        let resolution = resolved(&events, &Rules { max_links: Some(5), limits, ..rules });
        assert_eq!(customers(&resolution)[0], "device_id:kiosk user_id:u3");
        let refused = [("limit:user_id".to_string(), 1), ("max_links".to_string(), 7)];
        assert_eq!(resolution.refusal_counts(), BTreeMap::from(refused));
    }

    #[test]
    fn sentinels_fuse_nobody() {
        let events: Vec<_> =
            (0..100).map(|number| event(&format!("user_id:u{number} email:null device_id:0"), 1)).collect();
        let resolution = resolved(&events, &Rules::default());
        assert_eq!((resolution.customer_count(), resolution.blocked_count()), (100, 200));
    }

    #[test]
    fn zero_in_the_configuration_is_no_limit() {
        let limits = BTreeMap::from([("email".to_string(), 0), ("phone".to_string(), 2)]);
        let identity = config::Identity { limits, max_links: 0, max_identifiers: 7, ..config::Identity::default() };
        let rules = Rules::from(&identity);
        assert_eq!((rules.max_links, rules.max_identifiers), (None, Some(7)));
        assert_eq!(rules.limits, BTreeMap::from([("phone".to_string(), 2)]));
    }

    prop_compose! {
        fn any_event()(
            identifiers in prop::collection::vec((0usize..4, 0u32..6), 0..4),
            time in 0i64..6,
        ) -> Event {
            let kinds = ["anonymous_id", "email", "loyalty_id", "user_id"];
            let pair = |(kind, number): (usize, u32)| (kinds[kind].to_string(), format!("{}-{number}", kinds[kind]));
            (identifiers.into_iter().map(pair).collect(), time)
        }
    }

    proptest! {
        #[test]
        fn the_order_of_events_never_matters(
            events in prop::collection::vec(any_event(), 0..40),
            shuffle in prop::collection::vec(any::<u32>(), 40),
            max_links in prop::option::of(1usize..6),
            max_identifiers in prop::option::of(1usize..8),
            limit in prop::option::of(1usize..3),
        ) {
            let limits = limit.map(|most| ("email".to_string(), most)).into_iter().collect();
            let rules = Rules { limits, max_links, max_identifiers, ..by_priority() };
            let mut shuffled: Vec<_> = events.iter().zip(&shuffle).collect();
            shuffled.sort_by_key(|(_, place)| **place);
            let shuffled: Vec<Event> = shuffled.into_iter().map(|(event, _)| event.clone()).collect();
            let (one, other) = (resolved(&events, &rules), resolved(&shuffled, &rules));
            prop_assert!(one.identifiers().eq(other.identifiers()));
            prop_assert_eq!(&one.collected.links, &other.collected.links);
            prop_assert_eq!(&one.refusals, &other.refusals);
        }
    }
}
