//! The SQL shell: lines in, results out. Statements end with `;`; a line that begins with `.` or `\` is a command. It
//! only reads the lake; files are written where a command names one.
//!
//! It knows nothing of terminals: whoever drives it gives it lines, from a terminal, a pipe or a file.

pub mod command;
pub mod completion;
mod describe;
mod destination;
pub mod format;
pub mod help;
pub mod input;
pub mod table;
mod unknown_values;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use datafusion::prelude::DataFrame;

use self::command::Command;
use self::completion::Names;
use self::destination::Destination;
use self::format::{Format, Written};
use self::input::{Entry, Input};
use self::table::Layout;
use self::unknown_values::Named;
use crate::engine;
use crate::error::{Context, Error, Result};
use crate::reader::{Opened, Reader};

/// Scripts that read scripts end here.
const DEEPEST_SCRIPT: usize = 16;

/// Whether more lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    More,
    /// The user has asked for the end.
    Quit,
}

/// How results look, until a command says otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Form of results.
    pub format: Format,
    /// How much of a table is shown.
    pub layout: Layout,
    /// Whether the number of rows and the time follow a table.
    pub has_footer: bool,
    /// Whether the footer tells the time.
    pub has_timer: bool,
}

/// Runs statements and commands.
pub struct Shell<'a> {
    reader: &'a Reader,
    settings: Settings,
    /// Results.
    out: Box<dyn Write + Send + 'a>,
    /// What is said beside results.
    aside: Box<dyn Write + Send + 'a>,
    output: Option<Destination>,
    once: Option<Destination>,
    input: Input,
    script_depth: usize,
}

impl<'a> Shell<'a> {
    /// A shell over a project's lake, which is opened when it is first needed.
    pub fn new(
        reader: &'a Reader,
        settings: Settings,
        out: impl Write + Send + 'a,
        aside: impl Write + Send + 'a,
    ) -> Self {
        let (out, aside) = (Box::new(out), Box::new(aside));
        Self { reader, settings, out, aside, output: None, once: None, input: Input::default(), script_depth: 0 }
    }

    /// Takes a line and does what became whole with it. After an error the rest of the line is forgotten.
    pub async fn line(&mut self, line: &str) -> Result<Flow> {
        for entry in self.input.push(line) {
            if self.run(entry).await? == Flow::Quit {
                return Ok(Flow::Quit);
            }
        }
        Ok(Flow::More)
    }

    /// Does what is left at the end of a script.
    pub async fn finish(&mut self) -> Result<Flow> {
        match self.input.finish() {
            Some(entry) => self.run(entry).await,
            None => Ok(Flow::More),
        }
    }

    /// Runs a whole script; `Quit` ends it.
    pub async fn script(&mut self, text: &str) -> Result<Flow> {
        for line in text.lines() {
            if self.line(line).await? == Flow::Quit {
                return Ok(Flow::Quit);
            }
        }
        self.finish().await
    }

    /// Runs one text as one statement or one command.
    pub async fn one(&mut self, text: &str) -> Result<()> {
        match input::is_command(text) {
            true => self.command(text).await.map(|_| ()),
            false => self.statement(text, 1).await,
        }
    }

    /// Forgets what was begun: the rest of a line, and a script that was being read.
    pub fn forget(&mut self) {
        (self.input, self.script_depth) = (Input::default(), 0);
    }

    /// Changes how wide tables may be.
    pub fn set_width(&mut self, width: Option<usize>) {
        self.settings.layout.width = width;
    }

    /// Says an error to people.
    pub fn tell(&mut self, error: &Error) {
        let mut say = |text: &str| _ = writeln!(self.aside, "{text}");
        say(&format!("error: {error}"));
        if let Some(place) = error.place() {
            say(&crate::excerpt::excerpt(place));
        }
        let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
        causes.for_each(|cause| say(&format!("caused by: {cause}")));
        if let Some(hint) = error.remedy() {
            say(&format!("hint: {hint}"));
        }
    }

    /// Names that may be completed, of the newest state of the lake.
    pub async fn names(&self) -> Result<Names> {
        Names::of(self.reader.opened().await?.ctx()).await
    }

    async fn run(&mut self, entry: Entry) -> Result<Flow> {
        match entry {
            Entry::Statement { sql, line } => {
                self.statement(&sql, line).await?;
                Ok(Flow::More)
            }
            Entry::Command(line) => self.command(&line).await,
        }
    }

    async fn statement(&mut self, sql: &str, line: usize) -> Result<()> {
        let opened = self.reader.opened().await?;
        let began = Instant::now();
        let planned = engine::query(opened.ctx(), sql).await.map_err(|error| match error.place() {
            Some(place) if opened.graph.model(place.words()).is_some() => error.hint(describe::NEVER_BUILT),
            _ => error,
        });
        let query = planned.map_err(|error| error.beginning_at_line(line))?;
        let named = Named::of(query.logical_plan());
        let written = self.write(query).await;
        let written = written.map_err(|error| engine::locate(sql, error).beginning_at_line(line))?;
        if let Some(written) = written {
            self.footer(written, began)?;
        }
        if !named.is_empty() {
            self.note_unknown(&opened, &named).await?;
        }
        Ok(())
    }

