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

/// First segments of paths that start with `crate::`, also in braces: `use crate::{landing, models::Status}`.
fn crate_paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let names: Vec<String> = match rest.strip_prefix('{') {
                Some(list) => list.split(',').map(first_segment).collect(),
                None => vec![first_segment(rest)],
            };
            found.extend(names.into_iter().map(|name| (number + 1, name)));
        }
    }
    found
}

fn first_segment(path: &str) -> String {
    path.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}
