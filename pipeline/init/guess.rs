//! The mapping of a source, guessed from a sample of its records.

mod identifiers;
mod instants;

use std::collections::{BTreeMap, BTreeSet};

use self::identifiers::is_email;
use super::money::Numbers;
use super::preset::Preset;
use super::sample::{Column, Sample};
use super::times::TimeShape;
use super::words::{self, Names, folded, rank};
use crate::config::{EventMapping, TimeUnit};
use crate::error::Result;
use crate::landing::paths_read;

/// Most distinct values of what names a touchpoint or a channel.
const MOST_TOUCHPOINTS: usize = 300;
const MOST_CHANNELS: usize = 40;
/// Words for the two directions.
const INBOUND: Names = &["inbound", "in", "incoming", "eingehend"];
const OUTBOUND: Names = &["outbound", "out", "outgoing", "ausgehend"];
/// What a brand does on the channels on which it writes first.
const SENT: Names = &["sent", "send", "delivered", "delivery", "dispatched", "bounced", "bounce"];

/// An expression and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Guess {
    /// SQL over the source's columns.
    pub expression: String,
    /// What speaks for it.
    pub evidence: String,
}

/// The guessed mapping of a source.
#[derive(Debug, Clone, Default)]
pub struct Guesses {
    /// By event column.
    pub event: BTreeMap<&'static str, Guess>,
    /// By kind of identifier, the surest kind first.
    pub identifiers: Vec<(String, Guess)>,
    /// Unit of numeric times.
    pub time_unit: Option<TimeUnit>,
    /// Offset of times that name none, and why it is there.
    pub time_offset: Option<(String, String)>,
    /// Event columns for which nothing was found, and why.
    pub open: BTreeMap<&'static str, String>,
}

/// The optional event columns in the order of a mapping, with what is said where nothing speaks for one.
pub const OPTIONAL: [(&str, &str); 9] = [
    ("received_at", "no time is named like the one at which a source got it; the time of the batch counts"),
    ("direction", "every event counts as inbound"),
    ("stage", "told from [stages]"),
    ("campaign", "no column is named like a campaign"),
    ("value", "no column of numbers is named like money"),
    ("currency", "no column is named like a currency"),
    ("experiment", "no column is named like an experiment"),
    ("variant", "no column is named like a variant"),
    ("score", "no column of numbers is named like csat, ces or nps"),
];

impl Guesses {
    /// The mapping as the configuration has it.
    pub fn mapping(&self) -> EventMapping {
        let of = |name: &str| self.event.get(name).map(|guess| guess.expression.clone());
        EventMapping {
            event_id: of("event_id"),
            occurred_at: of("occurred_at").unwrap_or_default(),
            received_at: of("received_at"),
            touchpoint: of("touchpoint").unwrap_or_default(),
            channel: of("channel").unwrap_or_default(),
            direction: of("direction"),
            stage: of("stage"),
            identifiers: self
                .identifiers
                .iter()
                .map(|(kind, guess)| (kind.clone(), guess.expression.clone()))
                .collect(),
            campaign: of("campaign"),
            experiment: of("experiment"),
            variant: of("variant"),
            value: of("value"),
            currency: of("currency"),
            score_kind: of("score_kind"),
            score: of("score"),
        }
    }

    /// The mapping of a preset, with guesses for what it leaves open.
    pub fn of_preset(preset: &Preset, sample: &Sample, source: &str) -> Self {
        let mut guessing = Guessing::new(sample, source);
        let (expressions, why) = preset.expressions(Some(sample));
        let said = |name: &str| why.get(name).cloned().unwrap_or_else(|| format!("preset {}", preset.name));
        for (name, expression) in &expressions.columns {
            guessing.taken.extend(paths_read(expression).unwrap_or_default());
            if let Some(name) = EVENT_COLUMNS.iter().find(|column| *column == name) {
                guessing.put(name, expression.clone(), said(name));
            }
        }
        let named =
            |kind: &String| words::IDENTIFIERS.iter().position(|(known, _)| known == kind).unwrap_or(usize::MAX);
        let mut identifiers: Vec<_> = expressions.identifiers.iter().collect();
        identifiers.sort_by_key(|(kind, _)| named(kind));
        for (kind, expression) in identifiers {
            let guess = Guess { expression: expression.clone(), evidence: format!("preset {}", preset.name) };
            guessing.found.identifiers.push((kind.clone(), guess));
        }
        let is_open = |name: &str| preset.guess.iter().any(|open| open == name);
        if is_open("identifiers") {
            guessing.identifiers();
        }
        if is_open("value") {
            guessing.value();
        }
        if is_open("campaign") {
            guessing.text("campaign", words::CAMPAIGN);
        }
        if is_open("channel") {
            guessing.channel();
        }
        let Guessing { mut found, .. } = guessing;
        found.time_unit = preset.time_unit;
        found.time_offset =
            preset.time_offset.clone().map(|offset| (offset, "times without a zone are UTC there".into()));
        found
    }

