//! The real binary on a disk that fills up, beside another run, and under the eyes of readers.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

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

/// What a reader saw who read the catalog and then the files that it names, time and again.
#[derive(Debug, Default)]
struct Seen {
    loops: usize,
    files: usize,
    /// Files that the catalog told and that were not there.
    missing: usize,
    /// Files that were not what the catalog told.
    other: usize,
    /// Files that were no whole Parquet files, and sums that no batch ends with.
    wrong: Vec<String>,
}

impl Seen {
    fn look(&mut self, lake: &Path) {
        let Ok(catalog) = std::fs::read(lake.join("catalog.json")) else { return };
        let catalog: Value = serde_json::from_slice(&catalog).expect("the catalog is whole");
        self.loops += 1;
        for (name, mart) in catalog["marts"].as_object().unwrap() {
            let mut sum = 0;
            for (path, told) in mart["files"].as_object().unwrap() {
                self.files += 1;
                let Ok(bytes) = std::fs::read(lake.join(path)) else {
                    self.missing += 1;
                    continue;
                };
                self.other += usize::from(told["bytes"] != bytes.len());
                match event_count(bytes) {
                    Ok(found) => sum += found,
                    Err(error) => self.wrong.push(format!("{path}: {error}")),
                }
            }
            if name == "customers" && !(sum as usize).is_multiple_of(EVENTS) {
                self.wrong.push(format!("customers have {sum} events"));
            }
        }
    }
}

/// The sum of a column `event_count`, if there is one, of a file that is read to its end.
fn event_count(bytes: Vec<u8>) -> Result<i64, String> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).map_err(|error| error.to_string())?;
    let mut sum = 0;
    for batch in reader.build().map_err(|error| error.to_string())? {
        let batch = batch.map_err(|error| error.to_string())?;
        if let Some(counts) = batch.column_by_name("event_count") {
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
    println!("at least {batches} batches, {removed} files of tables removed: {seen:?}, {queries} queries");
    assert!(seen.wrong.is_empty() && seen.loops > 10 && queries > 0, "{seen:?}");
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
