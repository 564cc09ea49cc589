//! A dashboard of Grafana over the database door, and what provisions both.

use chrono::{DateTime, Duration, SecondsFormat};
use serde_json::{Value, json};

use super::questions::{Chart, Question, answerable};
use super::{File, Published};

const README: &str = "\
# A dashboard of Grafana over a lake

1. Open the database door beside the project: `wayline serve --postgres 127.0.0.1:5433` (a build with `--features postgres`).
2. Put `provisioning/` into the folder of Grafana's configuration (often /etc/grafana), `dashboards/wayline.json` into
   /var/lib/grafana/dashboards/wayline, and start Grafana anew; or import the JSON by hand and choose the data source.
3. Where the door is another, or asks for a password, change `provisioning/datasources/wayline.yaml`.

Written by `wayline export grafana`: yours from now on.
";

const DATA_SOURCE: &str = "\
# How to use: into provisioning/datasources of Grafana; the door is `wayline serve --postgres 127.0.0.1:5433`.
apiVersion: 1
datasources:
  - name: wayline
    uid: wayline
    type: grafana-postgresql-datasource
    access: proxy
    url: 127.0.0.1:5433
    user: wayline
    editable: true
    jsonData:
      database: wayline
      sslmode: disable
      postgresVersion: 1500
    # Where the door asks for one: secureJsonData: {password: $WAYLINE_PASSWORD}
";

const DASHBOARDS: &str = "\
# How to use: into provisioning/dashboards of Grafana, and wayline.json into the folder that `path` names.
apiVersion: 1
providers:
  - name: wayline
    type: file
    options:
      path: /var/lib/grafana/dashboards/wayline
";

/// Days that the dashboard shows first.
const DAYS: i64 = 90;
/// Columns of Grafana's grid.
const GRID: u64 = 24;

pub fn files(published: &Published<'_>) -> Vec<File> {
    let dashboard = serde_json::to_string_pretty(&dashboard(published)).expect("text and numbers are JSON");
    vec![
        File::new("README.md", README.into()),
        File::new("provisioning/datasources/wayline.yaml", DATA_SOURCE.into()),
        File::new("provisioning/dashboards/wayline.yaml", DASHBOARDS.into()),
        File::new("dashboards/wayline.json", dashboard + "\n"),
    ]
}

fn dashboard(published: &Published<'_>) -> Value {
    let (mut panels, mut row, mut column, mut height) = (Vec::new(), 0, 0, 0);
    for (number, question) in answerable(published).iter().enumerate() {
        let (wide, high) = match question.chart {
            Chart::Number => (12, 4),
            Chart::Lines => (12, 9),
            Chart::Bars => (8, 9),
            Chart::Table => (24, 9),
        };
        if column + wide > GRID {
            (row, column, height) = (row + height, 0, 0);
        }
        panels.push(panel(number as u64 + 1, question, json!({"x": column, "y": row, "w": wide, "h": high})));
        (column, height) = (column + wide, height.max(high));
    }
    json!({
        "title": "Customer journeys",
        "uid": "wayline",
        "description": "Over `wayline serve --postgres`; see README.md beside it. Written by `wayline export grafana`.",
        "tags": ["wayline"],
        "timezone": "utc",
        "schemaVersion": 41,
        "editable": true,
        "time": time(published),
        "panels": panels,
    })
}

/// The last days up to the logical time of what is published.
fn time(published: &Published<'_>) -> Value {
    let as_of = published.as_of.as_deref().and_then(|as_of| DateTime::parse_from_rfc3339(as_of).ok());
    match as_of {
        Some(as_of) => {
            let text = |time: DateTime<_>| time.to_utc().to_rfc3339_opts(SecondsFormat::Millis, true);
            json!({"from": text(as_of - Duration::days(DAYS)), "to": text(as_of)})
        }
        None => json!({"from": format!("now-{DAYS}d"), "to": "now"}),
    }
}

fn panel(id: u64, question: &Question<'_>, place: Value) -> Value {
    let source = json!({"type": "grafana-postgresql-datasource", "uid": "wayline"});
    let sql = question.sql(|day| format!("$__timeFilter(cast({day} as timestamp))"));
    let (kind, options, format) = match question.chart {
        Chart::Number => ("stat", json!({"reduceOptions": {"calcs": ["lastNotNull"]}}), "table"),
        Chart::Bars => ("barchart", json!({"orientation": "horizontal", "legend": {"showLegend": false}}), "table"),
        Chart::Lines => ("timeseries", json!({}), "time_series"),
        Chart::Table => ("table", json!({}), "table"),
    };
    // A series needs an instant that is called time.
    let sql = match sql.strip_prefix("select ").and_then(|rest| rest.split_once(" as day")) {
        Some((day, rest)) => format!("select cast({day} as timestamp) as time{rest}"),
        None => sql,
    };
    let unit = if question.name.ends_with("_rate") { "percentunit" } else { "short" };
    json!({
        "id": id,
        "type": kind,
        "title": question.title,
        "description": format!("From {}", question.mart),
        "gridPos": place,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": options,
        "targets": [{
            "refId": "A",
            "datasource": source,
            "format": format,
            "rawQuery": true,
            "editorMode": "code",
            "rawSql": sql,
        }],
    })
}
