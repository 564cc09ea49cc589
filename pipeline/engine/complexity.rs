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
    // What nests at each depth of parentheses and of `case`.
    let mut depths = vec![Depth::default()];
    let mut joins = 0;
    let mut last_word = Keyword::NoKeyword;
    for token in &tokens {
        let depth = current(&mut depths);
        let before = last_word;
        if let Token::Word(word) = token {
            last_word = word.keyword;
        }
        match token {
            Token::LParen => depths.push(Depth::default()),
            Token::RParen => _ = depths.pop(),
            Token::Comma => {
                joins += usize::from(depth.is_from);
                depth.end_expression();
            }
            Token::SemiColon => *depth = Depth::default(),
            Token::Word(word) => match word.keyword {
                Keyword::CASE => depths.push(Depth::default()),
                Keyword::END => _ = depths.pop(),
                Keyword::WHEN | Keyword::THEN | Keyword::ELSE => depth.end_expression(),
                Keyword::AND | Keyword::OR | Keyword::XOR => {
                    depth.connectives += 1;
                    depth.operators = 0;
                }
                // `is distinct from`
                Keyword::FROM if before == Keyword::DISTINCT => depth.operators += 1,
                Keyword::FROM => *depth = Depth { is_from: true, ..Depth::default() },
                Keyword::SELECT
                | Keyword::WHERE
                | Keyword::GROUP
                | Keyword::HAVING
                | Keyword::QUALIFY
                | Keyword::WINDOW
                | Keyword::ORDER
                | Keyword::LIMIT => *depth = Depth::default(),
                Keyword::ON | Keyword::BY => depth.end_expression(),
                Keyword::JOIN => {
                    joins += 1;
                    depth.end_expression();
                }
                // Each is a node of the plan upon the one before.
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => {
                    joins += 1;
                    *depth = Depth::default();
                }
                Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::BETWEEN
                | Keyword::DIV
                | Keyword::COLLATE
                | Keyword::AT => depth.operators += 1,
                _ => {}
            },
            Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::Colon
            | Token::LBrace
            | Token::RBrace
            | Token::EOF => {}
            // Every other sign is an operator of some dialect, or a bracket, which nests as well.
            _ => depth.operators += 1,
        }
        let depth = current(&mut depths);
        if depth.operators.max(depth.connectives) > MOST_OPERATORS {
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

/// What nests at one depth since the last comma or clause.
#[derive(Debug, Default)]
struct Depth {
    /// `and` and `or`.
    connectives: usize,
    /// Operators since the last of these.
    operators: usize,
    /// Whether tables are listed, of which each further one is a join.
    is_from: bool,
}

impl Depth {
    fn end_expression(&mut self) {
        (self.connectives, self.operators) = (0, 0);
    }
}

fn current(depths: &mut Vec<Depth>) -> &mut Depth {
    if depths.is_empty() {
        // More parentheses are closed than opened, which the parser tells.
        depths.push(Depth::default());
    }
    depths.last_mut().expect("there is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_chains_and_many_joins_are_refused() {
        let chain = |operator: &str, count| vec!["1"; count].join(operator);
        for operator in [
            " + ",
            " or ",
            " || ",
            " = ",
            " <> ",
            " < ",
            " & ",
            " like ",
            " is distinct from ",
            " and not ",
            "::",
            " -> ",
            " ~ ",
            " at time zone ",
            " collate ",
        ] {
            assert!(check(&format!("select {}", chain(operator, 240))).is_ok(), "{operator}");
            assert!(check(&format!("select {}", chain(operator, 2_000))).is_err(), "{operator}");
            assert!(check(&format!("select f(({}))", chain(operator, 2_000))).is_err(), "{operator}");
        }
        let joined = |count| format!("select 1 from t {}", "join t using (a) ".repeat(count));
        assert!(check(&joined(100)).is_ok() && check(&joined(1_000)).is_err());
        assert!(check(&vec!["select 1"; 1_000].join(" union all ")).is_err());
        let listed = |count| format!("select 1 from {} where a in (1, 2) order by 1, 2", vec!["t"; count].join(", "));
        assert!(check(&listed(100)).is_ok() && check(&listed(2_001)).is_err());
        assert!(check(&format!("select {} 1", "not ".repeat(2_000))).is_err());
        assert!(check(&format!("select 1 {}", "is null ".repeat(2_000))).is_err());
    }

    #[test]
    fn a_case_of_many_branches_is_no_chain() {
        let branch = "when touchpoint = 'a' and channel = 'b' or is_new then 1 + 1 ";
        let case = format!("select case {} else 0 end + 1 from t", branch.repeat(5_000));
        assert!(check(&case).is_ok());
        assert!(check(&vec!["case when a then 1 end"; 2_000].join(" + ")).is_err());
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
