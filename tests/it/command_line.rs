//! What the commands print and how they exit, as snapshots with times and places filtered.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use insta::assert_snapshot;

use crate::house::House;

/// Replaces what differs from run to run.
fn filtered(text: &str, house: &House) -> String {
    let place = house.path().canonicalize().unwrap();
    let text = text.replace(&*place.to_string_lossy(), "PROJECT").replace(&*house.path().to_string_lossy(), "PROJECT");
    let patterns = [
        (r"\d+\.\d\d s(, \d+ MiB of memory at most)?", "TIME"),
        (r"the last \S+", "the last TIME"),
        (r"\d+ files, \d+ KB", "FILES"),
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

#[test]
fn modified_models_are_those_with_other_sql_or_configuration() {
    let house = House::of_sample("odd-cases");
    house.write("queries/mine.sql", b"select count(*) as sessions from sessions");
    house.succeed(&["run"]);
    assert_eq!(house.succeed(&["build", "-s", "state:modified", "--dry-run"]), "nothing to do\n");
    house.write("queries/mine.sql", b"select count(*) + 0 as sessions from sessions");
    let plan = house.succeed(&["build", "-s", "state:modified", "--dry-run"]);
    assert_eq!(plan.split_whitespace().collect::<Vec<_>>(), ["build", "mine", "changed", "SQL"]);
}

#[test]
fn the_logical_time_decides_which_journeys_are_open() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let open = "select count(*) from journeys where state = 'open'";
    assert_ne!(house.sql(open), ["0"]);
    house.succeed(&["run", "--as-of", "2030-01-01"]);
    assert_eq!(house.sql(open), ["0"]);
    house.fail(2, &["run", "--as-of", "soon"]);
}

#[test]
fn every_format_shows_the_same_rows() {
    let house = House::of_sample("odd-cases");
    let query = "select 'a|b' as text, 1.5 as number, null as nothing, [1, 2] as list, timestamp '2025-01-01' as at \
                 union all select 'c', 2, null, [], timestamp '2025-01-02' order by 1";
    let shown = |format: &str| house.succeed(&["sql", "-c", query, "--format", format]);
    let formats = ["table", "markdown", "csv", "json", "ndjson"];
    assert_snapshot!(formats.map(|format| format!("{format}\n{}", shown(format))).join("\n"));
    assert_eq!(house.succeed(&["sql", "-c", query]), shown("csv"), "a pipe gets CSV");
    house.write("query.sql", query.as_bytes());
    let file = house.path().join("query.sql");
    assert_eq!(house.succeed(&["sql", "-f", file.to_str().unwrap()]), shown("csv"));
    let parquet = house.wayline(&["sql", "-c", query, "--format", "parquet"]).stdout;
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
}

#[test]
fn a_query_that_would_write_is_refused() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let before = house.lake_files();
    for query in ["create table x as select 1", "drop table events", "copy sessions to 'x.csv'", "set a = 1"] {
        house.fail(2, &["sql", "-c", query]);
    }
    assert_eq!(house.lake_files(), before);
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let house = House::of_sample("odd-cases");
    let query = "select value, repeat('x', 1000) from generate_series(1, 10000)";
    let mut child = house.command(&["sql", "-c", query]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut header = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut header).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{header}");
}

#[test]
fn a_signal_stops_the_run_at_once_and_the_next_one_goes_on() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let house = House::of_sample("odd-cases");
        let mut command = house.command(&["run"]);
        command.env("FAILPOINTS", "build.parts=sleep(600000)").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line == "build"));
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert!(lines.any(|line| line.contains("run again to go on")), "{signal}");
        assert_eq!(child.wait().unwrap().code(), Some(code));
        house.succeed(&["run"]);
        assert_ne!(house.sql("select count(*) from journeys"), ["0"]);
    }
}

