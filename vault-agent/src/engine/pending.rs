//! The signed entries that wait for an answer: in memory before they are sent, on disk beside that.
//! A machine's own changes wait behind what is kept, an owner's acts do not: so one that is kept
//! stays beside a newer act, and the newest is sent first.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::blob::Sealed;
use shared::hash::Hash;
use tokio::sync::oneshot;

use crate::state::{self, Failure, Store, Trouble, pending};

/// Room on the disk below which an entry is saved before it is sent.
const LITTLE_ROOM: u64 = 16 << 20;
/// Entries that may wait.
const MOST: usize = 8;

/// What waits.
pub(super) struct Pending {
    /// Oldest first.
    waiting: Mutex<Vec<Waiting>>,
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
    /// Starts with the entries that were found on disk, oldest first.
    pub(super) fn new(
        store: Arc<Store>,
        trouble: Trouble,
        folder: PathBuf,
        found: Vec<Hash>,
    ) -> Self {
        let waiting = found.into_iter().map(|hash| Waiting { hash, blobs: Vec::new() });
        Self { waiting: Mutex::new(waiting.collect()), store, trouble, folder }
    }

    /// Returns the hash of the newest entry that waits.
    pub(super) fn newest(&self) -> Option<Hash> {
        self.lock().last().map(|waiting| waiting.hash)
    }

    /// Tells whether an entry waits.
    pub(super) fn holds(&self, entry: Hash) -> bool {
        self.lock().iter().any(|waiting| waiting.hash == entry)
    }

    /// Tells whether no more can wait.
    pub(super) fn is_full(&self) -> bool {
        self.lock().len() >= MOST
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
        let mut waiting = self.lock();
        waiting.retain(|waiting| waiting.hash != hash);
        waiting.push(Waiting { hash, blobs });
        drop(waiting);
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
        let waiting = waiting.iter().find(|waiting| waiting.hash == entry);
        waiting.map(|waiting| waiting.blobs.clone()).unwrap_or_default()
    }

    /// Forgets an entry that is known not to be in the log. Not waited for: sent once more after
    /// a crash, it would only be refused again.
    pub(super) fn give_up(&self, hash: Hash) {
        self.forget(hash);
        let _ = state::note(&self.store, move |conn| pending::settle(conn, hash));
    }

    /// Forgets an entry in memory: it does not wait any more, or not on disk.
    pub(super) fn forget(&self, entry: Hash) {
        self.lock().retain(|waiting| waiting.hash != entry);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
