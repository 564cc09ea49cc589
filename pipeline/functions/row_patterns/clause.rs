//! The clause as parsed, read into a pattern, its variables and its options.
//!
//! What the parser does not know has a spelling that it does (see [`super::spelling`]): quoted names that stand for
//! signs in the pattern, and entries of `define` that define no variable.

use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::sql::sqlparser::ast::{
    self, AfterMatchSkip, EmptyMatchesMode, Ident, MatchRecognizePattern, MatchRecognizeSymbol, RepetitionQuantifier,
    RowsPerMatch, SymbolDefinition, TableFactor,
};

use super::pattern::Pattern;
use super::spec::Shape;
use super::walk::Skip;

/// `()` in a pattern.
pub(super) const EMPTY: &str = "()";
/// `{-` in a pattern, first in its group.
pub(super) const EXCLUDE: &str = "{-";
/// `-}` in a pattern, last in its group.
pub(super) const EXCLUDE_END: &str = "-}";
/// `permute` of any patterns, first in its group.
pub(super) const PERMUTE: &str = "permute(";
/// An entry of `define`: the span of a match.
pub(super) const WITHIN: &str = "within";
/// An entry of `define`: whether attempts are shown.
pub(super) const PARTIAL_MATCHES: &str = "partial_matches";
/// The call that makes an entry of `define` a union of variables.
pub(super) const SUBSET: &str = "subset";

/// The call that a query in parentheses becomes, before the clause.
pub(super) const ROWS_OF: &str = "rows_of";

/// The most variables of a pattern.
const MOST_VARIABLES: usize = 64;

/// Names in the clause.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// As compared with other names.
    names: Vec<String>,
    /// As written in the pattern.
    pub(super) labels: Vec<String>,
    /// Unions: a name and a bit set.
    subsets: Vec<(String, u64)>,
}

impl Variables {
    /// The variables that a name stands for, as a bit set.
    pub(super) fn find(&self, name: &str) -> Option<u64> {
        let variable = self.names.iter().position(|known| known == name).map(|variable| 1 << variable);
        let subset = || self.subsets.iter().find(|(known, _)| known == name).map(|(_, variables)| *variables);
        variable.or_else(subset)
    }

    /// All variables.
    pub(super) fn all(&self) -> u64 {
        u64::MAX >> (64 - self.names.len())
    }

    /// The number of variables.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    fn add(&mut self, name: String, label: &str) -> Result<u8> {
        if let Some(variable) = self.names.iter().position(|known| *known == name) {
            return Ok(variable as u8);
        }
        if self.names.len() == MOST_VARIABLES {
            return plan_err!("match_recognize: a pattern may have {MOST_VARIABLES} variables at most");
        }
        self.names.push(name);
        self.labels.push(label.to_owned());
        Ok(self.names.len() as u8 - 1)
    }
}

/// The table before the clause: `rows_of((select …))` is the query in it.
pub(super) fn input(table: TableFactor) -> Result<TableFactor> {
    let TableFactor::Table { name, alias, args: Some(arguments), .. } = &table else {
        return Ok(table);
    };
    if !name.to_string().eq_ignore_ascii_case(ROWS_OF) {
        return Ok(table);
    }
    match arguments.args.as_slice() {
        [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Subquery(query)))] => {
            Ok(TableFactor::Derived { lateral: false, subquery: query.clone(), alias: alias.clone(), sample: None })
        }
        _ => plan_err!("match_recognize: expected a query in parentheses in {ROWS_OF}, got {table}"),
    }
}

/// What `define` says.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    /// The condition of each variable that has one.
    pub(super) conditions: Vec<Option<ast::Expr>>,
    pub(super) within: Option<ast::Expr>,
    pub(super) shows_partial: bool,
}

/// Reads the pattern.
pub(super) fn pattern(
    context: &dyn RelationPlannerContext,
    pattern: &MatchRecognizePattern,
) -> Result<(Pattern, Variables)> {
    let mut variables = Variables::default();
    let pattern = Reader { context, variables: &mut variables }.read(pattern)?;
    if variables.len() == 0 {
        return plan_err!("match_recognize: expected a variable in the pattern");
    }
    Ok((pattern, variables))
}

struct Reader<'a> {
    context: &'a dyn RelationPlannerContext,
    variables: &'a mut Variables,
}

