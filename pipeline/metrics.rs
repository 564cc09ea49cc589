//! What the lake and its runs count, in the text format of Prometheus.
//!
//! Counts of rows and batches are those of the lake since its first batch, read from the books of landing: they go on
//! where they were when a watch is started again, and equal those of `data_quality`. Counts of runs, retries and times
//! are those of one watch; a run by itself tells of itself alone. No label names a customer, a file or a value.
//!
//! Source: Prometheus, "Exposition formats", text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use crate::error::Result;
use crate::landing;
use crate::landing::ledger::{Counts, Entry};
use crate::models::graph::Graph;
use crate::run::report::micros;
use crate::run::{Report, RunStatus};
use crate::table_sizes::{self, TableSize};
use crate::workspace::Workspace;

/// Media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const LAST_SUCCESS: &str = "wayline_last_success_timestamp_seconds";

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
    last_run: Option<LastRun>,
    /// Microseconds since 1970.
    last_success_at: Option<i64>,
    /// The same, of this watch.
    maintained_at: Option<i64>,
    retries: u64,
    touched_customers: u64,
}

/// The run that ended last.
#[derive(Debug)]
struct LastRun {
    /// Microseconds since 1970.
    ended_at: Option<i64>,
    seconds: f64,
    is_well: bool,
    /// Seconds by stage.
    stages: BTreeMap<String, f64>,
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
    /// What the lake counts. `last_success_at` is that of an earlier run, which holds until one succeeds again.
    pub async fn of_lake(workspace: &Workspace, last_success_at: Option<i64>) -> Result<Self> {
        let mut metrics = Self { last_success_at, ..Self::default() };
        let last = landing::last_batch(workspace).await?;
        Entry::load_all(&workspace.lake, last).await?.iter().for_each(|entry| metrics.count_batch(entry));
        let graph = Graph::load(&workspace.ctx, &workspace.project.folder.join("queries"))?;
        metrics.measured(table_sizes::of_lake(workspace, &graph).await?);
        Ok(metrics)
    }

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
        self.ran(report);
        if let Some(published_at) = micros(&report.metadata.generated_at) {
            planned_at.iter().for_each(|planned_at| self.landing_to_mart.observe(seconds(published_at - planned_at)));
        }
    }

    /// Keeps what is told of the run that ended last.
    pub fn ran(&mut self, report: &Report) {
        let ended_at = micros(&report.metadata.generated_at);
        let is_well = matches!(report.status, RunStatus::Success | RunStatus::NothingNew);
        let (seconds, stages) = (report.elapsed_time, report.stages.clone());
        self.last_run = Some(LastRun { ended_at, seconds, is_well, stages });
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

    /// Keeps the time at which the lake was maintained, in microseconds since 1970.
    pub fn maintained_at(&mut self, time: i64) {
        self.maintained_at = Some(time);
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

    /// What a watch tells at `now`, in microseconds since 1970.
    pub fn text(&self, now: i64) -> String {
        let mut page = Page::default();
        self.of_events(now, &mut page);
        self.of_watch(&mut page);
        self.of_runs(&mut page);
        self.of_tables(&mut page);
        page.text
    }

    /// What a run by itself tells at `now`, in microseconds since 1970.
    pub fn text_of_run(&self, now: i64) -> String {
        let mut page = Page::default();
        self.of_events(now, &mut page);
        self.of_runs(&mut page);
        self.of_tables(&mut page);
        page.text
    }

    fn of_events(&self, now: i64, page: &mut Page) {
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
    }

    fn of_watch(&self, page: &mut Page) {
        self.landing_to_mart(page);
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
        let help = "When this watch last maintained the lake, in seconds since 1970.";
        page.gauge("wayline_last_maintenance_timestamp_seconds", help, self.maintained_at.map(seconds));
    }

    fn of_runs(&self, page: &mut Page) {
        if let Some(LastRun { ended_at, seconds: took, is_well, stages }) = &self.last_run {
            let help = "When the last run ended, in seconds since 1970.";
            page.gauge("wayline_last_run_timestamp_seconds", help, ended_at.map(seconds));
            page.gauge("wayline_last_run_seconds", "Time that the last run took.", Some(*took));
            let help = "Whether all that was due in the last run was done: 1 or 0.";
            page.gauge("wayline_last_run_success", help, Some(f64::from(u8::from(*is_well))));
            page.family("wayline_last_run_stage_seconds", "gauge", "Time that the last run spent in a stage.");
            for (stage, seconds) in stages {
                page.sample("", &[("stage", stage)], seconds);
            }
        }
        let help = "When everything that was due was last done, in seconds since 1970.";
        page.gauge(LAST_SUCCESS, help, self.last_success_at.map(seconds));
    }

    fn of_tables(&self, page: &mut Page) {
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

/// When everything was last done according to metrics that were written before, in microseconds since 1970.
pub fn last_success_in(text: &str) -> Option<i64> {
    let seconds: f64 = text.lines().find_map(|line| line.strip_prefix(LAST_SUCCESS)?.trim().parse().ok())?;
    Some((seconds * 1e6).round() as i64)
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
    use crate::run::Options;
    use crate::run::report::Job;

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
            replay: None,
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
        metrics.ran(&Job::begin(Options::default()).report(None));
        let text = metrics.text(0);
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(names.len(), 22);
        for name in names {
            assert!(include_str!("docs/watch.md").contains(&format!("`{name}")), "{name}");
        }
    }

    #[test]
    fn a_last_success_is_found_in_what_was_written() {
        let mut metrics = Metrics::default();
        assert_eq!(last_success_in(&metrics.text_of_run(0)), None);
        metrics.succeeded_at(1_764_172_800_123_456);
        assert_eq!(last_success_in(&metrics.text_of_run(0)), Some(1_764_172_800_123_456));
    }

    #[test]
    fn a_run_by_itself_counts_no_runs() {
        let mut metrics = Metrics::default();
        metrics.ran(&Job::begin(Options::default()).report(None));
        let text = metrics.text_of_run(0);
        assert!(text.contains("\nwayline_last_run_success 1\n"), "{text}");
        assert!(!text.contains("wayline_runs_total") && !text.contains("wayline_retries_total"), "{text}");
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
