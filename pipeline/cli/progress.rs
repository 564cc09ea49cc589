//! Progress on stderr: a bar on a terminal, a message per stage otherwise.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::LogFormat;
use super::messages::Messages;
use crate::run::Progress;

/// Shows the progress of a command.
pub struct Shown {
    bar: Option<ProgressBar>,
    messages: Messages,
}

impl Shown {
    /// A bar if stderr is a terminal that people look at.
    pub fn new(messages: Messages) -> Self {
        let is_watched = std::io::stderr().is_terminal() && messages.0 == LogFormat::Text;
        let bar = is_watched.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(style("{spinner} {elapsed:>4} {prefix} {wide_msg}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, messages }
    }

    /// Whether there is a bar.
    pub fn is_bar(&self) -> bool {
        self.bar.is_some()
    }

    /// Does something that writes to the terminal, with the bar out of its way.
    pub fn beside(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// `done` of `total` of the stage are done, counted in `unit`.
    pub fn done(&mut self, done: u64, total: u64, unit: &str) {
        if let Some(bar) = &self.bar {
            bar.set_style(style("{spinner} {elapsed:>4} {prefix} [{wide_bar}] {msg} {eta} left"));
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(format!("{done} of {total} {unit}"));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are well formed")
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
        match &self.bar {
            Some(bar) => {
                bar.set_style(style("{spinner} {elapsed:>4} {prefix} {wide_msg}"));
                bar.set_prefix(name.to_string());
                bar.set_message("");
            }
            None => self.messages.stage(name),
        }
    }

    fn step(&mut self, name: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(name.to_string());
        }
    }

    fn read(&mut self, done: u64, total: u64) {
        self.done(done / 1_000_000, total / 1_000_000, "MB");
    }
}
