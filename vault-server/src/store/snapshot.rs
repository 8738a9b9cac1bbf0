//! Table `snapshot`: the folded state after some entry, and starting from it. A snapshot is this
//! program's own and never sent; one that does not match the log is passed over.

use std::ops::ControlFlow;

use anyhow::{Context as _, anyhow};
use host::hint::hinted;
use shared::error::Code;
use shared::hash::Hash;
use shared::log::{Refused, State, apply, start};

use super::checkpoint;
use super::log::{self, Stored};
use super::{Connection, Fault, NONE, Result, hash, int, nat, params, unwritable};

/// Changes whenever the layout of [`State`] does: no other snapshot is read.
const FORMAT: &str = concat!(env!("CARGO_PKG_VERSION"), "/2");

/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// Writes the snapshot of `state`, in a transaction of its own.
pub fn save(conn: &Connection, state: &State) -> Result<()> {
    conn.atomically(|conn| {
        conn.execute("DELETE FROM snapshot_piece", NONE)?;
        let mut pieces = Pieces::new(conn);
        let written = postcard::to_io(state, &mut pieces).map(|_| ());
        let digest = pieces.finish()?;
        written.map_err(unwritable)?;
        let (seq, head) = (int(state.seq()), state.head());
        conn.execute(
            "INSERT INTO snapshot (id, format, seq, head, digest) VALUES (1, ?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET format = ?1, seq = ?2, head = ?3, digest = ?4",
            params![FORMAT, seq, head.as_bytes(), digest.as_bytes()],
        )
        .map(drop)
    })
}

/// Stores what is written to it piece by piece: a state is never in memory twice.
struct Pieces<'c> {
    conn: &'c Connection,
    next: u64,
    piece: Vec<u8>,
    digest: Hash,
    failed: Option<Fault>,
}

impl<'c> Pieces<'c> {
    fn new(conn: &'c Connection) -> Self {
        let piece = Vec::with_capacity(PIECE);
        Self { conn, next: 0, piece, digest: Hash::ZERO, failed: None }
    }

    fn store(&mut self) -> Result<()> {
        self.conn.execute(
            "INSERT INTO snapshot_piece (n, bytes) VALUES (?1, ?2)",
            params![int(self.next), &self.piece],
        )?;
        self.digest = digest(self.digest, &self.piece);
        self.next += 1;
        self.piece.clear();
        Ok(())
    }

    /// Stores the last piece and returns the digest of all.
    fn finish(mut self) -> Result<Hash> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.store().map(|()| self.digest),
        }
    }
}

impl std::io::Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let fits = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..fits]);
        if self.piece.len() == PIECE
            && let Err(error) = self.store()
        {
            self.failed = Some(error);
            return Err(std::io::Error::other("piece not stored"));
        }
        Ok(fits)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn digest(before: Hash, piece: &[u8]) -> Hash {
    Hash::of(&[before.as_bytes(), piece])
}

/// Reads the snapshot, if there is one that this program wrote and the log bears out.
fn load(conn: &Connection) -> Result<Option<State>> {
    let found = conn.first("SELECT format, seq, head, digest FROM snapshot", NONE, |row| {
        let format: String = row.get(0)?;
        Ok((format, nat(row.get(1)?), hash(row, 2)?, hash(row, 3)?))
    })?;
    let Some((format, seq, head, expected)) = found else { return Ok(None) };
    let logged = log::at(conn, seq)?.map(|stored| stored.hash);
    let state = if format == FORMAT && logged == Some(head) { read(conn, expected)? } else { None };
    let state = state.filter(|state| state.seq() == seq && state.head() == head);
    if state.is_none() {
        tracing::warn!(seq, "snapshot passed over: the log is folded from its beginning");
    }
    Ok(state)
}

/// Puts the pieces together; `None` if they are not those that were written.
fn read(conn: &Connection, expected: Hash) -> Result<Option<State>> {
    let sum = "SELECT coalesce(sum(length(bytes)), 0) FROM snapshot_piece";
    let size = conn.query_row(sum, NONE, |row| row.get(0).map(nat))?;
    let size = usize::try_from(size).unwrap_or(0);
    let (mut bytes, mut found) = (Vec::with_capacity(size), Hash::ZERO);
    conn.each("SELECT bytes FROM snapshot_piece ORDER BY n", NONE, |row| {
        let piece: &[u8] = row.get(0)?;
        found = digest(found, piece);
        bytes.extend_from_slice(piece);
        Ok::<_, Fault>(ControlFlow::Continue(()))
    })?;
    Ok(if found == expected { postcard::from_bytes(&bytes).ok() } else { None })
}

/// Folds the log, from the snapshot where there is one. Returns the state and how many entries
/// were folded; no state for a server without a vault.
///
/// # Errors
/// If an entry does not follow from those before.
pub fn fold(conn: &Connection) -> anyhow::Result<(Option<State>, usize)> {
    let state = match load(conn).context("cannot read the snapshot")? {
        Some(state) => Some(state),
        None => checkpoint::start(conn)?,
    };
    replay(conn, state, |_| ())
}

/// Folds the log from `state` on, or from the genesis; `each` is told of every entry. Returns what
/// [`fold`] does.
///
/// # Errors
/// As [`fold`].
pub fn replay(
    conn: &Connection,
    mut state: Option<State>,
    mut each: impl FnMut(u64),
) -> anyhow::Result<(Option<State>, usize)> {
    let from = state.as_ref().map_or(0, |state| state.seq() + 1);
    let mut folded = 0;
    log::range(conn, from, u64::MAX, |Stored { seq, hash, envelope }| {
        let due = state.as_ref().map_or(0, |state| state.seq() + 1);
        if seq != due {
            return Err(anyhow!("entry {due} of the log is missing"));
        }
        let broken = || broken(seq);
        match &mut state {
            None => state = Some(start(&envelope).with_context(broken)?),
            Some(state) => drop(apply(state, &envelope).map_err(|why| refused(seq, why))?),
        }
        if state.as_ref().map(State::head) != Some(hash) {
            return Err(anyhow!("its hash differs").context(broken()));
        }
        folded += 1;
        each(seq);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((state, folded))
}

fn broken(seq: u64) -> String {
    format!("entry {seq} of the log is damaged")
}

/// Tells an entry that is damaged from one that only a newer program can judge.
fn refused(seq: u64, why: Refused) -> anyhow::Error {
    if why.error.code == Code::Upgrade {
        let why = format!("entry {seq} of the log was written for a newer program ({why})");
        let way = "install the vault-server that ran here, or a newer one: nothing is changed";
        return hinted(why, way);
    }
    anyhow::Error::from(why).context(broken(seq))
}
