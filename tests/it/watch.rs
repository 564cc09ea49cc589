//! Watching, through the real binary: files that come while it runs, faults that pass, signals, and what it tells.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

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
[[funnels]]
name = "shop"
steps = ["view", "purchase"]
window = "7d"
"#;

/// Longest time for anything to come about; the tests do not wait this long when all is well.
const PATIENCE: Duration = Duration::from_secs(120);

fn house() -> House {
    House::new(PROJECT, &[("landing-zone/one.jsonl", &file("one"))])
}

/// Three events of two customers, one of them twice, and a record that is refused. The last event was
/// received in time, the others more than a day late.
fn file(name: &str) -> Vec<u8> {
    let event = |id: &str, minute: u32, event: &str, customer: &str| {
        let times = format!(r#""ts":"2025-01-01T10:{minute:02}:00Z","received":"2025-01-02T10:06:00Z""#);
        format!(r#"{{"id":"{name}-{id}",{times},"event":"{event}","customer":"{customer}"}}"#)
    };
    let lines = [
        event("a", 0, "view", name),
        event("b", 5, "purchase", name),
        event("b", 5, "purchase", name),
        event("c", 7, "view", "everybody"),
        "{\"broken".into(),
    ];
    (lines.join("\n") + "\n").into_bytes()
}

/// A watch under way, with what it says.
struct Watch<'h> {
    house: &'h House,
    child: Child,
    said: Arc<Mutex<String>>,
}

impl<'h> Watch<'h> {
    fn start(house: &'h House, arguments: &[&str]) -> Self {
        Self::start_with(house, arguments, |_| {})
    }

    fn start_with(house: &'h House, arguments: &[&str], change: impl Fn(&mut Command)) -> Self {
        let files = ["metrics.prom", "health.json"].map(|name| house.path().join(name).display().to_string());
        let mut all = vec!["watch", "--metrics-file", &files[0], "--health-file", &files[1]];
        all.extend(arguments);
        let mut command = house.command(&all);
        change(&mut command);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), said.clone());
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| *kept.lock().unwrap() += &(line + "\n"))
        });
        Self { house, child, said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn health(&self) -> Value {
        // It is there from the start on, and always whole.
        match std::fs::read(self.house.path().join("health.json")) {
            Ok(text) => serde_json::from_slice(&text).unwrap(),
            Err(_) => Value::Null,
        }
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        samples(&std::fs::read_to_string(self.house.path().join("metrics.prom")).unwrap())
    }

    /// Waits until the health is as wanted.
    fn until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let asked = Instant::now();
        loop {
            let health = self.health();
            if is_so(&health) {
                return health;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && asked.elapsed() < PATIENCE,
                "waited for {what}; ended {ended:?}; {health:#}\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn until_batches(&mut self, batches: u64) -> Value {
        let is_so = |health: &Value| health["batches"] == batches && health["condition"] == "ok" && is_idle(health);
        self.until(&format!("{batches} batches"), is_so)
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for the end.
    fn end(mut self) -> (ExitStatus, String) {
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.said());
            }
            assert!(asked.elapsed() < PATIENCE, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(self) -> String {
        self.signal("TERM");
        let (status, said) = self.end();
        assert_eq!(status.code(), Some(143), "{said}");
        said
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_idle(health: &Value) -> bool {
    health["stage"].is_null() && !health["last_run"].is_null()
}

/// A file comes whole, as careful programs deliver it.
fn deliver(house: &House, name: &str) {
    house.write(&format!("{name}.part"), &file(name));
    std::fs::rename(house.path().join(format!("{name}.part")), house.path().join(format!("landing-zone/{name}.jsonl")))
        .unwrap();
}

/// Samples of a page of metrics by name and labels. Every line must be well formed, and every metric be told of before its
/// first sample.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let sample = regex::Regex::new(
        r#"^([a-z_]+)((?:\{(?:[a-z]+="(?:[^"\\]|\\["\\n])*"(?:,|\}))+)?) (-?[0-9][0-9.]*(?:e-?[0-9]+)?|NaN)$"#,
    )
    .unwrap();
    let head = regex::Regex::new(r"^# (HELP|TYPE) (wayline_[a-z_]+) (.+)$").unwrap();
    let (mut found, mut helped, mut types) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    for line in page.lines() {
        if let Some(parts) = head.captures(line) {
            let name = parts[2].to_string();
            match &parts[1] {
                "HELP" => assert!(helped.insert(name), "told twice: {line}"),
                _ => {
                    assert!(
                        helped.contains(&name) && ["counter", "gauge", "summary", "histogram"].contains(&&parts[3])
                    );
                    assert!(types.insert(name, parts[3].to_string()).is_none(), "told twice: {line}");
                }
            }
            continue;
        }
        let parts = sample.captures(line).unwrap_or_else(|| panic!("no sample: {line}"));
        let suffixes = ["_bucket", "_sum", "_count"];
        let base = suffixes.iter().find_map(|suffix| parts[1].strip_suffix(suffix)).unwrap_or(&parts[1]);
        let kind = types.get(base).or_else(|| types.get(&parts[1])).unwrap_or_else(|| panic!("no TYPE: {line}"));
        assert_eq!(parts[1].ends_with("_total"), kind == "counter", "{line}");
        let value: f64 = parts[3].parse().unwrap();
        assert!(found.insert(format!("{}{}", &parts[1], &parts[2]), value).is_none(), "twice: {line}");
    }
    assert!(page.ends_with('\n'));
    found
}

/// What does not depend on how files were cut into batches.
fn derived(house: &House) -> Vec<Vec<String>> {
    ["sessions", "journeys", "customers", "funnel_steps", "path_edges"]
        .map(|mart| {
            let mut rows = house.sql(&format!("select * from {mart}"));
            rows.sort();
            rows
        })
        .to_vec()
}

#[test]
fn files_that_come_while_it_watches_are_landed_and_published_and_counted() {
    let house = house();
    let mut watch = Watch::start(&house, &["--every", "100ms"]);
    watch.until_batches(1);
    for (batches, name) in [(2, "two"), (3, "three")] {
        deliver(&house, name);
        watch.until_batches(batches);
    }
    let (metrics, health) = (watch.metrics(), watch.health());
    assert!(watch.stop().contains("SIGTERM: stops after the batch in hand"));

    let stopped: Value = serde_json::from_slice(&std::fs::read(house.path().join("health.json")).unwrap()).unwrap();
    assert_eq!(stopped["condition"], "stopped");
    // Whole tables are still to be checked; nothing is to be built.
    house.succeed(&["run"]);
    assert!(house.succeed(&["run"]).starts_with("nothing new"), "all is done");
    let counts =
        house.sql("select sum(landed), sum(duplicates), sum(dead_letters), sum(late_events) from data_quality");
    let names = ["landed_rows", "duplicates", "dead_letters", "late_rows"];
    let told = names.map(|name| metrics[&format!("wayline_{name}_total{{source=\"web\"}}")].to_string());
    assert_eq!(told.join(","), counts[0]);
    assert_eq!(counts, ["9,3,3,6"]);
    assert_eq!(metrics["wayline_batches_total"], 3.0);
    assert_eq!(metrics["wayline_runs_total{status=\"success\"}"], 3.0);
    assert_eq!(metrics["wayline_landing_to_mart_seconds_count"], 3.0);
    assert_eq!(metrics["wayline_stage_seconds_count{stage=\"publish\"}"], 3.0 + idle(&metrics));
    assert_eq!(metrics["wayline_retries_total"], 0.0);
    assert!(metrics["wayline_table_files{table=\"events\"}"] >= 1.0);
    assert!(metrics["wayline_log_commits{table=\"events\"}"] >= 1.0);
    // 2025-01-01T10:07:00Z
    assert_eq!(metrics["wayline_newest_event_timestamp_seconds"], 1_735_726_020.0);
    assert_eq!(health["newest_occurred_at"], "2025-01-01T10:07:00Z");
    let now = metrics["wayline_newest_event_timestamp_seconds"] + metrics["wayline_freshness_seconds"];
    assert!((now - metrics["wayline_last_success_timestamp_seconds"]).abs() < 60.0);

    let at_once = House::new(PROJECT, &[]);
    ["one", "two", "three"].iter().for_each(|name| at_once.write(&format!("landing-zone/{name}.jsonl"), &file(name)));
    at_once.succeed(&["run"]);
    assert_eq!(derived(&house), derived(&at_once));
}

/// Runs that had nothing to do.
fn idle(metrics: &BTreeMap<String, f64>) -> f64 {
    metrics.get("wayline_runs_total{status=\"nothing_new\"}").copied().unwrap_or_default()
}

#[test]
fn a_signal_in_the_middle_of_a_batch_lets_it_be_finished() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let house = house();
        let pause = |command: &mut Command| {
            command.env("FAILPOINTS", "land.commit.before=sleep(1500)");
        };
        let mut watch = Watch::start_with(&house, &["--every", "1h"], pause);
        watch.until("landing", |health| health["stage"] == "land");
        watch.signal(signal);
        let (status, said) = watch.end();
        assert_eq!(status.code(), Some(code), "{said}");
        assert!(house.path().join("lake/catalog.json").exists(), "it is published");
        assert!(house.succeed(&["run"]).starts_with("nothing new"));
        assert_eq!(house.sql("select count(*) from events"), ["3"]);
    }
}