    /// A mapping guessed from names and values alone.
    ///
    /// Errors: no column tells when something happened.
    pub fn of_sample(sample: &Sample, source: &str) -> Result<Self> {
        let mut guessing = Guessing::new(sample, source);
        guessing.times()?;
        guessing.direction();
        guessing.words_of("stage", words::STAGE, &words::STAGES.map(|(stage, _)| stage));
        guessing.text("experiment", words::EXPERIMENT);
        guessing.text("variant", words::VARIANT);
        guessing.scores();
        guessing.event_id();
        guessing.identifiers();
        guessing.value();
        guessing.channel();
        guessing.text("campaign", words::CAMPAIGN);
        guessing.touchpoint();
        for (name, why) in OPTIONAL {
            if !guessing.found.event.contains_key(name) {
                guessing.found.open.entry(name).or_insert_with(|| why.into());
            }
        }
        Ok(guessing.found)
    }
}

/// The event columns, in the order of a mapping.
pub const EVENT_COLUMNS: [&str; 14] = [
    "event_id",
    "occurred_at",
    "received_at",
    "touchpoint",
    "channel",
    "direction",
    "stage",
    "campaign",
    "experiment",
    "variant",
    "value",
    "currency",
    "score_kind",
    "score",
];

struct Guessing<'s> {
    sample: &'s Sample,
    source: &'s str,
    taken: BTreeSet<Vec<String>>,
    found: Guesses,
}

impl<'s> Guessing<'s> {
    fn new(sample: &'s Sample, source: &'s str) -> Self {
        Self { sample, source, taken: BTreeSet::new(), found: Guesses::default() }
    }

    fn put(&mut self, name: &'static str, expression: String, evidence: String) {
        self.found.event.insert(name, Guess { expression, evidence });
    }

    fn take(&mut self, column: &Column) {
        self.taken.insert(column.path.clone());
    }

