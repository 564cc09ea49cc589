//! Clock, disk, memory and limits of this machine, as its kernel tells them. What it does not tell is not judged.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use super::Finding;
use crate::config::Project;
use crate::workspace::Workspace;

/// The year in which this was written: no clock is right before it.
const FIRST_YEAR: i32 = 2025;
/// Files that a run may hold open: readers, spills and parts of tables.
const OPEN_FILES: u64 = 1_024;
/// Free bytes below which a run is at risk, and below which it cannot end.
const LITTLE_DISK: u64 = 2 << 30;
const NO_DISK: u64 = 200 << 20;
/// What the process needs beside the memory of its queries.
const BESIDE_QUERIES: u64 = 512 << 20;

/// Whether the clock can be right and goes on evenly.
pub fn clock() -> Vec<Finding> {
    use chrono::{Datelike, Utc};
    let now = Utc::now();
    if now.year() < FIRST_YEAR {
        let message = format!("says {}", now.date_naive());
        return vec![Finding::fail("clock", message, "set it: events of now would count as events of the future")];
    }
    let (steady, wall) = (Instant::now(), SystemTime::now());
    std::thread::sleep(Duration::from_millis(20));
    let (steady, wall) = (steady.elapsed(), wall.elapsed());
    let is_even = wall.is_ok_and(|wall| wall.abs_diff(steady) < Duration::from_millis(50));
    match is_even {
        true => vec![Finding::ok("clock", format!("{} UTC, and it goes on evenly", now.format("%Y-%m-%d %H:%M:%S")))],
        false => vec![Finding::warn("clock", "jumps", "let NTP slew it instead of setting it")],
    }
}

/// The limit of open files.
pub fn open_files() -> Option<Finding> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    let soft = line.split_whitespace().nth(3)?;
    let Ok(count) = soft.parse::<u64>() else { return Some(Finding::ok("open files", soft)) };
    Some(match count < OPEN_FILES {
        true => Finding::warn("open files", format!("at most {count}"), format!("ulimit -n {}", OPEN_FILES * 4)),
        false => Finding::ok("open files", format!("at most {count}")),
    })
}

/// Whether queries may hold more memory than there is.
pub fn memory(project: &Project) -> Option<Finding> {
    let wanted = project.config.engine.memory_bytes().ok()? as u64;
    let (limit, whose) = memory_limit()?;
    let shown = |bytes: u64| format!("{} MiB", bytes >> 20);
    let message = format!("queries may hold {}, {whose} {}", shown(wanted), shown(limit));
    if wanted + BESIDE_QUERIES <= limit {
        return Some(Finding::ok("memory", message));
    }
    let fitting = (limit.saturating_sub(BESIDE_QUERIES) >> 20).max(64);
    let remedy = format!("set [engine] memory = \"{fitting}M\"; queries spill beyond it");
    Some(if wanted > limit {
        Finding::fail("memory", message, remedy)
    } else {
        Finding::warn("memory", message, remedy)
    })
}

/// The least of what the control group allows and what the machine has free.
fn memory_limit() -> Option<(u64, &'static str)> {
    let of_machine = available_memory(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    match group_limit() {
        Some(limit) if limit < of_machine => Some((limit, "the control group allows")),
        _ => Some((of_machine, "the machine has free")),
    }
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// The least limit of our control group and those above it.
fn group_limit() -> Option<u64> {
    let group = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = group.lines().find_map(|line| line.strip_prefix("0::"))?;
    let root = Path::new("/sys/fs/cgroup");
    let folder = root.join(own.trim_start_matches('/'));
    let limits = folder.ancestors().take_while(|folder| folder.starts_with(root));
    limits
        .filter_map(|folder| std::fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse::<u64>().ok())
        .min()
}

/// Free room where the lake lies and where queries spill, and whether the lake's disk outlives the machine.
pub fn disk(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lake = workspace.lake.local_folder();
    let places = [("disk of the lake", lake.clone()), ("disk of spills", Some(std::env::temp_dir()))];
    for (check, place) in places.into_iter().filter_map(|(check, place)| Some((check, place?))) {
        let there = place.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        let Some(free) = free_bytes(there) else { continue };
        let message = format!("{} MiB free at {}", free >> 20, there.display());
        let remedy = "make room: a table is written beside its old version before that goes";
        findings.push(match free {
            _ if free < NO_DISK => Finding::fail(check, message, remedy),
            _ if free < LITTLE_DISK => Finding::warn(check, message, remedy),
            _ => Finding::ok(check, message),
        });
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    if let Some((kind, why)) = lake.and_then(|lake| trap(file_system(&mounts, &lake)?)) {
        findings.push(Finding::warn(
            "disk of the lake",
            format!("is of kind {kind}: {why}"),
            "use a local disk or an object store URL",
        ));
    }
    findings
}

/// What `df` says, as POSIX has it.
fn free_bytes(place: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(place).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    free_of(&text)
}

fn free_of(df: &str) -> Option<u64> {
    Some(df.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok()? << 10)
}

/// The kind of the file system that a path lies on.
fn file_system<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let of_line = |line: &'m str| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?.replace("\\040", " ");
        path.starts_with(&place).then_some((place.len(), fields.next()?))
    };
    // Of two at one place the later covers the other.
    mounts.lines().filter_map(of_line).max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

fn trap(kind: &str) -> Option<(&str, &'static str)> {
    let why = match kind {
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" => "locks and links over a network may fail, and two runs may collide",
        "tmpfs" | "ramfs" => "it is gone with the machine",
        "overlay" => "a layer of a container, gone with it: mount a volume",
        _ if kind.starts_with("fuse") => "not every driver keeps what a link or a sync promises",
        _ => return None,
    };
    Some((kind, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let df = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 1000 600 400 60% /\n";
        assert_eq!(free_of(df), Some(400 << 10));
        assert_eq!(available_memory("MemTotal: 8 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        let mounts = "overlay / overlay rw 0 0\n/dev/sda1 /data ext4 rw 0 0\nserver:/x /data/far nfs4 rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/data/lake")), Some("ext4"));
        assert_eq!(file_system(mounts, Path::new("/data/far/lake")), Some("nfs4"));
        assert_eq!(file_system(mounts, Path::new("/home/lake")), Some("overlay"));
        assert!(trap("nfs4").is_some() && trap("ext4").is_none());
    }
}
