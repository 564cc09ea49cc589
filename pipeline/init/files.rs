//! Which of a user's files are one source, what it is called, and by which pattern its next files are found.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use super::words::folded;
use crate::error::{Context, Error, Result};
use crate::sources::Format;

/// Words in names of files that say nothing of what is in them.
const EMPTY_WORDS: [&str; 26] = [
    "part",
    "data",
    "event",
    "events",
    "export",
    "exports",
    "file",
    "files",
    "output",
    "log",
    "logs",
    "sample",
    "raw",
    "jsonl",
    "json",
    "csv",
    "parquet",
    "landing",
    "zone",
    "landing_zone",
    "tmp",
    "input",
    "source",
    "batch",
    "txt",
    "dat",
];

/// Files that belong together by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The name of the source.
    pub name: String,
    /// The pattern of its files, as the configuration has it.
    pub pattern: String,
    /// Its files, as the configuration would show them.
    pub files: Vec<String>,
}

/// A file, folder or pattern as it is given, as the configuration has it: below the project where it lies there, whole
/// elsewhere, so that it means the same wherever the project is run from.
pub fn pattern_of(given: &str, project: &Path) -> Result<String> {
    if given.contains("://") {
        return Ok(if given.ends_with('/') { format!("{given}**/*") } else { given.to_string() });
    }
    let mut path = without_dots(&std::path::absolute(given)?);
    if path.is_dir() {
        let is_flat = std::fs::read_dir(&path).context(path.display())?.flatten().any(|entry| entry.path().is_file());
        path.push(if is_flat { "*" } else { "**/*" });
    }
    let project = canonical(&without_dots(&std::path::absolute(project)?));
    let path = canonical(&path);
    let inside = path.strip_prefix(&project).ok().map(Path::to_path_buf);
    let text = inside.unwrap_or(path);
    let shown = text.to_str().ok_or_else(|| Error::invalid(format!("{} is no UTF-8", text.display())))?;
    Ok(shown.to_string())
}

fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// A path whose folders, as far as they are there, are no symbolic links.
fn canonical(path: &Path) -> PathBuf {
    match (path.parent().map(Path::canonicalize), path.parent(), path.file_name()) {
        (Some(Ok(parent)), _, Some(name)) => parent.join(name),
        (_, Some(parent), Some(name)) => canonical(parent).join(name),
        _ => path.to_path_buf(),
    }
}

/// Whether a pattern names one file.
pub fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', '{'])
}

/// Groups files by what their names share beside numbers, dates and hashes.
pub fn group(files: &[String]) -> Vec<Group> {
    let mut alike: BTreeMap<Vec<String>, Vec<&String>> = BTreeMap::new();
    for file in files {
        alike
            .entry(words_of(file).into_iter().map(|word| if is_number(&word) { "#".into() } else { word }).collect())
            .or_default()
            .push(file);
    }
    let mut groups: Vec<Group> = alike
        .into_values()
        .map(|files| {
            let pattern = common(&files);
            Group { name: name_of(&pattern), pattern, files: files.into_iter().cloned().collect() }
        })
        .collect();
    // In the order in which they were given.
    groups.sort_by_key(|group| files.iter().position(|file| group.files.contains(file)));
    groups
}

/// A pattern of any files in a folder, narrowed to the ending that all of some have: what else lies there is none of them.
pub fn with_ending(pattern: &str, files: &[String]) -> String {
    let ending = |file: &String| {
        let name = file.rsplit('/').next().unwrap_or_default();
        name.find('.')
            .map(|dot| name[dot..].to_string())
            .filter(|ending| Format::from_name(&format!("x{ending}")).is_some())
    };
    let first = files.first().and_then(ending);
    match first {
        Some(first) if pattern.ends_with("/*") && files.iter().all(|file| ending(file).as_ref() == Some(&first)) => {
            format!("{pattern}{first}")
        }
        _ => pattern.to_string(),
    }
}

/// Makes the names of groups differ.
pub fn tell_apart(groups: &mut [Group]) {
    for at in 1..groups.len() {
        let wanted = groups[at].name.clone();
        let is_taken = |name: &str| groups[..at].iter().any(|group| group.name == name);
        let free = (1..).map(|number| if number == 1 { wanted.clone() } else { format!("{wanted}_{number}") });
        groups[at].name = free.into_iter().find(|name| !is_taken(name)).unwrap_or(wanted);
    }
}

/// The id that a writer of files gives each of them, whole or its beginning: its letters say nothing.
static UUID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("[0-9a-f]{8}(-[0-9a-f]{4})+(-[0-9a-f]{12})?").expect("a pattern of ours is one"));

/// A path cut where digits (or a hash) begin and end.
fn words_of(path: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut end = 0;
    for uuid in UUID.find_iter(path) {
        words.extend(words_between(&path[end..uuid.start()]));
        words.push(uuid.as_str().to_string());
        end = uuid.end();
    }
    words.extend(words_between(&path[end..]));
    words
}

