//! Which columns tell when something happened and when it was received.

use super::super::sample::Column;
use super::super::times::{TimeShape, joined};
use super::super::words::{self, rank};
use super::{Guessing, grouped, sql_of};
use crate::error::{Error, Result};

impl Guessing<'_> {
    pub(super) fn times(&mut self) -> Result<()> {
        let is_other = |column: &Column| words::mentions(column, words::OTHER_TIMES);
        let shaped: Vec<(&Column, TimeShape)> = self
            .free()
            .filter(|column| !is_other(column))
            .filter_map(|column| Some((column, TimeShape::of(column)?)))
            .collect();
        let received_rank = |column: &Column| rank(column, words::RECEIVED_AT);
        let cost = |(place, (column, shape)): &(usize, &(&Column, TimeShape))| {
            let name = rank(column, words::OCCURRED_AT);
            // A number is a time by its name alone, and a column that lacks values or hours comes last.
            let unnamed = if shape.is_number() { None } else { Some(5_000 + place) };
            let missing = 10_000 * usize::from(column.count() < self.sample.rows);
            let received = 20_000 * usize::from(received_rank(column).is_some());
            Some(name.or(unnamed)? + missing + received + 2_000 * usize::from(!shape.has_time()))
        };
        let instants = || shaped.iter().filter(|(_, shape)| shape.is_instant()).enumerate();
        let best =
            instants().filter_map(|candidate| Some((cost(&candidate)?, candidate.1))).min_by_key(|(cost, _)| *cost);
        let Some((_, (column, shape))) = best else {
            let names: Vec<_> = self.sample.top_names();
            let shown = names.iter().take(12).copied().collect::<Vec<_>>().join(", ");
            let rest = if names.len() > 12 { ", …" } else { "" };
            return Err(Error::invalid(format!(
                "no column reads as a time at which something happened, among {shown}{rest}"
            ))
            .hint("an event needs one; write [sources.event] by hand if it must be computed"));
        };
        let (column, shape) = (*column, *shape);
        let sql = sql_of(&column.path);
        self.found.time_unit = shape.unit();
        let mut evidence = format!("{} {}", shape.words(), self.of_rows(shape.readable(column)));
        if let Some(other) = shape.other_order(column) {
            evidence.push_str(&format!("; reads as {other} as well, so check which is meant"));
        }
        let of_day = shaped.iter().find(|(_, shape)| !shape.is_instant());
        let whole = match of_day {
            Some((time, TimeShape::OfDay(pattern))) if !shape.has_time() => {
                self.take(time);
                evidence.push_str(&format!("; the time of day is in {}", sql_of(&time.path)));
                joined(shape, &sql, pattern, &sql_of(&time.path))
            }
            _ if !shape.has_time() => {
                evidence.push_str("; days without a time of day");
                None
            }
            _ => None,
        };
        let mut needs_offset = shape.lacks_zone() || (whole.is_some() && shape == TimeShape::Day);
        if matches!(shape, TimeShape::Pattern(..)) {
            evidence.push_str("; taken for UTC");
        }
        self.take(column);
        let expression = whole.unwrap_or_else(|| shape.expression(&sql, self.found.time_unit));
        self.put("occurred_at", expression, evidence);

        let is_received = |(received, shape): &&(&Column, TimeShape)| {
            received.path != column.path && shape.is_instant() && received_rank(received).is_some()
        };
        let received = shaped.iter().filter(is_received).min_by_key(|(received, _)| received_rank(received));
        if let Some((received, received_shape)) = received {
            let pairs = column.values.iter().zip(&received.values).filter_map(|(occurred, received)| {
                Some((shape.micros(occurred.as_deref()?)?, received_shape.micros(received.as_deref()?)?))
            });
            let (later, both) = pairs.fold((0, 0), |(later, both), (occurred, received)| {
                (later + usize::from(received >= occurred), both + 1)
            });
            if later * 10 >= both * 9 {
                self.found.time_unit = self.found.time_unit.or(received_shape.unit());
                let expression = received_shape.expression(&sql_of(&received.path), self.found.time_unit);
                needs_offset |= received_shape.lacks_zone();
                let evidence = format!("not before occurred_at in {} of {} records", grouped(later), grouped(both));
                self.put("received_at", expression, evidence);
                self.take(received);
            } else {
                let name = sql_of(&received.path);
                self.found.open.insert("received_at", format!("{name} is mostly before occurred_at"));
            }
        }
        if needs_offset {
            let why = "times name no zone, so UTC is assumed: write +01:00 for another".to_string();
            self.found.time_offset = Some(("Z".into(), why));
        }
        Ok(())
    }
}
