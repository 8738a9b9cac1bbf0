//! The agent's SQLite database. One thread owns the connection; jobs that queued up while it was
//! busy share one commit, and each is answered after it. What the rows mean is the engine's.

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

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

/// Jobs that may wait.
const QUEUE: usize = 1024;
/// Jobs that share a commit.
const BATCH: usize = 256;
const STACK: usize = 1 << 20;

/// Why the database refused.
#[derive(Clone)]
pub struct Failure(Arc<str>);

impl Failure {
    fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string().into())
    }

    pub(crate) fn closed() -> Self {
        Self::new("the database is closed")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "agent database: {}", self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

impl From<rusqlite::Error> for Failure {
    fn from(fault: rusqlite::Error) -> Self {
        if fault.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            return Self::new("the disk of the agent's state folder is full; nothing was written");
        }
        Self::new(fault)
    }
}

/// What is left to do once the commit has succeeded or failed.
pub type Finish = Box<dyn FnOnce(Result<(), Failure>) + Send>;
/// Work on the connection, inside the shared transaction. A job that fails must leave nothing
/// behind: it says so by [`Outcome::Undo`].
pub type Job = Box<dyn FnOnce(&Connection) -> Outcome + Send>;

/// How a job ended.
pub enum Outcome {
    /// Its changes are to be committed.
    Keep(Finish),
    /// Its changes are to be undone; it has answered already.
    Undo,
}

/// The database; dropping it waits until everything queued is on disk.
pub struct Store {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
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
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (troubled, trouble) = watch::channel(None);
        let thread = std::thread::Builder::new()
            .name("state".into())
            .stack_size(STACK)
            .spawn(move || serve(&conn, queue, &troubled))
            .context("starting the database thread")?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread), trouble }, found))
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
        let Some(jobs) = &self.jobs else { return Err(Failure::closed()) };
        jobs.send(job).await.map_err(|_| Failure::closed())
    }

    /// Queues a job from a place that cannot wait; a full queue refuses it.
    ///
    /// # Errors
    /// If the database is closed or its queue is full.
    pub fn try_submit(&self, job: Job) -> Result<(), Failure> {
        let Some(jobs) = &self.jobs else { return Err(Failure::closed()) };
        jobs.try_send(job).map_err(Failure::new)
    }

    /// Lays out the write-ahead log, for a process that is going to write more than once; not waited for.
    pub fn make_room(&self) {
        let asked = self.try_submit(Box::new(|conn| {
            if let Err(fault) = schema::make_room(conn) {
                tracing::debug!(%fault, "no room laid out for the write-ahead log");
            }
            Outcome::Undo
        }));
        if let Err(fault) = asked {
            tracing::debug!(%fault, "no room laid out for the write-ahead log");
        }
    }

    /// Runs `work` and returns its result once it is on disk.
    ///
    /// # Errors
    /// If `work` or the commit fails.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        self.submit(Box::new(move |conn| match work(conn) {
            Ok(value) => Outcome::Keep(Box::new(move |committed| {
                let _ = answer.send(committed.map(|()| value));
            })),
            Err(fault) => {
                let _ = answer.send(Err(fault.into()));
                Outcome::Undo
            }
        }))
        .await?;
        answered.await.map_err(|_| Failure::closed())?
    }

    /// Runs `look`, which changes nothing, and answers without waiting for a commit.
    ///
    /// # Errors
    /// If `look` fails.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        self.submit(Box::new(move |conn| {
            let _ = answer.send(look(conn).map_err(Failure::from));
            Outcome::Keep(Box::new(|_| {}))
        }))
        .await?;
        answered.await.map_err(|_| Failure::closed())?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn serve(
    conn: &Connection,
    mut queue: mpsc::Receiver<Job>,
    trouble: &watch::Sender<Option<Failure>>,
) {
    let mut batch = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH
            && let Ok(job) = queue.try_recv()
        {
            batch.push(job);
        }
        run(conn, &mut batch, trouble);
    }
    let _ = conn.execute_batch("PRAGMA optimize");
}

/// Runs a batch in one transaction. If the commit fails, the jobs learn it last first, so that
/// each can take back in memory what it did.
fn run(conn: &Connection, batch: &mut Vec<Job>, trouble: &watch::Sender<Option<Failure>>) {
    let before = conn.total_changes();
    let mut finishes: Vec<Finish> = Vec::with_capacity(batch.len());
    let begun = execute(conn, "BEGIN");
    for job in batch.drain(..) {
        finishes.extend(run_one(conn, job));
    }
    let committed = begun.and_then(|()| execute(conn, "COMMIT")).map_err(Failure::from);
    match committed {
        Ok(()) => {
            if conn.total_changes() != before {
                trouble.send_if_modified(|trouble| trouble.take().is_some());
            }
            finishes.into_iter().for_each(|finish| finish(Ok(())));
        }
        Err(fault) => {
            tracing::error!(%fault, "commit failed");
            let _ = conn.execute_batch("ROLLBACK");
            let path = conn.path().unwrap_or_default();
            trouble.send_replace(Some(Failure::new(format!("`{path}`: {}", fault.0))));
            finishes.into_iter().rev().for_each(|finish| finish(Err(fault.clone())));
        }
    }
}

/// Executes a statement that comes again and again: parsed once.
fn execute(conn: &Connection, statement: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(statement)?.execute([]).map(drop)
}

fn run_one(conn: &Connection, job: Job) -> Option<Finish> {
    let guarded = execute(conn, "SAVEPOINT job").is_ok();
    match job(conn) {
        Outcome::Keep(finish) => {
            if guarded && let Err(fault) = execute(conn, "RELEASE job") {
                finish(Err(fault.into()));
                return None;
            }
            Some(finish)
        }
        Outcome::Undo => {
            if guarded {
                let _ = conn.execute_batch("ROLLBACK TO job; RELEASE job");
            }
            None
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
