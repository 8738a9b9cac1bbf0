//! Reading: from memory, from the ciphertext on disk, from the server, in this order. A blob that
//! does not open leaves everything as it was and raises an alarm.

use std::sync::Arc;
use std::time::Duration;

use shared::blob::Blob;
use shared::error::{Code, Error};
use shared::log::{Deletion, Secret, Version};
use shared::path::SecretPath;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::alarms::Alarms;
use super::blob::Due;
use super::cache::Cache;
use super::ledger::Ledger;
use super::link::Link;
use super::offload;
use super::own::Own;
use super::rights::{find, may_read};
use super::ticks::Ticks;
use super::types::{Content, Latest, ReadError};
use crate::state::{self, Store};
use host::clock;
use machine::remote::{Client, RemoteError};

/// How often to look for versions that have become too old.
const AGES: Duration = Duration::from_secs(30);

/// How far a read may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// What this machine holds.
    Here,
    /// What the server holds as well.
    Server,
}

/// Reads contents, and notes which are to be fetched.
pub(super) struct Reader {
    pub(super) own: Arc<Own>,
    pub(super) store: Arc<Store>,
    pub(super) alarms: Arc<Alarms>,
    pub(super) cache: Arc<Cache>,
    pub(super) link: Arc<Link>,
    pub(super) ledger: Arc<Ledger>,
    /// Says that the blob of a newest version may be missing.
    pub(super) fetch_due: Notify,
}

impl Reader {
    pub(super) fn latest(&self, path: &SecretPath) -> Latest {
        let folded = self.ledger.read();
        if !may_read(&folded.state, &self.own.name, path) {
            return Latest::NotReadable;
        }
        let current = folded.state.secret(path).and_then(|secret| secret.current());
        let Some((ver, version)) = current else { return Latest::Missing };
        if !version.is_live(clock::now()) {
            return Latest::Deleted { ver };
        }
        let held = folded.held.get(path) == Some(&version.blob);
        Latest::Version { ver, ready: held || self.cache.has(&version.blob) }
    }

    pub(super) async fn content(
        self: &Arc<Self>,
        path: &SecretPath,
        ver: Option<u64>,
        reach: Reach,
    ) -> Result<Content, ReadError> {
        let due = {
            let folded = self.ledger.read();
            let (ver, version) = find(&folded.state, &self.own.name, path, ver, clock::now())?;
            match self.cache.get(&version.blob) {
                Some(known) => return known.map_err(ReadError::Blob),
                None => folded.due(path, ver, version),
            }
        };
        let blob = self.ciphertext(&due, reach).await?;
        self.open_blob(due, blob).await.map_err(ReadError::Blob)
    }

    /// Returns the blob's bytes, whose size and hash are right.
    pub(super) async fn ciphertext(
        self: &Arc<Self>,
        due: &Due,
        reach: Reach,
    ) -> Result<Blob, ReadError> {
        let local = |fault: state::Failure| ReadError::Local(fault.to_string());
        let (path, ver, blob) = (due.path.clone(), due.ver, due.blob);
        let kept = self.store.read(move |conn| {
            if let Some(newest) = state::blobs::read(conn, &path, blob)? {
                return Ok(Some(newest));
            }
            let earlier = state::retained::read(conn, &path, ver)?;
            Ok(earlier.filter(|kept| kept.hash == blob).map(|kept| kept.bytes))
        });
        let kept = kept.await;
        if let Some(kept) = kept.map_err(local)?.map(Blob::new) {
            match due.check(&kept) {
                Ok(()) => return Ok(kept),
                Err(error) => tracing::warn!(%error, "the cached blob is damaged, asking anew"),
            }
        }
        if reach == Reach::Here {
            let reason = "it is not to be asked".to_owned();
            return Err(ReadError::Offline { ver: due.ver, reason });
        }
        let client =
            self.link.client().map_err(|reason| ReadError::Offline { ver: due.ver, reason })?;
        self.fetch(&client, due).await
    }

