//! What the commands print and how they exit, as snapshots with times and places filtered.

use insta::assert_snapshot;

use crate::house::House;

/// Replaces what differs from run to run.
fn filtered(text: &str, house: &House) -> String {
    let place = house.path().canonicalize().unwrap();
    let text = text.replace(&*place.to_string_lossy(), "PROJECT").replace(&*house.path().to_string_lossy(), "PROJECT");
    let patterns = [
        (r"\d+\.\d\d s(, \d+ MB of memory at most)?", "TIME"),
        (r"\d+ KB", "SIZE"),
        (r"process \d+ since \S+", "HOLDER"),
    ];
    patterns
        .iter()
        .fold(text, |text, (pattern, with)| regex::Regex::new(pattern).unwrap().replace_all(&text, *with).into_owned())
}

#[test]
fn the_main_job_names_its_outputs_and_three_numbers() {
    let house = House::of_sample("odd-cases");
    assert_snapshot!(filtered(&house.succeed(&["run"]), &house));
    assert_snapshot!(filtered(&house.succeed(&["run"]), &house), @"nothing new; TIME");
}

#[test]
fn status_shows_batches_dead_letters_and_marts() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    assert_snapshot!(filtered(&house.succeed(&["status"]), &house));
}

#[test]
fn the_help_tells_what_each_command_does() {
    let house = House::of_sample("odd-cases");
    assert_snapshot!(house.succeed(&["--help"]));
}

#[test]
fn the_report_has_the_keys_of_dbt() {
    let house = House::of_sample("odd-cases");
    let out = house.succeed(&["run", "--json"]);
    let report: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    for key in ["metadata", "args", "elapsed_time", "results"] {
        assert!(!report[key].is_null(), "{key}");
    }
    let line = &report["results"][0];
    for key in ["unique_id", "status", "execution_time", "message"] {
        assert!(!line[key].is_null(), "{key}");
    }
    let kept = std::fs::read_dir(house.path().join("lake/runs")).unwrap().count();
    assert_eq!(kept, 1);
}

#[test]
fn wrong_usage_and_configuration_exit_with_two_and_a_hint() {
    let house = House::of_sample("odd-cases");
    house.fail(2, &["nonsense"]);
    house.fail(2, &["build", "-s", "no_such_model"]);
    let configuration = std::fs::read_to_string(house.path().join("wayline.toml")).unwrap();
    house.write("wayline.toml", format!("{configuration}\n[sesions]\ntimeout = \"1h\"\n").as_bytes());
    let stderr = house.fail(2, &["run"]);
    assert!(stderr.contains("sesions") && stderr.contains("did you mean `sessions`?"), "{stderr}");
}

#[test]
fn a_failing_check_exits_with_one_and_keeps_its_mart_unpublished() {
    let house = House::of_sample("odd-cases");
    house.write("queries/one_row.sql", b"-- checks: unique(one)\n-- publish: file\nselect 1 as one union all select 1");
    house.write("queries/fine.sql", b"-- publish: file\nselect 2 as two");
    let stderr = house.fail(1, &["run"]);
    assert!(stderr.contains("one_row.unique(one)") && stderr.contains("1 offending rows"), "{stderr}");
    assert!(house.path().join("lake/marts/fine.parquet").exists());
    assert!(house.path().join("lake/marts/sessions").exists());
    assert!(!house.path().join("lake/marts/one_row.parquet").exists());
    house.write("queries/one_row.sql", b"-- checks: unique(one)\n-- publish: file\nselect 1 as one");
    house.succeed(&["run"]);
    assert!(house.path().join("lake/marts/one_row.parquet").exists());
    std::fs::remove_file(house.path().join("queries/one_row.sql")).unwrap();
    house.succeed(&["run"]);
    assert!(!house.path().join("lake/marts/one_row.parquet").exists());
}

#[test]
fn a_model_that_cannot_be_built_leaves_the_others_alone() {
    let house = House::of_sample("odd-cases");
    house.write("queries/broken.sql", b"select no_such_column from sessions");
    house.write("queries/on_top.sql", b"select * from broken");
    let stderr = house.fail(1, &["run"]);
    assert!(stderr.contains("no_such_column") && stderr.contains("on_top: reads broken"), "{stderr}");
    assert!(house.path().join("lake/marts/customers.parquet").exists());
}

#[test]
fn a_dry_run_says_what_and_why_and_writes_nothing() {
    let house = House::of_sample("odd-cases");
    let plan = house.succeed(&["run", "--dry-run"]);
    assert!(plan.contains("landing-zone/web.jsonl") && plan.contains("never built"), "{plan}");
    assert!(house.lake_files().is_empty());
}

#[test]
fn a_selector_builds_its_models_alone() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["land"]);
    house.succeed(&["build", "-s", "+sessions"]);
    assert!(house.path().join("lake/models/sessions").exists());
    assert!(!house.path().join("lake/models/journeys").exists());
}

#[test]
fn check_finds_what_is_wrong_without_writing() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let before = house.lake_files();
    let out = house.succeed(&["check"]);
    assert!(out.contains("0 failed"), "{out}");
    house.write("queries/checks/nobody_buys.sql", b"select * from journeys where is_converted");
    let output = house.wayline(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("nobody_buys"));
    assert_eq!(house.lake_files(), before);
}
