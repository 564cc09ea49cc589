//! Models of a user's own that are kept by sums.

use serde_json::Value;

use crate::arrivals::{PROJECT, arrive};
use crate::house::{House, published};

const STATEMENT: &str = "select
    entry_channel as channel,
    count(*) as journeys,
    count(distinct customer_id) as customers,
    sum(touch_count) as touches,
    sum(value) as value,
    array_sort(array_agg(touch_count)) as lengths,
    started_date
from started
group by entry_channel, started_date
";

const STARTED: &str = "-- Journeys.\n--\n-- build: view\n\nselect * from journeys\n";

/// Rows come into it and fall out of it as the sums below change.
const VIEW: &str = "-- Days of a channel with several journeys.
--
-- grain: channel, started_date
-- build: view
-- publish: file

select
    channel,
    journeys,
    cast(touches as double) / journeys as mean_touches,
    cardinality(lengths) as lengths,
    started_date
from channel_days
where journeys > 2 and journeys < 9
";

fn model(header: &str, statement: &str) -> String {
    format!("-- Journeys of a day by channel.\n--\n-- grain: channel, started_date\n{header}\n\n{statement}")
}

fn rows(house: &House, query: &str) -> Vec<String> {
    let out = house.succeed(&["sql", "-c", query, "--format", "ndjson"]);
    let mut rows: Vec<String> = out.lines().map(String::from).collect();
    rows.sort_unstable();
    rows
}

/// What became of a model in a run.
fn message(report: &str, name: &str) -> String {
    let report: Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    let lines = report["results"].as_array().unwrap();
    let line = lines.iter().find(|line| line["unique_id"] == format!("model.wayline.{name}"));
    line.unwrap_or_else(|| panic!("{report}"))["message"].as_str().unwrap().to_string()
}

#[test]
fn sums_of_a_model_of_ones_own_are_what_its_statement_gives() {
    let house = House::new(PROJECT, &[]);
    let sql = model("-- build: incremental by sum(journeys)\n-- publish: file", STATEMENT);
    house.write("queries/marts/channel_days.sql", sql.as_bytes());
    house.write("queries/marts/busy_days.sql", VIEW.as_bytes());
    house.write("queries/started.sql", STARTED.as_bytes());
    let mut was_added_to = 0;
    for number in 0..6 {
        arrive(&house, number);
        let output = house.wayline(&["run", "--json"]);
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success() && !stderr.contains("WARN"), "{stderr}");
        let message = message(&stdout, "channel_days");
        was_added_to += usize::from(message.contains("sums added"));
        assert_eq!(rows(&house, "select * from channel_days"), rows(&house, STATEMENT), "after file {number}");
        if number == 3 {
            house.succeed(&["maintain"]);
        }
    }
    assert_eq!(was_added_to, 5);
    // Rows of the view that are others were known each time.
    let told = "select count(*) >= 3, count(*) = count(rows_added), sum(rows_removed) > 0, sum(rows_added) > 0
                from restatements where mart = 'busy_days'";
    assert_eq!(house.sql(told), ["true,true,true,true"]);
    // What is published is the sums and not what was added to them last.
    let at_once = House::new(PROJECT, &[]);
    at_once.write("queries/marts/channel_days.sql", sql.as_bytes());
    at_once.write("queries/marts/busy_days.sql", VIEW.as_bytes());
    at_once.write("queries/started.sql", STARTED.as_bytes());
    (0..6).for_each(|number| arrive(&at_once, number));
    at_once.succeed(&["run"]);
    for mart in ["channel_days.parquet", "busy_days.parquet"] {
        assert_eq!(published(&house)[mart], published(&at_once)[mart], "{mart}");
    }
}

#[test]
fn a_statement_that_does_not_add_up_is_refused() {
    let house = House::new(PROJECT, &[]);
    house.write("queries/started.sql", STARTED.as_bytes());
    arrive(&house, 0);
    let largest = STATEMENT.replace("sum(touch_count)", "max(touch_count)");
    let sql = model("-- build: incremental by sum(journeys)", &largest);
    house.write("queries/channel_days.sql", sql.as_bytes());
    let stderr = house.fail(1, &["run"]);
    assert!(stderr.contains("`touches` is max(…), expected count, sum or array_agg"), "{stderr}");
    // Built whole it is as good as any.
    house.write("queries/channel_days.sql", model("-- build: full", &largest).as_bytes());
    house.succeed(&["run"]);
}
