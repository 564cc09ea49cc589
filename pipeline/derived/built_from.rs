//! Which derived tables are stale, and why: each carries a record of what it was built from.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Table property that holds the record.
pub const BUILT_FROM: &str = "wayline.builtFrom";
/// Raised when the functions or the storage of models change so that tables must be built again.
const GENERATION: u32 = 2;

/// Why a table must be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// It is not there yet.
    NeverBuilt,
    /// Its statement is another one, or wayline builds otherwise than it did.
    ChangedStatement,
    /// Settings that it reads have changed; their tables.
    ChangedSettings(Vec<String>),
    /// What is defined of tables that it reads, or of what these are made of, has changed.
    ChangedUpstream(Vec<String>),
    /// Tables that it reads have changed.
    NewData(Vec<String>),
    /// Some of its rows are to be made anew, whether anything has changed or not.
    Backfill,
}

impl Stale {
    /// Whether the table's definition has changed, and not just what it is made of.
    pub fn is_modified(&self) -> bool {
        matches!(self, Self::NeverBuilt | Self::ChangedStatement | Self::ChangedSettings(_))
    }

    /// Whether it is a matter of some rows, so that the others may stay.
    pub fn is_of_rows(&self) -> bool {
        matches!(self, Self::NewData(_) | Self::Backfill)
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => f.write_str("never built"),
            Self::ChangedStatement => f.write_str("changed SQL"),
            Self::ChangedSettings(tables) => write!(f, "changed configuration: {}", tables.join(", ")),
            Self::ChangedUpstream(tables) => write!(f, "changed upstream: {}", tables.join(", ")),
            Self::NewData(tables) => write!(f, "new data: {}", tables.join(", ")),
            Self::Backfill => f.write_str("backfill"),
        }
    }
}

/// What is told of tables.
#[derive(Debug, Clone, Default)]
pub struct Prints {
    /// The fingerprint of each.
    pub fingerprints: BTreeMap<String, String>,
    /// [`BuiltFrom::definition`] of each that is defined by more than data.
    pub definitions: BTreeMap<String, String>,
}

impl Prints {
    /// Adds those of a table.
    pub fn add(&mut self, name: &str, built_from: &BuiltFrom) {
        self.fingerprints.insert(name.to_string(), built_from.fingerprint());
        self.definitions.insert(name.to_string(), built_from.definition());
    }
}

/// What a table was, or would be, built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltFrom {
    /// Digest of the statement and of our generation.
    pub statement: String,
    /// Fingerprint of each table that it reads.
    pub reads: BTreeMap<String, String>,
    /// [`Self::definition`] of each of these that is defined by more than data.
    #[serde(default)]
    pub upstream: BTreeMap<String, String>,
    /// Id of the last backfill that asked for rows of it; what reads the table is older than these rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<String>,
}

impl BuiltFrom {
    /// What a statement would build now that reads these tables, given the fingerprint of each table.
    pub fn now(statement: &str, reads: &[String], fingerprints: &BTreeMap<String, String>) -> Self {
        let statement = digest(format!("{GENERATION}\n{statement}").as_bytes());
        let reads = reads.iter().map(|name| (name.clone(), fingerprints.get(name).cloned().unwrap_or_default()));
        Self { statement, reads: reads.collect(), upstream: BTreeMap::new(), backfill: None }
    }

    /// The same over tables of which some are defined by more than data, given the [`Self::definition`] of each.
    pub fn defined_by(self, definitions: &BTreeMap<String, String>) -> Self {
        let upstream = definitions.iter().filter(|(name, _)| self.reads.contains_key(*name));
        Self { upstream: upstream.map(|(name, definition)| (name.clone(), definition.clone())).collect(), ..self }
    }

    /// Digest of all that defines the table beside data: statements, settings and rules of identity, however far up.
    pub fn definition(&self) -> String {
        digest(format!("{}\n{:?}", self.statement, self.upstream).as_bytes())
    }