#[test]
fn a_second_signal_stops_at_once_and_the_next_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    let output =
        Command::new(env!("CARGO_BIN_EXE_wayline")).args(["generate", "--events", "30000"]).arg(&made).output();
    assert!(output.unwrap().status.success());
    let configuration = std::fs::read_to_string(made.join("wayline.toml")).unwrap();
    let houses = [(), ()].map(|()| {
        let house = House::new(&configuration, &[]);
        std::fs::create_dir_all(house.path().join("landing-zone")).unwrap();
        crate::house::copy(&made.join("landing-zone"), &house.path().join("landing-zone"));
        house
    });
    houses[0].succeed(&["run"]);
    let mut watch = Watch::start(&houses[1], &["--every", "1h"]);
    watch.until("a stage behind landing", |health| health["stage"] == "resolve" || health["stage"] == "build");
    watch.signal("TERM");
    std::thread::sleep(Duration::from_millis(200));
    watch.signal("TERM");
    let (status, said) = watch.end();
    assert_eq!(status.code(), Some(143), "{said}");
    assert!(said.contains("stopped by SIGTERM; run again to go on"), "{said}");
    assert!(!houses[1].path().join("lake/catalog.json").exists(), "the run was cut short");
    houses[1].succeed(&["run"]);
    assert_eq!(derived(&houses[0]), derived(&houses[1]));
}

