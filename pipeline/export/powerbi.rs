//! A Power Query for each mart.

use super::{File, Mart, Published};
use crate::dictionary::Column;

const HEAD: &str = "\
// Power BI Desktop: Get data > Blank query > Advanced editor, paste this and name the query as the table is named.
// Lake is the folder of the lake as this computer sees it; a lake in an object store is synchronised to a folder first.
// Times are UTC.
// Written by `wayline export powerbi`: write it again when marts or their columns have changed.
";

pub fn files(published: &Published<'_>) -> Vec<File> {
    published.marts.iter().map(|mart| File::new(format!("{}.pq", mart.name()), query(mart, &published.lake))).collect()
}

fn query(mart: &Mart<'_>, lake: &str) -> String {
    let mut text = format!("{HEAD}//\n// {}\n", mart.table.description);
    for column in mart.columns.iter().filter(|column| column.meaning.is_some()) {
        text.push_str(&format!("//   {}: {}\n", column.name, column.comment()));
    }
    text.push_str(&format!("let\n    Lake = {},\n", m_text(lake)));
    match mart.day {
        None => text.push_str(&format!(
            "    Source = Parquet.Document(File.Contents(Lake & {})),\n",
            m_text(&format!("/{}", mart.path))
        )),
        Some(day) => text.push_str(&by_day(mart, day)),
    }
    let types: Vec<String> = mart
        .columns
        .iter()
        .filter_map(|column| Some(format!("{{{}, {}}}", m_text(&column.name), m_type(column)?)))
        .collect();
    text.push_str(&format!(
        "    Typed = Table.TransformColumnTypes(Source, {{\n        {}\n    }})\nin\n    Typed\n",
        types.join(",\n        ")
    ));
    text
}

/// Reads a folder of one file per day, whose day stands in the path.
fn by_day(mart: &Mart<'_>, day: &str) -> String {
    let inner: Vec<String> =
        mart.columns.iter().filter(|column| column.name != day).map(|column| m_text(&column.name)).collect();
    let inner = inner.join(", ");
    let (name, label) = (mart.name(), m_text(day));
    let marker = m_text(&format!("{day}="));
    format!(
        "    Files = Table.SelectRows(Folder.Files(Lake & \"/marts/{name}\"), each [Extension] = \".parquet\"),\n    \
         Days = Table.AddColumn(Files, {label}, each try Date.FromText(Text.Start(\
         Text.AfterDelimiter([Folder Path], {marker}), 10)) otherwise null),\n    \
         Read = Table.AddColumn(Days, \"Rows\", each Parquet.Document([Content])),\n    \
         Kept = Table.SelectColumns(Read, {{{label}, \"Rows\"}}),\n    \
         Source = Table.ExpandTableColumn(Kept, \"Rows\", {{{inner}}}),\n"
    )
}

/// The type of a column; times stay as they are read.
fn m_type(column: &Column) -> Option<&'static str> {
    let is_money = column.unit.as_deref() == Some("units of currency");
    match column.data_type.as_str() {
        "varchar" => Some("type text"),
        "bigint" | "integer" | "smallint" | "tinyint" => Some("Int64.Type"),
        "boolean" => Some("type logical"),
        "date" => Some("type date"),
        "double" | "real" => Some("type number"),
        decimal if decimal.starts_with("decimal") => Some(if is_money { "Currency.Type" } else { "type number" }),
        _ => None,
    }
}

/// A text as M has it: quotes doubled, control characters and what would be read as one of them by their numbers.
fn m_text(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.replace("#(", "#(#)(").chars() {
        match c {
            '"' => text.push_str("\"\""),
            c if c.is_control() => text.push_str(&format!("#({:04x})", u32::from(c))),
            c => text.push(c),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_written_as_power_query_reads_them() {
        assert_eq!(m_text("marts"), "\"marts\"");
        assert_eq!(m_text("C:\\lake \"one\""), "\"C:\\lake \"\"one\"\"\"");
        assert_eq!(m_text("a\tb\\#(c"), "\"a#(0009)b\\#(#)(c\"");
    }
}
