//! An error of the engine, told to whoever wrote the query: what is wrong, where, and what may have been meant.

use std::ops::Range;

use datafusion::common::{Column, DataFusionError, SchemaError, Span};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

use crate::error::{Error, Kind, Place};

/// What the planner says of more than one statement, and of none.
const SEVERAL_STATEMENTS: &str = "only supports a single SQL statement";
const NO_STATEMENT: &str = "No SQL statements were provided";
/// Kinds of statements that are refused after planning.
const REFUSED: [&str; 3] = ["DDL", "DML", "Statement"];
/// What the engine puts before a message.
const LAYERS: [&str; 5] =
    ["Error during planning: ", "Execution error: ", "Arrow error: ", "External error: ", "Internal error: "];
/// A list of columns longer than this helps nobody.
const COLUMNS_NAMED: usize = 16;

/// The error of a query with its place in the query and, where a name is wrong, one that may have been meant.
pub fn diagnose(ctx: &SessionContext, sql: &str, error: DataFusionError) -> Error {
    let told = error.diagnostic().cloned();
    let place = told.as_ref().and_then(|told| place_of_span(sql, told.span?));
    match error.find_root() {
        DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                return no_column(field, valid_fields).at(place.or_else(|| place_of_word(sql, &field.name)));
            }
            SchemaError::AmbiguousReference { field } => {
                return Error::invalid(format!("more than one table has a column `{}`", field.name))
                    .hint(format!("name its table: TABLE.{}", field.name))
                    .at(place.or_else(|| place_of_word(sql, &field.name)));
            }
            _ => {}
        },
        DataFusionError::SQL(parser, _) => return no_sql(sql, &parser.to_string(), place),
        DataFusionError::Plan(message) => {
            if let Some(name) = between(message, "table '", "' not found") {
                return match between(message, "table function '", "' not found") {
                    Some(name) => no_function(ctx, name).at(place.or_else(|| place_of_word(sql, name))),
                    None => {
                        let name = unqualified(ctx, name);
                        no_table(ctx, name).at(place.or_else(|| place_of_word(sql, name)))
                    }
                };
            }
            if let Some(name) = between(message, "Invalid function '", "'") {
                return no_function(ctx, name).at(place.or_else(|| place_of_word(sql, name)));
            }
        }
        DataFusionError::NotImplemented(message) if message.contains(SEVERAL_STATEMENTS) => {
            return Error::invalid("expected one statement, and several came")
                .hint("a script of several goes into a file (-f) or through a pipe");
        }
        _ => {}
    }
    let advice = told.and_then(|told| Some((told.message, told.helps.into_iter().next()?.message)));
    let error = Error::from(error);
    if let Some((message, help)) = advice {
        return error.with_message(message).hint(help).at(place);
    }
    let message = error.to_string();
    if message.contains(NO_STATEMENT) {
        return Error::invalid("expected a statement, and none came");
    }
    if let Some((_, statement)) =
        plainly(&message).split_once(" not supported: ").filter(|(kind, _)| REFUSED.contains(kind))
    {
        return Error::invalid(format!("queries only read: {} is refused", apart(statement)))
            .hint("what should stay is a model, a file in queries/; .output FILE keeps results");
    }
    locate(sql, error.at(place))
}

/// The error of a query in few words, with its place where it begins with a name that the query holds.
pub fn locate(sql: &str, error: Error) -> Error {
    let message = error.to_string();
    let mut message = plainly(&message);
    let mut name = message.split([':', ' ', '(']).next().unwrap_or_default().to_string();
    let mut error = error;
    let mut said = None;
    if let Some(function) = between(message, "Function '", "'") {
        name = function.to_string();
        if let Some(reason) = between(message, "coercion failed with: ", " No function matches") {
            message = plainly(reason).trim_end_matches('.');
        } else if let Some(call) = between(message, "argument types '", "'") {
            said = Some(format!("no form of {function} takes {}", call.strip_prefix(function).unwrap_or(call)));
            error = error.hint(format!(".help {function} tells what it takes"));
        }
    }
    let place = error.place().cloned().or_else(|| place_of_word(sql, &name));
    let message = said.unwrap_or_else(|| message.to_string());
    // What the engine calls a fault of its own is a wrong call.
    let kind = if message.starts_with("no form of ") { Kind::Invalid } else { error.kind() };
    let hint = error.remedy().map(str::to_string);
    let told = Error::new(kind, message).at(place);
    match hint {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// A message without the names of the layers that it came through.
fn plainly(message: &str) -> &str {
    let mut message = message.rsplit_once("\ncaused by\n").map_or(message, |(_, cause)| cause);
    while let Some(shorter) = LAYERS.iter().find_map(|layer| message.strip_prefix(layer)) {
        message = shorter;
    }
    message
}

/// `DropTable` as `drop table`.
fn apart(name: &str) -> String {
    let mut words = String::new();
    let mut before = char::MAX;
    for c in name.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
        before = c;
    }
    words
}

/// The name of a table without catalog and schema, where they are those of the session.
fn unqualified<'a>(ctx: &SessionContext, name: &'a str) -> &'a str {
    let names = ctx.state().config_options().catalog.clone();
    let own = format!("{}.{}.", names.default_catalog, names.default_schema);
    name.strip_prefix(&own).unwrap_or(name)
}

