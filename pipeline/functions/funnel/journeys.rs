//! The journeys of a batch and their funnels: which steps each touch matches, and what becomes of the journey.
//!
//! What a touchpoint matches is worked out once per batch and funnel, so that a touch costs a look-up by number.
//! Channels are read only where a step names one.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, TimestampMicrosecondArray};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use hashbrown::HashMap;

use super::super::arguments::{Lists, is_text, to_times};
use super::super::elements::{Names, time_at};
use super::super::moments::Spans;
use super::chain::Chains;
use super::constants;
use super::options::Options;
use super::outcome::Outcome;
use super::preset::{Preset, Seen};
use super::search::Search;
use super::steps::{Matcher, Steps};
use super::terms::{AMONG, Terms};
use super::touches::{Touch, Touches};

/// Takes each journey of a batch through its funnel and shows the outcome; `None` where an argument is null. The
/// touches of the steps are found if `keeps_steps`.
pub(super) fn for_each_journey(
    function: &str,
    args: &ScalarFunctionArgs,
    keeps_steps: bool,
    mut show: impl FnMut(Option<&Outcome>) -> Result<()>,
) -> Result<()> {
    let read = |argument| Lists::of_argument(function, argument, args.number_rows);
    let (times, touchpoints, channels) = (read(&args.args[0])?, read(&args.args[1])?, read(&args.args[2])?);
    times.expect_parallel(function, &touchpoints, ("times", "touchpoints"))?;
    times.expect_parallel(function, &channels, ("times", "channels"))?;
    let windows = Spans::of_argument(function, &args.args[4])?;
    let (options, held) = constants::of_arguments(function, &args.args)?;
    let hold = held.as_ref().map(read).transpose()?;
    if let Some(hold) = &hold {
        times.expect_parallel(function, hold, ("times", "hold"))?;
    }

    let moments = to_times(function, &times.values)?;
    let steps = StepLists::of_argument(function, &args.args[3])?;
    let mut step_names = Names::new();
    let step_numbers = step_names.numbers(function, &steps.lists.values)?;
    let (mut touchpoint_names, mut channel_names) = (Names::new(), Names::new());
    let touchpoint_numbers = touchpoint_names.numbers(function, &touchpoints.values)?;
    let names_channels = step_names.texts().iter().flatten().any(|step| step.contains(':')) || options.names_channels();
    let channel_numbers = match names_channels {
        true => channel_names.numbers(function, &channels.values)?,
        false => vec![],
    };
    let held_numbers = match &hold {
        Some(hold) => held_numbers(function, &hold.values)?,
        None => vec![],
    };
    let columns = Columns {
        moments: &moments,
        touchpoints: &touchpoint_numbers,
        channels: &channel_numbers,
        held: &held_numbers,
    };
    let mut funnels = Funnels {
        options: &options,
        keeps_steps,
        holds: hold.is_some(),
        step_numbers: &step_numbers,
        steps: step_names.texts(),
        touchpoints: touchpoint_names.texts(),
        channels: channel_names.texts(),
        known: HashMap::new(),
        last: (0..0, 0),
        funnels: vec![],
    };

    let mut outcome = Outcome::default();
    for row in 0..args.number_rows {
        let is_held = hold.as_ref().is_none_or(|hold| !hold.is_null(row));
        let (Some(at), false, false, true, Some(of_steps), Some(window)) = (
            times.range(row),
            touchpoints.is_null(row),
            channels.is_null(row),
            is_held,
            steps.range(row),
            windows.get(row),
        ) else {
            show(None)?;
            continue;
        };
        // Parallel lists without holes; a null row between may still own elements of its own.
        let places = Places {
            at: at.clone(),
            touchpoints: touchpoints.span(row).start,
            channels: channels.span(row).start,
            held: hold.as_ref().map_or(0, |hold| hold.span(row).start),
        };
        funnels.get(function, of_steps)?.journey(&columns, &places, window, &mut outcome);
        show(Some(&outcome))?;
    }
    Ok(())
}

/// The steps of each row; a constant is read once.
struct StepLists {
    lists: Lists,
    is_constant: bool,
}

impl StepLists {
    fn of_argument(function: &str, argument: &ColumnarValue) -> Result<Self> {
        let (array, is_constant) = match argument {
            ColumnarValue::Array(array) => (Arc::clone(array), false),
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
        };
        Ok(Self { lists: Lists::of_array(function, &array)?, is_constant })
    }

    #[inline]
    fn range(&self, row: usize) -> Option<Range<usize>> {
        self.lists.range(if self.is_constant { 0 } else { row })
    }
}

