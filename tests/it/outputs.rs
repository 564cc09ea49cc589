//! What we write opens elsewhere: every mart in DuckDB, Polars and pyarrow, every Delta table in Python `deltalake`, with
//! the rows and sums that `wayline sql` sees.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::house::House;
use crate::python::python;

/// Rows and sums of a table as `wayline sql` sees them, for the columns that another tool summed.
fn seen_by_us(house: &House, table: &str, columns: &[String]) -> Vec<String> {
    let sums = columns.iter().map(|column| format!(", coalesce(cast(sum(\"{column}\") as double), 0)"));
    house.sql(&format!("select count(*){} from {table}", sums.collect::<String>()))[0]
        .split(',')
        .map(str::to_string)
        .collect()
}

fn assert_same(ours: &[String], theirs: &Value, columns: &[String], place: &str) {
    assert_eq!(ours[0], theirs[0].to_string(), "rows of {place}");
    for (column, ours) in columns.iter().zip(&ours[1..]) {
        let ours: f64 = ours.parse().unwrap();
        let theirs: f64 = theirs[1][column].as_str().unwrap().parse().unwrap();
        assert!((ours - theirs).abs() <= 1e-6 * ours.abs().max(1.0), "{place}.{column}: {ours}, but {theirs}");
    }
}

#[test]
fn every_mart_and_table_opens_in_the_tools_of_its_readers() {
    let Some(python) = python("tests/outputs/requirements.txt") else {
        return;
    };
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outputs/open_elsewhere.py");
    let output = Command::new(python).arg(script).arg(house.path().join("lake")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    let columns_of = |sums: &Value| -> Vec<String> { sums.as_object().unwrap().keys().cloned().collect() };
    let marts = seen["marts"].as_object().unwrap();
    assert_eq!(marts.len(), 11, "{:?}", marts.keys());
    for (mart, tools) in marts {
        let columns = columns_of(&tools["pyarrow"][1]);
        let ours = seen_by_us(&house, mart, &columns);
        for tool in ["pyarrow", "duckdb", "polars"] {
            assert_same(&ours, &tools[tool], &columns, &format!("{mart} in {tool}"));
        }
    }
    let tables = seen["tables"].as_object().unwrap();
    assert!(tables.len() >= 12, "{:?}", tables.keys());
    for (folder, theirs) in tables {
        let table = folder.rsplit('/').next().unwrap();
        let columns = columns_of(&theirs[1]);
        assert_same(&seen_by_us(&house, table, &columns), theirs, &columns, &format!("{folder} in deltalake"));
    }
}
