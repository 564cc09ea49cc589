//! From a source's columns to events, by the SQL expressions of `[sources.event]`.
//!
//! Expressions are evaluated batch by batch. A record that cannot become an event is refused with a reason; the rest of
//! its batch lands. Text that must become a number or a time is converted strictly.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, ListArray, RecordBatch, StringArray, StringBuilder,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Date32Type, Field, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::FormatOptions;
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::columns::{ValuePath, by_column, paths_read};
use super::events::{EVENT_SCHEMA, MONEY, identifier_fields};
use super::time::{Refusal, TimeFormat};
use crate::config::{EventMapping, Source};
use crate::error::{Context, Error, Result};
use crate::functions::{content_hash, content_id};
use crate::identifiers::{Pseudonymiser, normalise};
use crate::sources::{Column, PathTree, Request, Shape};

/// Longest text that a touchpoint, channel or other name may have, in bytes.
const MAX_NAME_BYTES: usize = 1024;

/// The mapping of one source, ready to be evaluated.
pub struct Mapping {
    source: String,
    expressions: Vec<(EventColumn, String)>,
    times: TimeFormat,
    pseudonymiser: Option<Arc<Pseudonymiser>>,
    request: Request,
    ctx: SessionContext,
}

/// What one expression feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum EventColumn {
    EventId,
    OccurredAt,
    ReceivedAt,
    /// A text column of the events; required ones may not be empty.
    Text {
        name: &'static str,
        required: bool,
    },
    Value,
    Score,
    Identifier(String),
}

impl EventColumn {
    fn name(&self) -> &str {
        match self {
            Self::EventId => "event_id",
            Self::OccurredAt => "occurred_at",
            Self::ReceivedAt => "received_at",
            Self::Text { name, .. } => name,
            Self::Value => "value",
            Self::Score => "score",
            Self::Identifier(kind) => kind,
        }
    }
}

/// Events of one decoded batch, and the rows that were refused.
pub struct Mapped {
    /// Events with the columns of [`EVENT_SCHEMA`], rows in record order.
    pub events: RecordBatch,
    /// Refused rows with their reason.
    pub refused: Vec<(usize, Refusal)>,
    /// Events that brought no id, with their record; [`Mapping::derive_ids`] gives them one.
    without_id: Vec<(usize, Vec<u8>)>,
}

/// What a batch of records brings that its columns do not say.
pub struct Records<'a> {
    /// Requested columns, then `properties`.
    pub batch: &'a RecordBatch,
    /// Bytes of a record by row, for derived ids.
    pub text: &'a dyn Fn(usize) -> Vec<u8>,
    /// Time of the batch, for events without `received_at`.
    pub planned_at: i64,
    /// Number of the batch.
    pub number: i64,
}

/// How often each record without an id was seen in its file, so that equal records keep apart.
pub type Occurrences = hashbrown::HashMap<[u8; 16], u64>;

impl Mapping {
    /// Reads the expressions of a source; what is no SQL is an error that names the key.
    pub fn new(source: &Source, pseudonymise: &[String], pseudonymiser: Option<Arc<Pseudonymiser>>) -> Result<Self> {
        let expressions = expressions(&source.event);
        let mut paths = Vec::new();
        let mut drop_paths = Vec::new();
        for (column, expression) in &expressions {
            let place = || format!("source `{}`, {}", source.name, column.name());
            if expression.trim().is_empty() {
                return Err(Error::invalid(format!("{}: the expression is empty", place())));
            }
            let read = paths_read(expression).map_err(|error| error.context(place()))?;
            if matches!(column, EventColumn::Identifier(kind) if pseudonymise.contains(kind)) {
                drop_paths.extend(read.iter().cloned());
            }
            paths.extend(read);
        }
        let columns = by_column(paths).map_err(|error| error.context(format!("source `{}`", source.name)))?;
        let columns = columns.into_iter().map(|(name, members)| Column { name, shape: shape(members) }).collect();
        let config = SessionConfig::new().set_bool("datafusion.sql_parser.enable_ident_normalization", false);
        let ctx = SessionContext::new_with_config(config);
        crate::functions::register_all(&ctx);
        Ok(Self {
            source: source.name.clone(),
            expressions,
            times: TimeFormat::new(source)?,
            pseudonymiser,
            request: Request { columns, properties: true, drop_paths },
            ctx,
        })
    }

