//! Backfills: a window is made anew from landed events, and nothing beside it; also when the command is cut short.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;
use wayline::config::Project;
use wayline::derived::build::build;
use wayline::derived::changes::Changes;
use wayline::derived::{Derived, pages};
use wayline::models::folder;
use wayline::run::register_everything;
use wayline::workspace::Workspace;

use crate::fail_points::CHANGING;
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
channel     = "channel"
identifiers = { user_id = "customer" }
[journeys]
goal = ["purchase"]
[[funnels]]
name = "shop"
steps = ["view", "purchase"]
window = "7d"
"#;

/// Customers of one day each, but for `u3`, who comes on the second day and on the fourth.
const EVENTS: &[u8] = br#"{"id":"a","ts":"2025-01-01T10:00:00Z","event":"view","channel":"web","customer":"u1"}
{"id":"b","ts":"2025-01-01T10:05:00Z","event":"purchase","channel":"shop","customer":"u1"}
{"id":"c","ts":"2025-01-02T09:00:00Z","event":"view","channel":"web","customer":"u2"}
{"id":"d","ts":"2025-01-02T09:10:00Z","event":"cart","channel":"shop","customer":"u2"}
{"id":"e","ts":"2025-01-02T12:00:00Z","event":"view","channel":"web","customer":"u3"}
{"id":"f","ts":"2025-01-04T12:00:00Z","event":"purchase","channel":"web","customer":"u3"}
{"id":"g","ts":"2025-01-03T10:00:00Z","event":"view","channel":"web","customer":"u4"}
{"id":"h","ts":"2025-01-03T10:20:00Z","event":"cart","channel":"shop","customer":"u4"}
{"id":"i","ts":"2025-01-04T10:00:00Z","event":"view","channel":"web","customer":"u5"}
{"id":"j","ts":"2025-01-05T10:00:00Z","event":"view","channel":"shop","customer":"u6"}
"#;

/// One more event of the first customer, so that there are changes over the tables.
const LATER: &[u8] = br#"{"id":"k","ts":"2025-01-05T11:00:00Z","event":"view","channel":"web","customer":"u1"}
"#;

const SECOND_DAY: [&str; 5] = ["backfill", "--since", "2025-01-02", "--until", "2025-01-03"];
const ALL_DAYS: [&str; 5] = ["backfill", "--since", "2025-01-01", "--until", "2025-02-01"];

/// A project that has run twice.
fn house() -> House {
    let house = House::new(PROJECT, &[("landing-zone/one.jsonl", EVENTS)]);
    house.succeed(&["run"]);
    house.write("landing-zone/two.jsonl", LATER);
    house.succeed(&["run"]);
    house
}

