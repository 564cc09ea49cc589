//! The law of the house, as a test: every table is a function of the set of events, the configuration, the rulings and
//! as-of. Lakes that got the same files in many batches, out of order, with crashes, backfills, rulings and maintenance in
//! between, end as one that got them at once, to the last byte of what is published.
//!
//! Many cases share a lake, see [`cases`]. A failure names the lake by its seed and the cases whose customers differ;
//! `WAYLINE_LAW_SEED=7 WAYLINE_LAW_LAKES=1 WAYLINE_LAW_CASE=3` then tries one of them alone. `WAYLINE_LAW_LAKES` and
//! `WAYLINE_LAW_CASES` ask for more.

mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;

use self::cases::{Cases, Chance, END, FILES, PROJECT, asked, case_in};
use crate::derived::fold::Which;
use crate::derived::window::Window;
use crate::error::Kind as ErrorKind;
use crate::identity::rulings::{self, Ruling};
use crate::lake::faulty::{Fault, Faulty, Operation};
use crate::maintain::{self, maintain};
use crate::models::checks::Scope;
use crate::run::trial::{Content, Trial, Unseen, content_without, differences};
use crate::run::{Options, RunStatus, run};
use crate::workspace::Workspace;

/// Lakes of one test run, and cases in each; every sixth has one case alone.
const LAKES: u64 = 24;
const CASES: u64 = 50;
/// Columns that tell of batches.
const OF_BATCHES: [&str; 2] = ["batch", "replayed_in"];

/// What was done to lakes.
#[derive(Debug, Default)]
struct Ways {
    /// Runs that changed what was touched, and times that sums were added to.
    changed: usize,
    added_to: usize,
    backfills: usize,
    rulings: usize,
    maintained: usize,
    /// Jobs whose store died, and those of them that it ended.
    crashes: usize,
    ended_by_crashes: usize,
}

impl std::ops::AddAssign for Ways {
    fn add_assign(&mut self, other: Self) {
        self.changed += other.changed;
        self.added_to += other.added_to;
        self.backfills += other.backfills;
        self.rulings += other.rulings;
        self.maintained += other.maintained;
        self.crashes += other.crashes;
        self.ended_by_crashes += other.ended_by_crashes;
    }
}

impl Ways {
    /// Whether each was gone so often that it is tested.
    fn are_all_there(&self) -> bool {
        let Self { changed, added_to, backfills, rulings, maintained, crashes, ended_by_crashes } = self;
        [changed, added_to, rulings, crashes, ended_by_crashes].into_iter().all(|times| *times >= 12)
            && [backfills, maintained].into_iter().all(|times| *times >= 6)
    }
}

/// A lake in memory, and the workspace that is at work on it.
struct Lake {
    trial: Trial,
    store: Arc<dyn ObjectStore>,
    workspace: Workspace,
    chance: Chance,
    ways: Ways,
}

/// A job on a lake.
#[derive(Debug, Clone)]
enum Job {
    Run(Options),
    Maintain,
}

impl Lake {
    fn new(project: &str, chance: Chance, threads: u64) -> Self {
        let own = format!("[lake]\nurl = \"memory:///lake\"\n[engine]\nthreads = {threads}\nrebuild_share = 1.0\n");
        let trial = Trial::of(&format!("{own}{project}"));
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let workspace = trial.workspace(&store);
        Self { trial, store, workspace, chance, ways: Ways::default() }
    }

    fn arrive(&self, number: usize, content: &str) {
        self.trial.write(&format!("web-{number}.jsonl"), content);
    }

    async fn rule(&mut self, ruling: &str) {
        let ruling: Ruling = serde_json::from_str(ruling).unwrap();
        rulings::append(&self.workspace.lake, &ruling).await.unwrap();
        self.ways.rulings += 1;
    }

    /// Does a job. One in four meets a store that dies, and may be left to the jobs that follow.
    async fn work(&mut self, job: Job) {
        if self.chance.one_in(4) {
            self.crash(&job).await;
            self.workspace = self.trial.workspace(&self.store);
            if self.chance.one_in(2) {
                return;
            }
        }
        match job {
            Job::Run(options) => self.run(options).await,
            Job::Maintain => {
                maintain(&self.workspace, now()).await.unwrap();
                self.ways.maintained += 1;
            }
        }
    }

