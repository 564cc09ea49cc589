//! Rows that a chart can show: the largest of what there is, the rest together as one.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::kind::Kind;
use super::rows::{Rows, Type, text};
use crate::error::{Error, Result};

/// What stands for all that is too small to be shown.
pub const OTHER: &str = "(other)";

/// Most things on an axis.
const THINGS: usize = 20;
/// Most parts of a bar, and lines: as many as there are colours that everybody can tell apart.
const PARTS: usize = 6;
/// Most nodes of one position, and positions.
const NODES: usize = 7;
const POSITIONS: usize = 6;
/// Most days of a line.
const DAYS: usize = 1000;
/// Most cohorts, and periods of each.
const COHORTS: usize = 20;
const PERIODS: usize = 20;
/// Most rows of a table.
const ROWS: usize = 200;

/// Folds what is too much for a chart of `drawn` columns; returns what to tell of it.
pub fn fold(kind: Kind, drawn: usize, rows: &mut Rows) -> Vec<String> {
    let mut told = Vec::new();
    let value = drawn.saturating_sub(1);
    match kind {
        Kind::HeatMap => {
            together(rows, 0, value, THINGS, &mut told);
            together(rows, 1, value, THINGS, &mut told);
        }
        Kind::Bar => {
            together(rows, 0, value, THINGS, &mut told);
            if drawn == 3 {
                together(rows, 1, value, PARTS, &mut told);
            }
        }
        Kind::Line => {
            if drawn == 3 {
                together(rows, 1, value, PARTS, &mut told);
            }
            newest(rows, &mut told);
        }
        Kind::Sankey => nodes(rows, &mut told),
        Kind::Figures => first(rows, THINGS, &mut told),
        Kind::Retention => triangle(rows, &mut told),
        Kind::Funnel | Kind::Table => first(rows, ROWS, &mut told),
    }
    told
}

/// Adds up the rows that a chart of `drawn` columns calls by the same names, since one would hide the other; says so if
/// there were any.
///
/// Errors: rows of the same names whose values do not add up.
pub fn unite(kind: Kind, drawn: usize, rows: &mut Rows) -> Result<Option<String>> {
    if !matches!(kind, Kind::HeatMap | Kind::Bar | Kind::Line | Kind::Sankey) {
        return Ok(None);
    }
    let value = drawn - 1;
    // The page names things to the minute; the axis of a line is finer.
    let axis = usize::from(kind == Kind::Line);
    for column in (axis..value).filter(|column| rows.columns[*column].data_type == Type::Time) {
        for cell in rows.rows.iter_mut().map(|row| &mut row[column]) {
            let minute = cell.as_str().and_then(|time| time.get(..16)).map(|minute| format!("{minute}:00Z"));
            *cell = minute.map_or(Value::Null, Value::String);
        }
    }
    let mut seen = HashSet::new();
    let Some(twice) = (0..rows.rows.len()).find(|row| !seen.insert(names(&rows.rows[*row], value))) else {
        return Ok(None);
    };
    // A line of days alone is one of each further number.
    let values: Vec<usize> = match (kind, drawn) {
        (Kind::Line, 2) => (1..rows.columns.len()).filter(|at| rows.columns[*at].data_type == Type::Number).collect(),
        _ => vec![value],
    };
    if let Some(column) = values.iter().map(|at| &rows.columns[*at]).find(|column| !column.is_additive()) {
        let called = names(&rows.rows[twice], value).join(", ");
        return Err(Error::invalid(format!("two rows are called {called}, and {} does not add up", column.name))
            .hint("group by what names the rows, or give each a name of its own"));
    }
    add_up(rows, value, &values);
    Ok(Some("rows of the same name are added up".into()))
}

/// Keeps the first rows.
pub fn first(rows: &mut Rows, most: usize, told: &mut Vec<String>) {
    if rows.rows.len() > most {
        rows.rows.truncate(most);
        told.push(format!("the first {most} rows"));
    }
}

