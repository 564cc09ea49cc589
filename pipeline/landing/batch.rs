//! Reads the files of one batch into memory: events staged in record order, dead letters apart, counts by source.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::clean::Cleaner;
use super::dead_letters::DeadLetters;
use super::ledger::{Counts, Manifest, PlannedFile, TakenFile};
use super::mapping::{Mapped, Mapping, Occurrences, Plan, Records};
use super::plan::Listed;
use crate::config::{self, Source};
use crate::error::{Error, Kind, Result};
use crate::failpoint::failpoint;
use crate::sources::{
    self, CsvDialect, Decoded, FileEntry, Format, Limits, Outcome, Part, Rejected, Request, Spec, Summary, Syntax,
};
use crate::workspace::Workspace;

/// What a batch's files hold.
pub struct Staged {
    /// Events of each source, in record order.
    pub events: Vec<(usize, RecordBatch)>,
    /// Refused records.
    pub dead_letters: DeadLetters,
    /// Counts by source; `landed` holds all events until duplicates are known.
    pub counts: BTreeMap<String, Counts>,
    /// Files with their hashes.
    pub files: Vec<TakenFile>,
    /// Files that are left out.
    pub unsettled: Vec<Unsettled>,
    /// What was taken up again and is refused once more.
    pub refused_again: Vec<RefusedAgain>,
    /// Records that were taken up again and became events: file and position.
    pub landed_again: Vec<(OfFile, u64)>,
}

impl Staged {
    /// Nothing yet, of this batch.
    pub fn new(batch: i64) -> Self {
        Self {
            events: Vec::new(),
            dead_letters: DeadLetters::new(batch),
            counts: BTreeMap::new(),
            files: Vec::new(),
            unsettled: Vec::new(),
            refused_again: Vec::new(),
            landed_again: Vec::new(),
        }
    }

    /// The counts of a source.
    pub fn counts_of(&mut self, source: &str) -> &mut Counts {
        self.counts.entry(source.to_string()).or_default()
    }
}

/// A file that is not there to be read, or not yet, with reason and detail.
pub type Unsettled = (PlannedFile, &'static str, String);

/// Source and path of a file.
pub type OfFile = (String, String);

/// A dead letter that was taken up again and is refused once more.
pub struct RefusedAgain {
    /// Its file.
    pub file: OfFile,
    /// Its place in the file; none if the whole file is refused.
    pub position: Option<u64>,
    /// The reason now.
    pub reason: &'static str,
    /// What was found.
    pub detail: String,
    /// Its bytes as they are kept; none if the whole file is refused.
    pub record: Option<Bytes>,
}

/// A file to read, and what of it is wanted.
pub struct ToRead<'a> {
    /// The file as planned.
    pub planned: &'a PlannedFile,
    /// The file as it lies now.
    pub entry: FileEntry,
    /// Time of the batch that it came with.
    pub planned_at: i64,
    /// What of it is wanted.
    pub wanted: Wanted,
}

/// What of a file is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: it is new.
    New,
    /// All of it: it was refused whole, and is taken up again.
    Refused,
    /// The records at these positions: they were refused, and are taken up again.
    Records(BTreeSet<u64>),
}

/// Decoded records on their way through a mapping.
pub struct Work {
    /// The records.
    pub decoded: Decoded,
    /// The events that they became.
    pub mapped: Mapped,
}

