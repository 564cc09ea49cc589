//! The law of the house, held against an oracle that knows nothing of batches, tables or SQL (`tests/oracle`): files that
//! land in one batch or several, in any order, must end as it says. `pipeline/law` holds lakes against each other.
//!
//! A failure names the seed of a project and the cases whose rows differ; `WAYLINE_LAW_SEED=2 WAYLINE_LAW_LAKES=1
//! WAYLINE_LAW_CASE=3` tries one case alone.

#[path = "../../pipeline/law/cases.rs"]
mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use self::cases::{Cases, Chance, FILES, PROJECT, asked, case_in};
use crate::arrivals::content;
use crate::house::House;
use crate::sample_projects::{Difference, ask_oracle, differences};

/// Events of the generated set, and batches in which they come.
const EVENTS: u64 = 3000;
const BATCHES: u64 = 60;

/// Projects of one test run, and cases in each.
const PROJECTS: u64 = 3;
const CASES: u64 = 350;
const TABLES: &str = "events,dead_letters,identity_map,identity_links,identity_refusals,touchpoints,sessions,journeys,\
     customers,funnel_attempts,funnel_steps,drop_offs,paths,path_edges,channel_switches,stage_channels";

/// Cases of rows that differ: told by what is in a row, or by its customer.
fn cases_of(wrong: &[Difference], house: &House, expected: &Path) -> BTreeSet<u64> {
    let touchpoints = std::fs::read_to_string(expected.join("touchpoints.csv")).unwrap();
    let owner = |row: &str| {
        let (event, customer) = row.split_once(',')?;
        Some((customer.to_string(), case_in(event)?))
    };
    let mut owners: BTreeMap<String, u64> = BTreeMap::new();
    owners.extend(house.sql("select event_id, customer_id from touchpoints").iter().filter_map(|row| owner(row)));
    for row in csv::Reader::from_reader(touchpoints.as_bytes()).deserialize::<BTreeMap<String, String>>() {
        let row = row.unwrap();
        owners.extend(owner(&format!("{},{}", row["event_id"], row["customer_id"])));
    }
    let cells = wrong.iter().flat_map(|table| table.missing.iter().chain(&table.extra)).flatten();
    cells.filter_map(|cell| case_in(cell).or_else(|| owners.get(cell).copied())).collect()
}

#[test]
fn every_table_is_told_by_the_events_alone_however_they_were_cut_into_batches() {
    let first = asked("WAYLINE_LAW_SEED").unwrap_or(1);
    for seed in first..first + asked("WAYLINE_LAW_LAKES").unwrap_or(PROJECTS) {
        let cases = Cases::new(seed, asked("WAYLINE_LAW_CASES").unwrap_or(CASES));
        let (files, rulings) = (cases.files(), cases.rulings());
        let mut chance = Chance::new(seed, u64::MAX);
        let project = format!("[lake]\ndurable = false\n{PROJECT}");
        let (whole, cut) = (House::new(&project, &[]), House::new(&project, &[]));
        let arrive = |house: &House, number: usize| {
            house.write(&format!("landing-zone/web-{number}.jsonl"), files[number].as_bytes());
        };
        let rule = |house: &House, is_due: &dyn Fn(usize) -> bool| {
            for (number, (after, ruling)) in (1..).zip(&rulings).filter(|(_, (after, _))| is_due(*after)) {
                assert!(*after <= FILES);
                house.write(&format!("lake/identity/rulings/{number:06}.json"), ruling.as_bytes());
            }
        };
        rule(&whole, &|_| true);
        let mut order: Vec<usize> = (0..FILES).collect();
        order.sort_by_cached_key(|_| chance.below(100));
        for (there, number) in order.into_iter().enumerate() {
            arrive(&whole, number);
            rule(&cut, &|after| after == there);
            arrive(&cut, number);
            if !chance.one_in(3) {
                cut.succeed(&["run"]);
            }
            if chance.one_in(4) {
                cut.succeed(&["maintain"]);
            }
        }
        rule(&cut, &|after| after == FILES);
        let expected = ask_oracle(&whole, TABLES);
        assert_eq!(std::fs::read_dir(&expected).unwrap().count(), TABLES.split(',').count());
        for (house, how) in [(&whole, "one batch"), (&cut, "several batches")] {
            house.succeed(&["run"]);
            let wrong = differences(house, &expected);
            let told: Vec<String> = wrong.iter().map(Difference::to_string).collect();
            let of_cases = if wrong.is_empty() { BTreeSet::new() } else { cases_of(&wrong, house, &expected) };
            assert!(wrong.is_empty(), "project {seed} in {how}, cases {of_cases:?}:\n{}", told.join("\n"));
        }
        println!("project {seed}: {} cases, {} rulings, 0 differ", cases.count(), rulings.len());
    }
}

/// Asked of more by `WAYLINE_LAW_EVENTS` and `WAYLINE_LAW_BATCHES`.
#[test]
fn generated_events_in_many_batches_in_any_order_end_as_in_one() {
    let events = asked("WAYLINE_LAW_EVENTS").unwrap_or(EVENTS);
    let batches = asked("WAYLINE_LAW_BATCHES").unwrap_or(BATCHES);
    let made = tempfile::tempdir().unwrap();
    let mut generate = Command::new(env!("CARGO_BIN_EXE_wayline"));
    generate.args(["generate", "--events", &events.to_string(), "--days", "30", "--files", "1"]).arg(made.path());
    assert!(generate.output().unwrap().status.success());
    let project = std::fs::read_to_string(made.path().join("wayline.toml")).unwrap();
    let project = project.replacen("[lake]\n", "[lake]\ndurable = false\n", 1);
    let [generated] = &std::fs::read_dir(made.path().join("landing-zone")).unwrap().collect::<Vec<_>>()[..] else {
        panic!("one file was asked for")
    };
    let all = std::fs::read_to_string(generated.as_ref().unwrap().path()).unwrap();

    let whole = House::new(&project, &[("landing-zone/events-all.jsonl", all.as_bytes())]);
    whole.succeed(&["run"]);
    // A file is a batch, and a batch a cycle.
    let cut = House::new(&format!("{project}[landing]\nmax_batch_bytes = 1\n"), &[]);
    let mut chance = Chance::new(asked("WAYLINE_LAW_SEED").unwrap_or(1), u64::MAX);
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_by_cached_key(|_| chance.below(u64::MAX));
    for (number, batch) in lines.chunks(lines.len().div_ceil(batches as usize)).enumerate() {
        cut.write(&format!("landing-zone/events-{number:06}.jsonl"), (batch.join("\n") + "\n").as_bytes());
    }
    let half = (batches / 2).to_string();
    cut.succeed(&["watch", "--every", "1s", "--max-batches", &half]);
    cut.succeed(&["maintain"]);
    cut.succeed(&["watch", "--every", "1s", "--max-batches", &(batches - batches / 2).to_string()]);
    assert_eq!(cut.sql("select count(distinct batch) from batches"), [batches.to_string()]);
    let landed = "select count(*) > 0, count(*) = count(distinct event_id) from events";
    assert_eq!((cut.sql(landed), whole.sql(landed)), (vec!["true,true".into()], vec!["true,true".into()]));
    let (cut, whole) = (content(&cut), content(&whole));
    let differ: Vec<&String> =
        whole.keys().chain(cut.keys()).filter(|name| cut.get(*name) != whole.get(*name)).collect();
    assert!(differ.is_empty(), "of {} tables and files others than in one batch: {differ:?}", whole.len());
}
