//! Over any rows every rule gives the level and the times that its plain form gives.

use proptest::prelude::*;

use super::super::occurrences::Occurrence;
use super::golden::run;
use super::oracle::{Row, Told, always_increases, answer, chains, longest, shown, times, uses_no_row_twice};

/// Every combination of ClickHouse's modes, and the presets.
fn rules() -> Vec<String> {
    let words = ["strict_deduplication", "strict_order", "strict_increase", "strict_once"];
    let mut rules: Vec<String> = vec![];
    for chosen in 0u32..16 {
        let chosen: Vec<&str> = (0..4).filter(|bit| chosen >> bit & 1 == 1).map(|bit| words[bit]).collect();
        rules.push(chosen.join("|"));
        if chosen.contains(&"strict_order") {
            rules.push(format!("{}|allow_reentry", chosen.join("|")));
        }
    }
    rules.extend(["posthog_ordered", "posthog_strict", "mixpanel"].map(str::to_owned));
    rules
}

/// The level and times of a mode over rows in any order.
fn found(mode: &str, rows: &[Row], steps: usize, window: i64) -> (usize, Vec<i64>) {
    let mut rows: Vec<Occurrence> = rows.iter().map(|(time, met)| Occurrence::new(*time, *met, 0)).collect();
    rows.sort_by_key(|row| (row.time, row.conditions));
    run(mode, window, steps, &rows)
}

/// Rows of a group in order; steps beyond the funnel's are no conditions of it.
fn in_order(rows: Vec<Row>, steps: usize) -> Vec<Row> {
    let met = u32::MAX >> (32 - steps);
    let mut rows: Vec<Row> = rows.into_iter().map(|row| (row.0, row.1 & met)).collect();
    rows.sort();
    rows
}

/// Few rows over few instants that meet no step, one, or several.
fn few_rows(steps: usize) -> impl Strategy<Value = Vec<Row>> {
    let met = prop_oneof![
        4 => (0..steps).prop_map(|step| 1u32 << step),
        3 => 0u32..1 << steps,
        1 => Just(0),
    ];
    (1i64..12).prop_flat_map(move |span| prop::collection::vec((0..span, met.clone()), 0..10))
}

