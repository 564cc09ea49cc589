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

#[test]
fn a_new_identifier_that_joins_a_customer_without_a_new_event_is_counted() {
    let configuration = "[identity]\nlimits = { user_id = 1 }\n";
    let shared = |card: u32| {
        format!(
            r#"{{"id":"c{card}","ts":"2025-01-05T10:00:00Z","user_no":"bob","email":"both@example.com","card":"L-{card}"}}"#
        )
    };
    let cards: Vec<String> = (0..8).map(shared).collect();
    let cards: Vec<&str> = cards.iter().map(String::as_str).collect();
    let (at_once, later) = (house(configuration, &[&EVENTS[..1], &cards].concat()), house(configuration, &EVENTS[..1]));
    at_once.succeed(&["run"]);
    later.succeed(&["run"]);
    later.write("landing-zone/later.jsonl", cards.join("\n").as_bytes());
    later.succeed(&["run"]);
    let of_ann = "select count(*) filter (where kind = 'loyalty_id') from identity_map \
                  where customer_id = (select customer_id from identity_map where value = 'ann')";
    let joined: usize = later.sql(of_ann)[0].parse().unwrap();
    assert!(joined > 0, "some cards are ann's, though bob showed them: {joined}");
    let customers = "select * from customers order by customer_id";
    assert_eq!(later.sql(customers), at_once.sql(customers));
}

#[test]
fn a_kiosk_of_a_hundred_thousand_customers_fuses_nobody() {
    const MANY: usize = 100_000;
    let configuration = "[lake]\ndurable = false\n[identity]\npriority = [\"user_id\", \"device_id\"]\n";
    let source = SOURCE.replace("loyalty_id = \"card\"", "device_id = \"card\"");
    let house = House::new(&format!("{configuration}{source}"), &[]);
    let visit = |user: usize, day: usize| {
        let time = format!("2025-01-0{day}T09:{:02}:{:02}.{user:06}Z", user / 60 % 60, user % 60);
        format!("{{\"id\":\"{day}-{user}\",\"ts\":\"{time}\",\"user_no\":\"u{user}\",\"card\":\"kiosk\"}}\n")
    };
    let arrive = |day: usize, users: std::ops::Range<usize>| {
        let lines: String = users.map(|user| visit(user, day)).collect();
        house.write(&format!("landing-zone/{day}.jsonl"), lines.as_bytes());
        let begun = std::time::Instant::now();
        (json(&house.succeed(&["run", "--json"])), begun.elapsed().as_secs_f64())
    };
    let known = "select count(distinct customer_id), count(*) from identity_map";
    let counted = "select count(*), sum(event_count), max(event_count) from customers";

    // A family's tablet, as far as anybody can tell.
    arrive(1, 0..40);
    assert_eq!(house.sql(known), ["1,41"]);
    let (_, whole) = arrive(2, 0..MANY);
    assert_eq!(house.sql(known), [format!("{},{}", MANY + 1, MANY + 1)]);
    assert_eq!(house.sql(counted), [format!("{MANY},{},2", MANY + 40)]);
    // Some of them come again, and some new ones: nobody else is touched.
    let (report, batch) = arrive(3, MANY - 5..MANY + 5);
    let touched = report["touched_customers"].as_u64().unwrap();
    println!("{MANY} customers of one kiosk in {whole:.1} s, then a batch of 10 in {batch:.1} s, {touched} touched");
    assert!((10..=13).contains(&touched), "{report}");
    assert_eq!(house.sql(known), [format!("{},{}", MANY + 6, MANY + 6)]);
    assert_eq!(house.sql(counted), [format!("{},{},2", MANY + 5, MANY + 50)]);
    let rules = "select rule, count(*) from identity_refusals group by rule";
    assert_eq!(house.sql(rules), [format!("max_links,{}", MANY + 5)]);
}
