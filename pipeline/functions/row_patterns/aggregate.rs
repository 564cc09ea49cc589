//! An aggregate, value by value.

use std::cmp::Ordering;

use datafusion::common::Result;
use datafusion::scalar::ScalarValue;

use super::spec::Aggregate;

/// The values so far. Nulls do not count.
#[derive(Debug, Clone)]
pub(super) struct Running {
    function: Aggregate,
    value: ScalarValue,
    count: i64,
}

impl Running {
    /// No value so far; `null` is of the type of the result.
    pub(super) fn new(function: Aggregate, null: ScalarValue) -> Self {
        Self { function, value: null, count: 0 }
    }

    /// Adds a value; for `count`, 1 or 0.
    pub(super) fn add(&mut self, value: ScalarValue) -> Result<()> {
        if value.is_null() {
            return Ok(());
        }
        if self.function == Aggregate::Count {
            if let ScalarValue::Int64(Some(count)) = value {
                self.count += count;
            }
            return Ok(());
        }
        self.count += 1;
        let replaces = |wanted| value.partial_cmp(&self.value) == Some(wanted);
        match self.function {
            _ if self.value.is_null() => self.value = value,
            Aggregate::Sum | Aggregate::Average => self.value = self.value.add_checked(value)?,
            Aggregate::Min if replaces(Ordering::Less) => self.value = value,
            Aggregate::Max if replaces(Ordering::Greater) => self.value = value,
            Aggregate::Min | Aggregate::Max | Aggregate::Count | Aggregate::Collect => {}
        }
        Ok(())
    }

    /// The result so far.
    pub(super) fn result(&self) -> ScalarValue {
        match (self.function, &self.value) {
            (Aggregate::Count, _) => ScalarValue::Int64(Some(self.count)),
            (Aggregate::Average, ScalarValue::Float64(Some(sum))) => {
                ScalarValue::Float64(Some(sum / self.count as f64))
            }
            (_, value) => value.clone(),
        }
    }
}
