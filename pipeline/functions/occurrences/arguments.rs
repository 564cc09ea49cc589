//! Arguments of the aggregates over occurrences: the time and the conditions of a row, and constants.

use std::sync::Arc;

use datafusion::arrow::array::TimestampMicrosecondArray;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::{NullBuffer, ScalarBuffer};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Date32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::scalar::ScalarValue;

use super::super::arguments::{Spans, coerce_span, is_text, time_type};

/// The most conditions of a call, as in ClickHouse: one bit each.
pub(in super::super) const MOST_CONDITIONS: usize = 32;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

// ---------------------------------------------------------------------------------------------------------------
// Types, for planning
// ---------------------------------------------------------------------------------------------------------------

/// Coerces a time and the 1 to 32 conditions after it.
pub(in super::super) fn coerce_rows(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let Some((time, conditions)) = types.split_first() else {
        return plan_err!("{function}: expected a time and 1 to {MOST_CONDITIONS} conditions after it");
    };
    let mut coerced = vec![coerce_time(function, time)?];
    if conditions.is_empty() || conditions.len() > MOST_CONDITIONS {
        return plan_err!(
            "{function}: expected 1 to {MOST_CONDITIONS} conditions after the time, got {}",
            conditions.len()
        );
    }
    for (position, condition) in conditions.iter().enumerate() {
        if !matches!(condition, DataType::Boolean | DataType::Null) {
            return plan_err!(
                "{function}: expected condition {} to be boolean, got {condition}; compare it with a value",
                position + 1
            );
        }
        coerced.push(DataType::Boolean);
    }
    Ok(coerced)
}

/// Timestamps and days stay, a date in milliseconds becomes days, any integer becomes `Int64`.
fn coerce_time(function: &str, time: &DataType) -> Result<DataType> {
    match time {
        DataType::Timestamp(..) | DataType::Date32 => Ok(time.clone()),
        DataType::Date64 => Ok(DataType::Date32),
        DataType::Null => Ok(time_type()),
        other if other.is_integer() => Ok(DataType::Int64),
        other => plan_err!("{function}: expected the time to be a timestamp, a date or an integer, got {other}"),
    }
}

/// The type in which times are returned: timestamps in µs, UTC; dates and integers as they are.
pub(in super::super) fn returned_time_type(time: &DataType) -> DataType {
    match time {
        DataType::Timestamp(..) => time_type(),
        other => other.clone(),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Constants, for planning
// ---------------------------------------------------------------------------------------------------------------

fn not_constant<T>(function: &str, what: &str, expression: &dyn std::fmt::Display) -> Result<T> {
    plan_err!("{function}: expected {what} to be a constant, got {expression}")
}

/// The value of an argument that has to be a constant; `what` names it. Both phases of an aggregate know it.
pub(in super::super) fn constant(
    function: &str,
    what: &str,
    expression: &Arc<dyn PhysicalExpr>,
) -> Result<ScalarValue> {
    if !collect_columns(expression).is_empty() {
        return not_constant(function, what, expression);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let one_row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
    match expression.evaluate(&one_row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0),
    }
}

/// The same in a logical plan, so that a wrong constant is an error of planning; `None` while it is not known, as the
/// parameter of a prepared statement.
pub(in super::super) fn logical_constant(function: &str, what: &str, expression: &Expr) -> Result<Option<ScalarValue>> {
    match expression {
        Expr::Literal(value, _) => Ok(Some(value.clone())),
        Expr::Alias(alias) => logical_constant(function, what, &alias.expr),
        other if other.any_column_refs() => not_constant(function, what, other),
        _ => Ok(None),
    }
}

/// A constant text.
pub(in super::super) fn constant_text<'a>(function: &str, what: &str, value: &'a ScalarValue) -> Result<&'a str> {
    match value.try_as_str() {
        Some(Some(text)) => Ok(text),
        _ => plan_err!("{function}: expected {what} to be a text, got {value}"),
    }
}

/// Coerces a constant span between times: what [`coerce_span`] accepts for timestamps and dates, an integer for integers.
pub(in super::super) fn coerce_constant_span(
    function: &str,
    what: &str,
    span: &DataType,
    time: &DataType,
) -> Result<DataType> {
    if *time != DataType::Int64 {
        if !(span.is_integer() || span.is_temporal() || span.is_null() || is_text(span)) {
            return plan_err!(
                "{function}: expected {what} to be an interval, a duration or a whole number, got {span}"
            );
        }
        return coerce_span(function, span);
    }
    if span.is_integer() {
        return Ok(DataType::Int64);
    }
    let hint = if is_text(span) || span.is_temporal() { "; convert the time to a timestamp" } else { "" };
    plan_err!("{function}: expected {what} to be an integer, in the unit of the integer times, got {span}{hint}")
}

