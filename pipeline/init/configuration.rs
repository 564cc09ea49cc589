//! `wayline.toml` as text, with a reason beside each guess.

use std::fmt::Write;

use super::guess::{EVENT_COLUMNS, Guess, counted};
use super::propose::Proposal;
use super::{Guessed, SCHEMA_FILE};
use crate::config::{Format, Identity, TimeUnit};

/// Where the comments begin, if what is before them leaves room.
const COMMENT_AT: usize = 60;
/// Longest line with a comment behind it.
const WIDTH: usize = 150;

/// The configuration of sources that were guessed.
pub fn text(sources: &[Guessed], proposal: &Proposal) -> String {
    let mut out = format!("#:schema ./{SCHEMA_FILE}\n");
    out.push_str("# Written by `wayline init`: beside each line stands what it was told from. Change what is wrong, then `wayline check`.\n\n");
    out.push_str("[lake]\nurl = \"lake\"                          # folder, s3://…, gs://…, az://…\n\n");
    let kinds = || sources.iter().flat_map(|source| &source.guesses.identifiers).map(|(kind, _)| kind.as_str());
    let mut private: Vec<&str> = kinds().filter(|kind| matches!(*kind, "email" | "phone")).collect();
    private.sort_unstable();
    private.dedup();
    if !private.is_empty() {
        out.push_str("# [privacy]                             # keep these out of the lake: needs WAYLINE_PSEUDONYM_KEY, and must stand\n");
        out.push_str(&format!("# pseudonymize = {}  # before the first run\n\n", list(&private)));
    }
    for source in sources {
        source_text(source, &mut out);
    }
    identity(&kinds().collect::<Vec<_>>(), &mut out);
    out.push_str("[sessions]\ntimeout = \"30m\"\n\n[journeys]\ntimeout = \"30d\"\n");
    match proposal.goal.is_empty() {
        true => out.push_str("# goal  = [\"purchase\"]                  # no touchpoint is named like a purchase: name what ends a journey\n"),
        false => line(&format!("goal    = {}", list(&proposal.goal)), "a guess, from its name", &mut out),
    }
    out.push('\n');
    if !proposal.digital.is_empty() || !proposal.assisted.is_empty() {
        out.push_str("[channels]                              # a guess: on assisted ones people serve\n");
        for (class, channels) in [("digital ", &proposal.digital), ("assisted", &proposal.assisted)] {
            if !channels.is_empty() {
                writeln!(out, "{class} = {}", wrapped(channels)).expect("a text takes all");
            }
        }
        out.push('\n');
    }
    if !proposal.stages.is_empty() || !proposal.unstaged.is_empty() {
        out.push_str("[stages]                                # guesses, from the words of the touchpoints\n");
        for (stage, touchpoints) in &proposal.stages {
            writeln!(out, "{stage:<10} = {}", wrapped(touchpoints)).expect("a text takes all");
        }
        if !proposal.unstaged.is_empty() {
            writeln!(out, "# of no stage yet: {}", shown(&proposal.unstaged)).expect("a text takes all");
        }
        out.push('\n');
    }
    match proposal.steps.is_empty() {
        true => out.push_str(
            "# [[funnels]]                           # no steps towards a goal were recognised\n# name   = \"checkout\"\n\
             # steps  = [\"product_view\", \"add_to_cart\", \"purchase\"]\n# window = \"7d\"\n",
        ),
        false => {
            out.push_str("[[funnels]]                             # a guess: the steps in the order in which shops have them\n");
            writeln!(out, "name   = \"conversion\"\nsteps  = {}\nwindow = \"7d\"", list(&proposal.steps)).expect("a text takes all");
        }
    }
    out
}

/// Kinds from the surest to the one that most people may share.
const STRENGTH: [&str; 13] = [
    "user_id",
    "customer_id",
    "loyalty_id",
    "email",
    "phone",
    "person_id",
    "distinct_id",
    "device_id",
    "anonymous_id",
    "domain_userid",
    "network_userid",
    "session_id",
    "other",
];

/// Rules of identity, where the kinds ask for some.
fn identity(kinds: &[&str], out: &mut String) {
    let known = Identity::default().priority;
    let has_own = kinds.iter().any(|kind| !known.iter().any(|known| known == kind));
    let is_signed_in = kinds.contains(&"user_id");
    if !has_own && !is_signed_in {
        return;
    }
    out.push_str("[identity]\n");
    if is_signed_in {
        line("limits = { user_id = 1 }", "two who sign in on one device stay two", out);
    }
    if has_own {
        let mut kinds = kinds.to_vec();
        kinds.sort_by_key(|kind| STRENGTH.iter().position(|known| known == kind).unwrap_or(STRENGTH.len()));
        kinds.dedup();
        line(&format!("priority = {}", list(&kinds)), "a guess: the surest kind first", out);
    }
    out.push('\n');
}

