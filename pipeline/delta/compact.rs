//! Files of a table put in the place of others that hold the same rows.
//!
//! Nothing changes for readers: the commit says so (`dataChange` is false), and one that lands rows at the same time goes
//! through. It is made on the snapshot whose files were read, with a transaction of its own, so that two jobs never
//! replace the same files, and its outcome is known by the same rules as that of any commit.

use std::collections::BTreeSet;

use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::protocol::DeltaOperation;

use super::parts::TARGET_FILE_BYTES;
use super::{Outcome, Part, RETRIES, Table, add, resolve};
use crate::error::Result;
use crate::failpoint::failpoint;
use crate::lake::Lake;

/// A data file is closed when it has about this many bytes.
pub const TARGET_BYTES: usize = TARGET_FILE_BYTES;

/// Application of the commits that put files in the place of others; its number counts them.
pub const APPLICATION: &str = "wayline.maintain";

impl Table {
    /// Whether rows of a file are marked as deleted, which only other programs do.
    pub fn has_deletion_vectors(&self) -> Result<bool> {
        Ok(self.delta.snapshot()?.log_data().iter().any(|file| file.deletion_vector_descriptor().is_some()))
    }

    /// Commits `merged` in the place of the files `removed`, on this snapshot.
    pub async fn replace_files(
        &self,
        lake: &Lake,
        folder: &str,
        removed: &BTreeSet<String>,
        merged: &[Part],
    ) -> Result<Outcome> {
        let snapshot = self.delta.snapshot()?;
        let mut actions = self.removals(folder, removed, false)?;
        actions.extend(merged.iter().map(|file| Action::Add(Add { data_change: false, ..add(file) })));
        let number = self.transaction(APPLICATION).await?.unwrap_or(0) + 1;
        let properties = CommitProperties::default()
            .with_max_retries(RETRIES)
            .with_application_transaction(Transaction::new(APPLICATION, number))
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false));
        let operation = DeltaOperation::Optimize { predicate: None, target_size: TARGET_BYTES as i64 };
        failpoint("maintain.compact.before");
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(snapshot as _), self.delta.log_store(), operation)
            .await;
        failpoint("maintain.compact.after_put");
        let outcome = match committed {
            Ok(finalized) => Outcome::Committed(finalized.version()),
            Err(error) => {
                let ours = merged.first().map(|file| file.path.as_str());
                resolve(lake, folder, (APPLICATION, number), ours, error.into()).await
            }
        };
        failpoint("maintain.compact.after_ack");
        Ok(outcome)
    }
}
