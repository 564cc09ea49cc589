//! The options of a funnel, as they are written: a text or a struct of constants.
//!
//! A text is a mode of `window_funnel`. The fields of a struct are all optional, and one that is null is not given:
//! `mode`, `order`, `entry`, `min_gaps`, `max_gaps`, `excluded`, `on_excluded`, `optional`, `hold`, `among`; [`manual`](super::manual)
//! says what each means. What can be told without the steps is checked here, the rest in
//! [`Terms`](super::terms::Terms). An error names the field, what was expected, what came, and what to do.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

use super::super::arguments::{element_type, is_text, list_type};
use super::super::moments::{Spans, coerce_span};
use super::super::window_funnel::Rule;

/// Every field.
pub(super) const FIELDS: [&str; 10] =
    ["mode", "order", "entry", "min_gaps", "max_gaps", "excluded", "on_excluded", "optional", "hold", "among"];

/// What is said of two lists to hold.
pub(super) const GIVEN_TWICE: &str = "hold is given twice; leave one out";

/// When a step may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Order {
    /// After the step before it.
    #[default]
    Eventually,
    /// After the step before it, with nothing between.
    Next,
    /// In any order with the neighbouring steps of this kind.
    Any,
}

/// The order of each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Orders {
    /// Of all steps; `next` from the second on.
    All(Order),
    Each(Vec<Order>),
}

impl Default for Orders {
    fn default() -> Self {
        Self::All(Order::Eventually)
    }
}

/// Which touches of step 1 begin a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Entry {
    /// Every one, and of the chains that arrive together the one that began last counts.
    #[default]
    Last,
    /// The first only.
    First,
    /// The first, and each that comes after the attempt before is over.
    Every,
}

/// What an excluded touch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum OnExcluded {
    /// It ends the chain; the steps before it count.
    #[default]
    End,
    /// It removes the journey from the funnel, unless another chain gets as far without.
    Remove,
}

/// The steps between which touches are excluded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Excluded {
    #[default]
    Nowhere,
    /// Between the first and the last.
    Everywhere(String),
    /// Element `i`: between the step of index `i` and the next.
    Between(Vec<Option<String>>),
}

/// The options of a funnel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Options {
    /// A rule of `window_funnel`, in place of everything but `among`.
    pub rule: Option<Rule>,
    pub orders: Orders,
    pub entry: Entry,
    /// One per step, each `None` for no limit.
    pub min_gaps: Option<Vec<Option<i64>>>,
    pub max_gaps: Option<Vec<Option<i64>>>,
    pub excluded: Excluded,
    pub on_excluded: OnExcluded,
    /// Numbers of steps, from 1.
    pub optional: Vec<i64>,
    /// The only other touches that take part; `None` for all.
    pub among: Option<Vec<String>>,
    /// Whether every touch of a chain must hold one value.
    pub has_hold: bool,
}

impl Options {
    /// Reads the argument: a text or a struct.
    pub(super) fn parse(argument: &ScalarValue) -> Result<Self, String> {
        if argument.is_null() {
            return Err("expected the options to be a text or a struct, got null; leave them out".to_owned());
        }
        match argument {
            ScalarValue::Struct(fields) => {
                let value =
                    |column: &ArrayRef| ScalarValue::try_from_array(column, 0).map_err(|error| error.to_string());
                let names = fields.column_names().into_iter();
                let values = names.zip(fields.columns()).map(|(name, column)| Ok((name, value(column)?)));
                Self::of_fields(&values.collect::<Result<Vec<_>, String>>()?)
            }
            ScalarValue::Dictionary(_, text) => Self::parse(text),
            text => match text.try_as_str().flatten() {
                Some(mode) => Ok(Self { rule: Some(Rule::parse(mode)?), ..Self::default() }),
                None => Err(format!("expected the options to be a text or a struct, got {}", text.data_type())),
            },
        }
    }

