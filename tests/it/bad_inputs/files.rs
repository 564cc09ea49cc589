//! Rows about files: what they are, what they are called, and what happens to them while they are read.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::{assert_counts_add_up, decided, expected, flags, rows};
use crate::house::House;

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "in/**/*"
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "event"
channel     = "'web'"
"#;

fn lines(id: &str) -> Vec<u8> {
    let id = serde_json::to_string(id).unwrap();
    format!("{{\"id\":{id},\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"view\"}}\n").into_bytes()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Pressed as small as it gets.
fn gzip_bomb(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Columns of one event, with some put in the place of others or behind them.
fn event(id: &str, others: &[(&str, ArrayRef)]) -> RecordBatch {
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("id".into(), texts(&[id])),
        ("ts".into(), texts(&["2025-01-01T10:00:00Z"])),
        ("event".into(), texts(&["view"])),
    ];
    for (name, column) in others {
        columns.retain(|(taken, _)| taken != name);
        columns.push(((*name).to_string(), column.clone()));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// What becomes of a file.
#[derive(Clone, PartialEq, Debug)]
enum Fate {
    /// It lands with these ids.
    Lands(Vec<String>),
    /// It lands, and has this flag.
    Flagged(&'static str),
    /// It is one dead letter.
    Refused(&'static str),
    /// Single records of it are dead letters.
    Records(&'static str),
}
use Fate::{Flagged, Lands, Records, Refused};

fn cases() -> Vec<(&'static str, &'static str, Vec<u8>, Fate)> {
    let utf16 = |text: &[u8], order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        String::from_utf8(text.to_vec()).unwrap().encode_utf16().flat_map(order).collect()
    };
    let some = lines("x");
    let mut tar = vec![b'x'; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    let mut bad_crc = gzip(&some);
    let crc = bad_crc.len() - 6;
    bad_crc[crc] ^= 1;
    let random: Vec<u8> = (0..5_000u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8).collect();
    let large = "x".repeat(1 << 19);
    let bomb = RecordBatch::try_from_iter([("text", texts(&vec![large.as_str(); 600]))]).unwrap();
    let wide = (0..10_001).map(|column| (format!("c{column}"), Arc::new(Int64Array::from(vec![1])) as ArrayRef));
    let wide = RecordBatch::try_from_iter(wide).unwrap();
    let twice = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true); 2]));
    let twice = RecordBatch::try_new(twice, vec![texts(&["1"]), texts(&["2"])]).unwrap();
    let inner = RecordBatch::try_from_iter([("x", texts(&["view"]))]).unwrap();
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(vec![KeyValue::new("ARROW:schema".to_string(), Some("bm9uc2Vuc2U=".to_string()))]))
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let sound = event("x", &[]);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), sound.schema(), options).unwrap();
    writer.write(&sound).unwrap();
    let no_schema = writer.into_inner().unwrap();
    let mut encrypted = parquet(&sound);
    let end = encrypted.len() - 4;
    encrypted[end..].copy_from_slice(b"PARE");
    let nanos = |at: i64| -> ArrayRef { Arc::new(TimestampNanosecondArray::from(vec![at]).with_timezone("UTC")) };
    let some_id = |id: &str| Lands(vec![id.to_string()]);
    vec![
        ("B027", "jsonl", [&b"\xef\xbb\xbf"[..], &lines("B027")].concat(), Flagged("bom_stripped")),
        ("B028", "jsonl", [vec![0xff, 0xfe], utf16(&some, u16::to_le_bytes)].concat(), Refused("wrong_encoding")),
        ("B028", "jsonl", [vec![0xfe, 0xff], utf16(&some, u16::to_be_bytes)].concat(), Refused("wrong_encoding")),
        ("B028", "jsonl", utf16(&some, u16::to_le_bytes), Refused("wrong_encoding")),
        ("B038", "csv", b"id,ts,event,id\n1,2,3,4\n".to_vec(), Refused("csv_header")),
        ("B038", "csv", b"id,ts,,event\n1,2,3,4\n".to_vec(), Refused("csv_header")),
        ("B106", "csv", b"id,ts,,event\n1,2,3,4\n".to_vec(), Refused("csv_header")),
        ("B039", "csv", b"id;ts;event\n1;2;3\n".to_vec(), Refused("csv_delimiter")),
        ("B041", "jsonl.gz", gzip_bomb(&vec![b' '; 256 << 20]), Refused("decompress_ratio")),
        ("B041", "jsonl.zst", zstd::encode_all(&vec![b' '; 256 << 20][..], 1).unwrap(), Refused("decompress_ratio")),
        ("B042", "jsonl.gz", gzip(&gzip(&some)), Refused("nested_archive")),
        ("B042", "jsonl.gz", gzip(&tar), Refused("nested_archive")),
        ("B043", "jsonl.gz", gzip(&some)[..20].to_vec(), Refused("gzip_truncated")),
        ("B044", "jsonl.gz", bad_crc, Refused("gzip_crc")),
        ("B045", "jsonl.gz", [gzip(&lines("B045-a")), gzip(&lines("B045-b"))].concat(), {
            Lands(vec!["B045-a".into(), "B045-b".into()])
        }),
        ("B046", "jsonl.gz", [gzip(&some), b"garbage".to_vec()].concat(), Refused("gzip_trailing")),
        ("B047", "jsonl.gz", lines("B047-a"), Flagged("ext_mismatch")),
        ("B047", "jsonl", gzip(&lines("B047-b")), Flagged("ext_mismatch")),
        ("B048", "parquet", b"<html><body>404</body></html>".to_vec(), Refused("bad_magic")),
        ("B049", "jsonl", Vec::new(), Flagged("empty_file")),
        ("B049", "parquet", Vec::new(), Flagged("empty_file")),
        ("B050", "jsonl", vec![0; 1 << 20], Refused("bad_magic")),
        ("B050", "csv", random, Refused("bad_magic")),
        ("B054", "parquet", parquet(&bomb), Refused("parquet_limits")),
        ("B055", "parquet", parquet(&wide), Refused("parquet_schema")),
        ("B056", "parquet", no_schema, Refused("parquet_corrupt")),
        ("B057", "parquet", parquet(&event("x", &[("event", Arc::new(StructArray::from(inner)))])), {
            Refused("schema_conflict")
        }),
        ("B057", "parquet", parquet(&event("x", &[("id", Arc::new(Int64Array::from(vec![57])))])), some_id("57")),
        ("B058", "parquet", parquet(&event("B058", &[("ts", nanos(1_735_725_600_000_000_999))])), some_id("B058")),
        ("B058", "parquet", parquet(&event("B058", &[("ts", nanos(i64::MIN + 1))])), Records("ts_range")),
        ("B059", "parquet", encrypted, Refused("parquet_encrypted")),
        ("B060", "parquet", parquet(&twice), Refused("parquet_schema")),
        ("B060", "parquet", parquet(&event("B060", &[("a.b", texts(&["1"])), ("a", texts(&["2"]))])), some_id("B060")),
    ]
}

