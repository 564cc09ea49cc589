//! One kind for what several sources call by several names: a customer's number is `user_no` here and `customer_no` there,
//! and only identifiers of one kind make one customer.

use std::collections::{BTreeMap, BTreeSet};

use super::guess::{Guess, counted};
use super::words::IDENTIFIERS;

/// Values that two columns share at least, and the share of the smaller one that they are at least.
const FEWEST_SHARED: usize = 2;
const SHARE: f64 = 0.3;
/// Kinds that have a normal form of their own.
const FIXED: [&str; 2] = ["email", "phone"];

/// The identifiers of a source: its name, its guesses by kind, and the values that its events have.
pub struct OfSource<'g> {
    /// Name of the source.
    pub name: &'g str,
    /// Guesses by kind.
    pub guesses: &'g mut Vec<(String, Guess)>,
    /// Values by kind.
    pub values: &'g mut BTreeMap<String, BTreeSet<String>>,
}

/// Gives columns of different sources that share values the kind that is the surer of theirs.
pub fn unify(sources: &mut [OfSource<'_>]) {
    for later in 1..sources.len() {
        for earlier in 0..later {
            while let Some((from, to, shared, is_earlier)) = shared_kinds(&sources[earlier], &sources[later]) {
                let (renamed, other) = if is_earlier { (earlier, later) } else { (later, earlier) };
                let why = format!("; shares {} with {to} of {}", counted(shared, "value"), sources[other].name);
                let source = &mut sources[renamed];
                if let Some((kind, guess)) = source.guesses.iter_mut().find(|(kind, _)| *kind == from) {
                    kind.clone_from(&to);
                    guess.evidence.push_str(&why);
                }
                let values = source.values.remove(&from).unwrap_or_default();
                source.values.insert(to, values);
            }
        }
    }
}

/// Two kinds of two sources that share values: the one to rename, its new name, the shared values, and whether it is that
/// of the first source.
fn shared_kinds(first: &OfSource<'_>, second: &OfSource<'_>) -> Option<(String, String, usize, bool)> {
    let place = |kind: &str| IDENTIFIERS.iter().position(|(known, _)| *known == kind).unwrap_or(IDENTIFIERS.len());
    for (a, of_a) in first.values.iter() {
        for (b, of_b) in second.values.iter() {
            if a == b || FIXED.contains(&a.as_str()) || FIXED.contains(&b.as_str()) {
                continue;
            }
            let shared = of_a.intersection(of_b).count();
            if shared < FEWEST_SHARED || (shared as f64) < SHARE * of_a.len().min(of_b.len()) as f64 {
                continue;
            }
            let is_earlier = place(b) < place(a);
            let (from, to, of_renamed) = if is_earlier { (a, b, first) } else { (b, a, second) };
            if of_renamed.guesses.iter().all(|(kind, _)| kind != to)
                && of_renamed.guesses.iter().any(|(kind, _)| kind == from)
            {
                return Some((from.clone(), to.clone(), shared, is_earlier));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unified(first: (&str, &[&str]), second: (&str, &[&str])) -> (String, String) {
        let guesses = |kind: &str| vec![(kind.to_string(), Guess { expression: "x".into(), evidence: "x".into() })];
        let values = |kind: &str, values: &[&str]| {
            BTreeMap::from([(kind.to_string(), values.iter().map(|value| (*value).to_string()).collect())])
        };
        let (mut of_first, mut of_second) = (guesses(first.0), guesses(second.0));
        let (mut first_values, mut second_values) = (values(first.0, first.1), values(second.0, second.1));
        unify(&mut [
            OfSource { name: "web", guesses: &mut of_first, values: &mut first_values },
            OfSource { name: "calls", guesses: &mut of_second, values: &mut second_values },
        ]);
        (of_first[0].0.clone(), of_second[0].0.clone())
    }

    #[test]
    fn columns_that_share_values_get_one_kind() {
        let same = ("user_id".to_string(), "user_id".to_string());
        assert_eq!(unified(("user_id", &["u1", "u2", "u3"]), ("customer_id", &["u1", "u2", "u9"])), same);
        assert_eq!(unified(("customer_id", &["u1", "u2"]), ("user_id", &["u1", "u2"])), same);
        let apart = ("user_id".to_string(), "customer_id".to_string());
        assert_eq!(unified(("user_id", &["u1", "u2"]), ("customer_id", &["c1", "c2"])), apart);
        let apart = ("user_id".to_string(), "phone".to_string());
        assert_eq!(unified(("user_id", &["1", "2"]), ("phone", &["1", "2"])), apart);
    }
}
