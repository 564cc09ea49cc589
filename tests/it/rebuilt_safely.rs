//! What is built from landed events: rebuilt when it must be and only then, published when it is sound and only then,
//! and the same after a kill at any step as without.

use std::collections::{BTreeMap, BTreeSet};

use crate::fail_points::{BUILDING, CHANGING};
use crate::house::{House, published};

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

/// Three events on two days.
const FIRST: &[u8] = br#"{"id":"a","ts":"2025-01-01T10:00:00Z","event":"view","customer":"u1"}
{"id":"b","ts":"2025-01-01T10:05:00Z","event":"purchase","customer":"u1"}
{"id":"c","ts":"2025-01-02T10:00:00Z","event":"view","customer":"u2"}
"#;

/// One that is known.
const KNOWN: &[u8] = br#"{"id":"a","ts":"2025-01-01T10:00:00Z","event":"view","customer":"u1"}
"#;

/// A late event that begins an older session and so moves one to another day, and a newer one.
const SECOND: &[u8] = br#"{"id":"d","ts":"2025-01-01T23:50:00Z","event":"view","customer":"u2"}
{"id":"f","ts":"2025-01-02T00:10:00Z","event":"view","customer":"u2"}
{"id":"e","ts":"2025-01-03T10:00:00Z","event":"view","customer":"u3"}
"#;

fn house() -> House {
    House::new(PROJECT, &[("landing-zone/one.jsonl", FIRST)])
}

fn exists(house: &House, path: &str) -> bool {
    house.path().join("lake").join(path).exists()
}

/// Names of the models that a build would touch.
fn planned(house: &House) -> Vec<String> {
    let plan = house.succeed(&["build", "--dry-run"]);
    plan.lines().filter_map(|line| Some(line.strip_prefix("build")?.split_whitespace().next()?.to_string())).collect()
}

#[test]
fn a_batch_of_nothing_but_known_events_rebuilds_what_tells_of_batches_alone() {
    let house = house();
    house.succeed(&["run"]);
    house.write("landing-zone/two.jsonl", KNOWN);
    house.succeed(&["land"]);
    assert_eq!(planned(&house), ["data_quality", "runs"]);
    house.write("landing-zone/three.jsonl", SECOND);
    house.succeed(&["land"]);
    assert!(planned(&house).contains(&"int_timelines".to_string()));
}

#[test]
fn a_lake_whose_events_landed_anew_is_built_anew() {
    let house = house();
    house.succeed(&["run"]);
    std::fs::remove_dir_all(house.path().join("lake/landing")).unwrap();
    house.write("landing-zone/one.jsonl", SECOND);
    house.succeed(&["run"]);
    assert_eq!(house.sql("select sum(event_count) from customers"), ["3"]);
    assert_eq!(house.sql("select count(*) from identity_map"), ["2"]);
}

#[test]
fn checks_wait_until_the_models_that_they_compare_are_up_to_date() {
    let house = house();
    house.succeed(&["run"]);
    assert!(!house.succeed(&["check"]).contains("skipped"));
    house.write("landing-zone/two.jsonl", SECOND);
    house.succeed(&["land"]);
    let out = house.succeed(&["check"]);
    assert!(out.contains("0 failed") && out.contains("checks skipped"), "{out}");
    house.succeed(&["build", "-s", "sessions"]);
    house.succeed(&["build", "-s", "+sessions"]);
    house.succeed(&["run"]);
    assert!(!house.succeed(&["check"]).contains("skipped"));
}

#[test]
fn a_relationship_is_checked_again_when_the_other_model_changes() {
    let house = house();
    house.write("queries/parents.sql", b"select distinct touchpoint from events");
    house.write(
        "queries/children.sql",
        b"-- checks: relationships(touchpoint, parents.touchpoint)\n-- publish: file\nselect touchpoint from events",
    );
    house.succeed(&["run"]);
    assert!(exists(&house, "marts/children.parquet"));
    house.write("queries/parents.sql", b"select distinct touchpoint from events where touchpoint <> 'view'");
    // The child alone is built without the other, which then has nothing to say.
    house.succeed(&["build", "-s", "children"]);
    let stderr = house.fail(1, &["run"]);
    assert!(stderr.contains("children.relationships(touchpoint, parents.touchpoint)"), "{stderr}");
}

