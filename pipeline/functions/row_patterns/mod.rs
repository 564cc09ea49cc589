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
//! What users may expect of it stands in [`documentation()`]; vectors of Trino and Snowflake are in `tests/`.
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
mod documentation;
mod ends;
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

pub(super) use documentation::documentation;
pub use spelling::standard_sql;

/// The name of the clause.
pub(super) const NAME: &str = "match_recognize";

/// Makes a session understand `match_recognize`.
pub(super) fn register(ctx: &SessionContext) {
    ctx.register_udf(ScalarUDF::from(match_value::MatchValue::default()));
    ctx.register_udaf(AggregateUDF::from(match_rows::MatchRows::default()));
    ctx.register_relation_planner(Arc::new(planner::MatchRecognizePlanner)).expect("a session takes any planner");
}

#[cfg(test)]
mod tests;
