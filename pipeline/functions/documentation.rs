//! What SQL users read about a function: the one source of the engine's lists, the shell's help, the README's table and
//! the reference.
//!
//! Each function fills in a [`Manual`], which [`Manual::document`] renders into the engine's `Documentation`: its
//! description is a sentence, perhaps further paragraphs, then parts with a head (`Nulls: …`); its example is a query
//! and the table that it gives, which a test compares. [`Documented`] takes both apart again for those who lay them
//! out. What a file's own head says is how the function is made.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{DocSection, Documentation};

use super::{aggregate_functions, path_tables, row_patterns, scalar_functions, window_functions};

// ---------------------------------------------------------------------------------------------------------------
// In
// ---------------------------------------------------------------------------------------------------------------

/// The families of functions, in the order in which lists show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Funnels,
    Sequences,
    Journeys,
    Paths,
    Attribution,
    Statistics,
    Lists,
}

impl Section {
    const ALL: [Self; 7] =
        [Self::Funnels, Self::Sequences, Self::Journeys, Self::Paths, Self::Attribution, Self::Statistics, Self::Lists];

    fn label(self) -> &'static str {
        match self {
            Self::Funnels => "Funnels",
            Self::Sequences => "Sequences and row patterns",
            Self::Journeys => "Sessions and journeys",
            Self::Paths => "Paths and switches",
            Self::Attribution => "Attribution",
            Self::Statistics => "Statistics",
            Self::Lists => "Lists and ids",
        }
    }
}

/// The user's contract of a function. Text is Markdown. A part that does not apply is empty; those of a family may be
/// shared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manual {
    pub section: Section,
    /// How it is called; other forms after the first.
    pub syntax: &'static [&'static str],
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// What else there is to know; paragraphs parted by an empty line.
    pub details: &'static str,
    /// Each argument with what it may be.
    pub arguments: &'static [(&'static str, &'static str)],
    /// A query that can be pasted into a shell.
    pub example: Example,
    /// The type and the shape of the result, units, and what comes of no rows.
    pub returns: &'static str,
    /// Parts of its own, each with its head, a word.
    pub parts: &'static [(&'static str, &'static str)],
    /// What a null in each argument means, and when the result is null.
    pub nulls: &'static str,
    /// Whether the order of rows or elements matters, and which counts.
    pub order: &'static str,
    /// What comes first where times are equal; empty where that cannot matter.
    pub ties: &'static str,
    /// What it keeps while it runs.
    pub memory: &'static str,
    /// What it refuses, and when.
    pub errors: &'static str,
    /// Where its rule comes from.
    pub source: &'static str,
    /// Where it differs from what analysts know; empty where there is no such thing.
    pub differs: &'static [Unlike],
}

/// What differs from a function of another engine or a feature of a product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unlike {
    /// The other, with its owner: `ClickHouse's …`.
    pub whom: &'static str,
    /// Each difference: what is here, where it matters what is there.
    pub by: &'static [&'static str],
}

// Differences that several functions share.
pub(super) const NULL_CONDITIONS: &str =
    "null conditions are false, where it passes over rows in which any condition is null";
pub(super) const NULL_ARGUMENTS: &str = "every argument may be null, where it takes at most 8 such";
pub(super) const TIMES: &str = "signed numbers and times finer than a second are taken, which it refuses";

/// What windows cost with an aggregate that looks at all rows of a group.
pub(super) const WINDOWS: (&str, &str) = (
    "Windows",
    "over a whole partition a call costs what it costs for a group. In a frame that grows or moves the rows of the frame are \
     gone through anew for each row, which costs rows × frame.",
);

/// A query and the table that it gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Example {
    /// A query without its semicolon, ordered; what all its lines are indented by does not count.
    pub query: &'static str,
    /// The names of the columns, then the rows, cells parted by ` | `.
    pub rows: &'static [&'static str],
}

impl Manual {
    /// The documentation that the engine keeps.
    pub(super) fn document(&self) -> Documentation {
        let section = DocSection { include: true, label: self.section.label(), description: None };
        let (syntax, others) = self.syntax.split_first().expect("a function can be called");
        let documentation = Documentation::builder(section, self.description(), *syntax).with_sql_example(format!(
            "{FENCE}{};\n{}\n{END_OF_FENCE}",
            self.example.query(),
            self.example.table()
        ));
        let documentation =
            others.iter().fold(documentation, |documentation, other| documentation.with_alternative_syntax(*other));
        self.arguments
            .iter()
            .fold(documentation, |documentation, (name, meaning)| documentation.with_argument(*name, *meaning))
            .build()
    }

    fn description(&self) -> String {
        let first = [("Returns", self.returns)];
        let last = [
            ("Nulls", self.nulls),
            ("Order", self.order),
            ("Ties", self.ties),
            ("Memory", self.memory),
            ("Errors", self.errors),
            ("Source", self.source),
        ];
        let mut description = self.summary.to_owned();
        if !self.details.is_empty() {
            description.push_str("\n\n");
            description.push_str(self.details);
        }
        for (head, text) in first.iter().chain(self.parts).chain(&last).filter(|(_, text)| !text.is_empty()) {
            description.push_str(&format!("\n\n{head}: {text}"));
        }
        if !self.differs.is_empty() {
            description.push_str("\n\nDiffers: from what analysts may know.");
        }
        for Unlike { whom, by } in self.differs {
            description.push_str(&format!("\n- Unlike {whom}: {}.", by.join("; ")));
        }
        description
    }
}

