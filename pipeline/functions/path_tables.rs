//! `markov_attribution` and `shapley_attribution`: attribution over a table of paths, as a table.
//!
//! A table function of DataFusion gets constants, not tables. So these are not table functions to it: a planner of
//! relations, which sees the statement before that rule, turns a call into the aggregate over the query and the rows of
//! its result. What is planned has no node of its own: it optimises, explains and travels like any other query, and
//! what it reads stays visible in the statement.

use std::sync::{Arc, LazyLock};

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Column, DFSchema, NullHandling, Result, TableReference, UnnestOptions, plan_err};
use datafusion::execution::context::SessionContext;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{AggregateUDF, Documentation, Expr, LogicalPlan, LogicalPlanBuilder, ident};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Query, TableAlias, TableFactor, TableFunctionArgs as SqlArguments,
};

use super::documentation::{Example, Manual};
use super::markov::{self, MarkovRemoval};
use super::shapley::{self, Shapley};

/// The first argument of either function, for SQL users.
const QUERY: (&str, &str) = (
    "query",
    "A query in parentheses; its columns are, in order, path, conversions, nulls and perhaps \
     value; or touches, goals, starts and perhaps values.",
);

/// A function over a table of paths, called in `from`.
#[derive(Debug)]
pub struct PathTable {
    name: &'static str,
    /// The name of its second argument.
    parameter: &'static str,
    /// What it computes, a list of records.
    aggregate: Arc<AggregateUDF>,
    /// The fields of a record.
    fields: [&'static str; 4],
    documentation: Documentation,
}

impl PathTable {
    /// The name by which it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it does, for SQL users.
    pub fn documentation(&self) -> &Documentation {
        &self.documentation
    }

    /// Plans a call: the aggregate over the table, a row per record of its result, a column per field.
    fn plan(&self, paths: LogicalPlan, parameter: Expr) -> Result<LogicalPlan> {
        let columns: Vec<Expr> = paths.schema().columns().into_iter().map(Expr::Column).collect();
        if !(3..=4).contains(&columns.len()) {
            return plan_err!(
                "{}: expected a query of 3 or 4 columns (path, conversions, nulls, value), got {}",
                self.name,
                columns.len()
            );
        }
        let arguments = std::iter::once(parameter).chain(columns).collect();
        let records = self.aggregate.call(arguments).alias("record");
        let unnested = UnnestOptions::new().with_null_handling(NullHandling::Drop);
        let field = |name: &&'static str| get_field(ident("record"), *name).alias(*name);
        LogicalPlanBuilder::from(paths)
            .aggregate(Vec::<Expr>::new(), [records])?
            .unnest_column_with_options(Column::from_name("record"), unnested)?
            .project(self.fields.iter().map(field))?
            .alias(self.name)?
            .build()
    }
}

/// Every function over a table of paths.
pub fn path_tables() -> &'static [PathTable] {
    static TABLES: LazyLock<Vec<PathTable>> = LazyLock::new(|| {
        vec![
            PathTable {
                name: "markov_attribution",
                parameter: "order",
                aggregate: Arc::new(MarkovRemoval::default().into()),
                fields: ["channel", "removal_effect", "conversions", "value"],
                documentation: Manual {
                    syntax: &["markov_attribution((query), order)"],
                    summary: "Returns a row per channel of a table of paths: its exact Markov removal effect and its \
                              share of the conversions, as `markov_removal` computes them.",
                    arguments: &[
                        QUERY,
                        ("order", "Whole number from 1 to 4, a constant: how many touches say where a walk goes next."),
                    ],
                    example: Example {
                        query: "
                            select channel, removal_effect, conversions
                            from markov_attribution((
                              select * from (values (['web', 'store'], 3, 3), (['web'], 3, 3))
                                as paths(path, conversions, nulls)
                            ), 1)
                            order by channel
                        ",
                        rows: &["channel | removal_effect | conversions", "store | 0.5 | 2.0", "web | 1.0 | 4.0"],
                    },
                    returns: "table of `channel`, `removal_effect`, `conversions`, `value`, a row per channel; no \
                              rows for a table without paths.",
                    order: "none: neither the order of the paths matters nor has the result one.",
                    errors: "another number of arguments or columns, a table's name in place of a query, `lateral`, a \
                             sample, an ordinality and other clauses behind the call, at planning; and what \
                             `markov_removal` refuses.",
                    ..markov::MANUAL
                }
                .document(),
            },
            PathTable {
                name: "shapley_attribution",
                parameter: "game",
                aggregate: Arc::new(Shapley::default().into()),
                fields: ["channel", "shapley_value", "conversions", "value"],
                documentation: Manual {
                    syntax: &["shapley_attribution((query), game)"],
                    summary: "Returns a row per channel of a table of paths: its Shapley value and what it is \
                              credited with, as `shapley` computes them.",
                    arguments: &[
                        QUERY,
                        ("game", "Text, a constant: what a coalition is worth, `'conversions'` or `'rate'`."),
                    ],
                    example: Example {
                        query: "
                            select channel, shapley_value, conversions
                            from shapley_attribution((
                              select * from (values (['web', 'store'], 3, 1), (['web'], 1, 3))
                                as paths(path, conversions, nulls)
                            ), 'rate')
                            order by channel
                        ",
                        rows: &["channel | shapley_value | conversions", "store | 0.125 | 1.0", "web | 0.375 | 3.0"],
                    },
                    returns: "table of `channel`, `shapley_value`, `conversions`, `value`, a row per channel; no rows \
                              for a table without paths.",
                    order: "none: neither the order of the paths matters nor has the result one.",
                    errors: "another number of arguments or columns, a table's name in place of a query, `lateral`, a \
                             sample, an ordinality and other clauses behind the call, at planning; and what `shapley` \
                             refuses.",
                    ..shapley::MANUAL
                }
                .document(),
            },
        ]
    });
    &TABLES
}