#[test]
fn each_file_has_the_fate_of_the_table_and_the_others_land() {
    let house = House::new(PROJECT, &[("in/good.jsonl", &lines("good")), ("in/zz.jsonl", &lines("last"))]);
    let cases = cases();
    let path = |number: usize, id: &str, ending: &str| format!("in/{id}-{number:02}.{ending}");
    for (number, (id, ending, content, _)) in cases.iter().enumerate() {
        house.write(&path(number, id, ending), content);
    }
    house.succeed(&["land"]);
    assert_counts_add_up(&house);
    let events = house.sql("select event_id from events");
    assert!(events.contains(&"good".to_string()) && events.contains(&"last".to_string()));
    let letters: BTreeMap<String, String> = rows(&house, "select origin, reason from dead_letters")
        .into_iter()
        .map(|row| (row["origin"].as_str().unwrap().into(), row["reason"].as_str().unwrap().into()))
        .collect();
    let flags = flags(&house, 1);
    let mut fates: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (number, (id, ending, _, fate)) in cases.iter().enumerate() {
        let path = path(number, id, ending);
        let refused = letters.get(&path).or_else(|| letters.get(&format!("{path}:1"))).map(String::as_str);
        let mut expect = |is_so: bool| {
            if !is_so {
                wrong.push(format!("{path}: {fate:?}, found {refused:?} {:?}", flags.get(&path)));
            }
        };
        let called = match fate {
            Lands(ids) => {
                expect(ids.iter().all(|id| events.contains(id)) && refused.is_none());
                "ACCEPT".to_string()
            }
            Flagged(flag) => {
                expect(flags.get(&path).is_some_and(|flags| flags.contains_key(*flag)) && refused.is_none());
                match *id {
                    "B027" => format!("ACCEPT {flag}"),
                    _ => format!("FLAG {flag}"),
                }
            }
            Refused(reason) => {
                expect(letters.get(&path).is_some_and(|found| found == reason));
                format!("QFILE {reason}")
            }
            Records(reason) => {
                expect(letters.get(&format!("{path}:1")).is_some_and(|found| found == reason));
                format!("DLQ {reason}")
            }
        };
        fates.entry(id).or_default().push(called);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Rows that are about records too are asked of there.
    for (id, fates) in fates.iter().filter(|(id, _)| !["B038", "B106"].contains(*id)) {
        let expected = expected(id).replace("ACCEPT ok", "ACCEPT");
        assert!(fates.contains(&expected), "{id}: the table says {expected}, and its cases {fates:?}");
    }
    decided("B038", "DLQ csv_header");
}

#[test]
fn a_parquet_file_cut_anywhere_or_with_a_bit_flipped_costs_itself_alone() {
    decided("B051", "QFILE parquet_corrupt");
    decided("B052", "QFILE parquet_corrupt");
    let whole = parquet(&event("whole", &[]));
    let house = House::new(PROJECT, &[("in/zz.jsonl", &lines("last"))]);
    for length in 1..whole.len() {
        house.write(&format!("in/cut-{length:05}.parquet"), &whole[..length]);
    }
    for bit in (0..whole.len() * 8).step_by(23) {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        house.write(&format!("in/flip-{bit:06}.parquet"), &flipped);
    }
    house.succeed(&["land"]);
    assert_counts_add_up(&house);
    let cut = "select distinct reason from dead_letters where origin like 'in/cut-%' order by 1";
    assert_eq!(house.sql(cut), ["bad_magic", "parquet_corrupt"]);
    let count = house.sql("select count(*) from dead_letters where origin like 'in/cut-%' and origin not like '%:%'");
    assert_eq!(count, [(whole.len() - 1).to_string()], "no cut file lands");
    assert_eq!(house.sql("select count(*) from events where event_id = 'last'"), ["1"]);
}

#[test]
fn names_and_kinds_of_entries_that_are_no_plain_files_are_passed_over_and_said() {
    for (id, what) in [
        ("B067", "FLAG hidden_by_store"),
        ("B068", "FLAG name_not_utf8"),
        ("B069", "ACCEPT ok"),
        ("B070", "FLAG name_collision"),
        ("B071", "DENY symlink"),
        ("B072", "DENY symlink"),
        ("B073", "DENY not_regular"),
        ("B075", "QFILE file_too_large"),
    ] {
        decided(id, what);
    }
    let house = House::new(PROJECT, &[("in/good.jsonl", &lines("good")), ("outside.jsonl", &lines("outside"))]);
    let place = house.path().join("in");
    let odd = ["a\nERROR forged.jsonl", "quo\"te'.jsonl", "50%41.jsonl", "😀.jsonl", "dot. .jsonl", "CON.jsonl"];
    let long = format!("{}.jsonl", "n".repeat(249));
    for name in odd.iter().copied().chain([long.as_str()]) {
        fs::write(place.join(name), lines(name)).unwrap_or_else(|error| panic!("{name:?}: {error}"));
    }
    for name in ["Case.jsonl", "case.jsonl"] {
        fs::write(place.join(name), lines(name)).unwrap();
    }
    fs::write(place.join("events.jsonl#2"), lines("hidden")).unwrap();
    fs::write(place.join(std::ffi::OsStr::from_bytes(b"bad\xff.jsonl")), lines("name")).unwrap();
    symlink(house.path().join("outside.jsonl"), place.join("link.jsonl")).unwrap();
    symlink(&place, place.join("loop")).unwrap();
    fs::create_dir(place.join("folder.jsonl")).unwrap();
    assert!(Command::new("mkfifo").arg(place.join("pipe.jsonl")).status().unwrap().success());
    fs::File::create(place.join("sparse.jsonl")).unwrap().set_len(1 << 40).unwrap();

    let begun = Instant::now();
    let land = house.wayline(&["land"]);
    assert!(land.status.success(), "{}", String::from_utf8_lossy(&land.stderr));
    assert!(begun.elapsed() < Duration::from_secs(30), "nothing hangs and no terabyte is read");
    let stderr = String::from_utf8(land.stderr).unwrap();
    for (name, reason) in [
        ("events.jsonl#2", "hidden_by_store"),
        ("bad\u{fffd}.jsonl", "name_not_utf8"),
        ("link.jsonl", "symlink"),
        ("loop", "symlink"),
        ("folder.jsonl", "not_regular"),
        ("pipe.jsonl", "not_regular"),
        ("Case.jsonl", "name_collision"),
        ("case.jsonl", "name_collision"),
    ] {
        let is_said = stderr.lines().any(|line| line.contains(name) && line.contains(reason));
        assert!(is_said, "{name} {reason}: {stderr}");
    }
    assert!(!stderr.lines().any(|line| line.starts_with("ERROR forged")), "{stderr}");
    let landed = house.sql("select count(*) from events");
    assert_eq!(landed, [(odd.len() + 4).to_string()]);
    assert_eq!(house.sql("select count(*) from events where event_id in ('outside', 'hidden', 'name')"), ["0"]);
    assert_eq!(house.sql("select origin, reason from dead_letters"), ["in/sparse.jsonl,file_too_large"]);
    assert_counts_add_up(&house);
}

#[test]
fn what_may_not_be_read_is_passed_over_until_it_may() {
    decided("B074", "RETRY permission");
    let house = House::new(PROJECT, &[("in/good.jsonl", &lines("good")), ("in/a/closed.jsonl", &lines("closed"))]);
    house.write("in/b/inner.jsonl", &lines("inner"));
    let closed = [house.path().join("in/a/closed.jsonl"), house.path().join("in/b")];
    let set = |mode: u32| {
        closed.iter().for_each(|path| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap());
    };
    set(0);
    if fs::File::open(&closed[0]).is_ok() {
        // Whoever may read everything cannot be refused: the job is run as nobody, who owns the project but for these.
        let owned = Command::new("chown").args(["-R", "nobody"]).arg(house.path()).status().unwrap();
        closed.iter().for_each(|path| assert!(Command::new("chown").arg("root").arg(path).status().unwrap().success()));
        assert!(owned.success());
        let land = || {
            let program = house.command(&["land"]);
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "nobody", "--clear-groups", "--"]).arg(program.get_program());
            command.args(program.get_args()).output().unwrap()
        };
        let output = land();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if stderr.contains("setpriv: failed to execute") {
            eprintln!("skipped: another user may not run the binary where it lies");
            set(0o755);
            return;
        }
        assert!(output.status.success(), "{stderr}");
        assert_eq!(stderr.lines().filter(|line| line.contains("permission")).count(), 2, "{stderr}");
    } else {
        house.succeed(&["land"]);
    }
    assert_eq!(house.sql("select event_id from events"), ["good"]);
    set(0o755);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select event_id from events order by 1"), ["closed", "good", "inner"]);
    assert_eq!(house.sql("select count(*) from dead_letters"), ["0"]);
}