/// The `most` largest things of a column keep their names, and so do names in brackets, which are no things; the others
/// become one, or are left out where their values do not add up.
fn together(rows: &mut Rows, column: usize, value: usize, most: usize, told: &mut Vec<String>) {
    let mut sizes: HashMap<String, f64> = HashMap::new();
    for row in 0..rows.rows.len() {
        *sizes.entry(rows.text(row, column)).or_default() += rows.number(row, value).abs();
    }
    sizes.retain(|name, _| !is_no_thing(name));
    if sizes.len() <= most {
        return;
    }
    let folded = sizes.len() - most;
    let kept = largest(sizes, most);
    let is_kept = |row: &Vec<Value>| {
        let name = text(&row[column]);
        is_no_thing(&name) || kept.contains(&name)
    };
    if !rows.columns[value].is_additive() {
        rows.rows.retain(is_kept);
        told.push(format!("{folded} smaller ones are left out"));
        return;
    }
    for row in rows.rows.iter_mut().filter(|row| !is_kept(row)) {
        row[column] = OTHER.into();
    }
    add_up(rows, value, &[value]);
    // What is together comes last, whatever stood where.
    rows.rows.sort_by_key(|row| row[column] == OTHER);
    told.push(format!("{folded} smaller ones are together as {OTHER}"));
}

/// Whether a name stands for the end of a path, or for none.
fn is_no_thing(name: &str) -> bool {
    name.starts_with('(')
}

fn largest(sizes: HashMap<String, f64>, most: usize) -> HashSet<String> {
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sizes.into_iter().take(most).map(|(name, _)| name).collect()
}

/// What a row is called: the first `count` of its values.
fn names(row: &[Value], count: usize) -> Vec<String> {
    row[..count].iter().map(text).collect()
}

/// Adds up the values of rows that have the same first `count` names. What else stands there cannot be added up and goes.
fn add_up(rows: &mut Rows, count: usize, values: &[usize]) {
    let mut places: HashMap<Vec<String>, usize> = HashMap::new();
    let mut added: Vec<Vec<Value>> = Vec::new();
    for row in std::mem::take(&mut rows.rows) {
        match places.get(&names(&row, count)) {
            None => {
                places.insert(names(&row, count), added.len());
                added.push(row);
            }
            Some(place) => {
                for (column, sum) in added[*place].iter_mut().enumerate().skip(count) {
                    *sum = match (sum.as_f64(), row[column].as_f64()) {
                        (None, None) => Value::Null,
                        _ if !values.contains(&column) => Value::Null,
                        (one, other) => whole(one.unwrap_or_default() + other.unwrap_or_default()),
                    };
                }
            }
        }
    }
    rows.rows = added;
}

fn whole(number: f64) -> Value {
    match number.fract() == 0.0 && number.abs() < 9e15 {
        true => (number as i64).into(),
        false => number.into(),
    }
}

/// Keeps the newest days.
fn newest(rows: &mut Rows, told: &mut Vec<String>) {
    let mut days: Vec<String> = (0..rows.rows.len()).map(|row| rows.text(row, 0)).collect();
    days.sort();
    days.dedup();
    if days.len() > DAYS {
        let from = days[days.len() - DAYS].clone();
        rows.rows.retain(|row| text(&row[0]) >= from);
        told.push(format!("from {from} on"));
    }
}

/// Keeps the newest cohorts and their first periods. Days tell which are the newest; of texts the last are.
fn triangle(rows: &mut Rows, told: &mut Vec<String>) {
    let mut seen = HashSet::new();
    let mut cohorts: Vec<String> = (0..rows.rows.len()).map(|row| rows.text(row, 0)).collect();
    cohorts.retain(|cohort| seen.insert(cohort.clone()));
    if matches!(rows.columns[0].data_type, Type::Day | Type::Time) {
        cohorts.sort();
    }
    if cohorts.len() > COHORTS {
        let kept: HashSet<String> = cohorts[cohorts.len() - COHORTS..].iter().cloned().collect();
        rows.rows.retain(|row| kept.contains(&text(&row[0])));
        told.push(format!("the newest {COHORTS} cohorts of {}", cohorts.len()));
    }
    let mut periods: Vec<f64> = (0..rows.rows.len()).map(|row| rows.number(row, 1)).collect();
    periods.sort_by(f64::total_cmp);
    periods.dedup();
    if periods.len() > PERIODS {
        rows.rows.retain(|row| row[1].as_f64().unwrap_or_default() < periods[PERIODS]);
        told.push(format!("the first {PERIODS} periods"));
    }
}

