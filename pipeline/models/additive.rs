//! Whether a statement adds up over customers: what it makes of the rows of some customers and what it makes of those of the
//! others come to what it makes of all, added by its keys.
//!
//! That is so when its last step groups rows by the keys and counts them, sums whole numbers or decimals of them or lists numbers of them, and
//! when every step before makes the rows of a customer of that customer's rows alone. It is told by the plan, so what is
//! found is true of any rows; a statement of which it cannot be told is refused.
//!
//! Of a statement over events alone a batch stands in the place of a customer. Its events come all at once and stay as they are, so
//! if it is one of the keys, nothing is ever added to a row: it may hold an extreme or a median too.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, Join, JoinType, LogicalPlan, Operator, lit,
};
use datafusion::prelude::{DataFrame, coalesce, ident};
use datafusion::scalar::ScalarValue;

use super::settings;
use super::update::CUSTOMER;
use crate::derived::multiset;
use crate::derived::summed::is_kept;
use crate::engine::is_clock;
use crate::error::{Error, Result};

/// The rows of a statement whose sums are kept: sums of nothing are 0, so that what was added can be taken off again. An extreme
/// or a median of nothing is null.
pub fn summed(frame: DataFrame, keys: &[String], count: &str) -> Result<DataFrame> {
    let kept = check(frame.logical_plan(), keys, count).map_err(|error| error.hint(HINT))?;
    let columns = frame.schema().fields().iter().map(|field| match keys.contains(field.name()) {
        true => Ok(ident(field.name())),
        false if multiset::is_multiset(field.data_type()) => {
            Ok(multiset::sorted(ident(field.name())).alias(field.name()))
        }
        false if kept.contains(field.name()) => Ok(ident(field.name())),
        false => {
            let zero = lit(ScalarValue::new_zero(field.data_type())?);
            Ok(coalesce(vec![ident(field.name()), zero]).alias(field.name()))
        }
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(frame.select(columns)?)
}

/// Column of the batch that brought an event.
const BATCH: &str = "batch";

const HINT: &str = "let the last step group by the columns of the grain, and count, sum or list; work out what is made of sums \
                    (rates, medians) in a model that reads this one";

fn refuse<T>(what: impl std::fmt::Display) -> Result<T> {
    Err(Error::invalid(format!("incremental by sum: {what}")))
}

/// The columns of a plan that adds up by these keys which hold no sums, but what is kept of a batch; else an error that says why
/// it does not.
fn check(plan: &LogicalPlan, keys: &[String], count: &str) -> Result<BTreeSet<String>> {
    let names: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    if let Some(missing) = keys.iter().map(String::as_str).chain([count]).find(|key| !names.iter().any(|n| n == key)) {
        return refuse(format!("there is no column `{missing}`"));
    }
    let fields = plan.schema().fields().clone();
    // The place of each column in the plan that is looked at.
    let mut places: Vec<usize> = (0..names.len()).collect();
    let mut plan = plan;
    let aggregate = loop {
        check_expressions(plan)?;
        plan = match plan {
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => &sort.input,
            LogicalPlan::Projection(projection) => {
                for (place, name) in places.iter_mut().zip(&names) {
                    let expr = &projection.expr[*place];
                    let is_told_apart = !keys.contains(name) || !is_filled(expr);
                    *place = passed_on(expr, &projection.input).filter(|_| is_told_apart).ok_or_else(|| {
                        let expected = if keys.contains(name) { "what is grouped by" } else { "a count or sum" };
                        Error::invalid(format!(
                            "incremental by sum: `{name}` is worked out, expected {expected} as it is"
                        ))
                    })?;
                }
                &projection.input
            }
            LogicalPlan::Aggregate(aggregate) => break aggregate,
            LogicalPlan::Filter(_) => return refuse("rows are left out by what they come to"),
            other => return refuse(format!("the last step is no group by, but {}", word(other))),
        };
    };
    let customers = customers(&aggregate.input)?;
    let Some(customers) = customers else { return refuse("it reads no rows of customers") };
    if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return refuse("it groups by several sets of columns");
    }
    let is_owner = |expr: &Expr| passed_on(expr, &aggregate.input).is_some_and(|at| customers.contains(&at));
    let is_of_batches = aggregate.group_expr.iter().any(is_owner) && reads_events_alone(&aggregate.input);
    for field in fields.iter().filter(|field| !keys.contains(field.name())) {
        let (name, data_type) = (field.name(), field.data_type());
        let adds_up = data_type.is_integer() || data_type.is_decimal() || multiset::is_multiset(data_type);
        if !(adds_up || is_of_batches && is_kept(data_type)) {
            return refuse(format!(
                "`{name}` is {data_type}, expected a whole number or a decimal, which add up exactly, or a list of bigint or \
                 double"
            ));
        }
    }
    let groups = aggregate.group_expr.len();
    let mut kept = BTreeSet::new();
    for (place, field) in places.iter().zip(fields.iter()) {
        let name = field.name();
        match (*place < groups, keys.contains(name)) {
            (true, true) => {}
            (true, false) => return refuse(format!("`{name}` is grouped by and not of the grain")),
            (false, true) => return refuse(format!("`{name}` is of the grain and not grouped by")),
            (false, false) => {
                let sum = &aggregate.aggr_expr[*place - groups];
                if is_kept_of_batch(sum) && is_of_batches {
                    kept.insert(name.clone());
                } else {
                    check_sum(sum, field, aggregate, &customers)?;
                }
                if name == count && !counts_rows(sum, &aggregate.input) {
                    return refuse(format!(
                        "`{name}` may be 0 of a row that is there, expected count(*) or its sum, without a filter"
                    ));
                }
            }
        }
    }
    if let Some(hidden) = (0..groups).find(|group| !places.contains(group)) {
        return refuse(format!("`{}` is grouped by and is no column", aggregate.group_expr[hidden]));
    }
    Ok(kept)
}

/// Whether an aggregate is an extreme or a median, which of a batch that is there stays.
fn is_kept_of_batch(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_kept_of_batch(&alias.expr),
        Expr::AggregateFunction(AggregateFunction { func, .. }) => matches!(func.name(), "min" | "max" | "median"),
        _ => false,
    }
}

