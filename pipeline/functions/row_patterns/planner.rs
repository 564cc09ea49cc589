//! Plans `match_recognize` with nodes that DataFusion has.
//!
//! ```text
//! Projection   measures                                  what is said of each match, in SQL
//!  Projection  fields of the structs                     what they need, as columns
//!   Unnest     matches                                   one row per row of the result
//!    Aggregate match_rows(task, position, …)             one list of structs per partition
//!     Window   row_number(), lag, lead                   the order of the rows, and what lies at fixed distances
//!      Projection keys and what is computed of each row
//! ```
//!
//! The window sorts (and may spill), and its output is sorted by the keys of the partition, so that the aggregate takes
//! one partition after another and holds no more than one. Rows that the keys of the order do not tell apart are
//! ordered by all that the answer depends on: what is left is equal, and may be exchanged.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue, UnnestOptions, plan_err};
use datafusion::functions::core::expr_fn::{get_field, named_struct};
use datafusion::functions_window::expr_fn::{lag, lead, row_number};
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, Expr, ExprFunctionExt, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarUDF,
    cast, ident, lit, when,
};
use datafusion::sql::sqlparser::ast::{self, TableFactor};

use super::super::moments::{Spans, coerce_span};
use super::clause::{self, Variables};
use super::expressions::{Position, Reader, over_input};
use super::leaves::{Draft, Leaves};
use super::match_rows::MatchRows;
use super::match_value::MatchValue;
use super::pattern::Pattern;
use super::program::{MOST_INSTRUCTIONS, Program};
use super::spec::{Definition, Leaf, Shape, Spec};
use super::walk::Rules;

/// Plans the clause; anything else is left to DataFusion.
#[derive(Debug)]
pub(super) struct MatchRecognizePlanner;

impl RelationPlanner for MatchRecognizePlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::MatchRecognize {
            table,
            partition_by,
            order_by,
            measures,
            rows_per_match,
            after_match_skip,
            pattern,
            symbols,
            alias,
        } = relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let input = context.plan(clause::input(*table)?)?;
        let (pattern, mut variables) = clause::pattern(context, &pattern)?;
        if Program::new(&pattern).is_err() {
            return plan_err!(
                "match_recognize: the pattern is too large: written out it has more than {MOST_INSTRUCTIONS} parts: lower its bounds"
            );
        }
        let definitions = clause::definitions(context, symbols, &mut variables)?;
        let skip = clause::skip(context, after_match_skip, &variables)?;
        let shape = clause::shape(rows_per_match, &pattern)?;

        let schema = Arc::clone(input.schema());
        let keys =
            partition_by.into_iter().map(|key| over_input(context, key, &schema, "")).collect::<Result<Vec<_>>>()?;
        let order =
            order_by.into_iter().map(|key| sort_expression(context, key, &schema)).collect::<Result<Vec<_>>>()?;
        let within = match definitions.within {
            Some(within) => Some(read_within(context, within, &order, &schema)?),
            None => None,
        };

        let mut looks = Leaves::default();
        let mut conditions = Vec::new();
        for (variable, condition) in definitions.conditions.into_iter().enumerate() {
            let position = Position::Define(variable as u8);
            let mut reader = Reader { context, input: &schema, variables: &variables, position, leaves: &mut looks };
            conditions.push(condition.map(|condition| reader.read(condition)).transpose()?);
        }
        let mut outputs = Leaves::default();
        let mut said = Vec::new();
        for measure in measures {
            let position = Position::Measures;
            let mut reader = Reader { context, input: &schema, variables: &variables, position, leaves: &mut outputs };
            let expression = reader.read(measure.expr)?;
            said.push((context.normalize_ident(measure.alias), expression));
        }
        let rules = Rules { skip, shows_partial: definitions.shows_partial, is_limited: within.is_some() };
        let clause = Clause { input, schema, pattern, variables, keys, order, within, shape, rules };
        let plan = clause.plan(looks, conditions, outputs, said)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn sort_expression(context: &mut dyn RelationPlannerContext, key: ast::OrderByExpr, schema: &DFSchema) -> Result<Sort> {
    if key.with_fill.is_some() {
        return plan_err!("match_recognize: order by {key}: with fill is not supported");
    }
    let expression = over_input(context, key.expr, schema, "")?;
    let is_ascending = key.options.asc.unwrap_or(true);
    // As DataFusion orders elsewhere: null is larger than any value.
    Ok(expression.sort(is_ascending, key.options.nulls_first.unwrap_or(!is_ascending)))
}

