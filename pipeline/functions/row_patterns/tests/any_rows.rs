//! Any clause over any rows gives what a naive reading of the rows gives, in any order of the rows and any session.

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::super::oracle;
use super::super::pattern::Pattern;
use super::super::walk::{Kind, Rules, Skip};
use super::{run, session};

/// A row: customer, time, value.
type Row = (u8, u8, Option<u8>);

/// `define` of variables a to d. The last refers to other rows of the match.
const DEFINE: &str = "a as v < 3, b as v >= prev(v), c as v > 0 and v <= last(a.v) + 1, d as ";
const OTHERS: [&str; 3] = ["coalesce(next(v), 9) > 1", "sum(v) <= 7", "first(classifier()) = 'b' or last(b.v, 1) = 1"];

fn sum(values: impl Iterator<Item = Option<u8>>) -> Option<i64> {
    values.flatten().map(i64::from).reduce(|sum, value| sum + value)
}

/// Whether the last label holds; `labels` are those of the rows from `start` on.
fn holds(rows: &[Row], start: usize, labels: &[(u8, bool)], other: usize) -> bool {
    let row = start + labels.len() - 1;
    let value = rows[row].2;
    let of =
        |variable: u8| (0..labels.len()).filter(move |index| labels[*index].0 == variable).map(|index| start + index);
    match labels[labels.len() - 1].0 {
        0 => value.is_some_and(|value| value < 3),
        1 => row > 0 && value.zip(rows[row - 1].2).is_some_and(|(value, before)| value >= before),
        2 => {
            let last = of(0).next_back().and_then(|row| rows[row].2);
            value.is_some_and(|value| value > 0) && value.zip(last).is_some_and(|(value, last)| value <= last + 1)
        }
        _ => match other {
            0 => rows.get(row + 1).and_then(|row| row.2).unwrap_or(9) > 1,
            1 => sum(rows[start..=row].iter().map(|row| row.2)).is_some_and(|sum| sum <= 7),
            _ => {
                let of_b: Vec<usize> = of(1).collect();
                let before = of_b.len().checked_sub(2).and_then(|index| rows[of_b[index]].2);
                labels[0].0 == 1 || before == Some(1)
            }
        },
    }
}

fn text_of(pattern: &Pattern) -> String {
    let all = |parts: &[Pattern], between: &str| parts.iter().map(text_of).collect::<Vec<_>>().join(between);
    match pattern {
        Pattern::Empty => "()".to_owned(),
        Pattern::Start => "^".to_owned(),
        Pattern::End => "$".to_owned(),
        Pattern::Row(variable) => ["a", "b", "c", "d"][usize::from(*variable)].to_owned(),
        Pattern::Concat(parts) => format!("({})", all(parts, " ")),
        Pattern::Alternation(parts) => format!("({})", all(parts, " | ")),
        Pattern::Permute(parts) => format!("permute({})", all(parts, ", ")),
        Pattern::Exclude(pattern) => format!("{{- {} -}}", text_of(pattern)),
        Pattern::Repeat { pattern, least, most, is_reluctant } => {
            let most = most.map(|most| most.to_string()).unwrap_or_default();
            format!("({}){{{least},{most}}}{}", text_of(pattern), if *is_reluctant { "?" } else { "" })
        }
    }
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let leaf = prop_oneof![
        12 => (0..4u8).prop_map(Pattern::Row),
        1 => Just(Pattern::Empty),
        1 => Just(Pattern::Start),
        1 => Just(Pattern::End),
    ];
    let inner = leaf.prop_recursive(3, 8, 3, |inner| {
        let several = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            4 => several().prop_map(Pattern::Concat),
            2 => several().prop_map(Pattern::Alternation),
            1 => several().prop_map(Pattern::Permute),
            1 => inner.clone().prop_map(|pattern| Pattern::Exclude(Box::new(pattern))),
            3 => (inner.clone(), 0u32..3, prop::option::of(0u32..3), any::<bool>()).prop_map(
                |(pattern, least, more, is_reluctant)| Pattern::Repeat {
                    pattern: Box::new(pattern), least, most: more.map(|more| least + more), is_reluctant,
                }
            ),
        ]
    });
    // All variables stand in the pattern; the last ways are hardly taken.
    inner.prop_map(|pattern| {
        let rest = Pattern::Concat([0, 1, 2, 3, 0, 1, 2, 3].map(Pattern::Row).to_vec());
        Pattern::Alternation(vec![pattern, rest])
    })
}

