//! Leaving the own log for another branch of it: what was verified after the last entry in common
//! is set aside, the state is folded anew up to there and the branch applied to it, all in one
//! transaction. Whether that may be is decided in `over`; of the branch nothing is believed here
//! either.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::log::{self, Entry, Op, State};
use shared::path::SecretPath;
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::log::AppendRequest;
use tokio::sync::oneshot;

use super::{Ledger, Stopped};
use crate::engine::folded::Folded;
use crate::engine::rights::may_retain;
use crate::engine::types::Commit;
use crate::state::set_aside::{self, SetAside, Version};
use crate::state::{self, Database, Failure, Outcome, facts, retained};
use host::clock;

/// Another branch of the log, as the server has shown it.
pub(in crate::engine) struct Branch {
    /// Where the own log ended when the branch was looked for.
    pub(in crate::engine) own: Head,
    /// The last entry in common.
    pub(in crate::engine) common: u64,
    /// The entries after it.
    pub(in crate::engine) entries: Vec<Envelope>,
    /// The server's head for the last of them.
    pub(in crate::engine) head: SignedHead,
}

/// What is left, and for what: what to decide by.
pub(in crate::engine) struct Leaving<'a> {
    /// The own state, with all that is to be set aside.
    pub(in crate::engine) state: &'a State,
    /// What is to be set aside.
    pub(in crate::engine) lost: &'a [Envelope],
    /// The branch after the last entry in common.
    pub(in crate::engine) branch: &'a [Envelope],
}

/// What was left.
pub(in crate::engine) struct Left {
    /// The last entry in common.
    pub(in crate::engine) common: u64,
    /// The entries that were set aside, and those that were not answered yet.
    pub(in crate::engine) entries: Vec<SetAside>,
}

impl Ledger {
    /// Drops what was set aside.
    pub(in crate::engine) async fn clear_set_aside(self: &Arc<Self>) -> Result<(), Failure> {
        let own = Arc::clone(self);
        let cleared = self.store.write(move |conn| set_aside::clear(conn)).await;
        cleared.inspect(|()| {
            let mut folded = own.write();
            folded.aside.clear();
            folded.overs += 1;
        })
    }

    /// Goes over to `branch` if `decide` allows it; all or nothing, on disk when this returns.
    ///
    /// # Errors
    /// What `decide` says; what is wrong with the branch; `E_PREV` if the own log has moved on
    /// since the branch was looked for. Or if the database fails.
    pub(in crate::engine) async fn rebase(
        self: &Arc<Self>,
        branch: Branch,
        decide: impl FnOnce(&Leaving<'_>) -> Result<(), Error> + Send + 'static,
    ) -> Result<Result<Left, Error>, Failure> {
        self.exchange(move |own, conn| own.leave(conn, branch, decide)).await
    }

    /// Puts another state into the place of the present one, with what `make` writes for it; tells
    /// what `make` tells, once it is on disk. It names the entries that are void then, too.
    pub(super) async fn exchange<T: Send + 'static>(
        self: &Arc<Self>,
        make: impl FnOnce(&Self, &Connection) -> Result<(Folded, T, Vec<Hash>), Stopped>
        + Send
        + 'static,
    ) -> Result<Result<T, Error>, Failure> {
        let (answer, answered) = oneshot::channel();
        let own = Arc::clone(self);
        let job = move |open: Result<&mut Database, Failure>| match open
            .map_err(Stopped::Database)
            .and_then(|conn| make(&own, conn))
        {
            Ok((folded, told, void)) => {
                let commit = folded.commit.clone();
                let before = std::mem::replace(&mut *own.write(), folded);
                own.applied.send_replace(());
                Outcome::Keep(Box::new(move |result| {
                    match &result {
                        Ok(()) => void.into_iter().for_each(|entry| own.pending.forget(entry)),
                        Err(_) => *own.write() = before,
                    }
                    commit.end(result.is_ok());
                    own.applied.send_replace(());
                    own.ticks.send_replace(());
                    let _ = answer.send(result.map(|()| Ok(told)));
                }))
            }
            Err(Stopped::Refused(error)) => {
                let why = Failure::Failed(error.to_string().into());
                let _ = answer.send(Ok(Err(error)));
                Outcome::Undo(why)
            }
            Err(Stopped::Database(fault)) => {
                let _ = answer.send(Err(fault.clone()));
                Outcome::Undo(fault)
            }
        };
        self.store.submit(Box::new(job)).await?;
        answered.await.unwrap_or(Err(Failure::Closed))
    }

