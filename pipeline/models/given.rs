//! Tables that are no models: their names, and what each holds.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::settings;
use crate::identity::stage as identity;
use crate::identity::tables::{CUSTOMERS_HEADER, LINKS_HEADER, MAP_HEADER, REFUSALS_HEADER};
use crate::landing::batches::BATCHES_HEADER;
use crate::landing::events::{DEAD_LETTERS_HEADER, EVENTS_HEADER, timestamp};

/// What `run_results` holds, as the header of a model says it.
const RUN_RESULTS_HEADER: &str = "\
-- Run results: what each run of the main job did.
--
-- grain:      run_id
-- columns:
--   run_id: id of the run
--   started_at: when it began
--   completed_at: when it ended
--   as_of: its logical time
--   status: success; failed (a model, check or mart failed, the rest is done); error (an error ended it)
--   landed: events landed
--   duplicates: records whose event id was known
--   dead_letters: records refused
--   models_built: models built
--   models_failed: models that could not be built
--   checks_failed: checks that found offending rows
--   elapsed_seconds: how long it took [seconds]
";

/// Columns of `run_results`.
pub static RUN_RESULTS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let time = |name: &str| Field::new(name, timestamp(), true);
    let count = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![
        text("run_id"),
        time("started_at"),
        time("completed_at"),
        time("as_of"),
        text("status"),
        count("landed"),
        count("duplicates"),
        count("dead_letters"),
        count("models_built"),
        count("models_failed"),
        count("checks_failed"),
        Field::new("elapsed_seconds", DataType::Float64, false),
    ]))
});

/// What `restatements` holds, as the header of a model says it.
const RESTATEMENTS_HEADER: &str = "\
-- Restatements: which published figures a run changed, and the events that came since they were published. The first
-- publication of a day is none. It reaches as far back as reports of runs are kept.
--
-- grain:      run_id, mart, day
-- columns:
--   run_id: id of the run that published other figures
--   mart: name of the mart
--   reason: why its model was built, of a view a table that it reads; null when an earlier run built it
--   rows_before: rows of the file before
--   rows_after: rows of the file since; 0 when it is gone
--   rows_removed: rows of the model that are gone, or others; null when it was built whole
--   rows_added: rows of the model that are new, or others; null when it was built whole
--   first_batch: first batch since the file was published; null when there was none
--   last_batch: last batch since then
--   events: events of these batches that occurred on the day; for a mart of one file all of them
--   max_lateness_seconds: longest time from the occurrence of one of these events to its receipt [seconds]
--   day: day of the file; null for a mart of one file, and for rows without a day
--   as_of: logical time of the run
--   completed_at: when the run ended
";

/// Columns of `restatements`.
pub static RESTATEMENTS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str, is_nullable| Field::new(name, DataType::Utf8, is_nullable);
    let time = |name: &str| Field::new(name, timestamp(), true);
    let count = |name: &str, is_nullable| Field::new(name, DataType::Int64, is_nullable);
    Arc::new(Schema::new(vec![
        text("run_id", false),
        text("mart", false),
        text("reason", true),
        count("rows_before", false),
        count("rows_after", false),
        count("rows_removed", true),
        count("rows_added", true),
        count("first_batch", true),
        count("last_batch", true),
        count("events", true),
        count("max_lateness_seconds", true),
        Field::new("day", DataType::Date32, true),
        time("as_of"),
        time("completed_at"),
    ]))
});

/// What a table tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What came in.
    Landed,
    /// What was done.
    System,
    /// Who is who.
    Identity,
    /// The configuration.
    Settings,
}

/// A table that is no model.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// Its name.
    pub name: &'static str,
    /// What it tells of.
    pub group: Group,
    /// What it holds, as the header of a model says it.
    pub header: &'static str,
}

const LANDED: [(&str, Group, &str); 5] = [
    ("events", Group::Landed, EVENTS_HEADER),
    ("dead_letters", Group::Landed, DEAD_LETTERS_HEADER),
    ("batches", Group::System, BATCHES_HEADER),
    ("run_results", Group::System, RUN_RESULTS_HEADER),
    ("restatements", Group::System, RESTATEMENTS_HEADER),
];
/// In the order of the tables' names.
const OF_IDENTITY: [&str; 4] = [MAP_HEADER, CUSTOMERS_HEADER, LINKS_HEADER, REFUSALS_HEADER];

/// All of them, in the order in which data meets them.
pub fn tables() -> impl Iterator<Item = Given> {
    let in_group = |group| move |(name, header)| (name, group, header);
    let identity = identity::TABLES.into_iter().zip(OF_IDENTITY).map(in_group(Group::Identity));
    let settings = settings::TABLES.into_iter().zip(settings::HEADERS).map(in_group(Group::Settings));
    LANDED.into_iter().chain(identity).chain(settings).map(|(name, group, header)| Given { name, group, header })
}

/// Their names.
pub fn names() -> impl Iterator<Item = &'static str> {
    tables().map(|table| table.name)
}
