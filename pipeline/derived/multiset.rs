//! Lists of numbers as multisets: they are added and taken off as numbers are, so that a median or percentile can be told
//! exactly without the rows that the numbers came from.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err, not_impl_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, EmitTo, Expr, GroupsAccumulator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

/// Whether lists of a type can be added.
pub fn is_multiset(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(item) if matches!(item.data_type(), DataType::Int64 | DataType::Float64))
}

/// The numbers of a list, ascending; none for null.
pub fn sorted(list: Expr) -> Expr {
    ScalarUDF::from(Sorted { signature: Signature::any(1, Volatility::Immutable) }).call(vec![list])
}

/// The numbers of the lists of a group, ascending: those of rows whose sign is 1 without those of rows whose sign is -1.
pub fn total(list: Expr, sign: Expr) -> Expr {
    AggregateUDF::from(Total { signature: Signature::any(2, Volatility::Immutable) }).call(vec![list, sign])
}

/// A column that says whether its row is added.
pub fn sign(is_added: bool) -> Expr {
    lit(if is_added { 1i64 } else { -1 })
}

/// The numbers of a list as whole numbers of the same order; no null.
fn numbers_of(values: &dyn Array) -> Result<Vec<i64>> {
    // Of a float the bits, of which a negative one's are turned: this is IEEE 754's total order.
    let in_order = |bits: i64| bits ^ (((bits >> 63).cast_unsigned() >> 1).cast_signed());
    Ok(match values.data_type() {
        DataType::Int64 => values.as_primitive::<Int64Type>().iter().flatten().collect(),
        DataType::Float64 => {
            let floats = values.as_primitive::<Float64Type>().iter().flatten();
            floats.map(|float| in_order(float.to_bits().cast_signed())).collect()
        }
        other => return plan_err!("a list of {other} is no multiset"),
    })
}

/// The inverse of [`numbers_of`].
fn values_of(numbers: Vec<i64>, data_type: &DataType) -> ArrayRef {
    let numbers = Int64Array::from(numbers);
    match data_type {
        DataType::Float64 => Arc::new(numbers.unary::<_, Float64Type>(|number| {
            f64::from_bits((number ^ (((number >> 63).cast_unsigned() >> 1).cast_signed())).cast_unsigned())
        })),
        _ => Arc::new(numbers),
    }
}

fn item_of(data_type: &DataType) -> Result<&FieldRef> {
    match data_type {
        DataType::List(item) => Ok(item),
        other => plan_err!("{other} is no multiset"),
    }
}

/// The numbers of each row of a list, one after another, with their ends.
fn lists_of(item: &FieldRef, lists: impl IntoIterator<Item = Vec<i64>>) -> Result<ArrayRef> {
    let (mut all, mut ends) = (Vec::new(), vec![0]);
    for list in lists {
        all.extend(list);
        let Ok(end) = i32::try_from(all.len()) else { return exec_err!("2³¹ numbers at once, expected fewer") };
        ends.push(end);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
    Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values_of(all, item.data_type()), None)?))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sorted {
    signature: Signature,
}

impl ScalarUDFImpl for Sorted {
    fn name(&self) -> &str {
        "sorted_numbers"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = args.args[0].to_array(args.number_rows)?;
        let lists = lists.as_list::<i32>();
        let sorted = lists.iter().map(|list| {
            let mut numbers = list.map_or(Ok(Vec::new()), |list| numbers_of(&list))?;
            numbers.sort_unstable();
            Ok(numbers)
        });
        let sorted = sorted.collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(lists_of(item_of(lists.data_type())?, sorted)?))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Total {
    signature: Signature,
}

impl AggregateUDFImpl for Total {
    fn name(&self) -> &str {
        "multiset_total"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let numbers = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
        let field = |name: &str| Arc::new(Field::new(format_state_name(args.name, name), numbers.clone(), true));
        Ok(vec![field("added"), field("taken_off")])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("multisets are totalled by group")
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let item = item_of(args.expr_fields[0].data_type())?.clone();
        Ok(Box::new(Totals { item, added: Vec::new(), taken_off: Vec::new(), numbers: 0 }))
    }
}

/// The numbers of each group so far, in the order in which they came.
#[derive(Debug)]
struct Totals {
    item: FieldRef,
    added: Vec<Vec<i64>>,
    taken_off: Vec<Vec<i64>>,
    /// How many there are in all.
    numbers: usize,
}

impl Totals {
    fn grow(&mut self, groups: usize) {
        self.added.resize_with(groups.max(self.added.len()), Vec::new);
        self.taken_off.resize_with(groups.max(self.taken_off.len()), Vec::new);
    }

