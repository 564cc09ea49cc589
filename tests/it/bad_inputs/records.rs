//! Rows about records: each case is a file with a good record before and behind, all landed at once.

use std::collections::BTreeMap;

use super::{assert_counts_add_up, decided, expected, flags, rows};
use crate::house::House;

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "in/web/*"
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "event"
channel     = "channel"
value       = "value"
variant     = "case when cast(flag as boolean) then 'on' end"
identifiers = { user_id = "customer" }
[[sources]]
name = "ms"
path = "in/ms/*"
time_unit = "ms"
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "event"
channel     = "channel"
"#;

/// What becomes of a record.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    Lands,
    /// It lands, and its file has this flag.
    Flagged(&'static str),
    Refused(&'static str),
}
use Fate::{Flagged, Lands, Refused};

/// A case of a row: the text of one record, or of several that share a fate.
struct Case {
    id: &'static str,
    source: &'static str,
    ending: &'static str,
    text: Vec<u8>,
    fate: Fate,
    /// A column of the event and what it shows.
    shows: Option<(&'static str, String)>,
    /// Whether a record follows it.
    is_last: bool,
}

impl Case {
    fn shows(mut self, column: &'static str, value: impl Into<String>) -> Self {
        self.shows = Some((column, value.into()));
        self
    }

    fn last(mut self) -> Self {
        self.is_last = true;
        self
    }

    fn of(mut self, source: &'static str) -> Self {
        self.source = source;
        self
    }
}

/// A line as it stands; `ID` in it becomes the id of the case.
fn raw(id: &'static str, text: impl Into<Vec<u8>>, fate: Fate) -> Case {
    Case { id, source: "web", ending: "jsonl", text: text.into(), fate, shows: None, is_last: false }
}

/// A record that is sound but for further members.
fn with(id: &'static str, members: &str, fate: Fate) -> Case {
    let start = r#"{"id":"ID","ts":"2025-01-01T10:00:00Z","event":"view","channel":"web""#;
    raw(id, format!("{start}{}{members}}}", if members.is_empty() { "" } else { "," }), fate)
}

/// A record with this time, as JSON.
fn at(id: &'static str, time: &str, fate: Fate) -> Case {
    raw(id, format!(r#"{{"id":"ID","ts":{time},"event":"view","channel":"web"}}"#), fate)
}

/// A record with this touchpoint, as JSON, which it keeps.
fn named(id: &'static str, name: &str) -> Case {
    let text = format!(r#"{{"id":"ID","ts":"2025-01-01T10:00:00Z","event":{},"channel":"web"}}"#, quoted(name));
    raw(id, text, Lands).shows("touchpoint", name)
}

/// A record on this channel, which it keeps.
fn on(id: &'static str, channel: &str) -> Case {
    let text = format!(r#"{{"id":"ID","ts":"2025-01-01T10:00:00Z","event":"view","channel":{}}}"#, quoted(channel));
    raw(id, text, Lands).shows("channel", channel)
}

fn csv(id: &'static str, text: &str, fate: Fate) -> Case {
    Case { ending: "csv", ..raw(id, text, fate) }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn json_cases() -> Vec<Case> {
    let nested = |depth: usize| format!("\"a\":{}1{}", r#"{"a":"#.repeat(depth - 1), "}".repeat(depth - 1));
    let keys: Vec<String> = (0..10_000).map(|key| format!("\"k{key}\":1")).collect();
    let extra = |text: &str| format!(r#"{{"x":{text}}}"#);
    let long = "x".repeat(2_000);
    let bytes = |before: &str, bad: &[u8]| [before.as_bytes(), bad, b"\"}"].concat();
    let open = r#"{"id":"ID","ts":"2025-01-01T10:00:00Z","channel":"web","event":"caf"#;
    vec![
        raw("B001", r#"{"a":1"#, Refused("json_syntax")),
        raw("B002", r#"{"id":"ID","ts":"2025-01-01T10:00:00Z","event":"vi"#, Refused("json_truncated")).last(),
        with("B003", "\"x\":1,", Refused("json_syntax")),
        raw("B003", "{'id':'ID'}", Refused("json_syntax")),
        with("B003", "\"x\":1 /* one */", Refused("json_syntax")),
        raw("B004", r#"{"id":"ID"}{"id":"ID"}"#, Refused("json_trailing_data")),
        raw("B005", r#"[{"id":"ID"}]"#, Refused("not_object")),
        raw("B005", "\"text\"", Refused("not_object")),
        raw("B005", "7", Refused("not_object")),
        raw("B005", "null", Refused("not_object")),
        raw("B006", "{\n  \"id\": \"ID\",\n  \"event\": \"view\"\n}", Refused("json_syntax")),
        raw("B007", "\n \t \n\r", Flagged("blank_line")),
        with("B008", r#""x":1,"x":1"#, Flagged("dup_key_same")),
        with("B009", r#""customer":"u1","customer":"u2""#, Refused("dup_key_conflict")),
        with("B010", r#""customer":"u1","Customer":"u1""#, Refused("dup_key_folded")),
        with("B011", &nested(33), Refused("too_deep")),
        with("B011", &nested(128), Refused("too_deep")),
        with("B011", &nested(100_000), Refused("too_deep")),
        with("B011", &format!("\"a\":{}", "[".repeat(900_000)), Refused("too_deep")),
        with("B011", &nested(31), Lands),
        with("B012", &keys.join(","), Refused("too_many_keys")),
        with("B013", &format!("\"{}\":1", "k".repeat(1_000_000)), Refused("key_too_long")),
        with("B016", "\"value\":1e999", Refused("number_range")),
        with("B017", "\"x\":9223372036854775808", Lands).shows("properties", extra("9223372036854775808")),
        with("B017", "\"x\":9007199254740993", Lands).shows("properties", extra("9007199254740993")),
        with("B017", "\"value\":9223372036854775808", Refused("type_mismatch")),
        with("B018", "\"value\":NaN", Refused("json_syntax")),
        with("B018", "\"value\":Infinity", Refused("json_syntax")),
        with("B018", "\"value\":-Infinity", Refused("json_syntax")),
        with("B019", "\"value\":\"NaN\"", Refused("type_mismatch")),
        with("B020", "\"value\":-0.0", Lands).shows("value", "0.0"),
        with("B020", "\"value\":1e-400", Flagged("number_rounded")).shows("value", "0.0"),
        with("B020", "\"value\":0.00004", Flagged("number_rounded")).shows("value", "0.0"),
        with("B021", &format!("\"value\":{}", "9".repeat(10_000)), Refused("number_too_long")),
        with("B022", "\"value\":\"12\"", Lands).shows("value", "12.0"),
        with("B022", "\"value\":\"12abc\"", Refused("type_mismatch")),
        with("B022", "\"value\":\"1,234\"", Refused("type_mismatch")),
        with("B023", "\"flag\":1", Lands).shows("variant", "on"),
        with("B023", "\"flag\":\"yes\"", Lands).shows("variant", "on"),
        with("B023", "\"flag\":\"perhaps\"", Refused("expression_failed")),
        raw("B024", r#"{"id":"ID","ts":"2025-01-01T10:00:00Z","channel":"web"}"#, Refused("missing_field")),
        raw("B024", r#"{"id":"ID","ts":null,"event":"view","channel":"web"}"#, Refused("missing_field")),
        raw("B024", r#"{"id":"ID","ts":"2025-01-01T10:00:00Z","event":" ","channel":"web"}"#, Refused("missing_field")),
        with("B025", "\"x\":{\"new\":true}", Lands).shows("properties", extra("{\"new\":true}")),
        raw("B026", bytes(open, b"\xff"), Refused("invalid_utf8")),
        raw("B029", bytes(open, b"\xe9"), Refused("invalid_utf8")),
        with("B030", r#""x":"\ud800""#, Refused("invalid_unicode")),
        with("B030", r#""x":"\udc00\ud800""#, Refused("invalid_unicode")),
        raw("B031", bytes(open, b"\0"), Refused("nul_byte")),
        with("B031", r#""x":"a\u0000b""#, Refused("nul_byte")),
        named("B032", "view\u{1b}[2J\u{7}"),
        raw("B032", bytes(open, b"\x1b[2J"), Refused("json_syntax")),
        named("B033", "buy\u{202e}txt.exe"),
        raw("B034", bytes(open, b"\xc0\x80"), Refused("invalid_utf8")),
        raw("B034", bytes(open, b"\xed\xa0\x80"), Refused("invalid_utf8")),
        with("B035", "\"x\":\r\"a\u{2028}b\"", Lands).shows("properties", extra("\r\"a\u{2028}b\"")),
        with("B090", "\"value\":-5", Lands).shows("value", "-5.0"),
        with("B091", "\"value\":1e308", Refused("type_mismatch")),
        named("B098", &long).refused("field_too_long"),
        with("B098", &format!("\"event2\":\"{}\"", "x".repeat(2 << 20)), Refused("line_too_long")),
        with("B106", r#""select":1,"a.b":2,"A":3,"a":4,"":5,"😀":6"#, Lands)
            .shows("properties", r#"{"select":1,"a.b":2,"A":3,"a":4,"":5,"😀":6}"#),
        with("B106", &format!("\"{}\":1", "c".repeat(300)), Lands),
    ]
}

impl Case {
    fn refused(mut self, reason: &'static str) -> Self {
        (self.fate, self.shows) = (Refused(reason), None);
        self
    }
}

fn csv_cases() -> Vec<Case> {
    vec![
        csv("B036", "ID,2025-01-01T10:00:00Z,view,web,,\"open", Refused("csv_quote")),
        csv("B037", "ID,2025-01-01T10:00:00Z,view,web", Refused("csv_columns")),
        csv("B037", "ID,2025-01-01T10:00:00Z,view,web,1,a,b", Refused("csv_columns")),
        csv("B038", "id,ts,event,channel,value,note", Refused("csv_header")),
        csv("B040", "ID,2025-01-01T10:00:00Z,view,web,,\"two\nlines\"", Lands)
            .shows("properties", r#"{"note":"two\nlines"}"#),
        csv("B022", "ID,2025-01-01T10:00:00Z,view,web,\"1,234\",", Refused("type_mismatch")),
        csv("B035", "ID,2025-01-01T10:00:00Z,view,web,,a\rb\r", Lands).shows("properties", r#"{"note":"a\rb"}"#),
    ]
}

fn time_cases() -> Vec<Case> {
    let text = |id, time: &str, fate| at(id, &quoted(time), fate);
    vec![
        text("B076", "0000-01-01T00:00:00Z", Refused("ts_range")),
        text("B076", "0001-01-01T00:00:00Z", Refused("ts_range")),
        text("B076", "-0044-03-15T00:00:00Z", Refused("ts_invalid")),
        text("B077", "9999-12-31T00:00:00Z", Refused("ts_range")),
        text("B077", "275760-09-13T00:00:00Z", Refused("ts_invalid")),
        text("B078", "1677-09-20T00:00:00Z", Refused("ts_range")),
        text("B078", "2262-04-12T00:00:00Z", Refused("ts_range")),
        at("B079", "1735689600", Refused("ts_unit")),
        at("B079", "1735689600", Refused("ts_unit")).of("ms"),
        at("B079", "1735689600000000", Refused("ts_unit")).of("ms"),
        at("B079", "1735689600000000000", Refused("ts_unit")).of("ms"),
        at("B079", "1735689600000", Lands).of("ms").shows("occurred_at", "2025-01-01T00:00:00Z"),
        at("B080", "0", Refused("ts_sentinel")).of("ms"),
        at("B080", "-1", Refused("ts_sentinel")).of("ms"),
        text("B080", "0000-00-00 00:00:00", Refused("ts_sentinel")),
        text("B081", "2076-01-01T00:00:00Z", Lands),
        text("B081", "2101-01-01T00:00:00Z", Refused("ts_range")),
        text("B082", "2020-01-01T00:00:00Z", Lands),
        text("B083", "2016-12-31T23:59:60Z", Flagged("leap_second"))
            .shows("occurred_at", "2016-12-31T23:59:59.999999Z"),
        text("B084", "2025-01-01T24:00:00Z", Refused("ts_invalid")),
        text("B084", "2025-01-01T23:60:00Z", Refused("ts_invalid")),
        text("B084", "2025-02-30T00:00:00Z", Refused("ts_invalid")),
        text("B084", "2025-02-29T00:00:00Z", Refused("ts_invalid")),
        text("B084", "2024-02-29T00:00:00Z", Lands),
        text("B085", "2025-01-01T10:00:00", Refused("tz_invalid")),
        text("B085", "2025-01-01T10:00:00+99:99", Refused("tz_invalid")),
        text("B085", "2025-01-01T10:00:00+23:59", Refused("tz_invalid")),
        text("B085", "2025-01-01T10:00:00+14:00", Lands).shows("occurred_at", "2024-12-31T20:00:00Z"),
        text("B085", "2025-01-01T10:00:00-12:00", Lands).shows("occurred_at", "2025-01-01T22:00:00Z"),
        text("B086", "2025-03-30T02:30:00", Refused("tz_invalid")),
        text("B087", "2025-01-01T10:00:00 Mars/Base", Refused("tz_invalid")),
        text("B087", "2025-01-01T10:00:00 EST5", Refused("tz_invalid")),
    ]
}

/// Names that land as they are: nothing is merged or changed without being asked.
fn name_cases() -> Vec<Case> {
    vec![
        on("B093", "TikTok-Shop"),
        on("B094", "Web"),
        on("B094", "ＷＥＢ"),
        on("B094", "e\u{301}mail"),
        on("B095", "\u{435}mail"),
        named("B096", "che\u{200d}ck\u{ad}out"),
        named("B099", "<script>alert(1)</script>"),
        named("B099", "\"><img src=x onerror=alert(1)>"),
        with("B100", r#""x":"</script><svg/onload=alert(1)>""#, Lands)
            .shows("properties", r#"{"x":"</script><svg/onload=alert(1)>"}"#),
        with("B101", r#""url":"javascript:alert(1)""#, Lands).shows("properties", r#"{"url":"javascript:alert(1)"}"#),
        named("B102", "=HYPERLINK(\"http://x\")"),
        named("B102", "+1"),
        named("B102", "-2+3"),
        named("B102", "@SUM(A1)"),
        named("B103", "\u{ff1d}1+1"),
        named("B104", "a, \"b\"\nc"),
        named("B104", "\"\"\""),
        named("B105", "'; DROP TABLE x; --"),
        named("B105", "\" OR 1=1"),
        named("B105", "`x`"),
        named("B107", "a/b\\c:d%20 #?.."),
        named("B107", ".."),
        named("B107", "naïve 名前"),
        named("B109", "Mozilla\n2025-01-01T00:00:00Z ERROR forged"),
        named("B110", "${jndi:ldap://x}"),
        named("B110", "{{7*7}} %n%n%s"),
    ]
}

/// What the table calls a fate.
fn called(fate: Fate) -> String {
    match fate {
        Lands => "ACCEPT".into(),
        Flagged(flag) => format!("FLAG {flag}"),
        Refused(reason) => format!("DLQ {reason}"),
    }
}

#[test]
fn each_record_has_the_fate_of_the_table_and_its_neighbours_land() {
    let mut cases = json_cases();
    cases.extend(csv_cases());
    cases.extend(time_cases());
    cases.extend(name_cases());
    let house = House::new(PROJECT, &[]);
    let mut number = BTreeMap::new();
    let mut paths = Vec::new();
    for case in &cases {
        let number = number.entry(case.id).or_insert(0);
        *number += 1;
        let name = format!("{}-{number}", case.id);
        let neighbour = |place: &str| match case.ending {
            "csv" => format!("{name}-{place},2025-01-01T10:00:00Z,view,web,,\n"),
            _ if case.source == "ms" => {
                format!("{{\"id\":\"{name}-{place}\",\"ts\":1735689600000,\"event\":\"view\",\"channel\":\"web\"}}\n")
            }
            _ => format!(
                "{{\"id\":\"{name}-{place}\",\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"view\",\"channel\":\"web\"}}\n"
            ),
        };
        let mut file = match case.ending {
            "csv" => b"id,ts,event,channel,value,note\n".to_vec(),
            _ => Vec::new(),
        };
        file.extend(neighbour("before").into_bytes());
        file.extend(replace(&case.text, b"ID", name.as_bytes()));
        if !case.is_last {
            file.push(b'\n');
            file.extend(neighbour("after").into_bytes());
        }
        let path = format!("in/{}/{name}.{}", case.source, case.ending);
        house.write(&path, &file);
        paths.push((name, path));
    }
    house.succeed(&["land"]);
    assert_counts_add_up(&house);

    let flags = flags(&house, 1);
    let events: BTreeMap<String, serde_json::Value> = rows(&house, "select * from events")
        .into_iter()
        .map(|event| (event["event_id"].as_str().unwrap().to_string(), event))
        .collect();
    let mut letters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for letter in rows(&house, "select origin, reason, octet_length(detail) > 0 as has_detail from dead_letters") {
        assert_eq!(letter["has_detail"], true, "{letter}");
        let path = letter["origin"].as_str().unwrap().rsplit_once(':').unwrap().0.to_string();
        letters.entry(path).or_default().push(letter["reason"].as_str().unwrap().to_string());
    }
    let mut fates: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (case, (name, path)) in cases.iter().zip(&paths) {
        let shown = String::from_utf8_lossy(&case.text[..case.text.len().min(200)]).into_owned();
        let refused = letters.remove(path).unwrap_or_default();
        let flags = flags[path].keys().map(String::as_str).collect::<Vec<_>>();
        let found = |column: &str| match &events[name][column] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut expect = |is_so: bool, what: &str| {
            if !is_so {
                wrong.push(format!("{name}: {what}: {:?}, found {refused:?} and {flags:?}: {shown}", case.fate));
            }
        };
        for place in ["before", "after"] {
            expect(case.is_last || events.contains_key(&format!("{name}-{place}")), place);
        }
        let has_landed = events.contains_key(name);
        match case.fate {
            Refused(reason) => {
                let lines = if case.ending == "csv" { 1 } else { case.text.split(|byte| *byte == b'\n').count() };
                expect(refused == vec![reason; lines] && !has_landed, "is refused");
            }
            Flagged("blank_line") => expect(refused.is_empty(), "is nothing"),
            Lands | Flagged(_) => expect(refused.is_empty() && has_landed, "lands"),
        }
        match case.fate {
            Flagged(flag) => expect(flags == [flag], "is flagged"),
            Lands | Refused(_) => expect(flags.is_empty(), "has no flag"),
        }
        if let Some((column, value)) = case.shows.as_ref().filter(|_| has_landed) {
            expect(found(column) == *value, &format!("{column} is {value}, found {}", found(column)));
        }
        fates.entry(case.id).or_default().push(called(case.fate));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(letters.is_empty(), "{letters:?}");
    for (id, fates) in fates {
        let expected = expected(id);
        // What lands is accepted, whatever is counted beside; that it is shown with care is proved in `values.rs`.
        let is_met = match expected.starts_with("ACCEPT") || expected.starts_with("ESCAPE") {
            true => fates.iter().any(|fate| !fate.starts_with("DLQ")),
            false => fates.contains(&expected),
        };
        assert!(is_met, "{id}: the table says {expected}, and its cases {fates:?}");
    }
}

fn replace(text: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(what) && (at == 0 || text[at - 1] != b'_') {
            replaced.extend_from_slice(with);
            at += what.len();
        } else {
            replaced.push(text[at]);
            at += 1;
        }
    }
    replaced
}

#[test]
fn a_line_at_the_limit_lands_and_one_byte_more_does_not() {
    decided("B015", "ACCEPT size_boundary");
    let line = |id: &str, bytes: usize| {
        let start = format!(
            "{{\"id\":\"{id}\",\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"view\",\"channel\":\"web\",\"x\":\""
        );
        format!("{start}{}\"}}\n", "x".repeat(bytes - start.len() - 2))
    };
    let lines = format!("{}{}{}", line("a", 64 << 10), line("b", (64 << 10) + 1), line("c", 200));
    let project = format!("[landing]\nmax_record_bytes = {}\n{PROJECT}", 64 << 10);
    let house = House::new(&project, &[("in/web/1.jsonl", lines.as_bytes())]);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select event_id from events order by 1"), ["a", "c"]);
    assert_eq!(house.sql("select origin, reason from dead_letters"), ["in/web/1.jsonl:2,line_too_long"]);
    assert_counts_add_up(&house);
}

#[test]
fn an_id_that_comes_again_is_counted_and_the_first_record_stays() {
    decided("B126", "DEDUPE dup_event");
    decided("B127", "DEDUPE dup_event");
    decided("B128", "FLAG derived_id");
    let line = |id: &str, event: &str| {
        format!("{{\"id\":{id},\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"{event}\",\"channel\":\"web\"}}\n")
    };
    let (one, other) = (line("\"a\"", "view"), line("\"a\"", "buy"));
    let without = line("null", "view");
    let first = format!("{one}{one}{other}{without}");
    let house = House::new(PROJECT, &[("in/web/1.jsonl", first.as_bytes())]);
    house.succeed(&["land"]);
    house.write("in/web/2.jsonl", format!("{other}{one}").as_bytes());
    house.write("in/ms/3.jsonl", line("\"a\"", "view").replace("\"2025-01-01T10:00:00Z\"", "1735689600000").as_bytes());
    house.succeed(&["land"]);
    assert_eq!(house.sql("select touchpoint, batch from events where event_id = 'a'"), ["view,1"]);
    assert_eq!(house.sql("select sum(rows_in), sum(landed), sum(duplicates) from batches"), ["7,2,5"]);
    assert_eq!(flags(&house, 1)["in/web/1.jsonl"]["derived_id"], 1);
    assert_eq!(house.sql("select length(event_id) from events where event_id <> 'a'"), ["32"]);
    assert_counts_add_up(&house);
}