fn source_text(source: &Guessed, out: &mut String) {
    let Guessed { name, pattern, guesses, preset, .. } = source;
    out.push_str("[[sources]]\n");
    writeln!(out, "name = {}", quoted(name)).expect("a text takes all");
    let mut seen = format!("{} of {} looked at", counted(source.records, "record"), counted(source.files, "file"));
    if let Some((preset, why)) = preset {
        seen.push_str(&format!("; preset {preset}: {why}"));
    }
    line(&format!("path = {}", quoted(pattern)), &seen, out);
    if let Some(format) = source.format {
        let name = match format {
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Parquet => "parquet",
        };
        line(&format!("format = {}", quoted(name)), "the name tells none; this one reads", out);
    }
    if source.delimiter != ',' {
        line(&format!("delimiter = {}", quoted(&source.delimiter.to_string())), "gives most columns", out);
    }
    if let Some(unit) = guesses.time_unit {
        let name = match unit {
            TimeUnit::Seconds => "s",
            TimeUnit::Milliseconds => "ms",
            TimeUnit::Microseconds => "us",
        };
        line(&format!("time_unit = {}", quoted(name)), "of numeric times", out);
    }
    if let Some((offset, why)) = &guesses.time_offset {
        line(&format!("time_offset = {}", quoted(offset)), why, out);
    }
    out.push_str("[sources.event]\n");
    for name in EVENT_COLUMNS {
        match (guesses.event.get(name), guesses.open.get(name)) {
            (Some(Guess { expression, evidence }), _) => {
                line(&format!("{name:<11} = {}", quoted(expression)), evidence, out);
            }
            (None, Some(why)) => line(&format!("# {name:<11} = \"\""), why, out),
            (None, None) => {}
        }
    }
    if guesses.identifiers.is_empty() {
        line(
            "# identifiers = { user_id = \"\" }",
            "no column tells who it was: every event is a customer of its own",
            out,
        );
    } else {
        out.push_str("[sources.event.identifiers]\n");
        let width = guesses.identifiers.iter().map(|(kind, _)| kind.len()).max().unwrap_or(0);
        for (kind, Guess { expression, evidence }) in &guesses.identifiers {
            line(&format!("{kind:<width$} = {}", quoted(expression)), evidence, out);
        }
    }
    if !source.kept.is_empty() {
        writeln!(out, "# kept in properties: {}", shown(&source.kept)).expect("a text takes all");
    }
    for (reason, count, example) in &source.refused {
        writeln!(
            out,
            "# {} of the records looked at would be dead letters: {reason}, {}",
            super::grouped(*count),
            one_line(example)
        )
        .expect("a text takes all");
    }
    out.push('\n');
}

/// A line with a comment behind it, or above it where there is no room.
fn line(code: &str, comment: &str, out: &mut String) {
    let comment = one_line(comment);
    let length = code.chars().count();
    if length < COMMENT_AT && COMMENT_AT + comment.chars().count() + 2 <= WIDTH {
        writeln!(out, "{code:<COMMENT_AT$}# {comment}").expect("a text takes all");
    } else if length + comment.chars().count() + 3 <= WIDTH {
        writeln!(out, "{code} # {comment}").expect("a text takes all");
    } else {
        writeln!(out, "# {comment}\n{code}").expect("a text takes all");
    }
}

/// What comes from a user's data ends no comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A basic string of TOML.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => write!(quoted, "\\u{:04X}", u32::from(c)).expect("a text takes all"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn list(texts: &[impl AsRef<str>]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

/// A list over several lines where it is long.
fn wrapped(texts: &[String]) -> String {
    let whole = list(texts);
    if whole.len() < 100 {
        return whole;
    }
    let mut out = String::from("[");
    let mut length = WIDTH;
    for text in texts {
        let text = quoted(text);
        if length + text.len() > 110 {
            out.push_str("\n    ");
            length = 4;
        } else {
            out.push(' ');
        }
        length += text.len() + 2;
        out.push_str(&text);
        out.push(',');
    }
    out.push_str("\n]");
    out
}

fn shown(names: &[String]) -> String {
    let most = 20;
    let text = names.iter().take(most).map(String::as_str).collect::<Vec<_>>().join(", ");
    one_line(&if names.len() > most { format!("{text}, … ({} in all)", names.len()) } else { text })
}
