//! The dashboard in a browser: what is drawn, reached by keys, kept harmless and kept new.

use serde_json::{Value, json};
use wayline::dashboard::{About, Column, Document, Rows, Section, SectionTable, Type, page};

use crate::browser::Browser;
use crate::dashboard::{serve, shop};
use crate::house::House;

/// Kinds that the sample shop has no table for, and a table of its own.
const OWN: &str = r#"
title = "The shop"

[[tiles]]
name  = "cohorts"
title = "Retention by month"
kind  = "retention"
query = """
with first as (
    select customer_id, min(date_trunc('month', started_date)) as cohort from sessions group by 1
),
active as (
    select distinct
        first.customer_id, cast(cohort as date) as cohort,
        cast(date_part('year', started_date) * 12 + date_part('month', started_date)
            - date_part('year', cohort) * 12 - date_part('month', cohort) as int) as period
    from sessions inner join first on sessions.customer_id = first.customer_id
    where cohort >= date '2024-01-01'
)
select
    cohort, period, count(*) / first_value(cast(count(*) as double)) over (partition by cohort order by period) as rate,
    period < 5 as is_complete
from active group by cohort, period order by cohort, period
"""

[[tiles]]
name  = "channels"
title = "Sessions by channel"
kind  = "bar"
query = "select entry_channel as channel, count(*) as sessions from sessions group by 1 order by 2 desc"

[[tiles]]
name  = "by_channel"
title = "Sessions by channel and month"
kind  = "line"
query = """
select cast(date_trunc('month', started_date) as date) as month, entry_channel, count(*) as sessions
from sessions where started_date >= date '2024-01-01' group by 1, 2 order by 1
"""
"#;

#[test]
fn every_chart_draws_in_both_schemes_and_at_three_widths() {
    let Some(mut browser) = Browser::start() else { return };
    let house = shop(OWN);
    house.succeed(&["dashboard"]);
    let file = format!("file://{}", house.path().join("dashboard.html").display());
    for scheme in ["light", "dark"] {
        for (width, height) in [(1280, 900), (820, 1180), (360, 740)] {
            browser.look(width, height, scheme);
            browser.open(&file);
            let charts = browser.value(
                "[...document.querySelectorAll('.chart')].map((chart) => ({
                    kind: chart.closest('.tile').dataset.kind, label: chart.getAttribute('aria-label'),
                    shapes: chart.querySelectorAll('svg path').length, texts: chart.querySelectorAll('svg text').length,
                    width: chart.querySelector('svg').getBoundingClientRect().width, room: chart.clientWidth,
                    outside: [...chart.querySelectorAll('svg text')].filter((text) => {
                        const [a, b] = [text.getBoundingClientRect(), chart.getBoundingClientRect()];
                        return a.width && (a.left < b.left - 2 || a.right > b.right + 2 || a.top < b.top - 2 || a.bottom > b.bottom + 2);
                    }).map((text) => text.textContent),
                }))",
            );
            let charts = charts.as_array().unwrap();
            for kind in ["funnel", "sankey", "heat_map", "bar", "line", "retention"] {
                let chart = charts.iter().find(|chart| chart["kind"] == kind);
                let chart = chart.unwrap_or_else(|| panic!("{kind} at {width} in {scheme}"));
                assert!(
                    chart["shapes"].as_u64() > Some(2) && chart["texts"].as_u64() > Some(2),
                    "{width} {scheme}: {chart}"
                );
            }
            for chart in charts {
                assert!(chart["label"].as_str().unwrap().contains("table below"), "{chart}");
                assert_eq!(chart["width"], chart["room"], "{width} {scheme}: {chart}");
                assert_eq!(chart["outside"], json!([]), "{width} {scheme}: {chart}");
            }
            assert!(charts.len() > 10, "{}", charts.len());
            let figures = browser.value("document.querySelectorAll('.figure svg polyline').length");
            assert!(figures.as_u64() >= Some(5), "{figures}");
            let is_wider = browser.value("document.documentElement.scrollWidth > innerWidth");
            assert_eq!(is_wider, false, "the page is wider than {width}");
            let ground = browser.value("getComputedStyle(document.body).backgroundColor");
            assert_eq!(ground, if scheme == "dark" { "rgb(18, 22, 28)" } else { "rgb(245, 246, 248)" });
        }
    }
    // Turning the device or the light draws anew, without loading anew.
    browser.look(1280, 900, "light");
    let sizes = "[...document.querySelectorAll('.chart')].every((chart) => chart.querySelector('svg').getBoundingClientRect().width === chart.clientWidth)";
    browser.until(sizes);
    assert!(browser.print().len() > 40_000);
    assert_eq!(browser.value("document.documentElement.className"), "", "after printing the screen is back");
    assert_eq!(browser.complaints, Vec::<String>::new());
    let outside: Vec<_> = browser.requests.iter().filter(|url| **url != file).collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn keys_reach_and_open_every_table() {
    let Some(mut browser) = Browser::start() else { return };
    let house = shop(OWN);
    house.succeed(&["dashboard"]);
    browser.look(1280, 900, "light");
    browser.open(&format!("file://{}", house.path().join("dashboard.html").display()));
    let count =
        |browser: &mut Browser, what: &str| browser.value(&format!("document.querySelectorAll('{what}').length"));
    let tiles = count(&mut browser, ".tile").as_u64().unwrap();
    assert_eq!(count(&mut browser, ".tile table").as_u64().unwrap(), tiles, "a table for every tile");
    let tables = count(&mut browser, "table").as_u64().unwrap();
    let mut reached = Vec::new();
    for _ in 0..4 * tables {
        browser.press("Tab");
        let at = browser.value(
            "(() => {
                const at = document.activeElement;
                if (at.tagName === 'SUMMARY' && !at.parentElement.open) return 'open';
                if (at.classList.contains('rows')) return at.getAttribute('aria-label');
                return at === document.body ? 'end' : '';
            })()",
        );
        match at.as_str().unwrap() {
            "open" => browser.press("Enter"),
            "end" => break,
            "" => {}
            table => reached.push(table.to_string()),
        }
    }
    assert_eq!(reached.len() as u64, tables, "{reached:?}");
    let closed = browser.value("[...document.querySelectorAll('details')].filter((one) => !one.open).length");
    assert_eq!(closed, 0);
    let wrong = browser.value(
        "[...document.querySelectorAll('table')].filter((table) => !table.caption || !table.caption.textContent
            || [...table.querySelectorAll('th')].some((head) => !head.scope)
            || table.querySelectorAll('thead th').length === 0).length",
    );
    assert_eq!(wrong, 0, "tables have captions, and their heads a scope");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// Names that would do something if they were taken for markup, addresses or templates.
