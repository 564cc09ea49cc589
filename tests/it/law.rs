//! The law of the house: every table is a function of the set of events, the configuration and as-of. Small projects at
//! random, their files landed in one batch or several and in any order, must end as the oracle says, and as each other to
//! the last byte of what is published.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use arrow::json::LineDelimitedWriter;
use wayline::config::Project;
use wayline::derived::window::Window;
use wayline::models::checks::Scope;
use wayline::run::{Options, Progress, RunStatus, register_everything, run};
use wayline::workspace::Workspace;

use crate::house::House;
use crate::sample_projects::{ask_oracle, compare_with};

/// Cases of one test run; a failure names its seed.
const SEEDS: std::ops::Range<u64> = 1..5;
const FILES: usize = 4;
const TABLES: &str = "events,identity_map,identity_links,identity_refusals,touchpoints,sessions,journeys,customers,\
     funnel_attempts,funnel_steps,drop_offs,paths,path_edges,channel_switches,stage_channels";

const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "landing-zone/web-*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "ts"
received_at = "received"
touchpoint  = "event"
channel     = "channel"
value       = "value"
score_kind  = "kind"
score       = "score"
direction   = "'inbound'"
identifiers = { anonymous_id = "anon", email = "email", user_id = "user_no" }

[identity]
limits          = { user_id = 1, email = 2 }
max_links       = 3
max_identifiers = 7

[sessions]
timeout = "30m"
[journeys]
timeout = "10d"
goal    = ["buy", "shop:sign:up"]
[stages]
discovery  = ["home", "view"]
conversion = ["cart", "buy"]

[[funnels]]
name   = "shop"
steps  = ["home|view", "cart", "buy"]
window = "1d"
[[funnels]]
name   = "again"
steps  = ["*", "web:view"]
window = "2h"
"#;

/// Numbers by xorshift: the same everywhere for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

fn instant(micros: u64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros.cast_signed()).unwrap();
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// Gaps around those at which something begins.
fn gap(chance: &mut Chance) -> u64 {
    const MINUTE: u64 = 60_000_000;
    let around = [0, 1, MINUTE, 30 * MINUTE, 120 * MINUTE, 24 * 60 * MINUTE, 240 * 60 * MINUTE];
    around[chance.below(7) as usize] + chance.below(2)
}

