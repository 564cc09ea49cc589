//! What SQL users read about the three functions.

use super::super::documentation::{Example, Manual, Section, Unlike};

/// What the three have in common.
const FUNNEL: Manual = Manual {
    section: Section::Funnels,
    syntax: &[],
    summary: "",
    details: "",
    arguments: &[
        ("times", "List of timestamps of any unit, in journey order."),
        ("touchpoints", "List of text, one per time."),
        ("channels", "List of text, one per time."),
        ("steps", "List of 1 to 32 texts, a constant or a column: see Steps."),
        (
            "window",
            "Interval, duration, text such as `'7 days'` or whole microseconds from the first touch of a chain to its \
             last, its end included; a constant or a column. Not of months, which have no fixed length.",
        ),
        (
            "options",
            "A text, one of the modes of `window_funnel`; or a struct of constants, `named_struct('entry', 'first')` or \
             `{entry: 'first'}`, each field optional: see Options.",
        ),
    ],
    example: Example { query: "", rows: &[] },
    returns: "",
    parts: &[
        (
            "Steps",
            "a step is `*` (any touch), `touchpoint`, `channel:touchpoint`, or such alternatives joined by `|`. A \
             touchpoint's name may hold a `:` itself: a step matches when it equals the touchpoint, or the channel, \
             `:` and the touchpoint put together. Blanks around an alternative do not count, case does.",
        ),
        (
            "Chain",
            "touches of the journey, each after the one before, that serve the steps in their order from step 1 on, \
             none skipped but optional ones, the last no later than the window after the first. One touch serves one \
             step. The furthest step is the deepest that any chain reaches. The witness is the chain that arrives \
             there first; of those, the one that entered last; of those, the one that skips the fewest steps just \
             before the last and has the latest touch there (the earliest, where one touch enters: with entry `first` \
             and `every`), and so on back to the first.",
        ),
        ("Options", OPTIONS),
        (
            "Modes",
            "levels and times are those of `window_funnel` over the touches as rows; touches of one time are taken as \
             there, step by step, whatever their order. Of several touches of one time that match, the witness has \
             the first in journey order. The empty text is the default mode of ClickHouse. A window that is a whole \
             number counts microseconds here, seconds there.",
        ),
    ],
    nulls: "a touch whose time is null does not count; one without a touchpoint matches `*` only, one without a \
            channel no `channel:touchpoint`; a null step is an error; an option that is null is not given; null when \
            an argument is null, or the column that is held.",
    order: "that of the lists, which is to be the order of time; that is not checked.",
    ties: "touches of equal time are taken in journey order, but for modes.",
    memory: "4 bytes per text element, and for the journey in hand 8 bytes per touch that serves a step from the second \
             on. With options 24 bytes per touch that matches a step, about 24 per step that it serves and 16 per \
             excluded touch and gap between steps; with a mode 16 more per touch. Without options a single \
             pass; with `any` each entry costs as many searches as there are steps, squared.",
    errors: "another type, a wrong option, a step that cannot match, at planning where steps and window are constants; \
             lists that differ in length, a negative window. Options that together have no clear meaning: `any` with \
             `next`, gaps, optional steps, or exclusions between some of the steps; `every` with `remove`; `among` \
             where nothing can stand between two steps; what excludes all that a step asks for next to it; an optional \
             step that is the same as a required one after it.",
    source: "ClickHouse `windowFunnel`, default mode; the options are those of PostHog (`on_excluded` `remove`, \
             `optional`, `any`) and Mixpanel (`entry`, `on_excluded` `end`, `hold`).",
    differs: &[
        Unlike {
            whom: "ClickHouse's `windowFunnel`",
            by: &[
                "touches of equal time are taken in journey order, where it sorts them by step number: C, B, A at one \
                 instant reach 1, there 3",
                "a touch serves one step of a chain, where it takes a touch that matches several steps once for each: \
                 one touch that is both A and B, then C, reach 1, there 3, and 1 with its `strict_once`",
            ],
        },
        Unlike {
            whom: "PostHog's and Mixpanel's funnels",
            by: &[
                "a repeat of a step may serve it as well as the first: after A, B, X, B, C with X excluded between B \
                 and C both see a chain that X has hit, where here the second B serves step 2 and C is reached",
            ],
        },
        Unlike {
            whom: "PostHog's funnels",
            by: &[
                "exclusions and `next` hold among touches of one time too, in journey order: A, X, B at one instant \
                 with X excluded reach 1, there 2",
                "an exclusion may be a step of its range, where it refuses that; only what excludes all that two \
                 neighbouring steps ask for is refused",
            ],
        },
        Unlike {
            whom: "Mixpanel's funnels",
            by: &[
                "steps less than two seconds apart have an order, where it takes them in any",
                "with `every` a gap too long or a touch where `next` is asked ends an attempt too, where it begins \
                 anew only after a conversion, the window or an exclusion",
            ],
        },
    ],
};