/// The span of a match, and the time that it is measured by.
fn read_within(
    context: &mut dyn RelationPlannerContext,
    within: ast::Expr,
    order: &[Sort],
    schema: &DFSchema,
) -> Result<(i64, Expr)> {
    let name = "match_recognize: within";
    let shown = within.to_string();
    let Some(first) = order.first() else {
        return plan_err!("{name} {shown}: expected an order by, whose first key is the time");
    };
    let span = match context.sql_to_expr(within, &DFSchema::empty()) {
        Ok(Expr::Literal(span, _)) => span,
        Err(error) if !matches!(error.find_root(), DataFusionError::SchemaError(..)) => return Err(error),
        _ => return plan_err!("{name} {shown}: expected an interval, or a whole number in the unit of the order"),
    };
    let span = span.cast_to(&coerce_span(name, &span.data_type())?)?;
    let is_number = span.data_type().is_integer();
    let Some(span) = Spans::of_argument(name, &ColumnarValue::Scalar(span))?.get(0) else {
        return plan_err!("{name} {shown}: expected an interval, got null");
    };
    let time = first.expr.clone();
    let time = match time.get_type(schema)? {
        DataType::Timestamp(_, zone) => cast(time, DataType::Timestamp(TimeUnit::Microsecond, zone)),
        DataType::Date32 | DataType::Date64 => cast(time, DataType::Timestamp(TimeUnit::Microsecond, None)),
        number if number.is_integer() && is_number => time,
        other => {
            return plan_err!(
                "{name} {shown}: expected the first key of order by to be a time, or a whole number for a number, got {other}"
            );
        }
    };
    Ok((span, cast(time, DataType::Int64)))
}

/// A clause that was read.
struct Clause {
    input: LogicalPlan,
    schema: Arc<DFSchema>,
    pattern: Pattern,
    variables: Variables,
    keys: Vec<Expr>,
    order: Vec<Sort>,
    within: Option<(i64, Expr)>,
    shape: Shape,
    rules: Rules,
}

/// What is computed of each row of the input, each expression once.
#[derive(Default)]
struct RowExpressions {
    list: Vec<Expr>,
    shifts: Vec<(usize, i64)>,
}

impl RowExpressions {
    fn add(&mut self, expression: &Expr) -> usize {
        if let Some(known) = self.list.iter().position(|known| known == expression) {
            return known;
        }
        self.list.push(expression.clone());
        self.list.len() - 1
    }

    /// The column of an expression.
    fn column(&mut self, expression: &Expr) -> Expr {
        ident(row_name(self.add(expression)))
    }

    /// The column of an expression some rows away.
    fn shifted(&mut self, expression: &Expr, shift: i64) -> Expr {
        if shift == 0 {
            return self.column(expression);
        }
        let wanted = (self.add(expression), shift);
        let number = self.shifts.iter().position(|known| *known == wanted).unwrap_or_else(|| {
            self.shifts.push(wanted);
            self.shifts.len() - 1
        });
        ident(shift_name(number))
    }
}

fn row_name(number: usize) -> String {
    format!("__row_{number}")
}

fn shift_name(number: usize) -> String {
    format!("__shift_{number}")
}

const POSITION: &str = "__position";
const MATCHES: &str = "__matches";

impl Clause {
    fn plan(
        self,
        looks: Leaves,
        conditions: Vec<Option<Expr>>,
        mut outputs: Leaves,
        said: Vec<(String, Expr)>,
    ) -> Result<LogicalPlan> {
        let mut rows = RowExpressions::default();
        let key_columns: Vec<Expr> = self.keys.iter().map(|key| rows.column(key)).collect();
        let order: Vec<Sort> = self.order.iter().map(|key| key.with_expr(rows.column(&key.expr))).collect();

        // The columns of the input that the result shows.
        let shown: Vec<(String, usize)> = match self.shape {
            Shape::OneRow => Vec::new(),
            Shape::AllRows { .. } => self.shown_columns(&mut outputs)?,
        };
        let matched = outputs.add(Draft::plain(Leaf::IsMatched));

        // The arguments of the call.
        let time = match &self.within {
            Some((_, time)) => rows.column(time),
            None => lit(ScalarValue::Int64(None)),
        };
        let mut fields = Vec::new();
        for (number, draft) in outputs.drafts.iter().enumerate() {
            let value = match &draft.argument {
                Some(argument) => rows.shifted(argument, draft.shift),
                None => draft.argument_or_null()?,
            };
            fields.extend([lit(Leaves::name(number)), value]);
        }
        let Tests { definitions, tests, looks, conditions } = Tests::new(&looks, conditions, &mut rows)?;
        let spec = Spec {
            pattern: self.pattern.clone(),
            labels: self.variables.labels.clone(),
            definitions,
            looks: looks.iter().map(|(draft, _)| draft.leaf).collect(),
            outputs: outputs.drafts.iter().map(|draft| draft.leaf).collect(),
            shape: self.shape,
            rules: self.rules,
            within: self.within.as_ref().map(|(span, _)| *span),
        };
        let mut arguments = vec![lit(spec.to_text()?), ident(POSITION), time, named_struct(fields)];
        arguments.extend(tests);
        arguments.extend(looks.into_iter().map(|(_, value)| value));
        arguments.extend(conditions);
        let matches = AggregateUDF::from(MatchRows::default()).call(arguments).alias(MATCHES);

        let plan = self.ordered_rows(&mut rows, &key_columns, order)?;
        let plan =
            LogicalPlanBuilder::from(plan).aggregate(key_columns.clone(), vec![matches])?.unnest_column_with_options(
                Column::new_unqualified(MATCHES),
                UnnestOptions::new().with_preserve_nulls(false),
            )?;
        let leaves = (0..outputs.drafts.len()).map(|number| {
            let name = Leaves::name(number);
            get_field(ident(MATCHES), name.clone()).alias(name)
        });
        let plan = plan.project(key_columns.iter().cloned().chain(leaves).collect::<Vec<_>>())?;
        plan.project(self.result(&key_columns, shown, matched, said)?)?.build()
    }

