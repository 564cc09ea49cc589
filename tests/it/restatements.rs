//! Which published figures late events have changed, as `restatements` tells it.

use crate::house::House;

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "landing-zone/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "ts"
received_at = "received"
touchpoint  = "event"
channel     = "'web'"
identifiers = { user_id = "customer" }
[journeys]
goal = ["purchase"]
"#;

const FIRST: &[u8] =
    br#"{"id":"a","ts":"2025-01-01T10:00:00Z","received":"2025-01-01T10:00:01Z","event":"view","customer":"u1"}
{"id":"b","ts":"2025-01-02T10:00:00Z","received":"2025-01-02T10:00:01Z","event":"view","customer":"u2"}
"#;

/// An event ten days late, which is a session of its own, and one in time on a new day.
const SECOND: &[u8] =
    br#"{"id":"c","ts":"2025-01-01T15:00:00Z","received":"2025-01-11T15:00:00Z","event":"view","customer":"u1"}
{"id":"d","ts":"2025-01-03T10:00:00Z","received":"2025-01-03T10:00:01Z","event":"view","customer":"u3"}
"#;

fn house() -> House {
    let house = House::new(PROJECT, &[("landing-zone/one.jsonl", FIRST)]);
    house.succeed(&["run"]);
    house
}

#[test]
fn late_events_are_told_with_the_days_that_they_changed() {
    let house = house();
    assert_eq!(house.sql("select count(*) from restatements"), ["0"], "what is published first restates nothing");
    house.write("landing-zone/two.jsonl", SECOND);
    house.succeed(&["run"]);
    let told = "mart, day, rows_before, rows_after, rows_removed, rows_added, first_batch, last_batch, events, \
                max_lateness_seconds";
    let of = "mart in ('sessions', 'journeys', 'customers')";
    assert_eq!(
        house.sql(&format!("select {told} from restatements where {of} order by 1, 2")),
        [
            "customers,,2,3,1,2,2,2,2,864000",
            "journeys,2025-01-01,1,1,1,1,2,2,1,864000",
            "sessions,2025-01-01,1,2,0,1,2,2,1,864000",
        ]
    );
    let of_one_run = "select count(distinct run_id), min(run_results.landed), count(*) = count(reason)
                      from restatements join run_results using (run_id)";
    assert_eq!(house.sql(of_one_run), ["1,2,true"]);
    assert_eq!(house.sql("select count(*) from restatements where mart = 'runs'"), ["0"]);
    assert!(house.succeed(&["run"]).contains("nothing new"));
}

#[test]
fn what_is_built_whole_is_told_without_its_rows_and_what_comes_out_the_same_is_not_told() {
    let house = house();
    house.write("landing-zone/two.jsonl", SECOND);
    house.succeed(&["run"]);
    let before = house.sql("select count(*) from restatements");
    // The first session of `u1` now goes on until the second, and all others are what they were.
    house.write("wayline.toml", format!("{PROJECT}\n[sessions]\ntimeout = \"6h\"\n").as_bytes());
    house.succeed(&["run"]);
    assert_ne!(house.sql("select count(*) from restatements"), before);
    assert_eq!(
        house.sql(
            "select day, rows_before, rows_after, rows_removed, first_batch, events from restatements
             where mart = 'sessions' and reason like 'changed configuration%'"
        ),
        ["2025-01-01,2,1,,,"]
    );
}

#[test]
fn a_mart_whose_words_or_folders_are_others_has_restated_nothing() {
    let house = house();
    let model = |words: &str, publish: &str| {
        format!("-- {words}\n--\n-- grain: event_id\n-- publish: {publish}\nselect event_id, occurred_date from events")
    };
    for (words, publish) in [("Events.", "file"), ("All events.", "file"), ("All events.", "by day(occurred_date)")] {
        house.write("queries/event_days.sql", model(words, publish).as_bytes());
        house.succeed(&["run"]);
    }
    assert!(house.path().join("lake/marts/event_days/occurred_date=2025-01-01/part-0.parquet").exists());
    assert_eq!(house.sql("select count(*) from restatements where mart = 'event_days'"), ["0"]);
}

