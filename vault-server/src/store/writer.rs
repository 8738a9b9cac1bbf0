//! The one writer: it commits the open transaction with what memory keeps beside it, both taken
//! back together if that fails; and does what may wait until nobody else waits. How concurrent
//! writers share a commit is `host::store`'s. No rule lives here.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use host::clock;
use host::store::{self, Database, Step, StoreFailure};
use shared::audit::AuditHead;
use shared::head::SignedHead;
use shared::log::State;
use tokio::sync::watch;

use super::end::{End, Listed};
use super::folded::Folded;
use super::headfile::HeadFile;
use super::restored::{self, Cause, Restored};
use super::transaction::{Overtaken, Transaction};
use super::{Fault, Result, Tip, snapshot};
use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// A snapshot is due after this many entries, once nobody waits.
const SNAPSHOT_DUE: usize = 4096;
/// A snapshot is written after this many entries even if somebody waits.
const SNAPSHOT_LATEST: usize = 16_384;
/// After this many commits the database is tidied, once nobody waits.
const TIDY_DUE: usize = 512;

/// Heads of the audit chain that are remembered: as many as machines may still name that have heard
/// of one a moment ago.
const HEADS: usize = 4096;

/// A handle on the writer.
pub struct Store {
    writer: store::Store<Writer>,
    audit: watch::Receiver<AuditHead>,
    heads: Heads,
    end: watch::Receiver<Option<End>>,
    withheld: Arc<AtomicBool>,
    folded: Arc<Folded>,
    follow: Arc<OnceLock<Follow>>,
    broken: watch::Receiver<Option<String>>,
}

/// The newest heads of the audit chain that were made known, the last one at the end.
type Heads = Arc<Mutex<VecDeque<AuditHead>>>;

/// Why nothing is answered while the newest head is not in its file.
const WITHHELD: &str = "the file `head` in the server's data directory cannot be written";

impl Store {
    /// Starts the writer's thread; `unsaved` entries came after the last snapshot.
    pub fn start(
        tx: Transaction,
        heads: HeadFile,
        unsaved: usize,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let (shown, audit) = watch::channel(tx.audit());
        let (ended, end) = watch::channel(None);
        let withheld = Arc::new(AtomicBool::new(false));
        let (file, held_back, heads) = (heads, Arc::clone(&withheld), Heads::default());
        let folded = Arc::clone(&tx.folded);
        let (breaks, broken) = watch::channel(None);
        let follow = Arc::<OnceLock<Follow>>::default();
        let mut writer = Writer {
            began: tx.tip(),
            follow: Arc::clone(&follow),
            broken: breaks,
            tx,
            file,
            withheld: held_back,
            metrics,
            audit: shown,
            heads: Arc::clone(&heads),
            end: ended,
            unsaved,
            commits: 0,
        };
        writer.show();
        let writer = store::Store::start(writer)?;
        Ok(Self { writer, audit, heads, end, withheld, folded, follow, broken })
    }

    /// Has `follow` called once other servers have written to the same database, before any piece
    /// of work that comes after; it is told whether who takes part has changed.
    pub fn when_others_wrote(&self, follow: impl Fn(Option<&State>, bool) + Send + Sync + 'static) {
        // There is one vault to a store: nobody has set it before.
        let _ = self.follow.set(Box::new(follow));
    }

