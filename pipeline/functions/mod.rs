//! DataFusion functions: the words of journey SQL. One function is one file; a new one adds its `mod` line and a line
//! in [`scalar_functions`], [`aggregate_functions`] or [`window_functions`].
//!
//! Times are microseconds, UTC; lists of one customer or journey are parallel: element `i` of each describes event `i`.

mod arguments;
mod attribution;
mod cells;
mod changes;
mod content_id;
mod content_number;
mod count;
mod elements;
mod funnel;
mod gap_starts;
mod goal_touches;
mod journey_starts;
mod list_any;
mod list_sum;
mod markov;
mod moments;
mod occurrences;
mod path;
mod path_counts;
mod path_edges;
mod path_slice;
mod path_tables;
mod retention;
#[cfg(test)]
mod row_aggregates;
mod row_patterns;
mod run_ids;
mod run_starts;
mod sequence;
mod sequence_next_node;
mod sessionize;
mod shapley;
mod single_phase;
mod split;
mod starts;
mod statistics;
mod switches;
mod timeline;
mod window_funnel;

use std::sync::Arc;

use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{AggregateUDF, DocSection, Documentation, ScalarUDF, WindowUDF};

pub use content_id::{content_hash, content_id};
pub use path_tables::{PathTable, path_tables};
pub use row_patterns::standard_sql;
pub use single_phase::single_phase_first;

/// Every scalar function.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(attribution::AttributionWeights::default().into()),
        Arc::new(cells::JourneyCells::default().into()),
        Arc::new(content_id::ContentId::default().into()),
        Arc::new(content_number::ContentNumber::default().into()),
        Arc::new(count::CountDistinct::default().into()),
        Arc::new(count::CountSwitches::default().into()),
        Arc::new(funnel::JourneyFunnel::default().into()),
        Arc::new(funnel::JourneyFunnelAttempts::default().into()),
        Arc::new(funnel::JourneyFunnelPositions::default().into()),
        Arc::new(gap_starts::GapStarts::default().into()),
        Arc::new(goal_touches::GoalTouches::default().into()),
        Arc::new(journey_starts::JourneyStarts::default().into()),
        Arc::new(list_any::ListAny::default().into()),
        Arc::new(list_sum::ListSum::default().into()),
        Arc::new(path::PathCollapse::default().into()),
        Arc::new(path::PathText::default().into()),
        Arc::new(path_edges::PathEdges::default().into()),
        Arc::new(path_slice::PathSlice::default().into()),
        Arc::new(run_ids::RunIds::default().into()),
        Arc::new(run_starts::RunStarts::default().into()),
        Arc::new(split::SplitAt::default().into()),
        Arc::new(statistics::DifferenceInterval::default().into()),
        Arc::new(statistics::SampleRatioP::default().into()),
        Arc::new(statistics::TwoProportionTest::default().into()),
        Arc::new(statistics::WilsonInterval::default().into()),
        Arc::new(switches::ChannelSwitches::default().into()),
    ]
}

/// Every aggregate function.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![
        Arc::new(markov::MarkovRemoval::default().into()),
        Arc::new(retention::Retention::default().into()),
        Arc::new(sequence::Sequence::count().into()),
        Arc::new(sequence::Sequence::events().into()),
        Arc::new(sequence::Sequence::matches().into()),
        Arc::new(sequence_next_node::SequenceNextNode::default().into()),
        Arc::new(shapley::Shapley::default().into()),
        Arc::new(timeline::Path::default().into()),
        Arc::new(timeline::Timeline::default().into()),
        Arc::new(window_funnel::WindowFunnel::events().into()),
        Arc::new(window_funnel::WindowFunnel::level().into()),
    ]
}

/// Every window function.
pub fn window_functions() -> Vec<Arc<WindowUDF>> {
    vec![Arc::new(sessionize::Sessionize::default().into())]
}

/// Registers every function with a session, and `match_recognize`.
pub fn register_all(ctx: &SessionContext) {
    for function in scalar_functions() {
        ctx.register_udf(function.as_ref().clone());
    }
    for function in aggregate_functions() {
        ctx.register_udaf(function.as_ref().clone());
    }
    for function in window_functions() {
        ctx.register_udwf(function.as_ref().clone());
    }
    path_tables::register(ctx);
    row_patterns::register(ctx);
}

/// The last sentence of a description: what differs from the function of ClickHouse that gave the name. The tests hold it
/// against a list of their own, item by item.
fn unlike_clickhouse(theirs: &str, differences: &[&str]) -> String {
    format!(" Unlike ClickHouse's {theirs}: {}.", differences.join("; "))
}

/// Differences that several functions share.
const NULL_CONDITIONS: &str = "null conditions are false, where it passes over rows in which any condition is null";
const NULL_ARGUMENTS: &str = "every argument may be null, where it takes at most 8 such";
const TIMES: &str = "signed numbers and times finer than a second are taken, which it refuses";

