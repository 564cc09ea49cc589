//! What the rows of a chart say, in a sentence, where their tile does not say it itself.

use std::collections::HashMap;

use super::fold::OTHER;
use super::kind::Kind;
use super::rows::Rows;

/// The finding of a chart of `drawn` columns; none where the rows say nothing in particular.
pub fn finding(kind: Kind, drawn: usize, rows: &Rows) -> Option<String> {
    if rows.rows.is_empty() {
        return None;
    }
    match kind {
        Kind::Funnel => funnel(rows),
        Kind::Sankey => sankey(rows),
        Kind::HeatMap => heat_map(rows),
        Kind::Bar => bar(rows, drawn),
        Kind::Line => line(rows, drawn),
        Kind::Retention => retention(rows),
        Kind::Figures | Kind::Table => None,
    }
}

/// The largest step down. Whether those who are fewer can still go on, the rows do not say.
fn funnel(rows: &Rows) -> Option<String> {
    let losses = (1..rows.rows.len()).map(|row| (row, rows.number(row - 1, 1) - rows.number(row, 1)));
    let (row, lost) = losses.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
    let reached = rows.number(row - 1, 1);
    (lost > 0.0).then(|| {
        let (from, to) = (rows.text(row - 1, 0), rows.text(row, 0));
        format!("{} fewer reach {to} than {from}, the largest step down", percent(lost / reached))
    })
}

/// How most begin.
fn sankey(rows: &Rows) -> Option<String> {
    let begins = (0..rows.rows.len()).map(|row| rows.number(row, 0)).min_by(f64::total_cmp)?;
    let of_begin = || (0..rows.rows.len()).filter(|row| rows.number(*row, 0) == begins);
    let total: f64 = of_begin().map(|row| rows.number(row, 3)).sum();
    let named = of_begin().filter(|row| rows.text(*row, 2) != OTHER);
    let largest = named.max_by(|a, b| rows.number(*a, 3).total_cmp(&rows.number(*b, 3)))?;
    let share = rows.number(largest, 3) / total;
    share.is_finite().then(|| format!("{} of {} begin with {}", percent(share), label(rows, 3), rows.text(largest, 2)))
}

fn heat_map(rows: &Rows) -> Option<String> {
    let row = largest_row(rows, 2, |row| rows.text(row, 0) != OTHER && rows.text(row, 1) != OTHER)?;
    let value = quantity(rows, 2, rows.number(row, 2));
    Some(format!("{value} for {} and {}, the most of all", rows.text(row, 0), rows.text(row, 1)))
}

fn bar(rows: &Rows, drawn: usize) -> Option<String> {
    let value = drawn - 1;
    let mut sums: HashMap<String, f64> = HashMap::new();
    for row in 0..rows.rows.len() {
        *sums.entry(rows.text(row, 0)).or_default() += rows.number(row, value);
    }
    sums.remove(OTHER);
    let (name, sum) = sums.into_iter().max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| b.0.cmp(&a.0)))?;
    let is_told = drawn == 2 || rows.columns[value].is_additive();
    is_told.then(|| format!("{name} leads with {}", quantity(rows, value, sum)))
}

/// The highest point.
fn line(rows: &Rows, drawn: usize) -> Option<String> {
    let value = drawn - 1;
    let row = largest_row(rows, value, |row| drawn == 2 || rows.text(row, 1) != OTHER)?;
    let of = if drawn == 3 { format!(" of {}", rows.text(row, 1)) } else { String::new() };
    let day = rows.text(row, 0);
    let day = day.get(..10).unwrap_or(&day);
    Some(format!("{}{of} on {day}, the highest", quantity(rows, value, rows.number(row, value))))
}

/// How many come back in the first period after the one in which they came.
fn retention(rows: &Rows) -> Option<String> {
    let is_complete = |row: usize| rows.rows[row].get(3).and_then(serde_json::Value::as_bool).unwrap_or(true);
    let first = (0..rows.rows.len()).filter(|row| rows.number(*row, 1) == 1.0 && is_complete(*row));
    let rates: Vec<f64> = first.map(|row| rows.number(row, 2)).collect();
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    mean.is_finite().then(|| format!("{} come back in the first period after, on average", percent(mean)))
}

/// The row of the largest value among those that can be named.
fn largest_row(rows: &Rows, value: usize, is_named: impl Fn(usize) -> bool) -> Option<usize> {
    let order = |a: &usize, b: &usize| rows.number(*a, value).total_cmp(&rows.number(*b, value)).then(b.cmp(a));
    (0..rows.rows.len()).filter(|row| is_named(*row)).max_by(order).filter(|row| rows.number(*row, value) > 0.0)
}

fn label(rows: &Rows, column: usize) -> String {
    rows.columns[column].name.replace('_', " ")
}

