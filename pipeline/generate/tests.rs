//! What generated files promise, read back from the files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tempfile::TempDir;

use super::record::{COLUMNS, EVENT_ID, EVENT_TIME, PROPERTIES, RECEIVED_TIME, TOUCHPOINT};
use super::*;
use crate::config::Project;

fn some(events: u64) -> Options {
    Options { events, files: 3, bad_records: 200, ..Options::default() }
}

fn generated(options: &Options) -> (TempDir, Summary) {
    let folder = tempfile::tempdir().unwrap();
    let summary = generate(options, folder.path(), |_| {}).unwrap();
    (folder, summary)
}

fn files(folder: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn lines(folder: &TempDir) -> Vec<String> {
    let texts = files(folder).into_iter().map(|file| fs::read_to_string(file).unwrap());
    texts.flat_map(|text| text.lines().map(String::from).collect::<Vec<_>>()).collect()
}

/// The columns of each good line of JSON as text.
fn json_events(folder: &TempDir) -> Vec<BTreeMap<String, String>> {
    let objects = lines(folder).into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    objects.map(|object| texts(&object)).filter(is_good).collect()
}

fn texts(object: &Value) -> BTreeMap<String, String> {
    let columns = object.as_object().unwrap().iter().map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) if name == "value" => format!("{:.2}", number.as_f64().unwrap()),
            other => other.to_string(),
        };
        (name.clone(), text)
    });
    columns.collect()
}

fn is_good(event: &BTreeMap<String, String>) -> bool {
    let has_time = event.get("event_time").is_some_and(|time| time.ends_with('Z'));
    has_time && event.contains_key("touchpoint") && event.get("value").is_none_or(|value| value != "many")
}

fn parquet_batches(folder: &TempDir) -> Vec<RecordBatch> {
    let readers = files(folder)
        .into_iter()
        .map(|file| ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap().build().unwrap());
    readers.flatten().map(|batch| batch.unwrap()).collect()
}

#[test]
fn the_same_options_give_the_same_bytes_and_another_seed_gives_others() {
    for format in [Format::JsonLines, Format::Csv, Format::Parquet] {
        let options = Options { format, days: 2, ..some(50_000) };
        let bytes = |options: &Options| {
            let (folder, _) = generated(options);
            files(&folder).into_iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>()
        };
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(bytes(&options), one_thread.install(|| bytes(&options)), "{format:?}");
        assert_ne!(bytes(&options), bytes(&Options { seed: 2, ..options.clone() }), "{format:?}");
    }
}

#[test]
fn exactly_as_many_records_are_written_as_were_asked_for() {
    for events in [0, 1, 2, 17, 1_000, 23_456] {
        for days in [1, 90] {
            let options = Options { days, ..some(events) };
            let mut last = 0;
            let folder = tempfile::tempdir().unwrap();
            let summary = generate(&options, folder.path(), |written| last = written).unwrap();
            assert_eq!((summary.events, last, summary.files), (events, events, 3));
            assert_eq!(lines(&folder).len() as u64, events);
            let bytes: u64 = files(&folder).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
            assert_eq!(summary.bytes, bytes);
        }
    }
}

#[test]
fn files_share_the_records_by_count() {
    let (folder, _) = generated(&some(10_001));
    let counts = files(&folder).into_iter().map(|file| fs::read_to_string(file).unwrap().lines().count());
    assert_eq!(counts.collect::<Vec<_>>(), [3333, 3334, 3334]);
}

