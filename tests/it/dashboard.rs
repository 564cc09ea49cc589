//! The dashboard: what stands in its file, and what is told of it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::house::House;

/// The sample shop after a run, with tiles of its own.
pub fn shop(own: &str) -> House {
    let house = House::of_sample("shop");
    house.write("dashboard.toml", own.as_bytes());
    house.succeed(&["run"]);
    house
}

/// The document in a page.
fn document(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"document\">").unwrap();
    serde_json::from_str(rest.split("</script>").next().unwrap()).unwrap()
}

fn tile<'d>(document: &'d Value, name: &str) -> &'d Value {
    document["tiles"].as_array().unwrap().iter().find(|tile| tile["name"] == name).unwrap()
}

#[test]
fn the_page_says_what_the_tables_say() {
    let house = shop("");
    let said = house.succeed(&["dashboard"]);
    assert!(said.contains("dashboard.html: ") && said.contains(" tiles, "), "{said}");
    let page = std::fs::read_to_string(house.path().join("dashboard.html")).unwrap();
    assert!(page.len() < 2_900_000);
    assert_eq!(house.succeed(&["dashboard", "-o", "-"]), page, "the same lake gives the same page");
    let document = document(&page);

    let funnel = tile(&document, "funnels-1");
    let expected = house.sql(
        "select replace(step_name, '|', ' or '), sum(reached), sum(reached) / cast(sum(entered) as double) \
         from funnel_steps where funnel = 'checkout' group by step, step_name order by step",
    );
    let rows = funnel["rows"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len());
    for (row, line) in rows.iter().zip(&expected) {
        let expected: Vec<&str> = line.split(',').collect();
        assert_eq!((row[0].as_str().unwrap(), row[1].to_string()), (expected[0], expected[1].to_string()));
        assert!((row[2].as_f64().unwrap() - expected[2].parse::<f64>().unwrap()).abs() < 1e-9);
    }
    let worst = house.sql(
        "select step_name, round(100.0 * attempts / reached, 1) \
         from (select step, step_name, sum(reached) as reached from funnel_steps where funnel = 'checkout' group by 1, 2) as steps \
         inner join (select step as last_step, sum(attempts) as attempts from drop_offs \
             where funnel = 'checkout' and outcome in ('left', 'timed_out') group by 1) as ended on step = last_step \
         order by attempts desc limit 1",
    );
    let (step, share) = worst[0].split_once(',').unwrap();
    assert_eq!(funnel["finding"], format!("{share} % of those at {step} go no further, the largest drop-off"));

    // What was together as one is still counted.
    let sum_of = |tile: &Value, column: usize| -> f64 {
        tile["rows"].as_array().unwrap().iter().map(|row| row[column].as_f64().unwrap()).sum()
    };
    let ended =
        house.sql("select sum(attempts) from drop_offs where funnel = 'checkout' and outcome in ('left', 'timed_out')");
    assert_eq!(sum_of(tile(&document, "drop_offs-1"), 2).to_string(), ended[0]);
    let switches = house.sql("select sum(switches) from channel_switches");
    assert_eq!(sum_of(tile(&document, "channel_switches"), 2).to_string(), switches[0]);
    let edges = house.sql("select sum(journeys) from path_edges where position < 6");
    assert_eq!(sum_of(tile(&document, "paths"), 3).to_string(), edges[0]);
    let sessions = house.sql("select count(*), count(*) filter (where is_converted) from sessions");
    let line = tile(&document, "sessions");
    assert_eq!(format!("{},{}", sum_of(line, 1), sum_of(line, 2)), sessions[0]);
    let figures = tile(&document, "figures")["rows"].as_array().unwrap().clone();
    let figure = |name: &str| figures.iter().find(|row| row[0] == name).unwrap()[1].to_string();
    let counted =
        house.sql("select count(distinct customer_id), count(*), count(*) filter (where is_converted) from journeys");
    assert_eq!(format!("{},{}", figure("customers"), figure("conversions")), {
        let parts: Vec<&str> = counted[0].split(',').collect();
        format!("{},{}", parts[0], parts[2])
    });
    let last = figures.iter().find(|row| row[0] == "sessions").unwrap();
    let weeks = last[4].as_array().unwrap();
    let now: f64 = weeks[weeks.len() - 4..].iter().map(|week| week.as_f64().unwrap()).sum();
    assert_eq!(now, last[2].as_f64().unwrap(), "four weeks are 28 days");
}

