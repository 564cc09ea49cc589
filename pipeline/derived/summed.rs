//! A table of sums and the changes over it, read as one: what layers add and take off is summed with the rows below.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::functions_aggregate::expr_fn::{first_value, sum};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, lit};
use datafusion::prelude::{DataFrame, SessionContext, ident};

use super::changes::{FILES, Layer, Over, Sums};
use super::multiset;
use crate::delta::{Part, Snapshot, Table};
use crate::error::{Error, Result};
use crate::lake::Lake;

/// Column that tells whether a row is added.
const SIDE: &str = "wayline side";

/// The rows of `table` with what lies over it. A row that counts nothing is none.
pub fn provider(
    ctx: &SessionContext,
    lake: &Lake,
    folder: &str,
    table: &Table,
    over: &Over,
) -> Result<Arc<dyn TableProvider>> {
    Ok(rows(ctx, lake, folder, table, over, Ok)?.into_view())
}

/// The rows of [`provider`], of what a filter by keys leaves of each part that is summed.
pub fn rows(
    ctx: &SessionContext,
    lake: &Lake,
    folder: &str,
    table: &Table,
    over: &Over,
    filter: impl Fn(DataFrame) -> Result<DataFrame>,
) -> Result<DataFrame> {
    let sums = over.sums.as_ref().ok_or_else(|| Error::internal("layers of rows do not add up"))?;
    let schema = table.schema()?;
    let of_layers = |parts: fn(&Layer) -> &Vec<Part>| -> Result<DataFrame> {
        let parts: Vec<Part> = over.layers.iter().flat_map(parts).cloned().collect();
        Ok(ctx.read_table(Arc::new(Snapshot::new(lake, FILES, &schema, &[], parts)?))?)
    };
    let taken_off = filter(of_layers(|layer| &layer.removed)?)?;
    let mut rows = filter(of_layers(|layer| &layer.parts)?)?;
    if !over.replaces_all {
        rows = filter(ctx.read_table(table.provider(lake, folder)?)?)?.union(rows)?;
    }
    total(rows, taken_off, sums, &schema)
}

/// Those rows whose key is that of some row of `of`.
pub fn of_keys(rows: DataFrame, sums: &Sums, of: &DataFrame) -> Result<DataFrame> {
    // Of another name, so that it is not taken for a column of the rows.
    let wanted: Vec<String> = sums.keys.iter().map(|key| format!("wanted {key}")).collect();
    let keys = sums.keys.iter().zip(&wanted).map(|(key, wanted)| ident(key).alias(wanted));
    let of = of.clone().select(keys.collect::<Vec<_>>())?.into_unoptimized_plan();
    let (state, rows) = rows.into_parts();
    let column = |name: &String| Column::from_name(name);
    let on = (sums.keys.iter().map(column).collect::<Vec<_>>(), wanted.iter().map(column).collect::<Vec<_>>());
    let plan =
        LogicalPlanBuilder::from(rows).join_detailed(of, JoinType::LeftSemi, on, None, NullEquality::NullEqualsNull)?;
    Ok(DataFrame::new(state, plan.build()?))
}