#[test]
fn records_are_the_sum_of_distinct_events_duplicates_and_bad_records() {
    let (folder, summary) = generated(&some(60_000));
    let mut deliveries: HashMap<String, Vec<BTreeMap<String, String>>> = HashMap::new();
    for event in json_events(&folder) {
        deliveries.entry(event["event_id"].clone()).or_default().push(event);
    }
    let distinct = deliveries.len() as u64;
    assert_eq!(distinct + summary.duplicates + summary.bad_records, summary.events);
    assert!((480..720).contains(&summary.duplicates), "{summary:?}");
    assert!((70..170).contains(&summary.bad_records), "{summary:?}");
    for mut twice in deliveries.into_values().filter(|events| events.len() > 1) {
        assert_eq!(twice.len(), 2);
        let times: Vec<String> = twice.iter_mut().map(|event| event.remove("received_time").unwrap()).collect();
        assert!(times[0] < times[1]);
        assert_eq!(twice[0], twice[1]);
    }
}

#[test]
fn bad_records_are_of_every_kind_and_none_can_be_switched_off() {
    let options = Options { bad_records: 2_000, ..some(10_000) };
    let (folder, summary) = generated(&options);
    let good = json_events(&folder).len() as u64;
    assert_eq!(good + summary.bad_records, 10_000);
    let all = lines(&folder);
    let parsed: Vec<Value> = all.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(parsed.len() < all.len());
    assert!(parsed.iter().any(|event| event["event_time"] == "31/02/2025 25:61"));
    assert!(parsed.iter().any(|event| event.get("touchpoint").is_none()));
    assert!(parsed.iter().any(|event| event["value"] == "many"));

    let (folder, summary) = generated(&Options { bad_records: 0, ..options });
    assert_eq!((json_events(&folder).len(), summary.bad_records), (10_000, 0));
}

#[test]
fn records_are_in_the_order_in_which_they_were_received() {
    for options in [some(30_000), Options { days: 2, ..some(30_000) }, Options { late_share: 0.5, ..some(30_000) }] {
        let (folder, _) = generated(&options);
        let times: Vec<String> = json_events(&folder).into_iter().map(|event| event["received_time"].clone()).collect();
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
    }
}

#[test]
fn events_occur_within_the_period_and_some_come_late() {
    let (folder, _) = generated(&Options { days: 40, ..some(40_000) });
    let events = json_events(&folder);
    let hours_late = |event: &BTreeMap<String, String>| {
        let time = |name: &str| chrono::DateTime::parse_from_rfc3339(&event[name]).unwrap();
        (time("received_time") - time("event_time")).num_hours()
    };
    assert!(events.iter().all(|event| ("2025-01-01".."2025-02-10T").contains(&&event["event_time"][..11])));
    let first_deliveries: HashMap<&str, i64> =
        events.iter().rev().map(|event| (event["event_id"].as_str(), hours_late(event))).collect();
    assert!(first_deliveries.values().all(|hours| (0..=7 * 24).contains(hours)));
    let late = first_deliveries.values().filter(|hours| **hours >= 1).count();
    assert!((250..550).contains(&late), "{late} late");
}

#[test]
fn csv_json_and_parquet_of_one_seed_hold_the_same_events() {
    let json = Options { bad_records: 0, ..some(8_000) };
    let (json_folder, json_summary) = generated(&json);
    let events = json_events(&json_folder);

    let (csv_folder, csv_summary) = generated(&Options { format: Format::Csv, ..json.clone() });
    let mut rows = Vec::new();
    for file in files(&csv_folder) {
        let mut reader = csv::Reader::from_path(file).unwrap();
        assert_eq!(reader.headers().unwrap(), &COLUMNS[..]);
        for row in reader.records() {
            let row = row.unwrap();
            let present = COLUMNS.into_iter().zip(&row).filter(|(_, text)| !text.is_empty());
            let columns = present.map(|(name, text)| match name {
                "properties" => (name.into(), serde_json::from_str::<Value>(text).unwrap().to_string()),
                _ => (name.into(), text.into()),
            });
            rows.push(columns.collect::<BTreeMap<String, String>>());
        }
    }
    assert_eq!(rows, events);
    assert_eq!(Summary { bytes: 0, ..json_summary }, Summary { bytes: 0, ..csv_summary });

    let (parquet_folder, _) = generated(&Options { format: Format::Parquet, ..json });
    let mut row = 0;
    for batch in parquet_batches(&parquet_folder) {
        assert_eq!(batch.schema().field(EVENT_TIME).data_type(), batch.schema().field(RECEIVED_TIME).data_type());
        for number in 0..batch.num_rows() {
            let micros = batch.column(EVENT_TIME).as_primitive::<TimestampMicrosecondType>().value(number);
            let time = chrono::DateTime::parse_from_rfc3339(&events[row]["event_time"]).unwrap();
            assert_eq!(micros, time.timestamp_micros());
            for (column, name) in COLUMNS.iter().enumerate() {
                let array = batch.column(column);
                assert_eq!(array.is_valid(number), events[row].contains_key(*name), "{name}");
                if array.data_type() == &DataType::Utf8 && column != PROPERTIES && array.is_valid(number) {
                    assert_eq!(array.as_string::<i32>().value(number), events[row][*name], "{name}");
                }
            }
            row += 1;
        }
    }
    assert_eq!(row, 8_000);
}

