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

/// The first is the main job, and what it prints is what the README shows.
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
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(!printed.is_empty(), "{command} prints something");
        if count == 0 {
            for line in blocks("text")[0].lines().filter(|line| *line != "…") {
                assert!(
                    printed.lines().any(|other| other == line),
                    "the README says {line:?}, and {command} prints:\n{printed}"
                );
            }
        }
        count += 1;
    }
    assert_eq!(count, 4);
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
    let mut functions = wayline::functions::documented();
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    let rows = functions.iter().map(|function| {
        let cell = |text: &str| text.replace('|', "\\|");
        let syntax = cell(&function.documentation.syntax_example);
        let summary = cell(function.summary().trim_end_matches('.'));
        format!("| [`{syntax}`](pipeline/docs/functions.md#{}) | {} | {summary} |\n", function.name, function.kind)
    });
    format!("| function | kind | what it does |\n| --- | --- | --- |\n{}", rows.collect::<String>())
}

/// All that is known of every function, by family.
fn reference() -> String {
    let mut text = String::from(
        "# Functions\n\n\
         What this library adds to SQL. `wayline sql -c '.help NAME'` tells the same in a shell, `show functions like '…'` \
         what each does in a query.\n\n\
         Written by the tests from the documentation in the engine: change it there, then \
         `UPDATE_README=1 cargo test --release readme`.\n",
    );
    let mut section = "";
    let functions = wayline::functions::documented();
    for function in &functions {
        if function.section() != section {
            section = function.section();
            text.push_str(&format!("\n## {section}\n"));
        }
        let kind = if function.kind == "clause" { "" } else { " function" };
        text.push_str(&format!("\n### {}\n\n*{}{kind}*\n\n", function.name, function.kind));
        let syntax: Vec<&str> = function.syntax().map(String::as_str).collect();
        text.push_str(&format!("```sql\n{}\n```\n\n", syntax.join("\n")));
        let (plain, parts): (Vec<_>, Vec<_>) = function.paragraphs().partition(|paragraph| paragraph.head.is_none());
        plain.iter().for_each(|paragraph| text.push_str(&format!("{}\n\n", paragraph.text)));
        for (name, meaning) in function.arguments() {
            text.push_str(&format!("- `{name}`: {meaning}\n"));
        }
        text.push_str(&format!("\n```sql\n{}\n```\n", function.example()));
        for part in parts {
            text.push_str(&format!("\n**{}:** {}\n", part.head.unwrap(), part.text));
        }
    }
    text
}

/// Writes what a file is to hold, or compares.
pub fn update_or_compare(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let stands = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stands == expected, "{} is stale: UPDATE_README=1 cargo test --release readme", path.display());
}

#[test]
fn the_readme_lists_every_function_as_the_engine_documents_it() {
    let (begin, end) = ("<!-- functions: written by the tests with UPDATE_README=1 -->\n", "<!-- end of functions -->");
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (head, rest) = readme.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    update_or_compare("README.md", &format!("{head}{begin}{}{end}{tail}", functions()));
}

#[test]
fn the_reference_tells_all_that_the_engine_knows_of_every_function() {
    update_or_compare("pipeline/docs/functions.md", &reference());
}
