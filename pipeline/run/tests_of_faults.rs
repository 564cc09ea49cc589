//! A whole run on a store that fails, at each operation once and at random: run again, it ends where an undisturbed one
//! does.
//!
//! A test takes a sample of the operations; `WAYLINE_FAULTS=all` makes it take each, which takes an hour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::RunStatus;
use super::trial::{Content, Trial, backfill, block_on, differences, end_well, run_once, spread};
use crate::error::Kind as ErrorKind;
use crate::lake::faulty::{Fault, Faulty, Kind, Operation};

/// Of so many operations one is tried, unless all are. Prime, so that it falls in step with nothing.
const SAMPLE: usize = 53;
/// The same of those that make an object, which are few.
const SAMPLE_OF_NEW: usize = 11;

/// A lake before a run, and what it must hold after.
struct Stage {
    name: &'static str,
    trial: Arc<Trial>,
    before: InMemory,
    is_backfill: bool,
    expected: Content,
}

impl Stage {
    /// The first run on an empty lake, the second, on one batch more, and a backfill behind both.
    fn all() -> [Self; 3] {
        let empty = InMemory::new();
        let trial = Trial::new(false);
        let (first, expected) = undisturbed(&trial, &empty);
        let later = Trial::new(false);
        let before = undisturbed(&later, &empty).0;
        later.arrive();
        let (second, expected_later) = undisturbed(&later, &before);
        let (trial, later) = (Arc::new(trial), Arc::new(later));
        assert_eq!(expected["events"].lines().count(), 3);
        assert_eq!(expected_later["events"].lines().count(), 5);
        assert_eq!(expected_later["batches"].lines().count(), 2);
        assert!(expected.keys().filter(|name| name.starts_with("marts/")).count() > 10);
        assert!(differences(&undisturbed(&trial, &first).1, &expected).is_empty(), "a second run changes nothing");
        [
            Self { name: "first run", trial, before: empty, is_backfill: false, expected },
            Self {
                name: "second run",
                trial: later.clone(),
                before,
                is_backfill: false,
                expected: expected_later.clone(),
            },
            Self { name: "backfill", trial: later, before: second, is_backfill: true, expected: expected_later },
        ]
    }

    /// Runs on a store that fails as planned, then on the sound one. Returns how the failing run ended, and what is
    /// wrong in the end.
    fn run(&self, plan: impl Fn(&Operation) -> Option<Fault> + Send + Sync + Clone + 'static, times: usize) -> Ended {
        let store: Arc<dyn ObjectStore> = Arc::new(self.before.fork());
        let mut ended = Ended::default();
        for _ in 0..times {
            let faulty = Faulty::wrap(store.clone(), plan.clone());
            let workspace = self.trial.workspace(&faulty);
            let outcome = match self.is_backfill {
                true => block_on(backfill(&workspace)),
                false => block_on(run_once(&workspace)),
            };
            ended.ways.push(match outcome {
                Ok(report) if report.status == RunStatus::Failed => {
                    let lasting = report.results.iter().find(|line| !line.is_well() && !line.is_temporary);
                    let lasting = lasting.filter(|line| line.status != crate::models::Status::Skipped);
                    ended.wrong.extend(lasting.map(|line| format!("not temporary: {}", line.message)));
                    "steps failed".into()
                }
                Ok(_) => "ended well".into(),
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict) {
                        ended.wrong.push(format!("not temporary: {:?}: {error}", error.kind()));
                    }
                    format!("{:?}", error.kind())
                }
            });
        }
        match block_on(async { end_well(&self.trial.workspace(&store)).await }) {
            Ok(found) => {
                ended
                    .wrong
                    .extend(differences(&found, &self.expected).into_iter().map(|name| format!("{name} differs")));
            }
            Err(error) => ended.wrong.push(format!("does not end well: {error}")),
        }
        ended
    }
}

#[derive(Default)]
struct Ended {
    ways: Vec<String>,
    wrong: Vec<String>,
}

/// Runs on a copy of a store; returns the copy and what it then holds.
fn undisturbed(trial: &Trial, before: &InMemory) -> (InMemory, Content) {
    let store = Arc::new(before.fork());
    let shared: Arc<dyn ObjectStore> = store.clone();
    let content = block_on(async { end_well(&trial.workspace(&shared)).await }).unwrap();
    (store.fork(), content)
}

/// Whether every operation is tried.
fn takes_all() -> bool {
    std::env::var("WAYLINE_FAULTS").is_ok_and(|value| value == "all")
}