/// A number per value of a type that can be held, equal for equal values; that of null is [`Names::NULL`].
fn held_numbers(function: &str, values: &ArrayRef) -> Result<Vec<u32>> {
    if is_text(values.data_type()) {
        return Names::new().numbers(function, values);
    }
    let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())])?;
    let rows = converter.convert_columns(&[Arc::clone(values)])?;
    let nulls = values.logical_nulls();
    let mut known = HashMap::new();
    let mut number = |position: usize| {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(position)) {
            return Names::NULL;
        }
        let next = known.len() as u32 + 1;
        *known.entry(rows.row(position)).or_insert(next)
    };
    Ok((0..values.len()).map(&mut number).collect())
}

/// The elements of all journeys.
struct Columns<'a> {
    moments: &'a TimestampMicrosecondArray,
    touchpoints: &'a [u32],
    /// Empty where no step names one.
    channels: &'a [u32],
    /// Empty where nothing is held.
    held: &'a [u32],
}

/// Where the elements of a journey lie.
struct Places {
    at: Range<usize>,
    touchpoints: usize,
    channels: usize,
    held: usize,
}

impl Columns<'_> {
    /// The touchpoints of a journey.
    #[inline]
    fn touchpoints(&self, places: &Places) -> &[u32] {
        &self.touchpoints[places.touchpoints..][..places.at.len()]
    }

    /// The channel of a touch.
    #[inline]
    fn channel(&self, places: &Places, number: usize) -> u32 {
        self.channels[places.channels + number]
    }

    /// The time of a touch.
    #[inline]
    fn time(&self, places: &Places, number: usize) -> Option<i64> {
        time_at(self.moments, places.at.start + number)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Funnels
// ---------------------------------------------------------------------------------------------------------------

/// A funnel made ready for a batch.
struct Funnel {
    step_count: usize,
    matcher: Matcher,
    way: Way,
}

/// How the furthest step is found.
enum Way {
    /// By a single pass, without options.
    Plain(Box<Chains>),
    /// By a rule of `window_funnel`.
    Preset(Box<Preset>, Marks, Touches),
    /// By the options.
    Search(Box<Search>, Marks, Touches),
}

/// What else than steps matters about a touch.
struct Marks {
    /// Bit `c`: it is excluded in column `c`. [`AMONG`]: it takes part.
    matcher: Option<Matcher>,
    /// By touchpoint: whether a touch of it can matter.
    can_matter: Vec<bool>,
    /// Whether every touch takes part.
    all_take_part: bool,
    /// Whether touches that take part are kept even if they serve no step.
    keeps_others: bool,
    /// What a touch is to a rule, by touchpoint, where that is all there is to know about it and the furthest step all that
    /// is asked.
    seen: Option<Vec<Seen>>,
}

impl Funnel {
    fn journey(&mut self, columns: &Columns<'_>, places: &Places, window: i64, outcome: &mut Outcome) {
        match &mut self.way {
            Way::Plain(chains) => {
                let moments = columns.moments;
                let has_nulls = moments.null_count() > 0;
                let times = &moments.values()[places.at.clone()];
                let touchpoints = columns.touchpoints(places);
                match self.matcher.on_any_channel() {
                    Some(steps) if !has_nulls => {
                        chains.pass(self.step_count, window, times, |number| steps[touchpoints[number] as usize]);
                    }
                    _ => chains.pass(self.step_count, window, times, |number| {
                        let steps = self.matcher.matched(touchpoints[number], || columns.channel(places, number));
                        if has_nulls && columns.time(places, number).is_none() { 0 } else { steps }
                    }),
                }
                chains.write(outcome);
            }
            Way::Preset(preset, marks, touches) => {
                let moments = columns.moments;
                if let (Some(seen), 0) = (&marks.seen, moments.null_count()) {
                    let (times, touchpoints) = (&moments.values()[places.at.clone()], columns.touchpoints(places));
                    return preset.furthest_step(times, |number| seen[touchpoints[number] as usize], window, outcome);
                }
                gather(&self.matcher, marks, columns, places, touches);
                preset.journey(touches, window, outcome);
            }
            Way::Search(search, marks, touches) => {
                gather(&self.matcher, marks, columns, places, touches);
                search.journey(touches, window, outcome);
            }
        }
    }
}

/// Collects the touches of a journey that matter.
fn gather(matcher: &Matcher, marks: &Marks, columns: &Columns<'_>, places: &Places, touches: &mut Touches) {
    touches.clear();
    for (number, touchpoint) in columns.touchpoints(places).iter().enumerate() {
        if !marks.can_matter[*touchpoint as usize] {
            continue;
        }
        let channel = || columns.channel(places, number);
        let matched = matcher.matched(*touchpoint, channel);
        let marked = marks.matcher.as_ref().map_or(0, |marks| marks.matched(*touchpoint, channel));
        if matched | marked == 0 && !marks.all_take_part {
            continue;
        }
        let Some(time) = columns.time(places, number) else { continue };
        let held = columns.held.get(places.held + number).copied();
        // Nobody can say that a touch without a value holds that of another.
        let steps = if held == Some(Names::NULL) { 0 } else { matched };
        let takes_part = matched != 0 || marked & AMONG != 0 || marks.all_take_part;
        let touch = Touch { time, position: number as u32, steps, rank: 0, held: held.unwrap_or(Names::NULL) };
        touches.push(touch, marked & !AMONG, takes_part, takes_part && marks.keeps_others);
    }
}

/// The funnels of a batch, each made ready once.
struct Funnels<'a> {
    options: &'a Options,
    keeps_steps: bool,
    /// Whether touches hold a value.
    holds: bool,
    /// Every row's steps, by number.
    step_numbers: &'a [u32],
    steps: &'a [Option<&'a str>],
    touchpoints: &'a [Option<&'a str>],
    channels: &'a [Option<&'a str>],
    /// Where the funnel of a list of steps stands in `funnels`.
    known: HashMap<&'a [u32], usize>,
    /// The range that was asked for last, and where its funnel stands: a constant is the same for every row.
    last: (Range<usize>, usize),
    funnels: Vec<Funnel>,
}

