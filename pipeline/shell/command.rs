//! Commands of the shell: `.name` as in SQLite and DuckDB, `\name` as in psql.

use std::path::PathBuf;

use clap::ValueEnum;

use super::format::Format;
use crate::error::{Error, Result};

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// All commands and functions, or all about one.
    Help(Option<String>),
    /// Tables whose names fit a pattern.
    Tables(Option<String>),
    /// The columns of a table.
    Schema(String),
    /// Functions whose names fit a pattern.
    Functions(Option<String>),
    /// The form of results; without one, which it is.
    Mode(Option<Format>),
    /// Between a table and a line per value.
    Expanded,
    /// Whether times are shown; `None` changes that.
    Timer(Option<bool>),
    /// Where results go from now on; `None` is back to the terminal.
    Output(Option<PathBuf>),
    /// Where the next result goes.
    Once(PathBuf),
    /// A script to run.
    Read(PathBuf),
    /// Rows of a table that are shown; 0 is all. Without a number, how many they are.
    MaxRows(Option<usize>),
    /// The end.
    Quit,
}

/// Name, other names, arguments, what it does.
pub type CommandLine = (&'static str, &'static [&'static str], &'static str, &'static str);

/// Every command.
pub const COMMANDS: [CommandLine; 12] = [
    (".help", &["\\?", "\\h"], "[NAME]", "this list and all functions, or all about one of them"),
    (".tables", &["\\d", "\\dt"], "[PATTERN]", "tables, with what they hold"),
    (".schema", &["\\d"], "NAME", "columns of a table"),
    (".functions", &["\\df"], "[PATTERN]", "functions, with what they do"),
    (".mode", &[], "FORM", "form of results: table, markdown, csv, tsv, json, ndjson, line, parquet"),
    (".expanded", &["\\x"], "", "a line per value, or a table again"),
    (".timer", &["\\timing"], "on|off", "show how long a query took"),
    (".maxrows", &[], "NUMBER", "rows of a table that are shown; 0 is all"),
    (".output", &["\\o"], "FILE|stdout", "write results to a file; its ending tells their form"),
    (".once", &[], "FILE", "write the next result to a file"),
    (".read", &["\\i"], "FILE", "run the statements and commands of a file"),
    (".quit", &["\\q", ".exit"], "", "the end; so does Ctrl-D"),
];

impl Command {
    /// Reads a line. Arguments stand between blanks, or in quotes.
    pub fn parse(line: &str) -> Result<Self> {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = unquoted(rest.trim());
        let argument = (!argument.is_empty()).then(|| argument.to_string());
        let required = || {
            argument.clone().ok_or_else(|| {
                let (arguments, _) = manual(name).unwrap_or_default();
                Error::invalid(format!("expected {name} {arguments}"))
            })
        };
        Ok(match name {
            ".help" | "\\?" | "\\h" => Self::Help(argument),
            ".tables" | "\\dt" => Self::Tables(argument),
            "\\d" | "\\d+" => match argument {
                Some(name) => Self::Schema(name),
                None => Self::Tables(None),
            },
            ".schema" => Self::Schema(required()?),
            ".functions" | "\\df" => Self::Functions(argument),
            ".mode" => Self::Mode(argument.as_deref().map(format).transpose()?),
            ".expanded" | "\\x" => Self::Expanded,
            ".timer" | "\\timing" => Self::Timer(argument.as_deref().map(is_on).transpose()?),
            ".maxrows" => match argument {
                Some(number) => Self::MaxRows(Some(number.parse().map_err(|_| {
                    Error::invalid(format!("expected a number of rows, found {number}")).hint("0 shows all")
                })?)),
                None => Self::MaxRows(None),
            },
            ".output" | "\\o" => Self::Output(argument.filter(|file| file != "stdout").map(PathBuf::from)),
            ".once" => Self::Once(required()?.into()),
            ".read" | "\\i" => Self::Read(required()?.into()),
            ".quit" | ".exit" | "\\q" => Self::Quit,
            _ => return Err(unknown(name)),
        })
    }
}

/// Arguments and meaning of a command, by any of its names.
fn manual(name: &str) -> Option<(&'static str, &'static str)> {
    let named = |(own, others, ..): &&CommandLine| *own == name || others.contains(&name);
    COMMANDS.iter().find(named).map(|(_, _, arguments, meaning)| (*arguments, *meaning))
}

/// Every name of a command.
pub fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().flat_map(|(name, others, ..)| std::iter::once(*name).chain(others.iter().copied()))
}

fn unknown(name: &str) -> Error {
    Error::invalid(format!("no command is called {name}")).hint(".help lists them").hint_nearest(name, names())
}

fn format(name: &str) -> Result<Format> {
    Format::from_str(name, true).map_err(|_| {
        let all: Vec<String> = forms().collect();
        let error = Error::invalid(format!("no form is called {name}")).hint(format!("there are {}", all.join(", ")));
        error.hint_nearest(name, all.iter().map(String::as_str))
    })
}

/// Names of the forms of results.
pub fn forms() -> impl Iterator<Item = String> {
    Format::value_variants().iter().filter_map(|format| Some(format.to_possible_value()?.get_name().to_string()))
}

fn is_on(word: &str) -> Result<bool> {
    match word {
        "on" | "1" | "true" | "yes" => Ok(true),
        "off" | "0" | "false" | "no" => Ok(false),
        _ => Err(Error::invalid(format!("expected on or off, found {word}"))),
    }
}

fn unquoted(text: &str) -> &str {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return inner;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_known_by_each_of_its_names() {
        for (name, others, arguments, _) in COMMANDS {
            for name in std::iter::once(&name).chain(others) {
                let argument = match name {
                    &".mode" => "csv",
                    &".timer" | &"\\timing" => "on",
                    &".maxrows" => "5",
                    _ => "x",
                };
                assert!(Command::parse(&format!("{name} {argument}")).is_ok(), "{name}");
                let needs = !arguments.is_empty() && [".schema", ".once", ".read", "\\i"].contains(name);
                assert_eq!(Command::parse(name).is_err(), needs, "{name}");
            }
        }
    }

    #[test]
    fn arguments_may_be_quoted_and_a_semicolon_may_follow() {
        assert_eq!(Command::parse(" .once 'my file.csv'; ").unwrap(), Command::Once("my file.csv".into()));
        assert_eq!(Command::parse("\\d events").unwrap(), Command::Schema("events".into()));
        assert_eq!(Command::parse("\\d").unwrap(), Command::Tables(None));
        assert_eq!(Command::parse(".output stdout").unwrap(), Command::Output(None));
        assert_eq!(Command::parse("\\timing").unwrap(), Command::Timer(None));
        assert_eq!(Command::parse(".mode JSON").unwrap(), Command::Mode(Some(Format::Json)));
    }

    #[test]
    fn wrong_commands_and_arguments_say_what_was_expected() {
        let cases = [
            (".tabels", "no command is called .tabels", "did you mean `.tables`?"),
            (".schema", "expected .schema NAME", ""),
            (".mode cvs", "no form is called cvs", "did you mean `csv`?"),
            (".maxrows many", "expected a number of rows, found many", "0 shows all"),
            (".timer maybe", "expected on or off, found maybe", ""),
        ];
        for (line, message, hint) in cases {
            let error = Command::parse(line).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.remedy().unwrap_or_default()), (message, hint));
        }
    }
}
