//! `sessionize`: the number of the session that a row belongs to.
//!
//! A partition is numbered at once: a bounded evaluation would have to trust the declared order, which some engines
//! lose or mistake. Rows that are not in the order of their times are put so here; where they are, it costs nothing.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, Int64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::function::{
    ExpressionArgs, PartitionEvaluatorArgs, WindowFunctionSimplification, WindowUDFFieldArgs,
};
use datafusion::logical_expr::{Documentation, Expr, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion::physical_plan::PhysicalExpr;

use super::arguments::expect_count;
use super::call::Call;
use super::documentation::{Example, Manual, Section, Unlike};
use super::moments::{coerce_moment, coerce_span_between, to_moments};

// ---------------------------------------------------------------------------------------------------------------
// The sessions of one partition
// ---------------------------------------------------------------------------------------------------------------

/// Numbers the sessions of the rows whose time `is_known`, from 1; the others get 0.
fn number_sessions(times: &[i64], is_known: impl Fn(usize) -> bool, gap: i64) -> Vec<i64> {
    let mut numbers = vec![0; times.len()];
    let mut session = 0;
    let mut previous = None;
    for (row, &time) in times.iter().enumerate().filter(|(row, _)| is_known(*row)) {
        match previous {
            Some(previous) if time < previous => return number_unordered(times, is_known, gap, numbers),
            Some(previous) if time.saturating_sub(previous) <= gap => {}
            _ => session += 1,
        }
        numbers[row] = session;
        previous = Some(time);
    }
    numbers
}

fn number_unordered(times: &[i64], is_known: impl Fn(usize) -> bool, gap: i64, mut numbers: Vec<i64>) -> Vec<i64> {
    let mut order: Vec<(i64, usize)> =
        times.iter().enumerate().filter(|(row, _)| is_known(*row)).map(|(row, &time)| (time, row)).collect();
    order.sort_unstable();
    let mut session = 0;
    let mut previous = None;
    for (time, row) in order {
        if previous.is_none_or(|previous| time.saturating_sub(previous) > gap) {
            session += 1;
        }
        numbers[row] = session;
        previous = Some(time);
    }
    numbers
}

// ---------------------------------------------------------------------------------------------------------------
// The evaluator
// ---------------------------------------------------------------------------------------------------------------

/// Numbers the sessions of a partition at once. A bounded evaluation would have to trust the declared order.
#[derive(Debug)]
struct Sessions {
    gap: i64,
}

impl PartitionEvaluator for Sessions {
    fn evaluate_all(&mut self, values: &[ArrayRef], _num_rows: usize) -> Result<ArrayRef> {
        let times = to_moments("sessionize", &values[0])?;
        let nulls = times.nulls().filter(|nulls| nulls.null_count() > 0);
        let numbers = number_sessions(times.values(), |row| nulls.is_none_or(|nulls| nulls.is_valid(row)), self.gap);
        Ok(Arc::new(Int64Array::new(numbers.into(), nulls.cloned())))
    }
}

fn has_subquery(expression: &Expr) -> Result<bool> {
    expression.exists(|part| Ok(matches!(part, Expr::ScalarSubquery(_))))
}

// ---------------------------------------------------------------------------------------------------------------
// The function
// ---------------------------------------------------------------------------------------------------------------

/// The function `sessionize`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Sessionize {
    signature: Signature,
}

impl Default for Sessionize {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl WindowUDFImpl for Sessionize {
    fn name(&self) -> &str {
        "sessionize"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 2)?;
        let times = coerce_moment(self.name(), "ts", &types[0])?;
        if types[1].is_integer() && !times.is_integer() {
            return plan_err!(
                "sessionize: expected gap to be an interval such as '30 minutes', got {}; \
                 a whole number is a gap only between whole-number times",
                types[1]
            );
        }
        let gap = coerce_span_between(self.name(), "gap", &times, &types[1])?;
        Ok(vec![times, gap])
    }

