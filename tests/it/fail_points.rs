//! The fail points of the library, all of them, each with the time at which it is passed that the tests stop at.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

/// Those of landing.
pub const LANDING: [&str; 16] = [
    "land.plan",
    "land.manifest",
    "land.snapshot",
    "land.read",
    "land.parse",
    "land.part.open",
    "land.part.mid",
    "land.part.close",
    "land.ledger",
    "land.dlq.commit.before",
    "land.dlq.commit.after_put",
    "land.dlq.commit.after_ack",
    "land.commit.before",
    "land.commit.after_put",
    "land.commit.after_ack",
    "land.ack",
];

/// Those behind landing. The identity tables are committed one after another, so each is a place of its own.
pub const BUILDING: [(&str, usize); 21] = [
    ("changes.before", 1),
    ("changes.after", 1),
    ("resolve.collected", 1),
    ("resolve.commit.before", 1),
    ("resolve.commit.after_put", 1),
    ("resolve.commit.after_ack", 1),
    ("resolve.commit.before", 2),
    ("resolve.commit.after_put", 2),
    ("resolve.commit.before", 3),
    ("resolve.commit.after_put", 3),
    ("resolve.commit.before", 4),
    ("resolve.commit.after_put", 4),
    ("resolve.commit.after_ack", 4),
    ("build.parts", 1),
    ("build.commit.before", 1),
    ("build.commit.after_put", 3),
    ("build.commit.after_ack", 2),
    ("publish.file.before", 1),
    ("publish.file.after", 5),
    ("publish.catalog", 1),
    ("report.before", 1),
];

/// Those of a run that changes what a file touches and builds nothing else whole but what tells of runs.
pub const CHANGING: [(&str, usize); 14] = [
    ("changes.before", 1),
    ("changes.after", 1),
    ("changes.before", 2),
    ("changes.after", 2),
    ("changes.before", 3),
    ("changes.after", 3),
    ("build.parts", 1),
    ("build.commit.before", 1),
    ("build.commit.after_put", 1),
    ("build.commit.after_ack", 1),
    ("publish.file.before", 1),
    ("publish.file.after", 5),
    ("publish.catalog", 1),
    ("report.before", 1),
];

/// Those of maintenance.
pub const MAINTENANCE: [(&str, &[usize]); 8] = [
    ("fold.before", &[1, 5]),
    ("fold.after", &[1, 5]),
    ("maintain.compact.before", &[1, 2]),
    ("maintain.compact.after_put", &[1, 2]),
    ("maintain.compact.after_ack", &[1, 2]),
    ("maintain.checkpoint", &[1, 2, 3, 20]),
    ("maintain.vacuum", &[1, 2, 60]),
    ("maintain.fold", &[1, 2, 120]),
];

/// Names in the sources: of fail points, and of those that a commit adds to its prefix.
fn names_in_sources() -> BTreeSet<String> {
    let name = Regex::new(r#"failpoint\("([a-z_.]+)"\)"#).unwrap();
    let prefix = Regex::new(r#"failpoint: "([a-z_.]+)"|derived::replace\([^;]*"([a-z_.]+)"\)"#).unwrap();
    let suffix = Regex::new(r#"failpoint\(&format!\("\{\}([a-z_.]+)""#).unwrap();
    let (mut names, mut prefixes, mut suffixes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                let code = code.join("\n");
                let found = |pattern: &Regex| -> Vec<String> {
                    let all = pattern.captures_iter(&code);
                    all.filter_map(|found| found.iter().skip(1).flatten().next().map(|name| name.as_str().into()))
                        .collect()
                };
                names.extend(found(&name));
                prefixes.extend(found(&prefix));
                suffixes.extend(found(&suffix));
            }
        }
    }
    // That of tables which tests make.
    prefixes.remove("test");
    assert_eq!(suffixes.len(), 3, "{suffixes:?}");
    assert!(prefixes.len() >= 4, "{prefixes:?}");
    names.extend(prefixes.iter().flat_map(|prefix| suffixes.iter().map(move |suffix| format!("{prefix}{suffix}"))));
    names
}

#[test]
fn every_fail_point_of_the_sources_is_one_at_which_tests_stop_a_run() {
    let tested = LANDING
        .into_iter()
        .chain(BUILDING.map(|(name, _)| name))
        .chain(CHANGING.map(|(name, _)| name))
        .chain(MAINTENANCE.map(|(name, _)| name));
    let tested: BTreeSet<String> = tested.map(str::to_string).collect();
    assert_eq!(tested, names_in_sources());
}