fn no_column(field: &Column, valid: &[Column]) -> Error {
    let message = match &field.relation {
        Some(relation) => format!("{} has no column `{}`", relation.table(), field.name),
        None => format!("no column is called `{}`", field.name),
    };
    let same_table = |column: &&Column| field.relation.is_none() || column.relation == field.relation;
    let mut names: Vec<&str> = valid.iter().filter(same_table).map(|column| column.name.as_str()).collect();
    names.dedup();
    let mut error = Error::invalid(message);
    if !names.is_empty() && names.len() <= COLUMNS_NAMED {
        error = error.hint(format!("there are {}", names.join(", ")));
    }
    error.hint_nearest(&field.name, names)
}

fn no_table(ctx: &SessionContext, name: &str) -> Error {
    let tables = super::table_names(ctx);
    Error::invalid(format!("no table is called `{name}`"))
        .hint(".tables lists them")
        .hint_nearest(name, tables.iter().map(String::as_str))
}

fn no_function(ctx: &SessionContext, name: &str) -> Error {
    let functions = super::function_names(ctx);
    Error::invalid(format!("no function is called `{name}`"))
        .hint(".help lists them")
        .hint_nearest(&name.to_lowercase(), functions.iter().map(String::as_str))
}

/// What the parser did not understand: `sql parser error: Expected: …, found: … at Line: 1, Column: 8`.
fn no_sql(sql: &str, message: &str, place: Option<Place>) -> Error {
    let message = message.strip_prefix("sql parser error: ").unwrap_or(message);
    let (words, location) = match message.rsplit_once(" at Line: ") {
        Some((words, at)) => (words, at.split_once(", Column: ")),
        None => (message, None),
    };
    let location = location.and_then(|(line, column)| {
        let column: String = column.chars().take_while(char::is_ascii_digit).collect();
        Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
    });
    let words = words.replacen("Expected: ", "expected ", 1).replacen(", found: ", ", found ", 1);
    let words = words.replace("found EOF", "found the end of the query");
    let end = Location { line: u64::MAX, column: 1 };
    let found = place.or_else(|| place_of_token(sql, location.unwrap_or(end)));
    Error::invalid(words).at(found)
}

/// What stands between two words of a message.
fn between<'a>(message: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = message.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// The byte at which a character stands; lines and columns count from one.
fn offset(sql: &str, location: Location) -> Option<usize> {
    let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
    let start = std::iter::once(0).chain(sql.match_indices('\n').map(|(at, _)| at + 1)).nth(line)?;
    let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
    let text = &sql[start..];
    Some(start + text.char_indices().nth(column).map_or(text.len(), |(at, _)| at))
}

fn place_of(sql: &str, span: Range<usize>) -> Option<Place> {
    // What was planned may be another text, where a clause of the standard was put into words that the parser knows.
    let is_inside = span.start < span.end && sql.get(span.clone()).is_some_and(|words| !words.trim().is_empty());
    is_inside.then(|| Place { text: sql.to_string(), span, first_line: 1 })
}

fn place_of_span(sql: &str, span: Span) -> Option<Place> {
    let location = |at: datafusion::common::Location| Location { line: at.line, column: at.column };
    place_of(sql, offset(sql, location(span.start))?..offset(sql, location(span.end))?)
}

/// The token that begins at a place; the end of the query is shown at its last token.
fn place_of_token(sql: &str, location: Location) -> Option<Place> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().ok();
    let tokens = tokens.unwrap_or_default();
    let is_word = |token: &&_| !matches!(**token, Token::Whitespace(_) | Token::EOF);
    let begins = tokens.iter().filter(|token| is_word(&&token.token)).find(|token| token.span.start == location);
    if let Some(token) = begins.or_else(|| tokens.iter().rfind(|token| is_word(&&token.token))) {
        return place_of(sql, offset(sql, token.span.start)?..offset(sql, token.span.end)?);
    }
    let start = offset(sql, location)?;
    let length = sql[start..].chars().next().map_or(0, char::len_utf8);
    place_of(sql, start..start + length)
}

