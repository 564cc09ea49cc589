//! Published views of a table of sums: which of their rows are others, so that their files need not be made from all sums.
//!
//! Where each row of a view is made of one row of the table alone, it is asked twice, over the sums that changed as they were and
//! as they are.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;

use super::step::{Step, stored};
use crate::derived::changes::Sums;
use crate::derived::storage::stored_schema;
use crate::derived::{Derived, summed};
use crate::engine;
use crate::error::{Error, Result};
use crate::models::difference::{Difference, difference};
use crate::models::graph::Model;
use crate::models::header::{Build, Publish};
use crate::models::{Changed, additive};

impl Step {
    /// What sums that are added to a table and taken off change of the published views over it; nothing of a view whose rows are
    /// not each made of one row.
    pub(super) async fn changed_views(
        &self,
        model: &Model,
        table: &Derived,
        sums: &Sums,
        removed: &[RecordBatch],
        added: &[RecordBatch],
    ) -> Result<Vec<(String, Changed)>> {
        let is_over_it = |view: &&Model| {
            view.header.build == Build::View
                && view.header.publish != Publish::No
                && view.reads == [model.name.as_str()]
        };
        let views: Vec<&Model> = self.graph.models.iter().filter(is_over_it).collect();
        let mut changed = Vec::new();
        if views.is_empty() {
            return Ok(changed);
        }
        let schema = table.stored_schema()?;
        let ctx = self.ctx();
        let in_memory = |rows: &[RecordBatch]| -> Result<_> {
            Ok(ctx.read_table(Arc::new(MemTable::try_new(schema.clone(), vec![rows.to_vec()])?))?)
        };
        let keys = in_memory(removed)?.union(in_memory(added)?)?;
        let before = stored(table.sums_of(ctx, sums, &keys).await?, &schema).await?;
        let after = summed::total(in_memory(&before)?.union(in_memory(added)?)?, in_memory(removed)?, sums, &schema)?;
        let after = stored(after, &schema).await?;
        for view in views {
            // What is published of a view that is defined anew is not made of these rows alone.
            let fingerprint = self.since.fingerprints.get(&view.name);
            let Some(fingerprint) = fingerprint.filter(|_| self.as_defined.contains(&view.name)) else { continue };
            match self.changed_view(view, model, &schema, &before, &after).await {
                Ok(Some(Difference { rows, days, exchanged, .. })) => {
                    let (before, rows, exchanged) = (fingerprint.clone(), Some(rows), Some(exchanged));
                    changed.push((view.name.clone(), Changed { before, rows, days, exchanged }));
                }
                Ok(None) => {}
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => tracing::warn!(mart = view.name, %error, "is published from its table"),
            }
        }
        Ok(changed)
    }

    /// How the rows of a view over some rows of a table differ from those over others.
    async fn changed_view(
        &self,
        view: &Model,
        model: &Model,
        schema: &SchemaRef,
        before: &[RecordBatch],
        after: &[RecordBatch],
    ) -> Result<Option<Difference>> {
        let mut sides = Vec::with_capacity(2);
        for rows in [before, after] {
            let rows: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(schema.clone(), vec![rows.to_vec()])?);
            let session = self.session(view, vec![(model.name.clone(), rows)]).await?;
            let frame = engine::query(&session, &view.sql).await?;
            if !is_row_by_row(frame.logical_plan()) {
                return Ok(None);
            }
            let schema = stored_schema(frame.schema().as_arrow())?;
            sides.push((stored(frame, &schema).await?, schema));
        }
        let [(before, schema), (after, _)] = &sides[..] else { return Err(Error::internal("there are two sides")) };
        // Keys are not asked for: a view has no table.
        Ok(Some(difference(schema, schema.field(0).name(), before, after)?))
    }
}

/// Whether each row of a plan is made of one row of a table, and the same each time.
fn is_row_by_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            additive::check_expressions(plan).is_ok() && plan.inputs().into_iter().all(is_row_by_row)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn rows_that_are_made_of_others_too_are_told() {
        let ctx = SessionContext::new();
        let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as _)]).unwrap();
        ctx.register_batch("t", rows).unwrap();
        for (sql, expected) in [
            ("select n, n / 2.0 as half from t where n > 1", true),
            ("with a as (select * from t), b as (select n + 1 as m from a) select * from b", true),
            ("select sum(n) from t", false),
            ("select n, sum(n) over () from t", false),
            ("select n from t limit 1", false),
            ("select a.n from t a join t b on a.n = b.n", false),
            ("select n from t where n = (select max(n) from t)", false),
            ("select n, now() as at from t", false),
            ("select distinct n from t", false),
            ("select n from t union all select n from t", false),
        ] {
            assert_eq!(is_row_by_row(ctx.sql(sql).await.unwrap().logical_plan()), expected, "{sql}");
        }
    }
}
