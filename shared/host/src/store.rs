//! Group commit: one thread owns the connection to a database, runs everything queued in one
//! transaction, and answers after the commit, so that concurrent writers share one fsync. Also runs
//! SQLite's migrations. What the rows mean lives with each program.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use crate::hint::hinted;

pub mod checkpoint;

/// Most jobs in one transaction.
const BATCH: usize = 256;
/// Jobs that may wait; a caller with another one waits too.
const QUEUE: usize = 1024;

/// A step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins.
    Begin,
    /// Its changes are on disk from now on.
    Commit,
    /// Its changes are undone.
    Rollback,
    /// What follows can be undone alone.
    Savepoint,
    /// What followed the savepoint stays.
    Release,
    /// What followed the savepoint is undone.
    RollbackTo,
}

impl Step {
    /// Returns its statement in SQL.
    #[must_use]
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
            Self::Savepoint => "SAVEPOINT job",
            Self::Release => "RELEASE job",
            Self::RollbackTo => "ROLLBACK TO job",
        }
    }
}

/// A connection, and what memory keeps of its database.
pub trait Database: Send + 'static {
    /// A point that memory can be taken back to.
    type Mark;

    /// Why a job failed.
    type Error: Into<StoreFailure>;

    /// Takes a step of the transaction. One that begins may change memory: what others have
    /// written meanwhile is no part of it.
    ///
    /// # Errors
    /// If the database refuses; of [`Step::Commit`], if nothing of the transaction is on disk.
    fn step(&mut self, step: Step) -> Result<(), StoreFailure>;

    /// Tells whether the transaction that was begun is still open: some errors end it.
    fn is_open(&self) -> bool;

    /// Notes where memory stands.
    fn mark(&self) -> Self::Mark;

    /// Takes memory back to where it stood.
    fn back_to(&mut self, mark: Self::Mark);

    /// Prepares for a new transaction.
    fn begin(&mut self) {}

    /// Takes note that a transaction is on disk, before its jobs are told.
    fn committed(&mut self, _jobs: usize, _took: Duration) {}

    /// Takes note that nothing of a transaction is on disk, before its jobs are told.
    fn failed(&mut self, _why: &StoreFailure) {}

    /// Does what may wait; `idle` tells that no job does.
    fn tidy(&mut self, _idle: bool) {}

    /// Leaves the database ready for the next start.
    fn close(&mut self) {}
}

/// Why nothing was written, or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// No space is left for the database.
    #[error("the disk of this host's database is full; nothing was written")]
    Full,
    /// The database refused.
    #[error("database: {0}")]
    Failed(Arc<str>),
    /// A file beside the database, which comes before any answer, cannot be written.
    #[error("{0}")]
    Withheld(&'static str),
    /// The thread has ended.
    #[error("the database is closed")]
    Closed,
}

impl From<&rusqlite::Error> for StoreFailure {
    fn from(why: &rusqlite::Error) -> Self {
        match why.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(_) | None => Self::Failed(why.to_string().into()),
        }
    }
}

impl From<rusqlite::Error> for StoreFailure {
    fn from(why: rusqlite::Error) -> Self {
        Self::from(&why)
    }
}

/// What is left to do once the commit has succeeded or failed.
pub type Finish = Box<dyn FnOnce(Result<(), StoreFailure>) + Send>;

/// Work inside the shared transaction; it is told why if there is none.
pub type Job<D> = Box<dyn FnOnce(Result<&mut D, StoreFailure>) -> Outcome + Send>;

/// How a job ended.
pub enum Outcome {
    /// Its changes are to be committed.
    Keep(Finish),
    /// It failed, and has answered already: its changes are to be undone, in memory too.
    Undo(StoreFailure),
}

enum Message<D> {
    Job(Job<D>),
    Close,
}

/// A handle on the thread; dropping it waits until everything queued is on disk.
pub struct Store<D> {
    queue: Option<mpsc::Sender<Message<D>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<D: Database> Store<D> {
    /// Starts the thread.
    pub fn start(database: D) -> Result<Self> {
        let (queue, messages) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || serve(database, messages))
            .context("cannot start the database's thread")?;
        Ok(Self { queue: Some(queue), thread: Mutex::new(Some(thread)) })
    }

