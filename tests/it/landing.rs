//! Landing as a data engineer meets it: shapes of files, bad records, changed files, pseudonyms.

use std::io::Write;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};

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

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn parquet_of(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, column)| (*name, column.clone()))).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Every batch keeps its promise about counts.
fn assert_counts_add_up(house: &House) {
    let wrong = house.sql("select * from batches where rows_in <> landed + duplicates + dead_letters");
    assert!(wrong.is_empty(), "{wrong:?}");
    for (counted, table) in [("landed", "events"), ("dead_letters", "dead_letters")] {
        let books =
            house.sql(&format!("select batch, source, {counted} from batches where {counted} > 0 order by 1, 2"));
        let rows = house.sql(&format!("select batch, source, count(*) from {table} group by 1, 2 order by 1, 2"));
        assert_eq!(books, rows, "{table}");
    }
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

    let files: [(&str, Vec<u8>); 7] = [
        ("in/x.jsonl", jsonl.clone().into_bytes()),
        ("in/x.jsonl.gz", gzip(jsonl.as_bytes())),
        ("in/x.jsonl.zst", zstd::encode_all(jsonl.as_bytes(), 1).unwrap()),
        ("in/x.csv", csv.as_bytes().to_vec()),
        ("in/x.csv.gz", gzip(csv.as_bytes())),
        ("in/x.csv.zst", zstd::encode_all(csv.as_bytes(), 1).unwrap()),
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
    // The next batch remembers its new time, so that it need not be read again to tell.
    house.write("in/2.jsonl", line("c", "view", "").as_bytes());
    house.succeed(&["land"]);
    let ledger = std::fs::read_to_string(house.path().join("lake/landing/batches/000000000002.ledger.json")).unwrap();
    let ledger: serde_json::Value = serde_json::from_str(&ledger).unwrap();
    assert_eq!(ledger["touched"][0]["path"], "in/1.jsonl");

    house.write("in/1.jsonl", line("b", "view", "").as_bytes());
    let stderr = house.fail(2, &["land"]);
    assert!(stderr.contains("in/1.jsonl changed after it was taken"), "{stderr}");
    assert!(stderr.contains("hint: "), "{stderr}");

    let configuration = format!("[landing]\nchanged_files = \"land\"\n{}", source("web", "in/*", ""));
    house.write("wayline.toml", configuration.as_bytes());
    house.succeed(&["land"]);
    assert_eq!(house.sql("select event_id, batch from events order by 1"), ["a,1", "b,3", "c,2"]);
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

const KEY: &str = "a key of thirty-two characters!!";
const PSEUDONYMIZE: &str = "[privacy]\npseudonymize = [\"email\", \"phone\", \"user_id\"]\n";

/// Runs a command under the key of pseudonyms; it must succeed.
fn with_key(house: &House, arguments: &[&str]) -> Output {
    let output = house.command(arguments).env("WAYLINE_PSEUDONYM_KEY", KEY).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn rows_with_key(house: &House, query: &str) -> Vec<String> {
    let out = with_key(house, &["sql", "-c", query, "--format", "csv"]).stdout;
    String::from_utf8(out).unwrap().lines().skip(1).map(str::to_string).collect()
}

/// Everything below the lake and all that was printed: JSON as it lies there, Parquet decoded.
fn everything_written(house: &House, outputs: &[Output]) -> String {
    let mut text = String::new();
    for output in outputs {
        text += &String::from_utf8_lossy(&output.stdout);
        text += &String::from_utf8_lossy(&output.stderr);
    }
    for (path, ..) in house.lake_files() {
        text += &format!("\n{}: ", path.display());
        let content = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            let rows =
                parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes::Bytes::from(content), 1024)
                    .unwrap();
            for batch in rows {
                let batch = batch.unwrap();
                let formats = arrow::util::display::FormatOptions::default();
                for column in batch.columns() {
                    // Bytes of records are text, shown as such.
                    let column =
                        arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).unwrap_or(column.clone());
                    let shown = arrow::util::display::ArrayFormatter::try_new(&column, &formats).unwrap();
                    (0..column.len()).for_each(|row| text += &format!("{}\n", shown.value(row)));
                }
            }
        } else {
            text += &String::from_utf8_lossy(&content);
        }
    }
    text
}

