//! Times as files have them, and the expressions that make instants of them.

use std::sync::LazyLock;

use arrow::datatypes::DataType;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use super::sample::Column;
use crate::config::{Source, TimeUnit};
use crate::landing::time::TimeFormat;

/// Patterns as `to_timestamp` takes them, with whether they hold a time of day. Of a pair that fits the same texts, the one
/// that is more usual for its separators comes first.
const PATTERNS: [(&str, bool); 31] = [
    ("%d.%m.%y %H:%M:%S", true),
    ("%d.%m.%y %H:%M", true),
    ("%d.%m.%Y %H:%M:%S", true),
    ("%d.%m.%Y, %H:%M:%S", true),
    ("%d.%m.%Y %H:%M", true),
    ("%d.%m.%Y, %H:%M", true),
    ("%m/%d/%Y %H:%M:%S", true),
    ("%m/%d/%Y %H:%M", true),
    ("%m/%d/%Y %I:%M:%S %p", true),
    ("%m/%d/%Y %I:%M %p", true),
    ("%d/%m/%Y %H:%M:%S", true),
    ("%d/%m/%Y %H:%M", true),
    ("%Y/%m/%d %H:%M:%S", true),
    ("%Y/%m/%d %H:%M", true),
    ("%d-%m-%Y %H:%M:%S", true),
    ("%d-%m-%Y %H:%M", true),
    ("%Y-%m-%d %I:%M:%S %p", true),
    ("%b %d, %Y %I:%M:%S %p", true),
    ("%b %d, %Y %I:%M %p", true),
    ("%d %b %Y %H:%M:%S", true),
    ("%a, %d %b %Y %H:%M:%S GMT", true),
    ("%Y%m%dT%H%M%SZ", true),
    ("%Y%m%d%H%M%S", true),
    ("%d.%m.%y", false),
    ("%d.%m.%Y", false),
    ("%m/%d/%Y", false),
    ("%d/%m/%Y", false),
    ("%Y/%m/%d", false),
    ("%d-%m-%Y", false),
    ("%b %d, %Y", false),
    ("%Y%m%d", false),
];
/// Patterns of a time of day.
const TIMES_OF_DAY: [&str; 2] = ["%H:%M:%S", "%H:%M"];
/// A day without a time of day, as ISO 8601 has it.
const DAY: &str = "%Y-%m-%d";
/// 2000-01-01 and 2100-01-01 in seconds: what whole numbers may mean.
const LIKELY: std::ops::Range<f64> = 946_684_800.0..4_102_444_800.0;
/// Values that must read as times.
const SHARE: f64 = 0.98;

