//! The compiled request: which members of a record are read, and where they go.
//!
//! A tree of objects: node 0 is the record, each further node an object of which single members are read or dropped.
//! The JSON scanner walks the tree as it walks the record, so that one pass finds everything.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::StringBuilder;
use arrow::datatypes::{DataType, Field};

use super::{Column, PathTree, Request, Shape};
use crate::error::{Error, Result};

/// A compiled [`Request`].
#[derive(Debug)]
pub(super) struct Plan {
    pub nodes: Vec<Node>,
    /// Texts read per record; each member that is read has one.
    pub slots: usize,
    pub columns: Vec<PlannedColumn>,
    pub properties: bool,
    weights: Weights,
}

/// What the texts of each slot, and of `properties`, weighed in the last batch: the next one's buffers are then made
/// at once as large as they must be.
#[derive(Debug, Default)]
struct Weights(Vec<AtomicUsize>);

/// Weights count in this part of a byte.
const WEIGHT_UNIT: usize = 16;

/// An output column.
#[derive(Debug)]
pub(super) struct PlannedColumn {
    pub name: String,
    pub layout: Layout,
    /// The plan for its values by themselves, if it is read by paths: for formats that hold them as JSON text.
    pub inner: Option<Plan>,
}

/// An object of which single members are read or dropped.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub members: Vec<Member>,
    /// Some member of this object, or one further down, must not be copied.
    pub drops: bool,
    /// How deep it lies; the record has 1.
    pub depth: usize,
}

/// A named member of a [`Node`].
#[derive(Debug)]
pub(super) struct Member {
    pub name: String,
    /// Where its text goes, if it is read whole.
    pub slot: Option<usize>,
    /// Its own node, if members of it are read or dropped.
    pub node: Option<usize>,
    /// It is a requested column, taken whole: not copied to `properties`.
    pub taken: bool,
    /// It must not be copied to `properties`.
    pub dropped: bool,
}

/// The shape of an output column.
#[derive(Debug)]
pub(super) enum Layout {
    Text { slot: usize },
    Object { node: usize, members: Vec<(String, Layout)> },
}

impl Plan {
    /// Compiles a request; names must be unique at each level, and an object needs at least one member.
    pub fn new(request: &Request) -> Result<Self> {
        let mut plan = Self {
            nodes: vec![Node { depth: 1, ..Node::default() }],
            slots: 0,
            columns: Vec::new(),
            properties: request.properties,
            weights: Weights::default(),
        };
        for column in &request.columns {
            if plan.columns.iter().any(|other| other.name == column.name) {
                return Err(Error::invalid(format!("column `{}` is requested twice", column.name)));
            }
            let (layout, inner) = match &column.shape {
                Shape::Whole => (plan.text(0, &column.name, true), None),
                Shape::Paths(tree) => (plan.object(0, &column.name, tree)?, Some(Self::new(&tree.as_request())?)),
            };
            plan.columns.push(PlannedColumn { name: column.name.clone(), layout, inner });
        }
        for path in &request.drop_paths {
            plan.drop_path(path)?;
        }
        plan.weights.0.resize_with(plan.slots + 1, AtomicUsize::default);
        Ok(plan)
    }

    /// A builder for `rows` texts of a slot; of `properties` if none is given.
    pub fn builder(&self, slot: Option<usize>, rows: usize) -> StringBuilder {
        let weight = self.weights.0[slot.unwrap_or(self.slots)].load(Ordering::Relaxed);
        // one part in sixteen above what was seen
        let bytes = rows * weight / WEIGHT_UNIT;
        StringBuilder::with_capacity(rows, bytes + bytes / 16)
    }

    /// Notes what the texts of a slot weigh.
    pub fn weigh(&self, slot: Option<usize>, texts: &StringBuilder) {
        let rows = texts.offsets_slice().len() - 1;
        if let Some(weight) = (texts.values_slice().len() * WEIGHT_UNIT).checked_div(rows) {
            self.weights.0[slot.unwrap_or(self.slots)].store(weight, Ordering::Relaxed);
        }
    }

    /// The node's member of this name.
    pub fn find(&self, node: usize, name: &str) -> Option<&Member> {
        self.nodes.get(node)?.members.iter().find(|member| member.name == name)
    }

    /// The member by which a name is copied to `properties` or not: the node's member of this name, else one that must
    /// not be copied, or not whole, and whose name differs in case alone. A source that writes `Email` for `email` must
    /// not bring by the one what is withheld from the other.
    pub fn find_withheld(&self, node: usize, name: &str) -> Option<&Member> {
        self.find(node, name).or_else(|| {
            let members = self.nodes.get(node).filter(|node| node.drops)?.members.iter();
            let folded = name.to_lowercase();
            members.filter(|member| self.withholds(member)).find(|member| member.name.to_lowercase() == folded)
        })
    }

