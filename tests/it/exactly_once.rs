//! Killed at any step and run again, a batch is landed once: through the real binary, at every fail point.

use crate::fail_points::LANDING;
use crate::house::House;

/// A shop whose events bring no `received_at`.
pub const PROJECT: &str = r#"
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
[[funnels]]
name = "shop"
steps = ["view", "purchase"]
window = "7d"
"#;

/// Five events on two days, one duplicate, two dead letters.
const FIRST: &[u8] = br#"{"id":"a","ts":"2025-01-01T10:00:00Z","event":"view","customer":"u1"}
{"id":"b","ts":"2025-01-01T10:05:00Z","event":"purchase","customer":"u1"}
{"id":"b","ts":"2025-01-01T10:05:00Z","event":"purchase","customer":"u1"}
{"id":"c","ts":"2025-01-02T10:00:00Z","event":"view","customer":"u2"}
{"id":"d","ts":"tomorrow","event":"view","customer":"u2"}
{"ts":"2025-01-02T10:10:00Z","event":"view","customer":"u2"}
{"ts":"2025-01-02T10:10:00Z","event":"view","customer":"u2"}
{"broken
"#;

/// One more, one known, one dead letter.
const SECOND: &[u8] = br#"{"id":"a","ts":"2025-01-01T10:00:00Z","event":"view","customer":"u1"}
{"id":"e","ts":"2025-01-03T10:00:00Z","event":"view","customer":"u3"}
{"id":"f","ts":"2025-01-03T10:00:00Z","customer":"u3"}
"#;

fn house() -> House {
    House::new(PROJECT, &[("landing-zone/one.jsonl", FIRST)])
}

/// Everything that a batch may change, as text: counts, and the multisets of events and dead letters. Events bring no
/// `received_at`, so each must have the time of its batch, which a batch that is read again must keep.
fn landed(house: &House) -> Vec<Vec<String>> {
    let others = house.sql("select event_id from events join batches using (batch) where received_at <> planned_at");
    assert!(others.is_empty(), "received at another time than that of their batch: {others:?}");
    vec![
        house.sql("select event_id, occurred_at, touchpoint, batch from events order by 1, 2"),
        house.sql("select batch, source, origin, reason, encode(record, 'hex') from dead_letters order by 1, 2, 3"),
        house.sql("select batch, source, files, rows_in, landed, duplicates, dead_letters from batches order by 1"),
    ]
}

#[test]
fn a_batch_killed_at_any_step_of_landing_lands_once() {
    let undisturbed = house();
    undisturbed.succeed(&["land"]);
    let expected = landed(&undisturbed);
    assert_eq!(expected[0].len(), 5);
    assert_eq!(expected[1].len(), 2);
    assert_eq!(expected[2], ["1,web,1,8,5,1,2"]);
    for failpoint in LANDING {
        let house = house();
        house.die_at(failpoint, &["land"]);
        house.succeed(&["land"]);
        assert_eq!(landed(&house), expected, "after a kill at {failpoint}");
    }
}

#[test]
fn a_batch_killed_twice_in_a_row_lands_once() {
    let undisturbed = house();
    undisturbed.succeed(&["land"]);
    for (first, second) in [
        ("land.part.close", "land.dlq.commit.after_put"),
        ("land.dlq.commit.after_put", "land.commit.before"),
        ("land.commit.before", "land.part.mid"),
    ] {
        let house = house();
        house.die_at(first, &["land"]);
        house.die_at(second, &["land"]);
        house.succeed(&["land"]);
        assert_eq!(landed(&house), landed(&undisturbed), "after kills at {first} and {second}");
    }
}

#[test]
fn a_second_batch_killed_at_any_step_leaves_the_first_alone_and_lands_once() {
    let undisturbed = house();
    undisturbed.succeed(&["land"]);
    undisturbed.write("landing-zone/two.jsonl", SECOND);
    undisturbed.succeed(&["land"]);
    let expected = landed(&undisturbed);
    assert_eq!(expected[1].len(), 3);
    assert_eq!(expected[2], ["1,web,1,8,5,1,2", "2,web,1,3,1,1,1"]);
    for failpoint in LANDING {
        let house = house();
        house.succeed(&["land"]);
        let first = house.sql("select planned_at from batches");
        house.write("landing-zone/two.jsonl", SECOND);
        house.die_at(failpoint, &["land"]);
        let manifest = house.path().join("lake/landing/batches/000000000002.json");
        let planned = std::fs::read_to_string(&manifest).ok();
        house.succeed(&["land"]);
        assert_eq!(landed(&house), expected, "after a kill at {failpoint}");
        assert_eq!(house.sql("select planned_at from batches order by batch limit 1"), first);
        if planned.is_some() {
            assert_eq!(std::fs::read_to_string(&manifest).ok(), planned, "the plan stays after a kill at {failpoint}");
        }
    }
}

#[test]
fn a_file_that_changed_while_its_batch_was_cut_short_is_planned_anew() {
    let house = house();
    house.die_at("land.part.close", &["land"]);
    house.write("landing-zone/one.jsonl", SECOND);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select event_id from events order by 1"), ["a", "e"]);
}

#[test]
fn a_file_that_changed_between_the_two_commits_of_its_batch_is_an_error_until_it_is_restored() {
    let undisturbed = house();
    undisturbed.succeed(&["land"]);
    let house = house();
    house.die_at("land.commit.before", &["land"]);
    house.write("landing-zone/one.jsonl", SECOND);
    let stderr = house.fail(2, &["land"]);
    assert!(stderr.contains("landing-zone/one.jsonl changed or went away while batch 1 was landing"), "{stderr}");
    // Restored, it has another time and the same content.
    house.write("landing-zone/one.jsonl", FIRST);
    house.succeed(&["land"]);
    assert_eq!(landed(&house), landed(&undisturbed));
}

#[test]
fn a_configuration_that_changed_before_any_commit_of_a_batch_is_the_one_that_counts() {
    let house = house();
    house.die_at("land.dlq.commit.before", &["land"]);
    house.write("wayline.toml", PROJECT.replace("\"event\"", "\"upper(event)\"").as_bytes());
    house.succeed(&["land"]);
    let shape = "select count(*), min(touchpoint) from events";
    assert_eq!(house.sql(shape), ["5,PURCHASE"]);
    assert_eq!(house.sql("select count(*) from dead_letters"), ["2"]);
}

#[test]
fn a_configuration_that_changed_between_the_two_commits_of_a_batch_is_an_error_until_it_is_restored() {
    let undisturbed = house();
    undisturbed.succeed(&["land"]);
    for other in [
        PROJECT.replace("event_id    = \"id\"", "event_id    = \"nullif(id, 'd')\""),
        PROJECT.replace(
            "occurred_at = \"ts\"",
            "occurred_at = \"coalesce(nullif(ts, 'tomorrow'), '2025-01-02T10:00:00Z')\"",
        ),
        format!("[landing]\nmax_record_bytes = 60\n{PROJECT}"),
    ] {
        let house = house();
        house.die_at("land.commit.before", &["land"]);
        house.write("wayline.toml", other.as_bytes());
        let stderr = house.fail(2, &["land"]);
        assert!(stderr.contains("configuration") && stderr.contains("hint: restore it"), "{stderr}");
        house.write("wayline.toml", PROJECT.as_bytes());
        house.succeed(&["land"]);
        assert_eq!(landed(&house), landed(&undisturbed));
    }
}

#[test]
fn a_second_run_is_refused_while_one_is_at_work() {
    let house = house();
    let lock = std::fs::File::create(house.path().join(".wayline.lock")).unwrap();
    lock.lock().unwrap();
    let stderr = house.fail(75, &["run"]);
    assert!(stderr.contains("another run holds"), "{stderr}");
}
