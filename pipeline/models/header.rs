//! The comment header of a model: what it is, its grain, how it is built, published and checked.

use super::words::Words;
use crate::error::{Error, Result};

/// How a model is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Build {
    /// A table, built whole.
    Full,
    /// A view: planned into whatever reads it.
    View,
    /// A table in which the rows of one customer are made of that customer's alone, and so are built anew only for
    /// customers that something has touched.
    ByCustomer(ByCustomer),
    /// A table in which the rows of one day are made of that day's alone, and so are built anew only for days that
    /// something has changed; the column of the day, here and in what is read.
    ByDay(String),
    /// A table of sums over the rows of customers, by the columns of its grain: what the rows of touched customers came to
    /// is taken off and what they come to now is added; the column that counts what a row is made of, and so is 0 where
    /// there is no row.
    BySum(String),
}

/// What is special about a model that is built by customer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByCustomer {
    /// Columns of a time and an id by which the lists of a customer's row are ordered: rows made of different events of a
    /// customer become one by putting their lists together in this order.
    pub merged_by: Option<(String, String)>,
    /// Whether its rows change only as events reach the ages of the configuration (timeouts and windows), seen from
    /// as-of: then it may read the logical time.
    pub has_configured_ages: bool,
}

impl Build {
    /// Whether rows are kept in a table of their own.
    pub fn is_table(&self) -> bool {
        *self != Self::View
    }
}

/// How a model reaches readers outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publish {
    /// Not at all.
    No,
    /// One Parquet file.
    File,
    /// One Parquet file per value of a date column.
    ByDay(String),
}

/// A rule that every row must keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// No two rows share these columns.
    Unique(Vec<String>),
    /// The columns are never null.
    NotNull(Vec<String>),
    /// A column holds only these texts.
    AcceptedValues(String, Vec<String>),
    /// Each value of a column is in `model.column`.
    Relationships(String, String, String),
}

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The sentences before the first directive.
    pub description: String,
    /// Columns that tell one row from another.
    pub grain: Vec<String>,
    /// How it is kept.
    pub build: Build,
    /// How it is published.
    pub publish: Publish,
    /// Rules.
    pub checks: Vec<Check>,
    /// Words to select by.
    pub tags: Vec<String>,
    /// What its columns mean.
    pub columns: Words,
}

impl Header {
    /// Reads the leading `--` lines of a model's SQL. A directive is `name: value` and may go on in following lines
    /// that are indented further. Behind the description a `word:` that is no directive is an error.
    pub fn parse(sql: &str) -> Result<Self> {
        let mut description = Vec::new();
        let mut directives: Vec<(String, String)> = Vec::new();
        let mut of_columns: Vec<(usize, String)> = Vec::new();
        let (mut is_continued, mut is_described, mut is_of_columns) = (false, false, false);
        for line in sql.lines().map(str::trim_end).take_while(|line| line.starts_with("--")) {
            let text = &line[2..];
            let indent = text.len() - text.trim_start().len();
            let text = text.trim();
            is_of_columns &= indent > 1 && !text.is_empty();
            match text.split_once(':') {
                // A column may be called as a directive is.
                _ if is_of_columns => of_columns.push((indent, text.to_string())),
                Some((COLUMNS, "")) => (is_of_columns, is_continued, is_described) = (true, false, true),
                Some((name, value)) if DIRECTIVES.contains(&name) => {
                    directives.push((name.to_string(), value.trim().to_string()));
                    (is_continued, is_described) = (true, true);
                }
                _ if text.is_empty() => (is_continued, is_described) = (false, true),
                _ if is_continued && indent > 1 => {
                    let (_, value) = directives.last_mut().expect("a continued line follows a directive");
                    value.push(' ');
                    value.push_str(text);
                }
                Some((name, _)) if is_described && name.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                    let unknown = Error::invalid(format!("`{name}:` is no directive of a header"));
                    if name == COLUMNS {
                        return Err(unknown.hint("write `columns:` on a line of its own and each column on one below"));
                    }
                    return Err(unknown.hint_nearest(name, DIRECTIVES.into_iter().chain([COLUMNS])));
                }
                _ => {
                    is_continued = false;
                    description.push(text.to_string());
                }
            }
        }
        let mut header = Self {
            description: description.join(" "),
            grain: Vec::new(),
            build: Build::Full,
            publish: Publish::No,
            checks: Vec::new(),
            tags: Vec::new(),
            columns: Words::parse(&of_columns)?,
        };
        for (name, value) in directives {
            match name.as_str() {
                "grain" => header.grain = columns(&value),
                "tags" => header.tags = columns(&value),
                "build" => header.build = build(&value)?,
                "ages" => ages(&mut header.build, &value)?,
                "publish" => header.publish = publish(&value)?,
                _ => header.checks = checks(&value)?,
            }
        }
        if let Build::BySum(count) = &header.build {
            if header.grain.is_empty() {
                return Err(Error::invalid(
                    "build: sums are kept by the columns of the grain, and there is no `grain:`",
                )
                .hint("name the columns that the statement groups by"));
            }
            if header.grain.contains(count) {
                return Err(Error::invalid(format!("build: `{count}` is of the grain, expected a column that counts"))
                    .hint("name the column that counts what a row is made of, such as count(*)"));
            }
        }
        Ok(header)
    }
}

