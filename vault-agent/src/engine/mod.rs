//! The end-to-end encrypted client (design/trust, *Client: sync, read, write*): verified sync,
//! reads from an encrypted cache, batched writes, reports. No terminal, no HTTP server.

mod types;

use std::sync::Arc;

use anyhow::Result;
use shared::log::{Op, State};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::report::TargetReport;
use shared::signed::{Envelope, VaultId};
use shared::wire::v1::audit::{AuditPage, AuditQuery};
use shared::wire::v1::log::Appended;
use tokio::sync::watch;

use crate::paths::Paths;

pub use types::{
    Access, Alarm, AuditFault, Change, Content, CustomChange, Latest, MetaMerge, MountMerge, Peer,
    Prepared, PreparedEntry, PutContent, ReadError, Status, VerifyResult, WriteError, Written,
};

/// The engine; clones share it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner;

impl Engine {
    /// Opens identity, pins and database, and rebuilds the verified state; no network.
    ///
    /// # Errors
    /// If this machine has not joined a vault, the state directory is readable by others, the
    /// database is newer than the program, or what it holds does not verify.
    pub fn open(_paths: &Paths) -> Result<Self> {
        Ok(Self(Arc::new(Inner)))
    }

    /// Keeps a connection, follows the log, resends what is pending, reports, ships accesses;
    /// returns on shutdown.
    ///
    /// # Errors
    /// Only if the agent's own database fails for good.
    pub async fn run(
        &self,
        _addresses: watch::Receiver<Vec<String>>,
        _shutdown: watch::Receiver<bool>,
    ) -> Result<()> {
        todo!()
    }

    /// Connects and syncs to the head; the engine stays usable for writes. For `once` and for
    /// use inside another program.
    ///
    /// # Errors
    /// If no address answers, or what it sends does not verify.
    pub async fn connect_once(&self, _addresses: &[String]) -> Result<()> {
        todo!()
    }

    /// Posts this machine's report and ships the local accesses recorded so far.
    ///
    /// # Errors
    /// If there is no connection, or it fails.
    pub async fn settle(&self) -> Result<()> {
        todo!()
    }

    /// Returns this machine's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        todo!()
    }

    /// Returns the pinned vault.
    #[must_use]
    pub fn vault(&self) -> VaultId {
        todo!()
    }

    /// Shows the state to `look`, under a short read lock.
    pub fn state<T>(&self, _look: impl FnOnce(&State) -> T) -> T {
        todo!()
    }

    /// Returns a receiver that ticks when the log advanced, a blob arrived, or peers changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        todo!()
    }

    /// Returns what the newest version of `path` is.
    #[must_use]
    pub fn latest(&self, _path: &SecretPath) -> Latest {
        todo!()
    }

    /// Tells whether this machine may read `path`.
    #[must_use]
    pub fn may_read(&self, _path: &SecretPath) -> bool {
        todo!()
    }

    /// Tells whether this machine may write `path`.
    #[must_use]
    pub fn may_write(&self, _path: &SecretPath) -> bool {
        todo!()
    }

    /// Returns the content of a version, the newest if none is named: from memory, from the
    /// encrypted cache, or from the server.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn content(
        &self,
        _path: &SecretPath,
        _ver: Option<u64>,
    ) -> Result<Content, ReadError> {
        todo!()
    }

    /// Writes all of `changes` in one entry, or none of them.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(&self, _changes: Vec<Change>) -> Result<Written, WriteError> {
        todo!()
    }

    /// Notes a local access; it is on disk when this returns, and shipped later.
    ///
    /// # Errors
    /// If the database fails: the access must then not be answered.
    pub async fn record(&self, _access: Access) -> Result<()> {
        todo!()
    }

    /// Adds the re-encryptions that an owner's operations make necessary, and builds the entries
    /// to sign. `progress` is told how many of how many are done.
    ///
    /// # Errors
    /// If a rule forbids the operations, or a blob cannot be encrypted.
    pub async fn prepare(
        &self,
        _by: Actor,
        _ops: Vec<Op>,
        _progress: impl Fn(usize, usize) + Send + 'static,
    ) -> Result<Prepared> {
        todo!()
    }

    /// Submits one signed entry with the blobs that were staged for it.
    ///
    /// # Errors
    /// See [`WriteError`]; [`WriteError::Moved`] if it must be prepared again.
    pub async fn submit(&self, _envelope: Envelope) -> Result<Appended, WriteError> {
        todo!()
    }

    /// Returns how the engine is.
    #[must_use]
    pub fn status(&self) -> Status {
        todo!()
    }

    /// Replaces what this machine reports of its targets.
    pub fn set_targets(&self, _targets: Vec<TargetReport>) {
        todo!()
    }

    /// Raises an alarm; it stands until cleared.
    pub fn alarm(&self, _code: &str, _detail: impl Into<String>) {
        todo!()
    }

    /// Clears every alarm of that code.
    pub fn clear_alarm(&self, _code: &str) {
        todo!()
    }

    /// Asks the server for audit records.
    ///
    /// # Errors
    /// If there is no connection, or this machine has no read grant on `sys/audit`.
    pub async fn audit(&self, _query: AuditQuery) -> Result<AuditPage> {
        todo!()
    }

    /// Recomputes the audit chain and compares it with every head anchored in verified reports.
    ///
    /// # Errors
    /// If there is no connection, or it fails.
    pub async fn audit_verify(&self) -> Result<VerifyResult> {
        todo!()
    }
}