    /// Queues a job that answers by its own means.
    pub async fn submit(&self, job: Job<D>) -> Result<(), StoreFailure> {
        self.send(Message::Job(job)).await
    }

    /// Queues a job from a place that cannot wait.
    ///
    /// # Errors
    /// If the database is closed or its queue is full.
    pub fn try_submit(&self, job: Job<D>) -> Result<(), StoreFailure> {
        let Some(queue) = &self.queue else { return Err(StoreFailure::Closed) };
        queue.try_send(Message::Job(job)).map_err(|why| match why {
            mpsc::error::TrySendError::Full(_) => StoreFailure::Failed("too many jobs wait".into()),
            mpsc::error::TrySendError::Closed(_) => StoreFailure::Closed,
        })
    }

    /// Runs `work` and returns its result once it is on disk. An error takes back only what this
    /// work did.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut D) -> Result<T, D::Error> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        self.begin(work).await?.await.unwrap_or(Err(StoreFailure::Closed))
    }

    /// As [`Store::write`], but returns as soon as `work` is queued.
    ///
    /// # Errors
    /// If the database is closed.
    pub async fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut D) -> Result<T, D::Error> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreFailure>>, StoreFailure> {
        let (answer, answered) = oneshot::channel();
        let job = move |open: Result<&mut D, StoreFailure>| match open
            .and_then(|database| work(database).map_err(Into::into))
        {
            Ok(value) => Outcome::Keep(Box::new(move |committed| {
                let _ = answer.send(committed.map(|()| value));
            })),
            Err(why) => {
                let _ = answer.send(Err(why.clone()));
                Outcome::Undo(why)
            }
        };
        self.submit(Box::new(job)).await?;
        Ok(answered)
    }

    /// Runs `look`, which changes nothing, and answers without waiting for a commit.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut D) -> Result<T, D::Error> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        let (answer, answered) = oneshot::channel();
        let job = move |open: Result<&mut D, StoreFailure>| {
            let _ = answer.send(open.and_then(|database| look(database).map_err(Into::into)));
            Outcome::Keep(Box::new(|_| {}))
        };
        self.submit(Box::new(job)).await?;
        answered.await.unwrap_or(Err(StoreFailure::Closed))
    }

    /// Commits what is queued and ends the thread; later jobs are refused.
    pub async fn close(&self) {
        let _ = self.send(Message::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    async fn send(&self, message: Message<D>) -> Result<(), StoreFailure> {
        let Some(queue) = &self.queue else { return Err(StoreFailure::Closed) };
        queue.send(message).await.map_err(|_| StoreFailure::Closed)
    }
}

impl<D> Drop for Store<D> {
    fn drop(&mut self) {
        drop(self.queue.take());
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may be a job's own.
        if let Some(thread) = thread.filter(|own| own.thread().id() != std::thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

fn serve<D: Database>(mut database: D, mut messages: mpsc::Receiver<Message<D>>) {
    let mut batch = VecDeque::new();
    let mut open = true;
    while open && let Some(Message::Job(first)) = messages.blocking_recv() {
        batch.push_back(first);
        while open && batch.len() < BATCH {
            match messages.try_recv() {
                Ok(Message::Job(job)) => batch.push_back(job),
                Ok(Message::Close) => open = false,
                Err(_) => break,
            }
        }
        while !batch.is_empty() {
            transact(&mut database, &mut batch);
        }
        database.tidy(messages.is_empty());
    }
    database.close();
}

/// Runs jobs in one transaction: all of them, unless it is given up meanwhile; where it begins
/// none, the first job is told. If it fails, the jobs learn it last first, so that each can take
/// back what it did elsewhere.
fn transact<D: Database>(database: &mut D, batch: &mut VecDeque<Job<D>>) {
    let start = Instant::now();
    database.begin();
    let mut finishes = Vec::with_capacity(batch.len());
    let mut jobs = 0;
    let mut fate = database.step(Step::Begin);
    let mark = database.mark();
    if let Err(why) = &fate
        && let Some(first) = batch.pop_front()
        && let Outcome::Keep(finish) = first(Err(why.clone()))
    {
        finishes.push(finish);
    }
    while fate.is_ok()
        && let Some(job) = batch.pop_front()
    {
        jobs += 1;
        fate = run(database, job, &mut finishes);
    }
    match fate.and_then(|()| database.step(Step::Commit)) {
        Ok(()) => {
            database.committed(jobs, start.elapsed());
            finishes.into_iter().for_each(|finish| finish(Ok(())));
        }
        Err(why) => {
            tracing::error!(%why, "nothing written");
            if database.is_open() {
                let _ = database.step(Step::Rollback);
            }
            database.back_to(mark);
            database.failed(&why);
            finishes.into_iter().rev().for_each(|finish| finish(Err(why.clone())));
        }
    }
}

/// Runs one job in a savepoint; an error means that the transaction around it is lost. One with
/// nothing before it needs none: SQLite would keep in memory all that it overwrites.
fn run<D: Database>(
    database: &mut D,
    job: Job<D>,
    finishes: &mut Vec<Finish>,
) -> Result<(), StoreFailure> {
    let mark = database.mark();
    if finishes.is_empty() {
        return match job(Ok(database)) {
            Outcome::Keep(finish) => {
                finishes.push(finish);
                if database.is_open() { Ok(()) } else { Err(given_up()) }
            }
            Outcome::Undo(why) => {
                database.back_to(mark);
                let undone = database.step(Step::Rollback);
                undone.and_then(|()| database.step(Step::Begin)).map_err(|_| why)
            }
        };
    }
    let guarded = database.step(Step::Savepoint);
    match job(Ok(database)) {
        Outcome::Keep(finish) => {
            finishes.push(finish);
            guarded.and_then(|()| database.step(Step::Release))
        }
        Outcome::Undo(why) => {
            database.back_to(mark);
            let undone =
                database.step(Step::RollbackTo).and_then(|()| database.step(Step::Release));
            // What kept the job from being undone alone is what made it fail.
            guarded.and(undone).map_err(|_| why)
        }
    }
}

/// A database ends a transaction by itself after some errors, e.g. for want of room.
fn given_up() -> StoreFailure {
    StoreFailure::Failed("the transaction was given up".into())
}

/// Takes a step of a transaction of SQLite. Its statement comes again and again: it is parsed once.
///
/// # Errors
/// If SQLite refuses.
pub fn step(conn: &Connection, step: Step) -> Result<(), StoreFailure> {
    let done = conn.prepare_cached(step.sql()).and_then(|mut ready| ready.execute([]));
    done.map(drop).map_err(StoreFailure::from)
}

/// Brings the database in `file` to the schema that `migrations` make, all of them or none. They
/// are appended, never edited: `user_version` counts those that ran.
///
/// # Errors
/// If `program` is older than the one that wrote the database, or a migration fails.
pub fn migrate(
    conn: &mut Connection,
    file: &Path,
    migrations: &[&str],
    program: &str,
) -> Result<()> {
    let (shown, newest) = (file.display(), migrations.len());
    let found: u32 = conn
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .with_context(|| format!("cannot read database `{shown}`"))?;
    let found = usize::try_from(found)?;
    if found > newest {
        let why =
            format!("database `{shown}` has version {found}, newer than this program's {newest}");
        return Err(hinted(why, format!("install the {program} that wrote it, or a newer one")));
    }
    if found == newest {
        return Ok(());
    }
    let version = u32::try_from(newest)?;
    let mut run = || -> rusqlite::Result<()> {
        let transaction = conn.transaction()?;
        for migration in &migrations[found..] {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()
    };
    run().with_context(|| format!("cannot bring database `{shown}` to version {newest}"))
}

#[cfg(test)]
mod tests;
