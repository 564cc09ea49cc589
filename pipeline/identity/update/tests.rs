use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;

use super::*;
use crate::config;
use crate::identifiers::Blocked;
use crate::identity::rulings::{Ruling, Verdict};

type Event = (Vec<(String, String)>, i64);

/// The identity tables, kept as rows that updates replace.
#[derive(Clone, Default)]
struct Kept([Vec<RecordBatch>; 4]);

impl Kept {
    fn of(resolution: Resolution) -> Self {
        let resolution = Arc::new(resolution);
        Self([
            tables::identity_map(resolution.clone()).collect(),
            tables::identity_customers(resolution.clone()).collect(),
            tables::identity_links(resolution.clone()).collect(),
            tables::identity_refusals(resolution).collect(),
        ])
    }

    fn session(&self) -> SessionContext {
        let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        for ((name, schema), batches) in stage::TABLES.into_iter().zip(stage::schemas()).zip(&self.0) {
            let table = MemTable::try_new(schema, vec![batches.clone()]).unwrap();
            ctx.register_table(name, Arc::new(table)).unwrap();
        }
        ctx
    }

    fn replace(&mut self, update: &Update) {
        let new = [&update.map, &update.customers, &update.links, &update.refusals];
        let keys = ["component", "customer_id", "component", "component"];
        for ((batches, new), key) in self.0.iter_mut().zip(new).zip(keys) {
            let replaced = match key {
                "component" => &update.replaced_components,
                _ => &update.replaced_customers,
            };
            for batch in batches.iter_mut() {
                let column = batch.column_by_name(key).unwrap().as_string::<i32>();
                let stays = column.iter().map(|key| Some(!replaced.iter().any(|replaced| replaced == key.unwrap())));
                *batch = filter_record_batch(batch, &stays.collect::<BooleanArray>()).unwrap();
            }
            batches.extend(new.iter().cloned());
        }
    }

    /// The rows of each table as text, sorted.
    fn rows(&self) -> [Vec<Vec<String>>; 4] {
        let mut tables = stage::schemas().into_iter().zip(&self.0).map(|(schema, batches)| {
            let mut rows = texts_of(&concat_batches(&schema, batches).unwrap());
            rows.sort();
            rows
        });
        [(); 4].map(|()| tables.next().unwrap())
    }

    /// Customer of each identifier by key.
    fn customers(&self) -> BTreeMap<String, String> {
        let [map, ..] = self.rows();
        map.into_iter().map(|row| (row[2].clone(), row[3].clone())).collect()
    }
}

fn texts_of(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect()
}

fn links_of(events: &[Event]) -> Links {
    let mut links = Links::new();
    for (identifiers, time) in events {
        let identifiers = identifiers.iter().map(|(kind, value)| (kind.as_str(), value.as_str()));
        links.add_event(identifiers, *time, &Blocked::default()).unwrap();
    }
    links
}

async fn updated(kept: &Kept, events: &[Event], rules: &Rules) -> Update {
    let links = links_of(events);
    let keys = (links.identity_keys(), HashSet::new());
    let known = Known::of(&kept.session(), &Blocked::default(), keys, &rules.rulings, None).await.unwrap();
    resolved(known, links, rules, "new data").unwrap()
}

fn event(identifiers: &str, time: i64) -> Event {
    let pairs = identifiers.split_whitespace().map(|identifier| identifier.split_once(':').unwrap());
    (pairs.map(|(kind, value)| (kind.to_string(), value.to_string())).collect(), time)
}

#[tokio::test]
async fn only_what_new_events_touch_is_resolved_again() {
    let events = [event("user_id:ann email:a@x.example", 1), event("user_id:bob", 2), event("user_id:cleo", 3)];
    let rules = Rules::default();
    let kept = Kept::of(resolve(links_of(&events), &rules));
    let before = kept.customers();
    let update = updated(&kept, &[event("user_id:bob email:a@x.example phone:5550101", 9)], &rules).await;
    assert_eq!(update.replaced_components.len(), 2, "Ann's and Bob's, not Cleo's");
    assert_eq!(update.replaced_customers.len(), 2);
    assert_eq!((update.resolved.components, update.resolved.identifiers, update.resolved.customers), (1, 4, 1));
    let (ann, bob) = (&before["user_id:ann"], &before["user_id:bob"]);
    let expected = [
        ["email:a@x.example", ann, ann],
        ["phone:5550101", "null", ann],
        ["user_id:ann", ann, ann],
        ["user_id:bob", bob, ann],
    ];
    assert_eq!(texts_of(&update.moves), expected.map(|row| row.map(String::from).to_vec()));
}

