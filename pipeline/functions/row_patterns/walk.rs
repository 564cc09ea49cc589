//! All matches of a partition: from which rows they are looked for, and what becomes of the rows between them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::matcher::{Conditions, Failure, Search};
use super::program::{Label, Program};

/// Where to look for the next match after one that took rows. Sets of variables are bit sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Skip {
    PastLastRow,
    ToNextRow,
    ToFirst(u64),
    ToLast(u64),
}

/// What was found at a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A match; it is empty if it has no labels.
    Match,
    /// No match, but an attempt at one that took rows.
    Partial,
    /// A row of no match.
    Unmatched,
}

/// One finding. The rows are those from `start` on, one for each label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    pub(super) start: usize,
    /// From 1; 0 for an unmatched row.
    pub(super) number: u64,
    /// Where the labels lie in [`Findings::labels`].
    pub(super) labels: Range<usize>,
}

/// What was found in a partition, in the order of the rows at which it starts.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) list: Vec<Finding>,
    pub(super) labels: Vec<Label>,
}

/// How a partition is walked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rules {
    pub(super) skip: Skip,
    /// Attempts are findings too. They change neither the matches nor where these are looked for.
    pub(super) shows_partial: bool,
    /// The rows of a match must lie within a span.
    pub(super) is_limited: bool,
}

/// Finds everything in a partition.
///
/// With `skip to next row` each row without a match may start an attempt; with the other rules attempts do not overlap
/// one another (they may overlap a later match).
pub(super) fn walk<C: Conditions>(
    program: &Program,
    conditions: &mut C,
    variables: usize,
    rules: Rules,
) -> Result<Findings, Failure<C::Error>> {
    let rows = conditions.rows();
    let mut search = Search::new(program, conditions, variables, rules.is_limited, rules.shows_partial)?;
    let mut findings = Findings::default();
    let (mut start, mut number) = (0, 0);
    let (mut matched_until, mut attempted_until) = (0, 0);
    while start < rows {
        search.conditions.begin(number + 1);
        let from = findings.labels.len();
        let wants_attempt = rules.shows_partial && (rules.skip == Skip::ToNextRow || start >= attempted_until);
        let next = match search.find(start, wants_attempt)? {
            Some(labels) => {
                findings.labels.extend_from_slice(labels);
                number += 1;
                let end = start + labels.len();
                findings.list.push(Finding { kind: Kind::Match, start, number, labels: from..findings.labels.len() });
                if end == start {
                    start + 1
                } else {
                    matched_until = matched_until.max(end);
                    resume(rules.skip, start, &findings.labels[from..])?
                }
            }
            None => {
                let attempt = search.furthest();
                if !attempt.is_empty() {
                    findings.labels.extend_from_slice(attempt);
                    number += 1;
                    attempted_until = attempted_until.max(start + attempt.len());
                    let labels = from..findings.labels.len();
                    findings.list.push(Finding { kind: Kind::Partial, start, number, labels });
                } else if start >= matched_until && start >= attempted_until {
                    findings.list.push(Finding { kind: Kind::Unmatched, start, number: 0, labels: from..from });
                }
                start + 1
            }
        };
        start = next;
    }
    Ok(findings)
}

