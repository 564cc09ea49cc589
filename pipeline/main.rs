//! `wayline`: parse, open, do, report.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let _armed = wayline::failpoint::arm();
    wayline::cli::main()
}