    /// Waits until this server cannot go on: it has to begin anew with what the database holds.
    /// Returns why.
    pub async fn broken(&self) -> String {
        let mut broken = self.broken.clone();
        let why = broken.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => why,
            // The writer has ended: whoever ended it knows.
            None => std::future::pending().await,
        }
    }

    /// Returns the head of the audit chain as of the last commit, and later ones.
    pub fn audit(&self) -> watch::Receiver<AuditHead> {
        self.audit.clone()
    }

    /// Tells whether the audit chain had this head a moment ago. An older one is looked up.
    pub fn had(&self, head: AuditHead) -> bool {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.iter().rev().take_while(|known| known.n >= head.n).any(|known| *known == head)
    }

    /// Returns where the log ended with the last commit; `None` without a vault.
    pub fn end(&self) -> Option<End> {
        self.end.borrow().clone()
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
        F: FnOnce(&mut Transaction) -> Result<T> + Send + 'static,
    {
        let written = self.writer.write(move |writer| {
            if writer.is_withheld() {
                return Ok(None);
            }
            let done = work(&mut writer.tx).inspect_err(|error| {
                writer.metrics.failures.add(1);
                tracing::error!(%error, "nothing written");
            });
            done.map(Some)
        });
        match written.await? {
            Some(done) if !self.withheld.load(Ordering::Acquire) => Ok(done),
            // What was committed meanwhile stays; the same request sent again is told of it.
            Some(_) | None => Err(StoreFailure::Withheld(WITHHELD)),
        }
    }

    /// Commits what is queued, writes a snapshot, empties the write-ahead log, ends the thread.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

struct Writer {
    tx: Transaction,
    file: HeadFile,
    /// The newest head could not be written into its file: nothing is given out until it is.
    withheld: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    audit: watch::Sender<AuditHead>,
    heads: Heads,
    end: watch::Sender<Option<End>>,
    /// Entries since the last snapshot.
    unsaved: usize,
    /// Commits since it was tidied.
    commits: usize,
    /// Where the chains ended when the open transaction began.
    began: Tip,
    follow: Arc<OnceLock<Follow>>,
    broken: watch::Sender<Option<String>>,
}

/// Does what is due once other servers have written; told whether who takes part has changed.
type Follow = Box<dyn Fn(Option<&State>, bool) + Send + Sync>;

/// Where memory stood.
struct Mark {
    founded: bool,
    undo: usize,
    after: usize,
    audit: AuditHead,
    head: Option<SignedHead>,
    restored: Option<Restored>,
    marks: u64,
}

impl Database for Writer {
    type Mark = Mark;
    type Error = Fault;

    fn step(&mut self, step: Step) -> Result<(), StoreFailure> {
        match step {
            Step::Begin => {
                if let Some(tip) = self.tx.conn.begin()? {
                    self.follow(&tip)?;
                }
                self.began = self.tx.tip();
                Ok(())
            }
            Step::Commit => self.tx.conn.commit(&self.began, &self.tx.tip()),
            Step::Rollback | Step::Savepoint | Step::Release | Step::RollbackTo => {
                self.tx.conn.step(step)
            }
        }
    }

    fn is_open(&self) -> bool {
        self.tx.conn.is_open()
    }

    fn mark(&self) -> Mark {
        let Transaction { state, undo, after, audit, head, restored, marks, .. } = &self.tx;
        Mark {
            founded: state.is_some(),
            undo: undo.len(),
            after: after.len(),
            audit: *audit,
            head: *head,
            restored: *restored,
            marks: *marks,
        }
    }

    fn back_to(&mut self, mark: Mark) {
        let Mark { founded, undo, after, audit, head, restored, marks } = mark;
        if self.tx.undo.len() > undo {
            self.tx.wanted = None;
        }
        while self.tx.undo.len() > undo {
            self.tx.take_back();
        }
        self.tx.state.take_if(|_| !founded);
        self.tx.after.truncate(after);
        (self.tx.audit, self.tx.head) = (audit, head);
        (self.tx.restored, self.tx.marks) = (restored, marks);
    }

    fn begin(&mut self) {
        self.tx.now = clock::now();
        if self.is_withheld() {
            self.give_out();
        }
    }

    fn committed(&mut self, jobs: usize, took: Duration) {
        self.unsaved += self.tx.undo.drain(..).len();
        self.commits += 1;
        self.metrics.committed(jobs, took);
        self.give_out();
    }

    fn failed(&mut self, _why: &StoreFailure) {
        self.metrics.failures.add(1);
    }

    fn tidy(&mut self, idle: bool) {
        if self.unsaved >= SNAPSHOT_LATEST || (idle && self.unsaved >= SNAPSHOT_DUE) {
            self.snapshot();
        }
        if idle && self.commits >= TIDY_DUE {
            self.commits = 0;
            self.tx.conn.tidy();
        }
    }

    fn close(&mut self) {
        if self.unsaved > 0 {
            self.snapshot();
        }
        self.tx.conn.settle();
    }
}

impl Writer {
    /// Goes on where other servers have left off.
    fn follow(&mut self, tip: &Tip) -> Result<(), StoreFailure> {
        let own = self.tx.tip();
        if own == *tip && self.tx.untold.is_none() {
            return Ok(());
        }
        match self.tx.follow(tip) {
            Ok(()) => {
                if own.log != tip.log {
                    let (before, after) =
                        (own.log.map_or(0, |log| log.0), tip.log.map_or(0, |log| log.0));
                    self.unsaved += usize::try_from(after.saturating_sub(before)).unwrap_or(0);
                }
                if let Some(follow) = self.follow.get()
                    && let Some(changed) = self.tx.untold.take()
                {
                    follow(self.tx.state(), changed);
                }
                Ok(())
            }
            Err(why) => {
                let _ = self.tx.conn.step(Step::Rollback);
                let failure = StoreFailure::Failed(why.to_string().into());
                if !matches!(why, Overtaken::Fault(_)) {
                    self.broken.send_replace(Some(why.to_string()));
                }
                Err(failure)
            }
        }
    }

    fn is_withheld(&self) -> bool {
        self.withheld.load(Ordering::Acquire)
    }

    /// Writes the newest head into its file and makes the last commit known; without the one nobody
    /// hears of the other.
    fn give_out(&mut self) {
        let written = self.keep_head();
        self.withheld.store(written.is_err(), Ordering::Release);
        match written {
            Ok(()) => {
                self.tx.after.drain(..).for_each(|act| act());
                self.show();
            }
            Err(error) => {
                self.metrics.failures.add(1);
                tracing::error!(%error, "{WITHHELD}: nothing is answered until it can");
            }
        }
    }

    fn keep_head(&mut self) -> io::Result<()> {
        let Some(head) = self.tx.head.filter(|head| self.file.held() != Some(*head)) else {
            return Ok(());
        };
        // The head in the file is one that this database lacks. It stands for all that is given
        // back until it is reached, and is needed as long as that takes.
        if self.tx.restored.is_some_and(|restored| restored.cause == Cause::File) {
            return Ok(());
        }
        self.file.write(head)
    }

    /// Makes known how far log and audit are.
    fn show(&mut self) {
        let Transaction { conn, state, audit, head, restored: set_back, wanted, relisted, .. } =
            &mut self.tx;
        self.metrics.seq.set(state.as_ref().map_or(0, State::seq));
        self.metrics.audit.set(audit.n);
        self.metrics.restored.set(u64::from(set_back.is_some()));
        if self.audit.send_replace(*audit) != *audit {
            let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
            if heads.len() == HEADS {
                heads.pop_front();
            }
            heads.push_back(*audit);
        }
        let (Some(state), Some(head)) = (state, *head) else { return };
        let known = self.end.borrow().as_ref().map(|end| Arc::clone(&end.listed));
        let listed = known.filter(|_| !*relisted).unwrap_or_else(|| {
            let given_up = restored::given_up(conn).unwrap_or_else(|error| {
                tracing::error!(%error, "epochs that were given up are not known");
                Vec::new()
            });
            Arc::new(Listed::of(state, given_up))
        });
        *relisted = false;
        let (restored, whole) =
            (set_back.is_some(), wanted.as_ref().is_some_and(HashMap::is_empty));
        self.end.send_replace(Some(End { head, restored, whole, listed }));
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
}
