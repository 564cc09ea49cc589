//! Models and checks as a graph: read from folders, linked by what their statements read, ordered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use datafusion::prelude::SessionContext;
use include_dir::{Dir, include_dir};

use super::given;
use super::header::{self, Build, Header};
use super::words::{ColumnWords, Words};
use crate::error::{Context, Error, Result};
use crate::functions::standard_sql;

static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/queries");
/// Folder of checks inside a `queries/` folder.
const CHECKS: &str = "checks";
/// Selects the models whose SQL or settings changed since they were built, and those never built.
pub const MODIFIED: &str = "state:modified";

/// One `.sql` file.
#[derive(Debug, Clone)]
pub struct Model {
    /// File name without `.sql`: the table's name.
    pub name: String,
    /// Where it came from, for messages.
    pub origin: String,
    /// Whether it comes with wayline.
    pub is_built_in: bool,
    /// The statement, header included.
    pub sql: String,
    /// What its header says.
    pub header: Header,
    /// Tables that it reads, by name.
    pub reads: Vec<String>,
    /// Whether it is a check: it must return no rows.
    pub is_check: bool,
}

impl Model {
    /// All that says which rows it holds. Words, checks and how it is published do not: what changes them alone builds
    /// nothing.
    pub fn definition(&self) -> String {
        let build = match &self.header.build {
            // What is no column of the grain is summed.
            build @ Build::BySum(_) => format!("{build} of {}", self.header.grain.join(", ")),
            build => build.to_string(),
        };
        format!("{build}\n{}", header::statement(&self.sql))
    }
}

/// All models and checks of a project, models in the order in which they can be built.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Models, each after those that it reads.
    pub models: Vec<Model>,
    /// Checks, by name.
    pub checks: Vec<Model>,
}

