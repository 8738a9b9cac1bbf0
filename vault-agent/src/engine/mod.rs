//! The end-to-end encrypted client (design/trust, *Client: sync, read, write*): verified sync,
//! reads from an encrypted cache, batched writes, reports. No terminal, no HTTP server.

mod access;
mod alarms;
mod audit;
mod blob;
mod cache;
mod commit;
mod decide;
mod errand;
mod exposure;
mod fetch;
mod fleet;
mod heal;
mod inner;
mod ledger;
mod link;
mod open;
mod owner;
mod read;
mod report;
mod retain;
mod sample;
mod seal;
mod send;
mod types;
mod work;
mod write;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::audit::Fact;
use shared::log::{Op, State};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::report::TargetReport;
use shared::signed::{Envelope, VaultId};
use shared::time::Time;
use shared::wire::v1::audit::{AuditPage, AuditQuery};
use shared::wire::v1::log::Appended;
use tokio::sync::watch;
use tokio::time::timeout;

use machine::paths::Paths;

use inner::Inner;

pub use commit::Commit;
pub use exposure::Exposure;
pub use heal::Healed;
pub use sample::{Sample, SampleSecret};
pub use types::{
    Alarm, AuditFault, Change, Content, CustomChange, Latest, MetaMerge, MountMerge, Peer,
    Prepared, PreparedEntry, PutContent, ReadError, Status, VerifyResult, WriteError, Written,
};

/// The engine; clones share it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

/// How long a first sync may take.
const FIRST_SYNC: Duration = Duration::from_secs(10);
/// How long to wait for what is wanted at once.
const PATIENCE: Duration = Duration::from_secs(10);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.0.name)
    }
}

impl Engine {
    /// Opens identity, pins and database, and rebuilds the verified state; no network.
    ///
    /// # Errors
    /// If this machine has not joined a vault, the state directory is readable by others, the
    /// database is newer than the program, or what it holds does not verify.
    pub fn open(paths: &Paths) -> Result<Self> {
        Ok(Self(open::open(paths)?))
    }

    /// Keeps a connection, follows the log, resends what is pending, reports, ships accesses;
    /// returns on shutdown.
    ///
    /// # Errors
    /// Only if the agent's own database fails for good.
    pub async fn run(
        &self,
        addresses: watch::Receiver<Vec<String>>,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<()> {
        self.0.start_writer();
        self.0.spawn(read::watch_ages(Arc::clone(&self.0)));
        self.0.spawn(report::watch(Arc::clone(&self.0)));
        self.0.spawn(inner::watch_database(Arc::clone(&self.0)));
        self.0.spawn(cache::tend(Arc::clone(&self.0)));
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = link::keep(&self.0, addresses) => {}
        }
        self.close().await;
        Ok(())
    }

    /// Connects and syncs to the head; the engine stays usable for writes. For `once` and for
    /// use inside another program.
    ///
    /// # Errors
    /// If no address answers, or what it sends does not verify.
    pub async fn connect_once(&self, addresses: &[String]) -> Result<()> {
        let Some(client) = link::reach(&self.0, addresses).await else {
            bail!("{}", self.0.reason());
        };
        self.0.start_writer();
        let mut link = self.0.link.subscribe();
        let own = Arc::clone(&self.0);
        self.0.spawn(async move {
            link::follow(&own, client).await;
        });
        link.changed().await.context("the engine is closed")?;
        let settled = link.wait_for(|link| link.caught_up || link.client.is_none());
        let settled = settled.await.context("the engine is closed")?.clone();
        if !settled.caught_up {
            bail!("{}", settled.trouble.unwrap_or_default());
        }
        Ok(())
    }

    /// Syncs a machine that has just got its pins, so that a wrong line is noticed at once and the
    /// agent's first start needs no server. The second value is what came of the connection.
    ///
    /// # Errors
    /// If the state directory is refused.
    pub async fn first_sync(paths: &Paths) -> Result<(Self, Result<()>)> {
        let engine = Self::open(paths)?;
        let synced = match timeout(FIRST_SYNC, engine.connect_once(&[])).await {
            Ok(synced) => synced,
            Err(_) => Err(anyhow::anyhow!("the server does not answer")),
        };
        engine.close().await;
        Ok((engine, synced))
    }

