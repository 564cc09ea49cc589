//! `path_slice`: the part of a journey from one touchpoint to another, before one, or after one.
//!
//! Touchpoints are compared by number; texts are not decoded. A constant is looked up once per batch.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::UInt32Array;
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_datafusion_err, internal_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, Texts, coerce_list, coerce_text, coerce_texts, element_type, returned_field};
use super::documentation::{Example, Manual, Section, Unlike};
use super::elements::{Names, Rows};

// ---------------------------------------------------------------------------------------------------------------
// The cut of one journey
// ---------------------------------------------------------------------------------------------------------------

/// Which stretch, where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occurrence {
    First,
    Last,
}

impl Occurrence {
    /// Reads a word; says what was expected when it is none.
    fn parse(word: &str) -> std::result::Result<Self, String> {
        match word {
            "first" => Ok(Self::First),
            "last" => Ok(Self::Last),
            other => Err(format!("expected the occurrence to be 'first' or 'last', got '{other}'")),
        }
    }
}

/// The stretch of `touches` from one touchpoint to another; `None` leaves an end open. All by number.
fn cut(touches: &[u32], from: Option<u32>, to: Option<u32>, occurrence: Occurrence) -> Option<Range<usize>> {
    match occurrence {
        Occurrence::First => {
            let (start, behind) = match from {
                None => (0, 0),
                Some(from) => {
                    let start = touches.iter().position(|touch| *touch == from)?;
                    (start, start + 1)
                }
            };
            let end = match to {
                None => touches.len(),
                Some(to) => behind + touches[behind..].iter().position(|touch| *touch == to)? + 1,
            };
            Some(start..end)
        }
        Occurrence::Last => {
            let (end, before) = match to {
                None => (touches.len(), touches.len()),
                Some(to) => {
                    let last = touches.iter().rposition(|touch| *touch == to)?;
                    (last + 1, last)
                }
            };
            let start = match from {
                None => 0,
                Some(from) => touches[..before].iter().rposition(|touch| *touch == from)?,
            };
            Some(start..end)
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The function
// ---------------------------------------------------------------------------------------------------------------

/// The function `path_slice`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PathSlice {
    signature: Signature,
}

impl Default for PathSlice {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Where the touchpoints stand among the arguments: second when there is a list of its own to cut.
fn touchpoints_position(types: &[DataType]) -> usize {
    usize::from(types.get(1).is_some_and(|second| element_type(second).is_some()))
}

impl ScalarUDFImpl for PathSlice {
    fn name(&self) -> &str {
        "path_slice"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let touchpoints = touchpoints_position(types);
        let usage = "([list,] touchpoints, from, to[, occurrence])";
        if !(3..=4).contains(&(types.len().saturating_sub(touchpoints))) {
            return plan_err!("path_slice: expected {usage}, got {} arguments", types.len());
        }
        let mut coerced = Vec::with_capacity(types.len());
        if touchpoints > 0 {
            coerced.push(coerce_list(self.name(), &types[0], "anything", DataType::Utf8, |_| true)?);
        }
        coerced.push(coerce_texts(self.name(), &types[touchpoints])?);
        for data_type in &types[touchpoints + 1..] {
            coerced.push(coerce_text(self.name(), data_type)?);
        }
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let occurrence = args.scalar_arguments.get(touchpoints_position(&types) + 3).copied().flatten();
        if let Some(word) = occurrence.and_then(|occurrence| occurrence.try_as_str()).flatten() {
            Occurrence::parse(word).map_err(|what| plan_datafusion_err!("path_slice: {what}"))?;
        }
        returned_field(self, &args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::List(item) = args.return_field.data_type() else {
            return internal_err!("path_slice: the result is not a list");
        };
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let position = touchpoints_position(&types);
        let lists = Lists::of_argument(self.name(), &args.args[0], args.number_rows)?;
        let touchpoints = Lists::of_argument(self.name(), &args.args[position], args.number_rows)?;
        lists.expect_parallel(self.name(), &touchpoints, ("list", "touchpoints"))?;
        let from = Texts::of_argument(self.name(), &args.args[position + 1])?;
        let to = Texts::of_argument(self.name(), &args.args[position + 2])?;
        let occurrences = match args.args.get(position + 3) {
            Some(argument) => Some(Texts::of_argument(self.name(), argument)?),
            None => None,
        };
        let mut names = Names::new();
        let touches = names.numbers(self.name(), &touchpoints.values)?;
        let (mut from, mut to) = (Numbered::new(&from), Numbered::new(&to));

        let mut kept: Vec<u32> = Vec::new();
        let mut rows = Rows::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let occurrence = match occurrences.as_ref().map(|occurrences| occurrences.get(row)) {
                None => Some(Occurrence::First),
                Some(None) => None,
                Some(Some(word)) => {
                    Some(Occurrence::parse(word).map_err(|what| exec_datafusion_err!("path_slice: {what}"))?)
                }
            };
            let (from, to) = (from.get(row, &mut names), to.get(row, &mut names));
            let stretch = match (lists.range(row), touchpoints.range(row), occurrence) {
                (Some(elements), Some(of_touches), Some(occurrence)) => cut(&touches[of_touches], from, to, occurrence)
                    .map(|stretch| elements.start + stretch.start..elements.start + stretch.end),
                _ => None,
            };
            match stretch {
                None => rows.null(),
                Some(stretch) => {
                    kept.extend(stretch.map(|position| position as u32));
                    rows.end(self.name(), kept.len())?;
                }
            }
        }
        let values = take(&lists.values, &UInt32Array::from(kept), None)?;
        Ok(ColumnarValue::Array(rows.finish(Arc::clone(item), values)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Paths,
                syntax: &["path_slice([list,] touchpoints, from, to[, occurrence])"],
                summary: "Returns the part of a journey from one touchpoint to another, both included.",
                details: "`from` and `to` are two touches, also where they are the same touchpoint.",
                arguments: &[
                    (
                        "list",
                        "List of anything, parallel to the touchpoints: what to cut; the touchpoints themselves when \
                         left out.",
                    ),
                    ("touchpoints", "List of text, in journey order."),
                    ("from", "Text: where to begin; null for the start of the journey."),
                    ("to", "Text: where to end; null for its end."),
                    (
                        "occurrence",
                        "`'first'`, also when left out, or `'last'`: which stretch, where there are several.",
                    ),
                ],
                example: Example {
                    query: "
                        select path_slice(touchpoints, 'cart', 'buy') as between,
                          path_slice([1, 2, 3, 4, 5], touchpoints, null, 'help') as positions_up_to_help,
                          path_slice(touchpoints, 'help', 'cart') as never
                        from (values (['home', 'cart', 'help', 'buy', 'home'])) as journeys(touchpoints)
                    ",
                    rows: &["between | positions_up_to_help | never", "[cart, help, buy] | [1, 2, 3] | "],
                },
                returns: "list of the type of the list that is cut; null when the journey has no such stretch.",
                parts: &[(
                    "Occurrence",
                    "`first` is the stretch from the first `from` to the first `to` behind it; `last` is the same \
                     read backwards: from the last `from` that stands before the last `to`, to that one. With one \
                     open end that is, for `first`, all up to the first `to` or all from the first `from` on; for \
                     `last`, the last one.",
                )],
                nulls: "a null touchpoint is no one's `from` or `to`; null elements of a slice stay; a null `from` or \
                        `to` leaves its end open; null for a null list or occurrence.",
                order: "that of the lists.",
                ties: "",
                memory: "4 bytes per touch, 4 per element kept, and the result.",
                errors: "lists of different lengths; another occurrence, at planning where it is constant; other \
                         types, at planning.",
                source: "our own.",
                differs: &[Unlike {
                    whom: "PostHog's paths with a start and an end point",
                    by: &["a stretch leads from a touchpoint to the next that fits, where its leads from the first \
                           start to the last end: here a slice of a slice"],
                }],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Text arguments
// ---------------------------------------------------------------------------------------------------------------

/// Texts by their number among the names of a batch; that of a constant is looked up once.
struct Numbered<'a> {
    texts: &'a Texts,
    constant: Option<Option<u32>>,
}

impl<'a> Numbered<'a> {
    fn new(texts: &'a Texts) -> Self {
        Self { texts, constant: None }
    }

    fn get(&mut self, row: usize, names: &mut Names<'a>) -> Option<u32> {
        if let Some(number) = self.constant {
            return number;
        }
        let number = self.texts.get(row).map(|text| names.number(text));
        self.constant = self.texts.is_constant().then_some(number);
        number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::functions::elements::testing::{SELECT_JOURNEYS, error_of, in_every_encoding, rows_of};

    /// Every stretch that begins and ends as asked, then the one that the words of the documentation choose.
    fn naive(touches: &[u32], from: Option<u32>, to: Option<u32>, occurrence: Occurrence) -> Option<Range<usize>> {
        let mut stretches = vec![];
        for start in 0..=touches.len() {
            for end in start..=touches.len() {
                let begins = match from {
                    None => start == 0,
                    Some(from) => touches.get(start) == Some(&from),
                };
                let ends = match to {
                    None => end == touches.len(),
                    Some(to) => end > 0 && touches[end - 1] == to,
                };
                let holds_both = match (from, to) {
                    (Some(_), Some(_)) => end - start >= 2,
                    (None, None) => true,
                    _ => end > start,
                };
                if begins && ends && holds_both {
                    stretches.push(start..end);
                }
            }
        }
        match occurrence {
            Occurrence::First => stretches.into_iter().min_by_key(|stretch| (stretch.start, stretch.end)),
            Occurrence::Last => stretches.into_iter().max_by_key(|stretch| (stretch.end, stretch.start)),
        }
    }

    proptest! {
        #[test]
        fn a_cut_is_the_first_or_last_of_all_stretches(
            touches in prop::collection::vec(0u32..4, 0..10),
            from in prop::option::of(1u32..4),
            to in prop::option::of(1u32..4),
        ) {
            for occurrence in [Occurrence::First, Occurrence::Last] {
                prop_assert_eq!(cut(&touches, from, to, occurrence), naive(&touches, from, to, occurrence));
            }
        }

        #[test]
        fn the_last_stretch_is_the_first_one_read_backwards(
            touches in prop::collection::vec(0u32..4, 0..10),
            from in prop::option::of(1u32..4),
            to in prop::option::of(1u32..4),
        ) {
            let backwards: Vec<u32> = touches.iter().rev().copied().collect();
            let mirrored = cut(&backwards, to, from, Occurrence::First)
                .map(|stretch| touches.len() - stretch.end..touches.len() - stretch.start);
            prop_assert_eq!(cut(&touches, from, to, Occurrence::Last), mirrored);
        }
    }

    async fn slice(arguments: &str) -> String {
        rows_of(&format!("select path_slice({arguments})")).await.remove(0)
    }

    const PATH: &str = "['home', 'cart', 'help', 'cart', 'purchase', 'home', 'cart', 'purchase', 'home']";

    #[tokio::test]
    async fn open_ends_reach_to_the_ends_of_the_journey() {
        assert_eq!(slice(&format!("{PATH}, null, 'purchase'")).await, "[home, cart, help, cart, purchase]");
        assert_eq!(slice(&format!("{PATH}, null, 'help', 'last'")).await, "[home, cart, help]");
        assert_eq!(slice(&format!("{PATH}, 'help', null")).await, "[help, cart, purchase, home, cart, purchase, home]");
        assert_eq!(slice(&format!("{PATH}, 'purchase', null, 'last'")).await, "[purchase, home]");
        assert_eq!(slice("['a', null], null, null").await, "[a, ]");
        assert_eq!(slice("[]::varchar[], null, null").await, "[]");
    }

    #[tokio::test]
    async fn the_stretch_between_is_the_first_or_the_last() {
        assert_eq!(slice(&format!("{PATH}, 'cart', 'purchase'")).await, "[cart, help, cart, purchase]");
        assert_eq!(slice(&format!("{PATH}, 'cart', 'purchase', 'last'")).await, "[cart, purchase]");
        assert_eq!(slice(&format!("{PATH}, 'home', 'home'")).await, "[home, cart, help, cart, purchase, home]");
        assert_eq!(slice(&format!("{PATH}, 'home', 'home', 'last'")).await, "[home, cart, purchase, home]");
        let widest = format!("path_slice({PATH}, 'cart', null), null, 'purchase', 'last'");
        assert_eq!(slice(&widest).await, "[cart, help, cart, purchase, home, cart, purchase]");
    }

    #[tokio::test]
    async fn without_such_a_stretch_there_is_none() {
        for arguments in [
            "['a', 'b'], 'c', null",
            "['a', 'b'], null, 'c'",
            "['b', 'a'], 'a', 'b'",
            "['b', 'a'], 'a', 'b', 'last'",
            "['a'], 'a', 'a'",
            "[null], 'a', null",
            "null, 'a', null",
            "null, ['a'], 'a', null",
            "['a'], 'a', null, null",
        ] {
            assert_eq!(rows_of(&format!("select path_slice({arguments}) is null")).await, ["true"], "{arguments}");
        }
    }

    #[tokio::test]
    async fn parallel_lists_are_cut_alike_in_every_encoding() {
        for journeys in in_every_encoding() {
            let sql = format!(
                "select path_slice(touchpoints, 'home', 'product'), path_slice(channels, touchpoints, 'home', 'product'),                  array_length(path_slice(times, touchpoints, null, 'product')) from ({journeys}) order by id"
            );
            let expected = ["[home, home, product] | [web, store, store] | 3", " |  | 2", " |  | ", " |  | "];
            assert_eq!(rows_of(&sql).await, expected, "{journeys}");
        }
    }

    #[tokio::test]
    async fn a_dictionary_stays_one_and_other_types_stay_what_they_are() {
        let sql = "select arrow_typeof(path_slice(arrow_cast(['a'], 'LargeList(Dictionary(UInt8, Utf8))'), 'a', null)),                    arrow_typeof(path_slice([1.5], ['a'], 'a', null)), path_slice([[1], [2]], ['a', 'b'], 'b', null)";
        let expected = "List(Dictionary(UInt8, Utf8)) | List(Float64) | [[2]]";
        assert_eq!(rows_of(sql).await, [expected]);
    }

    #[tokio::test]
    async fn ends_and_occurrence_may_differ_from_row_to_row() {
        let sql = format!(
            "select which, path_slice(touchpoints, f, t, o) from ({SELECT_JOURNEYS}) cross join (values              (1, 'home', 'product', 'first'), (2, 'home', 'product', 'last'), (3, null, 'home', 'first'),              (4, 'product', null, 'last')) as cuts(which, f, t, o) where id = 1 order by which"
        );
        let expected = ["1 | [home, home, product]", "2 | [home, product]", "3 | [home]", "4 | [product, home]"];
        assert_eq!(rows_of(&sql).await, expected);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("['a'], 'a'", "expected ([list,] touchpoints, from, to[, occurrence]), got 2 arguments"),
            ("['a'], ['a'], 'a'", "got 3 arguments"),
            ("['a'], ['a'], 'a', 'b', 'last', 'x'", "got 6 arguments"),
            ("[1], 'a', 'b'", "expected a list of text"),
            ("['a'], [1], 'a', 'b'", "expected a list of text"),
            ("['a'], 1, 'b'", "expected text, got Int64"),
            ("1, ['a'], 'a', 'b'", "expected a list of anything, got Int64"),
            ("['a'], 'a', 'b', 'second'", "expected the occurrence to be 'first' or 'last', got 'second'"),
            ("[1, 2], ['a'], 'a', null", "list has 2 elements where touchpoints has 1"),
        ] {
            let error = error_of(&format!("select path_slice({arguments})")).await;
            assert!(error.contains("path_slice: ") && error.contains(message), "{arguments}: {error}");
        }
    }
}