const HOSTILE: [&str; 9] = [
    "<script>hurt()</script>",
    "\"><img src=x onerror=hurt()>",
    "</script><svg/onload=hurt()>",
    "</title></style><script>hurt()</script>",
    "javascript:hurt()",
    "data:text/html,<script>hurt()</script>",
    "${jndi:ldap://x} {{7*7}} %n%n%s {a|b} {b}",
    "<!--<script>",
    "<b>bold</b>&amp;",
];

#[test]
fn names_that_look_like_markup_are_text() {
    let Some(mut browser) = Browser::start() else { return };
    let configuration = r#"
        [[sources]]
        name = "web"
        path = "events.jsonl"
        [sources.event]
        event_id    = "id"
        occurred_at = "ts"
        touchpoint  = "event"
        channel     = "channel"
        identifiers = { user_id = "customer" }
        [journeys]
        goal = ["purchase"]
        [[funnels]]
        name   = "</script><svg/onload=hurt()>"
        steps  = ["*", "purchase"]
        window = "7d"
    "#;
    let mut lines = String::new();
    for (at, name) in HOSTILE.iter().enumerate() {
        for (minute, event) in [(0, *name), (1, "view"), (2, *name), (3, "purchase")].iter() {
            let channel = if minute % 2 == 0 { *name } else { "web" };
            let event = json!({"id": format!("{at}-{minute}"), "ts": format!("2025-01-0{}T10:0{minute}:00Z", at % 5 + 1), "event": event, "channel": channel, "customer": format!("c{at}")});
            lines.push_str(&format!("{event}\n"));
        }
    }
    let house = House::new(configuration, &[("events.jsonl", lines.as_bytes())]);
    let own = format!("title = {}\n", Value::from(HOSTILE[3]));
    house.write("dashboard.toml", own.as_bytes());
    house.succeed(&["run"]);
    house.succeed(&["dashboard"]);
    browser.look(1280, 900, "light");
    browser.open(&format!("file://{}", house.path().join("dashboard.html").display()));
    browser.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })");
    // Tips are made of names too.
    let moved = browser.value(
        "[...document.querySelectorAll('.chart')].map((chart) => {
            for (const shape of chart.querySelectorAll('svg path')) {
                const box = shape.getBoundingClientRect();
                const at = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true };
                chart.firstElementChild.dispatchEvent(new MouseEvent('mousemove', at));
            }
            return chart.querySelectorAll('.tip').length;
        }).reduce((a, b) => a + b, 0)",
    );
    assert!(moved.as_u64() > Some(0), "tips are shown");
    let page = browser.value(
        "({
            hurt: typeof hurt, scripts: document.scripts.length, title: document.title,
            made: document.querySelectorAll('img, iframe, object, embed, b:not(.change b), script:not([type]) ~ script ~ script, a:not(.skip)').length,
            handlers: [...document.querySelectorAll('*')].filter((one) => [...one.attributes].some((a) => a.name.startsWith('on'))).length,
            links: [...document.querySelectorAll('[href], [src]')].map((one) => one.getAttribute('href') || one.getAttribute('src')),
            cells: [...document.querySelectorAll('td, tbody th')].map((cell) => cell.textContent),
            drawn: [...document.querySelectorAll('.chart svg text')].map((text) => text.textContent),
        })",
    );
    assert_eq!(page["hurt"], "undefined");
    assert_eq!((&page["scripts"], &page["made"], &page["handlers"]), (&json!(3), &json!(0), &json!(0)), "{page}");
    assert_eq!(page["title"], HOSTILE[3]);
    assert_eq!(page["links"], json!(["data:,", "#tiles"]));
    let cells: Vec<&str> = page["cells"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for name in HOSTILE {
        assert!(cells.contains(&name), "{name} stands in a table");
    }
    let drawn = page["drawn"].as_array().unwrap();
    assert!(drawn.iter().any(|text| text.as_str().unwrap().contains("<script>")), "{drawn:?}");
    assert_eq!(browser.complaints, Vec::<String>::new());

    // And if one of them became a script all the same, it could neither run nor tell anybody.
    let (script, style) = ("window.hurt = () => {}", "body { display: none }");
    for (element, text) in [("script", script), ("style", style)] {
        browser.value(&format!("(() => {{ const one = document.createElement('{element}'); one.textContent = '{text}'; document.body.append(one); }})()"));
    }
    assert_eq!(browser.value("typeof hurt"), "undefined");
    assert_ne!(browser.value("getComputedStyle(document.body).display"), "none");
    let told = browser.value("fetch('http://127.0.0.1:9/').then(() => 'told', () => 'refused')");
    assert_eq!(told, "refused");
    for refused in ["Executing inline script", "Applying inline style", "Connecting to"] {
        let is_told =
            browser.complaints.iter().any(|text| text.contains(refused) && text.contains("Content Security Policy"));
        assert!(is_told, "{refused}: {:?}", browser.complaints);
    }
}

