//! Expressions of `measures` and `define`: what they ask of the match becomes a column, the rest is SQL as anywhere.
//!
//! `last(a.price) - first(price, 1) > 10` becomes `"__match_0" - "__match_1" > 10`, and two [leaves](super::leaves).

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::functions_aggregate::expr_fn::{avg, sum};
use datafusion::functions_nested::make_array::make_array;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, ExprSchemable, cast, lit, when};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{self, Function, FunctionArg, FunctionArgExpr, Ident, VisitMut};

use super::super::arguments::{is_text, list_type};
use super::clause::Variables;
use super::leaves::{Draft, Leaves, PREFIX};
use super::spec::{Aggregate, Leaf, Place, Sight};
use super::visitors::{Collect, Parts, Replace, Strip};

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Measures,
    /// In the definition of a variable.
    Define(u8),
}

/// Reads expressions.
pub(super) struct Reader<'a> {
    pub(super) context: &'a mut dyn RelationPlannerContext,
    /// The columns of the input.
    pub(super) input: &'a DFSchema,
    pub(super) variables: &'a Variables,
    pub(super) position: Position,
    pub(super) leaves: &'a mut Leaves,
}

/// Functions that only the clause knows.
pub(super) const NAVIGATION: [&str; 6] = ["first", "last", "prev", "next", "lag", "lead"];
pub(super) const MATCH: [&str; 4] = ["classifier", "match_number", "match_sequence_number", "match_complete"];
pub(super) const SEMANTICS: [&str; 2] = ["running", "final"];

/// The aggregate of a name.
pub(super) fn aggregate(name: &str) -> Option<Aggregate> {
    match name {
        "count" => Some(Aggregate::Count),
        "sum" => Some(Aggregate::Sum),
        "avg" | "mean" => Some(Aggregate::Average),
        "min" => Some(Aggregate::Min),
        "max" => Some(Aggregate::Max),
        "array_agg" => Some(Aggregate::Collect),
        _ => None,
    }
}

/// The name of a function, in lower case; empty if it is qualified.
pub(super) fn name_of(function: &Function) -> String {
    match function.name.0.as_slice() {
        [part] => part.as_ident().map(|name| name.value.to_lowercase()).unwrap_or_default(),
        _ => String::new(),
    }
}

