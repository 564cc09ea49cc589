//! Rows about identifiers: events always land, and what identifies nobody or too many merges nobody.

use super::decided;
use crate::house::House;

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "in/*"
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "'view'"
channel     = "'web'"
identifiers = { user_id = "user", email = "mail", phone = "tel", device_id = "device" }
[identity]
limits = { user_id = 1 }
priority = ["user_id", "email", "phone", "device_id"]
max_links = 50
max_identifiers = 100
"#;

/// A project with one event for each set of members.
fn resolved(events: impl IntoIterator<Item = String>) -> House {
    let lines: Vec<String> = events
        .into_iter()
        .enumerate()
        .map(|(number, members)| format!("{{\"id\":\"{number}\",\"ts\":\"2025-01-01T10:00:00Z\",{members}}}\n"))
        .collect();
    let house = House::new(PROJECT, &[("in/1.jsonl", lines.concat().as_bytes())]);
    house.succeed(&["run"]);
    assert_eq!(house.sql("select count(*) from events"), [lines.len().to_string()], "every event lands");
    house
}

fn customers_of(house: &House, kind: &str, values: &str) -> usize {
    let query =
        format!("select count(distinct customer_id) from identity_map where kind = '{kind}' and value like '{values}'");
    house.sql(&query)[0].parse().unwrap()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn values_that_identify_nobody_merge_nobody() {
    let sha256_of_empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let rows: [(&str, &str, Vec<&str>); 6] = [
        ("B111", "NOMERGE id_sentinel", {
            vec!["null", "NULL", "none", "None", "undefined", "NaN", "nil", "N/A", "na", "-", "(null)", "\"null\""]
        }),
        ("B112", "NOMERGE id_sentinel", {
            let words = "unknown anonymous guest test invalid not_authenticated email id true false";
            words.split(' ').chain(["[object Object]", " 'Guest' "]).collect()
        }),
        ("B113", "NOMERGE id_sentinel", {
            vec![
                "0",
                "00000000-0000-0000-0000-000000000000",
                "000000",
                "111111",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                "123456",
                "00000000-0000-0000-0000-000000000000 ",
            ]
        }),
        ("B114", "NOMERGE id_empty", vec!["", "   ", "\u{200b}\u{feff}", "\"\"", "''"]),
        ("B115", "NOMERGE id_sentinel", {
            vec![
                sha256_of_empty,
                "d41d8cd98f00b204e9800998ecf8427e",
                "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b",
                "37a6259cc0c1dae299a7866489dff0bd",
            ]
        }),
        ("B123", "NOMERGE id_too_long", vec![""]),
    ];
    let long = "ab".repeat(5 * 1024);
    let mut events = Vec::new();
    let mut pairs = Vec::new();
    for (id, what, values) in &rows {
        decided(id, what);
        for (number, value) in values.iter().enumerate() {
            let value = if *id == "B123" { long.as_str() } else { value };
            for person in ["a", "b"] {
                events.push(format!("\"user\":{},\"device\":\"{id}-{number}-{person}\"", quoted(value)));
            }
            pairs.push(format!("{id}-{number}-"));
        }
    }
    // A value that identifies somebody does merge.
    events.extend(["a", "b"].map(|person| format!("\"user\":\"U-7\",\"device\":\"control-{person}\"")));
    let house = resolved(events);
    for pair in pairs {
        assert_eq!(customers_of(&house, "device_id", &format!("{pair}%")), 2, "{pair}: strangers are merged");
    }
    assert_eq!(customers_of(&house, "device_id", "control-%"), 1);
}

#[test]
fn one_identifier_of_many_people_keeps_them_apart() {
    decided("B116", "NOMERGE id_degree_cap");
    decided("B117", "NOMERGE id_degree_cap");
    decided("B119", "NOMERGE unique_namespace");
    let people = 2_000;
    let mailbox = (0..people).map(|user| format!("\"user\":\"mail-{user}\",\"mail\":\"info@shop.example\""));
    let kiosk = (0..people).map(|user| format!("\"user\":\"kiosk-{user}\",\"device\":\"kiosk\""));
    let cookie = ["one", "two"].map(|user| format!("\"user\":\"crm-{user}\",\"device\":\"cookie\""));
    let house = resolved(mailbox.chain(kiosk).chain(cookie));
    assert_eq!(customers_of(&house, "user_id", "mail-%"), people);
    assert_eq!(customers_of(&house, "user_id", "kiosk-%"), people);
    assert_eq!(customers_of(&house, "user_id", "crm-%"), 2);
    let rules = house.sql("select distinct rule from identity_refusals order by 1");
    assert_eq!(rules, ["limit:user_id", "max_links"]);
}

#[test]
fn a_chain_of_links_ends_at_the_cap_of_a_customer() {
    decided("B118", "NOMERGE component_cap");
    let links = 10_000_u32;
    let chain = (0..links).map(|at| format!("\"mail\":\"m{}@x.org\",\"device\":\"d{}\"", at / 2, at.div_ceil(2)));
    let house = resolved(chain);
    assert_eq!(house.sql("select max(identifier_count) <= 100 from identity_customers"), ["true"]);
    assert_eq!(house.sql("select distinct rule from identity_refusals"), ["max_identifiers"]);
}

#[test]
fn spellings_of_one_identifier_are_one_and_broken_ones_are_nobodys() {
    decided("B121", "ACCEPT id_normalised");
    decided("B122", "NOMERGE id_invalid");
    decided("B124", "ACCEPT id_type");
    let mails = [" Ann.Lee+News@Example.COM ", "mailto:ann.lee+news@example.com", "ANN.LEE+NEWS@EXAMPLE.COM"];
    let phones = ["+1 (555) 010-9999", "1.555.010.9999", "1 555 010 9999", "15550109999"];
    let broken = ["555 010 9999 x12", "12", "call me", "1555010999912345"];
    let ids = ["123", "\"123\"", "123.0"];
    let device = |of: &str, number: usize| format!("\"device\":\"{of}-{number}\"");
    let mut events = Vec::new();
    events
        .extend(mails.iter().enumerate().map(|(at, mail)| format!("\"mail\":{},{}", quoted(mail), device("mail", at))));
    events.push(format!("\"mail\":\"annlee+news@example.com\",{}", device("dots", 0)));
    events.extend(phones.iter().enumerate().map(|(at, tel)| format!("\"tel\":{},{}", quoted(tel), device("tel", at))));
    for (at, tel) in broken.iter().enumerate() {
        events
            .extend((0..2).map(|person| format!("\"tel\":{},{}", quoted(tel), device(&format!("broken{at}"), person))));
    }
    events.extend(ids.iter().enumerate().map(|(at, id)| format!("\"user\":{id},{}", device("id", at))));
    let house = resolved(events);
    assert_eq!(customers_of(&house, "device_id", "mail-%"), 1);
    assert_eq!(customers_of(&house, "device_id", "dots-%"), 1);
    assert_eq!(customers_of(&house, "email", "%"), 2, "dots tell mailboxes apart");
    assert_eq!(customers_of(&house, "device_id", "tel-%"), 1);
    for (at, number) in broken.iter().enumerate() {
        assert_eq!(customers_of(&house, "device_id", &format!("broken{at}-%")), 2, "{number}");
    }
    assert_eq!(customers_of(&house, "device_id", "id-%"), 1);
    assert_eq!(house.sql("select distinct value from identity_map where kind = 'user_id'"), ["123"]);
}

#[test]
fn a_link_seen_often_is_one_link() {
    decided("B125", "DEDUPE edge_dup");
    let link = || "\"mail\":\"a@x.org\",\"device\":\"d\"".to_string();
    let itself = "\"mail\":\"b@x.org\",\"device\":\"b@x.org\"".to_string();
    let house = resolved((0..20_000).map(|_| link()).chain([itself]));
    let links = house.sql("select from_value, to_value, event_count from identity_links order by event_count");
    assert_eq!(links.len(), 2, "{links:?}");
    assert!(links[1].ends_with(",20000"), "{links:?}");
    assert_eq!(house.sql("select count(distinct customer_id) from identity_map"), ["2"]);
}