/// The row at which the search goes on after a match.
fn resume<E>(skip: Skip, start: usize, labels: &[Label]) -> Result<usize, Failure<E>> {
    let is_of = |variables: u64| move |label: &Label| variables >> label.variable & 1 == 1;
    let row = match skip {
        Skip::PastLastRow => return Ok(start + labels.len()),
        Skip::ToNextRow => return Ok(start + 1),
        Skip::ToFirst(variables) => labels.iter().position(is_of(variables)),
        Skip::ToLast(variables) => labels.iter().rposition(is_of(variables)),
    };
    match row {
        None => Err(Failure::SkipToMissing),
        Some(0) => Err(Failure::SkipToFirstRow),
        Some(row) => Ok(start + row),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::matcher::{Path, Reach};
    use super::super::oracle;
    use super::super::pattern::Pattern;
    use super::*;

    const VARIABLES: usize = 4;

    /// What variable 3 asks for, beside its row.
    #[derive(Debug, Clone, Copy)]
    enum Asks {
        Nothing,
        /// A value no smaller than that of the last row of variable 0.
        LastOfZero,
        /// A value no smaller than that of the second row of variables 0 and 1.
        SecondOfZeroOrOne,
        /// Values of the match that sum up to less.
        SumBelow(u64),
    }

    struct Table<'a> {
        /// The variables that each row may bear.
        may_bear: &'a [u8],
        values: &'a [u8],
        times: &'a [u8],
        within: Option<u8>,
        asks: Asks,
    }

    impl Table<'_> {
        fn holds(&self, start: usize, labels: &[u8]) -> bool {
            let row = start + labels.len() - 1;
            let variable = *labels.last().unwrap();
            let values = || labels.iter().zip(&self.values[start..]);
            if self.may_bear[row] >> variable & 1 == 0 {
                return false;
            }
            if variable != 3 {
                return true;
            }
            match self.asks {
                Asks::Nothing => true,
                Asks::LastOfZero => {
                    let last = values().rfind(|(label, _)| **label == 0);
                    last.is_some_and(|(_, value)| self.values[row] >= *value)
                }
                Asks::SecondOfZeroOrOne => {
                    let second = values().filter(|(label, _)| **label < 2).nth(1);
                    second.is_some_and(|(_, value)| self.values[row] >= *value)
                }
                Asks::SumBelow(most) => values().map(|(_, value)| u64::from(*value)).sum::<u64>() < most,
            }
        }

        fn end(&self, start: usize) -> usize {
            let Some(within) = self.within else {
                return self.values.len();
            };
            let is_near = |row: &usize| self.times[*row] - self.times[start] <= within;
            start + (start..self.values.len()).take_while(is_near).count()
        }
    }

    impl Conditions for Table<'_> {
        type Error = String;

        fn rows(&self) -> usize {
            self.values.len()
        }

        fn reach(&self) -> Reach {
            match self.asks {
                Asks::Nothing => Reach::Row,
                Asks::LastOfZero | Asks::SecondOfZeroOrOne => Reach::ChosenRows,
                Asks::SumBelow(_) => Reach::Match,
            }
        }

        fn hold(&mut self, path: &Path) -> Result<bool, String> {
            if let Asks::Nothing = self.asks {
                let label = path.labels.last().unwrap();
                return Ok(self.may_bear[path.end() - 1] >> label.variable & 1 == 1);
            }
            let labels: Vec<u8> = path.labels.iter().map(|label| label.variable).collect();
            Ok(self.holds(path.start, &labels))
        }

        fn sign(&self, path: &Path, signature: &mut Vec<u32>) {
            match self.asks {
                Asks::LastOfZero => signature.push(path.rows_of[0].last().copied().unwrap_or(u32::MAX)),
                Asks::SecondOfZeroOrOne => {
                    let mut rows: Vec<u32> = path.rows_of[..2].concat();
                    rows.sort();
                    rows.resize(2, u32::MAX);
                    signature.extend(rows);
                }
                Asks::Nothing | Asks::SumBelow(_) => {}
            }
        }

        fn limit(&mut self, start: usize) -> usize {
            self.end(start)
        }

        fn begin(&mut self, _number: u64) {}
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let leaf = prop_oneof![
            12 => (0..VARIABLES as u8).prop_map(Pattern::Row),
            1 => Just(Pattern::Empty),
            1 => Just(Pattern::Start),
            1 => Just(Pattern::End),
        ];
        leaf.prop_recursive(4, 14, 3, |inner| {
            let several = || prop::collection::vec(inner.clone(), 1..4);
            let bounds = prop_oneof![
                Just((0, None)),
                Just((1, None)),
                Just((0, Some(1))),
                (0u32..3, prop::option::of(0u32..3)).prop_map(|(least, more)| (least, more.map(|more| least + more))),
            ];
            prop_oneof![
                4 => several().prop_map(Pattern::Concat),
                2 => several().prop_map(Pattern::Alternation),
                1 => several().prop_map(Pattern::Permute),
                1 => inner.clone().prop_map(|pattern| Pattern::Exclude(Box::new(pattern))),
                4 => (inner.clone(), bounds, any::<bool>()).prop_map(|(pattern, (least, most), is_reluctant)| {
                    Pattern::Repeat { pattern: Box::new(pattern), least, most, is_reluctant }
                }),
            ]
        })
    }

    fn skip() -> impl Strategy<Value = Skip> {
        prop_oneof![
            3 => Just(Skip::PastLastRow),
            2 => Just(Skip::ToNextRow),
            1 => (1u64..16).prop_map(Skip::ToFirst),
            1 => (1u64..16).prop_map(Skip::ToLast),
        ]
    }

    fn asks() -> impl Strategy<Value = Asks> {
        prop_oneof![
            3 => Just(Asks::Nothing),
            1 => Just(Asks::LastOfZero),
            1 => Just(Asks::SecondOfZeroOrOne),
            1 => (1u64..12).prop_map(Asks::SumBelow),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_walk_finds_what_a_naive_search_finds(
            pattern in pattern(),
            skip in skip(),
            shows_partial in any::<bool>(),
            within in prop::option::of(0u8..4),
            asks in asks(),
            rows in prop::collection::vec((any::<u8>(), 0u8..5, 0u8..3), 0..7),
        ) {
            let may_bear: Vec<u8> = rows.iter().map(|row| row.0).collect();
            let values: Vec<u8> = rows.iter().map(|row| row.1).collect();
            let times: Vec<u8> = rows.iter().scan(0, |time, row| { *time += row.2; Some(*time) }).collect();
            let mut table = Table { may_bear: &may_bear, values: &values, times: &times, within, asks };
            let rules = Rules { skip, shows_partial, is_limited: within.is_some() };
            let expected = oracle::walk(&pattern, rows.len(), rules, |start| table.end(start), &|start, labels| {
                let labels: Vec<u8> = labels.iter().map(|label| label.0).collect();
                table.holds(start, &labels)
            });
            let program = Program::new(&pattern).unwrap();
            let found = walk(&program, &mut table, VARIABLES, rules);
            match (found, expected) {
                (Err(Failure::SkipToMissing), Err("missing")) | (Err(Failure::SkipToFirstRow), Err("first row")) => {}
                (Ok(found), Ok(expected)) => {
                    let found: Vec<oracle::Naive> = found.list.iter().map(|finding| {
                        let labels = found.labels[finding.labels.clone()].iter();
                        let labels = labels.map(|label| (label.variable, label.is_excluded)).collect();
                        (finding.kind, finding.start, finding.number, labels)
                    }).collect();
                    prop_assert_eq!(found, expected);
                }
                (found, expected) => prop_assert!(false, "{:?} instead of {:?}", found, expected),
            }
        }
    }

    fn many(variable: u8) -> Pattern {
        Pattern::Repeat { pattern: Box::new(Pattern::Row(variable)), least: 1, most: None, is_reluctant: false }
    }

    fn findings(
        pattern: &Pattern,
        rows: usize,
        may_bear: impl Fn(usize) -> u8,
        asks: Asks,
    ) -> Result<usize, Failure<String>> {
        let may_bear: Vec<u8> = (0..rows).map(may_bear).collect();
        let values = vec![1; rows];
        let mut table = Table { may_bear: &may_bear, values: &values, times: &values, within: None, asks };
        let rules = Rules { skip: Skip::PastLastRow, shows_partial: false, is_limited: false };
        walk(&Program::new(pattern).unwrap(), &mut table, VARIABLES, rules)
            .map(|findings| findings.list.iter().filter(|finding| finding.kind == Kind::Match).count())
    }

    #[test]
    fn conditions_on_rows_alone_are_searched_in_linear_time() {
        // ((0+)+ 1) over rows that are all 0: exponential for a search without memory.
        let twice = Pattern::Repeat { pattern: Box::new(many(0)), least: 1, most: None, is_reluctant: false };
        let pattern = Pattern::Concat(vec![twice, Pattern::Row(1)]);
        assert_eq!(findings(&pattern, 200_000, |_| 1, Asks::Nothing).unwrap(), 0);
        // (0* 1 | 0): the first way fails at the end of the rows, again and again.
        let far = Pattern::Concat(vec![many(0), Pattern::Row(1)]);
        let pattern = Pattern::Alternation(vec![far, Pattern::Row(0)]);
        assert_eq!(findings(&pattern, 200_000, |_| 1, Asks::Nothing).unwrap(), 200_000);
    }

    #[test]
    fn attempts_are_searched_in_linear_time() {
        let rows = 200_000;
        let (may_bear, values) = (vec![1; rows], vec![1; rows]);
        let mut table =
            Table { may_bear: &may_bear, values: &values, times: &values, within: None, asks: Asks::Nothing };
        let rules = Rules { skip: Skip::PastLastRow, shows_partial: true, is_limited: false };
        let mut found = |pattern| walk(&Program::new(&pattern).unwrap(), &mut table, VARIABLES, rules).unwrap();
        // (0+ 1) over rows that are all 0: one attempt, whose rows start no other.
        let far = Pattern::Concat(vec![many(0), Pattern::Row(1)]);
        let attempts = found(far.clone());
        assert_eq!((attempts.list.len(), attempts.list[0].kind, attempts.labels.len()), (1, Kind::Partial, rows));
        // (0+ 1 | 0): each row is a match, before which the first way fails at the end of the rows.
        let matches = found(Pattern::Alternation(vec![far, Pattern::Row(0)]));
        assert!(matches.list.len() == rows && matches.list.iter().all(|finding| finding.kind == Kind::Match));
    }

    #[test]
    fn a_span_leaves_the_search_in_linear_time() {
        let rows = 6_000;
        let (values, times) = (vec![1; rows], vec![1; rows]);
        let found = |pattern: &Pattern, may_bear: &[u8], shows_partial: bool| {
            let mut table = Table { may_bear, values: &values, times: &times, within: Some(1), asks: Asks::Nothing };
            let rules = Rules { skip: Skip::PastLastRow, shows_partial, is_limited: true };
            walk(&Program::new(pattern).unwrap(), &mut table, VARIABLES, rules).unwrap()
        };
        // (0+ 1) over rows that are all 0, and all within the span of each: nothing, or one attempt.
        let far = Pattern::Concat(vec![many(0), Pattern::Row(1)]);
        let zeros = vec![1; rows];
        let unmatched = found(&far, &zeros, false);
        assert!(unmatched.list.len() == rows && unmatched.list.iter().all(|finding| finding.kind == Kind::Unmatched));
        let attempts = found(&far, &zeros, true);
        assert_eq!((attempts.list.len(), attempts.labels.len()), (1, rows));
        // (0+ 1 | 0): each row is a match, for which the first way fails.
        let either = Pattern::Alternation(vec![far.clone(), Pattern::Row(0)]);
        for shows_partial in [false, true] {
            let matches = found(&either, &zeros, shows_partial);
            assert!(matches.list.len() == rows && matches.list.iter().all(|finding| finding.kind == Kind::Match));
        }
        // (0+ 1) over rows of which the last is 1: one match of all.
        let mut last = zeros;
        last[rows - 1] = 2;
        assert_eq!(found(&far, &last, true).labels.len(), rows);
    }

    #[test]
    fn a_pattern_of_more_places_than_ends_are_kept_of_is_matched_all_the_same() {
        let rows = 400;
        let (values, times) = (vec![1; rows], vec![1; rows]);
        let may_bear = vec![1; rows];
        for copies in [64, 65, 100] {
            let pattern = Pattern::Concat(vec![Pattern::Row(0); copies]);
            let mut table =
                Table { may_bear: &may_bear, values: &values, times: &times, within: Some(1), asks: Asks::Nothing };
            let rules = Rules { skip: Skip::PastLastRow, shows_partial: false, is_limited: true };
            let found = walk(&Program::new(&pattern).unwrap(), &mut table, VARIABLES, rules).unwrap();
            let matches = found.list.iter().filter(|finding| finding.kind == Kind::Match).count();
            assert_eq!(matches, rows / copies, "{copies}");
        }
    }

    #[test]
    fn a_search_that_never_ends_is_given_up() {
        // ((0 | 1)+ 3) with a condition on all rows of the match that never holds.
        let either = Pattern::Alternation(vec![Pattern::Row(0), Pattern::Row(1)]);
        let either = Pattern::Repeat { pattern: Box::new(either), least: 1, most: None, is_reluctant: false };
        let pattern = Pattern::Concat(vec![either, Pattern::Row(3)]);
        let failure = findings(&pattern, 40, |_| 255, Asks::SumBelow(0)).unwrap_err();
        assert!(matches!(failure, Failure::Exhausted { steps } if steps > 2_000_000), "{failure:?}");
        // The same with a condition on one chosen row ends soon.
        assert_eq!(findings(&pattern, 40, |row| if row % 40 == 39 { 0 } else { 255 }, Asks::LastOfZero).unwrap(), 1);
    }
}
