//! Starters are opened by the tools that they are for, where these run here.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::house::House;
use crate::python::python;

const TOOLS: [&str; 5] = ["duckdb", "dbt-sources", "grafana", "evidence", "powerbi"];

#[test]
fn every_starter_opens_and_shows_the_rows_of_the_marts() {
    let Some(python) = python("tests/outputs/requirements.txt") else {
        return;
    };
    let house = House::of_sample("odd-cases");
    let error = house.fail(2, &["export", "duckdb"]);
    assert!(error.contains("nothing is published yet"), "{error}");
    // A mart of the project's own is exported like the others.
    house.write(
        "queries/own.sql",
        b"-- Own: mine.\n--\n-- grain: one\n-- publish: file\n-- columns:\n--   one: 1\nselect 1 as one",
    );
    house.succeed(&["run"]);
    let starters = house.path().join("starters");
    for tool in TOOLS {
        let folder = starters.join(tool);
        let files = house.succeed(&["export", tool, "-o", folder.to_str().unwrap()]);
        assert!(files.lines().all(|file| Path::new(file).is_file()), "{files}");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outputs/starters.py");
    let output = Command::new(python).arg(script).arg(&starters).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let wrong = seen["wrong"].as_array().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");

    let views = seen["views"].as_object().unwrap();
    assert_eq!(views.len(), 12, "{:?}", views.keys());
    for (name, view) in views {
        let count = house.sql(&format!("select count(*) from {name}"));
        assert_eq!(count, [view[0].to_string()], "rows of {name}");
        for (column, comment) in view[1].as_array().unwrap().iter().zip(view[2].as_array().unwrap()) {
            assert!(comment.is_string(), "{name}.{column} has no comment");
        }
    }
    // What Grafana asks the database door, with its macro as Grafana writes it.
    for (title, query) in seen["queries"].as_object().unwrap() {
        let query = query.as_str().unwrap();
        let expanded = match query.split_once("$__timeFilter(") {
            Some((head, rest)) => {
                let (column, tail) = rest.split_once("timestamp))").unwrap();
                format!("{head}{column}timestamp) between '2020-01-01T00:00:00Z' and '2030-01-01T00:00:00Z'{tail}")
            }
            None => query.to_string(),
        };
        assert!(!house.sql(&expanded).is_empty(), "{title}: {expanded}");
    }
}

#[test]
fn a_file_of_the_user_is_not_replaced_unless_asked() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let folder = house.path().join("views");
    let export = ["export", "duckdb", "-o", folder.to_str().unwrap()];
    house.succeed(&export);
    house.succeed(&export);
    std::fs::write(folder.join("views.sql"), "-- mine").unwrap();
    let error = house.fail(2, &export);
    assert!(error.contains("holds something else") && error.contains("--force"), "{error}");
    assert_eq!(std::fs::read_to_string(folder.join("views.sql")).unwrap(), "-- mine");
    let report = house.succeed(&["export", "duckdb", "-o", folder.to_str().unwrap(), "--force", "--json"]);
    assert!(report.ends_with("views.sql\"],\"status\":\"done\"}\n"), "{report}");
    assert!(std::fs::read_to_string(folder.join("views.sql")).unwrap().starts_with("-- The marts"));
}
