//! The records of dead letters, read from their bytes or from their files again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{LINE_TOO_LONG, Outcome, Verdict};
use crate::config::Source;
use crate::delta::Table;
use crate::error::{Kind, Result};
use crate::landing::Listings;
use crate::landing::batch::{
    OfFile, OfSource, RefusedAgain, Staged, ToRead, Wanted, dialect, format_of_file, limits, map, mapping, stage_source,
};
use crate::landing::ledger::{Entry, Manifest, PlannedFile, Replay, TakenFile};
use crate::landing::letters::{self, Letter};
use crate::landing::mapping::{Mapping, Occurrences};
use crate::landing::plan::Listed;
use crate::landing::time::Refusal;
use crate::sources::{Format, Written, read_again};
use crate::workspace::Workspace;

/// Dead letters of one file and one batch.
struct Group {
    /// Number of their source in the project; none if it is no longer there.
    source: Option<usize>,
    /// Their file as it was taken.
    taken: Option<TakenFile>,
    /// Time of the batch that they came with.
    planned_at: i64,
    /// The letters with their places in the file, in that order.
    letters: Vec<(Option<u64>, Letter)>,
    /// Whether the file is there and what it was.
    is_there: bool,
    /// The batch that took what was delivered later under the name of a file that was refused whole.
    landed_in: Option<i64>,
}

/// The first batch after `batch` that landed a file of this name.
fn landed_later(entries: &[Arc<Entry>], batch: i64, source: &str, path: &str) -> Option<i64> {
    let is_it = |taken: &TakenFile| taken.sha256.is_some() && taken.file.source == source && taken.file.path == path;
    let later = entries.iter().filter(|entry| entry.batch > batch);
    later.filter(|entry| entry.files.iter().any(is_it)).map(|entry| entry.batch).min()
}

/// Divides letters by their files, and looks whether these are still there.
async fn groups(sources: &Listings, letters: Vec<Letter>, all: &[Arc<Entry>]) -> Result<Vec<Group>> {
    let entries: HashMap<i64, &Entry> = all.iter().map(|entry| (entry.batch, entry.as_ref())).collect();
    let mut files: HashMap<(i64, &str, &str), &TakenFile> = HashMap::new();
    for batch in letters.iter().map(|letter| letter.batch).collect::<BTreeSet<_>>() {
        let taken = entries.get(&batch).into_iter().flat_map(|entry| &entry.files);
        files.extend(taken.map(|taken| ((batch, taken.file.source.as_str(), taken.file.path.as_str()), taken)));
    }
    let mut found: BTreeMap<(String, i64, String), Group> = BTreeMap::new();
    for letter in letters {
        let whole = files.get(&(letter.batch, &letter.source, &letter.origin)).map(|taken| (*taken, None));
        let (taken, position) = match whole {
            Some(whole) => (Some(whole.0), whole.1),
            None => {
                let place = letter.origin.rsplit_once(':');
                let place = place.and_then(|(path, position)| Some((path, position.parse().ok()?)));
                let taken =
                    place.and_then(|(path, _)| files.get(&(letter.batch, letter.source.as_str(), path)).copied());
                (taken, place.map(|(_, position)| position))
            }
        };
        let path = taken.map_or_else(|| letter.origin.clone(), |taken| taken.file.path.clone());
        let group = found.entry((letter.source.clone(), letter.batch, path)).or_insert_with(|| Group {
            source: sources.iter().position(|(source, _)| source.name == letter.source),
            taken: taken.cloned(),
            planned_at: entries.get(&letter.batch).map_or(0, |entry| entry.planned_at),
            letters: Vec::new(),
            is_there: false,
            landed_in: None,
        });
        let is_of_file = position.is_none() && taken.is_some_and(|taken| taken.sha256.is_none());
        if is_of_file && group.landed_in.is_none() {
            group.landed_in = landed_later(all, letter.batch, &letter.source, &letter.origin);
        }
        group.letters.push((position, letter));
    }
    let mut found: Vec<Group> = found.into_values().collect();
    for group in &mut found {
        group.letters.sort_by_key(|(position, _)| *position);
        if let (Some(source), Some(taken), None) = (group.source, &group.taken, group.landed_in) {
            let (_, listing) = &sources[source];
            group.is_there = listing.still_holds(&taken.file, taken.sha256.as_deref()).await?;
        }
    }
    Ok(found)
}

impl Group {
    fn format(&self, source: &Source) -> Option<Format> {
        format_of_file(source, &self.taken.as_ref()?.file.path)
    }

    /// How its records were written, where they can be read from their bytes.
    fn written(&self, source: &Source) -> Option<Written> {
        match self.format(source)? {
            Format::JsonLines => Some(Written::Json),
            Format::Csv => {
                let header = self.taken.as_ref()?.header.clone()?.into();
                Some(Written::Csv { header, dialect: dialect(source) })
            }
            // The types of its columns are in the file alone.
            Format::Parquet => None,
        }
    }

    /// Whether the bytes that are kept are the record.
    fn has_bytes(position: Option<u64>, letter: &Letter) -> bool {
        position.is_some() && letter.reason != LINE_TOO_LONG && !letter.record.is_empty()
    }

