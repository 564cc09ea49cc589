//! DataFusion functions: the words of journey SQL. One function is one file; a new one adds its `mod` line and a line
//! in [`scalar_functions`], [`aggregate_functions`] or [`window_functions`]. What users may expect of a function stands in
//! its manual (see `documentation.rs`), which the engine, the shell, the README and the reference show; the head of its
//! file says how it is made.
//!
//! Times are microseconds, UTC; lists of one customer or journey are parallel: element `i` of each describes event `i`.

mod arg_min;
mod arguments;
mod attribution;
mod attribution_credits;
mod call;
mod cells;
mod changes;
mod check_calls;
mod conditions;
mod content_id;
mod content_number;
mod count;
mod counted_groups;
mod documentation;
mod elements;
mod first_at;
mod funnel;
mod gap_starts;
mod goal_touches;
mod grouped_rows;
mod journey_paths;
mod journey_starts;
mod list_any;
#[cfg(test)]
mod list_functions;
mod list_sum;
mod markov;
mod moments;
mod occurrences;
mod path;
mod path_counts;
mod path_edges;
mod path_flow;
mod path_slice;
mod path_tables;
mod retention;
#[cfg(test)]
mod row_aggregates;
mod row_patterns;
mod run_end;
mod run_ids;
mod run_starts;
mod sequence;
mod sequence_next_node;
mod sessionize;
mod shapley;
mod show_functions;
mod single_group;
mod single_phase;
mod slices;
mod split;
mod starts;
mod statistics;
mod switches;
mod symbols;
mod timeline;
mod top_paths;
#[cfg(test)]
mod ways;
mod window_funnel;

use std::sync::Arc;

use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

pub use content_id::{content_hash, content_id};
pub use documentation::{Documented, Paragraph, documented, known_to};
pub use path_tables::{PathTable, path_tables};
pub use row_patterns::standard_sql;
pub use show_functions::show_functions;
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
        Arc::new(first_at::FirstAt::default().into()),
        Arc::new(funnel::JourneyFunnel::furthest().into()),
        Arc::new(funnel::JourneyFunnel::attempts().into()),
        Arc::new(funnel::JourneyFunnel::positions().into()),
        Arc::new(gap_starts::GapStarts::default().into()),
        Arc::new(goal_touches::GoalTouches::default().into()),
        Arc::new(journey_starts::JourneyStarts::default().into()),
        Arc::new(list_any::ListAny::default().into()),
        Arc::new(list_sum::ListSum::default().into()),
        Arc::new(path::PathCollapse::default().into()),
        Arc::new(path::PathText::default().into()),
        Arc::new(path_edges::PathEdges::default().into()),
        Arc::new(path_slice::PathSlice::default().into()),
        Arc::new(run_end::RunEnd::default().into()),
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
        Arc::new(arg_min::ArgMin::default().into()),
        Arc::new(attribution_credits::AttributionCredits::default().into()),
        Arc::new(markov::MarkovRemoval::default().into()),
        Arc::new(path_flow::PathFlow::default().into()),
        Arc::new(retention::Retention::default().into()),
        Arc::new(sequence::Sequence::count().into()),
        Arc::new(sequence::Sequence::events().into()),
        Arc::new(sequence::Sequence::matches().into()),
        Arc::new(sequence_next_node::SequenceNextNode::default().into()),
        Arc::new(shapley::Shapley::default().into()),
        Arc::new(timeline::Path::default().into()),
        Arc::new(timeline::Timeline::default().into()),
        Arc::new(top_paths::TopPaths::default().into()),
        Arc::new(window_funnel::WindowFunnel::events().into()),
        Arc::new(window_funnel::WindowFunnel::level().into()),
    ]
}

/// Every window function.
pub fn window_functions() -> Vec<Arc<WindowUDF>> {
    vec![Arc::new(sessionize::Sessionize::default().into())]
}

/// Registers every function with a session, `match_recognize`, and the rule that refuses wrong calls while planning.
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
    check_calls::register(ctx);
    path_tables::register(ctx);
    row_patterns::register(ctx);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::elements::testing::rows_of;
    use super::*;

    /// Built-in functions that ours replace; each of ours says why.
    const REPLACED: [&str; 1] = ["list_sum"];

    /// Name and aliases of every function.
    fn all() -> Vec<(String, Vec<String>)> {
        let scalars =
            scalar_functions().into_iter().map(|function| (function.name().to_owned(), function.aliases().to_vec()));
        let aggregates =
            aggregate_functions().into_iter().map(|function| (function.name().to_owned(), function.aliases().to_vec()));
        let windows =
            window_functions().into_iter().map(|function| (function.name().to_owned(), function.aliases().to_vec()));
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
        for (name, aliases) in all() {
            assert!(taken.insert(name.clone()), "{name} is taken twice");
            for alias in aliases {
                assert!(taken.insert(alias.clone()), "{alias} is taken twice");
            }
        }
    }

    /// The engine turns a correlated subquery into a join, and asks the function what a customer without rows has.
    #[tokio::test]
    async fn a_subquery_without_rows_answers_as_a_group_without_rows_does() {
        let calls = [
            "arg_min(page, at)",
            "attribution_credits('first', [page], [at], [true], 9)",
            "markov_removal(1, [page], 1, 1)",
            "path(at, page)",
            "path_flow([page], [to_timestamp(at)], 8)",
            "retention(at = 1, at = 2, at = 3)",
            "sequence_count('(?1)', at, true)",
            "sequence_match('(?1)', at, true)",
            "sequence_match_events('(?1)', at, true)",
            "sequence_next_node('forward', 'head', at, page, true)",
            "shapley('rate', [page], 1, 1)",
            "timeline(to_timestamp(at), page, named_struct('pages', page))",
            "top_paths(9, [page], 8)",
            "window_funnel(9, at, true)",
            "window_funnel_events(9, at, true)",
        ];
        let called: Vec<&str> = calls.iter().map(|call| call.split('(').next().unwrap()).collect();
        for function in aggregate_functions() {
            assert!(called.contains(&function.name()), "no call of {}", function.name());
        }
        for call in calls {
            let visits = "(values (1, 1, 'home')) as visits(visitor, at, page)";
            let expected = rows_of(&format!("select {call} from {visits} where at > 9")).await;
            let sql = format!(
                "select (select {call} from {visits} where visitor = customer) from (values (2)) as customers(customer)"
            );
            assert_eq!(rows_of(&sql).await, expected, "{call}");
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
