//! Touchpoints and channels that a query names and that no event has: such a query is no error, it just finds nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::prelude::SessionContext;

use crate::engine;
use crate::error::{Result, nearest};

/// A list of known values takes no longer than this to be read, or nothing is said.
const PATIENCE: Duration = Duration::from_secs(2);
/// Columns of single values and of lists, as models name them.
const TOUCHPOINT_COLUMNS: [&str; 4] = ["touchpoint", "touchpoints", "entry_touchpoint", "exit_touchpoint"];
const CHANNEL_COLUMNS: [&str; 5] = ["channel", "channels", "entry_channel", "exit_channel", "previous_channel"];
/// Functions whose texts are steps: `touchpoint`, `channel:touchpoint`, with `|` between alternatives.
const STEP_FUNCTIONS: &str = "journey_funnel";

/// What a query compares with touchpoints, with channels, and names as steps.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    touchpoints: BTreeSet<String>,
    channels: BTreeSet<String>,
    steps: BTreeSet<String>,
}

impl Named {
    /// What a plan names.
    pub fn of(plan: &LogicalPlan) -> Self {
        let mut named = Self::default();
        let walked = plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                expression.apply(|expression| {
                    named.add(expression);
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        });
        walked.expect("looking cannot fail");
        named
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.touchpoints.is_empty() && self.channels.is_empty() && self.steps.is_empty()
    }

    fn add(&mut self, expression: &Expr) {
        match expression {
            Expr::BinaryExpr(binary) if matches!(binary.op, Operator::Eq | Operator::NotEq) => {
                self.compare(&binary.left, std::slice::from_ref(&binary.right));
                self.compare(&binary.right, std::slice::from_ref(&binary.left));
            }
            Expr::InList(list) => self.compare(&list.expr, &list.list),
            Expr::ScalarFunction(call) if call.name().starts_with(STEP_FUNCTIONS) => {
                if let Some(steps) = call.args.get(3) {
                    texts_in(steps, &mut |step| _ = self.steps.insert(step));
                }
            }
            Expr::ScalarFunction(call) if call.name().starts_with("array_has") => {
                if let [list, values] = call.args.as_slice() {
                    self.compare(list, std::slice::from_ref(values));
                }
            }
            _ => {}
        }
    }

    fn compare<E: AsRef<Expr>>(&mut self, column: &Expr, values: &[E]) {
        let Expr::Column(column) = bare(column) else { return };
        let name = column.name.as_str();
        let into = if TOUCHPOINT_COLUMNS.contains(&name) {
            &mut self.touchpoints
        } else if CHANNEL_COLUMNS.contains(&name) {
            &mut self.channels
        } else {
            return;
        };
        for value in values {
            texts_in(value.as_ref(), &mut |text| _ = into.insert(text));
        }
    }

    /// A sentence for each name that no event has.
    pub async fn unknown(&self, ctx: &SessionContext) -> Vec<String> {
        match tokio::time::timeout(PATIENCE, Known::load(ctx)).await {
            Ok(Ok(known)) => self.compared_with(&known),
            // What could not be compared is no fault of the query.
            _ => Vec::new(),
        }
    }

    fn compared_with(&self, known: &Known) -> Vec<String> {
        if known.touchpoints.is_empty() {
            return Vec::new();
        }
        let mut notes = Vec::new();
        let mut note = |kind: &str, name: &str, known: &BTreeSet<String>| {
            if !known.contains(name) {
                notes.push(sentence(kind, name, known));
            }
        };
        self.touchpoints.iter().for_each(|name| note("touchpoint", name, &known.touchpoints));
        self.channels.iter().for_each(|name| note("channel", name, &known.channels));
        let alternatives = self.steps.iter().flat_map(|step| step.split('|')).map(str::trim);
        for alternative in alternatives.filter(|alternative| !matches!(*alternative, "" | "*")) {
            let mut readings =
                alternative.match_indices(':').map(|(at, _)| (&alternative[..at], &alternative[at + 1..]));
            let is_known = known.touchpoints.contains(alternative)
                || readings.clone().any(|(channel, touchpoint)| {
                    known.channels.contains(channel) && known.touchpoints.contains(touchpoint)
                });
            match readings.next() {
                _ if is_known => {}
                Some((channel, touchpoint)) => {
                    note("channel", channel, &known.channels);
                    note("touchpoint", touchpoint, &known.touchpoints);
                }
                None => note("touchpoint", alternative, &known.touchpoints),
            }
        }
        notes
    }
}

fn sentence(kind: &str, name: &str, known: &BTreeSet<String>) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("no {kind} is named '{name}'; did you mean '{meant}'?"),
        None => format!("no {kind} is named '{name}'"),
    }
}

