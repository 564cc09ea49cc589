//! Which row comes next: the rule of `sequence_next_node` over the rows of one group in order.

/// What is asked of each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::functions) struct Question {
    direction: Direction,
    base: Base,
    /// How many conditions follow one another, from the base on.
    conditions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Head,
    Tail,
    FirstMatch,
    LastMatch,
}

/// What a row meets: bit `k` for condition `k + 1`, and [`IS_BASE`].
pub(in super::super) type Met = u64;

/// The row meets the condition of a base.
pub(super) const IS_BASE: Met = 1 << 63;

impl Question {
    /// Reads direction and base. The error says what is wrong and how to mend it.
    pub(super) fn new(direction: &str, base: &str, conditions: usize) -> Result<Self, String> {
        let direction = match direction {
            "forward" => Direction::Forward,
            "backward" => Direction::Backward,
            other => return Err(format!("expected direction 'forward' or 'backward', got '{other}'")),
        };
        let base = match base {
            "head" => Base::Head,
            "tail" => Base::Tail,
            "first_match" => Base::FirstMatch,
            "last_match" => Base::LastMatch,
            other => {
                return Err(format!("expected base 'head', 'tail', 'first_match' or 'last_match', got '{other}'"));
            }
        };
        match (direction, base) {
            (Direction::Backward, Base::Head) => {
                Err("nothing comes before the head: with 'backward' use base 'tail', 'first_match' or 'last_match'"
                    .into())
            }
            (Direction::Forward, Base::Tail) => {
                Err("nothing comes after the tail: with 'forward' use base 'head', 'first_match' or 'last_match'"
                    .into())
            }
            (_, Base::FirstMatch | Base::LastMatch) if conditions == 0 => {
                Err("a base of 'first_match' or 'last_match' is a row that meets condition 1: add a condition".into())
            }
            _ => Ok(Self { direction, base, conditions }),
        }
    }

