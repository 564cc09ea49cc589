//! The functions as SQL, with options: an answer each that would be another if the option were ignored.

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, Int32Type, TimestampMicrosecondType};
use datafusion::common::Result;
use datafusion::prelude::SessionContext;

use super::super::arguments::list_type;
use super::super::window_funnel::golden::{MODES, SHARED, STREAMS};
use super::options::check_hold;
use crate::functions::elements::testing::{error_of, rows_of};
use crate::functions::register_all;

/// The lists of a journey written as in `A1@web B2`: touchpoint, second, and channel if there is one.
fn lists(journey: &str) -> String {
    let (mut times, mut touchpoints, mut channels) = (vec![], vec![], vec![]);
    for touch in journey.split_whitespace() {
        let (touch, channel) = touch.split_once('@').unwrap_or((touch, ""));
        let digits = touch.find(|character: char| character.is_ascii_digit()).unwrap();
        let second: u32 = touch[digits..].parse().unwrap();
        times.push(format!("timestamp '2026-01-01T00:00:{second:02}'"));
        touchpoints.push(format!("'{}'", &touch[..digits]));
        channels.push(if channel.is_empty() { "null".to_owned() } else { format!("'{channel}'") });
    }
    format!("[{}], [{}], [{}]", times.join(", "), touchpoints.join(", "), channels.join(", "))
}

/// What the functions say of a journey in the funnel A→B→C within ten seconds: furthest step, positions, attempts.
async fn abc(journey: &str, options: &str) -> [String; 3] {
    let steps = "['A|AB|AC', 'B|AB', 'C|AC'], interval '10 seconds'";
    let arguments = match options {
        "" => format!("times, touchpoints, channels, {steps}"),
        options => format!("times, touchpoints, channels, {steps}, {options}"),
    };
    let [times, touchpoints, channels] = ["times", "touchpoints", "channels"];
    let calls = ["journey_funnel", "journey_funnel_positions", "journey_funnel_attempts"];
    let calls = calls.map(|function| format!("{function}({arguments})")).join(", ");
    let lists = lists(journey);
    let sql = format!(
        "select {calls} from (select column1 as {times}, column2 as {touchpoints}, column3 as {channels} from (values ({lists})))"
    );
    let row = rows_of(&sql).await.remove(0);
    let cells: Vec<&str> = row.split(" | ").collect();
    [cells[0].to_owned(), cells[1].to_owned(), cells[2].to_owned()]
}

