//! The search for one match from one row on: backtracking in the order of preference, with a memory of failures.
//!
//! A match is the first way through the program that reaches its end. A state is an instruction, a row, and which of the
//! loops around the instruction have taken a row in their present round (if one has, those around it have too, so a
//! number tells). That a state has failed is remembered, so that no state is tried twice where the outcome can depend on
//! nothing else. How much may be remembered is for the conditions to say ([`Reach`]):
//! - conditions that look at their row alone (and rows at fixed distances): failures hold for the whole partition, and
//!   the search takes at most states × rows steps in all, plus the rows of the matches. Where a start has no match and its
//!   furthest attempt is wanted, a second search goes through what failed before: attempts that do not overlap add as many
//!   steps again. Where a span limits the rows of a match, failures hold for one start, but no row is taken that leads to
//!   no match within the span ([`Ends`]): the search goes through the rows of matches, and of attempts, only;
//! - conditions that look at chosen rows of the match, such as the last row of another variable: failures hold for one
//!   start and for the same chosen rows;
//! - conditions that look at all rows of the match (aggregates): nothing is remembered, and the search may need time
//!   exponential in the rows.
//!
//! A budget of steps per partition ends any search that goes too far: [`BUDGET`] + [`BUDGET_PER_ROW`] × rows.

use std::collections::HashSet;

use super::ends::Ends;
use super::program::{Instruction, Label, Program};

/// Steps that a partition may take, however few its rows.
pub(super) const BUDGET: u64 = 2_000_000;

/// Further steps for each row of the partition.
pub(super) const BUDGET_PER_ROW: u64 = 5_000;

/// What the evaluation of a condition on the match costs, in steps.
const COST_OF_CONDITION: u64 = 10;

/// Failures that a start may remember by their signatures; the search goes on without memory beyond.
const MOST_REMEMBERED: usize = 1_000_000;

/// What the conditions of the variables look at, beside their own row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing of the match.
    Row,
    /// Rows of the match that a signature can name.
    ChosenRows,
    /// All rows of the match.
    Match,
}

/// The conditions of the variables over the rows of one partition.
pub(super) trait Conditions {
    /// What can go wrong in a condition.
    type Error;

    /// The number of rows of the partition.
    fn rows(&self) -> usize;

    /// What the conditions look at.
    fn reach(&self) -> Reach;

    /// Whether the last row of the path may bear its label.
    fn hold(&mut self, path: &Path) -> Result<bool, Self::Error>;

    /// Appends what the future of a path depends on, beside the instruction and the row.
    fn sign(&self, path: &Path, signature: &mut Vec<u32>);

    /// The first row that a match may not take, for a match that starts at `start`; never falls as `start` grows.
    fn limit(&mut self, start: usize) -> usize;

    /// A match with this number is looked for next.
    fn begin(&mut self, number: u64);
}

/// The rows of a match, or of an attempt at one: they follow one another from `start`.
#[derive(Debug, Default)]
pub(super) struct Path {
    pub(super) start: usize,
    pub(super) labels: Vec<Label>,
    /// Rows of each variable, in order; empty when the conditions look at rows alone.
    pub(super) rows_of: Vec<Vec<u32>>,
    /// Tells one taking of a row from another; empty when the conditions look at rows alone.
    pub(super) stamps: Vec<u64>,
    stamp: u64,
    is_traced: bool,
}

impl Path {
    fn new(variables: usize, is_traced: bool) -> Self {
        Self { rows_of: vec![Vec::new(); variables], is_traced, ..Self::default() }
    }

    /// The row after the last.
    pub(super) fn end(&self) -> usize {
        self.start + self.labels.len()
    }

    pub(super) fn restart(&mut self, start: usize) {
        self.truncate(0);
        self.start = start;
    }

    pub(super) fn push(&mut self, label: Label) {
        if self.is_traced {
            let row = self.end() as u32;
            self.rows_of[usize::from(label.variable)].push(row);
            self.stamp += 1;
            self.stamps.push(self.stamp);
        }
        self.labels.push(label);
    }

    fn truncate(&mut self, length: usize) {
        if self.is_traced {
            for label in &self.labels[length..] {
                self.rows_of[usize::from(label.variable)].pop();
            }
            self.stamps.truncate(length);
        }
        self.labels.truncate(length);
    }
}

/// Why a search ended without an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure<E> {
    /// The budget of steps is used up.
    Exhausted { steps: u64 },
    /// A match resumes at its own first row, which never ends.
    SkipToFirstRow,
    /// A match resumes at a variable that none of its rows bears.
    SkipToMissing,
    /// A condition failed.
    Condition(E),
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Self::Condition(error)
    }
}

/// What is still to be tried, or to be put back, on the way back.
enum Frame {
    Way { instruction: u32, row: usize, trail: usize },
    Round { round: u32, entered_at: usize },
}

