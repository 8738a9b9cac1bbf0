//! The verified log: the only place where entries are applied. Each is applied in memory and
//! stored with the head and the blobs it brought in one transaction; if that fails, memory goes
//! back (design/trust, *Client*, read 1).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rusqlite::Connection;
use shared::blob::{Blob, Sealed};
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::log::{self, Entry, Op, Refused, State, Undo};
use shared::path::SecretPath;
use shared::signed::Envelope;
use tokio::sync::{oneshot, watch};

use super::blob::Due;
use super::cache::Cache;
use super::folded::{Folded, born, recognise};
use super::pending::Pending;
use super::rights::{may_read, may_retain, place};
use super::types::{Commit, Own, Ticks};
use crate::state::{self, Database, Failure, Outcome, Store, retained};

/// A record from the server and where it claims to stand; the genesis stands at 0.
pub(super) struct Delivery {
    pub(super) position: u64,
    pub(super) envelope: Envelope,
    pub(super) blobs: Vec<Vec<u8>>,
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
    /// The first record refused; those before it count.
    pub(super) refused: Option<Error>,
}

/// Answers to a batch: at once when it is applied, and when it is on disk.
pub(super) struct Receipt {
    pub(super) applied: oneshot::Receiver<Result<News, Failure>>,
    pub(super) committed: oneshot::Receiver<Result<(), Failure>>,
}

/// What an entry that was applied brought: its operations, and blobs that this machine made itself.
type Taken = (Vec<Op>, Vec<Arc<Sealed>>);

