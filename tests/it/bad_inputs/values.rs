//! Rows about values: sums are exact, names stay what they are, and every output keeps them apart from its own syntax.

use super::{decided, rows};
use crate::house::House;

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "in/*"
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "event"
channel     = "'web'"
value       = "value"
identifiers = { user_id = "id" }
"#;

fn house(events: impl IntoIterator<Item = (String, String)>) -> House {
    let lines: Vec<String> = events
        .into_iter()
        .enumerate()
        .map(|(number, (name, value))| {
            let name = serde_json::to_string(&name).unwrap();
            format!("{{\"id\":\"u{number}\",\"ts\":\"2025-01-01T10:00:00Z\",\"event\":{name},\"value\":{value}}}\n")
        })
        .collect();
    House::new(PROJECT, &[("in/1.jsonl", lines.concat().as_bytes())])
}

#[test]
fn sums_of_money_are_exact_however_many_or_large() {
    decided("B091", "DLQ type_mismatch");
    decided("B092", "ACCEPT");
    let tenths = (0..50_000).flat_map(|_| [("tenths".to_string(), "0.1".to_string()), ("tenths".into(), "0.2".into())]);
    let largest = (0..1_000).map(|_| ("largest".to_string(), "99999999999999.9999".to_string()));
    let house = house(tenths.chain(largest));
    house.succeed(&["land"]);
    let sums = house.sql("select touchpoint, sum(value) from events group by 1 order by 1");
    assert_eq!(sums, ["largest,99999999999999999.9000", "tenths,15000.0000"]);
}

#[test]
fn many_distinct_names_land_as_they_are() {
    decided("B097", "ACCEPT");
    let house = house((0..20_000).map(|number| (format!("name-{number}"), "1".to_string())));
    house.succeed(&["land"]);
    assert_eq!(house.sql("select count(distinct touchpoint) from events"), ["20000"]);
}

/// Names that mean something to one of the outputs.
const NAMES: [&str; 13] = [
    "<script>alert(1)</script>",
    "</script><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "=HYPERLINK(\"http://x\")",
    "+1",
    "\u{ff1d}1+1",
    "a, \"b\"\nc",
    "\"",
    "'; DROP TABLE events; --",
    "a|b",
    "${jndi:ldap://x}",
    "view\u{1b}[2J\u{7}",
    "buy\u{202e}txt.exe",
];

#[test]
fn names_come_out_of_every_format_as_they_went_in() {
    decided("B032", "ESCAPE control_chars");
    decided("B033", "ESCAPE bidi");
    for id in ["B099", "B100", "B101", "B104", "B105", "B109", "B110"] {
        decided(id, "ESCAPE none");
    }
    for id in ["B102", "B103"] {
        decided(id, "ACCEPT");
    }
    let house = house(NAMES.iter().map(|name| ((*name).to_string(), "1".to_string())));
    house.succeed(&["run"]);
    let query = "select touchpoint from events order by cast(substr(event_id, 2) as bigint)";
    let json: Vec<String> =
        rows(&house, query).iter().map(|row| row["touchpoint"].as_str().unwrap().to_string()).collect();
    assert_eq!(json, NAMES);
    let text = house.succeed(&["sql", "--format", "csv", "-c", query]);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let read: Vec<String> = reader.records().map(|record| record.unwrap()[0].to_string()).collect();
    assert_eq!(read, NAMES);
    let parquet = house.wayline(&["sql", "--format", "parquet", "-c", query]).stdout;
    let mut file =
        parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes::Bytes::from(parquet), 100).unwrap();
    let batch = file.next().unwrap().unwrap();
    let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
    assert_eq!(arrow::array::AsArray::as_string::<i32>(&column).iter().flatten().collect::<Vec<_>>(), NAMES);
    for format in ["table", "markdown"] {
        let shown = house.succeed(&["sql", "--format", format, "-c", query]);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}') && !shown.contains('\u{7}'), "{shown}");
        assert!(shown.contains("\\u{1b}[2J") && shown.contains("\\u{202e}"), "{shown}");
    }
    // A name is a value and never a part of a statement: models and marts were built from these.
    assert_eq!(house.sql("select count(*) from touchpoints"), [NAMES.len().to_string()]);
    let name = NAMES[8].replace('\'', "''");
    assert_eq!(house.sql(&format!("select count(*) from events where touchpoint = '{name}'")), ["1"]);
}

#[test]
fn what_is_wrong_with_a_record_is_told_without_its_control_characters() {
    let house = house([("view".to_string(), "\"\\u001b[2Jnot\\na number\"".to_string())]);
    house.succeed(&["land"]);
    let status = house.succeed(&["status"]);
    assert!(status.contains("type_mismatch") && !status.contains('\u{1b}'), "{status}");
}

#[test]
fn a_column_of_any_name_can_be_mapped() {
    let keys = ["select", "a.b", "A", "a", "😀", "it's", "two words"];
    for key in keys {
        let mapped = PROJECT.replace("\"event\"", &format!("'\"{key}\"'"));
        let mapped = mapped.replace("'\"it's\"'", "\"\\\"it's\\\"\"");
        let line = format!(
            "{{\"id\":\"u\",\"ts\":\"2025-01-01T10:00:00Z\",{}:\"view\"}}\n",
            serde_json::to_string(key).unwrap()
        );
        let house = House::new(&mapped, &[("in/1.jsonl", line.as_bytes())]);
        house.succeed(&["land"]);
        assert_eq!(house.sql("select touchpoint from events"), ["view"], "{key}");
    }
}
