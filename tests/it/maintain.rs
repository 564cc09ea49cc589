//! Maintenance keeps files and logs bounded and answers as they are, wherever it is killed; fsck finds damage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use wayline::config::Project;
use wayline::landing::{Landed, land};
use wayline::maintain::fsck::fsck;
use wayline::workspace::Workspace;

use crate::arrivals;
use crate::exactly_once::PROJECT;
use crate::fail_points::MAINTENANCE;
use crate::house::House;

/// Two events and every fifth time a dead letter.
fn content(batch: usize) -> String {
    let day = 1 + batch % 3;
    let event = |name: &str, at: usize| {
        let time = format!("2025-01-0{day}T{:02}:{:02}:{:02}Z", batch / 360 % 24, batch / 6 % 60, at % 60);
        format!("{{\"id\":\"{name}{batch}\",\"ts\":\"{time}\",\"event\":\"{name}\",\"customer\":\"u{}\"}}\n", batch % 7)
    };
    let refused = if batch.is_multiple_of(5) { "{\"ts\":\"never\"}\n" } else { "" };
    format!("{}{}{refused}", event("view", batch * 10), event("purchase", batch * 10 + 5))
}

/// Lands batches one after another, as so many runs would.
fn land_batches(house: &House, batches: std::ops::RangeInclusive<usize>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let workspace = Workspace::open(Project::load(house.path()).unwrap()).unwrap();
    for batch in batches {
        house.write(&format!("landing-zone/{batch:06}.jsonl"), content(batch).as_bytes());
        let mut landed = Landed::default();
        runtime.block_on(land(&workspace, &mut landed, &mut |_, _| {})).unwrap();
        assert_eq!(landed.batches, [batch as i64]);
    }
}

fn house_of(batches: usize) -> House {
    let house = House::new(PROJECT, &[]);
    land_batches(&house, 1..=batches);
    house
}

fn answers(house: &House) -> Vec<Vec<String>> {
    vec![
        house.sql("select * from events order by event_id"),
        house.sql("select * from dead_letters order by batch, origin"),
        house.sql("select * from batches order by batch"),
    ]
}

fn report(house: &House, arguments: &[&str]) -> Value {
    serde_json::from_str(house.succeed(&[arguments, &["--json"]].concat()).lines().last().unwrap()).unwrap()
}

fn findings(house: &House) -> Vec<String> {
    let output = house.wayline(&["fsck", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    let found: Vec<String> = report["findings"].as_array().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(output.status.code(), Some(i32::from(!found.is_empty())), "{report}");
    found
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            let modified = entry.metadata().unwrap().modified().unwrap();
            std::fs::File::options().append(true).open(target).unwrap().set_modified(modified).unwrap();
        }
    }
}

fn copy_of(house: &House) -> House {
    let copy = House::new(PROJECT, &[]);
    copy_all(house.path(), copy.path());
    copy
}

fn count(house: &House, folder: &str, ending: &str) -> usize {
    let folder = house.path().join("lake").join(folder);
    house
        .lake_files()
        .iter()
        .filter(|file| file.0.starts_with(&folder) && file.0.to_string_lossy().ends_with(ending))
        .count()
}

