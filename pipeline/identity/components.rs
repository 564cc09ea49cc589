//! Components: what all links connect, followed or refused.
//!
//! Every guard looks at a link, the neighbours of its ends, or the customers that it would unite, and all of them lie in
//! one component. So a component resolves the same whatever the others are, and one that has not changed need not be
//! resolved again.

use super::resolve::{Identifier, Refusal, root};

/// For each identifier the position of the one with the smallest hash in its component.
///
/// A link that was followed has both ends in one customer, so only refused links are left to join customers. Time: near
/// linear. Memory: 8 bytes per identifier.
pub(super) fn components(identifiers: &[Identifier], customers: &[u32], refusals: &[Refusal]) -> Vec<u32> {
    let mut parents = customers.to_vec();
    for refusal in refusals {
        let (a, b) = (root(&mut parents, refusal.a), root(&mut parents, refusal.b));
        parents[a.max(b) as usize] = a.min(b);
    }
    let mut smallest: Vec<u32> = (0..).take(parents.len()).collect();
    for position in 0..parents.len() as u32 {
        let smallest = &mut smallest[root(&mut parents, position) as usize];
        if identifiers[position as usize].hash < identifiers[*smallest as usize].hash {
            *smallest = position;
        }
    }
    for position in 0..parents.len() as u32 {
        let root = root(&mut parents, position);
        smallest[position as usize] = smallest[root as usize];
    }
    smallest
}