    fn withholds(&self, member: &Member) -> bool {
        member.dropped || member.node.is_some_and(|node| self.nodes[node].drops)
    }

    fn text(&mut self, node: usize, name: &str, taken: bool) -> Layout {
        let slot = self.slots;
        self.slots += 1;
        let member = self.member(node, name);
        member.slot = Some(slot);
        member.taken = taken;
        Layout::Text { slot }
    }

    fn object(&mut self, parent: usize, name: &str, tree: &PathTree) -> Result<Layout> {
        if tree.members.is_empty() {
            return Err(Error::invalid(format!("no member of `{name}` is requested")));
        }
        let node = self.child(parent, name);
        let mut members: Vec<(String, Layout)> = Vec::with_capacity(tree.members.len());
        for (member, below) in &tree.members {
            if members.iter().any(|(taken, _)| taken == member) {
                return Err(Error::invalid(format!("member `{member}` of `{name}` is requested twice")));
            }
            let layout = match below.members.is_empty() {
                true => self.text(node, member, false),
                false => self.object(node, member, below)?,
            };
            members.push((member.clone(), layout));
        }
        Ok(Layout::Object { node, members })
    }

    fn drop_path(&mut self, path: &[String]) -> Result<()> {
        let Some((last, parents)) = path.split_last() else {
            return Err(Error::invalid("an empty path cannot be dropped"));
        };
        let mut node = 0;
        for name in parents {
            if self.find(node, name).is_some_and(|member| member.taken) {
                return Ok(());
            }
            self.nodes[node].drops = true;
            node = self.child(node, name);
        }
        self.nodes[node].drops = true;
        self.member(node, last).dropped = true;
        Ok(())
    }

    fn child(&mut self, parent: usize, name: &str) -> usize {
        if let Some(node) = self.member(parent, name).node {
            return node;
        }
        let node = self.nodes.len();
        let depth = self.nodes[parent].depth + 1;
        self.nodes.push(Node { depth, ..Node::default() });
        self.member(parent, name).node = Some(node);
        node
    }

    fn member(&mut self, node: usize, name: &str) -> &mut Member {
        let members = &mut self.nodes[node].members;
        let at = members.iter().position(|member| member.name == name).unwrap_or_else(|| {
            members.push(Member { name: name.to_string(), slot: None, node: None, taken: false, dropped: false });
            members.len() - 1
        });
        &mut members[at]
    }
}

impl PlannedColumn {
    /// The type of the column where values are text.
    pub fn text_type(&self) -> DataType {
        self.layout.text_type()
    }
}

impl Layout {
    /// The slot of a text.
    pub fn slot(&self) -> Option<usize> {
        match self {
            Layout::Text { slot } => Some(*slot),
            Layout::Object { .. } => None,
        }
    }

    /// The type of a column of this shape where values are text.
    pub fn text_type(&self) -> DataType {
        match self {
            Layout::Text { .. } => DataType::Utf8,
            Layout::Object { members, .. } => DataType::Struct(
                members.iter().map(|(name, layout)| Field::new(name, layout.text_type(), true)).collect(),
            ),
        }
    }
}

impl PathTree {
    /// The members as columns of their own.
    fn as_request(&self) -> Request {
        let column = |(name, below): &(String, PathTree)| match below.members.is_empty() {
            true => Column { name: name.clone(), shape: Shape::Whole },
            false => Column { name: name.clone(), shape: Shape::Paths(below.clone()) },
        };
        Request { columns: self.members.iter().map(column).collect(), properties: false, drop_paths: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_string).collect()
    }

    #[test]
    fn paths_and_drops_meet_in_one_tree() {
        let request = Request {
            columns: vec![Column::whole("id"), Column::paths("context", [path("page.url"), path("ip")])],
            properties: true,
            drop_paths: vec![path("context.traits.email"), path("id.x"), path("email")],
        };
        let plan = Plan::new(&request).unwrap();
        assert_eq!(plan.slots, 3);
        assert!(plan.find(0, "id").unwrap().node.is_none(), "what is taken whole is never copied");
        assert!(plan.find(0, "email").unwrap().dropped);
        let context = plan.find(0, "context").unwrap().node.unwrap();
        assert!(plan.nodes[context].drops);
        let traits = plan.find(context, "traits").unwrap().node.unwrap();
        assert!(plan.find(traits, "email").unwrap().dropped);
        let page = plan.find(context, "page").unwrap().node.unwrap();
        assert!(!plan.nodes[page].drops);
    }

    #[test]
    fn a_column_requested_twice_is_an_error() {
        let request =
            Request { columns: vec![Column::whole("a"), Column::whole("a")], properties: false, drop_paths: vec![] };
        assert!(Plan::new(&request).unwrap_err().to_string().contains("twice"));
    }
}