const DIRECTIVES: [&str; 6] = ["grain", "build", "ages", "publish", "checks", "tags"];
/// The directive whose lines stand below it.
const COLUMNS: &str = "columns";

/// What follows the header.
pub fn statement(sql: &str) -> &str {
    let mut rest = sql;
    while rest.starts_with("--") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest.trim_start()
}

fn build(value: &str) -> Result<Build> {
    let unknown = || {
        Error::invalid(format!("build: `{value}` is not known")).hint(
            "write full, view, incremental by day(DATE_COLUMN), incremental by sum(COUNT_COLUMN), \
             incremental by customer or incremental by customer, merged by (TIMES, IDS)",
        )
    };
    match value {
        "view" => return Ok(Build::View),
        "full" => return Ok(Build::Full),
        _ => {}
    }
    let rest = value.strip_prefix("incremental by ").ok_or_else(unknown)?;
    if let Some(day) = rest.strip_prefix("day") {
        let day = in_parentheses(day).ok_or_else(unknown)?;
        return Ok(Build::ByDay(day.to_string()));
    }
    if let Some(count) = rest.strip_prefix("sum") {
        let count = in_parentheses(count).ok_or_else(unknown)?;
        return Ok(Build::BySum(count.to_string()));
    }
    let rest = rest.strip_prefix("customer").ok_or_else(unknown)?;
    let merged_by = match rest.strip_prefix(", merged by") {
        None if rest.is_empty() => None,
        None => return Err(unknown()),
        Some(merged) => Some(in_parentheses(merged).and_then(|columns| columns.split_once(',')).ok_or_else(unknown)?),
    };
    let merged_by = merged_by.map(|(times, ids)| (times.trim().to_string(), ids.trim().to_string()));
    Ok(Build::ByCustomer(ByCustomer { merged_by, has_configured_ages: false }))
}

/// `ages: configured`, behind the `build:` that it belongs to.
fn ages(build: &mut Build, value: &str) -> Result<()> {
    match (build, value) {
        (Build::ByCustomer(by_customer), "configured") => by_customer.has_configured_ages = true,
        (_, "configured") => {
            return Err(Error::invalid("ages: only a model that is built by customer has them")
                .hint("write it behind `build: incremental by customer`"));
        }
        _ => return Err(Error::invalid(format!("ages: `{value}` is not known")).hint("write configured")),
    }
    Ok(())
}

/// The text between parentheses, which hold something.
fn in_parentheses(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?.trim();
    (!inner.is_empty()).then_some(inner)
}

fn publish(value: &str) -> Result<Publish> {
    match value {
        "no" => Ok(Publish::No),
        "file" => Ok(Publish::File),
        _ => match value.strip_prefix("by day").map(|rest| rest.trim().trim_matches(['(', ')'])) {
            Some(column) if !column.is_empty() => Ok(Publish::ByDay(column.trim().to_string())),
            _ => Err(Error::invalid(format!("publish: `{value}` is not known"))
                .hint("write no, file or by day(DATE_COLUMN)")),
        },
    }
}

fn columns(value: &str) -> Vec<String> {
    pieces(value, ',').map(str::to_string).collect()
}

fn checks(value: &str) -> Result<Vec<Check>> {
    pieces(value, ';').map(check).collect()
}

/// The text between separators, trimmed, without empty pieces. A separator in single quotes separates nothing.
pub(super) fn pieces(value: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let cuts = move |c: char| {
        is_quoted ^= c == '\'';
        c == separator && !is_quoted
    };
    value.split(cuts).map(str::trim).filter(|piece| !piece.is_empty())
}

