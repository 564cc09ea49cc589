//! The clause as the standard (and Flink) write it, in words that the parser knows.
//!
//! The SQL parser of DataFusion knows `match_recognize` as Snowflake documents it, with gaps. [`standard_sql`] changes
//! the text of a statement, inside such clauses only:
//!
//! | written | given to the parser |
//! | --- | --- |
//! | `(select …) as t match_recognize` | `rows_of((select …)) as t match_recognize` |
//! | `running last(…)`, `final sum(…)` | `running(last(…))`, `final(sum(…))` |
//! | `after match skip to b` | `after match skip to last b` |
//! | `pattern (…) within interval '1' hour` | `define within as interval '1' hour` |
//! | `… per match with partial matches` | `define partial_matches as true` |
//! | `subset u = (a, b)` | `define u as subset(a, b)` |
//! | no `define` | `define` of what the other lines bring, or nothing new |
//! | `()` in a pattern | `"()"` |
//! | `{- … -}` | `("{-" (…) "-}")` |
//! | `permute(…)` | `("permute(" (…) (…))` |
//! | `{,}` | `*` |
//! | `a$`, `$a` in a pattern | `a $`, `$ a` |
//!
//! The right column may be written as well, and needs no change of the text.

use std::borrow::Cow;
use std::ops::Range;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::clause::{EMPTY, EXCLUDE, EXCLUDE_END, PARTIAL_MATCHES, PERMUTE, ROWS_OF, SUBSET, WITHIN};

/// A statement in words that the parser knows. A statement without `match_recognize` stays as it is, and so does one
/// that is no SQL: the parser will say so.
pub fn standard_sql(sql: &str) -> Cow<'_, str> {
    if !sql.to_lowercase().contains("match_recognize") {
        return Cow::Borrowed(sql);
    }
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else {
        return Cow::Borrowed(sql);
    };
    let mut tokens = Tokens::new(sql, tokens);
    let mut clauses = tokens.clauses();
    // An inner clause first: an outer one then sees the same tokens.
    clauses.reverse();
    for clause in clauses {
        tokens.rewrite_input(clause.start - 2);
        tokens.rewrite(clause);
    }
    tokens.finish()
}

/// A change of the text.
struct Edit {
    at: Range<usize>,
    by: String,
}

struct Tokens<'a> {
    sql: &'a str,
    /// Tokens that are not white space.
    list: Vec<Token>,
    /// Their places in the text.
    spans: Vec<Range<usize>>,
    edits: Vec<Edit>,
}

impl<'a> Tokens<'a> {
    fn new(sql: &'a str, tokens: Vec<TokenWithSpan>) -> Self {
        let mut lines = vec![0];
        lines.extend(sql.match_indices('\n').map(|(at, _)| at + 1));
        let offset = |location: Location| {
            let line = lines.get(location.line.saturating_sub(1) as usize).copied().unwrap_or(sql.len());
            let column = location.column.saturating_sub(1) as usize;
            sql[line..].char_indices().nth(column).map_or(sql.len(), |(at, _)| line + at)
        };
        let mut list = Vec::new();
        let mut spans = Vec::new();
        for token in tokens {
            if !matches!(token.token, Token::Whitespace(_) | Token::EOF) {
                spans.push(offset(token.span.start)..offset(token.span.end));
                list.push(token.token);
            }
        }
        Self { sql, list, spans, edits: Vec::new() }
    }

    /// Whether the token is an unquoted word.
    fn is_word(&self, at: usize, word: &str) -> bool {
        matches!(self.list.get(at), Some(Token::Word(found))
            if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
    }

    fn are_words(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(number, word)| self.is_word(at + number, word))
    }

    fn is(&self, at: usize, token: &Token) -> bool {
        self.list.get(at) == Some(token)
    }

