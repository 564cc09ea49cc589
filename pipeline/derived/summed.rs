//! A table of sums and the changes over it, read as one: what layers add and take off is summed with the rows below.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, lit};
use datafusion::prelude::{DataFrame, SessionContext, ident};

use super::changes::{FILES, Layer, Over, Sums};
use super::multiset;
use crate::delta::{Part, Snapshot, Table};
use crate::error::{Error, Result};
use crate::lake::Lake;

/// Column that tells whether a row is added.
const SIDE: &str = "wayline side";

/// The rows of `table` with what lies over it. A row that counts nothing is none.
pub fn provider(
    ctx: &SessionContext,
    lake: &Lake,
    folder: &str,
    table: &Table,
    over: &Over,
) -> Result<Arc<dyn TableProvider>> {
    Ok(rows(ctx, lake, folder, table, over, Ok)?.into_view())
}

/// The rows of [`provider`], of what a filter by keys leaves of each part that is summed.
pub fn rows(
    ctx: &SessionContext,
    lake: &Lake,
    folder: &str,
    table: &Table,
    over: &Over,
    filter: impl Fn(DataFrame) -> Result<DataFrame>,
) -> Result<DataFrame> {
    let sums = over.sums.as_ref().ok_or_else(|| Error::internal("layers of rows do not add up"))?;
    let schema = table.schema()?;
    let of_layers = |parts: fn(&Layer) -> &Vec<Part>| -> Result<DataFrame> {
        let parts: Vec<Part> = over.layers.iter().flat_map(parts).cloned().collect();
        Ok(ctx.read_table(Arc::new(Snapshot::new(lake, FILES, &schema, &[], parts)?))?)
    };
    let taken_off = filter(of_layers(|layer| &layer.removed)?)?;
    let mut rows = filter(of_layers(|layer| &layer.parts)?)?;
    if !over.replaces_all {
        rows = filter(ctx.read_table(table.provider(lake, folder)?)?)?.union(rows)?;
    }
    total(rows, taken_off, sums, &schema)
}

/// Those rows whose key is that of some row of `of`.
pub fn of_keys(rows: DataFrame, sums: &Sums, of: &DataFrame) -> Result<DataFrame> {
    // Of another name, so that it is not taken for a column of the rows.
    let wanted: Vec<String> = sums.keys.iter().map(|key| format!("wanted {key}")).collect();
    let keys = sums.keys.iter().zip(&wanted).map(|(key, wanted)| ident(key).alias(wanted));
    let of = of.clone().select(keys.collect::<Vec<_>>())?.into_unoptimized_plan();
    let (state, rows) = rows.into_parts();
    let column = |name: &String| Column::from_name(name);
    let on = (sums.keys.iter().map(column).collect::<Vec<_>>(), wanted.iter().map(column).collect::<Vec<_>>());
    let plan =
        LogicalPlanBuilder::from(rows).join_detailed(of, JoinType::LeftSemi, on, None, NullEquality::NullEqualsNull)?;
    Ok(DataFrame::new(state, plan.build()?))
}

/// The sums of `added` less those of `taken_off`, all with the columns of a schema; lists add up as multisets.
pub fn total(added: DataFrame, taken_off: DataFrame, sums: &Sums, schema: &Schema) -> Result<DataFrame> {
    let is_key = |field: &Field| sums.keys.contains(field.name());
    // Lists have no negative: a column beside them tells the side of each row.
    let has_lists = schema.fields().iter().any(|field| !is_key(field) && multiset::is_multiset(field.data_type()));
    let of_side = |frame: DataFrame, is_added: bool| {
        let columns = schema.fields().iter().map(|field| {
            let is_taken_off = !is_added && !is_key(field) && !multiset::is_multiset(field.data_type());
            match is_taken_off {
                true => Expr::Negative(Box::new(ident(field.name()))).alias(field.name()),
                false => ident(field.name()),
            }
        });
        let side = has_lists.then(|| multiset::sign(is_added).alias(SIDE));
        frame.select(columns.chain(side).collect::<Vec<_>>())
    };
    let rows = of_side(added, true)?.union(of_side(taken_off, false)?)?;
    let (keys, summed): (Vec<_>, Vec<_>) = schema.fields().iter().partition(|field| is_key(field));
    let keys = keys.into_iter().map(|field| ident(field.name())).collect();
    let summed = summed.into_iter().map(|field| {
        let total = match multiset::is_multiset(field.data_type()) {
            true => multiset::total(ident(field.name()), ident(SIDE)),
            false => sum(ident(field.name())),
        };
        total.alias(field.name())
    });
    let rows = rows.aggregate(keys, summed.collect())?.filter(ident(&sums.count).not_eq(lit(0)))?;
    // Sums are wider than what is summed.
    let of_schema =
        schema.fields().iter().map(|field| match is_key(field) || multiset::is_multiset(field.data_type()) {
            true => ident(field.name()),
            false => cast(ident(field.name()), field.data_type().clone()).alias(field.name()),
        });
    Ok(rows.select(of_schema.collect::<Vec<_>>())?)
}