    /// Does all of it but the exchange of the state in memory; tells which entries that were not
    /// answered yet are void now.
    fn leave(
        &self,
        conn: &Connection,
        branch: Branch,
        decide: impl FnOnce(&Leaving<'_>) -> Result<(), Error>,
    ) -> Result<(Folded, Left, Vec<Hash>), Stopped> {
        let Branch { own, common, entries: branch, head } = branch;
        let (held, readers, overs, pinned, trusted, begins, lost) = {
            let folded = self.read();
            if !folded.born || folded.state.place() != own || common > own.seq {
                return Err(Code::Prev.because("the log has moved on meanwhile").into());
            }
            let lost = after(conn, common)?;
            // Else the server could have an old resumption of this very log count once more.
            let bodies =
                lost.first().zip(branch.first()).map(|(here, there)| (&here.body, &there.body));
            if bodies.is_some_and(|(here, there)| here == there) {
                let why = format!("entry {} is in common, too", common + 1);
                return Err(Code::Prev.because(why).into());
            }
            decide(&Leaving { state: &folded.state, lost: &lost, branch: &branch })?;
            (
                folded.held.clone(),
                folded.readers.clone(),
                folded.overs + 1,
                folded.pinned.clone(),
                folded.trusted.clone(),
                folded.begins,
                lost,
            )
        };
        let state = fold(conn, common)?;
        let mut lost = self.set_aside(conn, &state, common, lost, &readers)?;
        state::log::cut(conn, common)?;
        let (snapshot, commit, aside) = (0, Commit::default(), HashMap::new());
        let mut folded = Folded {
            state,
            born: true,
            held,
            readers,
            snapshot,
            signed: Some(head),
            pinned,
            trusted,
            commit,
            aside,
            overs,
            begins,
        };
        self.apply_branch(conn, &mut folded, &branch, head)?;
        let unsent = void(conn, &folded.state)?;
        let void = unsent.iter().map(|entry| entry.hash).collect();
        lost.extend(unsent);
        folded.aside = set_aside::bases(conn)?;
        self.tend_all(conn, &mut folded)?;
        folded.snapshot = folded.state.seq();
        state::log::set_snapshot(conn, &folded.state)?;
        facts::unset(conn, facts::FORK)?;
        Ok((folded, Left { common, entries: lost }, void))
    }

    /// Keeps what is left behind, and the ciphertext of what it wrote.
    fn set_aside(
        &self,
        conn: &Connection,
        common: &State,
        at: u64,
        lost: Vec<Envelope>,
        readers: &HashMap<Hash, (usize, usize)>,
    ) -> Result<Vec<SetAside>, Stopped> {
        let purpose = Purpose::Entry(common.vault());
        let own = self.own.keys.sign.verify_key();
        let mut kept = Vec::with_capacity(lost.len());
        for (seq, envelope) in (at + 1..).zip(lost) {
            let entry: Entry = envelope.parse()?;
            keep_versions(conn, common, &entry, &[], readers)?;
            let (hash, own) = (envelope.hash(purpose), envelope.verify(&own, purpose).is_ok());
            let entry = SetAside { seq, hash, envelope, own, at: clock::now() };
            set_aside::keep(conn, &entry)?;
            kept.push(entry);
        }
        Ok(kept)
    }

    /// Applies and stores the entries of the branch, and checks that the server's head is theirs.
    fn apply_branch(
        &self,
        conn: &Connection,
        folded: &mut Folded,
        branch: &[Envelope],
        head: SignedHead,
    ) -> Result<(), Stopped> {
        for envelope in branch {
            let applied = log::apply(&mut folded.state, envelope).map_err(Error::from)?;
            self.note_readers(conn, folded, &applied.entry, &mut Vec::new())?;
            let (seq, made) = (folded.state.seq(), folded.state.head());
            state::log::insert(conn, seq, envelope, made, None)?;
        }
        folded.vouched(&head)?;
        state::log::sign(conn, head.seq, &head.sig)?;
        Ok(state::log::set_head(conn, head.seq, head.head)?)
    }

    /// Drops the ciphertext of what is not newest any more, and what must not be retained.
    pub(super) fn tend_all(&self, conn: &Connection, folded: &mut Folded) -> Result<(), Stopped> {
        let held: Vec<(SecretPath, Hash)> =
            folded.held.iter().map(|(path, blob)| (path.clone(), *blob)).collect();
        for (path, blob) in held {
            let wanted = folded.newest(&self.own, &path);
            if wanted.is_none_or(|wanted| wanted.blob != blob) {
                state::blobs::drop(conn, &path)?;
                folded.held.remove(&path);
            }
        }
        for (path, ver) in retained::list(conn)? {
            let is_left = folded.aside.get(&path).is_some_and(|base| ver > *base);
            if is_left || !may_retain(&folded.state, &self.own, &path, ver) {
                retained::drop(conn, &path, ver)?;
            }
        }
        Ok(())
    }
}

/// Drops the entries that wait for an answer and can never stand in this log.
pub(super) fn void(conn: &Connection, state: &State) -> Result<Vec<SetAside>, Stopped> {
    let mut void = Vec::new();
    for hash in state::pending::list(conn)? {
        let request = state::pending::load(conn, hash)?.unwrap_or_default();
        let parsed = serde_json::from_slice::<AppendRequest>(&request).ok();
        let parsed = parsed.and_then(|request| {
            let entry = request.envelope.parse::<Entry>().ok()?;
            Some((request, entry))
        });
        let Some((request, entry)) = parsed else { continue };
        if state::log::hash_at(conn, entry.seq.saturating_sub(1))? == Some(entry.prev) {
            continue;
        }
        let blobs: Vec<Vec<u8>> = request.blobs.into_iter().map(|blob| blob.0).collect();
        keep_versions(conn, state, &entry, &blobs, &HashMap::new())?;
        state::pending::settle(conn, hash)?;
        let (seq, envelope) = (entry.seq, request.envelope);
        let entry = SetAside { seq, hash, envelope, own: true, at: clock::now() };
        set_aside::keep(conn, &entry)?;
        void.push(entry);
    }
    Ok(void)
}

/// Keeps the versions that an entry wrote, with their ciphertext where it is here.
fn keep_versions(
    conn: &Connection,
    common: &State,
    entry: &Entry,
    brought: &[Vec<u8>],
    readers: &HashMap<Hash, (usize, usize)>,
) -> rusqlite::Result<()> {
    for op in &entry.ops {
        let (Op::Put(put) | Op::Rewrap(put)) = op else { continue };
        let base = common.due_version(&put.path) - 1;
        // What was in common already is there on the branch, too.
        if put.ver <= base {
            continue;
        }
        let bytes = match brought.iter().find(|bytes| Hash::of(&[bytes.as_slice()]) == put.blob) {
            Some(bytes) => Some(bytes.clone()),
            None => match state::blobs::by_hash(conn, put.blob)? {
                Some(bytes) => Some(bytes),
                None => retained::read(conn, &put.path, put.ver)?
                    .filter(|kept| kept.hash == put.blob)
                    .map(|kept| kept.bytes),
            },
        };
        set_aside::keep_version(
            conn,
            &Version {
                path: put.path.clone(),
                ver: put.ver,
                base,
                hash: put.blob,
                size: put.size,
                promise: put.commit,
                readers: readers.get(&put.readers).copied().unwrap_or_default(),
                bytes,
            },
        )?;
    }
    Ok(())
}

/// Reads the entries after `common`.
pub(in crate::engine) fn after(conn: &Connection, common: u64) -> rusqlite::Result<Vec<Envelope>> {
    let mut entries = Vec::new();
    let mut seq = common + 1;
    while let Some(entry) = state::log::entry(conn, seq)? {
        entries.push(entry);
        seq += 1;
    }
    Ok(entries)
}

/// Folds the stored log up to the entry `to`.
///
/// # Errors
/// If an entry is missing, or does not verify.
pub(in crate::engine) fn fold(conn: &Connection, to: u64) -> Result<State, Error> {
    let failed = |fault: rusqlite::Error| Code::Missing.because(format!("the own log: {fault}"));
    let record = |seq: u64| {
        let found = state::log::entry(conn, seq).map_err(failed)?;
        found.ok_or_else(|| Code::Missing.because(format!("entry {seq} of the own log")))
    };
    let snapshot = state::log::snapshot(conn).map_err(failed)?;
    let mut state = match snapshot.filter(|state| state.seq() <= to) {
        Some(state) => state,
        None => {
            let begin = state::log::beginning(conn);
            begin.map_err(|why| Code::Missing.because(format!("the own log: {why:#}")))?
        }
    };
    if state.seq() > to {
        let why = format!("entry {to} of the own log, which begins after {}", state.seq());
        return Err(Code::Missing.because(why));
    }
    for seq in state.seq() + 1..=to {
        log::apply(&mut state, &record(seq)?).map_err(Error::from)?;
    }
    Ok(state)
}
