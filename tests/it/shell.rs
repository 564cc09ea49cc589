//! `wayline sql`: scripts through a pipe, and a person at a terminal.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use insta::assert_snapshot;

use crate::house::House;

/// What a script that comes through a pipe prints.
fn piped(house: &House, script: &str) -> Output {
    let mut command = house.command(&["sql"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir(house.path());
    let mut child = command.spawn().unwrap();
    // A script that ends with an error leaves the rest unread.
    let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
    child.wait_with_output().unwrap()
}

/// The lines that a script prints, which must succeed.
fn lines(house: &House, script: &str) -> Vec<String> {
    let output = piped(house, script);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_string).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_pipe_gets_the_answers_of_its_statements_and_commands_in_order() {
    let house = House::of_sample("odd-cases");
    let script = "select 1 as one; select 2 as two\n, 3 as three;\n.mode ndjson\n-- nothing\nselect 'a;b' as text;\n\
                  \\x\nselect 4 as four, null as nothing\n";
    let expected = ["one", "1", "two,three", "2,3", r#"{"text":"a;b"}"#, "   four = 4", "nothing = "];
    assert_eq!(lines(&house, script), expected);
    assert_eq!(lines(&house, ".quit\nselect 1"), [""; 0], "nothing is done after the end");
    assert_eq!(lines(&house, "  \n-- only said\n"), [""; 0]);
}

#[test]
fn tables_columns_and_functions_can_be_listed() {
    let house = House::of_sample("odd-cases");
    let before = lines(&house, ".tables");
    assert!(!before.iter().any(|line| line.starts_with("sessions,")), "{before:?}");
    house.succeed(&["run"]);
    let tables = lines(&house, ".tables");
    for start in ["table,kind,description", "sessions,mart,", "events,landed,", "settings,settings,"] {
        assert!(tables.iter().any(|line| line.starts_with(start)), "{start}: {tables:?}");
    }
    assert_eq!(lines(&house, "\\dt ch*switches"), lines(&house, ".tables channel_sw"));
    let columns = lines(&house, "\\d channel_classes");
    assert_eq!(columns.len(), 3, "{columns:?}");
    assert!(columns[0] == "column,type,meaning" && columns[1].starts_with("channel,varchar,"), "{columns:?}");
    assert!(lines(&house, "\\df window_funnel*").len() == 3);
    assert!(lines(&house, ".help .once")[0].starts_with(".once FILE"));
    assert!(lines(&house, "\\? window_funnel")[0].starts_with("window_funnel("));
}

#[test]
fn results_go_to_files_and_scripts_come_from_them() {
    let house = House::of_sample("odd-cases");
    house.write("inner.sql", b"select 3 as three;\n");
    house.write("outer.sql", b"select 2 as two;\n.read inner.sql\nselect 4 as four");
    let script = ".once one.json\nselect 1 as one;\n.output all.csv\n.read outer.sql\n.output stdout\n.once p.parquet\n\
                  select 5 as five;\nselect 6 as six;";
    assert_eq!(lines(&house, script), ["six", "6"]);
    let read = |name: &str| std::fs::read_to_string(house.path().join(name)).unwrap();
    assert_eq!(read("one.json"), "[{\"one\":1}]\n");
    assert_eq!(read("all.csv"), "two\n2\nthree\n3\nfour\n4\n");
    assert!(std::fs::read(house.path().join("p.parquet")).unwrap().starts_with(b"PAR1"));
    house.write("itself.sql", b".read itself.sql\n");
    let output = piped(&house, ".read itself.sql");
    assert!(output.status.code() == Some(2) && stderr(&output).contains("16 scripts read each other"));
}

#[test]
fn a_script_ends_with_its_first_error_which_shows_its_place() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let output = piped(&house, "select 1 as one;\n\nselect touchpoint,\n       chanel\nfrom events;\nselect 2;");
    assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b"one\n1\n"[..]));
    assert_snapshot!(stderr(&output));
    house.write("script.sql", b"select 1 as one;\n\nselect touchpoint,\n       chanel\nfrom events;\n");
    let of_file = house.fail(2, &["sql", "-f", house.path().join("script.sql").to_str().unwrap()]);
    assert_eq!(of_file, stderr(&output));
}

