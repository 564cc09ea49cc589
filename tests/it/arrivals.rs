//! A project whose files arrive one after another, and what its lake then holds.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::house::{House, published};

pub const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "landing-zone/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "ts"
received_at = "coalesce(ts, '2025-01-01T00:00:00Z')"
touchpoint  = "event"
channel     = "channel"
identifiers = { user_id = "customer", anonymous_id = "cookie" }
[journeys]
goal = ["purchase"]
[[funnels]]
name = "shop"
steps = ["view", "purchase"]
window = "7d"
"#;

/// What must be equal, whatever the batches were.
const QUERIES: [(&str, &str); 6] = [
    ("events", "select event_id, occurred_at, touchpoint, channel from events order by 1, 2, 3, 4"),
    ("dead_letters", "select source, origin, reason, encode(record, 'hex') from dead_letters order by 1, 2, 3, 4"),
    ("counts", "select sum(rows_in), sum(landed), sum(duplicates), sum(dead_letters) from batches"),
    ("identity_map", "select * from identity_map order by kind, value"),
    ("timelines", "select * from int_timelines order by customer_id"),
    ("attempts", "select * from int_funnel_attempts order by funnel, journey_id, step_positions"),
];

/// Events in each file.
pub const EVENTS: usize = 12;

/// Events of a few customers on some days, an event of the file before once more, and a dead letter.
fn file(number: u64) -> String {
    let mut lines = String::new();
    for event in 0..EVENTS as u64 {
        let (day, minute) = (1 + (number + event) % 4, (event * 7 + number) % 60);
        let kind = ["view", "view", "cart", "purchase"][(number * 5 + event) as usize % 4];
        let (customer, channel) = ((number + event) % 5, ["web", "store"][event as usize % 2]);
        writeln!(
            lines,
            r#"{{"id":"e{number}-{event}","ts":"2025-01-0{day}T1{channel_hour}:{minute:02}:00Z","event":"{kind}","channel":"{channel}","customer":"u{customer}","cookie":"k{}"}}"#,
            event % 3 * 10 + customer,
            channel_hour = event % 10,
        )
        .unwrap();
    }
    if number > 0 {
        let before = file(number - 1);
        lines.push_str(before.lines().next().unwrap());
        lines.push('\n');
    }
    lines.push_str("{\"broken\n");
    lines
}

/// A file of the landing zone arrives.
pub fn arrive(house: &House, number: u64) {
    // A file appears whole, as one that is moved in does.
    let (away, place) = (house.path().join("arriving"), house.path().join("landing-zone"));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(&away, file(number)).unwrap();
    std::fs::rename(away, place.join(format!("{number}.jsonl"))).unwrap();
}

/// Rows of tables and bytes of published files, by name.
pub fn content(house: &House) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> =
        QUERIES.iter().map(|(name, query)| ((*name).to_string(), house.sql(query))).collect();
    found.extend(published(house).into_iter().map(|(path, bytes)| (path, vec![hex::encode(bytes)])));
    found
}

/// What is wrong with the logs of a lake's tables: a version that is missing or cannot be read, or that names a file
/// which is not there or has another size.
pub fn damages(lake: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for log in logs(lake) {
        let table = log.parent().unwrap();
        let mut files: BTreeMap<String, u64> = BTreeMap::new();
        // Beside versions there may be checkpoints, and files in the making, whose names end with `#1`.
        let is_version = |path: &Path| path.extension().is_some_and(|extension| extension == "json");
        let count =
            std::fs::read_dir(&log).unwrap().filter(|entry| is_version(&entry.as_ref().unwrap().path())).count();
        for version in 0..count {
            let path = log.join(format!("{version:020}.json"));
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let actions: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
            let Ok(actions) = actions else {
                wrong.push(format!("{} is not JSON", path.display()));
                continue;
            };
            if !actions.iter().any(|action| action.get("commitInfo").is_some()) {
                wrong.push(format!("{} has no commitInfo", path.display()));
            }
            for action in &actions {
                if let Some(removed) = action.pointer("/remove/path").and_then(Value::as_str) {
                    files.remove(removed);
                }
                if let Some(added) = action.pointer("/add/path").and_then(Value::as_str) {
                    files.insert(added.to_string(), action["add"]["size"].as_u64().unwrap());
                }
            }
            for (name, size) in &files {
                let found = std::fs::metadata(table.join(name)).map(|metadata| metadata.len()).ok();
                if found != Some(*size) {
                    wrong.push(format!("{}: {name} has {found:?} bytes, not {size}", path.display()));
                }
            }
        }
    }
    wrong
}

fn logs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.ends_with("_delta_log") {
                found.push(path);
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}