    /// What the mapping needs of each record.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Columns that feed identifiers of these kinds, as (kind, column).
    pub fn identifier_columns(&self, kinds: &[String]) -> Vec<(String, String)> {
        let identifiers = self.expressions.iter().filter_map(|(column, sql)| match column {
            EventColumn::Identifier(kind) if kinds.contains(kind) => Some((kind, sql)),
            _ => None,
        });
        let columns = identifiers.flat_map(|(kind, sql)| {
            let paths = paths_read(sql).unwrap_or_default();
            paths.into_iter().filter_map(|mut path| Some((kind.clone(), path.pop()?)))
        });
        columns.collect()
    }

    /// Plans the expressions over a batch's columns; a column or function that does not exist is an error.
    pub fn plan(&self, schema: &SchemaRef) -> Result<Plan> {
        // The last column keeps what no expression takes; a source may well have a column of the same name.
        let fields = DFSchema::try_from(schema.project(&self.requested())?)?;
        let planned = self.expressions.iter().map(|(column, sql)| {
            let place = || format!("source `{}`, {}", self.source, column.name());
            let logical = self.simplified(sql, &fields).with_place(place)?;
            let physical = self.ctx.create_physical_expr(logical, &fields).with_place(place)?;
            Ok((column.clone(), physical))
        });
        Ok(Plan { expressions: planned.collect::<Result<_>>()?, schema: schema.clone() })
    }

    /// Positions of the requested columns in a decoded batch: all but the last.
    fn requested(&self) -> Vec<usize> {
        (0..self.request.columns.len()).collect()
    }

    /// Parses and simplifies an expression. Some functions, `coalesce` among them, exist only until they are simplified.
    fn simplified(&self, sql: &str, fields: &DFSchema) -> datafusion::error::Result<Expr> {
        let expression = self.ctx.parse_sql_expr(sql, fields)?;
        let context = SimplifyContext::builder().with_schema(Arc::new(fields.clone())).build();
        let simplifier = ExprSimplifier::new(context);
        simplifier.simplify(simplifier.coerce(expression, fields)?)
    }

    /// Turns records into events.
    pub fn map(&self, plan: &Plan, records: &Records<'_>) -> Result<Mapped> {
        let rows = records.batch.num_rows();
        let mut refusals = Refusals::new(rows);
        let mut columns = EventColumns::default();
        let mut ids = None;
        let requested = records.batch.project(&self.requested())?;
        for (column, expression) in &plan.expressions {
            let array = evaluate(expression, &requested, column, &mut refusals)?;
            match column {
                EventColumn::EventId => ids = Some(text(&array)?),
                EventColumn::OccurredAt => {
                    columns.occurred_at = self.instants(&array, true, "occurred_at", &mut refusals)?
                }
                EventColumn::ReceivedAt => {
                    columns.received_at = self.instants(&array, false, "received_at", &mut refusals)?
                }
                EventColumn::Text { name, required } => {
                    columns.texts.push((*name, names(&array, name, *required, &mut refusals)?))
                }
                EventColumn::Value => columns.value = Some(decimals(&array, "value", &mut refusals)?),
                EventColumn::Score => columns.score = Some(decimals(&array, "score", &mut refusals)?),
                EventColumn::Identifier(kind) => columns.identifiers.push((kind.clone(), text(&array)?)),
            }
        }
        check_words(&columns, &mut refusals);
        let (ids, mut without_id) = event_ids(ids, records, &refusals);
        let events = self.assemble(columns, ids, records)?;
        let kept = BooleanArray::from_iter((0..rows).map(|row| Some(refusals.of_row[row].is_none())));
        let positions: Vec<usize> = (0..rows).filter(|row| kept.value(*row)).collect();
        let events = if positions.len() == rows { events } else { filter_record_batch(&events, &kept)? };
        for (row, _) in &mut without_id {
            *row = positions.binary_search(row).expect("only rows that are kept lack an id");
        }
        Ok(Mapped { events, refused: refusals.into_rows(), without_id })
    }