#[test]
fn a_model_of_restatements_is_built_once_per_run() {
    let house = house();
    house.write(
        "queries/late_figures.sql",
        b"-- publish: file\nselect mart, count(*) as files from restatements group by mart",
    );
    house.succeed(&["run"]);
    house.write("landing-zone/two.jsonl", SECOND);
    house.succeed(&["run"]);
    assert!(house.succeed(&["run"]).contains("nothing new"));
    // It was made before that run had published.
    assert_eq!(house.sql("select count(*) from late_figures"), ["0"]);
    house.write(
        "landing-zone/three.jsonl",
        br#"{"id":"e","ts":"2025-01-04T10:00:00Z","received":"2025-01-04T10:00:00Z","event":"view","customer":"u4"}"#,
    );
    house.succeed(&["run"]);
    assert_eq!(house.sql("select files from late_figures where mart = 'sessions'"), ["1"]);
}

/// Two that are alike, with late events that wait.
fn two_houses() -> [House; 2] {
    std::array::from_fn(|_| {
        let house = house();
        house.write("landing-zone/two.jsonl", SECOND);
        house
    })
}

/// All that is told, whichever run tells it.
fn told(house: &House) -> Vec<String> {
    house.sql(
        "select mart, day, rows_before, rows_after, first_batch, last_batch, events from restatements
         where mart <> 'runs' and mart <> 'data_quality' order by 1, 2",
    )
}

#[test]
fn a_run_that_finishes_another_tells_what_both_have_published() {
    let [house, other] = two_houses();
    house.die_at("publish.catalog", &["run"]);
    house.succeed(&["run"]);
    other.succeed(&["run"]);
    assert_eq!(told(&house), told(&other));
}

#[test]
fn what_a_run_restated_that_was_killed_before_its_report_is_told_by_the_next_and_once() {
    let [house, other] = two_houses();
    house.die_at("report.before", &["run"]);
    assert_eq!(told(&house), [""; 0]);
    other.succeed(&["run"]);
    // Also that run may be killed.
    house.die_at("report.before", &["run"]);
    house.succeed(&["run"]);
    assert!(told(&other).len() > 5);
    assert_eq!(told(&house), told(&other));
    assert!(house.succeed(&["run"]).contains("nothing new"));
    assert_eq!(told(&house), told(&other));
}

/// A run that an error ends behind the catalog leaves a report, in which nothing is restated.
#[test]
fn a_report_of_an_error_does_not_count_as_told() {
    let [house, other] = two_houses();
    house.die_at("report.before", &["run"]);
    let lake = house.path().join("lake");
    let json = |path: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let run_id = json(&lake.join("catalog.json"))["run_id"].as_str().unwrap().to_string();
    let mut report = json(&std::fs::read_dir(lake.join("runs")).unwrap().next().unwrap().unwrap().path());
    report["status"] = "error".into();
    report["metadata"]["invocation_id"] = run_id.clone().into();
    std::fs::write(lake.join(format!("runs/{run_id}.json")), report.to_string()).unwrap();
    house.succeed(&["run"]);
    other.succeed(&["run"]);
    assert_eq!(told(&house), told(&other));
}

#[test]
fn a_figure_that_is_another_in_both_runs_is_told_as_it_was_and_is() {
    let house = house();
    house.write("landing-zone/two.jsonl", SECOND);
    house.die_at("report.before", &["run"]);
    house.write(
        "landing-zone/three.jsonl",
        br#"{"id":"f","ts":"2025-01-01T20:00:00Z","received":"2025-01-12T20:00:00Z","event":"view","customer":"u1"}"#,
    );
    house.succeed(&["run"]);
    let of_sessions =
        "select day, rows_before, rows_after, rows_added, first_batch, last_batch, events from restatements
                       where mart = 'sessions'";
    assert_eq!(house.sql(of_sessions), ["2025-01-01,1,3,,2,3,2"]);
}