#[test]
fn pseudonymised_identifiers_never_reach_the_lake_not_even_in_dead_letters() {
    let configuration = format!("{PSEUDONYMIZE}{}", source("web", "in/*", IDENTIFIERS));
    let person = ",\"mail\":\" Anna.Canary@Example.org \",\"tel\":\"+49 170 555-1234\",\"customer\":\"canary-77\"";
    let lines = [
        line("a", "view", person),
        line("b", "", person),
        line("c", "view", &person.replace(" Anna", "ANNA")),
        line("d", "view", person).replace('}', ""),
        line("e", "", ",\"customer\":\"Canary, Jane\""),
        line("f", "", ",\"customer\":\"can\\u0061ry-77\",\"tel\":491705551234"),
        line("g", "", ",\"customer\":[\"canary-77\"],\"mail\":null"),
        line("h", "view", ",\"Customer\":\"canary-77\",\"MAIL\":\"anna.canary@example.org\""),
        "{\"customer\":\"canary-77\n".into(),
        "{\"customer:\"canary-77\"\n".into(),
    ];
    let header = "customer,ts,event,id,mail,tel\n";
    let csv = [
        "canary-77,,view,k,,",
        "\"Canary, Jane\",2025-01-01T10:00:00Z,,l,anna.canary@example.org,491705551234",
        "Canary, Jane,2025-01-01T10:00:00Z,view,m,,",
        "canary-77",
        "\"canary-77,2025-01-01T10:00:00Z,view,n,,",
        "canary-78,2025-01-01T10:00:00Z,view,o,anna.canary@example.org,+49 170 555-1234",
    ];
    let parquet = parquet_of(&[
        ("customer", texts(&["canary-79", "canary-79"])),
        ("id", texts(&["p", "q"])),
        ("ts", texts(&["2025-01-01T10:00:00Z", "canary-79 said so"])),
        ("event", texts(&["view", "view"])),
        ("tel", Arc::new(Int64Array::from(vec![491_705_551_234, 491_705_551_234]))),
    ]);
    let house = House::new(
        &configuration,
        &[
            ("in/1.jsonl", lines.concat().as_bytes()),
            ("in/2.csv", format!("{header}{}\n", csv.join("\n")).as_bytes()),
            ("in/3.csv", b"canary-77,2025-01-01T10:00:00Z,view,r\ncanary-77,2025-01-01T10:00:00Z,view,s\n"),
            ("in/4.csv", b"anna.canary@example.org,anna.canary@example.org,id\n1,2,3\n"),
            ("in/5.parquet", &parquet),
            ("in/6.csv", b"id,ts,event,Customer\nt,2025-01-01T10:00:00Z,view,canary-80\n"),
        ],
    );

    let refused = house.fail(2, &["run"]);
    assert!(refused.contains("WAYLINE_PSEUDONYM_KEY"), "{refused}");
    assert!(!house.path().join("lake/landing").exists());

    let run = with_key(&house, &["run"]);
    let status = with_key(&house, &["status"]);
    assert_eq!(rows_with_key(&house, "select count(*) from dead_letters"), ["15"]);
    assert_eq!(rows_with_key(&house, "select event_id from events order by 1"), ["a", "c", "h", "o", "p", "t"]);
    let written = everything_written(&house, &[run, status]).to_lowercase();
    for raw in ["canary", "jane", "5551234", "555-1234", "170 "] {
        let found = written.find(raw).map(|at| written[at.saturating_sub(200)..].chars().take(400).collect::<String>());
        assert_eq!(found, None, "{raw}");
    }
    let replayable =
        rows_with_key(&house, "select arrow_cast(record, 'Utf8') from dead_letters where origin = 'in/1.jsonl:7'");
    assert!(replayable[0].contains("2025-01-01T10:00:00Z") && replayable[0].contains("null"), "{replayable:?}");
    // One person: the same address in another spelling has the same pseudonym, as a number has that of its text.
    let customers = rows_with_key(&house, "select count(distinct customer_id) from identity_map");
    assert_eq!(customers, ["1"]);
}

