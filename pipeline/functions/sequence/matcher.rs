//! What a pattern finds among the rows of one group: whether it matches, how often, and which chain of rows.

use super::automaton::Automaton;
use super::backward::{Backward, Row};
use super::pattern::{Item, Pattern};

/// A pattern made ready to match; its buffers serve group after group.
#[derive(Debug)]
pub(super) struct Matcher {
    pattern: Pattern,
    /// The conditions that a match needs.
    wanted: u32,
    /// For a pattern without time terms.
    automaton: Option<Automaton>,
    backward: Backward,
}

impl Matcher {
    pub(super) fn new(pattern: Pattern) -> Self {
        let (wanted, automaton) = (pattern.wanted(), Automaton::new(&pattern));
        Self { pattern, wanted, automaton, backward: Backward::default() }
    }

    /// Whether a match exists among rows in order.
    pub(super) fn matches<R: Row>(&mut self, rows: &[R]) -> bool {
        match &self.automaton {
            Some(automaton) => automaton.matches(rows.iter().map(R::conditions)),
            None => self.can_match(rows) && self.backward.matches(&self.pattern.items, rows),
        }
    }

    /// How many matches follow one another among rows in order: the first, the first of what is left behind it, …
    pub(super) fn count<R: Row>(&mut self, rows: &[R]) -> i64 {
        match &self.automaton {
            Some(automaton) => automaton.count(rows.iter().map(R::conditions)),
            None if self.can_match(rows) => self.backward.count(&self.pattern.items, rows),
            None => 0,
        }
    }

    /// Shows the rows that conditions take: those of the first match, or where there is none, of the longest chain that
    /// matches a beginning of the pattern, and of such chains the first.
    pub(super) fn chain<R: Row>(&mut self, rows: &[R], mut show: impl FnMut(&R)) {
        let is_whole = match &self.automaton {
            Some(automaton) => automaton.matches(rows.iter().map(R::conditions)),
            None => self.can_match(rows),
        };
        if is_whole && self.backward.first(&self.pattern.items, rows, &mut show) {
            return;
        }
        let longest = match &self.automaton {
            Some(automaton) => self.conditions_among(automaton.furthest(rows.iter().map(R::conditions))),
            None => self.longest(rows),
        };
        if longest > 0 {
            self.backward.first(beginning(&self.pattern, longest), rows, show);
        }
    }

    /// Bytes allocated.
    pub(super) fn size(&self) -> usize {
        self.pattern.items.capacity() * size_of::<Item>() + self.backward.size()
    }

    /// Whether each condition that a match needs is met somewhere: most groups of a selective pattern end here.
    fn can_match<R: Row>(&self, rows: &[R]) -> bool {
        rows.iter().fold(0, |met, row| met | row.conditions()) & self.wanted == self.wanted
    }

    /// How many conditions are among the first row-taking items.
    fn conditions_among(&self, taking: usize) -> usize {
        let takes = self.pattern.items.iter().filter(|item| matches!(item, Item::Any | Item::Condition(_)));
        takes.take(taking).filter(|item| matches!(item, Item::Condition(_))).count()
    }

    /// How many conditions the longest chain holds. A chain's beginning is a chain, so halving finds it.
    fn longest<R: Row>(&mut self, rows: &[R]) -> usize {
        let met = rows.iter().fold(0, |met, row| met | row.conditions());
        let possible = self.pattern.conditions().take_while(|(_, condition)| met >> condition & 1 == 1).count();
        let (mut found, mut limit) = (0, possible + 1);
        while limit - found > 1 {
            let middle = found.midpoint(limit);
            match self.backward.matches(beginning(&self.pattern, middle), rows) {
                true => found = middle,
                false => limit = middle,
            }
        }
        found
    }
}

