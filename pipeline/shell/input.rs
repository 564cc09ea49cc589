//! Lines taken apart into statements, which end with `;`, and commands, which are a line each.

/// What a user wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A statement without its `;`, and the number of its first line.
    Statement {
        /// The statement.
        sql: String,
        /// Number of the line on which it begins.
        line: usize,
    },
    /// A line that begins with `.` or `\`.
    Command(String),
}

/// Gathers lines until a statement is whole.
#[derive(Debug, Default)]
pub struct Input {
    pending: String,
    /// Number of the first line of what is pending.
    first_line: usize,
    lines: usize,
}

impl Input {
    /// Takes a line; returns what became whole with it.
    pub fn push(&mut self, line: &str) -> Vec<Entry> {
        self.lines += 1;
        if self.is_blank() {
            self.pending.clear();
            self.first_line = self.lines;
            if is_command(line) {
                return vec![Entry::Command(line.trim().to_string())];
            }
        }
        self.pending.push_str(line);
        self.pending.push('\n');
        let mut entries = Vec::new();
        // Without one in the line nothing can have become whole, and a long statement is not gone through for each line.
        while line.contains(';')
            && let Some(end) = end_of_statement(&self.pending)
        {
            let statement: String = self.pending.drain(..end).collect();
            self.pending.remove(0);
            let lines = statement.matches('\n').count();
            entries.extend(self.entry(&statement));
            self.first_line += lines;
        }
        entries
    }

    /// Takes what is left at the end, which needs no `;`.
    pub fn finish(&mut self) -> Option<Entry> {
        let rest = std::mem::take(&mut self.pending);
        self.entry(&rest)
    }

    /// Whether nothing is pending.
    pub fn is_blank(&self) -> bool {
        is_blank(&self.pending)
    }

    /// A statement without the blanks around it; `None` where nothing is said.
    fn entry(&self, text: &str) -> Option<Entry> {
        if is_blank(text) {
            return None;
        }
        let begins = text.len() - text.trim_start().len();
        let line = self.first_line + text[..begins].matches('\n').count();
        Some(Entry::Statement { sql: text.trim().to_string(), line })
    }
}

/// Whether a text needs no further line: a command, nothing, or statements of which the last has its `;`.
pub fn is_whole(text: &str) -> bool {
    if is_command(text) {
        return true;
    }
    let mut rest = text;
    while let Some(end) = end_of_statement(rest) {
        rest = &rest[end + 1..];
    }
    is_blank(rest)
}

/// Whether a line is a command.
pub fn is_command(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('\\') || line.strip_prefix('.').is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic()))
}

/// Whether there is nothing but blanks and comments.
fn is_blank(text: &str) -> bool {
    Scan::new(text).all(|(_, part)| matches!(part, Part::Blank))
}

/// Where the first `;` stands that ends a statement.
fn end_of_statement(text: &str) -> Option<usize> {
    Scan::new(text).find_map(|(at, part)| matches!(part, Part::End).then_some(at))
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// White space or a comment.
    Blank,
    /// `;` outside of quotes and comments.
    End,
    /// Anything else; a quoted text is one part.
    Word,
}

/// The parts of a text, each with where it begins. What is left open at the end is a word: a further line may end it.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// How long a quoted text is; an open one goes to the end. A doubled quote is two texts side by side.
    fn quoted(rest: &str, quote: char) -> usize {
        rest[1..].find(quote).map_or(rest.len(), |at| at + 2)
    }

    /// How long a comment in `/* … */` is; they nest.
    fn block(rest: &str) -> Option<usize> {
        let (mut depth, mut at) = (0, 0);
        while let Some(found) = rest.get(at..).filter(|rest| !rest.is_empty()) {
            if found.starts_with("/*") {
                (depth, at) = (depth + 1, at + 2);
            } else if found.starts_with("*/") {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return Some(at);
                }
            } else {
                at += found.chars().next().map_or(1, char::len_utf8);
            }
        }
        None
    }
}

impl Iterator for Scan<'_> {
    type Item = (usize, Part);

    fn next(&mut self) -> Option<(usize, Part)> {
        let at = self.at;
        let rest = &self.text[at..];
        let first = rest.chars().next()?;
        let (length, part) = match first {
            ';' => (1, Part::End),
            '\'' | '"' => (Self::quoted(rest, first), Part::Word),
            _ if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), Part::Blank),
            _ if rest.starts_with("/*") => match Self::block(rest) {
                Some(length) => (length, Part::Blank),
                None => (rest.len(), Part::Word),
            },
            _ if first.is_whitespace() => (first.len_utf8(), Part::Blank),
            _ => (first.len_utf8(), Part::Word),
        };
        self.at += length;
        Some((at, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statements and commands of a text, with the lines on which statements begin.
    fn entries(text: &str) -> Vec<(usize, String)> {
        let mut input = Input::default();
        let mut entries: Vec<Entry> = text.lines().flat_map(|line| input.push(line)).collect();
        entries.extend(input.finish());
        let shown = |entry| match entry {
            Entry::Statement { sql, line } => (line, sql),
            Entry::Command(command) => (0, command),
        };
        entries.into_iter().map(shown).collect()
    }

    #[test]
    fn statements_end_with_a_semicolon_and_commands_with_the_line() {
        let cases: [(&str, &[(usize, &str)]); 11] = [
            ("select 1;", &[(1, "select 1")]),
            ("select 1", &[(1, "select 1")]),
            (
                "select\n1; select 2;\n.tables\nselect 3",
                &[(1, "select\n1"), (2, "select 2"), (0, ".tables"), (4, "select 3")],
            ),
            ("  .mode csv  \n\\dt", &[(0, ".mode csv"), (0, "\\dt")]),
            ("select ';', \";\", 'it''s; ' ;select 2", &[(1, "select ';', \";\", 'it''s; '"), (1, "select 2")]),
            ("select 1 -- a; b\n;", &[(1, "select 1 -- a; b")]),
            ("select /* ; /* ; */ ; */ 1;", &[(1, "select /* ; /* ; */ ; */ 1")]),
            ("-- only said\n;;\n/* nothing */", &[]),
            ("-- first\n.tables", &[(0, ".tables")]),
            ("select 1\n.tables;", &[(1, "select 1\n.tables")]),
            ("select 'ä\nö'\n\n;\n\n  select 2;", &[(1, "select 'ä\nö'"), (6, "select 2")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(line, sql)| (*line, sql.to_string())).collect();
            assert_eq!(entries(text), expected, "{text}");
        }
    }

    #[test]
    fn a_text_is_whole_when_its_last_statement_is() {
        for whole in ["", "  ", "-- said", ".tables", "\\d", "select 1;", "select 1; -- done", "select 1; select 2 ;\n"]
        {
            assert!(is_whole(whole), "{whole}");
        }
        for open in ["select 1", "select ';", "select 1; select", "select 1 /* ;", "select 1 -- ;", "/* open"] {
            assert!(!is_whole(open), "{open}");
        }
    }
}
