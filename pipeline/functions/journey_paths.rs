//! The paths of journeys, for aggregates that count them: a path per journey, or per run that a list of starts cuts it
//! into, equal neighbours made one.
//!
//! Whether a touch starts a run or differs from the one before it can hardly be foreseen, so the walk has no branch for
//! it: each touch is written down, and the next one over it unless it counts.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};

use super::arguments::{Lists, coerce_booleans, to_booleans};
use super::call::Call;

// ---------------------------------------------------------------------------------------------------------------
// Types, for planning
// ---------------------------------------------------------------------------------------------------------------

/// What reached a goal, for manuals.
pub(super) const GOALS: (&str, &str) = (
    "goals",
    "Which journeys reach a goal; none when left out. A boolean per journey, or a list of booleans, parallel to the \
     touchpoints: a path reaches one when a touch of it does.",
);

/// Where paths start, for manuals.
pub(super) const STARTS: (&str, &str) = (
    "starts",
    "List of booleans, parallel to the touchpoints, as `gap_starts` and `journey_starts` give it: each run that starts \
     there is a journey of its own. The first touch starts one in any case.",
);

/// Coerces the arguments `goals` and `starts` as far as they are given.
pub(super) fn coerce_goals_and_starts(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let goals = types.first().map(|goals| coerce_goals(function, goals));
    let starts = types.get(1).map(|starts| coerce_booleans(function, starts));
    goals.into_iter().chain(starts).collect()
}

/// Coerces the argument that says what reached a goal: a boolean per journey, or a list of them, one per touch.
fn coerce_goals(function: &str, data_type: &DataType) -> Result<DataType> {
    match data_type {
        DataType::Boolean | DataType::Null => Ok(DataType::Boolean),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            coerce_booleans(function, data_type)
        }
        other => plan_err!("{function}: expected goals to be booleans or lists of booleans, got {other}"),
    }
}

/// A constant whole number from 1; `what` names it. `None` while it is not known.
pub(super) fn constant_count(call: &Call, function: &str, position: usize, what: &str) -> Result<Option<usize>> {
    let Some(value) = call.constant(position, what)? else {
        return Ok(None);
    };
    let count = match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(count))) => usize::try_from(count).ok().filter(|count| *count > 0),
        _ => None,
    };
    match count {
        Some(count) => Ok(Some(count)),
        None => plan_err!("{function}: expected {what} to be a whole number from 1, got {value}"),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Values, for execution
// ---------------------------------------------------------------------------------------------------------------

/// Which journeys reached a goal.
enum Goals {
    OfJourney(BooleanArray),
    /// The elements that are one, in their order.
    OfTouch {
        lists: Lists,
        positions: Vec<u32>,
    },
}

/// Where runs start, in lists parallel to the touches.
struct Starts {
    lists: Lists,
    flags: BooleanArray,
}

/// The journeys of a batch.
pub(super) struct JourneyPaths<'a> {
    touchpoints: &'a Lists,
    goals: Option<Goals>,
    starts: Option<Starts>,
    /// Goals of touches that lie before the path in hand.
    passed: usize,
    walk: Walk,
}

/// A path of a journey.
pub(super) struct JourneyPath<'a> {
    /// The first touch of each run of equal ones, counted from the journey's first.
    pub nodes: &'a [u32],
    /// Whether it reached a goal.
    pub is_converted: bool,
}

impl<'a> JourneyPaths<'a> {
    /// The journeys of these touchpoints; `goals` and `starts` as they were coerced.
    pub(super) fn new(
        function: &str,
        touchpoints: &'a Lists,
        goals: Option<&ArrayRef>,
        starts: Option<&ArrayRef>,
    ) -> Result<Self> {
        let goals = match goals {
            None => None,
            Some(goals) if *goals.data_type() == DataType::Boolean => {
                Some(Goals::OfJourney(to_booleans(function, goals)?))
            }
            Some(goals) => {
                let lists = Lists::of_array(function, goals)?;
                touchpoints.expect_parallel(function, &lists, ("touchpoints", "goals"))?;
                let flags = to_booleans(function, &lists.values)?;
                let set = flags.values().set_indices_u32();
                let positions = set.filter(|position| flags.is_valid(*position as usize)).collect();
                Some(Goals::OfTouch { lists, positions })
            }
        };
        let starts = match starts {
            None => None,
            Some(starts) => {
                let lists = Lists::of_array(function, starts)?;
                touchpoints.expect_parallel(function, &lists, ("touchpoints", "starts"))?;
                Some(Starts { flags: to_booleans(function, &lists.values)?, lists })
            }
        };
        Ok(Self { touchpoints, goals, starts, passed: 0, walk: Walk::default() })
    }