#[test]
fn what_was_built_from_a_model_that_failed_is_not_published() {
    let house = house();
    let base: &[u8] = b"-- checks: unique(touchpoint)\nselect touchpoint from events";
    house.write("queries/base.sql", base);
    house.write("queries/view_of_it.sql", b"-- build: view\nselect * from base");
    house.write("queries/on_top.sql", b"-- publish: file\nselect count(*) as touchpoints from view_of_it");
    house.write("queries/beside.sql", b"-- publish: file\nselect 1 as one");
    house.fail(1, &["run"]);
    assert!(exists(&house, "marts/beside.parquet") && exists(&house, "marts/sessions"));
    assert!(!exists(&house, "marts/on_top.parquet"));
    house.fail(1, &["run"]);
    assert!(!exists(&house, "marts/on_top.parquet"), "nor by a second run, for which it is not stale");
    house.write("queries/base.sql", b"-- checks: unique(touchpoint)\nselect distinct touchpoint from events");
    house.succeed(&["run"]);
    assert!(exists(&house, "marts/on_top.parquet"));
}

#[test]
fn files_made_ahead_of_a_check_that_fails_are_not_published() {
    let house = house();
    let sizes = "-- build: incremental by customer\n-- publish: file\n-- grain: customer_id\n\
                 -- checks: accepted_values(size, few)\n\
                 select customer_id, case when cardinality(times) > 2 then 'many' else 'few' end as size from int_timelines";
    house.write("queries/sizes.sql", sizes.as_bytes());
    house.succeed(&["run"]);
    let before = published(&house);
    house.write("landing-zone/two.jsonl", SECOND);
    let ran = house.command(&["run"]).env("RUST_LOG", "wayline=debug").output().unwrap();
    let told = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{told}");
    let is_made_ahead = |mart: &str| told.lines().any(|line| line.contains("made ahead") && line.contains(mart));
    let made_ahead = ["\"customers\"", "\"sizes\"", "\"path_edges\""];
    assert!(made_ahead.into_iter().all(is_made_ahead), "{told}");
    let after = published(&house);
    assert!(before["sizes.parquet"] == after["sizes.parquet"]);
    assert!(before["customers.parquet"] != after["customers.parquet"]);
    let staged = std::fs::read_dir(house.path().join("lake/staging")).map_or(0, Iterator::count);
    assert_eq!(staged, 0);

    // All at once comes to the same files.
    let other = House::new(PROJECT, &[("landing-zone/one.jsonl", FIRST), ("landing-zone/two.jsonl", SECOND)]);
    other.succeed(&["run"]);
    assert!(published(&other)["customers.parquet"] == after["customers.parquet"]);
}

#[test]
fn published_files_that_nothing_names_go_and_those_that_are_gone_come_back() {
    let house = house();
    house.succeed(&["run"]);
    let before = published(&house);
    let stray = "lake/marts/sessions/started_date=2020-01-01/part-0.parquet";
    house.write(stray, &before["customers.parquet"]);
    house.succeed(&["run"]);
    assert_eq!(published(&house), before);
    assert!(!house.path().join(stray).parent().unwrap().exists());
    std::fs::remove_file(house.path().join("lake/marts/customers.parquet")).unwrap();
    let staged = "lake/staging/left-by-a-run-that-was-cut-short.parquet";
    house.write(staged, &before["customers.parquet"]);
    house.succeed(&["run"]);
    assert_eq!(published(&house), before);
    assert!(!house.path().join(staged).exists());
    std::fs::remove_dir_all(house.path().join("lake/marts")).unwrap();
    house.succeed(&["run"]);
    assert_eq!(published(&house), before);
    assert!(house.succeed(&["run"]).contains("nothing new"));
}

#[test]
fn a_run_killed_behind_landing_ends_where_an_undisturbed_one_does() {
    let undisturbed = house();
    undisturbed.succeed(&["run"]);
    let first = published(&undisturbed);
    undisturbed.write("landing-zone/two.jsonl", SECOND);
    undisturbed.succeed(&["run"]);
    let second = published(&undisturbed);
    assert_ne!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>(), "the late event adds a day");
    for (failpoint, time) in BUILDING {
        let house = house();
        house.die_at_time(failpoint, time, &["run"]);
        house.succeed(&["run"]);
        assert_eq!(published(&house), first, "after a kill at {failpoint}, time {time}");
        house.write("landing-zone/two.jsonl", SECOND);
        house.succeed(&["run"]);
        assert_eq!(published(&house), second, "after a kill of the first run at {failpoint}, time {time}");
    }
    for (failpoint, time) in CHANGING {
        let house = house();
        house.succeed(&["run"]);
        house.write("landing-zone/two.jsonl", SECOND);
        house.die_at_time(failpoint, time, &["run"]);
        house.succeed(&["run"]);
        assert_eq!(published(&house), second, "after a kill of the second run at {failpoint}, time {time}");
        assert!(house.succeed(&["run"]).contains("nothing new"), "done after a kill at {failpoint}");
    }
}

