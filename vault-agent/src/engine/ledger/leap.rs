//! Putting the state of a checkpoint into the place of the own log, and dropping the entries that
//! one stands for. Whether that may be is decided above.

use std::sync::Arc;

use host::store::checkpoint;
use rusqlite::Connection;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::log::{self, Checkpoint, Entry, State};
use shared::signed::{Envelope, Purpose};

use super::rebase::void;
use super::{Ledger, Stopped};
use crate::engine::folded::Folded;
use crate::engine::rights::{may_read, place};
use crate::engine::types::Commit;
use crate::state::{self, Failure, set_aside};
use machine::remote::Started;

impl Ledger {
    /// Goes on from a checkpoint past the own log; all or nothing, on disk when this returns.
    ///
    /// # Errors
    /// `E_CHECKPOINT` if the own log has been resumed otherwise than the state knows, or has moved
    /// on past it meanwhile. Or if the database fails.
    pub(in crate::engine) async fn leap(
        self: &Arc<Self>,
        started: Started,
    ) -> Result<Result<(), Error>, Failure> {
        self.exchange(move |own, conn| own.start_from(conn, started)).await
    }

    fn start_from(
        &self,
        conn: &Connection,
        started: Started,
    ) -> Result<(Folded, (), Vec<Hash>), Stopped> {
        let Started { vouched, state } = started;
        let mut folded = {
            let before = self.read();
            if before.born {
                follows(&before.state, &state)?;
            }
            Folded {
                born: true,
                held: before.held.clone(),
                readers: before.readers.clone(),
                snapshot: state.seq(),
                signed: None,
                pinned: before.pinned.clone(),
                trusted: before.trusted.clone(),
                aside: before.aside.clone(),
                overs: before.overs,
                commit: Commit::default(),
                begins: state.seq(),
                state,
            }
        };
        let vault = folded.state.vault();
        state::log::clear(conn)?;
        state::log::insert(conn, 0, &vouched.genesis, vault, None)?;
        for envelope in &vouched.owners {
            let seq = envelope.parse::<Entry>()?.seq;
            let made = envelope.hash(Purpose::Entry(vault));
            state::log::insert(conn, seq, envelope, made, None)?;
        }
        checkpoint::adopt(conn, &folded.state)?;
        state::log::set_head(conn, folded.state.seq(), folded.state.head())?;
        self.note_all_readers(conn, &mut folded)?;
        self.tend_all(conn, &mut folded)?;
        let void = void(conn, &folded.state)?.into_iter().map(|entry| entry.hash).collect();
        folded.aside = set_aside::bases(conn)?;
        state::log::set_snapshot(conn, &folded.state)?;
        Ok((folded, (), void))
    }

    /// Notes how many readers the kept versions have that were made for today's: of others the log
    /// keeps a hash only.
    fn note_all_readers(&self, conn: &Connection, folded: &mut Folded) -> rusqlite::Result<()> {
        let Folded { state, readers, .. } = folded;
        for (path, secret) in state.secrets() {
            let Some((_, newest)) = secret.current().filter(|_| may_read(state, &self.own, path))
            else {
                continue;
            };
            if readers.contains_key(&newest.readers)
                || log::readers_hash(state, path) != newest.readers
            {
                continue;
            }
            let (count, position) = place(state, &self.own, path);
            state::blobs::set_readers(conn, newest.readers, count, position)?;
            readers.insert(newest.readers, (count, position));
        }
        Ok(())
    }

    /// Keeps the state that an entry vouches for, which was applied just now: the one before it.
    pub(super) fn keep_state(
        conn: &Connection,
        state: &mut State,
        applied: log::Applied,
        envelope: &Envelope,
        named: Checkpoint,
    ) -> Result<log::Applied, Stopped> {
        state.revert(applied.undo);
        checkpoint::save(conn, state, named)?;
        Ok(log::apply(state, envelope).map_err(Error::from)?)
    }

    /// Drops the entries that a checkpoint of the own log stands for.
    pub(in crate::engine) async fn begin_after(
        self: &Arc<Self>,
        named: Checkpoint,
    ) -> Result<(), Failure> {
        let begun = self.store.write(move |conn| {
            let is_there = checkpoint::newest(conn)? == Some(named);
            if is_there {
                checkpoint::begin_after(conn, named.seq)?;
            }
            Ok(is_there)
        });
        if !begun.await? {
            return Ok(());
        }
        self.write().begins = named.seq;
        while self.store.write(|conn| state::log::drop_some(conn)).await? > 0 {}
        Ok(())
    }
}

/// Demands that a state may come after the own one: further on, and resumed where that was.
fn follows(own: &State, state: &State) -> Result<(), Error> {
    if state.seq() <= own.seq() {
        return Err(Code::Checkpoint.because("the log has moved on past it meanwhile"));
    }
    if !state.resumed().starts_with(own.resumed()) {
        let why = "the vault was resumed otherwise than this machine knows";
        return Err(Code::Checkpoint.because(why));
    }
    Ok(())
}