fn check(text: &str) -> Result<Check> {
    let unknown = || {
        Error::invalid(format!("checks: `{text}` is not known")).hint(
            "write unique(a, b), not_null(a, b), accepted_values(a, 'x', 'y') or relationships(a, model.column), \
             with ; between",
        )
    };
    let (name, rest) = text.split_once('(').ok_or_else(unknown)?;
    let mut arguments = columns(rest.strip_suffix(')').ok_or_else(unknown)?);
    if arguments.is_empty() {
        return Err(unknown());
    }
    match name.trim() {
        "unique" => Ok(Check::Unique(arguments)),
        "not_null" => Ok(Check::NotNull(arguments)),
        "accepted_values" => {
            let column = arguments.remove(0);
            let bare = |value: &String| match value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
                Some(quoted) => quoted.replace("''", "'"),
                None => value.clone(),
            };
            let values = arguments.iter().map(bare).collect();
            Ok(Check::AcceptedValues(column, values))
        }
        "relationships" => match arguments.as_slice() {
            [column, target] => {
                let (model, other) = target.split_once('.').ok_or_else(unknown)?;
                Ok(Check::Relationships(column.clone(), model.to_string(), other.to_string()))
            }
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

impl std::fmt::Display for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::View => f.write_str("view"),
            Self::ByDay(day) => write!(f, "incremental by day({day})"),
            Self::BySum(count) => write!(f, "incremental by sum({count})"),
            Self::ByCustomer(ByCustomer { merged_by, has_configured_ages }) => {
                f.write_str("incremental by customer")?;
                if let Some((times, ids)) = merged_by {
                    write!(f, ", merged by ({times}, {ids})")?;
                }
                f.write_str(if *has_configured_ages { "; ages: configured" } else { "" })
            }
        }
    }
}

impl std::fmt::Display for Publish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::File => f.write_str("file"),
            Self::ByDay(day) => write!(f, "by day({day})"),
        }
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unique(columns) => write!(f, "unique({})", columns.join(", ")),
            Self::NotNull(columns) => write!(f, "not_null({})", columns.join(", ")),
            Self::AcceptedValues(column, values) => write!(f, "accepted_values({column}, {})", values.join(", ")),
            Self::Relationships(column, model, other) => write!(f, "relationships({column}, {model}.{other})"),
        }
    }
}

impl Check {
    /// The other model that the rule reads, if it reads one.
    pub fn other_model(&self) -> Option<&str> {
        match self {
            Self::Relationships(_, model, _) => Some(model),
            _ => None,
        }
    }

    /// A query over `model` that returns the rows (or keys) that break the rule.
    pub fn query(&self, model: &str) -> String {
        let quoted = |columns: &[String]| columns.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", ");
        let model = quote(model);
        match self {
            Self::Unique(columns) => {
                let columns = quoted(columns);
                format!("select {columns}, count(*) as rows from {model} group by {columns} having count(*) > 1")
            }
            Self::NotNull(columns) => {
                let any: Vec<_> = columns.iter().map(|column| format!("{} is null", quote(column))).collect();
                format!("select * from {model} where {}", any.join(" or "))
            }
            Self::AcceptedValues(column, values) => {
                let values: Vec<_> = values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
                format!("select * from {model} where {} not in ({})", quote(column), values.join(", "))
            }
            Self::Relationships(column, other, key) => format!(
                "select child.{column} from {model} as child left anti join {other} as parent \
                 on child.{column} = parent.{key} where child.{column} is not null",
                column = quote(column),
                other = quote(other),
                key = quote(key),
            ),
        }
    }
}

/// A name as a SQL identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = "-- Switches: how often customers change channel,
-- and what follows.
--
-- grain:      from_channel, to_channel
-- build:      incremental by day(switched_date)
-- publish:    by day(switched_date)
-- checks:     unique(from_channel, to_channel); not_null(switches);
--             accepted_values(scope, 'within', 'between')
-- tags:       friction