/// A quoted name.
fn sign(pattern: &MatchRecognizePattern) -> Option<&str> {
    match pattern {
        MatchRecognizePattern::Symbol(MatchRecognizeSymbol::Named(name)) if name.quote_style.is_some() => {
            Some(&name.value)
        }
        _ => None,
    }
}

impl Reader<'_> {
    fn read(&mut self, pattern: &MatchRecognizePattern) -> Result<Pattern> {
        match pattern {
            _ if sign(pattern) == Some(EMPTY) => Ok(Pattern::Empty),
            MatchRecognizePattern::Symbol(symbol) => self.symbol(symbol),
            MatchRecognizePattern::Exclude(symbol) => Ok(Pattern::Exclude(Box::new(self.symbol(symbol)?))),
            MatchRecognizePattern::Permute(symbols) => {
                Ok(Pattern::Permute(symbols.iter().map(|symbol| self.symbol(symbol)).collect::<Result<_>>()?))
            }
            MatchRecognizePattern::Concat(parts) => match (sign(&parts[0]), parts.last().and_then(sign)) {
                (Some(EXCLUDE), Some(EXCLUDE_END)) => {
                    let inner = Pattern::Concat(self.all(&parts[1..parts.len() - 1])?);
                    Ok(Pattern::Exclude(Box::new(inner)))
                }
                (Some(PERMUTE), _) => Ok(Pattern::Permute(self.all(&parts[1..])?)),
                _ => Ok(Pattern::Concat(self.all(parts)?)),
            },
            MatchRecognizePattern::Group(pattern) => self.read(pattern),
            MatchRecognizePattern::Alternation(parts) => Ok(Pattern::Alternation(self.all(parts)?)),
            MatchRecognizePattern::Repetition(pattern, quantifier) => match pattern.as_ref() {
                // The parser takes the sign of a reluctant quantifier for a quantifier of its own.
                MatchRecognizePattern::Repetition(pattern, inner)
                    if *quantifier == RepetitionQuantifier::AtMostOne
                        && !matches!(**pattern, MatchRecognizePattern::Repetition(..)) =>
                {
                    self.repeat(pattern, inner, true)
                }
                MatchRecognizePattern::Repetition(..) => {
                    plan_err!(
                        "match_recognize: expected one quantifier at a time, got {pattern}{quantifier}: use parentheses"
                    )
                }
                pattern => self.repeat(pattern, quantifier, false),
            },
        }
    }

    fn all(&mut self, parts: &[MatchRecognizePattern]) -> Result<Vec<Pattern>> {
        parts.iter().map(|part| self.read(part)).collect()
    }

    fn symbol(&mut self, symbol: &MatchRecognizeSymbol) -> Result<Pattern> {
        match symbol {
            MatchRecognizeSymbol::Start => Ok(Pattern::Start),
            MatchRecognizeSymbol::End => Ok(Pattern::End),
            MatchRecognizeSymbol::Named(name) => {
                if name.quote_style.is_none() && name.value.ends_with('$') {
                    return plan_err!(
                        "match_recognize: variable {name} in the pattern ends like an anchor: put a space before $, or quote the name"
                    );
                }
                let known = self.context.normalize_ident(name.clone());
                Ok(Pattern::Row(self.variables.add(known, &name.value)?))
            }
        }
    }

    fn repeat(
        &mut self,
        pattern: &MatchRecognizePattern,
        quantifier: &RepetitionQuantifier,
        is_reluctant: bool,
    ) -> Result<Pattern> {
        let (least, most) = match *quantifier {
            RepetitionQuantifier::ZeroOrMore => (0, None),
            RepetitionQuantifier::OneOrMore => (1, None),
            RepetitionQuantifier::AtMostOne => (0, Some(1)),
            RepetitionQuantifier::Exactly(times) => (times, Some(times)),
            RepetitionQuantifier::AtLeast(least) => (least, None),
            RepetitionQuantifier::AtMost(most) => (0, Some(most)),
            RepetitionQuantifier::Range(least, most) => (least, Some(most)),
        };
        if most.is_some_and(|most| most < least) {
            return plan_err!(
                "match_recognize: quantifier {quantifier} has no number in it: its bounds are the wrong way round"
            );
        }
        Ok(Pattern::Repeat { pattern: Box::new(self.read(pattern)?), least, most, is_reluctant })
    }
}