#[derive(Debug, Clone, Copy)]
enum Shown {
    One,
    All,
    Omit,
    Unmatched,
}

const MEASURES: [&str; 22] = [
    "match_number()",
    "match_sequence_number()",
    "match_complete()",
    "classifier()",
    "first(v)",
    "last(a.v, 1)",
    "prev(v)",
    "next(last(u.v), 2)",
    "final last(v)",
    "count(b.*)",
    "sum(v)",
    "array_agg(classifier(u))",
    "first(v, 1)",
    "final first(u.v, 1)",
    "running last(b.v)",
    "next(first(v))",
    "prev(classifier())",
    "avg(v)",
    "min(b.v)",
    "max(v)",
    "final sum(a.v)",
    "final count(v)",
];

fn measures(rows: &[Row], finding: &oracle::Naive, seen: usize) -> Vec<String> {
    let (kind, start, number, labels) = finding;
    if *kind == Kind::Unmatched {
        return vec!["-".to_owned(); MEASURES.len()];
    }
    let show = |value: Option<String>| value.unwrap_or("-".to_owned());
    let value = |row: Option<usize>| show(row.and_then(|row| rows.get(row)?.2).map(|value| value.to_string()));
    let name = |index: usize| ["a", "b", "c", "d"][usize::from(labels[index].0)];
    let so_far = || 0..seen;
    let of_a: Vec<usize> = so_far().filter(|index| labels[*index].0 == 0).collect();
    let of_u: Vec<usize> = so_far().filter(|index| matches!(labels[*index].0, 1 | 3)).collect();
    let last = seen.checked_sub(1);
    // Rows of a variable in the whole match, and values of some rows of it.
    let in_all = |variables: &[u8]| -> Vec<usize> {
        (0..labels.len()).filter(|index| variables.contains(&labels[*index].0)).collect()
    };
    let values = |of: &[usize]| of.iter().filter_map(|index| rows[start + index].2).collect::<Vec<u8>>();
    let every: Vec<usize> = so_far().collect();
    let of_b: Vec<usize> = so_far().filter(|index| labels[*index].0 == 1).collect();
    let average = |values: &[u8]| {
        let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
        (!values.is_empty()).then(|| sum / values.len() as f64)
    };
    let path: Vec<&str> = of_u.iter().map(|index| name(*index)).collect();
    vec![
        number.to_string(),
        seen.to_string(),
        (*kind == Kind::Match).to_string(),
        show(last.map(|index| name(index).to_owned())),
        value((seen > 0).then_some(*start)),
        value(of_a.len().checked_sub(2).map(|index| start + of_a[index])),
        value(last.and_then(|index| (start + index).checked_sub(1))),
        value(of_u.last().map(|index| start + index + 2)),
        value(labels.len().checked_sub(1).map(|index| start + index)),
        so_far().filter(|index| labels[*index].0 == 1).count().to_string(),
        show(sum(so_far().map(|index| rows[start + index].2)).map(|sum| sum.to_string())),
        if path.is_empty() { "-".to_owned() } else { format!("[{}]", path.join(", ")) },
        value((seen > 1).then_some(start + 1)),
        value(in_all(&[1, 3]).get(1).map(|index| start + index)),
        value(of_b.last().map(|index| start + index)),
        value((seen > 0).then_some(start + 1)),
        show(seen.checked_sub(2).map(|index| name(index).to_owned())),
        show(average(&values(&every)).map(|average| format!("{average:?}"))),
        show(values(&of_b).iter().min().map(u8::to_string)),
        show(values(&every).iter().max().map(u8::to_string)),
        show(sum(in_all(&[0]).iter().map(|index| rows[start + index].2)).map(|sum| sum.to_string())),
        values(&in_all(&[0, 1, 2, 3])).len().to_string(),
    ]
}