/// What a whole number in place of a span counts, as in ClickHouse, in the unit of stored times: seconds with timestamps,
/// days with dates, the unit of integers.
pub(in super::super) fn counted_unit(time: &DataType) -> i64 {
    match time {
        DataType::Int64 => 1,
        DataType::Date32 => MICROSECONDS_PER_DAY,
        _ => 1_000_000,
    }
}

/// A constant span in the unit of stored times: an interval or duration where times are timestamps or dates, or a whole
/// number of [`counted_unit`].
pub(in super::super) fn constant_span(function: &str, what: &str, value: &ScalarValue, time: &DataType) -> Result<i64> {
    if value.is_null() {
        return plan_err!("{function}: expected {what} to be a span of time, got null");
    }
    let coerced = coerce_constant_span(function, what, &value.data_type(), time)?;
    let unit = if coerced == DataType::Int64 { counted_unit(time) } else { 1 };
    let span = value.cast_to(&coerced).and_then(|span| Spans::of_argument(function, &ColumnarValue::Scalar(span)));
    match span.as_ref().map(|span| span.get(0)) {
        Ok(Some(span)) => match span.checked_mul(unit) {
            Some(span) => Ok(span),
            None => {
                plan_err!("{function}: wrong {}: expected at most {}", what.trim_start_matches("the "), i64::MAX / unit)
            }
        },
        Ok(None) => plan_err!("{function}: expected {what} to be a span of time, got null"),
        Err(error) => {
            let message = error.strip_backtrace();
            let what = what.trim_start_matches("the ");
            plan_err!(
                "{function}: wrong {what}: {}",
                message.rsplit_once(&format!("{function}: ")).map_or(message.as_str(), |(_, reason)| reason)
            )
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Values, for execution
// ---------------------------------------------------------------------------------------------------------------

/// The times of a batch as they are stored, and which are null.
pub(super) fn to_stored_times(function: &str, array: &ArrayRef) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>)> {
    let too_far = |error: &dyn std::fmt::Display| exec_datafusion_err!("{function}: a time is too far away: {error}");
    let times: ScalarBuffer<i64> = match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().values().clone(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().values().clone()
        }
        DataType::Timestamp(_, zone) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            let times = cast_with_options(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()), &options)
                .map_err(|error| too_far(&error))?;
            times.as_primitive::<TimestampMicrosecondType>().values().clone()
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>();
            let times = days.try_unary::<_, Int64Type, _>(|day| {
                i64::from(day).checked_mul(MICROSECONDS_PER_DAY).ok_or_else(|| too_far(&format!("day {day}")))
            })?;
            times.values().clone()
        }
        other => return exec_err!("{function}: expected times, got {other}"),
    };
    Ok((times, array.nulls().cloned()))
}

