//! The agent's SQLite database: one file per table. How jobs share a commit is `host::store`'s,
//! what the rows mean the engine's.

mod schema;

/// Local accesses that are to reach the audit log.
pub mod access;
/// Ciphertext.
pub mod blobs;
/// Single values.
pub mod facts;
/// The signed log, its head, its snapshot.
pub mod log;
/// Reports of machines and the audit heads they anchor.
pub mod peers;
/// The entry that waits for an answer.
pub mod pending;
/// Ciphertext of versions that targets may go back to.
pub mod retained;

use std::path::Path;
use std::time::Duration;

use host::store::{self, Database};
pub use host::store::{Outcome, StoreFailure as Failure};
use rusqlite::Connection;
use tokio::sync::watch;

/// Work on the connection, inside the shared transaction. A job that fails must leave nothing
/// behind: it says so by [`Outcome::Undo`].
pub type Job = Box<dyn FnOnce(&Connection) -> Outcome + Send>;

/// The database; dropping it waits until everything queued is on disk.
pub struct Store {
    writer: store::Store<Writer>,
    /// Why the last commit failed, until one succeeds that has written something.
    trouble: watch::Receiver<Option<Failure>>,
}

impl Store {
    /// Opens the database and starts its thread; `first` looks at it before anything else.
    ///
    /// # Errors
    /// If it cannot be opened, or `first` fails.
    pub fn open<T>(
        path: &Path,
        first: impl FnOnce(&Connection) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Self, T)> {
        let conn = schema::open(path)?;
        let found = first(&conn)?;
        let (troubled, trouble) = watch::channel(None);
        let writer = store::Store::start(Writer { conn, changes: 0, trouble: troubled })?;
        Ok((Self { writer, trouble }, found))
    }

    /// Tells why nothing can be written, as long as that is so.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<Failure>> {
        self.trouble.clone()
    }

    /// Queues a job that answers by its own means.
    ///
    /// # Errors
    /// If the database is closed.
    pub async fn submit(&self, job: Job) -> Result<(), Failure> {
        self.writer.submit(Box::new(|writer| job(&writer.conn))).await
    }

    /// Queues a job from a place that cannot wait; a full queue refuses it.
    ///
    /// # Errors
    /// If the database is closed or its queue is full.
    pub fn try_submit(&self, job: Job) -> Result<(), Failure> {
        self.writer.try_submit(Box::new(|writer| job(&writer.conn)))
    }

    /// Runs `work` and returns its result once it is on disk.
    ///
    /// # Errors
    /// If `work` or the commit fails.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.writer.write(|writer| work(&writer.conn)).await
    }

    /// Runs `look`, which changes nothing, and answers without waiting for a commit.
    ///
    /// # Errors
    /// If `look` fails.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.writer.read(|writer| look(&writer.conn)).await
    }
}

/// The connection, and whether it can be written.
struct Writer {
    conn: Connection,
    /// Rows changed before the open transaction.
    changes: u64,
    trouble: watch::Sender<Option<Failure>>,
}

impl Database for Writer {
    /// Jobs take memory back themselves.
    type Mark = ();

    fn conn(&self) -> &Connection {
        &self.conn
    }

    fn mark(&self) {}

    fn back_to(&mut self, (): ()) {}

    fn begin(&mut self) {
        self.changes = self.conn.total_changes();
    }

    fn committed(&mut self, _jobs: usize, _took: Duration) {
        if self.conn.total_changes() != self.changes {
            self.trouble.send_if_modified(|trouble| trouble.take().is_some());
        }
    }

    fn failed(&mut self, why: &Failure) {
        let path = self.conn.path().unwrap_or_default();
        self.trouble.send_replace(Some(Failure::Failed(format!("`{path}`: {why}").into())));
    }

    fn close(&mut self) {
        if let Err(why) = self.conn.execute_batch("PRAGMA optimize") {
            tracing::debug!(%why, "statistics of the database not renewed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_job_leaves_nothing_and_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        let (store, ()) = Store::open(&path, |_| Ok(())).unwrap();
        let bad = store.write(|conn| {
            facts::set(conn, "a", &1u64)?;
            Err::<(), _>(rusqlite::Error::InvalidQuery)
        });
        let good = store.write(|conn| facts::set(conn, "b", &2u64));
        let (bad, good) = tokio::join!(bad, good);
        assert!(bad.is_err());
        good.unwrap();
        drop(store);
        let (_store, found) = Store::open(&path, |conn| {
            Ok((facts::get::<u64>(conn, "a")?, facts::get::<u64>(conn, "b")?))
        })
        .unwrap();
        assert_eq!(found, (None, Some(2)));
    }
}
