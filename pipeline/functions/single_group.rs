//! Accumulators of one group, made of a groups accumulator: for a query without `group by`, and for windows.
//!
//! Memory: that of the groups accumulator; a frame whose start moves keeps the arguments of its rows besides.
//! Time:   as much as the groups accumulator takes for its rows whenever the result is asked for. A window over a whole
//!         partition asks once per partition; a running or moving frame asks after each row, so that its cost grows with the
//!         square of the rows of a partition.

use std::collections::VecDeque;
use std::fmt::Debug;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::compute::concat;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

/// A groups accumulator that can answer for its first group and keep it.
pub(super) trait FirstGroup: GroupsAccumulator + Debug + Sync {
    /// Makes the first group known, though it may have no rows.
    fn begin(&mut self);

    /// The result of the first group, an array of one element.
    fn peek(&mut self) -> Result<ArrayRef>;
}

/// The only group of a groups accumulator: of a query without `group by`, or of a window whose frame only grows.
#[derive(Debug)]
pub(super) struct SingleGroup<G> {
    groups: G,
    indices: Zeros,
}

impl<G: FirstGroup> SingleGroup<G> {
    /// The first group of a groups accumulator that has none yet.
    pub(super) fn of(mut groups: G) -> Self {
        groups.begin();
        Self { groups, indices: Zeros::default() }
    }
}

impl<G: FirstGroup> Accumulator for SingleGroup<G> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.groups.update_batch(values, self.indices.take(values[0].len()), None, 1)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.groups.merge_batch(states, self.indices.take(states[0].len()), 1)
    }

    /// Leaves the rows where they are: a window asks again after each of its rows.
    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.groups.peek()?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let states = self.groups.state(EmitTo::All)?;
        self.groups.begin();
        states.iter().map(|state| ScalarValue::try_from_array(state, 0)).collect()
    }

    fn size(&self) -> usize {
        size_of::<Self>() - size_of::<G>() + self.groups.size() + self.indices.size()
    }
}

/// The rows of a frame whose start moves. The rows that stay are answered for anew.
#[derive(Debug)]
pub(super) struct MovingFrame<G> {
    /// Empty but for the time of an answer.
    groups: G,
    indices: Zeros,
    /// The arguments of the rows of the frame, in their order.
    batches: VecDeque<Vec<ArrayRef>>,
}

/// Batches of a frame, mostly of a row each, beyond which they are made one.
const MANY_BATCHES: usize = 32;

impl<G: FirstGroup> MovingFrame<G> {
    /// A frame without rows, of a groups accumulator without groups.
    pub(super) fn of(groups: G) -> Self {
        Self { groups, indices: Zeros::default(), batches: VecDeque::new() }
    }

    fn make_one(&mut self) -> Result<()> {
        let columns = self.batches.front().map_or(0, Vec::len);
        let column = |index: usize| {
            let parts: Vec<&dyn Array> = self.batches.iter().map(|batch| batch[index].as_ref()).collect();
            Ok(concat(&parts)?)
        };
        let whole = (0..columns).map(column).collect::<Result<Vec<_>>>()?;
        self.batches = VecDeque::from([whole]);
        Ok(())
    }
}

impl<G: FirstGroup> Accumulator for MovingFrame<G> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if !values[0].is_empty() {
            self.batches.push_back(values.to_vec());
        }
        if self.batches.len() > MANY_BATCHES {
            self.make_one()?;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut leaving = values[0].len();
        while leaving > 0 {
            let Some(first) = self.batches.front_mut() else {
                return internal_err!("{leaving} rows leave a frame that has none");
            };
            let rows = first[0].len();
            if rows <= leaving {
                self.batches.pop_front();
                leaving -= rows;
                continue;
            }
            first.iter_mut().for_each(|column| *column = column.slice(leaving, rows - leaving));
            leaving = 0;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.groups.begin();
        for batch in &self.batches {
            self.groups.update_batch(batch, self.indices.take(batch[0].len()), None, 1)?;
        }
        ScalarValue::try_from_array(&self.groups.evaluate(EmitTo::All)?, 0)
    }

    /// A frame is never merged; this is what a merge would take.
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("the frame of a window has no state")
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        internal_err!("the frame of a window merges no states")
    }

    fn size(&self) -> usize {
        let arguments: usize = self.batches.iter().flatten().map(|column| column.get_array_memory_size()).sum();
        size_of::<Self>() - size_of::<G>() + self.groups.size() + self.indices.size() + arguments
    }
}

