//! Times of every kind that the functions read, as whole numbers.
//!
//! A timestamp of any unit and zone and a date become microseconds; a whole number stays what it is, in a unit that
//! only its owner knows. Spans between such times follow: an interval, a duration, text such as `'30 minutes'` or whole
//! microseconds for the first, a whole number in their own unit for the second.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::common::{Result, exec_err, plan_err};

use super::arguments::{coerce_span, time_type};

/// Coerces an argument that is a time of any kind.
pub(crate) fn coerce_moment(function: &str, name: &str, data_type: &DataType) -> Result<DataType> {
    match data_type {
        DataType::Null => Ok(time_type()),
        _ if is_moment(data_type) => Ok(data_type.clone()),
        _ => plan_err!("{function}: expected {name} to be a timestamp, a date or a whole number, got {data_type}"),
    }
}

/// Coerces a span between times of the type `moment`.
pub(crate) fn coerce_span_between(function: &str, name: &str, moment: &DataType, span: &DataType) -> Result<DataType> {
    if !moment.is_integer() {
        return coerce_span(function, span);
    }
    if span.is_integer() || span.is_null() {
        return Ok(DataType::Int64);
    }
    plan_err!("{function}: expected {name} to be a whole number as the times are, got {span}")
}

/// Whether a type is one of time: a timestamp, a date or a whole number.
pub(crate) fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) || data_type.is_integer()
}

/// Times as microseconds or, where they are whole numbers, as they are.
pub(crate) fn to_moments(function: &str, array: &ArrayRef) -> Result<Int64Array> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let numbers = match array.data_type() {
        DataType::Timestamp(_, zone) => {
            let times = cast_with_options(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()), &options)?;
            cast_with_options(&times, &DataType::Int64, &options)?
        }
        DataType::Date32 | DataType::Date64 => {
            let times = cast_with_options(array, &DataType::Timestamp(TimeUnit::Microsecond, None), &options)?;
            cast_with_options(&times, &DataType::Int64, &options)?
        }
        other if other.is_integer() => cast_with_options(array, &DataType::Int64, &options)?,
        other => return exec_err!("{function}: expected times, got {other}"),
    };
    Ok(numbers.as_primitive::<Int64Type>().clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        Date32Array, Date64Array, Int8Array, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
        UInt64Array,
    };

    use super::*;

    #[test]
    fn times_of_every_kind_become_numbers() {
        const DAY: i64 = 86_400_000_000;
        let cases: Vec<(ArrayRef, i64)> = vec![
            (Arc::new(TimestampSecondArray::from(vec![Some(86_400), None]).with_timezone("+02:00")), DAY),
            (Arc::new(TimestampMillisecondArray::from(vec![Some(86_400_000), None])), DAY),
            (Arc::new(TimestampNanosecondArray::from(vec![Some(86_400_000_000_999), None])), DAY),
            (Arc::new(Date32Array::from(vec![Some(1), None])), DAY),
            (Arc::new(Date64Array::from(vec![Some(86_400_000), None])), DAY),
            (Arc::new(Int8Array::from(vec![Some(7), None])), 7),
            (Arc::new(UInt64Array::from(vec![Some(7), None])), 7),
        ];
        for (array, expected) in cases {
            let moments = to_moments("f", &array).unwrap();
            assert_eq!(moments.iter().collect::<Vec<_>>(), [Some(expected), None], "{}", array.data_type());
        }
    }

    #[test]
    fn a_time_out_of_range_is_an_error_and_not_a_null() {
        let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
        assert!(to_moments("f", &seconds).is_err());
        let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        assert!(to_moments("f", &numbers).is_err());
    }

    #[test]
    fn spans_are_in_the_unit_of_their_times() {
        let span = |moment: &DataType, span: &DataType| coerce_span_between("f", "gap", moment, span);
        assert_eq!(span(&DataType::Int32, &DataType::UInt8).unwrap(), DataType::Int64);
        assert_eq!(span(&time_type(), &DataType::Int32).unwrap(), DataType::Int64);
        assert!(matches!(span(&DataType::Date32, &DataType::Utf8).unwrap(), DataType::Interval(_)));
        let error = span(&DataType::Int64, &DataType::Utf8).unwrap_err().to_string();
        assert!(error.contains("f: expected gap to be a whole number as the times are, got Utf8"), "{error}");
        let error = coerce_moment("f", "ts", &DataType::Float64).unwrap_err().to_string();
        assert!(error.contains("f: expected ts to be a timestamp, a date or a whole number"), "{error}");
    }
}
