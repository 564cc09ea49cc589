//! Streams on which the well-known engines disagree: one funnel A→B→C within ten seconds, each rule's furthest step.
//!
//! ClickHouse's columns were read from its source and are what it answers; PostHog's from `funnel-udf/src/steps.rs`;
//! Mixpanel's from its documentation, without the two seconds within which it takes steps as interchangeable (with them
//! `C1 B1 A1` would reach 3).

use super::super::occurrences::Occurrence;
use super::rule::Rule;
use super::{Funnel, Walk};

/// Rows written as in `AB1 C2`: the letters of the steps matched (`X` matches none), then the second.
pub(super) fn rows(stream: &str) -> Vec<Occurrence> {
    let row = |text: &str| {
        let digits = text.find(|character: char| character.is_ascii_digit()).unwrap();
        let steps = text[..digits].bytes().filter(|letter| *letter != b'X').map(|letter| 1 << (letter - b'A'));
        Occurrence::new(text[digits..].parse().unwrap(), steps.sum(), 0)
    };
    let mut rows: Vec<Occurrence> = stream.split_whitespace().map(row).collect();
    rows.sort_by_key(|row| (row.time, row.conditions));
    rows
}

/// The level and the times that a mode gives on rows in order.
pub(super) fn run(mode: &str, window: i64, step_count: usize, rows: &[Occurrence]) -> (usize, Vec<i64>) {
    let rule = Rule::parse(mode).unwrap();
    let kept: Vec<Occurrence> =
        rows.iter().copied().filter(|row| row.conditions != 0 || rule.keeps_unmatched()).collect();
    let funnel = Funnel { rule, window, step_count };
    let (mut walk, mut without_times) = (Walk::new(funnel, true), Walk::new(funnel, false));
    walk.group(&kept);
    without_times.group(&kept);
    assert_eq!(walk.level(), without_times.level());
    (walk.level(), walk.times().to_vec())
}

pub(in super::super) const MODES: [&str; 10] = [
    "",
    "strict_increase",
    "strict_once",
    "strict_increase, strict_once",
    "strict_deduplication",
    "strict_order",
    "strict_order, allow_reentry",
    "posthog_ordered",
    "posthog_strict",
    "mixpanel",
];

