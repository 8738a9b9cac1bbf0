//! The signed log by number, where it stands, and a snapshot of the state it folds to.

use std::num::TryFromIntError;

use anyhow::Context as _;
use host::store::checkpoint;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Params, Result, Row};
use shared::hash::Hash;
use shared::keys::Signature;
use shared::log::{State, start};
use shared::signed::Envelope;

use super::schema::unwiped;

/// Layout of the snapshot; another one is passed over.
const FORMAT: u32 = 2;

/// Wraps a value that is not what this program writes.
pub(super) fn damaged(
    fault: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, fault.into())
}

pub(super) fn number(value: impl TryInto<i64, Error = TryFromIntError>) -> Result<i64> {
    value.try_into().map_err(damaged)
}

pub(super) fn unsigned<T: TryFrom<i64, Error = TryFromIntError>>(
    row: &Row<'_>,
    column: usize,
) -> Result<T> {
    T::try_from(row.get(column)?).map_err(damaged)
}

pub(super) fn hash(row: &Row<'_>, column: usize) -> Result<Hash> {
    Hash::try_from(row.get_ref(column)?.as_blob()?).map_err(damaged)
}

fn signature(row: &Row<'_>, column: usize) -> Result<Signature> {
    let bytes = row.get_ref(column)?.as_blob()?.try_into().map_err(damaged)?;
    Ok(Signature::from_bytes(bytes))
}

/// Executes a statement that comes again and again: it is parsed once.
pub(super) fn run(conn: &Connection, statement: &str, row: impl Params) -> Result<()> {
    conn.prepare_cached(statement)?.execute(row).map(drop)
}

/// Reads the row, if there is one, that a statement as for [`run`] selects.
pub(super) fn one<T>(
    conn: &Connection,
    statement: &str,
    of: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    conn.prepare_cached(statement)?.query_row(of, read).optional()
}

/// Reads all rows that a statement selects which comes rarely.
pub(super) fn all<T, C: FromIterator<T>>(
    conn: &Connection,
    statement: &str,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<C> {
    conn.prepare(statement)?.query_map([], read)?.collect()
}

/// Reads `by, body, sig` from three columns on.
pub(super) fn envelope(row: &Row<'_>, column: usize) -> Result<Envelope> {
    let by = row.get_ref(column)?.as_str()?.parse().map_err(damaged)?;
    let body = row.get(column + 1)?;
    Ok(Envelope { by, body, sig: signature(row, column + 2)? })
}

/// Stores the entry `seq` (0: the genesis), whose hash is `hash`, with the server's signature of
/// the head that it made, if there is one.
///
/// # Errors
/// If there is one already, or the database fails.
pub fn insert(
    conn: &Connection,
    seq: u64,
    envelope: &Envelope,
    hash: Hash,
    server_sig: Option<&Signature>,
) -> Result<()> {
    let insert = "INSERT INTO log (seq, by, body, sig, hash, server_sig) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let Envelope { by, body, sig } = envelope;
    let by = by.to_string();
    let (hash, server_sig) = (hash.as_bytes(), server_sig.map(Signature::as_bytes));
    run(conn, insert, (number(seq)?, by, body, sig.as_bytes(), hash, server_sig))
}

/// Stores another signature of the head that the entry `seq` made, as after a change of the
/// server's key.
pub fn sign(conn: &Connection, seq: u64, server_sig: &Signature) -> Result<()> {
    let update = "UPDATE log SET server_sig = ?2 WHERE seq = ?1";
    run(conn, update, (number(seq)?, server_sig.as_bytes()))
}

/// Reads the newest entry whose head the server has signed: its number, its hash, the signature.
pub fn newest_signed(conn: &Connection) -> Result<Option<(u64, Hash, Signature)>> {
    let select = "SELECT seq, hash, server_sig FROM log WHERE server_sig IS NOT NULL \
                  ORDER BY seq DESC LIMIT 1";
    one(conn, select, [], |row| Ok((unsigned(row, 0)?, hash(row, 1)?, signature(row, 2)?)))
}

/// Reads the entry `seq`, its hash, and the server's signature of its head, if there is one.
pub fn signed_entry(
    conn: &Connection,
    seq: u64,
) -> Result<Option<(Envelope, Hash, Option<Signature>)>> {
    let select = "SELECT by, body, sig, hash, server_sig FROM log WHERE seq = ?1";
    one(conn, select, [number(seq)?], |row| {
        let is_signed = row.get_ref(4)? != ValueRef::Null;
        let server_sig = is_signed.then(|| signature(row, 4)).transpose()?;
        Ok((envelope(row, 0)?, hash(row, 3)?, server_sig))
    })
}

/// Stores where the log stands.
pub fn set_head(conn: &Connection, seq: u64, hash: Hash) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO head (one, seq, hash) VALUES (1, ?1, ?2)";
    run(conn, insert, (number(seq)?, hash.as_bytes()))
}

