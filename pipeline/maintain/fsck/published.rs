//! Published files: those that the catalog names, and no others.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};

use super::tables::check_file;
use super::{Finding, Findings};
use crate::error::{Error, Kind, Result};
use crate::lake::Lake;
use crate::marts::{CATALOG, Catalog, MARTS};

/// Files that are read at once.
const AT_ONCE: usize = 16;
/// What brings published files back.
const PUBLISH: &str = "remove it, then wayline run publishes again";

/// Compares the catalog with the files under `marts/`.
pub async fn check(lake: &Lake, found: &mut Findings) -> Result<()> {
    let catalog = match Catalog::load(lake).await {
        Ok(catalog) => catalog,
        Err(error) if error.kind() == Kind::Corrupt => {
            found.findings.push(Finding::new(CATALOG, format!("cannot be read: {error}"), PUBLISH));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut named = BTreeSet::new();
    for (name, mart) in &catalog.marts {
        named.extend(mart.files.keys().cloned());
        let rows: usize = mart.files.values().map(|file| file.rows).sum();
        let bytes: u64 = mart.files.values().map(|file| file.bytes).sum();
        if (rows, bytes) != (mart.rows, mart.bytes) {
            let what = format!("the rows and bytes of {name} are not those of its files");
            found.findings.push(Finding::new(CATALOG, what, PUBLISH));
        }
        let files: Vec<_> = mart.files.iter().collect();
        let checked: Vec<Option<Finding>> = futures::stream::iter(files)
            .map(|(path, file)| async move {
                let what = check_file(lake, path, file.bytes, file.rows).await?;
                Ok::<_, Error>(what.map(|what| Finding::new(path, what, PUBLISH)))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        found.findings.extend(checked.into_iter().flatten());
    }
    found.published_files = named.len();
    for file in lake.list(MARTS).await? {
        let Some(path) = lake.relative(&file.location) else { continue };
        if !named.contains(&path) {
            let remedy = "wayline run removes or publishes it";
            found.findings.push(Finding::new(path, "the catalog does not name it", remedy));
        }
    }
    Ok(())
}
