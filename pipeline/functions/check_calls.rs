//! An analyzer rule: a wrong call of an aggregate with parameters is an error of planning.
//!
//! DataFusion itself asks an aggregate about its constants only when accumulators are made, which for groups and windows
//! is when the query runs. The rule reads them wherever a call may stand: alone, with `filter`, with `distinct`, and `over`
//! a window. The parameters of a prepared statement are read when it is executed and they are known.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, WindowFunctionDefinition};
use datafusion::optimizer::AnalyzerRule;

use super::call::{Call, Parameterised, refuse_distinct};
use super::{
    attribution_credits, markov, path_flow, sequence, sequence_next_node, shapley, timeline, top_paths, window_funnel,
};

/// Makes a session refuse wrong calls while planning.
pub(super) fn register(ctx: &SessionContext) {
    ctx.add_analyzer_rule(Arc::new(CheckCalls));
}

/// Checks a call if it is of one function: what is called, whether with `distinct`, and its arguments.
type Check = fn(&AggregateUDF, bool, &[Expr], &DFSchema) -> Result<()>;

/// Every aggregate with parameters.
const CHECKS: [Check; 10] = [
    check::<attribution_credits::AttributionCredits>,
    check::<markov::MarkovRemoval>,
    check::<path_flow::PathFlow>,
    check::<sequence::Sequence>,
    check::<sequence_next_node::SequenceNextNode>,
    check::<shapley::Shapley>,
    check::<timeline::Path>,
    check::<timeline::Timeline>,
    check::<top_paths::TopPaths>,
    check::<window_funnel::WindowFunnel>,
];

fn check<F: Parameterised>(called: &AggregateUDF, is_distinct: bool, args: &[Expr], schema: &DFSchema) -> Result<()> {
    let Some(function) = called.inner().downcast_ref::<F>() else {
        return Ok(());
    };
    refuse_distinct(function, is_distinct)?;
    function.parameters(&Call::of_plan(function.name(), args, schema)?)?;
    Ok(())
}

/// Checks every call of a plan.
#[derive(Debug)]
struct CheckCalls;

impl AnalyzerRule for CheckCalls {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| {
            let (input, calls) = match node {
                LogicalPlan::Aggregate(aggregate) => (&aggregate.input, &aggregate.aggr_expr),
                LogicalPlan::Window(window) => (&window.input, &window.window_expr),
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            for call in calls {
                call.apply(|part| check_call(part, input.schema()).map(|()| TreeNodeRecursion::Continue))?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "check_calls"
    }
}

fn check_call(expression: &Expr, schema: &DFSchema) -> Result<()> {
    let (called, is_distinct, args) = match expression {
        Expr::AggregateFunction(call) => (&call.func, call.params.distinct, &call.params.args),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(called) => (called, call.params.distinct, &call.params.args),
            WindowFunctionDefinition::WindowUDF(_) => return Ok(()),
        },
        _ => return Ok(()),
    };
    CHECKS.iter().try_for_each(|check| check(called, is_distinct, args, schema))
}

#[cfg(test)]
mod tests {
    use datafusion::common::DataFusionError;

    use super::super::{aggregate_functions, register_all};
    use super::*;

    const ROWS: &str = "(select value as id, value as second, arrow_cast(value, 'Timestamp(s)') as ts, \
                        cast(value as varchar) as page, value > 0 as a, ['x'] as path from range(3))";

    fn context() -> SessionContext {
        let ctx = SessionContext::new();
        register_all(&ctx);
        ctx
    }

    /// The error of planning a query, which is not run.
    async fn planning_error(ctx: &SessionContext, sql: &str) -> Option<String> {
        let plan = match ctx.sql(sql).await {
            Ok(frame) => frame.create_physical_plan().await.map(|_| ()),
            Err(error) => Err(error),
        };
        let error = plan.err()?;
        assert!(matches!(error.find_root(), DataFusionError::Plan(_)), "not an error of planning: {sql}: {error:?}");
        Some(error.strip_backtrace())
    }

