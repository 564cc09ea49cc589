//! `match_recognize`: rows of a partition that follow a pattern, as SQL:2016 says it.
//!
//! ```sql
//! select * from events match_recognize (
//!     partition by customer_id
//!     order by occurred_at, event_id
//!     measures first(occurred_at) as started_at, last(pay.occurred_at) as paid_at, match_complete() as is_paid
//!     one row per match with partial matches
//!     after match skip past last row
//!     pattern (cart other*? pay) within interval '1' day
//!     define cart as touchpoint = 'add_to_cart', pay as touchpoint = 'purchase'
//! )
//! ```
//!
//! What is there: `partition by`, `order by` (any expressions, directions and nulls), `measures` and `define` with
//! `first`, `last`, `prev`, `next` (offsets, nested; `lag` and `lead` are other names of the last two), `classifier`,
//! `match_number`, `match_sequence_number`, `running` and `final`, the aggregates `count`, `sum`, `avg`, `min`, `max` and
//! `array_agg`, and any scalar function around and inside them; `one row per match`, `all rows per match` with its three
//! modes; all forms of `after match skip`; concatenation, alternation, groups, greedy and reluctant quantifiers, anchors,
//! `permute`, exclusion, the empty pattern; `subset`. Before a dot the name of a variable hides that of a table.
//!
//! Two things are ours. `within` bounds the span of a match: the first key of the order at its last row lies at most so
//! far from that at its first, the end included (Flink excludes it). `with partial matches` shows attempts too: where no
//! match starts at a row, the rows of the attempt that came furthest, which `match_complete()` tells from a match. They
//! change neither the matches nor where these are looked for; they are numbered along with them.
//!
//! Result:  the columns of `partition by`; in `all rows per match` those of `order by`; the measures; the other columns.
//! Ties:    rows with equal keys are ordered by the columns that the clause uses, in the order of the table; rows that are
//!          equal in all of these are interchangeable. (Columns of types without an order, such as maps, do not count.)
//! Nulls:   a condition that is null does not hold. A row without a time lies in no span but its own.
//! Memory:  the rows of one partition, with the columns that the clause uses. The sort before it may spill.
//! Errors:  what is not supported is named at planning. At execution: a match that resumes at its own first row or at a
//!          variable that it lacks, and a search that goes beyond its budget (see `matcher.rs`).
//! Source:  ISO/IEC 9075-2:2016 as documented by Trino, Snowflake and Oracle; vectors of the first two are in `tests/`.
//!
//! Differences:
//! - `classifier()` shows a variable as the pattern writes it; Trino and Snowflake show unquoted names in upper case.
//! - `running first(x, n)` is null until the match has n + 1 rows, as the standard says; Trino looks ahead.
//! - In `all rows per match` Snowflake puts the measures after all columns; ours is the order of the standard.
//! - Conditions that look at their row alone are computed for every row, also for rows at which the pattern never asks,
//!   so that an error such as a division by zero is one even there.
//! - Not supported, each with an error that says so: window functions with `over`, subqueries and columns of an outer query
//!   in `measures` and `define`; other aggregates; `distinct`, `filter` and `order by` in aggregates; `avg` of decimals;
//!   `array_agg` in `define`; `classifier()` inside an expression that is aggregated; more than 64 variables.
//!
//! # Why not a plan node of its own?
//!
//! A node needs an extension planner in every session and a codec in every worker of a cluster. Instead the clause
//! becomes a window (`row_number`, `lag`, `lead`), an aggregate `match_rows` per partition, and an unnest, all of which
//! DataFusion knows, spills and distributes; see `planner.rs`. Since the window leaves its rows hashed and sorted by the
//! partition, DataFusion aggregates in one phase and as a stream, so that the memory is that of one partition. Expressions
//! stay expressions of the engine, with its types, coercions and functions: what a condition or measure needs of the match
//! becomes a column, the rest is planned as in any query. Conditions that look at their row alone are computed for
//! whole batches before the match; only what refers to other rows of the match is computed while matching, row by row
//! (`match_value` holds its place in the plan). The price is that all columns of `all rows per match` pass through the
//! aggregate. What would change our mind: a node of DataFusion itself, or a codec that all clusters share.
//!
//! # Which text?
//!
//! The parser of DataFusion knows a part of the clause only. [`standard_sql`] turns the rest into spellings that it knows
//! before the statement is parsed; they may be written by hand as well.

mod aggregate;
mod clause;
mod conditions;
mod expressions;
mod leaves;
mod match_rows;
mod match_value;
mod matcher;
#[cfg(test)]
mod oracle;
mod outputs;
mod partition;
mod pattern;
mod planner;
mod program;
mod rows;
mod spec;
mod spelling;
mod visitors;
mod walk;

use std::sync::Arc;

use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub use spelling::standard_sql;

/// Makes a session understand `match_recognize`.
pub(super) fn register(ctx: &SessionContext) {
    ctx.register_udf(ScalarUDF::from(match_value::MatchValue::default()));
    ctx.register_udaf(AggregateUDF::from(match_rows::MatchRows::default()));
    ctx.register_relation_planner(Arc::new(planner::MatchRecognizePlanner)).expect("a session takes any planner");
}

#[cfg(test)]
mod tests;