/// Reads every file of the manifest. `progress` is told the bytes done and in all as each file ends.
///
/// Errors: a file out of reach ([`crate::error::Kind::Unavailable`]), a mapping that names what does not exist.
pub async fn stage(
    workspace: &Workspace,
    listed: &[(Arc<Source>, Listed)],
    manifest: &Manifest,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Staged> {
    let total = manifest.files.iter().map(|file| file.size).sum();
    let mut done = 0;
    let mut progress = |bytes| {
        done += bytes;
        progress(done, total);
    };
    let mut staged = Staged::new(manifest.batch);
    for (number, (source, listing)) in listed.iter().enumerate() {
        let of_source = manifest.files.iter().filter(|planned| planned.source == source.name);
        let files: Vec<ToRead<'_>> = of_source
            .filter_map(|planned| {
                let entry = listing.files.get(&planned.path)?.clone();
                Some(ToRead { planned, entry, planned_at: manifest.planned_at, wanted: Wanted::New })
            })
            .collect();
        if !files.is_empty() {
            let of = OfSource { number, source, listing, batch: manifest.batch };
            stage_source(workspace, of, files, &mut staged, &mut progress).await?;
        }
    }
    Ok(staged)
}

/// A source whose files are read.
#[derive(Clone, Copy)]
pub struct OfSource<'a> {
    /// Its number among the sources of the project.
    pub number: usize,
    /// Its configuration.
    pub source: &'a Source,
    /// Its files.
    pub listing: &'a Listed,
    /// The batch that is landed.
    pub batch: i64,
}

/// Limits on the records of a project.
pub fn limits(workspace: &Workspace) -> Limits {
    Limits { line_bytes: workspace.project.config.landing.max_record_bytes, ..Limits::default() }
}

/// The characters that structure the CSV files of a source.
pub fn dialect(source: &Source) -> CsvDialect {
    CsvDialect { delimiter: source.delimiter as u8, ..CsvDialect::default() }
}

/// The mapping of a source.
pub fn mapping(workspace: &Workspace, source: &Source) -> Result<Mapping> {
    Mapping::new(source, &workspace.project.config.privacy.pseudonymize, workspace.pseudonymiser.clone())
}

/// Reads files of one source.
pub async fn stage_source(
    workspace: &Workspace,
    of: OfSource<'_>,
    files: Vec<ToRead<'_>>,
    staged: &mut Staged,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let OfSource { number, source, listing, batch } = of;
    let mapping = Arc::new(mapping(workspace, source)?);
    let cleaner = mapping.cleaner();
    let threads = workspace.project.config.engine.thread_count();
    let spec = spec(workspace, source, mapping.request().clone());
    let entries = files.iter().map(|file| file.entry.clone()).collect();
    let mut reading = sources::read(listing.root.clone(), entries, spec)?;
    let mut file = OpenFile::default();
    let mut plan: Option<Plan> = None;
    let mut under_way: VecDeque<JoinHandle<Result<Work>>> = VecDeque::new();
    while let Some(part) = reading.next().await {
        failpoint("land.read");
        match part {
            Part::Records(index, decoded) => {
                let schema = decoded.batch.schema();
                if file.conflict.is_some() {
                    continue;
                }
                let planned = match plan.take() {
                    Some(planned) if planned.fits(&schema) => planned,
                    _ => match mapping.plan(&schema) {
                        Ok(planned) => planned,
                        // The mapping was planned before, so these columns are at fault.
                        Err(error) if error.kind() == Kind::Invalid => {
                            file.conflict = Some(error.to_string());
                            continue;
                        }
                        Err(error) => return Err(error),
                    },
                };
                plan = Some(planned.clone());
                let (by, planned_at) = (mapping.clone(), files[index].planned_at);
                under_way
                    .push_back(tokio::task::spawn_blocking(move || map(&by, &planned, decoded, batch, planned_at)));
                if under_way.len() > threads {
                    let work = under_way.pop_front().expect("work is under way");
                    let work = work.await.map_err(|e| Error::internal(e.to_string()))??;
                    file.take(&mapping, cleaner.as_ref(), &files[index].wanted, work)?;
                }
            }
            Part::End(index, outcome) => {
                let ToRead { planned, entry, wanted, .. } = &files[index];
                for work in under_way.drain(..) {
                    let work = work.await.map_err(|e| Error::internal(e.to_string()))??;
                    file.take(&mapping, cleaner.as_ref(), wanted, work)?;
                }
                failpoint("land.parse");
                let mut done = std::mem::take(&mut file);
                let outcome = match (outcome, done.conflict.take()) {
                    (Outcome::Read(_), Some(detail)) => Outcome::Quarantined { reason: "schema_conflict", detail },
                    (outcome, _) => outcome,
                };
                match outcome {
                    Outcome::Read(summary) => {
                        let taken = done.taken(planned, &summary);
                        done.keep(number, planned, wanted, staged)?;
                        staged.files.push(taken);
                    }
                    Outcome::Quarantined { reason, detail } => {
                        let detail = cleaner.as_ref().map_or(detail.clone(), |cleaner| cleaner.clean_detail(&detail));
                        let file = (source.name.clone(), planned.path.clone());
                        if *wanted != Wanted::New {
                            staged.refused_again.push(RefusedAgain {
                                file,
                                position: None,
                                reason,
                                detail,
                                record: None,
                            });
                            continue;
                        }
                        let counts = staged.counts_of(&source.name);
                        counts.rows_in += 1;
                        counts.dead_letters += 1;
                        staged.dead_letters.push(&source.name, &planned.path, reason, &detail, &[])?;
                        let flags = BTreeMap::new();
                        staged.files.push(TakenFile { file: (*planned).clone(), sha256: None, flags, header: None });
                    }
                    Outcome::Unsettled { reason, detail } => {
                        staged.unsettled.push(((*planned).clone(), reason, detail));
                        continue;
                    }
                    Outcome::Failed(error) => return Err(error.context(&planned.path)),
                }
                if !matches!(wanted, Wanted::Records(_)) {
                    let counts = staged.counts_of(&source.name);
                    counts.files += 1;
                    counts.bytes += entry.size;
                }
                progress(entry.size);
            }
        }
    }
    Ok(())
}