impl Graph {
    /// Everything that is read with these tables: what views read, and the views themselves.
    pub fn expanded(&self, reads: &[String]) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut open: Vec<&String> = reads.iter().collect();
        while let Some(read) = open.pop() {
            if all.insert(read.clone())
                && let Some(model) = self.model(read)
                && !model.header.build.is_table()
            {
                open.extend(&model.reads);
            }
        }
        all
    }

    /// Reads the built-in models, then those of a project's `queries/` folder, which replace built-in ones of the same
    /// name. A cycle is an error that names it.
    pub fn load(ctx: &SessionContext, queries: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for (path, sql) in built_in(&BUILT_IN) {
            insert(&mut files, ctx, &path, None, sql)?;
        }
        let mut own = Vec::new();
        if queries.is_dir() {
            own_files(queries, queries, &mut own)?;
        }
        own.sort();
        let mut seen = BTreeMap::new();
        for (path, sql) in own {
            let origin = queries.join(&path).display().to_string();
            let name = insert(&mut files, ctx, &path, Some(origin.clone()), &sql)?;
            if let Some(other) = seen.insert(name.clone(), origin.clone()) {
                return Err(Error::invalid(format!("model `{name}` stands in both {other} and {origin}")));
            }
        }
        let (checks, models): (Vec<_>, Vec<_>) = files.into_values().partition(|model: &Model| model.is_check);
        Ok(Self { models: order(models)?, checks })
    }

    /// Whether everything that a model, check or rule reads is a table or model; the first that is not is an error.
    pub fn expect_reads(&self) -> Result<()> {
        let mut names: BTreeSet<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
        for table in given::names() {
            names.insert(table);
        }
        for reader in self.models.iter().chain(&self.checks) {
            let of_rules = reader.header.checks.iter().filter_map(|rule| rule.other_model());
            let mut reads = reader.reads.iter().map(String::as_str).chain(of_rules);
            if let Some(read) = reads.find(|read| !names.contains(*read)) {
                let error = Error::invalid(format!("{}: reads `{read}`, which is no table or model", reader.origin));
                return Err(error.hint_nearest(read, names));
            }
        }
        for model in &self.models {
            self.column_words(&model.name).map_err(|error| error.context(&model.origin))?;
        }
        Ok(())
    }

    /// What the columns of a table or model mean, by name, those described elsewhere included; what is described nowhere
    /// is an error.
    pub fn column_words(&self, table: &str) -> Result<BTreeMap<String, ColumnWords>> {
        self.words_of(table, &mut Vec::new())
    }

    /// `path` holds the tables that led here.
    fn words_of(&self, table: &str, path: &mut Vec<String>) -> Result<BTreeMap<String, ColumnWords>> {
        let given = given::tables().find(|given| given.name == table);
        let header;
        let words: &Words = match (self.model(table), given) {
            (Some(model), _) => &model.header.columns,
            (None, Some(given)) => {
                header = Header::parse(given.header)?;
                &header.columns
            }
            (None, None) => return Err(Error::invalid(format!("columns: `{table}` is no table or model"))),
        };
        path.push(table.to_string());
        let mut known: BTreeMap<String, ColumnWords> =
            words.own.iter().map(|column| (column.name.clone(), column.clone())).collect();
        for same in &words.same_as {
            if path.contains(&same.table) {
                let circle = format!("{} → {}", path.join(" → "), same.table);
                return Err(Error::invalid(format!(
                    "columns: tables are described by each other in a circle: {circle}"
                )));
            }
            let other = self.words_of(&same.table, path)?;
            for column in &same.columns {
                let found = other.get(column).ok_or_else(|| {
                    Error::invalid(format!("columns: `{column}` is not described in `{}`", same.table))
                        .hint_nearest(column, other.keys().map(String::as_str))
                })?;
                known.insert(column.clone(), found.clone());
            }
        }
        path.pop();
        Ok(known)
    }

    /// A model by name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// Names of the models that a selector picks: `name`, `+name` (with all it reads), `name+` (with all that reads it),
    /// `tag:word`, `state:modified` (those in `modified`, of which there may be none); several are joined by a blank or
    /// a comma.
    pub fn select(&self, selector: &str, modified: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut selected = BTreeSet::new();
        for part in selector.split([' ', ',']).filter(|part| !part.is_empty()) {
            let upstream = part.starts_with('+');
            let downstream = part.ends_with('+');
            let core = part.trim_matches('+');
            let picked: Vec<_> = match core.split_once(':') {
                _ if core == MODIFIED => self.models.iter().filter(|model| modified.contains(&model.name)).collect(),
                Some(("tag", tag)) => self.models.iter().filter(|m| m.header.tags.iter().any(|t| t == tag)).collect(),
                Some((method, _)) => {
                    return Err(Error::invalid(format!("selector `{method}:…` is not known"))
                        .hint("write tag:WORD or state:modified"));
                }
                None => self.models.iter().filter(|model| model.name == core).collect(),
            };
            if picked.is_empty() && core != MODIFIED {
                let names = self.models.iter().map(|model| model.name.as_str());
                return Err(Error::invalid(format!("selector `{part}` picks no model")).hint_nearest(core, names));
            }
            for model in picked {
                selected.insert(model.name.clone());
                if upstream {
                    self.walk(&model.name, &mut selected, |at, other| at.reads.contains(&other.name));
                }
                if downstream {
                    self.walk(&model.name, &mut selected, |at, other| other.reads.contains(&at.name));
                }
            }
        }
        Ok(selected)
    }

    /// These models and all that they read.
    pub fn with_upstream(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let mut all = names.clone();
        for name in names {
            self.walk(name, &mut all, |at, other| at.reads.contains(&other.name));
        }
        all
    }

    fn walk(&self, from: &str, into: &mut BTreeSet<String>, is_next: impl Fn(&Model, &Model) -> bool) {
        let mut open = vec![from.to_string()];
        while let Some(name) = open.pop() {
            let Some(at) = self.model(&name) else { continue };
            for other in self.models.iter().filter(|other| is_next(at, other)) {
                if into.insert(other.name.clone()) {
                    open.push(other.name.clone());
                }
            }
        }
    }
}

fn built_in<'a>(folder: &'a Dir<'a>) -> Vec<(String, &'a str)> {
    let mut found: Vec<_> = folder
        .files()
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "sql"))
        .filter_map(|file| Some((file.path().to_string_lossy().into_owned(), file.contents_utf8()?)))
        .collect();
    found.extend(folder.dirs().flat_map(built_in));
    found
}