#[tokio::test]
async fn a_ruling_on_a_new_identifier_leads_on_to_what_it_links() {
    let [ann, bob, card] =
        [("user_id", "ann"), ("user_id", "bob"), ("loyalty_id", "L-7")].map(|(kind, value)| identifier(kind, value));
    let journal = [(true, card.clone(), ann), (true, card, bob)];
    let rules = Rules { rulings: rulings(journal), ..Rules::default() };
    let kept = Kept::of(resolve(links_of(&[event("user_id:ann", 1), event("user_id:bob", 2)]), &rules));
    assert_eq!(kept.customers().values().collect::<BTreeSet<_>>().len(), 2);
    let update = updated(&kept, &[event("loyalty_id:L-7", 3)], &rules).await;
    assert_eq!(update.replaced_components.len(), 2);
    assert_eq!((update.resolved.identifiers, update.resolved.customers), (3, 1));
}

#[tokio::test]
async fn events_without_usable_identifiers_touch_nothing() {
    let kept = Kept::of(resolve(links_of(&[event("user_id:ann", 1)]), &Rules::default()));
    for events in [vec![], vec![event("", 2), event("user_id:null", 3)]] {
        let update = updated(&kept, &events, &Rules::default()).await;
        assert!(update.replaced_components.is_empty() && update.replaced_customers.is_empty());
        assert_eq!((update.map.len(), update.customers.len(), update.moves.num_rows()), (0, 0, 0));
    }
}

const KINDS: [&str; 4] = ["anonymous_id", "email", "loyalty_id", "user_id"];

fn identifier(kind: &str, value: &str) -> Identifier {
    Identifier { kind: kind.into(), value: value.into() }
}

fn rulings(drawn: impl IntoIterator<Item = (bool, Identifier, Identifier)>) -> Rulings {
    let ruling = |(number, (is_link, from, to))| {
        let verdict = if is_link { Verdict::Link } else { Verdict::Split };
        let [reason, ruled_by, ruled_at] = [(); 3].map(|()| String::new());
        Ruling { number, verdict, from, to, reason, ruled_by, ruled_at }
    };
    Rulings::in_force(&(1..).zip(drawn).map(ruling).collect::<Vec<_>>())
}

/// Few kinds, values and times, so that ties, merges and guards are met often.
fn any_event() -> impl Strategy<Value = Event> {
    let pair = (0usize..4, 0u32..8).prop_map(|(kind, number)| (KINDS[kind].into(), format!("v-{number}")));
    (prop::collection::vec(pair, 0..4), 0i64..6)
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let end = || (0usize..4, 0u32..8).prop_map(|(kind, number)| identifier(KINDS[kind], &format!("v-{number}")));
    let rulings = prop::collection::vec((any::<bool>(), end(), end()), 0..6);
    let limits = prop::collection::btree_map("email|user_id", 1usize..3, 0..3);
    let caps = (prop::option::of(1usize..5), prop::option::of(1usize..9));
    (limits, caps, rulings).prop_map(|(limits, (max_links, max_identifiers), drawn)| {
        let priority = config::Identity::default().priority;
        Rules { limits, priority, max_links, max_identifiers, rulings: self::rulings(drawn) }
    })
}

proptest! {
    #[test]
    fn updates_end_where_resolving_everything_does(
        events in prop::collection::vec((any_event(), 0usize..6), 0..32),
        rules in any_rules(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut kept, mut seen) = (Kept::default(), Vec::new());
        for batch in 0..6 {
            let of_batch = events.iter().filter(|(_, number)| *number == batch);
            let new: Vec<Event> = of_batch.map(|(event, _)| event.clone()).collect();
            let update = runtime.block_on(updated(&kept, &new, &rules));
            let before = kept.customers();
            kept.replace(&update);
            seen.extend(new);

            let whole = Kept::of(resolve(links_of(&seen), &rules));
            prop_assert_eq!(kept.rows(), whole.rows());
            let after = kept.customers();
            let moves: BTreeMap<_, _> =
                texts_of(&update.moves).into_iter().map(|row| (row[0].clone(), (row[1].clone(), row[2].clone()))).collect();
            for (key, (customer_before, customer)) in &moves {
                prop_assert_eq!(before.get(key).map_or("null", String::as_str), customer_before);
                prop_assert_eq!(&after[key], customer);
            }
            let is_told = |(key, customer): (&String, &String)| moves.contains_key(key) || before.get(key) == Some(customer);
            prop_assert!(after.iter().all(is_told));
        }
    }
}