    /// Reads the fields of a struct.
    pub(super) fn of_fields(fields: &[(&str, ScalarValue)]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut given = vec![];
        for (name, value) in fields {
            check_name(name)?;
            if value.is_null() {
                continue;
            }
            if given.contains(name) {
                return Err(format!("{name} is given twice; leave one out"));
            }
            given.push(*name);
            options.read(name, value).map_err(|message| format!("{name}: {message}"))?;
        }
        if options.rule.is_some()
            && let Some(other) = given.iter().find(|name| !["mode", "among"].contains(name))
        {
            return Err(format!("a mode stands alone, or with among, and {other} is given; leave one of them out"));
        }
        if given.contains(&"on_excluded") && options.excluded == Excluded::Nowhere {
            return Err("on_excluded needs something that is excluded; say what in excluded".to_owned());
        }
        if options.entry == Entry::Every && options.on_excluded == OnExcluded::Remove {
            return Err(
                "entry 'every' counts attempts and on_excluded 'remove' whole journeys; an excluded touch can \
                        only end an attempt: take on_excluded 'end'"
                    .to_owned(),
            );
        }
        Ok(options)
    }

    /// The same where the values that are held come apart.
    pub(super) fn with_hold(self) -> Result<Self, String> {
        match self.rule {
            Some(_) => Err("a mode stands alone, or with among, and hold is given; leave one of them out".to_owned()),
            None if self.has_hold => Err(GIVEN_TWICE.to_owned()),
            None => Ok(Self { has_hold: true, ..self }),
        }
    }

    fn read(&mut self, name: &str, value: &ScalarValue) -> Result<(), String> {
        match name {
            "mode" => self.rule = Some(Rule::parse(text(value)?)?),
            "order" if is_list(value) => self.orders = Orders::Each(each_text(value, order)?),
            "order" => self.orders = Orders::All(order(text(value)?)?),
            "entry" => self.entry = entry(text(value)?)?,
            "min_gaps" => self.min_gaps = Some(spans(value)?),
            "max_gaps" => self.max_gaps = Some(spans(value)?),
            "excluded" if is_list(value) => self.excluded = Excluded::Between(texts(value)?),
            "excluded" => self.excluded = Excluded::Everywhere(text(value)?.to_owned()),
            "on_excluded" => self.on_excluded = on_excluded(text(value)?)?,
            "optional" => self.optional = numbers(value)?,
            "among" => self.among = Some(each_text(value, |text| Ok(text.to_owned()))?),
            // The lists themselves are arguments of the call.
            _ => self.has_hold = true,
        }
        Ok(())
    }

    /// Whether a text in the syntax of steps may name a channel.
    pub(super) fn names_channels(&self) -> bool {
        let excluded: Vec<&String> = match &self.excluded {
            Excluded::Nowhere => vec![],
            Excluded::Everywhere(text) => vec![text],
            Excluded::Between(texts) => texts.iter().flatten().collect(),
        };
        excluded.into_iter().chain(self.among.iter().flatten()).any(|text| text.contains(':'))
    }