#[test]
fn many_small_batches_become_few_files_that_read_the_same() {
    let house = house_of(130);
    let before = answers(&house);
    assert_eq!(before[0].len(), 260);
    assert_eq!(before[1].len(), 26);
    assert!(findings(&house).is_empty());

    let files = house.lake_files();
    let planned = report(&house, &["maintain", "--dry-run", "--retain", "0s"]);
    assert_eq!(house.lake_files(), files, "a dry run writes nothing");
    assert_eq!(planned["tables"]["landing/events"]["compacted"]["files"], 130);
    assert_eq!(planned["ledger"]["entries"], 130);

    // Whoever holds a version of the last days goes on reading it.
    let done = report(&house, &["maintain"]);
    let events = &done["tables"]["landing/events"];
    assert_eq!(events["compacted"]["files"], 130);
    assert_eq!(events["after"]["files"], 3, "one for each day");
    assert_eq!(events["after"]["rows"], events["before"]["rows"]);
    assert_eq!(events["vacuumed"]["files"], 0);
    assert_eq!(events["after"]["since_checkpoint"], 0);
    assert_eq!(done["tables"]["landing/dead_letters"]["after"]["files"], 1);
    assert_eq!(count(&house, "landing/events", ".parquet"), 130 + 3 + 1);
    assert_eq!(answers(&house), before);
    assert!(findings(&house).is_empty(), "{:?}", findings(&house));

    let done = report(&house, &["maintain", "--retain", "0s"]);
    assert_eq!(done["tables"]["landing/events"]["vacuumed"]["files"], 130);
    assert_eq!(done["tables"]["landing/events"]["after"]["commits"], 1);
    assert_eq!(count(&house, "landing/events", ".parquet"), 3 + 1, "one of them the checkpoint");
    assert_eq!(count(&house, "landing/batches", ".json"), 1);
    assert_eq!(answers(&house), before);
    assert!(findings(&house).is_empty(), "{:?}", findings(&house));

    // Rows lie in the order that reads want, and files tell which batches they hold.
    let rows = house.sql("select event_id from events where occurred_date = '2025-01-02'");
    let sorted =
        house.sql("select event_id from events where occurred_date = '2025-01-02' order by occurred_at, event_id");
    assert_eq!(rows, sorted);
    let log = house.path().join("lake/landing/events/_delta_log");
    let commit = std::fs::read_to_string(log.join("00000000000000000130.json")).unwrap();
    assert_eq!(commit.matches("\\\"minValues\\\":{\\\"batch\\\":").count(), 3, "{commit}");
    assert!(!commit.contains("\"dataChange\":true"), "{commit}");

    // The transaction of landing is in the checkpoint: nothing lands twice, and the next batch is the next.
    house.succeed(&["land"]);
    assert_eq!(answers(&house), before);
    land_batches(&house, 131..=133);
    assert_eq!(house.sql("select count(*), count(distinct event_id), max(batch) from events"), ["266,266,133"]);
    assert!(findings(&house).is_empty(), "{:?}", findings(&house));

    let files = house.lake_files();
    let done = report(&house, &["maintain"]);
    assert_eq!(done["tables"]["landing/events"]["compacted"]["files"], 0, "few new files do not pay");
    assert_eq!(house.lake_files(), files);
}

#[test]
fn killed_at_any_step_maintenance_is_ended_by_the_next() {
    let original = house_of(110);
    original.succeed(&["build"]);
    land_batches(&original, 111..=111);
    original.succeed(&["build"]);
    let expected = answers(&original);
    let marts = original.sql("select * from journeys order by journey_id");
    let maintain = ["maintain", "--retain", "0s"];
    let undisturbed = copy_of(&original);
    undisturbed.succeed(&maintain);
    let shape = |house: &House| {
        let files = house.lake_files();
        let mut folders: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for (path, _, _) in files {
            let path = path.strip_prefix(house.path()).unwrap().parent().unwrap().to_path_buf();
            // A table is folded into as many files as there are threads with rows for it.
            let is_derived = path.starts_with("lake/models") || path.starts_with("lake/identity");
            if is_derived && !path.ends_with("_delta_log") {
                continue;
            }
            *folders.entry(path).or_default() += 1;
        }
        folders
    };
    let mut kills = 0;
    for (failpoint, times) in MAINTENANCE {
        for time in times {
            let house = copy_of(&original);
            house.die_at_time(failpoint, *time, &maintain);
            assert_eq!(answers(&house), expected, "after kill {time} at {failpoint}");
            // A run between the two finds nothing to do.
            house.succeed(&["land"]);
            house.succeed(&maintain);
            assert_eq!(answers(&house), expected, "after kill {time} at {failpoint} and a second job");
            assert_eq!(house.sql("select * from journeys order by journey_id"), marts);
            assert_eq!(shape(&house), shape(&undisturbed), "after kill {time} at {failpoint}");
            assert!(findings(&house).is_empty(), "{:?}", findings(&house));
            kills += 1;
        }
    }
    println!("{kills} kills, all tables equal after each");
}

#[test]
fn what_runs_cut_short_left_behind_is_swept_when_it_is_old() {
    let house = house_of(2);
    house.write("landing-zone/next.jsonl", content(3).as_bytes());
    house.die_at("land.part.close", &["land"]);
    house.write("lake/landing/events/_delta_log/00000000000000000009.json#1", b"x");
    house.write("lake/staging/part.parquet", b"x");
    house.write("lake/models/never_built/part-0.parquet", b"x");
    let orphans = count(&house, "landing/events", ".parquet");
    house.succeed(&["maintain"]);
    assert_eq!(count(&house, "landing/events", ".parquet"), orphans, "younger than the retention");
    assert_eq!(count(&house, "", "#1"), 1);
    let done = report(&house, &["maintain", "--retain", "0s"]);
    assert_eq!(done["tables"]["landing/events"]["vacuumed"]["files"], 1);
    assert_eq!(done["tables"]["models/never_built"]["vacuumed"]["files"], 1);
    assert_eq!((&done["staged"]["files"], &done["debris"]["files"]), (&1.into(), &1.into()));
    assert_eq!(count(&house, "landing/events", ".parquet"), orphans - 1);
    assert_eq!(count(&house, "", "#1"), 0);
    house.succeed(&["land"]);
    assert_eq!(house.sql("select count(*) from events"), ["6"]);
    assert!(findings(&house).is_empty(), "{:?}", findings(&house));
}

