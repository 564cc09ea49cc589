//! Documents of a lake as they were last read: a watch asks for the same ones in each of its cycles.
//!
//! Memory: what was read of every document that is still listed, until its folder is listed again without it.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::ObjectMeta;
use object_store::path::Path;

/// What was read of documents, by their paths, each with what the store told of it then.
#[derive(Debug, Default)]
pub struct Documents(Mutex<HashMap<Path, AsRead>>);

/// What the store told of a document when it was read, and what was read.
type AsRead = (ObjectMeta, Arc<dyn Any + Send + Sync>);

impl Documents {
    /// What was read of a document that still is what it was then, as far as the store tells; none if it was read as another type.
    pub fn get<T: Any + Send + Sync>(&self, document: &ObjectMeta) -> Option<Arc<T>> {
        let documents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, read) = documents.get(&document.location)?;
        (then == document).then(|| read.clone().downcast().ok()).flatten()
    }

    /// Remembers what was read of a document, if the store tells one content from another: a size and a time may be those of
    /// another content too.
    pub fn remember<T: Any + Send + Sync>(&self, document: ObjectMeta, read: Arc<T>) {
        if document.e_tag.is_none() && document.version.is_none() {
            return;
        }
        let mut documents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        documents.insert(document.location.clone(), (document, read));
    }

    /// Forgets the documents below `folder` that are not among those that are listed there now.
    pub fn keep(&self, folder: &Path, listed: &[ObjectMeta]) {
        let listed: HashSet<&Path> = listed.iter().map(|document| &document.location).collect();
        let mut documents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        documents.retain(|path, _| !path.prefix_matches(folder) || listed.contains(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str, e_tag: &str) -> ObjectMeta {
        let last_modified = chrono::DateTime::UNIX_EPOCH;
        ObjectMeta { location: Path::from(path), last_modified, size: 5, e_tag: Some(e_tag.into()), version: None }
    }

    #[test]
    fn a_document_is_known_while_it_is_what_it_was() {
        let documents = Documents::default();
        let (then, now) = (document("runs/a.json", "1"), document("runs/a.json", "2"));
        let read = |document| documents.get::<u32>(document).map(|read| *read);
        assert_eq!(read(&then), None);
        documents.remember(then.clone(), Arc::new(1_u32));
        assert_eq!((read(&then), read(&now)), (Some(1), None));
        assert_eq!(documents.get::<u64>(&then), None, "it was read as another type");
        documents.remember(now.clone(), Arc::new(2_u32));
        assert_eq!((read(&then), read(&now)), (None, Some(2)));
    }

    #[test]
    fn one_that_cannot_be_told_from_another_is_not_remembered() {
        let documents = Documents::default();
        let document = ObjectMeta { e_tag: None, ..document("runs/a.json", "") };
        documents.remember(document.clone(), Arc::new(1_u32));
        assert_eq!(documents.get::<u32>(&document), None);
    }

    #[test]
    fn those_that_went_away_are_forgotten_and_those_of_other_folders_are_not() {
        let documents = Documents::default();
        let all = ["runs/a.json", "runs/b.json", "landing/a.json"].map(|path| document(path, "1"));
        for document in &all {
            documents.remember(document.clone(), Arc::new(()));
        }
        documents.keep(&Path::from("runs"), &all[1..2]);
        assert_eq!(all.map(|document| documents.get::<()>(&document).is_some()), [false, true, true]);
    }
}
