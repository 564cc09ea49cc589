//! Synthetic events of the shape of real ones: seeded, of any size, as JSON Lines, CSV or Parquet.
//!
//! Customers come and go, use several devices and channels, log in halfway through a visit, are written to, buy,
//! complain and return after months. Sources deliver late, twice, and now and then something broken. Files are in
//! the order in which events were received, as the files of a real feed are.
//!
//! - `world`: touchpoints, channels, and what follows what
//! - `clock`: when customers are active
//! - `chance`: random bits that can be told again
//! - `customers`: who they are and when they come
//! - `visits`: what happens in a visit
//! - `stream`: all visits in time order, with memory for what is under way only
//! - `record`, `properties`: the columns of an event as text
//! - `write`: files
//! - `project`: a `wayline.toml` that fits the files

use std::path::Path;

use chrono::{Datelike, NaiveDate};

use self::customers::Population;
use self::stream::{Census, Stream};
use self::visits::Delivery;
use self::write::Files;
use crate::error::{Context, Error, Result};

mod chance;
mod clock;
mod customers;
mod project;
mod properties;
mod record;
mod stream;
mod text;
mod visits;
mod world;
mod write;

pub use project::{LANDING_ZONE, project};

/// First part of the name of every file.
const FILE_PREFIX: &str = "events-";
/// Most days of a period: ten years.
const MOST_DAYS: u32 = 3660;

/// What to generate. The same options give the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Records to write, bad ones and re-deliveries included: exactly so many.
    pub events: u64,
    /// Seed; another one gives other customers.
    pub seed: u64,
    /// Format of the files.
    pub format: Format,
    /// Compression of text files.
    pub compression: Compression,
    /// Files that the records are divided among, by count.
    pub files: usize,
    /// First day on which events occur, UTC.
    pub start: NaiveDate,
    /// Days on which events occur; some are received up to a week later.
    pub days: u32,
    /// Records of 100,000 that are bad.
    pub bad_records: u32,
    /// Share of events that are delivered a second time.
    pub duplicate_share: f64,
    /// Share of events that come an hour to seven days late.
    pub late_share: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            events: 100_000,
            seed: 1,
            format: Format::JsonLines,
            compression: Compression::None,
            files: 1,
            start: NaiveDate::from_ymd_opt(2025, 1, 1).expect("a day of the calendar"),
            days: 90,
            bad_records: 10,
            duplicate_share: 0.01,
            late_share: 0.01,
        }
    }
}

impl Options {
    /// Ending of the files' names.
    fn extension(&self) -> &'static str {
        match (self.format, self.compression) {
            (Format::JsonLines, Compression::None) => "jsonl",
            (Format::JsonLines, Compression::Gzip) => "jsonl.gz",
            (Format::JsonLines, Compression::Zstd) => "jsonl.zst",
            (Format::Csv, Compression::None) => "csv",
            (Format::Csv, Compression::Gzip) => "csv.gz",
            (Format::Csv, Compression::Zstd) => "csv.zst",
            (Format::Parquet, _) => "parquet",
        }
    }

    fn file_name(&self, number: usize) -> String {
        format!("{FILE_PREFIX}{number:05}.{}", self.extension())
    }

    fn check(&self) -> Result<()> {
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        if self.files == 0 || self.files > 100_000 {
            return Err(Error::invalid(format!("{} files, expected 1 to 100000", self.files)));
        }
        if self.days == 0 || self.days > MOST_DAYS {
            return Err(Error::invalid(format!("{} days, expected 1 to {MOST_DAYS}", self.days)));
        }
        if !(1970..=2200).contains(&self.start.year()) {
            return Err(Error::invalid(format!("the first day is {}, expected one from 1970 to 2200", self.start)));
        }
        if self.bad_records > 100_000 {
            return Err(Error::invalid(format!("{} bad records of 100000", self.bad_records)));
        }
        if !is_share(self.duplicate_share) || !is_share(self.late_share) {
            return Err(Error::invalid("shares of duplicates and late events lie between 0 and 1"));
        }
        Ok(())
    }
}

/// Format of generated files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object per line; absent columns are left out.
    #[value(name = "jsonl")]
    JsonLines,
    /// A header, then comma-separated values; absent columns are empty.
    Csv,
    /// Typed columns, compressed with zstd; absent columns are null.
    Parquet,
}

/// Compression of generated text files. Parquet files are always compressed with zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Plain text.
    None,
    /// gzip, at its fastest level; costs the most time.
    Gzip,
    /// Zstandard, at its fastest level.
    Zstd,
}

/// What was generated. Distinct good events are `events - duplicates - bad_records`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Files written.
    pub files: usize,
    /// Records written.
    pub events: u64,
    /// Records that no reader can land.
    pub bad_records: u64,
    /// Records that deliver an event again.
    pub duplicates: u64,
    /// Size of the files.
    pub bytes: u64,
    /// People behind the events.
    pub customers: u64,
}

/// Writes files `events-00000.jsonl` (or as the format has it) into `folder`, which is made when it is not there.
///
/// Records are in the order of `received_time`, over all files. `progress` is told how many were written so far. A
/// file has its name once it is complete.
///
/// Memory: about 30 bytes per customer who will come again, and what is on the way: 140 MB at 50 million events.
/// Errors: options out of range; a folder that holds generated events already; whatever the file system says.
pub fn generate(options: &Options, folder: &Path, mut progress: impl FnMut(u64)) -> Result<Summary> {
    options.check()?;
    std::fs::create_dir_all(folder).context(format!("while making {}", folder.display()))?;
    refuse_earlier_files(folder)?;

    let population = Population::new(options);
    let census = Census::take(&population, options.events)?;
    let mut stream = Stream::new(&population, census, options);
    let mut files = Files::new(options, &population, folder);
    let mut events = 0;
    let mut duplicates = 0;
    let mut slice = stream.next_slice();
    while let Some(touches) = slice {
        let (written, next) = rayon::join(|| files.write(&touches), || stream.next_slice());
        written?;
        events += touches.len() as u64;
        duplicates += touches.iter().filter(|touch| touch.delivery == Delivery::Again).count() as u64;
        progress(events);
        slice = next;
    }
    let written = files.finish()?;
    Ok(Summary {
        files: options.files,
        events,
        bad_records: written.bad_records,
        duplicates,
        bytes: written.bytes,
        customers: u64::from(census.customers),
    })
}

/// Files of two calls in one folder would be read as one feed.
fn refuse_earlier_files(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(FILE_PREFIX) && !name.ends_with(write::UNFINISHED) {
            return Err(Error::invalid(format!("{} holds generated events already", folder.display()))
                .hint("choose another folder, or remove its files"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
