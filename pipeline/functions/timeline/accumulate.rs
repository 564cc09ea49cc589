//! The accumulator of `timeline` and `path`.
//!
//! A state is a list of structs, one per event, in the order of arrival: states merge in any order, and each event is
//! sorted once, where the result is made.

use std::iter::repeat_n;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, StructArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{cast, filter, nullif};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, TimestampMicrosecondType};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::super::arguments::{Lists, element_type, item_field, time_type, to_times};
use super::super::conditions::true_values;
use super::super::moments::to_moments;
use super::super::single_group::FirstGroup;
use super::columns::column_of;
use super::events::{Events, Grouped, Order};

/// What a function makes of the events of a group.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// `timeline`: a struct of lists with these fields: times, event ids, then the values.
    Timeline(Fields),
    /// `path`: one list with this item: the values.
    Path(FieldRef),
}

impl Shape {
    /// The shape that a function returns.
    pub(super) fn of_result(result: &DataType) -> Result<Self> {
        match result {
            DataType::Struct(fields) => Ok(Self::Timeline(fields.clone())),
            DataType::List(item) => Ok(Self::Path(Arc::clone(item))),
            other => exec_err!("expected to return a struct or a list, not {other}"),
        }
    }

    fn function(&self) -> &'static str {
        match self {
            Self::Timeline(_) => "timeline",
            Self::Path(_) => "path",
        }
    }

    /// How many fields of an event are keys, which are never null: the time, and the event id of a timeline.
    fn key_count(&self) -> usize {
        match self {
            Self::Timeline(_) => 2,
            Self::Path(_) => 1,
        }
    }

    /// The fields of one event in a state: the keys, then the values.
    pub(super) fn event_fields(&self) -> Result<Fields> {
        match self {
            Self::Timeline(fields) => {
                let event_field = |field: &FieldRef| match element_type(field.data_type()) {
                    Some(element) => Ok(Field::new(field.name(), element.clone(), true)),
                    None => exec_err!("timeline: expected field {} to be a list", field.name()),
                };
                fields.iter().map(event_field).collect()
            }
            Self::Path(item) => {
                let value = Field::new("value", item.data_type().clone(), true);
                Ok(Fields::from(vec![Field::new("time", time_type(), true), value]))
            }
        }
    }
}

/// The events of many groups, on their way into what their function returns.
#[derive(Debug)]
pub(super) struct Timelines {
    shape: Shape,
    event_fields: Fields,
    events: Events,
}

/// Columns of events from a batch and which of its rows count; all when `None`.
struct Input {
    columns: Vec<ArrayRef>,
    is_selected: Option<BooleanBuffer>,
}

impl Timelines {
    /// Without events, returning the given type.
    pub(super) fn returning(result: &DataType) -> Result<Self> {
        let shape = Shape::of_result(result)?;
        let event_fields = shape.event_fields()?;
        let values = event_fields.iter().skip(shape.key_count()).map(|field| field.data_type());
        let events = Events::new(shape.function(), shape.key_count() > 1, values)?;
        Ok(Self { shape, event_fields, events })
    }

    /// The columns of the events that are the arguments of a call.
    fn columns(&self, arguments: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        match &self.shape {
            Shape::Timeline(_) => timeline_columns(arguments),
            Shape::Path(_) => {
                let times = to_moments("path", &arguments[0])?.reinterpret_cast::<TimestampMicrosecondType>();
                Ok(vec![Arc::new(times.with_timezone("UTC")), Arc::clone(&arguments[1])])
            }
        }
    }