impl Funnels<'_> {
    /// The funnel whose steps lie at `range` of `step_numbers`.
    #[inline]
    fn get(&mut self, function: &str, range: Range<usize>) -> Result<&mut Funnel> {
        if range == self.last.0 && !range.is_empty() {
            return Ok(&mut self.funnels[self.last.1]);
        }
        self.look_up(function, range)
    }

    #[cold]
    fn look_up(&mut self, function: &str, range: Range<usize>) -> Result<&mut Funnel> {
        let steps = &self.step_numbers[range.clone()];
        let position = match self.known.get(steps) {
            Some(position) => *position,
            None => {
                let funnel = self.make(steps).map_err(|what| exec_datafusion_err!("{function}: {what}"))?;
                self.funnels.push(funnel);
                self.known.insert(steps, self.funnels.len() - 1);
                self.funnels.len() - 1
            }
        };
        self.last = (range, position);
        Ok(&mut self.funnels[position])
    }

    fn make(&self, steps: &[u32]) -> Result<Funnel, String> {
        let steps = Steps::parse(steps.iter().map(|step| self.steps[*step as usize]))?;
        let matcher = Matcher::new(&steps, self.touchpoints, self.channels);
        let way = if self.options.is_plain() {
            Way::Plain(Box::new(Chains::new(self.keeps_steps)))
        } else {
            let terms = Terms::new(self.options, &steps, None)?;
            let marks = self.marks(&terms, &matcher)?;
            match self.options.rule {
                Some(rule) => {
                    let preset = Preset::new(rule, terms.step_count, self.keeps_steps);
                    Way::Preset(Box::new(preset), marks, Touches::default())
                }
                None => Way::Search(Box::new(Search::new(&terms)), marks, Touches::default()),
            }
        };
        Ok(Funnel { step_count: steps.count(), matcher, way })
    }

    fn marks(&self, terms: &Terms, steps: &Matcher) -> Result<Marks, String> {
        let columns = terms.columns.iter().map(String::as_str).enumerate().map(|(column, text)| (text, 1 << column));
        let among = terms.among.iter().map(|text| (text.as_str(), AMONG));
        let mut marked = columns.chain(among).peekable();
        let matcher = match marked.peek() {
            None => None,
            Some(_) => Some(Matcher::new(&Steps::marks(marked)?, self.touchpoints, self.channels)),
        };
        let all_take_part = terms.sees_others && !terms.has_among;
        let can_matter = |touchpoint| {
            let is_marked = matcher.as_ref().is_some_and(|marks: &Matcher| marks.can_match(touchpoint));
            all_take_part || is_marked || steps.can_match(touchpoint)
        };
        let keeps_others = terms.sees_others && self.options.rule.is_some();
        let on_any_channel = |marks: &'_ Matcher| marks.on_any_channel().map(<[u32]>::to_vec);
        let marked = match &matcher {
            None => Some(vec![0; self.touchpoints.len()]),
            Some(marks) => on_any_channel(marks),
        };
        let is_all = !self.keeps_steps && !self.holds && terms.columns.is_empty();
        let seen = on_any_channel(steps).zip(marked).filter(|_| is_all).map(|(steps, marked)| {
            let seen = |(steps, marked): (u32, u32)| {
                let takes_part = all_take_part || marked & AMONG != 0;
                Seen { steps, takes_part: steps != 0 || takes_part && keeps_others }
            };
            steps.into_iter().zip(marked).map(seen).collect()
        });
        Ok(Marks {
            can_matter: (0..self.touchpoints.len()).map(can_matter).collect(),
            matcher,
            all_take_part,
            keeps_others,
            seen,
        })
    }
}
