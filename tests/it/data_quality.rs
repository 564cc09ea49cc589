//! How late events arrive, as `data_quality` tells it.

use crate::house::House;

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "landing-zone/web/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "occurred"
received_at = "received"
touchpoint  = "'view'"
channel     = "'web'"
[[sources]]
name = "store"
path = "landing-zone/store/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "occurred"
received_at = "received"
touchpoint  = "'visit'"
channel     = "'store'"
"#;

/// Events that occurred at one time and were received so many microseconds later.
fn file(name: &str, lateness: &[i64]) -> Vec<u8> {
    let occurred = chrono::DateTime::parse_from_rfc3339("2025-03-01T00:00:00Z").unwrap();
    let line = |(number, micros): (usize, &i64)| {
        let received = (occurred + chrono::TimeDelta::microseconds(*micros)).to_rfc3339();
        format!("{{\"id\":\"{name}-{number}\",\"occurred\":\"2025-03-01T00:00:00Z\",\"received\":\"{received}\"}}\n")
    };
    lateness.iter().enumerate().map(line).collect::<String>().into_bytes()
}

#[test]
fn ranges_of_lateness_hold_their_end_and_add_up_to_what_was_landed() {
    const HOUR: i64 = 3_600_000_000;
    const DAY: i64 = 24 * HOUR;
    let house = House::new(PROJECT, &[]);
    house.write("landing-zone/web/1.jsonl", &file("a", &[-DAY - 1, 0, HOUR, HOUR + 1, DAY]));
    house.write("landing-zone/store/1.jsonl", b"{}\n");
    house.succeed(&["run"]);
    house.write(
        "landing-zone/web/2.jsonl",
        &file("b", &[DAY + 1, 7 * DAY, 7 * DAY + 1, 30 * DAY, 30 * DAY + 1, 400 * DAY]),
    );
    house.succeed(&["run"]);
    let columns =
        "late_up_to_1h, late_1h_to_1d, late_1d_to_7d, late_7d_to_30d, late_over_30d, late_events, future_events";
    let rows = house.sql(&format!("select source, batch, landed, {columns} from data_quality order by 2, 1"));
    assert_eq!(rows, ["store,1,0,0,0,0,0,0,0,0", "web,1,5,3,2,0,0,0,0,1", "web,2,6,0,0,2,2,2,6,0"]);
    // What a source has not landed has no freshness; the other has the same in each batch.
    let freshness = house.sql("select source, freshness_seconds from data_quality order by batch, source");
    assert_eq!(freshness, ["store,", "web,0.0", "web,0.0"]);
}

#[test]
fn the_events_are_gone_through_once() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/queries/marts/data_quality.sql");
    let model = std::fs::read_to_string(path).unwrap();
    let plan = house.succeed(&["sql", "-c", &format!("explain {model}"), "--format", "json"]);
    let plans: Vec<serde_json::Value> = serde_json::from_str(&plan).unwrap();
    let physical = plans.iter().find(|row| row["plan_type"] == "physical_plan").unwrap()["plan"].as_str().unwrap();
    let scans = physical.lines().filter(|line| line.contains("DataSourceExec") && line.contains("landing/events"));
    assert_eq!(scans.count(), 1, "{physical}");
}
