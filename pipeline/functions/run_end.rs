//! `run_end`: where the run ends that holds an element.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, AsArray, Int64Array};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, coerce_booleans, expect_count, to_booleans};
use super::documentation::{Example, Manual, Section};

/// The function `run_end`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct RunEnd {
    signature: Signature,
}

impl Default for RunEnd {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for RunEnd {
    fn name(&self) -> &str {
        "run_end"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 2)?;
        if !types[1].is_integer() && !types[1].is_null() {
            return plan_err!("run_end: expected a whole number as position, got {}", types[1]);
        }
        Ok(vec![coerce_booleans(self.name(), &types[0])?, DataType::Int64])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let starts = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        let positions = args.args[1].to_array(args.number_rows)?;
        let positions = positions.as_primitive::<Int64Type>();
        let flags = to_booleans(self.name(), &starts.values)?;
        let is_start = |place: &usize| flags.is_valid(*place) && flags.value(*place);
        let end = |row: usize| {
            let (range, position) = (starts.range(row)?, positions.is_valid(row).then(|| positions.value(row))?);
            let position = usize::try_from(position).ok().filter(|position| (1..=range.len()).contains(position))?;
            // Positions count from 1, places from 0: the element behind the one asked for is at `position`.
            let next = (range.start + position..range.end).find(is_start).unwrap_or(range.end);
            Some((next - range.start) as i64)
        };
        Ok(ColumnarValue::Array(Arc::new((0..args.number_rows).map(end).collect::<Int64Array>())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Journeys,
                syntax: &["run_end(starts, position)"],
                summary: "Returns the position of the last element of the run that holds an element: where the \
                          session of a touch ends.",
                details: "",
                arguments: &[
                    ("starts", "List of booleans, as `gap_starts` and `journey_starts` give it."),
                    ("position", "Whole number: the position of the element, from 1; a constant or a column."),
                ],
                example: Example {
                    query: "
                        select run_end([true, false, true, false, false, true], 3) as last,
                          run_end([true, false, true], 3) as itself
                    ",
                    rows: &["last | itself", "5 | 3"],
                },
                returns: "`Int64`, from 1, at least `position`.",
                parts: &[],
                nulls: "a null start counts as false; null when an argument is null, and where no element is at \
                        `position`.",
                order: "that of the list.",
                ties: "",
                memory: "8 bytes per row; the list is read from the position to the end of the run.",
                errors: "other types, at planning.",
                source: "our own.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{BooleanArray, ListArray};
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::datatypes::Field;
    use datafusion::common::config::ConfigOptions;
    use proptest::prelude::*;

    use super::super::arguments::item_field;
    use super::super::elements::testing::{error_of, rows_of};
    use super::*;

    fn naive(starts: &[Option<bool>], position: i64) -> Option<i64> {
        if position < 1 || position > starts.len() as i64 {
            return None;
        }
        let mut last = position;
        while last < starts.len() as i64 && starts[last as usize] != Some(true) {
            last += 1;
        }
        Some(last)
    }

    proptest! {
        #[test]
        fn ends_are_those_of_a_naive_loop(
            rows in prop::collection::vec(
                (prop::collection::vec(prop::option::of(any::<bool>()), 0..9), any::<bool>(), prop::option::of(-1i64..11)),
                1..9,
            ),
            skip in 0usize..9,
        ) {
            let skip = skip.min(rows.len() - 1);
            let offsets = OffsetBuffer::from_lengths(rows.iter().map(|(starts, ..)| starts.len()));
            let flags: BooleanArray = rows.iter().flat_map(|(starts, ..)| starts).copied().collect();
            let nulls: Vec<bool> = rows.iter().map(|(_, is_there, _)| *is_there).collect();
            let starts = ListArray::new(item_field(DataType::Boolean), offsets, Arc::new(flags), Some(nulls.into()));
            let positions: Int64Array = rows.iter().map(|(.., position)| *position).collect();
            let args = ScalarFunctionArgs {
                args: vec![
                    ColumnarValue::Array(Arc::new(starts.slice(skip, rows.len() - skip))),
                    ColumnarValue::Array(Arc::new(positions.slice(skip, rows.len() - skip))),
                ],
                arg_fields: vec![],
                number_rows: rows.len() - skip,
                return_field: Arc::new(Field::new("run_end", DataType::Int64, true)),
                config_options: Arc::new(ConfigOptions::default()),
            };
            let found = RunEnd::default().invoke_with_args(args).unwrap().into_array(rows.len() - skip).unwrap();
            let found: Vec<Option<i64>> = found.as_primitive::<Int64Type>().iter().collect();
            let expected: Vec<Option<i64>> = rows[skip..]
                .iter()
                .map(|(starts, is_there, position)| naive(starts, position.filter(|_| *is_there)?))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[tokio::test]
    async fn a_session_ends_before_the_next_start() {
        let times =
            "[timestamp '2026-01-01T10:00:00', timestamp '2026-01-01T10:10:00', timestamp '2026-01-02T10:00:00']";
        let sql = format!(
            "select position, run_end(gap_starts({times}, interval '30 minutes'), position) \
             from (select unnest([0, 1, 2, 3, 4]) as position) order by position"
        );
        assert_eq!(rows_of(&sql).await, ["0 | ", "1 | 2", "2 | 2", "3 | 3", "4 | "]);
        assert_eq!(rows_of("select run_end(null, 1), run_end([true], null)").await, [" | "]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (sql, message) in [
            ("select run_end([true])", "run_end: expected 2 arguments, got 1"),
            ("select run_end([1], 1)", "run_end: expected a list of booleans"),
            ("select run_end([true], 1.5)", "run_end: expected a whole number as position, got"),
        ] {
            let error = error_of(sql).await;
            assert!(error.contains(message), "{sql}: {error}");
        }
    }
}