/// How a column writes times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeShape {
    /// As times of Parquet; whether they know their zone.
    Typed(bool),
    /// As RFC 3339 or near it; whether every one names its zone.
    Text(bool),
    /// As numbers since 1970: how many make a second, and whether some have a fraction.
    Epoch(i64, bool),
    /// By a pattern, with a time of day or without.
    Pattern(&'static str, bool),
    /// As a day.
    Day,
    /// As a time of day alone.
    OfDay(&'static str),
}

static ZONED: LazyLock<TimeFormat> = LazyLock::new(|| format_of(None));
static LOCAL: LazyLock<TimeFormat> = LazyLock::new(|| format_of(Some("Z")));

fn format_of(offset: Option<&str>) -> TimeFormat {
    let source = Source { time_offset: offset.map(String::from), ..Source::of("", "") };
    TimeFormat::new(&source).expect("Z is an offset")
}

impl TimeShape {
    /// The shape of a column's values, if they are times.
    pub fn of(column: &Column) -> Option<Self> {
        match &column.data_type {
            Some(DataType::Timestamp(_, zone)) => return Some(Self::Typed(zone.is_some())),
            Some(DataType::Date32 | DataType::Date64) => return Some(Self::Typed(false)),
            _ => {}
        }
        let mostly = |fits: &dyn Fn(&str) -> bool| column.mostly(SHARE, fits);
        let has_number = |text: &str| text.trim().parse::<f64>().is_ok();
        if !mostly(&has_number) {
            if mostly(&|text| LOCAL.text(text).is_ok()) {
                return Some(Self::Text(column.given().all(|text| ZONED.text(text).is_ok())));
            }
            if mostly(&|text| {
                NaiveDate::parse_from_str(text.trim(), DAY).is_ok_and(is_likely_day) && text.trim().len() == 10
            }) {
                return Some(Self::Day);
            }
        }
        let fitting = PATTERNS.iter().find(|(pattern, _)| mostly(&|text| instant(text, pattern).is_some()));
        if let Some((pattern, has_time)) = fitting {
            return Some(Self::Pattern(pattern, *has_time));
        }
        if let Some(pattern) = TIMES_OF_DAY.iter().find(|pattern| mostly(&|text| of_day(text, pattern))) {
            return Some(Self::OfDay(pattern));
        }
        for per_second in [1, 1_000, 1_000_000, 1_000_000_000] {
            let is_likely = |text: &str| {
                text.trim().parse::<f64>().is_ok_and(|number| LIKELY.contains(&(number / per_second as f64)))
            };
            if mostly(&is_likely) {
                return Some(Self::Epoch(per_second, column.given().any(|text| text.contains('.'))));
            }
        }
        None
    }

    /// Whether it tells an instant by itself.
    pub fn is_instant(self) -> bool {
        !matches!(self, Self::OfDay(_))
    }

    /// Whether it tells the time of day.
    pub fn has_time(self) -> bool {
        !matches!(self, Self::Day | Self::Pattern(_, false))
    }

    /// Whether numbers are taken for times, which other numbers may look like.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Epoch(..) | Self::Pattern("%Y%m%d" | "%Y%m%d%H%M%S", _))
    }

    /// Whether an offset must be assumed by `time_offset`. What a pattern reads is UTC.
    pub fn lacks_zone(self) -> bool {
        matches!(self, Self::Text(false))
    }

    /// The unit that a source's numbers have if this is its time.
    pub fn unit(self) -> Option<TimeUnit> {
        match self {
            Self::Epoch(1, false) => Some(TimeUnit::Seconds),
            Self::Epoch(1_000, false) => Some(TimeUnit::Milliseconds),
            Self::Epoch(..) => Some(TimeUnit::Microseconds),
            _ => None,
        }
    }

    /// The expression that makes an instant of a column, in a source whose numbers have a unit.
    pub fn expression(self, sql: &str, unit: Option<TimeUnit>) -> String {
        match self {
            Self::Typed(_) | Self::Text(_) | Self::OfDay(_) => sql.into(),
            Self::Epoch(per_second, has_fraction) => {
                let of_unit = match unit {
                    Some(TimeUnit::Seconds) => 1,
                    Some(TimeUnit::Milliseconds) => 1_000,
                    _ => 1_000_000,
                };
                match has_fraction {
                    _ if of_unit == per_second && !has_fraction => sql.into(),
                    true if of_unit >= per_second => {
                        format!("cast(round(cast({sql} as double) * {}) as bigint)", of_unit / per_second)
                    }
                    false if of_unit >= per_second => format!("cast({sql} as bigint) * {}", of_unit / per_second),
                    _ => format!("cast(cast({sql} as double) / {} as bigint)", per_second / of_unit),
                }
            }
            Self::Pattern(pattern, _) => format!("to_timestamp({sql}, '{pattern}')"),
            Self::Day => format!("{sql} || 'T00:00:00Z'"),
        }
    }

    /// The instant of a text, in microseconds.
    pub fn micros(self, text: &str) -> Option<i64> {
        match self {
            Self::Typed(_) | Self::Text(_) => LOCAL.text(text).ok(),
            Self::Epoch(per_second, _) => Some((text.trim().parse::<f64>().ok()? / per_second as f64 * 1e6) as i64),
            Self::Pattern(pattern, _) => instant(text, pattern).map(|time| time.and_utc().timestamp_micros()),
            Self::Day => LOCAL.text(&format!("{text}T00:00")).ok(),
            Self::OfDay(_) => None,
        }
    }

    /// Values of a column that read so.
    pub fn readable(self, column: &Column) -> usize {
        match self {
            Self::Typed(_) | Self::OfDay(_) => column.count(),
            _ => column.count_of(|text| self.micros(text).is_some()),
        }
    }

    /// The pattern with day and month the other way round, where every value of a column reads so too.
    pub fn other_order(self, column: &Column) -> Option<&'static str> {
        let Self::Pattern(pattern, _) = self else { return None };
        let turned = pattern.replace("%d", "%?").replace("%m", "%d").replace("%?", "%m");
        let (other, _) = PATTERNS.iter().find(|(other, _)| *other == turned && *other != pattern)?;
        (column.count_of(|text| instant(text, other).is_some()) == column.count()).then_some(other)
    }

    /// What it is, in words.
    pub fn words(self) -> String {
        match self {
            Self::Typed(_) => "is a time of Parquet".into(),
            Self::Text(true) => "reads as RFC 3339".into(),
            Self::Text(false) => "reads as ISO 8601, not always with a zone,".into(),
            Self::Epoch(per_second, _) => {
                let unit = match per_second {
                    1 => "seconds",
                    1_000 => "milliseconds",
                    1_000_000 => "microseconds",
                    _ => "nanoseconds",
                };
                format!("reads as {unit} since 1970")
            }
            Self::Pattern(pattern, _) => format!("reads as {pattern}"),
            Self::Day => "reads as YYYY-MM-DD".into(),
            Self::OfDay(pattern) => format!("reads as {pattern}, a time of day"),
        }
    }
}