pub(in super::super) const STREAMS: [(&str, [usize; 10]); 13] = [
    ("A1 B2 C3", [3, 3, 3, 3, 3, 3, 3, 3, 3, 3]),
    ("A1 X2 B3 C4", [3, 3, 3, 3, 3, 1, 1, 3, 1, 3]),
    ("A1 C2 B3 C4", [3, 3, 3, 3, 3, 1, 3, 3, 1, 3]),
    ("A1 B2 B3 C4", [3, 3, 3, 3, 2, 3, 3, 3, 3, 3]),
    ("A1 A2 B3 B4 C5", [3, 3, 3, 3, 2, 3, 3, 3, 3, 3]),
    ("A1 X2 A3 B4 C5", [3, 3, 3, 3, 3, 1, 1, 3, 3, 3]),
    ("A1 C2 A3 B4 C5", [3, 3, 3, 3, 3, 1, 3, 3, 3, 3]),
    ("A1 A8 B12 C15", [3, 3, 3, 3, 3, 3, 3, 3, 3, 1]),
    ("A1 B11 C12", [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
    ("C1 B1 A1", [3, 1, 3, 1, 3, 3, 3, 3, 3, 1]),
    ("AB1 C2", [3, 1, 1, 1, 3, 3, 3, 1, 1, 1]),
    ("A1 A2 B2 C3", [3, 1, 3, 3, 3, 3, 3, 3, 3, 3]),
    ("A1 B2 A3 B4 C5", [3, 3, 3, 3, 2, 3, 3, 3, 3, 3]),
];

/// Where rows of one instant could share out the steps, `strict_once` finds how; PostHog gives the first row to step 1
/// (of this pair the second, if they come in the other order: its answer would be 2).
pub(in super::super) const SHARED: (&str, [usize; 10]) = ("AB1 AC1", [3, 1, 2, 1, 3, 3, 3, 1, 1, 1]);

#[test]
fn each_rule_answers_as_its_engine() {
    for (stream, levels) in STREAMS.into_iter().chain([SHARED]) {
        for (mode, level) in MODES.iter().zip(levels) {
            let (found, times) = run(mode, 10, 3, &rows(stream));
            assert_eq!((found, times.len()), (level, level), "{stream}: {mode}");
        }
    }
}

#[test]
fn every_two_rules_differ_on_some_stream() {
    for (left, name) in MODES.iter().enumerate() {
        for (right, other) in MODES.iter().enumerate().skip(left + 1) {
            assert!(
                STREAMS.iter().chain([&SHARED]).any(|(_, levels)| levels[left] != levels[right]),
                "{name}, {other}"
            );
        }
    }
}

#[test]
fn the_times_are_those_of_the_latest_entry_and_with_posthog_of_the_first_arrival() {
    for (mode, stream, times) in [
        ("", "A1 A2 B3 B4 C5", vec![2, 4, 5]),
        ("", "A1 B2 A3 B4", vec![3, 4]),
        ("", "A1 B2 A3", vec![1, 2]),
        ("strict_increase", "A1 B1 A2 B3", vec![2, 3]),
        ("strict_once", "A1 AB2 B2 C2", vec![2, 2, 2]),
        ("strict_once", "A1 AB2 C2", vec![1, 2, 2]),
        ("strict_deduplication", "A1 B2 A3 B4 C5", vec![1, 2]),
        ("strict_order", "A1 A2 X3 B4", vec![2]),
        ("posthog_ordered", "A1 B2 A3 B4", vec![1, 2]),
        ("posthog_strict", "A1 B2 X3 A4 B5", vec![1, 2]),
        ("mixpanel", "A1 A2 B3 B4 C5", vec![1, 3, 5]),
    ] {
        assert_eq!(run(mode, 10, 3, &rows(stream)).1, times, "{mode}: {stream}");
    }
}

/// Of two steps A1 B2 A3 B4 reaches the last at 2, and the pass ends.
#[test]
fn where_the_last_step_is_reached_the_first_arrival_counts() {
    for mode in MODES {
        assert_eq!(run(mode, 10, 2, &rows("A1 B2 A3 B4")), (2, vec![1, 2]), "{mode}");
        assert_eq!(run(mode, 0, 2, &rows("A1 B2 A3 B4")).0, 1, "{mode}");
    }
    for (mode, times) in [("", [3, 4]), ("strict_once", [3, 4]), ("strict_order", [3, 4]), ("mixpanel", [1, 2])] {
        assert_eq!(run(mode, 10, 3, &rows("A1 B2 A3 B4")).1, times, "{mode}");
    }
}

#[test]
fn the_end_of_the_window_is_included_and_far_times_do_not_overflow() {
    for mode in MODES {
        let far = [Occurrence::new(i64::MIN, 1, 0), Occurrence::new(i64::MAX, 2, 0)];
        assert_eq!(run(mode, 10, 2, &far).0, 1, "{mode}");
        assert_eq!(run(mode, 9, 2, &rows("A1 B10")).0, 2, "{mode}");
        assert_eq!(run(mode, 8, 2, &rows("A1 B10")).0, 1, "{mode}");
        assert_eq!(run(mode, 0, 2, &rows("")).0, 0, "{mode}");
        assert_eq!(run(mode, 0, 2, &rows("X1 B2")).0, 0, "{mode}");
        assert_eq!(run(mode, 0, 1, &rows("X1 A2 X3")), (1, vec![2]), "{mode}");
    }
}

#[test]
fn thirty_two_steps_fit() {
    let all: Vec<Occurrence> = (0..32).map(|step| Occurrence::new(i64::from(step), 1 << step, 0)).collect();
    let at_once = vec![Occurrence::new(7, u32::MAX, 0); 40];
    for mode in MODES {
        assert_eq!(run(mode, 31, 32, &all), (32, (0..32).collect()), "{mode}");
        assert_eq!(run(mode, 30, 32, &all).0, 31, "{mode}");
    }
    for (mode, level) in
        [("", 32), ("strict_once", 32), ("posthog_ordered", 32), ("posthog_strict", 32), ("mixpanel", 1)]
    {
        assert_eq!(run(mode, 0, 32, &at_once).0, level, "{mode}");
    }
    assert_eq!(run("strict_once", 0, 32, &at_once[..31]).0, 31);
    assert_eq!(run("strict_once, strict_deduplication", 0, 32, &at_once).0, 2);
}

#[test]
fn strict_once_finds_the_rows_by_which_most_steps_are_met() {
    for (stream, level) in [
        // The row that is A and B has to be the B, the other the A; and so on along the chain.
        ("A1 AB1", 2),
        ("AC1 AB1 B1", 3),
        ("ABC1 AB1 A1", 3),
        ("ABC1 ABC1", 2),
        ("AB1 BC2 C2", 3),
        ("AB1 BC2", 2),
        // A chain of before, and three steps by two rows.
        ("A1 BCD2 BC2", 3),
        ("A1 BCD2 BC2 B2", 4),
    ] {
        assert_eq!(run("strict_once", 10, 4, &rows(stream)).0, level, "{stream}");
    }
}

#[test]
fn a_group_of_ties_is_not_quadratic() {
    let ties = vec![Occurrence::new(1, 0b1011, 0); 300_000];
    for mode in MODES.into_iter().chain(["strict_once, strict_deduplication"]) {
        assert!(run(mode, 10, 4, &ties).0 > 0, "{mode}");
    }
    let repeats: Vec<Occurrence> =
        (0..300_000).map(|time| Occurrence::new(time / 3, 1 << (time / 100_000), 0)).collect();
    for mode in MODES {
        assert!(run(mode, i64::MAX, 4, &repeats).0 > 0, "{mode}");
    }
}
