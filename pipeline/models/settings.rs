//! The configuration as tables, so that models read it in SQL and are rebuilt when what they read of it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, IntervalMonthDayNanoArray, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::IntervalMonthDayNanoType;
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use sha2::{Digest, Sha256};

use crate::config::{Config, Span};
use crate::error::Result;

/// Names of the tables of this module.
pub const TABLES: [&str; 6] = ["settings", "as_of", "goals", "channel_classes", "touchpoint_stages", "funnels"];

/// Whether a name is that of a table which says what the configuration sets. The logical time moves on with the events:
/// what reads it is not another model for that.
pub fn is_setting(name: &str) -> bool {
    name != "as_of" && TABLES.contains(&name)
}

/// What each table holds, as the header of a model says it; in the order of [`TABLES`].
pub const HEADERS: [&str; 6] = [
    "\
-- Settings: the one row of times that the configuration sets.
--
-- columns:
--   session_timeout: silence after which a session has ended
--   journey_timeout: silence after which a journey has ended
--   future_tolerance: how far an event may lie behind its own received_at
",
    "\
-- As-of: the logical time, in one row.
--
-- columns:
--   as_of: by default the newest occurred_at that is in the future neither of its received_at nor of its batch
",
    "\
-- Goals: touchpoints that a journey ends with.
--
-- grain:      touchpoint, channel
-- columns:
--   touchpoint: the touchpoint
--   channel: the channel on which it is a goal; null for all
",
    "\
-- Channel classes: the class of each channel.
--
-- grain:      channel
-- columns:
--   channel: the channel
--   class: its class, such as digital or assisted
",
    "\
-- Touchpoint stages: the stage of the lifecycle of each touchpoint.
--
-- grain:      touchpoint
-- columns:
--   touchpoint: the touchpoint
--   stage: its stage, such as evaluation
",
    "\
-- Funnels: what the configuration measures.
--
-- grain:      funnel
-- columns:
--   funnel: name of the funnel
--   steps: its steps, in order: a touchpoint, channel:touchpoint, alternatives joined by |, or *
--   step_count: how many steps there are
--   attempt_window: time from the first matched step within which the others count
",
];

/// Registers `settings`, `as_of`, `goals`, `channel_classes`, `touchpoint_stages` and `funnels`; returns a fingerprint
/// of each one's content.
pub fn register(ctx: &SessionContext, config: &Config, as_of: Option<i64>) -> Result<BTreeMap<String, String>> {
    let tables = [
        settings(config)?,
        as_of_table(as_of)?,
        goals(config)?,
        pairs(["channel", "class"], &config.channels)?,
        pairs(["touchpoint", "stage"], &config.stages)?,
        funnels(config)?,
    ];
    let mut fingerprints = BTreeMap::new();
    for (name, batch) in TABLES.into_iter().zip(tables) {
        fingerprints.insert(name.to_string(), fingerprint(&batch)?);
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
        ctx.deregister_table(name)?;
        ctx.register_table(name, Arc::new(table))?;
    }
    Ok(fingerprints)
}

/// A digest of a small table's text form.
fn fingerprint(batch: &RecordBatch) -> Result<String> {
    let text = pretty_format_batches(std::slice::from_ref(batch))?.to_string();
    Ok(hex::encode(&Sha256::digest(text.as_bytes())[..16]))
}

fn interval(span: Span) -> arrow::datatypes::IntervalMonthDayNano {
    IntervalMonthDayNanoType::make_value(0, 0, span.micros().saturating_mul(1_000))
}

fn intervals(spans: impl IntoIterator<Item = Span>) -> ArrayRef {
    Arc::new(IntervalMonthDayNanoArray::from_iter_values(spans.into_iter().map(interval)))
}

fn settings(config: &Config) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter([
        ("session_timeout", intervals([config.sessions.timeout])),
        ("journey_timeout", intervals([config.journeys.timeout])),
        ("future_tolerance", intervals([config.landing.future_tolerance])),
    ])?)
}