/// Failures, as far as they may be remembered.
enum Memory {
    /// One bit per row and state; `first` is the first state of each instruction, then their number. `tried` are the
    /// states of a search for the furthest attempt alone; empty if there is none. The search has come to the row `furthest`.
    Bits {
        words: Vec<u64>,
        tried: Vec<u64>,
        first: Vec<usize>,
        trail: Vec<usize>,
        furthest: usize,
    },
    Signatures {
        failed: HashSet<Box<[u32]>>,
        scratch: Vec<u32>,
    },
    Nothing,
}

/// A search over one partition.
pub(super) struct Search<'a, C: Conditions> {
    program: &'a Program,
    pub(super) conditions: &'a mut C,
    memory: Memory,
    /// Where matches can end, if a span limits them and the conditions look at their row alone.
    ends: Option<Ends<'a>>,
    /// Whether failures of one start hold for the next ones.
    is_memory_kept: bool,
    frames: Vec<Frame>,
    rounds: Vec<usize>,
    path: Path,
    /// Whether the furthest attempt of the search is wanted.
    wants_attempt: bool,
    /// The attempt that took the most rows, the preferred among equals; if it is wanted.
    furthest: Vec<Label>,
    /// How many labels of `furthest` are those of `path`.
    shared: usize,
    steps: u64,
    budget: u64,
}

impl<'a, C: Conditions> Search<'a, C> {
    /// `is_limited`: rows are withheld from some starts; `may_want_attempts`: the furthest attempts of some are wanted.
    pub(super) fn new(
        program: &'a Program,
        conditions: &'a mut C,
        variables: usize,
        is_limited: bool,
        may_want_attempts: bool,
    ) -> Result<Self, C::Error> {
        let rows = conditions.rows();
        let conditions_reach = conditions.reach();
        let mut path = Path::new(variables, conditions_reach != Reach::Row);
        let ends = match conditions_reach {
            Reach::Row if is_limited => {
                let places = program.places();
                places.map(|places| Ends::new(places, conditions, &mut path)).transpose()?
            }
            _ => None,
        };
        let memory = match conditions_reach {
            Reach::Row => {
                let mut first = vec![0];
                first.extend(program.loops.iter().scan(0, |states, loops| {
                    *states += loops.len() + 1;
                    Some(*states)
                }));
                let bits = (rows + 1) * first[program.instructions.len()];
                let words = vec![0; bits.div_ceil(64)];
                let tried = if may_want_attempts && !is_limited { words.clone() } else { Vec::new() };
                Memory::Bits { words, tried, first, trail: Vec::new(), furthest: 0 }
            }
            Reach::ChosenRows => Memory::Signatures { failed: HashSet::new(), scratch: Vec::new() },
            Reach::Match => Memory::Nothing,
        };
        Ok(Self {
            program,
            conditions,
            memory,
            ends,
            is_memory_kept: !is_limited,
            frames: Vec::new(),
            rounds: vec![0; program.rounds],
            path,
            wants_attempt: false,
            furthest: Vec::new(),
            shared: 0,
            steps: 0,
            budget: BUDGET + BUDGET_PER_ROW * rows as u64,
        })
    }

    /// The preferred match that starts at a row; if there is none and it is wanted, [`Search::furthest`] is the attempt.
    pub(super) fn find(&mut self, start: usize, wants_attempt: bool) -> Result<Option<&[Label]>, Failure<C::Error>> {
        // Where a search leaves out what leads to no match, only a start without one looks for its attempt.
        let looks_again = wants_attempt && (self.remembers_tried() || self.ends.is_some());
        let mut is_found = self.search(start, wants_attempt && !looks_again)?;
        if looks_again && !is_found {
            is_found = self.search(start, true)?;
        }
        Ok(is_found.then_some(&self.path.labels))
    }

    fn remembers_tried(&self) -> bool {
        matches!(&self.memory, Memory::Bits { tried, .. } if !tried.is_empty())
    }

    fn search(&mut self, start: usize, wants_attempt: bool) -> Result<bool, Failure<C::Error>> {
        self.path.restart(start);
        self.frames.clear();
        self.shared = 0;
        self.wants_attempt = wants_attempt;
        self.furthest.clear();
        if let Memory::Bits { furthest, .. } = &mut self.memory {
            *furthest = start;
        }
        let limit = self.conditions.limit(start);
        let is_found = self.run(start, limit)?;
        self.forget(start, is_found);
        Ok(is_found)
    }

    /// The attempt of the last search that took the most rows; empty if it was not wanted.
    pub(super) fn furthest(&self) -> &[Label] {
        &self.furthest
    }

