//! The oracle of the tests: the definition of a match, and every way to match tried one after another.

use proptest::prelude::*;

use super::backward::Row;
use super::pattern::{Item, Pattern, Span};

/// Time and conditions.
pub(super) type Event = (i64, u32);

impl Row for Event {
    fn time(&self) -> i64 {
        self.0
    }

    fn conditions(&self) -> u32 {
        self.1
    }
}

/// A pattern whose time terms are numbers in the unit of the events' times.
pub(super) fn pattern(text: &str) -> Pattern {
    Pattern::parse(text, 32, |span| match span {
        Span::Number(number) => Ok(number),
        Span::Interval(text) => Err(format!("no {text} here")),
    })
    .unwrap()
}

/// Tries every way to match, in the order of the definition: item by item, each run and gap as short as can be.
pub(super) struct Search<'a> {
    items: &'a [Item],
    events: &'a [Event],
    taken: Vec<usize>,
    /// Where each match ends, and what its conditions take.
    matches: Vec<(usize, Vec<usize>)>,
    /// The first of the longest chains.
    longest: Vec<usize>,
}

impl Search<'_> {
    /// Every match of the items from `item` on, at `position`; `last` is the row taken last, or behind the last run.
    fn run(&mut self, item: usize, position: usize, last: usize) {
        if self.taken.len() > self.longest.len() {
            self.longest = self.taken.clone();
        }
        let is_over = position == self.events.len();
        match self.items.get(item) {
            None => self.matches.push((position, self.taken.clone())),
            Some(Item::Any) if !is_over => self.run(item + 1, position + 1, position),
            Some(Item::Condition(condition)) if !is_over && self.events[position].1 >> condition & 1 == 1 => {
                self.taken.push(position);
                self.run(item + 1, position + 1, position);
                self.taken.pop();
            }
            Some(Item::Run) if is_over => self.run(item + 1, position, last),
            Some(Item::Run) => {
                (position..self.events.len()).for_each(|stop| self.run(item + 1, stop, stop));
            }
            Some(Item::Gap(gap)) if is_over && gap.holds_at_the_end() => self.run(item + 1, position, last),
            Some(Item::Gap(gap)) => {
                for stop in position..self.events.len() {
                    if gap.holds((self.events[stop].0 - self.events[last].0) as u64) {
                        self.run(item + 1, stop, stop);
                    }
                }
            }
            _ => {}
        }
    }

    /// Every match in order: where it ends, and what its conditions take. And the first of the longest chains.
    pub(super) fn all(pattern: &Pattern, events: &[Event]) -> (Vec<(usize, Vec<usize>)>, Vec<usize>) {
        let (taken, matches, longest) = (vec![], vec![], vec![]);
        let mut search = Search { items: &pattern.items, events, taken, matches, longest };
        search.run(0, 0, 0);
        (search.matches, search.longest)
    }
}

/// Match, count and chain by the definition.
pub(super) fn naive(pattern: &Pattern, events: &[Event]) -> (bool, i64, Vec<i64>) {
    let (matches, longest) = Search::all(pattern, events);
    let chain = matches.first().map_or(longest, |(_, chain)| chain.clone());
    let (mut count, mut rest) = (0, events);
    while !rest.is_empty()
        && let Some((end, _)) = Search::all(pattern, rest).0.first()
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
pub(super) fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(item(), 0..7).prop_map(|mut items| {
        items.dedup_by(|left, right| left.starts_with("(?t") && right.starts_with("(?t"));
        items.concat()
    })
}
