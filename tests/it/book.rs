//! What the book says is what happens: the blocks of its pages are run in order, and print what it shows.
//!
//! Each page is read in a folder of its own that holds a copy of `sample-data/`, with `wayline` on the path.
//! - `sh`: run by a shell that stops at the first failure, in the folder of the last comment `<!-- folder: FOLDER -->`.
//! - `sql`: asked in the project of the last comment `<!-- project: FOLDER -->`.
//! - `text` right behind one of these: its lines, but for `…`, are among what was printed, in this order. A `…` inside a line
//!   stands for anything.
//! - a block of another language is not run; `toml` behind a comment `<!-- file: PATH -->` is written there.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::house::copy;
use crate::readme::update_or_compare;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline/docs")
}

/// Pages in the order of the table of contents.
fn pages() -> Vec<String> {
    let contents = std::fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let link = |line: &str| Some(line.split_once("](")?.1.split_once(')')?.0.to_string());
    contents.lines().filter_map(link).collect()
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let listed = pages();
    for page in &listed {
        assert!(docs().join(page).is_file(), "{page} is listed and missing");
    }
    for entry in std::fs::read_dir(docs()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_page = name.ends_with(".md") && name != "SUMMARY.md";
        assert!(!is_page || listed.contains(&name), "{name} is missing in SUMMARY.md");
    }
}

