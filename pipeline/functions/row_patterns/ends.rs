//! Where matches can end: for each row and each place of the pattern that takes a row, the end of the shortest way to a match.
//!
//! Where a span limits the rows of a match, what fails for one start may succeed for the next, so failures cannot be
//! remembered; but a search that knows these ends takes no row that leads to no match within its limit, and so goes
//! through rows of matches only. They are found from the last row to the first, in one pass.

use super::matcher::{Conditions, Path};
use super::program::{Instruction, Label, Program};

/// No way from here leads to a match.
const NOWHERE: u32 = u32::MAX;

/// The most places of a pattern, each four bytes of each row, and the most ways from one to the next; of patterns with more, ends
/// are not worth their price.
const MOST_PLACES: usize = 64;
const MOST_WAYS: usize = 1_000;

/// The ends of the shortest matches.
pub(super) struct Ends<'a> {
    places: &'a Places,
    /// By row, then by place.
    ends: Vec<u32>,
}

/// The places of a pattern that take a row.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The place of each instruction that takes a row.
    of_instruction: Vec<usize>,
    list: Vec<Place>,
}

/// A place of the pattern that takes a row, and where it leads.
#[derive(Debug, Clone)]
struct Place {
    label: Label,
    next: Vec<usize>,
    /// Whether a match may end behind it: where rows follow, and behind the last row.
    accepts: bool,
    accepts_at_last: bool,
}

impl Places {
    /// Nothing where the pattern has too many places or ways, or takes no row.
    pub(super) fn of(program: &Program) -> Option<Self> {
        let mut of_instruction = vec![0; program.instructions.len()];
        let mut labels = Vec::new();
        for (at, instruction) in program.instructions.iter().enumerate() {
            if let Instruction::Row(label) = instruction {
                of_instruction[at] = labels.len();
                labels.push((at, *label));
            }
        }
        if labels.is_empty() || labels.len() > MOST_PLACES {
            return None;
        }
        let mut ways = 0;
        let mut list = Vec::with_capacity(labels.len());
        for (at, label) in labels {
            let place = Place::behind(program, at, label, &of_instruction);
            ways += place.next.len();
            if ways > MOST_WAYS {
                return None;
            }
            list.push(place);
        }
        Some(Self { of_instruction, list })
    }
}

impl<'a> Ends<'a> {
    /// Of conditions that look at their row alone.
    pub(super) fn new<C: Conditions>(
        places: &'a Places,
        conditions: &mut C,
        path: &mut Path,
    ) -> Result<Self, C::Error> {
        let (list, width) = (&places.list, places.list.len());
        let rows = conditions.rows();
        let mut ends = vec![NOWHERE; rows * width];
        for row in (0..rows).rev() {
            let (before, behind) = ends.split_at_mut((row + 1) * width);
            let own = &mut before[row * width..];
            for (own, place) in own.iter_mut().zip(list) {
                path.restart(row);
                path.push(place.label);
                if !conditions.hold(path)? {
                    continue;
                }
                let accepts = if row + 1 == rows { place.accepts_at_last } else { place.accepts };
                *own = match accepts {
                    true => row as u32 + 1,
                    false if row + 1 == rows => NOWHERE,
                    false => place.next.iter().map(|next| behind[*next]).min().unwrap_or(NOWHERE),
                };
            }
        }
        path.restart(0);
        Ok(Self { places, ends })
    }

    /// Whether a match that takes a row at an instruction may end at a limit or before.
    #[inline]
    pub(super) fn are_within(&self, limit: usize, row: usize, at: u32) -> bool {
        let place = self.places.of_instruction[at as usize];
        self.ends[row * self.places.list.len() + place] as usize <= limit
    }
}

impl Place {
    /// The place of an instruction that takes a row: all that can be reached behind it without another row.
    fn behind(program: &Program, at: usize, label: Label, place_of: &[usize]) -> Self {
        let mut place = Self { label, next: Vec::new(), accepts: false, accepts_at_last: false };
        // Each loop around has taken this row in its round; those that are entered behind it have not.
        let mut moved = vec![false; program.rounds];
        program.loops[at].iter().for_each(|round| moved[*round as usize] = true);
        let mut open = vec![(at as u32 + 1, moved, false)];
        let mut seen = Vec::new();
        while let Some((at, mut moved, is_at_last)) = open.pop() {
            let rounds = program.loops[at as usize].iter().take_while(|round| moved[**round as usize]).count();
            let state = (at, rounds, is_at_last);
            if seen.contains(&state) {
                continue;
            }
            seen.push(state);
            match program.instructions[at as usize] {
                Instruction::Accept => {
                    place.accepts |= !is_at_last;
                    place.accepts_at_last = true;
                }
                Instruction::Row(_) if is_at_last => {}
                Instruction::Row(_) => {
                    let next = place_of[at as usize];
                    if !place.next.contains(&next) {
                        place.next.push(next);
                    }
                }
                Instruction::Jump(target) => open.push((target, moved, is_at_last)),
                Instruction::Split { preferred, other } => {
                    open.push((preferred, moved.clone(), is_at_last));
                    open.push((other, moved, is_at_last));
                }
                Instruction::Enter { round } => {
                    moved[round as usize] = false;
                    open.push((at + 1, moved, is_at_last));
                }
                Instruction::Again { round, head } if moved[round as usize] => open.push((head, moved, is_at_last)),
                Instruction::Again { .. } => {}
                // A row was taken.
                Instruction::Start => {}
                Instruction::End => open.push((at + 1, moved, true)),
            }
        }
        place
    }
}
