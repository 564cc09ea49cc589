//! A condition on the match, computed again with the values that the match gives.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::scalar::ScalarValue;

use super::match_value;

/// A condition, with a column in the place of each value.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    expression: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    /// Which values the columns are.
    pub(super) looks: Vec<usize>,
}

impl Condition {
    /// Reads a condition of a plan; `types` are those of all values.
    pub(super) fn new(condition: &Arc<dyn PhysicalExpr>, types: &[DataType]) -> Result<Self> {
        let mut looks: Vec<usize> = Vec::new();
        let expression = Arc::clone(condition).transform_up(|part| {
            if part.is::<Column>() {
                return internal_err!("match_rows: condition {condition} was computed before the match");
            }
            let Some(call) = part.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.name() == match_value::NAME)
            else {
                return Ok(Transformed::no(part));
            };
            let number = call.args()[0].downcast_ref::<Literal>().map(Literal::value);
            let Some(ScalarValue::Int64(Some(number))) = number else {
                return internal_err!("match_rows: expected a number in {call}");
            };
            let number = *number as usize;
            if number >= types.len() {
                return internal_err!("match_rows: there is no value {number}");
            }
            let column = looks.iter().position(|known| *known == number).unwrap_or_else(|| {
                looks.push(number);
                looks.len() - 1
            });
            Ok(Transformed::yes(Arc::new(Column::new(&format!("value_{number}"), column)) as Arc<dyn PhysicalExpr>))
        });
        let expression = expression.data()?;
        let fields: Vec<Field> =
            looks.iter().map(|look| Field::new(format!("value_{look}"), types[*look].clone(), true)).collect();
        Ok(Self { expression, schema: Arc::new(Schema::new(fields)), looks })
    }

    /// Where it holds, for rows of values of its looks.
    pub(super) fn holds(&self, values: Vec<ArrayRef>, rows: usize) -> Result<BooleanBuffer> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), values, &options)?;
        let holds = self.expression.evaluate(&batch)?.into_array(rows)?;
        let Some(holds) = holds.as_boolean_opt() else {
            return internal_err!("match_rows: expected a condition to be boolean, got {}", holds.data_type());
        };
        Ok(match holds.nulls() {
            Some(nulls) => holds.values() & nulls.inner(),
            None => holds.values().clone(),
        })
    }
}
