//! The `columns:` block of a header: what each column means, in words.

use super::header::pieces;
use crate::error::{Error, Result};

/// What one column means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnWords {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub meaning: String,
    /// In what it is measured, where a number or time alone does not tell.
    pub unit: Option<String>,
}

/// Columns that mean what those of the same names mean in another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SameAs {
    /// The other table.
    pub table: String,
    /// The columns.
    pub columns: Vec<String>,
}

/// All that a block says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// Columns described here.
    pub own: Vec<ColumnWords>,
    /// Columns described elsewhere.
    pub same_as: Vec<SameAs>,
}

/// What begins a line about columns that are described elsewhere.
const AS_IN: &str = "as in ";

impl Words {
    /// Reads the lines of a block, each with the blanks before it: `name: meaning [unit]` or `as in table: name, name`. A
    /// line that stands further in than the first goes on with the one before.
    pub fn parse(lines: &[(usize, String)]) -> Result<Self> {
        let mut entries: Vec<String> = Vec::new();
        for (indent, text) in lines {
            match entries.last_mut() {
                Some(entry) if *indent > lines[0].0 => {
                    entry.push(' ');
                    entry.push_str(text);
                }
                _ => entries.push(text.clone()),
            }
        }
        let mut words = Self::default();
        for entry in &entries {
            words.add(entry)?;
        }
        let mut names: Vec<&str> = words.names().collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::invalid(format!("columns: `{}` is described twice", pair[0]))),
            None => Ok(words),
        }
    }

    fn add(&mut self, entry: &str) -> Result<()> {
        let unknown = || {
            Error::invalid(format!("columns: `{entry}` describes no column"))
                .hint("write a line `name: meaning [unit]` for each column, or `as in table: name, name`")
        };
        let (name, meaning) = entry.split_once(':').ok_or_else(unknown)?;
        let meaning = meaning.trim();
        if meaning.is_empty() {
            return Err(unknown());
        }
        if let Some(table) = name.strip_prefix(AS_IN) {
            let columns = pieces(meaning, ',').map(str::to_string).collect();
            self.same_as.push(SameAs { table: table.trim().to_string(), columns });
            return Ok(());
        }
        if name.contains(char::is_whitespace) {
            return Err(unknown());
        }
        let (meaning, unit) = match meaning.strip_suffix(']').and_then(|rest| rest.rsplit_once(" [")) {
            Some((meaning, unit)) => (meaning, Some(unit.to_string())),
            None => (meaning, None),
        };
        self.own.push(ColumnWords { name: name.to_string(), meaning: meaning.to_string(), unit });
        Ok(())
    }

    /// Names of all columns that it speaks of.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let same = self.same_as.iter().flat_map(|same| same.columns.iter());
        self.own.iter().map(|column| column.name.as_str()).chain(same.map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Words> {
        let lines: Vec<_> =
            lines.iter().map(|line| (line.len() - line.trim_start().len(), line.trim().to_string())).collect();
        Words::parse(&lines)
    }

    #[test]
    fn a_line_is_a_column_with_its_meaning_and_unit() {
        let words = parse(&[
            "  value: what it was worth: all of it,",
            "    0 without any [currency units]",
            "  note: see [landing] in the configuration",
            "  as in events: source,",
            "    channel",
        ])
        .unwrap();
        let column = |name: &str, meaning: &str, unit: Option<&str>| ColumnWords {
            name: name.into(),
            meaning: meaning.into(),
            unit: unit.map(String::from),
        };
        assert_eq!(
            words.own,
            [
                column("value", "what it was worth: all of it, 0 without any", Some("currency units")),
                column("note", "see [landing] in the configuration", None),
            ]
        );
        assert_eq!(
            words.same_as,
            [SameAs { table: "events".into(), columns: vec!["source".into(), "channel".into()] }]
        );
        assert_eq!(words.names().collect::<Vec<_>>(), ["value", "note", "source", "channel"]);
    }

    #[test]
    fn what_describes_no_column_or_one_twice_is_refused() {
        for lines in [&["two words: of what"][..], &["value"], &["value:"], &["as in events:"]] {
            let error = parse(lines).unwrap_err();
            assert!(error.remedy().unwrap().contains("name: meaning [unit]"), "{error}");
        }
        let error = parse(&["value: a sum", "as in events: value"]).unwrap_err();
        assert_eq!(error.to_string(), "columns: `value` is described twice");
    }
}
