//! `attribution_weights`: what each touch of a journey gets of its conversion.
//!
//! The models themselves are in [`weights`], which knows nothing of Arrow. Touches are compared by number, and only
//! where the model asks what they were; texts are not decoded. 24 bytes are kept per touch of the journey in hand.

mod weights;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, Float64Array, Int64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

pub(super) use self::weights::{Attribution, Model, Touch};
use super::arguments::{
    Lists, Texts, coerce_list, coerce_text, coerce_texts, element_type, item_field, list_type, time_type,
};
use super::documentation::{Example, Manual, Section, Unlike};
use super::elements::{Names, Rows};
use super::moments::{Spans, coerce_moment, coerce_span_between, is_moment, to_moments};

/// The half-life of a call that names none.
pub(super) const DEFAULT_HALF_LIFE: i64 = 7 * 86_400_000_000;

/// The function `attribution_weights`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct AttributionWeights {
    signature: Signature,
}

impl Default for AttributionWeights {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Where the arguments stand that may be left out.
#[derive(Debug, Clone, Copy)]
struct Positions {
    times: Option<usize>,
    /// Of the time of the conversion; the look-back follows it.
    converted_at: Option<usize>,
    half_life: Option<usize>,
}

impl Positions {
    fn of_count(count: usize) -> Result<Self> {
        let (converted_at, half_life) = match count {
            2 | 3 => (None, None),
            4 => (None, Some(3)),
            5 => (Some(3), None),
            6 => (Some(3), Some(5)),
            _ => {
                return plan_err!(
                    "attribution_weights: expected (model, touches[, times[, half_life]]) or \
                     (model, touches, times, converted_at, look_back[, half_life]), got {count} arguments"
                );
            }
        };
        Ok(Self { times: (count > 2).then_some(2), converted_at, half_life })
    }