/// Documentation of a function for SQL users: what it returns, its syntax, a query that runs, its arguments.
fn document(description: &str, syntax: &str, example: &str, arguments: &[(&str, &str)]) -> Documentation {
    let section = DocSection { include: true, label: "Journey Functions", description: None };
    let documentation = Documentation::builder(section, description, syntax).with_sql_example(example);
    arguments
        .iter()
        .fold(documentation, |documentation, (name, meaning)| documentation.with_argument(*name, *meaning))
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::elements::testing::rows_of;
    use super::*;

    /// Built-in functions that ours replace; each of ours says why.
    const REPLACED: [&str; 1] = ["list_sum"];

    /// Name, aliases and documentation of every function.
    fn all() -> Vec<(String, Vec<String>, Option<Documentation>)> {
        let scalars = scalar_functions().into_iter().map(|function| {
            (function.name().to_owned(), function.aliases().to_vec(), function.documentation().cloned())
        });
        let aggregates = aggregate_functions().into_iter().map(|function| {
            (function.name().to_owned(), function.aliases().to_vec(), function.documentation().cloned())
        });
        let windows = window_functions().into_iter().map(|function| {
            (function.name().to_owned(), function.aliases().to_vec(), function.documentation().cloned())
        });
        scalars.chain(aggregates).chain(windows).collect()
    }

    #[test]
    fn no_name_is_taken_twice() {
        let built_in = SessionContext::new().state();
        let mut taken: HashSet<String> = built_in
            .scalar_functions()
            .keys()
            .chain(built_in.aggregate_functions().keys())
            .chain(built_in.window_functions().keys())
            .filter(|name| !REPLACED.contains(&name.as_str()))
            .cloned()
            .collect();
        for (name, aliases, _) in all() {
            assert!(taken.insert(name.clone()), "{name} is taken twice");
            for alias in aliases {
                assert!(taken.insert(alias.clone()), "{alias} is taken twice");
            }
        }
    }

    #[test]
    fn every_function_is_documented_with_an_example() {
        for (name, _, documentation) in all() {
            let documentation = documentation.unwrap_or_else(|| panic!("{name} has no documentation"));
            assert!(!documentation.description.is_empty(), "{name} has no description");
            assert!(
                documentation.syntax_example.starts_with(&format!("{name}(")),
                "{name}: syntax of another function"
            );
            let example = documentation.sql_example.unwrap_or_default();
            assert!(example.contains(&name), "{name} has no example");
        }
    }

    #[tokio::test]
    async fn the_examples_run() {
        let ctx = SessionContext::new();
        register_all(&ctx);
        let events = "create table events as select 'c-1' as customer_id, 'e-1' as event_id, 'web' as channel, \
                      timestamp '2026-01-01T10:00:00Z' as occurred_at";
        ctx.sql(events).await.unwrap().collect().await.unwrap();
        for (name, _, documentation) in all() {
            let example = documentation.and_then(|documentation| documentation.sql_example).unwrap_or_default();
            let rows = ctx.sql(&example).await.unwrap().count().await.unwrap();
            assert!(rows > 0, "{name}: {example}");
        }
    }

    /// The engine turns a correlated subquery into a join, and asks the function what a customer without rows has.
    #[tokio::test]
    async fn a_subquery_without_rows_answers_as_a_group_without_rows_does() {
        for call in [
            "markov_removal(1, [page], 1, 1)",
            "path(at, page)",
            "retention(at = 1, at = 2, at = 3)",
            "sequence_count('(?1)', at, true)",
            "sequence_match('(?1)', at, true)",
            "sequence_match_events('(?1)', at, true)",
            "sequence_next_node('forward', 'head', at, page, true)",
            "shapley('rate', [page], 1, 1)",
            "timeline(to_timestamp(at), page, named_struct('pages', page))",
            "window_funnel(9, at, true)",
            "window_funnel_events(9, at, true)",
        ] {
            let visits = "(values (1, 1, 'home')) as visits(visitor, at, page)";
            let expected = rows_of(&format!("select {call} from {visits} where at > 9")).await;
            let sql = format!(
                "select (select {call} from {visits} where visitor = customer) from (values (2)) as customers(customer)"
            );
            assert_eq!(rows_of(&sql).await, expected, "{call}");
            let name = call.split('(').next().unwrap();
            assert!(aggregate_functions().iter().any(|function| function.name() == name), "{name}");
        }
    }

    #[test]
    fn register_all_makes_every_function_known() {
        let ctx = SessionContext::new();
        register_all(&ctx);
        let state = ctx.state();
        for function in scalar_functions() {
            assert_eq!(state.scalar_functions().get(function.name()), Some(&function));
        }
        for function in aggregate_functions() {
            assert_eq!(state.aggregate_functions().get(function.name()), Some(&function));
        }
        for function in window_functions() {
            assert_eq!(state.window_functions().get(function.name()), Some(&function));
        }
    }
}
