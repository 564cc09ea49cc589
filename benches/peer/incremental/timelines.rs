//! The events of customers in order, one customer after another.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, DictionaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use hashbrown::HashMap;
use wayline::error::{Error, Result};

const GOAL: &str = "purchase";

/// Texts by number.
#[derive(Default)]
pub struct Words {
    numbers: HashMap<String, i32>,
    words: Vec<String>,
}

impl Words {
    pub fn number(&mut self, word: &str) -> i32 {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        let number = self.words.len() as i32;
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        number
    }

    fn numbers_of(&mut self, column: &dyn arrow::array::Array) -> Result<Vec<i32>> {
        let texts = column.as_dictionary_opt::<Int32Type>().ok_or_else(|| Error::internal("texts are a dictionary"))?;
        let numbers: Vec<i32> =
            texts.values().as_string::<i32>().iter().map(|word| self.number(word.unwrap_or_default())).collect();
        Ok(texts.keys().values().iter().map(|key| numbers[*key as usize]).collect())
    }

    fn array(&self) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(&self.words))
    }
}

/// Customers, the times of their events and, in the same places, what happened.
#[derive(Default)]
pub struct Timelines {
    customers: Vec<i64>,
    /// The end of each customer's events.
    ends: Vec<usize>,
    times: Vec<i64>,
    touchpoints: Vec<i32>,
    channels: Vec<i32>,
}

impl Timelines {
    /// The events of record batches of `customer_id`, `event_time`, `touchpoint` and `channel`, in order.
    pub fn of(batches: &[RecordBatch], words: &mut Words) -> Result<Self> {
        let (mut order, mut touchpoints, mut channels) = (Vec::new(), Vec::new(), Vec::new());
        for batch in batches {
            let column = |name| batch.column_by_name(name).ok_or_else(|| Error::internal(format!("no column {name}")));
            let customers = column("customer_id")?.as_primitive::<Int64Type>().values();
            let times = column("event_time")?.as_primitive::<TimestampMicrosecondType>().values();
            order.extend(
                customers.iter().zip(times).zip(order.len()..).map(|((customer, time), at)| (*customer, *time, at)),
            );
            touchpoints.extend(words.numbers_of(column("touchpoint")?)?);
            channels.extend(words.numbers_of(column("channel")?)?);
        }
        order.sort_unstable();
        let mut made = Self::default();
        for customer in order.chunk_by(|one, other| one.0 == other.0) {
            for (_, time, at) in customer {
                made.push(*time, touchpoints[*at], channels[*at]);
            }
            made.end(customer[0].0);
        }
        Ok(made)
    }

    pub fn customers(&self) -> &[i64] {
        &self.customers
    }

    fn events_of(&self, row: usize) -> std::ops::Range<usize> {
        row.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[row]
    }

    fn push(&mut self, time: i64, touchpoint: i32, channel: i32) {
        self.times.push(time);
        self.touchpoints.push(touchpoint);
        self.channels.push(channel);
    }

    fn end(&mut self, customer: i64) {
        self.customers.push(customer);
        self.ends.push(self.times.len());
    }

    /// Puts a customer of others behind these.
    pub fn add(&mut self, others: &Self, row: usize) {
        let events = others.events_of(row);
        self.times.extend_from_slice(&others.times[events.clone()]);
        self.touchpoints.extend_from_slice(&others.touchpoints[events.clone()]);
        self.channels.extend_from_slice(&others.channels[events]);
        self.end(others.customers[row]);
    }

    /// Puts a customer of two others behind these, with the events of both. No customer has two events of one time.
    pub fn add_merged(&mut self, (one, row): (&Self, usize), (other, other_row): (&Self, usize)) {
        let (mut left, mut right) = (one.events_of(row).peekable(), other.events_of(other_row).peekable());
        loop {
            let is_left = match (left.peek(), right.peek()) {
                (Some(left), Some(right)) => one.times[*left] <= other.times[*right],
                (left, None) if left.is_none() => break,
                (left, _) => left.is_some(),
            };
            let (from, next) = if is_left { (one, left.next()) } else { (other, right.next()) };
            let at = next.expect("it was looked at");
            self.push(from.times[at], from.touchpoints[at], from.channels[at]);
        }
        self.end(one.customers[row]);
    }

    /// The rows of the journeys of these customers, so many at a time.
    pub fn rows(&self, words: &Words, at_once: usize) -> Result<Vec<RecordBatch>> {
        let (schema, dictionary) = (journeys(), words.array());
        let goal = words.numbers.get(GOAL);
        let texts = |numbers: &[i32]| -> Result<ArrayRef> {
            let numbers = Int32Array::from_iter_values(numbers.iter().copied());
            Ok(Arc::new(DictionaryArray::try_new(numbers, dictionary.clone())?))
        };
        let mut batches = Vec::with_capacity(self.customers.len().div_ceil(at_once));
        for begin in (0..self.customers.len()).step_by(at_once) {
            let end = (begin + at_once).min(self.customers.len());
            let events = self.events_of(begin).start..self.ends[end - 1];
            let offsets = OffsetBuffer::from_lengths((begin..end).map(|row| self.events_of(row).len()));
            let list = |column: usize, values: ArrayRef| -> Result<ArrayRef> {
                let DataType::List(item) = schema.field(column).data_type() else {
                    return Err(Error::internal("the columns behind the customer are lists"));
                };
                Ok(Arc::new(ListArray::try_new(item.clone(), offsets.clone(), values, None)?))
            };
            let touchpoints = &self.touchpoints[events.clone()];
            let is_goals: BooleanArray = touchpoints.iter().map(|touchpoint| Some(Some(touchpoint) == goal)).collect();
            let times = TimestampMicrosecondArray::from_iter_values(self.times[events.clone()].iter().copied());
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values(self.customers[begin..end].iter().copied())),
                list(1, texts(touchpoints)?)?,
                list(2, texts(&self.channels[events])?)?,
                list(3, Arc::new(is_goals))?,
                list(4, Arc::new(times.with_timezone("UTC")))?,
            ];
            batches.push(RecordBatch::try_new(schema.clone(), columns)?);
        }
        Ok(batches)
    }
}

/// A customer's row.
pub fn journeys() -> SchemaRef {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let list = |name: &str, element: DataType| Field::new_list(name, Field::new_list_field(element, true), true);
    Arc::new(Schema::new(vec![
        Field::new("customer_id", DataType::Int64, true),
        list("touchpoints", text.clone()),
        list("channels", text),
        list("is_goals", DataType::Boolean),
        list("times", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ]))
}
