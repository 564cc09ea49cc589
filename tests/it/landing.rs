//! Landing as a data engineer meets it: shapes of files, bad records, changed files, pseudonyms.

use std::io::Write;

use crate::house::House;

fn source(name: &str, path: &str, more: &str) -> String {
    format!(
        r#"
[[sources]]
name = "{name}"
path = "{path}"
[sources.event]
event_id    = "id"
occurred_at = "ts"
received_at = "ts"
touchpoint  = "event"
channel     = "'{name}'"
{more}
"#
    )
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn line(id: &str, event: &str, more: &str) -> String {
    format!("{{\"id\":\"{id}\",\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"{event}\"{more}}}\n")
}

/// Every batch keeps its promise about counts.
fn assert_counts_add_up(house: &House) {
    let wrong = house.sql("select * from batches where rows_in <> landed + duplicates + dead_letters");
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn json_csv_and_parquet_plain_and_packed_become_the_same_events() {
    let jsonl = format!("{}{}", line("a", "view", ",\"n\":1"), line("b", "buy", ",\"n\":2"));
    let csv = "id,ts,event,n\na,2025-01-01T10:00:00Z,view,1\nb,2025-01-01T10:00:00Z,buy,2\n";
    let maker = House::new(&source("web", "in/*.jsonl", ""), &[("in/x.jsonl", jsonl.as_bytes())]);
    maker.succeed(&["land"]);
    let query = "select event_id as id, occurred_at as ts, touchpoint as event, 1 as n from events order by 1";
    let parquet = maker.wayline(&["sql", "--format", "parquet", "-c", query]).stdout;
    assert_eq!(&parquet[..4], b"PAR1");

    let files: [(&str, Vec<u8>); 6] = [
        ("in/x.jsonl", jsonl.clone().into_bytes()),
        ("in/x.jsonl.gz", gzip(jsonl.as_bytes())),
        ("in/x.jsonl.zst", zstd::encode_all(jsonl.as_bytes(), 1).unwrap()),
        ("in/x.csv", csv.as_bytes().to_vec()),
        ("in/x.csv.gz", gzip(csv.as_bytes())),
        ("in/x.parquet", parquet),
    ];
    for (name, content) in files {
        let house = House::new(&source("web", "in/*", ""), &[(name, &content)]);
        house.succeed(&["land"]);
        let rows = house.sql("select event_id, occurred_at, touchpoint, channel from events order by 1");
        let expected = ["a,2025-01-01T10:00:00.000000Z,view,web", "b,2025-01-01T10:00:00.000000Z,buy,web"];
        assert_eq!(rows, expected, "{name}");
        let properties = house.sql("select properties from events where event_id = 'a'");
        assert!(properties[0].contains("n"), "{name}: {properties:?}");
    }
}

#[test]
fn files_of_one_source_may_have_different_columns() {
    let with = "id,ts,event,total\na,2025-01-01T10:00:00Z,view,12.5\n";
    let without = "event,id,ts\nbuy,b,2025-01-01T11:00:00Z\n";
    let house = House::new(
        &source("shop", "in/*.csv", "value = \"total\""),
        &[("in/1.csv", with.as_bytes()), ("in/2.csv", without.as_bytes())],
    );
    house.succeed(&["land"]);
    assert_eq!(house.sql("select event_id, value from events order by 1"), ["a,12.5000", "b,"]);
}

#[test]
fn a_bad_record_costs_itself_and_a_bad_file_costs_itself() {
    let mixed = format!("{}not json\n{}", line("a", "view", ""), line("b", "", ""));
    let house = House::new(
        &source("web", "in/*", ""),
        &[
            ("in/1.jsonl", mixed.as_bytes()),
            ("in/2.jsonl.gz", &gzip(line("c", "view", "").as_bytes())[..20]),
            ("in/3.parquet", b"<html>not found</html>"),
            ("in/4.jsonl", line("d", "view", "").as_bytes()),
            ("in/5.jsonl", b""),
        ],
    );
    house.succeed(&["land"]);
    assert_eq!(house.sql("select event_id from events order by 1"), ["a", "d"]);
    assert_eq!(
        house.sql("select origin, reason from dead_letters order by 1"),
        [
            "in/1.jsonl:2,json_syntax",
            "in/1.jsonl:3,missing_field",
            "in/2.jsonl.gz,gzip_truncated",
            "in/3.parquet,bad_magic",
        ]
    );
    assert_counts_add_up(&house);
    let status = house.succeed(&["status"]);
    assert!(status.contains("gzip_truncated") && status.contains("in/2.jsonl.gz"), "{status}");
}

#[test]
fn an_expression_that_fails_on_one_record_costs_that_record() {
    let lines = format!("{}{}", line("a", "view", ",\"n\":\"5\""), line("b", "view", ",\"n\":\"five\""));
    let house =
        House::new(&source("web", "in/*", "value = \"cast(n as double) * 2\""), &[("in/1.jsonl", lines.as_bytes())]);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select event_id, value from events"), ["a,10.0000"]);
    assert_eq!(house.sql("select origin, reason from dead_letters"), ["in/1.jsonl:2,expression_failed"]);
}

#[test]
fn a_file_is_taken_once_and_a_changed_one_is_an_error_that_names_it() {
    let house = House::new(&source("web", "in/*", ""), &[("in/1.jsonl", line("a", "view", "").as_bytes())]);
    house.succeed(&["land"]);
    // Written again with the same content: still the same file.
    house.write("in/1.jsonl", line("a", "view", "").as_bytes());
    house.succeed(&["land"]);
    assert_eq!(house.sql("select count(*) from batches"), ["1"]);

    house.write("in/1.jsonl", line("b", "view", "").as_bytes());
    let stderr = house.fail(2, &["land"]);
    assert!(stderr.contains("in/1.jsonl changed after it was taken"), "{stderr}");
    assert!(stderr.contains("hint: "), "{stderr}");

    let configuration = format!("[landing]\nchanged_files = \"land\"\n{}", source("web", "in/*", ""));
    house.write("wayline.toml", configuration.as_bytes());
    house.succeed(&["land"]);
    assert_eq!(house.sql("select event_id, batch from events order by 1"), ["a,1", "b,2"]);
}

#[test]
fn records_without_an_id_are_recognised_when_their_file_comes_again() {
    let lines = "{\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"view\"}\n".repeat(2);
    let house = House::new(&source("web", "in/*", ""), &[("in/1.jsonl", lines.as_bytes())]);
    house.succeed(&["land"]);
    house.write("in/copy.jsonl", lines.as_bytes());
    house.succeed(&["land"]);
    assert_eq!(house.sql("select batch, landed, duplicates from batches order by 1"), ["1,2,0", "2,0,2"]);
}

const IDENTIFIERS: &str = "identifiers = { email = \"mail\", phone = \"tel\", user_id = \"customer\" }";

#[test]
fn pseudonymised_identifiers_never_reach_the_lake_not_even_in_dead_letters() {
    let configuration = format!(
        "[privacy]\npseudonymize = [\"email\", \"phone\", \"user_id\"]\n{}",
        source("web", "in/*", IDENTIFIERS)
    );
    let person = ",\"mail\":\" Anna.Canary@Example.org \",\"tel\":\"+49 170 555-1234\",\"customer\":\"canary-77\"";
    let lines = format!(
        "{}{}{}{}",
        line("a", "view", person),
        line("b", "", person),
        line("c", "view", &person.replace(" Anna", "ANNA")),
        line("d", "view", person).replace('}', ""),
    );
    let house = House::new(&configuration, &[("in/1.jsonl", lines.as_bytes())]);

    let refused = house.fail(2, &["run"]);
    assert!(refused.contains("WAYLINE_PSEUDONYM_KEY"), "{refused}");
    assert!(!house.path().join("lake/landing").exists());

    let run =
        house.command(&["run"]).env("WAYLINE_PSEUDONYM_KEY", "a key of thirty-two characters!!").output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut out = Vec::new();
    for query in [
        "select properties, array_to_string(array_agg(identifiers[1]['value']), ' ') from events group by 1",
        "select arrow_cast(record, 'Utf8'), detail from dead_letters",
        "select kind, value from identity_map",
    ] {
        let rows = house
            .command(&["sql", "-c", query])
            .env("WAYLINE_PSEUDONYM_KEY", "a key of thirty-two characters!!")
            .output()
            .unwrap();
        assert!(rows.status.success(), "{}", String::from_utf8_lossy(&rows.stderr));
        out.extend(rows.stdout);
    }
    let out = String::from_utf8(out).unwrap();
    for raw in ["canary", "Canary", "555", "170 "] {
        assert!(!out.contains(raw), "{raw} in {out}");
    }
    // One person: the same address in another spelling has the same pseudonym.
    let customers = house
        .command(&["sql", "-c", "select count(*) from customers where event_count = 2", "--format", "csv"])
        .env("WAYLINE_PSEUDONYM_KEY", "a key of thirty-two characters!!")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&customers.stdout).ends_with("\n1\n"));
}

#[test]
fn generated_events_keep_the_balance_and_a_second_landing_of_all_of_them_adds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wayline"));
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let place = project.to_str().unwrap();
    run(&["generate", "--events", "20000", "--files", "3", "--bad-records", "200", place]);
    run(&["run", "--project", place]);
    let sql = |query: &str| {
        run(&["sql", "--project", place, "--format", "csv", "-c", query]).lines().nth(1).unwrap().to_string()
    };
    assert_eq!(sql("select sum(rows_in) from batches"), "20000");
    assert_eq!(sql("select count(*) from batches where rows_in <> landed + duplicates + dead_letters"), "0");
    let landed = sql("select count(*) from events");
    assert_eq!(sql("select count(distinct event_id) from events"), landed);
    assert!(sql("select count(*) from dead_letters").parse::<u64>().unwrap() > 5);
    for entry in std::fs::read_dir(project.join("landing-zone")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().replace("events-", "events-again-");
        std::fs::copy(&path, path.with_file_name(name)).unwrap();
    }
    run(&["run", "--project", place]);
    assert_eq!(sql("select count(*) from events"), landed);
}
