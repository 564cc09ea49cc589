//! Conditions of an aggregate: booleans, of which a null does not hold.

use datafusion::arrow::array::{Array, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};

/// The most conditions of a call, as in ClickHouse: one bit each.
pub(super) const MOST_CONDITIONS: usize = 32;

/// Coerces an argument that is a condition; `what` names it.
pub(super) fn coerce_condition(function: &str, what: &str, data_type: &DataType) -> Result<DataType> {
    match data_type {
        DataType::Boolean | DataType::Null => Ok(DataType::Boolean),
        other => plan_err!("{function}: expected {what} to be boolean, got {other}; compare it with a value"),
    }
}

/// In which rows a condition holds.
pub(super) fn true_values(condition: &BooleanArray) -> BooleanBuffer {
    match condition.nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => condition.values() & nulls.inner(),
        None => condition.values().clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_does_not_hold() {
        let condition = BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]);
        assert_eq!(true_values(&condition).iter().collect::<Vec<_>>(), [true, false, false, true]);
        assert_eq!(true_values(&condition.slice(2, 2)).iter().collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_condition_is_boolean_or_null() {
        for condition in [DataType::Boolean, DataType::Null] {
            assert_eq!(coerce_condition("f", "condition 1", &condition).unwrap(), DataType::Boolean);
        }
        let error = coerce_condition("f", "condition 2", &DataType::Int8).unwrap_err().strip_backtrace();
        assert!(error.contains("f: expected condition 2 to be boolean, got Int8; compare it with a value"), "{error}");
    }
}
