//! The real binary on machines whose clock is wrong: what is built is the same, and nothing that is needed is removed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::arrivals::{PROJECT, arrive, content};
use crate::house::House;

/// Takes the place of the C library's clock: seconds ahead of the true time, or by turns ahead and behind it.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    static _Atomic int looks = 0;
    int answer = syscall(SYS_clock_gettime, clock, time);
    const char *ahead = getenv("CLOCK_AHEAD"), *swings = getenv("CLOCK_SWINGS");
    if (clock == CLOCK_REALTIME && ahead) time->tv_sec += atoll(ahead);
    if (clock == CLOCK_REALTIME && swings) time->tv_sec += looks++ % 2 ? atoll(swings) : -atoll(swings);
    return answer;
}
"#;

const DAY: i64 = 86_400;
/// What is wrong with the clock: a year behind, days ahead, a jump at every look.
const CLOCKS: [(&str, i64); 5] = [
    ("CLOCK_AHEAD", -365 * DAY),
    ("CLOCK_AHEAD", 8 * DAY),
    ("CLOCK_SWINGS", 40 * DAY),
    ("CLOCK_AHEAD", 400 * DAY),
    ("CLOCK_AHEAD", 120),
];

/// Compiles the clock, where there is a compiler.
fn clock(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, CLOCK).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output();
    compiled.is_ok_and(|output| output.status.success()).then_some(library)
}

fn wayline(house: &House, clock: &Path, (variable, seconds): (&str, i64), arguments: &[&str]) -> Output {
    let mut command = house.command(arguments);
    command.env("LD_PRELOAD", clock).env(variable, seconds.to_string()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_clock_changes_no_table_and_removes_nothing_that_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clock) = clock(folder.path()) else {
        println!("skipped: `cc` compiles no library here");
        return;
    };
    let (house, undisturbed) = (House::new(PROJECT, &[]), House::new(PROJECT, &[]));
    let mut refused = 0;
    for (number, wrong) in (0..).zip(CLOCKS) {
        arrive(&house, number);
        arrive(&undisturbed, number);
        undisturbed.succeed(&["run"]);
        let ran = wayline(&house, &clock, wrong, &["run"]);
        assert!(ran.status.success(), "{wrong:?}: {}", said(&ran));
        // What removes files asks the store for the time, and leaves them where the two differ.
        let maintained = wayline(&house, &clock, wrong, &["maintain", "--retain", "0s"]);
        if !maintained.status.success() {
            assert!(said(&maintained).contains("clock"), "{wrong:?}: {}", said(&maintained));
            refused += 1;
        }
        assert!(content(&house) == content(&undisturbed), "{wrong:?}");
        house.succeed(&["fsck"]);
    }
    let years = house.sql("select min(date_part('year', started_at)), max(date_part('year', started_at)) from runs");
    println!("{} clocks, runs of the years {years:?}, {refused} maintenances refused, 0 wrong", CLOCKS.len());
    assert!(
        refused > 0 && years[0].split(',').next() != years[0].split(',').next_back(),
        "clocks were wrong: {years:?}"
    );
    // With the right clock everything goes on.
    house.succeed(&["maintain", "--retain", "0s"]);
    assert!(house.succeed(&["run"]).contains("nothing new"));
    assert!(content(&house) == content(&undisturbed));
}