select 1
";

    #[test]
    fn a_header_is_read() {
        let header = Header::parse(SQL).unwrap();
        assert_eq!(header.description, "Switches: how often customers change channel, and what follows.");
        assert_eq!(header.grain, ["from_channel", "to_channel"]);
        assert_eq!(header.build, Build::ByDay("switched_date".into()));
        assert_eq!(header.publish, Publish::ByDay("switched_date".into()));
        assert_eq!(header.checks.len(), 3);
        assert_eq!(header.tags, ["friction"]);
    }

    #[test]
    fn a_model_built_by_customer_says_how_its_rows_grow_and_age() {
        let build = |lines: &str| Header::parse(lines).unwrap().build;
        assert_eq!(build("-- build: incremental by customer"), Build::ByCustomer(ByCustomer::default()));
        let merged_by = Some(("times".to_string(), "event_ids".to_string()));
        let merged = "-- build: incremental by customer, merged by (times, event_ids)\n-- ages: configured";
        assert_eq!(build(merged), Build::ByCustomer(ByCustomer { merged_by, has_configured_ages: true }));
    }

    #[test]
    fn a_model_without_a_header_is_a_table_that_is_not_published() {
        let header = Header::parse("select 1").unwrap();
        assert_eq!((header.build, header.publish), (Build::Full, Publish::No));
    }

    #[test]
    fn unknown_directive_values_are_refused_with_what_is_known() {
        for (line, hint) in [
            ("-- build: sometimes", "write full"),
            ("-- build: incremental by day", "by day(DATE_COLUMN)"),
            ("-- build: incremental by sum", "by sum(COUNT_COLUMN)"),
            ("-- build: incremental by sum(journeys)", "columns that the statement groups by"),
            ("-- grain: day\n-- build: incremental by sum(day)", "such as count(*)"),
            ("-- build: incremental by customer, lookback 2 days", "merged by (TIMES, IDS)"),
            ("-- build: incremental by customer, merged by (times)", "merged by (TIMES, IDS)"),
            ("-- build: incremental by customer\n-- ages: 3 days", "configured"),
            ("-- build: full\n-- ages: configured", "behind `build: incremental by customer`"),
            ("-- publish: by day", "by day(DATE_COLUMN)"),
            ("-- checks: positive(a)", "unique(a, b)"),
            ("-- checks: unique", "unique(a, b)"),
        ] {
            let error = Header::parse(line).unwrap_err();
            assert!(error.remedy().unwrap().contains(hint), "{line}: {error}");
        }
    }

    #[test]
    fn a_word_that_is_no_directive_is_refused_with_the_nearest_one() {
        for (header, nearest) in [
            ("-- What it is.\n--\n-- check: unique(a)", Some("did you mean `checks`?")),
            ("-- grain: a\n-- published: file", Some("did you mean `publish`?")),
            ("-- What it is.\n--\n-- partition: started_date", None),
        ] {
            let error = Header::parse(header).unwrap_err();
            assert!(error.to_string().contains("is no directive"), "{header}: {error}");
            assert_eq!(error.remedy(), nearest, "{header}");
        }
        let prose = "-- A word: then more.\n--\n-- Note: this is prose, and so is http://example.com.";
        assert!(Header::parse(prose).is_ok());
    }

    #[test]
    fn columns_are_described_a_line_each() {
        let sql = "-- What it is.\n--\n-- grain:   day\n-- columns:\n--   day: the day\n--   checks: how many\n\
                   --     there were [rows]\n-- tags: a\nselect 1";
        let header = Header::parse(sql).unwrap();
        assert_eq!(header.columns.names().collect::<Vec<_>>(), ["day", "checks"]);
        assert_eq!(header.columns.own[1].meaning, "how many there were");
        assert_eq!((header.grain, header.tags), (vec!["day".to_string()], vec!["a".to_string()]));
        assert!(header.checks.is_empty());
        let error = Header::parse("-- grain: day\n-- columns: day: the day").unwrap_err();
        assert!(error.remedy().unwrap().contains("on a line of its own"), "{error}");
    }

    #[test]
    fn the_statement_follows_the_header() {
        assert_eq!(statement("-- What it is.\n--\n-- tags: a\n\nselect 1\n-- end"), "select 1\n-- end");
        assert_eq!(statement("select 1"), "select 1");
        assert_eq!(statement("-- nothing"), "");
    }

    #[test]
    fn how_a_model_is_built_and_published_is_said_in_the_words_that_are_read() {
        for text in [
            "view",
            "full",
            "incremental by day(a)",
            "incremental by sum(a)",
            "incremental by customer",
            "incremental by customer, merged by (a, b)",
        ] {
            assert_eq!(build(text).unwrap().to_string(), text);
        }
        for text in ["no", "file", "by day(a)"] {
            assert_eq!(publish(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn separators_in_quotes_separate_nothing() {
        let header = Header::parse("-- checks: accepted_values(a, 'x, y; z', 'it''s', plain); not_null(a)").unwrap();
        let values = ["x, y; z", "it's", "plain"].map(String::from).to_vec();
        assert_eq!(header.checks, [Check::AcceptedValues("a".into(), values), Check::NotNull(vec!["a".into()])]);
    }

    #[test]
    fn a_check_asks_for_the_rows_that_break_it() {
        let unique = Check::Unique(vec!["a".into(), "b".into()]).query("m");
        assert_eq!(
            unique,
            "select \"a\", \"b\", count(*) as rows from \"m\" group by \"a\", \"b\" having count(*) > 1"
        );
        let accepted = Check::AcceptedValues("a".into(), vec!["it's".into()]).query("m");
        assert!(accepted.ends_with("not in ('it''s')"), "{accepted}");
    }
}
