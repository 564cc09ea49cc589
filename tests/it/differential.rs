//! Functions that bear the names of ClickHouse's answer as ClickHouse does, over thousands of random streams.
//!
//! The script knows the functions, their cases and the differences that are known; each that we have is compared.

use std::path::Path;
use std::process::Command;

use crate::python::python;

fn script() -> Command {
    let mut command = Command::new(python("tests/differential/requirements.txt"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/clickhouse.py"));
    command
}

#[test]
fn functions_of_clickhouse_answer_as_clickhouse() {
    let output = script().arg("--list").output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let ours = wayline::functions::aggregate_functions();
    let compared: Vec<&str> =
        listed.lines().filter(|name| ours.iter().any(|function| function.name() == *name)).collect();
    assert!(compared.contains(&"window_funnel"), "{listed}");

    let mut command = script();
    command.arg(env!("CARGO_BIN_EXE_wayline"));
    for name in compared {
        command.args(["--only", name]);
    }
    let output = command.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
}
