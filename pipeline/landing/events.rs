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