    fn take(&mut self, emit_to: EmitTo) -> (Vec<Vec<i64>>, Vec<Vec<i64>>) {
        let taken = (emit_to.take_needed(&mut self.added), emit_to.take_needed(&mut self.taken_off));
        self.numbers -= taken.0.iter().chain(&taken.1).map(Vec::len).sum::<usize>();
        taken
    }
}

/// What is left of `added`, ascending, without what is in `taken_off`.
fn less(mut added: Vec<i64>, mut taken_off: Vec<i64>) -> Result<Vec<i64>> {
    // Both are mostly long runs in order and little more, which this sort makes use of.
    added.sort();
    taken_off.sort();
    let mut rest = taken_off.into_iter().peekable();
    added.retain(|number| rest.next_if_eq(number).is_none());
    match rest.next() {
        None => Ok(added),
        Some(_) => exec_err!("a number is taken off that is not there"),
    }
}

impl GroupsAccumulator for Totals {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let (lists, signs) = (values[0].as_list::<i32>(), values[1].as_primitive::<Int64Type>());
        for (row, group) in group_indices.iter().enumerate() {
            if lists.is_null(row) || filter.is_some_and(|filter| !(filter.is_valid(row) && filter.value(row))) {
                continue;
            }
            let numbers = numbers_of(&lists.value(row))?;
            self.numbers += numbers.len();
            let side = if signs.value(row) > 0 { &mut self.added } else { &mut self.taken_off };
            match side[*group].is_empty() {
                true => side[*group] = numbers,
                false => side[*group].extend(numbers),
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        for (state, side) in values.iter().zip([&mut self.added, &mut self.taken_off]) {
            let lists = state.as_list::<i32>();
            for (row, group) in group_indices.iter().enumerate().filter(|(row, _)| lists.is_valid(*row)) {
                let numbers = lists.value(row);
                self.numbers += numbers.len();
                side[*group].extend_from_slice(numbers.as_primitive::<Int64Type>().values());
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (added, taken_off) = self.take(emit_to);
        let left = added.into_iter().zip(taken_off).map(|(added, taken_off)| less(added, taken_off));
        lists_of(&self.item, left.collect::<Result<Vec<_>>>()?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (added, taken_off) = self.take(emit_to);
        let item = Arc::new(Field::new("item", DataType::Int64, true));
        Ok(vec![lists_of(&item, added)?, lists_of(&item, taken_off)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = Self { item: self.item.clone(), added: Vec::new(), taken_off: Vec::new(), numbers: 0 };
        let rows = values[0].len();
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.numbers * size_of::<i64>()
            + (self.added.capacity() + self.taken_off.capacity()) * size_of::<Vec<i64>>()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::array::{Float64Array, Float64Builder, ListBuilder};
    use datafusion::prelude::{SessionContext, ident};
    use proptest::prelude::*;

    use super::*;

    /// Lists with their group and sign.
    fn table(rows: &[(i64, i64, Vec<Option<f64>>)]) -> RecordBatch {
        let mut lists = ListBuilder::new(Float64Builder::new());
        for (.., list) in rows {
            lists.append_value(list.iter().copied());
        }
        RecordBatch::try_from_iter([
            ("group", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))) as ArrayRef),
            ("sign", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)))),
            ("list", Arc::new(lists.finish())),
        ])
        .unwrap()
    }

    fn lists(batches: &[RecordBatch], column: &str) -> Vec<Vec<f64>> {
        let of_batch = |batch: &RecordBatch| {
            let lists = batch.column_by_name(column).unwrap().as_list::<i32>().clone();
            let values = |list: ArrayRef| list.as_any().downcast_ref::<Float64Array>().unwrap().values().to_vec();
            lists.iter().map(|list| values(list.unwrap())).collect::<Vec<_>>()
        };
        batches.iter().flat_map(of_batch).collect()
    }

    #[tokio::test]
    async fn a_list_is_sorted_and_loses_its_nulls() {
        let rows = table(&[(0, 1, vec![Some(2.5), None, Some(-1.0), Some(f64::INFINITY), Some(-7.5), Some(0.0)])]);
        let sorted = SessionContext::new().read_batch(rows).unwrap().select(vec![sorted(ident("list")).alias("list")]);
        let found = lists(&sorted.unwrap().collect().await.unwrap(), "list");
        assert_eq!(found, [[-7.5, -1.0, 0.0, 2.5, f64::INFINITY]]);
    }

    #[tokio::test]
    async fn a_number_that_is_not_there_cannot_be_taken_off() {
        let rows = table(&[(0, 1, vec![Some(1.0)]), (0, -1, vec![Some(1.0), Some(1.0)])]);
        let total = total(ident("list"), ident("sign")).alias("list");
        let frame =
            SessionContext::new().read_batch(rows).unwrap().aggregate(vec![ident("group")], vec![total]).unwrap();
        let error = frame.collect().await.unwrap_err();
        assert!(error.to_string().contains("that is not there"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_added_and_taken_off_again_leaves_the_rest(
            kept in prop::collection::vec((0i64..5, prop::collection::vec(-9i32..9, 0..6)), 1..30),
            passing in prop::collection::vec((0i64..5, prop::collection::vec(-9i32..9, 0..6)), 0..30),
        ) {
            let floats = |list: &Vec<i32>| list.iter().map(|number| Some(f64::from(*number) / 4.0)).collect::<Vec<_>>();
            let mut rows: Vec<_> = kept.iter().map(|(group, list)| (*group, 1, floats(list))).collect();
            for (group, list) in &passing {
                rows.push((*group, 1, floats(list)));
                rows.insert(0, (*group, -1, floats(list)));
            }
            let mut expected = vec![Vec::new(); 5];
            for (group, list) in &kept {
                expected[*group as usize].extend(list.iter().map(|number| f64::from(*number) / 4.0));
            }
            for list in &mut expected {
                list.sort_by(f64::total_cmp);
            }
            expected.retain(|list| !list.is_empty());
            let found = tokio::runtime::Runtime::new().unwrap().block_on(async {
                let total = total(ident("list"), ident("sign")).alias("list");
                let frame = SessionContext::new().read_batch(table(&rows)).unwrap();
                let frame = frame.aggregate(vec![ident("group")], vec![total]).unwrap();
                lists(&frame.sort_by(vec![ident("group")]).unwrap().collect().await.unwrap(), "list")
            });
            let found: Vec<_> = found.into_iter().filter(|list| !list.is_empty()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
