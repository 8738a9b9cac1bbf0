//! The signed log by number, where it stands, and a snapshot of the state it folds to.

use std::num::TryFromIntError;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Params, Result, Row};
use shared::hash::Hash;
use shared::keys::Signature;
use shared::log::State;
use shared::signed::Envelope;

/// Layout of the snapshot; another one is passed over.
const FORMAT: u32 = 1;

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
    let sig = row.get_ref(column + 2)?.as_blob()?.try_into().map_err(damaged)?;
    Ok(Envelope { by, body, sig: Signature::from_bytes(sig) })
}

/// Stores the entry `seq` (0: the genesis), whose hash is `hash`.
///
/// # Errors
/// If there is one already, or the database fails.
pub fn insert(conn: &Connection, seq: u64, envelope: &Envelope, hash: Hash) -> Result<()> {
    let insert = "INSERT INTO log (seq, by, body, sig, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
    let Envelope { by, body, sig } = envelope;
    run(conn, insert, (number(seq)?, by.to_string(), body, sig.as_bytes(), hash.as_bytes()))
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

pub fn hash_at(conn: &Connection, seq: u64) -> Result<Option<Hash>> {
    // A number that others claim and no row can have.
    let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
    one(conn, "SELECT hash FROM log WHERE seq = ?1", [seq], |row| hash(row, 0))
}

pub fn entry(conn: &Connection, seq: u64) -> Result<Option<Envelope>> {
    let select = "SELECT by, body, sig FROM log WHERE seq = ?1";
    one(conn, select, [number(seq)?], |row| envelope(row, 0))
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
