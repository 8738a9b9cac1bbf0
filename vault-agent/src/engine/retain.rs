//! Keeping the ciphertext of versions that a target may go back to: past newer ones, past the
//! number of versions that the log keeps, and with the server away. The ledger drops what is
//! destroyed, forgotten or no longer granted.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::Connection;
use shared::blob::Blob;
use shared::path::SecretPath;

use super::blob::Due;
use super::read::{Reach, Reader};
use super::rights::{find, may_retain};
use super::types::{Content, ReadError};
use crate::state::retained::{self, Retained};
use host::clock;

impl Reader {
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
            let folded = self.ledger.read();
            let (ver, version) =
                find(&folded.state, &self.own.name, path, Some(ver), clock::now())?;
            folded.due(path, ver, version)
        };
        let blob = self.ciphertext(&due, Reach::Server).await?;
        let (own, path) = (Arc::clone(self), path.clone());
        let kept = due.retained(blob);
        let keep = move |conn: &Connection| {
            // The log may have moved on meanwhile.
            if may_retain(&own.ledger.read().state, &own.own.name, &path, ver) {
                retained::keep(conn, &path, ver, &kept)?;
            }
            Ok(())
        };
        self.store.write(keep).await.map_err(|fault| ReadError::Local(fault.to_string()))
    }

    /// Returns the content of a version; one that the log has dropped for its age, or that the
    /// server cannot be asked for, if its ciphertext was retained.
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
            let folded = self.ledger.read();
            may_retain(&folded.state, &self.own.name, path, ver).then(|| folded.state.vault())
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
        if let Some(known) = self.cache.get(&due.blob) {
            return known.map_err(ReadError::Blob);
        }
        self.open_blob(due, blob).await.map_err(ReadError::Blob)
    }
}
