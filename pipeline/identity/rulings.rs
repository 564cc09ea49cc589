//! Rulings: what people decided about two identifiers, against or beyond what events show.
//!
//! They lie in the lake as a journal that only grows, one object each: `identity/rulings/<number>.json`. They are a part
//! of the configuration and survive every rebuild. Of several rulings on one pair the newest is in force:
//! - `split` refuses the link of the pair and keeps the two apart: no link is followed that would make them one customer
//! - `link` makes a link of its own, which is followed before those of events, the ruling with the smallest number first

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::identity_key::identity_key;
use crate::error::{Error, Result};
use crate::lake::Lake;

/// Folder of the journal in the lake.
const FOLDER: &str = "identity/rulings";

/// A kind and a value, as the lake knows them: in normal form, pseudonymised where the configuration asks for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identifier {
    /// Kind.
    pub kind: String,
    /// Value.
    pub value: String,
}

impl Identifier {
    /// The key of `identity_map.identity_key`.
    pub fn key(&self) -> String {
        identity_key(&self.kind, &self.value)
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.key())
    }
}

/// Whether two identifiers are one person's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// They are.
    Link,
    /// They are not.
    Split,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Link => "link",
            Self::Split => "split",
        })
    }
}

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// Place in the journal, from 1.
    pub number: u32,
    /// What was decided.
    pub verdict: Verdict,
    /// One of the two.
    pub from: Identifier,
    /// The other.
    pub to: Identifier,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub ruled_by: String,
    /// When, as RFC 3339. Nothing depends on it.
    pub ruled_at: String,
}

/// The rulings in force: number and verdict by pair, the smaller identifier first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rulings(BTreeMap<(Identifier, Identifier), (u32, Verdict)>);

impl Rulings {
    /// Of several rulings on a pair the one with the greatest number is in force. A pair of one identifier says nothing.
    pub fn in_force(journal: &[Ruling]) -> Self {
        let mut newest = BTreeMap::new();
        for ruling in journal.iter().filter(|ruling| ruling.from != ruling.to) {
            let (from, to) = (ruling.from.clone(), ruling.to.clone());
            let pair = if from < to { (from, to) } else { (to, from) };
            let held = newest.entry(pair).or_insert((ruling.number, ruling.verdict));
            if held.0 < ruling.number {
                *held = (ruling.number, ruling.verdict);
            }
        }
        Self(newest)
    }

    /// Pairs with number and verdict.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Identifier, &Identifier, u32, Verdict)> {
        self.0.iter().map(|((from, to), (number, verdict))| (from, to, *number, *verdict))
    }

    /// Pairs that are linked by a ruling.
    pub(super) fn links(&self) -> impl Iterator<Item = (&Identifier, &Identifier)> {
        self.iter().filter(|(.., verdict)| *verdict == Verdict::Link).map(|(from, to, ..)| (from, to))
    }

    /// Whether this ruling is in force.
    pub fn hold(&self, ruling: &Ruling) -> bool {
        self.0.values().any(|(number, _)| *number == ruling.number)
    }

    /// What the result of identity depends on, as one text.
    pub fn fingerprint(&self) -> String {
        let line = |(from, to, number, verdict): (&Identifier, &Identifier, u32, Verdict)| {
            serde_json::json!([number, verdict, from, to]).to_string()
        };
        self.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Reads the journal, in the order of its numbers.
pub async fn load(lake: &Lake) -> Result<Vec<Ruling>> {
    let mut journal = Vec::new();
    for object in lake.list(FOLDER).await? {
        let path = lake.relative(&object.location).unwrap_or_default();
        let content = lake.get(&path).await?.unwrap_or_default();
        let ruling: Ruling = serde_json::from_slice(&content)
            .map_err(|error| Error::corrupt(format!("{path} is no ruling: {error}")))?;
        if path != self::path(ruling.number) {
            return Err(Error::corrupt(format!("{path} holds the ruling {}", ruling.number)));
        }
        journal.push(ruling);
    }
    journal.sort_by_key(|ruling| ruling.number);
    Ok(journal)
}

/// Adds a ruling that has the next number.
///
/// Errors: a [`crate::error::Kind::Conflict`] if somebody else has taken the number.
pub async fn append(lake: &Lake, ruling: &Ruling) -> Result<()> {
    let mut content = serde_json::to_vec(ruling)?;
    content.push(b'\n');
    match lake.put_new(&path(ruling.number), Bytes::from(content)).await? {
        true => Ok(()),
        false => Err(Error::conflict(format!("somebody else made the ruling {}", ruling.number)).hint("try again")),
    }
}

fn path(number: u32) -> String {
    format!("{FOLDER}/{number:06}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(key: &str) -> Identifier {
        let (kind, value) = key.split_once(':').unwrap();
        Identifier { kind: kind.into(), value: value.into() }
    }

    fn ruling(number: u32, verdict: Verdict, from: &str, to: &str) -> Ruling {
        let [reason, ruled_by, ruled_at] = ["asked", "ann", "2025-01-01T00:00:00Z"].map(String::from);
        Ruling { number, verdict, from: identifier(from), to: identifier(to), reason, ruled_by, ruled_at }
    }

    #[test]
    fn the_newest_ruling_on_a_pair_is_in_force_whichever_end_comes_first() {
        let mut journal = vec![
            ruling(1, Verdict::Link, "email:a", "user_id:b"),
            ruling(2, Verdict::Link, "email:a", "user_id:c"),
            ruling(3, Verdict::Split, "user_id:b", "email:a"),
            ruling(4, Verdict::Split, "email:a", "email:a"),
        ];
        let rulings = Rulings::in_force(&journal);
        let held: Vec<u32> = journal.iter().filter(|ruling| rulings.hold(ruling)).map(|ruling| ruling.number).collect();
        assert_eq!(held, [2, 3]);
        assert_eq!(rulings.links().count(), 1);
        journal.reverse();
        assert_eq!(Rulings::in_force(&journal), rulings);
    }

    #[tokio::test]
    async fn the_journal_only_grows() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        assert_eq!(load(&lake).await.unwrap(), []);
        let journal =
            [ruling(1, Verdict::Link, "email:a", "user_id:b"), ruling(2, Verdict::Split, "email:a", "user_id:b")];
        for ruling in &journal {
            append(&lake, ruling).await.unwrap();
        }
        let taken = append(&lake, &ruling(2, Verdict::Link, "email:a", "phone:5550101")).await.unwrap_err();
        assert_eq!(taken.kind(), crate::error::Kind::Conflict);
        assert_eq!(load(&lake).await.unwrap(), journal);
        lake.put("identity/rulings/000003.json", Bytes::from_static(b"{}")).await.unwrap();
        assert_eq!(load(&lake).await.unwrap_err().kind(), crate::error::Kind::Corrupt);
    }
}
