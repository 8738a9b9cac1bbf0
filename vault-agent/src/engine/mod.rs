//! The end-to-end encrypted client (design/trust, *Client: sync, read, write*): verified sync,
//! reads from an encrypted cache, batched writes, reports. No terminal, no HTTP server.
//!
//! Each part owns its state: one struct, one lock, one file; [`Parts`] holds them. The layers,
//! from bottom to top; a module uses those before it in this list only:
//!
//! 1. plain types and tools: `types`, `tasks`, `debounced`, `connected`, `arrivals`, `offload`
//! 2. rules, without lock or database: `timing`, `blob`, `rights`, `folded`, `fleet`, `chain`,
//!    `anchors`, `posting`, `decide`, `walk`
//! 3. what stands alone: `alarms`, `told`, `aside`, `cache`, `pending`, `harmless`
//! 4. how the connection is, and the verified log: `ways`, `link`, `ledger`
//! 5. local accesses and reports, and all owners together: `access`, `stored`, `report`, `program`,
//!    `leaves`, `parts`, `server`
//! 6. reading and taking records in: `read`, `intake`
//! 7. writing: `seal`, `send`, `owner`, `writer`
//! 8. the connection's loops, and what they do where the server has gone another way, or a
//!    checkpoint stands for entries: `reach`, `pages`, `copies`, `look`, `over`, `checkpoint`,
//!    `fetch`, `follow`
//! 9. what is asked for now and then: `status`, `audit`, `exposure`, `entries`, `removed`,
//!    `owed`, `holders`, `admins`, `acts`, `review`, `scans`, `reasons`, `heal`, `kept`, `halted`,
//!    `resume`, `halts`

mod access;
mod acts;
mod admins;
mod alarms;
mod anchors;
mod arrivals;
mod aside;
mod audit;
mod blob;
mod cache;
mod chain;
mod checkpoint;
mod connected;
mod copies;
mod debounced;
mod decide;
mod entries;
mod exposure;
mod fetch;
mod fleet;
mod folded;
mod follow;
mod halted;
mod halts;
mod harmless;
mod heal;
mod holders;
mod intake;
mod kept;
mod leaves;
mod ledger;
mod left;
mod link;
mod look;
mod offload;
mod over;
mod owed;
mod owner;
mod pages;
mod parts;
mod pending;
mod posting;
mod program;
mod reach;
mod read;
mod reasons;
mod removed;
mod report;
mod resume;
mod review;
mod rights;
mod scans;
mod seal;
mod send;
mod server;
mod status;
mod stored;
mod tasks;
mod timing;
mod told;
mod types;
mod walk;
mod ways;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::audit::{Asker, Fact};
use shared::error::Code;
use shared::hash::Hash;
use shared::log::{Entry, Machine, Number, State};
use shared::name::Name;
use shared::path::SecretPath;
use shared::report::TargetReport;
use shared::signed::{Envelope, VaultId};
use shared::time::Time;
use tokio::sync::watch;
use tokio::time::timeout;

use machine::local::{Healed, PrepareRequest, Prepared, Status, Submitted};
use machine::paths::Paths;

use crate::state;
use parts::Parts;
use writer::Writer;

#[cfg(test)]
use fleet::Peer;
pub use types::{
    Branch, Change, Commit, Content, CustomChange, Latest, MetaMerge, PutContent, ReadError,
    Settings, WriteError, Written, unfollowed,
};

/// The engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    parts: Arc<Parts>,
    writer: Arc<Writer>,
}

/// How long a first sync may take, and what is wanted at once.
const PATIENCE: Duration = Duration::from_secs(10);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.name())
    }
}

impl Engine {
    /// Opens identity, pins and database, and rebuilds the verified state; no network.
    ///
    /// # Errors
    /// If this machine has not joined a vault, the state directory is readable by others, the
    /// database is newer than the program, or what it holds does not verify.
    pub fn open(paths: &Paths) -> Result<Self> {
        Ok(Self { parts: Arc::new(Parts::open(paths)?), writer: Arc::new(Writer::new()) })
    }