#[test]
fn errors_say_what_is_wrong_where_and_what_may_have_been_meant() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    house.write("queries/unbuilt.sql", b"select 1 as one");
    let queries = [
        "select * from sesions",
        "select * from unbuilt",
        "select customer from sessions",
        "select s.chanel from sessions as s",
        "select windowfunnel(interval '1 day', occurred_at, true) from events",
        "select window_funnel(true) from events",
        "select journey_funnel(times, touchpoints, channels, [], interval '1 day') from journeys",
        "select count(*) form events",
        "select (1 + 2 from events",
        "selct 1",
        "select 'open",
        "select cast('a' as int)",
        "select 1 / 0",
        "select channel from events, touchpoints",
        "select channel, count(*) from events",
        "",
        ".tabels",
        ".schema sesions",
        ".mode cvs",
        ".help windowfunnel",
    ];
    let told = queries.map(|query| format!("{query}\n{}", house.fail(2, &["sql", "-c", query])));
    assert_snapshot!(told.join("\n"));
}

#[test]
fn a_name_that_no_event_has_is_noted() {
    let house = House::new(
        "[[sources]]\nname = \"web\"\npath = \"web.csv\"\n[sources.event]\nevent_id = \"id\"\noccurred_at = \"at\"\n\
         touchpoint = \"page\"\nchannel = \"'web'\"\nidentifiers = { user_id = \"who\" }\n",
        &[(
            "web.csv",
            b"id,at,page,who\n1,2025-01-01T00:00:00Z,product_view,a\n2,2025-01-01T00:01:00Z,add_to_cart,a\n",
        )],
    );
    house.succeed(&["land"]);
    let noted = |query: &str| {
        let output = house.wayline(&["sql", "-c", query]);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let note = "note: no touchpoint is named 'add_to_cat'; did you mean 'add_to_cart'?\n";
    assert_eq!(noted("select count(*) from events where touchpoint = 'add_to_cat'"), note);
    let funnel = "select journey_funnel([occurred_at], [touchpoint], [channel], ['product_view', 'web:add_to_cat'], \
                  interval '1 day') from events";
    assert_eq!(noted(funnel), note);
    assert_eq!(noted("select count(*) from events where touchpoint = 'add_to_cart' and channel = 'web'"), "");
    let channel = "note: no channel is named 'wep'; did you mean 'web'?\n";
    assert_eq!(noted("select * from events where channel in ('wep', 'web')"), channel);
}

/// What must neither write nor open what is not a table.
#[test]
fn only_tables_are_read_and_nothing_is_written() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let before = house.lake_files();
    let canary = house.path().join("canary.csv");
    let secret = house.path().join("secret.csv");
    std::fs::write(&secret, "a\nfrom-the-secret-file\n").unwrap();
    let (canary, secret) = (canary.display(), secret.display());
    let refused = [
        format!("copy (select 1) to '{canary}'"),
        format!("copy sessions to '{canary}' stored as csv"),
        format!("explain analyze copy (select 1) to '{canary}'"),
        "insert into sessions select * from sessions".to_string(),
        "create table x as select 1".to_string(),
        "create view x as select 1".to_string(),
        format!("create external table x stored as csv location '{secret}'"),
        "create function f(int) returns int return $1".to_string(),
        "drop table sessions".to_string(),
        "delete from events".to_string(),
        "update events set value = 1".to_string(),
        "set datafusion.runtime.memory_limit = '100G'".to_string(),
        "prepare p as select 1".to_string(),
        "execute p".to_string(),
        "begin".to_string(),
        format!("select * from '{secret}'"),
        format!("select * from \"{secret}\""),
        format!("select * from 'file://{secret}'"),
        "select * from 's3://other/bucket.parquet'".to_string(),
        format!("select * from read_csv('{secret}')"),
        "select 1; select 2".to_string(),
        "select 1; drop table sessions".to_string(),
        "select 1 /* ; */; -- x\ndrop table sessions".to_string(),
        "select \u{2018}1\u{2019}".to_string(),
    ];
    for query in refused {
        let output = house.wayline(&["sql", "-c", &query]);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{query}: {stdout}{}", stderr(&output));
        assert!(!stderr(&output).contains("from-the-secret-file"), "{query}");
    }
    // A script may hold several statements, and each of them only reads.
    let output = piped(&house, "select 1 as one;\ndrop table sessions;\nselect 2 as two;");
    assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b"one\n1\n"[..]));
    assert!(!Path::new(&canary.to_string()).exists());
    assert_eq!(house.lake_files(), before);
}