fn own_files(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) -> Result<()> {
    for entry in std::fs::read_dir(folder).context(folder.display())? {
        let path = entry?.path();
        if path.is_dir() {
            own_files(root, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            found.push((relative, std::fs::read_to_string(&path).context(path.display())?));
        }
    }
    Ok(())
}

/// Adds a file: one of the project by its origin, or a built-in one.
fn insert(
    files: &mut BTreeMap<(bool, String), Model>,
    ctx: &SessionContext,
    path: &str,
    own: Option<String>,
    sql: &str,
) -> Result<String> {
    let is_built_in = own.is_none();
    let origin = own.unwrap_or_else(|| format!("built-in queries/{path}"));
    let is_check = Path::new(path).components().any(|part| part.as_os_str() == CHECKS);
    let name = Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(legal) {
        return Err(Error::invalid(format!("{origin}: a model is named [a-z][a-z0-9_]*, not `{name}`")));
    }
    if !is_check && given::names().any(|table| table == name) {
        return Err(Error::invalid(format!("{origin}: `{name}` is a table of its own, no model can take its name")));
    }
    let header = Header::parse(sql).map_err(|error| error.context(&origin))?;
    let reads = tables_read(ctx, sql).map_err(|error| error.context(&origin))?;
    let model = Model { name: name.clone(), origin, is_built_in, sql: sql.to_string(), header, reads, is_check };
    files.insert((is_check, name.clone()), model);
    Ok(name)
}

/// Tables that a statement reads, told by DataFusion's own resolver; exactly one query is allowed.
fn tables_read(ctx: &SessionContext, sql: &str) -> Result<Vec<String>> {
    use datafusion::sql::parser::Statement;
    use datafusion::sql::sqlparser::ast;
    let state = ctx.state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(&standard_sql(sql), &dialect)?;
    match &statement {
        Statement::Statement(inner) if matches!(inner.as_ref(), ast::Statement::Query(_)) => {}
        _ => return Err(Error::invalid("a model is one select statement")),
    }
    let references = state.resolve_table_references(&statement)?;
    Ok(references
        .into_iter()
        .map(|reference| reference.table().to_string())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect())
}

/// Orders models so that each follows those it reads; among equals by name.
fn order(models: Vec<Model>) -> Result<Vec<Model>> {
    let names: BTreeSet<String> = models.iter().map(|model| model.name.clone()).collect();
    let mut waiting: BTreeMap<String, Model> = models.into_iter().map(|model| (model.name.clone(), model)).collect();
    let mut ordered: Vec<Model> = Vec::with_capacity(waiting.len());
    let mut done = BTreeSet::new();
    while !waiting.is_empty() {
        let ready =
            waiting.values().find(|model| model.reads.iter().all(|read| !names.contains(read) || done.contains(read)));
        match ready.map(|model| model.name.clone()) {
            Some(name) => {
                done.insert(name.clone());
                ordered.extend(waiting.remove(&name));
            }
            None => return Err(cycle(&waiting)),
        }
    }
    Ok(ordered)
}

/// Follows unbuilt reads until a name comes back.
fn cycle(waiting: &BTreeMap<String, Model>) -> Error {
    let mut path: Vec<&str> = Vec::new();
    let mut at = waiting.keys().next().map_or("", String::as_str);
    while !path.contains(&at) {
        path.push(at);
        let next = waiting[at].reads.iter().find(|read| waiting.contains_key(*read));
        at = next.map_or(at, String::as_str);
    }
    let start = path.iter().position(|name| *name == at).unwrap_or(0);
    let mut names = path[start..].to_vec();
    names.push(at);
    Error::invalid(format!("models read each other in a circle: {}", names.join(" → ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> Result<Graph> {
        let folder = tempfile::tempdir().unwrap();
        for (path, sql) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, sql).unwrap();
        }
        Graph::load(&SessionContext::new(), folder.path())
    }

    #[test]
    fn the_built_in_models_are_ordered_by_what_they_read() {
        let graph = graph(&[]).unwrap();
        let position = |name: &str| graph.models.iter().position(|model| model.name == name).unwrap();
        for model in &graph.models {
            for read in model.reads.iter().filter(|read| graph.model(read).is_some()) {
                assert!(position(read) < position(&model.name), "{} reads {read}", model.name);
            }
        }
        assert!(!graph.checks.is_empty());
    }

    #[test]
    fn an_own_model_joins_the_graph_and_may_replace_a_built_in_one() {
        let graph =
            graph(&[("big_spenders.sql", "select * from customers"), ("marts/paths.sql", "select 1 as one")]).unwrap();
        assert_eq!(graph.model("big_spenders").unwrap().reads, ["customers"]);
        assert!(graph.model("paths").unwrap().reads.is_empty());
    }

    #[test]
    fn a_common_table_expression_is_no_dependency() {
        let graph = graph(&[("a_model.sql", "with steps as (select * from events) select * from steps")]).unwrap();
        assert_eq!(graph.model("a_model").unwrap().reads, ["events"]);
    }

    #[test]
    fn a_cycle_is_named() {
        let error = graph(&[
            ("first.sql", "select * from second"),
            ("second.sql", "select * from third"),
            ("third.sql", "select * from first"),
        ])
        .unwrap_err();
        assert!(error.to_string().contains("first → second → third → first"), "{error}");
    }

    #[test]
    fn what_is_read_must_be_there() {
        let wrong = |path: &str, sql: &str| graph(&[(path, sql)]).unwrap().expect_reads();
        let error = wrong("a_model.sql", "select * from sesions").unwrap_err();
        assert!(error.to_string().contains("a_model.sql: reads `sesions`, which is no table or model"), "{error}");
        assert_eq!(error.remedy(), Some("did you mean `sessions`?"));
        assert!(wrong("checks/a_check.sql", "select * from nowhere").is_err());
        assert!(wrong("a_model.sql", "-- checks: relationships(x, nowhere.x)\nselect 1 as x").is_err());
        assert!(wrong("a_model.sql", "select * from events cross join as_of cross join identity_map").is_ok());
    }

    #[test]
    fn a_column_may_be_described_in_another_table() {
        let described = |files: &[(&str, &str)], name: &str| {
            let graph = graph(files).unwrap();
            graph.expect_reads().map(|()| graph.column_words(name).unwrap())
        };
        let own = "-- columns:\n--   at: the time\n--   as in events: touchpoint\nselect 1 as at, 2 as touchpoint";
        let other = "-- columns:\n--   as in own: at, touchpoint\nselect 1 as at, 2 as touchpoint";
        let words = described(&[("own.sql", own), ("other.sql", other)], "other").unwrap();
        assert_eq!(words["at"].meaning, "the time");
        assert!(words["touchpoint"].meaning.contains("place of contact"));
        let wrong = |sql: &str| described(&[("own.sql", sql)], "own").unwrap_err();
        let error = wrong("-- columns:\n--   as in events: touchpont\nselect 1 as touchpont");
        assert!(error.to_string().contains("own.sql: columns: `touchpont` is not described in `events`"), "{error}");
        assert_eq!(error.remedy(), Some("did you mean `touchpoint`?"));
        assert!(wrong("-- columns:\n--   as in nowhere: a\nselect 1 as a").to_string().contains("no table or model"));
        let error = wrong("-- columns:\n--   as in own: a\nselect 1 as a");
        assert!(error.to_string().contains("own → own"), "{error}");
    }

    #[test]
    fn words_and_publication_are_no_part_of_what_defines_rows() {
        let definition = |sql: &str| graph(&[("own.sql", sql)]).unwrap().model("own").unwrap().definition();
        let plain = definition("select 1 as a");
        assert_eq!(definition("-- A model.\n--\n-- publish: file\n-- columns:\n--   a: one\nselect 1 as a"), plain);
        assert_ne!(definition("-- build: view\nselect 1 as a"), plain);
        assert_ne!(definition("select 2 as a"), plain);
    }

    #[test]
    fn no_model_takes_the_name_of_a_table_that_is_given() {
        for name in ["events", "batches", "settings", "identity_map", "run_results"] {
            let error = graph(&[(&format!("{name}.sql"), "select 1 as one")]).unwrap_err();
            assert!(error.to_string().contains(&format!("`{name}` is a table of its own")), "{error}");
        }
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for sql in ["drop table events", "select 1; select 2", "copy events to 'x'"] {
            assert!(graph(&[("a_model.sql", sql)]).is_err(), "{sql}");
        }
    }

    #[test]
    fn selectors_pick_models_with_what_they_read_and_what_reads_them() {
        let graph = graph(&[
            ("aa.sql", "-- tags: mine\nselect 1 as x"),
            ("bb.sql", "select * from aa"),
            ("cc.sql", "select * from bb"),
        ])
        .unwrap();
        let modified = BTreeSet::from(["bb".to_string()]);
        let picked = |selector: &str| graph.select(selector, &modified).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(picked("bb"), ["bb"]);
        assert_eq!(picked("+bb"), ["aa", "bb"]);
        assert_eq!(picked("bb+"), ["bb", "cc"]);
        assert_eq!(picked("+bb+"), ["aa", "bb", "cc"]);
        assert_eq!(picked("tag:mine cc"), ["aa", "cc"]);
        assert_eq!(picked("state:modified"), ["bb"]);
        assert_eq!(picked("state:modified+"), ["bb", "cc"]);
        assert!(graph.select("state:modified", &BTreeSet::new()).unwrap().is_empty());
        assert!(graph.select("path_edge", &modified).unwrap_err().remedy().is_some());
        assert!(graph.select("state:new", &modified).is_err());
    }
}