/// The expression of a day and a time of day in two columns.
pub fn joined(day: TimeShape, day_sql: &str, of_day: &str, time_sql: &str) -> Option<String> {
    match day {
        TimeShape::Day => Some(format!("{day_sql} || 'T' || {time_sql}")),
        TimeShape::Pattern(pattern, false) => {
            Some(format!("to_timestamp({day_sql} || ' ' || {time_sql}, '{pattern} {of_day}')"))
        }
        _ => None,
    }
}

fn instant(text: &str, pattern: &str) -> Option<NaiveDateTime> {
    let text = text.trim();
    // These have no separators to tell them from other numbers.
    let length = match pattern {
        "%Y%m%d" => Some(8),
        "%Y%m%d%H%M%S" => Some(14),
        _ => None,
    };
    if length.is_some_and(|length| text.len() != length) {
        return None;
    }
    let time = NaiveDateTime::parse_from_str(text, pattern)
        .or_else(|_| NaiveDate::parse_from_str(text, pattern).map(|day| day.and_time(NaiveTime::MIN)))
        .ok()?;
    is_likely_day(time.date()).then_some(time)
}

fn is_likely_day(day: NaiveDate) -> bool {
    use chrono::Datelike;
    (1970..2100).contains(&day.year())
}

fn of_day(text: &str, pattern: &str) -> bool {
    NaiveTime::parse_from_str(text.trim(), pattern).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(values: &[&str]) -> Option<TimeShape> {
        let values = values.iter().map(|value| Some((*value).to_string())).collect();
        TimeShape::of(&Column { values, ..Column::default() })
    }

    #[test]
    fn each_way_of_writing_times_is_recognised() {
        use TimeShape::*;
        let cases: [(&[&str], TimeShape); 14] = [
            (&["2025-01-05T10:00:00Z", "2025-01-05 10:00:00+01:00"], Text(true)),
            (&["2025-01-05 10:00:00 UTC"], Text(true)),
            (&["2025-01-05T10:00:00Z", "2025-01-05 10:00:00"], Text(false)),
            (&["1736935205", "1736935300"], Epoch(1, false)),
            (&["1736935205123"], Epoch(1_000, false)),
            (&["1736935205.123"], Epoch(1, true)),
            (&["1736935205123456"], Epoch(1_000_000, false)),
            (&["05.01.2025 10:15", "31.01.2025 09:05"], Pattern("%d.%m.%Y %H:%M", true)),
            (&["5.1.25"], Pattern("%d.%m.%y", false)),
            (&["01/31/2025 10:15"], Pattern("%m/%d/%Y %H:%M", true)),
            (&["31/01/2025", "01/02/2025"], Pattern("%d/%m/%Y", false)),
            (&["20250131"], Pattern("%Y%m%d", false)),
            (&["2025-01-31"], Day),
            (&["10:15"], OfDay("%H:%M")),
        ];
        for (values, expected) in cases {
            assert_eq!(shape(values), Some(expected), "{values:?}");
        }
        for values in [&["12"][..], &["home"], &["12.50"], &["+49 30 5550101"], &["yesterday", "2025-01-05T10:00:00Z"]]
        {
            assert_eq!(shape(values), None, "{values:?}");
        }
    }

    #[test]
    fn numbers_are_brought_to_the_unit_of_their_source() {
        let seconds = TimeShape::Epoch(1, false);
        assert_eq!(seconds.expression("ts", Some(TimeUnit::Seconds)), "ts");
        assert_eq!(seconds.expression("ts", Some(TimeUnit::Milliseconds)), "cast(ts as bigint) * 1000");
        let nanoseconds = TimeShape::Epoch(1_000_000_000, false);
        assert_eq!(nanoseconds.expression("ts", nanoseconds.unit()), "cast(cast(ts as double) / 1000 as bigint)");
    }
}