    /// Adds the columns of the input to the outputs.
    fn shown_columns(&self, outputs: &mut Leaves) -> Result<Vec<(String, usize)>> {
        let ordered = self.order.iter().map(|key| &key.expr);
        let all: Vec<Expr> = self.schema.columns().into_iter().map(Expr::Column).collect();
        let columns = ordered.filter(|key| matches!(key, Expr::Column(_))).chain(&all);
        let mut shown: Vec<(String, usize)> = Vec::new();
        let mut seen: HashSet<&Expr> = self.keys.iter().collect();
        for column in columns {
            if !seen.insert(column) {
                continue;
            }
            let data_type = column.get_type(&self.schema)?;
            let number = outputs.add(Draft::of(Leaf::Row, column.clone(), data_type));
            shown.push((output_name(column), number));
        }
        Ok(shown)
    }

    /// The rows of the input with what is computed of each, and their positions in the partitions.
    fn ordered_rows(&self, rows: &mut RowExpressions, keys: &[Expr], order: Vec<Sort>) -> Result<LogicalPlan> {
        let ties = self.ties(rows)?;
        let named = rows.list.iter().enumerate().map(|(number, row)| row.clone().alias(row_name(number)));
        let mut named: Vec<Expr> = named.collect();
        if named.is_empty() {
            named.push(lit(true).alias(row_name(0))); // a projection must keep something
        }
        let plan = LogicalPlanBuilder::from(self.input.clone()).project(named)?;

        let order: Vec<Sort> = order.iter().cloned().chain(ties).collect();
        let over = |call: Expr| call.partition_by(keys.to_vec()).order_by(order.clone()).build();
        let mut windows = vec![(over(row_number())?, POSITION.to_owned())];
        for (number, (row, shift)) in rows.shifts.iter().enumerate() {
            let column = ident(row_name(*row));
            let call = if *shift < 0 { lag(column, Some(-shift), None) } else { lead(column, Some(*shift), None) };
            windows.push((over(call)?, shift_name(number)));
        }
        let kept = plan.schema().columns().into_iter().map(Expr::Column);
        let renamed = windows.iter().map(|(window, name)| ident(window.schema_name().to_string()).alias(name));
        let result: Vec<Expr> = kept.chain(renamed).collect();
        let windows = windows.iter().map(|(window, _)| window.clone());
        let plan = LogicalPlanBuilder::window_plan(plan.build()?, windows)?;
        LogicalPlanBuilder::from(plan).project(result)?.build()
    }

    /// The keys that order rows with equal keys: all columns that are used, in the order of the table.
    fn ties(&self, rows: &mut RowExpressions) -> Result<Vec<Sort>> {
        let used: HashSet<Column> = rows.list.iter().flat_map(|row| row.column_refs().into_iter().cloned()).collect();
        let keys: HashSet<&Expr> = self.keys.iter().chain(self.order.iter().map(|key| &key.expr)).collect();
        let mut ties = Vec::new();
        for column in self.schema.columns() {
            let is_used = used.contains(&column);
            let column = Expr::Column(column);
            let data_type = column.get_type(&self.schema)?;
            let is_comparable = RowConverter::supports_fields(&[SortField::new(data_type)]);
            if is_used && is_comparable && !keys.contains(&column) {
                ties.push(rows.column(&column).sort(true, false));
            }
        }
        Ok(ties)
    }

