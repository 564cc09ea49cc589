//! What is said on stderr: lines for people, or one JSON object per line. A reader that went away is no error.

use std::io::Write;
use std::time::Duration;

use super::LogFormat;
use crate::error::Error;
use crate::excerpt::excerpt;
use crate::models::NodeResult;

/// Speaks in one of the two forms.
#[derive(Debug, Clone, Copy)]
pub struct Messages(pub LogFormat);

impl Messages {
    /// A stage begins.
    pub fn stage(self, stage: &str) {
        match self.0 {
            LogFormat::Text => line(stage),
            LogFormat::Json => tracing::info!(stage, "began"),
        }
    }

    /// A model, check or mart that did not end well.
    pub fn not_well(self, result: &NodeResult) {
        let NodeResult { unique_id, status, message, .. } = result;
        match self.0 {
            LogFormat::Text => line(&format!("{status:?} {unique_id}: {message}")),
            LogFormat::Json => tracing::error!(unique_id, ?status, message, "did not end well"),
        }
    }

    /// A line about what goes on.
    pub fn say(self, text: &str) {
        match self.0 {
            LogFormat::Text => line(text),
            LogFormat::Json => tracing::info!("{text}"),
        }
    }

    /// A fault ended a cycle, which is tried again after a time.
    pub fn waits(self, error: &Error, wait: Duration) {
        let seconds = wait.as_secs_f64();
        match self.0 {
            LogFormat::Text => line(&format!("could not go on: {error}; trying again in {seconds:.1} s")),
            LogFormat::Json => tracing::warn!(kind = ?error.kind(), seconds, "could not go on: {error}"),
        }
    }

    /// A signal tells the command to stop.
    pub fn stopping(self, signal: &str) {
        match self.0 {
            LogFormat::Text => line(&format!("{signal}: stops after the batch in hand; a second signal stops at once")),
            LogFormat::Json => tracing::warn!(signal, "stops after the batch in hand"),
        }
    }

    /// A signal ended the command.
    pub fn stopped(self, signal: &str) {
        match self.0 {
            LogFormat::Text => line(&format!("stopped by {signal}; run again to go on")),
            LogFormat::Json => tracing::warn!(signal, "stopped; run again to go on"),
        }
    }

    /// An error with its causes, then the hint.
    pub fn error(self, error: &Error) {
        let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
        match self.0 {
            LogFormat::Text => {
                line(&format!("error: {error}"));
                error.place().iter().for_each(|place| line(&excerpt(place)));
                causes.for_each(|cause| line(&format!("caused by: {cause}")));
                if let Some(hint) = error.remedy() {
                    line(&format!("hint: {hint}"));
                }
            }
            LogFormat::Json => {
                let causes: Vec<String> = causes.map(ToString::to_string).collect();
                tracing::error!(hint = error.remedy(), ?causes, kind = ?error.kind(), "{error}");
            }
        }
    }
}

fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Sends the log of the library to stderr. Other libraries stay at warnings unless asked for: some have logged
/// credentials at lower levels.
pub fn log_to_stderr(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let default = match format {
        LogFormat::Text => "warn",
        LogFormat::Json => "warn,wayline=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
