//! Times as sources write them, read strictly: a wrong time is refused with a reason, never rolled over or guessed.

use chrono::{DateTime, NaiveDate, Utc};

use crate::config::{Source, TimeUnit};
use crate::error::{Error, Result};

/// First and last instant that an event may have: 1970-01-02 and 2100-01-01, UTC.
///
/// The first day of 1970 is left out since zero and near-zero times are how sources write "unknown".
const RANGE: std::ops::Range<i64> = 86_400_000_000..4_102_444_800_000_000;

/// First instant that a number may mean, 2000-01-01. Seconds taken for milliseconds would be a day of January 1970, and
/// no number tells its unit.
const FIRST_OF_NUMBERS: i64 = 946_684_800_000_000;

/// Why a time was refused: reason code and detail.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Code, as in dead letters.
    pub reason: &'static str,
    /// What was found.
    pub detail: String,
}

/// How a source writes its times.
#[derive(Debug, Clone, Copy)]
pub struct TimeFormat {
    unit: Option<TimeUnit>,
    /// Microseconds to subtract from times without an offset; `None` refuses them.
    default_offset: Option<i64>,
}

impl TimeFormat {
    /// Reads `time_unit` and `time_offset` of a source.
    pub fn new(source: &Source) -> Result<Self> {
        let default_offset = match source.time_offset.as_deref() {
            None => None,
            Some(text) => Some(offset(text.as_bytes()).ok_or_else(|| {
                Error::invalid(format!("source `{}`: time_offset `{text}` is no offset", source.name))
                    .hint("write it as `Z` or `+02:00`")
            })?),
        };
        Ok(Self { unit: source.time_unit, default_offset })
    }

    /// Microseconds since 1970 of a text such as `2025-01-01T09:00:00.123Z`; a blank may stand for the `T`.
    pub fn text(&self, text: &str) -> Result<i64, Refusal> {
        let refuse = |reason| Err(Refusal { reason, detail: shown(text) });
        let bytes = text.trim().as_bytes();
        if number_like(bytes) {
            return match std::str::from_utf8(bytes).unwrap_or_default().parse() {
                Ok(number) => self.number(number),
                Err(_) => refuse("ts_invalid"),
            };
        }
        let Some((local, rest)) = date_and_time(bytes) else { return refuse("ts_invalid") };
        let local = match local {
            Instant::At(micros) => micros,
            Instant::Zero => return refuse("ts_sentinel"),
        };
        let shift = match rest {
            [] => match self.default_offset {
                Some(shift) => shift,
                None => return refuse("tz_invalid"),
            },
            rest => match offset(rest) {
                Some(shift) => shift,
                None => return refuse("tz_invalid"),
            },
        };
        within_range(local - shift).ok_or(Refusal { reason: "ts_range", detail: shown(text) })
    }

    /// Microseconds since 1970 of a number in the source's unit.
    pub fn number(&self, number: i64) -> Result<i64, Refusal> {
        let refuse = |reason| Err(Refusal { reason, detail: number.to_string() });
        let factor = match self.unit {
            None => return refuse("ts_unit"),
            Some(TimeUnit::Seconds) => 1_000_000,
            Some(TimeUnit::Milliseconds) => 1_000,
            Some(TimeUnit::Microseconds) => 1,
        };
        if (-1..=0).contains(&number) {
            return refuse("ts_sentinel");
        }
        let micros = number.checked_mul(factor).and_then(within_range);
        match micros.filter(|micros| *micros >= FIRST_OF_NUMBERS) {
            Some(micros) => Ok(micros),
            None => refuse("ts_unit"),
        }
    }

    /// Checks an instant that needs no parsing; one that `is_local` is taken to have the default offset, if there is one.
    pub fn micros(&self, micros: i64, is_local: bool) -> Result<i64, Refusal> {
        let shift = self.default_offset.filter(|_| is_local).unwrap_or(0);
        within_range(micros.saturating_sub(shift)).ok_or_else(|| Refusal {
            reason: if (-1..=0).contains(&micros) { "ts_sentinel" } else { "ts_range" },
            detail: DateTime::<Utc>::from_timestamp_micros(micros).map_or(micros.to_string(), |time| time.to_rfc3339()),
        })
    }
}

/// Whether a text that is a time names a leap second.
pub fn is_leap_second(text: &str) -> bool {
    text.trim().as_bytes().get(16..19) == Some(b":60")
}