/// Many steps, most of them met one after another, some in one row or at one instant.
fn many_steps() -> impl Strategy<Value = (usize, Vec<Row>)> {
    let row = (0i64..3, prop::sample::select(vec![0usize, 1, 1, 1, 1, 1, 1, 2]), prop::option::weighted(0.1, 0..32u32));
    (1usize..=32, prop::collection::vec((row, prop::bool::weighted(0.03)), 0..48)).prop_map(|(steps, rows)| {
        let (mut time, mut step) = (0, 0);
        let mut row = |((gap, onwards, also), is_none): ((i64, usize, Option<u32>), bool)| {
            time += gap;
            step = (step + onwards) % steps;
            (time, if is_none { 0 } else { 1 << step | also.map_or(0, |bit| 1 << bit) })
        };
        (steps, rows.into_iter().map(&mut row).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_rule_agrees_with_its_naive_form(rows in few_rows(4), steps in 1usize..=4, window in 0i64..9) {
        let rows = in_order(rows, steps);
        for mode in rules() {
            let expected = answer(&mode, &rows, steps, window).expect("few rows have few chains");
            prop_assert_eq!(found(&mode, &rows, steps, window), expected, "{}", mode);
        }
    }

    #[test]
    fn every_rule_agrees_with_its_naive_form_over_up_to_thirty_two_steps(
        (steps, rows) in many_steps(),
        window in prop::sample::select(vec![0, 3, 10, 30, 100]),
    ) {
        let rows = in_order(rows, steps);
        for mode in &rules() {
            if let Some(expected) = answer(mode, &rows, steps, window) {
                prop_assert_eq!(found(mode, &rows, steps, window), expected, "{}", mode);
            }
        }
    }

    /// Whatever the rule, what it shows is a chain: some rows at these times meet the steps as the rule lets them.
    #[test]
    fn what_is_shown_is_a_chain(rows in few_rows(4), window in 0i64..9) {
        let rows = in_order(rows, 4);
        for mode in rules() {
            let (level, shown) = found(&mode, &rows, 4, window);
            let told = Told::by(&mode);
            let is_preset = mode.contains("posthog") || mode == "mixpanel";
            let accepts = |chain: &[usize]| {
                (chain.len() > shown.len() || times(&rows, chain) == shown[..chain.len()])
                    && (!(told.once || is_preset) || uses_no_row_twice(chain))
                    && (!(told.increase || mode == "mixpanel") || always_increases(&rows, chain))
            };
            prop_assert_eq!(shown.len(), level, "{}", mode);
            prop_assert_eq!(longest(&rows, level, window, &accepts), level, "{}: {:?}", mode, shown);
        }
    }

    #[test]
    fn where_a_mode_has_a_definition_it_is_exact(rows in few_rows(4), window in 0i64..9) {
        let rows = in_order(rows, 4);
        let level = |mode: &str| found(mode, &rows, 4, window).0;
        prop_assert_eq!(level(""), longest(&rows, 4, window, &|_| true));
        prop_assert_eq!(level("strict_once"), longest(&rows, 4, window, &uses_no_row_twice));
        let increases = |chain: &[usize]| always_increases(&rows, chain);
        prop_assert_eq!(level("strict_increase strict_once"), longest(&rows, 4, window, &increases));
    }

    /// The chain that is shown, from all that there are: the latest entry, then the latest end, and so on from the end back;
    /// of those that reach the last step the ones that reach it first.
    #[test]
    fn where_a_mode_has_a_definition_its_chain_is_the_one_the_documentation_names(rows in few_rows(3), window in 0i64..9) {
        let rows = in_order(rows, 3);
        for (mode, accepts) in [("", &(|_: &[usize]| true) as &dyn Fn(&[usize]) -> bool), ("strict_once", &uses_no_row_twice)] {
            let all = chains(&rows, 3, window, accepts);
            let level = all.iter().map(Vec::len).max().unwrap_or(0);
            let mut furthest: Vec<Vec<i64>> =
                all.iter().filter(|chain| chain.len() == level && level > 0).map(|chain| times(&rows, chain)).collect();
            if level == 3 {
                let first = furthest.iter().map(|times| times[2]).min();
                furthest.retain(|times| Some(times[2]) == first);
            }
            prop_assert_eq!(found(mode, &rows, 3, window), (level, shown(&furthest)), "{}", mode);
        }
    }

    /// PostHog's chain got there first; of those that got there then it has the latest entry, and steps as early as can be.
    #[test]
    fn the_chain_of_posthog_is_the_first_to_arrive(steps in prop::collection::vec(0u32..3, 0..10), window in 0i64..9) {
        // One row per instant, one step per row.
        let rows: Vec<Row> = (0..).zip(steps).map(|(time, step)| (time, 1 << step)).collect();
        let all = chains(&rows, 3, window, &|_| true);
        let level = all.iter().map(Vec::len).max().unwrap_or(0);
        let furthest = all.iter().filter(|chain| chain.len() == level && level > 0).map(|chain| times(&rows, chain));
        let expected = furthest.min_by_key(|times| (times[level - 1], -times[0], times.clone())).unwrap_or_default();
        prop_assert_eq!(found("posthog_ordered", &rows, 3, window), (level, expected));
    }

    #[test]
    fn a_stricter_rule_never_reaches_further(rows in few_rows(4), window in 0i64..9) {
        let rows = in_order(rows, 4);
        let level = |mode: &str| found(mode, &rows, 4, window).0;
        for mode in rules() {
            prop_assert!(level(&mode) <= level(""), "{}", mode);
        }
        prop_assert!(level("strict_order") <= level("strict_order allow_reentry"));
        prop_assert!(
            level("posthog_strict") <= level("posthog_ordered") || rows.windows(2).any(|pair| pair[0].0 == pair[1].0)
        );
    }
}
