//! `show functions`: every function of a session, a row each, with what it does.
//!
//! DataFusion's own plan of the statement joins the types of results, which it takes from signatures. Ours depend on
//! the call, so that it would leave our functions out; and it knows no documentation of table functions. So the
//! statement is answered here, before DataFusion plans it, from the same documentation as everything else.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::common::Result;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::DataFrame;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{ShowStatementFilter, Statement as SqlStatement};

use super::documentation::{Documented, known_to};

/// Plans `show functions [like '…' | ilike '…']`; `None` for any other statement.
pub fn show_functions(ctx: &SessionContext, statement: &Statement) -> Result<Option<DataFrame>> {
    let Statement::Statement(statement) = statement else {
        return Ok(None);
    };
    let SqlStatement::ShowFunctions { filter } = statement.as_ref() else {
        return Ok(None);
    };
    let functions = known_to(&ctx.state());
    let column = |text: fn(&Documented) -> String| -> ArrayRef {
        Arc::new(functions.iter().map(|function| Some(text(function))).collect::<StringArray>())
    };
    let table = RecordBatch::try_from_iter([
        ("function_name", column(|function| function.name.clone())),
        ("function_type", column(|function| function.kind.to_uppercase())),
        ("syntax_example", column(|function| function.documentation.syntax_example.clone())),
        ("description", column(|function| function.documentation.description.clone())),
    ])?;
    let functions = ctx.read_batch(table)?;
    let functions = match filter {
        None => functions,
        Some(ShowStatementFilter::Like(pattern)) => {
            functions.filter(col("function_name").like(lit(pattern.as_str())))?
        }
        Some(ShowStatementFilter::ILike(pattern)) => {
            functions.filter(col("function_name").ilike(lit(pattern.as_str())))?
        }
        // DataFusion says what it does not know.
        Some(_) => return Ok(None),
    };
    Ok(Some(functions.sort_by(vec![col("function_name"), col("function_type")])?))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::config::Dialect;

    use super::*;
    use crate::functions::{documented, register_all};

    /// What is shown for a text; nothing also where it is no statement.
    fn show(ctx: &SessionContext, sql: &str) -> Option<DataFrame> {
        let statement = ctx.state().sql_to_statement(sql, &Dialect::Generic).ok()?;
        show_functions(ctx, &statement).unwrap()
    }

    /// Name, kind and description of what a statement shows.
    async fn shown(sql: &str) -> Vec<(String, String, String)> {
        let ctx = SessionContext::new();
        register_all(&ctx);
        let mut rows = vec![];
        for batch in show(&ctx, sql).unwrap().collect().await.unwrap() {
            let text =
                |column: &str, row| batch.column_by_name(column).unwrap().as_string::<i32>().value(row).to_owned();
            let row = |row| (text("function_name", row), text("function_type", row), text("description", row));
            rows.extend((0..batch.num_rows()).map(row));
        }
        rows
    }

    #[tokio::test]
    async fn every_function_of_ours_and_of_the_engine_is_shown_once() {
        let shown = shown("show functions").await;
        for documented in documented() {
            let found: Vec<_> = shown.iter().filter(|(name, _, _)| *name == documented.name).collect();
            assert_eq!(found.len(), 1, "{}", documented.name);
            assert_eq!(found[0].1, documented.kind.to_uppercase());
            assert_eq!(found[0].2, documented.documentation.description);
        }
        assert!(shown.iter().any(|(name, kind, _)| name == "row_number" && kind == "WINDOW"));
        assert!(shown.is_sorted());
    }

    #[tokio::test]
    async fn a_pattern_chooses_among_them() {
        let names = |rows: Vec<(String, String, String)>| rows.into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
        assert_eq!(
            names(shown("show functions like '%attribution'").await),
            ["markov_attribution", "shapley_attribution"]
        );
        assert_eq!(
            names(shown(" SHOW FUNCTIONS ILIKE 'Window_Funnel%';").await),
            ["window_funnel", "window_funnel_events"]
        );
        assert_eq!(
            names(shown("-- all of them\n/* of ours */ show functions like 'window_funnel'").await),
            ["window_funnel"]
        );
        assert!(shown("show functions like 'Window_Funnel%'").await.is_empty());
    }

    #[test]
    fn other_statements_are_left_to_the_engine() {
        let ctx = SessionContext::new();
        for sql in [
            "show tables",
            "select 1",
            "sho",
            "show functions where x",
            "show functions; select 1",
            "é",
            "-- show",
            "/* show",
        ] {
            assert!(show(&ctx, sql).is_none(), "{sql}");
        }
    }
}
