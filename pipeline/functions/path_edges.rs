//! `path_edges`: the edges of a journey's collapsed path, from its start to its exit.
//!
//! Over any set of journeys as many edges lead into a node (position, touchpoint) as out of it: a test says so.
//! Touchpoints are compared by number and go out as string views.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, FieldRef, Fields};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, coerce_texts, coerce_times, expect_count, returned_field, to_times};
use super::changes::Runs;
use super::documentation::{Example, Manual, Section, Unlike};
use super::elements::{
    Names, Optionals, Rows, integers, record_fields, records_type, seconds, seconds_between, time_at,
};
use super::path::{Limits, check_limit, coerce_limit};

/// Where paths come from.
pub(super) const START: &str = "(start)";
/// Where a path leads that ends.
pub(super) const EXIT: &str = "(exit)";
/// Where a path leads that goes on behind the limit.
pub(super) const REST: &str = "(rest)";

/// The fields of an edge.
fn edge_fields() -> Fields {
    record_fields([
        ("position", DataType::Int64),
        ("from_touchpoint", DataType::Utf8View),
        ("to_touchpoint", DataType::Utf8View),
        ("seconds", DataType::Float64),
    ])
}

/// The function `path_edges`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PathEdges {
    signature: Signature,
}

impl Default for PathEdges {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for PathEdges {
    fn name(&self) -> &str {
        "path_edges"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 3)?;
        Ok(vec![
            coerce_texts(self.name(), &types[0])?,
            coerce_times(self.name(), &types[1])?,
            coerce_limit(self.name(), &types[2])?,
        ])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(records_type(edge_fields()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_limit(self.name(), &args, 2)?;
        returned_field(self, &args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let touchpoints = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        let times = Lists::of_argument(self.name(), &args.args[1], args.number_rows)?;
        let limits = Limits::of_argument(self.name(), &args.args[2], args.number_rows)?;
        touchpoints.expect_parallel(self.name(), &times, ("touchpoints", "times"))?;

        let mut names = Names::new();
        let numbers = names.numbers(self.name(), &touchpoints.values)?;
        let moments = to_times(self.name(), &times.values)?;
        let ends = Ends { start: names.number(START), exit: names.number(EXIT), rest: names.number(REST) };
        // A path of n runs has n - 1 changes and n + 1 edges.
        let changes = numbers.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let mut edges = Edges::with_capacity(ends, changes + 2 * touchpoints.len());
        let mut rows = Rows::with_capacity(touchpoints.len());
        for row in 0..touchpoints.len() {
            let (Some(range), Some(at), Some(limit)) = (touchpoints.range(row), times.range(row), limits.get(row))
            else {
                rows.null();
                continue;
            };
            edges.of_journey(&numbers[range], |touch| time_at(&moments, at.start + touch), limit);
            rows.end(self.name(), edges.positions.len())?;
        }
        let columns =
            vec![integers(edges.positions), names.array(edges.from)?, names.array(edges.to)?, seconds(edges.seconds)];
        Ok(ColumnarValue::Array(rows.finish_records(edge_fields(), columns)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Paths,
                syntax: &["path_edges(touchpoints, times, limit)"],
                summary: "Returns the edges of a journey's path, equal neighbours made one, from its start to its \
                          exit.",
                details: "Over any set of journeys, as many edges lead into a node (position, touchpoint) as out of \
                          it.",
                arguments: &[
                    ("touchpoints", "List of text, in journey order."),
                    ("times", "List of timestamps of any unit, one per touchpoint."),
                    (
                        "limit",
                        "Whole number from 1: how many touchpoints of the collapsed path are nodes; a constant or a \
                         column.",
                    ),
                ],
                example: Example {
                    query: "
                        select unnest(path_edges(
                          ['home', 'home', 'product', 'cart'],
                          [timestamp '2026-01-05T10:00:00', timestamp '2026-01-05T10:00:04',
                           timestamp '2026-01-05T10:00:09', timestamp '2026-01-05T10:02:00'], 2)) as edge
                    ",
                    rows: &[
                        "edge",
                        "{position: 0, from_touchpoint: (start), to_touchpoint: home, seconds: }",
                        "{position: 1, from_touchpoint: home, to_touchpoint: product, seconds: 9.0}",
                        "{position: 2, from_touchpoint: product, to_touchpoint: (rest), seconds: 111.0}",
                    ],
                },
                returns: "list of records `(position, from_touchpoint, to_touchpoint, seconds)`, in path order. An \
                          edge leads from the node at `position` to the one at `position + 1`. The first leads from \
                          `(start)`, at position 0; the last to `(exit)` when the path ends there, to `(rest)` when \
                          it goes on. Empty for a journey without touches.",
                parts: &[(
                    "Seconds",
                    "`Float64`, from the first touch of one run of equal touchpoints to the first touch of the next, \
                     also into `(rest)`; null from `(start)`, into `(exit)`, and where a time is null.",
                )],
                nulls: "neighbouring null touchpoints are equal; null when an argument is null.",
                order: "that of the lists.",
                ties: "",
                memory: "24 bytes and two string views per edge.",
                errors: "a limit below 1, lists of different lengths; other types, at planning.",
                source: "our own.",
                differs: &[Unlike {
                    whom: "PostHog's paths",
                    by: &[
                        "a journey is not split after 30 minutes",
                        "a path has the length given and every edge is returned, where its has the first 5 events and \
                         the 50 most frequent edges",
                    ],
                }],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

/// The touchpoints that stand for the ends of a path.
#[derive(Debug, Clone, Copy)]
struct Ends {
    start: u32,
    exit: u32,
    rest: u32,
}

/// The edges of many journeys, one column per field; touchpoints by number.
#[derive(Debug)]
struct Edges {
    ends: Ends,
    runs: Runs,
    positions: Vec<i64>,
    from: Vec<u32>,
    to: Vec<u32>,
    seconds: Optionals<f64>,
}

impl Edges {
    fn with_capacity(ends: Ends, edges: usize) -> Self {
        Self {
            ends,
            runs: Runs::default(),
            positions: Vec::with_capacity(edges),
            from: Vec::with_capacity(edges),
            to: Vec::with_capacity(edges),
            seconds: Optionals::with_capacity(edges),
        }
    }

    /// Adds the edges of a journey. `time` tells the time of a touch.
    fn of_journey(&mut self, touchpoints: &[u32], time: impl Fn(usize) -> Option<i64>, limit: usize) {
        let is_change = |touch: usize| touchpoints[touch - 1] != touchpoints[touch];
        let runs = self.runs.find(touchpoints.len(), is_change);
        let nodes = &runs[..runs.len().min(limit)];
        let Some(last) = nodes.last() else {
            return;
        };
        let time = |touch: &u32| time(*touch as usize);
        let touchpoint = |touch: &u32| touchpoints[*touch as usize];
        // What follows the nodes: the rest begins with the first run behind them.
        let (behind, seconds_to_it) = match runs.get(limit) {
            Some(rest) => (self.ends.rest, seconds_between(time(last), time(rest))),
            None => (self.ends.exit, None),
        };
        self.positions.extend(0..=nodes.len() as i64);
        self.from.push(self.ends.start);
        self.from.extend(nodes.iter().map(touchpoint));
        self.to.extend(nodes.iter().map(touchpoint));
        self.to.push(behind);
        self.seconds.push(None);
        self.seconds.extend(nodes.windows(2).map(|pair| seconds_between(time(&pair[0]), time(&pair[1]))));
        self.seconds.push(seconds_to_it);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::functions::elements::testing::{SELECT_JOURNEYS, error_of, in_every_encoding, rows_of};

    const ENDS: Ends = Ends { start: 100, exit: 101, rest: 102 };

    /// Position, from, to and seconds of each edge; touchpoints are letters, `<`, `>` and `.` the ends.
    fn edges(touchpoints: &str, limit: usize) -> Vec<(i64, char, char, Option<f64>)> {
        let numbers: Vec<u32> = touchpoints.bytes().map(|letter| u32::from(letter - b'a')).collect();
        let letter = |number: u32| match number {
            100 => '<',
            101 => '>',
            102 => '.',
            _ => char::from(b'a' + number as u8),
        };
        let mut edges = Edges::with_capacity(ENDS, 0);
        // Touch i happens i² seconds after the start.
        edges.of_journey(&numbers, |touch| Some((touch * touch) as i64 * 1_000_000), limit);
        let records = edges.positions.iter().zip(&edges.from).zip(&edges.to).zip(edges.seconds.to_vec());
        records.map(|(((position, from), to), seconds)| (*position, letter(*from), letter(*to), seconds)).collect()
    }

    #[test]
    fn a_path_within_the_limit_leads_to_its_exit() {
        assert_eq!(edges("abb", 2), [(0, '<', 'a', None), (1, 'a', 'b', Some(1.0)), (2, 'b', '>', None)]);
        assert_eq!(edges("aab", 8), [(0, '<', 'a', None), (1, 'a', 'b', Some(4.0)), (2, 'b', '>', None)]);
        assert_eq!(edges("a", 1), [(0, '<', 'a', None), (1, 'a', '>', None)]);
        assert_eq!(edges("", 8), []);
    }

    #[test]
    fn a_path_beyond_the_limit_leads_to_the_rest() {
        assert_eq!(edges("abbac", 2), [(0, '<', 'a', None), (1, 'a', 'b', Some(1.0)), (2, 'b', '.', Some(8.0))]);
        assert_eq!(edges("ab", 1), [(0, '<', 'a', None), (1, 'a', '.', Some(1.0))]);
    }

    #[tokio::test]
    async fn edges_unnest_into_rows_in_every_encoding() {
        for journeys in in_every_encoding() {
            let sql = format!(
                "select id, edge['position'], edge['from_touchpoint'], edge['to_touchpoint'], edge['seconds'] \
                 from (select id, unnest(path_edges(touchpoints, times, 2)) as edge from ({journeys})) order by 1, 2"
            );
            let expected = [
                "1 | 0 | (start) | home | ",
                "1 | 1 | home | product | 20.0",
                "1 | 2 | product | (rest) | 10.5",
                "2 | 0 | (start) |  | ",
                "2 | 1 |  | product | ",
                "2 | 2 | product | (exit) | ",
            ];
            assert_eq!(rows_of(&sql).await, expected, "{journeys}");
        }
    }

    #[tokio::test]
    async fn edges_group_into_a_mart() {
        let sql = format!(
            "select edge['position'] as position, edge['from_touchpoint'] as from_touchpoint, \
                    edge['to_touchpoint'] as to_touchpoint, count(*), median(edge['seconds']) \
             from (select unnest(path_edges(touchpoints, times, 8)) as edge from ({SELECT_JOURNEYS})) \
             where edge['from_touchpoint'] = 'product' group by 1, 2, 3 order by 1, 3"
        );
        assert_eq!(rows_of(&sql).await, ["2 | product | (exit) | 1 | ", "2 | product | home | 1 | 10.5"]);
    }

    #[tokio::test]
    async fn null_in_null_out_and_empty_in_empty_out() {
        let sql = format!("select path_edges(touchpoints, times, 8) is null from ({SELECT_JOURNEYS}) order by id");
        assert_eq!(rows_of(&sql).await, ["false", "false", "false", "true"]);
        let sql = "select path_edges([]::varchar[], []::timestamp[], 8), path_edges(null, null, 8), \
                   path_edges(['a'], [timestamp '2026-01-01'], null)";
        assert_eq!(rows_of(sql).await, ["[] |  | "]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (sql, message) in [
            ("select path_edges(['a'], 8)", "path_edges: expected 3 arguments, got 2"),
            ("select path_edges([1], [now()], 8)", "path_edges: expected a list of text"),
            ("select path_edges(['a'], ['b'], 8)", "path_edges: expected a list of timestamps"),
            ("select path_edges(['a'], [now()], 1.5)", "path_edges: expected a whole number as limit"),
            ("select path_edges(['a'], [now()], -1)", "path_edges: expected a limit of at least 1, got -1"),
            ("select path_edges(['a', 'b'], [now()], 8)", "path_edges: touchpoints has 2 elements where times has 1"),
        ] {
            let error = error_of(sql).await;
            assert!(error.contains(message), "{sql}: {error}");
        }
    }

    proptest! {
        #[test]
        fn as_much_flows_into_a_node_as_out_of_it(paths in prop::collection::vec("[abc]{0,6}", 0..8), limit in 1usize..5) {
            let mut balance: BTreeMap<(i64, char), i64> = BTreeMap::new();
            for (position, from, to, _) in paths.iter().flat_map(|path| edges(path, limit)) {
                *balance.entry((position, from)).or_default() -= 1;
                *balance.entry((position + 1, to)).or_default() += 1;
            }
            for ((_, touchpoint), rest) in balance {
                prop_assert!(rest == 0 || "<>.".contains(touchpoint));
            }
        }

        #[test]
        fn edges_join_the_collapsed_path(path in "[ab]{1,9}", limit in 1usize..6) {
            let times: Vec<f64> = (0..path.len()).map(|touch| (touch * touch) as f64).collect();
            let mut runs: Vec<(char, f64)> = path.chars().zip(times).collect();
            runs.dedup_by_key(|(touchpoint, _)| *touchpoint);
            let goes_on = runs.len() > limit;
            let mut naive = vec![(0, '<', runs[0].0, None)];
            for (node, pair) in runs.windows(2).take(limit).enumerate() {
                let to = if node + 1 == limit { '.' } else { pair[1].0 };
                naive.push((node as i64 + 1, pair[0].0, to, Some(pair[1].1 - pair[0].1)));
            }
            if !goes_on {
                naive.push((runs.len() as i64, runs[runs.len() - 1].0, '>', None));
            }
            prop_assert_eq!(edges(&path, limit), naive);
        }
    }
}
