//! `attribution_credits`: what each channel of a group is credited with by models that share out each conversion.
//!
//! The models are those of `attribution_weights`; touches are found as by `goal_touches`, and neither they nor their
//! weights become lists. Sums are whole numbers ([`sums`]), so the same rows give the same bits, whatever their order and
//! partitions.

mod accumulate;
mod sums;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, ColumnarValue, Documentation, GroupsAccumulator, Signature, Volatility,
};

use self::accumulate::{CreditsAccumulator, result_fields, state_fields};
use super::arguments::{
    Lists, TextColumn, coerce_booleans, coerce_list, coerce_text, coerce_texts, element_type, empty_list, is_text,
    list_type, time_type,
};
use super::attribution::{DEFAULT_HALF_LIFE, Model, checked_half_life};
use super::call::{Call, Parameterised};
use super::documentation::{Example, Manual, Section, WINDOWS};
use super::elements::records_type;
use super::moments::{Spans, coerce_span_between, is_moment};
use super::path_counts::coerce_value;
use super::single_group::{MovingFrame, SingleGroup};

const NAME: &str = "attribution_credits";
/// The channel of conversions without touches.
const NO_TOUCH: &str = "(none)";

/// A model and the name by which it was called.
#[derive(Debug)]
struct NamedModel {
    name: String,
    model: Model,
}

/// The constants of a call.
#[derive(Debug)]
pub(super) struct Parameters {
    models: Vec<NamedModel>,
    look_back: i64,
    half_life: f64,
    /// The digits behind the point of values; `None` without values.
    scale: Option<i8>,
}

/// The function `attribution_credits`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct AttributionCredits {
    signature: Signature,
}

impl Default for AttributionCredits {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The models of a constant: a text, or a list of texts.
fn models_of(value: &ScalarValue) -> Result<Vec<NamedModel>> {
    let wrong = || plan_datafusion_err!("{NAME}: expected models to be a text or a list of texts, got {value}");
    let array: ArrayRef = value.to_array()?;
    let texts = match is_text(array.data_type()) {
        true => array,
        false => Lists::of_array(NAME, &array).map_err(|_| wrong())?.values,
    };
    let texts = TextColumn::of_array(NAME, &texts).map_err(|_| wrong())?;
    let count = match value.data_type() {
        data_type if is_text(&data_type) => 1,
        _ => Lists::of_array(NAME, &value.to_array()?)?.values.len(),
    };
    let mut models: Vec<NamedModel> = Vec::with_capacity(count);
    for position in 0..count {
        let name = texts.get(position).ok_or_else(wrong)?.to_owned();
        let model = Model::parse(&name).map_err(|what| plan_datafusion_err!("{NAME}: {what}"))?;
        if models.iter().any(|known| known.name == name) {
            return plan_err!("{NAME}: the model {name} is asked for twice");
        }
        models.push(NamedModel { name, model });
    }
    match models.is_empty() {
        true => plan_err!("{NAME}: expected at least one model"),
        false => Ok(models),
    }
}

/// A constant span in the unit of the times; a whole number counts this unit.
fn constant_span(call: &Call, position: usize, what: &str) -> Result<Option<i64>> {
    let Some(value) = call.constant(position, what)? else {
        return Ok(None);
    };
    let span = Spans::of_argument(NAME, &ColumnarValue::Scalar(value))
        .map_err(|error| plan_datafusion_err!("{}", error.strip_backtrace()))?;
    match span.get(0) {
        Some(span) => Ok(Some(span)),
        None => plan_err!("{NAME}: expected {what} to be a span of time, got null"),
    }
}

impl Parameterised for AttributionCredits {
    type Parameters = Parameters;

    fn parameters(&self, call: &Call) -> Result<Option<Parameters>> {
        let types = call.types();
        let models = call.constant(0, "the models")?.map(|models| models_of(&models)).transpose()?;
        let look_back = constant_span(call, 4, "the look_back")?;
        let half_life = match types.len() {
            7 => {
                let half_life = constant_span(call, 6, "the half_life")?;
                let checked = |half_life| checked_half_life(NAME, half_life);
                half_life
                    .map(checked)
                    .transpose()
                    .map_err(|error| plan_datafusion_err!("{}", error.strip_backtrace()))?
            }
            _ => {
                let decays = models.iter().flatten().any(|model| model.model == Model::TimeDecay);
                if decays && element_type(&types[2]).is_some_and(DataType::is_integer) {
                    return plan_err!("{NAME}: time_decay over whole-number times needs a half_life in their unit");
                }
                Some(DEFAULT_HALF_LIFE as f64)
            }
        };
        let scale = match types.get(5).and_then(element_type) {
            Some(DataType::Decimal128(_, scale)) => Some(*scale),
            _ => None,
        };
        let (Some(models), Some(look_back), Some(half_life)) = (models, look_back, half_life) else {
            return Ok(None);
        };
        Ok(Some(Parameters { models, look_back, half_life, scale }))
    }

    fn instead_of_distinct(&self) -> &'static str {
        "each customer counts; select distinct rows in a subquery"
    }
}

