//! Spans between moments: of a row, or constant.
//!
//! Between timestamps and dates a span is an interval, a duration or text such as `'30 minutes'`, and is read in
//! microseconds; between whole numbers it is one, in their unit.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit,
};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs};

use super::super::arguments::is_text;
use super::MICROSECONDS_PER_DAY;

// ---------------------------------------------------------------------------------------------------------------
// Types, for planning
// ---------------------------------------------------------------------------------------------------------------

/// Coerces a span of time: an interval or duration, text such as `'30 minutes'`, or whole microseconds.
pub(crate) fn coerce_span(function: &str, data_type: &DataType) -> Result<DataType> {
    if data_type.is_integer() {
        return Ok(DataType::Int64);
    }
    if is_text(data_type) || data_type.is_null() {
        return Ok(DataType::Interval(IntervalUnit::MonthDayNano));
    }
    match data_type {
        DataType::Interval(_) => Ok(data_type.clone()),
        DataType::Duration(_) => Ok(DataType::Duration(TimeUnit::Microsecond)),
        _ => plan_err!("{function}: expected an interval or whole microseconds, got {data_type}"),
    }
}

/// Coerces a span between moments of a type; `what` names it. Between timestamps and dates it may also be a whole number,
/// of a unit that the function names.
pub(crate) fn coerce_span_between(function: &str, what: &str, moment: &DataType, span: &DataType) -> Result<DataType> {
    let is_span = matches!(span, DataType::Interval(_) | DataType::Duration(_)) || is_text(span);
    match moment.is_integer() {
        _ if span.is_integer() => Ok(DataType::Int64),
        true if span.is_null() => Ok(DataType::Int64),
        false if is_span || span.is_null() => coerce_span(function, span),
        false => {
            plan_err!("{function}: expected {what} to be an interval, a duration or a whole number, got {span}")
        }
        true => {
            let remedy = if is_span { "; or convert the times to timestamps" } else { "" };
            plan_err!("{function}: expected {what} to be a whole number as the times are, got {span}{remedy}")
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Constants
// ---------------------------------------------------------------------------------------------------------------

/// What a whole number in place of a constant span counts, as in ClickHouse, in the unit of stored moments: seconds between
/// timestamps, days between dates, the unit of whole numbers.
pub(crate) fn counted_unit(moment: &DataType) -> i64 {
    match moment {
        DataType::Timestamp(..) => 1_000_000,
        DataType::Date32 => MICROSECONDS_PER_DAY,
        _ => 1,
    }
}

/// A constant span in the unit of stored moments; `what` names it. A whole number counts [`counted_unit`].
///
/// Errors: all of planning: null, a negative span, one of months, another type.
pub(crate) fn constant_span(function: &str, what: &str, value: &ScalarValue, moment: &DataType) -> Result<i64> {
    let null = || plan_err!("{function}: expected {what} to be a span of time, got null");
    if value.is_null() {
        return null();
    }
    let coerced = coerce_span_between(function, what, moment, &value.data_type())?;
    let unit = if coerced == DataType::Int64 { counted_unit(moment) } else { 1 };
    match read_constant(function, what, value, &coerced)? {
        None => null(),
        Some(span) => match span.checked_mul(unit) {
            Some(span) => Ok(span),
            None => plan_err!("{function}: wrong {}: expected at most {}", bare(what), i64::MAX / unit),
        },
    }
}

/// Fails at planning where an argument is a constant that cannot be read as a span, or a negative one; `what` names it. Null passes, and
/// so does what the plan does not know. Returns the span that is known.
pub(crate) fn check_span(function: &str, what: &str, args: &ReturnFieldArgs, position: usize) -> Result<Option<i64>> {
    let constant = args.scalar_arguments.get(position).copied().flatten();
    match constant.filter(|value| !value.is_null()) {
        Some(value) => read_constant(function, what, value, &coerce_span(function, &value.data_type())?),
        None => Ok(None),
    }
}

/// A constant as a span in whole microseconds, or as the whole number that it is. An error names the argument.
fn read_constant(function: &str, what: &str, value: &ScalarValue, coerced: &DataType) -> Result<Option<i64>> {
    let span = value.cast_to(coerced).and_then(|span| Spans::of_argument(function, &ColumnarValue::Scalar(span)));
    span.map(|span| span.get(0)).or_else(|error| {
        let message = error.strip_backtrace();
        let name = format!("{function}: ");
        let reason = message.rsplit_once(&name).map_or(message.as_str(), |(_, reason)| reason);
        plan_err!("{function}: wrong {}: {reason}", bare(what))
    })
}

/// The name of an argument without its article.
fn bare(what: &str) -> &str {
    what.trim_start_matches("the ")
}

// ---------------------------------------------------------------------------------------------------------------
// Values, for execution
// ---------------------------------------------------------------------------------------------------------------

/// A span of time per row in whole microseconds, rounded down; never negative.
pub(crate) struct Spans {
    microseconds: Int64Array,
    is_constant: bool,
}

impl Spans {
    /// Reads an interval, a duration or whole microseconds; a constant is read once.
    ///
    /// Errors: a negative span, and an interval of months, which has no fixed length.
    pub(crate) fn of_argument(function: &str, argument: &ColumnarValue) -> Result<Self> {
        let (array, is_constant) = match argument {
            ColumnarValue::Array(array) => (Arc::clone(array), false),
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
        };
        let microseconds = to_microseconds(function, &array)?;
        if let Some(negative) = microseconds.iter().flatten().find(|span| *span < 0) {
            return exec_err!("{function}: a span must not be negative, got {negative} microseconds");
        }
        Ok(Self { microseconds, is_constant })
    }

    /// The span that all rows have, in microseconds; `None` when rows may differ, or have none.
    pub(crate) fn constant(&self) -> Option<i64> {
        if self.is_constant { self.get(0) } else { None }
    }

    /// The span of a row in microseconds.
    pub(crate) fn get(&self, row: usize) -> Option<i64> {
        let row = if self.is_constant { 0 } else { row };
        self.microseconds.is_valid(row).then(|| self.microseconds.value(row))
    }
}

/// Days and what comes on top of them.
fn in_microseconds(function: &str, days: i32, microseconds: i64) -> Result<i64> {
    match i64::from(days).checked_mul(MICROSECONDS_PER_DAY).and_then(|whole| whole.checked_add(microseconds)) {
        Some(span) => Ok(span),
        None => exec_err!("{function}: expected a span of at most {} days", i64::MAX / MICROSECONDS_PER_DAY),
    }
}

/// Intervals, durations or whole numbers as microseconds, rounded down. A day is 24 hours, as it is in UTC.
fn to_microseconds(function: &str, array: &ArrayRef) -> Result<Int64Array> {
    let months_error = || exec_err!("{function}: an interval of months has no fixed length; count it in days");
    let spans = match array.data_type() {
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            array.as_primitive::<IntervalMonthDayNanoType>().try_unary(|interval| {
                if interval.months != 0 {
                    return months_error();
                }
                in_microseconds(function, interval.days, interval.nanoseconds.div_euclid(1_000))
            })?
        }
        DataType::Interval(IntervalUnit::DayTime) => array
            .as_primitive::<IntervalDayTimeType>()
            .try_unary(|interval| in_microseconds(function, interval.days, i64::from(interval.milliseconds) * 1_000))?,
        DataType::Interval(IntervalUnit::YearMonth) => {
            array.as_primitive::<IntervalYearMonthType>().try_unary(|months| match months {
                0 => Ok(0),
                _ => months_error(),
            })?
        }
        DataType::Duration(_) => {
            let duration = cast(array, &DataType::Duration(TimeUnit::Microsecond))?;
            cast(&duration, &DataType::Int64)?.as_primitive::<Int64Type>().clone()
        }
        other if other.is_integer() => cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
        other => return exec_err!("{function}: expected an interval or whole microseconds, got {other}"),
    };
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        DurationSecondArray, Int32Array, IntervalDayTimeArray, IntervalMonthDayNanoArray, IntervalYearMonthArray,
    };
    use datafusion::arrow::datatypes::{IntervalDayTime, IntervalMonthDayNano};
    use datafusion::common::DataFusionError;
    use datafusion::prelude::SessionContext;

    use super::super::super::arguments::time_type;
    use super::super::super::register_all;
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        match result.unwrap_err() {
            DataFusionError::Plan(message) => message,
            other => panic!("not an error of planning: {other}"),
        }
    }

    fn spans(array: ArrayRef) -> Result<Vec<Option<i64>>> {
        let rows = array.len();
        let spans = Spans::of_argument("f", &ColumnarValue::Array(array))?;
        Ok((0..rows).map(|row| spans.get(row)).collect())
    }

    #[test]
    fn spans_of_every_type_become_microseconds() {
        let minute = IntervalMonthDayNano::new(0, 1, 60_000_000_999);
        let cases: Vec<(ArrayRef, i64)> = vec![
            (Arc::new(IntervalMonthDayNanoArray::from(vec![minute])), 86_460_000_000),
            (Arc::new(IntervalDayTimeArray::from(vec![IntervalDayTime::new(2, 5)])), 172_800_005_000),
            (Arc::new(IntervalYearMonthArray::from(vec![0])), 0),
            (Arc::new(DurationSecondArray::from(vec![3])), 3_000_000),
            (Arc::new(Int32Array::from(vec![7])), 7),
        ];
        for (array, expected) in cases {
            assert_eq!(spans(array).unwrap(), vec![Some(expected)]);
        }
    }

    #[test]
    fn a_constant_span_holds_for_every_row() {
        let spans = Spans::of_argument("f", &ColumnarValue::Scalar(ScalarValue::Int64(Some(5)))).unwrap();
        assert_eq!((spans.get(0), spans.get(99)), (Some(5), Some(5)));
        let nulls = Spans::of_argument("f", &ColumnarValue::Scalar(ScalarValue::Int64(None))).unwrap();
        assert_eq!(nulls.get(3), None);
    }

    #[test]
    fn months_and_negative_spans_are_refused() {
        let month = IntervalMonthDayNano::new(1, 0, 0);
        let error = spans(Arc::new(IntervalMonthDayNanoArray::from(vec![month]))).unwrap_err();
        assert!(error.to_string().contains("months has no fixed length"), "{error}");
        let error = spans(Arc::new(Int64Array::from(vec![-1]))).unwrap_err();
        assert!(error.to_string().contains("must not be negative"), "{error}");
        assert!(spans(Arc::new(IntervalYearMonthArray::from(vec![2]))).is_err());
        let ages = IntervalMonthDayNano::new(0, 200_000_000, 0);
        let error = spans(Arc::new(IntervalMonthDayNanoArray::from(vec![ages]))).unwrap_err();
        assert!(error.to_string().contains("at most 106751991 days"), "{error}");
    }

    #[test]
    fn spans_are_in_the_unit_of_their_times() {
        let span = |moment: &DataType, span: &DataType| coerce_span_between("f", "gap", moment, span);
        assert_eq!(span(&DataType::Int32, &DataType::UInt8).unwrap(), DataType::Int64);
        assert_eq!(span(&DataType::Int32, &DataType::Null).unwrap(), DataType::Int64);
        assert_eq!(span(&time_type(), &DataType::Int32).unwrap(), DataType::Int64);
        assert!(matches!(span(&DataType::Date32, &DataType::Utf8).unwrap(), DataType::Interval(_)));
        assert!(matches!(span(&time_type(), &DataType::Null).unwrap(), DataType::Interval(_)));
        let error = message(span(&DataType::Int64, &DataType::Utf8));
        assert!(
            error.contains("f: expected gap to be a whole number as the times are, got Utf8; or convert"),
            "{error}"
        );
        let error = message(span(&time_type(), &DataType::Boolean));
        assert!(error.contains("f: expected gap to be an interval, a duration or a whole number"), "{error}");
    }

    #[test]
    fn constants_are_in_the_unit_of_stored_times() {
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
            (week, &DataType::Int64, "f: expected the window to be a whole number as the times are"),
            (ScalarValue::Float64(Some(1.5)), &DataType::Int64, "got Float64"),
        ] {
            let error = message(constant_span("f", "the window", &span, time));
            assert!(error.contains(expected), "{error}");
        }
    }

    /// A month has no fixed length, time does not run backwards, and words are no span: told before anything is read.
    #[tokio::test]
    async fn a_constant_that_is_no_span_is_told_while_planning() {
        let ctx = SessionContext::new();
        register_all(&ctx);
        let timeline = "named_struct('times', [now()])";
        for (call, argument) in [
            ("gap_starts([now()], SPAN)".to_owned(), "gap"),
            ("run_starts([now()], SPAN)".to_owned(), "gap"),
            ("journey_starts([now()], [true], SPAN)".to_owned(), "timeout"),
            (format!("goal_touches({timeline}, [true], SPAN)"), "look_back"),
            ("journey_funnel([now()], ['a'], ['w'], ['a'], SPAN)".to_owned(), "window"),
            ("journey_funnel_positions([now()], ['a'], ['w'], ['a'], SPAN)".to_owned(), "window"),
        ] {
            for (span, reason) in [
                ("interval '1 month'", "an interval of months has no fixed length; count it in days"),
                ("interval '-5 minutes'", "a span must not be negative, got -300000000 microseconds"),
                ("-1", "a span must not be negative, got -1 microseconds"),
                ("'soon'", ""),
            ] {
                let sql = format!("select {}", call.replace("SPAN", span));
                let error = ctx.sql(&sql).await.map(|_| ()).expect_err(&sql).strip_backtrace();
                assert!(error.contains(&format!("wrong {argument}: {reason}")), "{sql}: {error}");
            }
            for span in ["interval '1 day'", "'30 minutes'", "5", "null"] {
                ctx.sql(&format!("select {}", call.replace("SPAN", span))).await.unwrap();
            }
        }
    }
}
