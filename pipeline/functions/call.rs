//! Calls of aggregates with parameters: constants such as a window, a mode or a pattern, read in both plans.
//!
//! An aggregate reads its parameters from a [`Call`], once while the query is planned ([`super::check_calls`]) and once
//! when its accumulators are made, by one function: so that what is refused is refused before anything runs, and both
//! plans agree.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, internal_err, plan_datafusion_err, plan_err};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDFImpl, ColumnarValue, Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::moments::constant_span;

/// An aggregate with parameters.
pub(super) trait Parameterised: AggregateUDFImpl {
    /// What they are read into.
    type Parameters;

    /// Reads the parameters of a call; `None` while one is not known yet. An error names the argument and the remedy.
    fn parameters(&self, call: &Call) -> Result<Option<Self::Parameters>>;

    /// What to do instead of `distinct`, which an aggregate of ordered or counted rows does not take.
    fn instead_of_distinct(&self) -> &'static str {
        "select distinct rows in a subquery"
    }

    /// The parameters of a call that is about to run.
    fn parameters_of(&self, args: &AccumulatorArgs) -> Result<Self::Parameters> {
        refuse_distinct(self, args.is_distinct)?;
        match self.parameters(&Call::of_accumulator(self.name(), args))? {
            Some(parameters) => Ok(parameters),
            None => internal_err!("{}: a parameter is not known when the query runs", self.name()),
        }
    }
}

/// Fails for a call with `distinct`.
pub(super) fn refuse_distinct<F: Parameterised + ?Sized>(function: &F, is_distinct: bool) -> Result<()> {
    if is_distinct {
        return plan_err!("{}: distinct is not supported; {}", function.name(), function.instead_of_distinct());
    }
    Ok(())
}

/// The arguments of a call, in either plan.
pub(super) struct Call<'a> {
    function: &'a str,
    types: Vec<DataType>,
    arguments: Arguments<'a>,
}

enum Arguments<'a> {
    Logical(&'a [Expr]),
    Physical(&'a [Arc<dyn PhysicalExpr>]),
}

impl<'a> Call<'a> {
    /// A call in a logical plan, over rows of the schema; its arguments are coerced.
    pub(super) fn of_plan(function: &'a str, arguments: &'a [Expr], schema: &DFSchema) -> Result<Self> {
        let types = arguments.iter().map(|argument| argument.get_type(schema)).collect::<Result<_>>()?;
        Ok(Self { function, types, arguments: Arguments::Logical(arguments) })
    }

    /// A call for which an accumulator is made.
    pub(super) fn of_accumulator(function: &'a str, args: &AccumulatorArgs<'a>) -> Self {
        let types = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        Self { function, types, arguments: Arguments::Physical(args.exprs) }
    }

    /// A call whose arguments are physical expressions of the given types.
    pub(super) fn of_expressions(
        function: &'a str,
        arguments: &'a [Arc<dyn PhysicalExpr>],
        types: Vec<DataType>,
    ) -> Self {
        Self { function, types, arguments: Arguments::Physical(arguments) }
    }

    /// The types of the arguments.
    pub(super) fn types(&self) -> &[DataType] {
        &self.types
    }

    /// The value of an argument that has to be a constant; `what` names it. `None` while it is not known: the parameter of a
    /// prepared statement, a subquery.
    pub(super) fn constant(&self, position: usize, what: &str) -> Result<Option<ScalarValue>> {
        match self.arguments {
            Arguments::Logical(arguments) => constant_of_plan(self.function, what, &arguments[position]),
            Arguments::Physical(arguments) => constant(self.function, what, &arguments[position]).map(Some),
        }
    }

    /// A constant text.
    pub(super) fn text(&self, position: usize, what: &str) -> Result<Option<String>> {
        let Some(value) = self.constant(position, what)? else {
            return Ok(None);
        };
        match value.try_as_str() {
            Some(Some(text)) => Ok(Some(text.to_owned())),
            _ => plan_err!("{}: expected {what} to be a text, got {value}", self.function),
        }
    }

    /// A constant span between moments of a type, in the unit in which they are stored.
    pub(super) fn span(&self, position: usize, what: &str, moment: &DataType) -> Result<Option<i64>> {
        let value = self.constant(position, what)?;
        value.map(|value| constant_span(self.function, what, &value, moment)).transpose()
    }
}

fn not_constant<T>(function: &str, what: &str, expression: &dyn std::fmt::Display) -> Result<T> {
    plan_err!("{function}: expected {what} to be a constant, got {expression}")
}

/// The value of an expression without columns.
fn constant(function: &str, what: &str, expression: &Arc<dyn PhysicalExpr>) -> Result<ScalarValue> {
    if !collect_columns(expression).is_empty() {
        return not_constant(function, what, expression);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let one_row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
    let value = expression.evaluate(&one_row).and_then(|value| match value {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0),
    });
    value.map_err(|error| no_value(function, what, &error))
}

fn no_value(function: &str, what: &str, error: &DataFusionError) -> DataFusionError {
    plan_datafusion_err!("{function}: wrong {}: {}", what.trim_start_matches("the "), error.strip_backtrace())
}

/// The same in a logical plan.
fn constant_of_plan(function: &str, what: &str, expression: &Expr) -> Result<Option<ScalarValue>> {
    if let Expr::Literal(value, _) = expression {
        return Ok(Some(value.clone()));
    }
    if expression.any_column_refs() || expression.contains_outer() || expression.is_volatile() {
        return not_constant(function, what, expression);
    }
    if expression.exists(|part| Ok(matches!(part, Expr::Placeholder(_) | Expr::ScalarSubquery(_))))? {
        return Ok(None);
    }
    // The clock of the query, which simplifying makes a constant, is not known here; another will do for a check.
    let now = SimplifyContext::builder().with_current_time().build();
    let simplified = ExprSimplifier::new(now).simplify(expression.clone());
    let (nothing, properties, planning) =
        (DFSchema::empty(), ExecutionProps::new(), PhysicalPlanningContext::default());
    let expression = simplified
        .and_then(|expression| create_physical_expr(&expression, &nothing, &properties, &planning))
        .map_err(|error| no_value(function, what, &error))?;
    constant(function, what, &expression).map(Some)
}
