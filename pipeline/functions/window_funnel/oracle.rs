//! The rules told plainly: every chain there is, or the engines' own words one event at a time. Slow, for tests only.

use proptest::prelude::*;

use super::super::occurrences::Occurrence;
use super::golden::run;
use super::rule::{Modes, Rule};

const STEPS: usize = 4;

/// A chain: the row that met each step.
type Chain = Vec<usize>;

/// The (step, row) pairs that are met in one go and, if they interrupt, the steps that they do not.
type Turn = (Vec<(usize, usize)>, Option<Vec<usize>>);

/// The longest chain by definition: rows that meet step after step, none earlier than the one before, all within the
/// window of the first; `accepts` may ask more of a chain.
fn longest(rows: &[Occurrence], steps: usize, window: i64, accepts: &dyn Fn(&[usize]) -> bool) -> usize {
    let mut chains: Vec<Chain> = vec![vec![]];
    let mut longest = 0;
    while let Some(chain) = chains.pop() {
        longest = longest.max(chain.len());
        if chain.len() == steps {
            break;
        }
        for (number, row) in rows.iter().enumerate() {
            let meets = row.conditions >> chain.len() & 1 == 1;
            let is_later = chain.last().is_none_or(|before| rows[*before].time <= row.time);
            let is_within = chain.first().is_none_or(|first| row.time - rows[*first].time <= window);
            let longer: Chain = chain.iter().copied().chain([number]).collect();
            if meets && is_later && is_within && accepts(&longer) {
                chains.push(longer);
            }
        }
    }
    longest
}

fn uses_no_row_twice(chain: &[usize]) -> bool {
    chain.iter().enumerate().all(|(position, row)| !chain[..position].contains(row))
}

fn always_increases(rows: &[Occurrence], chain: &[usize]) -> bool {
    chain.windows(2).all(|pair| rows[pair[0]].time < rows[pair[1]].time)
}

/// ClickHouse in its own words: events sorted by (time, step, row), a row once per step that it meets, and per level all
/// chains (`strict_once`) or the last (otherwise).
fn clickhouse(rows: &[Occurrence], modes: Modes, steps: usize, window: i64) -> usize {
    let mut events: Vec<(i64, usize, usize)> = vec![];
    for (number, row) in rows.iter().enumerate() {
        let met = (0..steps).filter(|step| row.conditions >> step & 1 == 1);
        events.extend(met.map(|step| (row.time, step + 1, number)));
        if row.conditions == 0 && modes.order {
            events.push((row.time, 0, number));
        }
    }
    events.sort();
    let mut levels: Vec<Vec<Chain>> = vec![vec![]; steps];
    let reached = |levels: &[Vec<Chain>]| levels.iter().take_while(|chains| !chains.is_empty()).count();
    for (time, step, row) in events {
        let has_begun = !levels[0].is_empty();
        if step == 0 {
            if has_begun {
                break;
            }
            continue;
        }
        let level = step - 1;
        if level > 0 && modes.deduplication && !levels[level].is_empty() {
            break;
        }
        if level > 0 && modes.order && has_begun && levels[level - 1].is_empty() {
            if modes.reentry {
                continue;
            }
            break;
        }
        let before = if level == 0 { vec![vec![]] } else { levels[level - 1].clone() };
        for chain in before {
            let is_within = chain.first().is_none_or(|first| time - rows[*first].time <= window);
            let is_unused = !modes.once || !chain.contains(&row);
            let is_later = !modes.increase || chain.last().is_none_or(|last| rows[*last].time < time);
            if is_within && is_unused && is_later {
                if !modes.once {
                    levels[level].clear();
                }
                levels[level].push(chain.into_iter().chain([row]).collect());
            }
        }
    }
    reached(&levels)
}

/// PostHog in its own words: per step the chain that entered it, as (its first time, its rows).
fn posthog(rows: &[Occurrence], is_strict: bool, steps: usize, window: i64) -> usize {
    let mut entered: Vec<Option<(i64, Chain)>> = vec![None; steps + 1];
    let mut furthest = 0;
    let mut rest: Vec<(usize, Occurrence)> = rows.iter().copied().enumerate().collect();
    while !rest.is_empty() && entered[steps].is_none() {
        let time = rest[0].1.time;
        let (instant, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, row)| row.time == time);
        rest = later;
        entered[0] = Some((time, vec![]));
        let met =
            |row: &Occurrence| (1..=steps).filter(|step| row.conditions >> (step - 1) & 1 == 1).collect::<Vec<_>>();
        let is_alike = instant.iter().all(|(_, row)| row.conditions == instant[0].1.conditions);
        let mut events: Vec<(usize, usize)> = vec![];
        for (number, row) in &instant {
            events.extend(met(row).into_iter().rev().map(|step| (step, *number)));
        }
        if !is_alike {
            events.sort_by_key(|(step, number)| (*step, *number));
        }
        // A strict interruption comes after all steps of its row.
        let mut turns: Vec<Turn> = vec![];
        if is_alike {
            for (number, row) in &instant {
                let own = events.iter().copied().filter(|(_, of)| of == number).collect();
                turns.push((own, is_strict.then(|| met(row))));
            }
        } else {
            turns.push((events, None));
        }
        for (events, interruption) in turns {
            for (step, number) in events {
                let Some((start, chain)) = entered[step - 1].clone() else { continue };
                let is_reached = entered[step].as_ref().is_some_and(|(other, _)| *other == start);
                let is_used = !is_alike && chain.contains(&number);
                if time - start <= window && !is_reached && !is_used {
                    entered[step] = Some((start, chain.into_iter().chain([number]).collect()));
                    furthest = furthest.max(step);
                }
            }
            if let Some(met) = interruption {
                (1..=steps).filter(|step| !met.contains(step)).for_each(|step| entered[step] = None);
            }
        }
    }
    furthest
}