#[tokio::test]
async fn each_option_decides() {
    for (options, journey, furthest, positions, without) in [
        ("{order: 'next'}", "A1 X2 B3 C4", "1", "[1]", "[1, 3, 4]"),
        ("{order: 'next'}", "A1 B2 X3 C4 A5 B6 C7", "3", "[5, 6, 7]", "[1, 2, 4]"),
        ("{order: ['eventually', 'eventually', 'next']}", "A1 X2 B3 X4 C5", "2", "[1, 3]", "[1, 3, 5]"),
        ("{order: ['eventually', 'next', 'eventually']}", "A1 B2 A3 X4 B5 X6 C7", "3", "[1, 2, 7]", "[3, 5, 7]"),
        ("{order: 'next', among: ['X']}", "A1 X2 B3 C4", "1", "[1]", "[1, 3, 4]"),
        ("{order: 'next', among: ['Y']}", "A1 X2 B3 Y4 C5", "2", "[1, 3]", "[1, 3, 5]"),
        ("{order: 'next'}", "A1 X2 B3 Y4 C5", "1", "[1]", "[1, 3, 5]"),
        ("{order: 'next', among: []}", "A1 C2 B3 C4", "1", "[1]", "[1, 3, 4]"),
        ("{order: 'any'}", "C1 B2 A3", "3", "[3, 2, 1]", "[3]"),
        ("{order: 'any'}", "C1 AB2 AB3", "3", "[2, 3, 1]", "[2, 3]"),
        ("{order: ['eventually', 'any', 'any']}", "A1 C2 B3", "3", "[1, 3, 2]", "[1, 3]"),
        ("{order: ['eventually', 'any', 'any']}", "C1 A2 C3", "2", "[2, , 3]", "[2]"),
        ("{order: ['any', 'any', 'eventually']}", "B1 C2 A3 C4", "3", "[3, 1, 4]", "[3]"),
        ("{entry: 'first'}", "A1 A8 B12 C15", "1", "[1]", "[2, 3, 4]"),
        ("{entry: 'first'}", "A1 A2 B3 C4", "3", "[1, 3, 4]", "[2, 3, 4]"),
        ("{entry: 'first'}", "A1 B2 B3 C4", "3", "[1, 2, 4]", "[1, 3, 4]"),
        ("{entry: 'every'}", "A1 A2 B3 C4", "3", "[1, 3, 4]", "[2, 3, 4]"),
        ("{min_gaps: [null, interval '2 seconds', null]}", "A1 A2 B3 C4", "3", "[1, 3, 4]", "[2, 3, 4]"),
        ("{min_gaps: [null, 2000000, null]}", "A1 B2 C3", "1", "[1]", "[1, 2, 3]"),
        ("{max_gaps: [null, null, interval '1 second']}", "A1 B2 C4", "2", "[1, 2]", "[1, 2, 3]"),
        ("{max_gaps: [null, null, '1 second']}", "A1 B2 C4 B5 C6", "3", "[1, 4, 5]", "[1, 2, 3]"),
        ("{excluded: 'X'}", "A1 X2 B3 C4", "1", "[1]", "[1, 3, 4]"),
        ("{excluded: 'X'}", "A1 X2 B3 C4 A5 B6 C7", "3", "[5, 6, 7]", "[1, 3, 4]"),
        ("{excluded: [null, 'X|Y']}", "A1 X2 B3 Y4 C5", "2", "[1, 3]", "[1, 3, 5]"),
        ("{excluded: [null, 'X'], on_excluded: 'end'}", "A1 B2 X3 C4", "2", "[1, 2]", "[1, 2, 4]"),
        ("{excluded: [null, 'X'], on_excluded: 'end'}", "A1 B2 X3 C4 B5 C6", "3", "[1, 5, 6]", "[1, 2, 4]"),
        ("{excluded: 'web:X'}", "A1 X2@web B3 C4", "1", "[1]", "[1, 3, 4]"),
        ("{excluded: 'web:X'}", "A1 X2@store B3 X4@web C5", "2", "[1, 3]", "[1, 3, 5]"),
        ("{excluded: [null, 'X'], on_excluded: 'remove'}", "A1 B2 X3 C4", "0", "[]", "[1, 2, 4]"),
        ("{excluded: [null, 'X'], on_excluded: 'remove'}", "A1 B2 X3 C4 A5 B6", "0", "[]", "[1, 2, 4]"),
        ("{excluded: [null, 'X'], on_excluded: 'remove'}", "A1 B2 X3 C4 A5 B6 C7", "3", "[5, 6, 7]", "[1, 2, 4]"),
        ("{excluded: 'X', on_excluded: 'remove'}", "A1 X11", "0", "[]", "[1]"),
        // The window of the earlier entry has closed, but the later one is asked.
        ("{excluded: 'X', on_excluded: 'remove'}", "A1 A5 B6 X12", "0", "[]", "[2, 3]"),
        ("{order: 'any', excluded: 'X', on_excluded: 'remove'}", "A1 A5 B6 X12", "0", "[]", "[2, 3]"),
        ("{order: 'any', excluded: 'X', on_excluded: 'remove'}", "A1 A5 C6 X16", "2", "[2, , 3]", "[1]"),
        ("{optional: [2]}", "A1 C2", "3", "[1, , 2]", "[1]"),
        ("{optional: [2]}", "A1 B2 A3 C4", "3", "[3, , 4]", "[1, 2, 4]"),
        ("{optional: [2, 3]}", "A1 C2", "3", "[1, , 2]", "[1]"),
        ("{hold: channels}", "A1@web B2@app B3@web C4@app", "2", "[1, 3]", "[1, 3, 4]"),
        ("{hold: channels}", "A1@web A2 B3", "1", "[1]", "[2, 3]"),
        (
            "{hold: [map([channels[1]], [1]), map([channels[2]], [1]), map([channels[3]], [1])]}",
            "A1@web B2@app B3@web",
            "2",
            "[1, 3]",
            "[1, 2]",
        ),
        ("{hold: channels, entry: 'first'}", "A1@web A2@app B3@app", "1", "[1]", "[2, 3]"),
        ("{hold: touchpoints, order: 'any'}", "AB1 B2 AB3", "2", "[1, 3]", "[1, 2]"),
        ("{mode: 'strict_order'}", "A1 X2 B3 C4", "1", "[1]", "[1, 3, 4]"),
        ("{mode: 'strict_order', among: ['Y']}", "A1 X2 B3 Y4 C5", "2", "[1, 3]", "[1, 3, 5]"),
        ("'mixpanel'", "A1 A2 B3 C4", "3", "[1, 3, 4]", "[2, 3, 4]"),
    ] {
        assert_ne!(positions, without, "{journey} {options}: the option has to decide");
        let [level, chain, attempts] = abc(journey, options).await;
        assert_eq!((level.as_str(), chain.as_str()), (furthest, positions), "{journey} {options}");
        assert_eq!(attempts.contains(&format!("step_positions: {positions},")), furthest != "0", "{journey} {options}");
        assert_eq!(abc(journey, "").await[1], without, "{journey}");
    }
}

