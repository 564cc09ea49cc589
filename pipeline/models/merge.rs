//! Rows of one customer put together: their parallel lists become one list each, in the order of a time and an id.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat_batches, take};
use arrow::datatypes::TimestampMicrosecondType;
use hashbrown::HashMap;

use crate::error::{Error, Result};

/// Makes one row of all rows of a key. Every list column must be as long as `times` in each row; a column that is no list is
/// taken from the first row of its key. Rows come in the order in which their keys are seen first.
pub fn merge(batches: &[RecordBatch], key: &str, (times, ids): (&str, &str)) -> Result<Option<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(None) };
    let rows = concat_batches(&first.schema(), batches)?;
    let keys = column(&rows, key)?.as_string_opt::<i32>().ok_or_else(|| wrong(key, "text"))?;
    let times_of = list(&rows, times)?;
    let ids_of = list(&rows, ids)?;
    let time_values = times_of.values().as_primitive_opt::<TimestampMicrosecondType>();
    let time_values = time_values.ok_or_else(|| wrong(times, "a list of times"))?.values();
    let id_values: &StringArray = ids_of.values().as_string_opt::<i32>().ok_or_else(|| wrong(ids, "a list of ids"))?;

    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut rows_of: Vec<Vec<usize>> = Vec::new();
    for row in 0..rows.num_rows() {
        let place = *places.entry(keys.value(row)).or_insert(rows_of.len());
        if place == rows_of.len() {
            rows_of.push(Vec::with_capacity(1));
        }
        rows_of[place].push(row);
    }

    // Elements by row and place in it, in the order in which they are to stand.
    let mut elements: Vec<(usize, usize)> = Vec::with_capacity(time_values.len());
    let mut ends = vec![0];
    for of_key in &rows_of {
        let begin = elements.len();
        for row in of_key {
            elements.extend((0..times_of.value_length(*row) as usize).map(|place| (*row, place)));
        }
        if of_key.len() > 1 {
            let order = |(row, place): &(usize, usize)| {
                let time = time_values[times_of.value_offsets()[*row] as usize + place];
                (time, id_values.value(ids_of.value_offsets()[*row] as usize + place))
            };
            elements[begin..].sort_by(|a, b| order(a).cmp(&order(b)));
        }
        ends.push(i32::try_from(elements.len()).map_err(|_| Error::internal("2³¹ events at once"))?);
    }
    let ends = OffsetBuffer::new(ends.into());
    let firsts: UInt32Array = rows_of.iter().map(|rows| rows[0] as u32).collect();

    let columns = rows.columns().iter().zip(rows.schema_ref().fields()).map(|(column, field)| {
        let Some(lists) = column.as_list_opt::<i32>() else { return Ok(take(column, &firsts, None)?) };
        let is_as_long = |row: usize| lists.value_length(row) == times_of.value_length(row);
        if lists.null_count() > 0 || !(0..rows.num_rows()).all(is_as_long) {
            return Err(Error::invalid(format!("`{}` is not as long as `{times}`", field.name())));
        }
        let offsets = lists.value_offsets();
        let indices: UInt32Array = elements.iter().map(|(row, place)| offsets[*row] as u32 + *place as u32).collect();
        let values = take(lists.values(), &indices, None)?;
        let arrow::datatypes::DataType::List(item) = lists.data_type() else {
            return Err(wrong(field.name(), "a list"));
        };
        Ok(Arc::new(ListArray::try_new(item.clone(), ends.clone(), values, None)?) as ArrayRef)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(Some(RecordBatch::try_new(rows.schema(), columns)?))
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name).ok_or_else(|| Error::invalid(format!("merged by `{name}`, which is no column")))
}

fn list<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ListArray> {
    column(rows, name)?.as_list_opt::<i32>().ok_or_else(|| wrong(name, "a list"))
}

fn wrong(name: &str, expected: &str) -> Error {
    Error::invalid(format!("`{name}` is not what rows are merged by, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListBuilder, StringBuilder, TimestampMicrosecondBuilder};
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    fn rows(rows: &[(&str, &[(i64, &str)])]) -> RecordBatch {
        let mut times = ListBuilder::new(TimestampMicrosecondBuilder::new());
        let mut ids = ListBuilder::new(StringBuilder::new());
        for (_, events) in rows {
            for (time, id) in *events {
                times.values().append_value(*time);
                ids.values().append_value(id);
            }
            times.append(true);
            ids.append(true);
        }
        let keys = StringArray::from_iter_values(rows.iter().map(|(key, _)| key));
        RecordBatch::try_from_iter([
            ("customer_id", Arc::new(keys) as ArrayRef),
            ("ids", Arc::new(ids.finish())),
            ("times", Arc::new(times.finish())),
        ])
        .unwrap()
    }

    #[test]
    fn lists_of_a_customer_are_put_together_by_time_and_then_by_id() {
        let batches = [
            rows(&[("ann", &[(10, "c"), (20, "a")]), ("bob", &[(5, "x")])]),
            rows(&[("ann", &[(10, "b"), (30, "d")]), ("eve", &[]), ("ann", &[(0, "z")])]),
        ];
        let merged = merge(&batches, "customer_id", ("times", "ids")).unwrap().unwrap();
        let text = pretty_format_batches(&[merged.project(&[0, 1]).unwrap()]).unwrap().to_string();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        assert_eq!(
            lines,
            [
                "| ann         | [z, b, c, a, d] |",
                "| bob         | [x]             |",
                "| eve         | []              |"
            ]
        );
        let one_by_one = merge(&[merged], "customer_id", ("times", "ids")).unwrap().unwrap();
        assert_eq!(one_by_one.num_rows(), 3);
        assert!(merge(&[], "customer_id", ("times", "ids")).unwrap().is_none());
        let error = merge(&batches, "customer_id", ("times", "names")).unwrap_err();
        assert!(error.to_string().contains("`names`"), "{error}");
    }
}