/// Keeps the first positions, and of each the largest nodes; names in brackets, which stand for the end of a path, stay.
/// What flows into a node and out of it stays the same.
fn nodes(rows: &mut Rows, told: &mut Vec<String>) {
    let positions: Vec<i64> = {
        let mut all: Vec<i64> = (0..rows.rows.len()).map(|row| rows.number(row, 0) as i64).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    if let Some(end) = positions.get(POSITIONS) {
        rows.rows.retain(|row| (row[0].as_f64().unwrap_or_default() as i64) < *end);
        told.push(format!("the first {POSITIONS} steps of {}", positions.len()));
    }
    let mut sizes: HashMap<i64, HashMap<String, f64>> = HashMap::new();
    for row in 0..rows.rows.len() {
        let (position, journeys) = (rows.number(row, 0) as i64, rows.number(row, 3));
        if positions.first() == Some(&position) {
            *sizes.entry(position).or_default().entry(rows.text(row, 1)).or_default() += journeys;
        }
        *sizes.entry(position + 1).or_default().entry(rows.text(row, 2)).or_default() += journeys;
    }
    let mut is_folded = false;
    let mut kept: HashMap<i64, HashSet<String>> = HashMap::new();
    for (position, mut nodes) in sizes {
        nodes.retain(|name, _| !is_no_thing(name));
        is_folded |= nodes.len() > NODES;
        kept.insert(position, largest(nodes, NODES));
    }
    if !is_folded {
        return;
    }
    let is_kept = |position, name: &str| is_no_thing(name) || kept.get(&position).is_some_and(|all| all.contains(name));
    for row in &mut rows.rows {
        let position = row[0].as_f64().unwrap_or_default() as i64;
        for (column, position) in [(1, position), (2, position + 1)] {
            if !is_kept(position, &text(&row[column])) {
                row[column] = OTHER.into();
            }
        }
    }
    add_up(rows, 3, &[3]);
    told.push(format!("at each step the {NODES} largest, the rest together as {OTHER}"));
}

/// Cuts rows until they fit `bytes` as JSON; returns what to tell of it.
pub fn fit(rows: &mut Rows, bytes: usize) -> Option<String> {
    let mut room = bytes;
    let size = |row: &Vec<Value>| serde_json::to_string(row).map_or(0, |text| text.len() + 1);
    let fitting = rows.rows.iter().take_while(|row| {
        let size = size(row);
        let fits = size <= room;
        room = room.saturating_sub(size);
        fits
    });
    let count = fitting.count();
    (count < rows.rows.len()).then(|| {
        rows.rows.truncate(count);
        format!("the first {count} rows, since a page holds no more")
    })
}

/// The rows of each value of a column, which goes, in the order of their first rows.
pub fn split(rows: Rows, column: usize) -> Vec<(String, Rows)> {
    let mut columns = rows.columns;
    columns.remove(column);
    let mut parts: Vec<(String, Rows)> = Vec::new();
    for mut row in rows.rows {
        let name = text(&row.remove(column));
        let place = parts.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
            parts.push((name, Rows { columns: columns.clone(), rows: Vec::new() }));
            parts.len() - 1
        });
        parts[place].1.rows.push(row);
    }
    parts
}

