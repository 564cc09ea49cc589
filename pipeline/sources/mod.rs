//! Sources: files in a folder or an object store become Arrow batches.
//!
//! [`list()`] finds the files of a pattern; [`read()`] turns them into batches of the requested columns and a
//! `properties` column of JSON text, block by block and in parallel, in the order of the files and of their records.
//!
//! - one bad record costs that record: it comes out as [`Rejected`], with its place, its bytes and the reason
//! - one bad file costs that file: its [`Outcome`] says why, and whatever came of it before must be discarded
//! - the reason codes are those of the catalogue of bad inputs; limits stand in [`Limits`]
//! - memory: [`Limits::buffered_bytes`] of blocks read ahead, and for each of them its batch
//!
//! Nothing here knows what an event is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::path::Path;

use crate::error::{Error, Result};

mod again;
mod csv;
mod decompress;
mod filter;
mod json;
mod keys;
mod limits;
mod lines;
mod list;
mod parquet;
mod plan;
mod read;
mod scan;

pub use again::{Written, read_again};
pub use csv::fields as csv_fields;
pub use limits::Limits;
pub use list::{Listing, Remark, Root, list};
pub use read::{Reading, Spec, read, sha256};

/// The name of the column of JSON text that keeps what no column takes whole.
pub const PROPERTIES: &str = "properties";

/// The format of a file's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    JsonLines,
    /// Comma-separated values with a header row.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The format that a file's extension names, below that of a compression.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let (stem, extension) = name.rsplit_once('.')?;
        match extension {
            "gz" | "gzip" | "zst" | "zstd" => Self::from_name(stem),
            "jsonl" | "ndjson" | "json" => Some(Format::JsonLines),
            "csv" | "tsv" => Some(Format::Csv),
            "parquet" => Some(Format::Parquet),
            _ => None,
        }
    }
}

/// The characters that structure a CSV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvDialect {
    /// Between fields.
    pub delimiter: u8,
    /// Around fields; doubled within them.
    pub quote: u8,
}

impl Default for CsvDialect {
    fn default() -> Self {
        Self { delimiter: b',', quote: b'"' }
    }
}

/// What the mapping needs of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The columns, by unique names.
    pub columns: Vec<Column>,
    /// Whether to build the `properties` column: a JSON object of all members that are not taken whole.
    pub properties: bool,
    /// Paths that are never copied to `properties`.
    pub drop_paths: Vec<Vec<String>>,
}

/// A requested column: a member of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The member's name, exactly.
    pub name: String,
    /// How much of it is read.
    pub shape: Shape,
}

impl Column {
    /// The member as a whole.
    pub fn whole(name: impl Into<String>) -> Self {
        Self { name: name.into(), shape: Shape::Whole }
    }

    /// Some members of the member, by their paths below it.
    pub fn paths(name: impl Into<String>, paths: impl IntoIterator<Item = Vec<String>>) -> Self {
        let mut tree = PathTree::default();
        for path in paths {
            tree.insert(&path);
        }
        Self { name: name.into(), shape: Shape::Paths(tree) }
    }
}

/// How much of a member is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// All of it. As text in JSON and CSV: strings unescaped, numbers as written, objects and arrays as raw JSON. In
    /// Parquet as the type that it has.
    Whole,
    /// An object of which only these members are read: a struct with exactly these fields. Text in JSON and CSV, of
    /// their own types in Parquet. Null where the value is not an object.
    Paths(PathTree),
}

/// Members of an object by name; one without members of its own is read whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathTree {
    /// The members, in the order of the struct's fields.
    pub members: Vec<(String, PathTree)>,
}

impl PathTree {
    /// Adds a path. Where one path continues another, the longer one counts.
    pub fn insert(&mut self, path: &[String]) {
        let Some((name, below)) = path.split_first() else { return };
        let at = self.members.iter().position(|(member, _)| member == name).unwrap_or_else(|| {
            self.members.push((name.clone(), PathTree::default()));
            self.members.len() - 1
        });
        self.members[at].1.insert(below);
    }
}

/// A file, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its path below the root. Control characters in names of local files stand as `%0A`.
    pub path: Path,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written.
    pub last_modified: DateTime<Utc>,
    /// Its version, where the store knows one.
    pub e_tag: Option<String>,
}

/// Some records of a file, decoded.
#[derive(Debug)]
pub struct Decoded {
    /// The requested columns in their order, then `properties` if it was asked for. All of them nullable.
    pub batch: RecordBatch,
    records: Records,
    /// Records refused among them.
    pub rejected: Vec<Rejected>,
    /// Lines without a record.
    pub blank_lines: u64,
    /// Oddities that refuse nothing, with their counts.
    pub flags: Vec<(&'static str, u64)>,
    /// How its records are written, the refused ones too.
    pub syntax: Syntax,
}

impl Decoded {
    /// Where a row's record stands in its file: the number of its first line for text, of its row for Parquet; from 1.
    pub fn position(&self, row: usize) -> u64 {
        match &self.records {
            Records::Lines { records, .. } => records[row].line,
            Records::Rows { first, .. } => first + row as u64,
        }
    }

