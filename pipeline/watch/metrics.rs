//! What a watch counts, in the text format of Prometheus.
//!
//! Counts of rows and batches are those of the lake since its first batch, read from the books of landing: they go on
//! where they were when a watch is started again, and equal those of `data_quality`. Counts of runs, retries and times
//! are those of this watch. No label names a customer, a file or a value.
//!
//! Source: Prometheus, "Exposition formats", text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use crate::landing::ledger::{Counts, Entry};
use crate::run::Report;
use crate::run::report::micros;
use crate::table_sizes::TableSize;

/// Media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets of times from landing to mart, in seconds.
const BOUNDS: [f64; 12] = [0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

/// The counts.
#[derive(Debug, Default)]
pub struct Metrics {
    batches: u64,
    sources: BTreeMap<String, Counts>,
    /// Newest `occurred_at` that was landed, microseconds since 1970.
    newest_occurred_at: Option<i64>,
    runs: BTreeMap<&'static str, u64>,
    /// Seconds and runs by stage.
    stages: BTreeMap<String, (f64, u64)>,
    landing_to_mart: Histogram,
    tables: Vec<TableSize>,
    /// Microseconds since 1970.
    last_success_at: Option<i64>,
    retries: u64,
    touched_customers: u64,
}

/// Picks a size of a table, if it is known.
type Pick = fn(&TableSize) -> Option<u64>;

/// Observations by bucket.
#[derive(Debug, Default)]
struct Histogram {
    /// Observations up to each bound and not up to the one before.
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, value: f64) {
        if let Some(bucket) = BOUNDS.iter().position(|bound| value <= *bound) {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.sum += value;
    }
}

impl Metrics {
    /// Counts a batch that was landed.
    pub fn count_batch(&mut self, entry: &Entry) {
        self.batches += 1;
        for (source, counts) in &entry.sources {
            self.sources.entry(source.clone()).or_default().add(counts);
        }
        self.newest_occurred_at = self.newest_occurred_at.max(entry.newest_occurred_at);
    }

    /// Counts a run that came to its end, and the time that it took from the plan of each batch that it published.
    pub fn count_run(&mut self, report: &Report, planned_at: &[i64]) {
        *self.runs.entry(report.status.as_str()).or_default() += 1;
        for (stage, seconds) in &report.stages {
            let (sum, count) = self.stages.entry(stage.clone()).or_default();
            *sum += seconds;
            *count += 1;
        }
        self.touched_customers += report.touched_customers.unwrap_or_default() as u64;
        if let Some(published_at) = micros(&report.metadata.generated_at) {
            planned_at.iter().for_each(|planned_at| self.landing_to_mart.observe(seconds(published_at - planned_at)));
        }
    }

    /// Counts a run that an error ended.
    pub fn count_error(&mut self) {
        *self.runs.entry("error").or_default() += 1;
    }

    /// Counts a wait for a fault to pass.
    pub fn count_retry(&mut self) {
        self.retries += 1;
    }

    /// Keeps the time at which everything that was due was done, in microseconds since 1970.
    pub fn succeeded_at(&mut self, time: i64) {
        self.last_success_at = Some(time);
    }

    /// Keeps the sizes of the tables.
    pub fn measured(&mut self, tables: Vec<TableSize>) {
        self.tables = tables;
    }

    /// Batches of the lake.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Newest `occurred_at` that was landed, microseconds since 1970.
    pub fn newest_occurred_at(&self) -> Option<i64> {
        self.newest_occurred_at
    }

    /// When everything that was due was last done, microseconds since 1970.
    pub fn last_success_at(&self) -> Option<i64> {
        self.last_success_at
    }

    /// From the newest event to `now`, in seconds.
    pub fn freshness_seconds(&self, now: i64) -> Option<f64> {
        self.newest_occurred_at.map(|newest| seconds(now - newest))
    }

    /// The text at `now`, in microseconds since 1970.
    pub fn text(&self, now: i64) -> String {
        let mut page = Page::default();
        page.family("wayline_batches_total", "counter", "Batches landed in this lake.");
        page.sample("", &[], self.batches);
        for (name, help, pick) in [
            ("wayline_landed_rows_total", "Events landed in this lake.", (|c| c.landed) as fn(&Counts) -> u64),
            ("wayline_duplicates_total", "Records passed over since their event id was known.", |c| c.duplicates),
            ("wayline_dead_letters_total", "Records refused and kept with a reason.", |c| c.dead_letters),
            ("wayline_late_rows_total", "Events received more than a day after they occurred.", |c| c.late),
            ("wayline_landed_bytes_total", "Bytes of the files that were taken, as stored.", |c| c.bytes),
        ] {
            page.family(name, "counter", help);
            for (source, counts) in &self.sources {
                page.sample("", &[("source", source)], pick(counts));
            }
        }
        let newest = self.newest_occurred_at.map(seconds);
        let help = "When the newest event occurred, in seconds since 1970.";
        page.gauge("wayline_newest_event_timestamp_seconds", help, newest);
        let help = "Time since the newest event occurred, when this was written.";
        page.gauge("wayline_freshness_seconds", help, self.freshness_seconds(now));
        self.landing_to_mart(&mut page);
        page.family("wayline_stage_seconds", "summary", "Time that runs spent in a stage.");
        for (stage, (sum, count)) in &self.stages {
            page.sample("_sum", &[("stage", stage)], sum);
            page.sample("_count", &[("stage", stage)], count);
        }
        page.family("wayline_runs_total", "counter", "Runs of this watch, by how they ended.");
        for (status, count) in &self.runs {
            page.sample("", &[("status", status)], count);
        }
        let help = "Customers whose rows were made anew, as often as they were; none where models were built whole.";
        page.family("wayline_touched_customers_total", "counter", help);
        page.sample("", &[], self.touched_customers);
        page.family("wayline_retries_total", "counter", "Waits for a fault to pass.");
        page.sample("", &[], self.retries);
        let help = "When everything that was due was last done, in seconds since 1970.";
        page.gauge("wayline_last_success_timestamp_seconds", help, self.last_success_at.map(seconds));
        for (name, help, pick) in [
            ("wayline_table_files", "Data files of a table.", (|t| Some(t.files as u64)) as Pick),
            ("wayline_table_bytes", "Bytes of the data files of a table.", |t| Some(t.bytes)),
            ("wayline_table_rows", "Rows of a table.", |t| t.rows.map(|rows| rows as u64)),
            ("wayline_log_commits", "Commits that the log of a table keeps.", |t| Some(t.log_commits as u64)),
        ] {
            page.family(name, "gauge", help);
            for table in &self.tables {
                if let Some(value) = pick(table) {
                    page.sample("", &[("table", &table.table)], value);
                }
            }
        }
        page.text
    }

    fn landing_to_mart(&self, page: &mut Page) {
        let Histogram { counts, count, sum } = &self.landing_to_mart;
        page.family("wayline_landing_to_mart_seconds", "histogram", "From the plan of a batch to its publication.");
        let mut up_to = 0;
        for (bound, count) in BOUNDS.iter().zip(counts) {
            up_to += count;
            page.sample("_bucket", &[("le", &bound.to_string())], up_to);
        }
        page.sample("_bucket", &[("le", "+Inf")], count);
        page.sample("_sum", &[], sum);
        page.sample("_count", &[], count);
    }
}

/// Microseconds as seconds.
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// The text as far as it is written.
#[derive(Default)]
struct Page {
    text: String,
    /// Name of the metric that is being written.
    name: &'static str,
}

impl Page {
    /// Begins a metric.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// A sample of the metric that was begun.
    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let name = self.name;
        self.line(format_args!("{name}{suffix}{labels} {value}"));
    }

    /// A metric of one value; without one it is left out, since 0 would be a time.
    fn gauge(&mut self, name: &'static str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.family(name, "gauge", help);
            self.sample("", &[], value);
        }
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.text, "{line}").expect("a text takes every line");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(planned_at: i64, newest: Option<i64>, landed: u64) -> Entry {
        let counts =
            Counts { files: 1, bytes: 100, rows_in: landed + 3, landed, duplicates: 2, dead_letters: 1, late: 4 };
        Entry {
            format: 1,
            batch: 1,
            planned_at,
            files: Vec::new(),
            touched: Vec::new(),
            sources: BTreeMap::from([("we\"b\\\n".into(), counts)]),
            newest_occurred_at: newest,
        }
    }

    #[test]
    fn batches_are_added_up_and_labels_escaped() {
        let mut metrics = Metrics::default();
        metrics.count_batch(&entry(0, Some(2_500_000), 5));
        metrics.count_batch(&entry(0, None, 7));
        let text = metrics.text(4_000_000);
        for line in [
            "wayline_batches_total 2",
            r#"wayline_landed_rows_total{source="we\"b\\\n"} 12"#,
            r#"wayline_duplicates_total{source="we\"b\\\n"} 4"#,
            r#"wayline_dead_letters_total{source="we\"b\\\n"} 2"#,
            r#"wayline_late_rows_total{source="we\"b\\\n"} 8"#,
            "wayline_newest_event_timestamp_seconds 2.5",
            "wayline_freshness_seconds 1.5",
            "# TYPE wayline_landing_to_mart_seconds histogram",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("wayline_last_success"), "what never was is left out");
    }

    #[test]
    fn each_metric_stands_in_the_manual() {
        let mut metrics = Metrics::default();
        metrics.count_batch(&entry(0, Some(0), 1));
        metrics.succeeded_at(0);
        let text = metrics.text(0);
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(names.len(), 18);
        for name in names {
            assert!(include_str!("../docs/watch.md").contains(&format!("`{name}")), "{name}");
        }
    }

    #[test]
    fn a_bucket_counts_all_up_to_its_bound() {
        let mut metrics = Metrics::default();
        for value in [0.1, 0.5, 0.6, 10.0, 4000.0] {
            metrics.landing_to_mart.observe(value);
        }
        let text = metrics.text(0);
        for line in [
            r#"wayline_landing_to_mart_seconds_bucket{le="0.5"} 2"#,
            r#"wayline_landing_to_mart_seconds_bucket{le="1"} 3"#,
            r#"wayline_landing_to_mart_seconds_bucket{le="5"} 3"#,
            r#"wayline_landing_to_mart_seconds_bucket{le="10"} 4"#,
            r#"wayline_landing_to_mart_seconds_bucket{le="3600"} 4"#,
            r#"wayline_landing_to_mart_seconds_bucket{le="+Inf"} 5"#,
            "wayline_landing_to_mart_seconds_count 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
