//! The conditions of a task over the rows of one partition.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, PrimitiveArray, StringArray, UInt64Array, new_null_array,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::scalar::ScalarValue;

use super::aggregate::Running;
use super::conditions::Condition;
use super::matcher::{Conditions, Failure, Path, Reach};
use super::program::Program;
use super::spec::{Aggregate, Leaf, Place, Spec};

/// Columns of the rows before the tests.
const FIXED: usize = 3;
const TIME: usize = 1;
/// The column of the values of the result.
pub(super) const VALUES: usize = 2;

/// A task, ready to run.
pub(super) struct Task {
    pub(super) spec: Spec,
    pub(super) program: Program,
    pub(super) conditions: Vec<Condition>,
}

impl Task {
    /// Puts into words why a partition could not be matched.
    pub(super) fn explain(&self, failure: Failure<DataFusionError>) -> DataFusionError {
        match failure {
            Failure::Condition(error) => error,
            Failure::Exhausted { steps } => exec_datafusion_err!(
                "match_recognize: gave up after {steps} steps in one partition: bound the quantifiers or the span of a \
                 match (within), make the conditions tell rows apart, or refer to fewer other rows in define"
            ),
            Failure::SkipToFirstRow => exec_datafusion_err!(
                "match_recognize: after match skip leads to the first row of the match, which would be matched for ever"
            ),
            Failure::SkipToMissing => exec_datafusion_err!(
                "match_recognize: after match skip leads to a variable that no row of the match bears"
            ),
        }
    }
}

/// The most rows for which a condition is computed ahead.
const MOST_AHEAD: usize = 1_024;

/// A condition, computed for a row and those after it, as long as all else that it looks at stays the same: of each
/// look the row, the variable or the number.
#[derive(Default)]
struct Ahead {
    looks: Vec<u32>,
    from: usize,
    holds: Option<BooleanBuffer>,
}

/// What the aggregates of conditions were at each row of a path.
struct Trace {
    stamps: Vec<u64>,
    results: Vec<Running>,
}

/// Rows `first..end` of the columns.
pub(super) struct Partition<'a> {
    task: &'a Task,
    columns: &'a [ArrayRef],
    first: usize,
    rows: usize,
    reach: Reach,
    number: u64,
    limit: usize,
    traces: Vec<Option<Trace>>,
    ahead: Vec<Ahead>,
    scratch: Vec<u32>,
}

impl<'a> Partition<'a> {
    /// A partition; `columns` are the arguments of the call but the first.
    pub(super) fn new(task: &'a Task, columns: &'a [ArrayRef], first: usize, end: usize) -> Result<Self> {
        let traces = task.spec.looks.iter().map(|look| {
            matches!(look, Leaf::Aggregate { .. } | Leaf::AggregateLabels { .. })
                .then(|| Trace { stamps: Vec::new(), results: Vec::new() })
        });
        Ok(Self {
            task,
            columns,
            first,
            rows: end - first,
            reach: reach(&task.spec),
            number: 0,
            limit: 0,
            traces: traces.collect(),
            ahead: task.conditions.iter().map(|_| Ahead::default()).collect(),
            scratch: Vec::new(),
        })
    }

