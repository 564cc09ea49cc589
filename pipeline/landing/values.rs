//! Values of mapped columns: brought to the types of events, or refused.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, RecordBatch, StringArray, StringBuilder};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatchOptions;
use arrow::util::display::FormatOptions;

use super::events::MONEY;
use super::time::Refusal;
use crate::error::Result;

/// Longest text that a touchpoint, channel or other name may have, in bytes.
const MAX_NAME_BYTES: usize = 1024;

/// A schema with the type of each value replaced, within structs too.
pub(super) fn with_types(schema: &Schema, replace: &dyn Fn(&DataType) -> DataType) -> Schema {
    fn replaced(data_type: &DataType, replace: &dyn Fn(&DataType) -> DataType) -> DataType {
        match data_type {
            DataType::Struct(fields) => {
                let member = |field: &FieldRef| Field::new(field.name(), replaced(field.data_type(), replace), true);
                DataType::Struct(fields.iter().map(member).collect())
            }
            other => replace(other),
        }
    }
    let fields = schema.fields().iter();
    Schema::new(
        fields.map(|field| Field::new(field.name(), replaced(field.data_type(), replace), true)).collect::<Vec<_>>(),
    )
}

pub(super) fn as_text(data_type: &DataType) -> DataType {
    if can_cast_types(data_type, &DataType::Utf8) { DataType::Utf8 } else { data_type.clone() }
}

pub(super) fn to_types(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = std::iter::zip(batch.columns(), schema.fields());
    let columns = columns.map(|(array, field)| match array.data_type() == field.data_type() {
        true => Ok(array.clone()),
        false => identifier_array(array, field.data_type()),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns.collect::<Result<_>>()?, &options)?)
}