const OPTIONS: &str = "each may be left out.\n\
    - `order`: a text for all steps (`next` from the second on), or a list of one per step. `eventually`: after the step \
    before. `next`: and no other touch that takes part between the two. `any`: neighbouring steps of this kind, two \
    at least, are a run; a touch is put in the first step of the run that it matches and that is not served, and the step after the run waits \
    for all of it. With `any` each entry has one chain, which takes every touch that it can; a run that begins with \
    step 1 is entered by any of its steps; of a run served in part each step counts one.\n\
    - `entry`: which touches begin chains. `last`: all. `first`: only the first that matches step 1 (and holds a value). \
    `every`: the first, and the first after each attempt is over, one attempt at a time. An attempt is over after the \
    touch that serves its last step, or else at the first touch from which on none of its chains can go on: the window \
    has closed, every gap is too long, or something excluded or not `next` has come.\n\
    - `min_gaps`, `max_gaps`: lists of intervals, durations, texts such as `'1 hour'` or whole microseconds, one per \
    step, null for no limit: the time from the step before that the chain served, both included. Element 1 is null.\n\
    - `excluded`: touches, in the syntax of a step, none of which may lie between two touches of a chain: a list whose \
    element `i` is about steps `i` and `i + 1` (null for none), or a text for all. A chain that skips steps answers for \
    every element that it passes. A touch of the chain itself does not count.\n\
    - `on_excluded`: `end`: there is no such chain; the steps before the excluded touch count. `remove`: the furthest \
    step is taken as if nothing were excluded; a chain counts only if it reaches that step with nothing excluded between \
    its touches, and, if that is not the last step, nothing excluded between it and the next follows while its window \
    is open (of the chains with the same last touch the one that entered last is asked). If none is left the journey is \
    removed: 0, and no attempts.\n\
    - `optional`: numbers of steps that a chain may skip; never 1.\n\
    - `hold`: a list parallel to `times`, of any type, a column: all touches of a chain hold the value of its first. A \
    touch whose value is null serves no step; it may still be what stands between two others. Maps whose keys stand in \
    another order differ.\n\
    - `among`: list of texts in the syntax of a step: the touches that take part besides those that match a step, and so \
    stand between two steps of order `next` (or a mode of that kind). All by default.\n\
    - `mode`: as the text. It stands alone or with `among`.";

/// `journey_funnel`.
pub(super) const FURTHEST: Manual = Manual {
    syntax: &["journey_funnel(times, touchpoints, channels, steps, window[, options])"],
    summary: "Returns the furthest step of a funnel that a journey reaches, in order, within a window counted from the \
              touch that served step 1.",
    example: Example {
        query: "
            select
              journey_funnel(
                times, touchpoints, channels, ['view', 'web:cart|store:buy'], interval '1 day') as furthest,
              journey_funnel(
                times, touchpoints, channels, ['view', 'web:cart|store:buy'], interval '1 day',
                named_struct('max_gaps', [null, interval '2 hours'])) as within_two_hours
            from (values
              ([timestamp '2026-01-05', timestamp '2026-01-06'], ['view', 'buy'], ['web', 'store']),
              ([timestamp '2026-01-05', timestamp '2026-01-06'], ['view', 'buy'], ['web', 'app'])
            ) as journeys(times, touchpoints, channels)
        ",
        rows: &["furthest | within_two_hours", "2 | 1", "1 | 1"],
    },
    returns: "`Int32` from 0 (no touch matches step 1, or the journey is removed) to the number of steps. \
              With `any` the number of steps that were served.",
    ..FUNNEL
};

/// `journey_funnel_positions`.
pub(super) const POSITIONS: Manual = Manual {
    syntax: &["journey_funnel_positions(times, touchpoints, channels, steps, window[, options])"],
    summary: "Returns the positions of the touches by which a journey reaches its furthest step of a funnel, one \
              per step.",
    example: Example {
        query: "
            select journey_funnel_positions(
              [timestamp '2026-01-05', timestamp '2026-01-06', timestamp '2026-01-07'],
              ['view', 'view', 'buy'], ['web', 'app', 'web'],
              ['view', 'compare', 'buy'], interval '7 days', named_struct('optional', [2])) as positions
        ",
        rows: &["positions", "[2, , 3]"],
    },
    returns: "list of `Int32`, positions from 1 by step, null for a step that was skipped, up to the last that was \
              served; empty where the furthest step is 0.",
    ..FUNNEL
};

/// `journey_funnel_attempts`.
pub(super) const ATTEMPTS: Manual = Manual {
    syntax: &["journey_funnel_attempts(times, touchpoints, channels, steps, window[, options])"],
    summary: "Returns how a journey entered a funnel: the touches by which it reached its furthest step, and its last \
              entry.",
    details: "While the window of its last entry is open a journey may still get further; after that it cannot.",
    example: Example {
        query: "
            select unnest(journey_funnel_attempts(
              [timestamp '2026-01-05', timestamp '2026-01-06', timestamp '2026-01-07'],
              ['view', 'buy', 'view'], ['web', 'web', 'app'],
              ['view', 'buy'], interval '7 days', named_struct('entry', 'every'))) as attempt
        ",
        rows: &["attempt", "{step_positions: [1, 2], last_entry: 1}", "{step_positions: [3], last_entry: 3}"],
    },
    returns: "list of one record `(step_positions, last_entry)` for a journey that enters, of none for one that does \
              not: what `journey_funnel_positions` returns, and the position of the newest touch that serves step 1, \
              with `any` a step of the first run (of a journey that reaches the last step: up to there; with entry \
              `first` the first). With entry `every` a \
              record per attempt.",
    ..FUNNEL
};
