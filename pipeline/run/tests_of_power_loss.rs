//! The power goes while a run writes to the local disk: what was acknowledged is there, and the next run ends where an
//! undisturbed one does.
//!
//! `WAYLINE_CRASHES` tells how many losses of power are tried.

use std::collections::HashMap;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use tempfile::TempDir;

use super::trial::{Content, Trial, block_on, content, differences, end_well, run_once, spread};
use crate::lake::durable::Durable;
use crate::lake::faulty::{Fault, Faulty, Kind, Operation, Plan, whole};
use crate::lake::power_loss::FailingDisk;

const CRASHES: u64 = 16;

/// What each object may be that a store has acknowledged: its content, and what a later operation without an answer
/// would make of it. `None` stands for no object.
#[derive(Debug, Clone, Default)]
struct Acknowledged(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    firm: HashMap<Path, Vec<Option<Bytes>>>,
    /// Parquet files, which count when what comes after them is acknowledged.
    waiting: HashMap<Path, Bytes>,
    /// What will be firm with an object that is on its way.
    carried: HashMap<Path, HashMap<Path, Bytes>>,
    /// Contents that are on their way to another name.
    moving: HashMap<Path, Bytes>,
}

impl Known {
    fn content(&self, path: &Path) -> Option<Bytes> {
        self.waiting.get(path).cloned().or_else(|| self.firm.get(path)?.first()?.clone())
    }

    fn may_be(&mut self, path: &Path, content: Option<Bytes>) {
        if let Some(may) = self.firm.get_mut(path) {
            may.push(content);
        }
    }
}

impl Plan for Acknowledged {
    fn begin(&self, operation: &Operation) -> Option<Fault> {
        let mut known = self.0.lock().unwrap();
        if let Some(from) = operation.from {
            let moved = known.content(from);
            if operation.kind == Kind::Rename {
                known.may_be(from, None);
                // Whether it went is not known.
                known.waiting.remove(from);
            }
            known.may_be(operation.path, moved.clone());
            known.moving.extend(moved.map(|moved| (operation.path.clone(), moved)));
        }
        match operation.kind {
            Kind::Put | Kind::Create => {
                known.may_be(operation.path, operation.content.map(whole));
                if !is_parquet(operation.path) {
                    let carried = known.waiting.clone();
                    known.carried.insert(operation.path.clone(), carried);
                }
            }
            // A deletion is not synced.
            Kind::Delete => {
                known.may_be(operation.path, None);
                known.waiting.remove(operation.path);
            }
            Kind::Copy | Kind::Rename | Kind::Get | Kind::List => {}
        }
        None
    }

    fn acknowledge(&self, operation: &Operation) {
        let mut known = self.0.lock().unwrap();
        let now = operation.content.map(whole).or_else(|| known.moving.remove(operation.path));
        match now {
            Some(now) if is_parquet(operation.path) => drop(known.waiting.insert(operation.path.clone(), now)),
            Some(now) => {
                known.firm.insert(operation.path.clone(), vec![Some(now)]);
                for (path, content) in known.carried.remove(operation.path).unwrap_or_default() {
                    // What was removed or replaced meanwhile is another thing.
                    if known.waiting.get(&path) == Some(&content) {
                        known.waiting.remove(&path);
                        known.firm.insert(path, vec![Some(content)]);
                    }
                }
            }
            None => {}
        }
    }
}

fn is_parquet(path: &Path) -> bool {
    path.as_ref().ends_with(".parquet")
}

impl Acknowledged {
    /// The objects that are not what they may be; from now on each is what it is.
    fn lost(&self) -> Vec<String> {
        let mut lost = Vec::new();
        let mut known = self.0.lock().unwrap();
        *known = Known { firm: std::mem::take(&mut known.firm), ..Known::default() };
        known.firm.retain(|path, may| {
            let found = std::fs::read(FilePath::new("/").join(path.as_ref())).ok().map(Bytes::from);
            if !may.contains(&found) {
                lost.push(format!("{path}: {:?} bytes", found.as_ref().map(Bytes::len)));
            }
            let is_there = found.is_some();
            *may = vec![found];
            is_there
        });
        lost
    }
}

fn store(disk: &Arc<FailingDisk>, acknowledged: &Acknowledged) -> Arc<dyn ObjectStore> {
    Faulty::wrap(Arc::new(Durable::new(disk.clone())), acknowledged.clone())
}

/// A lake before a run, what it must hold after, and how many operations of the disk that takes.
struct Stage {
    trial: Trial,
    before: TempDir,
    expected: Content,
    operations: usize,
}