    /// Columns that are free, have values and can be read.
    fn free(&self) -> impl Iterator<Item = &'s Column> {
        let taken = &self.taken;
        self.sample.columns.iter().filter(move |column| {
            !column.is_mixed && !taken.contains(&column.path) && column.values.iter().any(Option::is_some)
        })
    }

    /// The free columns that are named so and fit, best first.
    fn named(&self, names: Names, fits: impl Fn(&Column) -> bool) -> Vec<&'s Column> {
        let mut found: Vec<_> = self.free().filter_map(|column| Some((rank(column, names)?, column))).collect();
        found.retain(|(_, column)| fits(column));
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, column)| column).collect()
    }

    fn of_rows(&self, count: usize) -> String {
        match count == self.sample.rows {
            true if count == 1 => "in the one record".into(),
            true => format!("in all {} records", grouped(count)),
            false => format!("in {} of {} records", grouped(count), grouped(self.sample.rows)),
        }
    }

    fn direction(&mut self) {
        let known = |value: &str| is_one_of(value, INBOUND) || is_one_of(value, OUTBOUND);
        if let Some(column) = self.named(words::DIRECTION, |column| column.mostly(1.0, known)).first() {
            let sql = sql_of(&column.path);
            let exact = column.mostly(1.0, |value| matches!(value, "inbound" | "outbound"));
            let expression = match exact {
                true => sql,
                false => format!(
                    "case when lower(trim({sql})) in ('{}') then 'outbound' else 'inbound' end",
                    OUTBOUND.join("', '")
                ),
            };
            self.put("direction", expression, "holds the two directions".into());
            self.take(column);
        }
    }

    /// A column of a fixed vocabulary.
    fn words_of(&mut self, name: &'static str, names: Names, vocabulary: &[&str]) {
        let found = self.named(names, |column| column.mostly(1.0, |value| vocabulary.contains(&value)));
        if let Some(column) = found.first() {
            self.put(name, sql_of(&column.path), format!("holds {}", listed(column)));
            self.take(column);
        }
    }

    fn text(&mut self, name: &'static str, names: Names) {
        let rows = self.sample.rows;
        let fits = |column: &Column| {
            let distinct = column.distinct().len();
            distinct <= 1_000 && (distinct * 2 <= rows || rows < 50) && TimeShape::of(column).is_none()
        };
        if let Some(column) = self.named(names, fits).first() {
            let evidence = format!("{} {}", counted(column.distinct().len(), "value"), self.of_rows(column.count()));
            self.put(name, sql_of(&column.path), evidence);
            self.take(column);
        }
    }

    fn scores(&mut self) {
        const KINDS: [&str; 3] = ["csat", "ces", "nps"];
        let is_score = |column: &Column| Numbers::of(column, "").is_some() && TimeShape::of(column).is_none();
        let is_kind = |column: &Column| column.mostly(1.0, |value| KINDS.contains(&value));
        let kind = self.named(words::SCORE_KIND, is_kind).first().copied();
        let score = self.named(words::SCORE, is_score).first().copied();
        if let (Some(kind), Some(score)) = (kind, score) {
            self.put("score_kind", sql_of(&kind.path), format!("holds {}", listed(kind)));
            self.put_score(score);
            self.take(kind);
            return;
        }
        for kind in KINDS {
            let is_named =
                |column: &&Column| column.path.iter().any(|name| folded(name).split('_').any(|word| word == kind));
            let Some(column) = self.free().filter(is_named).find(|column| is_score(column)) else { continue };
            let expression = format!("case when {} is not null then '{kind}' end", sql_of(&column.path));
            self.put("score_kind", expression, format!("named like {kind}"));
            self.put_score(column);
            return;
        }
    }

    fn put_score(&mut self, column: &Column) {
        if let Some(numbers) = Numbers::of(column, &sql_of(&column.path)) {
            self.put("score", numbers.expression, format!("{} {}", numbers.words, self.of_rows(column.count())));
            self.take(column);
        }
    }

    fn value(&mut self) {
        let is_count =
            |column: &Column| words::mentions(column, &["id", "count", "quantity", "qty", "number", "no", "anzahl"]);
        let found = self.named(words::VALUE, |column| {
            !is_count(column)
                && TimeShape::of(column).is_none_or(TimeShape::is_number)
                && Numbers::of(column, "").is_some()
        });
        let Some(column) = found.first().copied() else { return };
        let Some(numbers) = Numbers::of(column, &sql_of(&column.path)) else { return };
        let name = folded(column.path.last().map_or("", String::as_str));
        let is_cents = name.split('_').any(|word| matches!(word, "cents" | "cent" | "minor"));
        let expression = match is_cents {
            true => format!("cast({} as decimal(18, 4)) / 100", numbers.expression),
            false => numbers.expression,
        };
        self.put("value", expression, format!("{} {}", numbers.words, self.of_rows(column.count())));
        self.take(column);
        let is_code =
            |value: &str| value.trim().len() == 3 && value.trim().bytes().all(|byte| byte.is_ascii_alphabetic());
        if let Some(codes) = self.named(words::CURRENCY, |column| column.mostly(1.0, is_code)).first() {
            let sql = sql_of(&codes.path);
            let is_upper = codes.mostly(1.0, |value| value == value.to_uppercase());
            let expression = if is_upper { sql } else { format!("upper({sql})") };
            self.put("currency", expression, format!("holds {}", listed(codes)));
            self.take(codes);
        } else if let Some(code) = numbers.currency {
            self.put("currency", format!("'{code}'"), format!("told from {}", sql_of(&column.path)));
        } else {
            self.found
                .open
                .insert("currency", "no column tells it; write 'EUR' in single quotes for a fixed one".into());
        }
    }

    fn channel(&mut self) {
        let fits = |column: &Column| {
            column.distinct().len() <= MOST_CHANNELS
                && column.count() * 2 >= self.sample.rows
                && !column.mostly(0.5, |value| value.trim().parse::<f64>().is_ok() || matches!(value, "true" | "false"))
        };
        if let Some(column) = self.named(words::CHANNEL, fits).first() {
            let sql = sql_of(&column.path);
            let values: Vec<String> = column.distinct().iter().map(|(value, _)| value.trim().to_lowercase()).collect();
            let is_among = |words: &[&str]| values.iter().all(|value| words.contains(&value.as_str()));
            let apps = ["ios", "android", "mob", "app"];
            let evidence = format!("holds {}", listed(column));
            let expression = if is_among(&["desktop", "mobile", "tablet", "phone", "smartphone"]) {
                format!("lower({sql}) || '_web'")
            } else if values.iter().any(|value| apps.contains(&value.as_str())) {
                let list = apps.join("', '");
                format!("case when lower({sql}) in ('{list}') then 'mobile_app' else lower({sql}) end")
            } else {
                tidy(column, &sql)
            };
            self.put("channel", self.filled(column, expression), evidence);
            self.take(column);
            return;
        }
        let is_address =
            |column: &Column| column.mostly(0.8, |value| value.starts_with("http") || value.starts_with('/'));
        let (channel, evidence) = match words::channel_of(self.source) {
            Some(channel) => {
                (channel.to_string(), format!("no column tells it; told from the source's name, {}", self.source))
            }
            None if self.free().any(is_address) => {
                ("web".into(), "no column tells it; records hold addresses of pages".into())
            }
            None => {
                (folded(self.source), "nothing tells it, so it has the source's name: write the medium".to_string())
            }
        };
        self.put("channel", format!("'{channel}'"), evidence);
    }

    fn touchpoint(&mut self) {
        let rows = self.sample.rows;
        let fits = |column: &Column| {
            let distinct = column.distinct().len();
            distinct <= MOST_TOUCHPOINTS
                && (distinct * 2 <= rows || rows < 50)
                && column.count() * 5 >= rows
                && TimeShape::of(column).is_none()
                && !column.mostly(0.5, |value| {
                    value.trim().parse::<f64>().is_ok() || value.contains("://") || is_email(value)
                })
        };
        let mut found = self.named(words::TOUCHPOINT, fits);
        // What is always the same tells nothing, unless there is no other.
        found.sort_by_key(|column| column.distinct().len() < 2);
        let Some(column) = found.first().copied() else {
            let evidence = "no column is named like an event, so every record is one of these".to_string();
            self.put("touchpoint", format!("'{}'", folded(self.source)), evidence);
            return;
        };
        let sql = sql_of(&column.path);
        let evidence = format!("{}, such as {}", counted(column.distinct().len(), "value"), listed(column));
        let other = found.iter().skip(1).find(|other| other.count() == rows);
        let expression = match other {
            Some(other) if column.count() < rows => {
                format!("coalesce({}, {})", tidy(column, &sql), tidy(other, &sql_of(&other.path)))
            }
            _ => self.filled(column, tidy(column, &sql)),
        };
        let is_sending = self
            .found
            .event
            .get("channel")
            .is_some_and(|channel| matches!(channel.expression.as_str(), "'email'" | "'sms'" | "'push'"));
        let sent: Vec<&str> =
            column.distinct().iter().map(|(value, _)| *value).filter(|value| is_one_of(value, SENT)).collect();
        if is_sending && !sent.is_empty() && !self.found.event.contains_key("direction") {
            let expression = format!("case when {sql} in ('{}') then 'outbound' else 'inbound' end", sent.join("', '"));
            self.put("direction", expression, format!("the brand writes first: {}", sent.join(", ")));
        }
        // The touches of a channel that writes first are named by it: `email_open`.
        let prefix = match self.found.event.get("channel").map(|channel| channel.expression.as_str()) {
            Some(channel @ ("'email'" | "'sms'" | "'push'")) => channel.trim_matches('\''),
            _ => "",
        };
        let is_bare = !column.given().any(|value| folded(value).contains(prefix));
        let expression =
            if prefix.is_empty() || !is_bare { expression } else { format!("'{prefix}_' || {expression}") };
        self.put("touchpoint", expression, evidence);
        self.take(column);
    }

    /// An expression that is never null.
    fn filled(&self, column: &Column, expression: String) -> String {
        match column.count() == self.sample.rows {
            true => expression,
            false => format!("coalesce({expression}, 'unknown')"),
        }
    }
}