/// The group of each row of a batch: the first.
#[derive(Debug, Default)]
struct Zeros(Vec<usize>);

impl Zeros {
    fn take(&mut self, rows: usize) -> &[usize] {
        if self.0.len() < rows {
            self.0.resize(rows, 0);
        }
        &self.0[..rows]
    }

    fn size(&self) -> usize {
        self.0.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::aggregate_functions;
    use super::super::elements::testing::rows_of;

    /// Twelve rows of two customers, in no order of time, some of one instant.
    const ROWS: &str = "(select n, n % 2 as customer, (n * 5) % 7 as second, 'e-' || n as id, n % 3 = 0 as a, n % 3 = 1 as b, \
                        n % 5 <> 0 as c, ['web', 'store', 'chat'][n % 3 + 1] as page from (select value as n from range(12)))";

    /// A call of every aggregate, shown as one value.
    const CALLS: [&str; 15] = [
        "arg_min(page, second)",
        "window_funnel(4, second, a, b, c)",
        "window_funnel_events(4, 'strict_order', second, a, b, c)",
        "sequence_match('(?1)(?2)', second, a, b)",
        "sequence_count('(?1).*(?t<=3)(?2)', second, a, b)",
        "sequence_match_events('(?1).*(?2)', second, a, b)",
        "sequence_next_node('forward', 'first_match', second, page, c, a)",
        "retention(a, b, c)",
        "path(second, page)",
        "timeline(to_timestamp_seconds(second), id, named_struct('pages', page))",
        "markov_removal(1, [page, page], n, 1)",
        "shapley('conversions', [page], n, 1)",
        "top_paths(2, [page, page], 8, c)",
        "attribution_credits(['last', 'linear'], [page, 'goal'], [second, n], [false, true], 5, [n, n])",
        "path_flow([page, 'exit'], [to_timestamp_seconds(second), to_timestamp_seconds(n)], 8, c)",
    ];

    /// Frames, and the same as a condition on the rows of a frame for the row `at`.
    const FRAMES: [(&str, &str); 7] = [
        ("rows between 2 preceding and current row", "n >= at - 4 and n <= at"),
        ("rows between 1 preceding and 1 following", "n >= at - 2 and n <= at + 2"),
        ("rows between 3 preceding and 2 preceding", "n >= at - 6 and n <= at - 4"),
        ("rows between current row and unbounded following", "n >= at"),
        ("rows between unbounded preceding and current row", "n <= at"),
        ("range between 5 preceding and 1 following", "n >= at - 5 and n <= at + 1"),
        ("rows between unbounded preceding and unbounded following", "true"),
    ];

    #[tokio::test]
    async fn a_window_answers_for_the_rows_of_each_frame() {
        let called: Vec<&str> = CALLS.iter().map(|call| call.split('(').next().unwrap()).collect();
        for function in aggregate_functions() {
            assert!(called.contains(&function.name()), "no call of {}", function.name());
        }
        for call in CALLS {
            for (frame, condition) in FRAMES {
                // What a function says of no rows is its own matter, whether in a frame or in a group.
                let framed = format!(
                    "select n, {call} filter (where n <> 7) over (partition by customer order by n {frame}) as answer, \
                     count(*) filter (where n <> 7) over (partition by customer order by n {frame}) as row_count from {ROWS}"
                );
                let framed = format!("select n, answer from ({framed}) where row_count > 0 order by n");
                let joined = format!(
                    "select at, {call} from {ROWS} join (select n as at, customer as of_customer from {ROWS}) \
                     on customer = of_customer and {condition} where n <> 7 group by at order by at"
                );
                let (framed, joined) = (rows_of(&framed).await, rows_of(&joined).await);
                assert!(joined.len() > 5, "{call}, {frame}");
                assert_eq!(framed, joined, "{call}, {frame}");
            }
        }
    }
}
