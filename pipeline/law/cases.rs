//! Events at random for the law: many small cases in one lake. Their customers never meet, so each is a trial of its own,
//! and one run tries them all. `tests/it/law.rs` takes them too.

use std::fmt::Write;
use std::ops::Range;

/// Files of a lake.
pub const FILES: usize = 4;

/// How every case is configured; where its lake lies is said elsewhere.
pub const PROJECT: &str = r#"
[[sources]]
name = "web"
path = "landing-zone/*.jsonl"
[sources.event]
event_id    = "id"
occurred_at = "ts"
received_at = "received"
touchpoint  = "event"
channel     = "channel"
value       = "value"
score_kind  = "kind"
score       = "score"
direction   = "'inbound'"
identifiers = { anonymous_id = "anon", email = "email", user_id = "user_no" }

[identity]
limits          = { user_id = 1, email = 2 }
max_links       = 3
max_identifiers = 7

[sessions]
timeout = "30m"
[journeys]
timeout = "10d"
goal    = ["buy", "shop:sign:up"]
[stages]
discovery  = ["home", "view"]
conversion = ["cart", "buy"]

[[funnels]]
name   = "shop"
steps  = ["home|view", "cart", "buy"]
window = "1d"
[[funnels]]
name   = "again"
steps  = ["*", "web:view"]
window = "2h"
"#;

/// The least that two times differ by. Medians and means of such times have few digits, so that those that the oracle is
/// compared by do not depend on how a half is rounded.
const TICK: u64 = 200;
const MINUTE: u64 = 60_000_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// 31 March 2025: the newest event of most cases lies at or before it.
pub const END: u64 = 1_743_379_200_000_000;

/// Numbers by xorshift: the same everywhere for the same seed.
pub struct Chance(u64);

impl Chance {
    /// Numbers told by a seed and the part of the lake that they are for.
    pub fn new(seed: u64, part: u64) -> Self {
        let mixed = (seed + 1000).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (part + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mut chance = Self(mixed | 1);
        // The first numbers of near seeds are near each other.
        for _ in 0..4 {
            chance.below(1);
        }
        chance
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// Whether one in so many comes true.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// One of some choices.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A number that a variable of the environment tells.
pub fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("the variable is a number"))
}

/// What lands in one lake.
pub struct Cases {
    seed: u64,
    numbers: Range<u64>,
    /// Whether one cookie is seen in all cases, so that they are one component, and not in each another.
    has_one_kiosk: bool,
}

impl Cases {
    /// So many cases; `WAYLINE_LAW_CASE` leaves one of them.
    pub fn new(seed: u64, count: u64) -> Self {
        let numbers = asked("WAYLINE_LAW_CASE").map_or(0..count, |case| case..case + 1);
        Self { seed, numbers, has_one_kiosk: seed.is_multiple_of(3) }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.numbers.end - self.numbers.start
    }

    /// Lines of each file: a few people to each case, ties, late and future events, copies, broken records; and one event
    /// that lets the time of the lake go on.
    pub fn files(&self) -> Vec<String> {
        let mut files = vec![String::new(); FILES];
        for case in self.numbers.clone() {
            self.add_case(case, &mut files);
        }
        let mut chance = Chance::new(self.seed, u64::MAX - 1);
        let mut now = END;
        for (number, file) in files.iter_mut().enumerate() {
            now += chance.of(&[0, 0, 2 * HOUR, DAY, 10 * DAY, 10 * DAY + 1, 60 * DAY]);
            if !chance.one_in(3) {
                let (time, received) = (instant(now), instant(now + 1));
                let line = format!(
                    r#"{{"id":"clock-{number}","ts":"{time}","received":"{received}","event":"tick","channel":"shop","user_no":"clock"}}"#
                );
                file.push_str(&line);
                file.push('\n');
            }
        }
        files[0].push_str("{\"id\":\"broken\n");
        files
    }

