//! Reading: from memory, from the ciphertext on disk, from the server, in this order. A blob that
//! does not open leaves everything as it was and raises an alarm.

use std::sync::Arc;
use std::time::Duration;

use shared::blob::Blob;
use shared::error::{Code, Error};
use shared::log::{Deletion, Secret, State, Version};
use shared::name::Name;
use shared::path::SecretPath;
use shared::time::Time;

use super::Inner;
use super::blob::Due;
use super::ledger::{Ledger, may_read};
use super::types::{Content, Latest, ReadError};
use crate::state;
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

impl Inner {
    pub(super) fn latest(&self, path: &SecretPath) -> Latest {
        let ledger = self.ledger();
        if !may_read(&ledger.state, &self.name, path) {
            return Latest::NotReadable;
        }
        let current = ledger.state.secret(path).and_then(|secret| secret.current());
        let Some((ver, version)) = current else { return Latest::Missing };
        if !version.is_live(clock::now()) {
            return Latest::Deleted { ver };
        }
        let held = ledger.held.get(path) == Some(&version.blob);
        Latest::Version { ver, ready: held || self.cache().has(&version.blob) }
    }

    pub(super) async fn content(
        self: &Arc<Self>,
        path: &SecretPath,
        ver: Option<u64>,
        reach: Reach,
    ) -> Result<Content, ReadError> {
        let due = {
            let ledger = self.ledger();
            let (ver, version) = find(&ledger.state, &self.name, path, ver, clock::now())?;
            match self.cache().get(&version.blob) {
                Some(known) => return known.map_err(ReadError::Blob),
                None => Due::at(&ledger, path, ver, version),
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
        let client = self.client().map_err(|reason| ReadError::Offline { ver: due.ver, reason })?;
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
            self.keep(due.clone(), blob.bytes().to_vec()).await?;
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

    async fn keep(self: &Arc<Self>, due: Due, bytes: Vec<u8>) -> Result<(), ReadError> {
        let own = Arc::clone(self);
        let kept = self.store.write(move |conn| {
            // The log may have moved on meanwhile: only what is newest now is kept.
            let mut ledger = own.ledger_mut();
            let wanted = Due::newest(&ledger, &own.name, &due.path);
            if wanted.is_some_and(|wanted| wanted.blob == due.blob) {
                state::blobs::keep(conn, &due.path, due.blob, &bytes)?;
                ledger.held.insert(due.path, due.blob);
            }
            Ok(())
        });
        kept.await.map_err(|fault| ReadError::Local(fault.to_string()))
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

    pub(super) fn open_now(&self, due: &Due, blob: &Blob) -> Result<Content, Error> {
        match due.content(&self.keys, blob) {
            Ok(content) => {
                self.cache().put(due.blob, content.clone());
                self.clear_blob_alarms(due);
                Ok(content)
            }
            Err(error) => {
                self.cache().refuse(due.blob, error.clone());
                self.alarm_blob(due, &error);
                Err(error)
            }
        }
    }

    fn alarm_blob(&self, due: &Due, error: &Error) {
        self.raise(error.code.as_str(), due.path.as_str(), error.detail.clone());
    }

    fn clear_blob_alarms(&self, due: &Due) {
        let path = due.path.as_str();
        self.alarms().clear_if(|code, subject| subject == path && code.starts_with("E_BLOB_"));
    }

    /// Lists the newest versions whose ciphertext this machine should have and has not.
    pub(super) fn missing(&self) -> Vec<Due> {
        let ledger: &Ledger = &self.ledger();
        let Some(machine) = ledger.state.machine(&self.name) else { return Vec::new() };
        let secrets = ledger.state.secrets().iter();
        let wanted = secrets.filter(|(path, _)| machine.read.cover(path));
        wanted
            .filter_map(|(path, secret)| {
                let (ver, version) = secret.current()?;
                let lacking = ledger.held.get(path) != Some(&version.blob);
                (lacking && super::blob::is_kept(version))
                    .then(|| Due::at(ledger, path, ver, version))
            })
            .collect()
    }
}

/// Ticks when a version has become too old: nothing in the log says so.
pub(super) async fn watch_ages(inner: Arc<Inner>) {
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
            let ledger = inner.ledger();
            let current = |secret: &Secret| secret.current().is_some_and(|(_, v)| passed(v));
            ledger.state.secrets().values().any(current)
        };
        if aged {
            inner.tick();
        }
        before = now;
    }
}

/// Finds a version that may be read now.
pub(super) fn find<'a>(
    state: &'a State,
    own: &Name,
    path: &SecretPath,
    ver: Option<u64>,
    now: Time,
) -> Result<(u64, &'a Version), ReadError> {
    if !may_read(state, own, path) {
        return Err(ReadError::Denied);
    }
    let secret = state.secret(path).ok_or(ReadError::Missing)?;
    let found = match ver {
        None => secret.current(),
        Some(ver) => secret.version(ver).map(|version| (ver, version)),
    };
    let (ver, version) = found.ok_or(ReadError::Missing)?;
    if version.destroyed {
        return Err(ReadError::Destroyed { ver });
    }
    if !version.is_live(now) {
        return Err(ReadError::Deleted { ver });
    }
    Ok((ver, version))
}
