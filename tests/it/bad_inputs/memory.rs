//! Rows about size: what is far too large is refused without being held in memory. Peaks are those of the real process;
//! `--nocapture` prints them.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};

use super::decided;
use crate::house::House;

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "in/*"
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "event"
channel     = "'web'"
"#;

const GOOD: &[u8] = b"{\"id\":\"good\",\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"view\"}\n";

/// Peak of resident memory of a landing, in MiB, and its dead letters.
fn landed(name: &str, write: impl FnOnce(std::fs::File)) -> (u64, Vec<String>) {
    let house = House::new(PROJECT, &[("in/zz.jsonl", GOOD)]);
    write(std::fs::File::create(house.path().join("in").join(name)).unwrap());
    let output = house.command(&["land", "--json"]).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{name}");
    let report: serde_json::Value =
        serde_json::from_str(String::from_utf8(output.stdout).unwrap().lines().last().unwrap()).unwrap();
    let peak = report["peak_memory_bytes"].as_u64().expect("a Linux machine tells") >> 20;
    assert_eq!(
        house.sql("select event_id from events where event_id = 'good'"),
        ["good"],
        "{name}: the next file lands"
    );
    (peak, house.sql("select reason from dead_letters"))
}

fn many(mut out: impl Write, megabytes: usize, piece: &[u8]) {
    let mebibyte: Vec<u8> = piece.iter().copied().cycle().take(1 << 20).collect();
    (0..megabytes).for_each(|_| out.write_all(&mebibyte).unwrap());
}

#[test]
fn bombs_giant_lines_and_deep_nesting_are_refused_with_flat_memory() {
    decided("B014", "DLQ line_too_long");
    let (plain, _) = landed("a.jsonl", |mut file| file.write_all(GOOD).unwrap());
    println!("nothing special: {plain} MiB");
    type Write = fn(std::fs::File);
    let cases: [(&str, &str, Write); 7] = [
        ("giant.jsonl", "line_too_long", |file| many(file, 400, b"x")),
        ("giant.csv", "line_too_long", |file| many(file, 400, b"x")),
        ("deep.jsonl", "line_too_long", |file| many(file, 100, b"[")),
        ("bomb.jsonl.gz", "decompress_ratio", |file| {
            many(flate2::write::GzEncoder::new(file, flate2::Compression::best()), 1024, b" ");
        }),
        ("bomb.jsonl.zst", "decompress_ratio", |file| {
            let mut encoder = zstd::Encoder::new(file, 1).unwrap();
            many(&mut encoder, 4096, b" ");
            encoder.finish().unwrap();
        }),
        ("members.jsonl.gz", "decompress_ratio", |mut file| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            many(&mut encoder, 16, b" ");
            let member = encoder.finish().unwrap();
            (0..64).for_each(|_| file.write_all(&member).unwrap());
        }),
        ("bomb.parquet", "parquet_limits", |file| {
            let text = "x".repeat(1 << 19);
            let column = Arc::new(StringArray::from(vec![text.as_str(); 2_000]));
            let batch = RecordBatch::try_from_iter([("text", column as arrow::array::ArrayRef)]).unwrap();
            let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }),
    ];
    for (name, reason, write) in cases {
        let (peak, reasons) = landed(name, write);
        println!("{name}: {reason}, {peak} MiB");
        assert_eq!(reasons, [reason], "{name}");
        assert!(peak < plain + 200, "{name}: {peak} MiB, {plain} without");
    }
}