    /// Keeps a connection, follows the log, resends what is pending, reports, ships accesses;
    /// returns on shutdown.
    pub async fn run(
        &self,
        addresses: watch::Receiver<Vec<String>>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let Parts { tasks, trouble, reports, alarms, cache, .. } = &*self.parts;
        self.start_writer();
        tasks.spawn(read::watch_ages(self.parts.clone()));
        tasks.spawn(report::watch(reports.clone()));
        tasks.spawn(checkpoint::watch(self.parts.clone()));
        tasks.spawn(alarms::watch_database(alarms.clone(), trouble.clone()));
        tasks.spawn(cache::tend(cache.clone()));
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = follow::keep(&self.parts, addresses) => {}
        }
        self.close().await;
    }

    fn start_writer(&self) {
        self.parts.tasks.spawn(writer::run(self.parts.clone(), self.writer.clone()));
    }

    /// Connects and syncs to the head; the engine stays usable for writes. For `once` and for
    /// use inside another program.
    ///
    /// # Errors
    /// If no address answers, or what it sends does not verify.
    pub async fn connect_once(&self, addresses: &[String]) -> Result<()> {
        let parts = self.parts.clone();
        self.start_writer();
        let client = reach::by_one_of(&parts, addresses).await?;
        if self.branch().halted {
            over::go(&parts, &client, over::Right::Resumed).await.map_err(over::fault)?;
            if self.branch().halted {
                bail!(WriteError::Halted);
            }
        }
        let mut link = parts.link.subscribe();
        self.parts.tasks.spawn(async move {
            follow::follow(&parts, client).await;
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
        let synced = match timeout(PATIENCE, engine.connect_once(&[])).await {
            Ok(synced) => synced,
            Err(_) => Err(anyhow::anyhow!("the server does not answer")),
        };
        engine.close().await;
        Ok((engine, synced))
    }

    /// Tells why the vault that was synced to its head does not take this machine for its own.
    ///
    /// # Errors
    /// `E_JOIN_SUBSTITUTED`.
    pub fn check_own_keys(&self) -> Result<(), shared::error::Error> {
        self.state(|state| self.parts.own.check(state, true))
    }

    /// Tells whether the alarm stands that the vault does not hold this machine's own keys.
    pub fn is_substituted(&self) -> bool {
        self.parts.alarms.stands(Code::JoinSubstituted)
    }

    /// Tells whether the server last knew no machine with this key, and then whether it once did.
    pub fn is_stranger(&self) -> Option<bool> {
        self.parts.alarms.stands(Code::UnknownActor).then_some(self.was_member())
    }

    /// Tells whether a machine of the vault has had this one's signing key, as far as the log is
    /// here.
    pub fn was_member(&self) -> bool {
        self.state(|state| self.parts.own.was_member(state))
    }

    /// Posts this machine's report and ships the local accesses recorded so far.
    ///
    /// # Errors
    /// If there is no connection, or it fails.
    pub async fn settle(&self) -> Result<()> {
        let client = self.parts.link.client();
        client.map_err(|reason| anyhow::anyhow!("{}", unfollowed(&reason)))?;
        let (reported, shipped) = tokio::join!(
            self.parts.reports.reporting.now(PATIENCE),
            self.parts.accesses.shipping.now(PATIENCE)
        );
        if !reported || !shipped {
            bail!("the server does not take this machine's report or its local accesses");
        }
        Ok(())
    }

    /// Waits until the first attempt to reach the server has ended, well or badly.
    pub async fn tried(&self) {
        let _ = self.parts.link.subscribe().wait_for(|link| link.tries > 0).await;
    }

    /// Asks the server how everybody stands; without a connection nothing happens.
    #[cfg(test)]
    pub async fn refresh(&self) {
        status::refresh(&self.parts).await;
    }

    /// Stops the background tasks and writes the snapshot of the state; what is queued for the
    /// database is on disk when the last clone is dropped.
    pub async fn close(&self) {
        self.parts.tasks.stop();
        self.parts.link.down("the agent is stopping");
        let snapshot = self.parts.ledger.clone().write_snapshot();
        tokio::join!(self.parts.link.write_synced(), snapshot, self.parts.reports.flush());
    }

    /// Returns what this machine is called in the vault now.
    pub fn name(&self) -> Name {
        self.state(|state| self.parts.own.name(state).clone())
    }

    /// Shows this machine's own row of the state to `look`, if it is an active one of the vault.
    pub fn own<T>(&self, look: impl FnOnce(&State, &Machine) -> T) -> Option<T> {
        self.state(|state| self.parts.own.find(state).map(|(_, own)| look(state, own)))
    }

    /// Returns this machine's number, while it is an active one of the vault.
    pub fn number(&self) -> Option<Number> {
        self.state(|state| self.parts.own.find(state).map(|(number, _)| number))
    }

    /// Returns when this machine became one of the vault.
    pub fn since(&self) -> Time {
        self.own(|_, own| own.added).unwrap_or_else(|| self.state(State::created))
    }

    pub fn vault(&self) -> VaultId {
        self.parts.own.pins.vault
    }

    /// Shows the state to `look`, under a short read lock: `look` must not call the engine.
    pub fn state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.parts.ledger.read().state)
    }

    /// Returns a receiver that ticks when the log advanced, a blob arrived, or peers changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.parts.ticks.subscribe()
    }

    pub fn latest(&self, path: &SecretPath) -> Latest {
        read::latest(&self.parts, path)
    }

    pub fn may_read(&self, path: &SecretPath) -> bool {
        self.state(|state| rights::may_read(state, &self.parts.own, path))
    }

    pub fn may_write(&self, path: &SecretPath) -> bool {
        self.own(|_, own| own.write.cover(path)).unwrap_or(false)
    }

    /// Returns the content of a version, the newest if none is named: from memory, from the
    /// encrypted cache, or from the server.
    pub async fn content(&self, path: &SecretPath, ver: Option<u64>) -> Result<Content, ReadError> {
        read::content(&self.parts, path, ver, read::Reach::Server).await
    }

    /// As [`Engine::content`], but never asks the server: [`ReadError::Offline`] where that would
    /// have been needed.
    pub async fn content_here(
        &self,
        path: &SecretPath,
        ver: Option<u64>,
    ) -> Result<Content, ReadError> {
        read::content(&self.parts, path, ver, read::Reach::Here).await
    }

    /// Returns the content of a version that a target holds, or goes back to: as
    /// [`Engine::content`], and from what [`Engine::retain`] has kept.
    pub async fn earlier(&self, path: &SecretPath, ver: u64) -> Result<Content, ReadError> {
        read::earlier(&self.parts, path, ver).await
    }

    /// Returns the newest content of a path whose ciphertext is on this disk, for when the newest
    /// version cannot be had or does not open.
    pub async fn last_good(&self, path: &SecretPath) -> Option<Content> {
        read::last_good(&self.parts, path).await
    }

    /// Returns the commit of everything applied so far. Contents are told of before they are on
    /// disk; what they are written to must not be newer than this machine's memory after a power
    /// cut.
    pub fn commit(&self) -> Commit {
        self.parts.ledger.read().commit.clone()
    }

    /// Keeps the ciphertext of exactly these versions beside that of the newest; tells whether it
    /// has all of them. What is destroyed, forgotten or not granted any more goes all the same.
    pub async fn retain(&self, wanted: BTreeSet<(SecretPath, u64)>) -> Result<bool, ReadError> {
        read::retain(&self.parts, wanted).await
    }

    /// Writes all of `changes` in one entry, or none of them, for a process on this machine; that
    /// it made the changes is on record when this returns.
    pub async fn write(
        &self,
        by: impl Into<Asker>,
        changes: Vec<Change>,
    ) -> Result<Written, WriteError> {
        // An owner's act that is under way meanwhile opens no door for others.
        if self.branch().halted {
            return Err(WriteError::Halted);
        }
        self.writer.write(&self.parts, changes, by.into()).await
    }

    /// Notes a local access; it is on disk when this returns, and shipped later.
    ///
    /// # Errors
    /// If the database fails: the access must then not be answered.
    pub async fn record(&self, access: Fact) -> Result<()> {
        Ok(self.parts.accesses.record(vec![access]).await?)
    }

    /// Adds the re-encryptions that an owner's operations make necessary, and builds the entries
    /// to sign.
    ///
    /// # Errors
    /// If a rule forbids the operations, or a blob cannot be encrypted.
    pub async fn prepare(&self, request: PrepareRequest) -> Result<Prepared> {
        if !self.branch().halted {
            return owner::prepare(&self.parts, request).await;
        }
        halted::check(&request.ops)?;
        halted::connected(&self.parts, owner::prepare(&self.parts, request)).await
    }

    /// Submits one signed entry with the blobs that were staged for it;
    /// [`WriteError::Moved`] if it must be prepared again.
    pub async fn submit(&self, envelope: Envelope) -> Result<Submitted, WriteError> {
        if !self.branch().halted {
            return self.writer.submit(&self.parts, envelope).await;
        }
        let entry: Entry = envelope.parse().map_err(WriteError::Refused)?;
        halted::check(&entry.ops).map_err(|_| WriteError::Halted)?;
        let act = async { Ok(self.writer.submit(&self.parts, envelope).await) };
        let acted = halted::connected(&self.parts, act).await;
        acted.map_err(|why| WriteError::Offline { reason: format!("{why:#}") })?
    }

    /// Returns how this machine stands; of the targets its own only.
    #[cfg(test)]
    pub fn status(&self) -> Status {
        status::of(&self.parts)
    }

    /// Returns how this machine and all others stand: as the server knows it now, or, if it does
    /// not say so soon, as it was last fetched.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn fleet(&self) -> Result<Status> {
        status::fleet(&self.parts).await
    }

    /// Returns what this machine reports of its targets, or has reported last.
    pub fn targets(&self) -> Vec<TargetReport> {
        self.parts.reports.targets()
    }

    /// Returns the newest verified record of every other machine, by name.
    #[cfg(test)]
    pub fn peers(&self) -> Vec<(Name, Peer)> {
        self.parts.reports.peers()
    }

    /// Returns when each other machine was last heard, removed ones too, as far as is known here.
    pub fn seen(&self) -> BTreeMap<Number, Time> {
        self.parts.reports.fleet().seen().clone()
    }

    /// Returns which program each machine runs, this one included, as far as that was ever fetched.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn agents(&self) -> Result<BTreeMap<Number, String>> {
        status::agents(&self.parts).await
    }

    /// Returns, while the server is away, when this machine last knew to be at its head: the
    /// beginning of time if it never did.
    pub fn away(&self) -> Option<Time> {
        self.parts.link.look(|link| (!link.caught_up).then(|| link.synced_at.unwrap_or_default()))
    }

    /// Returns the time by which it is judged what is too old.
    pub fn time_for_ages(&self) -> Time {
        self.parts.time_for_ages()
    }

    /// Returns how long after the boot this process last knew to be at the server's head, and when
    /// it last did by the calendar, earlier processes included.
    pub fn heard(&self) -> (Option<Duration>, Option<Time>) {
        self.parts.link.look(|link| (link.heard, link.synced_at))
    }

    /// Replaces what this machine reports of its targets.
    pub fn set_targets(&self, targets: Vec<TargetReport>) {
        self.parts.reports.set_targets(targets);
    }

    /// Raises an alarm; it stands until cleared.
    pub fn alarm(&self, code: &str, detail: impl Into<String>) {
        self.parts.alarms.raise(code, "", detail);
    }

    /// Clears every alarm of that code; `E_FORK` goes with [`Engine::accept`] only.
    pub fn clear_alarm(&self, code: &str) {
        self.parts.alarms.clear(code);
        if code == Code::AuditRewritten.as_str() {
            // A person has looked: the chain may only grow again from where it is shown next.
            self.parts.reports.forget_audit();
            if let Err(fault) = state::note(&self.parts.store, state::peers::forget_anchors) {
                tracing::error!(%fault, "what others have seen of the audit log is not forgotten");
            }
        }
    }

    /// Gives the server back the entries that it has lost, and the blobs that this machine keeps;
    /// the one-time code of its host vouches for heads by keys that it does not know.
    ///
    /// # Errors
    /// If there is no connection, or the server's history is another (`E_FORK`).
    pub async fn heal(&self, code: Option<Hash>) -> Result<Healed> {
        heal::heal(&self.parts, code).await
    }
}
