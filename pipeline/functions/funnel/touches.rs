//! The touches of one journey that its funnel asks about, in flat buffers that are used again for the next.

/// A touch that serves a step or, where a rule needs them, none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Touch {
    pub time: i64,
    /// Its number in the journey, from 0.
    pub position: u32,
    /// Bit `i`: it matches step `i`.
    pub steps: u32,
    /// How many touches that take part come before it.
    pub rank: u32,
    /// The number of the value that it holds.
    pub held: u32,
}

/// The excluded touches of a journey, column by column.
#[derive(Debug, Default)]
pub(super) struct Exclusions {
    /// The (position, time) of each, in journey order.
    columns: Vec<Vec<(u32, i64)>>,
    count: usize,
}

impl Exclusions {
    fn clear(&mut self) {
        self.columns.iter_mut().for_each(Vec::clear);
        self.count = 0;
    }

    fn push(&mut self, columns: u32, position: u32, time: i64) {
        for column in bits(columns) {
            if column >= self.columns.len() {
                self.columns.resize_with(column + 1, Vec::new);
            }
            self.columns[column].push((position, time));
            self.count += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn of(&self, columns: u32) -> impl Iterator<Item = &[(u32, i64)]> {
        bits(columns).filter_map(|column| self.columns.get(column)).map(Vec::as_slice)
    }

    /// The position of the last touch that is excluded in one of the columns and comes before `position`.
    #[inline]
    pub(super) fn last_before(&self, columns: u32, position: u32) -> Option<u32> {
        let last = |column: &[(u32, i64)]| {
            let count = column.partition_point(|(excluded, _)| *excluded < position);
            Some(column[count.checked_sub(1)?].0)
        };
        self.of(columns).filter_map(last).max()
    }

    /// The first touch that is excluded in one of the columns and comes after `position`: its position and time.
    pub(super) fn first_after(&self, columns: u32, position: u32) -> Option<(u32, i64)> {
        let first = |column: &[(u32, i64)]| {
            let count = column.partition_point(|(excluded, _)| *excluded <= position);
            column.get(count).copied()
        };
        self.of(columns).filter_map(first).min()
    }
}

/// The touches of one journey.
#[derive(Debug, Default)]
pub(super) struct Touches {
    pub touches: Vec<Touch>,
    pub exclusions: Exclusions,
    /// How many touches took part so far.
    rank: u32,
}

impl Touches {
    /// Forgets the journey before.
    pub(super) fn clear(&mut self) {
        self.touches.clear();
        self.exclusions.clear();
        self.rank = 0;
    }

    /// Adds the next touch: `columns` are those in which it is excluded; `takes_part` says whether it can stand between
    /// two others, and `is_kept` whether it is kept even if it serves no step.
    #[inline]
    pub(super) fn push(&mut self, touch: Touch, columns: u32, takes_part: bool, is_kept: bool) {
        if columns != 0 {
            self.exclusions.push(columns, touch.position, touch.time);
        }
        if touch.steps != 0 || is_kept {
            self.touches.push(Touch { rank: self.rank, ..touch });
        }
        self.rank += u32::from(takes_part);
    }
}

/// The numbers of the bits that are set, from the lowest.
#[inline]
pub(super) fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(bit)
    })
}