    fn field(&self, field_args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(field_args.name(), DataType::Int64, true)))
    }

    /// Only the times need a column per row.
    fn expressions(&self, expr_args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        expr_args.input_exprs().iter().take(1).cloned().collect()
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let types: Vec<DataType> = args.input_fields().iter().map(|field| field.data_type().clone()).collect();
        let call = Call::of_expressions("sessionize", args.input_exprs(), types);
        match call.span(1, "gap", &call.types()[0])? {
            Some(gap) => Ok(Box::new(Sessions { gap })),
            None => internal_err!("sessionize: the gap is not known when the query runs"),
        }
    }

    /// Refuses what the engine passes over in silence, the one place that sees it; nothing is simplified.
    fn simplify(&self) -> Option<WindowFunctionSimplification> {
        Some(Box::new(|call, _| {
            let params = &call.params;
            if params.order_by.is_empty() {
                return plan_err!("sessionize: expected an order by in the window; write over (… order by ts)");
            }
            if params.distinct {
                return plan_err!("sessionize: distinct is not supported: every row has its session");
            }
            if params.null_treatment.is_some() {
                return plan_err!("sessionize: ignore nulls is not supported: rows without a time never take part");
            }
            if params.args.iter().skip(1).map(has_subquery).collect::<Result<Vec<_>>>()?.contains(&true) {
                return plan_err!("sessionize: expected gap to be a constant, got a subquery");
            }
            Ok(Expr::from(call))
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Journeys,
                syntax: &["sessionize(ts, gap) over (partition by … order by ts)"],
                summary: "Returns the number of a row's session within its partition: a new one begins when the time \
                          since the row before is longer than a gap.",
                details: "",
                arguments: &[
                    ("ts", "Timestamp of any unit and zone, date or whole number."),
                    (
                        "gap",
                        "Constant: how long a session may rest: an interval, a duration or text such as `'30 \
                         minutes'`; for whole-number times a whole number in their unit. A rest of exactly this \
                         length does not end it.",
                    ),
                ],
                example: Example {
                    query: "
                        select customer, at,
                          sessionize(at, interval '30 minutes') over (partition by customer order by at) as session
                        from (values
                          ('ann', timestamp '2026-01-05T10:00:00'),
                          ('ann', timestamp '2026-01-05T10:30:00'),
                          ('ann', timestamp '2026-01-05T11:00:01'),
                          ('bob', timestamp '2026-01-05T10:10:00')
                        ) as events(customer, at)
                        order by customer, at
                    ",
                    rows: &[
                        "customer | at | session",
                        "ann | 2026-01-05T10:00:00 | 1",
                        "ann | 2026-01-05T10:30:00 | 1",
                        "ann | 2026-01-05T11:00:01 | 2",
                        "bob | 2026-01-05T10:10:00 | 1",
                    ],
                },
                returns: "`Int64` from 1 within each partition.",
                parts: &[],
                nulls: "null where `ts` is null, and such a row does not take part.",
                order: "that of `ts`, always, so that the answer holds on engines that lose or mistake a declared \
                        order. A window without `order by` is refused, as elsewhere it would mean another thing. What \
                        else stands in the `order by`, and the frame, change nothing.",
                ties: "rows of equal `ts` belong to one session.",
                memory: "8 bytes per row of a partition; 16 more where the partition is not in order, and 8 more \
                         where times are converted: dates, and timestamps that are not in microseconds.",
                errors: "a gap that is not constant, null, negative or of months; no `order by`; `distinct` and \
                         `ignore nulls`; other types: all at planning.",
                source: "`sessionize` of DuckDB's `behavioral` extension.",
                differs: &[
                    Unlike {
                        whom: "`sessionize` of DuckDB's `behavioral`",
                        by: &["rows are taken in the order of their times, where it leaves that to the window"],
                    },
                    Unlike { whom: "Google's sessions", by: &["new campaign data do not end a session"] },
                ],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::arrow::array::{AsArray, RecordBatch, TimestampMicrosecondArray};
    use datafusion::arrow::datatypes::{Int64Type, Schema};
    use datafusion::datasource::MemTable;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use proptest::prelude::*;

    use super::*;
    use crate::functions::elements::testing::{error_of, rows_of};
    use crate::functions::register_all;

    /// The sessions by counting, for each time, the gaps before it among the distinct times.
    fn naive(times: &[Option<i64>], gap: i64) -> Vec<Option<i64>> {
        let mut sorted: Vec<i64> = times.iter().flatten().copied().collect();
        sorted.sort();
        sorted.dedup();
        let number =
            |time: i64| 1 + sorted.windows(2).filter(|pair| pair[1] <= time && pair[1] - pair[0] > gap).count() as i64;
        times.iter().map(|time| time.map(number)).collect()
    }

    proptest! {
        #[test]
        fn any_order_of_rows_gives_the_sessions_of_a_naive_count(
            times in prop::collection::vec(prop::option::weighted(0.9, -60i64..60), 0..40),
            is_sorted in any::<bool>(),
            gap in 0i64..12,
        ) {
            let mut times = times;
            if is_sorted {
                times.sort();
            }
            let array: ArrayRef = Arc::new(Int64Array::from(times.clone()));
            let found = Sessions { gap }.evaluate_all(&[array], times.len()).unwrap();
            prop_assert_eq!(found.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), naive(&times, gap));
        }
    }

    #[test]
    fn a_gap_that_equals_the_limit_does_not_end_a_session() {
        let numbers = |gap| number_sessions(&[0, 60, 121, 121], |_| true, gap);
        assert_eq!(numbers(60), [1, 1, 2, 2]);
        assert_eq!(numbers(61), [1, 1, 1, 1]);
        assert_eq!(numbers(0), [1, 2, 3, 3]);
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        assert_eq!(number_sessions(&[i64::MIN, i64::MAX], |_| true, 1), [1, 2]);
        assert_eq!(number_sessions(&[i64::MAX, i64::MIN], |_| true, i64::MAX), [1, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Through the engine, with small batches in several partitions and a few customers.
        #[test]
        fn sql_gives_the_sessions_of_each_partition(
            rows in prop::collection::vec((0i64..4, prop::option::weighted(0.9, 0i64..200)), 1..60),
            cut in 1usize..9,
        ) {
            let schema = Arc::new(Schema::new(vec![
                Field::new("row", DataType::Int64, false),
                Field::new("customer", DataType::Int64, false),
                Field::new("ts", DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, None), true),
            ]));
            let numbered: Vec<(i64, i64, Option<i64>)> =
                rows.iter().enumerate().map(|(row, (customer, ts))| (row as i64, *customer, *ts)).collect();
            let batches: Vec<Vec<RecordBatch>> = numbered.chunks(cut).map(|rows| {
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>()),
                    Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>()),
                    Arc::new(rows.iter().map(|row| row.2).collect::<TimestampMicrosecondArray>()),
                ];
                vec![RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()]
            }).collect();
            let found = tokio::runtime::Runtime::new().unwrap().block_on(async {
                let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(3).with_batch_size(4));
                register_all(&ctx);
                ctx.register_table("events", Arc::new(MemTable::try_new(schema, batches).unwrap())).unwrap();
                let sql = "select row, sessionize(ts, '20 microseconds') over (partition by customer order by ts desc) as a, \
                           sessionize(ts, '20 microseconds') over (partition by customer order by row) as b from events";
                let mut found = HashMap::new();
                for batch in ctx.sql(sql).await.unwrap().collect().await.unwrap() {
                    let column = |index: usize| batch.column(index).as_primitive::<Int64Type>().clone();
                    for ((row, a), b) in column(0).iter().zip(&column(1)).zip(&column(2)) {
                        assert_eq!(a, b);
                        found.insert(row.unwrap(), a);
                    }
                }
                found
            });
            for customer in 0..4 {
                let of_customer: Vec<_> = numbered.iter().filter(|row| row.1 == customer).collect();
                let times: Vec<Option<i64>> = of_customer.iter().map(|row| row.2).collect();
                for (row, expected) in of_customer.iter().zip(naive(&times, 20)) {
                    prop_assert_eq!(found[&row.0], expected);
                }
            }
        }
    }

    const EVENTS: &str =
        "(values ('a', 0), ('a', 31), ('a', 30), ('a', 62), ('b', 5), ('a', null)) as events(customer, minute)";

    async fn sessions(ts: &str, gap: &str) -> Vec<String> {
        let sql = format!(
            "select customer, minute, sessionize({ts}, {gap}) over (partition by customer order by minute) as session \
             from {EVENTS} order by customer, minute nulls last"
        );
        rows_of(&sql).await
    }

    #[tokio::test]
    async fn times_and_gaps_of_every_kind_are_read() {
        let expected = ["a | 0 | 1", "a | 30 | 1", "a | 31 | 1", "a | 62 | 2", "a |  | ", "b | 5 | 1"];
        let micros = "to_timestamp_micros(minute * 60000000)";
        for (ts, gap) in [
            (micros.to_owned(), "interval '30 minutes'"),
            (micros.to_owned(), "'30 minutes'"),
            (micros.to_owned(), "arrow_cast(1800, 'Duration(s)')"),
            (format!("arrow_cast({micros}, 'Timestamp(ns, \"+02:00\")')"), "interval '30 minutes'"),
            (format!("arrow_cast({micros}, 'Timestamp(s)')"), "interval '30 minutes'"),
            ("arrow_cast(arrow_cast(minute, 'Int32'), 'Date32')".to_owned(), "interval '30 days'"),
            ("arrow_cast(arrow_cast(minute, 'Int32'), 'Date64')".to_owned(), "interval '30 days'"),
            ("minute".to_owned(), "30"),
            ("arrow_cast(minute, 'UInt16')".to_owned(), "30"),
        ] {
            assert_eq!(sessions(&ts, gap).await, expected, "{ts}, {gap}");
        }
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (call, message) in [
            ("sessionize(minute) over (order by minute)", "expected 2 arguments, got 1"),
            (
                "sessionize(customer, 5) over (order by minute)",
                "expected ts to be a timestamp, a date or a whole number, got Utf8",
            ),
            (
                "sessionize(minute, interval '1 minute') over (order by minute)",
                "expected gap to be a whole number as the times are",
            ),
            ("sessionize(minute, minute) over (order by minute)", "expected gap to be a constant, got minute"),
            ("sessionize(minute, null) over (order by minute)", "expected gap to be a span of time, got null"),
            (
                "sessionize(now(), 5) over (order by minute)",
                "such as '30 minutes', got Int64; a whole number is a gap only between whole-number times",
            ),
            ("sessionize(minute, -1) over (order by minute)", "must not be negative"),
            ("sessionize(now(), interval '1 month') over (order by minute)", "months has no fixed length"),
            ("sessionize(minute, 5) over (partition by customer)", "expected an order by in the window"),
            ("sessionize(minute, 5) over ()", "expected an order by in the window"),
            ("sessionize(distinct minute, 5) over (order by minute)", "distinct is not supported"),
            ("sessionize(minute, 5) ignore nulls over (order by minute)", "ignore nulls is not supported"),
            ("sessionize(minute, (select 5)) over (order by minute)", "expected gap to be a constant, got a subquery"),
        ] {
            let error = error_of(&format!("select {call} from {EVENTS}")).await;
            assert!(error.contains("sessionize: ") && error.contains(message), "{call}: {error}");
        }
    }

    #[tokio::test]
    async fn wrong_gaps_are_refused_before_anything_runs() {
        let ctx = SessionContext::new();
        register_all(&ctx);
        for call in ["sessionize(minute, minute) over (order by minute)", "sessionize(minute, 5) over ()"] {
            let plan = ctx.sql(&format!("select {call} from {EVENTS}")).await.unwrap().create_physical_plan().await;
            assert!(plan.is_err(), "{call}");
        }
    }
}
