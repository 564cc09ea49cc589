//! One delivery as the twenty columns of a file.

use super::chance::Purpose;
use super::customers::Population;
use super::properties::push_properties;
use super::text::Text;
use super::visits::{Delivery, Touch, Variant};
use super::world::CAMPAIGNS;

/// Columns of the files, in order.
pub(super) const COLUMNS: [&str; 20] = [
    "event_id",
    "event_time",
    "received_time",
    "source",
    "channel",
    "touchpoint",
    "direction",
    "stage",
    "anonymous_id",
    "user_id",
    "email",
    "phone",
    "loyalty_id",
    "campaign",
    "variant",
    "value",
    "currency",
    "score_kind",
    "score",
    "properties",
];
pub(super) const EVENT_ID: usize = 0;
pub(super) const EVENT_TIME: usize = 1;
pub(super) const RECEIVED_TIME: usize = 2;
const SOURCE: usize = 3;
const CHANNEL: usize = 4;
pub(super) const TOUCHPOINT: usize = 5;
const DIRECTION: usize = 6;
const STAGE: usize = 7;
const ANONYMOUS_ID: usize = 8;
const USER_ID: usize = 9;
const EMAIL: usize = 10;
const PHONE: usize = 11;
const LOYALTY_ID: usize = 12;
const CAMPAIGN: usize = 13;
const VARIANT: usize = 14;
pub(super) const VALUE: usize = 15;
const CURRENCY: usize = 16;
const SCORE_KIND: usize = 17;
pub(super) const SCORE: usize = 18;
pub(super) const PROPERTIES: usize = 19;

/// What is wrong with a bad record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    /// The line ends somewhere before its last column.
    Truncated,
    /// The time is none.
    BadTime,
    /// The touchpoint is missing.
    NoTouchpoint,
    /// The value is a word.
    WrongType,
}

impl Defect {
    /// The defect of a delivery, if it has one. Events that are delivered twice are spared, so that records are the
    /// sum of distinct events, re-deliveries and bad records.
    pub(super) fn of(touch: &Touch, population: &Population, per_100_000: u32) -> Option<Self> {
        if touch.delivery != Delivery::Only {
            return None;
        }
        let bits = population.event_bits(Purpose::Defect, touch.number);
        if bits % 100_000 >= u64::from(per_100_000) {
            return None;
        }
        Some([Self::Truncated, Self::BadTime, Self::NoTouchpoint, Self::WrongType][(bits >> 62) as usize])
    }
}

/// The text of each column; empty text is an absent value. Reused from one delivery to the next.
#[derive(Default)]
pub(super) struct Record {
    pub(super) texts: [Vec<u8>; COLUMNS.len()],
    pub(super) defect: Option<Defect>,
}

impl Record {
    /// Becomes the record of a delivery.
    pub(super) fn fill(&mut self, population: &Population, touch: &Touch, defect: Option<Defect>) {
        for text in &mut self.texts {
            text.clear();
        }
        self.defect = defect;
        let texts = &mut self.texts;
        let customer = touch.customer();
        let channel = touch.place.channel;
        let touchpoint = population.world.touchpoint(touch.place);

        texts[EVENT_ID].push_hex(population.event_bits(Purpose::EventHigh, touch.number));
        texts[EVENT_ID].push_hex(population.event_bits(Purpose::EventLow, touch.number));
        population.clock.write(touch.occurred, &mut texts[EVENT_TIME]);
        population.clock.write(touch.received, &mut texts[RECEIVED_TIME]);
        texts[SOURCE].push_str(channel.source());
        texts[CHANNEL].push_str(channel.name());
        texts[TOUCHPOINT].push_str(touchpoint.name);
        texts[DIRECTION].push_str(touchpoint.direction);
        texts[STAGE].push_str(touchpoint.stage);
        if let Some(device) = touch.device {
            texts[ANONYMOUS_ID].push(if channel.is_app() { b'i' } else { b'c' });
            texts[ANONYMOUS_ID].push_hex(device);
        }
        if touch.is_logged_in {
            texts[USER_ID].push(b'u');
            texts[USER_ID].push_hex(population.bits(Purpose::User, customer));
        }
        if touch.shows_email {
            push_email(&mut texts[EMAIL], population.bits(Purpose::Email, customer), customer, touch.detail);
        }
        if touch.shows_phone {
            texts[PHONE].push_str("+4915");
            texts[PHONE].push_number(scatter(customer, population.bits(Purpose::Phone, 0)), 10);
        }
        if touch.shows_loyalty {
            texts[LOYALTY_ID].push(b'L');
            texts[LOYALTY_ID].push_number(scatter(customer, population.bits(Purpose::Loyalty, 0)), 10);
        }
        if let Some(campaign) = touch.campaign {
            texts[CAMPAIGN].push_str(CAMPAIGNS[usize::from(campaign)].0);
        }
        texts[VARIANT].push_str(touch.variant.map_or("", Variant::name));
        if let Some(cents) = touch.cents {
            texts[VALUE].push_cents(u64::from(cents));
            texts[CURRENCY].push_str("EUR");
        }
        if let Some((kind, score)) = touch.score {
            texts[SCORE_KIND].push_str(kind.name());
            texts[SCORE].push_number(u64::from(score), 1);
        }
        push_properties(&mut texts[PROPERTIES], touch, touchpoint.name);

        match defect {
            Some(Defect::BadTime) => {
                texts[EVENT_TIME].clear();
                texts[EVENT_TIME].push_str("31/02/2025 25:61");
            }
            Some(Defect::NoTouchpoint) => texts[TOUCHPOINT].clear(),
            Some(Defect::WrongType) => {
                texts[VALUE].clear();
                texts[VALUE].push_str("many");
            }
            Some(Defect::Truncated) | None => {}
        }
    }