#[test]
fn the_report_names_the_tiles_and_what_is_left_out() {
    let own = "built_in = ['runs']\n[[tiles]]\nname = 'mine'\ntitle = 'Mine'\nkind = 'table'\nquery = 'select * from journey'\n";
    let house = shop(own);
    let output = house.wayline(&["dashboard", "--json"]);
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["tiles"], json!(["runs"]));
    assert_eq!(report["left_out"][0]["tile"], "mine");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "tile mine is left out: there is no table journey\nhint: did you mean `journeys`?\n");
    let file = report["file"].as_str().unwrap();
    assert_eq!(std::fs::metadata(file).unwrap().len(), report["bytes"].as_u64().unwrap());
}

#[test]
fn what_cannot_be_shown_is_told_with_a_remedy_and_writes_nothing() {
    let house = House::of_sample("odd-cases");
    assert_eq!(
        house.fail(2, &["dashboard"]),
        "error: nothing is published yet\nhint: wayline run lands, builds and publishes\n"
    );
    house.succeed(&["run"]);
    for (tile, said) in [
        (
            "kind = 'funnel'\nquery = 'select 1 as n'",
            "tile x: a funnel takes a text (the step) and a number; the query gives n (number)",
        ),
        ("kind = 'funel'\nquery = 'select 1'", "hint: did you mean `funnel`?"),
        ("kind = 'table'\nquery = 'select sesion_id from sessions'", "tile x: "),
        ("kind = 'table'\nquery = 'delete from sessions'", "tile x: "),
        ("kind = 'table'\nquery = 'select 1'\nfinding = 'select missing from tile'", "tile x: finding: "),
        ("kind = 'table'\nfile = 'missing.sql'", "tile x: missing.sql: "),
        (
            "kind = 'table'\nquery = 'select 1'\nsplit_by = 'nothing'",
            "tile x: split_by: the query gives no column nothing",
        ),
        (
            "kind = 'table'\nquery = 'select a.v from range(1000) as a(v) cross join range(1000) as b(v)'",
            "gives more than 100000 rows",
        ),
    ] {
        house.write("dashboard.toml", format!("[[tiles]]\nname = 'x'\ntitle = 'X'\n{tile}\n").as_bytes());
        let error = house.fail(2, &["dashboard"]);
        assert!(error.contains(said), "{tile}: {error}");
        assert!(!house.path().join("dashboard.html").exists());
    }
    house.fail(2, &["dashboard", "-o", "-", "--json"]);
}

