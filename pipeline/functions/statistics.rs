//! Statistics that models need: intervals, tests and checks over counts. What the functions share: reading numbers.
//!
//! Counts are numbers of any type, so that weighted ones can be told too. A row whose trials are 0 has no rate: its
//! result is null, so that a group without data does not stop a model.

mod difference_interval;
mod formulas;
mod sample_ratio;
mod two_proportion_test;
mod wilson_interval;

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, NullBufferBuilder, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ReturnFieldArgs, ScalarFunctionArgs};
use datafusion::scalar::ScalarValue;

pub use self::difference_interval::DifferenceInterval;
pub use self::sample_ratio::SampleRatioP;
pub use self::two_proportion_test::TwoProportionTest;
pub use self::wilson_interval::WilsonInterval;

use self::formulas::Proportion;

/// How sure an interval is unless the call says otherwise.
const DEFAULT_CONFIDENCE: f64 = 0.95;

/// What SQL users read about two groups that are compared.
const TWO_GROUPS: [(&str, &str); 4] = [
    ("successes_a", "Number: how many of a succeeded, from 0 to trials_a."),
    ("trials_a", "Number: how many of a there were."),
    ("successes_b", "Number: how many of b succeeded, from 0 to trials_b."),
    ("trials_b", "Number: how many of b there were."),
];

/// The same about a confidence.
const ABOUT_CONFIDENCE: (&str, &str) =
    ("confidence", "Number between 0 and 1: how sure the interval is; 0.95 when left out.");

/// Coerces arguments that are numbers: `counts`, then perhaps a confidence.
fn coerce_numbers(function: &str, types: &[DataType], names: &[&str], optional: usize) -> Result<Vec<DataType>> {
    if types.len() > names.len() || types.len() + optional < names.len() {
        let least = names.len() - optional;
        let expected = if optional == 0 { format!("{least}") } else { format!("{least} or {}", names.len()) };
        return plan_err!("{function}: expected {expected} arguments, got {}", types.len());
    }
    for (data_type, name) in types.iter().zip(names) {
        if !data_type.is_numeric() && !data_type.is_null() {
            return plan_err!("{function}: expected {name} to be a number, got {data_type}");
        }
    }
    Ok(vec![DataType::Float64; types.len()])
}

/// Fails at planning when the argument `position` is a constant that cannot be a confidence.
fn check_confidence(function: &str, args: &ReturnFieldArgs, position: usize) -> Result<()> {
    match args.scalar_arguments.get(position) {
        Some(Some(ScalarValue::Float64(Some(confidence)))) if !is_confidence(*confidence) => {
            plan_err!("{function}: expected a confidence between 0 and 1, such as 0.95, got {confidence}")
        }
        _ => Ok(()),
    }
}

fn is_confidence(confidence: f64) -> bool {
    0.0 < confidence && confidence < 1.0
}

/// The arguments of a call as columns of numbers.
struct Numbers(Vec<Float64Array>);

impl Numbers {
    fn of_arguments(args: &ScalarFunctionArgs) -> Result<Self> {
        let read = |argument: &datafusion::logical_expr::ColumnarValue| -> Result<Float64Array> {
            Ok(argument.to_array(args.number_rows)?.as_primitive::<Float64Type>().clone())
        };
        Ok(Self(args.args.iter().map(read).collect::<Result<_>>()?))
    }

    fn is_null(&self, row: usize) -> bool {
        self.0.iter().any(|column| column.is_null(row))
    }

    /// The proportion whose successes are argument `first` and whose trials follow; `None` without trials.
    fn proportion(&self, function: &str, first: usize, row: usize) -> Result<Option<Proportion>> {
        let (successes, trials) = (self.0[first].value(row), self.0[first + 1].value(row));
        // Written so that what is not a number fails too.
        if !(0.0 <= successes && successes <= trials && trials.is_finite()) {
            return exec_err!("{function}: expected from 0 to {trials} successes of {trials} trials, got {successes}");
        }
        Ok((trials > 0.0).then_some(Proportion { successes, trials }))
    }

    /// The confidence in argument `position`, which may be left out.
    fn confidence(&self, function: &str, position: usize, row: usize) -> Result<f64> {
        let Some(confidences) = self.0.get(position) else {
            return Ok(DEFAULT_CONFIDENCE);
        };
        let confidence = confidences.value(row);
        match is_confidence(confidence) {
            true => Ok(confidence),
            false => exec_err!("{function}: expected a confidence between 0 and 1, such as 0.95, got {confidence}"),
        }
    }
}

/// The critical value of a confidence, which seldom changes from row to row.
struct CriticalValue {
    confidence: f64,
    z: f64,
}

impl CriticalValue {
    fn new() -> Self {
        Self { confidence: DEFAULT_CONFIDENCE, z: formulas::critical_value(DEFAULT_CONFIDENCE) }
    }

    fn of(&mut self, confidence: f64) -> f64 {
        if confidence != self.confidence {
            *self = Self { confidence, z: formulas::critical_value(confidence) };
        }
        self.z
    }
}

/// The field of a result that is a record of numbers.
fn record_field<const N: usize>(name: &str, members: [&str; N]) -> FieldRef {
    let members: Fields = members.into_iter().map(|member| Field::new(member, DataType::Float64, true)).collect();
    Arc::new(Field::new(name, DataType::Struct(members), true))
}

/// Records of numbers under construction, in a flat column per member.
struct Records<const N: usize> {
    columns: [Float64Builder; N],
    nulls: NullBufferBuilder,
}

impl<const N: usize> Records<N> {
    fn with_capacity(rows: usize) -> Self {
        Self {
            columns: std::array::from_fn(|_| Float64Builder::with_capacity(rows)),
            nulls: NullBufferBuilder::new(rows),
        }
    }

    /// Adds a record; a null one has null members too, since a member is read without its record.
    fn append(&mut self, record: Option<[f64; N]>) {
        self.nulls.append(record.is_some());
        for (member, column) in self.columns.iter_mut().enumerate() {
            column.append_option(record.map(|record| record[member]));
        }
    }

    fn finish(mut self, field: &FieldRef) -> Result<ArrayRef> {
        let DataType::Struct(members) = field.data_type() else {
            return exec_err!("expected {} to be a record, not {}", field.name(), field.data_type());
        };
        let columns = self.columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        Ok(Arc::new(StructArray::try_new(members.clone(), columns, self.nulls.finish())?))
    }
}