impl AggregateUDFImpl for AttributionCredits {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if !(5..=7).contains(&types.len()) {
            return plan_err!(
                "{NAME}: expected (models, touches, times, goals, look_back[, values[, half_life]]), got {} arguments",
                types.len()
            );
        }
        let models = match element_type(&types[0]) {
            Some(_) => coerce_texts(NAME, &types[0])?,
            None => coerce_text(NAME, &types[0])?,
        };
        let times = coerce_list(NAME, &types[2], "timestamps, dates or whole numbers", time_type(), is_moment)?;
        let time = element_type(&times).cloned().unwrap_or(DataType::Null);
        let mut coerced = vec![
            models,
            coerce_texts(NAME, &types[1])?,
            times,
            coerce_booleans(NAME, &types[3])?,
            coerce_span_between(NAME, "look_back", &time, &types[4])?,
        ];
        if let Some(values) = types.get(5) {
            let value = element_type(values).unwrap_or(values);
            if element_type(values).is_none() && !values.is_null() {
                return plan_err!("{NAME}: expected a list of values, got {values}");
            }
            coerced.push(list_type(coerce_value(NAME, value)?));
        }
        if let Some(half_life) = types.get(6) {
            coerced.push(coerce_span_between(NAME, "half_life", &time, half_life)?);
        }
        Ok(coerced)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(records_type(result_fields()))
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        empty_list(data_type)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name: &str, data_type: DataType| {
            Arc::new(Field::new(format_state_name(args.name, name), list_type(data_type), true))
        };
        Ok(vec![field("channels", DataType::Utf8), field("sums", DataType::Struct(state_fields()))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::of(CreditsAccumulator::new(Arc::new(self.parameters_of(&args)?)))))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(CreditsAccumulator::new(Arc::new(self.parameters_of(&args)?))))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MovingFrame::of(CreditsAccumulator::new(Arc::new(self.parameters_of(&args)?)))))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Attribution,
                syntax: &["attribution_credits(models, touches, times, goals, look_back[, values[, half_life]])"],
                summary: "Returns what each channel of a group of customers is credited with: conversions and value, \
                          by one model of attribution or by several at once.",
                details: "Unnest it to get a row per model and channel. It adds up what `attribution_weights` gives \
                          the touches that `goal_touches` finds, without a row per touch.",
                arguments: &[
                    (
                        "models",
                        "Text or list of texts, a constant: the models of `attribution_weights` (`first`, `last`, \
                         `linear`, `u_shaped`, …).",
                    ),
                    ("touches", "List of text, in order: what is credited, such as the channels of a customer."),
                    ("times", "List parallel to the touches: timestamps of any unit and zone, dates or whole numbers."),
                    ("goals", "List of booleans, parallel to them: whether the event is a conversion."),
                    (
                        "look_back",
                        "How far before its conversion a touch counts, both ends included; a constant: an interval, a \
                         duration, text such as `'30 days'` or whole microseconds; for whole-number times a whole \
                         number in their unit.",
                    ),
                    (
                        "values",
                        "List of decimals or whole numbers, parallel to them: the value of each conversion; that of \
                         other events does not count.",
                    ),
                    (
                        "half_life",
                        "Span above 0 after which a touch weighs half in `time_decay`, a constant; 7 days when left \
                         out.",
                    ),
                ],
                example: Example {
                    query: "
                        select unnest(attribution_credits(
                          ['first', 'linear'], channels, times, goals, 30, prices)) as credit
                        from (values
                          (['ad', 'web', 'store'], [1, 5, 9], [false, false, true], [0, 0, 100]),
                          (['store'], [7], [true], [40])
                        ) as customers(channels, times, goals, prices)
                    ",
                    rows: &[
                        "credit",
                        "{model: first, channel: (none), conversions: 1.0, value: 40.0}",
                        "{model: first, channel: ad, conversions: 1.0, value: 100.0}",
                        "{model: first, channel: web, conversions: 0.0, value: 0.0}",
                        "{model: linear, channel: (none), conversions: 1.0, value: 40.0}",
                        "{model: linear, channel: ad, conversions: 0.5, value: 50.0}",
                        "{model: linear, channel: web, conversions: 0.5, value: 50.0}",
                    ],
                },
                returns: "list of records `(model, channel, conversions, value)`: for each model, in the order asked, \
                          a record per channel that is a touch of a conversion, by name, null last. Conversions \
                          without touches are credited to `(none)`, so that each model but `participation` adds up to \
                          all conversions and all their value, but for rounding. `value` is null without `values`. A \
                          group without conversions has no records.",
                parts: &[
                    (
                        "Touches",
                        "of a conversion are the events before it in the list that are no conversions, whose time is \
                         known and lies within the look-back. A touch may count for several conversions.",
                    ),
                    WINDOWS,
                ],
                nulls: "a null touch is one like others, whose record has a null `channel`; a null goal counts as \
                        false, a null value as 0; an event without time is no touch, and a conversion without time \
                        has none; a row whose touches, times or goals are null is skipped.",
                order: "none among rows, which may come from any partitions: the same rows give the same bits. Within \
                        a list the order is that of the times.",
                ties: "of events with the time of a conversion, those before it in the list are touches.",
                memory: "32 bytes per channel and model, some 40 per channel, and those of `goal_touches` for one row \
                         at a time.",
                errors: "an unknown model or one asked for twice, spans that are no constants, negative or of months, \
                         a half-life of 0, values that are neither decimals nor whole numbers, other types, a \
                         `distinct` call, at planning; lists of different lengths; values that add up to more than 75 \
                         bits of their smallest digit.",
                source: "that of `attribution_weights`.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}
