//! Rulings on who is who, and who somebody was at a time, through the command line.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::house::House;

const SOURCE: &str = r#"
[[sources]]
name = "web"
path = "landing-zone/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "'view'"
channel     = "'web'"
identifiers = { email = "email", loyalty_id = "card", user_id = "user_no" }
"#;

const EVENTS: [&str; 4] = [
    r#"{"id":"a","ts":"2025-01-01T10:00:00Z","user_no":"ann","email":"both@example.com"}"#,
    r#"{"id":"b","ts":"2025-01-02T10:00:00Z","user_no":"bob","email":"both@example.com"}"#,
    r#"{"id":"c","ts":"2025-01-03T10:00:00Z","card":"L-7"}"#,
    r#"{"id":"d","ts":"2025-01-04T10:00:00Z","user_no":"cleo","card":"L-7","email":"both@example.com"}"#,
];

/// A project with some of the events.
fn house(configuration: &str, events: &[&str]) -> House {
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    House::new(&format!("{configuration}{SOURCE}"), &[("landing-zone/events.jsonl", lines.as_bytes())])
}

fn json(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Customer of each identifier.
fn customers(house: &House) -> BTreeMap<String, String> {
    let rows = house.sql("select identity_key, customer_id from identity_map");
    rows.iter().filter_map(|row| row.split_once(',')).map(|(key, id)| (key.to_string(), id.to_string())).collect()
}

/// What a report of a ruling foretells: the customer of each identifier of restated customers.
fn foretold(report: &Value) -> BTreeMap<String, String> {
    let customers = report["customers"].as_array().unwrap().iter();
    let identifiers = customers.flat_map(|customer| customer["identifiers"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_string();
    identifiers.map(|one| (text(&one["identity_key"]), text(&one["customer_id"]))).collect()
}

#[test]
fn a_ruling_foretells_what_the_next_run_does_and_lasts() {
    let house = house("", &EVENTS[..3]);
    house.succeed(&["run"]);
    assert_eq!(customers(&house)["user_id:ann"], customers(&house)["user_id:bob"]);
    let split = ["identity", "split", "user_id:bob", "email:Both@Example.com", "--reason", "a shared mailbox"];

    let before = house.lake_files();
    let dry = house.succeed(&[&split[..], &["--dry-run"]].concat());
    assert!(dry.contains("dry run: not made") && dry.contains("2 events, 1 journeys"), "{dry}");
    assert_eq!(house.lake_files(), before);

    let report = json(&house.succeed(&[&split[..], &["--by", "dora", "--json"]].concat()));
    assert_eq!((&report["ruling"]["number"], &report["ruling"]["ruled_by"]), (&1.into(), &"dora".into()));
    assert_eq!(report["customers"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&report["customers"][0]["event_count"], &report["customers"][0]["journey_count"]),
        (&2.into(), &1.into())
    );
    let run = house.succeed(&["run", "--json"]);
    assert!(json(&run)["identity"]["reason"].as_str().unwrap().contains("identity"), "{run}");
    let apart = customers(&house);
    assert_ne!(apart["user_id:bob"], apart["email:both@example.com"]);
    assert_eq!(apart["user_id:ann"], apart["email:both@example.com"]);
    for (key, customer) in foretold(&report) {
        assert_eq!(apart[&key], customer, "{key}");
    }
    let refused = "select from_value, to_value, rule, detail from identity_refusals";
    let detail = "the customer would have two identifiers that ruling 1 splits";
    assert_eq!(house.sql(refused), [format!("both@example.com,bob,ruling,{detail}")]);
    assert_eq!(house.sql("select count(*) from customers"), ["3"]);

    let again = house.succeed(&split);
    assert!(again.contains("in force already") && again.contains("no customer changes"), "{again}");
    assert!(house.succeed(&["run"]).starts_with("nothing new"));
    for name in ["map", "customers", "links", "refusals"] {
        std::fs::remove_dir_all(house.path().join(format!("lake/identity/identity_{name}"))).unwrap();
    }
    house.succeed(&["run"]);
    assert_eq!(customers(&house), apart, "rulings survive rebuilds");

    for (ends, count) in [(["email:both@example.com", "user_id:bob"], 2), (["user_id:ann", "loyalty_id:L-7"], 1)] {
        let link = ["identity", "link", ends[0], ends[1], "--reason", "asked", "--json"];
        let report = json(&house.succeed(&link));
        house.succeed(&["run"]);
        let customers = customers(&house);
        assert_eq!(customers[ends[0]], customers[ends[1]]);
        assert_eq!(house.sql("select count(*) from customers"), [count.to_string()]);
        for (key, customer) in foretold(&report) {
            assert_eq!(customers[&key], customer, "{key}");
        }
    }
    let rulings = house.succeed(&["identity", "rulings"]);
    let lines: Vec<_> = rulings.lines().collect();
    assert_eq!(lines.len(), 3, "{rulings}");
    assert!(lines[0].contains("dora: a shared mailbox (no longer in force)"), "{rulings}");
    assert!(lines[2].contains("link  user_id:ann loyalty_id:L-7") && !lines[2].contains("no longer"), "{rulings}");
}

#[test]
fn a_ruling_that_a_limit_refuses_says_so() {
    let house = house("[identity]\nlimits = { user_id = 1 }\n", &EVENTS[..3]);
    house.succeed(&["run"]);
    let out = house.succeed(&["identity", "link", "user_id:bob", "user_id:ann", "--reason", "asked"]);
    assert!(out.contains("not followed: limit:user_id: the customer would have 2 values of user_id"), "{out}");
    assert!(out.contains("no customer changes"), "{out}");
    house.succeed(&["run"]);
    let refused = "select from_value, to_value, rule, first_seen_at from identity_refusals order by 1";
    let expected = [
        "ann,bob,limit:user_id,2025-01-02T10:00:00.000000Z",
        "both@example.com,bob,limit:user_id,2025-01-02T10:00:00.000000Z",
    ];
    assert_eq!(house.sql(refused), expected);
}

#[test]
fn who_somebody_was_is_what_an_earlier_run_would_have_said() {
    for configuration in ["", "[identity]\nlimits = { user_id = 1 }\n", "[identity]\nmax_identifiers = 3\n"] {
        let whole = house(configuration, &EVENTS);
        whole.succeed(&["run"]);
        for (count, day) in (1..).zip(["2025-01-01", "2025-01-02", "2025-01-03", "2025-01-04"]) {
            let earlier = house(configuration, &EVENTS[..count]);
            earlier.succeed(&["run"]);
            let at = format!("{day}T10:00:00Z");
            for (key, customer) in customers(&earlier) {
                let [then, now] = [vec!["--at", &at], vec![]].map(|more| {
                    let house = if more.is_empty() { &earlier } else { &whole };
                    json(&house.succeed(&[&["identity", "who", &key, "--json"], more.as_slice()].concat()))
                });
                assert_eq!(then["customer_id"], customer.as_str(), "{key} at {at} under {configuration}");
                let keys = |found: &Value| {
                    let identifiers = found["identifiers"].as_array().unwrap().iter();
                    identifiers
                        .map(|one| (one["kind"].clone(), one["value"].clone(), one["first_seen_at"].clone()))
                        .collect::<Vec<_>>()
                };
                assert_eq!(keys(&then), keys(&now), "{key} at {at} under {configuration}");
            }
        }
    }
}

#[test]
fn what_is_not_known_is_told_with_a_hint() {
    let house = house("", &EVENTS[..3]);
    house.succeed(&["run"]);
    for (arguments, expected) in [
        (&["who", "emial:both@example.com"][..], "did you mean `email`?"),
        (&["who", "email:nobody@example.com"], "email:nobody@example.com is not known"),
        (&["who", "loyalty_id:L-7", "--at", "2025-01-03"], "it was first seen at 2025-01-03T10:00:00Z"),
        (&["who", "both@example.com"], "expected KIND:VALUE"),
        (&["who", "user_id:null"], "identifies nobody"),
        (&["link", "user_id:ann", "user_id: ann ", "--reason", "asked"], "given twice"),
        (&["link", "user_id:ann", "user_id:dan", "--reason", "asked"], "user_id:dan is not known"),
        (&["split", "user_id:ann", "user_id:bob", "--reason", " "], "--reason is empty"),
    ] {
        let stderr = house.fail(2, &[&["identity"], arguments].concat());
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    assert_eq!(house.succeed(&["identity", "rulings"]), "no rulings\n");
}

#[test]
fn raw_values_are_taken_and_pseudonyms_kept() {
    let house = house("[privacy]\npseudonymize = [\"email\"]\n", &EVENTS[..3]);
    let with_key = |arguments: &[&str]| {
        let output = house.command(arguments).env("WAYLINE_PSEUDONYM_KEY", "0123456789abcdef").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    with_key(&["run"]);
    let who = json(&with_key(&["identity", "who", "email: BOTH@example.com", "--json"]));
    let token = who["identifier"]["value"].as_str().unwrap();
    assert!(token.starts_with("h1:") && who["identifiers"].as_array().unwrap().len() == 3, "{who}");
    let out = with_key(&["identity", "split", "email:both@example.com", "user_id:bob", "--reason", "asked"]);
    let kept = std::fs::read_to_string(house.path().join("lake/identity/rulings/000001.json")).unwrap();
    assert!(kept.contains(token) && !kept.contains("example.com") && !out.contains("example.com"), "{kept}{out}");
    let refused = house.fail(2, &["identity", "who", "email:both@example.com"]);
    assert!(refused.contains("WAYLINE_PSEUDONYM_KEY"), "{refused}");
    let found = json(&house.succeed(&["identity", "who", &format!("email:{token}"), "--json"]));
    assert_eq!(found["customer_id"], who["customer_id"]);
}
