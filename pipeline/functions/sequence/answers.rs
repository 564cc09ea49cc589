//! What is asked of each group, and the answers for group after group.

use std::mem::take;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;

use super::super::occurrences::{GroupFunction, Occurrence, TimeLists};
use super::backward::Row;
use super::matcher::Matcher;
use super::pattern::Pattern;

/// What is asked of each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Question {
    Match,
    Count,
    Events,
}

impl Question {
    /// The name of the function that asks it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Match => "sequence_match",
            Self::Count => "sequence_count",
            Self::Events => "sequence_match_events",
        }
    }
}

impl Row for Occurrence {
    #[inline]
    fn time(&self) -> i64 {
        self.time
    }

    #[inline]
    fn conditions(&self) -> u32 {
        self.conditions
    }
}

/// The answers for group after group.
#[derive(Debug)]
pub(super) struct Answers {
    question: Question,
    matcher: Matcher,
    found: Found,
}

/// What was found since the last results.
#[derive(Debug)]
enum Found {
    Matches(Vec<bool>),
    Counts(Vec<i64>),
    /// The times of each group, and room for those of one.
    Events(TimeLists, Vec<i64>),
}

impl Answers {
    /// None yet, for times of a type.
    pub(super) fn new(question: Question, pattern: Pattern, time: &DataType) -> Self {
        let found = match question {
            Question::Match => Found::Matches(vec![]),
            Question::Count => Found::Counts(vec![]),
            Question::Events => Found::Events(TimeLists::new(time.clone()), vec![]),
        };
        Self { question, matcher: Matcher::new(pattern), found }
    }
}

