//! Progress on stderr: a bar on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::Progress;

/// Shows a run's progress.
pub struct Shown {
    bar: Option<ProgressBar>,
    stage: String,
    bytes: u64,
}

impl Shown {
    /// A bar if stderr is a terminal.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {elapsed:>4} {prefix} {wide_msg}")
                    .expect("the template is well formed"),
            );
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, stage: String::new(), bytes: 0 }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Shown {
    fn stage(&mut self, name: &str) {
        self.stage = name.to_string();
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(self.stage.clone());
                bar.set_message("");
            }
            None => eprintln!("{name}"),
        }
    }

    fn step(&mut self, name: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(name.to_string());
        }
    }

    fn bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} MB", self.bytes / 1_000_000));
        }
    }
}
