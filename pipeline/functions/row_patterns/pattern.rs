//! A row pattern as a tree, as the clause states it.

use serde::{Deserialize, Serialize};

/// What a sequence of rows must look like. Variables are numbers; the clause keeps their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Pattern {
    /// `()`: no row.
    Empty,
    /// One row that bears a variable.
    Row(u8),
    /// `^`: the first row of the partition comes next.
    Start,
    /// `$`: the last row of the partition came before.
    End,
    /// One after another.
    Concat(Vec<Pattern>),
    /// The leftmost that leads to a match.
    Alternation(Vec<Pattern>),
    /// All in any order; the order of the list is preferred.
    Permute(Vec<Pattern>),
    /// `{- … -}`: rows that `all rows per match` does not show.
    Exclude(Box<Pattern>),
    /// From `least` to `most` times.
    Repeat { pattern: Box<Pattern>, least: u32, most: Option<u32>, is_reluctant: bool },
}

impl Pattern {
    /// The variables of the pattern, as a bit set.
    #[cfg(test)]
    pub(super) fn variables(&self) -> u64 {
        match self {
            Pattern::Empty | Pattern::Start | Pattern::End => 0,
            Pattern::Row(variable) => 1 << variable,
            Pattern::Concat(parts) | Pattern::Alternation(parts) | Pattern::Permute(parts) => {
                parts.iter().fold(0, |variables, part| variables | part.variables())
            }
            Pattern::Exclude(pattern) | Pattern::Repeat { pattern, .. } => pattern.variables(),
        }
    }

    /// Whether some row may be excluded from the output.
    pub(super) fn excludes(&self) -> bool {
        match self {
            Pattern::Empty | Pattern::Start | Pattern::End | Pattern::Row(_) => false,
            Pattern::Concat(parts) | Pattern::Alternation(parts) | Pattern::Permute(parts) => {
                parts.iter().any(Pattern::excludes)
            }
            Pattern::Exclude(_) => true,
            Pattern::Repeat { pattern, .. } => pattern.excludes(),
        }
    }
}
