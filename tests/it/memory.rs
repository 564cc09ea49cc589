//! Memory is bounded: what does not fit is spilled, or said not to fit, and a run under a small limit ends as any other.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::house::{House, copy, published};

/// The least that may be configured, and what is by default.
const LITTLE: &str = "64M";
const MUCH: &str = "1500M";
/// Rows that take twice the least limit to sort.
const ROWS: &str = "generate_series(1, 2000000)";

/// What a command printed, its exit code, and the most memory that its process held, in bytes.
struct Ended {
    stdout: String,
    stderr: String,
    code: Option<i32>,
    peak: u64,
}

/// How long a command takes at most: what is asked here takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

fn watched(house: &House, memory: &str, arguments: &[&str]) -> Ended {
    let mut command = house.command(arguments);
    command.env("WAYLINE__ENGINE__MEMORY", memory).env("WAYLINE__ENGINE__THREADS", "2");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut peak, begun) = (0, Instant::now());
    while child.try_wait().unwrap().is_none() {
        peak = peak_of(&child).unwrap_or(peak);
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("at {memory} it took longer than {PATIENCE:?}: {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Ended { stdout, stderr, code: output.status.code(), peak }
}

fn peak_of(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

#[test]
fn what_does_not_fit_is_spilled_and_the_process_stays_small() {
    let house = House::new("", &[]);
    let ask = |memory: &str, query: &str| watched(&house, memory, &["sql", "-c", query, "--format", "csv"]);
    let nothing = ask(LITTLE, "select 1").peak;
    let keys = format!("select value, md5(cast(value as varchar)) as key from {ROWS}");
    let sorted = format!("select value, row_number() over (order by key) as place from ({keys})");
    let queries = [
        format!("select count(*), sum(place * (value % 7)) from ({sorted})"),
        format!("select count(*), sum(rows) from (select key, count(*) as rows from ({keys}) group by key)"),
    ];
    for query in queries {
        let (little, much) = (ask(LITTLE, &query), ask(MUCH, &query));
        assert_eq!((little.code, much.code), (Some(0), Some(0)), "{}{}", little.stderr, much.stderr);
        assert_eq!(little.stdout, much.stdout);
        let plan = ask(LITTLE, &format!("explain analyze {query}")).stdout;
        let spilled: Vec<&str> = plan.split("spill_count=").skip(1).collect();
        assert!(spilled.iter().any(|rest| !rest.starts_with('0')), "something is spilled: {plan}");
        let held = little.peak.saturating_sub(nothing);
        println!("{} MiB at 64M, {} at 1500M, {} for nothing", little.peak >> 20, much.peak >> 20, nothing >> 20);
        // The engine counts what operators hold, not what they are about to hand on.
        assert!(little.peak > 0 && held < 192 << 20, "{held} bytes are far more than the limit");
        assert!(little.peak + (32 << 20) < much.peak, "the limit tells");
    }
}

/// Rows with themselves, which do not fit by the limit if one side is held in a hash table.
fn joined(rows: usize) -> String {
    let keys = format!("select md5(cast(value as varchar)) as key from (select unnest(range(0, {rows})) as value)");
    format!("with keys as ({keys}) select count(*) as pairs from keys as one join keys as other on one.key = other.key")
}

#[test]
fn a_join_that_does_not_fit_is_sorted_and_spilled() {
    let house = House::new("", &[]);
    let ended = watched(&house, LITTLE, &["sql", "-c", &joined(1_000_000), "--format", "csv"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "pairs\n1000000\n"), "{}", ended.stderr);
    println!("{} MiB", ended.peak >> 20);
    assert!(ended.peak < 384 << 20, "{} bytes", ended.peak);
}

#[test]
fn models_marts_and_checks_that_do_not_fit_are_made_with_less_memory() {
    let kept = format!("-- build: full\n-- publish: no\n{}\n", joined(600_000));
    let seen = format!("-- build: view\n-- publish: file\n{}\n", joined(600_000));
    let check = "select * from seen where pairs <> 600000".to_string();
    let files = [("queries/kept.sql", kept), ("queries/seen.sql", seen), ("queries/checks/check.sql", check)];
    let house = House::new("", &files.each_ref().map(|(path, content)| (*path, content.as_bytes())));
    let ran = watched(&house, LITTLE, &["run", "--log-format", "json"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let out_of_memory = ran.stderr.matches("memory ran out").count();
    assert!(out_of_memory >= 3, "what fits tells nothing: {}", ran.stderr);
    assert_eq!(house.sql("select pairs from kept union all select pairs from seen"), ["600000", "600000"]);
}

#[test]
fn what_neither_fits_nor_spills_is_said_and_the_process_stays_small() {
    let house = House::new("", &[]);
    // A nested loop of the engine, left to itself, reads its left side again and then breaks off or answers wrong.
    let keys = format!("select md5(cast(value as varchar)) as key from {ROWS}");
    let joined = format!(
        "with keys as ({keys}), few as (select * from keys limit 10)
         select count(*) from keys left join few on keys.key < few.key"
    );
    let ended = watched(&house, LITTLE, &["sql", "-c", &joined]);
    println!("exit code {:?}, {} MiB", ended.code, ended.peak >> 20);
    let words = ["raise `[engine] memory`", "Resources exhausted"];
    assert!(ended.code == Some(1) && words.iter().all(|words| ended.stderr.contains(words)), "{}", ended.stderr);
    assert!(ended.peak < 256 << 20, "{} bytes", ended.peak);
}

#[test]
fn a_run_under_a_small_limit_publishes_what_any_other_does() {
    let [little, much] = [LITTLE, MUCH].map(|memory| {
        let house = House::new("", &[]);
        let made = house.path().join("made");
        let mut generate = Command::new(env!("CARGO_BIN_EXE_wayline"));
        let generated = generate.args(["generate", "--events", "200000"]).arg(&made).output().unwrap();
        assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
        copy(&made, house.path());
        let ran = watched(&house, memory, &["run"]);
        assert_eq!(ran.code, Some(0), "{memory}: {}{}", ran.stdout, ran.stderr);
        (ran.peak, published(&house))
    });
    println!("{} MiB at 64M, {} at 1500M", little.0 >> 20, much.0 >> 20);
    assert!(little.1 == much.1, "the limit shows in what is published");
    assert!(little.0 < 384 << 20, "{} bytes", little.0);
}
