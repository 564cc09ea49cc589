//! Delta tables as they were last loaded through a lake: a run opens each of them many times, and loading one reads its log
//! from the last checkpoint on.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use deltalake::DeltaTable;
use object_store::ObjectMeta;

/// Tables by folder, each with the newest entry of its log at that time.
#[derive(Debug, Default)]
pub struct Loaded(Mutex<HashMap<String, (ObjectMeta, DeltaTable)>>);

impl Loaded {
    /// A table, given the entries of its log, of which the newest when it was loaded is among them as it was: a log that was
    /// put in the place of another has other entries.
    pub fn get(&self, folder: &str, entries: &[ObjectMeta]) -> Option<DeltaTable> {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (newest, table) = tables.get(folder)?;
        entries.contains(newest).then(|| table.clone())
    }

    /// Remembers a table of which an entry is the newest.
    pub fn remember(&self, folder: &str, newest: ObjectMeta, table: DeltaTable) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.insert(folder.to_string(), (newest, table));
    }
}
