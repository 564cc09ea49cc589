//! `channel_switches`: where a journey changes its channel, and how.
//!
//! Channels and touchpoints are compared by number and go out as string views.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Lists, coerce_texts, coerce_times, time_type, to_times};
use super::changes::{Changes, Runs};
use super::documentation::{Example, Manual, Section};
use super::elements::{
    Names, Optionals, Rows, booleans, integers, record_fields, records_type, seconds, seconds_between, time_at, times,
};

const ARGUMENTS: [&str; 4] = ["channels", "times", "touchpoints", "session_ids"];

/// The fields of a switch; the last four only when touchpoints and sessions are given.
fn switch_fields(arguments: usize) -> Fields {
    let fields = record_fields([
        ("position", DataType::Int64),
        ("from_channel", DataType::Utf8View),
        ("to_channel", DataType::Utf8View),
        ("switched_at", time_type()),
        ("seconds", DataType::Float64),
        ("is_last", DataType::Boolean),
        ("from_touchpoint", DataType::Utf8View),
        ("to_touchpoint", DataType::Utf8View),
        ("is_repeat", DataType::Boolean),
        ("scope", DataType::Utf8View),
    ]);
    match arguments {
        4 => fields,
        _ => fields.iter().take(6).cloned().collect(),
    }
}

/// The function `channel_switches`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ChannelSwitches {
    signature: Signature,
}