impl Reader<'_> {
    /// The expression over the columns of [`Leaves::schema`].
    pub(super) fn read(&mut self, mut expression: ast::Expr) -> Result<Expr> {
        self.replace(&mut expression)?;
        let schema = self.leaves.schema()?;
        self.context.sql_to_expr(expression, &schema)
    }

    fn replace(&mut self, expression: &mut ast::Expr) -> Result<()> {
        match expression.visit(&mut Replace(self)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }

    /// What stands for an expression, if it asks something of the match.
    pub(super) fn replacement(&mut self, expression: &ast::Expr) -> Result<Option<ast::Expr>> {
        match expression {
            ast::Expr::Identifier(name) if is_placeholder(name) || name.value.starts_with('@') => Ok(None),
            ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => {
                let place = |variables| self.here(variables);
                match self.subject(expression)? {
                    Some(Subject::Label(variables)) => Ok(Some(self.leaf(Draft::plain(Leaf::Label(place(variables)))))),
                    Some(Subject::Column(variables, column)) => {
                        let place = place(variables);
                        let column = self.plan(*column)?;
                        self.value(place, column).map(Some)
                    }
                    None => Ok(None),
                }
            }
            ast::Expr::Function(function) => self.function(function),
            _ => Ok(None),
        }
    }

    fn function(&mut self, function: &Function) -> Result<Option<ast::Expr>> {
        let name = name_of(function);
        if function.over.is_some() {
            return plan_err!(
                "match_recognize: {function}: window functions are not supported in measures and define: compute them in a subquery below"
            );
        }
        match name.as_str() {
            "first" | "last" | "prev" | "next" | "lag" | "lead" => self.navigation(function, None).map(Some),
            "running" | "final" => {
                let [FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Function(inner)))] = arguments(function)?
                else {
                    return plan_err!(
                        "match_recognize: {function}: expected {name} before first, last or an aggregate"
                    );
                };
                let is_final = name == "final";
                if is_final && self.position != Position::Measures {
                    return plan_err!(
                        "match_recognize: {function}: final belongs to measures; in define the match is not known yet"
                    );
                }
                match name_of(inner).as_str() {
                    "first" | "last" => self.navigation(inner, Some(is_final)).map(Some),
                    inner_name if aggregate(inner_name).is_some() => self.aggregate(inner, is_final).map(Some),
                    _ => plan_err!("match_recognize: {function}: expected {name} before first, last or an aggregate"),
                }
            }
            "classifier" => {
                let variables = self.classifier(function)?;
                let place = self.here(variables);
                Ok(Some(self.leaf(Draft::plain(Leaf::Label(place)))))
            }
            "match_number" => {
                expect_none(function)?;
                Ok(Some(self.leaf(Draft::plain(Leaf::Number))))
            }
            "match_sequence_number" => {
                expect_none(function)?;
                Ok(Some(self.rows_so_far()))
            }
            "match_complete" => {
                expect_none(function)?;
                if self.position != Position::Measures {
                    return plan_err!(
                        "match_recognize: {function} belongs to measures; in define the match is not known yet"
                    );
                }
                Ok(Some(self.leaf(Draft::plain(Leaf::IsComplete))))
            }
            name if aggregate(name).is_some() => self.aggregate(function, false).map(Some),
            name => {
                let provider = self.context.context_provider();
                let is_scalar = provider.get_function_meta(name).is_some();
                if !is_scalar && provider.get_aggregate_meta(name).is_some() {
                    return plan_err!(
                        "match_recognize: aggregate {name} is not supported: use count, sum, avg, min, max or array_agg"
                    );
                }
                if !is_scalar && provider.get_window_meta(name).is_some() {
                    return plan_err!(
                        "match_recognize: window function {name} is not supported in measures and define"
                    );
                }
                Ok(None)
            }
        }
    }

    /// `first`, `last`, `prev`, `next`, and Snowflake's `lag` and `lead`.
    fn navigation(&mut self, function: &Function, is_final: Option<bool>) -> Result<ast::Expr> {
        let name = name_of(function);
        let (inner, offset) = self.value_and_offset(function)?;
        let is_physical = !matches!(name.as_str(), "first" | "last");
        if !is_physical {
            return self.logical(&name, inner, offset.unwrap_or(0), is_final.unwrap_or(false), 0);
        }
        let steps = i64::try_from(offset.unwrap_or(1)).unwrap_or(i64::MAX);
        let shift = if matches!(name.as_str(), "prev" | "lag") { -steps } else { steps };
        if let ast::Expr::Function(logical) = inner {
            let (logical, is_final) = match (name_of(logical).as_str(), arguments(logical)) {
                (
                    semantics @ ("running" | "final"),
                    Ok([FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Function(inner)))]),
                ) => (inner, semantics == "final"),
                _ => (logical, false),
            };
            if is_final && self.position != Position::Measures {
                return plan_err!(
                    "match_recognize: {function}: final belongs to measures; in define the match is not known yet"
                );
            }
            let logical_name = name_of(logical);
            if matches!(logical_name.as_str(), "first" | "last") {
                let (inner, offset) = self.value_and_offset(logical)?;
                return self.logical(&logical_name, inner, offset.unwrap_or(0), is_final, shift);
            }
        }
        self.logical("last", inner, 0, false, shift)
    }

    /// The value of an expression at another row.
    fn logical(
        &mut self,
        name: &str,
        inner: &ast::Expr,
        offset: usize,
        is_final: bool,
        shift: i64,
    ) -> Result<ast::Expr> {
        let mut inner = inner.clone();
        let subjects = self.subjects(name, &mut inner)?;
        let Some(variables) = subjects.variables else {
            return plan_err!("match_recognize: {name}: expected a column or classifier(), got {inner}");
        };
        let place = Place { among: Sight { variables, is_final }, is_first: name == "first", offset, shift };
        if !subjects.needs_match {
            let column = self.plan(inner)?;
            return self.value(place, column);
        }
        if subjects.is_label {
            return Ok(self.leaf(Draft::plain(Leaf::Label(place))));
        }
        // Each of its parts is taken from the row; without the row all of it is null.
        let mut parts = Parts { reader: self, place };
        if let ControlFlow::Break(error) = inner.visit(&mut parts) {
            return Err(*error);
        }
        let reached = self.leaf(Draft::plain(Leaf::Reached(place)));
        Ok(ast::Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![ast::CaseWhen { condition: reached, result: inner }],
            else_result: None,
        })
    }

    /// An aggregate over rows of the match.
    fn aggregate(&mut self, function: &Function, is_final: bool) -> Result<ast::Expr> {
        let name = name_of(function);
        let kind =
            aggregate(&name).ok_or_else(|| plan_datafusion_err!("match_recognize: {function} is no aggregate"))?;
        let is_define = self.position != Position::Measures;
        if kind == Aggregate::Collect && is_define {
            return plan_err!("match_recognize: {function}: array_agg is not supported in define");
        }
        let given = arguments(function)?;
        let everything = Sight { variables: self.variables.all(), is_final };
        let one = || Draft::of(Leaf::Aggregate { function: kind, over: everything }, lit(1i64), DataType::Int64);
        let inner = match given {
            [] | [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] if kind == Aggregate::Count => {
                return Ok(self.leaf(one()));
            }
            [FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(variable))] if kind == Aggregate::Count => {
                let variables = match variable.0.as_slice() {
                    [part] => part.as_ident().and_then(|name| self.find(name)),
                    _ => None,
                };
                let Some(variables) = variables else {
                    return plan_err!(
                        "match_recognize: {function}: {variable} is no variable of the pattern, and no subset"
                    );
                };
                let leaf = Leaf::Aggregate { function: kind, over: Sight { variables, is_final } };
                return Ok(self.leaf(Draft::of(leaf, lit(1i64), DataType::Int64)));
            }
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))] => inner,
            _ => return plan_err!("match_recognize: {function}: expected one argument"),
        };
        let mut inner = inner.clone();
        let subjects = self.subjects(&name, &mut inner)?;
        let over = Sight { variables: subjects.variables.unwrap_or(self.variables.all()), is_final };
        if subjects.is_label {
            return match kind {
                Aggregate::Sum | Aggregate::Average => {
                    plan_err!("match_recognize: {function}: expected a number, got the name of a variable")
                }
                function => Ok(self.leaf(Draft::plain(Leaf::AggregateLabels { function, over }))),
            };
        }
        if subjects.needs_match {
            return plan_err!(
                "match_recognize: {function}: classifier() and match_number() are not supported inside an expression that is aggregated"
            );
        }
        let value = self.plan(inner)?;
        let (value, data_type) = self.aggregated(function, kind, value)?;
        Ok(self.leaf(Draft::of(Leaf::Aggregate { function: kind, over }, value, data_type)))
    }

    /// The value of each row as an aggregate takes it.
    fn aggregated(&self, function: &Function, kind: Aggregate, value: Expr) -> Result<(Expr, DataType)> {
        let data_type = value.get_type(self.input)?;
        match kind {
            Aggregate::Count => Ok((when(value.is_null(), lit(0i64)).otherwise(lit(1i64))?, DataType::Int64)),
            Aggregate::Sum => {
                let result = sum(value.clone()).get_type(self.input)?;
                if !result.is_numeric() {
                    return plan_err!("match_recognize: {function}: expected a number, got {data_type}");
                }
                Ok((cast(value, result.clone()), result))
            }
            Aggregate::Average => {
                if avg(value.clone()).get_type(self.input)? != DataType::Float64 {
                    return plan_err!(
                        "match_recognize: {function}: avg of {data_type} is not supported: cast it to double"
                    );
                }
                Ok((cast(value, DataType::Float64), DataType::Float64))
            }
            Aggregate::Min | Aggregate::Max => {
                let plain = match &data_type {
                    DataType::Dictionary(_, plain) => plain.as_ref().clone(),
                    data_type => data_type.clone(),
                };
                let is_ordered =
                    plain.is_numeric() || plain.is_temporal() || is_text(&plain) || plain == DataType::Boolean;
                if !is_ordered {
                    return plan_err!("match_recognize: {function}: {data_type} is not supported");
                }
                Ok((cast(value, plain.clone()), plain))
            }
            Aggregate::Collect => Ok((make_array(vec![value]), list_type(data_type))),
        }
    }

    /// `match_sequence_number()`: the rows of the match up to this one.
    fn rows_so_far(&mut self) -> ast::Expr {
        let over = Sight { variables: self.variables.all(), is_final: false };
        let leaf = Leaf::Aggregate { function: Aggregate::Count, over };
        self.leaf(Draft::of(leaf, lit(1i64), DataType::Int64))
    }

    /// The last row so far.
    fn here(&self, variables: u64) -> Place {
        Place { among: Sight { variables, is_final: false }, is_first: false, offset: 0, shift: 0 }
    }

    /// The value of a column at a row.
    pub(super) fn value(&mut self, place: Place, column: Expr) -> Result<ast::Expr> {
        let data_type = column.get_type(self.input)?;
        let draft = match self.position {
            // The last row of this variable is the row in question.
            Position::Define(variable)
                if !place.is_first && place.offset == 0 && place.among.variables >> variable & 1 == 1 =>
            {
                Draft { shift: place.shift, ..Draft::of(Leaf::Row, column, data_type) }
            }
            _ => Draft::of(Leaf::Value(place), column, data_type),
        };
        Ok(self.leaf(draft))
    }

    pub(super) fn leaf(&mut self, draft: Draft) -> ast::Expr {
        let number = self.leaves.add(draft);
        ast::Expr::Identifier(Ident::with_quote('"', Leaves::name(number)))
    }

    fn find(&self, name: &Ident) -> Option<u64> {
        self.variables.find(&self.context.normalize_ident(name.clone()))
    }

    /// An expression over the columns of the input.
    pub(super) fn plan(&mut self, expression: ast::Expr) -> Result<Expr> {
        over_input(self.context, expression, self.input, ", and no variable of the pattern before it")
    }

    /// The variables of a call of `classifier`.
    fn classifier(&self, function: &Function) -> Result<u64> {
        match arguments(function)? {
            [] => Ok(self.variables.all()),
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(name)))] => {
                let unknown = || {
                    plan_datafusion_err!(
                        "match_recognize: {function}: {name} is no variable of the pattern, and no subset"
                    )
                };
                self.find(name).ok_or_else(unknown)
            }
            _ => plan_err!("match_recognize: {function}: expected one variable at most"),
        }
    }

    /// What a name stands for; `None` for an expression that is no name.
    pub(super) fn subject(&self, expression: &ast::Expr) -> Result<Option<Subject>> {
        match expression {
            ast::Expr::Identifier(name) if is_placeholder(name) || name.value.starts_with('@') => Ok(None),
            ast::Expr::Identifier(name) => {
                // Snowflake writes `classifier` without parentheses.
                let is_classifier = name.quote_style.is_none() && name.value.eq_ignore_ascii_case("classifier");
                let known = self.context.normalize_ident(name.clone());
                if is_classifier && !self.input.has_column_with_unqualified_name(&known) {
                    return Ok(Some(Subject::Label(self.variables.all())));
                }
                Ok(Some(Subject::Column(self.variables.all(), Box::new(expression.clone()))))
            }
            ast::Expr::CompoundIdentifier(names) => match self.find(&names[0]) {
                Some(variables) if names.len() == 2 => {
                    Ok(Some(Subject::Column(variables, Box::new(ast::Expr::Identifier(names[1].clone())))))
                }
                Some(variables) => {
                    Ok(Some(Subject::Column(variables, Box::new(ast::Expr::CompoundIdentifier(names[1..].to_vec())))))
                }
                None => Ok(Some(Subject::Column(self.variables.all(), Box::new(expression.clone())))),
            },
            ast::Expr::Function(function) if name_of(function) == "classifier" => {
                Ok(Some(Subject::Label(self.classifier(function)?)))
            }
            _ => Ok(None),
        }
    }

    /// The variables that an expression refers to, which must be the same throughout; they are taken off its columns
    /// unless it refers to the match.
    fn subjects(&mut self, name: &str, inner: &mut ast::Expr) -> Result<Subjects> {
        let is_label = matches!(self.subject(inner)?, Some(Subject::Label(_)));
        let mut collect = Collect { reader: self, name, found: Subjects { is_label, ..Subjects::default() } };
        if let ControlFlow::Break(error) = inner.clone().visit(&mut collect) {
            return Err(*error);
        }
        let found = collect.found;
        if !found.needs_match
            && let ControlFlow::Break(error) = inner.visit(&mut Strip(self))
        {
            return Err(*error);
        }
        Ok(found)
    }

    fn value_and_offset<'f>(&self, function: &'f Function) -> Result<(&'f ast::Expr, Option<usize>)> {
        let given = arguments(function)?;
        match given {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] => Ok((value, None)),
            [
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)),
                FunctionArg::Unnamed(FunctionArgExpr::Expr(offset)),
            ] => {
                let number = match offset {
                    ast::Expr::Value(number) => match &number.value {
                        ast::Value::Number(number, _) => number.to_string().parse().ok(),
                        _ => None,
                    },
                    _ => None,
                };
                match number {
                    Some(number) => Ok((value, Some(number))),
                    None => plan_err!(
                        "match_recognize: {function}: expected a whole number as second argument, got {offset}"
                    ),
                }
            }
            _ => plan_err!("match_recognize: {function}: expected a value and perhaps a number"),
        }
    }
}