    /// Reads the arguments of a call.
    fn input(&self, arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Input> {
        let columns = self.columns(arguments)?;
        let mut keys = columns[0].logical_nulls();
        if self.shape.key_count() > 1 {
            keys = NullBuffer::union(keys.as_ref(), columns[1].logical_nulls().as_ref());
        }
        let passed = filter.map(|filter| NullBuffer::new(true_values(filter)));
        let selected = NullBuffer::union(keys.as_ref(), passed.as_ref()).filter(|selected| selected.null_count() > 0);
        Ok(Input { columns, is_selected: selected.map(NullBuffer::into_inner) })
    }

    fn append(&mut self, input: Input, groups: impl Iterator<Item = usize>) -> Result<()> {
        let Some(is_selected) = input.is_selected else {
            return self.events.append(&input.columns, groups);
        };
        let selected_groups =
            groups.zip(is_selected.iter()).filter_map(|(group, is_selected)| is_selected.then_some(group));
        let predicate = BooleanArray::new(is_selected.clone(), None);
        let columns = input.columns.iter().map(|column| Ok(filter(column, &predicate)?)).collect::<Result<Vec<_>>>()?;
        self.events.append(&columns, selected_groups)
    }

    /// Events as the result: a list, or a struct of lists, which share their offsets.
    fn to_result(&self, grouped: Grouped) -> Result<ArrayRef> {
        let Grouped { offsets, mut columns } = grouped;
        let list = |values: ArrayRef| -> Result<ArrayRef> {
            let item = item_field(values.data_type().clone());
            Ok(Arc::new(ListArray::try_new(item, offsets.clone(), values, None)?))
        };
        match &self.shape {
            Shape::Timeline(fields) => {
                let lists = columns.into_iter().map(list).collect::<Result<_>>()?;
                Ok(Arc::new(StructArray::try_new(fields.clone(), lists, None)?))
            }
            Shape::Path(_) => match columns.pop() {
                Some(values) => list(values),
                None => exec_err!("path: the events have no values"),
            },
        }
    }

    /// Events as a state: a list of structs.
    fn to_state(
        &self,
        events: Vec<ArrayRef>,
        offsets: OffsetBuffer<i32>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef> {
        let events = StructArray::try_new(self.event_fields.clone(), events, None)?;
        let item = item_field(events.data_type().clone());
        Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(events), nulls)?))
    }
}

/// Times, event ids and values of the arguments of `timeline`.
fn timeline_columns(arguments: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let values = arguments[2].as_struct();
    let times = to_times("timeline", &arguments[0])?.with_timezone("UTC");
    let mut columns: Vec<ArrayRef> = vec![Arc::new(times), Arc::clone(&arguments[1])];
    match values.nulls() {
        None => columns.extend(values.columns().iter().cloned()),
        Some(nulls) => {
            let is_null = BooleanArray::new(!nulls.inner(), None);
            for column in values.columns() {
                columns.push(nullif(column, &is_null)?);
            }
        }
    }
    Ok(columns)
}

impl GroupsAccumulator for Timelines {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.events.grow_groups(total_num_groups);
        self.append(self.input(values, opt_filter)?, group_indices.iter().copied())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.events.grow_groups(total_num_groups);
        let lists = Lists::of_array(self.shape.function(), &values[0])?;
        let columns = lists.values.as_struct().columns().to_vec();
        let is_selected = lists
            .nulls
            .as_ref()
            .map(|_| (0..lists.len()).flat_map(|row| repeat_n(!lists.is_null(row), lists.span(row).len())).collect());
        let groups = group_indices.iter().enumerate().flat_map(|(row, &group)| repeat_n(group, lists.span(row).len()));
        self.append(Input { columns, is_selected }, groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let grouped = self.events.emit(emit_to, Order::Time)?;
        self.to_result(grouped)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let grouped = self.events.emit(emit_to, Order::Arrival)?;
        Ok(vec![self.to_state(grouped.columns, grouped.offsets, None)?])
    }

    /// Each row becomes a state of one event, or null when it does not count.
    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let input = self.input(values, opt_filter)?;
        let rows = input.columns[0].len();
        let mut columns = Vec::with_capacity(input.columns.len());
        for (index, (column, field)) in input.columns.iter().zip(&self.event_fields).enumerate() {
            let stored = field.data_type();
            columns.push(match column.data_type() == stored {
                true => Arc::clone(column),
                false if index < self.shape.key_count() => cast(column, stored)?,
                false => {
                    let function = self.shape.function();
                    let mut stored = column_of(function, stored)?;
                    stored.append(function, column)?;
                    stored.gather(&(0..rows as u32).collect::<Vec<_>>())?
                }
            });
        }
        let offsets = OffsetBuffer::from_repeated_length(1, rows);
        Ok(vec![self.to_state(columns, offsets, input.is_selected.map(NullBuffer::new))?])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.events.size()
    }
}