    /// Whether it is read from its file: where bytes do not serve, or are not what came.
    fn needs_file(&self, source: &Source, is_cleaned: bool) -> bool {
        let lacks_bytes = self.letters.iter().any(|(position, letter)| !Self::has_bytes(*position, letter));
        self.is_there && (is_cleaned || lacks_bytes || self.written(source).is_none())
    }

    fn wanted(&self) -> Wanted {
        match self.letters.iter().any(|(position, _)| position.is_none()) {
            true => Wanted::Refused,
            false => Wanted::Records(self.letters.iter().filter_map(|(position, _)| *position).collect()),
        }
    }
}

/// A replay that can be read.
pub struct Plan {
    groups: Vec<Group>,
}

/// Plans to take up what `replay` asks for; `taken_up` names the batch that did so already and is read again.
pub async fn plan(
    workspace: &Workspace,
    sources: &Listings,
    entries: &[Arc<Entry>],
    table: &Table,
    replay: &Replay,
    taken_up: Option<i64>,
) -> Result<Plan> {
    let letters = letters::load(workspace, table, replay, taken_up).await?;
    Ok(Plan { groups: groups(sources, letters, entries).await? })
}

impl Plan {
    /// The files that are read for it.
    pub fn files(&self, workspace: &Workspace, sources: &Listings) -> Vec<PlannedFile> {
        let is_cleaned = workspace.pseudonymiser.is_some();
        let file = |group: &Group| {
            let (source, listing) = &sources[group.source?];
            let taken = group.taken.as_ref().filter(|_| group.needs_file(source, is_cleaned))?;
            let now = listing.files.get(&taken.file.path)?;
            Some(Listed::planned(&source.name, &taken.file.path, now))
        };
        self.groups.iter().filter_map(file).collect()
    }

    /// Reads the records of `manifest`'s replay, and tells what came of each.
    pub async fn stage(
        self,
        workspace: &Workspace,
        sources: &Listings,
        manifest: &Manifest,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Staged, Vec<Verdict>)> {
        let mut staged = Staged::new(manifest.batch);
        let mut verdicts = Vec::new();
        let mut of_source: BTreeMap<usize, Vec<Group>> = BTreeMap::new();
        for group in self.groups {
            if let Some(batch) = group.landed_in {
                let landed = |(_, letter)| Verdict { letter, outcome: Outcome::LandedIn(batch) };
                verdicts.extend(group.letters.into_iter().map(landed));
                continue;
            }
            match group.source {
                Some(source) => of_source.entry(source).or_default().push(group),
                None => verdicts.extend(leave(group.letters, "the source is no longer configured")),
            }
        }
        for (number, groups) in of_source {
            let (source, listing) = &sources[number];
            let of = OfSource { number, source, listing, batch: manifest.batch };
            let is_read = |group: &Group| {
                let path = group.taken.as_ref().filter(|_| group.is_there).map(|taken| &taken.file.path);
                path.is_some_and(|path| {
                    manifest.files.iter().any(|file| file.source == source.name && file.path == *path)
                })
            };
            let (in_files, in_bytes): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(is_read);
            verdicts.extend(from_files(workspace, of, manifest, in_files, &mut staged, progress).await?);
            let mapping = mapping(workspace, source)?;
            for group in in_bytes {
                verdicts.extend(from_bytes(workspace, of, &mapping, group, &mut staged)?);
            }
        }
        Ok((staged, verdicts))
    }
}

fn leave(letters: Vec<(Option<u64>, Letter)>, why: &'static str) -> impl Iterator<Item = Verdict> {
    letters.into_iter().map(move |(_, letter)| Verdict { letter, outcome: Outcome::Left(why) })
}