    /// The same over tables with other fingerprints.
    pub fn over(&self, fingerprints: &BTreeMap<String, String>) -> Self {
        let reads = self.reads.keys().map(|read| (read.clone(), fingerprints.get(read).cloned().unwrap_or_default()));
        Self { reads: reads.collect(), ..self.clone() }
    }

    /// The same after a backfill.
    pub fn with_backfill(self, id: Option<&String>) -> Self {
        Self { backfill: id.cloned(), ..self }
    }

    /// One text for all of it.
    pub fn fingerprint(&self) -> String {
        digest(self.to_json().as_bytes())
    }

    /// As kept in the table property.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("maps of text are JSON")
    }

    /// Why a table built from `before` must be built again; `None` when it need not.
    pub fn why_stale(&self, before: Option<&Self>, is_setting: impl Fn(&str) -> bool) -> Option<Stale> {
        let Some(before) = before else { return Some(Stale::NeverBuilt) };
        if before.statement != self.statement {
            return Some(Stale::ChangedStatement);
        }
        let changed = |(name, fingerprint): &(&String, &String)| before.reads.get(*name) != Some(fingerprint);
        let changed = self.reads.iter().filter(changed).map(|(name, _)| name.clone());
        let (settings, data): (Vec<String>, Vec<String>) = changed.partition(|name| is_setting(name));
        if !settings.is_empty() {
            return Some(Stale::ChangedSettings(settings));
        }
        let defined_anew: Vec<String> =
            self.reads.keys().filter(|read| before.upstream.get(*read) != self.upstream.get(*read)).cloned().collect();
        if !defined_anew.is_empty() {
            return Some(Stale::ChangedUpstream(defined_anew));
        }
        match (before.backfill == self.backfill, data.is_empty()) {
            // What it reads is then mostly of the same backfill.
            (false, _) => Some(Stale::Backfill),
            (true, false) => Some(Stale::NewData(data)),
            (true, true) => None,
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints(events: &str, settings: &str) -> BTreeMap<String, String> {
        [("events", events), ("settings", settings)].map(|(name, print)| (name.into(), print.into())).into()
    }

    #[test]
    fn the_reason_for_a_build_is_told() {
        let reads = ["events".to_string(), "settings".to_string()];
        let before = BuiltFrom::now("select 1", &reads, &prints("1", "a"));
        let why = |sql: &str, events, settings| {
            BuiltFrom::now(sql, &reads, &prints(events, settings)).why_stale(Some(&before), |name| name == "settings")
        };
        assert_eq!(why("select 1", "1", "a"), None);
        let why = |sql, events, settings| {
            let stale = why(sql, events, settings).unwrap();
            (stale.to_string(), stale.is_modified())
        };
        assert_eq!(why("select 2", "1", "a"), ("changed SQL".into(), true));
        assert_eq!(why("select 1", "2", "a"), ("new data: events".into(), false));
        assert_eq!(why("select 1", "2", "b"), ("changed configuration: settings".into(), true));
        assert_eq!(before.why_stale(None, |_| false), Some(Stale::NeverBuilt));
        let defined = |long: &str| {
            let definitions = [("long".into(), long.into()), ("settings".into(), "s".into())].into();
            let reads = ["events".to_string(), "long".to_string()];
            BuiltFrom::now("select 1", &reads, &prints("1", "a")).defined_by(&definitions)
        };
        assert_eq!(
            defined("2").why_stale(Some(&defined("1")), |_| false),
            Some(Stale::ChangedUpstream(vec!["long".into()]))
        );
        assert_ne!(defined("2").definition(), defined("1").definition());
        let asked_for = before.clone().with_backfill(Some(&"b".into()));
        assert_eq!(asked_for.why_stale(Some(&before), |_| false), Some(Stale::Backfill));
        assert_eq!(asked_for.why_stale(Some(&asked_for), |_| false), None);
        assert_ne!(asked_for.fingerprint(), before.fingerprint());
    }
}