    /// Does a job on a store of which no operation after one succeeds.
    async fn crash(&mut self, job: &Job) {
        let (last, done) = (self.chance.below(900), AtomicU64::new(0));
        let fault = self.chance.of(&[Fault::Before, Fault::After, Fault::Torn]);
        let has_died = Arc::new(AtomicU64::new(0));
        let died = has_died.clone();
        let dying = Faulty::wrap(self.store.clone(), move |_: &Operation| {
            let number = done.fetch_add(1, Ordering::Relaxed);
            (number >= last).then(|| {
                died.store(1, Ordering::Relaxed);
                if number == last { fault } else { Fault::Before }
            })
        });
        let workspace = self.trial.workspace(&dying);
        let ended = match job.clone() {
            Job::Run(options) => run(&workspace, options, &mut Unseen).await.map(|report| report.status),
            Job::Maintain => maintain(&workspace, now()).await.map(|_| RunStatus::Success),
        };
        self.ways.crashes += has_died.load(Ordering::Relaxed) as usize;
        match ended {
            Ok(RunStatus::Success | RunStatus::NothingNew) => self.expect_done(job).await,
            Ok(_) => self.ways.ended_by_crashes += 1,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict), "{error:?}");
                self.ways.ended_by_crashes += 1;
            }
        }
    }

    /// A job that said that it was done left nothing to do. A backfill is asked for anew, and maintenance finds its own report.
    async fn expect_done(&self, job: &Job) {
        let Job::Run(options) = job else { return };
        if options.backfill.is_none() {
            let report = run(&self.trial.workspace(&self.store), options.clone(), &mut Unseen).await.unwrap();
            assert_eq!(report.status, RunStatus::NothingNew, "after a success: {:?}", report.results);
        }
    }

    async fn run(&mut self, options: Options) {
        self.ways.backfills += usize::from(options.backfill.is_some());
        let report = run(&self.workspace, options, &mut Unseen).await.unwrap();
        let is_well = matches!(report.status, RunStatus::Success | RunStatus::NothingNew);
        assert!(is_well, "{:?}", report.results.iter().filter(|line| !line.is_well()).collect::<Vec<_>>());
        self.ways.changed += usize::from(report.touched_customers.is_some());
        self.ways.added_to += report.results.iter().filter(|line| line.message.contains("sums added")).count();
    }

    /// What is done when a file has arrived, or not.
    fn chosen(&mut self) -> Option<Options> {
        let checks = self.chance.of(&[Scope::All, Scope::Touched]);
        let some = |select: Option<&str>| {
            let select = select.map(String::from);
            Some(Options { land: true, build: select.is_some(), select, checks, ..Options::default() })
        };
        match self.chance.below(8) {
            0 | 1 => None,
            2 => some(None),
            // Models of one lake are then of several states.
            3 => some(Some("+journeys")),
            4 => some(Some("+stage_channels")),
            _ => Some(whole_run(checks)),
        }
    }

    /// Makes some window anew, which changes nothing that is right.
    fn backfill(&mut self) -> Options {
        const HOUR: i64 = 3_600_000_000;
        let since = END.cast_signed() + (self.chance.below(2400).cast_signed() - 2000) * HOUR;
        let until = since + (1 + self.chance.below(300).cast_signed()) * HOUR;
        let select = self.chance.of(&[None, None, Some("+journeys"), Some("+paths")]).map(String::from);
        Options { build: true, select, backfill: Window::new(since, until).ok(), ..Options::default() }
    }

    async fn content(&self) -> Content {
        content_without(&self.workspace, &OF_BATCHES).await.unwrap()
    }
}

fn whole_run(checks: Scope) -> Options {
    Options { command: "run".into(), land: true, build: true, checks, ..Options::default() }
}

/// Maintenance that keeps nothing of what was replaced.
fn now() -> maintain::Options {
    maintain::Options { dry_run: false, retain: Duration::ZERO, fold: Which::All }
}

/// A lake that gets everything at once.
async fn in_one_batch(seed: u64, files: &[String], rulings: &[(usize, String)]) -> Content {
    let mut lake = Lake::new(PROJECT, Chance::new(seed, u64::MAX - 2), 2);
    for (number, file) in files.iter().enumerate() {
        lake.arrive(number, file);
    }
    for (_, ruling) in rulings {
        lake.rule(ruling).await;
    }
    lake.run(whole_run(Scope::All)).await;
    lake.content().await
}

/// A lake that gets the same bit by bit.
async fn in_many_batches(seed: u64, files: &[String], rulings: &[(usize, String)]) -> (Content, Ways) {
    let mut chance = Chance::new(seed, u64::MAX - 3);
    let threads = 1 + chance.below(3);
    let mut lake = Lake::new(PROJECT, chance, threads);
    let mut order: Vec<usize> = (0..FILES).collect();
    order.sort_by_cached_key(|_| lake.chance.below(100));
    for there in 0..=FILES {
        for (_, ruling) in rulings.iter().filter(|(after, _)| *after == there) {
            lake.rule(ruling).await;
        }
        if let Some(number) = order.get(there) {
            lake.arrive(*number, &files[*number]);
        }
        if let Some(options) = lake.chosen() {
            lake.work(Job::Run(options)).await;
        }
        if lake.chance.one_in(4) {
            let options = lake.backfill();
            lake.work(Job::Run(options)).await;
        }
        if lake.chance.one_in(6) {
            lake.work(Job::Maintain).await;
        }
    }
    lake.run(whole_run(Scope::All)).await;
    (lake.content().await, lake.ways)
}

