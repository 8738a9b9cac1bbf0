//! The database as its one writer has it: the transaction, and what may wait until nobody else
//! does. How concurrent writers share a commit is `host::store`'s.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use host::clock;
use host::store::{self, Database, StoreFailure};
use rusqlite::Connection;
use shared::audit::AuditHead;
use tokio::sync::watch;

use super::{Transaction, Unavailable, snapshot, transaction};
use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// A snapshot is due after this many entries, once nobody waits.
const SNAPSHOT_DUE: usize = 4096;
/// A snapshot is written after this many entries even if somebody waits.
const SNAPSHOT_LATEST: usize = 16_384;
/// After this many commits the write-ahead log is moved into the database, once nobody waits.
const CHECKPOINT_DUE: usize = 512;

/// A handle on the writer.
pub struct Store {
    writer: store::Store<Writer>,
    audit: watch::Receiver<AuditHead>,
}

impl Store {
    /// Starts the writer's thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(tx: Transaction, unsaved: usize, metrics: Arc<Metrics>) -> Result<Self> {
        let (shown, audit) = watch::channel(tx.audit());
        let writer = Writer { tx, metrics, audit: shown, unsaved, commits: 0 };
        writer.show();
        Ok(Self { writer: store::Store::start(writer)?, audit })
    }

    /// Returns the head of the audit chain as of the last commit, and later ones.
    #[must_use]
    pub fn audit(&self) -> watch::Receiver<AuditHead> {
        self.audit.clone()
    }

    /// Queues `work` and waits until what it wrote is on disk. Its transaction is shared, but an
    /// error takes back only what this piece did.
    ///
    /// # Errors
    /// [`Unavailable`]; nothing was written then.
    pub async fn call<T, F>(&self, work: F) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction) -> rusqlite::Result<T> + Send + 'static,
    {
        let written = self.writer.write(move |writer| {
            work(&mut writer.tx).inspect_err(|error| {
                writer.metrics.failed();
                tracing::error!(%error, "nothing written");
            })
        });
        Ok(written.await?)
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
    type Mark = transaction::Mark;

    fn conn(&self) -> &Connection {
        self.tx.conn()
    }

    fn mark(&self) -> transaction::Mark {
        self.tx.mark()
    }

    fn back_to(&mut self, mark: transaction::Mark) {
        self.tx.back_to(mark);
    }

    fn begin(&mut self) {
        self.tx.open_at(clock::now());
    }

    fn committed(&mut self, jobs: usize, took: Duration) {
        self.unsaved += self.tx.committed();
        self.commits += 1;
        self.metrics.committed(jobs, took);
        self.show();
    }

    fn failed(&mut self, _why: &StoreFailure) {
        self.metrics.failed();
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
        let seq = self.tx.state().map_or(0, shared::log::State::seq);
        self.metrics.reached(seq, self.tx.audit().n);
        self.audit.send_replace(self.tx.audit());
    }

    fn snapshot(&mut self) {
        let Some(state) = self.tx.state() else { return };
        match snapshot::save(self.tx.conn(), state) {
            Ok(()) => tracing::debug!(seq = state.seq(), "snapshot written"),
            // Nothing is lost: the next start folds more entries.
            Err(error) => tracing::warn!(%error, "no snapshot written"),
        }
        self.unsaved = 0;
    }

    fn checkpoint(&self, sql: &'static str) {
        if let Err(error) = self.tx.conn().query_row(sql, [], |_| Ok(())) {
            tracing::warn!(%error, "write-ahead log not moved into the database");
        }
    }
}
