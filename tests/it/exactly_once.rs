//! Killed at any step and run again, a batch is landed once: through the real binary, at every fail point.

use crate::house::House;

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "landing-zone/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "ts"
received_at = "ts"
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

/// One more, one known.
const SECOND: &[u8] = br#"{"id":"a","ts":"2025-01-01T10:00:00Z","event":"view","customer":"u1"}
{"id":"e","ts":"2025-01-03T10:00:00Z","event":"view","customer":"u3"}
"#;

fn house() -> House {
    House::new(PROJECT, &[("landing-zone/one.jsonl", FIRST)])
}

/// Everything that a batch may change, as text: counts, and the multisets of events and dead letters.
fn landed(house: &House) -> Vec<Vec<String>> {
    vec![
        house.sql("select event_id, occurred_at, touchpoint, batch from events order by 1, 2"),
        house.sql("select batch, source, origin, reason, encode(record, 'hex') from dead_letters order by 1, 2, 3"),
        house.sql("select batch, source, files, rows_in, landed, duplicates, dead_letters from batches order by 1"),
    ]
}

const LANDING: [&str; 16] = [
    "land.plan",
    "land.manifest",
    "land.snapshot",
    "land.read",
    "land.parse",
    "land.part.open",
    "land.part.mid",
    "land.part.close",
    "land.ledger",
    "land.dlq.commit.before",
    "land.dlq.commit.after_put",
    "land.dlq.commit.after_ack",
    "land.commit.before",
    "land.commit.after_put",
    "land.commit.after_ack",
    "land.ack",
];

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
fn a_second_batch_killed_at_any_commit_leaves_the_first_alone_and_lands_once() {
    let undisturbed = house();
    undisturbed.succeed(&["land"]);
    undisturbed.write("landing-zone/two.jsonl", SECOND);
    undisturbed.succeed(&["land"]);
    let expected = landed(&undisturbed);
    assert_eq!(expected[2], ["1,web,1,8,5,1,2", "2,web,1,2,1,1,0"]);
    for failpoint in ["land.manifest", "land.part.close", "land.commit.before", "land.commit.after_put", "land.ack"] {
        let house = house();
        house.succeed(&["land"]);
        house.write("landing-zone/two.jsonl", SECOND);
        house.die_at(failpoint, &["land"]);
        house.succeed(&["land"]);
        assert_eq!(landed(&house), expected, "after a kill at {failpoint}");
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
fn a_file_that_changed_between_the_two_commits_of_its_batch_is_an_error_that_names_it() {
    let house = house();
    house.die_at("land.commit.before", &["land"]);
    house.write("landing-zone/one.jsonl", SECOND);
    let stderr = house.fail(2, &["land"]);
    assert!(stderr.contains("landing-zone/one.jsonl changed or went away while batch 1 was landing"), "{stderr}");
    house.write("landing-zone/one.jsonl", FIRST);
}

#[test]
fn a_second_run_is_refused_while_one_is_at_work() {
    let house = house();
    let lock = std::fs::File::create(house.path().join(".wayline.lock")).unwrap();
    lock.lock().unwrap();
    let stderr = house.fail(75, &["run"]);
    assert!(stderr.contains("another run holds"), "{stderr}");
}