/// Lets the operations for which a fault is meant fail, one in each run, until a run needs none.
fn sweep(fault: Fault, sample: usize, is_meant: fn(Kind) -> bool) {
    let stride = if takes_all() { 1 } else { sample };
    let mut wrong = Vec::new();
    for stage in Stage::all() {
        let mut ways: BTreeMap<String, usize> = BTreeMap::new();
        // A backfill makes but a few objects.
        let mut number = (stride / 2).min(2);
        let tried = loop {
            let (passed, is_met) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
            let met = is_met.clone();
            let plan = move |operation: &Operation| {
                let is_it = is_meant(operation.kind) && passed.fetch_add(1, Ordering::Relaxed) == number;
                is_it.then(|| met.store(true, Ordering::Relaxed)).map(|()| fault)
            };
            let ended = stage.run(plan, 1);
            if !is_met.load(Ordering::Relaxed) {
                assert!(!ways.is_empty() && number < 5_000, "some operations are tried, and not for ever");
                break number;
            }
            ended.ways.into_iter().for_each(|way| *ways.entry(way).or_default() += 1);
            let place = format!("{fault:?} at operation {number} of the {}", stage.name);
            wrong.extend(ended.wrong.into_iter().map(|wrong| format!("{place}: {wrong}")));
            number += stride;
        };
        println!("{fault:?}, {}: {tried} operations, every {stride}: {ways:?}, {} wrong", stage.name, wrong.len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn any(_: Kind) -> bool {
    true
}

#[test]
fn an_operation_that_fails_once_costs_a_run_and_nothing_else() {
    sweep(Fault::Before, SAMPLE, any);
}

#[test]
fn a_change_whose_answer_is_lost_costs_a_run_and_nothing_else() {
    sweep(Fault::After, SAMPLE, Kind::is_change);
}

#[test]
fn a_change_whose_answer_comes_too_late_costs_a_run_and_nothing_else() {
    sweep(Fault::TimedOut, SAMPLE, Kind::is_change);
}

#[test]
fn what_breaks_off_halfway_costs_a_run_and_nothing_else() {
    sweep(Fault::Torn, SAMPLE, |kind| matches!(kind, Kind::Put | Kind::Create | Kind::Get));
}

#[test]
fn a_name_that_is_said_to_be_taken_costs_a_run_and_nothing_else() {
    sweep(Fault::Exists, SAMPLE_OF_NEW, |kind| kind == Kind::Create);
}

#[test]
fn a_name_that_the_first_try_took_costs_a_run_and_nothing_else() {
    sweep(Fault::DoneAndExists, SAMPLE_OF_NEW, |kind| kind == Kind::Create);
}

#[test]
fn runs_on_a_store_that_fails_at_random_end_where_an_undisturbed_one_does() {
    const FAULTS: [Fault; 5] = [Fault::Before, Fault::After, Fault::TimedOut, Fault::Torn, Fault::DoneAndExists];
    let seeds = if takes_all() { 100 } else { 1 };
    let mut wrong = Vec::new();
    let stages = Stage::all();
    for per_cent in [1, 5, 20] {
        let (operations, faults) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut ways: BTreeMap<String, usize> = BTreeMap::new();
        for seed in 1..=seeds {
            let stage = &stages[seed % stages.len()];
            let (operations, faults) = (operations.clone(), faults.clone());
            let plan = move |operation: &Operation| {
                let number = operations.fetch_add(1, Ordering::Relaxed) as u64;
                let chance = spread(seed as u64 * 100 + per_cent, number);
                let fault = FAULTS[(chance >> 32) as usize % FAULTS.len()];
                let is_possible = operation.kind == Kind::Create || fault != Fault::DoneAndExists;
                (chance % 100 < per_cent && is_possible).then(|| {
                    faults.fetch_add(1, Ordering::Relaxed);
                    fault
                })
            };
            let ended = stage.run(plan, 6);
            ended.ways.into_iter().for_each(|way| *ways.entry(way).or_default() += 1);
            let place = format!("{per_cent} % of faults, seed {seed}, {}", stage.name);
            wrong.extend(ended.wrong.into_iter().map(|wrong| format!("{place}: {wrong}")));
        }
        println!("{per_cent} %: {operations:?} operations, {faults:?} faults, {ways:?}, {} wrong", wrong.len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_store_without_room_stops_a_run_for_a_time_and_breaks_nothing() {
    let quotas = if takes_all() { 60 } else { 4 };
    let mut wrong = Vec::new();
    for stage in Stage::all() {
        let used = Arc::new(AtomicUsize::new(0));
        let use_of = |used: &Arc<AtomicUsize>, quota: usize| {
            let used = used.clone();
            move |operation: &Operation| {
                let bytes = operation.content.map_or(0, |content| content.content_length());
                // As on a disk: what is refused takes no room, and something smaller may still find some.
                let fits = |used: usize| (used + bytes <= quota).then_some(used + bytes);
                let is_full = bytes > 0 && used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err();
                is_full.then_some(Fault::Full)
            }
        };
        stage.run(use_of(&used, usize::MAX), 1);
        let all = used.load(Ordering::Relaxed);
        let mut ways: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..quotas {
            let quota = all * number / quotas;
            let ended = stage.run(use_of(&Arc::default(), quota), 1);
            assert!(!ended.ways.contains(&"ended well".to_string()), "{quota} of {all} bytes are not enough");
            ended.ways.into_iter().for_each(|way| *ways.entry(way).or_default() += 1);
            let place = format!("{quota} of {all} bytes, {}", stage.name);
            wrong.extend(ended.wrong.into_iter().map(|wrong| format!("{place}: {wrong}")));
        }
        println!("room for 0 to {all} bytes, {}: {quotas} sizes, {ways:?}, {} wrong", stage.name, wrong.len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
