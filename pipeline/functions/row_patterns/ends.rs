//! Where matches can end: for each row and each place of the pattern that takes a row, the end of the shortest way to a match.
//!
//! Where a span limits the rows of a match, what fails for one start may succeed for the next, so failures cannot be
//! remembered; but a search that knows these ends takes no row that leads to no match within its limit, and so goes
//! through rows of matches only. They are found from the last row to the first, in one pass.

use super::matcher::{Conditions, Path};
use super::program::{Instruction, Label, Program};

/// No way from here leads to a match.
const NOWHERE: u32 = u32::MAX;

/// The most ways from one place to the next; of patterns with more, ends are not worth their price.
const MOST_WAYS: usize = 1_000;

/// The ends of the shortest matches.
pub(super) struct Ends {
    /// The place of each instruction that takes a row.
    place_of: Vec<usize>,
    places: usize,
    /// By row, then by place.
    ends: Vec<u32>,
}

/// A place of the pattern that takes a row, and where it leads.
struct Place {
    label: Label,
    next: Vec<usize>,
    /// Whether a match may end behind it: where rows follow, and behind the last row.
    accepts: bool,
    accepts_at_last: bool,
}

impl Ends {
    /// Of conditions that look at their row alone; nothing where the pattern has too many ways, or none that takes a row.
    pub(super) fn new<C: Conditions>(
        program: &Program,
        conditions: &mut C,
        path: &mut Path,
    ) -> Result<Option<Self>, C::Error> {
        let mut place_of = vec![0; program.instructions.len()];
        let mut places = 0;
        for (at, instruction) in program.instructions.iter().enumerate() {
            if let Instruction::Row(_) = instruction {
                place_of[at] = places;
                places += 1;
            }
        }
        if places == 0 || places > MOST_WAYS {
            return Ok(None);
        }
        let mut ways = 0;
        let mut list = Vec::with_capacity(places);
        for (at, instruction) in program.instructions.iter().enumerate() {
            let Instruction::Row(label) = instruction else {
                continue;
            };
            let place = Place::behind(program, at, *label, &place_of);
            ways += place.next.len();
            if ways > MOST_WAYS {
                return Ok(None);
            }
            list.push(place);
        }
        let rows = conditions.rows();
        let mut ends = vec![NOWHERE; rows * places];
        for row in (0..rows).rev() {
            let (before, behind) = ends.split_at_mut((row + 1) * places);
            let own = &mut before[row * places..];
            for (own, place) in own.iter_mut().zip(&list) {
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
        Ok(Some(Self { place_of, places, ends }))
    }

    /// Whether a match that takes a row at an instruction may end at a limit or before.
    #[inline]
    pub(super) fn are_within(&self, limit: usize, row: usize, at: u32) -> bool {
        self.ends[row * self.places + self.place_of[at as usize]] as usize <= limit
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