/// Lines of a project's files: a few people, one cookie of all, ties, late and future events, copies, broken records.
fn files(chance: &mut Chance) -> Vec<String> {
    let mut files = vec![String::new(); FILES];
    for person in 0..chance.below(5) + 4 {
        let mut time = 1_735_689_600_000_000 + chance.below(3) * 86_400_000_000;
        for touch in 0..chance.below(12) + 1 {
            time += gap(chance);
            let received = match chance.below(12) {
                0 => time + 90_000_000_000,
                1 => time - 90_000_000_000,
                _ => time + 1_000_000,
            };
            let mut line = format!(
                r#"{{"id":"e{person}-{}","ts":"{}","received":"{}","event":"{}","channel":"{}""#,
                touch * 7 % 12,
                instant(time),
                instant(received),
                chance.of(&["home", "view", "view", "cart", "buy", "sign:up"]),
                chance.of(&["web", "web", "shop"]),
            );
            match chance.below(6) {
                0 => line.push_str(r#","anon":"kiosk""#),
                1 | 2 => write!(line, r#","anon":"a{person}-{}""#, chance.below(6)).unwrap(),
                _ => {}
            }
            if chance.below(2) == 0 {
                write!(line, r#","user_no":"u{person}""#).unwrap();
            }
            if chance.below(4) == 0 {
                write!(line, r#","email":"m{}@example.com""#, chance.below(6)).unwrap();
            }
            if chance.below(3) == 0 {
                write!(line, r#","value":"{}.{:02}""#, chance.below(90), chance.below(100)).unwrap();
            }
            if chance.below(4) == 0 {
                write!(line, r#","kind":"{}","score":{}"#, chance.of(&["csat", "nps"]), chance.below(6)).unwrap();
            }
            line.push_str("}\n");
            for _ in 0..1 + chance.below(8) / 7 {
                files[chance.below(FILES as u64) as usize].push_str(&line);
            }
        }
    }
    files[0].push_str("{\"id\":\"broken\n");
    files
}

#[test]
fn every_table_is_told_by_the_events_alone_however_they_were_cut_into_batches() {
    for seed in SEEDS {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let files = files(&mut chance);
        let whole = House::new(PROJECT, &[]);
        let cut = House::new(PROJECT, &[]);
        let mut order: Vec<usize> = (0..FILES).collect();
        order.sort_by_cached_key(|_| chance.below(100));
        for number in order {
            let path = format!("landing-zone/web-{number}.jsonl");
            whole.write(&path, files[number].as_bytes());
            cut.write(&path, files[number].as_bytes());
            if chance.below(3) > 0 {
                cut.succeed(&["run"]);
            }
            if chance.below(4) == 0 {
                cut.succeed(&["maintain"]);
            }
        }
        let expected = ask_oracle(&whole, TABLES);
        for (house, how) in [(&whole, "in one batch"), (&cut, "in several")] {
            house.succeed(&["run"]);
            println!("seed {seed}, {how}");
            assert_eq!(compare_with(house, &expected), 15);
        }
    }
}

/// Cases of the comparison of lakes; a variable asks for more.
const CASES: u64 = 24;

struct Unseen;

impl Progress for Unseen {
    fn stage(&mut self, _: &str) {}
    fn step(&mut self, _: &str) {}
    fn read(&mut self, _: u64, _: u64) {}
}

/// A project whose lake is in memory, kept as long as its workspace is.
struct Lake {
    folder: tempfile::TempDir,
    workspace: Workspace,
    /// Tables of sums to which was added.
    added_to: Cell<usize>,
}

impl Lake {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project =
            format!("[lake]\nurl = \"memory:///lake\"\n[engine]\nthreads = 2\nrebuild_share = 1.0\n{PROJECT}");
        std::fs::write(folder.path().join("wayline.toml"), project).unwrap();
        std::fs::create_dir(folder.path().join("landing-zone")).unwrap();
        let workspace = Workspace::open(Project::load(folder.path()).unwrap()).unwrap();
        Self { folder, workspace, added_to: Cell::new(0) }
    }

    fn arrive(&self, number: usize, content: &str) {
        std::fs::write(self.folder.path().join(format!("landing-zone/web-{number}.jsonl")), content).unwrap();
    }

    /// Runs once; returns whether models were changed and not built whole.
    async fn run(&self, checks: Scope) -> bool {
        self.run_as(Options { command: "run".into(), land: true, build: true, checks, ..Options::default() }).await
    }

    async fn run_as(&self, options: Options) -> bool {
        let report = run(&self.workspace, options, &mut Unseen).await.unwrap();
        let is_well = matches!(report.status, RunStatus::Success | RunStatus::NothingNew);
        assert!(is_well, "{:?}", report.results.iter().filter(|line| !line.is_well()).collect::<Vec<_>>());
        let was_added_to = report.results.iter().filter(|line| line.message.contains("sums added")).count();
        self.added_to.set(self.added_to.get() + was_added_to);
        report.touched_customers.is_some()
    }

    /// Rows of every table, sorted, and bytes of every published file; batches and what tells of them are left out.
    async fn content(&self) -> BTreeMap<String, Vec<String>> {
        let (_, graph) = register_everything(&self.workspace, None).await.unwrap();
        let is_told_by_batches = |name: &str| ["data_quality", "runs"].contains(&name);
        let mut tables = vec!["identity_map", "identity_customers", "identity_links", "identity_refusals", "events"];
        tables.extend(graph.models.iter().map(|model| model.name.as_str()).filter(|name| !is_told_by_batches(name)));
        let mut content = BTreeMap::new();
        for table in tables {
            let frame = self.workspace.ctx.table(table).await.unwrap();
            let batches = frame.drop_columns(&["batch"]).unwrap().collect().await.unwrap();
            let mut writer = LineDelimitedWriter::new(Vec::new());
            writer.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
            writer.finish().unwrap();
            let text = String::from_utf8(writer.into_inner()).unwrap();
            let mut lines: Vec<String> = text.lines().map(String::from).collect();
            lines.sort_unstable();
            content.insert(table.to_string(), lines);
        }
        for file in self.workspace.lake.list("marts").await.unwrap() {
            let path = self.workspace.lake.relative(&file.location).unwrap();
            let mart = path.split('/').nth(1).unwrap().trim_end_matches(".parquet");
            if !is_told_by_batches(mart) {
                let bytes = self.workspace.lake.get(&path).await.unwrap().unwrap();
                content.insert(path, vec![format!("{:?}", bytes)]);
            }
        }
        content
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_of_many_batches_equals_one_of_a_single_batch_to_the_last_byte() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let first = number("WAYLINE_LAW_SEED", 1);
    let cases = number("WAYLINE_LAW_CASES", CASES);
    let (mut changed, mut added_to) = (0, 0);
    for seed in first..first + cases {
        let mut chance = Chance((seed + 1000).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let files = files(&mut chance);
        let (whole, cut) = (Lake::new(), Lake::new());
        let mut order: Vec<usize> = (0..FILES).collect();
        order.sort_by_cached_key(|_| chance.below(100));
        for number in order {
            whole.arrive(number, &files[number]);
            cut.arrive(number, &files[number]);
            let checks = if chance.below(2) == 0 { Scope::All } else { Scope::Touched };
            let some = |select: Option<&str>| Options {
                land: true,
                build: select.is_some(),
                select: select.map(String::from),
                ..Options::default()
            };
            match chance.below(8) {
                0 | 1 => {}
                2 => assert!(!cut.run_as(some(None)).await),
                // Models of one lake are then of several states.
                3 => changed += u64::from(cut.run_as(some(Some("+journeys"))).await),
                4 => changed += u64::from(cut.run_as(some(Some("+stage_channels"))).await),
                _ => changed += u64::from(cut.run(checks).await),
            }
            // A backfill of whatever window changes nothing that is right.
            if chance.below(3) == 0 {
                let since = 1_735_689_600_000_000 + chance.below(400).cast_signed() * 3_600_000_000;
                let backfill = Window::new(since, since + (1 + chance.below(100).cast_signed()) * 3_600_000_000).ok();
                let select = chance.of(&["", "", "+journeys", "+paths"]);
                let select = Some(select.to_string()).filter(|select| !select.is_empty());
                cut.run_as(Options { build: true, select, backfill, ..Options::default() }).await;
            }
        }
        whole.run(Scope::All).await;
        cut.run(Scope::All).await;
        added_to += cut.added_to.get() as u64;
        let (whole, cut) = (whole.content().await, cut.content().await);
        let names: BTreeSet<&String> = whole.keys().chain(cut.keys()).collect();
        let different: Vec<_> = names.into_iter().filter(|name| cut.get(*name) != whole.get(*name)).collect();
        for name in &different {
            if !name.starts_with("marts/") {
                println!("{name}: {:#?}, expected {:#?}", cut.get(*name), whole.get(*name));
            }
        }
        assert!(different.is_empty(), "{different:?} of WAYLINE_LAW_SEED={seed}");
    }
    println!("{cases} cases, {changed} runs changed what was touched, {added_to} times sums were added to");
    assert!(changed >= cases && added_to >= cases, "hardly any run took the way that is tested");
}