#[test]
fn a_lock_that_another_run_holds_is_waited_for() {
    let house = house();
    let lock = std::fs::File::create(house.path().join(".wayline.lock")).unwrap();
    lock.lock().unwrap();
    let mut watch = Watch::start(&house, &["--every", "100ms"]);
    let health = watch.until("a fault", |health| health["faults"].as_u64() > Some(0));
    assert_eq!((&health["condition"], &health["cycles"]), (&"waiting".into(), &0.into()));
    assert!(health["error"].as_str().unwrap().contains("another run holds"), "{health:#}");
    drop(lock);
    let health = watch.until_batches(1);
    assert_eq!((&health["faults"], &health["error"]), (&0.into(), &Value::Null));
    assert!(watch.metrics()["wayline_retries_total"] >= 1.0);
    let held = house.fail(75, &["run"]);
    assert!(held.contains("another run holds"), "a watch holds the lock: {held}");
    assert!(watch.stop().contains("could not go on: another run holds"));
    assert!(house.succeed(&["run"]).starts_with("nothing new"));
}

#[test]
fn a_lake_out_of_reach_is_waited_for_and_counts_stay_right() {
    let house = house();
    let mut watch = Watch::start(&house, &["--every", "100ms"]);
    watch.until_batches(1);
    // A file where a folder should be cannot be passed, not even by root.
    let (books, aside) = (house.path().join("lake/landing/batches"), house.path().join("aside"));
    std::fs::rename(&books, &aside).unwrap();
    std::fs::write(&books, b"").unwrap();
    watch.until("a fault", |health| health["condition"] == "waiting");
    deliver(&house, "two");
    watch.until("another fault", |health| health["faults"].as_u64() > Some(1));
    std::fs::remove_file(&books).unwrap();
    std::fs::rename(&aside, &books).unwrap();
    watch.until_batches(2);
    let metrics = watch.metrics();
    assert!(metrics["wayline_retries_total"] >= 2.0 && metrics["wayline_runs_total{status=\"error\"}"] >= 2.0);
    assert_eq!(metrics["wayline_landed_rows_total{source=\"web\"}"], 6.0);
    watch.stop();
    assert_eq!(house.sql("select sum(landed) from data_quality"), ["6"]);
}

