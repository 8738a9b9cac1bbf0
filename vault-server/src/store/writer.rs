//! The one writer: the open transaction, with the folded state and the audit chain that memory
//! keeps beside it, all three taken back together if the commit fails; and what may wait until
//! nobody else does. How concurrent writers share a commit is `host::store`'s. No rule lives here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use host::clock;
use host::store::{self, Database, StoreFailure};
use rusqlite::Connection;
use shared::audit::{AuditHead, Fact};
use shared::hash::Hash;
use shared::log::{Applied, Entry, Refused, State, Undo};
use shared::path::SecretPath;
use shared::signed::Envelope;
use shared::time::Time;
use tokio::sync::watch;

use super::folded::{Folded, is_folded};
use super::{audit, snapshot};
use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// A snapshot is due after this many entries, once nobody waits.
const SNAPSHOT_DUE: usize = 4096;
/// A snapshot is written after this many entries even if somebody waits.
const SNAPSHOT_LATEST: usize = 16_384;
/// After this many commits the write-ahead log is moved into the database, once nobody waits.
const CHECKPOINT_DUE: usize = 512;

/// What a queued piece of work operates on.
pub struct Transaction {
    conn: Connection,
    state: Option<State>,
    audit: AuditHead,
    now: Time,
    undo: Vec<Undo>,
    after: Vec<AfterCommit>,
    wanted: HashMap<Hash, (SecretPath, u64)>,
    folded: Arc<Folded>,
}

/// Something to do once the transaction is on disk.
type AfterCommit = Box<dyn FnOnce() + Send>;

impl Transaction {
    /// Begins with what the database holds.
    pub fn new(conn: Connection, state: Option<State>, audit: AuditHead) -> Self {
        let now = Time::from_micros(0);
        let (undo, after, wanted) = (Vec::new(), Vec::new(), HashMap::new());
        Self { conn, state, audit, now, undo, after, wanted, folded: Arc::default() }
    }

    /// Returns the folded state, with the entries of the open transaction.
    pub const fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// Returns the audit chain's head, with the records of the open transaction.
    pub const fn audit(&self) -> AuditHead {
        self.audit
    }

    /// Returns the time at which the transaction was opened.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Returns the connection, for asking.
    pub const fn conn(&self) -> &Connection {
        &self.conn
    }

    /// Takes the state of a new vault.
    pub fn found(&mut self, state: State) {
        self.state = Some(state);
    }

    /// Applies an entry to the state; returns it and the blobs it dropped. `None` without a vault.
    ///
    /// # Errors
    /// As [`shared::log::apply`]; the state is then as before.
    pub fn apply(&mut self, envelope: &Envelope) -> Option<Result<(Entry, Vec<Hash>), Refused>> {
        let state = self.state.as_mut()?;
        Some(shared::log::apply(state, envelope).map(|Applied { entry, dropped, undo }| {
            self.undo.push(undo);
            (entry, dropped)
        }))
    }

    /// Takes the last [`Transaction::apply`] back.
    pub fn take_back(&mut self) {
        if let (Some(undo), Some(state)) = (self.undo.pop(), &mut self.state) {
            state.revert(undo);
        }
    }

    /// Notes which blobs are wanted back, and for which versions. What became of the versions since
    /// is for whoever asks to find out.
    pub fn want(&mut self, wanted: HashMap<Hash, (SecretPath, u64)>) {
        self.wanted = wanted;
    }

    /// Returns the version that a blob is wanted back for.
    pub fn wanted(&self, id: &Hash) -> Option<&(SecretPath, u64)> {
        self.wanted.get(id)
    }

    /// Appends an audit record; a refusal like one that is on record already is only counted.
    pub fn record(&mut self, fact: Fact) -> rusqlite::Result<()> {
        if !is_folded(&fact) {
            return self.append(fact);
        }
        if self.folded.repeats(&fact) {
            return Ok(());
        }
        self.append(fact.clone())?;
        let folded = Arc::clone(&self.folded);
        self.after_commit(move || folded.is_on_record(fact));
        Ok(())
    }

    /// Appends the records of what was only counted, and starts to count anew.
    pub fn record_counted(&mut self) -> rusqlite::Result<()> {
        self.folded.take().into_iter().try_for_each(|fact| self.append(fact))
    }

    fn append(&mut self, fact: Fact) -> rusqlite::Result<()> {
        self.audit = audit::insert(&self.conn, self.audit, self.now, fact)?;
        Ok(())
    }

