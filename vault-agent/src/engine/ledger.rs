//! The verified log: the only place where entries are applied. Each is applied in memory and
//! stored with the head and the blobs it brought in one transaction; if that fails, or if no signed
//! head of the server covers it, memory goes back (design/trust, *Client*, read 1).

mod blobs;
mod leap;
pub(super) mod rebase;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rusqlite::Connection;
use shared::blob::Blob;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::log::{self, Op, State, Undo};
use shared::path::SecretPath;
use shared::signed::Envelope;
use shared::time::Time;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::blob::Due;
use super::cache::Cache;
use super::fleet::Judged;
use super::folded::{Folded, born, recognise};
use super::left::Leavings;
use super::pending::Pending;
use super::types::{Commit, Own, Ticks};
use crate::state::{self, Database, Failure, Outcome, Store};
use machine::local::{Left, Trust};

/// A record from the server and where it claims to stand; the genesis stands at 0.
pub(super) struct Delivery {
    pub(super) position: u64,
    pub(super) envelope: Envelope,
    pub(super) blobs: Vec<Vec<u8>>,
    /// The head that came right after it, for it. The last record of a batch has one: nothing of
    /// the batch is used unless the server has signed where it leads.
    pub(super) head: Option<SignedHead>,
}

/// What a batch of records did.
#[derive(Default)]
pub(super) struct News {
    /// Blobs that came along, to be opened.
    pub(super) arrived: Vec<(Due, Blob)>,
    /// Whether a readable path has a newer version whose blob did not come along.
    pub(super) missing: bool,
    /// Whether any record was new.
    pub(super) advanced: bool,
}

/// Answers to a batch: at once when it is applied, or refused as a whole; and when it is on disk.
pub(super) struct Receipt {
    pub(super) applied: oneshot::Receiver<Result<Result<News, Error>, Failure>>,
    pub(super) committed: oneshot::Receiver<Result<(), Failure>>,
}

/// Why nothing of a batch is kept.
enum Stopped {
    /// A record, or a head, does not verify.
    Refused(Error),
    /// The own database.
    Database(Failure),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Stopped {
    fn from(fault: rusqlite::Error) -> Self {
        Self::Database(fault.into())
    }
}

/// What the entries of a batch brought and touched.
#[derive(Default)]
struct Brought {
    entries: Vec<Hash>,
    touched: BTreeSet<SecretPath>,
    blobs: HashMap<Hash, Blob>,
    dropped: Vec<Hash>,
}

/// How to take a batch back.
struct Before {
    commit: Commit,
    signed: Option<SignedHead>,
    undo: Vec<Undo>,
    unborn: Option<Box<State>>,
    held: Vec<(SecretPath, Option<Hash>)>,
    /// Readers that were not known before.
    readers: Vec<Hash>,
}

/// The verified log and what it folds to. Its lock is taken before any other, for moments only.
pub(super) struct Ledger {
    own: Arc<Own>,
    store: Arc<Store>,
    cache: Arc<Cache>,
    pending: Arc<Pending>,
    ticks: Ticks,
    folded: RwLock<Folded>,
    /// Ticks when an entry was applied, before it is on disk.
    applied: Ticks,
    arrivals: Mutex<Arrivals>,
    leavings: Leavings,
}

impl Ledger {
    pub(super) fn new(
        own: Arc<Own>,
        store: Arc<Store>,
        cache: Arc<Cache>,
        pending: Arc<Pending>,
        ticks: Ticks,
        folded: Folded,
    ) -> Self {
        let (folded, applied) = (RwLock::new(folded), Ticks::default());
        let (arrivals, leavings) = Default::default();
        Self { own, store, cache, pending, ticks, folded, applied, arrivals, leavings }
    }