/// How the files of a source are read.
pub fn spec(workspace: &Workspace, source: &Source, request: Request) -> Spec {
    Spec {
        format: source.format.map(format_of),
        csv: dialect(source),
        request,
        limits: limits(workspace),
        workers: workspace.project.config.engine.thread_count(),
    }
}

fn format_of(format: config::Format) -> Format {
    match format {
        config::Format::Jsonl => Format::JsonLines,
        config::Format::Csv => Format::Csv,
        config::Format::Parquet => Format::Parquet,
    }
}

/// The format of a source's file.
pub fn format_of_file(source: &Source, path: &str) -> Option<Format> {
    source.format.map(format_of).or_else(|| Format::from_name(path))
}

/// Maps decoded records to events of the batch `number`.
pub fn map(mapping: &Mapping, plan: &Plan, decoded: Decoded, number: i64, planned_at: i64) -> Result<Work> {
    let text = |row: usize| decoded.record(row).map(|bytes| bytes.to_vec()).unwrap_or_default();
    let records = Records { batch: &decoded.batch, text: &text, planned_at, number };
    let mapped = mapping.map(plan, &records)?;
    Ok(Work { decoded, mapped })
}

/// What came of the file that is being read; kept only when it is read to its end.
#[derive(Default)]
struct OpenFile {
    events: Vec<RecordBatch>,
    /// Positions of the events, where single records are wanted.
    positions: Vec<u64>,
    refused: Vec<Letter>,
    occurrences: Occurrences,
    /// Oddities that refused nothing, with their counts.
    flags: BTreeMap<&'static str, u64>,
    /// The header of a file of CSV that has refused records.
    header: Option<String>,
    /// Why the mapping cannot be used on its columns.
    conflict: Option<String>,
}

struct Letter {
    position: Option<u64>,
    reason: &'static str,
    detail: String,
    record: Vec<u8>,
}