/// An expression over the columns of the input; `hint` is added where there is none of a name.
pub(super) fn over_input(
    context: &mut dyn RelationPlannerContext,
    expression: ast::Expr,
    input: &DFSchema,
    hint: &str,
) -> Result<Expr> {
    let shown = expression.to_string();
    let planned = match context.sql_to_expr(expression, input) {
        Err(error) if matches!(error.find_root(), DataFusionError::SchemaError(..)) => None,
        planned => Some(planned?),
    };
    let is_known = |planned: &Expr| planned.column_refs().into_iter().all(|column| input.has_column(column));
    let Some(planned) = planned.filter(is_known) else {
        let columns = input.columns().iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        return plan_err!("match_recognize: {shown}: there is no such column{hint}: the columns are {columns}");
    };
    if planned.contains_outer() {
        return plan_err!("match_recognize: {shown}: a column of an outer query is not supported");
    }
    Ok(planned)
}

/// Whether a name was put in by us.
fn is_placeholder(name: &Ident) -> bool {
    name.quote_style.is_some() && name.value.starts_with(PREFIX)
}

/// The arguments of a call that has nothing but arguments.
fn arguments(function: &Function) -> Result<&[FunctionArg]> {
    let is_plain = function.filter.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty()
        && matches!(function.parameters, ast::FunctionArguments::None);
    match &function.args {
        ast::FunctionArguments::None if is_plain => Ok(&[]),
        ast::FunctionArguments::List(list)
            if is_plain && list.clauses.is_empty() && list.duplicate_treatment.is_none() =>
        {
            Ok(&list.args)
        }
        _ => plan_err!(
            "match_recognize: {function}: distinct, order by, filter, within group and null treatment are not supported"
        ),
    }
}

fn expect_none(function: &Function) -> Result<()> {
    if arguments(function)?.is_empty() {
        return Ok(());
    }
    plan_err!("match_recognize: {function}: expected no arguments")
}

/// A name inside an expression.
pub(super) enum Subject {
    /// A column of rows of some variables.
    Column(u64, Box<ast::Expr>),
    Label(u64),
}

/// The names inside an expression.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    pub(super) variables: Option<u64>,
    /// It asks something of the match itself.
    pub(super) needs_match: bool,
    /// It is `classifier()` and nothing else.
    pub(super) is_label: bool,
}