#[test]
fn an_expression_that_fails_does_not_quote_what_is_pseudonymised() {
    let mapping =
        source("web", "in/*", "value = \"cast(upper(customer) as bigint)\"\nidentifiers = { user_id = \"customer\" }");
    let house = House::new(
        &format!("[privacy]\npseudonymize = [\"user_id\"]\n{mapping}"),
        &[("in/1.jsonl", line("a", "view", ",\"customer\":\"canary-77\"").as_bytes())],
    );
    let land = with_key(&house, &["land"]);
    assert_eq!(rows_with_key(&house, "select reason from dead_letters"), ["expression_failed"]);
    assert!(!everything_written(&house, &[land]).to_lowercase().contains("canary"));
}

#[test]
fn an_event_without_an_id_gets_one_that_nobody_can_guess_its_identifiers_from() {
    let without_id = "{\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"view\",\"customer\":\"7\"}\n";
    let mapping = source("web", "in/*", "identifiers = { user_id = \"customer\" }");
    let plain = House::new(&mapping, &[("in/1.jsonl", without_id.as_bytes())]);
    let keyed = House::new(
        &format!("[privacy]\npseudonymize = [\"user_id\"]\n{mapping}"),
        &[("in/1.jsonl", without_id.as_bytes())],
    );
    plain.succeed(&["land"]);
    with_key(&keyed, &["land"]);
    let id = rows_with_key(&keyed, "select event_id from events");
    assert_eq!(id[0].len(), 32);
    assert_ne!(id, plain.sql("select event_id from events"));
}

#[test]
fn columns_of_parquet_may_differ_in_type_from_file_to_file() {
    let house = House::new(
        &source("web", "in/*", "value = \"total\"\nidentifiers = { user_id = \"lower(customer)\", phone = \"tel\" }"),
        &[
            (
                "in/1.parquet",
                &parquet_of(&[
                    ("id", texts(&["a"])),
                    ("ts", texts(&["2025-01-01T10:00:00Z"])),
                    ("event", texts(&["view"])),
                    ("customer", texts(&["U7"])),
                    ("total", texts(&["1.5e2"])),
                ]),
            ),
            (
                "in/2.parquet",
                &parquet_of(&[
                    ("id", Arc::new(Float64Array::from(vec![123.0]))),
                    ("ts", Arc::new(TimestampMicrosecondArray::from(vec![1_735_725_600_000_000]))),
                    ("event", texts(&["view"])),
                    ("customer", Arc::new(Int64Array::from(vec![7]))),
                    ("total", Arc::new(Float64Array::from(vec![12.5]))),
                    ("tel", Arc::new(Float64Array::from(vec![491_705_551_234.0]))),
                ]),
            ),
            (
                "in/3.parquet",
                &parquet_of(&[
                    ("id", texts(&["c"])),
                    ("ts", texts(&["2025-01-01T10:00:00Z"])),
                    (
                        "event",
                        Arc::new(StructArray::from(RecordBatch::try_from_iter([("x", texts(&["view"]))]).unwrap())),
                    ),
                ]),
            ),
            ("in/4.jsonl", line("d", "view", ",\"customer\":7.0,\"tel\":491705551234").as_bytes()),
        ],
    );
    house.succeed(&["land"]);
    assert_eq!(
        house.sql("select event_id, occurred_at, value, array_to_string(array_agg(i['kind'] || '=' || i['value']), ' ') \
                   from (select event_id, occurred_at, value, unnest(identifiers) as i from events) group by 1, 2, 3 order by 1"),
        [
            "123,2025-01-01T10:00:00.000000Z,12.5000,phone=491705551234 user_id=7",
            "a,2025-01-01T10:00:00.000000Z,150.0000,user_id=u7",
            "d,2025-01-01T10:00:00.000000Z,,phone=491705551234 user_id=7",
        ]
    );
    assert_eq!(house.sql("select origin, reason from dead_letters"), ["in/3.parquet,schema_conflict"]);
    assert_counts_add_up(&house);
}

