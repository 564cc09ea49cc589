//! Statements that would cost the planner its stack, or minutes, are refused before it sees them.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::{Error, Result};

/// Operators in one expression: each nests the plan once more. Ten thousand end the process.
const MOST_OPERATORS: usize = 500;
/// Joins of one statement: the time to order them grows with their square and more.
const MOST_JOINS: usize = 100;

/// Refuses a statement that is too complex.
pub fn check(sql: &str) -> Result<()> {
    // What is no SQL is told by the parser.
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    // Operators since the last comma or clause, at each depth of parentheses.
    let mut chains = vec![0];
    let mut joins = 0;
    for token in &tokens {
        match token {
            Token::LParen => chains.push(0),
            Token::RParen => {
                chains.pop();
            }
            Token::Comma | Token::SemiColon => *current(&mut chains) = 0,
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR => *current(&mut chains) += 1,
                Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::HAVING | Keyword::ON | Keyword::BY => {
                    *current(&mut chains) = 0;
                }
                Keyword::JOIN => {
                    joins += 1;
                    *current(&mut chains) = 0;
                }
                // Each is a node of the plan upon the one before.
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => joins += 1,
                _ => {}
            },
            Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod | Token::StringConcat => {
                *current(&mut chains) += 1;
            }
            _ => {}
        }
        if *current(&mut chains) > MOST_OPERATORS {
            return Err(Error::invalid(format!("the statement is too complex: {MOST_OPERATORS} operators in a row"))
                .hint("compare with many values by `in (…)`, or join a table of them"));
        }
        if joins > MOST_JOINS {
            return Err(Error::invalid(format!(
                "the statement is too complex: more than {MOST_JOINS} joins or unions"
            ))
            .hint("make a model of a part of it: a file in queries/"));
        }
    }
    Ok(())
}

fn current(chains: &mut Vec<usize>) -> &mut usize {
    if chains.is_empty() {
        // More parentheses are closed than opened, which the parser tells.
        chains.push(0);
    }
    chains.last_mut().expect("there is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_chains_and_many_joins_are_refused() {
        let chain = |operator: &str, count| vec!["1"; count].join(operator);
        for operator in [" + ", " or ", " || "] {
            assert!(check(&format!("select {}", chain(operator, 501))).is_ok(), "{operator}");
            assert!(check(&format!("select {}", chain(operator, 2_000))).is_err(), "{operator}");
            assert!(check(&format!("select f(({}))", chain(operator, 2_000))).is_err(), "{operator}");
        }
        let joined = |count| format!("select 1 from t {}", "join t using (a) ".repeat(count));
        assert!(check(&joined(100)).is_ok() && check(&joined(1_000)).is_err());
        assert!(check(&vec!["select 1"; 1_000].join(" union all ")).is_err());
    }

    #[test]
    fn long_lists_and_many_expressions_are_no_chains() {
        let list = vec!["1"; 20_000].join(", ");
        assert!(check(&format!("select * from t where a in ({list})")).is_ok());
        let columns = vec!["a + b * c"; 5_000].join(", ");
        assert!(check(&format!("select {columns} from t where a = 1 and b = 2")).is_ok());
        assert!(check(")) no sql").is_ok() && check("'open").is_ok());
    }
}
