//! The data dictionary: the page is what the binary writes, tables are what it says, and its words reach the files.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::house::House;
use crate::python::python;
use crate::readme::update_or_compare;

#[test]
fn the_page_is_what_the_binary_writes() {
    let house = House::new("", &[]);
    let page = house.path().join("dictionary.md");
    let report = house.succeed(&["docs", "-o", page.to_str().unwrap(), "--json"]);
    assert!(report.ends_with("\"status\":\"done\",\"tables\":47}\n"), "{report}");
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(house.succeed(&["docs"]), page);
    let (title, rest) = page.split_once('\n').unwrap();
    let note = "<!-- written by the tests with UPDATE_README=1: change the headers of the models -->";
    let about = "The exact rules are in the [definitions](definitions.md).";
    update_or_compare("pipeline/docs/dictionary.md", &format!("{title}\n\n{note}\n\n{about}\n{rest}"));
}

/// Whoever reads the file meanwhile sees the old one or the new one.
#[test]
fn a_file_with_the_dictionary_is_replaced_in_one_step() {
    use std::io::Read;
    let house = House::new("", &[("paths.md", b"the old one")]);
    let file = house.path().join("paths.md");
    let mut reader = std::fs::File::open(&file).unwrap();
    house.succeed(&["docs", "paths", "-o", file.to_str().unwrap()]);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!(read, "the old one");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# paths\n"));
    let missing = house.path().join("missing/paths.md");
    let error = house.fail(2, &["docs", "-o", missing.to_str().unwrap()]);
    assert!(error.contains("missing/paths.md"), "{error}");
}

#[test]
fn one_table_is_told_in_words_and_as_json() {
    let house = House::new("", &[]);
    let text = house.succeed(&["docs", "paths"]);
    assert!(text.starts_with("# paths\n\nPaths: "), "{text}");
    assert!(text.contains("| `conversion_rate` | double | 0 to 1 | converted / journeys |\n"), "{text}");
    let table: Value = serde_json::from_str(&house.succeed(&["docs", "paths", "--format", "json"])).unwrap();
    assert_eq!((&table["kind"], &table["grain"]), (&"mart".into(), &serde_json::json!(["path", "started_date"])));
    let error = house.fail(2, &["docs", "path"]);
    assert!(error.contains("no table is called `path`") && error.contains("did you mean `paths`?"), "{error}");
}

/// A type of the engine as the dictionary calls it.
fn in_sql(arrow: &str) -> String {
    // The name of the elements of a list may follow them.
    let element = arrow.strip_prefix("List(").map(|rest| rest.split(", field: ").next().unwrap().trim_end_matches(')'));
    let name = match element.unwrap_or(arrow) {
        "Utf8" | "Utf8View" | "Dictionary(Int32, Utf8" | "Dictionary(Int32, Utf8)" => "varchar",
        "Int64" => "bigint",
        "Int32" => "integer",
        "Float64" => "double",
        "Boolean" => "boolean",
        "Date32" => "date",
        "Timestamp(µs, \"UTC\")" | "Timestamp(µs, \"UTC\"" => "timestamptz",
        "Binary" => "blob",
        "Decimal128(18, 4)" | "Decimal128(18, 4" => "decimal(18,4)",
        "Decimal128(28, 4)" => "decimal(28,4)",
        "Decimal128(38, 4)" => "decimal(38,4)",
        "Interval(MonthDayNano)" => "interval",
        struct_of if struct_of.starts_with("Struct(\"kind\"") => "struct(kind varchar, value varchar)",
        other => panic!("unknown type {other}"),
    };
    format!("{name}{}", if element.is_some() { "[]" } else { "" })
}

#[test]
fn every_table_that_was_built_has_the_columns_and_types_of_the_catalog() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let built = "select table_name, ordinal_position, column_name, data_type from information_schema.columns
                 where table_schema = 'public' and table_name <> 'catalog' order by 1, 2";
    let rows = house.succeed(&["sql", "-c", built, "--format", "ndjson"]);
    let built: Vec<(String, String, String)> = rows
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_string();
            (text("table_name"), text("column_name"), in_sql(&text("data_type")))
        })
        .collect();
    let said = "select table_name, position, column_name, data_type from catalog order by 1, 2";
    let said: Vec<(String, String, String)> = house
        .succeed(&["sql", "-c", said, "--format", "ndjson"])
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_string();
            (text("table_name"), text("column_name"), text("data_type"))
        })
        .collect();
    assert!(said.len() > 200, "{}", said.len());
    assert_eq!(built, said);
    let published = "select count(*), count(distinct as_of) from catalog where is_published and as_of is null";
    assert_eq!(house.sql(published), ["0,0"]);
}

#[test]
fn a_changed_word_is_published_and_builds_nothing() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let file = house.path().join("lake/marts/paths.parquet");
    let before = std::fs::read(&file).unwrap();
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries/marts/paths.sql");
    let sql = std::fs::read_to_string(queries).unwrap();
    let changed = sql.replace("journeys that took the path", "journeys that went this way");
    assert_ne!(changed, sql);
    house.write("queries/paths.sql", changed.as_bytes());
    let report: Value = serde_json::from_str(house.succeed(&["run", "--json"]).lines().last().unwrap()).unwrap();
    let done: Vec<&str> =
        report["results"].as_array().unwrap().iter().map(|r| r["unique_id"].as_str().unwrap()).collect();
    let of_paths: Vec<&&str> = done.iter().filter(|id| id.contains("paths")).collect();
    assert_eq!(of_paths, [&"mart.wayline.paths"], "{done:?}");
    assert!(!done.contains(&"model.wayline.journeys"), "{done:?}");
    let after = std::fs::read(&file).unwrap();
    assert!(after.windows(27).any(|bytes| bytes == b"journeys that went this way"));
    // Back again, to the last byte.
    house.write("queries/paths.sql", sql.as_bytes());
    house.succeed(&["run"]);
    assert!(std::fs::read(&file).unwrap() == before);
}

#[test]
fn the_example_of_a_described_model_is_published_with_its_words() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline/docs/bi.md")).unwrap();
    let model = page.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    let house = House::of_sample("odd-cases");
    house.write("queries/big_spenders.sql", model.as_bytes());
    house.succeed(&["run"]);
    let told = house.succeed(&["docs", "big_spenders"]);
    assert!(
        told.contains("| `spent` | decimal(38,4) | units of currency | what the customer spent in all |"),
        "{told}"
    );
    assert!(told.contains("| `last_seen_at` | timestamptz |  | time of the last event |"), "{told}");
    let catalog = std::fs::read_to_string(house.path().join("lake/catalog.json")).unwrap();
    assert!(catalog.contains("what the customer spent in all"), "{catalog}");
    let described = "select column_name, description from catalog where table_name = 'big_spenders' order by position";
    assert_eq!(house.sql(described)[1], "spent,what the customer spent in all");
}

#[test]
fn published_files_keep_what_bi_tools_rely_on() {
    let Some(python) = python("tests/outputs/requirements.txt") else {
        return;
    };
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outputs/bi_contract.py");
    let output = Command::new(python).arg(script).arg(house.path().join("lake")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: BTreeMap<String, Vec<String>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["marts"].len(), 11, "{:?}", seen["marts"]);
    assert!(seen["wrong"].is_empty(), "{}", seen["wrong"].join("\n"));
}
