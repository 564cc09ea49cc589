//! Where a watch tells how it is: in memory for the listener, in files for those that read files.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Utc;

use super::health::Health;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::replace::replace;
use crate::run::report::instant;

/// What is told.
#[derive(Debug)]
pub struct State {
    /// The counts.
    pub metrics: Metrics,
    /// How the watch is.
    pub health: Health,
}

/// What is told, and the files that tell it.
#[derive(Debug, Clone)]
pub struct Board {
    state: Arc<Mutex<State>>,
    metrics_file: Option<PathBuf>,
    health_file: Option<PathBuf>,
}

impl Board {
    /// A board that tells how a watch starts.
    pub fn new(health: Health, metrics_file: Option<PathBuf>, health_file: Option<PathBuf>) -> Self {
        let state = State { metrics: Metrics::default(), health };
        Self { state: Arc::new(Mutex::new(state)), metrics_file, health_file }
    }

    /// What is told, to read or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // Whoever stopped while holding it left whole values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The metrics as of now.
    pub fn metrics(&self) -> String {
        self.state().metrics.text(Utc::now().timestamp_micros())
    }

    /// The health as of now, and whether all is well.
    pub fn health(&self) -> Result<(String, bool)> {
        let now = Utc::now().timestamp_micros();
        let State { metrics, health } = &mut *self.state();
        health.updated_at = instant(now);
        health.batches = metrics.batches();
        health.newest_occurred_at = metrics.newest_occurred_at().map(instant);
        health.freshness_seconds = metrics.freshness_seconds(now);
        health.last_success_at = metrics.last_success_at().map(instant);
        Ok((format!("{}\n", serde_json::to_string_pretty(health)?), health.is_well()))
    }

    /// Replaces the files.
    pub fn write(&self) -> Result<()> {
        if let Some(path) = &self.metrics_file {
            replace(path, self.metrics().as_bytes())?;
        }
        self.write_health()
    }

    /// Replaces the file of health.
    pub fn write_health(&self) -> Result<()> {
        match &self.health_file {
            Some(path) => replace(path, self.health()?.0.as_bytes()),
            None => Ok(()),
        }
    }
}