impl FirstGroup for Timelines {
    fn begin(&mut self) {
        self.events.grow_groups(1);
    }

    fn peek(&mut self) -> Result<ArrayRef> {
        let grouped = self.events.peek(Order::Time)?;
        self.to_result(grouped)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Decimal128Array, StringArray, TimestampMicrosecondArray};
    use datafusion::arrow::datatypes::Decimal128Type;
    use datafusion::logical_expr::AggregateUDFImpl;
    use proptest::prelude::*;

    use super::super::super::arguments::coded_text_type;
    use super::super::super::ways::{Way, way};
    use super::super::Timeline;
    use super::*;

    const GROUPS: usize = 4;

    #[derive(Debug, Clone)]
    struct Event {
        group: usize,
        time: Option<i64>,
        id: Option<String>,
        channel: Option<String>,
        value: Option<i128>,
        is_goal: Option<bool>,
        passes: Option<bool>,
    }

    /// What a timeline says about one event.
    type Row = (i64, String, Option<String>, Option<i128>, Option<bool>);

    fn naive(events: &[Event]) -> Vec<Vec<Row>> {
        let mut timelines = vec![Vec::new(); GROUPS];
        for event in events.iter().filter(|event| event.passes == Some(true)) {
            if let (Some(time), Some(id)) = (event.time, event.id.clone()) {
                timelines[event.group].push((time, id, event.channel.clone(), event.value, event.is_goal));
            }
        }
        timelines.iter_mut().for_each(|timeline| timeline.sort());
        timelines
    }