#[tokio::test]
async fn an_option_that_nothing_falls_under_changes_nothing() {
    for (options, journey, positions) in [
        ("{order: 'next'}", "A1 X2 A3 B4 C5", "[3, 4, 5]"),
        ("{order: 'next', among: ['Y']}", "A1 X2 B3 C4", "[1, 3, 4]"),
        ("{order: ['eventually', 'any', 'any']}", "AB1 AB2 C3", "[1, 2, 3]"),
        ("{entry: 'last'}", "A1 A2 B3 C4", "[2, 3, 4]"),
        ("{excluded: 'X'}", "A1 X2 A3 B4 C5", "[3, 4, 5]"),
        ("{excluded: 'web:X'}", "A1 X2@store B3 C4", "[1, 3, 4]"),
        ("{excluded: 'X', on_excluded: 'remove'}", "A1 X12", "[1]"),
        ("{optional: [2]}", "A1 B2 C3", "[1, 2, 3]"),
        ("{optional: [2, 3]}", "A1 B2", "[1, 2]"),
        ("{optional: []}", "A1 C2", "[1]"),
        ("{mode: null, entry: null, hold: null}", "A1 A2 B3 C4", "[2, 3, 4]"),
    ] {
        let with = abc(journey, options).await;
        assert_eq!((with[1].as_str(), &with), (positions, &abc(journey, "").await), "{journey} {options}");
    }
}

#[tokio::test]
async fn every_entry_is_an_attempt_until_it_is_over() {
    for (options, journey, attempts) in [
        ("", "A1 B2 A3 B4 C5 A6", "[{step_positions: [3, 4, 5], last_entry: 3}]"),
        (
            "{entry: 'every'}",
            "A1 B2 A3 B4 C5 A6",
            "[{step_positions: [1, 2, 5], last_entry: 1}, {step_positions: [6], last_entry: 6}]",
        ),
        // The window of the first has closed.
        (
            "{entry: 'every'}",
            "A1 B2 A11 B12 A13 C14",
            "[{step_positions: [1, 2], last_entry: 1}, {step_positions: [5], last_entry: 5}]",
        ),
        (
            "{entry: 'every', excluded: 'X'}",
            "A1 B2 X3 A4 B5 C6",
            "[{step_positions: [1, 2], last_entry: 1}, {step_positions: [4, 5, 6], last_entry: 4}]",
        ),
        (
            "{entry: 'every', max_gaps: [null, 1000000, 1000000]}",
            "A1 A3 B4 A5 C6 C7",
            "[{step_positions: [1], last_entry: 1}, {step_positions: [2, 3], last_entry: 2}]",
        ),
        (
            "{entry: 'every', order: 'next'}",
            "A1 B2 X3 A4 A5",
            "[{step_positions: [1, 2], last_entry: 1}, {step_positions: [4], last_entry: 4}, {step_positions: [5], last_entry: 5}]",
        ),
        (
            "{entry: 'every', hold: channels}",
            "A1@web B2@app C3@web B4@web C5@web A6@app",
            "[{step_positions: [1, 4, 5], last_entry: 1}, {step_positions: [6], last_entry: 6}]",
        ),
        (
            "{entry: 'every', order: 'any'}",
            "C1 B2 C3 A4 B5",
            "[{step_positions: [4, 2, 1], last_entry: 1}, {step_positions: [, 5], last_entry: 5}]",
        ),
        ("{entry: 'every'}", "X1 B2", "[]"),
    ] {
        assert_eq!(abc(journey, options).await[2], attempts, "{journey} {options}");
    }
}

