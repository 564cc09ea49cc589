//! A project in a folder of its own, driven through the real binary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A copy of a sample project.
pub struct House {
    folder: TempDir,
}

impl House {
    /// Copies `sample-data/<name>`, without what is expected of it.
    pub fn of_sample(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&sample(name), folder.path());
        Self { folder }
    }

    /// A project of one configuration and some files.
    pub fn new(configuration: &str, files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let house = Self { folder };
        house.write("wayline.toml", configuration.as_bytes());
        for (path, content) in files {
            house.write(path, content);
        }
        house
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, path: &str, content: &[u8]) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // In one step: a run that is under way must not find half of it.
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, content).unwrap();
        std::fs::rename(unfinished, path).unwrap();
    }

    /// The binary on this project, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wayline"));
        command.args(arguments).arg("--project").arg(self.path());
        command.env_remove("WAYLINE_PSEUDONYM_KEY").env_remove("FAILPOINTS").env_remove("RUST_LOG");
        // Houses are small, so that a new file is a large share: it is to be built in by what it touches all the same.
        command.env("WAYLINE__ENGINE__REBUILD_SHARE", "1.0");
        command
    }

    pub fn wayline(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; returns its stdout.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.wayline(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with an exit code; returns its stderr.
    pub fn fail(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.wayline(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        stderr
    }

    /// Runs with a fail point armed; the process must die there.
    pub fn die_at(&self, failpoint: &str, arguments: &[&str]) {
        self.die_at_time(failpoint, 1, arguments);
    }

    /// Runs with a fail point armed that is passed some times; the process must die there at the last of them.
    pub fn die_at_time(&self, failpoint: &str, time: usize, arguments: &[&str]) {
        let action = match time {
            1 => format!("{failpoint}=return"),
            _ => format!("{failpoint}={}*off->return", time - 1),
        };
        let output = self.command(arguments).env("FAILPOINTS", action).output().unwrap();
        assert_eq!(output.status.code(), Some(137), "{failpoint}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The report of a command that succeeds.
    pub fn report(&self, arguments: &[&str]) -> Value {
        let out = self.succeed(&[arguments, &["--json"]].concat());
        serde_json::from_str(out.lines().last().unwrap()).unwrap()
    }

    /// Rows of a query as CSV lines, without the header.
    pub fn sql(&self, query: &str) -> Vec<String> {
        let out = self.succeed(&["sql", "-c", query, "--format", "csv"]);
        out.lines().skip(1).map(str::to_string).collect()
    }

    /// Path, size and time of every file of the lake.
    pub fn lake_files(&self) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
        let mut found = Vec::new();
        walk(&self.path().join("lake"), &mut found);
        found.sort();
        found
    }
}

/// Folder of a sample project.
pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-data").join(name)
}

pub fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name == "expected" || name == "lake" {
            continue;
        }
        let target = to.join(&name);
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every published file by its path, but for those that tell of runs and of the times of batches.
pub fn published(house: &House) -> BTreeMap<String, Vec<u8>> {
    let marts = house.path().join("lake/marts");
    let mut found = BTreeMap::new();
    read(&marts, &marts, &mut found);
    found.retain(|path, _| path != "runs.parquet" && path != "data_quality.parquet");
    found
}

fn read(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
}

fn walk(folder: &Path, found: &mut Vec<(PathBuf, u64, std::time::SystemTime)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            walk(&entry.path(), found);
        } else {
            found.push((entry.path(), meta.len(), meta.modified().unwrap()));
        }
    }
}
