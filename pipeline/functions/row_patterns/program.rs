//! A row pattern as instructions for the matcher.
//!
//! The preferred way comes first at each `Split`, so that the first way to `Accept` is the match that the standard
//! prefers. Bounded repetitions are copies of their pattern; an unbounded one is its least number of copies, then a
//! loop whose every round must take a row (a round that takes none would go on for ever and adds nothing).

use std::sync::OnceLock;

use super::ends::Places;
use super::pattern::Pattern;

/// The most instructions of a pattern; a guard against bounds such as `((a{1,1000}){1,1000})`.
pub(super) const MOST_INSTRUCTIONS: usize = 20_000;

/// One step of the matcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Takes the next row as a variable.
    Row(Label),
    /// Goes on at `preferred`; at `other` if that leads to no match.
    Split { preferred: u32, other: u32 },
    /// Goes on elsewhere.
    Jump(u32),
    /// A round of a loop begins.
    Enter { round: u32 },
    /// A round of a loop ends; back to its head if it has taken a row.
    Again { round: u32, head: u32 },
    /// Goes on at the first row of the partition only.
    Start,
    /// Goes on after the last row of the partition only.
    End,
    /// A match.
    Accept,
}

/// What a row of a match bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) variable: u8,
    pub(super) is_excluded: bool,
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) instructions: Vec<Instruction>,
    /// The number of unbounded loops.
    pub(super) rounds: usize,
    /// For each instruction, the loops around it, from the outermost.
    pub(super) loops: Vec<Box<[u32]>>,
    /// See [`Program::places`].
    places: OnceLock<Option<Places>>,
}

/// The pattern needs more than [`MOST_INSTRUCTIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Program {
    /// Compiles a pattern.
    pub(super) fn new(pattern: &Pattern) -> Result<Self, TooLarge> {
        let mut writer = Writer::default();
        writer.add(pattern, false)?;
        writer.push(Instruction::Accept)?;
        Ok(Self {
            instructions: writer.instructions,
            rounds: writer.rounds,
            loops: writer.loops,
            places: OnceLock::new(),
        })
    }

    /// The places that take a row, found once for all partitions.
    pub(super) fn places(&self) -> Option<&Places> {
        self.places.get_or_init(|| Places::of(self)).as_ref()
    }
}

#[derive(Default)]
struct Writer {
    instructions: Vec<Instruction>,
    rounds: usize,
    loops: Vec<Box<[u32]>>,
    /// The loops around the next instruction.
    around: Vec<u32>,
}

impl Writer {
    fn push(&mut self, instruction: Instruction) -> Result<usize, TooLarge> {
        if self.instructions.len() >= MOST_INSTRUCTIONS {
            return Err(TooLarge);
        }
        self.instructions.push(instruction);
        self.loops.push(self.around.as_slice().into());
        Ok(self.instructions.len() - 1)
    }

    fn next(&self) -> u32 {
        self.instructions.len() as u32
    }

    /// A split whose ways are filled in later.
    fn open(&mut self) -> Result<usize, TooLarge> {
        self.push(Instruction::Split { preferred: 0, other: 0 })
    }

    fn close(&mut self, split: usize, inside: u32, outside: u32, is_reluctant: bool) {
        let (preferred, other) = if is_reluctant { (outside, inside) } else { (inside, outside) };
        self.instructions[split] = Instruction::Split { preferred, other };
    }

    fn add(&mut self, pattern: &Pattern, is_excluded: bool) -> Result<(), TooLarge> {
        match pattern {
            Pattern::Empty => {}
            Pattern::Row(variable) => {
                self.push(Instruction::Row(Label { variable: *variable, is_excluded }))?;
            }
            Pattern::Start => {
                self.push(Instruction::Start)?;
            }
            Pattern::End => {
                self.push(Instruction::End)?;
            }
            Pattern::Concat(parts) => {
                for part in parts {
                    self.add(part, is_excluded)?;
                }
            }
            Pattern::Alternation(parts) => {
                let ways: Vec<Vec<&Pattern>> = parts.iter().map(|part| vec![part]).collect();
                self.add_alternation(&ways, is_excluded)?;
            }
            Pattern::Permute(parts) => {
                let mut orders = Vec::new();
                permutations(parts, &mut Vec::new(), &mut orders)?;
                self.add_alternation(&orders, is_excluded)?;
            }
            Pattern::Exclude(pattern) => self.add(pattern, true)?,
            Pattern::Repeat { pattern, least, most, is_reluctant } => {
                for _ in 0..*least {
                    let before = self.next();
                    self.add(pattern, is_excluded)?;
                    if self.next() == before {
                        break; // nothing, however often
                    }
                }
                match most {
                    Some(most) => {
                        self.add_optional(pattern, most.saturating_sub(*least), *is_reluctant, is_excluded)?
                    }
                    None => self.add_loop(pattern, *is_reluctant, is_excluded)?,
                }
            }
        }
        Ok(())
    }