/// PostHog and Mixpanel take the first B and see X after it; ours is a choice, and said in the documentation.
#[tokio::test]
async fn a_repeat_of_a_step_may_serve_it() {
    for on_excluded in ["end", "remove"] {
        let options = format!("{{excluded: [null, 'X'], on_excluded: '{on_excluded}'}}");
        assert_eq!(abc("A1 B2 X3 B4 C5", &options).await[1], "[1, 4, 5]");
    }
}

#[tokio::test]
async fn modes_answer_as_their_engines() {
    for (stream, levels) in STREAMS.into_iter().chain([SHARED]) {
        for (mode, level) in MODES.iter().zip(levels) {
            let [furthest, positions, attempts] = abc(stream, &format!("'{mode}'")).await;
            assert_eq!(furthest, level.to_string(), "{stream}: {mode}");
            assert_eq!(positions.split(", ").count(), level, "{stream}: {mode}");
            assert!(attempts.starts_with(&format!("[{{step_positions: {positions}, last_entry: ")), "{attempts}");
        }
    }
}

/// Touches of many journeys as the rows of a `values` list: journey, number, second, touchpoint.
fn random_touches() -> String {
    let mut state = 11u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let touchpoints = ["A", "A", "B", "B", "C", "D", "AB", "BC", "AC", "ABCD", "X"];
    let mut rows = vec![];
    for journey in 0..250 {
        let (count, span) = (random(10), 2 + random(9));
        let mut seconds: Vec<u64> = (0..count).map(|_| random(span)).collect();
        seconds.sort_unstable();
        for (number, second) in seconds.iter().enumerate() {
            rows.push(format!("({journey}, {number}, {second}, '{}')", touchpoints[random(11) as usize]));
        }
    }
    rows.join(", ")
}

/// Every combination of modes that window_funnel has.
fn modes() -> Vec<String> {
    let words = ["strict_deduplication", "strict_increase", "strict_once", "strict_order", "allow_reentry"];
    let chosen = |set: u32| {
        let chosen = (0..words.len()).filter(|word| set >> word & 1 == 1).map(|word| words[word]);
        chosen.collect::<Vec<_>>().join("|")
    };
    // allow_reentry needs strict_order.
    let combined = (0u32..32).filter(|set| set >> 3 != 0b10).map(chosen);
    combined.chain(["posthog_ordered", "posthog_strict", "mixpanel"].map(str::to_owned)).collect()
}