#[test]
fn links_of_the_book_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(docs().join(&page)).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            let path = target.split('#').next().unwrap();
            if !path.is_empty() && !path.contains("://") && !docs().join(path).exists() {
                wrong.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The reader of a page: where they are and what they saw last.
struct Reader {
    page: String,
    folder: tempfile::TempDir,
    project: Option<String>,
    /// Where commands are run.
    place: String,
    /// Where the next block goes.
    file: Option<String>,
    printed: Option<String>,
    /// Blocks that were run.
    ran: usize,
}

impl Reader {
    fn of(page: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let samples = folder.path().join("sample-data");
        std::fs::create_dir(&samples).unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-data"), &samples);
        Self { page: page.into(), folder, project: None, place: String::new(), file: None, printed: None, ran: 0 }
    }

    fn read(&mut self) {
        let text = std::fs::read_to_string(docs().join(&self.page)).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let comment = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")).unwrap_or_default();
            if let Some((word, value)) = comment.split_once(": ") {
                match word {
                    "project" => self.project = Some(value.into()),
                    "folder" => self.place = value.into(),
                    "file" => self.file = Some(value.into()),
                    _ => {}
                }
            }
            if !line.is_empty() && !line.trim_start().starts_with("```") {
                // What is shown stands right behind what printed it.
                self.printed = None;
            }
            if let Some(language) = line.trim_start().strip_prefix("```") {
                let block: Vec<&str> =
                    lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
                self.take(language.trim(), &block.join("\n"));
            }
        }
    }

    fn take(&mut self, language: &str, block: &str) {
        if let Some(file) = self.file.take() {
            let path = self.folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{block}\n")).unwrap();
            return;
        }
        match language {
            "sh" => self.printed = Some(self.shell(&self.place.clone(), block)),
            "sql" => {
                if let Some(project) = &self.project {
                    let query = self.folder.path().join("query.sql");
                    std::fs::write(&query, block).unwrap();
                    let ask = format!("wayline sql --project {project} -f query.sql --format table");
                    self.printed = Some(self.shell("", &ask));
                }
            }
            "text" => {
                if let Some(printed) = self.printed.take() {
                    self.compare(block, &printed);
                }
            }
            _ => {}
        }
    }

    fn shell(&mut self, place: &str, script: &str) -> String {
        let binary = Path::new(env!("CARGO_BIN_EXE_wayline")).parent().unwrap().to_path_buf();
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([binary].into_iter().chain(std::env::split_paths(&others))).unwrap();
        let output = Command::new("sh")
            .args(["-e", "-c", script])
            .current_dir(self.folder.path().join(place))
            .env("PATH", path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {script}\n{said}", self.page);
        self.ran += 1;
        String::from_utf8_lossy(&output.stdout).into_owned() + &said
    }

    fn compare(&self, shown: &str, printed: &str) {
        let mut rest = printed.lines();
        for line in shown.lines().map(str::trim_end).filter(|line| !line.is_empty() && *line != "…") {
            let found = rest.any(|printed| matches(line, printed.trim_end()));
            assert!(found, "{}: `{line}` is not (in this place) in\n{printed}", self.page);
        }
    }
}

/// Whether a line is as shown, where `…` stands for anything.
fn matches(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut is_open = false;
    for part in parts {
        is_open = part.is_empty();
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    is_open || rest.is_empty()
}

#[test]
fn a_shown_line_matches_what_is_printed() {
    for (shown, printed, does) in [
        ("a b", "a b", true),
        ("a b", "a b c", false),
        ("a …", "a b c", true),
        ("… c", "a b c", true),
        ("a … c", "a b c", true),
        ("a … d", "a b c", false),
        ("b …", "a b c", false),
    ] {
        assert_eq!(matches(shown, printed), does, "{shown}: {printed}");
    }
}

#[test]
fn the_blocks_of_every_page_run_and_print_what_is_shown() {
    let mut ran = 0;
    for page in pages() {
        let mut reader = Reader::of(&page);
        reader.read();
        ran += reader.ran;
    }
    assert!(ran >= 20, "only {ran} blocks were run");
}

/// The help of a command and of those below it.
fn help(command: &[&str], text: &mut String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_wayline")).args(command).arg("--help").env("COLUMNS", "100").output().unwrap();
    assert!(output.status.success(), "{command:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let name = [&["wayline"], command].concat().join(" ");
    text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", said.trim_end()));
    let below = said.split("\nCommands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap();
    for line in below.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let word = line.split_whitespace().next().unwrap();
        if word != "help" {
            help(&[command, &[word]].concat(), text);
        }
    }
}

#[test]
fn the_command_line_reference_is_what_the_commands_say() {
    let mut text = String::from(
        "# Command line\n\nWhat each command says of itself with `--help`. Written by the tests: `UPDATE_README=1 cargo test --release book`.\n",
    );
    help(&[], &mut text);
    update_or_compare("pipeline/docs/cli.md", &text);
}

/// The sections of the configuration, as the schema describes them.
struct Schema(Value);

impl Schema {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("wayline.schema.json");
        Self(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    /// What a part of the schema refers to.
    fn referred(&self, part: &Value) -> Option<&Value> {
        let reference = [&part["allOf"][0], &part["anyOf"][0], &part["items"], part]
            .into_iter()
            .find_map(|place| place["$ref"].as_str())?;
        Some(&self.0["definitions"][reference.rsplit('/').next().unwrap()])
    }

    /// A table of the keys of a section, and the sections below it.
    fn keys(&self, heading: &str, section: &Value, text: &mut String) {
        text.push_str(&format!("\n## {heading}\n\n| key | default | is |\n| --- | --- | --- |\n"));
        let required: Vec<_> = section["required"].as_array().into_iter().flatten().collect();
        let mut below = Vec::new();
        for (key, part) in section["properties"].as_object().unwrap() {
            let referred = self.referred(part);
            if let Some(inner) = referred.filter(|referred| referred.get("properties").is_some()) {
                below.push((key, inner));
                continue;
            }
            let default = match &part["default"] {
                Value::Null if required.contains(&&Value::from(key.as_str())) => "required".to_string(),
                Value::Null => String::new(),
                default => format!("`{default}`"),
            };
            let mut meaning = words(part);
            for choice in referred.and_then(|referred| referred["oneOf"].as_array()).into_iter().flatten() {
                meaning.push_str(&format!(" `{}`: {}", choice["const"], words(choice)));
            }
            text.push_str(&format!("| `{key}` | {default} | {} |\n", meaning.replace('|', "\\|")));
        }
        for (key, inner) in below {
            self.keys(&format!("[{}.{key}]", heading.trim_matches(['[', ']'])), inner, text);
        }
    }
}

fn words(part: &Value) -> String {
    part["description"].as_str().unwrap_or_default().replace('\n', " ")
}

#[test]
fn the_configuration_reference_is_what_the_schema_says() {
    let mut text = String::from(
        "# Configuration\n\nEvery key of `wayline.toml`. Unknown keys are errors. A variable `WAYLINE__SECTION__KEY` goes before `[section] key`; secrets come from the \
         environment or a file only. Lengths of time are written as `30m`, `7d` or `1h 30m`.\n\nWritten by the tests from `wayline.schema.json`: \
         `UPDATE_README=1 cargo test --release book`.\n",
    );
    let schema = Schema::read();
    for (name, part) in schema.0["properties"].as_object().unwrap() {
        let is_list = part["type"] == "array";
        let heading = if is_list { format!("[[{name}]]") } else { format!("[{name}]") };
        match schema.referred(part).filter(|section| section.get("properties").is_some()) {
            Some(section) => schema.keys(&heading, section, &mut text),
            None => text.push_str(&format!("\n## {heading}\n\n{}\n", words(part))),
        }
    }
    update_or_compare("pipeline/docs/configuration.md", &text);
}