/// Limits of models of our own.
#[derive(Clone, Copy)]
struct Limits {
    /// In rows of customers.
    of_table: usize,
    /// In a view over such rows.
    of_view: usize,
    /// In a view over sums.
    of_sums: usize,
}

const LIMITS: Limits = Limits { of_table: 2, of_view: 2, of_sums: 0 };

/// Writes models of touched customers, of days and of sums, over rows of customers and over a view.
fn write_models(house: &House, Limits { of_table, of_view, of_sums }: Limits) {
    let longer_by_day =
        "select started_date, max(touch_count) filter (where is_longer) as most from longer group by started_date";
    for (name, header, sql) in [
        (
            "long",
            "incremental by customer\n-- grain: customer_id",
            format!("select customer_id, cardinality(times) >= {of_table} as is_long from int_timelines"),
        ),
        (
            "who_is_long",
            "incremental by customer\n-- grain: customer_id\n-- publish: file",
            "select customer_id, is_long from long".into(),
        ),
        (
            "longer",
            "view\n-- grain: session_id\n-- checks: unique(session_id)",
            format!("select *, touch_count >= {of_view} as is_longer from sessions"),
        ),
        (
            "longer_by_customer",
            "incremental by customer\n-- grain: session_id\n-- publish: file",
            "select session_id, customer_id, is_longer from longer".into(),
        ),
        (
            "longer_by_day",
            "incremental by day(started_date)\n-- grain: started_date\n-- publish: file",
            longer_by_day.into(),
        ),
        (
            "longer_summed",
            "incremental by sum(sessions)\n-- grain: is_longer, started_date",
            "select is_longer, started_date, count(*) as sessions from longer group by is_longer, started_date".into(),
        ),
        (
            "longer_published",
            "view\n-- grain: is_longer, started_date\n-- publish: file",
            format!("select * from longer_summed where sessions > {of_sums}"),
        ),
    ] {
        house.write(&format!("queries/{name}.sql"), format!("-- build: {header}\n{sql}").as_bytes());
    }
}

/// Runs; gives what was said of each model.
fn run(house: &House) -> BTreeMap<String, String> {
    let report = house.report(&["run"]);
    let results = report["results"].as_array().unwrap().iter();
    let told = results.filter_map(|line| {
        let name = line["unique_id"].as_str()?.strip_prefix("model.wayline.")?;
        Some((name.to_string(), line["message"].as_str()?.to_string()))
    });
    told.collect()
}

