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
