//! The one writer: the open transaction, with the folded state and the audit chain that memory
//! keeps beside it, all three taken back together if the commit fails; and what may wait until
//! nobody else does. How concurrent writers share a commit is `host::store`'s. No rule lives here.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use host::clock;
use host::store::{self, Database, StoreFailure};
use rusqlite::Connection;
use shared::audit::{AuditHead, Fact};
use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::keys::SignKey;
use shared::log::{Applied, Entry, Op, Refused, State, Undo};
use shared::path::SecretPath;
use shared::signed::Envelope;
use shared::time::Time;
use tokio::sync::watch;

use super::end::{End, Listed};
use super::headfile::HeadFile;
use super::restored::{self, Cause, Restored};
use super::{audit, snapshot, unwritable};
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
    wanted: Option<Wanted>,
    signer: Arc<SignKey>,
    head: Option<SignedHead>,
    restored: Option<Restored>,
    /// What the log lists may have changed since it was last made known.
    relisted: bool,
}

/// Blobs that are wanted back, and the versions they are of.
pub type Wanted = HashMap<Hash, (SecretPath, u64)>;

/// Something to do once the transaction is on disk.
type AfterCommit = Box<dyn FnOnce() + Send>;

impl Transaction {
    /// Begins with what the database holds; `signer` is the key that heads are signed with.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn new(
        conn: Connection,
        state: Option<State>,
        audit: AuditHead,
        signer: Arc<SignKey>,
    ) -> rusqlite::Result<Self> {
        let restored = restored::load(&conn)?;
        let now = Time::from_micros(0);
        let (undo, after, wanted) = (Vec::new(), Vec::new(), None);
        let (head, relisted) = (None, true);
        let mut tx =
            Self { conn, state, audit, now, undo, after, wanted, signer, head, restored, relisted };
        if let Some(Head { seq, head, .. }) = tx.state().map(State::place) {
            tx.sign_newest(seq, head)?;
        }
        Ok(tx)
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

    /// Returns the newest signed head. It goes out with this transaction's answers, once the entry
    /// is on disk and the head in its file.
    pub const fn head(&self) -> Option<SignedHead> {
        self.head
    }

    /// Signs the head that entry `seq`, just stored, has made: it is the newest now.
    pub fn sign_newest(&mut self, seq: u64, head: Hash) -> rusqlite::Result<SignedHead> {
        let signed = self.sign(seq, head)?;
        self.head = Some(signed);
        Ok(signed)
    }

    /// Signs the head that entry `seq` of the log made: a head says the same whenever it is signed.
    pub fn sign(&self, seq: u64, head: Hash) -> rusqlite::Result<SignedHead> {
        let state = self.state.as_ref().ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let head = Head { epoch: state.epoch_at(seq), seq, head };
        head.sign(&self.signer, state.vault()).map_err(unwritable)
    }

    /// Returns what the database lacks, if it was set back.
    pub const fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    /// Notes what the database lacks, or that it lacks nothing any more.
    pub fn set_restored(&mut self, restored: Option<Restored>) -> rusqlite::Result<()> {
        restored::save(&self.conn, restored.as_ref())?;
        self.restored = restored;
        Ok(())
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
            self.relisted |= entry.ops.iter().any(relists);
            (entry, dropped)
        }))
    }

    /// Takes the last [`Transaction::apply`] back.
    pub fn take_back(&mut self) {
        if let (Some(undo), Some(state)) = (self.undo.pop(), &mut self.state) {
            state.revert(undo);
        }
    }

    /// Notes which blobs are wanted back, and for which versions; `None` if that is to be found
    /// out. What became of the versions since is for whoever asks to find out.
    pub fn want(&mut self, wanted: Option<Wanted>) {
        self.wanted = wanted;
    }

    /// Returns which blobs are wanted back, if that is known.
    pub const fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// Appends an audit record.
    pub fn record(&mut self, fact: Fact) -> rusqlite::Result<()> {
        self.audit = audit::insert(&self.conn, self.audit, self.now, fact)?;
        Ok(())
    }

    /// Does something once the transaction is on disk, before its answers go out.
    pub fn after_commit(&mut self, act: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(act));
    }
}

/// Tells whether an operation may change what [`Listed`] says.
const fn relists(op: &Op) -> bool {
    matches!(
        op,
        Op::MachineAdd(_)
            | Op::MachineRekey(_)
            | Op::MachineRemove { .. }
            | Op::AccessSet(_)
            | Op::ServerSet { .. }
            | Op::Resume(_)
    )
}