#[tokio::test]
async fn modes_answer_as_window_funnel_over_the_touches_as_rows() -> Result<()> {
    let ctx = SessionContext::new();
    register_all(&ctx);
    let events = format!(
        "create table events as select journey, number, touchpoint, \
         arrow_cast(second * 1000000, 'Timestamp(µs, \"UTC\")') as ts from (values {}) \
         as events(journey, number, second, touchpoint)",
        random_touches()
    );
    ctx.sql(&events).await?.collect().await?;
    let letters = ["A", "B", "C", "D"];
    let conditions = letters.map(|letter| format!("position('{letter}' in touchpoint) > 0")).join(", ");
    let steps = "['A|AB|AC|ABCD', 'B|AB|BC|ABCD', 'C|AC|BC|ABCD', 'D|ABCD']";
    for mode in modes() {
        let sql = format!(
            "select times, touchpoints, level, level_times, journey_funnel(times, touchpoints, touchpoints, {steps}, window_, '{mode}'), \
                    journey_funnel_positions(times, touchpoints, touchpoints, {steps}, window_, '{mode}') \
             from (select journey, interval '5 seconds' as window_, window_funnel(5, '{mode}', ts, {conditions}) as level, \
                          window_funnel_events(5, '{mode}', ts, {conditions}) as level_times, \
                          array_agg(ts order by number) as times, array_agg(touchpoint order by number) as touchpoints \
                   from events group by journey) order by journey"
        );
        let mut reached = [0; 5];
        for batch in ctx.sql(&sql).await?.collect().await? {
            let list = |column: usize, row: usize| batch.column(column).as_list::<i32>().value(row);
            for row in 0..batch.num_rows() {
                let level = |column: usize| batch.column(column).as_primitive::<Int32Type>().value(row);
                assert_eq!(level(4), level(2), "{mode}: {:?}", list(1, row));
                reached[level(4) as usize] += 1;
                let (times, level_times, positions) = (list(0, row), list(3, row), list(5, row));
                let time = |times: &dyn Array, at: usize| times.as_primitive::<TimestampMicrosecondType>().value(at);
                let positions: Vec<i32> = positions.as_primitive::<Int32Type>().iter().map(Option::unwrap).collect();
                assert_eq!(positions.len(), level_times.len(), "{mode}");
                let touchpoints = list(1, row);
                for (step, position) in positions.iter().enumerate() {
                    let at = *position as usize - 1;
                    assert_eq!(time(&times, at), time(&level_times, step), "{mode}");
                    assert!(touchpoints.as_string::<i32>().value(at).contains(letters[step]), "{mode}");
                }
                if ["strict_once", "posthog", "mixpanel"].iter().any(|word| mode.contains(word)) {
                    let mut distinct = positions.clone();
                    distinct.sort_unstable();
                    distinct.dedup();
                    assert_eq!(distinct.len(), positions.len(), "{mode}: a touch serves one step");
                }
            }
        }
        assert!(reached[..4].iter().all(|journeys| *journeys > 0), "{mode}: {reached:?}");
    }
    Ok(())
}

#[tokio::test]
async fn options_are_constants_and_what_is_held_a_column() {
    let journeys = "select * from (values (1, ['web', 'web', 'app']), (2, ['web', 'app', 'web']), (3, null)) \
                    as journeys(id, channels)";
    let call = |function: &str, options: &str| {
        format!(
            "{function}([timestamp '2026-01-01', timestamp '2026-01-02', timestamp '2026-01-03'], ['A', 'B', 'C'], \
             ['web', 'web', 'web'], ['A', 'B', 'C'], interval '7 days', {options})"
        )
    };
    for options in [
        "named_struct('hold', channels)",
        "named_struct('entry', 'first', 'hold', channels)",
        "{hold: channels, max_gaps: [null, interval '1 day', null]}",
        "{hold: arrow_cast(channels, 'LargeList(Utf8View)')}",
        "{hold: arrow_cast(channels, 'List(Dictionary(Int32, Utf8))'), entry: lower('FIRST')}",
        "{hold: [cardinality(channels), cardinality(channels), length(channels[3]) + length(channels[2])]}",
        "'{}', channels",
    ] {
        let options = options.replace("'{}'", "{entry: 'last'}");
        let calls = ["journey_funnel", "journey_funnel_positions"].map(|function| call(function, &options)).join(", ");
        let rows = rows_of(&format!("select id, {calls} from ({journeys}) order by id")).await;
        let first_two = if options.contains("cardinality") {
            ["1 | 2 | [1, 2]", "2 | 2 | [1, 2]"]
        } else {
            ["1 | 2 | [1, 2]", "2 | 1 | [1]"]
        };
        assert_eq!(rows[..2], first_two, "{options}");
        let third = if options.contains("cardinality") { "3 | 0 | []" } else { "3 |  | " };
        assert_eq!(rows[2], third, "{options}");
    }
    // Before a plan is simplified the struct is a column.
    let ctx = SessionContext::new_with_state(
        datafusion::execution::SessionStateBuilder::new().with_default_features().with_optimizer_rules(vec![]).build(),
    );
    register_all(&ctx);
    let sql = format!(
        "select {} from ({journeys})",
        call("journey_funnel", "named_struct('hold', channels, 'order', 'eventually')")
    );
    let batches = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
    let levels: Vec<Option<i32>> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int32Type>().iter().collect::<Vec<_>>())
        .collect();
    assert_eq!(levels, [Some(2), Some(1), None]);
}