    /// Wrong calls of every aggregate with parameters: its arguments, and what the error says.
    const WRONG: [(&str, &str, &str); 42] = [
        ("window_funnel", "10, 'fixed', second, a", "unknown mode 'fixed'; expected strict_deduplication"),
        ("window_funnel", "10, 'allow_reentry', second, a", "add it"),
        (
            "window_funnel",
            "interval '1 month', ts, a",
            "wrong window: an interval of months has no fixed length; count",
        ),
        ("window_funnel", "interval '1 month' + interval '1 day', ts, a", "wrong window: an interval of months"),
        ("window_funnel", "'soon', ts, a", "wrong window"),
        ("window_funnel", "second, ts, a", "expected the window to be a constant, got"),
        ("window_funnel", "cast(random() as bigint), ts, a", "expected the window to be a constant, got"),
        ("window_funnel", "-1, ts, a", "wrong window: a span must not be negative"),
        ("window_funnel", "cast(null as bigint), ts, a", "expected the window to be a span of time, got null"),
        ("window_funnel_events", "10, 'fixed', second, a", "unknown mode 'fixed'; expected strict_deduplication"),
        ("window_funnel_events", "second, ts, a", "expected the window to be a constant, got"),
        ("sequence_match", "'(?1', second, a", "the pattern has an item that is not closed at position 1"),
        ("sequence_match", "'(?1' || ')(?2)', second, a", "the pattern has no condition 2 to refer to at position 5"),
        ("sequence_match", "'(?1)(?t<=1 month)', ts, a", "months has no fixed length"),
        ("sequence_match", "page, second, a", "expected the pattern to be a constant, got"),
        ("sequence_count", "'(?2)', second, a", "the pattern has no condition 2"),
        ("sequence_match_events", "'(?2)', second, a", "the pattern has no condition 2"),
        ("sequence_next_node", "'up', 'head', ts, page, a", "expected direction 'forward' or 'backward', got 'up'"),
        (
            "sequence_next_node",
            "'forward', 'tail', ts, page, a",
            "nothing comes after the tail: with 'forward' use base",
        ),
        ("sequence_next_node", "'forward', page, ts, page, a", "expected the base to be a constant, got"),
        ("markov_removal", "5, path, 1, 1", "expected order to be a whole number from 1 to 4, got 5"),
        ("markov_removal", "2 + 3, path, 1, 1", "expected order to be a whole number from 1 to 4, got 5"),
        ("markov_removal", "second, path, 1, 1", "expected the order to be a constant, got"),
        ("shapley", "'fair', path, 1, 1", "expected game to be 'conversions' or 'rate', got fair"),
        ("shapley", "page, path, 1, 1", "expected the game to be a constant, got"),
        ("top_paths", "0, path, 8", "expected the count to be a whole number from 1, got 0"),
        ("top_paths", "5, path, second", "expected the limit to be a constant, got"),
        ("top_paths", "5, path, 8, page", "expected goals to be booleans or lists of booleans, got"),
        ("path_flow", "path, [ts], 0", "expected the limit to be a whole number from 1, got 0"),
        ("path_flow", "path, [ts], second", "expected the limit to be a constant, got"),
        ("path_flow", "path, path, 8", "expected a list of timestamps"),
        ("attribution_credits", "'fair', path, [ts], [a], '1 day'", "expected a model (first, last, linear"),
        ("attribution_credits", "['last', 'last'], path, [ts], [a], '1 day'", "the model last is asked for twice"),
        ("attribution_credits", "page, path, [ts], [a], '1 day'", "expected the models to be a constant, got"),
        ("attribution_credits", "second, path, [ts], [a], '1 day'", "expected text, got Int64"),
        ("attribution_credits", "'last', path, [ts], [a], interval '1 month'", "months has no fixed length"),
        ("attribution_credits", "'last', path, [ts], [a], second", "expected the look_back to be a constant, got"),
        ("attribution_credits", "'last', path, [ts], [a], '1 day', [1.5::double]", "expected value to be decimal or"),
        (
            "attribution_credits",
            "'time_decay', path, [ts], [a], '1 day', [1], interval '0 days'",
            "expected a half_life above 0",
        ),
        (
            "attribution_credits",
            "'time_decay', path, [second], [a], 1",
            "time_decay over whole-number times needs a half_life in their unit",
        ),
        ("retention", "a", "expected 2 to 32 conditions, got 1"),
        ("timeline", "ts, page, named_struct('times', 1)", "the name times is taken twice"),
    ];

    #[tokio::test]
    async fn a_wrong_call_is_refused_while_planning_wherever_it_stands() {
        let ctx = context();
        for (function, arguments, message) in WRONG {
            let call = format!("{function}({arguments})");
            for sql in [
                format!("select {call} from {ROWS}"),
                format!("select id, {call} as answer from {ROWS} group by id"),
                format!("select {call} filter (where a) from {ROWS}"),
                format!("select {call} over () from {ROWS}"),
                format!("select {call} over (partition by id order by ts) from {ROWS}"),
                format!("select {call} over (order by ts rows between 1 preceding and current row) from {ROWS}"),
                format!(
                    "select * from {ROWS} where id in (select min(id) from {ROWS} group by a having {call} is null)"
                ),
            ] {
                let error = planning_error(&ctx, &sql).await.unwrap_or_else(|| panic!("no error: {sql}"));
                assert!(error.contains(&format!("{function}: ")) && error.contains(message), "{sql}: {error}");
            }
        }
    }