    /// Appends the record as a line of JSON without its absent columns.
    pub(super) fn append_json(&self, lines: &mut Vec<u8>) {
        let start = lines.len();
        let mut before = b'{';
        let mut cut = start;
        for (column, text) in self.texts.iter().enumerate() {
            if text.is_empty() {
                continue;
            }
            if column == PROPERTIES {
                cut = lines.len();
            }
            lines.push(before);
            lines.push(b'"');
            lines.extend_from_slice(COLUMNS[column].as_bytes());
            lines.extend_from_slice(b"\":");
            let is_number = column == SCORE || column == VALUE && self.defect != Some(Defect::WrongType);
            if is_number || column == PROPERTIES {
                lines.extend_from_slice(text);
            } else {
                lines.push(b'"');
                lines.extend_from_slice(text);
                lines.push(b'"');
            }
            before = b',';
        }
        lines.push(b'}');
        self.end_line(lines, start, cut);
    }

    /// Appends the record as a line of CSV.
    pub(super) fn append_csv(&self, lines: &mut Vec<u8>) {
        let start = lines.len();
        for text in &self.texts[..PROPERTIES] {
            lines.extend_from_slice(text);
            lines.push(b',');
        }
        let cut = lines.len() - 1;
        lines.push(b'"');
        for &byte in &self.texts[PROPERTIES] {
            if byte == b'"' {
                lines.push(b'"');
            }
            lines.push(byte);
        }
        lines.push(b'"');
        self.end_line(lines, start, cut);
    }

    /// Ends a line; a truncated one between its start and `cut`, where its last column begins.
    fn end_line(&self, lines: &mut Vec<u8>, start: usize, cut: usize) {
        if self.defect == Some(Defect::Truncated) {
            lines.truncate(start + (cut - start) / 2);
        }
        lines.push(b'\n');
    }
}

/// Spreads customer numbers over ten digits without two meeting: a multiplier without a factor of ten, and a shift.
fn scatter(customer: u32, shift: u64) -> u64 {
    const TEN_DIGITS: u64 = 10_000_000_000;
    (u64::from(customer) * 2_654_435_761 % TEN_DIGITS + shift % TEN_DIGITS) % TEN_DIGITS
}

fn push_email(text: &mut Vec<u8>, bits: u64, customer: u32, detail: u64) {
    const FIRST: [&str; 16] = [
        "anna", "ben", "clara", "david", "emma", "felix", "greta", "hugo", "ida", "jonas", "lea", "max", "nora",
        "oskar", "paula", "tom",
    ];
    const LAST: [&str; 16] = [
        "weber", "rossi", "dubois", "novak", "silva", "berg", "kowalski", "meyer", "garcia", "jansen", "horvat",
        "moreau", "olsen", "keller", "costa", "wagner",
    ];
    const HOSTS: [&str; 3] = ["example.com", "example.org", "example.net"];
    let start = text.len();
    text.push_str(FIRST[(bits & 15) as usize]);
    text.push(b'.');
    text.push_str(LAST[(bits >> 4 & 15) as usize]);
    text.push_number(u64::from(customer), 1);
    text.push(b'@');
    text.push_str(HOSTS[((bits >> 8) % 3) as usize]);
    if (detail >> 56) < 5 {
        // As some keyboards write it.
        text[start..start + 1].make_ascii_uppercase();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_customers_get_the_same_number() {
        let numbers: HashSet<u64> = (0..200_000).map(|customer| scatter(customer, u64::MAX)).collect();
        assert_eq!(numbers.len(), 200_000);
    }
}