/// The rows of the result for one customer.
fn naive(
    customer: u8,
    rows: &[Row],
    pattern: &Pattern,
    rules: Rules,
    within: Option<u8>,
    shown: Shown,
    other: usize,
) -> Result<Vec<String>, &'static str> {
    let limit = |start: usize| {
        let is_near = |row: &&Row| within.is_none_or(|within| row.1 - rows[start].1 <= within);
        start + rows[start..].iter().take_while(is_near).count()
    };
    let findings = oracle::walk(pattern, rows.len(), rules, limit, &|start, labels| holds(rows, start, labels, other))?;
    let mut result = Vec::new();
    for finding in &findings {
        let (kind, start, _, labels) = finding;
        let line = |row: Option<usize>, seen: usize| {
            let mut line = vec![customer.to_string()];
            if let Some(row) = row {
                line.push(rows[row].1.to_string());
                line.push(rows[row].2.map_or("-".to_owned(), |value| value.to_string()));
            }
            line.extend(measures(rows, finding, seen));
            line.join(" ")
        };
        match (shown, kind) {
            (Shown::One, Kind::Unmatched) => {}
            (Shown::One, _) => result.push(line(None, labels.len())),
            (Shown::Unmatched, Kind::Unmatched) => result.push(line(Some(*start), 0)),
            (_, Kind::Unmatched) => {}
            (Shown::Omit, _) if labels.is_empty() => {}
            _ if labels.is_empty() => result.push(line(Some(*start), 0)),
            _ => {
                for (index, (_, is_excluded)) in labels.iter().enumerate() {
                    if !is_excluded {
                        result.push(line(Some(start + index), index + 1));
                    }
                }
            }
        }
    }
    Ok(result)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_clause_gives_what_a_naive_reading_gives(
        pattern in pattern(),
        (skip, skip_text) in prop::sample::select(vec![
            (Skip::PastLastRow, "past last row"), (Skip::ToNextRow, "to next row"), (Skip::ToFirst(2), "to first b"),
            (Skip::ToLast(10), "to last u"), (Skip::ToLast(1), "to a"), (Skip::ToFirst(10), "to first u"),
            (Skip::ToLast(8), "to last d"),
        ]),
        shown in prop::sample::select(vec![Shown::One, Shown::All, Shown::Omit, Shown::Unmatched]),
        shows_partial in any::<bool>(),
        within in prop::option::of(0u8..5),
        other in 0..OTHERS.len(),
        rows in prop::collection::vec((0u8..3, 0u8..6, prop::option::weighted(0.9, 0u8..5)), 0..14).prop_shuffle(),
        partitions in 1usize..4,
        batch_size in 1usize..5,
    ) {
        let shown = if pattern.excludes() && matches!(shown, Shown::Unmatched) { Shown::All } else { shown };
        let shape = match shown {
            Shown::One => "one row per match",
            Shown::All => "all rows per match",
            Shown::Omit => "all rows per match omit empty matches",
            Shown::Unmatched => "all rows per match with unmatched rows",
        };
        let partial = if shows_partial { "with partial matches" } else { "" };
        let within_text = within.map(|within| format!("within {within}")).unwrap_or_default();
        let all: Vec<String> = MEASURES.iter().enumerate().map(|(n, measure)| format!("{measure} as m{n}")).collect();
        let names: Vec<String> = (0..MEASURES.len()).map(|number| format!("m{number}")).collect();
        let columns = if matches!(shown, Shown::One) { "k" } else { "k, t, v" };
        let values: Vec<String> = rows.iter().map(|(customer, time, value)| {
            format!("({customer}, {time}, {})", value.map_or("null".to_owned(), |value| value.to_string()))
        }).collect();
        let values = if values.is_empty() { "(0, 0, 0)".to_owned() } else { values.join(", ") };
        let is_any = if rows.is_empty() { "where false" } else { "" };
        let sql = format!(
            "select {columns}, {} from (select k, t, cast(v as bigint) as v from (values {values}) as t(k, t, v) {is_any}) \
             match_recognize (partition by k order by t measures {} {shape} {partial} after match skip {skip_text} \
             pattern ({}) {within_text} subset u = (b, d) define {DEFINE}{})",
            names.join(", "), all.join(", "), text_of(&pattern), OTHERS[other]
        );
        let rules = Rules { skip, shows_partial, is_limited: within.is_some() };
        let mut expected: Result<Vec<String>, &str> = Ok(Vec::new());
        for customer in 0..3 {
            let mut own: Vec<Row> = rows.iter().copied().filter(|row| row.0 == customer).collect();
            own.sort_by_key(|row| (row.1, row.2.is_none(), row.2));
            let found = naive(customer, &own, &pattern, rules, within, shown, other);
            expected = expected.and_then(|mut all| { all.extend(found?); Ok(all) });
        }
        let found = Runtime::new().unwrap().block_on(run(&session(partitions, batch_size), &sql));
        match (found, expected) {
            (Err(error), Err(expected)) => prop_assert!(error.to_string().contains("after match skip"), "{expected}"),
            (Ok(mut found), Ok(mut expected)) => {
                found.sort();
                expected.sort();
                prop_assert_eq!(found, expected, "{}", sql);
            }
            (found, expected) => prop_assert!(false, "{:?} instead of {:?}: {}", found, expected, sql),
        }
    }
}
