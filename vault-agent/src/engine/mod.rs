//! The end-to-end encrypted client (design/trust, *Client: sync, read, write*): verified sync,
//! reads from an encrypted cache, batched writes, reports. No terminal, no HTTP server.
//!
//! Each part owns its state: one struct, one lock, one file; [`Engine`] holds them. The layers,
//! from bottom to top; a module uses those before it in this list only:
//!
//! 1. plain types and tools: `types`, `ticks`, `own`, `tasks`, `debounced`, `offload`, `commit`
//! 2. rules, without lock or database: `blob`, `rights`, `folded`, `fleet`, `decide`
//! 3. what stands alone: `alarms`, `cache`, `pending`
//! 4. how the connection is, and the verified log: `link`, `ledger`
//! 5. reading, local accesses, reports, taking records in: `read`, `retain`, `access`, `report`,
//!    `intake`
//! 6. writing: `seal`, `send`, `owner`, `writer`
//! 7. the connection's loops: `connect`, `fetch`, `follow`
//! 8. what is asked for now and then: `audit`, `exposure`, `heal`, `sample`, `open`
//! 9. the owners together: `owners`

mod access;
mod alarms;
mod audit;
mod blob;
mod cache;
mod commit;
mod connect;
mod debounced;
mod decide;
mod exposure;
mod fetch;
mod fleet;
mod folded;
mod follow;
mod heal;
mod intake;
mod ledger;
mod link;
mod offload;
mod open;
mod own;
mod owner;
mod owners;
mod pending;
mod read;
mod report;
mod retain;
mod rights;
mod sample;
mod seal;
mod send;
mod tasks;
mod ticks;
mod types;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::audit::{Fact, Who};
use shared::error::Code;
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

use owners::Owners;

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
pub struct Engine(Arc<Owners>);

/// How long a first sync may take.
const FIRST_SYNC: Duration = Duration::from_secs(10);
/// How long to wait for what is wanted at once.
const PATIENCE: Duration = Duration::from_secs(10);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.0.own.name)
    }
}

