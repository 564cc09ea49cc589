//! What `match_rows` is asked to do, as the planner writes it into the plan.
//!
//! It travels as a JSON literal, the first argument of the call, so that a plan names only functions and literals and
//! any process that has registered them can run it.

use datafusion::common::{Result, internal_datafusion_err, plan_datafusion_err};
use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::walk::Rules;

/// A whole task. Variables are numbers below 64; sets of them are bit sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) pattern: Pattern,
    /// What `classifier()` calls each variable.
    pub(super) labels: Vec<String>,
    /// The conditions of each variable.
    pub(super) definitions: Vec<Definition>,
    /// What the conditions look at, in the order of their arguments.
    pub(super) looks: Vec<Leaf>,
    /// What the fields of the result hold, in their order.
    pub(super) outputs: Vec<Leaf>,
    pub(super) shape: Shape,
    pub(super) rules: Rules,
    /// The most that the last time of a match may lie from its first, in the unit of the times.
    pub(super) within: Option<i64>,
}

/// When a row may bear a variable: all of what is there holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definition {
    /// A test of the row alone: the number of an argument.
    pub(super) test: Option<usize>,
    /// A condition on the match so far: the number of an argument.
    pub(super) condition: Option<usize>,
}

/// Which rows become rows of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Shape {
    OneRow,
    AllRows { shows_empty: bool, shows_unmatched: bool },
}

/// Something to be known of a match, seen from one of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Leaf {
    /// The argument at the row itself, also of a row outside a match.
    Row,
    /// The argument at another row; null where there is none.
    Value(Place),
    /// The variable that another row bears.
    Label(Place),
    /// Whether there is such a row.
    Reached(Place),
    /// An aggregate of the argument.
    Aggregate { function: Aggregate, over: Sight },
    /// An aggregate of the variables.
    AggregateLabels { function: Aggregate, over: Sight },
    /// `match_number()`
    Number,
    /// `match_complete()`
    IsComplete,
    /// Whether the row belongs to a match, or is the start of an empty one.
    IsMatched,
}

/// Rows of the match that bear one of some variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sight {
    pub(super) variables: u64,
    /// Up to the end of the match, not of the row.
    pub(super) is_final: bool,
}

/// A row: the first or last of some, so many further, then so many rows of the partition away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) among: Sight,
    pub(super) is_first: bool,
    pub(super) offset: usize,
    pub(super) shift: i64,
}

/// The aggregates that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Aggregate {
    /// Its argument is 1 where a value counts and 0 where not.
    Count,
    /// Its argument has the type of the sum.
    Sum,
    /// Its argument is a `Float64`.
    Average,
    Min,
    Max,
    /// `array_agg`; its argument is a list of one element.
    Collect,
}

impl Spec {
    /// The literal.
    pub(super) fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| internal_datafusion_err!("match_rows: {error}"))
    }

    /// Reads the literal.
    pub(super) fn of_text(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| plan_datafusion_err!("match_rows: expected a task as match_recognize writes it: {error}"))
    }

    /// The number of tests of rows alone.
    pub(super) fn tests(&self) -> usize {
        self.definitions.iter().filter_map(|definition| definition.test).map(|test| test + 1).max().unwrap_or(0)
    }

    /// The number of conditions on the match.
    pub(super) fn conditions(&self) -> usize {
        let conditions = self.definitions.iter().filter_map(|definition| definition.condition);
        conditions.map(|condition| condition + 1).max().unwrap_or(0)
    }
}