    /// Whether nothing is asked that the single pass of a plain funnel does not do.
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// Fails when a field is not known, or is a hold of a type that cannot be held.
pub(super) fn check_field(name: &str, data_type: &DataType) -> Result<(), String> {
    check_name(name)?;
    if name == "hold" && !data_type.is_null() { check_hold(data_type) } else { Ok(()) }
}

/// Fails when no value of a type can be held.
pub(super) fn check_hold(data_type: &DataType) -> Result<(), String> {
    let Some(element) = element_type(data_type) else {
        return Err(format!("hold: expected a list parallel to times, got {data_type}"));
    };
    if is_text(element) || RowConverter::supports_fields(&[SortField::new(element.clone())]) {
        return Ok(());
    }
    Err(format!("hold: expected a list of values that can be compared, got {data_type}; cast them to text"))
}

/// Fails when a field is not known.
fn check_name(name: &str) -> Result<(), String> {
    if FIELDS.contains(&name) {
        return Ok(());
    }
    let likeness = |field: &&str| strsim::jaro_winkler(&name.to_lowercase(), field);
    let nearest = FIELDS.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let hint = match nearest.filter(|field| likeness(field) > 0.75) {
        Some(field) => format!("; did you mean {field}?"),
        None => String::new(),
    };
    let fields = FIELDS.join(", ");
    Err(format!("unknown option '{name}'{hint} (expected {fields})"))
}

// ---------------------------------------------------------------------------------------------------------------
// Words
// ---------------------------------------------------------------------------------------------------------------

fn order(text: &str) -> Result<Order, String> {
    match text {
        "eventually" => Ok(Order::Eventually),
        "next" => Ok(Order::Next),
        "any" => Ok(Order::Any),
        other => Err(format!("expected 'eventually', 'next' or 'any', got '{other}'")),
    }
}

fn entry(text: &str) -> Result<Entry, String> {
    match text {
        "last" => Ok(Entry::Last),
        "first" => Ok(Entry::First),
        "every" => Ok(Entry::Every),
        other => Err(format!("expected 'last', 'first' or 'every', got '{other}'")),
    }
}

fn on_excluded(text: &str) -> Result<OnExcluded, String> {
    match text {
        "end" => Ok(OnExcluded::End),
        "remove" => Ok(OnExcluded::Remove),
        other => Err(format!("expected 'end' or 'remove', got '{other}'")),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Values
// ---------------------------------------------------------------------------------------------------------------

fn is_list(value: &ScalarValue) -> bool {
    element_type(&value.data_type()).is_some()
}

fn text(value: &ScalarValue) -> Result<&str, String> {
    match value {
        ScalarValue::Dictionary(_, value) => text(value),
        _ => value.try_as_str().flatten().ok_or_else(|| format!("expected a text, got {}", value.data_type())),
    }
}

/// The elements of a list, cast to a type that `accepts` says they can have. `hint` is for one that stands alone.
fn elements(
    value: &ScalarValue,
    expected: &str,
    hint: String,
    to: DataType,
    accepts: impl Fn(&DataType) -> bool,
) -> Result<ArrayRef, String> {
    let data_type = value.data_type();
    let is_accepted = element_type(&data_type).is_some_and(|element| element.is_null() || accepts(element));
    let hint = if accepts(&data_type) { hint } else { String::new() };
    if !is_accepted {
        return Err(format!("expected a list of {expected}, got {data_type}{hint}"));
    }
    let list =
        value.cast_to(&list_type(to)).and_then(|list| list.to_array()).map_err(|error| reason(&error.to_string()))?;
    Ok(list.as_list::<i32>().value(0))
}

/// The texts of a list of any encoding.
pub(super) fn texts(value: &ScalarValue) -> Result<Vec<Option<String>>, String> {
    let alone = text(value).unwrap_or_default().replace('\'', "''");
    let texts = elements(value, "texts", format!("; write ['{alone}']"), DataType::Utf8, is_text)?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}

fn each_text<T>(value: &ScalarValue, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let present = |(position, text): (usize, Option<String>)| {
        text.ok_or_else(|| format!("element {} is null; expected a text", position + 1))
    };
    texts(value)?.into_iter().enumerate().map(|text| read(&present(text)?)).collect()
}

fn numbers(value: &ScalarValue) -> Result<Vec<i64>, String> {
    let hint = format!("; write [{value}]");
    let numbers = elements(value, "step numbers", hint, DataType::Int64, DataType::is_integer)?;
    if numbers.null_count() > 0 {
        return Err("expected step numbers, got a null among them; leave it out".to_owned());
    }
    Ok(numbers.as_primitive::<Int64Type>().values().to_vec())
}

fn spans(value: &ScalarValue) -> Result<Vec<Option<i64>>, String> {
    let data_type = value.data_type();
    let element = element_type(&data_type).unwrap_or(&data_type);
    let to = coerce_span("", element).unwrap_or(DataType::Int64);
    let accepts = |element: &DataType| coerce_span("", element).is_ok();
    let hint = "; write one per step, null for step 1".to_owned();
    let spans = elements(value, "intervals or whole microseconds", hint, to, accepts)?;
    let count = spans.len();
    let spans =
        Spans::of_argument("", &ColumnarValue::Array(spans)).map_err(|error| reason(&error.strip_backtrace()))?;
    Ok((0..count).map(|position| spans.get(position)).collect())
}

/// What an error says, without the names that the engine and a function put before it.
fn reason(message: &str) -> String {
    let message = message.rsplit_once("error: ").map_or(message, |(_, reason)| reason);
    message.strip_prefix(": ").unwrap_or(message).to_owned()
}
