//! Keeping the ciphertext of versions that a target may go back to: past newer ones, past the number of versions that
//! the log keeps, and with the server away. What is destroyed, forgotten or no longer granted is dropped here too.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::Connection;
use shared::blob::Blob;
use shared::log::State;
use shared::path::SecretPath;

use super::Inner;
use super::blob::Due;
use super::ledger::{Ledger, may_read};
use super::read::{Reach, find};
use super::types::{Content, ReadError};
use crate::state::retained::{self, Retained};
use host::clock;

impl Inner {
    /// Keeps the ciphertext of exactly these versions; tells whether it has all of them.
    pub(super) async fn retain(
        self: &Arc<Self>,
        wanted: BTreeSet<(SecretPath, u64)>,
    ) -> Result<bool, ReadError> {
        let local = |fault: crate::state::Failure| ReadError::Local(fault.to_string());
        let kept: BTreeSet<_> =
            self.store.read(retained::list).await.map_err(local)?.into_iter().collect();
        let mut complete = true;
        for (path, ver) in wanted.difference(&kept) {
            complete &= self.retain_one(path, *ver).await.is_ok();
        }
        let gone: Vec<_> = kept.difference(&wanted).cloned().collect();
        if !gone.is_empty() {
            let drop = move |conn: &Connection| {
                gone.iter().try_for_each(|(path, ver)| retained::drop(conn, path, *ver))
            };
            self.store.write(drop).await.map_err(local)?;
        }
        Ok(complete)
    }

    async fn retain_one(self: &Arc<Self>, path: &SecretPath, ver: u64) -> Result<(), ReadError> {
        let due = {
            let ledger = self.ledger();
            let (ver, version) = find(&ledger.state, &self.name, path, Some(ver), clock::now())?;
            Due::at(&ledger, path, ver, version)
        };
        let blob = self.ciphertext(&due, Reach::Server).await?;
        let (own, path) = (Arc::clone(self), path.clone());
        let kept = due.retained(blob);
        let keep = move |conn: &Connection| {
            // The log may have moved on meanwhile.
            if is_due(&own.ledger(), &own, &path, ver) {
                retained::keep(conn, &path, ver, &kept)?;
            }
            Ok(())
        };
        self.store.write(keep).await.map_err(|fault| ReadError::Local(fault.to_string()))
    }

    /// Returns the content of a version; one that the log has dropped for its age, or that the server cannot be asked
    /// for, if its ciphertext was retained.
    pub(super) async fn earlier(
        self: &Arc<Self>,
        path: &SecretPath,
        ver: u64,
    ) -> Result<Content, ReadError> {
        let fault = match self.content(path, Some(ver), Reach::Server).await {
            Err(fault @ (ReadError::Missing | ReadError::Offline { .. })) => fault,
            settled => return settled,
        };
        let due = {
            let ledger = self.ledger();
            is_due(&ledger, self, path, ver).then(|| ledger.state.vault())
        };
        let Some(vault) = due else { return Err(fault) };
        let place = path.clone();
        let kept = self.store.read(move |conn| retained::read(conn, &place, ver)).await;
        let kept = kept.map_err(|fault| ReadError::Local(fault.to_string()))?;
        let Some(Retained { bytes, .. }) = &kept else { return Err(fault) };
        let blob = Blob::new(bytes.clone());
        let Some(due) = kept.map(|kept| Due::of_retained(vault, path, ver, &kept)) else {
            return Err(fault);
        };
        if let Some(known) = self.cache().get(&due.blob) {
            return known.map_err(ReadError::Blob);
        }
        self.open_blob(due, blob).await.map_err(ReadError::Blob)
    }

    /// Drops what must not be kept any more of `path`.
    pub(super) fn tend_retained(
        &self,
        conn: &Connection,
        ledger: &Ledger,
        path: &SecretPath,
    ) -> rusqlite::Result<()> {
        for ver in retained::of(conn, path)? {
            if !is_due(ledger, self, path, ver) {
                retained::drop(conn, path, ver)?;
            }
        }
        Ok(())
    }
}

/// Tells whether a version's ciphertext may be kept: its secret is there and may be read, and the version is not destroyed.
fn is_due(ledger: &Ledger, own: &Inner, path: &SecretPath, ver: u64) -> bool {
    let state: &State = &ledger.state;
    may_read(state, &own.name, path)
        && state
            .secret(path)
            .is_some_and(|secret| secret.version(ver).is_none_or(|version| !version.destroyed))
}