/// The place of a word that stands once in the query.
fn place_of_word(sql: &str, word: &str) -> Option<Place> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().ok()?;
    let mut found = tokens.iter().filter(|token| match &token.token {
        Token::Word(found) => found.value.eq_ignore_ascii_case(word),
        Token::SingleQuotedString(text) => text == word && !word.is_empty(),
        _ => false,
    });
    let token = found.next()?;
    match found.next() {
        None => place_of(sql, offset(sql, token.span.start)?..offset(sql, token.span.end)?),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::query;
    use crate::functions;

    async fn ctx() -> SessionContext {
        let ctx = SessionContext::new_with_config(crate::engine::config());
        functions::register_all(&ctx);
        for sql in [
            "create table events as select 'web' as channel, 'home' as touchpoint, 1 as value",
            "create table sessions as select 's' as session_id, 'web' as channel",
        ] {
            ctx.sql(sql).await.unwrap().collect().await.unwrap();
        }
        ctx
    }

    /// Message, marked words, hint.
    async fn told(sql: &str) -> (String, String, String) {
        let ctx = ctx().await;
        let error = match query(&ctx, sql).await {
            Err(error) => error,
            Ok(_) => panic!("{sql} is planned"),
        };
        let words = error.place().map_or("", Place::words).to_string();
        (error.to_string(), words, error.remedy().unwrap_or_default().to_string())
    }

    #[tokio::test]
    async fn a_wrong_name_is_marked_and_the_one_that_was_meant_is_named() {
        let cases = [
            ("select chanel from events", "no column is called `chanel`", "chanel", "did you mean `channel`?"),
            ("select e.chanel from events as e", "e has no column `chanel`", "e.chanel", "did you mean `channel`?"),
            ("select 1\nfrom evnts", "no table is called `evnts`", "evnts", "did you mean `events`?"),
            (
                "select windowfunnel(1, 2) from events",
                "no function is called `windowfunnel`",
                "windowfunnel",
                "did you mean `window_funnel`?",
            ),
            ("select zzz from events", "no column is called `zzz`", "zzz", "there are channel, touchpoint, value"),
            ("select * from zzz", "no table is called `zzz`", "zzz", ".tables lists them"),
            (
                "select channel from events, sessions",
                "more than one table has a column `channel`",
                "channel",
                "name its table: TABLE.channel",
            ),
        ];
        for (sql, message, words, hint) in cases {
            assert_eq!(told(sql).await, (message.into(), words.into(), hint.into()), "{sql}");
        }
    }

    #[tokio::test]
    async fn what_is_no_sql_is_marked_where_the_parser_stopped() {
        let cases = [
            ("select ä, * form events", "expected end of statement, found form", "form"),
            ("select (1", "expected ), found the end of the query", "1"),
            ("selec 1", "expected an SQL statement, found selec", "selec"),
            ("select 'open", "Unterminated string literal", "'"),
        ];
        for (sql, message, words) in cases {
            let (said, marked, _) = told(sql).await;
            assert_eq!((said.to_lowercase().as_str(), marked.as_str()), (&*message.to_lowercase(), words), "{sql}");
        }
    }

    #[tokio::test]
    async fn a_wrong_call_is_marked_at_the_name_of_the_function() {
        let (message, words, _) = told("select wilson_interval(channel, 1) from events").await;
        assert_eq!(
            (message.as_str(), words.as_str()),
            ("wilson_interval: expected successes to be a number, got Utf8", "wilson_interval",)
        );
        let (message, words, hint) = told("select sum(channel) from events").await;
        assert_eq!((message.as_str(), words.as_str()), ("no form of sum takes (Utf8)", "sum"));
        assert_eq!(hint, ".help sum tells what it takes");
    }

    #[tokio::test]
    async fn a_column_that_is_not_grouped_is_marked_with_what_to_do() {
        let (message, words, hint) = told("select channel, count(*) from events").await;
        assert!(message.contains("must appear in GROUP BY clause"), "{message}");
        assert_eq!(words, "channel");
        assert!(hint.contains("GROUP BY"), "{hint}");
    }

    #[tokio::test]
    async fn what_writes_is_refused_by_its_name() {
        assert_eq!(told("drop table events").await.0, "queries only read: drop table is refused");
        assert_eq!(told("copy events to 'x.csv'").await.0, "queries only read: copy is refused");
        assert_eq!(
            told("select * from 'x.csv'").await,
            ("no table is called `x.csv`".into(), "'x.csv'".into(), ".tables lists them".into(),)
        );
    }

    #[test]
    fn a_message_loses_the_names_of_layers() {
        assert_eq!(plainly("type_coercion\ncaused by\nError during planning: x"), "x");
        assert_eq!(plainly("Arrow error: Divide by zero error"), "Divide by zero error");
        assert_eq!((apart("DropTable"), apart("COPY")), ("drop table".into(), "copy".into()));
    }

    #[tokio::test]
    async fn one_statement_is_one_statement() {
        assert_eq!(told("select 1; select 2").await.0, "expected one statement, and several came");
        assert_eq!(told("-- nothing").await.0, "expected a statement, and none came");
    }
}
