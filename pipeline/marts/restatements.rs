//! Restatements: figures that were published before and are others now.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::catalog::{Mart, MartFile};
use crate::models::graph::Graph;
use crate::models::{Outcome, RowCount};

/// One published file that is another than before: that of a day, or of a whole mart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restatement {
    /// The mart.
    pub mart: String,
    /// The day, ISO 8601; none for a mart of one file, and for rows without a day.
    pub day: Option<String>,
    /// Why the model was built, of a view what it reads; none if an earlier run built it.
    pub reason: Option<String>,
    /// Rows of the file before.
    pub rows_before: usize,
    /// Rows of the file now; 0 when it is gone.
    pub rows_after: usize,
    /// Rows of the model that are gone, or others; none if it was built whole.
    pub rows_removed: Option<usize>,
    /// Rows of the model that are new, or others; none if it was built whole.
    pub rows_added: Option<usize>,
    /// First batch of events that came since the file was published; none if none came, or it is not known.
    pub first_batch: Option<i64>,
    /// Last batch of events that came since; as for the first.
    pub last_batch: Option<i64>,
    /// Events of these batches that occurred on the day, or at all for a mart of one file.
    pub events: Option<u64>,
    /// Seconds from the occurrence of one of these events to its receipt, at most, rounded down.
    pub max_lateness_seconds: Option<i64>,
}

/// Raised when equal rows are encoded otherwise than before, by a library that writes files too: columns of published files are
/// copied as they are stored. Raised also when digests are made otherwise.
pub const ENCODING: u32 = 4;

/// A digest of what comes before the footer of a Parquet file: the rows, and neither the words nor the version in it. It tells
/// damage and change, not forgery: who can write a file can write the catalog beside it. XXH64 with seed 0.
pub fn digest_of_rows(file: &[u8]) -> String {
    // The last eight bytes are the length of the footer and a mark.
    let length = file.last_chunk::<8>().map_or(0, |end| u32::from_le_bytes([end[0], end[1], end[2], end[3]]) as usize);
    let rows = &file[..file.len().saturating_sub(length + 8)];
    format!("{ENCODING}-{:016x}", XxHash64::oneshot(0, rows))
}

/// Whether two digests are of files that were encoded alike.
fn are_encoded_alike(a: &str, b: &str) -> bool {
    let encoding = |digest: &str| digest.split_once('-').map(|(encoding, _)| encoding.to_string());
    encoding(a) == encoding(b)
}

/// Files of a mart that are others than before; what is known of their events is told by others. None of a mart that is
/// published in another way than before.
pub fn find(graph: &Graph, name: &str, before: &Mart, now: &Mart, outcome: &Outcome) -> Vec<Restatement> {
    if before.path != now.path {
        return Vec::new();
    }
    // Counts are told from one set of rows to the next: they fit if the former was what was published.
    let changed = outcome.changed.get(name).filter(|changed| changed.before == before.fingerprint);
    let reason = reason(graph, name, outcome);
    let first_batch = before.batch.map(|batch| batch + 1).filter(|first| Some(*first) <= now.batch);
    let mut restatements = Vec::new();
    for (path, file) in &before.files {
        let after = now.files.get(path);
        if !is_another(file, after) {
            continue;
        }
        let day = day_of(path);
        let counted = changed.filter(|changed| changed.rows.is_some());
        let rows: Option<RowCount> = counted.and_then(|changed| match &day {
            Some((column, day)) => Some(changed.days.get(*column)?.get(day).copied().unwrap_or_default()),
            None => changed.rows,
        });
        restatements.push(Restatement {
            mart: name.to_string(),
            day: day.and_then(|(_, day)| text_of(day)),
            reason: reason.clone(),
            rows_before: file.rows,
            rows_after: after.map_or(0, |file| file.rows),
            rows_removed: rows.map(|rows| rows.removed),
            rows_added: rows.map(|rows| rows.added),
            first_batch,
            last_batch: first_batch.and(now.batch),
            events: None,
            max_lateness_seconds: None,
        });
    }
    restatements
}

