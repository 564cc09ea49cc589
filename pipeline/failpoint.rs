//! Named places where a test may stop the process.
//!
//! `failpoint("land.commit.before")` does nothing in a plain build. Built for tests (the `failpoints` feature of the
//! `fail` crate is a development dependency), `FAILPOINTS=land.commit.before=return wayline run` ends the
//! process there with code 137. As under `kill -9` no destructor runs and no buffer of ours is flushed; unlike there, the
//! handlers that libraries left for the end of the process are called.

/// A place where a test may stop the process.
pub fn failpoint(name: &str) {
    if fail::has_failpoints() {
        fail::fail_point!(name, |_| std::process::exit(137));
        // Without the feature the macro is nothing, and nobody else reads the name.
        let _ = name;
    }
}

/// Reads `FAILPOINTS` from the environment; keep the guard for the life of the process.
pub fn arm() -> Option<fail::FailScenario<'static>> {
    fail::has_failpoints().then(fail::FailScenario::setup)
}
