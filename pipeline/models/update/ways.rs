//! How each planned model would be made, as far as that can be told before it is: what does not fit then is built whole.

use super::Group;
use crate::derived::changes::Changes;
use crate::derived::{self, Stale};
use crate::error::Result;
use crate::landing::events::PARTITION;
use crate::models::graph::Graph;
use crate::models::header::Build;
use crate::models::{Planned, settings};

/// How a model is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// The rows of touched customers.
    Customers,
    /// The rows of days in this column.
    Days(String),
    /// What is added and taken off; in a backfill all rows.
    Sums,
    /// All rows.
    Whole,
}

/// The way of each planned model; `None` for one that is left as it is.
pub fn ways(graph: &Graph, planned: &[Planned], changes: &Changes) -> Result<Vec<Option<Way>>> {
    let group = Group::find(graph, planned, changes)?;
    let mut ways: Vec<Option<Way>> = Vec::with_capacity(planned.len());
    for (at, step) in planned.iter().enumerate() {
        let way = match (&step.reason, &step.model.header.build, &group) {
            (None, ..) | (_, Build::View, _) => None,
            (Some(_), _, Some(group)) if group.steps.contains(&at) => Some(Way::Customers),
            (Some(reason), Build::BySum(_), Some(group)) if reason.is_of_rows() => {
                Some(if is_in_place(graph, planned, at, changes, group, &ways) { Way::Sums } else { Way::Whole })
            }
            (Some(reason), Build::ByDay(day), Some(group)) if reason.is_of_rows() => {
                let is_by_day = is_made_by_day(graph, planned, at, day, changes, group, &ways)?;
                Some(if is_by_day { Way::Days(day.clone()) } else { Way::Whole })
            }
            _ => Some(Way::Whole),
        };
        ways.push(way);
    }
    Ok(ways)
}

/// Whether what a model by day reads is what it was in the group's state, or is changed by customer or by day.
fn is_made_by_day(
    graph: &Graph,
    planned: &[Planned],
    at: usize,
    day: &str,
    changes: &Changes,
    group: &Group,
    ways: &[Option<Way>],
) -> Result<bool> {
    let since = &changes.states[group.since];
    let model = &planned[at].model;
    let before = derived::built_from(planned[at].table.as_ref())?;
    if !before.is_some_and(|before| since.holds(&model.name, &before)) {
        return Ok(false);
    }
    let newest = changes.states.last().unwrap_or(since);
    Ok(graph.expanded(&model.reads).iter().all(|read| {
        match planned.iter().position(|other| other.model.name == *read) {
            Some(other) if planned[other].model.header.build == Build::View => true,
            Some(other) if planned[other].reason.as_ref().is_some_and(Stale::is_of_rows) => {
                matches!(ways.get(other), Some(Some(Way::Customers | Way::Days(_) | Way::Sums)))
            }
            Some(other) => Some(&planned[other].built_from.fingerprint()) == since.fingerprints.get(read),
            None if settings::is_setting(read) => true,
            None if read == "as_of" => false,
            None if read == "events" && day == PARTITION => true,
            None => since.fingerprints.get(read) == newest.fingerprints.get(read),
        }
    }))
}

/// Whether what a model reads is what it was in the group's state, or is changed by customer, so that the model can be made
/// before any is built whole.
fn is_in_place(
    graph: &Graph,
    planned: &[Planned],
    at: usize,
    changes: &Changes,
    group: &Group,
    ways: &[Option<Way>],
) -> bool {
    let since = &changes.states[group.since];
    graph.expanded(&planned[at].model.reads).iter().all(|read| {
        match planned.iter().position(|other| other.model.name == *read) {
            Some(other) if planned[other].model.header.build == Build::View => true,
            Some(other) if planned[other].reason.is_some() => matches!(ways.get(other), Some(Some(Way::Customers))),
            Some(other) => Some(&planned[other].built_from.fingerprint()) == since.fingerprints.get(read),
            None => true,
        }
    })
}
