//! A source read and mapped without landing: for whoever must know whether a mapping fits its files.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::batch::{mapping, spec};
use super::events::EVENT_SCHEMA;
use super::mapping::{Occurrences, Plan, Records};
use super::plan::Listed;
use crate::config::Source;
use crate::error::{Error, Kind, Result};
use crate::sources::{self, FileEntry, Outcome, Part, Rejected};
use crate::workspace::Workspace;

/// What came of some records.
#[derive(Debug)]
pub struct Tried {
    /// Events with the columns of the table; those that share an id are all here.
    pub events: RecordBatch,
    /// Records that would become dead letters, with their places.
    pub refused: Vec<Refused>,
    /// Whether the file goes on behind them.
    pub has_more: bool,
}

/// A record or a whole file that would be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The record's number of line or row; none for the file.
    pub position: Option<u64>,
    /// The reason's code.
    pub reason: &'static str,
    /// What was expected and what came.
    pub detail: String,
}

impl Refused {
    /// The event column that the detail begins with, if a mapped value was refused.
    pub fn column(&self) -> Option<&str> {
        self.detail.split([':', ' ']).next().filter(|name| !name.is_empty())
    }
}

/// Maps the records of one file, block by block until at least `most` were read.
///
/// Errors: a mapping that is none; a store out of reach.
pub async fn attempt(
    workspace: &Workspace,
    source: &Source,
    listed: &Listed,
    file: &FileEntry,
    most: usize,
) -> Result<Tried> {
    let mapping = mapping(workspace, source)?;
    let cleaner = mapping.cleaner();
    // What is pseudonymised in the lake is not shown here either.
    let cleaned = |detail: &str| cleaner.as_ref().map_or(detail.to_string(), |cleaner| cleaner.clean_detail(detail));
    let spec = spec(workspace, source, mapping.request().clone());
    let mut reading = sources::read(listed.root.clone(), vec![file.clone()], spec)?;
    let mut plan: Option<Plan> = None;
    let mut occurrences = Occurrences::default();
    let (mut events, mut refused, mut has_more, mut read) = (Vec::new(), Vec::new(), false, 0);
    while let Some(part) = reading.next().await {
        let decoded = match part {
            Part::Records(_, decoded) => decoded,
            Part::End(_, Outcome::Read(_)) => break,
            Part::End(_, Outcome::Quarantined { reason, detail } | Outcome::Unsettled { reason, detail }) => {
                // Whatever came of it before would be discarded.
                events.clear();
                refused = vec![Refused { position: None, reason, detail: cleaned(&detail) }];
                break;
            }
            Part::End(_, Outcome::Failed(error)) => return Err(error.context(&file.path)),
        };
        let schema = decoded.batch.schema();
        let planned = match plan.take().filter(|plan| plan.fits(&schema)) {
            Some(planned) => planned,
            None => match mapping.plan(&schema) {
                Ok(planned) => planned,
                Err(error) if error.kind() == Kind::Invalid => {
                    let detail = error.to_string();
                    refused = vec![Refused { position: None, reason: "schema_conflict", detail }];
                    events.clear();
                    break;
                }
                Err(error) => return Err(error),
            },
        };
        let text = |row: usize| decoded.record(row).map(|bytes| bytes.to_vec()).unwrap_or_default();
        let records = Records { batch: &decoded.batch, text: &text, planned_at: now(), number: 0 };
        let mut mapped = mapping.map(&planned, &records)?;
        mapping.derive_ids(&mut mapped, &mut occurrences)?;
        read += decoded.batch.num_rows() + decoded.rejected.len();
        refused.extend(decoded.rejected.iter().map(|Rejected { position, reason, detail, .. }| Refused {
            position: *position,
            reason,
            detail: cleaned(detail),
        }));
        refused.extend(mapped.refused.into_iter().map(|(row, refusal)| Refused {
            position: Some(decoded.position(row)),
            reason: refusal.reason,
            detail: cleaned(&refusal.detail),
        }));
        events.push(mapped.events);
        plan = Some(planned);
        if read >= most {
            has_more = true;
            break;
        }
    }
    let events = concat_batches(&EVENT_SCHEMA, &events).map_err(Error::from)?;
    Ok(Tried { events, refused, has_more })
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