    /// Gives events without an id one that is derived from source, record and the how-many-eth such record of its file
    /// this is, so that a replay of the file is recognised. Batches of a file must come in order.
    pub fn derive_ids(&self, mapped: &mut Mapped, occurrences: &mut Occurrences) -> Result<()> {
        if mapped.without_id.is_empty() {
            return Ok(());
        }
        let mut derived = std::mem::take(&mut mapped.without_id).into_iter().peekable();
        let given = mapped.events.column(0).as_string::<i32>();
        let mut ids = StringBuilder::with_capacity(given.len(), given.len() * 32);
        for row in 0..given.len() {
            match derived.next_if(|(without, _)| *without == row) {
                Some((_, record)) => {
                    let text = String::from_utf8_lossy(&record);
                    let occurrence = occurrences.entry(content_hash("record", &text)).or_insert(0);
                    *occurrence += 1;
                    ids.append_value(content_id("record", &format!("{}\n{text}\n{occurrence}", self.source)));
                }
                None => ids.append_value(given.value(row)),
            }
        }
        let mut columns = mapped.events.columns().to_vec();
        columns[0] = Arc::new(ids.finish());
        mapped.events = RecordBatch::try_new(mapped.events.schema(), columns)?;
        Ok(())
    }

    /// Instants of a time column in microseconds; null where the row is refused or nothing was given.
    fn instants(
        &self,
        array: &ArrayRef,
        required: bool,
        name: &str,
        refusals: &mut Refusals,
    ) -> Result<Vec<Option<i64>>> {
        let mut read = |row: usize, given: Option<Result<i64, Refusal>>| match given {
            Some(Ok(micros)) => Some(micros),
            Some(Err(refusal)) => {
                refusals.refuse(row, refusal.reason, || format!("{name}: {}", refusal.detail));
                None
            }
            None => {
                if required {
                    refusals.refuse(row, "missing_field", || format!("{name} is missing"));
                }
                None
            }
        };
        match array.data_type() {
            DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => {
                let micros = convert(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
                let micros = micros.as_primitive::<TimestampMicrosecondType>();
                Ok((0..array.len())
                    .map(|row| {
                        read(
                            row,
                            array.is_valid(row).then(|| {
                                if micros.is_valid(row) {
                                    self.times.micros(micros.value(row))
                                } else {
                                    Err(Refusal { reason: "ts_range", detail: "beyond microseconds in 64 bits".into() })
                                }
                            }),
                        )
                    })
                    .collect())
            }
            data_type if data_type.is_integer() => {
                let numbers = convert(array, &DataType::Int64)?;
                let numbers = numbers.as_primitive::<Int64Type>();
                Ok(numbers
                    .iter()
                    .enumerate()
                    .map(|(row, number)| read(row, number.map(|n| self.times.number(n))))
                    .collect())
            }
            _ => {
                let texts = text(array)?;
                Ok(texts
                    .iter()
                    .enumerate()
                    .map(|(row, given)| {
                        read(row, given.filter(|text| !text.is_empty()).map(|text| self.times.text(text)))
                    })
                    .collect())
            }
        }
    }

    fn assemble(&self, mut columns: EventColumns, ids: StringArray, records: &Records<'_>) -> Result<RecordBatch> {
        let rows = records.batch.num_rows();
        let occurred_at: TimestampMicrosecondArray =
            columns.occurred_at.iter().map(|micros| Some(micros.unwrap_or(0))).collect();
        let received_at: TimestampMicrosecondArray = if columns.received_at.is_empty() {
            std::iter::repeat_n(Some(records.planned_at), rows).collect()
        } else {
            columns.received_at.iter().map(|micros| Some(micros.unwrap_or(records.planned_at))).collect()
        };
        let dates = columns.occurred_at.iter().map(|micros| {
            let days = micros.unwrap_or(0).div_euclid(86_400_000_000);
            i32::try_from(days).unwrap_or(0)
        });
        let dates = arrow::array::PrimitiveArray::<Date32Type>::from_iter_values(dates);
        let identifiers = self.identifiers(&columns.identifiers, rows);
        let mut text_column = |name: &str, default: Option<&str>| -> ArrayRef {
            let found = columns.texts.iter().position(|(column, _)| *column == name);
            match (found, default) {
                (Some(index), None) => Arc::new(columns.texts.swap_remove(index).1),
                (Some(index), Some(default)) => {
                    let given = columns.texts.swap_remove(index).1;
                    Arc::new(given.iter().map(|text| Some(text.unwrap_or(default))).collect::<StringArray>())
                }
                (None, Some(default)) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(default, rows))),
                (None, None) => Arc::new(StringArray::new_null(rows)),
            }
        };
        let number = |given: Option<Decimal128Array>| -> ArrayRef {
            given.map_or_else(|| arrow::array::new_null_array(&MONEY, rows), |array| Arc::new(array) as ArrayRef)
        };
        let source: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.source, rows)));
        let properties: ArrayRef = Arc::new(text(records.batch.column(self.request.columns.len()))?);
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(ids),
            Arc::new(occurred_at.with_timezone("UTC")),
            Arc::new(received_at.with_timezone("UTC")),
            source,
            text_column("channel", Some("")),
            text_column("touchpoint", Some("")),
            text_column("direction", Some("inbound")),
            text_column("stage", None),
            Arc::new(identifiers),
            text_column("campaign", None),
            text_column("experiment", None),
            text_column("variant", None),
            number(columns.value.take()),
            text_column("currency", None),
            text_column("score_kind", None),
            number(columns.score.take()),
            properties,
            Arc::new(arrow::array::Int64Array::from_iter_values(std::iter::repeat_n(records.number, rows))),
            Arc::new(dates),
        ];
        Ok(RecordBatch::try_new(EVENT_SCHEMA.clone(), arrays)?)
    }

    /// The identifiers of each row: normal forms, pseudonymised where asked, empty ones left out.
    fn identifiers(&self, kinds: &[(String, StringArray)], rows: usize) -> ListArray {
        let mut names = StringBuilder::new();
        let mut values = StringBuilder::new();
        let mut lengths = Vec::with_capacity(rows);
        for row in 0..rows {
            let mut length = 0;
            for (kind, array) in kinds {
                if array.is_null(row) {
                    continue;
                }
                let value = normalise(kind, array.value(row));
                if value.is_empty() {
                    continue;
                }
                names.append_value(kind);
                match self.pseudonymiser.as_ref().filter(|pseudonymiser| pseudonymiser.covers(kind)) {
                    Some(pseudonymiser) => values.append_value(pseudonymiser.token(kind, &value)),
                    None => values.append_value(value),
                }
                length += 1;
            }
            lengths.push(length);
        }
        let entries =
            StructArray::new(identifier_fields(), vec![Arc::new(names.finish()), Arc::new(values.finish())], None);
        let element = Field::new("element", DataType::Struct(identifier_fields()), true);
        ListArray::new(Arc::new(element), OffsetBuffer::from_lengths(lengths), Arc::new(entries), None::<NullBuffer>)
    }
}

