//! Whom a step from one state to the next touches: the customers of some events, and those of identifiers that moved.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray};
use hashbrown::{HashMap, HashSet};

use crate::config::Config;
use crate::derived::changes::{Changes, State};
use crate::derived::keys;
use crate::derived::window::Window;
use crate::engine;
use crate::error::Result;
use crate::functions::content_id;
use crate::identity::update::{Update, customers_of};
use crate::landing::events::PARTITION;
use crate::workspace::Workspace;

/// Events whose customers are touched.
pub struct EventsOfTouched {
    /// Those with an identifier, by their identity key.
    by_key: HashMap<String, Vec<String>>,
    /// Customers who are the customer of one event, which has no identifier.
    customers: BTreeSet<String>,
}

impl EventsOfTouched {
    /// Finds them: new events, those of a backfill, and those that have come to an age that is configured or was in a state
    /// that is remembered, since what was made in that may follow from there.
    pub async fn of(workspace: &Workspace, changes: &Changes, last: &State, now: &State) -> Result<Self> {
        let ages = changes.states.iter().chain([now]).flat_map(|state| &state.ages).copied().collect();
        let conditions = conditions(last, now, &ages);
        let events: Vec<String> = conditions
            .iter()
            .map(|condition| {
                format!("select event_id, identity_key(identifiers) as identity_key from events where {condition}")
            })
            .collect();
        let ctx = engine::reading_few_rows(&workspace.ctx);
        let mut found = Self { by_key: HashMap::new(), customers: BTreeSet::new() };
        for batch in engine::query(&ctx, &events.join(" union all ")).await?.collect().await? {
            let (events, keys) = (keys::as_text(batch.column(0))?, batch.column(1).as_string::<i32>());
            for (event, key) in events.iter().flatten().zip(keys) {
                match key {
                    Some(key) => found.by_key.entry_ref(key).or_default().push(event.to_string()),
                    None => drop(found.customers.insert(content_id("event", event))),
                }
            }
        }
        Ok(found)
    }

    /// Their identity keys.
    pub fn keys(&self) -> HashSet<String> {
        self.by_key.keys().cloned().collect()
    }

    /// Their customers by the identity tables as they are.
    pub async fn customers(self, workspace: &Workspace) -> Result<BTreeSet<String>> {
        let known = customers_of(&workspace.ctx, self.keys()).await?;
        Ok(self.of_keys(|key| known.get(key)))
    }

    /// Their customers by identity tables that were updated, and the customers of identifiers that are new or belong to
    /// another than before, under both ids. The update must have been asked for their keys.
    pub fn customers_after(self, update: &Update) -> BTreeSet<String> {
        let moves = &update.moves;
        let [keys, before, now] = [0, 1, 2].map(|column| moves.column(column).as_string::<i32>());
        let mut moved = BTreeSet::new();
        let mut resolved: HashMap<&str, String> = HashMap::with_capacity(moves.num_rows());
        for row in 0..moves.num_rows() {
            let now = now.value(row);
            resolved.insert(keys.value(row), now.to_string());
            let before = before.is_valid(row).then(|| before.value(row));
            if before != Some(now) {
                // A new identifier may belong to another customer than the event that showed it.
                moved.extend(before.into_iter().chain([now]).map(String::from));
            }
        }
        let mut customers = self.of_keys(|key| resolved.get(key).or_else(|| update.customers_before.get(key)));
        customers.extend(moved);
        customers
    }

    fn of_keys<'c>(self, customer: impl Fn(&str) -> Option<&'c String>) -> BTreeSet<String> {
        let mut customers = self.customers;
        for (key, events) in self.by_key {
            match customer(&key) {
                Some(customer) => drop(customers.insert(customer.clone())),
                None => customers.extend(events.iter().map(|event| content_id("event", event))),
            }
        }
        customers
    }
}

/// At which ages of an event its customer's rows may change.
pub fn ages(config: &Config) -> BTreeSet<i64> {
    let windows = config.funnels.iter().map(|funnel| funnel.window.micros());
    [0, config.journeys.timeout.micros()].into_iter().chain(windows).collect()
}

/// Conditions of the events whose customers are touched: new ones, those of a backfill, and those that have come to one of
/// the ages between the two logical times.
fn conditions(last: &State, now: &State, ages: &BTreeSet<i64>) -> Vec<String> {
    let mut conditions = vec![format!("batch > {}", last.batch)];
    conditions.extend(now.backfill.map(|Window { since, until }| occurred_between(since, until - 1)));
    let (Some(before), Some(after)) = (last.as_of, now.as_of) else { return conditions };
    if before == after {
        return conditions;
    }
    for &age in ages {
        // Both ends are in: whether a rule says `<` or `<=` is its own affair.
        let (first, end) = (before.min(after).saturating_sub(age), before.max(after).saturating_sub(age));
        conditions.push(occurred_between(first, end));
    }
    conditions
}

/// A condition of events, given their first and their last instant.
pub fn occurred_between(first: i64, last: i64) -> String {
    format!(
        "{PARTITION} between cast(to_timestamp_micros({first}) as date) and cast(to_timestamp_micros({last}) as date) \
         and occurred_at between to_timestamp_micros({first}) and to_timestamp_micros({last})"
    )
}
