//! Which columns of which tables each column of a query is made of.
//!
//! A column is made of those whose values enter its own: those that an expression reads, not those that a filter, a join
//! or an order asks. Views and models are tables here: their names are the end of the way.

use std::collections::BTreeSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, LogicalPlan};

/// Table and column.
pub type Source = (String, String);
type Sources = BTreeSet<Source>;

/// The columns of a plan's result in order, each with what it is made of.
pub fn column_lineage(plan: &LogicalPlan) -> Result<Vec<(String, BTreeSet<Source>)>> {
    let names = plan.schema().fields().iter().map(|field| field.name().clone());
    Ok(names.zip(sources(plan)?).collect())
}

/// What each column of a plan's result is made of.
fn sources(plan: &LogicalPlan) -> Result<Vec<Sources>> {
    let fields = plan.schema().fields().len();
    Ok(match plan {
        LogicalPlan::TableScan(scan) => {
            let table = scan.table_name.table();
            let column = |name: &String| Sources::from([(table.to_string(), name.clone())]);
            scan.projected_schema.fields().iter().map(|field| column(field.name())).collect()
        }
        LogicalPlan::Projection(projection) => of_expressions(&projection.expr, &projection.input)?,
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate, fields)?,
        LogicalPlan::Window(window) => {
            let mut all = sources(&window.input)?;
            all.extend(of_expressions(&window.window_expr, &window.input)?);
            all
        }
        LogicalPlan::Join(join) => {
            let (left, right) = (|| sources(&join.left), || sources(&join.right));
            match join.join_type {
                JoinType::LeftSemi | JoinType::LeftAnti => left()?,
                JoinType::RightSemi | JoinType::RightAnti => right()?,
                // The mark is made of no column.
                JoinType::LeftMark => filled(left()?, fields),
                JoinType::RightMark => filled(right()?, fields),
                _ => left()?.into_iter().chain(right()?).collect(),
            }
        }
        LogicalPlan::Unnest(unnest) => {
            let input = sources(&unnest.input)?;
            unnest.dependency_indices.iter().map(|at| input[*at].clone()).collect()
        }
        LogicalPlan::Distinct(Distinct::On(distinct)) => of_expressions(&distinct.select_expr, &distinct.input)?,
        LogicalPlan::Union(union) => side_by_side(union.inputs.iter().map(AsRef::as_ref), fields)?,
        LogicalPlan::RecursiveQuery(query) => {
            side_by_side([query.static_term.as_ref(), query.recursive_term.as_ref()].into_iter(), fields)?
        }
        // Values, an empty relation: made of no table.
        _ if plan.inputs().is_empty() => filled(Vec::new(), fields),
        LogicalPlan::Extension(_) => of_extension(plan)?,
        // Filters, sorts, limits, aliases: the columns of their input.
        _ => sources(plan.inputs()[0])?,
    })
}

/// A node of ours: a column that comes from the input keeps its name, any other may be made of all.
fn of_extension(plan: &LogicalPlan) -> Result<Vec<Sources>> {
    let mut input = Vec::new();
    for node in plan.inputs() {
        input.extend(node.schema().fields().iter().map(|field| field.name().clone()).zip(sources(node)?));
    }
    let all: Sources = input.iter().flat_map(|(_, sources)| sources.clone()).collect();
    let of = |name: &String| input.iter().find(|(other, _)| other == name).map(|(_, sources)| sources.clone());
    Ok(plan.schema().fields().iter().map(|field| of(field.name()).unwrap_or_else(|| all.clone())).collect())
}

fn of_aggregate(aggregate: &Aggregate, fields: usize) -> Result<Vec<Sources>> {
    let is_set = matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]);
    let groups: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
    let mut all = of_expressions(&groups, &aggregate.input)?;
    if is_set {
        // The number of the set is made of no column.
        all.push(Sources::new());
    }
    all.extend(of_expressions(&aggregate.aggr_expr, &aggregate.input)?);
    Ok(filled(all, fields))
}

fn of_expressions(expressions: &[Expr], input: &LogicalPlan) -> Result<Vec<Sources>> {
    let of_input = sources(input)?;
    expressions.iter().map(|expression| of_expression(expression, input.schema(), &of_input)).collect()
}

