//! Sources and a page of Evidence, over DuckDB.

use super::questions::{Chart, Question, answerable};
use super::{File, Mart, Published};
use crate::models::header::quote;

const README: &str = "\
# Pages of Evidence over a lake

1. Make a project: `npx degit evidence-dev/template my-pages && cd my-pages && npm install`.
2. Copy `sources/` and `pages/` into it; `npm install @evidence-dev/duckdb` if its DuckDB connector is not there.
3. `npm run sources && npm run dev`. Run `npm run sources` again after each run of wayline.

Written by `wayline export evidence`: yours from now on.
";

const CONNECTION: &str = "\
# How to use: sources/wayline of a project of Evidence. The queries beside it read the marts of the lake.
name: wayline
type: duckdb
options:
  filename: ':memory:'
";

pub fn files(published: &Published<'_>) -> Vec<File> {
    let mut files = vec![
        File::new("README.md", README.into()),
        File::new("sources/wayline/connection.yaml", CONNECTION.into()),
        File::new("pages/index.md", page(&answerable(published))),
    ];
    let marts = published.marts.iter().filter(|mart| mart.has_files);
    files.extend(
        marts.map(|mart| File::new(format!("sources/wayline/{}.sql", mart.name()), source(mart, &published.lake))),
    );
    files
}

fn source(mart: &Mart<'_>, lake: &str) -> String {
    let columns: Vec<String> = mart.columns.iter().map(|column| format!("    {}", quote(&column.name))).collect();
    format!("-- {}\nselect\n{}\nfrom {}\n", mart.table.description, columns.join(",\n"), mart.in_duckdb(lake))
}

/// The marts of the source are called `wayline.<mart>` here.
fn page(questions: &[Question<'_>]) -> String {
    let mut text = String::from(
        "---\ntitle: Customer journeys\n---\n\n\
         <!-- How to use: pages/ of a project of Evidence, with sources/wayline beside it. -->\n",
    );
    for question in questions {
        let of_source = format!("from wayline.{}", question.mart);
        let sql = question.sql(|_| "true".into()).replace(" where true", "");
        let sql = sql.replace(&format!("from {}", question.mart), &of_source);
        let name = question.name;
        text.push_str(&format!("\n## {}\n\n```sql {name}\n{}\n```\n\n", question.title, laid_out(&sql)));
        text.push_str(&match question.chart {
            Chart::Number if name.ends_with("_rate") => format!("<BigValue data={{{name}}} value={name} fmt=pct1 />\n"),
            Chart::Number => format!("<BigValue data={{{name}}} value={name} />\n"),
            Chart::Bars => {
                let (names, measure) = columns(&sql);
                format!("<BarChart data={{{name}}} x={names} y={measure} swapXY=true sort=false />\n")
            }
            Chart::Lines => format!("<LineChart data={{{name}}} x=day />\n"),
            Chart::Table => format!("<DataTable data={{{name}}} rows=20 />\n"),
        });
    }
    text
}

/// A clause a line.
fn laid_out(sql: &str) -> String {
    let clauses = ["from", "where", "group by", "order by", "limit"];
    clauses.iter().fold(sql.to_string(), |sql, clause| sql.replace(&format!(" {clause} "), &format!("\n{clause} ")))
}

/// Names of the two columns of bars.
fn columns(sql: &str) -> (String, String) {
    let list = sql.strip_prefix("select ").and_then(|rest| rest.split_once(" from ")).map_or("", |(list, _)| list);
    // The last comma stands between them: a measure has none.
    let (first, second) = list.rsplit_once(", ").unwrap_or((list, ""));
    let name = |column: &str| column.rsplit(' ').next().unwrap_or_default().to_string();
    (name(first), name(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_bars_are_told_by_the_query() {
        let of = |sql: &str| columns(sql);
        assert_eq!(of("select concat(a, ' ', b) as step, sum(c) as reached from x"), ("step".into(), "reached".into()));
        assert_eq!(of("select path, count(*) as journeys from x"), ("path".into(), "journeys".into()));
    }
}