#[test]
fn what_would_cost_the_planner_too_much_is_refused_at_once() {
    let house = House::of_sample("odd-cases");
    let repeated = |part: &str, between: &str, count| vec![part; count].join(between);
    for query in [
        format!("select {}", repeated("1", "+", 2_000)),
        format!("select 1 where {}", repeated("1 = 0", " or ", 10_000)),
        format!("select {}1{}", "(".repeat(500), ")".repeat(500)),
        format!("select 1 from {}", repeated("as_of", " cross join ", 1_000)),
    ] {
        let output = piped(&house, &query);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
    assert_eq!(house.sql(&format!("select 1 as one where 1 in ({})", repeated("1", ",", 10_000))), ["1"]);
}

/// What a person sees who types steps at a terminal of some columns; `None` without Python.
fn typed(house: &House, columns: u16, steps: &[(&str, &str)], environment: &[(&str, &str)]) -> Option<(String, i32)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shell/at_a_terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(columns.to_string()).arg(env!("CARGO_BIN_EXE_wayline")).arg("sql").arg("--project");
    command.arg(house.path()).env("XDG_STATE_HOME", house.path().join("state")).env_remove("NO_COLOR");
    command.envs(environment.iter().copied()).env_remove("RUST_LOG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: python3 does not start; the test types at a pseudo-terminal through it");
        return None;
    };
    child.stdin.take().unwrap().write_all(serde_json::to_string(steps).unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap_or(-1)))
}

#[test]
fn at_a_terminal_statements_are_edited_completed_and_remembered() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let steps = [
        ("wayline> ", "select count(*) as n\r"),
        ("\n", "from sess\t;\r"),
        ("row", "\x1b[A\r"),
        ("row", ".tim\t off\r"),
        ("wayline> ", "select chanel from sessions;\r"),
        ("error: ", "\x04"),
    ];
    let Some((shown, code)) = typed(&house, 60, &steps, &[]) else { return };
    assert_eq!(code, 0, "{shown}");
    let count = &house.sql("select count(*) from sessions")[0];
    assert_eq!(shown.matches(&format!("| {count} ")).count(), 2, "the second is of the history: {shown}");
    assert!(shown.contains("from sessions") && shown.contains("(1 row, 0."), "{shown}");
    assert!(shown.contains("hint: ") && shown.contains("^^^^^^"), "{shown}");
    assert!(shown.contains("\x1b[1;36mwayline> "), "{shown}");
    let history = house.path().join("state/wayline/history");
    assert_eq!(std::fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(history).unwrap();
    assert!(text.contains("from sessions;") && text.contains(".timer off"), "{text}");
}

#[test]
fn at_a_terminal_tables_are_as_wide_as_it() {
    let house = House::of_sample("odd-cases");
    house.succeed(&["run"]);
    let steps = [
        ("wayline> ", "select * from touchpoints order by event_id limit 3;\r"),
        ("(3 rows", ".maxrows 1\r"),
        ("wayline> ", "select * from sessions;\r"),
        ("maxrows 0 shows all", "\x04"),
    ];
    let Some((shown, code)) = typed(&house, 72, &steps, &[("NO_COLOR", "1")]) else { return };
    assert_eq!(code, 0, "{shown}");
    let rows: Vec<&str> = shown.lines().map(str::trim_end).filter(|line| line.starts_with(['|', '+'])).collect();
    assert!(rows.len() >= 8, "{shown}");
    assert!(rows.iter().all(|row| row.chars().count() <= 72), "{shown}");
    assert!(rows.iter().any(|row| row.contains('…')), "{shown}");
    assert!(!shown.contains("\x1b[1;36m"), "{shown}");
}

#[test]
fn at_a_terminal_ctrl_c_ends_the_query_and_not_the_shell() {
    let house = House::of_sample("odd-cases");
    let endless = "select count(*) from generate_series(1, 1000000000000) as a;\r";
    let steps = [
        ("wayline> ", "half of a statement\x03"),
        ("wayline> ", endless),
        // The terminal no longer waits for a line: it runs.
        ("\x1b[?2004l", "\x03"),
        ("cancelled", "select 40 + 2 as answer;\r"),
        ("| 42 ", "\\q\r"),
    ];
    let Some((shown, code)) = typed(&house, 100, &steps, &[]) else { return };
    assert_eq!(code, 0, "{shown}");
}