/// Writes other rows into a model's table, whose record says nothing of it.
fn damage(house: &House, model: &str, sql: &str) {
    let work = async {
        let workspace = Workspace::open(Project::load(house.path()).unwrap()).unwrap();
        register_everything(&workspace, None).await.unwrap();
        let changes = Changes::load(&workspace.lake).await.unwrap();
        let table = Derived::open(&workspace.lake, &changes, &folder(model)).await.unwrap().unwrap();
        let built_from = table.built_from().unwrap().unwrap();
        let rows = workspace.ctx.sql(sql).await.unwrap();
        build(&workspace.lake, &folder(model), Some(&table.table), rows, &built_from, pages(&table.table).unwrap())
            .await
            .unwrap();
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

/// Damage of the second day: sessions that are others, too many and missing, and counts of touches;
/// and what `paths` is made of.
fn damage_second_day(house: &House) {
    damage(
        house,
        "sessions",
        "select * replace (touch_count + case when started_date = date '2025-01-02' then 100 else 0 end as touch_count)
         from sessions
         where not (started_date = date '2025-01-02' and exit_touchpoint = 'view')
         union all
         select * replace ('nobody' as customer_id, 'nothing' as session_id) from sessions
         where started_date = date '2025-01-02' and exit_touchpoint = 'cart'",
    );
    damage(
        house,
        "stage_channels",
        "select * replace (touches + 7 as touches) from stage_channels where occurred_date = date '2025-01-02'
         union all select * from stage_channels where occurred_date <> date '2025-01-02'",
    );
    damage(house, "int_paths_counted", "select * replace (journeys + 7 as journeys) from int_paths_counted");
}

fn rows(house: &House, query: &str) -> Vec<String> {
    let out = house.succeed(&["sql", "-c", query, "--format", "ndjson"]);
    let mut lines: Vec<String> = out.lines().map(String::from).collect();
    lines.sort_unstable();
    lines
}

/// Rows of all tables that the tests damage or that read them.
fn tables(house: &House) -> BTreeMap<&'static str, Vec<String>> {
    let names = [
        "int_timelines",
        "int_visits",
        "sessions",
        "journeys",
        "customers",
        "paths",
        "stage_channels",
        "funnel_steps",
        "drop_offs",
    ];
    names.map(|name| (name, rows(house, &format!("select * from {name}")))).into()
}

/// When each file of the marts was written.
fn written(house: &House) -> BTreeMap<PathBuf, SystemTime> {
    let marts = house.path().join("lake/marts");
    let files = house.lake_files().into_iter().filter(|(path, ..)| path.starts_with(&marts));
    files.map(|(path, _, at)| (path.strip_prefix(&marts).unwrap().to_path_buf(), at)).collect()
}

#[test]
fn damaged_rows_of_the_window_are_mended_and_those_beside_it_left() {
    let house = house();
    let sound = tables(&house);
    damage(
        &house,
        "sessions",
        "select * replace (touch_count + 100 as touch_count) from sessions
         where not (started_date = date '2025-01-02' and exit_touchpoint = 'view')
         union all
         select * replace ('nobody' as customer_id, 'nothing' as session_id) from sessions
         where started_date = date '2025-01-02' and exit_touchpoint = 'cart'",
    );
    damage(&house, "stage_channels", "select * replace (touches + 7 as touches) from stage_channels");
    assert!(house.succeed(&["run"]).contains("nothing new"), "a run does not look at what it has built");
    let stderr = house.fail(1, &SECOND_DAY);
    assert!(stderr.contains("every_event_is_in_exactly_one_session"), "checks find what is left: {stderr}");

    // All rows of `u3`, who was there on the second day, and no row of anybody else.
    let in_window = "select customer_id from touchpoints where occurred_date = date '2025-01-02'";
    let of = |what: &str| rows(&house, &format!("select * from sessions where customer_id {what} ({in_window})"));
    let mended = of("in");
    assert_eq!(mended.len(), 3);
    assert!(mended.iter().all(|row| sound["sessions"].contains(row)), "{mended:?}");
    let left = of("not in");
    assert_eq!(left.len(), sound["sessions"].len() - 3, "the stray row of the window is gone: {left:?}");
    assert!(left.iter().all(|row| !sound["sessions"].contains(row)), "{left:?}");
    for row in rows(&house, "select * from stage_channels") {
        let is_mended = sound["stage_channels"].contains(&row);
        assert_eq!(is_mended, row.contains("2025-01-02"), "{row}");
    }

    house.succeed(&ALL_DAYS);
    assert_eq!(tables(&house), sound);
    assert!(house.succeed(&["run"]).contains("nothing new"));
}

#[test]
fn a_row_that_was_only_lost_comes_back_once() {
    let house = house();
    let (sound, files) = (tables(&house), published(&house));
    damage(
        &house,
        "sessions",
        "select * from sessions where not (started_date = date '2025-01-02' and exit_touchpoint = 'view')",
    );
    house.succeed(&SECOND_DAY);
    assert_eq!(tables(&house), sound);
    let sessions = |files: &BTreeMap<String, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
        files.iter().filter(|(path, _)| path.starts_with("sessions/")).map(|(p, f)| (p.clone(), f.clone())).collect()
    };
    assert_eq!(sessions(&published(&house)), sessions(&files));
}

#[test]
fn damaged_files_of_the_window_are_published_again_and_no_others() {
    let house = house();
    let sound = published(&house);
    let (inside, beside) =
        ("sessions/started_date=2025-01-02/part-0.parquet", "sessions/started_date=2025-01-03/part-0.parquet");
    house.write(&format!("lake/marts/{inside}"), &sound[beside]);
    house.write(&format!("lake/marts/{beside}"), &sound[inside]);
    let before = written(&house);
    std::thread::sleep(std::time::Duration::from_millis(20));
    house.succeed(&SECOND_DAY);
    let (after, files) = (written(&house), published(&house));
    assert_eq!(files[inside], sound[inside]);
    assert_eq!(files[beside], sound[inside], "a day beside the window keeps its damage");
    let by_day = |path: &Path| path.to_string_lossy().contains("started_date=");
    for (path, at) in before.iter().filter(|(path, _)| by_day(path)) {
        // The journeys of the window are what they were, so their file stays.
        assert_eq!(after[path] != *at, path.ends_with(inside), "{}", path.display());
    }
}

