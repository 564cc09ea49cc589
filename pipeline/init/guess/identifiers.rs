//! Which column tells records apart, and which tell who it was.

use std::collections::HashMap;

use super::super::sample::Column;
use super::super::times::TimeShape;
use super::super::words::{self, folded, rank};
use super::{Guess, Guessing, counted, grouped, sql_of};

impl Guessing<'_> {
    pub(super) fn event_id(&mut self) {
        let mut why_not = "nothing tells records apart, so it is derived from the record".to_string();
        let is_of_someone = |column: &Column| {
            words::IDENTIFIERS.iter().any(|(_, names)| rank(column, names).is_some_and(|rank| rank < 1_000))
        };
        let is_uuid =
            |column: &&Column| column.mostly(1.0, |value| value.len() == 36 && value.matches('-').count() == 4);
        let mut candidates = self.named(words::EVENT_ID, |column| column.path.len() < 3 && !is_of_someone(column));
        candidates
            .extend(self.free().filter(is_uuid).filter(|column| column.path.len() == 1 && !is_of_someone(column)));
        for column in candidates {
            let (name, count, distinct) = (sql_of(&column.path), column.count(), column.distinct().len());
            if count * 10 < self.sample.rows * 8 {
                continue;
            }
            if distinct == count {
                self.put("event_id", name, format!("unique {}", self.of_rows(count)));
                self.take(column);
                return;
            }
            match self.is_redelivered(column) {
                true if distinct * 10 >= count * 8 => {
                    let evidence = format!(
                        "{} values in {} records; those that share one are the same record again",
                        grouped(distinct),
                        grouped(count)
                    );
                    self.put("event_id", name, evidence);
                    self.take(column);
                    return;
                }
                _ if distinct * 2 >= count => {
                    why_not = format!("{name} is shared by records that differ, so it is derived from the record");
                }
                _ => {}
            }
        }
        self.found.open.insert("event_id", why_not);
    }

    /// Whether records that share an id are alike but for the time at which they came.
    fn is_redelivered(&self, id: &Column) -> bool {
        let received = self.found.event.get("received_at").map(|guess| guess.expression.as_str());
        let compared: Vec<&Column> =
            self.sample.columns.iter().filter(|column| Some(sql_of(&column.path).as_str()) != received).collect();
        let mut first: HashMap<&str, usize> = HashMap::new();
        id.values.iter().enumerate().filter_map(|(row, value)| Some((row, value.as_deref()?))).all(|(row, value)| {
            let of_first = *first.entry(value).or_insert(row);
            of_first == row || compared.iter().all(|column| column.values[row] == column.values[of_first])
        })
    }

    pub(super) fn identifiers(&mut self) {
        for (kind, names) in words::IDENTIFIERS {
            // `domain_userid` ends like `userid` and is the name of something else.
            let is_nearest = |column: &Column| {
                let of_kind = rank(column, names);
                words::IDENTIFIERS
                    .iter()
                    .all(|(_, others)| rank(column, others).is_none_or(|other| of_kind <= Some(other)))
            };
            let fits = |column: &Column| is_nearest(column) && fits_kind(kind, column);
            let Some(column) = self.named(names, fits).first().copied() else { continue };
            let distinct = column.distinct().len();
            let mut expression = sql_of(&column.path);
            if kind == "email"
                && column.given().any(|value| value != value.trim() || value.chars().any(char::is_uppercase))
            {
                expression = format!("lower(trim({expression}))");
            }
            let guess = Guess {
                expression,
                evidence: format!("{} {}", counted(distinct, "value"), self.of_rows(column.count())),
            };
            self.found.identifiers.push((kind.into(), guess));
            self.take(column);
        }
        let has = |kind: &str| self.found.identifiers.iter().any(|(known, _)| known == kind);
        let emails = self.free().find(|column| column.mostly(0.8, is_email));
        if let Some(column) = emails.filter(|_| !has("email")) {
            let evidence = format!("reads as e-mail addresses {}", self.of_rows(column.count()));
            let guess = Guess { expression: format!("lower(trim({}))", sql_of(&column.path)), evidence };
            self.found.identifiers.push(("email".into(), guess));
            self.take(column);
        }
        if self.found.identifiers.is_empty() {
            let sessions =
                self.named(&["session_id", "session", "visit_id", "sitzung_id"], |column| column.distinct().len() > 1);
            if let Some(column) = sessions.first() {
                let evidence = "nothing else tells who it was; it ends with the session".to_string();
                self.found
                    .identifiers
                    .push(("session_id".into(), Guess { expression: sql_of(&column.path), evidence }));
                self.take(column);
            }
        }
    }
}

fn fits_kind(kind: &str, column: &Column) -> bool {
    let distinct = column.distinct().len();
    if distinct < 2 && column.count() > 5 {
        return false;
    }
    let digits = |value: &str| value.chars().filter(char::is_ascii_digit).count();
    match kind {
        "email" => column.mostly(0.5, is_email),
        // What holds no digit at all is a word for none.
        "phone" => {
            let numbers = column.count_of(|value| digits(value) >= 7);
            numbers > 0 && numbers * 2 >= column.count_of(|value| digits(value) > 0) && TimeShape::of(column).is_none()
        }
        _ => {
            let is_id = |value: &str| !value.trim().contains(char::is_whitespace);
            let is_told = |value: &str| digits(value) > 0 || value.contains(['-', '@']) || value.len() >= 16;
            let name = folded(column.path.last().map_or("", String::as_str));
            let is_ambiguous = AMBIGUOUS.contains(&name.as_str());
            column.mostly(0.8, is_id) && (!is_ambiguous || distinct > 100 || column.mostly(0.5, is_told))
        }
    }
}

/// Names that may be those of a model, a company or an agent.
const AMBIGUOUS: [&str; 6] = ["device", "user", "customer", "kunde", "login", "visitor"];

pub(super) fn is_email(value: &str) -> bool {
    let value = value.trim();
    let sound = |(name, host): (&str, &str)| !name.is_empty() && host.contains('.') && !value.contains([' ', '/']);
    value.split_once('@').is_some_and(sound)
}
