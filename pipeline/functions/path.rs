//! `path_collapse` and `path_text`: a journey's path without repeats, as a list and as one text.
//!
//! What a limited path is, [`Limits`], `path_edges` shares.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringBuilder};
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, TextColumn, coerce_list, coerce_texts, expect_count, returned_field};
use super::changes::{Changes, is_comparable};
use super::documentation::{Example, Manual, Section, Unlike};
use super::elements::Rows;

// ---------------------------------------------------------------------------------------------------------------
// path_collapse
// ---------------------------------------------------------------------------------------------------------------

/// The function `path_collapse`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PathCollapse {
    signature: Signature,
}

impl Default for PathCollapse {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for PathCollapse {
    fn name(&self) -> &str {
        "path_collapse"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 1)?;
        Ok(vec![coerce_list(self.name(), &types[0], "plain values", DataType::Utf8, is_comparable)?])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        let DataType::List(item) = args.return_field.data_type() else {
            return internal_err!("{}: the result is not a list", self.name());
        };
        let starts = Changes::new(&lists.values)?.run_starts(&lists);
        let mut kept = 0;
        let mut rows = Rows::with_capacity(lists.len());
        for row in 0..lists.len() {
            match lists.range(row) {
                None => rows.null(),
                Some(range) => {
                    kept += starts.count(range);
                    rows.end(self.name(), kept)?;
                }
            }
        }
        let values = filter(&lists.values, &starts.into_flags())?;
        Ok(ColumnarValue::Array(rows.finish(Arc::clone(item), values)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Paths,
                syntax: &["path_collapse(list)"],
                summary: "Returns a list with each run of equal neighbours made one element.",
                details: "",
                arguments: &[("list", "List of text, numbers, times or booleans, in journey order.")],
                example: Example {
                    query: "select path_collapse(['home', 'home', 'product', 'home']) as path",
                    rows: &["path", "[home, product, home]"],
                },
                returns: "list of the same element type.",
                parts: &[],
                nulls: "two neighbouring nulls are equal; null for a null list.",
                order: "that of the list.",
                ties: "",
                memory: "two bits per element, and the result.",
                errors: "an argument that is not a list of plain values, at planning.",
                source: "the exposure transform of Snowplow's attribution.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// path_text
// ---------------------------------------------------------------------------------------------------------------

/// Stands between two touchpoints of a path.
const SEPARATOR: &str = " > ";
/// Stands for the touchpoints behind the limit.
const MORE: &str = "…";
/// Stands for a touchpoint that is null.
const NONE: &str = "(none)";

/// The function `path_text`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PathText {
    signature: Signature,
}

impl Default for PathText {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for PathText {
    fn name(&self) -> &str {
        "path_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 2)?;
        Ok(vec![coerce_texts(self.name(), &types[0])?, coerce_limit(self.name(), &types[1])?])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_limit(self.name(), &args, 1)?;
        returned_field(self, &args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        let limits = Limits::of_argument(self.name(), &args.args[1], args.number_rows)?;
        let touchpoints = TextColumn::of_array(self.name(), &lists.values)?;
        let changes = Changes::new(&lists.values)?;
        let mut paths = StringBuilder::with_capacity(lists.len(), 64 * lists.len());
        let mut path = String::new();
        for row in 0..lists.len() {
            let (Some(range), Some(limit)) = (lists.range(row), limits.get(row)) else {
                paths.append_null();
                continue;
            };
            path.clear();
            let first = range.start;
            let starts_run = |position: &usize| *position == first || changes.at(*position);
            write_path(range.filter(starts_run).map(|position| touchpoints.get(position)), limit, &mut path);
            paths.append_value(&path);
        }
        Ok(ColumnarValue::Array(Arc::new(paths.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Paths,
                syntax: &["path_text(touchpoints, limit)"],
                summary: "Returns a path as one text: equal neighbours made one, the first of them joined with ` > `, \
                          and ` > …` appended when more follow.",
                details: "",
                arguments: &[
                    ("touchpoints", "List of text, in journey order."),
                    ("limit", "Whole number from 1: how many touchpoints to show; a constant or a column."),
                ],
                example: Example {
                    query: "
                        select path_text(['home', 'home', 'product', 'checkout'], 2) as first_two,
                          path_text(['home', null], 2) as whole
                    ",
                    rows: &["first_two | whole", "home > product > … | home > (none)"],
                },
                returns: "text; empty for an empty list.",
                parts: &[],
                nulls: "a null touchpoint reads `(none)`; null when an argument is null.",
                order: "that of the list.",
                ties: "",
                memory: "a bit per element, and the result.",
                errors: "a limit below 1; other types, at planning.",
                source: "our own.",
                differs: &[Unlike {
                    whom: "PostHog's paths",
                    by: &["a journey is not split after 30 minutes, and a path ends at the limit given, where its \
                           keeps the first 5 events or collapses the middle"],
                }],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

/// Appends the path of a journey, whose neighbours differ, to `path`.
fn write_path<'a>(touchpoints: impl Iterator<Item = Option<&'a str>>, limit: usize, path: &mut String) {
    for (shown, touchpoint) in touchpoints.enumerate() {
        if shown > 0 {
            path.push_str(SEPARATOR);
        }
        if shown == limit {
            path.push_str(MORE);
            return;
        }
        path.push_str(touchpoint.unwrap_or(NONE));
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The limit of a path
// ---------------------------------------------------------------------------------------------------------------

/// Coerces the argument that limits a path.
pub(super) fn coerce_limit(function: &str, data_type: &DataType) -> Result<DataType> {
    if data_type.is_integer() || data_type.is_null() {
        return Ok(DataType::Int64);
    }
    plan_err!("{function}: expected a whole number as limit, got {data_type}")
}

/// Fails at planning where the limit is a constant below 1.
pub(super) fn check_limit(function: &str, args: &ReturnFieldArgs, position: usize) -> Result<()> {
    let constant = args.scalar_arguments.get(position).copied().flatten();
    let limit = constant.and_then(|limit| limit.cast_to(&DataType::Int64).ok());
    match limit {
        Some(ScalarValue::Int64(Some(limit))) if limit < 1 => {
            plan_err!("{function}: expected a limit of at least 1, got {limit}")
        }
        _ => Ok(()),
    }
}

/// How many touchpoints of a path count, per row; at least 1.
pub(super) struct Limits(Int64Array);

impl Limits {
    /// Reads an `Int64` argument.
    pub(super) fn of_argument(function: &str, argument: &ColumnarValue, rows: usize) -> Result<Self> {
        let limits: ArrayRef = argument.to_array(rows)?;
        let limits = limits.as_primitive::<Int64Type>().clone();
        match limits.iter().flatten().find(|limit| *limit < 1) {
            Some(limit) => exec_err!("{function}: expected a limit of at least 1, got {limit}"),
            None => Ok(Self(limits)),
        }
    }

    /// The limit of a row.
    pub(super) fn get(&self, row: usize) -> Option<usize> {
        self.0.is_valid(row).then(|| usize::try_from(self.0.value(row)).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::functions::elements::testing::{SELECT_JOURNEYS, error_of, in_every_encoding, rows_of};

    fn path(touchpoints: &[Option<&str>], limit: usize) -> String {
        let mut path = String::new();
        write_path(touchpoints.chunk_by(|left, right| left == right).map(|run| run[0]), limit, &mut path);
        path
    }

    #[test]
    fn a_path_shows_the_first_touchpoints_and_that_more_follow() {
        let touchpoints = ["a", "a", "b", "a", "a"].map(Some);
        assert_eq!(path(&touchpoints, 4), "a > b > a");
        assert_eq!(path(&touchpoints, 3), "a > b > a");
        assert_eq!(path(&touchpoints, 2), "a > b > …");
        assert_eq!(path(&touchpoints, 1), "a > …");
        assert_eq!(path(&["a", "a"].map(Some), 1), "a");
        assert_eq!(path(&[None, None, Some("a")], 8), "(none) > a");
        assert_eq!(path(&[], 8), "");
    }

    #[tokio::test]
    async fn equal_neighbours_become_one_in_every_encoding() {
        for journeys in in_every_encoding() {
            let sql =
                format!("select path_collapse(touchpoints), path_text(touchpoints, 2) from ({journeys}) order by id");
            let expected =
                ["[home, product, home] | home > product > …", "[, product] | (none) > product", "[] | ", " | "];
            assert_eq!(rows_of(&sql).await, expected, "{journeys}");
        }
    }

    #[tokio::test]
    async fn a_collapsed_list_keeps_its_element_type() {
        let sql = "select path_collapse([1, 1, null, null, 1]), path_collapse([timestamp '2026-01-01', timestamp '2026-01-01']), \
                   arrow_typeof(path_collapse(arrow_cast(['a'], 'LargeList(Dictionary(Int32, Utf8))'))), path_collapse([])";
        let expected = "[1, , 1] | [2026-01-01T00:00:00] | List(Dictionary(Int32, Utf8)) | []";
        assert_eq!(rows_of(sql).await, [expected]);
    }

    #[tokio::test]
    async fn slices_of_a_table_and_columns_of_limits_are_read_right() {
        let sql = format!(
            "select path_text(touchpoints, id + 1), path_collapse(touchpoints) \
             from ({SELECT_JOURNEYS} order by id limit 2 offset 1)"
        );
        assert_eq!(rows_of(&sql).await, ["(none) > product | [, product]", " | []"]);
        assert_eq!(rows_of("select path_text(['a'], null), path_text(null, 3), path_collapse(null)").await, [" |  | "]);
    }

    #[tokio::test]
    async fn a_limit_of_a_row_is_told_where_it_is_read() {
        let error = error_of("select path_text(['a'], \"limit\") from (values (1), (0)) as limits(\"limit\")").await;
        assert!(error.contains("path_text: expected a limit of at least 1, got 0"), "{error}");
    }

    #[tokio::test]
    async fn wrong_calls_are_told_while_planning() {
        for (sql, message) in [
            ("select path_collapse('a')", "path_collapse: expected a list of plain values, got Utf8"),
            ("select path_collapse([['a']])", "path_collapse: expected a list of plain values"),
            ("select path_collapse([1], [2])", "path_collapse: expected 1 arguments, got 2"),
            ("select path_text([1], 8)", "path_text: expected a list of text"),
            ("select path_text(['a'], 'b')", "path_text: expected a whole number as limit, got Utf8"),
            ("select path_text(['a'])", "path_text: expected 2 arguments, got 1"),
            ("select path_text(['a'], 0)", "path_text: expected a limit of at least 1, got 0"),
            ("select path_edges(['a'], [now()], -2)", "path_edges: expected a limit of at least 1, got -2"),
        ] {
            let error = error_of(&format!("explain {sql}")).await;
            assert!(error.contains(message), "{sql}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_text_is_the_collapsed_list_cut_and_joined(
            touchpoints in prop::collection::vec(prop::option::of("[ab]"), 0..9),
            limit in 1usize..6,
        ) {
            let touchpoints: Vec<Option<&str>> = touchpoints.iter().map(Option::as_deref).collect();
            let mut collapsed = touchpoints.clone();
            collapsed.dedup();
            let mut shown: Vec<&str> = collapsed.iter().take(limit).map(|text| text.unwrap_or("(none)")).collect();
            if collapsed.len() > limit {
                shown.push("…");
            }
            prop_assert_eq!(path(&touchpoints, limit), shown.join(" > "));
        }
    }
}