    /// Posts this machine's report and ships the local accesses recorded so far.
    ///
    /// # Errors
    /// If there is no connection, or it fails.
    pub async fn settle(&self) -> Result<()> {
        let client = self.0.client();
        client.map_err(|reason| anyhow::anyhow!("the server cannot be reached: {reason}"))?;
        let (reported, shipped) =
            tokio::join!(self.0.reporting.now(PATIENCE), self.0.shipping.now(PATIENCE),);
        if !reported || !shipped {
            bail!("the server does not take this machine's report or its local accesses");
        }
        Ok(())
    }

    /// Waits until the first attempt to reach the server has ended, well or badly.
    pub async fn tried(&self) {
        let _ = self.0.link.subscribe().wait_for(|link| link.tries > 0).await;
    }

    /// Exchanges reports now, so that [`Engine::status`] shows the fleet as it is; without a
    /// connection nothing happens.
    pub async fn refresh(&self) {
        if self.0.client().is_ok() {
            self.0.reporting.now(Duration::from_secs(2)).await;
        }
    }

    /// Stops the background tasks and writes the snapshot of the state; what is queued for the
    /// database is on disk when the last clone is dropped.
    pub async fn close(&self) {
        self.0.stop();
        self.0.write_snapshot().await;
    }

    /// Returns this machine's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// Returns when this machine became one of the vault.
    #[must_use]
    pub fn since(&self) -> Time {
        self.state(|state| state.machine(self.name()).map_or(state.created(), |own| own.added))
    }

    /// Returns the pinned vault.
    #[must_use]
    pub fn vault(&self) -> VaultId {
        self.0.pins.vault
    }