#[test]
fn a_backfill_that_was_killed_is_finished_by_a_run_and_by_another() {
    let sound = house();
    let (expected, expected_tables) = (published(&sound), tables(&sound));
    for (number, (failpoint, time)) in CHANGING.into_iter().enumerate() {
        let house = house();
        damage_second_day(&house);
        // Or there were nothing to publish.
        for mart in [
            "customers",
            "drop_offs",
            "path_edges",
            "paths",
            "stage_channels",
            "sessions/started_date=2025-01-02/part-0",
        ] {
            house.write(&format!("lake/marts/{mart}.parquet"), b"damaged");
        }
        house.die_at_time(failpoint, time, &SECOND_DAY);
        let (first, then): (&[&str], &[&str]) = match number % 2 {
            0 => (&["run"], &SECOND_DAY),
            _ => (&SECOND_DAY, &["run"]),
        };
        house.succeed(first);
        // Until the first document is put nothing has begun, and a run does not know of it.
        if (failpoint, time, number % 2) != ("changes.before", 1, 0) {
            assert_eq!(tables(&house), expected_tables, "after a kill at {failpoint}, time {time}, and {first:?}");
            assert_eq!(published(&house), expected, "after a kill at {failpoint}, time {time}, and {first:?}");
        }
        house.succeed(then);
        assert_eq!(tables(&house), expected_tables, "after a kill at {failpoint}, time {time}, and {then:?}");
        assert_eq!(published(&house), expected, "after a kill at {failpoint}, time {time}, and {then:?}");
        assert!(house.succeed(&["run"]).contains("nothing new"));
    }
}

#[test]
fn what_was_landed_since_is_built_in_as_well() {
    let (house, other) = (house(), house());
    damage_second_day(&house);
    // A late event, which makes one customer of two.
    let late = br#"{"id":"l","ts":"2025-01-01T09:00:00Z","event":"cart","channel":"web","customer":"u4"}"#;
    for house in [&house, &other] {
        house.write("landing-zone/three.jsonl", late);
    }
    house.succeed(&["land"]);
    house.succeed(&SECOND_DAY);
    other.succeed(&["run"]);
    assert_eq!(tables(&house), tables(&other));
    assert_eq!(published(&house), published(&other));
}

#[test]
fn selected_models_are_made_anew_and_what_reads_them_by_the_next_run() {
    let house = house();
    let sound = tables(&house);
    damage_second_day(&house);
    let done = house.report(&[&SECOND_DAY[..], &["-s", "stage_channels"]].concat());
    let built = |report: &Value| -> Vec<String> {
        let names = report["results"].as_array().unwrap().iter().filter_map(|line| line["unique_id"].as_str());
        names.filter_map(|name| Some(name.strip_prefix("model.wayline.")?.to_string())).collect()
    };
    assert_eq!(built(&done), ["stage_channels"]);
    let message = done["results"][0]["message"].as_str().unwrap();
    assert_eq!(message, "backfill; 1 of 1 days");
    let after = tables(&house);
    assert_eq!(after["stage_channels"], sound["stage_channels"]);
    assert_ne!(after["sessions"], sound["sessions"]);
    house.succeed(&[&SECOND_DAY[..], &["-s", "sessions"]].concat());
    let read = house.report(&["run"]);
    let of_sessions = built(&read);
    assert!(!of_sessions.contains(&"sessions".to_string()) && !of_sessions.contains(&"journeys".to_string()));
    assert!(house.succeed(&["run"]).contains("nothing new"));
}