    /// The columns of the result: those of `partition by`, those of `order by`, the measures, the rest.
    fn result(
        &self,
        keys: &[Expr],
        shown: Vec<(String, usize)>,
        matched: usize,
        said: Vec<(String, Expr)>,
    ) -> Result<Vec<Expr>> {
        let ordered = self.order.iter().filter(|key| matches!(key.expr, Expr::Column(_)));
        let ordered: HashSet<String> = ordered.map(|key| output_name(&key.expr)).collect();
        let is_measured_in_all = !matches!(self.shape, Shape::AllRows { shows_unmatched: true, .. });
        let mut result: Vec<(String, Expr)> =
            self.keys.iter().zip(keys).map(|(key, column)| (output_name(key), column.clone())).collect();
        let (first, rest): (Vec<_>, Vec<_>) = shown.into_iter().partition(|(name, _)| ordered.contains(name));
        let column = |(name, number): (String, usize)| (name, ident(Leaves::name(number)));
        result.extend(first.into_iter().map(column));
        for (name, expression) in said {
            let expression =
                if is_measured_in_all { expression } else { when(ident(Leaves::name(matched)), expression).end()? };
            result.push((name, expression));
        }
        result.extend(rest.into_iter().map(column));
        let mut names = HashSet::new();
        for (name, _) in &result {
            if !names.insert(name.as_str()) {
                return plan_err!("match_recognize: the result has two columns called {name}: rename the measure");
            }
        }
        Ok(result.into_iter().map(|(name, expression)| expression.alias(name)).collect())
    }
}

fn output_name(expression: &Expr) -> String {
    match expression {
        Expr::Column(column) => column.name.clone(),
        other => other.schema_name().to_string(),
    }
}

/// The conditions of the variables, cut into what is known beforehand and what is not.
struct Tests {
    definitions: Vec<Definition>,
    tests: Vec<Expr>,
    looks: Vec<(Draft, Expr)>,
    conditions: Vec<Expr>,
}

impl Tests {
    fn new(leaves: &Leaves, expressions: Vec<Option<Expr>>, rows: &mut RowExpressions) -> Result<Self> {
        let mut cut = Self { definitions: Vec::new(), tests: Vec::new(), looks: Vec::new(), conditions: Vec::new() };
        let schema = leaves.schema()?;
        for expression in expressions {
            let mut definition = Definition::default();
            if let Some(expression) = expression {
                let data_type = expression.get_type(&schema)?;
                if !matches!(data_type, DataType::Boolean | DataType::Null) {
                    return plan_err!(
                        "match_recognize: expected the definition of a variable to be boolean, got {data_type}"
                    );
                }
                let parts = split_conjunction_owned(expression).into_iter();
                let (alone, with_match): (Vec<Expr>, Vec<Expr>) = parts.partition(|part| is_of_row(leaves, part));
                if let Some(test) = conjunction(alone) {
                    definition.test = Some(cut.tests.len());
                    cut.tests.push(boolean(replace(test, &mut |number| {
                        let draft = &leaves.drafts[number];
                        Ok(rows.shifted(&draft.argument_or_null()?, draft.shift))
                    })?));
                }
                if let Some(condition) = conjunction(with_match) {
                    definition.condition = Some(cut.conditions.len());
                    let condition = replace(condition, &mut |number| cut.look(&leaves.drafts[number], rows))?;
                    cut.conditions.push(boolean(condition));
                }
            }
            cut.definitions.push(definition);
        }
        Ok(cut)
    }

    /// The place of a value in a condition.
    fn look(&mut self, draft: &Draft, rows: &mut RowExpressions) -> Result<Expr> {
        let known = self.looks.iter().position(|(known, _)| known == draft);
        let number = match known {
            Some(known) => known,
            None => {
                let value = match &draft.argument {
                    Some(argument) => rows.shifted(argument, draft.shift),
                    None => draft.argument_or_null()?,
                };
                self.looks.push((draft.clone(), value));
                self.looks.len() - 1
            }
        };
        let witness = lit(ScalarValue::try_new_null(&draft.data_type)?);
        Ok(ScalarUDF::from(MatchValue::default()).call(vec![lit(number as i64), witness]))
    }
}

/// `null` as a condition has no type of its own.
fn boolean(expression: Expr) -> Expr {
    match expression {
        Expr::Literal(ScalarValue::Null, _) => lit(ScalarValue::Boolean(None)),
        other => other,
    }
}

/// Whether an expression looks at its row alone.
fn is_of_row(leaves: &Leaves, expression: &Expr) -> bool {
    expression
        .column_refs()
        .into_iter()
        .all(|column| Leaves::number(&column.name).is_some_and(|number| leaves.drafts[number].leaf == Leaf::Row))
}

/// Puts something in the place of each leaf.
fn replace(expression: Expr, by: &mut impl FnMut(usize) -> Result<Expr>) -> Result<Expr> {
    expression
        .transform(|part| match &part {
            Expr::Column(column) => match Leaves::number(&column.name) {
                Some(number) => Ok(Transformed::yes(by(number)?)),
                None => Ok(Transformed::no(part)),
            },
            _ => Ok(Transformed::no(part)),
        })
        .data()
}
