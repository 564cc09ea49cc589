//! The real binary on a disk that fills up, beside another run, and under the eyes of readers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use twox_hash::XxHash64;

use crate::arrivals::{EVENTS, PROJECT, arrive, content, damages};
use crate::house::{House, copy};

/// Sizes of the disk that are tried; `WAYLINE_DISKS` tells how many.
const DISKS: u64 = 8;

/// Runs on a disk of some size, then on the same disk with room; leaves exit codes and what was said in files.
const ON_A_SMALL_DISK: &str = r#"
mount -t tmpfs -o size="$1" tmpfs "$2/lake" || exit 9
"$3" run --project "$2" > /dev/null 2> "$2/said"; echo $? > "$2/code"
mount -o remount,size=256m "$2/lake" || exit 9
"$3" run --project "$2" > /dev/null 2> "$2/said-then"; echo $? > "$2/code-then"
cp -r "$2/lake" "$2/left"
"#;

fn on_a_small_disk(house: &House, bytes: u64) -> bool {
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", ON_A_SMALL_DISK, "sh"]).arg(bytes.to_string()).arg(house.path());
    command.arg(env!("CARGO_BIN_EXE_wayline")).env_remove("FAILPOINTS").env_remove("RUST_LOG");
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn a_run_on_a_full_disk_says_so_and_ends_as_undisturbed_once_there_is_room() {
    let undisturbed = House::new(PROJECT, &[]);
    arrive(&undisturbed, 0);
    undisturbed.succeed(&["run"]);
    let expected = content(&undisturbed);
    // Each file takes whole pages.
    let enough: u64 = undisturbed.lake_files().iter().map(|(_, size, _)| (size / 4096 + 2) * 4096).sum();
    let disks = std::env::var("WAYLINE_DISKS").ok().and_then(|disks| disks.parse().ok()).unwrap_or(DISKS);
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    for disk in 1..=disks {
        let house = House::new(PROJECT, &[]);
        arrive(&house, 0);
        std::fs::create_dir(house.path().join("lake")).unwrap();
        let bytes = enough * disk / disks;
        if !on_a_small_disk(&house, bytes) {
            println!("skipped: `unshare -rm` may not mount a disk in memory here");
            return;
        }
        let read = |name: &str| std::fs::read_to_string(house.path().join(name)).unwrap();
        let (code, said) = (read("code"), read("said"));
        let code = code.trim();
        assert!(matches!(code, "0" | "1" | "75"), "{bytes} bytes: exit code {code}: {said}");
        assert!(code == "0" || said.contains("No space left on device"), "{bytes} bytes: {said}");
        *codes.entry(code.into()).or_default() += 1;
        assert_eq!(read("code-then").trim(), "0", "{bytes} bytes, then room: {}", read("said-then"));
        copy(&house.path().join("left"), &house.path().join("lake"));
        assert_eq!(damages(&house.path().join("lake")), [""; 0], "{bytes} bytes, then room");
        for (name, found) in content(&house) {
            assert_eq!(Some(&found), expected.get(&name), "{name}, {bytes} bytes, then room");
        }
    }
    println!("{disks} sizes up to {enough} bytes, by exit code {codes:?}, 0 tables damaged, 0 wrong");
    assert!(codes.len() > 1, "some disks are too small and some are not: {codes:?}");
}

#[test]
fn of_runs_at_once_one_works_and_the_others_are_told_to_come_again() {
    const ROUNDS: u64 = 4;
    let house = House::new(PROJECT, &[]);
    let lake = house.path().join("lake");
    let other = House::new(&format!("[lake]\nurl = '{}'\n", lake.display()), &[]);
    let undisturbed = House::new(PROJECT, &[]);
    let mut codes: BTreeMap<i32, usize> = BTreeMap::new();
    for round in 0..ROUNDS {
        arrive(&house, round);
        arrive(&undisturbed, round);
        undisturbed.succeed(&["run"]);
        // The other project would build what it is told by its own configuration.
        let at_once: Vec<_> =
            [(&house, "run"), (&house, "maintain"), (&house, "run"), (&other, "land"), (&other, "maintain")]
                .map(|(project, command)| {
                    let mut command = project.command(&[command]);
                    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
                })
                .into_iter()
                .map(|child| child.wait_with_output().unwrap())
                .collect();
        for output in &at_once {
            let said = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code().unwrap();
            assert!(code == 0 || (code == 75 && said.contains("another run holds")), "{code}: {said}");
            *codes.entry(code).or_default() += 1;
        }
        house.succeed(&["run"]);
        house.succeed(&["maintain"]);
    }
    println!("exit codes {codes:?}");
    assert!(codes.contains_key(&75), "some were at work at once: {codes:?}");
    assert_eq!(damages(&lake), [""; 0]);
    house.succeed(&["fsck"]);
    assert_eq!(content(&house), content(&undisturbed));
}

/// What a reader saw who read the catalog, opened the files that it names and looked at the catalog again, time and again.
#[derive(Debug, Default)]
struct Seen {
    loops: usize,
    files: usize,
    /// Times at which the catalog told of no publication under way, before and after: then all marts are of one run.
    editions: usize,
    /// Runs of these.
    runs: BTreeSet<String>,
    /// At other times: files that the catalog told and that were not there.
    missing: usize,
    /// And those that were not what the catalog told.
    other: usize,
    /// Files that were no whole Parquet files, sums that no batch ends with, and whatever is of another run in an edition.
    wrong: Vec<String>,
}

impl Seen {
    fn look(&mut self, lake: &Path) {
        let catalog = || std::fs::read(lake.join("catalog.json")).ok();
        let Some(before) = catalog() else { return };
        let told: Value = serde_json::from_slice(&before).expect("the catalog is whole");
        let marts = told["marts"].as_object().unwrap();
        let paths = marts.values().flat_map(|mart| mart["files"].as_object().unwrap().keys());
        let open: Vec<_> = paths.map(|path| File::open(lake.join(path)).ok()).collect();
        let is_edition = marts.values().all(|mart| mart["fingerprint"] != "") && catalog().as_ref() == Some(&before);
        self.loops += 1;
        let mut open = open.into_iter();
        let (mut missing, mut other, mut sums) = (0, 0, BTreeMap::new());
        for (name, mart) in marts {
            let mut sum = 0;
            for (path, told) in mart["files"].as_object().unwrap() {
                self.files += 1;
                let Some(mut file) = open.next().expect("all were opened") else {
                    missing += 1;
                    continue;
                };
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                let digest = told["digest"].as_str().and_then(|digest| digest.split_once('-')).unwrap().1;
                other += usize::from(digest != digest_of_rows(&bytes));
                match event_count(bytes) {
                    Ok(found) => sum += found,
                    Err(error) => self.wrong.push(format!("{path}: {error}")),
                }
            }
            sums.insert(name.as_str(), sum);
        }
        let (of_customers, of_sessions) = (sums["customers"], sums["sessions"]);
        if !(of_customers as usize).is_multiple_of(EVENTS) {
            self.wrong.push(format!("customers have {of_customers} events"));
        }
        if !is_edition {
            self.missing += missing;
            self.other += other;
        } else if missing + other > 0 || of_customers != of_sessions {
            let sums = format!("events of customers {of_customers}, of sessions {of_sessions}");
            self.wrong.push(format!("{}: {missing} files missing, {other} others; {sums}", told["run_id"]));
        } else {
            self.editions += 1;
            self.runs.insert(told["run_id"].to_string());
        }
    }
}

/// What the catalog tells of the bytes before the footer, whose length stands before a mark at the end.
fn digest_of_rows(file: &[u8]) -> String {
    let footer = u32::from_le_bytes(file[file.len() - 8..][..4].try_into().unwrap()) as usize;
    format!("{:016x}", XxHash64::oneshot(0, &file[..file.len() - 8 - footer]))
}

/// The sum of a column of events, if there is one, of a file that is read to its end.
fn event_count(bytes: Vec<u8>) -> Result<i64, String> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).map_err(|error| error.to_string())?;
    let mut sum = 0;
    for batch in reader.build().map_err(|error| error.to_string())? {
        let batch = batch.map_err(|error| error.to_string())?;
        let counts = ["event_count", "touch_count"].iter().find_map(|name| batch.column_by_name(name));
        if let Some(counts) = counts {
            sum += counts.as_primitive::<Int64Type>().values().iter().sum::<i64>();
        }
    }
    Ok(sum)
}