    /// Returns the state to look at.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Folded> {
        self.folded.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns which entries have just come.
    pub(super) fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what an owner's act has left encrypted to the readers of before, while nobody is at
    /// it.
    pub(super) fn left(&self, folded: &Folded, arrivals: &Arrivals, now: Time) -> Option<Left> {
        let is_at_work = arrivals.is_at_work(Instant::now());
        if is_at_work { None } else { self.leavings.count(&folded.state, &self.own, now) }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Folded> {
        self.folded.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries what no entry has done yet on the state, which `act` leaves as it was.
    pub(super) fn attempt<T>(&self, act: impl FnOnce(&mut Folded) -> T) -> T {
        act(&mut self.write())
    }

    /// Returns a receiver that ticks when an entry was applied, before it is on disk.
    pub(super) fn applied(&self) -> watch::Receiver<()> {
        self.applied.subscribe()
    }

    /// Returns where the log ends, as the server has signed it.
    pub(super) fn signed(&self) -> Option<SignedHead> {
        self.read().signed
    }

    /// Hands records to the database thread, in order with everything else that goes there. They
    /// are taken as a whole or not at all; nobody sees a part of them.
    pub(super) async fn ingest(
        self: &Arc<Self>,
        deliveries: Vec<Delivery>,
    ) -> Result<Receipt, Failure> {
        let (answer, applied) = oneshot::channel();
        let (settle, committed) = oneshot::channel();
        let own = Arc::clone(self);
        let job = move |open: Result<&mut Database, Failure>| {
            let conn = match open {
                Ok(conn) => conn,
                Err(fault) => {
                    let _ = answer.send(Err(fault.clone()));
                    return Outcome::Undo(fault);
                }
            };
            let commit = Commit::default();
            let mut folded = own.write();
            let mut before = Before::begin(&mut folded, &commit);
            match own.take(conn, &mut folded, deliveries, &mut before) {
                Ok(news) => {
                    drop(folded);
                    own.applied.send_replace(());
                    let _ = answer.send(Ok(Ok(news)));
                    Outcome::Keep(Box::new(move |result| {
                        if result.is_err() {
                            before.restore(&mut own.write());
                            own.ticks.send_replace(());
                        }
                        commit.end(result.is_ok());
                        let _ = settle.send(result);
                    }))
                }
                Err(stopped) => {
                    before.restore(&mut folded);
                    drop(folded);
                    let (told, fault) = match stopped {
                        Stopped::Refused(error) => {
                            let fault = Failure::Failed(error.to_string().into());
                            (Ok(Err(error)), fault)
                        }
                        Stopped::Database(fault) => (Err(fault.clone()), fault),
                    };
                    let _ = answer.send(told);
                    Outcome::Undo(fault)
                }
            }
        };
        self.store.submit(Box::new(job)).await?;
        Ok(Receipt { applied, committed })
    }

    /// Keeps the ciphertext of a version, which has opened, if it is its path's newest now.
    pub(super) async fn hold(self: &Arc<Self>, due: Due, blob: Blob) -> Result<(), Failure> {
        let own = Arc::clone(self);
        let held = self.store.write(move |conn| {
            // The log may have moved on meanwhile.
            let mut folded = own.write();
            let wanted = folded.newest(&own.own, &due.path);
            if wanted.is_some_and(|wanted| wanted.blob == due.blob) {
                state::blobs::keep(conn, &due.path, due.ver, &due.retained(blob))?;
                folded.held.insert(due.path, due.blob);
            }
            Ok(())
        });
        held.await
    }

    /// Returns the hash of the own entry `seq`.
    pub(super) async fn hash_at(&self, seq: u64) -> Result<Option<Hash>, Failure> {
        self.store.read(move |conn| state::log::hash_at(conn, seq)).await
    }

    /// Judges a head that the server is said to have signed against the own log; wherever it comes
    /// from.
    ///
    /// # Errors
    /// `E_FORK` if it proves one; or if the database fails.
    pub(super) async fn judge(&self, head: &SignedHead) -> Result<Result<Judged, Error>, Failure> {
        let vault = self.own.pins.vault;
        {
            let folded = self.read();
            let (seq, here) = (folded.state.seq(), folded.state.head());
            if head.seq > seq || (head.seq == seq && head.head == here) {
                let known = (head.seq == seq).then_some(here);
                return Ok(folded.judge(vault, head, known));
            }
        }
        let (seq, hash) = (head.seq, head.head);
        let read = self.store.read(move |conn| {
            Ok((state::log::hash_at(conn, seq)?, state::set_aside::holds(conn, hash)?))
        });
        let (known, is_left) = read.await?;
        let judged = self.read().judge(vault, head, known);
        // What was left behind exists: that the server has signed it is no news.
        Ok(if is_left { judged.or(Ok(Judged::Left)) } else { judged })
    }

    /// Takes up another signature of where the log ends, that was judged: after a change of the
    /// server's key, the newest one is what others can verify.
    pub(super) fn renew(&self, head: SignedHead) {
        let mut folded = self.write();
        if folded.signed == Some(head) || folded.state.place() != head.place() {
            return;
        }
        folded.signed = Some(head);
        drop(folded);
        // The next connection brings it again.
        let _ = state::note(&self.store, move |conn| state::log::sign(conn, head.seq, &head.sig));
    }

    /// Notes which server is vouched for on this host beside those that the log lists.
    pub(super) fn trust(&self, trusted: Option<Trust>) {
        self.write().trusted = trusted;
    }

    /// Notes that this machine has caught up: the server's keys are now what the log says.
    pub(super) fn unpin(&self) {
        if !self.read().pinned.is_empty() {
            self.write().pinned.clear();
        }
    }

    /// Writes a snapshot of the state unless there is one of this very entry.
    pub(super) async fn write_snapshot(self: Arc<Self>) {
        let fresh = {
            let mut folded = self.write();
            let seq = folded.state.seq();
            folded.born && seq > std::mem::replace(&mut folded.snapshot, seq)
        };
        if !fresh {
            return;
        }
        let own = Arc::clone(&self);
        let written =
            self.store.write(move |conn| state::log::set_snapshot(conn, &own.read().state));
        if let Err(fault) = written.await {
            tracing::warn!(%fault, "the snapshot is not written: the next start takes longer");
        }
    }

    fn take(
        &self,
        conn: &Connection,
        folded: &mut Folded,
        deliveries: Vec<Delivery>,
        before: &mut Before,
    ) -> Result<News, Stopped> {
        let reads = |folded: &Folded| {
            self.own.find(&folded.state).map(|(number, machine)| (number, machine.read.clone()))
        };
        let could = reads(folded);
        let mut brought = Brought::default();
        for delivery in deliveries {
            self.take_one(conn, folded, delivery, before, &mut brought)?;
        }
        if before.undo.is_empty() && before.unborn.is_none() {
            return Ok(News::default());
        }
        // What does not end with a signed head is not used.
        if folded.signed.map(|signed| signed.place()) != Some(folded.state.place()) {
            let why = format!("entry {} without a signed head", folded.state.seq());
            return Err(Code::Frozen.because(why).into());
        }
        state::log::set_head(conn, folded.state.seq(), folded.state.head())?;
        let Brought { entries, mut touched, mut blobs, dropped } = brought;
        if reads(folded) != could {
            // Its own rights have changed, or its keys' place.
            let held = folded.held.keys();
            touched.extend(held.chain(folded.state.secrets().keys()).cloned());
        }
        for entry in &entries {
            state::pending::settle(conn, *entry)?;
            let own = self.pending.blobs(*entry);
            blobs.extend(own.iter().map(|sealed| (sealed.id, Blob::new(sealed.bytes.clone()))));
        }
        let mut news = News { advanced: true, ..News::default() };
        self.tend_blobs(conn, folded, &touched, blobs, &mut news, before)?;
        entries.into_iter().for_each(|entry| self.pending.forget(entry));
        self.cache.remove(&dropped);
        Ok(news)
    }

    /// Applies and stores one record, unless it is known, and checks the head that came with it.
    fn take_one(
        &self,
        conn: &Connection,
        folded: &mut Folded,
        delivery: Delivery,
        before: &mut Before,
        brought: &mut Brought,
    ) -> Result<(), Stopped> {
        let Delivery { position, envelope, blobs, head } = delivery;
        if folded.born && position <= folded.state.seq() {
            return self.take_known(conn, folded, position, &envelope, head);
        }
        let server_sig = head.as_ref().map(|head| &head.sig);
        if folded.born {
            let mut applied = log::apply(&mut folded.state, &envelope).map_err(Error::from)?;
            if let Some(Op::Checkpoint(named)) = applied.entry.ops.first() {
                let (named, state) = (*named, &mut folded.state);
                applied = Self::keep_state(conn, state, applied, &envelope, named)?;
            }
            before.undo.push(applied.undo);
            self.note_readers(conn, folded, &applied.entry, &mut before.readers)?;
            let (seq, made) = (folded.state.seq(), folded.state.head());
            state::log::insert(conn, seq, &envelope, made, server_sig)?;
            brought.entries.push(made);
            self.arrivals().note(&applied.entry, Instant::now());
            brought.touched.extend(applied.entry.ops.iter().filter_map(Op::path).cloned());
            brought.dropped.extend(applied.dropped);
        } else {
            let state = born(self.own.pins.vault, position, &envelope)?;
            state::log::insert(conn, 0, &envelope, state.head(), server_sig)?;
            let unborn = std::mem::replace(&mut folded.state, state);
            folded.born = true;
            before.unborn = Some(Box::new(unborn));
        }
        let blobs = blobs.into_iter().map(Blob::new).map(|blob| (blob.id(), blob));
        brought.blobs.extend(blobs);
        if let Some(head) = head {
            folded.vouched(&head)?;
            folded.signed = Some(head);
        }
        Ok(())
    }

    /// Checks a record that stands where one is known, and its head.
    fn take_known(
        &self,
        conn: &Connection,
        folded: &Folded,
        position: u64,
        envelope: &Envelope,
        head: Option<SignedHead>,
    ) -> Result<(), Stopped> {
        let known = state::log::hash_at(conn, position)?;
        if let Some(head) = head {
            match folded.judge(self.own.pins.vault, &head, known)? {
                Judged::Held => {}
                Judged::Unsigned => return Err(unsigned(&head).into()),
                Judged::Ahead | Judged::Left => {
                    let why = format!("the server signed head {}, of another epoch", head.place());
                    return Err(Code::Prev.because(why).into());
                }
            }
        }
        Ok(recognise(&folded.state, position, known, envelope)?)
    }
}

impl Before {
    /// Begins a batch: a reader that sees its entries finds its `commit`, not an older one.
    fn begin(folded: &mut Folded, commit: &Commit) -> Self {
        let commit = std::mem::replace(&mut folded.commit, commit.clone());
        let (undo, unborn, held, readers) = Default::default();
        Self { commit, signed: folded.signed, undo, unborn, held, readers }
    }

    fn restore(self, folded: &mut Folded) {
        folded.commit = self.commit;
        folded.signed = self.signed;
        for undo in self.undo.into_iter().rev() {
            folded.state.revert(undo);
        }
        if let Some(unborn) = self.unborn {
            folded.state = *unborn;
            folded.born = false;
        }
        for readers in self.readers {
            folded.readers.remove(&readers);
        }
        for (path, held) in self.held.into_iter().rev() {
            match held {
                Some(blob) => drop(folded.held.insert(path, blob)),
                None => drop(folded.held.remove(&path)),
            }
        }
    }
}

/// Says that nobody listed has signed a head.
pub(super) fn unsigned(head: &SignedHead) -> Error {
    let (seq, hash) = (head.seq, head.head.short());
    Code::BadSig.because(format!("the server's signature of head {seq} {hash}"))
}
