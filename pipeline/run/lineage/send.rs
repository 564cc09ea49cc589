//! The ways on which events leave.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Context, Error, Result};

/// A receiver that takes longer than this for one event is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Appends events to a file, one a line, in one write, so that those of two runs do not mix.
pub fn append(file: &Path, events: &[Value]) -> Result<()> {
    let mut lines = String::new();
    for event in events {
        lines.push_str(&event.to_string());
        lines.push('\n');
    }
    let mut opened = OpenOptions::new().create(true).append(true).open(file).context(file.display())?;
    opened.write_all(lines.as_bytes()).context(file.display())
}

/// Posts events one by one, in order; the first that is not taken ends it.
pub async fn post(url: &str, api_key: Option<&str>, events: &[Value]) -> Result<()> {
    let failed = |error: reqwest::Error| Error::unavailable(format!("lineage: {}", error.without_url()));
    let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(failed)?;
    for event in events {
        let mut request = client.post(url).header("content-type", "application/json").body(event.to_string());
        if let Some(key) = api_key {
            request = request.bearer_auth(key);
        }
        request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    }
    Ok(())
}
