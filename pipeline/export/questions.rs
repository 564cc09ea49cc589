//! What is asked of the marts: plain SQL that DuckDB and the database door both take.

use std::borrow::Cow;

use super::Published;

/// How an answer is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chart {
    /// One number.
    Number,
    /// A bar per row: the first column names it, the second measures it.
    Bars,
    /// A line over the days of the first column, `day`; the other columns measure.
    Lines,
    /// Rows.
    Table,
}

/// One question.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Name of its query: lower snake_case.
    pub name: &'a str,
    /// Title.
    pub title: &'a str,
    /// The mart that answers it.
    pub mart: &'a str,
    /// How the answer is drawn.
    pub chart: Chart,
    sql: Cow<'a, str>,
}

const fn question(
    name: &'static str,
    title: &'static str,
    mart: &'static str,
    chart: Chart,
    sql: &'static str,
) -> Question<'static> {
    Question { name, title, mart, chart, sql: Cow::Borrowed(sql) }
}

/// Stands where a filter by day may stand: `{day COLUMN}`.
const DAY: &str = "{day ";

const QUESTIONS: [Question<'static>; 11] = [
    question(
        "journeys",
        "Journeys",
        "paths",
        Chart::Number,
        "select sum(journeys) as journeys from paths where {day started_date}",
    ),
    question(
        "conversion_rate",
        "Share of journeys that reach their goal",
        "paths",
        Chart::Number,
        "select cast(sum(converted) as double) / nullif(sum(journeys), 0) as conversion_rate from paths \
              where {day started_date}",
    ),
    question(
        "journeys_by_day",
        "Journeys by day",
        "paths",
        Chart::Lines,
        "select started_date as day, sum(journeys) as journeys, sum(converted) as converted from paths \
              where {day started_date} group by started_date order by 1",
    ),
    question(
        "touches_by_day",
        "Touches by day",
        "stage_channels",
        Chart::Lines,
        "select occurred_date as day, sum(touches) as touches from stage_channels where {day occurred_date} \
              group by occurred_date order by 1",
    ),
    question(
        "funnel",
        "How far attempts get",
        "funnel_steps",
        Chart::Bars,
        "select concat(funnel, ' ', step, ' ', step_name) as step, sum(reached) as reached from funnel_steps \
              where {day entered_date} group by 1 order by 1",
    ),
    question(
        "top_paths",
        "Paths that most journeys take",
        "paths",
        Chart::Bars,
        "select path, sum(journeys) as journeys from paths where {day started_date} group by path \
              order by 2 desc, 1 limit 15",
    ),
    question(
        "lifecycle",
        "Customers by state of the lifecycle",
        "customers",
        Chart::Bars,
        "select lifecycle_state, count(*) as customers from customers group by 1 order by 2 desc, 1",
    ),
    question(
        "drop_offs",
        "Where they went instead",
        "drop_offs",
        Chart::Table,
        "select funnel, step, outcome, next_touchpoint, next_channel, attempts, customers, median_seconds_to_next \
              from drop_offs where outcome <> 'converted' order by attempts desc, 1, 2, 3, 4, 5 limit 20",
    ),
    question(
        "channel_switches",
        "Changes of channel",
        "channel_switches",
        Chart::Table,
        "select from_channel, to_channel, scope, sum(switches) as switches, \
              sum(converted_after) as converted_after, sum(exited_after) as exited_after, \
              sum(repeated_after) as repeated_after from channel_switches \
              where {day switched_date} group by 1, 2, 3 order by 4 desc, 1, 2, 3",
    ),
    question(
        "stage_channels",
        "Touches by stage and channel",
        "stage_channels",
        Chart::Table,
        "select stage, channel, sum(touches) as touches, sum(entries) as entries, sum(exits) as exits, \
              sum(converted) as converted from stage_channels where {day occurred_date} \
              group by 1, 2 order by 3 desc, 1, 2",
    ),
    question(
        "data_quality",
        "What became of the records of each source",
        "data_quality",
        Chart::Table,
        "select source, sum(rows_in) as rows_in, sum(landed) as landed, sum(duplicates) as duplicates, \
              sum(dead_letters) as dead_letters, sum(late_events) as late_events, \
              min(freshness_seconds) as freshness_seconds \
              from data_quality group by 1 order by 1",
    ),
];

/// The questions that what is published can answer, and a look at each mart that none of them is about.
pub fn answerable<'a>(published: &'a Published<'_>) -> Vec<Question<'a>> {
    let has_columns = |name: &str, needed: &[&str]| {
        published.mart(name).is_some_and(|mart| {
            mart.has_files && needed.iter().all(|needed| mart.columns.iter().any(|column| column.name == *needed))
        })
    };
    // A project may have another model of the name.
    let can_answer = |mart: &str| NEEDED.iter().any(|(name, needed)| *name == mart && has_columns(name, needed));
    let mut questions: Vec<Question<'a>> =
        QUESTIONS.iter().filter(|question| can_answer(question.mart)).cloned().collect();
    for mart in published.marts.iter().filter(|mart| mart.has_files && !can_answer(mart.name()) && !mart.is_built_in) {
        questions.push(Question {
            name: mart.name(),
            title: mart.table.description.split(':').next().unwrap_or_default(),
            mart: mart.name(),
            chart: Chart::Table,
            sql: format!("select * from {} limit 100", mart.name()).into(),
        });
    }
    questions
}

/// Columns that are asked for, by mart.
const NEEDED: [(&str, &[&str]); 7] = [
    ("paths", &["path", "journeys", "converted", "started_date"]),
    ("funnel_steps", &["funnel", "step", "step_name", "reached", "entered_date"]),
    (
        "drop_offs",
        &[
            "funnel",
            "step",
            "outcome",
            "next_touchpoint",
            "next_channel",
            "attempts",
            "customers",
            "median_seconds_to_next",
        ],
    ),
    (
        "channel_switches",
        &[
            "from_channel",
            "to_channel",
            "scope",
            "switches",
            "converted_after",
            "exited_after",
            "repeated_after",
            "switched_date",
        ],
    ),
    ("stage_channels", &["stage", "channel", "touches", "entries", "exits", "converted", "occurred_date"]),
    ("customers", &["lifecycle_state"]),
    (
        "data_quality",
        &["source", "rows_in", "landed", "duplicates", "dead_letters", "late_events", "freshness_seconds"],
    ),
];

impl Question<'_> {
    /// The query; `filter` makes the condition on a column of days.
    pub fn sql(&self, filter: impl Fn(&str) -> String) -> String {
        let mut sql = String::new();
        let mut rest = self.sql.as_ref();
        while let Some((head, tail)) = rest.split_once(DAY) {
            let (column, tail) = tail.split_once('}').expect("a filter ends");
            sql.push_str(head);
            sql.push_str(&filter(column));
            rest = tail;
        }
        sql + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_by_day_stands_where_the_question_has_one() {
        let sql = QUESTIONS[0].sql(|day| format!("{day} > date '2025-01-01'"));
        assert_eq!(sql, "select sum(journeys) as journeys from paths where started_date > date '2025-01-01'");
        for question in &QUESTIONS {
            assert!(!question.sql(|_| "true".into()).contains('{'), "{}", question.name);
            assert!(NEEDED.iter().any(|(mart, _)| *mart == question.mart), "{}", question.name);
        }
    }
}
