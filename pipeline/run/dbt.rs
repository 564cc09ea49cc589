//! A run's report in the shape of dbt's `run_results.json`, for the tools that read that file.
//!
//! Source: dbt, schema `run-results` version 6. All keys of our own report stay beside dbt's.

use serde_json::{Map, Value, json};

use super::report::Report;
use crate::error::Result;
use crate::models::NodeResult;

/// dbt's name of the schema, by which tools choose how to read the file.
const SCHEMA: &str = "https://schemas.getdbt.com/dbt/run-results/v6.json";
/// dbt's name of a thread. Models share the threads of the engine.
const THREAD: &str = "main";

/// The report with the keys that dbt's schema asks for.
pub fn run_results(report: &Report) -> Result<Value> {
    let mut document = serde_json::to_value(report)?;
    let results: Vec<Value> = report.results.iter().map(line).collect::<Result<_>>()?;
    document["results"] = results.into();
    let metadata = &mut document["metadata"];
    metadata["dbt_schema_version"] = SCHEMA.into();
    metadata["invocation_started_at"] = report.metadata.started_at.clone().into();
    metadata["env"] = json!({});
    Ok(document)
}

fn line(result: &NodeResult) -> Result<Value> {
    let mut line = serde_json::to_value(result)?;
    let mut answer = Map::new();
    answer.extend(result.rows.map(|rows| ("rows_affected".to_string(), rows.into())));
    answer.extend(result.bytes.map(|bytes| ("bytes_written".to_string(), bytes.into())));
    line["adapter_response"] = answer.into();
    line["thread_id"] = THREAD.into();
    line["compiled"] = Value::Null;
    line["compiled_code"] = Value::Null;
    line["relation_name"] = result.unique_id.rsplit('.').next().into();
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::Options;
    use super::super::report::Job;
    use super::*;
    use crate::models::{Status, result};

    #[test]
    fn each_line_has_the_keys_that_the_schema_requires() {
        let mut job = Job::begin(Options { command: "run".into(), ..Options::default() });
        let mut built = result("model", "sessions", Status::Success, Instant::now(), "new data".into());
        (built.rows, built.bytes) = (Some(3), Some(100));
        job.results.push(built);
        job.results.push(result("test", "sessions_do_not_overlap", Status::Pass, Instant::now(), String::new()));
        let document = run_results(&job.report(None)).unwrap();
        // As `required` in the schema.
        for key in ["metadata", "results", "elapsed_time"] {
            assert!(!document[key].is_null(), "{key}");
        }
        for line in document["results"].as_array().unwrap() {
            let line = line.as_object().unwrap();
            for key in [
                "status",
                "timing",
                "thread_id",
                "execution_time",
                "adapter_response",
                "message",
                "failures",
                "unique_id",
                "compiled",
                "compiled_code",
                "relation_name",
            ] {
                assert!(line.contains_key(key), "{key}");
            }
        }
        assert_eq!(document["results"][0]["adapter_response"], json!({"rows_affected": 3, "bytes_written": 100}));
        assert_eq!(document["results"][0]["relation_name"], "sessions");
        assert_eq!(document["results"][1]["adapter_response"], json!({}));
        assert_eq!(document["status"], "success", "our own keys stay");
    }
}
