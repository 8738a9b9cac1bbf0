//! Tables `checkpoint` and `checkpoint_piece`: the states that checkpoints name; and dropping the
//! entries of the log that one stands for. When that may be is decided in `vault`. Never dropped
//! are the genesis and the entries by which root has changed who the owners are.

use std::ops::ControlFlow;

use anyhow::{Context as _, bail};
use shared::keys::Signature;
use shared::log::{Checkpoint, Entry, Owners, State, StateReader};
use shared::signed::Envelope;

use super::{Connection, Fault, NONE, Result, Row, damaged, hash, int, log, nat, params};

/// Bytes of a piece, some row more or less.
const PIECE: usize = 64 << 10;
/// Entries dropped in one transaction: other work comes in between.
const DROPPED: u64 = 4096;

/// Stores `state`, which `named` names, instead of all that the log does not begin after.
pub fn save(conn: &Connection, state: &State, named: Checkpoint) -> Result<()> {
    forget_others(conn)?;
    // Named again, without an entry between: it is there.
    if begins(conn)?.is_some_and(|known| known.seq == named.seq) {
        return Ok(());
    }
    conn.execute(
        "INSERT INTO checkpoint (seq, state, size, begins) VALUES (?1, ?2, ?3, FALSE)",
        params![int(named.seq), named.state.as_bytes(), int(named.size)],
    )?;
    let (mut piece, mut n) = (Vec::with_capacity(PIECE), 0);
    for row in state.rows() {
        piece.extend_from_slice(&row);
        if piece.len() >= PIECE {
            save_piece(conn, named.seq, n, &piece)?;
            n += 1;
            piece.clear();
        }
    }
    if piece.is_empty() { Ok(()) } else { save_piece(conn, named.seq, n, &piece) }
}

fn save_piece(conn: &Connection, seq: u64, n: u64, piece: &[u8]) -> Result<()> {
    conn.execute(
        "INSERT INTO checkpoint_piece (seq, n, bytes) VALUES (?1, ?2, ?3)",
        params![int(seq), int(n), piece],
    )
    .map(drop)
}

/// Drops the states that the log does not begin after.
fn forget_others(conn: &Connection) -> Result<()> {
    conn.execute(
        "DELETE FROM checkpoint_piece WHERE seq IN (SELECT seq FROM checkpoint WHERE NOT begins)",
        NONE,
    )?;
    conn.execute("DELETE FROM checkpoint WHERE NOT begins", NONE).map(drop)
}

fn one(conn: &Connection, select: &'static str) -> Result<Option<Checkpoint>> {
    conn.first(select, NONE, |row| {
        Ok(Checkpoint { seq: nat(row.get(0)?), state: hash(row, 1)?, size: nat(row.get(2)?) })
    })
}

/// Returns the newest checkpoint whose state is stored.
pub fn newest(conn: &Connection) -> Result<Option<Checkpoint>> {
    one(conn, "SELECT seq, state, size FROM checkpoint ORDER BY seq DESC LIMIT 1")
}

/// Returns the checkpoint that the log begins after, if its entries up to there were dropped.
fn begins(conn: &Connection) -> Result<Option<Checkpoint>> {
    one(conn, "SELECT seq, state, size FROM checkpoint WHERE begins")
}

/// Returns the last entry that was dropped, 0 if none was.
pub fn dropped(conn: &Connection) -> Result<u64> {
    Ok(begins(conn)?.map_or(0, |known| known.seq))
}

