//! What the expressions of a clause want to know of a match, each thing once.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, lit};
use datafusion::scalar::ScalarValue;

use super::super::arguments::list_type;
use super::spec::{Aggregate, Leaf};

/// The name by which an expression refers to a leaf begins with this.
pub(super) const PREFIX: &str = "__match_";

/// One thing to be known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub(super) leaf: Leaf,
    /// What is computed of each row beforehand: an expression over the input.
    pub(super) argument: Option<Expr>,
    /// Rows between the row and the one that the argument is taken from.
    pub(super) shift: i64,
    pub(super) data_type: DataType,
}

impl Draft {
    /// A leaf without argument.
    pub(super) fn plain(leaf: Leaf) -> Self {
        let data_type = match leaf {
            Leaf::Label(_) => DataType::Utf8,
            Leaf::AggregateLabels { function: Aggregate::Collect, .. } => list_type(DataType::Utf8),
            Leaf::AggregateLabels { function: Aggregate::Count, .. } | Leaf::Number => DataType::Int64,
            Leaf::AggregateLabels { .. } => DataType::Utf8,
            _ => DataType::Boolean,
        };
        Self { leaf, argument: None, shift: 0, data_type }
    }

    /// A leaf of an argument of the same type.
    pub(super) fn of(leaf: Leaf, argument: Expr, data_type: DataType) -> Self {
        Self { leaf, argument: Some(argument), shift: 0, data_type }
    }

    /// The argument, or a null of the right type where there is none.
    pub(super) fn argument_or_null(&self) -> Result<Expr> {
        match &self.argument {
            Some(argument) => Ok(argument.clone()),
            None => Ok(lit(ScalarValue::try_new_null(&self.data_type)?)),
        }
    }
}

/// All things to be known.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    pub(super) drafts: Vec<Draft>,
}

impl Leaves {
    /// The number of a leaf, which is new or known.
    pub(super) fn add(&mut self, draft: Draft) -> usize {
        if let Some(known) = self.drafts.iter().position(|known| *known == draft) {
            return known;
        }
        self.drafts.push(draft);
        self.drafts.len() - 1
    }

    /// The name of a leaf.
    pub(super) fn name(number: usize) -> String {
        format!("{PREFIX}{number}")
    }

    /// The number of a leaf, from its name.
    pub(super) fn number(name: &str) -> Option<usize> {
        name.strip_prefix(PREFIX)?.parse().ok()
    }

    /// The columns that expressions over leaves see.
    pub(super) fn schema(&self) -> Result<DFSchema> {
        let fields = self.drafts.iter().enumerate();
        let fields = fields.map(|(number, draft)| Field::new(Self::name(number), draft.data_type.clone(), true));
        DFSchema::try_from(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }
}
