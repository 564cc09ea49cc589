//! A span of time whose rows are made anew.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const DAY: i64 = 86_400_000_000;
/// Days that a window may have: two centuries and more are taken for a slip of the pen.
const MOST_DAYS: i64 = 100_000;

/// From an instant, included, until another, excluded; in microseconds since 1970. Documents tell both in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Texts", try_from = "Texts")]
pub struct Window {
    /// Its first instant.
    pub since: i64,
    /// The first instant behind it.
    pub until: i64,
}

impl Window {
    /// A window that holds something, and not too much.
    pub fn new(since: i64, until: i64) -> Result<Self> {
        let window = Self { since, until };
        if since >= until {
            return Err(Error::invalid(format!("the window {window} is empty"))
                .hint("--since is its first instant, --until the first behind it"));
        }
        let days = window.last_day() - window.first_day() + 1;
        if days > MOST_DAYS {
            return Err(Error::invalid(format!("the window has {days} days, expected at most {MOST_DAYS}"))
                .hint("name the days that are to be made anew"));
        }
        Ok(window)
    }

    /// The days that it meets, since 1970.
    pub fn days(&self) -> BTreeSet<i32> {
        let day = |day: i64| i32::try_from(day).unwrap_or(if day < 0 { i32::MIN } else { i32::MAX });
        (day(self.first_day())..=day(self.last_day())).collect()
    }

    fn first_day(&self) -> i64 {
        self.since.div_euclid(DAY)
    }

    fn last_day(&self) -> i64 {
        (self.until - 1).div_euclid(DAY)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", instant(self.since), instant(self.until))
    }
}

fn instant(micros: i64) -> String {
    let time = DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// As documents tell it.
#[derive(Serialize, Deserialize)]
struct Texts {
    since: String,
    until: String,
}

impl From<Window> for Texts {
    fn from(window: Window) -> Self {
        Self { since: instant(window.since), until: instant(window.until) }
    }
}

impl TryFrom<Texts> for Window {
    type Error = chrono::ParseError;

    fn try_from(texts: Texts) -> Result<Self, chrono::ParseError> {
        let micros = |text: &str| Ok(DateTime::parse_from_rfc3339(text)?.timestamp_micros());
        Ok(Self { since: micros(&texts.since)?, until: micros(&texts.until)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_meets_each_day_of_which_it_holds_an_instant() {
        let days = |since, until| Window::new(since, until).unwrap().days().into_iter().collect::<Vec<_>>();
        assert_eq!(days(0, DAY), [0]);
        assert_eq!(days(0, DAY + 1), [0, 1]);
        assert_eq!(days(-1, 1), [-1, 0]);
        assert_eq!(days(DAY + 5, DAY + 6), [1]);
    }

    #[test]
    fn a_window_without_an_instant_or_with_all_of_time_is_refused() {
        let error = Window::new(DAY, DAY).unwrap_err().to_string();
        assert_eq!(error, "the window [1970-01-02T00:00:00Z, 1970-01-02T00:00:00Z) is empty");
        assert!(Window::new(1, 0).is_err());
        assert!(Window::new(i64::MIN / 4, i64::MAX / 4).is_err());
    }

    #[test]
    fn documents_tell_a_window_in_words_that_people_read() {
        let window = Window::new(0, DAY + 1).unwrap();
        let json = serde_json::to_string(&window).unwrap();
        assert_eq!(json, r#"{"since":"1970-01-01T00:00:00Z","until":"1970-01-02T00:00:00.000001Z"}"#);
        assert_eq!(serde_json::from_str::<Window>(&json).unwrap(), window);
    }
}