    /// The position of the row that comes next, among `rows` rows of which `met` says what each meets.
    pub(super) fn answer(&self, rows: usize, met: impl Fn(usize) -> Met) -> Option<usize> {
        let is_base = |row: &usize| met(*row) & IS_BASE != 0;
        let is_match = |row: &usize| is_base(row) && met(*row) & 1 != 0;
        let base = match self.base {
            Base::Head => (0..rows).next().filter(is_base),
            Base::Tail => (0..rows).next_back().filter(is_base),
            Base::FirstMatch => (0..rows).find(is_match),
            Base::LastMatch => (0..rows).rfind(is_match),
        }?;
        let row_at = |steps: usize| match self.direction {
            Direction::Forward => Some(base + steps).filter(|row| *row < rows),
            Direction::Backward => base.checked_sub(steps),
        };
        let next = row_at(self.conditions)?;
        let holds = |condition| row_at(condition).is_some_and(|row| met(row) >> condition & 1 == 1);
        (0..self.conditions).all(holds).then_some(next)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows as letters: `A` meets condition 1, `B` condition 2, …; small letters may not be a base.
    fn met(rows: &str) -> Vec<Met> {
        let met = |row: u8| {
            let condition = 1 << (row.to_ascii_uppercase() - b'A');
            if row.is_ascii_uppercase() { condition | IS_BASE } else { condition }
        };
        rows.bytes().map(met).collect()
    }

    /// The position, from 1, of the row that comes next; 0 for none.
    fn answer(direction: &str, base: &str, conditions: usize, rows: &str) -> usize {
        let met = met(rows);
        let question = Question::new(direction, base, conditions).unwrap();
        question.answer(met.len(), |row| met[row]).map_or(0, |row| row + 1)
    }

    #[test]
    fn the_head_and_the_tail_are_the_only_rows_that_serve_as_such() {
        assert_eq!(answer("forward", "head", 1, "ABC"), 2);
        assert_eq!(answer("forward", "head", 1, "BAC"), 0);
        assert_eq!(answer("backward", "tail", 1, "CBA"), 2);
        assert_eq!(answer("backward", "tail", 1, "CAB"), 0);
        assert_eq!(answer("forward", "head", 2, "ABC"), 3);
        assert_eq!(answer("forward", "head", 2, "aBC"), 0, "the head may not be a base");
        assert_eq!(answer("backward", "tail", 2, "CBA"), 1);
        assert_eq!(answer("backward", "tail", 2, "CBa"), 0, "the tail may not be a base");
    }

    #[test]
    fn without_conditions_the_base_itself_is_next() {
        assert_eq!(answer("forward", "head", 0, "AB"), 1);
        assert_eq!(answer("backward", "tail", 0, "AB"), 2);
        assert_eq!(answer("forward", "head", 0, "aB"), 0);
        assert_eq!(answer("forward", "head", 0, ""), 0);
    }

    #[test]
    fn the_first_and_the_last_match_are_bases_on_which_all_depends() {
        assert_eq!(answer("forward", "first_match", 2, "CABCABD"), 4);
        assert_eq!(answer("forward", "last_match", 2, "CABCABD"), 7);
        assert_eq!(answer("backward", "first_match", 2, "CBADBA"), 1);
        assert_eq!(answer("backward", "last_match", 2, "CBADBA"), 4);
        // The first A is not followed by B: the second one, which is, is not tried.
        assert_eq!(answer("forward", "first_match", 2, "ACABD"), 0);
        // Unless the first one may not be a base.
        assert_eq!(answer("forward", "first_match", 2, "aCABD"), 5);
    }

    #[test]
    fn nothing_may_lie_between_and_something_must_come_next() {
        assert_eq!(answer("forward", "first_match", 2, "ACB"), 0);
        assert_eq!(answer("forward", "first_match", 2, "AB"), 0);
        assert_eq!(answer("backward", "last_match", 2, "BA"), 0);
    }

    #[test]
    fn a_wrong_question_is_refused_with_a_remedy() {
        for (direction, base, conditions, message) in [
            ("Forward", "head", 1, "expected direction 'forward' or 'backward', got 'Forward'"),
            ("forward", "first", 1, "expected base 'head', 'tail', 'first_match' or 'last_match', got 'first'"),
            ("backward", "head", 1, "nothing comes before the head: with 'backward' use base 'tail'"),
            ("forward", "tail", 1, "nothing comes after the tail: with 'forward' use base 'head'"),
            ("forward", "first_match", 0, "add a condition"),
            ("backward", "last_match", 0, "add a condition"),
        ] {
            let error = Question::new(direction, base, conditions).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    /// The rule word by word: the base, the rows from it on in the direction, and the one behind them.
    pub(in crate::functions) fn naive(direction: &str, base: &str, conditions: usize, met: &[Met]) -> Option<usize> {
        let mut positions: Vec<usize> = (0..met.len()).collect();
        let bases: Vec<usize> = match base {
            "head" | "tail" => positions.clone(),
            _ => positions.iter().copied().filter(|row| met[*row] & 1 == 1 && met[*row] & IS_BASE != 0).collect(),
        };
        let base = match base {
            "head" | "first_match" => *bases.first()?,
            _ => *bases.last()?,
        };
        if met[base] & IS_BASE == 0 {
            return None;
        }
        if direction == "forward" {
            positions.retain(|row| *row >= base);
        } else {
            positions.retain(|row| *row <= base);
            positions.reverse();
        }
        for condition in 0..conditions {
            if met[*positions.get(condition)?] >> condition & 1 == 0 {
                return None;
            }
        }
        positions.get(conditions).copied()
    }

    pub(in crate::functions) const FORMS: [(&str, &str); 6] = [
        ("forward", "head"),
        ("forward", "first_match"),
        ("forward", "last_match"),
        ("backward", "tail"),
        ("backward", "first_match"),
        ("backward", "last_match"),
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn agrees_with_the_rule_word_by_word(
            form in prop::sample::select(FORMS.to_vec()),
            conditions in 1usize..=3,
            rows in prop::collection::vec((0u64..8, prop::bool::weighted(0.8)), 0..8),
        ) {
            let met: Vec<Met> = rows.iter().map(|(met, base)| met | if *base { IS_BASE } else { 0 }).collect();
            let question = Question::new(form.0, form.1, conditions).unwrap();
            prop_assert_eq!(question.answer(met.len(), |row| met[row]), naive(form.0, form.1, conditions, &met));
        }
    }
}
