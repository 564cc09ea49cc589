//! The functions as SQL, without options.

use crate::functions::elements::testing::{SELECT_JOURNEYS, error_of, in_every_encoding, rows_of};

/// Furthest step and witness of the journeys that a query returns.
fn funnel_sql(journeys: &str, steps: &str, window: &str) -> String {
    let arguments = format!("times, touchpoints, channels, {steps}, {window}");
    format!(
        "select id, journey_funnel({arguments}), journey_funnel_positions({arguments}) from ({journeys}) order by id"
    )
}

#[tokio::test]
async fn journeys_are_matched_in_every_encoding() {
    for journeys in in_every_encoding() {
        let sql = funnel_sql(&journeys, "['home', '*|never', 'web:home|app:home']", "interval '30 seconds'");
        // From the home of 10:00:05: the one of 10:00:00 is 30.5 seconds before the end.
        assert_eq!(rows_of(&sql).await, ["1 | 3 | [2, 3, 4]", "2 | 0 | []", "3 | 0 | []", "4 |  | "], "{journeys}");
    }
}

#[tokio::test]
async fn a_step_of_a_channel_matches_on_that_channel_only() {
    let sql = funnel_sql(SELECT_JOURNEYS, "['web:home', 'store:product']", "interval '1 hour'");
    assert_eq!(rows_of(&sql).await, ["1 | 2 | [1, 3]", "2 | 0 | []", "3 | 0 | []", "4 |  | "]);
    let sql = funnel_sql(SELECT_JOURNEYS, "['web:home', 'web:product']", "interval '1 hour'");
    assert_eq!(rows_of(&sql).await[0], "1 | 1 | [1]");
}

#[tokio::test]
async fn a_touch_without_time_does_not_count() {
    let sql = funnel_sql(SELECT_JOURNEYS, "['*', '*']", "interval '1 hour'");
    assert_eq!(rows_of(&sql).await[..2], ["1 | 2 | [1, 2]", "2 | 1 | [2]"]);
}

#[tokio::test]
async fn the_window_counts_in_microseconds_and_includes_its_end() {
    let steps = "['store:home', 'web:home']";
    for (window, furthest) in [
        ("25500000", 2),
        ("25499999", 1),
        ("interval '25.5 seconds'", 2),
        ("interval '25 seconds'", 1),
        ("arrow_cast(26, 'Duration(s)')", 2),
        ("0", 1),
    ] {
        let sql = funnel_sql(SELECT_JOURNEYS, steps, window);
        assert!(rows_of(&sql).await[0].starts_with(&format!("1 | {furthest} |")), "{window}");
    }
}

#[tokio::test]
async fn steps_and_window_may_differ_from_row_to_row() {
    let sql = format!(
        "with funnels(funnel, steps, attempt_window) as (values \
             ('long', ['home', 'product', 'home'], interval '1 hour'), \
             ('short', ['home', 'product'], interval '10 seconds'), \
             ('again', ['home', 'product', 'home'], interval '20 seconds'), \
             ('none', null, interval '1 hour')) \
         select funnel, journey_funnel(times, touchpoints, channels, steps, attempt_window), \
                journey_funnel_positions(times, touchpoints, channels, arrow_cast(steps, 'List(Utf8View)'), attempt_window) \
         from funnels cross join ({SELECT_JOURNEYS}) where id = 1 order by funnel"
    );
    assert_eq!(rows_of(&sql).await, ["again | 2 | [2, 3]", "long | 3 | [2, 3, 4]", "none |  | ", "short | 1 | [1]"]);
}

#[tokio::test]
async fn matched_touches_unnest_into_rows() {
    let sql = format!(
        "select step, times[position] as reached_at from ( \
             select times, unnest(positions) as position, unnest(range(1, cast(cardinality(positions) as bigint) + 1)) as step \
             from (select times, journey_funnel_positions(times, touchpoints, channels, ['product', 'home'], 60000000) \
                   as positions from ({SELECT_JOURNEYS}))) order by step, reached_at"
    );
    assert_eq!(
        rows_of(&sql).await,
        ["1 | 2026-01-01T10:00:20", "1 | 2026-01-01T11:00:00", "2 | 2026-01-01T10:00:30.500"]
    );
}

#[tokio::test]
async fn a_journey_that_enters_has_one_attempt_with_its_last_entry() {
    for journeys in in_every_encoding() {
        let sql = format!(
            "select id, attempt['step_positions'], attempt['last_entry'] from ( \
                 select id, unnest(journey_funnel_attempts(times, touchpoints, channels, ['home', 'product'], 60000000)) \
                 as attempt from ({journeys})) order by id"
        );
        assert_eq!(rows_of(&sql).await, ["1 | [2, 3] | 2"], "{journeys}");
    }
    let sql = format!(
        "select journey_funnel_attempts(times, touchpoints, channels, ['web:home', 'store:cart'], 60000000) \
         from ({SELECT_JOURNEYS}) where id = 1"
    );
    assert_eq!(rows_of(&sql).await, ["[{step_positions: [1], last_entry: 4}]"]);
}

#[tokio::test]
async fn null_arguments_give_null() {
    for arguments in [
        "null, ['a'], ['w'], ['a'], 1",
        "[now()], null, ['w'], ['a'], 1",
        "[now()], ['a'], null, ['a'], 1",
        "[now()], ['a'], ['w'], null, 1",
        "[now()], ['a'], ['w'], ['a'], null",
    ] {
        let sql = format!("select journey_funnel({arguments}), journey_funnel_positions({arguments})");
        assert_eq!(rows_of(&sql).await, [" | "], "{arguments}");
    }
}

#[tokio::test]
async fn wrong_calls_are_refused() {
    for (arguments, message) in [
        ("[now()], ['a'], ['w'], ['a']", "expected 5 arguments, or 6 with options, got 4"),
        ("['a'], ['a'], ['w'], ['a'], 1", "expected a list of timestamps"),
        ("[now()], [1], ['w'], ['a'], 1", "expected a list of text"),
        ("[now()], ['a'], ['w'], 'a', 1", "expected a list of text, got Utf8"),
        ("[now()], ['a'], ['w'], ['a'], 1.5", "expected an interval or whole microseconds"),
        ("[now()], ['a', 'b'], ['w'], ['a'], 1", "times has 1 elements where touchpoints has 2"),
        ("[now()], ['a'], ['w'], ['a'], -1", "must not be negative"),
        ("[now()], ['a'], ['w'], ['a'], interval '1 month'", "months has no fixed length"),
        ("[now()], ['a'], ['w'], [], 1", "expected at least one step"),
        ("[now()], ['a'], ['w'], ['a', null], 1", "step 2 is null"),
        ("[now()], ['a'], ['w'], ['a|'], 1", "step 1 ('a|') has an empty alternative"),
    ] {
        for function in ["journey_funnel", "journey_funnel_positions", "journey_funnel_attempts"] {
            let error = error_of(&format!("select {function}({arguments})")).await;
            assert!(error.contains(&format!("{function}: ")) && error.contains(message), "{arguments}: {error}");
        }
    }
}
