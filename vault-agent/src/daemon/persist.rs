//! What outlives the process: the record of all targets, and the ciphertext of versions that some
//! of them may go back to. A verdict on a version is acted upon only when it is on disk, so that no
//! restart gives it another chance.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use shared::path::SecretPath;
use tokio::time::Instant;

use super::Daemon;
use super::record::{Record, Remembered};
use super::slot::Slot;

/// The wait before a record that could not be written is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

/// Versions that are kept to be looked for at most.
const MOST_SCANNED: usize = 2_000;

/// How long what may be gone back to may take to be fetched at the end.
const LAST_FETCH: Duration = Duration::from_secs(5);

impl Daemon {
    /// Writes the record, and retains versions, if that is due.
    pub(super) fn persist(&mut self, now: Instant) {
        if self.save_by.is_some_and(|by| by <= now) && self.saver.is_empty() {
            self.save_by = None;
            let (state, record) = (self.state.clone(), self.record());
            self.saver.spawn_blocking(move || save(&state, record));
        }
        if self.retain_due && self.retainer.is_empty() {
            self.retain_due = false;
            let (engine, wanted, goes_back) =
                (self.engine.clone(), self.retained(), self.goes_back());
            self.retainer.spawn(async move {
                match engine.retain(wanted).await {
                    Ok(true) => {}
                    Ok(false) if goes_back => {
                        tracing::warn!("a version to go back to is not here yet");
                    }
                    Ok(false) => {}
                    Err(error) => tracing::error!("versions to go back to cannot be kept: {error}"),
                }
            });
        }
    }

    /// Takes the end of the writing of the record.
    pub(super) fn persisted(&mut self, saved: Option<Record>) {
        self.save_failed = saved.is_none();
        let Some(record) = saved else {
            self.save_by = self.save_by.max(Some(Instant::now() + SAVE_AGAIN));
            return;
        };
        self.retain_due = self.retains();
        for remembered in record.targets {
            let slot = self.slots.get_mut(&remembered.path);
            if slot.is_some_and(|slot| slot.saved(&remembered)) {
                self.plan(&remembered.path);
            }
        }
    }

    /// Tells whether a verdict is to be written down, and can be.
    pub(super) fn is_deciding(&self) -> bool {
        !self.save_failed && self.slots.values().any(Slot::has_unsaved_bad)
    }

    /// Tells whether any target may go back to versions before.
    fn goes_back(&self) -> bool {
        self.slots.values().any(|slot| slot.target.rollback_on_failure)
    }

    /// Tells whether versions before are kept: to go back to, or to look for.
    pub(super) fn retains(&self) -> bool {
        self.goes_back() || self.source.config.borrow().scan.is_some()
    }

    /// Returns what the next process should know.
    fn record(&self) -> Record {
        let mut targets: Vec<Remembered> =
            self.slots.values().filter_map(Slot::remembered).collect();
        targets.sort_by(|a, b| a.path.cmp(&b.path));
        Record::new(targets, self.contact_persisted())
    }

    fn retained(&self) -> BTreeSet<(SecretPath, u64)> {
        let scan = self.source.config.borrow().scan.as_ref().map(|scan| scan.older_versions);
        let scanned = scan.map(|older| self.engine.scanned_versions(older)).unwrap_or_default();
        let older = scanned.into_iter().flat_map(|(path, versions)| {
            versions.into_iter().skip(1).map(move |ver| (path.clone(), ver))
        });
        self.slots.values().flat_map(Slot::retained).chain(older.take(MOST_SCANNED)).collect()
    }

    /// Leaves record and retained versions up to date, at the end.
    pub(super) async fn persist_last(&mut self) {
        while self.saver.join_next().await.is_some() {}
        save(&self.state, self.record());
        if self.goes_back() {
            let kept = tokio::time::timeout(LAST_FETCH, self.engine.retain(self.retained())).await;
            if !matches!(kept, Ok(Ok(true))) {
                tracing::debug!("a version to go back to is not here");
            }
        }
    }
}

/// Writes the record, and returns it if that has worked.
fn save(state: &Path, record: Record) -> Option<Record> {
    match record.save(state) {
        Ok(()) => Some(record),
        Err(error) => {
            tracing::error!("what the hooks have done cannot be kept: {error:#}");
            None
        }
    }
}
