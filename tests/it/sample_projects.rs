//! The sample projects through the real binary, compared to the last row with the answers in `expected/`, which an
//! independent script worked out (`tests/oracle`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::house::{House, sample};

/// Rows as text, numbers brought to one form, sorted.
fn rows(csv_text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(csv_text.as_bytes());
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_string).collect();
    let mut rows: Vec<Vec<String>> =
        reader.records().map(|record| record.unwrap().iter().map(plain).collect()).collect();
    rows.sort();
    (header, rows)
}

/// A fraction is compared to nine digits, everything else to the letter.
fn plain(cell: &str) -> String {
    let is_fraction = (cell.contains('.') || cell.contains("e-")) && !cell.contains(':') && cell.parse::<f64>().is_ok();
    match is_fraction {
        true => format!("{:.9e}", cell.parse::<f64>().unwrap()),
        false => cell.to_string(),
    }
}

/// The tables with an expected answer in a folder.
fn expected_tables(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        // Duplicates are counted, not kept.
        .filter(|name| name != "duplicates")
        .collect();
    names.sort();
    names
}

fn compare(house: &House, project: &str) -> usize {
    compare_with(house, &sample(project).join("expected"))
}

/// Holds every table of a project against the answers in a folder; returns how many there are.
pub fn compare_with(house: &House, expected: &Path) -> usize {
    let wrong = differences(house, expected);
    let told: Vec<String> = wrong.iter().map(Difference::to_string).collect();
    assert!(wrong.is_empty(), "{}", told.join("\n"));
    expected_tables(expected).len()
}

/// A table that is not what it should be.
pub struct Difference {
    table: String,
    pub missing: Vec<Vec<String>>,
    pub extra: Vec<Vec<String>>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, missing, extra } = self;
        let some = |rows: &[Vec<String>]| format!("{:?}", &rows[..rows.len().min(3)]);
        writeln!(f, "{table}: {} rows are missing, {} are too many", missing.len(), extra.len())?;
        write!(f, "  missing {}\n  extra   {}", some(missing), some(extra))
    }
}

/// The tables of a project that are not as the answers in a folder say.
pub fn differences(house: &House, expected: &Path) -> Vec<Difference> {
    let mut wrong = Vec::new();
    for table in expected_tables(expected) {
        let (columns, expected) = expected_rows(expected, &table);
        let (_, actual) = rows(&house.succeed(&["sql", "-c", &query(&table, &columns), "--format", "csv"]));
        if actual != expected {
            let but = |rows: &[Vec<String>], others: &[Vec<String>]| {
                rows.iter().filter(|row| !others.contains(row)).cloned().collect()
            };
            let (missing, extra) = (but(&expected, &actual), but(&actual, &expected));
            wrong.push(Difference { table, missing, extra });
        }
    }
    wrong
}

/// Columns and rows of an expected table.
fn expected_rows(folder: &Path, table: &str) -> (Vec<String>, Vec<Vec<String>>) {
    rows(&std::fs::read_to_string(folder.join(format!("{table}.csv"))).unwrap())
}

/// What the oracle says of a project: a folder of CSV files.
pub fn ask_oracle(house: &House, tables: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/oracle.py");
    let folder = house.path().join("expected");
    let mut command = Command::new("python3");
    command.arg(script).arg(house.path()).arg("--out").arg(&folder).args(["--only", tables]);
    command.arg("--rulings").arg(house.path().join("lake/identity/rulings"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

fn query(table: &str, columns: &[String]) -> String {
    let columns: Vec<String> = columns
        .iter()
        .map(|column| match (table, column.as_str()) {
            ("dead_letters", "record") => "arrow_cast(record, 'Utf8') as record".to_string(),
            ("funnel_attempts", "step_positions") => {
                "array_to_string(step_positions, ',') as step_positions".to_string()
            }
            _ => format!("\"{column}\""),
        })
        .collect();
    let table = if table == "funnel_attempts" { "int_funnel_attempts" } else { table };
    format!("select {} from {table}", columns.join(", "))
}

#[test]
fn odd_cases_end_as_worked_out_by_hand() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    assert!(compare(&house, "odd-cases") >= 15);
}

#[test]
fn the_shop_ends_as_the_oracle_says() {
    let house = House::of_sample("shop");
    house.succeed(&["run"]);
    assert!(compare(&house, "shop") >= 5);
}

#[test]
fn odd_cases_in_one_file_at_a_time_end_the_same() {
    let house = House::of_sample("odd-cases");
    let zone = house.path().join("landing-zone");
    let parked = house.path().join("parked");
    std::fs::rename(&zone, &parked).unwrap();
    std::fs::create_dir(&zone).unwrap();
    // In the order of the sources, so that of a duplicate over files the same event lands first as in one batch.
    for name in ["store.jsonl", "web.jsonl", "app.jsonl.gz", "email.csv", "call_center.csv"] {
        move_file(&parked, &zone, name);
        house.succeed(&["run"]);
    }
    let folder = sample("odd-cases").join("expected");
    // All but what tells of batches and of the places of records.
    for table in expected_tables(&folder).iter().filter(|table| *table != "data_quality") {
        let (columns, expected) = expected_rows(&folder, table);
        let (_, actual) = rows(&house.succeed(&["sql", "-c", &query(table, &columns), "--format", "csv"]));
        assert_eq!(actual, expected, "{table}");
    }
}

fn move_file(from: &Path, to: &Path, name: &str) {
    std::fs::rename(from.join(name), to.join(name)).unwrap();
}

#[test]
fn a_second_run_writes_nothing() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let before = house.lake_files();
    assert!(house.succeed(&["run"]).contains("nothing new"));
    assert_eq!(house.lake_files(), before);
}

#[test]
fn a_project_without_files_ends_well_and_then_takes_what_comes() {
    let house = House::of_sample("odd-cases");
    let zone = house.path().join("landing-zone");
    let parked = house.path().join("parked");
    std::fs::rename(&zone, &parked).unwrap();
    house.succeed(&["run"]);
    assert_eq!(house.sql("select count(*) from sessions"), ["0"]);
    std::fs::rename(&parked, &zone).unwrap();
    house.succeed(&["run"]);
    assert!(compare(&house, "odd-cases") >= 15);
}

#[test]
fn a_changed_setting_rebuilds_what_reads_it() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let configuration = std::fs::read_to_string(house.path().join("wayline.toml")).unwrap();
    let sessions = house.sql("select count(*) from sessions");
    let configuration = configuration.replace("timeout = \"30m\"", "timeout = \"7d\"");
    house.write("wayline.toml", configuration.as_bytes());
    let plan = house.succeed(&["run", "--dry-run"]);
    assert!(plan.contains("sessions") && plan.contains("changed configuration: settings"), "{plan}");
    assert!(!plan.contains("land "), "{plan}");
    house.succeed(&["run"]);
    assert_ne!(house.sql("select count(*) from sessions"), sessions);
    assert_eq!(compare_with(&house, &ask_oracle(&house, "sessions,journeys,customers,channel_switches")), 4);
    assert_eq!(house.succeed(&["run", "--dry-run"]), "nothing to do\n");
}