#[test]
fn a_section_is_text_and_tables_that_open() {
    let Some(mut browser) = Browser::start() else { return };
    let column = |name: &str| Column { name: name.into(), data_type: Type::Text };
    let rows = Rows {
        columns: vec![column("column"), column("meaning")],
        rows: vec![vec![json!("<i>event_id</i>"), json!("unique")], vec![json!("channel"), Value::Null]],
    };
    let table =
        |title: &str| SectionTable { title: title.into(), text: "One row per event.".into(), rows: rows.clone() };
    let section = Section {
        name: "dictionary".into(),
        title: "Data dictionary".into(),
        text: "Every table.".into(),
        tables: vec![table("events"), table("sessions")],
    };
    let document = Document { title: "x".into(), about: About::default(), tiles: Vec::new(), sections: vec![section] };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    std::fs::write(&path, page::offline(&document).unwrap()).unwrap();
    browser.open(&format!("file://{}", path.display()));
    let shown = browser.value("document.getElementById('sections').innerText");
    assert_eq!(shown, "Data dictionary\n\nEvery table.\n\nevents\nsessions");
    browser.value("document.querySelectorAll('summary').forEach((one) => one.click())");
    let cells =
        browser.value("[...document.querySelectorAll('#sections tbody :is(th, td)')].map((one) => one.textContent)");
    assert_eq!(
        cells,
        json!(["<i>event_id</i>", "unique", "channel", "–", "<i>event_id</i>", "unique", "channel", "–"])
    );
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_live_page_fills_and_changes_as_runs_publish() {
    let Some(mut browser) = Browser::start() else { return };
    let house = House::of_sample("odd-cases");
    let server = serve(&house);
    browser.look(1280, 900, "light");
    browser.open(&server.address);
    browser.until("document.getElementById('about').textContent.startsWith('0 events')");
    house.succeed(&["run"]);
    let events = house.sql("select count(*) from events cross join as_of where occurred_at <= as_of.as_of")[0].clone();
    browser.until(&format!("document.getElementById('about').textContent.startsWith('{events} events')"));
    assert!(browser.value("document.querySelectorAll('.chart svg').length").as_u64() > Some(3));

    // What the reader has opened stays open.
    browser.value("document.querySelector('details').open = true");
    let run = browser.value("document.getElementById('about').textContent");
    house.write("dashboard.toml", b"title = 'Anew'\n");
    browser.until("document.getElementById('title').textContent === 'Anew'");
    assert_eq!(browser.value("document.getElementById('about').textContent"), run);
    assert_eq!(browser.value("document.querySelector('details').open"), true);

    // What is wrong leaves the page as it is.
    house.write("dashboard.toml", b"titel = 'Wrong'\n");
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(browser.value("document.getElementById('title').textContent"), "Anew");
    let origin = server.address.trim_end_matches('/').to_string();
    assert!(browser.requests.iter().all(|url| url.starts_with(&origin)), "{:?}", browser.requests);
    drop(server);
    browser.until("document.getElementById('state').textContent.startsWith('The server does not answer')");
    // That nobody answers is what the browser may complain of, and nothing else.
    let other: Vec<_> = browser.complaints.iter().filter(|text| !text.contains("ERR_CONNECTION_REFUSED")).collect();
    assert!(other.is_empty(), "{other:?}");
}