fn of_expression(expression: &Expr, schema: &DFSchema, of_input: &[Sources]) -> Result<Sources> {
    let mut all = Sources::new();
    expression.apply(|part| {
        match part {
            Expr::Column(column) => all.extend(of_column(column, schema, of_input)),
            Expr::ScalarSubquery(query)
            | Expr::InSubquery(InSubquery { subquery: query, .. })
            | Expr::Exists(Exists { subquery: query, .. })
            | Expr::SetComparison(SetComparison { subquery: query, .. }) => {
                all.extend(sources(&query.subquery)?.into_iter().flatten());
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(all)
}

/// What a column of the input is made of; nothing for one of a query around this one.
fn of_column(column: &Column, schema: &DFSchema, of_input: &[Sources]) -> Sources {
    schema.maybe_index_of_column(column).map(|at| of_input[at].clone()).unwrap_or_default()
}

/// Columns of several inputs of one shape.
fn side_by_side<'a>(inputs: impl Iterator<Item = &'a LogicalPlan>, fields: usize) -> Result<Vec<Sources>> {
    let mut all = filled(Vec::new(), fields);
    for input in inputs {
        for (sources, more) in all.iter_mut().zip(sources(input)?) {
            sources.extend(more);
        }
    }
    Ok(all)
}

/// As many columns as there are fields, those that are missing made of nothing.
fn filled(mut all: Vec<Sources>, fields: usize) -> Vec<Sources> {
    all.resize(fields, Sources::new());
    all
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::engine;

    async fn lineage(sql: &str) -> Vec<String> {
        let ctx = SessionContext::new();
        crate::functions::register_all(&ctx);
        for table in [
            "create table sales (customer_id varchar, amount double, sold_at timestamp, tags varchar[]) as values (null, null, null, null)",
            "create table people (id varchar, city varchar) as values ('a', 'b')",
        ] {
            ctx.sql(table).await.unwrap().collect().await.unwrap();
        }
        let frame = engine::query(&ctx, sql).await.unwrap();
        let columns = column_lineage(frame.logical_plan()).unwrap();
        assert_eq!(columns.len(), frame.schema().fields().len());
        let shown = |(table, column): (String, String)| format!("{table}.{column}");
        columns
            .into_iter()
            .map(|(name, sources)| format!("{name}: {}", sources.into_iter().map(shown).collect::<Vec<_>>().join(" ")))
            .collect()
    }

    #[tokio::test]
    async fn a_column_is_made_of_what_its_expression_reads() {
        assert_eq!(
            lineage(
                "select upper(customer_id) as name, amount + 1 as more, 7 as seven from sales where sold_at > now()"
            )
            .await,
            ["name: sales.customer_id", "more: sales.amount", "seven: "]
        );
    }

    #[tokio::test]
    async fn it_is_followed_through_joins_groups_and_windows() {
        let sql = "with joined as (
                select city, amount, sold_at from sales inner join people on people.id = sales.customer_id
            ), totals as (select city, sum(amount) as total, max(sold_at) as last_at from joined group by city)
            select city, total, last_at, rank() over (order by total) as place from totals";
        assert_eq!(
            lineage(sql).await,
            ["city: people.city", "total: sales.amount", "last_at: sales.sold_at", "place: sales.amount"]
        );
    }

    #[tokio::test]
    async fn unions_add_up_and_subqueries_count() {
        let sql = "select id, (select max(amount) from sales) as most from people
            union all select customer_id, amount from sales";
        assert_eq!(lineage(sql).await, ["id: people.id sales.customer_id", "most: sales.amount"]);
    }

    #[tokio::test]
    async fn lists_are_followed_into_their_elements() {
        let sql = "select customer_id, tag from (select customer_id, unnest(tags) as tag from sales)";
        assert_eq!(lineage(sql).await, ["customer_id: sales.customer_id", "tag: sales.tags"]);
    }

    #[tokio::test]
    async fn grouping_sets_keep_their_columns_apart() {
        let sql = "select customer_id, count(amount) as sold from sales group by rollup (customer_id)";
        assert_eq!(lineage(sql).await, ["customer_id: sales.customer_id", "sold: sales.amount"]);
    }

    #[tokio::test]
    async fn what_only_filters_is_not_in_it() {
        let sql = "select city from people where id in (select customer_id from sales)";
        assert_eq!(lineage(sql).await, ["city: people.city"]);
        let sql = "select city from people left semi join sales on id = customer_id";
        assert_eq!(lineage(sql).await, ["city: people.city"]);
    }
}