/// Stored times as an array of [`returned_time_type`].
pub(super) fn returned_times(times: Vec<i64>, time: &DataType) -> ArrayRef {
    match time {
        DataType::Timestamp(..) => Arc::new(TimestampMicrosecondArray::from(times).with_data_type(time_type())),
        DataType::Date32 => {
            Arc::new(times.into_iter().map(|time| Some((time / MICROSECONDS_PER_DAY) as i32)).collect::<Date32Array>())
        }
        _ => Arc::new(Int64Array::from(times)),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{TimestampNanosecondArray, TimestampSecondArray};
    use datafusion::arrow::datatypes::IntervalMonthDayNano;
    use datafusion::common::DataFusionError;
    use datafusion::logical_expr::{col, lit};
    use datafusion::physical_expr::expressions::{Column, lit as physical_lit};

    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        match result.unwrap_err() {
            DataFusionError::Plan(message) => message,
            other => panic!("not an error of planning: {other}"),
        }
    }

    #[test]
    fn times_and_conditions_are_coerced() {
        let second = DataType::Timestamp(TimeUnit::Second, Some("+02:00".into()));
        for (time, coerced) in [
            (second.clone(), second),
            (DataType::Date32, DataType::Date32),
            (DataType::Date64, DataType::Date32),
            (DataType::UInt16, DataType::Int64),
            (DataType::Null, time_type()),
        ] {
            let types = coerce_rows("f", &[time, DataType::Boolean, DataType::Null]).unwrap();
            assert_eq!(types, [coerced, DataType::Boolean, DataType::Boolean]);
        }
        let many = |count: usize| vec![DataType::Boolean; count];
        assert!(coerce_rows("f", &[vec![DataType::Int8], many(32)].concat()).is_ok());
        for (types, expected) in [
            (vec![], "f: expected a time and 1 to 32 conditions"),
            (vec![DataType::Int8], "f: expected 1 to 32 conditions after the time, got 0"),
            ([vec![DataType::Int8], many(33)].concat(), "f: expected 1 to 32 conditions after the time, got 33"),
            (vec![DataType::Utf8, DataType::Boolean], "f: expected the time to be a timestamp, a date or an integer"),
            (vec![DataType::Float64, DataType::Boolean], "f: expected the time to be a timestamp"),
            (
                vec![DataType::Int8, DataType::Boolean, DataType::Int8],
                "f: expected condition 2 to be boolean, got Int8",
            ),
        ] {
            let error = message(coerce_rows("f", &types));
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn spans_are_in_the_unit_of_the_times() {
        let week = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 7, 0)));
        let time = time_type();
        for (span, time, expected) in [
            (week.clone(), &time, 7 * MICROSECONDS_PER_DAY),
            (week.clone(), &DataType::Date32, 7 * MICROSECONDS_PER_DAY),
            (ScalarValue::DurationSecond(Some(2)), &time, 2_000_000),
            (ScalarValue::from("1 hour"), &time, 3_600_000_000),
            (ScalarValue::UInt8(Some(5)), &time, 5_000_000),
            (ScalarValue::UInt8(Some(5)), &DataType::Date32, 5 * MICROSECONDS_PER_DAY),
            (ScalarValue::UInt8(Some(5)), &DataType::Int64, 5),
        ] {
            assert_eq!(constant_span("f", "the window", &span, time).unwrap(), expected, "{span}");
        }
        let month = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(1, 0, 0)));
        for (span, time, expected) in [
            (month, &time, "f: wrong window: an interval of months has no fixed length"),
            (ScalarValue::Int64(Some(-1)), &time, "f: wrong window: a span must not be negative"),
            (ScalarValue::Int64(Some(i64::MAX)), &time, "f: wrong window: expected at most 9223372036854"),
            (ScalarValue::Int64(None), &time, "f: expected the window to be a span of time, got null"),
            (ScalarValue::from("soon"), &time, "f: wrong window"),
            (
                ScalarValue::Float64(Some(1.5)),
                &time,
                "f: expected the window to be an interval, a duration or a whole number, got Float64",
            ),
            (week, &DataType::Int64, "f: expected the window to be an integer, in the unit of the integer times"),
            (ScalarValue::Float64(Some(1.5)), &DataType::Int64, "got Float64"),
        ] {
            let error = message(constant_span("f", "the window", &span, time));
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn constants_are_read_in_both_plans() {
        let value = constant("f", "the window", &physical_lit(5i64)).unwrap();
        assert_eq!(value, ScalarValue::Int64(Some(5)));
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("hours", 0));
        let error = message(constant("f", "the window", &column));
        assert!(error.contains("f: expected the window to be a constant, got hours@0"), "{error}");
        assert_eq!(logical_constant("f", "the window", &lit(5i64)).unwrap(), Some(value));
        assert!(message(logical_constant("f", "the window", &col("hours"))).contains("to be a constant, got hours"));
        let parameter =
            Expr::Placeholder(datafusion::logical_expr::expr::Placeholder::new_with_field("$1".into(), None));
        assert_eq!(logical_constant("f", "the window", &parameter).unwrap(), None);
        assert!(constant_text("f", "the mode", &ScalarValue::Int64(Some(1))).is_err());
        assert_eq!(constant_text("f", "the mode", &ScalarValue::Utf8View(Some("a".into()))).unwrap(), "a");
    }

    #[test]
    fn times_of_every_type_are_stored_and_returned() {
        let day = Date32Array::from(vec![Some(-1), None]);
        let (times, nulls) = to_stored_times("f", &(Arc::new(day.clone()) as ArrayRef)).unwrap();
        assert_eq!((times[0], nulls.unwrap().is_null(1)), (-MICROSECONDS_PER_DAY, true));
        assert_eq!(returned_times(vec![times[0]], &DataType::Date32).as_ref(), &day.slice(0, 1) as &dyn Array);

        let nanoseconds: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_500]));
        assert_eq!(to_stored_times("f", &nanoseconds).unwrap().0.to_vec(), [1]);
        assert_eq!(returned_times(vec![1], nanoseconds.data_type()).data_type(), &time_type());
        assert_eq!(returned_time_type(nanoseconds.data_type()), time_type());
        assert_eq!(returned_times(vec![1], &DataType::Int64).data_type(), &DataType::Int64);

        let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
        assert!(to_stored_times("f", &far).unwrap_err().to_string().contains("f: a time is too far away"));
        let far: ArrayRef = Arc::new(Date32Array::from(vec![i32::MAX]));
        assert!(to_stored_times("f", &far).unwrap_err().to_string().contains("f: a time is too far away"));
    }
}