fn within_range(micros: i64) -> Option<i64> {
    RANGE.contains(&micros).then_some(micros)
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A whole number, maybe negative; a date has a second `-`.
fn number_like(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

enum Instant {
    At(i64),
    /// `0000-00-00 00:00:00`, how some databases write "none".
    Zero,
}

/// `YYYY-MM-DD[T ]HH:MM[:SS[.fraction]]` and what follows it. A leap second counts as the last microsecond before.
fn date_and_time(bytes: &[u8]) -> Option<(Instant, &[u8])> {
    let (date, rest) = bytes.split_at_checked(10)?;
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let year = digits(&[y1, y2, y3, y4])?;
    let (month, day) = (digits(&[m1, m2])?, digits(&[d1, d2])?);
    let rest = rest.strip_prefix(b"T").or_else(|| rest.strip_prefix(b"t")).or_else(|| rest.strip_prefix(b" "))?;
    let (time, mut rest) = rest.split_at_checked(5)?;
    let &[h1, h2, b':', i1, i2] = time else { return None };
    let (hour, minute) = (digits(&[h1, h2])?, digits(&[i1, i2])?);
    let mut second = 0;
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix(b":") {
        let (text, after) = after.split_at_checked(2)?;
        second = digits(text)?;
        rest = after;
        if let Some(after) = rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b",")) {
            let length = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if length == 0 || length > 9 {
                return None;
            }
            // Beyond microseconds is cut, not rounded: rounding could move an event into the next second.
            for place in 0..6 {
                fraction = fraction * 10
                    + after.get(place).filter(|_| place < length).map_or(0, |byte| i64::from(byte - b'0'));
            }
            rest = &after[length..];
        }
    }
    if year == 0 && month == 0 && day == 0 {
        return Some((Instant::Zero, rest));
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if second == 60 {
        (second, fraction) = (59, 999_999);
    }
    let days =
        NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, u32::try_from(month).ok()?, u32::try_from(day).ok()?)?
            .signed_duration_since(NaiveDate::default())
            .num_days();
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((Instant::At(seconds * 1_000_000 + fraction), rest))
}

/// `Z`, `+02:00`, `+0200` or `+02` in microseconds; at most 14 hours.
fn offset(bytes: &[u8]) -> Option<i64> {
    let bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
    let (sign, rest) = match bytes {
        b"Z" | b"z" | b"UTC" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [h1, h2, b':', m1, m2] | [h1, h2, m1, m2] => (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?),
        [h1, h2] => (digits(&[*h1, *h2])?, 0),
        _ => return None,
    };
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= 14 * 60).then_some(sign * total * 60_000_000)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(unit: Option<TimeUnit>, default_offset: Option<i64>) -> TimeFormat {
        TimeFormat { unit, default_offset }
    }

    fn rfc(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn times_with_an_offset_are_read_to_the_microsecond() {
        let plain = format(None, None);
        let cases = [
            ("2025-01-01T00:12:09.302779Z", "2025-01-01T00:12:09.302779Z"),
            ("2025-01-01 00:12:09+00:00", "2025-01-01T00:12:09Z"),
            ("2024-02-29T23:59:59.9+02:00", "2024-02-29T21:59:59.9Z"),
            ("2024-02-29T23:59-0530", "2024-03-01T05:29:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
            ("2025-01-01T00:00:00.123456789Z", "2025-01-01T00:00:00.123456Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain.text(text), Ok(rfc(expected)), "{text}");
        }
    }

    #[test]
    fn wrong_times_are_refused_with_a_reason() {
        let plain = format(None, None);
        let cases = [
            ("", "ts_invalid"),
            ("yesterday", "ts_invalid"),
            ("2023-02-29T00:00:00Z", "ts_invalid"),
            ("2024-02-30T00:00:00Z", "ts_invalid"),
            ("2024-01-01T24:00:00Z", "ts_invalid"),
            ("2024-01-01T23:60:00Z", "ts_invalid"),
            ("2024-01-01T10:00:00", "tz_invalid"),
            ("2024-01-01T10:00:00+99:99", "tz_invalid"),
            ("2024-01-01T10:00:00 Mars/Base", "tz_invalid"),
            ("0000-00-00 00:00:00", "ts_sentinel"),
            ("0001-01-01T00:00:00Z", "ts_range"),
            ("9999-12-31T00:00:00Z", "ts_range"),
            ("1735689600", "ts_unit"),
        ];
        for (text, reason) in cases {
            assert_eq!(plain.text(text).unwrap_err().reason, reason, "{text}");
        }
    }

    #[test]
    fn numbers_need_a_unit_and_a_likely_magnitude() {
        let millis = format(Some(TimeUnit::Milliseconds), None);
        assert_eq!(millis.text("1735689600123"), Ok(rfc("2025-01-01T00:00:00.123Z")));
        let seconds = millis.number(1_735_689_600).unwrap_err();
        assert_eq!(seconds.reason, "ts_unit", "seconds would be a day of January 1970");
        assert_eq!(millis.number(946_684_800_000), Ok(rfc("2000-01-01T00:00:00Z")));
        assert_eq!(millis.number(0).unwrap_err().reason, "ts_sentinel");
        assert_eq!(millis.number(1_735_689_600_123_456).unwrap_err().reason, "ts_unit");
    }

    #[test]
    fn a_default_offset_serves_times_without_one() {
        let paris = format(None, offset(b"+01:00"));
        assert_eq!(paris.text("2025-01-01T10:00:00"), Ok(rfc("2025-01-01T09:00:00Z")));
        let ten = rfc("2025-01-01T10:00:00Z");
        assert_eq!(paris.micros(ten, true), Ok(rfc("2025-01-01T09:00:00Z")));
        assert_eq!(paris.micros(ten, false), Ok(ten));
        assert_eq!(format(None, None).micros(ten, true), Ok(ten), "without one it is taken for UTC");
    }
}