    async fn note_unknown(&mut self, opened: &Arc<Opened>, named: &Named) -> Result<()> {
        for note in named.unknown(opened.ctx()).await {
            writeln!(self.aside, "note: {note}")?;
        }
        Ok(())
    }

    /// Writes a result to where it belongs; returns how much of it was written, unless that went to a file.
    async fn write(&mut self, query: DataFrame) -> Result<Option<Written>> {
        let mut once = self.once.take();
        let Settings { format, layout, .. } = self.settings;
        match once.as_mut().or(self.output.as_mut()) {
            Some(file) => {
                let format = file.format.unwrap_or(format);
                format::write(query, format, Layout::default(), file.writer(format)?).await?;
                file.flush()?;
                Ok(None)
            }
            None => {
                let written = format::write(query, format, layout, &mut *self.out).await?;
                self.out.flush()?;
                Ok(Some(written))
            }
        }
    }

    /// `(2 rows, 0.03 s)`, below a table for people.
    fn footer(&mut self, Written { rows, shown }: Written, began: Instant) -> Result<()> {
        let Settings { format, has_footer, has_timer, .. } = self.settings;
        if !has_footer || !matches!(format, Format::Table | Format::Markdown | Format::Line) {
            return Ok(());
        }
        let mut parts = vec![match (rows, shown) {
            (1, 1) => "1 row".to_string(),
            (rows, shown) if rows == shown => format!("{} rows", thousands(rows)),
            (rows, shown) => format!("{} of {} rows", thousands(shown), thousands(rows)),
        }];
        if has_timer {
            parts.push(format!("{:.3} s", began.elapsed().as_secs_f64()));
        }
        if shown < rows {
            parts.push(".maxrows 0 shows all".to_string());
        }
        writeln!(self.out, "({})", parts.join(", "))?;
        Ok(self.out.flush()?)
    }

    async fn command(&mut self, line: &str) -> Result<Flow> {
        match Command::parse(line)? {
            Command::Help(name) => {
                let text = help::answer(name.as_deref())?;
                write!(self.out, "{text}")?;
            }
            Command::Tables(pattern) => {
                let opened = self.reader.opened().await?;
                self.write(describe::tables(&opened, pattern.as_deref()).await?).await?;
            }
            Command::Schema(name) => {
                let opened = self.reader.opened().await?;
                self.write(describe::schema(&opened, &name).await?).await?;
            }
            Command::Functions(pattern) => {
                let opened = self.reader.opened().await?;
                self.write(describe::functions(&opened, pattern.as_deref())?).await?;
            }
            Command::Mode(Some(Format::Parquet)) if self.settings.has_footer => return Err(on_a_terminal()),
            Command::Mode(Some(format)) => self.settings.format = format,
            Command::Mode(None) => {
                let form = clap::ValueEnum::to_possible_value(&self.settings.format);
                self.say(form.as_ref().map_or("", |form| form.get_name()))?;
            }
            Command::Expanded => {
                self.settings.format = match self.settings.format {
                    Format::Line => Format::Table,
                    _ => Format::Line,
                };
            }
            Command::Timer(on) => {
                self.settings.has_timer = on.unwrap_or(!self.settings.has_timer);
                if on.is_none() {
                    self.say(if self.settings.has_timer { "timer on" } else { "timer off" })?;
                }
            }
            Command::MaxRows(Some(most)) => self.settings.layout.max_rows = (most > 0).then_some(most),
            Command::MaxRows(None) => self.say(&self.settings.layout.max_rows.unwrap_or(0).to_string())?,
            Command::Output(None) => self.output = None,
            Command::Output(Some(path)) => self.output = Some(Destination::create(&path)?),
            Command::Once(path) => self.once = Some(Destination::create(&path)?),
            Command::Read(path) => return self.read(&path).await,
            Command::Quit => return Ok(Flow::Quit),
        }
        self.out.flush()?;
        Ok(Flow::More)
    }

    /// Runs a script; its statements need not end where lines of this one do.
    async fn read(&mut self, path: &Path) -> Result<Flow> {
        if self.script_depth == DEEPEST_SCRIPT {
            return Err(Error::invalid(format!("{}: {DEEPEST_SCRIPT} scripts read each other", path.display())));
        }
        let text = std::fs::read_to_string(path).context(path.display())?;
        let outer = std::mem::take(&mut self.input);
        self.script_depth += 1;
        let outcome = Box::pin(self.script(&text)).await;
        self.script_depth -= 1;
        self.input = outer;
        outcome.context(path.display())
    }

    fn say(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "{text}")?)
    }
}

/// The error of a result that is no text.
pub fn on_a_terminal() -> Error {
    Error::invalid("a Parquet file does not belong on a terminal").hint("write it to a file: .once result.parquet")
}

/// `12,345`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut parts = vec![&digits[..first]];
    parts.extend((first..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
    parts.retain(|part| !part.is_empty());
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_rows_are_grouped() {
        let grouped = [(0, "0"), (12, "12"), (123, "123"), (1_234, "1,234"), (1_234_567, "1,234,567")];
        assert!(grouped.iter().all(|(number, text)| thousands(*number) == *text));
    }
}