fn is_one_of(value: &str, words: Names) -> bool {
    words.contains(&folded(value).as_str())
}

/// Names in one way of writing: lower case, words joined by `_`. As they are where they are written so.
fn tidy(column: &Column, sql: &str) -> String {
    if column.given().any(|value| value.trim().contains(char::is_whitespace)) {
        return format!("replace(lower(trim({sql})), ' ', '_')");
    }
    match column.given().any(|value| value.starts_with(char::is_uppercase)) {
        true => format!("lower({sql})"),
        false => sql.to_string(),
    }
}

/// The most frequent values of a column.
fn listed(column: &Column) -> String {
    let distinct = column.distinct();
    let shown: Vec<String> = distinct.iter().take(4).map(|(value, _)| value.chars().take(30).collect()).collect();
    format!("{}{}", shown.join(", "), if distinct.len() > shown.len() { ", …" } else { "" })
}

/// A path as SQL: `context['campaign']['name']`.
pub fn sql_of(path: &[String]) -> String {
    let Some((first, below)) = path.split_first() else { return String::new() };
    let quoted = || format!("\"{}\"", first.replace('"', "\"\""));
    // A bare word may be a keyword or a function.
    let is_plain = first.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_read = || paths_read(first).is_ok_and(|paths| paths == [vec![first.clone()]]);
    let is_reserved = RESERVED.contains(&first.to_lowercase().as_str());
    let mut sql = if is_plain && !is_reserved && is_read() { first.clone() } else { quoted() };
    for name in below {
        sql.push_str(&format!("['{}']", name.replace('\'', "''")));
    }
    sql
}

/// Words that are names as they stand and something else before an operator.
const RESERVED: [&str; 10] =
    ["case", "timestamp", "time", "date", "type", "datetime", "interval", "user", "source", "order"];

/// A number of things: `1 file`, `10,000 records`.
pub fn counted(number: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `10000` as `10,000`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests;