/// Where two lakes differ, in rows and in cases.
fn told(found: &Content, expected: &Content) -> String {
    let mut told = String::new();
    let mut cases = BTreeSet::new();
    let owners = owners([found, expected]);
    for name in differences(found, expected) {
        let [found, expected] = [found, expected].map(|content| rows(content, &name));
        let [surplus, missing] = [found.difference(&expected), expected.difference(&found)].map(|rows| rows.copied());
        let (surplus, missing): (Vec<&str>, Vec<&str>) = (surplus.collect(), missing.collect());
        let of_cases = surplus.iter().chain(&missing).flat_map(|row| cases_of(row, &owners));
        cases.extend(of_cases);
        told.push_str(&format!("{name}: {} rows too many {:#?}", surplus.len(), &surplus[..surplus.len().min(3)]));
        told.push_str(&format!(", {} missing {:#?}\n", missing.len(), &missing[..missing.len().min(3)]));
    }
    format!("{told}cases {cases:?}")
}

fn rows<'a>(content: &'a Content, name: &str) -> BTreeSet<&'a str> {
    content.get(name).map(|text| text.lines().collect()).unwrap_or_default()
}

/// Case of each customer.
fn owners(contents: [&Content; 2]) -> BTreeMap<String, u64> {
    let rows = contents.into_iter().flat_map(|content| content.values().flat_map(|text| text.lines()));
    rows.filter_map(|row| Some((customer_in(row)?, case_in(row)?))).collect()
}

fn customer_in(row: &str) -> Option<String> {
    Some(row.split_once(r#""customer_id":""#)?.1.split('"').next()?.to_string())
}

fn cases_of(row: &str, owners: &BTreeMap<String, u64>) -> Option<u64> {
    case_in(row).or_else(|| owners.get(&customer_in(row)?).copied())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_of_many_batches_ends_as_one_of_a_single_batch_to_the_last_byte() {
    let first = asked("WAYLINE_LAW_SEED").unwrap_or(1);
    let lakes = asked("WAYLINE_LAW_LAKES").unwrap_or(LAKES);
    let cases_each = asked("WAYLINE_LAW_CASES").unwrap_or(CASES);
    let (mut tried, mut all) = (0, Ways::default());
    for seed in first..first + lakes {
        let cases = Cases::new(seed, if seed % 6 == 1 { 1 } else { cases_each });
        let (files, rulings) = (cases.files(), cases.rulings());
        let expected = in_one_batch(seed, &files, &rulings).await;
        let (found, ways) = in_many_batches(seed, &files, &rulings).await;
        assert!(found == expected, "lake WAYLINE_LAW_SEED={seed}, {ways:?}:\n{}", told(&found, &expected));
        tried += cases.count();
        all += ways;
        println!("{tried} cases in {} lakes: {all:?}, 0 differ", seed + 1 - first);
    }
    assert!(lakes < LAKES || all.are_all_there(), "hardly any run took a way that is tested: {all:?}");
}

/// Promise P06: an event of another age closes no session, ages no journey, and makes nobody late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_in_the_far_future_adds_rows_of_its_own_and_changes_no_other() {
    const EVENT: &str = r#"{"id":"eon-1","ts":"2099-01-01T00:00:00Z","received":"2025-03-31T00:00:00Z","event":"eon","channel":"eon","user_no":"eon"}"#;
    // Steps that any touchpoint meets would count it among those who enter.
    let without_any = |text: &str| text.replace(r#"["*", "web:view"]"#, r#"["home", "web:view"]"#);
    for seed in 1..=3 {
        let cases = Cases::new(seed, 10);
        let mut contents = Vec::new();
        for event in ["", EVENT] {
            let mut lake = Lake::new(&without_any(PROJECT), Chance::new(seed, 0), 2);
            for (number, file) in cases.files().iter().enumerate() {
                lake.arrive(number, &if number == 1 { format!("{file}{event}\n") } else { file.clone() });
                lake.run(whole_run(Scope::All)).await;
            }
            contents.push(lake.content().await);
        }
        let mut added = 0;
        for name in differences(&contents[0], &contents[1]).iter().filter(|name| !name.contains(' ')) {
            let [without, with] = [&contents[0], &contents[1]].map(|content| rows(content, name));
            if name.starts_with("marts/") {
                continue;
            }
            let gone: Vec<_> = without.difference(&with).collect();
            assert!(gone.is_empty(), "seed {seed}, {name}: {gone:#?}");
            added += with.len() - without.len();
        }
        let days = contents[1].keys().filter(|name| name.contains("=2099-01-01/")).count();
        println!("seed {seed}: {added} rows of its own, {days} files of its day, 0 others changed");
        assert!(added > 5 && days > 0);
        for (path, told) in contents[0].iter().filter(|(path, _)| path.contains('=')) {
            assert_eq!(contents[1].get(path), Some(told), "seed {seed}, {path}");
        }
    }
}
