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
use arrow::compute::{can_cast_types, filter_record_batch};
use arrow::datatypes::{DataType, Date32Type, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, plan_err};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::clean::Cleaner;
use super::columns::{ValuePath, by_column, paths_read};
use super::events::{EVENT_SCHEMA, MONEY, identifier_fields};
use super::time::{Refusal, TimeFormat, is_leap_second};
use super::values::{Refusals, as_text, convert, decimals, identifier_text, names, text, to_types, with_types};
use crate::config::{EventMapping, Source};
use crate::engine;
use crate::error::{Context, Error, Result};
use crate::functions::{content_hash, content_id};
use crate::identifiers::{Pseudonymiser, normalise};
use crate::sources::{Column, PathTree, Request, Shape};

/// The mapping of one source, ready to be evaluated.
pub struct Mapping {
    source: String,
    expressions: Vec<Expression>,
    times: TimeFormat,
    pseudonymiser: Option<Arc<Pseudonymiser>>,
    request: Request,
    /// Paths that feed pseudonymised identifiers, with their kinds.
    private: Vec<(String, ValuePath)>,
    ctx: SessionContext,
}

/// One expression of a mapping.
struct Expression {
    column: EventColumn,
    sql: String,
    /// The values that it reads.
    paths: Vec<ValuePath>,
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

    /// A type to which its values must be convertible.
    fn expected(&self) -> DataType {
        match self {
            Self::Value | Self::Score => MONEY,
            _ => DataType::Utf8,
        }
    }
}