/// A mapping planned over the columns of one schema.
#[derive(Clone)]
pub struct Plan {
    expressions: Vec<(EventColumn, Arc<dyn PhysicalExpr>)>,
    schema: SchemaRef,
}

impl Plan {
    /// Whether the plan fits a batch.
    pub fn fits(&self, schema: &SchemaRef) -> bool {
        self.schema == *schema
    }
}

/// Columns of events before they are put together.
#[derive(Default)]
struct EventColumns {
    occurred_at: Vec<Option<i64>>,
    received_at: Vec<Option<i64>>,
    texts: Vec<(&'static str, StringArray)>,
    value: Option<Decimal128Array>,
    score: Option<Decimal128Array>,
    identifiers: Vec<(String, StringArray)>,
}

/// The first refusal of each row.
struct Refusals {
    of_row: Vec<Option<Box<Refusal>>>,
}

impl Refusals {
    fn new(rows: usize) -> Self {
        Self { of_row: (0..rows).map(|_| None).collect() }
    }

    fn refuse(&mut self, row: usize, reason: &'static str, detail: impl FnOnce() -> String) {
        self.of_row[row].get_or_insert_with(|| Box::new(Refusal { reason, detail: detail() }));
    }

    fn into_rows(self) -> Vec<(usize, Refusal)> {
        self.of_row.into_iter().enumerate().filter_map(|(row, refusal)| Some((row, *refusal?))).collect()
    }
}

/// Ids as given, empty where none is; and the rows of these with their records.
fn event_ids(
    given: Option<StringArray>,
    records: &Records<'_>,
    refusals: &Refusals,
) -> (StringArray, Vec<(usize, Vec<u8>)>) {
    let mut ids = StringBuilder::new();
    let mut without = Vec::new();
    for row in 0..records.batch.num_rows() {
        let id = given.as_ref().filter(|ids| ids.is_valid(row)).map_or("", |ids| ids.value(row).trim());
        ids.append_value(id);
        if id.is_empty() && refusals.of_row[row].is_none() {
            without.push((row, (records.text)(row)));
        }
    }
    (ids.finish(), without)
}

fn expressions(event: &EventMapping) -> Vec<(EventColumn, String)> {
    let text = |name, required| EventColumn::Text { name, required };
    let given = [
        (EventColumn::EventId, event.event_id.as_ref()),
        (EventColumn::OccurredAt, Some(&event.occurred_at)),
        (EventColumn::ReceivedAt, event.received_at.as_ref()),
        (text("touchpoint", true), Some(&event.touchpoint)),
        (text("channel", true), Some(&event.channel)),
        (text("direction", false), event.direction.as_ref()),
        (text("stage", false), event.stage.as_ref()),
        (text("campaign", false), event.campaign.as_ref()),
        (text("experiment", false), event.experiment.as_ref()),
        (text("variant", false), event.variant.as_ref()),
        (EventColumn::Value, event.value.as_ref()),
        (text("currency", false), event.currency.as_ref()),
        (text("score_kind", false), event.score_kind.as_ref()),
        (EventColumn::Score, event.score.as_ref()),
    ];
    let columns = given.into_iter().filter_map(|(column, sql)| Some((column, sql?.clone())));
    let identifiers = event.identifiers.iter().map(|(kind, sql)| (EventColumn::Identifier(kind.clone()), sql.clone()));
    columns.chain(identifiers).collect()
}

fn shape(members: Vec<ValuePath>) -> Shape {
    if members.iter().any(Vec::is_empty) {
        return Shape::Whole;
    }
    let mut tree = PathTree::default();
    for path in members {
        tree.insert(&path);
    }
    Shape::Paths(tree)
}

/// Evaluates an expression; where it fails on the batch, row by row, so that only the rows at fault are refused.
fn evaluate(
    expression: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
    column: &EventColumn,
    refusals: &mut Refusals,
) -> Result<ArrayRef> {
    let whole = expression.evaluate(batch).and_then(|value| value.into_array(batch.num_rows()));
    if let Ok(array) = whole {
        return Ok(array);
    }
    let data_type = expression.data_type(&batch.schema())?;
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        match expression.evaluate(&batch.slice(row, 1)).and_then(|value| value.into_array(1)) {
            Ok(array) => rows.push(array),
            Err(error) => {
                refusals.refuse(row, "expression_failed", || format!("{}: {}", column.name(), error.strip_backtrace()));
                rows.push(arrow::array::new_null_array(&data_type, 1));
            }
        }
    }
    let rows: Vec<&dyn Array> = rows.iter().map(AsRef::as_ref).collect();
    Ok(arrow::compute::concat(&rows)?)
}

