//! The oracle of the tests: the definition of a match, and every way to match tried one after another. It reads patterns by
//! itself; nothing of the implementation is used.

use proptest::prelude::*;

/// Time and conditions.
pub(in super::super) type Event = (i64, u32);

/// One item of a pattern.
#[derive(Debug, Clone)]
enum Part {
    Condition(u32),
    Any,
    Run,
    Gap { sign: String, span: u64 },
}

/// The items of a pattern without blanks, whose spans are numbers; before them the run that lets a match begin anywhere.
fn parts(text: &str) -> Vec<Part> {
    let mut parts = vec![Part::Run];
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(".*") {
            parts.push(Part::Run);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            parts.push(Part::Any);
            rest = after;
        } else {
            let (inside, after) = rest.strip_prefix("(?").unwrap().split_once(')').unwrap();
            parts.push(match inside.strip_prefix('t') {
                None => Part::Condition(inside.parse::<u32>().unwrap() - 1),
                Some(term) => {
                    let digits = term.find(|character: char| character.is_ascii_digit()).unwrap();
                    Part::Gap { sign: term[..digits].to_owned(), span: term[digits..].parse().unwrap() }
                }
            });
            rest = after;
        }
    }
    parts
}

fn holds(sign: &str, distance: u64, span: u64) -> bool {
    match sign {
        "<=" => distance <= span,
        "<" => distance < span,
        ">" => distance > span,
        ">=" => distance >= span,
        "==" => distance == span,
        _ => distance != span,
    }
}

fn holds_at_the_end(sign: &str, span: u64) -> bool {
    sign == "<=" || sign == "<" || (sign == ">=" && span == 0)
}

/// Tries every way to match, in the order of the definition: item by item, each run and gap as short as can be.
struct Search<'a> {
    parts: &'a [Part],
    events: &'a [Event],
    taken: Vec<usize>,
    found: Found,
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Where each match ends, and what its conditions take.
    pub matches: Vec<(usize, Vec<usize>)>,
    /// What the conditions take in the first of the longest chains.
    pub longest: Vec<usize>,
}

impl Search<'_> {
    /// Every match of the items from `part` on, at `position`; `last` is the row taken last, or behind the last run.
    fn run(&mut self, part: usize, position: usize, last: usize) {
        if self.taken.len() > self.found.longest.len() {
            self.found.longest = self.taken.clone();
        }
        let is_over = position == self.events.len();
        match self.parts.get(part) {
            None => self.found.matches.push((position, self.taken.clone())),
            Some(Part::Any) if !is_over => self.run(part + 1, position + 1, position),
            Some(Part::Condition(condition)) if !is_over && self.events[position].1 >> condition & 1 == 1 => {
                self.taken.push(position);
                self.run(part + 1, position + 1, position);
                self.taken.pop();
            }
            Some(Part::Run) if is_over => self.run(part + 1, position, last),
            Some(Part::Run) => {
                (position..self.events.len()).for_each(|stop| self.run(part + 1, stop, stop));
            }
            Some(Part::Gap { sign, span }) if is_over && holds_at_the_end(sign, *span) => {
                self.run(part + 1, position, last);
            }
            Some(Part::Gap { sign, span }) => {
                for stop in position..self.events.len() {
                    if holds(sign, (self.events[stop].0 - self.events[last].0) as u64, *span) {
                        self.run(part + 1, stop, stop);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Every match in order, and the longest chain.
pub(super) fn search(text: &str, events: &[Event]) -> Found {
    let parts = parts(text);
    let mut search = Search { parts: &parts, events, taken: vec![], found: Found::default() };
    search.run(0, 0, 0);
    search.found
}

/// Match, count and the times of the chain by the definition, of rows in order that each meet a condition.
pub(in super::super) fn naive(text: &str, events: &[Event]) -> (bool, i64, Vec<i64>) {
    let Found { matches, longest } = search(text, events);
    let chain = matches.first().map_or(longest, |(_, chain)| chain.clone());
    let (mut count, mut rest) = (0, events);
    while !rest.is_empty()
        && let Some((end, _)) = search(text, rest).matches.first()
    {
        count += 1;
        rest = &rest[(*end).max(1)..];
    }
    (!matches.is_empty(), count, chain.into_iter().map(|position| events[position].0).collect())
}

fn item() -> impl Strategy<Value = String> {
    let sign = prop::sample::select(vec!["<=", ">=", "<", ">", "==", "!="]);
    prop_oneof![
        5 => (1u32..=3).prop_map(|condition| format!("(?{condition})")),
        1 => Just(".".to_owned()),
        2 => Just(".*".to_owned()),
        3 => (sign, 0u64..5).prop_map(|(sign, span)| {
            let span = if sign == "<" { span + 1 } else { span };
            format!("(?t{sign}{span})")
        }),
    ]
}

/// Patterns over three conditions.
pub(in super::super) fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(item(), 0..7).prop_map(|mut items| {
        items.dedup_by(|left, right| left.starts_with("(?t") && right.starts_with("(?t"));
        items.concat()
    })
}

/// A pattern over three conditions as one over three others: the first is named by `names[0]`, from 1, and so on.
pub(in super::super) fn renamed(text: &str, names: &[u32]) -> String {
    let marked =
        (1..=3).fold(text.to_owned(), |text, name| text.replace(&format!("(?{name})"), &format!("(?#{name})")));
    (1..=3).fold(marked, |text, name| text.replace(&format!("(?#{name})"), &format!("(?{})", names[name as usize - 1])))
}