    /// Shows the state to `look`, under a short read lock: `look` must not call the engine.
    pub fn state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.ledger().state)
    }

    /// Returns a receiver that ticks when the log advanced, a blob arrived, or peers changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Returns what the newest version of `path` is.
    #[must_use]
    pub fn latest(&self, path: &SecretPath) -> Latest {
        self.0.latest(path)
    }

    /// Tells whether this machine may read `path`.
    #[must_use]
    pub fn may_read(&self, path: &SecretPath) -> bool {
        ledger::may_read(&self.0.ledger().state, &self.0.name, path)
    }

    /// Tells whether this machine may write `path`.
    #[must_use]
    pub fn may_write(&self, path: &SecretPath) -> bool {
        self.0.ledger().state.machine(&self.0.name).is_some_and(|own| own.write.cover(path))
    }

    /// Returns the content of a version, the newest if none is named: from memory, from the
    /// encrypted cache, or from the server.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn content(&self, path: &SecretPath, ver: Option<u64>) -> Result<Content, ReadError> {
        self.0.content(path, ver, read::Reach::Server).await
    }

    /// As [`Engine::content`], but never asks the server.
    ///
    /// # Errors
    /// [`ReadError::Offline`] where that would have been needed.
    pub async fn content_here(
        &self,
        path: &SecretPath,
        ver: Option<u64>,
    ) -> Result<Content, ReadError> {
        self.0.content(path, ver, read::Reach::Here).await
    }

    /// Returns the content of a version that a target holds, or goes back to: as [`Engine::content`], and from what
    /// [`Engine::retain`] has kept.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn earlier(&self, path: &SecretPath, ver: u64) -> Result<Content, ReadError> {
        self.0.earlier(path, ver).await
    }

    /// Returns the commit of everything applied so far. Contents are told of before they are on disk; what they are
    /// written to must not be newer than this machine's memory after a power cut.
    #[must_use]
    pub fn commit(&self) -> Commit {
        self.0.commit().clone()
    }

    /// Keeps the ciphertext of exactly these versions beside that of the newest; tells whether it has all of them. What
    /// is destroyed, forgotten or not granted any more goes all the same.
    ///
    /// # Errors
    /// [`ReadError::Local`].
    pub async fn retain(&self, wanted: BTreeSet<(SecretPath, u64)>) -> Result<bool, ReadError> {
        self.0.retain(wanted).await
    }

    /// Writes all of `changes` in one entry, or none of them.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(&self, changes: Vec<Change>) -> Result<Written, WriteError> {
        self.0.write(changes).await
    }

    /// Notes a local access; it is on disk when this returns, and shipped later.
    ///
    /// # Errors
    /// If the database fails: the access must then not be answered.
    pub async fn record(&self, access: Fact) -> Result<()> {
        Ok(self.0.record(access).await?)
    }

    /// Adds the re-encryptions that an owner's operations make necessary, and builds the entries
    /// to sign. `progress` is told how many of how many are done.
    ///
    /// # Errors
    /// If a rule forbids the operations, or a blob cannot be encrypted.
    pub async fn prepare(
        &self,
        by: Actor,
        ops: Vec<Op>,
        progress: impl Fn(usize, usize) + Send + 'static,
    ) -> Result<Prepared> {
        owner::prepare(&self.0, by, ops, progress).await
    }

    /// Submits one signed entry with the blobs that were staged for it.
    ///
    /// # Errors
    /// See [`WriteError`]; [`WriteError::Moved`] if it must be prepared again.
    pub async fn submit(&self, envelope: Envelope) -> Result<Appended, WriteError> {
        self.0.submit(envelope).await
    }

    /// Returns how the engine is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// Returns, while the server is away, when this machine last knew to be at its head: the
    /// beginning of time if it never did.
    #[must_use]
    pub fn away(&self) -> Option<Time> {
        let away = !self.0.link.borrow().caught_up;
        away.then(|| self.0.synced_at().unwrap_or_default())
    }

    /// Returns how long after the boot this process last knew to be at the server's head, and when it last did by the
    /// calendar, earlier processes included.
    #[must_use]
    pub fn heard(&self) -> (Option<Duration>, Option<Time>) {
        let micros = self.0.heard.load(std::sync::atomic::Ordering::Relaxed);
        ((micros > 0).then(|| Duration::from_micros(micros)), self.0.synced_at())
    }

    /// Replaces what this machine reports of its targets.
    pub fn set_targets(&self, targets: Vec<TargetReport>) {
        let changed = self.0.targets.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&targets);
            *known = Some(targets);
            changed
        });
        if changed {
            self.0.reporting.soon();
        }
    }

    /// Raises an alarm; it stands until cleared.
    pub fn alarm(&self, code: &str, detail: impl Into<String>) {
        self.0.raise(code, "", detail);
    }

    /// Clears every alarm of that code; clearing `E_FORK` lets updates and writes go on.
    pub fn clear_alarm(&self, code: &str) {
        self.0.clear_alarm(code);
    }

    /// Returns every version that was encrypted to an active machine since it was added, by path.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn exposure(&self, name: Name) -> Result<Exposure> {
        exposure::of(&self.0, name).await
    }

    /// Gives the server back the entries that it has lost, and the blobs that this machine keeps.
    ///
    /// # Errors
    /// If there is no connection, or the server's history is another (`E_FORK`).
    pub async fn heal(&self) -> Result<Healed> {
        heal::heal(&self.0).await
    }

    /// Returns the vault's public root and recovery keys, and one encrypted secret.
    ///
    /// # Errors
    /// If the secret's ciphertext is neither here nor to be had from the server.
    pub async fn sample(&self) -> Result<Sample> {
        sample::take(&self.0).await
    }

    /// Asks the server for audit records.
    ///
    /// # Errors
    /// If there is no connection, or this machine has no read grant on `sys/audit`.
    pub async fn audit(&self, query: AuditQuery) -> Result<AuditPage> {
        self.0.audit(query).await
    }

    /// Recomputes the audit chain and compares it with every head anchored in verified reports.
    ///
    /// # Errors
    /// If there is no connection, or it fails.
    pub async fn audit_verify(&self) -> Result<VerifyResult> {
        self.0.audit_verify().await
    }
}