    fn add_case(&self, case: u64, files: &mut [String]) {
        let mut chance = Chance::new(self.seed, case);
        // Journeys of some cases are open in the end, and of some at the very limit of it.
        let end = END - chance.of(&[0, 0, HOUR, 10 * DAY, 10 * DAY + 1, case % 60 * DAY, 40 * DAY]);
        for person in 0..chance.below(5) + 4 {
            let mut time = end - chance.below(3) * DAY;
            let comes_from_the_future = chance.one_in(8);
            for touch in 0..chance.below(12) + 1 {
                time -= gap(&mut chance);
                let (mut occurred, mut received) = (time, time + 1_000_000);
                match chance.below(12) {
                    0 => received = time + 25 * HOUR,
                    1 => received = time - 25 * HOUR,
                    2 if comes_from_the_future => occurred = time + chance.of(&[25 * HOUR, 30 * DAY, 400 * DAY]),
                    _ => {}
                }
                let id = format!("case{case}-{person}-{}", touch * 7 % 12);
                let line = self.line(&mut chance, case, person, &id, [occurred, received]);
                for _ in 0..1 + chance.below(8) / 7 {
                    files[chance.below(FILES as u64) as usize].push_str(&line);
                }
            }
        }
    }

    fn line(&self, chance: &mut Chance, case: u64, person: u64, id: &str, [occurred, received]: [u64; 2]) -> String {
        let mut line = format!(
            r#"{{"id":"{id}","ts":"{}","received":"{}","event":"{}","channel":"{}""#,
            instant(occurred),
            instant(received),
            chance.of(&["home", "view", "view", "cart", "buy", "sign:up"]),
            chance.of(&["web", "web", "shop"]),
        );
        match chance.below(6) {
            0 => write!(line, r#","anon":"{}""#, self.kiosk(case)).unwrap(),
            1 | 2 => write!(line, r#","anon":"case{case}-a{person}-{}""#, chance.below(6)).unwrap(),
            _ => {}
        }
        if chance.one_in(2) {
            write!(line, r#","user_no":"case{case}-u{person}""#).unwrap();
        }
        if chance.one_in(4) {
            write!(line, r#","email":"case{case}-m{}@example.com""#, chance.below(6)).unwrap();
        }
        if chance.one_in(3) {
            write!(line, r#","value":"{}.{:02}""#, chance.below(90), chance.below(100)).unwrap();
        }
        if chance.one_in(4) {
            write!(line, r#","kind":"{}","score":{}"#, chance.of(&["csat", "nps"]), chance.below(6)).unwrap();
        }
        line.push_str("}\n");
        line
    }

    fn kiosk(&self, case: u64) -> String {
        if self.has_one_kiosk { "kiosk".into() } else { format!("case{case}-kiosk") }
    }

    /// Rulings on people of some cases, as the journal keeps them, in its order; each with the number of files that are
    /// there when it is made. Some are on identifiers that come later or never.
    pub fn rulings(&self) -> Vec<(usize, String)> {
        let mut rulings = Vec::new();
        for case in self.numbers.clone() {
            let mut chance = Chance::new(self.seed, u64::MAX / 2 - case);
            if self.seed.is_multiple_of(2) && chance.one_in(4) {
                for _ in 0..chance.below(3) + 1 {
                    let after = chance.below(FILES as u64 + 1) as usize;
                    let verdict = chance.of(&["link", "split"]);
                    let [from, to] = [(), ()].map(|()| self.identifier(&mut chance, case));
                    rulings.push((after, format!(r#""verdict":"{verdict}","from":{from},"to":{to}"#)));
                }
            }
        }
        rulings.sort_by_key(|(after, _)| *after);
        let told = r#""reason":"the law","ruled_by":"chance","ruled_at":"2025-04-01T00:00:00Z""#;
        let numbered = |(number, (after, what))| (after, format!(r#"{{"number":{number},{what},{told}}}"#));
        (1..).zip(rulings).map(numbered).collect()
    }

    fn identifier(&self, chance: &mut Chance, case: u64) -> String {
        let (person, number) = (chance.below(4), chance.below(6));
        let (kind, value) = match chance.below(6) {
            0 => ("anonymous_id", self.kiosk(case)),
            1 | 2 => ("anonymous_id", format!("case{case}-a{person}-{number}")),
            3 => ("email", format!("case{case}-m{number}@example.com")),
            _ => ("user_id", format!("case{case}-u{person}")),
        };
        format!(r#"{{"kind":"{kind}","value":"{value}"}}"#)
    }
}

/// Gaps around those at which something begins.
fn gap(chance: &mut Chance) -> u64 {
    chance.of(&[0, TICK, MINUTE, 30 * MINUTE, 2 * HOUR, DAY, 10 * DAY]) + chance.of(&[0, TICK])
}

/// The case of which an id or an identifier in a text is.
pub fn case_in(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("case")?;
    rest.split('-').next()?.parse().ok()
}

fn instant(micros: u64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros.cast_signed()).unwrap();
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}
