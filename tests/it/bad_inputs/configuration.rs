//! Rows about configuration and jobs: refused at the start, with the line.

use super::decided;
use crate::house::House;

const SOURCE: &str = r#"
[[sources]]
name = "web"
path = "in/*"
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "event"
channel     = "'web'"
"#;

const LINE: &[u8] = b"{\"id\":\"a\",\"ts\":\"2025-01-01T10:00:00Z\",\"event\":\"view\"}\n";

#[test]
fn names_of_sources_and_models_never_become_paths() {
    decided("B066", "DENY bad_name");
    decided("B108", "DENY reserved_name");
    for name in ["../../etc/passwd", "..%2f", "/etc/passwd", "C:\\\\x", "", "a.b", "_Log", "a b", "名"] {
        let house = House::new(&SOURCE.replace("\"web\"", &format!("\"{name}\"")), &[("in/1.jsonl", LINE)]);
        let stderr = house.fail(2, &["land"]);
        assert!(stderr.contains("is not of the form [a-z0-9_-]{1,64}"), "{name}: {stderr}");
        assert!(!house.path().join("lake").exists(), "{name}");
    }
    for name in ["_delta_log", ".hidden", "Upper", "a-b", "a b"] {
        let house = House::new(SOURCE, &[("in/1.jsonl", LINE)]);
        house.write(&format!("queries/{name}.sql"), b"select 1 as one");
        let output = house.wayline(&["run"]);
        let folder = house.path().join(format!("lake/models/{name}"));
        assert!(!folder.exists(), "{name} became a folder of the lake");
        assert!(name.starts_with('.') || output.status.code() == Some(2), "{name} is a model");
    }
}

#[test]
fn a_wrong_configuration_is_refused_with_its_line_before_anything_is_done() {
    decided("B171", "DENY config");
    for (what, text, said) in [
        ("unknown key", format!("{SOURCE}[landing]\nmax_record_byte = 5\n"), "max_record_byte"),
        ("unknown section", format!("{SOURCE}[lnading]\nx = 5\n"), "lnading"),
        ("duplicate key", format!("[lake]\nurl = \"a\"\nurl = \"b\"\n{SOURCE}"), "duplicate key"),
        ("duplicate section", format!("[lake]\nurl = \"a\"\n{SOURCE}\n[lake]\nurl = \"b\"\n"), "duplicate key"),
        ("wrong type", format!("{SOURCE}[landing]\nmax_record_bytes = \"large\"\n"), "large"),
        ("no TOML", format!("{SOURCE}[landing\n"), "line"),
        ("a secret", format!("[privacy]\npseudonym_key = \"0123456789abcdef\"\n{SOURCE}"), "pseudonym_key"),
    ] {
        let house = House::new(&text, &[("in/1.jsonl", LINE)]);
        for command in ["land", "run", "check", "status", "replay"] {
            let stderr = house.fail(2, &[command]);
            assert!(stderr.contains(said) && stderr.contains("line "), "{what}: {stderr}");
        }
        assert!(!house.path().join("lake").exists() && !house.path().join("a").exists(), "{what}");
    }
    // A folder of the lake that lies among the sources is not a source of itself, wherever it lies.
    for lake in ["lake", "in/lake", "./in/../in/lake"] {
        let text = format!("[lake]\nurl = \"{lake}\"\n{}", SOURCE.replace("in/*", "**/*.jsonl"));
        let house = House::new(&text, &[("in/1.jsonl", LINE)]);
        house.succeed(&["run"]);
        assert_eq!(house.sql("select count(*) from events"), ["1"], "{lake}");
        house.succeed(&["run"]);
        assert_eq!(house.sql("select count(*) from batches"), ["1"], "{lake}");
    }
}

#[test]
fn maintenance_never_runs_beside_a_job_whatever_it_is_asked_to_keep() {
    decided("B172", "RETRY config");
    let house = House::new(SOURCE, &[("in/1.jsonl", LINE)]);
    house.succeed(&["run"]);
    for retain in ["-1s", "soon", ""] {
        house.fail(2, &["maintain", "--retain", retain]);
    }
    let lock = std::fs::File::create(house.path().join(".wayline.lock")).unwrap();
    lock.lock().unwrap();
    let before = house.lake_files();
    for command in [&["maintain", "--retain", "0s"][..], &["replay"], &["run"]] {
        let stderr = house.fail(75, command);
        assert!(stderr.contains("another run holds"), "{stderr}");
    }
    assert_eq!(house.lake_files(), before);
    drop(lock);
    house.succeed(&["maintain", "--retain", "0s"]);
    assert_eq!(house.sql("select count(*) from events"), ["1"]);
}