/// The column of a name.
pub fn column_of(rows: &Rows, name: &str) -> Option<usize> {
    rows.columns.iter().position(|column| column.name == name && column.data_type != Type::Numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::rows::Column;
    use serde_json::json;

    fn rows(columns: &[(&str, Type)], rows: Vec<Value>) -> Rows {
        let columns =
            columns.iter().map(|(name, data_type)| Column { name: (*name).into(), data_type: *data_type }).collect();
        Rows { columns, rows: rows.into_iter().map(|row| row.as_array().unwrap().clone()).collect() }
    }

    fn total(rows: &Rows, value: usize) -> f64 {
        (0..rows.rows.len()).map(|row| rows.number(row, value)).sum()
    }

    #[test]
    fn the_smallest_parts_are_together_and_nothing_is_lost() {
        let given = (0..50).map(|at| json!([format!("thing {}", at % 2), format!("part {at}"), at, "kept"])).collect();
        let columns = [("thing", Type::Text), ("part", Type::Text), ("visits", Type::Number), ("more", Type::Text)];
        let mut rows = rows(&columns, given);
        let before = total(&rows, 2);
        let told = fold(Kind::Bar, 3, &mut rows);
        assert_eq!(told, ["44 smaller ones are together as (other)"]);
        assert_eq!(total(&rows, 2), before);
        assert_eq!(rows.rows.len(), 6 + 2);
        assert_eq!(
            rows.rows[7],
            [json!("thing 1"), json!(OTHER), json!((0..44).filter(|at| at % 2 == 1).sum::<i32>()), Value::Null]
        );
        assert_eq!(rows.rows[0][3], "kept");
    }

    #[test]
    fn what_is_no_thing_keeps_its_name() {
        let mut given: Vec<Value> = (0..30).map(|at| json!([format!("thing {at}"), at + 10])).collect();
        given.push(json!(["(exit)", 1]));
        let mut rows = rows(&[("went_to", Type::Text), ("attempts", Type::Number)], given);
        fold(Kind::Bar, 2, &mut rows);
        assert_eq!(rows.rows.len(), 22);
        assert!(rows.rows.contains(&vec![json!("(exit)"), json!(1)]));
    }

    #[test]
    fn rates_are_left_out_rather_than_added_up() {
        let given = (0..30).map(|at| json!([format!("thing {at}"), at])).collect();
        let mut rows = rows(&[("thing", Type::Text), ("conversion_rate", Type::Number)], given);
        assert_eq!(fold(Kind::Bar, 2, &mut rows), ["10 smaller ones are left out"]);
        assert_eq!((rows.rows.len(), rows.number(0, 1)), (20, 10.0));
    }

    #[test]
    fn what_flows_into_a_node_flows_out_of_it_when_nodes_are_together() {
        let columns =
            [("position", Type::Number), ("from", Type::Text), ("to", Type::Text), ("journeys", Type::Number)];
        let mut given = Vec::new();
        for position in 0..8 {
            for node in 0..20 {
                let from = if position == 0 { "(start)".into() } else { format!("node {node}") };
                given.push(json!([position, from, format!("node {node}"), node]));
            }
        }
        let mut rows = rows(&columns, given);
        let told = fold(Kind::Sankey, 4, &mut rows);
        assert_eq!(told.len(), 2, "{told:?}");
        let flow = |position: f64, column: usize, name: &str| -> f64 {
            (0..rows.rows.len())
                .filter(|row| rows.number(*row, 0) == position && rows.text(*row, column) == name)
                .map(|row| rows.number(row, 3))
                .sum()
        };
        for position in 1..6 {
            for name in ["node 19", "node 13", OTHER] {
                let (inward, outward) = (flow(f64::from(position) - 1.0, 2, name), flow(f64::from(position), 1, name));
                assert_eq!(inward, outward, "{position} {name}");
                assert!(inward > 0.0);
            }
            assert_eq!(flow(f64::from(position), 1, "node 12"), 0.0);
        }
        assert_eq!(total(&rows, 3), 6.0 * 190.0);
    }

    #[test]
    fn rows_beyond_the_room_of_a_page_are_cut_and_told() {
        let mut rows = rows(&[("a", Type::Number)], (10..20).map(|at| json!([at])).collect());
        assert_eq!(fit(&mut rows, 50), None);
        assert_eq!(fit(&mut rows, 15).unwrap(), "the first 3 rows, since a page holds no more");
        assert_eq!(rows.rows.len(), 3);
    }

    #[test]
    fn rows_are_split_in_the_order_in_which_their_parts_appear() {
        let given = vec![json!(["b", 1]), json!(["a", 2]), json!(["b", 3]), json!([null, 4])];
        let parts = split(rows(&[("part", Type::Text), ("n", Type::Number)], given), 0);
        let told: Vec<_> = parts.iter().map(|(name, rows)| (name.as_str(), rows.rows.len())).collect();
        assert_eq!(told, [("b", 2), ("a", 1), ("(none)", 1)]);
        assert_eq!(parts[0].1.columns.len(), 1);
    }

    #[test]
    fn a_line_keeps_its_newest_days() {
        let day =
            |at: i64| (chrono::NaiveDate::from_ymd_opt(2020, 1, 1).unwrap() + chrono::Duration::days(at)).to_string();
        let mut rows =
            rows(&[("day", Type::Day), ("n", Type::Number)], (0..1500).map(|at| json!([day(at), at])).collect());
        assert_eq!(fold(Kind::Line, 2, &mut rows), [format!("from {} on", day(500))]);
        assert_eq!(rows.rows.len(), 1000);
    }

    #[test]
    fn rows_of_the_same_name_are_added_up_and_none_hides_another() {
        use Type::{Day, Number, Text, Time};
        let columns = |columns: &[(&str, Type)], given: Value| rows(columns, given.as_array().unwrap().clone());
        let told = Some("rows of the same name are added up".to_string());
        for (kind, drawn, mut given, expected) in [
            (
                Kind::Bar,
                2,
                columns(
                    &[("step", Text), ("attempts", Number), ("share", Number)],
                    json!([["view", 10, 1.0], ["cart", 4, 0.4], ["view", 3, 0.3], ["buy", 1, 0.1]]),
                ),
                json!([["view", 13, null], ["cart", 4, 0.4], ["buy", 1, 0.1]]),
            ),
            (
                Kind::HeatMap,
                3,
                columns(&[("a", Text), ("b", Text), ("n", Number)], json!([[null, "x", 1], ["(none)", "x", null]])),
                json!([[null, "x", 1]]),
            ),
            (
                Kind::Bar,
                2,
                columns(
                    &[("at", Time), ("n", Number)],
                    json!([["2025-01-01T10:00:01Z", 1], ["2025-01-01T10:00:02Z", 2]]),
                ),
                json!([["2025-01-01T10:00:00Z", 3]]),
            ),
            (
                Kind::Sankey,
                4,
                columns(
                    &[("position", Number), ("from", Text), ("to", Text), ("journeys", Number)],
                    json!([[0, "a", "b", 1], [1, "a", "b", 5], [0, "a", "b", 2]]),
                ),
                json!([[0, "a", "b", 3], [1, "a", "b", 5]]),
            ),
            (
                Kind::Line,
                2,
                columns(
                    &[("day", Day), ("n", Number), ("m", Number)],
                    json!([["2025-01-01", 1, 0.5], ["2025-01-01", 2, 0.25]]),
                ),
                json!([["2025-01-01", 3, 0.75]]),
            ),
        ] {
            assert_eq!(unite(kind, drawn, &mut given).unwrap(), told, "{kind:?}");
            assert_eq!(json!(given.rows), expected, "{kind:?}");
            assert_eq!(unite(kind, drawn, &mut given).unwrap(), None, "{kind:?}: once is enough");
        }
        // The axis of a line is finer than a name.
        let moments = json!([["2025-01-01T10:00:01Z", 1], ["2025-01-01T10:00:02Z", 2]]);
        let mut given = columns(&[("at", Time), ("n", Number)], moments.clone());
        assert_eq!(unite(Kind::Line, 2, &mut given).unwrap(), None);
        assert_eq!(json!(given.rows), moments);
    }

    #[test]
    fn rows_of_the_same_name_that_do_not_add_up_are_an_error() {
        let two = || vec![json!(["2025-01-01", 1, 0.5]), json!(["2025-01-01", 2, 0.5])];
        let mut given = rows(&[("day", Type::Day), ("n", Type::Number), ("rate", Type::Number)], two());
        let error = unite(Kind::Line, 2, &mut given).unwrap_err();
        assert_eq!(error.to_string(), "two rows are called 2025-01-01, and rate does not add up");
        assert!(error.remedy().unwrap().starts_with("group by"));
        assert_eq!(json!(given.rows), json!(two()), "a table has each row");
        assert_eq!(unite(Kind::Table, 0, &mut given).unwrap(), None);
    }

    #[test]
    fn a_triangle_keeps_its_newest_cohorts_and_first_periods() {
        let week =
            |at: i64| (chrono::NaiveDate::from_ymd_opt(2020, 1, 6).unwrap() + chrono::Duration::weeks(at)).to_string();
        // The newest first, to see that the order does not matter.
        let given = (0..60).rev().flat_map(|cohort| (0..60 - cohort).map(move |at| (cohort, at)));
        let given: Vec<Value> = given.map(|(cohort, period)| json!([week(cohort), period, 0.5])).collect();
        let columns = [("cohort", Type::Day), ("period", Type::Number), ("rate", Type::Number)];
        let mut by_week = rows(&columns, given.clone());
        assert_eq!(fold(Kind::Retention, 3, &mut by_week), ["the newest 20 cohorts of 60"]);
        assert_eq!(by_week.rows.len(), 20 * 21 / 2);
        assert!((0..by_week.rows.len()).all(|row| by_week.text(row, 0) >= week(40)));

        let text = [("cohort", Type::Text), ("period", Type::Number), ("rate", Type::Number)];
        let mut in_words = rows(&text, (0..30).map(|at| json!([format!("no {at}"), 0, 1.0])).collect());
        fold(Kind::Retention, 3, &mut in_words);
        assert_eq!((in_words.text(0, 0), in_words.text(19, 0)), ("no 10".into(), "no 29".into()));

        let mut long = rows(&columns, given.into_iter().filter(|row| row[0] == week(0)).collect());
        assert_eq!(fold(Kind::Retention, 3, &mut long), ["the first 20 periods"]);
        assert_eq!((long.rows.len(), long.number(19, 1)), (20, 19.0));
    }
}
