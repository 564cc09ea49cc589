//! Workloads of the benches, done with the library's own stages, as a program of its own.
//!
//! Usage: `peer W1 DATA OUT THREADS`, `peer W11 DATA OUT.parquet THREADS`, `peer identifiers COUNT OUT.parquet THREADS`,
//! `peer W12 DATA OUT THREADS`, `peer build DATA - THREADS` or `peer W3/LAYOUT DATA OUT.parquet THREADS`, from `W2/LAYOUT` up
//! to `W10/LAYOUT`
//! - `DATA`: a folder that holds `jsonl/*.jsonl` (for W1), `resolved/day=*/*.parquet` (for W11 and the layout `parquet`),
//!   `clustered/*.parquet` (for the layout `clustered` and for `build`), `wayline_sorted/*.parquet` and
//!   `wayline_journeys/*.parquet` (for the layouts `sorted` and `journeys`; made by `build`), `w12/*.parquet` (for W12)
//! - `COUNT`: how many identifiers to make up and resolve
//! - `OUT`: a folder of `day=…/part-N.parquet` (W1) or of an answer each (W12), or one file
//!
//! Prints one line of JSON: rows written, wall seconds, seconds by phase, peak memory. The README beside it tells what
//! the workloads are and how their results are checked.

mod identifiers;
mod identity;
mod incremental;
mod journeys;
mod land;
mod queries;
mod sorted;
mod tables;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Map, Value, json};
use wayline::error::{Error, Result};

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match run(&arguments) {
        // The result is written: giving gigabytes back piece by piece would only take time.
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let [workload, data, out, threads] = arguments else {
        return Err(Error::invalid("expected WORKLOAD DATA OUT THREADS"));
    };
    let threads = threads.parse().map_err(|_| Error::invalid(format!("`{threads}` is no number of threads")))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|error| Error::internal(error.to_string()))?;
    let (data, out) = (Path::new(data), Path::new(out));
    let mut phases = Phases::start();
    let rows = match workload.as_str() {
        "W1" => land::run(data, out, threads, &mut phases)?,
        "identifiers" => identifiers::run(data, out, threads, &mut phases)?,
        "W11" => identity::run(data, out, threads, &mut phases)?,
        "W12" => incremental::run(data, out, threads, &mut phases)?,
        "build" => journeys::build(data, threads)? + sorted::build(data)?,
        other => match other.split_once('/') {
            Some((query, layout)) => queries::run(query, layout, data, out, threads, &mut phases)?,
            None => return Err(Error::invalid(format!("no workload `{other}`, expected W1, W11, W12 or W3/parquet"))),
        },
    };
    println!("{}", phases.report(workload, rows));
    Ok(())
}

/// Seconds by phase.
struct Phases {
    started: Instant,
    phase: Instant,
    /// When the result stood, if something else came after it.
    done: Option<Instant>,
    seconds: Map<String, Value>,
}

impl Phases {
    fn start() -> Self {
        let now = Instant::now();
        Self { started: now, phase: now, done: None, seconds: Map::new() }
    }

    /// All is open that the workload asks: it begins here.
    fn begin(&mut self) {
        *self = Self::start();
    }

    /// Ends the phase at hand.
    fn end(&mut self, name: &str) {
        self.seconds.insert(name.to_string(), json!(rounded(self.phase.elapsed().as_secs_f64())));
        self.phase = Instant::now();
    }

    /// The result stands: what comes after this is not part of the workload.
    fn stop(&mut self) {
        self.done = Some(Instant::now());
    }

    fn report(self, workload: &str, rows: usize) -> Value {
        let done = self.done.unwrap_or_else(Instant::now);
        let wall = rounded((done - self.started).as_secs_f64());
        json!({"workload": workload, "rows": rows, "wall": wall, "peak_rss_mb": peak_mb(), "phases": self.seconds})
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}

/// Most memory that the process held, where the system tells.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes / 1024)
}