    fn add_alternation(&mut self, ways: &[Vec<&Pattern>], is_excluded: bool) -> Result<(), TooLarge> {
        let mut jumps = Vec::new();
        for (number, way) in ways.iter().enumerate() {
            let is_last = number + 1 == ways.len();
            let split = if is_last { None } else { Some(self.open()?) };
            let inside = self.next();
            for part in way {
                self.add(part, is_excluded)?;
            }
            if let Some(split) = split {
                jumps.push(self.push(Instruction::Jump(0))?);
                let outside = self.next();
                self.close(split, inside, outside, false);
            }
        }
        let end = self.next();
        for jump in jumps {
            self.instructions[jump] = Instruction::Jump(end);
        }
        Ok(())
    }

    fn add_optional(
        &mut self,
        pattern: &Pattern,
        times: u32,
        is_reluctant: bool,
        is_excluded: bool,
    ) -> Result<(), TooLarge> {
        let mut splits = Vec::new();
        for _ in 0..times {
            let split = self.open()?;
            splits.push((split, self.next()));
            self.add(pattern, is_excluded)?;
        }
        let end = self.next();
        for (split, inside) in splits {
            self.close(split, inside, end, is_reluctant);
        }
        Ok(())
    }

    fn add_loop(&mut self, pattern: &Pattern, is_reluctant: bool, is_excluded: bool) -> Result<(), TooLarge> {
        let round = self.rounds as u32;
        self.rounds += 1;
        let head = self.open()?;
        let inside = self.next();
        self.around.push(round);
        self.push(Instruction::Enter { round })?;
        self.add(pattern, is_excluded)?;
        self.push(Instruction::Again { round, head: head as u32 })?;
        self.around.pop();
        let outside = self.next();
        self.close(head, inside, outside, is_reluctant);
        Ok(())
    }
}

/// All orders of the parts, in the order of a dictionary whose letters are the parts as listed.
fn permutations<'a>(
    parts: &'a [Pattern],
    taken: &mut Vec<usize>,
    orders: &mut Vec<Vec<&'a Pattern>>,
) -> Result<(), TooLarge> {
    if taken.len() == parts.len() {
        if orders.len() * parts.len() >= MOST_INSTRUCTIONS {
            return Err(TooLarge);
        }
        orders.push(taken.iter().map(|part| &parts[*part]).collect());
        return Ok(());
    }
    for part in 0..parts.len() {
        if !taken.contains(&part) {
            taken.push(part);
            permutations(parts, taken, orders)?;
            taken.pop();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_explode_are_refused() {
        let inner = Pattern::Repeat {
            pattern: Box::new(Pattern::Row(0)),
            least: 1_000,
            most: Some(1_000),
            is_reluctant: false,
        };
        assert_eq!(Program::new(&inner).unwrap().instructions.len(), 1_001);
        let outer = Pattern::Repeat { pattern: Box::new(inner), least: 1_000, most: None, is_reluctant: false };
        assert!(Program::new(&outer).is_err());
        let many = Pattern::Permute((0..12).map(Pattern::Row).collect());
        assert!(Program::new(&many).is_err());
    }

    #[test]
    fn a_huge_bound_over_nothing_ends() {
        let nothing =
            Pattern::Repeat { pattern: Box::new(Pattern::Empty), least: u32::MAX, most: None, is_reluctant: false };
        assert!(Program::new(&nothing).is_ok());
    }

    #[test]
    fn permutations_come_in_the_order_of_the_list() {
        let parts: Vec<Pattern> = (0..3).map(Pattern::Row).collect();
        let mut orders = Vec::new();
        permutations(&parts, &mut Vec::new(), &mut orders).unwrap();
        let orders: Vec<Vec<u64>> =
            orders.iter().map(|order| order.iter().map(|part| part.variables()).collect()).collect();
        let expected = [[1, 2, 4], [1, 4, 2], [2, 1, 4], [2, 4, 1], [4, 1, 2], [4, 2, 1]];
        assert_eq!(orders, expected.map(|order| order.to_vec()));
    }
}
