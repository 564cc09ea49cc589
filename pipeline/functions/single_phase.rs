//! A physical optimizer rule: aggregates that keep every event are computed in one phase.
//!
//! DataFusion aggregates twice: each partition on its own, then, after an exchange by group, their states. That pays
//! where a state is smaller than its rows. The state of `timeline` and of `path` is all of their rows, nested, and costs several
//! copies more than an exchange of the plain rows. The rule must run before the one that adds exchanges
//! ([`single_phase_first`] puts it there), which then adds the exchange below the only aggregate.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};

use super::timeline::{Path, Timeline};

/// DataFusion's physical optimizer rules, after the rule of this module.
pub fn single_phase_first() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::default().rules;
    rules.insert(0, Arc::new(SinglePhase));
    rules
}

/// Computes `timeline` and `path` in one phase.
#[derive(Debug)]
struct SinglePhase;

impl PhysicalOptimizerRule for SinglePhase {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|plan| match in_one_phase(&plan)? {
            Some(aggregate) => Ok(Transformed::yes(Arc::new(aggregate) as _)),
            None => Ok(Transformed::no(plan)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "single_phase"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The two phases of a plan's topmost node as one, if they keep every event.
fn in_one_phase(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<AggregateExec>> {
    let Some(last) = plan.downcast_ref::<AggregateExec>() else {
        return Ok(None);
    };
    let Some(first) = last.input().downcast_ref::<AggregateExec>() else {
        return Ok(None);
    };
    let keeps_events = |aggregate: &AggregateExec| {
        aggregate.aggr_expr().iter().any(|call| {
            let function = call.fun().inner();
            function.downcast_ref::<Timeline>().is_some() || function.downcast_ref::<Path>().is_some()
        })
    };
    let is_two_phases = *last.mode() == AggregateMode::FinalPartitioned && *first.mode() == AggregateMode::Partial;
    if !is_two_phases || last.group_expr().is_empty() || !keeps_events(first) {
        return Ok(None);
    }
    let aggregate = AggregateExec::try_new(
        AggregateMode::SinglePartitioned,
        first.group_expr().clone(),
        first.aggr_expr().to_vec(),
        first.filter_expr().to_vec(),
        Arc::clone(first.input()),
        first.input_schema(),
    )?;
    Ok(Some(aggregate.with_limit_options(last.limit_options())))
}
