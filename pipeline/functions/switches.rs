//! `channel_switches`: where a journey changes its channel, and how.
//!
//! Channels and touchpoints are compared by number and go out as string views. The switches of a journey are found first
//! ([`walk`]); whatever else a call asks for ([`options`]) is then told of them alone, so that it costs nothing where the
//! channel stays.

mod options;
mod walk;

use std::sync::LazyLock;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use self::options::{Given, Options};
use self::walk::{Goals, Scope, Switches, gap};
use super::arguments::{Lists, coerce_texts, coerce_times, time_type, to_booleans, to_times};
use super::changes::Changes;
use super::documentation::{Example, Manual, Section};
use super::elements::{
    Names, Optionals, Rows, booleans, integers, record_fields, records_type, seconds, seconds_between, time_at, times,
};

const FUNCTION: &str = "channel_switches";

/// The fields of a switch.
fn switch_fields(given: Given) -> Fields {
    let always = record_fields([
        ("position", DataType::Int64),
        ("from_channel", DataType::Utf8View),
        ("to_channel", DataType::Utf8View),
        ("switched_at", time_type()),
        ("seconds", DataType::Float64),
        ("is_last", DataType::Boolean),
        ("is_new", DataType::Boolean),
    ]);
    let of_touchpoints = record_fields([
        ("from_touchpoint", DataType::Utf8View),
        ("to_touchpoint", DataType::Utf8View),
        ("is_repeat", DataType::Boolean),
    ]);
    let of_sessions = record_fields([("scope", DataType::Utf8View)]);
    let of_goals = record_fields([("seconds_to_goal", DataType::Float64)]);
    let parts =
        [(true, always), (given.touchpoints, of_touchpoints), (given.sessions, of_sessions), (given.goals, of_goals)];
    parts.iter().filter(|(is_given, _)| *is_given).flat_map(|(_, fields)| fields.iter().cloned()).collect()
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
        FUNCTION
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if !(2..=4).contains(&types.len()) {
            return plan_err!(
                "{FUNCTION}: expected channels and times, then options, or touchpoints and session_ids, or nothing; \
                 got {} arguments",
                types.len()
            );
        }
        Given::of_types(&types[2..])?;
        let coerce = |(argument, data_type): (usize, &DataType)| match argument {
            1 => coerce_times(FUNCTION, data_type),
            2 if types.len() == 3 => Ok(data_type.clone()),
            _ => coerce_texts(FUNCTION, data_type),
        };
        types.iter().enumerate().map(coerce).collect()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(records_type(switch_fields(Given::of_types(&types[2..])?)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let read = |argument| Lists::of_argument(FUNCTION, argument, args.number_rows);
        let options = Options::of_arguments(&args.args[2..], args.number_rows)?;
        Ok(ColumnarValue::Array(find(&read(&args.args[0])?, &read(&args.args[1])?, &options)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Paths,
                syntax: &[
                    "channel_switches(channels, times)",
                    "channel_switches(channels, times, options)",
                    "channel_switches(channels, times, touchpoints, session_ids)",
                ],
                summary: "Returns the channel switches of a journey: one record per touch on another channel than the \
                          touch before.",
                details: "Options are a struct such as `named_struct('session_gap', interval '30 minutes', 'goals', \
                          is_goals)`; each is given or left out. The last form is short for the options \
                          `touchpoints` and `session_ids`.",
                arguments: &[
                    ("channels", "List of text, in journey order."),
                    ("times", "List of timestamps of any unit, one per channel."),
                    ("touchpoints", "List of text, one per channel."),
                    ("session_ids", "List of text, one per channel: the sessions that give a switch its scope."),
                    (
                        "session_gap",
                        "In place of session ids: how long a session may rest, an interval, a duration, text such as \
                         `'30 minutes'` or whole microseconds. A rest of exactly this length does not end it.",
                    ),
                    (
                        "timeout",
                        "The longest time, written as a `session_gap`, between the two touches of a switch; a touch on \
                         another channel after a longer one is none.",
                    ),
                    ("goals", "List of booleans, one per channel: whether the touch is a goal."),
                ],
                example: Example {
                    query: "
                        select
                          switch['from_channel'] as from_channel, switch['to_channel'] as to_channel,
                          switch['seconds'] as seconds, switch['scope'] as scope,
                          switch['seconds_to_goal'] as seconds_to_goal
                        from (select unnest(channel_switches(
                          ['web', 'web', 'store', 'web'],
                          [timestamp '2026-01-05T10:00:00', timestamp '2026-01-05T10:05:00',
                           timestamp '2026-01-05T12:00:00', timestamp '2026-01-05T12:00:30'],
                          named_struct('session_gap', interval '30 minutes',
                                       'goals', [false, false, true, false]))) as switch)
                        order by switch['position']
                    ",
                    rows: &[
                        "from_channel | to_channel | seconds | scope | seconds_to_goal",
                        "web | store | 6900.0 | between | 0.0",
                        "store | web | 30.0 | within | ",
                    ],
                },
                returns: "list of records `(position, from_channel, to_channel, switched_at, seconds, is_last, is_new)`. \
                          `position` is the second touch's, from 1, and `switched_at` its time; `seconds` is the time \
                          between the two, with fraction; `is_last` tells whether it is the journey's last touch, and \
                          `is_new` whether no switch before it in the journey has its channels and scope: counted with \
                          a filter on it, switches are journeys, or customers where a row is a customer.",
                parts: &[(
                    "Options",
                    "with `touchpoints` records also have `(from_touchpoint, to_touchpoint, is_repeat)`, where the last \
                     tells whether the two are equal; with `session_ids` or `session_gap` `scope`: `within` when both \
                     touches are of one session, else `between`; with `goals` `seconds_to_goal`: the time from the \
                     second touch to the next goal at it or behind it, null where none follows.",
                )],
                nulls: "two neighbouring null channels, touchpoints or sessions are equal; a null goal is none; a null \
                        time makes `seconds`, a `scope` by gap or `seconds_to_goal` null, and is no reason for a \
                        timeout; null when an argument or an option is null.",
                order: "that of the lists.",
                ties: "",
                memory: "48 bytes and two to five string views per switch, 8 bytes per goal, 4 per touch.",
                errors: "lists of different lengths; a span that is negative or of months; an option that is not known, \
                         `session_gap` beside `session_ids`, and other types, at planning.",
                source: "our own.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

/// The switches of each row.
fn find(channels: &Lists, moments: &Lists, options: &Options) -> Result<ArrayRef> {
    for (name, lists) in [("times", moments)].into_iter().chain(options.lists()) {
        channels.expect_parallel(FUNCTION, lists, ("channels", name))?;
    }
    let mut names = Names::new();
    let numbers = names.numbers(FUNCTION, &channels.values)?;
    let changes = numbers.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let mut switches = Switches::with_capacity(changes, names.texts().len());
    let times_of_all = to_times(FUNCTION, &moments.values)?;
    let mut touchpoints = match &options.touchpoints {
        Some(lists) => {
            Some(Touchpoints { lists, numbers: names.numbers(FUNCTION, &lists.values)?, from: vec![], to: vec![] })
        }
        None => None,
    };
    let sessions = match &options.session_ids {
        Some(lists) => Some((lists, Changes::new(&lists.values)?)),
        None => None,
    };
    let mut goals = match &options.goals {
        Some(lists) => {
            Some((lists, Goals::new(&to_booleans(FUNCTION, &lists.values)?), Optionals::with_capacity(changes)))
        }
        None => None,
    };

    let mut rows = Rows::with_capacity(channels.len());
    for row in 0..channels.len() {
        if channels.is_null(row) || moments.is_null(row) || options.is_null(row) {
            rows.null();
            continue;
        }
        let at = moments.span(row).start;
        let time = |touch: usize| time_at(&times_of_all, at + touch);
        let timeout = options.timeouts.as_ref().and_then(|spans| spans.get(row));
        let session_gap = options.session_gaps.as_ref().and_then(|spans| spans.get(row));
        let scope = |touch: usize| match (&sessions, session_gap) {
            (Some((lists, changes)), _) => scope_of(changes.at(lists.span(row).start + touch)),
            (None, Some(limit)) => gap(time, touch).map_or(Scope::Unknown, |gap| scope_of(gap > limit)),
            (None, None) => Scope::Unknown,
        };
        let touches = switches.of_journey(&numbers[channels.span(row)], time, timeout, scope);
        if let Some(touchpoints) = &mut touchpoints {
            touchpoints.extend(row, touches);
        }
        if let Some((lists, goals, seconds_to_goal)) = &mut goals {
            let span = lists.span(row);
            seconds_to_goal.extend(touches.iter().map(|touch| {
                let goal = goals.at_or_after(span.start + *touch as usize, span.end)?;
                seconds_between(time(*touch as usize), time(goal - span.start))
            }));
        }
        rows.end(FUNCTION, switches.positions.len())?;
    }

    let mut columns = vec![
        integers(switches.positions),
        names.array(switches.from)?,
        names.array(switches.to)?,
        times(switches.switched_at),
        seconds(switches.seconds),
        booleans(switches.is_last),
        booleans(switches.is_new),
    ];
    let given = Given { touchpoints: touchpoints.is_some(), sessions: options.has_scope(), goals: goals.is_some() };
    if let Some(touchpoints) = touchpoints {
        columns.extend(touchpoints.columns(&names)?);
    }
    if given.sessions {
        let numbers = [Names::NULL, names.number("within"), names.number("between")];
        columns.push(names.array(switches.scopes.into_iter().map(|scope| numbers[scope as usize]).collect())?);
    }
    if let Some((_, _, seconds_to_goal)) = goals {
        columns.push(seconds(seconds_to_goal));
    }
    rows.finish_records(switch_fields(given), columns)
}

fn scope_of(is_between: bool) -> Scope {
    if is_between { Scope::Between } else { Scope::Within }
}

/// What touchpoints add to each switch.
struct Touchpoints<'a> {
    lists: &'a Lists,
    numbers: Vec<u32>,
    from: Vec<u32>,
    to: Vec<u32>,
}

impl Touchpoints<'_> {
    /// Adds what the second touches of the switches of a row tell.
    fn extend(&mut self, row: usize, touches: &[u32]) {
        let touchpoints = &self.numbers[self.lists.span(row)];
        self.from.extend(touches.iter().map(|touch| touchpoints[*touch as usize - 1]));
        self.to.extend(touches.iter().map(|touch| touchpoints[*touch as usize]));
    }

    fn columns(self, names: &Names) -> Result<[ArrayRef; 3]> {
        let is_repeat = self.from.iter().zip(&self.to).map(|(from, to)| from == to).collect();
        Ok([names.array(self.from)?, names.array(self.to)?, booleans(is_repeat)])
    }
}

#[cfg(test)]
mod tests;