#[test]
fn built_in_tiles_that_do_not_fit_a_model_of_the_project_are_left_out() {
    let house = House::of_sample("odd-cases");
    let model = "-- Drop-offs of our own.\n--\n-- grain: funnel\n-- build: full\n-- publish: file\n\nselect distinct funnel from int_funnel_attempts\n";
    house.write("queries/marts/drop_offs.sql", model.as_bytes());
    house.write(
        "queries/checks/drop_off_outcomes_add_up_to_those_who_entered.sql",
        b"-- Nothing to check.\n\nselect 1 as x where false\n",
    );
    house.succeed(&["run"]);
    let output = house.wayline(&["dashboard"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stderr);
    // What the funnel says of who goes no further stands in that model too.
    for tile in ["funnels", "drop_offs"] {
        assert!(said.contains(&format!("tile {tile} is left out: ")), "{said}");
    }
}

/// A project of one source of events, each a day or a time, a customer and a touchpoint.
fn project(steps: &str, events: &[(&str, &str, &str)]) -> House {
    let configuration = format!(
        r#"
[[sources]]
name = "web"
path = "landing-zone/*.csv"
[sources.event]
event_id    = "id"
occurred_at = "ts"
touchpoint  = "event"
channel     = "'web'"
identifiers = {{ user_id = "customer" }}
[journeys]
goal = ["purchase"]
[[funnels]]
name = "shop"
steps = [{steps}]
window = "7d"
"#
    );
    let mut file = String::from("id,ts,customer,event\n");
    for (id, (ts, customer, event)) in events.iter().enumerate() {
        file += &format!("e{id},{ts},{customer},{event}\n");
    }
    House::new(&configuration, &[("landing-zone/events.csv", file.as_bytes())])
}

fn shown(house: &House) -> Value {
    document(&house.succeed(&["dashboard", "-o", "-"]))
}

#[test]
fn attempts_that_are_still_open_are_no_drop_off() {
    let open = [
        ("2025-01-03T10:00:00Z", "ann", "view"),
        ("2025-01-03T10:05:00Z", "bob", "view"),
        ("2025-01-03T10:10:00Z", "cem", "view"),
        ("2025-01-03T10:15:00Z", "cem", "cart"),
    ];
    let steps = "\"view\", \"cart\", \"purchase\"";
    let house = project(steps, &open);
    let said = house.succeed(&["run"]);
    assert_eq!(house.sql("select distinct outcome from drop_offs"), ["open"]);
    assert!(said.ends_with("    0.0 % of those who entered a funnel have dropped off\n"), "{said}");
    let document = shown(&house);
    let funnel = tile(&document, "funnels-1");
    assert_eq!(funnel["finding"], "Nobody has dropped off so far");
    assert_eq!(funnel["rows"], json!([["view", 3, 1, 0], ["cart", 1, 1.0 / 3.0, 0], ["purchase", 0, 0, 0]]));
    assert!(document["tiles"].as_array().unwrap().iter().all(|tile| tile["name"] != "drop_offs-1"));

    // Somebody whose attempt ended long ago is one who stopped; the others still are not.
    let ended = [("2024-06-01T10:00:00Z", "dan", "view"), ("2024-06-01T10:01:00Z", "dan", "help")];
    let house = project(steps, &[&open[..], &ended].concat());
    let said = house.succeed(&["run"]);
    assert!(
        said.ends_with("   25.0 % of those at view go no further in funnel shop, its largest drop-off\n"),
        "{said}"
    );
    let document = shown(&house);
    assert_eq!(tile(&document, "funnels-1")["finding"], "25.0 % of those at view go no further, the largest drop-off");
    assert_eq!(tile(&document, "drop_offs-1")["rows"], json!([["view", "help", 1]]));
}

#[test]
fn a_step_that_a_funnel_has_twice_is_told_by_its_number_and_counted_apart() {
    let steps = "\"view\", \"cart\", \"view\", \"purchase\"";
    let mut events = Vec::new();
    // Two stop at the first view, one at the second.
    for (customer, touches) in
        [("ann", &["view", "exit"][..]), ("bob", &["view", "exit"]), ("cem", &["view", "cart", "view", "exit"])]
    {
        let times = ["2024-06-01T10:00:00Z", "2024-06-01T10:01:00Z", "2024-06-01T10:02:00Z", "2024-06-01T10:03:00Z"];
        events.extend(times.into_iter().zip(touches).map(|(time, touch)| (time, customer, *touch)));
    }
    events.push(("2025-01-01T10:00:00Z", "dan", "home"));
    let house = project(steps, &events);
    let said = house.succeed(&["run"]);
    assert!(said.contains("66.7 % of those at view (step 1) go no further in funnel shop"), "{said}");
    let document = shown(&house);
    let names = |name: &str| -> Vec<(Value, Value)> {
        let rows = tile(&document, name)["rows"].as_array().unwrap();
        rows.iter().map(|row| (row[0].clone(), row[row.as_array().unwrap().len() - 1].clone())).collect()
    };
    let expected = [("view (step 1)", 2), ("cart", 0), ("view (step 3)", 1), ("purchase", 0)];
    assert_eq!(names("funnels-1"), expected.map(|(step, ended)| (json!(step), json!(ended))));
    let expected = [("view (step 1)", 2), ("view (step 3)", 1)];
    assert_eq!(names("drop_offs-1"), expected.map(|(step, ended)| (json!(step), json!(ended))));

    // Bars of a project's own that call both by one name are added up where they can be.
    let bars = |value: &str| {
        let query = format!("select step_name, {value} from funnel_steps group by step, step_name order by step");
        let tile = format!("[[tiles]]\nname = 'own'\ntitle = 'Own'\nkind = 'bar'\nquery = '{query}'\n");
        house.write("dashboard.toml", tile.as_bytes());
    };
    bars("sum(reached) as attempts");
    let document = shown(&house);
    let own = tile(&document, "own");
    assert_eq!(own["rows"], json!([["view", 4], ["cart", 1], ["purchase", 0]]));
    assert_eq!(own["finding"], "view leads with 4 attempts");
    assert_eq!(own["notes"], json!(["rows of the same name are added up"]));
    bars("avg(reached) as mean_attempts");
    let error = house.fail(2, &["dashboard"]);
    assert!(error.contains("tile own: two rows are called view, and mean_attempts does not add up"), "{error}");
}

#[test]
fn the_trend_holds_every_full_week() {
    let house = project(
        "\"view\", \"purchase\"",
        &[("2025-01-01T10:00:00Z", "ann", "view"), ("2025-01-14T10:00:00Z", "bob", "view")],
    );
    house.succeed(&["run"]);
    let document = shown(&house);
    let figures = tile(&document, "figures")["rows"].as_array().unwrap();
    let sessions = figures.iter().find(|row| row[0] == "sessions").unwrap();
    assert_eq!(sessions[4], json!([1, 1]));
}

#[test]
fn retention_shows_the_newest_cohorts_and_tells_of_all() {
    let house = project("\"view\", \"purchase\"", &[("2025-01-01T10:00:00Z", "ann", "view")]);
    house.succeed(&["run"]);
    let query = "select lpad(cast(v as varchar), 2, '0') as cohort, 1 as period, case when v < 20 then 1.0 else 0.5 end as rate \
                 from range(40) as cohorts(v) order by cohort";
    let tile_of_its_own = format!("[[tiles]]\nname = 'own'\ntitle = 'Own'\nkind = 'retention'\nquery = \"{query}\"\n");
    house.write("dashboard.toml", tile_of_its_own.as_bytes());
    let document = shown(&house);
    let own = tile(&document, "own");
    let rows = own["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0], &rows[19]), (20, &json!(["20", 1, 0.5]), &json!(["39", 1, 0.5])));
    assert_eq!(own["notes"], json!(["the newest 20 cohorts of 40"]));
    assert_eq!(own["finding"], "75\u{a0}% come back in the first period after, on average");
}

/// A server under way, stopped at the end.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn serve(house: &House) -> Server {
    let mut child = house
        .command(&["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = said.next().unwrap().unwrap();
        if let Some(address) = line.strip_prefix("dashboard at ") {
            break address.to_string();
        }
    };
    // What it goes on to say is read, so that it never waits for a reader.
    std::thread::spawn(move || said.for_each(drop));
    Server { child, address }
}

#[test]
fn a_page_is_served_on_this_machine_only_and_stops_at_a_signal() {
    let house = House::of_sample("odd-cases");
    let error = house.fail(2, &["serve", "--listen", "0.0.0.0:0"]);
    assert!(error.contains("hint: listen on 127.0.0.1"), "{error}");
    let mut server = serve(&house);
    let stopped = std::process::Command::new("kill").arg(server.child.id().to_string()).status().unwrap();
    assert!(stopped.success());
    assert_eq!(server.child.wait().unwrap().code(), Some(143));
}

/// The example of the reference is a dashboard of the sample shop.
#[test]
fn the_example_of_the_reference_is_shown() {
    let text =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline/docs/dashboard.md"));
    let text = text.unwrap();
    let blocks: Vec<&str> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 1);
    let house = shop(blocks[0]);
    let output = house.wayline(&["dashboard", "-o", "-"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let document = document(&String::from_utf8(output.stdout).unwrap());
    for declared in blocks[0].lines().filter_map(|line| line.strip_prefix("name ")) {
        let name = declared.trim_start_matches([' ', '=', '"']).trim_end_matches('"');
        let tiles = document["tiles"].as_array().unwrap();
        let shown = tiles.iter().find(|tile| tile["name"] == name || tile["name"] == format!("{name}-1").as_str());
        let shown = shown.unwrap_or_else(|| panic!("{name} is shown"));
        assert!(!shown["rows"].as_array().unwrap().is_empty(), "{name} has rows");
    }
}
