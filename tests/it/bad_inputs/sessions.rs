//! Rows about sessions and journeys: ties, ends of a gap, and one customer with very many events.

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
identifiers = { user_id = "user" }
[sessions]
timeout = "30m"
"#;

fn line(user: &str, id: &str, time: &str, event: &str) -> String {
    format!("{{\"id\":\"{id}\",\"ts\":\"2025-01-01T{time}Z\",\"event\":\"{event}\",\"user\":\"{user}\"}}\n")
}

#[test]
fn a_gap_of_exactly_the_timeout_stays_in_the_session_and_a_microsecond_more_does_not() {
    decided("B132", "ACCEPT ok");
    let lines = [
        line("exact", "a", "10:00:00", "view"),
        line("exact", "b", "10:30:00", "view"),
        line("more", "c", "10:00:00", "view"),
        line("more", "d", "10:30:00.000001", "view"),
    ];
    let house = House::new(PROJECT, &[("in/1.jsonl", lines.concat().as_bytes())]);
    house.succeed(&["run"]);
    let query = "select value, session_count from identity_map join customers using (customer_id) order by 1";
    assert_eq!(house.sql(query), ["exact,1", "more,2"]);
}

#[test]
fn equal_times_have_one_order_whatever_the_order_in_the_file() {
    decided("B088", "ACCEPT ok");
    let mut lines: Vec<String> =
        (0..200).map(|at| line("u", &format!("{at:03}"), "10:00:00", &format!("t{at:03}"))).collect();
    let path = |lines: &[String]| {
        let house = House::new(PROJECT, &[("in/1.jsonl", lines.concat().as_bytes())]);
        house.succeed(&["run"]);
        house.sql("select touchpoints from journeys")
    };
    let forwards = path(&lines);
    lines.reverse();
    assert_eq!(path(&lines), forwards);
}

#[test]
fn one_customer_with_very_many_events_is_counted_like_any_other() {
    decided("B129", "ACCEPT");
    decided("B130", "ACCEPT");
    decided("B131", "ACCEPT");
    let events = 100_000;
    let time = |at: usize| format!("{:02}:{:02}:{:02}.{:02}", at / 360_000, at / 6_000 % 60, at / 100 % 60, at % 100);
    let event = |at: usize| if at.is_multiple_of(2) { "a" } else { "b" };
    let mut lines: String = (0..events).map(|at| line("bot", &at.to_string(), &time(at), event(at))).collect();
    lines += &line("person", "p", "10:00:00", "view");
    let house = House::new(PROJECT, &[("in/1.jsonl", lines.as_bytes())]);
    house.succeed(&["run"]);
    let query =
        "select value, event_count, session_count from identity_map join customers using (customer_id) order by 1";
    assert_eq!(house.sql(query), [format!("bot,{events},1"), "person,1,1".into()]);
    assert_eq!(house.sql("select max(touch_count) from journeys"), [events.to_string()]);
}
