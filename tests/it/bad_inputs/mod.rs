//! The catalogue of bad inputs, `tests/bad_inputs.csv`, through the real binary.
//!
//! Each row is automated in one of the files here, or says in its column `why` which other test proves it or why it does
//! not apply. Where we decided differently than the catalogue, its column `decided` says what happens instead, and `why`
//! for what reason. Tests ask the table what to expect, so that the two cannot part.

mod configuration;
mod files;
mod identity;
mod lake;
mod memory;
mod records;
mod sessions;
mod sql;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use crate::house::House;

/// A row of the catalogue.
struct Row {
    action: String,
    reason: String,
    decided: String,
    why: String,
}

static TABLE: LazyLock<BTreeMap<String, Row>> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_inputs.csv");
    let mut reader = csv::Reader::from_path(path).unwrap();
    let names = reader.headers().unwrap().clone();
    let expected = ["id", "stage", "class", "input", "action", "reason_code", "expected", "decided", "why"];
    assert_eq!(names.iter().collect::<Vec<_>>(), expected);
    let rows = reader.records().map(|row| {
        let row = row.unwrap();
        let text = |column: usize| row[column].to_string();
        (text(0), Row { action: text(4), reason: text(5), decided: text(7), why: text(8) })
    });
    rows.collect()
});

/// What becomes of a row by the table: `DLQ json_syntax`, `ACCEPT`, …
fn expected(id: &str) -> String {
    let row = &TABLE[id];
    match row.decided.is_empty() {
        true => format!("{} {}", row.action, row.reason),
        false => row.decided.clone(),
    }
}

/// Asserts that the table says of a row what its test proves.
fn decided(id: &str, what: &str) {
    assert_eq!(expected(id), what, "{id}: the table and its test say different things");
}

/// The ids that stand in the tests beside this file.
fn automated() -> BTreeSet<String> {
    let id = Regex::new(r#""(B\d{3})""#).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/bad_inputs");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        found.extend(id.captures_iter(&text).map(|found| found[1].to_string()));
    }
    found
}

#[test]
fn every_row_is_automated_or_says_where_it_is_proved_or_why_not() {
    assert_eq!(TABLE.len(), 176);
    let automated = automated();
    let elsewhere = Regex::new(r"^proved by `([a-z_/.]+)`(?: `([a-z_0-9]+)`)?").unwrap();
    let (mut differently, mut proved, mut absent) = (0, 0, 0);
    for (id, Row { decided, why, .. }) in TABLE.iter() {
        differently += usize::from(!decided.is_empty());
        assert!(decided.is_empty() || !why.is_empty(), "{id} is decided differently and does not say why");
        if let Some(place) = elsewhere.captures(why) {
            proved += 1;
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&place[1]));
            let text = text.unwrap_or_else(|error| panic!("{id}: {}: {error}", &place[1]));
            let test = place.get(2).map_or("", |test| test.as_str());
            assert!(text.contains(test), "{id}: {} has no test {test}", &place[1]);
        } else if why.starts_with("does not apply") || why.starts_with("not yet") {
            absent += 1;
            assert!(!automated.contains(id), "{id} is automated");
        } else {
            assert!(automated.contains(id), "{id} is neither automated nor says where it is proved");
        }
    }
    assert!(automated.iter().all(|id| TABLE.contains_key(id)));
    println!(
        "{} automated, {proved} proved elsewhere, {absent} absent; {differently} decided differently",
        automated.len()
    );
}

/// Every batch keeps its promise about counts.
fn assert_counts_add_up(house: &House) {
    let wrong = house.sql("select * from batches where rows_in <> landed + duplicates + dead_letters");
    assert!(wrong.is_empty(), "{wrong:?}");
    for (counted, table) in [("landed", "events"), ("dead_letters", "dead_letters")] {
        let books = format!("select batch, source, {counted} from batches where {counted} > 0 order by 1, 2");
        let rows = format!("select batch, source, count(*) from {table} group by 1, 2 order by 1, 2");
        assert_eq!(house.sql(&books), house.sql(&rows), "{table}");
    }
}

/// The flags of each file of a batch.
fn flags(house: &House, batch: i64) -> BTreeMap<String, BTreeMap<String, u64>> {
    let path = house.path().join(format!("lake/landing/batches/{batch:012}.ledger.json"));
    let entry: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let file = |file: &serde_json::Value| {
        let flags = serde_json::from_value(file["flags"].clone()).unwrap();
        (file["path"].as_str().unwrap().to_string(), flags)
    };
    entry["files"].as_array().unwrap().iter().map(file).collect()
}

/// Rows of a query as JSON.
fn rows(house: &House, query: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(&house.succeed(&["sql", "--format", "json", "-c", query])).unwrap()
}