/// Takes letters up from their files.
async fn from_files(
    workspace: &Workspace,
    of: OfSource<'_>,
    manifest: &Manifest,
    groups: Vec<Group>,
    staged: &mut Staged,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Verdict>> {
    let mut files = Vec::new();
    for group in &groups {
        let path = group.taken.as_ref().map(|taken| &taken.file.path);
        let planned = manifest.files.iter().find(|file| file.source == of.source.name && Some(&file.path) == path);
        let entry = planned.and_then(|planned| of.listing.files.get(&planned.path));
        if let (Some(planned), Some(entry)) = (planned, entry) {
            files.push(ToRead { planned, entry: entry.clone(), planned_at: group.planned_at, wanted: group.wanted() });
        }
    }
    if files.is_empty() {
        return Ok(groups.into_iter().flat_map(|group| leave(group.letters, "its file is gone or another")).collect());
    }
    stage_source(workspace, of, files, staged, progress).await?;
    let landed: BTreeSet<&(OfFile, u64)> = staged.landed_again.iter().collect();
    let mut refused: HashMap<(&OfFile, Option<u64>), &RefusedAgain> = HashMap::new();
    refused.extend(staged.refused_again.iter().map(|again| ((&again.file, again.position), again)));
    let unsettled: BTreeSet<&str> = staged.unsettled.iter().map(|(file, ..)| file.path.as_str()).collect();
    let mut verdicts = Vec::new();
    for group in groups {
        let path = group.taken.map(|taken| taken.file.path).unwrap_or_default();
        let file = (of.source.name.clone(), path);
        for (position, letter) in group.letters {
            let again = refused.get(&(&file, None)).or_else(|| refused.get(&(&file, position)));
            let outcome = match (again, position) {
                // By another reason its bytes would pass for all of it.
                (Some(RefusedAgain { record: None, .. }), Some(_)) if !Group::has_bytes(position, &letter) => {
                    Outcome::Left("its file is refused whole now")
                }
                (Some(RefusedAgain { reason, detail, record, .. }), _) => {
                    Outcome::Refused { reason, detail: detail.clone(), record: record.clone() }
                }
                _ if unsettled.contains(file.1.as_str()) => Outcome::Left("its file is gone or another"),
                (None, None) => Outcome::Landed,
                (None, Some(position)) if landed.contains(&(file.clone(), position)) => Outcome::Landed,
                (None, Some(_)) => Outcome::Left("there is no such record in its file"),
            };
            verdicts.push(Verdict { letter, outcome });
        }
    }
    Ok(verdicts)
}

/// Takes letters up from the bytes that are kept of them.
fn from_bytes(
    workspace: &Workspace,
    of: OfSource<'_>,
    mapping: &Mapping,
    group: Group,
    staged: &mut Staged,
) -> Result<Vec<Verdict>> {
    let Some(written) = group.written(of.source) else {
        let why = match group.format(of.source) {
            Some(Format::Csv) if group.taken.as_ref().is_some_and(|taken| taken.sha256.is_some()) => {
                "the header of its file was not kept"
            }
            _ => "its file is gone or another",
        };
        return Ok(leave(group.letters, why).collect());
    };
    let planned_at = group.planned_at;
    let (letters, others): (Vec<_>, Vec<_>) =
        group.letters.into_iter().partition(|(position, letter)| Group::has_bytes(*position, letter));
    let mut verdicts: Vec<Verdict> = leave(others, "its file is gone or another").collect();
    let letters: Vec<Letter> = letters.into_iter().map(|(_, letter)| letter).collect();
    let records: Vec<_> = letters.iter().map(|letter| letter.record.clone()).collect();
    let cleaner = mapping.cleaner();
    let mut outcomes = vec![Outcome::Left("its bytes hold no record"); letters.len()];
    let mut occurrences = Occurrences::default();
    for decoded in read_again(&records, &written, mapping.request(), &limits(workspace))? {
        let at = |position: u64| usize::try_from(position - 1).expect("a number of a record");
        for rejected in &decoded.rejected {
            let (Some(position), reason) = (rejected.position, rejected.reason) else { continue };
            outcomes[at(position)] = Outcome::Refused { reason, detail: rejected.detail.clone(), record: None };
        }
        let positions: Vec<usize> = (0..decoded.batch.num_rows()).map(|row| at(decoded.position(row))).collect();
        let plan = match mapping.plan(&decoded.batch.schema()) {
            Ok(plan) => plan,
            Err(error) if error.kind() == Kind::Invalid => {
                let (reason, detail) = ("schema_conflict", error.to_string());
                let refused = Outcome::Refused { reason, detail, record: None };
                positions.iter().for_each(|position| outcomes[*position] = refused.clone());
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut mapped = map(mapping, &plan, decoded, of.batch, planned_at)?.mapped;
        let refused: BTreeSet<usize> = mapped.refused.iter().map(|(row, _)| *row).collect();
        for (row, refusal) in std::mem::take(&mut mapped.refused) {
            let Refusal { reason, detail } = refusal;
            outcomes[positions[row]] = Outcome::Refused { reason, detail, record: None };
        }
        let mut events: Vec<usize> = (0..positions.len()).filter(|row| !refused.contains(row)).collect();
        match cleaner {
            // The ids of events that bring none are derived from the record as it came.
            Some(_) => {
                for event in &events {
                    outcomes[positions[*event]] = Outcome::Left("its file is gone or another, and its id with it");
                }
                events = mapping.only_with_ids(&mut mapped)?.into_iter().map(|row| events[row]).collect();
            }
            None => mapping.derive_ids(&mut mapped, &mut occurrences)?,
        }
        events.into_iter().for_each(|row| outcomes[positions[row]] = Outcome::Landed);
        let rows = mapped.events.num_rows() as u64;
        if rows > 0 {
            let counts = staged.counts_of(&of.source.name);
            counts.rows_in += rows;
            counts.landed += rows;
            staged.events.push((of.number, mapped.events));
        }
    }
    if let Some(cleaner) = cleaner {
        for outcome in &mut outcomes {
            if let Outcome::Refused { detail, .. } = outcome {
                *detail = cleaner.clean_detail(detail);
            }
        }
    }
    verdicts.extend(letters.into_iter().zip(outcomes).map(|(letter, outcome)| Verdict { letter, outcome }));
    Ok(verdicts)
}