/// Casts; what cannot be cast becomes null.
fn convert(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: true, format_options: FormatOptions::default() };
    Ok(cast_with_options(array, data_type, &options)?)
}

fn text(array: &ArrayRef) -> Result<StringArray> {
    Ok(convert(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// A text column: trimmed, empty is null; required and overlong ones are refused.
fn names(array: &ArrayRef, name: &str, required: bool, refusals: &mut Refusals) -> Result<StringArray> {
    let texts = text(array)?;
    let is_clean = |text: Option<&str>| {
        text.is_none_or(|text| !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.trim().len() == text.len())
    };
    if texts.iter().all(is_clean) && !(required && texts.null_count() > 0) {
        return Ok(texts);
    }
    let mut cleaned = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    for (row, given) in texts.iter().enumerate() {
        let trimmed = given.map(str::trim);
        match trimmed {
            Some(text) if text.len() > MAX_NAME_BYTES => {
                refusals.refuse(row, "field_too_long", || {
                    format!("{name} has {} bytes, at most {MAX_NAME_BYTES} are kept", text.len())
                });
                cleaned.append_null();
            }
            Some(text) if !text.is_empty() => cleaned.append_value(text),
            _ => {
                if required {
                    refusals.refuse(row, "missing_field", || {
                        format!("{name} is {}", if trimmed.is_some() { "empty" } else { "missing" })
                    });
                }
                cleaned.append_null();
            }
        }
    }
    Ok(cleaned.finish())
}

/// A number with four digits after the point; text that is no number is refused.
fn decimals(array: &ArrayRef, name: &str, refusals: &mut Refusals) -> Result<Decimal128Array> {
    let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let source = if is_text {
        let trimmed = text(array)?
            .iter()
            .map(|text| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_string))
            .collect::<StringArray>();
        Arc::new(trimmed) as ArrayRef
    } else {
        array.clone()
    };
    let converted = convert(&source, &MONEY)?;
    if converted.null_count() > source.null_count() {
        let shown = text(&source)?;
        for row in 0..source.len() {
            if source.is_valid(row) && converted.is_null(row) {
                refusals.refuse(row, "type_mismatch", || {
                    format!(
                        "{name}: `{}` is no number that fits",
                        shown.value(row).chars().take(64).collect::<String>()
                    )
                });
            }
        }
    }
    Ok(converted.as_primitive::<arrow::datatypes::Decimal128Type>().clone())
}

/// Words with a fixed vocabulary.
fn check_words(columns: &EventColumns, refusals: &mut Refusals) {
    let vocabularies: [(&str, &[&str]); 2] =
        [("direction", &["inbound", "outbound"]), ("score_kind", &["csat", "ces", "nps"])];
    for (name, words) in vocabularies {
        let Some((_, array)) = columns.texts.iter().find(|(column, _)| *column == name) else { continue };
        for (row, given) in array.iter().enumerate() {
            if given.is_some_and(|word| !words.contains(&word)) {
                refusals.refuse(row, "unknown_word", || {
                    format!("{name} is `{}`, expected {}", given.unwrap_or_default(), words.join(" or "))
                });
            }
        }
    }
}

/// Adds a place to the planner's error.
trait WithPlace<T> {
    fn with_place(self, place: impl FnOnce() -> String) -> Result<T>;
}

impl<T> WithPlace<T> for datafusion::error::Result<T> {
    fn with_place(self, place: impl FnOnce() -> String) -> Result<T> {
        self.map_err(Error::from).or_else(|error| Err(error).context(place()))
    }
}
