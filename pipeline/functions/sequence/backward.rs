//! Any pattern, time terms included: from its last item to its first, where would a match of the rest end?
//!
//! For each item and each row, the answer follows from the answers of the next item: a run or a time term goes to the
//! nearest row from which the rest matches. One pass over the rows per item, so items × rows in all, with no budget to
//! exceed. A search that tries and retracts visits the same (item, row) again and again; ClickHouse gives up after a
//! million steps of it (its issue 26095).
//!
//! Of several matches the first is the one that a search would find that leaves each run and gap, from left to right, as
//! soon as it can.

use super::pattern::{Comparison, Gap, Item};

/// A row as a pattern sees it. Rows come ordered by time.
pub(super) trait Row {
    fn time(&self) -> i64;
    /// Bit `k`: the row meets condition `k + 1`.
    fn conditions(&self) -> u32;
}

/// No match from here.
const NONE: u32 = u32::MAX;

/// The way from the last item to the first; its buffers serve group after group.
#[derive(Debug, Default)]
pub(super) struct Backward {
    /// Per row, and for the end behind the last: where the first match of the items from the current one on ends.
    ends: Vec<u32>,
    /// Per row: the nearest row, from it on, that has an end.
    nearest: Vec<u32>,
    /// Whether there is an end, as bits: of all rows after the last item first, …, after the first item last.
    trail: Vec<u64>,
}

impl Backward {
    /// Whether the items match.
    pub(super) fn matches<R: Row>(&mut self, items: &[Item], rows: &[R]) -> bool {
        self.solve(items, rows, false)
    }

    /// How many matches there are, one after another: each the first from where the one before ended. One that takes no
    /// row counts, and moves on by a row.
    pub(super) fn count<R: Row>(&mut self, items: &[Item], rows: &[R]) -> i64 {
        if !self.solve(items, rows, false) {
            return 0;
        }
        let (mut count, mut position) = (0, 0);
        while position < rows.len() && self.ends[position] != NONE {
            count += 1;
            position = (self.ends[position] as usize).max(position + 1);
        }
        count
    }

    /// Shows the rows that the conditions of the first match take; false if there is none.
    pub(super) fn first<R: Row>(&mut self, items: &[Item], rows: &[R], mut show: impl FnMut(&R)) -> bool {
        if !self.solve(items, rows, true) {
            return false;
        }
        let (mut position, mut last) = (0, 0);
        for (number, item) in items.iter().enumerate() {
            let rest = self.rest(number + 1, items.len(), rows.len());
            match item {
                Item::Any | Item::Condition(_) => {
                    if matches!(item, Item::Condition(_)) {
                        show(&rows[position]);
                    }
                    last = position;
                    position += 1;
                }
                Item::Run | Item::Gap(_) if position == rows.len() => {}
                Item::Run => {
                    position = (position..rows.len()).find(|row| has(rest, *row)).expect("the rest matches somewhere");
                }
                Item::Gap(gap) => {
                    let from = rows[if gap.is_after_run { position } else { last }].time();
                    let holds = |row: &usize| has(rest, *row) && gap.holds(distance(from, rows[*row].time()));
                    position = (position..rows.len()).find(holds).expect("the rest matches somewhere");
                }
            }
        }
        true
    }

    /// Bytes allocated.
    pub(super) fn size(&self) -> usize {
        (self.ends.capacity() + self.nearest.capacity()) * size_of::<u32>() + self.trail.capacity() * size_of::<u64>()
    }

    /// Goes from the last item to the first; says whether there is a match from the first row.
    fn solve<R: Row>(&mut self, items: &[Item], rows: &[R], keeps_trail: bool) -> bool {
        self.trail.clear();
        self.ends.clear();
        self.ends.extend(0..=rows.len() as u32);
        for item in items.iter().rev() {
            if keeps_trail {
                self.keep_trail();
            }
            match item {
                Item::Condition(condition) => self.take(rows, |row| row.conditions() >> condition & 1 == 1),
                Item::Any => self.take(rows, |_| true),
                Item::Run => self.run(rows.len()),
                Item::Gap(gap) => self.gap(gap, rows),
            }
        }
        self.ends[0] != NONE
    }

    fn take<R: Row>(&mut self, rows: &[R], takes: impl Fn(&R) -> bool) {
        for (position, row) in rows.iter().enumerate() {
            self.ends[position] = if takes(row) { self.ends[position + 1] } else { NONE };
        }
        self.ends[rows.len()] = NONE;
    }

    /// A run stops at a row; only where no row is left, the end is as good.
    fn run(&mut self, row_count: usize) {
        let mut nearest = NONE;
        for end in self.ends[..row_count].iter_mut().rev() {
            if *end != NONE {
                nearest = *end;
            }
            *end = nearest;
        }
    }

    fn gap<R: Row>(&mut self, gap: &Gap, rows: &[R]) {
        self.find_nearest(rows.len());
        let Self { ends, nearest, .. } = self;
        // The first row whose distance is at least, or beyond, the span. It only moves on, as the row counted from does.
        let mut border = 0;
        for position in 0..rows.len() {
            // Nothing was taken before the first row: the answer there is never asked for.
            let Some(counted_from) = (if gap.is_after_run { Some(position) } else { position.checked_sub(1) }) else {
                continue;
            };
            let from = rows[counted_from].time();
            let away = |row: usize| distance(from, rows[row].time());
            border = border.max(position);
            let mut move_to = |is_short: fn(u64, u64) -> bool| {
                while border < rows.len() && is_short(away(border), gap.span) {
                    border += 1;
                }
                nearest[border]
            };
            let found = match gap.comparison {
                Comparison::AtMost | Comparison::Less => nearest[position],
                Comparison::AtLeast | Comparison::Equal => move_to(|away, span| away < span),
                Comparison::More => move_to(|away, span| away <= span),
                Comparison::NotEqual => match nearest[position] {
                    found if found != NONE && !gap.holds(away(found as usize)) => move_to(|away, span| away <= span),
                    found => found,
                },
            };
            let is_found = found != NONE && gap.holds(away(found as usize));
            ends[position] = if is_found { ends[found as usize] } else { NONE };
        }
        if !gap.holds_at_the_end() {
            ends[rows.len()] = NONE;
        }
    }

    fn find_nearest(&mut self, row_count: usize) {
        self.nearest.clear();
        self.nearest.resize(row_count + 1, NONE);
        let mut found = NONE;
        for position in (0..row_count).rev() {
            if self.ends[position] != NONE {
                found = position as u32;
            }
            self.nearest[position] = found;
        }
    }

    fn keep_trail(&mut self) {
        for ends in self.ends.chunks(64) {
            let bits = ends.iter().enumerate().map(|(bit, end)| u64::from(*end != NONE) << bit);
            self.trail.push(bits.fold(0, |all, bit| all | bit));
        }
    }

    /// Where the items from `number` on match, once all are solved.
    fn rest(&self, number: usize, item_count: usize, row_count: usize) -> &[u64] {
        let words = (row_count + 1).div_ceil(64);
        let kept_before = item_count - number;
        &self.trail[kept_before * words..][..words]
    }
}

fn has(bits: &[u64], position: usize) -> bool {
    bits[position / 64] >> (position % 64) & 1 == 1
}

/// What lies between two times in order; it may be more than an `i64` holds.
#[inline]
fn distance(from: i64, to: i64) -> u64 {
    to.wrapping_sub(from) as u64
}
