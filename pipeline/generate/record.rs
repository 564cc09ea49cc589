//! One delivery as the twenty columns of a file.

use chrono::{DateTime, Datelike, Timelike};

use super::customers::{Delivery, Population, Purpose, Touch, mix};
use super::world::{CAMPAIGNS, Channel};

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
    pub(super) texts: [String; COLUMNS.len()],
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

        push_hex(&mut texts[EVENT_ID], population.event_bits(Purpose::EventHigh, touch.number));
        push_hex(&mut texts[EVENT_ID], population.event_bits(Purpose::EventLow, touch.number));
        push_time(&mut texts[EVENT_TIME], population.clock.start() + touch.occurred);
        push_time(&mut texts[RECEIVED_TIME], population.clock.start() + touch.received);
        texts[SOURCE].push_str(channel.source());
        texts[CHANNEL].push_str(channel.name());
        texts[TOUCHPOINT].push_str(touchpoint.name);
        texts[DIRECTION].push_str(touchpoint.direction);
        texts[STAGE].push_str(touchpoint.stage);
        if let Some(device) = touch.device {
            texts[ANONYMOUS_ID].push(if is_app(channel) { 'i' } else { 'c' });
            push_hex(&mut texts[ANONYMOUS_ID], device);
        }
        if touch.is_logged_in {
            texts[USER_ID].push('u');
            push_hex(&mut texts[USER_ID], population.bits(Purpose::User, customer));
        }
        if touch.shows_email {
            push_email(&mut texts[EMAIL], population.bits(Purpose::Email, customer), customer, touch.detail);
        }
        if touch.shows_phone {
            texts[PHONE].push_str("+4915");
            push_padded(&mut texts[PHONE], scatter(customer, population.bits(Purpose::Phone, 0)), 10);
        }
        if touch.shows_loyalty {
            texts[LOYALTY_ID].push('L');
            push_padded(&mut texts[LOYALTY_ID], scatter(customer, population.bits(Purpose::Loyalty, 0)), 10);
        }
        if let Some(campaign) = touch.campaign {
            texts[CAMPAIGN].push_str(CAMPAIGNS[usize::from(campaign)].0);
        }
        texts[VARIANT].push_str(touch.variant.unwrap_or_default());
        if let Some(cents) = touch.cents {
            push_cents(&mut texts[VALUE], u64::from(cents));
            texts[CURRENCY].push_str("EUR");
        }
        if let Some((kind, score)) = touch.score {
            texts[SCORE_KIND].push_str(kind);
            push_padded(&mut texts[SCORE], u64::from(score), 1);
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
            let is_number = matches!(column, VALUE | SCORE) && self.defect != Some(Defect::WrongType);
            if is_number || column == PROPERTIES {
                lines.extend_from_slice(text.as_bytes());
            } else {
                lines.push(b'"');
                lines.extend_from_slice(text.as_bytes());
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
            lines.extend_from_slice(text.as_bytes());
            lines.push(b',');
        }
        let cut = lines.len() - 1;
        lines.push(b'"');
        for byte in self.texts[PROPERTIES].bytes() {
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

fn is_app(channel: Channel) -> bool {
    matches!(channel, Channel::MobileApp | Channel::Push)
}

/// Spreads customer numbers over ten digits without two meeting: a multiplier without a factor of ten, and a shift.
fn scatter(customer: u32, shift: u64) -> u64 {
    const TEN_DIGITS: u64 = 10_000_000_000;
    (u64::from(customer) * 2_654_435_761 % TEN_DIGITS + shift % TEN_DIGITS) % TEN_DIGITS
}

fn push_email(text: &mut String, bits: u64, customer: u32, detail: u64) {
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
    text.push('.');
    text.push_str(LAST[(bits >> 4 & 15) as usize]);
    push_padded(text, u64::from(customer), 1);
    text.push('@');
    text.push_str(HOSTS[((bits >> 8) % 3) as usize]);
    if (detail >> 56) < 5 {
        // As some keyboards write it.
        text[start..start + 1].make_ascii_uppercase();
    }
}

fn push_properties(text: &mut String, touch: &Touch, touchpoint: &str) {
    const QUERIES: [&str; 8] =
        ["winter jacket", "größe 42", "running shoes", "geschenk", "café table", "sale", "blue shirt", "laptop 14\\\""];
    let bits = touch.detail;
    let number = |position: u32, count: u64| (bits >> position & 0xffff) * count >> 16;
    match touch.place.channel {
        Channel::Web | Channel::MobileApp => {
            text.push_str("{\"page\":\"/");
            if matches!(touchpoint, "product_view" | "add_to_cart" | "review_read" | "wishlist_add" | "size_guide") {
                text.push_str("p/");
                push_padded(text, number(0, 70) * number(16, 70), 1);
            } else {
                text.push_str(touchpoint);
            }
            if touchpoint == "search" {
                text.push_str("\",\"query\":\"");
                text.push_str(QUERIES[number(0, 8) as usize]);
            }
            text.push_str("\",\"device\":{\"os\":\"");
            let installation = mix(touch.device.unwrap_or_default());
            let (os, screen) = match (is_app(touch.place.channel), installation % 5) {
                (true, 0..=2) => ("android", "412x915"),
                (true, _) => ("ios", "390x844"),
                (false, 0 | 1) => ("windows", "1920x1080"),
                (false, 2) => ("macos", "1440x900"),
                (false, 3) => ("android", "360x800"),
                (false, _) => ("ios", "393x852"),
            };
            text.push_str(os);
            text.push_str("\",\"screen\":\"");
            text.push_str(screen);
            text.push_str("\"},\"load_ms\":");
            push_padded(text, 40 + number(32, 60) * number(48, 40), 1);
            if touchpoint == "purchase" {
                text.push_str(",\"items\":");
                push_padded(text, 1 + number(0, 5), 1);
            }
        }
        Channel::Email | Channel::Sms | Channel::Push => {
            text.push_str("{\"message\":\"m-");
            push_padded(text, number(0, 900), 4);
            text.push_str("\",\"client\":{\"name\":\"");
            text.push_str(["mail", "webmail", "phone"][number(16, 3) as usize]);
            text.push_str("\",\"proxy\":");
            text.push_str(["true", "false", "false"][number(32, 3) as usize]);
            text.push('}');
        }
        Channel::Social | Channel::PaidSearch | Channel::Display => {
            text.push_str("{\"placement\":\"");
            text.push_str(["feed", "story", "top", "sidebar"][number(0, 4) as usize]);
            text.push_str("\",\"creative\":{\"id\":");
            push_padded(text, number(16, 240), 1);
            text.push_str(",\"format\":\"");
            text.push_str(["image", "video", "text"][number(32, 3) as usize]);
            text.push_str("\"}");
        }
        Channel::CallCenter | Channel::Chat => {
            text.push_str("{\"queue\":\"");
            text.push_str(["orders", "billing", "returns", "advice"][number(0, 4) as usize]);
            text.push_str("\",\"wait_seconds\":");
            push_padded(text, number(16, 40) * number(32, 20), 1);
            text.push_str(",\"agent\":{\"team\":");
            push_padded(text, 1 + number(48, 12), 1);
            text.push('}');
        }
        Channel::Store | Channel::Kiosk => {
            text.push_str("{\"store\":{\"id\":\"S");
            push_padded(text, 1 + number(0, 140), 3);
            text.push_str("\",\"till\":");
            push_padded(text, 1 + number(16, 8), 1);
            text.push('}');
        }
    }
    text.push('}');
}

/// Appends 16 hexadecimal digits.
fn push_hex(text: &mut String, bits: u64) {
    for position in (0..16).rev() {
        text.push(char::from(b"0123456789abcdef"[(bits >> (position * 4) & 15) as usize]));
    }
}

/// Appends a number with at least so many digits.
fn push_padded(text: &mut String, number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    let mut rest = number;
    while rest > 0 || digits.len() - first < width {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    for digit in &digits[first..] {
        text.push(char::from(*digit));
    }
}

/// Appends an amount with two decimals.
fn push_cents(text: &mut String, cents: u64) {
    push_padded(text, cents / 100, 1);
    text.push('.');
    push_padded(text, cents % 100, 2);
}

/// Appends microseconds since 1970 as `2025-01-31T08:15:00.000000Z`.
fn push_time(text: &mut String, micros: i64) {
    let time = DateTime::from_timestamp_micros(micros).expect("options keep times within four-digit years");
    let fields = [
        ('-', u64::from(time.year().unsigned_abs()), 4),
        ('-', u64::from(time.month()), 2),
        ('T', u64::from(time.day()), 2),
        (':', u64::from(time.hour()), 2),
        (':', u64::from(time.minute()), 2),
        ('.', u64::from(time.second()), 2),
        ('Z', u64::from(time.timestamp_subsec_micros()), 6),
    ];
    for (after, number, width) in fields {
        push_padded(text, number, width);
        text.push(after);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn times_and_amounts_are_written_with_all_their_digits() {
        let mut text = String::new();
        push_time(&mut text, 1_738_311_300_000_070);
        assert_eq!(text, "2025-01-31T08:15:00.000070Z");
        text.clear();
        push_cents(&mut text, 120_005);
        assert_eq!(text, "1200.05");
    }

    #[test]
    fn no_two_customers_get_the_same_number() {
        let numbers: HashSet<u64> = (0..200_000).map(|customer| scatter(customer, u64::MAX)).collect();
        assert_eq!(numbers.len(), 200_000);
    }
}