/// Reads where the log stands; `None` before the genesis.
pub fn head(conn: &Connection) -> Result<Option<(u64, Hash)>> {
    one(conn, "SELECT seq, hash FROM head", [], |row| Ok((unsigned(row, 0)?, hash(row, 1)?)))
}

/// Reads the hash of the entry `seq`: also where the log stands right behind a checkpoint, whose
/// last entry it does not hold.
pub fn hash_at(conn: &Connection, seq: u64) -> Result<Option<Hash>> {
    // A number that others claim and no row can have.
    let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
    let select = "SELECT hash FROM log WHERE seq = ?1 \
                  UNION ALL SELECT hash FROM head WHERE seq = ?1 LIMIT 1";
    one(conn, select, [seq], |row| hash(row, 0))
}

/// Drops all of it, and where it stands.
pub fn clear(conn: &Connection) -> Result<()> {
    run(conn, "DELETE FROM log", [])?;
    run(conn, "DELETE FROM head", [])
}

/// Drops some of the entries that a checkpoint stands for; returns how many.
pub fn drop_some(conn: &Connection) -> Result<usize> {
    unwiped(conn, || checkpoint::drop_some(conn))
}

/// Drops the entries after `seq`.
pub fn cut(conn: &Connection, seq: u64) -> Result<()> {
    run(conn, "DELETE FROM log WHERE seq > ?1", [number(seq)?])
}

pub fn entry(conn: &Connection, seq: u64) -> Result<Option<Envelope>> {
    let select = "SELECT by, body, sig FROM log WHERE seq = ?1";
    one(conn, select, [number(seq)?], |row| envelope(row, 0))
}

/// Returns the state that the log begins after: a checkpoint's, else the genesis'.
///
/// # Errors
/// If the genesis is missing, or what is stored does not verify.
pub fn beginning(conn: &Connection) -> anyhow::Result<State> {
    if let Some(state) = checkpoint::start(conn)? {
        return Ok(state);
    }
    let genesis = entry(conn, 0)?.context("the genesis is missing")?;
    Ok(start(&genesis)?)
}

/// Shows the entries after `after` to `each`, in order, until it fails.
pub fn replay(
    conn: &Connection,
    after: u64,
    mut each: impl FnMut(u64, &Envelope) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut query =
        conn.prepare("SELECT by, body, sig, seq FROM log WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = query.query([number(after)?])?;
    while let Some(row) = rows.next()? {
        each(unsigned(row, 3)?, &envelope(row, 0)?)?;
    }
    Ok(())
}

/// Shows the entries after `after` and up to `upto` that an owner has signed, in order, until it
/// fails.
pub fn by_owners(
    conn: &Connection,
    after: u64,
    upto: u64,
    mut each: impl FnMut(u64, &Envelope) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut query = conn.prepare(
        "SELECT by, body, sig, seq FROM log \
         WHERE seq > ?1 AND seq <= ?2 AND by NOT LIKE 'machine:%' ORDER BY seq",
    )?;
    let mut rows = query.query([number(after)?, number(upto)?])?;
    while let Some(row) = rows.next()? {
        each(unsigned(row, 3)?, &envelope(row, 0)?)?;
    }
    Ok(())
}

pub fn set_snapshot(conn: &Connection, state: &State) -> Result<()> {
    let bytes = postcard::to_stdvec(state).map_err(damaged)?;
    let insert = "INSERT OR REPLACE INTO snapshot (one, format, seq, state) VALUES (1, ?1, ?2, ?3)";
    run(conn, insert, (FORMAT, number(state.seq())?, bytes))
}

/// Reads the snapshot, if one of this layout is there and stands in the log.
pub fn snapshot(conn: &Connection) -> Result<Option<State>> {
    let mut query = conn.prepare("SELECT state FROM snapshot WHERE format = ?1")?;
    let bytes: Option<Vec<u8>> = query.query_row([FORMAT], |row| row.get(0)).optional()?;
    let Some(state) = bytes.and_then(|bytes| postcard::from_bytes::<State>(&bytes).ok()) else {
        return Ok(None);
    };
    let stands = hash_at(conn, state.seq())? == Some(state.head());
    Ok(stands.then_some(state))
}
