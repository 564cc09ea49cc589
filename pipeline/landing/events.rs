//! Columns of the landed tables. They are a contract with readers: a new column is added, none is renamed.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// Folder of the events in the lake.
pub const EVENTS: &str = "landing/events";
/// Folder of the dead letters in the lake.
pub const DEAD_LETTERS: &str = "landing/dead_letters";
/// Partition column of the events.
pub const PARTITION: &str = "occurred_date";

/// Digits of money and scores: sums are exact, so they do not depend on the order of addition.
pub const MONEY: DataType = DataType::Decimal128(18, 4);

/// Instants: microseconds, UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Fields of one identifier.
pub fn identifier_fields() -> Fields {
    Fields::from(vec![Field::new("kind", DataType::Utf8, false), Field::new("value", DataType::Utf8, false)])
}

/// Columns of `events`.
pub static EVENT_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let identifier = Field::new("element", DataType::Struct(identifier_fields()), true);
    Arc::new(Schema::new(vec![
        Field::new("event_id", DataType::Utf8, false),
        Field::new("occurred_at", timestamp(), false),
        Field::new("received_at", timestamp(), false),
        Field::new("source", DataType::Utf8, false),
        Field::new("channel", DataType::Utf8, false),
        Field::new("touchpoint", DataType::Utf8, false),
        Field::new("direction", DataType::Utf8, false),
        text("stage"),
        Field::new("identifiers", DataType::List(Arc::new(identifier)), false),
        text("campaign"),
        text("experiment"),
        text("variant"),
        Field::new("value", MONEY, true),
        text("currency"),
        text("score_kind"),
        Field::new("score", MONEY, true),
        text("properties"),
        Field::new("batch", DataType::Int64, false),
        Field::new(PARTITION, DataType::Date32, false),
    ]))
});

/// What `events` holds, as the header of a model says it.
pub const EVENTS_HEADER: &str = "\
-- Events: every landed event, once. Of records with one event id the first landed stays.
--
-- grain:      event_id
-- columns:
--   event_id: id of the event; where the source has none, derived from source, record and occurrence
--   occurred_at: when it happened
--   received_at: when the source got it; the time of its batch where the source does not say
--   source: name of the source in the configuration
--   channel: the medium on which it happened, such as web, store or call_center
--   touchpoint: the named place of contact, such as add_to_cart
--   direction: inbound (the customer acts) or outbound (the brand sends)
--   stage: stage of the lifecycle, where the source says it
--   identifiers: kind and value of each identifier on the record; pseudonyms where configured
--   campaign: campaign that it belongs to
--   experiment: experiment that it took part in
--   variant: variant of the experiment
--   value: what it was worth [units of currency]
--   currency: currency of the value
--   score_kind: what the score measures: csat, ces or nps
--   score: answer to a survey [points on the scale of score_kind]
--   properties: JSON text of every source column that no expression takes whole
--   batch: number of the batch that landed it
--   occurred_date: day of occurred_at
";

/// What `dead_letters` holds.
pub const DEAD_LETTERS_HEADER: &str = "\
-- Dead letters: records that were refused, kept with their bytes and the reason.
--
-- grain:      batch, source, origin
-- columns:
--   batch: number of the batch that read it
--   source: name of the source in the configuration
--   origin: path:line, or the path of a file that was refused whole
--   reason: code of the reason
--   detail: what was expected and what came
--   record: its bytes; pseudonyms stand for what is pseudonymised
--   replayed_in: number of the batch that landed it after all; null while none has
";

/// Columns of `dead_letters`.
pub static DEAD_LETTER_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("batch", DataType::Int64, false),
        Field::new("source", DataType::Utf8, false),
        Field::new("origin", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("detail", DataType::Utf8, false),
        Field::new("record", DataType::Binary, false),
        Field::new("replayed_in", DataType::Int64, true),
    ]))
});
