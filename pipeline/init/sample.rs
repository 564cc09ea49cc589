//! A sample of a user's files: records read as landing reads them, column by column.
//!
//! A column is a value of the records, at the top or below other names: `context['campaign']['name']`. Its values are
//! the texts that landing's expressions would see.

use std::collections::{BTreeMap, HashMap};

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::Source;
use crate::error::{Error, Result};
use crate::landing::{self, Listed};
use crate::sources::{self, Column as Requested, FileEntry, Format, Outcome, Part, Request, Syntax};
use crate::workspace::Workspace;

/// Names below names that are looked at.
const DEPTH: usize = 6;
/// Columns that are looked at: where ids are names there is no end of them.
const MOST_COLUMNS: usize = 1_000;

/// Some records of some files of one shape.
#[derive(Debug, Default)]
pub struct Sample {
    /// The columns, in the order in which they were met.
    pub columns: Vec<Column>,
    /// Records.
    pub rows: usize,
    /// Records refused before a mapping saw them, by reason.
    pub refused: BTreeMap<&'static str, usize>,
    /// Files that cannot be read: path, reason, detail.
    pub damaged: Vec<(String, &'static str, String)>,
    names: HashMap<(usize, String), usize>,
    nodes: Vec<Node>,
}

/// A value of the records.
#[derive(Debug, Default, Clone)]
pub struct Column {
    /// Its name, below those of what holds it.
    pub path: Vec<String>,
    /// The value of each record, null and empty ones as none.
    pub values: Vec<Option<String>>,
    /// Its type in Parquet, for columns at the top.
    pub data_type: Option<DataType>,
    /// Whether it holds lists, or a value here and members there: no expression reads these safely.
    pub is_mixed: bool,
}

#[derive(Debug, Default)]
struct Node {
    path: Vec<String>,
    column: Option<usize>,
    has_members: bool,
}

impl Sample {
    /// A sample of these columns.
    #[cfg(test)]
    pub fn of(columns: Vec<Column>) -> Self {
        let rows = columns[0].values.len();
        let node = |(place, column): (usize, &Column)| Node {
            path: column.path.clone(),
            column: Some(place),
            has_members: false,
        };
        let nodes = columns.iter().enumerate().map(node).collect();
        Self { rows, columns, nodes, ..Self::default() }
    }

    /// Reads up to `most` records of each file.
    pub async fn read(
        workspace: &Workspace,
        source: &Source,
        listed: &Listed,
        files: &[(String, FileEntry)],
        most: usize,
    ) -> Result<Self> {
        let mut sample = Self { nodes: vec![Node::default()], ..Self::default() };
        for (shown, file) in files {
            sample.read_file(workspace, source, listed, shown, file, most).await?;
        }
        for column in &mut sample.columns {
            column.values.resize(sample.rows, None);
        }
        let holders: Vec<usize> =
            sample.nodes.iter().filter(|node| node.has_members).filter_map(|node| node.column).collect();
        holders.into_iter().for_each(|column| sample.columns[column].is_mixed = true);
        Ok(sample)
    }

