//! Tables for people: as wide as their values, or as a terminal.

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{ColumnConstraint, Row, Table, Width};

use crate::error::Result;

/// Lines as Arrow draws them.
const LINES: &str = "||--+-++|    ++++++";
/// Stands for what was cut.
const CUT: &str = "…";
/// No column is made narrower than this while others can give way.
const NARROWEST: usize = 6;
/// What surrounds a value: a line and two blanks.
const AROUND: usize = 1 + PADDING;
const PADDING: usize = 2;

/// How much of a result is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// Width of the terminal.
    pub width: Option<usize>,
    /// Rows of a table.
    pub max_rows: Option<usize>,
}

/// A table; where it is wider than `width`, wide values are cut, and then columns in the middle left out.
pub fn table(schema: &SchemaRef, batches: &[RecordBatch], width: Option<usize>) -> Result<Table> {
    let mut table = filled(schema, batches, LINES, |text| inert(&text).into_owned())?;
    let natural: Vec<usize> = table.column_max_content_widths().into_iter().map(usize::from).collect();
    let fits = |width: usize| natural.iter().map(|column| column + AROUND).sum::<usize>() < width;
    let Some(width) = width.filter(|width| !fits(*width)) else { return Ok(table) };

    let (kept, mut widths) = fit(&natural, width);
    if kept.len() < natural.len() {
        let middle = kept.len().div_ceil(2);
        let mut narrower = empty(LINES);
        let picked = |row: &Row| {
            let cells: Vec<String> = row.cell_iter().map(comfy_table::Cell::content).collect();
            let mut cells: Vec<String> = kept.iter().map(|column| cells[*column].clone()).collect();
            cells.insert(middle, CUT.to_string());
            cells
        };
        narrower.set_header(table.header().map(picked).unwrap_or_default());
        for row in table.row_iter() {
            narrower.add_row(picked(row));
        }
        table = narrower;
        widths.insert(middle, CUT.chars().count());
    }
    constrain(&mut table, &widths);
    Ok(table)
}

/// A Markdown table.
pub fn markdown(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Table> {
    filled(schema, batches, ASCII_MARKDOWN, |text| inert(&text.replace('|', "\\|").replace('\n', " ")).into_owned())
}

/// A text without characters that a terminal obeys, but for the ends of lines: those that move the cursor, change
/// colours or turn the line around.
pub fn inert(text: &str) -> Cow<'_, str> {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_obeyed = |c: char| (c.is_control() && c != '\n') || turns(c);
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_obeyed(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

fn empty(lines: &str) -> Table {
    let mut table = Table::new();
    table.load_preset(lines).set_truncation_indicator(CUT);
    // Values are cut where they must be, and not at their blanks.
    table.set_delimiter('\0');
    table
}

fn filled(schema: &SchemaRef, batches: &[RecordBatch], lines: &str, shown: fn(String) -> String) -> Result<Table> {
    let mut table = empty(lines);
    table.set_header(schema.fields().iter().map(|field| shown(field.name().clone())));
    let options = FormatOptions::default();
    for batch in batches {
        let columns: Result<Vec<ArrayFormatter<'_>>, _> =
            batch.columns().iter().map(|array| ArrayFormatter::try_new(array, &options)).collect();
        let columns = columns?;
        for row in 0..batch.num_rows() {
            table.add_row(columns.iter().map(|column| shown(column.value(row).to_string())));
        }
    }
    Ok(table)
}

/// A line per row, and columns of these widths.
fn constrain(table: &mut Table, widths: &[usize]) {
    if let Some(mut header) = table.header().cloned() {
        header.max_height(1);
        table.set_header(header);
    }
    for number in 0..table.row_count() {
        table.row_mut(number).expect("it was counted").max_height(1);
    }
    table.set_constraints(widths.iter().map(|width| {
        let padded = u16::try_from(width + PADDING).unwrap_or(u16::MAX);
        ColumnConstraint::Absolute(Width::Fixed(padded))
    }));
}

/// The columns that are kept, and their widths, so that a table is not wider than `width`: wide ones give way first, then
/// those in the middle.
fn fit(natural: &[usize], width: usize) -> (Vec<usize>, Vec<usize>) {
    let least = |column: usize| natural[column].min(NARROWEST) + AROUND;
    let mut kept: Vec<usize> = (0..natural.len()).collect();
    let mut room = width.saturating_sub(1);
    while kept.len() > 1 && kept.iter().map(|column| least(*column)).sum::<usize>() > room {
        if kept.len() == natural.len() {
            // The sign that stands for what is left out.
            room = room.saturating_sub(AROUND + 1);
        }
        kept.remove(kept.len() / 2);
    }
    // The widest columns share what the others leave.
    let mut room = room.saturating_sub(kept.len() * AROUND);
    let mut by_width = kept.clone();
    by_width.sort_by_key(|column| natural[*column]);
    let mut widths = vec![0; natural.len()];
    for (at, column) in by_width.iter().enumerate() {
        let share = room / (by_width.len() - at);
        widths[*column] = natural[*column].min(share).max(1);
        room = room.saturating_sub(widths[*column]);
    }
    let widths = kept.iter().map(|column| widths[*column]).collect();
    (kept, widths)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    fn drawn(columns: &[(&str, &str)], width: Option<usize>) -> String {
        let column = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, value)| (*name, column(value)))).unwrap();
        table(&batch.schema(), &[batch], width).unwrap().to_string()
    }

    #[test]
    fn a_table_that_fits_is_as_wide_as_its_values() {
        let columns = [("touchpoint", "home"), ("n", "12")];
        let expected =
            "+------------+----+\n| touchpoint | n  |\n+------------+----+\n| home       | 12 |\n+------------+----+";
        assert_eq!(drawn(&columns, None), expected);
        assert_eq!(drawn(&columns, Some(19)), expected);
    }

    #[test]
    fn wide_values_are_cut_to_the_width_of_the_terminal() {
        let columns = [("path", "home > product_view > add_to_cart > checkout"), ("journeys", "12")];
        let table = drawn(&columns, Some(30));
        assert!(table.lines().all(|line| line.chars().count() == 30), "{table}");
        assert!(table.contains("| home > product… | 12       |"), "{table}");
        assert!(!drawn(&columns, None).contains(CUT));
    }

    #[test]
    fn columns_in_the_middle_are_left_out_where_even_narrow_ones_do_not_fit() {
        let names: Vec<String> = (0..20).map(|number| format!("column_{number:02}")).collect();
        let columns: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "something")).collect();
        let table = drawn(&columns, Some(60));
        assert!(table.lines().all(|line| line.chars().count() <= 60), "{table}");
        let header = table.lines().nth(1).unwrap();
        assert!(header.contains("| … |") && header.starts_with("| column") || header.starts_with("| colu"), "{table}");
        assert!(drawn(&columns, Some(3)).contains(CUT), "the narrowest terminal gets a table too");
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_not_done() {
        let table = drawn(&[("text", "a\u{1b}[2J\nb")], None);
        assert!(table.contains("| a\\u{1b}[2J |\n| b          |"), "{table}");
        assert_eq!(inert("grün … ok"), "grün … ok");
    }
}
