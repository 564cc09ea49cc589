//! When marts are published, and which of their files are written.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::house::{House, published};

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "landing-zone/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "event"
channel     = "'web'"
identifiers = { user_id = "customer" }
[journeys]
goal = ["purchase"]
"#;
const SELDOM: &str = "[marts]\nevery = { sessions = \"1h\", customers = \"1h\" }\n";

fn event(id: &str, day: u32, customer: &str) -> String {
    format!(r#"{{"id":"{id}","ts":"2025-01-{day:02}T10:00:00Z","event":"view","customer":"{customer}"}}"#) + "\n"
}

/// Ten customers over five days.
fn house(settings: &str) -> House {
    let events: String = (0..10).map(|n| event(&format!("a{n}"), 1 + n % 5, &format!("u{n}"))).collect();
    House::new(&format!("{settings}{PROJECT}"), &[("landing-zone/one.jsonl", events.as_bytes())])
}

/// The run that published each mart.
fn runs(house: &House) -> BTreeMap<String, String> {
    let catalog = std::fs::read(house.path().join("lake/catalog.json")).unwrap();
    let catalog: Value = serde_json::from_slice(&catalog).unwrap();
    let marts = catalog["marts"].as_object().unwrap();
    marts.iter().map(|(name, mart)| (name.clone(), mart["run_id"].to_string())).collect()
}

#[test]
fn a_mart_that_is_published_seldom_keeps_its_files_until_it_is_time() {
    let (seldom, always) = (house(SELDOM), house(""));
    let second = event("b", 2, "u3") + &event("c", 5, "u99");
    for house in [&seldom, &always] {
        house.succeed(&["run"]);
    }
    let first = (runs(&seldom), published(&seldom));
    for house in [&seldom, &always] {
        house.write("landing-zone/two.jsonl", second.as_bytes());
        house.succeed(&["run"]);
    }
    let (now, files) = (runs(&seldom), published(&seldom));
    for (name, run) in &first.0 {
        let is_seldom = ["customers", "sessions"].contains(&name.as_str());
        assert_eq!(now[name] == *run, is_seldom, "{name}");
    }
    assert!(files.iter().filter(|(path, _)| path.starts_with("sessions/")).all(|(path, file)| first.1[path] == *file));
    assert_eq!(seldom.sql("select count(*) from sessions"), ["12"], "queries read what was built");
    assert!(seldom.succeed(&["run"]).contains("nothing new"));

    seldom.write("wayline.toml", format!("{}{PROJECT}", SELDOM.replace("1h", "1ms")).as_bytes());
    seldom.succeed(&["run"]);
    assert_eq!(published(&seldom), published(&always));
    assert!(seldom.succeed(&["run"]).contains("nothing new"));
}

#[test]
fn only_files_with_other_rows_are_written() {
    let house = house("");
    house.succeed(&["run"]);
    let before: BTreeMap<_, _> = house.lake_files().into_iter().map(|(path, _, at)| (path, at)).collect();
    std::thread::sleep(std::time::Duration::from_millis(20));
    house.write("landing-zone/two.jsonl", event("b", 3, "u2").as_bytes());
    house.succeed(&["run"]);
    let marts = house.path().join("lake/marts");
    let written = house.lake_files().into_iter().filter(|(path, _, at)| before.get(path) != Some(at));
    let written: Vec<String> = written
        .filter_map(|(path, ..)| Some(path.strip_prefix(&marts).ok()?.to_string_lossy().into_owned()))
        .filter(|path| path.contains("started_date="))
        .collect();
    assert!(written.iter().any(|path| path.starts_with("sessions/")), "{written:?}");
    assert!(written.iter().all(|path| path.contains("started_date=2025-01-03/")), "{written:?}");
}

#[test]
fn a_name_that_is_no_mart_is_told_before_anything_is_done() {
    let house = house("[marts]\nevery = { int_timelines = \"1h\" }\n");
    let said = house.fail(2, &["run"]);
    assert!(said.contains("marts.every names `int_timelines`, which is no mart"), "{said}");
    assert!(!house.path().join("lake/catalog.json").exists());
}