    async fn read_file(
        &mut self,
        workspace: &Workspace,
        source: &Source,
        listed: &Listed,
        shown: &str,
        file: &FileEntry,
        most: usize,
    ) -> Result<()> {
        let spec = |request| landing::spec(workspace, source, request);
        let everything = Request { properties: true, ..Request::default() };
        let mut reading = sources::read(listed.root.clone(), vec![file.clone()], spec(everything))?;
        let end = self.rows + most;
        while self.rows < end {
            let Some(part) = reading.next().await else { break };
            let decoded = match part {
                Part::Records(_, decoded) => decoded,
                Part::End(_, Outcome::Read(_)) => break,
                Part::End(_, Outcome::Quarantined { reason, detail } | Outcome::Unsettled { reason, detail }) => {
                    self.damaged.push((shown.into(), reason, detail));
                    break;
                }
                Part::End(_, Outcome::Failed(error)) => return Err(error.context(shown)),
            };
            if let Syntax::Csv { names, .. } = &decoded.syntax {
                // Columns that are always empty are columns too.
                for name in names.iter() {
                    self.column(0, name);
                }
            }
            for rejected in &decoded.rejected {
                *self.refused.entry(rejected.reason).or_default() += 1;
            }
            for record in decoded.batch.column(0).as_string::<i32>() {
                if self.rows == end {
                    break;
                }
                self.members(0, record.unwrap_or("{}"));
                self.rows += 1;
            }
        }
        let is_parquet = file.path.filename().and_then(Format::from_name) == Some(Format::Parquet);
        if is_parquet || source.format == Some(crate::config::Format::Parquet) {
            self.read_types(listed, file, spec).await?;
        }
        Ok(())
    }

    /// What JSON does not tell of Parquet.
    async fn read_types(
        &mut self,
        listed: &Listed,
        file: &FileEntry,
        spec: impl Fn(Request) -> sources::Spec,
    ) -> Result<()> {
        let mut names: Vec<String> = self.nodes.iter().filter_map(|node| node.path.first().cloned()).collect();
        names.sort_unstable();
        names.dedup();
        let columns = names.into_iter().map(Requested::whole).collect();
        let request = Request { columns, ..Request::default() };
        let mut reading = sources::read(listed.root.clone(), vec![file.clone()], spec(request))?;
        if let Some(Part::Records(_, decoded)) = reading.next().await {
            for field in decoded.batch.schema_ref().fields() {
                let of_top =
                    self.columns.iter_mut().find(|column| matches!(&column.path[..], [name] if name == field.name()));
                if let Some(column) = of_top {
                    column.data_type = Some(field.data_type().clone());
                }
            }
        }
        Ok(())
    }

    /// Takes the members of an object.
    fn members(&mut self, node: usize, object: &str) {
        let Ok(Members(members)) = serde_json::from_str(object) else { return };
        self.nodes[node].has_members |= node > 0 && !members.is_empty();
        for (name, value) in members {
            let text = value.get();
            let value = match text.as_bytes().first() {
                Some(b'{') => {
                    if let Some(below) = self.node(node, &name) {
                        self.members(below, text);
                    }
                    continue;
                }
                Some(b'"') => serde_json::from_str::<String>(text).unwrap_or_default(),
                _ if text == "null" => continue,
                _ => text.to_string(),
            };
            // CSV and Parquet keep objects as text, of which expressions read members as well.
            if value.starts_with('{') && serde_json::from_str::<Members<'_>>(&value).is_ok() {
                if let Some(below) = self.node(node, &name) {
                    self.members(below, &value);
                }
                continue;
            }
            let Some(column) = self.column(node, &name) else { continue };
            let (row, column) = (self.rows, &mut self.columns[column]);
            column.is_mixed |= value.starts_with('[');
            column.values.resize(row, None);
            column.values.push(Some(value).filter(|value| !value.trim().is_empty()));
        }
    }

    fn node(&mut self, parent: usize, name: &str) -> Option<usize> {
        if let Some(node) = self.names.get(&(parent, name.to_string())) {
            return Some(*node);
        }
        let path = [&self.nodes[parent].path[..], &[name.to_string()]].concat();
        if path.len() > DEPTH || self.nodes.len() > MOST_COLUMNS {
            return None;
        }
        self.names.insert((parent, name.to_string()), self.nodes.len());
        self.nodes.push(Node { path, ..Node::default() });
        Some(self.nodes.len() - 1)
    }

    fn column(&mut self, parent: usize, name: &str) -> Option<usize> {
        let node = self.node(parent, name)?;
        if self.nodes[node].column.is_none() {
            self.nodes[node].column = Some(self.columns.len());
            self.columns.push(Column { path: self.nodes[node].path.clone(), ..Column::default() });
        }
        self.nodes[node].column
    }