#[test]
fn bad_records_of_parquet_lack_their_touchpoint_or_time() {
    let (folder, summary) = generated(&Options { format: Format::Parquet, ..some(50_000) });
    let lacking: usize = parquet_batches(&folder)
        .iter()
        .map(|batch| batch.column(TOUCHPOINT).null_count() + batch.column(EVENT_TIME).null_count())
        .sum();
    assert_eq!(lacking as u64, summary.bad_records);
    assert!(parquet_batches(&folder).iter().all(|batch| batch.column(EVENT_ID).null_count() == 0));
}

#[test]
fn compressed_files_hold_the_same_lines() {
    let options = Options { files: 1, ..some(3_000) };
    let (plain, _) = generated(&options);
    let expected = fs::read(&files(&plain)[0]).unwrap();
    let unpack = |compression: Compression| {
        let (folder, _) = generated(&Options { compression, ..options.clone() });
        let file = files(&folder).remove(0);
        let mut bytes = Vec::new();
        let opened = fs::File::open(&file).unwrap();
        match compression {
            Compression::Gzip => flate2::read::GzDecoder::new(opened).read_to_end(&mut bytes).unwrap(),
            _ => zstd::Decoder::new(opened).unwrap().read_to_end(&mut bytes).unwrap(),
        };
        (file.file_name().unwrap().to_str().unwrap().to_string(), bytes)
    };
    assert_eq!(unpack(Compression::Gzip), ("events-00000.jsonl.gz".into(), expected.clone()));
    assert_eq!(unpack(Compression::Zstd), ("events-00000.jsonl.zst".into(), expected));
}

#[test]
fn events_show_what_journeys_are_made_of() {
    let (folder, summary) = generated(&some(100_000));
    let events = json_events(&folder);
    let distinct = |name: &str| events.iter().filter_map(|event| event.get(name)).collect::<BTreeSet<_>>().len();
    let share =
        |name: &str| events.iter().filter(|event| event.contains_key(name)).count() as f64 / events.len() as f64;
    assert_eq!((distinct("channel"), distinct("stage"), distinct("direction")), (12, 7, 2));
    assert!(distinct("touchpoint") >= 55, "{}", distinct("touchpoint"));
    assert_eq!((distinct("variant"), distinct("score_kind"), distinct("currency")), (2, 3, 1));
    for (name, least, most) in [
        ("anonymous_id", 0.5, 0.9),
        ("user_id", 0.1, 0.4),
        ("email", 0.1, 0.4),
        ("phone", 0.03, 0.25),
        ("loyalty_id", 0.01, 0.1),
        ("campaign", 0.08, 0.3),
        ("value", 0.01, 0.06),
        ("score", 0.003, 0.03),
    ] {
        assert!((least..most).contains(&share(name)), "{name}: {}", share(name));
    }
    let per_customer = events.len() as f64 / summary.customers as f64;
    assert!((6.0..25.0).contains(&per_customer), "{per_customer} events per customer");
    let line_bytes = summary.bytes / summary.events;
    assert!((340..460).contains(&line_bytes), "{line_bytes} bytes per line");
}