#[test]
fn times_of_parquet_without_a_zone_have_the_offset_of_their_source() {
    let file = parquet_of(&[
        ("id", texts(&["a"])),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![1_735_725_600_000_000]))),
        ("event", texts(&["view"])),
    ]);
    let offset = source("web", "in/*", "").replace("[sources.event]", "time_offset = \"+02:00\"\n[sources.event]");
    let house = House::new(&offset, &[("in/1.parquet", &file)]);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select occurred_at from events"), ["2025-01-01T08:00:00.000000Z"]);
}

#[test]
fn stray_and_closed_files_are_passed_over_and_the_rest_lands() {
    let mapping = source("web", "in/*", "");
    let house = House::new(
        &mapping,
        &[
            ("in/1.jsonl", line("a", "view", "").as_bytes()),
            ("in/_SUCCESS", b""),
            ("in/.DS_Store", b"x"),
            ("in/readme.txt", b"not data"),
        ],
    );
    let land = house.wayline(&["land"]);
    assert!(land.status.success());
    let stderr = String::from_utf8_lossy(&land.stderr).into_owned();
    assert!(stderr.contains("in/readme.txt") && stderr.contains("unknown_format"), "{stderr}");
    assert!(!stderr.contains("_SUCCESS"), "{stderr}");
    assert_eq!(house.sql("select event_id from events"), ["a"]);
    let check = house.wayline(&["check"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&check.stdout).contains("passed over in/readme.txt: unknown_format"));
    std::fs::remove_file(house.path().join("in/readme.txt")).unwrap();
    house.succeed(&["check"]);
}

#[test]
fn a_source_that_matches_nothing_is_warned_of_until_something_is_taken_from_it() {
    let house = House::new(&source("web", "in/*", ""), &[]);
    let stderr = |house: &House| String::from_utf8(house.wayline(&["land"]).stderr).unwrap();
    assert!(stderr(&house).contains("no file matches"));
    house.write("in/1.jsonl", line("a", "view", "").as_bytes());
    house.succeed(&["land"]);
    std::fs::remove_file(house.path().join("in/1.jsonl")).unwrap();
    assert!(!stderr(&house).contains("no file matches"));
}

#[test]
fn the_lake_is_no_source_of_itself() {
    let house = House::new(&source("web", "**/*.parquet", ""), &[]);
    for id in ["a", "b", "c"] {
        house.write(
            &format!("in/{id}.parquet"),
            &parquet_of(&[("id", texts(&[id])), ("ts", texts(&["2025-01-01T10:00:00Z"])), ("event", texts(&["view"]))]),
        );
        house.succeed(&["run"]);
    }
    house.succeed(&["land"]);
    assert_eq!(house.sql("select count(*) from batches"), ["3"]);
    assert_eq!(house.sql("select count(*) from dead_letters"), ["0"]);
    let is_of_changes = |path: &Path| path.components().any(|part| part.as_os_str() == "changes");
    let is_parquet = |path: &Path| path.extension().is_some_and(|kind| kind == "parquet");
    let mut files = house.lake_files().into_iter();
    assert!(files.any(|(path, ..)| is_of_changes(&path) && is_parquet(&path)), "there is something to leave alone");
}

