//! Commits of the dispatcher: patient with a full disk, final with a broken one.

use std::{sync::Arc, time::Duration};

use tidemill_journal::{JournalError, Unit, UnitResult};

use super::Dispatcher;

/// The first and the longest wait between two tries of a commit.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl Dispatcher {
    /// Commits one unit. While there is no space it tries again, since a handler's work is done and
    /// doing it again would repeat its effects outside; none, if the engine stops meanwhile or the
    /// journal is broken: the delivery is then pending still.
    pub(super) async fn commit(&self, unit: Unit) -> Option<UnitResult> {
        self.commit_shared(&[unit].into()).await
    }

    /// The same for a list of one unit that somebody else reads meanwhile.
    pub(super) async fn commit_shared(&self, unit: &Arc<[Unit]>) -> Option<UnitResult> {
        let mut wait = PATIENCE.0;
        loop {
            let error = match self.journal.commit(unit.clone()).await {
                Ok(results) => return results.into_iter().next(),
                Err(error) => error,
            };
            self.watch(&error);
            match error {
                JournalError::Broken { .. } | JournalError::Closed => return None,
                JournalError::Full { .. } | JournalError::Failed { .. } => {
                    tracing::error!(%error, "cannot commit; trying again in {wait:?}");
                    let sleep = tokio::time::sleep(wait);
                    self.stop.run_until_cancelled(sleep).await?;
                    wait = (wait * 2).min(PATIENCE.1);
                }
            }
        }
    }

    /// Stops the engine if this error leaves the journal unusable.
    pub(super) fn watch(&self, error: &JournalError) {
        if let JournalError::Broken { .. } = error {
            self.broken.send_if_modified(|reason| {
                let first = reason.is_none();
                reason.get_or_insert_with(|| error.to_string());
                first
            });
        }
    }
}