/// The sums of `added` less those of `taken_off`, all with the columns of a schema; lists add up as multisets.
pub fn total(added: DataFrame, taken_off: DataFrame, sums: &Sums, schema: &Schema) -> Result<DataFrame> {
    let is_key = |field: &Field| sums.keys.contains(field.name());
    // Lists have no negative: a column beside them tells the side of each row.
    let has_lists = schema.fields().iter().any(|field| !is_key(field) && multiset::is_multiset(field.data_type()));
    let of_side = |frame: DataFrame, is_added: bool| {
        let columns = schema.fields().iter().map(|field| {
            let is_sum = !is_key(field) && !multiset::is_multiset(field.data_type()) && !is_kept(field.data_type());
            let is_taken_off = !is_added && is_sum;
            match is_taken_off {
                true => Expr::Negative(Box::new(ident(field.name()))).alias(field.name()),
                false => ident(field.name()),
            }
        });
        let side = has_lists.then(|| multiset::sign(is_added).alias(SIDE));
        frame.select(columns.chain(side).collect::<Vec<_>>())
    };
    let rows = of_side(added, true)?.union(of_side(taken_off, false)?)?;
    let (keys, summed): (Vec<_>, Vec<_>) = schema.fields().iter().partition(|field| is_key(field));
    let keys = keys.into_iter().map(|field| ident(field.name())).collect();
    let summed = summed.into_iter().map(|field| {
        let total = match field.data_type() {
            list if multiset::is_multiset(list) => multiset::total(ident(field.name()), ident(SIDE)),
            kept if is_kept(kept) => first_value(ident(field.name()), Vec::new()),
            _ => sum(ident(field.name())),
        };
        total.alias(field.name())
    });
    let rows = rows.aggregate(keys, summed.collect())?.filter(ident(&sums.count).not_eq(lit(0)))?;
    // Sums are wider than what is summed.
    let of_schema =
        schema.fields().iter().map(|field| match is_key(field) || multiset::is_multiset(field.data_type()) {
            true => ident(field.name()),
            false => cast(ident(field.name()), field.data_type().clone()).alias(field.name()),
        });
    Ok(rows.select(of_schema.collect::<Vec<_>>())?)
}