impl GroupFunction for Answers {
    fn name(&self) -> &'static str {
        self.question.name()
    }

    fn group(&mut self, occurrences: &[Occurrence]) -> Result<()> {
        match &mut self.found {
            Found::Matches(matches) => matches.push(self.matcher.matches(occurrences)),
            Found::Counts(counts) => counts.push(self.matcher.count(occurrences)),
            Found::Events(lists, times) => {
                times.clear();
                self.matcher.chain(occurrences, |occurrence| times.push(occurrence.time));
                lists.push(self.question.name(), times)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        match &mut self.found {
            Found::Matches(matches) => Ok(Arc::new(BooleanArray::from(take(matches)))),
            Found::Counts(counts) => Ok(Arc::new(Int64Array::from(take(counts)))),
            Found::Events(lists, _) => lists.finish(),
        }
    }

    fn size(&self) -> usize {
        let found = match &self.found {
            Found::Matches(matches) => matches.capacity(),
            Found::Counts(counts) => counts.capacity() * size_of::<i64>(),
            Found::Events(lists, times) => lists.size() + times.capacity() * size_of::<i64>(),
        };
        self.matcher.size() + found
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
    use proptest::prelude::*;

    use super::super::super::occurrences::Occurrences;
    use super::super::oracle::{naive, text};
    use super::super::pattern::tests::pattern;
    use super::*;

    const GROUPS: usize = 4;
    const CONDITIONS: usize = 3;

    #[derive(Debug, Clone)]
    struct Event {
        group: usize,
        time: Option<i64>,
        conditions: [Option<bool>; CONDITIONS],
        passes: Option<bool>,
    }

    fn event() -> impl Strategy<Value = Event> {
        let condition = || prop_oneof![5 => Just(Some(false)), 3 => Just(Some(true)), 1 => Just(None)];
        (
            0..GROUPS - 1,
            prop::option::weighted(0.9, 0i64..12),
            [condition(), condition(), condition()],
            prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)],
        )
            .prop_map(|(group, time, conditions, passes)| Event { group, time, conditions, passes })
    }

    /// The answers by the definition: of every group, also of the last, which has no rows.
    fn expected(text: &str, events: &[Event]) -> Vec<(bool, i64, Vec<i64>)> {
        let rows_of = |group: usize| {
            let met = |event: &Event| {
                (0..CONDITIONS).map(|condition| u32::from(event.conditions[condition] == Some(true)) << condition).sum()
            };
            let counts = |event: &&Event| event.group == group && event.passes == Some(true);
            let rows = events.iter().filter(counts).filter_map(|event| Some((event.time?, met(event))));
            let mut rows: Vec<(i64, u32)> = rows.filter(|row| row.1 != 0).collect();
            rows.sort_unstable();
            rows
        };
        (0..GROUPS).map(|group| naive(text, &rows_of(group))).collect()
    }

    fn values(events: &[Event]) -> Vec<ArrayRef> {
        let times: Int64Array = events.iter().map(|event| event.time).collect();
        let conditions = (0..CONDITIONS).map(|condition| -> ArrayRef {
            Arc::new(events.iter().map(|event| event.conditions[condition]).collect::<BooleanArray>())
        });
        std::iter::once(Arc::new(times) as ArrayRef).chain(conditions).collect()
    }

    fn accumulator(question: Question, text: &str) -> Occurrences<Answers> {
        Occurrences::new(Answers::new(question, pattern(text), &DataType::Int64), 0..CONDITIONS + 1)
    }

    /// Brings events into the final accumulator: as they are, as states of one row, or by way of another accumulator.
    fn add(total: &mut Occurrences<Answers>, mut part: Occurrences<Answers>, events: &[Event], way: usize) {
        let groups: Vec<usize> = events.iter().map(|event| event.group).collect();
        let filter: BooleanArray = events.iter().map(|event| event.passes).collect();
        match way {
            0 => total.update_batch(&values(events), &groups, Some(&filter), GROUPS).unwrap(),
            1 => {
                let state = total.convert_to_state(&values(events), Some(&filter)).unwrap();
                total.merge_batch(&state, &groups, GROUPS).unwrap();
            }
            _ => {
                let groups_of_states: Vec<usize> = (0..GROUPS).collect();
                part.update_batch(&values(events), &groups, Some(&filter), GROUPS).unwrap();
                let state = GroupsAccumulator::state(&mut part, EmitTo::First(1)).unwrap();
                total.merge_batch(&state, &groups_of_states[..1], GROUPS).unwrap();
                let state = GroupsAccumulator::state(&mut part, EmitTo::All).unwrap();
                total.merge_batch(&state, &groups_of_states[1..], GROUPS).unwrap();
            }
        }
    }

    fn answers(question: Question, text: &str, batches: &[(Vec<Event>, usize)], emitted: usize) -> Vec<ArrayRef> {
        let mut total = accumulator(question, text);
        for (events, way) in batches {
            add(&mut total, accumulator(question, text), events, *way);
        }
        let first = GroupsAccumulator::evaluate(&mut total, EmitTo::First(emitted)).unwrap();
        let rest = GroupsAccumulator::evaluate(&mut total, EmitTo::All).unwrap();
        [first, rest].into_iter().flat_map(|part| (0..part.len()).map(move |row| part.slice(row, 1))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_order_and_any_split_give_the_answers_of_the_definition(
            text in text(),
            batches in prop::collection::vec((prop::collection::vec(event(), 0..12), 0usize..3), 1..4),
            emitted in 0..=GROUPS,
        ) {
            let events: Vec<Event> = batches.iter().flat_map(|(events, _)| events.clone()).collect();
            let expected = expected(&text, &events);
            let matches = answers(Question::Match, &text, &batches, emitted);
            let counts = answers(Question::Count, &text, &batches, emitted);
            let chains = answers(Question::Events, &text, &batches, emitted);
            prop_assert_eq!(matches.len(), GROUPS);
            for (group, (is_match, count, chain)) in expected.into_iter().enumerate() {
                prop_assert_eq!(matches[group].as_boolean().value(0), is_match);
                prop_assert_eq!(counts[group].as_primitive::<Int64Type>().value(0), count);
                let found = chains[group].as_list::<i32>().value(0);
                prop_assert_eq!(found.as_primitive::<Int64Type>().values(), &chain);
            }
        }
    }
}