/// Events of one decoded batch, and the rows that were refused.
pub struct Mapped {
    /// Events with the columns of [`EVENT_SCHEMA`], rows in record order.
    pub events: RecordBatch,
    /// Refused rows with their reason.
    pub refused: Vec<(usize, Refusal)>,
    /// Oddities that refused nothing, with their counts.
    pub flags: Vec<(&'static str, u64)>,
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
    /// Reads the expressions of a source; what is no SQL, or names a function that does not exist, is an error that names
    /// the key.
    pub fn new(source: &Source, pseudonymise: &[String], pseudonymiser: Option<Arc<Pseudonymiser>>) -> Result<Self> {
        let mut expressions = Vec::new();
        let mut private = Vec::new();
        for (column, sql) in given(&source.event) {
            let place = || format!("source `{}`, {}", source.name, column.name());
            if sql.trim().is_empty() {
                return Err(Error::invalid(format!("{}: the expression is empty", place())));
            }
            let paths = paths_read(&sql).map_err(|error| error.context(place()))?;
            if let EventColumn::Identifier(kind) = &column
                && pseudonymise.contains(kind)
            {
                private.extend(paths.iter().map(|path| (kind.clone(), path.clone())));
            }
            expressions.push(Expression { column, sql, paths });
        }
        let drop_paths = private.iter().map(|(_, path)| path.clone()).collect();
        let columns = by_column(expressions.iter().flat_map(|expression| expression.paths.iter().cloned()))
            .map_err(|error| error.context(format!("source `{}`", source.name)))?;
        let columns = columns.into_iter().map(|(name, members)| Column { name, shape: shape(members) }).collect();
        let config = SessionConfig::new().set_bool("datafusion.sql_parser.enable_ident_normalization", false);
        let ctx = SessionContext::new_with_config(config);
        crate::functions::register_all(&ctx);
        let mapping = Self {
            source: source.name.clone(),
            expressions,
            times: TimeFormat::new(source)?,
            pseudonymiser,
            request: Request { columns, properties: true, drop_paths },
            private,
            ctx,
        };
        mapping.check()?;
        Ok(mapping)
    }

    /// What the mapping needs of each record.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What cleans the dead letters of this source, if anything is pseudonymised.
    pub fn cleaner(&self) -> Option<Cleaner> {
        let plain: Vec<ValuePath> = self
            .expressions
            .iter()
            .filter(|expression| !matches!(expression.column, EventColumn::Text { .. } | EventColumn::Identifier(_)))
            .flat_map(|expression| expression.paths.iter().cloned())
            .collect();
        Some(Cleaner::new(self.pseudonymiser.clone()?, &self.private, &plain))
    }

    /// Whether an expression reads what is pseudonymised: then no message may show what it made of it.
    fn is_private(&self, expression: &Expression) -> bool {
        let overlaps = |a: &ValuePath, b: &ValuePath| a.starts_with(b) || b.starts_with(a);
        expression.paths.iter().any(|path| self.private.iter().any(|(_, private)| overlaps(path, private)))
    }

    /// Plans the expressions over a batch's columns. An expression that cannot take a column of the type that this file
    /// has, such as `lower(id)` of a number, takes the columns as text.
    ///
    /// Errors: an expression that fits these columns neither way.
    pub fn plan(&self, schema: &SchemaRef) -> Result<Plan> {
        // The last column keeps what no expression takes; a source may well have a column of the same name.
        let typed = schema.project(&self.requested())?;
        let texts = with_types(&typed, &as_text);
        let is_text = texts == typed;
        let (typed, texts) = (DFSchema::try_from(typed)?, DFSchema::try_from(texts)?);
        let mut expressions = Vec::with_capacity(self.expressions.len());
        for expression in &self.expressions {
            let planned = match self.physical(expression, &typed) {
                Err(error) if is_text => Err(error),
                Err(error) => self.physical(expression, &texts).map(|physical| (physical, true)).map_err(|_| error),
                Ok(physical) => Ok((physical, false)),
            };
            let (physical, reads_text) = planned?;
            let column = expression.column.clone();
            expressions.push(Planned { column, physical, reads_text, is_private: self.is_private(expression) });
        }
        Ok(Plan { expressions, schema: schema.clone(), texts: Arc::new(texts.as_arrow().clone()) })
    }

    /// Plans the expressions before any file is read. Columns are text then, as in JSON and CSV; an expression that
    /// only types of Parquet fit may be right as well, which shows over columns of no type.
    fn check(&self) -> Result<()> {
        let fields =
            self.request.columns.iter().map(|column| Field::new(&column.name, shape_type(&column.shape), true));
        let texts = Schema::new(fields.collect::<Vec<_>>());
        let nulls = DFSchema::try_from(with_types(&texts, &|_| DataType::Null))?;
        let texts = DFSchema::try_from(texts)?;
        for expression in &self.expressions {
            self.physical(expression, &texts).or_else(|error| self.physical(expression, &nulls).map_err(|_| error))?;
        }
        Ok(())
    }

    /// Positions of the requested columns in a decoded batch: all but the last.
    fn requested(&self) -> Vec<usize> {
        (0..self.request.columns.len()).collect()
    }

    fn physical(&self, expression: &Expression, fields: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        let place = || format!("source `{}`, {}", self.source, expression.column.name());
        let logical = self.simplified(&expression.sql, fields).with_place(place)?;
        let physical = self.ctx.create_physical_expr(logical, fields).with_place(place)?;
        let data_type = physical.data_type(fields.as_arrow()).with_place(place)?;
        match can_cast_types(&data_type, &expression.column.expected()) {
            true => Ok(physical),
            false => Err(Error::invalid(format!("{}: {data_type} is no {}", place(), expression.column.expected()))),
        }
    }

    /// Parses and simplifies an expression. Some functions, `coalesce` among them, exist only until they are simplified.
    fn simplified(&self, sql: &str, fields: &DFSchema) -> datafusion::error::Result<Expr> {
        let expression = self.ctx.parse_sql_expr(sql, fields)?;
        refuse_clocks(&expression)?;
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
        let texts = match plan.expressions.iter().any(|planned| planned.reads_text) {
            true => Some(to_types(&requested, &plan.texts)?),
            false => None,
        };
        for Planned { column, physical, reads_text, is_private } in &plan.expressions {
            refusals.is_private = *is_private;
            let batch = texts.as_ref().filter(|_| *reads_text).unwrap_or(&requested);
            let array = evaluate(physical, batch, column, &mut refusals)?;
            // What an expression computes is UTC; a column as it stands is as its source writes times.
            let is_bare = physical.downcast_ref::<PhysicalColumn>().is_some();
            match column {
                EventColumn::EventId => ids = Some(identifier_text(&array)?),
                EventColumn::OccurredAt => {
                    columns.occurred_at = self.instants(&array, is_bare, true, "occurred_at", &mut refusals)?
                }
                EventColumn::ReceivedAt => {
                    columns.received_at = self.instants(&array, is_bare, false, "received_at", &mut refusals)?
                }
                EventColumn::Text { name, required } => {
                    columns.texts.push((*name, names(&array, name, *required, &mut refusals)?))
                }
                EventColumn::Value => columns.value = Some(decimals(&array, "value", &mut refusals)?),
                EventColumn::Score => columns.score = Some(decimals(&array, "score", &mut refusals)?),
                EventColumn::Identifier(kind) => columns.identifiers.push((kind.clone(), identifier_text(&array)?)),
            }
        }
        check_words(&columns, plan, &mut refusals);
        let (ids, mut without_id) = event_ids(ids, records, &refusals);
        let events = self.assemble(columns, ids, records)?;
        let kept = BooleanArray::from_iter((0..rows).map(|row| Some(refusals.of_row[row].is_none())));
        let positions: Vec<usize> = (0..rows).filter(|row| kept.value(*row)).collect();
        let events = if positions.len() == rows { events } else { filter_record_batch(&events, &kept)? };
        for (row, _) in &mut without_id {
            *row = positions.binary_search(row).expect("only rows that are kept lack an id");
        }
        let mut flags = std::mem::take(&mut refusals.flags);
        if !without_id.is_empty() {
            flags.push(("derived_id", without_id.len() as u64));
        }
        Ok(Mapped { events, refused: refusals.into_rows(), flags, without_id })
    }

    /// Takes out the events that brought no id, for records that are not what their ids would be derived from. Returns
    /// the rows, among the events as they were, that stay.
    pub fn only_with_ids(&self, mapped: &mut Mapped) -> Result<Vec<usize>> {
        let without: Vec<usize> = std::mem::take(&mut mapped.without_id).into_iter().map(|(row, _)| row).collect();
        let kept: Vec<usize> =
            (0..mapped.events.num_rows()).filter(|row| without.binary_search(row).is_err()).collect();
        if !without.is_empty() {
            let mask: BooleanArray =
                (0..mapped.events.num_rows()).map(|row| Some(without.binary_search(&row).is_err())).collect();
            mapped.events = filter_record_batch(&mapped.events, &mask)?;
        }
        Ok(kept)
    }

    /// Gives events without an id one that is derived from source, record and the how-many-eth such record of its file
    /// this is, so that a replay of the file is recognised; under the key of pseudonyms, if there is one, since a record
    /// with few unknowns could be guessed from a plain hash. Batches of a file must come in order.
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
                    let content = format!("{}\n{text}\n{occurrence}", self.source);
                    ids.append_value(match &self.pseudonymiser {
                        Some(pseudonymiser) => pseudonymiser.content_id("record", &content),
                        None => content_id("record", &content),
                    });
                }
                None => ids.append_value(given.value(row)),
            }
        }
        let mut columns = mapped.events.columns().to_vec();
        columns[0] = Arc::new(ids.finish());
        mapped.events = RecordBatch::try_new(mapped.events.schema(), columns)?;
        Ok(())
    }

    /// Instants of a time column in microseconds; null where the row is refused or nothing was given. Times of a column
    /// as it stands that know no zone are taken to have the source's offset, UTC without one.
    fn instants(
        &self,
        array: &ArrayRef,
        is_bare: bool,
        required: bool,
        name: &str,
        refusals: &mut Refusals,
    ) -> Result<Vec<Option<i64>>> {
        let mut read = |row: usize, given: Option<Result<i64, Refusal>>| match given {
            Some(Ok(micros)) => Some(micros),
            Some(Err(refusal)) => {
                refusals.refuse(row, refusal.reason, name, || format!("{name}: {}", refusal.detail));
                None
            }
            None => {
                if required {
                    refusals.refuse(row, "missing_field", name, || format!("{name} is missing"));
                }
                None
            }
        };
        match array.data_type() {
            DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => {
                let is_local = is_bare && !matches!(array.data_type(), DataType::Timestamp(_, Some(_)));
                let micros = convert(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
                let micros = micros.as_primitive::<TimestampMicrosecondType>();
                Ok((0..array.len())
                    .map(|row| {
                        read(
                            row,
                            array.is_valid(row).then(|| {
                                if micros.is_valid(row) {
                                    self.times.micros(micros.value(row), is_local)
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
                let mut leap_seconds = 0;
                let instants = texts
                    .iter()
                    .enumerate()
                    .map(|(row, given)| {
                        let given = given.filter(|text| !text.is_empty());
                        let instant = read(row, given.map(|text| self.times.text(text)));
                        leap_seconds += u64::from(instant.is_some() && given.is_some_and(is_leap_second));
                        instant
                    })
                    .collect();
                if leap_seconds > 0 {
                    refusals.flags.push(("leap_second", leap_seconds));
                }
                Ok(instants)
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
    expressions: Vec<Planned>,
    schema: SchemaRef,
    /// The requested columns as text.
    texts: SchemaRef,
}

#[derive(Clone)]
struct Planned {
    column: EventColumn,
    physical: Arc<dyn PhysicalExpr>,
    /// It reads the columns as text.
    reads_text: bool,
    is_private: bool,
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

/// The expressions that a mapping gives.
fn given(event: &EventMapping) -> Vec<(EventColumn, String)> {
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

/// The clock of a run must not get into events: landed again, they would be others.
fn refuse_clocks(expression: &Expr) -> datafusion::error::Result<()> {
    expression.apply(|part| match part {
        Expr::ScalarFunction(call) if engine::is_clock(&call.func) => {
            plan_err!("{} gives another answer each time, and an event must not", call.func.name())
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(())
}

/// The type of a column where values are text.
fn shape_type(shape: &Shape) -> DataType {
    fn tree_type(tree: &PathTree) -> DataType {
        let member = |(name, below): &(String, PathTree)| Field::new(name, tree_type(below), true);
        match tree.members.is_empty() {
            true => DataType::Utf8,
            false => DataType::Struct(tree.members.iter().map(member).collect()),
        }
    }
    match shape {
        Shape::Whole => DataType::Utf8,
        Shape::Paths(tree) => tree_type(tree),
    }
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
                refusals.refuse(row, "expression_failed", column.name(), || {
                    format!("{}: {}", column.name(), error.strip_backtrace())
                });
                rows.push(arrow::array::new_null_array(&data_type, 1));
            }
        }
    }
    let rows: Vec<&dyn Array> = rows.iter().map(AsRef::as_ref).collect();
    Ok(arrow::compute::concat(&rows)?)
}

/// Words with a fixed vocabulary.
fn check_words(columns: &EventColumns, plan: &Plan, refusals: &mut Refusals) {
    let vocabularies: [(&str, &[&str]); 2] =
        [("direction", &["inbound", "outbound"]), ("score_kind", &["csat", "ces", "nps"])];
    for (name, words) in vocabularies {
        let Some((_, array)) = columns.texts.iter().find(|(column, _)| *column == name) else { continue };
        refusals.is_private = plan.expressions.iter().any(|of| of.is_private && of.column.name() == name);
        for (row, given) in array.iter().enumerate() {
            if given.is_some_and(|word| !words.contains(&word)) {
                refusals.refuse(row, "unknown_word", name, || {
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
