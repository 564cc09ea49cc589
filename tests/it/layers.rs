//! Data goes one way: a module uses only modules above it in `pipeline/lib.rs`.

use std::path::{Path, PathBuf};

#[test]
fn a_module_uses_only_modules_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline");
    let library = std::fs::read_to_string(root.join("lib.rs")).unwrap();
    let modules: Vec<&str> =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() > 10, "modules are read from lib.rs");
    let mut wrong = Vec::new();
    for (position, module) in modules.iter().enumerate() {
        for file in files_of(&root, module) {
            let text = std::fs::read_to_string(&file).unwrap();
            for (number, used) in crate_paths(&text) {
                let at = modules.iter().position(|other| *other == used);
                if at.is_some_and(|at| at > position) {
                    wrong.push(format!("{}:{number}: `{module}` uses `{used}`, which stands below it", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn files_of(root: &Path, module: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let single = root.join(format!("{module}.rs"));
    if single.is_file() {
        files.push(single);
    }
    let mut folders = vec![root.join(module)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// First segments of paths that start with `crate::`, also in braces, on one line or several, with the line on which
/// the path begins: `use crate::{landing, models::Status}`.
fn crate_paths(text: &str) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    // Comments speak of modules too; their lines stay, so that the numbers of the others do.
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    let code: Vec<&str> = code.lines().map(|line| if is_comment(&line) { "" } else { line }).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let number = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => members(list).iter().map(|member| first_segment(member)).collect(),
            None => vec![first_segment(rest)],
        };
        found.extend(names.into_iter().filter(|name| !name.is_empty()).map(|name| (number, name)));
    }
    found
}

/// The members of a list in braces, up to the brace that ends it; lists inside stay whole.
fn members(list: &str) -> Vec<String> {
    let mut members = vec![String::new()];
    let mut depth = 0;
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => {
                members.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        members.last_mut().expect("there is one").push(c);
    }
    members
}

fn first_segment(path: &str) -> String {
    path.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn paths_into_the_crate_are_found_on_one_line_and_over_several() {
    let text = "use crate::error::{Error, Result};
// use crate::comments;
use crate::{landing, models::{Status, graph::Graph}, run};
use crate::{
    marts::{
        Catalog, Mart,
    },
    workspace::Workspace,
};
fn f() { crate::lake::open(pub(crate) x) }

#[cfg(test)]
mod tests {
    use crate::cli;
}
";
    let found = crate_paths(text);
    let found: Vec<(usize, &str)> = found.iter().map(|(number, name)| (*number, name.as_str())).collect();
    let expected =
        [(1, "error"), (3, "landing"), (3, "models"), (3, "run"), (4, "marts"), (4, "workspace"), (10, "lake")];
    assert_eq!(found, expected);
}
