//! Delta tables as they were last loaded through a lake: a run opens each of them many times, and loading one reads its log
//! from the last checkpoint on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use deltalake::DeltaTable;
use object_store::ObjectMeta;
use object_store::path::Path;

/// Tables by folder, each with the objects of its log when it was loaded.
#[derive(Debug, Default)]
pub struct Loaded(Mutex<HashMap<String, AsLoaded>>);

/// The objects of a table's log when it was loaded, in the order of their paths, and the table.
type AsLoaded = (Arc<[ObjectMeta]>, DeltaTable);

impl Loaded {
    /// A table whose log holds what it held when the table was loaded, and beyond that later commits alone; both lists are in
    /// the order of their paths. Not one whose log was put in the place of another, nor one that would go on reading commits
    /// which a checkpoint has made dispensable: what a table tells of transactions it reads when it is asked.
    pub fn get(&self, folder: &str, log: &[ObjectMeta]) -> Option<DeltaTable> {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, table) = tables.get(folder)?;
        let last = then.iter().filter_map(|object| commit(&object.location)).max();
        let mut then = then.iter().peekable();
        for object in log {
            if then.next_if_eq(&object).is_none() && commit(&object.location) <= last {
                return None;
            }
        }
        then.next().is_none().then(|| table.clone())
    }

    /// A table as it was loaded last, whatever its log holds now.
    pub fn last(&self, folder: &str) -> Option<AsLoaded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(folder).cloned()
    }

    /// Remembers a table with the objects of its log, in the order of their paths.
    pub fn remember(&self, folder: &str, log: Vec<ObjectMeta>, table: DeltaTable) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.insert(folder.to_string(), (log.into(), table));
    }
}

/// The version that an object of a log commits; none of another object, such as a checkpoint.
pub fn commit(path: &Path) -> Option<u64> {
    path.filename()?.strip_suffix(".json")?.parse().ok()
}