    /// Gets a blob from the server, checks its hash, and keeps it if it is its path's newest.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        client: &Client,
        due: &Due,
    ) -> Result<Blob, ReadError> {
        let blob = match client.blob(due.blob).await {
            Ok(bytes) => Blob::new(bytes),
            Err(fault) => return Err(self.not_fetched(due, fault)),
        };
        if let Err(error) = due.check(&blob) {
            self.alarm_blob(due, &error);
            return Err(ReadError::Blob(error));
        }
        if due.newest {
            let held = self.ledger.hold(due.clone(), blob.bytes().to_vec()).await;
            held.map_err(|fault| ReadError::Local(fault.to_string()))?;
        }
        Ok(blob)
    }

    fn not_fetched(&self, due: &Due, fault: RemoteError) -> ReadError {
        match fault {
            RemoteError::Refused(error) if error.code == Code::BlobAbsent => self.absent(due),
            RemoteError::Refused(error) if error.code == Code::Denied => ReadError::Denied,
            RemoteError::Status { status: 403, .. } => ReadError::Denied,
            other => ReadError::Offline { ver: due.ver, reason: other.to_string() },
        }
    }

    fn absent(&self, due: &Due) -> ReadError {
        let error = Code::BlobAbsent.because(format!("version {} of `{}`", due.ver, due.path));
        self.alarm_blob(due, &error);
        ReadError::Blob(error)
    }

    /// Opens a blob off the async threads and keeps its content in memory.
    pub(super) async fn open_blob(
        self: &Arc<Self>,
        due: Due,
        blob: Blob,
    ) -> Result<Content, Error> {
        let own = Arc::clone(self);
        let opened = tokio::task::spawn_blocking(move || own.open_now(&due, &blob));
        opened.await.map_err(|_| Code::BlobOpen.because("the program is ending"))?
    }

    fn open_now(&self, due: &Due, blob: &Blob) -> Result<Content, Error> {
        match due.content(&self.own.keys, blob) {
            Ok(content) => {
                self.cache.put(due.blob, content.clone());
                self.clear_blob_alarms(due);
                Ok(content)
            }
            Err(error) => {
                self.cache.refuse(due.blob, error.clone());
                self.alarm_blob(due, &error);
                Err(error)
            }
        }
    }

    fn alarm_blob(&self, due: &Due, error: &Error) {
        self.alarms.raise(error.code.as_str(), due.path.as_str(), error.detail.clone());
    }

    fn clear_blob_alarms(&self, due: &Due) {
        let path = due.path.as_str();
        self.alarms.clear_if(|code, subject| subject == path && code.starts_with("E_BLOB_"));
    }

    /// Opens blobs that came along, starting at once; returns the task that still does if there
    /// are many.
    pub(super) fn open_all(self: &Arc<Self>, arrived: Vec<(Due, Blob)>) -> Option<JoinHandle<()>> {
        let own = Arc::clone(self);
        // What this machine wrote itself is there already.
        let arrived: Vec<_> =
            arrived.into_iter().filter(|(due, _)| !self.cache.has(&due.blob)).collect();
        let bytes = arrived.iter().map(|(_, blob)| blob.bytes().len()).sum();
        let small = offload::is_small(arrived.len(), bytes);
        let open = move || {
            for (due, blob) in arrived {
                // A failure has raised its alarm; whoever asks for the content hears it again.
                let _ = own.open_now(&due, &blob);
            }
        };
        if small {
            open();
            return None;
        }
        Some(tokio::task::spawn_blocking(open))
    }
}

/// Ticks when a version has become too old: nothing in the log says so.
pub(super) async fn watch_ages(ledger: Arc<Ledger>, ticks: Ticks) {
    let mut tick = tokio::time::interval(AGES);
    let mut before = clock::now();
    loop {
        tick.tick().await;
        let now = clock::now();
        let passed = |version: &Version| match version.deletion {
            Deletion::At(time) => before < time && time <= now,
            Deletion::No | Deletion::Since(_) => false,
        };
        let aged = {
            let folded = ledger.read();
            let current = |secret: &Secret| secret.current().is_some_and(|(_, v)| passed(v));
            folded.state.secrets().values().any(current)
        };
        if aged {
            ticks.tick();
        }
        before = now;
    }
}
