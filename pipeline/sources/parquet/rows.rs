//! Rows: a batch of a Parquet file becomes the requested columns and `properties`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder, StructArray, UInt32Array, new_null_array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;

use super::super::filter::copy_filtered;
use super::super::json::JsonColumn;
use super::super::limits::Limits;
use super::super::plan::{Layout, Plan};
use super::super::{Damage, Decoded, PROPERTIES, Records, Syntax};
use crate::error::{Error, Result};

/// Decodes one batch; its first row has the number `first`.
pub(super) fn decode(batch: RecordBatch, first: u64, plan: &Plan, limits: &Limits) -> Result<Decoded, Damage> {
    let rows = batch.num_rows();
    let mut fields = Vec::with_capacity(plan.columns.len() + 1);
    let mut arrays = Vec::with_capacity(plan.columns.len() + 1);
    for column in &plan.columns {
        let array = match (batch.column_by_name(&column.name), &column.inner) {
            (None, _) => new_null_array(&column.text_type(), rows),
            (Some(array), None) => Arc::clone(array),
            (Some(array), Some(inner)) => match is_text(array.data_type()) {
                true => members_of_text(array, inner, limits)?,
                false => members_of(array, &column.layout, &column.name)?,
            },
        };
        fields.push(Field::new(&column.name, array.data_type().clone(), true));
        arrays.push(array);
    }
    if plan.properties {
        fields.push(Field::new(PROPERTIES, DataType::Utf8, true));
        arrays.push(properties(&batch, plan, limits)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let decoded = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
    Ok(Decoded {
        batch: decoded.map_err(Error::from)?,
        records: Records::Rows { batch, first },
        rejected: Vec::new(),
        blank_lines: 0,
        flags: Vec::new(),
        syntax: Syntax::Json,
    })
}

/// One row as a JSON object.
pub(in super::super) fn record_as_json(batch: &RecordBatch, row: usize) -> Result<Bytes> {
    let mut line = render(&batch.slice(row, 1))?;
    line.truncate(line.trim_ascii_end().len());
    Ok(line.into())
}

fn render(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

fn properties(batch: &RecordBatch, plan: &Plan, limits: &Limits) -> Result<ArrayRef, Damage> {
    let is_copied = |name: &str| plan.find_withheld(0, name).is_none_or(|member| !member.taken && !member.dropped);
    let fields = batch.schema_ref().fields().iter().enumerate();
    let others: Vec<usize> = fields.filter(|(_, field)| is_copied(field.name())).map(|(index, _)| index).collect();
    let mut texts = StringBuilder::new();
    if others.is_empty() {
        texts.append_nulls(batch.num_rows());
        return Ok(Arc::new(texts.finish()));
    }
    let refused = |error: ArrowError| Damage::file("parquet_schema", format!("no JSON for a column: {error}"));
    let lines = render(&batch.project(&others).map_err(refused)?).map_err(refused)?;
    let lines = String::from_utf8(lines).map_err(|error| Damage::file("parquet_corrupt", error.to_string()))?;
    let mut filtered = String::new();
    for line in lines.lines() {
        let text = match plan.nodes[0].drops {
            false => line,
            true => {
                filtered.clear();
                copy_filtered(line, 0, plan, limits, &mut filtered);
                &filtered
            }
        };
        match text {
            "{}" => texts.append_null(),
            text => texts.append_value(text),
        }
    }
    Ok(Arc::new(texts.finish()))
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn members_of_text(array: &ArrayRef, inner: &Plan, limits: &Limits) -> Result<ArrayRef> {
    let texts = cast(array, &DataType::Utf8View)?;
    let mut column = JsonColumn::new(inner, limits, texts.len());
    texts.as_string_view().iter().for_each(|text| column.push(text));
    column.finish()
}

/// The members of a struct or map that the layout asks for; `path` names it.
fn members_of(array: &ArrayRef, layout: &Layout, path: &str) -> Result<ArrayRef, Damage> {
    let Layout::Object { members, .. } = layout else { return Ok(Arc::clone(array)) };
    let mut fields = Vec::with_capacity(members.len());
    let mut arrays = Vec::with_capacity(members.len());
    for (name, layout) in members {
        let found = match array.data_type() {
            DataType::Struct(_) => array.as_struct().column_by_name(name).cloned(),
            DataType::Map(_, _) => Some(values_of_key(array, name)?),
            DataType::Null => None,
            other => {
                let detail = format!("`{path}` is {other}; members of it are read, so it must be a struct");
                return Err(Damage::file("schema_conflict", detail));
            }
        };
        let member = match found {
            Some(found) => members_of(&found, layout, &format!("{path}.{name}"))?,
            None => new_null_array(&layout.text_type(), array.len()),
        };
        fields.push(Field::new(name, member.data_type().clone(), true));
        arrays.push(member);
    }
    Ok(Arc::new(StructArray::new(fields.into(), arrays, array.logical_nulls())))
}

/// A map's values of one key, a row each; of a key given twice, the first.
fn values_of_key(array: &ArrayRef, name: &str) -> Result<ArrayRef, Damage> {
    let map = array.as_map();
    let keys = cast(map.keys(), &DataType::Utf8View).map_err(Error::from)?;
    let keys = keys.as_string_view();
    let indices: UInt32Array = (0..map.len())
        .map(|row| {
            let entries = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
            let mut entries = entries.filter(|_| map.is_valid(row));
            entries.find(|entry| keys.value(*entry) == name).map(|entry| entry as u32)
        })
        .collect();
    Ok(take(map.values(), &indices, None).map_err(Error::from)?)
}