#[test]
fn what_is_defined_anew_while_events_come_is_built_whole_and_nothing_else_is() {
    let project = format!("{PROJECT}[engine]\nrebuild_share = 1.0\n");
    let patient = project.replace("[journeys]", "[sessions]\ntimeout = \"1h\"\n[journeys]");
    let whole = |configuration: &str, limits| {
        let house = House::new(configuration, &[("landing-zone/one.jsonl", FIRST), ("landing-zone/two.jsonl", SECOND)]);
        write_models(&house, limits);
        house.succeed(&["run"]);
        published(&house)
    };
    let begun = || {
        let house = House::new(&project, &[("landing-zone/one.jsonl", FIRST)]);
        write_models(&house, LIMITS);
        house.succeed(&["run"]);
        house.write("landing-zone/two.jsonl", SECOND);
        house
    };
    let are_of_touched = |told: &BTreeMap<String, String>, names: &[&str]| {
        names.iter().all(|name| told[*name].contains("touched customers"))
    };
    let expect_same = |house: &House, expected: &BTreeMap<String, Vec<u8>>| {
        assert_eq!(others(&published(house), expected), [""; 0]);
    };

    let followed = |limits| {
        let house = begun();
        write_models(&house, limits);
        let line = run(&house);
        expect_same(&house, &whole(&project, limits));
        line
    };

    let line = followed(LIMITS);
    let of_customers = ["int_timelines", "long", "who_is_long", "sessions", "longer_by_customer"];
    assert!(are_of_touched(&line, &of_customers), "{line:#?}");
    assert!(line["longer_by_day"].contains("days") && line["longer_summed"].contains("sums added"), "{line:#?}");

    let of_table = Limits { of_table: 1, ..LIMITS };
    let line = followed(of_table);
    assert!(are_of_touched(&line, &["int_timelines", "sessions", "longer_by_customer"]), "{line:#?}");
    assert_eq!((&*line["long"], &*line["who_is_long"]), ("changed SQL", "changed upstream: long"));

    // What was built alone, from what is defined anew or while that was as it was, does not hide it.
    for builds in [&["+long"][..], &["who_is_long", "+long"]] {
        let alone = begun();
        write_models(&alone, of_table);
        alone.succeed(&["land"]);
        for selector in builds {
            alone.succeed(&["build", "-s", selector]);
        }
        assert_eq!(run(&alone)["who_is_long"], "changed upstream: long");
        expect_same(&alone, &whole(&project, of_table));
    }

    let line = followed(Limits { of_view: 1, ..LIMITS });
    assert!(are_of_touched(&line, &["int_timelines", "who_is_long", "sessions"]), "{line:#?}");
    let of_view = ["longer_by_customer", "longer_by_day", "longer_summed"];
    assert!(of_view.iter().all(|name| line[*name] == "changed upstream: longer"), "{line:#?}");

    assert!(followed(Limits { of_sums: 1, ..LIMITS })["longer_summed"].contains("sums added"));

    let setting = begun();
    setting.write("wayline.toml", patient.as_bytes());
    let line = run(&setting);
    assert!(are_of_touched(&line, &["int_timelines", "long"]), "{line:#?}");
    assert_eq!(
        (&*line["sessions"], &*line["longer_by_day"]),
        ("changed configuration: settings", "changed upstream: longer")
    );
    expect_same(&setting, &whole(&patient, LIMITS));
}

#[test]
fn a_setting_that_was_another_for_a_while_hides_nobody_who_came_to_its_age() {
    let project = format!("{PROJECT}[engine]\nrebuild_share = 1.0\n");
    let soon = project.replace("goal =", "timeout = \"2d\"\ngoal =");
    let events = [
        ("landing-zone/one.jsonl", FIRST),
        // Long after the journey of u2 has expired.
        ("landing-zone/two.jsonl", br#"{"id":"x","ts":"2025-01-06T10:00:00Z","event":"view","customer":"u8"}"#),
        ("landing-zone/three.jsonl", br#"{"id":"y","ts":"2025-01-06T11:00:00Z","event":"view","customer":"u9"}"#),
    ];
    let house = House::new(&soon, &events[..1]);
    house.succeed(&["run"]);
    house.write("wayline.toml", project.as_bytes());
    house.write(events[1].0, events[1].1);
    house.succeed(&["land"]);
    house.succeed(&["build", "-s", "int_timelines"]);
    house.write("wayline.toml", soon.as_bytes());
    house.write(events[2].0, events[2].1);
    assert!(run(&house)["journeys"].contains("touched customers"));
    let whole = House::new(&soon, &events);
    whole.succeed(&["run"]);
    assert_eq!(whole.sql("select state from journeys where started_date = '2025-01-02'"), ["expired"]);
    assert_eq!(others(&published(&house), &published(&whole)), [""; 0]);
}

#[test]
fn a_check_of_what_is_defined_anew_is_not_put_off() {
    let house = House::new(&format!("{PROJECT}[engine]\nrebuild_share = 1.0\n"), &[("landing-zone/one.jsonl", FIRST)]);
    write_models(&house, LIMITS);
    house.succeed(&["run"]);
    house.write(
        "queries/longer.sql",
        b"-- build: view\n-- grain: session_id\n-- checks: unique(session_id)\n\
        select *, true as is_longer from sessions union all select *, false as is_longer from sessions",
    );
    house.write("landing-zone/two.jsonl", SECOND);
    let stderr = house.fail(1, &["run", "--check-touched"]);
    assert!(stderr.contains("longer.unique(session_id)"), "{stderr}");
}

/// Paths of published files that are others in the second than in the first.
fn others(first: &BTreeMap<String, Vec<u8>>, second: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let paths: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    paths.into_iter().filter(|path| first.get(*path) != second.get(*path)).cloned().collect()
}