/// A number with its unit: `1,234 visits`.
fn quantity(rows: &Rows, column: usize, number: f64) -> String {
    let name = &rows.columns[column].name;
    match name.rsplit('_').next() {
        Some("rate" | "share") => format!("{} {}", percent(number), label(rows, column)),
        _ => format!("{} {}", grouped(number), label(rows, column)),
    }
}

/// `61 %`; one digit behind the point where a whole number would say little.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent > 0.0 && percent < 9.95 {
        true => format!("{percent:.1}\u{a0}%"),
        false => format!("{percent:.0}\u{a0}%"),
    }
}

/// Thousands apart: `12,345`; a fraction keeps two digits.
fn grouped(number: f64) -> String {
    let text = if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.2}") };
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let digits = whole.trim_start_matches('-');
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if whole.starts_with('-') { "-" } else { "" };
    rest.map_or_else(|| format!("{sign}{grouped}"), |rest| format!("{sign}{grouped}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::rows::{Column, Type};
    use serde_json::{Value, json};

    fn told(kind: Kind, columns: &[&str], rows: Value) -> Option<String> {
        let column = |name: &&str| Column { name: (*name).into(), data_type: Type::Text };
        let rows = rows.as_array().unwrap().iter().map(|row| row.as_array().unwrap().clone()).collect();
        let rows = Rows { columns: columns.iter().map(column).collect(), rows };
        let drawn = columns.len();
        finding(kind, drawn, &rows).map(|text| text.replace('\u{a0}', " "))
    }

    #[test]
    fn each_kind_says_what_stands_out() {
        for (kind, columns, rows, expected) in [
            (
                Kind::Funnel,
                &["step", "attempts"][..],
                json!([["view", 1000], ["cart", 390], ["buy", 300]]),
                "61 % fewer reach cart than view, the largest step down",
            ),
            (
                Kind::Sankey,
                &["position", "from", "to", "journeys"],
                json!([[0, "(start)", "(other)", 700], [0, "(start)", "home", 300], [1, "home", "view", 900]]),
                "30 % of journeys begin with home",
            ),
            (
                Kind::HeatMap,
                &["from", "to", "switches"],
                json!([
                    ["web", "app", 1234],
                    ["app", "web", 12],
                    ["(other)", "(other)", 5000],
                    ["web", "(other)", 5000]
                ]),
                "1,234 switches for web and app, the most of all",
            ),
            (
                Kind::Bar,
                &["channel", "part", "visits"],
                json!([["web", "a", 5], ["app", "a", 4], ["app", "b", 4], ["(other)", "a", 100]]),
                "app leads with 8 visits",
            ),
            (
                Kind::Bar,
                &["channel", "conversion_rate"],
                json!([["web", 0.052], ["app", 0.04]]),
                "web leads with 5.2 % conversion rate",
            ),
            (
                Kind::Line,
                &["day", "sessions"],
                json!([["2025-01-01", 7], ["2025-01-02", 1200.5], ["2025-01-03", 3]]),
                "1,200.50 sessions on 2025-01-02, the highest",
            ),
            (
                Kind::Line,
                &["day", "channel", "sessions"],
                json!([["2025-01-01", "web", 7], ["2025-01-01", "(other)", 9]]),
                "7 sessions of web on 2025-01-01, the highest",
            ),
            (
                Kind::Retention,
                &["cohort", "period", "rate", "is_complete"],
                json!([["a", 0, 1.0, true], ["a", 1, 0.2, true], ["b", 1, 0.4, true], ["c", 1, 0.0, false]]),
                "30 % come back in the first period after, on average",
            ),
        ] {
            assert_eq!(told(kind, columns, rows).as_deref(), Some(expected));
        }
    }

    #[test]
    fn rows_that_say_nothing_have_no_finding() {
        assert_eq!(told(Kind::Funnel, &["step", "n"], json!([])), None);
        assert_eq!(told(Kind::Funnel, &["step", "n"], json!([["a", 5], ["b", 5]])), None);
        assert_eq!(told(Kind::Funnel, &["step", "n"], json!([["a", 0], ["b", 0]])), None);
        assert_eq!(told(Kind::HeatMap, &["a", "b", "n"], json!([["a", "b", 0]])), None);
        assert_eq!(told(Kind::HeatMap, &["a", "b", "n"], json!([["(other)", "(other)", 5]])), None);
        assert_eq!(told(Kind::Sankey, &["p", "a", "b", "n"], json!([[0, "(start)", "x", 0]])), None);
        assert_eq!(told(Kind::Table, &["a"], json!([["x"]])), None);
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0.0, "0"), (999.0, "999"), (1000.0, "1,000"), (-1234567.0, "-1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