    /// The argument of a look.
    fn look_column(&self, look: usize) -> &'a ArrayRef {
        &self.columns[FIXED + self.task.spec.tests() + look]
    }

    /// The place as a row of the partition.
    fn locate(&self, place: Place, path: &Path) -> Option<usize> {
        let row = path.start + nth(place, path)?;
        let row = row as i64 + place.shift.clamp(-(self.rows as i64), self.rows as i64);
        (0..self.rows as i64).contains(&row).then_some(row as usize)
    }

    /// The variable of a row; `None` beyond the path.
    fn label(&self, row: Option<usize>, path: &Path) -> Option<u8> {
        path.labels.get(row?.checked_sub(path.start)?).map(|label| label.variable)
    }

    /// What a look sees beside the row in question, as a number.
    fn seen(&self, look: usize, path: &Path) -> u32 {
        match self.task.spec.looks[look] {
            Leaf::Value(place) | Leaf::Reached(place) => self.locate(place, path).map_or(u32::MAX, |row| row as u32),
            Leaf::Label(place) => self.label(self.locate(place, path), path).map_or(u32::MAX, u32::from),
            Leaf::Number => self.number as u32,
            _ => 0,
        }
    }

    /// The values of a look for so many rows from the row in question on.
    fn values(&mut self, look: usize, path: &Path, rows: usize) -> Result<ArrayRef> {
        let column = self.look_column(look);
        Ok(match self.task.spec.looks[look] {
            Leaf::Row => column.slice(self.first + path.end() - 1, rows),
            Leaf::Value(place) => match self.locate(place, path) {
                Some(row) if rows == 1 => column.slice(self.first + row, 1),
                Some(row) => take(column, &UInt64Array::from_value((self.first + row) as u64, rows), None)?,
                None => new_null_array(column.data_type(), rows),
            },
            Leaf::Label(place) => {
                let label = self.label(self.locate(place, path), path);
                let label = label.map(|variable| self.task.spec.labels[usize::from(variable)].as_str());
                Arc::new(StringArray::from(vec![label; rows]))
            }
            Leaf::Reached(place) => Arc::new(BooleanArray::from(vec![self.locate(place, path).is_some(); rows])),
            Leaf::Aggregate { .. } | Leaf::AggregateLabels { .. } => {
                self.aggregate(look, path)?.to_array_of_size(rows)?
            }
            Leaf::Number => Arc::new(Int64Array::from_value(self.number as i64, rows)),
            Leaf::IsComplete | Leaf::IsMatched => new_null_array(column.data_type(), rows),
        })
    }

    /// Whether a condition holds for the last row of a path.
    fn condition(&mut self, condition: usize, path: &Path) -> Result<bool> {
        let task = self.task;
        let (row, looks) = (path.end() - 1, &task.conditions[condition].looks);
        let is_ahead_useless =
            |look: &usize| matches!(task.spec.looks[*look], Leaf::Aggregate { .. } | Leaf::AggregateLabels { .. });
        let mut rows = 1;
        if !looks.iter().any(is_ahead_useless) {
            let mut seen = std::mem::take(&mut self.scratch);
            seen.clear();
            seen.extend(looks.iter().map(|look| self.seen(*look, path)));
            let ahead = &mut self.ahead[condition];
            if let Some(holds) = ahead.holds.as_ref().filter(|_| ahead.looks == seen) {
                if let Some(index) = row.checked_sub(ahead.from).filter(|index| *index < holds.len()) {
                    let holds = holds.value(index);
                    self.scratch = seen;
                    return Ok(holds);
                }
                rows = (holds.len() * 2).min(MOST_AHEAD).min(self.rows - row);
            }
            ahead.from = row;
            self.scratch = std::mem::replace(&mut ahead.looks, seen);
        }
        let values = looks.iter().map(|look| self.values(*look, path, rows)).collect::<Result<Vec<_>>>()?;
        let holds = task.conditions[condition].holds(values, rows)?;
        let is_held = holds.value(0);
        self.ahead[condition].holds = Some(holds);
        Ok(is_held)
    }

    fn aggregate(&mut self, look: usize, path: &Path) -> Result<ScalarValue> {
        let column = self.look_column(look);
        let (function, over, takes_labels) = match self.task.spec.looks[look] {
            Leaf::AggregateLabels { function, over } => (function, over, true),
            Leaf::Aggregate { function, over } => (function, over, false),
            _ => return Ok(ScalarValue::Null),
        };
        let null = ScalarValue::try_new_null(column.data_type())?;
        let Some(trace) = &mut self.traces[look] else {
            return Ok(null);
        };
        // Rows that were given back and taken anew have other stamps.
        let mut known = trace.stamps.len().min(path.stamps.len());
        while known > 0 && trace.stamps[known - 1] != path.stamps[known - 1] {
            known -= 1;
        }
        trace.stamps.truncate(known);
        trace.results.truncate(known);
        for (index, label) in path.labels.iter().enumerate().skip(known) {
            let mut running = match trace.results.last() {
                Some(running) => running.clone(),
                None => Running::new(function, null.clone()),
            };
            if over.variables >> label.variable & 1 == 1 {
                running.add(match (takes_labels, function) {
                    (true, Aggregate::Count) => ScalarValue::Int64(Some(1)),
                    (true, _) => ScalarValue::from(self.task.spec.labels[usize::from(label.variable)].as_str()),
                    (false, _) => ScalarValue::try_from_array(column, self.first + path.start + index)?,
                })?;
            }
            trace.results.push(running);
            trace.stamps.push(path.stamps[index]);
        }
        Ok(trace.results.last().map_or(null, Running::result))
    }

    fn times(&self) -> &'a PrimitiveArray<Int64Type> {
        self.columns[TIME].as_primitive::<Int64Type>()
    }
}