#[tokio::test]
async fn options_of_a_prepared_statement_are_known_when_it_is_bound() {
    let ctx = SessionContext::new();
    register_all(&ctx);
    let lists = lists("A1 A8 B12 C15");
    let prepare = format!(
        "prepare funnel(varchar) as select journey_funnel({lists}, ['A', 'B', 'C'], interval '10 seconds', {{entry: $1}})"
    );
    ctx.sql(&prepare).await.unwrap().collect().await.unwrap();
    for (entry, furthest) in [("first", 1), ("last", 3)] {
        let batches = ctx.sql(&format!("execute funnel('{entry}')")).await.unwrap().collect().await.unwrap();
        assert_eq!(batches[0].column(0).as_primitive::<Int32Type>().values(), &[furthest], "{entry}");
    }
    let wrong = async { ctx.sql("execute funnel('second')").await?.collect().await };
    assert!(wrong.await.unwrap_err().to_string().contains("entry: expected 'last', 'first' or 'every', got 'second'"));
}

#[test]
fn what_is_held_can_be_compared() {
    for element in [DataType::Utf8View, DataType::Float64, list_type(DataType::Int32)] {
        assert_eq!(check_hold(&list_type(element)), Ok(()));
    }
    let of_lists = DataType::Dictionary(Box::new(DataType::Int32), Box::new(list_type(DataType::Int32)));
    let error = check_hold(&list_type(of_lists)).unwrap_err();
    assert!(error.starts_with("hold: expected a list of values that can be compared, got List(Dictionary("), "{error}");
}

/// Plans a query without running it.
async fn plan(sql: &str) -> Result<()> {
    let ctx = SessionContext::new();
    register_all(&ctx);
    ctx.sql(sql).await?.create_physical_plan().await.map(|_| ())
}

