//! What a newcomer meets first: a project to start from, the mapping of their own files, what is wrong with a set-up.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::house::sample;

/// The binary, outside of any project.
fn wayline(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wayline"));
    command.args(arguments).env_remove("WAYLINE_PSEUDONYM_KEY").env_remove("RUST_LOG").output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = wayline(arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

fn fail(code: i32, arguments: &[&str]) -> String {
    let output = wayline(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    stderr
}

fn last_line(out: &str) -> Value {
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

/// A project guessed from files, which was checked and run; all records must have landed.
struct Guessed {
    folder: TempDir,
    report: Value,
}

impl Guessed {
    fn from(files: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("mine");
        let arguments = [&["init", "--json", project.to_str().unwrap(), "--from"], files].concat();
        let report = last_line(&succeed(&arguments));
        let guessed = Self { folder, report };
        guessed.run(&["check"]);
        let run = last_line(&guessed.run(&["run", "--json"]));
        let sources = run["landed"]["sources"].as_object().unwrap();
        assert_eq!(sources.len(), guessed.report["made"]["sources"].as_array().unwrap().len());
        for (name, counts) in sources {
            assert_eq!(counts["dead_letters"], 0, "{name}: {counts}");
            assert_eq!(counts["landed"], counts["rows_in"], "{name}: {counts}");
        }
        guessed
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("mine")
    }

    fn run(&self, arguments: &[&str]) -> String {
        succeed(&[arguments, &["--project", self.project().to_str().unwrap()]].concat())
    }

    fn sql(&self, query: &str) -> Vec<String> {
        self.run(&["sql", "-c", query, "--format", "csv"]).lines().skip(1).map(String::from).collect()
    }

    /// Expression by event column of a source.
    fn expression(&self, source: usize, column: &str) -> &str {
        self.report["made"]["sources"][source]["columns"][column]["expression"].as_str().unwrap_or_default()
    }
}

fn preset(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/presets").join(file).display().to_string()
}

#[test]
fn a_starter_project_runs_at_once_and_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("new");
    let project = project.to_str().unwrap();
    succeed(&["init", project]);
    let files = walk(Path::new(project));
    assert!(files.len() < 10 && files.contains(&"wayline.toml".to_string()), "{files:?}");
    succeed(&["check", "--project", project]);
    let run = last_line(&succeed(&["run", "--json", "--project", project]));
    let counts = |name: &str| {
        run["landed"]["sources"].as_object().unwrap().values().map(|s| s[name].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((counts("rows_in"), counts("dead_letters"), counts("duplicates")), (48, 0, 0));
    let days = succeed(&["sql", "--project", project, "--format", "csv", "-c", "select sum(events) from channel_days"]);
    assert_eq!(days.lines().nth(1), Some("48"));
    // Somebody who looked on the web and bought in the store is one customer.
    let both = "select count(*) from customers where channels like '%store%web%' or channels like '%web%store%'";
    let both = succeed(&["sql", "--project", project, "--format", "csv", "-c", both]);
    assert!(both.lines().nth(1).unwrap().parse::<u32>().unwrap() >= 4, "{both}");
    let stderr = fail(2, &["init", project]);
    assert!(stderr.contains("wayline.toml already"), "{stderr}");
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found
}

/// File, preset, events, and a query with its answer.
const SHAPES: [(&str, &str, u64, &str, &[&str]); 7] = [
    (
        "segment.jsonl",
        "segment",
        7,
        "select touchpoint, channel, value from events order by occurred_at",
        &[
            "page_view,web,",
            "product_viewed,web,",
            "identify,web,",
            "checkout_started,web,",
            "order_completed,web,25.0000",
            "screen_view,mobile_app,",
            "alias,server,",
        ],
    ),
    (
        "rudderstack.jsonl",
        "rudderstack",
        4,
        "select touchpoint, channel, value from events order by occurred_at",
        &["page_view,web,", "identify,web,", "order_completed,mobile_app,30.0000", "invoice_sent,server,"],
    ),
    (
        "segment_warehouse.csv",
        "segment_warehouse",
        4,
        "select touchpoint, channel, value from events order by occurred_at",
        &["product_viewed,web,", "checkout_started,web,", "order_completed,web,25.0000", "app_opened,mobile_app,"],
    ),
    (
        "snowplow.csv",
        "snowplow",
        4,
        "select touchpoint, channel, value, currency from events order by occurred_at",
        &["page_view,web,,", "add-to-basket,web,,", "transaction,web,29.9000,EUR", "screen_view,mobile_app,,"],
    ),
    (
        "posthog.jsonl",
        "posthog",
        4,
        "select touchpoint, channel, value from events order by occurred_at",
        &["page_view,web,", "identify,web,", "order_completed,mobile_app,25.5000", "invoice_sent,server,"],
    ),
    (
        "ga4.jsonl",
        "ga4",
        4,
        "select touchpoint, channel, value, currency, campaign from events order by occurred_at",
        &["page_view,web,,,spring", "add_to_cart,web,,,", "purchase,web,26.1000,USD,", "first_open,mobile_app,,,"],
    ),
    (
        "cloudevents.jsonl",
        "cloudevents",
        3,
        "select touchpoint, channel, value, currency from events order by occurred_at",
        &[
            "com.example.shop.product.viewed,web,,",
            "com.example.shop.order.placed,web,25.5000,EUR",
            "com.example.shop.order.placed,store,12.0000,EUR",
        ],
    ),
];

#[test]
fn files_of_other_tools_are_recognised_and_land_to_the_last_record() {
    for (file, name, events, query, expected) in SHAPES {
        let guessed = Guessed::from(&[&preset(file)]);
        let source = &guessed.report["made"]["sources"][0];
        assert_eq!(source["preset"][0], name, "{file}");
        assert_eq!((&source["events"], &source["records"]), (&events.into(), &events.into()), "{file}");
        assert_eq!(guessed.sql(query), expected, "{file}");
    }
}

#[test]
fn a_shape_resolves_its_users_to_one_customer() {
    for (file, customers) in
        [("segment.jsonl", "1"), ("posthog.jsonl", "1"), ("snowplow.csv", "1"), ("cloudevents.jsonl", "2")]
    {
        let guessed = Guessed::from(&[&preset(file)]);
        assert_eq!(guessed.sql("select count(*) from customers"), [customers], "{file}");
    }
}

#[test]
fn clock_skew_is_as_the_tool_corrected_it() {
    let guessed = Guessed::from(&[&preset("segment.jsonl")]);
    let occurred = guessed.sql(
        "select cast(occurred_at as varchar), cast(received_at as varchar) from events where touchpoint = 'page_view'",
    );
    assert!(occurred[0].contains("09:00:00.3") && occurred[0].contains("09:00:00.5"), "{occurred:?}");
}

#[test]
fn sample_files_of_a_shop_become_a_project_that_lands_every_record() {
    let zone = sample("shop").join("landing-zone");
    let guessed = Guessed::from(&[&zone.join("*").display().to_string()]);
    assert_eq!(guessed.sql("select count(*), count(distinct source) from events"), ["32069,3"]);
    assert!(guessed.expression(0, "occurred_at") == "\"timestamp\"", "{}", guessed.report);
    assert!(!guessed.report["made"]["proposal"]["goal"].as_array().unwrap().is_empty());
    assert!(guessed.sql("select count(*) from funnel_steps")[0] != "0");
}

#[test]
fn files_of_many_channels_become_sources_of_their_own() {
    let zone = sample("odd-cases").join("landing-zone");
    let files: Vec<String> =
        ["store.jsonl", "email.csv"].iter().map(|name| zone.join(name).display().to_string()).collect();
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("mine");
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let report = last_line(&succeed(&[&["init", "--json", project.to_str().unwrap(), "--from"], &files[..]].concat()));
    let sources = report["made"]["sources"].as_array().unwrap();
    let named: Vec<&str> = sources.iter().map(|source| source["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["store", "email"]);
    let of =
        |source: &Value, column: &str| source["columns"][column]["expression"].as_str().unwrap_or_default().to_string();
    assert_eq!(of(&sources[0], "channel"), "'store'");
    assert_eq!(of(&sources[1], "direction"), "case when action in ('sent') then 'outbound' else 'inbound' end");
    assert_eq!(
        sources[1]["identifiers"]["email"]["expression"]
            .as_str()
            .unwrap()
            .replace("lower(trim(recipient))", "recipient"),
        "recipient"
    );
}

#[test]
fn one_number_under_two_names_is_one_kind() {
    let folder = tempfile::tempdir().unwrap();
    let (web, calls) = (folder.path().join("web.jsonl"), folder.path().join("calls.csv"));
    let line = |n: u32| format!("{{\"ts\":\"2025-01-0{n}T10:00:00Z\",\"event\":\"open\",\"user_no\":\"u-{n}\"}}\n");
    std::fs::write(&web, (1..5).map(line).collect::<String>()).unwrap();
    let row = |n: u32| format!("2025-01-0{n}T12:00:00Z,help,u-{n}\n");
    std::fs::write(&calls, format!("started,reason,customer_no\n{}", (1..4).map(row).collect::<String>())).unwrap();
    let guessed = Guessed::from(&[web.to_str().unwrap(), calls.to_str().unwrap()]);
    let evidence = guessed.report["made"]["sources"][1]["identifiers"]["user_id"]["evidence"].as_str().unwrap();
    assert!(evidence.contains("shares 3 values with user_id of web"), "{evidence}");
    assert_eq!(guessed.sql("select count(*) from customers"), ["4"]);
}

const GERMAN: &str = "Kunden-Nr.;Datum;Uhrzeit;Vorgang;Betrag (EUR);E-Mail\n\
    K-1;05.01.2025;10:15;Beratung;;anna@example.com\n\
    K-1;05.01.2025;10:45;Kauf;1.299,50;anna@example.com\n\
    K-2;31.01.2025;09:05;Kauf;12,00;\n";

#[test]
fn names_of_columns_may_be_of_any_script() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.csv");
    let text =
        "Gerätenummer,タイムスタンプ,timestamp,event\nd1,x,2025-01-05T10:00:00Z,open\nd2,y,2025-01-05T10:01:00Z,open\n";
    std::fs::write(&file, text).unwrap();
    let guessed = Guessed::from(&[file.to_str().unwrap()]);
    assert_eq!(guessed.sql("select count(*) from events"), ["2"]);
}

#[test]
fn a_german_csv_is_read_as_it_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filiale.csv");
    std::fs::write(&file, GERMAN).unwrap();
    let guessed = Guessed::from(&[file.to_str().unwrap()]);
    let rows = guessed.sql(
        "select cast(occurred_at as varchar) as at, touchpoint, channel, value, currency from events order by at, touchpoint",
    );
    assert!(rows[1].contains("10:45:00") && rows[1].ends_with(",kauf,store,1299.5000,EUR"), "{rows:?}");
    assert_eq!(guessed.sql("select count(*) from customers"), ["2"]);
    assert_eq!(guessed.report["made"]["proposal"]["goal"], serde_json::json!(["kauf"]));
}

#[test]
fn times_and_names_of_every_kind_land() {
    let cases = [
        (
            "seconds.jsonl",
            "{\"ts\":1736935205,\"event\":\"open\",\"user_id\":\"u1\"}\n{\"ts\":1736935300.5,\"event\":\"open\",\"user_id\":\"u2\"}\n",
        ),
        ("millis.jsonl", "{\"timestamp\":1736935205123,\"event\":\"open\",\"user_id\":\"u1\"}\n"),
        ("nanos.csv", "time,event\n1736935205123456789,open\n"),
        (
            "american.csv",
            "Order Date,Order ID,What Happened,event\n01/31/2025 10:15,1,x,Order Placed\n02/01/2025 09:05,2,y,Order Placed\n",
        ),
        ("zoneless.csv", "datetime,event,e-mail\n2025-01-31 10:15:00,view,a@example.com\n"),
        ("days.csv", "date,event,total\n2025-01-31,view,\"$1,234.50\"\n2025-02-01,purchase,$7.00\n"),
        (
            "gaps.csv",
            "ts,event,channel,amount\n2025-01-31T10:15:00Z,,web,n/a\n2025-01-31T10:16:00Z,buy,,3.5\n2025-01-31T10:17:00Z,buy,store,4\n",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in cases {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let guessed = Guessed::from(&[file.to_str().unwrap()]);
        assert_eq!(guessed.sql("select count(*) from events where occurred_date < '2025-01-10'"), ["0"], "{name}");
    }
}

#[test]
fn what_holds_no_events_is_refused_with_the_reason_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("mine");
    for (name, content, expected) in [
        ("people.csv", "first_name,dob\nAnna,1971-05-24\n", "no column reads as a time"),
        (
            "headless.csv",
            "2025-01-31T10:15:00Z,view,a@example.com\n2025-01-31T10:16:00Z,buy,b@example.com\n",
            "the first line holds data",
        ),
        ("empty.jsonl", "", "holds no records"),
        (
            "requests.jsonl",
            "{\"sentAt\":\"2025-01-31T10:15:00Z\",\"batch\":[{\"event\":\"a\"}]}\n",
            "a list of events in batch",
        ),
        ("broken.jsonl", "{\"a\":\n{\"b\":\n", "all 2 records are refused"),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let stderr = fail(2, &["init", project.to_str().unwrap(), "--from", file.to_str().unwrap()]);
        assert!(stderr.contains(expected), "{name}: {stderr}");
        assert!(!project.exists(), "{name}");
    }
    let stderr = fail(2, &["init", project.to_str().unwrap(), "--from", "/no/such/file.csv"]);
    assert!(stderr.contains("no file matches"), "{stderr}");
}

#[test]
fn a_folder_beside_other_things_becomes_a_source_and_readme_stays() {
    let folder = tempfile::tempdir().unwrap();
    let web = folder.path().join("data/web");
    std::fs::create_dir_all(&web).unwrap();
    for day in ["2025-01-30", "2025-01-31"] {
        let line = format!("{{\"id\":\"{day}\",\"ts\":\"{day}T10:00:00Z\",\"event\":\"open\",\"user_id\":\"u1\"}}\n");
        std::fs::write(web.join(format!("{day}.jsonl")), line).unwrap();
    }
    std::fs::write(web.join("notes.txt"), "not events").unwrap();
    std::fs::write(folder.path().join("README.md"), "mine").unwrap();
    let project = folder.path().to_str().unwrap();
    let report = last_line(&succeed(&["init", project, "--json", "--from", web.to_str().unwrap()]));
    let source = &report["made"]["sources"][0];
    assert_eq!((source["name"].as_str(), source["pattern"].as_str()), (Some("web"), Some("data/web/*.jsonl")));
    assert_eq!(report["made"]["spared"], serde_json::json!(["README.md"]));
    assert_eq!(std::fs::read_to_string(folder.path().join("README.md")).unwrap(), "mine");
    succeed(&["check", "--project", project]);
    let run = last_line(&succeed(&["run", "--json", "--project", project]));
    assert_eq!(run["landed"]["sources"]["web"]["landed"], 2);
}

#[test]
fn a_preset_alone_makes_a_project_that_waits_for_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["segment", "segment_warehouse", "rudderstack", "snowplow", "posthog", "ga4", "cloudevents"] {
        let project = folder.path().join(name);
        let project = project.to_str().unwrap();
        succeed(&["init", project, "--preset", name]);
        succeed(&["check", "--project", project]);
        succeed(&["run", "--project", project]);
    }
}