/// The items up to the condition of this number, from 1.
fn beginning(pattern: &Pattern, conditions: usize) -> &[Item] {
    let (last, _) = pattern.conditions().nth(conditions - 1).expect("the pattern has so many conditions");
    &pattern.items[..=last]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::oracle::{Event, naive, renamed, search, text};
    use super::super::pattern::tests::pattern;
    use super::super::pattern::{Comparison, Gap};
    use super::*;

    impl Row for Event {
        fn time(&self) -> i64 {
            self.0
        }

        fn conditions(&self) -> u32 {
            self.1
        }
    }

    /// Whether the pattern matches, how often, and the times of its chain.
    fn find(text: &str, events: &[Event]) -> (bool, i64, Vec<i64>) {
        let mut matcher = Matcher::new(pattern(text));
        let mut times = vec![];
        let found = (matcher.matches(events), matcher.count(events));
        matcher.chain(events, |event| times.push(event.0));
        (found.0, found.1, times)
    }

    /// One event per letter, a second apart: `A` meets condition 1, `B` condition 2, …
    fn letters(text: &str) -> Vec<Event> {
        text.bytes().enumerate().map(|(time, letter)| (time as i64, 1 << (letter - b'A'))).collect()
    }

    /// Source: ClickHouse, tests/queries/0_stateless/00222_sequence_aggregate_function_family.sql.
    #[test]
    fn finds_what_the_tests_of_clickhouse_say() {
        let events = letters("AAAABCAAAABB");
        for (text, is_match, count, times) in [
            ("", true, 12, vec![]),
            (".", true, 12, vec![]),
            (".*", true, 12, vec![]),
            ("(?1)", true, 8, vec![0]),
            ("(?2)", true, 3, vec![4]),
            ("(?3)", true, 1, vec![5]),
            ("(?4)", false, 0, vec![]),
            ("(?1)(?1)", true, 4, vec![0, 1]),
            ("(?1)(?1)(?1)", true, 2, vec![0, 1, 2]),
            ("(?1)(?1)(?1)(?1)", true, 2, vec![0, 1, 2, 3]),
            ("(?1)(?1)(?1)(?1)(?1)", false, 0, vec![0, 1, 2, 3]),
            ("(?1)(?1)(?1)(?1)(?2)", true, 2, vec![0, 1, 2, 3, 4]),
            ("(?1)(?t>10)(?2)", true, 1, vec![0, 11]),
            ("(?1)(?t>11)(?2)", false, 0, vec![0]),
            ("(?1)(?t<11)(?2)", true, 2, vec![0, 4]),
            ("(?1)(?t<3)(?3)", true, 1, vec![3, 5]),
            ("(?1)(?t<=2)(?3)", true, 1, vec![3, 5]),
            ("(?1)(?t<2)(?3)", false, 0, vec![0]),
            ("(?2)(?t>=7)(?2)", true, 1, vec![4, 11]),
            ("(?2)(?t>7)(?2)", false, 0, vec![4]),
            ("(?2)(?3)(?1)", true, 1, vec![4, 5, 6]),
        ] {
            assert_eq!(find(text, &events), (is_match, count, times), "{text}");
        }
        // Only what meets a condition of the call is there to be matched.
        let events: Vec<Event> = letters("BBCAAB").into_iter().filter(|event| event.1 != 1).collect();
        assert_eq!(find("(?2)(?t==2)(?3)", &events[1..]), (false, 0, vec![1]));
        assert_eq!(find("(?2)(?t==1)(?3)", &events), (true, 1, vec![1, 2]));
    }

    /// Sources: ClickHouse's documentation of `sequenceMatch`, its pull request 72349 and issue 118120.
    #[test]
    fn finds_what_the_documents_of_clickhouse_say() {
        let events = [(1, 1), (2, 0), (3, 2)];
        assert_eq!(find("(?1)(?2)", &[events[0], events[2]]), (true, 1, vec![1, 3]));
        let events = [(1, 1), (2, 4), (3, 2), (4, 1), (5, 4), (6, 2)];
        assert_eq!(find("(?1)(?2)", &events), (false, 0, vec![1]));
        assert_eq!(find("(?1).*(?2)", &events), (true, 2, vec![1, 3]));

        let numbers: Vec<Event> = (0..300)
            .map(|number| {
                let met = [number % 100 == 1, number % 100 == 10, number % 100 == 30, number % 100 == 40, number > 0];
                (number, (0..5).map(|condition| u32::from(met[condition]) << condition).sum())
            })
            .filter(|event| event.1 > 0)
            .collect();
        let text = ".*(?1).*(?2).*(?5).*(?1).*(?5).*(?3).*(?4).*(?5)";
        let (first, second) = numbers.split_at(149);
        assert_eq!(find(text, first), (true, 1, vec![1, 10, 11, 101, 102, 130, 140, 141]));
        assert_eq!(find(text, second), (false, 0, vec![201, 210, 211]));

        let events = [(0, 1), (5, 2), (100, 2), (101, 4)];
        assert_eq!(find("(?1)(?t<=10)(?2)(?3)", &events), (false, 0, vec![0, 5]));
    }

    #[test]
    fn each_item_takes_what_it_says() {
        for (text, letters_, expected) in [
            ("(?1)(?2)", "ACB", false),
            ("(?1).(?2)", "ACB", true),
            ("(?1).(?2)", "AB", false),
            ("(?1).*(?2)", "AB", true),
            ("(?1).*(?2)", "ACCB", true),
            ("(?1).*(?2)", "BA", false),
            (".(?1)", "A", false),
            (".*(?1)", "A", true),
            ("(?1).", "A", false),
            ("(?1).*", "A", true),
            ("..", "A", false),
            ("(?1)(?2)(?3)", "ABABC", true),
        ] {
            assert_eq!(find(text, &letters(letters_)).0, expected, "{text} on {letters_}");
        }
    }

    #[test]
    fn a_row_that_meets_several_conditions_takes_one_place() {
        assert_eq!(find("(?1)(?2)", &[(0, 0b11)]), (false, 0, vec![0]));
        assert_eq!(find("(?1)(?2)", &[(0, 0b11), (0, 0b11)]), (true, 1, vec![0, 0]));
        assert_eq!(find("(?1)(?t<=5)(?2)", &[(0, 0b11), (3, 0b11)]), (true, 1, vec![0, 3]));
    }

    #[test]
    fn a_time_term_lets_rows_lie_between_and_compares_what_it_says() {
        for (term, expected) in [
            ("<=10", true),
            ("<=9", false),
            ("<11", true),
            ("<10", false),
            (">=10", true),
            (">=11", false),
            (">9", true),
            (">10", false),
            ("==10", true),
            ("==9", false),
            ("==11", false),
            ("!=10", false),
            ("!=9", true),
        ] {
            let events = [(0, 1), (4, 4), (5, 4), (10, 2), (20, 4)];
            assert_eq!(find(&format!("(?1)(?t{term})(?2)"), &events).0, expected, "{term}");
        }
    }

    #[test]
    fn after_a_run_a_time_term_counts_from_the_row_behind_the_run() {
        // The run may stop at the row of condition 2 itself, at distance 0.
        assert!(find("(?1).*(?t<=10)(?2)", &[(0, 1), (5, 4), (100, 2)]).0);
        // From the row at 5, since the run is as short as it can be.
        assert!(find("(?1).*(?t>=95)(?2)", &[(0, 1), (5, 4), (100, 2)]).0);
        assert!(!find("(?1).*(?t>=96)(?2)", &[(0, 1), (5, 4), (100, 2)]).0);
        assert!(find("(?1)(?t>=96)(?2)", &[(0, 1), (5, 4), (100, 2)]).0);
        // The beginning reads as a run.
        assert_eq!(find("(?t>50)(?3)", &[(0, 1), (5, 4), (100, 2), (101, 4)]), (true, 1, vec![101]));
    }

    #[test]
    fn at_the_end_a_time_term_holds_unless_it_asks_for_a_row() {
        let end = [(0, 1)];
        for (text, expected) in [
            ("(?1)(?t<=5)", true),
            ("(?1)(?t<5)", true),
            ("(?1)(?t>=0)", true),
            ("(?1)(?t>=1)", false),
            ("(?1)(?t>0)", false),
            ("(?1)(?t==0)", false),
            ("(?1)(?t!=1)", false),
            ("(?1)(?t<=5).*", true),
        ] {
            assert_eq!(find(text, &end).0, expected, "{text}");
        }
        // A row that is there must satisfy it.
        assert!(!find("(?1)(?t<=5)", &[(0, 1), (9, 2)]).0);
    }

    #[test]
    fn a_match_that_takes_no_row_counts_once_per_row() {
        assert_eq!(find("(?t>=1)", &[(0, 1), (5, 1), (100, 1), (101, 1)]).1, 3);
        assert_eq!(find(".*", &[]), (true, 0, vec![]));
        assert_eq!(find("(?t<=1)", &[]), (true, 0, vec![]));
        assert_eq!(find(".", &[]), (false, 0, vec![]));
    }

    #[test]
    fn the_chain_is_that_of_the_match_where_there_is_one() {
        // A longer chain than that from 0 does not exist, but the row at 1 alone has one exactly 5 later. ClickHouse
        // shows 0 here.
        assert_eq!(find("(?1)(?t==5)", &[(0, 1), (1, 1), (6, 2)]), (true, 1, vec![1]));
        assert_eq!(find("(?1)(?t==5)", &[(0, 1), (1, 1), (7, 2)]), (false, 0, vec![0]));
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        let events = [(i64::MIN, 1), (i64::MAX, 2)];
        assert!(find(&format!("(?1)(?t=={})(?2)", u64::MAX), &events).0);
        assert!(!find("(?1)(?t<10)(?2)", &events).0);
    }

    #[test]
    fn a_pattern_longer_than_a_word_matches_alike() {
        for length in [62, 63, 64, 65, 128] {
            let text = "(?1).*".repeat(length);
            assert!(find(&text, &letters(&"A".repeat(length))).0, "{length}");
            let (is_match, _, chain) = find(&text, &letters(&"A".repeat(length - 1)));
            assert_eq!((is_match, chain.len()), (false, length - 1));
        }
    }

    /// A million rows and the pattern that is the worst for a search with retraction (ClickHouse's issue 26095).
    #[test]
    fn a_long_group_stays_linear() {
        let rows: Vec<Event> = (0..1_000_000).map(|time| (time, if time < 500_000 { 1 } else { 2 })).collect();
        assert_eq!(find("(?1)(?t>1)(?2)", &rows), (true, 1, vec![0, 500_000]));
        assert!(!find("(?1)(?t<=1)(?1)(?t<=1)(?2)(?t>=600000).*(?1)", &rows).0);
        assert_eq!(find("(?1).*(?2).*(?1)", &rows), (false, 0, vec![0, 500_000]));
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let conditions = prop_oneof![4 => (0u32..3).prop_map(|condition| 1 << condition), 1 => 1u32..8];
        prop::collection::vec((0i64..4, conditions), 0..9).prop_map(|events| {
            let mut now = 0;
            let next = |(gap, conditions)| {
                now += gap;
                (now, conditions)
            };
            events.into_iter().map(next).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn agrees_with_trying_everything(text in text(), events in events()) {
            prop_assert_eq!(find(&text, &events), naive(&text, &events), "{}", text);
        }

        /// The same with any three of 32 conditions, and rows that meet others.
        #[test]
        fn agrees_with_trying_everything_over_thirty_two_conditions(
            text in text(),
            names in prop::sample::subsequence((1..=32).collect::<Vec<u32>>(), 3).prop_shuffle(),
            events in events(),
            others in prop::collection::vec(prop::option::weighted(0.3, 0u32..32), 9),
        ) {
            let text = renamed(&text, &names);
            let met = |conditions: u32| (0..3).map(|bit| (conditions >> bit & 1) << (names[bit] - 1)).sum::<u32>();
            let other = |other: Option<u32>| other.map_or(0, |bit| 1 << bit);
            let events: Vec<Event> =
                events.iter().zip(others).map(|(event, also)| (event.0, met(event.1) | other(also))).collect();
            prop_assert_eq!(find(&text, &events), naive(&text, &events), "{}", text);
        }

        #[test]
        fn without_time_terms_both_ways_agree(text in text(), events in events()) {
            let mut pattern = pattern(&text);
            pattern.items.retain(|item| !matches!(item, Item::Gap(_)));
            let automaton = Automaton::new(&pattern).unwrap();
            let mut backward = Backward::default();
            let rows = || events.iter().map(Row::conditions);
            prop_assert_eq!(automaton.matches(rows()), backward.matches(&pattern.items, &events));
            prop_assert_eq!(automaton.count(rows()), backward.count(&pattern.items, &events));
        }

        /// Without `!=` the first match ends first, so that no other choice fits more matches in.
        #[test]
        fn the_first_match_ends_first(text in text(), events in events()) {
            prop_assume!(!text.contains("!="));
            let matches = search(&text, &events).matches;
            prop_assert_eq!(matches.first().map(|found| found.0), matches.iter().map(|found| found.0).min());
        }

        #[test]
        fn the_chain_of_a_match_satisfies_its_terms(span in 0u64..5, events in events()) {
            let gap = Gap { comparison: Comparison::AtMost, span, is_after_run: false };
            let (is_match, _, chain) = find(&format!("(?1)(?t<={span})(?2)"), &events);
            if is_match {
                prop_assert!(gap.holds((chain[1] - chain[0]) as u64));
            } else {
                prop_assert!(chain.len() < 2);
            }
        }
    }
}