impl Default for ChannelSwitches {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ChannelSwitches {
    fn name(&self) -> &str {
        "channel_switches"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.len() != 2 && types.len() != 4 {
            return plan_err!(
                "{}: expected channels and times, and either both of touchpoints and session_ids or neither, \
                 got {} arguments",
                self.name(),
                types.len()
            );
        }
        let coerce = |(argument, data_type): (usize, &DataType)| match argument {
            1 => coerce_times(self.name(), data_type),
            _ => coerce_texts(self.name(), data_type),
        };
        types.iter().enumerate().map(coerce).collect()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(records_type(switch_fields(types.len())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let read = |argument| Lists::of_argument(self.name(), argument, args.number_rows);
        let lists: Vec<Lists> = args.args.iter().map(read).collect::<Result<_>>()?;
        for (other, name) in lists.iter().zip(ARGUMENTS).skip(1) {
            lists[0].expect_parallel(self.name(), other, (ARGUMENTS[0], name))?;
        }

        let mut names = Names::new();
        let channels = names.numbers(self.name(), &lists[0].values)?;
        let moments = to_times(self.name(), &lists[1].values)?;
        let mut details = match &lists[2..] {
            [touchpoints, session_ids] => Some(Details {
                touchpoints: names.numbers(self.name(), &touchpoints.values)?,
                session_changes: Changes::new(&session_ids.values)?,
                within: names.number("within"),
                between: names.number("between"),
                from: vec![],
                to: vec![],
                is_repeat: vec![],
                scope: vec![],
            }),
            _ => None,
        };
        let changes = channels.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let mut switches = Switches::with_capacity(changes);
        let mut rows = Rows::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            if lists.iter().any(|list| list.is_null(row)) {
                rows.null();
                continue;
            }
            let (touches, at) = (lists[0].span(row), lists[1].span(row));
            let first = switches.positions.len();
            switches.of_journey(&channels[touches], |touch| time_at(&moments, at.start + touch));
            if let Some(details) = &mut details {
                for position in &switches.positions[first..] {
                    let second = *position as usize - 1;
                    details.push(lists[2].span(row).start + second, lists[3].span(row).start + second);
                }
            }
            rows.end(self.name(), switches.positions.len())?;
        }

        let mut columns = vec![
            integers(switches.positions),
            names.array(switches.from)?,
            names.array(switches.to)?,
            times(switches.switched_at),
            seconds(switches.seconds),
            booleans(switches.is_last),
        ];
        if let Some(details) = details {
            columns.push(names.array(details.from)?);
            columns.push(names.array(details.to)?);
            columns.push(booleans(details.is_repeat));
            columns.push(names.array(details.scope)?);
        }
        Ok(ColumnarValue::Array(rows.finish_records(switch_fields(args.args.len()), columns)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Paths,
                syntax: &[
                    "channel_switches(channels, times)",
                    "channel_switches(channels, times, touchpoints, session_ids)",
                ],
                summary: "Returns the channel switches of a journey: one record per touch on another channel than the \
                          touch before.",
                details: "",
                arguments: &[
                    ("channels", "List of text, in journey order."),
                    ("times", "List of timestamps of any unit, one per channel."),
                    ("touchpoints", "List of text, one per channel; with `session_ids` or not at all."),
                    ("session_ids", "List of text, one per channel; with `touchpoints` or not at all."),
                ],
                example: Example {
                    query: "
                        select unnest(channel_switches(
                          ['web', 'web', 'store', 'web'],
                          [timestamp '2026-01-05T10:00:00', timestamp '2026-01-05T10:05:00',
                           timestamp '2026-01-05T12:00:00', timestamp '2026-01-05T12:00:30'])) as switch
                    ",
                    rows: &[
                        "switch",
                        "{position: 3, from_channel: web, to_channel: store, switched_at: 2026-01-05T12:00:00Z, \
                         seconds: 6900.0, is_last: false}",
                        "{position: 4, from_channel: store, to_channel: web, switched_at: 2026-01-05T12:00:30Z, \
                         seconds: 30.0, is_last: true}",
                    ],
                },
                returns: "list of records `(position, from_channel, to_channel, switched_at, seconds, is_last)`. \
                          `position` is the second touch's, from 1, and `switched_at` its time; `seconds` is the time \
                          between the two, with fraction; `is_last` tells whether it is the journey's last touch. \
                          With the other two lists also `(from_touchpoint, to_touchpoint, is_repeat, scope)`: whether \
                          the second touchpoint equals the first, and `within` when both touches are of one session, \
                          else `between`.",
                parts: &[],
                nulls: "two neighbouring null channels, touchpoints or sessions are equal; a null time makes \
                        `seconds` null; null when an argument is null.",
                order: "that of the lists.",
                ties: "",
                memory: "42 bytes and three to five string views per switch.",
                errors: "lists of different lengths; one of `touchpoints` and `session_ids` without the other, and \
                         other types, at planning.",
                source: "our own.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

/// The switches of many journeys, one column per field; channels by number.
#[derive(Debug)]
struct Switches {
    runs: Runs,
    positions: Vec<i64>,
    from: Vec<u32>,
    to: Vec<u32>,
    switched_at: Optionals<i64>,
    seconds: Optionals<f64>,
    is_last: Vec<bool>,
}

impl Switches {
    fn with_capacity(switches: usize) -> Self {
        Self {
            runs: Runs::default(),
            positions: Vec::with_capacity(switches),
            from: Vec::with_capacity(switches),
            to: Vec::with_capacity(switches),
            switched_at: Optionals::with_capacity(switches),
            seconds: Optionals::with_capacity(switches),
            is_last: Vec::with_capacity(switches),
        }
    }

    /// Adds the switches of a journey. `time` tells the time of a touch.
    fn of_journey(&mut self, channels: &[u32], time: impl Fn(usize) -> Option<i64>) {
        let runs = self.runs.find(channels.len(), |touch| channels[touch - 1] != channels[touch]);
        let switches = runs.iter().skip(1).map(|touch| *touch as usize);
        self.positions.extend(switches.clone().map(|touch| touch as i64 + 1));
        self.from.extend(switches.clone().map(|touch| channels[touch - 1]));
        self.to.extend(switches.clone().map(|touch| channels[touch]));
        self.switched_at.extend(switches.clone().map(&time));
        self.seconds.extend(switches.clone().map(|touch| seconds_between(time(touch - 1), time(touch))));
        self.is_last.extend(switches.map(|touch| touch + 1 == channels.len()));
    }
}

/// What touchpoints and sessions add to each switch.
struct Details {
    touchpoints: Vec<u32>,
    session_changes: Changes,
    /// The numbers of the two scopes.
    within: u32,
    between: u32,
    from: Vec<u32>,
    to: Vec<u32>,
    is_repeat: Vec<bool>,
    scope: Vec<u32>,
}

impl Details {
    /// Adds what the second touch of a switch tells, found in the touchpoints and in the sessions of the batch.
    fn push(&mut self, in_touchpoints: usize, in_session_ids: usize) {
        let (from, to) = (self.touchpoints[in_touchpoints - 1], self.touchpoints[in_touchpoints]);
        self.from.push(from);
        self.to.push(to);
        self.is_repeat.push(from == to);
        self.scope.push(if self.session_changes.at(in_session_ids) { self.between } else { self.within });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::functions::elements::testing::{SELECT_JOURNEYS, error_of, in_every_encoding, rows_of};

    /// The switches of a journey whose channels are letters and whose touch i happens at i² seconds.
    fn switches(channels: &str) -> Switches {
        let numbers: Vec<u32> = channels.bytes().map(u32::from).collect();
        let mut switches = Switches::with_capacity(0);
        switches.of_journey(&numbers, |touch| Some((touch * touch) as i64 * 1_000_000));
        switches
    }

    #[test]
    fn a_switch_happens_at_its_second_touch() {
        let found = switches("wwsw");
        assert_eq!(found.positions, [3, 4]);
        assert_eq!(found.from, [b'w', b's'].map(u32::from));
        assert_eq!(found.to, [b's', b'w'].map(u32::from));
        assert_eq!(found.switched_at.to_vec(), [Some(4_000_000), Some(9_000_000)]);
        assert_eq!(found.seconds.to_vec(), [Some(3.0), Some(5.0)]);
        assert_eq!(found.is_last, [false, true]);
    }

    #[test]
    fn a_journey_on_one_channel_has_no_switch() {
        for channels in ["", "w", "www"] {
            assert!(switches(channels).positions.is_empty(), "{channels}");
        }
    }

    #[tokio::test]
    async fn switches_unnest_into_rows_in_every_encoding() {
        for journeys in in_every_encoding() {
            let sql = format!(
                "select id, switch['position'], switch['from_channel'], switch['to_channel'], switch['switched_at'], \
                        switch['seconds'], switch['is_last'], switch['from_touchpoint'], switch['to_touchpoint'], \
                        switch['is_repeat'], switch['scope'] \
                 from (select id, unnest(channel_switches(channels, times, touchpoints, session_ids)) as switch \
                       from ({journeys})) order by 1, 2"
            );
            let expected = [
                "1 | 2 | web | store | 2026-01-01T10:00:05Z | 5.0 | false | home | home | true | between",
                "1 | 4 | store | web | 2026-01-01T10:00:30.500Z | 10.5 | true | product | home | false | within",
                "2 | 2 | web |  | 2026-01-01T11:00:00Z |  | true |  | product | false | within",
            ];
            assert_eq!(rows_of(&sql).await, expected, "{journeys}");
        }
    }

    #[tokio::test]
    async fn touchpoints_and_sessions_may_be_left_out() {
        let sql = format!("select arrow_typeof(channel_switches(channels, times)) from ({SELECT_JOURNEYS}) limit 1");
        let fields = &rows_of(&sql).await[0];
        assert!(fields.contains("is_last") && !fields.contains("scope"), "{fields}");
        let sql =
            format!("select id, channel_switches(channels, times) from ({SELECT_JOURNEYS}) where id > 2 order by id");
        assert_eq!(rows_of(&sql).await, ["3 | []", "4 | "]);
    }

    #[tokio::test]
    async fn switches_group_into_a_mart() {
        let sql = format!(
            "select switch['from_channel'] as from_channel, switch['to_channel'] as to_channel, switch['scope'] as scope, \
                    cast(switch['switched_at'] as date) as switched_date, count(*) as switches, \
                    count(*) filter (where switch['is_repeat']) as repeated, median(switch['seconds']) \
             from (select unnest(channel_switches(channels, times, touchpoints, session_ids)) as switch \
                   from ({SELECT_JOURNEYS})) \
             where switch['to_channel'] = 'store' group by 1, 2, 3, 4"
        );
        assert_eq!(rows_of(&sql).await, ["web | store | between | 2026-01-01 | 1 | 1 | 5.0"]);
    }

    #[tokio::test]
    async fn wrong_calls_are_refused() {
        for (sql, message) in [
            ("select channel_switches(['a'])", "channel_switches: expected channels and times"),
            ("select channel_switches(['a'], [now()], ['a'])", "either both of touchpoints and session_ids or neither"),
            ("select channel_switches([1], [now()])", "channel_switches: expected a list of text"),
            ("select channel_switches(['a'], [1])", "channel_switches: expected a list of timestamps"),
            ("select channel_switches(['a'], [now(), now()])", "channels has 1 elements where times has 2"),
            ("select channel_switches(['a'], [now()], ['b'], [])", "channels has 1 elements where session_ids has 0"),
        ] {
            let error = error_of(sql).await;
            assert!(error.contains(message), "{sql}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_pair_of_unequal_neighbours_is_a_switch(channels in "[ab]{0,9}") {
            let letters: Vec<u8> = channels.bytes().collect();
            let naive: Vec<i64> =
                (2..=letters.len()).filter(|touch| letters[touch - 1] != letters[touch - 2]).map(|touch| touch as i64).collect();
            let found = switches(&channels);
            prop_assert_eq!(&found.positions, &naive);
            for (switch, position) in naive.iter().enumerate() {
                prop_assert_eq!(found.from[switch], u32::from(letters[*position as usize - 2]));
                prop_assert_eq!(found.to[switch], u32::from(letters[*position as usize - 1]));
                prop_assert_eq!(found.is_last[switch], *position == letters.len() as i64);
            }
        }
    }
}
