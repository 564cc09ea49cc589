//! The SQL shell at a terminal: editing, history and completion; Ctrl-C ends the query and not the shell.

use std::borrow::Cow;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::ExitCode;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, Helper};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::shell::completion::{Completion, Names};
use crate::shell::input::is_whole;
use crate::shell::{Flow, Settings, Shell};

/// Rows of a table that are shown unless `.maxrows` says otherwise.
const MAX_ROWS: usize = 200;
/// Statements that are remembered.
const HISTORY: usize = 10_000;
const PROMPT: &str = "wayline> ";

/// Columns of the terminal.
pub fn width() -> Option<usize> {
    let mut editor = Editor::<(), DefaultHistory>::new().ok()?;
    let (columns, _) = editor.dimensions()?;
    Some(columns.into()).filter(|columns| *columns > 0)
}

/// Reads what is typed until Ctrl-D or `.quit`.
pub async fn shell(reader: &Reader, mut settings: Settings) -> Result<ExitCode> {
    settings.layout.max_rows = Some(MAX_ROWS);
    let mut shell = Shell::new(reader, settings, std::io::stdout(), std::io::stderr());
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut editor = editor()?;
    // A project that cannot be opened is told at once.
    let names = shell.names().await?;
    println!("wayline {}: SQL that ends with `;`, .tables, .help, Ctrl-D to end", env!("CARGO_PKG_VERSION"));
    let mut names = Some(names);
    loop {
        if let (Some(names), Some(helper)) = (names.take(), editor.helper_mut()) {
            helper.names = names;
        }
        let read = move || {
            let line = editor.readline(PROMPT);
            let columns = editor.dimensions().map(|(columns, _)| usize::from(columns));
            (editor, line, columns)
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(|error| Error::internal(error.to_string()))?;
        let (back, line, columns) = read;
        editor = back;
        let text = match line {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Error::unavailable(format!("could not read from the terminal: {error}"))),
        };
        remember(&mut editor, &text);
        shell.set_width(columns.filter(|columns| *columns > 0));
        let outcome = tokio::select! {
            outcome = shell.script(&text) => Some(outcome),
            _ = interrupt.recv() => None,
        };
        match outcome {
            Some(Ok(Flow::More)) => {}
            Some(Ok(Flow::Quit)) => break,
            Some(Err(error)) => shell.tell(&error),
            None => {
                shell.forget();
                let _ = writeln!(std::io::stderr(), "cancelled");
            }
        }
        names = shell.names().await.ok();
    }
    Ok(ExitCode::SUCCESS)
}

/// An editor that remembers what was typed before.
fn editor() -> Result<Editor<Typing, DefaultHistory>> {
    let failed = |error: ReadlineError| Error::unavailable(format!("the terminal does not answer: {error}"));
    let has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let config = Config::builder()
        .max_history_size(HISTORY)
        .and_then(|builder| builder.history_ignore_dups(true))
        .map_err(failed)?
        // A statement that begins with a blank is not remembered.
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .color_mode(if has_colour { ColorMode::Enabled } else { ColorMode::Disabled })
        .bracketed_paste(true)
        .build();
    let mut editor = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Typing { names: Names::default(), files: FilenameCompleter::new() }));
    if let Some(path) = history_file() {
        // A history that cannot be read is begun anew.
        let _ = editor.load_history(&path);
    }
    Ok(editor)
}

fn remember(editor: &mut Editor<Typing, DefaultHistory>, text: &str) {
    // What cannot be remembered is still done.
    let is_new = editor.add_history_entry(text.trim_end()).unwrap_or(false);
    if let Some(path) = history_file().filter(|_| is_new) {
        let _ = editor.append_history(&path);
    }
}

/// `$XDG_STATE_HOME/wayline/history`, which nobody else may read: queries name customers.
fn history_file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let folder = state.join("wayline");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    let path = folder.join("history");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).ok()?;
    file.set_permissions(Permissions::from_mode(0o600)).ok()?;
    Some(path)
}

/// What the editor asks while somebody types.
struct Typing {
    names: Names,
    files: FilenameCompleter,
}

impl Helper for Typing {}

impl Hinter for Typing {
    type Hint = String;
}

impl Highlighter for Typing {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        Cow::Owned(format!("\x1b[1;36m{prompt}\x1b[0m"))
    }
}

impl Validator for Typing {
    fn validate(&self, typed: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_whole(typed.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Completer for Typing {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Completion { start, candidates, is_file } = self.names.complete(&line[..position]);
        if is_file {
            return self.files.complete(line, position, context);
        }
        let pairs = candidates.into_iter().map(|name| Pair { display: name.clone(), replacement: name });
        Ok((start, pairs.collect()))
    }
}