/// Returns the next pieces of a state from number `from` on, some `room` bytes; none at its end, or
/// once it has gone.
pub fn pieces(conn: &Connection, seq: u64, from: u64, room: usize) -> Result<Vec<Vec<u8>>> {
    let (mut pieces, mut bytes) = (Vec::<Vec<u8>>::new(), 0);
    let query = "SELECT bytes FROM checkpoint_piece WHERE seq = ?1 AND n >= ?2 ORDER BY n";
    conn.each(query, [int(seq), int(from)], |row| {
        let piece: Vec<u8> = row.get(0)?;
        bytes += piece.len();
        pieces.push(piece);
        let full = bytes >= room;
        Ok::<_, Fault>(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(pieces)
}

/// Returns the state that the log begins after; nothing where it begins with the genesis.
///
/// # Errors
/// If the state is not the one that was stored, or is another vault's than the genesis.
pub fn start(conn: &Connection) -> anyhow::Result<Option<State>> {
    let Some(named) = begins(conn)? else { return Ok(None) };
    let damaged = || format!("the state of the checkpoint at entry {} is damaged", named.seq);
    let mut reader = StateReader::new(named);
    let query = "SELECT bytes FROM checkpoint_piece WHERE seq = ?1 ORDER BY n";
    conn.each(query, [int(named.seq)], |row| {
        reader.take(row.get(0)?).with_context(damaged)?;
        Ok::<_, anyhow::Error>(ControlFlow::Continue(()))
    })?;
    let state = reader.finish().with_context(damaged)?;
    if log::hash_at(conn, 0)? != Some(state.vault()) {
        bail!("the genesis is missing, or another vault's than the checkpoint");
    }
    Ok(Some(state))
}

/// Has the log begin after entry `seq`, whose state is stored: what was dropped before stays
/// dropped, and [`drop_some`] drops the rest.
pub fn begin_after(conn: &Connection, seq: u64) -> Result<()> {
    conn.execute("UPDATE checkpoint SET begins = (seq = ?1)", [int(seq)])?;
    forget_others(conn)?;
    let mut others = Vec::new();
    by_root(conn, seq, |at, envelope| {
        if !changes_owners(&envelope) {
            others.push(at);
        }
    })?;
    others
        .iter()
        .try_for_each(|at| conn.execute("DELETE FROM log WHERE seq = ?1", [int(*at)]).map(drop))
}

/// Hands the entries up to `seq` that root has signed, with their numbers, to `visit`.
fn by_root(conn: &Connection, seq: u64, mut visit: impl FnMut(u64, Envelope)) -> Result<()> {
    let query = "SELECT by, body, sig, seq FROM log
         WHERE by = 'root' AND seq BETWEEN 1 AND ?1 ORDER BY seq";
    conn.each(query, [int(seq)], |row| {
        visit(nat(row.get(3)?), envelope(row)?);
        Ok::<_, Fault>(ControlFlow::Continue(()))
    })
}

/// Reads `by, body, sig`.
fn envelope(row: &Row<'_>) -> Result<Envelope> {
    let by = row.get::<&str>(0)?.parse().map_err(damaged(0))?;
    Ok(Envelope { by, body: row.get(1)?, sig: Signature::from_bytes(row.get(2)?) })
}

fn changes_owners(envelope: &Envelope) -> bool {
    envelope.parse::<Entry>().is_ok_and(|entry| Owners::are_changed_by(&entry))
}

/// Drops some of the entries that the log does not begin after any more; returns how many.
pub fn drop_some(conn: &Connection) -> Result<usize> {
    let upto = dropped(conn)?;
    if upto == 0 {
        return Ok(0);
    }
    conn.execute(
        "DELETE FROM log WHERE seq IN
             (SELECT seq FROM log WHERE seq BETWEEN 1 AND ?1 AND by <> 'root' LIMIT ?2)",
        [int(upto), int(DROPPED)],
    )
}

/// Returns the entries up to `seq` by which root has changed who the owners are.
pub fn owners(conn: &Connection, seq: u64) -> Result<Vec<Envelope>> {
    let mut owners = Vec::new();
    by_root(conn, seq, |_, envelope| {
        if changes_owners(&envelope) {
            owners.push(envelope);
        }
    })?;
    Ok(owners)
}

/// Has a log that is new here begin after `state`.
pub fn adopt(conn: &Connection, state: &State) -> Result<()> {
    let named = state.summed();
    save(conn, state, named)?;
    begin_after(conn, named.seq)
}