    fn run(&mut self, start: usize, limit: usize) -> Result<bool, Failure<C::Error>> {
        let rows = self.conditions.rows();
        let (mut at, mut row) = (0u32, start);
        loop {
            self.steps += 1;
            if self.steps > self.budget {
                return Err(Failure::Exhausted { steps: self.budget });
            }
            let goes_on = match self.program.instructions[at as usize] {
                Instruction::Accept => return Ok(true),
                Instruction::Jump(target) => {
                    at = target;
                    true
                }
                Instruction::Split { preferred, other } => {
                    let is_new = self.is_new(at, row);
                    if is_new {
                        let trail = self.trail();
                        self.frames.push(Frame::Way { instruction: other, row, trail });
                        at = preferred;
                    }
                    is_new
                }
                Instruction::Row(label) => {
                    let leads_on = |ends: &Ends| self.wants_attempt || ends.are_within(limit, row, at);
                    let is_taken = row < limit
                        && self.ends.as_ref().is_none_or(leads_on)
                        && self.is_new(at, row)
                        && self.take(label)?;
                    if is_taken {
                        row += 1;
                        at += 1;
                    }
                    is_taken
                }
                Instruction::Enter { round } => {
                    let entered_at = std::mem::replace(&mut self.rounds[round as usize], row);
                    self.frames.push(Frame::Round { round, entered_at });
                    at += 1;
                    true
                }
                Instruction::Again { round, head } => {
                    at = head;
                    self.rounds[round as usize] < row
                }
                Instruction::Start => {
                    at += 1;
                    row == 0
                }
                Instruction::End => {
                    at += 1;
                    row == rows
                }
            };
            if !goes_on {
                match self.go_back() {
                    Some(way) => (at, row) = way,
                    None => return Ok(false),
                }
            }
        }
    }

    /// Takes the next row if the condition of the label holds.
    fn take(&mut self, label: Label) -> Result<bool, Failure<C::Error>> {
        if self.conditions.reach() != Reach::Row {
            self.steps += COST_OF_CONDITION;
        }
        self.path.push(label);
        if !self.conditions.hold(&self.path)? {
            self.path.truncate(self.path.labels.len() - 1);
            return Ok(false);
        }
        let length = self.path.labels.len();
        if self.wants_attempt && length > self.furthest.len() {
            self.furthest.truncate(self.shared);
            self.furthest.extend_from_slice(&self.path.labels[self.shared..]);
            self.shared = length;
        }
        Ok(true)
    }

    /// The last way that was left untried.
    fn go_back(&mut self) -> Option<(u32, usize)> {
        while let Some(frame) = self.frames.pop() {
            match frame {
                Frame::Round { round, entered_at } => self.rounds[round as usize] = entered_at,
                Frame::Way { instruction, row, trail } => {
                    let length = row - self.path.start;
                    self.path.truncate(length);
                    self.shared = self.shared.min(length);
                    if let Memory::Bits { trail: states, .. } = &mut self.memory {
                        states.truncate(trail);
                    }
                    return Some((instruction, row));
                }
            }
        }
        None
    }

    fn trail(&self) -> usize {
        match &self.memory {
            Memory::Bits { trail, .. } => trail.len(),
            _ => 0,
        }
    }

    /// Whether a state was not tried yet; it is from now on.
    fn is_new(&mut self, at: u32, row: usize) -> bool {
        let loops = &self.program.loops[at as usize];
        let moved = loops.iter().take_while(|round| self.rounds[**round as usize] < row).count();
        match &mut self.memory {
            Memory::Bits { words, tried, first, trail, furthest } => {
                let states = first[self.program.instructions.len()];
                let state = row * states + first[at as usize] + moved;
                let (word, bit) = (state / 64, 1 << (state % 64));
                // What has failed may still be a part of the furthest attempt.
                let looks_again = self.wants_attempt && !tried.is_empty();
                let seen = if looks_again { tried } else { words };
                let is_new = seen[word] & bit == 0;
                seen[word] |= bit;
                if is_new && !looks_again {
                    trail.push(state);
                }
                if is_new {
                    *furthest = (*furthest).max(row);
                }
                is_new
            }
            Memory::Signatures { failed, scratch } => {
                scratch.clear();
                scratch.extend([at, row as u32, moved as u32]);
                self.conditions.sign(&self.path, scratch);
                if failed.contains(scratch.as_slice()) {
                    return false;
                }
                if failed.len() < MOST_REMEMBERED {
                    failed.insert(scratch.as_slice().into());
                }
                true
            }
            Memory::Nothing => true,
        }
    }

    /// Forgets what says nothing about the next starts.
    fn forget(&mut self, start: usize, is_found: bool) {
        match &mut self.memory {
            Memory::Bits { words, tried, first, trail, furthest } => {
                let states = first[self.program.instructions.len()];
                let searched = start * states / 64..((*furthest + 1) * states).div_ceil(64).min(words.len());
                if self.wants_attempt && !tried.is_empty() {
                    tried[searched].fill(0);
                } else if !self.is_memory_kept {
                    words[searched].fill(0);
                } else if is_found {
                    // The states on the way to the match have not failed.
                    for state in trail.iter() {
                        words[state / 64] &= !(1 << (state % 64));
                    }
                }
                trail.clear();
            }
            // To empty a table costs its capacity.
            Memory::Signatures { failed, .. } if failed.len() > 1_000 => *failed = HashSet::new(),
            Memory::Signatures { failed, .. } => failed.clear(),
            Memory::Nothing => {}
        }
    }
}