#[test]
fn generated_events_are_the_same_for_the_same_seed_in_every_format() {
    let house = House::of_sample("odd-cases");
    let counts = |format: &str, seed: &str| {
        let folder = house.path().join(format!("{format}-{seed}"));
        let folder = folder.to_str().unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_wayline"))
            .args(["generate", "--events", "3000", "--seed", seed, "--format", format, folder])
            .output();
        assert!(made.unwrap().status.success());
        let output = Command::new(env!("CARGO_BIN_EXE_wayline")).args(["run", "--project", folder]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let query = "select count(*), count(distinct touchpoint), count(distinct channel), count(distinct stage), \
                     sum(value), sum(score), min(occurred_at), (select sum(duplicates) from batches) from events";
        let output =
            Command::new(env!("CARGO_BIN_EXE_wayline")).args(["sql", "-c", query, "--project", folder]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let text = counts("jsonl", "1");
    assert_eq!(counts("csv", "1"), text);
    assert_eq!(counts("parquet", "1"), text);
    assert_ne!(counts("jsonl", "2"), text);
}

#[test]
fn the_demo_ends_with_numbers_worth_knowing() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("demo");
    let demo = || Command::new(env!("CARGO_BIN_EXE_wayline")).args(["demo", "--events", "2000"]).arg(&project).output();
    let output = demo().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.contains("worth knowing"), "{stdout}");
    assert!(project.join("lake/marts/customers.parquet").exists());
    assert_eq!(demo().unwrap().status.code(), Some(2), "a folder that is there is left alone");
}

#[test]
fn the_log_is_one_json_object_per_line_if_asked_for() {
    let house = House::of_sample("odd-cases");
    let lines = |arguments: &[&str]| {
        let stderr = String::from_utf8(house.wayline(arguments).stderr).unwrap();
        let lines = stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
        lines.collect::<Vec<serde_json::Value>>()
    };
    let stages = lines(&["run", "--log-format", "json"]);
    let stages: Vec<&str> = stages.iter().filter_map(|line| line["fields"]["stage"].as_str()).collect();
    assert_eq!(stages, ["land", "resolve", "build", "check", "publish"]);
    let error = lines(&["build", "-s", "sesions", "--log-format", "json"]);
    assert_eq!(error.last().unwrap()["fields"]["hint"], "did you mean `sessions`?");
}

#[test]
fn a_report_is_the_last_line_also_of_what_failed() {
    let house = House::of_sample("odd-cases");
    let report = |arguments: &[&str]| {
        let stdout = String::from_utf8(house.wayline(arguments).stdout).unwrap();
        serde_json::from_str::<serde_json::Value>(stdout.lines().last().unwrap()).unwrap()
    };
    let failed = report(&["build", "-s", "sesions", "--json"]);
    assert_eq!((&failed["status"], &failed["exit_code"]), (&"error".into(), &2.into()));
    assert_eq!(failed["hint"], "did you mean `sessions`?");
    assert_eq!(report(&["run", "--json"])["status"], "success");
    assert_eq!(report(&["run", "--json"])["status"], "nothing_new");
    let status = report(&["status", "--json"]);
    assert_eq!(status["sources"]["store"]["rows_in"], 6);
    assert_eq!(
        status["dead_letters"].as_array().unwrap().iter().map(|line| line["count"].as_i64().unwrap()).sum::<i64>(),
        9
    );
    assert!(report(&["check", "--json"])["results"].as_array().unwrap().iter().all(|line| line["status"] == "pass"));
}

#[test]
fn the_runs_mart_tells_what_became_of_a_run_also_of_the_one_that_made_it() {
    let house = House::of_sample("odd-cases");
    house.write("queries/one_row.sql", b"-- checks: unique(one)\nselect 1 as one union all select 1");
    house.write("queries/failed_runs.sql", b"-- publish: file\nselect run_id from runs where status = 'failed'");
    house.fail(1, &["run"]);
    assert_eq!(house.sql("select status, checks_failed, models_failed, landed from runs"), ["failed,1,0,98"]);
    assert_eq!(house.sql("select count(*) from failed_runs"), ["1"]);
    house.write("queries/one_row.sql", b"-- checks: unique(one)\nselect 1 as one");
    house.succeed(&["run"]);
    assert_eq!(house.sql("select status, checks_failed from runs order by started_at"), ["failed,1", "success,0"]);
}

#[test]
fn a_run_that_does_nothing_leaves_no_report_and_a_broken_report_hurts_nobody() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    house.write("queries/odd.sql", b"select * from no_such_table");
    house.fail(2, &["run"]);
    assert_eq!(house.sql("select count(*) from run_results"), ["1"], "nothing was done, nothing is kept");
    house.write("lake/runs/broken.json", b"{");
    assert_eq!(house.sql("select count(*) from run_results"), ["1"], "a report that cannot be read is passed over");
}