/// A handle on the writer.
pub struct Store {
    writer: store::Store<Writer>,
    audit: watch::Receiver<AuditHead>,
    end: watch::Receiver<Option<End>>,
    withheld: Arc<AtomicBool>,
}

/// Why nothing is answered while the newest head is not in its file.
const WITHHELD: &str = "the file `head` in the data directory cannot be written";

impl Store {
    /// Starts the writer's thread; `unsaved` entries came after the last snapshot.
    pub fn start(
        tx: Transaction,
        heads: HeadFile,
        unsaved: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let (shown, audit) = watch::channel(tx.audit());
        let (ended, end) = watch::channel(None);
        let withheld = Arc::new(AtomicBool::new(false));
        let (file, held_back) = (heads, Arc::clone(&withheld));
        let mut writer = Writer {
            tx,
            file,
            withheld: held_back,
            metrics,
            audit: shown,
            end: ended,
            unsaved,
            commits: 0,
        };
        writer.show();
        Ok(Self { writer: store::Store::start(writer)?, audit, end, withheld })
    }

    /// Returns the head of the audit chain as of the last commit, and later ones.
    pub fn audit(&self) -> watch::Receiver<AuditHead> {
        self.audit.clone()
    }

    /// Returns where the log ended with the last commit; `None` without a vault.
    pub fn end(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    /// Queues `work` and waits until what it wrote is on disk. Its transaction is shared, but an
    /// error takes back only what this piece did.
    pub async fn call<T, F>(&self, work: F) -> Result<T, StoreFailure>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction) -> rusqlite::Result<T> + Send + 'static,
    {
        let written = self.writer.write(move |writer| {
            if writer.is_withheld() {
                return Err(unwritable(io::Error::other(WITHHELD)));
            }
            work(&mut writer.tx).inspect_err(|error| {
                writer.metrics.failures.add(1);
                tracing::error!(%error, "nothing written");
            })
        });
        let done = written.await?;
        // What was committed meanwhile stays; whoever asks again is told of it.
        if self.withheld.load(Ordering::Acquire) {
            return Err(StoreFailure::Failed(WITHHELD.into()));
        }
        Ok(done)
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
    end: watch::Sender<Option<End>>,
    /// Entries since the last snapshot.
    unsaved: usize,
    /// Commits since the last checkpoint.
    commits: usize,
}

/// Where memory stood.
struct Mark {
    founded: bool,
    undo: usize,
    after: usize,
    audit: AuditHead,
    head: Option<SignedHead>,
    restored: Option<Restored>,
}

impl Database for Writer {
    type Mark = Mark;

    fn conn(&self) -> &Connection {
        &self.tx.conn
    }

    fn mark(&self) -> Mark {
        let Transaction { state, undo, after, audit, head, restored, .. } = &self.tx;
        Mark {
            founded: state.is_some(),
            undo: undo.len(),
            after: after.len(),
            audit: *audit,
            head: *head,
            restored: *restored,
        }
    }

    fn back_to(&mut self, Mark { founded, undo, after, audit, head, restored }: Mark) {
        if self.tx.undo.len() > undo {
            self.tx.wanted = None;
        }
        while self.tx.undo.len() > undo {
            self.tx.take_back();
        }
        self.tx.state.take_if(|_| !founded);
        self.tx.after.truncate(after);
        (self.tx.audit, self.tx.head, self.tx.restored) = (audit, head, restored);
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
        let Transaction { state, audit, head, restored, wanted, relisted, .. } = &mut self.tx;
        self.metrics.seq.set(state.as_ref().map_or(0, State::seq));
        self.metrics.audit.set(audit.n);
        self.metrics.restored.set(u64::from(restored.is_some()));
        self.audit.send_replace(*audit);
        let (Some(state), Some(head)) = (state, *head) else { return };
        let known = self.end.borrow().as_ref().map(|end| Arc::clone(&end.listed));
        let listed = known.filter(|_| !*relisted).unwrap_or_else(|| Arc::new(Listed::of(state)));
        *relisted = false;
        let (restored, whole) =
            (restored.is_some(), wanted.as_ref().is_some_and(HashMap::is_empty));
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

    fn checkpoint(&self, sql: &'static str) {
        if let Err(error) = self.tx.conn.query_row(sql, [], |_| Ok(())) {
            tracing::warn!(%error, "write-ahead log not moved into the database");
        }
    }
}
