//! What a database of SQLite keeps of checkpoints, in the tables `checkpoint` and
//! `checkpoint_piece`: the states that they name; and dropping the entries of the table `log` that
//! one stands for. When that may be is decided above. Never dropped are the genesis and the entries
//! by which root has changed who the owners are.

use anyhow::{Context as _, Result, bail};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use shared::hash::Hash;
use shared::keys::Signature;
use shared::log::{Checkpoint, Entry, Owners, State, StateReader};
use shared::signed::Envelope;

/// Bytes of a piece, some row more or less.
const PIECE: usize = 64 << 10;
/// Entries dropped in one transaction: other work comes in between.
const DROPPED: u64 = 4096;

/// Stores `state`, which `named` names, instead of all that the log does not begin after.
pub fn save(conn: &Connection, state: &State, named: Checkpoint) -> rusqlite::Result<()> {
    forget(conn, "begins = 0")?;
    // Named again, without an entry between: it is there.
    if begins(conn)?.is_some_and(|known| known.seq == named.seq) {
        return Ok(());
    }
    conn.execute(
        "INSERT INTO checkpoint (seq, state, size, begins) VALUES (?1, ?2, ?3, 0)",
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

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn nat(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

/// Reads `by, body, sig`.
fn envelope(row: &Row<'_>) -> rusqlite::Result<Envelope> {
    let by: String = row.get(0)?;
    let damaged = |why: shared::error::Error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(0, kind, Box::new(why))
    };
    let (by, sig) = (by.parse().map_err(damaged)?, row.get(2)?);
    Ok(Envelope { by, body: row.get(1)?, sig: Signature::from_bytes(sig) })
}

fn save_piece(conn: &Connection, seq: u64, n: u64, piece: &[u8]) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO checkpoint_piece (seq, n, bytes) VALUES (?1, ?2, ?3)")?
        .execute(params![int(seq), int(n), piece])
        .map(drop)
}

/// Drops those states that fulfil a condition.
fn forget(conn: &Connection, which: &'static str) -> rusqlite::Result<()> {
    conn.execute_batch(&format!(
        "DELETE FROM checkpoint_piece WHERE seq IN (SELECT seq FROM checkpoint WHERE {which});
         DELETE FROM checkpoint WHERE {which};"
    ))
}

fn one(conn: &Connection, select: &'static str) -> rusqlite::Result<Option<Checkpoint>> {
    conn.prepare_cached(select)?
        .query_row([], |row| {
            let state = Hash::from_bytes(row.get(1)?);
            Ok(Checkpoint { seq: nat(row, 0)?, state, size: nat(row, 2)? })
        })
        .optional()
}

/// Returns the newest checkpoint whose state is stored.
pub fn newest(conn: &Connection) -> rusqlite::Result<Option<Checkpoint>> {
    one(conn, "SELECT seq, state, size FROM checkpoint ORDER BY seq DESC LIMIT 1")
}

/// Returns the checkpoint that the log begins after, if its entries up to there were dropped.
pub fn begins(conn: &Connection) -> rusqlite::Result<Option<Checkpoint>> {
    one(conn, "SELECT seq, state, size FROM checkpoint WHERE begins")
}

/// Returns the last entry that was dropped, 0 if none was.
pub fn dropped(conn: &Connection) -> rusqlite::Result<u64> {
    Ok(begins(conn)?.map_or(0, |known| known.seq))
}

/// Returns the next pieces of a state from number `from` on, some `room` bytes; none at its end, or
/// once it has gone.
pub fn pieces(
    conn: &Connection,
    seq: u64,
    from: u64,
    room: usize,
) -> rusqlite::Result<Vec<Vec<u8>>> {
    let mut query = conn.prepare_cached(
        "SELECT bytes FROM checkpoint_piece WHERE seq = ?1 AND n >= ?2 ORDER BY n",
    )?;
    let mut rows = query.query([int(seq), int(from)])?;
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    while bytes < room
        && let Some(row) = rows.next()?
    {
        let piece: Vec<u8> = row.get(0)?;
        bytes += piece.len();
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Returns the state that the log begins after; nothing where it begins with the genesis.
///
/// # Errors
/// If the state is not the one that was stored, or is another vault's than the genesis.
pub fn start(conn: &Connection) -> Result<Option<State>> {
    let Some(named) = begins(conn)? else { return Ok(None) };
    let damaged = || format!("the state of the checkpoint at entry {} is damaged", named.seq);
    let mut reader = StateReader::new(named);
    let mut query = conn.prepare("SELECT bytes FROM checkpoint_piece WHERE seq = ?1 ORDER BY n")?;
    let mut rows = query.query([int(named.seq)])?;
    while let Some(row) = rows.next()? {
        reader.take(row.get_ref(0)?.as_blob()?).with_context(damaged)?;
    }
    let state = reader.finish().with_context(damaged)?;
    let genesis = conn.query_row("SELECT hash FROM log WHERE seq = 0", [], |row| row.get(0));
    if genesis.optional()?.map(Hash::from_bytes) != Some(state.vault()) {
        bail!("the genesis is missing, or another vault's than the checkpoint");
    }
    Ok(Some(state))
}

/// Has the log begin after entry `seq`, whose state is stored: what was dropped before stays
/// dropped, and [`drop_some`] drops the rest.
pub fn begin_after(conn: &Connection, seq: u64) -> rusqlite::Result<()> {
    conn.execute("UPDATE checkpoint SET begins = (seq = ?1)", [int(seq)])?;
    forget(conn, "begins = 0")?;
    let mut query = conn
        .prepare("SELECT by, body, sig, seq FROM log WHERE by = 'root' AND seq BETWEEN 1 AND ?1")?;
    let mut rows = query.query([int(seq)])?;
    let mut others = Vec::new();
    while let Some(row) = rows.next()? {
        if !changes_owners(&envelope(row)?) {
            others.push(row.get::<_, i64>(3)?);
        }
    }
    for at in others {
        conn.execute("DELETE FROM log WHERE seq = ?1", [at])?;
    }
    Ok(())
}

fn changes_owners(envelope: &Envelope) -> bool {
    envelope.parse::<Entry>().is_ok_and(|entry| Owners::are_changed_by(&entry))
}

/// Drops some of the entries that the log does not begin after any more; returns how many.
pub fn drop_some(conn: &Connection) -> rusqlite::Result<usize> {
    let upto = dropped(conn)?;
    if upto == 0 {
        return Ok(0);
    }
    conn.prepare_cached(
        "DELETE FROM log WHERE seq IN
             (SELECT seq FROM log WHERE seq BETWEEN 1 AND ?1 AND by <> 'root' LIMIT ?2)",
    )?
    .execute([int(upto), int(DROPPED)])
}

/// Returns the entries up to `seq` by which root has changed who the owners are.
pub fn owners(conn: &Connection, seq: u64) -> rusqlite::Result<Vec<Envelope>> {
    let mut query = conn.prepare_cached(
        "SELECT by, body, sig FROM log WHERE by = 'root' AND seq BETWEEN 1 AND ?1 ORDER BY seq",
    )?;
    let by_root = query.query_map([int(seq)], envelope)?;
    by_root.filter(|one| one.as_ref().map_or(true, changes_owners)).collect()
}

/// Has a log that is new here begin after `state`.
pub fn adopt(conn: &Connection, state: &State) -> rusqlite::Result<()> {
    let named = state.summed();
    save(conn, state, named)?;
    begin_after(conn, named.seq)
}