#[test]
fn commands_that_only_read_make_no_lake() {
    let house = House::of_sample("odd-cases");
    for arguments in [&["status"][..], &["check"], &["sql", "-c", "select 1"], &["run", "--dry-run"]] {
        house.succeed(arguments);
        assert!(!house.path().join("lake").exists(), "{arguments:?}");
    }
}

#[test]
fn who_reads_pseudonyms_needs_no_key() {
    let house = House::of_sample("odd-cases");
    let configuration = std::fs::read_to_string(house.path().join("wayline.toml")).unwrap();
    let blocked = "blocked         = [\"shop-floor\"]\n";
    assert!(configuration.contains(blocked));
    let blocking = format!("{configuration}\n[privacy]\npseudonymize = [\"email\"]\n");
    let asking = blocking.replace(blocked, "");
    house.write("wayline.toml", asking.as_bytes());
    let run =
        house.command(&["run"]).env("WAYLINE_PSEUDONYM_KEY", "a key of thirty-two characters!!").output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    house.fail(2, &["run"]);
    assert_eq!(house.sql("select count(*) from touchpoints"), ["98"]);
    house.succeed(&["status"]);
    // Now a value is blocked whose pseudonym only the key tells.
    house.write("wayline.toml", blocking.as_bytes());
    assert!(house.fail(2, &["sql", "-c", "select 1"]).contains("WAYLINE_PSEUDONYM_KEY"));
}

#[test]
fn a_run_that_mends_another_is_told_of_and_what_was_built_from_a_failure_is_not_published() {
    let house = House::of_sample("odd-cases");
    house.write("queries/one_row.sql", b"-- checks: unique(one)\nselect 1 as one union all select 1");
    house.write(
        "queries/health.sql",
        b"-- publish: file\nselect count(distinct run_id) as runs, count(one) as ones from run_results cross join one_row",
    );
    house.write("queries/checks/nobody_buys.sql", b"select * from journeys where is_converted");
    house.fail(1, &["run"]);
    assert!(!house.path().join("lake/marts/health.parquet").exists());
    std::fs::remove_file(house.path().join("queries/one_row.sql")).unwrap();
    std::fs::remove_file(house.path().join("queries/health.sql")).unwrap();
    std::fs::remove_file(house.path().join("queries/checks/nobody_buys.sql")).unwrap();
    house.succeed(&["run"]);
    assert_eq!(house.sql("select status from runs order by started_at"), ["failed", "success"]);
    assert!(house.succeed(&["run"]).contains("nothing new"));
}

#[test]
fn new_events_modify_no_model() {
    let configuration = "[[sources]]\nname = \"web\"\npath = \"in/*.jsonl\"\n[sources.event]\nevent_id = \"id\"\n\
                         occurred_at = \"ts\"\ntouchpoint = \"'view'\"\nchannel = \"'web'\"\n";
    let house = House::new(configuration, &[("in/1.jsonl", b"{\"id\":\"a\",\"ts\":\"2025-01-01T10:00:00Z\"}\n")]);
    house.succeed(&["run"]);
    house.write("in/2.jsonl", b"{\"id\":\"b\",\"ts\":\"2025-02-01T10:00:00Z\"}\n");
    house.succeed(&["land"]);
    let plan = house.succeed(&["build", "-s", "state:modified", "--dry-run"]);
    assert!(plan.starts_with("resolve") && plan.lines().count() == 1, "{plan}");
    house.write("wayline.toml", format!("{configuration}[journeys]\ntimeout = \"10d\"\n").as_bytes());
    let plan = house.succeed(&["build", "-s", "state:modified", "--dry-run"]);
    assert!(plan.contains("journeys") && plan.contains("changed configuration: settings"), "{plan}");
}