impl Example {
    /// The query without the indentation of the file that it stands in.
    fn query(&self) -> String {
        let lines: Vec<&str> = self.query.lines().filter(|line| !line.trim().is_empty()).collect();
        let indent = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or_default();
        lines.iter().map(|line| &line[indent..]).collect::<Vec<_>>().join("\n")
    }

    /// The rows as the shell prints them.
    fn table(&self) -> String {
        let rows: Vec<Vec<&str>> = self.rows.iter().map(|row| row.split(" | ").collect()).collect();
        let (names, rows) = rows.split_first().expect("an example shows the names of its columns");
        let column = |(number, name): (usize, &&str)| {
            let cells: StringArray = rows.iter().map(|row| Some(row[number])).collect();
            ((*name).to_owned(), Arc::new(cells) as ArrayRef)
        };
        let table = RecordBatch::try_from_iter(names.iter().enumerate().map(column)).expect("rows of equal length");
        pretty_format_batches(&[table]).expect("text can be shown").to_string()
    }
}

/// Documentation of a function that is a part of plans and not called by hand.
pub(super) fn internal(description: &str, syntax: &str) -> Documentation {
    let section = DocSection { include: false, label: "Internal", description: None };
    Documentation::builder(section, description, syntax).build()
}

const SCALAR: &str = "scalar";
const AGGREGATE: &str = "aggregate";
const WINDOW: &str = "window";
const TABLE: &str = "table";
const CLAUSE: &str = "clause";

const FENCE: &str = "```sql\n";
const END_OF_FENCE: &str = "```";

// ---------------------------------------------------------------------------------------------------------------
// Out
// ---------------------------------------------------------------------------------------------------------------

/// A function, or a clause, with what SQL users read about it.
#[derive(Debug, Clone)]
pub struct Documented {
    /// The name by which it is called.
    pub name: String,
    /// `scalar`, `aggregate`, `window`, `table` or `clause`.
    pub kind: &'static str,
    /// What it does; a function of the engine may have nothing to say.
    pub documentation: Documentation,
}

/// A paragraph of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paragraph<'a> {
    /// What it is about; `None` for plain text.
    pub head: Option<&'a str>,
    /// Markdown, perhaps with a list.
    pub text: &'a str,
}

impl Documented {
    fn new(name: &str, kind: &'static str, documentation: Option<&Documentation>) -> Self {
        let documentation = documentation.cloned().unwrap_or_else(|| internal("", ""));
        Self { name: name.to_owned(), kind, documentation }
    }

    /// The family that it belongs to.
    pub fn section(&self) -> &'static str {
        self.documentation.doc_section.label
    }

    /// Every form of a call.
    pub fn syntax(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.documentation.syntax_example)
            .chain(self.documentation.alternative_syntax.iter().flatten())
    }

    /// Its arguments, each with what it may be.
    pub fn arguments(&self) -> &[(String, String)] {
        self.documentation.arguments.as_deref().unwrap_or_default()
    }

    /// The paragraphs of its description. One that begins with a capitalised word and a colon has that word as its head.
    pub fn paragraphs(&self) -> impl Iterator<Item = Paragraph<'_>> {
        self.documentation.description.split("\n\n").map(|paragraph| match paragraph.split_once(": ") {
            Some((head, text)) if is_head(head) => Paragraph { head: Some(head), text },
            _ => Paragraph { head: None, text: paragraph },
        })
    }

    /// Its first sentence.
    pub fn summary(&self) -> &str {
        self.paragraphs().next().map_or("", |paragraph| paragraph.text)
    }

    /// Its example: a query with its semicolon, and the table that it gives; empty without one.
    pub fn example(&self) -> &str {
        let example = self.documentation.sql_example.as_deref().unwrap_or_default();
        example.trim_start_matches(FENCE).trim_end().trim_end_matches(END_OF_FENCE).trim_end()
    }
}

fn is_head(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase()) && text.chars().all(|c| c.is_ascii_alphabetic())
}

/// Everything that this library adds to SQL, by family and name.
pub fn documented() -> Vec<Documented> {
    let scalars = scalar_functions();
    let scalars = scalars.iter().map(|function| Documented::new(function.name(), SCALAR, function.documentation()));
    let aggregates = aggregate_functions();
    let aggregates =
        aggregates.iter().map(|function| Documented::new(function.name(), AGGREGATE, function.documentation()));
    let windows = window_functions();
    let windows = windows.iter().map(|function| Documented::new(function.name(), WINDOW, function.documentation()));
    let place = |documented: &Documented| Section::ALL.iter().position(|known| known.label() == documented.section());
    let mut all: Vec<Documented> = scalars.chain(aggregates).chain(windows).chain(not_listed_by_sessions()).collect();
    all.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.name.cmp(&b.name)));
    all
}