/// Starts a landing that waits before it reads, until its plan is written.
fn landing_that_waits(house: &House) -> Child {
    let mut command = house.command(&["land"]);
    command.env("FAILPOINTS", "land.snapshot=sleep(1500)").stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let plan = house.path().join("lake/landing/batches/000000000001.json");
    let begun = Instant::now();
    while !plan.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the batch is never planned");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn a_file_that_grows_or_goes_while_it_is_read_is_left_for_the_next_run() {
    decided("B061", "RETRY unsealed");
    decided("B063", "RETRY source_gone");
    let house = House::new(PROJECT, &[("in/good.jsonl", &lines("good"))]);
    house.write("in/gone.jsonl", &lines("gone"));
    house.write("in/grows.jsonl", &lines("first"));
    let child = landing_that_waits(&house);
    fs::remove_file(house.path().join("in/gone.jsonl")).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(house.path().join("in/grows.jsonl")).unwrap();
    file.write_all(&lines("second")).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("source_gone") && stderr.contains("unsealed"), "{stderr}");
    assert_eq!(house.sql("select event_id from events"), ["good"]);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select event_id, batch from events order by 1"), ["first,2", "good,1", "second,2"]);
    assert_eq!(house.sql("select count(*) from dead_letters"), ["0"]);
    assert_counts_add_up(&house);
}

#[test]
fn the_same_content_again_adds_nothing_and_other_content_under_a_name_is_not_taken_unasked() {
    decided("B062", "DENY source_changed");
    decided("B064", "DEDUPE dup_content");
    decided("B065", "DEDUPE dup_unit");
    let house = House::new(PROJECT, &[("in/1.jsonl", &lines("a"))]);
    house.succeed(&["land"]);
    house.write("in/1.jsonl", &lines("a"));
    house.succeed(&["land"]);
    assert_eq!(house.sql("select count(*) from batches"), ["1"], "the same file, delivered again");
    house.write("in/copy.jsonl", &lines("a"));
    house.succeed(&["land"]);
    assert_eq!(house.sql("select batch, landed, duplicates from batches order by 1"), ["1,1,0", "2,0,1"]);
    house.write("in/1.jsonl", &lines("b"));
    let stderr = house.fail(2, &["land"]);
    assert!(stderr.contains("in/1.jsonl changed after it was taken"), "{stderr}");
    assert_eq!(house.sql("select event_id from events"), ["a"]);
}
