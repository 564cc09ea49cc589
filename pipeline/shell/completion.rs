//! What may follow what was typed: commands and their arguments, tables, columns, functions, words of SQL.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use super::command;
use super::input::is_command;
use crate::engine;
use crate::error::Result;

/// Words of SQL that are worth a key.
const WORDS: [&str; 42] = [
    "all",
    "and",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "cast",
    "cross join",
    "desc",
    "distinct",
    "else",
    "end",
    "except",
    "exists",
    "explain",
    "false",
    "filter",
    "from",
    "group by",
    "having",
    "in",
    "interval",
    "is",
    "join",
    "left join",
    "like",
    "limit",
    "not",
    "null",
    "on",
    "or",
    "order by",
    "over",
    "partition by",
    "select",
    "then",
    "true",
    "union all",
    "when",
    "where",
    "with",
];
/// Words that a table follows.
const BEFORE_TABLE: [&str; 3] = ["from", "join", "describe"];

/// Names that may be completed.
#[derive(Debug, Default, Clone)]
pub struct Names {
    /// Columns of each table.
    pub tables: BTreeMap<String, Vec<String>>,
    /// Functions.
    pub functions: Vec<String>,
}

/// What may be put in place of what stands at the end of a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Where what is replaced begins.
    pub start: usize,
    /// What may stand there.
    pub candidates: Vec<String>,
    /// Whether a file is asked for.
    pub is_file: bool,
}

impl Names {
    /// The names that a session knows.
    pub async fn of(ctx: &SessionContext) -> Result<Self> {
        let mut tables = BTreeMap::new();
        for name in engine::table_names(ctx) {
            let schema = ctx.table_provider(name.as_str()).await?.schema();
            tables.insert(name, schema.fields().iter().map(|field| field.name().clone()).collect());
        }
        Ok(Self { tables, functions: engine::function_names(ctx) })
    }

    /// What may follow a text.
    pub fn complete(&self, text: &str) -> Completion {
        let start = text
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
        match is_command(text) || text.trim_start() == "." {
            true => self.complete_command(text, start),
            false => self.complete_statement(text, start),
        }
    }

    fn complete_command(&self, text: &str, word: usize) -> Completion {
        let line = text.trim_start();
        let begins = text.len() - line.len();
        let Some((name, argument)) = line.split_once(char::is_whitespace) else {
            let candidates = command::names().filter(|name| name.starts_with(line)).map(str::to_string).collect();
            return Completion { start: begins, candidates, is_file: false };
        };
        let typed = &text[word..];
        let tables = || matching(self.tables.keys(), typed);
        match name {
            ".help" | "\\?" | "\\h" if argument.trim_start().starts_with('.') => {
                let start = text.len() - argument.trim_start().len();
                let candidates = matching(command::names(), &text[start..]);
                Completion { start, candidates, is_file: false }
            }
            ".help" | "\\?" | "\\h" | ".functions" | "\\df" => {
                Completion { start: word, candidates: matching(&self.functions, typed), is_file: false }
            }
            ".schema" | ".tables" | "\\d" | "\\dt" => Completion { start: word, candidates: tables(), is_file: false },
            ".mode" => Completion { start: word, candidates: matching(command::forms(), typed), is_file: false },
            ".timer" | "\\timing" => {
                Completion { start: word, candidates: matching(["on", "off"], typed), is_file: false }
            }
            ".read" | ".output" | ".once" | "\\i" | "\\o" => {
                Completion { start: word, candidates: Vec::new(), is_file: true }
            }
            _ => Completion::default(),
        }
    }

