//! Walks over the SQL of an expression.

use std::ops::ControlFlow;

use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::sql::sqlparser::ast::{self, Query, VisitorMut};

use super::expressions::{MATCH, NAVIGATION, Reader, SEMANTICS, Subject, Subjects, aggregate, name_of};
use super::leaves::Draft;
use super::spec::{Leaf, Place};

type Flow = ControlFlow<Box<DataFusionError>>;

fn flow(result: Result<()>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

fn no_subquery() -> Flow {
    flow(plan_err!("match_recognize: subqueries are not supported in measures and define: join them below"))
}

/// Puts leaves in the place of what asks something of the match.
pub(super) struct Replace<'r, 'a>(pub(super) &'r mut Reader<'a>);

impl VisitorMut for Replace<'_, '_> {
    type Break = Box<DataFusionError>;

    fn pre_visit_query(&mut self, _query: &mut Query) -> Flow {
        no_subquery()
    }

    fn pre_visit_expr(&mut self, expression: &mut ast::Expr) -> Flow {
        flow(self.0.replacement(expression).map(|replacement| {
            if let Some(replacement) = replacement {
                *expression = replacement;
            }
        }))
    }
}

/// Looks at the names inside a navigation or an aggregate.
pub(super) struct Collect<'r, 'a> {
    pub(super) reader: &'r Reader<'a>,
    pub(super) name: &'r str,
    pub(super) found: Subjects,
}

impl Collect<'_, '_> {
    fn look(&mut self, expression: &ast::Expr) -> Result<()> {
        if let ast::Expr::Function(function) = expression {
            let (outer, inner) = (self.name, name_of(function));
            let is_ours = NAVIGATION.contains(&inner.as_str()) || SEMANTICS.contains(&inner.as_str());
            if is_ours || aggregate(&inner).is_some() || function.over.is_some() {
                return plan_err!("match_recognize: {function} inside {outer} is not supported");
            }
            if MATCH.contains(&inner.as_str()) {
                self.found.needs_match = true;
                if inner == "match_sequence_number" || inner == "match_complete" {
                    return plan_err!("match_recognize: {function} inside {outer} is not supported");
                }
            }
        }
        let (variables, is_label) = match self.reader.subject(expression)? {
            Some(Subject::Column(variables, _)) => (variables, false),
            Some(Subject::Label(variables)) => (variables, true),
            None => return Ok(()),
        };
        self.found.needs_match |= is_label;
        match self.found.variables.replace(variables) {
            Some(others) if others != variables => {
                plan_err!("match_recognize: {}: expected columns of one variable, got those of several", self.name)
            }
            _ => Ok(()),
        }
    }
}

impl VisitorMut for Collect<'_, '_> {
    type Break = Box<DataFusionError>;

    fn pre_visit_query(&mut self, _query: &mut Query) -> Flow {
        no_subquery()
    }

    fn pre_visit_expr(&mut self, expression: &mut ast::Expr) -> Flow {
        let looked = flow(self.look(expression));
        // The argument of classifier is no column.
        if let ast::Expr::Function(function) = expression
            && name_of(function) == "classifier"
        {
            *expression = ast::Expr::value(ast::Value::Null);
        }
        looked
    }
}

/// Takes the variables off the columns.
pub(super) struct Strip<'r, 'a>(pub(super) &'r Reader<'a>);

impl VisitorMut for Strip<'_, '_> {
    type Break = Box<DataFusionError>;

    fn pre_visit_expr(&mut self, expression: &mut ast::Expr) -> Flow {
        flow(self.0.subject(expression).map(|subject| {
            if let Some(Subject::Column(_, column)) = subject {
                *expression = *column;
            }
        }))
    }
}

/// Takes each part of an expression from a row.
pub(super) struct Parts<'r, 'a> {
    pub(super) reader: &'r mut Reader<'a>,
    pub(super) place: Place,
}

impl Parts<'_, '_> {
    fn part(&mut self, expression: &ast::Expr) -> Result<Option<ast::Expr>> {
        if let ast::Expr::Function(function) = expression
            && name_of(function) == "match_number"
        {
            return Ok(Some(self.reader.leaf(Draft::plain(Leaf::Number))));
        }
        match self.reader.subject(expression)? {
            Some(Subject::Label(_)) => Ok(Some(self.reader.leaf(Draft::plain(Leaf::Label(self.place))))),
            Some(Subject::Column(_, column)) => {
                let column = self.reader.plan(*column)?;
                self.reader.value(self.place, column).map(Some)
            }
            None => Ok(None),
        }
    }
}

impl VisitorMut for Parts<'_, '_> {
    type Break = Box<DataFusionError>;

    fn pre_visit_expr(&mut self, expression: &mut ast::Expr) -> Flow {
        flow(self.part(expression).map(|part| {
            if let Some(part) = part {
                *expression = part;
            }
        }))
    }
}
