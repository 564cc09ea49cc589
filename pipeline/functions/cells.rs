//! `journey_cells`: the visits of a journey to the cells of the stage × channel map.
//!
//! Stages and channels are compared by number and go out as string views.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, coerce_texts, coerce_times, expect_count, time_type, to_times};
use super::changes::Runs;
use super::documentation::{Example, Manual, Section};
use super::elements::{
    Names, Optionals, Rows, booleans, integers, record_fields, records_type, seconds, seconds_between, time_at, times,
};

/// The stage of a touch whose stage is null.
const NONE: &str = "(none)";

/// The fields of a visit.
fn visit_fields() -> Fields {
    record_fields([
        ("stage", DataType::Utf8View),
        ("channel", DataType::Utf8View),
        ("entered_at", time_type()),
        ("seconds", DataType::Float64),
        ("touch_count", DataType::Int64),
        ("next_stage", DataType::Utf8View),
        ("next_channel", DataType::Utf8View),
        ("is_last", DataType::Boolean),
    ])
}

/// The function `journey_cells`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct JourneyCells {
    signature: Signature,
}

impl Default for JourneyCells {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JourneyCells {
    fn name(&self) -> &str {
        "journey_cells"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 3)?;
        Ok(vec![
            coerce_texts(self.name(), &types[0])?,
            coerce_texts(self.name(), &types[1])?,
            coerce_times(self.name(), &types[2])?,
        ])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(records_type(visit_fields()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let read = |argument| Lists::of_argument(self.name(), argument, args.number_rows);
        let (stages, channels, moments) = (read(&args.args[0])?, read(&args.args[1])?, read(&args.args[2])?);
        stages.expect_parallel(self.name(), &channels, ("stages", "channels"))?;
        stages.expect_parallel(self.name(), &moments, ("stages", "times"))?;

        let mut names = Names::new();
        let none = names.number(NONE);
        let mut stage_numbers = names.numbers(self.name(), &stages.values)?;
        for stage in &mut stage_numbers {
            if *stage == Names::NULL {
                *stage = none;
            }
        }
        let channel_numbers = names.numbers(self.name(), &channels.values)?;
        let touched_at = to_times(self.name(), &moments.values)?;
        let touches = stage_numbers.windows(2).zip(channel_numbers.windows(2));
        let changes = touches.filter(|(stages, channels)| stages[0] != stages[1] || channels[0] != channels[1]).count();
        let mut visits = Visits::with_capacity(changes + stages.len());
        let mut rows = Rows::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let (Some(of_stages), Some(of_channels), Some(at)) =
                (stages.range(row), channels.range(row), moments.range(row))
            else {
                rows.null();
                continue;
            };
            let time = |touch| time_at(&touched_at, at.start + touch);
            visits.of_journey(&stage_numbers[of_stages], &channel_numbers[of_channels], time);
            rows.end(self.name(), visits.stages.len())?;
        }
        let columns = vec![
            names.array(visits.stages)?,
            names.array(visits.channels)?,
            times(visits.entered_at),
            seconds(visits.seconds),
            integers(visits.touch_counts),
            names.array(visits.next_stages)?,
            names.array(visits.next_channels)?,
            booleans(visits.is_last),
        ];
        Ok(ColumnarValue::Array(rows.finish_records(visit_fields(), columns)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Journeys,
                syntax: &["journey_cells(stages, channels, times)"],
                summary: "Returns the visits of a journey to the cells of the stage × channel map: one record per run \
                          of neighbouring touches of one stage and channel.",
                details: "",
                arguments: &[
                    ("stages", "List of text, in journey order."),
                    ("channels", "List of text, one per stage."),
                    ("times", "List of timestamps of any unit, one per stage."),
                ],
                example: Example {
                    query: "
                        select unnest(journey_cells(
                          ['evaluation', 'evaluation', 'conversion'], ['web', 'web', 'web'],
                          [timestamp '2026-01-05T10:00:00', timestamp '2026-01-05T10:01:00',
                           timestamp '2026-01-05T10:05:00'])) as visit
                    ",
                    rows: &[
                        "visit",
                        "{stage: evaluation, channel: web, entered_at: 2026-01-05T10:00:00Z, seconds: 300.0, \
                         touch_count: 2, next_stage: conversion, next_channel: web, is_last: false}",
                        "{stage: conversion, channel: web, entered_at: 2026-01-05T10:05:00Z, seconds: 0.0, \
                         touch_count: 1, next_stage: , next_channel: , is_last: true}",
                    ],
                },
                returns: "list of records `(stage, channel, entered_at, seconds, touch_count, next_stage, \
                          next_channel, is_last)`. `entered_at` is the time of the visit's first touch; `seconds` \
                          lead, with fraction, from there to the first touch after the visit, or to its own last \
                          touch when it is the journey's last; then `is_last` is true and the next cell null.",
                parts: &[],
                nulls: "a null stage reads `(none)`; null channels are equal; a null time makes `seconds` null; null \
                        when an argument is null.",
                order: "that of the lists.",
                ties: "",
                memory: "33 bytes and four string views per visit.",
                errors: "lists of different lengths; other types, at planning.",
                source: "our own.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

/// The visits of many journeys, one column per field; stages and channels by number.
#[derive(Debug)]
struct Visits {
    runs: Runs,
    stages: Vec<u32>,
    channels: Vec<u32>,
    entered_at: Optionals<i64>,
    seconds: Optionals<f64>,
    touch_counts: Vec<i64>,
    next_stages: Vec<u32>,
    next_channels: Vec<u32>,
    is_last: Vec<bool>,
}

impl Visits {
    fn with_capacity(visits: usize) -> Self {
        Self {
            runs: Runs::default(),
            stages: Vec::with_capacity(visits),
            channels: Vec::with_capacity(visits),
            entered_at: Optionals::with_capacity(visits),
            seconds: Optionals::with_capacity(visits),
            touch_counts: Vec::with_capacity(visits),
            next_stages: Vec::with_capacity(visits),
            next_channels: Vec::with_capacity(visits),
            is_last: Vec::with_capacity(visits),
        }
    }

    /// Adds the visits of a journey. `time` tells the time of a touch.
    fn of_journey(&mut self, stages: &[u32], channels: &[u32], time: impl Fn(usize) -> Option<i64>) {
        let is_change = |touch: usize| (stages[touch - 1] != stages[touch]) | (channels[touch - 1] != channels[touch]);
        let visits = self.runs.find(stages.len(), is_change);
        let Some(last) = visits.last() else {
            return;
        };
        let time = |touch: &u32| time(*touch as usize);
        let stage = |touch: &u32| stages[*touch as usize];
        let channel = |touch: &u32| channels[*touch as usize];
        self.stages.extend(visits.iter().map(stage));
        self.channels.extend(visits.iter().map(channel));
        self.entered_at.extend(visits.iter().map(time));
        self.seconds.extend(visits.windows(2).map(|pair| seconds_between(time(&pair[0]), time(&pair[1]))));
        self.seconds.push(seconds_between(time(last), time(&(stages.len() as u32 - 1))));
        self.touch_counts.extend(visits.windows(2).map(|pair| i64::from(pair[1] - pair[0])));
        self.touch_counts.push(stages.len() as i64 - i64::from(*last));
        self.next_stages.extend(visits[1..].iter().map(stage));
        self.next_stages.push(Names::NULL);
        self.next_channels.extend(visits[1..].iter().map(channel));
        self.next_channels.push(Names::NULL);
        self.is_last.resize(self.stages.len(), false);
        self.is_last[self.stages.len() - 1] = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::functions::elements::testing::{SELECT_JOURNEYS, error_of, in_every_encoding, rows_of};

    /// The visits of a journey of (stage, channel) touches, whose touch i happens at i² seconds.
    fn visits(touches: &[(u32, u32)]) -> Visits {
        let (stages, channels): (Vec<u32>, Vec<u32>) = touches.iter().copied().unzip();
        let mut visits = Visits::with_capacity(0);
        visits.of_journey(&stages, &channels, |touch| Some((touch * touch) as i64 * 1_000_000));
        visits
    }

    #[test]
    fn a_visit_lasts_until_the_first_touch_after_it() {
        let found = visits(&[(1, 1), (1, 1), (1, 2), (2, 2), (2, 2)]);
        assert_eq!(found.stages, [1, 1, 2]);
        assert_eq!(found.channels, [1, 2, 2]);
        assert_eq!(found.entered_at.to_vec(), [Some(0), Some(4_000_000), Some(9_000_000)]);
        assert_eq!(found.touch_counts, [2, 1, 2]);
        assert_eq!(found.seconds.to_vec()[..2], [Some(4.0), Some(5.0)]);
        assert_eq!((&found.next_stages[..2], &found.next_channels[..2]), (&[1, 2][..], &[2, 2][..]));
    }

    #[test]
    fn the_last_visit_lasts_until_its_own_last_touch() {
        let found = visits(&[(1, 1), (2, 1), (2, 1)]);
        assert_eq!(found.seconds.to_vec(), [Some(1.0), Some(3.0)]);
        assert_eq!(found.is_last, [false, true]);
        assert_eq!((found.next_stages[1], found.next_channels[1]), (Names::NULL, Names::NULL));
        assert_eq!(visits(&[(1, 1)]).seconds.to_vec(), [Some(0.0)]);
        assert!(visits(&[]).stages.is_empty());
    }

    #[tokio::test]
    async fn visits_unnest_into_rows_in_every_encoding() {
        for journeys in in_every_encoding() {
            let sql = format!(
                "select id, cell['stage'], cell['channel'], cell['entered_at'], cell['seconds'], cell['touch_count'], \
                        cell['next_stage'], cell['next_channel'], cell['is_last'] \
                 from (select id, unnest(journey_cells(stages, channels, times)) as cell from ({journeys})) \
                 order by 1, 4 nulls first"
            );
            let expected = [
                "1 | evaluation | web | 2026-01-01T10:00:00Z | 5.0 | 1 | (none) | store | false",
                "1 | (none) | store | 2026-01-01T10:00:05Z | 25.5 | 2 | evaluation | web | false",
                "1 | evaluation | web | 2026-01-01T10:00:30.500Z | 0.0 | 1 |  |  | true",
                "2 | (none) | web |  |  | 1 | conversion |  | false",
                "2 | conversion |  | 2026-01-01T11:00:00Z | 0.0 | 1 |  |  | true",
            ];
            assert_eq!(rows_of(&sql).await, expected, "{journeys}");
        }
    }

    #[tokio::test]
    async fn null_in_null_out_and_empty_in_empty_out() {
        let sql =
            format!("select journey_cells(stages, channels, times) from ({SELECT_JOURNEYS}) where id > 2 order by id");
        assert_eq!(rows_of(&sql).await, ["[]", ""]);
    }

    #[tokio::test]
    async fn a_null_stage_and_one_that_reads_none_are_one() {
        let sql = "select cardinality(journey_cells([null, '(none)'], ['web', 'web'], [now(), now()]))";
        assert_eq!(rows_of(sql).await, ["1"]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (sql, message) in [
            ("select journey_cells(['a'], ['a'])", "journey_cells: expected 3 arguments, got 2"),
            ("select journey_cells(['a'], [1], [now()])", "journey_cells: expected a list of text"),
            ("select journey_cells(['a'], ['a'], ['a'])", "journey_cells: expected a list of timestamps"),
            ("select journey_cells(['a'], ['a', 'b'], [now()])", "stages has 1 elements where channels has 2"),
        ] {
            let error = error_of(sql).await;
            assert!(error.contains(message), "{sql}: {error}");
        }
    }

    proptest! {
        #[test]
        fn visits_are_the_runs_of_equal_cells(touches in prop::collection::vec((0u32..2, 0u32..2), 0..9)) {
            let found = visits(&touches);
            let runs: Vec<&[(u32, u32)]> = touches.chunk_by(|left, right| left == right).collect();
            prop_assert_eq!(found.stages.len(), runs.len());
            let mut first = 0;
            for (visit, run) in runs.iter().enumerate() {
                let next = runs.get(visit + 1).map_or((0, 0), |run| run[0]);
                let left = if visit + 1 == runs.len() { first + run.len() - 1 } else { first + run.len() };
                prop_assert_eq!((found.stages[visit], found.channels[visit]), run[0]);
                prop_assert_eq!(found.touch_counts[visit], run.len() as i64);
                prop_assert_eq!((found.next_stages[visit], found.next_channels[visit]), next);
                prop_assert_eq!(found.seconds.to_vec()[visit], Some((left * left - first * first) as f64));
                first += run.len();
            }
        }
    }
}