/// Mixpanel by definition: the longest chain of rising times that begins at the first time of step 1.
fn mixpanel(rows: &[Occurrence], steps: usize, window: i64) -> usize {
    let entry = rows.iter().filter(|row| row.conditions & 1 == 1).map(|row| row.time).min();
    longest(rows, steps, window, &|chain| Some(rows[chain[0]].time) == entry && always_increases(rows, chain))
}

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

/// Checks that times are those of a chain that the rule allows.
fn expect_chain(rule: Rule, rows: &[Occurrence], window: i64, times: &[i64]) -> Result<(), TestCaseError> {
    let one_row_one_step = match rule {
        Rule::ClickHouse(modes) => modes.once,
        Rule::PostHog { .. } | Rule::Mixpanel => true,
    };
    let increases = match rule {
        Rule::ClickHouse(modes) => modes.increase,
        Rule::PostHog { .. } => false,
        Rule::Mixpanel => true,
    };
    let is_in_order = times.windows(2).all(|pair| pair[0] < pair[1] || (pair[0] == pair[1] && !increases));
    prop_assert!(is_in_order, "{:?}", times);
    prop_assert!(times.iter().all(|time| time - times[0] <= window));
    let accepts = |chain: &[usize]| {
        let at_its_times = chain.iter().zip(times).all(|(row, time)| rows[*row].time == *time);
        at_its_times && (!one_row_one_step || uses_no_row_twice(chain))
    };
    prop_assert_eq!(longest(rows, times.len(), window, &accepts), times.len());
    Ok(())
}

fn group() -> impl Strategy<Value = Vec<Occurrence>> {
    let conditions = prop_oneof![
        4 => (0..STEPS).prop_map(|step| 1u32 << step),
        3 => 0u32..1 << STEPS,
        1 => Just(0),
    ];
    (1i64..12).prop_flat_map(move |span| prop::collection::vec((0..span, conditions.clone()), 0..10)).prop_map(|rows| {
        let mut rows: Vec<Occurrence> =
            rows.into_iter().map(|(time, conditions)| Occurrence::new(time, conditions, 0)).collect();
        rows.sort_by_key(|row| (row.time, row.conditions));
        rows
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_rule_agrees_with_its_naive_form(rows in group(), steps in 1..=STEPS, window in 0i64..9) {
        // Steps beyond the funnel's are no conditions of it.
        let mut rows = rows;
        rows.iter_mut().for_each(|row| row.conditions &= (1 << steps) - 1);
        rows.sort_by_key(|row| (row.time, row.conditions));
        for text in rules() {
            let rule = Rule::parse(&text).unwrap();
            let (level, times) = run(&text, window, steps, &rows);
            let expected = match rule {
                Rule::ClickHouse(modes) => clickhouse(&rows, modes, steps, window),
                Rule::PostHog { is_strict } => {
                    let kept: Vec<Occurrence> =
                        rows.iter().copied().filter(|row| is_strict || row.conditions != 0).collect();
                    posthog(&kept, is_strict, steps, window)
                }
                Rule::Mixpanel => mixpanel(&rows, steps, window),
            };
            prop_assert_eq!(level, expected, "{}", text);
            prop_assert_eq!(times.len(), level, "{}", text);
            expect_chain(rule, &rows, window, &times)?;
        }
    }

    #[test]
    fn where_a_mode_has_a_definition_it_is_exact(rows in group(), window in 0i64..9) {
        let level = |mode: &str| run(mode, window, STEPS, &rows).0;
        prop_assert_eq!(level(""), longest(&rows, STEPS, window, &|_| true));
        prop_assert_eq!(level("strict_once"), longest(&rows, STEPS, window, &uses_no_row_twice));
        let increases = |chain: &[usize]| always_increases(&rows, chain);
        prop_assert_eq!(level("strict_increase strict_once"), longest(&rows, STEPS, window, &increases));
    }

    #[test]
    fn a_stricter_rule_never_reaches_further(rows in group(), window in 0i64..9) {
        let level = |mode: &str| run(mode, window, STEPS, &rows).0;
        for mode in rules() {
            prop_assert!(level(&mode) <= level(""), "{}", mode);
        }
        prop_assert!(level("strict_order") <= level("strict_order allow_reentry"));
        prop_assert!(level("posthog_strict") <= level("posthog_ordered") || rows.windows(2).any(|pair| pair[0].time == pair[1].time));
    }
}