/// Refuses what gives another answer each time, or asks for other rows than those that a plan reads.
pub fn check_expressions(plan: &LogicalPlan) -> Result<()> {
    for expr in plan.expressions() {
        let mut found = None;
        expr.apply(|part| {
            found = match part {
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
                    Some("it has a query inside an expression".to_owned())
                }
                Expr::ScalarFunction(call) if is_clock(&call.func) => {
                    Some(format!("{} gives another answer each time", call.func.name()))
                }
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            Ok(TreeNodeRecursion::Stop)
        })?;
        if let Some(found) = found {
            return refuse(found);
        }
    }
    Ok(())
}

/// Whether an expression puts something in the place of null, so that two keys may become one.
fn is_filled(expr: &Expr) -> bool {
    expr.exists(|part| Ok(matches!(part, Expr::ScalarFunction(call) if call.name() == "coalesce"))).unwrap_or(true)
}

/// Whether a column counts the rows of its group, so that it is 0 of none that is there: `count(*)`, the number of customers,
/// or the sum of such a column, without a filter.
fn counts_rows(expr: &Expr, input: &LogicalPlan) -> bool {
    match expr {
        Expr::Alias(alias) => counts_rows(&alias.expr, input),
        Expr::Cast(cast) => counts_rows(&cast.expr, input),
        Expr::Column(column) => {
            input.schema().maybe_index_of_column(column).is_some_and(|place| counts_rows_at(place, input))
        }
        Expr::AggregateFunction(AggregateFunction { func, params }) if params.filter.is_none() => {
            match (func.name(), params.distinct, params.args.as_slice()) {
                ("count", false, [Expr::Literal(value, _)]) => !value.is_null(),
                // Distinct customers, as `check_sum` sees to.
                ("count", distinct, _) => distinct,
                ("sum", false, [arg]) => counts_rows(arg, input),
                _ => false,
            }
        }
        _ => false,
    }
}

