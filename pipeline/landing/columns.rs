//! Which source columns a set of SQL expressions reads, told from their syntax alone.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, FunctionArguments, Subscript, Value, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::error::{Error, Result};

/// Path of a value in a record: a column and the members below it.
pub type ValuePath = Vec<String>;

/// Parses one expression of a mapping and returns the paths that it reads, such as `["context", "traits", "email"]`
/// for `context['traits']['email']`.
pub fn paths_read(expression: &str) -> Result<Vec<ValuePath>> {
    let wrong = |error: &dyn std::fmt::Display| Error::invalid(format!("`{expression}` is no SQL expression: {error}"));
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(expression).map_err(|error| wrong(&error))?;
    let parsed = parser.parse_expr().map_err(|error| wrong(&error))?;
    if parser.peek_token_ref().token != datafusion::sql::sqlparser::tokenizer::Token::EOF {
        return Err(wrong(&format!("`{}` is left over", parser.peek_token_ref())));
    }
    let mut reads = Reads::default();
    let _ = parsed.visit(&mut reads);
    Ok(reads.paths)
}

/// Merges paths into one tree per column; a column read as a whole needs no tree.
pub fn by_column(paths: impl IntoIterator<Item = ValuePath>) -> Result<BTreeMap<String, Vec<ValuePath>>> {
    let mut columns: BTreeMap<String, Vec<ValuePath>> = BTreeMap::new();
    for mut path in paths {
        let members = path.split_off(1);
        columns.entry(path.remove(0)).or_default().push(members);
    }
    for (column, members) in &mut columns {
        members.sort();
        members.dedup();
        let clash = members.windows(2).any(|pair| pair[1].starts_with(&pair[0]));
        if clash {
            return Err(Error::invalid(format!("`{column}` is read both as a whole and by member"))
                .hint("read one of the two everywhere in the source's mapping"));
        }
    }
    Ok(columns)
}

#[derive(Default)]
struct Reads {
    paths: Vec<ValuePath>,
    /// The next identifier is the root of a member access that was already taken.
    root_taken: bool,
}

impl Visitor for Reads {
    type Break = ();

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        match expression {
            Expr::Identifier(_) if self.root_taken => self.root_taken = false,
            Expr::Identifier(name) => self.paths.push(vec![name.value.clone()]),
            // A word that SQL knows as a function without parentheses, and sources as a column.
            Expr::Function(call) if matches!(call.args, FunctionArguments::None) => {
                let name = call.name.to_string();
                if name.eq_ignore_ascii_case("user") {
                    self.paths.push(vec![name]);
                }
            }
            Expr::CompoundIdentifier(names) => self.paths.push(names.iter().map(|name| name.value.clone()).collect()),
            Expr::CompoundFieldAccess { root, access_chain } => {
                if let Expr::Identifier(name) = root.as_ref() {
                    let mut path = vec![name.value.clone()];
                    path.extend(access_chain.iter().map_while(member));
                    self.paths.push(path);
                    self.root_taken = true;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The name in `['name']` or `.name`.
fn member(access: &AccessExpr) -> Option<String> {
    match access {
        AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) }) => match &value.value {
            Value::SingleQuotedString(name) => Some(name.clone()),
            _ => None,
        },
        AccessExpr::Dot(Expr::Identifier(name)) => Some(name.value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_members_are_found_in_any_expression() {
        let cases: [(&str, &[&[&str]]); 6] = [
            ("anonymousId", &[&["anonymousId"]]),
            ("'web'", &[]),
            ("lower(trim(email))", &[&["email"]]),
            ("properties['revenue']", &[&["properties", "revenue"]]),
            ("coalesce(context['traits']['email'], email)", &[&["context", "traits", "email"], &["email"]]),
            ("case when a.b = 'x' then cast(\"C d\" as double) end", &[&["a", "b"], &["C d"]]),
        ];
        for (expression, expected) in cases {
            let found = paths_read(expression).unwrap();
            assert_eq!(found, expected.iter().map(|path| path.map_strings()).collect::<Vec<_>>(), "{expression}");
        }
    }

    trait MapStrings {
        fn map_strings(&self) -> Vec<String>;
    }

    impl MapStrings for &[&str] {
        fn map_strings(&self) -> Vec<String> {
            self.iter().map(|name| (*name).to_string()).collect()
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in ["lower(", "a b", "select 1; drop"] {
            assert!(paths_read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_column_read_whole_and_by_member_is_refused() {
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>();
        assert!(by_column([path(&["p"]), path(&["p", "a"])]).is_err());
        let columns = by_column([path(&["p", "a"]), path(&["p", "b", "c"]), path(&["q"])]).unwrap();
        assert_eq!(columns.len(), 2);
        assert_eq!(columns["p"].len(), 2);
    }
}