/// How to take a batch back.
struct Before {
    commit: Commit,
    undo: Vec<Undo>,
    unborn: Option<Box<State>>,
    held: Vec<(SecretPath, Option<Hash>)>,
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
        Self { own, store, cache, pending, ticks, folded, applied }
    }

    /// Returns the state to look at.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Folded> {
        self.folded.read().unwrap_or_else(PoisonError::into_inner)
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

    /// Hands records to the database thread, in order with everything else that goes there.
    pub(super) async fn ingest(
        self: &Arc<Self>,
        deliveries: Vec<Delivery>,
    ) -> Result<Receipt, Failure> {
        let (answer, applied) = oneshot::channel();
        let (settle, committed) = oneshot::channel();
        let own = Arc::clone(self);
        let job = move |conn: &mut Database| {
            let commit = Commit::default();
            let mut before = own.begin(&commit);
            match own.take(conn, deliveries, &mut before) {
                Ok(news) => {
                    own.applied.send_replace(());
                    let _ = answer.send(Ok(news));
                    Outcome::Keep(Box::new(move |result| {
                        if result.is_err() {
                            own.go_back(before);
                            own.ticks.send_replace(());
                        }
                        commit.end(result.is_ok());
                        let _ = settle.send(result);
                    }))
                }
                Err(fault) => {
                    own.go_back(before);
                    commit.end(false);
                    let fault = Failure::from(fault);
                    let _ = answer.send(Err(fault.clone()));
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

    /// Tells whether the entry `seq`, whose hash is `hash` elsewhere, is known here.
    ///
    /// # Errors
    /// `E_FORK` if it is another here; or if the database fails.
    pub(super) async fn is_known(
        &self,
        seq: u64,
        hash: Hash,
    ) -> Result<Result<bool, Error>, Failure> {
        let known = self.store.read(move |conn| state::log::hash_at(conn, seq)).await?;
        Ok(match known {
            Some(known) if known != hash => {
                let (here, there) = (known.short(), hash.short());
                Err(Code::Fork.because(format!("entry {seq} is {here} here and {there} there")))
            }
            known => Ok(known.is_some()),
        })
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
        deliveries: Vec<Delivery>,
        before: &mut Before,
    ) -> rusqlite::Result<News> {
        let mut news = News::default();
        let reads = |folded: &Folded| {
            self.own.find(&folded.state).map(|(number, machine)| (number, machine.read.clone()))
        };
        let could = reads(&self.read());
        let mut touched = BTreeSet::new();
        let mut blobs = HashMap::new();
        for Delivery { position, envelope, blobs: inline } in deliveries {
            match self.take_one(conn, position, &envelope, before)? {
                Ok(None) => {}
                Ok(Some((ops, own))) => {
                    news.advanced = true;
                    touched.extend(ops.iter().filter_map(Op::path).cloned());
                    let own = own.into_iter().map(|sealed| sealed.bytes.clone());
                    let brought = inline.into_iter().chain(own).map(Blob::new);
                    blobs.extend(brought.map(|blob| (blob.id(), blob)));
                }
                Err(error) => {
                    news.refused = Some(error);
                    break;
                }
            }
        }
        if news.advanced {
            let folded = self.read();
            state::log::set_head(conn, folded.state.seq(), folded.state.head())?;
            if reads(&folded) != could {
                // Its own rights have changed, or its keys' place.
                let held = folded.held.keys();
                touched.extend(held.chain(folded.state.secrets().keys()).cloned());
            }
            drop(folded);
            self.tend_blobs(conn, &touched, blobs, &mut news, before)?;
        }
        Ok(news)
    }

    /// Applies and stores one record; returns `None` for a known one.
    fn take_one(
        &self,
        conn: &Connection,
        position: u64,
        envelope: &Envelope,
        before: &mut Before,
    ) -> rusqlite::Result<Result<Option<Taken>, Error>> {
        let mut folded = self.write();
        if folded.born && position <= folded.state.seq() {
            let known = state::log::hash_at(conn, position)?;
            return Ok(recognise(&folded.state, position, known, envelope).map(|()| None));
        }
        if !folded.born {
            return match born(self.own.pins.vault, position, envelope) {
                Err(error) => Ok(Err(error)),
                Ok(state) => {
                    state::log::insert(conn, 0, envelope, state.head())?;
                    let unborn = std::mem::replace(&mut folded.state, state);
                    folded.born = true;
                    before.unborn = Some(Box::new(unborn));
                    Ok(Ok(Some(Taken::default())))
                }
            };
        }
        let applied = match log::apply(&mut folded.state, envelope) {
            Ok(applied) => applied,
            // Signed by a member, numbered as due, and built on another past than ours.
            Err(Refused { error, .. }) if error.code == Code::Prev => {
                return Ok(Err(Code::Fork.because(error.detail)));
            }
            Err(Refused { error, .. }) => return Ok(Err(error)),
        };
        before.undo.push(applied.undo);
        let head = folded.state.head();
        self.note_readers(conn, &mut folded, &applied.entry)?;
        drop(folded);
        state::log::insert(conn, applied.entry.seq, envelope, head)?;
        state::pending::settle(conn, head)?;
        let own = self.pending.settled(head);
        self.cache.remove(&applied.dropped);
        Ok(Ok(Some((applied.entry.ops, own))))
    }

    /// Notes how many readers each new blob was made for: the log itself keeps their hash only.
    fn note_readers(
        &self,
        conn: &Connection,
        folded: &mut Folded,
        entry: &Entry,
    ) -> rusqlite::Result<()> {
        for op in &entry.ops {
            let (Op::Put(put) | Op::Rewrap(put)) = op else { continue };
            if folded.readers.contains_key(&put.readers)
                || !may_read(&folded.state, &self.own, &put.path)
                || log::readers_hash(&folded.state, &put.path) != put.readers
            {
                continue;
            }
            let (count, position) = place(&folded.state, &self.own, &put.path);
            state::blobs::set_readers(conn, put.readers, count, position)?;
            folded.readers.insert(put.readers, (count, position));
        }
        Ok(())
    }

    /// Keeps the ciphertext of what is newest now, and drops what is not to be had any more. What
    /// has a predecessor takes its place only if it opens: whoever writes what does not must not
    /// take from the disk what did.
    fn tend_blobs(
        &self,
        conn: &Connection,
        touched: &BTreeSet<SecretPath>,
        mut blobs: HashMap<Hash, Blob>,
        news: &mut News,
        before: &mut Before,
    ) -> rusqlite::Result<()> {
        let good = self.open_successors(touched, &blobs);
        let mut folded = self.write();
        for path in touched {
            self.tend_retained(conn, &folded.state, path)?;
            let held = folded.held.get(path).copied();
            let Some(due) = folded.newest(&self.own, path) else {
                if held.is_some() {
                    state::blobs::drop(conn, path)?;
                    folded.held.remove(path);
                    before.held.push((path.clone(), held));
                }
                continue;
            };
            if held == Some(due.blob) {
                continue;
            }
            let (blob, is_good) = match blobs.remove(&due.blob) {
                Some(blob) => (Some(blob), held.is_none() || good.contains(&due.blob)),
                // An owner's act that was carried out from here.
                None => (state::blobs::staged(conn, due.blob)?.map(Blob::new), true),
            };
            if blob.is_none() {
                news.missing = true;
            }
            if let Some(blob) = blob.as_ref().filter(|_| is_good) {
                state::blobs::keep(conn, path, due.ver, &due.retained(blob.clone()))?;
                before.held.push((path.clone(), held));
                folded.held.insert(path.clone(), due.blob);
            } else if let Some(ver) = state::blobs::version(conn, path)?
                && !may_retain(&folded.state, &self.own, path, ver)
            {
                // The last good one is destroyed: it goes, whatever becomes of the newest.
                state::blobs::drop(conn, path)?;
                folded.held.remove(path);
                before.held.push((path.clone(), held));
            }
            news.arrived.extend(blob.map(|blob| (due, blob)));
        }
        Ok(())
    }

    /// Opens the blobs that are to take the place of another, and keeps their contents in memory;
    /// returns those that open.
    fn open_successors(
        &self,
        touched: &BTreeSet<SecretPath>,
        blobs: &HashMap<Hash, Blob>,
    ) -> HashSet<Hash> {
        let successors: Vec<(Due, &Blob)> = {
            let folded = self.read();
            let due = |path| {
                let held = folded.held.get(path)?;
                let due = folded.newest(&self.own, path).filter(|due| due.blob != *held)?;
                let blob = blobs.get(&due.blob)?;
                Some((due, blob))
            };
            touched.iter().filter_map(due).collect()
        };
        let opens = |(due, blob): &(Due, &Blob)| {
            if self.cache.has(&due.blob) {
                return true;
            }
            let opened = due.content(&self.own.keys, blob);
            opened.map(|content| self.cache.put(due.blob, content)).is_ok()
        };
        successors.into_iter().filter(opens).map(|(due, _)| due.blob).collect()
    }

    /// Drops what must not be retained any more of `path`.
    fn tend_retained(
        &self,
        conn: &Connection,
        state: &State,
        path: &SecretPath,
    ) -> rusqlite::Result<()> {
        for ver in retained::of(conn, path)? {
            if !may_retain(state, &self.own, path, ver) {
                retained::drop(conn, path, ver)?;
            }
        }
        Ok(())
    }

    /// Begins a batch: whoever sees what `commit` is about finds this commit, not an older one.
    fn begin(&self, commit: &Commit) -> Before {
        let commit = std::mem::replace(&mut self.write().commit, commit.clone());
        Before { commit, undo: Vec::new(), unborn: None, held: Vec::new() }
    }

    fn go_back(&self, before: Before) {
        let mut folded = self.write();
        folded.commit = before.commit;
        for undo in before.undo.into_iter().rev() {
            folded.state.revert(undo);
        }
        if let Some(unborn) = before.unborn {
            folded.state = *unborn;
            folded.born = false;
        }
        for (path, held) in before.held.into_iter().rev() {
            match held {
                Some(blob) => drop(folded.held.insert(path, blob)),
                None => drop(folded.held.remove(&path)),
            }
        }
    }
}
