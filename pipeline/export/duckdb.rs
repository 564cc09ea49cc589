//! Views of DuckDB over the marts, with comments.

use super::{File, Mart, Published, text};
use crate::models::header::quote;

const HEAD: &str = "\
-- The marts of a lake as views of DuckDB, with comments.
--
-- In a shell:   duckdb -init views.sql          in Python:  duckdb.execute(open(\"views.sql\").read())
-- Keep them:    duckdb marts.duckdb < views.sql (the views read the lake's files whenever they are asked)
-- A lake in an object store needs `install httpfs; load httpfs;` and `create secret` first.
--
-- Written by `wayline export duckdb`: write it again when marts or their columns have changed.
";

pub fn files(published: &Published<'_>) -> Vec<File> {
    let mut sql = String::from(HEAD);
    for mart in &published.marts {
        sql.push_str(&view(mart, &published.lake));
    }
    vec![File::new("views.sql", sql)]
}

fn view(mart: &Mart<'_>, lake: &str) -> String {
    let name = quote(mart.name());
    let mut sql = format!("\ncreate or replace view {name} as\n");
    if mart.has_files {
        let columns: Vec<String> = mart.columns.iter().map(|column| quote(&column.name)).collect();
        sql.push_str(&format!("select {}\nfrom {};\n", columns.join(", "), mart.in_duckdb(lake)));
    } else {
        // A glob that finds no file is an error in DuckDB.
        let columns: Vec<String> = mart
            .columns
            .iter()
            .map(|column| format!("cast(null as {}) as {}", column.data_type, quote(&column.name)))
            .collect();
        sql.push_str(&format!(
            "-- Nothing is published yet: export again when there is.\nselect {}\nwhere false;\n",
            columns.join(", ")
        ));
    }
    sql.push_str(&format!("comment on view {name} is {};\n", text(&mart.table.description)));
    for column in mart.columns.iter().filter(|column| column.meaning.is_some()) {
        sql.push_str(&format!("comment on column {name}.{} is {};\n", quote(&column.name), text(&column.comment())));
    }
    sql
}