/// Reads `define`, and the unions into the variables.
pub(super) fn definitions(
    context: &dyn RelationPlannerContext,
    symbols: Vec<SymbolDefinition>,
    variables: &mut Variables,
) -> Result<Definitions> {
    let mut definitions = Definitions { conditions: vec![None; variables.len()], ..Definitions::default() };
    for SymbolDefinition { symbol, definition } in symbols {
        let name = context.normalize_ident(symbol.clone());
        if let Some(variable) = variables.names.iter().position(|known| *known == name) {
            if definitions.conditions[variable].replace(definition).is_some() {
                return plan_err!("match_recognize: variable {symbol} is defined twice");
            }
        } else if let Some(members) = subset_members(&definition) {
            let mut union = 0;
            for member in members? {
                let name = context.normalize_ident(member.clone());
                let Some(variable) = variables.names.iter().position(|known| *known == name) else {
                    return plan_err!("match_recognize: subset {symbol}: {member} is no variable of the pattern");
                };
                union |= 1 << variable;
            }
            if union == 0 || variables.find(&name).is_some() {
                return plan_err!("match_recognize: subset {symbol} is empty or defined twice");
            }
            variables.subsets.push((name, union));
        } else if name == WITHIN {
            definitions.within = Some(definition);
        } else if name == PARTIAL_MATCHES {
            definitions.shows_partial = is_true(&definition)?;
        } else {
            return plan_err!("match_recognize: {symbol} is defined, but no variable of the pattern");
        }
    }
    Ok(definitions)
}

/// The names in `subset(a, b)`.
fn subset_members(definition: &ast::Expr) -> Option<Result<Vec<&Ident>>> {
    let ast::Expr::Function(function) = definition else {
        return None;
    };
    let is_subset = function.name.to_string().eq_ignore_ascii_case(SUBSET);
    let ast::FunctionArguments::List(list) = &function.args else {
        return None;
    };
    is_subset.then(|| {
        let name = |argument| match argument {
            &ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Identifier(ref name))) => Ok(name),
            other => plan_err!("match_recognize: expected variables in subset, got {other}"),
        };
        list.args.iter().map(name).collect()
    })
}

fn is_true(definition: &ast::Expr) -> Result<bool> {
    match definition {
        ast::Expr::Value(value) => match value.value {
            ast::Value::Boolean(is_true) => Ok(is_true),
            _ => plan_err!("match_recognize: expected {PARTIAL_MATCHES} to be true or false, got {value}"),
        },
        other => plan_err!("match_recognize: expected {PARTIAL_MATCHES} to be true or false, got {other}"),
    }
}

/// Reads `after match skip`.
pub(super) fn skip(
    context: &dyn RelationPlannerContext,
    skip: Option<AfterMatchSkip>,
    variables: &Variables,
) -> Result<Skip> {
    let find = |name: &Ident| {
        variables.find(&context.normalize_ident(name.clone())).ok_or_else(|| {
            plan_datafusion_err!(
                "match_recognize: after match skip to {name}: no variable of the pattern, and no subset"
            )
        })
    };
    match skip {
        None | Some(AfterMatchSkip::PastLastRow) => Ok(Skip::PastLastRow),
        Some(AfterMatchSkip::ToNextRow) => Ok(Skip::ToNextRow),
        Some(AfterMatchSkip::ToFirst(name)) => Ok(Skip::ToFirst(find(&name)?)),
        Some(AfterMatchSkip::ToLast(name)) => Ok(Skip::ToLast(find(&name)?)),
    }
}

/// Reads `one row per match` and `all rows per match`.
pub(super) fn shape(rows: Option<RowsPerMatch>, pattern: &Pattern) -> Result<Shape> {
    let mode = match rows {
        None | Some(RowsPerMatch::OneRow) => return Ok(Shape::OneRow),
        Some(RowsPerMatch::AllRows(mode)) => mode.unwrap_or(EmptyMatchesMode::Show),
    };
    let shows_unmatched = mode == EmptyMatchesMode::WithUnmatched;
    if shows_unmatched && pattern.excludes() {
        return plan_err!(
            "match_recognize: all rows per match with unmatched rows shows every row, but the pattern excludes some with {{- -}}"
        );
    }
    Ok(Shape::AllRows { shows_empty: mode != EmptyMatchesMode::Omit, shows_unmatched })
}
