//! Reads the files of one batch into memory: events staged in record order, dead letters apart, counts by source.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
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
use crate::sources::{self, CsvDialect, Decoded, FileEntry, Format, Limits, Outcome, Part, Rejected, Spec};
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
}

/// A file that is not there to be read, or not yet, with reason and detail.
pub type Unsettled = (PlannedFile, &'static str, String);

/// Decoded records on their way through a mapping.
struct Work {
    decoded: Decoded,
    mapped: Mapped,
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
    let mut staged = Staged {
        events: Vec::new(),
        dead_letters: DeadLetters::new(manifest.batch),
        counts: BTreeMap::new(),
        files: Vec::new(),
        unsettled: Vec::new(),
    };
    for (number, (source, listing)) in listed.iter().enumerate() {
        let files: Vec<(&PlannedFile, FileEntry)> = manifest
            .files
            .iter()
            .filter(|planned| planned.source == source.name)
            .filter_map(|planned| Some((planned, listing.files.get(&planned.path)?.clone())))
            .collect();
        if !files.is_empty() {
            stage_source(workspace, number, source, listing, files, manifest, &mut staged, &mut progress).await?;
        }
    }
    Ok(staged)
}

#[expect(clippy::too_many_arguments, reason = "one call, and each is a thing of its own")]
async fn stage_source(
    workspace: &Workspace,
    number: usize,
    source: &Source,
    listing: &Listed,
    files: Vec<(&PlannedFile, FileEntry)>,
    manifest: &Manifest,
    staged: &mut Staged,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let config = &workspace.project.config;
    let kinds = &config.privacy.pseudonymize;
    let mapping = Arc::new(Mapping::new(source, kinds, workspace.pseudonymiser.clone())?);
    let cleaner = mapping.cleaner();
    let threads = config.engine.thread_count();
    let spec = Spec {
        format: source.format.map(format_of),
        csv: CsvDialect { delimiter: source.delimiter as u8, ..CsvDialect::default() },
        request: mapping.request().clone(),
        limits: Limits { line_bytes: config.landing.max_record_bytes, ..Limits::default() },
        workers: threads,
    };
    let entries = files.iter().map(|(_, entry)| entry.clone()).collect();
    let mut reading = sources::read(listing.root.clone(), entries, spec)?;
    let mut file = OpenFile::default();
    let mut plan: Option<Plan> = None;
    let mut under_way: VecDeque<JoinHandle<Result<Work>>> = VecDeque::new();
    let counts = staged.counts.entry(source.name.clone()).or_default();
    while let Some(part) = reading.next().await {
        failpoint("land.read");
        match part {
            Part::Records(_, decoded) => {
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
                let (by, batch, planned_at) = (mapping.clone(), manifest.batch, manifest.planned_at);
                under_way
                    .push_back(tokio::task::spawn_blocking(move || map(&by, &planned, decoded, batch, planned_at)));
                if under_way.len() > threads {
                    let work = under_way.pop_front().expect("work is under way");
                    file.take(&mapping, cleaner.as_ref(), work.await.map_err(|e| Error::internal(e.to_string()))??)?;
                }
            }
            Part::End(index, outcome) => {
                for work in under_way.drain(..) {
                    file.take(&mapping, cleaner.as_ref(), work.await.map_err(|e| Error::internal(e.to_string()))??)?;
                }
                failpoint("land.parse");
                let (planned, entry) = &files[index];
                let mut done = std::mem::take(&mut file);
                let outcome = match (outcome, done.conflict.take()) {
                    (Outcome::Read(_), Some(detail)) => Outcome::Quarantined { reason: "schema_conflict", detail },
                    (outcome, _) => outcome,
                };
                let taken = match outcome {
                    Outcome::Read(summary) => {
                        let mut flags: BTreeMap<String, u64> = BTreeMap::new();
                        for (flag, count) in summary.flags.iter().chain(&done.flags) {
                            *flags.entry((*flag).to_string()).or_default() += count;
                        }
                        done.keep(number, planned, &mut staged.events, &mut staged.dead_letters, counts)?;
                        TakenFile { file: (*planned).clone(), sha256: Some(hex::encode(summary.sha256)), flags }
                    }
                    Outcome::Quarantined { reason, detail } => {
                        counts.rows_in += 1;
                        counts.dead_letters += 1;
                        let detail = cleaner.as_ref().map_or(detail.clone(), |cleaner| cleaner.clean_detail(&detail));
                        staged.dead_letters.push(&source.name, &planned.path, reason, &detail, &[])?;
                        TakenFile { file: (*planned).clone(), sha256: None, flags: BTreeMap::new() }
                    }
                    Outcome::Unsettled { reason, detail } => {
                        staged.unsettled.push(((*planned).clone(), reason, detail));
                        continue;
                    }
                    Outcome::Failed(error) => return Err(error.context(&planned.path)),
                };
                counts.files += 1;
                counts.bytes += entry.size;
                staged.files.push(taken);
                progress(entry.size);
            }
        }
    }
    Ok(())
}

fn format_of(format: config::Format) -> Format {
    match format {
        config::Format::Jsonl => Format::JsonLines,
        config::Format::Csv => Format::Csv,
        config::Format::Parquet => Format::Parquet,
    }
}

fn map(mapping: &Mapping, plan: &Plan, decoded: Decoded, number: i64, planned_at: i64) -> Result<Work> {
    let text = |row: usize| decoded.record(row).map(|bytes| bytes.to_vec()).unwrap_or_default();
    let records = Records { batch: &decoded.batch, text: &text, planned_at, number };
    let mapped = mapping.map(plan, &records)?;
    Ok(Work { decoded, mapped })
}

/// What came of the file that is being read; kept only when it is read to its end.
#[derive(Default)]
struct OpenFile {
    events: Vec<RecordBatch>,
    refused: Vec<Letter>,
    occurrences: Occurrences,
    /// Oddities that refused nothing, with their counts.
    flags: BTreeMap<&'static str, u64>,
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
    fn take(&mut self, mapping: &Mapping, cleaner: Option<&Cleaner>, work: Work) -> Result<()> {
        let (mut mapped, decoded) = (work.mapped, work.decoded);
        mapping.derive_ids(&mut mapped, &mut self.occurrences)?;
        for (flag, count) in &mapped.flags {
            *self.flags.entry(flag).or_default() += count;
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

    fn keep(
        self,
        source: usize,
        planned: &PlannedFile,
        events: &mut Vec<(usize, RecordBatch)>,
        dead_letters: &mut DeadLetters,
        counts: &mut Counts,
    ) -> Result<()> {
        let rows: usize = self.events.iter().map(RecordBatch::num_rows).sum();
        counts.rows_in += (rows + self.refused.len()) as u64;
        counts.landed += rows as u64;
        counts.dead_letters += self.refused.len() as u64;
        events.extend(self.events.into_iter().map(|batch| (source, batch)));
        for letter in self.refused {
            let origin = match letter.position {
                Some(position) => format!("{}:{position}", planned.path),
                None => planned.path.clone(),
            };
            dead_letters.push(&planned.source, &origin, letter.reason, &letter.detail, &letter.record)?;
        }
        Ok(())
    }
}
