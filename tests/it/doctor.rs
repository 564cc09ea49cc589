//! `wayline doctor` and `wayline explain`: what is wrong and what things are, in words.

use serde_json::Value;

use crate::house::House;

/// The findings of a check.
fn findings(out: &str) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_string();
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|finding| (text(finding, "check"), text(finding, "level"), text(finding, "message"))).collect()
}

/// Whether a finding of a check and level says something.
fn found(out: &str, check: &str, level: &str, message: &str) {
    let all = findings(out);
    let is_it = |(of, at, says): &(String, String, String)| of == check && at == level && says.contains(message);
    assert!(all.iter().any(is_it), "no {level} {check} with {message:?} in {all:#?}");
}

#[test]
fn a_sound_project_is_found_sound_and_nothing_is_written() {
    let house = House::of_sample("odd-cases");
    let out = house.succeed(&["doctor", "--json"]);
    found(&out, "store", "ok", "put-if-absent");
    found(&out, "source email", "warn", "csv_columns");
    found(&out, "source app", "ok", "22 of 22 records");
    assert!(house.lake_files().is_empty() && !house.path().join("lake").exists());
    house.succeed(&["run"]);
    let before = house.lake_files();
    let out = house.succeed(&["doctor"]);
    assert!(out.contains("ok    marts") && out.contains("0 to mend"), "{out}");
    assert_eq!(house.lake_files(), before);
}

#[test]
fn what_is_wrong_is_found_with_its_remedy() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    house.write("lake/marts/copy of sessions.parquet", b"PAR1");
    let configuration = std::fs::read_to_string(house.path().join("wayline.toml")).unwrap();
    let changed = configuration
        .replace("occurred_at = \"started\"", "occurred_at = \"strated\"")
        .replace("landing-zone/web.jsonl", "landing-zone/wbe.jsonl")
        .replace("goal    = [", "goal    = [] # ");
    house.write("wayline.toml", format!("{changed}\n[privacy]\npseudonymize = [\"email\"]\n").as_bytes());
    let output = house.wayline(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8(output.stdout).unwrap();
    found(&out, "marts", "warn", "copy of sessions.parquet");
    found(&out, "source call_center", "fail", "occurred_at is missing");
    found(&out, "source web", "warn", "no file matches landing-zone/wbe.jsonl");
    found(&out, "configuration", "warn", "no goal");
    found(&out, "secrets", "fail", "no key");
    let text = house.wayline(&["doctor"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("wayline explain missing_field") && text.contains("set WAYLINE_PSEUDONYM_KEY"), "{text}");
}

#[test]
fn a_project_that_cannot_be_read_ends_with_two() {
    let house = House::of_sample("odd-cases");
    house.write("queries/broken.sql", b"select * from no_such_table");
    let output = house.wayline(&["doctor"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    house.write("wayline.toml", b"[sesions]\n");
    let output = house.wayline(&["doctor"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("fail  configuration") && text.contains("did you mean `sessions`?"), "{text}");
}

#[test]
fn codes_are_explained_without_a_project() {
    let house = House::new("", &[]);
    std::fs::remove_file(house.path().join("wayline.toml")).unwrap();
    let text = house.succeed(&["explain", "tz_invalid"]);
    assert!(text.starts_with("tz_invalid: ") && text.contains("to mend it"), "{text}");
    assert!(house.succeed(&["explain", "75"]).contains("try again later"));
    assert!(house.succeed(&["explain", "invalid"]).starts_with("exit code 2"));
}

#[test]
fn a_model_is_explained_from_its_header_to_what_the_next_run_does() {
    let house = House::of_sample("odd-cases");
    let text = house.succeed(&["explain", "channel_switches"]);
    assert!(text.contains("no report of a run tells of it") && text.contains("builds it: never built"), "{text}");
    house.succeed(&["run"]);
    let explained: Value = serde_json::from_str(&house.succeed(&["explain", "channel_switches", "--json"])).unwrap();
    assert_eq!(explained["grain"][0], "from_channel");
    let lineage: Vec<&str> =
        explained["lineage"].as_array().unwrap().iter().map(|line| line[0].as_str().unwrap()).collect();
    assert!(lineage.contains(&"int_switches") && lineage.contains(&"stg_events"), "{lineage:?}");
    assert!(explained["sources"].as_array().unwrap().contains(&"call_center".into()));
    assert!(
        explained["checks"].as_array().unwrap().contains(&"switches_in_the_mart_equal_switches_in_journeys".into())
    );
    assert!(explained["last_built"]["at"].is_string() && explained["next_run"].is_null(), "{explained}");
    let configuration = std::fs::read_to_string(house.path().join("wayline.toml")).unwrap();
    house.write("wayline.toml", configuration.replace("timeout = \"30m\"", "timeout = \"7d\"").as_bytes());
    let text = house.succeed(&["explain", "sessions"]);
    assert!(text.contains("next run    builds it"), "{text}");
    let text = house.succeed(&["explain", "sessions_do_not_overlap"]);
    assert!(text.contains("a check: a query that must return no rows"), "{text}");
    let text = house.succeed(&["explain", "events"]);
    assert!(text.contains("call_center") && text.contains("read by"), "{text}");
}

#[test]
fn an_unknown_name_is_an_error_that_names_a_near_one() {
    let house = House::of_sample("odd-cases");
    assert!(house.fail(2, &["explain", "chanel_switches"]).contains("did you mean `channel_switches`?"));
    assert!(house.fail(2, &["explain", "tz_invald"]).contains("did you mean `tz_invalid`?"));
}