    /// A right call of every aggregate, and what it says of `distinct`; nothing where it changes nothing.
    const RIGHT: [(&str, &str, Option<&str>); 15] = [
        ("arg_min", "page, ts", None),
        ("window_funnel", "10, second, a", Some("select distinct rows in a subquery")),
        ("window_funnel_events", "10, second, a", Some("select distinct rows in a subquery")),
        ("sequence_match", "'(?1)', second, a", Some("select distinct rows in a subquery")),
        ("sequence_count", "'(?1)', second, a", Some("select distinct rows in a subquery")),
        ("sequence_match_events", "'(?1)', second, a", Some("select distinct rows in a subquery")),
        ("sequence_next_node", "'forward', 'head', ts, page, a", Some("select distinct rows in a subquery")),
        ("markov_removal", "2, path, 1, 1", Some("each row counts; select distinct rows in a subquery")),
        ("shapley", "'rate', path, 1, 1", Some("each row counts; select distinct rows in a subquery")),
        ("path", "ts, page", Some("path_collapse makes equal neighbours one")),
        ("timeline", "ts, page, named_struct('pages', page)", Some("select distinct rows in a subquery")),
        ("top_paths", "5, path, 8, a", Some("each journey counts; select distinct rows in a subquery")),
        ("path_flow", "path, [ts], 8, a", Some("each journey counts; select distinct rows in a subquery")),
        (
            "attribution_credits",
            "'last', path, [ts], [a], interval '1 day'",
            Some("each customer counts; select distinct rows in a subquery"),
        ),
        ("retention", "a, second = 1", None),
    ];

    #[tokio::test]
    async fn a_right_call_passes_and_distinct_is_refused_where_it_means_nothing() {
        let ctx = context();
        let called: Vec<&str> = RIGHT.iter().map(|(function, ..)| *function).collect();
        for function in aggregate_functions() {
            assert!(called.contains(&function.name()), "no call of {}", function.name());
        }
        for (function, arguments, remedy) in RIGHT {
            for over in ["", " over (partition by a)"] {
                let sql = format!("select {function}({arguments}){over} from {ROWS}");
                assert_eq!(planning_error(&ctx, &sql).await, None, "{sql}");
                let sql = format!("select {function}(distinct {arguments}){over} from {ROWS}");
                let error = planning_error(&ctx, &sql).await;
                match remedy {
                    None => assert_eq!(error, None, "{sql}"),
                    Some(remedy) => {
                        let message = format!("{function}: distinct is not supported; {remedy}");
                        assert!(error.as_ref().is_some_and(|error| error.contains(&message)), "{sql}: {error:?}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn explain_shows_the_error() {
        let sql = format!("explain select window_funnel(second, second, a) over () from {ROWS}");
        let rows = context().sql(&sql).await.unwrap().collect().await.unwrap();
        let shown = datafusion::arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
        assert!(shown.contains("window_funnel: expected the window to be a constant, got"), "{shown}");
    }

    #[tokio::test]
    async fn parameters_of_prepared_statements_are_checked_once_they_are_known() {
        let ctx = context();
        for (types, call, right, wrong, message) in [
            (
                "bigint, varchar",
                "window_funnel($1, $2, second, a)",
                "5, 'strict_once'",
                "5, 'fixed'",
                "unknown mode 'fixed'",
            ),
            ("bigint", "window_funnel($1, second, a) over (partition by id)", "5", "-5", "must not be negative"),
            ("varchar", "sequence_match($1, second, a)", "'(?1)'", "'(?2)'", "the pattern has no condition 2"),
            ("varchar", "sequence_next_node($1, 'head', ts, page, a)", "'forward'", "'up'", "expected direction"),
            ("bigint", "markov_removal($1, path, 1, 1)", "4", "5", "from 1 to 4, got 5"),
            ("bigint", "top_paths($1, path, 8)", "4", "0", "a whole number from 1, got 0"),
            ("varchar", "attribution_credits($1, path, [ts], [a], '1 day')", "'last'", "'fair'", "expected a model"),
            ("varchar", "shapley($1, path, 1, 1)", "'rate'", "'fair'", "expected game to be"),
        ] {
            let prepare = format!("prepare asked({types}) as select {call} from {ROWS}");
            ctx.sql(&prepare).await.unwrap().collect().await.unwrap();
            ctx.sql(&format!("execute asked({right})")).await.unwrap().collect().await.unwrap();
            let error = planning_error(&ctx, &format!("execute asked({wrong})")).await;
            assert!(error.as_ref().is_some_and(|error| error.contains(message)), "{call}: {error:?}");
            ctx.sql("deallocate asked").await.unwrap().collect().await.unwrap();
        }
    }

    /// The clock of the query and a subquery are constants of a query, though a plan does not know them yet.
    #[tokio::test]
    async fn what_is_known_later_is_left_to_later() {
        let ctx = context();
        for window in ["now() - now() + interval '5 seconds'", "(select 5)"] {
            let sql = format!("select id, window_funnel({window}, ts, a) as level from {ROWS} group by id");
            assert_eq!(planning_error(&ctx, &sql).await, None, "{sql}");
        }
    }
}
