//! What outlives the process: the record of all targets, and the ciphertext of versions that some
//! of them may go back to. A verdict on a version is acted upon only when it is on disk, so that no
//! restart gives it another chance.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::Daemon;
use super::contact::LastContact;
use super::record::{self, Persisting, Remembered};
use super::slot::Slot;

/// The wait before a record that could not be written is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

/// How long what may be gone back to may take to be fetched at the end.
const LAST_FETCH: Duration = Duration::from_secs(5);

impl Daemon {
    /// Writes the record, and retains versions, if that is due.
    pub(super) fn persist(&mut self, now: Instant) {
        if self.save_by.is_some_and(|by| by <= now) && self.saver.is_empty() {
            self.save_by = None;
            let verdicts = self.slots.iter().filter_map(|(path, slot)| {
                let bad = slot.unsaved()?;
                Some((path.clone(), bad.clone()))
            });
            self.persisting.verdicts = verdicts.collect();
            let good = self.slots.iter().filter_map(|(path, slot)| {
                let good = slot.unsaved_good()?;
                Some((path.clone(), good.clone()))
            });
            self.persisting.good = good.collect();
            let (state, record, contact) =
                (self.state.clone(), self.record(), self.contact_persisted());
            self.saver.spawn_blocking(move || save(&state, record, contact));
        }
        if self.persisting.due && self.retainer.is_empty() {
            self.persisting.due = false;
            let (engine, wanted) = (self.engine.clone(), self.retained());
            self.retainer.spawn(async move {
                match engine.retain(wanted).await {
                    Ok(true) => {}
                    Ok(false) => tracing::warn!("a version to go back to is not here yet"),
                    Err(error) => tracing::error!("versions to go back to cannot be kept: {error}"),
                }
            });
        }
    }

    /// Takes the end of the writing of the record.
    pub(super) fn persisted(&mut self, saved: bool) {
        self.persisting.failed = !saved;
        let Persisting { verdicts, good, .. } = &mut self.persisting;
        let (verdicts, good) = (std::mem::take(verdicts), std::mem::take(good));
        if !saved {
            let again = Instant::now() + SAVE_AGAIN;
            self.save_by = Some(self.save_by.map_or(again, |by| by.max(again)));
            return;
        }
        self.persisting.due = self.slots.values().any(|slot| slot.target.rollback_on_failure);
        for (path, good) in good {
            if let Some(slot) = self.slots.get_mut(&path) {
                slot.saved_good(&good);
            }
        }
        for (path, bad) in verdicts {
            if self.slots.get_mut(&path).is_some_and(|slot| slot.saved(&bad)) {
                self.plan(std::slice::from_ref(&path));
            }
        }
    }

    /// Tells whether a verdict is to be written down, and can be.
    pub(super) fn is_deciding(&self) -> bool {
        !self.persisting.failed && self.slots.values().any(|slot| slot.unsaved().is_some())
    }

    /// Returns what the next process should know.
    fn record(&self) -> Vec<Remembered> {
        let mut record: Vec<Remembered> =
            self.slots.values().filter_map(Slot::remembered).collect();
        record.sort_by(|a, b| a.path.cmp(&b.path));
        record
    }

    fn retained(&self) -> BTreeSet<(shared::path::SecretPath, u64)> {
        self.slots.values().flat_map(Slot::retained).collect()
    }

    /// Leaves record and retained versions up to date, at the end.
    pub(super) async fn persist_last(&mut self) {
        while self.saver.join_next().await.is_some() {}
        save(&self.state, self.record(), self.contact_persisted());
        if self.slots.values().any(|slot| slot.target.rollback_on_failure) {
            let kept = tokio::time::timeout(LAST_FETCH, self.engine.retain(self.retained())).await;
            if !matches!(kept, Ok(Ok(true))) {
                tracing::debug!("a version to go back to is not here");
            }
        }
    }
}

fn save(state: &std::path::Path, record: Vec<Remembered>, contact: Option<LastContact>) -> bool {
    let saved = record::save(state, record, contact);
    if let Err(error) = &saved {
        tracing::error!("what the hooks have done cannot be kept: {error:#}");
    }
    saved.is_ok()
}