#[test]
fn row_patterns_are_found_in_models_and_queries_as_the_standard_spells_them() {
    let house = House::of_sample("odd-cases");
    let query = "select count(*) as carts from touchpoints match_recognize (partition by customer_id \
                 order by occurred_at, event_id measures first(occurred_at) as started_at one row per match \
                 with partial matches after match skip past last row pattern (cart other*? pay) within interval '7' day \
                 define cart as touchpoint = 'add_to_cart', pay as touchpoint = 'purchase')";
    house.write("queries/carts.sql", query.as_bytes());
    house.succeed(&["run"]);
    let carts = house.sql("select carts from carts");
    assert_ne!(carts, ["0"]);
    assert_eq!(house.sql(query), carts);
}

#[test]
fn functions_are_shown_with_their_syntax_and_what_they_do() {
    let house = House::of_sample("odd-cases");
    let out = house.succeed(&["sql", "-c", "show functions like 'window_funnel%'", "--format", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let shown: Vec<[&str; 4]> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            ["function_name", "function_type", "syntax_example", "description"].map(|key| row[key].as_str().unwrap())
        })
        .collect();
    assert_eq!(shown.iter().map(|row| row[0]).collect::<Vec<_>>(), ["window_funnel", "window_funnel_events"]);
    for [name, kind, syntax, description] in shown {
        assert_eq!(kind, "AGGREGATE");
        assert_eq!(syntax, format!("{name}(window, [mode, …] ts, cond1, …, condN)"));
        assert!(description.contains("\n\nNulls: rows with a null `ts` are skipped"), "{description}");
    }
    let tables = house.sql("show functions like 'markov_attribution'");
    assert!(tables[0].starts_with("markov_attribution,TABLE,\"markov_attribution((query), order)\","), "{tables:?}");
    assert!(house.sql("show functions").len() > 300, "those of the engine are shown too");
}

/// What `wayline sql` says where there is no project.
fn sql_without_a_project(arguments: &[&str], input: &str) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("help.sql"), ".help retention;\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wayline"));
    let command = command.arg("sql").args(arguments).current_dir(folder.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What is not read is no error: -c and -f read nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn help_tells_all_about_a_function_and_needs_no_project() {
    let told = |arguments: &[&str], input: &str| {
        let output = sql_without_a_project(arguments, input);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let retention = told(&["-c", ".help retention"], "");
    assert_snapshot!(retention);
    assert_eq!(told(&["-f", "help.sql"], ""), retention);
    assert_eq!(told(&[], "  .help RETENTION\n"), retention);
    for name in ["match_recognize", "markov_attribution", "shapley_attribution", "row_number"] {
        let help = told(&["-c", &format!(".help {name}")], "");
        assert!(help.contains(name) && help.contains("Example"), "{help}");
    }
    let list = told(&["-c", ".help"], "");
    let lines = list.lines().filter(|line| line.trim_start().starts_with("match_recognize "));
    assert_eq!(lines.count(), 1, "{list}");
}

#[test]
fn help_about_an_unknown_function_names_the_nearest() {
    let output = sql_without_a_project(&["-c", ".help window_funel"], "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("no function is called window_funel"), "{stderr}");
    assert!(stderr.contains("did you mean `window_funnel`?"), "{stderr}");
    assert_eq!(sql_without_a_project(&["-c", ".tables"], "").status.code(), Some(2));
    assert_eq!(sql_without_a_project(&["-c", ".quit"], "").status.code(), Some(0));
}