impl OpenFile {
    fn take(&mut self, mapping: &Mapping, cleaner: Option<&Cleaner>, wanted: &Wanted, work: Work) -> Result<()> {
        let (mut mapped, mut decoded) = (work.mapped, work.decoded);
        // Also for records that are not wanted: how often a record was in its file is a part of its id.
        mapping.derive_ids(&mut mapped, &mut self.occurrences)?;
        for (flag, count) in &mapped.flags {
            *self.flags.entry(flag).or_default() += count;
        }
        if let Wanted::Records(positions) = wanted {
            let refused: BTreeSet<usize> = mapped.refused.iter().map(|(row, _)| *row).collect();
            let is_wanted = |row: &usize| positions.contains(&decoded.position(*row));
            let events = || (0..decoded.batch.num_rows()).filter(|row| !refused.contains(row));
            let mask: BooleanArray = events().map(|row| Some(is_wanted(&row))).collect();
            mapped.events = filter_record_batch(&mapped.events, &mask)?;
            self.positions.extend(events().filter(is_wanted).map(|row| decoded.position(row)));
            mapped.refused.retain(|(row, _)| is_wanted(row));
            decoded.rejected.retain(|rejected| rejected.position.is_some_and(|at| positions.contains(&at)));
        }
        if let (Syntax::Csv { header, .. }, None) = (&decoded.syntax, &self.header)
            && !(decoded.rejected.is_empty() && mapped.refused.is_empty())
        {
            self.header = Some(String::from_utf8_lossy(header).into_owned()).filter(|header| !header.is_empty());
        }
        let syntax = &decoded.syntax;
        let letter = |position, is_read, reason, detail: String, record: &Bytes| {
            let (record, detail) = match cleaner {
                Some(cleaner) => cleaner.clean(record, syntax, is_read, &detail),
                None => (record.to_vec(), detail),
            };
            Letter { position, reason, detail, record }
        };
        let mut letters: Vec<Letter> = decoded
            .rejected
            .iter()
            .map(|Rejected { position, reason, detail, record }| {
                letter(*position, false, reason, detail.clone(), record)
            })
            .collect();
        for (row, refusal) in mapped.refused {
            let record = decoded.record(row)?;
            letters.push(letter(Some(decoded.position(row)), true, refusal.reason, refusal.detail, &record));
        }
        letters.sort_by_key(|letter| letter.position);
        self.refused.extend(letters);
        if mapped.events.num_rows() > 0 {
            self.events.push(mapped.events);
        }
        Ok(())
    }

    /// What the ledger keeps of a file that was read to its end.
    fn taken(&self, planned: &PlannedFile, summary: &Summary) -> TakenFile {
        let mut flags: BTreeMap<String, u64> = BTreeMap::new();
        for (flag, count) in summary.flags.iter().chain(&self.flags) {
            *flags.entry((*flag).to_string()).or_default() += count;
        }
        let sha256 = Some(hex::encode(summary.sha256));
        TakenFile { file: planned.clone(), sha256, flags, header: self.header.clone() }
    }

    fn keep(self, source: usize, planned: &PlannedFile, wanted: &Wanted, staged: &mut Staged) -> Result<()> {
        let rows: usize = self.events.iter().map(RecordBatch::num_rows).sum();
        let counts = staged.counts_of(&planned.source);
        counts.rows_in += rows as u64;
        counts.landed += rows as u64;
        staged.events.extend(self.events.into_iter().map(|batch| (source, batch)));
        if let Wanted::Records(_) = wanted {
            let file = (planned.source.clone(), planned.path.clone());
            staged.landed_again.extend(self.positions.into_iter().map(|position| (file.clone(), position)));
            let again = |Letter { position, reason, detail, record }| {
                let record = Some(Bytes::from(record));
                RefusedAgain { file: file.clone(), position, reason, detail, record }
            };
            staged.refused_again.extend(self.refused.into_iter().map(again));
            return Ok(());
        }
        let counts = staged.counts_of(&planned.source);
        counts.rows_in += self.refused.len() as u64;
        counts.dead_letters += self.refused.len() as u64;
        for letter in self.refused {
            let origin = match letter.position {
                Some(position) => format!("{}:{position}", planned.path),
                None => planned.path.clone(),
            };
            staged.dead_letters.push(&planned.source, &origin, letter.reason, &letter.detail, &letter.record)?;
        }
        Ok(())
    }
}