/// Makes the functions known to a session.
pub(super) fn register(ctx: &SessionContext) {
    for table in path_tables() {
        ctx.register_udtf(table.name, Arc::new(Listed(table)));
    }
    // A session takes planners of relations always; the error is that of a build without SQL.
    ctx.register_relation_planner(Arc::new(PathTables)).expect("a session with SQL takes a planner of relations");
}

/// Plans calls of [`path_tables`] in `from`.
#[derive(Debug)]
struct PathTables;

impl RelationPlanner for PathTables {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let named = match &relation {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => name.clone(),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let Some(table) = context.object_name_to_table_reference(named).ok().and_then(|name| called(&name)) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let call = Call::of(table, relation)?;
        let parameter = context.sql_to_expr(call.parameter, &DFSchema::empty())?;
        let query = TableFactor::Derived { lateral: false, subquery: call.query, alias: None, sample: None };
        let plan = table.plan(context.plan(query)?, parameter)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias))))
    }
}

fn called(name: &TableReference) -> Option<&'static PathTable> {
    let TableReference::Bare { table: name } = name else {
        return None;
    };
    path_tables().iter().find(|table| *table.name == **name)
}

/// What a call says.
struct Call {
    query: Box<Query>,
    parameter: SqlExpr,
    alias: Option<TableAlias>,
}

impl Call {
    /// Reads a call; one with a clause that would not do what it says is refused.
    fn of(table: &PathTable, relation: TableFactor) -> Result<Self> {
        let name = table.name;
        let (arguments, alias) = match relation {
            TableFactor::Table {
                name: _,
                alias,
                args: Some(SqlArguments { args, settings }),
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                let unsupported = [
                    (settings.is_some(), "settings"),
                    (!with_hints.is_empty(), "hints"),
                    (version.is_some(), "a version of its table"),
                    (with_ordinality, "with ordinality"),
                    (!partitions.is_empty(), "a choice of partitions"),
                    (json_path.is_some(), "a path behind it"),
                    (sample.is_some(), "a sample of its rows"),
                    (!index_hints.is_empty(), "hints of indexes"),
                ];
                if let Some((_, clause)) = unsupported.iter().find(|(is_there, _)| *is_there) {
                    return plan_err!("{name}: {clause} is not supported; wrap the call in a query that does it");
                }
                (args, alias)
            }
            other => {
                let what = if matches!(other, TableFactor::Function { .. }) { "lateral" } else { "this call" };
                return plan_err!("{name}: {what} is not supported: its query sees no table beside it; join its rows");
            }
        };
        if let Some(alias) = &alias {
            if alias.columns.iter().any(|column| column.data_type.is_some()) {
                return plan_err!("{name}: a type behind a column's name is not supported; cast it in the select list");
            }
            if alias.at.is_some() {
                return plan_err!("{name}: at is not supported behind its name; number its rows with row_number()");
            }
        }
        let (query, parameter) = arguments_of(table, arguments)?;
        Ok(Self { query, parameter, alias })
    }
}