/// The same of a column of a plan, by its place.
fn counts_rows_at(place: usize, plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => counts_rows_at(place, &alias.input),
        LogicalPlan::Filter(filter) => counts_rows_at(place, &filter.input),
        LogicalPlan::Sort(sort) => counts_rows_at(place, &sort.input),
        LogicalPlan::Projection(projection) => counts_rows(&projection.expr[place], &projection.input),
        LogicalPlan::Aggregate(aggregate) => place
            .checked_sub(aggregate.group_expr.len())
            .is_some_and(|place| counts_rows(&aggregate.aggr_expr[place], &aggregate.input)),
        _ => false,
    }
}

/// The column of the input that an expression hands on, or only brings to another type that holds every sum of it.
fn passed_on(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => passed_on(&alias.expr, input),
        Expr::Column(column) => input.schema().maybe_index_of_column(column),
        Expr::Cast(cast) => {
            let (from, to) = (cast.expr.get_type(input.schema()).ok()?, cast.field.data_type());
            let scale = |data_type: &DataType| match data_type {
                DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(*scale),
                whole if whole.is_integer() => Some(0),
                _ => None,
            };
            (scale(&from)? <= scale(to)?).then(|| passed_on(&cast.expr, input))?
        }
        Expr::ScalarFunction(call) if call.name() == "array_sort" && call.args.len() == 1 => {
            passed_on(&call.args[0], input)
        }
        Expr::ScalarFunction(call) if call.name() == "coalesce" && call.args.len() == 2 => {
            let Expr::Literal(value, _) = &call.args[1] else { return None };
            let is_zero = value.to_string().parse::<f64>().is_ok_and(|number| number == 0.0);
            is_zero.then(|| passed_on(&call.args[0], input))?
        }
        _ => None,
    }
}

/// Whether an aggregate is one that adds up.
fn check_sum(expr: &Expr, field: &Field, aggregate: &Aggregate, customers: &BTreeSet<usize>) -> Result<()> {
    let (name, data_type) = (field.name(), field.data_type());
    let mut expr = expr;
    while let Expr::Alias(alias) = expr {
        expr = &alias.expr;
    }
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else {
        return refuse(format!("`{name}` is {expr}, expected count, sum or array_agg"));
    };
    let is_of_customer = |arg: &Expr| matches!(arg, Expr::Column(column) if aggregate.input.schema().maybe_index_of_column(column).is_some_and(|at| customers.contains(&at)));
    if !params.order_by.is_empty() {
        return refuse(format!("`{name}` is a list in an order of its own, expected array_agg without order by"));
    }
    match (func.name(), params.distinct) {
        ("sum", _) if is_kept(data_type) => refuse(format!(
            "`{name}` is a sum of {data_type}, expected whole numbers or decimals, which add up exactly"
        )),
        ("count" | "sum" | "array_agg", false) => Ok(()),
        ("count", true) if params.args.iter().all(is_of_customer) => Ok(()),
        ("count", true) => {
            refuse(format!("`{name}` counts what several customers may share, expected distinct {CUSTOMER}"))
        }
        ("min" | "max" | "median", _) => refuse(format!(
            "`{name}` is {}(…), expected count, sum or array_agg; it is kept where events alone are grouped by batch",
            func.name()
        )),
        (function, _) => refuse(format!("`{name}` is {function}(…), expected count, sum or array_agg")),
    }
}

