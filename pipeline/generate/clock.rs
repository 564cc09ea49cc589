//! When customers are up and about: a clock that runs fast in the evening and hardly at night.
//!
//! Behaviour is drawn in active time, which is even; calendar time follows from it, so that days and weeks have their
//! shape and order is kept.

use chrono::{Datelike, NaiveDate, NaiveTime};

use super::text::Text;

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// How active customers are in each hour of a day, UTC.
const HOURS: [f64; 24] = [
    1.6, 0.9, 0.6, 0.5, 0.6, 1.1, 2.4, 4.2, 5.8, 6.6, 7.1, 7.9, 8.6, 7.8, 7.2, 7.4, 8.1, 9.4, 11.2, 12.8, 12.4, 10.1,
    6.8, 3.4,
];
/// How active they are on each day of a week, Monday first.
const WEEKDAYS: [f64; 7] = [1.0, 0.96, 0.95, 1.0, 1.12, 1.28, 1.22];

/// Maps between active and calendar time, both in microseconds from the start of the period and of equal length.
pub(super) struct Clock {
    /// Calendar time of the start, microseconds since 1970.
    start: i64,
    /// Active time at the start of each hour, and at the end of the last.
    hours: Vec<i64>,
    /// Each day as `2025-01-31`, those behind the end included on which late events are received.
    dates: Vec<String>,
}

/// Days after the period on which events of the period may be received.
const DAYS_BEHIND: usize = 10;

impl Clock {
    pub(super) fn new(start: NaiveDate, days: u32) -> Self {
        let mut active = vec![0.0];
        for day in start.iter_days().take(days as usize) {
            let weekday = WEEKDAYS[day.weekday().num_days_from_monday() as usize];
            for hour in HOURS {
                active.push(active.last().copied().unwrap_or_default() + hour * weekday);
            }
        }
        let length = i64::from(days) * DAY;
        let scale = length as f64 / active.last().copied().unwrap_or_default();
        let mut hours: Vec<i64> = active.into_iter().map(|time| (time * scale) as i64).collect();
        *hours.last_mut().expect("a period has at least its start") = length;
        let dates = start.iter_days().take(days as usize + DAYS_BEHIND).map(|day| day.to_string()).collect();
        Self { start: start.and_time(NaiveTime::MIN).and_utc().timestamp_micros(), hours, dates }
    }

    /// Appends a time from the start of the period as `2025-01-31T08:15:00.000000Z`.
    pub(super) fn write(&self, time: i64, text: &mut Vec<u8>) {
        let date = &self.dates[(time / DAY) as usize];
        let within = time % DAY;
        let fields = [
            (b'T', within / HOUR, 2),
            (b':', within % HOUR / MINUTE, 2),
            (b':', within % MINUTE / SECOND, 2),
            (b'.', within % SECOND, 6),
        ];
        text.extend_from_slice(date.as_bytes());
        for (before, number, width) in fields {
            text.push(before);
            text.push_number(number as u64, width);
        }
        text.push(b'Z');
    }

    /// Calendar time of the start, microseconds since 1970.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// Length of the period.
    pub(super) fn length(&self) -> i64 {
        *self.hours.last().expect("a period has at least its start")
    }

    /// Calendar time of an active time; `None` once the period is over.
    pub(super) fn calendar(&self, active: i64) -> Option<i64> {
        let hour = self.hours.partition_point(|start| *start <= active) - 1;
        let next = self.hours.get(hour + 1)?;
        let passed = (active - self.hours[hour]) as f64 / (next - self.hours[hour]) as f64;
        Some(hour as i64 * HOUR + ((passed * HOUR as f64) as i64).min(HOUR - 1))
    }

    /// Active time of a calendar time within the period.
    pub(super) fn active(&self, calendar: i64) -> i64 {
        let hour = (calendar / HOUR) as usize;
        let Some(next) = self.hours.get(hour + 1) else { return self.length() };
        let passed = (calendar % HOUR) as f64 / HOUR as f64;
        self.hours[hour] + (passed * (next - self.hours[hour]) as f64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn january() -> Clock {
        Clock::new(NaiveDate::from_ymd_opt(2025, 1, 1).unwrap(), 31)
    }

    #[test]
    fn calendar_time_grows_with_active_time_and_ends_with_the_period() {
        let clock = january();
        let times: Vec<i64> = (0..31 * 24 * 7).filter_map(|step| clock.calendar(step * HOUR / 7)).collect();
        assert_eq!(times.len(), 31 * 24 * 7);
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(clock.calendar(0), Some(0));
        assert_eq!(clock.calendar(31 * DAY), None);
    }

    #[test]
    fn a_time_is_written_with_its_day_and_microseconds() {
        let mut text = Vec::new();
        january().write(30 * DAY + 8 * HOUR + 15 * MINUTE + 70, &mut text);
        january().write(40 * DAY + 59 * SECOND, &mut text);
        assert_eq!(String::from_utf8(text).unwrap(), "2025-01-31T08:15:00.000070Z2025-02-10T00:00:59.000000Z");
    }

    #[test]
    fn a_time_goes_there_and_back() {
        let clock = january();
        for step in 0..1000 {
            let active = step * 31 * DAY / 1000;
            let back = clock.active(clock.calendar(active).unwrap());
            assert!((back - active).abs() < SECOND, "{active} came back as {back}");
        }
    }

    #[test]
    fn evenings_are_busier_than_nights() {
        let clock = january();
        let length = |from: i64, to: i64| clock.active(to * HOUR) - clock.active(from * HOUR);
        assert!(length(19, 20) > 15 * length(3, 4));
    }
}