/// How far the conditions look.
fn reach(spec: &Spec) -> Reach {
    if spec.conditions() == 0 {
        return Reach::Row;
    }
    let looks_at_all = spec.looks.iter().any(|look| match look {
        Leaf::Aggregate { .. } | Leaf::AggregateLabels { .. } => true,
        // The rows about a chosen row are not in the signature.
        Leaf::Label(place) => place.shift != 0,
        _ => false,
    });
    if looks_at_all { Reach::Match } else { Reach::ChosenRows }
}

/// The rows of the path that a place is counted among.
fn nth(place: Place, path: &Path) -> Option<usize> {
    let variables = place.among.variables;
    let pick = |length: usize| {
        if place.is_first {
            Some(place.offset).filter(|row| *row < length)
        } else {
            length.checked_sub(place.offset + 1)
        }
    };
    if variables.count_ones() == 1 {
        let rows = &path.rows_of[variables.trailing_zeros() as usize];
        return pick(rows.len()).map(|row| rows[row] as usize - path.start);
    }
    if variables.count_ones() as usize == path.rows_of.len() {
        return pick(path.labels.len());
    }
    let is_among = |row: &usize| variables >> path.labels[*row].variable & 1 == 1;
    if place.is_first {
        (0..path.labels.len()).filter(is_among).nth(place.offset)
    } else {
        (0..path.labels.len()).rev().filter(is_among).nth(place.offset)
    }
}

impl Conditions for Partition<'_> {
    type Error = DataFusionError;

    fn rows(&self) -> usize {
        self.rows
    }

    fn reach(&self) -> Reach {
        self.reach
    }

    fn hold(&mut self, path: &Path) -> Result<bool> {
        let row = path.end() - 1;
        let Some(label) = path.labels.last() else {
            return Ok(false);
        };
        let definition = self.task.spec.definitions[usize::from(label.variable)];
        if let Some(test) = definition.test {
            let test = self.columns[FIXED + test].as_boolean();
            if test.is_null(self.first + row) || !test.value(self.first + row) {
                return Ok(false);
            }
        }
        match definition.condition {
            Some(condition) => self.condition(condition, path),
            None => Ok(true),
        }
    }

    fn sign(&self, path: &Path, signature: &mut Vec<u32>) {
        for look in &self.task.spec.looks {
            let (place, takes_label) = match look {
                Leaf::Value(place) | Leaf::Reached(place) => (*place, false),
                Leaf::Label(place) => (*place, true),
                _ => continue,
            };
            let is_any = place.among.variables.count_ones() as usize == path.rows_of.len();
            if is_any && !takes_label {
                continue; // told by the start and the row
            }
            for offset in 0..=place.offset {
                let row = nth(Place { offset, ..place }, path);
                signature.push(row.map_or(u32::MAX, |row| row as u32));
                if takes_label {
                    signature.push(row.map_or(u32::MAX, |row| u32::from(path.labels[row].variable)));
                }
            }
        }
    }

    fn limit(&mut self, start: usize) -> usize {
        let Some(within) = self.task.spec.within else {
            return self.rows;
        };
        let times = self.times();
        let from = self.first + start;
        self.limit = self.limit.max(start + 1);
        if times.is_null(from) {
            return start + 1;
        }
        while self.limit < self.rows {
            let row = self.first + self.limit;
            // Rows are ordered by time, up or down.
            if times.is_null(row) || times.value(row).abs_diff(times.value(from)) > within as u64 {
                break;
            }
            self.limit += 1;
        }
        self.limit
    }

    fn begin(&mut self, number: u64) {
        self.number = number;
    }
}
