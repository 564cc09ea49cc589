//! Functions that bear the names of ClickHouse's answer as ClickHouse does, over thousands of random streams.
//!
//! The script knows the functions, their cases and the differences that are known; each that we have is compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::python::python;

/// The fewest answers that are compared of each function.
const FEWEST_ANSWERS: u64 = 50_000;

/// Of so many answers one may be a known difference, at most; of those that nulls or no rows make, which whole suites have
/// on purpose, one of fewer.
const ANSWERS_PER_DIFFERENCE: u64 = 200;
const ANSWERS_PER_DIFFERENCE_OF_NULLS: u64 = 5;

/// A function of the script's list.
#[derive(Deserialize)]
struct Listed {
    theirs: String,
    differences: Vec<String>,
}

/// What came out for a function.
#[derive(Deserialize)]
struct Compared {
    answers: u64,
    /// How often each known difference came.
    listed: BTreeMap<String, u64>,
}

/// The script, where there is a Python for it.
fn script() -> Option<Command> {
    let mut command = Command::new(python("tests/differential/requirements.txt")?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/clickhouse.py"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

fn listed() -> Option<BTreeMap<String, Listed>> {
    let output = script()?.arg("--list").output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn functions_of_clickhouse_answer_as_clickhouse() {
    let (Some(mut script), Some(listed)) = (script(), listed()) else {
        return;
    };
    let output = script.arg(env!("CARGO_BIN_EXE_wayline")).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {shown}{errors}", output.status);
    let counts = shown.lines().last().unwrap();
    let compared: BTreeMap<String, Compared> = serde_json::from_str(counts).unwrap();
    assert!(compared.keys().eq(listed.keys()), "{counts}");
    for (name, compared) in &compared {
        assert!(compared.answers > FEWEST_ANSWERS, "{name}: {}", compared.answers);
        // Nulls are among the rows of each.
        assert!(
            compared.listed.iter().any(|(reason, count)| reason.contains("null") && *count > 100),
            "{name}: {counts}"
        );
        for (reason, count) in &compared.listed {
            let answers_per_difference =
                if reason.contains("null") { ANSWERS_PER_DIFFERENCE_OF_NULLS } else { ANSWERS_PER_DIFFERENCE };
            assert!(count * answers_per_difference <= compared.answers, "{name}: {count} times {reason}");
        }
    }
}

#[test]
fn every_known_difference_from_clickhouse_is_documented_and_no_other() {
    let Some(listed) = listed() else {
        return;
    };
    let functions = wayline::functions::aggregate_functions();
    for (name, Listed { theirs, differences }) in &listed {
        let function = functions.iter().find(|function| function.name() == name.as_str()).unwrap();
        let description = &function.documentation().unwrap().description;
        let (_, documented) = description.split_once(&format!("\n- Unlike ClickHouse's `{theirs}`: ")).unwrap();
        assert_eq!(documented.lines().next().unwrap(), format!("{}.", differences.join("; ")), "{name}");
    }
    let of_clickhouse = functions
        .iter()
        .filter(|function| function.documentation().unwrap().description.contains("\n- Unlike ClickHouse's "));
    assert_eq!(of_clickhouse.count(), listed.len());
}