    fn complete_statement(&self, text: &str, start: usize) -> Completion {
        let typed = &text[start..];
        let before = &text[..start];
        let words: Vec<String> = words(text).collect();
        let candidates = if let Some(before) = before.strip_suffix('.') {
            // `sessions.` or `s.` where `sessions as s` stands somewhere.
            let table = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
            self.columns(&table.to_lowercase(), &words).map(|columns| matching(columns, typed)).unwrap_or_default()
        } else if self::words(before).last().is_some_and(|word| BEFORE_TABLE.contains(&word.as_str())) {
            matching(self.tables.keys(), typed)
        } else if typed.is_empty() {
            Vec::new()
        } else {
            let mentioned = words.iter().filter_map(|word| self.tables.get(word)).flatten();
            let mut candidates = matching(mentioned, typed);
            candidates.extend(matching(self.functions.iter().map(|name| format!("{name}(")), typed));
            candidates.extend(matching(self.tables.keys(), typed));
            candidates.extend(matching(WORDS, typed).into_iter().map(|word| {
                // In the case that was typed.
                if typed.chars().all(char::is_uppercase) { word.to_uppercase() } else { word }
            }));
            let mut seen = std::collections::BTreeSet::new();
            candidates.retain(|candidate| seen.insert(candidate.clone()));
            candidates
        };
        Completion { start, candidates, is_file: false }
    }

    /// The columns of a table, or of the table that a name stands for.
    fn columns(&self, name: &str, words: &[String]) -> Option<&Vec<String>> {
        self.tables.get(name).or_else(|| {
            let stands_for = |at: usize| match words.get(at + 1)?.as_str() {
                "as" => words.get(at + 2),
                _ => words.get(at + 1),
            };
            (0..words.len()).find_map(|at| {
                let columns = self.tables.get(&words[at])?;
                (stands_for(at)? == name).then_some(columns)
            })
        })
    }
}

/// Those that begin with what was typed, whatever its case.
fn matching<S: AsRef<str>>(names: impl IntoIterator<Item = S>, typed: &str) -> Vec<String> {
    let typed = typed.to_lowercase();
    let names = names.into_iter().map(|name| name.as_ref().to_string());
    names.filter(|name| name.to_lowercase().starts_with(&typed)).collect()
}

/// The words of a text, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    words.map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let columns = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let tables = [
            ("sessions".to_string(), columns(&["session_id", "started_at", "switch_count"])),
            ("journeys".to_string(), columns(&["journey_id", "started_at"])),
        ];
        let functions = ["sessionize", "sequence_match", "sum"].map(str::to_string);
        Names { tables: tables.into(), functions: functions.into() }
    }

    /// Where the replaced text begins, and what may stand there.
    fn completed(text: &str) -> (usize, Vec<String>) {
        let Completion { start, candidates, .. } = names().complete(text);
        (start, candidates)
    }

    #[test]
    fn tables_follow_from_and_columns_are_those_of_the_tables_at_hand() {
        let cases: [(&str, usize, &[&str]); 10] = [
            ("select * from ", 14, &["journeys", "sessions"]),
            ("select * from journeys join s", 28, &["sessions"]),
            ("select count(*) from sessions where st", 36, &["started_at"]),
            ("select * from sessions as s where s.", 36, &["session_id", "started_at", "switch_count"]),
            ("select * from journeys j, sessions s where j.", 45, &["journey_id", "started_at"]),
            ("select journeys.j", 16, &["journey_id"]),
            ("select nothing.", 15, &[]),
            ("select sess", 7, &["sessionize(", "sessions"]),
            ("SEL", 0, &["SELECT"]),
            ("select * from sessions where ", 29, &[]),
        ];
        for (text, start, expected) in cases {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(completed(text), (start, expected), "{text}");
        }
    }

    #[test]
    fn commands_and_their_arguments_are_completed() {
        let cases: [(&str, usize, &[&str]); 8] = [
            (".ta", 0, &[".tables"]),
            ("\\t", 0, &["\\timing"]),
            (".schema s", 8, &["sessions"]),
            ("\\d j", 3, &["journeys"]),
            (".help se", 6, &["sessionize", "sequence_match"]),
            (".help .on", 6, &[".once"]),
            (".mode nd", 6, &["ndjson"]),
            (".timer o", 7, &["on", "off"]),
        ];
        for (text, start, expected) in cases {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(completed(text), (start, expected), "{text}");
        }
        assert!(names().complete(".read que").is_file);
    }
}