fn as_of_table(as_of: Option<i64>) -> Result<RecordBatch> {
    let array = TimestampMicrosecondArray::from(vec![as_of.unwrap_or(0)]).with_timezone("UTC");
    Ok(RecordBatch::try_from_iter([("as_of", Arc::new(array) as ArrayRef)])?)
}

fn goals(config: &Config) -> Result<RecordBatch> {
    // A touchpoint's own name may hold a `:`, so each is read both ways, as a step of a funnel is.
    let readings: BTreeSet<(&str, Option<&str>)> = config
        .journeys
        .goal
        .iter()
        .flat_map(|goal| {
            let on_channel = goal.match_indices(':').map(|(at, _)| (&goal[at + 1..], Some(&goal[..at])));
            on_channel.chain([(goal.as_str(), None)])
        })
        .collect();
    let (touchpoints, channels): (Vec<_>, Vec<_>) = readings.into_iter().unzip();
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("touchpoint", Arc::new(StringArray::from(touchpoints)) as ArrayRef, false),
        ("channel", Arc::new(StringArray::from(channels)) as ArrayRef, true),
    ])?)
}

/// Rows (value, key) of `key = [values]`.
fn pairs(names: [&str; 2], lists: &BTreeMap<String, Vec<String>>) -> Result<RecordBatch> {
    let rows = lists.iter().flat_map(|(key, values)| values.iter().map(move |value| (value.as_str(), key.as_str())));
    let (values, keys): (Vec<_>, Vec<_>) = rows.unzip();
    Ok(RecordBatch::try_from_iter([
        (names[0], Arc::new(StringArray::from(values)) as ArrayRef),
        (names[1], Arc::new(StringArray::from(keys)) as ArrayRef),
    ])?)
}

fn funnels(config: &Config) -> Result<RecordBatch> {
    let mut steps = ListBuilder::new(StringBuilder::new());
    for funnel in &config.funnels {
        for step in &funnel.steps {
            steps.values().append_value(step);
        }
        steps.append(true);
    }
    let names = StringArray::from_iter_values(config.funnels.iter().map(|funnel| &funnel.name));
    let counts = Int64Array::from_iter_values(config.funnels.iter().map(|funnel| funnel.steps.len() as i64));
    Ok(RecordBatch::try_from_iter([
        ("funnel", Arc::new(names) as ArrayRef),
        ("steps", Arc::new(steps.finish()) as ArrayRef),
        ("step_count", Arc::new(counts) as ArrayRef),
        ("attempt_window", intervals(config.funnels.iter().map(|funnel| funnel.window))),
    ])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn a_changed_setting_changes_the_fingerprint_of_its_table_alone() {
        let ctx = SessionContext::new();
        let before = register(&ctx, &config("[sessions]\ntimeout = \"30m\""), Some(1)).unwrap();
        let after = register(&ctx, &config("[sessions]\ntimeout = \"31m\""), Some(1)).unwrap();
        let changed: Vec<_> =
            before.iter().filter(|(name, value)| after[*name] != **value).map(|(name, _)| name).collect();
        assert_eq!(changed, ["settings"]);
        let later = register(&ctx, &config("[sessions]\ntimeout = \"31m\""), Some(2)).unwrap();
        assert_ne!(later["as_of"], after["as_of"]);
    }

    #[tokio::test]
    async fn goals_may_name_a_channel() {
        let ctx = SessionContext::new();
        register(&ctx, &config("[journeys]\ngoal = [\"purchase\", \"store:sale\", \"purchase\"]"), None).unwrap();
        let rows = ctx.sql("select touchpoint, channel from goals order by 1").await.unwrap().collect().await.unwrap();
        let text = pretty_format_batches(&rows).unwrap().to_string();
        assert!(text.contains("| purchase   |         |") && text.contains("| sale       | store   |"), "{text}");
        assert!(text.contains("| store:sale |         |"), "a touchpoint may hold a colon: {text}");
        assert_eq!(rows[0].num_rows(), 3);
    }
}
