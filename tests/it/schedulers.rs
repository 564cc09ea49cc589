//! What those who schedule us rely on: files that tell of a run, lineage, and the starters in `pipeline/deploy`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;

use crate::exactly_once::PROJECT;
use crate::house::House;
use crate::python::python;

const EVENTS: &[u8] = br#"{"id":"a","ts":"2025-01-01T10:00:00Z","event":"view","customer":"u1"}
{"id":"b","ts":"2025-01-01T10:05:00Z","event":"purchase","customer":"u1"}
{"broken
"#;
const MORE: &[u8] = br#"{"id":"c","ts":"2025-01-02T10:00:00Z","event":"view","customer":"u2"}
"#;

fn house() -> House {
    House::new(PROJECT, &[("landing-zone/one.jsonl", EVENTS)])
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline/deploy")
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Value of a metric by its name and labels.
fn metric(path: &Path, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_run_tells_its_report_and_metrics_in_files() {
    let house = house();
    let (report, metrics) = (house.path().join("run_results.json"), house.path().join("wayline.prom"));
    let files = ["--report", report.to_str().unwrap(), "--metrics-file", metrics.to_str().unwrap()];
    let run = |house: &House| house.wayline(&[&["run"], &files[..]].concat()).status.code();

    assert_eq!(run(&house), Some(0));
    let first = json(&report);
    assert_eq!(first["metadata"]["dbt_schema_version"], "https://schemas.getdbt.com/dbt/run-results/v6.json");
    assert_eq!((&first["status"], &first["landed"]["sources"]["web"]["landed"]), (&"success".into(), &2.into()));
    let kept =
        json(&house.path().join(format!("lake/runs/{}.json", first["metadata"]["invocation_id"].as_str().unwrap())));
    assert_eq!(kept["results"].as_array().unwrap().len(), first["results"].as_array().unwrap().len());
    assert_eq!(metric(&metrics, r#"wayline_landed_rows_total{source="web"}"#), Some(2.0));
    assert_eq!(metric(&metrics, r#"wayline_dead_letters_total{source="web"}"#), Some(1.0));
    assert_eq!(metric(&metrics, "wayline_last_run_success"), Some(1.0));
    let succeeded_at = metric(&metrics, "wayline_last_success_timestamp_seconds").unwrap();

    // Without news it is told that all is well still.
    assert_eq!(run(&house), Some(0));
    assert_eq!(json(&report)["status"], "nothing_new");
    let still_at = metric(&metrics, "wayline_last_success_timestamp_seconds").unwrap();
    assert!(still_at > succeeded_at);

    // A check that fails: told as such, and the last success stays what it was.
    house.write("queries/checks/nobody_buys.sql", b"select * from events where touchpoint = 'purchase'");
    assert_eq!(run(&house), Some(1));
    let failed = json(&report);
    let lines = failed["results"].as_array().unwrap();
    let line = lines.iter().find(|line| line["unique_id"] == "test.wayline.nobody_buys").unwrap();
    assert_eq!((&line["status"], &line["failures"]), (&"fail".into(), &1.into()));
    assert_eq!(metric(&metrics, "wayline_last_run_success"), Some(0.0));
    assert_eq!(metric(&metrics, "wayline_last_success_timestamp_seconds"), Some(still_at));

    // An error that ends the run.
    std::fs::remove_file(house.path().join("queries/checks/nobody_buys.sql")).unwrap();
    house.write("landing-zone/one.jsonl", MORE);
    assert_eq!(run(&house), Some(2));
    assert_eq!(json(&report)["status"], "error");
    assert!(json(&report)["error"].as_str().unwrap().contains("one.jsonl"));
    assert_eq!(metric(&metrics, "wayline_last_success_timestamp_seconds"), Some(still_at));
}

/// Events by job: kind and content.
fn by_job(lines: &str) -> BTreeMap<String, Vec<Value>> {
    let mut jobs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        jobs.entry(event["job"]["name"].as_str().unwrap().into()).or_default().push(event);
    }
    jobs
}

fn names(datasets: &Value) -> Vec<String> {
    let name = |dataset: &Value| dataset["name"].as_str().unwrap().rsplit("/lake/").next().unwrap().to_string();
    datasets.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn lineage_goes_from_files_to_marts_column_by_column() {
    let house = house();
    house.write("wayline.toml", format!("{PROJECT}\n[lineage]\nfile = \"lineage.jsonl\"\njob = \"shop\"\n").as_bytes());
    house.succeed(&["run"]);
    let file = house.path().join("lineage.jsonl");
    let told = std::fs::read_to_string(&file).unwrap();
    let jobs = by_job(&told);

    assert!(!told.contains(":null"), "what is not known is left out");
    for (job, events) in &jobs {
        let kinds: Vec<_> = events.iter().map(|event| event["eventType"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["START", "COMPLETE"], "{job}");
        assert_eq!(events[0]["run"]["runId"], events[1]["run"]["runId"], "{job}");
        assert!(events[0]["eventTime"].as_str() <= events[1]["eventTime"].as_str(), "{job}");
    }
    let runs: BTreeSet<_> = jobs.values().map(|events| events[0]["run"]["runId"].to_string()).collect();
    assert_eq!(runs.len(), jobs.len(), "each job has a run of its own");
    let end = |job: &str| &jobs[job][1];

    let landing = end("shop.landing");
    assert!(landing["inputs"][0]["name"].as_str().unwrap().ends_with("landing-zone/*.jsonl"));
    assert_eq!(names(&landing["outputs"]), ["landing/events", "landing/dead_letters"]);
    assert_eq!(landing["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"], 2);

    let sessions = end("shop.sessions");
    assert_eq!(sessions["run"]["facets"]["parent"]["run"]["runId"], jobs["shop"][0]["run"]["runId"]);
    assert_eq!(names(&sessions["outputs"]), ["models/sessions"]);
    assert_eq!(sessions["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"], 1);
    let fields = sessions["outputs"][0]["facets"]["schema"]["fields"].as_array().unwrap();
    assert!(fields.iter().any(|field| field["name"] == "session_id"), "{fields:?}");
    let assertions = sessions["outputs"][0]["facets"]["dataQualityAssertions"]["assertions"].as_array().unwrap();
    assert!(assertions.iter().any(|check| check["assertion"] == "sessions_do_not_overlap" && check["success"] == true));

    // Views are seen through: what lies on the disk are the tables below them.
    for (job, events) in &jobs {
        for input in events[1]["inputs"].as_array().unwrap() {
            let name = input["name"].as_str().unwrap();
            assert!(job == "shop.landing" || Path::new(name).join("_delta_log").is_dir(), "{job} reads {name}");
        }
    }
    let timelines = &end("shop.int_timelines")["outputs"][0]["facets"]["columnLineage"]["fields"];
    let fields: BTreeSet<_> = timelines
        .as_object()
        .unwrap()
        .values()
        .flat_map(|field| {
            field["inputFields"].as_array().unwrap().iter().map(|input| {
                names(&Value::Array(vec![input.clone()])).remove(0) + "." + input["field"].as_str().unwrap()
            })
        })
        .collect();
    assert!(fields.contains("landing/events.touchpoint"), "{fields:?}");
    assert_eq!(names(&end("shop.sessions.publish")["outputs"]), ["marts/sessions"]);
    // Of a view its mart tells what a table would.
    let paths = &end("shop.paths.publish")["outputs"][0]["facets"];
    assert_eq!(paths["schema"]["fields"][0]["name"], "path");
    assert!(paths["columnLineage"]["fields"]["conversion_rate"].is_object(), "{paths}");
    assert!(!paths["dataQualityAssertions"]["assertions"].as_array().unwrap().is_empty(), "{paths}");

    // Nothing new, nothing told; and what is told is appended.
    house.succeed(&["run"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), told);
    house.write("queries/checks/nobody_buys.sql", b"select * from events where touchpoint = 'purchase'");
    house.fail(1, &["run"]);
    let more = std::fs::read_to_string(&file).unwrap();
    let failed = by_job(more.strip_prefix(told.as_str()).unwrap());
    assert_eq!(failed["shop"][1]["eventType"], "FAIL");
    assert!(failed["shop"][1]["run"]["facets"]["errorMessage"]["message"].as_str().unwrap().contains("nobody_buys"));
}

/// Answers posts with a status; gives what came, head and body. A client may keep several connections, so each is served
/// by itself.
fn receiver(status: &'static str) -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (taken, posts) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let taken = taken.clone();
            std::thread::spawn(move || answer(BufReader::new(stream.unwrap()), status, &taken));
        }
    });
    (url, posts)
}

fn answer(mut reader: BufReader<TcpStream>, status: &str, taken: &Sender<(String, String)>) {
    loop {
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
            head.push_str(&std::mem::take(&mut line).to_lowercase());
        }
        // The client has gone.
        let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) else { return };
        let mut body = vec![0; length.trim().parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        // Before the answer, after which the client may be gone.
        taken.send((head, String::from_utf8(body).unwrap())).unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn lineage_is_posted_with_the_run_of_the_scheduler_as_parent() {
    let house = house();
    let (url, posts) = receiver("201 Created");
    let parent = "0190c6a4-7b3e-7c57-b4b1-1d3f5f0c9a10";
    let output = house
        .command(&["land"])
        .env("OPENLINEAGE_URL", &url)
        .env("OPENLINEAGE_API_KEY", "a-secret")
        .env("OPENLINEAGE_NAMESPACE", "prod")
        .env("OPENLINEAGE_PARENT_ID", format!("airflow/daily.land/{parent}"))
        .output()
        .unwrap();
    assert!(output.status.success());
    let taken: Vec<_> = posts.try_iter().collect();
    assert_eq!(taken.len(), 4, "the run and its landing begin and end");
    for (head, body) in &taken {
        assert!(head.starts_with("post /api/v1/lineage http/1.1"), "{head}");
        assert!(head.contains("authorization: bearer a-secret"), "{head}");
        let event: Value = serde_json::from_str(body).unwrap();
        assert_eq!(event["job"]["namespace"], "prod");
    }
    let first: Value = serde_json::from_str(&taken[0].1).unwrap();
    assert_eq!(first["run"]["facets"]["parent"]["run"]["runId"], parent);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("a-secret"));
}

#[test]
fn a_receiver_that_refuses_or_is_away_fails_no_run() {
    let (url, posts) = receiver("503 Service Unavailable");
    for (url, is_disabled) in [(url.as_str(), false), ("http://127.0.0.1:9", false), ("http://127.0.0.1:9", true)] {
        let house = house();
        let mut command = house.command(&["land"]);
        command.env("OPENLINEAGE_URL", url).env("OPENLINEAGE_DISABLED", is_disabled.to_string());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert_eq!(stderr.contains("could not tell of lineage"), !is_disabled, "{stderr}");
        assert!(!stderr.contains(url), "an address may hold a secret");
    }
    assert_eq!(posts.try_iter().count(), 1, "the first that is refused is the last");
}

/// A starter's text with our folders in place of those that it names.
fn placed(text: &str, house: &House) -> String {
    let here = |name: &str| house.path().join(name).to_str().unwrap().to_string();
    text.replace("/srv/wayline/shop", house.path().to_str().unwrap())
        .replace("/srv/wayline/metrics/wayline.prom", &here("wayline.prom"))
        .replace("/var/lib/node_exporter/wayline.prom", &here("wayline.prom"))
        .replace("/var/log/wayline/shop.log", &here("shop.log"))
}

/// The folder of the binary in front of the others.
fn path_with_wayline() -> std::ffi::OsString {
    let binary = Path::new(env!("CARGO_BIN_EXE_wayline"));
    let mut folders = vec![binary.parent().unwrap().to_path_buf()];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(folders).unwrap()
}

#[test]
fn every_starter_is_short() {
    for entry in std::fs::read_dir(deploy()).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!((1..40).contains(&lines), "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_lines_of_cron_run() {
    let text = std::fs::read_to_string(deploy().join("wayline.cron")).unwrap();
    let house = house();
    let is_line = |line: &&str| line.starts_with(|first: char| first.is_ascii_digit() || first == '*');
    let lines: Vec<_> = text.lines().filter(is_line).collect();
    assert_eq!(lines.len(), 2);
    let run = |line: &str| {
        let fields: Vec<_> = line.splitn(7, ' ').collect();
        assert_eq!(fields[5], "wayline", "the user");
        assert!(!fields[6].contains('%'), "cron ends a line at a percent sign");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &placed(fields[6], &house)]).env("PATH", path_with_wayline());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for line in &lines {
        assert_eq!(run(line), (Some(0), String::new()), "what went well mails nobody");
    }
    assert_eq!(metric(&house.path().join("wayline.prom"), "wayline_last_run_success"), Some(1.0));
    // What failed is mailed.
    house.write("queries/checks/nobody_buys.sql", b"select * from events where touchpoint = 'purchase'");
    assert!(run(lines[0]).1.contains("nobody_buys"));
    // A lock that is held is not.
    let lock = std::fs::OpenOptions::new().append(true).open(house.path().join(".wayline.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(run(lines[0]), (Some(0), String::new()));
}

#[test]
fn the_units_of_systemd_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    for unit in ["wayline.service", "wayline.timer"] {
        let text = std::fs::read_to_string(deploy().join(unit)).unwrap();
        let text = text.replace("/usr/local/bin/wayline", env!("CARGO_BIN_EXE_wayline"));
        std::fs::write(folder.path().join(unit), text).unwrap();
    }
    let units = ["wayline.service", "wayline.timer"].map(|unit| folder.path().join(unit));
    match Command::new("systemd-analyze").arg("verify").arg("--man=no").args(units).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        Err(error) => {
            let line = format!("skipped: systemd-analyze does not start: {error}; the test runs where systemd is\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        }
    }
    // What it starts is understood.
    let house = house();
    let service = placed(&std::fs::read_to_string(deploy().join("wayline.service")).unwrap(), &house);
    let start = service.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/wayline ")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wayline")).args(start.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(house.path().join("wayline.prom").is_file());
}

#[test]
fn kubernetes_docker_airflow_and_dagster_take_their_starters() {
    let Some(python) = python("tests/schedulers/requirements.txt") else { return };
    let house = house();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schedulers/starters.py");
    let mut command = Command::new(python);
    command.arg(script).arg(deploy()).arg(house.path()).env("PATH", path_with_wayline());
    let output = command.output().unwrap();
    let (said, more) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{more}");
    for starter in ["kubernetes", "docker", "airflow", "dagster"] {
        assert!(said.contains(&format!("{starter}: ok")), "{said}\n{more}");
    }
    // The cron job's arguments are ours.
    let job = std::fs::read_to_string(deploy().join("cronjob.yaml")).unwrap();
    let arguments = job.lines().find_map(|line| line.trim().strip_prefix("args: [")?.strip_suffix(']')).unwrap();
    let arguments = placed(arguments, &house);
    let output = Command::new(env!("CARGO_BIN_EXE_wayline")).args(arguments.split(", ")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
