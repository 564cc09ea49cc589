//! Journeys that starts cut out of the touches of customers: a path per run, and what becomes of it.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array};
use datafusion::arrow::datatypes::Decimal128Type;
use datafusion::common::Result;

use super::super::arguments::{Lists, to_booleans};
use super::tally::{Counts, Overflow};

/// Flags of touches.
struct Flags {
    lists: Lists,
    flags: BooleanArray,
}

impl Flags {
    fn of_argument(function: &str, touches: &Lists, what: &str, argument: &ArrayRef) -> Result<Self> {
        let lists = Lists::of_array(function, argument)?;
        touches.expect_parallel(function, &lists, ("touches", what))?;
        Ok(Self { flags: to_booleans(function, &lists.values)?, lists })
    }

    fn is_set(&self, position: usize) -> bool {
        self.flags.value(position) && self.flags.is_valid(position)
    }
}

const NOT_CONVERTED: Counts = Counts { conversions: 0, nulls: 1, value: 0 };

/// The journeys of a batch of customers.
pub(super) struct CutJourneys {
    goals: Flags,
    starts: Flags,
    values: Option<(Lists, Decimal128Array)>,
}

impl CutJourneys {
    /// Reads `(goals, starts[, values])`, lists parallel to the touches.
    pub(super) fn of_arguments(function: &str, touches: &Lists, arguments: &[ArrayRef]) -> Result<Self> {
        let values = match arguments.get(2) {
            None => None,
            Some(values) => {
                let lists = Lists::of_array(function, values)?;
                touches.expect_parallel(function, &lists, ("touches", "values"))?;
                let values = lists.values.as_primitive::<Decimal128Type>().clone();
                Some((lists, values))
            }
        };
        Ok(Self {
            goals: Flags::of_argument(function, touches, "goals", &arguments[0])?,
            starts: Flags::of_argument(function, touches, "starts", &arguments[1])?,
            values,
        })
    }

    /// Gives each journey of a row to `take`: its path, made in `path`, and its counts. A touch that is a goal makes its
    /// journey a conversion, adds its value, and is not in the path. A row whose goals or starts are null has none.
    #[inline]
    pub(super) fn of_row(
        &self,
        row: usize,
        touches: impl Iterator<Item = u32>,
        path: &mut Vec<u32>,
        mut take: impl FnMut(&[u32], Counts) -> Result<(), Overflow>,
    ) -> Result<(), Overflow> {
        let (Some(goals), Some(starts)) = (self.goals.lists.range(row), self.starts.lists.range(row)) else {
            return Ok(());
        };
        let mut counts = NOT_CONVERTED;
        path.clear();
        let mut has_touches = false;
        for (element, touch) in touches.enumerate() {
            if has_touches && self.starts.is_set(starts.start + element) {
                take(path, counts)?;
                path.clear();
                counts = NOT_CONVERTED;
            }
            has_touches = true;
            if self.goals.is_set(goals.start + element) {
                let value = self.value(row, element);
                counts = Counts { conversions: 1, nulls: 0, value: counts.value.checked_add(value).ok_or(Overflow)? };
            } else {
                path.push(touch);
            }
        }
        match has_touches {
            true => take(path, counts),
            false => Ok(()),
        }
    }

    /// Null is 0.
    fn value(&self, row: usize, element: usize) -> i128 {
        let Some((lists, values)) = &self.values else {
            return 0;
        };
        match lists.range(row).map(|range| range.start + element) {
            Some(position) if values.is_valid(position) => values.value(position),
            _ => 0,
        }
    }
}