impl Stage {
    fn new(trial: Trial, before: TempDir) -> Self {
        let after = copy(before.path());
        let disk = Arc::new(FailingDisk::new(None));
        let workspace = trial.workspace_in(after.path(), &store(&disk, &Acknowledged::default()));
        let expected = block_on(end_well(&workspace)).unwrap();
        Self { trial, before, expected, operations: disk.operations() }
    }

    fn both() -> [Self; 2] {
        let before = tempfile::tempdir().unwrap();
        let later = Trial::new(false);
        let disk = Arc::new(FailingDisk::new(None));
        block_on(end_well(&later.workspace_in(before.path(), &store(&disk, &Acknowledged::default())))).unwrap();
        later.arrive();
        [Self::new(Trial::new(false), tempfile::tempdir().unwrap()), Self::new(later, before)]
    }
}

fn copy(folder: &FilePath) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(from) = folders.pop() {
        let to = copy.path().join(from.strip_prefix(folder).unwrap());
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(&from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    copy
}

/// What losses of power came to.
#[derive(Debug, Default)]
struct Tally {
    crashes: usize,
    /// Names that were not after a crash what a reader saw before it.
    taken_back: usize,
    acknowledged: usize,
    lost: Vec<String>,
    wrong: Vec<String>,
}

/// Lets the power go at operations told by seeds until there were so many losses.
fn crash(times: u64, disk_of: fn(Option<usize>) -> FailingDisk) -> Tally {
    let stages = Stage::both();
    let mut tally = Tally::default();
    for seed in 1.. {
        if tally.crashes as u64 >= times {
            break;
        }
        let stage = &stages[seed as usize % 2];
        let lake = copy(stage.before.path());
        let acknowledged = Acknowledged::default();
        let mut draws = 0;
        let mut chance = |below: usize| {
            draws += 1;
            spread(seed, draws) as usize % below.max(1)
        };
        // A second loss may come while the first is made good.
        for _ in 0..1 + chance(3) / 2 {
            let fails_at = 1 + chance(stage.operations * 21 / 20);
            let disk = Arc::new(disk_of(Some(fails_at)));
            let has_ended = block_on(async {
                let workspace = stage.trial.workspace_in(lake.path(), &store(&disk, &acknowledged));
                tokio::select! {
                    biased;
                    () = disk.is_off.notified() => false,
                    ended = run_once(&workspace) => ended.is_ok(),
                }
            });
            tally.taken_back += disk.lose_power(&mut chance);
            tally.crashes += 1;
            tally.acknowledged += acknowledged.0.lock().unwrap().firm.len();
            tally.lost.extend(acknowledged.lost().into_iter().map(|lost| format!("seed {seed}: {lost}")));
            if has_ended {
                // What the run said it did is done, without another one.
                let sound = Arc::new(FailingDisk::new(None));
                let workspace = stage.trial.workspace_in(lake.path(), &store(&sound, &acknowledged));
                match block_on(content(&workspace)) {
                    Ok(found) => tally.wrong.extend(differs(&format!("seed {seed}, ended run"), &found, stage)),
                    Err(error) => tally.wrong.push(format!("seed {seed}, ended run: {error}")),
                }
            }
        }
        let sound = Arc::new(FailingDisk::new(None));
        let workspace = stage.trial.workspace_in(lake.path(), &store(&sound, &acknowledged));
        match block_on(end_well(&workspace)) {
            Ok(found) => tally.wrong.extend(differs(&format!("seed {seed}"), &found, stage)),
            Err(error) => tally.wrong.push(format!("seed {seed}: does not end well: {error}")),
        }
    }
    tally
}

fn differs(place: &str, found: &Content, stage: &Stage) -> Option<String> {
    let names = differences(found, &stage.expected);
    (!names.is_empty()).then(|| format!("{place}: {} differ", names.join(", ")))
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power_and_the_next_run_ends_as_undisturbed() {
    let times = std::env::var("WAYLINE_CRASHES").ok().and_then(|times| times.parse().ok()).unwrap_or(CRASHES);
    let tally = crash(times, FailingDisk::new);
    println!(
        "{} crashes, {} names taken back, {} acknowledged objects looked at, {} lost, {} wrong",
        tally.crashes,
        tally.taken_back,
        tally.acknowledged,
        tally.lost.len(),
        tally.wrong.len()
    );
    assert!(tally.lost.is_empty() && tally.wrong.is_empty(), "{}\n{}", tally.lost.join("\n"), tally.wrong.join("\n"));
    assert!(tally.taken_back > 0, "some of what was not synced is lost, else nothing is proved");
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let tally = crash(3, FailingDisk::lying);
    assert!(!tally.lost.is_empty(), "{tally:?}");
}