#[tokio::test]
async fn wrong_options_are_errors_of_planning() {
    for (options, message) in [
        ("1", "expected the options to be a text or a struct, got Int64"),
        ("null", "expected the options to be a text or a struct, got null"),
        ("'fixed'", "unknown mode 'fixed'"),
        ("{mode: 'strict'}", "mode: the mode strict has two meanings"),
        ("touchpoint", "expected the options to be constants, got journeys.touchpoint"),
        ("lower(touchpoint)", "expected the options to be constants, got lower(journeys.touchpoint)"),
        ("struct(touchpoint)", "unknown option 'c0'"),
        ("{entry: touchpoint}", "entry: expected a constant, got one that changes from row to row"),
        ("{entries: 'first'}", "unknown option 'entries'; did you mean entry? (expected mode, order, entry"),
        ("{strict: 'first'}", "unknown option 'strict' (expected mode, order"),
        ("{entry: 'newest'}", "entry: expected 'last', 'first' or 'every', got 'newest'"),
        ("{entry: 1}", "entry: expected a text, got Int64"),
        ("{order: 'strict'}", "order: expected 'eventually', 'next' or 'any', got 'strict'"),
        ("{order: ['next', 'next', 'next']}", "order: step 1 is 'next' to nothing"),
        ("{order: ['eventually']}", "order: expected one element per step, 3, got 1"),
        ("{order: ['eventually', null, 'next']}", "order: element 2 is null; expected a text"),
        ("{min_gaps: [null, 1]}", "min_gaps: expected one element per step, 3, got 2"),
        ("{min_gaps: [1, 1, 1]}", "min_gaps: step 1 has no step before it; write null for it"),
        (
            "{max_gaps: interval '1 day'}",
            "max_gaps: expected a list of intervals or whole microseconds, got Interval(MonthDayNano); write one per step, null for step 1",
        ),
        (
            "{max_gaps: [null, 1.5, null]}",
            "max_gaps: expected a list of intervals or whole microseconds, got List(Float64)",
        ),
        ("{max_gaps: [null, -1, null]}", "max_gaps: a span must not be negative, got -1"),
        ("{max_gaps: [null, interval '1 month', null]}", "max_gaps: an interval of months has no fixed length"),
        (
            "{min_gaps: [null, 2, null], max_gaps: [null, 1, null]}",
            "step 2 cannot match: its min_gaps, 0.000002 seconds, is above its max_gaps, 0.000001 seconds",
        ),
        (
            "{min_gaps: [null, 6000000, 6500000]}",
            "step 3 cannot match: by min_gaps it comes 12.5 seconds after step 1 at the earliest, and the window is 10 seconds",
        ),
        ("{min_gaps: []}", "min_gaps: expected one element per step, 3, got 0"),
        ("{max_gaps: []}", "max_gaps: expected one element per step, 3, got 0"),
        ("{order: []}", "order: expected one element per step, 3, got 0"),
        ("{excluded: []}", "excluded: expected 2 elements, one from each of 3 steps to the next, got 0"),
        ("{excluded: ['X']}", "excluded: expected 2 elements, one from each of 3 steps to the next, got 1"),
        ("{excluded: 'B'}", "excluded: 'B' holds all that step 2 asks for"),
        ("{excluded: ['X', '*']}", "excluded: '*' holds all that step 2 asks for"),
        ("{excluded: 'X|'}", "excluded: an element ('X|') has an empty alternative"),
        ("{excluded: 'X', on_excluded: 'drop'}", "on_excluded: expected 'end' or 'remove', got 'drop'"),
        ("{on_excluded: 'end'}", "on_excluded needs something that is excluded"),
        ("{excluded: 'X', on_excluded: 'remove', entry: 'every'}", "entry 'every' counts attempts"),
        ("{optional: 2}", "optional: expected a list of step numbers, got Int64; write [2]"),
        ("{optional: [1]}", "optional: step 1 is how a funnel is entered"),
        ("{optional: [4]}", "optional: expected numbers from 2 to 3, got 4"),
        ("{optional: [2, null]}", "optional: expected step numbers, got a null among them"),
        ("{among: 'X'}", "among: expected a list of texts, got Utf8; write ['X']"),
        ("{among: 'X''s'}", "among: expected a list of texts, got Utf8; write ['X''s']"),
        ("{hold: 'web'}", "hold: expected a list parallel to times, got Utf8"),
        ("{among: ['X']}", "among tells which touches stand between two steps"),
        ("{mode: 'strict_once', among: ['X']}", "among tells which touches stand between two steps"),
        ("{order: 'next', among: ['X', '']}", "among: an element ('') has an empty alternative"),
        ("{mode: 'strict_order', entry: 'first'}", "a mode stands alone, or with among, and entry is given"),
        ("{mode: 'strict_order', hold: channels}", "a mode stands alone, or with among, and hold is given"),
        ("{mode: 'strict_order'}, channels", "a mode stands alone, or with among, and hold is given"),
        ("{hold: channels, hold: channels}", "hold is given twice; leave one out"),
        ("{hold: ['web'], hold: channels}", "hold is given twice; leave one out"),
        ("{hold: ['web'], hold: ['web']}", "hold is given twice; leave one out"),
        ("{hold: ['web']}, channels", "hold is given twice; leave one out"),
        ("{hold: channels}, channels", "hold is given twice; leave one out"),
        ("{order: ['eventually', 'any', 'eventually']}", "order: 'any' needs a neighbour of its kind"),
        ("{order: ['any', 'eventually', 'any']}", "order: 'any' needs a neighbour of its kind"),
        ("{order: ['any', 'any', 'next']}", "does not go with order 'next'"),
        ("{order: 'any', max_gaps: [null, 1, null]}", "does not go with min_gaps and max_gaps"),
        ("{order: 'any', optional: [2]}", "does not go with optional steps"),
        ("{order: 'any', excluded: ['X', null]}", "does not go with exclusions between some of the steps"),
        ("{entry: 'first'}, touchpoint", "hold: expected a list parallel to times, got"),
        ("{entry: 'first'}, channels, channels", "expected 5 arguments, or 6 with options, got 8"),
    ] {
        for function in ["journey_funnel", "journey_funnel_positions", "journey_funnel_attempts"] {
            let sql = format!(
                "select {function}([now()], ['A'], ['web'], ['A', 'B', 'C'], interval '10 seconds', {options}) from \
                 (select ['web'] as channels, 'first' as touchpoint from range(2)) as journeys"
            );
            let error = match plan(&sql).await {
                Ok(()) => panic!("{options} is planned"),
                Err(error) => error.strip_backtrace(),
            };
            assert!(error.contains(&format!("{function}: ")) && error.contains(message), "{options}: {error}");
        }
    }
    let funnel = "['A', 'B', 'B'], 1, {optional: [2]}";
    let error = error_of(&format!("select journey_funnel([now()], ['A'], ['web'], {funnel})")).await;
    assert!(error.contains("optional: step 2 is the same as step 3 after it"), "{error}");
}
