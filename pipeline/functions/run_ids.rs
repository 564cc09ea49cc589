//! `run_ids`: for each element of a list, the id of the run that it belongs to.
//!
//! The ids of a batch are one dictionary with an entry per run, so that an id is hashed and kept once.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, BooleanArray, DictionaryArray, Int32Array, ListArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{
    Lists, TextColumn, coded_text_type, coerce_booleans, coerce_text, coerce_texts, expect_count, item_field,
    list_type, to_booleans,
};
use super::content_id::ContentIds;
use super::documentation::{Example, Manual, Section};

/// The function `run_ids`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct RunIds {
    signature: Signature,
}

impl Default for RunIds {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for RunIds {
    fn name(&self) -> &str {
        "run_ids"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 3)?;
        Ok(vec![
            coerce_text(self.name(), &types[0])?,
            coerce_texts(self.name(), &types[1])?,
            coerce_booleans(self.name(), &types[2])?,
        ])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(list_type(coded_text_type()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let kinds = TextColumn::of_array(self.name(), &args.args[0].to_array(rows)?)?;
        let event_ids = Lists::of_argument(self.name(), &args.args[1], rows)?;
        let starts = Lists::of_argument(self.name(), &args.args[2], rows)?;
        event_ids.expect_parallel(self.name(), &starts, ("event_ids", "starts"))?;
        let flags = to_booleans(self.name(), &starts.values)?;
        Ok(ColumnarValue::Array(Arc::new(identify(&kinds, event_ids, &starts, &flags)?)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Journeys,
                syntax: &["run_ids(kind, event_ids, starts)"],
                summary: "Returns, for each element of a list, the id of the run that it belongs to: \
                          `content_id(kind, event id of the run's first element)`.",
                details: "",
                arguments: &[
                    ("kind", "Text: what a run is, such as 'session'."),
                    ("event_ids", "List of text, in order."),
                    (
                        "starts",
                        "List of booleans, parallel to the event ids, as `gap_starts` and `journey_starts` give them. \
                         The first element starts a run in any case.",
                    ),
                ],
                example: Example {
                    query: "
                        select unnest(['e-1', 'e-2', 'e-3']) as event_id,
                          unnest(run_ids('session', ['e-1', 'e-2', 'e-3'], [true, false, true])) as session_id
                    ",
                    rows: &[
                        "event_id | session_id",
                        "e-1 | e19ae48e5db5d64f7a95b617e6afb082",
                        "e-2 | e19ae48e5db5d64f7a95b617e6afb082",
                        "e-3 | 2475d8c108f6643ef736b98d6c930e11",
                    ],
                },
                returns: "list of `Dictionary(Int32, Utf8)`, parallel to the event ids.",
                parts: &[],
                nulls: "a null start counts as false; where the event id of a run's first element is null, so are the \
                        ids of its elements; null when an argument is null.",
                order: "that of the lists.",
                ties: "",
                memory: "4 bytes per element, 32 bytes per run.",
                errors: "lists of different lengths; other types, at planning.",
                source: "our own.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

/// Lists parallel to `event_ids`; every run is one entry of their dictionary.
fn identify(kinds: &TextColumn, event_ids: Lists, starts: &Lists, flags: &BooleanArray) -> Result<ListArray> {
    let texts = TextColumn::of_array("run_ids", &event_ids.values)?;
    let rows = event_ids.len();
    let mut keys: Vec<i32> = Vec::with_capacity(event_ids.values.len());
    let mut ids = ContentIds::with_capacity(flags.true_count());
    let mut runs = 0;
    let mut is_known = Vec::with_capacity(rows);
    for row in 0..rows {
        let span = event_ids.span(row);
        let kind = kinds.get(row).filter(|_| !event_ids.is_null(row) && !starts.is_null(row));
        is_known.push(kind.is_some());
        if kind.is_none() {
            keys.resize(keys.len() + span.len(), 0);
            continue;
        }
        let first_flag = starts.span(row).start;
        for (index, position) in span.enumerate() {
            let flag = first_flag + index;
            if index == 0 || (flags.is_valid(flag) && flags.value(flag)) {
                ids.append(kind, texts.get(position));
                runs += 1;
            }
            keys.push(runs - 1);
        }
    }
    let nulls = Some(NullBuffer::from(is_known)).filter(|nulls| nulls.null_count() > 0);
    if runs == 0 {
        // Nothing but null and empty rows: no key may point into an empty dictionary.
        ids.append(None, None);
    }
    let ids = DictionaryArray::try_new(Int32Array::from(keys), Arc::new(ids.finish()?))?;
    Ok(ListArray::try_new(item_field(coded_text_type()), event_ids.offsets, Arc::new(ids), nulls)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
    use datafusion::arrow::compute::cast;
    use datafusion::logical_expr::ScalarUDF;
    use datafusion::prelude::SessionContext;

    use super::super::content_id::content_id;
    use super::*;

    async fn run(sql: &str) -> Result<Vec<Option<Vec<Option<String>>>>> {
        let ctx = SessionContext::new();
        ctx.register_udf(ScalarUDF::from(RunIds::default()));
        let batches = ctx.sql(sql).await?.collect().await?;
        let lists = batches.iter().flat_map(|batch| batch.column(0).as_list::<i32>().iter().collect::<Vec<_>>());
        let texts = |ids: ArrayRef| -> StringArray { cast(&ids, &DataType::Utf8).unwrap().as_string::<i32>().clone() };
        Ok(lists.map(|ids| Some(texts(ids?).iter().map(|id| id.map(str::to_owned)).collect())).collect())
    }

    #[tokio::test]
    async fn every_element_has_the_id_of_its_run() {
        let id = |event: &str| Some(content_id("session", event));
        let ids = run("select run_ids('session', ids, starts) from (values \
             (0, ['z'], [true]), (1, ['a', 'b', 'c'], [true, false, true]), (2, null, [true]), (3, ['d'], null), \
             (4, ['e', 'f', 'g'], [false, null, true]), (5, [null, 'h'], [true, false])) as lists(row, ids, starts) \
             where row > 0 order by row")
        .await
        .unwrap();
        let expected = vec![
            Some(vec![id("a"), id("a"), id("c")]),
            None,
            None,
            Some(vec![id("e"), id("e"), id("g")]),
            Some(vec![None, None]),
        ];
        assert_eq!(ids, expected);
    }

    #[tokio::test]
    async fn null_and_empty_lists_need_no_id() {
        let ids = run("select run_ids(kind, arrow_cast(ids, 'List(Utf8View)'), [true]) from (values \
             (1, 'session', null), (2, null, ['a'])) as lists(row, kind, ids) order by row")
        .await
        .unwrap();
        assert_eq!(ids, vec![None, None]);
        assert_eq!(run("select run_ids('session', [], [])").await.unwrap(), vec![Some(vec![])]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        let error = run("select run_ids('session', ['a'], [true, false])").await.unwrap_err();
        assert!(error.to_string().contains("event_ids has 1 elements where starts has 2"), "{error}");
        for wrong in ["1, ['a'], [true]", "'s', [1], [true]", "'s', ['a'], [1]", "'s', ['a']"] {
            assert!(run(&format!("select run_ids({wrong})")).await.is_err(), "{wrong}");
        }
    }
}