    /// The token that closes the parenthesis at a token.
    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0;
        for at in open..self.list.len() {
            match self.list[at] {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    /// The token that opens the parenthesis which a token closes.
    fn opening(&self, close: usize) -> Option<usize> {
        let mut depth = 0;
        for at in (0..=close).rev() {
            match self.list[at] {
                Token::RParen => depth += 1,
                Token::LParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    /// Gives a query in parentheses before a clause the form of a call: the parser wants a name there.
    fn rewrite_input(&mut self, clause: usize) {
        let Some((open, close)) = self.query_before(clause) else { return };
        let is_query = self.is_word(open + 1, "select") || self.is_word(open + 1, "with");
        let (before, after) = if is_query { ("", "") } else { ("(select * from ", ")") };
        self.insert(open, format!("{ROWS_OF}({before}"));
        self.append(close, format!("{after})"));
    }

    /// The parentheses of a query before a clause: `(…)`, `(…) t`, `(…) as t`, or the same with columns.
    fn query_before(&self, clause: usize) -> Option<(usize, usize)> {
        let is_name = |at: usize| {
            matches!(&self.list[at], Token::Word(word) if word.quote_style.is_some() || ![
            "from", "join", "lateral", "as",
        ].iter().any(|keyword| word.value.eq_ignore_ascii_case(keyword)))
        };
        let mut last = clause.checked_sub(1)?;
        if self.is(last, &Token::RParen) {
            let open = self.opening(last)?;
            let Some(before) = open.checked_sub(1).filter(|before| is_name(*before)) else {
                return Some((open, last));
            };
            last = before;
        } else if !is_name(last) {
            return None;
        }
        // At an alias.
        let mut before = last.checked_sub(1)?;
        if self.is_word(before, "as") {
            before = before.checked_sub(1)?;
        }
        if !self.is(before, &Token::RParen) {
            return None;
        }
        let open = self.opening(before)?;
        let is_call = open.checked_sub(1).is_some_and(is_name);
        (!is_call).then_some((open, before))
    }

    /// The tokens inside the parentheses of each clause, outer before inner.
    fn clauses(&self) -> Vec<Range<usize>> {
        let starts = (0..self.list.len()).filter(|at| self.is_word(*at, "match_recognize"));
        starts
            .filter(|at| self.is(at + 1, &Token::LParen))
            .filter_map(|at| Some(at + 2..self.closing(at + 1)?))
            .collect()
    }

    fn text(&self, tokens: Range<usize>) -> &'a str {
        if tokens.is_empty() {
            return "";
        }
        &self.sql[self.spans[tokens.start].start..self.spans[tokens.end - 1].end]
    }

    fn replace(&mut self, tokens: Range<usize>, by: impl Into<String>) {
        let at = self.spans[tokens.start].start..self.spans[tokens.end - 1].end;
        self.edits.push(Edit { at, by: by.into() });
    }

    fn insert(&mut self, before: usize, text: impl Into<String>) {
        let at = self.spans[before].start;
        self.edits.push(Edit { at: at..at, by: text.into() });
    }

    fn append(&mut self, after: usize, text: impl Into<String>) {
        let at = self.spans[after].end;
        self.edits.push(Edit { at: at..at, by: text.into() });
    }

    fn finish(mut self) -> Cow<'a, str> {
        if self.edits.is_empty() {
            return Cow::Borrowed(self.sql);
        }
        self.edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
        let mut text = String::new();
        let mut done = 0;
        for edit in &self.edits {
            text.push_str(&self.sql[done..edit.at.start.max(done)]);
            text.push_str(&edit.by);
            done = done.max(edit.at.end);
        }
        text.push_str(&self.sql[done..]);
        Cow::Owned(text)
    }

    /// Rewrites one clause: a walk over its own words, not over what lies in parentheses.
    fn rewrite(&mut self, clause: Range<usize>) {
        let mut definitions = Vec::new();
        let mut define = None;
        let mut pattern_end = None;
        let mut at = clause.start;
        while at < clause.end {
            if self.is_word(at, "pattern") && self.is(at + 1, &Token::LParen) && pattern_end.is_none() {
                let Some(end) = self.closing(at + 1) else { return };
                self.rewrite_pattern(at + 2..end);
                pattern_end = Some(end);
                at = end + 1;
                if self.is_word(at, "within") {
                    let end = self.end_of_span(at + 1, clause.end);
                    definitions.push(format!("{WITHIN} as {}", self.text(at + 1..end)));
                    self.replace(at..end, "");
                    at = end;
                }
                continue;
            }
            if self.are_words(at, &["with", "partial", "matches"]) {
                definitions.push(format!("{PARTIAL_MATCHES} as true"));
                self.replace(at..at + 3, "");
                at += 3;
                continue;
            }
            if self.are_words(at, &["after", "match", "skip", "to"]) {
                let is_short = !["next", "first", "last"].iter().any(|word| self.is_word(at + 4, word))
                    // A variable may bear such a name.
                    || self.is_word(at + 5, "pattern") && !self.is_word(at + 4, "next");
                if is_short && at + 4 < clause.end {
                    self.insert(at + 4, "last ");
                }
                at += 5;
                continue;
            }
            if pattern_end.is_some() && define.is_none() && self.is_word(at, "subset") {
                at = self.rewrite_subsets(at, clause.end, &mut definitions);
                continue;
            }
            if pattern_end.is_some() && define.is_none() && self.is_word(at, "define") {
                define = Some(at);
            }
            if (self.is_word(at, "running") || self.is_word(at, "final"))
                && matches!(self.list.get(at + 1), Some(Token::Word(_)))
                && !self.is_word(at + 1, "pattern")
                && self.is(at + 2, &Token::LParen)
                && let Some(end) = self.closing(at + 2)
            {
                self.append(at, "(");
                self.append(end, ")");
            }
            at += 1;
        }
        let Some(pattern_end) = pattern_end else { return };
        let definitions = definitions.join(", ");
        match define {
            Some(define) if !definitions.is_empty() => self.append(define, format!(" {definitions},")),
            None if !definitions.is_empty() => {
                let last = clause.end.max(pattern_end + 1);
                self.insert(last, format!(" define {definitions}"));
            }
            None => self.insert(clause.end, format!(" define {PARTIAL_MATCHES} as false")),
            Some(_) => {}
        }
    }

    /// The end of an interval or a number.
    fn end_of_span(&self, from: usize, end: usize) -> usize {
        (from..end).find(|at| self.is_word(*at, "define") || self.is_word(*at, "subset")).unwrap_or(end)
    }

    /// Takes `u = (a, b), …` out; returns the token after.
    fn rewrite_subsets(&mut self, start: usize, end: usize, definitions: &mut Vec<String>) -> usize {
        let mut at = start + 1;
        while at + 2 < end && self.is(at + 1, &Token::Eq) && self.is(at + 2, &Token::LParen) {
            let Some(close) = self.closing(at + 2) else { return end };
            let (name, members) = (self.text(at..at + 1), self.text(at + 2..close + 1));
            definitions.push(format!("{name} as {SUBSET}{members}"));
            at = close + 1;
            if !self.is(at, &Token::Comma) {
                break;
            }
            at += 1;
        }
        if at > start + 1 {
            self.replace(start..at, "");
        }
        at
    }

    fn rewrite_pattern(&mut self, pattern: Range<usize>) {
        if pattern.is_empty() {
            self.insert(pattern.start, format!("\"{EMPTY}\""));
        }
        let mut at = pattern.start;
        while at < pattern.end {
            match &self.list[at] {
                Token::LParen if self.is(at + 1, &Token::RParen) => {
                    self.replace(at..at + 2, format!("\"{EMPTY}\""));
                    at += 1;
                }
                Token::LBrace if self.is(at + 1, &Token::Minus) => {
                    self.replace(at..at + 2, format!("(\"{EXCLUDE}\" ("));
                    at += 1;
                }
                Token::Minus if self.is(at + 1, &Token::RBrace) => {
                    self.replace(at..at + 2, format!(") \"{EXCLUDE_END}\")"));
                    at += 1;
                }
                Token::LBrace if self.is(at + 1, &Token::Comma) && self.is(at + 2, &Token::RBrace) => {
                    self.replace(at..at + 3, "*");
                    at += 2;
                }
                Token::Word(word)
                    if word.quote_style.is_none()
                        && word.value.eq_ignore_ascii_case("permute")
                        && self.is(at + 1, &Token::LParen) =>
                {
                    let Some(end) = self.closing(at + 1) else { return };
                    self.replace(at..at + 2, format!("(\"{PERMUTE}\" ("));
                    let mut depth = 0;
                    for inner in at + 2..end {
                        match self.list[inner] {
                            Token::LParen | Token::LBrace => depth += 1,
                            Token::RParen | Token::RBrace => depth -= 1,
                            Token::Comma if depth == 0 => self.replace(inner..inner + 1, ") ("),
                            _ => {}
                        }
                    }
                    self.append(end, ")");
                    at += 1;
                }
                Token::Word(word)
                    if word.quote_style.is_none() && word.value.len() > 1 && word.value.ends_with('$') =>
                {
                    let name = word.value.trim_end_matches('$').to_owned();
                    self.replace(at..at + 1, format!("{name} $"));
                }
                Token::Placeholder(name) if name.len() > 1 && name.starts_with('$') => {
                    let name = name[1..].replace('$', " $");
                    self.replace(at..at + 1, format!("$ {name}"));
                }
                _ => {}
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(clause: &str) -> String {
        let sql = format!("select 'é(' from t match_recognize ({clause}) as m");
        let rewritten = standard_sql(&sql).into_owned();
        let inner = rewritten.strip_prefix("select 'é(' from t match_recognize (").unwrap();
        let inner = inner.strip_suffix(") as m").unwrap();
        inner.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_form_has_a_spelling_that_the_parser_knows() {
        let cases = [
            (
                "measures final last(a.x) as y pattern (a) define a as true",
                "measures final( last(a.x)) as y pattern (a) define a as true",
            ),
            (
                "measures RUNNING sum(x) - 1 as y pattern (a) define a as true",
                "measures RUNNING( sum(x)) - 1 as y pattern (a) define a as true",
            ),
            (
                "after match skip to b pattern (b) define b as true",
                "after match skip to last b pattern (b) define b as true",
            ),
            (
                "after match skip to next row pattern (b) define b as true",
                "after match skip to next row pattern (b) define b as true",
            ),
            (
                "after match skip to last last pattern (last) define b as true",
                "after match skip to last last pattern (last) define b as true",
            ),
            (
                "after match skip to last pattern (last) define b as true",
                "after match skip to last last pattern (last) define b as true",
            ),
            (
                "pattern (a b) within interval '1' hour define b as true",
                "pattern (a b) define within as interval '1' hour, b as true",
            ),
            ("pattern (a b) within 5", "pattern (a b) define within as 5"),
            (
                "one row per match with partial matches pattern (a)",
                "one row per match pattern (a) define partial_matches as true",
            ),
            (
                "pattern (a b) subset u = (a, b), v = (b) define b as true",
                "pattern (a b) define u as subset(a, b), v as subset(b), b as true",
            ),
            ("pattern (a)", "pattern (a) define partial_matches as false"),
            ("pattern (() | a) define a as x", "pattern (\"()\" | a) define a as x"),
            ("pattern () define a as x", "pattern (\"()\") define a as x"),
            ("pattern (a {- b+ -}{1,2}) define a as x", "pattern (a (\"{-\" ( b+ ) \"-}\"){1,2}) define a as x"),
            ("pattern (Permute(a{2,3}, b+)) define a as x", "pattern ((\"permute(\" (a{2,3}) ( b+))) define a as x"),
            ("pattern (a{,}?) define a as x", "pattern (a*?) define a as x"),
            ("pattern (^a b$) define a as x", "pattern (^a b $) define a as x"),
            ("pattern ($a) define a as x", "pattern ($ a) define a as x"),
        ];
        for (written, expected) in cases {
            assert_eq!(rewritten(written), expected, "{written}");
        }
    }

    #[test]
    fn other_statements_and_known_spellings_stay_as_they_are() {
        let statements = [
            "select final from running where subset = 1",
            "select * from t match_recognize (pattern (a b*? $) define a as x > 1)",
            "select * from t match_recognize (measures final(last(x)) as y pattern (a) define a as x, within as 5)",
            "select 'match_recognize (pattern (a$))'",
            "select match_recognize 'unterminated",
        ];
        for statement in statements {
            assert_eq!(standard_sql(statement), statement);
        }
    }

    #[test]
    fn a_query_before_a_clause_takes_the_form_of_a_call() {
        let clause = "match_recognize (pattern (a) define a as x)";
        let cases = [
            ("(select 1)", "rows_of((select 1))"),
            ("(select 1) t", "rows_of((select 1)) t"),
            ("(with t as (select 1) select 1) as t", "rows_of((with t as (select 1) select 1)) as t"),
            ("(values (1)) as t(a, b)", "rows_of((select * from (values (1)))) as t(a, b)"),
            ("(a join b using (c))", "rows_of((select * from (a join b using (c))))"),
            ("t", "t"),
            ("t as u", "t as u"),
            ("s.t", "s.t"),
            ("t as u(a, b)", "t as u(a, b)"),
            ("f(1)", "f(1)"),
            ("f(1) as t(a)", "f(1) as t(a)"),
            ("x, (select 1)", "x, rows_of((select 1))"),
            ("x join (select 1) t", "x join rows_of((select 1)) t"),
        ];
        for (written, expected) in cases {
            let sql = format!("select * from {written} {clause} as m where (a) > 1");
            assert_eq!(standard_sql(&sql), format!("select * from {expected} {clause} as m where (a) > 1"));
        }
    }

    #[test]
    fn clauses_inside_clauses_are_rewritten_each() {
        let sql = "select * from (select * from t match_recognize (pattern (a$) define a as x)) \
                   match_recognize (pattern (b$) define b as y)";
        let expected = "select * from rows_of((select * from t match_recognize (pattern (a $) define a as x))) \
                        match_recognize (pattern (b $) define b as y)";
        assert_eq!(standard_sql(sql), expected);
    }
}