#[test]
fn models_that_change_are_taken_up_and_broken_ones_keep_nothing_from_being_landed() {
    let house = house();
    house.write("queries/mine.sql", b"select count(*) as events from events");
    let mut watch = Watch::start(&house, &["--every", "100ms"]);
    let first = watch.until_batches(1)["last_run"]["run_id"].clone();
    house.write("queries/mine.sql", b"select count(*) * 10 as events from events");
    watch.until("another run", |health| health["last_run"]["run_id"] != first && is_idle(health));
    assert_eq!(house.sql("select events from mine"), ["30"]);

    house.write("queries/mine.sql", b"select count(*) frm events");
    let health = watch.until("trouble", |health| health["condition"] == "failed");
    assert!(health["error"].as_str().unwrap().contains("mine.sql"), "{health:#}");
    deliver(&house, "two");
    watch.until("a batch", |health| health["batches"] == 2);
    assert_eq!(watch.metrics()["wayline_landing_to_mart_seconds_count"], 1.0, "it is not published");

    house.write("queries/mine.sql", b"select count(*) * 100 as events from events");
    watch.until_batches(2);
    assert_eq!(house.sql("select events from mine"), ["600"]);
    assert_eq!(watch.metrics()["wayline_landing_to_mart_seconds_count"], 2.0);
    let said = watch.stop();
    assert_eq!(said.matches("models are left as they are").count(), 1, "{said}");
}

#[test]
fn a_check_that_fails_is_told_and_watched_on() {
    let house = house();
    house.write("queries/checks/nobody_buys.sql", b"select * from journeys where is_converted");
    let mut watch = Watch::start(&house, &["--every", "100ms"]);
    let health = watch.until("a failure", |health| health["condition"] == "failed" && is_idle(health));
    assert_eq!(health["last_run"]["not_well"], serde_json::json!(["test.wayline.nobody_buys"]));
    assert!(watch.metrics()["wayline_runs_total{status=\"failed\"}"] >= 1.0);
    std::fs::remove_file(house.path().join("queries/checks/nobody_buys.sql")).unwrap();
    watch.until_batches(1);
    let said = watch.stop();
    assert_eq!(said.matches("nobody_buys").count(), 1, "{said}");
}

#[test]
fn what_waits_is_landed_batch_by_batch_with_no_pause_between() {
    let house = House::new(&format!("{PROJECT}[landing]\nmax_batch_bytes = 1\n"), &[]);
    for name in ["one", "two", "three", "four"] {
        house.write(&format!("landing-zone/{name}.jsonl"), &file(name));
    }
    let watch = Watch::start(&house, &["--every", "1h", "--max-batches", "4"]);
    let (status, said) = watch.end();
    assert!(status.success(), "{said}");
    assert_eq!(house.sql("select batch, landed from data_quality order by 1"), ["1,3", "2,3", "3,3", "4,3"]);
    assert_eq!(house.sql("select landed from runs order by started_at"), ["3", "3", "3", "3"], "one in each run");
}

