//! `wayline`: parse, open, do, report.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let _armed = wayline::failpoint::arm();
    wayline::cli::main()
}
