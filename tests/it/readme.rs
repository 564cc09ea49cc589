//! What the README says is what happens: its commands are run, its configuration is read.

use std::path::Path;
use std::process::Command;

use crate::house::{House, copy, sample};

/// Blocks of one language, without the fences.
fn blocks(language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let fence = format!("```{language}\n");
    readme.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_string()).collect()
}

#[test]
fn the_commands_of_the_readme_run() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("sample-data/shop")).unwrap();
    copy(&sample("shop"), &folder.path().join("sample-data/shop"));
    let mut count = 0;
    for block in blocks("sh") {
        let Some(at) = block.find("cargo run --release -- ") else { continue };
        let command = block[at..].split("\ncargo ").next().unwrap().replace("cargo run --release --", "\"$WAYLINE\"");
        let output = Command::new("sh")
            .args(["-c", &command])
            .current_dir(folder.path())
            .env("WAYLINE", env!("CARGO_BIN_EXE_wayline"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{command} prints something");
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn the_configuration_of_the_readme_is_read() {
    let configurations = blocks("toml");
    assert_eq!(configurations.len(), 1);
    let line = "{\"id\":\"a\",\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"Purchase\",\"anonymousId\":\"x\",\
                \"email\":\"a@example.org\",\"properties\":{\"revenue\":\"9.5\"}}\n";
    let house = House::new(&configurations[0], &[("landing-zone/web/1.jsonl.gz", line.as_bytes())]);
    house.succeed(&["run"]);
    assert_eq!(house.sql("select touchpoint, value, batch from events"), ["purchase,9.5000,1"]);
}

/// Every function with what it does, from the documentation in the engine.
fn functions() -> String {
    let mut functions: Vec<(&str, datafusion::logical_expr::Documentation)> = Vec::new();
    let mut add = |kind, documentation: Option<&datafusion::logical_expr::Documentation>| {
        functions.extend(documentation.map(|documentation| (kind, documentation.clone())));
    };
    wayline::functions::scalar_functions().iter().for_each(|function| add("scalar", function.documentation()));
    wayline::functions::aggregate_functions().iter().for_each(|function| add("aggregate", function.documentation()));
    wayline::functions::window_functions().iter().for_each(|function| add("window", function.documentation()));
    wayline::functions::path_tables().iter().for_each(|table| add("table", Some(table.documentation())));
    functions.sort_by(|(_, a), (_, b)| a.syntax_example.cmp(&b.syntax_example));
    let rows = functions.iter().map(|(kind, documentation)| {
        let sentence = documentation.description.split(". ").next().unwrap_or_default().trim_end_matches('.');
        let sentence = sentence.split(';').next().unwrap_or_default().replace('|', "\\|");
        let sentence = sentence.strip_prefix("Returns ").unwrap_or(&sentence);
        format!("| `{}` | {kind} | {sentence} |\n", documentation.syntax_example)
    });
    format!("| function | kind | what it does |\n| --- | --- | --- |\n{}", rows.collect::<String>())
}

#[test]
fn the_readme_lists_every_function_as_the_engine_documents_it() {
    let (begin, end) = ("<!-- functions: written by the tests with UPDATE_README=1 -->\n", "<!-- end of functions -->");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = readme.split_once(begin).unwrap();
    let (listed, tail) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, format!("{head}{begin}{}{end}{tail}", functions())).unwrap();
    } else {
        assert_eq!(listed, functions());
    }
}