#[test]
fn a_watch_begins_where_maintenance_has_folded_the_ledger() {
    let house = House::new(&format!("{PROJECT}[landing]\nmax_batch_bytes = 1\n"), &[]);
    for number in 0..100 {
        house.write(&format!("landing-zone/{number:03}.jsonl"), &file(&number.to_string()));
    }
    house.succeed(&["land"]);
    house.succeed(&["maintain"]);
    let books: Vec<_> = std::fs::read_dir(house.path().join("lake/landing/batches")).unwrap().collect();
    assert_eq!(books.len(), 1, "all entries are in a fold");

    deliver(&house, "last");
    let mut watch = Watch::start(&house, &["--every", "100ms"]);
    watch.until_batches(101);
    let metrics = watch.metrics();
    assert_eq!(metrics["wayline_landed_rows_total{source=\"web\"}"], 303.0);
    // When those before it were published is not known.
    assert_eq!(metrics["wayline_landing_to_mart_seconds_count"], 1.0);
    watch.stop();
}

#[test]
fn the_listener_tells_metrics_and_health_and_refuses_the_rest() {
    let house = house();
    let mut watch = Watch::start(&house, &["--every", "100ms", "--metrics-listen", "127.0.0.1:0"]);
    watch.until_batches(1);
    let said = watch.said();
    let address = said.split("metrics at http://").nth(1).unwrap().split("/metrics").next().unwrap().to_string();
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_string(), body.to_string())
    };
    let (status, body) = ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(samples(&body)["wayline_landed_rows_total{source=\"web\"}"], 3.0);
    let (status, body) = ask("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["batches"], 1);
    assert_eq!(ask("HELO there\r\n\r\n").0, "HTTP/1.1 400 Bad Request");
    watch.stop();
    assert!(TcpStream::connect(&address).is_err(), "nobody listens any more");
}

#[test]
fn what_no_waiting_mends_ends_the_watch() {
    let house = house();
    let stderr = house.fail(2, &["watch", "--metrics-listen", "0.0.0.0:9464"]);
    assert!(stderr.contains("this machine only") && stderr.contains("hint: listen on 127.0.0.1"), "{stderr}");
    let stderr = house.fail(2, &["watch", "--health-file", "/no/such/folder/health.json"]);
    assert!(stderr.contains("/no/such/folder/health.json"), "{stderr}");
    assert!(house.fail(2, &["watch", "--every", "1ms"]).contains("at least 100ms"));
    house.write("queries/mine.sql", b"select * from nowhere");
    assert!(house.fail(2, &["watch"]).contains("reads `nowhere`"));
    assert!(!house.path().join("lake/landing/events").exists(), "nothing is landed before that is told");
    std::fs::remove_file(house.path().join("queries/mine.sql")).unwrap();

    let mut watch = Watch::start(&house, &["--every", "100ms"]);
    watch.until_batches(1);
    house.write("landing-zone/one.jsonl", &file("other"));
    let (status, said) = watch.end();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("one.jsonl changed after it was taken"), "{said}");
    let health: Value = serde_json::from_slice(&std::fs::read(house.path().join("health.json")).unwrap()).unwrap();
    assert_eq!(health["condition"], "stopped");
    assert!(health["error"].as_str().unwrap().contains("changed after it was taken"), "{health:#}");
}

#[test]
fn the_last_line_is_a_report_when_one_is_asked_for() {
    let house = house();
    let out = house.succeed(&["watch", "--every", "100ms", "--max-batches", "3", "--json"]);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "a run that did something, and the end: {out}");
    assert_eq!(
        (&lines[0]["args"]["command"], &lines[0]["landed"]["batches"]),
        (&"watch".into(), &serde_json::json!([1]))
    );
    assert_eq!(lines[1], serde_json::json!({"status": "done", "exit_code": 0, "cycles": 3}));
}