#[test]
fn a_file_refused_whole_is_taken_when_it_is_delivered_whole() {
    let whole = gzip(&line("a", "view", "").repeat(20).into_bytes());
    let house = House::new(&source("web", "in/*", ""), &[("in/1.jsonl.gz", &whole[..whole.len() / 2])]);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select reason from dead_letters"), ["gzip_truncated"]);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select count(*) from batches"), ["1"], "left alone while it stays as it is");
    house.write("in/1.jsonl.gz", &whole);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select event_id, batch from events"), ["a,2"]);
    assert_counts_add_up(&house);
}

#[test]
fn an_event_in_the_future_of_its_batch_does_not_move_as_of_whatever_its_source_says() {
    let future = line("b", "view", "").replace("2025-01-01T10", "2099-01-01T10");
    let lines = format!("{}{future}", line("a", "view", ""));
    let house = House::new(&source("web", "in/*", ""), &[("in/1.jsonl", lines.as_bytes())]);
    house.succeed(&["run"]);
    assert_eq!(house.sql("select as_of from as_of"), ["2025-01-01T10:00:00.000000Z"]);
    assert_eq!(house.sql("select count(*) from events"), ["2"]);
}

#[test]
fn what_is_wrong_with_a_mapping_is_told_before_anything_is_landed() {
    let good = source("web", "in/*", "");
    for (more, expected) in [
        ("value = \"no_such_function(x)\"", "no_such_function"),
        ("value = \"lower(\"", "is no SQL expression"),
        ("campaign = \"cast(now() as varchar)\"", "gives another answer each time"),
        ("campaign = \"uuid()\"", "gives another answer each time"),
    ] {
        let other = source("shop", "none/*", more);
        let house = House::new(&format!("{good}{other}"), &[("in/1.jsonl", line("a", "view", "").as_bytes())]);
        let stderr = house.fail(2, &["land"]);
        assert!(stderr.contains(expected) && stderr.contains("source `shop`"), "{more}: {stderr}");
        assert!(!house.path().join("lake/landing/events").exists(), "{more}");
    }
}

#[test]
fn generated_events_keep_the_balance_and_a_second_landing_of_all_of_them_adds_nothing() {
    for shape in [vec![], vec!["--format", "csv", "--compression", "gzip"], vec!["--format", "parquet"]] {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        let run = |arguments: &[&str]| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wayline"));
            let output = command.args(arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let place = project.to_str().unwrap();
        let generate = ["generate", "--events", "20000", "--files", "3", "--bad-records", "200", "--json", place];
        let made: serde_json::Value = serde_json::from_str(&run(&[&generate[..], &shape].concat())).unwrap();
        let made = |key: &str| made[key].as_u64().unwrap();
        run(&["run", "--project", place]);
        let sql = |query: &str| {
            let rows = run(&["sql", "--project", place, "--format", "csv", "-c", query]);
            rows.lines().nth(1).unwrap().to_string()
        };
        assert!(made("bad_records") > 5 && made("duplicates") > 5, "{shape:?}");
        assert_eq!(
            sql("select sum(rows_in), sum(landed), sum(duplicates), sum(dead_letters) from batches"),
            format!(
                "{},{},{},{}",
                made("records"),
                made("records") - made("duplicates") - made("bad_records"),
                made("duplicates"),
                made("bad_records")
            ),
            "{shape:?}"
        );
        let landed = sql("select count(*) from events");
        assert_eq!(landed, sql("select sum(landed) from batches"));
        assert_eq!(landed, sql("select count(distinct event_id) from events"));
        assert_eq!(sql("select count(*) from dead_letters"), made("bad_records").to_string());
        for entry in std::fs::read_dir(project.join("landing-zone")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().replace("events-", "events-again-");
            std::fs::copy(&path, path.with_file_name(name)).unwrap();
        }
        run(&["run", "--project", place]);
        assert_eq!(sql("select count(*) from events"), landed, "{shape:?}");
    }
}