impl Engine {
    /// Opens identity, pins and database, and rebuilds the verified state; no network.
    ///
    /// # Errors
    /// If this machine has not joined a vault, the state directory is readable by others, the
    /// database is newer than the program, or what it holds does not verify.
    pub fn open(paths: &Paths) -> Result<Self> {
        Ok(Self(Arc::new(Owners::open(paths)?)))
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
        let Owners { tasks, ledger, ticks, reports, alarms, cache, .. } = &*self.0;
        tasks.spawn(writer::run(self.0.writer.clone()));
        tasks.spawn(read::watch_ages(ledger.clone(), ticks.clone()));
        tasks.spawn(report::watch(reports.clone()));
        tasks.spawn(alarms::watch_database(alarms.clone(), self.0.store.trouble()));
        tasks.spawn(cache::tend(cache.clone()));
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = self.0.follower.keep(addresses) => {}
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
        let follower = self.0.follower.clone();
        let Some(client) = follower.connector.reach(addresses).await else {
            bail!("{}", self.0.link.now().reason());
        };
        self.0.tasks.spawn(writer::run(self.0.writer.clone()));
        let mut link = self.0.link.subscribe();
        self.0.tasks.spawn(async move {
            follower.follow(client).await;
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
        let client = self.0.link.client();
        client.map_err(|reason| anyhow::anyhow!("the server cannot be reached: {reason}"))?;
        let (reported, shipped) =
            tokio::join!(self.0.reports.now(PATIENCE), self.0.accesses.ship_now(PATIENCE));
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
        if self.0.link.client().is_ok() {
            self.0.reports.now(Duration::from_secs(2)).await;
        }
    }

    /// Stops the background tasks and writes the snapshot of the state; what is queued for the
    /// database is on disk when the last clone is dropped.
    pub async fn close(&self) {
        self.0.tasks.stop();
        self.0.link.down("the agent is stopping");
        tokio::join!(self.0.link.write_synced(), self.0.ledger.clone().write_snapshot());
    }

    /// Returns this machine's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.own.name
    }

    /// Returns when this machine became one of the vault.
    #[must_use]
    pub fn since(&self) -> Time {
        self.state(|state| state.machine(self.name()).map_or(state.created(), |own| own.added))
    }

    /// Returns the pinned vault.
    #[must_use]
    pub fn vault(&self) -> VaultId {
        self.0.own.pins.vault
    }

    /// Shows the state to `look`, under a short read lock: `look` must not call the engine.
    pub fn state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.ledger.read().state)
    }

    /// Returns a receiver that ticks when the log advanced, a blob arrived, or peers changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.ticks.subscribe()
    }

    /// Returns what the newest version of `path` is.
    #[must_use]
    pub fn latest(&self, path: &SecretPath) -> Latest {
        self.0.reader.latest(path)
    }

    /// Tells whether this machine may read `path`.
    #[must_use]
    pub fn may_read(&self, path: &SecretPath) -> bool {
        rights::may_read(&self.0.ledger.read().state, &self.0.own.name, path)
    }

    /// Tells whether this machine may write `path`.
    #[must_use]
    pub fn may_write(&self, path: &SecretPath) -> bool {
        self.0
            .ledger
            .read()
            .state
            .machine(&self.0.own.name)
            .is_some_and(|own| own.write.cover(path))
    }

    /// Returns the content of a version, the newest if none is named: from memory, from the
    /// encrypted cache, or from the server.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn content(&self, path: &SecretPath, ver: Option<u64>) -> Result<Content, ReadError> {
        self.0.reader.content(path, ver, read::Reach::Server).await
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
        self.0.reader.content(path, ver, read::Reach::Here).await
    }

    /// Returns the content of a version that a target holds, or goes back to: as
    /// [`Engine::content`], and from what [`Engine::retain`] has kept.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn earlier(&self, path: &SecretPath, ver: u64) -> Result<Content, ReadError> {
        self.0.reader.earlier(path, ver).await
    }

    /// Returns the commit of everything applied so far. Contents are told of before they are on
    /// disk; what they are written to must not be newer than this machine's memory after a power
    /// cut.
    #[must_use]
    pub fn commit(&self) -> Commit {
        self.0.ledger.commit()
    }

    /// Keeps the ciphertext of exactly these versions beside that of the newest; tells whether it
    /// has all of them. What is destroyed, forgotten or not granted any more goes all the same.
    ///
    /// # Errors
    /// [`ReadError::Local`].
    pub async fn retain(&self, wanted: BTreeSet<(SecretPath, u64)>) -> Result<bool, ReadError> {
        self.0.reader.retain(wanted).await
    }

    /// Writes all of `changes` in one entry, or none of them.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(&self, changes: Vec<Change>) -> Result<Written, WriteError> {
        self.0.writer.write(changes, None).await
    }

    /// As [`Engine::write`], for a process on this machine; that it made the changes is on record
    /// when this returns.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write_by(&self, who: Who, changes: Vec<Change>) -> Result<Written, WriteError> {
        self.0.writer.write(changes, Some(who)).await
    }

    /// Notes a local access; it is on disk when this returns, and shipped later.
    ///
    /// # Errors
    /// If the database fails: the access must then not be answered.
    pub async fn record(&self, access: Fact) -> Result<()> {
        Ok(self.0.accesses.record(vec![access]).await?)
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
        owner::prepare(&self.0.acts, by, ops, progress).await
    }

    /// Submits one signed entry with the blobs that were staged for it.
    ///
    /// # Errors
    /// See [`WriteError`]; [`WriteError::Moved`] if it must be prepared again.
    pub async fn submit(&self, envelope: Envelope) -> Result<Appended, WriteError> {
        self.0.writer.submit(envelope).await
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
        self.0.link.look(|link| (!link.caught_up).then(|| link.synced_at.unwrap_or_default()))
    }

    /// Returns how long after the boot this process last knew to be at the server's head, and when
    /// it last did by the calendar, earlier processes included.
    #[must_use]
    pub fn heard(&self) -> (Option<Duration>, Option<Time>) {
        self.0.link.look(|link| (link.heard, link.synced_at))
    }

    /// Replaces what this machine reports of its targets.
    pub fn set_targets(&self, targets: Vec<TargetReport>) {
        self.0.reports.set_targets(targets);
    }

    /// Raises an alarm; it stands until cleared.
    pub fn alarm(&self, code: &str, detail: impl Into<String>) {
        self.0.alarms.raise(code, "", detail);
    }

    /// Clears every alarm of that code; clearing `E_FORK` lets updates and writes go on.
    pub fn clear_alarm(&self, code: &str) {
        self.0.alarms.clear(code);
        if code == Code::AuditRewritten.as_str() {
            // A person has looked: the chain may only grow again from where it is shown next.
            self.0.reports.forget_audit();
        }
        if code == Code::Fork.as_str() {
            self.0.link.go_on();
        }
    }

    /// Returns every version that was encrypted to an active machine since it was added, by path.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn exposure(&self, name: Name) -> Result<Exposure> {
        exposure::of(&self.0.store, name).await
    }

    /// Gives the server back the entries that it has lost, and the blobs that this machine keeps.
    ///
    /// # Errors
    /// If there is no connection, or the server's history is another (`E_FORK`).
    pub async fn heal(&self) -> Result<Healed> {
        heal::heal(&self.0.follower.connector, &self.0.store).await
    }

    /// Returns the vault's public root and recovery keys, and one encrypted secret.
    ///
    /// # Errors
    /// If the secret's ciphertext is neither here nor to be had from the server.
    pub async fn sample(&self) -> Result<Sample> {
        sample::take(&self.0.reader).await
    }

    /// Asks the server for audit records.
    ///
    /// # Errors
    /// If there is no connection, or this machine has no read grant on `sys/audit`.
    pub async fn audit(&self, query: AuditQuery) -> Result<AuditPage> {
        audit::page(&self.0.link, &self.0.accesses, query).await
    }

    /// Recomputes the audit chain and compares it with every head anchored in verified reports.
    ///
    /// # Errors
    /// If there is no connection, or it fails.
    pub async fn audit_verify(&self) -> Result<VerifyResult> {
        audit::verify(&self.0.link, &self.0.store).await
    }
}
