//! Dead letters taken up again: the events that they would have been, once, wherever a replay is killed.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};

use crate::fail_points::LANDING;
use crate::house::House;

fn project(more: &str, touchpoint: &str, source: &str) -> String {
    format!(
        r#"
{more}
[[sources]]
name = "web"
path = "in/*"
{source}
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "{touchpoint}"
channel     = "'web'"
value       = "value"
identifiers = {{ user_id = "customer" }}
"#
    )
}

/// Two events, one of them without an id, and eight dead letters.
const LINES: &str = r#"{"id":"a","ts":"2025-01-01T10:00:00Z","event":"view","customer":"u1"}
{"id":"b","ts":"2025-01-01T10:05:00Z","type":"purchase","customer":"u1","value":"5"}
{"ts":"2025-01-01T10:06:00Z","type":"view","customer":"u2"}
{"ts":"2025-01-01T10:06:00Z","event":"view","customer":"u2"}
{"ts":"2025-01-01T10:06:00Z","type":"view","customer":"u2"}
{"id":"a","ts":"2025-01-01T10:00:00Z","type":"view"}
{"id":"c","ts":"2025-01-03T10:00:00Z","type":"view","value":"many"}
{"id":"d","ts":"soon","type":"view"}
{"broken
{"id":"e","ts":"2025-01-01T10:00:00Z","type":"view","text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}
"#;

const SMALL: &str = "[landing]\nmax_record_bytes = 100";
const MENDED: &str = "coalesce(event, type)";

/// A project that refuses most of its records, landed.
fn refusing() -> House {
    let house = House::new(&project(SMALL, "event", ""), &[("in/1.jsonl", LINES.as_bytes())]);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select count(*) from dead_letters"), ["8"]);
    house
}

fn mend(house: &House) {
    house.write("wayline.toml", project("", MENDED, "").as_bytes());
}

/// The events, without the batch that brought them, and with the batch whose time they have as that of their receipt.
fn events(house: &House) -> Vec<String> {
    house.sql(
        "select event_id, occurred_at, touchpoint, value, properties, identifiers, source,
                (select min(batch) from batches where planned_at = events.received_at) as received_with
         from events order by 1",
    )
}

fn letters(house: &House) -> Vec<String> {
    house.sql("select batch, origin, reason, replayed_in from dead_letters order by 1, 2")
}

fn counts(house: &House) -> Vec<String> {
    house.sql("select batch, source, files, rows_in, landed, duplicates, dead_letters from batches order by 1, 2")
}

fn assert_sound(house: &House) {
    let wrong = house.sql("select * from batches where rows_in <> landed + duplicates + dead_letters");
    assert!(wrong.is_empty(), "{wrong:?}");
    house.succeed(&["fsck"]);
}

#[test]
fn what_passes_now_becomes_the_event_that_it_would_have_been_and_the_rest_keeps_its_present_reason() {
    let house = refusing();
    mend(&house);
    let right = House::new(&project("", MENDED, ""), &[("in/1.jsonl", LINES.as_bytes())]);
    right.succeed(&["land"]);

    let dry = house.succeed(&["replay", "--dry-run"]);
    assert!(dry.contains("5 dead letters would be taken up, 3 would be refused again"), "{dry}");
    assert_eq!(counts(&house).len(), 1, "a dry run writes nothing");

    let out = house.succeed(&["replay"]);
    assert!(out.contains("batch 2: 4 events, 1 duplicates, 0 dead letters"), "{out}");
    assert_eq!(events(&house), events(&right));
    assert_eq!(
        letters(&house),
        [
            "1,in/1.jsonl:10,line_too_long,2",
            "1,in/1.jsonl:2,missing_field,2",
            "1,in/1.jsonl:3,missing_field,2",
            "1,in/1.jsonl:5,missing_field,2",
            "1,in/1.jsonl:6,missing_field,2",
            "1,in/1.jsonl:7,type_mismatch,",
            "1,in/1.jsonl:8,ts_invalid,",
            "1,in/1.jsonl:9,json_syntax,",
        ]
    );
    assert_eq!(counts(&house), ["1,web,1,10,2,0,8", "2,web,0,5,4,1,0"]);
    assert_sound(&house);

    let before = house.lake_files();
    let again: serde_json::Value = serde_json::from_str(&house.succeed(&["replay", "--json"])).unwrap();
    assert_eq!(again["replay"]["batches"], serde_json::json!([]));
    assert_eq!(again["replay"]["refused"]["json_syntax"], 1);
    assert_eq!(house.lake_files(), before, "a second replay writes nothing");
    // The file is not taken again, and what is new lands beside.
    house.write("in/2.jsonl", LINES.as_bytes());
    house.succeed(&["run"]);
    assert_eq!(counts(&house)[2], "3,web,1,10,0,7,3");
    assert_sound(&house);
}

#[test]
fn a_replay_killed_at_any_step_lands_once_whatever_is_run_next() {
    let undisturbed = refusing();
    mend(&undisturbed);
    undisturbed.succeed(&["replay"]);
    for failpoint in LANDING {
        let house = refusing();
        mend(&house);
        house.die_at(failpoint, &["replay"]);
        // Every other time somebody lands first, and ends or forgets what was begun.
        if failpoint.len() % 2 == 0 {
            house.succeed(&["land"]);
        }
        house.succeed(&["replay"]);
        assert_eq!(events(&house), events(&undisturbed), "after a kill at {failpoint}");
        assert_eq!(letters(&house), letters(&undisturbed), "after a kill at {failpoint}");
        assert_eq!(counts(&house), counts(&undisturbed), "after a kill at {failpoint}");
        house.succeed(&["fsck"]);
    }
}

#[test]
fn a_replay_killed_between_its_commits_is_ended_by_the_configuration_that_it_began_with() {
    let undisturbed = refusing();
    mend(&undisturbed);
    undisturbed.succeed(&["replay"]);
    let house = refusing();
    mend(&house);
    house.die_at("land.commit.before", &["replay"]);
    house.write("wayline.toml", project("", "upper(coalesce(event, type))", "").as_bytes());
    let stderr = house.fail(2, &["run"]);
    assert!(stderr.contains("configuration of sources changed while batch 2 was landing"), "{stderr}");
    mend(&house);
    house.write("in/2.jsonl", b"");
    house.succeed(&["land"]);
    assert_eq!(events(&house), events(&undisturbed));
    assert_eq!(letters(&house), letters(&undisturbed));
    assert_sound(&house);
}

#[test]
fn a_batch_that_was_cut_short_is_ended_or_planned_anew_by_a_replay() {
    for failpoint in ["land.manifest", "land.ledger", "land.dlq.commit.after_put", "land.commit.before"] {
        let house = House::new(&project(SMALL, "event", ""), &[("in/1.jsonl", LINES.as_bytes())]);
        house.die_at(failpoint, &["land"]);
        house.succeed(&["replay"]);
        house.succeed(&["land"]);
        assert_eq!(counts(&house), ["1,web,1,10,2,0,8"], "after a kill at {failpoint}");
        mend(&house);
        house.succeed(&["replay"]);
        assert_eq!(counts(&house), ["1,web,1,10,2,0,8", "2,web,0,5,4,1,0"], "after a kill at {failpoint}");
        assert_sound(&house);
    }
}

#[test]
fn reason_source_and_batch_choose_what_is_taken_up() {
    let house = refusing();
    house.write("in/2.jsonl", b"{\"id\":\"z\",\"ts\":\"2025-01-01T10:00:00Z\",\"type\":\"view\"}\n");
    house.succeed(&["land"]);
    mend(&house);
    let out = house.succeed(&["replay", "--batch", "2"]);
    assert!(out.contains("batch 3: 1 events"), "{out}");
    let out = house.succeed(&["replay", "--reason", "line_too_long", "--source", "web"]);
    assert!(out.contains("1 dead letters taken up, 0 refused again"), "{out}");
    assert_eq!(house.sql("select count(*) from dead_letters where replayed_in is null"), ["7"]);
    let stderr = house.fail(2, &["replay", "--reason", "line_to_long"]);
    assert!(stderr.contains("hint: did you mean `line_too_long`?"), "{stderr}");
    let stderr = house.fail(2, &["replay", "--source", "wed"]);
    assert!(stderr.contains("hint: did you mean `web`?"), "{stderr}");
    assert_sound(&house);
}

#[test]
fn without_their_file_records_are_read_from_the_bytes_that_were_kept() {
    let house = refusing();
    mend(&house);
    let right = House::new(&project("", MENDED, ""), &[("in/1.jsonl", LINES.as_bytes())]);
    right.succeed(&["land"]);
    std::fs::remove_file(house.path().join("in/1.jsonl")).unwrap();
    let out = house.succeed(&["replay"]);
    assert!(out.contains("4 dead letters taken up, 3 refused again, 1 left as they are"), "{out}");
    assert!(out.contains("its file is gone"), "{out}");
    let expected: Vec<String> = events(&right).into_iter().filter(|event| !event.starts_with("e,")).collect();
    assert_eq!(events(&house), expected);
    assert_sound(&house);
}

#[test]
fn records_of_csv_are_read_below_the_header_of_their_file() {
    let csv = "id,ts,type,note,event,value,customer\n\
               a,2025-01-01T10:00:00Z,view,\"two\nlines, \"\"quoted\"\"\",,1,u1\r\n\
               b,2025-01-01T10:00:00Z,view,\"open,,1,u1\n\
               c,2025-01-01T10:00:00Z,view,plain,,1,u1\n\
               ,2025-01-01T10:00:00Z,view,plain,,1,u1\n\
               ,2025-01-01T10:00:00Z,view,plain,,1,u1\n\
               id,ts,type,note,event,value,customer\n";
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(csv.as_bytes()).unwrap();
    let file = encoder.finish().unwrap();
    let right = House::new(&project("", MENDED, ""), &[("in/1.csv.gz", &file)]);
    right.succeed(&["land"]);
    for is_gone in [false, true] {
        let house = House::new(&project("", "event", ""), &[("in/1.csv.gz", &file)]);
        house.succeed(&["land"]);
        mend(&house);
        if is_gone {
            std::fs::remove_file(house.path().join("in/1.csv.gz")).unwrap();
        }
        house.succeed(&["replay"]);
        assert_eq!(events(&house).len(), 4);
        assert_eq!(events(&house), events(&right));
        let left = house.sql("select origin, reason from dead_letters where replayed_in is null order by 1");
        assert_eq!(left, right.sql("select origin, reason from dead_letters order by 1"));
        assert_sound(&house);
    }
}

#[test]
fn files_that_were_refused_whole_are_read_again() {
    let csv = b"id;ts;event;value;customer\na;2025-01-01T10:00:00Z;view;1;u1\nb;soon;view;1;u1\n";
    let files: [(&str, &[u8]); 2] = [("in/1.csv", csv), ("in/2.parquet", b"<html>404</html>")];
    let house = House::new(&project("", "event", ""), &files);
    house.succeed(&["land"]);
    house.succeed(&["replay"]);
    assert_eq!(letters(&house), ["1,in/1.csv,csv_delimiter,", "1,in/2.parquet,bad_magic,"]);
    house.write("wayline.toml", project("", "event", "delimiter = \";\"").as_bytes());
    house.succeed(&["land"]);
    assert_eq!(counts(&house), ["1,web,2,2,0,0,2"], "the next landing leaves them alone");
    for failpoint in ["land.dlq.commit.after_put", "land.commit.after_put"] {
        house.die_at(failpoint, &["replay"]);
    }
    house.succeed(&["replay"]);
    assert_eq!(
        letters(&house),
        ["1,in/1.csv,csv_delimiter,2", "1,in/2.parquet,bad_magic,", "2,in/1.csv:3,ts_invalid,"]
    );
    assert_eq!(counts(&house), ["1,web,2,2,0,0,2", "2,web,1,2,1,0,1"]);
    // It counts as taken from then on.
    house.write("in/1.csv", b"id;ts;event;value;customer\n");
    assert!(house.fail(2, &["land"]).contains("in/1.csv changed after it was taken"));
}

#[test]
fn rows_of_parquet_are_read_from_their_file_with_their_types() {
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![1_735_725_600_000_000, 1_735_725_600_000_001]))),
        ("event", Arc::new(StringArray::from(vec![Some("view"), None]))),
        ("type", Arc::new(StringArray::from(vec!["view", "buy"]))),
        ("customer", Arc::new(StringArray::from(vec!["u1", "u1"]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let file = writer.into_inner().unwrap();
    let house = House::new(&project("", "event", ""), &[("in/1.parquet", &file)]);
    house.succeed(&["land"]);
    mend(&house);
    std::fs::rename(house.path().join("in/1.parquet"), house.path().join("away")).unwrap();
    assert!(house.succeed(&["replay"]).contains("its file is gone"));
    std::fs::rename(house.path().join("away"), house.path().join("in/1.parquet")).unwrap();
    house.succeed(&["replay"]);
    let right = House::new(&project("", MENDED, ""), &[("in/1.parquet", &file)]);
    right.succeed(&["land"]);
    // What landed before keeps the properties of its mapping.
    assert_eq!(events(&house)[1], events(&right)[1]);
    assert!(events(&house)[1].starts_with("b,2025-01-01T10:00:00.000001Z,buy"));
}

#[test]
fn pseudonyms_and_derived_ids_are_those_that_the_record_would_have_had() {
    const PRIVATE: &str = "[privacy]\npseudonymize = [\"user_id\"]";
    let succeed = |house: &House, arguments: &[&str]| {
        let mut command = house.command(arguments);
        let output = command.env("WAYLINE_PSEUDONYM_KEY", "a key of thirty-two characters!!").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let found = |house: &House| {
        let query = "select event_id, identifiers, touchpoint from events order by 1";
        succeed(house, &["sql", "-c", query, "--format", "csv"])
    };
    let right = House::new(&project(PRIVATE, MENDED, ""), &[("in/1.jsonl", LINES.as_bytes())]);
    succeed(&right, &["land"]);
    for is_gone in [false, true] {
        let house = House::new(&project(PRIVATE, "event", ""), &[("in/1.jsonl", LINES.as_bytes())]);
        succeed(&house, &["land"]);
        house.write("wayline.toml", project(PRIVATE, MENDED, "").as_bytes());
        if is_gone {
            std::fs::remove_file(house.path().join("in/1.jsonl")).unwrap();
        }
        let out = succeed(&house, &["replay"]);
        match is_gone {
            false => assert_eq!(found(&house), found(&right)),
            true => {
                assert!(out.contains("its id with it"), "{out}");
                let ids = succeed(&house, &["sql", "-c", "select count(*) from events where length(event_id) = 1"]);
                assert_eq!(ids.lines().nth(1), Some("3"), "{out}");
                let all = found(&right);
                assert!(found(&house).lines().all(|event| all.contains(event)));
            }
        }
    }
}

#[test]
fn letters_of_many_batches_are_taken_up_in_batches_of_a_size_and_after_compaction() {
    let small = |touchpoint| project("[landing]\nmax_batch_bytes = 150", touchpoint, "");
    let house = House::new(&small("event"), &[]);
    for number in 0..6 {
        let line = format!("{{\"id\":\"{number}\",\"ts\":\"2025-01-01T10:00:00Z\",\"type\":\"view\"}}\n");
        house.write(&format!("in/{number}.jsonl"), line.as_bytes());
        house.succeed(&["land"]);
    }
    house.succeed(&["maintain"]);
    house.write("wayline.toml", small(MENDED).as_bytes());
    let out = house.succeed(&["replay"]);
    assert!(out.contains("batches 7 to 9: 6 events"), "{out}");
    assert_eq!(house.sql("select event_id, batch from events order by 1"), ["0,7", "1,7", "2,8", "3,8", "4,9", "5,9"]);
    assert_eq!(house.sql("select count(*), count(replayed_in) from dead_letters"), ["6,6"]);
    assert_sound(&house);
}

/// Longer than what is kept of a line too long.
fn long_text() -> String {
    "x".repeat(70_000)
}

/// A house whose records were too long, then refused for another reason under `between`, and whose mapping was mended
/// then; and one that landed them at once.
fn too_long_twice(path: &str, file: &str, between: &str) -> (House, House) {
    let house = House::new(&project(SMALL, MENDED, ""), &[(path, file.as_bytes())]);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select distinct reason, length(record) from dead_letters"), ["line_too_long,65536"]);
    house.write("wayline.toml", between.as_bytes());
    house.succeed(&["replay"]);
    mend(&house);
    let right = House::new(&project("", MENDED, ""), &[(path, file.as_bytes())]);
    right.succeed(&["land"]);
    (house, right)
}

#[test]
fn a_line_that_was_too_long_is_kept_whole_when_it_is_refused_for_another_reason() {
    let text = long_text();
    let json = format!("{{\"id\":\"a\",\"ts\":\"2025-01-01T10:00:00Z\",\"type\":\"view\",\"text\":\"{text}\"}}\n");
    let csv = format!("id,ts,type,event,value,customer,text\na,2025-01-01T10:00:00Z,view,,1,u1,{text}\n");
    for (path, file) in [("in/1.jsonl", json), ("in/1.csv", csv)] {
        for is_gone in [false, true] {
            let (house, right) = too_long_twice(path, &file, &project("", "event", ""));
            let kept = house.sql("select reason, length(record) > 70000, replayed_in from dead_letters");
            assert_eq!(kept, ["missing_field,true,"], "{path}");
            if is_gone {
                std::fs::remove_file(house.path().join(path)).unwrap();
            }
            let out = house.succeed(&["replay"]);
            assert!(out.contains("1 dead letters taken up"), "{out}");
            assert_eq!(events(&house), events(&right));
            assert_sound(&house);
        }
    }
}

#[test]
fn a_part_of_a_line_does_not_pass_for_all_of_it_when_its_file_is_refused_whole() {
    let csv = format!("id,ts,type,event,value,customer,text\na,2025-01-01T10:00:00Z,view,,1,u1,{}\n", long_text());
    let between = project("", MENDED, "delimiter = \";\"");
    let (house, right) = too_long_twice("in/1.csv", &csv, &between);
    assert_eq!(house.sql("select reason, replayed_in from dead_letters"), ["line_too_long,"]);
    // Without its file there is nothing to read it from.
    let away = house.path().join("away");
    std::fs::rename(house.path().join("in/1.csv"), &away).unwrap();
    assert!(house.succeed(&["replay"]).contains("its file is gone"));
    assert_eq!(house.sql("select count(*) from events"), ["0"]);
    std::fs::rename(&away, house.path().join("in/1.csv")).unwrap();
    house.succeed(&["replay"]);
    assert_eq!(events(&house), events(&right));
    assert_sound(&house);
}

#[test]
fn a_lower_limit_takes_nothing_of_what_was_kept() {
    let line = r#"{"id":"a","ts":"2025-01-01T10:00:00Z","type":"view","text":"TEXT"}"#.replace("TEXT", &long_text());
    let house = House::new(&project("", "event", ""), &[("in/1.jsonl", line.as_bytes())]);
    house.succeed(&["land"]);
    house.write("wayline.toml", project(SMALL, MENDED, "").as_bytes());
    assert!(house.succeed(&["replay"]).contains("line_too_long"));
    std::fs::remove_file(house.path().join("in/1.jsonl")).unwrap();
    mend(&house);
    house.succeed(&["replay"]);
    let right = House::new(&project("", MENDED, ""), &[("in/1.jsonl", line.as_bytes())]);
    right.succeed(&["land"]);
    assert_eq!(events(&house), events(&right));
}

#[test]
fn what_was_committed_before_an_error_is_told() {
    let small = |touchpoint| project("[landing]\nmax_batch_bytes = 60", touchpoint, "");
    for is_json in [false, true] {
        let house = House::new(&small("event"), &[]);
        for number in 0..2 {
            let line = format!("{{\"id\":\"{number}\",\"ts\":\"2025-01-01T10:00:00Z\",\"type\":\"view\"}}\n");
            house.write(&format!("in/{number}.jsonl"), line.as_bytes());
            house.succeed(&["land"]);
        }
        house.write("wayline.toml", small(MENDED).as_bytes());
        // The second batch of the replay is planned by somebody else.
        house.write("lake/landing/batches/000000000004.json", b"{}");
        let output = house.wayline(if is_json { &["replay", "--json"] } else { &["replay"] });
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(!output.status.success() && stderr.contains("batch 4 was planned by another run"), "{stderr}");
        match is_json {
            false => assert!(stdout.contains("batch 3: 1 events"), "{stdout}"),
            true => {
                let lines: Vec<serde_json::Value> =
                    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                assert_eq!((&lines[0]["replay"]["batches"][0], &lines[1]["status"]), (&3.into(), &"error".into()));
            }
        }
        std::fs::remove_file(house.path().join("lake/landing/batches/000000000004.json")).unwrap();
        assert!(house.succeed(&["replay"]).contains("batch 4: 1 events"));
        assert_sound(&house);
    }
}

#[test]
fn the_letter_of_a_file_that_was_delivered_again_is_settled_by_the_batch_that_took_it() {
    let house = House::new(&project("", "event", ""), &[("in/1.parquet", b"<html>404</html>")]);
    house.succeed(&["land"]);
    // Something else lands between, and the file comes whole.
    house.write("in/2.jsonl", b"{\"id\":\"z\",\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"view\"}\n");
    house.succeed(&["land"]);
    assert!(house.succeed(&["replay"]).contains("1 refused again"));
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(StringArray::from(vec!["a"]))),
        ("ts", Arc::new(StringArray::from(vec!["2025-01-01T10:00:00Z"]))),
        ("event", Arc::new(StringArray::from(vec!["view"]))),
    ];
    let project_of_three = project("", "event", "").replace("value       = \"value\"\n", "");
    let project_of_three = project_of_three.replace("user_id = \"customer\"", "user_id = \"id\"");
    house.write("wayline.toml", project_of_three.as_bytes());
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    house.write("in/1.parquet", &writer.into_inner().unwrap());
    house.succeed(&["land"]);
    assert_eq!(letters(&house), ["1,in/1.parquet,bad_magic,"]);
    let before = counts(&house);
    assert_eq!(before.len(), 3);
    let dry = house.succeed(&["replay", "--dry-run"]);
    assert!(dry.contains("1 dead letters would be taken up"), "{dry}");
    for failpoint in ["land.ledger", "land.dlq.commit.after_put"] {
        house.die_at(failpoint, &["replay"]);
    }
    house.succeed(&["replay"]);
    assert_eq!(letters(&house), ["1,in/1.parquet,bad_magic,3"]);
    let after = counts(&house);
    assert_eq!(after[..3], before, "{after:?}");
    assert_eq!(house.sql("select event_id, batch from events order by 1"), ["a,3", "z,2"]);
    assert_sound(&house);
    assert!(house.succeed(&["replay"]).contains("no dead letter is to be taken up"));
}
