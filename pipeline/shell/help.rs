//! `.help`: the commands and the functions, a line each; `.help NAME`: all about one of them.

use datafusion::prelude::SessionContext;

use super::command::{COMMANDS, CommandLine};
use crate::error::{Error, Result};
use crate::functions::{self, Documented};

/// Where lines of text end.
const WIDTH: usize = 100;
/// How far text stands in from its headline.
const INDENT: &str = "  ";

/// The commands and our functions, or all about one of either.
pub fn answer(name: Option<&str>) -> Result<String> {
    let Some(name) = name else { return Ok(list()) };
    let name = name.to_lowercase();
    let commands = COMMANDS.iter().filter(|(own, others, ..)| {
        let bare = |known: &str| known.trim_start_matches(['.', '\\']) == name;
        *own == name || others.contains(&name.as_str()) || bare(own)
    });
    let commands: String = commands.map(command_line).collect();
    if !commands.is_empty() {
        return Ok(commands);
    }
    find(&name).map(|documented| documented.iter().map(in_full).collect::<Vec<_>>().join("\n"))
}

/// Every command and our functions by family, a line each.
fn list() -> String {
    let documented = functions::documented();
    let width = documented.iter().map(|documented| documented.name.len()).max().unwrap_or_default();
    let mut text = String::from("Commands\n");
    COMMANDS.iter().for_each(|command| text.push_str(&format!("{INDENT}{}", command_line(command))));
    text.push_str("\n.help NAME tells all about a function; .functions lists those of the engine too.\n");
    let mut section = "";
    for documented in &documented {
        if documented.section() != section {
            section = documented.section();
            text.push_str(&format!("\n{section}\n"));
        }
        text.push_str(&format!("{INDENT}{:<width$}  {}\n", documented.name, documented.summary()));
    }
    text
}

/// A command with its arguments and other names, and what it does.
fn command_line((name, others, arguments, meaning): &CommandLine) -> String {
    let call = [&[*name], *others].concat().join(" ");
    format!("{:<30}  {meaning}\n", format!("{call} {arguments}").trim_end())
}

/// The functions of a name, ours or the engine's: one of each kind that bears it.
fn find(name: &str) -> Result<Vec<Documented>> {
    let ctx = SessionContext::new();
    functions::register_all(&ctx);
    let (found, others): (Vec<_>, Vec<_>) =
        functions::known_to(&ctx.state()).into_iter().partition(|documented| documented.name == name);
    if found.is_empty() {
        return Err(Error::invalid(format!("no function is called {name}"))
            .hint(".help lists the functions")
            .hint_nearest(name, others.iter().map(|documented| documented.name.as_str())));
    }
    Ok(found)
}

/// Syntax, arguments, example, and every part of the description.
fn in_full(documented: &Documented) -> String {
    let mut text = String::new();
    let syntax: Vec<&str> = documented.syntax().map(String::as_str).filter(|syntax| !syntax.is_empty()).collect();
    if syntax.is_empty() {
        write_wrapped(&documented.name, "", &mut text);
    }
    for syntax in syntax {
        write_wrapped(syntax, "", &mut text);
    }
    text.push_str(&format!("\n{} ({})\n\n", documented.kind, documented.section()));
    let (plain, parts): (Vec<_>, Vec<_>) = documented.paragraphs().partition(|paragraph| paragraph.head.is_none());
    for paragraph in plain {
        write_wrapped(paragraph.text, "", &mut text);
        text.push('\n');
    }
    if !documented.arguments().is_empty() {
        text.push_str("Arguments\n");
        for (name, meaning) in documented.arguments() {
            write_wrapped(&format!("- {name}: {meaning}"), INDENT, &mut text);
        }
        text.push('\n');
    }
    if !documented.example().is_empty() {
        text.push_str("Example\n");
        for line in documented.example().lines() {
            text.push_str(&format!("{INDENT}{line}\n"));
        }
        text.push('\n');
    }
    for paragraph in parts {
        text.push_str(&format!("{}\n", paragraph.head.unwrap_or_default()));
        write_wrapped(paragraph.text, INDENT, &mut text);
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Writes text in lines of at most [`WIDTH`], but for longer words; a point of a list hangs.
fn write_wrapped(text: &str, indent: &str, out: &mut String) {
    for line in text.lines() {
        let hanging = if line.starts_with("- ") { "  " } else { "" };
        let mut length = 0;
        for word in line.split(' ') {
            let word_length = word.chars().count();
            if length == 0 {
                out.push_str(indent);
                length = indent.len();
            } else if length + 1 + word_length > WIDTH {
                out.push('\n');
                out.push_str(indent);
                out.push_str(hanging);
                length = indent.len() + hanging.len();
            } else {
                out.push(' ');
                length += 1;
            }
            out.push_str(word);
            length += word_length;
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(input: &str) -> String {
        answer(input.strip_prefix(".help").unwrap().split_whitespace().next()).unwrap()
    }

    #[test]
    fn help_lists_every_function_in_a_line_of_its_own() {
        let text = answered(".help");
        for documented in functions::documented() {
            let start = format!("  {} ", documented.name);
            let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&start)).collect();
            assert_eq!(lines.len(), 1, "{}", documented.name);
            assert!(lines[0].ends_with(documented.summary()));
        }
    }

    #[test]
    fn help_of_a_function_shows_all_that_is_known_of_it() {
        for documented in functions::documented() {
            let text = answered(&format!(".help {}", documented.name.to_uppercase()));
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let shown = words(&text);
            for paragraph in documented.paragraphs() {
                assert!(shown.contains(&words(paragraph.text)), "{}: {}", documented.name, paragraph.text);
            }
            for (argument, meaning) in documented.arguments() {
                assert!(shown.contains(&words(&format!("- {argument}: {meaning}"))), "{}", documented.name);
            }
            for line in documented.syntax().map(String::as_str).chain(documented.example().lines()) {
                assert!(shown.contains(&words(line)), "{}: {line}", documented.name);
            }
        }
    }

    #[test]
    fn functions_of_the_engine_have_help_too() {
        let text = answered(".help array_distinct");
        assert!(text.starts_with("array_distinct(array)\n\nscalar (Array Functions)\n"), "{text}");
    }

    #[test]
    fn every_kind_of_a_name_has_help() {
        let text = answered(".help first_value");
        assert!(text.contains("\naggregate (") && text.contains("\nwindow ("), "{text}");
        let text = answered(".help range");
        assert!(text.contains("range\n\ntable ("), "{text}");
    }

    #[test]
    fn commands_have_help_too() {
        let text = answered(".help");
        for (name, ..) in COMMANDS {
            assert!(text.contains(&format!("  {name} ")), "{name}");
        }
        assert_eq!(answered(".help schema"), answered(".help .schema"));
        assert!(answered(".help .once").starts_with(".once FILE "));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_a_near_one() {
        let error = answer(Some("windowfunnel")).unwrap_err();
        assert_eq!(error.to_string(), "no function is called windowfunnel");
        assert_eq!(error.remedy(), Some("did you mean `window_funnel`?"));
        assert_eq!(answer(Some("zzzzzz")).unwrap_err().remedy(), Some(".help lists the functions"));
    }

    #[test]
    fn long_lines_are_wrapped_and_points_hang() {
        let mut out = String::new();
        write_wrapped(
            &format!("{} end\n- {} end", "word ".repeat(19).trim_end(), "word ".repeat(19).trim_end()),
            "  ",
            &mut out,
        );
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 3, "{out}");
        assert_eq!((lines[0].len(), lines[1].len()), (100, 98));
        assert_eq!(lines[2], "    end");
    }
}