#[test]
fn devices_are_shared_by_two_people_at_most_and_people_use_several() {
    let (folder, _) = generated(&some(200_000));
    let mut users: HashMap<String, HashSet<String>> = HashMap::new();
    let mut devices: HashMap<String, HashSet<String>> = HashMap::new();
    for event in json_events(&folder) {
        if let (Some(device), Some(user)) = (event.get("anonymous_id"), event.get("user_id")) {
            users.entry(device.clone()).or_default().insert(user.clone());
            devices.entry(user.clone()).or_default().insert(device.clone());
        }
    }
    assert_eq!(users.values().map(HashSet::len).max(), Some(2));
    assert!(devices.values().filter(|devices| devices.len() >= 3).count() > 10);
}

#[test]
fn some_customers_return_after_more_than_thirty_days() {
    let (folder, _) = generated(&some(100_000));
    let mut last_seen: HashMap<String, chrono::DateTime<chrono::FixedOffset>> = HashMap::new();
    let mut returned = 0;
    for event in json_events(&folder) {
        let Some(email) = event.get("email") else { continue };
        let time = chrono::DateTime::parse_from_rfc3339(&event["event_time"]).unwrap();
        if let Some(before) = last_seen.insert(email.to_lowercase(), time) {
            returned += u32::from((time - before).num_days() > 30);
        }
    }
    assert!(returned > 50, "{returned} returned");
}

#[test]
fn a_folder_that_holds_generated_events_is_refused() {
    let (folder, _) = generated(&some(10));
    let error = generate(&some(10), folder.path(), |_| {}).unwrap_err();
    assert!(error.to_string().contains("holds generated events already"), "{error}");
}

#[test]
fn options_out_of_range_are_refused() {
    let good = some(10);
    let cases = [
        (Options { files: 0, ..good.clone() }, "0 files"),
        (Options { days: 0, ..good.clone() }, "0 days"),
        (Options { bad_records: 100_001, ..good.clone() }, "bad records"),
        (Options { late_share: f64::NAN, ..good.clone() }, "shares"),
        (Options { start: NaiveDate::MAX, ..good }, "first day"),
    ];
    for (options, expected) in cases {
        let error = generate(&options, &PathBuf::from("never-made"), |_| {}).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn the_project_is_a_configuration_that_finds_the_files_and_is_not_overwritten() {
    let options = Options { compression: Compression::Gzip, ..some(10) };
    let folder = tempfile::tempdir().unwrap();
    let summary = project(folder.path(), &options, |_| {}).unwrap();
    assert_eq!(summary.events, 10);

    let config = Project::load(folder.path()).unwrap().config;
    let source = &config.sources[0];
    let glob = globset::Glob::new(&source.path).unwrap().compile_matcher();
    assert!(glob.is_match("landing-zone/events-00002.jsonl.gz"));
    assert_eq!((source.name.as_str(), source.event.identifiers.len()), ("generated", 5));
    assert!(config.privacy.pseudonymize.is_empty());
    let funnels: Vec<&str> = config.funnels.iter().map(|funnel| funnel.name.as_str()).collect();
    assert_eq!((funnels, config.journeys.goal), (vec!["checkout", "reach"], vec!["purchase".to_string()]));
    let world = super::world::World::new();
    let known: HashSet<&str> = world.touchpoints.iter().map(|touchpoint| touchpoint.name).collect();
    for step in config.funnels.iter().flat_map(|funnel| &funnel.steps).flat_map(|step| step.split('|')) {
        assert!(known.contains(step), "{step}");
    }

    let error = project(folder.path(), &options, |_| {}).unwrap_err();
    assert!(error.to_string().contains("is there already"), "{error}");
}
