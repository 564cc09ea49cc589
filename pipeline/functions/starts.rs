//! Where runs of a time-ordered list start: the one rule behind `gap_starts`, `journey_starts` and `run_starts`.
//!
//! An element starts a run when it is the first of its list, when it comes more than the timeout after the element
//! before it (a gap that equals the timeout does not cut), or when the element before it ended its run.

use std::sync::Arc;

use datafusion::arrow::array::{Array, BooleanArray, ListArray, TimestampMicrosecondArray};
use datafusion::arrow::buffer::{BooleanBuffer, MutableBuffer, NullBuffer};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::bit_util::set_bit;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::arguments::{Lists, item_field, to_booleans, to_times};
use super::documentation::{Example, Manual, Section};
use super::moments::Spans;

/// What `gap_starts` and `run_starts` tell their users alike.
pub(super) const RUNS: Manual = Manual {
    section: Section::Journeys,
    syntax: &[],
    summary: "",
    details: "",
    arguments: &[
        ("times", "List of timestamps of any unit, ascending; that is not checked."),
        (
            "gap",
            "How long a run may rest, an interval, a duration, text such as `'30 minutes'` or whole microseconds; a \
             constant or a column. A rest of exactly this length does not end it.",
        ),
    ],
    example: Example { query: "", rows: &[] },
    returns: "",
    parts: &[],
    nulls: "null when either argument is; a null among the times is an error.",
    order: "that of the list.",
    ties: "elements of equal time belong to one run.",
    memory: "",
    errors: "a null among the times, a negative gap, an interval of months; other types, at planning.",
    source: "our own; the rule of `sessionize` of DuckDB's `behavioral`, over a list.",
    differs: &[],
};

/// Lists of times and, for each element, whether it starts a run.
pub(crate) struct Starts {
    pub lists: Lists,
    pub times: TimestampMicrosecondArray,
    /// One flag per element of `lists`; flags of null rows mean nothing.
    pub flags: BooleanBuffer,
    /// Rows whose list or timeout is null.
    pub nulls: Option<NullBuffer>,
}

/// Elements after which a run ends, in lists parallel to the times.
struct Ends {
    lists: Lists,
    flags: BooleanArray,
}

impl Ends {
    /// Sets the flag of each element that comes after one that ends its run.
    fn set_starts(&self, times: &Lists, flags: &mut [u8]) {
        let is_end = |position: usize| self.flags.is_valid(position) && self.flags.value(position);
        let length = times.values.len();
        if self.lists.offsets == times.offsets {
            // The element after the last of a row is the first of the next, which starts a run anyway.
            let ends = self.flags.values().set_indices().filter(|position| is_end(*position) && position + 1 < length);
            return ends.for_each(|position| set_bit(flags, position + 1));
        }
        for row in (0..times.len()).filter(|row| !times.is_null(*row) && !self.lists.is_null(*row)) {
            let ends = self.lists.span(row).zip(times.span(row).skip(1)).filter(|(position, _)| is_end(*position));
            ends.for_each(|(_, start)| set_bit(flags, start));
        }
    }
}

/// A bit for each element: whether it comes more than its row's timeout after the one before it. That of the first element
/// of a row means nothing, nor do those of a row without a timeout.
///
/// A timeout for all is compared over the rows' borders: that is a loop without a branch.
fn gaps(lists: &Lists, times: &[i64], timeouts: &Spans) -> MutableBuffer {
    let gap = |position: usize| times[position].saturating_sub(times[position - 1]);
    if let Some(timeout) = timeouts.constant() {
        return MutableBuffer::collect_bool(times.len(), |position| position > 0 && gap(position) > timeout);
    }
    let mut flags = MutableBuffer::new_null(times.len());
    for row in 0..lists.len() {
        let Some(timeout) = timeouts.get(row) else {
            continue;
        };
        let starts = lists.span(row).skip(1).filter(|position| gap(*position) > timeout);
        starts.for_each(|position| set_bit(flags.as_slice_mut(), position));
    }
    flags
}

impl Starts {
    /// Reads `(times, timeout)` or `(times, ends, timeout)` and marks the starts.
    pub(crate) fn of_arguments(function: &str, args: &ScalarFunctionArgs) -> Result<Self> {
        match args.args.as_slice() {
            [times, timeout] => Self::find(function, times, None, timeout, args.number_rows),
            [times, ends, timeout] => Self::find(function, times, Some(ends), timeout, args.number_rows),
            _ => unreachable!("the number of arguments is checked at planning"),
        }
    }

    fn find(
        function: &str,
        times: &ColumnarValue,
        ends: Option<&ColumnarValue>,
        timeout: &ColumnarValue,
        rows: usize,
    ) -> Result<Self> {
        let lists = Lists::of_argument(function, times, rows)?;
        lists.expect_no_null_element(function, "times")?;
        let times = to_times(function, &lists.values)?;
        let timeouts = Spans::of_argument(function, timeout)?;
        let ends = match ends {
            None => None,
            Some(argument) => {
                let ends = Lists::of_argument(function, argument, rows)?;
                lists.expect_parallel(function, &ends, ("times", "goals"))?;
                let flags = to_booleans(function, &ends.values)?;
                Some(Ends { lists: ends, flags })
            }
        };

        let is_null = |row: usize| {
            lists.is_null(row)
                || timeouts.get(row).is_none()
                || ends.as_ref().is_some_and(|ends| ends.lists.is_null(row))
        };
        let nulls = Some(NullBuffer::from_iter((0..rows).map(|row| !is_null(row))));
        let mut flags = gaps(&lists, times.values(), &timeouts);
        for row in (0..rows).filter(|row| !lists.span(*row).is_empty()) {
            set_bit(flags.as_slice_mut(), lists.span(row).start);
        }
        if let Some(ends) = ends {
            ends.set_starts(&lists, flags.as_slice_mut());
        }
        let flags = BooleanBuffer::new(flags.into(), 0, times.len());
        Ok(Self { lists, times, flags, nulls: nulls.filter(|nulls| nulls.null_count() > 0) })
    }