/// An expression without casts and names around it.
fn bare(expression: &Expr) -> &Expr {
    match expression {
        Expr::Cast(cast) => bare(&cast.expr),
        Expr::TryCast(cast) => bare(&cast.expr),
        Expr::Alias(alias) => bare(&alias.expr),
        other => other,
    }
}

/// The texts of a literal, of a list of them, or of a call that makes such a list.
fn texts_in(expression: &Expr, add: &mut impl FnMut(String)) {
    match bare(expression) {
        Expr::Literal(ScalarValue::List(list), _) => {
            let values = cast(list.values(), &DataType::Utf8);
            let values = values.iter().flat_map(|values| values.as_string::<i32>().iter().flatten());
            values.for_each(|text| add(text.to_string()));
        }
        Expr::Literal(value, _) => {
            if let Some(Some(text)) = value.try_as_str() {
                add(text.to_string());
            }
        }
        Expr::ScalarFunction(call) if call.name() == "make_array" => {
            call.args.iter().for_each(|argument| texts_in(argument, add));
        }
        _ => {}
    }
}

/// Touchpoints and channels of the configuration and of all events.
#[derive(Debug, Default)]
struct Known {
    touchpoints: BTreeSet<String>,
    channels: BTreeSet<String>,
}

impl Known {
    async fn load(ctx: &SessionContext) -> Result<Self> {
        let mut known = Self::default();
        for (column, values) in [("touchpoint", &mut known.touchpoints), ("channel", &mut known.channels)] {
            let sql = format!("select distinct cast({column} as varchar) from events where {column} is not null");
            for batch in engine::query(ctx, &sql).await?.collect().await? {
                let column = cast(batch.column(0), &DataType::Utf8)?;
                values.extend(column.as_string::<i32>().iter().flatten().map(str::to_string));
            }
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions;

    async fn ctx() -> SessionContext {
        let ctx = SessionContext::new();
        functions::register_all(&ctx);
        for sql in [
            "create table events as select * from (values ('web', 'add_to_cart'), ('store', 'purchase'), \
             ('web', 'form:sent')) as rows(channel, touchpoint)",
            "create table journeys as select ['add_to_cart'] as touchpoints, ['web'] as channels, \
             [to_timestamp(0)] as times",
        ] {
            ctx.sql(sql).await.unwrap().collect().await.unwrap();
        }
        ctx
    }

    async fn notes(sql: &str) -> Vec<String> {
        let ctx = ctx().await;
        let query = engine::query(&ctx, sql).await.unwrap();
        Named::of(query.logical_plan()).unknown(&ctx).await
    }

    #[tokio::test]
    async fn a_name_that_no_event_has_is_told_wherever_it_stands() {
        let cart = "no touchpoint is named 'add_to_cat'; did you mean 'add_to_cart'?";
        for sql in [
            "select * from events where touchpoint = 'add_to_cat'",
            "select count(*) from events where 'add_to_cat' = touchpoint and channel = 'web'",
            "select count(*) filter (where touchpoint <> 'add_to_cat') from events",
            "select * from events where touchpoint in ('purchase', 'add_to_cat')",
            "select * from events where touchpoint in (select touchpoint from events where touchpoint = 'add_to_cat')",
            "with e as (select touchpoint from events) select * from e where touchpoint = 'add_to_cat'",
            "select * from journeys where array_has(touchpoints, 'add_to_cat')",
            "select window_funnel(1, to_timestamp(0), touchpoint = 'add_to_cat', touchpoint = 'purchase') from events",
            "select journey_funnel(times, touchpoints, channels, ['add_to_cat', 'purchase | store:purchase'], \
             interval '1 day') from journeys",
        ] {
            assert_eq!(notes(sql).await, [cart], "{sql}");
        }
        assert_eq!(
            notes("select 1 from events where channel = 'wbe'").await,
            ["no channel is named 'wbe'; did you mean 'web'?"]
        );
        assert_eq!(notes("select 1 from events where touchpoint = 'zzz'").await, ["no touchpoint is named 'zzz'"]);
        let steps =
            "select journey_funnel(times, touchpoints, channels, ['stor:purchase'], interval '1 day') from journeys";
        assert_eq!(notes(steps).await, ["no channel is named 'stor'; did you mean 'store'?"]);
    }

    #[tokio::test]
    async fn names_that_events_have_need_no_word() {
        for sql in [
            "select * from events where touchpoint = 'add_to_cart' or touchpoint = 'form:sent'",
            "select * from events where channel || touchpoint = 'webadd_to_cat'",
            "select journey_funnel(times, touchpoints, channels, ['*', 'web:add_to_cart|form:sent', 'store:purchase'], \
             interval '1 day') from journeys",
            "select 1",
        ] {
            assert!(notes(sql).await.is_empty(), "{sql}");
        }
    }
}