    /// Gives each path of a row to `take`; rows are asked in their order. `numbers` are those of the touchpoints of all
    /// rows. A journey without touches has no path, nor has one whose touchpoints or starts are null.
    #[inline]
    pub(super) fn of_row(
        &mut self,
        row: usize,
        numbers: &[u32],
        mut take: impl FnMut(JourneyPath) -> Result<()>,
    ) -> Result<()> {
        let Some(touches) = self.touchpoints.range(row).filter(|touches| !touches.is_empty()) else {
            return Ok(());
        };
        let numbers = &numbers[touches];
        match &self.starts {
            None => self.walk.of_journey(numbers, |_| false),
            Some(starts) if starts.lists.is_null(row) => return Ok(()),
            Some(Starts { lists, flags }) => {
                let first = lists.span(row).start;
                match flags.null_count() {
                    0 => self.walk.of_journey(numbers, |touch| flags.values().value(first + touch)),
                    _ => self
                        .walk
                        .of_journey(numbers, |touch| flags.is_valid(first + touch) && flags.value(first + touch)),
                }
            }
        }
        for path in 0..self.walk.paths {
            let is_converted = self.is_converted(row, path);
            take(JourneyPath { nodes: self.walk.nodes_of(path), is_converted })?;
        }
        Ok(())
    }

    #[inline]
    fn is_converted(&mut self, row: usize, path: usize) -> bool {
        match &self.goals {
            None => false,
            Some(Goals::OfJourney(goals)) => goals.is_valid(row) && goals.value(row),
            Some(Goals::OfTouch { lists, .. }) if lists.is_null(row) => false,
            Some(Goals::OfTouch { lists, positions }) => {
                let first = lists.span(row).start as u32;
                let (start, end) = (first + self.walk.first_touches[path], first + self.walk.first_touches[path + 1]);
                while positions.get(self.passed).is_some_and(|position| *position < start) {
                    self.passed += 1;
                }
                positions.get(self.passed).is_some_and(|position| *position < end)
            }
        }
    }
}

/// The paths of one journey; its memory serves one journey after another.
#[derive(Default)]
struct Walk {
    paths: usize,
    nodes: Vec<u32>,
    /// Where each path begins among the nodes, and where the last ends.
    first_nodes: Vec<u32>,
    /// Where each path begins among the touches, and where the last ends.
    first_touches: Vec<u32>,
}

impl Walk {
    /// Finds the paths of a journey that has touches.
    #[inline]
    fn of_journey(&mut self, numbers: &[u32], is_start: impl Fn(usize) -> bool) {
        if self.nodes.len() <= numbers.len() {
            for buffer in [&mut self.nodes, &mut self.first_nodes, &mut self.first_touches] {
                buffer.resize(numbers.len() + 1, 0);
            }
        }
        let Self { nodes, first_nodes, first_touches, .. } = self;
        (nodes[0], first_nodes[0], first_touches[0]) = (0, 0, 0);
        let (mut paths, mut count) = (1, 1);
        for touch in 1..numbers.len() {
            let starts = is_start(touch);
            first_nodes[paths] = count as u32;
            first_touches[paths] = touch as u32;
            paths += usize::from(starts);
            nodes[count] = touch as u32;
            count += usize::from(starts | (numbers[touch - 1] != numbers[touch]));
        }
        first_nodes[paths] = count as u32;
        first_touches[paths] = numbers.len() as u32;
        self.paths = paths;
    }

    #[inline]
    fn nodes_of(&self, path: usize) -> &[u32] {
        &self.nodes[self.first_nodes[path] as usize..self.first_nodes[path + 1] as usize]
    }
}

/// Journeys for the tests of the aggregates over paths.
#[cfg(test)]
pub(super) mod testing {
    use std::sync::Arc;

    use datafusion::arrow::array::{ListArray, StringArray};
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::compute::cast;
    use datafusion::logical_expr::GroupsAccumulator;
    use proptest::prelude::*;

    use super::super::arguments::{coded_text_type, item_field};
    use super::super::ways::Way;
    use super::*;

    /// A touch: what it was, whether it is a goal and whether it starts a run.
    pub(in crate::functions) type Touch = (Option<&'static str>, Option<bool>, Option<bool>);

    /// A row: the touches of a journey, its group, what a filter says of it, and which of its lists are null.
    #[derive(Debug, Clone)]
    pub(in crate::functions) struct Journey {
        pub touches: Vec<Touch>,
        pub group: usize,
        pub passes: Option<bool>,
        pub has_touchpoints: bool,
        pub has_goals: bool,
        pub has_starts: bool,
    }

    /// How `goals` and `starts` are given.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in crate::functions) enum Given {
        Nothing,
        /// Goals of a journey: that of its first touch.
        Journeys,
        Touches,
        Starts,
    }

    /// A path as the oracles have it: the places of its nodes among the touches, and whether it converted.
    pub(in crate::functions) type NaivePath = (Vec<usize>, bool);

