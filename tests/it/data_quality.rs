//! How late events arrive, as `data_quality` tells it.

use crate::house::House;

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "landing-zone/web/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "occurred"
received_at = "received"
touchpoint  = "'view'"
channel     = "'web'"
[[sources]]
name = "store"
path = "landing-zone/store/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "occurred"
received_at = "received"
touchpoint  = "'visit'"
channel     = "'store'"
"#;

/// Events that occurred at one time and were received so many microseconds later.
fn file(name: &str, lateness: &[i64]) -> Vec<u8> {
    let occurred = chrono::DateTime::parse_from_rfc3339("2025-03-01T00:00:00Z").unwrap();
    let line = |(number, micros): (usize, &i64)| {
        let received = (occurred + chrono::TimeDelta::microseconds(*micros)).to_rfc3339();
        format!("{{\"id\":\"{name}-{number}\",\"occurred\":\"2025-03-01T00:00:00Z\",\"received\":\"{received}\"}}\n")
    };
    lateness.iter().enumerate().map(line).collect::<String>().into_bytes()
}

#[test]
fn ranges_of_lateness_hold_their_end_and_add_up_to_what_was_landed() {
    const HOUR: i64 = 3_600_000_000;
    const DAY: i64 = 24 * HOUR;
    let house = House::new(PROJECT, &[]);
    house.write("landing-zone/web/1.jsonl", &file("a", &[-DAY - 1, 0, HOUR, HOUR + 1, DAY]));
    house.write("landing-zone/store/1.jsonl", b"{}\n");
    house.succeed(&["run"]);
    house.write(
        "landing-zone/web/2.jsonl",
        &file("b", &[DAY + 1, 7 * DAY, 7 * DAY + 1, 30 * DAY, 30 * DAY + 1, 400 * DAY]),
    );
    house.succeed(&["run"]);
    let columns =
        "late_up_to_1h, late_1h_to_1d, late_1d_to_7d, late_7d_to_30d, late_over_30d, late_events, future_events";
    let rows = house.sql(&format!("select source, batch, landed, {columns} from data_quality order by 2, 1"));
    assert_eq!(rows, ["store,1,0,0,0,0,0,0,0,0", "web,1,5,3,2,0,0,0,0,1", "web,2,6,0,0,2,2,2,6,0"]);
    // What a source has not landed has no freshness; the other has the same in each batch.
    let freshness = house.sql("select source, freshness_seconds from data_quality order by batch, source");
    assert_eq!(freshness, ["store,", "web,0.0", "web,0.0"]);
}

/// A file of events, told by when they occurred and when they were received.
fn events(name: &str, times: &[(&str, &str)]) -> Vec<u8> {
    let line = |(number, (occurred, received)): (usize, &(&str, &str))| {
        format!("{{\"id\":\"{name}-{number}\",\"occurred\":\"{occurred}\",\"received\":\"{received}\"}}\n")
    };
    times.iter().enumerate().map(line).collect::<String>().into_bytes()
}

/// The figures of a batch, and those of a source, worked out from all events.
const OF_BATCHES: &str = "select source, batch, count(*), \
     count(*) filter (where occurred_at > received_at + interval '24 hours'), \
     count(*) filter (where received_at > occurred_at + interval '24 hours'), \
     median((cast(received_at as bigint) - cast(occurred_at as bigint)) / 1e6), \
     max((cast(received_at as bigint) - cast(occurred_at as bigint)) / 1e6), max(occurred_at) \
     from events group by source, batch order by batch, source";
const OF_SOURCES: &str = "select source, \
     (cast(as_of as bigint) - cast(max(occurred_at) filter (where occurred_at <= as_of) as bigint)) / 1e6 \
     from events cross join as_of group by source, as_of order by source";

