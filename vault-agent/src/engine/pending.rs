//! The signed entry that waits for an answer: in memory before it is sent, on disk beside that.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::blob::Sealed;
use shared::hash::Hash;
use tokio::sync::oneshot;

use crate::state::{self, Failure, Store, Trouble, pending};

/// Room on the disk below which an entry is saved before it is sent.
const LITTLE_ROOM: u64 = 16 << 20;

/// What waits, if anything does.
pub(super) struct Pending {
    waiting: Mutex<Option<Waiting>>,
    store: Arc<Store>,
    trouble: Trouble,
    /// Where the database is.
    folder: PathBuf,
}

struct Waiting {
    hash: Hash,
    /// Its blobs; none if it was found at the start.
    blobs: Vec<Arc<Sealed>>,
}

impl Pending {
    /// Starts with the entry that was found on disk, if one was.
    pub(super) fn new(
        store: Arc<Store>,
        trouble: Trouble,
        folder: PathBuf,
        found: Option<Hash>,
    ) -> Self {
        let waiting = found.map(|hash| Waiting { hash, blobs: Vec::new() });
        Self { waiting: Mutex::new(waiting), store, trouble, folder }
    }

    /// Returns the hash of the entry that waits.
    pub(super) fn entry(&self) -> Option<Hash> {
        self.lock().as_ref().map(|waiting| waiting.hash)
    }

    /// Notes an entry that is about to be sent, and has its request saved before anything that is
    /// asked of the database from now on, above all before it is settled or dropped. Returns what
    /// tells when it is there.
    pub(super) async fn save(
        &self,
        hash: Hash,
        request: Bytes,
        blobs: Vec<Arc<Sealed>>,
    ) -> Result<oneshot::Receiver<Result<(), Failure>>, Failure> {
        let saved = self.store.begin(move |conn| pending::save(conn, hash, &request)).await?;
        let before = self.lock().replace(Waiting { hash, blobs });
        if let Some(before) = before.filter(|before| before.hash != hash) {
            let entry = before.hash.short();
            tracing::warn!(%entry, "a pending entry is dropped: an owner's act takes its place");
        }
        Ok(saved)
    }

    /// Tells whether a request may well not be kept: then a write that is refused for it must not
    /// have been sent.
    pub(super) fn is_at_risk(&self) -> bool {
        let room = rustix::fs::statvfs(&self.folder).map(|disk| disk.f_bavail * disk.f_frsize);
        self.trouble.borrow().is_some() || room.is_ok_and(|room| room < LITTLE_ROOM)
    }

    /// Returns the blobs that this machine has made for an entry, as the server sends them to all
    /// others.
    pub(super) fn blobs(&self, entry: Hash) -> Vec<Arc<Sealed>> {
        let waiting = self.lock();
        let waiting = waiting.as_ref().filter(|waiting| waiting.hash == entry);
        waiting.map(|waiting| waiting.blobs.clone()).unwrap_or_default()
    }

    /// Notes that an entry is in the log.
    pub(super) fn settled(&self, entry: Hash) {
        self.lock().take_if(|waiting| waiting.hash == entry);
    }

    /// Forgets an entry that is known not to be in the log. Not waited for: sent once more after
    /// a crash, it would only be refused again.
    pub(super) fn give_up(&self, hash: Hash) {
        self.forget();
        let _ = state::note(&self.store, move |conn| pending::settle(conn, hash));
    }

    /// Forgets the entry in memory.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
