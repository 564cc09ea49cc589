//! `run_starts`: the times at which runs start; the rule is that of [`Starts`].

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ListArray, TimestampMicrosecondArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{coerce_times, element_type, expect_count, item_field, list_type, returned_field};
use super::documentation::{Example, Manual};
use super::moments::{check_span, coerce_span};
use super::starts::{RUNS, Starts};

/// The function `run_starts`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct RunStarts {
    signature: Signature,
}

impl Default for RunStarts {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for RunStarts {
    fn name(&self) -> &str {
        "run_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 2)?;
        Ok(vec![coerce_times(self.name(), &types[0])?, coerce_span(self.name(), &types[1])?])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match element_type(&types[0]) {
            Some(DataType::Timestamp(_, zone)) => {
                Ok(list_type(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())))
            }
            _ => plan_err!("run_starts: expected a list of timestamps, got {}", types[0]),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_span(self.name(), "gap", &args, 1)?;
        returned_field(self, &args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let starts = Starts::of_arguments(self.name(), &args)?;
        Ok(ColumnarValue::Array(Arc::new(first_times(&starts)?)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                syntax: &["run_starts(times, gap)"],
                summary: "Returns the times of an ascending list at which runs start: the first, and each that comes \
                          more than a gap after the one before it.",
                example: Example {
                    query: "
                        select run_starts(
                          [timestamp '2026-01-05T10:00:00', timestamp '2026-01-05T10:30:00',
                           timestamp '2026-01-05T11:00:01'],
                          interval '30 minutes') as started_at
                    ",
                    rows: &["started_at", "[2026-01-05T10:00:00, 2026-01-05T11:00:01]"],
                },
                returns: "list of timestamps in microseconds, with the time zone of the input, as many as there are \
                          runs; empty for an empty list.",
                memory: "a bit per element and 8 bytes per run.",
                ..RUNS
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

/// The times that start a run, as lists of their own.
fn first_times(starts: &Starts) -> Result<ListArray> {
    let mut times = Vec::with_capacity(starts.flags.count_set_bits());
    let mut offsets = Vec::with_capacity(starts.lists.len() + 1);
    offsets.push(0);
    for row in 0..starts.lists.len() {
        let positions = starts.lists.span(row).filter(|position| starts.flags.value(*position));
        times.extend(positions.map(|position| starts.times.value(position)));
        offsets.push(times.len() as i32);
    }
    let times = TimestampMicrosecondArray::new(times.into(), None).with_timezone_opt(starts.times.timezone());
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(ListArray::try_new(item_field(times.data_type().clone()), offsets, Arc::new(times), starts.nulls.clone())?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::TimestampMicrosecondType;
    use datafusion::logical_expr::ScalarUDF;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn each_run_is_known_by_the_time_of_its_first_element() {
        let ctx = SessionContext::new();
        ctx.register_udf(ScalarUDF::from(RunStarts::default()));
        let sql = "select run_starts(arrow_cast(times, 'List(Timestamp(Microsecond, Some(\"UTC\")))'), 10) \
                   from (values (0, [99]), (1, [1, 11, 22, 40]), (2, null), (3, arrow_cast([], 'List(Int64)')), \
                   (4, [7])) as lists(id, times) where id > 0 order by id";
        let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let lists: Vec<_> = batches
            .iter()
            .flat_map(|batch| batch.column(0).as_list::<i32>().iter())
            .map(|times| Some(times?.as_primitive::<TimestampMicrosecondType>().values().to_vec()))
            .collect();
        assert_eq!(lists, vec![Some(vec![1, 22, 40]), None, Some(vec![]), Some(vec![7])]);
        assert!(ctx.sql("select run_starts([1], 5)").await.is_err());
    }
}