fn words_between(path: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric();
    let mut words: Vec<String> = Vec::new();
    for c in path.chars() {
        let goes_on = words.last().and_then(|word| word.chars().last()).is_some_and(|last| {
            is_part(last) == is_part(c)
                && (!is_part(c)
                    || last.is_ascii_digit() == c.is_ascii_digit()
                    || is_hash(words.last().map_or("", String::as_str)))
        });
        match words.last_mut().filter(|_| goes_on) {
            Some(word) => word.push(c),
            None => words.push(c.to_string()),
        }
    }
    // Pieces of a hash belong together: `6017bb5b`.
    let mut joined: Vec<String> = Vec::new();
    for word in words {
        let both_parts = joined.last().is_some_and(|last| last.chars().all(is_part) && word.chars().all(is_part));
        match joined.last_mut() {
            Some(last) if both_parts && (last.chars().chain(word.chars())).all(|c| c.is_ascii_hexdigit()) => {
                last.push_str(&word)
            }
            _ => joined.push(word),
        }
    }
    joined
}

fn is_hash(word: &str) -> bool {
    word.len() > 7 && word.chars().all(|c| c.is_ascii_hexdigit())
}

fn is_number(word: &str) -> bool {
    if UUID.is_match(word) {
        return true;
    }
    (word.contains(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_hexdigit())) || is_hash(word)
}

/// The pattern of paths that differ in numbers alone.
fn common(files: &[&String]) -> String {
    let words: Vec<Vec<String>> = files.iter().map(|file| words_of(file)).collect();
    let mut pattern = String::new();
    for (place, word) in words[0].iter().enumerate() {
        match words.iter().all(|other| other.get(place) == Some(word)) {
            true => pattern.push_str(word),
            // Dates are many numbers: one wildcard is enough within a segment.
            false => pattern.push('*'),
        }
    }
    static REPEATED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\*([-_T.]?\*)+").expect("a pattern of ours is one"));
    let has_wildcard = pattern.contains('*');
    match has_wildcard {
        // The year may stay equal in a sample and must not in the pattern: `2025-01-*` would end with the month.
        true => REPEATED.replace_all(&loosen(&pattern), "*").into_owned(),
        false => pattern,
    }
}

/// Numbers beside a wildcard become wildcards.
fn loosen(pattern: &str) -> String {
    static BESIDE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(\d+[-_T]?)+\*|\*([-_T]?\d+)+").expect("a pattern of ours is one"));
    BESIDE.replace_all(pattern, "*").into_owned()
}

/// The name of a source whose files have a pattern: the words of the file's name, else of its folders, that say
/// something.
pub fn name_of(pattern: &str) -> String {
    for segment in pattern.rsplit('/') {
        let mut stem = segment;
        while let Some((rest, ending)) = stem.rsplit_once('.') {
            if Format::from_name(&format!("x.{ending}")).is_none() && !["gz", "zst", "gzip", "zstd"].contains(&ending) {
                break;
            }
            stem = rest;
        }
        // A folder of a Hive partition tells a value.
        if stem.contains('=') {
            continue;
        }
        let words: Vec<String> = folded(&UUID.replace_all(stem, ""))
            .split('_')
            .filter(|word| !word.is_empty() && !is_number(word) && !EMPTY_WORDS.contains(word))
            .map(|word| word.chars().filter(char::is_ascii_alphanumeric).collect::<String>())
            .filter(|word| !word.is_empty())
            .collect();
        if !words.is_empty() {
            return words.join("_").chars().take(64).collect();
        }
    }
    "events".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouped(files: &[&str]) -> Vec<(String, String, usize)> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_string()).collect();
        group(&files).into_iter().map(|group| (group.name, group.pattern, group.files.len())).collect()
    }

    #[test]
    fn files_that_differ_in_numbers_are_one_source() {
        let found = grouped(&["d/web-2025-01-05.jsonl", "d/web-2025-01-06.jsonl", "d/calls.csv"]);
        let expected = [("web".into(), "d/web-*.jsonl".into(), 2), ("calls".into(), "d/calls.csv".into(), 1)];
        assert_eq!(found, expected);
        let found = grouped(&["web/dt=2025-01-05/part-0.parquet", "web/dt=2025-01-06/part-0.parquet"]);
        assert_eq!(found, [("web".into(), "web/dt=*/part-0.parquet".into(), 2)]);
        let found = grouped(&["x/part-00000-6017bb5b-3fab.csv", "x/part-00001-8cef07b2-bfeb.csv"]);
        assert_eq!(found, [("x".into(), "x/part-*.csv".into(), 2)]);
    }

    #[test]
    fn a_folder_is_narrowed_to_the_files_that_are_there() {
        let narrowed =
            |files: &[&str]| with_ending("d/*", &files.iter().map(|file| (*file).to_string()).collect::<Vec<_>>());
        assert_eq!(narrowed(&["d/a.jsonl.gz", "d/b.jsonl.gz"]), "d/*.jsonl.gz");
        assert_eq!(narrowed(&["d/a.jsonl.gz", "d/b.csv"]), "d/*");
    }

    #[test]
    fn a_source_is_named_by_what_says_something() {
        for (pattern, expected) in [
            ("landing-zone/ecom.csv.gz", "ecom"),
            ("/data/web/events-*.jsonl", "web"),
            ("/data/*.jsonl", "events"),
            ("s3://bucket/app/dt=*/part-0.parquet", "app"),
            ("Kasse 2025.csv", "kasse"),
        ] {
            assert_eq!(name_of(pattern), expected, "{pattern}");
        }
    }
}
