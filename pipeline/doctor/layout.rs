//! Traps of layout: who holds the lock, and what lies where readers look.

use std::path::Path;

use super::Finding;
use crate::error::Result;
use crate::lake;
use crate::marts::Catalog;
use crate::workspace::Workspace;

/// Whether a run holds the project.
pub fn lock(workspace: &Workspace) -> Option<Finding> {
    match lake::lock_holder(&workspace.project.folder) {
        Ok(None) => Some(Finding::ok("lock", "nobody holds the project")),
        Ok(Some(holder)) => {
            let message = format!("held by {holder}");
            Some(Finding::warn("lock", message, "another run is under way; the lock goes with its process"))
        }
        Err(error) => Some(Finding::of_error("lock", &error, "let the user of the run own the project's folder")),
    }
}

/// Whether anything lies among the marts that is none: a reader that takes a whole folder would read it too.
pub async fn marts(workspace: &Workspace) -> Vec<Finding> {
    match foreign(workspace).await {
        Ok(foreign) => match foreign.first() {
            None => vec![Finding::ok("marts", "nothing but published files lies under marts/")],
            Some(first) => {
                let message = format!("{} files under marts/ are none of ours, such as {first}", foreign.len());
                vec![Finding::warn(
                    "marts",
                    message,
                    "move them elsewhere: BI tools that read the folder take them for data",
                )]
            }
        },
        Err(error) => vec![Finding::of_error("marts", &error, "wayline fsck tells what is damaged")],
    }
}

async fn foreign(workspace: &Workspace) -> Result<Vec<String>> {
    let lake = &workspace.lake;
    let catalog = Catalog::load(lake).await?;
    let is_ours = |path: &str| catalog.marts.values().any(|mart| mart.files.contains_key(path));
    let mut found = Vec::new();
    match lake.local_folder() {
        // The store hides some names that other programs see.
        Some(root) => walk(&root, &root.join("marts"), &mut found)?,
        None => found.extend(lake.list("marts").await?.iter().filter_map(|object| lake.relative(&object.location))),
    }
    found.retain(|path| !is_ours(path));
    found.sort();
    Ok(found)
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() {
            walk(root, &path, found)?;
        } else {
            found.push(path.strip_prefix(root).unwrap_or(&path).display().to_string());
        }
    }
    Ok(())
}