    /// Says what a model misses, if it misses something.
    fn check(&self, model: Model, times: Option<&DataType>) -> std::result::Result<(), String> {
        if model != Model::TimeDecay {
            return Ok(());
        }
        match times {
            None => Err("time_decay needs the times of the touches as third argument".to_owned()),
            Some(times) if times.is_integer() && self.half_life.is_none() => {
                Err("time_decay over whole-number times needs a half_life in their unit".to_owned())
            }
            Some(_) => Ok(()),
        }
    }
}

/// The type of one time in a list of times.
fn time_element(times: &DataType) -> &DataType {
    element_type(times).unwrap_or(&DataType::Null)
}

impl ScalarUDFImpl for AttributionWeights {
    fn name(&self) -> &str {
        "attribution_weights"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let positions = Positions::of_count(types.len())?;
        let mut coerced = vec![coerce_text(self.name(), &types[0])?, coerce_texts(self.name(), &types[1])?];
        if let Some(times) = positions.times {
            coerced.push(coerce_list(
                self.name(),
                &types[times],
                "timestamps, dates or whole numbers",
                time_type(),
                is_moment,
            )?);
        }
        let time = coerced.get(2).map_or(DataType::Null, |times| time_element(times).clone());
        if let Some(converted_at) = positions.converted_at {
            let moment = coerce_moment(self.name(), "converted_at", &types[converted_at])?;
            if !types[converted_at].is_null() && moment.is_integer() != time.is_integer() {
                return plan_err!(
                    "attribution_weights: expected converted_at to be a time as the others are, got {moment}"
                );
            }
            coerced.push(if types[converted_at].is_null() { time.clone() } else { moment });
            coerced.push(coerce_span_between(self.name(), "look_back", &time, &types[converted_at + 1])?);
        }
        if let Some(half_life) = positions.half_life {
            coerced.push(coerce_span_between(self.name(), "half_life", &time, &types[half_life])?);
        }
        Ok(coerced)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(list_type(DataType::Float64))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let positions = Positions::of_count(args.arg_fields.len())?;
        if let Some(model) = args.scalar_arguments[0].and_then(|model| model.try_as_str()).flatten() {
            let times = positions.times.map(|times| time_element(args.arg_fields[times].data_type()));
            Model::parse(model)
                .and_then(|model| positions.check(model, times))
                .map_err(|what| plan_datafusion_err!("attribution_weights: {what}"))?;
        }
        // Before the arguments are coerced, a constant still has the type in which it was written.
        let constant = |position: Option<usize>| {
            let position = position?;
            args.scalar_arguments[position]
                .filter(|scalar| scalar.data_type() == *args.arg_fields[position].data_type())
        };
        if let Some(look_back) = constant(positions.converted_at.map(|converted_at| converted_at + 1)) {
            Spans::of_argument(self.name(), &ColumnarValue::Scalar(look_back.clone()))?;
        }
        if let Some(half_life) = constant(positions.half_life) {
            let half_lives = Spans::of_argument(self.name(), &ColumnarValue::Scalar(half_life.clone()))?;
            half_lives.get(0).map(|half_life| checked_half_life(self.name(), half_life)).transpose()?;
        }
        Ok(Arc::new(Field::new(self.name(), list_type(DataType::Float64), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let call = Call::of_arguments(self.name(), &args)?;
        let mut names = Names::new();
        let mut name_numbers = None;
        let mut attribution = Attribution::default();
        let mut weights: Vec<f64> = Vec::with_capacity(call.touches.values.len());
        let mut rows = Rows::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let Some(conversion) = call.conversion(row)? else {
                rows.null();
                continue;
            };
            // Only one model asks what the touches were.
            if conversion.model == Model::Participation && name_numbers.is_none() {
                name_numbers = Some(names.numbers(self.name(), &call.touches.values)?);
            }
            let of_touches = call.touches.span(row);
            attribution.begin();
            for (position, touch) in of_touches.clone().enumerate() {
                let name = name_numbers.as_ref().map_or(0, |numbers| numbers[touch]);
                if let Some(time) = conversion.time_if_counted(position) {
                    attribution.touch(Touch { position, name, time });
                }
            }
            let start = weights.len();
            weights.resize(start + of_touches.len(), 0.0);
            attribution.share(conversion.model, conversion.half_life, &mut weights[start..]);
            rows.end(self.name(), weights.len())?;
        }
        let weights = Arc::new(Float64Array::from(weights));
        Ok(ColumnarValue::Array(rows.finish(item_field(DataType::Float64), weights)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Attribution,
                syntax: &[
                    "attribution_weights(model, touches[, times[, half_life]])",
                    "attribution_weights(model, touches, times, converted_at, look_back[, half_life])",
                ],
                summary: "Returns what each touch of a conversion gets of it: a list of weights, parallel to the \
                          touches.",
                details: "",
                arguments: &[
                    ("model", "Text, a constant or a column: see Models."),
                    (
                        "touches",
                        "List of text, in journey order: the touches of one conversion, without the conversion \
                         itself.",
                    ),
                    (
                        "times",
                        "List parallel to the touches: timestamps of any unit and zone, dates or whole numbers; \
                         `time_decay` and a look-back need it.",
                    ),
                    ("converted_at", "When the conversion was, a time as the others are."),
                    ("look_back", "How far before the conversion touches count, both ends included."),
                    (
                        "half_life",
                        "Span above 0 after which a touch weighs half in `time_decay`; 7 days when left out. Spans \
                         are intervals, durations, text such as `'7 days'` or whole microseconds; between \
                         whole-number times they are whole numbers in their unit, and a half-life must be given.",
                    ),
                ],
                example: Example {
                    query: "
                        select unnest(['ad', 'email', 'web']) as channel,
                          unnest(attribution_weights('u_shaped', ['ad', 'email', 'web'])) as u_shaped,
                          unnest(attribution_weights('time_decay', ['ad', 'email', 'web'], [0, 7, 7], 7)) as time_decay
                    ",
                    rows: &[
                        "channel | u_shaped | time_decay",
                        "ad | 0.4 | 0.2",
                        "email | 0.2 | 0.4",
                        "web | 0.4 | 0.4",
                    ],
                },
                returns: "list of `Float64`, parallel to the touches. The weights of the touches that count add up to \
                          1 but for rounding (1e-12), with `participation` to the number of distinct ones: no touch \
                          is bent to absorb it, so equal touches weigh the same. Touches that do not count get 0 and \
                          are as if they were not there. Where no touch counts all weights are 0: that conversion \
                          belongs to nobody.",
                parts: &[(
                    "Models",
                    "one of\n\
                     - `first`, `last`: all to that touch;\n\
                     - `linear`: the same to each;\n\
                     - `u_shaped`, also called `position_based`: 40 % to the first, 40 % to the last, 20 % to those \
                     between; 50 % each of two;\n\
                     - `j_shaped`: 20 % to the first, 60 % to the last, 20 % between; 25 % and 75 % of two;\n\
                     - `inverse_j_shaped`: 60 % to the first, 20 % to the last, 20 % between; 75 % and 25 % of two;\n\
                     - `time_decay`: half as much for every half-life that a touch lies further back;\n\
                     - `participation`: 1 to each distinct touch, at its first appearance.\n\
                     - Whatever the model, a single touch takes all.",
                )],
                nulls: "a null touch is a touch like others; a touch of unknown time does not count where the time \
                        matters (`time_decay`, a look-back); null when an argument is null.",
                order: "first and last are those of the list, not of the times.",
                ties: "with `time_decay`, touches of equal time weigh the same.",
                memory: "24 bytes per touch of one journey, 8 per touch of the result.",
                errors: "an unknown model, `time_decay` without times, spans that are negative or of months and a \
                         half-life of 0, all at planning where they are constant; lists of different lengths; other \
                         types, at planning.",
                source: "Adobe Customer Journey Analytics, attribution models: shares, two touches, half-life of 7 \
                         days.",
                differs: &[Unlike {
                    whom: "Adobe's time decay",
                    by: &["ages are counted from the latest touch that counts, where it counts them from the \
                           conversion: with weights that add up to 1 that is the same"],
                }],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

/// A half-life, unless it is 0.
pub(super) fn checked_half_life(function: &str, half_life: i64) -> Result<f64> {
    match half_life {
        0 => exec_err!("{function}: expected a half_life above 0"),
        half_life => Ok(half_life as f64),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Arguments
// ---------------------------------------------------------------------------------------------------------------

/// Lists of times with their elements as numbers.
struct TimeLists {
    lists: Lists,
    moments: Int64Array,
}

/// The arguments of a call.
struct Call {
    positions: Positions,
    time_type: Option<DataType>,
    models: Texts,
    touches: Lists,
    times: Option<TimeLists>,
    look_backs: Option<(Int64Array, Spans)>,
    half_lives: Option<Spans>,
}

/// One conversion to share out.
struct Conversion<'a> {
    model: Model,
    half_life: f64,
    /// The times of its touches.
    times: Option<(&'a Int64Array, usize)>,
    /// When it was, and how far before it touches count.
    look_back: Option<(i64, i64)>,
}

impl Call {
    fn of_arguments(function: &str, args: &ScalarFunctionArgs) -> Result<Self> {
        let positions = Positions::of_count(args.args.len())?;
        let touches = Lists::of_argument(function, &args.args[1], args.number_rows)?;
        let times = match positions.times {
            None => None,
            Some(times) => {
                let lists = Lists::of_argument(function, &args.args[times], args.number_rows)?;
                touches.expect_parallel(function, &lists, ("touches", "times"))?;
                Some(TimeLists { moments: to_moments(function, &lists.values)?, lists })
            }
        };
        let look_backs = match positions.converted_at {
            None => None,
            Some(position) => {
                let converted_at = to_moments(function, &args.args[position].to_array(args.number_rows)?)?;
                Some((converted_at, Spans::of_argument(function, &args.args[position + 1])?))
            }
        };
        let half_lives = match positions.half_life {
            None => None,
            Some(position) => Some(Spans::of_argument(function, &args.args[position])?),
        };
        let time_type = positions.times.map(|times| time_element(args.arg_fields[times].data_type()).clone());
        let models = Texts::of_argument(function, &args.args[0])?;
        Ok(Self { positions, time_type, models, touches, times, look_backs, half_lives })
    }

    /// The conversion of a row; `None` when one of its arguments is null.
    fn conversion(&self, row: usize) -> Result<Option<Conversion<'_>>> {
        let (Some(model), Some(_)) = (self.models.get(row), self.touches.range(row)) else {
            return Ok(None);
        };
        let model = Model::parse(model)
            .and_then(|model| self.positions.check(model, self.time_type.as_ref()).map(|()| model))
            .map_err(|what| exec_datafusion_err!("attribution_weights: {what}"))?;
        let times = match &self.times {
            None => None,
            Some(times) => match times.lists.range(row) {
                None => return Ok(None),
                Some(range) => Some((&times.moments, range.start)),
            },
        };
        let look_back = match &self.look_backs {
            None => None,
            Some((converted_at, look_backs)) => {
                let converted_at = converted_at.is_valid(row).then(|| converted_at.value(row));
                let (Some(converted_at), Some(look_back)) = (converted_at, look_backs.get(row)) else {
                    return Ok(None);
                };
                Some((converted_at, look_back))
            }
        };
        let half_life = match &self.half_lives {
            None => DEFAULT_HALF_LIFE as f64,
            Some(half_lives) => match half_lives.get(row) {
                None => return Ok(None),
                Some(half_life) => checked_half_life("attribution_weights", half_life)?,
            },
        };
        Ok(Some(Conversion { model, half_life, times, look_back }))
    }
}

impl Conversion<'_> {
    /// The time of a touch, 0 where it does not matter; `None` when the touch does not count.
    fn time_if_counted(&self, position: usize) -> Option<i64> {
        if self.look_back.is_none() && self.model != Model::TimeDecay {
            return Some(0);
        }
        let (moments, start) = self.times?;
        let time = moments.is_valid(start + position).then(|| moments.value(start + position))?;
        match self.look_back {
            None => Some(time),
            Some((converted_at, look_back)) => {
                let is_within = time <= converted_at && converted_at.saturating_sub(time) <= look_back;
                is_within.then_some(time)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::elements::testing::{SELECT_JOURNEYS, error_of, in_every_encoding, rows_of};

    async fn weights(arguments: &str) -> String {
        rows_of(&format!("select attribution_weights({arguments})")).await.remove(0)
    }

    const TIMES: &str = "[timestamp '2026-01-01', timestamp '2026-01-08', timestamp '2026-01-15']";

    #[tokio::test]
    async fn every_model_shares_a_conversion_out() {
        for (model, expected) in [
            ("first", "[1.0, 0.0, 0.0]"),
            ("last", "[0.0, 0.0, 1.0]"),
            ("linear", "[0.3333333333333333, 0.3333333333333333, 0.3333333333333333]"),
            ("u_shaped", "[0.4, 0.2, 0.4]"),
            ("position_based", "[0.4, 0.2, 0.4]"),
            ("j_shaped", "[0.2, 0.2, 0.6]"),
            ("inverse_j_shaped", "[0.6, 0.2, 0.2]"),
            ("time_decay", "[0.14285714285714285, 0.2857142857142857, 0.5714285714285714]"),
            ("participation", "[1.0, 1.0, 0.0]"),
        ] {
            assert_eq!(weights(&format!("'{model}', ['ad', 'email', 'ad'], {TIMES}")).await, expected, "{model}");
        }
    }

    #[tokio::test]
    async fn the_half_life_may_be_another() {
        let decay = |rest: &str| format!("'time_decay', ['a', 'b', 'c'], {TIMES}{rest}");
        let week = weights(&decay("")).await;
        assert_eq!(weights(&decay(", interval '7 days'")).await, week);
        assert_eq!(weights(&decay(", 604800000000")).await, week);
        assert_eq!(
            weights(&decay(", '3 days 12 hours'")).await,
            "[0.047619047619047616, 0.19047619047619047, 0.7619047619047619]"
        );
    }

    #[tokio::test]
    async fn touches_out_of_the_look_back_are_as_if_they_were_not_there() {
        let of = |model: &str, at: &str, span: &str| {
            format!("'{model}', ['a', 'b', 'c'], {TIMES}, timestamp '{at}', interval '{span}'")
        };
        assert_eq!(weights(&of("u_shaped", "2026-01-15", "14 days")).await, "[0.4, 0.2, 0.4]");
        assert_eq!(weights(&of("u_shaped", "2026-01-15 00:00:01", "14 days")).await, "[0.0, 0.5, 0.5]");
        assert_eq!(weights(&of("first", "2026-01-15 00:00:01", "14 days")).await, "[0.0, 1.0, 0.0]");
        assert_eq!(weights(&of("last", "2026-01-14", "14 days")).await, "[0.0, 1.0, 0.0]");
        assert_eq!(weights(&of("participation", "2026-01-08", "1 day")).await, "[0.0, 1.0, 0.0]");
        assert_eq!(weights(&of("linear", "2026-03-01", "1 day")).await, "[0.0, 0.0, 0.0]");
        let decay = of("time_decay", "2026-01-15 00:00:01", "14 days");
        assert_eq!(weights(&decay).await, "[0.0, 0.3333333333333333, 0.6666666666666666]");
        assert_eq!(weights(&format!("{decay}, '3.5 days'")).await, "[0.0, 0.2, 0.8]");
    }

    #[tokio::test]
    async fn times_of_every_kind_are_read() {
        for times in [
            format!("arrow_cast({TIMES}, 'List(Timestamp(s))')"),
            format!("arrow_cast({TIMES}, 'LargeList(Timestamp(ns, \"+02:00\"))')"),
            format!("arrow_cast({TIMES}, 'List(Date32)')"),
            format!("arrow_cast({TIMES}, 'List(Date64)')"),
        ] {
            let found = weights(&format!("'time_decay', ['a', 'b', 'c'], {times}")).await;
            assert_eq!(found, "[0.14285714285714285, 0.2857142857142857, 0.5714285714285714]", "{times}");
        }
        assert_eq!(weights("'time_decay', ['a', 'b'], [10, 12], 1").await, "[0.2, 0.8]");
        assert_eq!(weights("'linear', ['a', 'b'], [10, 12], 13, 2").await, "[0.0, 1.0]");
    }

    #[tokio::test]
    async fn touches_of_every_encoding_and_without_times_are_counted() {
        for journeys in in_every_encoding() {
            let sql = format!(
                "select attribution_weights('participation', channels), attribution_weights('linear', touchpoints, times), \
                 attribution_weights('time_decay', touchpoints, times) = [0.0, 1.0] from ({journeys}) order by id"
            );
            let expected = [
                "[1.0, 1.0, 0.0, 0.0] | [0.25, 0.25, 0.25, 0.25] | false",
                "[1.0, 1.0] | [0.5, 0.5] | true",
                "[] | [] | false",
                " |  | ",
            ];
            assert_eq!(rows_of(&sql).await, expected, "{journeys}");
        }
    }

    #[tokio::test]
    async fn one_statement_attributes_by_every_model() {
        let sql = format!(
            "select model, channel, sum(weight) from ( \
                 select model, unnest(channels) as channel, unnest(attribution_weights(model, channels, times)) as weight \
                 from ({SELECT_JOURNEYS}) cross join (values ('first'), ('linear'), ('participation')) as models(model) \
                 where id = 1) group by model, channel order by model, channel"
        );
        let expected = [
            "first | store | 0.0",
            "first | web | 1.0",
            "linear | store | 0.5",
            "linear | web | 0.5",
            "participation | store | 1.0",
            "participation | web | 1.0",
        ];
        assert_eq!(rows_of(&sql).await, expected);
    }

    #[tokio::test]
    async fn null_arguments_give_null() {
        for arguments in [
            "null, ['a']",
            "'first', null",
            "'first', ['a'], null",
            "'time_decay', ['a'], [now()], null",
            "'first', ['a'], [now()], null, interval '1 day'",
            "'first', ['a'], [now()], now(), null",
            "'first', ['a'], [now()], now(), interval '1 day', null",
        ] {
            assert_eq!(weights(arguments).await, "", "{arguments}");
        }
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (arguments, message) in [
            ("'first'", "expected (model, touches[, times[, half_life]]) or"),
            ("'markov', ['a']", "expected a model (first, last, linear"),
            ("1, ['a']", "expected text, got Int64"),
            ("'first', [1]", "expected a list of text"),
            ("'first', ['a'], ['b']", "expected a list of timestamps, dates or whole numbers"),
            ("'time_decay', ['a']", "time_decay needs the times of the touches as third argument"),
            ("'time_decay', ['a'], [1]", "time_decay over whole-number times needs a half_life in their unit"),
            ("'time_decay', ['a'], [now()], interval '0 days'", "expected a half_life above 0"),
            ("'time_decay', ['a'], [now()], interval '1 month'", "months has no fixed length"),
            ("'time_decay', ['a'], [1], interval '1 day'", "expected half_life to be a whole number as the times are"),
            ("'first', ['a'], [now()], now(), -1", "must not be negative"),
            ("'first', ['a'], [now()], 5, 1", "expected converted_at to be a time as the others are, got Int64"),
            ("'first', ['a', 'b'], [now()]", "touches has 2 elements where times has 1"),
        ] {
            let error = error_of(&format!("select attribution_weights({arguments})")).await;
            assert!(error.contains("attribution_weights: ") && error.contains(message), "{arguments}: {error}");
        }
    }
}
