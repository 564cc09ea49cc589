//! `first_at`: what stands beside the first touch of a kind.

use std::sync::LazyLock;

use datafusion::arrow::array::{Array, AsArray, UInt32Builder};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_datafusion_err, internal_err, plan_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, Texts, coerce_list, coerce_text, coerce_texts, expect_count, returned_field};
use super::documentation::{Example, Manual, Section, Unlike};
use super::elements::Names;
use super::funnel::{Matcher, Steps};

/// The function `first_at`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct FirstAt {
    signature: Signature,
}

impl Default for FirstAt {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The touchpoints that a step names, by their number.
fn matcher(step: &str, touchpoints: &[Option<&str>]) -> std::result::Result<Matcher, String> {
    Ok(Matcher::new(&Steps::parse([Some(step)])?, touchpoints, &[]))
}

impl ScalarUDFImpl for FirstAt {
    fn name(&self) -> &str {
        "first_at"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 3)?;
        Ok(vec![
            coerce_list(self.name(), &types[0], "anything", DataType::Utf8, |_| true)?,
            coerce_texts(self.name(), &types[1])?,
            coerce_text(self.name(), &types[2])?,
        ])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let DataType::List(item) = &types[0] else {
            return internal_err!("first_at: the first argument is not a list");
        };
        Ok(match item.data_type() {
            // As the other functions give texts: what DataFusion groups by best.
            DataType::Dictionary(_, value) if value.is_string() => DataType::Utf8View,
            other => other.clone(),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let step = args.scalar_arguments.get(2).copied().flatten();
        if let Some(step) = step.and_then(|step| step.try_as_str()).flatten() {
            matcher(step, &[]).map_err(|what| plan_datafusion_err!("first_at: {what}"))?;
        }
        returned_field(self, &args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        let touchpoints = Lists::of_argument(self.name(), &args.args[1], args.number_rows)?;
        lists.expect_parallel(self.name(), &touchpoints, ("list", "touchpoints"))?;
        let steps = Texts::of_argument(self.name(), &args.args[2])?;
        let mut names = Names::new();
        let touches = names.numbers(self.name(), &touchpoints.values)?;

        let mut known: Option<(&str, Matcher)> = None;
        let mut first_of = |row: usize| -> Result<Option<u32>> {
            let (Some(elements), Some(of_touches), Some(step)) =
                (lists.range(row), touchpoints.range(row), steps.get(row))
            else {
                return Ok(None);
            };
            let matcher = match &mut known {
                Some((last, matcher)) if std::ptr::eq(*last, step) || *last == step => matcher,
                known => {
                    let matcher =
                        matcher(step, names.texts()).map_err(|what| exec_datafusion_err!("first_at: {what}"))?;
                    &mut known.insert((step, matcher)).1
                }
            };
            let Some(steps) = matcher.on_any_channel() else {
                return internal_err!("first_at: a step names a channel where there is none");
            };
            let first = touches[of_touches].iter().position(|touch| steps[*touch as usize] != 0);
            Ok(first.map(|first| (elements.start + first) as u32))
        };
        let mut places = UInt32Builder::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            places.append_option(first_of(row)?);
        }
        let places = places.finish();
        let returned = args.return_field.data_type();
        if let (Some(dictionary), false) =
            (lists.values.as_any_dictionary_opt(), matches!(returned, DataType::Dictionary(..)))
        {
            // Each text is read once.
            let keys = take(dictionary.keys(), &places, None)?;
            let texts = cast(dictionary.values(), returned)?;
            return Ok(ColumnarValue::Array(take(&texts, &keys, None)?));
        }
        let found = take(&lists.values, &places, None)?;
        Ok(ColumnarValue::Array(match found.data_type() == returned {
            true => found,
            false => cast(&found, returned)?,
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Lists,
                syntax: &["first_at(list, touchpoints, step)"],
                summary: "Returns what stands in a list beside the first touch of a kind.",
                details: "The channel by which a customer came in is `first_at(channels, touchpoints, 'ad_click|email_click')`.",
                arguments: &[
                    ("list", "List of anything, parallel to the touchpoints."),
                    ("touchpoints", "List of text, in journey order."),
                    (
                        "step",
                        "Text: a touchpoint, several as `a|b`, or `*` for any, as the steps of `journey_funnel`; a channel \
                         cannot be asked for.",
                    ),
                ],
                example: Example {
                    query: "
                        select first_at(channels, touchpoints, 'ad_click|email_click') as entered_by,
                          first_at([1, 2, 3], touchpoints, 'buy') as bought_at,
                          first_at(channels, touchpoints, 'help') as never
                        from (values (['home', 'email_click', 'buy'], ['web', 'email', 'web'])) as journeys(touchpoints, channels)
                    ",
                    rows: &["entered_by | bought_at | never", "email | 3 | "],
                },
                returns: "the type of the elements, text of a dictionary as plain text; null when no touch is of this kind.",
                parts: &[],
                nulls: "a null touchpoint is of the kind `*` alone; null for a null list or step, and where the element is null.",
                order: "that of the lists.",
                ties: "touches of one time are taken as they stand in the lists.",
                memory: "4 bytes per touch and per row, and the result.",
                errors: "lists of different lengths; a step without a name, at planning where it is constant; other types, \
                         at planning.",
                source: "our own.",
                differs: &[Unlike {
                    whom: "`first_value(…) filter (where …)` over rows",
                    by: &["it needs no group and no order of its own"],
                }],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::functions::elements::testing::{SELECT_JOURNEYS, error_of, in_every_encoding, rows_of};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_the_element_at_the_first_place_that_fits(
            journeys in prop::collection::vec(prop::collection::vec(prop::option::of(0_usize..5), 0..8), 1..6),
            step in prop::collection::vec(0_usize..6, 1..4),
        ) {
            let names = ["home", "cart", "help", "buy", "a:b", "*"];
            let asked: Vec<&str> = step.iter().map(|name| names[*name]).collect();
            let literal = |touch: &Option<usize>| touch.map_or("null".to_owned(), |touch| format!("'{}'", names[touch]));
            let rows: Vec<String> = (0..).zip(&journeys).map(|(row, touches)| {
                let touches: Vec<String> = touches.iter().map(literal).collect();
                let places: Vec<String> = (1..=touches.len()).map(|place| place.to_string()).collect();
                format!("({row}, arrow_cast([{}], 'List(Utf8)'), arrow_cast([{}], 'List(Int64)'))", touches.join(", "), places.join(", "))
            }).collect();
            let sql = format!(
                "select first_at(places, touchpoints, '{}') from (values {}) as journeys(row, touchpoints, places) order by row",
                asked.join("|"),
                rows.join(", "),
            );
            let expected: Vec<String> = journeys.iter().map(|touches| {
                let fits = |touch: &Option<usize>| asked.contains(&"*") || touch.is_some_and(|touch| asked.contains(&names[touch]));
                touches.iter().position(fits).map_or(String::new(), |place| (place + 1).to_string())
            }).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(rows_of(&sql)), expected);
        }
    }

    #[tokio::test]
    async fn it_reads_every_encoding() {
        let sql = |journeys: &str| {
            format!(
                "select first_at(channels, touchpoints, 'product'), first_at(stages, touchpoints, '*') from ({journeys}) order by id"
            )
        };
        let expected = rows_of(&sql(SELECT_JOURNEYS)).await;
        assert_eq!(expected, ["store | evaluation", " | ", " | ", " | "]);
        for journeys in in_every_encoding() {
            assert_eq!(rows_of(&sql(&journeys)).await, expected, "{journeys}");
        }
    }

    #[tokio::test]
    async fn a_step_may_differ_from_row_to_row() {
        let sql =
            "select first_at([1, 2], ['a', 'b'], step) from (values ('a'), ('b'), (null), ('b|a')) as steps(step)";
        assert_eq!(rows_of(sql).await, ["1", "2", "", "1"]);
    }

    #[tokio::test]
    async fn wrong_calls_are_told_while_planning() {
        assert!(error_of("select first_at([1], ['a'])").await.contains("first_at: expected 3 arguments"));
        assert!(error_of("explain select first_at([1], ['a'], '')").await.contains("first_at: "));
        assert!(error_of("select first_at([1, 2], ['a'], 'a')").await.contains("list"));
    }
}
