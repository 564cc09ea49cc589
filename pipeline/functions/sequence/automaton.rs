//! Patterns without time terms: all the ways to match at once, as the bits of one word.
//!
//! State `i` stands for "the first `i` row-taking items have taken their rows". A row moves every state that may take it
//! one up, and keeps those that a `.*` follows: shift-and with loops (Baeza-Yates and Gonnet, *A new approach to text
//! searching*, 1992; Navarro and Raffinot, *Flexible pattern matching in strings*, 2002, section 4.2).

use super::pattern::{Item, Pattern};

/// The most row-taking items whose states fit a word.
const MOST_TAKING: usize = 63;

/// A pattern without time terms.
#[derive(Debug, Clone)]
pub(super) struct Automaton {
    /// The states that a row leaves upwards by each condition.
    by_condition: [u64; 32],
    /// The states that any row leaves upwards.
    by_any: u64,
    /// The states that a run keeps.
    kept: u64,
    /// The conditions of the pattern.
    wanted: u32,
    /// How many row-taking items there are: the last state.
    taking: usize,
}

impl Automaton {
    /// The automaton of a pattern; `None` if it has a time term, or too many items.
    pub(super) fn new(pattern: &Pattern) -> Option<Self> {
        let mut automaton = Self { by_condition: [0; 32], by_any: 0, kept: 0, wanted: pattern.wanted(), taking: 0 };
        for item in &pattern.items {
            let state = 1 << automaton.taking;
            match item {
                Item::Run => automaton.kept |= state,
                Item::Gap(_) => return None,
                Item::Any => automaton.by_any |= state,
                Item::Condition(condition) => automaton.by_condition[*condition as usize] |= state,
            }
            automaton.taking += usize::from(matches!(item, Item::Any | Item::Condition(_)));
            if automaton.taking > MOST_TAKING {
                return None;
            }
        }
        Some(automaton)
    }

    /// Whether a match exists among rows that meet these conditions.
    pub(super) fn matches(&self, rows: impl Iterator<Item = u32>) -> bool {
        self.furthest(rows) == self.taking
    }

    /// How many of the row-taking items take rows, at most.
    pub(super) fn furthest(&self, rows: impl Iterator<Item = u32>) -> usize {
        let last = 1 << self.taking;
        let (mut states, mut reached) = (1, 1);
        for row in rows {
            states = self.step(states, row);
            reached |= states;
            if states & last != 0 {
                return self.taking;
            }
        }
        reached.ilog2() as usize
    }

    /// How many matches there are, one after another.
    ///
    /// Each is the one that ends first, which without time terms is also the one that begins first and has the shortest
    /// runs. One that takes no row counts for every row.
    pub(super) fn count(&self, rows: impl Iterator<Item = u32>) -> i64 {
        if self.taking == 0 {
            return rows.count() as i64;
        }
        let last = 1 << self.taking;
        let (mut states, mut count) = (1, 0);
        for row in rows {
            states = self.step(states, row);
            if states & last != 0 {
                count += 1;
                states = 1;
            }
        }
        count
    }

    #[inline]
    fn step(&self, states: u64, row: u32) -> u64 {
        let mut moved = self.by_any;
        let mut met = row & self.wanted;
        while met != 0 {
            moved |= self.by_condition[met.trailing_zeros() as usize];
            met &= met - 1;
        }
        (states & moved) << 1 | states & self.kept
    }
}