    /// Does something once the transaction is on disk, before its answers go out.
    pub fn after_commit(&mut self, act: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(act));
    }
}

/// A handle on the writer.
pub struct Store {
    writer: store::Store<Writer>,
    audit: watch::Receiver<AuditHead>,
    folded: Arc<Folded>,
}

impl Store {
    /// Starts the writer's thread; `unsaved` entries came after the last snapshot.
    pub fn start(tx: Transaction, unsaved: usize, metrics: Arc<Metrics>) -> Result<Self> {
        let (shown, audit) = watch::channel(tx.audit());
        let folded = Arc::clone(&tx.folded);
        let writer = Writer { tx, metrics, audit: shown, unsaved, commits: 0 };
        writer.show();
        Ok(Self { writer: store::Store::start(writer)?, audit, folded })
    }

    /// Returns the head of the audit chain as of the last commit, and later ones.
    pub fn audit(&self) -> watch::Receiver<AuditHead> {
        self.audit.clone()
    }

    /// Returns what is counted until its record is due.
    pub fn folded(&self) -> &Folded {
        &self.folded
    }

    /// Queues `work` and waits until what it wrote is on disk. Its transaction is shared, but an
    /// error takes back only what this piece did.
    pub async fn call<T, F>(&self, work: F) -> Result<T, StoreFailure>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction) -> rusqlite::Result<T> + Send + 'static,
    {
        let written = self.writer.write(move |writer| {
            work(&mut writer.tx).inspect_err(|error| {
                writer.metrics.failures.add(1);
                tracing::error!(%error, "nothing written");
            })
        });
        written.await
    }

    /// Commits what is queued, writes a snapshot, empties the write-ahead log, ends the thread.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

struct Writer {
    tx: Transaction,
    metrics: Arc<Metrics>,
    audit: watch::Sender<AuditHead>,
    /// Entries since the last snapshot.
    unsaved: usize,
    /// Commits since the last checkpoint.
    commits: usize,
}

impl Database for Writer {
    /// Whether there is a vault, entries to undo, acts for after the commit, the audit's head.
    type Mark = (bool, usize, usize, AuditHead);

    fn conn(&self) -> &Connection {
        &self.tx.conn
    }

    fn mark(&self) -> Self::Mark {
        (self.tx.state.is_some(), self.tx.undo.len(), self.tx.after.len(), self.tx.audit)
    }

    fn back_to(&mut self, (founded, undo, after, audit): Self::Mark) {
        while self.tx.undo.len() > undo {
            self.tx.take_back();
        }
        self.tx.state.take_if(|_| !founded);
        self.tx.after.truncate(after);
        self.tx.audit = audit;
    }

    fn begin(&mut self) {
        self.tx.now = clock::now();
    }

    fn committed(&mut self, jobs: usize, took: Duration) {
        self.tx.after.drain(..).for_each(|act| act());
        self.unsaved += self.tx.undo.drain(..).len();
        self.commits += 1;
        self.metrics.committed(jobs, took);
        self.show();
    }

    fn failed(&mut self, _why: &StoreFailure) {
        self.metrics.failures.add(1);
    }

    fn tidy(&mut self, idle: bool) {
        if self.unsaved >= SNAPSHOT_LATEST || (idle && self.unsaved >= SNAPSHOT_DUE) {
            self.snapshot();
        }
        if idle && self.commits >= CHECKPOINT_DUE {
            self.commits = 0;
            self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
        }
    }

    fn close(&mut self) {
        if self.unsaved > 0 {
            self.snapshot();
        }
        self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
    }
}

impl Writer {
    /// Makes known how far log and audit are.
    fn show(&self) {
        let seq = self.tx.state().map_or(0, State::seq);
        self.metrics.seq.set(seq);
        self.metrics.audit.set(self.tx.audit.n);
        self.audit.send_replace(self.tx.audit);
    }

    fn snapshot(&mut self) {
        let Some(state) = self.tx.state() else { return };
        match snapshot::save(&self.tx.conn, state) {
            Ok(()) => tracing::debug!(seq = state.seq(), "snapshot written"),
            // Nothing is lost: the next start folds more entries.
            Err(error) => tracing::warn!(%error, "no snapshot written"),
        }
        self.unsaved = 0;
    }

    fn checkpoint(&self, sql: &'static str) {
        if let Err(error) = self.tx.conn.query_row(sql, [], |_| Ok(())) {
            tracing::warn!(%error, "write-ahead log not moved into the database");
        }
    }
}