#[test]
fn a_batch_adds_its_own_figures_and_all_are_those_of_all_events() {
    let house = House::new(PROJECT, &[]);
    // One of a batch to come before, one in the future, days without events between, and a source that ends early.
    let batches: [(&str, &[(&str, &str)]); 6] = [
        (
            "web/1",
            &[("2025-03-01T10:00:00Z", "2025-03-01T10:00:01Z"), ("2025-03-01T11:00:00Z", "2025-03-01T11:30:00Z")],
        ),
        (
            "store/2",
            &[("2025-02-27T08:00:00Z", "2025-03-01T12:00:00Z"), ("2025-03-09T08:00:00Z", "2025-03-01T12:00:00Z")],
        ),
        (
            "web/3",
            &[
                ("2025-02-26T08:00:00Z", "2025-03-02T12:00:00.000001Z"),
                ("2025-03-01T23:59:59Z", "2025-03-02T12:00:00Z"),
            ],
        ),
        (
            "web/4",
            &[("2025-03-09T07:00:00Z", "2025-03-09T07:00:00Z"), ("2025-02-20T00:00:00Z", "2025-03-09T07:30:00Z")],
        ),
        ("web/5", &[("2025-03-09T09:00:00Z", "2025-03-09T09:00:00Z")]),
        (
            "web/6",
            &[("2025-03-09T09:10:00Z", "2025-03-09T09:10:00Z"), ("2025-03-09T09:30:00Z", "2025-03-09T09:30:00Z")],
        ),
    ];
    let expect_all_told = |step: &str| {
        let told = house.sql(
            "select source, batch, landed, future_events, late_events, median_lateness_seconds, max_lateness_seconds, newest_occurred_at \
             from data_quality where landed > 0 order by batch, source",
        );
        assert_eq!(told, house.sql(OF_BATCHES), "{step}");
        let told = house.sql(
            "select distinct source, freshness_seconds from data_quality \
             where source in (select source from events) order by source",
        );
        assert_eq!(told, house.sql(OF_SOURCES), "{step}");
    };
    for (step, (name, times)) in batches.iter().enumerate() {
        house.write(&format!("landing-zone/{name}.jsonl"), &events(name, times));
        let report = house.succeed(&["run", "--json"]);
        for model in ["int_batch_lateness", "int_event_days"] {
            let report: serde_json::Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
            let results = report["results"].as_array().unwrap();
            let line = results.iter().find(|line| line["unique_id"] == format!("model.wayline.{model}")).unwrap();
            let is_added = line["message"].as_str().unwrap().contains("sums added, 0 taken off");
            assert_eq!(is_added, step > 0, "{model}: {line}");
        }
        expect_all_told(name);
    }
    // By another time other events are the newest, also those that were in the future of their batch.
    // Between two events of one batch the first of them is, though the other batches are older.
    for as_of in [
        "2025-03-09T09:20:00Z",
        "2025-03-09T08:00:00Z",
        "2025-03-09T07:59:59Z",
        "2025-03-02T00:00:00Z",
        "2025-02-27T00:00:00Z",
    ] {
        house.succeed(&["run", "--as-of", as_of]);
        expect_all_told(as_of);
    }
    house.succeed(&["maintain"]);
    expect_all_told("maintained");
    house.write("wayline.toml", format!("{PROJECT}\n[landing]\nfuture_tolerance = \"30d\"\n").as_bytes());
    house.succeed(&["run"]);
    assert_eq!(house.sql("select sum(future_events), sum(landed) from data_quality"), ["0,11"]);
}

#[test]
fn of_all_days_those_of_the_newest_events_are_read_and_those_only_where_a_batch_brought_later_ones() {
    let house = House::of_sample("shop");
    house.succeed(&["run"]);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/queries/marts/data_quality.sql");
    let model = std::fs::read_to_string(path).unwrap();
    let scan = |as_of: &str| {
        let query = format!("explain analyze {model}");
        let plan = house.succeed(&["sql", "--as-of", as_of, "-c", &query, "--format", "json"]);
        let scans: Vec<&str> = plan.split("\\n").filter(|line| line.contains("landing/events/")).collect();
        let [scan] = scans[..] else { panic!("events are read once: {plan}") };
        scan.to_owned()
    };
    let newest = house.sql("select max(newest_occurred_at) from int_batch_lateness");
    let of_all = scan(&newest[0]);
    assert!(of_all.contains("files_opened=0"), "the newest event of the only batch is known: {of_all}");

    let earlier = house.sql("select max(newest_occurred_at) - interval '2 days' from int_batch_lateness");
    let scan = scan(&earlier[0]);
    let (_, pruned) = scan.split_once("files_ranges_pruned_statistics=").unwrap();
    let (all, rest) = pruned.split_once(" total → ").unwrap();
    let (read, _) = rest.split_once(" matched").unwrap();
    let (all, read): (usize, usize) = (all.parse().unwrap(), read.parse().unwrap());
    assert!(read > 0 && read < all / 20, "{read} of {all} files: {scan}");
}