    impl Journey {
        /// The paths of a journey, by a loop over its touches.
        pub(in crate::functions) fn paths(&self, given: Given) -> Vec<NaivePath> {
            let has_starts = given == Given::Starts;
            if self.passes != Some(true) || !self.has_touchpoints || (has_starts && !self.has_starts) {
                return Vec::new();
            }
            let mut paths: Vec<NaivePath> = Vec::new();
            for (place, (touchpoint, is_goal, is_start)) in self.touches.iter().enumerate() {
                let is_goal = match given {
                    Given::Nothing => false,
                    Given::Journeys => self.touches[0].1 == Some(true),
                    Given::Touches | Given::Starts => self.has_goals && *is_goal == Some(true),
                };
                match paths.last_mut().filter(|_| !(has_starts && *is_start == Some(true))) {
                    None => paths.push((vec![place], is_goal)),
                    Some((nodes, is_converted)) => {
                        if self.touches[place - 1].0 != *touchpoint {
                            nodes.push(place);
                        }
                        *is_converted |= is_goal;
                    }
                }
            }
            paths
        }
    }

    /// Journeys over few touchpoints; null lists hide elements.
    pub(in crate::functions) fn journeys(groups: usize, longest: usize) -> impl Strategy<Value = Vec<Journey>> {
        let touchpoint = prop::sample::select(vec!["home", "cart", "a page of a long name", ""]);
        let flag = || prop_oneof![3 => Just(Some(false)), 2 => Just(Some(true)), 1 => Just(None)];
        let touch = (prop::option::weighted(0.9, touchpoint), flag(), flag());
        let passes = prop_oneof![9 => Just(Some(true)), 1 => prop_oneof![Just(Some(false)), Just(None)]];
        let there = || prop::bool::weighted(0.9);
        let journey = (prop::collection::vec(touch, 0..=longest), 0..groups, passes, there(), there(), there());
        let journey = journey.prop_map(|(touches, group, passes, has_touchpoints, has_goals, has_starts)| Journey {
            touches,
            group,
            passes,
            has_touchpoints,
            has_goals,
            has_starts,
        });
        prop::collection::vec(journey, 1..20)
    }

    /// A journey of a group over these touchpoints.
    pub(in crate::functions) fn journey(group: usize, touchpoints: Vec<&'static str>) -> Journey {
        let touches = touchpoints.into_iter().map(|touchpoint| (Some(touchpoint), None, None)).collect();
        Journey { touches, group, passes: Some(true), has_touchpoints: true, has_goals: true, has_starts: true }
    }

    /// Adds journeys, whose arguments are `values`, to an accumulator; `new` makes one for a part.
    pub(in crate::functions) fn add<G: GroupsAccumulator>(
        total: &mut G,
        new: impl Fn() -> G,
        values: &[ArrayRef],
        journeys: &[Journey],
        way: Way,
        groups: usize,
    ) {
        let of_rows: Vec<usize> = journeys.iter().map(|row| row.group).collect();
        let filter: BooleanArray = journeys.iter().map(|row| row.passes).collect();
        way.add(total, new, values, &of_rows, &filter, groups);
    }

    pub(in crate::functions) fn given() -> impl Strategy<Value = Given> {
        prop::sample::select(vec![Given::Nothing, Given::Journeys, Given::Touches, Given::Starts])
    }

    /// A list per journey.
    pub(in crate::functions) fn list(
        journeys: &[Journey],
        values: ArrayRef,
        is_there: impl Fn(&Journey) -> bool,
    ) -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths(journeys.iter().map(|journey| journey.touches.len()));
        let nulls: Vec<bool> = journeys.iter().map(is_there).collect();
        let item = item_field(values.data_type().clone());
        Arc::new(ListArray::new(item, offsets, values, Some(nulls.into())))
    }

    /// The touchpoints of journeys, in one of four encodings.
    pub(in crate::functions) fn touchpoints(journeys: &[Journey], encoding: usize) -> ArrayRef {
        let texts: StringArray = journeys.iter().flat_map(|journey| &journey.touches).map(|touch| touch.0).collect();
        let encodings = [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, coded_text_type()];
        let texts = cast(&texts, &encodings[encoding]).expect("texts of any encoding");
        let lists = list(journeys, texts, |journey| journey.has_touchpoints);
        match encoding {
            1 => cast(&lists, &DataType::LargeList(item_field(DataType::LargeUtf8))).expect("larger offsets"),
            _ => lists,
        }
    }

    /// The arguments behind the others: `goals` and `starts` as they are given.
    pub(in crate::functions) fn goals_and_starts(journeys: &[Journey], given: Given) -> Vec<ArrayRef> {
        let flags = |flag: fn(&Touch) -> Option<bool>, is_there: fn(&Journey) -> bool| {
            let flags: BooleanArray = journeys.iter().flat_map(|journey| &journey.touches).map(flag).collect();
            list(journeys, Arc::new(flags), is_there)
        };
        let goals = || flags(|touch| touch.1, |journey| journey.has_goals);
        match given {
            Given::Nothing => vec![],
            Given::Journeys => {
                let first = |journey: &Journey| journey.touches.first().and_then(|touch| touch.1);
                vec![Arc::new(journeys.iter().map(first).collect::<BooleanArray>())]
            }
            Given::Touches => vec![goals()],
            Given::Starts => vec![goals(), flags(|touch| touch.2, |journey| journey.has_starts)],
        }
    }
}