#[test]
fn the_newest_thousand_run_reports_are_kept() {
    let house = house_of(1);
    house.succeed(&["build"]);
    let runs = house.path().join("lake/runs");
    let newest = std::fs::read_dir(&runs).unwrap().next().unwrap().unwrap();
    for number in 0..1_003 {
        std::fs::copy(newest.path(), runs.join(format!("20000101T{number:06}Z-0.json"))).unwrap();
    }
    let done = report(&house, &["maintain"]);
    assert_eq!(done["run_reports"]["files"], 4);
    assert_eq!(count(&house, "runs", ".json"), 1_000);
    assert!(newest.path().exists() && !runs.join("20000101T000003Z-0.json").exists());
}

#[test]
fn a_damaged_log_is_not_maintained() {
    let house = house_of(12);
    std::fs::write(house.path().join("lake/landing/events/_delta_log/00000000000000000004.json"), b"").unwrap();
    let files = house.lake_files();
    let stderr = house.fail(1, &["maintain", "--retain", "0s"]);
    assert!(stderr.contains("landing/events/_delta_log/00000000000000000004.json: no readable commit"), "{stderr}");
    let events = |files: Vec<(PathBuf, u64, std::time::SystemTime)>| {
        files.into_iter().filter(|file| file.0.to_string_lossy().contains("/events/")).collect::<Vec<_>>()
    };
    assert_eq!(events(house.lake_files()), events(files));

    // The others are.
    let house = house_of(12);
    std::fs::write(house.path().join("lake/landing/dead_letters/_delta_log/00000000000000000001.json"), b"").unwrap();
    let commits = || std::fs::read_dir(house.path().join("lake/landing/events/_delta_log")).unwrap().count();
    let before = commits();
    let stderr = house.fail(1, &["maintain", "--retain", "0s"]);
    assert!(
        stderr.contains("landing/dead_letters/_delta_log/00000000000000000001.json: no readable commit"),
        "{stderr}"
    );
    assert!(commits() < before, "{} of {before} are left", commits());
}

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Deleted,
    Emptied,
    CutInHalf,
    CutByOneByte,
    BitFlipped,
}

#[test]
fn fsck_finds_every_file_that_is_gone_or_cut_short() {
    let house = house_of(12);
    house.succeed(&["build"]);
    land_batches(&house, 13..=14);
    house.succeed(&["build"]);
    assert!(findings(&house).is_empty(), "{:?}", findings(&house));
    damage_each(&house, "plain logs", "lake");
    land_batches(&house, 15..=115);
    house.succeed(&["maintain", "--retain", "0s"]);
    land_batches(&house, 116..=117);
    house.succeed(&["build"]);
    assert!(findings(&house).is_empty(), "{:?}", findings(&house));
    // Derived tables are kept as before.
    damage_each(&house, "landing after maintenance", "lake/landing");
}

