//! Who an identifier belongs to, and to whom it belonged when less was known.

use hashbrown::HashSet;

use super::known::Known;
use super::rulings::Identifier;
use super::{resolve, stage};
use crate::error::Result;
use crate::functions::content_hash;
use crate::workspace::Workspace;

/// The customer of an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Id of the customer.
    pub customer_id: String,
    /// The customer's identifiers, by kind and value, with their first and last `occurred_at` in microseconds. The last is
    /// that of all events.
    pub identifiers: Vec<(Identifier, i64, i64)>,
}

/// Who an identifier belongs to; `None` when it is not known.
///
/// Without a time that is what the identity tables say, which are read from the session. With one it is what today's
/// rules and rulings make of the events that occurred up to it: identifiers and links first seen later are left out.
pub async fn who(workspace: &Workspace, identifier: &Identifier, at: Option<i64>) -> Result<Option<Who>> {
    let rules = stage::rules(workspace).await?;
    let keys = (HashSet::from([identifier.key()]), HashSet::new());
    let known = Known::of(&workspace.ctx, &workspace.blocked, keys, &rules.rulings, at).await?;
    let Known { customers, links, .. } = known;
    let resolution = resolve(links, &rules);
    let customer_of = |kind: &str, value: &str, customer: u32| match at {
        Some(_) => Some(resolution.customer_id(customer)),
        None => customers.get(&content_hash(kind, value)).map(hex::encode),
    };
    let everybody = || resolution.identifiers().map(|one| (customer_of(one.kind, one.value, one.customer), one));
    let is_meant = |kind: &str, value: &str| identifier.kind == kind && identifier.value == value;
    let Some((Some(customer_id), _)) = everybody().find(|(_, one)| is_meant(one.kind, one.value)) else {
        return Ok(None);
    };
    let of_customer = everybody().filter(|(customer, _)| customer.as_ref() == Some(&customer_id)).map(|(_, one)| {
        let identifier = Identifier { kind: one.kind.into(), value: one.value.into() };
        (identifier, one.first_seen, one.last_seen)
    });
    let identifiers = of_customer.collect();
    Ok(Some(Who { customer_id, identifiers }))
}