/// Whether what a column holds does not add up, so that its rows are those of a batch, to which nothing is ever added.
pub fn is_kept(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float64 | DataType::Timestamp(..))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Array, ArrayRef, AsArray, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringArray};
    use arrow::datatypes::Int64Type;
    use datafusion::datasource::MemTable;
    use proptest::prelude::*;

    use super::super::changes::{Changes, writer};
    use super::super::storage::to_stored;
    use super::super::{BuiltFrom, Derived, build};
    use super::*;
    use crate::delta::Pages;

    /// Keys, of which any may be null, a number and some numbers.
    type Row = (Option<String>, Option<i64>, i64, Vec<i64>);
    type Key = (Option<String>, Option<i64>);

    fn batch(rows: &[Row]) -> RecordBatch {
        let mut lists = ListBuilder::new(Int64Builder::new());
        rows.iter().for_each(|row| lists.append_value(row.3.iter().map(|number| Some(*number))));
        RecordBatch::try_from_iter_with_nullable([
            ("name", Arc::new(rows.iter().map(|row| row.0.clone()).collect::<StringArray>()) as ArrayRef, true),
            ("place", Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()), true),
            ("count", Arc::new(rows.iter().map(|row| Some(row.3.len() as i64)).collect::<Int64Array>()), true),
            ("total", Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Int64Array>()), true),
            ("numbers", Arc::new(lists.finish()), true),
        ])
        .unwrap()
    }

    fn rows(batches: &[RecordBatch]) -> Vec<Row> {
        let mut rows = Vec::new();
        for batch in batches {
            let number = |column: &str, row: usize| {
                let column = batch.column_by_name(column).unwrap().as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            let names = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
            let names = names.as_string::<i32>();
            for row in 0..batch.num_rows() {
                let list = batch.column_by_name("numbers").unwrap().as_list::<i32>().value(row);
                let list: Vec<i64> = list.as_primitive::<Int64Type>().values().to_vec();
                assert_eq!(number("count", row), Some(list.len() as i64));
                let name = names.is_valid(row).then(|| names.value(row).to_string());
                rows.push((name, number("place", row), number("total", row).unwrap(), list));
            }
        }
        rows.sort();
        rows
    }

    /// Sums as they should be, by key.
    #[derive(Default)]
    struct Expected(BTreeMap<Key, (i64, Vec<i64>)>);

    impl Expected {
        fn add(&mut self, rows: &[Row]) {
            for (name, place, total, numbers) in rows {
                let sums = self.0.entry((name.clone(), *place)).or_default();
                sums.0 += total;
                sums.1.extend(numbers);
                sums.1.sort_unstable();
            }
        }

        fn take_off(&mut self, rows: &[Row]) {
            for (name, place, total, numbers) in rows {
                let sums = self.0.get_mut(&(name.clone(), *place)).unwrap();
                sums.0 -= total;
                for number in numbers {
                    sums.1.remove(sums.1.iter().position(|other| other == number).unwrap());
                }
            }
        }

        fn rows(&self) -> Vec<Row> {
            let there = self.0.iter().filter(|(_, (_, numbers))| !numbers.is_empty());
            there.map(|((name, place), (total, numbers))| (name.clone(), *place, *total, numbers.clone())).collect()
        }
    }

    fn any_rows() -> impl Strategy<Value = Vec<Row>> {
        let row = (
            proptest::option::weighted(0.8, "[ab]{0,2}"),
            proptest::option::weighted(0.8, 0..3_i64),
            -5..6_i64,
            proptest::collection::vec(0..9_i64, 1..4),
        );
        proptest::collection::vec(row, 0..12)
    }

    /// A table and layers over it: rows that are added, and of how many of those that were added before, from which on, as many are
    /// taken off.
    async fn compare(below: Vec<Row>, layers: Vec<(Vec<Row>, usize, usize)>, wanted: Vec<Row>) {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), "lake").unwrap();
        let ctx = SessionContext::new();
        let mut expected = Expected::default();
        expected.add(&below);
        let in_memory = |rows: &[Row]| {
            let batch = batch(rows);
            ctx.read_table(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap())).unwrap()
        };
        let sums = Sums { keys: vec!["name".into(), "place".into()], count: "count".into() };
        let built_from = BuiltFrom::now("", &[], &BTreeMap::new());
        // A table of sums has a row per key.
        let rows_below = expected.rows();
        build::build(&lake, "t", None, in_memory(&rows_below), &built_from, Pages::Large).await.unwrap();
        let mut changes = Changes::default();
        let mut derived = Derived::open(&lake, &changes, "t").await.unwrap().unwrap();
        let schema = derived.stored_schema().unwrap();
        let mut there = below;
        for (added, first, count) in layers {
            let first = first.min(there.len());
            let removed: Vec<Row> = there.drain(first..(first + count).min(there.len())).collect();
            let mut parts = [Vec::new(), Vec::new()];
            for (rows, parts) in [&added, &removed].into_iter().zip(&mut parts) {
                let mut writer = writer(&lake, "t", schema.clone());
                writer.write(&to_stored(&batch(rows), &schema).unwrap()).await.unwrap();
                *parts = writer.finish().await.unwrap();
            }
            let [parts, removed_parts] = parts;
            let layer = Layer { keys: None, parts, removed: removed_parts };
            let table = (derived.table.id().unwrap(), derived.table.version());
            changes.add("t", table, sums.clone(), built_from.clone(), Some(layer));
            expected.add(&added);
            expected.take_off(&removed);
            there.extend(added);
        }
        derived.change(changes.tables.get("t").cloned());
        let all = ctx.read_table(derived.provider(&ctx).await.unwrap()).unwrap().collect().await.unwrap();
        assert_eq!(rows(&all), expected.rows());
        let some = derived.sums_of(&ctx, &sums, &in_memory(&wanted)).await.unwrap().collect().await.unwrap();
        let is_wanted = |row: &Row| wanted.iter().any(|wanted| (&wanted.0, wanted.1) == (&row.0, row.1));
        assert_eq!(rows(&some), expected.rows().into_iter().filter(is_wanted).collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn layers_add_up_to_what_is_left_of_all_their_rows(
            below in any_rows(),
            layers in proptest::collection::vec((any_rows(), 0..8_usize, 0..8_usize), 0..4),
            wanted in any_rows(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(compare(below, layers, wanted));
        }
    }
}