    /// The positions of all rows.
    pub fn positions(&self) -> arrow::array::UInt64Array {
        (0..self.batch.num_rows()).map(|row| self.position(row)).collect()
    }

    /// A row's record: its bytes without the line end for text; for Parquet, a rendering as JSON.
    pub fn record(&self, row: usize) -> Result<Bytes> {
        match &self.records {
            Records::Lines { bytes, records } => {
                let record = records[row];
                Ok(bytes.slice(record.start as usize..record.end as usize))
            }
            Records::Rows { batch, .. } => parquet::record_as_json(batch, row),
        }
    }
}

/// How the bytes of records are written.
#[derive(Debug, Clone)]
pub enum Syntax {
    /// As JSON; rows of Parquet are rendered so.
    Json,
    /// As CSV under these column names; none are known of a line before the header.
    Csv {
        /// Names of the columns in the order of the fields.
        names: Arc<[String]>,
        /// The header as it was written, without its line end.
        header: Bytes,
        /// The characters between and around fields.
        dialect: CsvDialect,
    },
}

/// What rows were made of.
enum Records {
    Lines {
        bytes: Bytes,
        records: Vec<lines::Record>,
    },
    /// Rows of Parquet, from row number `first`.
    Rows {
        batch: RecordBatch,
        first: u64,
    },
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = match self {
            Records::Lines { records, .. } => records.len(),
            Records::Rows { batch, .. } => batch.num_rows(),
        };
        write!(f, "{count} records")
    }
}

/// A record that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in the file, as in [`Decoded::position`]; none for the file itself.
    pub position: Option<u64>,
    /// The reason's code.
    pub reason: &'static str,
    /// What was expected and what came.
    pub detail: String,
    /// Its bytes without the line end; of a line too long, the first ones.
    pub record: Bytes,
}

impl Rejected {
    fn record(position: u64, reason: &'static str, detail: impl Into<String>, record: &[u8]) -> Self {
        // copied, so that one dead letter does not keep its whole block in memory
        let record = Bytes::copy_from_slice(record);
        Self { position: Some(position), reason, detail: detail.into(), record }
    }
}

/// What [`Reading::next`] yields: the pieces of each file in order, then its outcome; then the next file.
#[derive(Debug)]
pub enum Part {
    /// Some records of the file with this index.
    Records(usize, Decoded),
    /// The end of the file with this index.
    End(usize, Outcome),
}

/// How the reading of a file ended.
#[derive(Debug)]
pub enum Outcome {
    /// All of it was read; single records may have been refused.
    Read(Summary),
    /// It is damaged or refused as a whole: discard its records.
    Quarantined {
        /// The reason's code.
        reason: &'static str,
        /// What was expected and what came.
        detail: String,
    },
    /// It is not as it was listed, or closed to us: discard its records and leave it for a later listing.
    Unsettled {
        /// The reason's code: `source_gone`, `unsealed` (it is still written) or `permission`.
        reason: &'static str,
        /// What was expected and what came.
        detail: String,
    },
    /// It could not be read now: discard its records, and try later if the error's kind is `Unavailable`.
    Failed(Error),
}

/// A file that was read to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records decoded.
    pub rows: u64,
    /// Records refused.
    pub rejected: u64,
    /// Lines without a record.
    pub blank_lines: u64,
    /// Stored bytes.
    pub bytes: u64,
    /// The sha256 of the stored bytes.
    pub sha256: [u8; 32],
    /// Oddities that refuse nothing, with their counts: `blank_line`, `bom_stripped`, `dup_key_same`, `empty_file`,
    /// `ext_mismatch`.
    pub flags: BTreeMap<&'static str, u64>,
}

/// Why a file as a whole was not read.
#[derive(Debug)]
enum Damage {
    /// The file's fault.
    File { reason: &'static str, detail: String },
    /// Nobody's fault: it is not there, not yet or not for us.
    Unsettled { reason: &'static str, detail: String },
    /// The store's fault.
    Failed(Error),
}

impl Damage {
    fn file(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::File { reason, detail: detail.into() }
    }

    fn unsettled(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::Unsettled { reason, detail: detail.into() }
    }

    fn gone() -> Self {
        Self::unsettled("source_gone", "the file is gone since it was listed")
    }
}

impl From<Damage> for Outcome {
    fn from(damage: Damage) -> Self {
        match damage {
            Damage::File { reason, detail } => Self::Quarantined { reason, detail },
            Damage::Unsettled { reason, detail } => Self::Unsettled { reason, detail },
            Damage::Failed(error) => Self::Failed(error),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::File { reason, detail } | Damage::Unsettled { reason, detail } => write!(f, "{reason}: {detail}"),
            Damage::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Damage {}

impl From<Error> for Damage {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Damage> for std::io::Error {
    fn from(damage: Damage) -> Self {
        Self::other(damage)
    }
}

impl From<std::io::Error> for Damage {
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<Damage>() {
            Ok(damage) => damage,
            Err(error) => match error.kind() {
                std::io::ErrorKind::PermissionDenied => Self::unsettled("permission", error.to_string()),
                _ => Self::Failed(Error::unavailable(error.to_string())),
            },
        }
    }
}