/// The query and the parameter of a call.
fn arguments_of(table: &PathTable, arguments: Vec<FunctionArg>) -> Result<(Box<Query>, SqlExpr)> {
    let (name, parameter) = (table.name, table.parameter);
    let count = arguments.len();
    let Ok([query, constant]) = <[FunctionArg; 2]>::try_from(arguments) else {
        return plan_err!("{name}: expected 2 arguments, (query) and {parameter}, got {count}");
    };
    let query = match query {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(SqlExpr::Subquery(query))) => query,
        other => {
            return plan_err!(
                "{name}: expected a query in parentheses, got {other}; \
                 write {name}((select path, conversions, nulls from …), {parameter})"
            );
        }
    };
    match constant {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(constant)) => Ok((query, constant)),
        other => plan_err!("{name}: expected {parameter} to be a constant, got {other}"),
    }
}

/// A function's entry in the engine's list of functions. A call is planned before the engine comes to it.
#[derive(Debug)]
struct Listed(&'static PathTable);

impl TableFunctionImpl for Listed {
    fn call_with_args(&self, _args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let PathTable { name, parameter, .. } = self.0;
        plan_err!(
            "{name}: expected a query in parentheses, as {name}((select path, conversions, nulls from …), {parameter})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::elements::testing::{error_of, rows_of};
    use super::*;

    const PATHS: &str = "(values (['web', 'store'], 3, 1, 30.5::decimal(9, 2)), (['web'], 1, 5, 10), \
                         (['store', 'web', 'store'], 2, 2, 4)) as paths(path, conversions, nulls, value)";

    #[tokio::test]
    async fn a_table_is_its_aggregate_unnested() {
        let cases = [
            ("markov_attribution", "2", "markov_removal", "removal_effect"),
            ("shapley_attribution", "'rate'", "shapley", "shapley_value"),
            ("shapley_attribution", "'conversions'", "shapley", "shapley_value"),
        ];
        for (table, parameter, aggregate, measure) in cases {
            let found =
                rows_of(&format!("select * from {table}((select * from {PATHS}), {parameter}) order by channel")).await;
            let expected = rows_of(&format!(
                "select r['channel'], r['{measure}'], r['conversions'], r['value'] from (select \
                 unnest({aggregate}({parameter}, path, conversions, nulls, value)) as r from {PATHS}) order by 1"
            ))
            .await;
            assert_eq!(found, expected);
            assert_eq!(found.len(), 2);
        }
    }

    #[tokio::test]
    async fn it_joins_aliases_and_reads_what_a_with_defines() {
        let sql = format!(
            "with paths as (select * from {PATHS}), costs(channel, cost) as (values ('web', 2), ('store', 3)) \
             select m.channel, round(m.conversions, 6), costs.cost, s.shapley_value \
             from Markov_Attribution((select path, conversions, nulls from paths where conversions > 0), 1) as m \
             join costs on costs.channel = m.channel \
             join shapley_attribution((select path, conversions, nulls from paths), 'conversions') as s \
             on s.channel = m.channel order by 1"
        );
        assert_eq!(rows_of(&sql).await, ["store | 3.29703 | 3 | 2.5", "web | 2.70297 | 2 | 3.5"]);
        let own_name =
            format!("select markov_attribution.channel from markov_attribution((select * from {PATHS}), 1) order by 1");
        assert_eq!(rows_of(&own_name).await, ["store", "web"]);
    }

    #[tokio::test]
    async fn an_alias_names_the_columns() {
        let call = format!("markov_attribution((select * from {PATHS}), 1)");
        let sql = format!(
            "select t.medium, t.effect > 0, t.credit > 0, t.earned > 0 from {call} as t(medium, effect, credit, earned) \
             order by medium"
        );
        assert_eq!(rows_of(&sql).await, ["store | true | true | true", "web | true | true | true"]);
        let error = error_of(&format!("select * from {call} as t(medium)")).await;
        assert!(error.contains("4 columns but only 1 names"), "{error}");
    }

    #[tokio::test]
    async fn it_stands_wherever_a_table_does() {
        let call = format!("shapley_attribution((select path, conversions, nulls from {PATHS}), 'conversions')");
        for (from, expected) in [
            (format!("(values ('web')) as v(channel) join {call} as t using (channel)"), 1),
            (format!("{call} as t left join (values ('web')) as v(channel) using (channel)"), 2),
            (format!("{call} as t full join {call} as other using (channel)"), 2),
            (format!("{call} as t cross join {call} as other"), 4),
            (format!("{call} as t, {call} as other"), 4),
            (format!("({call} as t join (values ('store')) as v(channel) using (channel))"), 1),
            (format!("(select * from {call} order by conversions limit 1) as t"), 1),
            (format!("(select * from {call} union all select * from {call}) as t"), 4),
        ] {
            assert_eq!(rows_of(&format!("select * from {from}")).await.len(), expected, "{from}");
        }
        let within = format!(
            "select channel, (select max(conversions) from {call}) from (values ('web'), ('call')) as v(channel) \
             where channel in (select channel from {call})"
        );
        assert_eq!(rows_of(&within).await, ["web | 3.5"]);
    }

    #[tokio::test]
    async fn clauses_that_would_be_passed_over_are_refused() {
        let call = format!("markov_attribution((select * from {PATHS}), 1)");
        for (from, message) in [
            (format!("{call} with ordinality"), "with ordinality is not supported"),
            (format!("{call} with ordinality as t(a, b, c, d, e)"), "with ordinality is not supported"),
            (format!("{call} tablesample bernoulli (10)"), "a sample of its rows is not supported"),
            (format!("{call} as t tablesample (10 rows)"), "a sample of its rows is not supported"),
            (format!("{call} with (nolock)"), "hints is not supported"),
            (format!("{call} as t(a int, b int, c int, d int)"), "a type behind a column's name is not supported"),
            (format!("(values (1)) as v(x), lateral {call}"), "lateral is not supported"),
            (format!("(values (1)) as v(x) cross join lateral {call} as t"), "lateral is not supported"),
            (format!("markov_attribution((select * from {PATHS}), 1, settings a = 1)"), "settings is not supported"),
        ] {
            let error = error_of(&format!("select * from {from}")).await;
            assert!(error.contains(message), "{from}: {error}");
        }
    }

    #[tokio::test]
    async fn a_table_without_paths_has_no_rows() {
        let sql = format!("select * from markov_attribution((select * from {PATHS} where false), 1)");
        assert!(rows_of(&sql).await.is_empty());
    }

    #[tokio::test]
    async fn wrong_calls_are_refused_while_planning() {
        let cases = [
            ("markov_attribution()", "expected 2 arguments, (query) and order, got 0"),
            (
                "markov_attribution('paths', 1)",
                "expected a query in parentheses, got 'paths'; write markov_attribution(",
            ),
            ("shapley_attribution(paths, 'rate')", "expected a query in parentheses, got paths"),
            ("markov_attribution((select 1), 1)", "expected a query of 3 or 4 columns"),
            ("markov_attribution((select ['a'], 1, 2), 5)", "expected order to be a whole number from 1 to 4, got 5"),
            ("markov_attribution((select ['a'], 1, 2), 'x')", "expected order to be a whole number from 1 to 4"),
            ("markov_attribution((select 'a', 1, 2), 1)", "expected a list of text"),
            ("shapley_attribution((select ['a'], 1, 2), 'x')", "expected game to be 'conversions' or 'rate', got x"),
        ];
        for (call, message) in cases {
            let error = error_of(&format!("select * from {call}")).await;
            assert!(error.contains("Error during planning") && error.contains(message), "{call}: {error}");
        }
    }

    #[tokio::test]
    async fn the_functions_are_listed() {
        let ctx =
            SessionContext::new_with_config(datafusion::prelude::SessionConfig::new().with_information_schema(true));
        super::super::register_all(&ctx);
        for table in path_tables() {
            let listed = format!("select * from information_schema.routines where routine_name = '{}'", table.name());
            assert_eq!(ctx.sql(&listed).await.unwrap().count().await.unwrap(), 1);
        }
    }
}