    fn arguments(events: &[Event], text: &DataType) -> Vec<ArrayRef> {
        let texts = |texts: Vec<Option<&str>>| cast(&StringArray::from(texts), text).unwrap();
        let times: TimestampMicrosecondArray = events.iter().map(|event| event.time).collect();
        let values: Decimal128Array = events.iter().map(|event| event.value).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("channels", texts(events.iter().map(|event| event.channel.as_deref()).collect())),
            ("values", Arc::new(values.with_precision_and_scale(18, 4).unwrap())),
            ("goals", Arc::new(events.iter().map(|event| event.is_goal).collect::<BooleanArray>())),
        ];
        let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let fields: Fields = fields.collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        vec![
            Arc::new(times.with_timezone("UTC")),
            texts(events.iter().map(|event| event.id.as_deref()).collect()),
            Arc::new(StructArray::new(fields, columns, None)),
        ]
    }

    fn timelines() -> Timelines {
        let types: Vec<DataType> =
            arguments(&[], &DataType::Utf8).iter().map(|array| array.data_type().clone()).collect();
        Timelines::returning(&Timeline::default().return_type(&types).unwrap()).unwrap()
    }

    fn read(result: &ArrayRef) -> Vec<Vec<Row>> {
        let result = result.as_struct();
        let list = |field: usize, row: usize| result.column(field).as_list::<i32>().value(row);
        let texts = |array: ArrayRef| cast(&array, &DataType::Utf8).unwrap();
        (0..result.len())
            .map(|row| {
                let (times, ids, channels) = (list(0, row), list(1, row), texts(list(2, row)));
                let (values, goals) = (list(3, row), list(4, row));
                let times = times.as_primitive::<TimestampMicrosecondType>().values().to_vec();
                let ids = ids.as_string::<i32>().iter().flatten().map(str::to_owned);
                let channels = channels.as_string::<i32>().iter().map(|channel| channel.map(str::to_owned));
                let values = values.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>();
                let goals = goals.as_boolean().iter().collect::<Vec<_>>();
                let rows = times.into_iter().zip(ids).zip(channels).zip(values).zip(goals);
                rows.map(|((((time, id), channel), value), goal)| (time, id, channel, value, goal)).collect()
            })
            .collect()
    }

    fn event() -> impl Strategy<Value = Event> {
        let mostly = |is: bool| prop::option::weighted(0.9, Just(is));
        let channels = ["web", "store", "call_center_of_the_north"];
        (
            0..GROUPS,
            prop::option::weighted(0.9, -3i64..3),
            prop::option::weighted(0.9, (0u8..6).prop_map(|id| format!("event-{id}"))),
            prop::option::of(prop::sample::select(channels.to_vec()).prop_map(str::to_owned)),
            prop::option::of(-5i128..5),
            prop::option::of(any::<bool>()),
            prop_oneof![9 => mostly(true), 1 => mostly(false)],
        )
            .prop_map(|(group, time, id, channel, value, is_goal, passes)| Event {
                group,
                time,
                id,
                channel,
                value,
                is_goal,
                passes,
            })
    }

    fn add(total: &mut Timelines, events: &[Event], way: Way, text: &DataType) {
        let values = arguments(events, text);
        let groups: Vec<usize> = events.iter().map(|event| event.group).collect();
        let filter: BooleanArray = events.iter().map(|event| event.passes).collect();
        way.add(total, timelines, &values, &groups, &filter, GROUPS);
    }

    proptest! {
        #[test]
        fn any_order_and_any_split_give_the_timelines_of_a_naive_sort(
            events in prop::collection::vec(event(), 0..60).prop_shuffle(),
            batches in prop::collection::vec((1usize..12, way(GROUPS), 0usize..4), 1..6),
            emitted in 0..=GROUPS,
        ) {
            let encodings = [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, coded_text_type()];
            let mut total = timelines();
            let mut rest = &events[..];
            for (length, way, encoding) in batches.iter().cycle() {
                let (batch, others) = rest.split_at((*length).min(rest.len()));
                add(&mut total, batch, *way, &encodings[*encoding]);
                rest = others;
                if rest.is_empty() {
                    break;
                }
            }
            let mut found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(emitted)).unwrap());
            found.extend(read(&GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap()));
            prop_assert_eq!(found, naive(&events));
        }

        #[test]
        fn groups_emitted_first_leave_the_others_as_they_were(
            before in prop::collection::vec(event(), 0..30),
            after in prop::collection::vec(event(), 0..30),
            emitted in 0..=GROUPS,
        ) {
            let mut total = timelines();
            add(&mut total, &before, Way::Update, &DataType::Utf8View);
            let mut found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(emitted)).unwrap());
            prop_assert_eq!(&found[..], &naive(&before)[..emitted]);

            let mut later = after.clone();
            later.retain(|event| event.group >= emitted);
            let moved: Vec<Event> =
                later.iter().map(|event| Event { group: event.group - emitted, ..event.clone() }).collect();
            add(&mut total, &moved, Way::Update, &coded_text_type());
            found = read(&GroupsAccumulator::evaluate(&mut total, EmitTo::First(GROUPS - emitted)).unwrap());
            let all: Vec<Event> = before.into_iter().chain(later).collect();
            prop_assert_eq!(&found[..], &naive(&all)[emitted..]);
        }
    }

    #[test]
    fn the_size_grows_with_events_and_falls_when_they_leave() {
        let id = |number: usize| Some(format!("event-{number:08}"));
        let event = Event {
            group: 0,
            time: Some(1),
            id: None,
            channel: Some("web".to_owned()),
            value: Some(1),
            is_goal: None,
            passes: Some(true),
        };
        let events: Vec<Event> = (0..10_000).map(|number| Event { id: id(number), ..event.clone() }).collect();
        let mut total = timelines();
        let empty = GroupsAccumulator::size(&total);
        add(&mut total, &events, Way::Update, &DataType::Utf8View);
        // 8 time, 4 group, 4 + 14 id, 4 channel, 16 value, 1 goal.
        let full = GroupsAccumulator::size(&total);
        assert!((51 * 10_000..110 * 10_000).contains(&full), "{full}");
        GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap();
        assert!(GroupsAccumulator::size(&total) <= empty + 100);
    }
}