    /// Whether some record holds a value, or members, at a path.
    pub fn has(&self, path: &[&str]) -> bool {
        self.nodes.iter().any(|node| node.path == path)
    }

    /// The names at the top.
    pub fn top_names(&self) -> Vec<&str> {
        self.nodes.iter().filter(|node| node.path.len() == 1).map(|node| node.path[0].as_str()).collect()
    }
}

impl Column {
    /// The values that are there.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        self.values.iter().flatten().map(String::as_str)
    }

    /// Records that have a value.
    pub fn count(&self) -> usize {
        self.given().count()
    }

    /// Values that are there and fit.
    pub fn count_of(&self, fits: impl Fn(&str) -> bool) -> usize {
        self.given().filter(|value| fits(value)).count()
    }

    /// Whether there are values and at least a share of them fit.
    pub fn mostly(&self, share: f64, fits: impl Fn(&str) -> bool) -> bool {
        let count = self.count();
        let allowed = count - (share * count as f64).ceil() as usize;
        // The first misses too many settle it: most columns are no times.
        count > 0 && self.given().filter(|value| !fits(value)).nth(allowed).is_none()
    }

    /// Distinct values with their counts, the most frequent first.
    pub fn distinct(&self) -> Vec<(&str, usize)> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        self.given().for_each(|value| *counts.entry(value).or_default() += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        counts
    }
}

/// The members of a JSON object in their order.
struct Members<'j>(Vec<(String, &'j RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The delimiter by which CSV files have most columns and fewest broken records.
pub async fn delimiter(
    workspace: &Workspace,
    source: &Source,
    listed: &Listed,
    files: &[(String, FileEntry)],
) -> Result<char> {
    let Some(first) = files.first() else { return Ok(source.delimiter) };
    let mut best = (usize::MAX, 0, source.delimiter);
    for delimiter in [',', ';', '\t', '|'] {
        let tried = Source { delimiter, ..source.clone() };
        let sample = Sample::read(workspace, &tried, listed, std::slice::from_ref(first), 200).await?;
        let columns = sample.top_names().len();
        let broken = sample.refused.values().sum::<usize>() + 1_000 * sample.damaged.len();
        let is_better = columns > 1 && (broken < best.0 || (broken == best.0 && columns > best.1));
        if is_better {
            best = (broken, columns, delimiter);
        }
    }
    Ok(best.2)
}

/// A first line that holds data and no names, which landing would take for names.
pub fn refuse_data_as_header(sample: &Sample, shown: &str) -> Result<()> {
    let looks_like_data = |name: &&&str| {
        name.parse::<f64>().is_ok()
            || name.contains('@')
            || (name.len() > 9 && name.get(..4).is_some_and(|year| year.parse::<u32>().is_ok()))
    };
    match sample.top_names().iter().find(looks_like_data) {
        Some(name) => {
            Err(Error::invalid(format!("{shown}: the first line holds data (`{name}`), expected names of columns"))
                .hint("put a line with the names of the columns first"))
        }
        None => Ok(()),
    }
}

/// Requests of clients that hold their events in a list, which a mapping cannot take apart.
pub fn refuse_lists_of_events(sample: &Sample) -> Result<()> {
    let is_list = |column: &&Column| {
        let is_named = column.path.last().is_some_and(|name| matches!(name.as_str(), "batch" | "events"));
        is_named && column.count() * 2 > sample.rows && column.mostly(0.9, |value| value.trim_start().starts_with("[{"))
    };
    match sample.columns.iter().find(is_list) {
        Some(column) => {
            let path = column.path.join(".");
            Err(Error::invalid(format!("each record holds a list of events in {path}, expected an event per record"))
                .hint(format!("write each on a line of its own, as `jq -c '.{path}[]'` does")))
        }
        None => Ok(()),
    }
}