/// What was restated before and not told, and what was found since. Of a file that is another twice it tells what it was at first
/// and is in the end, and not which rows came and went on the way; one that was gone may be there again, which no run restates.
pub fn with_untold(
    untold: &[Restatement],
    found: Vec<Restatement>,
    marts: &BTreeMap<String, Mart>,
) -> Vec<Restatement> {
    let key = |restated: &Restatement| (restated.mart.clone(), restated.day.clone());
    let mut all: BTreeMap<_, _> = untold.iter().map(|restated| (key(restated), restated.clone())).collect();
    for mut now in found {
        if let Some(before) = all.get(&key(&now)) {
            now = Restatement {
                rows_before: before.rows_before,
                rows_removed: None,
                rows_added: None,
                first_batch: before.first_batch.or(now.first_batch),
                last_batch: now.last_batch.or(before.last_batch),
                ..now
            };
        }
        all.insert(key(&now), now);
    }
    for ((mart, day), restated) in &mut all {
        let Some(mart) = marts.get(mart) else { continue };
        let is_of = |path: &str| day_of(path).and_then(|(_, day)| text_of(day)) == *day;
        let file = mart.files.iter().find(|(path, _)| is_of(path));
        restated.rows_after = file.map_or(0, |(_, file)| file.rows);
    }
    all.into_values().collect()
}

/// Why a model was built, of a view the first of those that it reads.
fn reason(graph: &Graph, name: &str, outcome: &Outcome) -> Option<String> {
    match graph.model(name) {
        Some(view) if !view.header.build.is_table() => view.reads.iter().find_map(|read| reason(graph, read, outcome)),
        _ => {
            let line = outcome.results.iter().find(|line| line.unique_id == format!("model.wayline.{name}"))?;
            Some(line.message.split(';').next().unwrap_or_default().to_string())
        }
    }
}

/// Whether a file is known to be another, or is gone.
fn is_another(before: &MartFile, now: Option<&MartFile>) -> bool {
    now.is_none_or(|now| before.digest != now.digest && are_encoded_alike(&before.digest, &now.digest))
}

/// The column and the day, since 1970, that the path of a file tells; no day where it tells that there is none.
fn day_of(path: &str) -> Option<(&str, Option<i32>)> {
    let (column, day) = path.rsplit('/').nth(1)?.split_once('=')?;
    let day = day.parse::<NaiveDate>().ok();
    let epoch = NaiveDate::default();
    Some((column, day.and_then(|day| i32::try_from((day - epoch).num_days()).ok())))
}