#[test]
fn readers_find_every_file_whole_while_batches_are_published_and_tables_maintained() {
    let batches = std::env::var("WAYLINE_BATCHES").ok().and_then(|batches| batches.parse().ok()).unwrap_or(6);
    let house = House::new(PROJECT, &[]);
    arrive(&house, 0);
    house.succeed(&["run"]);
    let lake = house.path().join("lake");
    let has_ended = AtomicBool::new(false);
    let mut removed = 0;
    let (seen, queries) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Seen::default();
            while !has_ended.load(Ordering::Relaxed) {
                seen.look(&lake);
            }
            seen
        });
        let analyst = scope.spawn(|| {
            let mut queries = 0;
            while !has_ended.load(Ordering::Relaxed) {
                // Each table by itself: all of one batch and nothing of the next.
                let sums = house.sql("select (select count(*) from events), (select sum(event_count) from customers)");
                for sum in sums[0].split(',') {
                    assert_eq!(sum.parse::<usize>().unwrap() % EVENTS, 0, "{sums:?}");
                }
                queries += 1;
            }
            queries
        });
        let mut number = 0;
        while number < batches || removed == 0 {
            number += 1;
            assert!(number < 1000, "maintenance removes nothing");
            arrive(&house, number);
            house.succeed(&["run"]);
            // Files are put together and replaced ones removed while queries read them.
            let maintained: Value =
                serde_json::from_str(house.succeed(&["maintain", "--retain", "20s", "--json"]).trim()).unwrap();
            let tables = maintained["tables"].as_object().unwrap().values();
            removed += tables.filter_map(|table| table["vacuumed"]["files"].as_u64()).sum::<u64>();
        }
        has_ended.store(true, Ordering::Relaxed);
        (reader.join().unwrap(), analyst.join().unwrap())
    });
    assert!(seen.wrong.is_empty(), "{} wrong: {:#?}", seen.wrong.len(), &seen.wrong[..3.min(seen.wrong.len())]);
    println!(
        "at least {batches} batches, {removed} files of tables removed: {} looks at {} files, {} of them at editions, of {} runs; \
         at other times {} files missing, {} others; {queries} queries, 0 wrong",
        seen.loops,
        seen.files,
        seen.editions,
        seen.runs.len(),
        seen.missing,
        seen.other
    );
    assert!(seen.loops > 10 && queries > 0, "{seen:?}");
    assert!(seen.runs.len() > 2, "editions of several runs: {seen:?}");
}

#[test]
fn a_killed_run_leaves_its_locks_to_the_next() {
    let house = House::new(PROJECT, &[]);
    arrive(&house, 0);
    let mut child = house.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.signal() == Some(9) || status.success());
    house.succeed(&["run"]);
}