/// Whether a plan reads events, and nothing else but settings.
fn reads_events_alone(plan: &LogicalPlan) -> bool {
    let mut is_alone = true;
    let visited = plan.apply(|part| {
        if let LogicalPlan::TableScan(scan) = part {
            let table = scan.table_name.table();
            is_alone &= table == "events" || settings::TABLES.contains(&table);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_ok() && is_alone
}

/// The places of the columns that hold the customer, in a plan that makes the rows of a customer of that customer's rows alone
/// (of events those that hold the batch, or of an event's alone, where there are none); `None` of a plan that reads settings only.
fn customers(plan: &LogicalPlan) -> Result<Option<BTreeSet<usize>>> {
    check_expressions(plan)?;
    let same = |input: &LogicalPlan| -> Result<Option<BTreeSet<usize>>> {
        let Some(found) = customers(input)? else { return Ok(None) };
        let names = found.into_iter().map(|at| input.schema().columns()[at].clone());
        Ok(Some(names.filter_map(|column| plan.schema().maybe_index_of_column(&column)).collect()))
    };
    match plan {
        LogicalPlan::TableScan(scan) => {
            let at = scan.projected_schema.index_of_column_by_name(None, CUSTOMER);
            let table = scan.table_name.table();
            match at {
                Some(at) => Ok(Some(BTreeSet::from([at]))),
                None if table == "as_of" => {
                    refuse("it reads the logical time, with which rows of everybody may change")
                }
                None if settings::TABLES.contains(&table) => Ok(None),
                None if table == "events" => {
                    Ok(Some(scan.projected_schema.index_of_column_by_name(None, BATCH).into_iter().collect()))
                }
                None => refuse(format!("it reads `{table}`, which has no {CUSTOMER}")),
            }
        }
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Ok(None),
        LogicalPlan::Projection(projection) => {
            let Some(found) = customers(&projection.input)? else { return Ok(None) };
            let is_one = |expr: &Expr| passed_on(expr, &projection.input).is_some_and(|at| found.contains(&at));
            Ok(Some((0..projection.expr.len()).filter(|at| is_one(&projection.expr[*at])).collect()))
        }
        LogicalPlan::SubqueryAlias(alias) => customers(&alias.input),
        LogicalPlan::Filter(filter) => customers(&filter.input),
        LogicalPlan::Repartition(repartition) => customers(&repartition.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => customers(&sort.input),
        LogicalPlan::Unnest(unnest) => same(&unnest.input),
        LogicalPlan::Distinct(Distinct::All(input)) => match customers(input)? {
            Some(found) if found.is_empty() => refuse(format!("it makes rows distinct without their {CUSTOMER}")),
            found => Ok(found),
        },
        LogicalPlan::Window(window) => {
            let Some(found) = customers(&window.input)? else { return Ok(None) };
            for expr in &window.window_expr {
                let mut expr = expr;
                while let Expr::Alias(alias) = expr {
                    expr = &alias.expr;
                }
                let is_one = |part: &Expr| passed_on(part, &window.input).is_some_and(|at| found.contains(&at));
                let is_by_customer = match expr {
                    Expr::WindowFunction(function) => {
                        let WindowFunction { params, .. } = function.as_ref();
                        params.partition_by.iter().any(is_one)
                    }
                    _ => false,
                };
                if !is_by_customer {
                    return refuse(format!("a window is over several customers, expected partition by {CUSTOMER}"));
                }
            }
            Ok(Some(found))
        }
        LogicalPlan::Aggregate(aggregate) => {
            let Some(found) = customers(&aggregate.input)? else { return Ok(None) };
            let is_one = |expr: &Expr| passed_on(expr, &aggregate.input).is_some_and(|at| found.contains(&at));
            let groups = 0..aggregate.group_expr.len();
            let found: BTreeSet<usize> = groups.filter(|at| is_one(&aggregate.group_expr[*at])).collect();
            match found.is_empty() {
                true => refuse(format!(
                    "rows of several customers are put together before the last step: group by {CUSTOMER}"
                )),
                false => Ok(Some(found)),
            }
        }
        LogicalPlan::Join(join) => joined(join),
        LogicalPlan::Union(union) => {
            let mut found: Option<Option<BTreeSet<usize>>> = None;
            for input in &union.inputs {
                let of_input = customers(input)?;
                found = Some(match (found, of_input) {
                    (None, of_input) => of_input,
                    (Some(None), None) => None,
                    (Some(Some(all)), Some(these)) => Some(all.intersection(&these).copied().collect()),
                    _ => return refuse("rows of settings stand among rows of customers"),
                });
            }
            Ok(found.flatten())
        }
        other => refuse(format!("it has {}", word(other))),
    }
}

fn joined(join: &Join) -> Result<Option<BTreeSet<usize>>> {
    use JoinType::{Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
    let (left, right) = (customers(&join.left)?, customers(&join.right)?);
    let width = join.left.schema().fields().len();
    let shifted = |found: &BTreeSet<usize>| -> BTreeSet<usize> { found.iter().map(|at| at + width).collect() };
    match (left, right) {
        (None, None) => Ok(None),
        // What is not of customers must not be kept where no customer meets it.
        (Some(left), None) if matches!(join.join_type, Inner | Left | LeftSemi | LeftAnti | LeftMark) => Ok(Some(left)),
        (None, Some(right)) if matches!(join.join_type, Inner | Right) => Ok(Some(shifted(&right))),
        (None, Some(right)) if matches!(join.join_type, RightSemi | RightAnti | RightMark) => Ok(Some(right)),
        (Some(left), Some(right)) => {
            let is_of = |expr: &Expr, side: &LogicalPlan, found: &BTreeSet<usize>| {
                passed_on(expr, side).is_some_and(|at| found.contains(&at))
            };
            let is_by_customer = equal_pairs(join).any(|(one, other)| {
                is_of(one, &join.left, &left) && is_of(other, &join.right, &right)
                    || is_of(other, &join.left, &left) && is_of(one, &join.right, &right)
            });
            if !is_by_customer {
                return refuse(format!("rows of several customers are joined, expected a join by {CUSTOMER}"));
            }
            Ok(Some(match join.join_type {
                Inner => left.union(&shifted(&right)).copied().collect(),
                Left | LeftSemi | LeftAnti | LeftMark => left,
                Right => shifted(&right),
                RightSemi | RightAnti | RightMark => right,
                Full => BTreeSet::new(),
            }))
        }
        _ => refuse("a join keeps rows of settings that no customer meets"),
    }
}

/// Expressions that a join requires to be equal. As written they stand in its condition, and the optimizer takes them out of it.
fn equal_pairs(join: &Join) -> impl Iterator<Item = (&Expr, &Expr)> {
    let conditions = join.filter.iter().flat_map(split_conjunction).filter_map(|condition| match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => Some((left.as_ref(), right.as_ref())),
        _ => None,
    });
    join.on.iter().map(|(left, right)| (left, right)).chain(conditions)
}

/// What a plan does, for messages.
fn word(plan: &LogicalPlan) -> String {
    plan.display().to_string().split([':', ' ']).next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn session() -> SessionContext {
        let ctx = SessionContext::new();
        for table in [
            "create table journeys (customer_id varchar, path varchar, value decimal(18, 4), share double, started_date date)",
            "create table sessions (customer_id varchar, session_id varchar)",
            "create table events (event_id varchar, channel varchar, batch bigint, occurred_at timestamp, lateness double)",
            "create table funnels (funnel varchar)",
            "create table as_of (as_of timestamp)",
            "create table paths (path varchar, journeys bigint)",
            "create view visits as select customer_id, unnest(make_array(path, path)) as path, value from journeys",
        ] {
            ctx.sql(table).await.unwrap().collect().await.unwrap();
        }
        ctx
    }

    async fn refusal(sql: &str) -> Option<String> {
        let keys = ["path".to_string()];
        let frame = session().await.sql(sql).await.unwrap();
        summed(frame, &keys, "journeys").err().map(|error| error.to_string())
    }

    #[tokio::test]
    async fn counts_and_sums_of_what_is_made_of_one_customer_add_up() {
        for sql in [
            "select path, count(*) as journeys from journeys group by path",
            "select path, count(*) as journeys, count(*) filter (where value > 1) as dear, sum(value) as value from visits group by path",
            "with by_customer as (select path, customer_id, count(*) as journeys from journeys group by path, customer_id)
             select path, cast(sum(journeys) as bigint) as journeys from by_customer group by path",
            "select path, count(distinct customer_id) as journeys from journeys group by path",
            "with by_customer as (select path, customer_id, max(value) as value from journeys group by path, customer_id)
             select path, cast(count(*) as bigint) as journeys, coalesce(sum(value), 0) as value from by_customer group by path",
            "select path, count(*) as journeys from funnels cross join journeys group by path",
            "select path, count(*) as journeys, count(session_id) as sessions
             from journeys left join sessions on journeys.customer_id = sessions.customer_id group by path",
            "with ranked as (
                 select *, row_number() over (partition by customer_id order by started_date) as rank from journeys
             ) select path, count(*) as journeys from ranked where rank = 1 group by path",
            "with once as (select distinct customer_id, path from journeys)
             select path, count(*) as journeys from once group by path",
            "select channel as path, count(*) as journeys from events group by channel",
            "select batch as path, count(*) as journeys, max(occurred_at) as newest, min(occurred_at) as oldest,
                 median(lateness) as lateness, max(length(channel)) as longest
             from events cross join funnels group by batch",
            "with of_batches as (select batch, channel, count(*) as events from events group by batch, channel)
             select channel as path, cast(sum(events) as bigint) as journeys from of_batches group by channel",
            "select path, count(*) as journeys, array_agg(share) as shares from journeys group by path",
            "select path, count(*) as journeys, array_sort(array_agg(share)) as shares from journeys group by path",
            "with all_of_them as (select customer_id, path from journeys union all select customer_id, path from visits)
             select path, count(*) as journeys from all_of_them group by path order by path",
        ] {
            assert_eq!(refusal(sql).await, None, "{sql}");
        }
    }

    #[tokio::test]
    async fn an_extreme_of_nothing_is_nothing() {
        let ctx = session().await;
        ctx.sql("insert into events values ('a', 'web', 1, null, null)").await.unwrap().collect().await.unwrap();
        let sql = "select batch, count(*) as events, max(occurred_at) as newest, median(lateness) as lateness, \
                   min(length(channel)) filter (where channel = 'app') as shortest, sum(length(channel)) filter (where \
                   channel = 'app') as letters from events group by batch";
        let frame = summed(ctx.sql(sql).await.unwrap(), &["batch".to_string()], "events").unwrap();
        let rows = frame.collect().await.unwrap();
        let nulls: Vec<usize> = rows[0].columns().iter().map(|column| column.null_count()).collect();
        assert_eq!(nulls, [0, 0, 1, 1, 1, 0]);
    }

    #[tokio::test]
    async fn what_does_not_add_up_is_refused_with_its_reason() {
        for (sql, reason) in [
            ("select path, 1 as journeys from journeys", "`journeys` is worked out"),
            (
                "select channel as path, count(*) as journeys, max(occurred_at) as newest from events group by channel",
                "`newest` is Timestamp",
            ),
            (
                "select channel as path, count(*) as journeys, max(length(channel)) as longest from events group by channel",
                "`longest` is max",
            ),
            (
                "select batch as path, count(*) as journeys, sum(lateness) as lateness from events group by batch",
                "`lateness` is a sum of Float64",
            ),
            (
                "select journeys.path, count(*) as journeys, max(batch) as newest from events
                 inner join journeys on events.event_id = journeys.customer_id group by journeys.path",
                "a join by customer_id",
            ),
            (
                "select customer_id as path, count(*) as journeys, max(value) as value from journeys group by customer_id",
                "`value` is max",
            ),
            ("select path, count(*) as visits from journeys group by path", "no column `journeys`"),
            ("select path, count(*) as journeys, median(value) as value from journeys group by path", "`value` is median"),
            ("select path, count(*) as journeys, max(value) as value from journeys group by path", "`value` is max"),
            ("select path, count(*) as journeys, sum(share) as share from journeys group by path", "which add up exactly"),
            (
                "select path, count(*) as journeys, sum(value) / count(*) as value from journeys group by path",
                "`value` is worked out",
            ),
            (
                "select path, count(*) as journeys, cast(sum(value) as bigint) as value from journeys group by path",
                "`value` is worked out",
            ),
            (
                "select path, count(*) as journeys, array_agg(started_date) as days from journeys group by path",
                "or a list of bigint or double",
            ),
            ("select path, count(*) as journeys from journeys group by path having count(*) > 1", "left out"),
            ("select path, count(*) as journeys from journeys group by path order by 2 limit 5", "no group by"),
            ("select path, count(*) as journeys from journeys group by path, started_date", "grouped by and is no column"),
            (
                "select path, count(*) as journeys, extract(year from started_date) as year from journeys group by 1, 3",
                "`year` is grouped by and not of the grain",
            ),
            ("select path, count(distinct session_id) as journeys from journeys
              inner join sessions on journeys.customer_id = sessions.customer_id group by path", "several customers may share"),
            ("select path, count(*) as journeys from paths group by path", "`paths`, which has no customer_id"),
            ("select path, count(*) as journeys from journeys cross join as_of group by path", "logical time"),
            (
                "with daily as (select path, started_date from journeys group by path, started_date)
                 select path, count(*) as journeys from daily group by path",
                "group by customer_id",
            ),
            (
                "with once as (select distinct path from journeys)
                 select path, count(*) as journeys from once group by path",
                "distinct without their customer_id",
            ),
            (
                "with ranked as (select *, row_number() over (partition by path order by started_date) as rank from journeys)
                 select path, count(*) as journeys from ranked where rank = 1 group by path",
                "partition by customer_id",
            ),
            (
                "select path, count(*) as journeys from journeys
                 inner join sessions on journeys.path = sessions.session_id group by path",
                "a join by customer_id",
            ),
            (
                "select funnel as path, count(customer_id) as journeys
                 from funnels left join journeys on funnels.funnel = journeys.path group by funnel",
                "that no customer meets",
            ),
            (
                "select path, count(*) as journeys from journeys
                 where value > (select max(value) from journeys) group by path",
                "a query inside an expression",
            ),
            ("select path, count(*) as journeys from (select * from journeys limit 5) group by path", "it has limit"),
            ("select path, count(*) filter (where value > 1) as journeys from journeys group by path", "may be 0"),
            ("select path, sum(value) as journeys from journeys group by path", "may be 0"),
            ("select path, count(share) as journeys from journeys group by path", "may be 0"),
            (
                "select path, count(*) as journeys, count(*) filter (where value > (select avg(value) from journeys)) as dear
                 from journeys group by path",
                "a query inside an expression",
            ),
            (
                "select path, count(*) as journeys from journeys where started_date > current_date() group by path",
                "gives another answer each time",
            ),
            (
                "select path, count(*) as journeys, count(*) filter (where random() > 0.5) as some from journeys group by path",
                "gives another answer each time",
            ),
            ("select coalesce(path, '0') as path, count(*) as journeys from journeys group by journeys.path", "`path` is worked out"),
            (
                "select path, count(*) as journeys, array_agg(share order by value) as shares from journeys group by path",
                "an order of its own",
            ),
            ("select funnel as path, count(*) as journeys from funnels group by funnel", "no rows of customers"),
        ] {
            let refusal = refusal(sql).await.unwrap_or_else(|| panic!("is taken: {sql}"));
            assert!(refusal.contains(reason), "{sql}: {refusal}");
        }
    }

    #[tokio::test]
    async fn a_sum_of_nothing_is_nought() {
        let ctx = session().await;
        let sql = "insert into journeys values ('ann', 'a', null, null, null)";
        ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let sql = "select path, count(*) as journeys, sum(value) as value, array_agg(share) as shares \
                   from journeys group by path";
        let rows =
            summed(ctx.sql(sql).await.unwrap(), &["path".to_string()], "journeys").unwrap().collect().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
        assert!(text.contains("| a    | 1        | 0.0000 | []     |"), "{text}");
    }
}