/// Every function that a session knows, ours and those of the engine, and `match_recognize`; by name.
pub fn known_to(state: &SessionState) -> Vec<Documented> {
    let scalars = state.scalar_functions().iter();
    let scalars = scalars.map(|(name, function)| Documented::new(name, SCALAR, function.documentation()));
    let aggregates = state.aggregate_functions().iter();
    let aggregates = aggregates.map(|(name, function)| Documented::new(name, AGGREGATE, function.documentation()));
    let windows = state.window_functions().iter();
    let windows = windows.map(|(name, function)| Documented::new(name, WINDOW, function.documentation()));
    let ours: Vec<Documented> = not_listed_by_sessions().collect();
    let tables = state.table_functions().keys().filter(|name| !ours.iter().any(|ours| ours.name == **name));
    let tables: Vec<Documented> = tables.map(|name| Documented::new(name, TABLE, None)).collect();
    let mut all: Vec<Documented> = scalars.chain(aggregates).chain(windows).chain(tables).chain(ours).collect();
    all.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
    all
}

/// What a session has no documentation of: its table functions carry none, and a clause is no function.
fn not_listed_by_sessions() -> impl Iterator<Item = Documented> {
    let tables = path_tables().iter();
    let tables = tables.map(|table| Documented::new(table.name(), TABLE, Some(table.documentation())));
    let clause = Documented::new(row_patterns::NAME, CLAUSE, Some(row_patterns::documentation()));
    tables.chain(std::iter::once(clause))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::functions::{register_all, standard_sql};

    /// What every description says.
    const REQUIRED: [&str; 6] = ["Returns", "Nulls", "Order", "Memory", "Errors", "Source"];

    #[test]
    fn every_function_says_all_that_a_user_must_know() {
        let all = documented();
        assert!(all.len() > 40, "{}", all.len());
        let names: BTreeSet<&str> = all.iter().map(|documented| documented.name.as_str()).collect();
        assert_eq!(names.len(), all.len(), "each is documented once");
        for documented in &all {
            let Documented { name, kind, .. } = documented;
            assert!(Section::ALL.iter().any(|section| section.label() == documented.section()), "{name}: no section");
            let call = if *kind == CLAUSE { format!("{name} (") } else { format!("{name}(") };
            for syntax in documented.syntax() {
                assert!(syntax.contains(&call), "{name}: syntax of another function: {syntax}");
            }
            let paragraphs: Vec<Paragraph<'_>> = documented.paragraphs().collect();
            assert!(paragraphs[0].head.is_none(), "{name}: a sentence first");
            for required in REQUIRED {
                let said = paragraphs.iter().filter(|paragraph| paragraph.head == Some(required)).count();
                assert_eq!(said, 1, "{name}: {required}");
            }
            for Paragraph { text, .. } in paragraphs {
                assert!(text.ends_with('.'), "{name}: unfinished: {text}");
                assert!(!text.contains("  "), "{name}: two blanks: {text}");
            }
            let arguments = documented.arguments();
            assert!(!arguments.is_empty(), "{name}: arguments");
            assert!(arguments.iter().all(|(_, meaning)| meaning.ends_with('.')), "{name}: arguments");
            assert!(documented.example().contains(&call), "{name}: an example of another function");
        }
    }

    #[tokio::test]
    async fn every_example_gives_the_rows_that_it_shows() {
        // Several partitions and few rows in a batch, so that no answer can lean on either.
        let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4).with_batch_size(3));
        register_all(&ctx);
        let mut wrong = Vec::new();
        for documented in documented() {
            let (query, expected) = documented.example().split_once(";\n").unwrap();
            let rows = match ctx.sql(&standard_sql(query)).await {
                Ok(rows) => rows.collect().await,
                Err(error) => Err(error),
            };
            let shown = match rows {
                Ok(rows) => pretty_format_batches(&rows).unwrap().to_string(),
                Err(error) => error.to_string(),
            };
            if shown != expected {
                let name = &documented.name;
                wrong.push(format!("{name}: {query}\nexpected\n{expected}\ngot\n{shown}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }

    #[test]
    fn a_description_is_a_sentence_then_parts_with_heads() {
        let description = "Does it.\n\nMore: or less. See e.g.: this.\n\nNot a head: this.\n\nNulls: none.";
        let section = DocSection { include: true, label: "x", description: None };
        let documentation = Documentation::builder(section, description, "f()").build();
        let documented = Documented { name: "f".into(), kind: SCALAR, documentation };
        let heads: Vec<Option<&str>> = documented.paragraphs().map(|paragraph| paragraph.head).collect();
        assert_eq!(heads, [None, Some("More"), None, Some("Nulls")]);
        assert_eq!(documented.paragraphs().nth(3), Some(Paragraph { head: Some("Nulls"), text: "none." }));
        assert_eq!((documented.summary(), documented.example()), ("Does it.", ""));
    }
}