#[test]
fn a_plan_tells_what_would_be_made_anew_and_writes_nothing() {
    let house = house();
    let before = house.lake_files();
    let plan = house.report(&[&SECOND_DAY[..], &["--dry-run"]].concat());
    assert_eq!((&plan["events"], &plan["customers"], &plan["days"]), (&3.into(), &2.into(), &1.into()));
    assert_eq!(plan["window"]["since"], "2025-01-02T00:00:00Z");
    let step = |stage: &str, what: &str| {
        let steps = plan["dry_run"].as_array().unwrap();
        steps.iter().find(|step| step["stage"] == stage && step["what"] == what).unwrap().clone()
    };
    let sessions = step("build", "sessions");
    assert_eq!((&sessions["why"], &sessions["rows"]), (&"backfill; 2 customers".into(), &3.into()));
    assert_eq!(step("build", "stage_channels")["why"], "backfill; 1 days, and those of changed rows");
    assert_eq!(step("build", "drop_offs")["why"], "backfill; whole");
    assert_eq!(step("publish", "paths")["why"], "the file");
    assert_eq!(step("publish", "sessions")["why"], "1 of 5 files, and those of changed rows");
    assert_eq!(step("publish", "sessions")["rows"], 2);
    let told = house.succeed(&[&SECOND_DAY[..], &["--dry-run"]].concat());
    assert!(told.starts_with("[2025-01-02T00:00:00Z, 2025-01-03T00:00:00Z): 3 events, 2 customers, 1 days"), "{told}");
    assert_eq!(house.lake_files(), before);

    let done = house.report(&SECOND_DAY);
    assert_eq!((&done["args"]["command"], &done["touched_customers"]), (&"backfill".into(), &2.into()));
    assert_eq!(done["args"]["backfill"]["until"], "2025-01-03T00:00:00Z");
    let messages: BTreeMap<&str, &str> = done["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["unique_id"].as_str().unwrap(), line["message"].as_str().unwrap()))
        .collect();
    assert_eq!(messages["model.wayline.sessions"], "backfill; 0 of 2 touched customers");
    assert_eq!(messages["model.wayline.stage_channels"], "backfill; 0 of 1 days");
}

#[test]
fn a_window_of_most_events_is_built_whole() {
    let house = house();
    damage_second_day(&house);
    let run = |arguments: &[&str]| {
        let output = house.command(arguments).env("WAYLINE__ENGINE__REBUILD_SHARE", "0.2").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let plan = run(&[&ALL_DAYS[..], &["--dry-run"]].concat());
    assert!(plan.contains("11 events, all customers, 31 days"), "{plan}");
    let done: Value = serde_json::from_str(&run(&[&ALL_DAYS[..], &["--json"]].concat())).unwrap();
    assert_eq!(done["touched_customers"], Value::Null);
    let other = self::house();
    assert_eq!(tables(&house), tables(&other));
    assert_eq!(published(&house), published(&other));
}

#[test]
fn a_window_without_events_is_nothing_to_do_and_an_empty_one_a_mistake() {
    let house = house();
    let before = house.lake_files();
    let later = ["backfill", "--since", "2026-01-01", "--until", "2026-02-01"];
    assert!(house.succeed(&later).starts_with("nothing lies in the window"));
    assert!(house.succeed(&[&later[..], &["--dry-run"]].concat()).starts_with("nothing lies in the window"));
    assert_eq!(house.report(&later)["status"], "nothing_new");
    assert_eq!(house.lake_files(), before);
    for (since, until) in [("2025-01-02", "2025-01-02"), ("2025-01-03", "2025-01-02")] {
        let stderr = house.fail(2, &["backfill", "--since", since, "--until", until]);
        assert!(stderr.contains("is empty"), "{stderr}");
    }
    house.fail(2, &["backfill", "--since", "soon", "--until", "2025-01-02"]);
    house.fail(2, &["backfill", "--since", "2025-01-02"]);
    house.fail(2, &[&SECOND_DAY[..], &["-s", "no_such_model"]].concat());
}

#[test]
fn a_selection_of_views_alone_is_a_mistake() {
    let house = house();
    for more in [&[][..], &["--dry-run"]] {
        let stderr = house.fail(2, &[&SECOND_DAY[..], &["-s", "stg_events"], more].concat());
        assert!(stderr.contains("`stg_events` picks views alone"), "{stderr}");
        assert!(stderr.contains("hint: select the tables that belong to them: -s \"stg_events+\""), "{stderr}");
        let stderr = house.fail(2, &[&SECOND_DAY[..], &["-s", "paths"], more].concat());
        assert!(stderr.contains("hint: select the tables that belong to them: -s \"int_paths_counted\""), "{stderr}");
    }
    house.succeed(&[&SECOND_DAY[..], &["-s", "int_paths_counted"]].concat());
    house.succeed(&[&SECOND_DAY[..], &["-s", "stg_events+", "--dry-run"]].concat());
}

#[test]
fn checks_go_on_when_a_model_that_was_made_anew_becomes_a_view() {
    let house = house();
    let model =
        |build: &str| format!("-- build: {build}\nselect customer_id, count(*) as sessions from sessions group by 1");
    house.write("queries/mine.sql", model("full").as_bytes());
    house.write(
        "queries/checks/mine_counts_all.sql",
        b"select customer_id from sessions where customer_id not in (select customer_id from mine)",
    );
    house.succeed(&["run"]);
    house.succeed(&SECOND_DAY);
    house.write("queries/mine.sql", model("view").as_bytes());
    house.succeed(&["run"]);
    let checked = house.report(&["check"]);
    assert_eq!(checked["skipped"], serde_json::json!([]), "{checked}");
}
