//! Rows about the lake: what is gone, damaged or foreign there is found, and never read as if it were nothing.

use std::fs;
use std::path::{Path, PathBuf};

use super::decided;
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
"#;

/// A lake of three batches.
fn house() -> House {
    let house = House::new(PROJECT, &[]);
    for batch in 1..=3 {
        let line = format!("{{\"id\":\"{batch}\",\"ts\":\"2025-01-0{batch}T10:00:00Z\",\"event\":\"view\"}}\n");
        house.write(&format!("in/{batch}.jsonl"), line.as_bytes());
        house.succeed(&["land"]);
    }
    house
}

fn events(house: &House) -> PathBuf {
    house.path().join("lake/landing/events")
}

/// Commands that read or go on must fail, and the search for damage must name the place.
fn assert_stopped(house: &House, what: &str, named: &str) {
    for arguments in [&["sql", "-c", "select count(*) from events"][..], &["run"]] {
        let output = house.wayline(arguments);
        let code = output.status.code();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(code.is_some_and(|code| code != 0), "{what}: {arguments:?} ends well: {stderr}");
        assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    }
    let fsck = house.wayline(&["fsck"]);
    let said = format!("{}{}", String::from_utf8_lossy(&fsck.stdout), String::from_utf8_lossy(&fsck.stderr));
    assert!(!fsck.status.success() && said.contains(named), "{what}: {said}");
}

fn parquet_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("_delta_log") {
            found.extend(parquet_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_data_file_that_is_gone_is_no_silent_gap() {
    decided("B161", "STOP missing_file");
    let house = house();
    let file = parquet_below(&events(&house)).remove(0);
    fs::remove_file(&file).unwrap();
    // A count is told by the log; what reads rows must not leave out those that are gone.
    let output = house.wayline(&["sql", "-c", "select event_id from events"]);
    assert_ne!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let fsck = house.wayline(&["fsck"]);
    let said = String::from_utf8_lossy(&fsck.stdout).into_owned();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(!fsck.status.success() && said.contains(&name), "{said}");
}

#[test]
fn a_log_that_is_damaged_is_not_read_as_empty() {
    decided("B162", "STOP log_corrupt");
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("zero-length", |log| fs::write(log.join("00000000000000000001.json"), b"").unwrap()),
        ("truncated", |log| {
            let path = log.join("00000000000000000001.json");
            let text = fs::read(&path).unwrap();
            fs::write(&path, &text[..text.len() / 2]).unwrap();
        }),
        ("no JSON", |log| fs::write(log.join("00000000000000000001.json"), b"not json\n").unwrap()),
        ("missing number", |log| fs::remove_file(log.join("00000000000000000001.json")).unwrap()),
        ("zero-length at the end", |log| fs::write(log.join("00000000000000000002.json"), b"").unwrap()),
    ];
    for (what, damage) in damages {
        let house = house();
        damage(&events(&house).join("_delta_log"));
        assert_stopped(&house, what, "landing/events");
    }
}

#[test]
fn a_hint_that_cannot_be_read_is_passed_over_and_one_to_nothing_is_not() {
    decided("B163", "ACCEPT hint_ignored");
    for hint in [&b"garbage"[..], b""] {
        let house = house();
        fs::write(events(&house).join("_delta_log/_last_checkpoint"), hint).unwrap();
        assert_eq!(house.sql("select count(*) from events"), ["3"], "{}", String::from_utf8_lossy(hint));
        house.succeed(&["run"]);
    }
    // One that names a checkpoint which is not there says that something is gone.
    let house = house();
    fs::write(events(&house).join("_delta_log/_last_checkpoint"), br#"{"version":1,"size":4}"#).unwrap();
    let output = house.wayline(&["sql", "-c", "select count(*) from events"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Adds a version to the log of events.
fn append(house: &House, action: &serde_json::Value) {
    fs::write(events(house).join("_delta_log/00000000000000000003.json"), format!("{action}\n")).unwrap();
}

#[test]
fn a_log_cannot_lead_out_of_its_table() {
    decided("B165", "DENY path_escape");
    let source = house();
    let data = fs::read(parquet_below(&events(&source)).remove(0)).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().join("x.parquet");
    fs::write(&absolute, &data).unwrap();
    let paths = [
        absolute.display().to_string(),
        format!("file://{}", absolute.display()),
        "../../../x.parquet".to_string(),
        "..%2F..%2F..%2Fx.parquet".to_string(),
    ];
    for path in paths {
        let house = house();
        house.write("x.parquet", &data);
        let add = serde_json::json!({
            "path": path, "partitionValues": {"occurred_date": "2025-01-01"}, "size": data.len(),
            "modificationTime": 0, "dataChange": true, "stats": "{\"numRecords\":1}",
        });
        append(&house, &serde_json::json!({ "add": add }));
        let output =
            house.wayline(&["sql", "--format", "csv", "-c", "select event_id, batch from events order by 1, 2"]);
        let rows = String::from_utf8_lossy(&output.stdout).lines().count();
        assert!(!output.status.success() && rows <= 1, "{path}: {}", String::from_utf8_lossy(&output.stdout));
        assert!(!house.wayline(&["fsck"]).status.success(), "{path}");
    }
}

#[test]
fn a_table_that_needs_what_we_do_not_know_is_refused() {
    decided("B166", "DENY unsupported_feature");
    let protocols = [
        serde_json::json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["teleport"], "writerFeatures": ["teleport"]}),
        serde_json::json!({"minReaderVersion": 99, "minWriterVersion": 99}),
    ];
    for protocol in protocols {
        let house = house();
        append(&house, &serde_json::json!({ "protocol": protocol }));
        let before = house.lake_files();
        let output = house.wayline(&["sql", "-c", "select * from events"]);
        assert!(!output.status.success(), "{protocol}: {}", String::from_utf8_lossy(&output.stdout));
        house.write("in/4.jsonl", b"{\"id\":\"4\",\"ts\":\"2025-01-04T10:00:00Z\",\"event\":\"view\"}\n");
        assert!(!house.wayline(&["land"]).status.success(), "{protocol}");
        assert_eq!(house.lake_files(), before, "{protocol}: nothing is written into a table that is not understood");
    }
}
