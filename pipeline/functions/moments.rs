//! Times of every type as whole numbers, and spans between them.
//!
//! A moment is a timestamp of any unit and zone, a date or a whole number. Functions keep it as an `i64`: timestamps and
//! dates as microseconds, UTC, whole numbers as they are, in a unit that only their owner knows.
//!
//! Planning: [`coerce_moment`] for an argument, [`is_moment`] for the elements of a list, [`returned_type`].
//! Execution: [`to_moments`] on the way in, [`returned_moments`] on the way out.
//! Spans:     [`coerce_span_between`] and [`Spans`] for one that may change from row to row, [`constant_span`] for one that
//!            may not.

mod spans;

use std::fmt::Display;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, TimestampMicrosecondArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Date64Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, plan_err};

pub(crate) use self::spans::{Spans, check_span, coerce_span, coerce_span_between, constant_span, counted_unit};
use super::arguments::time_type;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

// ---------------------------------------------------------------------------------------------------------------
// Types, for planning
// ---------------------------------------------------------------------------------------------------------------

/// Coerces an argument that is a moment; `what` names it. Timestamps and days stay, a date in milliseconds becomes days,
/// any whole number `Int64`.
pub(crate) fn coerce_moment(function: &str, what: &str, data_type: &DataType) -> Result<DataType> {
    match data_type {
        DataType::Timestamp(..) | DataType::Date32 => Ok(data_type.clone()),
        DataType::Date64 => Ok(DataType::Date32),
        DataType::Null => Ok(time_type()),
        other if other.is_integer() => Ok(DataType::Int64),
        other => plan_err!("{function}: expected {what} to be a timestamp, a date or a whole number, got {other}"),
    }
}

/// Whether a type is one of moments.
pub(crate) fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) || data_type.is_integer()
}

/// The type in which moments are returned: timestamps in µs, UTC; dates and whole numbers as they were coerced.
pub(crate) fn returned_type(moment: &DataType) -> DataType {
    match moment {
        DataType::Timestamp(..) => time_type(),
        other => other.clone(),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Values, for execution
// ---------------------------------------------------------------------------------------------------------------

fn too_far(function: &str, moment: &dyn Display) -> DataFusionError {
    exec_datafusion_err!("{function}: a time is too far away: {moment}")
}

/// An array of any type of moments as whole numbers. What stands in place of a null means nothing.
///
/// Errors: a moment beyond the range of microseconds.
pub(crate) fn to_moments(function: &str, array: &ArrayRef) -> Result<Int64Array> {
    let checked = CastOptions { safe: false, ..CastOptions::default() };
    let times = |unit: i64, value: i64| {
        value.checked_mul(unit).ok_or_else(|| too_far(function, &format!("{value} times {unit} microseconds")))
    };
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>()
        }
        // A microsecond holds the nanoseconds from its beginning on, also before 1970.
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().unary(|nanosecond| nanosecond.div_euclid(1_000))
        }
        DataType::Timestamp(_, zone) => {
            let microseconds = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            let array = cast_with_options(array, &microseconds, &checked).map_err(|error| too_far(function, &error))?;
            array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>()
        }
        DataType::Date32 => {
            array.as_primitive::<Date32Type>().try_unary(|day| times(MICROSECONDS_PER_DAY, i64::from(day)))?
        }
        DataType::Date64 => array.as_primitive::<Date64Type>().try_unary(|millisecond| times(1_000, millisecond))?,
        DataType::Int64 => array.as_primitive::<Int64Type>().clone(),
        other if other.is_integer() => cast_with_options(array, &DataType::Int64, &checked)
            .map_err(|error| too_far(function, &error))?
            .as_primitive::<Int64Type>()
            .clone(),
        other => return exec_err!("{function}: expected times, got {other}"),
    })
}

/// Moments as an array of the [`returned_type`] of a coerced type.
pub(crate) fn returned_moments(moments: Vec<i64>, moment: &DataType) -> ArrayRef {
    match moment {
        DataType::Timestamp(..) => Arc::new(TimestampMicrosecondArray::from(moments).with_data_type(time_type())),
        DataType::Date32 => {
            let days = moments.into_iter().map(|moment| (moment / MICROSECONDS_PER_DAY) as i32);
            Arc::new(Date32Array::from_iter_values(days))
        }
        _ => Arc::new(Int64Array::from(moments)),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        Date64Array, Int8Array, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    };

    use super::*;

    #[test]
    fn times_of_every_type_become_numbers() {
        const DAY: i64 = MICROSECONDS_PER_DAY;
        let cases: Vec<(ArrayRef, i64)> = vec![
            (Arc::new(TimestampSecondArray::from(vec![Some(86_400), None]).with_timezone("+02:00")), DAY),
            (Arc::new(TimestampMillisecondArray::from(vec![Some(86_400_000), None])), DAY),
            (Arc::new(TimestampMicrosecondArray::from(vec![Some(DAY), None])), DAY),
            (Arc::new(TimestampNanosecondArray::from(vec![Some(86_400_000_000_999), None])), DAY),
            (Arc::new(Date32Array::from(vec![Some(-1), None])), -DAY),
            (Arc::new(Date64Array::from(vec![Some(86_400_000), None])), DAY),
            (Arc::new(Int64Array::from(vec![Some(7), None])), 7),
            (Arc::new(Int8Array::from(vec![Some(7), None])), 7),
            (Arc::new(UInt64Array::from(vec![Some(7), None])), 7),
        ];
        for (array, expected) in cases {
            let moments = to_moments("f", &array).unwrap();
            assert_eq!(moments.iter().collect::<Vec<_>>(), [Some(expected), None], "{}", array.data_type());
            assert!(is_moment(array.data_type()));
        }
    }

    #[test]
    fn times_come_back_in_their_type() {
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
        for (moment, returned) in
            [(nanoseconds, time_type()), (DataType::Date32, DataType::Date32), (DataType::Int64, DataType::Int64)]
        {
            let array = returned_moments(vec![-MICROSECONDS_PER_DAY], &moment);
            assert_eq!((array.data_type(), &returned_type(&moment)), (&returned, &returned));
            assert_eq!(to_moments("f", &array).unwrap().values(), &[-MICROSECONDS_PER_DAY]);
        }
    }

    #[test]
    fn a_time_out_of_range_is_an_error_and_not_a_null() {
        let far: [ArrayRef; 4] = [
            Arc::new(TimestampSecondArray::from(vec![i64::MAX])),
            Arc::new(Date32Array::from(vec![i32::MAX])),
            Arc::new(Date64Array::from(vec![i64::MIN])),
            Arc::new(UInt64Array::from(vec![u64::MAX])),
        ];
        for array in far {
            let error = to_moments("f", &array).unwrap_err().to_string();
            assert!(error.contains("f: a time is too far away"), "{error}");
        }
    }

    #[test]
    fn arguments_are_coerced() {
        let second = DataType::Timestamp(TimeUnit::Second, Some("+02:00".into()));
        for (moment, coerced) in [
            (second.clone(), second),
            (DataType::Date32, DataType::Date32),
            (DataType::Date64, DataType::Date32),
            (DataType::UInt16, DataType::Int64),
            (DataType::Null, time_type()),
        ] {
            assert_eq!(coerce_moment("f", "ts", &moment).unwrap(), coerced);
        }
        for wrong in [DataType::Float64, DataType::Utf8, DataType::Boolean] {
            let error = coerce_moment("f", "ts", &wrong).unwrap_err().strip_backtrace();
            assert!(error.contains("f: expected ts to be a timestamp, a date or a whole number, got"), "{error}");
        }
    }
}