fn text_of(day: Option<i32>) -> Option<String> {
    let date = arrow::temporal_conversions::date32_to_datetime(day?)?;
    Some(date.date().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Changed;

    fn mart(batch: Option<i64>, files: &[(&str, usize, &str)]) -> Mart {
        let file = |(path, rows, digest): &(&str, usize, &str)| {
            (path.to_string(), MartFile { rows: *rows, bytes: 1, digest: digest.to_string() })
        };
        Mart {
            path: String::new(),
            description: String::new(),
            grain: Vec::new(),
            columns: Vec::new(),
            rows: 0,
            bytes: 0,
            files: files.iter().map(file).collect(),
            fingerprint: "f".into(),
            layout: String::new(),
            run_id: String::new(),
            published_at: None,
            as_of: None,
            batch,
        }
    }

    #[test]
    fn a_file_that_is_another_twice_is_told_once() {
        let restated = |day: &str, rows: (usize, usize), batches: Option<(i64, i64)>| Restatement {
            mart: "m".into(),
            day: Some(day.into()),
            reason: Some(format!("batch {batches:?}")),
            rows_before: rows.0,
            rows_after: rows.1,
            rows_removed: Some(1),
            rows_added: Some(2),
            first_batch: batches.map(|(first, _)| first),
            last_batch: batches.map(|(_, last)| last),
            events: None,
            max_lateness_seconds: None,
        };
        let none = BTreeMap::new();
        let untold = [restated("a", (1, 2), Some((3, 3))), restated("b", (5, 6), Some((3, 3)))];
        let now = vec![restated("b", (6, 9), Some((4, 5))), restated("c", (7, 8), None)];
        let twice = Restatement {
            rows_before: 5,
            first_batch: Some(3),
            rows_removed: None,
            rows_added: None,
            ..now[0].clone()
        };
        let expected = [untold[0].clone(), twice, now[1].clone()];
        assert_eq!(with_untold(&untold, now, &none), expected);
        // The file of a day was gone and is there again.
        let files = [("marts/m/on=a/part-0.parquet", 1, "x"), ("marts/m/on=1970-01-02/part-0.parquet", 4, "y")];
        let untold = [restated("1970-01-02", (4, 0), None), restated("1970-01-03", (6, 5), None)];
        let told = with_untold(&untold, vec![], &BTreeMap::from([("m".to_string(), mart(None, &files))]));
        assert_eq!((told[0].rows_after, told[1].rows_after), (4, 0));
        // A change of configuration, then nothing but events or the other way round: the batches that are known.
        let mut told = vec![restated("a", (1, 2), None)];
        told = with_untold(&told, vec![restated("a", (2, 3), Some((4, 4)))], &none);
        told = with_untold(&told, vec![restated("a", (3, 4), None)], &none);
        assert_eq!((told[0].rows_before, told[0].rows_after), (1, 4));
        assert_eq!((told[0].first_batch, told[0].last_batch), (Some(4), Some(4)));
    }

    #[test]
    fn files_that_are_others_are_told_and_new_ones_are_not() {
        let before = mart(
            Some(3),
            &[
                ("marts/m/on=1970-01-01/part-0.parquet", 5, "a"),
                ("marts/m/on=1970-01-02/part-0.parquet", 6, "b"),
                ("marts/m/on=1970-01-03/part-0.parquet", 7, "c"),
                ("marts/m/on=1970-01-04/part-0.parquet", 8, "1-d"),
            ],
        );
        let now = mart(
            Some(5),
            &[
                ("marts/m/on=1970-01-01/part-0.parquet", 5, "a"),
                ("marts/m/on=1970-01-02/part-0.parquet", 9, "x"),
                ("marts/m/on=1970-01-04/part-0.parquet", 8, "2-d"),
                ("marts/m/on=1970-01-05/part-0.parquet", 1, "e"),
            ],
        );
        let (graph, mut outcome) = (Graph::default(), Outcome::default());
        let days = BTreeMap::from([(Some(1), RowCount { removed: 1, added: 4 })]);
        let rows = Some(RowCount::default());
        let changed = Changed { before: "f".into(), rows, days: [("on".into(), days)].into(), ..Changed::default() };
        outcome.changed.insert("m".into(), changed);
        let told: Vec<_> = find(&graph, "m", &before, &now, &outcome)
            .into_iter()
            .map(|restated| {
                let rows = (restated.rows_before, restated.rows_after, restated.rows_removed, restated.rows_added);
                (restated.day.unwrap(), rows, restated.first_batch, restated.last_batch)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("1970-01-02".to_string(), (6, 9, Some(1), Some(4)), Some(4), Some(5)),
                ("1970-01-03".to_string(), (7, 0, Some(0), Some(0)), Some(4), Some(5)),
            ]
        );
        // Without a batch since, and of another table than was published.
        let again = mart(Some(3), &[("marts/m/on=1970-01-02/part-0.parquet", 9, "x")]);
        outcome.changed.clear();
        let told = find(&graph, "m", &before, &again, &outcome);
        assert_eq!((told.len(), told[1].first_batch, told[1].rows_added), (4, None, None));
    }
}