/// Damages each file of a folder in turn in every way, and counts what is found.
fn damage_each(house: &House, state: &str, folder: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut counts: BTreeMap<Damage, (usize, usize)> = BTreeMap::new();
    let mut missed = Vec::new();
    for (path, size, modified) in house.lake_files() {
        let name = path.strip_prefix(house.path()).unwrap().to_string_lossy().into_owned();
        if !name.starts_with(folder) || name.starts_with("lake/runs") {
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        assert!(size > 1, "{name}");
        let damages = [Damage::Deleted, Damage::Emptied, Damage::CutInHalf, Damage::CutByOneByte, Damage::BitFlipped];
        for damage in damages {
            match damage {
                Damage::Deleted => std::fs::remove_file(&path).unwrap(),
                Damage::Emptied => std::fs::write(&path, b"").unwrap(),
                Damage::CutInHalf => std::fs::write(&path, &content[..content.len() / 2]).unwrap(),
                // A line feed at the end says nothing.
                Damage::CutByOneByte => {
                    std::fs::write(&path, &content[..content.trim_ascii_end().len() - 1]).unwrap();
                }
                Damage::BitFlipped => {
                    let mut flipped = content.clone();
                    let middle = flipped.len() / 2;
                    flipped[middle] ^= 16;
                    std::fs::write(&path, flipped).unwrap();
                }
            }
            let workspace = Workspace::open(Project::load(house.path()).unwrap()).unwrap();
            let is_found = match runtime.block_on(fsck(&workspace)) {
                Ok(found) => !found.findings.is_empty(),
                Err(error) => {
                    missed.push(format!("{damage:?} {name} stops fsck: {error}"));
                    false
                }
            };
            let (found, all) = counts.entry(damage).or_default();
            (*found, *all) = (*found + usize::from(is_found), *all + 1);
            if !is_found && damage != Damage::BitFlipped {
                missed.push(format!("{damage:?} {name}"));
            }
            std::fs::write(&path, &content).unwrap();
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
        }
    }
    println!("fsck, {state}:");
    for (damage, (found, all)) in counts {
        println!("  {damage:?}: {found} of {all} found");
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_table_whose_model_became_a_view_is_no_damage() {
    let house = House::new(arrivals::PROJECT, &[]);
    let model = |build: &str| {
        let rows = "select entry_channel, count(*) as journeys, started_date from journeys group by 1, 3";
        format!("-- grain: entry_channel, started_date\n-- build: {build}\n-- publish: file\n\n{rows}\n")
    };
    house.write("queries/mine.sql", model("incremental by sum(journeys)").as_bytes());
    for number in 0..2 {
        arrivals::arrive(&house, number);
        house.succeed(&["run"]);
    }
    // Changes lie over it.
    house.write("queries/mine.sql", model("view").as_bytes());
    for number in 2..5 {
        arrivals::arrive(&house, number);
        house.succeed(&["run"]);
        assert_eq!(findings(&house), [""; 0], "after file {number}");
        house.succeed(&["maintain"]);
        assert_eq!(findings(&house), [""; 0], "maintained after file {number}");
    }
}

/// Layers that have been in force for hours are read by what was planned a moment ago: also by the run that folds them.
#[test]
fn a_fold_leaves_what_was_in_force_until_then() {
    let house = House::new(arrivals::PROJECT, &[]);
    let changes = house.path().join("lake/changes");
    for number in 0..8 {
        arrivals::arrive(&house, number);
        let hours_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 3600);
        for (path, ..) in house.lake_files().into_iter().filter(|(path, ..)| path.starts_with(&changes)) {
            std::fs::File::options().append(true).open(path).unwrap().set_modified(hours_ago).unwrap();
        }
        // What it prints is asked for after the fold.
        house.succeed(&["run"]);
    }
    let reports = house.lake_files().into_iter().filter(|(path, ..)| path.starts_with(house.path().join("lake/runs")));
    let folds = reports.filter(|(path, ..)| std::fs::read_to_string(path).unwrap().contains("\"fold\"")).count();
    assert!(folds > 0, "no run folded anything");
    assert_eq!(findings(&house), [""; 0]);
}

/// A day of batches every ten seconds, maintained every hour, and what two hours without it come to.
#[test]
#[ignore = "takes many minutes; prints figures"]
fn a_day_of_small_batches_stays_small() {
    let figures = |house: &House, label: &str| {
        let begun = Instant::now();
        house.sql("select count(*) from events");
        println!(
            "{label}: {} data files, {} log files, {} books, query in {} ms",
            count(house, "landing/events", ".parquet") - count(house, "landing/events/_delta_log", ".parquet"),
            count(house, "landing/events/_delta_log", ""),
            count(house, "landing/batches", ""),
            begun.elapsed().as_millis()
        );
    };
    let house = House::new(PROJECT, &[]);
    let mut last = 0;
    for batches in [180, 360, 720] {
        let begun = Instant::now();
        land_batches(&house, last + 1..=batches);
        let each = begun.elapsed().as_secs_f64() * 1000.0 / (batches - last) as f64;
        last = batches;
        figures(&house, &format!("{batches} batches without maintenance, {each:.1} ms each"));
    }
    println!("{}", house.succeed(&["maintain", "--retain", "1h"]));
    figures(&house, "after maintenance");
    for hour in 3..=24 {
        let begun = Instant::now();
        land_batches(&house, last + 1..=hour * 360);
        let each = begun.elapsed().as_secs_f64() * 1000.0 / 360.0;
        last = hour * 360;
        figures(&house, &format!("hour {hour}, {each:.1} ms each"));
        let begun = Instant::now();
        house.succeed(&["maintain", "--retain", "1h"]);
        figures(&house, &format!("  maintained in {} ms", begun.elapsed().as_millis()));
    }
    assert_eq!(house.sql("select count(*), count(distinct event_id), max(batch) from events"), ["17280,17280,8640"]);
    println!("{}", house.succeed(&["maintain", "--retain", "0s"]));
    figures(&house, "after maintenance with retention 0");
    assert!(findings(&house).is_empty(), "{:?}", findings(&house));
    let rows = house.sql("select count(*), count(distinct event_id), max(batch) from events");
    assert_eq!(rows, ["17280,17280,8640"]);
}