    /// The flags as lists parallel to the times.
    pub(crate) fn into_lists(self) -> Result<ListArray> {
        let flags = Arc::new(BooleanArray::new(self.flags, None));
        Ok(ListArray::try_new(item_field(DataType::Boolean), self.lists.offsets, flags, self.nulls)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::datatypes::TimestampMicrosecondType;
    use datafusion::scalar::ScalarValue;
    use proptest::prelude::*;

    use super::super::arguments::time_type;
    use super::*;

    type Rows<T> = Vec<Option<Vec<T>>>;

    /// Lists of flags as vectors.
    pub(crate) fn flags(array: &ArrayRef) -> Rows<bool> {
        let lists = array.as_list::<i32>().iter();
        lists.map(|row| row.map(|flags| flags.as_boolean().iter().map(Option::unwrap).collect())).collect()
    }

    fn lists<T: Clone>(rows: &Rows<T>, element: DataType, array: impl Fn(Vec<T>) -> ArrayRef) -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.as_ref().map_or(0, Vec::len)));
        let nulls: NullBuffer = rows.iter().map(Option::is_some).collect::<Vec<_>>().into();
        let values = array(rows.iter().flatten().flatten().cloned().collect());
        Arc::new(ListArray::new(item_field(element), offsets, values, Some(nulls)))
    }

    fn time_lists(rows: &Rows<i64>) -> ArrayRef {
        lists(rows, time_type(), |times| Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")))
    }

    fn goal_lists(rows: &Rows<Option<bool>>) -> ArrayRef {
        lists(rows, DataType::Boolean, |goals| Arc::new(BooleanArray::from(goals)))
    }

    fn find(times: ArrayRef, goals: Option<ArrayRef>, gap: ColumnarValue) -> Result<Rows<bool>> {
        let rows = times.len();
        let goals = goals.map(ColumnarValue::Array);
        let starts = Starts::find("f", &ColumnarValue::Array(times), goals.as_ref(), &gap, rows)?;
        Ok(flags(&(Arc::new(starts.into_lists()?) as ArrayRef)))
    }

    fn naive(times: &[i64], goals: &[Option<bool>], gap: i64) -> Vec<bool> {
        let is_start = |index: usize| {
            index == 0 || times[index] - times[index - 1] > gap || goals.get(index - 1) == Some(&Some(true))
        };
        (0..times.len()).map(is_start).collect()
    }

    proptest! {
        #[test]
        fn starts_are_those_of_a_naive_loop(
            rows in prop::collection::vec(
                (prop::option::of(prop::collection::vec((-50i64..50, prop::option::of(any::<bool>())), 0..8)),
                 prop::option::of(0i64..20)),
                1..8,
            ),
            skip in 0usize..8,
        ) {
            let skip = skip.min(rows.len() - 1);
            let mut times: Rows<i64> = Vec::new();
            let mut goals: Rows<Option<bool>> = Vec::new();
            for (list, _) in &rows {
                let mut list = list.clone();
                list.iter_mut().for_each(|list| list.sort_unstable_by_key(|(time, _)| *time));
                times.push(list.as_ref().map(|list| list.iter().map(|(time, _)| *time).collect()));
                goals.push(list.as_ref().map(|list| list.iter().map(|(_, goal)| *goal).collect()));
            }
            let gaps: Vec<Option<i64>> = rows.iter().map(|(_, gap)| *gap).collect();
            let kept = skip..rows.len();
            let slice = |array: ArrayRef| array.slice(skip, rows.len() - skip);

            let column = ColumnarValue::Array(Arc::new(Int64Array::from(gaps[skip..].to_vec())));
            let by_gap: Rows<bool> =
                kept.clone().map(|row| Some(naive(times[row].as_ref()?, &[], gaps[row]?))).collect();
            prop_assert_eq!(find(slice(time_lists(&times)), None, column).unwrap(), by_gap);

            let constant = ColumnarValue::Scalar(ScalarValue::Int64(Some(5)));
            let by_goal: Rows<bool> =
                kept.map(|row| Some(naive(times[row].as_ref()?, goals[row].as_ref()?, 5))).collect();
            let goals = slice(goal_lists(&goals));
            prop_assert_eq!(find(slice(time_lists(&times)), Some(goals), constant).unwrap(), by_goal);
        }
    }

    #[test]
    fn a_null_time_is_an_error_unless_its_row_is_null() {
        let list = ListArray::from_iter_primitive::<TimestampMicrosecondType, _, _>([Some(vec![Some(1), None])]);
        let gap = || ColumnarValue::Scalar(ScalarValue::Int64(Some(5)));
        assert!(find(Arc::new(list.clone()), None, gap()).is_err());
        let (field, offsets, values, _) = list.into_parts();
        let hidden = ListArray::new(field, offsets, values, Some(vec![false].into()));
        assert_eq!(find(Arc::new(hidden), None, gap()).unwrap(), vec![None]);
    }
}