/// Whole numbers that came as floats become text without a fraction: the id 123 is `123`, not `123.0`.
fn identifier_array(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    /// Up to here a float tells all whole numbers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !array.data_type().is_floating() || *data_type != DataType::Utf8 {
        return convert(array, data_type);
    }
    let (floats, texts) = (convert(array, &DataType::Float64)?, text(array)?);
    let floats = floats.as_primitive::<Float64Type>();
    let whole = |number: f64| number.fract() == 0.0 && number.abs() < EXACT;
    let texts = std::iter::zip(floats, &texts).map(|(number, text)| match number {
        Some(number) if whole(number) => Some((number as i64).to_string()),
        _ => text.map(str::to_string),
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

pub(super) fn identifier_text(array: &ArrayRef) -> Result<StringArray> {
    Ok(identifier_array(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// The first refusal of each row.
pub(super) struct Refusals {
    pub of_row: Vec<Option<Box<Refusal>>>,
    /// What is refused now is made of what is pseudonymised, so its details are not shown.
    pub is_private: bool,
    /// Oddities that refuse nothing, with their counts.
    pub flags: Vec<(&'static str, u64)>,
}

impl Refusals {
    pub fn new(rows: usize) -> Self {
        Self { of_row: (0..rows).map(|_| None).collect(), is_private: false, flags: Vec::new() }
    }

    /// Refuses a row for the column that a name tells, unless it is refused already.
    pub fn refuse(&mut self, row: usize, reason: &'static str, name: &str, detail: impl FnOnce() -> String) {
        let shown = || match self.is_private {
            true => format!("{name}: not shown, it is made of what is pseudonymised"),
            false => detail(),
        };
        if self.of_row[row].is_none() {
            self.of_row[row] = Some(Box::new(Refusal { reason, detail: shown() }));
        }
    }

    pub fn into_rows(self) -> Vec<(usize, Refusal)> {
        self.of_row.into_iter().enumerate().filter_map(|(row, refusal)| Some((row, *refusal?))).collect()
    }
}

/// Casts; what cannot be cast becomes null.
pub(super) fn convert(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: true, format_options: FormatOptions::default() };
    Ok(cast_with_options(array, data_type, &options)?)
}

pub(super) fn text(array: &ArrayRef) -> Result<StringArray> {
    Ok(convert(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// A text column: trimmed, empty is null; required and overlong ones are refused.
pub(super) fn names(array: &ArrayRef, name: &str, required: bool, refusals: &mut Refusals) -> Result<StringArray> {
    let texts = text(array)?;
    let is_clean = |text: Option<&str>| {
        text.is_none_or(|text| !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.trim().len() == text.len())
    };
    if texts.iter().all(is_clean) && !(required && texts.null_count() > 0) {
        return Ok(texts);
    }
    let mut cleaned = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    for (row, given) in texts.iter().enumerate() {
        let trimmed = given.map(str::trim);
        match trimmed {
            Some(text) if text.len() > MAX_NAME_BYTES => {
                refusals.refuse(row, "field_too_long", name, || {
                    format!("{name} has {} bytes, at most {MAX_NAME_BYTES} are kept", text.len())
                });
                cleaned.append_null();
            }
            Some(text) if !text.is_empty() => cleaned.append_value(text),
            _ => {
                if required {
                    refusals.refuse(row, "missing_field", name, || {
                        format!("{name} is {}", if trimmed.is_some() { "empty" } else { "missing" })
                    });
                }
                cleaned.append_null();
            }
        }
    }
    Ok(cleaned.finish())
}

/// A number with four digits after the point, also of `1.5e2`; text that is no number is refused.
pub(super) fn decimals(array: &ArrayRef, name: &str, refusals: &mut Refusals) -> Result<Decimal128Array> {
    let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let source = if is_text {
        let trimmed = text(array)?
            .iter()
            .map(|text| text.map(str::trim).filter(|text| !text.is_empty()).map(without_exponent))
            .collect::<StringArray>();
        let rounded = trimmed.iter().flatten().filter(|text| is_finer(text)).count() as u64;
        if rounded > 0 {
            refusals.flags.push(("number_rounded", rounded));
        }
        Arc::new(trimmed) as ArrayRef
    } else {
        array.clone()
    };
    let converted = convert(&source, &MONEY)?;
    if converted.null_count() > source.null_count() {
        let shown = text(&source)?;
        for row in 0..source.len() {
            if source.is_valid(row) && converted.is_null(row) {
                refusals.refuse(row, "type_mismatch", name, || {
                    format!(
                        "{name}: `{}` is no number that fits",
                        shown.value(row).chars().take(64).collect::<String>()
                    )
                });
            }
        }
    }
    Ok(converted.as_primitive::<arrow::datatypes::Decimal128Type>().clone())
}

/// Whether a number without an exponent has more digits behind its point than money keeps.
fn is_finer(text: &str) -> bool {
    const DIGITS: usize = 4;
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().skip(DIGITS).any(|digit| digit != b'0')
}

/// `150` for `1.5e2`, as JSON may write it; other text stays.
fn without_exponent(text: &str) -> String {
    let plain = || {
        let (digits, exponent) = text.split_once(['e', 'E'])?;
        let exponent = exponent.parse::<i32>().ok().filter(|exponent| *exponent < 64)?;
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || ![whole, fraction].concat().bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        if exponent < -64 {
            // Less than any digit that is kept, and not nothing unless all digits are.
            let last = if digits.bytes().all(|digit| digit == b'0') { "0" } else { "1" };
            return Some(format!("{sign}0.{}{last}", "0".repeat(20)));
        }
        let point = i32::try_from(whole.len()).ok()? + exponent;
        Some(match usize::try_from(point) {
            Ok(0) | Err(_) => format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
            Ok(point) if point >= digits.len() => format!("{sign}{digits}{}", "0".repeat(point - digits.len())),
            Ok(point) => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        })
    };
    plain().unwrap_or_else(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_an_exponent_are_written_out() {
        for (text, expected) in [
            ("1.5e2", "150"),
            ("1e3", "1000"),
            ("-12.5E-1", "-1.25"),
            ("1e-3", "0.001"),
            ("2.50e+1", "25.0"),
            ("1e99", "1e99"),
            ("1e-400", "0.000000000000000000001"),
            ("-0e-400", "-0.000000000000000000000"),
            ("e5", "e5"),
            ("1.2.3e1", "1.2.3e1"),
            ("five", "five"),
        ] {
            assert_eq!(without_exponent(text), expected, "{text}");
        }
    }
}
