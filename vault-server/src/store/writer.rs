//! The thread that owns the write connection. It takes everything queued, runs each piece in its
//! own savepoint of one transaction, commits, and answers all: concurrent writers share one fsync.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use shared::audit::AuditHead;
use tokio::sync::{mpsc, oneshot, watch};

use crate::metrics::Metrics;
use host::clock;

use super::{Desk, Unavailable, snapshot};

#[cfg(test)]
mod tests;

/// Most pieces of work in one transaction.
const BATCH: usize = 256;
/// Pieces of work that may wait; who brings more waits with them.
const QUEUE: usize = 1024;
/// A snapshot is due after this many entries, once nobody waits.
const SNAPSHOT_DUE: usize = 4096;
/// A snapshot is written after this many entries even if somebody waits.
const SNAPSHOT_LATEST: usize = 16_384;
/// After this many commits the write-ahead log is moved into the database, once nobody waits.
const CHECKPOINT_DUE: usize = 512;

type Answer = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;
/// Takes no desk when there is no transaction to work in: it then only yields its answer.
type Work = Box<dyn FnOnce(Option<&mut Desk>) -> (rusqlite::Result<()>, Answer) + Send>;

enum Message {
    Work(Work),
    Close,
}

/// A handle on the writer; clones reach the same thread.
#[derive(Clone)]
pub struct Store {
    queue: mpsc::Sender<Message>,
    audit: watch::Receiver<AuditHead>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(desk: Desk, unsaved: usize, metrics: Arc<Metrics>) -> Result<Self> {
        let (queue, messages) = mpsc::channel(QUEUE);
        let (shown, audit) = watch::channel(desk.audit());
        let writer = Writer { desk, metrics, audit: shown, unsaved, commits: 0 };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(messages))
            .context("cannot start the store's thread")?;
        Ok(Self { queue, audit, thread: Arc::new(Mutex::new(Some(thread))) })
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
        F: FnOnce(&mut Desk) -> rusqlite::Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |desk| {
            let (fate, value) = match desk.map(work) {
                Some(Ok(value)) => (Ok(()), Some(value)),
                Some(Err(error)) => (Err(error), None),
                None => (Ok(()), None),
            };
            let answer: Answer = Box::new(move |committed| {
                let _ = sender.send(committed.and(value.ok_or(Unavailable::Failed)));
            });
            (fate, answer)
        });
        self.queue.send(Message::Work(work)).await.map_err(|_| Unavailable::Stopping)?;
        receiver.await.map_err(|_| Unavailable::Stopping)?
    }

    /// Commits what is queued, writes a snapshot, empties the write-ahead log, ends the thread.
    pub async fn close(&self) {
        let _ = self.queue.send(Message::Close).await;
        let thread = self.thread.lock().ok().and_then(|mut slot| slot.take());
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

struct Writer {
    desk: Desk,
    metrics: Arc<Metrics>,
    audit: watch::Sender<AuditHead>,
    /// Entries since the last snapshot.
    unsaved: usize,
    /// Commits since the last checkpoint.
    commits: usize,
}

impl Writer {
    fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        self.show();
        let mut batch = Vec::new();
        while let Some(Message::Work(first)) = messages.blocking_recv() {
            batch.push(first);
            let mut closing = false;
            while batch.len() < BATCH {
                match messages.try_recv() {
                    Ok(Message::Work(work)) => batch.push(work),
                    Ok(Message::Close) => {
                        closing = true;
                        break;
                    }
                    Err(_) => break,
                }
            }
            self.transact(&mut batch);
            if closing {
                break;
            }
            self.tidy(messages.is_empty());
        }
        self.close();
    }

    fn transact(&mut self, batch: &mut Vec<Work>) {
        let start = std::time::Instant::now();
        let size = batch.len();
        self.desk.open_at(clock::now());
        let before = self.desk.mark();
        let mut answers: Vec<(Answer, Result<(), Unavailable>)> = Vec::with_capacity(size);
        let mut fate = self.execute("BEGIN IMMEDIATE");
        for work in batch.drain(..) {
            if fate.is_err() {
                answers.push((work(None).1, Ok(())));
                continue;
            }
            let (done, answer) = self.run_in_savepoint(work);
            let own = done.as_ref().err().map(|error| self.complain(error));
            if self.desk.conn.is_autocommit() {
                fate = Err(own.unwrap_or(Unavailable::Failed));
            }
            answers.push((answer, own.map_or(Ok(()), Err)));
        }
        if fate.is_ok() {
            fate = self.execute("COMMIT");
        }
        match fate {
            Ok(()) => {
                self.unsaved += self.desk.committed();
                self.commits += 1;
                self.metrics.committed(size, start.elapsed());
                self.show();
            }
            Err(_) => {
                if !self.desk.conn.is_autocommit() {
                    let _ = self.execute("ROLLBACK");
                }
                self.desk.back_to(before);
            }
        }
        for (answer, own) in answers {
            answer(fate.and(own));
        }
    }

    fn run_in_savepoint(&mut self, work: Work) -> (rusqlite::Result<()>, Answer) {
        let mark = self.desk.mark();
        let step = |sql: &str, conn: &rusqlite::Connection| conn.prepare_cached(sql)?.execute([]);
        if let Err(error) = step("SAVEPOINT work", &self.desk.conn) {
            return (Err(error), work(None).1);
        }
        let (done, answer) = work(Some(&mut self.desk));
        let closed = match &done {
            Ok(()) => step("RELEASE work", &self.desk.conn),
            Err(_) => {
                self.desk.back_to(mark);
                self.desk.conn.execute_batch("ROLLBACK TO work; RELEASE work").map(|()| 0)
            }
        };
        (done.and(closed.map(|_| ())), answer)
    }

    fn execute(&self, sql: &str) -> Result<(), Unavailable> {
        let done = self.desk.conn.prepare_cached(sql).and_then(|mut ready| ready.execute([]));
        done.map(|_| ()).map_err(|error| self.complain(&error))
    }

    /// Logs a failure, once per piece of work it struck.
    fn complain(&self, error: &rusqlite::Error) -> Unavailable {
        self.metrics.failed();
        tracing::error!(%error, "nothing written");
        Unavailable::from(error)
    }

    /// Makes known how far log and audit are.
    fn show(&self) {
        let seq = self.desk.state().map_or(0, shared::log::State::seq);
        self.metrics.reached(seq, self.desk.audit().n);
        self.audit.send_replace(self.desk.audit());
    }

    /// Does what may wait until nobody else does.
    fn tidy(&mut self, idle: bool) {
        if self.unsaved >= SNAPSHOT_LATEST || (idle && self.unsaved >= SNAPSHOT_DUE) {
            self.snapshot();
        }
        if idle && self.commits >= CHECKPOINT_DUE {
            self.commits = 0;
            self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
        }
    }

    fn snapshot(&mut self) {
        let Some(state) = self.desk.state() else { return };
        match snapshot::save(&self.desk.conn, state) {
            Ok(()) => tracing::debug!(seq = state.seq(), "snapshot written"),
            // Nothing is lost: the next start folds more entries.
            Err(error) => tracing::warn!(%error, "no snapshot written"),
        }
        self.unsaved = 0;
    }

    fn checkpoint(&self, sql: &'static str) {
        if let Err(error) = self.desk.conn.query_row(sql, [], |_| Ok(())) {
            tracing::warn!(%error, "write-ahead log not moved into the database");
        }
    }

    fn close(mut self) {
        if self.unsaved > 0 {
            self.snapshot();
        }
        self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
    }
}
