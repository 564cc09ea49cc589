//! `split_at`: cuts a struct of parallel lists into runs.
//!
//! Elements are shared with the timeline, not copied: a cut is an offset.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, ListArray, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, coerce_booleans, coerce_fields, expect_count, item_field, list_type, to_booleans};
use super::documentation::{Example, Manual, Section};

/// The function `split_at`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SplitAt {
    signature: Signature,
}

impl Default for SplitAt {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The fields of a struct of lists.
fn list_fields(data_type: &DataType) -> Result<&Fields> {
    let DataType::Struct(fields) = data_type else {
        return plan_err!("split_at: expected a struct of lists, got {data_type}");
    };
    if fields.is_empty() {
        return plan_err!("split_at: expected a struct of lists, got one without fields");
    }
    match fields.iter().find(|field| !matches!(field.data_type(), DataType::List(_))) {
        Some(field) => plan_err!("split_at: expected field {} to be a list, got {}", field.name(), field.data_type()),
        None => Ok(fields),
    }
}

impl ScalarUDFImpl for SplitAt {
    fn name(&self) -> &str {
        "split_at"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 2)?;
        let timeline = coerce_fields(&types[0]);
        list_fields(&timeline)?;
        Ok(vec![timeline, coerce_booleans(self.name(), &types[1])?])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(list_type(DataType::Struct(list_fields(&types[0])?.clone())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let timelines = args.args[0].to_array(args.number_rows)?;
        let starts = Lists::of_argument(self.name(), &args.args[1], args.number_rows)?;
        Ok(ColumnarValue::Array(Arc::new(split(timelines.as_struct(), &starts)?)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Journeys,
                syntax: &["split_at(timeline, starts)"],
                summary: "Cuts a struct of parallel lists into runs: a list of structs with the same fields, each cut \
                          to its run.",
                details: "Unnest it to get a row per run.",
                arguments: &[
                    ("timeline", "Struct whose fields are parallel lists, such as the result of `timeline`."),
                    (
                        "starts",
                        "List of booleans, parallel to them, as `gap_starts` and `journey_starts` give it. The first \
                         element starts a run in any case.",
                    ),
                ],
                example: Example {
                    query: "
                        select unnest(split_at(
                          named_struct('touchpoints', ['view', 'cart', 'view']), [true, false, true])) as run
                    ",
                    rows: &["run", "{touchpoints: [view, cart]}", "{touchpoints: [view]}"],
                },
                returns: "list of structs with the fields of the timeline, one per run; empty for an empty timeline.",
                parts: &[],
                nulls: "a null start counts as false; a field that is null counts as an empty list; null when either \
                        argument is null.",
                order: "that of the lists.",
                ties: "",
                memory: "8 bytes per run; the elements are shared with the timeline, and copied only where null rows \
                         hide some.",
                errors: "lists of different lengths; other types, at planning.",
                source: "our own.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

/// The lists of one field without the elements of rows that do not count, and how many each row has.
fn elements(lists: &ListArray, nulls: Option<&NullBuffer>) -> Result<(ArrayRef, OffsetBuffer<i32>)> {
    let nulls = NullBuffer::union(nulls, lists.nulls());
    let dense = Lists::new(lists);
    if !dense.offsets.has_non_empty_nulls(nulls.as_ref()) {
        return Ok((dense.values, dense.offsets));
    }
    let is_valid = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
    let mut is_kept = BooleanBufferBuilder::new(dense.values.len());
    for row in 0..dense.len() {
        is_kept.append_n(dense.span(row).len(), is_valid(row));
    }
    let values = filter(&dense.values, &BooleanArray::new(is_kept.finish(), None))?;
    let lengths = (0..dense.len()).map(|row| if is_valid(row) { dense.span(row).len() } else { 0 });
    Ok((values, OffsetBuffer::from_lengths(lengths)))
}

/// Cuts each row's lists at its starts.
///
/// The elements of a field lie one after another, without holes, so that the cuts, counted over all rows, are the
/// offsets of every field. Elements of rows that are not in the batch are cut off, though it would cost nothing to
/// keep them: arrow's `take` makes room for as many elements as there are.
fn split(timelines: &StructArray, starts: &Lists) -> Result<ListArray> {
    let rows = timelines.len();
    let flags = to_booleans("split_at", &starts.values)?;
    let nulls = NullBuffer::union(timelines.nulls(), starts.nulls.as_ref());
    let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));

    let mut cuts: Vec<i32> = Vec::with_capacity(flags.true_count() + 1);
    let mut row_ends: Vec<i32> = Vec::with_capacity(rows + 1);
    let mut element_count = 0;
    row_ends.push(0);
    for row in 0..rows {
        if !is_null(row) {
            for (index, flag) in starts.span(row).enumerate() {
                if index == 0 || (flags.is_valid(flag) && flags.value(flag)) {
                    cuts.push(element_count);
                }
                element_count += 1;
            }
        }
        row_ends.push(cuts.len() as i32);
    }
    cuts.push(element_count);
    let cuts = OffsetBuffer::new(ScalarBuffer::from(cuts));

    let mut columns: Vec<ArrayRef> = Vec::with_capacity(timelines.num_columns());
    for (column, field) in timelines.columns().iter().zip(timelines.fields()) {
        let DataType::List(item) = field.data_type() else {
            return exec_err!("split_at: expected field {} to be a list, got {}", field.name(), field.data_type());
        };
        let (values, offsets) = elements(column.as_list::<i32>(), nulls.as_ref())?;
        for (row, length) in offsets.lengths().enumerate() {
            let expected = starts.span(row).len();
            if length != expected && !is_null(row) {
                let name = field.name();
                return exec_err!("split_at: field {name} has {length} elements where starts has {expected}");
            }
        }
        columns.push(Arc::new(ListArray::try_new(Arc::clone(item), cuts.clone(), values, None)?));
    }
    let runs = StructArray::try_new(timelines.fields().clone(), columns, None)?;
    let row_ends = OffsetBuffer::new(ScalarBuffer::from(row_ends));
    Ok(ListArray::try_new(item_field(runs.data_type().clone()), row_ends, Arc::new(runs), nulls)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, RecordBatch};
    use datafusion::arrow::compute::{cast, concat_batches};
    use datafusion::arrow::datatypes::{Field, Int64Type};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use proptest::prelude::*;

    use super::super::arguments::coded_text_type;
    use super::super::register_all;
    use super::*;

    type Rows<T> = Vec<Option<Vec<T>>>;

    /// Lists whose null rows hide elements: what a row would hold, and whether it is null.
    fn lists(element: DataType, rows: &[(Vec<Option<i64>>, bool)]) -> ListArray {
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|(row, _)| row.len()));
        let values: Int64Array = rows.iter().flat_map(|(row, _)| row).copied().collect();
        let values = cast(&cast(&values, &DataType::Utf8).unwrap(), &element).unwrap();
        let nulls: Vec<bool> = rows.iter().map(|(_, is_null)| !is_null).collect();
        ListArray::new(item_field(element), offsets, values, Some(nulls.into()))
    }

    fn numbers(array: &ArrayRef) -> Vec<Option<i64>> {
        let array = cast(array, &DataType::Utf8).unwrap();
        cast(&array, &DataType::Int64).unwrap().as_primitive::<Int64Type>().iter().collect()
    }

    fn naive(values: &[Option<i64>], starts: &[Option<i64>]) -> Vec<Vec<Option<i64>>> {
        let mut runs: Vec<Vec<Option<i64>>> = Vec::new();
        for (value, start) in values.iter().zip(starts) {
            match runs.last_mut().filter(|_| *start != Some(1)) {
                Some(run) => run.push(*value),
                None => runs.push(vec![*value]),
            }
        }
        runs
    }

    prop_compose! {
        /// A row: values and starts of one length, what a null list hides instead, and which of the three are null.
        fn row()(
            pairs in prop::collection::vec((prop::option::of(0i64..99), prop::option::of(0i64..2)), 0..7),
            hidden in prop::collection::vec(prop::option::of(0i64..99), 0..4),
            is_null in any::<(bool, bool)>(),
        ) -> (Vec<Option<i64>>, Vec<Option<i64>>, Vec<Option<i64>>, bool, bool) {
            let (values, starts) = pairs.into_iter().unzip();
            (values, starts, hidden, is_null.0 && is_null.1, is_null.0 && !is_null.1)
        }
    }

    proptest! {
        #[test]
        fn runs_are_those_of_a_naive_loop(rows in prop::collection::vec(row(), 1..8), skip in 0usize..8) {
            let skip = skip.min(rows.len() - 1);
            let plain: Vec<_> = rows.iter().map(|(values, ..)| (values.clone(), false)).collect();
            // The second field hides other elements where the struct is null.
            let other: Vec<_> = rows
                .iter()
                .map(|(values, _, hidden, is_null, _)| (if *is_null { hidden } else { values }.clone(), *is_null))
                .collect();
            let starts: Vec<_> = rows.iter().map(|(_, starts, _, _, is_null)| (starts.clone(), *is_null)).collect();
            let struct_nulls: NullBuffer = rows.iter().map(|(_, _, _, is_null, _)| !is_null).collect::<Vec<_>>().into();
            let columns: Vec<ArrayRef> =
                vec![Arc::new(lists(coded_text_type(), &plain)), Arc::new(lists(DataType::Int64, &other))];
            let fields: Fields = columns
                .iter()
                .zip(["texts", "numbers"])
                .map(|(column, name)| Field::new(name, column.data_type().clone(), true))
                .collect();
            let timelines = StructArray::new(fields, columns, Some(struct_nulls)).slice(skip, rows.len() - skip);
            let starts = cast(&lists(DataType::Int64, &starts), &list_type(DataType::Boolean)).unwrap();
            let starts = Lists::new(starts.slice(skip, rows.len() - skip).as_list::<i32>());

            let runs = split(&timelines, &starts).unwrap();
            let expected: Rows<Vec<Option<i64>>> = rows[skip..]
                .iter()
                .map(|(values, starts, _, left, right)| (!left && !right).then(|| naive(values, starts)))
                .collect();
            for field in 0..2 {
                let found: Rows<Vec<Option<i64>>> = runs
                    .iter()
                    .map(|runs| Some(runs?.as_struct().column(field).as_list::<i32>().iter().flatten().map(|run| numbers(&run)).collect()))
                    .collect();
                prop_assert_eq!(&found, &expected);
            }
        }
    }

    #[test]
    fn the_elements_are_shared_and_not_copied() {
        let values = lists(DataType::Int64, &[(vec![Some(1), Some(2), Some(3)], false), (vec![Some(4)], false)]);
        let starts = lists(DataType::Int64, &[(vec![Some(1), Some(0), Some(1)], false), (vec![Some(1)], false)]);
        let starts = cast(&starts, &list_type(DataType::Boolean)).unwrap();
        let field = Field::new("numbers", values.data_type().clone(), true);
        let timelines = StructArray::new(vec![field].into(), vec![Arc::new(values.clone())], None).slice(1, 1);
        let runs = split(&timelines, &Lists::new(starts.slice(1, 1).as_list::<i32>())).unwrap();
        let run_values = runs.values().as_struct().column(0).as_list::<i32>().values();
        assert!(run_values.to_data().ptr_eq(&values.values().slice(3, 1).to_data()));
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        let ctx = SessionContext::new();
        register_all(&ctx);
        let unequal = ctx.sql("select split_at(named_struct('a', [1, 2]), [true])").await.unwrap().collect().await;
        let error = unequal.unwrap_err().to_string();
        assert!(error.contains("field a has 2 elements where starts has 1"), "{error}");
        for wrong in ["[1], [true]", "named_struct('a', 1), [true]", "named_struct('a', [1]), [1]"] {
            assert!(ctx.sql(&format!("select split_at({wrong})")).await.is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn sessions_come_out_of_events_in_one_statement() {
        let config = SessionConfig::new().with_target_partitions(4).with_batch_size(3);
        let ctx = SessionContext::new_with_config(config);
        register_all(&ctx);
        let events = "create table events as select arrow_cast(column1, 'Utf8View') as event_id, column2 as customer_id, \
             to_timestamp_micros(column3 * 60000000) as occurred_at, arrow_cast(column4, 'Utf8View') as channel, \
             arrow_cast(column5, 'Decimal128(18, 4)') as value from (values \
             ('e7', 'b', 0, 'web', null), ('e3', 'a', 31, 'store', 2.5), ('e1', 'a', 0, 'web', null), \
             ('e5', 'a', 90, 'web', 1.25), ('e2', 'a', 30, 'email', null), ('e8', 'c', 5, 'app', 9), \
             ('e6', 'a', 90, 'email', 4), ('e4', 'a', 62, 'web', null))";
        ctx.sql(events).await.unwrap().collect().await.unwrap();
        let sessions = "
            with timelines as (
                select customer_id,
                    timeline(occurred_at, event_id, named_struct('channels', channel, 'values', value)) as events
                from events
                group by customer_id
            ),
            sessions as (
                select customer_id,
                    unnest(split_at(events, gap_starts(events['times'], interval '30 minutes'))) as session
                from timelines
            )
            select customer_id,
                content_id('session', session['event_ids'][1]) = content_id('session', min_id) as has_id,
                session['event_ids'][1] as first_id, session['channels'][1] as entry, session['channels'][-1] as exit,
                cast(array_length(session['times']) as bigint) as touches, list_sum(session['values']) as value,
                session['times'][1] as started_at, session['times'][-1] as ended_at
            from (select *, array_min(session['event_ids']) as min_id from sessions)
            order by customer_id, started_at";
        let batches = ctx.sql(sessions).await.unwrap().collect().await.unwrap();
        let batch = concat_batches(&batches[0].schema(), &batches).unwrap();
        let expected = "
+-------------+--------+----------+-------+-------+---------+--------+----------------------+----------------------+
| customer_id | has_id | first_id | entry | exit  | touches | value  | started_at           | ended_at             |
+-------------+--------+----------+-------+-------+---------+--------+----------------------+----------------------+
| a           | true   | e1       | web   | store | 3       | 2.5000 | 1970-01-01T00:00:00Z | 1970-01-01T00:31:00Z |
| a           | true   | e4       | web   | email | 3       | 5.2500 | 1970-01-01T01:02:00Z | 1970-01-01T01:30:00Z |
| b           | true   | e7       | web   | web   | 1       | 0.0000 | 1970-01-01T00:00:00Z | 1970-01-01T00:00:00Z |
| c           | true   | e8       | app   | app   | 1       | 9.0000 | 1970-01-01T00:05:00Z | 1970-01-01T00:05:00Z |
+-------------+--------+----------+-------+-------+---------+--------+----------------------+----------------------+";
        assert_eq!(pretty_format_batches(&[batch]).unwrap().to_string(), expected.trim());
    }

    #[tokio::test]
    async fn an_empty_table_has_no_runs() {
        let ctx = SessionContext::new();
        register_all(&ctx);
        let sql = "select unnest(split_at(t, gap_starts(t['times'], 5))) as s from (select timeline(now(), 'e', \
                   named_struct('a', 1)) as t from (values (1)) as none(x) where x > 1)";
        let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    }
}
