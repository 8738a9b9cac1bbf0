//! The agent's SQLite database: one file per table. How jobs share a commit is `host::store`'s,
//! what the rows mean the engine's.

pub mod access;
pub mod blobs;
pub mod facts;
pub mod log;
pub mod peers;
pub mod pending;
pub mod retained;
mod schema;
pub mod set_aside;

use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use host::store;
pub use host::store::{Outcome, StoreFailure as Failure};
use rusqlite::Connection;
use tokio::sync::watch;

/// The database; dropping it waits until everything queued is on disk.
pub type Store = store::Store<Database>;

/// Why the last commit failed, until one succeeds that has written something.
pub type Trouble = watch::Receiver<Option<Failure>>;

/// Opens the database and starts its thread; `first` looks at it before anything else.
///
/// # Errors
/// If it cannot be opened, or `first` fails.
pub fn open<T>(
    path: &Path,
    first: impl FnOnce(&Connection) -> anyhow::Result<T>,
) -> anyhow::Result<(Store, Trouble, T)> {
    let conn = schema::open(path)?;
    let found = first(&conn)?;
    let (troubled, trouble) = watch::channel(None);
    let store = Store::start(Database { conn, changes: 0, trouble: troubled })?;
    Ok((store, trouble, found))
}

/// Has `work` done without waiting for it; a full queue refuses it.
pub fn note(
    store: &Store,
    work: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
) -> Result<(), Failure> {
    store.try_submit(Box::new(move |open| match open.and_then(|conn| Ok(work(conn)?)) {
        Ok(()) => Outcome::Keep(Box::new(|_| {})),
        Err(fault) => Outcome::Undo(fault),
    }))
}

/// The connection, and whether it can be written.
pub struct Database {
    conn: Connection,
    /// Rows changed before the open transaction.
    changes: u64,
    trouble: watch::Sender<Option<Failure>>,
}

impl Deref for Database {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.conn
    }
}

impl store::Database for Database {
    /// Jobs take memory back themselves.
    type Mark = ();
    type Error = rusqlite::Error;

    fn step(&mut self, step: store::Step) -> Result<(), Failure> {
        store::step(&self.conn, step)
    }

    fn is_open(&self) -> bool {
        !self.conn.is_autocommit()
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
        let (store, _, ()) = open(&path, |_| Ok(())).unwrap();
        let bad = store.write(|conn| {
            facts::set(conn, "a", &1u64)?;
            Err::<(), _>(rusqlite::Error::InvalidQuery)
        });
        let good = store.write(|conn| facts::set(conn, "b", &2u64));
        let (bad, good) = tokio::join!(bad, good);
        assert!(bad.is_err());
        good.unwrap();
        drop(store);
        let (_store, _, found) =
            open(&path, |conn| Ok((facts::get::<u64>(conn, "a")?, facts::get::<u64>(conn, "b")?)))
                .unwrap();
        assert_eq!(found, (None, Some(2)));
    }
}
